/* The mailbox store on Maildirs that others change too. Files are real; the log's disk loses what it may at a crash. */
#include "engine/core/check.h"
#include "queue/mailbox/maildir_lock.h"
#include "tests/unit/mailstore_rig.h"
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    struct mailstore_rig rig;
    char path[64], staging[96];
    struct maildir_files files;
    struct world world;
    struct maildir_owner owner;
    struct mailstore_maildirs maildirs;
    struct mailstore_user *user;
    uint64_t random;
    bool crowded;   /* there are more users than files are kept open for */
    unsigned lists; /* of folders */
};

static uint64_t now_ns(void *self)
{
    return ((struct fixture *)self)->rig.rig.now_ns;
}

static int64_t wall_s(void *self)
{
    return (int64_t)((struct fixture *)self)->rig.wall_s;
}

static void random_bytes(void *self, void *bytes, size_t count)
{
    struct fixture *fixture = self;
    memset(bytes, (int)(++fixture->random & 0xff), count);
}

static void nobody_wakes(void *owner)
{
    (void)owner;
}

static int list_counting(void *self, int folder, void (*visit)(void *owner, const char *name),
                         void *owner)
{
    struct fixture *fixture = self;
    struct maildir_files files;
    maildir_system_files(&files);
    fixture->lists++;
    return files.list(NULL, folder, visit, owner);
}

static void another_looks(struct fixture *fixture)
{
    struct mailstore_user *another;
    struct told told;
    assert_int_equal(mailstore_user_open(fixture->rig.store, slice_text("zoe"), &another), 0);
    assert_int_equal(mailstore_refresh(fixture->rig.store, another, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    mailstore_user_close(fixture->rig.store, another);
}

static void user_open(struct fixture *fixture)
{
    assert_int_equal(mailstore_rig_start(&fixture->rig), 0);
    if (fixture->crowded) {
        another_looks(fixture);
    }
    assert_int_equal(mailstore_user_open(fixture->rig.store, slice_text("ann"), &fixture->user), 0);
}

static int fixture_open(void **state, bool crowded)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    fixture->crowded = crowded;
    mailstore_rig_open(&fixture->rig, 1);
    strcpy(fixture->path, "/tmp/tubepost-homes-XXXXXX");
    check(mkdtemp(fixture->path) != NULL);
    snprintf(fixture->staging, sizeof fixture->staging, "%s/.tmp", fixture->path);
    maildir_system_files(&fixture->files);
    fixture->files.self = fixture;
    fixture->files.list = list_counting;
    fixture->world = (struct world){now_ns, wall_s, random_bytes, fixture};
    fixture->owner = (struct maildir_owner){&fixture->files, &fixture->world, "host.test", 77, 1};
    fixture->maildirs = (struct mailstore_maildirs){.path = fixture->path,
                                                    .staging = fixture->staging,
                                                    .owner = &fixture->owner,
                                                    .open_users_max = 1,
                                                    .wake = nobody_wakes};
    fixture->rig.settings.maildirs = &fixture->maildirs;
    user_open(fixture);
    *state = fixture;
    return 0;
}

static int set_up(void **state)
{
    return fixture_open(state, false);
}

static int set_up_crowded(void **state)
{
    return fixture_open(state, true);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status, (void)type, (void)at;
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    mailstore_rig_close(&fixture->rig);
    nftw(fixture->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* ---- The others ---- */

static void at(const struct fixture *fixture, const char *name, char path[512])
{
    snprintf(path, 512, "%s/ann/%s", fixture->path, name);
}

static void put(const struct fixture *fixture, const char *name, const char *text)
{
    char path[512];
    at(fixture, name, path);
    FILE *file = fopen(path, "wx");
    check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void folder(const struct fixture *fixture, const char *name)
{
    static const char *const parts[] = {"", "/cur", "/new", "/tmp"};
    char path[512], part[300];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s%s", name, parts[i]);
        at(fixture, part, path);
        check(mkdir(path, 0700) == 0 || errno == EEXIST);
    }
}

static void move(const struct fixture *fixture, const char *from, const char *to)
{
    char one[512], other[512];
    at(fixture, from, one);
    at(fixture, to, other);
    check(rename(one, other) == 0);
}

static void take(const struct fixture *fixture, const char *name)
{
    char path[512];
    at(fixture, name, path);
    check(unlink(path) == 0);
}

static bool is_there(const struct fixture *fixture, const char *pattern)
{
    char path[512];
    glob_t found;
    at(fixture, pattern, path);
    bool is = glob(path, 0, NULL, &found) == 0;
    if (is) {
        globfree(&found);
    }
    return is;
}

/* ---- What the store has ---- */

static void look(struct fixture *fixture)
{
    struct told told;
    assert_int_equal(mailstore_refresh(fixture->rig.store, fixture->user, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

static struct mailstore_box *box_of(struct fixture *fixture, const char *name)
{
    return mailstore_box_find(fixture->user, slice_text(name));
}

/* "UID:FLAGS:KEYWORDS ..." with flags as a number. */
static void assert_box(struct fixture *fixture, const char *name, const char *expected)
{
    struct mailstore_box *box = box_of(fixture, name);
    char text[512] = "";
    size_t used = 0;
    assert_non_null(box);
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    for (uint32_t i = 0; i < box->count; i++) {
        const struct mailstore_entry *entry = &box->entries[i];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u:%u:", i > 0 ? " " : "",
                                 entry->uid, (unsigned)entry->flags);
        for (uint32_t k = 0; k < box->keyword_count; k++) {
            struct slice keyword = mailstore_keyword(box, k);
            if (entry->keywords & 1ull << k) {
                used += (size_t)snprintf(text + used, sizeof text - used, "%.*s", (int)keyword.size,
                                         (const char *)keyword.bytes);
            }
        }
    }
    mailstore_box_close(fixture->rig.store, box);
    assert_string_equal(text, expected);
}

static void fetched(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

static void assert_text(struct fixture *fixture, const char *name, uint32_t uid,
                        const char *expected)
{
    struct mailstore *store = fixture->rig.store;
    struct mailstore_box *box = box_of(fixture, name);
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = fetched};
    char got[4096] = "";
    assert_int_equal(mailstore_box_open(store, box), 0);
    const struct mailstore_entry *entry = mailstore_entry_find(box, uid);
    assert_non_null(entry);
    assert_int_equal(entry->bytes, strlen(expected));
    assert_int_equal(mailstore_text_open(store, entry->text, &text), 0);
    mailstore_box_close(store, box);
    for (uint32_t at = 0; at < text.bytes;) {
        struct slice part;
        struct ref *owner;
        int status = mailstore_read(store, &text, at, &part, &owner, &fetch);
        if (status == -EINPROGRESS) {
            mailstore_rig_round(&fixture->rig);
            continue;
        }
        assert_int_equal(status, 0);
        memcpy(got + at, part.bytes, part.size);
        at += (uint32_t)part.size;
        ref_drop(owner);
    }
    mailstore_text_close(store, &text);
    assert_string_equal(got, expected);
}

static void flag(struct fixture *fixture, const char *name, uint32_t uid, uint8_t flags,
                 const char *keyword)
{
    const struct mailstore_uids uids = {uid, uid};
    const struct slice keywords = slice_text(keyword);
    struct mailstore_flags change = {.uids = &uids,
                                     .uid_count = 1,
                                     .op = MAILSTORE_ADD,
                                     .flags = flags,
                                     .keywords = &keywords,
                                     .keyword_count = keyword[0] != 0,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    struct told told;
    assert_int_equal(
        mailstore_flags(fixture->rig.store, box_of(fixture, name), &change, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

static void expunge(struct fixture *fixture, const char *name, uint32_t uid)
{
    const struct mailstore_uids uids = {uid, uid};
    struct mailstore_expunge change = {.uids = &uids, .uid_count = 1};
    struct told told;
    assert_int_equal(
        mailstore_expunge(fixture->rig.store, box_of(fixture, name), &change, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

static struct mailstore_place append(struct fixture *fixture, const char *name, struct slice text)
{
    struct mailstore_draft *draft;
    struct mailstore_place place = {.user = slice_text("ann"),
                                    .mailbox = slice_text(name),
                                    .flags = MAILSTORE_SEEN,
                                    .internal_s = 1000000000};
    struct told told;
    assert_int_equal(mailstore_begin(fixture->rig.store, &draft), 0);
    for (size_t i = 0; i < text.size; i++) { /* each byte alone, so that every end is met */
        struct slice byte = slice_of(text.bytes + i, 1);
        assert_int_equal(mailstore_append(draft, &byte, 1), 0);
    }
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(place.status, 0);
    return place;
}

static void start_again(struct fixture *fixture, void (*end)(struct mailstore_rig *rig))
{
    if (end == mailstore_rig_stop) {
        mailstore_user_close(fixture->rig.store, fixture->user);
    }
    end(&fixture->rig);
    user_open(fixture);
}

#define LIST "3 V1234567 N9 G0123456789abcdef0123456789abcdef\n3 :a\n7 W9 :b\n"

/* Two messages of Dovecot's. */
static void inbox_make(struct fixture *fixture)
{
    char path[512];
    at(fixture, "", path);
    check(mkdir(path, 0700) == 0);
    folder(fixture, ".");
    put(fixture, "dovecot-uidlist", LIST);
    put(fixture, "dovecot-keywords", "0 work\n1 home\n");
    put(fixture, "cur/a:2,S", "A\n\nx\n");
    put(fixture, "cur/b:2,Fb", "B\r\n\r\nyy\n");
    look(fixture);
}

/* ---- Tests ---- */

static void what_lies_in_a_maildir_has_its_uids_flags_and_keywords(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    assert_int_equal(box_of(fixture, "INBOX")->uidvalidity, 1234567);
    assert_int_equal(box_of(fixture, "INBOX")->uidnext, 9);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_text(fixture, "INBOX", 3, "A\r\n\r\nx\r\n");
    assert_text(fixture, "INBOX", 7, "B\r\n\r\nyy\r\n");
}

static void what_others_add_flag_and_remove_is_taken_in(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    put(fixture, "new/c", "C\n");
    move(fixture, "cur/a:2,S", "cur/a:2,STa");
    take(fixture, "cur/b:2,Fb");
    look(fixture);
    assert_box(fixture, "INBOX", "3:9:work 9:0:");
    assert_text(fixture, "INBOX", 9, "C\r\n");
}

static void folders_and_subscriptions_of_others_are_mailboxes(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    folder(fixture, ".Sent.2024");
    folder(fixture, ".&AOQ-");
    folder(fixture, "..nothing");
    put(fixture, "subscriptions", "V\t2\n\nSent\t2024\nINBOX\n");
    look(fixture);
    assert_non_null(box_of(fixture, "Sent/2024"));
    assert_non_null(box_of(fixture, "\xc3\xa4"));
    assert_int_equal(fixture->user->totals.boxes, 3);
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("Sent/2024")));
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("INBOX")));
}

static void flags_that_both_have_changed_are_merged(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    const struct mailstore_uids uids = {7, 7};
    struct mailstore_flags change = {.uids = &uids,
                                     .uid_count = 1,
                                     .op = MAILSTORE_REPLACE,
                                     .flags = MAILSTORE_SEEN,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    struct told told;
    mailstore_flags(fixture->rig.store, box_of(fixture, "INBOX"), &change, told_init(&told));
    move(fixture, "cur/b:2,Fb", "cur/b:2,FRab"); /* before ours is in the Maildir */
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    mailstore_rig_settle(&fixture->rig);
    look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:3:work"); /* \Seen, \Answered; without \Flagged, home */
    assert_true(is_there(fixture, "cur/b:2,RSa"));
}

static void flags_and_expunges_are_written_and_keywords_get_letters(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    flag(fixture, "INBOX", 3, MAILSTORE_DELETED, "third");
    expunge(fixture, "INBOX", 7);
    mailstore_rig_settle(&fixture->rig);
    assert_true(is_there(fixture, "cur/a:2,STc"));
    assert_false(is_there(fixture, "cur/b*"));
    look(fixture);
    assert_box(fixture, "INBOX", "3:9:third");
}

static void what_a_crash_came_before_is_written_by_the_next_start(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    fixture->rig.store->rests = true; /* nothing is written by itself */
    const struct mailstore_uids three = {3, 3}, seven = {7, 7};
    struct mailstore_flags flags = {.uids = &three,
                                    .uid_count = 1,
                                    .op = MAILSTORE_ADD,
                                    .flags = MAILSTORE_FLAGGED,
                                    .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_expunge expunge = {.uids = &seven, .uid_count = 1};
    struct told one, other;
    struct mailstore_box *box = box_of(fixture, "INBOX");
    mailstore_flags(fixture->rig.store, box, &flags, told_init(&one));
    mailstore_expunge(fixture->rig.store, box, &expunge, told_init(&other));
    while (!one.done || !other.done) { /* the log's part of a round alone */
        fixture->rig.rig.now_ns += 1000000;
        fixture->rig.rig.disk->ops->reap(fixture->rig.rig.disk);
        log_round(fixture->rig.rig.log, fixture->rig.rig.now_ns);
        log_flush(fixture->rig.rig.log);
        fixture->rig.rig.disk->ops->submit(fixture->rig.rig.disk);
    }
    assert_true(is_there(fixture, "cur/b:2,Fb"));
    start_again(fixture, mailstore_rig_crash);
    assert_box(fixture, "INBOX", "3:5:");
    mailstore_rig_settle(&fixture->rig);
    look(fixture);
    assert_box(fixture, "INBOX", "3:5:");
    assert_true(is_there(fixture, "cur/a:2,FS"));
    assert_false(is_there(fixture, "cur/b*"));
}

static void what_goes_and_comes_back_has_another_uid(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    move(fixture, "cur/a:2,S", "tmp/away");
    look(fixture);
    assert_box(fixture, "INBOX", "7:4:home");
    start_again(fixture, mailstore_rig_stop); /* nobody remembers but the store */
    move(fixture, "tmp/away", "cur/a:2,S");
    look(fixture);
    assert_box(fixture, "INBOX", "7:4:home 9:1:");
    assert_text(fixture, "INBOX", 9, "A\r\n\r\nx\r\n");
}

static void a_list_from_before_gives_no_uid_again(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    put(fixture, "new/c", "C\n");
    look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0:");
    start_again(fixture, mailstore_rig_stop);
    take(fixture, "dovecot-uidlist");
    put(fixture, "dovecot-uidlist", LIST);
    put(fixture, "new/d", "D\n");
    look(fixture);
    struct mailstore_box *box = box_of(fixture, "INBOX");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    for (uint32_t i = 2; i < box->count; i++) {
        assert_true(box->entries[i].uid > 9); /* 9 may be either's, so it is nobody's */
    }
    mailstore_box_close(fixture->rig.store, box);
    assert_int_equal(box->count, 4);
}

static void another_uidvalidity_is_another_mailbox(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    uint64_t id = box_of(fixture, "INBOX")->id;
    take(fixture, "dovecot-uidlist");
    put(fixture, "dovecot-uidlist", "3 V7654321 N3 G0123456789abcdef0123456789abcdef\n2 :b\n");
    look(fixture);
    assert_int_equal(box_of(fixture, "INBOX")->uidvalidity, 7654321);
    assert_true(box_of(fixture, "INBOX")->id != id);
    assert_box(fixture, "INBOX", "2:4:home 3:1:");
}

static void a_folder_that_others_rename_stays_the_mailbox_that_it_was(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    folder(fixture, ".Old");
    put(fixture, ".Old/new/m", "M\n");
    look(fixture);
    uint64_t id = box_of(fixture, "Old")->id, modseq = box_of(fixture, "Old")->modseq;
    move(fixture, ".Old", ".New.er");
    put(fixture, ".New.er/new/n", "N\n");
    look(fixture);
    mailstore_rig_settle(&fixture->rig);
    look(fixture);
    assert_null(box_of(fixture, "Old"));
    assert_int_equal(box_of(fixture, "New/er")->id, id);
    assert_true(box_of(fixture, "New/er")->modseq > modseq);
    assert_box(fixture, "New/er", "1:0: 2:0:");
}

static void a_state_that_was_lost_is_made_again_from_the_maildir(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    flag(fixture, "INBOX", 3, MAILSTORE_DRAFT, "");
    uint64_t modseq = box_of(fixture, "INBOX")->modseq;
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_close(&fixture->rig);
    mailstore_rig_open(&fixture->rig, 2);
    fixture->rig.settings.maildirs = &fixture->maildirs;
    fixture->rig.wall_s += 60;
    user_open(fixture);
    assert_null(box_of(fixture, "INBOX"));
    look(fixture);
    assert_int_equal(box_of(fixture, "INBOX")->uidvalidity, 1234567);
    assert_box(fixture, "INBOX", "3:17: 7:4:home");
    /* Who has seen the old one asks from there, and is not told that nothing has changed. */
    assert_true(box_of(fixture, "INBOX")->modseq > modseq);
    assert_true(box_of(fixture, "INBOX")->modseq_floor > modseq);
}

static void an_index_that_was_lost_is_built_from_the_log(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    append(fixture, "INBOX", slice_text("D\r\n"));
    flag(fixture, "INBOX", 7, MAILSTORE_SEEN, "new");
    mailstore_rig_settle(&fixture->rig);
    expunge(fixture, "INBOX", 3);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    user_open(fixture);
    char *before = rig_dump(&fixture->rig);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    user_open(fixture);
    char *after = rig_dump(&fixture->rig);
    assert_string_equal(after, before);
    free(before);
    free(after);
    assert_text(fixture, "INBOX", 9, "D\r\n");
}

static void a_snapshot_says_where_texts_lie(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    for (int i = 0; i < 3000; i++) { /* so much that a snapshot is less */
        const struct mailstore_uids uids = {3, 3};
        struct mailstore_flags change = {.uids = &uids,
                                         .uid_count = 1,
                                         .op = i % 2 ? MAILSTORE_ADD : MAILSTORE_REMOVE,
                                         .flags = MAILSTORE_DRAFT,
                                         .unchanged_since = MAILSTORE_ALWAYS};
        struct told told;
        assert_int_equal(mailstore_flags(fixture->rig.store, box_of(fixture, "INBOX"), &change,
                                         told_init(&told)),
                         0);
        told_wait(&fixture->rig, &told);
    }
    mailstore_rig_settle(&fixture->rig);
    assert_true(mailstore_counters(fixture->rig.store)->snapshots > 0);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    user_open(fixture);
    assert_text(fixture, "INBOX", 3, "A\r\n\r\nx\r\n");
    assert_text(fixture, "INBOX", 7, "B\r\n\r\nyy\r\n");
}

/* What is appended, as it lies in the file, and as it is read again. */
static void a_message_becomes_a_file_with_plain_line_ends(void **state)
{
    static const struct {
        const char *text, *file, *read;
    } rows[] = {
        {"S: 1\r\n\r\na\r\n", "S: 1\n\na\n", "S: 1\r\n\r\na\r\n"},
        {"no end", "no end", "no end"},
        {"lone\nlf", "lone\nlf", "lone\r\nlf"},
        {"lone\rcr\r", "lone\rcr\r", "lone\rcr\r"},
        {"two\r\r\nof them", "two\r\r\nof them", "two\r\r\nof them"},
        {"\r\n\n\r\n", "\n\n\n", "\r\n\r\n\r\n"},
    };
    struct fixture *fixture = *state;
    inbox_make(fixture);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char pattern[128], path[512], got[64] = "";
        struct mailstore_place place = append(fixture, "INBOX", slice_text(rows[i].text));
        assert_int_equal(place.uid, 9 + i);
        assert_int_equal(place.uidvalidity, 1234567);
        snprintf(pattern, sizeof pattern, "cur/*,S=%zu,W=%zu:2,S", strlen(rows[i].file),
                 strlen(rows[i].read));
        glob_t found;
        at(fixture, pattern, path);
        assert_int_equal(glob(path, 0, NULL, &found), 0);
        FILE *file = fopen(found.gl_pathv[found.gl_pathc - 1], "r");
        got[fread(got, 1, sizeof got - 1, file)] = 0;
        fclose(file);
        struct stat facts;
        assert_int_equal(stat(found.gl_pathv[found.gl_pathc - 1], &facts), 0);
        assert_int_equal(facts.st_mtime, 1000000000);
        globfree(&found);
        assert_string_equal(got, rows[i].file);
        assert_text(fixture, "INBOX", place.uid, rows[i].read);
    }
}

static void copies_share_their_file_and_a_move_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    folder(fixture, ".To");
    look(fixture);
    const struct mailstore_uids all = {1, 100};
    struct mailstore_box *box = box_of(fixture, "INBOX");
    for (int moves = 0; moves < 2; moves++) {
        struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("To")};
        struct told told;
        assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
        int status = moves ? mailstore_move(fixture->rig.store, box, &copy, told_init(&told))
                           : mailstore_copy(fixture->rig.store, box, &copy, told_init(&told));
        mailstore_box_close(fixture->rig.store, box);
        assert_int_equal(status, 0);
        assert_int_equal(told_wait(&fixture->rig, &told), 0);
        assert_int_equal(copy.source_count, 2);
        assert_int_equal(copy.target_first, 1 + 2 * moves);
        assert_int_equal(copy.target_last, 2 + 2 * moves);
        free(copy.sources);
    }
    mailstore_rig_settle(&fixture->rig);
    look(fixture);
    assert_box(fixture, "INBOX", "");
    assert_box(fixture, "To", "1:1: 2:4:home 3:1: 4:4:home");
    assert_text(fixture, "To", 4, "B\r\n\r\nyy\r\n");
    assert_false(is_there(fixture, "cur/*"));
}

static void a_message_that_is_read_keeps_its_file_until_then(void **state)
{
    struct fixture *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    inbox_make(fixture);
    struct mailstore_box *box = box_of(fixture, "INBOX");
    struct mailstore_text text = {0};
    assert_int_equal(mailstore_box_open(store, box), 0);
    assert_int_equal(mailstore_text_open(store, mailstore_entry_find(box, 3)->text, &text), 0);
    mailstore_box_close(store, box);
    expunge(fixture, "INBOX", 3);
    look(fixture);
    assert_box(fixture, "INBOX", "7:4:home");
    assert_true(is_there(fixture, "cur/a:2,S"));
    mailstore_text_close(store, &text);
    look(fixture);
    assert_false(is_there(fixture, "cur/a*"));
    assert_box(fixture, "INBOX", "7:4:home");
}

static void what_a_maildir_cannot_do_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct told told;
    inbox_make(fixture);
    struct mailstore_create create = {.mailbox = slice_text("a.b")};
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)),
                     -EINVAL);
    struct mailstore_box *inbox = box_of(fixture, "INBOX");
    assert_int_equal(mailstore_box_rename(store, inbox, slice_text("x"), told_init(&told)),
                     -EOPNOTSUPP);
    assert_int_equal(mailstore_box_delete(store, inbox, told_init(&told)), -EOPNOTSUPP);
    create.mailbox = slice_text("Here");
    put(fixture, ".Here", "a file");
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_true(told_wait(&fixture->rig, &told) < 0);
    assert_null(box_of(fixture, "Here"));
}

static void mailboxes_are_made_renamed_subscribed_and_deleted_there(void **state)
{
    struct fixture *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct told told;
    inbox_make(fixture);
    struct mailstore_create create = {
        .mailbox = slice_text("One"), .subscribe = true, .special_use = 4};
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(create.uidvalidity, box_of(fixture, "One")->uidvalidity);
    assert_int_equal(box_of(fixture, "One")->special_use, 4);
    assert_true(is_there(fixture, ".One/cur"));
    uint64_t id = box_of(fixture, "One")->id;
    assert_int_equal(
        mailstore_box_rename(store, box_of(fixture, "One"), slice_text("Two/a"), told_init(&told)),
        0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    look(fixture);
    assert_int_equal(box_of(fixture, "Two/a")->id, id);
    assert_true(is_there(fixture, ".Two.a/cur"));
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("One")));
    assert_int_equal(mailstore_box_delete(store, box_of(fixture, "Two/a"), told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    look(fixture);
    assert_null(box_of(fixture, "Two/a"));
    assert_false(is_there(fixture, ".*wo*"));
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)),
                     -EEXIST);
}

static void what_a_crash_has_left_of_a_folder_goes(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    folder(fixture, "..1700000000.M000001P5.host.test");
    put(fixture, "..1700000000.M000001P5.host.test/cur/m", "M\n");
    folder(fixture, "..others");
    mailstore_rig_settle(&fixture->rig);
    start_again(fixture, mailstore_rig_stop);
    look(fixture);
    assert_false(is_there(fixture, "..1*"));
    assert_true(is_there(fixture, "..others"));
    assert_int_equal(fixture->user->totals.boxes, 1);
}

static void folders_that_are_as_they_were_are_not_read_again(void **state)
{
    struct fixture *fixture = *state;
    inbox_make(fixture);
    folder(fixture, ".Sent");
    fixture->rig.wall_s = (uint64_t)time(NULL) + 100; /* no time is of this second */
    look(fixture);
    char path[512];
    const struct timespec before[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    at(fixture, ".Sent/new", path); /* what comes is of another second */
    assert_int_equal(utimensat(AT_FDCWD, path, before, 0), 0);
    look(fixture);
    fixture->lists = 0;
    look(fixture);
    assert_int_equal(fixture->lists, 1); /* of folders */
    put(fixture, ".Sent/new/m", "M\n");
    look(fixture);
    assert_true(fixture->lists > 2);
    assert_box(fixture, "Sent", "1:0:");
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

int main(void)
{
#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, set_up, tear_down),                                      \
    {                                                                                              \
#name "_with_many_users", name, set_up_crowded, tear_down, NULL                            \
    }
    const struct CMUnitTest tests[] = {
        CASE(what_lies_in_a_maildir_has_its_uids_flags_and_keywords),
        CASE(what_others_add_flag_and_remove_is_taken_in),
        CASE(folders_and_subscriptions_of_others_are_mailboxes),
        CASE(flags_that_both_have_changed_are_merged),
        CASE(flags_and_expunges_are_written_and_keywords_get_letters),
        CASE(what_a_crash_came_before_is_written_by_the_next_start),
        CASE(what_goes_and_comes_back_has_another_uid),
        CASE(a_list_from_before_gives_no_uid_again),
        CASE(another_uidvalidity_is_another_mailbox),
        CASE(a_folder_that_others_rename_stays_the_mailbox_that_it_was),
        CASE(a_state_that_was_lost_is_made_again_from_the_maildir),
        CASE(an_index_that_was_lost_is_built_from_the_log),
        CASE(a_snapshot_says_where_texts_lie),
        CASE(a_message_becomes_a_file_with_plain_line_ends),
        CASE(copies_share_their_file_and_a_move_leaves_nothing),
        CASE(a_message_that_is_read_keeps_its_file_until_then),
        CASE(what_a_maildir_cannot_do_is_refused),
        CASE(mailboxes_are_made_renamed_subscribed_and_deleted_there),
        CASE(what_a_crash_has_left_of_a_folder_goes),
        CASE(folders_that_are_as_they_were_are_not_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
