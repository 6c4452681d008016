#include "tests/sim/states.h"
#include "engine/net/stack_private.h"
#include "tests/sim/sim.h"

#define QUEUES_EVERY 16u /* rounds: walking the queues costs most */
#define FLIGHT_EXTRA                                                                               \
    4u /* segments: limited transmit (RFC 3042), the one that is always let go, a probe
                            for the tail (RFC 8985 §7.3) */

struct sim_shadow {
    struct tcp_tuple tuple;
    uint32_t iss, irs, rcv_nxt, snd_una, snd_max, rcv_edge;
    uint8_t state;
    bool live;
};

/* RFC 9293 §3.3.2, figure 5; what may follow in one round, over several segments. */
static bool may_follow(enum tcp_state before, enum tcp_state after)
{
    static const uint16_t followers[] = {
        [TCP_CLOSED] = 0,
        [TCP_SYN_SENT] = 1 << TCP_SYN_RECEIVED | 1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT_1 |
                         1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSE_WAIT | 1 << TCP_CLOSING |
                         1 << TCP_LAST_ACK,
        [TCP_SYN_RECEIVED] = 1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT_1 | 1 << TCP_FIN_WAIT_2 |
                             1 << TCP_CLOSE_WAIT | 1 << TCP_CLOSING | 1 << TCP_LAST_ACK,
        [TCP_ESTABLISHED] = 1 << TCP_FIN_WAIT_1 | 1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSING |
                            1 << TCP_CLOSE_WAIT | 1 << TCP_LAST_ACK,
        [TCP_FIN_WAIT_1] = 1 << TCP_FIN_WAIT_2 | 1 << TCP_CLOSING,
        [TCP_FIN_WAIT_2] = 0,
        [TCP_CLOSE_WAIT] = 1 << TCP_LAST_ACK,
        [TCP_CLOSING] = 0,
        [TCP_LAST_ACK] = 0,
    };
    return before == after || after == TCP_CLOSED || (followers[before] & 1 << after) != 0;
}

void sim_states_open(struct sim_states *states)
{
    *states = (struct sim_states){0};
}

void sim_states_close(struct sim_states *states)
{
    free(states->shadows);
    *states = (struct sim_states){0};
}

#define judge(believed)                                                                            \
    do {                                                                                           \
        if (!(believed)) {                                                                         \
            conn_wrong(host, conn, __LINE__, #believed);                                           \
        }                                                                                          \
    } while (0)

static void conn_wrong(struct sim_host *host, const struct tcp_conn *conn, int line,
                       const char *believed)
{
    sim_fail(
        host->sim,
        "states.c:%d: host %u, port %u to port %u, state %u: \"%s\" does not hold: snd_una %u, "
        "nxt +%u, max +%u, wnd %u, cwnd %u, flight %u, queued %u, mss %u, recovery %u; rcv_nxt "
        "%u, edge +%u",
        line, host->index, conn->tuple.local_port, conn->tuple.remote_port, conn->state, believed,
        conn->snd_una, conn->snd_nxt - conn->snd_una, conn->snd_max - conn->snd_una, conn->snd_wnd,
        conn->congestion.cwnd, tcp_flight(conn), conn->queue.bytes, conn->mss, conn->recovery,
        conn->rcv_nxt, conn->rcv_edge - conn->rcv_nxt);
}

static void queues_check(struct sim_host *host, struct tcp_conn *conn, uint32_t *held)
{
    const struct tcp_receive_queue *queue = &conn->received;
    uint32_t bytes = 0, mbufs = 0, early = 0, end = conn->rcv_nxt;
    for (struct rte_mbuf *at = queue->head; at != NULL; at = at->next) {
        bytes += at->data_len;
        mbufs++;
    }
    judge(bytes == queue->bytes && mbufs == queue->mbuf_count);
    for (struct rte_mbuf *at = queue->early_head; at != NULL; at = at->next) {
        judge(at->data_len > 0 && seq_at_or_before(end, at->hash.usr));
        end = at->hash.usr + at->data_len;
        early++;
        judge(at->next != NULL || at == queue->early_tail);
    }
    judge(early == queue->early_count);
    *held += mbufs + early;
    uint32_t queued = 0, pieces = 0;
    for (struct tcp_piece *piece = conn->queue.head; piece != NULL; piece = piece->next) {
        queued += piece->size;
        pieces++;
    }
    judge(queued == conn->queue.bytes + conn->queue.head_skip && pieces == conn->queue.piece_count);
}

static void scoreboard_check(struct sim_host *host, const struct tcp_conn *conn)
{
    const struct tcp_scoreboard *board = &conn->sacked;
    uint32_t end = conn->snd_una, sum = 0;
    for (unsigned i = 0; i < board->count; i++) {
        judge(seq_at_or_before(end, board->ranges[i].begin));
        judge(seq_before(board->ranges[i].begin, board->ranges[i].end));
        judge(sim_wire_has_arrived(&host->sim->wire, &conn->tuple, conn->iss, board->ranges[i]));
        end = board->ranges[i].end;
        sum += end - board->ranges[i].begin;
    }
    judge(seq_at_or_before(end, conn->snd_max) && sum == board->sacked_bytes);
}

static void timers_check(struct sim_host *host, const struct tcp_conn *conn)
{
    bool waits = conn->snd_max != conn->snd_una || conn->queue.bytes > 0 ||
                 (conn->fin_wanted && !conn->fin_acked);
    bool driven = !list_empty(&conn->output);
    uint64_t due_ns = WHEEL_NEVER;
    for (unsigned i = 0; i < TCP_TIMER_COUNT; i++) {
        driven |= i != TCP_TIMER_ACK && i != TCP_TIMER_KEEPALIVE && i != TCP_TIMER_STATE &&
                  conn->due_ns[i] != WHEEL_NEVER;
        due_ns = conn->due_ns[i] < due_ns ? conn->due_ns[i] : due_ns;
    }
    judge(!waits || driven);
    judge(due_ns == WHEEL_NEVER || (timer_armed(&conn->timer) && conn->timer.due_ns <= due_ns));
    /* Progress: what is due is done in this round, or one tick of the wheel later. */
    judge(due_ns == WHEEL_NEVER || host->sim->world.now_ns < due_ns + 10 * WHEEL_TICK_NS +
                                                                 host->shard.now_ns -
                                                                 host->last_round_ns);
}

static void numbers_check(struct sim_host *host, const struct tcp_conn *conn)
{
    judge(seq_at_or_before(conn->snd_una, conn->snd_nxt));
    judge(seq_at_or_before(conn->snd_nxt, conn->snd_max));
    judge(conn->snd_max - conn->snd_una <= conn->queue.bytes + 1);
    judge(seq_at_or_before(conn->rcv_nxt, conn->rcv_edge) || conn->state == TCP_SYN_SENT);
    /* In recovery it is what may be sent now, and that may be nothing (RFC 6937 §3). */
    judge(conn->congestion.cwnd > 0 || conn->state == TCP_SYN_SENT || conn->recovery != TCP_OPEN);
    judge(conn->queue.bytes <= STREAM_QUEUED_BYTES_MAX + (1u << 20));
}

static void changes_check(struct sim_host *host, const struct tcp_conn *conn,
                          const struct sim_shadow *shadow)
{
    judge(may_follow((enum tcp_state)shadow->state, (enum tcp_state)conn->state));
    host->states.transitions += shadow->state != conn->state;
    if (shadow->state <= TCP_SYN_RECEIVED || conn->state <= TCP_SYN_RECEIVED) {
        return;
    }
    judge(seq_at_or_before(shadow->rcv_nxt, conn->rcv_nxt));
    judge(seq_at_or_before(shadow->rcv_edge, conn->rcv_edge));
    judge(seq_at_or_before(shadow->snd_una, conn->snd_una));
    judge(seq_at_or_before(shadow->snd_max, conn->snd_max));
    /* News were sent: the congestion window let them go. One segment may go beyond it, as a probe for
     * the tail (RFC 8985 §7.3). */
    if (conn->snd_max - shadow->snd_max > conn->mss + 1u) {
        judge(tcp_flight(conn) <= conn->congestion.cwnd + FLIGHT_EXTRA * conn->mss);
    }
}

static void shadows_reserve(struct sim_states *states, uint32_t count)
{
    if (count <= states->count) {
        return;
    }
    states->shadows = realloc(states->shadows, count * sizeof(states->shadows[0]));
    check(states->shadows != NULL);
    memset(states->shadows + states->count, 0,
           (count - states->count) * sizeof(states->shadows[0]));
    states->count = count;
}

static bool shadow_is_of(const struct sim_shadow *shadow, const struct tcp_conn *conn)
{
    return shadow->live && shadow->iss == conn->iss &&
           tcp_tuple_equal(&shadow->tuple, &conn->tuple);
}

/* RFC 9293 §3.6.1: who has sent FIN before the other's had come keeps the connection in TIME-WAIT,
 * unless a reset has ended it. */
static bool closes_first(const struct sim_shadow *shadow)
{
    return shadow->live && (shadow->state == TCP_FIN_WAIT_1 || shadow->state == TCP_FIN_WAIT_2 ||
                            shadow->state == TCP_CLOSING);
}

static void endings_check(struct sim_host *host, const struct stack *stack, uint64_t ended)
{
    const struct stack_counters *counters = &stack->counters;
    uint64_t endings =
        counters->tcp_time_waits + counters->tcp_established_resets + counters->tcp_out_resets;
    if (ended > endings - host->states.endings) {
        sim_fail(host->sim,
                 "host %u: %llu connections that it was the first to close are gone, but only %llu "
                 "were reset or went to TIME-WAIT",
                 host->index, (unsigned long long)ended,
                 (unsigned long long)(endings - host->states.endings));
    }
    host->states.endings = endings;
}

void sim_states_check(struct sim_host *host)
{
    struct stack *stack = stack_of(host->network);
    struct sim_states *states = &host->states;
    struct slab *conns = &stack->tcp.conns;
    uint32_t count = conns->block_count << conns->block_shift, live = 0, held = 0;
    bool queues = states->rounds++ % QUEUES_EVERY == 0;
    uint64_t ended = 0;
    count = count < conns->max ? count : conns->max;
    shadows_reserve(states, count);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_shadow *shadow = &states->shadows[i];
        struct tcp_conn *conn = slab_at(conns, i);
        bool gone = conn->stack != stack || conn->state == TCP_CLOSED;
        ended += closes_first(shadow) && (gone || !shadow_is_of(shadow, conn));
        if (conn->stack != stack) {
            shadow->live = false;
            continue;
        }
        if (queues) {
            queues_check(host, conn, &held);
        }
        live += conn->in_table;
        if (conn->state == TCP_CLOSED) {
            shadow->live = false;
            continue;
        }
        numbers_check(host, conn);
        scoreboard_check(host, conn);
        timers_check(host, conn);
        if (shadow_is_of(shadow, conn)) {
            changes_check(host, conn, shadow);
        }
        *shadow = (struct sim_shadow){.tuple = conn->tuple,
                                      .iss = conn->iss,
                                      .irs = conn->irs,
                                      .rcv_nxt = conn->rcv_nxt,
                                      .rcv_edge = conn->rcv_edge,
                                      .snd_una = conn->snd_una,
                                      .snd_max = conn->snd_max,
                                      .state = conn->state,
                                      .live = true};
    }
    endings_check(host, stack, ended);
    if (stack->tcp.table.used != live + stack->tcp.half_opens.used + stack->tcp.time_waits.used) {
        sim_fail(host->sim,
                 "host %u: the table has %u entries, of %u connections, %u half-open, %u "
                 "in TIME-WAIT",
                 host->index, stack->tcp.table.used, live, stack->tcp.half_opens.used,
                 stack->tcp.time_waits.used);
    }
    if (queues && held != stack->tcp.held_mbufs) {
        sim_fail(host->sim, "host %u: %u buffers are held, %u are counted", host->index, held,
                 stack->tcp.held_mbufs);
    }
    if (stack->tcp.held_mbufs > stack->limits.held_mbuf_max + 256 ||
        stack->tcp.half_opens.used > stack->limits.half_open_max ||
        stack->tcp.time_waits.used > stack->limits.time_wait_max ||
        conns->used > stack->limits.connection_max) {
        sim_fail(host->sim,
                 "host %u: beyond its limits: %u buffers, %u half-open, %u in TIME-WAIT, "
                 "%u connections",
                 host->index, stack->tcp.held_mbufs, stack->tcp.half_opens.used,
                 stack->tcp.time_waits.used, conns->used);
    }
}

static void conns_check_quiet(struct sim_host *host)
{
    struct stack *stack = stack_of(host->network);
    struct slab *conns = &stack->tcp.conns;
    for (uint32_t i = 0; i < conns->block_count << conns->block_shift && i < conns->max; i++) {
        const struct tcp_conn *conn = slab_at(conns, i);
        if (conn->stack == stack && conn->state != TCP_CLOSED) {
            judge(!"a connection is left");
        }
        /* A slot that was never used is all zero. */
        if (conn->timer.node.next != NULL && timer_armed(&conn->timer)) {
            judge(!"the timer of a connection that is no more is armed");
        }
    }
}

void sim_states_check_quiet(struct sim_host *host)
{
    struct stack *stack = stack_of(host->network);
    const struct tcp *tcp = &stack->tcp;
    const struct rte_mempool *pools[] = {stack->pool, stack->control, stack->segments};
    conns_check_quiet(host);
    if (tcp->table.used != 0 || tcp->conns.used != 0 || tcp->half_opens.used != 0 ||
        tcp->time_waits.used != 0 || tcp->held_mbufs != 0 || tcp->orphan_count != 0 ||
        !list_empty(&tcp->output) || !list_empty(&tcp->ready) || stack->leaving_count != 0 ||
        timer_armed(&tcp->half_open_timer) || timer_armed(&tcp->time_wait_timer)) {
        sim_fail(
            host->sim,
            "host %u does not come to rest: %u in the table, %u connections, %u half-open, %u in "
            "TIME-WAIT, %u buffers held, %u orphans",
            host->index, tcp->table.used, tcp->conns.used, tcp->half_opens.used,
            tcp->time_waits.used, tcp->held_mbufs, tcp->orphan_count);
    }
    for (unsigned i = 0; i < RTE_DIM(pools); i++) {
        unsigned out = rte_mempool_in_use_count(pools[i]);
        if (out != 0) {
            sim_fail(host->sim, "host %u: %u buffers of pool %s are not given back", host->index,
                     out, pools[i]->name);
        }
    }
    if (tcp->table.used == 0 && stack->counters.tcp_current_established != 0) {
        sim_fail(host->sim, "host %u: %llu connections are counted, none is there", host->index,
                 (unsigned long long)stack->counters.tcp_current_established);
    }
}
