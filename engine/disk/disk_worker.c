#include "engine/disk/disk_worker.h"
#include "engine/core/check.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZERO_BYTES (1u << 20) /* written at once when a file is filled with zeros */

/* ---- The thread ---- */

static void worker_finish(struct disk_worker *worker, struct disk_job *job)
{
    uint64_t one = 1;
    job->next = NULL;
    pthread_mutex_lock(&worker->lock);
    *worker->finished_last = job;
    worker->finished_last = &job->next;
    pthread_mutex_unlock(&worker->lock);
    atomic_store_explicit(&worker->any_finished, true, memory_order_release);
    ssize_t written = write(worker->fd, &one, sizeof(one));
    (void)written; /* full: readable already */
}

static void *worker_main(void *owner)
{
    struct disk_worker *worker = owner;
    for (;;) {
        pthread_mutex_lock(&worker->lock);
        while (worker->first == NULL && !worker->stop) {
            pthread_cond_wait(&worker->wake, &worker->lock);
        }
        struct disk_job *job = worker->first;
        if (job != NULL) {
            worker->first = job->next;
            if (worker->first == NULL) {
                worker->last = &worker->first;
            }
        }
        pthread_mutex_unlock(&worker->lock);
        if (job == NULL) {
            return NULL;
        }
        job->result = job->work(job);
        worker_finish(worker, job);
    }
}

int disk_worker_open(struct disk_worker *worker)
{
    *worker = (struct disk_worker){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (worker->fd < 0) {
        return -errno;
    }
    worker->last = &worker->first;
    worker->finished_last = &worker->finished;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->wake, NULL);
    int status = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (status != 0) {
        close(worker->fd);
        pthread_mutex_destroy(&worker->lock);
        pthread_cond_destroy(&worker->wake);
    }
    return -status;
}

static void job_free(struct disk_job *job)
{
    free(job->name);
    free(job);
}

void disk_worker_close(struct disk_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->stop = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    while (worker->finished != NULL) {
        struct disk_job *job = worker->finished;
        worker->finished = job->next;
        job_free(job);
    }
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->wake);
    close(worker->fd);
}

void disk_worker_ask(struct disk_worker *worker, struct disk_job *job)
{
    job->next = NULL;
    worker->under_way++;
    pthread_mutex_lock(&worker->lock);
    *worker->last = job;
    worker->last = &job->next;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

unsigned disk_worker_reap(struct disk_worker *worker)
{
    unsigned count = 0;
    if (worker->under_way == 0 ||
        !atomic_exchange_explicit(&worker->any_finished, false, memory_order_acquire)) {
        return 0;
    }
    uint64_t drained;
    ssize_t got = read(worker->fd, &drained, sizeof(drained));
    (void)got;
    pthread_mutex_lock(&worker->lock);
    struct disk_job *job = worker->finished;
    worker->finished = NULL;
    worker->finished_last = &worker->finished;
    pthread_mutex_unlock(&worker->lock);
    while (job != NULL) {
        struct disk_job *next = job->next;
        struct disk_done *done = job->done;
        int result = job->result;
        job_free(job);
        worker->under_way--;
        count++;
        done->run(done, result);
        job = next;
    }
    return count;
}

/* ---- The jobs ---- */

struct disk_job *disk_job_new(int (*work)(struct disk_job *), int folder, const char *name,
                              struct disk_done *done)
{
    struct disk_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return NULL;
    }
    job->work = work;
    job->folder = folder;
    job->done = done;
    if (name != NULL) {
        job->name = strdup(name);
        if (job->name == NULL) {
            free(job);
            return NULL;
        }
    }
    return job;
}

static int descriptor_sync(int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

/* The folder that a name lies in, one level down at most; made when it is missing and `make` says
 * so. */
static int parent_open(int folder, const char *name, bool make)
{
    const char *slash = strchr(name, '/');
    char parent[64];
    if (slash == NULL) {
        return openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    size_t size = (size_t)(slash - name);
    if (size == 0 || size >= sizeof(parent) || strchr(slash + 1, '/') != NULL || name[0] == '.') {
        errno = EINVAL;
        return -1;
    }
    memcpy(parent, name, size);
    parent[size] = '\0';
    if (make && mkdirat(folder, parent, 0700) == 0) {
        if (descriptor_sync(folder) < 0) {
            return -1;
        }
    }
    return openat(folder, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_direct(int folder, const char *name, int flags, bool *direct)
{
    int fd = openat(folder, name, flags | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EINVAL) { /* tmpfs and others */
        fd = openat(folder, name, (flags & ~O_EXCL) | O_CLOEXEC, 0600);
        if (direct != NULL) {
            *direct = false;
        }
    }
    return fd;
}

static int zeros_write(int fd, uint64_t bytes)
{
    void *zeros = NULL;
    int status = 0;
    if (posix_memalign(&zeros, DISK_BLOCK_BYTES, ZERO_BYTES) != 0) {
        return -ENOMEM;
    }
    memset(zeros, 0, ZERO_BYTES);
    for (uint64_t offset = 0; offset < bytes && status == 0;) {
        size_t size = bytes - offset < ZERO_BYTES ? (size_t)(bytes - offset) : ZERO_BYTES;
        ssize_t written = pwrite(fd, zeros, size, (off_t)offset);
        if (written != (ssize_t)size) {
            status = written < 0 ? -errno : -ENOSPC;
        }
        offset += size;
    }
    free(zeros);
    return status;
}

int disk_job_prepare(struct disk_job *job)
{
    int parent = parent_open(job->folder, job->name, true);
    if (parent < 0) {
        return -errno;
    }
    int status = 0;
    int fd = open_direct(job->folder, job->name, O_RDWR | O_CREAT | O_EXCL, NULL);
    if (fd < 0) {
        status = -errno;
    } else {
        status = fallocate(fd, 0, 0, (off_t)job->bytes) < 0 && errno != EOPNOTSUPP ? -errno : 0;
        status = status == 0 ? zeros_write(fd, job->bytes) : status;
        status = status == 0 ? descriptor_sync(fd) : status;
        status = status == 0 ? descriptor_sync(parent) : status;
        if (status < 0) {
            close(fd);
            unlinkat(job->folder, job->name, 0);
        }
    }
    close(parent);
    return status < 0 ? status : fd;
}

int disk_job_remove(struct disk_job *job)
{
    int parent = parent_open(job->folder, job->name, false);
    int status = 0;
    if (parent < 0) {
        return -errno;
    }
    if (unlinkat(job->folder, job->name, 0) < 0) {
        struct stat found;
        bool is_folder = fstatat(job->folder, job->name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                         S_ISDIR(found.st_mode);
        status = is_folder && unlinkat(job->folder, job->name, AT_REMOVEDIR) == 0 ? 0 : -errno;
    }
    if (status == 0) {
        status = descriptor_sync(parent);
    }
    close(parent);
    return status;
}

int disk_job_write(struct disk_job *job)
{
    const struct iovec piece = {.iov_base = job->block, .iov_len = job->bytes};
    ssize_t written = pwritev2(job->file, &piece, 1, (off_t)job->offset,
                               (job->flags & DISK_DURABLE) ? RWF_DSYNC : 0);
    if (written < 0) {
        return -errno;
    }
    return (uint64_t)written == job->bytes ? (int)written : -EIO;
}

int disk_job_read(struct disk_job *job)
{
    ssize_t got = pread(job->file, job->block, job->bytes, (off_t)job->offset);
    if (got < 0) {
        return -errno;
    }
    return (uint64_t)got == job->bytes ? (int)got : -EIO;
}

/* ---- At start ---- */

int disk_folder_open(const char *path, bool *direct)
{
    static const char probe[] = ".direct";
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -errno;
    }
    *direct = true;
    int fd = open_direct(folder, probe, O_RDWR | O_CREAT, direct);
    if (fd < 0) {
        int status = -errno;
        close(folder);
        return status;
    }
    close(fd);
    unlinkat(folder, probe, 0);
    return folder;
}

int disk_file_open(int folder, const char *name, bool *direct, uint64_t *bytes)
{
    struct stat found;
    int parent = parent_open(folder, name, false);
    if (parent < 0) {
        return -errno;
    }
    int fd = open_direct(folder, name, O_RDWR, direct);
    int status = fd < 0 ? -errno : 0;
    /* What a crashed predecessor has left in the page cache only must not be believed yet. */
    status = status == 0 ? descriptor_sync(fd) : status;
    status = status == 0 ? descriptor_sync(parent) : status;
    if (status == 0 && fstat(fd, &found) < 0) {
        status = -errno;
    }
    close(parent);
    if (status < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    *bytes = (uint64_t)found.st_size;
    return fd;
}

int disk_folder_list(int folder, const char *name, void (*visit)(void *, const char *), void *owner)
{
    int fd = openat(folder, name[0] == '\0' ? "." : name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        close(fd);
        return -ENOMEM;
    }
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(owner, entry->d_name);
        }
    }
    closedir(entries);
    return 0;
}

int disk_folder_free_bytes(int folder, uint64_t *bytes)
{
    struct statvfs found;
    if (fstatvfs(folder, &found) < 0) {
        return -errno;
    }
    *bytes = (uint64_t)found.f_bavail * found.f_frsize;
    return 0;
}
