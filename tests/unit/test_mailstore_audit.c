/* An index against its log while the store runs. */
#include "queue/mailbox/mailstore_audit.h"
#include "queue/log/log_reading.h"
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ── The rig: files, threads ─────────────────────────────────────────────────────────────────── */

struct scene {
    struct mailstore_rig rig; /* first */
    char log_folder[128];
};

/* What is told of an audit; its thread waits while `stops`. */
struct told_audit {
    atomic_bool stops, waits, refuses;
    atomic_uint calls;
    bool done;
    struct mailstore_audit_result result;
    char rows[1024];
};

static int scene_open(void **state)
{
    struct scene *scene = (struct scene *)calloc(1, sizeof *scene);
    struct mailstore_rig *rig = &scene->rig;
    assert_non_null(scene);
    mailstore_rig_open(rig, 5);
    snprintf(scene->log_folder, sizeof scene->log_folder, "%s/log", rig->folder);
    assert_int_equal(mkdir(scene->log_folder, 0700), 0);
    assert_int_equal(disk_open_thread(&rig->real, scene->log_folder), 0);
    rig->rig.disk = rig->rig.settings.disk = rig->real;
    rig->settings.driven = false;
    assert_int_equal(mailstore_rig_start(rig), 0);
    *state = scene;
    return 0;
}

static int scene_close(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct mailstore_rig *rig = &scene->rig;
    char command[256];
    if (rig->store != NULL) {
        mailstore_rig_stop(rig);
    }
    snprintf(command, sizeof command, "rm -r %s", scene->log_folder);
    rig->real->ops->close(rig->real);
    assert_int_equal(system(command), 0);
    mailstore_rig_close(rig);
    assert_int_equal(access(rig->folder, F_OK), -1); /* nothing else was left in it */
    free(scene);
    return 0;
}

static int audit_progress(void *owner, const struct mailstore_audit_progress *progress)
{
    struct told_audit *told = (struct told_audit *)owner;
    (void)progress;
    atomic_fetch_add(&told->calls, 1);
    while (atomic_load(&told->stops)) {
        atomic_store(&told->waits, true);
        usleep(1000);
    }
    return atomic_load(&told->refuses);
}

static void audit_row(void *owner, const struct mailstore_difference *difference)
{
    struct told_audit *told = (struct told_audit *)owner;
    size_t used = strlen(told->rows);
    snprintf(told->rows + used, sizeof told->rows - used, "%s%.*s: %s %c%c", used > 0 ? ", " : "",
             (int)difference->user.size, (const char *)difference->user.bytes, difference->what,
             difference->in_first ? '1' : '-', difference->in_second ? '2' : '-');
}

static void audit_wake(void *owner)
{
    (void)owner;
}

static void audit_done(void *owner, const struct mailstore_audit_result *result)
{
    struct told_audit *told = (struct told_audit *)owner;
    assert_false(told->done);
    told->done = true;
    told->result = *result;
}

static struct mailstore_audit_settings settings_of(struct scene *scene, struct told_audit *told)
{
    return (struct mailstore_audit_settings){.folder = scene->log_folder,
                                             .progress = audit_progress,
                                             .visit = audit_row,
                                             .wake = audit_wake,
                                             .done = audit_done,
                                             .owner = told};
}

static void audit_await(struct scene *scene, const struct told_audit *told)
{
    while (!told->done) {
        mailstore_rig_round(&scene->rig);
    }
}

static void audit_all(struct scene *scene, struct told_audit *told, bool marks)
{
    struct mailstore_audit_settings settings = settings_of(scene, told);
    settings.marks = marks;
    assert_int_equal(mailstore_audit_begin(scene->rig.store, &settings), 0);
    audit_await(scene, told);
}

/* It has begun to read, and waits there. */
static void audit_until_it_reads(struct scene *scene, struct told_audit *told)
{
    struct mailstore_audit_settings settings = settings_of(scene, told);
    atomic_store(&told->stops, true);
    assert_int_equal(mailstore_audit_begin(scene->rig.store, &settings), 0);
    while (!atomic_load(&told->waits)) {
        assert_false(told->done);
        mailstore_rig_round(&scene->rig);
    }
}

static bool is_there(const struct scene *scene, const char *end)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", scene->rig.index, end);
    return access(name, F_OK) == 0;
}

/* More than the audit reads between two words. */
static void mail_fill(struct scene *scene, uint32_t count)
{
    struct mailstore_place place = {0};
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(
            rig_deliver(&scene->rig, i % 2 == 0 ? "ann" : "bob", "", i + 1, 200000, &place), 0);
    }
}

static void expunge_all(struct scene *scene, const char *name)
{
    struct mailstore_rig *rig = &scene->rig;
    struct mailstore_box *box = box_of(rig, user_of(rig, name), "INBOX");
    assert_int_equal(expunge(rig, box, 1, UINT32_MAX), 0);
    leave(rig, box);
}

/* Puts a row into the index of a store that is closed, or takes it away (value: NULL). */
static void row_change(const struct scene *scene, const struct key *key, const char *value)
{
    struct mailstore_settings settings = scene->rig.settings;
    struct index *index;
    bool damaged = false;
    settings.driven = true;
    assert_int_equal(index_open(&index, &settings, &damaged), 0);
    assert_int_equal(value != NULL ? index_put(index, key_slice(key), slice_text(value))
                                   : index_remove(index, key_slice(key)),
                     0);
    assert_int_equal(index_write(index), 0);
    assert_true(index_wait(index) >= 0);
    index_close(index);
}

static void again(struct scene *scene)
{
    mailstore_rig_stop(&scene->rig);
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
}

/* ── What it finds ───────────────────────────────────────────────────────────────────────────── */

static void an_index_that_changes_meanwhile_is_as_its_log_says(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct mailstore_rig *rig = &scene->rig;
    rig->settings.clean_bytes_min = 1;
    again(scene);
    mail_fill(scene, 60);
    for (uint32_t turn = 0; turn < 4; turn++) {
        struct told_audit told = {.done = false};
        struct mailstore_audit_settings settings = settings_of(scene, &told);
        uint32_t changes = 0;
        assert_int_equal(mailstore_audit_begin(rig->store, &settings), 0);
        assert_int_equal(mailstore_audit_begin(rig->store, &settings), -EBUSY);
        while (!told.done || changes < 20) {
            struct mailstore_flags flags = {.flags = MAILSTORE_FLAGGED,
                                            .op =
                                                changes % 2 == 0 ? MAILSTORE_ADD : MAILSTORE_REMOVE,
                                            .unchanged_since = MAILSTORE_ALWAYS};
            deliver(rig, changes % 3 == 0 ? "ann" : "bob", 1);
            struct mailstore_box *box = box_of(rig, user_of(rig, "bob"), "INBOX");
            assert_int_equal(flag(rig, box, 1 + changes, 30 + changes, &flags), 0);
            assert_int_equal(expunge(rig, box, changes + turn * 7, changes + turn * 7), 0);
            leave(rig, box);
            changes++;
        }
        assert_int_equal(told.result.status, 0);
        assert_string_equal(told.rows, "");
        assert_int_equal(told.result.users, 2);
        assert_int_equal(told.result.damaged_bytes, 0);
        assert_true(told.result.log_bytes > 30 * 200000);
        assert_true(atomic_load(&told.calls) > 4);
        assert_false(is_there(scene, ".check"));
        assert_false(is_there(scene, ".check.owner"));
    }
}

/* While somebody reads a text that nobody has any more, there are rows of it. */
static void a_text_that_is_still_read_is_no_difference(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct mailstore_rig *rig = &scene->rig;
    struct told_audit told = {.done = false};
    struct mailstore_text text = {0};
    deliver(rig, "ann", 3);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(mailstore_text_open(rig->store, box->entries[0].text, &text), 0);
    leave(rig, box);
    expunge_all(scene, "ann");
    audit_all(scene, &told, true);
    assert_int_equal(told.result.status, 0);
    assert_string_equal(told.rows, "");
    assert_false(told.result.marked);
    mailstore_text_close(rig->store, &text);
}

static void rows_spoil(struct scene *scene)
{
    struct mailstore_rig *rig = &scene->rig;
    struct key key;
    struct mailstore_box *box = box_of(rig, user_of(rig, "bob"), "INBOX");
    uint64_t user = box_private(box)->user->pub.id, id = box->id;
    leave(rig, box);
    mailstore_rig_stop(rig);
    key_begin(&key, ROW_VANISHED);
    key_u64(&key, id);
    key_u64(&key, 1);
    key_u32(&key, 1);
    row_change(scene, &key, "1234");
    key_begin(&key, ROW_SUBSCRIBED);
    key_u64(&key, user);
    key_text(&key, slice_text("x"));
    row_change(scene, &key, "");
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 0);
}

static void rows_that_differ_are_told_with_their_user(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct told_audit told = {.done = false};
    mail_fill(scene, 6);
    rows_spoil(scene);
    audit_all(scene, &told, false);
    assert_int_equal(told.result.status, 0);
    assert_string_equal(told.rows, "bob: subscription 1-, bob: what was expunged 1-");
    assert_int_equal(told.result.differences, 2);
    assert_false(told.result.marked);
    again(scene);
    assert_int_equal(mailstore_counters(scene->rig.store)->rebuilds, 0);
}

static void
a_store_that_is_marked_is_built_by_the_next_start_and_not_by_the_one_behind(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct told_audit first = {.done = false}, second = {.done = false};
    mail_fill(scene, 6);
    rows_spoil(scene);
    audit_all(scene, &first, true);
    assert_true(first.result.marked);
    assert_true(is_there(scene, ".stale"));
    deliver(&scene->rig, "ann", 2);
    again(scene);
    assert_int_equal(mailstore_counters(scene->rig.store)->rebuilds, 1);
    assert_false(is_there(scene, ".stale"));
    audit_all(scene, &second, true);
    assert_int_equal(second.result.status, 0);
    assert_string_equal(second.rows, "");
    again(scene);
    assert_int_equal(mailstore_counters(scene->rig.store)->rebuilds, 0);
}

/* ── What is kept for it ─────────────────────────────────────────────────────────────────────── */

static void no_segment_is_freed_while_the_log_is_read(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct mailstore_rig *rig = &scene->rig;
    struct told_audit told = {.done = false};
    rig->settings.clean_bytes_min = 1;
    again(scene);
    mail_fill(scene, 60);
    uint32_t head = log_head_sequence(rig->rig.log);
    audit_until_it_reads(scene, &told);
    uint32_t last = log_current_sequence(rig->rig.log);
    expunge_all(scene, "ann");
    expunge_all(scene, "bob");
    deliver(rig, "ann", 30);
    for (int i = 0; i < 300; i++) {
        mailstore_rig_round(rig);
    }
    for (uint32_t sequence = head; sequence < last; sequence++) {
        assert_non_null(log_segment_live(rig->rig.log, sequence));
    }
    assert_int_equal(mailstore_counters(rig->store)->segments_cleaned, 0);
    atomic_store(&told.stops, false);
    audit_await(scene, &told);
    assert_int_equal(told.result.status, 0);
    assert_string_equal(told.rows, "");
    while (mailstore_counters(rig->store)->segments_cleaned < 3) {
        mailstore_rig_round(rig);
    }
}

static void an_audit_gives_way_when_space_becomes_short_and_no_mail_is_refused(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct mailstore_rig *rig = &scene->rig;
    struct told_audit told = {.done = false};
    struct mailstore_place place = {0};
    rig->rig.settings.segment_count_max = 18;
    rig->settings.clean_bytes_min = 1;
    again(scene);
    mail_fill(scene, 120);
    audit_until_it_reads(scene, &told);
    expunge_all(scene, "ann");
    expunge_all(scene, "bob");
    for (uint32_t i = 0; i < 100; i++) { /* 24 MB lie in 36, and 20 come */
        assert_int_equal(rig_deliver(rig, "cat", "", i, 200000, &place), 0);
    }
    assert_true(mailstore_counters(rig->store)->segments_cleaned > 5);
    assert_false(told.done); /* its thread has not noticed */
    atomic_store(&told.stops, false);
    audit_await(scene, &told);
    assert_int_equal(told.result.status, -ENOSPC);
    struct told_audit other = {.done = false};
    audit_all(scene, &other, false);
    assert_int_equal(other.result.status, 0);
    assert_string_equal(other.rows, "");
}

/* ── Its end ─────────────────────────────────────────────────────────────────────────────────── */

static void who_asks_may_have_enough_of_it(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct told_audit told = {.done = false}, other = {.done = false};
    mail_fill(scene, 20);
    atomic_store(&told.refuses, true);
    audit_all(scene, &told, true);
    assert_int_equal(told.result.status, -ECANCELED);
    assert_false(is_there(scene, ".check"));
    audit_until_it_reads(scene, &other);
    mailstore_audit_cancel(scene->rig.store);
    atomic_store(&other.stops, false);
    audit_await(scene, &other);
    assert_int_equal(other.result.status, -ECANCELED);
    assert_false(is_there(scene, ".check"));
}

static void too_many_changes_for_the_memory_are_told(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct told_audit told = {.done = false};
    struct mailstore_audit_settings settings = settings_of(scene, &told);
    deliver(&scene->rig, "ann", 30);
    settings.memory_bytes = 2000;
    assert_int_equal(mailstore_audit_begin(scene->rig.store, &settings), 0);
    audit_await(scene, &told);
    assert_int_equal(told.result.status, -E2BIG);
}

static void a_store_that_comes_to_rest_ends_it(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct told_audit told = {.done = false};
    mail_fill(scene, 20);
    audit_until_it_reads(scene, &told);
    mailstore_rest(scene->rig.store);
    mailstore_rig_round(&scene->rig);
    assert_false(mailstore_is_quiet(scene->rig.store));
    atomic_store(&told.stops, false);
    mailstore_rig_stop(&scene->rig);
    assert_true(told.done);
    assert_int_equal(told.result.status, -ECANCELED);
}

static void what_one_has_left_that_was_killed_goes_with_the_next_start(void **state)
{
    static const char *const ends[] = {".check", ".check-lock", ".check.owner"};
    struct scene *scene = (struct scene *)*state;
    mail_fill(scene, 2);
    mailstore_rig_stop(&scene->rig);
    for (size_t i = 0; i < 3; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s%s", scene->rig.index, ends[i]);
        FILE *file = fopen(name, "w");
        assert_non_null(file);
        fputs("half of an index", file);
        fclose(file);
    }
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_false(is_there(scene, ends[i]));
    }
}

/* ── On a disk that lies ─────────────────────────────────────────────────────────────────────── */

static void driven_begin(struct mailstore_rig *rig, struct told_audit *told)
{
    const struct mailstore_audit_settings settings = {.progress = audit_progress,
                                                      .visit = audit_row,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = told};
    assert_int_equal(mailstore_audit_begin(rig->store, &settings), 0);
}

static void a_minute_passes(struct mailstore_rig *rig, const struct told_audit *told)
{
    for (int i = 0; i < 60; i++) {
        assert_false(told->done);
        rig->wall_s++;
        mailstore_rig_round(rig);
    }
}

static void one_that_cannot_begin_is_given_up(void **state)
{
    struct mailstore_rig rig;
    struct told_audit told[3] = {{.done = false}};
    struct log_reading *reading;
    struct told created;
    struct mailstore_create create = {.mailbox = slice_text("more")};
    (void)state;
    mailstore_rig_open(&rig, 8);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    deliver(&rig, "ann", 50);
    /* Its moment does not come: somebody else reads the log. */
    assert_int_equal(log_reading_begin(rig.rig.log, &reading), 0);
    driven_begin(&rig, &told[0]);
    a_minute_passes(&rig, &told[0]);
    assert_int_equal(told[0].result.status, -ETIMEDOUT);
    log_reading_end(rig.rig.log);
    free(reading);
    /* The disk stands. */
    struct mailstore_user *user = user_of(&rig, "ann");
    disk_fault_hold(rig.rig.fault, true);
    assert_int_equal(mailstore_box_create(rig.store, user, &create, told_init(&created)), 0);
    driven_begin(&rig, &told[1]);
    a_minute_passes(&rig, &told[1]);
    assert_int_equal(told[1].result.status, -ETIMEDOUT);
    disk_fault_hold(rig.rig.fault, false);
    assert_int_equal(told_wait(&rig, &created), 0);
    mailstore_user_close(rig.store, user);
    driven_begin(&rig, &told[2]);
    deliver(&rig, "bob", 5);
    assert_true(told[2].done);
    assert_int_equal(told[2].result.status, 0);
    assert_string_equal(told[2].rows, "");
    mailstore_rig_stop(&rig);
    mailstore_rig_close(&rig);
}

static void a_driven_store_reads_by_itself(void **state)
{
    struct mailstore_rig rig;
    struct told_audit told = {.done = false};
    (void)state;
    mailstore_rig_open(&rig, 8);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    deliver(&rig, "ann", 50);
    driven_begin(&rig, &told);
    deliver(&rig, "bob", 5);
    assert_true(told.done);
    assert_int_equal(told.result.status, 0);
    assert_string_equal(told.rows, "");
    mailstore_rig_stop(&rig);
    mailstore_rig_close(&rig);
}

/* The service gives it up when all has been read: what was read last may have been freed meanwhile. */
struct given_up {
    struct told_audit told; /* first */
    struct mailstore *store;
};

static int give_up_at_the_end(void *owner, const struct mailstore_audit_progress *progress)
{
    const struct given_up *given_up = (const struct given_up *)owner;
    if (progress->step == MAILSTORE_AUDIT_BUILDS) {
        mailstore_audit_cancel(given_up->store);
    }
    return 0;
}

static void a_store_is_not_marked_by_an_audit_that_was_given_up(void **state)
{
    struct mailstore_rig rig;
    struct given_up given_up = {.told = {.done = false}};
    struct key key;
    struct scene scene;
    (void)state;
    mailstore_rig_open(&rig, 8);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    deliver(&rig, "ann", 5);
    mailstore_rig_stop(&rig);
    key_begin(&key, ROW_SUBSCRIBED);
    key_u64(&key, 1);
    key_text(&key, slice_text("x"));
    scene.rig = rig;
    scene.rig.settings.index_path = rig.index;
    row_change(&scene, &key, "");
    assert_int_equal(mailstore_rig_start(&rig), 0);
    given_up.store = rig.store;
    const struct mailstore_audit_settings settings = {.marks = true,
                                                      .progress = give_up_at_the_end,
                                                      .visit = audit_row,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = &given_up};
    assert_int_equal(mailstore_audit_begin(rig.store, &settings), 0);
    deliver(&rig, "bob", 5);
    assert_true(given_up.told.done);
    assert_int_equal(given_up.told.result.status, -ECANCELED);
    assert_int_equal(given_up.told.result.differences, 1);
    assert_false(given_up.told.result.marked);
    assert_false(index_is_marked(&rig.store->settings));
    mailstore_rig_stop(&rig);
    mailstore_rig_close(&rig);
}

/* A block went bad between the mark and the next start: the index knows what the log cannot say. */
static void a_marked_store_whose_log_cannot_be_read_keeps_its_index(void **state)
{
    struct mailstore_rig rig;
    char name[128];
    (void)state;
    mailstore_rig_open(&rig, 8);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    deliver(&rig, "ann", 2000);
    mailstore_rig_stop(&rig);
    snprintf(name, sizeof name, "%s.stale", rig.index);
    int mark = open(name, O_CREAT | O_WRONLY, 0600);
    assert_true(mark >= 0);
    close(mark);
    snprintf(name, sizeof name, "%u/%08u.segment", rig.rig.settings.shard, 1u);
    disk_fault_refuse_reads(rig.rig.fault, name, 100ull * 4096, 1);
    assert_int_equal(mailstore_rig_start(&rig), -EIO);
    log_rig_crash(&rig.rig);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    assert_int_equal(mailstore_counters(rig.store)->rebuilds, 0);
    struct mailstore_box *box = box_of(&rig, user_of(&rig, "ann"), "INBOX");
    assert_int_equal(box->count, 2000);
    leave(&rig, box);
    mailstore_rig_stop(&rig);
    snprintf(name, sizeof name, "%s.kept", rig.index);
    assert_int_equal(access(name, F_OK), -1);
    mark = open(name, O_CREAT | O_WRONLY, 0600); /* left by a start that was killed */
    assert_true(mark >= 0);
    close(mark);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    assert_int_equal(access(name, F_OK), -1);
    mailstore_rig_stop(&rig);
    mailstore_rig_close(&rig);
}

/* A bit went bad between the mark and the next start. */
static void a_marked_store_whose_log_is_damaged_keeps_its_index(void **state)
{
    struct mailstore_rig rig;
    char name[128];
    uint64_t bytes;
    (void)state;
    mailstore_rig_open(&rig, 8);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    deliver(&rig, "ann", 2000);
    mailstore_rig_stop(&rig);
    snprintf(name, sizeof name, "%s.stale", rig.index);
    int mark = open(name, O_CREAT | O_WRONLY, 0600);
    assert_true(mark >= 0);
    close(mark);
    snprintf(name, sizeof name, "%u/%08u.segment", rig.rig.settings.shard, 1u);
    disk_fault_bytes(rig.rig.fault, name, &bytes)[100 * 4096 + 500] ^= 1;
    assert_int_equal(mailstore_rig_start(&rig), -EBADMSG);
    log_rig_crash(&rig.rig);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    assert_int_equal(mailstore_counters(rig.store)->rebuilds, 0);
    assert_false(index_is_marked(&rig.store->settings));
    struct mailstore_box *box = box_of(&rig, user_of(&rig, "ann"), "INBOX");
    assert_int_equal(box->count, 2000);
    leave(&rig, box);
    mailstore_rig_stop(&rig);
    snprintf(name, sizeof name, "%s.kept", rig.index);
    assert_int_equal(access(name, F_OK), -1);
    mailstore_rig_close(&rig);
}

int main(void)
{
#define WITH_SCENE(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        WITH_SCENE(an_index_that_changes_meanwhile_is_as_its_log_says),
        WITH_SCENE(a_text_that_is_still_read_is_no_difference),
        WITH_SCENE(rows_that_differ_are_told_with_their_user),
        WITH_SCENE(a_store_that_is_marked_is_built_by_the_next_start_and_not_by_the_one_behind),
        WITH_SCENE(no_segment_is_freed_while_the_log_is_read),
        WITH_SCENE(an_audit_gives_way_when_space_becomes_short_and_no_mail_is_refused),
        WITH_SCENE(who_asks_may_have_enough_of_it),
        WITH_SCENE(too_many_changes_for_the_memory_are_told),
        WITH_SCENE(a_store_that_comes_to_rest_ends_it),
        WITH_SCENE(what_one_has_left_that_was_killed_goes_with_the_next_start),
        cmocka_unit_test(a_driven_store_reads_by_itself),
        cmocka_unit_test(one_that_cannot_begin_is_given_up),
        cmocka_unit_test(a_store_is_not_marked_by_an_audit_that_was_given_up),
        cmocka_unit_test(a_marked_store_whose_log_cannot_be_read_keeps_its_index),
        cmocka_unit_test(a_marked_store_whose_log_is_damaged_keeps_its_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
