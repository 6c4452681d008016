#include "engine/relay/outbound_tls.h"
#include "engine/core/mutation.h"
#include "engine/relay/tls_clear.h"
#include "engine/relay/tls_report.h"
#include <stdio.h>

#define HOST_TEXT_MAX (ENDPOINT_TEXT_MAX + 272u)

/* ---- What is counted ---- */

static void count(const struct outbound_tls *self, struct relay *relay,
                  const struct conf_route *route, const struct relay_hop *hop,
                  enum tls_result result)
{
    const char *domain = hop->destination != NULL ? hop->destination->domain
                         : route != NULL          ? route->match
                                                  : "";
    tls_report_add(relay->tls_report, slice_text(domain), (enum tls_policy_kind)self->policy.kind,
                   result, world_wall_s(relay->shard->world));
}

static enum tls_result result_of(enum tls_verdict verdict)
{
    switch (verdict) {
    case TLS_VERDICT_GOOD:
        return TLS_RESULT_SUCCESS;
    case TLS_VERDICT_EXPIRED:
        return TLS_RESULT_CERTIFICATE_EXPIRED;
    case TLS_VERDICT_OTHER_HOST:
        return TLS_RESULT_CERTIFICATE_HOST_MISMATCH;
    case TLS_VERDICT_NOT_TRUSTED:
        return TLS_RESULT_CERTIFICATE_NOT_TRUSTED;
    case TLS_VERDICT_NO_RECORD:
    case TLS_VERDICT_INVALID:
    case TLS_VERDICT_NONE:
        break;
    }
    return TLS_RESULT_VALIDATION_FAILURE;
}

/* ---- Before the connection ---- */

bool outbound_tls_choose(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop)
{
    struct tls_policy *policy = &self->policy;
    tls_policy_for(policy, route, &hop->to, hop->destination, hop->host);
    self->secrecy = OUTBOUND_IN_CLEAR;
    self->problem[0] = '\0';
    bool clear = relay->tls == NULL || tls_clear_has(relay->clear, &hop->to, relay->shard->now_ns);
    if (relay->tls == NULL && policy->level > CONF_LEVEL_OPPORTUNISTIC && !policy->refused) {
        policy->refused = true;
        policy->why = "TLS is required, but there is none here";
    }
    if (policy->level == CONF_LEVEL_OPPORTUNISTIC && clear) {
        policy->level = CONF_LEVEL_NONE;
    }
    if (policy->result != TLS_RESULT_SUCCESS) {
        count(self, relay, route, hop, (enum tls_result)policy->result);
    }
    return !policy->refused;
}

void outbound_tls_not_there(const struct outbound_tls *self, struct relay *relay,
                            const struct conf_route *route, const struct relay_hop *hop)
{
    count(self, relay, route, hop, TLS_RESULT_STARTTLS_NOT_SUPPORTED);
}

enum smtp_client_tls outbound_tls_wish(const struct outbound_tls *self)
{
    const struct tls_policy *policy = &self->policy;
    return policy->implicit || policy->level == CONF_LEVEL_NONE ? SMTP_CLIENT_TLS_NEVER
           : policy->level == CONF_LEVEL_OPPORTUNISTIC          ? SMTP_CLIENT_TLS_IF_OFFERED
                                                                : SMTP_CLIENT_TLS_REQUIRED;
}

/* ---- The handshake ---- */

static uint64_t hash_add(const struct siphash_key *secret, uint64_t hash, struct slice bytes)
{
    uint64_t words[3] = {hash, bytes.size};
    do {
        struct slice part = slice_first(bytes, sizeof(words[2]));
        words[2] = 0;
        if (part.size > 0) {
            memcpy(&words[2], part.bytes, part.size);
        }
        words[0] = siphash(secret, words, 3);
        bytes = slice_from(bytes, part.size);
    } while (bytes.size > 0);
    return words[0];
}

/* A session is resumed without another look at the certificate: all that was demanded of it, and all that
 * we have shown of ourselves, must be the same. */
static void session_key(const struct outbound_tls *self, const struct relay *relay,
                        const struct conf_route *route, const struct relay_hop *hop, char *key,
                        size_t size)
{
    const struct tls_policy *policy = &self->policy;
    const struct siphash_key *secret = &relay->clear->secret;
    char remote[ENDPOINT_TEXT_MAX];
    uint64_t hash = hash_add(secret, relay->tls->generation, slice_text(route->match));
    hash = hash_add(secret, hash,
                    slice_text(route->tls.certificate != NULL ? route->tls.certificate : ""));
    for (uint32_t i = 0; i < policy->name_count; i++) {
        hash = hash_add(secret, hash, slice_text(policy->names[i]));
    }
    for (uint32_t i = 0; i < policy->record_count; i++) {
        const struct dns_tlsa *record = &policy->records[i];
        const uint8_t kind[] = {record->usage, record->selector, record->matching_type};
        hash = hash_add(secret, hash, slice_of(kind, sizeof(kind)));
        hash = hash_add(secret, hash, record->data);
    }
    endpoint_format(&hop->to, remote);
    snprintf(key, size, "%s %s %u %u %u %016llx", remote,
             policy->server_name != NULL ? policy->server_name : "-", policy->level, policy->kind,
             route->via, (unsigned long long)hash);
}

#define ASSOCIATIONS_MAX 64u

/* Each record that does not fit would be one more that is right; none is ever wrong. */
static uint32_t associations_of(const struct tls_policy *policy,
                                struct tls_association associations[ASSOCIATIONS_MAX])
{
    uint32_t count =
        policy->record_count < ASSOCIATIONS_MAX ? policy->record_count : ASSOCIATIONS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct dns_tlsa *record = &policy->records[i];
        associations[i] = (struct tls_association){.usage = record->usage,
                                                   .selector = record->selector,
                                                   .matching = record->matching_type,
                                                   .bytes = record->data};
    }
    return count;
}

static enum tls_trust trust_of(const struct tls_policy *policy)
{
    return policy->level == CONF_LEVEL_DANE       ? TLS_DANE
           : policy->level == CONF_LEVEL_VERIFIED ? TLS_VERIFIED
                                                  : TLS_ANYBODY;
}

void outbound_tls_start(struct outbound_tls *self, struct relay *relay,
                        const struct conf_route *route, const struct relay_hop *hop,
                        struct stream **stream)
{
    const struct tls_policy *policy = &self->policy;
    struct tls_association associations[ASSOCIATIONS_MAX];
    char key[512];
    /* The names that it was chosen with may be those of a configuration that is gone by now. */
    tls_policy_for(&self->policy, route, &hop->to, hop->destination, hop->host);
    if (policy->refused || policy->level == CONF_LEVEL_NONE) {
        stream_abort(*stream);
        stream_release(*stream);
        *stream = NULL;
        outbound_tls_failed(self, relay, route, hop, NULL, "the route has changed");
        return;
    }
    enum tls_trust trust = trust_of(policy);
    bool judged = trust != TLS_ANYBODY || policy->testing;
    session_key(self, relay, route, hop, key, sizeof(key));
    const struct tls_peer peer = {
        .context = relay_tls_client(relay->tls, route),
        .server_name = policy->server_name,
        .trust = trust,
        .names = policy->names,
        .name_count = judged ? policy->name_count : 0,
        .associations = associations,
        .association_count = trust == TLS_DANE ? associations_of(policy, associations) : 0,
        .session_key = key,
    };
    struct stream *below = *stream;
    *stream = NULL;
    int status = tls_connect(relay->tls->tls, below, &peer, stream);
    if (status < 0) {
        *stream = NULL;
        outbound_tls_failed(self, relay, route, hop, NULL, strerror(-status));
        return;
    }
    self->secrecy = OUTBOUND_SHAKING_HANDS;
}

static size_t host_format(const struct relay_hop *hop, char text[HOST_TEXT_MAX])
{
    char address[ENDPOINT_TEXT_MAX];
    if (hop->destination == NULL) {
        return endpoint_format(&hop->to, text);
    }
    endpoint_format_address(&hop->to, address);
    return (size_t)snprintf(text, HOST_TEXT_MAX, "%.255s[%s]:%u",
                            hop->destination->hosts[hop->host].name, address, hop->to.port);
}

/* Postfix's words: Trusted is a certificate of a known authority, Verified one that is all that was asked. */
static const char *worth_of(const struct tls_facts *facts)
{
    return facts->verified                      ? "Verified"
           : facts->verdict == TLS_VERDICT_GOOD ? "Trusted"
           : facts->verdict == TLS_VERDICT_NONE ? "Anonymous"
                                                : "Untrusted";
}

void outbound_tls_opened(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop,
                         const struct stream *stream)
{
    char host[HOST_TEXT_MAX];
    struct stream_facts facts;
    stream_facts(stream, &facts);
    self->secrecy = OUTBOUND_SECURED;
    /* In testing the certificate is only judged. */
    count(self, relay, route, hop,
          self->policy.testing ? result_of((enum tls_verdict)facts.tls->verdict)
                               : TLS_RESULT_SUCCESS);
    host_format(hop, host);
    logger_line(relay->logger, LOGGER_INFO,
                "%s TLS connection established to %s: %s with cipher %s (%u bits)",
                worth_of(facts.tls), host, facts.tls->version, facts.tls->cipher,
                facts.tls->cipher_bits);
}

void outbound_tls_failed(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop,
                         const struct stream *stream, const char *why)
{
    static const char certificate[] = "certificate: ";
    char host[HOST_TEXT_MAX];
    struct stream_facts facts = {.tls = NULL};
    if (stream != NULL) {
        stream_facts(stream, &facts);
    }
    if (facts.tls != NULL && facts.tls->problem[0] != '\0') {
        why = facts.tls->problem;
    }
    if (strncmp(why, certificate, sizeof(certificate) - 1) == 0) {
        snprintf(self->problem, sizeof(self->problem), "Server certificate not verified: %s",
                 why + sizeof(certificate) - 1);
    } else {
        snprintf(self->problem, sizeof(self->problem), "Cannot start TLS: %s", why);
    }
    self->secrecy = OUTBOUND_NO_HANDSHAKE;
    count(self, relay, route, hop,
          facts.tls == NULL ? TLS_RESULT_VALIDATION_FAILURE
                            : result_of((enum tls_verdict)facts.tls->verdict));
    host_format(hop, host);
    logger_line(relay->logger, LOGGER_INFO, "tls: no handshake with %s: %s", host, self->problem);
}

bool outbound_tls_falls_back(struct outbound_tls *self, struct relay *relay,
                             const struct relay_hop *hop)
{
    if (self->secrecy != OUTBOUND_NO_HANDSHAKE || self->policy.implicit ||
        (self->policy.level != CONF_LEVEL_OPPORTUNISTIC && !MUTATED(TLS_CLEAR_ALLOWED))) {
        return false;
    }
    char host[HOST_TEXT_MAX];
    tls_clear_add(relay->clear, &hop->to, relay->shard->now_ns);
    self->policy.level = CONF_LEVEL_NONE;
    self->secrecy = OUTBOUND_IN_CLEAR;
    host_format(hop, host);
    logger_line(relay->logger, LOGGER_INFO, "tls: going on in the clear with %s", host);
    return true;
}
