/*
 * pipe: a stream in memory whose other end is no stream, but whoever made it. Both are of one shard.
 *
 *   the maker ── pipe_write ──────────► peek, consume ──┐
 *             ◄─ pipe_first, pipe_used ── write, shut ──┴─ the stream
 *
 * imap_agent.c makes one to speak with a session of its own on another shard: the stream is given to crossing_pass as a
 * carrier, so that what is said goes there and what is answered comes back, each within its bounds.
 *
 * `heard` comes from within the stream's calls: it only takes note that there is something to look at. The stream's notify comes
 * from within the maker's calls.
 */
#pragma once
#include "engine/mailbox/outbox.h"

struct pipe {
    struct stream stream;  /* first; its session's, until it is released */
    struct outbox to;      /* what the maker has said */
    struct outbox from;    /* what the stream was given to write */
    bool over;             /* nothing more comes from the stream */
    bool write_waits;      /* it was refused for want of room */
    bool closed, released; /* by the maker; by the stream's owner */
    void (*heard)(void *owner);
    void *owner;
};

/* full_bytes: of each direction, beyond which one write reaches at most. NULL: memory is short. */
struct pipe *pipe_open(size_t full_bytes, void (*heard)(void *owner), void *owner);
/* The stream's session hears STREAM_CLOSED. Where nobody has taken the stream (its notify is NULL) all is freed. */
void pipe_close(struct pipe *pipe);

/* Copied. When memory is short the pipe is over. */
void pipe_write(struct pipe *pipe, struct slice bytes);
/* Say no more now: `heard` follows when there is room. */
bool pipe_is_full(struct pipe *pipe);
/* What the stream has written: bytes that lie together, borrowed until pipe_used. */
struct slice pipe_first(const struct pipe *pipe);
void pipe_used(struct pipe *pipe, size_t bytes);
