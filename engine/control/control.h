/*
 * control: the operator's socket: a line of request, lines of JSON as answer.
 *
 * Runs on one shard, on its kernel network. Requests are asked of the relay, which answers when it
 * has asked its other shards, or of the mailbox service; the session waits meanwhile. A connection may
 * ask again after an answer, one at a time.
 *
 *   queue list [WORD...]          a line for each message; "next" in the last line is where to go on
 *   queue show|body|summary|suspensions|jobs|job [WORD...]
 *   queue hold|release|flush|delete|bounce|reroute|suspend|resume|cancel [WORD...]
 *                                 words are KEY=VALUE (words.h); which ones: engine/relay/queue_order.h.
 *                                 What may take long is a job: answered at once with "job", its number
 *   tls report                    how TLS to next hops went, a line for each domain, policy and day
 *   resolve DOMAIN                one line: where its mail goes, as engine/relay/destination_json says it
 *   status                        one line: counters and gauges, nested objects of numbers
 *   net connections|neighbors|routes|trace [LIMIT [CURSOR [WORD...]]]
 *                                 of our own stack, a line each; "next" as above. Words narrow a list:
 *                                 state NAME, local ADDRESS, remote ADDRESS; trace: live
 *   net counters                  a line for each shard, then one with the sums
 *   net capture file PATH [port NAME] [count N] [seconds N] [snap BYTES] [between ADDRESS:PORT ADDRESS:PORT]
 *                                 frames into a file that is made; answered when it is over, with
 *                                 "capture":{"frames","lost"}. It ends when the operator goes, too
 *
 * Of the mailbox service (engine/mailbox/mailbox_control.h), besides status:
 *   mailbox who|kick|imap|quota|kept|undelete|users|check|rebuild [WORD...]
 *                                 words are KEY=VALUE
 *
 * A message is {"id","bytes","arrival" (seconds of the epoch),"sender","attempts","recipient_count",
 * "waiting_count","held","priority","recipients":[{"address","state","reason","site","due_s" (seconds until the next
 * attempt),"attempts"}]}; a list has those recipients only that wait and are meant, and may give them in
 * several lines of the same id, one after the other.
 * The status is {"hostname","pid","uptime_s","counters":{...},"gauges":{...}}: objects of numbers,
 * nested as deep as they like. Counters only grow; the tool makes rates of them.
 *
 * A line of tls report is {"day":"2026-11-26","domain","policy" (RFC 8460's policy-type),"results":
 * {"success":N,...}} (its result-types).
 *
 * The last line of an answer is {"end":"ok"}, with "next" or "job" where they belong, or
 * {"end":"error","code":"not-found","text":"..."}. A page of a list is bounded (CONTROL_LIMIT_MAX),
 * so an answer is kept in memory until it is sent.
 */
#pragma once
#include "engine/core/logger.h"
#include "engine/stream.h"
#include <jansson.h>

#define CONTROL_LIMIT_MAX 1000 /* messages of one page */
#define CONTROL_LIMIT_DEFAULT 200
#define CONTROL_WORDS_MAX 24  /* of a request's end that the answerer reads */
#define CONTROL_LINE_MAX 4096 /* of a request; longer: an error, then closed */
#define CONTROL_CONNECTIONS_MAX                                                                    \
    16 /* one more: the one that is idle longest is closed, or the new one */

enum control_verb {
    CONTROL_QUEUE_LIST,
    CONTROL_QUEUE_SHOW,
    CONTROL_QUEUE_BODY,
    CONTROL_QUEUE_SUMMARY,
    CONTROL_QUEUE_HOLD,
    CONTROL_QUEUE_RELEASE,
    CONTROL_QUEUE_FLUSH,
    CONTROL_QUEUE_DELETE,
    CONTROL_QUEUE_BOUNCE,
    CONTROL_QUEUE_REROUTE,
    CONTROL_QUEUE_SUSPEND,
    CONTROL_QUEUE_RESUME,
    CONTROL_QUEUE_SUSPENSIONS,
    CONTROL_QUEUE_JOBS,
    CONTROL_QUEUE_JOB,
    CONTROL_QUEUE_CANCEL,
    CONTROL_STATUS,
    CONTROL_TLS_REPORT,
    CONTROL_RESOLVE,
    CONTROL_NET_CONNECTIONS,
    CONTROL_NET_NEIGHBORS,
    CONTROL_NET_ROUTES,
    CONTROL_NET_TRACE,
    CONTROL_NET_COUNTERS,
    CONTROL_NET_CAPTURE,
    CONTROL_MAILBOX_WHO, /* from here on: of the mailbox service */
    CONTROL_MAILBOX_KICK,
    CONTROL_MAILBOX_IMAP,
    CONTROL_MAILBOX_QUOTA,
    CONTROL_MAILBOX_KEPT,
    CONTROL_MAILBOX_UNDELETE,
    CONTROL_MAILBOX_USERS,
    CONTROL_MAILBOX_CHECK,
    CONTROL_MAILBOX_REBUILD,
};

/* Lives until control_finish, also when the operator has gone. */
struct control_request {
    enum control_verb verb;
    /* net: where to go on, as a former answer's `next` said; empty: from the start */
    struct slice cursor;
    uint32_t limit;                        /* net: of a list */
    struct slice words[CONTROL_WORDS_MAX]; /* what narrows it; resolve: the domain */
    unsigned word_count;
    void *gathering; /* the answerer's own */
};

struct control_settings {
    struct network *network; /* borrowed, as long as the control */
    struct endpoint at;      /* a unix socket */
    uint32_t unix_mode;
    /* A request is there: answer with control_line and control_finish, now or later, on this shard.
     */
    void (*ask)(void *owner, struct control_request *request);
    void *owner;
    const char
        *expected; /* what a request may be, for who says something else; NULL: the relay's */
};

struct control;

/* 0 or what network->listen answers. */
int control_open(struct control **control, const struct control_settings *settings);
/* Closes the listener and the connections. Requests still asked must be finished before. */
void control_close(struct control *control);
/* The operator has gone, or at least asks nothing more: what goes on for long should end. */
bool control_abandoned(const struct control_request *request);
/* Who asks: the user of the process at the other end. -1: not known. */
int64_t control_user(const struct control_request *request);
/* There is no answer, and the connection is the caller's, who sets its `notify` and `session`. What came behind the
 * request's line lies in it still, and was told already. *finished: so was the operator's FIN. The request is gone; within
 * `ask` when that returns. NULL: the operator has gone, and the request must still be finished. */
struct stream *control_take_over(struct control_request *request, bool *finished);
/* No line is read any more: what was asked is answered, and nothing else is. */
void control_rest(struct control *control);
/* How many requests are asked and not finished. */
unsigned control_pending(const struct control *control);

/* A line of the answer. `line` is given: its reference is taken over, also on failure. NULL is an
 * error noted for the end of the answer, so that building and sending may be one call. */
void control_line(struct control_request *request, json_t *line);
/* What was said so far is on its way to the operator, who may wait long for the end. */
void control_flush(struct control_request *request);
/* The end; the request is gone afterwards. */
void control_finish(struct control_request *request);
void control_finish_with(struct control_request *request, const char *key,
                         json_t *value); /* "next", "job"; value given */
/* code: a word for programs ("not-found", "busy", "failed"). */
void control_finish_error(struct control_request *request, const char *code, const char *text);

/* A JSON text of bytes that came from outside: what is not valid UTF-8, and control characters,
 * become \xNN. NULL when memory is short. */
json_t *control_text(struct slice bytes);
