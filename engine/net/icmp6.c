#include "engine/net/icmp6.h"
#include "engine/net/checksum.h"
#include "engine/net/mld.h"
#include "engine/net/nd.h"
#include "engine/net/stack_private.h"

#define AT (ETH_BYTES + IPV6_BYTES) /* of the message */
#define CODE_PORT_UNREACHABLE 4u
#define CODE_REASSEMBLY_TIME 1u

static const struct rte_ipv6_hdr *header_of(const struct rte_mbuf *frame)
{
    return rte_pktmbuf_mtod_offset(frame, const struct rte_ipv6_hdr *, ETH_BYTES);
}

void icmp6_checksum_fill(struct rte_mbuf *frame)
{
    struct ip_address from = ip_address_of_ipv6(header_of(frame)->src_addr);
    struct ip_address to = ip_address_of_ipv6(header_of(frame)->dst_addr);
    uint32_t bytes = frame->pkt_len - AT;
    uint8_t *message = icmp6_body(frame);
    memset(message + 2, 0, 2);
    uint64_t sum = ip_pseudo_sum(&from, &to, IPPROTO_ICMPV6, bytes);
    uint16_t checksum = checksum_finish(checksum_add_frame(sum, frame, AT, bytes));
    memcpy(message + 2, &checksum, sizeof(checksum));
}

static bool checksum_right(const struct rte_mbuf *frame)
{
    struct ip_address from = ip_address_of_ipv6(header_of(frame)->src_addr);
    struct ip_address to = ip_address_of_ipv6(header_of(frame)->dst_addr);
    uint32_t bytes = frame->pkt_len - AT;
    uint64_t sum = ip_pseudo_sum(&from, &to, IPPROTO_ICMPV6, bytes);
    return checksum_finish(checksum_add_frame(sum, frame, AT, bytes)) == 0;
}

struct rte_mbuf *icmp6_message(struct stack *stack, struct ip_header *header, uint8_t type)
{
    struct rte_mbuf *frame = eth_control_frame(stack, (uint16_t)(AT + header->payload_bytes));
    if (frame != NULL) {
        header->protocol = IPPROTO_ICMPV6;
        uint8_t *message = ip_header_fill(stack, rte_pktmbuf_mtod(frame, uint8_t *), header);
        memset(message, 0, header->payload_bytes);
        message[0] = type;
    }
    return frame;
}

void icmp6_send_ready(struct stack *stack, struct rte_mbuf *frame, const uint8_t *mac)
{
    uint8_t *eth = rte_pktmbuf_mtod(frame, uint8_t *);
    if (mac != NULL) {
        memcpy(eth, mac, 6);
    } else { /* RFC 2464 §7 */
        eth[0] = eth[1] = 0x33;
        memcpy(eth + 2, header_of(frame)->dst_addr + 12, 4);
    }
    stack->counters.icmp_out++;
    stack->counters.ip_out_requests++;
    eth_send(stack, frame);
}

/* The request becomes the answer. The frame is given. */
static void echo(struct stack *stack, struct rte_mbuf *frame)
{
    struct ip_address to = ip_address_of_ipv6(header_of(frame)->src_addr);
    struct ip_address from = ip_address_of_ipv6(header_of(frame)->dst_addr);
    struct ip_way way;
    bool asked_all = ip_address_is_multicast(&from);
    stack->counters.icmp_in_echoes++;
    if ((asked_all && stack->queue != 0) || ip_route(stack, &to, &way) < 0 ||
        !icmp_may_send(stack)) {
        rte_pktmbuf_free(frame);
        return;
    }
    struct rte_mbuf *answer = eth_writable(stack, frame);
    if (answer == NULL) {
        return;
    }
    answer->ol_flags = 0; /* of its way in */
    const struct ip_header header = {
        .from = asked_all ? &way.source : &from,
        .to = &to,
        .protocol = IPPROTO_ICMPV6,
        .payload_bytes = (uint16_t)(answer->pkt_len - AT),
    };
    uint8_t *message = ip_header_fill(stack, rte_pktmbuf_mtod(answer, uint8_t *), &header);
    message[0] = ICMP6_ECHO_REPLY;
    icmp6_checksum_fill(answer);
    stack->counters.icmp_out += ip_send_any_size(stack, &to, answer);
}

/* RFC 4443 §3.1: no route, prohibited, beyond scope, address, port, policy, reject route. */
static int error_of(uint8_t type, uint8_t code)
{
    if (type == ICMP6_TOO_BIG) {
        return -EMSGSIZE;
    }
    if (type == ICMP6_UNREACHABLE) {
        switch (code) {
        case 0:
        case 2:
            return -ENETUNREACH;
        case CODE_PORT_UNREACHABLE:
            return -ECONNREFUSED;
        default:
            return -EHOSTUNREACH;
        }
    }
    /* A parameter problem of code 1 says that there is no TCP. */
    return type == ICMP6_PARAMETER_PROBLEM && code == 1 ? -ECONNREFUSED : -EHOSTUNREACH;
}

/* What it quotes must be a segment that we have sent, without extension headers as all of ours. */
bool icmp6_quote_read(const struct rte_mbuf *frame, struct tcp_quote *quote)
{
    const uint8_t *message = rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT);
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(message + ICMP6_BYTES);
    const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(ip + 1);
    uint32_t mtu;
    memcpy(&mtu, message + 4, sizeof(mtu));
    mtu = ntohl(mtu);
    if (frame->data_len < AT + ICMP6_BYTES + IPV6_BYTES + 8 || ntohl(ip->vtc_flow) >> 28 != 6 ||
        (ip->proto != IPPROTO_TCP && ip->proto != IPPROTO_UDP) ||
        /* RFC 8201 §4: every link carries the least, so whoever says less is wrong. */
        (message[0] == ICMP6_TOO_BIG && mtu < IPV6_MTU_MIN)) {
        return false;
    }
    *quote = (struct tcp_quote){.tuple = {.local = ip_address_of_ipv6(ip->src_addr),
                                          .remote = ip_address_of_ipv6(ip->dst_addr),
                                          .local_port = ntohs(tcp->src_port),
                                          .remote_port = ntohs(tcp->dst_port)},
                                .udp = ip->proto == IPPROTO_UDP,
                                .seq = ntohl(tcp->sent_seq),
                                .error = error_of(message[0], message[1]),
                                .mtu = (uint16_t)(mtu < UINT16_MAX ? mtu : UINT16_MAX)};
    return true;
}

/* Neighbor discovery and multicast listeners speak from addresses that others may not use, and of the
 * link that they came by: not of the one that a sibling hands on to. */
static bool source_right(const struct stack *stack, const struct rte_mbuf *frame, uint8_t type)
{
    struct ip_address from = ip_address_of_ipv6(header_of(frame)->src_addr);
    bool of_the_link = type >= ICMP6_LISTENER_QUERY && type <= ICMP6_REDIRECT;
    return of_the_link ? !stack->siblings.reading : ip_may_come_from(stack, &from);
}

void icmp6_input(struct stack *stack, struct rte_mbuf *frame)
{
    struct tcp_quote quote;
    stack->counters.icmp_in++;
    const uint8_t *message = rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT);
    if (frame->data_len < AT + ICMP6_BYTES || !checksum_right(frame) ||
        !source_right(stack, frame, message[0])) {
        stack->counters.icmp_in_errors++;
        rte_pktmbuf_free(frame);
        return;
    }
    switch (message[0]) {
    case ICMP6_ECHO_REQUEST:
        echo(stack, frame);
        return;
    case ICMP6_UNREACHABLE:
    case ICMP6_TOO_BIG:
    case ICMP6_TIME_EXCEEDED:
    case ICMP6_PARAMETER_PROBLEM:
        if (!icmp6_quote_read(frame, &quote)) {
            if (exception_give(stack, frame)) {
                return;
            }
            stack->counters.icmp_in_errors++;
        } else if (tcp_quote_arrives(stack, &quote, frame)) {
            return;
        }
        break;
    case ICMP6_LISTENER_QUERY:
        mld_query_arrives(stack, frame);
        break;
    case ICMP6_ROUTER_ADVERTISEMENT:
    case ICMP6_NEIGHBOR_SOLICITATION:
    case ICMP6_NEIGHBOR_ADVERTISEMENT:
    case ICMP6_REDIRECT:
        nd_input(stack, frame);
        if (!nd_asks_for_us(stack, frame) && exception_give(stack, frame)) {
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

/* RFC 4443 §2.4 (e): not about errors, not to or from groups or nobody. An unknown option may be
 * told of though it went to a group. */
static bool may_be_told(struct stack *stack, const struct rte_mbuf *frame, bool also_of_group)
{
    const struct rte_ipv6_hdr *ip = header_of(frame);
    struct ip_address from = ip_address_of_ipv6(ip->src_addr);
    bool about_error = ip->proto == IPPROTO_ICMPV6 &&
                       (frame->data_len <= AT ||
                        *rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT) < ICMP6_ECHO_REQUEST);
    return !about_error && (ip->dst_addr[0] != 0xff || also_of_group) &&
           ip_may_come_from(stack, &from) && icmp_may_send(stack);
}

/* As much is quoted as the least MTU lets through (RFC 4443 §2.4 (c)), or when the buffers for data
 * are out as much as a control buffer holds. */
static struct rte_mbuf *error_frame(struct stack *stack, uint32_t *quoted)
{
    uint32_t most = IPV6_MTU_MIN - IPV6_BYTES - ICMP6_BYTES;
    *quoted = *quoted < most ? *quoted : most;
    struct rte_mbuf *answer = rte_pktmbuf_alloc(stack->pool);
    if (answer == NULL) {
        most = STACK_CONTROL_BYTES - AT - ICMP6_BYTES;
        *quoted = *quoted < most ? *quoted : most;
        return eth_control_frame(stack, (uint16_t)(AT + ICMP6_BYTES + *quoted));
    }
    most = rte_pktmbuf_tailroom(answer) - AT - ICMP6_BYTES;
    *quoted = *quoted < most ? *quoted : most;
    check(rte_pktmbuf_append(answer, (uint16_t)(AT + ICMP6_BYTES + *quoted)) != NULL);
    return answer;
}

static void error_send(struct stack *stack, const struct rte_mbuf *frame, const uint8_t *begin)
{
    struct ip_address to = ip_address_of_ipv6(header_of(frame)->src_addr);
    struct ip_address from = ip_address_of_ipv6(header_of(frame)->dst_addr);
    uint32_t quoted = frame->pkt_len - ETH_BYTES;
    struct ip_way way;
    struct rte_mbuf *answer;
    if (ip_route(stack, &to, &way) < 0 || (answer = error_frame(stack, &quoted)) == NULL) {
        return;
    }
    const struct ip_header header = {
        .from = ip_address_is_multicast(&from) ? &way.source : &from,
        .to = &to,
        .protocol = IPPROTO_ICMPV6,
        .payload_bytes = (uint16_t)(ICMP6_BYTES + quoted),
    };
    uint8_t *message = ip_header_fill(stack, rte_pktmbuf_mtod(answer, uint8_t *), &header);
    memcpy(message, begin, ICMP6_BYTES);
    const uint8_t *whole = rte_pktmbuf_read(frame, ETH_BYTES, quoted, message + ICMP6_BYTES);
    if (whole != message + ICMP6_BYTES) {
        memcpy(message + ICMP6_BYTES, whole, quoted);
    }
    icmp6_checksum_fill(answer);
    stack->counters.icmp_out += ip_send(stack, &to, answer);
}

void icmp6_send_parameter_problem(struct stack *stack, const struct rte_mbuf *frame, uint8_t code,
                                  uint32_t pointer)
{
    const uint8_t begin[ICMP6_BYTES] = {
        ICMP6_PARAMETER_PROBLEM, code, 0, 0, 0, 0, (uint8_t)(pointer >> 8), (uint8_t)pointer};
    if (may_be_told(stack, frame, code == ICMP6_UNKNOWN_OPTION)) {
        error_send(stack, frame, begin);
    }
}

void icmp6_send_port_unreachable(struct stack *stack, const struct rte_mbuf *frame)
{
    const uint8_t begin[ICMP6_BYTES] = {ICMP6_UNREACHABLE, CODE_PORT_UNREACHABLE};
    if (may_be_told(stack, frame, false)) {
        error_send(stack, frame, begin);
    }
}

void icmp6_send_reassembly_time_exceeded(struct stack *stack, const struct rte_mbuf *frame)
{
    const uint8_t begin[ICMP6_BYTES] = {ICMP6_TIME_EXCEEDED, CODE_REASSEMBLY_TIME};
    if (may_be_told(stack, frame, false)) {
        error_send(stack, frame, begin);
    }
}
