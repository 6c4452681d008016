/*
 * tcp_scoreboard: what of the sent bytes the peer says it holds beyond the cumulative
 * acknowledgement.
 *
 * A few ranges in order of sequence; when there are more, the highest is forgotten, which costs a
 * needless retransmission and nothing else. Pure arithmetic over sequence numbers.
 * Source: RFC 2018, RFC 6675 (IsLost, SetPipe).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TCP_SACKED_MAX 16u
#define TCP_DUPLICATE_THRESHOLD 3u

struct tcp_range { /* [begin, end) */
    uint32_t begin, end;
};

struct tcp_scoreboard {
    struct tcp_range ranges[TCP_SACKED_MAX];
    uint32_t sacked_bytes;
    uint8_t count;
};

static inline bool seq_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline bool seq_at_or_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}

static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
    return seq_before(a, b) ? b : a;
}

static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
    return seq_before(a, b) ? a : b;
}

static inline void tcp_scoreboard_clear(struct tcp_scoreboard *board)
{
    board->count = 0;
    board->sacked_bytes = 0;
}

/* Returns how many bytes of the range were not known before. The range is not empty. */
uint32_t tcp_scoreboard_add(struct tcp_scoreboard *board, struct tcp_range range);
/* Forgets what lies before snd_una. */
void tcp_scoreboard_advance(struct tcp_scoreboard *board, uint32_t snd_una);
/* Everything before it that is not held by the peer counts as lost (IsLost); snd_una when nothing
 * does. */
uint32_t tcp_scoreboard_lost_before(const struct tcp_scoreboard *board, uint32_t snd_una,
                                    uint32_t mss);
/* The first byte at or after `seq` that the peer does not hold. */
uint32_t tcp_scoreboard_hole(const struct tcp_scoreboard *board, uint32_t seq);
/* Where the hole that `seq` lies in ends: the begin of the next range, or `end`. */
uint32_t tcp_scoreboard_hole_end(const struct tcp_scoreboard *board, uint32_t seq, uint32_t end);
/* Bytes that are under way: SetPipe of RFC 6675. retransmitted_to: HighRxt. */
uint32_t tcp_scoreboard_pipe(const struct tcp_scoreboard *board, uint32_t snd_una, uint32_t snd_max,
                             uint32_t retransmitted_to, uint32_t mss);
