#include "engine/resolve/destination.h"

#include "engine/core/list.h"
#include <openssl/sha.h>

/* ---- A copy in one block ---- */

/* Hands out pieces of the block, or, when there is none yet, only counts them. */
struct layout {
    uint8_t *block; /* NULL: counting */
    size_t used;
};

static void *lay(struct layout *layout, const void *bytes, size_t size, size_t alignment)
{
    layout->used = (layout->used + alignment - 1) / alignment * alignment;
    uint8_t *at = layout->block != NULL ? layout->block + layout->used : NULL;
    layout->used += size;
    if (at != NULL && size > 0) {
        memcpy(at, bytes, size);
    }
    return at;
}

static char *lay_text(struct layout *layout, const char *text)
{
    return text != NULL ? lay(layout, text, strlen(text) + 1, 1) : NULL;
}

static void lay_host(struct layout *layout, const struct destination_host *from,
                     struct destination_host *host)
{
    struct dns_tlsa *records = lay(layout, from->tlsa_records,
                                   from->tlsa_count * sizeof(struct dns_tlsa), _Alignof(size_t));
    const struct endpoint *addresses =
        lay(layout, from->addresses, from->address_count * sizeof(struct endpoint),
            _Alignof(struct endpoint));
    const char *name = lay_text(layout, from->name);
    const char *tlsa_base = lay_text(layout, from->tlsa_base);
    for (unsigned i = 0; i < from->tlsa_count; i++) {
        const struct slice data = from->tlsa_records[i].data;
        const uint8_t *copy = lay(layout, data.bytes, data.size, 1);
        if (records != NULL) {
            records[i].data.bytes = copy;
        }
    }
    if (host != NULL) {
        host->tlsa_records = records;
        host->addresses = addresses;
        host->name = name;
        host->tlsa_base = tlsa_base;
    }
}

static struct destination *lay_all(struct layout *layout, const struct destination *draft)
{
    struct destination *copy = lay(layout, draft, sizeof(*draft), _Alignof(struct destination));
    struct destination_host *hosts = lay(layout, draft->hosts, draft->host_count * sizeof(*hosts),
                                         _Alignof(struct destination_host));
    const char **patterns = lay(layout, draft->mta_sts.patterns,
                                draft->mta_sts.pattern_count * sizeof(*patterns), _Alignof(char *));
    const char *domain = lay_text(layout, draft->domain);
    const char *text = lay_text(layout, draft->text);
    for (uint32_t i = 0; i < draft->host_count; i++) {
        lay_host(layout, &draft->hosts[i], hosts != NULL ? &hosts[i] : NULL);
    }
    for (uint32_t i = 0; i < draft->mta_sts.pattern_count; i++) {
        const char *pattern = lay_text(layout, draft->mta_sts.patterns[i]);
        if (patterns != NULL) {
            patterns[i] = pattern;
        }
    }
    if (copy != NULL) {
        copy->hosts = hosts;
        copy->mta_sts.patterns = patterns;
        copy->domain = domain;
        copy->text = text;
    }
    return copy;
}

static void destination_release(struct ref *ref)
{
    free(list_entry(ref, struct destination, ref));
}

/* ---- Sites ---- */

/* Hosts are sorted by preference, then name; the preferences count as ranks only, since 5 and 10 lead where 10 and
 * 20 lead. A digest, because whoever could make a key that another site has would get its mail. */
static uint64_t site_key_of(const struct destination *destination)
{
    uint8_t words[2 + DNS_EXCHANGERS_MAX * (DNS_NAME_BYTES + 1)];
    uint8_t digest[SHA256_DIGEST_LENGTH];
    uint64_t key;
    size_t used = 2;
    check(destination->host_count <= DNS_EXCHANGERS_MAX);
    words[0] = (uint8_t)(destination->port >> 8);
    words[1] = (uint8_t)destination->port;
    for (uint32_t i = 0; i < destination->host_count; i++) {
        const struct destination_host *host = &destination->hosts[i];
        size_t name_bytes = strlen(host->name) + 1;
        words[used++] = i > 0 && host->preference != host[-1].preference;
        memcpy(words + used, host->name, name_bytes);
        used += name_bytes;
    }
    SHA256(words, used, digest);
    memcpy(&key, digest, sizeof(key));
    return key != 0 ? key : 1;
}

bool destination_same_site(const struct destination *a, const struct destination *b)
{
    if (a->site_key != b->site_key || a->port != b->port || a->host_count != b->host_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->host_count; i++) {
        const struct destination_host *one = &a->hosts[i], *other = &b->hosts[i];
        if (strcmp(one->name, other->name) != 0 ||
            (i > 0 && (one->preference == one[-1].preference) !=
                          (other->preference == other[-1].preference))) {
            return false;
        }
    }
    return true;
}

void destination_order(const struct destination *destination, uint64_t random,
                       uint8_t order[DNS_EXCHANGERS_MAX])
{
    uint16_t preferences[DNS_EXCHANGERS_MAX];
    for (uint32_t i = 0; i < destination->host_count; i++) {
        preferences[i] = destination->hosts[i].preference;
    }
    dns_exchangers_shuffle(preferences, destination->host_count, random, order);
}

/* ---- Life ---- */

struct destination *destination_new(const struct destination *draft)
{
    struct layout layout = {.block = NULL};
    lay_all(&layout, draft);
    size_t bytes = layout.used;
    layout = (struct layout){.block = malloc(bytes)};
    if (layout.block == NULL) {
        return NULL;
    }
    struct destination *destination = lay_all(&layout, draft);
    check(layout.used == bytes);
    ref_init(&destination->ref, destination_release);
    destination->bytes = bytes;
    destination->site_key = draft->status == DESTINATION_OK ? site_key_of(destination) : 0;
    return destination;
}

const char *destination_status_name(enum destination_status status)
{
    switch (status) {
    case DESTINATION_OK:
        return "ok";
    case DESTINATION_BAD_NAME:
        return "bad-name";
    case DESTINATION_NO_DOMAIN:
        return "no-domain";
    case DESTINATION_NULL_MX:
        return "null-mx";
    case DESTINATION_NO_ADDRESS:
        return "no-address";
    case DESTINATION_LOOP:
        return "loop";
    case DESTINATION_TEMPORARY:
        return "temporary";
    case DESTINATION_BOGUS:
        return "bogus";
    }
    return "unknown";
}
