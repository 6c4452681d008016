#include "engine/relay/relay_tls.h"
#include <stdlib.h>

static int64_t wall_s(void *self)
{
    return world_wall_s(self);
}

static int server_make(struct tls_context **made, const struct relay_conf *conf,
                       const struct relay_tls *self, char problem[TLS_PROBLEM_MAX])
{
    uint32_t count = conf->tls.certificates_count;
    struct tls_identity *identities = calloc(count, sizeof(*identities));
    struct tls_pair *pairs = calloc(count, sizeof(*pairs));
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
            .wall_self = self == NULL ? NULL : (void *)(uintptr_t)self->world};
        status = tls_context_server(made, &settings, problem);
    }
    free(identities);
    free(pairs);
    return status;
}

int relay_tls_check(const struct relay_conf *conf, char problem[TLS_PROBLEM_MAX])
{
    struct tls_context *made;
    problem[0] = '\0';
    if (conf->tls.certificates_count == 0) {
        return 0;
    }
    int status = server_make(&made, conf, NULL, problem);
    if (status == 0) {
        tls_context_drop(made);
    }
    return status;
}

int relay_tls_open(struct relay_tls *self, struct shard *shard, const struct relay_conf *conf,
                   const uint8_t *ticket_secret)
{
    const struct tls_settings settings = {.wheel = shard->wheel};
    char problem[TLS_PROBLEM_MAX] = "";
    *self = (struct relay_tls){
        .ticket_secret = ticket_secret, .world = shard->world, .logger = shard->logger};
    int status = tls_open(&self->tls, &settings);
    if (status == 0 && conf->tls.certificates_count > 0) {
        status = server_make(&self->server, conf, self, problem);
    }
    if (status < 0) {
        logger_line(self->logger, LOGGER_ERROR, "tls: %s",
                    problem[0] != '\0' ? problem : strerror(-status));
        relay_tls_close(self);
    }
    return status;
}

void relay_tls_reload(struct relay_tls *self, const struct relay_conf *conf)
{
    struct tls_context *made = NULL;
    char problem[TLS_PROBLEM_MAX] = "";
    if (conf->tls.certificates_count > 0) {
        int status = server_make(&made, conf, self, problem);
        if (status < 0) {
            logger_line(self->logger, LOGGER_ERROR, "tls: %s; the old certificates stay",
                        problem[0] != '\0' ? problem : strerror(-status));
            return;
        }
    }
    if (self->server != NULL) {
        tls_context_drop(self->server);
    }
    self->server = made;
}

void relay_tls_close(struct relay_tls *self)
{
    if (self->tls != NULL) {
        tls_close(self->tls);
    }
    if (self->server != NULL) {
        tls_context_drop(self->server);
    }
    self->tls = NULL;
    self->server = NULL;
}

void relay_tls_failed(const struct relay_tls *self, const struct stream *stream)
{
    char address[ENDPOINT_TEXT_MAX];
    struct stream_facts facts;
    stream_facts(stream, &facts);
    endpoint_format_address(&facts.remote, address);
    logger_line(self->logger, LOGGER_INFO, "tls: no handshake with %s: %s", address,
                facts.tls != NULL && facts.tls->problem[0] != '\0' ? facts.tls->problem
                                                                   : strerror(-stream->error));
}
