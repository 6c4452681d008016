/*
 * tcp: what the files of TCP share: the connection, the segment, and who does what.
 *
 *   tcp_input       a segment arrives: which connection, which state, what of it is new
 *   tcp_coalesce    segments of a burst that continue each other become one
 *   tcp_ack         what an acknowledgement tells: what is done, what is lost, how fast we may go
 *   tcp_receive     bytes that arrived: in order for the session, early ones
 *   tcp_window      how much the peer may send, sized by what the session consumes
 *   tcp_ecn         marks of congestion, both ways
 *   tcp_recovery    losses: seen by time, probed for, repaired, and taken back when there were none
 *   tcp_frto        timeouts that came too early, found out by new data
 *   tcp_probe       the path's MTU: told, searched, remembered
 *   tcp_output      which segment next, and its frame
 *   tcp_timer       retransmission, probes, delayed acknowledgement, limits in time
 *   tcp_half_open   SYN-RECEIVED in 64 bytes, SYN cookies
 *   tcp_time_wait   TIME-WAIT in 64 bytes
 *   tcp_elsewhere   frames that may be another shard's
 *   tcp_reply       segments of no connection: RST, acknowledgements of the two above
 *   tcp_open        listeners, outgoing connections and their ports, initial sequence numbers
 *   tcp_stream      what the session calls, and what it is told
 *
 * Only engine/net includes this. All of it runs on the stack's shard.
 *
 *      passive: half-open entry ──ACK──► ESTABLISHED        active: SYN_SENT ──SYN,ACK──► ESTABLISHED
 *                                                              SYN_SENT ──SYN──► SYN_RECEIVED ──ACK──►
 *   ESTABLISHED ──shut──► FIN_WAIT_1 ──ACK──► FIN_WAIT_2 ──FIN──► TIME-WAIT entry
 *        │                    └──FIN──► CLOSING ──ACK──► TIME-WAIT entry
 *        └──FIN──► CLOSE_WAIT ──shut──► LAST_ACK ──ACK──► CLOSED
 * Source: RFC 9293 §3.3.2 and the RFCs named where they are obeyed.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/neighbour.h"
#include "engine/net/rss.h"
#include "engine/net/tcp_congestion.h"
#include "engine/net/tcp_mtu.h"
#include "engine/net/tcp_prr.h"
#include "engine/net/tcp_rack.h"
#include "engine/net/tcp_scoreboard.h"
#include "engine/net/tcp_send_queue.h"
#include "engine/net/tcp_table.h"
#include "engine/net/trace.h"
#include "engine/stream.h"

struct stack;

enum tcp_state {
    TCP_CLOSED,
    TCP_SYN_SENT,
    TCP_SYN_RECEIVED, /* of an outgoing connection only: both ends opened at once */
    TCP_ESTABLISHED,
    TCP_FIN_WAIT_1,
    TCP_FIN_WAIT_2,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_LAST_ACK
};

enum tcp_flag {
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_ACK = 0x10,
    TCP_ECE = 0x40,
    TCP_CWR = 0x80,
};

enum tcp_ecn { /* the last two bits of the IP traffic class: RFC 3168 §5 */
               TCP_NOT_ECT,
               TCP_ECT_1,
               TCP_ECT_0,
               TCP_CE,
};

#define TCP_SACKS_MAX 4u
#define TCP_HEADER_BYTES 20u
#define TCP_TIMESTAMP_BYTES 12u /* of options, with padding */
#define TCP_MSS_DEFAULT 536u    /* of a peer that names none: RFC 9293 §3.7.1 */
#define TCP_MSS_DEFAULT_IPV6 1220u
#define TCP_RTO_LOST_SYN_MS 3000u /* RFC 6298 §5.7: for what follows a handshake that lost a SYN */
#define TCP_MSS_MIN 64u /* a peer's smaller wish is not granted: one byte a frame is an attack */
#define TCP_SCALE_NONE 0xffu

/* A segment as it arrived. */
struct tcp_segment {
    struct rte_mbuf *frame; /* owned by whoever holds the segment; NULL: kept somewhere */
    struct tcp_tuple tuple;
    uint32_t hash; /* of the tuple, for the table */
    uint32_t seq, ack;
    uint32_t payload_bytes;
    uint16_t count;          /* as it was sent: more than one when they were joined on the way */
    uint16_t segment_bytes;  /* payload of the largest of them */
    uint16_t payload_offset; /* in the frame */
    uint16_t window;         /* as it stands, not scaled */
    uint8_t flags;           /* enum tcp_flag */
    uint8_t ecn;             /* enum tcp_ecn, of the IP header */
    uint8_t window_scale;    /* TCP_SCALE_NONE: no option */
    uint16_t mss;            /* 0: no option */
    bool has_timestamp;
    bool sack_permitted;
    bool window_plain; /* it came with a SYN: RFC 7323 §2.2 */
    bool reuses;       /* a SYN that has ended a TIME-WAIT, whose snd_nxt was: */
    uint32_t reused_snd_nxt;
    uint8_t sack_count;
    uint32_t ts_value, ts_echo;
    struct tcp_range sacks[TCP_SACKS_MAX];
};

/* SYN and FIN take a place in the sequence. */
static inline uint32_t tcp_segment_length(const struct tcp_segment *segment)
{
    return segment->payload_bytes + ((segment->flags & TCP_SYN) != 0) +
           ((segment->flags & TCP_FIN) != 0);
}

/* Bytes that arrived. Lists of mbufs of one segment each; an early one's sequence number lies in
 * its hash field. */
struct tcp_receive_queue {
    struct rte_mbuf *head, *tail; /* in order, not yet consumed */
    struct rte_mbuf *early_head, *early_tail;
    uint32_t bytes;       /* in order */
    uint32_t mbuf_count;  /* in order */
    uint32_t early_count; /* mbufs */
    /* Of each block of early bytes one number, the block that grew last first: RFC 2018 §4. */
    uint32_t early_recent[TCP_SACKS_MAX];
    struct tcp_range duplicate; /* came again; told in the next acknowledgement. Empty: nothing */
};

/* Right-sizing of the receive window: tcp_window. Times are the low bits of the clock. */
struct tcp_window {
    uint32_t bytes;     /* that may lie unread */
    uint32_t rtt_us;    /* as seen by the receiver; 0: unknown */
    uint32_t round_seq; /* consumed up to here when the round began */
    uint32_t round_us;
    uint32_t turn_seq; /* a whole window from when the turn began */
    uint32_t turn_us;
    uint32_t ts_echo; /* already taken for a sample */
    bool measuring, turning;
};

enum tcp_recovery {
    TCP_OPEN,
    TCP_FAST_RECOVERY, /* after duplicate acknowledgements, until `recover` is acknowledged */
    TCP_LOSS_RECOVERY, /* after the retransmission timer: all is sent again from snd_una; and without
                          records when it was too large for the path */
};

enum tcp_timer {
    TCP_TIMER_TAIL,       /* a probe for what was sent last; before RETRANSMIT, which it puts off */
    TCP_TIMER_REORDER,    /* what is only late becomes lost */
    TCP_TIMER_RETRANSMIT, /* of data, SYN, FIN */
    TCP_TIMER_PROBE,      /* a closed window */
    TCP_TIMER_ACK,        /* a delayed acknowledgement */
    TCP_TIMER_KEEPALIVE,
    TCP_TIMER_STATE, /* handshake, FIN-WAIT-2, lingering */
    TCP_TIMER_COUNT
};

struct tcp_conn {
    struct stream stream; /* first: a stream is its connection */
    struct stack *stack;
    struct tcp_tuple tuple;
    uint32_t index; /* in the slab */
    uint32_t hash;
    uint8_t state; /* enum tcp_state */

    bool released : 1; /* the session is gone */
    bool in_table : 1;
    bool accept_pending : 1; /* the listener was not told yet */
    bool read_stopped : 1;
    bool write_waits : 1; /* -EAGAIN was answered */
    bool fin_wanted : 1;  /* shut: FIN after what is queued */
    bool fin_sent : 1;
    bool fin_early : 1;    /* the peer's FIN is known, bytes before it are missing */
    bool fin_received : 1; /* in order */
    bool timestamps : 1;
    bool sack : 1;
    bool ack_now : 1;         /* with the next flush */
    bool window_limited : 1;  /* what held sending back last was the congestion window */
    bool retransmit_head : 1; /* recovery: the first segment goes out, window or not */
    bool rtt_timing : 1;
    bool fin_acked : 1;
    bool doomed : 1;             /* freed at the end of the round */
    bool tail_probed : 1;        /* a tail loss probe is under way */
    bool tail_retransmitted : 1; /* and was no new data */

    bool ecn : 1;         /* agreed: marks are told and obeyed */
    bool ect : 1;         /* our data may be marked */
    bool ecn_asked : 1;   /* by our SYN */
    bool ece : 1;         /* a mark has come: said until CWR comes */
    bool cwr : 1;         /* we have slowed down: said with the next new data */
    uint8_t ecn_marked;   /* windows in a row that were */
    uint32_t ecn_recover; /* marks of what was sent before are obeyed already */

    /* Receiving. */
    uint32_t rcv_nxt;
    uint32_t rcv_edge; /* right edge of the window that the peer was told */
    uint32_t last_ack_sent;
    uint32_t ts_recent;
    uint32_t ts_recent_ms;
    uint32_t irs;
    uint32_t fin_seq; /* of the peer's FIN, while fin_early */
    uint16_t rcv_mss; /* largest payload seen: what counts as a full segment */
    uint8_t rcv_scale, snd_scale;
    uint8_t quick_acks; /* full segments that are still acknowledged at once */
    uint8_t keepalives; /* probes without an answer */
    uint8_t backoff;    /* retransmissions or probes in a row */
    uint8_t duplicate_acks;
    struct tcp_receive_queue received;
    struct tcp_window window;

    /* Sending. */
    uint32_t snd_una, snd_nxt;
    uint32_t snd_max; /* the highest ever sent; snd_nxt goes back after a timeout */
    uint32_t snd_wnd, snd_wnd_max;
    uint32_t snd_wl1, snd_wl2;
    uint32_t iss;
    uint16_t mss;              /* payload of a full segment, options already taken off */
    uint8_t header_bytes;      /* of `header` */
    uint8_t recovery;          /* enum tcp_recovery */
    uint32_t recover;          /* snd_max when recovery began */
    uint32_t retransmitted_to; /* HighRxt of RFC 6675 */
    uint32_t rescued_to;       /* RescueRxt */
    struct tcp_send_queue queue;
    struct tcp_congestion congestion;

    /* Time. */
    uint64_t last_heard_ns;
    uint64_t unanswered_ns; /* since when something waits for an acknowledgement */
    uint64_t last_sent_ns;
    uint64_t rtt_start_ns;
    uint32_t rtt_seq; /* acknowledged: the sample ends */
    uint32_t srtt_us, rttvar_us;
    uint32_t rto_ms; /* without backoff */
    uint32_t ts_offset;
    uint32_t tail_end;                /* snd_nxt after the tail loss probe */
    uint64_t challenge_ns;            /* the last challenge or refused segment's acknowledgement */
    uint64_t due_ns[TCP_TIMER_COUNT]; /* WHEEL_NEVER: not running */
    struct timer timer;               /* at or before the earliest of due_ns */

    struct list_node output;       /* has something to send this round */
    struct list_node early;        /* among those that hold early bytes */
    struct list_node member;       /* among orphans, those that wait for memory, or doomed */
    struct tcp_listener *listener; /* while accept_pending */
    struct neighbour *neighbour;
    struct ip_address next_hop;
    uint8_t header[96]; /* Ethernet, IP, TCP and its timestamp option as they begin each frame */

    struct tcp_scoreboard sacked;

    /* What is seen of it. */
    struct trace_ring *trace; /* NULL: none yet */
    uint64_t bytes_received, bytes_acked;
    uint32_t segments_in, segments_out, segments_again;

    /* Losses, and what is done about them. */
    struct tcp_rack *rack; /* NULL: nothing is under way, no SACK, or there was none left */
    struct tcp_rack_memory rack_memory;
    struct tcp_prr prr;
    uint32_t small_end; /* of the last segment sent that was not full */
    struct tcp_mtu_search mtu;
};

static_assert(sizeof(struct tcp_conn) <= 1024, "100,000 idle connections must fit in 100 MiB");

struct tcp_listener {
    struct ip_address at; /* any of a family: 0.0.0.0, :: */
    uint16_t port;        /* 0: not in use */
    struct listen_request request;
};

/* Handshake of a client, in one cache line. */
struct tcp_half_open {
    struct tcp_tuple tuple;
    uint32_t iss, irs;
    uint32_t ts_recent;
    uint16_t mss;
    uint8_t window_scale; /* TCP_SCALE_NONE */
    uint8_t timestamps : 1, sack : 1, ecn : 1, ect : 1;
    uint8_t sends : 4;   /* of the SYN,ACK */
    uint32_t next, prev; /* those with as many sends, oldest first */
    uint32_t due_ms;
};
static_assert(sizeof(struct tcp_half_open) <= 64, "a SYN must cost an attacker more than us");

struct tcp_time_wait {
    struct tcp_tuple tuple;
    uint32_t snd_nxt, rcv_nxt;
    uint32_t ts_recent;
    uint32_t next, prev; /* oldest first */
    uint32_t due_ms;
    uint16_t acked_ms; /* when an acknowledgement was last sent, for its rate */
    uint8_t timestamps;
};
static_assert(sizeof(struct tcp_time_wait) <= 64, "a relay has thousands of these");

/* At 0, 1, 3, 7, 15 and 31 s, and forgotten at 63 s, as Linux does it: an outage that the client bears
 * after its handshake must not find the connection gone. */
#define TCP_HALF_OPEN_SENDS 6u

struct tcp_queue { /* of entries by number */
    uint32_t first, last;
};

/* TCP's part of a stack. */
struct tcp {
    struct tcp_table table;
    struct slab conns, half_opens, time_waits;
    struct slab racks;
    struct tcp_mtu_cache mtu_cache;
    struct tcp_pieces *pieces;
    struct tcp_listener *listeners;
    struct list_node ready;   /* streams with events, stream.ready */
    struct list_node output;  /* connections with something to send */
    struct list_node orphans; /* oldest first */
    struct list_node hungry;  /* -ENOMEM was answered */
    struct list_node doomed;
    uint32_t orphan_count;
    uint32_t held_mbufs;    /* received, not consumed */
    uint32_t early_mbufs;   /* of these: not in order, so that they may be dropped */
    struct list_node early; /* connections that hold them, the longest first */
    uint32_t wide_count;    /* connections whose receive window has grown */
    struct tcp_queue half_open_queues[TCP_HALF_OPEN_SENDS];
    struct tcp_queue time_wait_queue;
    struct timer half_open_timer, time_wait_timer;
    struct siphash_key isn_key, port_key, cookie_key, timestamp_key;
    uint16_t port_steps[64]; /* RFC 6056 algorithm 4: a counter for each class of destinations */
    uint8_t rcv_scale;
    uint64_t cookie_sent_ns; /* the last; 0: never */
    uint64_t challenge_since_ns;
    uint32_t refused_ms, refused_count; /* frames given to other shards that were nobody's */
    uint32_t challenge_budget;          /* that may still be sent in the second that began then */
};

/* tcp_input.c */
/* Reads header and options; the checksum is checked too. False: refused and counted; the frame
 * stays the caller's. */
bool tcp_segment_read(struct stack *stack, struct tcp_segment *segment, struct rte_mbuf *frame,
                      uint16_t ip_offset);
void tcp_input(struct stack *stack, struct tcp_segment *segment); /* the frame is given */
/* No shard has a connection for it: the kernel gets its frame, which is NULL then, or a RST is sent
 * where one is due. */
void tcp_refuse(struct stack *stack, struct tcp_segment *segment);
/* False: no connection, half-open or TIME-WAIT entry has this tuple. */
bool tcp_knows(struct stack *stack, const struct tcp_segment *segment);
void tcp_input_unreachable(struct stack *stack, const struct tcp_tuple *tuple, uint32_t seq,
                           int error, uint16_t mtu);
/* tcp_elsewhere.c */
/* A segment that nothing here knows. True: another shard may have it, and the frame is gone. */
bool tcp_elsewhere(struct stack *stack, const struct tcp_segment *segment);
void tcp_elsewhere_refused(struct stack *stack); /* no shard had one that was given away */
struct tcp_quote {                               /* of an ICMP error */
    struct tcp_tuple tuple;
    uint32_t seq;
    int error;
    uint16_t mtu;
    bool udp; /* a datagram is quoted */
};
/* True: the frame, which it came with, is gone: to another shard, to the kernel, or lost. */
bool tcp_quote_arrives(struct stack *stack, const struct tcp_quote *quote, struct rte_mbuf *frame);
bool tcp_quote_take(struct stack *stack, const struct tcp_quote *quote); /* false: not of ours */

/* RFC 5961: a hint that our view is newer than the peer's, at a bounded rate. */
void tcp_challenge(struct tcp_conn *conn);
bool tcp_challenge_allowed(struct stack *stack); /* of all connections together */
void tcp_conn_segment(struct tcp_conn *conn, struct tcp_segment *segment); /* synchronized states */

/* tcp_coalesce.c */
/* Joins what it can; returns how many segments are left, in their order. */
unsigned tcp_coalesce(struct stack *stack, struct tcp_segment *segments, unsigned count);

/* tcp_options.c */
bool tcp_options_read(struct tcp_segment *segment, const uint8_t *options, size_t size);
/* Of a SYN or SYN,ACK; returns their length, a multiple of 4. Room: 40 bytes. */
size_t tcp_options_write_syn(uint8_t *options, uint16_t mss, uint8_t scale, bool sack,
                             const uint32_t *ts_value_and_echo);
size_t tcp_options_write_timestamp(uint8_t *options, uint32_t value, uint32_t echo);
size_t tcp_options_write_sack(uint8_t *options, const struct tcp_range *ranges, size_t count);

/* tcp_ack.c */
/* False: the segment must not be looked at further. */
bool tcp_ack_arrives(struct tcp_conn *conn, const struct tcp_segment *segment);
void tcp_window_arrives(struct tcp_conn *conn, const struct tcp_segment *segment);
void tcp_rtt_sample(struct tcp_conn *conn, uint64_t rtt_ns);

/* tcp_recovery.c */
void tcp_rack_take(struct tcp_conn *conn);
void tcp_rack_give(struct tcp_conn *conn);
void tcp_recovery_sent(struct tcp_conn *conn, struct tcp_range range, bool again);
void tcp_recovery_begin(struct tcp_conn *conn, uint32_t delivered);
void tcp_recovery_end(struct tcp_conn *conn);
/* With SACK, after all that an acknowledgement tells has been noted. advanced: snd_una has. */
void tcp_recovery_acked(struct tcp_conn *conn, const struct tcp_segment *segment,
                        uint32_t delivered, bool advanced);
void tcp_recovery_reordered(struct tcp_conn *conn); /* the reordering window is over */
void tcp_recovery_timed_out(struct tcp_conn *conn, bool everything);
void tcp_duplicate_reported(struct tcp_conn *conn, struct tcp_range duplicate); /* D-SACK */
uint32_t tcp_flight_size(const struct tcp_conn *conn); /* what a loss is measured by */
void tcp_undo_keep(struct tcp_conn *conn);
void tcp_undo_by_timestamp(struct tcp_conn *conn, const struct tcp_segment *segment);
void tcp_tail_watch(struct tcp_conn *conn); /* (re)starts the timer of the tail loss probe */
void tcp_tail_due(struct tcp_conn *conn);

/* tcp_frto.c */
void tcp_frto_begin(struct tcp_conn *conn); /* after a timeout, while nothing else was repaired */
void tcp_frto_sent(struct tcp_rack *rack, bool again);
void tcp_frto_nothing_new(struct tcp_rack *rack); /* there is none to send, or no room for it */
/* True: the timeout was wrong. */
bool tcp_frto_acked(struct tcp_conn *conn, const struct tcp_segment *segment, bool advanced);

/* tcp_probe.c */
void tcp_mtu_open(struct tcp_conn *conn); /* conn->mss is what the link and the peer take */
void tcp_mtu_told(struct tcp_conn *conn, uint16_t mtu); /* by a router; 0: it does not say */
void tcp_mtu_timed_out(struct tcp_conn *conn);
uint32_t tcp_mtu_probe(struct tcp_conn *conn);
struct tcp_departure;
void tcp_mtu_sent(struct tcp_conn *conn, const struct tcp_departure *departure, bool again);
void tcp_mtu_acked(struct tcp_conn *conn);
bool tcp_mtu_lost(struct tcp_conn *conn);

/* tcp_receive.c */
/* The part of the payload that lies in the window is kept. segment->frame becomes NULL when it is. */
void tcp_receive_payload(struct tcp_conn *conn, struct tcp_segment *segment);
/* Bytes that came again, for the peer to learn what it has sent needlessly (RFC 2883). */
void tcp_receive_duplicate(struct tcp_conn *conn, uint32_t begin, uint32_t end);
/* What SACK tells: a duplicate, then early bytes, the newest first. Returns how many ranges. */
size_t tcp_receive_sack(const struct tcp_conn *conn, struct tcp_range *ranges, size_t max);
size_t tcp_receive_peek(struct tcp_conn *conn, struct slice *slices, size_t count);
void tcp_receive_consume(struct tcp_conn *conn, size_t bytes);
void tcp_receive_clear(struct tcp_conn *conn);
/* Are nearly all buffers held by bytes in order? Then there is no room for more connections. */
bool tcp_receive_is_short(const struct stack *stack);
void tcp_receive_acked(struct tcp_conn *conn); /* an acknowledgement has left */

/* tcp_window.c */
uint16_t tcp_window_syn(const struct stack *stack); /* in a SYN it is never scaled */
void tcp_window_open(struct tcp_conn *conn);
void tcp_window_close(struct tcp_conn *conn);
/* The window to tell, as it stands in the header; moves rcv_edge. */
uint16_t tcp_window_tell(struct tcp_conn *conn);
/* Payload has come in order. */
void tcp_window_payload(struct tcp_conn *conn, const struct tcp_segment *segment);
void tcp_window_consumed(struct tcp_conn *conn); /* the session has read */

/* tcp_ecn.c */
bool tcp_ecn_syn_asks(const struct stack *stack, const struct tcp_segment *syn);
uint8_t tcp_ecn_syn_flags(struct tcp_conn *conn); /* of our SYN, or SYN,ACK in SYN_RECEIVED */
struct tcp_agreed;
/* Of an outgoing connection: what the peer's SYN,ACK or SYN settles. */
void tcp_ecn_syn_answered(const struct tcp_conn *conn, const struct tcp_segment *answer,
                          struct tcp_agreed *agreed);
void tcp_ecn_open(struct tcp_conn *conn, const struct tcp_agreed *agreed);
void tcp_ecn_payload(struct tcp_conn *conn, const struct tcp_segment *segment);
/* An acknowledgement that is not older than snd_una; before it is read. */
void tcp_ecn_ack(struct tcp_conn *conn, const struct tcp_segment *segment);
struct tcp_departure;
void tcp_ecn_departs(struct tcp_conn *conn, struct tcp_departure *departure);

/* tcp_output.c */
void tcp_output_wanted(struct tcp_conn *conn); /* joins the round's output */
void tcp_output(struct tcp_conn *conn);
void tcp_output_ack(struct tcp_conn *conn);
void tcp_output_syn(struct tcp_conn *conn); /* SYN, or SYN,ACK in SYN_RECEIVED */
void tcp_output_reset(struct tcp_conn *conn);
void tcp_output_probe(struct tcp_conn *conn); /* one byte into a closed window */
void tcp_output_keepalive(struct tcp_conn *conn);
void tcp_output_template(struct tcp_conn *conn); /* the header that frames begin with */
/* The tail loss probe: new data, or what was sent last. False: there was nothing, or no buffers. */
bool tcp_output_tail(struct tcp_conn *conn);
uint32_t tcp_flight(const struct tcp_conn *conn); /* bytes under way, as far as we know */

/* tcp_timer.c */
void tcp_timers_open(struct tcp_conn *conn);
void tcp_timer_set(struct tcp_conn *conn, enum tcp_timer timer, uint64_t due_ns);
static inline void tcp_timer_clear(struct tcp_conn *conn, enum tcp_timer timer)
{
    conn->due_ns[timer] = WHEEL_NEVER;
}
uint64_t tcp_rto_ns(const struct tcp_conn *conn); /* with backoff */
void tcp_timer_keepalive_start(struct tcp_conn *conn);
void tcp_timer_fin_wait_2(
    struct tcp_conn *conn);                   /* an orphan waits for its peer's FIN only so long */
void tcp_timer_linger(struct tcp_conn *conn); /* and for its peer to take any of what it has */

/* tcp_half_open.c */
void tcp_half_open_setup(struct stack *stack);
void tcp_half_open_close(struct stack *stack);
void tcp_half_open_syn(struct stack *stack, const struct tcp_segment *segment);
/* A segment for an entry. NULL: done with; else the connection that the segment now belongs to. */
struct tcp_conn *tcp_half_open_segment(struct stack *stack, uint32_t index,
                                       const struct tcp_segment *segment);
bool tcp_cookies_are_about(const struct stack *stack);
/* An ACK to a listener: perhaps a cookie comes back. NULL: it does not. */
struct tcp_conn *tcp_cookie_arrives(struct stack *stack, const struct tcp_segment *segment);

/* tcp_cookie.c */
uint32_t tcp_cookie_make(struct stack *stack, const struct tcp_segment *syn, uint16_t mss);
uint32_t tcp_cookie_timestamp(struct stack *stack, const struct tcp_segment *syn);
/* Fills in what the handshake had agreed on. False: not a cookie of ours, or too old. */
bool tcp_cookie_check(struct stack *stack, const struct tcp_segment *ack,
                      struct tcp_half_open *entry);

/* tcp_time_wait.c */
void tcp_time_wait_setup(struct stack *stack);
void tcp_time_wait_close(struct stack *stack);
void tcp_time_wait_enter(struct tcp_conn *conn); /* takes the connection's place in the table */
enum tcp_time_wait_verdict { TCP_TIME_WAIT_DONE, TCP_TIME_WAIT_NEW_SYN };
enum tcp_time_wait_verdict tcp_time_wait_segment(struct stack *stack, uint32_t index,
                                                 const struct tcp_segment *segment);
uint32_t tcp_time_wait_forget(struct stack *stack, uint32_t index); /* returns its snd_nxt */
/* May an outgoing connection take the tuple of this entry (RFC 6191)? */
bool tcp_time_wait_reusable(struct stack *stack, uint32_t index);

/* tcp_reply.c */
struct tcp_reply {
    uint32_t seq, ack;
    uint16_t window;
    uint8_t flags;
    uint8_t options_bytes;
    uint8_t options[40];
};
void tcp_reply(struct stack *stack, const struct tcp_tuple *tuple, const struct tcp_reply *reply);
/* Of a tuple's hash: one for each connection, RFC 6437 §3. */
uint32_t tcp_flow_label(const struct stack *stack, uint32_t hash);
void tcp_reply_reset(struct stack *stack, const struct tcp_segment *segment);

/* tcp_open.c */
int tcp_setup(struct stack *stack);
void tcp_close_all(struct stack *stack);
int tcp_listen(struct network *network, const struct listen_request *request,
               struct listener **listener);
void tcp_unlisten(struct network *network, struct listener *listener);
int tcp_connect(struct network *network, const struct connect_request *request,
                struct stream **stream);
struct tcp_listener *tcp_listener_find(struct stack *stack, const struct tcp_tuple *tuple);
static inline uint16_t tcp_mss_default(const struct ip_address *peer)
{
    return ip_address_is_ipv4(peer) ? TCP_MSS_DEFAULT : TCP_MSS_DEFAULT_IPV6;
}
/* The largest payload that fits the link to a peer; what we say in a SYN. */
uint16_t tcp_mss_of_link(const struct stack *stack, const struct ip_address *peer);
/* The tuple as it stands in what arrives. */
void tcp_tuple_arriving(const struct tcp_tuple *tuple, struct rss_tuple *arriving);
uint32_t tcp_initial_sequence(struct stack *stack, const struct tcp_tuple *tuple);
/* For a tuple that was in TIME-WAIT, whose snd_nxt was: */
uint32_t tcp_initial_sequence_above(struct stack *stack, const struct tcp_tuple *tuple,
                                    uint32_t snd_nxt);
uint32_t tcp_timestamp_offset(struct stack *stack, const struct tcp_tuple *tuple);
uint32_t tcp_timestamp_now(const struct stack *stack, uint32_t offset);
/* A connection with nothing but its tuple, route and timers; in no state. NULL: the bound. */
struct tcp_conn *tcp_conn_make(struct stack *stack, const struct tcp_tuple *tuple, uint32_t hash);
/* What a handshake has agreed on. */
struct tcp_agreed {
    uint16_t mss;         /* the peer's option; 0: none */
    uint8_t window_scale; /* TCP_SCALE_NONE */
    bool timestamps, sack;
    bool ecn, ect;
};
void tcp_conn_agree(struct tcp_conn *conn, const struct tcp_agreed *agreed);
void tcp_conn_established(struct tcp_conn *conn);

/* tcp_stream.c */
extern const struct stream_ops tcp_stream_ops;
void tcp_event(struct tcp_conn *conn, uint32_t events);
unsigned tcp_deliver(struct stack *stack); /* the round's events */
void tcp_hungry_feed(struct stack *stack);
/* Over, for whatever reason; the session learns `error`. The memory stays until the round's end. */
void tcp_conn_end(struct tcp_conn *conn, int error);
void tcp_conn_abort(struct tcp_conn *conn, int error); /* with RST */
void tcp_doomed_free(struct stack *stack);
