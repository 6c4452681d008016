#include "engine/net/ip.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define HOP_LIMIT 64

bool ip_is_ours(const struct stack *stack, const struct ip_address *address)
{
    return own_has(&stack->own, address);
}

/* IPv4: 0.0.0.0/8, 127.0.0.0/8, multicast, reserved, limited broadcast. IPv6: unspecified, loopback
 * and IPv4-compatible (RFC 4291 §2.5.5.1), multicast. */
bool ip_is_martian(const struct ip_address *address)
{
    if (ip_address_is_ipv4(address)) {
        uint8_t first = (uint8_t)(ntohl(address->words[3]) >> 24);
        return first == 0 || first == 127 || first >= 224;
    }
    return ip_address_is_multicast(address) ||
           (address->words[0] | address->words[1] | address->words[2]) == 0;
}

/* IPv4: the network's own address and its broadcast, in networks that have them (RFC 3021). */
static bool is_network_or_broadcast(const struct route *route, const struct ip_address *address)
{
    if (!ip_address_is_ipv4(address) || !route_is_on_link(route)) {
        return false;
    }
    uint64_t host_mask = ((uint64_t)1 << (128u - route->length)) - 1;
    uint64_t host = ntohl(address->words[3]) & host_mask;
    return host_mask > 1 && (host == 0 || host == host_mask);
}

bool ip_is_on_link(const struct stack *stack, const struct ip_address *address)
{
    const struct route *route = routes_find(&stack->routes, address);
    return route != NULL && route_is_on_link(route) && !ip_is_martian(address) &&
           !is_network_or_broadcast(route, address);
}

bool ip_may_come_from(const struct stack *stack, const struct ip_address *address)
{
    const struct route *route = routes_find(&stack->routes, address);
    return !ip_is_martian(address) && own_find_claimed(&stack->own, address) == OWN_NONE &&
           !siblings_have(stack, address) &&
           (route == NULL || !is_network_or_broadcast(route, address));
}

int ip_route(const struct stack *stack, const struct ip_address *to, struct ip_way *way)
{
    const struct route *route = routes_find(&stack->routes, to);
    if (route == NULL || ip_is_martian(to) || is_network_or_broadcast(route, to) ||
        own_find_claimed(&stack->own, to) != OWN_NONE) {
        return -ENETUNREACH;
    }
    way->source = route->source;
    way->next_hop = route_is_on_link(route) ? *to : route->via;
    return 0;
}

uint16_t ip_mtu(const struct stack *stack, const struct ip_address *peer)
{
    return ip_address_is_ipv4(peer) ? stack->mtu : stack->mtu6;
}

static void ipv6_header_fill(struct rte_ipv6_hdr *ip, const struct ip_header *header)
{
    *ip = (struct rte_ipv6_hdr){
        .vtc_flow = htonl(6u << 28 | (header->flow_label & 0xfffff)),
        .payload_len = htons(header->payload_bytes),
        .proto = header->protocol,
        .hop_limits = header->hop_limit == 0 ? HOP_LIMIT : header->hop_limit,
    };
    memcpy(ip->src_addr, header->from->words, sizeof(ip->src_addr));
    memcpy(ip->dst_addr, header->to->words, sizeof(ip->dst_addr));
}

void *ip_header_fill(const struct stack *stack, uint8_t *frame, const struct ip_header *header)
{
    struct rte_ether_hdr *eth = (struct rte_ether_hdr *)frame;
    uint8_t *at = frame + ETH_BYTES;
    memcpy(eth->src_addr.addr_bytes, stack->port->facts.mac, 6);
    if (ip_address_is_ipv4(header->to)) {
        eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
        ipv4_header_fill((struct rte_ipv4_hdr *)at, header->from, header->to, header->protocol,
                         header->payload_bytes);
        return at + IPV4_BYTES;
    }
    eth->ether_type = htons(RTE_ETHER_TYPE_IPV6);
    ipv6_header_fill((struct rte_ipv6_hdr *)at, header);
    return at + IPV6_BYTES;
}

uint64_t ip_pseudo_sum(const struct ip_address *from, const struct ip_address *to, uint8_t protocol,
                       uint32_t payload_bytes)
{
    uint64_t sum = (uint64_t)from->words[3] + to->words[3] + htons(protocol);
    if (!ip_address_is_ipv4(to)) {
        for (unsigned i = 0; i < 3; i++) {
            sum += (uint64_t)from->words[i] + to->words[i];
        }
    }
    return sum + htonl(payload_bytes);
}

bool ip_send(struct stack *stack, const struct ip_address *to, struct rte_mbuf *frame)
{
    struct ip_way way;
    if (ip_route(stack, to, &way) < 0) {
        stack->counters.ip_out_no_routes++;
        rte_pktmbuf_free(frame);
        return false;
    }
    stack->counters.ip_out_requests++;
    neighbour_send(stack, neighbour_of(stack, &way.next_hop), frame);
    return true;
}
