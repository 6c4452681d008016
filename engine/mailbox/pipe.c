#include "engine/mailbox/pipe.h"
#include <stdlib.h>

static struct pipe *pipe_of(const struct stream *stream)
{
    return (struct pipe *)(uintptr_t)stream; /* its first member */
}

static void tell_maker(struct pipe *pipe)
{
    if (!pipe->closed && pipe->heard != NULL) {
        pipe->heard(pipe->owner);
    }
}

static void tell_stream(struct pipe *pipe, uint32_t events)
{
    if (!pipe->released && pipe->stream.notify != NULL) {
        pipe->stream.notify(&pipe->stream, events, pipe->stream.session);
    }
}

/* ---- The stream ---- */

static size_t stream_end_peek(struct stream *stream, struct slice *slices, size_t count)
{
    const struct pipe *pipe = pipe_of(stream);
    slices[0] = count > 0 ? outbox_first(&pipe->to) : slice_of(NULL, 0);
    return slices[0].size > 0;
}

static void stream_end_consume(struct stream *stream, size_t bytes)
{
    struct pipe *pipe = pipe_of(stream);
    bool was_full = outbox_is_full(&pipe->to);
    outbox_sent(&pipe->to, bytes);
    if (was_full && !outbox_is_full(&pipe->to)) {
        tell_maker(pipe);
    }
}

/* 0: there is room. */
static int write_begin(struct pipe *pipe)
{
    if (pipe->over) {
        return -EPIPE;
    }
    pipe->write_waits = outbox_is_full(&pipe->from);
    return pipe->write_waits ? -EAGAIN : 0;
}

static int write_end(struct pipe *pipe)
{
    pipe->over = pipe->over || pipe->from.failed;
    tell_maker(pipe);
    return 0;
}

static int stream_end_write(struct stream *stream, struct slice bytes)
{
    struct pipe *pipe = pipe_of(stream);
    int status = write_begin(pipe);
    if (status == 0) {
        outbox_write(&pipe->from, bytes);
        status = write_end(pipe);
    }
    return status;
}

static int stream_end_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct pipe *pipe = pipe_of(stream);
    int status = write_begin(pipe);
    if (status == 0) {
        outbox_write_ref(&pipe->from, bytes, owner);
        status = write_end(pipe);
    }
    return status;
}

static size_t stream_end_queued(const struct stream *stream)
{
    return pipe_of(stream)->from.bytes;
}

static void stream_end_read(struct stream *stream)
{
    (void)stream; /* what is not consumed fills the pipe */
}

static void stream_end_shut(struct stream *stream)
{
    pipe_of(stream)->over = true;
    tell_maker(pipe_of(stream));
}

static void stream_end_release(struct stream *stream)
{
    struct pipe *pipe = pipe_of(stream);
    pipe->released = pipe->over = true;
    if (pipe->closed) {
        free(pipe);
    } else {
        tell_maker(pipe);
    }
}

static void stream_end_facts(const struct stream *stream, struct stream_facts *facts)
{
    (void)stream;
    *facts = (struct stream_facts){.transport = "memory"};
}

static const struct stream_ops stream_end_operations = {
    .peek = stream_end_peek,
    .consume = stream_end_consume,
    .write = stream_end_write,
    .write_ref = stream_end_write_ref,
    .queued = stream_end_queued,
    .unacknowledged = stream_end_queued,
    .read_stop = stream_end_read,
    .read_start = stream_end_read,
    .shut = stream_end_shut,
    .abort = stream_end_shut,
    .release = stream_end_release,
    .facts = stream_end_facts,
};

/* ---- The maker's end ---- */

struct pipe *pipe_open(size_t full_bytes, void (*heard)(void *owner), void *owner)
{
    struct pipe *pipe = (struct pipe *)calloc(1, sizeof(*pipe));
    if (pipe == NULL) {
        return NULL;
    }
    pipe->stream.ops = &stream_end_operations;
    list_init(&pipe->stream.ready);
    outbox_open(&pipe->to, full_bytes);
    outbox_open(&pipe->from, full_bytes);
    pipe->heard = heard;
    pipe->owner = owner;
    return pipe;
}

void pipe_close(struct pipe *pipe)
{
    pipe->heard = NULL;
    pipe->over = true;
    pipe->released = pipe->released || pipe->stream.notify == NULL;
    outbox_close(&pipe->to);
    outbox_close(&pipe->from);
    pipe->stream.error = -ECONNABORTED;
    tell_stream(pipe, STREAM_CLOSED); /* it may be released meanwhile */
    pipe->closed = true;
    if (pipe->released) {
        free(pipe);
    }
}

void pipe_write(struct pipe *pipe, struct slice bytes)
{
    outbox_write(&pipe->to, bytes);
    pipe->over = pipe->over || pipe->to.failed;
    tell_stream(pipe, STREAM_READABLE);
}

bool pipe_is_full(struct pipe *pipe)
{
    return outbox_is_full(&pipe->to);
}

struct slice pipe_first(const struct pipe *pipe)
{
    return outbox_first(&pipe->from);
}

void pipe_used(struct pipe *pipe, size_t bytes)
{
    outbox_sent(&pipe->from, bytes);
    uint32_t events = pipe->from.bytes == 0 ? STREAM_DRAINED : 0;
    if (pipe->write_waits && !outbox_is_full(&pipe->from)) {
        pipe->write_waits = false;
        events |= STREAM_WRITABLE;
    }
    if (events != 0) {
        tell_stream(pipe, events);
    }
}
