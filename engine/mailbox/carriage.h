/*
 * carriage: messages that have come from another shard and are not yet where they shall be.
 *
 *   agent of a COPY ── APPEND ... APPEND ──► carriage ── mailstore_copy, one change ──► the mailbox
 *
 * It is a mailbox of OUTGOING_USER's that nobody sees, so what is in it is in the store as other mail is, counts for nobody, and
 * needs no memory. It goes with who has it, whatever has come of it; what power loss leaves of one goes at the next start.
 *
 * imap_append.c fills it, imap_placing.c takes from it. Both on the shard's thread.
 */
#pragma once
#include "engine/mailbox/mailbox_private.h"
#include "queue/mailbox/mailstore.h"

#define CARRIAGE_NAME_BYTES 64u

struct carriage {
    struct mailbox *mailbox;
    struct carriage *next;       /* in mailbox->carriages_left */
    struct mailstore_user *user; /* open */
    struct mailstore_create create;
    struct mailstore_waiter created;
    bool waits; /* for that */
    bool ended;
    int status;               /* of that */
    uint64_t bytes, messages; /* that were promised to it */
    char name[CARRIAGE_NAME_BYTES];
};

/* One that no other has, of any shard: for who asks another shard to begin it. */
void carriage_name_make(struct mailbox *mailbox, char name[CARRIAGE_NAME_BYTES]);
/* NULL: it cannot be had. What is committed to it from now on finds it. */
struct carriage *carriage_begin(struct mailbox *mailbox, const char *name);
/* Given. What is in it goes, and what is on its way there. Where the store cannot do that now, it is asked when the next one
 * begins. */
void carriage_end(struct carriage *carriage);
void carriages_close(struct mailbox *mailbox);
/* At start: what others have left. */
void carriages_sweep(struct mailstore *store);
/* May so many bytes more come, for a mailbox with this quota? 0; -EDQUOT. It is only looked at before the disk is written; the
 * copy decides. */
struct quota;
int carriage_promise(struct carriage *carriage, const struct mailstore_user *owner,
                     const struct quota *quota, uint64_t bytes);
