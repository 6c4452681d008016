/* What is not ours goes to the kernel beside us, as it came, and nothing else does. */
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "tests/unit/net_beside.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct beside beside;
static uint8_t frame[BESIDE_BYTES];

static void open_with(const struct beside_settings *settings)
{
    static const struct beside_settings none;
    beside_open(&beside, settings == NULL ? &none : settings);
}

/* In it goes, at this queue, and a round. */
static void arrive(unsigned queue, const void *bytes, uint32_t size)
{
    beside_forget(&beside);
    beside_put(&beside, &beside.wire, queue, bytes, size);
    beside_round(&beside);
}

static void only_the_kernel_gets(const void *bytes, uint32_t size)
{
    arrive(0, bytes, size);
    assert_int_equal(beside.wire.out_count, 0);
    assert_int_equal(beside.kernel.out_count, 1);
    assert_int_equal(beside.kernel.out_bytes[0], size);
    assert_memory_equal(beside.kernel.out[0], bytes, size);
}

static void the_kernel_does_not_get(const void *bytes, uint32_t size)
{
    arrive(0, bytes, size);
    assert_int_equal(beside.kernel.out_count, 0);
}

static const char *const ours[2] = {"10.0.0.1", "fd00::1"};
static const char *const theirs[2] = {"10.0.0.2", "fd00::2"};

/* ---- frames ---- */

static void what_is_not_ip_goes_to_the_kernel_unless_it_is_another_hosts(void **state)
{
    uint8_t lldp[60] = {1, 0x80, 0xc2, 0, 0, 0xe, 2, 0, 0, 0, 0, 2, 0x88, 0xcc, 5};
    (void)state;
    open_with(NULL);
    only_the_kernel_gets(lldp, sizeof(lldp));
    memset(lldp, 0xff, 6);
    only_the_kernel_gets(lldp, sizeof(lldp));
    memcpy(lldp, (const uint8_t[]){2, 0, 0, 0, 0, 1}, 6);
    only_the_kernel_gets(lldp, sizeof(lldp));
    assert_int_equal(BESIDE_SUM(&beside, frames_not_ours), 0);
    lldp[5] = 9;
    the_kernel_does_not_get(lldp, sizeof(lldp));
    the_kernel_does_not_get(lldp, 13);
    assert_int_equal(BESIDE_SUM(&beside, frames_not_ours), 2);
    assert_int_equal(BESIDE_SUM(&beside, exception_out), 3);
    beside_close(&beside);
}

static void packets_to_other_addresses_and_groups_go_to_the_kernel(void **state)
{
    static const struct {
        const char *from, *to;
        uint8_t protocol;
    } packets[] = {
        {"10.0.0.2", "10.0.0.3", IPPROTO_TCP},
        {"10.0.0.2", "10.0.0.255", IPPROTO_UDP},
        {"0.0.0.0", "255.255.255.255", IPPROTO_UDP}, /* DHCP */
        {"10.0.0.2", "224.0.0.22", IPPROTO_IGMP},
        {"10.0.0.2", "239.1.2.3", IPPROTO_UDP},
        {"fd00::2", "fd00::3", IPPROTO_TCP},
        {"fe80::2", "ff02::fb", IPPROTO_UDP},
        {"fe80::2", "ff02::16", IPPROTO_ICMPV6},
        {"fe80::2", "ff02::1", IPPROTO_UDP}, /* of the group we are, but not by UDP */
    };
    const uint8_t payload[40] = {0, 5, 0, 9};
    (void)state;
    open_with(NULL);
    for (unsigned i = 0; i < RTE_DIM(packets); i++) {
        const struct beside_packet packet = {packets[i].from, packets[i].to,   packets[i].protocol,
                                             payload,         sizeof(payload), .hop_limit = 1};
        only_the_kernel_gets(frame, beside_make(frame, &packet));
    }
    assert_int_equal(BESIDE_SUM(&beside, ip_in_address_errors), 0);
    beside_close(&beside);
}

static void what_is_malformed_or_says_that_it_comes_from_us_reaches_nobody(void **state)
{
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        const struct beside_packet packet = {ours[family],   ours[family], IPPROTO_TCP, frame, 0,
                                             .hop_limit = 64};
        the_kernel_does_not_get(frame, beside_make(frame, &packet));
        uint32_t size = beside_segment(frame, family, 4000, 22, TCP_SYN);
        frame[size - 1] ^= 1; /* the checksum */
        the_kernel_does_not_get(frame, size);
        the_kernel_does_not_get(frame, size - 3);
        size = beside_datagram(frame, family, 53, "?");
        frame[size - 1] ^= 1;
        the_kernel_does_not_get(frame, size);
    }
    assert_int_equal(beside.wire.out_count, 0);
    beside_close(&beside);
}

static void protocols_that_we_do_not_speak_go_to_the_kernel_with_all_their_headers(void **state)
{
    static const uint8_t protocols[] = {50 /* ESP */, 132 /* SCTP */, 89 /* OSPF */, 47 /* GRE */};
    const uint8_t payload[40] = {0, 5, 0, 9}, options[8] = {50, 0, 1, 4};
    (void)state;
    open_with(NULL);
    for (unsigned i = 0; i < 2 * RTE_DIM(protocols); i++) {
        const struct beside_packet packet = {theirs[i % 2], ours[i % 2],     protocols[i / 2],
                                             payload,       sizeof(payload), .hop_limit = 1};
        only_the_kernel_gets(frame, beside_make(frame, &packet));
    }
    const struct beside_packet packet = {.from = "fd00::2",
                                         .to = "fd00::1",
                                         .protocol = 50,
                                         .payload = payload,
                                         .bytes = sizeof(payload),
                                         .extensions = options,
                                         .extension_bytes = sizeof(options),
                                         .first_extension = IPPROTO_DSTOPTS};
    only_the_kernel_gets(frame, beside_make(frame, &packet));
    assert_int_equal(BESIDE_SUM(&beside, ip_in_unknown_protocols), 0);
    beside_close(&beside);
}

static void fragments_of_protocols_that_we_do_not_speak_go_to_the_kernel_as_they_came(void **state)
{
    const uint8_t payload[40] = {0, 5, 0, 9}, fragment[8] = {50, 0, 0, 1};
    const struct beside_packet four = {theirs[0], ours[0],         50,
                                       payload,   sizeof(payload), .hop_limit = 64};
    const struct beside_packet six = {theirs[1],        ours[1],          50,
                                      payload,          sizeof(payload),  fragment,
                                      sizeof(fragment), IPPROTO_FRAGMENT, 64};
    (void)state;
    open_with(NULL);
    uint32_t size = beside_make(frame, &four);
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    ip->fragment_offset = htons(0x2000);
    ip->hdr_checksum = 0;
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, IPV4_BYTES));
    only_the_kernel_gets(frame, size);
    only_the_kernel_gets(frame, beside_make(frame, &six));
    assert_int_equal(BESIDE_SUM(&beside, ip_reassembly_requests), 0);
    beside_close(&beside);
}

/* ---- TCP, UDP, ICMP ---- */

static void segments_of_no_connection_and_to_no_listener_go_to_the_kernel(void **state)
{
    static const uint8_t flags[] = {TCP_SYN,           TCP_ACK,           TCP_RST,
                                    TCP_RST | TCP_ACK, TCP_FIN | TCP_ACK, TCP_SYN | TCP_ACK};
    (void)state;
    open_with(NULL);
    for (unsigned i = 0; i < 2 * RTE_DIM(flags); i++) {
        only_the_kernel_gets(frame, beside_segment(frame, i % 2, 4000, 22, flags[i / 2]));
    }
    assert_int_equal(BESIDE_SUM(&beside, tcp_out_resets), 0);
    beside_close(&beside);
}

static uint8_t flags_sent(unsigned family)
{
    assert_int_equal(beside.kernel.out_count, 0);
    assert_int_equal(beside.wire.out_count, 1);
    return beside.wire.out[0][ETH_BYTES + (family == 0 ? IPV4_BYTES : IPV6_BYTES) + 13];
}

static void at_the_port_of_a_listener_all_is_ours(void **state)
{
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        arrive(0, frame, beside_segment(frame, family, 4000, 25, TCP_SYN));
        assert_int_equal(flags_sent(family), TCP_SYN | TCP_ACK);
        arrive(0, frame, beside_segment(frame, family, 4001, 25, TCP_ACK));
        assert_int_equal(flags_sent(family), TCP_RST);
        the_kernel_does_not_get(frame, beside_segment(frame, family, 4001, 25, TCP_RST));
        assert_int_equal(beside.wire.out_count, 0);
        the_kernel_does_not_get(frame,
                                beside_segment(frame, family, 4000, 25, TCP_RST)); /* half-open */
    }
    beside_close(&beside);
}

static struct stream *connect_to(unsigned shard, const char *to, uint16_t *port)
{
    struct network *network = beside.networks[shard];
    const struct connect_request request = {.to = net_endpoint(to)};
    struct stream *stream;
    beside_forget(&beside);
    assert_int_equal(network->ops->connect(network, &request, &stream), 0);
    beside_round(&beside);
    const uint8_t *tcp = beside.wire.out[0] + ETH_BYTES + (to[0] == '[' ? IPV6_BYTES : IPV4_BYTES);
    *port = (uint16_t)(tcp[0] << 8 | tcp[1]);
    return stream;
}

static void segments_of_our_connections_are_ours(void **state)
{
    static const char *const to[2] = {"10.0.0.2:25", "[fd00::2]:25"};
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        uint16_t port;
        struct stream *stream = connect_to(0, to[family], &port);
        the_kernel_does_not_get(frame, beside_segment(frame, family, 25, port, TCP_SYN | TCP_ACK));
        the_kernel_does_not_get(frame, beside_segment(frame, family, 25, port, TCP_RST));
        only_the_kernel_gets(frame, beside_segment(frame, family, 26, port, TCP_RST));
        stream_abort(stream);
        stream_release(stream);
        beside_round(&beside);
    }
    beside_close(&beside);
}

static void datagrams_without_a_socket_go_to_the_kernel(void **state)
{
    struct datagram_socket *socket;
    const struct datagram_request request = {.at = {.port = 5353}};
    struct datagram got;
    (void)state;
    open_with(NULL);
    assert_int_equal(udp_open(beside.networks[0], &request, &socket), 0);
    for (unsigned family = 0; family < 2; family++) {
        only_the_kernel_gets(frame, beside_datagram(frame, family, 53, "who?"));
        the_kernel_does_not_get(frame, beside_datagram(frame, family, 5353, "me"));
        assert_int_equal(datagram_receive(socket, &got), 1);
        assert_int_equal(got.bytes.size, 2);
        assert_int_equal(datagram_receive(socket, &got), 0);
    }
    assert_int_equal(BESIDE_SUM(&beside, udp_no_ports), 0);
    datagram_close(socket);
    beside_close(&beside);
}

/* An error from another host that quotes what was sent from our address and this port. */
static uint32_t error_make(unsigned family, uint8_t protocol, uint16_t from_port)
{
    uint8_t message[8 + IPV6_BYTES + 8] = {family == 0 ? 3 : 1, family == 0 ? 3 : 4}, inner[128];
    const uint8_t ports[8] = {(uint8_t)(from_port >> 8), (uint8_t)from_port, 0, 25};
    uint32_t header = family == 0 ? IPV4_BYTES : IPV6_BYTES;
    const struct beside_packet quoted = {ours[family], theirs[family], 0,
                                         ports,        sizeof(ports),  .hop_limit = 64};
    beside_make(inner, &quoted);
    memcpy(message + 8, inner + ETH_BYTES, header + 8);
    message[8 + (family == 0 ? 9 : 6)] = protocol;
    const struct beside_packet packet = {
        theirs[family], ours[family],   family == 0 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
        message,        8 + header + 8, .hop_limit = 64};
    return beside_make(frame, &packet);
}

static void errors_that_quote_nothing_of_ours_go_to_the_kernel(void **state)
{
    static const char *const to[2] = {"10.0.0.2:25", "[fd00::2]:25"};
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        uint16_t port;
        struct stream *stream = connect_to(0, to[family], &port);
        only_the_kernel_gets(frame, error_make(family, IPPROTO_TCP, 22));
        only_the_kernel_gets(frame, error_make(family, IPPROTO_UDP, 22));
        only_the_kernel_gets(frame, error_make(family, 50, 22));
        assert_int_equal(BESIDE_SUM(&beside, icmp_in_errors), family);
        the_kernel_does_not_get(frame, error_make(family, IPPROTO_TCP, port));
        stream_abort(stream);
        stream_release(stream);
        beside_round(&beside);
    }
    beside_close(&beside);
}

static void echo_requests_are_answered_by_us_and_their_replies_are_the_kernels(void **state)
{
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        uint8_t message[64] = {family == 0 ? 8 : 128, 0, 0, 0, 1, 2};
        struct beside_packet packet = {
            theirs[family], ours[family],    family == 0 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
            message,        sizeof(message), .hop_limit = 64};
        the_kernel_does_not_get(frame, beside_make(frame, &packet));
        assert_int_equal(beside.wire.out_count, 1);
        message[0] = family == 0 ? 0 : 129;
        only_the_kernel_gets(frame, beside_make(frame, &packet));
        message[0] = family == 0 ? 13 : 200; /* kinds that we do not know */
        only_the_kernel_gets(frame, beside_make(frame, &packet));
    }
    beside_close(&beside);
}

/* ---- neighbours ---- */

static const uint8_t *arp(uint8_t operation, uint8_t sender, uint8_t target)
{
    static uint8_t bytes[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8,
                                6,    0,    1,    8,    0,    6,    4, 0, 0, 2, 0, 0, 0,
                                0,    2,    10,   0,    0,    0,    0, 0, 0, 0, 0, 0, 10};
    bytes[21] = operation;
    bytes[31] = sender;
    bytes[41] = target;
    return bytes;
}

static void arp_reaches_both_but_for_questions_after_our_addresses(void **state)
{
    (void)state;
    open_with(NULL);
    only_the_kernel_gets(arp(RTE_ARP_OP_REPLY, 2, 1), 42);
    assert_int_equal(BESIDE_SUM(&beside, arp_in), 1);
    only_the_kernel_gets(arp(RTE_ARP_OP_REQUEST, 2, 7), 42);
    only_the_kernel_gets(arp(RTE_ARP_OP_REQUEST, 2, 2), 42); /* announced */
    the_kernel_does_not_get(arp(RTE_ARP_OP_REQUEST, 2, 1), 42);
    assert_int_equal(beside.wire.out_count, 1);
    assert_int_equal(beside.wire.out[0][21], RTE_ARP_OP_REPLY);
    the_kernel_does_not_get(arp(RTE_ARP_OP_REQUEST, 2, 1), 41);
    beside_close(&beside);
}

static uint32_t neighbour_make(uint8_t type, const char *to, const char *target)
{
    uint8_t message[32] = {type};
    struct ip_address address;
    struct endpoint at = net_endpoint(target);
    assert_true(ip_address_of_endpoint(&address, &at));
    memcpy(message + 8, address.words, 16);
    memcpy(message + 24, (const uint8_t[]){2, 1, 2, 0, 0, 0, 0, 2}, 8);
    const struct beside_packet packet = {
        "fd00::2", to, IPPROTO_ICMPV6, message, sizeof(message), .hop_limit = 255};
    return beside_make(frame, &packet);
}

static void neighbor_discovery_reaches_both_but_for_questions_after_our_addresses(void **state)
{
    uint8_t router[16] = {ICMP6_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 7, 8};
    (void)state;
    open_with(NULL);
    only_the_kernel_gets(frame,
                         neighbour_make(ICMP6_NEIGHBOR_ADVERTISEMENT, "fd00::1", "[fd00::2]:1"));
    only_the_kernel_gets(
        frame, neighbour_make(ICMP6_NEIGHBOR_SOLICITATION, "ff02::1:ff00:7", "[fd00::7]:1"));
    only_the_kernel_gets(frame,
                         neighbour_make(ICMP6_NEIGHBOR_SOLICITATION, "fd00::1", "[fd00::7]:1"));
    assert_int_equal(BESIDE_SUM(&beside, nd_in), 2);
    the_kernel_does_not_get(
        frame, neighbour_make(ICMP6_NEIGHBOR_SOLICITATION, "ff02::1:ff00:1", "[fd00::1]:1"));
    assert_int_equal(beside.wire.out_count, 1);
    const struct beside_packet packet = {"fe80::2", "ff02::1",      IPPROTO_ICMPV6,
                                         router,    sizeof(router), .hop_limit = 255};
    only_the_kernel_gets(frame, beside_make(frame, &packet));
    assert_int_equal(BESIDE_SUM(&beside, nd_router_advertisements), 1);
    beside_close(&beside);
}

static void a_listener_query_reaches_the_kernel_with_its_router_alert_and_us_too(void **state)
{
    static const uint8_t alert[8] = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    const uint8_t query[28] = {ICMP6_LISTENER_QUERY};
    const struct beside_packet packet = {.from = "fe80::2",
                                         .to = "ff02::1",
                                         .protocol = IPPROTO_ICMPV6,
                                         .payload = query,
                                         .bytes = sizeof(query),
                                         .extensions = alert,
                                         .extension_bytes = sizeof(alert),
                                         .first_extension = IPPROTO_HOPOPTS,
                                         .hop_limit = 1};
    (void)state;
    open_with(NULL);
    uint32_t size = beside_make(frame, &packet);
    arrive(0, frame, size);
    assert_int_equal(beside.kernel.out_count, 1);
    assert_int_equal(beside.kernel.out_bytes[0], size);
    assert_memory_equal(beside.kernel.out[0], frame, size);
    beside.world.now_ns += 10 * MS_NS; /* at the latest, and in 10 ms */
    beside_round(&beside);
    assert_true(BESIDE_SUM(&beside, mld_out_reports) > 0);
    beside_close(&beside);
}

/* ---- the kernel's frames, tags, bounds ---- */

static void the_kernel_sends(const void *bytes, uint32_t size)
{
    beside_forget(&beside);
    beside_put(&beside, &beside.kernel, 0, bytes, size);
    beside_round(&beside);
    assert_int_equal(beside.kernel.out_count, 0);
}

static void the_kernels_frames_leave_as_they_are(void **state)
{
    (void)state;
    open_with(NULL);
    for (unsigned family = 0; family < 2; family++) {
        uint32_t size = beside_segment(frame, family, 22, 4000, TCP_SYN);
        the_kernel_sends(frame, size);
        assert_int_equal(beside.wire.out_count, 1);
        assert_int_equal(beside.wire.out_bytes[0], size);
        assert_memory_equal(beside.wire.out[0], frame, size);
    }
    assert_int_equal(BESIDE_SUM(&beside, exception_in), 2);
    beside_close(&beside);
}

static uint32_t tagged(uint8_t *out, uint16_t tag, const uint8_t *bytes, uint32_t size)
{
    memcpy(out, bytes, 12);
    memcpy(out + 12, (const uint8_t[]){0x81, 0, (uint8_t)(tag >> 8), (uint8_t)tag}, 4);
    memcpy(out + 16, bytes + 12, size - 12);
    return size + 4;
}

static void of_our_vlan_the_kernel_sees_no_tags_and_of_others_their_own(void **state)
{
    uint8_t other[BESIDE_BYTES], lldp[60] = {1, 0x80, 0xc2, 0, 0, 0xe, [12] = 0x88, 0xcc};
    (void)state;
    open_with(&(const struct beside_settings){.vlan = 7});
    uint32_t size = beside_segment(frame, 0, 4000, 22, TCP_SYN);
    arrive(0, other, tagged(other, 7, frame, size));
    assert_int_equal(beside.kernel.out_bytes[0], size);
    assert_memory_equal(beside.kernel.out[0], frame, size);
    only_the_kernel_gets(other, tagged(other, 8, frame, size));
    only_the_kernel_gets(lldp, sizeof(lldp));
    the_kernel_does_not_get(frame, size); /* which it would take for one of ours */
    assert_int_equal(BESIDE_SUM(&beside, frames_other_vlan), 1);

    the_kernel_sends(frame, size);
    assert_int_equal(beside.wire.out_bytes[0], tagged(other, 7, frame, size));
    assert_memory_equal(beside.wire.out[0], other, size + 4);
    the_kernel_sends(other, tagged(other, 8, frame, size));
    assert_int_equal(beside.wire.out_bytes[0], size + 4);
    assert_memory_equal(beside.wire.out[0], other, size + 4);
    the_kernel_sends(lldp, sizeof(lldp));
    assert_int_equal(beside.wire.out_bytes[0], sizeof(lldp));
    beside_close(&beside);
}

static void a_tag_that_the_port_has_taken_off_is_put_back(void **state)
{
    uint8_t other[BESIDE_BYTES];
    (void)state;
    open_with(NULL);
    uint32_t size = beside_segment(frame, 1, 4000, 22, TCP_SYN);
    struct rte_mbuf *mbuf = beside_put(&beside, &beside.wire, 0, frame, size);
    mbuf->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
    mbuf->vlan_tci = 9;
    beside_round(&beside);
    assert_int_equal(beside.kernel.out_count, 1);
    assert_int_equal(beside.kernel.out_bytes[0], tagged(other, 9, frame, size));
    assert_memory_equal(beside.kernel.out[0], other, size + 4);
    beside_close(&beside);
}

static void more_than_a_burst_in_one_round_is_lost_and_counted(void **state)
{
    (void)state;
    open_with(NULL);
    uint32_t size = beside_segment(frame, 0, 4000, 22, TCP_ACK);
    for (unsigned i = 0; i < EXCEPTION_OUT_MAX + 10; i++) {
        beside_put(&beside, &beside.wire, 0, frame, size);
    }
    beside_round(&beside);
    assert_int_equal(beside.kernel.out_count, EXCEPTION_OUT_MAX);
    assert_int_equal(BESIDE_SUM(&beside, exception_lost), 10);
    beside.kernel.room = 3; /* and then it takes no more */
    beside_forget(&beside);
    for (unsigned i = 0; i < 5; i++) {
        beside_put(&beside, &beside.wire, 0, frame, size);
    }
    beside_round(&beside);
    assert_int_equal(beside.kernel.out_count, 3);
    assert_int_equal(BESIDE_SUM(&beside, exception_lost), 12);
    assert_int_equal(BESIDE_SUM(&beside, exception_out), EXCEPTION_OUT_MAX + 3);
    beside_close(&beside);
}

static void what_the_port_has_no_room_for_waits_and_leaves_places_for_our_own(void **state)
{
    const struct stack *stack;
    (void)state;
    open_with(NULL);
    stack = stack_of(beside.networks[0]);
    beside.wire.room = 0;
    uint32_t size = beside_segment(frame, 0, 22, 4000, TCP_ACK);
    for (unsigned i = 0; i < BESIDE_FRAMES; i++) {
        beside_put(&beside, &beside.kernel, 0, frame, size);
    }
    struct network *network = beside.networks[0];
    network->ops->poll(network, beside.world.now_ns);
    assert_int_equal(stack->leaving_count, EXCEPTION_IN_MAX);
    beside_round(&beside);
    assert_int_equal(stack->leaving_count, STACK_TX_MAX - STACK_CONTROL_RESERVE);
    assert_int_equal(beside.kernel.in_count[0], BESIDE_FRAMES - stack->leaving_count);
    the_kernel_does_not_get(arp(RTE_ARP_OP_REQUEST, 2, 1), 42); /* answered, when there is room */
    assert_int_equal(stack->leaving_count, STACK_TX_MAX - STACK_CONTROL_RESERVE + 1);
    beside.wire.room = BESIDE_FRAMES;
    beside.wire.out_count = 0;
    beside_round(&beside);
    assert_int_equal(BESIDE_SUM(&beside, frames_out_lost), 0);
    assert_int_equal(beside.wire.out_count, BESIDE_FRAMES);
    beside.wire.room = BESIDE_FRAMES;
    beside.wire.out_count = 0;
    beside_round(&beside);
    assert_int_equal(beside.kernel.in_count[0], 0);
    assert_int_equal(BESIDE_SUM(&beside, exception_in), BESIDE_FRAMES);
    beside_close(&beside);
}

static void a_frame_that_the_tap_cannot_hold_is_lost_and_counted(void **state)
{
    uint8_t bytes[BESIDE_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
    (void)state;
    open_with(NULL);
    only_the_kernel_gets(bytes, 1514);
    the_kernel_does_not_get(bytes, 1515);
    memcpy(bytes + 12, (const uint8_t[]){0x81, 0, 0, 5}, 4);
    only_the_kernel_gets(bytes, 1518);
    assert_int_equal(BESIDE_SUM(&beside, exception_lost), 1);
    the_kernel_sends(bytes, 1519);
    assert_int_equal(beside.wire.out_count, 0);
    assert_int_equal(BESIDE_SUM(&beside, exception_lost), 2);
    beside_close(&beside);
}

static void an_unfinished_checksum_is_finished_in_a_copy(void **state)
{
    (void)state;
    open_with(NULL);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t whole[BESIDE_BYTES];
        const char *other = i < 2 ? "10.0.0.9" : "fd00::9";
        uint8_t payload[40] = {0, 5, 0, 9, 0, 40};
        unsigned place = i % 2 == 0 ? 16 : 6;
        const struct beside_packet packet = {
            theirs[i / 2], other,           i % 2 == 0 ? IPPROTO_TCP : IPPROTO_UDP,
            payload,       sizeof(payload), .hop_limit = 64};
        uint32_t size = beside_make(whole, &packet);
        memcpy(frame, whole, size);
        frame[size - 40 + place] ^= 0x55;
        beside_forget(&beside);
        struct rte_mbuf *mbuf = beside_put(&beside, &beside.wire, 0, frame, size);
        mbuf->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
        rte_mbuf_refcnt_update(mbuf, 1);
        beside_round(&beside);
        assert_int_equal(beside.kernel.out_count, 1);
        assert_memory_equal(beside.kernel.out[0], whole, size);
        assert_memory_equal(rte_pktmbuf_mtod(mbuf, const uint8_t *), frame, size);
        rte_pktmbuf_free(mbuf);
    }
    beside_close(&beside);
}

static void when_the_kernel_sends_the_sleep_ends(void **state)
{
    (void)state;
    open_with(NULL);
    beside.kernel.armed = 42;
    assert_int_equal(stack_arm_exception(beside.networks[0]), 42);
    beside_put(&beside, &beside.kernel, 0, arp(RTE_ARP_OP_REQUEST, 1, 2), 42);
    assert_int_equal(stack_arm_exception(beside.networks[0]), -EAGAIN);
    beside_round(&beside);
    beside_close(&beside);
    open_with(&(const struct beside_settings){.alone = true});
    assert_int_equal(stack_arm_exception(beside.networks[0]), -EINVAL);
    beside_close(&beside);
}

/* ---- several shards ---- */

static void only_what_no_shard_knows_is_the_kernels(void **state)
{
    (void)state;
    open_with(&(const struct beside_settings){.shards = 3});
    for (unsigned family = 0; family < 2; family++) {
        uint16_t port;
        struct stream *stream = connect_to(2, family == 0 ? "10.0.0.2:25" : "[fd00::2]:25", &port);
        arrive(1, frame, beside_segment(frame, family, 25, 22, TCP_ACK));
        assert_int_equal(beside.kernel.out_count, 1);
        assert_int_equal(beside.kernel.out_queue[0], 1);
        arrive(1, frame, beside_datagram(frame, family, 53, "?"));
        assert_int_equal(beside.kernel.out_count, 1);
        arrive(1, frame, error_make(family, IPPROTO_TCP, 22));
        assert_int_equal(beside.kernel.out_count, 1);
        arrive(1, frame, error_make(family, IPPROTO_TCP, port));
        assert_int_equal(beside.kernel.out_count, 0);
        arrive(1, frame, beside_segment(frame, family, 25, port, TCP_RST)); /* of shard 2 */
        assert_int_equal(beside.kernel.out_count, 0);
        assert_int_equal(beside.wire.out_count, 0);
        stream_abort(stream);
        stream_release(stream);
        beside_round(&beside);
    }
    assert_int_equal(BESIDE_SUM(&beside, tcp_out_resets), 0);
    assert_int_equal(BESIDE_SUM(&beside, exception_lost), 0);
    beside_close(&beside);
}

static void what_all_shards_hear_the_kernel_hears_once(void **state)
{
    uint8_t router[16] = {ICMP6_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 7, 8};
    const struct beside_packet packet = {"fe80::2", "ff02::1",      IPPROTO_ICMPV6,
                                         router,    sizeof(router), .hop_limit = 255};
    (void)state;
    open_with(&(const struct beside_settings){.shards = 3, .dealt = true});
    only_the_kernel_gets(arp(RTE_ARP_OP_REPLY, 2, 1), 42);
    only_the_kernel_gets(arp(RTE_ARP_OP_REQUEST, 2, 7), 42);
    only_the_kernel_gets(frame,
                         neighbour_make(ICMP6_NEIGHBOR_ADVERTISEMENT, "fd00::1", "[fd00::2]:1"));
    only_the_kernel_gets(frame, beside_make(frame, &packet));
    assert_int_equal(BESIDE_SUM(&beside, nd_router_advertisements), 3);
    for (uint16_t port = 4000; port < 4010; port++) { /* wherever it hashes to */
        only_the_kernel_gets(frame, beside_segment(frame, port % 2, port, 22, TCP_SYN));
    }
    beside_close(&beside);
}

static void every_shard_sends_what_the_kernel_gave_its_queue(void **state)
{
    (void)state;
    open_with(&(const struct beside_settings){.shards = 3});
    for (unsigned queue = 0; queue < 3; queue++) {
        uint32_t size = beside_segment(frame, 0, 22, (uint16_t)(4000 + queue), TCP_ACK);
        beside_forget(&beside);
        beside_put(&beside, &beside.kernel, queue, frame, size);
        beside_round(&beside);
        assert_int_equal(beside.wire.out_count, 1);
        assert_int_equal(beside.wire.out_queue[0], queue);
        assert_memory_equal(beside.wire.out[0], frame, size);
    }
    beside_close(&beside);
}

static void without_a_kernel_beside_us_all_is_refused_as_ever(void **state)
{
    (void)state;
    open_with(&(const struct beside_settings){.alone = true});
    arrive(0, frame, beside_segment(frame, 0, 4000, 22, TCP_SYN));
    assert_int_equal(flags_sent(0), TCP_RST | TCP_ACK);
    arrive(0, frame, beside_datagram(frame, 0, 53, "?"));
    assert_int_equal(beside.wire.out[0][ETH_BYTES + 9], IPPROTO_ICMP);
    arrive(0, frame, error_make(0, IPPROTO_UDP, 22));
    assert_int_equal(BESIDE_SUM(&beside, icmp_in_errors), 1);
    assert_int_equal(BESIDE_SUM(&beside, exception_out) + BESIDE_SUM(&beside, exception_lost), 0);
    beside_close(&beside);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_ip_goes_to_the_kernel_unless_it_is_another_hosts),
        cmocka_unit_test(packets_to_other_addresses_and_groups_go_to_the_kernel),
        cmocka_unit_test(what_is_malformed_or_says_that_it_comes_from_us_reaches_nobody),
        cmocka_unit_test(protocols_that_we_do_not_speak_go_to_the_kernel_with_all_their_headers),
        cmocka_unit_test(fragments_of_protocols_that_we_do_not_speak_go_to_the_kernel_as_they_came),
        cmocka_unit_test(segments_of_no_connection_and_to_no_listener_go_to_the_kernel),
        cmocka_unit_test(at_the_port_of_a_listener_all_is_ours),
        cmocka_unit_test(segments_of_our_connections_are_ours),
        cmocka_unit_test(datagrams_without_a_socket_go_to_the_kernel),
        cmocka_unit_test(errors_that_quote_nothing_of_ours_go_to_the_kernel),
        cmocka_unit_test(echo_requests_are_answered_by_us_and_their_replies_are_the_kernels),
        cmocka_unit_test(arp_reaches_both_but_for_questions_after_our_addresses),
        cmocka_unit_test(neighbor_discovery_reaches_both_but_for_questions_after_our_addresses),
        cmocka_unit_test(a_listener_query_reaches_the_kernel_with_its_router_alert_and_us_too),
        cmocka_unit_test(the_kernels_frames_leave_as_they_are),
        cmocka_unit_test(of_our_vlan_the_kernel_sees_no_tags_and_of_others_their_own),
        cmocka_unit_test(a_tag_that_the_port_has_taken_off_is_put_back),
        cmocka_unit_test(more_than_a_burst_in_one_round_is_lost_and_counted),
        cmocka_unit_test(what_the_port_has_no_room_for_waits_and_leaves_places_for_our_own),
        cmocka_unit_test(a_frame_that_the_tap_cannot_hold_is_lost_and_counted),
        cmocka_unit_test(an_unfinished_checksum_is_finished_in_a_copy),
        cmocka_unit_test(when_the_kernel_sends_the_sleep_ends),
        cmocka_unit_test(only_what_no_shard_knows_is_the_kernels),
        cmocka_unit_test(what_all_shards_hear_the_kernel_hears_once),
        cmocka_unit_test(every_shard_sends_what_the_kernel_gave_its_queue),
        cmocka_unit_test(without_a_kernel_beside_us_all_is_refused_as_ever),
    };
    return cmocka_run_group_tests(tests, beside_set_up, beside_tear_down);
}
