#include "engine/net/stack_facts.h"
#include "engine/net/stack_private.h"

#define REACHABLE_NS (30 * SECOND_NS) /* RFC 4861 §10 */

const char *tcp_facts_state_name(enum tcp_facts_state state)
{
    static const char *const names[TCP_FACTS_STATES] = {
        [TCP_FACTS_LISTEN] = "LISTEN",         [TCP_FACTS_SYN_SENT] = "SYN-SENT",
        [TCP_FACTS_SYN_RECEIVED] = "SYN-RECV", [TCP_FACTS_ESTABLISHED] = "ESTABLISHED",
        [TCP_FACTS_FIN_WAIT_1] = "FIN-WAIT-1", [TCP_FACTS_FIN_WAIT_2] = "FIN-WAIT-2",
        [TCP_FACTS_CLOSE_WAIT] = "CLOSE-WAIT", [TCP_FACTS_CLOSING] = "CLOSING",
        [TCP_FACTS_LAST_ACK] = "LAST-ACK",     [TCP_FACTS_TIME_WAIT] = "TIME-WAIT",
        [TCP_FACTS_CLOSED] = "CLOSED"};
    return names[state];
}

static enum tcp_facts_state state_of(enum tcp_state state)
{
    switch (state) {
    case TCP_SYN_SENT:
        return TCP_FACTS_SYN_SENT;
    case TCP_SYN_RECEIVED:
        return TCP_FACTS_SYN_RECEIVED;
    case TCP_ESTABLISHED:
        return TCP_FACTS_ESTABLISHED;
    case TCP_FIN_WAIT_1:
        return TCP_FACTS_FIN_WAIT_1;
    case TCP_FIN_WAIT_2:
        return TCP_FACTS_FIN_WAIT_2;
    case TCP_CLOSE_WAIT:
        return TCP_FACTS_CLOSE_WAIT;
    case TCP_CLOSING:
        return TCP_FACTS_CLOSING;
    case TCP_LAST_ACK:
        return TCP_FACTS_LAST_ACK;
    case TCP_CLOSED:
        break;
    }
    return TCP_FACTS_CLOSED;
}

/* ---- filters ---- */

static bool endpoint_passes(const struct endpoint *at, const struct network_prefix *prefix,
                            uint16_t port)
{
    return (prefix->address.family == ENDPOINT_NONE || network_prefix_holds(prefix, at)) &&
           (port == 0 || port == at->port);
}

static bool tuple_passes(const struct tcp_facts_filter *filter, const struct endpoint *local,
                         const struct endpoint *remote)
{
    return endpoint_passes(local, &filter->local, filter->local_port) &&
           endpoint_passes(remote, &filter->remote, filter->remote_port);
}

static bool passes(const struct tcp_facts_filter *filter, const struct tcp_facts *facts)
{
    return (filter->states == 0 || (filter->states >> facts->state & 1) != 0) &&
           tuple_passes(filter, &facts->local, &facts->remote);
}

/* ---- connections ---- */

static uint64_t ms_until(const struct stack *stack, uint64_t due_ns)
{
    return due_ns > stack->now_ns ? (due_ns - stack->now_ns) / MS_NS : 0;
}

static uint64_t ms_until_32(const struct stack *stack, uint32_t due_ms)
{
    int32_t left = (int32_t)(due_ms - stack_now_ms(stack));
    return left > 0 ? (uint64_t)left : 0;
}

static void tuple_fill(struct tcp_facts *facts, const struct tcp_tuple *tuple)
{
    endpoint_of_ip_address(&facts->local, &tuple->local, tuple->local_port);
    endpoint_of_ip_address(&facts->remote, &tuple->remote, tuple->remote_port);
}

static void timer_fill(struct tcp_facts *facts, const struct tcp_conn *conn)
{
    static const char *const names[TCP_TIMER_COUNT] = {
        [TCP_TIMER_TAIL] = "tail",     [TCP_TIMER_REORDER] = "reorder",
        [TCP_TIMER_RETRANSMIT] = "on", [TCP_TIMER_PROBE] = "probe",
        [TCP_TIMER_ACK] = "delack",    [TCP_TIMER_KEEPALIVE] = "keepalive",
        [TCP_TIMER_STATE] = "state"};
    uint64_t due_ns = WHEEL_NEVER;
    for (unsigned i = 0; i < TCP_TIMER_COUNT; i++) {
        if (conn->due_ns[i] < due_ns) {
            due_ns = conn->due_ns[i];
            facts->timer = names[i];
            facts->timer_ms = ms_until(conn->stack, due_ns);
        }
    }
}

static void flight_fill(struct tcp_facts *facts, const struct tcp_conn *conn)
{
    uint32_t under_way = conn->state == TCP_SYN_SENT ? 0 : tcp_flight(conn);
    facts->unacked_bytes = conn->snd_max - conn->snd_una;
    facts->sacked_bytes = conn->sacked.sacked_bytes;
    uint32_t accounted = under_way + facts->sacked_bytes;
    if (conn->recovery != TCP_OPEN && facts->unacked_bytes > accounted) {
        facts->lost_bytes = facts->unacked_bytes - accounted;
    }
}

static void conn_fill(struct tcp_facts *facts, const struct tcp_conn *conn)
{
    static const char *const recoveries[] = {"open", "fast", "loss"};
    const struct stack *stack = conn->stack;
    *facts = (struct tcp_facts){
        .state = state_of((enum tcp_state)conn->state),
        .whole = true,
        .orphan = conn->released,
        .congestion = conn->congestion.ops == NULL ? "none" : conn->congestion.ops->name,
        .recovery = conn->recovery < 3 ? recoveries[conn->recovery] : "other",
        .cwnd = conn->congestion.cwnd,
        .ssthresh = conn->congestion.ssthresh,
        .srtt_us = conn->srtt_us,
        .rttvar_us = conn->rttvar_us,
        .rto_ms = (uint32_t)(tcp_rto_ns(conn) / MS_NS),
        .backoff = conn->backoff,
        .mss = conn->mss,
        .received_mss = conn->rcv_mss,
        .snd_wnd = conn->snd_wnd,
        .rcv_wnd = conn->rcv_edge - conn->rcv_nxt,
        .snd_scale = conn->snd_scale,
        .rcv_scale = conn->rcv_scale,
        .timestamps = conn->timestamps,
        .sack = conn->sack,
        .receive_queue_bytes = conn->received.bytes,
        .send_queue_bytes = conn->queue.bytes,
        .early_segments = conn->received.early_count,
        .bytes_received = conn->bytes_received,
        .bytes_acked = conn->bytes_acked,
        .segments_in = conn->segments_in,
        .segments_out = conn->segments_out,
        .segments_again = conn->segments_again,
        .last_sent_ms = (stack->now_ns - conn->last_sent_ns) / MS_NS,
        .last_heard_ms = (stack->now_ns - conn->last_heard_ns) / MS_NS};
    tuple_fill(facts, &conn->tuple);
    if (conn->mss > 0) { /* the headers that a full segment has besides */
        facts->path_mtu = conn->mss + (uint32_t)conn->header_bytes - ETH_BYTES;
    }
    timer_fill(facts, conn);
    flight_fill(facts, conn);
}

static bool listener_fill(struct tcp_facts *facts, const struct stack *stack, uint32_t index)
{
    const struct tcp_listener *listener = &stack->tcp.listeners[index];
    *facts = (struct tcp_facts){.state = TCP_FACTS_LISTEN};
    facts->local = listener->request.at;
    return listener->port != 0;
}

/* Is the entry in use? The table knows. */
static bool in_table(const struct stack *stack, const struct tcp_tuple *tuple, enum tcp_kind kind,
                     uint32_t index)
{
    const struct tcp_table *table = &stack->tcp.table;
    struct tcp_found found = tcp_table_find(table, tuple, tcp_table_hash(table, tuple));
    return found.kind == kind && found.index == index;
}

static bool half_open_fill(struct tcp_facts *facts, const struct stack *stack, uint32_t index)
{
    const struct tcp_half_open *entry = slab_at(&stack->tcp.half_opens, index);
    *facts = (struct tcp_facts){.state = TCP_FACTS_SYN_RECEIVED,
                                .timer = "on",
                                .timer_ms = ms_until_32(stack, entry->due_ms)};
    tuple_fill(facts, &entry->tuple);
    return in_table(stack, &entry->tuple, TCP_HALF_OPEN, index);
}

static bool time_wait_fill(struct tcp_facts *facts, const struct stack *stack, uint32_t index)
{
    const struct tcp_time_wait *entry = slab_at(&stack->tcp.time_waits, index);
    *facts = (struct tcp_facts){.state = TCP_FACTS_TIME_WAIT,
                                .timer = "timewait",
                                .timer_ms = ms_until_32(stack, entry->due_ms)};
    tuple_fill(facts, &entry->tuple);
    return in_table(stack, &entry->tuple, TCP_TIME_WAITING, index);
}

static uint32_t slab_places(const struct slab *slab)
{
    uint32_t grown = slab->block_count << slab->block_shift;
    return grown < slab->max ? grown : slab->max;
}

/* Each kind's places follow those of the kind before, numbered by its bound, so that a place stays
 * what it is while slabs grow. */
static bool place_fill(struct tcp_facts *facts, const struct stack *stack, uint32_t *place)
{
    const struct tcp *tcp = &stack->tcp;
    uint32_t index = *place;
    (*place)++;
    if (index < stack->limits.listener_max) {
        return listener_fill(facts, stack, index);
    }
    index -= stack->limits.listener_max;
    if (index < tcp->conns.max) {
        const struct tcp_conn *conn =
            index < slab_places(&tcp->conns) ? slab_at(&tcp->conns, index) : NULL;
        if (conn == NULL) {
            *place += tcp->conns.max - index - 1; /* the rest was never used */
            return false;
        }
        if (conn->stack != stack) {
            return false;
        }
        conn_fill(facts, conn);
        return true;
    }
    index -= tcp->conns.max;
    if (index < tcp->half_opens.max) {
        if (index >= slab_places(&tcp->half_opens)) {
            *place += tcp->half_opens.max - index - 1;
            return false;
        }
        return half_open_fill(facts, stack, index);
    }
    index -= tcp->half_opens.max;
    if (index < slab_places(&tcp->time_waits)) {
        return time_wait_fill(facts, stack, index);
    }
    *place = STACK_FACTS_END;
    return false;
}

size_t stack_tcp_facts(const struct network *network, const struct tcp_facts_filter *filter,
                       uint32_t *cursor, struct tcp_facts *facts, size_t max)
{
    const struct stack *stack = stack_of(network);
    size_t count = 0;
    for (unsigned looks = 0; count < max && looks < STACK_FACTS_LOOKS && *cursor != STACK_FACTS_END;
         looks++) {
        count += place_fill(&facts[count], stack, cursor) && passes(filter, &facts[count]);
    }
    return count;
}

/* ---- neighbours and routes ---- */

static void neighbour_fill(struct neighbour_facts *facts, const struct stack *stack,
                           const struct neighbour *entry)
{
    *facts = (struct neighbour_facts){.waiting = entry->waiting_count};
    endpoint_of_ip_address(&facts->address, &entry->address, 0);
    switch ((enum neighbour_state)entry->state) {
    case NEIGHBOUR_KNOWN:
        facts->has_mac = true;
        memcpy(facts->mac, entry->mac, sizeof(facts->mac));
        facts->confirmed_ms = (stack->now_ns - entry->confirmed_ns) / MS_NS;
        facts->state = stack->now_ns - entry->confirmed_ns < REACHABLE_NS ? "REACHABLE" : "STALE";
        break;
    case NEIGHBOUR_ASKED:
        facts->state = "INCOMPLETE";
        break;
    case NEIGHBOUR_FAILED:
    case NEIGHBOUR_FREE:
        facts->state = "FAILED";
        break;
    }
}

size_t stack_neighbour_facts(const struct network *network, uint32_t *cursor,
                             struct neighbour_facts *facts, size_t max)
{
    const struct stack *stack = stack_of(network);
    size_t count = 0;
    for (; *cursor < NEIGHBOUR_SETS * NEIGHBOUR_WAYS && count < max; (*cursor)++) {
        const struct neighbour *entry =
            &stack->neighbours.sets[*cursor / NEIGHBOUR_WAYS][*cursor % NEIGHBOUR_WAYS];
        /* One that was never asked is only a place that a connection holds. */
        if (entry->state != NEIGHBOUR_FREE && (entry->asked_ns | entry->confirmed_ns) != 0) {
            neighbour_fill(&facts[count++], stack, entry);
        }
    }
    *cursor = *cursor < NEIGHBOUR_SETS * NEIGHBOUR_WAYS ? *cursor : STACK_FACTS_END;
    return count;
}

/* The prefix without what follows it. */
static struct ip_address masked(const struct route *route)
{
    struct ip_address prefix = route->prefix;
    for (unsigned i = 0; i < 4; i++) {
        unsigned bits = route->length > 32 * i ? route->length - 32 * i : 0;
        uint32_t mask = bits == 0 ? 0 : bits >= 32 ? UINT32_MAX : UINT32_MAX << (32 - bits);
        prefix.words[i] &= htonl(mask);
    }
    return prefix;
}

static void route_fill(struct route_facts *facts, const struct stack *stack,
                       const struct route *route)
{
    static const char *const origins[] = {[ROUTE_CONNECTED] = "connected",
                                          [ROUTE_STATIC] = "static",
                                          [ROUTE_ADVERTISED] = "advertised"};
    bool ipv4 = route->length >= 96 && ip_address_is_ipv4(&route->prefix);
    *facts =
        (struct route_facts){.to = {.length = (uint8_t)(ipv4 ? route->length - 96 : route->length)},
                             .origin = origins[route->origin]};
    struct ip_address prefix = masked(route);
    endpoint_of_ip_address(&facts->to.address, &prefix, 0);
    if (!route_is_on_link(route)) {
        endpoint_of_ip_address(&facts->via, &route->via, 0);
    }
    endpoint_of_ip_address(&facts->source, &route->source, 0);
    if (route->expires_ns != UINT64_MAX && route->expires_ns > stack->now_ns) {
        facts->expires_s = (route->expires_ns - stack->now_ns) / SECOND_NS;
    }
}

size_t stack_route_facts(const struct network *network, uint32_t *cursor, struct route_facts *facts,
                         size_t max)
{
    const struct stack *stack = stack_of(network);
    const struct routes *routes = &stack->routes;
    size_t count = 0;
    for (; *cursor < routes->count && count < max; (*cursor)++) {
        route_fill(&facts[count++], stack, &routes->list[*cursor]);
    }
    *cursor = *cursor < routes->count ? *cursor : STACK_FACTS_END;
    return count;
}

/* ---- traces ---- */

bool stack_trace_kept(const struct network *network, const struct tcp_facts_filter *filter,
                      uint32_t *cursor, struct trace_kept *copy)
{
    const struct trace *trace = &stack_of(network)->trace;
    const struct trace_kept *kept;
    while ((kept = trace_kept_at(trace, *cursor)) != NULL) {
        struct tcp_facts facts;
        (*cursor)++;
        tuple_fill(&facts, &kept->tuple);
        if (tuple_passes(filter, &facts.local, &facts.remote)) {
            *copy = *kept;
            return true;
        }
    }
    *cursor = STACK_FACTS_END;
    return false;
}

bool stack_trace_live(const struct network *network, const struct tcp_facts_filter *filter,
                      uint32_t *cursor, struct trace_kept *copy)
{
    const struct stack *stack = stack_of(network);
    const struct slab *conns = &stack->tcp.conns;
    for (unsigned looks = 0; looks < STACK_FACTS_LOOKS && *cursor < slab_places(conns); looks++) {
        const struct tcp_conn *conn = slab_at(conns, (*cursor)++);
        struct tcp_facts facts;
        if (conn->stack != stack || conn->trace == NULL) {
            continue;
        }
        conn_fill(&facts, conn);
        if (passes(filter, &facts)) {
            return trace_copy(conn, copy);
        }
    }
    *cursor = *cursor < slab_places(conns) ? *cursor : STACK_FACTS_END;
    return false;
}
