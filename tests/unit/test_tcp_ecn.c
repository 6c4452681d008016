/* Explicit congestion notification: RFC 3168. */
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

static struct net_segment syn_with(uint8_t flags, uint8_t ecn)
{
    return (struct net_segment){.seq = 1000,
                                .flags = TCP_SYN | flags,
                                .ecn = ecn,
                                .window = 65535,
                                .scale = 8,
                                .sack_permitted = true,
                                .timestamp = true,
                                .ts_value = 7};
}

/* The ACK that ends the handshake which `syn` began. */
static struct tcp_conn *finish(const struct net_segment *syn, const struct net_segment *answer)
{
    const struct net_segment ack = {.seq = syn->seq + 1,
                                    .ack = answer->seq + 1,
                                    .flags = TCP_ACK,
                                    .window = 65535,
                                    .timestamp = true,
                                    .ts_value = 8,
                                    .ts_echo = answer->ts_value};
    net_peer_send(&peer, &ack);
    return net_peer_conn(&peer);
}

static struct tcp_conn *open_accepted(void)
{
    const struct net_segment syn = syn_with(TCP_ECE | TCP_CWR, TCP_NOT_ECT);
    net_peer_open(&peer, NULL);
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK | TCP_ECE);
    return finish(&syn, &answer);
}

static void write_segments(unsigned count)
{
    static uint8_t bytes[STREAM_WRITE_MAX];
    size_t size = (size_t)count * net_peer_conn(&peer)->mss;
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(bytes, size)), 0);
    net_peer_round(&peer);
}

static void acknowledge(uint32_t seq, uint8_t flags)
{
    struct net_segment ack = net_peer_next(&peer, TCP_ACK | flags);
    ack.ack = seq;
    net_peer_send(&peer, &ack);
}

static void data_arrive(uint8_t flags, uint8_t ecn)
{
    struct net_segment data = net_peer_next(&peer, TCP_ACK | flags);
    data.ecn = ecn;
    data.size = 100;
    net_peer_send(&peer, &data);
}

/* ---- what both agree on ---- */

static void a_client_that_asks_is_answered_and_others_are_not(void **state)
{
    (void)state;
    static const struct {
        enum stack_ecn setting;
        uint8_t flags, ecn;
        uint8_t answer;
        const char *why;
    } cases[] = {
        {STACK_ECN_ACCEPT, TCP_ECE | TCP_CWR, TCP_NOT_ECT, TCP_ECE, "as it should be"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_NOT_ECT, TCP_ECE, "as it should be"},
        {STACK_ECN_OFF, TCP_ECE | TCP_CWR, TCP_NOT_ECT, 0, "turned off"},
        {STACK_ECN_ASK, 0, TCP_NOT_ECT, 0, "not asked"},
        {STACK_ECN_ASK, TCP_ECE, TCP_NOT_ECT, 0, "half of the flags: no SYN of RFC 3168"},
        {STACK_ECN_ASK, TCP_CWR, TCP_NOT_ECT, 0, "half of the flags"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_CE, 0, "a SYN cannot be marked: the path lies"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_ECT_0, 0, "nor be markable"},
    };
    for (size_t i = 0; i < RTE_DIM(cases); i++) {
        const struct net_segment syn = syn_with(cases[i].flags, cases[i].ecn);
        net_peer_open_ecn(&peer, NULL, cases[i].setting);
        net_peer_send(&peer, &syn);
        struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK | cases[i].answer);
        assert_int_equal(answer.ecn, TCP_NOT_ECT);
        struct tcp_conn *conn = finish(&syn, &answer);
        assert_int_equal(conn->ecn, cases[i].answer != 0);
        assert_int_equal(conn->ect, cases[i].answer != 0);
        net_peer_close(&peer);
    }
}

static void through_a_cookie_it_is_agreed_too(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 1};
    struct net_segment first = {.port = 4001, .flags = TCP_SYN, .seq = 1};
    const struct net_segment syn = syn_with(TCP_ECE | TCP_CWR, TCP_NOT_ECT);
    net_peer_open(&peer, &limits);
    net_peer_send(&peer, &first);
    net_peer_forget(&peer);
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK | TCP_ECE);
    assert_int_equal(peer.stack->counters.tcp_syn_cookies_sent, 1);
    struct tcp_conn *conn = finish(&syn, &answer);
    assert_true(conn->ecn && conn->ect);
    net_peer_close(&peer);
}

static void a_client_that_asks_no_more_when_it_asks_again_is_sent_nothing_to_mark(void **state)
{
    (void)state;
    const struct net_segment syn = syn_with(TCP_ECE | TCP_CWR, TCP_NOT_ECT);
    const struct net_segment plain = syn_with(0, TCP_NOT_ECT);
    net_peer_open(&peer, NULL);
    net_peer_send(&peer, &syn);
    net_peer_forget(&peer);
    net_peer_send(&peer, &plain);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK | TCP_ECE);
    struct tcp_conn *conn = finish(&plain, &answer);
    write_segments(1);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).ecn, TCP_NOT_ECT);
    assert_true(conn->ecn);
    net_peer_close(&peer);
}

static struct net_segment answer_to(const struct net_segment *syn, uint8_t flags, uint8_t ecn)
{
    return (struct net_segment){.to = syn->port == 0 ? 0 : net_peer_conn(&peer)->tuple.local_port,
                                .port = 25,
                                .seq = 5000,
                                .ack = syn->seq + 1,
                                .flags = TCP_SYN | TCP_ACK | flags,
                                .window = 65535,
                                .ecn = ecn};
}

static void we_ask_when_told_to_and_heed_the_answer(void **state)
{
    (void)state;
    static const struct {
        enum stack_ecn setting;
        uint8_t asked, flags, ecn;
        bool agreed, marks;
        const char *why;
    } cases[] = {
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_ECE, TCP_NOT_ECT, true, true, "yes"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, 0, TCP_NOT_ECT, false, false, "no"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_ECE | TCP_CWR, TCP_NOT_ECT, false, false,
         "it mirrors flags that it does not know"},
        {STACK_ECN_ASK, TCP_ECE | TCP_CWR, TCP_ECE, TCP_CE, true, false, "the path lies"},
        {STACK_ECN_ACCEPT, 0, TCP_ECE, TCP_NOT_ECT, false, false, "we did not ask"},
        {STACK_ECN_OFF, 0, TCP_ECE, TCP_NOT_ECT, false, false, "we did not ask"},
    };
    for (size_t i = 0; i < RTE_DIM(cases); i++) {
        net_peer_open_ecn(&peer, NULL, cases[i].setting);
        net_peer_connect(&peer, 0);
        struct net_segment syn = net_peer_expect(&peer, TCP_SYN | cases[i].asked);
        assert_int_equal(syn.ecn, TCP_NOT_ECT);
        struct net_segment answer = answer_to(&syn, cases[i].flags, cases[i].ecn);
        net_peer_send(&peer, &answer);
        net_peer_expect(&peer, TCP_ACK);
        assert_int_equal(net_peer_conn(&peer)->ecn, cases[i].agreed);
        write_segments(1);
        assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).ecn,
                         cases[i].marks ? TCP_ECT_0 : TCP_NOT_ECT);
        net_peer_close(&peer);
    }
}

static void a_syn_that_is_lost_goes_again_without_asking(void **state)
{
    (void)state;
    net_peer_open_ecn(&peer, NULL, STACK_ECN_ASK);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN | TCP_ECE | TCP_CWR);
    net_peer_wait(&peer, 1100 * MS_NS);
    net_peer_expect(&peer, TCP_SYN);
    /* The first was not lost after all: its answer is valid, but we have said otherwise since. */
    struct net_segment answer = answer_to(&syn, TCP_ECE, TCP_NOT_ECT);
    net_peer_send(&peer, &answer);
    net_peer_expect(&peer, TCP_ACK);
    write_segments(1);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).ecn, TCP_NOT_ECT);
    assert_true(net_peer_conn(&peer)->ecn);
    net_peer_close(&peer);
}

/* ---- receiving ---- */

static void a_mark_is_told_until_the_sender_has_slowed_down(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_accepted();
    conn->quick_acks = 0;
    data_arrive(0, TCP_ECT_0);
    net_peer_expect_none(&peer);
    data_arrive(0, TCP_CE);
    net_peer_expect(&peer, TCP_ACK | TCP_ECE); /* at once */
    data_arrive(0, TCP_ECT_0);
    net_peer_wait(&peer, 40 * MS_NS);
    net_peer_expect(&peer, TCP_ACK | TCP_ECE);
    write_segments(1);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH | TCP_ECE);
    data_arrive(TCP_CWR, TCP_ECT_0);
    net_peer_wait(&peer, 40 * MS_NS);
    net_peer_expect(&peer, TCP_ACK);
    data_arrive(TCP_CWR, TCP_CE); /* and is marked again */
    net_peer_expect(&peer, TCP_ACK | TCP_ECE);
    assert_int_equal(peer.stack->counters.tcp_ce_in, 2);
    net_peer_close(&peer);
}

static void who_has_not_agreed_is_told_of_no_mark(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    data_arrive(TCP_CWR | TCP_ECE, TCP_CE);
    net_peer_wait(&peer, 40 * MS_NS);
    net_peer_expect(&peer, TCP_ACK);
    net_peer_close(&peer);
}

/* ---- sending ---- */

static void only_new_data_may_be_marked(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_accepted();
    uint32_t una = conn->snd_una;
    write_segments(2);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ecn, TCP_ECT_0);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).ecn, TCP_ECT_0);
    net_peer_wait(&peer, 1500 * MS_NS); /* lost */
    struct net_segment again;
    unsigned count = 0;
    for (; net_peer_take(&peer, &again); count++) {
        assert_true(seq_before(again.seq, una + 2u * conn->mss));
        assert_int_equal(again.ecn, TCP_NOT_ECT);
    }
    assert_true(count > 0);
    acknowledge(conn->snd_max, 0);
    data_arrive(0, TCP_ECT_0);
    net_peer_wait(&peer, 40 * MS_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ecn, TCP_NOT_ECT);
    net_peer_close(&peer);
}

static void marks_slow_us_down_once_in_a_window_and_we_say_so(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_accepted();
    uint32_t una = conn->snd_una, mss = conn->mss;
    write_segments(10);
    net_peer_forget(&peer);
    acknowledge(una + 2 * mss, TCP_ECE);
    uint32_t cwnd = conn->congestion.cwnd;
    assert_in_range(cwnd, 4 * mss, 8 * mss);
    acknowledge(una + 6 * mss, TCP_ECE);
    acknowledge(una + 10 * mss, TCP_ECE);
    assert_in_range(conn->congestion.cwnd, cwnd, cwnd + mss); /* not again */
    net_peer_expect_none(&peer);                              /* nothing was lost */
    assert_int_equal(peer.stack->counters.tcp_ecn_reductions, 1);
    write_segments(2);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_CWR).ecn, TCP_ECT_0);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH); /* once */
    acknowledge(conn->snd_max, TCP_ECE);       /* marked after that: again */
    assert_int_equal(peer.stack->counters.tcp_ecn_reductions, 2);
    net_peer_close(&peer);
}

static void a_path_that_marks_everything_is_not_asked_again(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_accepted();
    for (unsigned i = 0; i < 20; i++) {
        write_segments(2);
        net_peer_forget(&peer);
        acknowledge(conn->snd_max, TCP_ECE);
    }
    assert_int_equal(peer.stack->counters.tcp_ecn_given_up, 1);
    assert_in_range(peer.stack->counters.tcp_ecn_reductions, 1, 12);
    uint32_t cwnd = conn->congestion.cwnd;
    for (unsigned i = 0; i < 10; i++) { /* and goes on as without */
        write_segments(11);
        net_peer_forget(&peer);
        acknowledge(conn->snd_max, TCP_ECE);
    }
    assert_true(conn->congestion.cwnd > cwnd);
    acknowledge(conn->snd_max, 0);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ecn, TCP_NOT_ECT);
    net_peer_close(&peer);
}

static void a_window_without_marks_in_between_is_congestion_as_it_should_be(void **state)
{
    (void)state;
    struct tcp_conn *conn = open_accepted();
    for (unsigned i = 0; i < 40; i++) {
        write_segments(2);
        net_peer_forget(&peer);
        acknowledge(conn->snd_max, i % 5 == 0 ? 0 : TCP_ECE);
    }
    assert_int_equal(peer.stack->counters.tcp_ecn_given_up, 0);
    assert_true(conn->ect);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_asks_is_answered_and_others_are_not),
        cmocka_unit_test(through_a_cookie_it_is_agreed_too),
        cmocka_unit_test(a_client_that_asks_no_more_when_it_asks_again_is_sent_nothing_to_mark),
        cmocka_unit_test(we_ask_when_told_to_and_heed_the_answer),
        cmocka_unit_test(a_syn_that_is_lost_goes_again_without_asking),
        cmocka_unit_test(a_mark_is_told_until_the_sender_has_slowed_down),
        cmocka_unit_test(who_has_not_agreed_is_told_of_no_mark),
        cmocka_unit_test(only_new_data_may_be_marked),
        cmocka_unit_test(marks_slow_us_down_once_in_a_window_and_we_say_so),
        cmocka_unit_test(a_path_that_marks_everything_is_not_asked_again),
        cmocka_unit_test(a_window_without_marks_in_between_is_congestion_as_it_should_be),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
