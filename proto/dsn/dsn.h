/*
 * dsn: the report that tells a sender what became of a message: delivery status notification.
 *
 * The relay builds one when recipients have failed for good, wait for long, or are served and their sender wants to
 * know; the result goes through the spool as any message, with the null reverse-path. Never built for a message whose
 * reverse-path is null: that is the caller's to see, and what stops loops.
 *
 * Everything that came from a peer (addresses, replies, names) is cleaned on the way: it cannot end
 * a line, open a header or a part, or hide text by escape sequences.
 *
 * A sender whose address is not ASCII gets the internationalised form (RFC 6533), since his report cannot reach him by
 * any other way than SMTPUTF8; all others get ASCII.
 *
 * Source: RFC 3461 §6 (what is told when), RFC 3464 (message/delivery-status), RFC 3462/6522 (multipart/report),
 * RFC 6533 (internationalised), RFC 3834 (Auto-Submitted), RFC 5321 §6.1.
 */
#pragma once
#include "proto/smtp/status.h"

#define DSN_ORIGINAL_BYTES_MAX 50000 /* of the returned header section; the rest is left out */

/* RFC 3464 §2.3.3. */
enum dsn_action {
    DSN_FAILED,
    DSN_DELAYED,
    DSN_DELIVERED,
    DSN_RELAYED, /* to a server that makes no reports */
    DSN_EXPANDED, /* it stands for several others, on each of whom there may be reports of their own */
};

struct dsn_recipient {
    struct slice forward_path; /* without <> */
    struct slice orcpt;        /* ORCPT, "type;xtext"; empty: none */
    uint8_t action;            /* enum dsn_action */
    struct smtp_status status;
    struct slice remote_mta; /* host name or address literal that refused it; empty: nobody did, we
                                decided */
    struct slice remote_address; /* of one that is named; empty: not known */
    uint16_t code;               /* of its reply; 0: none */
    struct slice text;           /* of its reply, or our words */
};

struct dsn_report {
    struct slice hostname;     /* ours */
    struct slice reverse_path; /* of the message: whom to tell; not empty */
    struct slice message_id;   /* the report's own, unique here, of letters and digits: becomes
                                  <...@hostname> */
    struct slice queue_id;     /* of the message that is reported on */
    struct slice envid;        /* ENVID, in xtext; empty: none */
    int64_t arrival_wall_s;    /* of the message */
    int64_t expires_wall_s;    /* until when a delayed one is tried */
    int64_t now_wall_s;
    uint8_t random[16]; /* unpredictable: makes the boundary, so that nobody can write it into the
                           text */
    /* All have failed, or all are delayed, or all are served. */
    const struct dsn_recipient *recipients;
    size_t recipient_count; /* >= 1 */
    bool original_is_utf8;  /* it needs SMTPUTF8 */
    bool full;              /* all of the original comes back: see dsn_begin */
    bool full_is_8bit;      /* it holds 8-bit text, declared or not: RFC 2045 §6.2 */
    /* The original message from its first byte, in wire form, as far as it is at hand; cut at the
     * first empty line or at DSN_ORIGINAL_BYTES_MAX. */
    const struct slice *original;
    size_t original_count;
};

/* Needed to send the report: it holds 8-bit text, or addresses that are not ASCII. */
enum dsn_needs { DSN_NEEDS_8BITMIME = 1, DSN_NEEDS_SMTPUTF8 = 2 };
unsigned dsn_needs(const struct dsn_report *report);
/* May all of the original come back to this sender? Where it is internationalised and he is not, only its header. */
bool dsn_may_return_full(const struct dsn_report *report);

/* Writes the report in wire form (CRLF, dot-stuffed, ending with CRLF, without the final dot) in
 * pieces of any size; a slice is borrowed for the call. Stops at the first call of `write` that
 * does not return 0, and returns that. Equal input, equal bytes: it can be tried again from the
 * start. */
int dsn_build(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
              void *owner);
/* In two halves, for a report with `full`: between them the caller writes the original in wire form, which ends with
 * CRLF, as it lies. */
int dsn_begin(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
              void *owner);
int dsn_end(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
            void *owner);
/* For one that was cut before its original (cut.h): what comes in its place, the original's header, and the end. `random`
 * is that of the report that was cut. */
int dsn_end_header(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
                   void *owner);
