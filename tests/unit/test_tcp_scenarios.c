#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

/* ---- opening ---- */

static const struct stack_limits quarter_mib = {.receive_window_bytes = 262144};

static void a_syn_with_all_options_is_answered_with_all_and_without_with_none(void **state)
{
    (void)state;
    struct net_segment full = {.mss = 1400, .scale = 8, .sack_permitted = true};
    struct net_segment bare = {.port = 4001};
    full.timestamp = true;
    full.ts_value = 99;
    net_peer_open(&peer, &quarter_mib);
    struct net_segment answer = net_peer_shake_hands(&peer, &full);
    assert_int_equal(answer.mss, 1460);
    assert_int_equal(answer.scale, 3 + 1); /* 262144 in 65535s */
    assert_true(answer.sack_permitted && answer.timestamp);
    assert_int_equal(answer.ts_echo, 99);
    assert_int_equal(answer.window, 65535);
    assert_int_equal(net_peer_conn(&peer)->mss, 1400 - 12);
    assert_int_equal(net_peer_conn(&peer)->snd_scale, 7);
    answer = net_peer_shake_hands(&peer, &bare);
    assert_int_equal(answer.scale, 0);
    assert_false(answer.sack_permitted || answer.timestamp);
    assert_int_equal(peer.stream_count, 2);
    net_peer_close(&peer);
}

static void a_syn_ack_is_sent_again_at_1_3_7_15_and_31_s_and_given_up_after_63(void **state)
{
    (void)state;
    static const uint64_t waits_s[] = {1, 2, 4, 8, 16};
    const struct net_segment syn = {.seq = 1000, .flags = TCP_SYN, .window = 1000};
    struct net_segment answer;
    net_peer_open(&peer, NULL);
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    for (unsigned i = 0; i < RTE_DIM(waits_s); i++) {
        uint64_t last_ns = peer.world.now_ns;
        net_peer_wait(&peer, waits_s[i] * SECOND_NS - 20 * MS_NS);
        net_peer_expect_none(&peer);
        while (!net_peer_take(&peer, &answer)) { /* the timer looks every 250 ms */
            assert_true(peer.world.now_ns < last_ns + waits_s[i] * SECOND_NS + 300 * MS_NS);
            net_peer_wait(&peer, 10 * MS_NS);
        }
        assert_int_equal(answer.flags, TCP_SYN | TCP_ACK);
    }
    net_peer_wait(&peer, 31 * SECOND_NS);
    assert_int_equal(peer.stack->tcp.half_opens.used, 1);
    net_peer_wait(&peer, 2 * SECOND_NS);
    net_peer_expect_none(&peer);
    assert_int_equal(peer.stack->tcp.half_opens.used, 0);
    net_peer_close(&peer);
}

static void a_half_open_connection_answers_a_strange_syn_with_a_whole_acknowledgement(void **state)
{
    (void)state;
    struct net_segment syn = {.seq = 1000, .flags = TCP_SYN, .scale = 8, .timestamp = true};
    net_peer_open(&peer, &quarter_mib);
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    syn.seq = 777000;
    net_peer_send(&peer, &syn);
    struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(ack.seq, answer.seq + 1);
    assert_int_equal(ack.ack, 1001);
    assert_true(ack.timestamp); /* RFC 7323 §3.2: in every segment once both have it */
    assert_int_equal(ack.window, 65535 >> 3);
    /* A client that knows nothing of it resets it, and may begin anew. */
    const struct net_segment reset = {.seq = ack.ack, .flags = TCP_RST};
    net_peer_send(&peer, &reset);
    assert_int_equal(peer.stack->tcp.half_opens.used, 0);
    net_peer_close(&peer);
}

static void a_wrong_acknowledgement_of_a_syn_ack_is_reset(void **state)
{
    (void)state;
    const struct net_segment syn = {.seq = 1000, .flags = TCP_SYN, .window = 1000};
    net_peer_open(&peer, NULL);
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    const struct net_segment wrong = {
        .seq = 1001, .ack = answer.seq + 2, .flags = TCP_ACK, .window = 9};
    net_peer_send(&peer, &wrong);
    assert_int_equal(net_peer_expect(&peer, TCP_RST).seq, answer.seq + 2);
    assert_int_equal(peer.stack->tcp.half_opens.used, 1);
    net_peer_close(&peer);
}

static void the_window_of_a_syn_ack_is_never_scaled(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    const struct net_segment answer = {.port = 25,
                                       .to = syn.to,
                                       .seq = 500,
                                       .ack = syn.seq + 1,
                                       .flags = TCP_SYN | TCP_ACK,
                                       .window = 1000,
                                       .scale = 8};
    net_peer_send(&peer, &answer);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CONNECTED);
    assert_int_equal(net_peer_conn(&peer)->snd_wnd, 1000);
    net_peer_close(&peer);
}

static void a_connection_that_is_refused_says_so(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    struct net_segment reset = {
        .port = 25, .to = syn.to, .ack = syn.seq, .flags = TCP_RST | TCP_ACK};
    net_peer_send(&peer, &reset); /* acknowledges nothing of ours: anybody could say it */
    assert_int_equal(net_peer_last(&peer)->events, 0);
    reset.ack = syn.seq + 1;
    net_peer_send(&peer, &reset);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CLOSED);
    assert_int_equal(net_peer_last(&peer)->error, -ECONNREFUSED);
    net_peer_close(&peer);
}

static void a_syn_ack_of_another_connection_is_reset_and_ours_goes_on(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    const struct net_segment stale = {
        .port = 25, .to = syn.to, .seq = 9, .ack = 12345, .flags = TCP_SYN | TCP_ACK};
    net_peer_send(&peer, &stale);
    assert_int_equal(net_peer_expect(&peer, TCP_RST).seq, 12345);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_SYN_SENT);
    net_peer_close(&peer);
}

static void a_connection_without_an_answer_is_given_up_in_time(void **state)
{
    (void)state;
    struct net_segment syn;
    unsigned count = 0;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 10 * SECOND_NS);
    net_peer_wait(&peer, 9900 * MS_NS);
    for (; net_peer_take(&peer, &syn); count++) {
        assert_int_equal(syn.flags, TCP_SYN);
    }
    assert_int_equal(count, 4); /* 0, 1, 3, 7 s */
    net_peer_wait(&peer, 200 * MS_NS);
    assert_int_equal(net_peer_last(&peer)->error, -ETIMEDOUT);
    net_peer_close(&peer);
}

/* RFC 6298 §5.7. */
static void after_a_lost_syn_the_first_data_wait_three_seconds(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    net_peer_wait(&peer, 1500 * MS_NS);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    const struct net_segment answer = {.port = 25,
                                       .to = syn.to,
                                       .seq = 500,
                                       .ack = syn.seq + 1,
                                       .flags = TCP_SYN | TCP_ACK,
                                       .window = 1000};
    net_peer_send(&peer, &answer);
    assert_int_equal(net_peer_conn(&peer)->rto_ms, 3000);
    net_peer_close(&peer);
}

static void both_may_open_at_once(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    struct net_segment syn = net_peer_expect(&peer, TCP_SYN);
    struct net_segment own = {.port = 25, .to = syn.to, .seq = 500, .flags = TCP_SYN};
    own.window = 3000;
    net_peer_send(&peer, &own);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    assert_int_equal(answer.seq, syn.seq);
    assert_int_equal(answer.ack, 501);
    own.flags = TCP_SYN | TCP_ACK;
    own.ack = syn.seq + 1;
    net_peer_send(&peer, &own);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CONNECTED);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    assert_int_equal(net_peer_conn(&peer)->snd_wnd, 3000);
    net_peer_close(&peer);
}

static void a_session_that_stops_listening_is_offered_no_more(void **state)
{
    (void)state;
    struct net_segment acks[2];
    net_peer_open(&peer, NULL);
    peer.unlisten_when_accepted = true;
    for (uint16_t i = 0; i < 2; i++) {
        const struct net_segment syn = {
            .port = (uint16_t)(5000 + i), .seq = 1000, .flags = TCP_SYN, .window = 1000};
        net_peer_send(&peer, &syn);
        struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
        acks[i] = (struct net_segment){
            .port = syn.port, .seq = 1001, .ack = answer.seq + 1, .flags = TCP_ACK};
    }
    net_peer_put(&peer, &acks[0]);
    net_peer_put(&peer, &acks[1]);
    net_peer_round(&peer);
    assert_int_equal(peer.stream_count, 1);
    net_peer_expect(&peer, TCP_RST | TCP_ACK);
    net_peer_close(&peer);
}

/* ---- resets and what does not belong ---- */

static void a_segment_for_nobody_is_reset(void **state)
{
    (void)state;
    struct net_segment stray = {.to = 2525, .seq = 100, .flags = TCP_SYN, .size = 3};
    net_peer_open(&peer, NULL);
    net_peer_send(&peer, &stray);
    struct net_segment reset = net_peer_expect(&peer, TCP_RST | TCP_ACK);
    assert_int_equal(reset.seq, 0);
    assert_int_equal(reset.ack, 104);
    stray = (struct net_segment){.seq = 100, .ack = 555, .flags = TCP_ACK};
    net_peer_send(&peer, &stray);
    assert_int_equal(net_peer_expect(&peer, TCP_RST).seq, 555);
    stray.flags = TCP_RST;
    net_peer_send(&peer, &stray);
    stray.flags = TCP_SYN | TCP_FIN; /* to a listener */
    net_peer_send(&peer, &stray);
    net_peer_expect(&peer, TCP_RST | TCP_ACK);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void a_segment_with_a_wrong_checksum_is_not_looked_at(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.size = 10;
    data.wrong_checksum = true;
    net_peer_send(&peer, &data);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 0);
    assert_int_equal(peer.stack->counters.tcp_in_errors, 1);
    net_peer_wait(&peer, SECOND_NS);
    net_peer_expect_none(&peer);
    net_peer_close(&peer);
}

static void what_is_written_is_queued_until_it_is_acknowledged(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    const struct stream *stream = net_peer_last(&peer)->stream;
    assert_int_equal(stream_queued(stream), 0);
    net_peer_write(&peer, "hello");
    net_peer_round(&peer);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    assert_int_equal(stream_queued(stream), 5);
    ack.ack -= 2;
    net_peer_send(&peer, &ack);
    assert_int_equal(stream_queued(stream), 2);
    assert_int_equal(stream_unacknowledged(stream), 2);
    assert_false(net_peer_last(&peer)->events & STREAM_DRAINED);
    ack.ack += 2;
    net_peer_send(&peer, &ack);
    assert_int_equal(stream_queued(stream), 0);
    assert_true(net_peer_last(&peer)->events & STREAM_DRAINED);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

/* RFC 5961 §3.2. */
static void only_the_exact_number_resets(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment reset = net_peer_next(&peer, TCP_RST);
    uint32_t exact = reset.seq;
    reset.seq = exact - 1;
    net_peer_send(&peer, &reset);
    reset.seq = exact + 70000;
    net_peer_send(&peer, &reset);
    net_peer_expect_none(&peer);
    reset.seq = exact + 1;
    net_peer_send(&peer, &reset);
    struct net_segment challenge = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(challenge.ack, exact);
    net_peer_send(&peer, &reset); /* at a bounded rate */
    net_peer_expect_none(&peer);
    assert_int_equal(net_peer_last(&peer)->events, 0);
    reset.seq = exact;
    net_peer_send(&peer, &reset);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CLOSED);
    assert_int_equal(net_peer_last(&peer)->error, -ECONNRESET);
    net_peer_close(&peer);
}

/* RFC 5961 §4. */
static void a_syn_in_a_connection_is_challenged_whatever_its_number(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment syn = net_peer_next(&peer, TCP_SYN);
    uint32_t exact = syn.seq;
    for (int offset = -100000; offset <= 100000; offset += 100000) {
        syn.seq = exact + (uint32_t)offset;
        net_peer_wait(&peer, 300 * MS_NS);
        net_peer_send(&peer, &syn);
        assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, exact);
    }
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    net_peer_close(&peer);
}

/* RFC 5961 §5. */
static void an_acknowledgement_from_elsewhere_is_challenged_and_its_data_dropped(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.ack += 1; /* of what was never sent */
    data.size = 5;
    net_peer_send(&peer, &data);
    net_peer_expect(&peer, TCP_ACK);
    data.ack -= 100000; /* older than any window */
    net_peer_wait(&peer, 300 * MS_NS);
    net_peer_send(&peer, &data);
    net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 0);
    net_peer_close(&peer);
}

/* A peer that has been started anew knows of no timestamps: RFC 5961 §4 before RFC 7323 §3.2. */
static void a_syn_without_the_timestamp_that_was_agreed_on_is_challenged_too(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct net_segment syn = net_peer_next(&peer, TCP_SYN);
    uint32_t exact = syn.seq;
    for (unsigned i = 0; i < 4; i++) {
        syn.timestamp = i % 2 != 0; /* an old one, the second time */
        syn.ts_value = 6;
        syn.seq = i < 2 ? exact : exact + 100000;
        net_peer_wait(&peer, 300 * MS_NS);
        net_peer_send(&peer, &syn);
        struct net_segment ack = net_peer_expect(&peer, TCP_ACK);
        assert_int_equal(ack.ack, exact);
        assert_true(ack.timestamp);
    }
    assert_int_equal(peer.stack->counters.tcp_challenge_acks, 4);
    assert_int_equal(net_peer_conn(&peer)->state, TCP_ESTABLISHED);
    net_peer_close(&peer);
}

/* RFC 7323 §3.2. */
static void our_reset_carries_the_timestamp_that_was_agreed_on(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    net_peer_wait(&peer, 20 * MS_NS);
    uint32_t now = tcp_timestamp_now(peer.stack, net_peer_conn(&peer)->ts_offset);
    stream_abort(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    struct net_segment reset = net_peer_expect(&peer, TCP_RST | TCP_ACK);
    assert_true(reset.timestamp);
    assert_int_equal(reset.ts_value, now);
    assert_int_equal(reset.ts_echo, 7);
    net_peer_close(&peer);
    net_peer_open_plain(&peer);
    stream_abort(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    assert_false(net_peer_expect(&peer, TCP_RST | TCP_ACK).timestamp);
    net_peer_close(&peer);
}

/* RFC 6093 §6. Whatever the pointer says, the bytes are those of the stream, in order. */
static void urgent_bytes_stay_in_line_and_the_pointer_is_passed_over(void **state)
{
    (void)state;
    static const uint16_t pointers[] = {0, 1, 3, 6, 7, 1000, UINT16_MAX};
    struct slice slices[RTE_DIM(pointers)];
    net_peer_open_plain(&peer);
    for (size_t i = 0; i < RTE_DIM(pointers); i++) {
        struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH | 0x20); /* URG */
        data.urgent = pointers[i];
        data.size = 6;
        memcpy(data.bytes, "MAIL\r\n", 6);
        net_peer_send(&peer, &data);
    }
    struct net_segment empty = net_peer_next(&peer, TCP_ACK | 0x20);
    empty.urgent = 9; /* beyond all that has come: RFC 9293 §3.8.5 allows it */
    net_peer_send(&peer, &empty);
    size_t count = stream_peek(net_peer_last(&peer)->stream, slices, RTE_DIM(slices)), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < slices[i].size; j++, bytes++) {
            assert_int_equal(slices[i].bytes[j], "MAIL\r\n"[bytes % 6]);
        }
    }
    assert_int_equal(bytes, 6 * RTE_DIM(pointers));
    assert_int_equal(net_peer_last(&peer)->events, STREAM_READABLE);
    net_peer_close(&peer);
}

static void old_timestamps_are_refused_and_answered(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.size = 5;
    data.ts_value = 6; /* the SYN had 7 */
    net_peer_send(&peer, &data);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, data.seq);
    data.timestamp = false;
    net_peer_send(&peer, &data);
    net_peer_expect_none(&peer);
    assert_int_equal(peer.stack->counters.tcp_paws_refused, 2);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 0);
    net_peer_close(&peer);
}

/* RFC 7323 §5.5. */
static void a_timestamp_older_than_24_days_counts_no_more(void **state)
{
    (void)state;
    const struct stack_limits limits = {.keepalive_idle_ns = UINT64_MAX};
    struct net_segment syn = {.timestamp = true, .ts_value = 3000000000u};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
    peer.world.now_ns += 25ull * 24 * 3600 * SECOND_NS;
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.ts_value = syn.ts_value + 25u * 24 * 3600 * 1000; /* more than half of the numbers */
    data.size = 5;
    net_peer_send(&peer, &data);
    net_peer_wait(&peer, 100 * MS_NS);
    assert_int_equal(net_peer_conn(&peer)->received.bytes, 5);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ts_echo, data.ts_value);
    net_peer_close(&peer);
}

/* ---- floods ---- */

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

static void a_client_gets_in_through_a_flood_of_syns(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 8};
    net_peer_open(&peer, &limits);
    for (uint16_t i = 0; i < 50; i++) {
        struct net_segment syn = client_syn((uint16_t)(2000 + i));
        net_peer_send(&peer, &syn);
    }
    assert_int_equal(peer.stack->tcp.half_opens.used, 8);
    assert_int_equal(peer.stack->counters.tcp_syn_cookies_sent, 42);
    net_peer_forget(&peer);
    struct net_segment syn = client_syn(7000);
    net_peer_shake_hands(&peer, &syn);
    assert_int_equal(peer.stream_count, 1);
    const struct tcp_conn *conn = net_peer_conn(&peer);
    assert_true(conn->sack && conn->timestamps);
    assert_int_equal(conn->snd_scale, 5);
    assert_int_equal(conn->mss, 1220 - 12); /* the class below */
    syn = (struct net_segment){.port = 7001, .mss = 500};
    net_peer_shake_hands(&peer, &syn);
    assert_int_equal(peer.stream_count, 2);
    assert_int_equal(net_peer_conn(&peer)->mss, 64);
    assert_false(net_peer_conn(&peer)->sack);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

static void a_cookie_that_was_guessed_or_is_old_does_not_open(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 1};
    net_peer_open(&peer, &limits);
    struct net_segment first = client_syn(2000), syn = client_syn(2001);
    net_peer_send(&peer, &first);
    net_peer_forget(&peer);
    net_peer_send(&peer, &syn);
    struct net_segment answer = net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    struct net_segment ack = {.port = 2001,
                              .seq = syn.seq + 1,
                              .ack = answer.seq + 1 + 256,
                              .flags = TCP_ACK,
                              .timestamp = true,
                              .ts_value = 56,
                              .ts_echo = answer.ts_value};
    net_peer_send(&peer, &ack);
    net_peer_expect(&peer, TCP_RST);
    ack.ack = answer.seq + 1;
    ack.seq++;
    net_peer_send(&peer, &ack);
    net_peer_expect(&peer, TCP_RST);
    ack.seq--;
    net_peer_wait(&peer, 121 * SECOND_NS);
    net_peer_forget(&peer);
    net_peer_send(&peer, &ack);
    net_peer_expect(&peer, TCP_RST);
    assert_int_equal(peer.stream_count, 0);
    net_peer_close(&peer);
}

static void above_the_bound_of_connections_a_syn_is_not_answered(void **state)
{
    (void)state;
    const struct stack_limits limits = {.connection_max = 1};
    struct net_segment syn = {0}, more = {.port = 4001, .seq = 5, .flags = TCP_SYN};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
    net_peer_send(&peer, &more);
    net_peer_expect_none(&peer);
    assert_int_equal(peer.stack->counters.tcp_half_open_drops, 1);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_syn_with_all_options_is_answered_with_all_and_without_with_none),
        cmocka_unit_test(a_syn_ack_is_sent_again_at_1_3_7_15_and_31_s_and_given_up_after_63),
        cmocka_unit_test(a_half_open_connection_answers_a_strange_syn_with_a_whole_acknowledgement),
        cmocka_unit_test(a_wrong_acknowledgement_of_a_syn_ack_is_reset),
        cmocka_unit_test(the_window_of_a_syn_ack_is_never_scaled),
        cmocka_unit_test(a_connection_that_is_refused_says_so),
        cmocka_unit_test(a_syn_ack_of_another_connection_is_reset_and_ours_goes_on),
        cmocka_unit_test(a_connection_without_an_answer_is_given_up_in_time),
        cmocka_unit_test(after_a_lost_syn_the_first_data_wait_three_seconds),
        cmocka_unit_test(both_may_open_at_once),
        cmocka_unit_test(a_session_that_stops_listening_is_offered_no_more),
        cmocka_unit_test(a_segment_for_nobody_is_reset),
        cmocka_unit_test(a_segment_with_a_wrong_checksum_is_not_looked_at),
        cmocka_unit_test(what_is_written_is_queued_until_it_is_acknowledged),
        cmocka_unit_test(only_the_exact_number_resets),
        cmocka_unit_test(a_syn_in_a_connection_is_challenged_whatever_its_number),
        cmocka_unit_test(a_syn_without_the_timestamp_that_was_agreed_on_is_challenged_too),
        cmocka_unit_test(our_reset_carries_the_timestamp_that_was_agreed_on),
        cmocka_unit_test(urgent_bytes_stay_in_line_and_the_pointer_is_passed_over),
        cmocka_unit_test(an_acknowledgement_from_elsewhere_is_challenged_and_its_data_dropped),
        cmocka_unit_test(old_timestamps_are_refused_and_answered),
        cmocka_unit_test(a_timestamp_older_than_24_days_counts_no_more),
        cmocka_unit_test(a_client_gets_in_through_a_flood_of_syns),
        cmocka_unit_test(a_cookie_that_was_guessed_or_is_old_does_not_open),
        cmocka_unit_test(above_the_bound_of_connections_a_syn_is_not_answered),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
