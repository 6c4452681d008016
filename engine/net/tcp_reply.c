#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

/* Segments that carry no payload and belong to no connection with a template: built whole. */
uint32_t tcp_flow_label(const struct stack *stack, uint32_t hash)
{
    const uint64_t word = hash; /* which must stay secret itself */
    return (uint32_t)siphash(&stack->flow_key, &word, 1) & 0xfffff;
}

void tcp_reply(struct stack *stack, const struct tcp_tuple *tuple, const struct tcp_reply *reply)
{
    uint16_t tcp_bytes = (uint16_t)(TCP_HEADER_BYTES + reply->options_bytes);
    if (stack->own.tentative_count > 0 && !ip_is_ours(stack, &tuple->local)) {
        stack->counters.ip_out_tentative++;
        return;
    }
    struct rte_mbuf *frame = eth_control_frame(
        stack, (uint16_t)(ETH_BYTES + ip_header_bytes(&tuple->remote) + tcp_bytes));
    if (frame == NULL) {
        return;
    }
    struct ip_header header = {.from = &tuple->local,
                               .to = &tuple->remote,
                               .protocol = IPPROTO_TCP,
                               .payload_bytes = tcp_bytes};
    if (!ip_address_is_ipv4(&tuple->remote)) {
        header.flow_label = tcp_flow_label(stack, tcp_table_hash(&stack->tcp.table, tuple));
    }
    struct rte_tcp_hdr *tcp = ip_header_fill(stack, rte_pktmbuf_mtod(frame, uint8_t *), &header);
    *tcp = (struct rte_tcp_hdr){.src_port = htons(tuple->local_port),
                                .dst_port = htons(tuple->remote_port),
                                .sent_seq = htonl(reply->seq),
                                .recv_ack = htonl(reply->ack),
                                .data_off = (uint8_t)(tcp_bytes / 4 << 4),
                                .tcp_flags = reply->flags,
                                .rx_win = htons(reply->window)};
    memcpy(tcp + 1, reply->options, reply->options_bytes);
    uint64_t sum = ip_pseudo_sum(&tuple->local, &tuple->remote, IPPROTO_TCP, tcp_bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, tcp_bytes));
    stack->counters.tcp_out_segments += ip_send(stack, &tuple->remote, frame);
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
