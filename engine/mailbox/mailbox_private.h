/*
 * mailbox_private: what the service (mailbox.c) and its sessions (delivery.c) share. Nobody else includes it.
 */
#pragma once
#include "engine/mailbox/mailbox.h"
#include "proto/smtp/received.h"
#include "proto/smtp/server.h"

struct delivery; /* an LMTP session */
struct login_desk;
struct mailstore;
struct tls;
struct tls_context;

struct mailbox {
    const struct mailboxd_conf *conf;
    struct shard *shard;
    struct network *network;
    struct maildir *store; /* of store.format "maildir"; else NULL */
    /* Of store.format "log"; else NULL, and there is nothing to read mail by. */
    struct mailstore *texts;
    struct login_desk *logins;
    struct tls *tls; /* the shard's */
    struct tls_context *
        tls_server; /* what is shown to clients; NULL: no certificate, no TLS. May change by a reload */
    struct smtp_server_settings lmtp_settings;
    struct listener **listeners;
    uint32_t listener_count;
    struct list_node sessions;
    struct mailbox_counters counters;
    void (*drained)(void *owner);
    void *owner;
    bool draining;
    uint64_t drain_deadline_ns;
    struct timer drain_timer;
    unsigned quiet_ticks; /* of drain_timer, without a session */
};

/* Is there such a user? user: as user_name_of_mailbox makes it. */
bool mailbox_knows(const struct mailbox *mailbox, const char *user);

void delivery_accepted(void *owner, struct listener *listener, struct stream *stream);
/* Ends a session that is between transactions with 421; others go on. */
void delivery_drain(struct delivery *delivery);
/* Now. False: it waits for the store alone, and ends when that has answered. */
bool delivery_abort(struct delivery *delivery);
/* The store is closed: nothing answers any more. */
void delivery_forget(struct delivery *delivery);
struct delivery *delivery_of_node(struct list_node *node);
