#include "engine/core/mutation.h"
#include "engine/net/stack_private.h"

#define START_BYTES 65535u /* what a window is without scaling; enough for most messages */
#define SLACK_SEGMENTS 16u /* beyond twice what was consumed, for what came while it was */
#define RTT_MAX_US 60000000u

/*
 * Right-sizing. In each round-trip time it is seen how much the session has consumed; the window
 * becomes twice of that, so that a sender in slow start finds it open. It never becomes smaller:
 * when buffers are short, the edge stands still instead.
 */

static uint32_t now_us(const struct tcp_conn *conn)
{
    return (uint32_t)(conn->stack->now_ns / 1000);
}

static uint32_t start_bytes(const struct stack *stack)
{
    uint32_t max = stack->limits.receive_window_bytes;
    return max < START_BYTES ? max : START_BYTES;
}

/* Has it grown? */
static bool is_wide(const struct tcp_conn *conn)
{
    return conn->window.bytes > start_bytes(conn->stack);
}

uint16_t tcp_window_syn(const struct stack *stack)
{
    return (uint16_t)start_bytes(stack);
}

void tcp_window_open(struct tcp_conn *conn)
{
    conn->window = (struct tcp_window){.bytes = start_bytes(conn->stack)};
}

void tcp_window_close(struct tcp_conn *conn)
{
    if (is_wide(conn)) {
        conn->stack->tcp.wide_count--;
        conn->window.bytes = start_bytes(conn->stack);
    }
}

/* A time that may be too long, as when the peer had nothing to say; so shorter ones are believed at
 * once and longer ones slowly. */
static void rtt_sample(struct tcp_window *window, uint32_t rtt_us)
{
    rtt_us = rtt_us < RTT_MAX_US ? rtt_us : RTT_MAX_US;
    if (window->rtt_us == 0 || rtt_us < window->rtt_us) {
        window->rtt_us = rtt_us == 0 ? 1 : rtt_us;
    } else {
        window->rtt_us += (rtt_us - window->rtt_us) / 8;
    }
}

/* With timestamps: from our acknowledgement to what it let go. Without: the time in which a whole
 * window has come in, which is no shorter. */
void tcp_window_payload(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    struct tcp_window *window = &conn->window;
    if (conn->timestamps) {
        if (segment->has_timestamp && segment->ts_echo != window->ts_echo) {
            uint32_t passed_ms = tcp_timestamp_now(conn->stack, conn->ts_offset) - segment->ts_echo;
            window->ts_echo = segment->ts_echo;
            if (passed_ms <= RTT_MAX_US / 1000) {
                rtt_sample(window, passed_ms == 0 ? 1000 : passed_ms * 1000);
            }
        }
        return;
    }
    if (!window->turning || seq_at_or_before(window->turn_seq, conn->rcv_nxt)) {
        if (window->turning) {
            rtt_sample(window, now_us(conn) - window->turn_us);
        }
        window->turning = true;
        window->turn_seq = conn->rcv_edge;
        window->turn_us = now_us(conn);
    }
}

/* What one connection may hold: all, or its share of half of the buffers, each of which holds one
 * segment. */
static uint32_t most(const struct tcp_conn *conn)
{
    const struct stack *stack = conn->stack;
    uint32_t sharers = stack->tcp.wide_count + !is_wide(conn);
    uint64_t share = (uint64_t)stack->limits.held_mbuf_max / 2 * conn->rcv_mss / sharers;
    uint32_t scaled = (uint32_t)UINT16_MAX << conn->rcv_scale;
    uint32_t max = stack->limits.receive_window_bytes;
    max = max < scaled ? max : scaled;
    return share < max ? (uint32_t)share : max;
}

static void grow(struct tcp_conn *conn, uint64_t wanted)
{
    struct tcp_window *window = &conn->window;
    struct stack *stack = conn->stack;
    uint32_t max = most(conn);
    wanted = wanted < max ? wanted : max;
    if (wanted <= window->bytes) {
        return;
    }
    if (stack->tcp.held_mbufs - stack->tcp.early_mbufs > stack->limits.held_mbuf_max / 4) {
        stack->counters.tcp_window_growth_refused++;
        return;
    }
    stack->tcp.wide_count += !is_wide(conn);
    window->bytes = (uint32_t)wanted;
}

static uint32_t round_us_min(const struct tcp_conn *conn)
{
    uint32_t own = conn->window.rtt_us, senders = conn->srtt_us;
    return own == 0 || (senders > 0 && senders < own) ? senders : own;
}

static void right_size(struct tcp_conn *conn)
{
    struct tcp_window *window = &conn->window;
    uint32_t consumed_seq = conn->rcv_nxt - conn->received.bytes;
    uint32_t passed_us = now_us(conn) - window->round_us, rtt_us = round_us_min(conn);
    if (!window->measuring) {
        window->measuring = true;
    } else if (rtt_us == 0 || passed_us < rtt_us) {
        return;
    } else {
        uint64_t bytes = consumed_seq - window->round_seq;
        if (passed_us / 2 > rtt_us) { /* a session that seldom reads is not fast */
            bytes = bytes * rtt_us / passed_us;
        }
        grow(conn, 2 * bytes + SLACK_SEGMENTS * conn->rcv_mss);
    }
    window->round_us = now_us(conn);
    window->round_seq = consumed_seq;
}

/* How far the right edge may go: room for what is not read, less when buffers are short; in whole
 * units of the scale, as more cannot be said. */
static uint32_t room_now(const struct tcp_conn *conn)
{
    const struct stack *stack = conn->stack;
    uint32_t room = conn->window.bytes, max = (uint32_t)UINT16_MAX << conn->rcv_scale;
    room = room > conn->received.bytes ? room - conn->received.bytes : 0;
    /* Early bytes do not count: they give way. Or a few peers that leave gaps would slow down all. */
    uint32_t unread = stack->tcp.held_mbufs - stack->tcp.early_mbufs;
    if (unread > stack->limits.held_mbuf_max / 2 && room > 4u * conn->rcv_mss) {
        room = 4u * conn->rcv_mss;
    }
    room = room < max ? room : max;
    return room >> conn->rcv_scale << conn->rcv_scale;
}

/* By how much the edge moves at least. */
static uint32_t edge_step(const struct tcp_conn *conn)
{
    uint32_t half = conn->window.bytes / 2;
    return half < conn->mss ? half : conn->mss;
}

/* RFC 9293 §3.8.6.2.2: the edge moves by a segment at least, and never back. What is said of it may
 * seem to: between two steps it is rounded down to a unit of the scale, for rounded up it would creep
 * on with each byte of a peer whose session does not read. Whatever was promised once stays in the
 * window (RFC 7323 §2.4). */
uint16_t tcp_window_tell(struct tcp_conn *conn)
{
    uint32_t told = MUTATED(WINDOW_SHRINKS) ? 0 : conn->rcv_edge - conn->rcv_nxt;
    uint32_t room = room_now(conn);
    if (room >= told + edge_step(conn)) {
        conn->rcv_edge = conn->rcv_nxt + room;
        told = room;
    }
    uint32_t shown = told >> conn->rcv_scale;
    return (uint16_t)(shown < UINT16_MAX ? shown : UINT16_MAX);
}

/* The peer is told without being asked when it stands still or a quarter of the window is free. */
void tcp_window_consumed(struct tcp_conn *conn)
{
    right_size(conn);
    uint32_t told = conn->rcv_edge - conn->rcv_nxt, room = room_now(conn);
    uint32_t quarter = conn->window.bytes / 4;
    uint32_t news = room > told ? room - told : 0;
    uint32_t step = edge_step(conn);
    if ((told < step && news >= step) || (news >= quarter && news >= 2u * step)) {
        conn->ack_now = true;
        tcp_output_wanted(conn);
    }
}
