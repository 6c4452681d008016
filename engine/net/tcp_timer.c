#include "engine/net/stack_private.h"

#define RTO_MAX_NS (60 * SECOND_NS) /* RFC 6298 §2.5, RFC 1122 §4.2.2.17 for probes */
#define RTO_FIRST_MS 1000u          /* RFC 6298 §2.1 */

static void fire(struct timer *timer, uint64_t now_ns);

void tcp_timers_open(struct tcp_conn *conn)
{
    timer_init(&conn->timer, fire);
    conn->rto_ms = RTO_FIRST_MS;
    for (unsigned i = 0; i < TCP_TIMER_COUNT; i++) {
        conn->due_ns[i] = WHEEL_NEVER;
    }
}

/* The wheel's timer is moved only to an earlier time: deadlines that are put off are seen when it
 * fires. */
void tcp_timer_set(struct tcp_conn *conn, enum tcp_timer timer, uint64_t due_ns)
{
    conn->due_ns[timer] = due_ns;
    if (!timer_armed(&conn->timer) || due_ns < conn->timer.due_ns) {
        wheel_arm(conn->stack->wheel, &conn->timer, due_ns);
    }
}

uint64_t tcp_rto_ns(const struct tcp_conn *conn)
{
    uint64_t rto_ns = conn->rto_ms * MS_NS << (conn->backoff < 16 ? conn->backoff : 16);
    return rto_ns < RTO_MAX_NS ? rto_ns : RTO_MAX_NS;
}

/* RFC 1122 §4.2.3.5: R2. */
static bool gave_up(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    if (stack->now_ns - conn->unanswered_ns < stack->limits.user_timeout_ns) {
        return false;
    }
    stack->counters.tcp_aborts_on_timeout++;
    tcp_conn_abort(conn, conn->stream.error != 0 ? conn->stream.error : -ETIMEDOUT);
    return true;
}

static void syn_again(struct tcp_conn *conn)
{
    if (neighbour_has_failed(conn->stack, &conn->next_hop)) {
        conn->stack->counters.tcp_attempt_fails++;
        tcp_conn_end(conn, -EHOSTUNREACH);
        return;
    }
    conn->backoff++;
    tcp_output_syn(conn);
}

/* RFC 6298 §5, RFC 5681 §3.1: everything after snd_una is sent again, from one segment on; with
 * records, what they say is lost. */
static void retransmit(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    if (conn->state == TCP_SYN_SENT || conn->state == TCP_SYN_RECEIVED) {
        syn_again(conn);
        return;
    }
    if (gave_up(conn)) {
        return;
    }
    stack->counters.tcp_timeouts++;
    if (conn->backoff == 0) {
        tcp_undo_keep(conn);
        conn->congestion.ops->timed_out(&conn->congestion, tcp_flight_size(conn), stack->now_ns);
    }
    tcp_mtu_timed_out(conn);
    bool everything =
        tcp_scoreboard_hole(&conn->sacked, conn->snd_una) != conn->snd_una || conn->backoff > 0;
    if (everything) {
        tcp_scoreboard_clear(&conn->sacked); /* RFC 2018 §8: the peer may have dropped them */
    }
    bool first = conn->recovery == TCP_OPEN && !everything; /* nothing is being repaired already */
    conn->recovery = TCP_LOSS_RECOVERY;
    conn->recover = conn->snd_max;
    if (conn->rack != NULL) {
        tcp_recovery_timed_out(conn, everything);
        conn->rack->frto = TCP_FRTO_NONE;
        if (first) {
            tcp_frto_begin(conn);
        }
    } else {
        conn->snd_nxt = conn->snd_una;
    }
    conn->duplicate_acks = 0;
    conn->rtt_timing = false;
    conn->backoff += conn->backoff < UINT8_MAX;
    conn->retransmit_head = true;
    tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, stack->now_ns + tcp_rto_ns(conn));
    tcp_output_wanted(conn);
}

static void probe(struct tcp_conn *conn)
{
    /* A probe's byte may have been the last one, and taken. */
    if (conn->queue.bytes == 0 || gave_up(conn)) {
        return;
    }
    conn->backoff += conn->backoff < UINT8_MAX;
    tcp_output_probe(conn);
    if (conn->due_ns[TCP_TIMER_RETRANSMIT] == WHEEL_NEVER) {
        tcp_timer_set(conn, TCP_TIMER_PROBE, conn->stack->now_ns + tcp_rto_ns(conn));
    }
}

void tcp_timer_keepalive_start(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    if (stack->limits.keepalive_idle_ns != UINT64_MAX) {
        tcp_timer_set(conn, TCP_TIMER_KEEPALIVE, stack->now_ns + stack->limits.keepalive_idle_ns);
    }
}

void tcp_timer_fin_wait_2(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    tcp_timer_set(conn, TCP_TIMER_STATE, stack->now_ns + stack->limits.fin_wait_2_ns);
}

void tcp_timer_linger(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    tcp_timer_set(conn, TCP_TIMER_STATE, stack->now_ns + stack->limits.linger_ns);
}

static void keepalive(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    const struct stack_limits *limits = &stack->limits;
    uint64_t due_ns = conn->last_heard_ns + limits->keepalive_idle_ns;
    if (stack->now_ns < due_ns || conn->snd_max != conn->snd_una) {
        /* Heard of, or retransmission asks already. */
        due_ns = due_ns > stack->now_ns ? due_ns : stack->now_ns + limits->keepalive_interval_ns;
        tcp_timer_set(conn, TCP_TIMER_KEEPALIVE, due_ns);
        return;
    }
    if (conn->keepalives >= limits->keepalive_probes) {
        stack->counters.tcp_aborts_on_timeout++;
        tcp_conn_abort(conn, -ETIMEDOUT);
        return;
    }
    conn->keepalives++;
    tcp_output_keepalive(conn);
    tcp_timer_set(conn, TCP_TIMER_KEEPALIVE, stack->now_ns + limits->keepalive_interval_ns);
}

/* The state has lasted as long as it may. */
static void state_over(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    switch ((enum tcp_state)conn->state) {
    case TCP_SYN_SENT:
    case TCP_SYN_RECEIVED:
        stack->counters.tcp_attempt_fails++;
        tcp_conn_end(conn, -ETIMEDOUT);
        break;
    case TCP_FIN_WAIT_2:
        stack->counters.tcp_aborts_on_timeout++;
        tcp_conn_abort(conn, -ETIMEDOUT);
        break;
    case TCP_ESTABLISHED:
    case TCP_FIN_WAIT_1:
    case TCP_CLOSE_WAIT:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        stack->counters.tcp_aborts_on_linger++;
        tcp_conn_abort(conn, -ETIMEDOUT);
        break;
    case TCP_CLOSED:
        break;
    }
}

static void due(struct tcp_conn *conn, enum tcp_timer timer)
{
    switch (timer) {
    case TCP_TIMER_TAIL:
        tcp_tail_due(conn);
        break;
    case TCP_TIMER_REORDER:
        tcp_recovery_reordered(conn);
        break;
    case TCP_TIMER_RETRANSMIT:
        retransmit(conn);
        break;
    case TCP_TIMER_PROBE:
        probe(conn);
        break;
    case TCP_TIMER_ACK:
        conn->stack->counters.tcp_delayed_acks++;
        conn->ack_now = true;
        tcp_output_wanted(conn);
        break;
    case TCP_TIMER_KEEPALIVE:
        keepalive(conn);
        break;
    case TCP_TIMER_STATE:
        state_over(conn);
        break;
    case TCP_TIMER_COUNT:
        break;
    }
}

static void fire(struct timer *timer, uint64_t now_ns)
{
    struct tcp_conn *conn = list_entry(timer, struct tcp_conn, timer);
    uint64_t next_ns = WHEEL_NEVER;
    conn->stack->now_ns = now_ns;
    for (unsigned i = 0; i < TCP_TIMER_COUNT && conn->state != TCP_CLOSED; i++) {
        if (conn->due_ns[i] <= now_ns) {
            conn->due_ns[i] = WHEEL_NEVER;
            due(conn, (enum tcp_timer)i);
        }
    }
    for (unsigned i = 0; i < TCP_TIMER_COUNT && conn->state != TCP_CLOSED; i++) {
        next_ns = conn->due_ns[i] < next_ns ? conn->due_ns[i] : next_ns;
    }
    if (next_ns != WHEEL_NEVER) {
        wheel_arm(conn->stack->wheel, timer, next_ns);
    }
}
