#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* How a connection sees losses by time (RFC 8985), probes its tail, and takes back what was none. */

#define RTT_NS (40 * MS_NS)

static struct net_peer peer;
static struct tcp_conn *conn;
static uint32_t una, mss;

/* Segments, counted from the first that is not acknowledged at the begin. */
static struct tcp_range segments(uint32_t begin, uint32_t end)
{
    return (struct tcp_range){una + begin * mss, una + end * mss};
}

static void acknowledge(uint32_t to, uint32_t echo, unsigned count, struct tcp_range a,
                        struct tcp_range b)
{
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.ack = una + to * mss;
    ack.ts_echo = echo != 0 ? echo : ack.ts_echo;
    ack.range_count = count;
    ack.ranges[0] = a;
    ack.ranges[1] = b;
    net_peer_send(&peer, &ack);
}

static const struct tcp_range none;

static void acknowledge_to(uint32_t to)
{
    acknowledge(to, 0, 0, none, none);
}

static void sack(uint32_t to, uint32_t begin, uint32_t end)
{
    acknowledge(to, 0, 1, segments(begin, end), none);
}

/* A connection whose round trip is known to take 40 ms. */
static void open_warm(void)
{
    net_peer_open_with_options(&peer);
    conn = net_peer_conn(&peer);
    mss = conn->mss;
    net_peer_warm(&peer, 8, RTT_NS);
    una = conn->snd_una;
    assert_in_range(conn->srtt_us, 39000, 41000);
    assert_int_equal(net_peer_take_all(&peer), 0);
    assert_null(conn->rack); /* nothing is under way */
}

static void idle_connections_hold_no_records(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 1);
    assert_int_equal(peer.stack->tcp.racks.used, 1);
    net_peer_wait(&peer, RTT_NS);
    acknowledge_to(1);
    assert_int_equal(peer.stack->tcp.racks.used, 0);
    net_peer_write_segments(&peer, 1);
    stream_abort(net_peer_last(&peer)->stream);
    assert_int_equal(peer.stack->tcp.racks.used, 0);
    net_peer_close(&peer);
}

/* One segment that is sacked is not three duplicates: a quarter of the least round trip is waited. */
static void a_hole_is_repaired_when_the_reordering_window_is_over(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 2);
    net_peer_forget(&peer);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 2);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 9 * MS_NS);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 3 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    assert_int_equal(conn->recovery, TCP_FAST_RECOVERY);
    net_peer_wait(&peer, RTT_NS);
    acknowledge_to(2);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 0);
    net_peer_close(&peer);
}

static void a_segment_that_is_only_late_is_not_sent_again(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 2);
    net_peer_forget(&peer);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 2);
    net_peer_wait(&peer, 5 * MS_NS);
    acknowledge_to(2);
    net_peer_wait(&peer, SECOND_NS);
    assert_int_equal(net_peer_take_all(&peer), 0);
    assert_true(conn->rack_memory.reordering_seen);
    net_peer_close(&peer);
}

static void a_lost_retransmission_is_sent_a_third_time_without_a_timeout(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 10);
    assert_int_equal(net_peer_take_all(&peer), 10);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 6);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    net_peer_write_segments(&peer, 4);
    assert_true(net_peer_take_all(&peer) >= 1); /* new data after the retransmission */
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 11);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 0);
    net_peer_close(&peer);
}

static void the_tail_is_probed_after_two_round_trips(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 3);
    net_peer_forget(&peer);
    net_peer_wait(&peer, 75 * MS_NS);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 10 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).seq, una + 2 * mss);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 2, 3); /* the first two are lost: the probe shows it */
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    net_peer_expect_none(&peer); /* one has arrived, one may leave */
    acknowledge(1, 0, 1, segments(2, 3), none);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una + mss);
    assert_int_equal(peer.stack->counters.tcp_loss_probes, 1);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 0);
    net_peer_close(&peer);
}

/* A delayed acknowledgement must have its time: RFC 8985 §7.2. */
static void a_single_segment_is_probed_later(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 1);
    net_peer_forget(&peer);
    uint64_t rto_ns = tcp_rto_ns(conn);
    net_peer_wait(&peer, 200 * MS_NS);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, rto_ns - 199 * MS_NS); /* no later than the timeout, which it puts off */
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    assert_int_equal(peer.stack->counters.tcp_loss_probes, 1);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 0);
    net_peer_wait(&peer, rto_ns + MS_NS);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 1);
    net_peer_close(&peer);
}

static void a_probe_is_new_data_where_there_are_any(void **state)
{
    (void)state;
    open_warm();
    conn->congestion.cwnd = 2 * mss;
    net_peer_write_segments(&peer, 4);
    assert_int_equal(net_peer_take_all(&peer), 2);
    net_peer_wait(&peer, 85 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una + 2 * mss);
    net_peer_wait(&peer, 100 * MS_NS);
    net_peer_expect_none(&peer); /* one for each flight */
    net_peer_close(&peer);
}

/* RFC 8985 §7.4: the probe itself may have hidden the loss. */
static void a_loss_that_the_probe_has_repaired_slows_down(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 2);
    net_peer_wait(&peer, 130 * MS_NS);
    assert_int_equal(net_peer_take_all(&peer), 3);
    acknowledge_to(2);
    uint32_t cwnd = conn->congestion.cwnd;
    net_peer_write_segments(&peer, 2);
    net_peer_wait(&peer, RTT_NS);
    acknowledge_to(4);
    assert_true(conn->congestion.cwnd < cwnd);
    net_peer_close(&peer);
}

static void a_probe_that_was_needless_does_not(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 2);
    net_peer_wait(&peer, 130 * MS_NS);
    assert_int_equal(net_peer_take_all(&peer), 3);
    uint32_t cwnd = conn->congestion.cwnd;
    acknowledge_to(2);
    acknowledge(2, 0, 1, segments(1, 2), none); /* it came twice */
    net_peer_write_segments(&peer, 2);
    net_peer_wait(&peer, RTT_NS);
    acknowledge_to(4);
    assert_true(conn->congestion.cwnd >= cwnd);
    assert_int_equal(peer.stack->counters.tcp_dsacks_in, 1);
    net_peer_close(&peer);
}

/* RFC 3522, RFC 4015. */
static void a_timestamp_from_before_the_retransmission_takes_it_back(void **state)
{
    (void)state;
    open_warm();
    uint32_t sent_ts = tcp_timestamp_now(peer.stack, conn->ts_offset);
    net_peer_write_segments(&peer, 8);
    net_peer_forget(&peer);
    uint32_t cwnd = conn->congestion.cwnd;
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 5);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    assert_true(conn->congestion.ssthresh < cwnd);
    net_peer_wait(&peer, 10 * MS_NS);
    acknowledge(5, sent_ts, 0, none, none); /* the first copy was only late */
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_true(conn->congestion.cwnd >= cwnd);
    assert_int_equal(conn->congestion.ssthresh, UINT32_MAX);
    assert_int_equal(peer.stack->counters.tcp_undos, 1);
    net_peer_close(&peer);
}

static void a_timeout_that_came_too_early_is_taken_back(void **state)
{
    (void)state;
    open_warm();
    uint32_t sent_ts = tcp_timestamp_now(peer.stack, conn->ts_offset);
    net_peer_write_segments(&peer, 6);
    uint32_t cwnd = conn->congestion.cwnd;
    net_peer_wait(&peer, 2 * tcp_rto_ns(conn)); /* a delay that stops everything */
    assert_int_equal(conn->congestion.cwnd, mss);
    net_peer_forget(&peer);
    acknowledge(1, sent_ts, 0, none, none);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_true(conn->congestion.cwnd >= cwnd);
    assert_int_equal(conn->backoff, 0);
    net_peer_wait(&peer, MS_NS);
    assert_int_equal(net_peer_take_all(&peer), 0); /* the others will come too */
    net_peer_close(&peer);
}

static void a_timestamp_of_the_retransmission_itself_does_not(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 8);
    net_peer_forget(&peer);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 5);
    uint32_t again_ts = net_peer_expect(&peer, TCP_ACK).ts_value;
    net_peer_wait(&peer, RTT_NS);
    acknowledge(5, again_ts, 0, none, none);
    assert_int_equal(conn->recovery, TCP_FAST_RECOVERY);
    acknowledge(8, again_ts, 0, none, none);
    assert_int_equal(peer.stack->counters.tcp_undos, 0);
    assert_true(conn->congestion.cwnd <= conn->congestion.ssthresh);
    net_peer_close(&peer);
}

/* RFC 3708: without a usable timestamp, the report of duplicates. */
static void when_all_that_was_sent_again_is_reported_twice_it_was_no_loss(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 8);
    net_peer_forget(&peer);
    net_peer_wait(&peer, RTT_NS);
    uint32_t cwnd = conn->congestion.cwnd;
    sack(0, 1, 4);
    assert_int_equal(net_peer_take_all(&peer), 1);
    acknowledge_to(4);
    assert_int_equal(conn->recovery, TCP_FAST_RECOVERY);
    acknowledge(4, 0, 1, segments(0, 1), none);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_true(conn->congestion.cwnd >= cwnd);
    assert_int_equal(peer.stack->counters.tcp_undos, 1);
    net_peer_close(&peer);
}

/* RFC 2018 §8. */
static void what_a_peer_has_dropped_after_sacking_it_is_sent_again(void **state)
{
    (void)state;
    open_warm();
    net_peer_write_segments(&peer, 4);
    net_peer_forget(&peer);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 4);
    assert_int_equal(net_peer_take_all(&peer), 1);
    sack(1, 1, 4); /* which can be, only if they are held and yet not acknowledged */
    net_peer_wait(&peer, 500 * MS_NS);
    assert_int_equal(conn->sacked.count, 0);
    acknowledge_to(2);
    acknowledge_to(3);
    assert_true(net_peer_take_all(&peer) >= 3);
    acknowledge_to(4);
    assert_int_equal(conn->recovery, TCP_OPEN);
    net_peer_close(&peer);
}

static void without_records_three_duplicates_still_repair(void **state)
{
    (void)state;
    open_warm();
    peer.stack->tcp.racks.max = 0;
    uint32_t free_one = peer.stack->tcp.racks.free;
    peer.stack->tcp.racks.free = SLAB_NONE;
    net_peer_write_segments(&peer, 8);
    net_peer_forget(&peer);
    assert_null(conn->rack);
    assert_int_equal(peer.stack->counters.tcp_rack_none, 1);
    net_peer_wait(&peer, RTT_NS);
    sack(0, 1, 2);
    net_peer_wait(&peer, 20 * MS_NS);
    net_peer_expect_none(&peer);
    sack(0, 1, 5);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    acknowledge_to(8);
    assert_int_equal(conn->recovery, TCP_OPEN);
    peer.stack->tcp.racks.free = free_one;
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_connections_hold_no_records),
        cmocka_unit_test(a_hole_is_repaired_when_the_reordering_window_is_over),
        cmocka_unit_test(a_segment_that_is_only_late_is_not_sent_again),
        cmocka_unit_test(a_lost_retransmission_is_sent_a_third_time_without_a_timeout),
        cmocka_unit_test(the_tail_is_probed_after_two_round_trips),
        cmocka_unit_test(a_single_segment_is_probed_later),
        cmocka_unit_test(a_probe_is_new_data_where_there_are_any),
        cmocka_unit_test(a_loss_that_the_probe_has_repaired_slows_down),
        cmocka_unit_test(a_probe_that_was_needless_does_not),
        cmocka_unit_test(a_timestamp_from_before_the_retransmission_takes_it_back),
        cmocka_unit_test(a_timeout_that_came_too_early_is_taken_back),
        cmocka_unit_test(a_timestamp_of_the_retransmission_itself_does_not),
        cmocka_unit_test(when_all_that_was_sent_again_is_reported_twice_it_was_no_loss),
        cmocka_unit_test(what_a_peer_has_dropped_after_sacking_it_is_sent_again),
        cmocka_unit_test(without_records_three_duplicates_still_repair),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
