/*
 * tubepost_submit: a message as programs hand it to sendmail, made whole and given to a relay by SMTP.
 *
 *   tubepost_submit.c    sendmail's command line
 *   submit_message.c     the message: read, its recipients found, missing fields added
 *   submit_session.c     the relay: connected to, told
 */
#pragma once
#include "proto/smtp/client.h"
#include <stdbool.h>
#include <stdio.h>

#define SUBMIT_BYTES_MAX (256u * 1024 * 1024) /* of a message that is read */

struct submit {
    const char *hostname; /* ours: completes addresses without a domain */
    char *sender;         /* without <>; "": the null reverse-path */
    const char *full_name;
    struct smtp_client_recipient *recipients; /* forward_path of the heap */
    uint32_t recipient_count, recipient_room;
    char *body; /* in wire form */
    size_t body_bytes, body_room;
    bool eight_bit;
    const char *envid;
    uint8_t ret, notify;
};

/* 0, -ENOMEM, or -EINVAL: it cannot be an address. Without a domain: ours is added. */
int submit_recipient_add(struct submit *submit, struct slice mailbox);
void submit_free(struct submit *submit);

/* Reads to the end, or to a line with a dot where `dot_ends` says so. names_recipients: those of To:, Cc: and Bcc: are
 * added. Bcc: is left out of what is sent; From:, Date: and Message-ID: are added where they are missing. EX_OK, or says
 * why not. */
int submit_read(struct submit *submit, FILE *in, bool dot_ends, bool names_recipients);

/* Tells the relay at that address. EX_OK: all recipients were taken; says of each that was not. */
struct endpoint;
int submit_send(const struct submit *submit, const struct endpoint *to);
