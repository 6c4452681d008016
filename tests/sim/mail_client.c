#include "tests/sim/mail_client.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"

#define SESSION_LETTERS_MAX 6u

struct client_session {
    struct list_node node;
    struct mail_client *owner;
    struct stream *stream;
    struct smtp_client client;
    struct smtp_client_settings settings;
    struct timer timer;
    uint32_t letters_left;
    struct letter *letter; /* under way */
    struct smtp_client_recipient recipients[LETTER_RECIPIENTS_MAX];
    char paths[LETTER_RECIPIENTS_MAX][64];
    char sender[64];
    size_t body_offset, body_bytes;
    bool lost;
    bool handshake; /* nothing is said until it is done */
};

enum step { STEP_AGAIN, STEP_WAIT, STEP_ENDED };

static void session_free(struct client_session *session)
{
    struct mail_client *owner = session->owner;
    wheel_disarm(owner->host->shard.wheel, &session->timer);
    list_remove(&session->node);
    owner->session_count--;
    free(session);
}

/* ---- Letters ---- */

static void letter_begin(struct client_session *session)
{
    struct mail_client *owner = session->owner;
    struct letter *letter = letter_write(owner->letters, owner->site_count);
    uint64_t now_ns = owner->host->shard.now_ns;
    session->letter = letter;
    if (letter == NULL) {
        smtp_client_quit(&session->client, now_ns);
        return;
    }
    owner->letters_left -= owner->letters_left > 0;
    session->letters_left--;
    letter_sender(letter, session->sender);
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        letter_path(letter, i, session->paths[i]);
        if (!smtp_client_passes_dsn(&session->client)) {
            letter->recipients[i].notify = 0;
        }
        session->recipients[i] = (struct smtp_client_recipient){
            .forward_path = slice_text(session->paths[i]), .notify = letter->recipients[i].notify};
    }
    session->body_offset = 0;
    session->body_bytes = letter_body(owner->letters, letter).size;
    const struct smtp_client_message message = {.reverse_path = slice_text(session->sender),
                                                .recipient_count = letter->recipient_count,
                                                .body_bytes = session->body_bytes,
                                                .recipients = session->recipients};
    smtp_client_begin(&session->client, &message, now_ns);
}

/* What an answer to RCPT or to the end of the message makes of a letter. */
static void result_take(struct client_session *session, const struct smtp_client_result *result)
{
    struct letter *letter = session->letter;
    struct sim *sim = session->owner->host->sim;
    bool answered = (result->flags & SMTP_CLIENT_CONNECTION_FAILED) == 0 && result->code != 0;
    if (result->outcome == SMTP_CLIENT_ACCEPTED) {
        if (letter->fate == LETTER_NEW) {
            sim_fail(sim, "letter %u is accepted before it was sent", letter->id);
        }
        letter->fate = LETTER_ACCEPTED;
    } else if (answered && result->stage <= SMTP_CLIENT_AT_RCPT) {
        letter->recipients[result->index].left_out = true;
    } else if (answered && letter->fate == LETTER_SENT) {
        letter_refused(session->owner->letters, letter);
    }
}

/* Pieces of any size. True: all of it is on its way. */
static bool body_pump(struct client_session *session)
{
    struct mail_client *owner = session->owner;
    struct slice body = letter_body(owner->letters, session->letter);
    while (session->body_offset < body.size) {
        struct slice left = slice_from(body, session->body_offset);
        struct slice piece =
            slice_first(left, 1 + sim_spread(owner->host->sim, 0, STREAM_WRITE_MAX - 1));
        if (stream_write(session->stream, piece) < 0) {
            return false;
        }
        session->body_offset += piece.size;
    }
    session->letter->fate = LETTER_SENT;
    session->letter->sent_ns = owner->host->sim->world.now_ns;
    smtp_client_body_sent(&session->client, owner->host->shard.now_ns);
    return true;
}

/* ---- The dialogue ---- */

static bool output_write(struct client_session *session)
{
    for (;;) {
        struct slice output = smtp_client_output(&session->client);
        if (output.size == 0) {
            return true;
        }
        if (!session->lost && stream_write(session->stream, output) < 0) {
            return false;
        }
        smtp_client_output_sent(&session->client, session->owner->host->shard.now_ns);
    }
}

static void session_end(struct client_session *session)
{
    stream_release(session->stream);
    session_free(session);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner);

/* What a server says in the clear behind its answer to STARTTLS is never listened to (RFC 3207 §4.2). */
static enum step session_secure(struct client_session *session)
{
    struct stream *below = session->stream;
    struct slice left;
    if (stream_peek(below, &left, 1) > 0) {
        sim_fail(session->owner->host->sim, "the relay says something behind 220 to STARTTLS");
    }
    if (sim_secure_connect(&session->owner->secure, below, &session->stream) < 0) {
        session_free(session);
        return STEP_ENDED;
    }
    session->stream->session = session;
    session->stream->notify = session_notify;
    session->handshake = true;
    return STEP_WAIT;
}

static enum step session_step(struct client_session *session)
{
    if (session->handshake) {
        return STEP_WAIT;
    }
    uint64_t now_ns = session->owner->host->shard.now_ns;
    struct slice input = {0};
    struct smtp_client_result result;
    size_t used = 0;
    if (stream_peek(session->stream, &input, 1) == 0) {
        input = slice_of(NULL, 0);
    }
    enum smtp_client_want want = smtp_client_input(&session->client, now_ns, input, &used, &result);
    if (want == SMTP_CLIENT_WANT_RESULT) {
        result_take(session, &result);
    }
    if (used > 0) {
        stream_consume(session->stream, used);
    }
    bool written = output_write(session);
    switch (want) {
    case SMTP_CLIENT_WANT_INPUT:
        return used > 0 ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_RESULT:
        return STEP_AGAIN;
    case SMTP_CLIENT_WANT_TLS:
        return session->lost ? STEP_WAIT : session_secure(session);
    case SMTP_CLIENT_WANT_BODY:
        return written && !session->lost && body_pump(session) ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_MESSAGE:
        if (session->letters_left == 0 || session->owner->stopped) {
            smtp_client_quit(&session->client, now_ns);
        } else {
            letter_begin(session);
        }
        return STEP_AGAIN;
    case SMTP_CLIENT_WANT_CLOSE:
        session_end(session);
        return STEP_ENDED;
    }
    return STEP_WAIT;
}

static void progress_note(struct client_session *session)
{
    size_t unwritten = session->body_bytes - session->body_offset;
    smtp_client_left(&session->client, unwritten + stream_queued(session->stream),
                     session->owner->host->shard.now_ns);
}

static void session_run(struct client_session *session)
{
    struct mail_client *owner = session->owner;
    enum step step;
    progress_note(session);
    do {
        step = session_step(session);
    } while (step == STEP_AGAIN);
    if (step == STEP_ENDED) {
        return;
    }
    progress_note(session);
    if (sim_below(owner->host->sim, 1000) < owner->drops && !owner->host->sim->healed) {
        if (sim_chance(owner->host->sim, 50)) {
            stream_abort(session->stream);
        }
        session_end(session);
        return;
    }
    uint64_t due_ns = smtp_client_deadline(&session->client);
    if (due_ns != SMTP_CLIENT_NEVER) {
        wheel_arm(owner->host->shard.wheel, &session->timer, due_ns);
    }
}

static void session_timer(struct timer *timer, uint64_t now_ns)
{
    struct client_session *session = list_entry(timer, struct client_session, timer);
    progress_note(session);
    if (smtp_client_deadline(&session->client) <= now_ns) {
        smtp_client_expire(&session->client, now_ns);
        session->lost |= session->handshake; /* it has nothing to say in the clear */
        session->handshake = false;
    }
    sim_host_touch(session->owner->host);
    session_run(session);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct client_session *session = owner;
    (void)stream;
    if ((events & STREAM_CONNECTED) != 0 && session->handshake) {
        session->handshake = false;
        session->owner->secured++;
        smtp_client_secured(&session->client, session->owner->host->shard.now_ns);
    }
    if ((events & STREAM_CLOSED) != 0 && session->handshake) {
        session->handshake = false;
        session->lost = true;
        smtp_client_tls_failed(&session->client, "no handshake");
    } else if ((events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0) {
        enum step step = STEP_AGAIN;
        session->lost |= (events & STREAM_CLOSED) != 0;
        while (step == STEP_AGAIN) { /* what it has said before comes first */
            step = session_step(session);
        }
        if (step == STEP_ENDED) {
            return;
        }
        smtp_client_closed(&session->client, "the connection is lost");
    }
    session_run(session);
}

static void client_next(struct timer *timer, uint64_t now_ns)
{
    struct mail_client *owner = list_entry(timer, struct mail_client, next);
    struct sim *sim = owner->host->sim;
    if (owner->letters_left == 0 || owner->stopped) {
        return;
    }
    wheel_arm(owner->host->shard.wheel, timer, now_ns + sim_spread(sim, SIM_MS, owner->pause_ns));
    struct stream *stream;
    const struct connect_request request = {.to = owner->relay, .timeout_ns = 20 * SIM_S};
    if (owner->session_count == owner->session_count_max ||
        owner->host->network->ops->connect(owner->host->network, &request, &stream) < 0) {
        return;
    }
    struct client_session *session = calloc(1, sizeof(*session));
    check(session != NULL);
    session->owner = owner;
    session->stream = stream;
    session->letters_left = (uint32_t)sim_spread(sim, 1, SESSION_LETTERS_MAX);
    session->settings =
        (struct smtp_client_settings){.hostname = slice_text("client.example"),
                                      .pipelining = sim_chance(sim, 70),
                                      .greeting_ns = 60 * SIM_S,
                                      .reply_ns = 60 * SIM_S,
                                      .handshake_ns = SIM_SECURE_HANDSHAKE_NS,
                                      .data_start_ns = 60 * SIM_S,
                                      .data_block_ns = 60 * SIM_S,
                                      .data_end_ns = sim_spread(sim, 5, 120) * SIM_S,
                                      .quit_ns = 5 * SIM_S};
    timer_init(&session->timer, session_timer);
    list_init(&session->node);
    list_append(&owner->sessions, &session->node);
    owner->session_count++;
    smtp_client_open(&session->client, &session->settings, owner->host->shard.now_ns);
    smtp_client_use_tls(&session->client, owner->tls);
    stream->session = session;
    stream->notify = session_notify;
    wheel_arm(owner->host->shard.wheel, &session->timer, smtp_client_deadline(&session->client));
    sim_host_touch(owner->host);
}

void mail_client_setup(struct mail_client *client, struct sim_host *host, struct letters *letters,
                       const struct endpoint *relay)
{
    struct sim *sim = host->sim;
    *client = (struct mail_client){.host = host, .letters = letters, .relay = *relay};
    list_init(&client->sessions);
    timer_init(&client->next, client_next);
    client->pause_ns = sim_spread(sim, 10 * SIM_MS, 5 * SIM_S);
    client->letters_left = (uint32_t)sim_at_most(sim_spread(sim, 1, 60), sim->options.most);
    client->session_count_max = (uint32_t)sim_spread(sim, 1, 8);
    uint32_t drops = (uint32_t)sim_spread(sim, 0, 60);
    client->drops = sim_fault_on(&sim->faults, SIM_FAULT_PEER) ? drops : 0;
}

static uint64_t client_next_ns(struct sim_host *host)
{
    struct mail_client *client = host->owner;
    return sim_secure_next_ns(&client->secure, host->sim->world.now_ns);
}

void mail_client_start(struct mail_client *client)
{
    if (client->secures) {
        client->host->owner = client;
        client->host->next_ns = client_next_ns;
        sim_secure_open(&client->secure, client->host);
    }
    wheel_arm(client->host->shard.wheel, &client->next, client->host->sim->world.now_ns + SIM_MS);
}

void mail_client_crash(struct mail_client *client)
{
    wheel_disarm(client->host->shard.wheel, &client->next);
    if (client->secures) {
        sim_net_unplug(&client->host->sim->net, client->host->index); /* nobody hears its end */
    }
    while (!list_empty(&client->sessions)) {
        struct client_session *session =
            list_entry(client->sessions.next, struct client_session, node);
        if (client->secures) { /* else the stack lets go of them when it is closed */
            stream_abort(session->stream);
            stream_release(session->stream);
        }
        session_free(session);
    }
    sim_secure_close(&client->secure);
}

bool mail_client_done(const struct mail_client *client)
{
    return client->session_count == 0 && (client->letters_left == 0 || client->stopped);
}
