#include "engine/relay/operator_file.h"
#include "engine/core/logger.h"
#include "engine/relay/operator_orders.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT_NAME                                                                                  \
    OPERATOR_FILE_NAME ".next" /* being written; one that a crash left is written over */

static int bytes_read(int file, char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t got = pread(file, text + at, size - at, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : -EIO;
        }
        at += (size_t)got;
    }
    return 0;
}

static int system_read(void *self, char **text, size_t *size)
{
    int file = openat(*(const int *)self, OPERATOR_FILE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat found;
    if (file < 0) {
        return -errno;
    }
    int status = fstat(file, &found) < 0 ? -errno : 0;
    if (status == 0 && (found.st_size < 0 || found.st_size > (off_t)OPERATOR_FILE_BYTES_MAX)) {
        status = -EFBIG;
    }
    *size = status == 0 ? (size_t)found.st_size : 0;
    *text = status == 0 ? calloc(1, *size + 1) : NULL;
    status = status == 0 && *text == NULL ? -ENOMEM : status;
    status = status == 0 ? bytes_read(file, *text, *size) : status;
    close(file);
    if (status < 0) {
        free(*text);
    }
    return status;
}

static int bytes_write(int file, const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t written = write(file, text + at, size - at);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? -errno : -EIO;
        }
        at += (size_t)written;
    }
    return 0;
}

static int system_replace(void *self, const char *text, size_t size)
{
    int folder = *(const int *)self;
    int file =
        openat(folder, NEXT_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    int status = bytes_write(file, text, size);
    if (status == 0 && fsync(file) < 0) {
        status = -errno;
    }
    if (close(file) < 0 && status == 0) {
        status = -errno;
    }
    if (status == 0 && renameat(folder, NEXT_NAME, folder, OPERATOR_FILE_NAME) < 0) {
        status = -errno;
    }
    if (status == 0 && fsync(folder) < 0) {
        status = -errno;
    }
    return status;
}

void operator_file_system(struct operator_file *file, const int *folder)
{
    *file = (struct operator_file){
        .self = (void *)(uintptr_t)folder, .read = system_read, .replace = system_replace};
}

int operator_file_load(struct operator_orders *orders, const struct operator_file *file,
                       const char *folder, struct logger *logger)
{
    char problem[OPERATOR_PROBLEM_MAX];
    char *text = NULL;
    size_t size = 0;
    unsigned line = 0;
    *orders = (struct operator_orders){0};
    int status = file->read(file->self, &text, &size);
    if (status == -ENOENT) {
        return 0;
    }
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "%s/%s: %s", folder, OPERATOR_FILE_NAME,
                    strerror(-status));
        return status;
    }
    status = operator_orders_read(orders, slice_of(text, size), &line, problem);
    free(text);
    if (status == -EINVAL) {
        logger_line(
            logger, LOGGER_ERROR,
            "%s/%s:%u: %s. It says what is suspended and rerouted: mend the line, or move the file "
            "away to forget all of it",
            folder, OPERATOR_FILE_NAME, line, problem);
    }
    return status;
}
