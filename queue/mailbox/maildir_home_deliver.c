/*
 * Messages are delivered as any program may that knows nothing of Dovecot's lists: a file appears in new/, or with flags in
 * cur/. No lock is waited for but for a keyword that has no letter yet, nothing is scanned and no UID is given: that is for who
 * looks next.
 */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_S 5 /* for a lock: the message can come again */

struct target {                           /* where a letter goes; numbers of open folders, or -1 */
    char name[MAILDIR_FILE_NAME_MAX + 1]; /* "" of INBOX */
    int folder, cur, to;
};

static int64_t patience_of(const struct home_letter *letter)
{
    return letter->hurries ? -1 : PATIENCE_S;
}

static void target_close(struct home *home, struct target *target)
{
    const struct maildir_files *files = home_files(home);
    int all[3] = {target->cur, target->to == target->cur ? -1 : target->to, target->folder};
    for (unsigned i = 0; i < 3; i++) {
        if (all[i] >= 0) {
            files->close(files->self, all[i]);
        }
    }
    target->folder = target->cur = target->to = -1;
}

/* A part that is missing is made, and will be there after a crash. */
static int part_open(struct home *home, int folder, const char *name)
{
    const struct maildir_files *files = home_files(home);
    int part = files->open_folder(files->self, folder, name);
    if (part != -ENOENT) {
        return part;
    }
    int status = home_part_make(files, folder, name);
    return status < 0 && status != -EEXIST ? status : files->open_folder(files->self, folder, name);
}

/* -ENOENT: there is no such mailbox. */
static int folder_open(struct home *home, struct target *target)
{
    const struct maildir_files *files = home_files(home);
    bool inbox = target->name[0] == 0;
    target->folder = files->open_folder(files->self, home->root, inbox ? "." : target->name);
    if (target->folder >= 0) {
        target->cur = inbox ? part_open(home, target->folder, "cur")
                            : files->open_folder(files->self, target->folder, "cur");
    }
    int status = target->folder < 0 ? target->folder : target->cur;
    return status == -ENOTDIR || status == -ELOOP ? -ENOENT : status < 0 ? status : 0;
}

static int target_open(struct home *home, const char *mailbox, struct target *target)
{
    *target = (struct target){.folder = -1, .cur = -1, .to = -1};
    int status = home_root(home);
    ssize_t size = maildir_folder_write(slice_text(mailbox), target->name);
    if (status < 0 || size < 0) {
        return status < 0 ? status : -ENOENT;
    }
    status = folder_open(home, target);
    int tmp = status == 0 ? part_open(home, target->folder, "tmp") : status;
    if (tmp >= 0) {
        home_files(home)->close(home_files(home)->self, tmp);
    }
    if (tmp < 0) {
        target_close(home, target);
    }
    return tmp < 0 ? tmp : 0;
}

static int target_make(struct home *home, const struct home_letter *letter, struct target *target)
{
    struct home_news *news = NULL; /* whoever follows the Maildir finds it himself */
    int status = home_create(home, letter->mailbox, &news);
    home_news_free(news);
    status = status == -EEXIST ? 0 : status;
    if (status == 0 && letter->subscribe) {
        status = home_subscribe(home, letter->mailbox, true);
    }
    return status == 0 ? target_open(home, letter->mailbox, target) : status;
}

static int target_find(struct home *home, const struct home_letter *letter, struct target *target)
{
    int status = target_open(home, letter->mailbox, target);
    if (status == -ENOENT && letter->create) {
        status = target_make(home, letter, target);
    }
    if (status == -ENOENT &&
        (letter->or_inbox || letter->create)) { /* what is there is no folder */
        status = target_open(home, "INBOX", target);
    }
    return status;
}

/* ---- its name ---- */

static int letters_find(struct home *home, const struct target *target,
                        const struct home_letter *letter, uint32_t *letters)
{
    struct maildir_box box;
    const char *name = target->name[0] == 0 ? "." : target->name;
    *letters = 0;
    if (letter->keyword_count == 0) {
        return 0;
    }
    int status = maildir_box_open(&box, home->owner, home->root, name);
    if (status < 0) {
        return status;
    }
    box.patience_s = patience_of(letter);
    status = maildir_keywords_read(&box.keywords, home_files(home), box.folder);
    for (unsigned i = 0; i < letter->keyword_count && status == 0; i++) {
        int index = maildir_box_keyword(&box, slice_text(letter->keywords[i]));
        *letters |= index >= 0 ? 1u << index : 0;
        status = index >= 0 || index == -ENOSPC || index == -EINVAL ? 0 : index;
    }
    maildir_box_close(&box);
    return status;
}

/* What has flags is in cur/, where alone they have a meaning. */
static int name_make(struct home *home, struct target *target, const struct home_letter *letter,
                     char name[MAILDIR_FILE_NAME_MAX + 1])
{
    uint32_t keywords;
    int status = letters_find(home, target, letter, &keywords);
    if (status < 0) {
        return status;
    }
    unsigned flags = home_flags_to_maildir(letter->flags);
    ssize_t size = 0;
    if (flags != 0 || keywords != 0) {
        size = maildir_name_write(slice_text(letter->base), flags, keywords, name);
        target->to = target->cur;
    } else {
        size = snprintf(name, MAILDIR_FILE_NAME_MAX + 1, "%s", letter->base);
        target->to = part_open(home, target->folder, "new");
    }
    status = size < 0 ? (int)size : size > MAILDIR_FILE_NAME_MAX ? -ENAMETOOLONG : target->to;
    if (status >= 0) {
        name[size] = 0;
    }
    return status < 0 ? status : 0;
}

/* ---- the file ---- */

/* Where there are no links, by its other name alone. */
static int copy_name(const struct maildir_files *files, int at, const char *copy, int to_at,
                     const char *to)
{
    int status = files->link(files->self, at, copy, to_at, to);
    return home_has_no_links(status) ? files->rename(files->self, at, copy, to_at, to) : status;
}

/* Its bytes, where it can be neither renamed nor linked. */
static int copy_put(struct home *home, const struct target *target,
                    const struct home_letter *letter, const char *name)
{
    const struct maildir_files *files = home_files(home);
    int tmp = files->open_folder(files->self, target->folder, "tmp");
    if (tmp < 0) {
        return tmp;
    }
    int status = home_file_copy(files, letter->at, letter->name, tmp, letter->base);
    if (status == 0) {
        status = copy_name(files, tmp, letter->base, target->to, name);
    }
    files->remove(files->self, tmp, letter->base);
    files->close(files->self, tmp);
    return status;
}

/* copied: it may be on another file system. */
static int file_put(struct home *home, const struct target *target, struct home_letter *letter,
                    const char *name, bool *copied)
{
    const struct maildir_files *files = home_files(home);
    int status = -ENOSYS;
    if (letter->gives) {
        status = files->rename(files->self, letter->at, letter->name, target->to, name);
        letter->given = status == 0;
    }
    if (status == -EINVAL || status == -ENOSYS) {
        status = files->link(files->self, letter->at, letter->name, target->to, name);
    }
    *copied = home_has_no_links(status);
    return *copied ? copy_put(home, target, letter, name) : status;
}

static int name_sync(struct home *home, const struct target *target, const char *name)
{
    const struct maildir_files *files = home_files(home);
    int status = files->sync(files->self, target->to);
    if (status < 0) { /* it is refused: as far as it can be it is not there */
        files->remove(files->self, target->to, name);
    }
    return status;
}

static void name_give(struct target *target, const char *name, struct home_unsynced *unsynced)
{
    unsynced->folder = target->to;
    snprintf(unsynced->name, sizeof unsynced->name, "%s", name);
    target->cur = target->cur == target->to ? -1 : target->cur;
    target->to = -1;
}

static int letter_put(struct home *home, struct home_letter *letter)
{
    struct target target;
    char name[MAILDIR_FILE_NAME_MAX + 1];
    bool copied = false;
    if (letter->unsynced != NULL) {
        letter->unsynced->folder = -1;
    }
    home_patience(home, patience_of(letter));
    int status = target_find(home, letter, &target);
    if (status < 0) {
        return status;
    }
    status = name_make(home, &target, letter, name);
    status = status == 0 ? file_put(home, &target, letter, name, &copied) : status;
    if (status == 0 && letter->unsynced != NULL && !copied) {
        name_give(&target, name, letter->unsynced);
    } else if (status == 0) {
        status = name_sync(home, &target, name);
    }
    target_close(home, &target);
    return status < 0 ? status : 0;
}

int home_deliver(struct home *home, struct home_letter *letter)
{
    int status = letter_put(home, letter);
    if (status ==
        -ENOENT) { /* others may have removed the folder: it is as if it had not been there */
        home_rest(home);
        status = letter_put(home, letter);
    }
    return status;
}
