/*
 * Reading texts: from the log's memory, else fetched from the disk into a bounded pool.
 *
 * Who reads one text behind the other, as a search does, is read ahead for: a read shortly behind another takes what lies
 * behind it too, twice as much each time up to a piece of the log. Each record is verified when it is asked for.
 */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define FETCH_BYTES_MIN (1024u * 1024)
#define SMALL_BYTES (16u * 1024)
#define NEAR_BYTES (64u * 1024) /* behind a read: the reader goes on */
#define READERS 8u              /* that are followed */

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
    bool wide; /* of the large ones: it has what lies behind the record too */
};
struct buffers {
    struct list_node idle; /* least recently used first */
    uint32_t bytes, count, idle_count;
    struct buffer *all;
};
struct fetch_reader {
    uint64_t last;  /* what it has read up to */
    uint32_t bytes; /* its last read */
};
struct fetch_pool {
    struct buffers small, large;
    uint8_t *memory;
    uint32_t reading;
    struct buffer *recent; /* of the wide ones, the last that was asked; or NULL */
    struct fetch_reader readers[READERS];
    uint32_t reader_next;
};

static void idle_add(struct buffer *buffer)
{
    list_append(&buffer->kind->idle, &buffer->node);
    buffer->kind->idle_count++;
}

static struct buffer *idle_take(struct buffers *kind)
{
    struct list_node *node = list_pop(&kind->idle);
    kind->idle_count -= node != NULL;
    return node != NULL ? list_entry(node, struct buffer, node) : NULL;
}

static void buffer_release(struct ref *ref)
{
    idle_add((struct buffer *)(void *)ref);
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
        idle_add(buffer);
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
        if (buffer->state != BUFFER_EMPTY && !buffer->wide && buffer->fetch.extent.lsn == lsn) {
            return buffer;
        }
    }
    return NULL;
}

static bool wide_has(const struct buffer *buffer, const struct log_extent *extent)
{
    return buffer->state != BUFFER_EMPTY && buffer->wide && log_fetch_has(&buffer->fetch, extent);
}

static struct buffer *wide_find(struct fetch_pool *pool, const struct log_extent *extent)
{
    if (pool->recent != NULL && wide_has(pool->recent, extent)) {
        return pool->recent;
    }
    for (uint32_t i = 0; i < pool->large.count; i++) {
        if (wide_has(&pool->large.all[i], extent)) {
            return pool->recent = &pool->large.all[i];
        }
    }
    return NULL;
}

/* The bytes are there, or known to be lost. */
static void buffer_done(struct disk_done *done, int result)
{
    struct buffer *buffer = list_entry(done, struct buffer, done);
    struct mailstore *store = buffer->store;
    log_fetch_end(store->log, &buffer->fetch);
    store->fetches->reading--;
    if (result >= 0 && !buffer->wide) {
        result = log_fetch_verify(store->log, &buffer->fetch, buffer->memory, &buffer->content);
    }
    buffer->state = result >= 0 ? BUFFER_READY : buffer->wide ? BUFFER_EMPTY : BUFFER_BAD;
    if (buffer->state == BUFFER_EMPTY) { /* each by itself, then */
        memset(store->fetches->readers, 0, sizeof(store->fetches->readers));
    }
    store->counters.fetch_failures += buffer->state == BUFFER_BAD;
    struct list_node told;
    list_init(&told);
    list_splice(&told, &buffer->waiters);
    idle_add(buffer);
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct mailstore_waiter *waiter = list_entry(node, struct mailstore_waiter, node);
        list_entry(waiter, struct mailstore_fetch, waiter)->private = NULL;
        waiter->done(waiter, result >= 0 ? 0 : -EIO);
    }
}

/* fetch: NULL: nobody is told. */
static int buffer_wait(struct buffer *buffer, struct mailstore_fetch *fetch)
{
    if (fetch != NULL) {
        list_init(&fetch->waiter.node);
        list_append(&buffer->waiters, &fetch->waiter.node);
        fetch->private = buffer;
    }
    return -EINPROGRESS;
}

/* Who has read what lies shortly before goes on here. */
static struct fetch_reader *reader_find(struct fetch_pool *pool, uint64_t lsn)
{
    for (uint32_t i = 0; i < READERS; i++) {
        struct fetch_reader *reader = &pool->readers[i];
        if (lsn > reader->last && lsn - reader->last < NEAR_BYTES) {
            return reader;
        }
    }
    struct fetch_reader *reader = &pool->readers[pool->reader_next++ % READERS];
    *reader = (struct fetch_reader){.bytes = 0};
    return reader;
}

/* More than the record is read, if its reader goes on and there is room. The last buffers are left to records that fit no
 * other, and to what was read and is not looked at yet. */
static bool fetch_widen(struct mailstore *store, struct fetch_reader *reader,
                        struct log_fetch *wanted)
{
    struct buffers *large = &store->fetches->large;
    uint32_t record = wanted->bytes, bytes = 2 * reader->bytes;
    bytes = bytes < SMALL_BYTES ? SMALL_BYTES : bytes;
    if (reader->bytes == 0 || large->idle_count <= large->count / 4 ||
        !log_fetch_widen(store->log, wanted)) {
        return false;
    }
    wanted->bytes = wanted->bytes < bytes ? wanted->bytes : bytes;
    return wanted->bytes > record;
}

/* For a record, and for what lies behind it when its reader goes on; unless it is to be read alone. NULL: none is free. */
static struct buffer *buffer_take(struct mailstore *store, struct log_fetch *wanted, bool alone)
{
    struct fetch_pool *pool = store->fetches;
    struct fetch_reader *reader =
        alone || wanted->bytes > SMALL_BYTES ? NULL : reader_find(pool, wanted->extent.lsn);
    bool wide = reader != NULL && fetch_widen(store, reader, wanted);
    bool small = !wide && wanted->bytes <= SMALL_BYTES && pool->small.idle_count > 0;
    struct buffer *buffer = idle_take(small ? &pool->small : &pool->large);
    if (buffer != NULL) {
        buffer->wide = wide;
        buffer->fetch = *wanted;
    }
    if (reader != NULL && buffer != NULL) {
        uint64_t begin = wanted->extent.lsn - wanted->extent.lsn % DISK_BLOCK_BYTES;
        *reader = (struct fetch_reader){wide ? begin + wanted->bytes - 1 : wanted->extent.lsn,
                                        wanted->bytes};
    }
    return buffer;
}

/* begun: with -EINPROGRESS, what is read; may be NULL. */
static int buffer_read(struct mailstore *store, const struct log_extent *extent, bool alone,
                       struct mailstore_fetch *fetch, struct buffer **begun)
{
    struct log_fetch wanted;
    int status = log_fetch_begin(store->log, extent, &wanted);
    if (status != 0) {
        return status;
    }
    struct buffer *buffer = buffer_take(store, &wanted, alone);
    if (buffer == NULL) {
        log_fetch_end(store->log, &wanted);
        return -EAGAIN;
    }
    struct disk *disk = log_settings_of(store->log)->disk;
    buffer->state = BUFFER_READING;
    buffer->done.run = buffer_done;
    list_init(&buffer->done.node);
    status = disk->ops->read(disk, wanted.file, buffer->memory, wanted.bytes, wanted.offset,
                             &buffer->done);
    if (status < 0) {
        buffer->state = BUFFER_EMPTY;
        idle_add(buffer);
        log_fetch_end(store->log, &wanted);
        return status == -EAGAIN ? -EAGAIN : -EIO;
    }
    store->fetches->reading++;
    store->counters.fetches++;
    if (begun != NULL) {
        *begun = buffer;
    }
    return buffer_wait(buffer, fetch);
}

static void buffer_hold(struct buffer *buffer, struct ref **owner)
{
    if (buffer->ref.count == 0) {
        list_remove(&buffer->node);
        buffer->kind->idle_count--;
        ref_init(&buffer->ref, buffer_release);
    } else {
        ref_take(&buffer->ref);
    }
    *owner = &buffer->ref;
}

static int buffer_use(struct buffer *buffer, struct slice *bytes, struct ref **owner,
                      struct mailstore_fetch *fetch)
{
    switch (buffer->state) {
    case BUFFER_READING:
        return buffer_wait(buffer, fetch);
    case BUFFER_READY:
        buffer_hold(buffer, owner);
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

/* -ENOENT: it is not good there, and has to be read alone. */
static int wide_use(struct buffer *buffer, const struct log_extent *extent, struct slice *bytes,
                    struct ref **owner, struct mailstore_fetch *fetch)
{
    struct log_fetch at = buffer->fetch;
    if (buffer->state == BUFFER_READING) {
        return buffer_wait(buffer, fetch);
    }
    at.extent = *extent;
    if (log_fetch_verify(buffer->store->log, &at, buffer->memory, bytes) != 0) {
        return -ENOENT;
    }
    buffer_hold(buffer, owner);
    return 0;
}

static struct buffer *record_find(struct fetch_pool *pool, const struct log_extent *extent)
{
    struct buffer *buffer = buffer_find(&pool->small, extent->lsn);
    return buffer != NULL ? buffer : buffer_find(&pool->large, extent->lsn);
}

static int record_read(struct mailstore *store, const struct log_extent *extent,
                       struct slice *bytes, struct ref **owner, struct mailstore_fetch *fetch)
{
    int status = log_read(store->log, extent, bytes, owner);
    if (status != -ENOENT) {
        return status;
    }
    struct buffer *wide = wide_find(store->fetches, extent);
    status = wide != NULL ? wide_use(wide, extent, bytes, owner, fetch) : -ENOENT;
    if (status != -ENOENT) {
        return status;
    }
    struct buffer *buffer = record_find(store->fetches, extent);
    return buffer != NULL ? buffer_use(buffer, bytes, owner, fetch)
                          : buffer_read(store, extent, wide != NULL, fetch, NULL);
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

/* The same, and nobody waits for it. */
static int record_expect(struct mailstore *store, const struct log_extent *extent)
{
    struct slice bytes;
    struct ref *owner;
    int status = log_read(store->log, extent, &bytes, &owner);
    if (status == 0) {
        ref_drop(owner);
    }
    if (status != -ENOENT) {
        return 0;
    }
    struct buffer *buffer = wide_find(store->fetches, extent);
    if (buffer != NULL || record_find(store->fetches, extent) != NULL) {
        return 0;
    }
    status = buffer_read(store, extent, false, NULL, &buffer);
    return status == -EINPROGRESS ? (int)buffer->fetch.bytes : status == -EAGAIN ? -EAGAIN : 0;
}

int mailstore_expect(struct mailstore *store, uint64_t text)
{
    struct text_row *row;
    if (text_get(store, text, &row) != 0) {
        return 0;
    }
    if (row->kind == TEXT_FILE) {
        return store->files == NULL ? 0 : files_expect(store, text, row);
    }
    for (uint32_t i = 0; i < row->extent_count; i++) {
        const struct text_extent *extent = &row->extents[i];
        if (extent->offset == 0 && extent->length > 0) {
            struct log_extent at = {.lsn = extent->lsn,
                                    .length = extent->length + (uint32_t)sizeof(struct chunk_head)};
            return record_expect(store, &at);
        }
    }
    return 0;
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
    if (store->sick != 0 || value.size > MAILSTORE_CACHE_BYTES_MAX || index_is_busy(store) ||
        text_get(store, text, &row) != 0) {
        return;
    }
    cache_key(&key, text, kind);
    index_put(store->index, key_slice(&key), value); /* without it, it is computed again */
}
