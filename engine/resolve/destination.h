/*
 * destination: where mail for a domain goes: hosts, addresses, and what the domain says about TLS.
 *
 * The answer of resolve (resolve.h). Immutable and counted: it may be kept beyond its expiry, e.g. by
 * the deliveries that were begun with it. One shard's; never handed to another.
 *
 * The TLS facts belong to the recipient domain, never to a site: two domains on the same hosts may
 * have different ones.
 *
 * Source: RFC 5321 §5.1; RFC 7505; RFC 7672; RFC 8461.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/core/ref.h"
#include "proto/dns/exchangers.h"
#include "proto/dns/mta_sts.h"
#include "proto/dns/tlsa.h"

enum destination_status {
    DESTINATION_OK,
    DESTINATION_BAD_NAME,   /* 5.1.2: no domain name at all */
    DESTINATION_NO_DOMAIN,  /* 5.1.2: does not exist */
    DESTINATION_NULL_MX,    /* 5.1.10: takes no mail, RFC 7505 */
    DESTINATION_NO_ADDRESS, /* 5.4.4: hosts without an address of the families that may be used */
    DESTINATION_LOOP,       /* 5.4.6: the best host is this one */
    DESTINATION_TEMPORARY,  /* 4.4.3: no answer; mail waits */
    DESTINATION_BOGUS,      /* 4.7.0: DNSSEC validation failed; mail waits */
};

/* What TLSA records say of a host. */
enum destination_tlsa {
    DESTINATION_TLSA_NONE,     /* DANE does not concern it: no records, or nothing validated */
    DESTINATION_TLSA_USABLE,   /* TLS and a matching certificate are required */
    DESTINATION_TLSA_UNUSABLE, /* records, none usable: TLS is required, unauthenticated (§2.2) */
    DESTINATION_TLSA_FAILED,   /* no answer, or bogus: the host must not be used now (§2.1.1) */
};

struct destination_host {
    const char *name; /* as the MX says, or the domain itself */
    const char
        *tlsa_base; /* TLSA base domain: the name to send as SNI and to check (§2.2.3, §3.2) */
    uint16_t preference; /* 0 for the domain itself */
    bool secure;         /* MX records and addresses were validated; only where TLS was asked for */
    bool excluded;       /* by an enforced MTA-STS policy: its patterns do not name this host */
    uint8_t tlsa;        /* enum destination_tlsa */
    uint8_t tlsa_count;  /* usable ones; 0 unless DESTINATION_TLSA_USABLE */
    uint8_t address_count; /* 0 when lookup_failed */
    bool lookup_failed;    /* its addresses could not be learned now; others can be used */
    const struct endpoint *addresses; /* with the port asked for, in the order to try */
    const struct dns_tlsa *tlsa_records;
};

/* Why a domain that announces a policy has none that could be read: RFC 8460 §4.3 result types. */
enum destination_mta_sts_failure {
    DESTINATION_MTA_STS_NO_FAILURE,
    DESTINATION_MTA_STS_FETCH_ERROR,   /* sts-policy-fetch-error */
    DESTINATION_MTA_STS_INVALID,       /* sts-policy-invalid */
    DESTINATION_MTA_STS_WEBPKI_INVALID /* sts-webpki-invalid */
};

struct destination_mta_sts {
    uint8_t mode; /* enum dns_mta_sts_mode; NONE also when there is no policy */
    uint8_t
        failure; /* enum destination_mta_sts_failure, of the last fetch; an older policy may hold */
    char id[DNS_MTA_STS_ID_MAX + 1]; /* "": no policy */
    uint32_t max_age_s;
    int64_t valid_until_s; /* of the wall clock */
    uint32_t pattern_count;
    const char *const *patterns;
};

struct destination {
    struct ref ref;
    const char *domain; /* as asked, in A-labels, lower case */
    uint8_t status;     /* enum destination_status */
    bool implicit_mx;   /* no MX records: the domain's own addresses */
    bool mx_secure;     /* the MX answer (or that there is none) was validated */
    /* For a report, when status is not OK: reply code as if a server had said it, enhanced code, text. */
    uint16_t reply_code;
    uint8_t enhanced_class;
    uint16_t enhanced_subject, enhanced_detail;
    const char *text;
    uint32_t host_count;
    const struct destination_host *hosts; /* by preference, then name; see destination_order */
    struct destination_mta_sts mta_sts;
    /* The same for every domain with the same hosts in the same order of preference and the same port, also
     * after a restart; 0 unless OK. destination_same_site tells what a collision would hide. */
    uint64_t site_key;
    uint64_t expires_ns; /* of the shard's clock; ask again then */
    uint16_t port;
    size_t bytes; /* that it takes */
};

/* The order in which one delivery tries the hosts: by preference, shuffled among equals. random: any 64
 * bits. Writes host_count indexes. */
void destination_order(const struct destination *destination, uint64_t random,
                       uint8_t order[DNS_EXCHANGERS_MAX]);
/* The same host names, in the same order of preference, and port? (Addresses are as old as the answer.) */
bool destination_same_site(const struct destination *a, const struct destination *b);

static inline struct destination *destination_take(struct destination *destination)
{
    ref_take(&destination->ref);
    return destination;
}

static inline void destination_drop(struct destination *destination)
{
    ref_drop(&destination->ref);
}

/* A copy of what `draft` says and points to; site_key, bytes and the count are its own. NULL: no memory. */
struct destination *destination_new(const struct destination *draft);

/* "ok", "no-domain", ...: for logs and lists. */
const char *destination_status_name(enum destination_status status);
