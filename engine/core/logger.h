/*
 * logger: lines for the operator, on standard error or a file descriptor.
 *
 * One line a call, "LEVEL room: text"; bytes of peers (slices, %.*s) are escaped so that CR, LF,
 * NUL and escape sequences cannot forge a line. Never blocks a shard: when the descriptor is not
 * ready the line is dropped and counted, and the count is said with the next line that goes out.
 * Shared by all shards of a process; each line is one write(2).
 */
#pragma once
#include "engine/core/slice.h"
#include <stdarg.h>

enum logger_level { LOGGER_ERROR, LOGGER_WARNING, LOGGER_INFO, LOGGER_DEBUG };

struct logger {
    int fd;
    enum logger_level level; /* the finest that is written */
    uint64_t dropped_count;  /* atomic */
};

void logger_open(struct logger *logger, int fd, enum logger_level level);
void logger_line(struct logger *logger, enum logger_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
