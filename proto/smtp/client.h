/*
 * client: the sending side of SMTP and LMTP, one connection, without I/O.
 *
 * The owner (relay/outbound, the load generator, a test) carries bytes; the machine says what to
 * send and what became of each recipient. It never sees a byte of a message: when the server is
 * ready for it the owner writes the body itself, by reference, in wire form (CRLF lines,
 * dot-stuffed, ending with CRLF, without the final dot).
 *
 *     want = smtp_client_input(client, now_ns, received, &used, &result);   consume `used`
 *     while ((out = smtp_client_output(client)).size > 0)
 *         write out;  smtp_client_output_sent(client, now_ns);
 *
 * is done whenever bytes came (or none: input may be empty, and is after connect, begin, body_sent,
 * closed, expire). `want` says what next; call again until it is SMTP_CLIENT_WANT_INPUT or
 * the thing wanted has to wait.
 *
 * STARTTLS (RFC 3207) is the machine's, the handshake the owner's: on SMTP_CLIENT_WANT_TLS, when there
 * is nothing more to read, it puts TLS over the stream, says smtp_client_secured when that is open, or
 * smtp_client_tls_failed, and feeds what comes out of it from then on.
 *
 * Nothing is allocated. Borrowed until the transaction is over: the message's addresses and the
 * array of recipients. Replies of the peer are bounded and cleaned (reply_parser.h).
 *
 * Source: RFC 5321; RFC 2033 (LMTP); RFC 2920 (PIPELINING); RFC 1870 (SIZE); RFC 6152 (8BITMIME);
 * RFC 6531 (SMTPUTF8); RFC 3461 (DSN); RFC 2034, 3463 (status codes); RFC 3207 (STARTTLS).
 */
#pragma once
#include "engine/core/check.h"
#include "proto/smtp/dsn_parameters.h"
#include "proto/smtp/extensions.h"
#include "proto/smtp/reply_parser.h"
#include <assert.h>

#define SMTP_CLIENT_OUTPUT_BYTES 2048
#define SMTP_CLIENT_NEVER UINT64_MAX
/* Of a message, so much must go within data_block_ns (RFC 5321 §4.5.3.2.5: for each chunk). Whoever takes a byte a
 * minute would else hold a connection for years. */
#define SMTP_CLIENT_BLOCK_BYTES 16384u

enum smtp_client_want {
    SMTP_CLIENT_WANT_INPUT,   /* send the output, then wait for bytes or the deadline */
    SMTP_CLIENT_WANT_MESSAGE, /* idle: smtp_client_begin, smtp_client_quit, or leave it so */
    SMTP_CLIENT_WANT_BODY,    /* write the body, then smtp_client_body_sent */
    SMTP_CLIENT_WANT_RESULT,  /* *result is filled: the fate of one recipient. Call again */
    SMTP_CLIENT_WANT_TLS,     /* the server waits for our hello; see above */
    SMTP_CLIENT_WANT_CLOSE, /* over: send what output there is, close. smtp_client_failure says why
                             */
};

enum smtp_client_outcome {
    SMTP_CLIENT_ACCEPTED,  /* the server has taken it: never send it again */
    SMTP_CLIENT_TEMPORARY, /* try again later */
    SMTP_CLIENT_PERMANENT, /* give up */
};

/* At which command it was decided. */
enum smtp_client_stage {
    SMTP_CLIENT_AT_GREETING,
    SMTP_CLIENT_AT_HELLO,
    SMTP_CLIENT_AT_STARTTLS, /* or in the handshake behind it */
    SMTP_CLIENT_AT_MAIL,
    SMTP_CLIENT_AT_RCPT,
    SMTP_CLIENT_AT_DATA,
    SMTP_CLIENT_AT_BODY, /* while the body was being sent */
    SMTP_CLIENT_AT_DOT,  /* the end of data */
    SMTP_CLIENT_AT_RSET,
    SMTP_CLIENT_AT_QUIT,
    SMTP_CLIENT_AT_IDLE,
};

enum smtp_client_result_flags {
    /* The whole message was sent but no answer came: the server may have it. */
    SMTP_CLIENT_MAY_BE_DUPLICATE = 1,
    /* The dialogue broke while commands were pipelined: try this server without PIPELINING. */
    SMTP_CLIENT_SUSPECT_PIPELINING = 2,
    /* Nobody was asked: the message or the address cannot be sent to this server. */
    SMTP_CLIENT_DECIDED_HERE = 4,
    /* The connection failed (lost, timed out, 421, protocol error), not this recipient. */
    SMTP_CLIENT_CONNECTION_FAILED = 8,
};

struct smtp_client_result {
    uint32_t index;  /* of smtp_client_message.recipients */
    uint8_t outcome; /* enum smtp_client_outcome */
    uint8_t stage;   /* enum smtp_client_stage */
    uint16_t flags;  /* enum smtp_client_result_flags */
    uint16_t code;   /* of the server's reply; 0: none, the text is ours */
    struct smtp_status status;
    struct slice text; /* borrowed until the next call; at most SMTP_REPLY_TEXT_MAX, printable */
};

/* Wishes about reports go on to a server that offers DSN, and nowhere else (RFC 3461 §5.2). */
enum smtp_client_message_flags {
    SMTP_CLIENT_8BITMIME = 1,
    SMTP_CLIENT_SMTPUTF8 = 2,
    SMTP_CLIENT_NAMES_ORIGINAL =
        4, /* a recipient without ORCPT gets its address as one (§5.2.1 d) */
};

struct smtp_client_recipient {
    struct slice forward_path; /* mailbox, without <> */
    struct slice orcpt;        /* ORCPT; empty: none */
    uint8_t notify;            /* enum smtp_notify */
    uint8_t state;             /* the machine's */
};

struct smtp_client_message {
    struct slice reverse_path; /* without <>; empty: the null reverse-path */
    uint32_t flags;            /* enum smtp_client_message_flags */
    uint32_t recipient_count;  /* >= 1 */
    uint64_t body_bytes;       /* for SIZE */
    struct smtp_client_recipient *recipients;
    struct slice envid; /* ENVID; empty: none */
    uint8_t ret;        /* enum smtp_ret */
};

struct smtp_client_settings {
    struct slice hostname; /* ours, for EHLO; borrowed while a client uses it */
    bool lmtp;
    bool pipelining; /* where the server offers it */
    /* Nanoseconds; RFC 5321 §4.5.3.2 asks for at least 5, 5, 2, 3 and 10 minutes. */
    uint64_t greeting_ns;   /* for the greeting */
    uint64_t reply_ns;      /* for EHLO, STARTTLS, MAIL, RCPT, RSET */
    uint64_t handshake_ns;  /* of TLS; 0: reply_ns */
    uint64_t data_start_ns; /* for 354 */
    uint64_t data_block_ns; /* for SMTP_CLIENT_BLOCK_BYTES more of a message, or the rest */
    uint64_t data_end_ns;   /* for the answer to the dot, once all is */
    uint64_t quit_ns;
};

enum smtp_client_tls {
    SMTP_CLIENT_TLS_NEVER,      /* not asked for, whatever is offered; or there already */
    SMTP_CLIENT_TLS_IF_OFFERED, /* in the clear where it is not offered, or refused */
    SMTP_CLIENT_TLS_REQUIRED,   /* nothing is sent without it */
};

/* What has become of it. */
enum smtp_client_secrecy {
    SMTP_CLIENT_IN_CLEAR,
    SMTP_CLIENT_TLS_NOT_OFFERED, /* it would have been asked for */
    SMTP_CLIENT_TLS_REFUSED,     /* offered, and yet refused */
    SMTP_CLIENT_TLS_STARTED,     /* 220, and no handshake yet */
    SMTP_CLIENT_SECURED,
};

/*
 *   GREETING ──220──► HELLO ──250──► IDLE ◄──────────────── RESET (only where the server
 *                    5xx│▲ ▲│          │ begin               ▲     may hold half a transaction)
 *                  HELO └┘ ││STARTTLS  ▼                     │
 *                          ││       ENVELOPE ──354──► BODY ──dot──► DOT ──► IDLE
 *                  secured ││          └── nothing to send ──► IDLE or RESET
 *                          │▼
 *            SECURING ◄──220── STARTTLS ──refused──► IDLE, where that is allowed
 *
 * Any of them: ENDED (lost, 421, malformed, out of step, deadline); QUIT from IDLE.
 */
enum smtp_client_state {
    SMTP_CLIENT_GREETING,
    SMTP_CLIENT_HELLO,
    SMTP_CLIENT_STARTTLS,
    SMTP_CLIENT_SECURING,
    SMTP_CLIENT_IDLE,
    SMTP_CLIENT_ENVELOPE,
    SMTP_CLIENT_BODY,
    SMTP_CLIENT_DOT,
    SMTP_CLIENT_RESET,
    SMTP_CLIENT_QUIT,
    SMTP_CLIENT_ENDED,
};

/* Where we are in the commands of a transaction. Replies come in the order of the commands, so a
 * position stands for both: RCPT number `index`, or what precedes and follows them. */
struct smtp_client_position {
    uint8_t stage; /* SMTP_CLIENT_AT_MAIL, _RCPT, _DATA, _DOT (all of them are behind) */
    uint32_t index;
};

/* Private to the machine; here so that it can lie inside its owner. */
struct smtp_client {
    const struct smtp_client_settings *settings;
    uint8_t state;     /* enum smtp_client_state */
    uint8_t tls;       /* enum smtp_client_tls */
    uint8_t secrecy;   /* enum smtp_client_secrecy */
    bool helo;         /* EHLO was refused, HELO was sent */
    bool judging;      /* some recipients are refused before the server is asked */
    bool mail_refused; /* of this transaction: results are given, replies are still on their way */
    bool empty_body;   /* 354 came though no recipient was taken: only the dot is sent */
    bool dot_left;     /* the final dot was written */
    bool broken;       /* smtp_client_closed or _expire said so, the results are not yet given */
    bool ending;       /* ENDED when all results are given */
    bool failed;       /* `failure` says why */
    uint16_t output_bytes;
    uint32_t extensions; /* enum smtp_extension */
    uint64_t size_limit; /* as announced with SIZE; 0: none */
    uint64_t progress_ns;
    uint64_t left_bytes;  /* see smtp_client_left */
    uint32_t block_bytes; /* gone since progress_ns */
    uint32_t unwritten;   /* replies that the commands in the output will bring */
    uint32_t awaited;     /* replies that the commands written so far still owe */
    uint32_t taken_count; /* recipients whose RCPT was accepted */
    struct smtp_client_message message;
    struct smtp_client_position next_sent;
    struct smtp_client_position next_reply;
    struct { /* results to be given: recipients in [from, to) whose state is in the mask `states` */
        uint32_t from, to;
        uint32_t states;
        struct smtp_client_result result;
    } report;
    struct smtp_client_result failure;
    const char *broken_text;
    struct smtp_status broken_status;
    char failure_text[SMTP_REPLY_TEXT_MAX];
    struct smtp_reply_parser parser;
    char output[SMTP_CLIENT_OUTPUT_BYTES];
};

static_assert(sizeof(struct smtp_client) <= 4096,
              "thousands of outgoing connections are open at once");

/* The connection is there; the server speaks first. settings: borrowed while the client is used. */
void smtp_client_open(struct smtp_client *client, const struct smtp_client_settings *settings,
                      uint64_t now_ns);

/* What to do about STARTTLS; right after smtp_client_open, which says NEVER. */
void smtp_client_use_tls(struct smtp_client *client, enum smtp_client_tls tls);
/* After SMTP_CLIENT_WANT_TLS: TLS is open. All that the server said before is forgotten, and EHLO said
 * again (RFC 3207 §4.2). */
void smtp_client_secured(struct smtp_client *client, uint64_t now_ns);
/* Or it has failed: as smtp_client_closed, but for the status. */
void smtp_client_tls_failed(struct smtp_client *client, const char *text);

/* Bytes from the server, or none. *used of them are done with, the rest must be given again. */
enum smtp_client_want smtp_client_input(struct smtp_client *client, uint64_t now_ns,
                                        struct slice input, size_t *used,
                                        struct smtp_client_result *result);

/* Commands to send; borrowed until the next call. Empty: none now. After all of it was written, say
 * so with smtp_client_output_sent, and ask again. */
struct slice smtp_client_output(struct smtp_client *client);
void smtp_client_output_sent(struct smtp_client *client, uint64_t now_ns);

/* Only when SMTP_CLIENT_WANT_MESSAGE was returned. *message is copied; what it points to is
 * borrowed until each recipient had its result. */
void smtp_client_begin(struct smtp_client *client, const struct smtp_client_message *message,
                       uint64_t now_ns);

/* All of the body has been written. */
void smtp_client_body_sent(struct smtp_client *client, uint64_t now_ns);

/* So much is not with the server yet: body that is still to be written, and what the carrier still has. A message is
 * on its way when the server has it, not when it is written: each time a block more is gone, the deadline moves, and
 * the server has the time for its answer from the moment when nothing is left (RFC 5321 §4.5.3.2.5 and .6). To be
 * called whenever the carrier tells something, and before smtp_client_expire. */
void smtp_client_left(struct smtp_client *client, uint64_t bytes, uint64_t now_ns);

/* Only between transactions: ends the session in an orderly way. Call smtp_client_input then, as
 * ever. */
void smtp_client_quit(struct smtp_client *client, uint64_t now_ns);

/* The connection is lost, or cannot be read or written any more; all that was received has been
 * given. text: static, why. Recipients that wait get temporary results, by the next call of
 * smtp_client_input. */
void smtp_client_closed(struct smtp_client *client, const char *text);

/* When smtp_client_expire must be called; SMTP_CLIENT_NEVER while idle. */
uint64_t smtp_client_deadline(const struct smtp_client *client);
void smtp_client_expire(struct smtp_client *client, uint64_t now_ns);

/* After SMTP_CLIENT_WANT_CLOSE: why the connection ended; NULL when it ended as asked. Before the
 * first message this is all that is told: outcome PERMANENT means that the server said 5xx to
 * greeting or EHLO. */
const struct smtp_client_result *smtp_client_failure(const struct smtp_client *client);

static inline enum smtp_client_secrecy smtp_client_secrecy(const struct smtp_client *client)
{
    return (enum smtp_client_secrecy)client->secrecy;
}

/* Do wishes about reports go on to this server? Else whoever asked for success must be told here. */
static inline bool smtp_client_passes_dsn(const struct smtp_client *client)
{
    return (client->extensions & SMTP_EXTENSION_DSN) != 0;
}

static inline bool smtp_client_idle(const struct smtp_client *client)
{
    return client->state == SMTP_CLIENT_IDLE && !client->ending;
}
