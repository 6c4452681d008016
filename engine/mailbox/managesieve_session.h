/*
 * managesieve_session: a ManageSieve session, and what its files share: managesieve_session.c (the connection),
 * managesieve_login.c (who it is), managesieve_scripts.c (his scripts). Nobody else includes it.
 */
#pragma once
#include "engine/auth/login.h"
#include "engine/mailbox/dialogue.h"
#include "engine/mailbox/sieve_scripts.h"
#include "proto/sieve/managesieve_server.h"

/*
 *              STARTTLS, written           AUTHENTICATE           told
 *   SECURING ◄───────────────── READING ────────────────► LOGIN ────────► READING
 *      └──► HANDSHAKE ───done────► ▲ │ ▲
 *                                  │ │ └──────durable────── CHANGING
 *                                  │ └── PUTSCRIPT, ... ────────▲
 *                                  └── LOGOUT ──► CLOSING ──written──► gone
 *
 * A change goes on when its client is gone.
 */
enum managesieve_session_state {
    MANAGESIEVE_SESSION_HANDSHAKE = DIALOGUE_HANDSHAKE,
    MANAGESIEVE_SESSION_READING = DIALOGUE_READING,
    MANAGESIEVE_SESSION_SECURING = DIALOGUE_SECURING, /* the reply to STARTTLS */
    MANAGESIEVE_SESSION_CLOSING = DIALOGUE_CLOSING,
    MANAGESIEVE_SESSION_LOGIN = DIALOGUE_OWN, /* the desk has been asked */
    MANAGESIEVE_SESSION_CHANGING,             /* the store was told; its answer is the client's */
};

#define MANAGESIEVE_STEPS_MAX 3
#define MANAGESIEVE_SCRIPTS_MAX 64u /* of a user */
#define MANAGESIEVE_SCRIPT_BYTES_MAX MAILSTORE_PROPERTY_BYTES_MAX
/* "sieve/script/NAME" is a key. */
#define MANAGESIEVE_NAME_BYTES_MAX                                                                 \
    (MAILSTORE_PROPERTY_KEY_BYTES_MAX - (sizeof SIEVE_SCRIPT_KEY - 1))

struct managesieve_step { /* a property that is to be set; both of the heap, owned */
    char *key;
    struct slice value;
};

struct managesieve_session {
    struct dialogue dialogue; /* first */
    bool opened; /* the machine is; with TLS from the beginning it waits for the handshake */
    struct login login;
    struct mailstore_user *user; /* NULL: nobody is logged in */

    /* The script that comes in; owned. */
    uint8_t *script;
    uint32_t script_bytes, script_room;
    bool check_only;
    char name[MANAGESIEVE_NAME_BYTES_MAX + 1];

    /* One after the other, each when the one before is durable. */
    struct managesieve_step steps[MANAGESIEVE_STEPS_MAX];
    uint32_t step_count, step;
    struct mailstore_waiter waiter;

    struct managesieve_settings settings;
    char mechanisms[LOGIN_MECHANISMS_BYTES_MAX];
    char extensions[512];
    struct managesieve_server server;
};

/* managesieve_session.c */
/* The event that waits is refused. code: static, or NULL. */
void managesieve_session_refuse(struct managesieve_session *session, const char *code,
                                const char *text);
/* What the machine has said goes to the client: there is room in it again. */
void managesieve_session_output(struct managesieve_session *session);

/* managesieve_login.c */
/* What is offered on the stream as it is now. */
void managesieve_login_offer(struct managesieve_session *session);
void managesieve_login_begin(struct managesieve_session *session,
                             const struct managesieve_event *event);
void managesieve_login_answer(struct managesieve_session *session, struct slice response);
/* Its user is in, and it is on his shard. */
void managesieve_login_arrived(struct managesieve_session *session, const char *user);
/* Nobody is logged in, or about to. Harmless at any time. */
void managesieve_login_end(struct managesieve_session *session);

/* managesieve_scripts.c */
/* All other events. */
void managesieve_scripts_event(struct managesieve_session *session,
                               const struct managesieve_event *event);
/* Forgets the script that comes in, and the change that is waited for. Harmless at any time. */
void managesieve_scripts_end(struct managesieve_session *session);
