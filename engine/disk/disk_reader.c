#include "engine/disk/disk_reader.h"
#include "engine/disk/disk_file.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader_read {
    struct reader_read *next;
    struct disk_done *done;
    int result;
};

struct disk_reader {
    struct disk disk;
    int folder;
    struct reader_read *first, **last; /* to be reported */
};

static struct disk_reader *reader_of(struct disk *disk)
{
    return (struct disk_reader *)(void *)disk;
}

static int reader_write(struct disk *disk, int file, const void *block, size_t bytes,
                        uint64_t offset, uint32_t flags, struct disk_done *done)
{
    (void)disk, (void)file, (void)block, (void)bytes, (void)offset, (void)flags, (void)done;
    return -EROFS;
}

static int reader_prepare(struct disk *disk, const char *name, uint64_t bytes,
                          struct disk_done *done)
{
    (void)disk, (void)name, (void)bytes, (void)done;
    return -EROFS;
}

static int reader_remove(struct disk *disk, const char *name, struct disk_done *done)
{
    (void)disk, (void)name, (void)done;
    return -EROFS;
}

static int reader_space(struct disk *disk, struct disk_space *space, struct disk_done *done)
{
    (void)disk, (void)space, (void)done;
    return -EROFS;
}

static int whole_read(int file, uint8_t *block, size_t bytes, uint64_t offset)
{
    for (size_t got = 0; got < bytes;) {
        ssize_t size = pread(file, block + got, bytes - got, (off_t)(offset + got));
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size <= 0) {
            return size < 0 ? -errno : -EIO;
        }
        got += (size_t)size;
    }
    return (int)bytes;
}

static int reader_read(struct disk *disk, int file, void *block, size_t bytes, uint64_t offset,
                       struct disk_done *done)
{
    struct disk_reader *self = reader_of(disk);
    struct reader_read *read = calloc(1, sizeof(*read));
    if (read == NULL) {
        return -ENOMEM;
    }
    read->done = done;
    read->result = whole_read(file, block, bytes, offset);
    *self->last = read;
    self->last = &read->next;
    return 0;
}

static int reader_open(struct disk *disk, const char *name, uint64_t *bytes)
{
    struct stat found;
    int file = openat(reader_of(disk)->folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    if (fstat(file, &found) < 0) {
        int error = -errno;
        close(file);
        return error;
    }
    *bytes = (uint64_t)found.st_size;
    return file;
}

static int reader_list(struct disk *disk, const char *folder, void (*visit)(void *, const char *),
                       void *owner)
{
    return disk_folder_list(reader_of(disk)->folder, folder, visit, owner);
}

static void reader_forget(struct disk *disk, int file)
{
    (void)disk;
    close(file);
}

static int reader_pin(struct disk *disk, void *memory, size_t bytes)
{
    (void)disk, (void)memory, (void)bytes;
    return 0;
}

static unsigned reader_reap(struct disk *disk)
{
    struct disk_reader *self = reader_of(disk);
    unsigned count = 0;
    while (self->first != NULL) {
        struct reader_read *read = self->first;
        struct disk_done *done = read->done;
        int result = read->result;
        self->first = read->next;
        if (self->first == NULL) {
            self->last = &self->first;
        }
        free(read);
        done->run(done, result);
        count++;
    }
    return count;
}

static void reader_submit(struct disk *disk)
{
    (void)disk;
}

static int reader_arm(struct disk *disk)
{
    return reader_of(disk)->first != NULL ? -EAGAIN : -ENOTSUP;
}

static void reader_close(struct disk *disk)
{
    struct disk_reader *self = reader_of(disk);
    while (self->first != NULL) {
        struct reader_read *read = self->first;
        self->first = read->next;
        free(read);
    }
    close(self->folder);
    free(self);
}

static const struct disk_ops reader_ops = {
    .write = reader_write,
    .read = reader_read,
    .prepare = reader_prepare,
    .remove = reader_remove,
    .space = reader_space,
    .open = reader_open,
    .list = reader_list,
    .forget = reader_forget,
    .pin = reader_pin,
    .reap = reader_reap,
    .submit = reader_submit,
    .arm = reader_arm,
    .close = reader_close,
};

int disk_open_reader(struct disk **disk, const char *folder)
{
    struct disk_reader *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->disk.ops = &reader_ops;
    self->last = &self->first;
    self->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->folder < 0) {
        int error = -errno;
        free(self);
        return error;
    }
    *disk = &self->disk;
    return 0;
}
