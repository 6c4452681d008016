#include "engine/disk/disk_file.h"
#include "engine/core/check.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZEROS_BYTES (1u << 20) /* written at once when a file is filled */
#define FOLDER_BYTES_MAX 64    /* of the name of a folder, with NUL */

/* A file's name, taken apart: the folder that it lies in, open, and what it is called there. */
struct place {
    int parent;
    const char *leaf;
    char folder[FOLDER_BYTES_MAX];
    bool made; /* the folder was not there before */
};

static int sync_descriptor(int fd)
{
    return fsync(fd) < 0 ? -errno : 0;
}

static bool leaf_is_plain(const char *leaf)
{
    return leaf[0] != 0 && leaf[0] != '.' && strchr(leaf, '/') == NULL;
}

/* "name" or "folder/name", neither beginning with a dot. */
static int place_parse(struct place *place, const char *name)
{
    const char *slash = strchr(name, '/');
    *place = (struct place){.parent = -1, .leaf = slash == NULL ? name : slash + 1};
    size_t size = slash == NULL ? 0 : (size_t)(slash - name);
    if (size >= sizeof(place->folder)) {
        return -ENAMETOOLONG;
    }
    memcpy(place->folder, name, size);
    bool folder_plain = slash == NULL || leaf_is_plain(place->folder);
    return folder_plain && leaf_is_plain(place->leaf) ? 0 : -EINVAL;
}

static int place_make_folder(struct place *place, int top)
{
    if (mkdirat(top, place->folder, 0700) == 0) {
        place->made = true;
        return sync_descriptor(top);
    }
    return errno == EEXIST ? 0 : -errno;
}

static int place_open(struct place *place, int top)
{
    const char *folder = place->folder[0] == 0 ? "." : place->folder;
    place->parent = openat(top, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return place->parent < 0 ? -errno : 0;
}

static void place_close(const struct place *place)
{
    if (place->parent >= 0) {
        close(place->parent);
    }
}

/* Opening with O_DIRECT where it is refused fails after the file was made; setting it on an open
 * file just fails. */
static bool set_direct(int fd)
{
    return fcntl(fd, F_SETFL, O_DIRECT) == 0;
}

/* ---- Jobs ---- */

/* Blocks that are merely allocated would have their first durable write commit the file system's
 * journal too, at twice the time: they are written now. */
static int fill_with_zeros(int fd, uint64_t bytes)
{
    void *zeros = NULL;
    int error = 0;
    if (posix_memalign(&zeros, DISK_BLOCK_BYTES, ZEROS_BYTES) != 0) {
        return -ENOMEM;
    }
    memset(zeros, 0, ZEROS_BYTES);
    for (uint64_t offset = 0; offset < bytes && error == 0;) {
        size_t size = bytes - offset < ZEROS_BYTES ? (size_t)(bytes - offset) : ZEROS_BYTES;
        ssize_t written = pwrite(fd, zeros, size, (off_t)offset);
        if (written < 0) {
            error = -errno;
        } else if ((size_t)written % DISK_BLOCK_BYTES != 0 || written == 0) {
            error = -ENOSPC;
        } else {
            offset += (uint64_t)written;
        }
    }
    free(zeros);
    return error;
}

static int fill_file(int fd, uint64_t bytes, bool direct)
{
    if (direct && !set_direct(fd)) {
        return -errno;
    }
    /* All at once, so that it lies together and that a full disk is known before it is filled. */
    if (fallocate(fd, 0, 0, (off_t)bytes) < 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
        return -errno;
    }
    int error = fill_with_zeros(fd, bytes);
    return error < 0 ? error : sync_descriptor(fd);
}

static int prepare_in(const struct place *place, uint64_t bytes, bool direct)
{
    int fd = openat(place->parent, place->leaf, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    int error = fill_file(fd, bytes, direct);
    if (error == 0) {
        error = sync_descriptor(place->parent);
    }
    if (error < 0) {
        close(fd);
        unlinkat(place->parent, place->leaf, 0);
        return error;
    }
    return fd;
}

int disk_job_prepare(struct disk_job *job)
{
    struct place place;
    check(job->bytes > 0 && job->bytes % DISK_BLOCK_BYTES == 0);
    int result = place_parse(&place, job->name);
    if (result == 0 && place.folder[0] != 0) {
        result = place_make_folder(&place, job->folder);
    }
    if (result == 0) {
        result = place_open(&place, job->folder);
    }
    if (result == 0) {
        result = prepare_in(&place, job->bytes, job->direct);
    }
    place_close(&place);
    if (result < 0 && place.made) {
        unlinkat(job->folder, place.folder, AT_REMOVEDIR);
    }
    return result;
}

void disk_job_prepare_undo(struct disk_job *job)
{
    if (job->result >= 0) {
        close(job->result);
    }
}

/* A file, or an empty folder. */
static int remove_in(const struct place *place)
{
    if (unlinkat(place->parent, place->leaf, 0) < 0) {
        if (errno != EISDIR) {
            return -errno;
        }
        if (unlinkat(place->parent, place->leaf, AT_REMOVEDIR) < 0) {
            return -errno;
        }
    }
    return sync_descriptor(place->parent);
}

int disk_job_remove(struct disk_job *job)
{
    struct place place;
    int error = place_parse(&place, job->name);
    if (error == 0) {
        error = place_open(&place, job->folder);
    }
    if (error == 0) {
        error = remove_in(&place);
    }
    place_close(&place);
    return error;
}

static int whole_or_error(ssize_t moved, uint64_t wanted)
{
    if (moved < 0) {
        return -errno;
    }
    return (uint64_t)moved == wanted ? (int)moved : -EIO;
}

int disk_job_write(struct disk_job *job)
{
    const struct iovec block = {.iov_base = job->block, .iov_len = job->bytes};
    int flags = (job->flags & DISK_DURABLE) != 0 ? RWF_DSYNC : 0;
    return whole_or_error(pwritev2(job->file, &block, 1, (off_t)job->offset, flags), job->bytes);
}

int disk_job_read(struct disk_job *job)
{
    return whole_or_error(pread(job->file, job->block, job->bytes, (off_t)job->offset), job->bytes);
}

/* ---- At start ---- */

/* Some file systems take the flag and refuse the write. A full disk proves nothing either way. */
static bool write_direct(int fd)
{
    void *block = NULL;
    if (!set_direct(fd) || posix_memalign(&block, DISK_BLOCK_BYTES, DISK_BLOCK_BYTES) != 0) {
        return false;
    }
    memset(block, 0, DISK_BLOCK_BYTES);
    bool refused = pwrite(fd, block, DISK_BLOCK_BYTES, 0) < 0 && errno == EINVAL;
    free(block);
    return !refused;
}

static int probe_direct(int folder, bool *direct)
{
    static const char probe[] = ".direct";
    int fd = openat(folder, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    bool named = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT);
    if (named) {
        fd = openat(folder, probe, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        /* A full disk may hold mail that waits: it must be possible to start. */
        *direct = true;
        return errno == ENOSPC || errno == EDQUOT ? 0 : -errno;
    }
    *direct = write_direct(fd);
    close(fd);
    if (named) {
        unlinkat(folder, probe, 0);
    }
    return 0;
}

int disk_folder_open(const char *path, bool *direct)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -errno;
    }
    int error = probe_direct(folder, direct);
    if (error < 0) {
        close(folder);
        return error;
    }
    return folder;
}

/* What a crashed predecessor left in the page cache alone must not be believed before it is on the
 * device: it could be answered for, and then be lost with the power. */
static int sync_and_measure(int fd, int parent, uint64_t *bytes)
{
    struct stat found;
    int error = sync_descriptor(fd);
    if (error == 0) {
        error = sync_descriptor(parent);
    }
    if (error == 0 && fstat(fd, &found) < 0) {
        error = -errno;
    }
    if (error == 0) {
        *bytes = (uint64_t)found.st_size;
    }
    return error;
}

int disk_file_open(int folder, const char *name, bool direct, uint64_t *bytes)
{
    struct place place;
    int fd = -1;
    int error = place_parse(&place, name);
    if (error == 0) {
        error = place_open(&place, folder);
    }
    if (error == 0) {
        fd = openat(place.parent, place.leaf, O_RDWR | O_CLOEXEC);
        error = fd < 0 ? -errno : sync_and_measure(fd, place.parent, bytes);
    }
    if (error == 0 && direct && !set_direct(fd)) {
        error = -errno;
    }
    place_close(&place);
    if (error < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return error;
    }
    return fd;
}

int disk_folder_list(int folder, const char *name, void (*visit)(void *, const char *), void *owner)
{
    int fd = openat(folder, name[0] == 0 ? "." : name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        int error = -errno;
        close(fd);
        return error;
    }
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(entries)) != NULL) {
        if (entry->d_name[0] != '.') {
            visit(owner, entry->d_name);
        }
        errno = 0;
    }
    int error = -errno; /* half a list must not pass for all there is */
    closedir(entries);
    return error;
}

int disk_job_space(struct disk_job *job)
{
    struct statvfs found;
    if (fstatvfs(job->folder, &found) < 0) {
        return -errno;
    }
    bool counts_files = found.f_files > 0; /* btrfs does not */
    job->space = (struct disk_space){.total_bytes = (uint64_t)found.f_blocks * found.f_frsize,
                                     .free_bytes = (uint64_t)found.f_bavail * found.f_frsize,
                                     .free_files = counts_files ? found.f_favail : UINT64_MAX};
    return 0;
}

void disk_job_space_finish(struct disk_job *job)
{
    *(struct disk_space *)job->block = job->space;
}
