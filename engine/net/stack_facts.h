/*
 * stack_facts: what a stack can tell of its connections, neighbours and routes, as copies.
 *
 * For operators: what `ss -ti`, `ip neigh` and `ip route` show of Linux. Called on the stack's shard;
 * a call looks at a bounded number of places, fills a page and remembers in *cursor where to go on,
 * so that a list of any length never holds up traffic. Connections that come and go between two
 * pages may be missed or seen, never half.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/net/trace.h"
#include "engine/stream.h"

#define STACK_FACTS_LOOKS 4096u    /* places of one call */
#define STACK_FACTS_END UINT32_MAX /* a cursor behind the last; the first is 0 */

enum tcp_facts_state { /* RFC 9293 §3.3.2, with what we keep apart */
                       TCP_FACTS_LISTEN,
                       TCP_FACTS_SYN_SENT,
                       TCP_FACTS_SYN_RECEIVED,
                       TCP_FACTS_ESTABLISHED,
                       TCP_FACTS_FIN_WAIT_1,
                       TCP_FACTS_FIN_WAIT_2,
                       TCP_FACTS_CLOSE_WAIT,
                       TCP_FACTS_CLOSING,
                       TCP_FACTS_LAST_ACK,
                       TCP_FACTS_TIME_WAIT,
                       TCP_FACTS_CLOSED, /* over, its session has not let go of it */
                       TCP_FACTS_STATES
};
const char *tcp_facts_state_name(enum tcp_facts_state state); /* "ESTABLISHED" */

/* Listeners, half-open entries and TIME-WAIT have their addresses, state and timer only. */
struct tcp_facts {
    enum tcp_facts_state state;
    struct endpoint local, remote;
    bool whole;  /* what follows timer_ms is there */
    bool orphan; /* the session is gone */
    /* "on" (retransmission), "tail", "reorder", "probe", "delack", "keepalive", "state", "timewait";
     * NULL: none runs. */
    const char *timer;
    uint64_t timer_ms; /* until it is due */

    const char *congestion;
    const char *recovery;    /* "open", "fast", "loss" */
    uint32_t cwnd, ssthresh; /* bytes; ssthresh UINT32_MAX: none yet */
    uint32_t srtt_us, rttvar_us, rto_ms;
    uint32_t backoff;
    uint32_t mss, received_mss, path_mtu;
    uint32_t snd_wnd, rcv_wnd;
    uint8_t snd_scale, rcv_scale;
    bool timestamps, sack;
    uint32_t receive_queue_bytes, send_queue_bytes;
    uint32_t unacked_bytes, sacked_bytes, lost_bytes;
    uint32_t early_segments; /* kept out of order */
    uint64_t bytes_received, bytes_acked;
    uint32_t segments_in, segments_out, segments_again;
    uint64_t last_sent_ms, last_heard_ms; /* ago */
};

struct tcp_facts_filter {                /* zero: everything */
    uint32_t states;                     /* 1 << enum tcp_facts_state; 0: all */
    struct network_prefix local, remote; /* family ENDPOINT_NONE: any */
    uint16_t local_port, remote_port;    /* 0: any */
};

/* Returns how many were filled, at most `max`. */
size_t stack_tcp_facts(const struct network *network, const struct tcp_facts_filter *filter,
                       uint32_t *cursor, struct tcp_facts *facts, size_t max);

struct neighbour_facts {
    struct endpoint address;
    uint8_t mac[6];
    const char *state; /* "REACHABLE", "STALE", "INCOMPLETE", "FAILED" */
    bool has_mac;
    uint64_t confirmed_ms; /* ago; has_mac */
    uint32_t waiting;      /* frames */
};
size_t stack_neighbour_facts(const struct network *network, uint32_t *cursor,
                             struct neighbour_facts *facts, size_t max);

struct route_facts {
    struct network_prefix to;
    struct endpoint via;    /* ENDPOINT_NONE: on the link */
    struct endpoint source; /* what a packet comes from if nobody has chosen */
    const char *origin;     /* "connected", "static", "advertised" */
    uint64_t expires_s;     /* from now; 0: never */
};
size_t stack_route_facts(const struct network *network, uint32_t *cursor, struct route_facts *facts,
                         size_t max);

/* One trace a call. Of the archive, newest first, or of live connections that the filter takes.
 * False: none on this page; the cursor says whether there may be more. */
bool stack_trace_kept(const struct network *network, const struct tcp_facts_filter *filter,
                      uint32_t *cursor, struct trace_kept *copy);
bool stack_trace_live(const struct network *network, const struct tcp_facts_filter *filter,
                      uint32_t *cursor, struct trace_kept *copy);
