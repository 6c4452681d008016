/*
 * tcp_congestion: how much may be under way. A table of functions for each method; no clock, no
 * packets, no knowledge of the rest of TCP.
 *
 * TCP tells what happened; the method answers in cwnd and ssthresh. What to retransmit, and when,
 * is not its business. CUBIC (tcp_cubic.c) is the usual one, NewReno stands beside it. All a method
 * knows lies in struct tcp_congestion, so that a copy of it, put back, undoes what a loss did that
 * was none (RFC 4015, RFC 9438 §4.9).
 * Source: RFC 5681, RFC 3465 (counting bytes), RFC 6928 (initial window).
 */
#pragma once
#include <stdint.h>

#define TCP_CWND_MAX (64u << 20)

struct tcp_congestion {
    const struct tcp_congestion_ops *ops;
    uint32_t cwnd;       /* bytes */
    uint32_t ssthresh;   /* bytes; UINT32_MAX: no loss yet, the first slow start */
    uint32_t cwnd_start; /* the initial window; also where it begins anew after idling */
    uint32_t mss;
    uint64_t private[8]; /* the method's own */
};

/* What an acknowledgement tells. */
struct tcp_congestion_ack {
    uint32_t bytes; /* newly acknowledged */
    uint64_t now_ns;
    uint32_t srtt_us;          /* 0: not known yet */
    uint32_t rtt_us;           /* of this very acknowledgement; 0: it tells none */
    uint32_t snd_una, snd_nxt; /* after it */
};

struct tcp_congestion_ops {
    const char *name;
    void (*open)(struct tcp_congestion *);
    /* Outside fast recovery, while the window was what held us back. */
    void (*acked)(struct tcp_congestion *, const struct tcp_congestion_ack *ack);
    /* A loss was seen by what was acknowledged: sets ssthresh; cwnd is TCP's during recovery. */
    void (*lost)(struct tcp_congestion *, uint32_t flight_bytes, uint64_t now_ns);
    /* The retransmission timer fired for new data: sets ssthresh and cwnd. */
    void (*timed_out)(struct tcp_congestion *, uint32_t flight_bytes, uint64_t now_ns);
};

extern const struct tcp_congestion_ops tcp_congestion_newreno;
extern const struct tcp_congestion_ops tcp_congestion_cubic;

/* With IW10. */
void tcp_congestion_open(struct tcp_congestion *congestion, const struct tcp_congestion_ops *ops,
                         uint32_t mss);
/* Nothing was sent for a retransmission timeout: the window is no longer known to be right. */
void tcp_congestion_restart(struct tcp_congestion *congestion);
/* The loss that `before` was copied ahead of was none: the windows are as they were, or larger
 * where they have grown since. */
void tcp_congestion_undo(struct tcp_congestion *congestion, const struct tcp_congestion *before);
