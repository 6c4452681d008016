/*
 * server: the server's side of IMAP4rev1 and IMAP4rev2, one connection, without I/O.
 *
 * The owner feeds bytes and executes commands; the machine frames, parses, keeps the protocol's state and writes what
 * belongs to the protocol itself: the greeting, continuations, tagged answers, CAPABILITY, ENABLED, BYE.
 *
 *     want = imap_server_input(server, now_ns, input, &used, &event);   then consume `used`
 *
 * gives at most one event a call; call again while it uses input or gives events, and after each answer. While an event
 * that is marked (answer) waits, it takes nothing: pipelined commands run one after another.
 *
 * ORDER OF OUTPUT. After every call that is not const, move imap_server_output to the end of your own queue before you
 * write anything there yourself. So untagged data that you write before imap_server_done stands before the tagged
 * answer, and what the machine had to say before a command stands before its data.
 *
 * MEMORY. The struct is small and lies in its owner. Text, tree and output are taken from the heap while a command is
 * under way or unsent, and given back with it; an idle session has none. imap_server_close gives back what is left.
 *
 * The machine itself answers CAPABILITY, LOGOUT, STARTTLS, ENABLE and everything malformed. A session that is wrong
 * settings->errors_max times without a command between that was right is ended.
 *
 * Source: RFC 9051, RFC 3501; RFC 7888 (LITERAL+, LITERAL-); RFC 3502 (MULTIAPPEND); RFC 4469 (CATENATE); RFC 2177
 * (IDLE); RFC 4959 (SASL-IR); RFC 5161 (ENABLE); RFC 5530 (response codes); RFC 7162 (CONDSTORE, QRESYNC); RFC 7889
 * (APPENDLIMIT).
 */
#pragma once
#include "engine/core/limits.h"
#include "proto/imap/names.h"
#include "proto/imap/parser.h"

#define IMAP_SERVER_NEVER UINT64_MAX

enum imap_want {
    IMAP_WANT_INPUT,  /* send the output, then wait for bytes or the deadline */
    IMAP_WANT_ANSWER, /* the event just given must be answered first */
    /* Send the output, throw away whatever else has come in the clear, encrypt; then imap_server_secured */
    IMAP_WANT_TLS,
    IMAP_WANT_CLOSE, /* send the output, then close */
};

enum imap_event_kind {
    IMAP_EVENT_NONE,
    /* (answer) command: imap_server_done. Of AUTHENTICATE also imap_server_challenge; `bytes` is the initial response.
     * IDLE is not answered now: the client waits already, write what happens; IDLE_DONE follows. Its command has no
     * tag. */
    IMAP_EVENT_COMMAND,
    IMAP_EVENT_RESPONSE, /* (answer) bytes: what the client says to the challenge; as COMMAND of AUTHENTICATE */
    IMAP_EVENT_CANCELLED, /* the exchange is over, and the client told so */
    IMAP_EVENT_IDLE_DONE, /* (answer) imap_server_done ends IDLE */
    /* (answer) append: a message is about to come; imap_server_take or imap_server_refuse. */
    IMAP_EVENT_MESSAGE,
    IMAP_EVENT_MESSAGE_BYTES, /* bytes: the next of them, a slice of the input */
    IMAP_EVENT_MESSAGE_URL,   /* (answer) bytes: its next part is what this names; as MESSAGE */
    IMAP_EVENT_MESSAGE_END, /* it is whole; another or COMMAND (APPEND, REPLACE) follows, which commits all */
    IMAP_EVENT_APPEND_RESET, /* the messages that were taken are nothing: the command has failed */
};

struct imap_event {
    enum imap_event_kind kind;
    /* Valid until the answer; NULL unless COMMAND. */
    const struct imap_command *command;
    /* EXPUNGE may be told while it runs: not during FETCH, STORE, SEARCH, SORT, THREAD (RFC 9051 §7.5.1) */
    bool may_expunge;
    bool
        condstore_begins; /* this command has enabled CONDSTORE: tell HIGHESTMODSEQ (RFC 7162 §3.1.2) */
    bool initial_given; /* of AUTHENTICATE */
    const struct imap_append
        *append; /* MESSAGE: valid until the command ends, but for what the next one changes */
    struct slice bytes; /* borrowed until the next call */
};

enum imap_result { IMAP_OK, IMAP_NO, IMAP_BAD };

struct imap_answer {
    enum imap_result result;
    struct slice code; /* "READ-WRITE", "APPENDUID 1 2": without brackets; empty: none */
    struct slice text; /* empty: what is usual */
};

/* What is announced and understood. */
enum imap_capability {
    IMAP_CAP_REV2 = 1 << 0,
    IMAP_CAP_LITERAL_PLUS = 1 << 1, /* else LITERAL-: at most 4096 bytes unasked */
    IMAP_CAP_IDLE = 1 << 2,
    IMAP_CAP_NAMESPACE = 1 << 3,
    IMAP_CAP_CHILDREN = 1 << 4,
    IMAP_CAP_UNSELECT = 1 << 5,
    IMAP_CAP_UIDPLUS = 1 << 6,
    IMAP_CAP_MOVE = 1 << 7,
    IMAP_CAP_ESEARCH = 1 << 8,
    IMAP_CAP_SEARCHRES = 1 << 9,
    IMAP_CAP_WITHIN = 1 << 10,
    IMAP_CAP_LIST_EXTENDED = 1 << 11,
    IMAP_CAP_LIST_STATUS = 1 << 12,
    IMAP_CAP_SPECIAL_USE = 1 << 13, /* CREATE-SPECIAL-USE too */
    IMAP_CAP_STATUS_SIZE = 1 << 14,
    IMAP_CAP_SAVEDATE = 1 << 15,
    IMAP_CAP_CONDSTORE = 1 << 16,
    IMAP_CAP_QRESYNC = 1 << 17,
    IMAP_CAP_MULTIAPPEND = 1 << 18,
    IMAP_CAP_BINARY = 1 << 19,
    IMAP_CAP_SORT = 1 << 20, /* ESORT too with ESEARCH */
    IMAP_CAP_SORT_DISPLAY = 1 << 21,
    IMAP_CAP_THREAD = 1 << 22, /* both algorithms */
    IMAP_CAP_QUOTA = 1 << 23,
    IMAP_CAP_COMPRESS = 1 << 24,
    IMAP_CAP_PREVIEW = 1 << 25,
    IMAP_CAP_REPLACE = 1 << 26,
    IMAP_CAP_UTF8 = 1 << 27,
    IMAP_CAP_CATENATE = 1 << 28,
    IMAP_CAP_OBJECTID = 1 << 29,
    IMAP_CAP_ACL = 1 << 30, /* LIST-MYRIGHTS too */
};
#define IMAP_CAP_METADATA (1ull << 31) /* LIST-METADATA too */
#define IMAP_CAP_NOTIFY (1ull << 32)
#define IMAP_CAP_CONTEXT_SEARCH (1ull << 33) /* CONTEXT=SORT too with SORT */
#define IMAP_CAP_PARTIAL (1ull << 34)
#define IMAP_CAP_SEARCH_FUZZY (1ull << 35)
#define IMAP_CAP_UNAUTHENTICATE (1ull << 36)
#define IMAP_CAP_INPROGRESS (1ull << 37)

/* Shared by sessions, borrowed while one is open. */
struct imap_server_settings {
    struct slice hostname;
    uint64_t capabilities;         /* enum imap_capability and those behind it */
    struct slice mechanisms;       /* of SASL, when encrypted: "PLAIN LOGIN"; at most 256 bytes */
    struct slice mechanisms_clear; /* when not */
    bool starttls;                 /* announced until the session is encrypted; else not known */
    bool login_in_clear;           /* else LOGINDISABLED until it is encrypted */
    uint64_t append_bytes_max;     /* of a message: APPENDLIMIT; then NO [TOOBIG] */
    uint32_t
        command_bytes_more; /* than IMAP_COMMAND_BYTES_MAX: who speaks says clients' words in his */
    uint32_t errors_max;    /* see above; at least 1 */
    uint64_t login_ns;      /* how long nothing may come before login */
    uint64_t idle_ns;       /* and after it: at least 30 min, RFC 9051 §5.4 */
};

/*
 *               LOGIN, AUTHENTICATE            SELECT, EXAMINE
 *  NOT_AUTHENTICATED ───────────► AUTHENTICATED ─────────────► SELECTED
 *         ▲                        │   ▲  ◄─ CLOSE, UNSELECT, a SELECT that failed ─┘
 *         └──── UNAUTHENTICATE ────┘   LOGOUT, BYE: from everywhere to LOGOUT
 */
enum imap_server_state {
    IMAP_NOT_AUTHENTICATED,
    IMAP_AUTHENTICATED,
    IMAP_SELECTED,
    IMAP_LOGGED_OUT,
};

/* What the next byte is. */
enum imap_server_phase {
    IMAP_PHASE_GREETING,  /* nothing is taken before imap_server_greet */
    IMAP_PHASE_LINE,      /* a command's text, up to CRLF */
    IMAP_PHASE_LITERAL,   /* a literal in it */
    IMAP_PHASE_SKIP_LINE, /* text of a command that has failed already */
    IMAP_PHASE_SKIP_LITERAL,
    IMAP_PHASE_APPEND,  /* the line is there and not yet read to its end */
    IMAP_PHASE_MESSAGE, /* the owner is to take or refuse a message, or a URL of it */
    IMAP_PHASE_MESSAGE_BYTES,
    IMAP_PHASE_COMMAND,   /* the owner executes */
    IMAP_PHASE_CHALLENGE, /* the owner is to challenge or decide */
    IMAP_PHASE_RESPONSE,  /* a line of the client's in base64 */
    IMAP_PHASE_IDLE,      /* DONE */
    IMAP_PHASE_IDLE_DONE, /* the owner is to end it */
    IMAP_PHASE_SECURING,
    IMAP_PHASE_ENDED,
};

struct imap_server {
    const struct imap_server_settings *settings;
    uint8_t state;        /* enum imap_server_state */
    uint8_t phase;        /* enum imap_server_phase */
    uint8_t enabled;      /* enum imap_enabled */
    uint8_t append_stage; /* see server_append.c */
    bool secured, compressed;
    bool has_literal; /* the line ends with head, and what follows it was not decided */
    bool append_open; /* the owner holds messages of it */
    bool reset_owed;  /* IMAP_EVENT_APPEND_RESET comes before anything else */
    bool idle_broken; /* something else than DONE came */
    bool clock_due;   /* the client's time begins with the next call */
    bool foreign;     /* nothing was ever right: may be another protocol */
    uint8_t tag_bytes;
    uint8_t kind; /* enum imap_command_kind, of the command under way */
    uint32_t errors;
    uint32_t append_count;
    uint64_t deadline_ns;
    uint64_t literal_left;
    uint64_t skip_left;    /* how much may still be thrown away of this command */
    uint64_t append_bytes; /* of the message under way */
    struct imap_literal_head head;
    struct imap_answer failure; /* of what is skipped */
    struct arena arena;
    struct imap_append *append;   /* in the arena; NULL: no APPEND is under way */
    struct imap_command *command; /* in the arena */
    uint8_t *text;                /* owned */
    uint32_t text_bytes, text_room;
    uint32_t line_from; /* where the last line of the text begins: behind the last literal */
    uint32_t append_at; /* how far APPEND was read */
    uint8_t *output;    /* owned */
    uint32_t output_from, output_bytes, output_room;
    char tag[IMAP_TAG_BYTES_MAX];
};

_Static_assert(sizeof(struct imap_server) <= 1024, "an idle session must fit in 16 KiB with all");

void imap_server_open(struct imap_server *server, const struct imap_server_settings *settings,
                      uint64_t now_ns);
/* Gives back the heap's memory; what was borrowed from it is gone. */
void imap_server_close(struct imap_server *server);
/* The first thing said; imap_server_bye instead of it refuses the connection. */
void imap_server_greet(struct imap_server *server);
/* The same to a client that is logged in already: PREAUTH (RFC 9051 §7.1.4). */
void imap_server_greet_known(struct imap_server *server);
/* Nothing is said: the client knows, and has enabled this (enum imap_enabled). */
void imap_server_begin_known(struct imap_server *server, uint8_t enabled);

enum imap_want imap_server_input(struct imap_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct imap_event *event);

/* Answers COMMAND, RESPONSE or IDLE_DONE with the tagged line, and does what it means for the session: OK to SELECT
 * selects, OK to LOGIN logs in. NULL: OK. Texts are copied; what is not printable is sent as '?'. */
void imap_server_done(struct imap_server *server, const struct imap_answer *answer);
/* Answers COMMAND of AUTHENTICATE or RESPONSE: "+ " and this in base64. */
void imap_server_challenge(struct imap_server *server, struct slice challenge);
/* MESSAGE, MESSAGE_URL: go on. */
void imap_server_take(struct imap_server *server);
/* From MESSAGE on, until COMMAND: the command fails with this. The rest of what the client sends unasked is thrown away
 * before it is told. Nothing of the messages is valid; no reset follows. */
void imap_server_refuse(struct imap_server *server, const struct imap_answer *answer);
/* "* BYE [code] text" and the end; code may be empty. At any time. */
void imap_server_bye(struct imap_server *server, struct slice code, struct slice text);
/* The stream is encrypted: after IMAP_WANT_TLS, or before imap_server_greet where the handshake comes first. */
void imap_server_secured(struct imap_server *server, uint64_t now_ns);

/* What to send, borrowed until the next call; then tell how much was taken. */
struct slice imap_server_output(const struct imap_server *server);
void imap_server_sent(struct imap_server *server, size_t bytes);

/* When to call imap_server_expire; IMAP_SERVER_NEVER while the owner is to answer. After an answer it is right from the
 * next imap_server_input on. */
uint64_t imap_server_deadline(const struct imap_server *server);
void imap_server_expire(struct imap_server *server); /* BYE; close afterwards */

/* What it holds of the heap. */
size_t imap_server_memory(const struct imap_server *server);
/* "IMAP4rev1 IMAP4rev2 ...", as it is announced now, or as it will be after login. Returns its size, < room. */
size_t imap_server_capabilities(const struct imap_server *server, bool logged_in, char *out,
                                size_t room);
#define IMAP_CAPABILITY_BYTES_MAX 1536
