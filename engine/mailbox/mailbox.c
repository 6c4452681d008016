#include "engine/mailbox/mailbox.h"
#include "engine/auth/login.h"
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/delivery_quota.h"
#include "engine/mailbox/delivery_store.h"
#include "engine/mailbox/mailbox_control.h"
#include "engine/mailbox/mailbox_private.h"
#include "engine/mailbox/mailbox_store.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/remembered.h"
#include "engine/mailbox/search_desk.h"
#include "engine/mailbox/session.h"
#include "engine/mailbox/sieve_scripts.h"
#include "queue/mailbox/mailstore_audit.h"
#include "queue/mailbox/user_name.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HOPS_MAX 100           /* Received: fields; more is a loop */
#define JUNK_COMMANDS_MAX 1000 /* of a connection, that bring no mail forward */
#define DRAIN_TICK_NS (20ull * 1000000ull)
#define SIEVE_PROGRAMS_MAX 256 /* that are kept compiled */
#define DRAIN_QUIET_TICKS 3    /* what was written last is on its way by then */

/* ---- parts of the shard's round ---- */

static unsigned store_poll(void *self, uint64_t now_ns)
{
    (void)now_ns;
    return maildir_reap(((struct mailbox *)self)->store);
}

static void store_flush(void *self, uint64_t now_ns)
{
    (void)now_ns;
    maildir_flush(((struct mailbox *)self)->store);
}

/* The writer thread wakes the shard itself. */
static void store_wake(void *owner)
{
    shard_wake(((struct mailbox *)owner)->shard);
}

void mailbox_add_parts(struct mailbox *mailbox)
{
    if (mailbox->tls != NULL) {
        mailbox_tls_add_part(&mailbox->secure);
    }
    if (mailbox->crossing != NULL) {
        crossing_add_part(mailbox->crossing);
    }
    if (mailbox->store != NULL) {
        shard_add(mailbox->shard, &(struct shard_part){.name = "maildirs",
                                                       .self = mailbox,
                                                       .poll = store_poll,
                                                       .flush = store_flush});
    }
    if (mailbox->own != NULL) {
        mailbox_store_add_part(mailbox->own);
    }
}

/* ---- life ---- */

static uint32_t clamped(uint64_t number)
{
    return number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

static void take_conf(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    mailbox->conf = conf;
    mailbox->pop3_shared = conf->pop3.shared;
    /* Lines and headers are bounded by the message alone: whoever sent it here has judged them, and refusing it now
     * would only make a bounce. Nothing of it is kept in memory. */
    mailbox->lmtp_settings = (struct smtp_server_settings){
        .hostname = slice_text(conf->hostname),
        .lmtp = true,
        .message_bytes_max = conf->limits.message_bytes,
        .recipients_max = conf->limits.recipients,
        .errors_max = conf->limits.errors,
        .junk_max = JUNK_COMMANDS_MAX,
        .line_bytes_max = clamped(conf->limits.message_bytes),
        .header_bytes_max = clamped(conf->limits.message_bytes),
        .header_lines_max = clamped(conf->limits.message_bytes),
        .hops_max = HOPS_MAX,
        .command_ns = conf->timeouts.command,
        .data_ns = conf->timeouts.data,
        .octet_ns = smtp_octet_ns(conf->limits.data_rate_min),
        .pipelining = true,
        .chunking = true,
        .smtputf8 = true,
    };
}

static struct session *session_of_node(struct list_node *node)
{
    return list_entry(node, struct session, node);
}

static bool is_quiet(const struct mailbox *mailbox)
{
    return list_empty(&mailbox->sessions) && atomic_load(&mailbox->group->sessions) == 0 &&
           atomic_load(&mailbox->group->placings) == 0 &&
           (mailbox->crossing == NULL || crossing_is_quiet(mailbox->crossing)) &&
           (mailbox->outgoing == NULL || outgoing_is_quiet(mailbox->outgoing));
}

static void drain_tick(struct timer *timer, uint64_t now_ns)
{
    struct mailbox *mailbox = list_entry(timer, struct mailbox, drain_timer);
    struct list_node *next;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions; node = next) {
        struct session *session = session_of_node(node);
        next = node->next;
        if (now_ns >= mailbox->drain_deadline_ns) {
            session->ops->abort(session);
        } else {
            session->ops->drain(session);
        }
    }
    if (mailbox->outgoing != NULL && now_ns >= mailbox->drain_deadline_ns) {
        outgoing_abort(mailbox->outgoing);
    }
    if (mailbox->texts != NULL) {
        mailstore_audit_cancel(mailbox->texts);
    }
    /* Behind the deadline only the store's disk is waited for: a store that fails never tells some of who wait. */
    bool late = now_ns >= mailbox->drain_deadline_ns;
    mailbox->quiet_ticks = late || is_quiet(mailbox) ? mailbox->quiet_ticks + 1 : 0;
    if (mailbox->quiet_ticks >= DRAIN_QUIET_TICKS &&
        (late || mailbox->control == NULL || mailbox_control_is_quiet(mailbox->control)) &&
        (mailbox->own == NULL || mailbox_store_rest(mailbox->own))) {
        mailbox->drained(mailbox->owner);
        return;
    }
    wheel_arm(mailbox->shard->wheel, timer, now_ns + DRAIN_TICK_NS);
}

static int maildirs_open(struct mailbox *mailbox, const struct mailbox_settings *settings)
{
    const struct mailboxd_conf *conf = settings->conf;
    struct logger *logger = mailbox->shard->logger;
    const struct maildir_settings store = {
        .path = conf->store.path,
        .hostname = conf->hostname,
        .world = settings->shard->world,
        .files = settings->files,
        .driven = settings->driven,
        .process_id = settings->process_id,
        .shard = mailbox_index(mailbox),
        .durable = conf->store.durability == CONF_DURABILITY_COMMIT,
        .pending_bytes_max = conf->limits.pending_bytes / mailbox->group->count,
        .quota_bytes = settings->stateless ? conf->users.quota_bytes : 0,
        .wake = store_wake,
        .owner = mailbox,
    };
    int status = maildir_open(&mailbox->store, &store);
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "store: %s cannot be used: %s", conf->store.path,
                    status == -EBUSY ? "another process has it" : strerror(-status));
    }
    return status;
}

static struct outgoing_conf outgoing_conf_of(const struct mailboxd_conf *conf)
{
    return (struct outgoing_conf){.hostname = slice_text(conf->hostname),
                                  .relay = conf->sieve.relay,
                                  .keep_trying_ns = conf->sieve.keep_trying};
}

static int sieve_open(struct mailbox *mailbox)
{
    const struct outgoing_settings settings = {
        .shard = mailbox->shard, .network = mailbox->network, .store = mailbox->texts};
    const struct outgoing_conf conf = outgoing_conf_of(mailbox->conf);
    int status = sieve_scripts_open(&mailbox->scripts, mailbox->texts, SIEVE_PROGRAMS_MAX);
    status = status == 0 ? remembered_open(&mailbox->remembered, mailbox->texts) : status;
    status = status == 0 ? outgoing_open(&mailbox->outgoing, &settings, &conf) : status;
    if (status != 0) {
        remembered_close(mailbox->remembered);
        sieve_scripts_close(mailbox->scripts);
    }
    return status;
}

static void sieve_close(struct mailbox *mailbox)
{
    outgoing_close(mailbox->outgoing);
    remembered_close(mailbox->remembered);
    sieve_scripts_close(mailbox->scripts);
}

/* Search does without, when it cannot be had. */
static void searches_open(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    char folder[MAILBOX_STORE_PATH_BYTES];
    const struct search_desk_settings settings = {
        .shard = mailbox->shard,
        .texts = mailbox->texts,
        .folder = folder,
        .log_id = mailbox_store_id(mailbox->own),
    };
    if (!conf->search.index) {
        return;
    }
    int status = mailbox_store_path(conf, mailbox->shard, "search", folder);
    status = status == 0 ? search_desk_open(&mailbox->searches, &settings) : status;
    if (status != 0) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "search: %s cannot be used: %s: SEARCH reads messages", folder,
                    strerror(-status));
    }
}

/* Where there are several shards main has done it. */
static int folder_claim(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    mailbox->folder = -1;
    if (mailbox->crossing != NULL) {
        return 0;
    }
    int status = mailbox_store_claim(conf, mailbox->shard->logger);
    mailbox->folder = status < 0 ? -1 : status;
    return status < 0 ? status : 0;
}

static void folder_leave(struct mailbox *mailbox)
{
    if (mailbox->folder >= 0) {
        close(mailbox->folder);
        mailbox->folder = -1;
    }
}

struct finding {
    struct mailbox *mailbox;
    int status;
};

static void user_found(void *owner, struct slice name)
{
    struct finding *finding = (struct finding *)owner;
    const struct mailbox *mailbox = finding->mailbox;
    char user[USER_NAME_BYTES];
    if (name.size < sizeof user && name.bytes[0] != '.' && finding->status == 0) {
        memcpy(user, name.bytes, name.size);
        user[name.size] = '\0';
        finding->status = mailbox_group_found(mailbox->group, mailbox_index(mailbox), user);
    }
}

/* Whose mail lies here, where the others must know. */
static int users_find(struct mailbox *mailbox)
{
    struct finding finding = {.mailbox = mailbox};
    int status =
        mailbox->crossing == NULL ? 0 : mailstore_each_user(mailbox->texts, user_found, &finding);
    if (status == 0 && mailbox->crossing != NULL) { /* in doubt it is asked each time */
        mailbox->group->shares[mailbox_index(mailbox)] = mailstore_has_shared(mailbox->texts) != 0;
    }
    return status == 0 ? finding.status : status;
}

static void maildirs_close(struct mailbox *mailbox)
{
    if (mailbox->store != NULL) {
        maildir_close(mailbox->store);
    }
}

/* What goes over the store, when it is there. */
static int texts_open(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    mailbox->texts = mailbox_store_texts(mailbox->own);
    carriages_sweep(mailbox);
    int status = users_find(mailbox);
    status = status == 0 ? sieve_open(mailbox) : status;
    if (status == 0 && mailbox->store != NULL) {
        status = quota_ledger_open(&mailbox->quotas, mailbox);
        if (status != 0) {
            sieve_close(mailbox);
        }
    }
    if (status == 0) {
        searches_open(mailbox, conf);
    }
    return status;
}

static int own_open(struct mailbox *mailbox, const struct mailbox_settings *settings)
{
    const struct mailboxd_conf *conf = settings->conf;
    const struct mailbox_store_files files = {
        .files = settings->files, .process_id = settings->process_id, .driven = settings->driven};
    int status = mailbox_store_open(&mailbox->own, conf, mailbox->shard,
                                    mailbox->store != NULL ? &files : NULL);
    if (status != 0) {
        return status;
    }
    status = texts_open(mailbox, conf);
    if (status != 0) {
        mailbox_store_close(mailbox->own);
    }
    return status;
}

/* The folder is claimed first: nothing is touched that is another's. */
static int store_open(struct mailbox *mailbox, const struct mailbox_settings *settings)
{
    bool in_log = settings->conf->store.format == CONF_STORE_LOG;
    if (!in_log && settings->stateless) {
        return maildirs_open(mailbox, settings);
    }
    int status = folder_claim(mailbox, settings->conf);
    status = status == 0 && !in_log ? maildirs_open(mailbox, settings) : status;
    if (status != 0) {
        folder_leave(mailbox);
        return status;
    }
    status = own_open(mailbox, settings);
    if (status != 0) {
        folder_leave(mailbox);
        maildirs_close(mailbox);
    }
    return status;
}

static int secure_open(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    int status =
        mailbox_tls_open(&mailbox->secure, mailbox->shard, conf, mailbox->group->ticket_secret);
    mailbox->tls = mailbox->secure.tls;
    mailbox->tls_server = mailbox->secure.server;
    return status;
}

/* Nobody has a mailbox whose name cannot be that of a folder. */
static bool has_mailbox_name(const char *user)
{
    char name[USER_NAME_BYTES];
    return user_name_of_mailbox(slice_text(user), name) == 0;
}

static int logins_open(struct mailbox *mailbox, const struct mailbox_settings *settings)
{
    return settings->auth == NULL ? 0
                                  : auth_service_desk(settings->auth, mailbox->shard,
                                                      has_mailbox_name, &mailbox->logins);
}

static void others_close(struct mailbox *mailbox)
{
    if (mailbox->logins != NULL) {
        login_desk_close(mailbox->logins);
    }
    mailbox_tls_close(&mailbox->secure);
}

static void group_join(struct mailbox *mailbox, const struct mailbox_settings *settings)
{
    mailbox->group = settings->group;
    mailbox->crossing = settings->crossing;
    if (mailbox->group == NULL) {
        mailbox_stand_alone(mailbox);
    }
    mailbox->group->members[mailbox_index(mailbox)] = mailbox;
}

static void group_leave(struct mailbox *mailbox)
{
    if (mailbox->group == &mailbox->alone) {
        mailbox_group_close(&mailbox->alone);
    } else {
        mailbox->group->members[mailbox_index(mailbox)] = NULL;
    }
}

int mailbox_open(struct mailbox **made, const struct mailbox_settings *settings)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL) {
        return -ENOMEM;
    }
    mailbox->shard = settings->shard;
    mailbox->network = settings->network;
    mailbox->auth = settings->auth;
    mailbox->drained = settings->drained;
    mailbox->owner = settings->owner;
    timer_init(&mailbox->drain_timer, drain_tick);
    list_init(&mailbox->sessions);
    list_init(&mailbox->parts);
    list_init(&mailbox->carriages);
    world_random(mailbox->shard->world, &mailbox->seats.key, sizeof mailbox->seats.key);
    group_join(mailbox, settings);
    take_conf(mailbox, settings->conf);
    int status =
        mailboxd_conf_has_logins(settings->conf) ? secure_open(mailbox, settings->conf) : 0;
    status = status == 0 ? logins_open(mailbox, settings) : status;
    status = status == 0 ? store_open(mailbox, settings) : status;
    if (status < 0) {
        others_close(mailbox);
        group_leave(mailbox);
        free(mailbox);
        return status;
    }
    if (settings->conf->store.durability != CONF_DURABILITY_COMMIT) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "store: durability is none: 250 does NOT mean that a message survives a crash");
    }
    *made = mailbox;
    return 0;
}

/* ---- listeners ---- */

static const struct protocol {
    const char *name;
    void (*accepted)(void *door, struct listener *listener, struct stream *stream);
} protocols[] = {
    [CONF_PROTOCOL_SMTP] = {"smtp", NULL}, /* not of this service */
    [CONF_PROTOCOL_LMTP] = {"lmtp", delivery_accepted},
    [CONF_PROTOCOL_IMAP] = {"imap", imap_accepted},
    [CONF_PROTOCOL_POP3] = {"pop3", pop3_accepted},
    [CONF_PROTOCOL_SIEVE] = {"sieve", managesieve_accepted},
    [CONF_PROTOCOL_AUTH] = {"auth", auth_socket_accepted},
};

/* A path can be bound once, and connections of Dovecot's protocol are of one mind. */
static bool is_for_first(const struct conf_listener *conf, const struct endpoint *at)
{
    return at->family == ENDPOINT_UNIX || conf->protocol == CONF_PROTOCOL_AUTH;
}

/* The first shard's listener on a path gives each shard a connection in turn. Where shards share a port, the kernel does. */
static bool is_dealt_out(const struct mailbox *mailbox, const struct conf_listener *conf,
                         const struct endpoint *at)
{
    return at->family == ENDPOINT_UNIX && conf->protocol != CONF_PROTOCOL_AUTH &&
           mailbox->group->count > 1 && mailbox->network->ops->adopt != NULL;
}

/* A connection on its way to the shard that shall have it. */
struct dealt {
    struct crossing_note note; /* first */
    struct mailbox *to;
    uint32_t door_index;
    int fd;
};

static void dealt_arrives(struct shard_message *message, struct shard *shard)
{
    const struct dealt dealt = *(struct dealt *)(void *)message;
    struct mailbox *mailbox = dealt.to;
    (void)shard;
    free(message);
    if (mailbox->left || dealt.door_index >= mailbox->door_count) {
        close(dealt.fd);
        return;
    }
    struct mailbox_door *door = &mailbox->doors[dealt.door_index];
    const struct listen_request request = {.accepted = door->accepted, .owner = door};
    if (mailbox->network->ops->adopt(mailbox->network, &request, dealt.fd) < 0) {
        mailbox->counters.connections_refused++;
    }
}

static void dealt_dropped(struct shard_message *message)
{
    struct dealt *dealt = (struct dealt *)(void *)message;
    close(dealt->fd);
    free(dealt);
}

/* False: it is this shard's turn, or there is no memory. */
static bool deal_out(void *owner, int fd)
{
    struct mailbox_door *door = (struct mailbox_door *)owner;
    struct mailbox *mailbox = door->mailbox;
    unsigned next = door->dealt++ % mailbox->group->count;
    struct mailbox *to = mailbox->group->members[next];
    struct dealt *dealt = to == mailbox ? NULL : (struct dealt *)calloc(1, sizeof *dealt);
    if (dealt == NULL) {
        return false;
    }
    dealt->note.message = (struct shard_message){.run = dealt_arrives, .dropped = dealt_dropped};
    dealt->to = to;
    dealt->door_index = door->index;
    dealt->fd = fd;
    crossing_send(mailbox->crossing, to->shard, &dealt->note);
    return true;
}

static int listen_at(struct mailbox *mailbox, const struct conf_listener *conf,
                     const struct endpoint *at)
{
    const struct protocol *protocol = &protocols[conf->protocol];
    struct mailbox_door *door = &mailbox->doors[mailbox->door_count];
    *door = (struct mailbox_door){.mailbox = mailbox,
                                  .index = mailbox->door_count,
                                  .protocol = conf->protocol,
                                  .tls = conf->tls,
                                  .accepted = protocol->accepted};
    struct listen_request request = {.at = *at,
                                     .unix_mode = conf->unix_mode,
                                     .accepted = protocol->accepted,
                                     .owner = door,
                                     .elsewhere =
                                         is_dealt_out(mailbox, conf, at) ? deal_out : NULL};
    char text[ENDPOINT_TEXT_MAX];
    size_t size = endpoint_format(at, text);
    if (mailbox_index(mailbox) > 0 && is_for_first(conf, at)) {
        mailbox->door_count++;
        return 0;
    }
    int status = protocol->accepted == NULL
                     ? -EPROTONOSUPPORT
                     : mailbox->network->ops->listen(mailbox->network, &request, &door->listener);
    if (status == 0) {
        mailbox->door_count++;
        if (mailbox_index(mailbox) == 0) { /* once for all shards */
            logger_line(mailbox->shard->logger, LOGGER_INFO, "%s: %s listens on %.*s",
                        protocol->name, conf->name, (int)size, text);
        }
    } else {
        logger_line(mailbox->shard->logger, LOGGER_ERROR, "%s: %s cannot listen on %.*s: %s",
                    protocol->name, conf->name, (int)size, text, strerror(-status));
    }
    return status;
}

int mailbox_listen(struct mailbox *mailbox)
{
    const struct mailboxd_conf *conf = mailbox->conf;
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        count += conf->listen[i].addresses_count;
    }
    mailbox->doors = calloc(count + 1, sizeof *mailbox->doors);
    if (mailbox->doors == NULL) {
        return -ENOMEM;
    }
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < conf->listen_count; i++) {
        for (uint32_t a = 0; status == 0 && a < conf->listen[i].addresses_count; a++) {
            status = listen_at(mailbox, &conf->listen[i], &conf->listen[i].addresses[a]);
        }
    }
    return status;
}

static void unlisten_all(struct mailbox *mailbox)
{
    for (uint32_t i = 0; i < mailbox->door_count; i++) {
        if (mailbox->doors[i].listener != NULL) {
            mailbox->network->ops->unlisten(mailbox->network, mailbox->doors[i].listener);
            mailbox->doors[i].listener = NULL;
        }
    }
}

void mailbox_reload(struct mailbox *mailbox, const struct mailboxd_conf *conf)
{
    take_conf(mailbox, conf);
    if (mailbox->outgoing != NULL) {
        const struct outgoing_conf outgoing = outgoing_conf_of(conf);
        outgoing_reload(mailbox->outgoing, &outgoing);
    }
    if (mailbox->tls != NULL) {
        mailbox_tls_reload(&mailbox->secure, conf);
        mailbox->tls_server = mailbox->secure.server;
    }
}

void mailbox_drain(struct mailbox *mailbox, uint64_t deadline_ns)
{
    mailbox->draining = true;
    if (mailbox->searches != NULL) {
        search_desk_rest(mailbox->searches);
    }
    mailbox->drain_deadline_ns = deadline_ns;
    unlisten_all(mailbox);
    if (mailbox->outgoing != NULL) {
        outgoing_rest(mailbox->outgoing);
    }
    drain_tick(&mailbox->drain_timer, mailbox->shard->now_ns);
}

void mailbox_leave(struct mailbox *mailbox)
{
    if (mailbox->left) {
        return;
    }
    mailbox->left = true;
    unlisten_all(mailbox);
    wheel_disarm(mailbox->shard->wheel, &mailbox->drain_timer);
    struct list_node *next;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions; node = next) {
        struct session *session = session_of_node(node);
        next = node->next;
        session->ops->abort(session);
    }
    if (mailbox->control != NULL) {
        mailbox_control_close(mailbox->control);
        mailbox->control = NULL;
    }
    if (mailbox->outgoing != NULL) {
        outgoing_abort(mailbox->outgoing);
    }
    if (mailbox->crossing != NULL) {
        crossing_abort(mailbox->crossing);
    }
    mailbox_tls_close(&mailbox->secure);
}

static void sessions_forget(struct mailbox *mailbox)
{
    while (!list_empty(&mailbox->sessions)) {
        struct session *session = session_of_node(mailbox->sessions.next);
        session->ops->forget(session);
    }
}

void mailbox_close(struct mailbox *mailbox)
{
    mailbox_leave(mailbox);
    if (mailbox->crossing != NULL) {
        crossing_let_go(mailbox->crossing);
    }
    search_desk_close(mailbox->searches);
    quota_ledger_rest(mailbox->quotas);
    if (mailbox->store != NULL) {
        delivery_parts_rest(mailbox); /* the writer gives nobody room any more */
    }
    maildirs_close(mailbox);
    if (mailbox->own != NULL) {
        mailbox_store_settle(mailbox->own); /* who waited for it has ended, unless it failed: */
    }
    sessions_forget(mailbox);
    delivery_parts_forget(mailbox);
    quota_ledger_close(mailbox->quotas);
    if (mailbox->own != NULL) {
        carriages_close(mailbox);
        sieve_close(mailbox); /* what waited for a look has run some scripts */
        mailbox_store_close(mailbox->own);
        folder_leave(mailbox);
    }
    others_close(mailbox);
    seats_close(&mailbox->seats);
    group_leave(mailbox);
    free(mailbox->doors);
    free(mailbox);
}

void mailbox_listen_control(struct mailbox *mailbox)
{
    const struct mailboxd_conf *conf = mailbox->conf;
    int status = mailbox_control_open(&mailbox->control, mailbox);
    if (status < 0) {
        mailbox->control = NULL;
        logger_line(mailbox->shard->logger, LOGGER_WARNING, "control: %s: %s", conf->control.path,
                    strerror(-status));
    }
}

const struct mailbox_counters *mailbox_counters(const struct mailbox *mailbox)
{
    return &mailbox->counters;
}

bool mailbox_knows(const struct mailbox *mailbox, const char *user)
{
    const struct mailboxd_conf *conf = mailbox->conf;
    for (uint32_t i = 0; !conf->users.any && i < conf->users.known_count; i++) {
        if (slice_equal_nocase(slice_text(user), slice_text(conf->users.known[i]))) {
            return true;
        }
    }
    return conf->users.any;
}
