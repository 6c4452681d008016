#include "queue/mailbox/maildir.h"
#include "engine/core/check.h"
#include "engine/core/mutation.h"
#include "queue/mailbox/maildir_folder.h"
#include "queue/mailbox/maildir_private.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- opening and closing ---- */

static int open_folder(const struct maildir_files *files, int at, const char *name)
{
    int status = files->make_folder(files->self, at, name);
    return status < 0 && status != -EEXIST ? status : files->open_folder(files->self, at, name);
}

/* What a crash left was never acknowledged. */
static void remove_left(void *owner, const char *name)
{
    struct maildir *store = (struct maildir *)owner;
    if (!MUTATED(MAILDIR_STAGING_KEPT)) {
        store->files->remove(store->files->self, store->staging_fd, name);
    }
}

static int open_folders(struct maildir *store)
{
    const struct maildir_files *files = store->files;
    char staging[sizeof MAILDIR_STAGING + 16];
    snprintf(staging, sizeof staging,
             store->settings.shard > 0 ? MAILDIR_STAGING ".%u" : MAILDIR_STAGING,
             store->settings.shard);
    store->root_fd = files->open_root(files->self, store->settings.path);
    if (store->root_fd < 0) {
        return store->root_fd;
    }
    store->staging_fd = open_folder(files, store->root_fd, staging);
    if (store->staging_fd < 0) {
        return store->staging_fd;
    }
    int status = files->lock(files->self, store->staging_fd);
    if (status == 0) {
        status = files->sync(files->self, store->root_fd);
    }
    return status < 0 ? status : files->list(files->self, store->staging_fd, remove_left, store);
}

static int start_writer(struct maildir *store)
{
    if (store->settings.driven) {
        return 0;
    }
    sigset_t all, before;
    sigfillset(&all); /* signals are main's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&store->writer, NULL, maildir_writer_run, store);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static void free_chunks(struct list_node *list)
{
    for (struct list_node *node; (node = list_pop(list)) != NULL;) {
        free(list_entry(node, struct chunk, request.node));
    }
}

static void dispose(struct maildir *store)
{
    free_chunks(&store->spare);
    folders_close(store->folders);
    if (store->staging_fd >= 0) {
        store->files->close(store->files->self, store->staging_fd);
    }
    if (store->root_fd >= 0) {
        store->files->close(store->files->self, store->root_fd);
    }
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->work);
    free(store->hostname);
    free(store);
}

int maildir_open(struct maildir **made, const struct maildir_settings *settings)
{
    struct maildir *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return -ENOMEM;
    }
    store->settings = *settings;
    store->files = settings->files;
    store->root_fd = store->staging_fd = -1;
    store->chunk_count_max = settings->pending_bytes_max / MAILDIR_CHUNK_BYTES;
    store->chunk_count_max += store->chunk_count_max == 0;
    list_init(&store->spare);
    list_init(&store->outgoing);
    list_init(&store->waiting);
    list_init(&store->requests);
    list_init(&store->answers);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->work, NULL);
    store->hostname = strdup(settings->hostname);
    int status = store->hostname == NULL ? -ENOMEM : open_folders(store);
    if (status == 0) {
        status = folders_open(&store->folders, store->files, store->root_fd, settings->durable,
                              settings->quota_bytes);
    }
    if (status == 0) {
        status = start_writer(store);
    }
    if (status < 0) {
        dispose(store);
        return status;
    }
    *made = store;
    return 0;
}

static void stop_writer(struct maildir *store)
{
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
    pthread_join(store->writer, NULL);
}

void maildir_close(struct maildir *store)
{
    maildir_flush(store);
    if (store->settings.driven) {
        maildir_write(store);
    } else {
        stop_writer(store);
    }
    for (struct list_node *node; (node = list_pop(&store->answers)) != NULL;) {
        struct request *request = list_entry(node, struct request, node);
        if (request->kind == REQUEST_WRITE) {
            free((struct chunk *)(void *)request);
        } else {
            free(request->draft);
        }
    }
    dispose(store);
}

/* ---- a message being received ---- */

/* TIME.MmicrosecondsPpidQsequence.HOST, unique in every case: the sequence tells messages of one
 * process apart, the random part those of two processes of the same id. */
static void make_name(struct maildir *store, char name[MAILDIR_NAME_BYTES])
{
    uint64_t us = world_now_ns(store->settings.world) / 1000;
    uint32_t random;
    world_random(store->settings.world, &random, sizeof random);
    snprintf(name, MAILDIR_NAME_BYTES,
             "%" PRId64 ".M%06" PRIu64 "P%" PRIu32 "Q%" PRIu32 "R%08" PRIx32 ".%.100s",
             world_wall_s(store->settings.world), us % 1000000, store->settings.process_id,
             store->sequence++, random, store->hostname);
}

int maildir_begin(struct maildir *store, struct maildir_draft **made)
{
    if (store->draft_count >= store->chunk_count_max) {
        return -ENOBUFS;
    }
    struct maildir_draft *draft = calloc(1, sizeof *draft);
    if (draft == NULL) {
        return -ENOMEM;
    }
    draft->store = store;
    draft->fd = -1;
    draft->end.draft = draft;
    list_init(&draft->end.node);
    store->draft_count++;
    make_name(store, draft->name);
    *made = draft;
    return 0;
}

struct slice maildir_draft_id(const struct maildir_draft *draft)
{
    const char *start = strchr(draft->name, '.') + 1;
    return slice_of(start, strcspn(start, "."));
}

uint64_t maildir_draft_bytes(const struct maildir_draft *draft)
{
    return draft->unwire.bytes + draft->unwire.lone_lines;
}

static struct chunk *take_chunk(struct maildir *store)
{
    struct list_node *node = list_pop(&store->spare);
    if (node != NULL) {
        return list_entry(node, struct chunk, request.node);
    }
    if (store->chunk_count == store->chunk_count_max) {
        return NULL;
    }
    struct chunk *chunk = malloc(sizeof *chunk);
    if (chunk != NULL) {
        list_init(&chunk->request.node);
        store->chunk_count++;
    }
    return chunk;
}

static void queue_chunk(struct maildir_draft *draft)
{
    struct chunk *chunk = draft->open;
    draft->open = NULL;
    chunk->request.kind = REQUEST_WRITE;
    chunk->request.draft = draft;
    chunk->request.status = 0;
    list_append(&draft->store->outgoing, &chunk->request.node);
}

ssize_t maildir_append(struct maildir_draft *draft, struct slice wire)
{
    size_t given = wire.size;
    while (wire.size > 0) {
        if (draft->failed < 0) {
            return draft->failed;
        }
        /* unwire_take needs 2 bytes, and one is kept for unwire_end. */
        if (draft->open != NULL && MAILDIR_CHUNK_BYTES - draft->open->size < 3) {
            queue_chunk(draft);
        }
        if (draft->open == NULL) {
            draft->open = take_chunk(draft->store);
            if (draft->open == NULL) {
                break;
            }
            draft->open->size = 0;
        }
        struct chunk *chunk = draft->open;
        chunk->size += unwire_take(&draft->unwire, &wire, chunk->bytes + chunk->size,
                                   MAILDIR_CHUNK_BYTES - chunk->size - 1);
    }
    return (ssize_t)(given - wire.size);
}

void maildir_when_room(struct maildir *store, struct maildir_waiter *waiter)
{
    list_append(&store->waiting, &waiter->node);
}

void maildir_commit(struct maildir_draft *draft, struct maildir_commit *commit)
{
    if (draft->open != NULL) {
        draft->open->size += unwire_end(&draft->unwire, draft->open->bytes + draft->open->size);
        queue_chunk(draft);
    }
    draft->bytes = draft->unwire.bytes;
    draft->virtual_bytes = draft->unwire.bytes + draft->unwire.lone_lines;
    draft->commit = commit;
    draft->end.kind = REQUEST_COMMIT;
    draft->store->draft_count--;
    list_append(&draft->store->outgoing, &draft->end.node);
}

void maildir_abort(struct maildir_draft *draft)
{
    if (draft->open != NULL) {
        list_append(&draft->store->spare, &draft->open->request.node);
        draft->open = NULL;
    }
    draft->end.kind = REQUEST_ABORT;
    draft->store->draft_count--;
    list_append(&draft->store->outgoing, &draft->end.node);
}

/* ---- to the writer and back ---- */

void maildir_flush(struct maildir *store)
{
    if (list_empty(&store->outgoing)) {
        return;
    }
    pthread_mutex_lock(&store->lock);
    list_splice(&store->requests, &store->outgoing);
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

static void answered(struct maildir *store, struct request *request)
{
    struct maildir_draft *draft = request->draft;
    struct maildir_commit *commit = NULL;
    switch (request->kind) {
    case REQUEST_WRITE:
        if (request->status < 0) {
            draft->failed = request->status;
        }
        list_append(&store->spare, &request->node);
        return;
    case REQUEST_COMMIT:
        commit = draft->commit;
        free(draft);
        commit->waiter.done(&commit->waiter);
        return;
    case REQUEST_ABORT:
        free(draft);
        return;
    }
}

unsigned maildir_reap(struct maildir *store)
{
    struct list_node answers;
    list_init(&answers);
    pthread_mutex_lock(&store->lock);
    list_splice(&answers, &store->answers);
    pthread_mutex_unlock(&store->lock);
    unsigned count = 0;
    for (struct list_node *node; (node = list_pop(&answers)) != NULL; count++) {
        answered(store, list_entry(node, struct request, node));
    }
    if (count > 0 && (!list_empty(&store->spare) || store->chunk_count < store->chunk_count_max)) {
        struct list_node waiting; /* who waits again does so for the next time */
        list_init(&waiting);
        list_splice(&waiting, &store->waiting);
        for (struct list_node *node; (node = list_pop(&waiting)) != NULL;) {
            struct maildir_waiter *waiter = list_entry(node, struct maildir_waiter, node);
            waiter->done(waiter);
        }
    }
    return count;
}

void maildir_write(struct maildir *store)
{
    check(store->settings.driven);
    maildir_writer_round(store);
}

bool maildir_has_work(struct maildir *store)
{
    pthread_mutex_lock(&store->lock);
    bool has = !list_empty(&store->requests);
    pthread_mutex_unlock(&store->lock);
    return has;
}

void maildir_read_counters(struct maildir *store, struct maildir_counters *counters)
{
    pthread_mutex_lock(&store->lock);
    *counters = store->counters;
    pthread_mutex_unlock(&store->lock);
}
