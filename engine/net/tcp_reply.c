#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

/* Segments that carry no payload and belong to no connection with a template: built whole. */
void tcp_reply(struct stack *stack, const struct tcp_tuple *tuple, const struct tcp_reply *reply)
{
    struct ipv4_way way;
    if (ipv4_route(stack, &tuple->remote, &way) < 0) {
        stack->counters.ip_out_no_routes++;
        return;
    }
    uint16_t tcp_bytes = (uint16_t)(TCP_HEADER_BYTES + reply->options_bytes);
    struct rte_mbuf *frame =
        eth_control_frame(stack, (uint16_t)(ETH_BYTES + IPV4_BYTES + tcp_bytes));
    if (frame == NULL) {
        return;
    }
    struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, struct rte_ether_hdr *);
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    memcpy(eth->src_addr.addr_bytes, stack->port->facts.mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
    ipv4_header_fill(ip, &tuple->local, &tuple->remote, IPPROTO_TCP, tcp_bytes);
    *tcp = (struct rte_tcp_hdr){.src_port = htons(tuple->local_port),
                                .dst_port = htons(tuple->remote_port),
                                .sent_seq = htonl(reply->seq),
                                .recv_ack = htonl(reply->ack),
                                .data_off = (uint8_t)(tcp_bytes / 4 << 4),
                                .tcp_flags = reply->flags,
                                .rx_win = htons(reply->window)};
    memcpy(tcp + 1, reply->options, reply->options_bytes);
    uint64_t sum = (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(tcp_bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, tcp_bytes));
    stack->counters.tcp_out_segments++;
    stack->counters.ip_out_requests++;
    neighbour_send(stack, neighbour_of(stack, &way.next_hop), frame);
}

/* RFC 9293 §3.10.7.1. */
void tcp_reply_reset(struct stack *stack, const struct tcp_segment *segment)
{
    struct tcp_reply reply = {.flags = TCP_RST};
    if ((segment->flags & TCP_RST) != 0) {
        return;
    }
    if ((segment->flags & TCP_ACK) != 0) {
        reply.seq = segment->ack;
    } else {
        reply.ack = segment->seq + tcp_segment_length(segment);
        reply.flags = TCP_RST | TCP_ACK;
    }
    stack->counters.tcp_out_resets++;
    tcp_reply(stack, &segment->tuple, &reply);
}
