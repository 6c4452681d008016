/*
 * mechanism: the SASL mechanisms we serve, their names, and which of them a client is offered.
 *
 * Pure: no state, no allocation. Called by the protocols when they announce capabilities and when a client asks for
 * a mechanism, and by the machine (server.h), which refuses what was not offered.
 *
 * Source: RFC 4422 §3.1 (names); RFC 4616 §2, RFC 7628 §3 (what goes over TLS only); RFC 5802 §6 (-PLUS).
 */
#pragma once
#include "engine/core/slice.h"

/* From strong to weak, the order in which they are announced. */
enum sasl_mechanism {
    SASL_EXTERNAL,
    SASL_SCRAM_SHA_256_PLUS,
    SASL_SCRAM_SHA_1_PLUS,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_1,
    SASL_OAUTHBEARER,
    SASL_XOAUTH2,
    SASL_DIGEST_MD5,
    SASL_CRAM_MD5,
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_MECHANISMS, /* how many; no mechanism */
};

#define SASL_BIT(mechanism) (1u << (mechanism))

/* What is known of the connection. Borrowed until the call returns. */
struct sasl_facts {
    bool encrypted, loopback;
    struct slice tls_unique,
        tls_exporter;              /* channel bindings (RFC 5929, 9266), octets; empty: none */
    struct slice certificate_name; /* whom the verified client certificate names; empty: none */
};

struct sasl_offer {
    uint32_t mechanisms;    /* SASL_BITs that the operator wants */
    bool clear_on_loopback; /* secrets may travel in the clear where nobody else listens */
};

/* SASL_MECHANISMS: there is none of this name. Capitals and small letters are alike. */
enum sasl_mechanism sasl_mechanism_find(struct slice name);
const char *sasl_mechanism_name(enum sasl_mechanism mechanism);
/* SASL_BITs. */
uint32_t sasl_mechanisms_offered(const struct sasl_offer *offer, const struct sasl_facts *facts);
/* SCRAM of any hash, with channel binding or without. */
bool sasl_mechanism_is_scram(enum sasl_mechanism mechanism);
/* The server speaks first: the client's command carries nothing (RFC 4422 §3.3). */
bool sasl_mechanism_server_first(enum sasl_mechanism mechanism);
