#include "bench/journal.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

void journal_open(struct journal *journal, int fd)
{
    journal->fd = fd;
    journal->used = 0;
}

void journal_flush(struct journal *journal)
{
    size_t at = 0;
    while (at < journal->used) {
        ssize_t written = write(journal->fd, journal->lines + at, journal->used - at);
        check(written > 0 || (written < 0 && errno == EINTR));
        at += written > 0 ? (size_t)written : 0;
    }
    journal->used = 0;
}

void journal_line(struct journal *journal, const char *format, ...)
{
    if (journal->fd < 0) {
        return;
    }
    if (journal->used + LINE_BYTES_MAX > sizeof(journal->lines)) {
        journal_flush(journal);
    }
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(journal->lines + journal->used, LINE_BYTES_MAX, format, arguments);
    va_end(arguments);
    check(size >= 0 && size < LINE_BYTES_MAX);
    journal->used += (size_t)size;
}
