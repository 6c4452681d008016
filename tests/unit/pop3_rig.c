#include "tests/unit/pop3_rig.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

static const struct endpoint door_address = {.family = ENDPOINT_IPV4, .port = 110};

/* ---- The shard ---- */

static uint64_t world_now(void *self)
{
    return ((struct pop3_rig *)self)->store.rig.now_ns;
}

static int64_t world_wall(void *self)
{
    return (int64_t)((struct pop3_rig *)self)->store.wall_s;
}

static void world_no_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static unsigned network_poll(void *self, uint64_t now_ns)
{
    return ((struct network *)self)->ops->poll((struct network *)self, now_ns);
}

static unsigned secure_poll(void *self, uint64_t now_ns)
{
    return tls_poll((struct tls *)self, now_ns);
}

static unsigned login_poll(void *self, uint64_t now_ns)
{
    const struct pop3_rig *rig = (const struct pop3_rig *)self;
    (void)now_ns;
    return rig->logins_round == NULL ? 0 : rig->logins_round(rig->mailbox.logins);
}

static void shard_make(struct pop3_rig *rig)
{
    rig->world = (struct world){world_now, world_wall, world_no_random, rig};
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    struct shard_settings settings = {
        .count = 1, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    check(shard_open(&rig->shard, &settings) == 0);
    shard_add(&rig->shard,
              &(struct shard_part){.name = "network", .self = rig->network, .poll = network_poll});
    if (rig->tls != NULL) {
        shard_add(&rig->shard,
                  &(struct shard_part){.name = "tls", .self = rig->tls->tls, .poll = secure_poll});
    }
    shard_add(&rig->shard, &(struct shard_part){.name = "login", .self = rig, .poll = login_poll});
}

/* ---- Life ---- */

void pop3_rig_open(struct pop3_rig *rig, size_t room, struct tls_rig *tls)
{
    struct conf_report report;
    *rig = (struct pop3_rig){.tls = tls};
    mailstore_rig_open(&rig->store, 7);
    rig->store.rig.now_ns = 1000000000;
    check(mailstore_rig_start(&rig->store) == 0);
    rig->network = tls != NULL ? tls->network : fake_network_open(room);
    shard_make(rig);
    check(mailboxd_conf_load(&rig->conf, NULL, "mail.test", &report) == 0);
    rig->mailbox = (struct mailbox){.conf = rig->conf,
                                    .shard = &rig->shard,
                                    .network = rig->network,
                                    .texts = rig->store.store,
                                    .tls = tls != NULL ? tls->tls : NULL,
                                    .tls_server = tls != NULL ? tls->server : NULL};
    mailbox_stand_alone(&rig->mailbox);
    list_init(&rig->mailbox.sessions);
    list_init(&rig->clients);
    rig->door = (struct mailbox_door){.mailbox = &rig->mailbox, .tls = CONF_TLS_OFF};
}

void pop3_rig_listen(struct pop3_rig *rig,
                     void (*accepted)(void *, struct listener *, struct stream *))
{
    const struct listen_request request = {
        .at = door_address, .accepted = accepted, .owner = &rig->door};
    check(rig->network->ops->listen(rig->network, &request, &rig->door.listener) == 0);
}

static void sessions_abort(struct pop3_rig *rig)
{
    while (!list_empty(&rig->mailbox.sessions)) {
        struct session *session = list_entry(rig->mailbox.sessions.next, struct session, node);
        check(session->ops->abort(session));
    }
    check(rig->mailbox.counters.sessions == 0);
    seats_close(&rig->mailbox.seats);
    mailbox_group_close(rig->mailbox.group);
}

void pop3_rig_close(struct pop3_rig *rig)
{
    sessions_abort(rig);
    for (struct list_node *node; (node = list_pop(&rig->clients)) != NULL;) {
        struct pop3_client *client = list_entry(node, struct pop3_client, node);
        stream_release(client->stream);
        free(client->heard);
        free(client);
    }
    pop3_rig_run(rig);
    check(fake_network_streams(rig->network) == 0);
    mailstore_rig_stop(&rig->store);
    mailstore_rig_close(&rig->store);
    rig->network->ops->unlisten(rig->network, rig->door.listener);
    if (rig->tls == NULL) {
        rig->network->ops->close(rig->network);
    }
    shard_close(&rig->shard);
    mailboxd_conf_free(rig->conf);
}

void pop3_rig_restart(struct pop3_rig *rig)
{
    check(list_empty(&rig->mailbox.sessions));
    mailstore_rig_stop(&rig->store);
    check(mailstore_rig_start(&rig->store) == 0);
    rig->mailbox.texts = rig->store.store;
}

void pop3_rig_crash(struct pop3_rig *rig)
{
    sessions_abort(rig);
    mailstore_rig_crash(&rig->store);
    check(mailstore_rig_start(&rig->store) == 0);
    rig->mailbox.texts = rig->store.store;
}

unsigned pop3_rig_round(struct pop3_rig *rig)
{
    mailstore_rig_round(&rig->store);
    return shard_round(&rig->shard);
}

void pop3_rig_run(struct pop3_rig *rig)
{
    unsigned idle = 0;
    for (int round = 0; round < 200000; round++) {
        bool busy = pop3_rig_round(rig) > 0 || !mailstore_is_quiet(rig->store.store) ||
                    !log_is_quiet(rig->store.rig.log) ||
                    disk_fault_pending(rig->store.rig.fault) > 0;
        idle = busy ? 0 : idle + 1;
        if (idle == 3) {
            return;
        }
    }
    check(!"it never came to rest");
}

void pop3_rig_pass(struct pop3_rig *rig, uint64_t seconds)
{
    rig->store.rig.now_ns += seconds * 1000000000ull;
    pop3_rig_run(rig);
}

/* ---- The store's side ---- */

uint32_t pop3_rig_deliver(struct pop3_rig *rig, const char *user, struct slice text)
{
    struct mailstore_place place = {.user = slice_text(user)};
    struct mailstore_draft *draft;
    struct told told;
    while (mailstore_begin(rig->store.store, &draft) == -EAGAIN) {
        mailstore_rig_round(&rig->store);
    }
    while (text.size > 0) {
        struct slice part = slice_first(text, 65536);
        int status = mailstore_append(draft, &part, 1);
        if (status == -EAGAIN) {
            mailstore_rig_round(&rig->store);
            continue;
        }
        check(status == 0);
        text = slice_from(text, part.size);
    }
    check(mailstore_commit(draft, 0, &place, 1, told_init(&told)) == 0);
    check(told_wait(&rig->store, &told) == 0 && place.status == 0);
    return place.uid;
}

static struct mailstore_box *inbox_open(struct pop3_rig *rig, const char *name,
                                        struct mailstore_user **user)
{
    struct told told;
    check(mailstore_user_open(rig->store.store, slice_text(name), user) == 0);
    if (mailstore_has_maildirs(rig->store.store)) {
        check(mailstore_refresh(rig->store.store, *user, told_init(&told)) == 0);
        check(told_wait(&rig->store, &told) == 0);
    }
    struct mailstore_box *box = mailstore_box_find(*user, slice_text("INBOX"));
    check(box != NULL && mailstore_box_open(rig->store.store, box) == 0);
    return box;
}

static void inbox_close(struct pop3_rig *rig, struct mailstore_box *box,
                        struct mailstore_user *user)
{
    mailstore_box_close(rig->store.store, box);
    mailstore_user_close(rig->store.store, user);
}

void pop3_rig_expunge(struct pop3_rig *rig, const char *name, uint32_t uid)
{
    struct mailstore_user *user;
    struct told told;
    struct mailstore_box *box = inbox_open(rig, name, &user);
    const struct mailstore_uids uids = {uid, uid};
    struct mailstore_expunge expunge = {.uids = &uids, .uid_count = 1};
    check(mailstore_expunge(rig->store.store, box, &expunge, told_init(&told)) == 0);
    check(told_wait(&rig->store, &told) == 0 && expunge.expunged_count == 1);
    inbox_close(rig, box, user);
}

uint32_t pop3_rig_count(struct pop3_rig *rig, const char *name)
{
    struct mailstore_user *user;
    struct mailstore_box *box = inbox_open(rig, name, &user);
    uint32_t count = box->count;
    inbox_close(rig, box, user);
    return count;
}

int pop3_rig_flags(struct pop3_rig *rig, const char *name, uint32_t uid)
{
    struct mailstore_user *user;
    struct mailstore_box *box = inbox_open(rig, name, &user);
    const struct mailstore_entry *entry = mailstore_entry_find(box, uid);
    int flags = entry == NULL ? -1 : (int)entry->flags;
    inbox_close(rig, box, user);
    return flags;
}

uint32_t pop3_rig_uidvalidity(struct pop3_rig *rig, const char *name)
{
    struct mailstore_user *user;
    struct mailstore_box *box = inbox_open(rig, name, &user);
    uint32_t uidvalidity = box->uidvalidity;
    inbox_close(rig, box, user);
    return uidvalidity;
}

/* ---- A client ---- */

static void hear(struct pop3_client *client)
{
    struct slice piece;
    while (!client->deaf && stream_peek(client->stream, &piece, 1) == 1) {
        if (client->heard_bytes + piece.size + 1 > client->room) {
            client->room = (client->heard_bytes + piece.size + 1) * 2;
            client->heard = (char *)realloc(client->heard, client->room);
            check(client->heard != NULL);
        }
        memcpy(client->heard + client->heard_bytes, piece.bytes, piece.size);
        client->heard_bytes += piece.size;
        client->heard[client->heard_bytes] = '\0';
        stream_consume(client->stream, piece.size);
    }
}

static void client_notified(struct stream *stream, uint32_t events, void *owner)
{
    struct pop3_client *client = (struct pop3_client *)owner;
    hear(client);
    client->closed = client->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
    client->reset = client->reset || ((events & STREAM_CLOSED) != 0 && stream->error != 0);
}

struct pop3_client *pop3_client_connect(struct pop3_rig *rig)
{
    const struct connect_request request = {.to = door_address};
    struct pop3_client *client = (struct pop3_client *)calloc(1, sizeof(*client));
    check(client != NULL);
    list_init(&client->node);
    list_append(&rig->clients, &client->node);
    client->room = 256;
    client->heard = (char *)calloc(1, client->room);
    check(rig->network->ops->connect(rig->network, &request, &client->stream) == 0);
    client->stream->notify = client_notified;
    client->stream->session = client;
    return client;
}

void pop3_client_say(struct pop3_client *client, const char *text)
{
    check(stream_write(client->stream, slice_text(text)) == 0);
}

const char *pop3_client_talk(struct pop3_rig *rig, struct pop3_client *client, const char *text)
{
    client->heard_bytes = 0;
    client->heard[0] = '\0';
    if (text[0] != '\0') {
        pop3_client_say(client, text);
    }
    pop3_rig_run(rig);
    return client->heard;
}

void pop3_client_secure(struct pop3_rig *rig, struct pop3_client *client)
{
    const struct tls_peer peer = {.context = rig->tls->client};
    struct stream *made;
    check(tls_connect(rig->tls->tls, client->stream, &peer, &made) == 0);
    made->notify = client_notified;
    made->session = client;
    client->stream = made;
}

void pop3_client_listen(struct pop3_client *client)
{
    client->deaf = false;
    hear(client);
}
