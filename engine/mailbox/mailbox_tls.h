/*
 * mailbox_tls: the certificates that IMAP's and POP3's clients are shown, as the configuration names them, and the
 * shard's TLS. mailbox.c has one; main asks whether the files are good.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/shard/shard.h"
#include "engine/tls/tls.h"

struct mailbox_tls {
    struct tls *tls;
    struct tls_context *server; /* NULL: there is no certificate */
    struct shard *shard;
    const uint8_t *ticket_secret; /* TLS_SECRET_BYTES, of this process: tickets end with it */
};

/* 0 or -errno; what is wrong with a certificate is logged. ticket_secret: the same for all shards, borrowed. */
int mailbox_tls_open(struct mailbox_tls *self, struct shard *shard,
                     const struct mailboxd_conf *conf, const uint8_t *ticket_secret);
/* After the network's, before the store's. */
void mailbox_tls_add_part(struct mailbox_tls *self);
/* Connections that are there keep what they began with. What cannot be used is logged, and the old ones stay. */
void mailbox_tls_reload(struct mailbox_tls *self, const struct mailboxd_conf *conf);
void mailbox_tls_close(struct mailbox_tls *self); /* harmless when it is not open */

/* Are the certificates as they should be? 0, or -errno and the problem, which begins with the key. */
int mailbox_tls_check(const struct mailboxd_conf *conf, char problem[TLS_PROBLEM_MAX]);
