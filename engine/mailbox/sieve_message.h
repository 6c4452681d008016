/*
 * sieve_message: what proto/sieve/run.h asks of a message, from its header and its envelope.
 *
 * delivery_sieve.c makes one for each recipient whose script runs; it is a place in the header and room for one decoded
 * value. The body is not kept while a message streams by, so nothing is known of it.
 *
 * Source: RFC 5228 §5; RFC 5183 §4.1 (environment).
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/sieve/run.h"

struct sieve_mail {
    struct slice header; /* borrowed, in plain form; may be cut */
    uint64_t size;
    struct slice from, to;
    struct arena *arena; /* borrowed: for what must be decoded */
    /* Where the search for the next field of a name goes on. */
    struct slice name, rest;
    uint32_t next;
    uint8_t *decoded;
    size_t decoded_room;
};

/* The mail's fields above are set, the others zeroed. It is borrowed while the message is used. */
struct sieve_message sieve_mail_message(struct sieve_mail *mail);
