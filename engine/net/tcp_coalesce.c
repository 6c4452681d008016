/*
 * Receive coalescing: segments of a burst that continue each other become one, whose payload is a
 * chain of their buffers, so that table, sequence, acknowledgement and timers are looked at once
 * for all of them. Nothing waits for it, and nothing that a segment says is lost by it.
 */
#include "engine/net/stack_private.h"

#define PLACES 32u /* for connections whose run may go on; a power of two */
#define NOBODY UINT8_MAX
#define RUN_BYTES_MAX (256u << 10)

struct run {
    uint8_t at; /* in the burst, of what it has become; NOBODY */
    bool known; /* the connection is one of this shard's */
    struct rte_mbuf *tail;
};

static struct rte_mbuf *tail_of(struct rte_mbuf *frame)
{
    while (frame->next != NULL) {
        frame = frame->next;
    }
    return frame;
}

/* Data and nothing else that would need to be seen by itself. */
static bool is_plain(const struct tcp_segment *segment)
{
    return (segment->flags & (uint8_t)~TCP_PSH) == TCP_ACK && segment->payload_bytes > 0 &&
           segment->sack_count == 0;
}

static bool continues(const struct tcp_segment *run, const struct tcp_segment *next)
{
    return run->seq + run->payload_bytes == next->seq && run->ack == next->ack &&
           run->window == next->window && run->ecn == next->ecn &&
           run->has_timestamp == next->has_timestamp && run->ts_value == next->ts_value &&
           run->ts_echo == next->ts_echo && run->payload_bytes < RUN_BYTES_MAX &&
           tcp_tuple_equal(&run->tuple, &next->tuple);
}

/* The headers of what is joined are gone: it could not be handed to another shard any more. */
static bool is_known(struct stack *stack, const struct tcp_segment *segment)
{
    return tcp_table_find(&stack->tcp.table, &segment->tuple, segment->hash).kind == TCP_CONN;
}

static void join(struct run *run, struct tcp_segment *first, const struct tcp_segment *next)
{
    struct rte_mbuf *frame = next->frame;
    rte_pktmbuf_adj(frame, next->payload_offset);
    run->tail->next = frame;
    run->tail = tail_of(frame);
    first->frame->pkt_len += frame->pkt_len;
    first->frame->nb_segs = (uint16_t)(first->frame->nb_segs + frame->nb_segs);
    first->payload_bytes += next->payload_bytes;
    first->flags |= next->flags;
    first->count = (uint16_t)(first->count + next->count);
    if (next->segment_bytes > first->segment_bytes) {
        first->segment_bytes = next->segment_bytes;
    }
}

unsigned tcp_coalesce(struct stack *stack, struct tcp_segment *segments, unsigned count)
{
    struct run runs[PLACES];
    unsigned kept = 0;
    check(count < NOBODY);
    for (unsigned i = 0; i < PLACES; i++) {
        runs[i].at = NOBODY;
    }
    for (unsigned i = 0; i < count; i++) {
        struct run *run = &runs[segments[i].hash % PLACES];
        struct tcp_segment *first = run->at == NOBODY ? NULL : &segments[run->at];
        bool plain = is_plain(&segments[i]);
        if (plain && first != NULL && continues(first, &segments[i]) &&
            (run->known || (run->known = is_known(stack, first)))) {
            join(run, first, &segments[i]);
            stack->counters.tcp_rx_coalesced++;
            continue;
        }
        if (kept != i) {
            segments[kept] = segments[i];
        }
        *run = (struct run){.at = NOBODY};
        if (plain) {
            run->at = (uint8_t)kept;
            run->tail = tail_of(segments[kept].frame);
        }
        kept++;
    }
    return kept;
}
