/* What the receiver tells its peer: duplicates, and how much it may send. */
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

static void data_arrive(uint32_t seq, uint32_t size)
{
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.seq = seq;
    data.size = size;
    net_peer_send(&peer, &data);
}

/* ---- D-SACK ---- */

struct told {
    unsigned count;
    struct tcp_range ranges[4];
};

static void assert_told(uint32_t seq, const struct told *told)
{
    struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.range_count, told->count);
    for (unsigned i = 0; i < told->count; i++) {
        assert_int_equal(ack.ranges[i].begin - seq, told->ranges[i].begin);
        assert_int_equal(ack.ranges[i].end - seq, told->ranges[i].end);
    }
}

/* The examples of RFC 2883 §4, and what overlaps. */
static void bytes_that_come_again_are_told_first_and_once(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, size;
        const char *why;
        struct told told;
    } steps[] = {
        {1000, 500, "a gap", {1, {{1000, 1500}}}},
        {1000, 500, "an early one again", {2, {{1000, 1500}, {1000, 1500}}}},
        {1400, 200, "partly", {2, {{1400, 1500}, {1000, 1600}}}},
        {900, 200, "from before it", {2, {{1000, 1100}, {900, 1600}}}},
        {3000, 500, "another gap: nothing again", {2, {{3000, 3500}, {900, 1600}}}},
        {900, 700, "it covers several", {3, {{900, 1600}, {900, 1600}, {3000, 3500}}}},
        {0, 500, "in order", {2, {{900, 1600}, {3000, 3500}}}},
        {0, 500, "below the acknowledgement", {3, {{0, 500}, {900, 1600}, {3000, 3500}}}},
        {400, 200, "partly below it", {3, {{400, 500}, {900, 1600}, {3000, 3500}}}},
        {600, 300, "the gap is filled", {1, {{3000, 3500}}}},
        {1600, 1400, "and the other", {0, {{0, 0}}}},
        {3000, 500, "all is there", {1, {{3000, 3500}}}},
    };
    net_peer_open_with_options(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (size_t i = 0; i < RTE_DIM(steps); i++) {
        data_arrive(seq + steps[i].offset, steps[i].size);
        assert_told(seq, &steps[i].told);
    }
    net_peer_expect_none(&peer);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 3500);
    net_peer_close(&peer);
}

static void each_duplicate_of_a_burst_is_told_and_neighbours_as_one(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {0, 100, 300};
    net_peer_open_with_options(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    data_arrive(seq, 400);
    net_peer_wait(&peer, 40 * MS_NS);
    net_peer_forget(&peer);
    for (size_t i = 0; i < RTE_DIM(offsets); i++) {
        struct net_segment data = net_peer_next(&peer, TCP_ACK);
        data.seq = seq + offsets[i];
        data.size = 100;
        net_peer_put(&peer, &data);
    }
    net_peer_round(&peer);
    assert_told(seq, &(struct told){1, {{0, 200}}});
    assert_told(seq, &(struct told){1, {{300, 400}}});
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void a_duplicate_that_its_timestamp_gives_away_is_told_too(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.size = 100;
    data.ts_value += 5;
    net_peer_send(&peer, &data); /* sent again, and it came first */
    net_peer_wait(&peer, 40 * MS_NS);
    net_peer_forget(&peer);
    data.ts_value -= 5;
    net_peer_send(&peer, &data);
    assert_told(seq, &(struct told){1, {{0, 100}}});
    net_peer_close(&peer);
}

/* RFC 2018 §4: the block of the segment that has just come, and then those that were reported last. */
static void of_many_gaps_those_that_changed_last_are_told(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, size;
        const char *why;
        struct told told;
    } steps[] = {
        {1000, 100, "one", {1, {{1000, 1100}}}},
        {3000, 100, "two", {2, {{3000, 3100}, {1000, 1100}}}},
        {5000, 100, "three", {3, {{5000, 5100}, {3000, 3100}, {1000, 1100}}}},
        {7000, 100, "four", {4, {{7000, 7100}, {5000, 5100}, {3000, 3100}, {1000, 1100}}}},
        {8000, 100, "five", {4, {{8000, 8100}, {7000, 7100}, {5000, 5100}, {3000, 3100}}}},
        {8100, 100, "it grows", {4, {{8000, 8200}, {7000, 7100}, {5000, 5100}, {3000, 3100}}}},
        {4900, 100, "an older one", {4, {{4900, 5100}, {8000, 8200}, {7000, 7100}, {3000, 3100}}}},
        {7100, 900, "two join", {4, {{7000, 8200}, {4900, 5100}, {3000, 3100}, {1000, 1100}}}},
        {1100, 100, "the oldest", {4, {{1000, 1200}, {7000, 8200}, {4900, 5100}, {3000, 3100}}}},
        {0, 1000, "the first gap", {3, {{7000, 8200}, {4900, 5100}, {3000, 3100}}}},
    };
    struct net_segment syn = {.sack_permitted = true};
    net_peer_open(&peer, NULL);
    net_peer_shake_hands(&peer, &syn);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (size_t i = 0; i < RTE_DIM(steps); i++) {
        data_arrive(seq + steps[i].offset, steps[i].size);
        assert_told(seq, &steps[i].told);
    }
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void without_timestamps_there_is_room_for_four_ranges(void **state)
{
    (void)state;
    struct net_segment syn = {.sack_permitted = true};
    net_peer_open(&peer, NULL);
    net_peer_shake_hands(&peer, &syn);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (uint32_t i = 1; i <= 5; i++) {
        data_arrive(seq + 1000 * i, 100);
        net_peer_forget(&peer);
    }
    data_arrive(seq + 5000, 100);
    assert_told(seq, &(struct told){4, {{5000, 5100}, {5000, 5100}, {4000, 4100}, {3000, 3100}}});
    net_peer_write(&peer, "250 ok");
    struct net_segment answer = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    assert_int_equal(answer.range_count, 4);
    assert_int_equal(answer.ranges[0].begin, seq + 5000);
    assert_int_equal(answer.ranges[1].begin, seq + 4000);
    net_peer_close(&peer);
}

/* ---- right-sizing of the window ---- */

#define PATH_NS (50 * MS_NS)

static const struct stack_limits wide = {.receive_window_bytes = 2u << 20, .held_mbuf_max = 4000};

static struct tcp_conn *open_wide(const struct stack_limits *limits, bool timestamp)
{
    struct net_segment syn = {
        .scale = 8, .sack_permitted = true, .timestamp = timestamp, .ts_value = 7};
    net_peer_open(&peer, limits);
    assert_int_equal(net_peer_shake_hands(&peer, &syn).window, 65535);
    return net_peer_conn(&peer);
}

/* The peer sends as much as `cwnd` and the window let it, all of it echoing what our last
 * acknowledgement before it said; it arrives a round trip later. */
static void fill_window(struct tcp_conn *conn, uint32_t cwnd)
{
    struct net_segment data = {.port = conn->tuple.remote_port,
                               .seq = conn->rcv_nxt,
                               .ack = conn->snd_max,
                               .flags = TCP_ACK,
                               .window = 65535,
                               .timestamp = conn->timestamps,
                               .ts_value = conn->ts_recent,
                               .ts_echo = tcp_timestamp_now(peer.stack, conn->ts_offset)};
    uint32_t end = seq_min(conn->rcv_edge, conn->rcv_nxt + cwnd);
    net_peer_wait(&peer, PATH_NS);
    while (seq_before(data.seq, end)) {
        data.size = end - data.seq < 1400 ? end - data.seq : 1400;
        net_peer_put(&peer, &data);
        data.seq += data.size;
    }
    net_peer_round(&peer);
    net_peer_forget(&peer);
}

static void consume(struct tcp_conn *conn, uint32_t bytes)
{
    uint32_t there = conn->received.bytes, edge = conn->rcv_edge;
    stream_consume(&conn->stream, bytes < there ? bytes : there);
    net_peer_round(&peer);
    assert_true(seq_at_or_before(edge, conn->rcv_edge));
    net_peer_forget(&peer);
}

static void a_fast_session_on_a_long_path_gets_a_large_window(void **state)
{
    (void)state;
    for (unsigned timestamp = 0; timestamp < 2; timestamp++) {
        struct tcp_conn *conn = open_wide(&wide, timestamp);
        uint32_t cwnd = 14600;
        for (unsigned i = 0; i < 20; i++) { /* slow start: it must never be the window that holds */
            uint32_t room = conn->rcv_edge - conn->rcv_nxt;
            assert_true(!timestamp || room >= (cwnd < 1u << 20 ? cwnd : 1u << 20));
            fill_window(conn, cwnd);
            consume(conn, UINT32_MAX);
            cwnd += cwnd < 1u << 20 ? cwnd : 0;
        }
        assert_true(conn->rcv_edge - conn->rcv_nxt >= (2u << 20) - 65536);
        assert_int_equal(peer.stack->tcp.wide_count, 1);
        net_peer_close(&peer);
    }
}

static void a_slow_or_seldom_session_keeps_a_small_one(void **state)
{
    (void)state;
    for (unsigned every = 1; every <= 40; every *= 5) {
        struct tcp_conn *conn = open_wide(&wide, true);
        for (unsigned i = 1; i <= 80; i++) {
            fill_window(conn, 1u << 20);
            consume(conn, i % every == 0 ? 1000 * every : 0);
        }
        assert_true(conn->window.bytes <= 65535);
        assert_int_equal(peer.stack->tcp.wide_count, 0);
        net_peer_close(&peer);
    }
}

static void what_the_peer_is_short_of_does_not_widen_the_window(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_wide(&wide, true);
    for (unsigned i = 0; i < 50; i++) {
        fill_window(conn, 10000);
        consume(conn, UINT32_MAX);
    }
    assert_true(conn->window.bytes <= 65535);
    net_peer_close(&peer);
}

static void while_buffers_are_short_no_window_grows(void **state)
{
    (void)state;
    const struct stack_limits limits = {.receive_window_bytes = 2u << 20, .held_mbuf_max = 1000};
    struct net_segment syn = {.port = 4001, .scale = 8, .timestamp = true, .ts_value = 7};
    struct tcp_conn *conn = open_wide(&limits, true);
    peer.stack->tcp.held_mbufs += 300; /* by others */
    for (unsigned i = 0; i < 10; i++) {
        fill_window(conn, 1u << 20);
        consume(conn, UINT32_MAX);
    }
    assert_int_equal(conn->window.bytes, 65535);
    assert_true(peer.stack->counters.tcp_window_growth_refused > 0);
    peer.stack->tcp.held_mbufs -= 300;
    for (unsigned i = 0; i < 20; i++) {
        fill_window(conn, 1u << 20);
        consume(conn, UINT32_MAX);
    }
    assert_int_equal(conn->window.bytes, 500 * 1400); /* half of the buffers */
    net_peer_shake_hands(&peer, &syn);
    struct tcp_conn *other = net_peer_conn(&peer);
    for (unsigned i = 0; i < 20; i++) {
        fill_window(other, 1u << 20);
        consume(other, UINT32_MAX);
    }
    assert_int_equal(other->window.bytes, 250 * 1400); /* its share */
    assert_int_equal(peer.stack->tcp.wide_count, 2);
    stream_abort(&other->stream);
    assert_int_equal(peer.stack->tcp.wide_count, 1);
    net_peer_close(&peer);
}

static void without_scaling_the_window_stays_what_can_be_said(void **state)
{
    (void)state;
    struct net_segment syn = {.timestamp = true, .ts_value = 7};
    net_peer_open(&peer, &wide);
    net_peer_shake_hands(&peer, &syn);
    struct tcp_conn *conn = net_peer_conn(&peer);
    for (unsigned i = 0; i < 10; i++) {
        fill_window(conn, 1u << 20);
        consume(conn, UINT32_MAX);
        assert_true(conn->rcv_edge - conn->rcv_nxt <= 65535);
    }
    assert_int_equal(peer.stack->tcp.wide_count, 0);
    net_peer_close(&peer);
}

/* ---- silly windows: RFC 9293 §3.8.6.2.2 ---- */

/* Sends what the window lets, in segments of `size`, while the session does not read: each time the edge
 * stands still or moves by a segment at least, and what is kept stays within the window. */
static void flood_unread(struct tcp_conn *conn, uint32_t size, uint32_t bytes)
{
    uint32_t step = conn->window.bytes / 2 < conn->mss ? conn->window.bytes / 2 : conn->mss;
    for (uint32_t sent = 0; sent < bytes; sent += size) {
        struct net_segment data = net_peer_next(&peer, TCP_ACK), ack;
        uint32_t edge = conn->rcv_edge, room = edge - conn->rcv_nxt;
        data.size = size;
        data.ts_value = conn->ts_recent;
        net_peer_send(&peer, &data);
        net_peer_wait(&peer, room < size ? 0 : 40 * MS_NS);
        while (net_peer_take(&peer, &ack)) {
            assert_true((uint32_t)ack.window << conn->rcv_scale <= edge - ack.ack || /* no news */
                        conn->rcv_edge - edge >= step);
        }
        assert_true(conn->rcv_edge == edge || conn->rcv_edge - edge >= step);
        assert_true(conn->received.bytes <= conn->window.bytes);
    }
}

static void small_segments_do_not_move_the_edge_of_a_session_that_does_not_read(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 7, 1459};
    for (size_t i = 0; i < RTE_DIM(sizes); i++) {
        struct tcp_conn *conn = open_wide(&wide, true);
        assert_true(conn->rcv_scale > 0);
        uint32_t before = conn->rcv_edge;
        flood_unread(conn, sizes[i], sizes[i] == 1 ? 3000 : 3 * 65535);
        assert_int_equal(conn->rcv_edge, before);
        assert_true(conn->received.bytes <= 65535);
        net_peer_close(&peer);
    }
}

static void a_wide_window_is_filled_to_its_edge_by_single_bytes_and_no_further(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_wide(&wide, true);
    uint32_t cwnd = 14600;
    for (unsigned i = 0; i < 8; i++) {
        fill_window(conn, cwnd);
        consume(conn, UINT32_MAX);
        cwnd *= 2;
    }
    assert_true(conn->window.bytes > 4 * 65535);
    fill_window(conn, conn->rcv_edge - conn->rcv_nxt - 100);
    uint32_t edge = conn->rcv_edge;
    flood_unread(conn, 1, 2000);
    assert_int_equal(conn->rcv_edge, edge);
    assert_int_equal(conn->rcv_nxt, edge); /* what was promised is taken, to the byte */
    /* The session reads a little: no news. It reads a segment: there is. */
    net_peer_forget(&peer);
    stream_consume(&conn->stream, 100);
    net_peer_round(&peer);
    net_peer_expect_none(&peer);
    stream_consume(&conn->stream, 2 * conn->mss);
    net_peer_round(&peer);
    struct net_segment update = net_peer_expect(&peer, TCP_ACK);
    assert_true((uint32_t)update.window << conn->rcv_scale >= conn->mss);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_that_come_again_are_told_first_and_once),
        cmocka_unit_test(each_duplicate_of_a_burst_is_told_and_neighbours_as_one),
        cmocka_unit_test(a_duplicate_that_its_timestamp_gives_away_is_told_too),
        cmocka_unit_test(of_many_gaps_those_that_changed_last_are_told),
        cmocka_unit_test(without_timestamps_there_is_room_for_four_ranges),
        cmocka_unit_test(small_segments_do_not_move_the_edge_of_a_session_that_does_not_read),
        cmocka_unit_test(a_wide_window_is_filled_to_its_edge_by_single_bytes_and_no_further),
        cmocka_unit_test(a_fast_session_on_a_long_path_gets_a_large_window),
        cmocka_unit_test(a_slow_or_seldom_session_keeps_a_small_one),
        cmocka_unit_test(what_the_peer_is_short_of_does_not_widen_the_window),
        cmocka_unit_test(while_buffers_are_short_no_window_grows),
        cmocka_unit_test(without_scaling_the_window_stays_what_can_be_said),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
