#include "engine/net/tcp_scoreboard.h"
#include "engine/core/mutation.h"
#include <string.h>

static uint32_t sum(const struct tcp_scoreboard *board)
{
    uint32_t bytes = 0;
    for (unsigned i = 0; i < board->count; i++) {
        bytes += board->ranges[i].end - board->ranges[i].begin;
    }
    return bytes;
}

static void insert(struct tcp_scoreboard *board, unsigned at, struct tcp_range range)
{
    if (at == TCP_SACKED_MAX) {
        return;
    }
    unsigned after = board->count - at;
    if (board->count == TCP_SACKED_MAX) {
        after--;
    } else {
        board->count++;
    }
    memmove(&board->ranges[at + 1], &board->ranges[at], after * sizeof(range));
    board->ranges[at] = range;
}

uint32_t tcp_scoreboard_add(struct tcp_scoreboard *board, struct tcp_range range)
{
    uint32_t before = board->sacked_bytes;
    unsigned first = 0;
    range.begin -= MUTATED(SCOREBOARD_OFF_BY_ONE);
    while (first < board->count && seq_before(board->ranges[first].end, range.begin)) {
        first++;
    }
    unsigned last = first; /* ranges first..last-1 touch the new one and become part of it */
    while (last < board->count && seq_at_or_before(board->ranges[last].begin, range.end)) {
        range.begin = seq_min(range.begin, board->ranges[last].begin);
        range.end = seq_max(range.end, board->ranges[last].end);
        last++;
    }
    memmove(&board->ranges[first], &board->ranges[last],
            (board->count - last) * sizeof(board->ranges[0]));
    board->count = (uint8_t)(board->count - (last - first));
    insert(board, first, range);
    board->sacked_bytes = sum(board);
    return board->sacked_bytes > before ? board->sacked_bytes - before : 0;
}

void tcp_scoreboard_advance(struct tcp_scoreboard *board, uint32_t snd_una)
{
    unsigned gone = 0;
    while (gone < board->count && seq_at_or_before(board->ranges[gone].end, snd_una)) {
        gone++;
    }
    board->count = (uint8_t)(board->count - gone);
    memmove(&board->ranges[0], &board->ranges[gone], board->count * sizeof(board->ranges[0]));
    if (board->count > 0) {
        board->ranges[0].begin = seq_max(board->ranges[0].begin, snd_una);
    }
    board->sacked_bytes = sum(board);
}

uint32_t tcp_scoreboard_lost_before(const struct tcp_scoreboard *board, uint32_t snd_una,
                                    uint32_t mss)
{
    uint32_t above = 0;
    for (unsigned i = board->count; i > 0; i--) {
        const struct tcp_range *range = &board->ranges[i - 1];
        above += range->end - range->begin;
        if (board->count - i + 1 >= TCP_DUPLICATE_THRESHOLD ||
            above > (TCP_DUPLICATE_THRESHOLD - 1) * mss) {
            return range->begin;
        }
    }
    return snd_una;
}

uint32_t tcp_scoreboard_hole(const struct tcp_scoreboard *board, uint32_t seq)
{
    for (unsigned i = 0; i < board->count; i++) {
        const struct tcp_range *range = &board->ranges[i];
        if (seq_at_or_before(range->begin, seq) && seq_before(seq, range->end)) {
            return range->end; /* ranges do not touch */
        }
    }
    return seq;
}

uint32_t tcp_scoreboard_hole_end(const struct tcp_scoreboard *board, uint32_t seq, uint32_t end)
{
    for (unsigned i = 0; i < board->count; i++) {
        if (seq_before(seq, board->ranges[i].begin)) {
            return seq_min(board->ranges[i].begin, end);
        }
    }
    return end;
}

uint32_t tcp_scoreboard_pipe(const struct tcp_scoreboard *board, uint32_t snd_una, uint32_t snd_max,
                             uint32_t retransmitted_to, uint32_t mss)
{
    uint32_t lost_before = tcp_scoreboard_lost_before(board, snd_una, mss);
    uint32_t bytes = 0, at = snd_una;
    for (unsigned i = 0; i <= board->count; i++) {
        uint32_t end = i < board->count ? board->ranges[i].begin : snd_max;
        if (seq_before(at, end)) {
            if (!seq_before(at, lost_before)) {
                bytes += end - at;
            }
            if (seq_before(at, retransmitted_to)) {
                bytes += seq_min(end, retransmitted_to) - at;
            }
        }
        at = i < board->count ? board->ranges[i].end : at;
    }
    return bytes;
}
