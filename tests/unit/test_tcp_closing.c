#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

static void the_peer_may_close_first_and_still_be_sent_to(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_send_next(&peer, TCP_ACK | TCP_FIN);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_HALF_CLOSED);
    net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_CLOSE_WAIT);
    net_peer_write(&peer, "still here");
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).size, 10);
    net_peer_send_next(&peer, TCP_ACK);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_LAST_ACK);
    net_peer_send_next(&peer, TCP_ACK);
    assert_true((net_peer_last(&peer)->events & STREAM_CLOSED) != 0);
    assert_int_equal(net_peer_last(&peer)->error, 0);
    assert_int_equal(peer.stack->tcp.time_waits.used, 0);
    net_peer_close(&peer);
}

static void we_may_close_first_and_still_read(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    net_peer_send_next(&peer, TCP_ACK);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_FIN_WAIT_2);
    struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_FIN);
    data.size = 4;
    net_peer_send(&peer, &data);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, data.seq + 5);
    assert_int_equal(net_peer_last(&peer)->events,
                     STREAM_READABLE | STREAM_HALF_CLOSED | STREAM_CLOSED);
    assert_int_equal(net_peer_last(&peer)->error, 0);
    struct slice slices[2]; /* what came before the end can still be read */
    assert_int_equal(stream_peek(net_peer_last(&peer)->stream, slices, 2), 1);
    assert_int_equal(slices[0].size, 4);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_close(&peer);
}

static void both_may_close_at_once(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment fin = net_peer_next(&peer, TCP_ACK | TCP_FIN);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    net_peer_send(&peer, &fin); /* that has not seen ours */
    net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_CLOSING);
    net_peer_send_next(&peer, TCP_ACK);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_HALF_CLOSED | STREAM_CLOSED);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_close(&peer);
}

static void the_ack_that_ends_closing_is_not_answered(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment fin = net_peer_next(&peer, TCP_ACK | TCP_FIN);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    net_peer_send(&peer, &fin);
    net_peer_expect(&peer, TCP_ACK);
    net_peer_send_next(&peer, TCP_ACK);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void a_fin_that_overtakes_its_data_is_answered_at_once(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment fin = net_peer_next(&peer, TCP_ACK | TCP_FIN);
    fin.seq += 4;
    net_peer_send(&peer, &fin);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, fin.seq - 4);
    assert_int_equal(net_peer_last(&peer)->events, 0);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.size = 4;
    net_peer_send(&peer, &data);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, fin.seq + 1);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_READABLE | STREAM_HALF_CLOSED);
    net_peer_close(&peer);
}

/* RFC 1122 §4.2.2.13. */
static void data_after_the_session_has_gone_are_reset(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    net_peer_let_go(&peer);
    struct net_segment fin = net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    data.ack = fin.seq + 1;
    net_peer_send(&peer, &data); /* nothing but the acknowledgement */
    net_peer_expect_none(&peer);
    data.size = 6;
    net_peer_send(&peer, &data);
    assert_int_equal(net_peer_expect(&peer, TCP_RST | TCP_ACK).seq, fin.seq + 1);
    assert_int_equal(peer.stack->tcp.table.used, 0);
    net_peer_close(&peer);
}

static void a_released_stream_does_not_linger_for_ever(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "never acknowledged");
    net_peer_let_go(&peer);
    assert_int_equal(peer.stack->tcp.orphan_count, 1);
    net_peer_wait(&peer, 61 * SECOND_NS);
    assert_int_equal(peer.stack->counters.tcp_aborts_on_linger, 1);
    assert_int_equal(peer.stack->tcp.orphan_count + peer.stack->tcp.table.used, 0);
    net_peer_close(&peer);
}

/* As long as the peer takes some of it, if only a byte at a time. */
static void a_released_stream_lingers_as_long_as_it_gets_on(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "much, to a slow reader");
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.ack = net_peer_conn(&peer)->snd_una;
    net_peer_let_go(&peer);
    for (unsigned i = 0; i < 5; i++) {
        net_peer_wait(&peer, 50 * SECOND_NS);
        ack.ack++;
        net_peer_send(&peer, &ack);
    }
    assert_int_equal(peer.stack->tcp.orphan_count, 1);
    ack.window = 0;
    for (unsigned i = 0; i < 5; i++) { /* that it lives is not enough */
        net_peer_wait(&peer, 11 * SECOND_NS);
        net_peer_send(&peer, &ack);
    }
    assert_int_equal(peer.stack->tcp.orphan_count, 1);
    net_peer_wait(&peer, 6 * SECOND_NS);
    assert_int_equal(peer.stack->counters.tcp_aborts_on_linger, 1);
    assert_int_equal(peer.stack->tcp.orphan_count + peer.stack->tcp.table.used, 0);
    net_peer_close(&peer);
}

static void an_orphan_waits_only_so_long_for_its_peers_fin(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    net_peer_let_go(&peer);
    ack.ack = net_peer_expect(&peer, TCP_ACK | TCP_FIN).seq + 1;
    net_peer_send(&peer, &ack);
    net_peer_wait(&peer, 59 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.table.used, 1);
    net_peer_wait(&peer, 2 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.table.used, 0);
    net_peer_close(&peer);
}

static void the_oldest_orphan_gives_way(void **state)
{
    (void)state;
    const struct stack_limits limits = {.orphan_max = 2};
    net_peer_open(&peer, &limits);
    for (uint16_t i = 0; i < 3; i++) {
        struct net_segment syn = {.port = (uint16_t)(5000 + i)};
        net_peer_shake_hands(&peer, &syn);
        net_peer_let_go(&peer);
        net_peer_forget(&peer);
    }
    assert_int_equal(peer.stack->counters.tcp_aborts_on_memory, 1);
    assert_int_equal(peer.stack->tcp.orphan_count, 2);
    net_peer_wait(&peer, 61 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.orphan_count, 0);
    net_peer_close(&peer);
}

/* ---- TIME-WAIT ---- */

/* Returns the segment with which the peer has closed. */
static struct net_segment into_time_wait(void)
{
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_ACK | TCP_FIN);
    struct net_segment fin = net_peer_next(&peer, TCP_ACK | TCP_FIN);
    net_peer_send(&peer, &fin);
    net_peer_expect(&peer, TCP_ACK);
    net_peer_let_go(&peer);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    return fin;
}

static void time_wait_answers_a_fin_again_and_waits_anew(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct net_segment fin = into_time_wait();
    net_peer_wait(&peer, 50 * SECOND_NS);
    net_peer_send(&peer, &fin);
    struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.ack, fin.seq + 1);
    assert_int_equal(ack.seq, fin.ack);
    assert_true(ack.timestamp);
    net_peer_wait(&peer, 50 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_wait(&peer, 11 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.time_waits.used, 0);
    net_peer_close(&peer);
}

static void time_wait_is_not_ended_by_a_reset(void **state) /* RFC 1337 */
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment reset = into_time_wait();
    reset.seq++;
    reset.flags = TCP_RST;
    net_peer_send(&peer, &reset);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void time_wait_gives_way_to_a_newer_timestamp_only(void **state) /* RFC 6191 */
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct net_segment fin = into_time_wait();
    struct net_segment syn = {
        .seq = fin.seq - 5000, .flags = TCP_SYN, .timestamp = true, .ts_value = 6};
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_ACK);
    syn.ts_value = 8;
    net_peer_send(&peer, &syn);
    assert_int_equal(net_peer_expect(&peer, TCP_SYN | TCP_ACK).ack, syn.seq + 1);
    assert_int_equal(peer.stack->tcp.time_waits.used, 0);
    net_peer_close(&peer);
}

/* RFC 1122 §4.2.2.13 (a), (b). */
static void without_timestamps_a_new_connection_has_higher_numbers_in_both_directions(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    /* As if four hundred megabytes had been sent. */
    conn->snd_una += 400u << 20;
    conn->snd_nxt = conn->snd_max = conn->snd_una;
    struct net_segment fin = into_time_wait();
    struct net_segment syn = {.seq = fin.seq - 5000, .flags = TCP_SYN};
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_ACK);
    syn.seq = fin.seq + 5000;
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    assert_true(seq_before(fin.ack, answer.seq));
    net_peer_close(&peer);
}

static void time_wait_is_not_ended_by_a_syn_that_nobody_listens_for(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment fin = into_time_wait();
    peer.network->ops->unlisten(peer.network, peer.listener);
    const struct net_segment syn = {.seq = fin.seq + 5000, .flags = TCP_SYN};
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_close(&peer);
}

static void an_acknowledgement_that_overtakes_the_fin_is_no_late_data(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK), fin = ack;
    net_peer_let_go(&peer);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_FIN | TCP_ACK);
    fin.flags = TCP_FIN | TCP_ACK;
    fin.ack = ++ack.ack;
    ack.seq = fin.seq + 1;
    net_peer_send(&peer, &ack);
    struct net_segment answer;
    while (net_peer_take(&peer, &answer)) {
        assert_int_equal(answer.flags & TCP_RST, 0);
    }
    net_peer_send(&peer, &fin);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, fin.seq + 1);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_close(&peer);
}

/* ---- our own SYN, and TIME-WAIT ---- */

static int connect_from(uint16_t port, struct stream **stream)
{
    struct connect_request request;
    memset(&request, 0, sizeof(request));
    assert_int_equal(endpoint_parse(&request.to, slice_text("10.0.0.2:25")), 0);
    assert_int_equal(endpoint_parse(&request.from, slice_text("10.0.0.1:0")), 0);
    request.from.port = port;
    return peer.network->ops->connect(peer.network, &request, stream);
}

/* An outgoing connection that we close first. Returns its port. */
static uint16_t connect_and_close(bool timestamps)
{
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    const struct net_segment answer = {.port = 25,
                                       .to = syn.to,
                                       .seq = 5000,
                                       .ack = syn.seq + 1,
                                       .flags = TCP_SYN | TCP_ACK,
                                       .window = 65535,
                                       .timestamp = timestamps,
                                       .ts_value = 7,
                                       .ts_echo = syn.ts_value};
    net_peer_send(&peer, &answer);
    net_peer_expect(&peer, TCP_ACK);
    return syn.to;
}

/* RFC 6191 §2, seen from the other side: to the peer a SYN with a newer timestamp is what it is. */
static void our_own_time_wait_gives_way_to_a_new_connection_with_timestamps(void **state)
{
    (void)state;
    struct stream *stream;
    net_peer_open(&peer, NULL);
    uint16_t port = connect_and_close(true);
    struct tcp_conn *conn = net_peer_conn(&peer);
    conn->snd_una += 400u << 20; /* as if it had been faster than the clock of the numbers */
    conn->snd_nxt = conn->snd_max = conn->snd_una;
    uint32_t snd_nxt = into_time_wait().ack;
    assert_int_equal(connect_from(port, &stream), -EADDRINUSE); /* its clock must have moved on */
    net_peer_wait(&peer, SECOND_NS);
    assert_int_equal(connect_from(port, &stream), 0);
    assert_int_equal(peer.stack->tcp.time_waits.used, 0);
    assert_int_equal(peer.stack->counters.tcp_time_wait_reused, 1);
    net_peer_round(&peer);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    assert_int_equal(syn.to, port);
    assert_true(seq_before(snd_nxt, syn.seq));
    stream_release(stream);
    net_peer_close(&peer);
}

static void without_timestamps_our_time_wait_lasts(void **state)
{
    (void)state;
    struct stream *stream;
    net_peer_open(&peer, NULL);
    uint16_t port = connect_and_close(false);
    into_time_wait();
    net_peer_wait(&peer, 50 * SECOND_NS);
    assert_int_equal(connect_from(port, &stream), -EADDRINUSE);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_wait(&peer, 11 * SECOND_NS);
    assert_int_equal(connect_from(port, &stream), 0);
    stream_release(stream);
    net_peer_close(&peer);
}

static void a_connection_that_there_is_no_room_for_leaves_time_wait_alone(void **state)
{
    (void)state;
    const struct stack_limits limits = {.connection_max = 1};
    struct stream *stream;
    net_peer_open(&peer, &limits);
    uint16_t port = connect_and_close(true);
    into_time_wait();
    net_peer_wait(&peer, 2 * SECOND_NS);
    net_peer_connect(&peer, 0);
    net_peer_forget(&peer);
    assert_int_equal(connect_from(port, &stream), -ENOBUFS);
    assert_int_equal(peer.stack->tcp.time_waits.used, 1);
    net_peer_close(&peer);
}

/* It answers with the last acknowledgement of the connection before. A reset tells it that this is
 * over, unless it heeds RFC 1337; the SYN comes again and is newer. */
static void our_syn_to_a_peer_in_time_wait_is_sent_again_until_it_is_taken(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    const struct net_segment old = {.port = 25,
                                    .to = syn.to,
                                    .seq = 777,
                                    .ack = syn.seq - 1000,
                                    .flags = TCP_ACK,
                                    .window = 65535};
    net_peer_send(&peer, &old);
    assert_int_equal(net_peer_expect(&peer, TCP_RST).seq, old.ack);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_SYN_SENT);
    net_peer_wait(&peer, 1100 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_SYN).seq, syn.seq);
    const struct net_segment answer = {.port = 25,
                                       .to = syn.to,
                                       .seq = 90000,
                                       .ack = syn.seq + 1,
                                       .flags = TCP_SYN | TCP_ACK,
                                       .window = 65535};
    net_peer_send(&peer, &answer);
    net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_peer_may_close_first_and_still_be_sent_to),
        cmocka_unit_test(we_may_close_first_and_still_read),
        cmocka_unit_test(both_may_close_at_once),
        cmocka_unit_test(the_ack_that_ends_closing_is_not_answered),
        cmocka_unit_test(a_fin_that_overtakes_its_data_is_answered_at_once),
        cmocka_unit_test(data_after_the_session_has_gone_are_reset),
        cmocka_unit_test(a_released_stream_does_not_linger_for_ever),
        cmocka_unit_test(a_released_stream_lingers_as_long_as_it_gets_on),
        cmocka_unit_test(an_orphan_waits_only_so_long_for_its_peers_fin),
        cmocka_unit_test(the_oldest_orphan_gives_way),
        cmocka_unit_test(time_wait_answers_a_fin_again_and_waits_anew),
        cmocka_unit_test(time_wait_is_not_ended_by_a_reset),
        cmocka_unit_test(time_wait_gives_way_to_a_newer_timestamp_only),
        cmocka_unit_test(without_timestamps_a_new_connection_has_higher_numbers_in_both_directions),
        cmocka_unit_test(time_wait_is_not_ended_by_a_syn_that_nobody_listens_for),
        cmocka_unit_test(an_acknowledgement_that_overtakes_the_fin_is_no_late_data),
        cmocka_unit_test(our_own_time_wait_gives_way_to_a_new_connection_with_timestamps),
        cmocka_unit_test(without_timestamps_our_time_wait_lasts),
        cmocka_unit_test(a_connection_that_there_is_no_room_for_leaves_time_wait_alone),
        cmocka_unit_test(our_syn_to_a_peer_in_time_wait_is_sent_again_until_it_is_taken),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
