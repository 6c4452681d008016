/*
 * pop3_rig: POP3 sessions over the tests' network, on a shard and a mailbox store that are driven by hand.
 *
 * Whoever uses it brings a login desk, the real one or login_fake.h, and pop3_accepted, so that other tests need neither.
 */
#pragma once
#include "engine/mailbox/session.h"
#include "tests/unit/mailstore_rig.h"
#include "tests/unit/tls_rig.h"

struct pop3_rig {
    struct mailstore_rig store;
    struct world world;
    struct logger logger;
    struct shard shard;
    struct network *network;
    struct tls_rig *tls; /* NULL: none; else the network is its own */
    struct mailboxd_conf *conf;
    struct mailbox mailbox;
    struct mailbox_door door;
    struct list_node clients;
    /* A round of the login desk: how much it did. */
    unsigned (*logins_round)(struct login_desk *desk);
};

struct pop3_client {
    struct list_node node; /* in rig->clients; owned by the rig */
    struct stream *stream;
    char *heard;
    size_t heard_bytes, room;
    bool deaf;   /* leaves what has come where it is */
    bool closed; /* the server has nothing more to say */
    bool reset;
};

/* room: of the network, in each direction; with tls: as tls_rig_open had it. tls: opened by the caller, or NULL. */
void pop3_rig_open(struct pop3_rig *rig, size_t room, struct tls_rig *tls);
/* Where connections come to, from here on. */
void pop3_rig_listen(struct pop3_rig *rig,
                     void (*accepted)(void *, struct listener *, struct stream *));
/* Aborts what sessions there are, lets go of the clients, and checks that they have given everything back. */
void pop3_rig_close(struct pop3_rig *rig);
/* A millisecond passes. */
unsigned pop3_rig_round(struct pop3_rig *rig);
/* Until nothing happens. */
void pop3_rig_run(struct pop3_rig *rig);
void pop3_rig_pass(struct pop3_rig *rig, uint64_t seconds);
/* The store stops in order and starts again: no text is in memory then. No session may be there. */
void pop3_rig_restart(struct pop3_rig *rig);
void pop3_rig_crash(struct pop3_rig *rig);

/* Into INBOX. Returns the uid. */
uint32_t pop3_rig_deliver(struct pop3_rig *rig, const char *user, struct slice text);
/* Removes it as another session would. */
void pop3_rig_expunge(struct pop3_rig *rig, const char *user, uint32_t uid);
/* How many messages are in INBOX. */
uint32_t pop3_rig_count(struct pop3_rig *rig, const char *user);
/* Flags of the message of this uid; -1: it is not there. */
int pop3_rig_flags(struct pop3_rig *rig, const char *user, uint32_t uid);
uint32_t pop3_rig_uidvalidity(struct pop3_rig *rig, const char *user);

struct pop3_client *pop3_client_connect(struct pop3_rig *rig);
void pop3_client_say(struct pop3_client *client, const char *text);
/* Says it, runs until nothing happens, and gives what was heard since the last time; valid until the next. */
const char *pop3_client_talk(struct pop3_rig *rig, struct pop3_client *client, const char *text);
/* From here on it speaks TLS; the handshake is not run yet. */
void pop3_client_secure(struct pop3_rig *rig, struct pop3_client *client);
void pop3_client_listen(struct pop3_client *client); /* it is deaf no more */
