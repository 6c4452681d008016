/*
 * imap_rig: IMAP sessions over the tests' network and a store on a disk that lies, on a shard that is driven by hand.
 *
 * With the login desk of tests/unit/login_fake.h: a program includes it once.
 */
#pragma once
#include "engine/core/check.h"
#include "engine/mailbox/imap_session.h"
#include "tests/unit/fake_network.h"
#include "tests/unit/login_fake.h"
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define HEARD_BYTES (8u << 20)
#ifndef RIG_KEEP_EXPUNGED_S
#define RIG_KEEP_EXPUNGED_S 0 /* lazy expunge, for who wants it */
#endif

struct imap_client {
    struct stream *stream;
    char *heard; /* since the last line was said */
    size_t heard_bytes;
    bool closed, deaf;
};

struct imap_rig {
    struct mailstore_rig store;
    struct world world;
    struct logger logger;
    struct shard shard;
    struct network *network;
    struct mailboxd_conf *conf;
    struct mailbox mailbox;
    struct mailbox_door door;
    struct login_desk desk;
    struct imap_client clients[4];
    bool disk_stands;        /* the store's rounds do not come */
    struct imap_rig *beside; /* of another shard: its rounds come with these; NULL: none */
};

/* ---- The world ---- */

static inline uint64_t rig_now(void *self)
{
    return ((struct imap_rig *)self)->store.rig.now_ns;
}

static inline int64_t rig_wall(void *self)
{
    return (int64_t)((struct imap_rig *)self)->store.wall_s;
}

static inline void rig_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static inline unsigned rig_network_poll(void *self, uint64_t now_ns)
{
    return ((struct network *)self)->ops->poll((struct network *)self, now_ns);
}

static inline void rig_hear(struct stream *stream, uint32_t events, void *owner)
{
    struct imap_client *client = (struct imap_client *)owner;
    struct slice piece;
    while (!client->deaf && stream_peek(stream, &piece, 1) == 1) {
        check(client->heard_bytes + piece.size < HEARD_BYTES);
        memcpy(client->heard + client->heard_bytes, piece.bytes, piece.size);
        client->heard_bytes += piece.size;
        client->heard[client->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
    client->closed = client->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

static inline void rig_round_alone(struct imap_rig *rig)
{
    if (rig->disk_stands) {
        rig->store.rig.now_ns += 1000000;
    } else {
        mailstore_rig_round(&rig->store);
    }
    while (shard_round(&rig->shard) + login_fake_round(&rig->desk) > 0) {
    }
}

static inline void rig_round(struct imap_rig *rig)
{
    rig_round_alone(rig);
    if (rig->beside != NULL) {
        rig_round_alone(rig->beside);
    }
}

static inline void rig_rounds(struct imap_rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        rig_round(rig);
    }
}

/* One of several shards; the group is the caller's. */
static inline struct imap_rig *imap_rig_open_shard(unsigned index, unsigned count)
{
    static const struct endpoint at = {.family = ENDPOINT_UNIX};
    struct imap_rig *rig = (struct imap_rig *)calloc(1, sizeof(*rig));
    check(rig != NULL);
    mailstore_rig_open(&rig->store, 5 + index);
    rig->store.settings.keep_expunged_s = RIG_KEEP_EXPUNGED_S;
    check(mailstore_rig_start(&rig->store) == 0);
    rig->world = (struct world){rig_now, rig_wall, rig_random, rig};
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    const struct shard_settings settings = {
        .index = index, .count = count, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    check(shard_open(&rig->shard, &settings) == 0);
    rig->network = fake_network_open(1u << 20);
    const struct shard_part part = {
        .name = "network", .self = rig->network, .poll = rig_network_poll};
    shard_add(&rig->shard, &part);
    struct conf_report report;
    check(mailboxd_conf_load(&rig->conf, NULL, "mail.test", &report) == 0);
    login_fake_open(&rig->desk);
    rig->mailbox = (struct mailbox){.conf = rig->conf,
                                    .shard = &rig->shard,
                                    .network = rig->network,
                                    .texts = rig->store.store,
                                    .logins = &rig->desk};
    list_init(&rig->mailbox.sessions);
    list_init(&rig->mailbox.carriages);
    rig->door = (struct mailbox_door){.mailbox = &rig->mailbox, .tls = CONF_TLS_OFF};
    const struct listen_request request = {
        .at = at, .accepted = imap_accepted, .owner = &rig->door};
    check(rig->network->ops->listen(rig->network, &request, &rig->door.listener) == 0);
    return rig;
}

static inline int imap_rig_open(void **state)
{
    struct imap_rig *rig = imap_rig_open_shard(0, 1);
    mailbox_stand_alone(&rig->mailbox);
    *state = rig;
    return 0;
}

/* The sessions and the network: behind it nothing of a session crosses to other shards. */
static inline void imap_rig_leave(struct imap_rig *rig)
{
    while (!list_empty(&rig->mailbox.sessions)) {
        struct session *session = list_entry(rig->mailbox.sessions.next, struct session, node);
        check(session->ops->abort(session));
    }
    for (unsigned i = 0; i < 4; i++) {
        if (rig->clients[i].stream != NULL) {
            stream_release(rig->clients[i].stream);
        }
        free(rig->clients[i].heard);
    }
    rig_rounds(rig, 3);
    seats_close(&rig->mailbox.seats);
    rig->network->ops->close(rig->network);
}

static inline void imap_rig_free(struct imap_rig *rig)
{
    mailstore_rig_stop(&rig->store);
    mailstore_rig_close(&rig->store);
    shard_close(&rig->shard);
    mailboxd_conf_free(rig->conf);
    free(rig);
}

static inline int imap_rig_close(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    struct mailbox_group *group = rig->mailbox.group;
    imap_rig_leave(rig);
    mailbox_group_close(group);
    imap_rig_free(rig);
    return 0;
}

/* ---- Clients ---- */

static inline void say_bytes(struct imap_rig *rig, unsigned index, struct slice bytes)
{
    struct imap_client *client = &rig->clients[index];
    unsigned waited = 0;
    client->heard_bytes = 0;
    client->heard[0] = '\0';
    while (bytes.size > 0) {
        struct slice part = slice_first(bytes, 4096);
        if (stream_write(client->stream, part) == 0) {
            bytes = slice_from(bytes, part.size);
        } else {
            check(waited++ < 20000);
            rig_round(rig);
        }
    }
}

static inline void say(struct imap_rig *rig, unsigned index, const char *text)
{
    say_bytes(rig, index, slice_text(text));
}

/* Rounds until a line begins with this. */
static inline const char *hear(struct imap_rig *rig, unsigned index, const char *beginning)
{
    struct imap_client *client = &rig->clients[index];
    size_t size = strlen(beginning);
    for (unsigned round = 0; round < 20000; round++) {
        const char *line = client->heard, *end = client->heard + client->heard_bytes, *newline;
        /* No strstr: a sanitizer measures all that was heard each time. */
        while ((newline = (const char *)memchr(line, '\n', (size_t)(end - line))) != NULL) {
            if ((size_t)(newline + 1 - line) >= size && memcmp(line, beginning, size) == 0) {
                return line;
            }
            line = newline + 1;
        }
        if (client->closed) {
            break;
        }
        rig_round(rig);
    }
    fail_msg("no line begins with \"%s\" in:\n%s", beginning, client->heard);
    return NULL;
}

/* Says a command whose tag is its first word, and hears its answer, which begins with `answer` behind the tag. */
static inline void talk(struct imap_rig *rig, unsigned index, const char *command,
                        const char *answer)
{
    char tag[32];
    check(sscanf(command, "%30s", tag) == 1);
    strcat(tag, " ");
    say(rig, index, command);
    const char *line = hear(rig, index, tag);
    if (strncmp(line + strlen(tag), answer, strlen(answer)) != 0) {
        fail_msg("%s is answered with\n%s", command, rig->clients[index].heard);
    }
}

static inline void expect(struct imap_rig *rig, unsigned index, const char *text)
{
    if (strstr(rig->clients[index].heard, text) == NULL) {
        fail_msg("\"%s\" is not in\n%s", text, rig->clients[index].heard);
    }
}

static inline void expect_not(struct imap_rig *rig, unsigned index, const char *text)
{
    if (strstr(rig->clients[index].heard, text) != NULL) {
        fail_msg("\"%s\" is in\n%s", text, rig->clients[index].heard);
    }
}

static inline void connect_client(struct imap_rig *rig, unsigned index)
{
    static const struct endpoint at = {.family = ENDPOINT_UNIX};
    struct imap_client *client = &rig->clients[index];
    const struct connect_request request = {.to = at};
    client->heard = client->heard != NULL ? client->heard : (char *)malloc(HEARD_BYTES);
    check(client->heard != NULL);
    client->heard_bytes = 0;
    client->heard[0] = '\0';
    client->closed = false;
    check(rig->network->ops->connect(rig->network, &request, &client->stream) == 0);
    client->stream->notify = rig_hear;
    client->stream->session = client;
    hear(rig, index, "* OK [CAPABILITY ");
}

static inline void log_in(struct imap_rig *rig, unsigned index)
{
    connect_client(rig, index);
    talk(rig, index, "l LOGIN alice secret\r\n", "OK [CAPABILITY ");
}

/* A command with a literal that is sent unasked. */
static inline void append(struct imap_rig *rig, unsigned index, const char *mailbox,
                          const char *message)
{
    size_t size = strlen(message) + strlen(mailbox) + 64;
    char *command = (char *)malloc(size);
    check(command != NULL);
    snprintf(command, size, "ap APPEND %s {%zu+}\r\n%s\r\n", mailbox, strlen(message), message);
    talk(rig, index, command, "OK [APPENDUID ");
    free(command);
}
