/*
 * session: what the service (mailbox.c) knows of a session, whatever it speaks. delivery.c (LMTP), imap_session.c,
 * pop3_session.c, managesieve_session.c and auth_socket.c have one each; mailbox_control*.c looks at them. Nobody
 * else includes it.
 *
 * A session is in mailbox->sessions from session_begin on, and is freed by itself.
 */
#pragma once
#include "engine/mailbox/mailbox_private.h"
#include "engine/mailbox/outbox.h"

struct mailstore_user;

struct session;
struct session_ops {
    /* The service is ending: who is between commands is told so and closed; others are asked again later. */
    void (*drain)(struct session *session);
    /* Now. False: it waits for the store alone, and ends when that has answered. */
    bool (*abort)(struct session *session);
    /* The store is closed: nothing answers any more. Frees it. */
    void (*forget)(struct session *session);
    /* Of those who log in. It has come to the shard of its user, as session_pass says: it is in the mailbox's list there, and its
     * stream is the one that is given. It may be gone afterwards. */
    void (*arrived)(struct session *session, struct stream *stream, const char *user);
    /* Instead, when the service has ended or it was kicked meanwhile: frees it, with nothing of any shard's. */
    void (*lost)(struct session *session);
};
struct session {           /* zeroed before session_begin */
    struct list_node node; /* in mailbox->sessions, in the order of their numbers */
    const struct session_ops *ops;
    struct mailbox *mailbox;
    uint64_t number;                                     /* that no other has */
    uint64_t began_ns;                                   /* of the shard's clock */
    struct seat *of_address, *of_user, *of_user_address; /* where it is counted; NULL: nowhere */
    uint64_t kick_deadline_ns;                           /* then it is cut */
    uint8_t protocol;                                    /* enum conf_protocol */
    bool operators; /* it came by the operator's socket: no limit holds it */
    bool kicked;    /* it is to end */
    bool encrypted;
    bool of_service; /* nobody's connection: it is in no count, and has no number */
    uint8_t passes;  /* from shard to shard: so many halves its stream has */
    uint8_t family;  /* enum endpoint_family, of the client */
    uint16_t port;
    uint8_t address[16];
};

/* A configured address: what accepted() gets as its owner. Lives until mailbox_close. */
struct mailbox_door {
    struct mailbox *mailbox;
    struct listener *listener; /* NULL: another shard listens there */
    void (*accepted)(void *door, struct listener *listener, struct stream *stream);
    uint32_t dealt;   /* connections, to this shard and the others in turn; see is_dealt_out */
    uint32_t index;   /* in mailbox->doors */
    uint8_t protocol; /* enum conf_protocol */
    uint8_t tls;      /* enum conf_tls: none, STARTTLS, implicit */
    bool operators;   /* the control socket's: for the operator's own sessions */
};

/* What is said to those who are not served. */
#define SESSION_TOO_MANY "Too many connections"
#define SESSION_TOO_MANY_OF_ADDRESS "Too many connections from your address"
#define SESSION_TOO_MANY_OF_USER "Too many sessions of this user"
#define SESSION_TOO_MANY_PASSES "Too many users on this connection, connect again"

/* A client may log in again and again (UNAUTHENTICATE), and each passing puts a stream upon the one before. */
#define SESSION_PASSES_MAX 16

/* session.c */
/* NULL: it is one of the service's now; else why not. */
const char *session_begin(struct session *session, const struct session_ops *ops,
                          const struct mailbox_door *door, const struct stream *stream);
/* A stranger who is not served: is told so in these words, a whole line, and counted. The stream is given. */
void session_refuse(const struct mailbox_door *door, struct stream *stream, const char *words);
/* A TLS stream over `below`, which is given; the client's FIN has come, or not. NULL: both are gone. */
struct stream *session_secure(const struct session *session, struct stream *below, bool finished);
/* One of the service's own, with which no client speaks: it ends with what it serves. */
void session_begin_of_service(struct session *session, const struct session_ops *ops,
                              struct mailbox *mailbox, uint8_t protocol);
/* Its client is this user, of user_name_of_mailbox. 0; -EUSERS: he has enough of them; -ENOMEM. */
int session_enter(struct session *session, const char *user);
void session_exit(struct session *session); /* he is not any more; harmless twice */
/* Its client has gone: it counts no more, even if it stays for the store's sake. Once. */
void session_over(struct session *session);
/* Does this user's mail, by a name of user_name_of_mailbox, lie on another shard? */
/* Each session that is on its way from one shard to another, with the user to whose shard it goes. Under the group's lock: `visit`
 * looks at what session_begin has set, may have it kicked, and calls nothing that takes the lock. Any shard's thread. */
typedef void session_visit(struct session *session, const char *user, void *owner);
void session_passing_visit(struct mailbox_group *group, session_visit *visit, void *owner);
bool session_is_abroad(const struct session *session, const char *user);
/* The session goes to the shard of its user, whose name is right. It has no timer armed and nothing else that is of this
 * shard, but for its stream, which is given. NULL: it must not be touched any more; `arrived` follows, there. Else why not,
 * and it stays, and so does the stream. finished: the client's FIN was told, and the stream tells it again, behind what
 * has come before it. */
const char *session_pass(struct session *session, struct stream *stream, bool finished,
                         const char *user);
struct endpoint session_remote(const struct session *session);
/* What its client is told when it is drained. */
const char *session_farewell(const struct session *session);

static inline struct mailbox_protocol_counters *session_counters(const struct session *session)
{
    return &session->mailbox->counters.of[session->protocol];
}
/* Consumed, and counted. */
static inline void session_consume(const struct session *session, struct stream *stream,
                                   size_t bytes)
{
    if (!session->of_service) {
        session_counters(session)->bytes_in += bytes;
    }
    stream_consume(stream, bytes);
}

/* outbox_flush, and counted. */
int session_flush(const struct session *session, struct outbox *outbox, struct stream *stream);

struct imap_operator {
    struct stream *stream;       /* given */
    bool finished;               /* its FIN has come */
    bool make_inbox;             /* if the user has none */
    struct mailstore_user *user; /* open in mailbox->texts, and given */
};

/* imap_session.c: an IMAP session of this user's for the operator, PREAUTH. */
void imap_operate(const struct mailbox_door *door, const struct imap_operator *with);

/* Of listen_request. Into either store. */
void delivery_accepted(void *door, struct listener *listener, struct stream *stream);
/* imap_session.c, pop3_session.c, managesieve_session.c: they need mailbox->texts and mailbox->logins, and are not listened
 * for without them. */
void imap_accepted(void *door, struct listener *listener, struct stream *stream);
void pop3_accepted(void *door, struct listener *listener, struct stream *stream);
void managesieve_accepted(void *door, struct listener *listener, struct stream *stream);
/* auth_socket.c: it needs mailbox->logins. */
void auth_socket_accepted(void *door, struct listener *listener, struct stream *stream);
