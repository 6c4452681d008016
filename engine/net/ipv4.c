#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define TTL 64
#define FRAGMENT_MASK 0x3fff /* more fragments, offset */
#define MORE_FRAGMENTS 0x2000
#define OFFSET_MASK 0x1fff
#define PACKET_BYTES_MAX 65535u
#define DO_NOT_FRAGMENT 0x4000

void ipv4_header_fill(struct rte_ipv4_hdr *ip, const struct ip_address *from,
                      const struct ip_address *to, uint8_t protocol, uint16_t payload_bytes)
{
    *ip = (struct rte_ipv4_hdr){
        .version_ihl = 0x45,
        .total_length = htons((uint16_t)(IPV4_BYTES + payload_bytes)),
        .fragment_offset = htons(DO_NOT_FRAGMENT), /* and so needs no identification: RFC 6864 */
        .time_to_live = TTL,
        .next_proto_id = protocol,
        .src_addr = from->words[3],
        .dst_addr = to->words[3],
    };
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
}

static bool header_checksum_right(const struct rte_mbuf *frame, const struct rte_ipv4_hdr *ip,
                                  uint32_t header_bytes)
{
    switch (frame->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) {
    case RTE_MBUF_F_RX_IP_CKSUM_GOOD:
        return true;
    case RTE_MBUF_F_RX_IP_CKSUM_BAD:
        return false;
    default:
        return checksum_finish(checksum_add(0, ip, header_bytes)) == 0;
    }
}

/* Header, length and checksum; cuts off what the Ethernet frame was padded with. */
static bool header_right(struct rte_mbuf *frame)
{
    const struct rte_ipv4_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES);
    if (frame->data_len < ETH_BYTES + IPV4_BYTES) {
        return false;
    }
    uint32_t header_bytes = (ip->version_ihl & 15u) * 4u;
    uint32_t total = ntohs(ip->total_length);
    if (ip->version_ihl >> 4 != 4 || header_bytes < IPV4_BYTES || total < header_bytes ||
        frame->pkt_len < ETH_BYTES + total || frame->data_len < ETH_BYTES + header_bytes ||
        !header_checksum_right(frame, ip, header_bytes)) {
        return false;
    }
    uint32_t padding = frame->pkt_len - ETH_BYTES - total;
    return padding == 0 || rte_pktmbuf_trim(frame, (uint16_t)padding) == 0;
}

static bool addresses_right(const struct stack *stack, const struct rte_ipv4_hdr *ip)
{
    struct ip_address from = ip_address_of_ipv4(ip->src_addr);
    struct ip_address to = ip_address_of_ipv4(ip->dst_addr);
    return ip_is_ours(stack, &to) && ip_may_come_from(stack, &from);
}

/* Whole eights but for the last, within what a packet can be (the "ping of death" was not), and the
 * next protocol's header in the first. */
static bool fragment_right(const struct rte_mbuf *frame, struct reassembly_fragment *fragment)
{
    uint32_t header_bytes = fragment->header_bytes - ETH_BYTES;
    return fragment->bytes > 0 && !(fragment->more && fragment->bytes % 8 != 0) &&
           header_bytes + fragment->offset + fragment->bytes <= PACKET_BYTES_MAX &&
           (fragment->offset > 0 || reassembly_first_holds(frame, fragment->header_bytes,
                                                           fragment->protocol, &fragment->untold));
}

/* The first fragment's header becomes the datagram's. NULL: no buffer. */
static struct rte_mbuf *header_mend(struct stack *stack, struct rte_mbuf *frame,
                                    const struct reassembly_fragment *fragment)
{
    frame = eth_writable(stack, frame);
    if (frame != NULL) {
        struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(frame, struct rte_ipv4_hdr *, ETH_BYTES);
        ip->total_length = htons((uint16_t)(frame->pkt_len - ETH_BYTES));
        ip->fragment_offset = 0;
        ip->type_of_service = (uint8_t)((ip->type_of_service & ~3u) | fragment->ecn);
        ip->hdr_checksum = 0;
        ip->hdr_checksum = checksum_finish(checksum_add(0, ip, fragment->header_bytes - ETH_BYTES));
    }
    return frame;
}

/* The frame is given. Returns the datagram that it was the last part of, or NULL. */
static struct rte_mbuf *fragment_arrives(struct stack *stack, struct rte_mbuf *frame)
{
    const struct rte_ipv4_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES);
    uint32_t field = ntohs(ip->fragment_offset), header_bytes = (ip->version_ihl & 15u) * 4u;
    struct reassembly_fragment fragment = {
        .from = ip_address_of_ipv4(ip->src_addr),
        .to = ip_address_of_ipv4(ip->dst_addr),
        .id = ip->packet_id,
        .offset = (field & OFFSET_MASK) * 8,
        .bytes = ntohs(ip->total_length) - header_bytes,
        .header_bytes = ETH_BYTES + header_bytes,
        .protocol = ip->next_proto_id,
        .ecn = ip->type_of_service & 3u,
        .more = (field & MORE_FRAGMENTS) != 0,
    };
    stack->counters.ip_reassembly_requests++;
    if (!fragment_right(frame, &fragment)) {
        stack->counters.ip_in_header_errors++;
        rte_pktmbuf_free(frame);
        return NULL;
    }
    frame = reassembly_add(stack, frame, &fragment);
    return frame == NULL ? NULL : header_mend(stack, frame, &fragment);
}

/* True: a TCP segment. */
static bool dispatch(struct stack *stack, struct rte_mbuf *frame, struct tcp_segment *segment)
{
    switch (rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES)->next_proto_id) {
    case IPPROTO_TCP:
        if (tcp_segment_read(stack, segment, frame, ETH_BYTES)) {
            return true;
        }
        break;
    case IPPROTO_ICMP:
        icmp_input(stack, frame);
        return false;
    case IPPROTO_UDP:
        if (udp_input(stack, frame, true)) {
            return false;
        }
        icmp_send_port_unreachable(stack, frame);
        break;
    default:
        stack->counters.ip_in_unknown_protocols++;
        break;
    }
    rte_pktmbuf_free(frame);
    return false;
}

/* True: the frame is given. */
static bool kernel_takes(struct stack *stack, struct rte_mbuf *frame, const struct rte_ipv4_hdr *ip)
{
    struct ip_address to = ip_address_of_ipv4(ip->dst_addr);
    return own_find(&stack->own, &to) == OWN_NONE && exception_give(stack, frame);
}

bool ipv4_input(struct stack *stack, struct rte_mbuf *frame, struct tcp_segment *segment)
{
    stack->counters.ip_in_receives++;
    if (!header_right(frame)) {
        stack->counters.ip_in_header_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    const struct rte_ipv4_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES);
    if (!addresses_right(stack, ip)) {
        if (kernel_takes(stack, frame, ip)) {
            return false;
        }
        stack->counters.ip_in_address_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    bool spoken = ip->next_proto_id == IPPROTO_TCP || ip->next_proto_id == IPPROTO_UDP ||
                  ip->next_proto_id == IPPROTO_ICMP;
    if (!spoken &&
        exception_give(stack, frame)) { /* fragments too: who speaks it puts them together */
        return false;
    }
    if ((ip->fragment_offset & htons(FRAGMENT_MASK)) != 0) {
        frame = fragment_arrives(stack, frame);
    }
    return frame != NULL && dispatch(stack, frame, segment);
}
