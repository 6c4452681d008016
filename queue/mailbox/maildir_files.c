#include "queue/mailbox/maildir_files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
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
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(owner, entry->d_name);
        }
    }
    closedir(folder);
    return 0;
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
        .sync = system_sync,
        .sync_begin = system_sync_begin,
        .sync_all = system_sync_all,
        .sync_all_tells = kernel_is_at_least(5, 8), /* syncfs(2) */
        .close = system_close,
    };
}
