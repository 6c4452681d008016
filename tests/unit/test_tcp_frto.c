#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Timeouts that came too early, found out without timestamps: RFC 5682 §3.1. */

#define RTT_NS (40 * MS_NS)

static struct net_peer peer;
static struct tcp_conn *conn;
static uint32_t una, mss;

/* Segments are counted from the first that is not acknowledged at the begin. begin == end: no SACK. */
static void acknowledge(uint32_t to, uint32_t begin, uint32_t end)
{
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.ack = una + to * mss;
    ack.range_count = begin != end;
    ack.ranges[0] = (struct tcp_range){una + begin * mss, una + end * mss};
    net_peer_send(&peer, &ack);
}

static void expect_segment(uint32_t number)
{
    struct net_segment segment;
    assert_true(net_peer_take(&peer, &segment));
    assert_int_equal(segment.seq, una + number * mss);
}

static void open_with(bool timestamps)
{
    struct net_segment syn = {
        .scale = 8, .sack_permitted = true, .timestamp = timestamps, .ts_value = 7};
    net_peer_open(&peer, NULL);
    net_peer_shake_hands(&peer, &syn);
    net_peer_forget(&peer);
    conn = net_peer_conn(&peer);
    mss = conn->mss;
    net_peer_warm(&peer, 4, RTT_NS);
    una = conn->snd_una;
}

static void wait_for_timeout(uint64_t number)
{
    while (peer.stack->counters.tcp_timeouts < number) {
        net_peer_wait(&peer, 10 * MS_NS);
    }
    assert_int_equal(conn->recovery, TCP_LOSS_RECOVERY);
}

/* Six are under way, and none is answered until the head has been sent again. Four more wait. */
static void time_out(void)
{
    open_with(false);
    net_peer_write_segments(&peer, 6);
    assert_int_equal(net_peer_take_all(&peer), 6);
    wait_for_timeout(1);
    net_peer_forget(&peer);
    net_peer_write_segments(&peer, 4);
    net_peer_expect_none(&peer); /* nothing but the head until it is answered */
}

static void expect_undone(uint32_t cwnd)
{
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_true(conn->congestion.cwnd >= cwnd);
    assert_int_equal(peer.stack->counters.tcp_undos, 1);
}

static void expect_not_undone(void)
{
    assert_int_equal(conn->recovery, TCP_LOSS_RECOVERY);
    assert_int_equal(peer.stack->counters.tcp_undos, 0);
}

static void new_data_find_out_that_a_timeout_came_too_early(void **state)
{
    (void)state;
    open_with(false);
    uint32_t cwnd = conn->congestion.cwnd;
    net_peer_close(&peer);
    time_out();
    acknowledge(1, 0, 0); /* of the first copy or the second */
    expect_segment(6);
    expect_segment(7);
    net_peer_expect_none(&peer);
    acknowledge(2, 0, 0); /* never sent again */
    expect_undone(cwnd);
    net_peer_wait(&peer, MS_NS);
    expect_segment(8); /* new data go on */
    net_peer_close(&peer);
}

static void what_sack_tells_of_segments_before_the_timeout_says_so_too(void **state)
{
    (void)state;
    time_out();
    acknowledge(1, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    acknowledge(1, 2, 3);
    expect_undone(0);
    net_peer_close(&peer);
}

static void a_timeout_that_was_right_is_repaired_after_the_new_data(void **state)
{
    (void)state;
    time_out();
    acknowledge(1, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    acknowledge(1, 6, 7); /* the new data arrive, and what was before them does not */
    expect_not_undone();
    expect_segment(1);
    acknowledge(2, 6, 8);
    assert_true(net_peer_take_all(&peer) >= 1);
    expect_not_undone();
    net_peer_close(&peer);
}

/* It tells of both: step 3a goes first. */
static void an_acknowledgement_beyond_the_timeout_proves_nothing(void **state)
{
    (void)state;
    time_out();
    acknowledge(1, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    acknowledge(2, 6, 7);
    expect_not_undone();
    net_peer_close(&peer);
}

/* The second copy has filled the only gap: the timeout was right. */
static void what_the_second_copy_brings_at_once_proves_nothing(void **state)
{
    (void)state;
    time_out();
    acknowledge(5, 0, 0);
    expect_not_undone();
    expect_segment(6);
    expect_segment(7);
    acknowledge(5, 6, 8);
    expect_not_undone();
    expect_segment(5);
    net_peer_close(&peer);
}

/* Step 2: duplicates before it only tell what the peer holds. */
static void duplicates_before_the_head_is_acknowledged_end_nothing(void **state)
{
    (void)state;
    time_out();
    acknowledge(0, 2, 3);
    expect_not_undone();
    net_peer_expect_none(&peer);
    acknowledge(1, 2, 3);
    expect_segment(6);
    expect_segment(7);
    acknowledge(3, 0, 0); /* and it was late after all */
    expect_undone(0);
    net_peer_close(&peer);
}

static void data_of_the_peer_are_no_answer(void **state)
{
    (void)state;
    time_out();
    acknowledge(1, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.ack = una + mss;
    data.size = 10;
    net_peer_send(&peer, &data);
    expect_not_undone();
    acknowledge(2, 0, 0);
    expect_undone(0);
    net_peer_close(&peer);
}

static void a_duplicate_that_tells_nothing_goes_on_with_the_repair(void **state)
{
    (void)state;
    time_out();
    acknowledge(1, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    net_peer_wait(&peer, RTT_NS);
    acknowledge(1, 0, 1); /* D-SACK: the head came twice */
    assert_int_equal(conn->rack->frto, TCP_FRTO_NONE);
    net_peer_close(&peer);
}

static void without_new_data_the_repair_goes_on_at_once(void **state)
{
    (void)state;
    open_with(false);
    net_peer_write_segments(&peer, 6);
    net_peer_forget(&peer);
    wait_for_timeout(1);
    net_peer_forget(&peer);
    acknowledge(1, 0, 0);
    expect_segment(1);
    net_peer_close(&peer);
}

/* "RecoveryPoint is larger than or equal to SND.UNA": step 1. */
static void a_timeout_in_a_repair_and_a_second_one_are_taken_as_they_are(void **state)
{
    (void)state;
    time_out();
    wait_for_timeout(2);
    net_peer_forget(&peer);
    acknowledge(1, 0, 0);
    expect_segment(1); /* no new data first */
    net_peer_close(&peer);

    open_with(false);
    net_peer_write_segments(&peer, 6);
    acknowledge(0, 3, 6);
    assert_int_equal(conn->recovery, TCP_FAST_RECOVERY);
    wait_for_timeout(1);
    assert_int_equal(conn->rack->frto, TCP_FRTO_NONE);
    net_peer_close(&peer);
}

static void with_timestamps_nothing_needs_to_be_found_out(void **state)
{
    (void)state;
    open_with(true);
    net_peer_write_segments(&peer, 6);
    wait_for_timeout(1);
    assert_int_equal(conn->rack->frto, TCP_FRTO_NONE);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_data_find_out_that_a_timeout_came_too_early),
        cmocka_unit_test(what_sack_tells_of_segments_before_the_timeout_says_so_too),
        cmocka_unit_test(a_timeout_that_was_right_is_repaired_after_the_new_data),
        cmocka_unit_test(an_acknowledgement_beyond_the_timeout_proves_nothing),
        cmocka_unit_test(what_the_second_copy_brings_at_once_proves_nothing),
        cmocka_unit_test(duplicates_before_the_head_is_acknowledged_end_nothing),
        cmocka_unit_test(data_of_the_peer_are_no_answer),
        cmocka_unit_test(a_duplicate_that_tells_nothing_goes_on_with_the_repair),
        cmocka_unit_test(without_new_data_the_repair_goes_on_at_once),
        cmocka_unit_test(a_timeout_in_a_repair_and_a_second_one_are_taken_as_they_are),
        cmocka_unit_test(with_timestamps_nothing_needs_to_be_found_out),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
