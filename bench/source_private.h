/*
 * source_private: what the two halves of the source share: source.c (connections, bounds, the book)
 * and source_dialogue.c (what one session says and hears).
 */
#pragma once
#include "bench/journal.h"
#include "bench/source.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"

#define SECOND_NS 1000000000ull
#define CONNECT_TIMEOUT_NS (5 * SECOND_NS)
#define CONNECT_AGAIN_NS (SECOND_NS / 10)
#define HELD_MAX 8u

enum reply_kind {
    REPLY_BANNER,
    REPLY_HELLO,
    REPLY_STARTTLS,
    REPLY_MAIL,
    REPLY_RCPT,
    REPLY_DATA,
    REPLY_END, /* of the message; LMTP has one for each recipient */
    REPLY_RSET,
    REPLY_QUIT,
};

/* A letter between its MAIL and its answer. */
struct transit {
    bool under_way;
    uint64_t sequence;
    uint64_t begun_ns;
    uint32_t rcpt_count;     /* replies to RCPT so far */
    uint32_t accepted_count; /* of them positive */
    uint32_t answer_count;   /* replies to the end so far */
    uint32_t taken_count;    /* of them positive (LMTP) */
    char failed_class;       /* '4' or '5': the first failure */
    uint32_t *accepted;      /* which recipients */
};

struct held {
    struct slice bytes;
    bool copied;
};

struct source_session {
    struct source *source;
    struct stream *stream; /* NULL: waiting to connect */
    struct list_node waiting;
    uint64_t due_ns;
    uint32_t index;
    uint64_t letters;
    bool quitting, over;
    bool securing;        /* STARTTLS was answered: the handshake is next */
    bool secured;         /* the stream is TLS */
    struct transit ahead; /* its commands are out or under way */
    struct transit sent;  /* its end is out */
    uint8_t *expected;    /* ring of enum reply_kind */
    uint32_t expected_at, expected_count;
    char code[4];
    uint32_t line_bytes;
    struct held held[HELD_MAX];
    uint32_t held_count;
};

struct source {
    struct network *network;
    struct secure *secure; /* NULL: in the clear */
    const struct world *world;
    struct source_settings settings;
    struct letter_book book;
    struct source_counters counters;
    struct histogram latency;
    struct journal acked;
    struct list_node waiting; /* sessions to connect, by due time */
    struct source_session *sessions;
    uint32_t open_count; /* sessions that are not over */
    uint32_t ring_size;
    char *script; /* MAIL, RCPTs, DATA in one */
    struct slice group, group_bdat, mail, data;
    struct slice *rcpt;
    char **digits; /* of each recipient, in its line of the script; NULL: none are spread */
    uint64_t now_ns, begun_ns, measure_ns, end_ns, ended_ns, progress_ns;
    uint64_t first_ns; /* the first letter was taken */
    bool begun, stopping, stalled;
    char trouble[SOURCE_TROUBLE_BYTES];
};

void source_expect(struct source_session *session, enum reply_kind kind);
void source_notify(struct stream *stream, uint32_t events, void *session);
bool source_may_issue(const struct source_session *session);
/* The stream is of no more use: what was under way has no answer; again, or over. */
void source_session_lost(struct source_session *session, uint64_t delay_ns);
void source_session_again(struct source_session *session, uint64_t delay_ns);
/* Keeps the first one, for the report. */
void source_say_trouble(struct source *source, const char *where, struct slice text);
