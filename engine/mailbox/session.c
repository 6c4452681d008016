#include "engine/mailbox/session.h"
#include "engine/core/check.h"

static bool is_counted_by_address(const struct endpoint *remote)
{
    return remote->family == ENDPOINT_IPV4 || remote->family == ENDPOINT_IPV6;
}

/* Of all shards no two have the same. */
static uint64_t number_new(struct mailbox *mailbox)
{
    return ++mailbox->session_number * mailbox->group->count + mailbox_index(mailbox);
}

const char *session_begin(struct session *session, const struct session_ops *ops,
                          const struct mailbox_door *door, const struct stream *stream)
{
    struct mailbox *mailbox = door->mailbox;
    struct mailbox_counters *counters = &mailbox->counters;
    struct stream_facts facts;
    stream_facts(stream, &facts);
    if (atomic_load_explicit(&mailbox->group->sessions, memory_order_relaxed) >=
            mailbox->conf->limits.connections &&
        !door->operators) {
        return SESSION_TOO_MANY;
    }
    if (mailbox_group_seat_take(mailbox->group, &facts.remote,
                                mailbox->conf->limits.address_connections,
                                &session->of_address) < 0) {
        counters->connections_refused_address++;
        return SESSION_TOO_MANY_OF_ADDRESS;
    }
    session->ops = ops;
    session->mailbox = mailbox;
    session->protocol = door->protocol;
    session->operators = door->operators;
    session->number = number_new(mailbox);
    session->began_ns = mailbox->shard->now_ns;
    session->family = facts.remote.family;
    session->port = facts.remote.port;
    if (is_counted_by_address(&facts.remote)) {
        memcpy(session->address, facts.remote.address, sizeof session->address);
    }
    list_init(&session->node);
    list_append(&mailbox->sessions, &session->node);
    counters->sessions++;
    atomic_fetch_add_explicit(&mailbox->group->sessions, 1, memory_order_relaxed);
    session_counters(session)->sessions++;
    session_counters(session)->connections++;
    return NULL;
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
    session_exit(session);
    mailbox_group_seat_leave(mailbox->group, &session->of_address);
    atomic_fetch_sub_explicit(&mailbox->group->sessions, 1, memory_order_relaxed);
    mailbox->counters.sessions--;
    session_counters(session)->sessions--;
}

int session_flush(const struct session *session, struct outbox *outbox, struct stream *stream)
{
    size_t before = outbox->bytes;
    int status = outbox_flush(outbox, stream);
    session_counters(session)->bytes_out += before - outbox->bytes;
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
