#include "engine/relay/relay_hops.h"
#include "engine/relay/tls_policy.h"
#include <stdlib.h>

#define BAD_HOSTS_FIRST 4u
#define BAD_HOSTS_MAX 256u /* addresses of one site; of more the longest known is forgotten */
#define BAD_FIRST_NS (60ull * 1000000000ull)
#define BAD_DOUBLINGS_MAX 5u /* half an hour */

/* An address that could not be used. */
struct relay_bad_host {
    uint8_t address[16];
    uint8_t family;
    uint8_t failures;
    uint64_t until_ns; /* 0: no longer */
};

bool relay_host_usable(const struct conf_route *route, const struct destination *destination,
                       uint32_t index, const char **why)
{
    const struct destination_host *host = &destination->hosts[index];
    struct tls_policy policy;
    *why = NULL;
    if (host->address_count > 0 || host->excluded || host->tlsa == DESTINATION_TLSA_FAILED) {
        const struct endpoint any = {.family = ENDPOINT_IPV4};
        tls_policy_for(&policy, route, &any, destination, index);
        *why = policy.why;
    }
    return *why == NULL && host->address_count > 0;
}

uint32_t relay_hop_count(const struct conf_route *route, const struct destination *destination)
{
    uint32_t count = 0;
    const char *why;
    for (uint32_t i = 0; i < destination->host_count; i++) {
        count += relay_host_usable(route, destination, i, &why)
                     ? destination->hosts[i].address_count
                     : 0;
    }
    return count;
}

static struct relay_bad_host *bad_find(const struct relay_site *site,
                                       const struct endpoint *address)
{
    for (unsigned i = 0; i < site->bad_host_count; i++) {
        struct relay_bad_host *bad = &site->bad_hosts[i];
        if (bad->failures > 0 && bad->family == address->family &&
            memcmp(bad->address, address->address, sizeof(bad->address)) == 0) {
            return bad;
        }
    }
    return NULL;
}

static uint64_t bad_until(const struct relay_site *site, const struct endpoint *address)
{
    const struct relay_bad_host *bad = bad_find(site, address);
    return bad == NULL || bad->until_ns <= site->relay->shard->now_ns ? 0 : bad->until_ns;
}

/* The address of a host to try first, and until when it is bad; 0: it is not. */
static uint32_t best_address(const struct relay_site *site, const struct destination_host *host,
                             uint64_t *until_ns)
{
    uint32_t best = 0;
    *until_ns = UINT64_MAX;
    for (uint32_t i = 0; i < host->address_count; i++) {
        uint64_t until = bad_until(site, &host->addresses[i]);
        if (until < *until_ns) { /* of equal ones the first */
            *until_ns = until;
            best = i;
        }
    }
    return best;
}

/* Until when it is bad; 0: it is not; UINT64_MAX: it cannot be used at all. */
static uint64_t host_bad_until(const struct relay_site *site, uint32_t index)
{
    uint64_t until_ns = UINT64_MAX;
    const char *why;
    if (relay_host_usable(site->route, site->destination, index, &why)) {
        best_address(site, &site->destination->hosts[index], &until_ns);
    }
    return until_ns;
}

/* Of the best hosts that are not bad the one whose turn it is; or the one that is bad no longer soonest. */
static uint32_t best_host(struct relay_site *site)
{
    const struct destination *destination = site->destination;
    uint32_t good_count = 0, best = 0;
    uint8_t good[DNS_EXCHANGERS_MAX];
    uint64_t soonest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < destination->host_count; i++) {
        const struct destination_host *host = &destination->hosts[i];
        if (good_count > 0 && host->preference != destination->hosts[good[0]].preference) {
            break;
        }
        uint64_t until_ns = host_bad_until(site, i);
        if (until_ns == 0) {
            good[good_count++] = (uint8_t)i;
        }
        if (until_ns < soonest_ns) {
            soonest_ns = until_ns;
            best = i;
        }
    }
    return good_count > 0 ? good[site->next_host++ % good_count] : best;
}

int relay_hop_choose(struct relay_site *site, struct relay_hop *hop)
{
    const struct conf_route *route = site->route;
    if (site->destination == NULL) {
        *hop = (struct relay_hop){.to = route->to[site->next_host % route->to_count]};
        return 0;
    }
    uint64_t until_ns;
    uint32_t index = best_host(site);
    const struct destination_host *host = &site->destination->hosts[index];
    if (host->address_count == 0) {
        return -EHOSTUNREACH;
    }
    *hop = (struct relay_hop){.to = host->addresses[best_address(site, host, &until_ns)],
                              .destination = destination_take(site->destination),
                              .host = index};
    return 0;
}

/* Twice as many. 0 or -ENOMEM. */
static int bad_grow(struct relay_site *site)
{
    uint32_t count = site->bad_host_count == 0 ? BAD_HOSTS_FIRST : 2 * site->bad_host_count;
    struct relay_bad_host *grown = realloc(site->bad_hosts, count * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    memset(grown + site->bad_host_count, 0, (count - site->bad_host_count) * sizeof(*grown));
    site->bad_hosts = grown;
    site->bad_host_count = count;
    return 0;
}

/* Where the next one is noted: a place that is free, or that of the one that is forgotten. All that were tried
 * must be known, or the worse hosts' turn would never come. NULL: memory is short. */
static struct relay_bad_host *bad_place(struct relay_site *site)
{
    struct relay_bad_host *place = NULL;
    for (unsigned i = 0; i < site->bad_host_count; i++) {
        if (place == NULL || site->bad_hosts[i].until_ns < place->until_ns) {
            place = &site->bad_hosts[i];
        }
    }
    uint32_t before = site->bad_host_count;
    bool full = place == NULL || place->until_ns > 0;
    if (full && before < BAD_HOSTS_MAX && bad_grow(site) == 0) {
        place = &site->bad_hosts[before];
    }
    return place;
}

static void address_failed(struct relay_site *site, const struct endpoint *address)
{
    uint64_t now_ns = site->relay->shard->now_ns;
    struct relay_bad_host *bad = bad_find(site, address);
    if (bad == NULL) {
        bad = bad_place(site);
        if (bad == NULL) {
            return; /* it is tried again at once, that is all */
        }
        *bad = (struct relay_bad_host){.family = address->family};
        memcpy(bad->address, address->address, sizeof(bad->address));
    } else if (bad->until_ns > now_ns) {
        return; /* others of its round have failed before */
    }
    uint32_t doublings = bad->failures < BAD_DOUBLINGS_MAX ? bad->failures : BAD_DOUBLINGS_MAX;
    bad->failures += bad->failures < UINT8_MAX;
    bad->until_ns = now_ns + (BAD_FIRST_NS << doublings);
}

void relay_hop_failed(struct relay_site *site, const struct relay_hop *hop)
{
    const struct conf_route *route = site->route;
    if (hop->destination != NULL) {
        address_failed(site, &hop->to);
    } else if (route != NULL &&
               endpoint_equal(&route->to[site->next_host % route->to_count], &hop->to)) {
        site->next_host++; /* once, however many connections failed there together */
    }
}

void relay_hop_worked(struct relay_site *site, const struct relay_hop *hop)
{
    struct relay_bad_host *bad = hop->destination != NULL ? bad_find(site, &hop->to) : NULL;
    if (bad != NULL) {
        *bad = (struct relay_bad_host){0};
    }
}

void relay_hop_release(struct relay_hop *hop)
{
    if (hop->destination != NULL) {
        destination_drop(hop->destination);
        hop->destination = NULL;
    }
}
