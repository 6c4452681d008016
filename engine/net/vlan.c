#include "engine/net/vlan.h"
#include "engine/net/stack_private.h"

#define TAG_BYTES 4u
#define ADDRESSES_BYTES 12u
#define ID_MASK 0xfffu

/* The kernel may have interfaces for other networks on top of that for ours. What has no tag it would
 * take for ours. */
static struct rte_mbuf *refuse(struct stack *stack, struct rte_mbuf *frame)
{
    if (exception_give_foreign(stack, frame)) {
        return NULL;
    }
    stack->counters.frames_other_vlan++;
    rte_pktmbuf_free(frame);
    return NULL;
}

/* A tag of network 0 tells a priority only: such a frame counts as untagged. */
struct rte_mbuf *vlan_take_off(struct stack *stack, struct rte_mbuf *frame)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    bool stripped = (frame->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0;
    if (stripped || eth->ether_type != htons(RTE_ETHER_TYPE_VLAN)) {
        uint16_t id = stripped ? frame->vlan_tci & ID_MASK : 0;
        return id == stack->vlan ? frame : refuse(stack, frame);
    }
    const struct rte_vlan_hdr *tag = (const struct rte_vlan_hdr *)(eth + 1);
    if (frame->data_len < ETH_BYTES + TAG_BYTES ||
        (ntohs(tag->vlan_tci) & ID_MASK) != stack->vlan) {
        return refuse(stack, frame);
    }
    frame = eth_writable(stack, frame);
    if (frame != NULL) {
        uint8_t *begin = rte_pktmbuf_mtod(frame, uint8_t *);
        memmove(begin + TAG_BYTES, begin, ADDRESSES_BYTES);
        rte_pktmbuf_adj(frame, TAG_BYTES);
    }
    return frame;
}

bool vlan_put_on(struct stack *stack, struct rte_mbuf *frame)
{
    uint8_t *begin = (uint8_t *)rte_pktmbuf_prepend(frame, TAG_BYTES);
    if (begin == NULL) {
        return false;
    }
    memmove(begin, begin + TAG_BYTES, ADDRESSES_BYTES);
    begin[12] = RTE_ETHER_TYPE_VLAN >> 8;
    begin[13] = RTE_ETHER_TYPE_VLAN & 0xff;
    begin[14] = (uint8_t)(stack->vlan >> 8);
    begin[15] = (uint8_t)stack->vlan;
    if ((frame->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK) != 0) {
        frame->l2_len = ETH_BYTES + TAG_BYTES;
    }
    return true;
}
