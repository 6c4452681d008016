/*
 * server: the serving side of POP3, one connection, without I/O.
 *
 * The owner feeds octets and answers; the machine says what the client asks and what to reply:
 *
 *     want = pop3_server_input(server, now_ns, input, &used, &event);   then consume `used`
 *
 * gives at most one event a call; call again while it uses input or gives events. An event that is marked with
 * (verdict) is answered before the next input; until then the machine takes nothing. Replies gather in
 * pop3_server_output; when there is no room for another the machine takes no input. Slices of an event are borrowed
 * until the next call.
 *
 * Whoever logs in gets a maildrop: the list of messages as they were then, which the owner keeps and the machine reads
 * and marks (RFC 1939 §5: a lock, and a snapshot). So STAT, LIST, UIDL, DELE and RSET are no events. Nothing is removed
 * but by POP3_EVENT_UPDATE.
 *
 * A message is sent by the owner, from where it lies: after POP3_WANT_MESSAGE he sends the output, then all pieces that
 * pop3_server_piece makes of it, then calls pop3_server_message_end.
 *
 * Nothing is allocated but the line of an AUTH exchange that is longer than a command, while it is under way.
 *
 * Source: RFC 1939; RFC 2449 (CAPA, RESP-CODES, PIPELINING, line lengths); RFC 2595 (STLS); RFC 3206 (AUTH-RESP-CODE);
 * RFC 5034 (AUTH).
 */
#pragma once
#include "proto/pop3/top.h"

#define POP3_OUTPUT_BYTES 4096
#define POP3_COMMAND_BYTES_MAX 512    /* RFC 2449 §4 asks for 255; longer: -ERR */
#define POP3_EXCHANGE_BYTES_MAX 12288 /* of a line of AUTH, RFC 5034 §4; longer: -ERR */
#define POP3_CHALLENGE_BYTES_MAX 2048 /* octets; a longer one ends the exchange with -ERR */
#define POP3_USER_BYTES_MAX 320       /* longer: -ERR */
#define POP3_UIDL_BYTES_MAX 70        /* RFC 1939 §7 */
#define POP3_TEXT_MAX 300             /* of a verdict; longer is cut */

enum pop3_want {
    POP3_WANT_INPUT,   /* send the output, then wait for octets or the deadline */
    POP3_WANT_VERDICT, /* the event just given must be answered first */
    POP3_WANT_MESSAGE, /* send the output, then the message; see above */
    /* Send the output, throw away whatever else the client has sent in the clear, encrypt; then pop3_server_secured */
    POP3_WANT_TLS,
    POP3_WANT_CLOSE, /* send the output, then close */
};

enum pop3_event_kind {
    POP3_EVENT_NONE,
    POP3_EVENT_CONNECTED, /* (verdict) -ERR ends the session; NULL: the usual greeting */
    POP3_EVENT_LOGIN,     /* (verdict, or pop3_server_admit) user, password */
    /* (verdict, pop3_server_admit or pop3_server_challenge) mechanism; has_octets: octets, of the initial response */
    POP3_EVENT_AUTH,
    POP3_EVENT_AUTH_ANSWER, /* (the same) octets: what the client answered to the challenge */
    POP3_EVENT_AUTH_CANCEL, /* the client gave up; the reply is given */
    POP3_EVENT_RETRIEVE, /* (verdict) message, from 0; lines, POP3_ALL_LINES: all. +OK: POP3_WANT_MESSAGE follows */
    POP3_EVENT_UPDATE, /* (verdict) remove what is marked as deleted; the session ends */
};

struct pop3_event {
    enum pop3_event_kind kind;
    struct slice user, password;
    struct slice mechanism, octets;
    bool has_octets;
    uint32_t message, lines;
};

enum pop3_answer { POP3_OK, POP3_ERR, POP3_ERR_CLOSE };
struct pop3_verdict {
    enum pop3_answer answer;
    const char
        *code; /* "AUTH", "SYS/TEMP", "SYS/PERM", "IN-USE", "LOGIN-DELAY"; "": none. Static text */
    struct slice text; /* one line, printable */
};

struct pop3_message {
    uint64_t bytes; /* in wire form, without stuffing */
    struct slice
        uidl; /* 1 to POP3_UIDL_BYTES_MAX octets of 0x21 to 0x7e; the same for ever, and of no other message */
    bool deleted; /* marked by the client */
};
/* The owner's; borrowed from pop3_server_admit until the session ends. */
struct pop3_maildrop {
    struct pop3_message *messages;
    uint32_t count;
};

/* Shared by sessions, borrowed while one is open. */
struct pop3_server_settings {
    struct slice greeting; /* behind +OK; one line */
    struct slice sasl_clear,
        sasl_secure;     /* names of mechanisms with blanks between; empty: no AUTH */
    bool clear_login;    /* USER and PASS without TLS */
    bool stls;           /* announced until the session is encrypted; else STLS is not known */
    uint32_t errors_max; /* of a session; 0: no limit */
    uint64_t login_ns;   /* how long nothing may come before login; 0: idle_ns */
    uint64_t idle_ns;    /* and after it: RFC 1939 §3 asks for at least 10 min */
};

/*
 *                  USER              PASS, right
 *  AUTHORIZATION ───────► USER ─────────────────────► TRANSACTION ── RETR, TOP ──► SENDING
 *     │   ▲  ◄──────────── wrong ─────┘                  ▲    │  ◄───────────────────┘
 *     │   │ AUTH                       right             │    │ LIST, UIDL
 *     │   └──────► EXCHANGE ─────────────────────────────┘    ├────────────► LISTING
 *     └── STLS ──► SECURING                              QUIT └──► UPDATE ──► ENDED
 */
enum pop3_state {
    POP3_CONNECTED,
    POP3_AUTHORIZATION,
    POP3_USER,     /* the name was given */
    POP3_EXCHANGE, /* a challenge was sent */
    POP3_TRANSACTION,
    POP3_LISTING, /* LIST or UIDL of all, as far as there is room */
    POP3_SENDING,
    POP3_SECURING,
    POP3_UPDATE,
    POP3_ENDED,
};

struct pop3_server {
    const struct pop3_server_settings *settings;
    uint8_t state;   /* enum pop3_state */
    uint8_t pending; /* enum pop3_event_kind that waits, or POP3_EVENT_NONE */
    bool secured;
    bool line_overflow; /* the line under way is too long; its rest is thrown away */
    bool line_ended;    /* what is kept of the line is not needed any more */
    bool clock_due;     /* we have kept the client waiting: its time begins with the next call */
    bool listing_uidl;
    uint32_t listing_at;
    uint32_t errors;
    uint64_t deadline_ns;
    struct pop3_maildrop *maildrop;
    uint32_t live_count; /* of messages that are not marked */
    uint64_t live_bytes;
    struct pop3_top top;
    char *long_line; /* owned; NULL: line is used */
    uint16_t line_bytes;
    uint16_t user_bytes;
    uint16_t output_from, output_bytes;
    char user[POP3_USER_BYTES_MAX];
    char line[POP3_COMMAND_BYTES_MAX];
    char output[POP3_OUTPUT_BYTES];
};

void pop3_server_open(struct pop3_server *server, const struct pop3_server_settings *settings,
                      uint64_t now_ns);
/* At any moment. */
void pop3_server_close(struct pop3_server *server);

enum pop3_want pop3_server_input(struct pop3_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct pop3_event *event);
/* Answers the event that waits. NULL: +OK with what is usual. LOGIN and AUTH are granted by pop3_server_admit alone. */
void pop3_server_verdict(struct pop3_server *server, const struct pop3_verdict *verdict);
void pop3_server_admit(struct pop3_server *server, struct pop3_maildrop *maildrop);
/* The exchange goes on. */
void pop3_server_challenge(struct pop3_server *server, struct slice octets);

/* The next piece to send of a message of which *rest was read. False: all of *rest is taken. */
bool pop3_server_piece(struct pop3_server *server, struct slice *rest, struct slice *piece);
/* No more of the message is needed: the lines that were asked for are there. */
bool pop3_server_message_enough(const struct pop3_server *server);
/* Its last octet was given. What follows is in the output. */
void pop3_server_message_end(struct pop3_server *server);
/* The message cannot be read to its end: the client must not take it for whole. The session ends, without UPDATE. */
void pop3_server_message_broken(struct pop3_server *server);

/* The stream is encrypted from here on: after POP3_WANT_TLS, or right after pop3_server_open (RFC 8314). */
void pop3_server_secured(struct pop3_server *server, uint64_t now_ns);

/* Replies to send, borrowed until the next call. */
struct slice pop3_server_output(const struct pop3_server *server);
void pop3_server_sent(struct pop3_server *server, size_t bytes);

/* The client has taken some of a message. */
void pop3_server_progress(struct pop3_server *server, uint64_t now_ns);
uint64_t pop3_server_deadline(const struct pop3_server *server);
/* RFC 1939 §3: the connection is closed without a reply, and nothing is removed. */
void pop3_server_expire(struct pop3_server *server);
