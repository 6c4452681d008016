#include "engine/resolve/policy_file.h"

#include "engine/core/check.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "TPSTS001";

struct kept {
    struct list_node node;
    size_t size;
    char domain[DNS_NAME_BYTES];
    uint8_t bytes[];
};

static void kept_drop(struct policy_file *file, struct kept *kept)
{
    list_remove(&kept->node);
    file->bytes -= kept->size;
    free(kept);
}

static void forget_domain(struct policy_file *file, const char *domain)
{
    for (struct list_node *node = file->kept.next; node != &file->kept; node = node->next) {
        struct kept *kept = list_entry(node, struct kept, node);
        if (strcmp(kept->domain, domain) == 0) {
            kept_drop(file, kept);
            return;
        }
    }
}

/* Without memory it is not kept. */
static void keep(struct policy_file *file, const char *domain, struct slice record)
{
    struct kept *kept = malloc(sizeof(*kept) + record.size);
    if (kept == NULL) {
        return;
    }
    kept->size = record.size;
    memcpy(kept->bytes, record.bytes, record.size);
    snprintf(kept->domain, sizeof(kept->domain), "%s", domain);
    list_append(&file->kept, &kept->node);
    file->bytes += record.size;
    while (file->bytes > POLICY_FILE_BYTES_MAX) {
        kept_drop(file, list_entry(file->kept.next, struct kept, node));
    }
}

void policy_file_put(struct policy_file *file, struct slice record)
{
    struct policy_record read;
    struct slice rest = record;
    if (policy_record_read(&rest, &read) < 0) {
        return;
    }
    pthread_mutex_lock(&file->lock);
    forget_domain(file, read.domain);
    keep(file, read.domain, record);
    file->changed = true;
    pthread_mutex_unlock(&file->lock);
}

void policy_file_each(struct policy_file *file,
                      void (*each)(void *owner, const struct policy_record *record), void *owner)
{
    struct policy_record read;
    pthread_mutex_lock(&file->lock);
    for (struct list_node *node = file->kept.next; node != &file->kept; node = node->next) {
        struct kept *kept = list_entry(node, struct kept, node);
        struct slice rest = slice_of(kept->bytes, kept->size);
        if (policy_record_read(&rest, &read) == 0) {
            each(owner, &read);
        }
    }
    pthread_mutex_unlock(&file->lock);
}

/* ---- Reading ---- */

static int read_whole(const char *path, uint8_t **bytes, size_t *size)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int status = fstat(fd, &facts) < 0 ? -errno : 0;
    *size = status == 0 ? (size_t)facts.st_size : 0;
    if (status == 0 && *size > 2 * (size_t)POLICY_FILE_BYTES_MAX) {
        status = -EFBIG;
    }
    *bytes = status == 0 ? malloc(*size + 1) : NULL;
    if (status == 0 && *bytes == NULL) {
        status = -ENOMEM;
    }
    for (size_t done = 0; status == 0 && done < *size;) {
        ssize_t got = read(fd, *bytes + done, *size - done);
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            status = got == 0 ? -EIO : -errno;
        }
    }
    close(fd);
    return status;
}

static void take_records(struct policy_file *file, struct slice bytes, int64_t wall_s)
{
    struct policy_record read;
    bool good = slice_equal(slice_first(bytes, sizeof(magic)), slice_of(magic, sizeof(magic)));
    bytes = slice_from(bytes, sizeof(magic));
    while (good && bytes.size > 0) {
        struct slice record = bytes;
        good = policy_record_read(&bytes, &read) == 0;
        record.size -= bytes.size;
        if (good && read.fetched_s + read.policy.max_age_s > wall_s) {
            forget_domain(file, read.domain);
            keep(file, read.domain, record);
        }
    }
    if (!good) {
        logger_line(file->logger, LOGGER_WARNING,
                    "resolve: %s: damaged, MTA-STS policies may be missing", file->path);
    }
}

int policy_file_open(struct policy_file *file, const char *path, int64_t wall_s,
                     struct logger *logger)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    *file = (struct policy_file){.logger = logger};
    list_init(&file->kept);
    pthread_mutex_init(&file->lock, NULL);
    if (path == NULL) {
        return 0;
    }
    file->path = strdup(path);
    if (file->path == NULL) {
        pthread_mutex_destroy(&file->lock);
        return -ENOMEM;
    }
    int status = read_whole(path, &bytes, &size);
    if (status == 0) {
        take_records(file, slice_of(bytes, size), wall_s);
    } else if (status != -ENOENT) {
        logger_line(logger, LOGGER_WARNING, "resolve: %s: %s", path, strerror(-status));
    }
    free(bytes);
    return 0;
}

void policy_file_close(struct policy_file *file)
{
    while (!list_empty(&file->kept)) {
        kept_drop(file, list_entry(file->kept.next, struct kept, node));
    }
    free(file->path);
    pthread_mutex_destroy(&file->lock);
}

/* ---- Writing ---- */

/* All of it in one block, so that the lock is not held while the disk works. */
static uint8_t *snapshot(struct policy_file *file, size_t *size)
{
    pthread_mutex_lock(&file->lock);
    uint8_t *bytes = malloc(sizeof(magic) + file->bytes);
    size_t at = sizeof(magic);
    for (struct list_node *node = file->kept.next; bytes != NULL && node != &file->kept;
         node = node->next) {
        const struct kept *kept = list_entry(node, struct kept, node);
        memcpy(bytes + at, kept->bytes, kept->size);
        at += kept->size;
    }
    file->changed = bytes == NULL;
    pthread_mutex_unlock(&file->lock);
    if (bytes != NULL) {
        memcpy(bytes, magic, sizeof(magic));
    }
    *size = at;
    return bytes;
}

static int write_whole(const char *path, const uint8_t *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int status = fd < 0 ? -errno : 0;
    for (size_t done = 0; status == 0 && done < size;) {
        ssize_t wrote = write(fd, bytes + done, size - done);
        if (wrote >= 0) {
            done += (size_t)wrote;
        } else if (errno != EINTR) {
            status = -errno;
        }
    }
    if (status == 0 && fsync(fd) < 0) {
        status = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

/* A rename is there for good when its folder is. */
static int sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int status = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    free(copy);
    return status;
}

int policy_file_write(struct policy_file *file)
{
    char beside[4096];
    size_t size;
    if (!file->changed || file->path == NULL) {
        return 0;
    }
    uint8_t *bytes = snapshot(file, &size);
    int status = bytes == NULL ? -ENOMEM : 0;
    if (snprintf(beside, sizeof(beside), "%s.new", file->path) >= (int)sizeof(beside)) {
        status = -ENAMETOOLONG;
    }
    status = status == 0 ? write_whole(beside, bytes, size) : status;
    if (status == 0 && rename(beside, file->path) < 0) {
        status = -errno;
    }
    status = status == 0 ? sync_folder(file->path) : status;
    if (status < 0) {
        logger_line(file->logger, LOGGER_WARNING, "resolve: %s: cannot be written: %s", file->path,
                    strerror(-status));
    }
    free(bytes);
    return status;
}
