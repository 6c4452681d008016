#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define ICMP_BYTES 8u
#define ICMP_A_SECOND 1000u /* of messages that we send: RFC 1812 §4.3.2.8 asks for a limit */
#define ICMP_UNREACHABLE 3u
#define ICMP_TIME_EXCEEDED 11u
#define QUOTED_BYTES (60u + 8u)

enum icmp_unreachable_code {
    UNREACHABLE_NETWORK = 0,
    UNREACHABLE_HOST = 1,
    UNREACHABLE_PROTOCOL = 2,
    UNREACHABLE_PORT = 3,
    UNREACHABLE_TOO_BIG = 4,
};
#define TIME_EXCEEDED_REASSEMBLY 1u /* RFC 792 */

bool icmp_may_send(struct stack *stack)
{
    if (stack->now_ns - stack->icmp_budget_ns >= SECOND_NS) {
        stack->icmp_budget_ns = stack->now_ns;
        stack->icmp_budget = ICMP_A_SECOND;
    }
    if (stack->icmp_budget == 0) {
        stack->counters.icmp_out_rate_limited++;
        return false;
    }
    stack->icmp_budget--;
    return true;
}

static void send_to(struct stack *stack, const struct ip_address *to, struct rte_mbuf *frame)
{
    struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, struct rte_ether_hdr *);
    memcpy(eth->src_addr.addr_bytes, stack->port->facts.mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
    stack->counters.icmp_out += ip_send_any_size(stack, to, frame);
}

/* The request becomes the answer, so that it needs no buffer; it is copied unless its memory is ours
 * alone. Given. */
static void echo(struct stack *stack, struct rte_mbuf *frame, uint32_t icmp_offset)
{
    stack->counters.icmp_in_echoes++;
    if (!icmp_may_send(stack)) {
        rte_pktmbuf_free(frame);
        return;
    }
    struct rte_mbuf *answer = eth_writable(stack, frame);
    if (answer == NULL || answer->data_len < icmp_offset + ICMP_BYTES) {
        rte_pktmbuf_free(answer);
        return;
    }
    answer->ol_flags = 0; /* of its way in */
    struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(answer, struct rte_ipv4_hdr *, ETH_BYTES);
    struct rte_icmp_hdr *icmp = rte_pktmbuf_mtod_offset(answer, struct rte_icmp_hdr *, icmp_offset);
    struct ip_address to = ip_address_of_ipv4(ip->src_addr);
    struct ip_address from = ip_address_of_ipv4(ip->dst_addr);
    uint32_t options_bytes = icmp_offset - ETH_BYTES - IPV4_BYTES;
    if (options_bytes > 0) { /* they are not for us to repeat */
        uint8_t *begin = rte_pktmbuf_mtod(answer, uint8_t *);
        memmove(begin + options_bytes, begin, ETH_BYTES + IPV4_BYTES);
        rte_pktmbuf_adj(answer, (uint16_t)options_bytes);
        ip = rte_pktmbuf_mtod_offset(answer, struct rte_ipv4_hdr *, ETH_BYTES);
    }
    ipv4_header_fill(ip, &from, &to, IPPROTO_ICMP,
                     (uint16_t)(answer->pkt_len - ETH_BYTES - IPV4_BYTES));
    icmp->icmp_type = RTE_IP_ICMP_ECHO_REPLY;
    icmp->icmp_cksum = 0;
    icmp->icmp_cksum = checksum_finish(checksum_add_frame(
        0, answer, ETH_BYTES + IPV4_BYTES, answer->pkt_len - ETH_BYTES - IPV4_BYTES));
    send_to(stack, &to, answer);
}

static int error_of(uint8_t type, uint8_t code)
{
    if (type == ICMP_TIME_EXCEEDED) {
        return -EHOSTUNREACH;
    }
    switch (code) {
    case UNREACHABLE_PROTOCOL:
    case UNREACHABLE_PORT:
        return -ECONNREFUSED;
    case UNREACHABLE_TOO_BIG:
        return -EMSGSIZE;
    case UNREACHABLE_NETWORK:
        return -ENETUNREACH;
    default:
        return -EHOSTUNREACH;
    }
}

/* What it quotes must be a segment that we have sent; TCP looks at the sequence number. */
bool icmp_quote_read(const struct rte_mbuf *frame, struct tcp_quote *quote)
{
    uint32_t icmp_offset =
        ETH_BYTES + (*rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES) & 15u) * 4u;
    const struct rte_icmp_hdr *icmp =
        rte_pktmbuf_mtod_offset(frame, const struct rte_icmp_hdr *, icmp_offset);
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(icmp + 1);
    uint32_t quoted = frame->data_len - icmp_offset - ICMP_BYTES;
    uint32_t header_bytes = quoted > 0 ? (ip->version_ihl & 15u) * 4u : 0;
    if (header_bytes < IPV4_BYTES || quoted < header_bytes + 8 || ip->version_ihl >> 4 != 4 ||
        (ip->next_proto_id != IPPROTO_TCP && ip->next_proto_id != IPPROTO_UDP)) {
        return false;
    }
    const struct rte_tcp_hdr *tcp =
        (const struct rte_tcp_hdr *)((const uint8_t *)ip + header_bytes);
    *quote = (struct tcp_quote){.tuple = {.local = ip_address_of_ipv4(ip->src_addr),
                                          .remote = ip_address_of_ipv4(ip->dst_addr),
                                          .local_port = ntohs(tcp->src_port),
                                          .remote_port = ntohs(tcp->dst_port)},
                                .udp = ip->next_proto_id == IPPROTO_UDP,
                                .seq = ntohl(tcp->sent_seq),
                                .error = error_of(icmp->icmp_type, icmp->icmp_code),
                                .mtu = ntohs(icmp->icmp_seq_nb)};
    return true;
}

void icmp_input(struct stack *stack, struct rte_mbuf *frame)
{
    struct tcp_quote quote;
    const struct rte_ipv4_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES);
    uint32_t offset = ETH_BYTES + (ip->version_ihl & 15u) * 4u;
    stack->counters.icmp_in++;
    if (frame->data_len < offset + ICMP_BYTES ||
        checksum_finish(checksum_add_frame(0, frame, offset, frame->pkt_len - offset)) != 0) {
        stack->counters.icmp_in_errors++;
        rte_pktmbuf_free(frame);
        return;
    }
    switch (rte_pktmbuf_mtod_offset(frame, const struct rte_icmp_hdr *, offset)->icmp_type) {
    case RTE_IP_ICMP_ECHO_REQUEST:
        echo(stack, frame, offset);
        return;
    case ICMP_UNREACHABLE:
    case ICMP_TIME_EXCEEDED:
        if (!icmp_quote_read(frame, &quote)) {
            if (exception_give(stack, frame)) {
                return;
            }
            stack->counters.icmp_in_errors++;
        } else if (tcp_quote_arrives(stack, &quote, frame)) {
            return;
        }
        break;
    default:
        if (exception_give(stack, frame)) {
            return;
        }
        break;
    }
    rte_pktmbuf_free(frame);
}

static void error_send(struct stack *stack, const struct rte_mbuf *frame, uint8_t type,
                       uint8_t code)
{
    const struct rte_ipv4_hdr *got =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv4_hdr *, ETH_BYTES);
    uint32_t quoted = (got->version_ihl & 15u) * 4u + 8u;
    if (frame->data_len < ETH_BYTES + quoted || !icmp_may_send(stack)) {
        return;
    }
    struct rte_mbuf *answer =
        eth_control_frame(stack, (uint16_t)(ETH_BYTES + IPV4_BYTES + ICMP_BYTES + quoted));
    if (answer == NULL) {
        return;
    }
    static_assert(ETH_BYTES + IPV4_BYTES + ICMP_BYTES + QUOTED_BYTES <= STACK_CONTROL_BYTES,
                  "the longest quote must fit");
    struct ip_address to = ip_address_of_ipv4(got->src_addr);
    struct ip_address from = ip_address_of_ipv4(got->dst_addr);
    struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(answer, struct rte_ipv4_hdr *, ETH_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(ip + 1);
    ipv4_header_fill(ip, &from, &to, IPPROTO_ICMP, (uint16_t)(ICMP_BYTES + quoted));
    *icmp = (struct rte_icmp_hdr){.icmp_type = type, .icmp_code = code};
    memcpy(icmp + 1, got, quoted);
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, ICMP_BYTES + quoted));
    send_to(stack, &to, answer);
}

void icmp_send_port_unreachable(struct stack *stack, const struct rte_mbuf *frame)
{
    error_send(stack, frame, ICMP_UNREACHABLE, UNREACHABLE_PORT);
}

void icmp_send_reassembly_time_exceeded(struct stack *stack, const struct rte_mbuf *frame)
{
    error_send(stack, frame, ICMP_TIME_EXCEEDED, TIME_EXCEEDED_REASSEMBLY);
}
