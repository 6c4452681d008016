/* The session's half of a passage: a stream. */
#include "engine/mailbox/crossing_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

static struct passage *of(const struct stream *stream)
{
    return (struct passage *)(void *)(uintptr_t)stream; /* its first member */
}

static void join(struct passage *passage)
{
    struct passage_far *far = &passage->far;
    if (list_empty(&far->node)) {
        list_append(&far->crossing->far_ends, &far->node);
    }
}

/* ---- Events ---- */

static void raise_events(struct passage *passage, uint32_t events)
{
    const struct passage_far *far = &passage->far;
    struct stream *stream = &passage->stream;
    if (events == 0 || far->released || (far->closed && (events & STREAM_CLOSED) == 0)) {
        return;
    }
    stream->pending |= events;
    if (list_empty(&stream->ready)) {
        list_append(&far->crossing->ready, &stream->ready);
    }
}

unsigned passage_far_tell(struct passage *passage)
{
    struct stream *stream = &passage->stream;
    uint32_t events = stream->pending;
    stream->pending = 0;
    if (passage->far.read_stopped) {
        events &= ~(uint32_t)STREAM_READABLE; /* read_start says it again */
    }
    if (events == 0) {
        return 0;
    }
    stream->notify(stream, events, stream->session);
    return 1;
}

static void over(struct passage *passage, int error)
{
    struct passage_far *far = &passage->far;
    if (far->closed) {
        return;
    }
    far->closed = true;
    passage->stream.error = error;
    raise_events(passage, STREAM_CLOSED);
}

void passage_far_hear(struct passage *passage, uint8_t says)
{
    join(passage);
    if ((says & PASSAGE_FINISHED) != 0) {
        raise_events(passage, STREAM_HALF_CLOSED);
    }
    if ((says & PASSAGE_CLOSED) != 0) {
        over(passage, passage->near.error);
    }
}

/* ---- Received ---- */

static void consumed(struct passage *passage, struct chunk *chunk)
{
    chunk->note.message.run = passage_near_chunk_home;
    crossing_send(passage->far.crossing, passage->near_shard, &chunk->note);
}

void passage_far_chunk_arrives(struct shard_message *message, struct shard *shard)
{
    struct chunk *chunk = list_entry(message, struct chunk, note.message);
    struct passage *passage = chunk->passage;
    (void)shard;
    join(passage);
    if (passage->far.released) {
        consumed(passage, chunk);
        return;
    }
    chunks_append(&passage->far.received, chunk);
    raise_events(passage, STREAM_READABLE);
}

static size_t op_peek(struct stream *stream, struct slice *slices, size_t count)
{
    size_t found = 0;
    for (struct chunk *chunk = of(stream)->far.received.first; chunk != NULL && found < count;
         chunk = chunks_after(chunk)) {
        slices[found++] = chunk->bytes;
    }
    return found;
}

static void op_consume(struct stream *stream, size_t bytes)
{
    struct passage *passage = of(stream);
    struct chunk_list *received = &passage->far.received;
    while (bytes > 0) {
        struct chunk *chunk = received->first;
        check(chunk != NULL); /* no more than was there */
        if (bytes < chunk->bytes.size) {
            chunk->bytes = slice_from(chunk->bytes, bytes);
            return;
        }
        bytes -= chunk->bytes.size;
        chunks_pop(received);
        consumed(passage, chunk);
    }
}

static void op_read_stop(struct stream *stream)
{
    of(stream)->far.read_stopped = true; /* the window does the rest */
}

static void op_read_start(struct stream *stream)
{
    struct passage *passage = of(stream);
    passage->far.read_stopped = false;
    if (!chunks_empty(&passage->far.received)) {
        raise_events(passage, STREAM_READABLE);
    }
}

/* ---- To be sent ---- */

static void chunk_send(struct passage *passage, struct chunk *chunk)
{
    crossing_send(passage->far.crossing, passage->near_shard, &chunk->note);
}

void passage_far_flush(struct passage *passage)
{
    struct chunk *chunk = passage->far.chunk;
    list_remove(&passage->far.to_fill);
    passage->far.chunk = NULL;
    if (chunk != NULL) {
        chunk_send(passage, chunk);
    }
}

static void written(struct passage *passage, struct chunk *chunk, size_t bytes)
{
    chunk->bytes.size += bytes;
    passage->far.sent_bytes += bytes;
}

static struct chunk *chunk_new(struct passage *passage, size_t room)
{
    struct passage_far *far = &passage->far;
    struct chunk *chunk = malloc(sizeof(*chunk) + room);
    if (chunk == NULL) {
        far->write_waits = far->starved = true;
        crossing_retry_later(far->crossing);
        return NULL;
    }
    *chunk = (struct chunk){
        .note.message = {.run = passage_near_chunk_arrives, .dropped = chunk_dropped},
        .passage = passage,
        .bytes = slice_of(chunk->room, 0),
        .cost = sizeof(*chunk) + room,
        .room_bytes = room};
    list_init(&chunk->sent);
    list_append(&far->sent, &chunk->sent);
    far->window_used += chunk->cost;
    return chunk;
}

static int may_write(struct passage_far *far, size_t cost)
{
    if (far->closed || far->shut || far->released || far->broken) {
        return -EPIPE;
    }
    if (far->window_used + cost > CROSSING_WINDOW_BYTES) {
        far->write_waits = true;
        return -EAGAIN;
    }
    return 0;
}

/* What a round writes in small pieces goes as one. */
static int op_write(struct stream *stream, struct slice bytes)
{
    struct passage *passage = of(stream);
    struct passage_far *far = &passage->far;
    struct chunk *chunk = far->chunk;
    bool fits = chunk != NULL && bytes.size <= chunk->room_bytes - chunk->bytes.size;
    size_t room = bytes.size > CHUNK_BYTES_MIN ? bytes.size : CHUNK_BYTES_MIN;
    int status = bytes.size > STREAM_WRITE_MAX
                     ? -EMSGSIZE
                     : may_write(far, fits ? 0 : sizeof(struct chunk) + room);
    if (status < 0 || bytes.size == 0) {
        return status;
    }
    join(passage);
    if (!fits) {
        chunk = chunk_new(passage, room);
        if (chunk == NULL) {
            return -ENOMEM;
        }
        passage_far_flush(passage);
        far->chunk = chunk;
        list_append(&far->crossing->filling, &far->to_fill);
    }
    memcpy(chunk->room + chunk->bytes.size, bytes.bytes, bytes.size);
    written(passage, chunk, bytes.size);
    return 0;
}

/* Bytes that lie elsewhere take none of our memory: one write may reach beyond the window. */
static int op_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct passage *passage = of(stream);
    int status = may_write(&passage->far, sizeof(struct chunk));
    if (status < 0 || bytes.size == 0) {
        return status;
    }
    join(passage);
    struct chunk *chunk = chunk_new(passage, 0);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    passage_far_flush(passage);
    chunk->bytes.bytes = bytes.bytes;
    chunk->owner = ref_take(owner);
    chunk->cost += bytes.size;
    passage->far.window_used += bytes.size;
    written(passage, chunk, bytes.size);
    chunk_send(passage, chunk);
    return 0;
}

static void chunk_free(struct passage *passage, struct chunk *chunk)
{
    passage->far.window_used -= chunk->cost;
    passage->far.sent_bytes -= chunk->bytes.size;
    chunk_dropped(&chunk->note.message);
}

void passage_far_chunk_home(struct shard_message *message, struct shard *shard)
{
    struct chunk *chunk = list_entry(message, struct chunk, note.message);
    struct passage *passage = chunk->passage;
    struct passage_far *far = &passage->far;
    bool drained = chunk->drained;
    uint32_t events = 0;
    (void)shard;
    far->broken = far->broken || chunk->refused;
    chunk_free(passage, chunk);
    if (far->write_waits && far->window_used <= CROSSING_RESUME_BYTES) {
        far->write_waits = far->starved = false;
        events |= STREAM_WRITABLE;
    }
    if (drained && far->sent_bytes == 0) {
        events |= STREAM_DRAINED;
    }
    raise_events(passage, events);
}

void passage_far_fed(struct passage *passage)
{
    struct passage_far *far = &passage->far;
    if (far->starved) {
        far->starved = far->write_waits = false;
        raise_events(passage, STREAM_WRITABLE);
    }
}

static size_t op_queued(const struct stream *stream)
{
    const struct passage_far *far = &of(stream)->far;
    return far->closed ? 0 : far->sent_bytes;
}

/* ---- The end ---- */

static void op_shut(struct stream *stream)
{
    struct passage *passage = of(stream);
    if (!passage->far.shut && !passage->far.closed) {
        passage->far.shut = true;
        passage_far_flush(passage);
        join(passage);
        passage_say_far(passage, PASSAGE_SHUT);
    }
}

static void op_abort(struct stream *stream)
{
    struct passage *passage = of(stream);
    if (!passage->far.closed) {
        over(passage, -ECONNABORTED);
        join(passage);
        passage_say_far(passage, PASSAGE_ABORTED);
    }
}

static void op_release(struct stream *stream)
{
    struct passage *passage = of(stream);
    struct passage_far *far = &passage->far;
    struct chunk *chunk;
    check(!far->released);
    far->released = true;
    stream->notify = NULL;
    stream->session = NULL;
    list_remove(&stream->ready);
    while ((chunk = chunks_pop(&far->received)) != NULL) {
        consumed(passage, chunk);
    }
    passage_far_flush(passage);
    join(passage);
    passage_say_far(passage, PASSAGE_RELEASED);
}

/* What is behind it. */
static const uint8_t *endpoint_read(struct endpoint *endpoint, const uint8_t *bytes)
{
    const size_t head = offsetof(struct endpoint, path);
    memcpy(endpoint, bytes, head);
    bytes += head;
    if (endpoint->family == ENDPOINT_UNIX) {
        size_t path = strlen((const char *)bytes) + 1;
        memcpy(endpoint->path, bytes, path);
        bytes += path;
    }
    return bytes;
}

static void op_facts(const struct stream *stream, struct stream_facts *facts)
{
    const struct passage *passage = of(stream);
    *facts = (struct stream_facts){.transport = passage->facts.transport,
                                   .tls = passage->facts.tls,
                                   .user_known = passage->facts.user_known,
                                   .user = passage->facts.user};
    endpoint_read(&facts->remote, endpoint_read(&facts->local, passage->endpoints));
}

const struct stream_ops passage_far_operations = {.peek = op_peek,
                                                  .consume = op_consume,
                                                  .write = op_write,
                                                  .write_ref = op_write_ref,
                                                  .queued = op_queued,
                                                  .unacknowledged = op_queued,
                                                  .read_stop = op_read_stop,
                                                  .read_start = op_read_start,
                                                  .shut = op_shut,
                                                  .abort = op_abort,
                                                  .release = op_release,
                                                  .facts = op_facts};

void passage_far_let_go(struct passage *passage)
{
    struct list_node *sent = &passage->far.sent;
    for (struct list_node *node = sent->next; node != sent; node = node->next) {
        struct chunk *chunk = list_entry(node, struct chunk, sent);
        struct ref *owner = chunk->owner;
        chunk->owner = NULL;
        if (owner != NULL) {
            ref_drop(owner);
        }
    }
}

void passage_far_close(struct passage *passage)
{
    struct passage_far *far = &passage->far;
    struct chunk *chunk;
    while ((chunk = chunks_pop(&far->received)) != NULL) {
        chunk_dropped(&chunk->note.message);
    }
    if (far->chunk != NULL) {
        chunk_dropped(&far->chunk->note.message);
    }
    while (list_pop(&far->sent) != NULL) {
    }
    list_remove(&far->to_fill);
    list_remove(&passage->stream.ready);
    list_remove(&far->node);
    passage_forget(passage);
}
