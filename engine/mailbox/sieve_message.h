/*
 * sieve_message: what proto/sieve/run.h asks of a message, from its text and its envelope.
 *
 * delivery_sieve.c makes one for each recipient whose script runs; it is a place in the header, room for one decoded
 * value, and the parts of the body once somebody has asked for one.
 *
 * Source: RFC 5228 §5; RFC 5173 §5 (body); RFC 5183 §4.1 (environment).
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/message/structure.h"
#include "proto/sieve/run.h"

#define SIEVE_MAIL_BODY_BYTES_MAX (1024u * 1024) /* of a body, that tests look at */

struct sieve_mail {
    struct slice header; /* borrowed, in plain form; may be cut */
    struct slice body;   /* behind it in the same memory; may be cut, or missing */
    uint64_t size;
    struct slice from, to;
    struct arena *arena; /* borrowed: for what must be decoded */
    /* Where the search for the next field of a name goes on. */
    struct slice name, rest;
    uint32_t next;
    uint8_t *decoded;
    size_t decoded_room;
    /* Of the body: its parts, and the one that was asked for last. */
    struct message_part *root, *part;
    uint32_t part_index;
    uint8_t *content; /* room for one part, decoded */
    size_t content_room;
    char type[128];
};

/* The mail's fields above are set, the others zeroed. It is borrowed while the message is used. */
struct sieve_message sieve_mail_message(struct sieve_mail *mail);

/* sieve_body.c: of struct sieve_message. */
bool sieve_mail_body(void *self, struct slice *body);
bool sieve_mail_body_part(void *self, uint32_t index, struct sieve_body_part *part);
