/* Texts that lie one behind another in the log are read many at a time; what cannot be read is lost alone. */
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define LETTERS 400u
#define LARGE 150u /* this one is of 40,000 bytes */

static uint32_t bytes_of(uint32_t number)
{
    return number == LARGE ? 40000 : 300 + number * 37 % 4000;
}

static void fill(struct mailstore_rig *rig, uint64_t texts[LETTERS + 1])
{
    for (uint32_t i = 1; i <= LETTERS; i++) {
        struct mailstore_place place = {.user = slice_text("ann")};
        assert_int_equal(rig_deliver(rig, "ann", "INBOX", i, bytes_of(i), &place), 0);
    }
    restart(rig, true); /* nothing of them is in memory */
    struct mailstore_user *user = user_of(rig, "ann");
    struct mailstore_box *box = box_of(rig, user, "INBOX");
    assert_int_equal(box->count, LETTERS);
    for (uint32_t i = 1; i <= LETTERS; i++) {
        texts[i] = mailstore_entry_find(box, i)->text;
    }
    leave(rig, box);
}

static void texts_that_are_read_in_their_order_are_few_reads(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[LETTERS + 1];
    fill(rig, texts);
    uint64_t before = mailstore_counters(rig->store)->fetches;
    for (uint32_t i = 1; i <= LETTERS; i++) {
        assert_true(rig_text_is(rig, texts[i], i, bytes_of(i)));
    }
    uint64_t fetches = mailstore_counters(rig->store)->fetches - before;
    assert_in_range(fetches, 5, LETTERS / 8);
    assert_int_equal(mailstore_counters(rig->store)->fetch_failures, 0);
}

/* In any order, by several at once, and with reads that nobody waits for. */
static void texts_are_what_they_were_in_whatever_order_they_are_read(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[LETTERS + 1];
    uint32_t readers[3] = {0, LETTERS / 3, LETTERS / 2};
    fill(rig, texts);
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t any = 1 + mailstore_rig_below(rig, LETTERS);
        uint32_t *reader = &readers[mailstore_rig_below(rig, 3)];
        *reader = (*reader + mailstore_rig_below(rig, 3)) % LETTERS;
        if (mailstore_rig_below(rig, 4) == 0) {
            int status = mailstore_expect(rig->store, texts[any]);
            assert_true(status >= 0 || status == -EAGAIN);
        }
        uint32_t number = mailstore_rig_below(rig, 5) == 0 ? any : *reader + 1;
        assert_true(rig_text_is(rig, texts[number], number, bytes_of(number)));
    }
    assert_int_equal(mailstore_counters(rig->store)->fetch_failures, 0);
}

static void what_is_expected_is_there_when_it_is_read(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[LETTERS + 1];
    fill(rig, texts);
    assert_in_range(mailstore_expect(rig->store, texts[LARGE]), bytes_of(LARGE), 65536);
    assert_in_range(mailstore_expect(rig->store, texts[7]), bytes_of(7), 8192);
    assert_int_equal(mailstore_expect(rig->store, texts[7]), 0); /* on its way */
    assert_int_equal(mailstore_expect(rig->store, 12345), 0);    /* no text */
    mailstore_rig_settle(rig);
    uint64_t before = mailstore_counters(rig->store)->fetches;
    assert_int_equal(mailstore_expect(rig->store, texts[7]), 0);
    assert_true(rig_text_is(rig, texts[7], 7, bytes_of(7)));
    assert_true(rig_text_is(rig, texts[LARGE], LARGE, bytes_of(LARGE)));
    assert_int_equal(mailstore_counters(rig->store)->fetches, before);
}

static void fetched(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

static bool is_lost(struct mailstore_rig *rig, uint64_t id)
{
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = fetched};
    struct slice bytes;
    struct ref *owner;
    assert_int_equal(mailstore_text_open(rig->store, id, &text), 0);
    int status;
    while ((status = mailstore_read(rig->store, &text, 0, &bytes, &owner, &fetch)) ==
           -EINPROGRESS) {
        mailstore_rig_round(rig);
    }
    if (status == 0) {
        ref_drop(owner);
    }
    mailstore_text_close(rig->store, &text);
    return status == -EIO;
}

static void of_a_disk_that_refuses_a_block_no_other_text_is_lost(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    uint64_t texts[LETTERS + 1];
    char name[32];
    uint32_t lost = 0;
    fill(rig, texts);
    snprintf(name, sizeof(name), "%u/%08u.segment", rig->rig.settings.shard, 1u);
    disk_fault_refuse_reads(rig->rig.fault, name, 100 * 4096, 1);
    for (uint32_t i = 1; i <= LETTERS; i++) {
        if (is_lost(rig, texts[i])) {
            lost++;
        } else {
            assert_true(rig_text_is(rig, texts[i], i, bytes_of(i)));
        }
    }
    assert_in_range(lost, 1, 15); /* those that lie in its block of 4 KiB */
    disk_fault_mend(rig->rig.fault);
    for (uint32_t i = 1; i <= LETTERS; i++) {
        assert_true(rig_text_is(rig, texts[i], i, bytes_of(i)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
        TEST(texts_that_are_read_in_their_order_are_few_reads),
        TEST(texts_are_what_they_were_in_whatever_order_they_are_read),
        TEST(what_is_expected_is_there_when_it_is_read),
        TEST(of_a_disk_that_refuses_a_block_no_other_text_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
