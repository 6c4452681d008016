/* Reading bodies: from the log's memory, else fetched from the disk into a bounded pool. */
#include "queue/spool/spool_private.h"

#define FETCH_MEMORY_BYTES (16u * 1024 * 1024)
#define FETCH_MEMORY_BYTES_MIN (1024u * 1024)
#define SMALL_BYTES (16u * 1024)

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
        if (class->buffers[i].state != FETCH_EMPTY && class->buffers[i].fetch.extent.lsn == lsn) {
            return &class->buffers[i];
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
    if (result >= 0) {
        result = log_fetch_verify(spool->log, &buffer->fetch, buffer->memory, &buffer->content);
    }
    buffer->state = result == 0 ? FETCH_READY : FETCH_BAD;
    if (result != 0) {
        spool->counters.fetch_failures++;
    }
    struct list_node told;
    list_init(&told);
    list_splice(&told, &buffer->waiters);
    list_append(&buffer->class->idle, &buffer->node);
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct spool_waiter *waiter = list_entry(node, struct spool_waiter, node);
        list_entry(waiter, struct spool_fetch, waiter)->private = NULL;
        waiter->done(waiter, result == 0 ? 0 : -EIO);
    }
}

static void buffer_wait(struct fetch_buffer *buffer, struct spool_fetch *fetch)
{
    list_init(&fetch->waiter.node);
    list_append(&buffer->waiters, &fetch->waiter.node);
    fetch->private = buffer;
}

static int buffer_read(struct spool *spool, const struct log_extent *extent,
                       struct spool_fetch *fetch)
{
    struct log_fetch wanted;
    int result = log_fetch_begin(spool->log, extent, &wanted);
    if (result != 0) {
        return result;
    }
    struct fetch_class *class = wanted.bytes <= SMALL_BYTES ? &spool->small : &spool->large;
    if (list_empty(&class->idle)) {
        class = &spool->large;
    }
    struct list_node *node = list_pop(&class->idle);
    if (node == NULL) {
        log_fetch_end(spool->log, &wanted);
        return -EAGAIN;
    }
    struct fetch_buffer *buffer = list_entry(node, struct fetch_buffer, node);
    buffer->state = FETCH_READING;
    buffer->fetch = wanted;
    buffer->done.run = buffer_done;
    list_init(&buffer->done.node);
    result = spool->disk->ops->read(spool->disk, wanted.file, buffer->memory, wanted.bytes,
                                    wanted.offset, &buffer->done);
    if (result < 0) {
        buffer->state = FETCH_EMPTY;
        list_append(&class->idle, &buffer->node);
        log_fetch_end(spool->log, &wanted);
        return result == -EAGAIN ? -EAGAIN : -EIO;
    }
    spool->counters.fetches++;
    buffer_wait(buffer, fetch);
    return -EINPROGRESS;
}

static int buffer_use(struct fetch_buffer *buffer, struct slice *bytes, struct ref **owner,
                      struct spool_fetch *fetch)
{
    switch (buffer->state) {
    case FETCH_READING:
        buffer_wait(buffer, fetch);
        return -EINPROGRESS;
    case FETCH_READY:
        if (buffer->ref.count == 0) {
            list_remove(&buffer->node);
            ref_init(&buffer->ref, buffer_release);
        } else {
            ref_take(&buffer->ref);
        }
        *bytes = buffer->content;
        *owner = &buffer->ref;
        return 0;
    case FETCH_BAD: /* said once; who asks again has it read again */
        buffer->state = FETCH_EMPTY;
        return -EIO;
    case FETCH_EMPTY:
        break;
    }
    return -EIO;
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
    struct fetch_buffer *buffer = buffer_find(&spool->small, extent->lsn);
    if (buffer == NULL) {
        buffer = buffer_find(&spool->large, extent->lsn);
    }
    if (buffer != NULL) {
        return buffer_use(buffer, bytes, owner, fetch);
    }
    return buffer_read(spool, extent, fetch);
}

void spool_fetch_cancel(struct spool *spool, struct spool_fetch *fetch)
{
    (void)spool;
    if (fetch->private != NULL) {
        list_remove(&fetch->waiter.node);
        fetch->private = NULL;
    }
}
