#include "engine/relay/relay_literal.h"
#include <stdio.h>
#include <stdlib.h>

#define LITERAL_NAME_MAX 64
#define LITERAL_LIFE_NS (3600ull * 1000000000ull) /* nothing of it can change */

struct literal {
    struct destination destination; /* first */
    struct destination_host host;
    struct endpoint address;
    char name[LITERAL_NAME_MAX];
};

static void literal_free(struct ref *ref)
{
    struct destination *destination = list_entry(ref, struct destination, ref);
    free(list_entry(destination, struct literal, destination));
}

/* What is between the brackets, for endpoint_parse. */
static int address_read(struct slice name, uint16_t port, struct endpoint *address)
{
    static const char tag[] = "IPv6:";
    char text[ENDPOINT_TEXT_MAX];
    if (name.size < 3 || name.size >= LITERAL_NAME_MAX || name.bytes[name.size - 1] != ']') {
        return -EINVAL;
    }
    struct slice inside = slice_of(name.bytes + 1, name.size - 2);
    bool tagged = slice_equal_nocase(slice_first(inside, sizeof(tag) - 1), slice_text(tag));
    inside = tagged ? slice_from(inside, sizeof(tag) - 1) : inside;
    snprintf(text, sizeof(text), tagged ? "[%.*s]:%u" : "%.*s:%u", (int)inside.size,
             (const char *)inside.bytes, port);
    int status = endpoint_parse(address, slice_text(text));
    if (status == 0 && (tagged ? inside.bytes[0] == '[' : address->family != ENDPOINT_IPV4)) {
        status = -EINVAL;
    }
    return status;
}

/* Nobody's address but this host's own, or no host's at all: mail would come back for ever. */
static bool leads_back(const struct relay *relay, const struct endpoint *address)
{
    static const uint8_t nobody[16] = {0};
    const struct relay_conf *conf = relay->conf;
    if (endpoint_is_loopback(address) || memcmp(address->address, nobody, sizeof(nobody)) == 0) {
        return true;
    }
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        for (uint32_t j = 0; j < conf->listen[i].addresses_count; j++) {
            if (endpoint_same_address(&conf->listen[i].addresses[j], address)) {
                return true;
            }
        }
    }
    return false;
}

static bool family_fits(const struct conf_route *route, const struct endpoint *address)
{
    return route->family !=
           (address->family == ENDPOINT_IPV4 ? CONF_FAMILY_IPV6 : CONF_FAMILY_IPV4);
}

static void refuse(struct destination *destination, enum destination_status status,
                   uint16_t subject, uint16_t detail, const char *text)
{
    destination->status = (uint8_t)status;
    destination->reply_code = 550;
    destination->enhanced_class = 5;
    destination->enhanced_subject = subject;
    destination->enhanced_detail = detail;
    destination->text = text;
}

int relay_literal(struct relay *relay, const struct conf_route *route, struct slice name,
                  struct destination **made)
{
    struct literal *literal = calloc(1, sizeof(*literal));
    if (literal == NULL) {
        return -ENOMEM;
    }
    struct destination *destination = &literal->destination;
    ref_init(&destination->ref, literal_free);
    snprintf(literal->name, sizeof(literal->name), "%.*s", (int)name.size,
             (const char *)name.bytes);
    destination->domain = literal->name;
    destination->expires_ns = relay->shard->now_ns + LITERAL_LIFE_NS;
    *made = destination;
    if (!route->address_literals) {
        refuse(destination, DESTINATION_BAD_NAME, 1, 2, "Address literals are not accepted here");
    } else if (address_read(name, (uint16_t)route->port, &literal->address) < 0) {
        refuse(destination, DESTINATION_BAD_NAME, 1, 2, "Not an address literal of RFC 5321");
    } else if (leads_back(relay, &literal->address)) {
        refuse(destination, DESTINATION_LOOP, 4, 6, "Mail for this address loops back to myself");
    } else if (!family_fits(route, &literal->address)) {
        refuse(destination, DESTINATION_NO_ADDRESS, 4, 4, "No address of a family that is in use");
    } else {
        uint64_t words[3] = {literal->address.port};
        memcpy(&words[1], literal->address.address, sizeof(literal->address.address));
        destination->site_key = siphash(&relay->domains.secret, words, 3) | 1;
        literal->host = (struct destination_host){.name = literal->name,
                                                  .tlsa_base = literal->name,
                                                  .address_count = 1,
                                                  .addresses = &literal->address};
        destination->port = literal->address.port;
        destination->host_count = 1;
        destination->hosts = &literal->host;
    }
    return 0;
}
