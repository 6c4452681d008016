#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;
static uint8_t text[STREAM_WRITE_MAX];

static void write_bytes(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        text[i] = (uint8_t)(i * 7);
    }
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(text, count)), 0);
    net_peer_round(&peer);
}

/* The peer acknowledges up to `seq`, with at most one range beyond. */
static void acknowledge(uint32_t seq, uint16_t window, uint32_t begin, uint32_t end)
{
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.ack = seq;
    ack.window = window;
    ack.range_count = begin != end;
    ack.ranges[0] = (struct tcp_range){begin, end};
    net_peer_send(&peer, &ack);
}

static void data_arrive(uint32_t seq, uint32_t size)
{
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.seq = seq;
    data.size = size;
    for (uint32_t i = 0; i < size; i++) {
        data.bytes[i] = (uint8_t)((seq + i) * 11);
    }
    net_peer_send(&peer, &data);
}

/* ---- receiving ---- */

static void every_second_full_segment_is_acknowledged_and_the_last_after_a_while(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    net_peer_conn(&peer)->quick_acks = 0;
    data_arrive(seq, 1460); /* the first large one tells what is full */
    data_arrive(seq + 1460, 1460);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq + 2920);
    data_arrive(seq + 2920, 1460);
    net_peer_expect_none(&peer);
    data_arrive(seq + 4380, 1460);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq + 5840);
    data_arrive(seq + 5840, 100);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 40 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq + 5940);
    assert_int_equal(peer.stack->counters.tcp_delayed_acks, 1);
    net_peer_close(&peer);
}

static void the_first_full_segments_are_acknowledged_at_once(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (uint32_t i = 0; i < 16; i++) {
        data_arrive(seq + i * 1460, 1460);
        net_peer_expect(&peer, TCP_ACK);
    }
    data_arrive(seq + 16 * 1460, 1460);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void an_answer_carries_the_acknowledgement(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    data_arrive(seq, 6);
    net_peer_write(&peer, "250 ok");
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).ack, seq + 6);
    net_peer_wait(&peer, 50 * MS_NS);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void read_all(uint32_t first, uint32_t count)
{
    struct slice slices[16];
    uint32_t at = 0;
    size_t pieces = stream_peek(net_peer_last(&peer)->stream, slices, 16);
    for (size_t i = 0; i < pieces; i++) {
        for (size_t j = 0; j < slices[i].size; j++, at++) {
            assert_int_equal(slices[i].bytes[j], (uint8_t)((first + at) * 11));
        }
    }
    assert_int_equal(at, count);
    stream_consume(net_peer_last(&peer)->stream, count);
    net_peer_round(&peer);
}

static void segments_that_overlap_in_any_way_come_out_once(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, size;
    } pieces[] = {{1000, 500}, {3000, 500}, {1200, 500}, {2800, 300}, {900, 2700}, {100, 50},
                  {150, 50},   {120, 60},   {200, 10},   {50, 900},   {0, 60},     {0, 1000}};
    net_peer_open_with_options(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (size_t i = 0; i < RTE_DIM(pieces); i++) {
        uint32_t left = pieces[i].size;
        for (uint32_t at = pieces[i].offset; left > 0;) {
            uint32_t here = left < 1400 ? left : 1400;
            data_arrive(seq + at, here);
            at += here;
            left -= here;
        }
    }
    assert_int_equal(net_peer_conn(&peer)->received.early_count, 0);
    read_all(seq, 3600);
    net_peer_close(&peer);
}

static void early_segments_are_reported_the_newest_first(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    data_arrive(seq + 1000, 100);
    struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.ack, seq);
    assert_int_equal(ack.range_count, 1);
    data_arrive(seq + 3000, 100);
    data_arrive(seq + 2000, 100);
    net_peer_expect(&peer, TCP_ACK);
    ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.range_count, 3);
    assert_int_equal(ack.ranges[0].begin, seq + 2000);
    assert_int_equal(ack.ranges[0].end, seq + 2100);
    data_arrive(seq + 1000, 100); /* again: the one that has caused the acknowledgement */
    ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.ranges[0].begin, seq + 1000);
    assert_int_equal(ack.ranges[1].begin, seq + 1000);
    data_arrive(seq, 1000);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq + 1100);
    net_peer_close(&peer);
}

static void without_sack_each_early_segment_is_answered(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.size = 100;
    for (uint32_t i = 1; i <= 3; i++) {
        data.seq = seq + i * 100;
        net_peer_put(&peer, &data);
    }
    net_peer_round(&peer);
    assert_int_equal(net_peer_take_all(&peer), 3);
    net_peer_close(&peer);
}

static void what_lies_beyond_the_window_is_not_kept(void **state)
{
    (void)state;
    const struct stack_limits limits = {.receive_window_bytes = 2000};
    struct net_segment syn = {0};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    data_arrive(seq + 2000, 100);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq);
    assert_int_equal(peer.stack->counters.tcp_out_of_window, 1);
    data_arrive(seq + 1900, 200); /* half of it */
    net_peer_expect(&peer, TCP_ACK);
    data_arrive(seq, 1000);
    data_arrive(seq + 1000, 900);
    struct net_segment ack;
    while (net_peer_take(&peer, &ack)) {
    }
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 2000);
    assert_int_equal(net_peer_conn(&peer)->rcv_edge, seq + 2000);
    net_peer_close(&peer);
}

static void a_full_window_closes_and_opens_when_it_is_read(void **state)
{
    (void)state;
    const struct stack_limits limits = {.receive_window_bytes = 1000};
    struct net_segment syn = {0};
    net_peer_open(&peer, &limits);
    assert_int_equal(net_peer_shake_hands(&peer, &syn).window, 1000);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    data_arrive(seq, 1000);
    net_peer_wait(&peer, 40 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).window, 0);
    data_arrive(seq + 1000, 1); /* a probe */
    struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.ack, seq + 1000);
    assert_int_equal(ack.window, 0);
    stream_consume(net_peer_last(&peer)->stream, 100);
    net_peer_round(&peer);
    net_peer_expect_none(&peer); /* no crumbs */
    stream_consume(net_peer_last(&peer)->stream, 900);
    net_peer_round(&peer);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).window, 1000);
    net_peer_close(&peer);
}

static void when_buffers_are_out_data_are_dropped_and_acknowledged_no_further(void **state)
{
    (void)state;
    const struct stack_limits limits = {.held_mbuf_max = 4};
    struct net_segment syn = {0};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    for (uint32_t i = 0; i < 6; i++) {
        data_arrive(seq + 1460 * i, 1460);
    }
    assert_int_equal(net_peer_conn(&peer)->rcv_nxt, seq + 4 * 1460);
    assert_true(peer.stack->counters.tcp_receive_pruned > 0);
    read_all(seq, 4 * 1460);
    data_arrive(seq + 4 * 1460, 1460);
    assert_int_equal(net_peer_conn(&peer)->rcv_nxt, seq + 5 * 1460);
    net_peer_close(&peer);
}

/* ---- the peer's window ---- */

static void a_closed_window_is_probed_ever_more_slowly_and_never_given_up(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t una = net_peer_conn(&peer)->snd_una;
    acknowledge(una, 0, 0, 0);
    write_bytes(100);
    net_peer_expect_none(&peer);
    uint64_t last_ns = peer.world.now_ns, gap_ns = 0;
    while (peer.world.now_ns < 1000 * SECOND_NS) {
        net_peer_wait(&peer, 100 * MS_NS);
        if (peer.count > 0) {
            struct net_segment probe = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
            assert_int_equal(probe.seq, una);
            assert_int_equal(probe.size, 1);
            assert_true(peer.world.now_ns - last_ns >= gap_ns);
            gap_ns = peer.world.now_ns - last_ns - 200 * MS_NS;
            last_ns = peer.world.now_ns;
            acknowledge(una, 0, 0, 0);
        }
        assert_true(peer.world.now_ns - last_ns <= 61 * SECOND_NS);
    }
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    acknowledge(una, 1000, 0, 0);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).size, 100);
    net_peer_close(&peer);
}

static void a_probe_that_is_taken_leaves_nothing_to_probe_for(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t una = net_peer_conn(&peer)->snd_una;
    acknowledge(una, 0, 0, 0);
    write_bytes(1);
    net_peer_wait(&peer, 1100 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).size, 1);
    acknowledge(una + 1, 0, 0, 0);
    net_peer_wait(&peer, 60 * SECOND_NS);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void a_window_that_is_taken_back_does_not_end_a_peer_that_answers(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t una = net_peer_conn(&peer)->snd_una;
    write_bytes(3000);
    net_peer_take_all(&peer);
    for (unsigned i = 0; i < 400; i++) { /* RFC 9293 §3.8.6: it must be probed, not given up */
        net_peer_wait(&peer, SECOND_NS);
        if (net_peer_take_all(&peer) > 0) {
            acknowledge(una, 0, 0, 0);
        }
    }
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    net_peer_close(&peer);
}

static void what_is_sent_again_stays_within_what_was_sent_or_the_window(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t una = net_peer_conn(&peer)->snd_una;
    write_bytes(10);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    acknowledge(una, 0, 0, 0);
    write_bytes(1000);
    net_peer_wait(&peer, 1500 * MS_NS);
    struct net_segment again = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(again.seq, una);
    assert_int_equal(again.size, 10);
    net_peer_close(&peer);
}

static void no_crumbs_are_sent_into_a_small_window(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t una = net_peer_conn(&peer)->snd_una;
    acknowledge(una, 100, 0, 0); /* of 65535 that there were */
    write_bytes(5000);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 1100 * MS_NS); /* RFC 9293 §3.8.6.2.1 (4): but not for ever */
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).size, 100);
    net_peer_close(&peer);
}

/* ---- timeouts ---- */

static void retransmission_backs_off_and_ends_in_a_timeout(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    write_bytes(10);
    uint64_t start_ns = peer.world.now_ns;
    struct net_segment first = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    for (unsigned i = 1; i <= 6; i++) { /* after 1, 2, 4 ... 32 s */
        uint64_t due_ns = start_ns + ((1u << i) - 1) * SECOND_NS;
        net_peer_wait(&peer, due_ns - 5 * MS_NS - peer.world.now_ns);
        net_peer_expect_none(&peer);
        net_peer_wait(&peer, 25 * MS_NS);
        struct net_segment again = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
        assert_int_equal(again.seq, first.seq);
        assert_memory_equal(again.bytes, first.bytes, 10);
    }
    net_peer_wait(&peer, start_ns + 299 * SECOND_NS - peer.world.now_ns);
    assert_int_equal(net_peer_last(&peer)->events, 0);
    net_peer_wait(&peer, 62 * SECOND_NS);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CLOSED);
    assert_int_equal(net_peer_last(&peer)->error, -ETIMEDOUT);
    net_peer_close(&peer);
}

/* RFC 6298 §3: no sample from what was sent twice; §5.5: until there is one the timer stays long. */
static void without_timestamps_a_slow_path_is_learned_nevertheless(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    for (unsigned i = 0; i < 6; i++) { /* an answer takes 3 s; the first timeout is after 1 */
        uint32_t end = conn->snd_una + 10;
        write_bytes(10);
        net_peer_wait(&peer, 3 * SECOND_NS);
        acknowledge(end, 65535, 0, 0);
    }
    assert_in_range(conn->srtt_us, 2900000, 3100000);
    assert_int_equal(peer.stack->counters.tcp_timeouts, 2); /* at 1 and 3 s: then 4 s are waited */
    net_peer_close(&peer);
}

static void a_timestamp_tells_the_time_of_what_was_sent_twice(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    write_bytes(10);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    net_peer_wait(&peer, 1100 * MS_NS);
    struct net_segment again = net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    net_peer_wait(&peer, 300 * MS_NS);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.ts_echo = again.ts_value;
    net_peer_send(&peer, &ack);
    assert_in_range(conn->srtt_us, 300000, 420000);
    assert_int_equal(conn->backoff, 0);
    net_peer_close(&peer);
}

static void a_timeout_sends_all_again_from_one_segment_on(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una;
    write_bytes(5 * conn->mss);
    assert_int_equal(net_peer_take_all(&peer), 5);
    net_peer_wait(&peer, 1100 * MS_NS); /* a probe of the tail */
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).seq, una + 4u * conn->mss);
    net_peer_wait(&peer, 1000 * MS_NS);
    assert_int_equal(net_peer_take_all(&peer), 1);
    assert_int_equal(conn->congestion.cwnd, conn->mss);
    net_peer_wait(&peer, 50 * MS_NS);
    acknowledge(una + conn->mss, 65535, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 2);
    acknowledge(una + 5u * conn->mss, 65535, 0, 0); /* it had them all */
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_int_equal(net_peer_take_all(&peer), 0);
    net_peer_close(&peer);
}

/* ---- fast retransmit ---- */

static void three_duplicates_bring_the_first_segment_again(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una;
    write_bytes(8 * conn->mss);
    assert_int_equal(net_peer_take_all(&peer), 8);
    acknowledge(una, 65535, 0, 0);
    acknowledge(una, 65535, 0, 0);
    net_peer_expect_none(&peer);
    acknowledge(una, 65535, 0, 0);
    struct net_segment again = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(again.seq, una);
    assert_int_equal(again.size, conn->mss);
    assert_int_equal(conn->congestion.ssthresh, 8u * conn->mss * 7 / 10); /* CUBIC */
    acknowledge(una + 2u * conn->mss, 65535, 0, 0); /* partial: the next hole at once */
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una + 2u * conn->mss);
    acknowledge(una + 8u * conn->mss, 65535, 0, 0);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_int_equal(peer.stack->counters.tcp_fast_retransmits, 1);
    net_peer_close(&peer);
}

static void a_changed_window_or_data_are_no_duplicate(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una;
    write_bytes(8 * conn->mss);
    net_peer_take_all(&peer);
    for (uint16_t i = 0; i < 6; i++) {
        acknowledge(una, (uint16_t)(60000 + i), 0, 0);
    }
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.ack = una;
    data.window = 60005;
    data.size = 1;
    for (unsigned i = 0; i < 6; i++, data.seq++) {
        net_peer_send(&peer, &data);
    }
    assert_int_equal(peer.stack->counters.tcp_fast_retransmits, 0);
    assert_int_equal(peer.stack->counters.tcp_duplicate_acks_in, 0);
    net_peer_close(&peer);
}

static void sack_brings_just_the_holes_again(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una, mss = conn->mss;
    write_bytes(8u * mss);
    assert_int_equal(net_peer_take_all(&peer), 8);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK); /* 0 and 2 are missing */
    ack.ack = una;
    ack.ranges[0] = (struct tcp_range){una + 3 * mss, una + 7 * mss};
    ack.ranges[1] = (struct tcp_range){una + mss, una + 2 * mss};
    ack.range_count = 2;
    net_peer_send(&peer, &ack);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, una + 2 * mss);
    acknowledge(una + 8 * mss, 65535, 0, 0);
    assert_int_equal(net_peer_take_all(&peer), 0);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_int_equal(peer.stack->counters.tcp_retransmitted_segments, 2);
    net_peer_close(&peer);
}

static void ranges_that_make_no_sense_are_passed_over(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una;
    write_bytes(4000);
    net_peer_take_all(&peer);
    acknowledge(una, 65535, una + 4001, una + 5000); /* never sent */
    acknowledge(una, 65535, una + 2000, una + 1000); /* backwards */
    acknowledge(una, 65535, una - 500, una);         /* a duplicate that it reports */
    acknowledge(una, 65535, una - 500, una + 2000);
    assert_int_equal(conn->sacked.count, 0);
    assert_int_equal(peer.stack->counters.tcp_duplicate_acks_in, 0);
    net_peer_close(&peer);
}

/* RFC 6582 §3.2 step 2: `recover` must be passed, not just reached. */
static void duplicates_of_what_a_timeout_sent_needlessly_are_no_loss(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una;
    write_bytes(4 * conn->mss);
    net_peer_wait(&peer, 1100 * MS_NS);
    uint32_t end = una + 4u * conn->mss;
    acknowledge(end, 65535, 0, 0);
    write_bytes(4 * conn->mss);
    net_peer_take_all(&peer);
    for (unsigned i = 0; i < 3; i++) {
        acknowledge(end, 65535, 0, 0);
    }
    assert_int_equal(peer.stack->counters.tcp_fast_retransmits, 0);
    net_peer_close(&peer);
}

static void after_two_gigabytes_without_a_loss_the_next_is_still_repaired(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    for (unsigned i = 0; i < 5; i++) { /* as if so much had been sent between */
        conn->snd_una += 1u << 29;
        conn->snd_nxt = conn->snd_max = conn->snd_una;
        conn->snd_wl2 = conn->snd_una;
        write_bytes(10);
        acknowledge(conn->snd_max, 65535, 0, 0);
    }
    uint32_t una = conn->snd_una;
    write_bytes(8 * conn->mss);
    net_peer_take_all(&peer);
    for (unsigned i = 0; i < 3; i++) {
        acknowledge(una, 65535, 0, 0);
    }
    assert_int_equal(peer.stack->counters.tcp_fast_retransmits, 1);
    net_peer_close(&peer);
}

/* ---- silence ---- */

static void a_silent_peer_is_asked_and_then_given_up(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t nxt = net_peer_conn(&peer)->snd_nxt;
    net_peer_wait(&peer, 119 * SECOND_NS);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 2 * SECOND_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).seq, nxt - 1);
    net_peer_send_next(&peer, TCP_ACK); /* it lives */
    net_peer_wait(&peer, 118 * SECOND_NS);
    net_peer_expect_none(&peer);
    net_peer_wait(&peer, 2 * SECOND_NS + 3 * 30 * SECOND_NS);
    assert_int_equal(net_peer_take_all(&peer), 4);
    net_peer_wait(&peer, 31 * SECOND_NS);
    assert_int_equal(net_peer_last(&peer)->error, -ETIMEDOUT);
    net_peer_expect(&peer, TCP_RST | TCP_ACK);
    net_peer_close(&peer);
}

static void the_peers_keepalive_is_answered(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t seq = net_peer_conn(&peer)->rcv_nxt;
    struct net_segment probe = net_peer_next(&peer, TCP_ACK);
    probe.seq--;
    net_peer_send(&peer, &probe);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq);
    probe.size = 1; /* the older kind, with a byte of garbage */
    net_peer_wait(&peer, SECOND_NS);
    net_peer_send(&peer, &probe);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, seq);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 0);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_second_full_segment_is_acknowledged_and_the_last_after_a_while),
        cmocka_unit_test(the_first_full_segments_are_acknowledged_at_once),
        cmocka_unit_test(an_answer_carries_the_acknowledgement),
        cmocka_unit_test(segments_that_overlap_in_any_way_come_out_once),
        cmocka_unit_test(early_segments_are_reported_the_newest_first),
        cmocka_unit_test(without_sack_each_early_segment_is_answered),
        cmocka_unit_test(what_lies_beyond_the_window_is_not_kept),
        cmocka_unit_test(a_full_window_closes_and_opens_when_it_is_read),
        cmocka_unit_test(when_buffers_are_out_data_are_dropped_and_acknowledged_no_further),
        cmocka_unit_test(a_closed_window_is_probed_ever_more_slowly_and_never_given_up),
        cmocka_unit_test(a_probe_that_is_taken_leaves_nothing_to_probe_for),
        cmocka_unit_test(a_window_that_is_taken_back_does_not_end_a_peer_that_answers),
        cmocka_unit_test(what_is_sent_again_stays_within_what_was_sent_or_the_window),
        cmocka_unit_test(no_crumbs_are_sent_into_a_small_window),
        cmocka_unit_test(retransmission_backs_off_and_ends_in_a_timeout),
        cmocka_unit_test(without_timestamps_a_slow_path_is_learned_nevertheless),
        cmocka_unit_test(a_timestamp_tells_the_time_of_what_was_sent_twice),
        cmocka_unit_test(a_timeout_sends_all_again_from_one_segment_on),
        cmocka_unit_test(three_duplicates_bring_the_first_segment_again),
        cmocka_unit_test(a_changed_window_or_data_are_no_duplicate),
        cmocka_unit_test(sack_brings_just_the_holes_again),
        cmocka_unit_test(ranges_that_make_no_sense_are_passed_over),
        cmocka_unit_test(duplicates_of_what_a_timeout_sent_needlessly_are_no_loss),
        cmocka_unit_test(after_two_gigabytes_without_a_loss_the_next_is_still_repaired),
        cmocka_unit_test(a_silent_peer_is_asked_and_then_given_up),
        cmocka_unit_test(the_peers_keepalive_is_answered),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
