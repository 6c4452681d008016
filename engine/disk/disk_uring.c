/* The disk through the shard's io_uring: O_DIRECT writes with RWF_DSYNC from registered memory,
 * several in flight. */
#include "engine/core/check.h"
#include "engine/disk/disk_worker.h"
#include "engine/shard/shard.h"
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

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
    const uint8_t *pinned;
    size_t pinned_bytes;
    struct uring_transfer *free;
};

static struct disk_uring *disk_of(struct disk *disk)
{
    return list_entry(disk, struct disk_uring, disk);
}

static void transfer_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct uring_transfer *transfer = list_entry(op, struct uring_transfer, op);
    struct disk_done *done = transfer->done;
    size_t bytes = transfer->bytes;
    (void)cqe_flags;
    transfer->next = transfer->disk->free;
    transfer->disk->free = transfer;
    done->run(done, result < 0 ? result : (size_t)result == bytes ? result : -EIO);
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
    return transfer;
}

static bool is_pinned(const struct disk_uring *self, const void *block, size_t bytes)
{
    const uint8_t *start = block;
    return self->pinned != NULL && start >= self->pinned &&
           start + bytes <= self->pinned + self->pinned_bytes;
}

static int uring_write(struct disk *disk, int file, const void *block, size_t bytes,
                       uint64_t offset, uint32_t flags, struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    check(bytes % DISK_BLOCK_BYTES == 0 && offset % DISK_BLOCK_BYTES == 0);
    struct uring_transfer *transfer = transfer_new(self, bytes, done);
    if (transfer == NULL) {
        return -ENOMEM;
    }
    struct io_uring_sqe *entry = uring_entry(self->uring, &transfer->op);
    if (is_pinned(self, block, bytes)) {
        io_uring_prep_write_fixed(entry, file, block, (unsigned)bytes, offset, 0);
    } else {
        io_uring_prep_write(entry, file, block, (unsigned)bytes, offset);
    }
    entry->rw_flags = (flags & DISK_DURABLE) ? RWF_DSYNC : 0;
    return 0;
}

static int uring_read(struct disk *disk, int file, void *block, size_t bytes, uint64_t offset,
                      struct disk_done *done)
{
    struct disk_uring *self = disk_of(disk);
    check(bytes % DISK_BLOCK_BYTES == 0 && offset % DISK_BLOCK_BYTES == 0);
    struct uring_transfer *transfer = transfer_new(self, bytes, done);
    if (transfer == NULL) {
        return -ENOMEM;
    }
    struct io_uring_sqe *entry = uring_entry(self->uring, &transfer->op);
    if (is_pinned(self, block, bytes)) {
        io_uring_prep_read_fixed(entry, file, block, (unsigned)bytes, offset, 0);
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

static int uring_open_file(struct disk *disk, const char *name, uint64_t *bytes)
{
    return disk_file_open(disk_of(disk)->folder, name, &disk->direct, bytes);
}

static int uring_list(struct disk *disk, const char *folder, void (*visit)(void *, const char *),
                      void *owner)
{
    return disk_folder_list(disk_of(disk)->folder, folder, visit, owner);
}

static int uring_free_bytes(struct disk *disk, uint64_t *bytes)
{
    return disk_folder_free_bytes(disk_of(disk)->folder, bytes);
}

static void uring_forget(struct disk *disk, int file)
{
    (void)disk;
    close(file);
}

static int uring_pin(struct disk *disk, void *memory, size_t bytes)
{
    struct disk_uring *self = disk_of(disk);
    const struct iovec region = {.iov_base = memory, .iov_len = bytes};
    check(self->pinned == NULL);
    if (io_uring_register_buffers(&self->uring->ring, &region, 1) == 0) {
        self->pinned = memory;
        self->pinned_bytes = bytes;
    }
    return 0; /* without it (a limit on locked memory) each write pins its pages itself */
}

static unsigned uring_disk_reap(struct disk *disk)
{
    struct disk_uring *self = disk_of(disk);
    return disk_worker_reap(&self->slow) + uring_reap(self->uring);
}

static void uring_disk_submit(struct disk *disk)
{
    uring_submit(
        disk_of(disk)
            ->uring); /* the sockets' entries go with it; nothing is left for the shard then */
}

static int uring_arm(struct disk *disk)
{
    struct disk_uring *self = disk_of(disk);
    if (self->slow.under_way == 0) {
        return SHARD_ARM_URING;
    }
    return atomic_load_explicit(&self->slow.any_finished, memory_order_acquire) ? -EAGAIN
                                                                                : self->slow.fd;
}

static void uring_disk_close(struct disk *disk)
{
    struct disk_uring *self = disk_of(disk);
    disk_worker_close(&self->slow);
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
    .open = uring_open_file,
    .list = uring_list,
    .free_bytes = uring_free_bytes,
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
    int status = self->folder < 0 ? self->folder : disk_worker_open(&self->slow);
    if (status < 0) {
        if (self->folder >= 0) {
            close(self->folder);
        }
        free(self);
        return status;
    }
    *disk = &self->disk;
    return 0;
}
