/* Fragments that do not become a datagram: how long they stay, and what they may cost. Pings that are larger than a
 * frame. */
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "tests/unit/net_reassembly.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define IPV4_WAIT (30 * SECOND_NS)

/* ---- time ---- */

static void what_is_not_whole_in_time_is_given_up_and_its_sender_told(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    net_reassembly_open(NULL);
    struct net_fragment four = net_of_peer(false, 1), six = net_of_peer(true, 2);
    net_datagram_make(net_packet, &four, 9, NET_PORT, 1000, 1);
    net_part(&four, 0, 400, true);
    net_part(&four, 800, 208, false);
    net_part(&six, 800, 208, false);
    net_lone_wait(&net_lone, SECOND_NS);
    net_part(&six, 0, 400, true); /* the time begins with the first that comes */
    net_lone_wait(&net_lone, IPV4_WAIT - SECOND_NS - 10 * MS_NS);
    assert_int_equal(net_lone.count, 0);
    assert_int_equal(net_reassembly_mbufs(), 4);
    net_lone_wait(&net_lone, 20 * MS_NS);
    assert_int_equal(net_reassembly_mbufs(), 2);
    uint32_t size = net_lone_take(&net_lone, frame); /* RFC 792: time exceeded, of reassembly */
    assert_int_equal(size, ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + 8);
    assert_int_equal(frame[34], 11);
    assert_int_equal(frame[35], 1);
    assert_memory_equal(frame + 42 + IPV4_BYTES, net_packet, 8);
    assert_int_equal(frame[42 + 6], 0x20); /* what it quotes is as it came */
    net_lone_wait(&net_lone, 60 * SECOND_NS - IPV4_WAIT - 20 * MS_NS);
    assert_int_equal(net_lone.count, 0);
    net_lone_wait(&net_lone, 20 * MS_NS);
    assert_int_equal(net_reassembly_mbufs(), 0);
    assert_true(net_lone_icmp6(&net_lone, ICMP6_TIME_EXCEEDED, frame) > 0);
    assert_int_equal(frame[55], 1);
    assert_memory_equal(frame + 62 + IPV6_BYTES + 8, net_packet, 400);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_timeouts, 2);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, 2);
    assert_int_equal(net_lone.stack->reassembly.datagrams.used, 0);
    assert_int_equal(net_lone.count, 0);
    net_reassembly_close();
}

static void without_the_first_fragment_or_about_errors_nobody_is_told(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 1);
        net_part(&of, 400, 400, true);
        of.id = 2;
        of.protocol = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
        net_packet[0] = ipv6 ? ICMP6_UNREACHABLE : 3;
        net_part(&of, 0, 400, true);
    }
    net_lone_wait(&net_lone, NET_REASSEMBLY_WAIT);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_timeouts, 4);
    assert_int_equal(net_lone.count, 0);
    net_reassembly_close();
}

static void those_told_of_their_time_are_bounded_as_all_errors_are(void **state)
{
    (void)state;
    static const struct stack_limits limits = {.held_mbuf_max = 4000};
    const struct stack_settings settings = {.limits = limits};
    uint8_t frame[NET_LONE_BYTES];
    unsigned told = 0;
    net_reassembly_open(&settings);
    net_lone.stack->icmp_budget = 5;
    net_lone.stack->icmp_budget_ns = net_lone.world.now_ns + IPV4_WAIT - 10 * MS_NS;
    for (unsigned i = 0; i < 20; i++) {
        struct net_fragment of = net_of_peer(false, i);
        net_part(&of, 0, 400, true);
    }
    net_lone_wait(&net_lone, IPV4_WAIT + 10 * MS_NS);
    while (net_lone_take(&net_lone, frame) > 0) {
        told++;
    }
    assert_int_equal(told, 5);
    assert_int_equal(net_reassembly_counters()->icmp_out_rate_limited, 15);
    net_reassembly_close();
}

/* ---- bounds ---- */

static void one_datagram_holds_no_more_than_its_bound(void **state)
{
    (void)state;
    static const struct stack_limits limits = {.held_mbuf_max = 1000};
    const struct stack_settings settings = {.limits = limits};
    net_reassembly_open(&settings);
    struct net_fragment of = net_of_peer(false, 1);
    for (unsigned i = 0; i < REASSEMBLY_MBUFS_MAX; i++) {
        net_part(&of, 8 + 8 * i, 8, true);
    }
    assert_int_equal(net_reassembly_mbufs(), REASSEMBLY_MBUFS_MAX);
    net_part(&of, 8 + 8 * REASSEMBLY_MBUFS_MAX, 8, true);
    assert_int_equal(net_reassembly_mbufs(), 0);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, 1);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_overlaps, 0);
    net_reassembly_close();
}

static void a_flood_of_one_sender_leaves_the_others_alone(void **state)
{
    (void)state;
    static const struct stack_limits limits = {.held_mbuf_max = 240};
    const struct stack_settings settings = {.limits = limits};
    net_reassembly_open(&settings);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment honest = net_of_peer(ipv6, 1);
        uint32_t size = net_datagram_make(net_packet, &honest, 9, NET_PORT, 2000, 1);
        net_step(&honest, 0, size, 400);
        for (unsigned i = 0; i < 3000; i++) { /* one host, or one network */
            char from[32];
            snprintf(from, sizeof(from), ipv6 ? "2001:db8::%x" : "10.0.0.77", i + 2);
            struct net_fragment flood = net_between(from, ipv6, i);
            net_part(&flood, 8 * (1 + i % 3), 400, true);
            assert_true(net_reassembly_mbufs() <= 60);
        }
        for (unsigned i = 1; i < 6; i++) {
            net_step(&honest, i, size, 400);
        }
        net_expect_datagram(ipv6, 2000, 1);
        assert_true(net_reassembly_counters()->ip_reassembly_pushed_out >= 2900);
        net_lone_wait(&net_lone, NET_REASSEMBLY_WAIT);
        net_lone_forget(&net_lone);
    }
    net_reassembly_close();
}

static void a_flood_from_everywhere_pushes_out_the_oldest(void **state)
{
    (void)state;
    static const struct stack_limits limits = {.held_mbuf_max = 2000}; /* 500 of fragments */
    const struct stack_settings settings = {.limits = limits};
    uint64_t dice = 1;
    net_reassembly_open(&settings);
    for (unsigned round = 0; round < 50; round++) {
        struct net_fragment honest = net_of_peer(false, round);
        uint32_t size = net_datagram_make(net_packet, &honest, 9, NET_PORT, 1000, round);
        for (unsigned part = 0; part < 3; part++) { /* 100 forged ones come while it does */
            net_step(&honest, part, size, 400);
            for (unsigned i = 0; i < 50; i++) {
                struct net_fragment flood = net_of_peer(false, i);
                flood.from.words[3] = htonl(0x0b000000 + net_random_below(&dice, 1u << 24));
                net_part(&flood, 400, 400, true);
            }
        }
        net_expect_datagram(false, 1000, round);
        assert_true(net_reassembly_mbufs() <= 500);
        assert_true(net_lone.stack->reassembly.datagrams.used <= REASSEMBLY_DATAGRAMS_MAX);
    }
    assert_true(net_reassembly_counters()->ip_reassembly_pushed_out > 5000);
    net_reassembly_close();
}

static void names_alone_are_bounded_too(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < 2000; i++) {
        struct net_fragment of = net_of_peer(false, i);
        of.from.words[3] = htonl(0x0b000000 + i);
        net_part(&of, 400, 400, true);
        net_part(&of, 408, 400, true); /* overlaps: nothing is kept but the name */
        assert_int_equal(net_reassembly_mbufs(), 0);
        assert_true(net_lone.stack->reassembly.datagrams.used <= REASSEMBLY_DATAGRAMS_MAX);
    }
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, 2000);
    net_reassembly_close();
}

static void what_waits_in_sockets_is_bounded_in_buffers(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < 40; i++) { /* eight buffers each; an eighth of the pool is 127 */
        struct net_fragment of = net_of_peer(false, i);
        net_steps(&of, net_datagram_make(net_packet, &of, 9, NET_PORT, 8 * 400 - 8, i), 400);
    }
    assert_int_equal(net_lone.stack->udp.waiting_count, 15 * 8);
    assert_int_equal(net_reassembly_counters()->udp_receive_buffer_errors, 25);
    for (unsigned i = 0; i < 15; i++) {
        net_expect_datagram(false, 8 * 400 - 8, i);
    }
    assert_int_equal(net_lone.stack->udp.waiting_count, 0);
    net_reassembly_close();
}

/* ---- pings larger than a frame ---- */

/* The answer's fragments put together by hand. Returns how many there were. */
static unsigned collect(bool ipv6, uint8_t *answer, uint32_t *bytes)
{
    uint8_t frame[NET_LONE_BYTES];
    unsigned count = 0;
    uint32_t size, id = 0;
    *bytes = 0;
    while ((size = net_lone_take(&net_lone, frame)) > 0) {
        uint32_t header = ETH_BYTES + (ipv6 ? IPV6_BYTES + 8 : IPV4_BYTES);
        uint32_t field = (uint32_t)frame[ipv6 ? 56 : 20] << 8 | frame[ipv6 ? 57 : 21];
        uint32_t offset = ipv6 ? field & 0xfff8 : (field & 0x1fff) * 8;
        bool more = (field & (ipv6 ? 1 : 0x2000)) != 0;
        uint32_t name = (uint32_t)frame[ipv6 ? 60 : 18] << 8 | frame[ipv6 ? 61 : 19];
        assert_true(size <= ETH_BYTES + 1500);
        assert_int_equal(frame[ipv6 ? 54 : 23], ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
        if (!ipv6) {
            assert_int_equal(frame[16] << 8 | frame[17], size - ETH_BYTES);
            assert_int_equal(checksum_finish(checksum_add(0, frame + 14, 20)), 0);
        } else {
            assert_int_equal(frame[18] << 8 | frame[19], size - ETH_BYTES - IPV6_BYTES);
        }
        assert_int_equal(offset, *bytes); /* they leave in order */
        assert_true(count == 0 || name == id);
        assert_true(!more || (size - header) % 8 == 0);
        id = name;
        memcpy(answer + offset, frame + header, size - header);
        *bytes = offset + size - header;
        count++;
        if (!more) {
            break;
        }
    }
    return count;
}

static void a_ping_larger_than_a_frame_is_answered_in_fragments(void **state)
{
    (void)state;
    static uint8_t answer[NET_PACKET_MAX];
    static const uint32_t sizes[] = {1473, 4000, 60000};
    net_reassembly_open(NULL);
    uint64_t sent = net_reassembly_counters()->icmp_out;
    for (unsigned i = 0; i < 6; i++) {
        bool ipv6 = i % 2 == 1;
        struct net_fragment of = net_of_peer(ipv6, i), back = of;
        uint32_t bytes, size = net_ping_make(net_packet, &of, sizes[i / 2], i);
        of.protocol = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
        net_steps(&of, size, 1400);
        unsigned count = collect(ipv6, answer, &bytes);
        assert_int_equal(count, (size + (ipv6 ? 1447 : 1479)) / (ipv6 ? 1448 : 1480));
        assert_int_equal(bytes, size);
        assert_int_equal(answer[0], ipv6 ? ICMP6_ECHO_REPLY : 0);
        assert_memory_equal(answer + 4, net_packet + 4, size - 4);
        uint64_t sum = ipv6 ? ip_pseudo_sum(&back.to, &back.from, IPPROTO_ICMPV6, size) : 0;
        assert_int_equal(checksum_finish(checksum_add(sum, answer, size)), 0);
    }
    assert_int_equal(net_lone.count, 0);
    assert_int_equal(net_reassembly_counters()->icmp_out, sent + 6);
    assert_int_equal(net_reassembly_counters()->ip_fragments_ok, 6);
    net_reassembly_close();
}

static void a_ping_that_there_are_no_buffers_to_answer_is_let_go(void **state)
{
    (void)state;
    struct rte_mbuf *taken[1024];
    unsigned count = 0;
    net_reassembly_open(NULL);
    while (count < 1024 && (taken[count] = rte_pktmbuf_alloc(net_lone.stack->pool)) != NULL) {
        count++;
    }
    struct net_fragment of = net_of_peer(false, 1);
    uint32_t size = net_ping_make(net_packet, &of, 4000, 1);
    of.protocol = IPPROTO_ICMP;
    rte_pktmbuf_free(taken[--count]); /* for one fragment of three */
    net_steps(&of, size, 1400);
    assert_int_equal(net_reassembly_counters()->ip_fragments_failed, 1);
    assert_int_equal(net_reassembly_counters()->ip_fragments_made, 1);
    while (count > 0) {
        rte_pktmbuf_free(taken[--count]);
    }
    net_reassembly_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_whole_in_time_is_given_up_and_its_sender_told),
        cmocka_unit_test(without_the_first_fragment_or_about_errors_nobody_is_told),
        cmocka_unit_test(those_told_of_their_time_are_bounded_as_all_errors_are),
        cmocka_unit_test(one_datagram_holds_no_more_than_its_bound),
        cmocka_unit_test(a_flood_of_one_sender_leaves_the_others_alone),
        cmocka_unit_test(a_flood_from_everywhere_pushes_out_the_oldest),
        cmocka_unit_test(names_alone_are_bounded_too),
        cmocka_unit_test(what_waits_in_sockets_is_bounded_in_buffers),
        cmocka_unit_test(a_ping_larger_than_a_frame_is_answered_in_fragments),
        cmocka_unit_test(a_ping_that_there_are_no_buffers_to_answer_is_let_go),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
