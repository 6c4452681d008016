#include "engine/core/mutation.h"
#include "engine/net/stack_private.h"
#include "engine/net/tcp_frame.h"

void tcp_output_wanted(struct tcp_conn *conn)
{
    if (list_empty(&conn->output)) {
        list_append(&conn->stack->tcp.output, &conn->output);
    }
}

/* Where the bytes end that are queued; the FIN's number, when there will be one. */
static uint32_t data_end(const struct tcp_conn *conn)
{
    return conn->snd_una + conn->queue.bytes;
}

static bool fin_pending(const struct tcp_conn *conn)
{
    return conn->fin_wanted && !conn->fin_acked;
}

uint32_t tcp_flight(const struct tcp_conn *conn)
{
    uint32_t flight = conn->snd_nxt - conn->snd_una;
    if (conn->rack != NULL && conn->rack->lost_count > 0) {
        flight -= tcp_rack_lost_bytes(conn->rack, &conn->sacked);
    }
    if (conn->sacked.count == 0) {
        return flight;
    }
    if (conn->rack == NULL && conn->recovery == TCP_FAST_RECOVERY) {
        return tcp_scoreboard_pipe(&conn->sacked, conn->snd_una, conn->snd_max,
                                   conn->retransmitted_to, conn->mss);
    }
    for (unsigned i = 0; i < conn->sacked.count; i++) {
        const struct tcp_range *range = &conn->sacked.ranges[i];
        if (seq_before(range->begin, conn->snd_nxt)) {
            flight -= seq_min(range->end, conn->snd_nxt) - range->begin;
        }
    }
    return flight;
}

static void hand_to_neighbour(struct tcp_conn *conn, struct rte_mbuf *frame)
{
    struct stack *stack = conn->stack;
    if (!ip_address_equal(&conn->neighbour->address, &conn->next_hop)) {
        conn->neighbour = neighbour_of(stack, &conn->next_hop);
    }
    stack->counters.tcp_out_segments++;
    stack->counters.ip_out_requests++;
    neighbour_send(stack, conn->neighbour, frame);
    tcp_receive_acked(conn);
}

static uint32_t segment_max(const struct tcp_conn *conn)
{
    return conn->mss - tcp_frame_options(conn);
}

/* What has left: numbers, times, timers. */
static void departed(struct tcp_conn *conn, const struct tcp_departure *departure)
{
    struct stack *stack = conn->stack;
    uint32_t end = departure->seq + departure->bytes + ((departure->flags & TCP_FIN) != 0);
    bool idle = conn->snd_nxt == conn->snd_una && conn->snd_max == conn->snd_una;
    bool again = seq_before(departure->seq, conn->snd_max);
    if (conn->sack && conn->rack == NULL && conn->recovery == TCP_OPEN &&
        conn->snd_nxt == conn->snd_una) {
        tcp_rack_take(conn);
    }
    if (again) {
        stack->counters.tcp_retransmitted_segments++;
        conn->rtt_timing = false; /* Karn */
    } else if (!conn->rtt_timing) {
        conn->rtt_timing = true;
        conn->rtt_seq = end;
        conn->rtt_start_ns = stack->now_ns;
    }
    if (seq_at_or_before(departure->seq, conn->snd_nxt)) {
        conn->snd_nxt = seq_max(conn->snd_nxt, end);
    }
    conn->snd_max = seq_max(conn->snd_max, end);
    if (!again && departure->bytes % segment_max(conn) != 0) {
        conn->small_end = end;
    }
    conn->fin_sent |= (departure->flags & TCP_FIN) != 0;
    conn->last_sent_ns = stack->now_ns;
    if (idle) {
        conn->unanswered_ns = stack->now_ns;
    }
    tcp_timer_clear(conn, TCP_TIMER_PROBE);
    if (conn->due_ns[TCP_TIMER_RETRANSMIT] == WHEEL_NEVER && !MUTATED(RETRANSMIT_TIMER_LOST)) {
        tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, stack->now_ns + tcp_rto_ns(conn));
    }
    tcp_mtu_sent(conn, departure, again);
    tcp_recovery_sent(conn, (struct tcp_range){departure->seq, end}, again);
    if (!again) {
        tcp_tail_watch(conn);
    }
}

/* Where a frame cannot hold all of them, segments stay full. */
static void whole_segments(struct tcp_departure *departure, uint32_t wanted)
{
    uint32_t size = departure->segment_bytes;
    if (size > 0 && departure->bytes < wanted && departure->bytes > size) {
        departure->bytes -= departure->bytes % size;
    }
    if (departure->bytes <= size) {
        departure->segment_bytes = 0;
    }
}

/* False: no buffers. */
static bool depart(struct tcp_conn *conn, struct tcp_departure *departure)
{
    uint32_t offset = departure->seq - conn->snd_una;
    uint32_t wanted = departure->bytes;
    offset += MUTATED(RESENT_SHIFTED) && seq_before(departure->seq, conn->snd_max);
    if (wanted > 0) {
        departure->bytes = tcp_frame_fit(conn, offset, departure);
        whole_segments(departure, wanted);
    }
    uint32_t end = departure->seq + departure->bytes;
    departure->flags = TCP_ACK;
    if (end == data_end(conn)) {
        departure->flags |= departure->bytes > 0 ? TCP_PSH : 0;
        departure->flags |= fin_pending(conn) ? TCP_FIN : 0;
    }
    tcp_ecn_departs(conn, departure);
    struct rte_mbuf *frame = tcp_frame_build(conn, departure, offset);
    if (frame == NULL) {
        return false;
    }
    conn->cwr &= (departure->flags & TCP_CWR) == 0;
    if (departure->segment_bytes > 0) {
        conn->stack->counters.tcp_out_segments += (departure->bytes - 1) / departure->segment_bytes;
        conn->stack->counters.tcp_out_supers++;
    }
    departed(conn, departure);
    hand_to_neighbour(conn, frame);
    return true;
}

/* A retransmission from `seq` on, at most to the end of its hole. */
static void departure_of_hole(const struct tcp_conn *conn, uint32_t seq,
                              struct tcp_departure *departure)
{
    uint32_t end = tcp_scoreboard_hole_end(&conn->sacked, seq, data_end(conn));
    uint32_t left = seq_before(seq, end) ? end - seq : 0;
    uint32_t max = segment_max(conn);
    *departure = (struct tcp_departure){.seq = seq, .bytes = left < max ? left : max};
}

/* RFC 9293 §3.7.4, as Minshall has changed it: one segment that is not full may be under way, so that
 * a long write does not wait for the peer's delayed acknowledgement with its last. */
static bool nagle_waits(const struct tcp_conn *conn, const struct tcp_departure *departure)
{
    return conn->stack->limits.nagle && departure->bytes < segment_max(conn) &&
           !fin_pending(conn) && seq_before(conn->snd_una, conn->small_end) &&
           seq_at_or_before(conn->small_end, conn->snd_nxt);
}

/* As many full segments as may leave at once, for a port that cuts them itself; with the end of all
 * that is queued, when it fits. */
static void enlarge(const struct tcp_conn *conn, struct tcp_departure *departure, uint32_t usable)
{
    uint32_t size = segment_max(conn), most = tcp_frame_super(conn);
    uint32_t left = data_end(conn) - departure->seq;
    most = most < usable ? most : usable;
    if (size == 0 || departure->bytes < size || most < 2 * size) {
        return;
    }
    bool all = left <= most && !conn->stack->limits.nagle;
    uint32_t bytes = left < most ? left : most;
    departure->bytes = all ? bytes : bytes - bytes % size;
    departure->segment_bytes = departure->bytes > size ? (uint16_t)size : 0;
}

/* Bytes that the windows let go now from snd_nxt on; *limited: the congestion window said no. */
static bool departure_of_next(struct tcp_conn *conn, struct tcp_departure *departure)
{
    uint32_t seq = conn->snd_nxt;
    if (seq_before(seq,
                   conn->snd_max)) { /* again, after a timeout: what the peer holds is left out */
        seq = tcp_scoreboard_hole(&conn->sacked, seq);
        conn->snd_nxt = seq;
    }
    uint32_t end = data_end(conn), window_end = conn->snd_una + conn->snd_wnd;
    if (seq_before(end, seq) || (seq == end && !fin_pending(conn))) {
        return false;
    }
    departure_of_hole(conn, seq, departure);
    uint32_t probe = tcp_mtu_probe(conn);
    departure->bytes = probe > 0 ? probe : departure->bytes;
    uint32_t usable = seq_before(seq, window_end) ? window_end - seq : 0;
    if (departure->bytes > usable && !MUTATED(WINDOW_IGNORED)) {
        /* RFC 9293 §3.8.6.2.1: no crumbs, unless they are half of what there ever was. */
        if (usable == 0 || usable < conn->snd_wnd_max / 2) {
            return false;
        }
        departure->bytes = usable;
    }
    if (nagle_waits(conn, departure)) {
        return false;
    }
    uint32_t flight = tcp_flight(conn), cwnd = conn->congestion.cwnd;
    if (conn->recovery == TCP_OPEN && !conn->sack) { /* RFC 3042 */
        cwnd += (conn->duplicate_acks < 2 ? conn->duplicate_acks : 2u) * conn->mss;
    }
    if (flight > 0 && flight + departure->bytes > cwnd && !MUTATED(CWND_IGNORED)) {
        conn->window_limited = true;
        return false;
    }
    if (probe == 0 && seq == conn->snd_max) {
        usable = usable < cwnd - flight ? usable : cwnd - flight;
        enlarge(conn, departure, usable);
    }
    return true;
}

/* NextSeg of RFC 6675 §4, in its order of preference. */
static bool departure_of_recovery(struct tcp_conn *conn, struct tcp_departure *departure)
{
    uint32_t from = seq_max(conn->retransmitted_to, conn->snd_una);
    uint32_t hole = tcp_scoreboard_hole(&conn->sacked, from);
    uint32_t highest =
        conn->sacked.count == 0 ? conn->snd_una : conn->sacked.ranges[conn->sacked.count - 1].begin;
    uint32_t lost_before = tcp_scoreboard_lost_before(&conn->sacked, conn->snd_una, conn->mss);
    if (tcp_flight(conn) + conn->mss > conn->congestion.cwnd) {
        return false;
    }
    if (seq_before(hole, lost_before)) {
        departure_of_hole(conn, hole, departure);
        return true;
    }
    if (departure_of_next(conn, departure)) {
        return true;
    }
    if (seq_before(hole, highest)) {
        departure_of_hole(conn, hole, departure);
        return true;
    }
    /* Only what was sent before: the hole may lie behind all of it, where the window has its say. */
    if (seq_before(conn->rescued_to, conn->snd_una) && conn->queue.bytes > 0 &&
        seq_before(from, conn->recover) && seq_before(hole, conn->snd_max)) {
        uint32_t sent = conn->snd_max - hole;
        conn->rescued_to = conn->recover;
        departure_of_hole(conn, hole, departure);
        departure->bytes = departure->bytes < sent ? departure->bytes : sent;
        return departure->bytes > 0;
    }
    return false;
}

/* RFC 5682 §3.1 step 2b: new segments, before what may be lost. */
static bool departure_of_frto(struct tcp_conn *conn, struct tcp_departure *departure)
{
    if (conn->rack->frto != TCP_FRTO_NEW) {
        return false;
    }
    if (!departure_of_next(conn, departure)) {
        tcp_frto_nothing_new(conn->rack);
        return false;
    }
    uint32_t max = segment_max(conn); /* one by one: there may be two */
    departure->bytes = departure->bytes < max ? departure->bytes : max;
    departure->segment_bytes = 0;
    return true;
}

/* What has its time behind it, as soon as the congestion window has room. */
static bool departure_of_lost(struct tcp_conn *conn, struct tcp_departure *departure)
{
    struct tcp_range lost;
    if (!tcp_rack_first_lost(conn->rack, &conn->sacked, &lost)) {
        return departure_of_next(conn, departure);
    }
    uint32_t max = segment_max(conn), end = seq_min(lost.end, data_end(conn));
    uint32_t left = seq_before(lost.begin, end) ? end - lost.begin : 0;
    *departure = (struct tcp_departure){.seq = lost.begin, .bytes = left < max ? left : max};
    uint32_t flight = tcp_flight(conn);
    if (flight > 0 && flight + departure->bytes > conn->congestion.cwnd) {
        conn->window_limited = true;
        return false;
    }
    return true;
}

static bool next_departure(struct tcp_conn *conn, struct tcp_departure *departure)
{
    if (conn->fin_acked) {
        return false;
    }
    if (conn->retransmit_head && conn->snd_max != conn->snd_una) {
        uint32_t sent = conn->snd_max - conn->snd_una;
        uint32_t most = sent > conn->snd_wnd ? sent : conn->snd_wnd;
        departure_of_hole(conn, conn->snd_una, departure);
        departure->bytes = departure->bytes < most ? departure->bytes : most;
        tcp_timer_clear(conn, TCP_TIMER_RETRANSMIT); /* starts anew as it leaves */
        return true;
    }
    conn->retransmit_head = false;
    if (conn->rack != NULL && conn->rack->frto != TCP_FRTO_NONE) {
        if (departure_of_frto(conn, departure)) {
            return true;
        }
        if (conn->rack->frto != TCP_FRTO_NONE) {
            return false; /* until the next acknowledgement */
        }
    }
    if (conn->rack != NULL && conn->rack->lost_count > 0) {
        return departure_of_lost(conn, departure);
    }
    if (conn->rack == NULL && conn->recovery == TCP_FAST_RECOVERY && conn->sack) {
        return departure_of_recovery(conn, departure);
    }
    return departure_of_next(conn, departure);
}

/* Something waits, nothing is under way, and the window does not let it go. */
static void probe_start(struct tcp_conn *conn)
{
    if (conn->queue.bytes > 0 && conn->snd_nxt == conn->snd_una &&
        !MUTATED(WINDOW_PROBE_FORGOTTEN) && conn->due_ns[TCP_TIMER_RETRANSMIT] == WHEEL_NEVER &&
        conn->due_ns[TCP_TIMER_PROBE] == WHEEL_NEVER) {
        conn->backoff = 0;
        conn->unanswered_ns = conn->stack->now_ns;
        tcp_timer_set(conn, TCP_TIMER_PROBE, conn->stack->now_ns + tcp_rto_ns(conn));
    }
}

static void send_all(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    struct tcp_departure departure;
    if (conn->snd_nxt == conn->snd_una && conn->queue.bytes > 0 &&
        stack->now_ns - conn->last_sent_ns > conn->rto_ms * MS_NS) {
        tcp_congestion_restart(&conn->congestion);
    }
    conn->window_limited = false;
    while (next_departure(conn, &departure)) {
        bool room = eth_has_room(stack), again = seq_before(departure.seq, conn->snd_max);
        if (!room || !depart(conn, &departure)) {
            tcp_output_wanted(conn); /* the next flush goes on */
            return;
        }
        conn->retransmit_head = false;
        if (conn->recovery == TCP_FAST_RECOVERY && again) {
            conn->retransmitted_to =
                seq_max(conn->retransmitted_to, departure.seq + departure.bytes);
        }
    }
    probe_start(conn);
}

void tcp_output(struct tcp_conn *conn)
{
    switch ((enum tcp_state)conn->state) {
    case TCP_CLOSED:
    case TCP_SYN_SENT:
    case TCP_SYN_RECEIVED:
        return;
    case TCP_ESTABLISHED:
    case TCP_FIN_WAIT_1:
    case TCP_FIN_WAIT_2:
    case TCP_CLOSE_WAIT:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        break;
    }
    send_all(conn);
    if (conn->ack_now) {
        tcp_output_ack(conn);
    }
}

bool tcp_output_tail(struct tcp_conn *conn)
{
    uint32_t data = conn->queue.bytes, max = segment_max(conn);
    uint32_t sent = conn->snd_nxt - conn->snd_una;
    struct tcp_departure departure = {.seq = conn->snd_nxt};
    if (!eth_has_room(conn->stack) || conn->fin_acked) {
        return false;
    }
    if (sent < data && sent < conn->snd_wnd) {
        uint32_t left = data - sent, usable = conn->snd_wnd - sent;
        departure.bytes = left < max ? left : max;
        departure.bytes = departure.bytes < usable ? departure.bytes : usable;
    } else {
        uint32_t end = sent < data ? sent : data; /* without the FIN, which goes with it */
        departure.bytes = end < max ? end : max;
        departure.seq = conn->snd_una + end - departure.bytes;
    }
    return depart(conn, &departure);
}

static void send_empty(struct tcp_conn *conn, uint32_t seq)
{
    const struct tcp_departure departure = {.seq = seq, .flags = TCP_ACK};
    struct rte_mbuf *frame = tcp_frame_build(conn, &departure, 0);
    if (frame != NULL) {
        hand_to_neighbour(conn, frame);
    }
}

/* The number of an empty segment: the newest that the peer's window still holds, also while
 * snd_nxt is back after a timeout; an older one would be refused, and its acknowledgement lost. */
static uint32_t empty_seq(const struct tcp_conn *conn)
{
    return seq_min(conn->snd_max, conn->snd_una + conn->snd_wnd);
}

void tcp_output_ack(struct tcp_conn *conn)
{
    send_empty(conn, empty_seq(conn));
}

void tcp_output_keepalive(struct tcp_conn *conn)
{
    conn->stack->counters.tcp_keepalives++;
    send_empty(conn, conn->snd_una - 1);
}

/* What the window lets go, though it is little, or else one byte that it does not. */
void tcp_output_probe(struct tcp_conn *conn)
{
    struct tcp_departure departure = {.seq = conn->snd_una, .bytes = 1, .flags = TCP_ACK | TCP_PSH};
    conn->stack->counters.tcp_zero_window_probes++;
    if (conn->snd_wnd > 0) {
        uint32_t usable = conn->snd_wnd < conn->queue.bytes ? conn->snd_wnd : conn->queue.bytes;
        departure.bytes = usable < segment_max(conn) ? usable : segment_max(conn);
        depart(conn, &departure);
        return;
    }
    struct rte_mbuf *frame = tcp_frame_build(conn, &departure, 0);
    if (frame == NULL) {
        return;
    }
    conn->rtt_timing = false;
    conn->snd_max = seq_max(conn->snd_max, conn->snd_una + 1);
    conn->last_sent_ns = conn->stack->now_ns;
    hand_to_neighbour(conn, frame);
}

void tcp_output_syn(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    bool answer = conn->state == TCP_SYN_RECEIVED;
    struct tcp_reply reply = {.seq = conn->iss, .flags = TCP_SYN, .window = tcp_window_syn(stack)};
    const uint32_t stamps[2] = {tcp_timestamp_now(stack, conn->ts_offset),
                                answer ? conn->ts_recent : 0};
    if (answer) {
        reply.ack = conn->rcv_nxt;
        reply.flags |= TCP_ACK;
    }
    reply.flags |= tcp_ecn_syn_flags(conn);
    bool scaled = !answer || conn->rcv_scale > 0;
    reply.options_bytes = (uint8_t)tcp_options_write_syn(
        reply.options, tcp_mss_of_link(stack, &conn->tuple.remote),
        scaled ? stack->tcp.rcv_scale : TCP_SCALE_NONE, !answer || conn->sack,
        !answer || conn->timestamps ? stamps : NULL);
    if (conn->backoff == 0 && !answer) {
        conn->rtt_timing = true;
        conn->rtt_seq = conn->iss + 1;
        conn->rtt_start_ns = stack->now_ns;
        conn->unanswered_ns = stack->now_ns;
    } else {
        conn->rtt_timing = false;
        stack->counters.tcp_retransmitted_segments += conn->backoff > 0;
    }
    trace_segment_out(conn, &(struct tcp_departure){.seq = conn->iss, .flags = reply.flags});
    tcp_reply(stack, &conn->tuple, &reply);
    tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, stack->now_ns + tcp_rto_ns(conn));
}

void tcp_output_reset(struct tcp_conn *conn)
{
    struct tcp_reply reply = {
        .seq = empty_seq(conn), .ack = conn->rcv_nxt, .flags = TCP_RST | TCP_ACK};
    if (conn->timestamps) { /* RFC 7323 §3.2 */
        reply.options_bytes = (uint8_t)tcp_options_write_timestamp(
            reply.options, tcp_timestamp_now(conn->stack, conn->ts_offset), conn->ts_recent);
    }
    conn->stack->counters.tcp_out_resets++;
    trace_event(conn, TRACE_RESET_OUT, reply.seq - conn->iss);
    tcp_reply(conn->stack, &conn->tuple, &reply);
}
