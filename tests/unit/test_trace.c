/* What a connection's trace holds, when it is kept, and how it reads. */
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define TEXT_BYTES 65536u

static struct net_peer peer;
static char text[TEXT_BYTES];
static unsigned line_count;

static void add_line(void *owner, const char *line)
{
    (void)owner;
    size_t used = strlen(text);
    line_count++;
    snprintf(text + used, sizeof(text) - used, "%s\n", line);
}

static const char *read_copy(const struct trace_kept *copy)
{
    text[0] = '\0';
    line_count = 0;
    trace_decode(copy, add_line, NULL);
    return text;
}

static const char *read_last(void)
{
    static struct trace_kept copy;
    assert_true(trace_copy(net_peer_conn(&peer), &copy));
    return read_copy(&copy);
}

static void assert_in_order(const char *all, const char *const *parts, unsigned count)
{
    const char *at = all;
    for (unsigned i = 0; i < count; i++) {
        const char *found = strstr(at, parts[i]);
        if (found == NULL) {
            print_message("%s not in its place in:\n%s", parts[i], all);
            fail();
            return;
        }
        at = found + strlen(parts[i]);
    }
}

static void segments_read_as_they_went_from_zero_on_both_sides(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "in    [.] seq 1 ack 1 length 0", "state ESTABLISHED", "out   [P.] seq 1:6 ack 1 length 5",
        "in    [P.] seq 1:11 ack 6 length 10", "-0.000000 out   [.] seq 6 ack 11 length 0"};
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "hello");
    struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    data.size = 10;
    net_peer_send(&peer, &data);
    net_peer_wait(&peer, 100 * MS_NS);
    assert_in_order(read_last(), parts, 5);
    assert_int_equal(net_peer_conn(&peer)->bytes_acked, 5);
    assert_int_equal(net_peer_conn(&peer)->bytes_received, 10);
    assert_int_equal(net_peer_conn(&peer)->segments_in, 2);
    assert_int_equal(net_peer_conn(&peer)->segments_again, 0);
    net_peer_close(&peer);
}

static void a_silence_longer_than_a_record_can_say_is_not_lost(void **state)
{
    (void)state;
    const struct stack_limits limits = {.keepalive_idle_ns = UINT64_MAX};
    net_peer_open(&peer, &limits);
    struct net_segment syn = {0};
    net_peer_shake_hands(&peer, &syn);
    net_peer_wait(&peer, 4000 * SECOND_NS);
    net_peer_write(&peer, "late");
    double first = atof(read_last());
    assert_true(first < -3999.9 && first > -4000.1);
    net_peer_close(&peer);
}

static void a_timeout_and_the_retransmission_are_told(void **state)
{
    (void)state;
    static const char *const parts[] = {"out   [P.] seq 1:6", "timeout, 1 in a row",
                                        "recovery after a timeout", "again [P.] seq 1:6"};
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "hello");
    net_peer_wait(&peer, 3500 * MS_NS);
    assert_in_order(read_last(), parts, 4);
    assert_true(net_peer_conn(&peer)->segments_again >= 1);
    net_peer_close(&peer);
}

static void a_window_that_closes_and_opens_is_told(void **state)
{
    (void)state;
    static const char *const parts[] = {"peer's window closed", "peer's window open 9000"};
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "one");
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    net_peer_forget(&peer);
    ack = net_peer_next(&peer, TCP_ACK);
    ack.window = 0;
    ack.ack = net_peer_conn(&peer)->snd_nxt;
    net_peer_send(&peer, &ack);
    net_peer_write(&peer, "two");
    net_peer_wait(&peer, 3 * SECOND_NS); /* a probe */
    ack.window = 9000;
    net_peer_send(&peer, &ack);
    net_peer_wait(&peer, 3 * SECOND_NS);
    assert_in_order(read_last(), parts, 2);
    net_peer_close(&peer);
}

static void what_is_refused_says_why(void **state)
{
    (void)state;
    static const char *const parts[] = {"dropped: outside the window",
                                        "dropped: a reset without the exact number",
                                        "dropped: acknowledges what was not sent"};
    net_peer_open_plain(&peer);
    struct net_segment wrong = net_peer_next(&peer, TCP_ACK);
    const uint32_t seq = wrong.seq, ack = wrong.ack;
    wrong.seq = seq - 100000;
    wrong.size = 10;
    net_peer_send(&peer, &wrong);
    wrong = (struct net_segment){.seq = seq + 5, .ack = ack, .flags = TCP_RST, .window = 1000};
    net_peer_send(&peer, &wrong);
    wrong = (struct net_segment){.seq = seq, .ack = ack + 100, .flags = TCP_ACK, .window = 1000};
    net_peer_send(&peer, &wrong);
    assert_in_order(read_last(), parts, 3);
    net_peer_close(&peer);
}

static void a_connection_that_fails_is_kept_with_its_error(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_send_next(&peer, TCP_RST);
    const struct trace_kept *kept = trace_kept_at(&peer.stack->trace, 0);
    assert_non_null(kept);
    assert_int_equal(kept->reason, TRACE_FAILED);
    assert_int_equal(kept->error, -ECONNRESET);
    assert_int_equal(kept->tuple.remote_port, 4000);
    assert_non_null(strstr(read_copy(kept), "ended: Connection reset by peer"));
    assert_int_equal(peer.stack->counters.trace_kept, 1);
    assert_int_equal(peer.stack->trace.rings.used, 0);
    assert_null(trace_kept_at(&peer.stack->trace, 1));
    net_peer_close(&peer);
}

static void a_connection_that_ends_well_leaves_nothing(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_send_next(&peer, TCP_ACK | TCP_FIN);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_send_next(&peer, TCP_ACK);
    assert_true((net_peer_last(&peer)->events & STREAM_CLOSED) != 0);
    assert_int_equal(peer.stack->counters.trace_kept, 0);
    assert_int_equal(peer.stack->trace.rings.used, 0);
    net_peer_close(&peer);
}

static void the_archive_keeps_so_many_a_second_and_the_newest(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    for (uint16_t i = 0; i < 12; i++) {
        struct net_segment syn = {.port = (uint16_t)(5000 + i)};
        net_peer_shake_hands(&peer, &syn);
        net_peer_send_next(&peer, TCP_RST);
        net_peer_let_go(&peer);
        net_peer_round(&peer);
    }
    assert_int_equal(peer.stack->counters.trace_kept, 8);
    assert_int_equal(peer.stack->counters.trace_not_kept, 4);
    assert_int_equal(trace_kept_at(&peer.stack->trace, 0)->tuple.remote_port, 5007);
    assert_int_equal(trace_kept_at(&peer.stack->trace, 7)->tuple.remote_port, 5000);
    net_peer_close(&peer);
}

static struct tcp_conn *shake_hands_from(uint16_t port)
{
    struct net_segment syn = {.port = port};
    net_peer_shake_hands(&peer, &syn);
    return net_peer_conn(&peer);
}

static void when_rings_are_out_only_a_silent_one_changes_hands(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    peer.stack->trace.rings.max = 2;
    struct tcp_conn *first = shake_hands_from(5001), *second = shake_hands_from(5002);
    struct tcp_conn *third = shake_hands_from(5003);
    assert_true(first->trace != NULL && second->trace != NULL);
    assert_null(third->trace);
    assert_true(peer.stack->counters.trace_missed > 0);
    net_peer_wait(&peer, 2 * SECOND_NS);
    net_peer_write(&peer, "now"); /* the third's session */
    assert_non_null(third->trace);
    assert_int_equal((first->trace == NULL) + (second->trace == NULL), 1);
    assert_int_equal(peer.stack->counters.trace_rings_moved, 1);
    assert_null(strstr(read_last(), "seq 1 ack 1 length 0"));
    net_peer_close(&peer);
}

static void a_full_ring_forgets_the_oldest_whole(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    for (unsigned i = 0; i < 200; i++) {
        struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
        data.size = 3;
        net_peer_send(&peer, &data);
        net_peer_wait(&peer, 20 * MS_NS);
        net_peer_forget(&peer);
    }
    read_last();
    assert_true(line_count > TRACE_RECORDS / 2 - 4 && line_count <= TRACE_RECORDS / 2);
    assert_null(strchr(text, '?'));
    assert_non_null(strstr(text, "in    [P.] seq 598:601"));
    assert_null(strstr(text, "seq 1:4"));
    net_peer_close(&peer);
}

static void any_bits_can_be_read(void **state)
{
    (void)state;
    static struct trace_kept copy;
    uint64_t random = 7;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < TRACE_RECORDS; i++) {
            copy.records[i].head = (uint32_t)net_random(&random);
            copy.records[i].head &= round % 2 == 0 ? UINT32_MAX : ~0xf0u;
            copy.records[i].value = (uint32_t)net_random(&random);
        }
        copy.next = net_random_below(&random, TRACE_RECORDS);
        read_copy(&copy);
        assert_true(line_count <= TRACE_RECORDS);
    }
}

static void a_recovery_is_kept_when_it_ends(void **state)
{
    (void)state;
    static const char *const parts[] = {"out   [.] seq 1:", "recovery fast",
                                        "again [.] seq 1:", "ack 8001", "recovery ended"};
    static uint8_t bytes[8000];
    net_peer_open_plain(&peer);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(bytes, sizeof(bytes))), 0);
    net_peer_round(&peer);
    for (unsigned i = 0; i < 4; i++) { /* the first segment is missing */
        net_peer_send(&peer, &ack);
    }
    assert_int_equal(peer.stack->counters.trace_kept, 0);
    ack.ack += sizeof(bytes);
    net_peer_send(&peer, &ack);
    net_peer_write(&peer, "and on");
    const struct trace_kept *kept = trace_kept_at(&peer.stack->trace, 0);
    assert_non_null(kept);
    assert_int_equal(kept->reason, TRACE_RECOVERED);
    assert_in_order(read_copy(kept), parts, 5);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_read_as_they_went_from_zero_on_both_sides),
        cmocka_unit_test(a_silence_longer_than_a_record_can_say_is_not_lost),
        cmocka_unit_test(a_timeout_and_the_retransmission_are_told),
        cmocka_unit_test(a_window_that_closes_and_opens_is_told),
        cmocka_unit_test(what_is_refused_says_why),
        cmocka_unit_test(a_connection_that_fails_is_kept_with_its_error),
        cmocka_unit_test(a_connection_that_ends_well_leaves_nothing),
        cmocka_unit_test(the_archive_keeps_so_many_a_second_and_the_newest),
        cmocka_unit_test(when_rings_are_out_only_a_silent_one_changes_hands),
        cmocka_unit_test(a_full_ring_forgets_the_oldest_whole),
        cmocka_unit_test(any_bits_can_be_read),
        cmocka_unit_test(a_recovery_is_kept_when_it_ends),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
