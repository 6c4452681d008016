/*
 * server: the receiving side of SMTP and LMTP, one connection, without I/O.
 *
 * The owner feeds bytes and answers; the machine says what the client asks and what to reply:
 *
 *     want = smtp_server_input(server, now_ns, input, &used, &event);   then consume `used`
 *
 * gives at most one event a call; call again while it uses input or gives events. An event of a kind that is
 * marked with (verdict) is answered by smtp_server_verdict before the next input; until then the machine takes
 * nothing. Replies gather in smtp_server_output; when there is no room for another the machine stops taking input.
 * Slices of an event point into the input or into the machine and are borrowed until the next call.
 *
 * A body comes in pieces of the input, in wire form (CRLF lines, dot-stuffed, without the final dot), found with one
 * scan; nothing is copied here. The owner keeps the transaction's paths; on every way out of a transaction that did
 * not end with a verdict on the body the machine gives SMTP_EVENT_RESET, once.
 *
 * AUTH carries a SASL exchange that the owner runs: each AUTH and each line of the client's is an event, answered by
 * smtp_server_challenge, or by smtp_server_verdict which ends it; 235: the client is who it says. Between them nothing
 * may come: who does not wait for an answer has lost the synchronization. A line that is longer than a command asks the
 * owner for room (SMTP_EVENT_AUTH_ROOM), which he has back when the exchange is over. What was secret is wiped.
 *
 * Nothing is allocated; the struct is public only so that it can lie inside its owner.
 *
 * Source: RFC 5321; RFC 2033 (LMTP); RFC 1870 (SIZE); RFC 2920 (PIPELINING); RFC 3030 (CHUNKING); RFC 6152
 * (8BITMIME); RFC 6531 (SMTPUTF8); RFC 3461 (DSN); RFC 2034, 3463 (status codes); RFC 3207 (STARTTLS);
 * RFC 4954 (AUTH). Inputs that broke others: bare newlines, second
 * envelopes in a body, commands of other protocols.
 */
#pragma once
#include "engine/core/limits.h"
#include "proto/smtp/address.h"
#include "proto/smtp/body_scan.h"
#include "proto/smtp/dsn_parameters.h"

#define SMTP_SERVER_OUTPUT_BYTES 1280
#define SMTP_SERVER_NEVER UINT64_MAX

enum smtp_want {
    SMTP_WANT_INPUT,   /* send the output, then wait for bytes or the deadline */
    SMTP_WANT_VERDICT, /* the event just given must be answered first */
    SMTP_WANT_COMMIT, /* the end of the message was given: one verdict (LMTP: one for each recipient, in order) */
    /* Send the output, throw away whatever else the client has sent in the clear, encrypt; then
     * smtp_server_secured (RFC 3207) */
    SMTP_WANT_TLS,
    SMTP_WANT_CLOSE, /* send the output, then close */
};

enum smtp_event_kind {
    SMTP_EVENT_NONE,
    SMTP_EVENT_CONNECTED, /* (verdict) 220, or 421/554 which ends the session; NULL: the usual greeting */
    SMTP_EVENT_HELO,      /* text: the client's name */
    SMTP_EVENT_SENDER,    /* (verdict) path, size, eight_bit, smtputf8, ret, envid */
    SMTP_EVENT_RECIPIENT, /* (verdict) path, notify, orcpt */
    SMTP_EVENT_BODY_BEGIN, /* a message follows; smtp_server_body_refuse may be called from here on */
    SMTP_EVENT_BODY,       /* body: the next piece */
    SMTP_EVENT_BODY_END,   /* (commit) the message is whole */
    SMTP_EVENT_RESET,      /* nothing of the transaction is valid any more */
    /* (verdict, or smtp_server_challenge) text: the mechanism; octets: its initial response */
    SMTP_EVENT_AUTH,
    SMTP_EVENT_AUTH_ANSWER, /* (the same) octets: the client's answer to the challenge */
    SMTP_EVENT_AUTH_ROOM,   /* (smtp_server_auth_room) */
    SMTP_EVENT_AUTH_END, /* the client has given up, or broken the exchange, and has its answer */
};

struct smtp_event {
    enum smtp_event_kind kind;
    struct slice text;
    struct slice body;
    struct smtp_path path;
    uint64_t size; /* as MAIL announced it; 0: not */
    bool eight_bit, smtputf8;
    /* What the sender wants of reports (RFC 3461); ENVID and ORCPT in xtext, valid, or empty. */
    uint8_t ret;    /* enum smtp_ret, of MAIL, and so is envid */
    uint8_t notify; /* enum smtp_notify, of RCPT, and so is orcpt */
    struct slice envid, orcpt;
    bool has_octets; /* of AUTH: an empty initial response is not the same as none */
    struct slice octets;
};

struct smtp_verdict {
    uint16_t code;      /* 2xx to 5xx; 421 ends the session */
    const char *status; /* "2.1.5"; static text; "": none */
    struct slice text;  /* one line, printable, at most SMTP_VERDICT_TEXT_MAX; longer is cut */
};
#define SMTP_VERDICT_TEXT_MAX 400

/* Shared by sessions, borrowed while one is open. 0 means no limit, but for the times. */
struct smtp_server_settings {
    struct slice hostname;
    bool lmtp;
    bool pipelining, chunking,
        smtputf8;   /* what is announced; 8BITMIME, SIZE and status codes always are */
    bool dsn;       /* announced; else its parameters are not known */
    bool starttls;  /* announced until the session is encrypted; else STARTTLS is not known */
    bool tls_only;  /* nothing begins in the clear: 530 5.7.0; without STARTTLS 454 4.7.0 */
    bool normalize; /* bare newlines become lines; else they are refused */
    uint64_t message_bytes_max;
    uint32_t recipients_max; /* of a message: then 452 4.5.3 */
    uint32_t errors_max;     /* of a session: then 421 4.7.0 */
    uint32_t
        junk_max; /* commands since the last message that carry no mail forward; then 421 4.7.0 */
    uint32_t messages_max; /* of a session: then 421 4.7.0 */
    uint32_t line_bytes_max, header_bytes_max, header_lines_max, hops_max;
    uint64_t command_ns,
        data_ns; /* RFC 5321 §4.5.3.2.7 asks for at least 5 min, §4.5.3.2.5 for 3 min */
    /* A message has data_ns, and with each octet so much more, but never more than data_ns from then on: so its client
     * can pause, and yet not drip for ever. 0: each piece has data_ns. */
    uint64_t octet_ns;
};

/* For octet_ns: of so many octets a second; 0: as it was written. */
static inline uint64_t smtp_octet_ns(uint32_t octets_per_s)
{
    return octets_per_s > 0 ? 1000000000u / octets_per_s : 0;
}

/*
 *            EHLO           MAIL            RCPT             DATA, 354 or BDAT
 *  GREETED ───────► READY ───────► SENDER ───────► RECIPIENTS ────────────────► BODY
 *                     ▲  ◄─ RSET ───┴───────────────┘                             │
 *                     └──────────────── 250 when the owner says so ◄─ COMMIT ◄────┘
 *
 * STARTTLS leads from READY to SECURING, and smtp_server_secured from there to GREETED; AUTH to EXCHANGE while the client
 * has a challenge, and back.
 */
enum smtp_server_state {
    SMTP_CONNECTED,
    SMTP_GREETED,
    SMTP_READY,
    SMTP_EXCHANGE,
    SMTP_SENDER,
    SMTP_RECIPIENTS,
    SMTP_BODY,       /* DATA */
    SMTP_CHUNK,      /* inside a BDAT chunk */
    SMTP_CHUNK_NEXT, /* between chunks */
    SMTP_CHUNK_SKIP, /* inside a chunk that is thrown away */
    SMTP_COMMIT,
    SMTP_SECURING, /* between the answer to STARTTLS and the end of the handshake */
    SMTP_ENDED,
};

struct smtp_server {
    const struct smtp_server_settings *settings;
    uint8_t state;   /* enum smtp_server_state */
    uint8_t pending; /* enum smtp_event_kind that waits for a verdict, or SMTP_EVENT_NONE */
    bool extended;   /* EHLO or LHLO, not HELO */
    bool secured;    /* by TLS */
    bool reset_owed; /* SMTP_EVENT_RESET comes before anything else */
    bool refused;    /* the owner cannot keep this body: refusal is what the end is answered with */
    bool chunk_last;
    bool line_overflow;  /* the command under way is too long; its rest is thrown away */
    bool bare_lines;     /* see smtp_server_take_bare_lines */
    bool lf_passed_over; /* a bare CR has ended a line: an LF that comes next belongs to it */
    bool
        text_may_follow; /* DATA was refused: what follows may be the text of a client that did not wait */
    bool clock_due; /* we have kept the client waiting: its time begins with the next call */
    bool smtputf8;  /* of this transaction */
    bool auth_known, auth_demanded; /* see smtp_server_offer_auth */
    bool authenticated;
    bool answer_due;     /* of AUTH: nothing may come before it is sent */
    bool auth_line;      /* it is one of AUTH that line_overflow is about */
    uint8_t after_skip;  /* state behind SMTP_CHUNK_SKIP */
    uint64_t chunk_left; /* octets of the BDAT chunk that are still to come */
    uint32_t recipient_count;
    uint32_t commit_left; /* verdicts still owed by the owner */
    uint32_t errors, junk, messages;
    uint64_t deadline_ns;
    uint64_t body_deadline_ns; /* of the message under way, all its chunks together */
    struct body_limits body_limits;
    struct body_scan scan;
    struct slice tail; /* of the last chunk: given before the end */
    uint16_t refusal_code;
    char refusal_status[12];
    char refusal_text[96];
    struct slice mechanisms; /* that are announced; the owner's */
    char *lent;              /* the owner's room for the line under way; NULL: `line` */
    uint8_t helo_bytes;
    char helo[255]; /* as the client gave it */
    uint16_t line_bytes;
    uint16_t output_from, output_bytes;
    char line[SMTP_COMMAND_BYTES_MAX]; /* of a command that came in pieces */
    char output[SMTP_SERVER_OUTPUT_BYTES];
};

_Static_assert(sizeof(struct smtp_server) <= 4096, "5,000 sessions must be cheap");

void smtp_server_open(struct smtp_server *server, const struct smtp_server_settings *settings,
                      uint64_t now_ns);

/* After smtp_server_open: of this client CR or LF alone ends a command line too. A message it never ends. */
void smtp_server_take_bare_lines(struct smtp_server *server);

/* After smtp_server_open, and again after smtp_server_secured: AUTH is known to this client. mechanisms: what EHLO
 * announces, "PLAIN LOGIN"; empty: none can be used on this connection as it is; borrowed while the session is open.
 * demanded: until it has logged in, nothing that carries mail is taken: 530 5.7.0. */
enum smtp_auth { SMTP_AUTH_OFFERED, SMTP_AUTH_DEMANDED };
void smtp_server_offer_auth(struct smtp_server *server, struct slice mechanisms,
                            enum smtp_auth demand);

enum smtp_want smtp_server_input(struct smtp_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct smtp_event *event);
/* Answers the event that waits. NULL: with what is usual for it. */
void smtp_server_verdict(struct smtp_server *server, const struct smtp_verdict *verdict);
/* Answers AUTH or AUTH_ANSWER with 334. False: it does not fit; a verdict is still owed. */
bool smtp_server_challenge(struct smtp_server *server, struct slice octets);
/* Answers AUTH_ROOM. room: SMTP_AUTH_LINE_BYTES_MAX octets, lent until a verdict on the exchange or AUTH_END; NULL: there
 * is none, the line is too long. */
void smtp_server_auth_room(struct smtp_server *server, char *room);
/* The owner cannot keep the body that comes: its rest is thrown away, and its end answered with this. *verdict is
 * copied. No SMTP_EVENT_BODY_END follows, but a RESET. */
void smtp_server_body_refuse(struct smtp_server *server, const struct smtp_verdict *verdict);

/* The stream is encrypted from here on: after SMTP_WANT_TLS, or right after smtp_server_open where the
 * handshake comes first (RFC 8314). What was said before is forgotten, but errors still count. */
void smtp_server_secured(struct smtp_server *server, uint64_t now_ns);

/* DATA was refused, and nothing has come since. What comes before the client can have read that, is the text of one
 * that did not wait, whatever it looks like: the machine knows while the refusal is in its output, the owner while the
 * client's TCP has not acknowledged it. Then he calls smtp_server_text_came instead of feeding it, which ends the
 * session. What comes later is a command if it looks like one: nobody can tell it from the next of a client that
 * waited. */
bool smtp_server_data_refused(const struct smtp_server *server);
void smtp_server_text_came(struct smtp_server *server);

/* Replies to send, borrowed until the next call. */
struct slice smtp_server_output(const struct smtp_server *server);
void smtp_server_sent(struct smtp_server *server, size_t bytes);

/* When smtp_server_expire must be called; SMTP_SERVER_NEVER while a commit is awaited. */
uint64_t smtp_server_deadline(const struct smtp_server *server);
void smtp_server_expire(struct smtp_server *server,
                        uint64_t now_ns); /* 421 4.4.2; close afterwards */

/* The owner could take nothing for so long: that is not the client's time. */
void smtp_server_waited(struct smtp_server *server, uint64_t waited_ns);
/* What the client has got to, in the words of the log: "EHLO", "DATA". */
const char *smtp_server_stage(const struct smtp_server *server);

/* Between transactions, with no command begun? Then it may be ended with 421 (we are stopping). */
bool smtp_server_idle(const struct smtp_server *server);
void smtp_server_shut(struct smtp_server *server);

/* What the client called itself; empty before EHLO. */
struct slice smtp_server_helo(const struct smtp_server *server);
/* "ESMTP", "SMTP", "LMTP", with SMTPUTF8 "UTF8SMTP", "UTF8LMTP", encrypted with an S behind it,
 * authenticated with an A (ESMTPSA): for Received: (RFC 3848, 6531). */
const char *smtp_server_protocol(const struct smtp_server *server);
