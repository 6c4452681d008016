#include "engine/net/ipv6.h"
#include "engine/net/stack_private.h"
#include "engine/net/vlan.h"

#define PREFETCH_AHEAD 4u
#define HEADERS_MAX (ETH_BYTES + 4u + 60u + 60u)

struct rte_mbuf *eth_control_frame(struct stack *stack, uint16_t bytes)
{
    struct rte_mbuf *frame = rte_pktmbuf_alloc(stack->control);
    if (frame == NULL) {
        stack->counters.frames_out_no_buffer++;
        return NULL;
    }
    check(rte_pktmbuf_append(frame, bytes) != NULL);
    return frame;
}

void eth_flush(struct stack *stack)
{
    uint32_t sent = 0;
    while (sent < stack->leaving_count) {
        uint32_t left = stack->leaving_count - sent;
        uint16_t taken = stack->port->ops->transmit(stack->port, stack->queue,
                                                    stack->leaving + sent, (uint16_t)left);
        sent += taken;
        if (taken == 0) {
            break;
        }
    }
    stack->counters.frames_out += sent;
    stack->leaving_count -= sent;
    memmove(stack->leaving, stack->leaving + sent,
            stack->leaving_count * sizeof(stack->leaving[0]));
}

bool eth_has_room(struct stack *stack)
{
    if (stack->leaving_count >= STACK_TX_MAX - STACK_CONTROL_RESERVE) {
        eth_flush(stack);
    }
    return stack->leaving_count < STACK_TX_MAX - STACK_CONTROL_RESERVE;
}

void eth_send_as_it_is(struct stack *stack, struct rte_mbuf *frame)
{
    if (stack->leaving_count == STACK_TX_MAX) {
        eth_flush(stack);
    }
    if (stack->leaving_count == STACK_TX_MAX) {
        stack->counters.frames_out_lost++;
        rte_pktmbuf_free(frame);
        return;
    }
    stack->leaving[stack->leaving_count++] = frame;
}

void eth_send(struct stack *stack, struct rte_mbuf *frame)
{
    if (stack->vlan != 0 && !vlan_put_on(stack, frame)) {
        stack->counters.frames_out_lost++;
        rte_pktmbuf_free(frame);
        return;
    }
    eth_send_as_it_is(stack, frame);
}

bool eth_is_ours_alone(const struct rte_mbuf *frame)
{
    while (frame != NULL && RTE_MBUF_DIRECT(frame) && rte_mbuf_refcnt_read(frame) == 1) {
        frame = frame->next;
    }
    return frame == NULL;
}

struct rte_mbuf *eth_writable(struct stack *stack, struct rte_mbuf *frame)
{
    if (eth_is_ours_alone(frame)) {
        return frame;
    }
    struct rte_mbuf *copy = rte_pktmbuf_copy(frame, stack->pool, 0, UINT32_MAX);
    rte_pktmbuf_free(frame);
    stack->counters.frames_in_no_buffer += copy == NULL;
    return copy;
}

/* Does the first piece hold Ethernet, IP and TCP headers whole, with nothing between them? */
static bool holds_headers(const struct rte_mbuf *frame)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    const struct rte_ipv4_hdr *ipv4 = (const struct rte_ipv4_hdr *)(eth + 1);
    const struct rte_ipv6_hdr *ipv6 = (const struct rte_ipv6_hdr *)(eth + 1);
    uint32_t offset = ETH_BYTES + IPV6_BYTES;
    if (frame->data_len < ETH_BYTES + IPV4_BYTES) {
        return false;
    }
    if (eth->ether_type == htons(RTE_ETHER_TYPE_IPV4) && ipv4->next_proto_id == IPPROTO_TCP) {
        offset = ETH_BYTES + rte_ipv4_hdr_len(ipv4);
    } else if (eth->ether_type != htons(RTE_ETHER_TYPE_IPV6) || ipv6->proto != IPPROTO_TCP) {
        return false;
    }
    if (frame->data_len < offset + TCP_HEADER_BYTES) {
        return false;
    }
    const struct rte_tcp_hdr *tcp =
        rte_pktmbuf_mtod_offset(frame, const struct rte_tcp_hdr *, offset);
    return frame->data_len >= offset + (tcp->data_off >> 4) * 4u;
}

/* A port may receive into chains (net_ring passes on what another stack has sent); headers are read
 * where they begin, so they must lie in one. NULL: no memory for it, counted and freed. */
static struct rte_mbuf *headers_in_one(struct stack *stack, struct rte_mbuf *frame)
{
    uint32_t wanted = frame->pkt_len < HEADERS_MAX ? frame->pkt_len : HEADERS_MAX;
    if (frame->data_len >= wanted || (frame->data_len >= ETH_BYTES && holds_headers(frame))) {
        return frame;
    }
    struct rte_mbuf *copy = rte_pktmbuf_copy(frame, stack->pool, 0, UINT32_MAX);
    rte_pktmbuf_free(frame);
    stack->counters.frames_in_no_buffer += copy == NULL;
    return copy;
}

/* True: a TCP segment to pass on; else the frame is dealt with. */
static bool frame_read(struct stack *stack, struct rte_mbuf *frame, struct tcp_segment *segment)
{
    if (frame->pkt_len < ETH_BYTES) {
        stack->counters.frames_not_ours++;
        rte_pktmbuf_free(frame);
        return false;
    }
    frame = headers_in_one(stack, frame);
    frame = frame == NULL ? NULL : vlan_take_off(stack, frame);
    if (frame == NULL) {
        return false;
    }
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    bool to_us = memcmp(eth->dst_addr.addr_bytes, stack->port->facts.mac, 6) == 0;
    if (to_us && siblings_took(stack, frame)) {
        return false;
    }
    if (to_us && eth->ether_type == htons(RTE_ETHER_TYPE_IPV4)) {
        return ipv4_input(stack, frame, segment);
    }
    bool to_group = eth->dst_addr.addr_bytes[0] == 0x33 && eth->dst_addr.addr_bytes[1] == 0x33;
    if (stack->ipv6 && (to_us || to_group) && eth->ether_type == htons(RTE_ETHER_TYPE_IPV6)) {
        return ipv6_input(stack, frame, to_group, segment);
    }
    if (eth->ether_type == htons(RTE_ETHER_TYPE_ARP) &&
        (to_us || rte_is_broadcast_ether_addr(&eth->dst_addr))) {
        neighbour_arp_input(stack, frame);
        return false;
    }
    if (!exception_give(stack, frame)) {
        stack->counters.frames_not_ours++;
        rte_pktmbuf_free(frame);
    }
    return false;
}

static void observe_hash(struct stack *stack, const struct rte_mbuf *frame,
                         const struct tcp_tuple *tuple)
{
    struct rss_tuple arriving;
    tcp_tuple_arriving(tuple, &arriving);
    rss_observe(&stack->rss, &arriving, frame->hash.rss, stack->queue);
}

unsigned eth_receive(struct stack *stack)
{
    struct rte_mbuf *frames[STACK_BURST];
    struct tcp_segment segments[STACK_BURST];
    unsigned segment_count = 0;
    uint16_t count =
        stack->port->ops->receive(stack->port, stack->queue, frames, (uint16_t)STACK_BURST);
    for (uint16_t i = 0; i < count && i < PREFETCH_AHEAD; i++) {
        __builtin_prefetch(rte_pktmbuf_mtod(frames[i], const void *));
    }
    for (uint16_t i = 0; i < count; i++) {
        if (i + PREFETCH_AHEAD < count) {
            __builtin_prefetch(rte_pktmbuf_mtod(frames[i + PREFETCH_AHEAD], const void *));
        }
        struct tcp_segment *segment = &segments[segment_count];
        if (frame_read(stack, frames[i], segment)) {
            tcp_table_prefetch(&stack->tcp.table, segment->hash);
            if (stack->rss.mode == RSS_CLAIMED &&
                (segment->frame->ol_flags & RTE_MBUF_F_RX_RSS_HASH) != 0) {
                observe_hash(stack, segment->frame, &segment->tuple);
            }
            segment_count++;
        }
    }
    stack->counters.frames_in += count;
    segment_count = tcp_coalesce(stack, segments, segment_count);
    for (unsigned i = 0; i < segment_count; i++) {
        tcp_input(stack, &segments[i]);
    }
    return count;
}
