/*
 * tls_rig: an authority, certificates in files, and two ends of connections over a network in memory.
 */
#pragma once
#include "engine/tls/tls.h"
#include "tests/unit/fake_network.h"

#define TLS_RIG_PATH_MAX 128u

struct tls_rig_end {
    struct stream *stream; /* NULL: released */
    uint32_t events;       /* all that were told */
    int error;
    bool closed;
    uint8_t *received;
    size_t received_bytes, received_room;
    bool holds; /* leaves what has come where it is */
};

struct tls_rig {
    char folder[64];
    struct wheel *wheel;
    struct network *network;
    struct tls *tls; /* both ends' */
    struct listener *listener;
    struct tls_context *server, *client;
    uint64_t now_ns;
    int64_t wall_s;
    uint8_t secret[TLS_SECRET_BYTES];
    struct tls_rig_end *accepted[64]; /* in order */
    unsigned accepted_count;
    struct stream *below; /* of the last one accepted */
    bool in_the_clear;    /* what is accepted waits for tls_rig_accept; nobody hears its events */
};

/* Files of certificates made once: rig->folder/NAME.pem holds certificate and key for the host NAME and
 * "*.NAME", of the authority rig->folder/authority.pem; "stranger" is of none, "expired" was for mx.example, "nul" is
 * for "mx.example" NUL "x". */
void tls_rig_open(struct tls_rig *rig, size_t room, const struct tls_settings *settings);
void tls_rig_close(struct tls_rig *rig); /* checks that nothing is left */
const char *tls_rig_file(const struct tls_rig *rig, const char *name); /* of static memory */
void tls_rig_context(struct tls_rig *rig, const char *const *names, unsigned count,
                     enum tls_client_certificate wanted);
/* Opens a connection, the client's end is the caller's. NULL: tls_connect failed. */
struct tls_rig_end *tls_rig_connect(struct tls_rig *rig, const struct tls_peer *peer);
struct tls_rig_end *tls_rig_accept(struct tls_rig *rig);
/* The server's end of the last connection. */
struct tls_rig_end *tls_rig_other(const struct tls_rig *rig);
/* Of an end that is there. */
const struct tls_facts *tls_rig_facts(const struct tls_rig_end *end);
/* Were both ends told that the handshake is done, and not yet of an end? */
bool tls_rig_connected(const struct tls_rig *rig, const struct tls_rig_end *client);
void tls_rig_run(struct tls_rig *rig); /* until nothing happens */
unsigned tls_rig_round(struct tls_rig *rig);
void tls_rig_release(struct tls_rig_end *end);
void tls_rig_end_free(struct tls_rig_end *end);
/* SHA-256 of the public key in a file: what "3 1 1" says. */
void tls_rig_key_digest(const struct tls_rig *rig, const char *name, uint8_t digest[32]);
