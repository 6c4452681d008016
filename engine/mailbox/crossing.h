/*
 * crossing: how the shards of a service talk: messages in order, and streams whose session is on another shard.
 *
 * Each shard of several has one, made before any of them runs; it is a part of the shard's round. What a ring has no room for
 * waits here and goes in a later round, so that sending never fails. All calls but crossing_open and crossing_close come
 * from the shard's own thread.
 *
 *      shard A                                            shard B
 *   carrier stream ◄─── passage, which drives it ◄══ chunks ══► the far end, a stream ◄─── session
 *
 * A passage is a stream in two halves. The carrier stays with the network (or TLS) that made it; what it receives is copied into
 * chunks, and what the session writes goes back in chunks, a write by reference by reference. Of each direction at most
 * CROSSING_WINDOW_BYTES are under way; then the carrier stops reading, or the session's writes answer -EAGAIN.
 */
#pragma once
#include "engine/shard/shard.h"
#include "engine/stream.h"

#define CROSSING_WINDOW_BYTES (256u * 1024)

struct crossing;

/* The sender's until `run` is called on the receiver's thread, or `dropped` when the receiver ends before (see shard.h). */
struct crossing_note {
    struct shard_message message; /* first; set run, and dropped where somebody must know */
    struct crossing_note *next;   /* crossing's own */
};

/* On main's thread. 0 or -ENOMEM. */
int crossing_open(struct crossing **crossing, struct shard *shard);
/* To the round, behind the networks and TLS, before the store. */
void crossing_add_part(struct crossing *crossing);
/* After the threads have ended, before shard_close: what waits is dropped. */
void crossing_close(struct crossing *crossing);

/* In order, to another shard or its own. */
void crossing_send(struct crossing *crossing, struct shard *to, struct crossing_note *note);
/* Nothing waits to be sent, and no passage has its carrier here. */
bool crossing_is_quiet(const struct crossing *crossing);
/* Aborts the carriers of all passages that are here: the service ends. Their far ends hear STREAM_CLOSED if they can. */
void crossing_abort(struct crossing *crossing);

/* The far end of a stream: it belongs to the caller until it is handed over (by a note of his) to a session on the shard
 * `to`, which is then the only one to use it, and releases it. `carrier` is given: it must not be used any more; what
 * it has received and nobody has consumed is read at the far end. finished: its STREAM_HALF_CLOSED was told already; the
 * far end tells it again. NULL: -ENOMEM, and the carrier is still the caller's. */
struct stream *crossing_pass(struct crossing *here, struct crossing *to, struct stream *carrier,
                             bool finished);
