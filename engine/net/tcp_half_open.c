#include "engine/core/mutation.h"
#include "engine/net/stack_private.h"

#define FIRST_WAIT_MS 1000u              /* doubles with each SYN,ACK */
#define COOKIES_FOR_NS (120 * SECOND_NS) /* after the last was sent, one may still come back */

static struct tcp_half_open *entry_at(struct stack *stack, uint32_t index)
{
    return slab_at(&stack->tcp.half_opens, index);
}

/* All in one queue wait as long, so the first is the next that is due. */
static void queue_join(struct stack *stack, uint32_t index)
{
    struct tcp_half_open *entry = entry_at(stack, index);
    struct tcp_queue *queue = &stack->tcp.half_open_queues[entry->sends - 1];
    uint32_t wait_ms = FIRST_WAIT_MS << (entry->sends - 1);
    entry->due_ms = stack_now_ms(stack) + wait_ms;
    entry->next = SLAB_NONE;
    entry->prev = queue->last;
    if (queue->last == SLAB_NONE) {
        queue->first = index;
    } else {
        entry_at(stack, queue->last)->next = index;
    }
    queue->last = index;
    if (!timer_armed(&stack->tcp.half_open_timer)) {
        wheel_arm(stack->wheel, &stack->tcp.half_open_timer, stack->now_ns + FIRST_WAIT_MS * MS_NS);
    }
}

static void queue_leave(struct stack *stack, uint32_t index)
{
    struct tcp_half_open *entry = entry_at(stack, index);
    struct tcp_queue *queue = &stack->tcp.half_open_queues[entry->sends - 1];
    if (entry->prev == SLAB_NONE) {
        queue->first = entry->next;
    } else {
        entry_at(stack, entry->prev)->next = entry->next;
    }
    if (entry->next == SLAB_NONE) {
        queue->last = entry->prev;
    } else {
        entry_at(stack, entry->next)->prev = entry->prev;
    }
}

static void entry_forget(struct stack *stack, uint32_t index)
{
    struct tcp_half_open *entry = entry_at(stack, index);
    queue_leave(stack, index);
    tcp_table_remove(&stack->tcp.table, tcp_table_hash(&stack->tcp.table, &entry->tuple),
                     TCP_HALF_OPEN, index);
    slab_give(&stack->tcp.half_opens, index);
}

static void syn_ack_send(struct stack *stack, const struct tcp_half_open *entry, uint32_t ts_value)
{
    const uint32_t stamps[2] = {ts_value, entry->ts_recent};
    struct tcp_reply reply = {.seq = entry->iss,
                              .ack = entry->irs + 1,
                              .window = tcp_window_syn(stack),
                              .flags = TCP_SYN | TCP_ACK};
    reply.flags |= entry->ecn ? TCP_ECE : 0;
    uint8_t scale = entry->window_scale == TCP_SCALE_NONE ? TCP_SCALE_NONE : stack->tcp.rcv_scale;
    reply.options_bytes =
        (uint8_t)tcp_options_write_syn(reply.options, tcp_mss_of_link(stack, &entry->tuple.remote),
                                       scale, entry->sack, entry->timestamps ? stamps : NULL);
    tcp_reply(stack, &entry->tuple, &reply);
}

static uint32_t entry_timestamp(struct stack *stack, const struct tcp_half_open *entry)
{
    return tcp_timestamp_now(stack, tcp_timestamp_offset(stack, &entry->tuple));
}

static void entry_ack_send(struct stack *stack, const struct tcp_half_open *entry)
{
    bool scaled = entry->window_scale != TCP_SCALE_NONE;
    if (!tcp_challenge_allowed(stack)) {
        return;
    }
    struct tcp_reply reply = {
        .seq = entry->iss + 1,
        .ack = entry->irs + 1,
        .window = (uint16_t)(tcp_window_syn(stack) >> (scaled ? stack->tcp.rcv_scale : 0)),
        .flags = TCP_ACK};
    if (entry->timestamps) {
        reply.options_bytes = (uint8_t)tcp_options_write_timestamp(
            reply.options, entry_timestamp(stack, entry), entry->ts_recent);
    }
    stack->counters.tcp_challenge_acks++;
    tcp_reply(stack, &entry->tuple, &reply);
}

static void fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, tcp.half_open_timer);
    uint32_t now_ms;
    bool more = false;
    stack->now_ns = now_ns;
    now_ms = stack_now_ms(stack);
    for (unsigned level = TCP_HALF_OPEN_SENDS; level > 0; level--) {
        struct tcp_queue *queue = &stack->tcp.half_open_queues[level - 1];
        while (queue->first != SLAB_NONE &&
               seq_at_or_before(entry_at(stack, queue->first)->due_ms, now_ms)) {
            uint32_t index = queue->first;
            struct tcp_half_open *entry = entry_at(stack, index);
            if (level == TCP_HALF_OPEN_SENDS) {
                stack->counters.tcp_attempt_fails++;
                entry_forget(stack, index);
                continue;
            }
            queue_leave(stack, index);
            entry->sends++;
            stack->counters.tcp_retransmitted_segments++;
            syn_ack_send(stack, entry, entry_timestamp(stack, entry));
            queue_join(stack, index);
        }
        more |= queue->first != SLAB_NONE;
    }
    if (more) {
        wheel_arm(stack->wheel, timer, now_ns + FIRST_WAIT_MS / 4 * MS_NS);
    }
}

void tcp_half_open_setup(struct stack *stack)
{
    timer_init(&stack->tcp.half_open_timer, fire);
    for (unsigned i = 0; i < TCP_HALF_OPEN_SENDS; i++) {
        stack->tcp.half_open_queues[i] = (struct tcp_queue){SLAB_NONE, SLAB_NONE};
    }
}

void tcp_half_open_close(struct stack *stack)
{
    wheel_disarm(stack->wheel, &stack->tcp.half_open_timer);
}

static void cookie_send(struct stack *stack, const struct tcp_segment *segment, uint16_t mss)
{
    struct tcp_half_open entry = {.tuple = segment->tuple,
                                  .iss = tcp_cookie_make(stack, segment, mss),
                                  .irs = segment->seq,
                                  .ts_recent = segment->ts_value,
                                  .window_scale = TCP_SCALE_NONE,
                                  .timestamps = segment->has_timestamp};
    if (segment->has_timestamp) { /* only there is room to remember these */
        entry.window_scale = segment->window_scale;
        entry.sack = segment->sack_permitted;
        entry.ecn = tcp_ecn_syn_asks(stack, segment);
    }
    stack->tcp.cookie_sent_ns = stack->now_ns;
    stack->counters.tcp_syn_cookies_sent++;
    syn_ack_send(stack, &entry, tcp_cookie_timestamp(stack, segment));
}

static uint32_t first_number(struct stack *stack, const struct tcp_segment *segment)
{
    return segment->reuses
               ? tcp_initial_sequence_above(stack, &segment->tuple, segment->reused_snd_nxt)
               : tcp_initial_sequence(stack, &segment->tuple);
}

void tcp_half_open_syn(struct stack *stack, const struct tcp_segment *segment)
{
    struct ip_way way;
    uint16_t mss = segment->mss == 0 ? tcp_mss_default(&segment->tuple.remote) : segment->mss;
    if (stack->tcp.conns.used >= stack->limits.connection_max ||
        ip_route(stack, &segment->tuple.remote, &way) < 0) {
        stack->counters.tcp_half_open_drops++;
        return;
    }
    if (tcp_receive_is_short(stack)) { /* those that are there need what is left */
        stack->counters.tcp_syns_refused++;
        return;
    }
    uint32_t index = slab_take(&stack->tcp.half_opens);
    if (index == SLAB_NONE) {
        cookie_send(stack, segment, mss);
        return;
    }
    struct tcp_half_open *entry = entry_at(stack, index);
    *entry = (struct tcp_half_open){.tuple = segment->tuple,
                                    .iss = first_number(stack, segment),
                                    .irs = segment->seq,
                                    .ts_recent = segment->ts_value,
                                    .mss = mss,
                                    .window_scale = segment->window_scale,
                                    .timestamps = segment->has_timestamp,
                                    .sack = segment->sack_permitted,
                                    .ecn = tcp_ecn_syn_asks(stack, segment),
                                    .sends = 1};
    entry->ect = entry->ecn;
    tcp_table_add(&stack->tcp.table, segment->hash, TCP_HALF_OPEN, index);
    queue_join(stack, index);
    syn_ack_send(stack, entry, entry_timestamp(stack, entry));
}

/* The handshake is done. NULL: no room; the client will ask again. */
static struct tcp_conn *promote(struct stack *stack, const struct tcp_half_open *entry,
                                const struct tcp_segment *segment)
{
    struct tcp_listener *listener = tcp_listener_find(stack, &entry->tuple);
    struct tcp_conn *conn = tcp_conn_make(stack, &entry->tuple, segment->hash);
    const struct tcp_agreed agreed = {.mss = entry->mss,
                                      .window_scale = entry->window_scale,
                                      .timestamps = entry->timestamps,
                                      .sack = entry->sack,
                                      .ecn = entry->ecn,
                                      .ect = entry->ect};
    if (conn == NULL) {
        stack->counters.tcp_accept_overflows++;
        return NULL;
    }
    conn->iss = entry->iss;
    conn->irs = entry->irs;
    conn->rcv_nxt = entry->irs + 1;
    conn->rcv_edge = conn->rcv_nxt + tcp_window_syn(stack);
    conn->last_ack_sent = conn->rcv_nxt;
    conn->ts_recent = entry->ts_recent;
    conn->ts_recent_ms = stack_now_ms(stack);
    conn->snd_una = entry->iss + 1;
    conn->snd_nxt = conn->snd_una;
    conn->snd_max = conn->snd_una;
    conn->snd_wl1 = segment->seq - 1; /* so that this segment's window is taken */
    conn->rto_ms = entry->sends > 1 ? TCP_RTO_LOST_SYN_MS : conn->rto_ms;
    tcp_conn_agree(conn, &agreed);
    tcp_conn_established(conn);
    stack->counters.tcp_passive_opens++;
    conn->listener = listener;
    conn->accept_pending = true;
    tcp_event(conn, 0);
    return conn;
}

/* Segments that are no ACK of the SYN,ACK. True: it was one. */
static bool not_the_ack(struct stack *stack, uint32_t index, const struct tcp_segment *segment)
{
    struct tcp_half_open *entry = entry_at(stack, index);
    uint32_t within = segment->seq - (entry->irs + 1), window = tcp_window_syn(stack);
    /* Empty ones may stand at its edge, as in a connection: there a client is that has filled it. */
    bool in_window = within < window || (within == window && tcp_segment_length(segment) == 0);
    if ((segment->flags & TCP_RST) != 0) { /* RFC 5961 §3.2 */
        if (segment->seq == entry->irs + 1) {
            stack->counters.tcp_attempt_fails++;
            entry_forget(stack, index);
        } else if (in_window) {
            entry_ack_send(stack, entry);
        }
        return true;
    }
    if ((segment->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && segment->seq == entry->irs) {
        entry->ect &= tcp_ecn_syn_asks(stack, segment); /* RFC 3168 §6.1.1: it has given up */
        syn_ack_send(stack, entry, entry_timestamp(stack, entry)); /* ours was lost */
        queue_leave(stack, index); /* the client must have the time to answer this one too */
        queue_join(stack, index);
        return true;
    }
    if ((segment->flags & TCP_SYN) != 0 || !in_window) {
        entry_ack_send(stack, entry);
        return true;
    }
    return (segment->flags & TCP_ACK) == 0;
}

bool tcp_cookies_are_about(const struct stack *stack)
{
    return stack->tcp.cookie_sent_ns != 0 &&
           stack->now_ns - stack->tcp.cookie_sent_ns <= COOKIES_FOR_NS;
}

/* Does it answer a cookie that was sent lately? */
static bool cookie_read(struct stack *stack, const struct tcp_segment *segment,
                        struct tcp_half_open *entry)
{
    if (!tcp_cookies_are_about(stack)) {
        return false;
    }
    bool right = tcp_cookie_check(stack, segment, entry);
    stack->counters.tcp_syn_cookies_failed += !right;
    return right;
}

static struct tcp_conn *cookie_promote(struct stack *stack, const struct tcp_half_open *entry,
                                       const struct tcp_segment *segment)
{
    stack->counters.tcp_syn_cookies_received++;
    struct tcp_conn *conn = promote(stack, entry, segment);
    if (conn != NULL) {
        tcp_table_add(&stack->tcp.table, conn->hash, TCP_CONN, conn->index);
        conn->in_table = true;
    }
    return conn;
}

struct tcp_conn *tcp_half_open_segment(struct stack *stack, uint32_t index,
                                       const struct tcp_segment *segment)
{
    struct tcp_half_open *entry = entry_at(stack, index), cookie;
    if (not_the_ack(stack, index, segment)) {
        return NULL;
    }
    if (entry->timestamps &&
        (!segment->has_timestamp || seq_before(segment->ts_value, entry->ts_recent))) {
        stack->counters.tcp_paws_refused++;
        return NULL;
    }
    if (tcp_listener_find(stack, &entry->tuple) == NULL) { /* it has stopped listening */
        entry_forget(stack, index);
        tcp_reply_reset(stack, segment);
        return NULL;
    }
    if (segment->ack != entry->iss + 1) {
        /* A SYN of it may have come before there was room for the entry. */
        if (cookie_read(stack, segment, &cookie)) {
            entry_forget(stack, index);
            return cookie_promote(stack, &cookie, segment);
        }
        tcp_reply_reset(stack, segment);
        return NULL;
    }
    struct tcp_conn *conn = promote(stack, entry, segment);
    if (conn == NULL) {
        return NULL;
    }
    queue_leave(stack, index);
    tcp_table_replace(&stack->tcp.table, segment->hash, (struct tcp_found){TCP_HALF_OPEN, index},
                      (struct tcp_found){TCP_CONN, conn->index});
    if (!MUTATED(HALF_OPEN_LEAK)) {
        slab_give(&stack->tcp.half_opens, index);
    }
    conn->in_table = true;
    return conn;
}

struct tcp_conn *tcp_cookie_arrives(struct stack *stack, const struct tcp_segment *segment)
{
    struct tcp_half_open entry;
    return cookie_read(stack, segment, &entry) ? cookie_promote(stack, &entry, segment) : NULL;
}
