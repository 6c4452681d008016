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
    assert_told(seq, &(struct told){4, {{5000, 5100}, {5000, 5100}, {1000, 1100}, {2000, 2100}}});
    net_peer_write(&peer, "250 ok");
    struct net_segment answer = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    assert_int_equal(answer.range_count, 4);
    assert_int_equal(answer.ranges[0].begin, seq + 5000);
    assert_int_equal(answer.ranges[1].begin, seq + 1000);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_that_come_again_are_told_first_and_once),
        cmocka_unit_test(each_duplicate_of_a_burst_is_told_and_neighbours_as_one),
        cmocka_unit_test(a_duplicate_that_its_timestamp_gives_away_is_told_too),
        cmocka_unit_test(without_timestamps_there_is_room_for_four_ranges),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
