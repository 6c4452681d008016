/*
 * quota: what a user may have, with rules for some of his mailboxes.
 *
 * A quota is of all of a user's mail. A rule lets mail into mailboxes of a name though the quota is reached, up to so
 * much more (Trash: what is moved there to be deleted must have room), or leaves out what lies there (counted: false).
 * The store compares; here the numbers are made that it is to compare with.
 * Delivery, IMAP's APPEND, COPY and QUOTA, and the operator ask; nobody keeps the answer.
 */
#pragma once
#include "engine/conf/conf.h"
#include "queue/mailbox/mailstore.h"

struct quota {
    uint64_t bytes, messages; /* 0: no limit */
};

/* For one more message in the mailbox; one that is not there counts as INBOX. user: open. */
struct quota quota_limit(const struct mailboxd_conf *conf, struct mailstore_user *user,
                         struct slice mailbox);
/* What counts of a user's mail. */
struct quota quota_used(const struct mailboxd_conf *conf, struct mailstore_user *user);
