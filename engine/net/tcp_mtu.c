#include "engine/net/tcp_mtu.h"
#include <stddef.h>

#define SEARCH_STEP 16u /* what is gained by less is not worth a lost packet */
#define PROBES_MAX 3u   /* RFC 8899 §5.1.2 */

static struct tcp_mtu_entry *entry_find(const struct tcp_mtu_cache *cache,
                                        const struct ip_address *to, uint32_t hash)
{
    const struct tcp_mtu_entry *set = cache->entries[hash % TCP_MTU_SETS];
    for (unsigned i = 0; i < TCP_MTU_WAYS; i++) {
        if (set[i].until_ns != 0 && ip_address_equal(&set[i].to, to)) {
            return (struct tcp_mtu_entry *)(uintptr_t)&set[i];
        }
    }
    return NULL;
}

uint16_t tcp_mtu_cache_find(const struct tcp_mtu_cache *cache, const struct ip_address *to,
                            uint32_t hash, uint64_t now_ns)
{
    const struct tcp_mtu_entry *entry = entry_find(cache, to, hash);
    return entry != NULL && now_ns < entry->until_ns ? entry->mtu : 0;
}

void tcp_mtu_cache_keep(struct tcp_mtu_cache *cache, const struct ip_address *to, uint32_t hash,
                        uint16_t mtu, uint64_t now_ns)
{
    struct tcp_mtu_entry *set = cache->entries[hash % TCP_MTU_SETS];
    struct tcp_mtu_entry *entry = entry_find(cache, to, hash);
    for (unsigned i = 0; entry == NULL && i < TCP_MTU_WAYS; i++) {
        entry = set[i].until_ns == 0 ? &set[i] : NULL;
    }
    if (entry == NULL) {
        entry = &set[0];
        for (unsigned i = 1; i < TCP_MTU_WAYS; i++) {
            entry = set[i].until_ns < entry->until_ns ? &set[i] : entry;
        }
    }
    *entry = (struct tcp_mtu_entry){.to = *to, .mtu = mtu, .until_ns = now_ns + TCP_MTU_AGE_NS};
}

static void search_end(struct tcp_mtu_search *search, uint64_t now_ns)
{
    search->high = search->low;
    search->largest_next = false;
    search->lost = 0;
    search->next_ns = now_ns + TCP_MTU_AGE_NS;
}

static void search_look(struct tcp_mtu_search *search, uint64_t now_ns)
{
    /* The size that a failed one was the upper bound of is tried too: links have round numbers. */
    if (search->high < search->low + SEARCH_STEP) {
        search_end(search, now_ns);
    }
}

void tcp_mtu_search_open(struct tcp_mtu_search *search, uint16_t size, uint16_t max,
                         uint64_t now_ns)
{
    *search = (struct tcp_mtu_search){
        .low = size, .high = size, .max = max, .next_ns = now_ns + TCP_MTU_AGE_NS};
}

uint16_t tcp_mtu_search_next(struct tcp_mtu_search *search, uint64_t now_ns)
{
    if (search->probe != 0 || search->low >= search->max || now_ns < search->next_ns) {
        return 0;
    }
    if (search->high == search->low) { /* so long ago that the path may have become wider */
        search->high = search->max;
        search->largest_next = true;
    }
    return search->largest_next ? search->high : (uint16_t)((search->low + search->high + 1u) / 2u);
}

void tcp_mtu_search_sent(struct tcp_mtu_search *search, uint32_t seq, uint16_t size)
{
    search->probe = size;
    search->probe_seq = seq;
}

void tcp_mtu_search_arrived(struct tcp_mtu_search *search, uint64_t now_ns)
{
    search->low = search->probe;
    search->probe = 0;
    search->lost = 0;
    search->largest_next = false;
    search->high = search->high > search->low ? search->high : search->low;
    search_look(search, now_ns);
}

void tcp_mtu_search_lost(struct tcp_mtu_search *search, uint64_t now_ns)
{
    if (++search->lost >= PROBES_MAX) {
        search->high = (uint16_t)(search->probe - 1);
        search->lost = 0;
        search->largest_next = false;
        search_look(search, now_ns);
    }
    search->probe = 0;
}

void tcp_mtu_search_told(struct tcp_mtu_search *search, uint16_t size, uint64_t now_ns)
{
    search->probe = 0;
    if (size < search->low) {
        search->low = size;
        search_end(search, now_ns);
    } else if (size < search->high) {
        search->high = size;
        search->largest_next = true;
        search->lost = 0;
        search_look(search, now_ns);
    }
}

void tcp_mtu_search_black_hole(struct tcp_mtu_search *search, uint16_t size, uint64_t now_ns)
{
    search->high = search->low; /* perhaps it was no black hole: tried first */
    search->low = size;
    search->largest_next = true;
    search->lost = 0;
    search->probe = 0;
    search->next_ns = now_ns;
}

uint16_t tcp_mtu_plateau(uint16_t below)
{
    static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006, 576};
    for (unsigned i = 0; i < sizeof(plateaus) / sizeof(plateaus[0]); i++) {
        if (plateaus[i] < below) {
            return plateaus[i];
        }
    }
    return plateaus[sizeof(plateaus) / sizeof(plateaus[0]) - 1];
}
