/*
 * auth_socket: a program that asks who its clients are, by the protocol of Dovecot's authentication service: Postfix,
 * Exim, Prosody.
 *
 *            peek                      AUTH, CONT              login desk
 *   stream ─────────► dovecot_socket ─────────────► exchange ◄─────────────► login
 *      ▲                    │  OK, FAIL, CONT          │ told
 *      └──── outbox ◄───────┴──────────────────────────┘
 *
 * Whoever may connect is believed what he says of his clients: their addresses, and whether they are encrypted. Several
 * exchanges may be under way on a connection, each known by its id. There is no limit on its silence: such programs keep
 * their connections.
 */
#include "engine/auth/dovecot_socket.h"
#include "engine/auth/login.h"
#include "engine/core/check.h"
#include "engine/mailbox/outbox.h"
#include "engine/mailbox/session.h"
#include <stdlib.h>
#include <unistd.h>

#define SLICES 16
#define EXCHANGES_MAX 64u /* of a connection; then: try again later */
#define OUTBOX_BYTES (64u * 1024)

struct auth_socket {
    struct session session; /* first */
    struct stream *stream;
    bool finished; /* the program has sent its FIN */
    struct outbox outbox;
    struct list_node exchanges; /* struct exchange */
    uint32_t exchange_count;
    struct dovecot_socket machine;
};

struct exchange {
    struct list_node node;
    struct auth_socket *self;
    struct login login;
    uint32_t id;
    bool challenged; /* it is the client's turn */
};

static void told(struct login *login, const struct login_told *news);

/* ---- Exchanges ---- */

static struct exchange *exchange_find(struct auth_socket *self, uint32_t id)
{
    for (struct list_node *node = self->exchanges.next; node != &self->exchanges;
         node = node->next) {
        struct exchange *exchange = list_entry(node, struct exchange, node);
        if (exchange->id == id) {
            return exchange;
        }
    }
    return NULL;
}

static void exchange_end(struct exchange *exchange)
{
    login_cancel(&exchange->login);
    list_remove(&exchange->node);
    exchange->self->exchange_count--;
    free(exchange);
}

static struct exchange *exchange_new(struct auth_socket *self, uint32_t id)
{
    struct exchange *exchange =
        self->exchange_count < EXCHANGES_MAX ? calloc(1, sizeof(*exchange)) : NULL;
    if (exchange != NULL) {
        exchange->self = self;
        exchange->id = id;
        exchange->login.told = told;
        list_init(&exchange->node);
        list_append(&self->exchanges, &exchange->node);
        self->exchange_count++;
    }
    return exchange;
}

static void output_take(struct auth_socket *self)
{
    struct slice output = dovecot_socket_output(&self->machine);
    outbox_write(&self->outbox, output);
    dovecot_socket_sent(&self->machine, output.size);
}

static void fail(struct auth_socket *self, uint32_t id, enum dovecot_failure failure)
{
    dovecot_socket_fail(&self->machine, id, slice_of(NULL, 0), failure);
    output_take(self);
}

/* What login_begin or login_answer has said. */
static void asked(struct exchange *exchange, int status)
{
    if (status < 0) {
        fail(exchange->self, exchange->id,
             status == -EPERM || status == -EINVAL ? DOVECOT_WRONG : DOVECOT_TEMPORARY);
        exchange_end(exchange);
    }
}

static void challenge(struct exchange *exchange, struct slice octets)
{
    struct auth_socket *self = exchange->self;
    exchange->challenged = true;
    if (!dovecot_socket_continue(&self->machine, exchange->id, octets)) {
        exchange_end(exchange);
    }
}

static void run(struct auth_socket *self);

static void told(struct login *login, const struct login_told *news)
{
    struct exchange *exchange = list_entry(login, struct exchange, login);
    struct auth_socket *self = exchange->self;
    switch (news->news) {
    case LOGIN_CHALLENGE:
        challenge(exchange, news->bytes);
        break;
    case LOGIN_IN:
        dovecot_socket_ok(&self->machine, exchange->id, slice_text(news->user));
        exchange_end(exchange);
        break;
    case LOGIN_REFUSED:
    case LOGIN_MALFORMED:
        fail(self, exchange->id, DOVECOT_WRONG);
        exchange_end(exchange);
        break;
    case LOGIN_UNAVAILABLE:
        fail(self, exchange->id, DOVECOT_TEMPORARY);
        exchange_end(exchange);
        break;
    }
    output_take(self);
    run(self);
}

/* ---- What the program says of its client ---- */

/* Static text, for the log. */
static const char *service_of(struct slice said)
{
    static const char *const known[] = {"smtp",  "submission", "imap", "pop3",
                                        "sieve", "xmpp",       "lmtp", "ftp"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (slice_equal_nocase(said, slice_text(known[i]))) {
            return known[i];
        }
    }
    return "auth";
}

static void facts_take(const struct dovecot_event *event, struct stream_facts *stream,
                       struct tls_facts *tls)
{
    struct network_prefix address;
    *stream = (struct stream_facts){.transport = "auth"};
    if (network_prefix_parse(&address, event->remote_ip) == 0) {
        stream->remote = address.address;
        stream->remote.port = event->remote_port;
    }
    memset(tls, 0, sizeof *tls);
    if (event->secured) {
        tls->version = "TLS"; /* nobody says which */
        stream->tls = tls;
        tls->verified =
            event->certificate_valid && event->certificate_name.size > 0 &&
            event->certificate_name.size < sizeof tls->peer_name &&
            memchr(event->certificate_name.bytes, 0, event->certificate_name.size) == NULL;
        if (tls->verified) {
            memcpy(tls->peer_name, event->certificate_name.bytes, event->certificate_name.size);
        }
    }
}

static void auth_begin(struct auth_socket *self, const struct dovecot_event *event)
{
    struct stream_facts stream;
    struct tls_facts tls;
    struct exchange *exchange = exchange_new(self, event->id);
    if (exchange == NULL) {
        fail(self, event->id, DOVECOT_TEMPORARY);
        return;
    }
    facts_take(event, &stream, &tls);
    const struct login_facts facts = {.stream = &stream, .service = service_of(event->service)};
    asked(exchange, login_begin(self->session.mailbox->logins, &exchange->login, &facts,
                                event->mechanism, event->has_octets ? &event->octets : NULL));
}

/* False: it has broken the protocol. */
static bool event_take(struct auth_socket *self, const struct dovecot_event *event)
{
    struct exchange *exchange;
    switch (event->kind) {
    case DOVECOT_NOTHING:
        return true;
    case DOVECOT_AUTH:
        if (exchange_find(self, event->id) != NULL) {
            return false;
        }
        auth_begin(self, event);
        return true;
    case DOVECOT_ANSWER:
        exchange = exchange_find(self, event->id);
        if (exchange == NULL || !exchange->challenged) {
            return false;
        }
        exchange->challenged = false;
        asked(exchange, login_answer(&exchange->login, event->octets));
        return true;
    case DOVECOT_CANCEL:
        exchange = exchange_find(self, event->id);
        if (exchange != NULL) {
            exchange_end(exchange);
        }
        return true;
    case DOVECOT_ENDED:
        break;
    }
    return false;
}

/* ---- The connection ---- */

static void session_end(struct auth_socket *self)
{
    struct mailbox *mailbox = self->session.mailbox;
    while (!list_empty(&self->exchanges)) {
        exchange_end(list_entry(self->exchanges.next, struct exchange, node));
    }
    outbox_close(&self->outbox);
    stream_release(self->stream);
    mailbox_group_room_leave(mailbox->group);
    mailbox->counters.sessions--;
    list_remove(&self->session.node);
    explicit_bzero(&self->machine, sizeof self->machine); /* passwords were in it */
    free(self);
}

static void cut(struct auth_socket *self)
{
    stream_abort(self->stream);
    session_end(self);
}

/* Returns how much of the slice is done with; less: no more is taken now. *good: it keeps to the protocol. */
static size_t slice_feed(struct auth_socket *self, struct slice input, bool *good)
{
    size_t done = 0;
    while (*good && done < input.size && !outbox_is_full(&self->outbox)) {
        struct dovecot_event event;
        done += dovecot_socket_input(&self->machine, slice_from(input, done), &event);
        *good = event_take(self, &event);
    }
    return done;
}

/* False: it has broken the protocol. */
static bool input_take(struct auth_socket *self)
{
    bool good = true;
    for (size_t consumed = 1; good && consumed > 0 && !outbox_is_full(&self->outbox);) {
        struct slice slices[SLICES];
        size_t count = stream_peek(self->stream, slices, SLICES);
        consumed = 0;
        for (size_t i = 0; good && i < count; i++) {
            size_t done = slice_feed(self, slices[i], &good);
            consumed += done;
            if (done < slices[i].size) {
                break;
            }
        }
        stream_consume(self->stream, consumed);
    }
    return good;
}

/* As far as it goes; it may be gone afterwards. */
static void run(struct auth_socket *self)
{
    int status = 0;
    bool was_full;
    do {
        if (!input_take(self)) {
            struct logger *logger = self->session.mailbox->shard->logger;
            logger_line(logger, LOGGER_WARNING, "auth: a program has broken the protocol");
            cut(self);
            return;
        }
        was_full = outbox_is_full(&self->outbox);
        status = outbox_flush(&self->outbox, self->stream);
    } while (status == 0 && was_full);
    struct slice left;
    bool over = self->finished && status == 0 && stream_peek(self->stream, &left, 1) == 0;
    if (status != 0 && status != -EAGAIN) {
        cut(self);
    } else if (over) {
        session_end(self);
    }
}

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct auth_socket *self = owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        session_end(self);
        return;
    }
    self->finished = self->finished || (events & STREAM_HALF_CLOSED) != 0;
    run(self);
}

/* ---- Life ---- */

static void session_drain(struct session *base)
{
    struct auth_socket *self = (struct auth_socket *)(void *)base;
    if (list_empty(&self->exchanges) && outbox_is_empty(&self->outbox)) {
        session_end(self);
    }
}

static bool session_abort(struct session *base)
{
    cut((struct auth_socket *)(void *)base);
    return true;
}

/* Never waits for the store. */
static void session_forget(struct session *base)
{
    (void)base;
    check(!"a session has been aborted before the store is closed");
}

static const struct session_ops session_operations = {
    .drain = session_drain, .abort = session_abort, .forget = session_forget};

/* What can be used whoever the client is, but for what depends on the connection between the two of them. */
static uint32_t mechanisms_of(const struct mailbox *mailbox)
{
    const struct tls_facts tls = {.version = "TLS"};
    const struct stream_facts stream = {.tls = &tls};
    const struct login_facts facts = {.stream = &stream, .service = "auth"};
    return login_mechanism_bits(mailbox->logins, &facts);
}

static void greet(struct auth_socket *self)
{
    struct mailbox *mailbox = self->session.mailbox;
    struct dovecot_facts facts = {.mechanisms = mechanisms_of(mailbox),
                                  .server_pid = (uint32_t)getpid(),
                                  .connection_id = (uint32_t)mailbox->counters.connections};
    world_random(mailbox->shard->world, facts.cookie, sizeof facts.cookie);
    dovecot_socket_open(&self->machine, &facts);
    output_take(self);
}

void auth_socket_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = owner;
    struct mailbox *mailbox = door->mailbox;
    struct auth_socket *self = NULL;
    (void)listener;
    mailbox->counters.connections++;
    if (mailbox_group_room_take(mailbox->group, mailbox->conf->limits.connections)) {
        self = calloc(1, sizeof(*self));
        if (self == NULL) {
            mailbox_group_room_leave(mailbox->group);
        }
    }
    if (self == NULL) {
        mailbox->counters.connections_refused++;
        stream_release(stream);
        return;
    }
    self->session = (struct session){.ops = &session_operations, .mailbox = mailbox};
    self->stream = stream;
    outbox_open(&self->outbox, OUTBOX_BYTES);
    list_init(&self->exchanges);
    list_init(&self->session.node);
    list_append(&mailbox->sessions, &self->session.node);
    mailbox->counters.sessions++;
    stream->session = self;
    stream->notify = notified;
    greet(self);
    run(self);
}
