#include "engine/net/icmp6.h"
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

/* What the peer sends, or what we have sent, when it is quoted. */
static void ip_fill(const struct rig *rig, void *at, bool quoted, uint8_t protocol,
                    uint32_t payload_bytes)
{
    const struct ip_address *from = quoted ? &rig->local : &rig->peer;
    const struct ip_address *to = quoted ? &rig->peer : &rig->local;
    if (!rig->ipv6) {
        ipv4_header_fill(at, from, to, protocol, (uint16_t)payload_bytes);
        return;
    }
    struct rte_ipv6_hdr *ip = at;
    *ip = (struct rte_ipv6_hdr){.vtc_flow = htonl(6u << 28),
                                .payload_len = htons((uint16_t)payload_bytes),
                                .proto = protocol,
                                .hop_limits = protocol == IPPROTO_ICMPV6 ? 255 : 64};
    memcpy(ip->src_addr, from->words, sizeof(ip->src_addr));
    memcpy(ip->dst_addr, to->words, sizeof(ip->dst_addr));
}

static void packet_fill(const struct rig *rig, uint8_t *frame, uint8_t protocol,
                        uint32_t payload_bytes)
{
    ethernet_fill(frame, rig->ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);
    ip_fill(rig, frame + ETH_BYTES, false, protocol, payload_bytes);
}

static void ipv4_checksum_fill(struct rte_ipv4_hdr *ip, uint32_t header_bytes)
{
    ip->hdr_checksum = 0;
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, header_bytes));
}

/* At `at` of the payload. */
static void checksum_fill(const struct rig *rig, uint8_t *payload, uint32_t bytes, uint8_t protocol,
                          uint32_t at)
{
    uint64_t pseudo = ip_pseudo_sum(&rig->peer, &rig->local, protocol, bytes);
    memset(payload + at, 0, 2);
    uint16_t sum =
        checksum_finish(checksum_add(protocol == IPPROTO_ICMP ? 0 : pseudo, payload, bytes));
    memcpy(payload + at, &sum, sizeof(sum));
}

static void tcp_checksum_fill(const struct rig *rig, uint8_t *tcp, uint32_t bytes)
{
    checksum_fill(rig, tcp, bytes, IPPROTO_TCP, offsetof(struct rte_tcp_hdr, cksum));
}

static void icmp_checksum_fill(const struct rig *rig, uint8_t *icmp, uint32_t bytes)
{
    checksum_fill(rig, icmp, bytes, rig->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
                  offsetof(struct rte_icmp_hdr, icmp_cksum));
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

static void congestion_mark(const struct rig *rig, uint8_t *at)
{
    if (rig->ipv6) {
        ((struct rte_ipv6_hdr *)at)->vtc_flow |= htonl((uint32_t)TCP_CE << 20);
        return;
    }
    ((struct rte_ipv4_hdr *)at)->type_of_service = TCP_CE;
    ipv4_checksum_fill((struct rte_ipv4_hdr *)at, IPV4_BYTES);
}

/* Near what both ends expect of each other. */
void segment_arrives(struct rig *rig, struct input *input)
{
    uint8_t frame[ETH_BYTES + IPV6_BYTES + 60 + 1460] = {0};
    uint8_t what = take(input), flags = take(input);
    uint32_t ip_bytes = rig_ip_bytes(rig), room = 1500 - ip_bytes;
    struct flow *flow = &rig->flows[what % FLOWS];
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + ETH_BYTES + ip_bytes);
    int32_t seq_off = (what & 0x10) != 0 ? (int16_t)take_word(input) : 0;
    int32_t ack_off = (what & 0x20) != 0 ? (int16_t)take_word(input) : 0;
    uint16_t window = (what & 0x40) != 0 ? take_word(input) : 65535;
    uint32_t bytes = (what & 0x80) != 0 ? take(input) * 6u % 1449u : 0;
    uint32_t seq = flow->sends + (uint32_t)seq_off;
    size_t options = options_take(input, flow, flags, (uint8_t *)(tcp + 1));
    uint32_t tcp_bytes = TCP_HEADER_BYTES + (uint32_t)options;
    bytes = bytes < room - tcp_bytes ? bytes : room - tcp_bytes;
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
    packet_fill(rig, frame, IPPROTO_TCP, tcp_bytes + bytes);
    if ((what & 8) != 0) {
        congestion_mark(rig, frame + ETH_BYTES);
    }
    tcp_checksum_fill(rig, (uint8_t *)tcp, tcp_bytes + bytes);
    arrive(rig, frame, ETH_BYTES + ip_bytes + tcp_bytes + bytes, (flags & 0x80) != 0 ? 70 : 0);
}

/* The packet's payload, behind a header of 8 bytes more if there is one: options of IPv4's, or an extension header
 * of IPv6 that names what follows it. */
static void raw_payload_fill(struct rig *rig, uint8_t *frame, uint32_t size, uint8_t how)
{
    const uint8_t protocols[4] = {IPPROTO_TCP, rig->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
                                  IPPROTO_UDP, rig->ipv6 ? IPPROTO_FRAGMENT : 99};
    static const uint8_t extensions[4] = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING,
                                          IPPROTO_FRAGMENT};
    uint8_t protocol = protocols[how >> 4 & 3], *ip = frame + ETH_BYTES;
    uint32_t more = (how & 8) != 0 && ETH_BYTES + rig_ip_bytes(rig) + 8 <= size ? 8 : 0;
    uint32_t header = rig_ip_bytes(rig) + more, bytes = size - ETH_BYTES - header;
    packet_fill(rig, frame, protocol, bytes + more);
    if (!rig->ipv6) {
        ip[0] = (uint8_t)(0x40 + header / 4);
        ipv4_checksum_fill((struct rte_ipv4_hdr *)ip, header);
    } else if (more > 0) {
        ((struct rte_ipv6_hdr *)ip)->proto = extensions[ip[IPV6_BYTES + 1] & 3];
        ip[IPV6_BYTES] = protocol;
        ip[IPV6_BYTES + 1] = 0;
    }
    if ((how >> 4 & 3) == 0 && bytes >= TCP_HEADER_BYTES) {
        tcp_checksum_fill(rig, ip + header, bytes);
    } else if ((how >> 4 & 3) == 1 && bytes >= 4) {
        icmp_checksum_fill(rig, ip + header, bytes);
    }
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
        uint16_t ip = rig->ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4;
        ethernet_fill(frame, (how & 2) != 0 ? RTE_ETHER_TYPE_ARP : ip);
    }
    if ((how & 4) != 0 && size >= ETH_BYTES + rig_ip_bytes(rig)) {
        raw_payload_fill(rig, frame, size, how);
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
    uint8_t frame[ETH_BYTES + IPV6_BYTES + 8 + IPV6_BYTES + 8] = {0}, what = take(input);
    const struct flow *flow = &rig->flows[what % FLOWS];
    uint8_t *icmp = frame + ETH_BYTES + rig_ip_bytes(rig), *quoted = icmp + 8;
    uint16_t ports[2] = {htons(flow->local_port), htons(flow->remote_port)};
    uint16_t number = htons(take_word(input));
    uint32_t bytes = 8 + rig_ip_bytes(rig) + 8; /* of TCP's header, eight */
    uint32_t seq = htonl(flow->expects - take_word(input));
    bool too_big = what >> 4 == 8; /* the code of IPv4, a type of IPv6 */
    packet_fill(rig, frame, rig->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, bytes);
    if (rig->ipv6) {
        icmp[0] = (what & 0x10) != 0 ? ICMP6_TIME_EXCEEDED
                  : too_big          ? ICMP6_TOO_BIG
                                     : ICMP6_UNREACHABLE;
    } else {
        icmp[0] = (what & 0x10) != 0 ? 11 : 3;
    }
    icmp[1] = what >> 5;
    memcpy(icmp + 6, &number, sizeof(number)); /* the MTU, where there is one */
    ip_fill(rig, quoted, true, IPPROTO_TCP, 20);
    memcpy(quoted + rig_ip_bytes(rig), ports, sizeof(ports));
    memcpy(quoted + rig_ip_bytes(rig) + 4, &seq, sizeof(seq));
    icmp_checksum_fill(rig, icmp, bytes);
    arrive(rig, frame, ETH_BYTES + rig_ip_bytes(rig) + bytes, 0);
}

static void arp_arrives(struct rig *rig, struct input *input, uint8_t how)
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

/* A router's: a lifetime, a larger or smaller MTU, a prefix. */
static uint32_t router_advertisement_fill(struct input *input, uint8_t *message)
{
    uint16_t lifetime_s = htons(take_word(input)), mtu = htons(take_word(input));
    const uint8_t begin[] = {ICMP6_ROUTER_ADVERTISEMENT, 0, 0, 0, 64};
    const uint8_t mtu_option[] = {5, 1}, prefix_option[] = {3, 4, take(input), 0x80, 0, 0};
    memcpy(message, begin, sizeof(begin));
    memcpy(message + 6, &lifetime_s, 2);
    memcpy(message + 16, mtu_option, sizeof(mtu_option));
    memcpy(message + 22, &mtu, 2);
    memcpy(message + 24, prefix_option, sizeof(prefix_option));
    memcpy(message + 30, &lifetime_s, 2);
    message[40] = 0xfd;
    message[40 + 7] = take(input);
    return 56;
}

/* A solicitation or an advertisement of a neighbour, or of a router. */
static void nd_arrives(struct rig *rig, struct input *input, uint8_t how)
{
    uint8_t frame[ETH_BYTES + IPV6_BYTES + 64] = {0}, *message = frame + ETH_BYTES + IPV6_BYTES;
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + ETH_BYTES);
    struct ip_address from = rig->peer, to = rig->local;
    uint32_t bytes = 32;
    from.words[3] = (how & 2) != 0 ? htonl(take(input)) : from.words[3];
    to.words[3] = (how & 4) != 0 ? htonl(take(input)) : to.words[3];
    if ((how & 8) != 0) {
        bytes = router_advertisement_fill(input, message);
        from = (struct ip_address){{htonl(0xfe800000), 0, 0, from.words[3]}};
    } else {
        bool advertises = (how & 1) != 0;
        message[0] = advertises ? ICMP6_NEIGHBOR_ADVERTISEMENT : ICMP6_NEIGHBOR_SOLICITATION;
        message[4] = advertises ? 0x60 : 0; /* solicited, overrides */
        memcpy(message + 8, advertises ? from.words : to.words, 16);
        message[24] = advertises ? 2 : 1; /* the target's Ethernet address, the source's */
        message[25] = 1;
        memcpy(message + 26, "\2\0\0\0\0\2", 6);
    }
    packet_fill(rig, frame, IPPROTO_ICMPV6, bytes);
    memcpy(ip->src_addr, from.words, sizeof(ip->src_addr));
    uint64_t sum = ip_pseudo_sum(&from, &rig->local, IPPROTO_ICMPV6, bytes);
    sum = checksum_finish(checksum_add(sum, message, bytes));
    memcpy(message + 2, &sum, 2);
    arrive(rig, frame, ETH_BYTES + IPV6_BYTES + bytes, 0);
}

void neighbour_arrives(struct rig *rig, struct input *input, uint8_t how)
{
    (rig->ipv6 ? nd_arrives : arp_arrives)(rig, input, how);
}
