#include "engine/net/exception.h"
#include "engine/net/checksum.h"
#include "engine/net/port_deal.h"
#include "engine/net/stack_private.h"
#include "engine/net/vlan.h"
#include <rte_udp.h>

#define TAG_BYTES 4u
#define ADDRESSES_BYTES 12u

/* Bridges keep these to the link, so they are of no VLAN. */
static bool is_of_the_link(const uint8_t *eth)
{
    static const uint8_t reserved[5] = {0x01, 0x80, 0xc2, 0x00, 0x00};
    return memcmp(eth, reserved, sizeof(reserved)) == 0 && eth[5] < 0x10;
}

static uint16_t type_at(const uint8_t *eth, uint32_t at)
{
    return (uint16_t)(eth[at] << 8 | eth[at + 1]);
}

static bool is_tag(uint16_t type)
{
    return type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ;
}

/* Who else would get it, and does the kernel? */
static bool is_for_kernel(const struct stack *stack, const struct rte_mbuf *frame)
{
    const uint8_t *eth = rte_pktmbuf_mtod(frame, const uint8_t *);
    if (stack->exception.port == NULL || frame->data_len < ETH_BYTES) {
        return false;
    }
    if ((eth[0] & 1) == 0 && memcmp(eth, stack->port->facts.mac, 6) != 0) {
        return false;
    }
    return stack->queue == 0 || !port_deal_is_for_all(eth, frame->data_len);
}

static uint32_t header_bytes(const uint8_t *eth)
{
    return ETH_BYTES + (is_tag(type_at(eth, ADDRESSES_BYTES)) ? TAG_BYTES : 0);
}

static bool fits(const struct port *port, const struct rte_mbuf *frame)
{
    return frame->pkt_len <=
           header_bytes(rte_pktmbuf_mtod(frame, const uint8_t *)) + port->facts.mtu;
}

/* Where the checksum of a TCP segment or a datagram stands, and what it is over. False: it is none. */
static bool checksum_find(const struct rte_mbuf *frame, uint32_t *at, uint32_t *payload,
                          uint64_t *pseudo)
{
    const uint8_t *eth = rte_pktmbuf_mtod(frame, const uint8_t *);
    uint32_t ip_at = header_bytes(eth);
    uint8_t protocol;
    struct ip_address from, to;
    if (frame->data_len < ip_at + IPV6_BYTES) { /* both have at least 20 bytes after it */
        return false;
    }
    uint16_t type = type_at(eth, ip_at - 2);
    if (type == RTE_ETHER_TYPE_IPV4) {
        const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + ip_at);
        protocol = ip->next_proto_id;
        *payload = ip_at + (ip->version_ihl & 15u) * 4u;
        from = ip_address_of_ipv4(ip->src_addr);
        to = ip_address_of_ipv4(ip->dst_addr);
    } else if (type == RTE_ETHER_TYPE_IPV6) {
        const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(eth + ip_at);
        protocol = ip->proto;
        *payload = ip_at + IPV6_BYTES;
        from = ip_address_of_ipv6(ip->src_addr);
        to = ip_address_of_ipv6(ip->dst_addr);
    } else {
        return false;
    }
    *at = *payload + (protocol == IPPROTO_TCP ? offsetof(struct rte_tcp_hdr, cksum)
                                              : offsetof(struct rte_udp_hdr, dgram_cksum));
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || frame->data_len < *at + 2) {
        return false;
    }
    *pseudo = ip_pseudo_sum(&from, &to, protocol, frame->pkt_len - *payload);
    return true;
}

/* Given. NULL: no buffer. */
static struct rte_mbuf *checksum_finished(struct stack *stack, struct rte_mbuf *frame)
{
    uint32_t at, payload;
    uint64_t pseudo;
    if ((frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) != RTE_MBUF_F_RX_L4_CKSUM_NONE ||
        !checksum_find(frame, &at, &payload, &pseudo)) {
        return frame;
    }
    struct rte_mbuf *own = eth_writable(stack, frame);
    if (own != NULL) {
        uint8_t *field = rte_pktmbuf_mtod_offset(own, uint8_t *, at);
        memset(field, 0, 2);
        uint16_t sum =
            checksum_finish(checksum_add_frame(pseudo, own, payload, own->pkt_len - payload));
        sum = sum == 0 ? 0xffff : sum; /* 0 would say of a datagram that there is none */
        memcpy(field, &sum, sizeof(sum));
    }
    return own;
}

/* ---- to the kernel ---- */

bool exception_give(struct stack *stack, struct rte_mbuf *frame)
{
    struct exception *self = &stack->exception;
    if (!is_for_kernel(stack, frame)) {
        return false;
    }
    if (self->leaving_count < EXCEPTION_OUT_MAX && fits(self->port, frame)) {
        frame = checksum_finished(stack, frame);
        if (frame != NULL) {
            self->leaving[self->leaving_count++] = frame;
            return true;
        }
    }
    stack->counters.exception_lost++;
    rte_pktmbuf_free(frame);
    return true;
}

/* The port has taken the tag off. Given. NULL: no buffer. */
static struct rte_mbuf *tag_put_back(struct stack *stack, struct rte_mbuf *frame)
{
    uint16_t tag = htons(frame->vlan_tci);
    frame = eth_writable(stack, frame);
    uint8_t *eth = frame == NULL ? NULL : (uint8_t *)rte_pktmbuf_prepend(frame, TAG_BYTES);
    if (eth == NULL) {
        rte_pktmbuf_free(frame);
        return NULL;
    }
    memmove(eth, eth + TAG_BYTES, ADDRESSES_BYTES);
    memcpy(eth + ADDRESSES_BYTES, (const uint8_t[]){0x81, 0x00}, 2);
    memcpy(eth + ADDRESSES_BYTES + 2, &tag, sizeof(tag));
    frame->ol_flags &= ~RTE_MBUF_F_RX_VLAN_STRIPPED;
    return frame;
}

bool exception_give_foreign(struct stack *stack, struct rte_mbuf *frame)
{
    const uint8_t *eth = rte_pktmbuf_mtod(frame, const uint8_t *);
    if (!is_for_kernel(stack, frame)) {
        return false;
    }
    if ((frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
        frame = tag_put_back(stack, frame);
        stack->counters.exception_lost += frame == NULL;
        return frame == NULL || exception_give(stack, frame);
    }
    bool tagged = is_tag(type_at(eth, ADDRESSES_BYTES));
    return (tagged ? frame->data_len >= ETH_BYTES + TAG_BYTES : is_of_the_link(eth)) &&
           exception_give(stack, frame);
}

void exception_copy(struct stack *stack, const struct rte_mbuf *frame)
{
    if (!is_for_kernel(stack, frame)) {
        return;
    }
    struct rte_mbuf *copy = rte_pktmbuf_copy(frame, stack->pool, 0, UINT32_MAX);
    if (copy == NULL) {
        stack->counters.exception_lost++;
    } else if (!exception_give(stack, copy)) {
        rte_pktmbuf_free(copy);
    }
}

/* A frame that the TAP refuses is not tried again: it would hold up those behind it. */
void exception_flush(struct stack *stack)
{
    struct exception *self = &stack->exception;
    if (self->leaving_count == 0) {
        return;
    }
    uint32_t sent = self->port->ops->transmit(self->port, stack->queue, self->leaving,
                                              (uint16_t)self->leaving_count);
    stack->counters.exception_out += sent;
    stack->counters.exception_lost += self->leaving_count - sent;
    while (sent < self->leaving_count) {
        rte_pktmbuf_free(self->leaving[sent++]);
    }
    self->leaving_count = 0;
}

/* ---- from the kernel ---- */

static void send_on(struct stack *stack, struct rte_mbuf *frame)
{
    const uint8_t *eth = rte_pktmbuf_mtod(frame, const uint8_t *);
    frame->ol_flags &= RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT; /* not those of its way in */
    if (frame->data_len < ETH_BYTES || !fits(stack->port, frame)) {
        stack->counters.exception_lost++;
        rte_pktmbuf_free(frame);
        return;
    }
    stack->counters.exception_in++;
    if (is_of_the_link(eth) || is_tag(type_at(eth, ADDRESSES_BYTES))) {
        eth_send_as_it_is(stack, frame);
    } else {
        eth_send(stack, frame);
    }
}

unsigned exception_poll(struct stack *stack)
{
    struct exception *self = &stack->exception;
    struct rte_mbuf *frames[EXCEPTION_IN_MAX];
    uint32_t data_places = STACK_TX_MAX - STACK_CONTROL_RESERVE;
    if (self->port == NULL || !eth_has_room(stack)) {
        return 0;
    }
    uint32_t count = (data_places - stack->leaving_count + 1) / 2;
    count = count < EXCEPTION_IN_MAX ? count : EXCEPTION_IN_MAX;
    count = self->port->ops->receive(self->port, stack->queue, frames, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        send_on(stack, frames[i]);
    }
    return count;
}

void exception_close(struct stack *stack)
{
    struct exception *self = &stack->exception;
    while (self->leaving_count > 0) {
        rte_pktmbuf_free(self->leaving[--self->leaving_count]);
    }
}
