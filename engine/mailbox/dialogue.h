/*
 * dialogue: the life of a session whose client says something and waits for the reply: what those of POP3 and ManageSieve
 * (pop3_session.c, managesieve_session.c) have in common. Nobody else includes it.
 *
 *   stream ──peek──► feed, the protocol's machine ──► its replies ──► outbox ──flush──► stream
 *
 *              STARTTLS, written            a step, or somebody's answer
 *   SECURING ◄───────────────── READING ◄───────────────────────────────► OWN: the protocol's
 *      └──► HANDSHAKE ───done────► ▲ │
 *                                    └── the end, time ──► CLOSING ──written──► gone
 *
 * It is the first member of the protocol's session, which allocates, ends and frees it.
 */
#pragma once
#include "engine/mailbox/session.h"

/* A protocol's enum begins with these, and has its own from DIALOGUE_OWN on. */
enum dialogue_state {
    DIALOGUE_HANDSHAKE, /* of TLS */
    DIALOGUE_READING,   /* commands are taken as they come */
    DIALOGUE_SECURING,  /* TLS begins when what was written is sent */
    DIALOGUE_CLOSING,   /* the last reply is made; what comes in is dropped */
    DIALOGUE_OWN,
};

struct dialogue;
struct dialogue_ops {
    const struct session_ops *session;
    const char *refusal[2]; /* before why a stranger is not served, and behind it */
    /* In READING: returns how much of the input is done with. *more: the machine would take the next. It may be empty. */
    size_t (*feed)(struct dialogue *dialogue, struct slice input, bool *more);
    /* In states of its own: one step. False: it waits for something else than room in the outbox. May be NULL: only somebody's
     * answer leads on. */
    bool (*step)(struct dialogue *dialogue);
    /* The client has taken some of the outbox. May be NULL. */
    void (*taken)(struct dialogue *dialogue);
    /* TLS is there, and it reads. */
    void (*secured)(struct dialogue *dialogue);
    /* When it is to be looked at, but in HANDSHAKE and CLOSING; WHEEL_NEVER. */
    uint64_t (*due_ns)(const struct dialogue *dialogue);
    /* Somebody may have had his time: then it says so, and closes. False: it is to be cut. */
    bool (*expire)(struct dialogue *dialogue, uint64_t now_ns);
    /* The service ends, and nothing is on its way: its last words. False: it is within a command. */
    bool (*farewell)(struct dialogue *dialogue);
    /* Its client is gone, or is to be: frees it, now or when the store has answered. */
    void (*end)(struct dialogue *dialogue);
};

struct dialogue {
    struct session session; /* first */
    const struct dialogue_ops *ops;
    struct stream *stream;
    uint8_t state;     /* enum dialogue_state, or the protocol's */
    bool finished;     /* the client has sent its FIN */
    bool tls_required; /* no login in the clear */
    struct timer timer;
    uint64_t give_up_ns; /* HANDSHAKE, CLOSING */
    struct outbox outbox;
};

/* Of a zeroed one, in `bytes` of the heap. NULL: the stranger was refused. The stream is given. */
struct dialogue *dialogue_accept(const struct mailbox_door *door, struct stream *stream,
                                 size_t bytes, const struct dialogue_ops *ops);
/* Then: TLS from the beginning, or what is to be said. It may be gone afterwards. */
void dialogue_start(struct dialogue *dialogue, const struct mailbox_door *door);
/* Does this address offer to begin TLS? */
bool dialogue_offers_tls(const struct mailbox_door *door);

static inline uint64_t dialogue_now_ns(const struct dialogue *dialogue)
{
    return dialogue->session.mailbox->shard->now_ns;
}
/* Of what the client has not taken. */
bool dialogue_is_full(struct dialogue *dialogue);
/* As far as it goes; it may be gone afterwards. */
void dialogue_run(struct dialogue *dialogue);
/* The last reply is made. */
void dialogue_closing(struct dialogue *dialogue);
/* It is gone afterwards, or as `end` says. */
void dialogue_cut(struct dialogue *dialogue);

/* Of `end`: lets go of the stream; what was written is still sent. It counts no more. */
void dialogue_leave(struct dialogue *dialogue);
/* To the shard of its user. NULL: it is not to be touched any more; else why it stays. */
const char *dialogue_pass(struct dialogue *dialogue, const char *user);
/* Of session_ops.arrived: the stream is its own there. */
void dialogue_arrived(struct dialogue *dialogue, struct stream *stream);
/* Of session_ops. */
void dialogue_drain(struct session *session);
bool dialogue_abort(struct session *session);
void dialogue_forget(struct session *session); /* never: it has been aborted */
