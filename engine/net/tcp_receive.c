#include "engine/core/mutation.h"
#include "engine/net/stack_private.h"

#define EARLY_MAX 512u   /* mbufs of one connection */
#define MERGE_BYTES 512u /* segments up to this are copied to the end of the one before */
#define QUICK_ACKS 16u   /* while the peer's window is still small, it grows by acknowledgements */
#define ACK_DELAY_NS (10 * MS_NS) /* RFC 9293 §3.8.6.3: below 500 ms; a reply takes less */

static uint32_t *early_seq(struct rte_mbuf *mbuf)
{
    return &mbuf->hash.usr;
}

static uint32_t early_end(struct rte_mbuf *mbuf)
{
    return *early_seq(mbuf) + mbuf->data_len;
}

static void mbuf_drop(struct tcp_conn *conn, struct rte_mbuf *mbuf)
{
    mbuf->next = NULL;
    mbuf->nb_segs = 1;
    rte_pktmbuf_free_seg(mbuf);
    conn->stack->tcp.held_mbufs--;
}

/* May bytes be added behind its own? Only when the memory is ours alone. */
static bool merge(struct rte_mbuf *tail, const struct rte_mbuf *mbuf)
{
    if (tail == NULL || mbuf->data_len > MERGE_BYTES || !RTE_MBUF_DIRECT(tail) ||
        rte_mbuf_refcnt_read(tail) != 1 || rte_pktmbuf_tailroom(tail) < mbuf->data_len) {
        return false;
    }
    memcpy(rte_pktmbuf_mtod_offset(tail, uint8_t *, tail->data_len),
           rte_pktmbuf_mtod(mbuf, const void *), mbuf->data_len);
    tail->data_len = (uint16_t)(tail->data_len + mbuf->data_len);
    tail->pkt_len = tail->data_len;
    return true;
}

/* The next bytes in order. The mbuf is given, and counted as held. */
static void in_order(struct tcp_conn *conn, struct rte_mbuf *mbuf)
{
    struct tcp_receive_queue *queue = &conn->received;
    uint32_t bytes = mbuf->data_len;
    conn->rcv_nxt += bytes;
    conn->stack->counters.tcp_in_bytes += bytes;
    conn->bytes_received += bytes;
    if (conn->released) {
        mbuf_drop(conn, mbuf);
        return;
    }
    queue->bytes += bytes;
    if (merge(queue->tail, mbuf)) {
        conn->stack->counters.tcp_rx_merged++;
        mbuf_drop(conn, mbuf);
        return;
    }
    mbuf->next = NULL;
    if (queue->tail == NULL) {
        queue->head = mbuf;
    } else {
        queue->tail->next = mbuf;
    }
    queue->tail = mbuf;
    queue->mbuf_count++;
}

/* The link's mbuf leaves the early ones. */
static struct rte_mbuf *early_unlink(struct tcp_conn *conn, struct rte_mbuf **link)
{
    struct rte_mbuf *mbuf = *link;
    *link = mbuf->next;
    conn->stack->tcp.early_mbufs--;
    if (--conn->received.early_count == 0) {
        list_remove(&conn->early);
    }
    return mbuf;
}

static void early_clear(struct tcp_conn *conn)
{
    struct tcp_receive_queue *queue = &conn->received;
    while (queue->early_head != NULL) {
        mbuf_drop(conn, early_unlink(conn, &queue->early_head));
    }
    queue->early_tail = NULL;
}

/* Early ones whose time has come. */
static void early_join(struct tcp_conn *conn)
{
    struct tcp_receive_queue *queue = &conn->received;
    while (queue->early_head != NULL &&
           seq_at_or_before(*early_seq(queue->early_head), conn->rcv_nxt)) {
        struct rte_mbuf *mbuf = early_unlink(conn, &queue->early_head);
        if (queue->early_head == NULL) {
            queue->early_tail = NULL;
        }
        if (seq_at_or_before(early_end(mbuf), conn->rcv_nxt)) {
            mbuf_drop(conn, mbuf);
            continue;
        }
        if (!MUTATED(OVERLAP_TWICE)) {
            rte_pktmbuf_adj(mbuf, (uint16_t)(conn->rcv_nxt - *early_seq(mbuf)));
        }
        in_order(conn, mbuf);
    }
}

/* The link after which an early segment belongs: all before it begin at or before `seq`. */
static struct rte_mbuf *early_before(struct tcp_receive_queue *queue, uint32_t seq)
{
    struct rte_mbuf *before = NULL;
    if (queue->early_tail != NULL && seq_at_or_before(*early_seq(queue->early_tail), seq)) {
        return queue->early_tail;
    }
    for (struct rte_mbuf *at = queue->early_head;
         at != NULL && seq_at_or_before(*early_seq(at), seq); at = at->next) {
        before = at;
    }
    return before;
}

/* The early bytes without a gap from *at on; *at becomes the first behind the gap. */
static struct tcp_range early_block(struct rte_mbuf **at)
{
    struct tcp_range block = {*early_seq(*at), early_end(*at)};
    for (*at = (*at)->next; *at != NULL && *early_seq(*at) == block.end; *at = (*at)->next) {
        block.end = early_end(*at);
    }
    return block;
}

static bool block_holds(const struct tcp_range *block, uint32_t seq)
{
    return seq_at_or_before(block->begin, seq) && seq_before(seq, block->end);
}

/* The block that holds `seq` becomes the newest, and whatever was remembered of it is this. */
static void early_note(struct tcp_receive_queue *queue, uint32_t seq)
{
    uint32_t before[TCP_SACKS_MAX];
    struct tcp_range block = {seq, seq + 1};
    struct rte_mbuf *at = queue->early_head;
    while (at != NULL && seq_at_or_before(*early_seq(at), seq)) {
        block = early_block(&at);
    }
    memcpy(before, queue->early_recent, sizeof(before));
    queue->early_recent[0] = seq;
    for (unsigned i = 0, kept = 1; i < TCP_SACKS_MAX && kept < TCP_SACKS_MAX; i++) {
        if (!block_holds(&block, before[i])) {
            queue->early_recent[kept++] = before[i];
        }
    }
}

/* Bytes that are known are not replaced: what an attacker guesses later changes nothing. What the
 * new one covers whole is dropped for it, so that every byte lies here once. */
static void early_insert(struct tcp_conn *conn, struct rte_mbuf *mbuf, uint32_t seq)
{
    struct tcp_receive_queue *queue = &conn->received;
    struct rte_mbuf *before = early_before(queue, seq);
    if (before != NULL && seq_before(seq, early_end(before))) {
        uint32_t known = early_end(before) - seq;
        tcp_receive_duplicate(conn, seq, seq_min(seq + mbuf->data_len, early_end(before)));
        if (known >= mbuf->data_len && MUTATED(OVERLAP_LEAK)) {
            return;
        }
        if (known >= mbuf->data_len) {
            mbuf_drop(conn, mbuf);
            return;
        }
        rte_pktmbuf_adj(mbuf, (uint16_t)known);
        seq += known;
    }
    struct rte_mbuf **link = before == NULL ? &queue->early_head : &before->next;
    struct rte_mbuf *after = *link;
    if (after != NULL && seq_before(*early_seq(after), seq + mbuf->data_len)) {
        tcp_receive_duplicate(conn, *early_seq(after),
                              seq_min(seq + mbuf->data_len, early_end(after)));
    }
    if (after != NULL && *early_seq(after) == seq &&
        seq_before(seq + mbuf->data_len, early_end(after))) {
        mbuf_drop(conn, mbuf);
        return;
    }
    while (after != NULL && seq_at_or_before(early_end(after), seq + mbuf->data_len)) {
        if (*early_seq(after) == queue->duplicate.end && conn->sack) {
            queue->duplicate.end = early_end(after);
        }
        mbuf_drop(conn, early_unlink(conn, link));
        after = *link;
    }
    if (after != NULL && seq_before(*early_seq(after), seq + mbuf->data_len)) {
        rte_pktmbuf_trim(mbuf, (uint16_t)(seq + mbuf->data_len - *early_seq(after)));
    }
    *early_seq(mbuf) = seq;
    mbuf->next = after;
    *link = mbuf;
    if (after == NULL) {
        queue->early_tail = mbuf;
    }
    if (queue->early_count++ == 0) {
        list_append(&conn->stack->tcp.early, &conn->early);
    }
    conn->stack->tcp.early_mbufs++;
    conn->stack->counters.tcp_out_of_order++;
}

static void early_keep(struct tcp_conn *conn, struct rte_mbuf *mbuf, uint32_t seq)
{
    early_insert(conn, mbuf, seq);
    if (conn->sack) {
        early_note(&conn->received, seq); /* also when it was a duplicate */
    }
}

bool tcp_receive_is_short(const struct stack *stack)
{
    uint32_t max = stack->limits.held_mbuf_max;
    return stack->tcp.held_mbufs - stack->tcp.early_mbufs > max - max / 8;
}

/* Who holds early bytes for longest loses them: it may be that the gap is never filled. */
static bool early_prune(struct stack *stack, const struct tcp_conn *for_conn)
{
    struct tcp_conn *oldest = list_entry(stack->tcp.early.next, struct tcp_conn, early);
    if (list_empty(&stack->tcp.early) || oldest == for_conn) {
        return false;
    }
    stack->counters.tcp_out_of_order_pruned += oldest->received.early_count;
    trace_event(oldest, TRACE_DROP, TRACE_DROP_EARLY);
    early_clear(oldest);
    return true;
}

/* Buffers are bounded for all connections together; early bytes give way first. The one in question
 * is counted already. */
static bool may_hold(struct tcp_conn *conn, bool early)
{
    struct stack *stack = conn->stack;
    uint32_t max = stack->limits.held_mbuf_max;
    if (!early) {
        return stack->tcp.held_mbufs <= max || early_prune(stack, NULL);
    }
    return conn->received.early_count < EARLY_MAX &&
           (stack->tcp.held_mbufs <= max - max / 4 || early_prune(stack, conn));
}

static void refused(struct tcp_conn *conn, bool early)
{
    conn->stack->counters.tcp_out_of_order_lost += early;
    conn->stack->counters.tcp_receive_pruned += !early;
    trace_event(conn, TRACE_DROP, early ? TRACE_DROP_EARLY : TRACE_DROP_NO_BUFFERS);
    conn->ack_now = true; /* its sender needs to know where we are */
    tcp_output_wanted(conn);
}

/* Takes the frame apart into mbufs of one segment each, without headers, `skip` bytes of payload
 * and what lies behind `bytes` of them. */
static void payload_take(struct tcp_conn *conn, struct tcp_segment *segment, uint32_t skip,
                         uint32_t bytes)
{
    struct rte_mbuf *mbuf = segment->frame;
    uint32_t offset = segment->payload_offset + skip, seq = segment->seq + skip;
    segment->frame = NULL;
    while (mbuf != NULL) {
        struct rte_mbuf *next = mbuf->next;
        uint32_t skipped = offset < mbuf->data_len ? offset : mbuf->data_len;
        uint32_t here = mbuf->data_len - skipped;
        here = here < bytes ? here : bytes;
        mbuf->next = NULL;
        mbuf->nb_segs = 1;
        mbuf->data_off = (uint16_t)(mbuf->data_off + skipped);
        mbuf->data_len = (uint16_t)here;
        mbuf->pkt_len = here;
        offset -= skipped;
        bytes -= here;
        conn->stack->tcp.held_mbufs++;
        if (here == 0) {
            mbuf_drop(conn, mbuf);
        } else if (!may_hold(conn, seq != conn->rcv_nxt)) {
            refused(conn, seq != conn->rcv_nxt);
            mbuf_drop(conn, mbuf);
        } else if (seq == conn->rcv_nxt) {
            in_order(conn, mbuf);
        } else {
            early_keep(conn, mbuf, seq + MUTATED(EARLY_ONE_LATE));
        }
        seq += here;
        mbuf = next;
    }
}

/* RFC 5681 §4.2: two full segments, at once while the peer's window is young, or after a while. */
static void acknowledge_later(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    bool full = segment->segment_bytes >= conn->rcv_mss;
    uint32_t waiting = conn->rcv_nxt - conn->last_ack_sent;
    conn->rcv_mss = full ? segment->segment_bytes : conn->rcv_mss;
    if (waiting >= 2u * conn->rcv_mss || (full && conn->quick_acks > 0)) {
        conn->quick_acks -= segment->count < conn->quick_acks ? segment->count : conn->quick_acks;
        conn->ack_now = true;
        tcp_output_wanted(conn);
    } else if (conn->due_ns[TCP_TIMER_ACK] == WHEEL_NEVER) {
        tcp_timer_set(conn, TCP_TIMER_ACK, conn->stack->now_ns + ACK_DELAY_NS);
    }
}

void tcp_receive_payload(struct tcp_conn *conn, struct tcp_segment *segment)
{
    uint32_t before = conn->rcv_nxt, skip = 0, bytes = segment->payload_bytes;
    if (seq_before(segment->seq, conn->rcv_nxt)) {
        skip = conn->rcv_nxt - segment->seq;
        skip = skip < bytes ? skip : bytes;
        tcp_receive_duplicate(conn, segment->seq, segment->seq + skip);
    }
    uint32_t room = conn->rcv_edge - (segment->seq + skip);
    bytes = bytes - skip < room ? bytes - skip : room;
    bool early = segment->seq + skip != conn->rcv_nxt;
    bool gaps = conn->received.early_head != NULL;
    if (bytes == 0) {
        conn->ack_now = true; /* a duplicate or a probe: its sender needs to know where we are */
        tcp_output_wanted(conn);
        return;
    }
    payload_take(conn, segment, skip, bytes);
    early_join(conn);
    if (conn->rcv_nxt != before) {
        tcp_window_payload(conn, segment);
        tcp_event(conn, STREAM_READABLE);
    }
    if (early || gaps || skip > 0) {
        /* RFC 5681 §4.2: at once, when there is a gap or one is filled, or a duplicate to tell. */
        conn->ack_now = true;
        tcp_output_wanted(conn);
        for (unsigned i = 0; i < segment->count && !conn->sack && early; i++) {
            tcp_output_ack(conn); /* without SACK the peer counts them one by one */
        }
    } else {
        acknowledge_later(conn, segment);
    }
}

void tcp_receive_duplicate(struct tcp_conn *conn, uint32_t begin, uint32_t end)
{
    struct tcp_range *told = &conn->received.duplicate;
    if (!conn->sack) {
        return;
    }
    if (told->begin != told->end && told->end == begin) {
        told->end = end;
        return;
    }
    if (told->begin != told->end) {
        tcp_output_ack(conn); /* RFC 2883 §4: each is reported, and only one at a time */
    }
    *told = (struct tcp_range){begin, end};
    conn->ack_now = true;
    tcp_output_wanted(conn);
}

/* How many blocks have grown since this one; TCP_SACKS_MAX: more than are remembered. */
static unsigned block_age(const struct tcp_receive_queue *queue, const struct tcp_range *block)
{
    unsigned age = 0;
    while (age < TCP_SACKS_MAX && !block_holds(block, queue->early_recent[age])) {
        age++;
    }
    return age;
}

size_t tcp_receive_sack(const struct tcp_conn *conn, struct tcp_range *ranges, size_t max)
{
    const struct tcp_receive_queue *queue = &conn->received;
    const struct tcp_range *duplicate = &queue->duplicate;
    unsigned ages[TCP_SACKS_MAX];
    size_t first = duplicate->begin != duplicate->end, count = first;
    struct rte_mbuf *at = queue->early_head;
    ranges[0] = *duplicate;
    while (at != NULL) {
        struct tcp_range block = early_block(&at);
        unsigned age = block_age(queue, &block);
        size_t place = count;
        while (place > first && age < ages[place - 1]) {
            place--;
        }
        if (place == max) {
            continue;
        }
        count += count < max;
        for (size_t i = count - 1; i > place; i--) {
            ranges[i] = ranges[i - 1];
            ages[i] = ages[i - 1];
        }
        ranges[place] = block;
        ages[place] = age;
    }
    return count;
}

size_t tcp_receive_peek(struct tcp_conn *conn, struct slice *slices, size_t count)
{
    size_t filled = 0;
    for (struct rte_mbuf *at = conn->received.head; at != NULL && filled < count; at = at->next) {
        slices[filled++] = slice_of(rte_pktmbuf_mtod(at, const uint8_t *), at->data_len);
    }
    return filled;
}

void tcp_receive_consume(struct tcp_conn *conn, size_t bytes)
{
    struct tcp_receive_queue *queue = &conn->received;
    check(bytes <= queue->bytes);
    if (bytes == 0) {
        return;
    }
    queue->bytes -= (uint32_t)bytes;
    while (bytes > 0) {
        struct rte_mbuf *mbuf = queue->head;
        if (bytes < mbuf->data_len) {
            rte_pktmbuf_adj(mbuf, (uint16_t)bytes);
            break;
        }
        bytes -= mbuf->data_len;
        queue->head = mbuf->next;
        queue->mbuf_count--;
        mbuf_drop(conn, mbuf);
    }
    if (queue->head == NULL) {
        queue->tail = NULL;
    }
    if (!conn->fin_received && conn->state != TCP_CLOSED) {
        tcp_window_consumed(conn);
    }
}

void tcp_receive_clear(struct tcp_conn *conn)
{
    struct tcp_receive_queue *queue = &conn->received;
    early_clear(conn);
    while (queue->head != NULL) {
        struct rte_mbuf *mbuf = queue->head;
        queue->head = mbuf->next;
        mbuf_drop(conn, mbuf);
    }
    *queue = (struct tcp_receive_queue){0};
}

void tcp_receive_acked(struct tcp_conn *conn)
{
    conn->last_ack_sent = conn->rcv_nxt;
    conn->ack_now = false;
    conn->received.duplicate = (struct tcp_range){0, 0};
    tcp_timer_clear(conn, TCP_TIMER_ACK);
}
