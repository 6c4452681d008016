#include "queue/mailbox/maildir_files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static int result_of(int returned)
{
    return returned < 0 ? -errno : returned;
}

/* ---- folders ---- */

static int system_open_root(void *self, const char *path)
{
    (void)self;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    return result_of(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int system_open_folder(void *self, int at, const char *name)
{
    (void)self;
    return result_of(openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

static int system_make_folder(void *self, int at, const char *name)
{
    (void)self;
    return result_of(mkdirat(at, name, 0700));
}

static int system_lock(void *self, int folder)
{
    (void)self;
    int status = result_of(flock(folder, LOCK_EX | LOCK_NB));
    return status == -EWOULDBLOCK ? -EBUSY : status;
}

static int system_list(void *self, int at, void (*visit)(void *owner, const char *name),
                       void *owner)
{
    int fd = system_open_folder(self, at, ".");
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        int status = fd < 0 ? fd : -errno;
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    errno = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL; errno = 0) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(owner, entry->d_name);
        }
    }
    int status = -errno; /* of a listing that ends early what is missing has not gone */
    closedir(folder);
    return status;
}

/* ---- files ---- */

static int system_make_file(void *self, int at, const char *name)
{
    (void)self;
    return result_of(openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

static ssize_t system_write(void *self, int file, const void *bytes, size_t size)
{
    (void)self;
    ssize_t written;
    do {
        written = write(file, bytes, size);
    } while (written < 0 && errno == EINTR);
    return written > 0 ? written : written < 0 ? -errno : -EIO;
}

static int system_size(void *self, int at, const char *name, uint64_t *bytes)
{
    struct stat file;
    (void)self;
    if (fstatat(at, name, &file, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    *bytes = (uint64_t)file.st_size;
    return S_ISREG(file.st_mode) ? 0 : -EINVAL;
}

static int system_link(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self;
    return result_of(linkat(from_at, from, to_at, to, 0));
}

static int system_rename(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self;
    return result_of(renameat2(from_at, from, to_at, to, RENAME_NOREPLACE));
}

static int system_remove(void *self, int at, const char *name)
{
    (void)self;
    return result_of(unlinkat(at, name, 0));
}

static int system_open_file(void *self, int at, const char *name)
{
    (void)self;
    /* Of a pipe it would wait for a writer. */
    return result_of(openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

static int system_open_end(void *self, int at, const char *name)
{
    (void)self;
    return result_of(openat(at, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC));
}

static ssize_t system_read(void *self, int file, uint64_t from, void *bytes, size_t size)
{
    (void)self;
    ssize_t got;
    do {
        got = pread(file, bytes, size, (off_t)from);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int facts_read(int returned, const struct stat *file, struct maildir_file_facts *facts)
{
    if (returned < 0) {
        return -errno;
    }
    *facts = (struct maildir_file_facts){.bytes = (uint64_t)file->st_size,
                                         .inode = file->st_ino,
                                         .device = file->st_dev,
                                         .links = file->st_nlink,
                                         .modified_s = file->st_mtime,
                                         .changed_s = file->st_ctime};
    return 0;
}

static int system_facts(void *self, int at, const char *name, struct maildir_file_facts *facts)
{
    struct stat file;
    (void)self;
    return facts_read(fstatat(at, name, &file, AT_SYMLINK_NOFOLLOW), &file, facts);
}

static int system_facts_of_open(void *self, int number, struct maildir_file_facts *facts)
{
    struct stat file;
    (void)self;
    return facts_read(fstat(number, &file), &file, facts);
}

static int system_replace(void *self, int at, const char *from, const char *to)
{
    (void)self;
    return result_of(renameat(at, from, at, to));
}

static int system_set_modified(void *self, int at, const char *name, int64_t modified_s)
{
    (void)self;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = modified_s}};
    return result_of(utimensat(at, name, times, AT_SYMLINK_NOFOLLOW));
}

static int system_remove_folder(void *self, int at, const char *name)
{
    (void)self;
    return result_of(unlinkat(at, name, AT_REMOVEDIR));
}

static bool system_process_lives(void *self, uint32_t process_id)
{
    (void)self;
    return kill((pid_t)process_id, 0) == 0 || errno != ESRCH;
}

static void system_pause(void *self, uint64_t duration_ns)
{
    (void)self;
    struct timespec left = {(time_t)(duration_ns / 1000000000), (long)(duration_ns % 1000000000)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

static int system_sync(void *self, int number)
{
    (void)self;
    return result_of(fsync(number));
}

static void system_sync_begin(void *self, int file)
{
    (void)self;
    sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int system_sync_all(void *self, int folder)
{
    (void)self;
    return result_of(syncfs(folder));
}

static void system_close(void *self, int number)
{
    (void)self;
    close(number);
}

static bool kernel_is_at_least(unsigned major, unsigned minor)
{
    struct utsname system;
    unsigned is_major = 0, is_minor = 0;
    return uname(&system) == 0 && sscanf(system.release, "%u.%u", &is_major, &is_minor) == 2 &&
           (is_major > major || (is_major == major && is_minor >= minor));
}

void maildir_system_files(struct maildir_files *files)
{
    *files = (struct maildir_files){
        .open_root = system_open_root,
        .open_folder = system_open_folder,
        .make_folder = system_make_folder,
        .lock = system_lock,
        .list = system_list,
        .make_file = system_make_file,
        .write = system_write,
        .size = system_size,
        .link = system_link,
        .rename = system_rename,
        .remove = system_remove,
        .open_file = system_open_file,
        .open_end = system_open_end,
        .read = system_read,
        .facts = system_facts,
        .facts_of_open = system_facts_of_open,
        .replace = system_replace,
        .set_modified = system_set_modified,
        .remove_folder = system_remove_folder,
        .process_lives = system_process_lives,
        .pause = system_pause,
        .sync = system_sync,
        .sync_begin = system_sync_begin,
        .sync_all = system_sync_all,
        .sync_all_tells = kernel_is_at_least(5, 8), /* syncfs(2) */
        .close = system_close,
    };
}
