/*
 * mailstore_check: do two indexes hold the same state of a store? For the operator's tool: an index against the one that
 * was built again from the log.
 *
 * Both stores are closed; nothing is changed. What need not be the same is passed over: where texts lie in the log, those
 * that no entry has, the books of segments, and what was only computed of texts. Blocks. Of a store that runs:
 * mailstore_audit.h.
 */
#pragma once
#include "engine/core/slice.h"

struct mailstore_difference {
    const char *what;         /* "user", "mailbox", "messages", ...: static text */
    struct slice key;         /* of the row, binary; borrowed */
    struct slice user;        /* whose it is; empty: nobody's, or not known; borrowed */
    bool in_first, in_second; /* both: it says something else in each */
};

/* Visits the rows that differ, in order of their keys. 0, -ENOMEM, -EIO, -EINVAL: one of them is no index, or is damaged;
 * or what opening answers. */
int mailstore_compare(const char *first, const char *second,
                      void (*visit)(void *owner, const struct mailstore_difference *difference),
                      void *owner);
