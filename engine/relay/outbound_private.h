/*
 * outbound_private: what the parts of an outgoing session share: outbound.c (connection and dialogue),
 * outbound_delivery.c (one delivery, and what becomes of its recipients) and outbound_failed.c (a connection that
 * was of no use). Nobody else includes it.
 */
#pragma once
#include "engine/relay/outbound.h"
#include "engine/relay/outbound_tls.h"

#define OUTBOUND_RECIPIENTS_INLINE 4

/* What became of one recipient in this transaction. */
enum outbound_fate {
    FATE_OPEN,
    FATE_DELIVERED,
    FATE_DEFERRED,
    FATE_RETURNED,
    FATE_FAILED,
    FATE_TOLD
};

struct outbound {
    struct list_node node; /* in relay->outbounds */
    struct list_node idle; /* in site->idle */
    struct relay *relay;
    struct relay_site *site;
    struct stream *stream;
    struct relay_hop hop;
    struct outbound_tls tls;
    bool connected; /* the server's host has answered */
    bool greeted;   /* the scheduler was told that it is open */
    bool draining;  /* no further delivery */
    bool lost;      /* the stream has closed */
    struct timer timer;
    uint64_t idle_until_ns;
    uint32_t delivery_count; /* on this connection */

    /* The delivery under way. */
    struct sched_delivery *delivery;
    uint32_t recipient_size;
    struct smtp_client_recipient *recipients;
    uint8_t *fates;
    uint32_t open_count;            /* recipients without a fate */
    struct relay_outcome *outcomes; /* that somebody is told of */
    uint32_t outcome_count, outcome_size;
    char reason[SCHED_REASON_BYTES_MAX]; /* of the last that was deferred */
    uint64_t body_offset;
    bool fetching;
    struct spool_fetch fetch;
    uint64_t started_ns;

    struct smtp_client client;
    struct smtp_client_recipient recipients_inline[OUTBOUND_RECIPIENTS_INLINE];
    uint8_t fates_inline[OUTBOUND_RECIPIENTS_INLINE];
};

/* ---- outbound_delivery.c ---- */

/* The delivery is this session's from now on; false: memory is short, the scheduler has it again. */
bool outbound_delivery_begin(struct outbound *out, struct sched_delivery *delivery);
/* Puts as much of the body on the stream as it takes. True when all of it is there. */
bool outbound_body_pump(struct outbound *out);
/* Bytes of it that are not there yet. */
uint64_t outbound_body_left(const struct outbound *out);
void outbound_result_take(struct outbound *out, const struct smtp_client_result *result);
/* Every recipient has its fate: tell scheduler and spool. The message may be gone afterwards. */
void outbound_delivery_settle(struct outbound *out);

/* ---- outbound_failed.c ---- */

/* The connection ends without having been of use; failure NULL: it was lost. The scheduler is told, and the log:
 * when the site rests now, also of each recipient of those deliveries that it was tried for. */
void outbound_connect_failed(const struct outbound *out, const struct smtp_client_result *failure);
/* The same where there was nothing to connect to, or no memory. */
void outbound_no_hop(struct relay_site *site, const char *status, const char *why);

/* ---- outbound.c ---- */

/* Something came that the session has waited for. It may be gone afterwards. */
void outbound_go_on(struct outbound *out);
