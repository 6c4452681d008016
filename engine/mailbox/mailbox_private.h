/*
 * mailbox_private: what the service (mailbox.c) and its sessions share. Nobody else includes it.
 */
#pragma once
#include "engine/mailbox/crossing.h"
#include "engine/mailbox/mailbox.h"
#include "engine/mailbox/mailbox_group.h"
#include "engine/mailbox/mailbox_tls.h"
#include "engine/mailbox/seats.h"
#include "proto/smtp/received.h"
#include "proto/smtp/server.h"

struct auth_service;
struct login_desk;
struct mailbox_control;
struct mailbox_door;
struct mailbox_store;
struct mailstore;
struct outgoing;
struct quota_ledger;
struct remembered;
struct search_desk;
struct sieve_scripts;

struct mailbox {
    const struct mailboxd_conf *conf;
    struct shard *shard;
    struct network *network;
    struct mailbox_group *group; /* `alone` where there is but one shard */
    struct mailbox_group alone;
    struct crossing *crossing; /* to the other shards; NULL: there are none */
    struct maildir *store;     /* of store.format "maildir": mail comes in by it; else NULL */
    /* Mail is read by it, and comes in by it where `store` is NULL, or a script says where to (delivery_files.c). NULL:
     * there are Maildirs alone, in the simulator. */
    struct mailstore *texts;
    struct quota_ledger *quotas;   /* of both; NULL: `store` counts by itself, or there is none */
    struct mailbox_store *own;     /* what `texts` lies in */
    int folder;                    /* of `own`, claimed, where there is no other shard; else -1 */
    struct sieve_scripts *scripts; /* of the users of `texts`; NULL: none are run */
    struct outgoing *outgoing;     /* what they send; NULL: nothing is sent */
    struct remembered *remembered; /* of them; NULL: nothing is */
    size_t kept_bytes;             /* of bodies in memory for scripts */
    struct list_node parts;     /* struct delivery_part: of messages to users of several shards */
    uint32_t spread_count;      /* of such messages, those whose session is here */
    uint32_t spread_number;     /* of the next one */
    uint32_t carriage_number;   /* of the last one, see carriage.h */
    struct list_node carriages; /* struct carriage */
    struct carriages_sweeping *sweeping; /* at start; NULL: that is over */
    const struct auth_service *auth;     /* who knows users; NULL: the configuration alone */
    struct search_desk
        *searches; /* the indexes of `texts`; NULL: there are none, messages are read */
    struct login_desk *logins;
    bool pop3_shared;          /* several POP3 sessions may have a user's maildrop at a time */
    struct mailbox_tls secure; /* where there are listeners for IMAP or POP3 */
    struct tls *tls;           /* the shard's: of `secure` */
    struct tls_context *
        tls_server; /* what is shown to clients; NULL: no certificate, no TLS. May change by a reload */
    struct smtp_server_settings lmtp_settings;
    struct mailbox_door *doors; /* on each shard the same ones */
    uint32_t door_count;
    struct list_node sessions; /* struct session */
    uint64_t session_number;   /* of the last one */
    struct seats seats;
    struct mailbox_counters counters;
    struct mailbox_control *control; /* NULL: none */
    void (*drained)(void *owner);
    void *owner;
    bool draining;
    bool left; /* the network: see mailbox_leave */
    uint64_t drain_deadline_ns;
    struct timer drain_timer;
    unsigned quiet_ticks; /* of drain_timer, without a session */
};

static inline unsigned mailbox_index(const struct mailbox *mailbox)
{
    return mailbox->shard->settings.index;
}

/* The only shard of a service. */
static inline void mailbox_stand_alone(struct mailbox *mailbox)
{
    mailbox->group = &mailbox->alone;
    mailbox_group_open(&mailbox->alone, 1, mailbox->shard->world);
    mailbox->alone.members[0] = mailbox;
}

/* Is there such a user? user: as user_name_of_mailbox makes it. */
bool mailbox_knows(const struct mailbox *mailbox, const char *user);
