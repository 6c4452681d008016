/*
 * Folders are made, renamed and removed. One that is made or removed is aside meanwhile, under a name that is no mailbox's
 * (a level of it is empty): it is there whole, with its UIDVALIDITY, or not at all, also after a crash.
 */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- aside ---- */

static int aside_name(struct home *home, char out[MAILDIR_FILE_NAME_MAX + 1])
{
    struct maildir_name none = {.bytes = MAILDIR_SIZE_UNKNOWN,
                                .virtual_bytes = MAILDIR_SIZE_UNKNOWN};
    char name[MAILDIR_FILE_NAME_MAX + 1];
    int status = home_name_make(home, &none, name);
    if (status < 0) {
        return status;
    }
    name[strcspn(name, ":")] = 0;
    int size = snprintf(out, MAILDIR_FILE_NAME_MAX + 1, "..%s", name);
    return size <= MAILDIR_FILE_NAME_MAX ? 0 : -ENAMETOOLONG;
}

/* One of this host's: two dots, a time, a number of microseconds. */
static bool is_aside(const struct home *home, const char *name)
{
    size_t host = strlen(home->owner->hostname), size = strlen(name);
    size_t digits = strspn(name + (size > 2 ? 2 : 0), "0123456789");
    return size > host + 4 && name[0] == '.' && name[1] == '.' && digits > 0 &&
           strncmp(name + 2 + digits, ".M", 2) == 0 &&
           strcmp(name + size - host, home->owner->hostname) == 0;
}

struct removal {
    const struct maildir_files *files;
    int at;
    int status;
};

static void file_remove(void *owner, const char *name)
{
    struct removal *removal = owner;
    int status = removal->files->remove(removal->files->self, removal->at, name);
    removal->status = status < 0 && status != -ENOENT ? status : removal->status;
}

static void content_remove(const struct maildir_files *files, int at)
{
    static const char *const parts[] = {"cur", "new", "tmp"};
    struct removal removal = {.files = files};
    for (unsigned i = 0; i < 3; i++) {
        removal.at = files->open_folder(files->self, at, parts[i]);
        if (removal.at >= 0) {
            files->list(files->self, removal.at, file_remove, &removal);
            files->close(files->self, removal.at);
            files->remove_folder(files->self, at, parts[i]);
        }
    }
    removal.at = at;
    files->list(files->self, at, file_remove, &removal);
}

/* As far as it can be. */
static void aside_remove(struct home *home, const char *name)
{
    const struct maildir_files *files = home_files(home);
    int at = files->open_folder(files->self, home->root, name);
    if (at >= 0) {
        content_remove(files, at);
        files->close(files->self, at);
        files->remove_folder(files->self, home->root, name);
    }
}

static void left_over_remove(void *owner, const char *name)
{
    struct home *home = owner;
    if (is_aside(home, name)) {
        aside_remove(home, name);
    }
}

void home_clean(struct home *home)
{
    if (!home->clean) {
        home->clean = true;
        home_files(home)->list(home_files(home)->self, home->root, left_over_remove, home);
    }
}

/* ---- making and removing ---- */

static int parts_make(struct home *home, const char *name)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_box box;
    int status = files->make_folder(files->self, home->root, name);
    int at = status < 0 ? status : files->open_folder(files->self, home->root, name);
    if (at < 0) {
        return at;
    }
    int mark = files->make_file(files->self, at,
                                "maildirfolder"); /* Maildir++: it is no Maildir of its own */
    if (mark >= 0) {
        files->close(files->self, mark);
    }
    status = maildir_box_open(&box, home->owner, at, ".");
    if (status == 0) {
        box.uidvalidity_least = home->uidvalidity_least;
        status = maildir_box_scan(&box); /* gives it a list */
        maildir_box_close(&box);
    }
    status = status == 0 ? files->sync(files->self, at) : status;
    files->close(files->self, at);
    return status;
}

static int folder_make(struct home *home, const char *mailbox, const char *name)
{
    const struct maildir_files *files = home_files(home);
    char aside[MAILDIR_FILE_NAME_MAX + 1];
    int status = home_folder_exists(home, name) ? -EEXIST : aside_name(home, aside);
    if (status < 0) {
        return status;
    }
    status = parts_make(home, aside);
    status = status == 0 ? files->rename(files->self, home->root, aside, home->root, name) : status;
    if (status < 0) {
        aside_remove(home, aside);
        return status;
    }
    status = files->sync(files->self, home->root);
    if (status < 0) { /* who finds it there would believe that it is on the disk */
        home_withdraw(home, mailbox);
    }
    return status;
}

int home_create(struct home *home, const char *mailbox, struct home_news **news)
{
    char name[MAILDIR_FILE_NAME_MAX + 1];
    struct home_folder *folder;
    ssize_t size = maildir_folder_write(slice_text(mailbox), name);
    int status = size < 0 ? -EINVAL : home_root(home);
    status = status == 0 && size > 0 ? folder_make(home, mailbox, name) : status;
    status = status == 0 ? home_folder_need(home, mailbox, &folder) : status;
    return status == 0 ? home_folder_look(home, folder, news) : status;
}

int home_delete(struct home *home, const char *mailbox)
{
    const struct maildir_files *files = home_files(home);
    char name[MAILDIR_FILE_NAME_MAX + 1], aside[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_folder_write(slice_text(mailbox), name);
    int status = size <= 0 ? -ENOENT : home_root(home);
    status = status == 0 ? aside_name(home, aside) : status;
    status = status == 0 ? files->rename(files->self, home->root, name, home->root, aside) : status;
    status = status == 0 ? files->sync(files->self, home->root) : status;
    if (status < 0) {
        return status;
    }
    struct home_folder *folder = home_folder_find(home, mailbox);
    if (folder != NULL) {
        home_folder_drop(home, folder);
    }
    aside_remove(home, aside);
    return 0;
}

/* Without cur/ it is no mailbox; whoever has it open already finds that new/ is gone, too. */
static bool parts_remove(const struct maildir_files *files, int at)
{
    if (files->remove_folder(files->self, at, "cur") < 0) {
        return false;
    }
    bool empty = files->remove_folder(files->self, at, "new") == 0;
    if (!empty) {
        files->make_folder(files->self, at, "cur");
    }
    return empty;
}

void home_withdraw(struct home *home, const char *mailbox)
{
    const struct maildir_files *files = home_files(home);
    char name[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_folder_write(slice_text(mailbox), name);
    int at = size <= 0 ? -ENOENT : files->open_folder(files->self, home->root, name);
    struct home_folder *folder = home_folder_find(home, mailbox);
    if (folder != NULL) { /* what was told of it goes with its news */
        home_folder_drop(home, folder);
    }
    if (at >= 0) {
        if (parts_remove(files, at)) {
            home_delete(home, mailbox);
        }
        files->close(files->self, at);
    }
}

/* ---- renaming ---- */

static bool is_within(const char *name, const char *parent)
{
    size_t size = strlen(parent);
    return strncmp(name, parent, size) == 0 && (name[size] == 0 || name[size] == '/');
}

/* The new name of one of them, as mailbox and as folder. */
static int renamed_name(const char *mailbox, const char *from, const char *to, char *name_new,
                        char *folder_new)
{
    int size = snprintf(name_new, HOME_MAILBOX_BYTES, "%s%s", to, mailbox + strlen(from));
    if (size >= (int)HOME_MAILBOX_BYTES) {
        return -ENAMETOOLONG;
    }
    ssize_t written = maildir_folder_write(slice_text(name_new), folder_new);
    return written <= 0 ? -EINVAL : 0;
}

int home_rename(struct home *home, const char *from, const char *to)
{
    const struct maildir_files *files = home_files(home);
    char mailbox[HOME_MAILBOX_BYTES], name[MAILDIR_FILE_NAME_MAX + 1];
    unsigned found = 0;
    int status = home_root(home);
    for (int pass = 0; pass < 2; pass++) { /* all can be, or none is */
        for (size_t i = 0; i < home->folder_count && status == 0; i++) {
            struct home_folder *folder = home->folders[i];
            if (folder->name[0] == 0 || !is_within(folder->mailbox, from)) {
                continue;
            }
            found++;
            status = renamed_name(folder->mailbox, from, to, mailbox, name);
            if (status == 0 && pass == 0 && home_folder_exists(home, name)) {
                status = -EEXIST;
            }
            if (status == 0 && pass == 1) {
                home_folder_close(folder);
                status = files->rename(files->self, home->root, folder->name, home->root, name);
                if (status == 0) {
                    snprintf(folder->name, sizeof folder->name, "%s", name);
                    snprintf(folder->mailbox, sizeof folder->mailbox, "%s", mailbox);
                }
            }
        }
        if (found == 0) {
            return status < 0 ? status : -ENOENT;
        }
        if (is_within(to, from)) {
            return -EINVAL;
        }
    }
    return status == 0 ? files->sync(files->self, home->root) : status;
}
