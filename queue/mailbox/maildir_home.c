#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the home ---- */

int home_open(struct home **made, const struct maildir_owner *owner, const char *path,
              const char *user)
{
    struct home *home = calloc(1, sizeof *home + strlen(user) + 1);
    if (home == NULL) {
        return -ENOMEM;
    }
    home->owner = owner;
    home->root = -1;
    home->namer =
        (struct maildir_namer){.process_id = owner->process_id, .hostname = owner->hostname};
    memcpy(home->user, user, strlen(user) + 1);
    home->path = strdup(path);
    if (home->path == NULL) {
        free(home);
        return -ENOMEM;
    }
    *made = home;
    return 0;
}

static void folder_free(struct home_folder *folder)
{
    home_folder_close(folder);
    home_told_free(folder->told);
    free(folder);
}

static void files_close(struct home *home)
{
    for (size_t i = 0; i < home->folder_count; i++) {
        home_folder_close(home->folders[i]);
    }
    if (home->root >= 0) {
        home_files(home)->close(home_files(home)->self, home->root);
        home->root = -1;
    }
}

#define READING_RESTS_S 10 /* who is in the middle of a message reads on */

void home_rest(struct home *home)
{
    files_close(home);
    home_readings_close(home, world_wall_s(home->owner->world) - READING_RESTS_S);
    for (size_t i = 0; i < home->folder_count; i++) {
        struct home_folder *folder = home->folders[i];
        folder->rests = folder->rests || folder->told != NULL;
        home_told_free(folder->told);
        folder->told = NULL;
    }
}

void home_close(struct home *home)
{
    if (home == NULL) {
        return;
    }
    files_close(home);
    home_readings_close(home, INT64_MAX);
    for (size_t i = 0; i < home->folder_count; i++) {
        folder_free(home->folders[i]);
    }
    free(home->folders);
    free(home->path);
    free(home);
}

int home_part_make(const struct maildir_files *files, int at, const char *name)
{
    int status = files->make_folder(files->self, at, name);
    if (status == 0) {
        status = files->sync(files->self, at);
        if (status < 0) { /* who finds it there would believe that it is on the disk */
            files->remove_folder(files->self, at, name);
        }
    }
    return status;
}

int home_root(struct home *home)
{
    const struct maildir_files *files = home_files(home);
    if (home->root >= 0) {
        return 0;
    }
    int at = files->open_root(files->self, home->path);
    if (at < 0) {
        return at;
    }
    int status = home_part_make(files, at, home->user);
    status = status < 0 && status != -EEXIST ? status : 0;
    home->root = status < 0 ? status : files->open_folder(files->self, at, home->user);
    files->close(files->self, at);
    return home->root < 0 ? home->root : 0;
}

/* ---- folders ---- */

struct home_folder *home_folder_find(struct home *home, const char *mailbox)
{
    for (size_t i = 0; i < home->folder_count; i++) {
        if (strcmp(home->folders[i]->mailbox, mailbox) == 0) {
            return home->folders[i];
        }
    }
    return NULL;
}

struct home_folder *home_folder_add(struct home *home, const char *name, const char *mailbox)
{
    if (home->folder_count == home->folder_room) {
        size_t room = home->folder_room * 2 + 8;
        struct home_folder **grown = realloc(home->folders, room * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        home->folders = grown;
        home->folder_room = room;
    }
    struct home_folder *folder = calloc(1, sizeof *folder);
    if (folder != NULL) {
        snprintf(folder->name, sizeof folder->name, "%s", name);
        snprintf(folder->mailbox, sizeof folder->mailbox, "%s", mailbox);
        home->folders[home->folder_count++] = folder;
    }
    return folder;
}

void home_folder_drop(struct home *home, struct home_folder *folder)
{
    for (size_t i = 0; i < home->folder_count; i++) {
        if (home->folders[i] == folder) {
            home->folders[i] = home->folders[--home->folder_count];
            folder_free(folder);
            return;
        }
    }
}

/* For one more: which has not been needed for longest is closed. */
static void place_make(struct home *home)
{
    struct home_folder *oldest = NULL;
    size_t open = 0;
    for (size_t i = 0; i < home->folder_count; i++) {
        struct home_folder *folder = home->folders[i];
        open += folder->open;
        oldest = folder->open && (oldest == NULL || folder->used < oldest->used) ? folder : oldest;
    }
    if (open >= HOME_OPEN_FOLDERS) {
        home_folder_close(oldest);
    }
}

int home_folder_open(struct home *home, struct home_folder *folder)
{
    folder->used = ++home->uses;
    if (folder->open) {
        folder->box.patience_s = home->patience_s;
        folder->box.leaves_new = home->leaves_new;
        return 0;
    }
    place_make(home);
    int status = home_root(home);
    const char *name = folder->name[0] == 0 ? "." : folder->name;
    status = status == 0 ? maildir_box_open(&folder->box, home->owner, home->root, name) : status;
    folder->open = status == 0;
    folder->box.uidvalidity_least = home->uidvalidity_least;
    folder->box.patience_s = home->patience_s;
    folder->box.leaves_new = home->leaves_new;
    if (folder->open && folder->told != NULL) { /* a list from before may not give UIDs again */
        folder->box.list.uidvalidity = folder->told->uidvalidity;
        folder->box.list.uid_next = folder->told->uid_next;
    }
    return status;
}

void home_folder_close(struct home_folder *folder)
{
    if (folder->open) {
        maildir_box_close(&folder->box);
        folder->open = false;
    }
}

/* Of its cur/; 0: there is no such folder. -errno: that cannot be told now. */
static int folder_inode(struct home *home, const char *name, uint64_t *inode)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts facts = {0};
    int at = files->open_folder(files->self, home->root, name[0] == 0 ? "." : name);
    int status = at < 0 ? at : files->facts(files->self, at, "cur", &facts);
    if (at >= 0) {
        files->close(files->self, at);
    }
    *inode = facts.inode;
    return status == -ENOENT || status == -ENOTDIR || status == -ELOOP ? 0 : status;
}

bool home_folder_exists(struct home *home, const char *name)
{
    uint64_t inode;
    return folder_inode(home, name, &inode) < 0 || inode != 0;
}

/* What is open may be a folder that has been removed, and another has its name: what is put there is lost. */
static void old_close(struct home *home, struct home_folder *folder, uint64_t inode)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts open;
    if (folder->open && (files->facts_of_open(files->self, folder->box.cur_folder, &open) < 0 ||
                         open.inode != inode)) {
        home_folder_close(folder);
    }
}

int home_folder_need(struct home *home, const char *mailbox, struct home_folder **found)
{
    char name[MAILDIR_FILE_NAME_MAX + 1];
    int status = home_root(home);
    ssize_t size = maildir_folder_write(slice_text(mailbox), name);
    if (status < 0 || size < 0) {
        return status < 0 ? status : -ENOENT;
    }
    uint64_t inode;
    status = folder_inode(home, name, &inode);
    if (status < 0 || (size > 0 && inode == 0)) {
        return status < 0 ? status : -ENOENT;
    }
    struct home_folder *folder = home_folder_find(home, mailbox);
    folder = folder != NULL ? folder : home_folder_add(home, name, mailbox);
    if (folder == NULL) {
        return -ENOMEM;
    }
    *found = folder;
    old_close(home, folder, inode);
    return home_folder_open(home, folder);
}

/* ---- what is told ---- */

void home_uidvalidity(struct home *home, uint32_t least)
{
    home->uidvalidity_least = least > home->uidvalidity_least ? least : home->uidvalidity_least;
}

void home_patience(struct home *home, int64_t patience_s)
{
    home->patience_s = patience_s;
}

void home_leave_new(struct home *home, bool leaves)
{
    home->leaves_new = leaves;
}

void home_told_free(struct home_told *told)
{
    if (told != NULL) {
        free(told->seen);
        free(told->names);
        free(told);
    }
}

void home_tell(struct home *home, struct home_told *told)
{
    char name[MAILDIR_FILE_NAME_MAX + 1];
    struct home_folder *folder = home_folder_find(home, told->mailbox);
    if (folder == NULL && maildir_folder_write(slice_text(told->mailbox), name) >= 0) {
        folder = home_folder_add(home, name, told->mailbox);
    }
    if (folder == NULL) {
        home_told_free(told); /* it is news then, and found to be known by its UIDs */
        return;
    }
    home_told_free(folder->told);
    folder->told = told;
    folder->letters = folder->rests = false;
}

void home_forget(struct home *home)
{
    for (size_t i = 0; i < home->folder_count; i++) {
        home_told_free(home->folders[i]->told);
        home->folders[i]->told = NULL;
        home->folders[i]->rests = false;
        home->folders[i]->looked_s = 0;
    }
    home->subscriptions_s = 0;
}

/* ---- looking ---- */

#define READING_S 60
#define UNSURE_S 2 /* a change within the second of the last look may not show in times */

static const char *const watched[] = {"cur", "new", MAILDIR_UIDLIST, MAILDIR_KEYWORDS};

static int facts_read(struct home *home, const struct home_folder *folder, struct home_facts *facts)
{
    const struct maildir_files *files = home_files(home);
    int at = files->open_folder(files->self, home->root, folder->name[0] == 0 ? "." : folder->name);
    memset(facts, 0, sizeof *facts);
    if (at < 0) {
        return at;
    }
    for (unsigned i = 0; i < sizeof watched / sizeof watched[0]; i++) {
        struct maildir_file_facts one;
        if (files->facts(files->self, at, watched[i], &one) == 0) {
            facts->modified_s[i] = one.modified_s;
            facts->bytes[i] = i < 2 ? 0 : one.bytes;
            facts->inodes[i] = one.inode;
        }
    }
    files->close(files->self, at);
    return 0;
}

static bool is_as_it_was(const struct home_folder *folder, const struct home_facts *facts)
{
    bool same = folder->looked_s != 0 && memcmp(&folder->facts, facts, sizeof *facts) == 0;
    for (unsigned i = 0; i < 4; i++) {
        same = same && facts->modified_s[i] + UNSURE_S <= folder->looked_s;
    }
    return same;
}

#define MAKING_S 2

/* Another program makes its parts now. It is left alone until it has all: else his CREATE finds one of ours, and fails. */
static bool is_being_made(struct home *home, const char *name)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts part, folder;
    int at = files->open_folder(files->self, home->root, name);
    if (at < 0) {
        return false;
    }
    bool whole = files->facts(files->self, at, "new", &part) == 0 &&
                 files->facts(files->self, at, "tmp", &part) == 0;
    bool told = files->facts_of_open(files->self, at, &folder) == 0;
    files->close(files->self, at);
    int64_t now_s = world_wall_s(home->owner->world);
    return !whole && told && folder.modified_s <= now_s && folder.modified_s + MAKING_S >= now_s;
}

struct listing {
    struct home *home;
    int status;
};

static void folder_listed(void *owner, const char *name)
{
    struct listing *listing = owner;
    char mailbox[HOME_MAILBOX_BYTES];
    if (name[0] != '.' || listing->status < 0) {
        return;
    }
    ssize_t size = maildir_folder_read(slice_text(name), mailbox);
    if (size <= 0 || memchr(mailbox, 0, (size_t)size) != NULL) {
        return;
    }
    mailbox[size] = 0;
    struct home_folder *folder = home_folder_find(listing->home, mailbox);
    char written[MAILDIR_FILE_NAME_MAX + 1];
    bool only =
        maildir_folder_write(slice_text(mailbox), written) > 0 && strcmp(written, name) == 0;
    if (!only || strcmp(mailbox, "INBOX") == 0) {
        return; /* another spelling of a name */
    }
    uint64_t inode;
    int status = folder_inode(listing->home, name, &inode);
    if (status < 0 ? folder == NULL : inode == 0) {
        return; /* no Maildir, or none that has been seen */
    }
    if (folder == NULL && is_being_made(listing->home, name)) {
        return;
    }
    folder = folder != NULL ? folder : home_folder_add(listing->home, name, mailbox);
    if (folder == NULL) {
        listing->status = -ENOMEM;
        return;
    }
    folder->listed = true;
}

static int folders_list(struct home *home, struct home_news **news)
{
    struct listing listing = {.home = home};
    struct home_folder *inbox = home_folder_find(home, "INBOX");
    inbox = inbox != NULL ? inbox : home_folder_add(home, "", "INBOX");
    for (size_t i = 0; i < home->folder_count; i++) {
        home->folders[i]->listed = false;
    }
    if (inbox == NULL) {
        return -ENOMEM;
    }
    inbox->listed = true;
    int status =
        home_files(home)->list(home_files(home)->self, home->root, folder_listed, &listing);
    status = status < 0 ? status : listing.status;
    for (size_t i = 0; i < home->folder_count && status >= 0; i++) {
        struct home_folder *folder = home->folders[i];
        if (folder->listed) {
            continue;
        }
        if (folder->told != NULL || folder->rests) {
            struct home_news *gone = home_news_add(news, folder->mailbox);
            if (gone == NULL) {
                return -ENOMEM;
            }
            gone->gone = true;
        }
        home_folder_drop(home, folder);
        i--;
    }
    return status < 0 ? status : 0;
}

static int stale_add(struct home_stale *stale, const char *mailbox)
{
    size_t size = strlen(mailbox) + 1;
    char *grown = realloc(stale->names, stale->size + size);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(grown + stale->size, mailbox, size);
    stale->names = grown;
    stale->size += size;
    return -ESTALE;
}

int home_look(struct home *home, struct home_news **news, struct home_stale *stale)
{
    int status = home_root(home);
    home_readings_close(home, world_wall_s(home->owner->world) - READING_S);
    if (status == 0) {
        home_clean(home);
        status = folders_list(home, news);
    }
    if (status < 0) {
        return status;
    }
    for (size_t i = 0; i < home->folder_count; i++) {
        struct home_folder *folder = home->folders[i];
        struct home_facts facts;
        int64_t now_s = world_wall_s(home->owner->world);
        int looked = facts_read(home, folder, &facts);
        old_close(home, folder, facts.inodes[0]);
        if (looked == 0 && (folder->told != NULL || folder->rests) &&
            is_as_it_was(folder, &facts)) {
            continue;
        }
        if (folder->rests) {
            int added = stale_add(stale, folder->mailbox);
            status = status == 0 || added == -ENOMEM ? added : status;
            continue;
        }
        looked = looked < 0 ? looked : home_folder_look(home, folder, news);
        if (looked == 0) {
            folder->facts = facts;
            folder->looked_s = now_s;
        } else {
            folder->looked_s = 0;
            status = looked == -ENOENT ? status : looked;
        }
    }
    return status;
}
