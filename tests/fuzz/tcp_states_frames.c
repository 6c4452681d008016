#include "tests/fuzz/tcp_states_rig.h"

struct rte_mempool *receive_pool;

/* Cut in two where `cut` says: devices may receive into chains. */
static void arrive_as_it_is(struct rig *rig, const uint8_t *frame, uint32_t size, uint32_t cut)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(receive_pool), *rest = NULL;
    if (rig->arriving_count == QUEUE_MAX || mbuf == NULL) {
        rte_pktmbuf_free(mbuf);
        return;
    }
    cut = cut == 0 || cut > size ? size : cut;
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)cut), frame, cut);
    if (cut < size && (rest = rte_pktmbuf_alloc(receive_pool)) != NULL) {
        memcpy(rte_pktmbuf_append(rest, (uint16_t)(size - cut)), frame + cut, size - cut);
        check(rte_pktmbuf_chain(mbuf, rest) == 0);
    }
    rig->arriving[rig->arriving_count++] = mbuf;
}

/* With the tag of the port's network, where it has one. */
static void arrive(struct rig *rig, const uint8_t *frame, uint32_t size, uint32_t cut)
{
    static const uint8_t tag[4] = {0x81, 0, 0, RIG_VLAN};
    uint8_t tagged[1700];
    if (rig->stack->vlan == 0) {
        arrive_as_it_is(rig, frame, size, cut);
        return;
    }
    memcpy(tagged, frame, 12);
    memcpy(tagged + 12, tag, sizeof(tag));
    memcpy(tagged + 16, frame + 12, size - 12);
    arrive_as_it_is(rig, tagged, size + 4, cut);
}

static void ethernet_fill(uint8_t *frame, uint16_t type)
{
    static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    memcpy(frame, addresses, sizeof(addresses));
    type = htons(type);
    memcpy(frame + 12, &type, 2);
}

static void ipv4_fill(uint8_t *frame, uint8_t protocol, uint32_t payload_bytes)
{
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000002));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001));
    ethernet_fill(frame, RTE_ETHER_TYPE_IPV4);
    ipv4_header_fill((struct rte_ipv4_hdr *)(frame + ETH_BYTES), &from, &to, protocol,
                     (uint16_t)payload_bytes);
}

static void tcp_checksum_fill(uint8_t *frame, uint32_t header_bytes, uint32_t bytes)
{
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + ETH_BYTES + header_bytes);
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons((uint16_t)bytes);
    tcp->cksum = 0;
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, bytes));
}

static size_t options_take(struct input *input, const struct flow *flow, uint8_t flags,
                           uint8_t *options)
{
    uint8_t kind = take(input);
    size_t size = 0;
    if ((flags & TCP_SYN) != 0) {
        const uint32_t stamps[2] = {take_word(input), flow->ts};
        return tcp_options_write_syn(options, take_word(input),
                                     (kind & 2) != 0 ? kind >> 4 : TCP_SCALE_NONE, kind & 4,
                                     (kind & 1) != 0 ? stamps : NULL);
    }
    if ((kind & 1) != 0) {
        static const uint8_t begin[4] = {1, 1, 8, 10};
        uint32_t stamps[2] = {htonl(take_word(input)), htonl(flow->ts)};
        memcpy(options, begin, 4);
        memcpy(options + 4, stamps, 8);
        size = 12;
    }
    if ((kind & 2) != 0) {
        struct tcp_range ranges[3];
        size_t count = 1 + (kind >> 4) % 3u;
        for (size_t i = 0; i < count; i++) {
            ranges[i].begin = flow->expects + (uint32_t)(int16_t)take_word(input);
            ranges[i].end = ranges[i].begin + take_word(input);
        }
        size += tcp_options_write_sack(options + size, ranges, count);
    }
    if ((kind & 8) != 0) {
        for (unsigned i = 0; i < 4 && size < 40; i++) {
            options[size++] = take(input);
        }
    }
    return size;
}

/* Near what both ends expect of each other. */
void segment_arrives(struct rig *rig, struct input *input)
{
    uint8_t frame[ETH_BYTES + IPV4_BYTES + 60 + 1460] = {0};
    uint8_t what = take(input), flags = take(input);
    struct flow *flow = &rig->flows[what % FLOWS];
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + ETH_BYTES + IPV4_BYTES);
    int32_t seq_off = (what & 0x10) != 0 ? (int16_t)take_word(input) : 0;
    int32_t ack_off = (what & 0x20) != 0 ? (int16_t)take_word(input) : 0;
    uint16_t window = (what & 0x40) != 0 ? take_word(input) : 65535;
    uint32_t bytes = (what & 0x80) != 0 ? take(input) * 6u % 1449u : 0;
    uint32_t seq = flow->sends + (uint32_t)seq_off;
    size_t options = options_take(input, flow, flags, (uint8_t *)(tcp + 1));
    uint32_t tcp_bytes = TCP_HEADER_BYTES + (uint32_t)options;
    bytes = bytes < 1500 - IPV4_BYTES - tcp_bytes ? bytes : 1500 - IPV4_BYTES - tcp_bytes;
    struct tcp_conn *conn = conn_of_ports(rig, flow->local_port, flow->remote_port);
    uint32_t first = conn != NULL && conn->state != TCP_SYN_SENT ? conn->irs + 1 : flow->first;
    for (uint32_t i = 0; i < bytes; i++) {
        ((uint8_t *)tcp)[tcp_bytes + i] = pattern(seq + ((flags & TCP_SYN) != 0) - first + i);
    }
    rig->dirty |= (flags & TCP_SYN) != 0 && bytes > 0;
    tcp->src_port = htons(flow->remote_port);
    tcp->dst_port = htons(flow->local_port);
    tcp->sent_seq = htonl(seq);
    tcp->recv_ack = htonl(flow->expects + (uint32_t)ack_off);
    tcp->data_off = (uint8_t)(tcp_bytes / 4 << 4);
    tcp->tcp_flags = flags;
    tcp->rx_win = htons(window);
    ipv4_fill(frame, IPPROTO_TCP, tcp_bytes + bytes);
    if ((what & 8) != 0) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
        ip->type_of_service = TCP_CE;
        ip->hdr_checksum = 0;
        ip->hdr_checksum = checksum_finish(checksum_add(0, ip, IPV4_BYTES));
    }
    tcp_checksum_fill(frame, IPV4_BYTES, tcp_bytes + bytes);
    arrive(rig, frame, ETH_BYTES + IPV4_BYTES + tcp_bytes + bytes, (flags & 0x80) != 0 ? 70 : 0);
}

/* Any bytes; a flag says which headers and checksums are put right. */
void raw_arrives(struct rig *rig, struct input *input)
{
    uint8_t frame[1600] = {0}, how = take(input);
    uint32_t size = ETH_BYTES + take(input) * 2u;
    for (uint32_t i = 0; i < size; i++) {
        frame[i] = take(input);
    }
    if ((how & 1) != 0) {
        ethernet_fill(frame, (how & 2) != 0 ? RTE_ETHER_TYPE_ARP : RTE_ETHER_TYPE_IPV4);
    }
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    if ((how & 4) != 0 && size >= ETH_BYTES + IPV4_BYTES) {
        static const uint8_t protocols[4] = {IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_UDP, 99};
        uint32_t header = IPV4_BYTES + ((how & 8) != 0 ? 8 : 0);
        header = ETH_BYTES + header <= size ? header : IPV4_BYTES;
        uint32_t bytes = size - ETH_BYTES - header;
        ipv4_fill(frame, protocols[how >> 4 & 3], size - ETH_BYTES - IPV4_BYTES);
        ip->version_ihl = (uint8_t)(0x40 + header / 4);
        ip->hdr_checksum = 0;
        ip->hdr_checksum = checksum_finish(checksum_add(0, ip, header));
        if ((how >> 4 & 3) == 0 && bytes >= TCP_HEADER_BYTES) {
            tcp_checksum_fill(frame, header, bytes);
        } else if ((how >> 4 & 3) == 1 && bytes >= 4) {
            uint16_t *icmp = (uint16_t *)((uint8_t *)ip + header);
            icmp[1] = 0;
            icmp[1] = checksum_finish(checksum_add(0, icmp, bytes));
        }
    }
    rig->dirty = true;
    if ((how & 0x40) != 0) {
        arrive_as_it_is(rig, frame, size, (how & 0x80) != 0 ? 20 : 0);
    } else {
        arrive(rig, frame, size, (how & 0x80) != 0 ? 20 : 0);
    }
}

/* An ICMP error about one of the flows, from a router that has seen it, or guesses. */
void icmp_arrives(struct rig *rig, struct input *input)
{
    uint8_t frame[ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + TCP_HEADER_BYTES] = {0},
                                                            what = take(input);
    const struct flow *flow = &rig->flows[what % FLOWS];
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(frame + ETH_BYTES + IPV4_BYTES);
    struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(icmp + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000001));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000002));
    uint32_t bytes = 8 + IPV4_BYTES + 8; /* of TCP's header, eight */
    ipv4_fill(frame, IPPROTO_ICMP, bytes);
    icmp->icmp_type = (what & 0x10) != 0 ? 11 : 3;
    icmp->icmp_code = what >> 5;
    icmp->icmp_seq_nb = htons(take_word(input));
    ipv4_header_fill(quoted, &from, &to, IPPROTO_TCP, 20);
    uint32_t seq = htonl(flow->expects - take_word(input));
    tcp->src_port = htons(flow->local_port);
    tcp->dst_port = htons(flow->remote_port);
    memcpy(&tcp->sent_seq, &seq, 4);
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, bytes));
    arrive(rig, frame, ETH_BYTES + IPV4_BYTES + bytes, 0);
}

void arp_arrives(struct rig *rig, struct input *input, uint8_t how)
{
    uint8_t frame[60] = {0};
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(frame + ETH_BYTES);
    ethernet_fill(frame, RTE_ETHER_TYPE_ARP);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons((how & 1) != 0 ? 2 : 1)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, frame + 6, 6);
    arp->arp_data.arp_sip = htonl(0x0a000000u | ((how & 2) != 0 ? take(input) : 2u));
    arp->arp_data.arp_tip = htonl(0x0a000000u | ((how & 4) != 0 ? take(input) : 1u));
    arrive(rig, frame, sizeof(frame), 0);
}
