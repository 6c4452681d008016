#include "proto/dns/exchangers.h"

#include "engine/core/check.h"

void dns_exchangers_open(struct dns_exchangers *exchangers)
{
    exchangers->count = 0;
    exchangers->refused_count = 0;
    exchangers->has_null = false;
}

/* Where a record of this host belongs: its own place, a free one, or that of the worst. NULL: nowhere. */
static struct dns_mx *place_of(struct dns_exchangers *exchangers, const struct dns_mx *mx)
{
    struct dns_mx *worst = NULL;
    for (uint32_t i = 0; i < exchangers->count; i++) {
        struct dns_mx *known = &exchangers->mx[i];
        if (strcmp(known->exchange, mx->exchange) == 0) {
            return known;
        }
        if (worst == NULL || known->preference > worst->preference) {
            worst = known;
        }
    }
    if (exchangers->count < DNS_EXCHANGERS_MAX) {
        struct dns_mx *last = &exchangers->mx[exchangers->count++];
        last->preference = UINT16_MAX;
        return last;
    }
    exchangers->refused_count++;
    return mx->preference < worst->preference ? worst : NULL;
}

void dns_exchangers_add(struct dns_exchangers *exchangers, struct slice rdata)
{
    struct dns_mx mx;
    if (dns_mx_read(rdata, &mx) < 0) {
        exchangers->refused_count++;
        return;
    }
    if (mx.exchange[0] == '\0') {
        exchangers->has_null = true;
        return;
    }
    struct dns_mx *place = place_of(exchangers, &mx);
    if (place != NULL && mx.preference <= place->preference) {
        *place = mx;
    }
}

bool dns_exchangers_null(const struct dns_exchangers *exchangers)
{
    return exchangers->has_null && exchangers->count == 0;
}

static int mx_compare(const void *left, const void *right)
{
    const struct dns_mx *a = left, *b = right;
    if (a->preference != b->preference) {
        return a->preference < b->preference ? -1 : 1;
    }
    return strcmp(a->exchange, b->exchange);
}

void dns_exchangers_sort(struct dns_exchangers *exchangers)
{
    qsort(exchangers->mx, exchangers->count, sizeof(exchangers->mx[0]), mx_compare);
}

uint32_t dns_exchangers_cut(struct dns_exchangers *exchangers, uint16_t preference)
{
    while (exchangers->count > 0 &&
           exchangers->mx[exchangers->count - 1].preference >= preference) {
        exchangers->count--;
    }
    return exchangers->count;
}

/* splitmix64: enough to spread load, and the same everywhere. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t mixed = (*state += 0x9e3779b97f4a7c15ull);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
    return mixed ^ (mixed >> 31);
}

void dns_exchangers_shuffle(const uint16_t *preferences, uint32_t count, uint64_t random,
                            uint8_t *order)
{
    check(count <= DNS_EXCHANGERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = (uint8_t)i;
    }
    for (uint32_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && preferences[end] == preferences[first];) {
            end++;
        }
        for (uint32_t i = end - 1; i > first; i--) { /* Fisher and Yates */
            uint32_t with = first + (uint32_t)(random_next(&random) % (i - first + 1));
            uint8_t taken = order[i];
            order[i] = order[with];
            order[with] = taken;
        }
    }
}
