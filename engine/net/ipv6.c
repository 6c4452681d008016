#include "engine/net/ipv6.h"
#include "engine/net/icmp6.h"
#include "engine/net/nd.h"
#include "engine/net/stack_private.h"

#define EXTENSIONS_MAX 6u /* headers of one packet */
#define EXTENSION_BYTES_MAX 256u
#define OPTIONS_MAX 8u /* of one header, padding not counted: RFC 8504 §5.3 */
#define OPTION_PAD1 0
#define OPTION_PADN 1

#define FRAGMENT_HEADER_BYTES 8u
#define PAYLOAD_BYTES_MAX 65535u
#define FRAGMENT_OFFSET_MASK 0xfff8u /* and the last bit says that there are more */

/* A walk along the headers of a frame, which lie in its first buffer. */
struct walk {
    struct stack *stack;
    struct rte_mbuf *frame;
    uint32_t at;      /* of the header that is looked at */
    uint32_t next_at; /* of the byte that names it */
    uint8_t next;     /* its name */
    bool fragmented;  /* a fragment header was there */
};

enum verdict {
    WALK_ON,
    WALK_END, /* at something that is no extension header */
    WALK_DROP,
    WALK_KEPT, /* a fragment whose datagram is not whole: the frame is given away */
};

static const uint8_t *bytes_at(const struct walk *walk, uint32_t at)
{
    return rte_pktmbuf_mtod_offset(walk->frame, const uint8_t *, at);
}

static enum verdict refuse(struct walk *walk, uint8_t code, uint32_t pointer)
{
    walk->stack->counters.ip_in_header_errors++;
    icmp6_send_parameter_problem(walk->stack, walk->frame, code, pointer - ETH_BYTES);
    return WALK_DROP;
}

static enum verdict drop(struct walk *walk)
{
    walk->stack->counters.ip_in_header_errors++;
    return WALK_DROP;
}

static bool sent_to_group(const struct walk *walk)
{
    return ((const struct rte_ipv6_hdr *)bytes_at(walk, ETH_BYTES))->dst_addr[0] == 0xff;
}

/* RFC 8200 §4.2: what to do with an option that we do not know, which is each. */
static enum verdict option_refuse(struct walk *walk, uint32_t at)
{
    switch (*bytes_at(walk, at) >> 6) {
    case 0:
        return WALK_ON;
    case 1:
        return drop(walk);
    case 2:
        return refuse(walk, ICMP6_UNKNOWN_OPTION, at);
    default:
        return sent_to_group(walk) ? drop(walk) : refuse(walk, ICMP6_UNKNOWN_OPTION, at);
    }
}

static enum verdict options_read(struct walk *walk, uint32_t bytes)
{
    uint32_t at = walk->at + 2, end = walk->at + bytes, count = 0;
    while (at < end) {
        const uint8_t *option = bytes_at(walk, at);
        if (option[0] == OPTION_PAD1) {
            at++;
            continue;
        }
        if (at + 2 > end || at + 2 + option[1] > end) {
            return refuse(walk, ICMP6_WRONG_FIELD, at);
        }
        enum verdict verdict = WALK_ON;
        if (option[0] != OPTION_PADN) {
            verdict = ++count > OPTIONS_MAX ? drop(walk) : option_refuse(walk, at);
        }
        if (verdict != WALK_ON) {
            return verdict;
        }
        at += 2u + option[1];
    }
    return WALK_ON;
}

/* RFC 7112: the first fragment holds all headers, the upper layer's among them. */
static bool first_holds_headers(const struct walk *walk, bool *untold)
{
    uint32_t at = walk->at + FRAGMENT_HEADER_BYTES;
    uint8_t next = *bytes_at(walk, walk->at);
    while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING) {
        if (at + 8 > walk->frame->data_len) {
            return false;
        }
        next = bytes_at(walk, at)[0];
        at += 8u + bytes_at(walk, at)[1] * 8u;
    }
    return at <= walk->frame->data_len && reassembly_first_holds(walk->frame, at, next, untold);
}

static bool is_spoken(uint8_t protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6 ||
           protocol == IPPROTO_NONE;
}

static bool is_extension(uint8_t protocol)
{
    return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS ||
           protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT;
}

/* RFC 8200 §4.5: what makes a fragment wrong. */
static enum verdict fragment_right(struct walk *walk, struct reassembly_fragment *fragment)
{
    if (!ip_may_come_from(walk->stack, &fragment->from)) {
        walk->stack->counters.ip_in_address_errors++;
        return WALK_DROP;
    }
    if (fragment->bytes == 0) {
        return drop(walk);
    }
    if (fragment->more && fragment->bytes % 8 != 0) {
        return refuse(walk, ICMP6_WRONG_FIELD,
                      ETH_BYTES + offsetof(struct rte_ipv6_hdr, payload_len));
    }
    if (fragment->header_bytes - ETH_BYTES - IPV6_BYTES + fragment->offset + fragment->bytes >
        PAYLOAD_BYTES_MAX) {
        return refuse(walk, ICMP6_WRONG_FIELD,
                      walk->at + offsetof(struct rte_ipv6_fragment_ext, frag_data));
    }
    if (fragment->offset == 0 && !first_holds_headers(walk, &fragment->untold)) {
        return refuse(walk, ICMP6_INCOMPLETE_CHAIN, ETH_BYTES);
    }
    return WALK_ON;
}

/* The walk goes on at the fragment header of the datagram that the frame has made whole. */
static enum verdict fragment_read(struct walk *walk)
{
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)bytes_at(walk, ETH_BYTES);
    const struct rte_ipv6_fragment_ext *header =
        (const struct rte_ipv6_fragment_ext *)bytes_at(walk, walk->at);
    uint32_t field = ntohs(header->frag_data);
    if (walk->fragmented) { /* fragments of fragments: nobody makes them */
        return drop(walk);
    }
    walk->fragmented = true;
    if ((field & (FRAGMENT_OFFSET_MASK | 1u)) == 0) {
        return WALK_ON; /* atomic: RFC 6946 */
    }
    if (!is_spoken(header->next_header) && !is_extension(header->next_header) &&
        exception_give(walk->stack, walk->frame)) { /* who speaks it puts it together */
        walk->frame = NULL;
        return WALK_KEPT;
    }
    struct reassembly_fragment fragment = {
        .from = ip_address_of_ipv6(ip->src_addr),
        .to = ip_address_of_ipv6(ip->dst_addr),
        .id = header->id,
        .offset = field & FRAGMENT_OFFSET_MASK,
        .bytes = walk->frame->pkt_len - walk->at - FRAGMENT_HEADER_BYTES,
        .header_bytes = walk->at + FRAGMENT_HEADER_BYTES,
        .ecn = ntohl(ip->vtc_flow) >> 20 & 3u,
        .more = (field & 1u) != 0,
    };
    walk->stack->counters.ip_reassembly_requests++;
    enum verdict verdict = fragment_right(walk, &fragment);
    if (verdict != WALK_ON) {
        return verdict;
    }
    walk->frame = reassembly_add(walk->stack, walk->frame, &fragment);
    walk->frame = walk->frame == NULL ? NULL : eth_writable(walk->stack, walk->frame);
    if (walk->frame == NULL) {
        return WALK_KEPT;
    }
    struct rte_ipv6_hdr *whole =
        rte_pktmbuf_mtod_offset(walk->frame, struct rte_ipv6_hdr *, ETH_BYTES);
    whole->vtc_flow = (whole->vtc_flow & ~htonl(3u << 20)) | htonl((uint32_t)fragment.ecn << 20);
    walk->at = fragment.header_bytes - FRAGMENT_HEADER_BYTES;
    return WALK_ON;
}

/* One header. */
static enum verdict extension_read(struct walk *walk)
{
    if (!is_extension(walk->next)) {
        return WALK_END;
    }
    if (walk->at + 8 > walk->frame->data_len) {
        return drop(walk);
    }
    const uint8_t *header = bytes_at(walk, walk->at);
    bool fragment = walk->next == IPPROTO_FRAGMENT;
    uint32_t bytes = fragment ? 8 : 8u + header[1] * 8u;
    if (walk->at + bytes > walk->frame->data_len ||
        walk->at + bytes > ETH_BYTES + IPV6_BYTES + EXTENSION_BYTES_MAX) {
        return drop(walk);
    }
    enum verdict verdict = WALK_ON;
    switch (walk->next) {
    case IPPROTO_HOPOPTS:
        verdict = walk->at == ETH_BYTES + IPV6_BYTES
                      ? options_read(walk, bytes)
                      : refuse(walk, ICMP6_UNKNOWN_HEADER, walk->next_at);
        break;
    case IPPROTO_DSTOPTS:
        verdict = options_read(walk, bytes);
        break;
    case IPPROTO_ROUTING: /* used up, or a way that nobody shall send us: RFC 5095 */
        verdict = header[3] == 0 ? WALK_ON : refuse(walk, ICMP6_WRONG_FIELD, walk->at + 2);
        break;
    default:
        verdict = fragment_read(walk);
        break;
    }
    if (verdict == WALK_ON) {
        walk->next = *bytes_at(walk, walk->at); /* of a whole datagram: its first fragment's */
        walk->next_at = walk->at;
        walk->at += bytes;
    }
    return verdict;
}

/* Cuts out what lies between fixed header and payload. */
static void extensions_cut(struct walk *walk)
{
    uint32_t bytes = walk->at - ETH_BYTES - IPV6_BYTES;
    walk->frame->ol_flags &= ~RTE_MBUF_F_RX_RSS_HASH; /* who knows of what? */
    uint8_t *begin = rte_pktmbuf_mtod(walk->frame, uint8_t *);
    memmove(begin + bytes, begin, ETH_BYTES + IPV6_BYTES);
    rte_pktmbuf_adj(walk->frame, (uint16_t)bytes);
    struct rte_ipv6_hdr *ip =
        rte_pktmbuf_mtod_offset(walk->frame, struct rte_ipv6_hdr *, ETH_BYTES);
    ip->proto = walk->next;
    ip->payload_len = htons((uint16_t)(walk->frame->pkt_len - ETH_BYTES - IPV6_BYTES));
}

/* RFC 6980: its messages never come in fragments, not even in atomic ones. */
static bool is_neighbour_discovery(const struct walk *walk)
{
    uint8_t type = ICMP6_ECHO_REQUEST;
    if (walk->fragmented && walk->next == IPPROTO_ICMPV6 && walk->at < walk->frame->data_len) {
        type = *bytes_at(walk, walk->at);
    }
    bool found = type >= ICMP6_ROUTER_SOLICITATION && type <= ICMP6_REDIRECT;
    walk->stack->counters.nd_refused += found;
    return found;
}

/* The kernel gets what stands before the payload too: without a router alert, for one, it believes no
 * listener query (RFC 3810 §6.2). True: it is the kernel's alone; the frame is given. */
static bool kernel_takes_whole(const struct walk *walk)
{
    if (walk->next == IPPROTO_ICMPV6) {
        if (walk->at < walk->frame->data_len && *bytes_at(walk, walk->at) == ICMP6_LISTENER_QUERY) {
            exception_copy(walk->stack, walk->frame);
        }
        return false;
    }
    return !is_spoken(walk->next) && exception_give(walk->stack, walk->frame);
}

/* True: the payload's protocol is *protocol. False: nothing more to do with it; *frame, which may be
 * NULL, is still to be freed. */
static bool extensions_read(struct stack *stack, struct rte_mbuf **frame, uint8_t *protocol)
{
    struct walk walk = {.stack = stack,
                        .frame = *frame,
                        .at = ETH_BYTES + IPV6_BYTES,
                        .next_at = ETH_BYTES + offsetof(struct rte_ipv6_hdr, proto),
                        .next = *protocol};
    if (rte_pktmbuf_linearize(*frame) != 0) {
        drop(&walk);
        return false;
    }
    enum verdict verdict = extension_read(&walk);
    for (unsigned count = 1; verdict == WALK_ON; count++) {
        verdict = count == EXTENSIONS_MAX ? drop(&walk) : extension_read(&walk);
    }
    verdict = verdict == WALK_END && is_neighbour_discovery(&walk) ? WALK_DROP : verdict;
    if (verdict == WALK_END && kernel_takes_whole(&walk)) {
        *frame = NULL;
        return false;
    }
    if (verdict == WALK_END && walk.at > ETH_BYTES + IPV6_BYTES) {
        walk.frame = eth_writable(stack, walk.frame);
        verdict = walk.frame == NULL ? WALK_DROP : WALK_END;
    }
    if (verdict == WALK_END && walk.at > ETH_BYTES + IPV6_BYTES) {
        extensions_cut(&walk);
    }
    *frame = walk.frame;
    *protocol = walk.next;
    return verdict == WALK_END;
}

/* Length and version; cuts off what the Ethernet frame was padded with. */
static bool header_right(struct rte_mbuf *frame)
{
    if (frame->data_len < ETH_BYTES + IPV6_BYTES) {
        return false;
    }
    const struct rte_ipv6_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv6_hdr *, ETH_BYTES);
    uint32_t total = ETH_BYTES + IPV6_BYTES + ntohs(ip->payload_len);
    if (ntohl(ip->vtc_flow) >> 28 != 6 || frame->pkt_len < total) {
        return false;
    }
    uint32_t padding = frame->pkt_len - total;
    return padding == 0 || rte_pktmbuf_trim(frame, (uint16_t)padding) == 0;
}

/* Mapped addresses never stand in a packet (RFC 4291 §2.5.5.2), and would be taken for IPv4. */
static bool addresses_right(const struct stack *stack, const struct rte_ipv6_hdr *ip, bool to_group)
{
    struct ip_address from = ip_address_of_ipv6(ip->src_addr);
    struct ip_address to = ip_address_of_ipv6(ip->dst_addr);
    if (ip_address_is_ipv4(&from) || ip_address_is_ipv4(&to) || ip_address_is_multicast(&from)) {
        return false;
    }
    return ip_address_is_multicast(&to) ? to_group && nd_is_member(stack, &to)
                                        : !to_group && ip_is_ours(stack, &to);
}

/* ICMPv6 judges by itself where a message may come from: an address that is being claimed, for
 * one, by its other owner. */
static bool source_right(const struct stack *stack, const struct rte_ipv6_hdr *ip, uint8_t protocol)
{
    struct ip_address from = ip_address_of_ipv6(ip->src_addr);
    return protocol == IPPROTO_ICMPV6 ||
           (ip_may_come_from(stack, &from) && ip->dst_addr[0] != 0xff);
}

/* True: a TCP segment. The frame is given. */
static bool dispatch(struct stack *stack, struct rte_mbuf *frame, uint8_t protocol,
                     struct tcp_segment *segment)
{
    switch (protocol) {
    case IPPROTO_TCP:
        if (tcp_segment_read(stack, segment, frame, ETH_BYTES)) {
            return true;
        }
        break;
    case IPPROTO_ICMPV6:
        icmp6_input(stack, frame);
        return false;
    case IPPROTO_UDP:
        if (udp_input(stack, frame, true)) {
            return false;
        }
        icmp6_send_port_unreachable(stack, frame);
        break;
    case IPPROTO_NONE:
        break;
    default:
        stack->counters.ip_in_unknown_protocols++;
        icmp6_send_parameter_problem(stack, frame, ICMP6_UNKNOWN_HEADER,
                                     offsetof(struct rte_ipv6_hdr, proto));
        break;
    }
    rte_pktmbuf_free(frame);
    return false;
}

/* Ours or not, as far as its target tells. True: the frame is given. */
static bool kernel_takes(struct stack *stack, struct rte_mbuf *frame, const struct rte_ipv6_hdr *ip)
{
    struct ip_address to = ip_address_of_ipv6(ip->dst_addr);
    bool ours = ip_address_is_multicast(&to) ? nd_is_member(stack, &to)
                                             : own_find(&stack->own, &to) != OWN_NONE;
    return !ours && exception_give(stack, frame);
}

static const struct rte_ipv6_hdr *header_of(const struct rte_mbuf *frame)
{
    return rte_pktmbuf_mtod_offset(frame, const struct rte_ipv6_hdr *, ETH_BYTES);
}

static bool has_extensions(uint8_t protocol)
{
    return protocol != IPPROTO_TCP && protocol != IPPROTO_ICMPV6 && protocol != IPPROTO_UDP;
}

bool ipv6_input(struct stack *stack, struct rte_mbuf *frame, bool to_group,
                struct tcp_segment *segment)
{
    stack->counters.ip_in_receives++;
    if (!header_right(frame)) {
        stack->counters.ip_in_header_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    uint8_t protocol = header_of(frame)->proto;
    if (!addresses_right(stack, header_of(frame), to_group)) {
        if (kernel_takes(stack, frame, header_of(frame))) {
            return false;
        }
        stack->counters.ip_in_address_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    if (has_extensions(protocol) && !extensions_read(stack, &frame, &protocol)) {
        rte_pktmbuf_free(frame);
        return false;
    }
    if (!source_right(stack, header_of(frame), protocol)) {
        if (header_of(frame)->dst_addr[0] == 0xff && exception_give(stack, frame)) {
            return false;
        }
        stack->counters.ip_in_address_errors++;
        rte_pktmbuf_free(frame);
        return false;
    }
    return dispatch(stack, frame, protocol, segment);
}
