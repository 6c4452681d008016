/*
 * Memory is short while a change is done that is durable already. Whatever it is, and whichever piece of memory is missing:
 * who was told that it failed never finds it, who was told that it is done finds it, and who was told nothing finds it after
 * the next start.
 */
#include "queue/mailbox/mailstore_audit.h"
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* The linker puts these in place of the heap's (Makefile). */
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool armed;
static uint32_t left; /* so many are answered yet, then one is not */
static bool refused;

static bool is_refused(void)
{
    if (!armed || refused || left-- > 0) {
        return false;
    }
    refused = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_refused() ? NULL : __real_realloc(memory, size);
}

/* ── What is changed ─────────────────────────────────────────────────────────────────────────── */

#define LETTERS 34u

struct asked { /* lives until its waiter has run, or the store is closed */
    struct told told;
    struct mailstore_user *user;
    struct mailstore_box *box;
    struct mailstore_place place;
    struct mailstore_flags flags;
    struct mailstore_copy copy;
    struct mailstore_expunge expunge;
    struct mailstore_create create;
    struct mailstore_restore restore;
    struct mailstore_property property;
};
typedef int ask(struct mailstore_rig *rig, struct asked *asked);

static const struct mailstore_uids ranges[] = {{3, 4}, {31, 33}};
static const struct slice keywords[] = {{(const uint8_t *)"k1", 2}, {(const uint8_t *)"k2", 2}};

static int delivers(struct mailstore_rig *rig, struct asked *asked)
{
    struct mailstore_draft *draft;
    struct slice part = slice_text("Subject: a\r\n\r\nb\r\n");
    asked->place = (struct mailstore_place){.user = slice_text("cid"),
                                            .mailbox = slice_text("new"),
                                            .options = MAILSTORE_AUTOCREATE | MAILSTORE_SUBSCRIBE,
                                            .keywords = keywords,
                                            .keyword_count = 2};
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &part, 1), 0);
    return mailstore_commit(draft, 0, &asked->place, 1, &asked->told.waiter);
}

static int flags(struct mailstore_rig *rig, struct asked *asked)
{
    asked->flags = (struct mailstore_flags){.uids = ranges,
                                            .uid_count = 2,
                                            .op = MAILSTORE_ADD,
                                            .flags = MAILSTORE_SEEN,
                                            .keywords = keywords,
                                            .keyword_count = 2,
                                            .unchanged_since = 33};
    return mailstore_flags(rig->store, asked->box, &asked->flags, &asked->told.waiter);
}

static int expunges(struct mailstore_rig *rig, struct asked *asked)
{
    asked->expunge = (struct mailstore_expunge){.uids = ranges, .uid_count = 2};
    return mailstore_expunge(rig->store, asked->box, &asked->expunge, &asked->told.waiter);
}

static int copies(struct mailstore_rig *rig, struct asked *asked)
{
    asked->copy = (struct mailstore_copy){
        .uids = ranges, .uid_count = 2, .user = slice_text("bob"), .mailbox = slice_text("INBOX")};
    return mailstore_copy(rig->store, asked->box, &asked->copy, &asked->told.waiter);
}

static int moves(struct mailstore_rig *rig, struct asked *asked)
{
    asked->copy = (struct mailstore_copy){.uids = ranges,
                                          .uid_count = 2,
                                          .mailbox = slice_text("moved"),
                                          .options = MAILSTORE_AUTOCREATE};
    return mailstore_move(rig->store, asked->box, &asked->copy, &asked->told.waiter);
}

static int restores(struct mailstore_rig *rig, struct asked *asked)
{
    asked->restore = (struct mailstore_restore){.uids = ranges, .uid_count = 2};
    return mailstore_restore(rig->store, asked->box, &asked->restore, &asked->told.waiter);
}

static int creates(struct mailstore_rig *rig, struct asked *asked)
{
    asked->create = (struct mailstore_create){.mailbox = slice_text("b"), .subscribe = true};
    return mailstore_box_create(rig->store, asked->user, &asked->create, &asked->told.waiter);
}

static int renames(struct mailstore_rig *rig, struct asked *asked)
{
    struct mailstore_box *box = mailstore_box_find(asked->user, slice_text("a"));
    return mailstore_box_rename(rig->store, box, slice_text("c"), &asked->told.waiter);
}

static int empties_inbox(struct mailstore_rig *rig, struct asked *asked)
{
    return mailstore_box_rename(rig->store, asked->box, slice_text("old"), &asked->told.waiter);
}

static int deletes(struct mailstore_rig *rig, struct asked *asked)
{
    struct mailstore_box *box = mailstore_box_find(asked->user, slice_text("a"));
    return mailstore_box_delete(rig->store, box, &asked->told.waiter);
}

static int notes(struct mailstore_rig *rig, struct asked *asked)
{
    asked->property =
        (struct mailstore_property){.key = slice_text("acl"), .value = slice_text("x")};
    return mailstore_property_set(rig->store, asked->user, &asked->property, &asked->told.waiter);
}

static int annotates(struct mailstore_rig *rig, struct asked *asked)
{
    static const struct mailstore_property_family family = {.count_max = 2};
    const struct mailstore_property_change changes[] = {
        {MAILSTORE_PROPERTY_SET, slice_text(MAILSTORE_SHARE_KEY "bob"), slice_text("x")},
        {MAILSTORE_PROPERTY_INCLUDE, slice_text("b"), slice_text("y")}};
    const struct mailstore_properties properties = {.box = asked->box,
                                                    .changes = changes,
                                                    .change_count = 2,
                                                    .families = &family,
                                                    .family_count = 1};
    return mailstore_properties_set(rig->store, asked->user, &properties, &asked->told.waiter);
}

static int deletes_user(struct mailstore_rig *rig, struct asked *asked)
{
    return mailstore_user_delete(rig->store, asked->user, &asked->told.waiter);
}

/* ── One of them, with one piece of memory too few ───────────────────────────────────────────── */

/* INBOX of 40 messages, of which two were expunged and are kept, and a mailbox "a" with copies of some. */
static void rig_make(struct mailstore_rig *rig, struct asked *asked)
{
    struct mailstore_copy some = {.uids = &ranges[0], .uid_count = 1, .mailbox = slice_text("a")};
    struct told told;
    mailstore_rig_open(rig, 5);
    rig->rig.fault_settings.late_percent = 0;
    disk_fault_set(rig->rig.fault, &rig->rig.fault_settings);
    rig->settings.keep_expunged_s = 3600;
    assert_int_equal(mailstore_rig_start(rig), 0);
    deliver(rig, "ann", LETTERS);
    deliver(rig, "bob", 1);
    *asked = (struct asked){.user = user_of(rig, "ann")};
    asked->box = box_of(rig, asked->user, "INBOX");
    assert_int_equal(create(rig, asked->user, "a"), 0);
    assert_int_equal(mailstore_copy(rig->store, asked->box, &some, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    free(some.sources);
    assert_int_equal(expunge(rig, asked->box, 31, 32), 0);
    told_init(&asked->told);
}

/* Memory is short while what the disk reports is worked on, and not else. */
static void round_run(struct mailstore_rig *rig)
{
    armed = true;
    rig->rig.disk->ops->reap(rig->rig.disk);
    armed = false;
    mailstore_rig_round(rig);
}

static char *dump_after_crash(struct mailstore_rig *rig, struct asked *asked, bool keeps_index)
{
    free(asked->flags.failed);
    free(asked->copy.sources);
    leave(rig, asked->box);
    mailstore_rig_crash(rig);
    if (!keeps_index) {
        mailstore_rig_forget_index(rig);
    }
    assert_int_equal(mailstore_rig_start(rig), 0);
    return rig_dump(rig);
}

/* As it is when `does` was not asked for (NULL), or was done. */
static char *reference(ask *does)
{
    struct mailstore_rig rig;
    struct asked asked;
    rig_make(&rig, &asked);
    if (does != NULL) {
        assert_int_equal(does(&rig, &asked), 0);
        assert_int_equal(told_wait(&rig, &asked.told), 0);
    }
    char *dump = dump_after_crash(&rig, &asked, true);
    mailstore_rig_close(&rig);
    return dump;
}

/* Returns whether that piece was asked for. */
static bool once(ask *does, uint32_t piece, const char *before, const char *done)
{
    struct mailstore_rig rig;
    struct asked asked;
    struct told other;
    rig_make(&rig, &asked);
    left = piece;
    refused = false;
    assert_int_equal(does(&rig, &asked), 0);
    for (int i = 0; i < 200 && !asked.told.done; i++) {
        round_run(&rig);
    }
    if (!asked.told.done) { /* nobody can say more than the next start */
        assert_int_equal(mailstore_state(rig.store), -ENOMEM);
        assert_int_equal(
            mailstore_subscribe(rig.store, asked.user, slice_text("z"), true, told_init(&other)),
            -ENOMEM);
    }
    bool happened = !asked.told.done || asked.told.status == 0;
    char *after = dump_after_crash(&rig, &asked, piece % 2 == 0);
    assert_string_equal(after, happened ? done : before);
    free(after);
    mailstore_rig_close(&rig);
    return refused;
}

static void every_piece_of_memory_may_be_missing_while_a_durable_change_is_done(void **state)
{
    static ask *const all[] = {delivers, flags,     expunges,    copies,        moves,
                               restores, creates,   renames,     empties_inbox, deletes,
                               notes,    annotates, deletes_user};
    uint32_t pieces = 0;
    char *before = reference(NULL);
    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char *done = reference(all[i]);
        assert_string_not_equal(before, done);
        for (uint32_t piece = 0; once(all[i], piece, before, done); piece++) {
            pieces++;
        }
        free(done);
    }
    assert_true(pieces > 100);
    free(before);
}

/* ── The index against its log ───────────────────────────────────────────────────────────────── */

struct told_audit {
    bool done;
    struct mailstore_audit_result result;
};

static int audit_progress(void *owner, const struct mailstore_audit_progress *progress)
{
    (void)owner, (void)progress;
    return 0;
}

static void audit_row(void *owner, const struct mailstore_difference *difference)
{
    (void)owner;
    fail_msg("a row differs: %s", difference->what);
}

static void audit_wake(void *owner)
{
    (void)owner;
}

static void audit_done(void *owner, const struct mailstore_audit_result *result)
{
    struct told_audit *told = (struct told_audit *)owner;
    told->done = true;
    told->result = *result;
}

/* The disk's own memory is never missing. */
static const struct disk_ops *real_ops;

static int disk_read(struct disk *disk, int file, void *block, size_t bytes, uint64_t offset,
                     struct disk_done *done)
{
    bool was_armed = armed;
    armed = false;
    int status = real_ops->read(disk, file, block, bytes, offset, done);
    armed = was_armed;
    return status;
}

static int disk_write(struct disk *disk, int file, const void *block, size_t bytes, uint64_t offset,
                      uint32_t flags, struct disk_done *done)
{
    bool was_armed = armed;
    armed = false;
    int status = real_ops->write(disk, file, block, bytes, offset, flags, done);
    armed = was_armed;
    return status;
}

static int disk_space(struct disk *disk, struct disk_space *space, struct disk_done *done)
{
    bool was_armed = armed;
    armed = false;
    int status = real_ops->space(disk, space, done);
    armed = was_armed;
    return status;
}

/* Returns whether that piece was asked for. */
static bool audit_once(uint32_t piece)
{
    struct mailstore_rig rig;
    struct asked asked;
    struct told_audit told = {.done = false};
    const struct mailstore_audit_settings settings = {.progress = audit_progress,
                                                      .visit = audit_row,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = &told};
    rig_make(&rig, &asked);
    real_ops = rig.rig.disk->ops;
    struct disk_ops ops = *real_ops;
    ops.read = disk_read;
    ops.write = disk_write;
    ops.space = disk_space;
    rig.rig.disk->ops = &ops;
    left = piece;
    refused = false;
    armed = true;
    int status = mailstore_audit_begin(rig.store, &settings);
    armed = false;
    assert_true(status == 0 || (status == -ENOMEM && refused));
    for (int i = 0; i < 200 && status == 0 && !told.done; i++) {
        armed = true;
        mailstore_rig_round(&rig);
        armed = false;
    }
    assert_true(told.done || status != 0);
    assert_true(told.result.status == 0 || (told.result.status == -ENOMEM && refused));
    rig.rig.disk->ops = real_ops;
    mailstore_rig_close(&rig);
    return refused;
}

static void every_piece_of_memory_may_be_missing_while_the_index_is_checked(void **state)
{
    uint32_t pieces = 0;
    (void)state;
    while (audit_once(pieces)) {
        pieces++;
    }
    assert_true(pieces > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_of_memory_may_be_missing_while_a_durable_change_is_done),
        cmocka_unit_test(every_piece_of_memory_may_be_missing_while_the_index_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
