/*
 * imap_rig: IMAP sessions over the tests' network and a store on a disk that lies, on a shard that is driven by hand.
 *
 * With a login desk of its own, so a program includes it once: every user's password is "good", and of mechanisms there
 * are PLAIN, and TWO, which asks "more?" and has a last word.
 */
#pragma once
#include "engine/core/check.h"
#include "engine/mailbox/imap_session.h"
#include "tests/unit/fake_network.h"
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define HEARD_BYTES (8u << 20)

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
    struct imap_client clients[4];
    bool disk_stands; /* the store's rounds do not come */
};

/* ---- The desk ---- */

struct login_desk {
    struct shard *shard;
};
struct login_attempt {
    struct shard_message message;
    struct login *login; /* NULL: cancelled */
    enum login_news news;
    bool last_word, asked_more;
    char user[64];
};

static inline void attempt_run(struct shard_message *message, struct shard *shard)
{
    struct login_attempt *attempt = list_entry(message, struct login_attempt, message);
    struct login *login = attempt->login;
    (void)shard;
    if (login == NULL) {
        free(attempt);
        return;
    }
    struct login_told told = {.news = attempt->news, .user = attempt->user};
    if (attempt->news == LOGIN_CHALLENGE) {
        told.has_bytes = true;
        told.bytes = slice_text("more?");
        login->told(login, &told);
        return;
    }
    told.has_bytes = attempt->last_word;
    told.bytes = slice_text("last");
    login->attempt = NULL;
    login->told(login, &told);
    free(attempt);
}

static inline int attempt_send(struct login_desk *desk, struct login_attempt *attempt)
{
    attempt->message = (struct shard_message){.run = attempt_run};
    return shard_send(desk->shard, desk->shard, &attempt->message);
}

static inline struct login_attempt *attempt_new(struct login *login, struct slice user,
                                                struct slice password)
{
    struct login_attempt *attempt = (struct login_attempt *)calloc(1, sizeof(*attempt));
    check(attempt != NULL && user.size < sizeof(attempt->user));
    memcpy(attempt->user, user.bytes, user.size);
    attempt->login = login;
    attempt->news = slice_equal(password, slice_text("good")) ? LOGIN_IN : LOGIN_REFUSED;
    login->attempt = attempt;
    return attempt;
}

bool login_in_clear(const struct login_desk *desk, const struct login_facts *facts)
{
    (void)desk, (void)facts;
    return true;
}

size_t login_mechanisms(const struct login_desk *desk, const struct login_facts *facts, char *out,
                        size_t room)
{
    (void)desk, (void)facts;
    return (size_t)snprintf(out, room, "PLAIN TWO");
}

int login_password(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                   struct slice user, struct slice password)
{
    (void)facts;
    return attempt_send(desk, attempt_new(login, user, password));
}

int login_begin(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                struct slice mechanism, const struct slice *initial)
{
    (void)facts;
    if (slice_equal_nocase(mechanism, slice_text("TWO"))) {
        struct login_attempt *attempt = attempt_new(login, slice_text("bob"), slice_text("good"));
        attempt->news = LOGIN_CHALLENGE;
        attempt->last_word = true;
        return attempt_send(desk, attempt);
    }
    check(initial != NULL && initial->size > 2);
    const uint8_t *end = (const uint8_t *)memchr(initial->bytes + 1, 0, initial->size - 1);
    check(end != NULL);
    struct slice user = slice_of(initial->bytes + 1, (size_t)(end - initial->bytes) - 1);
    return attempt_send(
        desk, attempt_new(login, user, slice_from(*initial, (size_t)(end - initial->bytes) + 1)));
}

static struct login_desk the_desk;

int login_answer(struct login *login, struct slice message)
{
    struct login_attempt *attempt = login->attempt;
    attempt->news = slice_equal(message, slice_text("yes")) ? LOGIN_IN : LOGIN_REFUSED;
    attempt->last_word = attempt->news == LOGIN_IN;
    return attempt_send(&the_desk, attempt);
}

void login_cancel(struct login *login)
{
    if (login->attempt != NULL) {
        login->attempt->login = NULL;
        login->attempt = NULL;
    }
}

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

static inline void rig_round(struct imap_rig *rig)
{
    if (rig->disk_stands) {
        rig->store.rig.now_ns += 1000000;
    } else {
        mailstore_rig_round(&rig->store);
    }
    while (shard_round(&rig->shard) > 0) {
    }
}

static inline void rig_rounds(struct imap_rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        rig_round(rig);
    }
}

static inline int imap_rig_open(void **state)
{
    static const struct endpoint at = {.family = ENDPOINT_UNIX};
    struct imap_rig *rig = (struct imap_rig *)calloc(1, sizeof(*rig));
    check(rig != NULL);
    mailstore_rig_open(&rig->store, 5);
    check(mailstore_rig_start(&rig->store) == 0);
    rig->world = (struct world){rig_now, rig_wall, rig_random, rig};
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    const struct shard_settings settings = {
        .count = 1, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    check(shard_open(&rig->shard, &settings) == 0);
    rig->network = fake_network_open(1u << 20);
    const struct shard_part part = {
        .name = "network", .self = rig->network, .poll = rig_network_poll};
    shard_add(&rig->shard, &part);
    struct conf_report report;
    check(mailboxd_conf_load(&rig->conf, NULL, "mail.test", &report) == 0);
    the_desk.shard = &rig->shard;
    rig->mailbox = (struct mailbox){.conf = rig->conf,
                                    .shard = &rig->shard,
                                    .network = rig->network,
                                    .texts = rig->store.store,
                                    .logins = &the_desk};
    list_init(&rig->mailbox.sessions);
    rig->door = (struct mailbox_door){.mailbox = &rig->mailbox, .tls = CONF_TLS_OFF};
    const struct listen_request request = {
        .at = at, .accepted = imap_accepted, .owner = &rig->door};
    check(rig->network->ops->listen(rig->network, &request, &rig->door.listener) == 0);
    *state = rig;
    return 0;
}

static inline int imap_rig_close(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
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
    rig->network->ops->close(rig->network);
    mailstore_rig_stop(&rig->store);
    mailstore_rig_close(&rig->store);
    shard_close(&rig->shard);
    mailboxd_conf_free(rig->conf);
    free(rig);
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
        const char *line = client->heard;
        while (line != NULL && *line != '\0') {
            if (strncmp(line, beginning, size) == 0 && strstr(line, "\r\n") != NULL) {
                return line;
            }
            line = strstr(line, "\r\n");
            line = line != NULL ? line + 2 : NULL;
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
    talk(rig, index, "l LOGIN alice good\r\n", "OK [CAPABILITY ");
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
