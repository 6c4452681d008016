/*
 * tls_policy: what a connection to a host must be, from what the route and the recipient's domain say.
 *
 * The route names a level; the domain may raise it, by TLSA records (DANE) or an MTA-STS policy, and
 * never lowers it. A policy belongs to a domain: two domains on the same hosts may have different ones,
 * and mail of one never goes by the other's. Domains that demand the same share connections
 * (relay_site_key.h), so what is demanded of a certificate is about the host alone: a domain's own name
 * in it, which RFC 7672 §3.2.2 would take too, may be anybody's who points an MX there.
 *
 * Pure: nothing is allocated, all that it points to is borrowed from its three arguments.
 *
 * Source: RFC 7672 §2, §3; RFC 8461 §4, §5, §8.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/resolve/destination.h"

#define TLS_POLICY_NAMES_MAX 2u

/* Who has decided, as reports call it: RFC 8460 §4.2. */
enum tls_policy_kind {
    TLS_POLICY_NONE, /* the route alone: "no-policy-found" */
    TLS_POLICY_TLSA,
    TLS_POLICY_STS,
};

struct tls_policy {
    uint8_t level; /* enum conf_tls_level; DANE: with at least one record */
    uint8_t kind;  /* enum tls_policy_kind */
    uint8_t
        result; /* enum tls_result (tls_report.h): what is wrong with the policy itself; SUCCESS: nothing */
    bool implicit; /* from the first byte */
    bool refused;  /* the host must not be used: `why` */
    bool
        testing; /* level is not raised, but the certificate is judged for the names, to be counted */
    const char *why;         /* refused: for logs and queues; static */
    const char *server_name; /* SNI; NULL: none is known */
    /* Of which the certificate must have one; those of the route, or `own`. */
    const char *const *names;
    uint32_t name_count;
    const char *own[TLS_POLICY_NAMES_MAX];
    const struct dns_tlsa *records;
    uint32_t record_count;
};

/* to: the endpoint that the connection goes to. destination: NULL where the route names endpoints;
 * host: of its hosts. policy->names may point into *policy: it must not be copied. */
void tls_policy_for(struct tls_policy *policy, const struct conf_route *route,
                    const struct endpoint *to, const struct destination *destination,
                    uint32_t host);
