/* Ports may deliver a frame in pieces, cut anywhere. */
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ECHO_BYTES 100u

static struct {
    struct net_world world;
    struct port port;
    struct wheel *wheel;
    struct network *network;
    struct rte_mbuf *arriving;
    uint64_t flags;      /* of what arrives */
    uint8_t answer[256]; /* the last frame that left */
    uint32_t answer_bytes;
    unsigned answers;
} host;
static struct rte_mempool *pool;

static uint16_t receive(struct port *port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
    (void)port;
    (void)queue;
    if (host.arriving == NULL || count == 0) {
        return 0;
    }
    frames[0] = host.arriving;
    host.arriving = NULL;
    return 1;
}

static uint16_t transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                         uint16_t count)
{
    (void)port;
    (void)queue;
    for (uint16_t i = 0; i < count; i++) {
        host.answer_bytes = frames[i]->pkt_len;
        assert_true(host.answer_bytes <= sizeof(host.answer));
        const void *bytes = rte_pktmbuf_read(frames[i], 0, host.answer_bytes, host.answer);
        memmove(host.answer, bytes, host.answer_bytes);
        host.answers++;
        rte_pktmbuf_free(frames[i]);
    }
    return count;
}

static int arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static const struct port_ops ops = {.receive = receive, .transmit = transmit, .arm = arm};

static void pass(void)
{
    host.world.now_ns += 100000000u; /* answers are rationed by the second */
    host.network->ops->poll(host.network, host.world.now_ns);
    wheel_run(host.wheel, host.world.now_ns);
    host.network->ops->flush(host.network, host.world.now_ns);
}

/* Puts the frame into two mbufs, the first `cut` bytes long. */
static void arrives_cut(const uint8_t *bytes, uint32_t size, uint32_t cut)
{
    struct rte_mbuf *first = rte_pktmbuf_alloc(pool), *second = rte_pktmbuf_alloc(pool);
    memcpy(rte_pktmbuf_append(first, (uint16_t)cut), bytes, cut);
    memcpy(rte_pktmbuf_append(second, (uint16_t)(size - cut)), bytes + cut, size - cut);
    assert_int_equal(rte_pktmbuf_chain(first, second), 0);
    first->ol_flags |= host.flags;
    host.arriving = first;
    pass();
}

static uint32_t ip_begin(uint8_t *frame, uint8_t protocol, uint16_t bytes)
{
    static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 9};
    struct rte_ether_hdr *eth = (struct rte_ether_hdr *)frame;
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
    memcpy(eth->dst_addr.addr_bytes, host.port.facts.mac, 6);
    memcpy(eth->src_addr.addr_bytes, peer_mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
    *ip = (struct rte_ipv4_hdr){.version_ihl = RTE_IPV4_VHL_DEF,
                                .total_length = htons((uint16_t)(sizeof(*ip) + bytes)),
                                .time_to_live = 64,
                                .next_proto_id = protocol,
                                .src_addr = htonl(0x0a000009),
                                .dst_addr = htonl(0x0a000001)};
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
    return sizeof(*eth) + sizeof(*ip);
}

/* 10.0.0.9 asks who 10.0.0.1 is, so that answers to it can leave. */
static void neighbour_known(void)
{
    uint8_t frame[42] = {0};
    struct rte_ether_hdr *eth = (struct rte_ether_hdr *)frame;
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(eth + 1);
    memset(eth->dst_addr.addr_bytes, 0xff, 6);
    memcpy(eth->src_addr.addr_bytes, "\2\0\0\0\0\x9", 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_ARP);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons(RTE_ARP_OP_REQUEST)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, "\2\0\0\0\0\x9", 6);
    arp->arp_data.arp_sip = htonl(0x0a000009);
    arp->arp_data.arp_tip = htonl(0x0a000001);
    arrives_cut(frame, sizeof(frame), 7);
    host.answers = 0;
}

static void a_ping_is_answered_wherever_it_is_cut(void **state)
{
    uint8_t frame[14 + 20 + 8 + ECHO_BYTES];
    uint32_t offset = ip_begin(frame, IPPROTO_ICMP, 8 + ECHO_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(frame + offset);
    (void)state;
    *icmp = (struct rte_icmp_hdr){.icmp_type = RTE_IP_ICMP_ECHO_REQUEST};
    for (unsigned i = 0; i < ECHO_BYTES; i++) {
        frame[offset + 8 + i] = (uint8_t)i;
    }
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, 8 + ECHO_BYTES));
    for (uint32_t cut = 1; cut < sizeof(frame); cut++) {
        host.answers = 0;
        arrives_cut(frame, sizeof(frame), cut);
        assert_int_equal(host.answers, 1);
        assert_int_equal(host.answer_bytes, sizeof(frame));
        assert_int_equal(host.answer[offset], RTE_IP_ICMP_ECHO_REPLY);
        assert_memory_equal(host.answer + offset + 8, frame + offset + 8, ECHO_BYTES);
    }
}

static void a_segment_is_read_wherever_it_is_cut(void **state)
{
    uint8_t frame[14 + 20 + 20 + 40];
    uint32_t offset = ip_begin(frame, IPPROTO_TCP, 60);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + offset);
    const struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
    (void)state;
    *tcp = (struct rte_tcp_hdr){.src_port = htons(4000),
                                .dst_port = htons(25), /* nobody listens */
                                .sent_seq = htonl(1000),
                                .data_off = 60 / 4 << 4,
                                .tcp_flags = RTE_TCP_SYN_FLAG};
    memset(tcp + 1, 1, 40); /* options that say nothing */
    uint64_t sum = (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(60);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, 60));
    for (uint32_t cut = 1; cut < sizeof(frame); cut++) {
        host.answers = 0;
        arrives_cut(frame, sizeof(frame), cut);
        assert_int_equal(host.answers, 1);
        const struct rte_tcp_hdr *answer = (const struct rte_tcp_hdr *)(host.answer + offset);
        assert_int_equal(answer->tcp_flags, RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
        assert_int_equal(ntohl(answer->recv_ack), 1001);
    }
}

static void headers_in_the_first_piece_are_not_copied(void **state)
{
    uint8_t frame[14 + 20 + 20 + 100];
    uint32_t offset = ip_begin(frame, IPPROTO_TCP, 120);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + offset);
    const struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
    (void)state;
    *tcp = (struct rte_tcp_hdr){.src_port = htons(4000),
                                .dst_port = htons(25),
                                .sent_seq = htonl(1000),
                                .data_off = 20 / 4 << 4,
                                .tcp_flags = RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG};
    memset(tcp + 1, 'x', 100);
    uint64_t sum = (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(120);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, 120));
    struct rte_mbuf *taken[4096];
    unsigned count = 0;
    while (count < 4096 && (taken[count] = rte_pktmbuf_alloc(pool)) != NULL) {
        count++;
    }
    assert_true(count > 2);
    rte_pktmbuf_free(taken[--count]);
    rte_pktmbuf_free(taken[--count]); /* as many as the frame's two pieces */
    host.answers = 0;
    arrives_cut(frame, sizeof(frame), 54);
    assert_int_equal(host.answers, 1);
    while (count > 0) {
        rte_pktmbuf_free(taken[--count]);
    }
}

static void fragments_are_joined_wherever_they_are_cut_and_checked_by_ourselves(void **state)
{
    static const uint32_t offsets[2] = {0, 40}, sizes[2] = {40, 33};
    uint8_t datagram[73] = {0, 9, 0, 53, 0, 73}; /* to a port where nobody is */
    const uint32_t offset = 14 + 20;
    (void)state;
    memset(datagram + 8, 'x', sizeof(datagram) - 8);
    uint64_t sum = (uint64_t)htonl(0x0a000009) + htonl(0x0a000001) + htons(IPPROTO_UDP) +
                   htons(sizeof(datagram));
    uint16_t right = checksum_finish(checksum_add(sum, datagram, sizeof(datagram)));
    for (uint32_t i = 0; i < 4 * (offset + 40); i++) {
        uint16_t checksum = i % 2 == 0 ? right : (uint16_t)(right ^ 1);
        memcpy(datagram + 6, &checksum, sizeof(checksum));
        neighbour_known(); /* again: minutes pass */
        for (unsigned part = 0; part < 2; part++) {
            uint8_t frame[14 + 20 + 40];
            struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + 14);
            ip_begin(frame, IPPROTO_UDP, (uint16_t)sizes[part]);
            ip->packet_id = (uint16_t)i;
            ip->fragment_offset = htons((uint16_t)(offsets[part] / 8 | (part == 0 ? 0x2000 : 0)));
            ip->hdr_checksum = 0;
            ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
            memcpy(frame + offset, datagram + offsets[part], sizes[part]);
            /* What a port says of a fragment is of no datagram. */
            uint64_t right_of_one =
                i % 4 == 1 ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : RTE_MBUF_F_RX_L4_CKSUM_NONE;
            host.flags = i % 2 == 0 ? RTE_MBUF_F_RX_L4_CKSUM_BAD : right_of_one;
            uint32_t size = offset + sizes[part];
            arrives_cut(frame, size, 1 + (part == i / 2 % 2 ? i / 4 % (size - 1) : offset - 1));
            host.flags = 0;
        }
        assert_int_equal(host.answers, i % 2 == 0);
        assert_true(i % 2 != 0 || host.answer[offset] == 3); /* port unreachable */
    }
}

static int set_up(void **state)
{
    const struct memory_settings memory = {.program = "test_frame_pieces", .megabytes = 128};
    struct network_prefix address;
    (void)state;
    if (memory_start(&memory) < 0 || memory_thread_enter() < 0) {
        return -1;
    }
    pool = memory_pool_open("pieces", 2048, MEMORY_MBUF_BYTES);
    host.port = (struct port){.ops = &ops,
                              .facts = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queue_count = 1}};
    rss_init(&host.port.facts.rss, 1);
    net_world_open(&host.world, 1);
    host.wheel = wheel_open(host.world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.1/24")), 0);
    const struct stack_settings settings = {.port = &host.port,
                                            .world = &host.world.world,
                                            .wheel = host.wheel,
                                            .pool = pool,
                                            .addresses = &address,
                                            .address_count = 1};
    if (stack_open(&host.network, &settings) < 0) {
        return -1;
    }
    neighbour_known();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    host.network->ops->close(host.network);
    wheel_close(host.wheel);
    unsigned left = rte_mempool_in_use_count(pool);
    memory_pool_close(pool);
    memory_thread_leave();
    memory_stop();
    return left == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ping_is_answered_wherever_it_is_cut),
        cmocka_unit_test(a_segment_is_read_wherever_it_is_cut),
        cmocka_unit_test(headers_in_the_first_piece_are_not_copied),
        cmocka_unit_test(fragments_are_joined_wherever_they_are_cut_and_checked_by_ourselves),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
