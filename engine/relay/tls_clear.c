#include "engine/relay/tls_clear.h"
#include <stdlib.h>

struct tls_clear *tls_clear_open(const struct siphash_key *secret)
{
    struct tls_clear *clear = calloc(1, sizeof(*clear));
    if (clear != NULL) {
        clear->secret = *secret;
    }
    return clear;
}

void tls_clear_close(struct tls_clear *clear)
{
    free(clear);
}

static uint64_t hash_of(const struct tls_clear *clear, const struct endpoint *to)
{
    uint64_t words[4 + (ENDPOINT_PATH_MAX + 1) / 8] = {(uint64_t)to->family << 48 |
                                                       (uint64_t)to->port << 32 | to->scope};
    memcpy(&words[1], to->address, sizeof(to->address));
    if (to->family == ENDPOINT_UNIX) {
        memcpy(&words[3], to->path, strlen(to->path));
    }
    return siphash(&clear->secret, words, sizeof(words) / sizeof(words[0]));
}

void tls_clear_add(struct tls_clear *clear, const struct endpoint *to, uint64_t now_ns)
{
    uint64_t hash = hash_of(clear, to);
    struct tls_clear_entry *set = clear->entries[hash % TLS_CLEAR_SETS];
    struct tls_clear_entry *place = &set[0];
    for (unsigned i = 0; i < TLS_CLEAR_WAYS; i++) {
        if (set[i].until_ns > 0 && set[i].hash == hash) {
            place = &set[i];
            break;
        }
        place = set[i].until_ns < place->until_ns ? &set[i] : place;
    }
    *place = (struct tls_clear_entry){.hash = hash, .until_ns = now_ns + TLS_CLEAR_NS};
}

bool tls_clear_has(const struct tls_clear *clear, const struct endpoint *to, uint64_t now_ns)
{
    uint64_t hash = hash_of(clear, to);
    const struct tls_clear_entry *set = clear->entries[hash % TLS_CLEAR_SETS];
    for (unsigned i = 0; i < TLS_CLEAR_WAYS; i++) {
        if (set[i].hash == hash && set[i].until_ns > now_ns) {
            return true;
        }
    }
    return false;
}
