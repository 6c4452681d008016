#include "engine/net/tcp_congestion.h"

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void tcp_congestion_open(struct tcp_congestion *congestion, const struct tcp_congestion_ops *ops,
                         uint32_t mss)
{
    *congestion = (struct tcp_congestion){.ops = ops, .mss = mss, .ssthresh = UINT32_MAX};
    congestion->cwnd_start = smaller(10 * mss, larger(2 * mss, 14600)); /* RFC 6928 §2 */
    congestion->cwnd = congestion->cwnd_start;
    ops->open(congestion);
}

void tcp_congestion_restart(struct tcp_congestion *congestion)
{
    congestion->cwnd = smaller(congestion->cwnd, congestion->cwnd_start); /* RFC 5681 §4.1 */
}

void tcp_congestion_undo(struct tcp_congestion *congestion, const struct tcp_congestion *before)
{
    uint32_t cwnd = larger(congestion->cwnd, before->cwnd);
    uint32_t mss = congestion->mss, cwnd_start = congestion->cwnd_start;
    *congestion = *before;
    congestion->cwnd = cwnd;
    congestion->mss = mss; /* the path may have become narrower meanwhile */
    congestion->cwnd_start = cwnd_start;
}

/* private[0]: bytes acknowledged since the last growth in congestion avoidance. */
static void newreno_open(struct tcp_congestion *congestion)
{
    congestion->private[0] = 0;
}

static void newreno_acked(struct tcp_congestion *congestion, const struct tcp_congestion_ack *ack)
{
    uint32_t bytes = ack->bytes;
    if (congestion->cwnd < congestion->ssthresh) {
        /* All bytes count, not two segments a time as RFC 3465 says: receivers that merge segments
         * acknowledge dozens at once. */
        congestion->cwnd = smaller(congestion->cwnd + bytes, TCP_CWND_MAX);
        return;
    }
    congestion->private[0] += bytes;
    if (congestion->private[0] >= congestion->cwnd) {
        congestion->private[0] -= congestion->cwnd;
        congestion->cwnd = smaller(congestion->cwnd + congestion->mss, TCP_CWND_MAX);
    }
}

static void newreno_lost(struct tcp_congestion *congestion, uint32_t flight_bytes, uint64_t now_ns)
{
    (void)now_ns;
    congestion->ssthresh = larger(flight_bytes / 2, 2 * congestion->mss);
    congestion->private[0] = 0;
}

static void newreno_timed_out(struct tcp_congestion *congestion, uint32_t flight_bytes,
                              uint64_t now_ns)
{
    newreno_lost(congestion, flight_bytes, now_ns);
    congestion->cwnd = congestion->mss;
}

const struct tcp_congestion_ops tcp_congestion_newreno = {.name = "newreno",
                                                          .open = newreno_open,
                                                          .acked = newreno_acked,
                                                          .lost = newreno_lost,
                                                          .timed_out = newreno_timed_out};
