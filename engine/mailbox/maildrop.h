/*
 * maildrop: a user's INBOX as one POP3 session has it: the messages that were there when it logged in, under numbers that
 * stay (RFC 1939 §3, §5), whatever others do to the mailbox meanwhile.
 *
 * Who calls: pop3_session.c and its files, on the shard's thread. What the client has deleted goes with maildrop_update and
 * in no other way. What it has retrieved becomes \Seen when the maildrop is closed: one change for a session, and
 * none at all for messages that it has deleted.
 *
 * The name that UIDL gives a message is its uid and the mailbox's UIDVALIDITY, eight hexadecimal digits each: the order that
 * Dovecot has too, so clients that leave mail on the server do not notice who serves it.
 */
#pragma once
#include "proto/pop3/server.h"
#include "queue/mailbox/mailstore.h"

#define MAILDROP_UIDL_BYTES 16u

struct maildrop_message {
    uint32_t uid;
    bool retrieved;
    char uidl[MAILDROP_UIDL_BYTES];
};

struct maildrop {
    struct mailstore *store; /* borrowed; NULL: it is not open */
    struct mailstore_user *user;
    struct mailstore_box *box;        /* NULL: there is no INBOX yet, and no message */
    struct mailstore_watch watch;     /* in the box: how other sessions see that it is taken */
    struct pop3_maildrop listed;      /* the machine's; its memory is ours */
    struct maildrop_message *details; /* owned; of each message listed */
    uint32_t retrieved_count;
    struct mailstore_expunge expunge;
    struct mailstore_waiter expunged;
    /* Of maildrop_update: 0, it is durable; -errno: nothing was removed. It may close the maildrop. */
    void (*updated)(struct maildrop *drop, int status);
};

enum maildrop_sharing {
    MAILDROP_EXCLUSIVE, /* of those that are open at a time (RFC 1939 §4: a lock) */
    MAILDROP_SHARED,
};

/* *drop: zeroed, but for `updated`. user: as user_name_of_mailbox gives it; borrowed for the call. 0; -EBUSY: another
 * session has it; -EINVAL, -ENOMEM, -EIO as the store's. */
int maildrop_open(struct maildrop *drop, struct mailstore *store, struct slice user,
                  enum maildrop_sharing sharing);
/* Harmless twice. An update that is under way goes on, and nobody is told. */
void maildrop_close(struct maildrop *drop);

/* What the store has of it now; NULL: it was expunged meanwhile. Valid in this round. */
const struct mailstore_entry *maildrop_entry(const struct maildrop *drop, uint32_t message);
void maildrop_retrieved(struct maildrop *drop, uint32_t message);

/* Removes what is marked as deleted. 0: nothing is; -EINPROGRESS: `updated` runs later; -ENOSPC, -EIO, -ENOMEM. */
int maildrop_update(struct maildrop *drop);
