/*
 * maildir_subscriptions: the file `subscriptions` of a Maildir, as Dovecot 2.3 writes it.
 *
 *   V<TAB>2                  and an empty line; without it the file is of the older version
 *   Sent
 *   Archive<TAB>2024         levels in modified UTF-7; of the older version split by dots: Archive.2024
 *
 * Lines that are no mailbox's name are passed over where it is read, and stay where it is changed. maildir_home calls
 * this. Pure. Mailboxes are named in UTF-8, with '/' between their levels.
 */
#pragma once
#include "queue/mailbox/maildir_name.h"

#define MAILDIR_SUBSCRIPTIONS "subscriptions"
#define MAILDIR_SUBSCRIPTIONS_MORE (MAILDIR_FILE_NAME_MAX + 16u) /* that a change may add */

/* The names, each with a NUL, of the heap; *used: bytes of all. NULL: memory is short. */
char *maildir_subscriptions_names(struct slice text, size_t *used);
/* The text with or without this mailbox. out: room for the text and MAILDIR_SUBSCRIPTIONS_MORE. Returns its size, or
 * -EINVAL: no name that a folder can have. */
ssize_t maildir_subscriptions_change(struct slice text, const char *mailbox, bool subscribed,
                                     char *out);
