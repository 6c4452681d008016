/*
 * worker_log: the lines that a shard writes about what its log has found on the disk. worker.c alone
 * calls it, while it starts.
 */
#pragma once
#include "engine/core/logger.h"
#include "queue/log/log.h"

/* A log_unread_told; owner: struct logger. A file that cannot be opened, or read at its beginning, is named
 * by the line before the one that says why the start ends. */
void worker_log_unread(void *logger, const struct log_unread *what);

/* What there is to say of a log that was recovered. */
void worker_log_recovered(struct logger *logger, uint32_t shard, const struct log *log);
