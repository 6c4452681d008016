#include "engine/net/tcp_prr.h"

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t beyond(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

void tcp_prr_begin(struct tcp_prr *prr, uint32_t recover_fs)
{
    *prr = (struct tcp_prr){.recover_fs = larger(recover_fs, 1)};
}

uint32_t tcp_prr_acked(struct tcp_prr *prr, const struct tcp_prr_ack *ack)
{
    uint32_t sndcnt;
    prr->delivered += ack->delivered;
    if (ack->flight > ack->ssthresh) {
        uint64_t due = (uint64_t)prr->delivered * ack->ssthresh + prr->recover_fs - 1;
        sndcnt = beyond((uint32_t)(due / prr->recover_fs), prr->out);
    } else {
        sndcnt = larger(beyond(prr->delivered, prr->out), ack->delivered);
        sndcnt += ack->safe ? ack->mss : 0;
        sndcnt = smaller(sndcnt, ack->ssthresh - ack->flight);
    }
    if (prr->out == 0) {
        sndcnt = larger(sndcnt, ack->mss); /* the first retransmission does not wait */
    }
    return ack->flight + sndcnt;
}
