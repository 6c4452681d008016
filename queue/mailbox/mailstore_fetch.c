/* Reading texts: from the log's memory, else fetched from the disk into a bounded pool. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define FETCH_BYTES_MIN (1024u * 1024)
#define SMALL_BYTES (16u * 1024)

/*
 *  EMPTY ──read──► READING ──done──► READY or BAD ──► EMPTY, when it is used for another
 */
enum buffer_state { BUFFER_EMPTY, BUFFER_READING, BUFFER_READY, BUFFER_BAD };

struct buffer {
    struct ref ref; /* readers, while it is READY */
    struct disk_done done;
    struct list_node node; /* idle, of its kind */
    struct list_node waiters;
    struct mailstore *store;
    struct buffers *kind;
    struct log_fetch fetch;
    struct slice content;
    uint8_t *memory;
    enum buffer_state state;
};
struct buffers {
    struct list_node idle; /* least recently used first */
    uint32_t bytes, count;
    struct buffer *all;
};
struct fetch_pool {
    struct buffers small, large;
    uint8_t *memory;
    uint32_t reading;
};

static void buffer_release(struct ref *ref)
{
    struct buffer *buffer = (struct buffer *)(void *)ref;
    list_append(&buffer->kind->idle, &buffer->node);
}

static bool buffers_open(struct mailstore *store, struct buffers *kind, uint32_t bytes,
                         size_t total)
{
    struct fetch_pool *pool = store->fetches;
    uint8_t *memory = kind == &pool->large
                          ? pool->memory
                          : pool->memory + (size_t)pool->large.count * pool->large.bytes;
    list_init(&kind->idle);
    kind->bytes = bytes;
    kind->count = (uint32_t)(total / bytes);
    kind->all = (struct buffer *)calloc(kind->count, sizeof(kind->all[0]));
    for (uint32_t i = 0; kind->all != NULL && i < kind->count; i++) {
        struct buffer *buffer = &kind->all[i];
        buffer->ref.release = buffer_release;
        buffer->store = store;
        buffer->kind = kind;
        buffer->memory = memory + (size_t)i * bytes;
        list_init(&buffer->waiters);
        list_init(&buffer->node);
        list_append(&kind->idle, &buffer->node);
    }
    return kind->all != NULL;
}

int fetch_pool_open(struct mailstore *store)
{
    size_t bytes = store->settings.fetch_memory_bytes;
    if (bytes < FETCH_BYTES_MIN) {
        return -EINVAL;
    }
    bytes -= bytes % (2 * LOG_FRAME_BYTES);
    struct fetch_pool *pool = (struct fetch_pool *)calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return -ENOMEM;
    }
    store->fetches = pool;
    pool->memory = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, bytes);
    bool made = pool->memory != NULL &&
                buffers_open(store, &pool->large, LOG_FRAME_BYTES, bytes / 2) &&
                buffers_open(store, &pool->small, SMALL_BYTES, bytes / 2);
    return made ? 0 : -ENOMEM;
}

void fetch_pool_close(struct mailstore *store)
{
    struct fetch_pool *pool = store->fetches;
    if (pool != NULL) {
        free(pool->large.all);
        free(pool->small.all);
        free(pool->memory);
        free(pool);
    }
}

static struct buffer *buffer_find(struct buffers *kind, uint64_t lsn)
{
    for (uint32_t i = 0; i < kind->count; i++) {
        struct buffer *buffer = &kind->all[i];
        if (buffer->state != BUFFER_EMPTY && buffer->fetch.extent.lsn == lsn) {
            return buffer;
        }
    }
    return NULL;
}

static void buffer_done(struct disk_done *done, int result)
{
    struct buffer *buffer = list_entry(done, struct buffer, done);
    struct mailstore *store = buffer->store;
    log_fetch_end(store->log, &buffer->fetch);
    store->fetches->reading--;
    if (result >= 0) {
        result = log_fetch_verify(store->log, &buffer->fetch, buffer->memory, &buffer->content);
    }
    buffer->state = result >= 0 ? BUFFER_READY : BUFFER_BAD;
    store->counters.fetch_failures += result < 0;
    struct list_node told;
    list_init(&told);
    list_splice(&told, &buffer->waiters);
    list_append(&buffer->kind->idle, &buffer->node);
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct mailstore_waiter *waiter = list_entry(node, struct mailstore_waiter, node);
        list_entry(waiter, struct mailstore_fetch, waiter)->private = NULL;
        waiter->done(waiter, result >= 0 ? 0 : -EIO);
    }
}

static int buffer_wait(struct buffer *buffer, struct mailstore_fetch *fetch)
{
    list_init(&fetch->waiter.node);
    list_append(&buffer->waiters, &fetch->waiter.node);
    fetch->private = buffer;
    return -EINPROGRESS;
}

static int buffer_read(struct mailstore *store, const struct log_extent *extent,
                       struct mailstore_fetch *fetch)
{
    struct fetch_pool *pool = store->fetches;
    struct log_fetch wanted;
    int status = log_fetch_begin(store->log, extent, &wanted);
    if (status != 0) {
        return status;
    }
    bool small = wanted.bytes <= SMALL_BYTES && !list_empty(&pool->small.idle);
    struct list_node *node = list_pop(small ? &pool->small.idle : &pool->large.idle);
    if (node == NULL) {
        log_fetch_end(store->log, &wanted);
        return -EAGAIN;
    }
    struct buffer *buffer = list_entry(node, struct buffer, node);
    struct disk *disk = log_settings_of(store->log)->disk;
    buffer->state = BUFFER_READING;
    buffer->fetch = wanted;
    buffer->done.run = buffer_done;
    list_init(&buffer->done.node);
    status = disk->ops->read(disk, wanted.file, buffer->memory, wanted.bytes, wanted.offset,
                             &buffer->done);
    if (status < 0) {
        buffer->state = BUFFER_EMPTY;
        list_append(&buffer->kind->idle, &buffer->node);
        log_fetch_end(store->log, &wanted);
        return status == -EAGAIN ? -EAGAIN : -EIO;
    }
    pool->reading++;
    store->counters.fetches++;
    return buffer_wait(buffer, fetch);
}

static int buffer_use(struct buffer *buffer, struct slice *bytes, struct ref **owner,
                      struct mailstore_fetch *fetch)
{
    switch (buffer->state) {
    case BUFFER_READING:
        return buffer_wait(buffer, fetch);
    case BUFFER_READY:
        if (buffer->ref.count == 0) {
            list_remove(&buffer->node);
            ref_init(&buffer->ref, buffer_release);
        } else {
            ref_take(&buffer->ref);
        }
        *owner = &buffer->ref;
        *bytes = buffer->content;
        return 0;
    case BUFFER_BAD: /* said once; who asks again has it read again */
        buffer->state = BUFFER_EMPTY;
        return -EIO;
    case BUFFER_EMPTY:
        break;
    }
    return -EIO;
}

static int record_read(struct mailstore *store, const struct log_extent *extent,
                       struct slice *bytes, struct ref **owner, struct mailstore_fetch *fetch)
{
    int status = log_read(store->log, extent, bytes, owner);
    if (status != -ENOENT) {
        return status;
    }
    struct buffer *buffer = buffer_find(&store->fetches->small, extent->lsn);
    buffer = buffer != NULL ? buffer : buffer_find(&store->fetches->large, extent->lsn);
    return buffer != NULL ? buffer_use(buffer, bytes, owner, fetch)
                          : buffer_read(store, extent, fetch);
}

int mailstore_read(struct mailstore *store, struct mailstore_text *text, uint32_t offset,
                   struct slice *bytes, struct ref **owner, struct mailstore_fetch *fetch)
{
    struct text_row *row;
    if (fetch->private != NULL) {
        return -EINPROGRESS; /* asked before it was told */
    }
    if (text_get(store, text->id, &row) != 0) {
        return -EIO;
    }
    if (row->kind == TEXT_FILE) {
        return store->files == NULL ? -EIO
                                    : files_read(store, text, row, offset, bytes, owner, fetch);
    }
    for (uint32_t i = 0; i < row->extent_count; i++) {
        const struct text_extent *extent = &row->extents[i];
        if (offset < extent->offset || offset - extent->offset >= extent->length) {
            continue;
        }
        uint32_t skip = offset - extent->offset + (uint32_t)sizeof(struct chunk_head);
        struct log_extent at = {.lsn = extent->lsn,
                                .length = extent->length + (uint32_t)sizeof(struct chunk_head)};
        int status = record_read(store, &at, bytes, owner, fetch);
        if (status == 0) {
            *bytes = slice_from(*bytes, skip);
        }
        return status;
    }
    return -EIO;
}

void mailstore_fetch_cancel(struct mailstore *store, struct mailstore_fetch *fetch)
{
    (void)store;
    if (fetch->private != NULL) {
        list_remove(&fetch->waiter.node);
        fetch->private = NULL;
    }
}

bool fetch_pool_is_quiet(const struct mailstore *store)
{
    return store->fetches->reading == 0;
}

/* ── Texts that are open ─────────────────────────────────────────────────────────────────────── */

int mailstore_text_open(struct mailstore *store, uint64_t id, struct mailstore_text *text)
{
    struct text_row *row;
    int status = text_get(store, id, &row);
    if (status != 0) {
        return status;
    }
    *text = (struct mailstore_text){.id = id, .bytes = row->bytes};
    if (!text_hold_take(store, id)) {
        return -ENOMEM;
    }
    text->private = store;
    return 0;
}

void mailstore_text_close(struct mailstore *store, struct mailstore_text *text)
{
    if (text->private != NULL) {
        text->private = NULL;
        text_hold_drop(store, text->id);
    }
}

/* ── The cache ───────────────────────────────────────────────────────────────────────────────── */

static void cache_key(struct key *key, uint64_t text, uint8_t kind)
{
    key_begin(key, ROW_CACHE);
    key_u64(key, text);
    key_text(key, slice_of(&kind, 1));
}

int mailstore_cache_get(struct mailstore *store, uint64_t text, uint8_t kind, struct slice *value)
{
    struct key key;
    cache_key(&key, text, kind);
    return index_get(store->index, key_slice(&key), value);
}

void mailstore_cache_put(struct mailstore *store, uint64_t text, uint8_t kind, struct slice value)
{
    struct key key;
    struct text_row *row;
    if (store->sick != 0 || value.size > MAILSTORE_CACHE_BYTES_MAX ||
        text_get(store, text, &row) != 0) {
        return;
    }
    cache_key(&key, text, kind);
    index_put(store->index, key_slice(&key), value); /* without it, it is computed again */
}
