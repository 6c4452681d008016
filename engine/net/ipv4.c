#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define TTL 64
#define FRAGMENT_MASK 0x3fff /* more fragments, offset */
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

/* True: a TCP segment. */
static bool dispatch(struct stack *stack, struct rte_mbuf *frame, const struct rte_ipv4_hdr *ip,
                     struct tcp_segment *segment)
{
    if ((ip->fragment_offset & htons(FRAGMENT_MASK)) != 0) {
        stack->counters.ip_in_fragments++;
        rte_pktmbuf_free(frame);
        return false;
    }
    switch (ip->next_proto_id) {
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
        stack->counters.ip_in_address_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    return dispatch(stack, frame, ip, segment);
}
