/*
 * carriage: messages that have come from another shard and are not yet where they shall be.
 *
 *   agent of a COPY ── APPEND ... APPEND ──► carriage ── mailstore_copy, one change ──► the mailbox
 *
 * It is a mailbox of OUTGOING_USER's that nobody sees, so what is in it is in the store as other mail is, counts for nobody, and
 * needs no memory. It goes with who has it, whatever has come of it; what power loss leaves of one goes at the next start. On
 * Maildirs it is a folder of that user's, in the shard's state.
 *
 * imap_append.c fills it, imap_placing.c takes from it. Both on the shard's thread.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/mailbox/mailbox_private.h"
#include "queue/mailbox/mailstore.h"

#define CARRIAGE_NAME_BYTES 64u

struct carriage {
    struct mailbox *mailbox;
    struct list_node node;       /* of mailbox->carriages */
    struct mailstore_user *user; /* open */
    struct mailstore_create create;
    struct mailstore_waiter created;
    bool waits;                 /* for that: on Maildirs nothing can be committed to it yet */
    int status;                 /* of that */
    uint8_t holds;              /* who has begun it, and who takes from it */
    void (*there)(void *owner); /* when it does not wait any more, if that was asked */
    void *owner;
    uint64_t bytes, messages; /* that were promised to it */
    char name[CARRIAGE_NAME_BYTES];
};

/* One that no other has, of any shard: for who asks another shard to begin it. */
void carriage_name_make(struct mailbox *mailbox, char name[CARRIAGE_NAME_BYTES]);
/* NULL: it cannot be had. */
struct carriage *carriage_begin(struct mailbox *mailbox, const char *name);
/* True: `there` runs once, later. False: it is there, or `status` says why not. */
bool carriage_await(struct carriage *carriage, void (*there)(void *owner), void *owner);
/* One that has begun and has not ended, which does not end before its taker does, too. NULL: there is none. */
struct carriage *carriage_take(struct mailbox *mailbox, const char *name);
/* By each of the two. With the last of them goes what is in it, and what is on its way there. Where the store cannot do that
 * now, it is asked when the next one begins. */
void carriage_end(struct carriage *carriage);
void carriages_close(struct mailbox *mailbox);
/* At start: what others have left goes, in the next rounds; on Maildirs also what the state does not know. */
void carriages_sweep(struct mailbox *mailbox);
/* May so many bytes more come, for a mailbox with this quota? 0; -EDQUOT. It is only looked at before the disk is written; the
 * copy decides. */
struct quota;
int carriage_promise(struct carriage *carriage, const struct mailstore_user *owner,
                     const struct quota *quota, uint64_t bytes);
