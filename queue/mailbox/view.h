/*
 * view: what one session has been told of a mailbox: its sequence numbers, until it may hear of another state.
 *
 * Sequence numbers (RFC 9051 §2.3.1.2) may only move when the session can be told so (§7.5.1: not while FETCH, STORE
 * or SEARCH run). A view shows what the box holds up to the highest uid that the session knows, and those uids that have
 * gone and were not told yet; so it is small however large the mailbox is.
 *
 * Who calls: a session of engine/mailbox, on the shard's thread. A view has the box open from view_open to view_close.
 */
#pragma once
#include "queue/mailbox/mailstore.h"

struct view {
    struct mailstore_watch watch;
    struct mailstore *store; /* borrowed */
    struct mailstore_box *box;
    void (*changed)(
        struct view
            *view); /* once in a round at most: call view_sync when it may be told; may be NULL */
    void *owner;
    uint32_t count;       /* EXISTS as the session knows it */
    uint32_t uid_last;    /* the highest uid that it was told of */
    uint64_t modseq_told; /* flags up to this modseq are told */
    uint32_t
        *missing; /* uids that the session knows and the box has no more, ascending; of the heap */
    uint32_t missing_count, missing_room;
    uint32_t keyword_told; /* keyword_count that the session knows */
    bool is_open, gone_told;
    bool lost; /* memory was short: what is missing is not known, view_sync says -ENOMEM */
};
static_assert(sizeof(struct view) < 200, "ten thousand sessions wait in IDLE");

/* Opens the box, and shows all that is in it. 0, -ENOENT, -ENOMEM, -EIO. */
int view_open(struct view *view, struct mailstore *store, struct mailstore_box *box);
void view_close(struct view *view); /* harmless twice */

/* The uid of a sequence number (1..count); 0: there is none. */
uint32_t view_uid(const struct view *view, uint32_t number);
/* The sequence number of a uid that the session knows; 0: it does not. */
uint32_t view_number(const struct view *view, uint32_t uid);
/* The number of the first message whose uid is this or higher; count + 1: none. */
uint32_t view_number_from(const struct view *view, uint32_t uid);
/* What the box holds of it now; NULL: it has been expunged meanwhile, or was never there. Valid in this round. */
const struct mailstore_entry *view_entry(const struct view *view, uint32_t number);

/* Is there anything that view_sync would tell? */
bool view_is_behind(const struct view *view);

enum view_sync_flags {
    VIEW_MAY_EXPUNGE = 1, /* sequence numbers may move */
    VIEW_MAY_EXIST = 2,   /* messages may be added */
};
/* What the session is to be told, in this order. Each may be NULL. */
struct view_teller {
    /* It had this number when it is told: the numbers above move down by one at once (descending). uid: for VANISHED. */
    void (*expunged)(void *owner, uint32_t number, uint32_t uid);
    void (*exists)(void *owner, uint32_t count);
    void (*keywords)(void *owner); /* there are more than the session knows: FLAGS */
    /* Flags have changed, or it is new to the session (is_new). */
    void (*flags)(void *owner, uint32_t number, const struct mailstore_entry *entry, bool is_new);
    void (*gone)(void *owner); /* the mailbox is deleted */
    void *owner;
};
/* 0, or -ENOMEM: nothing was told. The tellers may not call the store or the view. Costs nothing when not behind;
 * else at most a walk over the entries. */
int view_sync(struct view *view, uint32_t flags, const struct view_teller *teller);
/* The session itself has learned of this change (STORE.SILENT, its own FETCH): it is not told again by view_sync,
 * if nothing else happened between. */
void view_told(struct view *view, uint64_t modseq);
