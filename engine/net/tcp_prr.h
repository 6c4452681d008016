/*
 * tcp_prr: how much may be sent during fast recovery, so that what is under way comes down to
 * ssthresh smoothly: for each byte that arrives, ssthresh / RecoverFS of a byte leaves; below
 * ssthresh as many as arrive, and a segment more as long as the repair goes well.
 *
 * Pure arithmetic, in bytes.
 * Source: RFC 6937, and RFC 9937 (the choice between PRR-CRB and PRR-SSRB).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct tcp_prr {
    uint32_t recover_fs; /* under way when recovery began */
    uint32_t delivered;  /* since */
    uint32_t out;        /* sent since */
};

struct tcp_prr_ack {
    uint32_t delivered; /* by this acknowledgement: newly acknowledged or sacked */
    uint32_t flight;    /* after it */
    uint32_t ssthresh;
    uint32_t mss;
    bool safe; /* snd_una has advanced, and nothing more is lost */
};

void tcp_prr_begin(struct tcp_prr *prr, uint32_t recover_fs);
/* Returns cwnd. */
uint32_t tcp_prr_acked(struct tcp_prr *prr, const struct tcp_prr_ack *ack);

static inline void tcp_prr_sent(struct tcp_prr *prr, uint32_t bytes)
{
    prr->out += bytes;
}
