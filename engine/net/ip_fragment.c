#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define FRAGMENT_HEADER_BYTES 8u
#define MORE_FRAGMENTS 0x2000u

struct cut {
    uint32_t header_bytes; /* of IP, fixed */
    uint32_t offset, bytes;
    uint32_t id; /* random, so that nobody can foresee it: RFC 7739 */
    bool more;
};

static void ipv4_fill(uint8_t *at, const struct cut *cut)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)at;
    ip->total_length = htons((uint16_t)(IPV4_BYTES + cut->bytes));
    ip->packet_id = (uint16_t)cut->id;
    ip->fragment_offset = htons((uint16_t)(cut->offset / 8 | (cut->more ? MORE_FRAGMENTS : 0)));
    ip->hdr_checksum = 0;
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
}

static void ipv6_fill(uint8_t *at, const struct cut *cut)
{
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)at;
    struct rte_ipv6_fragment_ext *fragment = (struct rte_ipv6_fragment_ext *)(ip + 1);
    *fragment = (struct rte_ipv6_fragment_ext){
        .next_header = ip->proto,
        .frag_data = htons((uint16_t)(cut->offset | cut->more)),
        .id = cut->id,
    };
    ip->proto = IPPROTO_FRAGMENT;
    ip->payload_len = htons((uint16_t)(FRAGMENT_HEADER_BYTES + cut->bytes));
}

static void copy(const struct rte_mbuf *from, uint32_t offset, uint32_t bytes, uint8_t *to)
{
    const uint8_t *at = rte_pktmbuf_read(from, offset, bytes, to);
    check(at != NULL);
    if (at != to) {
        memcpy(to, at, bytes);
    }
}

/* NULL: no buffer. */
static struct rte_mbuf *fragment_make(struct stack *stack, const struct rte_mbuf *packet,
                                      const struct cut *cut)
{
    bool ipv4 = cut->header_bytes == IPV4_BYTES;
    uint32_t headers = ETH_BYTES + cut->header_bytes,
             more_headers = ipv4 ? 0 : FRAGMENT_HEADER_BYTES;
    struct rte_mbuf *fragment = rte_pktmbuf_alloc(stack->pool);
    if (fragment == NULL) {
        stack->counters.frames_out_no_buffer++;
        return NULL;
    }
    uint8_t *begin =
        (uint8_t *)rte_pktmbuf_append(fragment, (uint16_t)(headers + more_headers + cut->bytes));
    check(begin != NULL);
    copy(packet, 0, headers, begin);
    copy(packet, headers + cut->offset, cut->bytes, begin + headers + more_headers);
    (ipv4 ? ipv4_fill : ipv6_fill)(begin + ETH_BYTES, cut);
    return fragment;
}

/* Of payload in each but the last: whole eights. */
static uint32_t step_bytes(const struct stack *stack, const struct ip_address *to)
{
    uint32_t room = rte_pktmbuf_data_room_size(stack->pool) - RTE_PKTMBUF_HEADROOM - ETH_BYTES;
    uint32_t mtu = ip_mtu(stack, to), header = ip_header_bytes(to);
    header += ip_address_is_ipv4(to) ? 0 : FRAGMENT_HEADER_BYTES;
    return ((mtu < room ? mtu : room) - header) / 8 * 8;
}

bool ip_send_any_size(struct stack *stack, const struct ip_address *to, struct rte_mbuf *frame)
{
    if (frame->pkt_len <= ETH_BYTES + (uint32_t)ip_mtu(stack, to)) {
        return ip_send(stack, to, frame);
    }
    struct cut cut = {.header_bytes = ip_header_bytes(to)};
    uint32_t payload_bytes = frame->pkt_len - ETH_BYTES - cut.header_bytes;
    uint32_t step = step_bytes(stack, to);
    bool sent = true;
    world_random(stack->world, &cut.id, sizeof(cut.id));
    for (; sent && cut.offset < payload_bytes; cut.offset += step) {
        uint32_t left = payload_bytes - cut.offset;
        cut.more = left > step;
        cut.bytes = cut.more ? step : left;
        struct rte_mbuf *fragment = fragment_make(stack, frame, &cut);
        sent = fragment != NULL && ip_send(stack, to, fragment);
        stack->counters.ip_fragments_made += sent;
    }
    stack->counters.ip_fragments_ok += sent;
    stack->counters.ip_fragments_failed += !sent;
    rte_pktmbuf_free(frame);
    return sent;
}
