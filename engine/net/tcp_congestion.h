/*
 * tcp_congestion: how much may be under way. A table of functions for each method; no clock, no
 * packets, no knowledge of the rest of TCP.
 *
 * TCP tells what happened; the method answers in cwnd and ssthresh. What to retransmit, and when,
 * is not its business. NewReno now; others stand beside it.
 * Source: RFC 5681, RFC 3465 (counting bytes), RFC 6928 (initial window).
 */
#pragma once
#include <stdint.h>

struct tcp_congestion {
    const struct tcp_congestion_ops *ops;
    uint32_t cwnd;       /* bytes */
    uint32_t ssthresh;   /* bytes */
    uint32_t cwnd_start; /* the initial window; also where it begins anew after idling */
    uint32_t mss;
    uint64_t private[4]; /* the method's own */
};

struct tcp_congestion_ops {
    const char *name;
    void (*open)(struct tcp_congestion *);
    /* `bytes` were acknowledged outside recovery while the window was what held us back. */
    void (*acked)(struct tcp_congestion *, uint32_t bytes, uint64_t now_ns, uint64_t srtt_ns);
    /* A loss was seen by duplicate acknowledgements: sets ssthresh; cwnd is TCP's during recovery. */
    void (*lost)(struct tcp_congestion *, uint32_t flight_bytes, uint64_t now_ns);
    /* The retransmission timer fired for new data: sets ssthresh and cwnd. */
    void (*timed_out)(struct tcp_congestion *, uint32_t flight_bytes, uint64_t now_ns);
};

extern const struct tcp_congestion_ops tcp_congestion_newreno;

/* With IW10. */
void tcp_congestion_open(struct tcp_congestion *congestion, const struct tcp_congestion_ops *ops,
                         uint32_t mss);
/* Nothing was sent for a retransmission timeout: the window is no longer known to be right. */
void tcp_congestion_restart(struct tcp_congestion *congestion);
