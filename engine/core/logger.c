#include "engine/core/logger.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define TEXT_BYTES_MAX 2048 /* of one line, before escapes */
#define LINE_BYTES_MAX 4096 /* PIPE_BUF: lines of several shards never mix in a pipe */

struct line {
    char bytes[LINE_BYTES_MAX];
    size_t size;
};

void logger_open(struct logger *logger, int fd, enum logger_level level)
{
    logger->fd = fd;
    logger->level = level;
    logger->dropped_count = 0;
}

/* Leaves out what no longer fits, with a mark at the end, and always ends the line. */
static void line_escape(struct line *line, const char *text, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        if (line->size + sizeof("\\xff...\n") > sizeof(line->bytes)) {
            memcpy(line->bytes + line->size, "...", 3);
            line->size += 3;
            break;
        }
        uint8_t byte = (uint8_t)text[i];
        if (byte == '\\') {
            line->bytes[line->size++] = '\\';
            line->bytes[line->size++] = '\\';
        } else if (byte >= 0x20 && byte < 0x7f) {
            line->bytes[line->size++] = (char)byte;
        } else {
            /* Above 0x7f too: terminals obey C1 controls, and half a UTF-8 letter eats the next
             * byte. */
            line->bytes[line->size++] = '\\';
            line->bytes[line->size++] = 'x';
            line->bytes[line->size++] = hex[byte >> 4];
            line->bytes[line->size++] = hex[byte & 15];
        }
    }
    line->bytes[line->size++] = '\n';
}

static void line_note_dropped(struct line *line, uint64_t count)
{
    if (count > 0) {
        line->size = (size_t)snprintf(line->bytes, sizeof(line->bytes),
                                      "WARNING logger: %llu lines dropped, nobody read them\n",
                                      (unsigned long long)count);
    }
}

/* A descriptor that others share must not be made non-blocking, so readiness is asked for, and the
 * write itself told not to wait where the kind of file can do that. */
static bool line_write(int fd, const struct line *line)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
        return false;
    }
    struct iovec whole = {.iov_base = (void *)(uintptr_t)line->bytes, .iov_len = line->size};
    ssize_t written = pwritev2(fd, &whole, 1, -1, RWF_NOWAIT);
    if (written >= 0) {
        return (size_t)written == line->size;
    }
    struct stat kind;
    bool waits_for_nobody = errno == EAGAIN && fstat(fd, &kind) == 0 && S_ISREG(kind.st_mode);
    if (errno != EAGAIN || waits_for_nobody) {
        do {
            written = write(fd, line->bytes, line->size);
        } while (written < 0 && errno == EINTR);
    }
    return written == (ssize_t)line->size;
}

void logger_line(struct logger *logger, enum logger_level level, const char *format, ...)
{
    static const char *const names[] = {"ERROR ", "WARNING ", "INFO ", "DEBUG "};
    if (level > logger->level) {
        return;
    }
    char text[TEXT_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (wanted < 0) {
        return;
    }
    size_t size = (size_t)wanted < sizeof(text) ? (size_t)wanted : sizeof(text) - 1;

    struct line line;
    line.size = 0;
    uint64_t dropped = __atomic_exchange_n(&logger->dropped_count, 0, __ATOMIC_RELAXED);
    line_note_dropped(&line, dropped);
    size_t name_bytes = strlen(names[level]);
    memcpy(line.bytes + line.size, names[level], name_bytes);
    line.size += name_bytes;
    line_escape(&line, text, size);
    if (!line_write(logger->fd, &line)) {
        __atomic_fetch_add(&logger->dropped_count, dropped + 1, __ATOMIC_RELAXED);
    }
}
