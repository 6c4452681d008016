#include "engine/mailbox/imap_session.h"
#include "engine/core/check.h"
#include "engine/mailbox/carriage.h"
#include <stdio.h>
#include <stdlib.h>

#define OUTPUT_FULL (64u * 1024)              /* of a client that reads slowly */
#define LAST_WORDS_NS (10ull * 1000000000ull) /* for what was said last */
#define GIVE_UP_NS                                                                                 \
    (30ull * 60 * 1000000000ull)     /* a client that has output waiting and takes none of it */
#define RETRY_NS (5ull * 1000000ull) /* the store's memory was out */

static void session_run(struct imap_session *session);
static void session_end(struct imap_session *session);

/* ---- Another round ---- */

struct imap_again {
    struct shard_message message;
    struct imap_session *session; /* NULL: it has gone */
};

static void again_run(struct shard_message *message, struct shard *shard)
{
    struct imap_again *again = list_entry(message, struct imap_again, message);
    struct imap_session *session = again->session;
    (void)shard;
    free(again);
    if (session != NULL) {
        session->again = NULL;
        session_run(session);
    }
}

static void again_dropped(struct shard_message *message)
{
    struct imap_again *again = list_entry(message, struct imap_again, message);
    if (again->session != NULL) {
        again->session->again = NULL;
    }
    free(again);
}

/* Runs in the next round, behind the others. */
static void run_again(struct imap_session *session)
{
    struct shard *shard = session->session.mailbox->shard;
    if (session->again != NULL) {
        return;
    }
    struct imap_again *again = (struct imap_again *)calloc(1, sizeof(*again));
    if (again != NULL) {
        again->message = (struct shard_message){.run = again_run, .dropped = again_dropped};
        again->session = session;
        session->again = again;
        if (shard_send(shard, shard, &again->message) == 0) {
            return;
        }
        session->again = NULL;
        free(again);
    }
    session->retry_ns = shard->now_ns + RETRY_NS;
}

/* ---- Output ---- */

void imap_session_output(struct imap_session *session)
{
    struct slice output = imap_server_output(&session->server);
    if (output.size > 0) {
        outbox_write(&session->outbox, output);
        imap_server_sent(&session->server, output.size);
    }
}

void imap_session_write(struct imap_session *session, const char *text)
{
    outbox_write(&session->outbox, slice_text(text));
}

bool imap_session_send(struct imap_session *session, struct imap_writer *writer)
{
    bool good = !writer->failed;
    if (good) {
        outbox_write(&session->outbox, imap_writer_bytes(writer));
    }
    imap_writer_reset(writer);
    return good;
}

/* ---- Going on ---- */

void imap_session_wake(struct imap_session *session)
{
    if (session->running) {
        run_again(session);
    } else {
        session_run(session);
    }
}

void imap_session_later(struct imap_session *session)
{
    run_again(session);
}

void imap_session_retry(struct imap_session *session)
{
    session->retry_ns = imap_session_now_ns(session) + RETRY_NS;
}

/* ---- TLS ---- */

static void session_notified(struct stream *stream, uint32_t events, void *owner);

/* The stream is a TLS one from here on. What the client has sent in the clear behind STARTTLS is never read
 * (CVE-2011-0411). False: the session has ended. */
static bool secure(struct imap_session *session)
{
    if (session->state == IMAP_SESSION_SECURING) {
        imap_input_drop(session);
    }
    session->stream = session_secure(&session->session, session->stream, session->finished);
    if (session->stream == NULL) {
        session_end(session);
        return false;
    }
    session->stream->session = session;
    session->stream->notify = session_notified;
    session->state = IMAP_SESSION_HANDSHAKE;
    return true;
}

static void secured(struct imap_session *session)
{
    bool first = session->server.phase == IMAP_PHASE_GREETING;
    stream_facts(session->stream, &session->facts);
    session->session.encrypted = true;
    imap_login_settings(session);
    imap_server_secured(&session->server, imap_session_now_ns(session));
    session->state = IMAP_SESSION_READING;
    if (first) {
        imap_server_greet(&session->server);
        imap_session_output(session);
    }
}

/* ---- The dialogue ---- */

static void sooner(uint64_t *due_ns, uint64_t at_ns)
{
    if (at_ns != 0 && at_ns < *due_ns) {
        *due_ns = at_ns;
    }
}

/* Deadlines move; the timer is only ever brought forward, and looks again when it fires. */
static void timer_set(struct imap_session *session)
{
    struct wheel *wheel = session->session.mailbox->shard->wheel;
    uint64_t due_ns = WHEEL_NEVER;
    sooner(&due_ns, session->retry_ns);
    sooner(&due_ns, session->give_up_ns);
    if (session->compression != NULL) {
        sooner(&due_ns, compression_park_due(session->compression));
    }
    if (session->task != NULL && session->task->progress != NULL &&
        !outbox_is_full(&session->outbox)) {
        sooner(&due_ns, session->task->tell_ns);
    }
    if (session->state == IMAP_SESSION_READING || session->state == IMAP_SESSION_HANDSHAKE) {
        sooner(&due_ns, imap_server_deadline(&session->server));
    }
    if (due_ns != WHEEL_NEVER &&
        (!timer_armed(&session->timer) || session->timer.due_ns > due_ns)) {
        wheel_arm(wheel, &session->timer, due_ns);
    }
}

/* Hands the output over. False: the session has ended. */
static bool output_flush(struct imap_session *session)
{
    size_t before = imap_output_waits(session);
    int status = imap_output_send(session);
    if (status != 0 && status != -EAGAIN) {
        stream_abort(session->stream);
        session_end(session);
        return false;
    }
    if (imap_output_waits(session) == 0) {
        session->give_up_ns = 0;
    } else if (session->give_up_ns == 0 || imap_output_waits(session) < before) {
        session->give_up_ns = imap_session_now_ns(session) +
                              (session->state == IMAP_SESSION_CLOSING ? LAST_WORDS_NS : GIVE_UP_NS);
    }
    return true;
}

/* He may not read the mailbox any more (RFC 4314 §5.1.1). In the middle of an answer there are no words for it. */
static void access_end(struct imap_session *session)
{
    if (session->task != NULL) {
        session->outbox.failed = true;
        return;
    }
    imap_append_reset(session);
    imap_deselect(session);
    session->idling = false;
    imap_server_bye(&session->server, slice_text("NOPERM"),
                    slice_text("The right to read the mailbox was taken"));
    imap_session_output(session);
    session->state = IMAP_SESSION_CLOSING;
}

/* A change that is under way is answered first. */
static bool access_ends(struct imap_session *session)
{
    bool waits = session->state == IMAP_SESSION_CLOSING ||
                 (session->task != NULL && session->task->is_change);
    if (waits || !imap_access_lost(session)) {
        return false;
    }
    access_end(session);
    return true;
}

/* No command is under way, nor has one begun to come, which may name numbers. Behind a message of APPEND the machine is
 * at the beginning of a line, which goes on with the command. */
static bool may_tell(struct imap_session *session)
{
    return session->state == IMAP_SESSION_READING && session->task == NULL &&
           session->drafts == NULL && !imap_abroad_appends(session) &&
           !outbox_is_full(&session->outbox) && !session->finished &&
           (session->server.phase == IMAP_PHASE_IDLE ||
            (session->server.phase == IMAP_PHASE_LINE && session->server.text_bytes == 0)) &&
           imap_input_is_empty(session);
}

/* What is told of a mailbox on another shard comes as it comes: what has begun is told to its end. */
static void abroad_tell(struct imap_session *session)
{
    bool midway = session->state == IMAP_SESSION_READING && imap_abroad_is_midway(session);
    if (session->abroad != NULL && (session->idling || midway || may_tell(session))) {
        imap_abroad_tell(session);
    }
}

static void session_work(struct imap_session *session)
{
    if (access_ends(session)) {
        return;
    }
    if (session->state == IMAP_SESSION_HELD) {
        imap_input_held(session);
    }
    if (session->state == IMAP_SESSION_WORKING && session->again == NULL) {
        imap_session_begin(session);
        if (access_ends(session)) { /* before what was sent behind the change */
            return;
        }
    }
    imap_notify_hear(session);
    abroad_tell(session);
    if (session->state == IMAP_SESSION_READING) {
        if (session->idling && !outbox_is_full(&session->outbox)) {
            imap_sync(session, true);
        }
        if (session->idling || !imap_abroad_is_midway(session)) {
            imap_input_take(session);
        }
    }
    if (!access_ends(session) && session->notify != NULL && may_tell(session) &&
        !imap_abroad_is_midway(session)) {
        imap_notify_tell(session);
    }
    if (session->contexts != NULL && may_tell(session)) {
        imap_contexts_tell(session);
    }
}

/* As far as it goes. The session may be gone afterwards. */
static void session_run(struct imap_session *session)
{
    if (session->state == IMAP_SESSION_HANDSHAKE) {
        timer_set(session);
        return;
    }
    if (session->compression != NULL) {
        compression_turn(session->compression, imap_session_now_ns(session));
    }
    session->running = true;
    session_work(session);
    session->running = false;
    bool was_full = outbox_is_full(&session->outbox);
    if (!output_flush(session)) {
        return;
    }
    if (was_full && !outbox_is_full(&session->outbox)) {
        imap_session_later(session); /* what had to wait for room goes on */
    }
    if (session->compression != NULL && compression_is_spent(session->compression)) {
        imap_session_later(session);
    }
    bool written = imap_output_waits(session) == 0;
    if (session->state == IMAP_SESSION_SECURING && written && !secure(session)) {
        return;
    }
    if (session->state == IMAP_SESSION_READING && session->finished && written &&
        session->again == NULL && imap_input_is_empty(session)) {
        session->state = IMAP_SESSION_CLOSING; /* torn off: nobody waits for an answer */
    }
    if (session->state == IMAP_SESSION_CLOSING && written) {
        session_end(session);
        return;
    }
    timer_set(session);
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct imap_session *session = list_entry(timer, struct imap_session, timer);
    if (session->give_up_ns != 0 && session->give_up_ns <= now_ns) {
        stream_abort(session->stream);
        session_end(session);
        return;
    }
    if (session->retry_ns != 0 && session->retry_ns <= now_ns) {
        session->retry_ns = 0;
    }
    if (session->compression != NULL) {
        compression_park(session->compression, now_ns);
    }
    bool waits = session->state == IMAP_SESSION_READING || session->state == IMAP_SESSION_HANDSHAKE;
    if (waits && imap_server_deadline(&session->server) <= now_ns) {
        if (session->state == IMAP_SESSION_HANDSHAKE) {
            stream_abort(session->stream);
            session_end(session);
            return;
        }
        imap_server_expire(&session->server);
        imap_session_output(session);
        imap_append_reset(session);
        session->state = IMAP_SESSION_CLOSING;
    }
    session_run(session);
}

static void session_notified(struct stream *stream, uint32_t events, void *owner)
{
    struct imap_session *session = (struct imap_session *)owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        session_end(session);
        return;
    }
    if ((events & STREAM_CONNECTED) != 0 && session->state == IMAP_SESSION_HANDSHAKE) {
        secured(session);
    }
    session->finished = session->finished || (events & STREAM_HALF_CLOSED) != 0;
    if (session->state == IMAP_SESSION_CLOSING) {
        imap_input_drop(session);
    }
    session_run(session);
}

/* ---- Life ---- */

static void session_free(struct imap_session *session)
{
    struct mailbox *mailbox = session->session.mailbox;
    wheel_disarm(mailbox->shard->wheel, &session->timer);
    if (session->again != NULL) {
        session->again->session = NULL;
    }
    login_cancel(&session->login);
    imap_task_end(session);
    imap_append_reset(session);
    if (session->carriage != NULL) {
        carriage_end(session->carriage);
    }
    imap_deselect(session);
    imap_abroad_end(session);
    imap_notify_end(session);
    free(session->saved);
    if (session->user != NULL) {
        mailstore_user_close(mailbox->texts, session->user);
    }
    imap_server_close(&session->server);
    outbox_close(&session->outbox);
    compression_free(session->compression);
    list_remove(&session->session.node);
    session_over(&session->session);
    free(session);
}

/* Lets go of the stream; what was written is still sent. */
static void session_end(struct imap_session *session)
{
    if (session->stream != NULL) {
        stream_release(session->stream);
        session->stream = NULL;
    }
    session_free(session);
}

static void session_drain(struct session *base)
{
    struct imap_session *session = list_entry(base, struct imap_session, session);
    bool between =
        !base->of_service && /* it ends with what it serves */
        session->state == IMAP_SESSION_READING && session->drafts == NULL &&
        !imap_abroad_appends(session) && !imap_abroad_is_midway(session) &&
        (session->server.phase == IMAP_PHASE_LINE || session->server.phase == IMAP_PHASE_IDLE);
    if (between && session->server.text_bytes == 0) {
        imap_server_bye(&session->server, slice_text("UNAVAILABLE"),
                        slice_text(session_farewell(base)));
        imap_session_output(session);
        session->state = IMAP_SESSION_CLOSING;
        session_run(session);
    }
}

/* A change that is on its way goes on without us. */
static bool session_abort(struct session *base)
{
    struct imap_session *session = list_entry(base, struct imap_session, session);
    stream_abort(session->stream);
    session_end(session);
    return true;
}

const char *imap_session_pass(struct imap_session *session, const char *user)
{
    struct stream *stream = session->stream;
    wheel_disarm(session->session.mailbox->shard->wheel, &session->timer);
    if (session->again != NULL) {
        session->again->session = NULL;
        session->again = NULL;
    }
    bool finished = session->finished;
    session->stream = NULL;
    session->finished = false;
    const char *why = session_pass(&session->session, stream, finished, user);
    if (why != NULL) {
        session->stream = stream;
        session->finished = finished;
    }
    return why;
}

static void session_arrived(struct session *base, struct stream *stream, const char *user)
{
    struct imap_session *session = list_entry(base, struct imap_session, session);
    session->door = &base->mailbox->doors[session->door->index];
    session->stream = stream;
    stream->session = session;
    stream->notify = session_notified;
    stream_facts(stream, &session->facts);
    imap_login_settings(session);
    imap_login_arrived(session, user);
    session_run(session);
}

/* Nobody was logged in. */
static void session_lost(struct session *base)
{
    struct imap_session *session = list_entry(base, struct imap_session, session);
    imap_server_close(&session->server);
    outbox_close(&session->outbox);
    compression_free(session->compression);
    free(session->abroad);
    free(session->saved);
    free(session);
}

static void session_forget(struct session *base)
{
    (void)base;
    check(!"an IMAP session always ends when it is told to");
}

static const struct session_ops imap_session_ops = {
    .drain = session_drain,
    .abort = session_abort,
    .forget = session_forget,
    .arrived = session_arrived,
    .lost = session_lost,
};

/* NULL: *why not. */
static struct imap_session *session_new(const struct mailbox_door *door, struct stream *stream,
                                        const char **why)
{
    struct imap_session *session = (struct imap_session *)calloc(1, sizeof(*session));
    *why = session == NULL ? SESSION_TOO_MANY
           : door->mailbox->draining
               ? "Service is ending"
               : session_begin(&session->session, &imap_session_ops, door, stream);
    if (*why != NULL) {
        free(session);
        return NULL;
    }
    session->door = door;
    session->stream = stream;
    stream_facts(stream, &session->facts);
    timer_init(&session->timer, timer_fired);
    outbox_open(&session->outbox, OUTPUT_FULL);
    return session;
}

static void refuse_stranger(const struct mailbox_door *door, struct stream *stream, const char *why)
{
    char text[80];
    snprintf(text, sizeof text, "* BYE [UNAVAILABLE] %s\r\n", why);
    session_refuse(door, stream, text);
}

void imap_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct mailbox *mailbox = door->mailbox;
    (void)listener;
    mailbox->counters.connections++;
    const char *why;
    struct imap_session *session = session_new(door, stream, &why);
    if (session == NULL) {
        refuse_stranger(door, stream, why);
        return;
    }
    imap_login_settings(session);
    imap_server_open(&session->server, &session->settings, imap_session_now_ns(session));
    stream->session = session;
    stream->notify = session_notified;
    if (door->tls == CONF_TLS_IMPLICIT) {
        if (secure(session)) {
            timer_set(session);
        }
        return;
    }
    session->state = IMAP_SESSION_READING;
    imap_server_greet(&session->server);
    imap_session_output(session);
    session_run(session);
}

void imap_operate(const struct mailbox_door *door, const struct imap_operator *with)
{
    struct stream *stream = with->stream;
    struct mailstore_user *user = with->user;
    struct mailbox *mailbox = door->mailbox;
    const char *why;
    struct imap_session *session = session_new(door, stream, &why);
    if (session != NULL && session_enter(&session->session, user->name) < 0) {
        why = SESSION_TOO_MANY;
        session_free(session);
        session = NULL;
    }
    if (session == NULL) {
        mailstore_user_close(mailbox->texts, user);
        refuse_stranger(door, stream, why);
        return;
    }
    session->user = user;
    session->finished = with->finished;
    imap_login_settings(session);
    imap_server_open(&session->server, &session->settings, imap_session_now_ns(session));
    stream->session = session;
    stream->notify = session_notified;
    imap_operator_begin(session, with->make_inbox);
    session_run(session);
}

void imap_serve(struct mailbox *mailbox, const struct imap_serving *with)
{
    static const struct mailbox_door door = {.tls = CONF_TLS_OFF};
    struct stream *stream = with->stream;
    struct imap_session *session = (struct imap_session *)calloc(1, sizeof(*session));
    if (session == NULL) {
        stream_abort(stream);
        stream_release(stream);
        mailstore_user_close(mailbox->texts, with->user);
        return;
    }
    session_begin_of_service(&session->session, &imap_session_ops, mailbox, CONF_PROTOCOL_IMAP);
    if (with->carriage != NULL) {
        session->carriage = carriage_begin(mailbox, with->carriage);
    }
    session->guest = with->guest;
    session->watches = with->watches;
    session->door = &door;
    session->stream = stream;
    session->user = with->user;
    stream_facts(stream, &session->facts);
    timer_init(&session->timer, timer_fired);
    outbox_open(&session->outbox, OUTPUT_FULL);
    imap_login_settings(session);
    imap_server_open(&session->server, &session->settings, imap_session_now_ns(session));
    imap_server_begin_known(&session->server, with->enabled);
    stream->session = session;
    stream->notify = session_notified;
    session->state = IMAP_SESSION_READING;
    if (with->carriage != NULL && session->carriage == NULL) {
        session_abort(&session->session);
        return;
    }
    session_run(session);
}
