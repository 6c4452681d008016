#include "engine/net/siblings.h"
#include "engine/net/ipv6.h"
#include "engine/net/stack_private.h"

struct ends {
    struct ip_address source, target;
};

static bool ends_of(const struct rte_mbuf *frame, struct ends *ends)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    if (eth->ether_type == htons(RTE_ETHER_TYPE_IPV4) &&
        frame->data_len >= ETH_BYTES + IPV4_BYTES) {
        const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);
        ends->source = ip_address_of_ipv4(ip->src_addr);
        ends->target = ip_address_of_ipv4(ip->dst_addr);
        return true;
    }
    if (eth->ether_type == htons(RTE_ETHER_TYPE_IPV6) &&
        frame->data_len >= ETH_BYTES + IPV6_BYTES) {
        const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)(eth + 1);
        ends->source = ip_address_of_ipv6(ip->src_addr);
        ends->target = ip_address_of_ipv6(ip->dst_addr);
        return !ip_address_is_link_local(&ends->source) && !ip_address_is_link_local(&ends->target);
    }
    return false;
}

static struct stack *owner_of(const struct stack *stack, const struct ip_address *address)
{
    for (unsigned i = 0; i < stack->siblings.count; i++) {
        struct stack *sibling = stack_of(stack->siblings.stacks[i]);
        if (sibling != stack && own_find_claimed(&sibling->own, address) != OWN_NONE) {
            return sibling;
        }
    }
    return NULL;
}

bool siblings_have(const struct stack *stack, const struct ip_address *address)
{
    return owner_of(stack, address) != NULL;
}

bool siblings_took(struct stack *stack, struct rte_mbuf *frame)
{
    struct ends ends;
    struct tcp_segment segment;
    if (stack->siblings.count == 0 || !ends_of(frame, &ends) ||
        own_find(&stack->own, &ends.target) != OWN_NONE) {
        return false;
    }
    struct stack *owner = owner_of(stack, &ends.target);
    if (owner == NULL) {
        return false;
    }
    owner->now_ns = stack->now_ns;
    stack->counters.frames_for_siblings++;
    owner->siblings.reading = true;
    bool is_segment = ip_address_is_ipv4(&ends.target) ? ipv4_input(owner, frame, &segment)
                                                       : ipv6_input(owner, frame, false, &segment);
    owner->siblings.reading = false;
    if (is_segment) {
        tcp_input(owner, &segment);
    }
    return true;
}
