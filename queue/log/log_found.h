/*
 * log_found: the lines that a program writes about what a log has found on the disk. Who opens one calls it, while it
 * starts.
 */
#pragma once
#include "engine/core/logger.h"
#include "queue/log/log.h"

struct log_found {
    struct logger *logger;
    const char *store; /* what the operator calls it: "spool" */
};

/* A log_unread_told; owner: struct log_found. A file that cannot be opened, or read at its beginning, is named
 * by the line before the one that says why the start ends. */
void log_found_unread(void *found, const struct log_unread *what);

/* log_open has failed. */
void log_found_unusable(const struct log_found *found, uint32_t shard, int status);

/* What there is to say of a log that was recovered. */
void log_found_recovered(const struct log_found *found, const struct log *log);
