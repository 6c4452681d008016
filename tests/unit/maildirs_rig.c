#include "tests/unit/maildirs_rig.h"
#include "engine/core/check.h"
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void *self)
{
    return ((struct maildirs_rig *)self)->rig.rig.now_ns;
}

static int64_t wall_s(void *self)
{
    return (int64_t)((struct maildirs_rig *)self)->rig.wall_s;
}

static void random_bytes(void *self, void *bytes, size_t count)
{
    struct maildirs_rig *fixture = self;
    memset(bytes, (int)(++fixture->random & 0xff), count);
}

static void trouble_told(void *owner, const char *user, int status)
{
    struct maildirs_rig *fixture = owner;
    assert_string_equal(user, "ann");
    fixture->troubles++;
    fixture->trouble = status;
}

static void nobody_wakes(void *owner)
{
    (void)owner;
}

static int list_counting(void *self, int folder, void (*visit)(void *owner, const char *name),
                         void *owner)
{
    struct maildirs_rig *fixture = self;
    struct maildir_files files;
    maildir_system_files(&files);
    fixture->lists++;
    return files.list(NULL, folder, visit, owner);
}

static void another_looks(struct maildirs_rig *fixture)
{
    struct mailstore_user *another;
    struct told told;
    assert_int_equal(mailstore_user_open(fixture->rig.store, slice_text("zoe"), &another), 0);
    assert_int_equal(mailstore_refresh(fixture->rig.store, another, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    mailstore_user_close(fixture->rig.store, another);
}

void maildirs_user_open(struct maildirs_rig *fixture)
{
    assert_int_equal(mailstore_rig_start(&fixture->rig), 0);
    if (fixture->crowded) {
        another_looks(fixture);
    }
    assert_int_equal(mailstore_user_open(fixture->rig.store, slice_text("ann"), &fixture->user), 0);
}

static int fixture_open(void **state, bool crowded)
{
    struct maildirs_rig *fixture = calloc(1, sizeof *fixture);
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
    fixture->owner =
        (struct maildir_owner){&fixture->files, &fixture->world, "host.test", 77, 1, NULL};
    fixture->maildirs = (struct mailstore_maildirs){.path = fixture->path,
                                                    .staging = fixture->staging,
                                                    .owner = &fixture->owner,
                                                    .open_users_max = 1,
                                                    .trouble = trouble_told,
                                                    .wake_owner = fixture,
                                                    .wake = nobody_wakes};
    fixture->rig.settings.maildirs = &fixture->maildirs;
    maildirs_user_open(fixture);
    *state = fixture;
    return 0;
}

int maildirs_set_up(void **state)
{
    return fixture_open(state, false);
}

int maildirs_set_up_crowded(void **state)
{
    return fixture_open(state, true);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status, (void)type, (void)at;
    return remove(path);
}

int maildirs_tear_down(void **state)
{
    struct maildirs_rig *fixture = *state;
    mailstore_rig_close(&fixture->rig);
    nftw(fixture->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* ---- The others ---- */

void maildirs_path(const struct maildirs_rig *fixture, const char *name, char path[512])
{
    snprintf(path, 512, "%s/ann/%s", fixture->path, name);
}

void maildirs_put(const struct maildirs_rig *fixture, const char *name, const char *text)
{
    char path[512];
    maildirs_path(fixture, name, path);
    FILE *file = fopen(path, "wx");
    check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

void maildirs_folder(const struct maildirs_rig *fixture, const char *name)
{
    static const char *const parts[] = {"", "/cur", "/new", "/tmp"};
    char path[512], part[300];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s%s", name, parts[i]);
        maildirs_path(fixture, part, path);
        check(mkdir(path, 0700) == 0 || errno == EEXIST);
    }
}

void maildirs_move(const struct maildirs_rig *fixture, const char *from, const char *to)
{
    char one[512], other[512];
    maildirs_path(fixture, from, one);
    maildirs_path(fixture, to, other);
    check(rename(one, other) == 0);
}

void maildirs_take(const struct maildirs_rig *fixture, const char *name)
{
    char path[512];
    maildirs_path(fixture, name, path);
    check(unlink(path) == 0);
}

bool maildirs_has(const struct maildirs_rig *fixture, const char *pattern)
{
    char path[512];
    glob_t found;
    maildirs_path(fixture, pattern, path);
    bool is = glob(path, 0, NULL, &found) == 0;
    if (is) {
        globfree(&found);
    }
    return is;
}

/* ---- What the store has ---- */

void maildirs_look(struct maildirs_rig *fixture)
{
    struct told told;
    assert_int_equal(mailstore_refresh(fixture->rig.store, fixture->user, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

struct mailstore_box *maildirs_box(struct maildirs_rig *fixture, const char *name)
{
    return mailstore_box_find(fixture->user, slice_text(name));
}

/* "UID:FLAGS:KEYWORDS ..." with flags as a number. */
void assert_box(struct maildirs_rig *fixture, const char *name, const char *expected)
{
    struct mailstore_box *box = maildirs_box(fixture, name);
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

void assert_text(struct maildirs_rig *fixture, const char *name, uint32_t uid, const char *expected)
{
    struct mailstore *store = fixture->rig.store;
    struct mailstore_box *box = maildirs_box(fixture, name);
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

void maildirs_flag(struct maildirs_rig *fixture, const char *name, uint32_t uid, uint8_t flags,
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
        mailstore_flags(fixture->rig.store, maildirs_box(fixture, name), &change, told_init(&told)),
        0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

void maildirs_expunge(struct maildirs_rig *fixture, const char *name, uint32_t uid)
{
    const struct mailstore_uids uids = {uid, uid};
    struct mailstore_expunge change = {.uids = &uids, .uid_count = 1};
    struct told told;
    assert_int_equal(mailstore_expunge(fixture->rig.store, maildirs_box(fixture, name), &change,
                                       told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
}

struct mailstore_place maildirs_append(struct maildirs_rig *fixture, const char *name,
                                       struct slice text)
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

void maildirs_start_again(struct maildirs_rig *fixture, void (*end)(struct mailstore_rig *rig))
{
    if (end == mailstore_rig_stop) {
        mailstore_user_close(fixture->rig.store, fixture->user);
    }
    end(&fixture->rig);
    maildirs_user_open(fixture);
}

/* Two messages of Dovecot's. */
void maildirs_inbox(struct maildirs_rig *fixture)
{
    char path[512];
    maildirs_path(fixture, "", path);
    check(mkdir(path, 0700) == 0);
    maildirs_folder(fixture, ".");
    maildirs_put(fixture, "dovecot-uidlist", LIST);
    maildirs_put(fixture, "dovecot-keywords", "0 work\n1 home\n");
    maildirs_put(fixture, "cur/a:2,S", "A\n\nx\n");
    maildirs_put(fixture, "cur/b:2,Fb", "B\r\n\r\nyy\n");
    maildirs_look(fixture);
}
