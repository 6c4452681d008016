/* The carrier's half of a passage. */
#include "engine/mailbox/crossing_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define SLICES 16   /* that are looked at together */
#define LINGER_S 30 /* without progress, then it is cut */

static bool has_begun(const struct passage_near *near)
{
    return (near->word.wanted & PASSAGE_BEGUN) != 0;
}

static bool has_unread(const struct passage_near *near)
{
    struct slice slice;
    return near->carrier != NULL && stream_peek(near->carrier, &slice, 1) > 0;
}

/* The last thing that is done: behind it the passage may be gone. */
static void settle(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    if (near->released && near->carrier == NULL && near->held == 0 && near->window_used == 0 &&
        !near->word.away && (near->word.wanted & PASSAGE_FAREWELL) == 0) {
        list_remove(&near->node);
        passage_say_near(passage, PASSAGE_FAREWELL);
    }
}

/* ---- To be sent ---- */

static void chunk_go_home(struct passage *passage, struct chunk *chunk)
{
    struct passage_near *near = &passage->near;
    chunk->drained = near->drained && near->held == 1 && !near->over && !chunk->refused;
    near->held--;
    chunk->note.message.run = passage_far_chunk_home;
    crossing_send(near->crossing, passage->far_shard, &chunk->note);
}

static void last_go_home(struct passage *passage)
{
    struct chunk *last = passage->near.last;
    passage->near.last = NULL;
    if (last != NULL) {
        chunk_go_home(passage, last);
    }
}

/* The carrier has let go of it. The last one waits for STREAM_DRAINED: TLS lets go of what it has encrypted, which may
 * be far from sent. */
static void chunk_released(struct ref *ref)
{
    struct chunk *chunk = list_entry(ref, struct chunk, ref);
    struct passage *passage = chunk->passage;
    struct passage_near *near = &passage->near;
    last_go_home(passage);
    if (near->over || near->released || near->drained || chunk->refused) {
        chunk_go_home(passage, chunk);
    } else {
        near->last = chunk;
    }
    settle(passage);
}

void passage_near_chunk_arrives(struct shard_message *message, struct shard *shard)
{
    struct chunk *chunk = list_entry(message, struct chunk, note.message);
    struct passage *passage = chunk->passage;
    (void)shard;
    ref_init(&chunk->ref, chunk_released);
    chunks_append(&passage->near.pending, chunk);
    passage->near.held++;
    passage_near_go_on(passage);
}

static void linger_renew(struct passage_near *near)
{
    near->linger_due_s = (uint32_t)(near->crossing->shard->now_ns / SECOND_NS) + LINGER_S;
}

static int carrier_write(struct passage_near *near, struct chunk *chunk)
{
    return near->over ? -EPIPE : stream_write_ref(near->carrier, chunk->bytes, &chunk->ref);
}

static void send_pending(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    struct chunk *chunk;
    while ((chunk = near->pending.first) != NULL) {
        int status = carrier_write(near, chunk);
        if (status == -EAGAIN || status == -ENOMEM) {
            return;
        }
        chunks_pop(&near->pending);
        chunk->refused = status < 0;
        near->drained = near->drained && status < 0;
        linger_renew(near);
        ref_drop(&chunk->ref);
    }
    if (near->shut && !near->shut_done && !near->over) {
        near->shut_done = true;
        stream_shut(near->carrier);
    }
}

/* ---- Received ---- */

static struct chunk *chunk_of(struct passage *passage, const struct slice *slices, size_t bytes)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + bytes);
    if (chunk == NULL) {
        return NULL;
    }
    *chunk =
        (struct chunk){.note.message = {.run = passage_far_chunk_arrives, .dropped = chunk_dropped},
                       .passage = passage,
                       .bytes = slice_of(chunk->room, bytes),
                       .cost = sizeof(*chunk) + bytes,
                       .room_bytes = bytes};
    list_init(&chunk->sent);
    for (size_t done = 0; done < bytes; slices++) {
        struct slice part = slice_first(*slices, bytes - done);
        memcpy(chunk->room + done, part.bytes, part.size);
        done += part.size;
    }
    return chunk;
}

/* False: there is nothing, or no room for it. */
static bool receive_some(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    struct slice slices[SLICES];
    size_t count = stream_peek(near->carrier, slices, SLICES), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += slices[i].size;
    }
    bytes = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
    if (bytes == 0) {
        return false;
    }
    near->window_closed = near->window_used + sizeof(struct chunk) + bytes > CROSSING_WINDOW_BYTES;
    struct chunk *chunk = near->window_closed ? NULL : chunk_of(passage, slices, bytes);
    if (chunk == NULL) {
        near->starved = !near->window_closed;
        return false;
    }
    stream_consume(near->carrier, bytes);
    near->window_used += (uint32_t)chunk->cost;
    crossing_send(near->crossing, passage->far_shard, &chunk->note);
    return true;
}

static void receive(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    near->starved = false;
    while (near->carrier != NULL && !near->window_closed && receive_some(passage)) {
    }
    if (near->starved) {
        crossing_retry_later(near->crossing);
    }
}

void passage_near_fed(struct passage *passage)
{
    if (passage->near.starved) {
        passage_near_go_on(passage);
    }
}

/* Room comes back by a quarter, so that chunks are not small when the far end reads slowly. */
void passage_near_chunk_home(struct shard_message *message, struct shard *shard)
{
    struct chunk *chunk = list_entry(message, struct chunk, note.message);
    struct passage *passage = chunk->passage;
    struct passage_near *near = &passage->near;
    (void)shard;
    near->window_used -= (uint32_t)chunk->cost;
    free(chunk);
    if (near->window_closed && near->window_used <= CROSSING_RESUME_BYTES) {
        near->window_closed = false;
        passage_near_go_on(passage);
    } else {
        settle(passage);
    }
}

/* ---- The whole ---- */

/* Nothing unread is left to it: an end with bytes that nobody has read is a reset, which would take our last words from
 * the peer (RFC 2525 §2.17). */
static void discard(struct stream *carrier)
{
    struct slice slice;
    while (stream_peek(carrier, &slice, 1) > 0) {
        stream_consume(carrier, slice.size);
    }
}

/* What it has still to send it sends by itself. */
static void let_go(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    discard(near->carrier);
    stream_release(near->carrier);
    near->carrier = NULL;
}

/* An orderly end comes behind the last byte, another as soon as it can. */
static void say(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    bool unread = has_unread(near);
    uint8_t says = near->finished && !unread ? PASSAGE_FINISHED : 0;
    if (near->over && (near->error != 0 || !unread)) {
        says |= PASSAGE_CLOSED;
    }
    passage_say_near(passage, says);
}

void passage_near_go_on(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    if (has_begun(near)) {
        send_pending(passage);
        if (!near->released) {
            receive(passage);
            say(passage);
        } else if (near->carrier != NULL && chunks_empty(&near->pending)) {
            let_go(passage);
        } else if (near->carrier != NULL) {
            discard(near->carrier);
        }
    }
    settle(passage);
}

/* Only once: the far half reads the error. */
static void over(struct passage *passage, int error)
{
    struct passage_near *near = &passage->near;
    if (!near->over) {
        near->over = true;
        near->error = error;
        last_go_home(passage);
    }
}

static void carrier_event(struct stream *carrier, uint32_t events, void *session)
{
    struct passage *passage = session;
    struct passage_near *near = &passage->near;
    near->finished = near->finished || (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_DRAINED) != 0 && chunks_empty(&near->pending) &&
        stream_queued(carrier) == 0) {
        near->drained = true;
        last_go_home(passage);
    }
    if ((events & STREAM_CLOSED) != 0) {
        over(passage, carrier->error);
    }
    passage_near_go_on(passage);
}

void passage_near_take(struct passage *passage)
{
    struct stream *carrier = passage->near.carrier;
    carrier->notify = carrier_event;
    carrier->session = passage;
    passage->near.drained = true;
}

void passage_near_begin(struct passage *passage)
{
    if (!passage->near.over) {
        stream_read_start(passage->near.carrier);
    }
    passage_say_near(passage, PASSAGE_BEGUN);
    passage_near_go_on(passage);
}

static void near_break(struct passage *passage)
{
    if (!passage->near.over) {
        stream_abort(passage->near.carrier);
        over(passage, -ECONNABORTED);
    }
}

void passage_near_hear(struct passage *passage, uint8_t says)
{
    struct passage_near *near = &passage->near;
    if ((says & PASSAGE_ABORTED) != 0) {
        near_break(passage);
    }
    near->shut = near->shut || (says & PASSAGE_SHUT) != 0;
    if ((says & PASSAGE_RELEASED) != 0) {
        near->released = true;
        linger_renew(near);
        list_remove(&near->node);
        list_append(&near->crossing->lingering, &near->node);
        crossing_linger(near->crossing);
        last_go_home(passage);
    }
    passage_near_go_on(passage);
}

void passage_near_word_home(struct passage *passage)
{
    passage_say_near(passage, 0);
    settle(passage);
}

void passage_near_cut(struct passage *passage)
{
    if (passage->near.carrier != NULL) {
        near_break(passage);
        send_pending(passage);
        let_go(passage);
    }
    passage_near_go_on(passage);
}

void passage_near_close(struct passage *passage)
{
    struct passage_near *near = &passage->near;
    struct chunk *chunk;
    while ((chunk = chunks_pop(&near->pending)) != NULL) {
        chunk_dropped(&chunk->note.message);
    }
    if (near->last != NULL) {
        chunk_dropped(&near->last->note.message);
    }
    list_remove(&near->node);
    passage_forget(passage);
}
