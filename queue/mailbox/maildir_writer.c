/*
 * The writer thread of the Maildir store: takes all requests that wait, writes texts, and commits
 * in batches: sync the files, link them into new/, sync the folders, answer.
 */
#include "engine/core/check.h"
#include "engine/core/mutation.h"
#include "queue/mailbox/maildir_folder.h"
#include "queue/mailbox/maildir_private.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BATCH_COMMITS_MAX 256
#define BATCH_FOLDERS_MAX 200 /* two descriptors each, below the usual limit of 1024 */

/* What one round of the writer has in hand. */
struct batch {
    struct maildir *store;
    struct maildir_draft *commits[BATCH_COMMITS_MAX];
    unsigned count;
    struct list_node answers;
    struct maildir_counters counted; /* to be added */
};

/* ---- texts ---- */

static int open_staging(struct maildir_draft *draft)
{
    const struct maildir_files *files = draft->store->files;
    int fd = files->make_file(files->self, draft->store->staging_fd, draft->name);
    draft->fd = fd < 0 ? -1 : fd;
    return fd < 0 ? fd : 0;
}

static int write_all(const struct maildir_files *files, int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = files->write(files->self, fd, bytes, size);
        if (written < 0) {
            return (int)written;
        }
        bytes += written;
        size -= MUTATED(MAILDIR_SHORT_WRITE) ? size : (size_t)written;
    }
    return 0;
}

static void write_chunk(struct chunk *chunk)
{
    struct maildir_draft *draft = chunk->request.draft;
    if (draft->error == 0 && draft->fd < 0) {
        draft->error = open_staging(draft);
    }
    if (draft->error == 0) {
        draft->error = write_all(draft->store->files, draft->fd, chunk->bytes, chunk->size);
    }
    chunk->request.status = draft->error;
}

static void drop_staging(struct maildir_draft *draft)
{
    const struct maildir_files *files = draft->store->files;
    if (draft->fd >= 0) {
        files->close(files->self, draft->fd);
        draft->fd = -1;
        if (!draft->renamed) {
            files->remove(files->self, draft->store->staging_fd, draft->name);
        }
    }
}

/* ---- commits ---- */

static void sync_files(struct batch *batch)
{
    struct maildir *store = batch->store;
    const struct maildir_files *files = store->files;
    for (unsigned i = 0; i < batch->count; i++) {
        struct maildir_draft *draft = batch->commits[i];
        if (draft->error == 0 && draft->fd < 0) {
            draft->error = open_staging(draft); /* a message without a byte */
        }
    }
    if (!store->settings.durable || MUTATED(MAILDIR_TEXT_UNSYNCED)) {
        return;
    }
    bool all = files->sync_all_tells && batch->count >= MAILDIR_SYNC_ALL_AT_LEAST;
    int status = all ? files->sync_all(files->self, store->root_fd) : 0;
    batch->counted.syncs += all;
    for (unsigned i = 0; !all && i < batch->count; i++) {
        if (batch->commits[i]->error ==
            0) { /* write-back of all starts, so that the first fsync finds the others done */
            files->sync_begin(files->self, batch->commits[i]->fd);
        }
    }
    for (unsigned i = 0; i < batch->count; i++) {
        struct maildir_draft *draft = batch->commits[i];
        if (draft->error == 0) {
            draft->error = all ? status : files->sync(files->self, draft->fd);
            batch->counted.syncs += !all;
        }
    }
}

/* Puts the file into one user's new/; by renaming it where nobody comes after. */
static int link_into(struct batch *batch, struct maildir_draft *draft,
                     const struct maildir_delivery *delivery, bool last)
{
    struct maildir *store = batch->store;
    struct folder *folder = NULL;
    int status = folders_find(store->folders, delivery->user, &folder);
    if (status == 0) {
        status = folder_check_quota(store->folders, folder, draft->bytes);
    }
    if (status < 0) {
        return status;
    }
    char name[MAILDIR_NAME_BYTES + 64];
    snprintf(name, sizeof name, "%s,S=%" PRIu64 ",W=%" PRIu64, draft->name, draft->bytes,
             draft->virtual_bytes);
    int new_fd = folder_new_fd(folder);
    const struct maildir_files *files = store->files;
    status = -ENOSYS;
    if (last) {
        status = files->rename(files->self, store->staging_fd, draft->name, new_fd, name);
    }
    bool renamed = status == 0;
    if (status == -EINVAL || status == -ENOSYS) { /* not on every file system */
        status = files->link(files->self, store->staging_fd, draft->name, new_fd, name);
    }
    if (status < 0) {
        /* The same user twice in one message: one copy is what he is owed. */
        return status == -EEXIST || MUTATED(MAILDIR_LINK_BELIEVED) ? 0 : status;
    }
    draft->renamed = draft->renamed || renamed;
    folder_added(folder, draft->bytes);
    return 0;
}

/* A folder that failed to sync: what was linked there is taken back as far as possible, and
 * refused. */
static int delivery_settled(struct batch *batch, struct maildir_draft *draft,
                            const struct maildir_delivery *delivery)
{
    struct folder *folder = NULL;
    if (delivery->status < 0 || folders_find(batch->store->folders, delivery->user, &folder) < 0 ||
        folder_status(folder) == 0) {
        return delivery->status;
    }
    char name[MAILDIR_NAME_BYTES + 64];
    snprintf(name, sizeof name, "%s,S=%" PRIu64 ",W=%" PRIu64, draft->name, draft->bytes,
             draft->virtual_bytes);
    const struct maildir_files *files = batch->store->files;
    files->remove(files->self, folder_new_fd(folder), name);
    return folder_status(folder);
}

static void settle_draft(struct batch *batch, struct maildir_draft *draft, uint32_t from,
                         uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        draft->commit->deliveries[i].status =
            delivery_settled(batch, draft, &draft->commit->deliveries[i]);
    }
}

static void sync_folders(struct batch *batch)
{
    struct maildir *store = batch->store;
    batch->counted.syncs += folders_sync(store->folders);
}

/* Links a draft's recipients; when too many folders are open, those so far are synced and closed.
 */
static void link_draft(struct batch *batch, unsigned index, unsigned *settled_commits,
                       uint32_t *settled_deliveries)
{
    struct maildir_draft *draft = batch->commits[index];
    struct maildir_commit *commit = draft->commit;
    for (uint32_t i = 0; i < commit->count; i++) {
        struct maildir_delivery *delivery = &commit->deliveries[i];
        delivery->status = draft->error;
        if (draft->error == 0) {
            delivery->status = link_into(
                batch, draft, MUTATED(MAILDIR_USERS_MIXED) ? &commit->deliveries[0] : delivery,
                i + 1 == commit->count);
        }
        if (folders_touched(batch->store->folders) >= BATCH_FOLDERS_MAX) {
            sync_folders(batch);
            for (unsigned earlier = *settled_commits; earlier < index; earlier++) {
                settle_draft(batch, batch->commits[earlier], *settled_deliveries,
                             batch->commits[earlier]->commit->count);
                *settled_deliveries = 0;
            }
            settle_draft(batch, draft, *settled_deliveries, i + 1);
            *settled_commits = index;
            *settled_deliveries = i + 1;
            folders_settle(batch->store->folders);
        }
    }
}

static void count_deliveries(struct batch *batch, const struct maildir_draft *draft)
{
    bool stored = false;
    for (uint32_t i = 0; i < draft->commit->count; i++) {
        int status = draft->commit->deliveries[i].status;
        batch->counted.deliveries += status == 0;
        batch->counted.refused_quota += status == -EDQUOT;
        batch->counted.failed += status < 0 && status != -EDQUOT;
        stored = stored || status == 0;
    }
    batch->counted.messages += stored;
    batch->counted.bytes += stored ? draft->bytes : 0;
}

static void commit_batch(struct batch *batch)
{
    if (batch->count == 0) {
        return;
    }
    unsigned settled_commits = 0;
    uint32_t settled_deliveries = 0;
    sync_files(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        link_draft(batch, i, &settled_commits, &settled_deliveries);
    }
    sync_folders(batch);
    for (unsigned i = settled_commits; i < batch->count; i++) {
        settle_draft(batch, batch->commits[i], settled_deliveries,
                     batch->commits[i]->commit->count);
        settled_deliveries = 0;
    }
    folders_settle(batch->store->folders);
    for (unsigned i = 0; i < batch->count; i++) {
        struct maildir_draft *draft = batch->commits[i];
        count_deliveries(batch, draft);
        drop_staging(draft);
        list_append(&batch->answers, &draft->end.node);
    }
    batch->counted.batches++;
    batch->count = 0;
}

/* ---- the thread ---- */

static void give_answers(struct batch *batch)
{
    struct maildir *store = batch->store;
    if (list_empty(&batch->answers)) {
        return;
    }
    pthread_mutex_lock(&store->lock);
    list_splice(&store->answers, &batch->answers);
    store->counters.messages += batch->counted.messages;
    store->counters.deliveries += batch->counted.deliveries;
    store->counters.refused_quota += batch->counted.refused_quota;
    store->counters.failed += batch->counted.failed;
    store->counters.bytes += batch->counted.bytes;
    store->counters.batches += batch->counted.batches;
    store->counters.syncs += batch->counted.syncs;
    pthread_mutex_unlock(&store->lock);
    batch->counted = (struct maildir_counters){0};
    store->settings.wake(store->settings.owner);
}

static void take_request(struct batch *batch, struct request *request)
{
    switch (request->kind) {
    case REQUEST_WRITE:
        write_chunk((struct chunk *)(void *)request);
        list_append(&batch->answers, &request->node);
        return;
    case REQUEST_COMMIT:
        batch->commits[batch->count++] = request->draft;
        return;
    case REQUEST_ABORT:
        if (!MUTATED(MAILDIR_FILE_OPEN)) {
            drop_staging(request->draft);
        }
        list_append(&batch->answers, &request->node);
        return;
    }
}

bool maildir_writer_round(struct maildir *store)
{
    struct batch batch = {.store = store};
    struct list_node requests;
    list_init(&requests);
    list_init(&batch.answers);
    pthread_mutex_lock(&store->lock);
    list_splice(&requests, &store->requests);
    pthread_mutex_unlock(&store->lock);
    bool any = !list_empty(&requests);
    for (struct list_node *node; (node = list_pop(&requests)) != NULL;) {
        take_request(&batch, list_entry(node, struct request, node));
        if (batch.count == BATCH_COMMITS_MAX) {
            give_answers(&batch); /* written texts first: they are room for others */
            commit_batch(&batch);
        }
    }
    give_answers(&batch);
    commit_batch(&batch);
    give_answers(&batch);
    return any;
}

/* Waits for requests; false: the end. */
static bool wait_for_work(struct maildir *store)
{
    pthread_mutex_lock(&store->lock);
    while (list_empty(&store->requests) && !store->stopping) {
        pthread_cond_wait(&store->work, &store->lock);
    }
    bool any = !list_empty(&store->requests);
    pthread_mutex_unlock(&store->lock);
    return any;
}

void *maildir_writer_run(void *owner)
{
    struct maildir *store = (struct maildir *)owner;
    while (wait_for_work(store)) {
        maildir_writer_round(store);
    }
    return NULL;
}
