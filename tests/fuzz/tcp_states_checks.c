#include "tests/fuzz/tcp_states_rig.h"
#include "tests/unit/net_offload.h"

struct tcp_conn *conn_of_ports(struct rig *rig, uint16_t local, uint16_t remote)
{
    struct slab *conns = &rig->stack->tcp.conns;
    for (uint32_t i = 0; i < conns->block_count << conns->block_shift && i < conns->max; i++) {
        struct tcp_conn *conn = slab_at(conns, i);
        if (conn->stack == rig->stack && conn->in_table && conn->tuple.local_port == local &&
            conn->tuple.remote_port == remote &&
            ip_address_equal(&conn->tuple.remote, &rig->peer)) {
            return conn;
        }
    }
    return NULL;
}

static struct flow *flow_of_ports(struct rig *rig, uint16_t local, uint16_t remote)
{
    for (unsigned i = 0; i < FLOWS; i++) {
        if (rig->flows[i].local_port == local && rig->flows[i].remote_port == remote) {
            return &rig->flows[i];
        }
    }
    return NULL;
}

struct packet { /* that leaves */
    struct ip_address from, to;
    uint64_t addresses_sum; /* of the bytes on the wire, for the pseudo-header */
    uint8_t protocol;
    uint32_t payload_at;
    bool fragment; /* of an echo that has come in fragments too */
};

static void left_tcp(struct rig *rig, const uint8_t *frame, uint32_t size,
                     const struct packet *packet)
{
    const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(frame + packet->payload_at);
    uint32_t tcp_bytes = size - packet->payload_at;
    uint32_t header = packet->payload_at + tcp->data_off / 16u * 4u;
    uint32_t seq = ntohl(tcp->sent_seq);
    check(size >= header);
    uint64_t sum = packet->addresses_sum + htons(IPPROTO_TCP) + htons((uint16_t)tcp_bytes);
    check(checksum_finish(checksum_add(sum, tcp, tcp_bytes)) == 0);
    if (!ip_address_equal(&packet->to, &rig->peer)) {
        return; /* an answer to a raw packet */
    }
    check(ip_address_equal(&packet->from, &rig->local));
    struct flow *flow = flow_of_ports(rig, ntohs(tcp->src_port), ntohs(tcp->dst_port));
    struct tcp_conn *conn = conn_of_ports(rig, ntohs(tcp->src_port), ntohs(tcp->dst_port));
    /* A frame of the connection before, with the same ports, may have waited for the device. */
    bool own = conn != NULL && conn->state > TCP_SYN_RECEIVED && seq_before(conn->iss, seq) &&
               seq_at_or_before(seq, conn->snd_max);
    if (own && (tcp->tcp_flags & TCP_SYN) == 0) {
        for (uint32_t i = header; i < size; i++) {
            check(frame[i] == pattern(seq - (conn->iss + 1) + (i - header)));
        }
    }
    if (flow == NULL || (tcp->tcp_flags & TCP_RST) != 0) {
        return;
    }
    uint32_t end = seq + (size - header) + ((tcp->tcp_flags & TCP_FIN) != 0) +
                   ((tcp->tcp_flags & TCP_SYN) != 0);
    bool syn = (tcp->tcp_flags & TCP_SYN) != 0;
    flow->expects = syn ? end : seq_max(flow->expects, end);
    flow->seen_syn |= syn;
    flow->first = syn ? ntohl(tcp->recv_ack) : flow->first;
    if ((tcp->tcp_flags & TCP_ACK) != 0) {
        flow->sends = ntohl(tcp->recv_ack);
    }
    const uint8_t *options = (const uint8_t *)(tcp + 1);
    if (header >= packet->payload_at + TCP_HEADER_BYTES + 12 && options[2] == 8) {
        memcpy(&flow->ts, options + 4, 4);
        flow->ts = ntohl(flow->ts);
    }
}

static struct packet ipv4_read(const uint8_t *frame, uint32_t size)
{
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    check(ip->version_ihl == 0x45 && ntohs(ip->total_length) == size - ETH_BYTES);
    check(checksum_finish(checksum_add(0, ip, IPV4_BYTES)) == 0);
    return (struct packet){.from = ip_address_of_ipv4(ip->src_addr),
                           .to = ip_address_of_ipv4(ip->dst_addr),
                           .addresses_sum = checksum_add(0, &ip->src_addr, 8),
                           .protocol = ip->next_proto_id,
                           .payload_at = ETH_BYTES + IPV4_BYTES,
                           .fragment = (ip->fragment_offset & htons(0x3fff)) != 0};
}

/* Of extension headers only reports to routers have one (RFC 3810 §5), and fragments. */
static struct packet ipv6_read(const uint8_t *frame, uint32_t size)
{
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(frame + ETH_BYTES);
    struct packet packet = {.from = ip_address_of_ipv6(ip->src_addr),
                            .to = ip_address_of_ipv6(ip->dst_addr),
                            .addresses_sum = checksum_add(0, ip->src_addr, 32),
                            .protocol = ip->proto,
                            .payload_at = ETH_BYTES + IPV6_BYTES};
    check(size >= packet.payload_at + 8 && ntohl(ip->vtc_flow) >> 28 == 6);
    check(ntohs(ip->payload_len) == size - packet.payload_at && ip->hop_limits > 0);
    if (ip->proto == IPPROTO_HOPOPTS) {
        const uint8_t *options = (const uint8_t *)(ip + 1);
        check(options[0] == IPPROTO_ICMPV6 && options[1] == 0 && ip->hop_limits == 1);
        packet.protocol = options[0];
        packet.payload_at += 8;
    }
    packet.fragment = ip->proto == IPPROTO_FRAGMENT;
    return packet;
}

static void left_packet(struct rig *rig, const uint8_t *frame, uint32_t size, bool ipv6)
{
    struct packet packet = (ipv6 ? ipv6_read : ipv4_read)(frame, size);
    uint8_t icmp = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    uint32_t bytes = size - packet.payload_at;
    if (packet.fragment) {
        return;
    }
    if (packet.protocol == IPPROTO_TCP) {
        left_tcp(rig, frame, size, &packet);
        return;
    }
    uint64_t sum = ipv6 ? packet.addresses_sum + htons(icmp) + htons((uint16_t)bytes) : 0;
    check(packet.protocol == icmp);
    check(checksum_finish(checksum_add(sum, frame + packet.payload_at, bytes)) == 0);
}

/* A frame is on the wire. */
static void left(void *owner, uint8_t *frame, uint32_t size)
{
    struct rig *rig = owner;
    if (rig->stack->vlan != 0) {
        check(size >= ETH_BYTES + 4 && frame[12] == 0x81 && frame[13] == 0 &&
              frame[15] == RIG_VLAN);
        memmove(frame + 4, frame, 12);
        frame += 4;
        size -= 4;
    }
    check(size >= ETH_BYTES && size <= rig->port.facts.mtu + ETH_BYTES);
    const struct rte_ether_hdr *eth = (const struct rte_ether_hdr *)frame;
    check(memcmp(eth->src_addr.addr_bytes, rig->port.facts.mac, 6) == 0);
    switch (ntohs(eth->ether_type)) {
    case RTE_ETHER_TYPE_IPV4:
        left_packet(rig, frame, size, false);
        break;
    case RTE_ETHER_TYPE_IPV6:
        check(rig->ipv6);
        left_packet(rig, frame, size, true);
        break;
    default:
        check(eth->ether_type == htons(RTE_ETHER_TYPE_ARP));
        break;
    }
}

void device_reads(struct rig *rig)
{
    for (unsigned i = 0; i < rig->given_count; i++) {
        rte_mbuf_sanity_check(rig->given[i], 1);
        net_offload(rig->given[i], left, rig);
        rte_pktmbuf_free(rig->given[i]);
    }
    rig->given_count = 0;
}

static void queues_add_up(struct tcp_conn *conn, uint32_t *held)
{
    const struct tcp_receive_queue *queue = &conn->received;
    uint32_t bytes = 0, mbufs = 0, early = 0, end = conn->rcv_nxt;
    for (struct rte_mbuf *at = queue->head; at != NULL; at = at->next) {
        bytes += at->data_len;
        mbufs++;
    }
    check(bytes == queue->bytes && mbufs == queue->mbuf_count);
    for (struct rte_mbuf *at = queue->early_head; at != NULL; at = at->next) {
        check(at->data_len > 0 && seq_at_or_before(end, at->hash.usr));
        end = at->hash.usr + at->data_len;
        early++;
        check(at->next != NULL || at == queue->early_tail);
    }
    check(early == queue->early_count && seq_at_or_before(end, seq_max(end, conn->rcv_edge)));
    *held += mbufs + early;
    uint32_t queued = 0, pieces = 0;
    for (struct tcp_piece *piece = conn->queue.head; piece != NULL; piece = piece->next) {
        queued += piece->size;
        pieces++;
    }
    check(queued == conn->queue.bytes + conn->queue.head_skip && pieces == conn->queue.piece_count);
}

/* Records of what is under way: in order, counted, from snd_una to snd_nxt. */
static void records_are_sane(const struct tcp_conn *conn)
{
    const struct tcp_rack *rack = conn->rack;
    uint32_t lost = 0, again = 0, end = conn->snd_una;
    if (rack == NULL) {
        check(conn->due_ns[TCP_TIMER_TAIL] == WHEEL_NEVER);
        check(conn->due_ns[TCP_TIMER_REORDER] == WHEEL_NEVER);
        return;
    }
    check(conn->sack && rack->begin == conn->snd_una && rack->count > 0);
    for (uint32_t i = 0; i < rack->count; i++) {
        check(seq_before(end, rack->sent[i].end));
        end = rack->sent[i].end;
        lost += rack->sent[i].lost;
        again += rack->sent[i].retransmitted && !rack->sent[i].lost;
    }
    check(end == conn->snd_nxt && conn->snd_nxt == conn->snd_max);
    check(lost == rack->lost_count && again == rack->again_count);
    check(conn->recovery != TCP_FAST_RECOVERY || conn->prr.recover_fs > 0);
}

static void conn_is_sane(struct rig *rig, struct tcp_conn *conn)
{
    const struct tcp_scoreboard *board = &conn->sacked;
    uint32_t end = conn->snd_una, sum = 0;
    check(seq_at_or_before(conn->snd_una, conn->snd_nxt));
    check(seq_at_or_before(conn->snd_nxt, conn->snd_max));
    check(conn->snd_max - conn->snd_una <= conn->queue.bytes + 1);
    check(seq_at_or_before(conn->rcv_nxt, conn->rcv_edge) || conn->state == TCP_SYN_SENT);
    for (unsigned i = 0; i < board->count; i++) {
        check(seq_at_or_before(end, board->ranges[i].begin));
        check(seq_before(board->ranges[i].begin, board->ranges[i].end));
        end = board->ranges[i].end;
        sum += end - board->ranges[i].begin;
    }
    check(seq_at_or_before(end, conn->snd_max) && sum == board->sacked_bytes);
    records_are_sane(conn);
    check(conn->rack == NULL || tcp_flight(conn) <= conn->snd_max - conn->snd_una);
    check(tcp_flight(conn) <= 2 * (conn->snd_max - conn->snd_una));
    check(conn->congestion.cwnd > 0 || conn->state == TCP_SYN_SENT);
    /* What waits has a timer, or goes out in the next round. */
    bool waits = conn->snd_max != conn->snd_una || conn->queue.bytes > 0 ||
                 (conn->fin_wanted && !conn->fin_acked);
    bool driven = conn->due_ns[TCP_TIMER_RETRANSMIT] != WHEEL_NEVER ||
                  conn->due_ns[TCP_TIMER_PROBE] != WHEEL_NEVER || !list_empty(&conn->output);
    check(!waits || driven);
    uint64_t due_ns = WHEEL_NEVER;
    for (unsigned i = 0; i < TCP_TIMER_COUNT; i++) {
        due_ns = conn->due_ns[i] < due_ns ? conn->due_ns[i] : due_ns;
    }
    check(due_ns == WHEEL_NEVER || (timer_armed(&conn->timer) && conn->timer.due_ns <= due_ns));
    (void)rig;
}

void everything_is_sane(struct rig *rig)
{
    struct tcp *tcp = &rig->stack->tcp;
    uint32_t held = 0, live = 0, racks = 0;
    uint64_t established = 0;
    for (uint32_t i = 0; i < rig->shadow_count; i++) {
        struct shadow *shadow = &rig->shadows[i];
        struct tcp_conn *conn =
            i < tcp->conns.block_count << tcp->conns.block_shift ? slab_at(&tcp->conns, i) : NULL;
        if (conn == NULL || conn->stack != rig->stack) {
            shadow->live = false;
            continue;
        }
        queues_add_up(conn, &held);
        live += conn->in_table;
        racks += conn->rack != NULL;
        check(conn->in_table == (conn->state != TCP_CLOSED));
        if (conn->state == TCP_CLOSED) {
            shadow->live = false;
            continue;
        }
        established += conn->state != TCP_SYN_SENT && conn->state != TCP_SYN_RECEIVED;
        conn_is_sane(rig, conn);
        if (shadow->live && shadow->iss == conn->iss && shadow->irs == conn->irs &&
            tcp_tuple_equal(&shadow->tuple, &conn->tuple) && conn->state > TCP_SYN_RECEIVED) {
            check(seq_at_or_before(shadow->rcv_nxt, conn->rcv_nxt));
            check(seq_at_or_before(shadow->snd_una, conn->snd_una));
            check(seq_at_or_before(shadow->snd_max, conn->snd_max));
        }
        *shadow = (struct shadow){.tuple = conn->tuple,
                                  .iss = conn->iss,
                                  .irs = conn->irs,
                                  .rcv_nxt = conn->rcv_nxt,
                                  .snd_una = conn->snd_una,
                                  .snd_max = conn->snd_max,
                                  .live = true};
    }
    check(held == tcp->held_mbufs && racks == tcp->racks.used);
    check(established == rig->stack->counters.tcp_current_established);
    check(tcp->table.used == live + tcp->half_opens.used + tcp->time_waits.used);
}
