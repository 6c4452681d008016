/* IPv6: TCP over it, extension headers, ICMPv6. */
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "tests/unit/net_lone.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define OURS "fd00::1"
#define PEER "fd00::2"

static struct net_lone lone;
static const char *const addresses[] = {"10.0.0.1/24", OURS "/64", NULL};
static const struct stack_settings sure = {.skips_dad = true};

static struct stream *accepted_stream;
static uint32_t stream_events;
static int stream_error;

static void notified(struct stream *stream, uint32_t events, void *session)
{
    (void)session;
    stream_events |= events;
    stream_error = stream->error;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    accepted_stream = stream;
    stream->notify = notified;
}

static struct listener *listen_at(const char *text)
{
    const struct listen_request request = {.at = net_endpoint(text), .accepted = accepted};
    struct listener *listener;
    assert_int_equal(lone.network->ops->listen(lone.network, &request, &listener), 0);
    return listener;
}

/* A neighbour that the stack knows, so that it need not ask. */
static void peer_is_known(void)
{
    const struct endpoint peer = net_endpoint("[" PEER "]:1");
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
    stack_neighbour_learn(lone.network, &peer, mac);
}

static void open_stack(void)
{
    accepted_stream = NULL;
    stream_events = 0;
    net_lone_open(&lone, addresses, &sure);
    peer_is_known();
    net_lone_forget(&lone);
}

static void close_stack(void)
{
    if (accepted_stream != NULL) {
        stream_abort(accepted_stream);
        stream_release(accepted_stream);
        accepted_stream = NULL;
    }
    net_lone_close(&lone);
}

static const struct net_six to_us = {.from = PEER, .to = OURS};

static struct rte_tcp_hdr segment(uint32_t seq, uint32_t ack, uint8_t flags)
{
    return (struct rte_tcp_hdr){.src_port = htons(4000),
                                .dst_port = htons(25),
                                .sent_seq = htonl(seq),
                                .recv_ack = htonl(ack),
                                .tcp_flags = flags,
                                .rx_win = htons(60000)};
}

/* Returns what the stack's next byte is numbered. */
static uint32_t shake_hands(void)
{
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr answer, syn = segment(1000, 0, TCP_SYN);
    struct slice text;
    net_lone_tcp(&lone, &to_us, &syn, "");
    assert_true(net_lone_segment(&lone, frame, &answer, &text));
    assert_int_equal(answer.tcp_flags, TCP_SYN | TCP_ACK);
    assert_int_equal(ntohl(answer.recv_ack), 1001);
    /* The MSS option: 1500 less the headers. */
    assert_int_equal(frame[54 + 20], 2);
    assert_int_equal(frame[54 + 22] << 8 | frame[54 + 23], 1440);
    struct rte_tcp_hdr ack = segment(1001, ntohl(answer.sent_seq) + 1, TCP_ACK);
    net_lone_tcp(&lone, &to_us, &ack, "");
    assert_non_null(accepted_stream);
    return ntohl(answer.sent_seq) + 1;
}

static void received(const char *text)
{
    struct slice slices[4];
    assert_int_equal(stream_peek(accepted_stream, slices, 4), 1);
    assert_int_equal(slices[0].size, strlen(text));
    assert_memory_equal(slices[0].bytes, text, slices[0].size);
    stream_consume(accepted_stream, slices[0].size);
}

/* ---- TCP ---- */

static void a_connection_is_accepted_and_talks_both_ways(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr tcp;
    struct slice text;
    struct stream_facts facts;
    char name[ENDPOINT_TEXT_MAX];
    open_stack();
    listen_at("[::]:25");
    uint32_t next = shake_hands();
    stream_facts(accepted_stream, &facts);
    endpoint_format(&facts.remote, name);
    assert_string_equal(name, "[fd00::2]:4000");
    tcp = segment(1001, next, TCP_ACK | TCP_PSH);
    net_lone_tcp(&lone, &to_us, &tcp, "EHLO\r\n");
    received("EHLO\r\n");
    assert_int_equal(stream_write(accepted_stream, slice_text("250 yes\r\n")), 0);
    net_lone_round(&lone);
    bool found = false;
    while (net_lone_segment(&lone, frame, &tcp, &text)) {
        found |= slice_equal(text, slice_text("250 yes\r\n"));
        assert_int_equal(ntohl(tcp.recv_ack), 1007);
    }
    assert_true(found);
    close_stack();
}

static void each_family_has_listeners_of_its_own(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr tcp = segment(1, 0, TCP_SYN);
    struct slice text;
    open_stack();
    struct listener *ipv4 = listen_at("0.0.0.0:25");
    net_lone_tcp(&lone, &to_us, &tcp, "");
    assert_true(net_lone_segment(&lone, frame, &tcp, &text));
    assert_int_equal(tcp.tcp_flags, TCP_RST | TCP_ACK);
    listen_at("[::]:25"); /* both at once, as kernel sockets */
    listen_at("[fd00::1]:25");
    lone.network->ops->unlisten(lone.network, ipv4);
    struct listen_request request = {.at = net_endpoint("[fd00::9]:25"), .accepted = accepted};
    struct listener *listener;
    assert_int_equal(lone.network->ops->listen(lone.network, &request, &listener), -EADDRNOTAVAIL);
    shake_hands();
    close_stack();
}

static void a_connection_is_opened_from_the_address_that_was_asked_for(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr tcp;
    struct slice text;
    static const char *const many[] = {"10.0.0.1/24", OURS "/64", "fd00::11/64", NULL};
    accepted_stream = NULL;
    net_lone_open(&lone, many, &sure);
    peer_is_known();
    struct connect_request request = {.to = net_endpoint("[fd00::2]:25"),
                                      .from = net_endpoint("[fd00::11]:0")};
    struct stream *stream;
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), 0);
    stream->notify = notified;
    net_lone_round(&lone);
    assert_true(net_lone_segment(&lone, frame, &tcp, &text));
    assert_int_equal(tcp.tcp_flags, TCP_SYN);
    struct ip_address from = ip_address_of_ipv6(frame + 22), wanted = net_address("fd00::11");
    assert_true(ip_address_equal(&from, &wanted));
    uint32_t label = (frame[15] & 15u) << 16 | (uint32_t)frame[16] << 8 | frame[17];
    assert_int_not_equal(label, 0); /* RFC 6437; 1 of 1,048,576 seeds would give none */
    stream_abort(stream);
    stream_release(stream);
    request.from = net_endpoint("10.0.0.1:0");
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), -EADDRNOTAVAIL);
    request.from = net_endpoint("[fd00::12]:0");
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), -EADDRNOTAVAIL);
    request = (struct connect_request){.to = net_endpoint("[2001:db8::1]:25")};
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), -ENETUNREACH);
    request.to = net_endpoint("[::1]:25");
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), -ENETUNREACH);
    net_lone_close(&lone);
}

static void cookies_work_for_long_addresses(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr answer;
    struct slice text;
    struct stack_settings few = sure;
    few.limits.half_open_max = 1;
    accepted_stream = NULL;
    net_lone_open(&lone, addresses, &few);
    peer_is_known();
    net_lone_forget(&lone);
    listen_at("[::]:25");
    struct rte_tcp_hdr syn = segment(7, 0, TCP_SYN);
    syn.src_port = htons(3999);
    net_lone_tcp(&lone, &to_us, &syn, ""); /* takes the one place */
    net_lone_forget(&lone);
    shake_hands();
    assert_int_equal(lone.stack->counters.tcp_syn_cookies_received, 1);
    assert_int_equal(((struct tcp_conn *)accepted_stream)->mss, 1220);
    (void)net_lone_segment(&lone, frame, &answer, &text);
    net_lone_wait(&lone, 70 * SECOND_NS);
    close_stack();
}

static void mapped_addresses_and_martians_are_not_let_in(void **state)
{
    (void)state;
    static const char *const strange[] = {
        "::ffff:10.0.0.2", "::1", "::", "ff02::5", "fd00::1", "::10.0.0.2"};
    struct rte_tcp_hdr syn = segment(1, 0, TCP_SYN);
    open_stack();
    listen_at("[::]:25");
    listen_at("0.0.0.0:25");
    for (unsigned i = 0; i < RTE_DIM(strange); i++) {
        struct net_six packet = {.from = strange[i], .to = OURS};
        uint8_t bytes[NET_LONE_BYTES], frame[NET_LONE_BYTES];
        syn.data_off = 5 << 4;
        memcpy(bytes, &syn, sizeof(syn));
        packet.next = IPPROTO_TCP;
        packet.payload = bytes;
        packet.bytes = sizeof(syn);
        uint32_t size = net_six_make(frame, &packet);
        if (i == 0) { /* the library turns mapped addresses into IPv4 */
            memset(frame + 22, 0, 10);
            memset(frame + 32, 0xff, 2);
        }
        net_lone_inject(&lone, frame, size);
    }
    struct net_six packet = {.from = PEER, .to = "ff02::1"};
    net_lone_tcp(&lone, &packet, &syn, "");
    packet.to = "fd00::77"; /* not ours */
    net_lone_tcp(&lone, &packet, &syn, "");
    assert_int_equal(lone.stack->counters.ip_in_address_errors, RTE_DIM(strange) + 2);
    assert_int_equal(lone.stack->counters.tcp_in_segments, 0);
    close_stack();
}

static void bytes_arrive_exactly_over_ipv6_whatever_the_link_does(void **state)
{
    (void)state;
    static struct rte_mempool *pools[2];
    if (pools[0] == NULL) {
        assert_int_equal(net_pools_open(pools, 4095), 0);
    }
    for (uint64_t seed = 1; seed <= 6; seed++) {
        static struct net_pair pair;
        static struct net_talker talkers[2];
        const struct net_pair_settings settings = {.seed = seed,
                                                   .ipv6 = true,
                                                   .mtu = seed % 2 == 0 ? 1280 : 1500,
                                                   .tx_segments = {seed % 3 != 0, true},
                                                   .faults = {.lost = 100,
                                                              .repeated = 50,
                                                              .reordered = 100,
                                                              .corrupted = 50,
                                                              .delay_ns = MS_NS,
                                                              .reorder_ns = 5 * MS_NS,
                                                              .dma_ns = 100000}};
        net_pair_open(&pair, &settings, pools);
        net_talker_open(&talkers[0], &pair.world, seed, 0, 200000, 150000);
        net_talker_open(&talkers[1], &pair.world, seed, 1, 150000, 200000);
        struct listener *listener;
        const struct listen_request listen = {.at = net_endpoint("[fd00::2]:25"),
                                              .accepted = accepted};
        accepted_stream = NULL;
        assert_int_equal(
            pair.hosts[1].network->ops->listen(pair.hosts[1].network, &listen, &listener), 0);
        struct stream *stream;
        const struct connect_request connect = {.to = net_endpoint("[fd00::2]:25")};
        assert_int_equal(
            pair.hosts[0].network->ops->connect(pair.hosts[0].network, &connect, &stream), 0);
        net_talker_attach(&talkers[0], stream);
        for (unsigned i = 0; i < 10000 && accepted_stream == NULL; i++) {
            net_pair_step(&pair, pair.world.now_ns + SECOND_NS);
        }
        assert_non_null(accepted_stream);
        net_talker_attach(&talkers[1], accepted_stream);
        net_talker_go(&talkers[1]);
        accepted_stream = NULL;
        uint64_t end_ns = pair.world.now_ns + 600 * SECOND_NS;
        while (pair.world.now_ns < end_ns &&
               (!net_talker_done(&talkers[0]) || !net_talker_done(&talkers[1]))) {
            net_pair_step(&pair, end_ns);
        }
        assert_false(talkers[0].wrong || talkers[1].wrong);
        assert_true(net_talker_done(&talkers[0]) && net_talker_done(&talkers[1]));
        net_pair_close(&pair);
    }
    rte_mempool_free(pools[0]);
    rte_mempool_free(pools[1]);
    pools[0] = NULL;
}

/* ---- extension headers ---- */

struct walk_case {
    uint8_t next;
    uint8_t bytes[64];
    uint32_t size;
    int answer; /* code of a parameter problem; NONE: silence; PASSES: the SYN behind is answered */
    uint32_t pointer;
    const char *why;
};
#define PASSES (-1)
#define NONE (-2)

static const struct walk_case walk_cases[] = {
    {0, {6, 0, 1, 4}, 8, PASSES, 0, "hop-by-hop with padding"},
    {60, {6, 0, 0, 0, 0, 0, 0, 0}, 8, PASSES, 0, "destination options of single pads"},
    {0, {6, 0, 5, 2, 0, 0, 1, 0}, 8, PASSES, 0, "router alert may be skipped"},
    {60, {6, 0, 0x1e, 4, 1, 2, 3, 4}, 8, PASSES, 0, "an unknown option that may be skipped"},
    {60, {6, 0, 0x5e, 4}, 8, NONE, 0, "01: drop"},
    {60, {6, 0, 0x9e, 4}, 8, ICMP6_UNKNOWN_OPTION, 42, "10: drop and say so"},
    {60, {6, 0, 0xde, 4}, 8, ICMP6_UNKNOWN_OPTION, 42, "11: drop and say so, it was for us alone"},
    {0, {6, 0, 0xc2, 4, 0, 1, 0, 0}, 8, ICMP6_UNKNOWN_OPTION, 42, "jumbograms are not for us"},
    {60, {6, 0, 1, 5}, 8, ICMP6_WRONG_FIELD, 42, "an option longer than its header"},
    {60, {6, 0, 0, 0, 0, 0, 0, 1}, 8, ICMP6_WRONG_FIELD, 47, "an option without a length"},
    {43, {6, 0, 0, 0}, 8, PASSES, 0, "a routing header that is used up"},
    {43, {6, 2, 0, 1}, 24, ICMP6_WRONG_FIELD, 42, "routing type 0: RFC 5095"},
    {43, {6, 2, 4, 1}, 24, ICMP6_WRONG_FIELD, 42, "segment routing"},
    {44, {6, 0, 0, 0, 1, 2, 3, 4}, 8, PASSES, 0, "an atomic fragment: RFC 6946"},
    {60, {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, 16, ICMP6_UNKNOWN_HEADER, 40, "hop-by-hop is first"},
    {60, {43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1, 4}, 24, PASSES, 0, "three"},
    {59, {6, 0, 1, 4}, 8, NONE, 0, "no next header"},
    {51, {6, 0, 1, 4}, 8, ICMP6_UNKNOWN_HEADER, 6, "authentication is not offered"},
    {60, {253, 0, 1, 4}, 8, ICMP6_UNKNOWN_HEADER, 6, "an experiment"},
    {60, {6, 200, 1, 4}, 8, NONE, 0, "longer than the packet"},
    {60,
     {6, 2, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0},
     24,
     NONE,
     0,
     "nine options: RFC 8504 §5.3"},
    {60,
     {60, 0, 1,  4, 0, 0, 0, 0, 60, 0, 1,  4, 0, 0, 0, 0, 60, 0, 1, 4, 0, 0,
      0,  0, 60, 0, 1, 4, 0, 0, 0,  0, 60, 0, 1, 4, 0, 0, 0,  0, 6, 0, 1, 4},
     48,
     NONE,
     0,
     "six headers and more"},
};

static void extension_headers_are_walked_as_the_rfc_says(void **state)
{
    (void)state;
    open_stack();
    for (unsigned i = 0; i < RTE_DIM(walk_cases); i++) {
        const struct walk_case *one = &walk_cases[i];
        uint8_t frame[NET_LONE_BYTES];
        struct rte_tcp_hdr tcp = segment(1, 0, TCP_SYN);
        struct slice text;
        const struct net_six packet = {.from = PEER,
                                       .to = OURS,
                                       .next = one->next,
                                       .extensions = one->bytes,
                                       .extension_bytes = one->size};
        net_lone_tcp(&lone, &packet, &tcp, "");
        if (one->answer == PASSES) {
            bool answered = net_lone_segment(&lone, frame, &tcp, &text);
            if (!answered || tcp.tcp_flags != (TCP_RST | TCP_ACK)) {
                fail_msg("%s: not passed on", one->why);
            }
        } else if (one->answer >= 0) {
            if (net_lone_icmp6(&lone, ICMP6_PARAMETER_PROBLEM, frame) == 0 ||
                frame[55] != one->answer || frame[61] != one->pointer) {
                fail_msg("%s: code %u, pointer %u", one->why, frame[55], frame[61]);
            }
            assert_memory_equal(frame + 62 + 8, frame + 38, 16); /* it quotes what we were sent */
        }
        if (lone.count != 0) {
            fail_msg("%s: more was sent", one->why);
        }
    }
    close_stack();
}

static void an_unknown_option_to_a_group_is_told_of_only_when_it_asks_for_that(void **state)
{
    (void)state;
    static const uint8_t always[8] = {58, 0, 0x9e, 4}, to_one[8] = {58, 0, 0xde, 4};
    uint8_t frame[NET_LONE_BYTES], ping[8] = {ICMP6_ECHO_REQUEST};
    struct net_six packet = {.from = PEER,
                             .to = "ff02::1",
                             .next = IPPROTO_DSTOPTS,
                             .protocol = IPPROTO_ICMPV6,
                             .extensions = to_one,
                             .extension_bytes = 8,
                             .payload = ping,
                             .bytes = 8};
    open_stack();
    net_lone_six(&lone, &packet);
    assert_int_equal(lone.count, 0);
    packet.extensions = always;
    net_lone_six(&lone, &packet);
    assert_true(net_lone_icmp6(&lone, ICMP6_PARAMETER_PROBLEM, frame) > 0);
    close_stack();
}

/* ---- ICMPv6 ---- */

static void ping(const char *to, uint32_t bytes)
{
    static uint8_t message[1452] = {ICMP6_ECHO_REQUEST, 0, 0, 0, 0, 7, 0, 1};
    memset(message + 8, 0x5a, bytes);
    const struct net_six packet = {
        .from = PEER, .to = to, .next = IPPROTO_ICMPV6, .payload = message, .bytes = 8 + bytes};
    net_lone_six(&lone, &packet);
}

static void an_echo_of_ipv6_is_returned_whole(void **state)
{
    (void)state;
    uint8_t frame[NET_LONE_BYTES];
    open_stack();
    for (uint32_t bytes = 0; bytes <= 1444; bytes += 76) {
        ping(OURS, bytes);
        assert_int_equal(net_lone_icmp6(&lone, ICMP6_ECHO_REPLY, frame), 62 + bytes);
        assert_int_equal(frame[54 + 5], 7);
        assert_int_equal(frame[5], 2);
        assert_true(bytes == 0 || frame[61 + bytes] == 0x5a);
    }
    ping("ff02::1", 8); /* to all: answered from an address of ours */
    assert_int_equal(net_lone_icmp6(&lone, ICMP6_ECHO_REPLY, frame), 70);
    struct ip_address from = ip_address_of_ipv6(frame + 22), ours = net_address(OURS);
    assert_true(ip_address_equal(&from, &ours));
    close_stack();
}

static void echoes_of_both_families_are_bounded_in_time(void **state)
{
    (void)state;
    open_stack();
    uint64_t before = lone.stack->counters.icmp_out;
    for (unsigned i = 0; i < 1100; i++) {
        ping(OURS, 4);
    }
    assert_int_equal(lone.stack->counters.icmp_out - before, 1000);
    assert_int_equal(lone.stack->counters.icmp_out_rate_limited, 100);
    close_stack();
}

static void udp_over_ipv6_is_told_that_nobody_listens(void **state)
{
    (void)state;
    /* Ports 4386 and 53, 1400 bytes. */
    uint8_t frame[NET_LONE_BYTES], payload[1400] = {0x11, 0x22, 0, 53, 5, 0x78};
    const struct endpoint ends[2] = {net_endpoint("[" PEER "]:1"), net_endpoint("[" OURS "]:1")};
    struct ip_address from, to;
    assert_true(ip_address_of_endpoint(&from, &ends[0]) && ip_address_of_endpoint(&to, &ends[1]));
    uint16_t sum = checksum_finish(checksum_add(
        ip_pseudo_sum(&from, &to, IPPROTO_UDP, sizeof(payload)), payload, sizeof(payload)));
    memcpy(payload + 6, &sum, sizeof(sum));
    open_stack();
    const struct net_six packet = {.from = PEER,
                                   .to = OURS,
                                   .next = IPPROTO_UDP,
                                   .payload = payload,
                                   .bytes = sizeof(payload)};
    net_lone_six(&lone, &packet);
    uint32_t size = net_lone_icmp6(&lone, ICMP6_UNREACHABLE, frame);
    assert_int_equal(size, ETH_BYTES + IPV6_MTU_MIN); /* as much as the least MTU lets through */
    assert_int_equal(frame[55], 4);
    assert_int_equal(frame[62 + 40], 0x11);
    close_stack();
}

/* An error that quotes a segment of the accepted stream. */
static void error_put(uint8_t type, uint8_t code, uint32_t mtu, uint32_t seq)
{
    const struct tcp_conn *conn = (const struct tcp_conn *)accepted_stream;
    uint8_t message[8 + 40 + 8] = {type, code};
    const struct rte_tcp_hdr tcp = {.src_port = htons(conn->tuple.local_port),
                                    .dst_port = htons(conn->tuple.remote_port),
                                    .sent_seq = htonl(seq)};
    mtu = htonl(mtu);
    memcpy(message + 4, &mtu, 4);
    message[8] = 0x60;
    message[8 + 6] = IPPROTO_TCP;
    memcpy(message + 8 + 8, conn->tuple.local.words, 16);
    memcpy(message + 8 + 24, conn->tuple.remote.words, 16);
    memcpy(message + 48, &tcp, 8);
    const struct net_six packet = {.from = PEER,
                                   .to = OURS,
                                   .next = IPPROTO_ICMPV6,
                                   .payload = message,
                                   .bytes = sizeof(message)};
    net_lone_six(&lone, &packet);
}

static void a_narrow_path_of_ipv6_makes_segments_smaller_but_not_for_a_guess(void **state)
{
    (void)state;
    static const uint8_t text[2000];
    open_stack();
    listen_at("[::]:25");
    uint8_t frame[NET_LONE_BYTES];
    struct rte_tcp_hdr tcp = segment(1000, 0, TCP_SYN);
    struct slice slice;
    /* A SYN with an MSS of 1440. */
    uint8_t bytes[24];
    tcp.data_off = 6 << 4;
    memcpy(bytes, &tcp, 20);
    memcpy(bytes + 20, "\2\4\5\240", 4);
    const struct net_six syn = {
        .from = PEER, .to = OURS, .next = IPPROTO_TCP, .payload = bytes, .bytes = 24};
    net_lone_six(&lone, &syn);
    assert_true(net_lone_segment(&lone, frame, &tcp, &slice));
    uint32_t next = ntohl(tcp.sent_seq) + 1;
    tcp = segment(1001, next, TCP_ACK);
    net_lone_tcp(&lone, &to_us, &tcp, "");
    assert_non_null(accepted_stream);
    const struct tcp_conn *conn = (const struct tcp_conn *)accepted_stream;
    assert_int_equal(conn->mss, 1440);
    assert_int_equal(stream_write(accepted_stream, slice_of(text, sizeof(text))), 0);
    net_lone_round(&lone);
    error_put(ICMP6_TOO_BIG, 0, 1400, next + 5000); /* not under way */
    assert_int_equal(conn->mss, 1440);
    error_put(ICMP6_TOO_BIG, 0, 1279, next); /* no link is so narrow: RFC 8201 */
    assert_int_equal(conn->mss, 1440);
    error_put(ICMP6_TOO_BIG, 0, 1400, next);
    assert_int_equal(conn->mss, 1340);
    error_put(ICMP6_TOO_BIG, 0, 1280, next);
    assert_int_equal(conn->mss, 1220);
    error_put(ICMP6_TOO_BIG, 0, 1500, next); /* never up */
    assert_int_equal(conn->mss, 1220);
    assert_int_equal(stream_events & STREAM_CLOSED, 0);
    close_stack();
}

static void an_error_of_icmpv6_ends_an_attempt_but_no_connection(void **state)
{
    (void)state;
    struct stream *stream;
    open_stack();
    listen_at("[::]:25");
    uint32_t next = shake_hands();
    assert_int_equal(stream_write(accepted_stream, slice_text("x")), 0);
    net_lone_round(&lone);
    error_put(ICMP6_UNREACHABLE, 3, 0, next);
    assert_int_equal(stream_events & STREAM_CLOSED, 0);
    struct stream *kept = accepted_stream;
    const struct connect_request request = {.to = net_endpoint("[fd00::2]:25")};
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), 0);
    stream->notify = notified;
    accepted_stream = stream;
    error_put(ICMP6_UNREACHABLE, 4, 0, ((struct tcp_conn *)stream)->iss);
    assert_int_equal(stream_events & STREAM_CLOSED, STREAM_CLOSED);
    assert_int_equal(stream_error, -ECONNREFUSED);
    stream_release(stream);
    accepted_stream = kept;
    close_stack();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_accepted_and_talks_both_ways),
        cmocka_unit_test(each_family_has_listeners_of_its_own),
        cmocka_unit_test(a_connection_is_opened_from_the_address_that_was_asked_for),
        cmocka_unit_test(cookies_work_for_long_addresses),
        cmocka_unit_test(mapped_addresses_and_martians_are_not_let_in),
        cmocka_unit_test(bytes_arrive_exactly_over_ipv6_whatever_the_link_does),
        cmocka_unit_test(extension_headers_are_walked_as_the_rfc_says),
        cmocka_unit_test(an_unknown_option_to_a_group_is_told_of_only_when_it_asks_for_that),
        cmocka_unit_test(an_echo_of_ipv6_is_returned_whole),
        cmocka_unit_test(echoes_of_both_families_are_bounded_in_time),
        cmocka_unit_test(udp_over_ipv6_is_told_that_nobody_listens),
        cmocka_unit_test(a_narrow_path_of_ipv6_makes_segments_smaller_but_not_for_a_guess),
        cmocka_unit_test(an_error_of_icmpv6_ends_an_attempt_but_no_connection),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
