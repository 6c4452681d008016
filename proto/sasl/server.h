/*
 * server: the serving side of a SASL exchange, without I/O.
 *
 * Called by the protocols that carry it (SMTP AUTH, POP3 AUTH, IMAP AUTHENTICATE), which know base64, "*" and their
 * replies; here are the octets only:
 *
 *     want = sasl_server_step(server, initial response or NULL)       once, then with each answer of the client
 *     want = sasl_server_secret(server, ...)  after SASL_WANT_SECRET
 *     want = sasl_server_verdict(server, ...) after SASL_WANT_VERIFY and SASL_WANT_TOKEN
 *
 * What is wanted may take its time: it is answered from off the shard (engine/auth), and until then the machine takes
 * nothing. It never blocks: the library's callbacks find what they need, because the user's name was read from the
 * client's message before the library got it.
 *
 * An unknown user is answered as a wrong password is: the exchange runs to its end with a secret that nobody knows, and
 * SCRAM's salt and count for a name are always the same.
 *
 * GNU SASL does the mechanisms but OAUTHBEARER and XOAUTH2. It takes its nonces from the kernel itself, and what memory
 * it needs from the heap; both bounded by SASL_MESSAGE_BYTES_MAX. Nothing else is kept of what was handed in.
 *
 * Source: RFC 4422 (SASL); RFC 4616 (PLAIN); RFC 2195 (CRAM-MD5); RFC 2831 (DIGEST-MD5); RFC 5802, 7677 (SCRAM);
 * RFC 5929, 9266 (channel binding); RFC 7628 (OAUTHBEARER); RFC 4013 (SASLprep).
 */
#pragma once
#include "proto/sasl/client_message.h"

#define SASL_MESSAGE_BYTES_MAX 9216u  /* 12,288 octets of base64, RFC 4954 §4; longer: failed */
#define SASL_PASSWORD_BYTES_MAX 1024u /* longer: failed */
#define SASL_SALT_BYTES 16u           /* of the salt that an unknown user seems to have */

enum sasl_want {
    SASL_WANT_INPUT,  /* send the challenge, and wait for the client's answer */
    SASL_WANT_SECRET, /* what is stored of this user: sasl_server_secret */
    SASL_WANT_VERIFY, /* is this the password, or (EXTERNAL) may this name come in: sasl_server_verdict */
    SASL_WANT_TOKEN, /* is this token good: sasl_server_verdict */
    SASL_DONE,       /* sasl_server_question says who it is */
    SASL_FAILED,     /* sasl_server_failure says why */
};

enum sasl_failure {
    SASL_MALFORMED,   /* the client broke the mechanism's rules */
    SASL_WRONG,       /* no such user, or wrong password, or not allowed: nobody is told which */
    SASL_UNAVAILABLE, /* cannot be known now, or no memory: to be tried again */
};

/* Slices are borrowed until the next call. */
struct sasl_question {
    enum sasl_mechanism mechanism;
    /* UTF-8, by SASLprep. authid: whose secret it is; empty: the token says it. authzid: whom it wants to act as; empty: itself. */
    struct slice authid, authzid;
    struct slice realm;    /* of DIGEST-MD5 */
    struct slice password; /* of SASL_WANT_VERIFY; terminated by NUL behind its end */
    struct slice token;    /* of SASL_WANT_TOKEN */
};

/* Borrowed until the call returns. What the mechanism does not need is not looked at. Of one who is nobody, or has nothing that
 * serves, iterations and salt without keys: what he seems to have. */
struct sasl_secret {
    struct slice password;   /* CRAM-MD5, DIGEST-MD5: the password itself; empty: not known */
    struct slice digest_ha1; /* DIGEST-MD5: 32 hexadecimal digits of MD5(user:realm:password) */
    uint32_t iterations;     /* SCRAM, all four */
    struct slice salt, stored_key, server_key;
};

/* Shared by the machines of a shard; borrowed as long as one is open. */
struct sasl_settings {
    struct sasl_offer offer;
    uint8_t secret[32]; /* of the service, the same on all its shards and after each start */
    uint32_t
        iterations; /* of SCRAM, that an unknown user seems to have: what new passwords are given */
    const char *realm;                      /* of DIGEST-MD5 */
    const char *oauth_openid_configuration; /* URL for clients, RFC 7628 §3.2.2; NULL: none */
    const char *oauth_scope;                /* NULL: none */
};

struct sasl_library;
struct sasl_server;

/* One a shard: the library is not for several threads at once. 0, -ENOMEM, -ENOSYS: the library lacks a mechanism. */
int sasl_library_open(struct sasl_library **library, const struct sasl_settings *settings);
void sasl_library_close(struct sasl_library *library); /* after the machines */

/* 0; -EPERM: not offered here; -ENOMEM. *facts is borrowed until the call returns. */
int sasl_server_open(struct sasl_server **server, struct sasl_library *library,
                     enum sasl_mechanism mechanism, const struct sasl_facts *facts);
/* At any moment. What was secret is wiped. */
void sasl_server_close(struct sasl_server *server);

/* message: what the client sent; NULL, the first time only: nothing came with the command, which is not the same as an
 * empty initial response. */
enum sasl_want sasl_server_step(struct sasl_server *server, const struct slice *message);
/* NULL: there is no such user, or none with a secret of this kind; what he seems to have is made up here, too. */
enum sasl_want sasl_server_secret(struct sasl_server *server, const struct sasl_secret *secret);

enum sasl_verdict { SASL_RIGHT, SASL_NOT_RIGHT, SASL_UNKNOWN_NOW };
/* Also after SASL_WANT_SECRET, with SASL_UNKNOWN_NOW only: the backend is out of reach. */
enum sasl_want sasl_server_verdict(struct sasl_server *server, enum sasl_verdict verdict);

/* With SASL_WANT_INPUT: octets for the client; may be empty. Borrowed until the next call. */
struct slice sasl_server_challenge(const struct sasl_server *server);
/* While something is wanted of the owner, and at the end. */
const struct sasl_question *sasl_server_question(const struct sasl_server *server);
enum sasl_failure sasl_server_failure(const struct sasl_server *server);
