/*
 * What is kept after expunge: links of messages in a folder of the user's that is no Maildir, so that neither Dovecot nor
 * anybody else lists it, and that is on the file system of his Maildir, so that nothing is copied. Flags, dates and whose
 * it was are the store's.
 *
 *   PATH/USER/tubepost-kept/STATE-ID      both as 16 hexadecimal digits: of the store's state, and of what it is there
 *
 * The link is durable before the name in the mailbox goes, so a crash leaves at least one of them.
 */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_FOLDER "tubepost-kept"
#define KEPT_COPY "copy" /* of one whose bytes are on their way */
#define KEPT_NAME_BYTES 34u
#define RESTORES_MAX 5 /* tries, while others rename what is not there yet */

void home_state(struct home *home, uint64_t state)
{
    home->state = state;
}

static void kept_name(const struct home *home, uint64_t id, char name[KEPT_NAME_BYTES])
{
    snprintf(name, KEPT_NAME_BYTES, "%016" PRIx64 "-%016" PRIx64, home->state, id);
}

/* -ENOENT: there is none. */
static int kept_open(struct home *home)
{
    const struct maildir_files *files = home_files(home);
    int status = home_root(home);
    return status < 0 ? status : files->open_folder(files->self, home->root, KEPT_FOLDER);
}

static int kept_make(struct home *home)
{
    const struct maildir_files *files = home_files(home);
    int at = kept_open(home);
    if (at != -ENOENT) {
        return at;
    }
    int status = home_part_make(files, home->root, KEPT_FOLDER);
    return status == 0 || status == -EEXIST ? kept_open(home) : status;
}

/* ---- keeping ---- */

static bool is_same(const struct maildir_files *files, int at, const char *name, int other_at,
                    const char *other)
{
    struct maildir_file_facts one, two;
    return files->facts(files->self, at, name, &one) == 0 &&
           files->facts(files->self, other_at, other, &two) == 0 && one.inode == two.inode &&
           one.device == two.device;
}

static int kept_by_bytes(const struct maildir_files *files, int from_at, const char *from, int at,
                         const char *name)
{
    int status = home_file_copy(files, from_at, from, at, KEPT_COPY);
    return status == 0 ? files->replace(files->self, at, KEPT_COPY, name) : status;
}

static int file_keep(const struct maildir_files *files, int from_at, const char *from, int at,
                     const char *name)
{
    int status = files->link(files->self, from_at, from, at, name);
    if (status == -EEXIST) { /* since before a crash; or of a state that was put back */
        if (is_same(files, from_at, from, at, name)) {
            return 0;
        }
        files->remove(files->self, at, name);
        status = files->link(files->self, from_at, from, at, name);
    }
    return home_has_no_links(status) ? kept_by_bytes(files, from_at, from, at, name) : status;
}

/* 0; -ENOENT: it has gone. */
static int message_keep(struct home *home, struct home_folder *folder, int at,
                        const struct home_write *write)
{
    char name[KEPT_NAME_BYTES];
    struct maildir_box *box = &folder->box;
    int status = -ENOENT;
    kept_name(home, write->kept, name);
    for (unsigned i = 0; i < 2 && status == -ENOENT; i++) { /* its name may be another by now */
        status = i > 0 ? maildir_box_scan(box) : 0;
        const struct maildir_uid *uid = maildir_uidlist_find_uid(&box->list, write->uid);
        if (status < 0 || uid == NULL || uid->presence != MAILDIR_PRESENT) {
            return status < 0 ? status : -ENOENT;
        }
        status = file_keep(home_files(home), uid->in_new ? box->new_folder : box->cur_folder,
                           uid->file, at, name);
    }
    return status;
}

/* Later it could not be kept either, and is expunged all the same: a folder, say. */
static bool is_no_message(int status)
{
    return status == -EISDIR || status == -EINVAL || status == -ELOOP || status == -ENXIO;
}

int home_keep(struct home *home, struct home_folder *folder, const struct home_writes *writes,
              int *statuses)
{
    const struct maildir_files *files = home_files(home);
    int at = -1, status = 0;
    for (size_t i = 0; i < writes->count && status == 0; i++) {
        const struct home_write *write = &writes->writes[i];
        statuses[i] = 0;
        if (!write->expunge || write->kept == 0) {
            continue;
        }
        at = at < 0 ? kept_make(home) : at;
        status = at < 0 ? at : 0;
        int kept = status == 0 ? message_keep(home, folder, at, write) : status;
        statuses[i] = kept == -ENOENT || is_no_message(kept) ? 0 : kept;
    }
    if (at >= 0) {
        status = status == 0 ? files->sync(files->self, at) : status;
        files->close(files->self, at);
    }
    return status;
}

/* ---- and back ---- */

struct restoring {
    struct home *home;
    struct home_folder *folder;
    struct home_restore *restore;
    int kept; /* the folder; < 0: there is none */
    struct maildir_put *puts;
    char (*sources)[MAILDIR_FILE_NAME_MAX + 1];
};

/* Where it lies: there, or still in the mailbox, when the expunge is not written yet. False: it has gone. */
static bool source_find(struct restoring *restoring, const struct home_kept *kept,
                        struct maildir_put *put, char *source, struct maildir_name *is)
{
    const struct maildir_files *files = home_files(restoring->home);
    const struct maildir_box *box = &restoring->folder->box;
    struct maildir_file_facts facts;
    kept_name(restoring->home, kept->kept, source);
    put->from_at = restoring->kept;
    int status =
        restoring->kept < 0 ? -ENOENT : files->facts(files->self, restoring->kept, source, &facts);
    const struct maildir_uid *uid = maildir_uidlist_find_uid(&box->list, kept->uid);
    if (status < 0 && uid != NULL && uid->presence == MAILDIR_PRESENT &&
        box->list.uidvalidity == restoring->restore->uidvalidity) {
        put->from_at = uid->in_new ? box->new_folder : box->cur_folder;
        snprintf(source, MAILDIR_FILE_NAME_MAX + 1, "%s", uid->file);
        status = files->facts(files->self, put->from_at, source, &facts);
    }
    is->bytes = status == 0 ? facts.bytes : 0;
    return status == 0;
}

static int kept_take(struct restoring *restoring, const struct home_kept *kept)
{
    struct home_restore *restore = restoring->restore;
    size_t at = restore->restored_count;
    struct maildir_put *put = &restoring->puts[at];
    struct maildir_name is = {.virtual_bytes = kept->bytes,
                              .flags = home_flags_to_maildir(kept->flags)};
    *put = (struct maildir_put){.from = restoring->sources[at], .links = true};
    if (!source_find(restoring, kept, put, restoring->sources[at], &is)) {
        return 0;
    }
    int status = home_letters_of(restoring->folder, restore->names, restore->name_count,
                                 kept->keywords, &is.keywords);
    restore->left_off |=
        home_left_off(restoring->folder, restore->names, restore->name_count, kept->keywords);
    restore->restored[restore->restored_count++] = kept->uid;
    return status < 0 ? status : home_name_make(restoring->home, &is, put->name);
}

static int restore_once(struct restoring *restoring)
{
    struct home_restore *restore = restoring->restore;
    restore->restored_count = 0;
    int status = maildir_box_scan(&restoring->folder->box);
    for (size_t i = 0; i < restore->count && status == 0; i++) {
        status = kept_take(restoring, &restore->entries[i]);
    }
    return status == 0 && restore->restored_count > 0
               ? home_puts(restoring->home, &restoring->folder->box, restoring->puts,
                           restore->restored_count)
               : status;
}

int home_restore(struct home *home, struct home_restore *restore, struct home_news **news)
{
    struct restoring restoring = {.home = home, .restore = restore, .kept = -1};
    restore->restored_count = 0;
    int status = home_folder_need(home, restore->mailbox, &restoring.folder);
    restoring.kept = status == 0 ? kept_open(home) : -1;
    restoring.puts = calloc(restore->count + 1, sizeof restoring.puts[0]);
    restoring.sources = calloc(restore->count + 1, sizeof restoring.sources[0]);
    if (restoring.puts == NULL || restoring.sources == NULL) {
        status = -ENOMEM;
    }
    status = status == 0 ? restore_once(&restoring) : status;
    for (unsigned i = 1; status == -ENOENT && i < RESTORES_MAX; i++) {
        status = restore_once(&restoring);
    }
    if (status == 0 && restore->restored_count > 0) {
        restore->first = restoring.puts[0].uid;
        status = home_folder_compare(home, restoring.folder, news);
    }
    restore->restored_count = status < 0 ? 0 : restore->restored_count;
    if (restoring.kept >= 0) {
        home_files(home)->close(home_files(home)->self, restoring.kept);
    }
    free(restoring.puts);
    free(restoring.sources);
    return status;
}

/* ---- what is not kept any more ---- */

struct tidying {
    struct home *home;
    int at;
    const struct home_tidy *tidy;
    unsigned removed;
};

static bool is_kept(const struct home_tidy *tidy, uint64_t id)
{
    size_t low = 0, high = tidy->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tidy->ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < tidy->count && tidy->ids[low] == id;
}

/* Of a state that was lost nobody knows what is kept: it goes when its time is over. */
static bool is_over(const struct tidying *tidying, const char *name)
{
    const struct maildir_files *files = home_files(tidying->home);
    struct maildir_file_facts facts;
    int64_t now_s = world_wall_s(tidying->home->owner->world);
    return files->facts(files->self, tidying->at, name, &facts) == 0 &&
           facts.changed_s + (int64_t)tidying->tidy->keep_s < now_s;
}

static void kept_judge(void *owner, const char *name)
{
    struct tidying *tidying = owner;
    const struct maildir_files *files = home_files(tidying->home);
    uint64_t state, id;
    int end = 0;
    bool named = strlen(name) == KEPT_NAME_BYTES - 1 &&
                 sscanf(name, "%16" SCNx64 "-%16" SCNx64 "%n", &state, &id, &end) == 2 &&
                 end == (int)KEPT_NAME_BYTES - 1;
    if (named &&
        (state == tidying->home->state ? !is_kept(tidying->tidy, id) : is_over(tidying, name))) {
        tidying->removed += files->remove(files->self, tidying->at, name) == 0;
    }
}

int home_tidy(struct home *home, const struct home_tidy *tidy)
{
    const struct maildir_files *files = home_files(home);
    struct tidying tidying = {.home = home, .tidy = tidy, .at = kept_open(home)};
    if (tidying.at < 0) {
        return tidying.at == -ENOENT ? 0 : tidying.at;
    }
    int status = files->list(files->self, tidying.at, kept_judge, &tidying);
    files->close(files->self, tidying.at);
    if (status == 0 && tidying.removed > 0 && tidy->count == 0) {
        files->remove_folder(files->self, home->root, KEPT_FOLDER); /* unless something is in it */
    }
    return status;
}
