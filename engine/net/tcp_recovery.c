#include "engine/net/stack_private.h"

#define TAIL_FIRST_NS SECOND_NS      /* RFC 8985 §7.2, without a round trip that is known */
#define DELAYED_ACK_NS (200 * MS_NS) /* WCDelAckT */

static uint32_t now_us(const struct tcp_conn *conn)
{
    return (uint32_t)(conn->stack->now_ns / 1000);
}

void tcp_rack_take(struct tcp_conn *conn)
{
    struct slab *racks = &conn->stack->tcp.racks;
    uint32_t index = slab_take(racks);
    if (index == SLAB_NONE) {
        conn->stack->counters.tcp_rack_none++;
        return;
    }
    conn->rack = slab_at(racks, index);
    tcp_rack_open(conn->rack, conn->snd_una);
    conn->rack->index = index;
}

void tcp_rack_give(struct tcp_conn *conn)
{
    if (conn->rack != NULL) {
        slab_give(&conn->stack->tcp.racks, conn->rack->index);
        conn->rack = NULL;
    }
    tcp_timer_clear(conn, TCP_TIMER_REORDER);
    tcp_timer_clear(conn, TCP_TIMER_TAIL);
}

void tcp_recovery_sent(struct tcp_conn *conn, struct tcp_range range, bool again)
{
    struct tcp_rack *rack = conn->rack;
    if (conn->recovery == TCP_FAST_RECOVERY) {
        tcp_prr_sent(&conn->prr, range.end - range.begin);
    }
    if (rack == NULL) {
        return;
    }
    tcp_rack_sent(rack, &conn->sacked, range, now_us(conn), again);
    tcp_frto_sent(rack, again);
    if (again && rack->undo.possible) {
        if (!rack->undo.has_retransmitted) {
            rack->undo.has_retransmitted = true;
            rack->undo.retransmit_ts = tcp_timestamp_now(conn->stack, conn->ts_offset);
        }
        rack->undo.retransmitted += range.end - range.begin;
    }
}

/* FlightSize of RFC 5681 (4), without what limited transmit has added, and what was sent in place of
 * bytes that are sacked: a window could grow by losing. */
uint32_t tcp_flight_size(const struct tcp_conn *conn)
{
    uint32_t flight = conn->snd_max - conn->snd_una, cwnd = conn->congestion.cwnd;
    return flight < cwnd ? flight : cwnd;
}

/* RFC 4015 §3.1: what there was before. A loss that comes to one that is being repaired changes
 * nothing of it. */
void tcp_undo_keep(struct tcp_conn *conn)
{
    struct tcp_rack *rack = conn->rack;
    if (rack == NULL || (rack->undo.possible && seq_before(conn->snd_una, rack->undo.end))) {
        return;
    }
    rack->undo = (struct tcp_undo){
        .before = conn->congestion, .begin = conn->snd_una, .end = conn->snd_max, .possible = true};
}

static void undo(struct tcp_conn *conn)
{
    struct tcp_rack *rack = conn->rack;
    conn->stack->counters.tcp_undos++;
    tcp_congestion_undo(&conn->congestion, &rack->undo.before);
    rack->undo.possible = false;
    rack->frto = TCP_FRTO_NONE;
    if (conn->recovery == TCP_FAST_RECOVERY) {
        conn->rack_memory.reordering_seen = true; /* what else could it have been */
    }
    tcp_rack_forgive(rack);
    conn->recovery = TCP_OPEN;
    conn->retransmit_head = false;
}

/* RFC 3522: the echo is of a time before anything was sent again, so the first copy has arrived. */
void tcp_undo_by_timestamp(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    const struct tcp_rack *rack = conn->rack;
    if (rack != NULL && conn->recovery != TCP_OPEN && rack->undo.possible &&
        rack->undo.has_retransmitted && conn->timestamps &&
        seq_before(rack->undo.begin, segment->ack) && segment->ts_echo != 0 &&
        seq_before(segment->ts_echo, rack->undo.retransmit_ts)) {
        undo(conn);
    }
}

/* RFC 3708: all that was sent again had arrived before. */
static void undo_by_report(struct tcp_conn *conn, struct tcp_range duplicate)
{
    struct tcp_undo *kept = &conn->rack->undo;
    uint32_t bytes = duplicate.end - duplicate.begin;
    if (!kept->possible || kept->retransmitted == 0 || seq_before(duplicate.begin, kept->begin) ||
        seq_before(kept->end, duplicate.end)) {
        return;
    }
    kept->retransmitted -= bytes < kept->retransmitted ? bytes : kept->retransmitted;
    if (kept->retransmitted == 0) {
        undo(conn);
    }
}

void tcp_duplicate_reported(struct tcp_conn *conn, struct tcp_range duplicate)
{
    conn->stack->counters.tcp_dsacks_in++;
    if (conn->tail_probed && conn->tail_retransmitted && duplicate.end == conn->tail_end) {
        conn->tail_probed = false; /* both copies have arrived: nothing was lost */
    }
    if (conn->rack != NULL) {
        tcp_rack_duplicate_reported(conn->rack, &conn->rack_memory, conn->snd_una, conn->snd_nxt);
        undo_by_report(conn, duplicate);
    }
}

/* `delivered`: by the acknowledgement that has told of the loss. */
void tcp_recovery_begin(struct tcp_conn *conn, uint32_t delivered)
{
    struct tcp_congestion *congestion = &conn->congestion;
    conn->stack->counters.tcp_fast_retransmits++;
    tcp_undo_keep(conn);
    congestion->ops->lost(congestion, tcp_flight_size(conn), conn->stack->now_ns);
    conn->recovery = TCP_FAST_RECOVERY;
    conn->recover = conn->snd_max;
    conn->retransmitted_to = conn->snd_una;
    conn->rescued_to = conn->snd_una;
    conn->rtt_timing = false;
    conn->retransmit_head = conn->rack == NULL;
    if (conn->sack) {
        /* RFC 9937 §6.1: bytes that were sacked before will not be delivered any more. */
        tcp_prr_begin(&conn->prr,
                      conn->snd_max - conn->snd_una - conn->sacked.sacked_bytes + delivered);
    } else {
        /* RFC 5681 §3.2 step 3 */
        congestion->cwnd = congestion->ssthresh + TCP_DUPLICATE_THRESHOLD * conn->mss;
    }
}

void tcp_recovery_end(struct tcp_conn *conn)
{
    struct tcp_congestion *congestion = &conn->congestion;
    if (conn->recovery == TCP_FAST_RECOVERY) {
        uint32_t flight = tcp_flight(conn);
        uint32_t floor = (flight > conn->mss ? flight : conn->mss) + conn->mss;
        congestion->cwnd = congestion->ssthresh;
        if (!conn->sack && floor < congestion->cwnd) {
            congestion->cwnd = floor; /* RFC 6582 §3.2 step 3: no burst */
        }
    }
    tcp_rack_recovery_ended(&conn->rack_memory);
    if (conn->rack != NULL) {
        conn->rack->frto = TCP_FRTO_NONE;
    }
    conn->stack->counters.tcp_recoveries++;
    conn->recovery = TCP_OPEN;
}

static uint32_t reo_wnd_us(const struct tcp_conn *conn)
{
    bool many =
        conn->recovery != TCP_OPEN ||
        tcp_scoreboard_lost_before(&conn->sacked, conn->snd_una, conn->mss) != conn->snd_una;
    return tcp_rack_reo_wnd_us(&conn->rack_memory, many, conn->srtt_us);
}

/* RACK_detect_loss_and_arm_timer. True: more is lost. */
static bool losses_look(struct tcp_conn *conn, uint32_t delivered)
{
    uint32_t wait_us;
    bool lost =
        tcp_rack_detect_loss(conn->rack, &conn->sacked, reo_wnd_us(conn), now_us(conn), &wait_us);
    if (wait_us > 0) {
        tcp_timer_set(conn, TCP_TIMER_REORDER, conn->stack->now_ns + (wait_us + 1) * 1000ull);
    } else {
        tcp_timer_clear(conn, TCP_TIMER_REORDER);
    }
    if (lost) {
        if (conn->recovery == TCP_OPEN && !tcp_mtu_lost(conn)) {
            tcp_recovery_begin(conn, delivered);
        }
        tcp_output_wanted(conn);
    }
    return lost;
}

static void window_reduce(struct tcp_conn *conn, uint32_t delivered, bool safe)
{
    struct tcp_congestion *congestion = &conn->congestion;
    const struct tcp_prr_ack ack = {.delivered = delivered,
                                    .flight = tcp_flight(conn),
                                    .ssthresh = congestion->ssthresh,
                                    .mss = conn->mss,
                                    .safe = safe};
    congestion->cwnd = tcp_prr_acked(&conn->prr, &ack);
    tcp_output_wanted(conn);
}

/* RFC 8985 §7.4.2: what acknowledges more than the probe, with no report of a duplicate before, says
 * that the probe has repaired a loss. */
static void tail_acked(struct tcp_conn *conn, uint32_t ack)
{
    struct tcp_congestion *congestion = &conn->congestion;
    if (!conn->tail_probed || seq_before(ack, conn->tail_end)) {
        return;
    }
    if (!conn->tail_retransmitted) {
        conn->tail_probed = false;
    } else if (seq_before(conn->tail_end, ack)) {
        conn->tail_probed = false;
        if (conn->recovery == TCP_OPEN) {
            congestion->ops->lost(congestion, tcp_flight_size(conn), conn->stack->now_ns);
            congestion->cwnd = congestion->ssthresh;
        }
    }
}

void tcp_recovery_acked(struct tcp_conn *conn, const struct tcp_segment *segment,
                        uint32_t delivered, bool advanced)
{
    if (conn->rack != NULL && conn->recovery == TCP_LOSS_RECOVERY &&
        tcp_frto_acked(conn, segment, advanced)) {
        undo(conn);
    }
    bool lost = conn->rack != NULL && losses_look(conn, delivered);
    tail_acked(conn, segment->ack);
    if (conn->recovery == TCP_FAST_RECOVERY) {
        window_reduce(conn, delivered, advanced && !lost);
    }
    if (advanced) {
        tcp_tail_watch(conn);
    }
}

void tcp_recovery_reordered(struct tcp_conn *conn)
{
    if (conn->rack != NULL && losses_look(conn, 0) && conn->recovery == TCP_FAST_RECOVERY) {
        window_reduce(conn, 0, false);
    }
}

/* RFC 8985 §6.3. What has been dropped by a peer that had sacked it (RFC 2018 §8) is lost too. */
void tcp_recovery_timed_out(struct tcp_conn *conn, bool everything)
{
    tcp_timer_clear(conn, TCP_TIMER_REORDER);
    tcp_timer_clear(conn, TCP_TIMER_TAIL);
    conn->tail_probed = false;
    tcp_rack_timed_out(conn->rack, reo_wnd_us(conn), now_us(conn), everything);
}

/* RFC 8985 §7.2: TLP_calc_PTO. */
void tcp_tail_watch(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    if (conn->rack == NULL || conn->recovery != TCP_OPEN || conn->tail_probed ||
        conn->sacked.count > 0 || conn->snd_una == conn->snd_max) {
        tcp_timer_clear(conn, TCP_TIMER_TAIL);
        return;
    }
    uint64_t wait_ns = conn->srtt_us == 0 ? TAIL_FIRST_NS : 2000ull * conn->srtt_us;
    if (conn->snd_max - conn->snd_una <= conn->mss) {
        wait_ns += DELAYED_ACK_NS;
    }
    uint64_t due_ns = stack->now_ns + wait_ns, rto_ns = conn->due_ns[TCP_TIMER_RETRANSMIT];
    tcp_timer_set(conn, TCP_TIMER_TAIL, due_ns < rto_ns ? due_ns : rto_ns);
}

/* TLP_send_probe. */
void tcp_tail_due(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    uint32_t before = conn->snd_nxt;
    if (conn->rack == NULL || conn->recovery != TCP_OPEN || conn->tail_probed ||
        conn->snd_una == conn->snd_max || !tcp_output_tail(conn)) {
        return;
    }
    stack->counters.tcp_loss_probes++;
    conn->tail_probed = true;
    conn->tail_retransmitted = conn->snd_nxt == before;
    conn->tail_end = conn->snd_nxt;
    tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, stack->now_ns + tcp_rto_ns(conn));
}
