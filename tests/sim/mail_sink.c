#include "tests/sim/mail_sink.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "tests/sim/relay_host.h"

#define BODY_BYTES_MAX (LETTER_BYTES_MAX * 2u)
#define TAKEN_MAX LETTER_RECIPIENTS_MAX

struct sink_recipient {
    struct letter *letter; /* NULL: a report comes to this address */
    struct letter *about;
    uint32_t recipient;
};

struct sink_session {
    struct list_node node;
    struct mail_sink *sink;
    struct stream *stream;
    struct smtp_server server;
    struct timer timer; /* the deadline, or the end of a wait */
    bool waiting;       /* the event is answered when the timer fires */
    struct smtp_event event;
    char sender[64];
    struct sink_recipient recipients[TAKEN_MAX];
    uint32_t recipient_count;
    /* Taken for good, but the client may not know it yet. */
    struct sink_recipient told[TAKEN_MAX];
    uint32_t told_count;
    uint8_t *body;
    size_t body_bytes;
    uint64_t come_ns; /* the end of the message */
    bool closing;
    bool finished; /* the client has sent its FIN */
    /* After 220 to STARTTLS nothing is read until its handshake is done. */
    bool securing, handshake;
};

static void session_run(struct sink_session *session);

static bool by_chance(const struct mail_sink *sink, uint32_t of_1000)
{
    return sim_below(sink->host->sim, 1000) < of_1000;
}

static void session_free(struct sink_session *session)
{
    wheel_disarm(session->sink->host->shard.wheel, &session->timer);
    list_remove(&session->node);
    free(session->body);
    free(session);
}

static void session_end(struct sink_session *session)
{
    stream_release(session->stream);
    session_free(session);
}

static void verdict(struct sink_session *session, unsigned code, const char *status)
{
    const struct smtp_verdict answer = {
        .code = (uint16_t)code, .status = status, .text = slice_text("as it pleases us")};
    smtp_server_verdict(&session->server, &answer);
}

/* ---- Whose mail it is ---- */

static void sender_take(struct sink_session *session)
{
    struct slice path = session->event.path.mailbox;
    session->recipient_count = 0;
    session->body_bytes = 0;
    snprintf(session->sender, sizeof(session->sender), "%.*s", (int)path.size,
             (const char *)path.bytes);
    if (by_chance(session->sink, session->sink->refuses)) {
        verdict(session, 451, "4.3.0");
    } else {
        verdict(session, 250, "2.1.0");
    }
}

static bool recipient_read(struct sink_session *session, struct slice path,
                           struct sink_recipient *to)
{
    struct mail_sink *sink = session->sink;
    *to = (struct sink_recipient){0};
    to->about = letter_find_sender(sink->letters, path);
    if (to->about != NULL) {
        return session->sender[0] == '\0' && (sink->sites & 1u << SIM_BACK) != 0;
    }
    if (!letter_find(sink->letters, path, &to->letter, &to->recipient)) {
        return false;
    }
    char sender[64];
    letter_sender(to->letter, sender);
    return strcmp(sender, session->sender) == 0 &&
           (sink->sites & 1u << to->letter->recipients[to->recipient].site) != 0;
}

static void recipient_take(struct sink_session *session)
{
    struct mail_sink *sink = session->sink;
    struct slice path = session->event.path.mailbox;
    struct sink_recipient to;
    if (sink->never_clear && !session->server.secured) {
        sim_fail(sink->host->sim, "host %u is offered mail in the clear", sink->host->index);
    }
    if (!recipient_read(session, path, &to)) {
        sim_fail(sink->host->sim, "host %u is offered mail for %.*s, from <%s>, which is not its",
                 sink->host->index, (int)path.size, (const char *)path.bytes, session->sender);
    }
    unsigned judged =
        to.letter == NULL || sink->judge == NULL ? 0 : sink->judge(sink, to.letter, to.recipient);
    if (judged != 0) {
        verdict(session, judged, judged == 451 ? "4.7.1" : "5.7.1");
    } else if (to.letter != NULL && to.letter->recipients[to.recipient].rejected) {
        verdict(session, 550, "5.1.1");
    } else if (session->recipient_count == TAKEN_MAX || by_chance(sink, sink->refuses)) {
        verdict(session, 452, "4.5.3");
    } else {
        session->recipients[session->recipient_count++] = to;
        verdict(session, 250, "2.1.5");
    }
}

/* ---- The message ---- */

static void body_take(struct sink_session *session, struct slice piece)
{
    if (session->body == NULL) {
        session->body = malloc(BODY_BYTES_MAX);
        check(session->body != NULL);
    }
    if (session->body_bytes + piece.size > BODY_BYTES_MAX) {
        sim_fail(session->sink->host->sim, "host %u is sent a message without end",
                 session->sink->host->index);
    }
    memcpy(session->body + session->body_bytes, piece.bytes, piece.size);
    session->body_bytes += piece.size;
}

static void keep(struct sink_session *session, const struct sink_recipient *to)
{
    struct mail_sink *sink = session->sink;
    struct slice body = slice_of(session->body, session->body_bytes);
    enum sim_plant plant = sink->host->sim->options.plant;
    sink->taken++;
    if (to->letter == NULL) {
        letter_reported(sink->letters, to->about, body);
        return;
    }
    letter_compare(sink->letters, to->letter, body);
    if (plant == SIM_PLANT_LOST && sink->taken == 2) {
        return;
    }
    uint32_t recipient = to->recipient;
    if (plant == SIM_PLANT_ASTRAY && sink->taken == 2 && to->letter->id > 0) {
        struct letter *other = &sink->letters->all[to->letter->id - 1];
        char sender[64];
        letter_sender(other, sender);
        letter_compare(sink->letters, other, body);
    }
    letter_delivered(sink->letters, to->letter, recipient, session->come_ns);
    if (plant == SIM_PLANT_TWICE && sink->taken == 2) {
        letter_confirmed(sink->letters, to->letter, recipient);
        letter_delivered(sink->letters, to->letter, recipient, UINT64_MAX);
    }
    check(session->told_count < TAKEN_MAX);
    session->told[session->told_count++] = *to;
}

/* What was told before is known by now: the client goes on. */
static void told_confirm(struct sink_session *session)
{
    for (uint32_t i = 0; i < session->told_count; i++) {
        letter_confirmed(session->sink->letters, session->told[i].letter,
                         session->told[i].recipient);
    }
    session->told_count = 0;
}

static void body_end(struct sink_session *session)
{
    struct mail_sink *sink = session->sink;
    uint32_t count = session->recipient_count;
    bool refused = by_chance(sink, sink->refuses);
    for (uint32_t i = 0; i < count; i++) {
        bool this_one = sink->settings.lmtp ? by_chance(sink, sink->refuses) : refused;
        if (!this_one) {
            keep(session, &session->recipients[i]);
        }
        if (sink->settings.lmtp || i == 0) {
            verdict(session, this_one ? 451 : 250, this_one ? "4.3.0" : "2.0.0");
        }
    }
    session->recipient_count = 0;
}

/* ---- The dialogue ---- */

static void event_answer(struct sink_session *session)
{
    switch (session->event.kind) {
    case SMTP_EVENT_CONNECTED:
        if (by_chance(session->sink, session->sink->refuses)) {
            verdict(session, 421, "4.3.2");
        } else {
            smtp_server_verdict(&session->server, NULL);
        }
        break;
    case SMTP_EVENT_SENDER:
        sender_take(session);
        break;
    case SMTP_EVENT_RECIPIENT:
        recipient_take(session);
        break;
    case SMTP_EVENT_BODY:
        body_take(session, session->event.body);
        break;
    case SMTP_EVENT_BODY_END:
        body_end(session);
        break;
    case SMTP_EVENT_RESET:
        session->recipient_count = 0;
        break;
    case SMTP_EVENT_NONE:
    case SMTP_EVENT_HELO:
    case SMTP_EVENT_BODY_BEGIN:
    case SMTP_EVENT_AUTH: /* is not known here */
    case SMTP_EVENT_AUTH_ANSWER:
    case SMTP_EVENT_AUTH_ROOM:
    case SMTP_EVENT_AUTH_END:
        break;
    }
}

/* Some answers take their time. The end of a message must not lie in the stream's memory then, and
 * does not. */
static bool event_waits(struct sink_session *session)
{
    struct mail_sink *sink = session->sink;
    bool may =
        session->event.kind == SMTP_EVENT_CONNECTED || session->event.kind == SMTP_EVENT_BODY_END;
    if (!may || !by_chance(sink, sink->waits)) {
        return false;
    }
    session->waiting = true;
    wheel_arm(sink->host->shard.wheel, &session->timer,
              sink->host->shard.now_ns + sim_spread(sink->host->sim, SIM_MS, sink->wait_ns));
    return true;
}

/* False: the session is gone. */
static bool output_write(struct sink_session *session)
{
    for (;;) {
        struct slice output = slice_first(smtp_server_output(&session->server), STREAM_WRITE_MAX);
        if (output.size == 0 || stream_write(session->stream, output) < 0) {
            break;
        }
        smtp_server_sent(&session->server, output.size);
    }
    if (by_chance(session->sink, session->sink->drops)) {
        sim_say(session->sink->host->sim, "host %u drops a connection", session->sink->host->index);
        if (sim_chance(session->sink->host->sim, 50)) {
            stream_abort(session->stream);
        }
        session_end(session);
        return false;
    }
    return true;
}

/* One call of the machine; what it uses of the input is consumed. False: it waits for more. */
static bool session_step(struct sink_session *session)
{
    struct slice input = {0};
    size_t used = 0;
    if (stream_peek(session->stream, &input, 1) == 0) {
        input = slice_of(NULL, 0);
    }
    session->event.kind = SMTP_EVENT_NONE;
    enum smtp_want want = smtp_server_input(&session->server, session->sink->host->shard.now_ns,
                                            input, &used, &session->event);
    if (used > 0) {
        told_confirm(session);
    }
    if (session->event.kind == SMTP_EVENT_BODY_END) {
        session->come_ns = session->sink->host->sim->world.now_ns;
    }
    bool waits = event_waits(session);
    if (!waits) {
        event_answer(session);
    }
    if (used > 0) {
        stream_consume(session->stream, used);
    }
    session->closing |= want == SMTP_WANT_CLOSE;
    session->securing |= want == SMTP_WANT_TLS;
    return !waits && !session->closing && !session->securing &&
           (used > 0 || session->event.kind != SMTP_EVENT_NONE);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner);

/* False: the session is gone. */
static bool session_secure(struct sink_session *session)
{
    struct mail_sink *sink = session->sink;
    struct stream *below = session->stream;
    struct slice left;
    while (stream_peek(below, &left, 1) > 0) { /* said in the clear: RFC 3207 §4.2 */
        stream_consume(below, left.size);
    }
    if (by_chance(sink, sink->drops) ||
        sim_secure_accept(&sink->secure, below, &session->stream) < 0) {
        if (session->stream == below) {
            stream_abort(below);
            stream_release(below);
        }
        session_free(session);
        return false;
    }
    session->stream->session = session;
    session->stream->notify = session_notify;
    session->handshake = true;
    if (session->finished) {
        tls_half_closed(session->stream);
    }
    return true;
}

static void session_run(struct sink_session *session)
{
    while (!session->waiting && !session->closing && !session->securing && session_step(session)) {
        if (smtp_server_output(&session->server).size > 512 && !output_write(session)) {
            return;
        }
    }
    if (!output_write(session)) {
        return;
    }
    if (session->securing && !session->handshake &&
        smtp_server_output(&session->server).size == 0 && !session_secure(session)) {
        return;
    }
    if (session->closing && smtp_server_output(&session->server).size == 0) {
        session_end(session);
        return;
    }
    uint64_t due_ns = smtp_server_deadline(&session->server);
    if (!session->waiting && due_ns != SMTP_SERVER_NEVER) {
        wheel_arm(session->sink->host->shard.wheel, &session->timer, due_ns);
    }
}

static void session_timer(struct timer *timer, uint64_t now_ns)
{
    struct sink_session *session = list_entry(timer, struct sink_session, timer);
    if (session->waiting) {
        session->waiting = false;
        event_answer(session);
    } else if (smtp_server_deadline(&session->server) <= now_ns) {
        smtp_server_expire(&session->server, now_ns);
        session->closing = true;
    }
    sim_host_touch(session->sink->host);
    session_run(session);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct sink_session *session = owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        session_end(session);
        return;
    }
    struct slice left;
    session->finished |= (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_CONNECTED) != 0 && session->handshake) {
        session->handshake = session->securing = false;
        session->sink->secured++;
        smtp_server_secured(&session->server, session->sink->host->shard.now_ns);
    }
    if ((events & STREAM_HALF_CLOSED) != 0 && !session->waiting) {
        session_run(session);
        return;
    }
    if (session->closing && stream_peek(stream, &left, 1) > 0) {
        stream_consume(stream, left.size);
    }
    session_run(session);
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct mail_sink *sink = owner;
    (void)listener;
    if (sink->admit != NULL && !sink->admit(sink)) {
        stream_abort(stream);
        stream_release(stream);
        return;
    }
    struct sink_session *session = calloc(1, sizeof(*session));
    check(session != NULL);
    session->sink = sink;
    session->stream = stream;
    stream->session = session;
    stream->notify = session_notify;
    list_init(&session->node);
    list_append(&sink->sessions, &session->node);
    timer_init(&session->timer, session_timer);
    smtp_server_open(&session->server, &sink->settings, sink->host->shard.now_ns);
    session_run(session);
}

/* ---- Life ---- */

void mail_sink_setup(struct mail_sink *sink, struct sim_host *host, struct letters *letters,
                     bool lmtp)
{
    struct sim *sim = host->sim;
    *sink = (struct mail_sink){.host = host, .letters = letters};
    snprintf(sink->name, sizeof(sink->name), "sink%u.example", host->index);
    list_init(&sink->sessions);
    sink->settings = (struct smtp_server_settings){.hostname = slice_text(sink->name),
                                                   .lmtp = lmtp,
                                                   .pipelining = sim_chance(sim, 70),
                                                   .chunking = sim_chance(sim, 50),
                                                   .line_bytes_max = 65536,
                                                   .command_ns = 90 * SIM_S,
                                                   .data_ns = 90 * SIM_S};
    uint32_t refuses = (uint32_t)sim_spread(sim, 0, 200), drops = (uint32_t)sim_spread(sim, 0, 60);
    uint32_t waits = (uint32_t)sim_spread(sim, 0, 500);
    sink->wait_ns = sim_spread(sim, 10 * SIM_MS, 90 * SIM_S);
    if (sim_fault_on(&sim->faults, SIM_FAULT_PEER)) {
        sink->refuses = refuses;
        sink->drops = drops;
        sink->waits = waits;
    }
}

static uint64_t sink_next_ns(struct sim_host *host)
{
    struct mail_sink *sink = host->owner;
    return sim_secure_next_ns(&sink->secure, host->sim->world.now_ns);
}

void mail_sink_start(struct mail_sink *sink)
{
    if (sink->secures) {
        sink->host->owner = sink;
        sink->host->next_ns = sink_next_ns;
        sink->settings.starttls = true;
        sim_secure_open(&sink->secure, sink->host);
    }
    const struct listen_request request = {
        .at = sim_any(sink->family, SIM_SINK_PORT), .accepted = accepted, .owner = sink};
    check(sink->host->network->ops->listen(sink->host->network, &request, &sink->listener) == 0);
}

void mail_sink_crash(struct mail_sink *sink)
{
    if (sink->secures) {
        sim_net_unplug(&sink->host->sim->net, sink->host->index); /* nobody hears its end */
    }
    while (!list_empty(&sink->sessions)) {
        struct sink_session *session = list_entry(sink->sessions.next, struct sink_session, node);
        if (sink->secures) { /* else the stack lets go of them when it is closed */
            stream_abort(session->stream);
            stream_release(session->stream);
        }
        session_free(session);
    }
    sim_secure_close(&sink->secure);
}

void mail_sink_heal(struct mail_sink *sink)
{
    sink->refuses = sink->drops = 0;
    sink->wait_ns = sink->wait_ns < SIM_S ? sink->wait_ns : SIM_S;
}
