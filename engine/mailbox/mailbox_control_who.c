/* mailbox who, mailbox kick: the sessions that there are. */
#include "engine/mailbox/mailbox_control_private.h"
#include <fnmatch.h>

#define PAGE 500u
#define KICK_NS 2000000000ull /* for last words */
#define KICK_TICK_NS 20000000ull
#define KICK_LOOK_NS 200000000ull /* where nobody is kicked yet */

static struct session *session_of(struct list_node *node)
{
    return list_entry(node, struct session, node);
}

static const char *user_of(const struct session *session)
{
    return session->of_user != NULL ? session->of_user->user : NULL;
}

/* The connections of auth_socket.c are among the sessions to end with them; they are nobody's, and have no number. */
static bool is_meant(const struct session *session, const char *user,
                     const struct mailbox_order *order)
{
    const struct endpoint remote = session_remote(session);
    return session->number != 0 &&
           (order->user[0] == '\0' ||
            (user != NULL && fnmatch(order->user, user, FNM_CASEFOLD) == 0)) &&
           (!order->has_network || network_prefix_holds(&order->network, &remote)) &&
           (!order->has_session || session->number == order->session);
}

/* ---- who ---- */

/* What is told of a session. */
struct seen {
    uint64_t number, age_s;
    char user[USER_NAME_BYTES]; /* "": nobody is logged in */
    uint8_t protocol, family;
    bool encrypted, operators;
    uint16_t port;
    uint8_t address[16];
};

/* The lowest numbers behind the cursor, of all shards; one more than a page has says that there is another page. */
struct who {
    struct mailbox_job job; /* first */
    uint64_t now_ns;        /* of the shard that is asked */
    unsigned count;
    struct seen seen[PAGE + 1]; /* ascending */
};

static void seen_fill(struct seen *seen, const struct session *session, const char *user,
                      uint64_t now_ns)
{
    *seen = (struct seen){
        .number = session->number,
        .age_s = now_ns > session->began_ns ? (now_ns - session->began_ns) / 1000000000ull : 0,
        .protocol = session->protocol,
        .family = session->family,
        .encrypted = session->encrypted,
        .operators = session->operators,
        .port = session->port,
    };
    memcpy(seen->address, session->address, sizeof seen->address);
    strcpy(seen->user, user != NULL ? user : "");
}

/* Sessions that have come from another shard stand behind such of higher numbers; one that goes from shard to shard
 * meanwhile may be met twice. */
static void who_add(struct who *who, const struct session *session, const char *user)
{
    const struct mailbox_order *order = &who->job.order;
    if (session->number <= order->cursor || !is_meant(session, user, order)) {
        return;
    }
    unsigned at = who->count;
    while (at > 0 && who->seen[at - 1].number > session->number) {
        at--;
    }
    if (at > PAGE || (at > 0 && who->seen[at - 1].number == session->number)) {
        return;
    }
    unsigned kept = who->count <= PAGE ? who->count : PAGE;
    memmove(&who->seen[at + 1], &who->seen[at], (kept - at) * sizeof who->seen[0]);
    seen_fill(&who->seen[at], session, user, who->now_ns);
    who->count = kept + 1;
}

static void who_passing(struct session *session, const char *user, void *owner)
{
    who_add((struct who *)owner, session, user);
}

static void who_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct who *who = (struct who *)job;
    who->now_ns = mailbox->shard->now_ns;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions;
         node = node->next) {
        const struct session *session = session_of(node);
        who_add(who, session, user_of(session));
    }
    session_passing_visit(mailbox->group, who_passing, who);
    job_go_on(job);
}

static json_t *seen_json(const struct seen *seen)
{
    static const char *const protocols[CONF_PROTOCOL_COUNT] = {"smtp", "lmtp", "imap", "pop3",
                                                               "sieve"};
    struct endpoint remote = {.family = seen->family};
    char address[ENDPOINT_TEXT_MAX] = "local";
    if (seen->family == ENDPOINT_IPV4 || seen->family == ENDPOINT_IPV6) {
        memcpy(remote.address, seen->address, sizeof remote.address);
        endpoint_format_address(&remote, address);
    }
    json_t *json =
        json_pack("{s:I,s:s,s:s,s:i,s:b,s:b,s:I}", "session", (json_int_t)seen->number, "protocol",
                  protocols[seen->protocol], "address", address, "port", (int)seen->port, "tls",
                  seen->encrypted, "operator", seen->operators, "age_s", (json_int_t)seen->age_s);
    if (json != NULL && seen->user[0] != '\0') {
        json_object_set_new(json, "user", control_text(slice_text(seen->user)));
    }
    return json;
}

static void who_back(struct mailbox_job *job)
{
    const struct who *who = (const struct who *)job;
    for (unsigned i = 0; i < who->count && i < PAGE; i++) {
        job_line(job, seen_json(&who->seen[i]));
    }
    if (who->count > PAGE) {
        job->next = json_integer((json_int_t)who->seen[PAGE - 1].number);
    }
}

void who_ask(struct mailbox_control *control, struct control_request *request,
             const struct mailbox_order *order)
{
    struct mailbox_job *job = job_new(control, request, order, sizeof(struct who));
    if (job != NULL) {
        job->there = who_there;
        job->back = who_back;
        job_tour(job);
    }
}

/* ---- kick ---- */

struct kick {
    struct mailbox_job job; /* first */
    uint64_t now_ns;        /* of the shard that is asked */
    unsigned count;
};

static void kick_one(struct session *session, const char *user, void *owner)
{
    struct kick *kick = (struct kick *)owner;
    if (!session->kicked && is_meant(session, user, &kick->job.order)) {
        session->kicked = true;
        session->kick_deadline_ns = kick->now_ns + KICK_NS;
        kick->count++;
    }
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
    if (again || now_ns < control->kick_until_ns) {
        wheel_arm(mailbox->shard->wheel, timer, now_ns + (again ? KICK_TICK_NS : KICK_LOOK_NS));
    }
}

/* Each shard looks for those that are kicked, for as long as one may come to it: who is logging in goes to his user's shard, and
 * he is kicked there still. */
static void kick_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct kick *kick = (struct kick *)job;
    unsigned before = kick->count;
    kick->now_ns = mailbox->shard->now_ns;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions;
         node = node->next) {
        struct session *session = session_of(node);
        kick_one(session, user_of(session), kick);
    }
    session_passing_visit(mailbox->group, kick_one, kick);
    mailbox->counters.kicked += kick->count - before;
    mailbox->control->kick_until_ns = mailbox->shard->now_ns + 2 * KICK_NS;
    wheel_arm(mailbox->shard->wheel, &mailbox->control->kick_timer, mailbox->shard->now_ns);
    job_go_on(job);
}

static void kick_back(struct mailbox_job *job)
{
    unsigned count = ((const struct kick *)job)->count;
    if (count == 0) {
        job_refuse(job, "not-found", "there is no such session");
    } else {
        job_line(job, json_pack("{s:I}", "kicked", (json_int_t)count));
    }
}

void kick_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order)
{
    if (order->user[0] == '\0' && !order->has_network && !order->has_session) {
        control_finish_error(request, "bad-request", "expected user, network or session");
        return;
    }
    struct mailbox_job *job = job_new(control, request, order, sizeof(struct kick));
    if (job != NULL) {
        job->there = kick_there;
        job->back = kick_back;
        job_tour(job);
    }
}
