/* Fragments of IPv4 and IPv6: what becomes of them. */
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "tests/unit/net_reassembly.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define STEP 1480u

/* ---- what becomes whole ---- */

static void in_any_order_fragments_become_the_datagram(void **state)
{
    (void)state;
    static const uint8_t orders[24][4] = {
        {0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 1, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}, {0, 3, 2, 1},
        {1, 0, 2, 3}, {1, 0, 3, 2}, {1, 2, 0, 3}, {1, 2, 3, 0}, {1, 3, 0, 2}, {1, 3, 2, 0},
        {2, 0, 1, 3}, {2, 0, 3, 1}, {2, 1, 0, 3}, {2, 1, 3, 0}, {2, 3, 0, 1}, {2, 3, 1, 0},
        {3, 0, 1, 2}, {3, 0, 2, 1}, {3, 1, 0, 2}, {3, 1, 2, 0}, {3, 2, 0, 1}, {3, 2, 1, 0}};
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < 48; i++) {
        bool ipv6 = i >= 24;
        struct net_fragment of = net_of_peer(ipv6, i);
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 3 * 400 + 7, i);
        for (unsigned j = 0; j < 4; j++) {
            net_expect_no_datagram();
            net_step(&of, orders[i % 24][j], size, 400);
        }
        net_expect_datagram(ipv6, 3 * 400 + 7, i);
        assert_int_equal(net_reassembly_mbufs(), 0);
    }
    assert_int_equal(net_reassembly_counters()->ip_reassembly_requests, 4 * 48);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_done, 48);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, 0);
    assert_int_equal(net_lone.stack->reassembly.datagrams.used, 0);
    net_reassembly_close();
}

static void datagrams_under_way_together_do_not_mix(void **state)
{
    (void)state;
    static const char *const froms[2][2] = {{"10.0.0.2", "10.0.0.3"}, {"fd00::2", "fd00::3"}};
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        for (unsigned part = 0; part < 3; part++) { /* two senders, two identifications each */
            for (unsigned i = 0; i < 4; i++) {
                struct net_fragment of = net_between(froms[ipv6][i / 2], ipv6, 7 + i % 2);
                net_step(&of, part, net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 10 + i),
                         400);
            }
        }
        for (unsigned i = 0; i < 4; i++) {
            net_expect_datagram(ipv6, 1000, 10 + i);
        }
    }
    /* In IPv4 the protocol is part of the name: RFC 791 §3.2. */
    struct net_fragment udp = net_of_peer(false, 20), other = udp;
    other.protocol = 200;
    uint32_t size = net_datagram_make(net_packet, &udp, 9, NET_PORT, 100, 3);
    net_step(&udp, 0, size, 64);
    net_step(&other, 1, size, 64);
    net_expect_no_datagram();
    net_step(&udp, 1, size, 64);
    net_expect_datagram(false, 100, 3);
    net_reassembly_close();
}

static void a_datagram_as_long_as_can_be_arrives_and_none_that_is_longer(void **state)
{
    (void)state;
    static const struct stack_limits limits = {.held_mbuf_max = 1000};
    const struct stack_settings settings = {.limits = limits};
    net_reassembly_open(&settings);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        uint32_t most =
            NET_PACKET_MAX - 8 - (ipv6 ? 8 : IPV4_BYTES); /* the fragment header counts */
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, most, 5);
        net_steps(&of, size, STEP - 8);
        net_expect_datagram(ipv6, most, 5);
        /* The "ping of death": its last fragment ends where no packet can. */
        uint64_t refused = net_reassembly_counters()->ip_in_header_errors;
        of.id = 2;
        net_part(&of, 0, STEP - 8, true);
        net_part(&of, 65528, 8, false);
        assert_int_equal(net_reassembly_counters()->ip_in_header_errors, refused + 1);
        net_expect_no_datagram();
    }
    /* The last leaves room for a header of 20 bytes, the first has one of 24. */
    static const uint8_t nops[4] = {1, 1, 1, 1};
    struct net_fragment of = net_of_peer(false, 3), with_options = of;
    uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, NET_PACKET_MAX - 28, 5);
    with_options.options = nops;
    with_options.option_bytes = 4;
    uint64_t failed = net_reassembly_counters()->ip_reassembly_failed;
    for (uint32_t i = 1; i * 1400 < size; i++) {
        net_step(&of, i, size, 1400);
    }
    net_step(&with_options, 0, size, 1400);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, failed + 1);
    net_expect_no_datagram();
    net_reassembly_close();
}

static void headers_before_and_behind_the_fragment_header_are_passed_over(void **state)
{
    (void)state;
    static const uint8_t nops[8] = {1, 1, 1, 1, 1, 1, 1, 0};
    static const uint8_t hop_by_hop[8] = {44, 0, 1, 4};
    uint8_t buffer[600] = {IPPROTO_UDP, 0, 1, 4}; /* destination options */
    net_reassembly_open(NULL);
    struct net_fragment of = net_of_peer(false, 1);
    of.options = nops;
    of.option_bytes = 8;
    uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 500, 1);
    net_step(&of, 1, size, 400);
    net_step(&of, 0, size, 400);
    net_expect_datagram(false, 500, 1);

    of = net_of_peer(true, 2);
    size = 8 + net_datagram_make(buffer + 8, &of, 9, NET_PORT, 500, 2);
    of.payload = buffer;
    of.protocol = IPPROTO_DSTOPTS;
    struct net_fragment with_options = of;
    with_options.options = hop_by_hop;
    with_options.option_bytes = 8;
    with_options.options_begin = IPPROTO_HOPOPTS;
    for (unsigned i = 0; i < 4;
         i++) { /* what stands before counts in the first alone: RFC 8200 §4.5 */
        net_step(i % 2 == 0 ? &of : &with_options, 1, size, 400);
        net_step(i / 2 == 0 ? &of : &with_options, 0, size, 400);
        net_expect_datagram(true, 500, 2);
    }
    net_reassembly_close();
}

static void an_atomic_fragment_is_whole_whatever_else_waits(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    struct net_fragment of = net_of_peer(true, 1);
    uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 800, 1);
    net_step(&of, 0, size, 400);
    uint32_t small = net_datagram_make(net_packet, &of, 9, NET_PORT, 50, 2);
    net_part(&of, 0, small, false); /* of the same name: RFC 6946 */
    net_expect_datagram(true, 50, 2);
    size = net_datagram_make(net_packet, &of, 9, NET_PORT, 800, 1);
    net_step(&of, 1, size, 400);
    net_step(&of, 2, size, 400);
    net_expect_datagram(true, 800, 1);
    net_reassembly_close();
}

static void with_a_tag_it_is_the_same(void **state)
{
    (void)state;
    const struct stack_settings settings = {.vlan = 5};
    net_reassembly_open(&settings);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 1);
        for (unsigned i = 0; i < 3; i++) {
            uint8_t frame[NET_FRAGMENT_FRAME_BYTES + 4];
            of.offset = i * 400;
            of.bytes = i < 2 ? 400 : size - 800;
            of.more = i < 2;
            uint32_t bytes = net_fragment_make(frame, &of);
            memmove(frame + 16, frame + 12, bytes - 12);
            memcpy(frame + 12, "\x81\x00\x00\x05", 4);
            net_lone_inject(&net_lone, frame, bytes + 4);
        }
        net_expect_datagram(ipv6, 1000, 1);
    }
    net_reassembly_close();
}

static void a_mark_of_one_fragment_is_the_datagrams(void **state)
{
    (void)state;
    static const struct {
        uint8_t first, second;
        bool arrives;
    } cases[] = {{2, 2, true}, {2, 3, true},  {3, 1, true},
                 {0, 0, true}, {0, 3, false}, {3, 0, false}};
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < 2 * RTE_DIM(cases); i++) {
        bool ipv6 = i >= RTE_DIM(cases);
        struct net_fragment of = net_of_peer(ipv6, i);
        struct datagram datagram;
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 500, i);
        of.ecn = cases[i % RTE_DIM(cases)].first;
        net_step(&of, 0, size, 400);
        of.ecn = cases[i % RTE_DIM(cases)].second;
        net_step(&of, 1, size, 400);
        assert_int_equal(datagram_receive(net_sockets[ipv6], &datagram),
                         cases[i % RTE_DIM(cases)].arrives);
    }
    assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, 4); /* RFC 3168 §5.3 */
    net_reassembly_close();
}

static void a_wrong_checksum_of_the_whole_is_found(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 1);
        net_packet[900] ^= 1;
        net_steps(&of, size, 400);
        net_expect_no_datagram();
        assert_int_equal(net_reassembly_counters()->udp_in_checksum_errors, 1 + ipv6);
    }
    net_reassembly_close();
}

static void a_segment_in_fragments_is_a_segment(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) { /* nobody listens: a RST says that it was read */
        struct net_fragment of = net_of_peer(ipv6, 1);
        struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)net_packet;
        uint8_t frame[NET_LONE_BYTES];
        memset(net_packet, 0, 1000);
        *tcp = (struct rte_tcp_hdr){.src_port = htons(4000),
                                    .dst_port = htons(25),
                                    .sent_seq = htonl(1000),
                                    .data_off = 5 << 4,
                                    .tcp_flags = TCP_SYN};
        tcp->cksum = checksum_finish(
            checksum_add(ip_pseudo_sum(&of.from, &of.to, IPPROTO_TCP, 1000), net_packet, 1000));
        of.protocol = IPPROTO_TCP;
        net_step(&of, 2, 1000, 400);
        net_step(&of, 0, 1000, 400);
        assert_int_equal(net_lone_take(&net_lone, frame), 0);
        net_step(&of, 1, 1000, 400);
        assert_true(net_lone_take(&net_lone, frame) > 0);
        tcp = (struct rte_tcp_hdr *)(frame + ETH_BYTES + (ipv6 ? IPV6_BYTES : IPV4_BYTES));
        assert_int_equal(tcp->tcp_flags, TCP_RST | TCP_ACK);
        assert_int_equal(ntohl(tcp->recv_ack), 1000 + 1 + 980);
    }
    net_reassembly_close();
}

/* ---- what does not ---- */

static void a_repeated_fragment_passes_unnoticed(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 1);
        for (unsigned i = 0; i < 3; i++) {
            net_step(&of, 2, size, 400);
            net_step(&of, 0, size, 400);
        }
        assert_int_equal(net_reassembly_mbufs(), 2);
        net_step(&of, 1, size, 400);
        net_expect_datagram(ipv6, 1000, 1);
    }
    assert_int_equal(net_reassembly_counters()->ip_reassembly_overlaps, 0);
    net_reassembly_close();
}

static void fragments_that_overlap_ruin_the_datagram_and_what_still_comes(void **state)
{
    (void)state;
    static const struct {
        uint32_t offset, bytes;
        bool more;
    } cases[] = {
        /* beside [400, 800) and the last, [1200, 1208) */
        {0, 408, true},   {792, 8, true},   {792, 16, true}, {400, 408, true}, {392, 408, true},
        {400, 392, true}, {408, 8, true},   {0, 1200, true}, {1192, 16, true}, {1200, 16, true},
        {1208, 8, true},  {1208, 8, false}, {808, 8, false}, {1200, 4, false},
    };
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < 2 * RTE_DIM(cases); i++) {
        bool ipv6 = i >= RTE_DIM(cases);
        struct net_fragment of = net_of_peer(ipv6, 1000 + i);
        uint32_t size = net_datagram_make(net_packet, &of, 9, NET_PORT, 1200, 1);
        uint64_t overlaps = net_reassembly_counters()->ip_reassembly_overlaps;
        assert_int_equal(size, 1208);
        net_part(&of, 400, 400, true);
        net_part(&of, 1200, 8, false);
        net_part(&of, cases[i % RTE_DIM(cases)].offset, cases[i % RTE_DIM(cases)].bytes,
                 cases[i % RTE_DIM(cases)].more);
        if (net_reassembly_counters()->ip_reassembly_overlaps != overlaps + 1) {
            fail_msg("case %u was taken", i);
        }
        assert_int_equal(net_reassembly_mbufs(), 0);
        net_steps(&of, size, 400); /* RFC 5722: nor those not yet received */
        net_expect_no_datagram();
        assert_int_equal(net_reassembly_counters()->ip_reassembly_failed, i + 1);
    }
    net_lone_wait(&net_lone, NET_REASSEMBLY_WAIT);
    net_lone_forget(&net_lone);
    struct net_fragment of = net_of_peer(false, 1000); /* the name is free again */
    net_steps(&of, net_datagram_make(net_packet, &of, 9, NET_PORT, 1200, 1), 400);
    net_expect_datagram(false, 1200, 1);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_timeouts, 0);
    net_reassembly_close();
}

static void an_uneven_or_empty_fragment_is_refused(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    net_reassembly_open(NULL);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        struct net_fragment of = net_of_peer(ipv6, 1);
        uint64_t refused = net_reassembly_counters()->ip_in_header_errors;
        net_datagram_make(net_packet, &of, 9, NET_PORT, 1000, 1);
        net_part(&of, 400, 0, true);
        net_part(&of, 400, 0, false);
        assert_int_equal(net_lone.count, 0);
        net_part(&of, 400, 401, true);
        assert_int_equal(net_reassembly_counters()->ip_in_header_errors, refused + 3);
        assert_int_equal(net_reassembly_mbufs(), 0);
    }
    /* RFC 8200 §4.5: code 0, pointing at the payload length. */
    assert_true(net_lone_icmp6(&net_lone, ICMP6_PARAMETER_PROBLEM, frame) > 0);
    assert_int_equal(frame[55], ICMP6_WRONG_FIELD);
    assert_int_equal(frame[61], 4);
    /* One that ends beyond what can be: at the offset. */
    struct net_fragment of = net_of_peer(true, 1);
    net_part(&of, 65528, 8, false);
    assert_true(net_lone_icmp6(&net_lone, ICMP6_PARAMETER_PROBLEM, frame) > 0);
    assert_int_equal(frame[55], ICMP6_WRONG_FIELD);
    assert_int_equal(frame[61], 42);
    net_reassembly_close();
}

static void a_first_fragment_without_all_headers_is_refused(void **state)
{
    (void)state;
    static const struct {
        bool ipv6;
        uint8_t protocol;
        uint8_t begin[24];
        uint32_t bytes;
        bool taken;
        const char *why;
    } cases[] = {
        {false, IPPROTO_TCP, {0}, 16, false, "not even the fixed header: RFC 1858"},
        {false, IPPROTO_TCP, {[12] = 0x80}, 24, false, "32 bytes of header in 24"},
        {false, IPPROTO_TCP, {[12] = 0x60}, 24, true, "24 in 24"},
        {false, IPPROTO_UDP, {0}, 8, true, "the whole header"},
        {false, IPPROTO_ICMP, {8}, 8, true, "the whole header"},
        {true, IPPROTO_TCP, {0}, 16, false, "RFC 7112"},
        {true, IPPROTO_TCP, {[12] = 0x60}, 24, true, "24 in 24"},
        {true, IPPROTO_DSTOPTS, {17, 0, 1, 4}, 8, false, "nothing behind the options"},
        {true, IPPROTO_DSTOPTS, {17, 0, 1, 4}, 16, true, "UDP's header behind the options"},
        {true, IPPROTO_DSTOPTS, {6, 0, 1, 4}, 24, false, "part of TCP's behind the options"},
        {true, IPPROTO_DSTOPTS, {17, 9, 1, 4}, 24, false, "options that go on"},
        {true, IPPROTO_DSTOPTS, {60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4}, 24, true, "twice"},
        {true,
         IPPROTO_DSTOPTS,
         {60, 1, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4},
         16,
         false,
         "twice and more"},
    };
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < RTE_DIM(cases); i++) {
        uint8_t frame[NET_LONE_BYTES];
        struct net_fragment of = net_of_peer(cases[i].ipv6, i);
        uint64_t refused = net_reassembly_counters()->ip_in_header_errors;
        memset(net_packet, 0, 100);
        memcpy(net_packet, cases[i].begin, sizeof(cases[i].begin));
        of.protocol = cases[i].protocol;
        net_part(&of, 0, cases[i].bytes, true);
        if ((net_reassembly_counters()->ip_in_header_errors == refused) != cases[i].taken) {
            fail_msg("case %u: %s", i, cases[i].why);
        }
        bool told = net_lone_icmp6(&net_lone, ICMP6_PARAMETER_PROBLEM, frame) > 0;
        assert_int_equal(told, cases[i].ipv6 && !cases[i].taken);
        if (told) {
            assert_int_equal(frame[55], ICMP6_INCOMPLETE_CHAIN);
            assert_int_equal(frame[61], 0);
        }
    }
    net_reassembly_close();
}

static void fragments_of_fragments_are_refused(void **state)
{
    (void)state;
    net_reassembly_open(NULL);
    struct net_fragment of = net_of_peer(true, 1);
    memset(net_packet, 0, 64);
    net_packet[0] = IPPROTO_UDP; /* a fragment header within: the next is [64, ...) */
    net_packet[3] = 1;
    of.protocol = IPPROTO_FRAGMENT;
    net_part(&of, 0, 32, true);
    net_part(&of, 32, 32, false);
    assert_int_equal(net_reassembly_counters()->ip_reassembly_done, 1);
    assert_int_equal(net_reassembly_counters()->ip_in_header_errors, 1);
    assert_int_equal(net_reassembly_mbufs(), 0);
    net_reassembly_close();
}

static void neighbour_discovery_in_fragments_is_ignored(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    net_reassembly_open(NULL);
    for (unsigned whole = 0; whole < 2; whole++) { /* RFC 6980: nor in an atomic one */
        struct net_fragment of = net_of_peer(true, whole);
        memset(net_packet, 0, 64);
        net_packet[0] = ICMP6_NEIGHBOR_SOLICITATION;
        memcpy(net_packet + 8, of.to.words, 16);
        uint16_t sum = checksum_finish(
            checksum_add(ip_pseudo_sum(&of.from, &of.to, IPPROTO_ICMPV6, 24), net_packet, 24));
        memcpy(net_packet + 2, &sum, 2);
        of.protocol = IPPROTO_ICMPV6;
        net_steps(&of, 24, whole ? 24 : 16);
        assert_int_equal(net_lone_icmp6(&net_lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame), 0);
        assert_int_equal(net_reassembly_counters()->nd_refused, 1 + whole);
    }
    net_reassembly_close();
}

static void who_cannot_be_a_sender_is_not_kept(void **state)
{
    (void)state;
    static const struct {
        bool ipv6;
        const char *from;
    } cases[] = {{false, "127.0.0.1"}, {false, "10.0.0.255"}, {false, "10.0.0.1"},
                 {true, "::"},         {true, "::1"},         {true, "fd00::1"}};
    net_reassembly_open(NULL);
    for (unsigned i = 0; i < RTE_DIM(cases); i++) {
        struct net_fragment of = net_between(cases[i].from, cases[i].ipv6, 1);
        net_part(&of, 0, 400, true);
        assert_int_equal(net_reassembly_counters()->ip_in_address_errors, i + 1);
        assert_int_equal(net_reassembly_mbufs(), 0);
    }
    net_reassembly_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_any_order_fragments_become_the_datagram),
        cmocka_unit_test(datagrams_under_way_together_do_not_mix),
        cmocka_unit_test(a_datagram_as_long_as_can_be_arrives_and_none_that_is_longer),
        cmocka_unit_test(headers_before_and_behind_the_fragment_header_are_passed_over),
        cmocka_unit_test(an_atomic_fragment_is_whole_whatever_else_waits),
        cmocka_unit_test(with_a_tag_it_is_the_same),
        cmocka_unit_test(a_mark_of_one_fragment_is_the_datagrams),
        cmocka_unit_test(a_wrong_checksum_of_the_whole_is_found),
        cmocka_unit_test(a_segment_in_fragments_is_a_segment),
        cmocka_unit_test(a_repeated_fragment_passes_unnoticed),
        cmocka_unit_test(fragments_that_overlap_ruin_the_datagram_and_what_still_comes),
        cmocka_unit_test(an_uneven_or_empty_fragment_is_refused),
        cmocka_unit_test(a_first_fragment_without_all_headers_is_refused),
        cmocka_unit_test(fragments_of_fragments_are_refused),
        cmocka_unit_test(neighbour_discovery_in_fragments_is_ignored),
        cmocka_unit_test(who_cannot_be_a_sender_is_not_kept),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
