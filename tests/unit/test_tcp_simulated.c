/* What the simulator has found, each by the smallest exchange that shows it. */
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;
static uint8_t text[STREAM_WRITE_MAX];

static void write_bytes(size_t count)
{
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(text, count)), 0);
    net_peer_round(&peer);
}

static void nothing_ends_behind(uint32_t edge)
{
    struct net_segment segment;
    while (net_peer_take(&peer, &segment)) {
        assert_true(seq_at_or_before(segment.seq + segment.size, edge));
    }
}

/* The window of the newest segment was kept while an older one moved its left edge: what it let go
 * then reached further than the peer had ever said. */
static void the_window_is_that_of_the_segment_which_acknowledges_news(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una, seq = conn->rcv_nxt;
    write_bytes(2920);
    struct net_segment early = net_peer_next(&peer, TCP_ACK);
    early.seq = seq + 100;
    early.ack = una;
    early.window = 8000;
    early.size = 100;
    net_peer_send(&peer, &early);
    struct net_segment missing = early;
    missing.seq = seq;
    missing.ack = una + 1460;
    missing.window = 6540;
    net_peer_send(&peer, &missing);
    assert_int_equal(conn->snd_una, una + 1460);
    assert_int_equal(conn->snd_wnd, 6540);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

/* Behind the last range that the peer holds there is no hole: what lies there was never sent. */
static void nothing_new_is_sent_in_the_place_of_a_rescue(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t una = conn->snd_una, mss = conn->mss;
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    ack.window = (uint16_t)((5 * mss >> conn->snd_scale) + 1);
    net_peer_send(&peer, &ack);
    write_bytes(8u * mss);
    assert_int_equal(net_peer_take_all(&peer), 5);
    ack.ack = una;
    ack.ranges[0] = (struct tcp_range){una + 2 * mss, una + 5 * mss};
    ack.range_count = 1;
    for (unsigned i = 0; i < 3; i++) { /* both holes are filled */
        net_peer_send(&peer, &ack);
        nothing_ends_behind(una + 5 * mss);
    }
    ack.ack = una + mss; /* the window still ends where it did */
    ack.window = (uint16_t)((4 * mss >> conn->snd_scale) + 1);
    net_peer_send(&peer, &ack);
    nothing_ends_behind(una + 5 * mss);
    net_peer_wait(&peer, 2000 * MS_NS);
    nothing_ends_behind(una + 5 * mss);
    net_peer_close(&peer);
}

static struct net_segment client_syn(uint16_t port)
{
    return (struct net_segment){.port = port,
                                .seq = 1000u * port,
                                .flags = TCP_SYN,
                                .window = 5000,
                                .mss = 1300,
                                .scale = 6,
                                .sack_permitted = true,
                                .timestamp = true,
                                .ts_value = 55};
}

static struct net_segment answer_to(const struct net_segment *syn, const struct net_segment *ours)
{
    struct net_segment ack = *syn;
    ack.flags = TCP_ACK;
    ack.seq = syn->seq + 1;
    ack.ack = ours->seq + 1;
    ack.mss = 0;
    ack.scale = 0;
    ack.sack_permitted = false;
    ack.ts_value = syn->ts_value + 1;
    ack.ts_echo = ours->ts_value;
    return ack;
}

/* Its ACK and all of its data were lost; what comes again is an empty segment behind the data. */
static void a_client_that_has_filled_the_window_ends_its_handshake(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    struct net_segment syn = client_syn(2000);
    net_peer_send(&peer, &syn);
    struct net_segment ours = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    struct net_segment ack = answer_to(&syn, &ours);
    ack.seq += ours.window;
    net_peer_send(&peer, &ack);
    assert_int_equal(peer.stream_count, 1);
    net_peer_close(&peer);
}

static void a_fin_may_come_with_the_answer_to_a_cookie(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 1};
    net_peer_open(&peer, &limits);
    struct net_segment first = client_syn(2000), syn = client_syn(2001);
    net_peer_send(&peer, &first);
    net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    net_peer_send(&peer, &syn);
    struct net_segment ours = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    assert_int_equal(peer.stack->counters.tcp_syn_cookies_sent, 1);
    struct net_segment all = answer_to(&syn, &ours);
    all.flags |= TCP_FIN;
    all.size = 10;
    net_peer_send(&peer, &all);
    assert_int_equal(peer.stream_count, 1);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_CLOSE_WAIT);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

/* The first SYN met a full table and got a cookie, its repetition met an empty one and got an entry;
 * the client answers what it received first. */
static void a_cookie_counts_though_a_later_syn_has_got_an_entry(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 1};
    net_peer_open(&peer, &limits);
    struct net_segment first = client_syn(2000), syn = client_syn(2001);
    net_peer_send(&peer, &first);
    struct net_segment ours = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    net_peer_send(&peer, &syn);
    struct net_segment cookie = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    struct net_segment ack = answer_to(&first, &ours);
    net_peer_send(&peer, &ack);
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    assert_int_equal(peer.stack->tcp.half_opens.used, 1);
    ack = answer_to(&syn, &cookie);
    net_peer_send(&peer, &ack);
    assert_int_equal(peer.stream_count, 2);
    assert_int_equal(peer.stack->tcp.half_opens.used, 0);
    assert_int_equal(net_peer_conn(&peer)->iss, cookie.seq);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

/* Its SYN was answered, and what the answer was about forgotten in the same moment. */
static void a_client_that_asks_again_late_is_waited_for(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    struct net_segment syn = client_syn(2000);
    net_peer_send(&peer, &syn);
    struct net_segment ours = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    net_peer_wait(&peer, 62900 * MS_NS); /* given up after 63 s */
    assert_int_equal(peer.stack->tcp.half_opens.used, 1);
    net_peer_send(&peer, &syn);
    net_peer_wait(&peer, 1000 * MS_NS);
    net_peer_forget(&peer);
    struct net_segment ack = answer_to(&syn, &ours);
    net_peer_send(&peer, &ack);
    assert_int_equal(peer.stream_count, 1);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_is_that_of_the_segment_which_acknowledges_news),
        cmocka_unit_test(nothing_new_is_sent_in_the_place_of_a_rescue),
        cmocka_unit_test(a_client_that_has_filled_the_window_ends_its_handshake),
        cmocka_unit_test(a_fin_may_come_with_the_answer_to_a_cookie),
        cmocka_unit_test(a_cookie_counts_though_a_later_syn_has_got_an_entry),
        cmocka_unit_test(a_client_that_asks_again_late_is_waited_for),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
