/*
 * mailbox: joins sessions and a store, Maildirs or our own: the mailbox service on one shard.
 *
 * Main opens it on the shard's thread with the kernel network and the store's settings; it adds itself to the
 * shard's rounds. A recipient is answered 250 when the message lies durably in his Maildir or mailbox.
 */
#pragma once
#include "engine/auth/auth_service.h"
#include "engine/shard/shard.h"
#include "engine/stream.h"
#include "queue/mailbox/maildir.h"

struct crossing;
struct mailbox;
struct mailbox_group;

struct mailbox_settings {
    const struct mailboxd_conf *conf; /* borrowed until mailbox_reload or mailbox_close */
    struct shard *shard;
    struct network *network;
    const struct maildir_files *files; /* of Maildirs; borrowed until mailbox_close */
    bool driven;                       /* of the store, see maildir_settings */
    /* Maildirs have no state beside them: mail goes into INBOX, and that is all that is done (tests, the simulator). */
    bool stateless;
    uint32_t process_id;
    struct mailbox_group *group;     /* of several shards, borrowed; NULL: this is the only one */
    struct crossing *crossing;       /* the same: to the others */
    const struct auth_service *auth; /* borrowed until mailbox_close; NULL: nobody logs in */
    /* After mailbox_drain: the last session has ended and its last words had time to go. */
    void (*drained)(void *owner);
    void *owner;
};

struct mailbox_counters {
    uint64_t connections, connections_refused, messages, delivered, unknown_users, refused;
    uint64_t connections_refused_address; /* of connections_refused: too many from there */
    uint64_t logins_refused;              /* of right passwords: too many sessions of the user */
    uint64_t kicked;                      /* sessions that the operator has ended */
    uint32_t sessions;                    /* now */
    struct mailbox_protocol_counters {
        uint64_t connections, logins, logins_failed;
        uint64_t commands;            /* that the session has done, or begun to; of LMTP none */
        uint64_t bytes_in, bytes_out; /* without TLS's own */
        uint32_t sessions;            /* now */
    } of[CONF_PROTOCOL_COUNT];
};

/* Opens the store. 0 or -errno. */
int mailbox_open(struct mailbox **mailbox, const struct mailbox_settings *settings);
/* Listens on every address of the configuration. 0 or -errno. */
int mailbox_listen(struct mailbox *mailbox);
/* The part of the shard's round; after the network's. */
void mailbox_add_parts(struct mailbox *mailbox);

/* For sessions and messages from now on; listeners, the store, its full-text indexes and who may log in stay. */
void mailbox_reload(struct mailbox *mailbox, const struct mailboxd_conf *conf);
/* Accept nobody; end idle sessions; let the others finish until the deadline, then abort them. */
void mailbox_drain(struct mailbox *mailbox, uint64_t deadline_ns);
/* Aborts what is left, the streams at once. The network may be closed then: what it still has to send lies in memory
 * of the service's. */
void mailbox_leave(struct mailbox *mailbox);
/* Leaves, if it has not; finishes what the store was given. Of several shards: when none has a network any more, since what
 * others still had to send lies in this one's store. */
void mailbox_close(struct mailbox *mailbox);

/* The operator's socket (mailbox_control.h), on shard 0, and on each shard what answers there; when all shards of the group
 * are there. What goes wrong is logged, and the service goes on without. */
void mailbox_listen_control(struct mailbox *mailbox);

const struct mailbox_counters *mailbox_counters(const struct mailbox *mailbox);
