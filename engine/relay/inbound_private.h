/*
 * inbound_private: what the parts of an inbound session share: inbound.c (the dialogue, paths, TLS, the session's
 * life), inbound_greet.c (the banner), inbound_message.c (the body and its commit), inbound_auth.c (who the client is) and
 * inbound_time.c (its deadlines).
 */
#pragma once
#include "engine/relay/inbound.h"
#include "engine/relay/inbound_letter.h"
#include "engine/relay/recipient.h"

/* What holds the session up. */
enum inbound_state {
    INBOUND_READING,    /* commands and text are taken as they come */
    INBOUND_GREETING,   /* the banner waits, and who talks before it is noticed */
    INBOUND_JUDGING,    /* a path waits for the operator's maps */
    INBOUND_LOGIN,      /* AUTH waits for the login desk */
    INBOUND_NO_ROOM,    /* the log's buffers are all under way: `held` waits for spool_when_room */
    INBOUND_COMMITTING, /* the end of data waits for the disk */
    INBOUND_SECURING,   /* the answer to STARTTLS is being written */
    INBOUND_HANDSHAKE,  /* `stream` is TLS, and not yet open */
    INBOUND_CLOSING,    /* the last reply is written; what comes in is dropped */
    INBOUND_GONE,       /* no stream any more; only the commit is waited for */
};

#define INBOUND_SLICES 16

struct inbound {
    struct list_node node; /* in relay->inbounds */
    struct relay *relay;
    struct stream *stream;
    enum inbound_state state;
    bool counted;  /* in relay->clients */
    bool trusted;  /* may send anywhere */
    bool finished; /* the client has sent its FIN */
    bool lmtp;
    struct inbound_auth *auth; /* where the client may log in; NULL: nowhere, or memory is short */
    const struct relay_listener *at; /* where it has come in */
    uint8_t client_certificate;      /* enum conf_client_certificate, of its listener */
    uint8_t greet_action;            /* enum conf_greet_action, of its listener */
    bool outcast;                    /* has talked before the banner: nobody is written to */
    uint64_t greet_wait_ns, greet_from_ns;
    struct timer timer; /* looks at the machine's deadline when it fires */
    struct stream_facts facts;

    /* The transaction. */
    struct envelope envelope; /* of the first letter; flags and time are those of all */
    struct inbound_letters letters;
    bool receiving;                /* a body, into the letters */
    uint32_t commit_count;         /* letters of which it is not known whether they are durable */
    int commit_status;             /* of those that are known: 0, or that of one that has failed */
    uint32_t accepted_count;       /* RCPTs: each is answered for by LMTP, whatever it stands for */
    struct recipient_job *judging; /* NULL: no path waits for maps */
    struct slice held;   /* body that spool_append could not take yet; borrowed from the stream */
    size_t held_consume; /* what the machine has used of the stream for it */
    uint64_t held_since_ns;
    struct spool_waiter room;
    bool room_waited; /* `room` is in the spool's hands */
    bool
        disowned; /* the client was told that its letters are not kept: should they be, they go to nobody */

    struct smtp_server server;
};

/* ---- inbound.c ---- */
/* Takes what has come, says what is to be said; may end the session. */
void inbound_run(struct inbound *in);
void inbound_free(struct inbound *in);
/* Says what is to be said, and ends the session. */
void inbound_leave(struct inbound *in);
/* One reset, on every way out of a transaction. */
void inbound_reset(struct inbound *in);
void inbound_verdict(struct inbound *in, unsigned code, const char *status, const char *text);

/* By its certificate or its login, whatever its address: it may relay, and is not counted among the strangers. */
void inbound_trust(struct inbound *in);

/* ---- inbound_auth.c ---- */
/* After the machine was opened, and after the stream was encrypted: what the client may log in by. */
void inbound_auth_offer(struct inbound *in);
/* SMTP_EVENT_AUTH, _ANSWER, _ROOM and _END. False when the session must wait. */
bool inbound_auth_take(struct inbound *in, const struct smtp_event *event);
/* Who has logged in; empty: nobody. Borrowed until the session ends. */
struct slice inbound_auth_user(const struct inbound *in);
/* The session ends. */
void inbound_auth_close(struct inbound *in);

/* ---- inbound_greet.c ---- */
extern const struct smtp_verdict inbound_protocol_error;
/* Gives the banner, or what stands in its place. False when it must wait. */
bool inbound_greet(struct inbound *in);
/* While the banner waits: has somebody talked, or gone? */
void inbound_greet_look(struct inbound *in);
/* The wait is over, and the session goes on; it may be gone afterwards. */
void inbound_greet_over(struct inbound *in);

/* ---- inbound_time.c ---- */
void inbound_timer_set(struct inbound *in);
void inbound_timer_fired(struct timer *timer, uint64_t now_ns);

/* ---- inbound_message.c ---- */
/* What the recipient stands for joins the transaction, unless it is there already, by another: all of it, or nothing. 0 or
 * -ENOMEM; -E2BIG: too many addresses or mailing lists, with those that are there; -EOVERFLOW: without them, too. */
int inbound_recipients_make(struct inbound *in, const struct recipient_job *job);
/* The draft is opened, with our trace line before what the client sends. False when it must wait. */
bool inbound_body_begin(struct inbound *in);
/* Takes body into the log. False when it must wait; then `piece` is remembered. */
bool inbound_body_take(struct inbound *in, struct slice piece);
void inbound_commit(struct inbound *in);
/* The disk has let timeouts.commit pass: the client hears 451, and the session is over. */
void inbound_commit_late(struct inbound *in);
