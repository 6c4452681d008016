#include "engine/net/siblings.h"
#include "engine/net/ipv6.h"
#include "engine/net/stack_private.h"

static bool target_of(const struct rte_mbuf *frame, struct ip_address *target)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    const void *ip = eth + 1;
    if (eth->ether_type == htons(RTE_ETHER_TYPE_IPV4) &&
        frame->data_len >= ETH_BYTES + IPV4_BYTES) {
        *target = ip_address_of_ipv4(((const struct rte_ipv4_hdr *)ip)->dst_addr);
        return true;
    }
    if (eth->ether_type == htons(RTE_ETHER_TYPE_IPV6) &&
        frame->data_len >= ETH_BYTES + IPV6_BYTES) {
        *target = ip_address_of_ipv6(((const struct rte_ipv6_hdr *)ip)->dst_addr);
        return !ip_address_is_link_local(target);
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
    struct ip_address target;
    struct tcp_segment segment;
    if (stack->siblings.count == 0 || !target_of(frame, &target) ||
        own_find(&stack->own, &target) != OWN_NONE) {
        return false;
    }
    struct stack *owner = owner_of(stack, &target);
    if (owner == NULL) {
        return false;
    }
    owner->now_ns = stack->now_ns;
    stack->counters.frames_for_siblings++;
    bool is_segment = ip_address_is_ipv4(&target) ? ipv4_input(owner, frame, &segment)
                                                  : ipv6_input(owner, frame, false, &segment);
    if (is_segment) {
        tcp_input(owner, &segment);
    }
    return true;
}
