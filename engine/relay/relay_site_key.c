#include "engine/relay/relay_site_key.h"
#include "engine/conf/conf.h"
#include "engine/resolve/destination.h"

/* The words of what is hashed, as siphash takes them. */
struct key_words {
    uint64_t all[64];
    size_t count;
};

/* Folds what was gathered into one word when there is no room for more. */
static void key_add(const struct siphash_key *secret, struct key_words *words, struct slice bytes)
{
    uint64_t size = bytes.size;
    for (;;) {
        if (words->count == sizeof(words->all) / sizeof(words->all[0])) {
            words->all[0] = siphash(secret, words->all, words->count);
            words->count = 1;
        }
        words->all[words->count] = size;
        if (bytes.size == 0) {
            words->count++; /* the length comes last: no two lists of bytes give the same words */
            return;
        }
        words->all[words->count] = 0;
        struct slice word = slice_first(bytes, sizeof(uint64_t));
        memcpy(&words->all[words->count++], word.bytes, word.size);
        bytes = slice_from(bytes, word.size);
    }
}

static void key_add_endpoint(const struct siphash_key *secret, struct key_words *words,
                             const struct endpoint *endpoint)
{
    char text[ENDPOINT_TEXT_MAX];
    size_t size = endpoint->family == ENDPOINT_NONE ? 0 : endpoint_format(endpoint, text);
    key_add(secret, words, slice_of(text, size));
}

uint64_t relay_site_key_route(const struct siphash_key *secret, const struct conf_route *route)
{
    struct key_words words = {.all = {route->via}, .count = 1};
    key_add(secret, &words, slice_text(route->match));
    key_add(secret, &words, slice_text(route->name != NULL ? route->name : ""));
    key_add(secret, &words, slice_text(route->next_hop != NULL ? route->next_hop : ""));
    key_add(secret, &words, slice_text(route->reply != NULL ? route->reply_status : ""));
    key_add(secret, &words, slice_text(route->reply != NULL ? route->reply_text : ""));
    key_add(secret, &words, slice_text(route->hostname != NULL ? route->hostname : ""));
    key_add_endpoint(secret, &words, &route->source);
    const uint8_t mx[] = {(uint8_t)(route->port >> 8),
                          (uint8_t)route->port,
                          route->family,
                          route->address_literals,
                          route->host_only,
                          route->lmtp,
                          route->by_map};
    key_add(secret, &words, slice_of(mx, sizeof(mx)));
    for (uint32_t i = 0; i < route->to_count; i++) {
        key_add_endpoint(secret, &words, &route->to[i]);
    }
    return siphash(secret, words.all, words.count);
}

uint64_t relay_site_key_policy(const struct siphash_key *secret,
                               const struct destination *destination)
{
    uint64_t words[DNS_EXCHANGERS_MAX + 1] = {destination->mta_sts.mode};
    bool any = destination->mta_sts.mode != DNS_MTA_STS_NONE;
    for (uint32_t i = 0; i < destination->host_count; i++) {
        const struct destination_host *host = &destination->hosts[i];
        words[1 + i] = host->tlsa | (uint64_t)host->excluded << 8;
        any = any || words[1 + i] != 0;
    }
    return any ? siphash(secret, words, 1 + destination->host_count) : 0;
}
