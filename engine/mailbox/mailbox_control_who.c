/* mailbox who, mailbox kick: the sessions that there are. */
#include "engine/mailbox/mailbox_control_private.h"
#include <fnmatch.h>

#define PAGE 500u
#define KICK_NS 2000000000ull /* for last words */
#define KICK_TICK_NS 20000000ull

static struct session *session_of(struct list_node *node)
{
    return list_entry(node, struct session, node);
}

static const char *user_of(const struct session *session)
{
    return session->of_user != NULL ? session->of_user->user : NULL;
}

/* The connections of auth_socket.c are among the sessions to end with them; they are nobody's, and have no number. */
static bool is_meant(const struct session *session, const struct mailbox_order *order)
{
    const char *user = user_of(session);
    const struct endpoint remote = session_remote(session);
    return session->number != 0 &&
           (order->user[0] == '\0' || (user != NULL && fnmatch(order->user, user, 0) == 0)) &&
           (!order->has_network || network_prefix_holds(&order->network, &remote)) &&
           (!order->has_session || session->number == order->session);
}

static json_t *session_json(const struct session *session)
{
    static const char *const protocols[CONF_PROTOCOL_COUNT] = {"smtp", "lmtp", "imap", "pop3",
                                                               "sieve"};
    const struct mailbox *mailbox = session->mailbox;
    const struct endpoint remote = session_remote(session);
    const char *user = user_of(session);
    char address[ENDPOINT_TEXT_MAX] = "";
    bool has_address = remote.family == ENDPOINT_IPV4 || remote.family == ENDPOINT_IPV6;
    if (has_address) {
        endpoint_format_address(&remote, address);
    }
    json_t *json = json_pack(
        "{s:I,s:s,s:s,s:i,s:b,s:b,s:I}", "session", (json_int_t)session->number, "protocol",
        protocols[session->protocol], "address", has_address ? address : "local", "port",
        (int)remote.port, "tls", session->encrypted, "operator", session->operators, "age_s",
        (json_int_t)((mailbox->shard->now_ns - session->began_ns) / 1000000000ull));
    if (json != NULL && user != NULL) {
        json_object_set_new(json, "user", control_text(slice_text(user)));
    }
    return json;
}

void who_answer(struct mailbox_control *control, struct control_request *request,
                const struct mailbox_order *order)
{
    struct mailbox *mailbox = control->mailbox;
    unsigned count = 0;
    uint64_t last = 0; /* of those that were told */
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions;
         node = node->next) {
        const struct session *session = session_of(node);
        if (session->number <= order->cursor || !is_meant(session, order)) {
            continue;
        }
        if (count == PAGE) {
            control_finish_with(request, "next", json_integer((json_int_t)last));
            return;
        }
        control_line(request, session_json(session));
        last = session->number;
        count++;
    }
    control_finish(request);
}

void kick_tick(struct timer *timer, uint64_t now_ns)
{
    struct mailbox_control *control = list_entry(timer, struct mailbox_control, kick_timer);
    struct mailbox *mailbox = control->mailbox;
    bool again = false;
    struct list_node *next;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions; node = next) {
        struct session *session = session_of(node);
        next = node->next;
        if (!session->kicked) {
            continue;
        }
        again = true;
        if (session->kick_deadline_ns <= now_ns) {
            session->ops->abort(session);
        } else {
            session->ops->drain(session);
        }
    }
    if (again) {
        wheel_arm(mailbox->shard->wheel, timer, now_ns + KICK_TICK_NS);
    }
}

void kick_answer(struct mailbox_control *control, struct control_request *request,
                 const struct mailbox_order *order)
{
    struct mailbox *mailbox = control->mailbox;
    unsigned count = 0;
    if (order->user[0] == '\0' && !order->has_network && !order->has_session) {
        control_finish_error(request, "bad-request", "expected user, network or session");
        return;
    }
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions;
         node = node->next) {
        struct session *session = session_of(node);
        if (!session->kicked && is_meant(session, order)) {
            session->kicked = true;
            session->kick_deadline_ns = mailbox->shard->now_ns + KICK_NS;
            count++;
        }
    }
    if (count == 0) {
        control_finish_error(request, "not-found", "there is no such session");
        return;
    }
    mailbox->counters.kicked += count;
    wheel_arm(mailbox->shard->wheel, &control->kick_timer, mailbox->shard->now_ns);
    control_line(request, json_pack("{s:I}", "kicked", (json_int_t)count));
    control_finish(request);
}
