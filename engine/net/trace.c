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
#define COLD __attribute__((cold, noinline)) /* so that the usual way saves no registers */

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

static inline void store(struct trace_ring *ring, uint32_t head, uint32_t value)
{
    struct trace_record *next = ring->next;
    *next = (struct trace_record){head, value};
    ring->next = next + 1 == ring->records + TRACE_RECORDS ? ring->records : next + 1;
}

/* More time than a record can say: returns what is left of it. */
static COLD uint32_t put_gap(struct trace_ring *ring, uint64_t delta)
{
    uint64_t gap = delta >> GAP_SHIFT;
    store(ring, TRACE_GAP, gap < UINT32_MAX ? (uint32_t)gap : UINT32_MAX);
    return delta & ((1u << GAP_SHIFT) - 1);
}

static inline uint32_t time_passed(struct trace_ring *ring, const struct stack *stack)
{
    uint64_t tick = tick_of(stack), delta = tick - ring->tick;
    ring->tick = tick;
    return __builtin_expect(delta > DELTA_MAX, 0) ? put_gap(ring, delta) : (uint32_t)delta;
}

static inline void put(struct trace_ring *ring, const struct stack *stack, enum trace_kind kind,
                       uint32_t value)
{
    store(ring, time_passed(ring, stack) << 8 | kind, value);
}

struct half { /* of a segment: what its second record says */
    uint32_t length, ack;
    uint8_t flags;
};

/* Two records, which mostly lie side by side. */
static inline void put_segment(struct trace_ring *ring, const struct stack *stack,
                               enum trace_kind kind, uint32_t seq, struct half half)
{
    uint32_t head = time_passed(ring, stack) << 8 | kind;
    uint32_t more = (uint32_t)half.flags << 24 | (half.length & 0xffff) << 8 | TRACE_MORE;
    struct trace_record *next = ring->next;
    if (__builtin_expect(next < ring->records + TRACE_RECORDS - 2, 1)) {
        next[0] = (struct trace_record){head, seq};
        next[1] = (struct trace_record){more, half.ack};
        ring->next = next + 2;
    } else {
        store(ring, head, seq);
        store(ring, more, half.ack);
    }
}

static inline uint32_t condition_of(const struct tcp_conn *conn)
{
    return conn->state | (uint32_t)conn->recovery << 8 | (uint32_t)conn->backoff << 16 |
           (uint32_t)(conn->snd_wnd == 0) << 24 | (uint32_t)(conn->rcv_edge == conn->rcv_nxt) << 25;
}

static void ring_begin(struct trace_ring *ring, struct tcp_conn *conn)
{
    uint32_t index = ring->index;
    memset(ring, 0, sizeof(*ring));
    ring->index = index;
    ring->next = ring->records;
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

static COLD struct trace_ring *ring_take(struct tcp_conn *conn)
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
    copy->next = (uint32_t)(ring->next - ring->records);
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

static COLD void put_condition(struct tcp_conn *conn, struct trace_ring *ring, uint32_t now)
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

static COLD void put_congestion(struct tcp_conn *conn, struct trace_ring *ring)
{
    if (conn->congestion.cwnd != ring->cwnd) {
        ring->cwnd = conn->congestion.cwnd;
        put(ring, conn->stack, TRACE_CWND, ring->cwnd);
    }
    if (conn->congestion.ssthresh != ring->ssthresh) {
        ring->ssthresh = conn->congestion.ssthresh;
        put(ring, conn->stack, TRACE_SSTHRESH, ring->ssthresh);
    }
}

static inline bool changed(const struct tcp_conn *conn, const struct trace_ring *ring)
{
    return ((condition_of(conn) ^ ring->condition) | (conn->congestion.cwnd ^ ring->cwnd) |
            (conn->congestion.ssthresh ^ ring->ssthresh)) != 0;
}

/* What has changed since the last record of it. */
static COLD void put_changes(struct tcp_conn *conn, struct trace_ring *ring)
{
    uint32_t condition = condition_of(conn);
    if (condition != ring->condition) {
        put_condition(conn, ring, condition);
    }
    put_congestion(conn, ring);
}

static inline void put_in(struct trace_ring *ring, const struct tcp_conn *conn,
                          const struct tcp_segment *segment)
{
    put_segment(ring, conn->stack, TRACE_IN, segment->seq - conn->irs,
                (struct half){segment->payload_bytes, segment->ack - conn->iss, segment->flags});
}

static COLD void first_in(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    struct trace_ring *ring = ring_take(conn);
    if (ring != NULL) {
        put_in(ring, conn, segment);
    }
}

void trace_segment_in(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    conn->segments_in++;
    if (__builtin_expect(conn->trace != NULL, 1)) {
        put_in(conn->trace, conn, segment);
    } else {
        first_in(conn, segment);
    }
}

static inline void put_out(struct trace_ring *ring, const struct tcp_conn *conn,
                           const struct tcp_departure *departure, enum trace_kind kind)
{
    put_segment(ring, conn->stack, kind, departure->seq - conn->iss,
                (struct half){departure->bytes, conn->rcv_nxt - conn->irs, departure->flags});
}

static COLD void changed_out(struct tcp_conn *conn, const struct tcp_departure *departure,
                             enum trace_kind kind)
{
    struct trace_ring *ring = ring_of(conn);
    if (ring != NULL) {
        put_changes(conn, ring);
        put_out(ring, conn, departure, kind);
    }
}

void trace_segment_out(struct tcp_conn *conn, const struct tcp_departure *departure)
{
    struct trace_ring *ring = conn->trace;
    enum trace_kind kind = TRACE_OUT;
    conn->segments_out++;
    if (departure->bytes > 0 && seq_before(departure->seq, conn->snd_max)) {
        conn->segments_again++;
        kind = TRACE_AGAIN;
    }
    if (__builtin_expect(ring != NULL && !changed(conn, ring), 1)) {
        put_out(ring, conn, departure, kind);
    } else {
        changed_out(conn, departure, kind);
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
