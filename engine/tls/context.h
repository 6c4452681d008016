/*
 * context: certificates, keys and rules that many TLS connections share.
 *
 * Made once when the configuration is loaded, and again when it is reloaded: connections that are
 * there keep the one they began with. A context belongs to one shard, as its references are plain
 * counts; what must agree between shards, the keys of session tickets, comes from one secret.
 *
 * Identities are chosen by the name that the client asks for (SNI, RFC 6066 §3): the one whose
 * certificate or `names` has it, exactly or by a wildcard of one label, else the first. Each may
 * have several keys (RSA beside ECDSA), of which the client's abilities choose.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TLS_PROBLEM_MAX 256u
#define TLS_SECRET_BYTES 32u

struct tls_context;

struct tls_pair {
    const char *certificate; /* file, PEM: ours first, then those that lead to its authority */
    const char *key;         /* file, PEM; may be the same */
};

struct tls_identity {
    const struct tls_pair *pairs;
    uint32_t pair_count;      /* >= 1 */
    const char *const *names; /* NULL: those in the first certificate */
    uint32_t name_count;
};

enum tls_client_certificate { TLS_CLIENT_NOT_ASKED, TLS_CLIENT_ASKED, TLS_CLIENT_REQUIRED };

/* Whose certificates we trust. Reading the system's, some 140, takes 40 ms. */
struct tls_authorities;
/* file: PEM; NULL: the system's. before: what was read earlier, or NULL; it is taken again where the
 * file has not changed. 0; -EINVAL and the problem; -ENOMEM. The caller's to drop. */
int tls_authorities_read(struct tls_authorities **made, const char *file,
                         struct tls_authorities *before, char problem[TLS_PROBLEM_MAX]);
void tls_authorities_drop(struct tls_authorities *authorities);

struct tls_rules {                /* zeroes and NULLs are replaced */
    const char *authorities;      /* file of those we trust, PEM; NULL: the system's */
    struct tls_authorities *read; /* in their place: read already, for many contexts */
    const char *ciphers;          /* of TLS 1.2, in OpenSSL's words */
    const char *suites;   /* of TLS 1.3; NULL: OpenSSL's, of a server with AES of 128 bits first */
    uint16_t version_min; /* 0x0303, TLS 1.2; never less */
    int security_level;   /* OpenSSL's, 1 to 5; 0: its default */
};

struct tls_server_settings {
    struct tls_rules rules;
    const struct tls_identity *identities;
    uint32_t identity_count; /* >= 1 */
    enum tls_client_certificate client_certificate;
    /* Session tickets (RFC 8446 §4.6.1) are sealed with keys that are drawn from it, anew every
     * `ticket_s`: servers with the same secret and wall clock resume each other's. NULL: none. */
    const uint8_t *ticket_secret; /* TLS_SECRET_BYTES; copied */
    uint32_t ticket_s;            /* 0: twelve hours */
    int64_t (*wall_s)(void *self);
    void *wall_self;
};

struct tls_client_settings {
    struct tls_rules rules;
    const struct tls_pair *pairs; /* shown to servers that ask for it; NULL: none */
    uint32_t pair_count;
};

/* 0; -EINVAL: `problem` says which file or rule, and why; -ENOMEM. The caller's to drop. */
int tls_context_server(struct tls_context **context, const struct tls_server_settings *settings,
                       char problem[TLS_PROBLEM_MAX]);
int tls_context_client(struct tls_context **context, const struct tls_client_settings *settings,
                       char problem[TLS_PROBLEM_MAX]);
struct tls_context *tls_context_take(struct tls_context *context);
void tls_context_drop(struct tls_context *context);
