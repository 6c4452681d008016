/*
 * imap_placing: the end of a COPY or MOVE from one shard to another. All messages lie in a carriage (carriage.h) on the target's
 * shard. What follows needs no session, and is not broken off when the client goes:
 *
 *        the session's shard            the target's                    the source's
 *   imap_placing_begin ─────────► PLACE: they are in the mailbox,
 *                                 or none is
 *                                   │ MOVE ──────────────────────► TAKE: they are expunged;
 *                                   │                                  which of them did we?
 *                                 TAKE_BACK: the others ◄──────────────┤
 *   its task hears ◄────────────────┴──────────────────────────────────┘
 *
 * So a message is at every moment in one of the two mailboxes at least. Of several who move it at once one expunges it, and the
 * others take back what they have placed; so does who finds that somebody has expunged it. Power loss between PLACE and TAKE
 * leaves it in both.
 *
 * What it is told and says lies in memory of its own, which goes from shard to shard.
 */
#pragma once
#include "engine/mailbox/imap_session.h"

struct imap_placing;

struct imap_placing_order {
    unsigned target; /* a shard */
    const char *carriage;
    struct slice owner, mailbox; /* of the target, as imap_place_names says */
    bool move;
    unsigned source; /* a shard; of MOVE, as the two: */
    uint64_t source_user, source_box;
    /* Those that lie in the carriage, in its order, as the source calls them. They ascend. Given, of the heap. */
    struct mailstore_uids *uids;
    uint32_t uid_count, messages;
};
struct imap_placed {
    int status; /* 0, or why none was placed, or moved */
    uint64_t box;
    uint32_t uidvalidity;
    uint32_t message_count; /* COPY: all; MOVE: those that it has moved */
    /* The n-th of one is the n-th of the other. None of both: memory was short. */
    const struct mailstore_uids *sources, *targets;
    uint32_t source_count, target_count;
};

/* imap_session_later follows when it is over. NULL: memory is short. */
struct imap_placing *imap_placing_begin(struct imap_session *session,
                                        const struct imap_placing_order *order);
/* NULL: it goes on. Borrowed until imap_placing_leave. */
const struct imap_placed *imap_placing_result(const struct imap_placing *placing);
/* The session does not wait for it any more; it goes on. */
void imap_placing_leave(struct imap_placing *placing);
