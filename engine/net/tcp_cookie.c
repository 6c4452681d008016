/*
 * SYN cookies: when half-open entries are used up, what they would hold goes into the numbers that
 * the client sends back.
 *
 * Sequence number: 24 bits of a keyed hash over tuple, client's number, minute and size class | 5
 * bits of the minute | 3 bits of the size class. Timestamp (its low 6 bits): window scale | SACK |
 * ECN. Without timestamps there is none of these, as RFC 4987 §3.6 has it.
 */
#include "engine/net/stack_private.h"

#define MINUTE_NS (60 * SECOND_NS)
#define MINUTES_VALID 2u
#define CLASS_BITS 3u
#define MINUTE_BITS 5u
#define LOW_BITS (CLASS_BITS + MINUTE_BITS)
#define TS_BITS 6u
#define TS_SACK 0x10u
#define TS_ECN 0x20u
#define TS_SCALE 0x0fu /* 15: no option */

static const uint16_t classes[1u << CLASS_BITS] = {64, 512, 536, 1024, 1220, 1380, 1440, 1460};

static uint32_t cookie_of(struct stack *stack, const struct tcp_tuple *tuple, uint32_t client_seq,
                          uint32_t minute, uint32_t class)
{
    const uint64_t words[3] = {tcp_table_hash(&stack->tcp.table, tuple),
                               (uint64_t)tuple->remote.words[3] << 32 | tuple->remote_port,
                               (uint64_t)client_seq << 32 | minute << CLASS_BITS | class};
    uint32_t hash = (uint32_t)siphash(&stack->tcp.cookie_key, words, 3);
    uint32_t low = (minute & ((1u << MINUTE_BITS) - 1)) << CLASS_BITS | class;
    return hash << LOW_BITS | low;
}

uint32_t tcp_cookie_make(struct stack *stack, const struct tcp_segment *syn, uint16_t mss)
{
    uint32_t class = (1u << CLASS_BITS) - 1;
    while (class > 0 && classes[class] > mss) {
        class --;
    }
    return cookie_of(stack, &syn->tuple, syn->seq, (uint32_t)(stack->now_ns / MINUTE_NS), class);
}

uint32_t tcp_cookie_timestamp(struct stack *stack, const struct tcp_segment *syn)
{
    uint32_t now = tcp_timestamp_now(stack, tcp_timestamp_offset(stack, &syn->tuple));
    uint32_t low = syn->window_scale == TCP_SCALE_NONE ? TS_SCALE : syn->window_scale;
    low |= syn->sack_permitted ? TS_SACK : 0;
    low |= tcp_ecn_syn_asks(stack, syn) ? TS_ECN : 0;
    uint32_t value = (now & ~((1u << TS_BITS) - 1)) | low;
    /* Never in the future, or the next real one would look old. */
    return seq_before(now, value) ? value - (1u << TS_BITS) : value;
}

bool tcp_cookie_check(struct stack *stack, const struct tcp_segment *ack,
                      struct tcp_half_open *entry)
{
    uint32_t cookie = ack->ack - 1, class = cookie & ((1u << CLASS_BITS) - 1);
    uint32_t minute = (uint32_t)(stack->now_ns / MINUTE_NS);
    for (unsigned age = 0; age < MINUTES_VALID; age++) {
        if (cookie_of(stack, &ack->tuple, ack->seq - 1, minute - age, class) == cookie) {
            *entry = (struct tcp_half_open){.tuple = ack->tuple,
                                            .iss = cookie,
                                            .irs = ack->seq - 1,
                                            .ts_recent = ack->ts_value,
                                            .mss = classes[class],
                                            .window_scale = TCP_SCALE_NONE,
                                            .timestamps = ack->has_timestamp};
            if (ack->has_timestamp) {
                uint32_t scale = ack->ts_echo & TS_SCALE;
                entry->window_scale = scale == TS_SCALE ? TCP_SCALE_NONE : (uint8_t)scale;
                entry->sack = (ack->ts_echo & TS_SACK) != 0;
                entry->ecn = (ack->ts_echo & TS_ECN) != 0;
                entry->ect = entry->ecn;
            }
            return true;
        }
    }
    return false;
}
