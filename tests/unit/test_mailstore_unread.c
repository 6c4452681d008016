/*
 * A start that the disk refuses a part of the log is none: a state with gaps would give uids out twice and bring expunged
 * messages back. When all of it can be read again, everything is as it was.
 */
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTERS 40u
#define LETTER_BYTES 20000u

static void letters_deliver(struct mailstore_rig *rig)
{
    for (uint32_t i = 1; i <= LETTERS; i++) {
        struct mailstore_place place = {.user = slice_text("ann")};
        assert_int_equal(rig_deliver(rig, "ann", "INBOX", i, LETTER_BYTES, &place), 0);
        assert_int_equal(place.uid, i);
    }
}

/* It does not start; nothing of it is left but the disk and the index. */
static void start_refused(struct mailstore_rig *rig)
{
    assert_int_equal(mailstore_rig_start(rig), -EIO);
    assert_null(rig->store);
    log_rig_crash(&rig->rig);
}

static void start_as_it_was(struct mailstore_rig *rig, const char *dump)
{
    assert_int_equal(mailstore_rig_start(rig), 0);
    char *again = rig_dump(rig);
    assert_string_equal(again, dump);
    free(again);
    struct mailstore_place place = {.user = slice_text("ann")};
    assert_int_equal(rig_deliver(rig, "ann", "INBOX", LETTERS + 1, LETTER_BYTES, &place), 0);
    assert_int_equal(place.uid, LETTERS + 1);
}

static void unread(bool with_index, uint64_t offset)
{
    struct mailstore_rig rig;
    char name[32];
    mailstore_rig_open(&rig, 1);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    letters_deliver(&rig);
    mailstore_rig_settle(&rig);
    char *dump = rig_dump(&rig);
    mailstore_rig_stop(&rig);
    if (!with_index) {
        mailstore_rig_forget_index(&rig);
    }
    snprintf(name, sizeof(name), "%u/%08u.segment", rig.rig.settings.shard, 1u);
    disk_fault_refuse_reads(rig.rig.fault, name, offset, 1);
    start_refused(&rig);
    start_refused(&rig);
    disk_fault_mend(rig.rig.fault);
    start_as_it_was(&rig, dump);
    free(dump);
    mailstore_rig_close(&rig);
}

static void a_log_that_cannot_be_read_whole_is_no_start_with_the_index(void **state)
{
    (void)state;
    unread(true, 100000);
    unread(true, 400000);
}

static void nor_is_it_without_the_index(void **state)
{
    (void)state;
    unread(false, 100000);
    unread(false, 400000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_that_cannot_be_read_whole_is_no_start_with_the_index),
        cmocka_unit_test(nor_is_it_without_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
