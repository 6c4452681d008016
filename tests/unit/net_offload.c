#include "tests/unit/net_offload.h"
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/tcp.h"
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <string.h>

#define BYTES_MAX (65535u + 64u)

static void ip_finish(uint8_t *ip, bool ipv4, uint32_t ip_bytes, bool checksum)
{
    if (!ipv4) {
        ((struct rte_ipv6_hdr *)ip)->payload_len = htons((uint16_t)(ip_bytes - 40));
        return;
    }
    struct rte_ipv4_hdr *header = (struct rte_ipv4_hdr *)ip;
    header->total_length = htons((uint16_t)ip_bytes);
    if (checksum) {
        header->hdr_checksum = 0;
        header->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*header)));
    }
}

/* The stack has put the sum of the pseudo header there, its length included or not. */
static void tcp_finish(uint8_t *tcp, uint32_t tcp_bytes, bool add_length)
{
    uint64_t sum = checksum_add(0, tcp, tcp_bytes);
    sum += add_length ? htons((uint16_t)tcp_bytes) : 0;
    struct rte_tcp_hdr *header = (struct rte_tcp_hdr *)tcp;
    header->cksum = 0;
    header->cksum = checksum_finish(sum);
}

void net_offload(const struct rte_mbuf *frame,
                 void (*out)(void *owner, uint8_t *bytes, uint32_t size), void *owner)
{
    static uint8_t whole[BYTES_MAX], cut[BYTES_MAX];
    uint32_t size = frame->pkt_len;
    check(size <= sizeof(whole));
    const uint8_t *read = rte_pktmbuf_read(frame, 0, size, whole);
    if (read != whole) {
        memcpy(whole, read, size);
    }
    if ((frame->ol_flags & RTE_MBUF_F_TX_L4_MASK) != RTE_MBUF_F_TX_TCP_CKSUM &&
        (frame->ol_flags & RTE_MBUF_F_TX_TCP_SEG) == 0) {
        out(owner, whole, size);
        return;
    }
    bool ipv4 = (frame->ol_flags & RTE_MBUF_F_TX_IPV4) != 0, seg = false;
    seg = (frame->ol_flags & RTE_MBUF_F_TX_TCP_SEG) != 0;
    uint32_t ip_at = frame->l2_len, tcp_at = ip_at + frame->l3_len;
    uint32_t headers = tcp_at + frame->l4_len;
    check(!seg || (frame->tso_segsz > 0 && size - headers > frame->tso_segsz));
    check(!seg || !ipv4 || (frame->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) != 0);
    uint32_t payload = size - headers, most = seg ? frame->tso_segsz : payload;
    uint32_t at = 0;
    do {
        uint32_t here = payload - at < most ? payload - at : most;
        memcpy(cut, whole, headers);
        memcpy(cut + headers, whole + headers + at, here);
        struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(cut + tcp_at);
        tcp->sent_seq = htonl(ntohl(tcp->sent_seq) + at);
        if (at + here < payload) {
            tcp->tcp_flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
        }
        if (at > 0) {
            tcp->tcp_flags &= (uint8_t)~TCP_CWR;
        }
        ip_finish(cut + ip_at, ipv4, headers - ip_at + here, seg);
        tcp_finish(cut + tcp_at, headers - tcp_at + here, seg);
        out(owner, cut, headers + here);
        at += here;
    } while (at < payload);
}
