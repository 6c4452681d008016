/* context_private: between context and stream. */
#pragma once
#include "engine/core/ref.h"
#include "engine/tls/context.h"
#include "engine/tls/tickets.h"
#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/stat.h>

struct tls_name {
    char *name;       /* in lower case; a wildcard begins with "*." */
    SSL_CTX *context; /* of its identity */
};

struct tls_authorities {
    struct ref ref;
    X509_STORE *store;
    char *file; /* NULL: a folder of the system's */
    struct timespec changed;
    off_t bytes;
    ino_t inode;
};

struct tls_context {
    struct ref ref;
    SSL_CTX **identities; /* of a client one */
    uint32_t identity_count;
    struct tls_name *names; /* sorted */
    uint32_t name_count;
    struct tls_tickets *tickets; /* NULL: none */
};

/* tls_stream.c: a session that a client may resume. */
int tls_session_learned(SSL *ssl, SSL_SESSION *session);

/* What OpenSSL's queue of errors says first, without its codes; empties it. */
void tls_problem(char *text, size_t size);
