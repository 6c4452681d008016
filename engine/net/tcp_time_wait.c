#include "engine/net/stack_private.h"

#define ACK_EVERY_MS 200u /* answers to old duplicates, for each entry */

static struct tcp_time_wait *entry_at(struct stack *stack, uint32_t index)
{
    return slab_at(&stack->tcp.time_waits, index);
}

static void queue_leave(struct stack *stack, uint32_t index)
{
    struct tcp_time_wait *entry = entry_at(stack, index);
    struct tcp_queue *queue = &stack->tcp.time_wait_queue;
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

/* All wait as long, so the first is the next that is due. */
static void queue_join(struct stack *stack, uint32_t index)
{
    struct tcp_time_wait *entry = entry_at(stack, index);
    struct tcp_queue *queue = &stack->tcp.time_wait_queue;
    entry->due_ms = stack_now_ms(stack) + (uint32_t)(stack->limits.time_wait_ns / MS_NS);
    entry->next = SLAB_NONE;
    entry->prev = queue->last;
    if (queue->last == SLAB_NONE) {
        queue->first = index;
    } else {
        entry_at(stack, queue->last)->next = index;
    }
    queue->last = index;
    if (!timer_armed(&stack->tcp.time_wait_timer)) {
        wheel_arm(stack->wheel, &stack->tcp.time_wait_timer,
                  stack->now_ns + stack->limits.time_wait_ns);
    }
}

uint32_t tcp_time_wait_forget(struct stack *stack, uint32_t index)
{
    struct tcp_time_wait *entry = entry_at(stack, index);
    uint32_t snd_nxt = entry->snd_nxt;
    queue_leave(stack, index);
    tcp_table_remove(&stack->tcp.table, tcp_table_hash(&stack->tcp.table, &entry->tuple),
                     TCP_TIME_WAITING, index);
    slab_give(&stack->tcp.time_waits, index);
    return snd_nxt;
}

static void fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, tcp.time_wait_timer);
    struct tcp_queue *queue = &stack->tcp.time_wait_queue;
    stack->now_ns = now_ns;
    while (queue->first != SLAB_NONE) {
        int32_t left_ms = (int32_t)(entry_at(stack, queue->first)->due_ms - stack_now_ms(stack));
        if (left_ms > 0) {
            wheel_arm(stack->wheel, timer, now_ns + (uint64_t)left_ms * MS_NS);
            return;
        }
        tcp_time_wait_forget(stack, queue->first);
    }
}

void tcp_time_wait_setup(struct stack *stack)
{
    timer_init(&stack->tcp.time_wait_timer, fire);
    stack->tcp.time_wait_queue = (struct tcp_queue){SLAB_NONE, SLAB_NONE};
}

void tcp_time_wait_close(struct stack *stack)
{
    wheel_disarm(stack->wheel, &stack->tcp.time_wait_timer);
}

void tcp_time_wait_enter(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    uint32_t index = slab_take(&stack->tcp.time_waits);
    if (index == SLAB_NONE && stack->tcp.time_wait_queue.first != SLAB_NONE) {
        stack->counters.tcp_time_wait_overflows++;
        tcp_time_wait_forget(stack, stack->tcp.time_wait_queue.first);
        index = slab_take(&stack->tcp.time_waits);
    }
    if (index == SLAB_NONE) {
        return; /* the connection simply ends */
    }
    *entry_at(stack, index) =
        (struct tcp_time_wait){.tuple = conn->tuple,
                               .snd_nxt = conn->snd_max,
                               .rcv_nxt = conn->rcv_nxt,
                               .ts_recent = conn->ts_recent,
                               .timestamps = conn->timestamps,
                               .acked_ms = (uint16_t)(stack_now_ms(stack) - ACK_EVERY_MS)};
    tcp_table_replace(&stack->tcp.table, conn->hash, (struct tcp_found){TCP_CONN, conn->index},
                      (struct tcp_found){TCP_TIME_WAITING, index});
    conn->in_table = false;
    stack->counters.tcp_time_waits++;
    queue_join(stack, index);
}

static void ack_send(struct stack *stack, struct tcp_time_wait *entry)
{
    struct tcp_reply reply = {
        .seq = entry->snd_nxt, .ack = entry->rcv_nxt, .window = UINT16_MAX, .flags = TCP_ACK};
    if ((uint16_t)(stack_now_ms(stack) - entry->acked_ms) < ACK_EVERY_MS) {
        stack->counters.tcp_acks_rate_limited++;
        return;
    }
    entry->acked_ms = (uint16_t)stack_now_ms(stack);
    if (entry->timestamps) {
        uint32_t offset = tcp_timestamp_offset(stack, &entry->tuple);
        reply.options_bytes = (uint8_t)tcp_options_write_timestamp(
            reply.options, tcp_timestamp_now(stack, offset), entry->ts_recent);
    }
    tcp_reply(stack, &entry->tuple, &reply);
}

/* RFC 6191 §2: newer by its timestamp, or without them by its number. */
static bool is_newer(const struct tcp_time_wait *entry, const struct tcp_segment *segment)
{
    if (entry->timestamps && segment->has_timestamp) {
        return seq_before(entry->ts_recent, segment->ts_value) ||
               (entry->ts_recent == segment->ts_value && seq_before(entry->rcv_nxt, segment->seq));
    }
    return seq_before(entry->rcv_nxt, segment->seq);
}

enum tcp_time_wait_verdict tcp_time_wait_segment(struct stack *stack, uint32_t index,
                                                 const struct tcp_segment *segment)
{
    struct tcp_time_wait *entry = entry_at(stack, index);
    uint32_t length = tcp_segment_length(segment);
    uint8_t kind = segment->flags & (TCP_SYN | TCP_ACK | TCP_RST);
    if ((kind & TCP_RST) != 0) {
        return TCP_TIME_WAIT_DONE; /* RFC 1337: a reset must not end it */
    }
    if (kind == TCP_SYN && is_newer(entry, segment) &&
        tcp_listener_find(stack, &segment->tuple) != NULL) {
        stack->counters.tcp_time_wait_reused++;
        return TCP_TIME_WAIT_NEW_SYN;
    }
    if (length == 0 && segment->seq == entry->rcv_nxt) {
        return TCP_TIME_WAIT_DONE; /* an acknowledgement, late */
    }
    if ((segment->flags & TCP_FIN) != 0 && segment->seq + length == entry->rcv_nxt) {
        queue_leave(stack, index); /* our last ACK was lost: wait anew */
        queue_join(stack, index);
    }
    ack_send(stack, entry);
    return TCP_TIME_WAIT_DONE;
}

/* Our timestamps have moved on since, so the peer will take the new SYN for what it is. */
bool tcp_time_wait_reusable(struct stack *stack, uint32_t index)
{
    const struct tcp_time_wait *entry = entry_at(stack, index);
    uint32_t wait_ms = (uint32_t)(stack->limits.time_wait_ns / MS_NS);
    uint32_t age_ms = stack_now_ms(stack) - (entry->due_ms - wait_ms);
    return entry->timestamps && age_ms >= 1000;
}
