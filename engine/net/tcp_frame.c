#include "engine/net/tcp_frame.h"
#include "engine/core/mutation.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define PIECES_MAX 8u        /* that one frame points to; a device takes a few more */
#define SUPER_PIECES_MAX 40u /* of one that the port cuts into segments: 64 KiB in chunks */
#define SUPER_BYTES (UINT16_MAX - IPV6_BYTES - 60u) /* what the IP header can count */
#define SMALL_BYTES 64u /* copying them costs less than pointing to them */
#define SACK_OPTION_BYTES(count) ((count) == 0 ? 0u : 4u + 8u * (count))

void tcp_output_template(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    const struct ip_header header = {.from = &conn->tuple.local,
                                     .to = &conn->tuple.remote,
                                     .protocol = IPPROTO_TCP,
                                     .flow_label = tcp_flow_label(stack, conn->hash)};
    static const uint8_t timestamp[4] = {1, 1, 8, 10};
    memset(conn->header, 0, sizeof(conn->header));
    struct rte_tcp_hdr *tcp = ip_header_fill(stack, conn->header, &header);
    if (ip_address_is_ipv4(&conn->tuple.remote)) {
        /* As if the length were 0, so that it only needs to be added. */
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(conn->header + ETH_BYTES);
        ip->total_length = 0;
        ip->hdr_checksum = 0;
        ip->hdr_checksum = checksum_fold(checksum_add(0, ip, sizeof(*ip)));
    }
    tcp->src_port = htons(conn->tuple.local_port);
    tcp->dst_port = htons(conn->tuple.remote_port);
    conn->header_bytes =
        (uint8_t)(ETH_BYTES + ip_header_bytes(&conn->tuple.remote) + TCP_HEADER_BYTES);
    if (conn->timestamps) {
        memcpy(tcp + 1, timestamp, sizeof(timestamp));
        conn->header_bytes += TCP_TIMESTAMP_BYTES;
    }
}

/* Of 40 bytes of options a timestamp leaves room for one less. */
static uint32_t sacks_max(const struct tcp_conn *conn)
{
    return conn->timestamps ? TCP_SACKS_MAX - 1 : TCP_SACKS_MAX;
}

uint32_t tcp_frame_options(const struct tcp_conn *conn)
{
    const struct tcp_receive_queue *received = &conn->received;
    bool any = conn->sack && (received->early_head != NULL ||
                              received->duplicate.begin != received->duplicate.end);
    return any ? SACK_OPTION_BYTES(sacks_max(conn)) : 0;
}

/* Returns the sum of what the checksum covers besides the payload. */
static uint64_t header_fill(struct tcp_conn *conn, uint8_t *header,
                            const struct tcp_departure *departure, uint32_t payload_bytes,
                            uint32_t header_bytes)
{
    struct stack *stack = conn->stack;
    uint32_t ip_bytes = ip_header_bytes(&conn->tuple.remote);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(header + ETH_BYTES + ip_bytes);
    uint32_t tcp_bytes = header_bytes - ETH_BYTES - ip_bytes;
    uint8_t ecn = departure->ect ? TCP_ECT_0 : TCP_NOT_ECT;
    if (ip_bytes == IPV4_BYTES) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(header + ETH_BYTES);
        uint16_t length = htons((uint16_t)(IPV4_BYTES + tcp_bytes + payload_bytes));
        ip->type_of_service |= ecn;
        ip->hdr_checksum = checksum_finish((uint64_t)ip->hdr_checksum + length + htons(ecn));
        ip->total_length = length;
    } else {
        struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(header + ETH_BYTES);
        ip->vtc_flow |= htonl((uint32_t)ecn << 20);
        ip->payload_len = htons((uint16_t)(tcp_bytes + payload_bytes));
    }
    tcp->sent_seq = htonl(departure->seq);
    tcp->recv_ack =
        htonl(conn->rcv_nxt + (MUTATED(ACKED_TOO_FAR) && conn->received.early_count > 0));
    tcp->data_off = (uint8_t)(tcp_bytes / 4 << 4);
    tcp->tcp_flags = (uint8_t)(departure->flags | (conn->ece ? TCP_ECE : 0));
    tcp->rx_win = htons(tcp_window_tell(conn));
    if (conn->timestamps) {
        uint32_t stamps[2] = {htonl(tcp_timestamp_now(stack, conn->ts_offset)),
                              htonl(conn->ts_recent)};
        memcpy((uint8_t *)(tcp + 1) + 4, stamps, sizeof(stamps));
    }
    /* Of what is cut into segments, the device adds each one's length. */
    return ip_pseudo_sum(&conn->tuple.local, &conn->tuple.remote, IPPROTO_TCP,
                         departure->segment_bytes > 0 ? 0 : tcp_bytes + payload_bytes);
}

static bool by_reference(const struct tcp_conn *conn, const struct tcp_piece *piece, uint32_t bytes)
{
    return bytes > SMALL_BYTES && piece->readable_by_port && conn->stack->port->facts.tx_segments;
}

uint32_t tcp_frame_super(const struct tcp_conn *conn)
{
    const struct stack *stack = conn->stack;
    const struct port_facts *facts = &stack->port->facts;
    bool able =
        facts->tso && facts->tx_checksum_tcp && facts->tx_checksum_ipv4 && facts->tx_segments;
    return able ? SUPER_BYTES : 0;
}

uint32_t tcp_frame_fit(struct tcp_conn *conn, uint32_t offset,
                       const struct tcp_departure *departure)
{
    uint32_t bytes = departure->bytes,
             most = departure->segment_bytes > 0 ? SUPER_PIECES_MAX : PIECES_MAX;
    uint32_t fit = 0, pieces = 0, max = conn->stack->port->facts.tx_segment_max;
    max = max == 0 || max > most ? most : max;
    while (fit < bytes) {
        uint32_t skip;
        const struct tcp_piece *piece = tcp_send_queue_at(&conn->queue, offset + fit, &skip);
        uint32_t here = piece->size - skip;
        if (++pieces == max) { /* one mbuf is the header's */
            return fit > 0 ? fit : (here < bytes ? here : bytes);
        }
        fit += here;
    }
    return bytes;
}

/* Devices need an address that they can reach; where that is no plain address, memory is only
 * contiguous within a page. 0: not as one. */
static rte_iova_t iova_of(const struct stack *stack, const uint8_t *bytes, uint32_t size)
{
    if (stack->iova_is_address) {
        return (rte_iova_t)(uintptr_t)bytes;
    }
    const struct rte_memseg *page = rte_mem_virt2memseg(bytes, NULL);
    size_t in_page = page == NULL ? 0 : (size_t)(bytes - (const uint8_t *)page->addr);
    bool whole = page != NULL && in_page + size <= page->len;
    return whole && page->iova != RTE_BAD_IOVA ? page->iova + in_page : 0;
}

/* An mbuf that points to part of a piece. NULL: none left, or the memory is not in one page. */
static struct rte_mbuf *refer(struct stack *stack, struct tcp_piece *piece, uint32_t skip,
                              uint32_t bytes)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(stack->segments);
    if (mbuf == NULL) {
        return NULL;
    }
    if (piece->index == SLAB_NONE) {
        rte_pktmbuf_attach(mbuf, piece->chunk);
        mbuf->data_off = (uint16_t)(mbuf->data_off + skip);
    } else {
        const uint8_t *at = piece->bytes + skip;
        rte_iova_t iova = iova_of(stack, at, bytes);
        if (iova == 0) {
            rte_pktmbuf_free(mbuf);
            return NULL;
        }
        rte_mbuf_ext_refcnt_update(&piece->shared, 1);
        rte_pktmbuf_attach_extbuf(mbuf, (void *)(uintptr_t)at, iova, (uint16_t)bytes,
                                  &piece->shared);
    }
    mbuf->data_len = (uint16_t)bytes;
    mbuf->pkt_len = bytes;
    stack->counters.tcp_tx_referenced_bytes += bytes;
    return mbuf;
}

/* A frame in the making. */
struct assembly {
    struct rte_mbuf *head, *tail;
    bool tail_writable; /* the tail's memory is its own */
};

static void join(struct assembly *frame, struct rte_mbuf *mbuf, bool writable)
{
    frame->tail->next = mbuf;
    frame->tail = mbuf;
    frame->tail_writable = writable;
    frame->head->nb_segs++;
    frame->head->pkt_len += mbuf->data_len;
}

static bool copy(struct stack *stack, struct assembly *frame, const uint8_t *bytes, uint32_t size)
{
    while (size > 0) {
        uint32_t room = frame->tail_writable ? rte_pktmbuf_tailroom(frame->tail) : 0;
        if (room == 0) {
            struct rte_mbuf *mbuf = rte_pktmbuf_alloc(stack->pool);
            if (mbuf == NULL) {
                return false;
            }
            join(frame, mbuf, true);
            continue;
        }
        uint32_t here = size < room ? size : room;
        memcpy(rte_pktmbuf_mtod_offset(frame->tail, uint8_t *, frame->tail->data_len), bytes, here);
        frame->tail->data_len = (uint16_t)(frame->tail->data_len + here);
        frame->head->pkt_len += here;
        bytes += here;
        size -= here;
        stack->counters.tcp_tx_copied_bytes += here;
    }
    return true;
}

static bool payload_add(struct tcp_conn *conn, struct assembly *frame, uint32_t offset,
                        uint32_t bytes)
{
    struct stack *stack = conn->stack;
    bool small = bytes <= rte_pktmbuf_tailroom(frame->tail);
    while (bytes > 0) {
        uint32_t skip;
        struct tcp_piece *piece = tcp_send_queue_at(&conn->queue, offset, &skip);
        uint32_t here = piece->size - skip;
        here = here < bytes ? here : bytes;
        struct rte_mbuf *mbuf =
            !small && by_reference(conn, piece, here) ? refer(stack, piece, skip, here) : NULL;
        if (mbuf != NULL) {
            join(frame, mbuf, false);
        } else if (!copy(stack, frame, piece->bytes + skip, here)) {
            return false;
        }
        offset += here;
        bytes -= here;
    }
    return true;
}

/* Short frames in one small mbuf, those that are copied whole in one large, the rest in a chain. */
static struct rte_mbuf *head_take(struct stack *stack, uint32_t header_bytes, uint32_t bytes)
{
    struct rte_mempool *pool = stack->segments;
    if (bytes == 0) {
        pool = stack->control;
    } else if (!stack->port->facts.tx_segments && header_bytes + bytes > STACK_CONTROL_BYTES) {
        pool = stack->pool;
    }
    return rte_pktmbuf_alloc(pool);
}

static void checksum_fill(struct tcp_conn *conn, struct rte_mbuf *frame, uint64_t sum,
                          uint32_t header_bytes, uint16_t segment_bytes)
{
    struct stack *stack = conn->stack;
    uint32_t ip_bytes = ip_header_bytes(&conn->tuple.remote), offset = ETH_BYTES + ip_bytes;
    struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(frame, struct rte_tcp_hdr *, offset);
    if (stack->port->facts.tx_checksum_tcp) {
        frame->ol_flags |= ip_bytes == IPV4_BYTES ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
        frame->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
        frame->l2_len = ETH_BYTES;
        frame->l3_len = (uint16_t)(ip_bytes & 0x1ff);
        frame->l4_len = (uint8_t)(header_bytes - offset);
        tcp->cksum = checksum_fold(sum);
        if (segment_bytes > 0) {
            frame->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
            frame->tso_segsz = segment_bytes;
            if (ip_bytes == IPV4_BYTES) { /* each segment has a length, so a checksum, of its own */
                struct rte_ipv4_hdr *ip =
                    rte_pktmbuf_mtod_offset(frame, struct rte_ipv4_hdr *, ETH_BYTES);
                frame->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
                ip->hdr_checksum = 0;
            }
        }
        return;
    }
    tcp->cksum = 0;
    tcp->cksum = checksum_finish(checksum_add_frame(sum, frame, offset, frame->pkt_len - offset));
}

struct rte_mbuf *tcp_frame_build(struct tcp_conn *conn, const struct tcp_departure *departure,
                                 uint32_t offset)
{
    struct stack *stack = conn->stack;
    struct tcp_range ranges[TCP_SACKS_MAX];
    size_t range_count =
        tcp_frame_options(conn) == 0 ? 0 : tcp_receive_sack(conn, ranges, sacks_max(conn));
    uint32_t header_bytes = conn->header_bytes + SACK_OPTION_BYTES((uint32_t)range_count);
    struct rte_mbuf *head = head_take(stack, header_bytes, departure->bytes);
    if (head == NULL) {
        stack->counters.frames_out_no_buffer++;
        return NULL;
    }
    uint8_t *header = rte_pktmbuf_mtod(head, uint8_t *);
    memcpy(header, conn->header, conn->header_bytes);
    tcp_options_write_sack(header + conn->header_bytes, ranges, range_count);
    head->data_len = (uint16_t)header_bytes;
    head->pkt_len = header_bytes;
    uint64_t sum = header_fill(conn, header, departure, departure->bytes, header_bytes);
    struct assembly frame = {.head = head, .tail = head, .tail_writable = true};
    if (departure->bytes > 0 && !payload_add(conn, &frame, offset, departure->bytes)) {
        stack->counters.frames_out_no_buffer++;
        rte_pktmbuf_free(head);
        return NULL;
    }
    checksum_fill(conn, head, sum, header_bytes, departure->segment_bytes);
    trace_segment_out(conn, departure);
    return head;
}
