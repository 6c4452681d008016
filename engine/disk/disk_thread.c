/* The disk where io_uring is not permitted: one thread writes with pwritev2(RWF_DSYNC), another
 * prepares and removes. */
#include "engine/core/check.h"
#include "engine/disk/disk_file.h"
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct disk_thread {
    struct disk disk;
    int folder;
    int wait_fd; /* epoll over both workers */
    struct disk_worker io;
    struct disk_worker slow;
};

static struct disk_thread *disk_of(struct disk *disk)
{
    return list_entry(disk, struct disk_thread, disk);
}

static int transfer(struct disk_thread *self, int (*work)(struct disk_job *),
                    const struct disk_job *what, struct disk_done *done)
{
    check(what->bytes % DISK_BLOCK_BYTES == 0 && what->offset % DISK_BLOCK_BYTES == 0);
    struct disk_job *job = disk_job_new(work, self->folder, NULL, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->file = what->file;
    job->block = what->block;
    job->bytes = what->bytes;
    job->offset = what->offset;
    job->flags = what->flags;
    disk_worker_ask(&self->io, job);
    return 0;
}

static int thread_write(struct disk *disk, int file, const void *block, size_t bytes,
                        uint64_t offset, uint32_t flags, struct disk_done *done)
{
    const struct disk_job what = {.file = file,
                                  .block = (void *)(uintptr_t)block,
                                  .bytes = bytes,
                                  .offset = offset,
                                  .flags = flags};
    return transfer(disk_of(disk), disk_job_write, &what, done);
}

static int thread_read(struct disk *disk, int file, void *block, size_t bytes, uint64_t offset,
                       struct disk_done *done)
{
    const struct disk_job what = {.file = file, .block = block, .bytes = bytes, .offset = offset};
    return transfer(disk_of(disk), disk_job_read, &what, done);
}

static int thread_prepare(struct disk *disk, const char *name, uint64_t bytes,
                          struct disk_done *done)
{
    struct disk_thread *self = disk_of(disk);
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

static int thread_remove(struct disk *disk, const char *name, struct disk_done *done)
{
    struct disk_thread *self = disk_of(disk);
    struct disk_job *job = disk_job_new(disk_job_remove, self->folder, name, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    disk_worker_ask(&self->slow, job);
    return 0;
}

static int thread_space(struct disk *disk, struct disk_space *space, struct disk_done *done)
{
    struct disk_thread *self = disk_of(disk);
    struct disk_job *job = disk_job_new(disk_job_space, self->folder, NULL, done);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->block = space;
    job->finish = disk_job_space_finish;
    disk_worker_ask(&self->slow, job);
    return 0;
}

static int thread_open(struct disk *disk, const char *name, uint64_t *bytes)
{
    return disk_file_open(disk_of(disk)->folder, name, disk->direct, bytes);
}

static int thread_list(struct disk *disk, const char *folder, void (*visit)(void *, const char *),
                       void *owner)
{
    return disk_folder_list(disk_of(disk)->folder, folder, visit, owner);
}

static void thread_forget(struct disk *disk, int file)
{
    (void)disk;
    close(file);
}

static int thread_pin(struct disk *disk, void *memory, size_t bytes)
{
    (void)disk;
    (void)memory;
    (void)bytes;
    return 0; /* nothing is gained by it here */
}

static unsigned thread_reap(struct disk *disk)
{
    struct disk_thread *self = disk_of(disk);
    return disk_worker_reap(&self->io) + disk_worker_reap(&self->slow);
}

static void thread_submit(struct disk *disk)
{
    (void)disk;
}

static int thread_arm(struct disk *disk)
{
    struct disk_thread *self = disk_of(disk);
    bool finished =
        disk_worker_arm(&self->io) == -EAGAIN || disk_worker_arm(&self->slow) == -EAGAIN;
    return finished ? -EAGAIN : self->wait_fd;
}

static void thread_close(struct disk *disk)
{
    struct disk_thread *self = disk_of(disk);
    disk_worker_close(&self->io);
    disk_worker_close(&self->slow);
    close(self->wait_fd);
    close(self->folder);
    free(self);
}

static const struct disk_ops thread_ops = {
    .write = thread_write,
    .read = thread_read,
    .prepare = thread_prepare,
    .remove = thread_remove,
    .space = thread_space,
    .open = thread_open,
    .list = thread_list,
    .forget = thread_forget,
    .pin = thread_pin,
    .reap = thread_reap,
    .submit = thread_submit,
    .arm = thread_arm,
    .close = thread_close,
};

static int wait_for_both(struct disk_thread *self)
{
    struct epoll_event readable = {.events = EPOLLIN};
    self->wait_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->wait_fd < 0) {
        return -errno;
    }
    if (epoll_ctl(self->wait_fd, EPOLL_CTL_ADD, self->io.fd, &readable) < 0 ||
        epoll_ctl(self->wait_fd, EPOLL_CTL_ADD, self->slow.fd, &readable) < 0) {
        int error = -errno;
        close(self->wait_fd);
        return error;
    }
    return 0;
}

static int open_parts(struct disk_thread *self, const char *folder)
{
    self->folder = disk_folder_open(folder, &self->disk.direct);
    if (self->folder < 0) {
        return self->folder;
    }
    int error = disk_worker_open(&self->io);
    if (error < 0) {
        goto no_io;
    }
    error = disk_worker_open(&self->slow);
    if (error < 0) {
        goto no_slow;
    }
    error = wait_for_both(self);
    if (error == 0) {
        return 0;
    }
    disk_worker_close(&self->slow);
no_slow:
    disk_worker_close(&self->io);
no_io:
    close(self->folder);
    return error;
}

int disk_open_thread(struct disk **disk, const char *folder)
{
    struct disk_thread *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->disk.ops = &thread_ops;
    int error = open_parts(self, folder);
    if (error < 0) {
        free(self);
        return error;
    }
    *disk = &self->disk;
    return 0;
}
