/* The disk through the shard's io_uring: O_DIRECT writes with RWF_DSYNC from registered memory,
 * several in flight. The kernel sends a DSYNC write straight to the device, but every fsync to a
 * worker thread, so that a write followed by one costs five times as much. */
#include "engine/core/check.h"
#include "engine/disk/disk_file.h"
#include "engine/shard/shard.h"
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIN_BYTES ((size_t)1 << 30) /* of one registered buffer, the kernel's bound */
#define PINS_MAX 64

struct uring_transfer {
    struct uring_op op;
    struct disk_uring *disk;
    struct disk_done *done;
    size_t bytes;
    struct uring_transfer *next; /* in the list of free ones */
};

struct disk_uring {
    struct disk disk;
    struct uring *uring;
    int folder;
    struct disk_worker slow; /* prepares and removes */
    const uint8_t *pinned;   /* NULL: none */
    size_t pinned_bytes;
    struct uring_transfer *free;
    unsigned transfer_count; /* under way */
    bool closing;
};

static struct disk_uring *disk_of(struct disk *disk)
{
    return list_entry(disk, struct disk_uring, disk);
}

static void transfer_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct uring_transfer *transfer = list_entry(op, struct uring_transfer, op);
    struct disk_uring *self = transfer->disk;
    struct disk_done *done = transfer->done;
    bool whole = result < 0 || (size_t)result == transfer->bytes;
    (void)cqe_flags;
    transfer->next = self->free;
    self->free = transfer;
    self->transfer_count--;
    if (!self->closing) {
        done->run(done, whole ? result : -EIO);
    }
}

static struct uring_transfer *transfer_new(struct disk_uring *self, size_t bytes,
                                           struct disk_done *done)
{
    struct uring_transfer *transfer = self->free;
    if (transfer != NULL) {
        self->free = transfer->next;
    } else {
        transfer = malloc(sizeof(*transfer));
        if (transfer == NULL) {
            return NULL;
        }
    }
    *transfer =
        (struct uring_transfer){.op = {transfer_done}, .disk = self, .done = done, .bytes = bytes};
    self->transfer_count++;
    return transfer;
}

/* The registered buffer that holds all of a block, or -1. */
static int pin_of(const struct disk_uring *self, const void *block, size_t bytes)
{
    const uint8_t *start = block;
    if (self->pinned == NULL || start < self->pinned ||
        start + bytes > self->pinned + self->pinned_bytes) {
        return -1;
    }
    size_t offset = (size_t)(start - self->pinned);
    bool one = offset / PIN_BYTES == (offset + bytes - 1) / PIN_BYTES;
    return one ? (int)(offset / PIN_BYTES) : -1;
}

static void check_aligned(const void *block, size_t bytes, uint64_t offset)
{
    check(bytes > 0 && bytes <= INT32_MAX && bytes % DISK_BLOCK_BYTES == 0);
    check(offset % DISK_BLOCK_BYTES == 0 && (uintptr_t)block % DISK_BLOCK_BYTES == 0);
}

static int uring_write(struct disk *disk, int file, const void *block, size_t bytes,
                       uint64_t offset, uint32_t flags, struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    int pin = pin_of(self, block, bytes);
    check_aligned(block, bytes, offset);
    struct uring_transfer *transfer = transfer_new(self, bytes, done);
    if (transfer == NULL) {
        return -ENOMEM;
    }
    struct io_uring_sqe *entry = uring_entry(self->uring, &transfer->op);
    if (pin >= 0) {
        io_uring_prep_write_fixed(entry, file, block, (unsigned)bytes, offset, pin);
    } else {
        io_uring_prep_write(entry, file, block, (unsigned)bytes, offset);
    }
    entry->rw_flags = (flags & DISK_DURABLE) ? RWF_DSYNC : 0;
    if (!disk->direct) {
        entry->flags |= IOSQE_ASYNC; /* through the page cache a durable write would block us */
    }
    return 0;
}

static int uring_read(struct disk *disk, int file, void *block, size_t bytes, uint64_t offset,
                      struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    int pin = pin_of(self, block, bytes);
    check_aligned(block, bytes, offset);
    struct uring_transfer *transfer = transfer_new(self, bytes, done);
    if (transfer == NULL) {
        return -ENOMEM;
    }
    struct io_uring_sqe *entry = uring_entry(self->uring, &transfer->op);
    if (pin >= 0) {
        io_uring_prep_read_fixed(entry, file, block, (unsigned)bytes, offset, pin);
    } else {
        io_uring_prep_read(entry, file, block, (unsigned)bytes, offset);
    }
    return 0;
}

static int uring_prepare(struct disk *disk, const char *name, uint64_t bytes,
                         struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    struct disk_job *job = disk_job_new(disk_job_prepare, self->folder, name, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->bytes = bytes;
    job->direct = disk->direct;
    job->undo = disk_job_prepare_undo;
    disk_worker_ask(&self->slow, job);
    return 0;
}

static int uring_remove(struct disk *disk, const char *name, struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    struct disk_job *job = disk_job_new(disk_job_remove, self->folder, name, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    disk_worker_ask(&self->slow, job);
    return 0;
}

static int uring_space(struct disk *disk, struct disk_space *space, struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    struct disk_job *job = disk_job_new(disk_job_space, self->folder, NULL, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->block = space;
    job->finish = disk_job_space_finish;
    disk_worker_ask(&self->slow, job);
    return 0;
}

static int uring_open_file(struct disk *disk, const char *name, uint64_t *bytes)
{
    return disk_file_open(disk_of(disk)->folder, name, disk->direct, bytes);
}

static int uring_list(struct disk *disk, const char *folder, void (*visit)(void *, const char *),
                      void *owner)
{
    return disk_folder_list(disk_of(disk)->folder, folder, visit, owner);
}

static void uring_forget(struct disk *disk, int file)
{
    (void)disk;
    close(file);
}

/* Registered memory saves finding and holding its pages for each write. Refused (a limit on locked
 * memory), writes do that themselves. */
static int uring_pin(struct disk *disk, void *memory, size_t bytes)
{
    struct disk_uring *self = disk_of(disk);
    struct iovec pins[PINS_MAX];
    unsigned count = 0;
    check(self->pinned == NULL);
    for (size_t offset = 0; offset < bytes && count < PINS_MAX; offset += PIN_BYTES) {
        size_t size = bytes - offset < PIN_BYTES ? bytes - offset : PIN_BYTES;
        pins[count++] = (struct iovec){.iov_base = (uint8_t *)memory + offset, .iov_len = size};
    }
    if (io_uring_register_buffers(&self->uring->ring, pins, count) == 0) {
        self->pinned = memory;
        self->pinned_bytes = bytes < count * PIN_BYTES ? bytes : count * PIN_BYTES;
    }
    return 0;
}

static unsigned uring_disk_reap(struct disk *disk)
{
    struct disk_uring *self = disk_of(disk);
    return disk_worker_reap(&self->slow) + uring_reap(self->uring);
}

/* The sockets' entries go with it; nothing is left for the shard's own call then. */
static void uring_disk_submit(struct disk *disk)
{
    uring_submit(disk_of(disk)->uring);
}

static int uring_arm(struct disk *disk)
{
    return disk_worker_arm(&disk_of(disk)->slow);
}

/* The kernel may be reading the blocks still: their memory is the owner's again only afterwards. */
static void await_transfers(struct disk_uring *self)
{
    self->closing = true;
    while (self->transfer_count > 0) {
        if (uring_reap(self->uring) == 0) {
            uring_wait(self->uring, 1000000000);
        }
    }
}

static void uring_disk_close(struct disk *disk)
{
    struct disk_uring *self = disk_of(disk);
    disk_worker_close(&self->slow);
    await_transfers(self);
    if (self->pinned != NULL) {
        io_uring_unregister_buffers(&self->uring->ring);
    }
    while (self->free != NULL) {
        struct uring_transfer *transfer = self->free;
        self->free = transfer->next;
        free(transfer);
    }
    close(self->folder);
    free(self);
}

static const struct disk_ops uring_ops = {
    .write = uring_write,
    .read = uring_read,
    .prepare = uring_prepare,
    .remove = uring_remove,
    .space = uring_space,
    .open = uring_open_file,
    .list = uring_list,
    .forget = uring_forget,
    .pin = uring_pin,
    .reap = uring_disk_reap,
    .submit = uring_disk_submit,
    .arm = uring_arm,
    .close = uring_disk_close,
};

int disk_open_uring(struct disk **disk, struct uring *uring, const char *folder)
{
    struct disk_uring *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->disk.ops = &uring_ops;
    self->uring = uring;
    self->folder = disk_folder_open(folder, &self->disk.direct);
    int error = self->folder < 0 ? self->folder : disk_worker_open(&self->slow);
    if (error < 0) {
        if (self->folder >= 0) {
            close(self->folder);
        }
        free(self);
        return error;
    }
    *disk = &self->disk;
    return 0;
}
