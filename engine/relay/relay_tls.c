#include "engine/relay/relay_tls.h"
#include <stdio.h>
#include <stdlib.h>

static int64_t wall_s(void *self)
{
    return world_wall_s(self);
}

static struct tls_rules rules_of(const struct relay_conf *conf,
                                 const struct relay_tls_contexts *made)
{
    return (struct tls_rules){.read = made->authorities,
                              .ciphers = conf->tls.ciphers,
                              .suites = conf->tls.ciphersuites,
                              .version_min =
                                  conf->tls.version_min == CONF_TLS_1_3 ? 0x0304 : 0x0303,
                              .security_level = (int)conf->tls.security_level};
}

/* ---- Listeners ---- */

/* self: NULL where nothing will be served by it. */
static int server_make(struct relay_tls_contexts *made, uint8_t kind, const struct relay_conf *conf,
                       const struct relay_tls *self, char problem[TLS_PROBLEM_MAX])
{
    static const enum tls_client_certificate wanted[RELAY_TLS_SERVERS] = {
        TLS_CLIENT_NOT_ASKED, TLS_CLIENT_ASKED, TLS_CLIENT_REQUIRED};
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
            .rules = rules_of(conf, made),
            .identities = identities,
            .identity_count = count,
            .client_certificate = wanted[kind],
            .ticket_secret = self == NULL ? NULL : self->ticket_secret,
            .wall_s = wall_s,
            .wall_self = self == NULL ? NULL : (void *)(uintptr_t)self->world};
        status = tls_context_server(&made->servers[kind], &settings, problem);
    }
    free(identities);
    free(pairs);
    return status;
}

/* Listeners stay what they are when the configuration is read again: what one wanted is kept. */
static int servers_make(struct relay_tls_contexts *made, const struct relay_conf *conf,
                        const struct relay_tls *self, char problem[TLS_PROBLEM_MAX])
{
    bool wanted[RELAY_TLS_SERVERS] = {false};
    int status = 0;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        wanted[conf->listen[i].client_certificate] = true;
    }
    for (uint8_t kind = 0; kind < RELAY_TLS_SERVERS && status == 0; kind++) {
        bool had = self != NULL && self->contexts.servers[kind] != NULL;
        if (conf->tls.certificates_count > 0 && (wanted[kind] || had)) {
            status = server_make(made, kind, conf, self, problem);
        }
    }
    return status;
}

/* ---- Routes ---- */

static bool text_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static struct relay_tls_client *client_find(const struct relay_tls_contexts *contexts,
                                            const char *certificate, const char *key)
{
    for (uint32_t i = 0; i < contexts->client_count; i++) {
        struct relay_tls_client *client = &contexts->clients[i];
        if (text_same(client->certificate, certificate) && text_same(client->key, key)) {
            return client;
        }
    }
    return NULL;
}

static void client_free(struct relay_tls_client *client)
{
    if (client->context != NULL) {
        tls_context_drop(client->context);
    }
    free(client->certificate);
    free(client->key);
    *client = (struct relay_tls_client){0};
}

static int client_make(struct relay_tls_contexts *made, const struct relay_conf *conf,
                       const char *certificate, const char *key, char problem[TLS_PROBLEM_MAX])
{
    if (client_find(made, certificate, key) != NULL) {
        return 0;
    }
    const struct tls_pair pair = {certificate, key};
    const struct tls_client_settings settings = {.rules = rules_of(conf, made),
                                                 .pairs = certificate == NULL ? NULL : &pair,
                                                 .pair_count = certificate != NULL};
    struct relay_tls_client *added = &made->clients[made->client_count];
    if (certificate != NULL) {
        added->certificate = strdup(certificate);
        added->key = strdup(key);
        if (added->certificate == NULL || added->key == NULL) {
            client_free(added);
            return -ENOMEM;
        }
    }
    int status = tls_context_client(&added->context, &settings, problem);
    if (status < 0) {
        client_free(added);
        return status;
    }
    made->client_count++;
    return 0;
}

static int clients_make(struct relay_tls_contexts *made, const struct relay_conf *conf,
                        char problem[TLS_PROBLEM_MAX])
{
    made->clients = calloc((size_t)conf->routes_count + 1, sizeof(*made->clients));
    if (made->clients == NULL) {
        return -ENOMEM;
    }
    int status =
        client_make(made, conf, conf->tls.client_certificate, conf->tls.client_key, problem);
    for (uint32_t i = 0; i < conf->routes_count && status == 0; i++) {
        const struct conf_route *route = &conf->routes[i];
        if (route->tls.certificate != NULL) {
            status = client_make(made, conf, route->tls.certificate, route->tls.key, problem);
        }
    }
    return status;
}

/* ---- All of them ---- */

static void contexts_drop(struct relay_tls_contexts *contexts)
{
    for (unsigned i = 0; i < RELAY_TLS_SERVERS; i++) {
        if (contexts->servers[i] != NULL) {
            tls_context_drop(contexts->servers[i]);
        }
    }
    for (uint32_t i = 0; i < contexts->client_count; i++) {
        client_free(&contexts->clients[i]);
    }
    free(contexts->clients);
    if (contexts->authorities != NULL) {
        tls_authorities_drop(contexts->authorities);
    }
    *contexts = (struct relay_tls_contexts){0};
}

/* The problem begins with the key of what is wrong. */
static int contexts_make(struct relay_tls_contexts *made, const struct relay_conf *conf,
                         const struct relay_tls *self, char problem[TLS_PROBLEM_MAX])
{
    char what[TLS_PROBLEM_MAX] = "";
    const char *key = "tls";
    *made = (struct relay_tls_contexts){0};
    int status = tls_authorities_read(&made->authorities, conf->tls.authorities,
                                      self == NULL ? NULL : self->contexts.authorities, what);
    if (status == 0) {
        key = "tls.certificates";
        status = servers_make(made, conf, self, what);
    }
    if (status == 0) {
        key = "tls";
        status = clients_make(made, conf, what);
    }
    if (status < 0) {
        contexts_drop(made);
        snprintf(problem, TLS_PROBLEM_MAX, "%s: %.*s", key, (int)(TLS_PROBLEM_MAX - 32),
                 what[0] != '\0' ? what : strerror(-status));
    }
    return status;
}

int relay_tls_check(const struct relay_conf *conf, char problem[TLS_PROBLEM_MAX])
{
    struct relay_tls_contexts made;
    int status = contexts_make(&made, conf, NULL, problem);
    if (status == 0) {
        contexts_drop(&made);
    }
    return status;
}

int relay_tls_open(struct relay_tls *self, struct shard *shard, const struct relay_conf *conf,
                   const uint8_t *ticket_secret)
{
    const struct tls_settings settings = {.wheel = shard->wheel};
    char problem[TLS_PROBLEM_MAX] = "tls: out of memory";
    *self = (struct relay_tls){
        .ticket_secret = ticket_secret, .world = shard->world, .logger = shard->logger};
    int status = tls_open(&self->tls, &settings);
    if (status == 0) {
        status = contexts_make(&self->contexts, conf, self, problem);
    }
    if (status < 0) {
        logger_line(self->logger, LOGGER_ERROR, "%s", problem);
        relay_tls_close(self);
    }
    return status;
}

static bool has_server(const struct relay_tls_contexts *contexts)
{
    bool any = false;
    for (unsigned i = 0; i < RELAY_TLS_SERVERS; i++) {
        any |= contexts->servers[i] != NULL;
    }
    return any;
}

bool relay_tls_has_server(const struct relay_tls *self)
{
    return self != NULL && has_server(&self->contexts);
}

void relay_tls_reload(struct relay_tls *self, const struct relay_conf *conf)
{
    struct relay_tls_contexts made;
    char problem[TLS_PROBLEM_MAX];
    if (contexts_make(&made, conf, self, problem) < 0) {
        logger_line(self->logger, LOGGER_ERROR, "%s; the old certificates stay", problem);
        return;
    }
    if (has_server(&self->contexts) && !has_server(&made)) {
        logger_line(self->logger, LOGGER_WARNING,
                    "tls: no certificate is left: STARTTLS is not offered any more");
    }
    contexts_drop(&self->contexts);
    self->contexts = made;
    self->generation++;
}

void relay_tls_close(struct relay_tls *self)
{
    if (self->tls != NULL) {
        tls_close(self->tls);
    }
    contexts_drop(&self->contexts);
    self->tls = NULL;
}

struct tls_context *relay_tls_server(const struct relay_tls *self,
                                     enum conf_client_certificate client_certificate)
{
    return self == NULL ? NULL : self->contexts.servers[client_certificate];
}

struct tls_context *relay_tls_client(const struct relay_tls *self, const struct conf_route *route)
{
    const struct relay_tls_client *found =
        client_find(&self->contexts, route->tls.certificate, route->tls.key);
    /* A route whose own certificate could not be read at a reload shows the common one. */
    return found == NULL || route->tls.certificate == NULL ? self->contexts.clients[0].context
                                                           : found->context;
}

bool relay_tls_may_relay(const struct relay_conf *conf, const struct tls_facts *client)
{
    return client->verdict != TLS_VERDICT_NONE &&
           relay_conf_client_may_relay(conf, client->peer_digest, client->peer_key_digest);
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
