#include "engine/net/trace.h"
#include "engine/net/stack_private.h"
#include "engine/net/tcp_frame.h"

#define TICK_SHIFT 10u /* ns to ticks */
#define DELTA_BITS 24u
#define DELTA_MAX ((1u << DELTA_BITS) - 1)
#define GAP_SHIFT 10u
#define SILENT_TICKS (SECOND_NS >> TICK_SHIFT)
#define LOOKS 4u /* for a silent ring, at a time */
#define STARVED_NS (10 * MS_NS)
#define KEPT_A_SECOND 8u

int trace_open(struct trace *trace)
{
    trace->kept = calloc(TRACE_KEPT_MAX, sizeof(trace->kept[0]));
    return trace->kept == NULL
               ? -ENOMEM
               : slab_open(&trace->rings, sizeof(struct trace_ring), TRACE_RINGS_MAX);
}

void trace_close(struct trace *trace)
{
    slab_close(&trace->rings);
    free(trace->kept);
    trace->kept = NULL;
}

static uint64_t tick_of(const struct stack *stack)
{
    return stack->now_ns >> TICK_SHIFT;
}

/* ---- writing ---- */

static inline void store(struct trace_ring *ring, enum trace_kind kind, uint32_t middle,
                         uint32_t value)
{
    ring->records[ring->next] = (uint64_t)value << 32 | middle << 8 | kind;
    ring->next = ring->next + 1 == TRACE_RECORDS ? 0 : ring->next + 1;
}

static inline void put(struct trace_ring *ring, const struct stack *stack, enum trace_kind kind,
                       uint32_t value)
{
    uint64_t tick = tick_of(stack), delta = tick - ring->tick;
    if (__builtin_expect(delta > DELTA_MAX, 0)) {
        uint64_t gap = delta >> GAP_SHIFT;
        store(ring, TRACE_GAP, 0, gap < UINT32_MAX ? (uint32_t)gap : UINT32_MAX);
        delta &= (1u << GAP_SHIFT) - 1;
    }
    ring->tick = tick;
    store(ring, kind, (uint32_t)delta, value);
}

static void put_more(struct trace_ring *ring, uint32_t length, uint8_t flags, uint32_t ack)
{
    length = length < UINT16_MAX ? length : UINT16_MAX;
    store(ring, TRACE_MORE, length | (uint32_t)flags << 16, ack);
}

static uint32_t condition_of(const struct tcp_conn *conn)
{
    return conn->state | (uint32_t)conn->recovery << 8 | (uint32_t)conn->backoff << 16 |
           (uint32_t)(conn->snd_wnd == 0) << 24 | (uint32_t)(conn->rcv_edge == conn->rcv_nxt) << 25;
}

static void ring_begin(struct trace_ring *ring, struct tcp_conn *conn)
{
    uint32_t index = ring->index;
    memset(ring, 0, sizeof(*ring));
    ring->index = index;
    ring->conn = conn;
    ring->tick = tick_of(conn->stack);
    ring->condition = ~condition_of(conn);
    conn->trace = ring;
}

/* Bounded: a few looks at a time, and after a failure none for a while. */
static struct trace_ring *silent_ring(struct stack *stack)
{
    struct trace *trace = &stack->trace;
    for (unsigned i = 0; i < LOOKS; i++) {
        struct trace_ring *ring = slab_at(&trace->rings, trace->hand++ % trace->rings.used);
        if (tick_of(stack) - ring->tick > SILENT_TICKS) {
            return ring;
        }
    }
    trace->starved_ns = stack->now_ns + STARVED_NS;
    return NULL;
}

static struct trace_ring *ring_take(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    struct trace *trace = &stack->trace;
    if (stack->now_ns < trace->starved_ns || conn->state == TCP_CLOSED) {
        stack->counters.trace_missed++;
        return NULL;
    }
    uint32_t index = slab_take(&trace->rings);
    struct trace_ring *ring = NULL;
    if (index != SLAB_NONE) {
        ring = slab_at(&trace->rings, index);
        ring->index = index;
    } else if (trace->rings.used > 0) { /* all of them are in use */
        ring = silent_ring(stack);
    }
    if (ring == NULL) {
        stack->counters.trace_missed++;
        return NULL;
    }
    if (index == SLAB_NONE) {
        ring->conn->trace = NULL;
        stack->counters.trace_rings_moved++;
    }
    ring_begin(ring, conn);
    return ring;
}

static inline struct trace_ring *ring_of(struct tcp_conn *conn)
{
    return __builtin_expect(conn->trace != NULL, 1) ? conn->trace : ring_take(conn);
}

static void copy_fill(const struct tcp_conn *conn, struct trace_kept *copy)
{
    const struct trace_ring *ring = conn->trace;
    copy->tuple = conn->tuple;
    copy->iss = conn->iss;
    copy->irs = conn->irs;
    copy->at_ns = conn->stack->now_ns;
    copy->reason = TRACE_ASKED;
    copy->error = 0;
    copy->tick = ring->tick;
    copy->next = ring->next;
    memcpy(copy->records, ring->records, sizeof(copy->records));
}

/* At a bounded rate for each reason, so that losses everywhere do not wash out a failure. */
static void keep(struct tcp_conn *conn, enum trace_reason reason, int error)
{
    struct stack *stack = conn->stack;
    struct trace *trace = &stack->trace;
    if (stack->now_ns - trace->budget_ns >= SECOND_NS || trace->kept_count == 0) {
        trace->budget_ns = stack->now_ns;
        trace->budget[TRACE_RECOVERED] = trace->budget[TRACE_FAILED] = KEPT_A_SECOND;
    }
    if (trace->budget[reason] == 0) {
        stack->counters.trace_not_kept++;
        return;
    }
    trace->budget[reason]--;
    struct trace_kept *copy = &trace->kept[trace->kept_count++ % TRACE_KEPT_MAX];
    copy_fill(conn, copy);
    copy->reason = reason;
    copy->error = error;
    stack->counters.trace_kept++;
}

static void put_condition(struct tcp_conn *conn, struct trace_ring *ring, uint32_t now)
{
    const struct stack *stack = conn->stack;
    uint32_t before = ring->condition, changed = before ^ now;
    ring->condition = now;
    if ((changed & 0xff) != 0) {
        put(ring, stack, TRACE_STATE, conn->state);
    }
    if ((changed & 0x10000000) != 0) { /* the first of this ring: the rest is as usual */
        return;
    }
    if ((changed & 0xff0000) != 0 && conn->backoff > 0) {
        put(ring, stack, TRACE_BACKOFF, conn->backoff);
    }
    if ((changed & 0x1000000) != 0) {
        put(ring, stack, TRACE_PEER_WINDOW, conn->snd_wnd);
    }
    if ((changed & 0x2000000) != 0) {
        put(ring, stack, TRACE_OWN_WINDOW, conn->rcv_edge - conn->rcv_nxt);
    }
    if ((changed & 0xff00) != 0) {
        put(ring, stack, TRACE_RECOVERY, conn->recovery);
        if (conn->recovery == TCP_OPEN) {
            keep(conn, TRACE_RECOVERED, 0);
        }
    }
}

/* What has changed since the last record of it. */
static inline void put_changes(struct tcp_conn *conn, struct trace_ring *ring)
{
    uint32_t condition = condition_of(conn);
    if (__builtin_expect(condition != ring->condition, 0)) {
        put_condition(conn, ring, condition);
    }
    if (__builtin_expect(conn->congestion.cwnd != ring->cwnd, 0)) {
        ring->cwnd = conn->congestion.cwnd;
        put(ring, conn->stack, TRACE_CWND, ring->cwnd);
    }
    if (__builtin_expect(conn->congestion.ssthresh != ring->ssthresh, 0)) {
        ring->ssthresh = conn->congestion.ssthresh;
        put(ring, conn->stack, TRACE_SSTHRESH, ring->ssthresh);
    }
}

void trace_segment_in(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    struct trace_ring *ring = ring_of(conn);
    conn->segments_in++;
    if (ring != NULL) {
        put(ring, conn->stack, TRACE_IN, segment->seq - conn->irs);
        put_more(ring, segment->payload_bytes, segment->flags, segment->ack - conn->iss);
    }
}

void trace_segment_out(struct tcp_conn *conn, const struct tcp_departure *departure)
{
    struct trace_ring *ring = ring_of(conn);
    bool again = seq_before(departure->seq, conn->snd_max) && departure->bytes > 0;
    conn->segments_out++;
    conn->segments_again += again;
    if (ring != NULL) {
        put_changes(conn, ring);
        put(ring, conn->stack, again ? TRACE_AGAIN : TRACE_OUT, departure->seq - conn->iss);
        put_more(ring, departure->bytes, departure->flags, conn->rcv_nxt - conn->irs);
    }
}

void trace_event(struct tcp_conn *conn, enum trace_kind kind, uint32_t value)
{
    struct trace_ring *ring = ring_of(conn);
    if (ring != NULL) {
        put_changes(conn, ring);
        put(ring, conn->stack, kind, value);
    }
}

void trace_end(struct tcp_conn *conn, int error)
{
    struct trace_ring *ring = conn->trace;
    if (ring == NULL) {
        return;
    }
    put_changes(conn, ring);
    put(ring, conn->stack, TRACE_END, (uint32_t)-error);
    if (error < 0 && conn->state != TCP_SYN_SENT) {
        keep(conn, TRACE_FAILED, error);
    }
    conn->trace = NULL;
    ring->conn = NULL;
    slab_give(&conn->stack->trace.rings, ring->index);
}

bool trace_copy(const struct tcp_conn *conn, struct trace_kept *copy)
{
    if (conn->trace == NULL) {
        return false;
    }
    copy_fill(conn, copy);
    return true;
}

const struct trace_kept *trace_kept_at(const struct trace *trace, uint32_t number)
{
    if (number >= TRACE_KEPT_MAX || number >= trace->kept_count) {
        return NULL;
    }
    return &trace->kept[(trace->kept_count - 1 - number) % TRACE_KEPT_MAX];
}
