#include "proto/sasl/mechanism.h"
#include "engine/core/check.h"

enum kind {
    KIND_SECRET,  /* what is secret does not travel */
    KIND_CLEAR,   /* it does: TLS only */
    KIND_BINDING, /* tied to the TLS connection */
    KIND_CERTIFICATE,
};

static const struct {
    const char *name;
    enum kind kind;
} mechanisms[SASL_MECHANISMS] = {
    [SASL_EXTERNAL] = {"EXTERNAL", KIND_CERTIFICATE},
    [SASL_SCRAM_SHA_256_PLUS] = {"SCRAM-SHA-256-PLUS", KIND_BINDING},
    [SASL_SCRAM_SHA_1_PLUS] = {"SCRAM-SHA-1-PLUS", KIND_BINDING},
    [SASL_SCRAM_SHA_256] = {"SCRAM-SHA-256", KIND_SECRET},
    [SASL_SCRAM_SHA_1] = {"SCRAM-SHA-1", KIND_SECRET},
    [SASL_OAUTHBEARER] = {"OAUTHBEARER", KIND_CLEAR},
    [SASL_XOAUTH2] = {"XOAUTH2", KIND_CLEAR},
    [SASL_DIGEST_MD5] = {"DIGEST-MD5", KIND_SECRET},
    [SASL_CRAM_MD5] = {"CRAM-MD5", KIND_SECRET},
    [SASL_PLAIN] = {"PLAIN", KIND_CLEAR},
    [SASL_LOGIN] = {"LOGIN", KIND_CLEAR},
};

enum sasl_mechanism sasl_mechanism_find(struct slice name)
{
    unsigned at = 0;
    while (at < SASL_MECHANISMS && !slice_equal_nocase(name, slice_text(mechanisms[at].name))) {
        at++;
    }
    return (enum sasl_mechanism)at;
}

const char *sasl_mechanism_name(enum sasl_mechanism mechanism)
{
    check(mechanism < SASL_MECHANISMS);
    return mechanisms[mechanism].name;
}

static bool fits(enum kind kind, const struct sasl_offer *offer, const struct sasl_facts *facts)
{
    switch (kind) {
    case KIND_SECRET:
        return true;
    case KIND_CLEAR:
        return facts->encrypted || (facts->loopback && offer->clear_on_loopback);
    case KIND_BINDING:
        return facts->encrypted && (facts->tls_unique.size > 0 || facts->tls_exporter.size > 0);
    case KIND_CERTIFICATE:
        return facts->encrypted && facts->certificate_name.size > 0;
    }
    return false;
}

uint32_t sasl_mechanisms_offered(const struct sasl_offer *offer, const struct sasl_facts *facts)
{
    uint32_t offered = 0;
    for (unsigned i = 0; i < SASL_MECHANISMS; i++) {
        if ((offer->mechanisms & SASL_BIT(i)) && fits(mechanisms[i].kind, offer, facts)) {
            offered |= SASL_BIT(i);
        }
    }
    return offered;
}

bool sasl_mechanism_is_scram(enum sasl_mechanism mechanism)
{
    return mechanism == SASL_SCRAM_SHA_1 || mechanism == SASL_SCRAM_SHA_1_PLUS ||
           mechanism == SASL_SCRAM_SHA_256 || mechanism == SASL_SCRAM_SHA_256_PLUS;
}

bool sasl_mechanism_server_first(enum sasl_mechanism mechanism)
{
    return mechanism == SASL_CRAM_MD5 || mechanism == SASL_DIGEST_MD5;
}
