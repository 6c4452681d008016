#include "engine/relay/tls_policy.h"
#include "engine/relay/tls_report.h"
#include <string.h>

static void refuse(struct tls_policy *policy, enum tls_policy_kind kind, enum tls_result result,
                   const char *why)
{
    policy->kind = (uint8_t)kind;
    policy->result = (uint8_t)result;
    policy->refused = true;
    policy->why = why;
}

static void name_own(struct tls_policy *policy, const char *name)
{
    for (uint32_t i = 0; i < policy->name_count; i++) {
        if (strcmp(policy->own[i], name) == 0) {
            return;
        }
    }
    policy->own[policy->name_count++] = name;
    policy->names = policy->own;
}

/* At least so much. */
static void raise(struct tls_policy *policy, enum conf_tls_level level)
{
    policy->level = policy->level < level ? (uint8_t)level : policy->level;
}

/* RFC 7672 §3.2: the TLSA base domain is what is asked for and checked. */
static void by_records(struct tls_policy *policy, const struct destination_host *host)
{
    policy->kind = TLS_POLICY_TLSA;
    policy->level = CONF_LEVEL_DANE;
    policy->server_name = host->tlsa_base != NULL ? host->tlsa_base : host->name;
    policy->records = host->tlsa_records;
    policy->record_count = host->tlsa_count;
    policy->name_count = 0;
    name_own(policy, policy->server_name);
    name_own(policy, host->name);
}

static void by_promise(struct tls_policy *policy, const struct destination *destination,
                       const struct destination_host *host)
{
    static const uint8_t failures[] = {
        [DESTINATION_MTA_STS_NO_FAILURE] = TLS_RESULT_SUCCESS,
        [DESTINATION_MTA_STS_FETCH_ERROR] = TLS_RESULT_STS_POLICY_FETCH_ERROR,
        [DESTINATION_MTA_STS_INVALID] = TLS_RESULT_STS_POLICY_INVALID,
        [DESTINATION_MTA_STS_WEBPKI_INVALID] = TLS_RESULT_STS_WEBPKI_INVALID,
    };
    if (destination->mta_sts.mode == DNS_MTA_STS_NONE) {
        policy->result = failures[destination->mta_sts.failure];
        return;
    }
    policy->kind = TLS_POLICY_STS;
    if (policy->level < CONF_LEVEL_VERIFIED) { /* a route's own names are for its own demand */
        policy->server_name = host->name;
        policy->name_count = 0;
        name_own(policy, host->name);
    }
    if (destination->mta_sts.mode == DNS_MTA_STS_TESTING) {
        policy->testing = policy->level < CONF_LEVEL_VERIFIED;
        return;
    }
    if (host->excluded) {
        refuse(policy, TLS_POLICY_STS, TLS_RESULT_VALIDATION_FAILURE,
               "the domain's MTA-STS policy does not name this host");
        return;
    }
    raise(policy, CONF_LEVEL_VERIFIED);
}

/* DANE comes first: MTA-STS must not excuse from it (RFC 8461 §2). */
static void by_domain(struct tls_policy *policy, const struct destination *destination,
                      const struct destination_host *host)
{
    bool required = policy->level == CONF_LEVEL_DANE;
    if (required) {
        policy->level = CONF_LEVEL_REQUIRED; /* until the records say more */
    }
    switch ((enum destination_tlsa)host->tlsa) {
    case DESTINATION_TLSA_USABLE:
        by_records(policy, host);
        return;
    case DESTINATION_TLSA_FAILED:
        refuse(policy, TLS_POLICY_TLSA, TLS_RESULT_DNSSEC_INVALID,
               "the host's TLSA records cannot be looked up");
        return;
    case DESTINATION_TLSA_UNUSABLE:
        by_promise(policy, destination, host);
        policy->result = policy->refused ? policy->result : (uint8_t)TLS_RESULT_TLSA_INVALID;
        policy->kind = policy->refused ? policy->kind : (uint8_t)TLS_POLICY_TLSA;
        raise(policy, CONF_LEVEL_REQUIRED);
        return;
    case DESTINATION_TLSA_NONE:
        break;
    }
    if (required) {
        refuse(policy, TLS_POLICY_TLSA, TLS_RESULT_DANE_REQUIRED,
               "the host has no TLSA records, which the route requires");
    } else {
        by_promise(policy, destination, host);
    }
}

void tls_policy_for(struct tls_policy *policy, const struct conf_route *route,
                    const struct endpoint *to, const struct destination *destination, uint32_t host)
{
    *policy = (struct tls_policy){.level = route->tls.level, .implicit = route->tls.implicit};
    if (policy->implicit && policy->level < CONF_LEVEL_REQUIRED) {
        policy->level = CONF_LEVEL_REQUIRED; /* the port knows no other */
    }
    if (to->family == ENDPOINT_UNIX && policy->level == CONF_LEVEL_OPPORTUNISTIC) {
        policy->level = CONF_LEVEL_NONE; /* nobody is on the way */
    }
    if (policy->level == CONF_LEVEL_NONE) {
        return;
    }
    policy->names = route->tls.names;
    policy->name_count = route->tls.names_count;
    policy->server_name = policy->name_count > 0 ? policy->names[0] : NULL;
    if (destination == NULL) {
        return;
    }
    const struct destination_host *of = &destination->hosts[host];
    if (policy->name_count == 0) {
        policy->server_name = of->name;
        name_own(policy, of->name);
    }
    by_domain(policy, destination, of);
}
