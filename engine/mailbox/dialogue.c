#include "engine/mailbox/dialogue.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

#define SLICES 16
#define HANDSHAKE_NS (60ull * 1000000000ull)
#define LAST_WORDS_NS (10ull * 1000000000ull)
#define OUTBOX_BYTES (64u * 1024)

static struct dialogue *dialogue_of(struct session *session)
{
    return (struct dialogue *)(void *)session; /* its first member */
}

void dialogue_closing(struct dialogue *dialogue)
{
    dialogue->state = DIALOGUE_CLOSING;
    dialogue->give_up_ns = dialogue_now_ns(dialogue) + LAST_WORDS_NS;
}

bool dialogue_is_full(struct dialogue *dialogue)
{
    return dialogue->outbox.failed || outbox_is_full(&dialogue->outbox);
}

void dialogue_cut(struct dialogue *dialogue)
{
    stream_abort(dialogue->stream);
    dialogue->ops->end(dialogue);
}

/* ---- What comes in ---- */

/* False: it waits for input, or for somebody's answer. */
static bool input_take(struct dialogue *dialogue)
{
    struct slice slices[SLICES];
    size_t consumed = 0;
    bool more = true;
    size_t count = stream_peek(dialogue->stream, slices, SLICES);
    if (count == 0) {
        dialogue->ops->feed(dialogue, slice_of(NULL, 0), &more); /* what needs no input */
        return !more;
    }
    for (size_t i = 0; i < count && more; i++) {
        consumed += dialogue->ops->feed(dialogue, slices[i], &more);
    }
    session_consume(&dialogue->session, dialogue->stream, consumed);
    return consumed > 0 || !more;
}

static void input_drop(struct dialogue *dialogue)
{
    struct slice slice;
    while (stream_peek(dialogue->stream, &slice, 1) > 0) {
        stream_consume(dialogue->stream, slice.size);
    }
}

static bool input_is_empty(const struct dialogue *dialogue)
{
    struct slice left;
    return stream_peek(dialogue->stream, &left, 1) == 0;
}

/* ---- TLS ---- */

static void notified(struct stream *stream, uint32_t events, void *owner);

static void stream_own(struct dialogue *dialogue, struct stream *stream)
{
    dialogue->stream = stream;
    stream->session = dialogue;
    stream->notify = notified;
}

/* From here on the stream is a TLS one. What the client has sent in the clear behind STARTTLS is never read. False: the
 * session has ended. */
static bool secure(struct dialogue *dialogue)
{
    if (dialogue->state == DIALOGUE_SECURING) {
        input_drop(dialogue);
    }
    dialogue->stream = session_secure(&dialogue->session, dialogue->stream, dialogue->finished);
    if (dialogue->stream == NULL) {
        dialogue->ops->end(dialogue);
        return false;
    }
    stream_own(dialogue, dialogue->stream);
    dialogue->state = DIALOGUE_HANDSHAKE;
    dialogue->give_up_ns = dialogue_now_ns(dialogue) + HANDSHAKE_NS;
    return true;
}

/* ---- Time ---- */

static bool gives_up(const struct dialogue *dialogue)
{
    return dialogue->state == DIALOGUE_HANDSHAKE || dialogue->state == DIALOGUE_CLOSING;
}

/* Deadlines move; the timer is only ever brought forward, and looks again when it fires. */
static void timer_set(struct dialogue *dialogue)
{
    uint64_t due_ns = gives_up(dialogue) ? dialogue->give_up_ns : dialogue->ops->due_ns(dialogue);
    if (due_ns != WHEEL_NEVER &&
        (!timer_armed(&dialogue->timer) || dialogue->timer.due_ns > due_ns)) {
        wheel_arm(dialogue->session.mailbox->shard->wheel, &dialogue->timer, due_ns);
    }
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct dialogue *dialogue = list_entry(timer, struct dialogue, timer);
    bool goes_on = gives_up(dialogue) ? dialogue->give_up_ns > now_ns
                                      : dialogue->ops->expire(dialogue, now_ns);
    if (goes_on) {
        dialogue_run(dialogue);
    } else {
        dialogue_cut(dialogue);
    }
}

/* ---- Events ---- */

/* All is written. False: the session has ended. */
static bool settle(struct dialogue *dialogue)
{
    if (dialogue->state == DIALOGUE_SECURING) {
        return secure(dialogue);
    }
    if (dialogue->state == DIALOGUE_READING && dialogue->finished && input_is_empty(dialogue)) {
        dialogue_closing(dialogue); /* torn off: nobody waits for a reply */
    }
    if (dialogue->state == DIALOGUE_CLOSING) {
        dialogue->ops->end(dialogue);
        return false;
    }
    return true;
}

static bool step(struct dialogue *dialogue)
{
    if (dialogue->state == DIALOGUE_READING) {
        return input_take(dialogue);
    }
    return dialogue->state >= DIALOGUE_OWN && dialogue->ops->step != NULL &&
           dialogue->ops->step(dialogue);
}

/* 0: the stream has all; -EAGAIN; -ENOMEM; another errno: it is closed. */
static int output_write(struct dialogue *dialogue)
{
    size_t before = dialogue->outbox.bytes;
    int status = session_flush(&dialogue->session, &dialogue->outbox, dialogue->stream);
    if (dialogue->outbox.bytes < before && dialogue->ops->taken != NULL) {
        dialogue->ops->taken(dialogue);
    }
    return status;
}

void dialogue_run(struct dialogue *dialogue)
{
    bool waits = false;
    int status = 0;
    while (status == 0 && !waits) {
        while (!waits && !dialogue_is_full(dialogue)) {
            waits = !step(dialogue);
        }
        status = output_write(dialogue);
    }
    if (status != 0 && status != -EAGAIN) {
        dialogue_cut(dialogue);
        return;
    }
    if (status == 0 && !settle(dialogue)) {
        return;
    }
    timer_set(dialogue);
}

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct dialogue *dialogue = (struct dialogue *)owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        dialogue->ops->end(dialogue);
        return;
    }
    if ((events & STREAM_CONNECTED) != 0 && dialogue->state == DIALOGUE_HANDSHAKE) {
        dialogue->session.encrypted = true;
        dialogue->state = DIALOGUE_READING;
        dialogue->ops->secured(dialogue);
    }
    dialogue->finished = dialogue->finished || (events & STREAM_HALF_CLOSED) != 0;
    if (dialogue->state == DIALOGUE_CLOSING) {
        input_drop(dialogue);
    }
    dialogue_run(dialogue);
}

/* ---- Life ---- */

void dialogue_leave(struct dialogue *dialogue)
{
    wheel_disarm(dialogue->session.mailbox->shard->wheel, &dialogue->timer);
    outbox_close(&dialogue->outbox);
    if (dialogue->stream != NULL) {
        stream_release(dialogue->stream);
        dialogue->stream = NULL;
    }
    session_over(&dialogue->session);
}

const char *dialogue_pass(struct dialogue *dialogue, const char *user)
{
    struct stream *stream = dialogue->stream;
    bool finished = dialogue->finished;
    wheel_disarm(dialogue->session.mailbox->shard->wheel, &dialogue->timer);
    dialogue->stream = NULL;
    dialogue->finished = false;
    const char *why = session_pass(&dialogue->session, stream, finished, user);
    if (why != NULL) {
        dialogue->stream = stream;
        dialogue->finished = finished;
    }
    return why;
}

void dialogue_arrived(struct dialogue *dialogue, struct stream *stream)
{
    stream_own(dialogue, stream);
}

void dialogue_drain(struct session *session)
{
    struct dialogue *dialogue = dialogue_of(session);
    if (dialogue->state == DIALOGUE_HANDSHAKE) {
        dialogue_cut(dialogue);
    } else if (dialogue->state == DIALOGUE_READING && outbox_is_empty(&dialogue->outbox) &&
               input_is_empty(dialogue) && dialogue->ops->farewell(dialogue)) {
        dialogue_closing(dialogue);
        dialogue_run(dialogue);
    }
}

bool dialogue_abort(struct session *session)
{
    dialogue_cut(dialogue_of(session));
    return true;
}

void dialogue_forget(struct session *session)
{
    (void)session;
    check(!"the session has been aborted before the store is closed");
}

struct dialogue *dialogue_accept(const struct mailbox_door *door, struct stream *stream,
                                 size_t bytes, const struct dialogue_ops *ops)
{
    struct dialogue *dialogue = (struct dialogue *)calloc(1, bytes);
    door->mailbox->counters.connections++;
    const char *why = dialogue == NULL
                          ? SESSION_TOO_MANY
                          : session_begin(&dialogue->session, ops->session, door, stream);
    if (why != NULL) {
        char text[120];
        snprintf(text, sizeof(text), "%s%s%s", ops->refusal[0], why, ops->refusal[1]);
        session_refuse(door, stream, text);
        free(dialogue);
        return NULL;
    }
    dialogue->ops = ops;
    dialogue->state = DIALOGUE_READING;
    dialogue->tls_required = door->tls == CONF_TLS_REQUIRED;
    timer_init(&dialogue->timer, timer_fired);
    outbox_open(&dialogue->outbox, OUTBOX_BYTES);
    stream_own(dialogue, stream);
    return dialogue;
}

bool dialogue_offers_tls(const struct mailbox_door *door)
{
    return door->tls != CONF_TLS_OFF && door->tls != CONF_TLS_IMPLICIT &&
           door->mailbox->tls_server != NULL;
}

void dialogue_start(struct dialogue *dialogue, const struct mailbox_door *door)
{
    if (door->tls != CONF_TLS_IMPLICIT || secure(dialogue)) {
        dialogue_run(dialogue);
    }
}
