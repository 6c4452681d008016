/*
 * policy_file: the MTA-STS policies of the process in a file, so that a restart cannot be used to forget them.
 *
 * The resolver's fetching thread puts policies in and writes; shards read all of them when they open. A file is
 * replaced as a whole: written beside, synced, renamed. What is damaged is left out with a warning, what has expired
 * without. Bounded: when there are too many, the oldest goes.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/logger.h"
#include "engine/resolve/policy_record.h"
#include <pthread.h>

#define POLICY_FILE_BYTES_MAX (32u << 20)

struct policy_file {
    pthread_mutex_t lock;  /* of the list */
    struct list_node kept; /* the oldest first */
    size_t bytes;
    bool changed;
    char *path; /* NULL: nothing is written */
    struct logger *logger;
};

/* path: NULL, or copied. wall_s: now. 0 or -ENOMEM; a file that cannot be read is an empty one, with a warning. */
int policy_file_open(struct policy_file *file, const char *path, int64_t wall_s,
                     struct logger *logger);
void policy_file_close(struct policy_file *file); /* writes nothing */

/* One policy, as policy_record_write wrote it; a newer one than what is known of its domain. */
void policy_file_put(struct policy_file *file, struct slice record);
/* Writes when something has changed. 0 or -errno, with a warning. */
int policy_file_write(struct policy_file *file);
/* All of them, on the calling thread, e.g. a shard's. */
void policy_file_each(struct policy_file *file,
                      void (*each)(void *owner, const struct policy_record *record), void *owner);
