#include "tests/unit/shards_rig.h"
#include "engine/core/check.h"
#include "engine/mailbox/delivery_spread.h"
#include "tests/unit/fake_network.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct crossing { /* one that only knows whose it is */
    unsigned shard;
};

struct shards_rig shards_rig;
static struct crossing crossings[SHARDS_RIG_MAX] = {{0}, {1}, {2}};
static const struct endpoint door_address = {.family = ENDPOINT_IPV4, .port = 24};

/* ---- Notes ---- */

void __wrap_crossing_send(struct crossing *crossing, struct shard *to, struct crossing_note *note)
{
    struct shards_rig_shard *receiver = &shards_rig.shards[to->settings.index];
    unsigned from = crossing->shard;
    note->next = NULL;
    *receiver->last[from] = note;
    receiver->last[from] = &note->next;
    shards_rig.notes++;
}

static struct crossing_note *note_take(struct shards_rig_shard *receiver, unsigned from)
{
    struct crossing_note *note = receiver->first[from];
    if (note != NULL) {
        receiver->first[from] = note->next;
        receiver->last[from] = note->next == NULL ? &receiver->first[from] : receiver->last[from];
    }
    return note;
}

static void note_run(struct shards_rig_shard *receiver, struct crossing_note *note)
{
    bool watched = shards_rig.part_begins != NULL && note->message.run == delivery_part_begin;
    if (watched) {
        *shards_rig.part_begins = true;
    }
    note->message.run(&note->message, &receiver->shard);
    if (watched) {
        *shards_rig.part_begins = false;
    }
}

static unsigned notes_run(struct shards_rig_shard *receiver)
{
    unsigned count = 0;
    for (unsigned from = 0; from < shards_rig.count; from++) {
        bool late = shards_rig_below(100) < shards_rig.late_percent;
        for (unsigned most = late ? shards_rig_below(3) : 64; most > 0; most--) {
            struct crossing_note *note = note_take(receiver, from);
            if (note == NULL) {
                break;
            }
            note_run(receiver, note);
            count++;
        }
    }
    return count;
}

static void notes_drop(struct shards_rig_shard *receiver)
{
    for (unsigned from = 0; from < shards_rig.count; from++) {
        for (struct crossing_note *note; (note = note_take(receiver, from)) != NULL;) {
            if (note->message.dropped != NULL) {
                note->message.dropped(&note->message);
            }
        }
    }
}

unsigned shards_rig_notes(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < shards_rig.count; i++) {
        for (unsigned from = 0; !shards_rig.shards[i].ended && from < shards_rig.count; from++) {
            for (const struct crossing_note *note = shards_rig.shards[i].first[from]; note != NULL;
                 note = note->next) {
                count++;
            }
        }
    }
    return count;
}

/* ---- Life ---- */

uint32_t shards_rig_below(uint32_t limit)
{
    shards_rig.random ^= shards_rig.random << 13;
    shards_rig.random ^= shards_rig.random >> 7;
    shards_rig.random ^= shards_rig.random << 17;
    return (uint32_t)((shards_rig.random >> 11) % limit);
}

static uint64_t world_now(void *self)
{
    return ((struct shards_rig_shard *)self)->store.rig.now_ns;
}

static int64_t world_wall(void *self)
{
    return (int64_t)((struct shards_rig_shard *)self)->store.wall_s;
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

static void mailbox_make(struct shards_rig_shard *one, unsigned index)
{
    one->mailbox = (struct mailbox){.conf = shards_rig.conf,
                                    .shard = &one->shard,
                                    .network = shards_rig.network,
                                    .texts = one->store.store,
                                    .group = &shards_rig.group,
                                    .crossing = &crossings[index]};
    one->mailbox.lmtp_settings = (struct smtp_server_settings){.hostname = slice_text("mail.test"),
                                                               .lmtp = true,
                                                               .recipients_max = 1000,
                                                               .command_ns = 3600000000000ull,
                                                               .data_ns = 3600000000000ull,
                                                               .pipelining = true,
                                                               .smtputf8 = true};
    list_init(&one->mailbox.sessions);
    list_init(&one->mailbox.parts);
    shards_rig.group.members[index] = &one->mailbox;
}

static void shard_make(unsigned index, uint64_t seed,
                       void (*change)(unsigned shard, struct mailstore_rig *store))
{
    struct shards_rig_shard *one = &shards_rig.shards[index];
    mailstore_rig_open(&one->store, seed * SHARDS_RIG_MAX + index);
    one->store.rig.settings.shard = index;
    one->store.rig.now_ns = 1000000000;
    if (change != NULL) {
        change(index, &one->store);
        disk_fault_set(one->store.rig.fault, &one->store.rig.fault_settings);
    }
    check(mailstore_rig_start(&one->store) == 0);
    one->world = (struct world){world_now, world_wall, world_no_random, one};
    const struct shard_settings settings = {.index = index,
                                            .count = shards_rig.count,
                                            .cpu = -1,
                                            .world = &one->world,
                                            .logger = &shards_rig.logger};
    check(shard_open(&one->shard, &settings) == 0);
    if (index == 0) {
        shard_add(&one->shard, &(struct shard_part){.name = "network",
                                                    .self = shards_rig.network,
                                                    .poll = network_poll});
    }
    for (unsigned from = 0; from < SHARDS_RIG_MAX; from++) {
        one->last[from] = &one->first[from];
    }
    mailbox_make(one, index);
}

/* Names whose hash says that they are of this shard. */
static void users_find(void)
{
    unsigned found[SHARDS_RIG_MAX] = {0};
    for (unsigned number = 0, full = 0; full < shards_rig.count; number++) {
        char name[16];
        snprintf(name, sizeof name, "user%u", number);
        unsigned shard = mailbox_group_shard(&shards_rig.group, name);
        if (found[shard] < SHARDS_RIG_USERS) {
            strcpy(shards_rig.shards[shard].users[found[shard]++], name);
            full += found[shard] == SHARDS_RIG_USERS;
        }
    }
}

void shards_rig_open(unsigned count, uint64_t seed,
                     void (*change)(unsigned shard, struct mailstore_rig *store))
{
    const struct world world = {.random = world_no_random};
    struct conf_report report;
    shards_rig = (struct shards_rig){.count = count, .random = seed * 2 + 1};
    logger_open(&shards_rig.logger, -1, LOGGER_ERROR);
    check(mailboxd_conf_load(&shards_rig.conf, NULL, "mail.test", &report) == 0);
    shards_rig.network = fake_network_open(65536);
    mailbox_group_open(&shards_rig.group, count, &world);
    for (unsigned i = 0; i < count; i++) {
        shard_make(i, seed, change);
    }
    users_find();
    shards_rig.door = (struct mailbox_door){.mailbox = &shards_rig.shards[0].mailbox};
    const struct listen_request request = {
        .at = door_address, .accepted = delivery_accepted, .owner = &shards_rig.door};
    check(shards_rig.network->ops->listen(shards_rig.network, &request,
                                          &shards_rig.door.listener) == 0);
}

static void nobody_wakes(void *owner)
{
    (void)owner;
}

void shards_rig_maildirs(size_t pending_bytes)
{
    snprintf(shards_rig.maildirs, sizeof shards_rig.maildirs, "/tmp/tubepost-shards-XXXXXX");
    check(mkdtemp(shards_rig.maildirs) != NULL);
    maildir_system_files(&shards_rig.files);
    for (unsigned i = 0; i < shards_rig.count; i++) {
        struct shards_rig_shard *one = &shards_rig.shards[i];
        const struct maildir_settings settings = {.path = shards_rig.maildirs,
                                                  .hostname = "mail.test",
                                                  .world = &one->world,
                                                  .files = &shards_rig.files,
                                                  .driven = true,
                                                  .process_id = 77,
                                                  .shard = i,
                                                  .durable = true,
                                                  .pending_bytes_max = pending_bytes,
                                                  .wake = nobody_wakes};
        check(maildir_open(&one->mailbox.store, &settings) == 0);
    }
}

static unsigned maildirs_round(struct maildir *store)
{
    maildir_flush(store);
    if (!shards_rig.writers_stand) {
        maildir_write(store);
    }
    return maildir_reap(store);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status, (void)type, (void)at;
    return remove(path);
}

void shards_rig_end(unsigned index)
{
    struct mailbox *mailbox = &shards_rig.shards[index].mailbox;
    struct list_node *next;
    for (struct list_node *node = mailbox->sessions.next; node != &mailbox->sessions; node = next) {
        struct session *session = list_entry(node, struct session, node);
        next = node->next;
        session->ops->abort(session);
    }
    if (mailbox->store != NULL) {
        delivery_parts_rest(mailbox);
        maildir_close(mailbox->store);
    }
    mailstore_rig_settle(&shards_rig.shards[index].store);
    while (!list_empty(&mailbox->sessions)) {
        struct session *session = list_entry(mailbox->sessions.next, struct session, node);
        session->ops->forget(session);
    }
    delivery_parts_forget(mailbox);
    check(list_empty(&mailbox->parts) && mailbox->spread_count == 0 && mailbox->kept_bytes == 0);
    check(mailstore_counters(mailbox->texts)->drafts == 0);
    shards_rig.shards[index].ended = true;
}

void shards_rig_close(void)
{
    for (unsigned i = 0; i < shards_rig.count; i++) {
        if (!shards_rig.shards[i].ended) {
            shards_rig_end(i);
        }
    }
    for (unsigned i = 0; i < shards_rig.count; i++) {
        notes_drop(&shards_rig.shards[i]);
    }
    if (shards_rig.client != NULL) {
        stream_release(shards_rig.client);
    }
    fake_network_run(shards_rig.network);
    check(fake_network_streams(shards_rig.network) == 0);
    for (unsigned i = 0; i < shards_rig.count; i++) {
        seats_close(&shards_rig.shards[i].mailbox.seats);
        mailstore_rig_close(&shards_rig.shards[i].store);
    }
    shards_rig.network->ops->unlisten(shards_rig.network, shards_rig.door.listener);
    shards_rig.network->ops->close(shards_rig.network);
    for (unsigned i = 0; i < shards_rig.count; i++) {
        shard_close(&shards_rig.shards[i].shard);
    }
    mailbox_group_close(&shards_rig.group);
    mailboxd_conf_free(shards_rig.conf);
    if (shards_rig.maildirs[0] != '\0') {
        nftw(shards_rig.maildirs, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

unsigned shards_rig_round(void)
{
    unsigned busy = 0;
    for (unsigned i = 0; i < shards_rig.count; i++) {
        struct shards_rig_shard *one = &shards_rig.shards[i];
        if (!one->ended) {
            mailstore_rig_round(&one->store);
            busy += one->mailbox.store != NULL ? maildirs_round(one->mailbox.store) : 0;
            busy += shard_round(&one->shard) + notes_run(one);
            busy += !mailstore_is_quiet(one->store.store) || !log_is_quiet(one->store.rig.log) ||
                    disk_fault_pending(one->store.rig.fault) > 0;
        }
    }
    return busy + shards_rig_notes();
}

void shards_rig_run(void)
{
    unsigned idle = 0;
    for (int round = 0; round < 200000; round++) {
        idle = shards_rig_round() > 0 ? 0 : idle + 1;
        if (idle == 3) {
            return;
        }
    }
    check(!"it never came to rest");
}

/* ---- The stores' side ---- */

static void fetched(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

static char *text_read(struct mailstore_rig *rig, uint64_t id, size_t *size)
{
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = fetched};
    check(mailstore_text_open(rig->store, id, &text) == 0);
    char *whole = (char *)malloc(text.bytes + 1);
    check(whole != NULL);
    for (uint32_t at = 0; at < text.bytes;) {
        struct slice bytes;
        struct ref *owner;
        int status = mailstore_read(rig->store, &text, at, &bytes, &owner, &fetch);
        if (status == -EINPROGRESS || status == -EAGAIN) {
            mailstore_rig_round(rig);
            continue;
        }
        check(status == 0);
        memcpy(whole + at, bytes.bytes, bytes.size);
        at += (uint32_t)bytes.size;
        ref_drop(owner);
    }
    *size = text.bytes;
    whole[text.bytes] = '\0';
    mailstore_text_close(rig->store, &text);
    return whole;
}

void shards_rig_each(unsigned shard, const char *name,
                     void (*visit)(void *owner, struct slice mailbox, struct slice text),
                     void *owner)
{
    struct mailstore_rig *rig = &shards_rig.shards[shard].store;
    struct mailstore_user *user;
    check(mailstore_user_open(rig->store, slice_text(name), &user) == 0);
    struct mailstore_box *box = mailstore_box_next(user, NULL);
    for (; box != NULL; box = mailstore_box_next(user, box)) {
        check(mailstore_box_open(rig->store, box) == 0);
        for (uint32_t i = 0; i < box->count; i++) {
            size_t size;
            char *text = text_read(rig, box->entries[i].text, &size);
            visit(owner, box->name, slice_of(text, size));
            free(text);
        }
        mailstore_box_close(rig->store, box);
    }
    mailstore_user_close(rig->store, user);
}

/* ---- A client ---- */

static void hear(struct stream *stream, uint32_t events, void *owner)
{
    struct slice piece;
    (void)events, (void)owner;
    while (stream_peek(stream, &piece, 1) == 1) {
        check(shards_rig.heard_bytes + piece.size < sizeof shards_rig.heard);
        memcpy(shards_rig.heard + shards_rig.heard_bytes, piece.bytes, piece.size);
        shards_rig.heard_bytes += piece.size;
        shards_rig.heard[shards_rig.heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
}

void shards_rig_connect(void)
{
    const struct connect_request request = {.to = door_address};
    check(shards_rig.network->ops->connect(shards_rig.network, &request, &shards_rig.client) == 0);
    shards_rig.client->notify = hear;
}

void shards_rig_say(const char *text)
{
    check(stream_write(shards_rig.client, slice_text(text)) == 0);
}

const char *shards_rig_talk(const char *text)
{
    shards_rig.heard_bytes = 0;
    shards_rig.heard[0] = '\0';
    if (text[0] != '\0') {
        shards_rig_say(text);
    }
    shards_rig_run();
    return shards_rig.heard;
}
