/*
 * Changes of many entries are done some at a time, and many entries are loaded so, that the shard's others are served between:
 * what is seen then, and what is there after a crash in the middle.
 */
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define ENTRIES 20000u
#define ROUND_ENTRIES (2u * STEP_ENTRIES) /* at most, in one round */

static const struct mailstore_uids all = {1, UINT32_MAX};

static struct mailstore_box *large(struct mailstore_rig *rig, const char *user)
{
    deliver(rig, user, 10);
    struct mailstore_box *box = box_of(rig, user_of(rig, user), "INBOX");
    while (box->count < ENTRIES) {
        uint32_t most = ENTRIES - box->count, last = box->count < most ? box->count : most;
        struct mailstore_uids uids = {1, box->entries[last - 1].uid};
        struct mailstore_copy copy = {
            .uids = &uids, .uid_count = 1, .mailbox = slice_text("INBOX")};
        struct told told;
        assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
        assert_int_equal(told_wait(rig, &told), 0);
        free(copy.sources);
    }
    return box;
}

static uint32_t difference(uint32_t a, uint32_t b)
{
    return a > b ? a - b : b - a;
}

/* Rounds until it is told: in none of them more entries come or go than may. How many rounds showed a part of it. */
static uint32_t watch_rounds(struct mailstore_rig *rig, struct told *told,
                             const struct mailstore_user *user)
{
    uint32_t parts = 0;
    for (int round = 0; round < 20000 && !told->done; round++) {
        uint32_t before = (uint32_t)user->totals.messages;
        mailstore_rig_round(rig);
        uint32_t step = difference(before, (uint32_t)user->totals.messages);
        assert_true(step <= ROUND_ENTRIES);
        parts += step > 0;
    }
    assert_true(told->done);
    return parts;
}

/* It is the same when it is done again from the log, with the index and without. */
static void starts_check(struct mailstore_rig *rig)
{
    char *before = rig_dump(rig);
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(after);
    restart(rig, false);
    after = rig_dump(rig);
    assert_string_equal(before, after);
    free(after);
    free(before);
}

static void a_large_copy_is_done_in_parts_and_told_at_the_end(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_copy copy = {.uids = &all,
                                  .uid_count = 1,
                                  .mailbox = slice_text("copies"),
                                  .options = MAILSTORE_AUTOCREATE};
    struct told told, behind;
    struct mailstore_create create = {.mailbox = slice_text("behind")};
    assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
    assert_int_equal(mailstore_box_create(rig->store, box->user, &create, told_init(&behind)), 0);
    assert_true(watch_rounds(rig, &told, box->user) >= ENTRIES / ROUND_ENTRIES);
    assert_int_equal(told.status, 0);
    assert_int_equal(told_wait(rig, &behind), 0);
    assert_int_equal(copy.target_first, 1);
    assert_int_equal(copy.target_last, ENTRIES);
    struct mailstore_box *copies = box_of(rig, user_of(rig, "ann"), "copies");
    assert_int_equal(copies->count, ENTRIES);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(copies->entries[i].uid, i + 1);
        assert_true(copies->entries[i].text == box->entries[i].text);
    }
    free(copy.sources);
    leave(rig, copies);
    leave(rig, box);
    starts_check(rig);
}

static void a_large_move_leaves_nothing_behind(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_copy copy = {
        .uids = &all, .uid_count = 1, .user = slice_text("bob"), .mailbox = slice_text("INBOX")};
    struct told told;
    assert_int_equal(mailstore_move(rig->store, box, &copy, told_init(&told)), 0);
    assert_true(watch_rounds(rig, &told, box->user) >= ENTRIES / ROUND_ENTRIES);
    assert_int_equal(told.status, 0);
    assert_int_equal(box->count, 0);
    struct mailstore_box *moved = box_of(rig, user_of(rig, "bob"), "INBOX");
    assert_int_equal(moved->count, ENTRIES);
    free(copy.sources);
    leave(rig, moved);
    leave(rig, box);
    starts_check(rig);
}

static void of_a_large_expunge_it_is_told_what_has_gone(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_uids one = {ENTRIES / 2, ENTRIES / 2};
    struct mailstore_expunge before = {.uids = &one, .uid_count = 1};
    struct mailstore_expunge expunge = {.uids = &all, .uid_count = 1, .carried = true};
    struct told told;
    assert_int_equal(mailstore_expunge(rig->store, box, &before, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    assert_true(watch_rounds(rig, &told, box->user) >= ENTRIES / ROUND_ENTRIES);
    assert_int_equal(expunge.expunged_count, ENTRIES - 1);
    assert_int_equal(expunge.gone_count, 2);
    assert_int_equal(expunge.gone[0].first, 1);
    assert_int_equal(expunge.gone[0].last, ENTRIES / 2 - 1);
    assert_int_equal(expunge.gone[1].first, ENTRIES / 2 + 1);
    assert_int_equal(expunge.gone[1].last, ENTRIES);
    free(expunge.gone);
    leave(rig, box);
    starts_check(rig);
}

struct seen {
    struct view view;
    uint64_t modseq; /* the highest that was there when some were gone and others were not */
    uint32_t gone;
};

static void vanished(void *owner, uint32_t first, uint32_t last)
{
    ((struct seen *)owner)->gone += last - first + 1;
}

/* Every second one is \Deleted. Who was there in the middle, and went, is told of the rest. */
static void of_a_large_expunge_no_part_is_lost_to_who_saw_another(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_flags flags = {.flags = MAILSTORE_DELETED,
                                    .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_expunge expunge = {.deleted_only = true};
    struct seen seen = {0};
    struct told told;
    for (uint32_t i = 0; i < ENTRIES; i += 1000) {
        assert_int_equal(flag(rig, box, i + 1, i + 500, &flags), 0);
    }
    assert_int_equal(view_open(&seen.view, rig->store, box), 0);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    while (box->count == ENTRIES) {
        mailstore_rig_round(rig);
    }
    assert_false(told.done);
    uint32_t rest = box->count - ENTRIES / 2;
    assert_true(rest > 0);
    uint64_t modseq = box->modseq;
    assert_int_equal(view_number(&seen.view, ENTRIES), ENTRIES); /* a view tells none of it yet */
    watch_rounds(rig, &told, box->user);
    assert_int_equal(told.status, 0);
    assert_int_equal(expunge.expunged_count, ENTRIES / 2);
    assert_true(expunge.modseq == box->modseq);
    assert_int_equal(box->count, ENTRIES / 2);
    for (uint32_t i = 0; i < box->count; i++) {
        assert_int_equal(box->entries[i].uid, 501 + i % 500 + i / 500 * 1000);
    }
    assert_int_equal(mailstore_vanished(box, modseq, vanished, &seen), 0);
    assert_int_equal(seen.gone, rest);
    view_close(&seen.view);
    leave(rig, box);
    starts_check(rig);
}

static void a_large_mailbox_is_gone_at_once_and_its_rows_after_it(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_user *user = user_of(rig, "ann");
    struct told told;
    assert_int_equal(mailstore_box_delete(rig->store, box, told_init(&told)), 0);
    while (box->state == MAILSTORE_BOX_LIVE) {
        mailstore_rig_round(rig);
    }
    assert_null(mailstore_box_find(user, slice_text("INBOX")));
    for (int round = 0; round < 2; round++) {
        assert_false(told.done);
        mailstore_rig_round(rig);
    }
    assert_int_equal(told_wait(rig, &told), 0);
    assert_true(user->totals.messages == 0);
    assert_true(mailstore_counters(rig->store)->live_bytes == 0);
    mailstore_user_close(rig->store, user);
    leave(rig, box);
    starts_check(rig);
}

/* The index is due at any time: it must not be written then. */
static void what_a_crash_cuts_off_in_the_middle_is_done_whole_by_the_next_start(void **state)
{
    struct mailstore_rig *rig = *state;
    rig->settings.index_changes_max = 1;
    restart(rig, true);
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_expunge expunge = {0};
    struct told told;
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    while (box->count == ENTRIES) {
        mailstore_rig_round(rig);
    }
    mailstore_rig_round(rig);
    assert_true(box->count > 0);
    assert_false(told.done);
    assert_false(mailstore_is_quiet(rig->store));
    leave(rig, box);
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 0);
    box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 0);
    assert_int_equal(box->uidnext, ENTRIES + 1);
    leave(rig, box);
    starts_check(rig);
}

/* The pieces until it is loaded; a message comes after each of them. */
static uint32_t load(struct mailstore_rig *rig, struct mailstore_box *box)
{
    uint32_t pieces = 0;
    int status;
    while ((status = mailstore_box_load(rig->store, box)) == -EINPROGRESS) {
        deliver(rig, "ann", 1);
        pieces++;
        assert_true(pieces < 100);
    }
    assert_int_equal(status, 0);
    return pieces;
}

static void a_large_mailbox_is_loaded_in_pieces_and_has_what_comes_between(void **state)
{
    struct mailstore_rig *rig = *state;
    leave(rig, large(rig, "ann"));
    restart(rig, true);
    struct mailstore_user *user = user_of(rig, "ann");
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    uint32_t pieces = load(rig, box);
    assert_in_range(pieces, 1, 3);
    assert_int_equal(box->count, ENTRIES + pieces);
    assert_int_equal(mailstore_counters(rig->store)->boxes_loaded, 1);
    assert_int_equal(mailstore_box_open(rig->store, box), 0);
    for (uint32_t i = 0; i < box->count; i++) {
        assert_int_equal(box->entries[i].uid, i + 1);
    }
    leave(rig, box);
    starts_check(rig);
}

static void who_opens_one_that_is_half_loaded_has_all_of_it(void **state)
{
    struct mailstore_rig *rig = *state;
    leave(rig, large(rig, "ann"));
    restart(rig, true);
    struct mailstore_user *user = user_of(rig, "ann");
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    assert_int_equal(mailstore_box_load(rig->store, box), -EINPROGRESS);
    assert_int_equal(mailstore_box_open(rig->store, box), 0);
    assert_int_equal(box->entries[ENTRIES - 1].uid, ENTRIES);
    assert_int_equal(mailstore_box_load(rig->store, box), 0);
    leave(rig, box);
}

/* Each takes the place of the other when a round ends. */
static void two_that_are_loaded_where_one_may_stay_are_both_loaded(void **state)
{
    struct mailstore_rig *rig = *state;
    leave(rig, large(rig, "ann"));
    leave(rig, large(rig, "bob"));
    rig->settings.box_idle_max = 1;
    restart(rig, true);
    struct mailstore_user *users[] = {user_of(rig, "ann"), user_of(rig, "bob")};
    uint32_t open_count = 0;
    for (uint32_t round = 0; open_count < 2; round++) {
        assert_true(round < 10);
        for (uint32_t i = 0; i < 2; i++) {
            struct mailstore_box *box = mailstore_box_find(users[i], slice_text("INBOX"));
            if (box->open_count == 0 && mailstore_box_load(rig->store, box) == 0) {
                assert_int_equal(mailstore_box_open(rig->store, box), 0);
                open_count++;
            }
        }
        mailstore_rig_round(rig);
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct mailstore_box *box = mailstore_box_find(users[i], slice_text("INBOX"));
        assert_int_equal(box->entries[ENTRIES - 1].uid, ENTRIES);
        leave(rig, box);
    }
}

/* Those that come and go between two pieces are newer than it, and more than may stay. */
static void one_that_is_loaded_while_others_come_and_go_is_loaded(void **state)
{
    struct mailstore_rig *rig = *state;
    const char *others[] = {"bob", "cid", "dan"};
    struct mailstore_user *user;
    int status = -EINPROGRESS;
    leave(rig, large(rig, "ann"));
    for (uint32_t i = 0; i < 3; i++) {
        deliver(rig, others[i], 1);
    }
    rig->settings.box_idle_max = 1;
    restart(rig, true);
    user = user_of(rig, "ann");
    for (uint32_t round = 0; status == -EINPROGRESS; round++) {
        assert_true(round < 10);
        status = mailstore_box_load(rig->store, mailstore_box_find(user, slice_text("INBOX")));
        for (uint32_t i = 0; i < 3; i++) {
            leave(rig, box_of(rig, user_of(rig, others[i]), "INBOX"));
        }
        mailstore_rig_round(rig);
    }
    assert_int_equal(status, 0);
    assert_true(rig->store->idle_box_count <= 2);
    mailstore_rig_round(rig); /* nobody loads it now */
    assert_int_equal(rig->store->idle_box_count, 1);
    mailstore_user_close(rig->store, user);
}

static void a_change_of_one_that_is_not_loaded_loads_it_in_steps(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_box *box = large(rig, "ann");
    const struct mailstore_uids last = {ENTRIES, ENTRIES};
    struct mailstore_flags flags = {.uids = &last,
                                    .uid_count = 1,
                                    .flags = MAILSTORE_DELETED,
                                    .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_expunge expunge = {.deleted_only = true};
    struct told flagged, expunged;
    uint32_t rounds = 0;
    assert_int_equal(mailstore_flags(rig->store, box, &flags, told_init(&flagged)), 0);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&expunged)), 0);
    mailstore_box_close(rig->store, box);
    box_unload(box_private(box));
    while (!flagged.done) {
        mailstore_rig_round(rig);
        rounds += box_private(box)->loading_count > 0 && !box_private(box)->loaded;
    }
    assert_true(rounds > 0);
    assert_int_equal(flagged.status, 0);
    assert_true(flags.modseq > 0);
    box_unload(box_private(box));
    assert_int_equal(told_wait(rig, &expunged), 0);
    assert_int_equal(expunge.expunged_count, 1);
    assert_int_equal(box->count, ENTRIES - 1);
    mailstore_user_close(rig->store, box->user);
    starts_check(rig);
}

/* ── Anything, between two pieces ────────────────────────────────────────────────────────────── */

#define THIN_STEP 16u /* of uids one is left: three pieces of rows, and few entries to compare */
#define THIN_UIDS (2u * ENTRIES)
#define THIN_MAX (THIN_UIDS / THIN_STEP + 1000u)

struct thin {
    struct mailstore_rig *rig;
    struct mailstore_user *user;
    uint64_t id; /* of the mailbox */
    uint32_t uids[THIN_MAX], flags[THIN_MAX];
    uint32_t count, loaded_count, pieces;
};

static struct mailstore_box *thin_box(const struct thin *thin)
{
    return mailstore_box_by_id(thin->user, thin->id);
}

static void thin_open(struct thin *thin, struct mailstore_rig *rig)
{
    static struct mailstore_uids gone[THIN_UIDS / THIN_STEP];
    struct mailstore_box *box = large(rig, "ann");
    struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("INBOX")};
    struct mailstore_expunge expunge = {.uids = gone, .uid_count = THIN_UIDS / THIN_STEP};
    struct told told;
    assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    free(copy.sources);
    *thin = (struct thin){.rig = rig, .id = box->id, .user = user_of(rig, "ann")};
    for (uint32_t i = 0; i < THIN_UIDS / THIN_STEP; i++) {
        uint32_t first = i * THIN_STEP + 1;
        gone[i] = (struct mailstore_uids){first + 1, first + THIN_STEP - 1};
        thin->uids[thin->count++] = first;
    }
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(box->count, thin->count);
    leave(rig, box);
}

/* What is in memory is what the rows say, and what was done. */
static void thin_check(struct thin *thin)
{
    struct mailstore_box *box = thin_box(thin);
    assert_int_equal(mailstore_box_open(thin->rig->store, box), 0);
    assert_int_equal(box->count, thin->count);
    for (uint32_t i = 0; i < thin->count; i++) {
        assert_int_equal(box->entries[i].uid, thin->uids[i]);
        assert_int_equal(box->entries[i].flags, thin->flags[i]);
    }
    mailstore_box_close(thin->rig->store, box);
}

static void thin_load(struct thin *thin)
{
    int status = mailstore_box_load(thin->rig->store, thin_box(thin));
    assert_true(status == 0 || status == -EINPROGRESS);
    thin->pieces += status == -EINPROGRESS;
    thin->loaded_count += status == 0;
}

/* Rounds and pieces until it is told. */
static void thin_wait(struct thin *thin, struct told *told)
{
    for (uint32_t round = 0; !told->done; round++) {
        assert_true(round < 1000);
        if (mailstore_rig_below(thin->rig, 3) == 0) {
            thin_load(thin);
        }
        mailstore_rig_round(thin->rig);
    }
    assert_int_equal(told->status, 0);
}

static void thin_deliver(struct thin *thin)
{
    struct mailstore_place place = {0};
    assert_int_equal(rig_deliver(thin->rig, "ann", "", 1, 100, &place), 0);
    assert_true(thin->count < THIN_MAX);
    thin->flags[thin->count] = 0;
    thin->uids[thin->count++] = place.uid;
}

static struct mailstore_uids thin_range(struct thin *thin)
{
    uint32_t first = mailstore_rig_below(thin->rig, THIN_UIDS);
    uint32_t size = mailstore_rig_below(thin->rig, 4) == 0 ? THIN_UIDS / 4 : 64;
    return (struct mailstore_uids){first + 1, first + 1 + mailstore_rig_below(thin->rig, size)};
}

static void thin_flag(struct thin *thin)
{
    const struct mailstore_uids range = thin_range(thin);
    const uint8_t flags = (uint8_t)(1u << mailstore_rig_below(thin->rig, 4));
    struct mailstore_flags change = {.op = MAILSTORE_ADD,
                                     .uids = &range,
                                     .uid_count = 1,
                                     .flags = flags,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    struct told told;
    assert_int_equal(mailstore_flags(thin->rig->store, thin_box(thin), &change, told_init(&told)),
                     0);
    thin_wait(thin, &told);
    free(change.failed);
    for (uint32_t i = 0; i < thin->count; i++) {
        bool in = thin->uids[i] >= range.first && thin->uids[i] <= range.last;
        thin->flags[i] |= in ? flags & (uint32_t)MAILSTORE_FLAGS_ALL : 0;
    }
}

static void thin_expunge(struct thin *thin)
{
    struct mailstore_uids range = thin_range(thin);
    range.last = range.last > range.first + 256 ? range.first + 256 : range.last;
    struct mailstore_expunge expunge = {.uids = &range, .uid_count = 1};
    struct told told;
    uint32_t kept = 0;
    assert_int_equal(
        mailstore_expunge(thin->rig->store, thin_box(thin), &expunge, told_init(&told)), 0);
    thin_wait(thin, &told);
    for (uint32_t i = 0; i < thin->count; i++) {
        if (thin->uids[i] < range.first || thin->uids[i] > range.last) {
            thin->flags[kept] = thin->flags[i];
            thin->uids[kept++] = thin->uids[i];
        }
    }
    assert_int_equal(expunge.expunged_count, thin->count - kept);
    thin->count = kept;
}

/* It is let go, wherever the loading is. */
static void thin_unload(struct thin *thin)
{
    for (uint32_t i = 0; i < 2; i++) {
        leave(thin->rig, box_of(thin->rig, user_of(thin->rig, i == 0 ? "bob" : "cid"), "INBOX"));
        mailstore_rig_round(thin->rig);
        mailstore_rig_round(thin->rig);
    }
    assert_int_equal(box_private(thin_box(thin))->loading_count, 0);
}

static void thin_restart(struct thin *thin, uint32_t how)
{
    if (how == 0) {
        mailstore_rig_crash(thin->rig);
        assert_int_equal(mailstore_rig_start(thin->rig), 0);
    } else {
        mailstore_user_close(thin->rig->store, thin->user);
        restart(thin->rig, how != 1);
    }
    thin->user = user_of(thin->rig, "ann");
}

static void thin_any(struct thin *thin)
{
    switch (mailstore_rig_below(thin->rig, 16)) {
    case 0:
    case 1:
        thin_deliver(thin);
        return;
    case 2:
    case 3:
        thin_flag(thin);
        return;
    case 4:
        thin_expunge(thin);
        return;
    case 5:
        if (mailstore_rig_below(thin->rig, 4) == 0) {
            thin_restart(thin, mailstore_rig_below(thin->rig, 8));
        }
        return;
    case 6:
        mailstore_rig_round(thin->rig);
        return;
    case 7:
        if (mailstore_rig_below(thin->rig, 4) == 0) {
            thin_check(thin);
        }
        return;
    case 8:
    case 9:
    case 10:
    case 11:
        thin_unload(thin);
        return;
    default:
        thin_load(thin);
        return;
    }
}

static void whatever_comes_between_two_pieces_is_there(void **state)
{
    struct thin *thin = (struct thin *)calloc(1, sizeof(*thin));
    struct mailstore_rig *rig = *state;
    assert_non_null(thin);
    rig->settings.box_idle_max = 1;
    rig->settings.index_changes_max = 2; /* rows move to the file all the time */
    restart(rig, true);
    deliver(rig, "bob", 1);
    deliver(rig, "cid", 1);
    thin_open(thin, rig);
    for (uint32_t i = 0; i < 400; i++) {
        thin_any(thin);
    }
    assert_true(thin->pieces > 50 && thin->loaded_count > 20);
    thin_check(thin);
    mailstore_user_close(rig->store, thin->user);
    free(thin);
    starts_check(rig);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(a_large_copy_is_done_in_parts_and_told_at_the_end),
        SCENE(a_large_move_leaves_nothing_behind),
        SCENE(of_a_large_expunge_it_is_told_what_has_gone),
        SCENE(of_a_large_expunge_no_part_is_lost_to_who_saw_another),
        SCENE(a_large_mailbox_is_gone_at_once_and_its_rows_after_it),
        SCENE(what_a_crash_cuts_off_in_the_middle_is_done_whole_by_the_next_start),
        SCENE(a_large_mailbox_is_loaded_in_pieces_and_has_what_comes_between),
        SCENE(who_opens_one_that_is_half_loaded_has_all_of_it),
        SCENE(two_that_are_loaded_where_one_may_stay_are_both_loaded),
        SCENE(one_that_is_loaded_while_others_come_and_go_is_loaded),
        SCENE(a_change_of_one_that_is_not_loaded_loads_it_in_steps),
        SCENE(whatever_comes_between_two_pieces_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
