/*
 * delivery: one LMTP session: a stream on one side, a message on its way into the store on the other.
 *
 *            peek                 event: sender, recipient         verdict
 *   stream ─────────► smtp_server ─────────────────────────► here ─────────► smtp_server
 *                                 event: body   store->append
 *                                 end           store->commit ... durable ──► one reply for each recipient
 *
 * A session that loses its client while its message is being committed lives on until the store has answered.
 */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_store.h"
#include "engine/mailbox/delivery_user.h"
#include "engine/mailbox/session.h"
#include <stdio.h>
#include <stdlib.h>

/* What holds the session up. */
enum delivery_state {
    DELIVERY_READING, /* commands and text are taken as they come */
    DELIVERY_ASKING,  /* whether there is the recipient that was named last */
    DELIVERY_NO_ROOM, /* the store's memory is all under way: `held`, or the message's begin, waits for it */
    DELIVERY_COMMITTING, /* the end of data waits for the store */
    DELIVERY_ANSWERING, /* it has answered; replies are owed to the recipients from `answered_count` on */
    DELIVERY_CLOSING, /* the last reply is written; what comes in is dropped */
    DELIVERY_GONE,    /* no stream any more; only the commit is waited for */
};

#define SLICES 16
#define LAST_WORDS_NS (10ull * 1000000000ull)
#define TRACE_BYTES (SMTP_RECEIVED_MAX + 2 * SMTP_ADDRESS_BYTES_MAX + 64)

struct delivery {
    struct session session;
    const struct delivery_store *store;
    struct stream *stream;
    enum delivery_state state;
    bool finished;      /* the client has sent its FIN */
    struct timer timer; /* looks at the machine's deadline when it fires */
    struct stream_facts facts;

    /* The transaction. */
    struct delivery_text text;
    uint8_t reverse_path[SMTP_ADDRESS_BYTES_MAX];
    size_t reverse_path_bytes;
    uint8_t forward_path[SMTP_ADDRESS_BYTES_MAX]; /* of the first recipient */
    size_t forward_path_bytes;
    char trace[TRACE_BYTES];  /* the header fields that we put in front */
    bool begin_waits;         /* the store could not begin yet */
    struct delivery_ask *ask; /* ASKING */
    struct slice held;        /* body that the store could not take yet; borrowed from the stream */
    size_t held_consume;      /* what the machine has used of the stream for it */
    uint64_t held_since_ns;
    uint32_t answered_count;
    uint64_t give_up_ns; /* ANSWERING: the client does not read */

    struct smtp_server server;
};

static void delivery_run(struct delivery *delivery);
static void delivery_end(struct delivery *delivery);

static struct delivery *delivery_of(struct session *session)
{
    return list_entry(session, struct delivery, session);
}

static void delivery_free(struct delivery *delivery)
{
    list_remove(&delivery->session.node);
    delivery->store->close(&delivery->text);
    free(delivery->text.recipients);
    free(delivery);
}

static void text_abort(struct delivery *delivery)
{
    if (delivery->text.begun) {
        delivery->store->abort(&delivery->text);
    }
}

/* One reset, on every way out of a transaction. */
static void transaction_reset(struct delivery *delivery)
{
    text_abort(delivery);
    delivery->store->forget_room(&delivery->text);
    delivery->text.recipient_count = 0;
    delivery->reverse_path_bytes = delivery->forward_path_bytes = 0;
    delivery->held = slice_of(NULL, 0);
    delivery->begin_waits = false;
}

static void verdict(struct delivery *delivery, unsigned code, const char *status, const char *text)
{
    struct smtp_verdict answer = {
        .code = (uint16_t)code, .status = status, .text = slice_text(text)};
    smtp_server_verdict(&delivery->server, &answer);
}

/* Puts the machine's replies on the stream. False when it has no room. */
static bool output_write(struct delivery *delivery)
{
    for (;;) {
        struct slice output = slice_first(smtp_server_output(&delivery->server), STREAM_WRITE_MAX);
        if (output.size == 0) {
            return true;
        }
        if (stream_write(delivery->stream, output) < 0) {
            return false;
        }
        smtp_server_sent(&delivery->server, output.size);
        session_counters(&delivery->session)->bytes_out += output.size;
    }
}

/* ---- sender and recipients ---- */

static void sender_judge(struct delivery *delivery, struct slice mailbox)
{
    transaction_reset(delivery);
    if (delivery->session.mailbox->draining) {
        verdict(delivery, 421, "4.3.2", "Service is ending");
        return;
    }
    check(mailbox.size <= sizeof delivery->reverse_path);
    if (mailbox.size > 0) {
        memcpy(delivery->reverse_path, mailbox.bytes, mailbox.size);
    }
    delivery->reverse_path_bytes = mailbox.size;
    delivery->text.reverse_path = slice_of(delivery->reverse_path, mailbox.size);
    verdict(delivery, 250, "2.1.0", "Ok");
}

/* A place for one more; NULL: memory is short. */
static struct delivery_recipient *recipient_add(struct delivery *delivery)
{
    struct delivery_text *text = &delivery->text;
    if (text->recipient_count == text->recipient_room) {
        uint32_t room = text->recipient_room == 0 ? 4 : text->recipient_room * 2;
        struct delivery_recipient *grown = realloc(text->recipients, room * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        text->recipients = grown;
        if (delivery->store->reserve(text, room) < 0) {
            return NULL;
        }
        text->recipient_room = room;
    }
    return &text->recipients[text->recipient_count];
}

/* The one that was filled last. */
static void recipient_answered(struct delivery *delivery, enum delivery_user answer)
{
    const struct delivery_recipient *recipient =
        &delivery->text.recipients[delivery->text.recipient_count];
    switch (answer) {
    case DELIVERY_USER_THERE:
        if (delivery->text.recipient_count++ == 0) {
            memcpy(delivery->forward_path, recipient->address, recipient->address_bytes);
            delivery->forward_path_bytes = recipient->address_bytes;
        }
        verdict(delivery, 250, "2.1.5", "Ok");
        return;
    case DELIVERY_USER_ABSENT:
        delivery->session.mailbox->counters.unknown_users++;
        verdict(delivery, 550, "5.1.1", "User unknown");
        return;
    case DELIVERY_USER_NOT_KNOWN:
        verdict(delivery, 451, "4.3.0", "It cannot be said now who that is, try again later");
        return;
    case DELIVERY_USER_ASKED:
        delivery->state = DELIVERY_ASKING;
        return;
    }
}

static void recipient_told(void *owner, enum delivery_user answer)
{
    struct delivery *delivery = (struct delivery *)owner;
    check(delivery->state == DELIVERY_ASKING);
    delivery->ask = NULL;
    delivery->state = DELIVERY_READING;
    recipient_answered(delivery, answer);
    delivery_run(delivery);
}

static void recipient_judge(struct delivery *delivery, struct slice mailbox)
{
    struct delivery_recipient *recipient = recipient_add(delivery);
    if (recipient == NULL) {
        verdict(delivery, 452, "4.3.1", "Out of memory, try again later");
        return;
    }
    if (user_name_of_mailbox(mailbox, recipient->user) < 0) {
        recipient_answered(delivery, DELIVERY_USER_ABSENT);
        return;
    }
    user_detail_of_mailbox(mailbox, recipient->detail);
    check(mailbox.size <= sizeof recipient->address);
    memcpy(recipient->address, mailbox.bytes, mailbox.size);
    recipient->address_bytes = mailbox.size;
    recipient->refusal = slice_of(NULL, 0);
    recipient->trouble = 0;
    recipient_answered(delivery,
                       delivery_user_ask(delivery->session.mailbox, recipient->user, mailbox,
                                         recipient_told, delivery, &delivery->ask));
}

/* ---- the body ---- */

#define BUSY "Too many messages at once, try again later"

static void body_refuse(struct delivery *delivery, ssize_t status)
{
    const struct smtp_verdict full = {452, "4.3.1", slice_text("Insufficient system storage")};
    const struct smtp_verdict busy = {452, "4.3.2", slice_text(BUSY)};
    const struct smtp_verdict broken = {
        451, "4.3.0", slice_text("The message could not be stored, try again later")};
    text_abort(delivery);
    delivery->session.mailbox->counters.refused++;
    logger_line(delivery->session.mailbox->shard->logger, LOGGER_ERROR,
                "store: a message was refused: %s", strerror((int)-status));
    bool is_full = status == -ENOSPC || status == -EDQUOT || status == -ENOMEM;
    smtp_server_body_refuse(&delivery->server, status == -ENOBUFS ? &busy
                                               : is_full          ? &full
                                                                  : &broken);
}

static void room_came(struct delivery_text *text)
{
    struct delivery *delivery = list_entry(text, struct delivery, text);
    check(delivery->state == DELIVERY_NO_ROOM);
    delivery->state = DELIVERY_READING;
    smtp_server_waited(&delivery->server,
                       delivery->session.mailbox->shard->now_ns - delivery->held_since_ns);
    delivery_run(delivery);
}

static void room_await(struct delivery *delivery)
{
    delivery->held_since_ns = delivery->session.mailbox->shard->now_ns;
    delivery->state = DELIVERY_NO_ROOM;
    delivery->store->when_room(&delivery->text);
}

/* Takes body into the store. False when it must wait; then the rest is remembered. */
static bool body_take(struct delivery *delivery, struct slice piece)
{
    if (!delivery->text.begun) {
        return true; /* refused already: the rest is thrown away */
    }
    ssize_t taken = delivery->store->append(&delivery->text, piece);
    if (taken < 0) {
        body_refuse(delivery, taken);
        return true;
    }
    if ((size_t)taken < piece.size) {
        delivery->held = slice_from(piece, (size_t)taken);
        room_await(delivery);
        return false;
    }
    return true;
}

/* What final delivery puts in front (RFC 5321 §4.4): Return-Path:, the recipient when there is one, Received:. */
static struct slice trace_format(struct delivery *delivery)
{
    char *trace = delivery->trace;
    char id[DELIVERY_ID_BYTES];
    delivery->store->id(&delivery->text, id);
    int used = snprintf(trace, TRACE_BYTES, "Return-Path: <%.*s>\r\n",
                        (int)delivery->reverse_path_bytes, (const char *)delivery->reverse_path);
    struct slice forward_path = slice_of(NULL, 0);
    if (delivery->text.recipient_count == 1) {
        forward_path = slice_of(delivery->forward_path, delivery->forward_path_bytes);
        used += snprintf(trace + used, TRACE_BYTES - (size_t)used, "Delivered-To: %.*s\r\n",
                         (int)forward_path.size, (const char *)forward_path.bytes);
    }
    char address[ENDPOINT_TEXT_MAX];
    const struct endpoint *remote = &delivery->facts.remote;
    size_t address_bytes =
        remote->family == ENDPOINT_UNIX ? 0 : endpoint_format_address(remote, address);
    struct smtp_received received = {
        .helo = smtp_server_helo(&delivery->server),
        .address = slice_of(address, address_bytes),
        .ipv6 = remote->family == ENDPOINT_IPV6,
        .hostname = slice_text(delivery->session.mailbox->conf->hostname),
        .protocol = smtp_server_protocol(&delivery->server),
        .id = slice_text(id),
        .forward_path = forward_path,
        .wall_s = world_wall_s(delivery->session.mailbox->shard->world),
    };
    check(TRACE_BYTES - (size_t)used >= SMTP_RECEIVED_MAX);
    return slice_of(trace, (size_t)used + smtp_received_format(&received, trace + used));
}

/* False when it must wait. */
static bool body_begin(struct delivery *delivery)
{
    int status = delivery->store->begin(&delivery->text);
    delivery->begin_waits = status == -EAGAIN;
    if (delivery->begin_waits) {
        room_await(delivery);
        return false;
    }
    if (status < 0) {
        body_refuse(delivery, status);
        return true;
    }
    return body_take(delivery, trace_format(delivery));
}

static void recipient_answer(struct delivery *delivery, const struct delivery_recipient *recipient)
{
    struct mailbox_counters *counters = &delivery->session.mailbox->counters;
    if (recipient->refusal.size > 0) { /* RFC 5429 §2.1 */
        counters->refused++;
        smtp_server_verdict(
            &delivery->server,
            &(struct smtp_verdict){.code = 550, .status = "5.7.1", .text = recipient->refusal});
        return;
    }
    if (recipient->status == 0) {
        counters->delivered++;
        verdict(delivery, 250, "2.0.0", "Ok: stored");
        return;
    }
    counters->refused++;
    if (recipient->status == -EDQUOT) {
        verdict(delivery, 452, "4.2.2", "Mailbox is full");
    } else if (recipient->status == -ENOSPC) {
        verdict(delivery, 452, "4.3.1", "Insufficient system storage");
    } else if (recipient->status == -ENOBUFS) { /* on his shard */
        verdict(delivery, 452, "4.3.2", BUSY);
    } else {
        logger_line(delivery->session.mailbox->shard->logger, LOGGER_ERROR, "store: %s: %s",
                    recipient->user, strerror(-recipient->status));
        verdict(delivery, 451, "4.3.0", "The message could not be stored, try again later");
    }
}

static void answering_begin(struct delivery *delivery)
{
    delivery->session.mailbox->counters.messages++;
    delivery->state = DELIVERY_ANSWERING;
    delivery->answered_count = 0;
    delivery->give_up_ns = delivery->session.mailbox->shard->now_ns +
                           delivery->session.mailbox->conf->timeouts.command;
}

static void committed(struct delivery_text *text)
{
    struct delivery *delivery = list_entry(text, struct delivery, text);
    if (delivery->state == DELIVERY_GONE) {
        delivery->session.mailbox->counters.messages++;
        delivery_free(delivery);
        return;
    }
    answering_begin(delivery);
    delivery_run(delivery);
}

/* The machine's room for replies is small: between them they are written. False: the stream is full, go on later. */
static bool recipients_answer(struct delivery *delivery)
{
    while (delivery->answered_count < delivery->text.recipient_count) {
        if (!output_write(delivery)) {
            return false;
        }
        recipient_answer(delivery, &delivery->text.recipients[delivery->answered_count++]);
    }
    transaction_reset(delivery);
    delivery->state = DELIVERY_READING;
    return true;
}

static void commit(struct delivery *delivery)
{
    if (!delivery->text.begun) {
        return; /* the machine has the verdict of body_refuse */
    }
    delivery->state = DELIVERY_COMMITTING;
    if (delivery->store->commit(&delivery->text) != 0) {
        answering_begin(delivery);
    }
}

/* ---- the dialogue ---- */

/* False when the session must wait before it goes on. */
static bool event_take(struct delivery *delivery, const struct smtp_event *event)
{
    switch (event->kind) {
    case SMTP_EVENT_NONE:
    case SMTP_EVENT_HELO:
        return true;
    case SMTP_EVENT_CONNECTED:
        if (delivery->session.mailbox->draining) {
            verdict(delivery, 421, "4.3.2", "Service is ending");
        } else {
            smtp_server_verdict(&delivery->server, NULL);
        }
        return true;
    case SMTP_EVENT_SENDER:
        sender_judge(delivery, event->path.mailbox);
        return true;
    case SMTP_EVENT_RECIPIENT:
        recipient_judge(delivery, event->path.mailbox);
        return delivery->state == DELIVERY_READING;
    case SMTP_EVENT_BODY_BEGIN:
        return body_begin(delivery);
    case SMTP_EVENT_BODY:
        return body_take(delivery, event->body);
    case SMTP_EVENT_BODY_END:
        commit(delivery);
        return delivery->state == DELIVERY_READING;
    case SMTP_EVENT_RESET:
        transaction_reset(delivery);
        return true;
    case SMTP_EVENT_AUTH: /* is not known here */
    case SMTP_EVENT_AUTH_ANSWER:
    case SMTP_EVENT_AUTH_ROOM:
    case SMTP_EVENT_AUTH_END:
        return true;
    }
    return true;
}

/* Feeds one slice; returns how much of it is done with. *more: the next may follow. */
static size_t slice_feed(struct delivery *delivery, struct slice input, bool *more)
{
    size_t done = 0;
    for (;;) {
        size_t used = 0;
        struct smtp_event event = {.kind = SMTP_EVENT_NONE};
        enum smtp_want want =
            smtp_server_input(&delivery->server, delivery->session.mailbox->shard->now_ns,
                              slice_from(input, done), &used, &event);
        if (!event_take(delivery, &event)) {
            *more = false;
            if (delivery->state == DELIVERY_NO_ROOM) {
                delivery->held_consume = used;
                return done;
            }
            return done + used;
        }
        done += used;
        if (want == SMTP_WANT_CLOSE) {
            delivery->state = DELIVERY_CLOSING;
            *more = false;
            return done;
        }
        if (used == 0 && event.kind == SMTP_EVENT_NONE) {
            /* It wants more bytes, or room for its replies. */
            if (done < input.size && smtp_server_output(&delivery->server).size > 0 &&
                output_write(delivery)) {
                continue;
            }
            *more = *more && done == input.size;
            return done;
        }
    }
}

/* Behind a refused DATA. */
static void text_notice(struct delivery *delivery)
{
    if (smtp_server_data_refused(&delivery->server) &&
        stream_unacknowledged(delivery->stream) > 0) {
        smtp_server_text_came(&delivery->server);
    }
}

static void input_take(struct delivery *delivery)
{
    bool more = true;
    while (more && delivery->state == DELIVERY_READING) {
        struct slice slices[SLICES];
        size_t count = stream_peek(delivery->stream, slices, SLICES);
        size_t consumed = 0;
        if (count == 0) {
            slice_feed(delivery, slice_of(NULL, 0), &more); /* events that need no input */
            return;
        }
        text_notice(delivery);
        for (size_t i = 0; i < count && more && delivery->state == DELIVERY_READING; i++) {
            consumed += slice_feed(delivery, slices[i], &more);
        }
        session_consume(&delivery->session, delivery->stream, consumed);
        more = more && consumed > 0;
    }
}

/* What has waited for room. */
static void held_take(struct delivery *delivery)
{
    struct slice held = delivery->held;
    delivery->held = slice_of(NULL, 0);
    if (delivery->begin_waits ? body_begin(delivery) : body_take(delivery, held)) {
        session_consume(&delivery->session, delivery->stream, delivery->held_consume);
        delivery->held_consume = 0;
    }
}

static void input_drop(struct delivery *delivery)
{
    struct slice slice;
    while (stream_peek(delivery->stream, &slice, 1) > 0) {
        stream_consume(delivery->stream, slice.size);
    }
}

/* Deadlines move; the timer is only ever brought forward, and looks again when it fires. */
static void timer_set(struct delivery *delivery)
{
    uint64_t due_ns = WHEEL_NEVER;
    switch (delivery->state) {
    case DELIVERY_READING:
        due_ns = smtp_server_deadline(&delivery->server);
        break;
    case DELIVERY_ANSWERING:
        due_ns = delivery->give_up_ns;
        break;
    case DELIVERY_CLOSING:
        due_ns = delivery->session.mailbox->shard->now_ns + LAST_WORDS_NS;
        break;
    case DELIVERY_ASKING:  /* helpers answer in any case */
    case DELIVERY_NO_ROOM: /* and so does the store */
    case DELIVERY_COMMITTING:
    case DELIVERY_GONE:
        break;
    }
    if (due_ns != WHEEL_NEVER &&
        (!timer_armed(&delivery->timer) || delivery->timer.due_ns > due_ns)) {
        wheel_arm(delivery->session.mailbox->shard->wheel, &delivery->timer, due_ns);
    }
}

/* As far as it goes. The session may be gone afterwards. */
static void delivery_run(struct delivery *delivery)
{
    if (delivery->state == DELIVERY_READING && (delivery->held.size > 0 || delivery->begin_waits)) {
        held_take(delivery);
    }
    do {
        if (delivery->state == DELIVERY_ANSWERING && !recipients_answer(delivery)) {
            break;
        }
        if (delivery->state == DELIVERY_READING) {
            input_take(delivery);
        }
    } while (delivery->state == DELIVERY_ANSWERING); /* the store has refused at once */
    bool written = output_write(delivery);
    if (delivery->state == DELIVERY_READING && delivery->finished && written) {
        struct slice left;
        if (stream_peek(delivery->stream, &left, 1) == 0) {
            delivery->state = DELIVERY_CLOSING; /* torn off: nobody waits for a reply */
        }
    }
    if (delivery->state == DELIVERY_CLOSING && written) {
        delivery_end(delivery);
        return;
    }
    timer_set(delivery);
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct delivery *delivery = list_entry(timer, struct delivery, timer);
    bool deaf = delivery->state == DELIVERY_CLOSING ||
                (delivery->state == DELIVERY_ANSWERING && now_ns >= delivery->give_up_ns);
    if (deaf) {
        stream_abort(delivery->stream); /* the client does not take our last words */
        delivery_end(delivery);
        return;
    }
    if (delivery->state == DELIVERY_READING && smtp_server_deadline(&delivery->server) <= now_ns) {
        smtp_server_expire(&delivery->server, now_ns);
        delivery->state = DELIVERY_CLOSING;
    }
    delivery_run(delivery);
}

static void delivery_notified(struct stream *stream, uint32_t events, void *session)
{
    struct delivery *delivery = (struct delivery *)session;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        delivery_end(delivery);
        return;
    }
    delivery->finished = delivery->finished || (events & STREAM_HALF_CLOSED) != 0;
    if (delivery->state == DELIVERY_CLOSING) {
        input_drop(delivery);
    }
    delivery_run(delivery);
}

/* ---- life ---- */

/* Lets go of the stream; what was written is still sent. */
static void delivery_end(struct delivery *delivery)
{
    struct mailbox *mailbox = delivery->session.mailbox;
    wheel_disarm(mailbox->shard->wheel, &delivery->timer);
    stream_release(delivery->stream);
    delivery->stream = NULL;
    session_over(&delivery->session);
    if (delivery->state == DELIVERY_COMMITTING) {
        delivery->state = DELIVERY_GONE; /* the store still writes into its recipients */
        return;
    }
    if (delivery->ask != NULL) {
        delivery_user_forget(delivery->ask);
    }
    transaction_reset(delivery);
    delivery_free(delivery);
}

static void drain(struct session *session)
{
    struct delivery *delivery = delivery_of(session);
    if (delivery->state == DELIVERY_READING && smtp_server_idle(&delivery->server)) {
        smtp_server_shut(&delivery->server);
        delivery->state = DELIVERY_CLOSING;
        delivery_run(delivery);
    }
}

static bool abort_session(struct session *session)
{
    struct delivery *delivery = delivery_of(session);
    if (delivery->state == DELIVERY_GONE) {
        return false;
    }
    stream_abort(delivery->stream);
    delivery_end(delivery);
    return true;
}

static void forget(struct session *session)
{
    struct delivery *delivery = delivery_of(session);
    check(delivery->state == DELIVERY_GONE);
    delivery_free(delivery);
}

static const struct session_ops delivery_ops = {
    .drain = drain, .abort = abort_session, .forget = forget};

void delivery_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct mailbox *mailbox = door->mailbox;
    struct delivery *delivery = (struct delivery *)calloc(1, sizeof *delivery);
    (void)listener;
    mailbox->counters.connections++;
    const char *why = delivery == NULL
                          ? SESSION_TOO_MANY
                          : session_begin(&delivery->session, &delivery_ops, door, stream);
    if (why != NULL) {
        char text[80];
        snprintf(text, sizeof text, "421 4.3.2 %s\r\n", why);
        session_refuse(door, stream, text);
        free(delivery);
        return;
    }
    delivery->store = mailbox->group->count == 1 ? delivery_here(mailbox) : &delivery_shards;
    delivery->text =
        (struct delivery_text){.mailbox = mailbox, .room_came = room_came, .committed = committed};
    delivery->stream = stream;
    stream_facts(stream, &delivery->facts);
    timer_init(&delivery->timer, timer_fired);
    smtp_server_open(&delivery->server, &mailbox->lmtp_settings, mailbox->shard->now_ns);
    stream->session = delivery;
    stream->notify = delivery_notified;
    delivery_run(delivery);
}
