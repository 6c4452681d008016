#include "engine/net/stack_private.h"

#define RTO_MIN_MS 200u   /* Linux's; RFC 6298 says 1 s, which a loss in a LAN should not cost */
#define RTO_MAX_MS 60000u /* RFC 6298 §2.4: at least 60 s */

/* RFC 6298 §2, in microseconds. */
void tcp_rtt_sample(struct tcp_conn *conn, uint64_t rtt_ns)
{
    uint32_t rtt_us = (uint32_t)(rtt_ns / 1000);
    rtt_us = rtt_us == 0 ? 1 : rtt_us;
    if (conn->srtt_us == 0) {
        conn->srtt_us = rtt_us;
        conn->rttvar_us = rtt_us / 2;
    } else {
        uint32_t error = rtt_us > conn->srtt_us ? rtt_us - conn->srtt_us : conn->srtt_us - rtt_us;
        conn->rttvar_us = conn->rttvar_us - conn->rttvar_us / 4 + error / 4;
        conn->srtt_us = conn->srtt_us - conn->srtt_us / 8 + rtt_us / 8;
        conn->srtt_us = conn->srtt_us == 0 ? 1 : conn->srtt_us;
    }
    uint64_t variation_us = 4ull * conn->rttvar_us;
    variation_us = variation_us > RTO_MIN_MS * 1000ull ? variation_us : RTO_MIN_MS * 1000ull;
    uint64_t rto_ms = (conn->srtt_us + variation_us + 999) / 1000;
    conn->rto_ms = (uint32_t)(rto_ms < RTO_MAX_MS ? rto_ms : RTO_MAX_MS);
}

/* Karn: bytes that were sent twice tell nothing, but by their timestamp. And until something tells,
 * the timer stays as long as it has become (RFC 6298 §5.5): on a path that is slower than the timer
 * nothing would ever be sent just once. Returns the time that was measured; 0: none. */
static uint32_t rtt_read(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    struct stack *stack = conn->stack;
    if (conn->rtt_timing) {
        if (seq_at_or_before(conn->rtt_seq, segment->ack)) {
            conn->rtt_timing = false;
            tcp_rtt_sample(conn, stack->now_ns - conn->rtt_start_ns);
            return (uint32_t)((stack->now_ns - conn->rtt_start_ns) / 1000);
        }
        return 0;
    }
    if (conn->recovery == TCP_LOSS_RECOVERY) {
        conn->rto_ms = (uint32_t)(tcp_rto_ns(conn) / MS_NS);
    }
    if (segment->has_timestamp && (conn->backoff > 0 || conn->srtt_us == 0)) {
        uint32_t passed_ms = tcp_timestamp_now(stack, conn->ts_offset) - segment->ts_echo;
        if (passed_ms < RTO_MAX_MS) {
            tcp_rtt_sample(conn, (uint64_t)passed_ms * MS_NS);
        }
    }
    return 0;
}

/* The peer holds the range. *rtt_us: the shortest time that any of it took. */
static void delivered_note(struct tcp_conn *conn, const struct tcp_segment *segment,
                           struct tcp_range range, uint32_t *rtt_us)
{
    if (conn->rack == NULL) {
        return;
    }
    const struct tcp_rack_now now = {.now_us = conn->stack->now_ns / 1000,
                                     .has_echo = conn->timestamps && segment->has_timestamp,
                                     .ts_offset = conn->ts_offset,
                                     .ts_echo = segment->ts_echo};
    uint32_t us = tcp_rack_delivered(conn->rack, &conn->rack_memory, &conn->sacked, range, &now);
    *rtt_us = *rtt_us == 0 || (us != 0 && us < *rtt_us) ? us : *rtt_us;
}

/* RFC 2883 §4: the first range, when it is acknowledged already or lies in the second. */
static bool duplicate_is_reported(const struct tcp_conn *conn, const struct tcp_segment *segment)
{
    const struct tcp_range *first = &segment->sacks[0], *second = first + 1;
    if (segment->sack_count == 0 || !seq_before(first->begin, first->end) ||
        seq_before(first->begin, conn->snd_una - conn->snd_wnd_max) ||
        seq_before(conn->snd_max, first->end)) {
        return false;
    }
    return seq_at_or_before(first->end, segment->ack) ||
           (segment->sack_count > 1 && seq_at_or_before(second->begin, first->begin) &&
            seq_at_or_before(first->end, second->end));
}

/* Returns bytes that are news. */
static uint32_t sack_read(struct tcp_conn *conn, const struct tcp_segment *segment,
                          uint32_t *rtt_us)
{
    uint32_t news = 0;
    if (!conn->sack) {
        return 0;
    }
    bool duplicate = duplicate_is_reported(conn, segment);
    for (unsigned i = duplicate ? 1 : 0; i < segment->sack_count; i++) {
        struct tcp_range range = segment->sacks[i];
        if (seq_before(segment->ack, range.begin) && seq_before(range.begin, range.end) &&
            seq_at_or_before(range.end, conn->snd_max)) {
            delivered_note(conn, segment, range, rtt_us);
            news += tcp_scoreboard_add(&conn->sacked, range);
        }
    }
    if (duplicate) {
        tcp_duplicate_reported(conn, segment->sacks[0]);
    }
    return news;
}

/* After a timeout, duplicates of what was sent needlessly must not look like a loss: until all that
 * was sent before is acknowledged (RFC 6675 §5.1), or without SACK more than that (RFC 6582 §3.2). */
static bool may_recover(const struct tcp_conn *conn)
{
    return conn->sack ? !seq_before(conn->snd_una, conn->recover)
                      : seq_before(conn->recover, conn->snd_una);
}

/* `delivered`: bytes that SACK tells anew. */
static void duplicate_arrives(struct tcp_conn *conn, uint32_t delivered)
{
    conn->stack->counters.tcp_duplicate_acks_in++;
    conn->duplicate_acks += conn->duplicate_acks < UINT8_MAX;
    switch ((enum tcp_recovery)conn->recovery) {
    case TCP_OPEN:
        if (conn->rack == NULL && may_recover(conn) &&
            (conn->duplicate_acks >= TCP_DUPLICATE_THRESHOLD ||
             tcp_scoreboard_lost_before(&conn->sacked, conn->snd_una, conn->mss) !=
                 conn->snd_una)) {
            tcp_recovery_begin(conn, delivered);
        }
        break;
    case TCP_FAST_RECOVERY:
        if (!conn->sack) {
            conn->congestion.cwnd += conn->mss;
        }
        break;
    case TCP_LOSS_RECOVERY:
        break;
    }
    tcp_output_wanted(conn);
}

static void window_grow(struct tcp_conn *conn, uint32_t acked, uint32_t rtt_us)
{
    struct tcp_congestion *congestion = &conn->congestion;
    const struct tcp_congestion_ack ack = {.bytes = acked,
                                           .now_ns = conn->stack->now_ns,
                                           .srtt_us = conn->srtt_us,
                                           .rtt_us = rtt_us,
                                           .snd_una = conn->snd_una,
                                           .snd_nxt = conn->snd_nxt};
    switch ((enum tcp_recovery)conn->recovery) {
    case TCP_OPEN:
        if (seq_before(conn->recover, conn->snd_una)) {
            conn->recover = conn->snd_una - 1; /* or it would lie ahead again after 2 GiB */
        }
        if (conn->window_limited) {
            congestion->ops->acked(congestion, &ack);
        }
        break;
    case TCP_FAST_RECOVERY:
        if (!seq_before(conn->snd_una, conn->recover)) {
            tcp_recovery_end(conn);
        } else if (!conn->sack) {
            /* A partial acknowledgement: the next hole is known. Deflate by what has left. */
            conn->retransmit_head = true;
            congestion->cwnd -=
                acked < congestion->cwnd - conn->mss ? acked : congestion->cwnd - conn->mss;
            congestion->cwnd += acked >= conn->mss ? conn->mss : 0;
        }
        break;
    case TCP_LOSS_RECOVERY:
        congestion->ops->acked(congestion, &ack);
        if (!seq_before(conn->snd_una, conn->recover)) {
            tcp_recovery_end(conn);
        }
        break;
    }
}

static void tell_session(struct tcp_conn *conn, uint32_t bytes)
{
    if (bytes > 0 && conn->queue.bytes == 0) {
        tcp_event(conn, STREAM_DRAINED);
    }
    if (conn->write_waits && conn->queue.bytes <= STREAM_QUEUED_BYTES_MAX / 2) {
        conn->write_waits = false;
        tcp_event(conn, STREAM_WRITABLE);
    }
}

/* rtt_us: the shortest time that anything took which this acknowledgement is the first to tell of;
 * 0: none is known. */
static void advance(struct tcp_conn *conn, const struct tcp_segment *segment, uint32_t rtt_us)
{
    struct stack *stack = conn->stack;
    uint32_t acked = segment->ack - conn->snd_una;
    uint32_t bytes = acked < conn->queue.bytes ? acked : conn->queue.bytes;
    uint32_t timed_us = rtt_read(conn, segment);
    delivered_note(conn, segment, (struct tcp_range){conn->snd_una, segment->ack}, &rtt_us);
    tcp_undo_by_timestamp(conn, segment);
    conn->fin_acked |= acked > bytes; /* what is acknowledged beyond the bytes is the FIN */
    tcp_send_queue_acked(&conn->queue, bytes);
    stack->counters.tcp_out_bytes += bytes;
    conn->bytes_acked += bytes;
    conn->snd_una = segment->ack;
    conn->snd_nxt = seq_max(conn->snd_nxt, conn->snd_una);
    conn->retransmitted_to = seq_max(conn->retransmitted_to, conn->snd_una);
    if (conn->sacked.count > 0) {
        tcp_scoreboard_advance(&conn->sacked, conn->snd_una);
    }
    if (conn->rack != NULL) {
        tcp_rack_advance(conn->rack, conn->snd_una);
    }
    if (conn->mtu.probe != 0) {
        tcp_mtu_acked(conn);
    }
    conn->duplicate_acks = 0;
    conn->backoff = 0;
    conn->unanswered_ns = stack->now_ns;
    if (conn->released) {
        tcp_timer_linger(conn); /* a long letter on a slow path takes as long as it takes */
    }
    window_grow(conn, acked, rtt_us == 0 ? timed_us : rtt_us);
    if (conn->snd_una == conn->snd_max) {
        tcp_timer_clear(conn, TCP_TIMER_RETRANSMIT);
    } else if (conn->due_ns[TCP_TIMER_RETRANSMIT] != WHEEL_NEVER) {
        /* Only news restart it: else a peer that repeats itself could hold off the repair for ever. */
        tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, stack->now_ns + tcp_rto_ns(conn));
    }
    tell_session(conn, bytes);
    if (conn->queue.bytes > 0 || (conn->fin_wanted && !conn->fin_acked)) {
        tcp_output_wanted(conn);
    }
}

/* RFC 9293 §3.10.7.4: only newer segments change the window. What acknowledges news is newer too,
 * though its bytes are sent again: the window counts from there, and the one before would reach
 * further than the peer has offered. Returns true when it has changed. */
static bool window_read(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    uint32_t window = (uint32_t)segment->window << (segment->window_plain ? 0 : conn->snd_scale);
    uint32_t before = conn->snd_wnd;
    if (!seq_before(conn->snd_una, segment->ack) &&
        (seq_before(segment->seq, conn->snd_wl1) ||
         (segment->seq == conn->snd_wl1 && seq_before(segment->ack, conn->snd_wl2)))) {
        return false;
    }
    conn->snd_wl1 = segment->seq;
    conn->snd_wl2 = segment->ack;
    conn->snd_wnd = window;
    conn->snd_wnd_max = window > conn->snd_wnd_max ? window : conn->snd_wnd_max;
    if (window > before) {
        tcp_output_wanted(conn);
    }
    return window != before;
}

bool tcp_ack_arrives(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    /* RFC 5961 §5.2. */
    if (seq_before(conn->snd_max, segment->ack) ||
        seq_before(segment->ack, conn->snd_una - conn->snd_wnd_max)) {
        trace_event(conn, TRACE_DROP, TRACE_DROP_ACK);
        tcp_challenge(conn);
        return false;
    }
    conn->keepalives = 0;
    if (seq_before(segment->ack, conn->snd_una)) {
        return true; /* overtaken; its payload may still be of use */
    }
    bool in_flight = conn->snd_nxt != conn->snd_una;
    tcp_ecn_ack(conn, segment);
    bool window_changed = window_read(conn, segment);
    uint32_t una = conn->snd_una, sacked = conn->sacked.sacked_bytes, rtt_us = 0;
    uint32_t news = sack_read(conn, segment, &rtt_us);
    bool advances = segment->ack != una;
    if (advances) {
        advance(conn, segment, rtt_us);
    } else if (in_flight &&
               (news > 0 || (!conn->sack && !window_changed && segment->payload_bytes == 0 &&
                             (segment->flags & TCP_FIN) == 0))) {
        duplicate_arrives(conn, news);
    }
    if (conn->sack) {
        uint32_t delivered = conn->snd_una - una + conn->sacked.sacked_bytes - sacked;
        tcp_recovery_acked(conn, segment, (int32_t)delivered > 0 ? delivered : 0, advances);
    }
    if (conn->rack != NULL && conn->snd_una == conn->snd_nxt) {
        tcp_rack_give(conn); /* nothing is under way */
    }
    if (conn->snd_wnd == 0) {
        conn->unanswered_ns = conn->stack->now_ns; /* alive, only not reading */
    }
    return true;
}
