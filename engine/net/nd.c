#include "engine/net/nd.h"
#include "engine/net/icmp6.h"
#include "engine/net/stack_private.h"

#define AT (ETH_BYTES + IPV6_BYTES) /* of the message */
#define NEIGHBOR_BYTES 24u          /* of a solicitation or an advertisement, without options */
#define ROUTER_BYTES 16u
#define MAC_OPTION_BYTES 8u
#define OPTION_SOURCE_MAC 1
#define OPTION_TARGET_MAC 2
#define OPTION_MTU 5
#define HOP_LIMIT 255 /* no router lets it through */
#define FLAG_SOLICITED 0x40
#define FLAG_OVERRIDE 0x20

static const struct ip_address all_nodes = {{RTE_BE32(0xff020000), 0, 0, RTE_BE32(1)}};
static const struct ip_address nobody = {{0, 0, 0, 0}};

struct ip_address nd_group_of(const struct ip_address *address)
{
    return (struct ip_address){{htonl(0xff020000), 0, htonl(1),
                                htonl(0xff000000 | (ntohl(address->words[3]) & 0xffffff))}};
}

bool nd_is_member(const struct stack *stack, const struct ip_address *group)
{
    for (uint32_t i = 0; i < stack->own.count; i++) {
        const struct ip_address *own = &stack->own.list[i].address;
        struct ip_address its = nd_group_of(own);
        if (!ip_address_is_ipv4(own) && ip_address_equal(&its, group)) {
            return true;
        }
    }
    return ip_address_equal(group, &all_nodes);
}

const struct ip_address *nd_link_local(const struct stack *stack)
{
    const struct own_address *own = &stack->own.list[stack->link_local];
    return own->state == OWN_PREFERRED ? &own->address : NULL;
}

/* ---- out ---- */

static void mac_option_put(const struct stack *stack, uint8_t *at, uint8_t option)
{
    at[0] = option;
    at[1] = 1; /* of 8 bytes */
    memcpy(at + 2, stack->port->facts.mac, 6);
}

static struct rte_mbuf *message(struct stack *stack, const struct ip_address *from,
                                const struct ip_address *to, uint8_t type)
{
    struct ip_header header = {.from = from, .to = to, .hop_limit = HOP_LIMIT};
    bool tells_mac = !ip_address_is_any(from);
    header.payload_bytes = (uint16_t)(NEIGHBOR_BYTES + (tells_mac ? MAC_OPTION_BYTES : 0));
    return icmp6_message(stack, &header, type);
}

void nd_solicit(struct stack *stack, const struct ip_address *target, const uint8_t *mac)
{
    struct ip_address group = nd_group_of(target);
    struct ip_way way;
    if (ip_route(stack, target, &way) < 0 || !ip_is_ours(stack, &way.source)) {
        return;
    }
    struct rte_mbuf *frame =
        message(stack, &way.source, mac == NULL ? &group : target, ICMP6_NEIGHBOR_SOLICITATION);
    if (frame != NULL) {
        memcpy(icmp6_body(frame) + 8, target->words, 16);
        mac_option_put(stack, icmp6_body(frame) + NEIGHBOR_BYTES, OPTION_SOURCE_MAC);
        stack->counters.nd_out_solicitations++;
        icmp6_send_on_link(stack, frame, mac);
    }
}

void nd_probe(struct stack *stack, const struct ip_address *own)
{
    struct ip_address group = nd_group_of(own);
    struct rte_mbuf *frame = message(stack, &nobody, &group, ICMP6_NEIGHBOR_SOLICITATION);
    if (frame != NULL) {
        memcpy(icmp6_body(frame) + 8, own->words, 16);
        stack->counters.nd_out_solicitations++;
        icmp6_send_on_link(stack, frame, NULL);
    }
}

static struct rte_mbuf *advertisement(struct stack *stack, const struct ip_address *own,
                                      const struct ip_address *to, uint8_t flags)
{
    struct rte_mbuf *frame = message(stack, own, to, ICMP6_NEIGHBOR_ADVERTISEMENT);
    if (frame != NULL) {
        icmp6_body(frame)[4] = flags;
        memcpy(icmp6_body(frame) + 8, own->words, 16);
        mac_option_put(stack, icmp6_body(frame) + NEIGHBOR_BYTES, OPTION_TARGET_MAC);
        stack->counters.nd_out_advertisements++;
    }
    return frame;
}

void nd_announce(struct stack *stack, const struct ip_address *own)
{
    struct rte_mbuf *frame = advertisement(stack, own, &all_nodes, FLAG_OVERRIDE);
    if (frame != NULL) {
        icmp6_send_on_link(stack, frame, NULL);
    }
}

static void answer(struct stack *stack, const struct ip_address *own, const struct ip_address *to,
                   const uint8_t *mac)
{
    struct rte_mbuf *frame = advertisement(stack, own, to, FLAG_SOLICITED | FLAG_OVERRIDE);
    if (frame != NULL) {
        icmp6_send_on_link(stack, frame, mac);
    }
}

/* ---- in ---- */

struct arrived {
    const uint8_t *eth;
    struct ip_address from, to;
    const uint8_t *message;
    uint32_t bytes;
    const uint8_t *source_mac, *target_mac; /* options; NULL: not there */
    uint32_t mtu;                           /* 0: not there */
};

static bool is_host_mac(const uint8_t mac[6])
{
    static const uint8_t none[6] = {0};
    return (mac[0] & 1) == 0 && memcmp(mac, none, 6) != 0;
}

/* False: an option without length, or one that the message does not hold. */
static bool options_read(struct arrived *arrived, uint32_t at)
{
    while (at < arrived->bytes) {
        const uint8_t *option = arrived->message + at;
        uint32_t left = arrived->bytes - at, size = left < 2 ? 0 : option[1] * 8u;
        if (size == 0 || size > left) {
            return false;
        }
        if (option[0] == OPTION_SOURCE_MAC && is_host_mac(option + 2)) {
            arrived->source_mac = option + 2;
        } else if (option[0] == OPTION_TARGET_MAC && is_host_mac(option + 2)) {
            arrived->target_mac = option + 2;
        } else if (option[0] == OPTION_MTU) {
            memcpy(&arrived->mtu, option + 4, sizeof(arrived->mtu));
            arrived->mtu = ntohl(arrived->mtu);
        }
        at += size;
    }
    return true;
}

/* RFC 4861 §7.2.3, §7.2.4. False: not as it should be. */
static bool solicited(struct stack *stack, const struct arrived *arrived)
{
    struct ip_address target = ip_address_of_ipv6(arrived->message + 8);
    struct ip_address group = nd_group_of(&target);
    bool probe = ip_address_is_any(&arrived->from);
    if (ip_address_is_multicast(&target) ||
        (probe && (!ip_address_equal(&arrived->to, &group) || arrived->source_mac != NULL)) ||
        (!probe && !ip_is_on_link(stack, &arrived->from))) {
        return false;
    }
    uint32_t own = own_find_claimed(&stack->own, &target);
    if (own == OWN_NONE) {
        return true;
    }
    if (!probe && own_find_claimed(&stack->own, &arrived->from) != OWN_NONE) {
        nd_claim_contested(stack, own, arrived->eth + 6);
        return true;
    }
    switch ((enum own_state)stack->own.list[own].state) {
    case OWN_TENTATIVE:
        if (probe) { /* another host is about to take the same */
            nd_claim_contested(stack, own, arrived->eth + 6);
        }
        break;
    case OWN_PREFERRED:
        if (probe) {
            nd_announce(stack, &target);
            break;
        }
        if (arrived->source_mac != NULL) {
            neighbour_solicited(stack, &arrived->from, arrived->source_mac);
        }
        answer(stack, &target, &arrived->from,
               arrived->source_mac != NULL ? arrived->source_mac : arrived->eth + 6);
        break;
    case OWN_DUPLICATE:
        break;
    }
    return true;
}

/* RFC 4861 §7.1.2, §7.2.5. */
static bool advertised(struct stack *stack, const struct arrived *arrived)
{
    struct ip_address target = ip_address_of_ipv6(arrived->message + 8);
    uint8_t flags = arrived->message[4];
    if (ip_address_is_multicast(&target) ||
        (ip_address_is_multicast(&arrived->to) && (flags & FLAG_SOLICITED) != 0)) {
        return false;
    }
    uint32_t own = own_find_claimed(&stack->own, &target);
    if (own != OWN_NONE) {
        nd_claim_contested(stack, own, arrived->eth + 6);
        return true;
    }
    neighbour_advertised(stack, &target, arrived->target_mac,
                         ((flags & FLAG_SOLICITED) != 0 ? NEIGHBOUR_CONFIRMS : 0) |
                             ((flags & FLAG_OVERRIDE) != 0 ? NEIGHBOUR_OVERRIDES : 0));
    return true;
}

/* RFC 4861 §6.1.2. */
static bool router_advertised(struct stack *stack, const struct arrived *arrived)
{
    if (!ip_address_is_link_local(&arrived->from) ||
        own_find_claimed(&stack->own, &arrived->from) != OWN_NONE) {
        return false;
    }
    const struct nd_advertisement told = {
        .from = arrived->from,
        .mac = arrived->source_mac,
        .mtu = arrived->mtu,
        .lifetime_s = (uint16_t)(arrived->message[6] << 8 | arrived->message[7]),
        .options = arrived->message + ROUTER_BYTES,
        .options_bytes = arrived->bytes - ROUTER_BYTES,
    };
    nd_router_advertised(stack, &told);
    return true;
}

static bool read_message(struct stack *stack, struct arrived *arrived)
{
    uint8_t type = arrived->message[0];
    uint32_t header = type == ICMP6_ROUTER_ADVERTISEMENT ? ROUTER_BYTES : NEIGHBOR_BYTES;
    if (arrived->message[1] != 0 || arrived->bytes < header || !options_read(arrived, header)) {
        return false;
    }
    switch (type) {
    case ICMP6_NEIGHBOR_SOLICITATION:
        return solicited(stack, arrived);
    case ICMP6_NEIGHBOR_ADVERTISEMENT:
        return advertised(stack, arrived);
    case ICMP6_ROUTER_ADVERTISEMENT:
        return router_advertised(stack, arrived);
    default:
        return false; /* redirects */
    }
}

void nd_input(struct stack *stack, struct rte_mbuf *frame)
{
    stack->counters.nd_in++;
    if (rte_pktmbuf_linearize(frame) != 0) {
        stack->counters.nd_refused++;
        return;
    }
    const struct rte_ipv6_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv6_hdr *, ETH_BYTES);
    struct arrived arrived = {
        .eth = rte_pktmbuf_mtod(frame, const uint8_t *),
        .from = ip_address_of_ipv6(ip->src_addr),
        .to = ip_address_of_ipv6(ip->dst_addr),
        .message = rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT),
        .bytes = frame->pkt_len - AT,
    };
    bool ours = memcmp(arrived.eth + 6, stack->port->facts.mac, 6) == 0; /* it came back to us */
    if (ours || ip->hop_limits != HOP_LIMIT || !is_host_mac(arrived.eth + 6) ||
        !read_message(stack, &arrived)) {
        stack->counters.nd_refused++;
    }
}

bool nd_asks_for_us(const struct stack *stack, const struct rte_mbuf *frame)
{
    const uint8_t *message = rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT);
    if (message[0] != ICMP6_NEIGHBOR_SOLICITATION || frame->data_len < AT + NEIGHBOR_BYTES) {
        return false;
    }
    struct ip_address target = ip_address_of_ipv6(message + 8);
    return own_find(&stack->own, &target) != OWN_NONE;
}
