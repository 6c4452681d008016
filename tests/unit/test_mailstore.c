#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Delivery ────────────────────────────────────────────────────────────────────────────────── */

static void a_delivered_message_is_in_the_inbox_that_came_to_be(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {.flags = MAILSTORE_SEEN, .internal_s = 1234, .zone_min = -90};
    assert_int_equal(rig_deliver(rig, "ann", "inbox", 5, 9000, &place), 0);
    assert_int_equal(place.uid, 1);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 1);
    assert_int_equal(box->uidvalidity, place.uidvalidity);
    assert_int_equal(box->uidnext, 2);
    assert_int_equal(box->unseen_count, 0);
    assert_int_equal(box->user->totals.bytes, 9000);
    const struct mailstore_entry *entry = &box->entries[0];
    assert_int_equal(entry->uid, 1);
    assert_int_equal(entry->flags, MAILSTORE_SEEN);
    assert_int_equal(entry->internal_s, 1234);
    assert_int_equal(entry->zone_min, -90);
    assert_int_equal(entry->saved_s, rig->wall_s);
    assert_true(rig_text_is(rig, entry->text, 5, 9000));
    leave(rig, box);
}

static void nothing_is_seen_before_it_is_durable(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_draft *draft;
    struct told told;
    struct slice text = slice_text("x");
    struct mailstore_place place = {.user = slice_text("ann")};
    mailstore_rig_settle(rig);
    disk_fault_hold(rig->rig.fault, true);
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &text, 1), 0);
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    for (int i = 0; i < 20; i++) {
        mailstore_rig_round(rig);
    }
    struct mailstore_user *user = user_of(rig, "ann");
    assert_false(told.done);
    assert_null(mailstore_box_find(user, slice_text("INBOX")));
    disk_fault_hold(rig->rig.fault, false);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(mailstore_box_find(user, slice_text("INBOX"))->count, 1);
    mailstore_user_close(rig->store, user);
}

static void one_text_serves_all_places_of_a_delivery(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_draft *draft;
    struct told told;
    struct slice text = slice_text("hello\r\n"), spam = slice_text("$Junk");
    struct mailstore_place places[] = {
        {.user = slice_text("ann"), .keywords = &spam, .keyword_count = 1},
        {.user = slice_text("bob"), .mailbox = slice_text("a/b"), .options = MAILSTORE_AUTOCREATE},
        {.user = slice_text("bob"), .mailbox = slice_text("none")},
        {.user = slice_text("bob"), .quota_bytes = 10},
        {.user = slice_text("cid"), .mailbox = slice_text("none"), .options = MAILSTORE_OR_INBOX}};
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    uint64_t id = mailstore_draft_id(draft);
    assert_int_equal(mailstore_append(draft, &text, 1), 0);
    assert_int_equal(mailstore_commit(draft, 77, places, 5, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(places[0].status, 0);
    assert_int_equal(places[1].status, 0);
    assert_int_equal(places[2].status, -ENOENT);
    assert_int_equal(places[3].status, -EDQUOT);
    assert_int_equal(places[4].status, 0);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    uint64_t thread;
    assert_true(box->entries[0].text == id);
    assert_int_equal(box->entries[0].keywords, 1);
    assert_true(slice_equal(mailstore_keyword(box, 0), spam));
    assert_int_equal(mailstore_thread(rig->store, box, 1, &thread), 0);
    assert_int_equal(thread, 77);
    leave(rig, box);
    box = box_of(rig, user_of(rig, "bob"), "a/b");
    assert_true(box->entries[0].text == id);
    leave(rig, box);
    assert_true(places[0].box != places[1].box && places[0].box != places[4].box &&
                places[1].box != places[4].box);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void a_refused_delivery_leaves_nothing_in_the_log_that_lives(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {.quota_bytes = 10};
    assert_int_equal(rig_deliver(rig, "ann", "", 5, 9000, &place), -EDQUOT);
    assert_int_equal(mailstore_counters(rig->store)->live_bytes, 0);
    assert_int_equal(mailstore_counters(rig->store)->drafts, 0);
}

static void more_names_of_users_than_a_record_takes_are_refused(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_draft *draft;
    struct told told;
    struct mailstore_place places[1000] = {0};
    static char names[1000][256];
    for (uint32_t i = 0; i < 1000; i++) {
        memset(names[i], 'a' + (char)(i % 26), 255);
        places[i].user = slice_of(names[i], 250);
    }
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    assert_int_equal(mailstore_commit(draft, 0, places, 1000, told_init(&told)), -E2BIG);
    assert_int_equal(mailstore_counters(rig->store)->drafts, 0);
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    assert_int_equal(mailstore_commit(draft, 0, places, 400, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(places[399].status, 0);
}

static void a_failed_write_is_told_and_has_not_happened(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0};
    deliver(rig, "ann", 1);
    mailstore_rig_settle(rig);
    disk_fault_fail(rig->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    assert_int_equal(rig_deliver(rig, "ann", "", 5, 9000, &place), -EIO);
    assert_int_equal(rig_deliver(rig, "ann", "", 6, 9000, &place), 0);
    assert_int_equal(place.uid, 2);
    restart(rig, true);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 2);
    assert_true(rig_text_is(rig, box->entries[1].text, 6, 9000));
    leave(rig, box);
}

/* The write that failed may have come to the device all the same. */
static void a_change_is_not_refused_while_a_start_may_find_it(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    struct mailstore_create wanted = {.mailbox = slice_text("a")};
    struct mailstore_user *user = user_of(rig, "ann");
    deliver(rig, "ann", 1);
    mailstore_rig_settle(rig);
    disk_fault_fail(rig->rig.fault, DISK_FAULT_WRITE, 0, 1000000, -EIO);
    assert_int_equal(mailstore_box_create(rig->store, user, &wanted, told_init(&told)), 0);
    for (int i = 0; i < 3000; i++) {
        mailstore_rig_round(rig);
    }
    assert_false(told.done);
    assert_int_equal(create(rig, user, "b"), -EIO); /* nothing was written of it */
    disk_fault_fail(rig->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
    assert_int_equal(told_wait(rig, &told), -EIO);
    assert_null(mailstore_box_find(user, slice_text("a")));
    assert_int_equal(create(rig, user, "c"), 0);
    mailstore_user_close(rig->store, user);
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    user = user_of(rig, "ann");
    assert_null(mailstore_box_find(user, slice_text("a")));
    assert_null(mailstore_box_find(user, slice_text("b")));
    assert_non_null(mailstore_box_find(user, slice_text("c")));
    mailstore_user_close(rig->store, user);
}

static void a_store_is_closed_also_when_a_write_that_failed_cannot_be_made_void(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    struct mailstore_create wanted = {.mailbox = slice_text("a")};
    struct mailstore_user *user = user_of(rig, "ann");
    deliver(rig, "ann", 1);
    mailstore_rig_settle(rig);
    disk_fault_fail(rig->rig.fault, DISK_FAULT_WRITE, 0, 1000000, -EIO);
    assert_int_equal(mailstore_box_create(rig->store, user, &wanted, told_init(&told)), 0);
    mailstore_user_close(rig->store, user);
    mailstore_rig_stop(rig);
    assert_false(told.done);
    disk_fault_fail(rig->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
    assert_int_equal(mailstore_rig_start(rig), 0);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 1);
    leave(rig, box);
}

static void a_full_disk_refuses_mail_and_takes_expunges(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0};
    rig->rig.fault_settings.capacity_bytes = 12ull * rig->rig.settings.segment_bytes;
    disk_fault_set(rig->rig.fault, &rig->rig.fault_settings);
    uint32_t count = 0;
    int status = 0;
    while (status == 0 && count < 1000) {
        status = rig_deliver(rig, "ann", "", count, 200000, &place);
        count += status == 0;
    }
    assert_int_equal(status, -ENOSPC);
    assert_in_range(count, 40, 200);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, count);
    assert_int_equal(expunge(rig, box, 1, count - 5), 0);
    mailstore_rig_settle(rig);
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(rig_deliver(rig, "ann", "", 500 + i, 200000, &place), 0);
        assert_int_equal(place.uid, count + 1 + i);
    }
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(rig_text_is(rig, box->entries[i].text, count - 5 + i, 200000));
    }
    leave(rig, box);
}

/* ── Changes ─────────────────────────────────────────────────────────────────────────────────── */

static void flags_change_unless_they_have_changed_since(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 5);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    uint64_t since = box->modseq;
    struct mailstore_flags flags = {.flags = MAILSTORE_SEEN, .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(flag(rig, box, 2, 2, &flags), 0);
    assert_true(flags.modseq == since + 1);
    assert_int_equal(box->unseen_count, 4);
    flags = (struct mailstore_flags){
        .op = MAILSTORE_REPLACE, .flags = MAILSTORE_DELETED, .unchanged_since = since};
    assert_int_equal(flag(rig, box, 1, 3, &flags), 0);
    assert_int_equal(flags.failed_count, 1);
    assert_int_equal(flags.failed[0].first, 2);
    assert_int_equal(flags.failed[0].last, 2);
    free(flags.failed);
    assert_int_equal(box->entries[0].flags, MAILSTORE_DELETED);
    assert_int_equal(box->entries[1].flags, MAILSTORE_SEEN);
    assert_int_equal(box->deleted_count, 2);
    flags = (struct mailstore_flags){
        .op = MAILSTORE_REMOVE, .flags = MAILSTORE_DELETED, .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(flag(rig, box, 1, 5, &flags), 0);
    assert_int_equal(box->deleted_count, 0);
    leave(rig, box);
}

static void two_conditional_stores_in_one_round_do_not_both_succeed(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 1);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct mailstore_uids uids = {1, 1};
    struct mailstore_flags flags[2];
    struct told told[2];
    for (int i = 0; i < 2; i++) {
        flags[i] = (struct mailstore_flags){.uids = &uids,
                                            .uid_count = 1,
                                            .flags = i == 0 ? MAILSTORE_SEEN : MAILSTORE_DRAFT,
                                            .unchanged_since = box->modseq};
        assert_int_equal(mailstore_flags(rig->store, box, &flags[i], told_init(&told[i])), 0);
    }
    assert_int_equal(told_wait(rig, &told[0]), 0);
    assert_int_equal(told_wait(rig, &told[1]), 0);
    assert_int_equal(flags[0].failed_count, 0);
    assert_int_equal(flags[1].failed_count, 1);
    assert_int_equal(box->entries[0].flags, MAILSTORE_SEEN);
    free(flags[1].failed);
    leave(rig, box);
}

struct ranges {
    struct mailstore_uids list[16];
    uint32_t count;
};
static void range_visit(void *owner, uint32_t first, uint32_t last)
{
    struct ranges *ranges = (struct ranges *)owner;
    ranges->list[ranges->count++] = (struct mailstore_uids){first, last};
}

static void what_has_vanished_since_a_modseq_is_known(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 10);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct ranges ranges = {0};
    assert_int_equal(expunge(rig, box, 2, 3), 0);
    uint64_t since = box->modseq;
    assert_int_equal(expunge(rig, box, 4, 4), 0);
    assert_int_equal(expunge(rig, box, 8, 9), 0);
    assert_int_equal(mailstore_vanished(box, since, range_visit, &ranges), 0);
    assert_int_equal(ranges.count, 2);
    assert_int_equal(ranges.list[0].first, 4);
    assert_int_equal(ranges.list[1].first, 8);
    assert_int_equal(ranges.list[1].last, 9);
    ranges.count = 0;
    assert_int_equal(mailstore_vanished(box, 0, range_visit, &ranges), 0);
    assert_int_equal(ranges.count, 2);
    assert_int_equal(ranges.list[0].first, 2);
    assert_int_equal(ranges.list[0].last, 4);
    leave(rig, box);
}

static void a_text_goes_with_its_last_entry_unless_it_is_being_read(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 2);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct mailstore_text text = {0}, gone = {0};
    uint64_t first = box->entries[0].text, second = box->entries[1].text;
    assert_int_equal(mailstore_text_open(rig->store, first, &text), 0);
    mailstore_cache_put(rig->store, second, 1, slice_text("cached"));
    assert_int_equal(expunge(rig, box, 1, 2), 0);
    assert_true(rig_text_is(rig, first, 1, 100));
    assert_int_equal(mailstore_text_open(rig->store, second, &gone), -ENOENT);
    struct slice value;
    assert_int_equal(mailstore_cache_get(rig->store, second, 1, &value), -ENOENT);
    mailstore_text_close(rig->store, &text);
    assert_int_equal(mailstore_text_open(rig->store, first, &gone), -ENOENT);
    assert_int_equal(mailstore_counters(rig->store)->live_bytes, 0);
    leave(rig, box);
}

static void copying_shares_the_text_and_moving_takes_it_along(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    deliver(rig, "ann", 6);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(create(rig, box->user, "Archive"), 0);
    struct mailstore_uids uids[] = {{1, 2}, {5, 9}};
    struct mailstore_copy copy = {.uids = uids, .uid_count = 2, .mailbox = slice_text("Archive")};
    assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(copy.source_count, 2);
    assert_int_equal(copy.sources[1].last, 6);
    assert_int_equal(copy.target_first, 1);
    assert_int_equal(copy.target_last, 4);
    free(copy.sources);
    copy.uid_count = 1;
    assert_int_equal(mailstore_move(rig->store, box, &copy, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(copy.target_first, 5);
    free(copy.sources);
    assert_int_equal(box->count, 4);
    struct mailstore_box *archive = box_of(rig, user_of(rig, "ann"), "Archive");
    assert_int_equal(archive->count, 6);
    assert_int_equal(expunge(rig, box, 1, 9), 0);
    assert_true(rig_text_is(rig, archive->entries[0].text, 1, 100));
    assert_true(rig_text_is(rig, archive->entries[4].text, 1, 100));
    assert_true(rig_text_is(rig, archive->entries[3].text, 6, 105));
    copy.mailbox = slice_text("nowhere");
    copy.uid_count = 1;
    assert_int_equal(mailstore_copy(rig->store, archive, &copy, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), -ENOENT);
    free(copy.sources);
    leave(rig, archive);
    leave(rig, box);
}

static void two_moves_of_one_message_move_it_once(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told[2];
    deliver(rig, "ann", 1);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(create(rig, box->user, "A"), 0);
    struct mailstore_uids uids = {1, 1};
    struct mailstore_copy copies[2];
    for (int i = 0; i < 2; i++) {
        copies[i] =
            (struct mailstore_copy){.uids = &uids, .uid_count = 1, .mailbox = slice_text("A")};
        assert_int_equal(mailstore_move(rig->store, box, &copies[i], told_init(&told[i])), 0);
    }
    assert_int_equal(told_wait(rig, &told[0]), 0);
    assert_int_equal(told_wait(rig, &told[1]), 0);
    assert_int_equal(mailstore_box_find(box->user, slice_text("A"))->count, 1);
    free(copies[0].sources);
    free(copies[1].sources);
    leave(rig, box);
}

/* Of a message that was carried elsewhere: whoever is first takes it, and the others are told that they have not. */
static void what_is_carried_away_is_taken_by_one_alone(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told[3];
    deliver(rig, "ann", 6);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(create(rig, box->user, "A"), 0);
    struct mailstore_uids moved = {1, 2}, carried[] = {{1, 1}, {3, 4}, {6, 9}}, all = {1, 9};
    struct mailstore_copy first = {.uids = &moved, .uid_count = 1, .mailbox = slice_text("A")};
    struct mailstore_copy behind = {.uids = &all, .uid_count = 1, .mailbox = slice_text("A")};
    struct mailstore_expunge expunge = {.uids = carried, .uid_count = 3, .carried = true};
    assert_int_equal(mailstore_move(rig->store, box, &first, told_init(&told[0])), 0);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told[1])), 0);
    assert_int_equal(mailstore_move(rig->store, box, &behind, told_init(&told[2])), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(told_wait(rig, &told[i]), 0);
    }
    assert_int_equal(expunge.expunged_count, 3);
    assert_int_equal(expunge.gone_count, 2);
    assert_int_equal(expunge.gone[0].first, 3);
    assert_int_equal(expunge.gone[0].last, 4);
    assert_int_equal(expunge.gone[1].first, 6);
    assert_int_equal(expunge.gone[1].last, 6);
    assert_int_equal(behind.source_count, 1);
    assert_int_equal(behind.sources[0].first, 5);
    assert_int_equal(behind.sources[0].last, 5);
    assert_int_equal(mailstore_box_find(box->user, slice_text("A"))->count, 3);
    assert_int_equal(box->count, 0);
    free(expunge.gone);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told[1])), 0);
    assert_int_equal(told_wait(rig, &told[1]), 0);
    assert_null(expunge.gone);
    assert_int_equal(expunge.expunged_count, 0);
    free(first.sources);
    free(behind.sources);
    leave(rig, box);
}

static void what_is_expunged_can_be_restored_for_a_while(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    rig->settings.keep_expunged_s = 1000;
    restart(rig, true);
    deliver(rig, "ann", 3);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(expunge(rig, box, 1, 2), 0);
    assert_int_equal(box->user->totals.messages, 1);
    struct mailstore_uids uids = {2, 2};
    struct mailstore_restore restore = {.uids = &uids, .uid_count = 1};
    assert_int_equal(mailstore_restore(rig->store, box, &restore, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(restore.restored_count, 1);
    assert_int_equal(restore.first, 4);
    assert_true(rig_text_is(rig, mailstore_entry_find(box, 4)->text, 2, 101));
    uint64_t live = mailstore_counters(rig->store)->live_bytes;
    rig->wall_s += 2000;
    mailstore_rig_settle(rig);
    assert_true(mailstore_counters(rig->store)->live_bytes < live);
    restore.uids = &(struct mailstore_uids){1, 1};
    assert_int_equal(mailstore_restore(rig->store, box, &restore, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(restore.restored_count, 0);
    leave(rig, box);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(a_delivered_message_is_in_the_inbox_that_came_to_be),
        SCENE(nothing_is_seen_before_it_is_durable),
        SCENE(one_text_serves_all_places_of_a_delivery),
        SCENE(a_refused_delivery_leaves_nothing_in_the_log_that_lives),
        SCENE(more_names_of_users_than_a_record_takes_are_refused),
        SCENE(a_failed_write_is_told_and_has_not_happened),
        SCENE(a_change_is_not_refused_while_a_start_may_find_it),
        SCENE(a_store_is_closed_also_when_a_write_that_failed_cannot_be_made_void),
        SCENE(a_full_disk_refuses_mail_and_takes_expunges),
        SCENE(flags_change_unless_they_have_changed_since),
        SCENE(two_conditional_stores_in_one_round_do_not_both_succeed),
        SCENE(what_has_vanished_since_a_modseq_is_known),
        SCENE(a_text_goes_with_its_last_entry_unless_it_is_being_read),
        SCENE(copying_shares_the_text_and_moving_takes_it_along),
        SCENE(two_moves_of_one_message_move_it_once),
        SCENE(what_is_carried_away_is_taken_by_one_alone),
        SCENE(what_is_expunged_can_be_restored_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
