#include "bench/flood.h"
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <string.h>

#define BURST 32u
#define BURSTS_MAX 16u /* a round */
#define SOURCE_NETWORK 0xc6120000u
#define SOURCE_BITS 17u
#define MSS_BYTES 4u

static uint64_t random_next(struct flood *flood) /* splitmix64 */
{
    uint64_t z = flood->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void flood_open(struct flood *flood, const struct flood_settings *settings)
{
    *flood = (struct flood){.settings = *settings, .begun_ns = world_now_ns(settings->world)};
    world_random(settings->world, &flood->random, sizeof(flood->random));
}

static uint8_t flags_of(enum flood_kind kind)
{
    switch (kind) {
    case FLOOD_SYN:
        return RTE_TCP_SYN_FLAG;
    case FLOOD_ACK:
        return RTE_TCP_ACK_FLAG;
    case FLOOD_RST:
        return RTE_TCP_RST_FLAG;
    case FLOOD_FIN:
        return RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG;
    case FLOOD_NONE:
        break;
    }
    return 0;
}

static void ip_fill(struct flood *flood, struct rte_ipv4_hdr *ip, uint16_t bytes)
{
    uint32_t source = SOURCE_NETWORK | (random_next(flood) & ((1u << SOURCE_BITS) - 1));
    *ip = (struct rte_ipv4_hdr){.version_ihl = RTE_IPV4_VHL_DEF,
                                .total_length = htons((uint16_t)(sizeof(*ip) + bytes)),
                                .time_to_live = 64,
                                .next_proto_id = IPPROTO_TCP,
                                .src_addr = htonl(source)};
    memcpy(&ip->dst_addr, flood->settings.to.address, sizeof(ip->dst_addr));
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
}

static void frame_fill(struct flood *flood, struct rte_mbuf *frame)
{
    const struct flood_settings *settings = &flood->settings;
    bool syn = settings->kind == FLOOD_SYN;
    uint16_t bytes = sizeof(struct rte_tcp_hdr) + (syn ? MSS_BYTES : 0);
    uint64_t numbers = random_next(flood);
    struct rte_ether_hdr *eth = (void *)rte_pktmbuf_append(
        frame, (uint16_t)(sizeof(*eth) + sizeof(struct rte_ipv4_hdr) + bytes));
    check(eth != NULL);
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    static const uint8_t mss[MSS_BYTES] = {2, 4, 5, 0xb4};
    memcpy(eth->dst_addr.addr_bytes, settings->mac, 6);
    memcpy(eth->src_addr.addr_bytes, settings->port->facts.mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
    ip_fill(flood, ip, bytes);
    *tcp = (struct rte_tcp_hdr){.src_port = (uint16_t)(random_next(flood) | 1),
                                .dst_port = htons(settings->to.port),
                                .sent_seq = (uint32_t)numbers,
                                .recv_ack = (uint32_t)(numbers >> 32),
                                .data_off = (uint8_t)(bytes / 4 << 4),
                                .tcp_flags = flags_of(settings->kind),
                                .rx_win = htons(65535)};
    memcpy(tcp + 1, mss, syn ? sizeof(mss) : 0);
    uint64_t sum = (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, bytes));
}

static bool burst_send(struct flood *flood, uint64_t count)
{
    struct rte_mbuf *frames[BURST];
    struct port *port = flood->settings.port;
    uint16_t wanted = (uint16_t)(count < BURST ? count : BURST);
    if (rte_pktmbuf_alloc_bulk(flood->settings.pool, frames, wanted) < 0) {
        return false;
    }
    for (uint16_t i = 0; i < wanted; i++) {
        frame_fill(flood, frames[i]);
    }
    uint16_t taken = port->ops->transmit(port, 0, frames, wanted);
    flood->sent += taken;
    flood->lost += wanted - taken;
    for (uint16_t i = taken; i < wanted; i++) {
        rte_pktmbuf_free(frames[i]);
    }
    return taken == wanted;
}

void flood_round(struct flood *flood, uint64_t now_ns)
{
    uint64_t due = (now_ns - flood->begun_ns) / 1000 * flood->settings.per_s / 1000000;
    for (unsigned i = 0; i < BURSTS_MAX && flood->sent + flood->lost < due; i++) {
        if (!burst_send(flood, due - flood->sent - flood->lost)) {
            break;
        }
    }
}
