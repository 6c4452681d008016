#include "engine/disk/disk_tear.h"
#include "engine/core/check.h"
#include "engine/disk/disk.h"
#include <string.h>

#define PAGE_SECTORS (DISK_BLOCK_BYTES / DISK_TEAR_SECTOR_BYTES)
#define SPOILED_BITS_MAX 8u
#define SPOILED_EVERY                                                                              \
    (DISK_TEAR_SECTOR_BYTES / SPOILED_BITS_MAX) /* bytes: no bit is turned twice */

enum tear { TEAR_SECTORS, TEAR_END_CUT, TEAR_ONE_PAGE, TEARS };

struct tearing {
    uint64_t *state;
    uint8_t *to;
    const uint8_t *from;
    bool spoils; /* what does not land, half of it; else all of it is stale */
};

uint64_t disk_tear_random(uint64_t *state)
{
    /* xorshift64*: the test's seed decides, nothing else */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)((disk_tear_random(state) >> 32) % limit);
}

static void sector_lands(const struct tearing *tearing, uint64_t sector)
{
    uint64_t at = sector * DISK_TEAR_SECTOR_BYTES;
    memcpy(tearing->to + at, tearing->from + at, DISK_TEAR_SECTOR_BYTES);
}

static void sector_misses(const struct tearing *tearing, uint64_t sector)
{
    if (!tearing->spoils || below(tearing->state, 2) == 0) {
        return;
    }
    sector_lands(tearing, sector);
    uint8_t *bytes = tearing->to + sector * DISK_TEAR_SECTOR_BYTES;
    uint32_t bits = below(tearing->state, SPOILED_BITS_MAX) + 1;
    for (uint32_t i = 0; i < bits; i++) {
        uint32_t at = i * SPOILED_EVERY + below(tearing->state, SPOILED_EVERY);
        bytes[at] ^= (uint8_t)(1u << below(tearing->state, 8));
    }
}

/* Of the sectors in [from, to) one that was chosen misses, and others by chance. */
static void some_miss(const struct tearing *tearing, uint64_t from, uint64_t to)
{
    uint64_t chosen = from + below(tearing->state, (uint32_t)(to - from));
    for (uint64_t i = from; i < to; i++) {
        if (i == chosen || below(tearing->state, 2) == 0) {
            sector_misses(tearing, i);
        } else {
            sector_lands(tearing, i);
        }
    }
}

static void all_land(const struct tearing *tearing, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        sector_lands(tearing, i);
    }
}

void disk_tear(uint64_t *state, uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    check(bytes > 0 && bytes % DISK_BLOCK_BYTES == 0);
    uint32_t sectors = (uint32_t)(bytes / DISK_TEAR_SECTOR_BYTES);
    enum tear tear = (enum tear)below(state, TEARS);
    const struct tearing tearing = {
        .state = state, .to = to, .from = from, .spoils = below(state, 2) == 0};
    switch (tear) {
    case TEAR_SECTORS:
    case TEARS:
        some_miss(&tearing, 0, sectors);
        break;
    case TEAR_END_CUT: {
        uint32_t cut = below(state, sectors);
        all_land(&tearing, 0, cut);
        sector_misses(&tearing, cut); /* it was being written; nothing behind it was begun */
        break;
    }
    case TEAR_ONE_PAGE: {
        uint32_t page = below(state, sectors / PAGE_SECTORS) * PAGE_SECTORS;
        all_land(&tearing, 0, page);
        some_miss(&tearing, page, page + PAGE_SECTORS);
        all_land(&tearing, page + PAGE_SECTORS, sectors);
        break;
    }
    }
}
