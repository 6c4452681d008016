/*
 * net_peer: one stack, 10.0.0.1, and a peer, 10.0.0.2, that the test plays by hand: each segment is
 * what the test says, and each answer is read one by one. Virtual time.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/stack_private.h"
#include "tests/unit/net_link.h"

#define NET_PEER_FRAMES 512u
#define NET_PEER_STREAMS 16u
#define NET_PEER_FRAME_BYTES 1600u

/* Host order. Sent: what is zero is left out, or as in the connection's last segment. */
struct net_segment {
    uint32_t seq, ack;
    uint16_t port; /* the peer's; 0: 4000 */
    uint16_t to;   /* the stack's; 0: 25 */
    uint16_t window;
    uint16_t urgent; /* pointer */
    uint8_t flags;
    uint8_t ecn; /* of the IP header */
    uint16_t mss;
    uint8_t scale; /* 0: none; else one more than the option says */
    bool sack_permitted, timestamp;
    uint32_t ts_value, ts_echo;
    unsigned range_count;
    struct tcp_range ranges[4];
    uint32_t size; /* of payload */
    uint8_t bytes[1460];
    bool wrong_checksum; /* of what is sent */
};

struct net_peer_stream {
    struct stream *stream; /* NULL after release */
    uint32_t events;
    int error;
};

struct net_peer {
    struct net_world world;
    struct net_link link;
    struct wheel *wheel;
    struct network *network;
    struct stack *stack;
    struct rte_mempool *pool;
    struct listener *listener;
    unsigned in_use[2]; /* of the pools, when it was opened */
    struct net_peer_stream streams[NET_PEER_STREAMS];
    unsigned stream_count;
    bool silent_arp;  /* the peer does not answer questions */
    bool keep_frames; /* ARP and ICMP too: net_peer_frame */
    bool unlisten_when_accepted;
    uint8_t frames[NET_PEER_FRAMES][NET_PEER_FRAME_BYTES];
    uint32_t sizes[NET_PEER_FRAMES];
    unsigned first, count;
};

/* The EAL and two pools, once a program. 0 or -1, as cmocka wants it. */
int net_peer_set_up(void **state);
int net_peer_tear_down(void **state);

/* Listens at 25. `limits` may be NULL. */
void net_peer_open(struct net_peer *peer, const struct stack_limits *limits);
void net_peer_open_ecn(struct net_peer *peer, const struct stack_limits *limits,
                       enum stack_ecn ecn);
/* Checks that no buffer is left behind. */
void net_peer_close(struct net_peer *peer);

void net_peer_put(struct net_peer *peer,
                  const struct net_segment *segment); /* for the next round */
void net_peer_send(struct net_peer *peer, const struct net_segment *segment);
/* As it lies; it arrives in the next round. */
void net_peer_inject(struct net_peer *peer, const void *frame, uint32_t size);
/* Ethernet and IPv4 headers before `bytes` of payload that lie in the frame already. */
void net_peer_ipv4(uint8_t *frame, uint8_t protocol, uint32_t bytes);
void net_peer_round(struct net_peer *peer);
void net_peer_wait(struct net_peer *peer, uint64_t ns); /* timers fire on the way */

/* The oldest segment that the stack has sent and that was not taken yet. False: there is none. */
bool net_peer_take(struct net_peer *peer, struct net_segment *segment);
unsigned net_peer_take_all(struct net_peer *peer); /* how many they were */
/* Any frame, oldest first; its size, 0: none. Needs keep_frames. */
uint32_t net_peer_frame(struct net_peer *peer, uint8_t *frame);
void net_peer_forget(struct net_peer *peer); /* what was sent so far */

/* SYN, SYN,ACK, ACK from `port`. Options as in `syn`, whose seq, flags and port are filled in when 0.
 * Returns the SYN,ACK. */
struct net_segment net_peer_shake_hands(struct net_peer *peer, struct net_segment *syn);
struct stream *net_peer_connect(struct net_peer *peer, uint64_t timeout_ns);
struct net_peer_stream *net_peer_last(struct net_peer *peer); /* stream accepted or opened last */
struct tcp_conn *net_peer_conn(struct net_peer *peer);        /* behind it */
/* The segment that a peer would send next which has received all that was sent. */
struct net_segment net_peer_next(struct net_peer *peer, uint8_t flags);
void net_peer_send_next(struct net_peer *peer, uint8_t flags);
/* The next segment, which must be there; that there is none. */
struct net_segment net_peer_expect(struct net_peer *peer, uint8_t flags);
void net_peer_expect_none(struct net_peer *peer);

/* An accepted connection: with no options; with all of them, the peer's timestamp being 7. */
void net_peer_open_plain(struct net_peer *peer);
void net_peer_open_with_options(struct net_peer *peer);
void net_peer_write(struct net_peer *peer, const char *text); /* what the last session says */
void net_peer_write_segments(struct net_peer *peer, uint32_t count); /* full ones, one by one */
/* So many rounds of one full segment that is acknowledged after a round trip: both ends know its time. */
void net_peer_warm(struct net_peer *peer, unsigned rounds, uint64_t rtt_ns);
void net_peer_let_go(struct net_peer *peer); /* the last session releases */
