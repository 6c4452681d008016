/* control_pair: a mailbox service of two shards, both on this thread, shard 0 with the operator's socket, and an operator. */
#pragma once
#define RIG_KEEP_EXPUNGED_S 1000
#include "engine/mailbox/mailbox_control.h"
#include "engine/shard/memory.h"
#include "tests/unit/imap_shards.h"
#include <jansson.h>

#define SHARDS IMAP_SHARDS

struct pair {
    struct imap_shards shards;
    struct imap_rig **rigs; /* of these */
    struct stream *operator;
    char heard[1u << 17];
    size_t heard_bytes;
    bool closed;
};

static inline void operator_hears(struct stream *stream, uint32_t events, void *owner)
{
    struct pair *pair = (struct pair *)owner;
    struct slice piece;
    while (stream_peek(stream, &piece, 1) == 1) {
        check(pair->heard_bytes + piece.size < sizeof pair->heard);
        memcpy(pair->heard + pair->heard_bytes, piece.bytes, piece.size);
        pair->heard_bytes += piece.size;
        pair->heard[pair->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
    pair->closed = pair->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

static inline void rounds(struct pair *pair, unsigned count)
{
    imap_shards_rounds(&pair->shards, count);
}

static inline void operator_comes(struct pair *pair)
{
    struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    struct network *network = pair->rigs[0]->network;
    strcpy(request.to.path, "/control");
    check(network->ops->connect(network, &request, &pair->operator) == 0);
    pair->operator->notify = operator_hears;
    pair->operator->session = pair;
    pair->heard_bytes = 0;
    pair->heard[0] = '\0';
    pair->closed = false;
    rounds(pair, 3);
}

static inline void operator_goes(struct pair *pair)
{
    stream_abort(pair->operator);
    stream_release(pair->operator);
    pair->operator= NULL;
}

static inline int set_up(void **state)
{
    struct pair *pair = (struct pair *)calloc(1, sizeof *pair);
    check(pair != NULL);
    imap_shards_open(&pair->shards);
    pair->rigs = pair->shards.rigs;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct mailbox *mailbox = &pair->rigs[i]->mailbox;
        pair->rigs[i]->conf->control.path = "/control";
        check(mailbox_control_open(&mailbox->control, mailbox) == 0);
    }
    operator_comes(pair);
    *state = pair;
    return 0;
}

static inline void control_leave(struct pair *pair, unsigned shard)
{
    struct mailbox *mailbox = &pair->rigs[shard]->mailbox;
    if (mailbox->control != NULL) {
        mailbox_control_close(mailbox->control);
        mailbox->control = NULL;
    }
}

static inline int tear_down(void **state)
{
    struct pair *pair = (struct pair *)*state;
    if (pair->operator!= NULL) {
        operator_goes(pair);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        control_leave(pair, i);
    }
    imap_shards_close(&pair->shards);
    free(pair);
    return 0;
}

static inline void say_request(struct pair *pair, const char *request)
{
    pair->heard_bytes = 0;
    pair->heard[0] = '\0';
    check(stream_write(pair->operator, slice_text(request)) == 0);
    check(stream_write(pair->operator, slice_text("\n")) == 0);
}

/* The answer: up to the line with "end". */
static inline const char *ask(struct pair *pair, const char *request)
{
    say_request(pair, request);
    for (unsigned i = 0; i < 20000; i++) {
        const char *end = strstr(pair->heard, "{\"end\"");
        if (end != NULL && strchr(end, '\n') != NULL) {
            break;
        }
        rounds(pair, 1);
    }
    return pair->heard;
}

static inline void expect_answer(struct pair *pair, const char *request, const char *part)
{
    const char *heard = ask(pair, request);
    if (strstr(heard, part) == NULL) {
        fail_msg("%s: \"%s\" is not in\n%s", request, part, heard);
    }
}

static inline void expect_heard(struct pair *pair, const char *part)
{
    for (unsigned i = 0; i < 2000 && strstr(pair->heard, part) == NULL; i++) {
        rounds(pair, 1);
    }
    if (strstr(pair->heard, part) == NULL) {
        fail_msg("\"%s\" is not in\n%s", part, pair->heard);
    }
}

/* A user whose mail is on this shard. */
static inline const char *user_on(const struct pair *pair, unsigned shard)
{
    static char names[SHARDS][8];
    unsigned number = 0;
    do {
        snprintf(names[shard], sizeof names[shard], "u%u", number++);
    } while (mailbox_group_shard(&pair->shards.group, names[shard]) != shard);
    return names[shard];
}

/* Of a request with one %s. */
static inline const char *request_of(const char *format, const char *user)
{
    static char text[256];
    const char *at = strstr(format, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - format), format, user, at + 2);
    return text;
}

static inline void log_in_as(struct imap_rig *rig, unsigned client, const char *user)
{
    char command[64];
    snprintf(command, sizeof command, "l LOGIN %s secret\r\n", user);
    connect_client(rig, client);
    talk(rig, client, command, "OK [CAPABILITY ");
}

/* His INBOX has had two messages, and the first is kept. */
static inline void message_keep(struct pair *pair, unsigned shard)
{
    struct imap_rig *rig = pair->rigs[shard];
    log_in_as(rig, 0, user_on(pair, shard));
    append(rig, 0, "INBOX", "Subject: one\r\n\r\n");
    append(rig, 0, "INBOX", "Subject: two\r\n\r\n");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "d STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "x EXPUNGE\r\n", "OK");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static inline int eal_start(void **state)
{
    const struct memory_settings settings = {.program = "test_control_pair", .megabytes = 32};
    (void)state;
    return memory_start(&settings);
}
