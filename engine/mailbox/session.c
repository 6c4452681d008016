#include "engine/mailbox/session.h"
#include "engine/core/check.h"
#include "engine/tls/tls.h"
#include <stdlib.h>

static bool is_counted_by_address(const struct endpoint *remote)
{
    return remote->family == ENDPOINT_IPV4 || remote->family == ENDPOINT_IPV6;
}

/* Of all shards no two have the same. */
static uint64_t number_new(struct mailbox *mailbox)
{
    return ++mailbox->session_number * mailbox->group->count + mailbox_index(mailbox);
}

/* It is one of the shard's. */
static void come(struct session *session)
{
    struct mailbox *mailbox = session->mailbox;
    session->number = number_new(mailbox);
    list_append(&mailbox->sessions, &session->node);
    mailbox->counters.sessions++;
    session_counters(session)->sessions++;
}

static void go(struct session *session)
{
    session->mailbox->counters.sessions--;
    session_counters(session)->sessions--;
}

const char *session_begin(struct session *session, const struct session_ops *ops,
                          const struct mailbox_door *door, const struct stream *stream)
{
    struct mailbox *mailbox = door->mailbox;
    struct mailbox_counters *counters = &mailbox->counters;
    struct stream_facts facts;
    stream_facts(stream, &facts);
    uint32_t limit = door->operators ? UINT32_MAX : mailbox->conf->limits.connections;
    if (!mailbox_group_room_take(mailbox->group, limit)) {
        return SESSION_TOO_MANY;
    }
    if (mailbox_group_seat_take(mailbox->group, &facts.remote,
                                mailbox->conf->limits.address_connections,
                                &session->of_address) < 0) {
        mailbox_group_room_leave(mailbox->group);
        counters->connections_refused_address++;
        return SESSION_TOO_MANY_OF_ADDRESS;
    }
    session->ops = ops;
    session->mailbox = mailbox;
    session->protocol = door->protocol;
    session->operators = door->operators;
    session->began_ns = mailbox->shard->now_ns;
    session->family = facts.remote.family;
    session->port = facts.remote.port;
    if (is_counted_by_address(&facts.remote)) {
        memcpy(session->address, facts.remote.address, sizeof session->address);
    }
    list_init(&session->node);
    come(session);
    session_counters(session)->connections++;
    return NULL;
}

void session_refuse(const struct mailbox_door *door, struct stream *stream, const char *words)
{
    door->mailbox->counters.connections_refused++;
    if (door->tls != CONF_TLS_IMPLICIT) {
        stream_write(stream, slice_text(words));
    }
    stream_release(stream);
}

struct stream *session_secure(const struct session *session, struct stream *below, bool finished)
{
    const struct mailbox *mailbox = session->mailbox;
    struct stream *above;
    if (mailbox->tls_server == NULL) { /* a reload has taken the last certificate */
        stream_abort(below);
        stream_release(below);
        return NULL;
    }
    if (tls_accept(mailbox->tls, below, mailbox->tls_server, &above) < 0) {
        return NULL;
    }
    if (finished) { /* nobody else is told any more */
        tls_half_closed(above);
    }
    return above;
}

void session_begin_of_service(struct session *session, const struct session_ops *ops,
                              struct mailbox *mailbox, uint8_t protocol)
{
    session->ops = ops;
    session->mailbox = mailbox;
    session->protocol = protocol;
    session->of_service = true;
    session->began_ns = mailbox->shard->now_ns;
    list_init(&session->node);
    list_append(&mailbox->sessions, &session->node);
}

int session_enter(struct session *session, const char *user)
{
    struct mailbox *mailbox = session->mailbox;
    const struct endpoint remote = session_remote(session);
    const struct seat_key alone = {.user = user};
    const struct seat_key from = {.protocol = session->protocol, .address = &remote, .user = user};
    check(session->of_user == NULL);
    uint32_t limit = session->operators ? 0 : mailbox->conf->limits.user_connections;
    int status = seats_take(&mailbox->seats, &alone, limit, &session->of_user);
    if (status == 0) {
        status = seats_take(&mailbox->seats, &from, mailbox->conf->limits.user_address_connections,
                            &session->of_user_address);
    }
    if (status < 0) {
        mailbox->counters.logins_refused++;
        session_exit(session);
        return status;
    }
    session_counters(session)->logins++;
    return 0;
}

void session_exit(struct session *session)
{
    seats_leave(&session->mailbox->seats, &session->of_user);
    seats_leave(&session->mailbox->seats, &session->of_user_address);
}

void session_over(struct session *session)
{
    struct mailbox *mailbox = session->mailbox;
    if (session->of_service) {
        return;
    }
    session_exit(session);
    mailbox_group_seat_leave(mailbox->group, &session->of_address);
    mailbox_group_room_leave(mailbox->group);
    go(session);
}

/* ---- To another shard ---- */

struct passing {
    struct crossing_note note; /* first */
    struct list_node node;     /* in group->passing, under its lock */
    struct session *session;
    struct stream *stream;
    struct mailbox *to;
    struct mailbox_group *group;
    char user[USER_NAME_BYTES];
};

bool session_is_abroad(const struct session *session, const char *user)
{
    const struct mailbox *mailbox = session->mailbox;
    return mailbox_group_shard(mailbox->group, user) != mailbox_index(mailbox);
}

/* It was on its way when the service ended, or is not wanted any more. */
static void session_lose(struct session *session, struct mailbox_group *group)
{
    mailbox_group_seat_leave(group, &session->of_address);
    mailbox_group_room_leave(group);
    session->ops->lost(session);
}

static void passing_list(struct passing *passing)
{
    pthread_mutex_lock(&passing->group->lock);
    list_append(&passing->group->passing, &passing->node);
    pthread_mutex_unlock(&passing->group->lock);
}

/* Whoever has looked at the session meanwhile has done so. */
static void passing_unlist(struct passing *passing)
{
    pthread_mutex_lock(&passing->group->lock);
    list_remove(&passing->node);
    pthread_mutex_unlock(&passing->group->lock);
}

void session_passing_visit(struct mailbox_group *group, session_visit *visit, void *owner)
{
    pthread_mutex_lock(&group->lock);
    for (struct list_node *node = group->passing.next; node != &group->passing; node = node->next) {
        struct passing *passing = list_entry(node, struct passing, node);
        visit(passing->session, passing->user, owner);
    }
    pthread_mutex_unlock(&group->lock);
}

/* On the shard of the user. */
static void passing_arrives(struct shard_message *message, struct shard *shard)
{
    passing_unlist((struct passing *)(void *)message);
    struct passing passing = *(struct passing *)(void *)message;
    struct session *session = passing.session;
    (void)shard;
    free(message);
    session->mailbox = passing.to;
    /* Later than that nobody here looks for those that are kicked. */
    bool too_late = session->kicked && session->kick_deadline_ns <= passing.to->shard->now_ns;
    if (passing.to->left || too_late) {
        stream_abort(passing.stream);
        stream_release(passing.stream);
        session_lose(session, passing.group);
        return;
    }
    come(session);
    session->ops->arrived(session, passing.stream, passing.user);
}

/* No shard runs any more, and there is no mailbox; the stream is crossing's to free. */
static void passing_dropped(struct shard_message *message)
{
    struct passing *passing = (struct passing *)(void *)message;
    passing_unlist(passing);
    session_lose(passing->session, passing->group);
    free(passing);
}

const char *session_pass(struct session *session, struct stream *stream, bool finished,
                         const char *user)
{
    struct mailbox *mailbox = session->mailbox;
    if (session->passes >= SESSION_PASSES_MAX) {
        return SESSION_TOO_MANY_PASSES;
    }
    struct mailbox *to = mailbox->group->members[mailbox_group_shard(mailbox->group, user)];
    struct passing *passing = (struct passing *)calloc(1, sizeof *passing);
    struct stream *far =
        passing == NULL ? NULL : crossing_pass(mailbox->crossing, to->crossing, stream, finished);
    if (far == NULL) {
        free(passing);
        return "Out of memory, try again later";
    }
    passing->note.message =
        (struct shard_message){.run = passing_arrives, .dropped = passing_dropped};
    passing->session = session;
    passing->stream = far;
    passing->to = to;
    passing->group = mailbox->group;
    strcpy(passing->user, user);
    session->passes++;
    list_remove(&session->node);
    go(session);
    list_init(&passing->node);
    passing_list(passing);
    crossing_send(mailbox->crossing, to->shard, &passing->note);
    return NULL;
}

int session_flush(const struct session *session, struct outbox *outbox, struct stream *stream)
{
    size_t before = outbox->bytes;
    int status = outbox_flush(outbox, stream);
    if (!session->of_service) {
        session_counters(session)->bytes_out += before - outbox->bytes;
    }
    return status;
}

const char *session_farewell(const struct session *session)
{
    return session->kicked ? "Disconnected by the operator" : "Service is ending";
}

struct endpoint session_remote(const struct session *session)
{
    struct endpoint remote = {.family = session->family, .port = session->port};
    memcpy(remote.address, session->address, sizeof remote.address);
    return remote;
}
