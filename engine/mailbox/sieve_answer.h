/*
 * sieve_answer: the messages that scripts have sent to who wrote: that the user is away, that he does not want the message.
 *
 * Pure; for delivery_actions.c. Both come out in wire form: CRLF lines, dot-stuffed.
 *
 * Source: RFC 5230 §5 (vacation), RFC 3834 §3 (automatic answers); RFC 5429 §2.2, RFC 8098 §3 (rejection).
 */
#pragma once
#include "engine/core/slice.h"

struct sieve_answer {
    struct slice hostname;
    uint64_t id[2]; /* random: of Message-ID: and boundaries */
    int64_t wall_s;
    struct slice to;       /* the envelope's sender */
    struct slice owner;    /* the address that the message came to */
    struct slice original; /* header of the message */
    struct slice reason;   /* UTF-8 */
    /* Of vacation. */
    struct slice from;    /* a mailbox; empty: the owner */
    struct slice subject; /* UTF-8 */
    bool mime;            /* the reason is a MIME entity, with its header */
};

/* The size; 0: more than `room`. */
size_t sieve_answer_vacation(const struct sieve_answer *answer, uint8_t *out, size_t room);
size_t sieve_answer_rejection(const struct sieve_answer *answer, uint8_t *out, size_t room);
