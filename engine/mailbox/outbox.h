/*
 * outbox: what a session has to say and its stream has not taken yet: replies, which are copied, and pieces of messages,
 * which are held where they lie.
 *
 * A session writes what belongs together, asks outbox_is_full before it makes more, and goes on when the stream has
 * taken some. So a client that reads slowly, or not at all, costs the bound and one answer's worth above it. An empty outbox holds no
 * memory.
 */
#pragma once
#include "engine/stream.h"

struct outbox {
    struct list_node pieces; /* oldest first; owned */
    size_t bytes;            /* in all of them */
    size_t memory_bytes;     /* that they take of the heap */
    size_t full_bytes;
    bool was_full; /* and is until half of it is gone */
    bool failed;   /* memory was short: something is missing, the session must end */
};

/* full_bytes: when it is full. */
void outbox_open(struct outbox *outbox, size_t full_bytes);
/* Drops what is left. It may be opened again. */
void outbox_close(struct outbox *outbox);

/* Copied. When memory is short nothing more is taken, and outbox_flush says so. */
void outbox_write(struct outbox *outbox, struct slice bytes);
/* Not copied: takes a ref of its own. Short pieces are copied all the same. */
void outbox_write_ref(struct outbox *outbox, struct slice bytes, struct ref *owner);

/* Room at the end, for who writes in place; outbox_wrote says how much of it was used. NULL: memory is short.
 * bytes: at most OUTBOX_PLACE_MAX. */
#define OUTBOX_PLACE_MAX 4000u
uint8_t *outbox_place(struct outbox *outbox, size_t bytes);
void outbox_wrote(struct outbox *outbox, size_t bytes);

/* Both open; moves all that waits in `from` to the end of `to`. */
void outbox_move(struct outbox *to, struct outbox *from);
/* For who sends it otherwise than by outbox_flush: bytes of the front that lie together, until more is written; empty: it is. */
struct slice outbox_first(const struct outbox *outbox);
void outbox_sent(struct outbox *outbox, size_t bytes); /* at most as many */

static inline bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->bytes == 0;
}
/* Make no more now: outbox_flush says when. */
bool outbox_is_full(struct outbox *outbox);

/* Hands over what the stream takes. 0: all of it; -EAGAIN: go on when it is writable; -ENOMEM: something is missing;
 * another errno: the stream is closed. */
int outbox_flush(struct outbox *outbox, struct stream *stream);
