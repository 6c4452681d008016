/*
 * managesieve_server: the server's side of ManageSieve, one connection, without I/O.
 *
 * The owner feeds bytes and answers; the machine says what the client asks:
 *
 *     want = managesieve_server_input(server, now_ns, input, &used, &event);   then consume `used`
 *
 * gives at most one event a call; call again while it uses input or gives events. Events marked with (verdict) are
 * answered by managesieve_server_verdict, before which nothing is taken. Replies gather in managesieve_server_output;
 * without room for another no input is taken. Slices of an event point into the input or the machine, and are borrowed
 * until the next call.
 *
 * A script comes in pieces, as it arrives: SCRIPT_BEGIN, SCRIPT any number of times, SCRIPT_END; when the connection
 * ends before, the owner drops it.
 *
 * Nothing is allocated; the struct is public only so that it can lie inside its owner.
 *
 * Source: RFC 5804.
 */
#pragma once
#include "proto/sieve/compile.h"

#define MANAGESIEVE_COMMAND_BYTES_MAX 8192 /* without a script; longer: NO */
#define MANAGESIEVE_OUTPUT_BYTES 8192
#define MANAGESIEVE_TEXT_BYTES_MAX 1024         /* of a reply; longer is cut */
#define MANAGESIEVE_CHALLENGE_BYTES_MAX 4096    /* base64 */
#define MANAGESIEVE_CAPABILITIES_BYTES_MAX 1536 /* of the texts in the settings together */

enum managesieve_want {
    MANAGESIEVE_WANT_INPUT,
    MANAGESIEVE_WANT_VERDICT,
    /* Send the output, throw away whatever else has come in the clear, encrypt; then managesieve_server_secured. */
    MANAGESIEVE_WANT_TLS,
    MANAGESIEVE_WANT_CLOSE, /* send the output, then close */
};

enum managesieve_event_kind {
    MANAGESIEVE_EVENT_NONE,
    MANAGESIEVE_EVENT_AUTHENTICATE, /* (verdict) name: the mechanism; text: initial response in base64, if given */
    MANAGESIEVE_EVENT_RESPONSE,       /* (verdict) text: the answer to a challenge, in base64 */
    MANAGESIEVE_EVENT_CANCEL,         /* the client gives up authenticating; is answered */
    MANAGESIEVE_EVENT_UNAUTHENTICATE, /* is answered; the next user is another */
    MANAGESIEVE_EVENT_HAVESPACE,      /* (verdict) name, size */
    MANAGESIEVE_EVENT_SCRIPT_BEGIN,   /* (verdict) name, size; check: only to be checked, no name */
    MANAGESIEVE_EVENT_SCRIPT,         /* text: the next piece */
    MANAGESIEVE_EVENT_SCRIPT_END,     /* (verdict) it is whole */
    MANAGESIEVE_EVENT_LISTSCRIPTS,    /* (verdict) after managesieve_server_list for each */
    MANAGESIEVE_EVENT_SETACTIVE,      /* (verdict) name; empty: none shall be active */
    MANAGESIEVE_EVENT_GETSCRIPT,      /* (verdict) name; for OK, managesieve_server_script before */
    MANAGESIEVE_EVENT_DELETESCRIPT,   /* (verdict) name */
    MANAGESIEVE_EVENT_RENAMESCRIPT,   /* (verdict) name, new_name */
};

struct managesieve_event {
    enum managesieve_event_kind kind;
    struct slice name, new_name, text;
    bool has_text; /* an empty one is another than none */
    bool check;
    uint32_t size;
};

enum managesieve_reply { MANAGESIEVE_OK, MANAGESIEVE_NO, MANAGESIEVE_BYE };

struct managesieve_verdict {
    enum managesieve_reply reply;
    const char *code;  /* "NONEXISTENT", "QUOTA/MAXSCRIPTS"; static text; NULL: none */
    struct slice text; /* UTF-8, also of several lines; empty: none */
};

/* Shared by sessions, borrowed while one is open. */
struct managesieve_settings {
    struct slice implementation;
    struct slice sieve;               /* extensions: see sieve_extensions_list */
    struct slice sasl, sasl_in_clear; /* mechanisms, a blank between; without TLS the second */
    struct slice owner;               /* who is logged in, and is told so; empty: nobody is */
    bool starttls;                    /* announced until the session is encrypted */
    uint32_t redirects_max;
    uint32_t script_bytes_max; /* larger: NO (QUOTA/MAXSIZE) */
    uint32_t errors_max;       /* of a session, failed logins too: then BYE; 0: no limit */
    uint64_t login_ns,
        idle_ns; /* for a command before and after login; RFC 5804 §1.2: the second 30 min at least */
};

/*
 *            AUTHENTICATE           OK               PUTSCRIPT
 *  CLEAR ──────────────► LOGGING_IN ───► LOGGED_IN ───────────► SCRIPT ──► SCRIPT_TAIL ─┐
 *    ▲  ◄──────── NO ────────┘             ▲  ◄────────────────── verdict ──────────────┘
 *    └───────────── UNAUTHENTICATE ────────┘
 *
 * STARTTLS leads from CLEAR to SECURING, and managesieve_server_secured back.
 */
enum managesieve_state {
    MANAGESIEVE_CLEAR, /* nobody is logged in */
    MANAGESIEVE_LOGGING_IN,
    MANAGESIEVE_LOGGED_IN,
    MANAGESIEVE_SCRIPT,
    MANAGESIEVE_SCRIPT_TAIL, /* what is behind a script, on its line: nothing */
    MANAGESIEVE_SECURING,
    MANAGESIEVE_ENDED,
};

struct managesieve_server {
    const struct managesieve_settings *settings;
    uint8_t state;
    uint8_t pending; /* enum managesieve_event_kind that waits for a verdict, or _NONE */
    bool logged_in, secured;
    bool in_quotes, escaped; /* in the line under way */
    bool overflow;           /* it is too long: its rest is thrown away */
    bool script_quoted;      /* it lies in the line, and not in the input */
    bool script_refused;     /* it is thrown away, and then refused with: */
    bool clock_due; /* the owner has answered: the client's time begins with the next call */
    const char *refusal_code;
    char refusal_text[160];
    uint32_t errors;
    uint32_t literal_end;  /* where in the line the last literal ends */
    uint32_t literal_left; /* octets of a literal that belong to the line */
    uint32_t script_left;
    uint32_t sending_left; /* of a script that goes to the client */
    bool sending;
    uint64_t deadline_ns;
    struct slice quoted; /* within line */
    uint32_t line_bytes, output_from, output_bytes;
    uint8_t line[MANAGESIEVE_COMMAND_BYTES_MAX];
    uint8_t output[MANAGESIEVE_OUTPUT_BYTES];
};

/* secured: TLS came first. The greeting is in the output. */
void managesieve_server_open(struct managesieve_server *server,
                             const struct managesieve_settings *settings, bool secured,
                             uint64_t now_ns);
enum managesieve_want managesieve_server_input(struct managesieve_server *server, uint64_t now_ns,
                                               struct slice input, size_t *used,
                                               struct managesieve_event *event);
/* To AUTHENTICATE and RESPONSE, OK logs in (text: the last of SASL in base64, or empty, and goes into the code). To
 * SCRIPT_BEGIN, OK says that it may come, and nothing to the client. NULL: OK. */
void managesieve_server_verdict(struct managesieve_server *server,
                                const struct managesieve_verdict *verdict);
/* Instead of a verdict to AUTHENTICATE and RESPONSE: base64, at most MANAGESIEVE_CHALLENGE_BYTES_MAX. */
void managesieve_server_challenge(struct managesieve_server *server, struct slice challenge);
/* Before the verdict to LISTSCRIPTS. False: no room; send the output first. name is a good one. */
bool managesieve_server_list(struct managesieve_server *server, struct slice name, bool active);
/* Before OK to GETSCRIPT: its size, and then its bytes, in pieces: returns how many were taken. */
void managesieve_server_script(struct managesieve_server *server, uint32_t size);
size_t managesieve_server_script_piece(struct managesieve_server *server, struct slice bytes);

/* After MANAGESIEVE_WANT_TLS: what was said before is forgotten, but for errors. */
void managesieve_server_secured(struct managesieve_server *server, uint64_t now_ns);

/* To send, borrowed until the next call. */
struct slice managesieve_server_output(const struct managesieve_server *server);
void managesieve_server_sent(struct managesieve_server *server, size_t bytes);

/* When managesieve_server_expire must be called; UINT64_MAX while a verdict is awaited. */
uint64_t managesieve_server_deadline(const struct managesieve_server *server);
void managesieve_server_expire(struct managesieve_server *server); /* BYE; close afterwards */
/* We are stopping: BYE (TRYLATER), when no verdict is awaited. */
void managesieve_server_shut(struct managesieve_server *server);
