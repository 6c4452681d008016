#include "engine/mailbox/mailbox_tls.h"
#include <stdio.h>
#include <stdlib.h>

static int64_t wall_s(void *self)
{
    return world_wall_s(self);
}

/* self: NULL where nothing will be served by it. */
static int identities_make(struct tls_context **made, const struct mailboxd_conf *conf,
                           const struct mailbox_tls *self, char problem[TLS_PROBLEM_MAX])
{
    uint32_t count = conf->tls.certificates_count;
    struct tls_identity *identities = calloc(count, sizeof *identities);
    struct tls_pair *pairs = calloc(count, sizeof *pairs);
    int status = identities == NULL || pairs == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        const struct conf_certificate *from = &conf->tls.certificates[i];
        pairs[i] = (struct tls_pair){from->certificate, from->key};
        identities[i] = (struct tls_identity){.pairs = &pairs[i],
                                              .pair_count = 1,
                                              .names = from->names_count > 0 ? from->names : NULL,
                                              .name_count = from->names_count};
    }
    if (status == 0) {
        const struct tls_server_settings settings = {
            .rules = {.ciphers = conf->tls.ciphers,
                      .suites = conf->tls.ciphersuites,
                      .version_min = conf->tls.version_min == CONF_TLS_1_3 ? 0x0304 : 0x0303,
                      .security_level = (int)conf->tls.security_level},
            .identities = identities,
            .identity_count = count,
            .ticket_secret = self == NULL ? NULL : self->ticket_secret,
            .wall_s = wall_s,
            .wall_self = self == NULL ? NULL : (void *)(uintptr_t)self->shard->world};
        status = tls_context_server(made, &settings, problem);
    }
    free(identities);
    free(pairs);
    return status;
}

/* *made is NULL where there are no certificates. */
static int server_make(struct tls_context **made, const struct mailboxd_conf *conf,
                       const struct mailbox_tls *self, char problem[TLS_PROBLEM_MAX])
{
    char what[TLS_PROBLEM_MAX] = "";
    *made = NULL;
    int status = conf->tls.certificates_count == 0 ? 0 : identities_make(made, conf, self, what);
    if (status < 0) {
        snprintf(problem, TLS_PROBLEM_MAX, "tls.certificates: %.*s", (int)(TLS_PROBLEM_MAX - 32),
                 what[0] != '\0' ? what : strerror(-status));
    }
    return status;
}

int mailbox_tls_check(const struct mailboxd_conf *conf, char problem[TLS_PROBLEM_MAX])
{
    struct tls_context *made;
    int status = server_make(&made, conf, NULL, problem);
    if (made != NULL) {
        tls_context_drop(made);
    }
    return status;
}

int mailbox_tls_open(struct mailbox_tls *self, struct shard *shard,
                     const struct mailboxd_conf *conf, const uint8_t *ticket_secret)
{
    const struct tls_settings settings = {.wheel = shard->wheel};
    char problem[TLS_PROBLEM_MAX] = "tls: out of memory";
    self->shard = shard;
    self->ticket_secret = ticket_secret;
    int status = tls_open(&self->tls, &settings);
    status = status == 0 ? server_make(&self->server, conf, self, problem) : status;
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "%s", problem);
        mailbox_tls_close(self);
    }
    return status;
}

void mailbox_tls_reload(struct mailbox_tls *self, const struct mailboxd_conf *conf)
{
    struct tls_context *made;
    char problem[TLS_PROBLEM_MAX];
    struct logger *logger = self->shard->logger;
    if (server_make(&made, conf, self, problem) < 0) {
        logger_line(logger, LOGGER_ERROR, "%s; the old certificates stay", problem);
        return;
    }
    if (self->server != NULL) {
        if (made == NULL) {
            logger_line(logger, LOGGER_WARNING,
                        "tls: no certificate is left: TLS is not offered any more");
        }
        tls_context_drop(self->server);
    }
    self->server = made;
}

void mailbox_tls_close(struct mailbox_tls *self)
{
    if (self->tls != NULL) {
        tls_close(self->tls);
        self->tls = NULL;
    }
    if (self->server != NULL) {
        tls_context_drop(self->server);
        self->server = NULL;
    }
}

/* ---- The part of the round: there are some behind the end of TLS ---- */

static unsigned secure_poll(void *self, uint64_t now_ns)
{
    struct tls *tls = ((struct mailbox_tls *)self)->tls;
    return tls == NULL ? 0 : tls_poll(tls, now_ns);
}

static int secure_arm(void *self)
{
    const struct tls *tls = ((struct mailbox_tls *)self)->tls;
    return tls != NULL && tls_has_work(tls) ? -EAGAIN : SHARD_ARM_URING;
}

void mailbox_tls_add_part(struct mailbox_tls *self)
{
    shard_add(
        self->shard,
        &(struct shard_part){.name = "tls", .self = self, .poll = secure_poll, .arm = secure_arm});
}
