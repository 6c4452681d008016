/* Which mailboxes a user has subscribed, as others may have changed it too. */
#include "queue/mailbox/maildir_home_private.h"
#include "queue/mailbox/maildir_subscriptions.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIPTIONS_BYTES_MAX (4u << 20)
#define SUBSCRIPTIONS_TEMPORARY "subscriptions.tubepost"
#define UNSURE_S 2 /* a change within the second of the last look may not show in times */

/* The whole file, of the heap, with NUL behind. */
static int text_read(struct home *home, char **text, size_t *size)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts facts = {0};
    int file = files->open_file(files->self, home->root, MAILDIR_SUBSCRIPTIONS);
    int status = file < 0 ? file : files->facts_of_open(files->self, file, &facts);
    size_t room =
        facts.bytes < SUBSCRIPTIONS_BYTES_MAX ? (size_t)facts.bytes : SUBSCRIPTIONS_BYTES_MAX;
    *text = calloc(1, room + 1);
    *size = 0;
    status = *text == NULL ? -ENOMEM : status == -ENOENT ? 0 : status;
    while (status == 0 && file >= 0 && *size < room) {
        ssize_t got = files->read(files->self, file, *size, *text + *size, room - *size);
        if (got <= 0) {
            status = (int)got;
            break;
        }
        *size += (size_t)got;
    }
    if (file >= 0) {
        files->close(files->self, file);
    }
    if (status < 0) {
        free(*text);
        *text = NULL;
    }
    return status;
}

int home_subscribed(struct home *home, char **names, size_t *size)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts facts = {0};
    struct home_facts now = {0};
    int64_t now_s = world_wall_s(home->owner->world);
    int status = home_root(home);
    if (status < 0) {
        return status;
    }
    if (files->facts(files->self, home->root, MAILDIR_SUBSCRIPTIONS, &facts) == 0) {
        now.modified_s[0] = facts.modified_s;
        now.bytes[0] = facts.bytes;
        now.inodes[0] = facts.inode;
    }
    if (home->subscriptions_s != 0 && memcmp(&now, &home->subscriptions, sizeof now) == 0 &&
        facts.modified_s + UNSURE_S <= home->subscriptions_s) {
        return -EALREADY;
    }
    char *text;
    size_t bytes;
    status = text_read(home, &text, &bytes);
    if (status < 0) {
        return status;
    }
    *names = maildir_subscriptions_names(slice_of(text, bytes), size);
    free(text);
    home->subscriptions = now;
    home->subscriptions_s = now_s;
    return *names == NULL ? -ENOMEM : 0;
}

static int file_write(struct home *home, const char *text, size_t size)
{
    const struct maildir_files *files = home_files(home);
    files->remove(files->self, home->root, SUBSCRIPTIONS_TEMPORARY);
    int file = files->make_file(files->self, home->root, SUBSCRIPTIONS_TEMPORARY);
    int status = file < 0 ? file : 0;
    for (size_t done = 0; done < size && status == 0;) {
        ssize_t written = files->write(files->self, file, text + done, size - done);
        status = written < 0 ? (int)written : 0;
        done += written > 0 ? (size_t)written : 0;
    }
    status = status == 0 ? files->sync(files->self, file) : status;
    if (file >= 0) {
        files->close(files->self, file);
    }
    status = status == 0 ? files->replace(files->self, home->root, SUBSCRIPTIONS_TEMPORARY,
                                          MAILDIR_SUBSCRIPTIONS)
                         : status;
    return status == 0 ? files->sync(files->self, home->root) : status;
}

static int list_change(struct home *home, const char *mailbox, bool subscribed)
{
    char *text;
    size_t size;
    int status = text_read(home, &text, &size);
    char *out = status < 0 ? NULL : malloc(size + MAILDIR_SUBSCRIPTIONS_MORE);
    if (out == NULL) {
        free(status < 0 ? NULL : text);
        return status < 0 ? status : -ENOMEM;
    }
    ssize_t changed = maildir_subscriptions_change(slice_of(text, size), mailbox, subscribed, out);
    status = changed < 0 ? (int)changed : file_write(home, out, (size_t)changed);
    free(out);
    free(text);
    return status;
}

int home_subscribe(struct home *home, const char *mailbox, bool subscribed)
{
    int status = home_root(home);
    struct maildir_lock lock = {.owner = home->owner,
                                .at = home->root,
                                .protected = MAILDIR_SUBSCRIPTIONS,
                                .stale_s = MAILDIR_LOCK_STALE_S};
    status = status == 0 ? maildir_lock_take(&lock, MAILDIR_LOCK_PATIENCE_S) : status;
    if (status == 0) {
        status = list_change(home, mailbox, subscribed);
        maildir_lock_release(&lock);
    }
    return status;
}
