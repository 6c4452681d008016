/*
 * Frames that may belong to a connection of another shard: because the port's hash is not what it
 * says, or because an ICMP error is hashed by the router that sends it.
 *
 * Each costs the other shards a look. So that a flood on one does not become a flood on all, a shard
 * stops asking for a while when too many of its frames were nobody's.
 */
#include "engine/net/stack_private.h"

#define REFUSED_EACH_MS 32u

/* Nobody else can have it: the hash has proven true, and says that this is the place. Ports of
 * outgoing connections are another matter: their shard may have seen the hash lie. So are those of
 * one port among several: what arrived by another was dealt out by that one's hash. */
static bool is_home(const struct stack *stack, const struct tcp_tuple *tuple)
{
    struct rss_tuple arriving;
    if (stack->rss.mode != RSS_PROVEN || stack->siblings.count > 0 ||
        (tuple->local_port >= stack->limits.port_first &&
         tuple->local_port <= stack->limits.port_last)) {
        return false;
    }
    tcp_tuple_arriving(tuple, &arriving);
    return rss_queue_of(&stack->rss, &arriving) == stack->queue;
}

static bool is_known(struct stack *stack, const struct tcp_quote *quote)
{
    const struct tcp_tuple *tuple = &quote->tuple;
    const struct tcp_table *table = &stack->tcp.table;
    return quote->udp
               ? udp_knows(stack, tuple)
               : tcp_table_find(table, tuple, tcp_table_hash(table, tuple)).kind != TCP_NOTHING;
}

static void tell(struct stack *stack, const struct tcp_quote *quote)
{
    if (quote->udp) {
        udp_input_unreachable(stack, &quote->tuple, quote->error);
    } else {
        tcp_input_unreachable(stack, &quote->tuple, quote->seq, quote->error, quote->mtu);
    }
}

/* True: another shard will look at it. False: it was dropped. */
static bool give_away(struct stack *stack, struct rte_mbuf *frame)
{
    const struct tcp *tcp = &stack->tcp;
    bool flooded = tcp->refused_ms == stack_now_ms(stack) && tcp->refused_count >= REFUSED_EACH_MS;
    if (!flooded && stack->hand_over(stack->owner, frame) == 0) {
        return true;
    }
    /* A RST might hit a connection of another shard; a peer that is one will send again. */
    rte_pktmbuf_free(frame);
    return false;
}

static void give_segment_away(struct stack *stack, struct rte_mbuf *frame)
{
    bool given = give_away(stack, frame);
    stack->counters.tcp_handed_over += given;
    stack->counters.tcp_hand_overs_lost += !given;
}

static void give_quote_away(struct stack *stack, bool udp, struct rte_mbuf *frame)
{
    if (!udp) {
        give_segment_away(stack, frame);
        return;
    }
    bool given = give_away(stack, frame);
    stack->counters.udp_handed_over += given;
    stack->counters.udp_hand_overs_lost += !given;
}

bool tcp_elsewhere(struct stack *stack, const struct tcp_segment *segment)
{
    if (stack->shard_count < 2 || stack->hand_over == NULL || is_home(stack, &segment->tuple)) {
        return false;
    }
    give_segment_away(stack, segment->frame);
    return true;
}

void tcp_elsewhere_refused(struct stack *stack)
{
    struct tcp *tcp = &stack->tcp;
    if (tcp->refused_ms != stack_now_ms(stack)) {
        tcp->refused_ms = stack_now_ms(stack);
        tcp->refused_count = 0;
    }
    tcp->refused_count++;
}

bool tcp_quote_arrives(struct stack *stack, const struct tcp_quote *quote, struct rte_mbuf *frame)
{
    if (!is_known(stack, quote)) {
        if (stack->shard_count > 1 && stack->hand_over != NULL) {
            give_quote_away(stack, quote->udp, frame);
            return true;
        }
        if (exception_give(stack, frame)) {
            return true;
        }
        stack->counters.icmp_in_errors += quote->udp; /* TCP counts its own */
    }
    tell(stack, quote);
    return false;
}

bool tcp_quote_take(struct stack *stack, const struct tcp_quote *quote)
{
    if (!is_known(stack, quote)) {
        return false;
    }
    tell(stack, quote);
    stack->counters.tcp_taken_over += !quote->udp;
    stack->counters.udp_taken_over += quote->udp;
    return true;
}
