/*
 * Reading bodies: from the log's memory, else fetched from the disk into a bounded pool.
 *
 * Who reads one body behind the other (a queue that moves in the order in which it came, copying
 * forward) is read ahead for: the second read near the last one takes all of the log's piece behind it,
 * some sixty bodies of 4 KiB, each of which is verified when it is asked for.
 */
#include "queue/spool/spool_private.h"

#define FETCH_MEMORY_BYTES (16u * 1024 * 1024)
#define FETCH_MEMORY_BYTES_MIN (1024u * 1024)
#define SMALL_BYTES (16u * 1024)
#define NEAR_BYTES (64u * 1024) /* behind the last read: the reader goes on */

enum fetch_state { FETCH_EMPTY, FETCH_READING, FETCH_READY, FETCH_BAD };

struct fetch_buffer {
    struct ref ref; /* readers, while it is READY */
    struct disk_done done;
    struct list_node node; /* in its class's idle list */
    struct list_node waiters;
    struct spool *spool;
    struct fetch_class *class;
    struct log_fetch fetch;
    struct slice content;
    uint8_t *memory;
    enum fetch_state state;
    bool ahead; /* of the large ones: it has what lies behind the record too */
};

static void buffer_release(struct ref *ref)
{
    struct fetch_buffer *buffer = (struct fetch_buffer *)(void *)ref;
    list_append(&buffer->class->idle, &buffer->node);
}

static int class_open(struct spool *spool, struct fetch_class *class, uint32_t bytes, size_t total,
                      uint8_t *memory)
{
    class->bytes = bytes;
    class->count = (uint32_t)(total / bytes);
    class->buffers = (struct fetch_buffer *)calloc(class->count, sizeof(class->buffers[0]));
    if (class->buffers == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < class->count; i++) {
        struct fetch_buffer *buffer = &class->buffers[i];
        buffer->ref.release = buffer_release;
        buffer->spool = spool;
        buffer->class = class;
        buffer->memory = memory + (size_t)i * bytes;
        list_init(&buffer->waiters);
        list_init(&buffer->node);
        list_append(&class->idle, &buffer->node);
    }
    return 0;
}

int spool_fetch_open(struct spool *spool)
{
    size_t bytes = spool->settings.fetch_memory_bytes;
    void *memory = spool->settings.fetch_memory;
    bytes = bytes == 0 ? FETCH_MEMORY_BYTES : bytes;
    if (bytes < FETCH_MEMORY_BYTES_MIN || (uintptr_t)memory % DISK_BLOCK_BYTES != 0) {
        return -EINVAL;
    }
    if (memory == NULL) {
        bytes -= bytes % DISK_BLOCK_BYTES;
        memory = spool->fetch_memory = aligned_alloc(DISK_BLOCK_BYTES, bytes);
    }
    if (memory == NULL) {
        return -ENOMEM;
    }
    size_t large = bytes / 2 - bytes / 2 % LOG_FRAME_BYTES;
    int result = class_open(spool, &spool->large, LOG_FRAME_BYTES, large, (uint8_t *)memory);
    if (result == 0) {
        result =
            class_open(spool, &spool->small, SMALL_BYTES, bytes - large, (uint8_t *)memory + large);
    }
    return result;
}

void spool_fetch_close(struct spool *spool)
{
    free(spool->large.buffers);
    free(spool->small.buffers);
    free(spool->fetch_memory);
}

static struct fetch_buffer *buffer_find(struct fetch_class *class, uint64_t lsn)
{
    for (uint32_t i = 0; i < class->count; i++) {
        struct fetch_buffer *buffer = &class->buffers[i];
        if (buffer->state != FETCH_EMPTY && !buffer->ahead && buffer->fetch.extent.lsn == lsn) {
            return buffer;
        }
    }
    return NULL;
}

/* One that was read ahead and has this record. */
static struct fetch_buffer *buffer_find_ahead(struct spool *spool, const struct log_extent *extent)
{
    for (uint32_t i = 0; i < spool->large.count; i++) {
        struct fetch_buffer *buffer = &spool->large.buffers[i];
        if (buffer->state != FETCH_EMPTY && buffer->ahead &&
            log_fetch_has(&buffer->fetch, extent)) {
            return buffer;
        }
    }
    return NULL;
}

/* The bytes are there, or known to be lost. */
static void buffer_done(struct disk_done *done, int result)
{
    struct fetch_buffer *buffer = list_entry(done, struct fetch_buffer, done);
    struct spool *spool = buffer->spool;
    log_fetch_end(spool->log, &buffer->fetch);
    if (result >= 0 && !buffer->ahead) {
        result = log_fetch_verify(spool->log, &buffer->fetch, buffer->memory, &buffer->content);
    }
    buffer->state = result >= 0 ? FETCH_READY : buffer->ahead ? FETCH_EMPTY : FETCH_BAD;
    if (buffer->state == FETCH_BAD) {
        spool->counters.fetch_failures++;
    } else if (buffer->state == FETCH_EMPTY) { /* each by itself, then */
        memset(spool->fetch_lasts, 0, sizeof(spool->fetch_lasts));
    }
    struct list_node told;
    list_init(&told);
    list_splice(&told, &buffer->waiters);
    list_append(&buffer->class->idle, &buffer->node);
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct spool_waiter *waiter = list_entry(node, struct spool_waiter, node);
        list_entry(waiter, struct spool_fetch, waiter)->private = NULL;
        waiter->done(waiter, result >= 0 ? 0 : -EIO);
    }
}

static void buffer_wait(struct fetch_buffer *buffer, struct spool_fetch *fetch)
{
    list_init(&fetch->waiter.node);
    list_append(&buffer->waiters, &fetch->waiter.node);
    fetch->private = buffer;
}

/* Does somebody go on here who has read what lies shortly before? */
static uint64_t *reader_find(struct spool *spool, uint64_t lsn)
{
    for (uint32_t i = 0; i < FETCH_READERS; i++) {
        uint64_t last = spool->fetch_lasts[i];
        if (lsn > last && lsn - last < NEAR_BYTES) {
            return &spool->fetch_lasts[i];
        }
    }
    return NULL;
}

/* Of a record, and ahead where somebody goes on; unless it is to be read alone. */
static struct fetch_buffer *buffer_take(struct spool *spool, struct log_fetch *wanted, bool alone)
{
    uint64_t *reader = alone ? NULL : reader_find(spool, wanted->extent.lsn);
    struct fetch_class *class = &spool->large;
    bool ahead = reader != NULL && !list_empty(&class->idle) && log_fetch_widen(spool->log, wanted);
    if (!ahead && wanted->bytes <= SMALL_BYTES && !list_empty(&spool->small.idle)) {
        class = &spool->small;
    }
    struct list_node *node = list_pop(&class->idle);
    if (node == NULL) {
        return NULL;
    }
    if (reader == NULL && !alone) {
        reader = &spool->fetch_lasts[spool->fetch_reader++ % FETCH_READERS];
    }
    if (reader != NULL) {
        uint64_t end = wanted->extent.lsn - wanted->extent.lsn % DISK_BLOCK_BYTES + wanted->bytes;
        *reader = ahead ? end - 1 : wanted->extent.lsn;
    }
    struct fetch_buffer *buffer = list_entry(node, struct fetch_buffer, node);
    buffer->ahead = ahead;
    return buffer;
}

static int buffer_read(struct spool *spool, const struct log_extent *extent,
                       struct spool_fetch *fetch, bool alone)
{
    struct log_fetch wanted;
    int result = log_fetch_begin(spool->log, extent, &wanted);
    if (result != 0) {
        return result;
    }
    struct fetch_buffer *buffer = buffer_take(spool, &wanted, alone);
    if (buffer == NULL) {
        log_fetch_end(spool->log, &wanted);
        return -EAGAIN;
    }
    buffer->state = FETCH_READING;
    buffer->fetch = wanted;
    buffer->done.run = buffer_done;
    list_init(&buffer->done.node);
    result = spool->disk->ops->read(spool->disk, wanted.file, buffer->memory, wanted.bytes,
                                    wanted.offset, &buffer->done);
    if (result < 0) {
        buffer->state = FETCH_EMPTY;
        list_append(&buffer->class->idle, &buffer->node);
        log_fetch_end(spool->log, &wanted);
        return result == -EAGAIN ? -EAGAIN : -EIO;
    }
    spool->counters.fetches++;
    buffer_wait(buffer, fetch);
    return -EINPROGRESS;
}

static void buffer_hold(struct fetch_buffer *buffer, struct ref **owner)
{
    if (buffer->ref.count == 0) {
        list_remove(&buffer->node);
        ref_init(&buffer->ref, buffer_release);
    } else {
        ref_take(&buffer->ref);
    }
    *owner = &buffer->ref;
}

static int buffer_use(struct fetch_buffer *buffer, struct slice *bytes, struct ref **owner,
                      struct spool_fetch *fetch)
{
    switch (buffer->state) {
    case FETCH_READING:
        buffer_wait(buffer, fetch);
        return -EINPROGRESS;
    case FETCH_READY:
        buffer_hold(buffer, owner);
        *bytes = buffer->content;
        return 0;
    case FETCH_BAD: /* said once; who asks again has it read again */
        buffer->state = FETCH_EMPTY;
        return -EIO;
    case FETCH_EMPTY:
        break;
    }
    return -EIO;
}

/* -ENOENT: it is not good there, and has to be read alone. */
static int buffer_use_ahead(struct spool *spool, struct fetch_buffer *buffer,
                            const struct log_extent *extent, struct slice *bytes,
                            struct ref **owner, struct spool_fetch *fetch)
{
    if (buffer->state == FETCH_READING) {
        buffer_wait(buffer, fetch);
        return -EINPROGRESS;
    }
    struct log_fetch at = buffer->fetch;
    at.extent = *extent;
    if (log_fetch_verify(spool->log, &at, buffer->memory, bytes) != 0) {
        return -ENOENT;
    }
    buffer_hold(buffer, owner);
    return 0;
}

int spool_read_extent(struct spool *spool, const struct log_extent *extent, struct slice *bytes,
                      struct ref **owner, struct spool_fetch *fetch)
{
    if (fetch->private != NULL) {
        return -EINPROGRESS; /* asked before it was told */
    }
    int result = log_read(spool->log, extent, bytes, owner);
    if (result != -ENOENT) {
        return result;
    }
    struct fetch_buffer *ahead = buffer_find_ahead(spool, extent);
    if (ahead != NULL) {
        result = buffer_use_ahead(spool, ahead, extent, bytes, owner, fetch);
        if (result != -ENOENT) {
            return result;
        }
    }
    struct fetch_buffer *buffer = buffer_find(&spool->small, extent->lsn);
    if (buffer == NULL) {
        buffer = buffer_find(&spool->large, extent->lsn);
    }
    if (buffer != NULL) {
        return buffer_use(buffer, bytes, owner, fetch);
    }
    return buffer_read(spool, extent, fetch, ahead != NULL);
}

void spool_fetch_cancel(struct spool *spool, struct spool_fetch *fetch)
{
    (void)spool;
    if (fetch->private != NULL) {
        list_remove(&fetch->waiter.node);
        fetch->private = NULL;
    }
}
