#include "engine/core/mutation.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"

#define CHALLENGE_EVERY_NS (200 * MS_NS)
#define CHALLENGES_A_SECOND 1000u                   /* in the mean */
#define TS_RECENT_VALID_MS (24u * 24 * 3600 * 1000) /* RFC 7323 §5.5 */

static bool checksum_right(const struct rte_mbuf *frame, const struct tcp_tuple *tuple,
                           uint32_t tcp_offset, uint32_t tcp_bytes)
{
    switch (frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
    case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
    case RTE_MBUF_F_RX_L4_CKSUM_NONE: /* never finished, from this very host: the data are right */
        return true;
    case RTE_MBUF_F_RX_L4_CKSUM_BAD:
        return false;
    default:
        break;
    }
    uint64_t sum = ip_pseudo_sum(&tuple->remote, &tuple->local, IPPROTO_TCP, tcp_bytes);
    return checksum_finish(checksum_add_frame(sum, frame, tcp_offset, tcp_bytes)) == 0 ||
           MUTATED(CHECKSUM_UNCHECKED);
}

/* The packet's IP header has been looked at; of IPv6 there are no extension headers any more.
 * Returns its length. */
static uint32_t ip_header_read(const struct rte_mbuf *frame, uint16_t ip_offset,
                               struct tcp_tuple *tuple, uint8_t *ecn)
{
    const uint8_t *at = rte_pktmbuf_mtod_offset(frame, const uint8_t *, ip_offset);
    if (at[0] >> 4 == 4) {
        const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)at;
        tuple->local = ip_address_of_ipv4(ip->dst_addr);
        tuple->remote = ip_address_of_ipv4(ip->src_addr);
        *ecn = ip->type_of_service & 3u;
        return (ip->version_ihl & 15u) * 4u;
    }
    const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)at;
    tuple->local = ip_address_of_ipv6(ip->dst_addr);
    tuple->remote = ip_address_of_ipv6(ip->src_addr);
    *ecn = ntohl(ip->vtc_flow) >> 20 & 3u;
    return IPV6_BYTES;
}

/* A port that coalesces (LRO) says what each had, or at least that no link takes more. */
static void segments_count(const struct stack *stack, struct tcp_segment *segment)
{
    const struct rte_mbuf *frame = segment->frame;
    uint32_t largest = stack->mtu - IPV4_BYTES - TCP_HEADER_BYTES;
    segment->count = 1;
    if (segment->payload_bytes <= largest) {
        segment->segment_bytes = (uint16_t)segment->payload_bytes;
        return;
    }
    if ((frame->ol_flags & RTE_MBUF_F_RX_LRO) != 0 && frame->tso_segsz != 0) {
        largest = frame->tso_segsz < largest ? frame->tso_segsz : largest;
    }
    segment->segment_bytes = (uint16_t)largest;
    segment->count = (uint16_t)((segment->payload_bytes + largest - 1) / largest);
}

bool tcp_segment_read(struct stack *stack, struct tcp_segment *segment, struct rte_mbuf *frame,
                      uint16_t ip_offset)
{
    struct tcp_tuple tuple;
    uint8_t ecn;
    uint32_t offset = ip_offset + ip_header_read(frame, ip_offset, &tuple, &ecn);
    uint32_t bytes = frame->pkt_len - offset;
    const struct rte_tcp_hdr *tcp =
        rte_pktmbuf_mtod_offset(frame, const struct rte_tcp_hdr *, offset);
    uint32_t header_bytes =
        frame->data_len >= offset + TCP_HEADER_BYTES ? tcp->data_off / 16u * 4u : 0;
    if (header_bytes < TCP_HEADER_BYTES || header_bytes > bytes ||
        frame->data_len < offset + header_bytes || !checksum_right(frame, &tuple, offset, bytes) ||
        tcp->src_port == 0 || tcp->dst_port == 0) {
        stack->counters.tcp_in_errors++;
        return false;
    }
    tuple.local_port = ntohs(tcp->dst_port);
    tuple.remote_port = ntohs(tcp->src_port);
    *segment = (struct tcp_segment){
        .frame = frame,
        .tuple = tuple,
        .seq = ntohl(tcp->sent_seq),
        .ack = ntohl(tcp->recv_ack),
        .payload_bytes = bytes - header_bytes,
        .payload_offset = (uint16_t)(offset + header_bytes),
        .window = ntohs(tcp->rx_win),
        .flags =
            tcp->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK | TCP_ECE | TCP_CWR),
        .ecn = ecn,
        .window_scale = TCP_SCALE_NONE,
    };
    segment->hash = tcp_table_hash(&stack->tcp.table, &segment->tuple);
    segments_count(stack, segment);
    if (header_bytes > TCP_HEADER_BYTES &&
        !tcp_options_read(segment, (const uint8_t *)(tcp + 1), header_bytes - TCP_HEADER_BYTES)) {
        stack->counters.tcp_in_errors++;
        return false;
    }
    return true;
}

/* A bound for all connections together keeps us from being used to flood others. One that is known
 * tells an off-path attacker by its exhaustion whether a guess was right (CVE-2016-5696), so each
 * second has another. */
bool tcp_challenge_allowed(struct stack *stack)
{
    struct tcp *tcp = &stack->tcp;
    if (tcp->challenge_since_ns == 0 || stack->now_ns - tcp->challenge_since_ns >= SECOND_NS) {
        uint32_t random;
        world_random(stack->world, &random, sizeof(random));
        tcp->challenge_since_ns = stack->now_ns;
        tcp->challenge_budget = CHALLENGES_A_SECOND / 2 + random % CHALLENGES_A_SECOND;
    }
    if (tcp->challenge_budget == 0) {
        stack->counters.tcp_acks_rate_limited++;
        return false;
    }
    tcp->challenge_budget--;
    return true;
}

/* Bounded for each connection, or two ends could answer each other for ever. */
static void answer(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    if (conn->challenge_ns != 0 && stack->now_ns - conn->challenge_ns < CHALLENGE_EVERY_NS) {
        stack->counters.tcp_acks_rate_limited++;
        return;
    }
    conn->challenge_ns = stack->now_ns;
    stack->counters.tcp_challenge_acks++;
    tcp_output_ack(conn);
}

void tcp_challenge(struct tcp_conn *conn)
{
    if (tcp_challenge_allowed(conn->stack)) {
        answer(conn);
    }
}

/* What is left of a segment when its SYN has been dealt with. */
static void syn_strip(struct tcp_segment *segment)
{
    segment->seq++;
    segment->flags &= (uint8_t) ~(TCP_SYN | TCP_ECE | TCP_CWR); /* which mean other things in it */
    segment->window_plain = true;
}

/* RFC 9293 §3.10.7.3. False: the segment is done with. */
static bool syn_sent_segment(struct tcp_conn *conn, struct tcp_segment *segment)
{
    struct stack *stack = conn->stack;
    bool ack = (segment->flags & TCP_ACK) != 0;
    if (ack && segment->ack != conn->iss + 1) {
        tcp_reply_reset(stack, segment);
        return false;
    }
    if ((segment->flags & TCP_RST) != 0) {
        if (ack) {
            stack->counters.tcp_attempt_fails++;
            tcp_conn_end(conn, -ECONNREFUSED);
        }
        return false;
    }
    if ((segment->flags & TCP_SYN) == 0) {
        return false;
    }
    struct tcp_agreed agreed = {.mss = segment->mss,
                                .window_scale = segment->window_scale,
                                .timestamps = segment->has_timestamp,
                                .sack = segment->sack_permitted};
    tcp_ecn_syn_answered(conn, segment, &agreed);
    conn->irs = segment->seq;
    conn->rcv_nxt = segment->seq + 1;
    conn->rcv_edge = conn->rcv_nxt + tcp_window_syn(stack);
    conn->last_ack_sent = conn->rcv_nxt;
    conn->ts_recent = segment->ts_value;
    conn->ts_recent_ms = stack_now_ms(stack);
    tcp_conn_agree(conn, &agreed);
    conn->snd_wnd = segment->window; /* never scaled in a SYN */
    conn->snd_wnd_max = segment->window;
    conn->snd_wl1 = segment->seq;
    conn->snd_wl2 = segment->ack;
    conn->rto_ms = ack && conn->backoff > 0 ? TCP_RTO_LOST_SYN_MS : conn->rto_ms;
    conn->backoff = 0;
    if (!ack) {
        conn->state = TCP_SYN_RECEIVED;
        tcp_output_syn(conn);
        return false;
    }
    if (conn->rtt_timing) {
        conn->rtt_timing = false;
        tcp_rtt_sample(conn, stack->now_ns - conn->rtt_start_ns);
    }
    conn->snd_una = segment->ack;
    conn->snd_nxt = segment->ack;
    tcp_timer_clear(conn, TCP_TIMER_RETRANSMIT);
    tcp_conn_established(conn);
    tcp_event(conn, STREAM_CONNECTED);
    conn->ack_now = true;
    tcp_output_wanted(conn);
    syn_strip(segment);
    return true;
}

static bool ts_recent_valid(const struct tcp_conn *conn)
{
    return stack_now_ms(conn->stack) - conn->ts_recent_ms < TS_RECENT_VALID_MS;
}

/* Bytes that we have had before. */
static void duplicate_told(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    uint32_t end = segment->seq + segment->payload_bytes;
    if (segment->payload_bytes > 0 && seq_before(segment->seq, conn->rcv_nxt)) {
        tcp_receive_duplicate(conn, segment->seq, seq_min(end, conn->rcv_nxt));
    }
}

/* RFC 7323 §5.3 R1. False: an old duplicate, or one without the option that both have agreed on. */
static bool timestamp_right(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    struct stack *stack = conn->stack;
    if (!conn->timestamps || (segment->flags & TCP_RST) != 0) {
        return true;
    }
    if (!segment->has_timestamp) {
        trace_event(conn, TRACE_DROP, TRACE_DROP_PAWS);
        stack->counters.tcp_paws_refused++;
        return false;
    }
    if (seq_before(segment->ts_value, conn->ts_recent) && ts_recent_valid(conn)) {
        trace_event(conn, TRACE_DROP, TRACE_DROP_PAWS);
        stack->counters.tcp_paws_refused++;
        if (segment->payload_bytes > 0) {
            duplicate_told(conn, segment);
            conn->ack_now = true; /* its sender may have lost the acknowledgement */
            tcp_output_wanted(conn);
        } else {
            answer(conn);
        }
        return false;
    }
    return true;
}

/* RFC 9293 §3.10.7.4, first check. An empty segment that was overtaken by its successors is let
 * pass as long as it is newer than our last acknowledgement. */
static bool sequence_right(const struct tcp_conn *conn, const struct tcp_segment *segment)
{
    uint32_t length = tcp_segment_length(segment);
    uint32_t window = conn->rcv_edge - conn->rcv_nxt;
    if (length == 0) {
        return seq_at_or_before(conn->last_ack_sent, segment->seq) &&
               seq_at_or_before(segment->seq, conn->rcv_edge);
    }
    if (window == 0) {
        return segment->seq == conn->rcv_nxt; /* a probe: its acknowledgement counts */
    }
    return seq_before(segment->seq, conn->rcv_edge) &&
           seq_before(conn->rcv_nxt, segment->seq + length);
}

static void sequence_wrong(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    conn->stack->counters.tcp_out_of_window++;
    trace_event(conn, TRACE_DROP, TRACE_DROP_WINDOW);
    if ((segment->flags & TCP_RST) != 0) {
        return;
    }
    if (tcp_segment_length(segment) > 0) {
        duplicate_told(conn, segment);
        conn->ack_now = true;
        tcp_output_wanted(conn);
    } else {
        answer(conn); /* keepalives and probes: whatever is said to others, or they would give up */
    }
}

/* RFC 5961 §3.2: only the exact number resets. */
static void reset_arrives(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    if (segment->seq != conn->rcv_nxt) {
        trace_event(conn, TRACE_DROP, TRACE_DROP_RESET);
        tcp_challenge(conn);
        return;
    }
    if (conn->state == TCP_SYN_RECEIVED) {
        conn->stack->counters.tcp_attempt_fails++;
        tcp_conn_end(conn, -ECONNREFUSED);
        return;
    }
    conn->stack->counters.tcp_established_resets++;
    /* After both ends are done a reset takes nothing away, unless bytes of ours are on the way. */
    bool both_done = conn->state == TCP_LAST_ACK || conn->state == TCP_CLOSING;
    tcp_conn_end(conn, both_done && conn->queue.bytes == 0 ? 0 : -ECONNRESET);
}

static void time_wait(struct tcp_conn *conn)
{
    if (conn->ack_now) { /* of the peer's FIN; an acknowledgement alone is not answered */
        tcp_output_ack(conn);
    }
    if (!MUTATED(TIME_WAIT_SKIPPED)) {
        tcp_time_wait_enter(conn);
    }
    tcp_conn_end(conn, 0);
}

static void fin_arrives(struct tcp_conn *conn)
{
    conn->fin_early = false;
    conn->fin_received = true;
    conn->rcv_nxt++;
    conn->rcv_edge = seq_max(conn->rcv_edge, conn->rcv_nxt);
    conn->ack_now = true;
    tcp_output_wanted(conn);
    tcp_event(conn, STREAM_HALF_CLOSED);
    switch ((enum tcp_state)conn->state) {
    case TCP_ESTABLISHED:
        conn->state = TCP_CLOSE_WAIT;
        break;
    case TCP_FIN_WAIT_1:
        conn->state = MUTATED(CLOSING_IS_LAST_ACK) ? TCP_LAST_ACK : TCP_CLOSING;
        break;
    case TCP_FIN_WAIT_2:
        time_wait(conn);
        break;
    case TCP_CLOSED:
    case TCP_SYN_SENT:
    case TCP_SYN_RECEIVED:
    case TCP_CLOSE_WAIT:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        break;
    }
}

/* Our FIN is acknowledged. */
static void fin_acked(struct tcp_conn *conn)
{
    switch ((enum tcp_state)conn->state) {
    case TCP_FIN_WAIT_1:
        conn->state = TCP_FIN_WAIT_2;
        if (conn->released) { /* else the session reads on, for as long as the peer sends */
            tcp_timer_fin_wait_2(conn);
        }
        break;
    case TCP_CLOSING:
        time_wait(conn);
        break;
    case TCP_LAST_ACK:
        tcp_conn_end(conn, 0);
        break;
    case TCP_CLOSED:
    case TCP_SYN_SENT:
    case TCP_SYN_RECEIVED:
    case TCP_ESTABLISHED:
    case TCP_FIN_WAIT_2:
    case TCP_CLOSE_WAIT:
        break;
    }
}

static void timestamp_keep(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    if (segment->has_timestamp && seq_at_or_before(segment->seq, conn->last_ack_sent) &&
        (!seq_before(segment->ts_value, conn->ts_recent) || !ts_recent_valid(conn))) {
        conn->ts_recent = segment->ts_value;
        conn->ts_recent_ms = stack_now_ms(conn->stack);
    }
}

/* The ACK that ends a simultaneous open. False: the segment is done with. */
static bool syn_received_ack(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    if (segment->ack != conn->iss + 1) {
        tcp_reply_reset(conn->stack, segment);
        return false;
    }
    conn->snd_una = segment->ack;
    conn->snd_nxt = segment->ack;
    tcp_timer_clear(conn, TCP_TIMER_RETRANSMIT);
    tcp_conn_established(conn);
    tcp_event(conn, STREAM_CONNECTED);
    return true;
}

/* Payload after the session has gone: RFC 1122 §4.2.2.13 wants it known. An empty segment beyond what
 * has come may have overtaken the FIN. */
static bool nobody_reads(const struct tcp_conn *conn, const struct tcp_segment *segment)
{
    return conn->released && conn->fin_acked && segment->payload_bytes > 0 &&
           seq_before(conn->rcv_nxt, segment->seq + segment->payload_bytes);
}

static void payload_arrives(struct tcp_conn *conn, struct tcp_segment *segment)
{
    uint32_t end = segment->seq + segment->payload_bytes;
    bool fin = (segment->flags & TCP_FIN) != 0;
    if (conn->fin_received) {
        return;
    }
    if (segment->payload_bytes > 0) {
        tcp_ecn_payload(conn, segment);
        tcp_receive_payload(conn, segment);
    }
    if (fin && !seq_before(end, conn->rcv_nxt) && seq_at_or_before(end, conn->rcv_edge)) {
        conn->fin_early = true;
        conn->fin_seq = end;
        conn->ack_now = true; /* in order or not: RFC 5681 §4.2 */
        tcp_output_wanted(conn);
    }
    if (conn->fin_early && (conn->rcv_nxt == conn->fin_seq || MUTATED(FIN_BEFORE_BYTES))) {
        fin_arrives(conn);
    }
}

static void synchronized_segment(struct tcp_conn *conn, struct tcp_segment *segment)
{
    /* RFC 5961 §4: whatever its number, and whatever its options, for a peer that has forgotten the
     * connection knows of no timestamps either. */
    if ((segment->flags & (TCP_SYN | TCP_RST)) == TCP_SYN) {
        trace_event(conn, TRACE_DROP, TRACE_DROP_SYN);
        tcp_challenge(conn);
        return;
    }
    if (!timestamp_right(conn, segment)) {
        return;
    }
    if (!sequence_right(conn, segment)) {
        sequence_wrong(conn, segment);
        return;
    }
    conn->last_heard_ns = conn->stack->now_ns;
    if ((segment->flags & TCP_RST) != 0) {
        reset_arrives(conn, segment);
        return;
    }
    if ((segment->flags & TCP_ACK) == 0) {
        return;
    }
    if (conn->state == TCP_SYN_RECEIVED && !syn_received_ack(conn, segment)) {
        return;
    }
    bool was_acked = conn->fin_acked;
    if (!tcp_ack_arrives(conn, segment)) {
        return;
    }
    /* Not before: one from elsewhere could make all others look old. */
    timestamp_keep(conn, segment);
    if (conn->fin_acked && !was_acked) {
        fin_acked(conn);
    }
    if (conn->state == TCP_CLOSED) {
        return;
    }
    if (nobody_reads(conn, segment)) {
        tcp_conn_abort(conn, -ECONNRESET);
        return;
    }
    payload_arrives(conn, segment);
}

void tcp_conn_segment(struct tcp_conn *conn, struct tcp_segment *segment)
{
    trace_segment_in(conn, segment);
    if (conn->state == TCP_SYN_SENT) {
        if (!syn_sent_segment(conn, segment)) {
            return;
        }
    } else if (conn->state == TCP_SYN_RECEIVED && (segment->flags & TCP_SYN) != 0 &&
               segment->seq == conn->irs) {
        /* Both opened at once: the peer's SYN comes again with its ACK. */
        syn_strip(segment);
        conn->ack_now = true;
        tcp_output_wanted(conn);
    }
    synchronized_segment(conn, segment);
}

/* While cookies are about, data for a listener may be those of a client whose first segments, which
 * bring the cookie back, were lost: they will come again, unless it is reset now. */
void tcp_refuse(struct stack *stack, struct tcp_segment *segment)
{
    bool data = (segment->flags & (TCP_SYN | TCP_ACK)) == TCP_ACK && segment->payload_bytes > 0;
    bool listens = tcp_listener_find(stack, &segment->tuple) != NULL;
    if (!listens && exception_give(stack, segment->frame)) {
        segment->frame = NULL;
        return;
    }
    if (data && listens && tcp_cookies_are_about(stack)) {
        stack->counters.tcp_data_before_cookie++;
        return;
    }
    tcp_reply_reset(stack, segment);
}

/* A segment that no connection claims. */
static void unknown_segment(struct stack *stack, struct tcp_segment *segment)
{
    uint8_t kind = segment->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
    struct tcp_listener *listener = tcp_listener_find(stack, &segment->tuple);
    if ((kind & TCP_RST) != 0 && (listener != NULL || stack->exception.port == NULL)) {
        return;
    }
    if (kind == TCP_SYN && listener != NULL) {
        tcp_half_open_syn(stack, segment);
        return;
    }
    /* The answer to a cookie may bring all that the client has to say, its FIN too. */
    if ((kind & (TCP_SYN | TCP_ACK)) == TCP_ACK && listener != NULL) {
        struct tcp_conn *conn = tcp_cookie_arrives(stack, segment);
        if (conn != NULL) {
            tcp_conn_segment(conn, segment);
            return;
        }
    }
    if (kind != TCP_SYN && tcp_elsewhere(stack, segment)) {
        segment->frame = NULL;
        return;
    }
    tcp_refuse(stack, segment);
}

void tcp_input(struct stack *stack, struct tcp_segment *segment)
{
    stack->counters.tcp_in_segments += segment->count;
    struct tcp_found found = tcp_table_find(&stack->tcp.table, &segment->tuple, segment->hash);
    struct tcp_conn *conn;
    switch (found.kind) {
    case TCP_CONN:
        tcp_conn_segment(slab_at(&stack->tcp.conns, found.index), segment);
        break;
    case TCP_HALF_OPEN:
        conn = tcp_half_open_segment(stack, found.index, segment);
        if (conn != NULL) {
            tcp_conn_segment(conn, segment);
        }
        break;
    case TCP_TIME_WAITING:
        if (tcp_time_wait_segment(stack, found.index, segment) == TCP_TIME_WAIT_NEW_SYN) {
            segment->reuses = true;
            segment->reused_snd_nxt = tcp_time_wait_forget(stack, found.index);
            unknown_segment(stack, segment);
        }
        break;
    case TCP_NOTHING:
        unknown_segment(stack, segment);
        break;
    }
    rte_pktmbuf_free(segment->frame);
}

bool tcp_knows(struct stack *stack, const struct tcp_segment *segment)
{
    return tcp_table_find(&stack->tcp.table, &segment->tuple, segment->hash).kind != TCP_NOTHING;
}

/* RFC 5927: only what quotes a segment that is under way is listened to, and an established
 * connection is never ended by it. */
void tcp_input_unreachable(struct stack *stack, const struct tcp_tuple *tuple, uint32_t seq,
                           int error, uint16_t mtu)
{
    struct tcp_found found =
        tcp_table_find(&stack->tcp.table, tuple, tcp_table_hash(&stack->tcp.table, tuple));
    struct tcp_conn *conn = found.kind == TCP_CONN ? slab_at(&stack->tcp.conns, found.index) : NULL;
    if (conn == NULL || seq_before(seq, conn->snd_una) || !seq_before(seq, conn->snd_max)) {
        stack->counters.icmp_in_errors++;
        return;
    }
    if (error == -EMSGSIZE) {
        if (conn->mss > 0) { /* agreed on */
            tcp_mtu_told(conn, mtu);
        }
    } else if (conn->state == TCP_SYN_SENT) {
        stack->counters.tcp_attempt_fails++;
        tcp_conn_end(conn, error);
    } else {
        conn->stream.error = error; /* told only if it comes to an end by itself */
    }
}
