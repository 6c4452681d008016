/*
 * pop3_private: a POP3 session, and what its files share: pop3_session.c (the connection), pop3_login.c (who it is),
 * pop3_message.c (RETR and TOP). Nobody else includes it.
 */
#pragma once
#include "engine/auth/login.h"
#include "engine/mailbox/dialogue.h"
#include "engine/mailbox/maildrop.h"
#include "proto/pop3/server.h"

/*
 *              STLS, written             PASS, AUTH             told
 *   SECURING ◄─────────────── READING ────────────────► LOGIN ────────► READING
 *      └──► HANDSHAKE ──done───► ▲ │ ▲
 *                                │ │ └──────────────── sent, or refused ─────────────────┐
 *                                │ └── RETR, TOP ──► RETRIEVING ──its begin is there──► SENDING
 *                                │
 *                      QUIT ─────┴──► UPDATING ──durable──► CLOSING ──written──► gone
 *                                        └── the client goes ──► GONE ──durable──► gone
 */
enum pop3_session_state {
    POP3_SESSION_HANDSHAKE = DIALOGUE_HANDSHAKE,
    POP3_SESSION_READING = DIALOGUE_READING,
    POP3_SESSION_SECURING = DIALOGUE_SECURING, /* the reply to STLS */
    POP3_SESSION_CLOSING = DIALOGUE_CLOSING,
    POP3_SESSION_LOGIN = DIALOGUE_OWN, /* the desk has been asked, or the store what is new */
    POP3_SESSION_RETRIEVING, /* a message is wanted: whether it can be read is not known yet */
    POP3_SESSION_SENDING,    /* a message */
    POP3_SESSION_UPDATING,   /* what is deleted is not durably gone yet */
    POP3_SESSION_GONE,       /* no stream any more; only the update is waited for */
};

struct pop3_session {
    struct dialogue dialogue; /* first */
    bool whole;               /* RETR, not TOP */
    uint64_t retry_ns; /* RETRIEVING, SENDING: WHEEL_NEVER, or memory for fetching was short */
    struct maildrop drop;
    struct login login;
    char user[USER_NAME_BYTES];
    struct mailstore_user *looking; /* LOGIN: others may have changed his Maildir; else NULL */
    struct mailstore_waiter looked;

    /* The message under way. */
    uint32_t message, offset; /* read so far */
    struct mailstore_text text;
    struct mailstore_fetch fetch;

    struct pop3_server_settings settings;
    char mechanisms[LOGIN_MECHANISMS_BYTES_MAX];
    struct pop3_server server;
};

/* pop3_session.c */
/* The event that waits is refused. code, text: static. */
void pop3_session_refuse(struct pop3_session *session, const char *code, const char *text);

/* pop3_login.c */
/* What is offered on the stream as it is now. */
void pop3_login_offer(struct pop3_session *session);
void pop3_login_password(struct pop3_session *session, const struct pop3_event *event);
void pop3_login_auth(struct pop3_session *session, const struct pop3_event *event);
void pop3_login_answer(struct pop3_session *session, struct slice octets);
void pop3_login_end(struct pop3_session *session); /* harmless at any time */
/* Its user is in, and it is on his shard. */
void pop3_login_arrived(struct pop3_session *session);

/* pop3_message.c */
void pop3_message_begin(struct pop3_session *session, const struct pop3_event *event);
/* RETRIEVING, SENDING: as far as it goes. False: it waits for the store. */
bool pop3_message_retrieve(struct pop3_session *session);
bool pop3_message_send(struct pop3_session *session);
void pop3_message_end(struct pop3_session *session); /* harmless at any time */
