#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Nagle's algorithm as Minshall has changed it: only one small segment is under way. */

static struct net_peer peer;
static uint8_t bytes[STREAM_WRITE_MAX];

static void open_with(bool nagle)
{
    const struct stack_limits limits = {.nagle = nagle};
    struct net_segment syn = {.scale = 8, .sack_permitted = true, .timestamp = true, .ts_value = 7};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
}

static void write_bytes(size_t count)
{
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(bytes, count)), 0);
    net_peer_round(&peer);
}

static uint32_t next_size(void)
{
    struct net_segment segment;
    return net_peer_take(&peer, &segment) ? segment.size : 0;
}

static void without_it_small_segments_leave_at_once(void **state)
{
    (void)state;
    open_with(false);
    for (uint32_t i = 1; i < 5; i++) {
        write_bytes(i);
        assert_int_equal(next_size(), i);
    }
    net_peer_close(&peer);
}

static void a_second_small_segment_waits_for_the_first(void **state)
{
    (void)state;
    open_with(true);
    write_bytes(1);
    assert_int_equal(next_size(), 1);
    write_bytes(2);
    write_bytes(3);
    assert_int_equal(next_size(), 0);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    net_peer_send(&peer, &ack);
    assert_int_equal(next_size(), 5); /* together */
    net_peer_close(&peer);
}

static void full_segments_never_wait(void **state)
{
    (void)state;
    open_with(true);
    uint32_t mss = net_peer_conn(&peer)->mss;
    write_bytes(1);
    assert_int_equal(next_size(), 1);
    write_bytes(2 * mss + 7);
    assert_int_equal(next_size(), mss);
    assert_int_equal(next_size(), mss);
    assert_int_equal(next_size(), 0); /* but what is left over does */
    net_peer_close(&peer);
}

/* Nagle's own rule would keep the last part until the peer's delayed acknowledgement. */
static void the_small_end_of_a_long_write_leaves_with_it(void **state)
{
    (void)state;
    open_with(true);
    uint32_t mss = net_peer_conn(&peer)->mss;
    write_bytes(2 * mss + 7);
    assert_int_equal(next_size(), mss);
    assert_int_equal(next_size(), mss);
    assert_int_equal(next_size(), 7);
    net_peer_close(&peer);
}

static void the_last_bytes_before_a_fin_do_not_wait(void **state)
{
    (void)state;
    open_with(true);
    write_bytes(1);
    write_bytes(2);
    assert_int_equal(next_size(), 1);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    assert_int_equal(next_size(), 2);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_it_small_segments_leave_at_once),
        cmocka_unit_test(a_second_small_segment_waits_for_the_first),
        cmocka_unit_test(full_segments_never_wait),
        cmocka_unit_test(the_small_end_of_a_long_write_leaves_with_it),
        cmocka_unit_test(the_last_bytes_before_a_fin_do_not_wait),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
