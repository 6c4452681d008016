/* What the engine keeps of texts in the index: it is bounded in memory, and what was written leaves it bit by bit. */
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEXTS 8u
#define KINDS 256u

static void texts_make(struct mailstore_rig *rig, uint64_t texts[TEXTS])
{
    deliver(rig, "ann", TEXTS);
    restart(rig, true); /* all rows are in the file */
    struct mailstore_user *user = user_of(rig, "ann");
    struct mailstore_box *box = box_of(rig, user, "INBOX");
    for (uint32_t i = 0; i < TEXTS; i++) {
        texts[i] = mailstore_entry_find(box, i + 1)->text;
    }
    leave(rig, box);
    assert_int_equal(index_memory_bytes(rig->store->index), 0);
}

static void keep(struct mailstore_rig *rig, const uint64_t *texts, unsigned count,
                 struct slice value)
{
    for (unsigned i = 0; i < count; i++) {
        mailstore_cache_put(rig->store, texts[i / KINDS], (uint8_t)(i % KINDS), value);
    }
}

static bool is_kept(struct mailstore_rig *rig, uint64_t text, uint8_t kind, struct slice value)
{
    struct slice found;
    return mailstore_cache_get(rig->store, text, kind, &found) == 0 && slice_equal(found, value);
}

static void while_the_index_is_written_so_much_is_kept_and_no_more(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint32_t most = rig->settings.index_changes_max;
    struct slice value = slice_text("value");
    uint64_t texts[TEXTS];
    texts_make(rig, texts);
    keep(rig, texts, most, value);
    mailstore_index_round(rig->store);
    assert_true(index_is_writing(rig->store->index));
    keep(rig, texts, TEXTS * KINDS, value);
    assert_in_range(index_waiting(rig->store->index), 4 * most, 4 * most + 1);
    assert_true(is_kept(rig, texts[0], 0, value));
    assert_false(is_kept(rig, texts[TEXTS - 1], KINDS - 1, value));
    mailstore_rig_settle(rig); /* behind it there is room again */
    keep(rig, &texts[TEXTS - 1], KINDS, value);
    assert_true(is_kept(rig, texts[TEXTS - 1], KINDS - 1, value));
}

static void large_values_are_written_before_there_are_many(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[TEXTS];
    uint8_t *bytes = (uint8_t *)calloc(1, MAILSTORE_CACHE_BYTES_MAX);
    assert_non_null(bytes);
    struct slice value = slice_of(bytes, MAILSTORE_CACHE_BYTES_MAX);
    rig->settings.index_changes_max = 65536;
    texts_make(rig, texts);
    size_t most = 0;
    for (unsigned i = 0; i < TEXTS * KINDS; i++) {
        mailstore_cache_put(rig->store, texts[i / KINDS], (uint8_t)(i % KINDS), value);
        size_t now = index_memory_bytes(rig->store->index);
        most = now > most ? now : most;
        if (i % 8 == 0) {
            mailstore_index_round(rig->store);
        }
    }
    assert_in_range(most, 60u << 20, 150u << 20);
    assert_true(is_kept(rig, texts[0], 0, value));
    assert_true(is_kept(rig, texts[TEXTS - 1], KINDS - 1, value));
    free(bytes);
}

static void what_was_written_leaves_memory_bit_by_bit(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    struct slice value = slice_text("a value of some bytes");
    uint64_t texts[TEXTS];
    rig->settings.index_changes_max = 65536;
    texts_make(rig, texts);
    for (unsigned round = 0; round < 3;
         round++) { /* the last one may not have left when the next is written */
        keep(rig, texts, TEXTS * KINDS, value);
        for (unsigned i = 0; i < 3 * TEXTS * KINDS; i++) {
            struct key key;
            key_begin(&key, ROW_CACHE);
            key_u64(&key, 1000000 + i);
            assert_int_equal(index_put(rig->store->index, key_slice(&key), value), 0);
        }
        assert_int_equal(mailstore_checkpoint(rig->store), 0);
        size_t full = index_memory_bytes(rig->store->index);
        mailstore_index_round(rig->store); /* it is written now */
        assert_false(index_is_writing(rig->store->index));
        assert_in_range(index_memory_bytes(rig->store->index), full / 2, full);
        mailstore_index_round(rig->store);
        size_t rest = index_memory_bytes(rig->store->index);
        assert_true(rest < full && rest > 0);
        for (unsigned i = 0; round != 1 && i < 20; i++) {
            mailstore_index_round(rig->store);
        }
        assert_true(round == 1 || index_memory_bytes(rig->store->index) == 0);
        assert_true(is_kept(rig, texts[3], 17, value));
    }
}

/* What waits to leave memory is not there to be written: or it would all leave at once behind the second writing. */
static void what_was_written_is_not_written_for_its_size(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[TEXTS];
    uint8_t bytes[16384] = {0};
    rig->settings.index_changes_max = 65536;
    rig->settings.index_bytes_max = 1u << 30;
    texts_make(rig, texts);
    uint64_t before = mailstore_counters(rig->store)->index_writes;
    for (unsigned i = 0; i < 8000; i++) {
        struct key key;
        key_begin(&key, ROW_CACHE);
        key_u64(&key, 1000000 + i);
        assert_int_equal(
            index_put(rig->store->index, key_slice(&key), slice_of(bytes, sizeof(bytes))), 0);
    }
    mailstore_index_round(rig->store);
    assert_true(index_is_writing(rig->store->index));
    mailstore_index_round(rig->store);
    assert_in_range(index_memory_bytes(rig->store->index), 64u << 20, 200u << 20);
    assert_false(index_is_writing(rig->store->index));
    for (unsigned i = 0; i < 8000 / 2048; i++) {
        mailstore_index_round(rig->store);
        assert_true(index_memory_bytes(rig->store->index) > 0);
    }
    mailstore_index_round(rig->store);
    assert_int_equal(index_memory_bytes(rig->store->index), 0);
    assert_int_equal(mailstore_counters(rig->store)->index_writes, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
        TEST(while_the_index_is_written_so_much_is_kept_and_no_more),
        TEST(large_values_are_written_before_there_are_many),
        TEST(what_was_written_leaves_memory_bit_by_bit),
        TEST(what_was_written_is_not_written_for_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
