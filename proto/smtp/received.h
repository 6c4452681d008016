/*
 * received: the trace line that a server puts in front of a message it takes.
 *
 * What came from the peer is cleaned: it cannot end the line, open a comment or begin another field.
 *
 * Source: RFC 5321 §4.4; RFC 3848 (with).
 */
#pragma once
#include "engine/core/slice.h"

#define SMTP_RECEIVED_MAX 1536

struct smtp_received {
    struct slice helo;       /* as the client called itself; may be empty */
    struct slice address;    /* of the client, as text; empty: a unix socket */
    bool ipv6;               /* `address` is */
    struct slice hostname;   /* ours */
    const char *protocol;    /* smtp_server_protocol */
    const char *tls_version; /* "TLSv1.3"; NULL: in the clear */
    const char *tls_cipher;
    unsigned tls_bits;
    bool tls_client_shown;    /* the client has shown a certificate */
    bool tls_client_verified; /* of an authority that we trust */
    struct slice tls_client;  /* the common name in it */
    struct slice id;
    struct slice
        forward_path; /* the only recipient; empty: none is named, since there are several */
    int64_t wall_s;
};

/* Writes the field with its line ends into `text`, which holds SMTP_RECEIVED_MAX; returns its length. */
size_t smtp_received_format(const struct smtp_received *received, char *text);
