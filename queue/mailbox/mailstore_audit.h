/*
 * mailstore_audit: is the index of a store that runs as its log says? Mail comes and goes meanwhile.
 *
 *   WAITS ──between two changes──► WRITES ──the index is on the device──► READS ──done──► told, and gone
 *
 * At a moment between two changes all segments of the log are kept (queue/log/log_reading.h), and the index is written:
 * from then on its file, at which the audit glances, and what lies in the log up to there are two tellings of one state. A
 * thread of the audit's own reads the log, comes to that state again in an index of its own, INDEX.check, and compares the
 * two. The store's thread is held up for no longer than by any other writing of the index. (A driven store has no
 * threads: mailstore_round does all of it, and blocks.)
 *
 * What is kept costs space: when that becomes short, or the cleaner needs one of the segments, the audit is given up.
 * The audit's own index is never opened again: whatever is left of it is removed by the next start.
 *
 * A store whose index is known to be wrong can be marked: INDEX.stale. The next mailstore_open does not believe the index
 * then, builds it from the whole log, and takes the mark away when the new one is on the device. Until then the old one is
 * kept, INDEX.kept; a log that cannot be read (-EIO), or that is damaged (-EBADMSG), has mailstore_open fail and leave it as
 * it was, without the mark.
 */
#pragma once
#include "queue/mailbox/mailstore_check.h"
#include <stdbool.h>
#include <stdint.h>

struct mailstore;

enum mailstore_audit_step {
    MAILSTORE_AUDIT_READS,
    MAILSTORE_AUDIT_BUILDS,
    MAILSTORE_AUDIT_COMPARES
};

struct mailstore_audit_progress {
    enum mailstore_audit_step step;
    uint64_t done, all; /* bytes, changes, rows; all 0: not known */
};

struct mailstore_audit_result {
    /* 0; -ECANCELED; -ETIMEDOUT: its moment has not come for a minute, or what was to be written has not been;
     * -ENOSPC: space has become short; -E2BIG: too much for the memory that it may have; -EAGAIN: a write
     * of the log has failed meanwhile; -EIO: the log or an index cannot be read; -ENOMEM; or what a file answered. */
    int status;
    uint64_t users, log_bytes, damaged_bytes, torn_bytes, unread_bytes, differences;
    bool marked;
};

/* `owner` is used until `done` has run. */
struct mailstore_audit_settings {
    const char *folder;    /* of the log's disk; borrowed until then */
    bool marks;            /* the store, when rows differ */
    uint64_t memory_bytes; /* for the changes of the whole log; 0: 1 GiB */
    /* On the audit's thread, now and then, at least after each MiB that was read: it may sleep, so that the disk serves
     * others. Not 0: the audit is to be given up. */
    int (*progress)(void *owner, const struct mailstore_audit_progress *progress);
    void (*visit)(void *owner, const struct mailstore_difference *difference); /* on that thread */
    void (*wake)(void *owner); /* any thread: call mailstore_round soon */
    /* From mailstore_round, or mailstore_close, once. */
    void (*done)(void *owner, const struct mailstore_audit_result *result);
    void *owner;
};

/* 0; -EBUSY: there is one; -ENOSPC: space is short already; -ENOMEM; what mailstore_state says. */
int mailstore_audit_begin(struct mailstore *store, const struct mailstore_audit_settings *settings);
/* `done` runs soon. Harmless when there is none. */
void mailstore_audit_cancel(struct mailstore *store);
/* The same, and `done` has run: blocks until the thread has noticed, for some milliseconds. */
void mailstore_audit_end(struct mailstore *store);
