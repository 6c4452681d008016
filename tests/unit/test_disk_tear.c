#include "engine/disk/disk.h"
#include "engine/disk/disk_tear.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BLOCKS 4u
#define BYTES (BLOCKS * DISK_BLOCK_BYTES)
#define SECTORS (BYTES / DISK_TEAR_SECTOR_BYTES)
#define PAGE_SECTORS (DISK_BLOCK_BYTES / DISK_TEAR_SECTOR_BYTES)
#define SEEDS 600u

enum sector { LANDED, STALE, SPOILED };

struct picture {
    uint8_t was[BYTES], from[BYTES], to[BYTES];
    enum sector sectors[SECTORS];
    unsigned missing; /* sectors */
};

static void picture_take(struct picture *picture, uint64_t seed)
{
    for (unsigned i = 0; i < BYTES; i++) {
        picture->was[i] = (uint8_t)(i * 7 + 1);
        picture->from[i] = (uint8_t)(i * 13 + (i >> 8) + 128);
    }
    memcpy(picture->to, picture->was, BYTES);
    picture->missing = 0;
    disk_tear(&seed, picture->to, picture->from, BYTES);
    for (unsigned i = 0; i < SECTORS; i++) {
        size_t at = (size_t)i * DISK_TEAR_SECTOR_BYTES;
        bool landed = memcmp(picture->to + at, picture->from + at, DISK_TEAR_SECTOR_BYTES) == 0;
        bool stale = memcmp(picture->to + at, picture->was + at, DISK_TEAR_SECTOR_BYTES) == 0;
        picture->sectors[i] = landed ? LANDED : stale ? STALE : SPOILED;
        picture->missing += !landed;
    }
}

static unsigned first_missing(const struct picture *picture)
{
    unsigned first = 0;
    while (first < SECTORS && picture->sectors[first] == LANDED) {
        first++;
    }
    return first;
}

static unsigned last_missing(const struct picture *picture)
{
    unsigned last = SECTORS - 1;
    while (last > 0 && picture->sectors[last] == LANDED) {
        last--;
    }
    return last;
}

static void something_is_always_missing_and_often_something_lands(void **state)
{
    (void)state;
    struct picture picture;
    unsigned in_part = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        picture_take(&picture, seed * 0x9e3779b97f4a7c15ull);
        assert_true(picture.missing > 0);
        in_part += picture.missing < SECTORS;
    }
    assert_true(in_part > SEEDS / 2);
}

/* That each of the three pictures is drawn: by seeds that no other of them explains. */
static void writes_are_torn_in_three_ways(void **state)
{
    (void)state;
    struct picture picture;
    unsigned ends = 0, pages = 0, any = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        picture_take(&picture, seed * 0x9e3779b97f4a7c15ull);
        unsigned first = first_missing(&picture), last = last_missing(&picture);
        bool cut = last == SECTORS - 1 && picture.missing == SECTORS - first &&
                   picture.missing > PAGE_SECTORS;
        bool in_page = first / PAGE_SECTORS == last / PAGE_SECTORS && last < SECTORS - PAGE_SECTORS;
        bool islands =
            first / PAGE_SECTORS != last / PAGE_SECTORS && picture.missing < last - first + 1;
        ends += cut;
        pages += in_page;
        any += islands;
    }
    assert_true(ends > SEEDS / 10);
    assert_true(pages > SEEDS / 10);
    assert_true(any > SEEDS / 10);
}

/* Nothing was begun behind the cut, and nothing behind a spoiled sector of it has landed. */
static void behind_a_cut_end_all_is_as_it_was(void **state)
{
    (void)state;
    struct picture picture;
    unsigned cuts = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        picture_take(&picture, seed * 0x9e3779b97f4a7c15ull);
        unsigned first = first_missing(&picture);
        unsigned stale = 0;
        for (unsigned i = first + 1; i < SECTORS; i++) {
            stale += picture.sectors[i] == STALE;
        }
        bool cut = stale == SECTORS - first - 1 && stale > PAGE_SECTORS;
        cuts += cut && picture.sectors[first] == SPOILED;
    }
    assert_true(cuts > 10);
}

/* What is spoiled is neither what was there nor what was to be: a few bits of the latter are wrong. */
static void a_spoiled_sector_has_a_few_wrong_bits(void **state)
{
    (void)state;
    struct picture picture;
    unsigned stale = 0, spoiled = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        picture_take(&picture, seed * 0x9e3779b97f4a7c15ull);
        for (unsigned i = 0; i < SECTORS; i++) {
            stale += picture.sectors[i] == STALE;
            if (picture.sectors[i] != SPOILED) {
                continue;
            }
            unsigned wrong = 0;
            for (unsigned j = 0; j < DISK_TEAR_SECTOR_BYTES; j++) {
                size_t at = (size_t)i * DISK_TEAR_SECTOR_BYTES + j;
                wrong += (unsigned)__builtin_popcount(picture.to[at] ^ picture.from[at]);
            }
            assert_in_range(wrong, 1, 8);
            spoiled++;
        }
    }
    assert_true(stale > SEEDS && spoiled > SEEDS / 4);
}

static void one_seed_makes_one_picture(void **state)
{
    (void)state;
    struct picture first, second;
    picture_take(&first, 4711);
    picture_take(&second, 4711);
    assert_memory_equal(first.to, second.to, BYTES);
    picture_take(&second, 4712);
    assert_memory_not_equal(first.to, second.to, BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(something_is_always_missing_and_often_something_lands),
        cmocka_unit_test(writes_are_torn_in_three_ways),
        cmocka_unit_test(behind_a_cut_end_all_is_as_it_was),
        cmocka_unit_test(a_spoiled_sector_has_a_few_wrong_bits),
        cmocka_unit_test(one_seed_makes_one_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
