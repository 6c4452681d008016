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
/* After the threads have ended and all networks are closed, before shard_close: what waits is dropped. Carriers are not
 * touched: they ended with their networks. */
void crossing_close(struct crossing *crossing);

/* In order, to another shard or its own. */
void crossing_send(struct crossing *crossing, struct shard *to, struct crossing_note *note);
/* Nothing waits to be sent, no passage has its carrier here, and none its far end: all that was written here by reference
 * has been let go of. */
bool crossing_is_quiet(const struct crossing *crossing);
/* Aborts and releases the carriers of all passages that are here: the service ends, and networks and TLS may be closed. Their
 * far ends hear STREAM_CLOSED if they can, and their facts.tls must not be looked at any more. */
void crossing_abort(struct crossing *crossing);
/* When no shard has a network or TLS any more: lets go of what was written here by reference and has not come home, so that
 * what it lies in may be closed. The shard's thread, or main's behind it. crossing_close does it too. */
void crossing_let_go(struct crossing *crossing);

/* The far end of a stream. The caller hands it over by a note of his, in the same round, to a session on the shard `to`,
 * which sets notify when the note runs, is the only one to use it from then on, and releases it. Until then
 * it may be looked at by stream_facts alone. `carrier` is given: it must not be used any more, and it reads again if it was
 * stopped; what it has received and nobody has consumed is read at the far end. finished: its STREAM_HALF_CLOSED was told
 * already; the far end tells it again. NULL: -ENOMEM, and the carrier is still the caller's. If his note is
 * dropped, the stream ends by itself.
 *
 * As other streams, but: stream_unacknowledged is what has not left us, since the kernel would have to be asked on the
 * other shard; facts.tls is the carrier's own, and no more than that of the time of passing; a write by reference
 * comes back as a whole, and one of them may reach beyond the window. A released far end whose
 * peer takes nothing for 30 s is cut. */
struct stream *crossing_pass(struct crossing *here, struct crossing *to, struct stream *carrier,
                             bool finished);
