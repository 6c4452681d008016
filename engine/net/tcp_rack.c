#include "engine/net/tcp_rack.h"
#include "engine/core/check.h"
#include <stddef.h>
#include <string.h>

#define REO_WND_PERSIST 16u /* RFC 8985 §6.2 step 4 */
#define REO_WND_MULT_MAX 64u

void tcp_rack_open(struct tcp_rack *rack, uint32_t snd_una)
{
    memset(rack, 0, offsetof(struct tcp_rack, sent));
    rack->begin = snd_una;
    rack->fack = snd_una;
}

static uint32_t begin_of(const struct tcp_rack *rack, uint32_t i)
{
    return i == 0 ? rack->begin : rack->sent[i - 1].end;
}

static uint32_t log_end(const struct tcp_rack *rack)
{
    return begin_of(rack, rack->count);
}

static void counts_take(struct tcp_rack *rack, const struct tcp_sent *sent)
{
    rack->lost_count -= sent->lost;
    rack->again_count -= sent->retransmitted && !sent->lost;
}

static void counts_give(struct tcp_rack *rack, const struct tcp_sent *sent)
{
    rack->lost_count += sent->lost;
    rack->again_count += sent->retransmitted && !sent->lost;
}

static void mark_lost(struct tcp_rack *rack, struct tcp_sent *sent)
{
    counts_take(rack, sent);
    sent->lost = true;
    counts_give(rack, sent);
}

static void remove_at(struct tcp_rack *rack, uint32_t i)
{
    counts_take(rack, &rack->sent[i]);
    rack->count--;
    memmove(&rack->sent[i], &rack->sent[i + 1], (rack->count - i) * sizeof(rack->sent[0]));
}

static bool all_held(const struct tcp_scoreboard *board, uint32_t begin, uint32_t end)
{
    return board->count > 0 && seq_at_or_before(end, tcp_scoreboard_hole(board, begin));
}

static uint32_t apart_us(const struct tcp_sent *a, const struct tcp_sent *b)
{
    int32_t us = (int32_t)(a->sent_us - b->sent_us);
    return us < 0 ? (uint32_t)-us : (uint32_t)us;
}

/* Room for one more record, where two can become one. */
static void room_make(struct tcp_rack *rack, const struct tcp_scoreboard *board)
{
    uint32_t best = UINT32_MAX, best_us = UINT32_MAX;
    for (uint32_t i = 0; i + 1 < rack->count; i++) {
        const struct tcp_sent *sent = &rack->sent[i], *next = sent + 1;
        if (all_held(board, begin_of(rack, i), sent->end)) {
            remove_at(rack, i); /* the peer holds it: it may count as part of the next */
            return;
        }
        if (sent->lost == next->lost && sent->retransmitted == next->retransmitted &&
            apart_us(sent, next) < best_us) {
            best = i;
            best_us = apart_us(sent, next);
        }
    }
    if (best != UINT32_MAX) {
        struct tcp_sent *next = &rack->sent[best + 1];
        uint32_t first_us = rack->sent[best].sent_us;
        next->sent_us = seq_max(first_us, next->sent_us);
        remove_at(rack, best);
    }
}

/* Makes `seq` the end of a record. False: there is no room. */
static bool split_at(struct tcp_rack *rack, const struct tcp_scoreboard *board, uint32_t seq)
{
    if (rack->count == TCP_SENT_MAX) {
        room_make(rack, board);
    }
    uint32_t i = 0;
    while (i < rack->count && seq_before(rack->sent[i].end, seq)) {
        i++;
    }
    if (i == rack->count || rack->sent[i].end == seq || seq_at_or_before(seq, rack->begin)) {
        return true;
    }
    if (rack->count == TCP_SENT_MAX) {
        return false;
    }
    memmove(&rack->sent[i + 1], &rack->sent[i], (rack->count - i) * sizeof(rack->sent[0]));
    rack->count++;
    rack->sent[i].end = seq;
    counts_give(rack, &rack->sent[i]);
    return true;
}

static void append(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                   const struct tcp_sent *sent)
{
    struct tcp_sent *last = rack->count > 0 ? &rack->sent[rack->count - 1] : NULL;
    if (last != NULL && last->sent_us == sent->sent_us && !last->lost &&
        last->retransmitted == sent->retransmitted) {
        last->end = sent->end;
        return;
    }
    if (rack->count == TCP_SENT_MAX) {
        room_make(rack, board);
    }
    if (rack->count < TCP_SENT_MAX) {
        rack->sent[rack->count++] = *sent;
    } else { /* its neighbours are of other kinds: it joins the last */
        last = &rack->sent[TCP_SENT_MAX - 1];
        counts_take(rack, last);
        *last = *sent;
    }
    counts_give(rack, &rack->sent[rack->count - 1]);
}

/* Where there is no room to tell parts of a record apart, all of it counts as sent now; what was
 * not is lost again a round trip later. */
static void sent_again(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                       struct tcp_range range, uint32_t now_us)
{
    split_at(rack, board, range.begin);
    split_at(rack, board, range.end);
    for (uint32_t i = 0; i < rack->count && seq_before(begin_of(rack, i), range.end); i++) {
        struct tcp_sent *sent = &rack->sent[i];
        if (!seq_before(range.begin, sent->end)) {
            continue;
        }
        counts_take(rack, sent);
        *sent = (struct tcp_sent){.end = sent->end, .sent_us = now_us, .retransmitted = true};
        counts_give(rack, sent);
        struct tcp_sent *before = i > 0 ? sent - 1 : NULL;
        if (before != NULL && before->sent_us == now_us && before->retransmitted && !before->lost) {
            remove_at(rack, i - 1);
            i--;
        }
    }
}

void tcp_rack_sent(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                   struct tcp_range range, uint32_t now_us, bool again)
{
    const struct tcp_sent sent = {.end = range.end, .sent_us = now_us, .retransmitted = again};
    if (seq_before(range.begin, log_end(rack))) {
        sent_again(rack, board, range, now_us);
    }
    if (seq_before(log_end(rack), range.end)) {
        append(rack, board, &sent);
    }
}

/* Did a leave after b? Of those that left together, the later one in sequence (§6.2 step 2). */
static bool sent_after(uint32_t a_us, uint32_t a_end, uint32_t b_us, uint32_t b_end)
{
    return seq_before(b_us, a_us) || (a_us == b_us && seq_before(b_end, a_end));
}

/* Steps 1 to 3 for one segment, or several that left together: up to `end`. Returns its round trip
 * when it was sent once. */
static uint32_t segment_delivered(struct tcp_rack *rack, struct tcp_rack_memory *memory,
                                  const struct tcp_sent *sent, uint32_t end,
                                  const struct tcp_rack_now *now)
{
    uint32_t rtt_us = (uint32_t)now->now_us - sent->sent_us;
    if (seq_before(rack->fack, end)) {
        rack->fack = end;
    } else if (seq_before(end, rack->fack) && !sent->retransmitted) {
        memory->reordering_seen = true;
    }
    rack->lost_arrived |= sent->lost && !sent->retransmitted;
    if (sent->retransmitted) {
        /* Is it the first copy that has arrived? */
        uint32_t sent_ts = (uint32_t)((now->now_us - rtt_us) / 1000) + now->ts_offset;
        if ((now->has_echo && seq_before(now->ts_echo, sent_ts)) || rtt_us < memory->min_rtt_us) {
            return 0;
        }
    } else if (memory->min_rtt_us == 0 || rtt_us < memory->min_rtt_us) {
        memory->min_rtt_us = rtt_us == 0 ? 1 : rtt_us;
    }
    rack->rtt_us = rtt_us;
    if (!rack->any_delivered || sent_after(sent->sent_us, end, rack->xmit_us, rack->end_seq)) {
        rack->any_delivered = true;
        rack->xmit_us = sent->sent_us;
        rack->end_seq = end;
    }
    return sent->retransmitted ? 0 : rtt_us;
}

uint32_t tcp_rack_delivered(struct tcp_rack *rack, struct tcp_rack_memory *memory,
                            const struct tcp_scoreboard *board, struct tcp_range range,
                            const struct tcp_rack_now *now)
{
    uint32_t least_us = 0;
    for (uint32_t i = 0; i < rack->count && seq_before(begin_of(rack, i), range.end); i++) {
        uint32_t at = seq_max(begin_of(rack, i), range.begin);
        uint32_t end = seq_min(rack->sent[i].end, range.end);
        while (seq_before(at, end) && seq_before(at = tcp_scoreboard_hole(board, at), end)) {
            uint32_t hole_end = tcp_scoreboard_hole_end(board, at, end);
            uint32_t rtt_us = segment_delivered(rack, memory, &rack->sent[i], hole_end, now);
            least_us = least_us == 0 || (rtt_us != 0 && rtt_us < least_us) ? rtt_us : least_us;
            at = hole_end;
        }
    }
    return least_us;
}

void tcp_rack_advance(struct tcp_rack *rack, uint32_t snd_una)
{
    uint32_t gone = 0;
    while (gone < rack->count && seq_at_or_before(rack->sent[gone].end, snd_una)) {
        counts_take(rack, &rack->sent[gone]);
        gone++;
    }
    rack->count -= gone;
    if (gone > 0) {
        memmove(&rack->sent[0], &rack->sent[gone], rack->count * sizeof(rack->sent[0]));
    }
    rack->begin = snd_una;
    rack->fack = seq_max(rack->fack, snd_una);
}

void tcp_rack_duplicate_reported(struct tcp_rack *rack, struct tcp_rack_memory *memory,
                                 uint32_t snd_una, uint32_t snd_nxt)
{
    if (rack->in_dsack_round && seq_before(snd_una, rack->dsack_round)) {
        return;
    }
    rack->in_dsack_round = true;
    rack->dsack_round = snd_nxt;
    memory->reo_wnd_mult += memory->reo_wnd_mult < REO_WND_MULT_MAX;
    memory->reo_wnd_persist = REO_WND_PERSIST;
}

void tcp_rack_recovery_ended(struct tcp_rack_memory *memory)
{
    memory->reo_wnd_persist -= memory->reo_wnd_persist > 0;
    if (memory->reo_wnd_persist == 0) {
        memory->reo_wnd_mult = 0;
    }
}

uint32_t tcp_rack_reo_wnd_us(const struct tcp_rack_memory *memory, bool many_sacked,
                             uint32_t srtt_us)
{
    if (!memory->reordering_seen && many_sacked) {
        return 0;
    }
    uint64_t us = (memory->reo_wnd_mult + 1ull) * memory->min_rtt_us / 4;
    return us < srtt_us ? (uint32_t)us : srtt_us;
}

bool tcp_rack_detect_loss(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                          uint32_t reo_wnd_us, uint32_t now_us, uint32_t *wait_us)
{
    bool news = false;
    *wait_us = 0;
    /* Nothing that left later has arrived: the usual acknowledgement costs no walk. */
    if (!rack->any_delivered || (board->count == 0 && rack->again_count == 0)) {
        return false;
    }
    for (uint32_t i = 0; i < rack->count; i++) {
        const struct tcp_sent *sent = &rack->sent[i];
        uint32_t begin = begin_of(rack, i), end = sent->end;
        if (sent->lost || seq_before(rack->xmit_us, sent->sent_us) || all_held(board, begin, end)) {
            continue;
        }
        if (sent->sent_us == rack->xmit_us) { /* only what lies before end_seq */
            if (!seq_before(begin, rack->end_seq)) {
                continue;
            }
            end = seq_min(end, rack->end_seq);
            if (all_held(board, begin, end)) {
                continue;
            }
        }
        int32_t left_us = (int32_t)(sent->sent_us + rack->rtt_us + reo_wnd_us - now_us);
        if (left_us > 0) {
            *wait_us = (uint32_t)left_us > *wait_us ? (uint32_t)left_us : *wait_us;
            continue;
        }
        if (end != sent->end) {
            split_at(rack, board, end); /* may move what lies before: look where it is now */
            for (i = 0; i < rack->count && seq_before(rack->sent[i].end, end); i++) {
            }
        }
        mark_lost(rack, &rack->sent[i]);
        news = true;
    }
    return news;
}

void tcp_rack_timed_out(struct tcp_rack *rack, uint32_t reo_wnd_us, uint32_t now_us,
                        bool everything)
{
    for (uint32_t i = 0; i < rack->count; i++) {
        struct tcp_sent *sent = &rack->sent[i];
        if (i == 0 || everything ||
            (int32_t)(sent->sent_us + rack->rtt_us + reo_wnd_us - now_us) <= 0) {
            mark_lost(rack, sent);
        }
    }
}

void tcp_rack_mark_lost(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                        struct tcp_range range)
{
    split_at(rack, board, range.begin);
    split_at(rack, board, range.end);
    for (uint32_t i = 0; i < rack->count && seq_before(begin_of(rack, i), range.end); i++) {
        if (seq_before(range.begin, rack->sent[i].end)) {
            mark_lost(rack, &rack->sent[i]);
        }
    }
}

void tcp_rack_forgive(struct tcp_rack *rack)
{
    for (uint32_t i = 0; i < rack->count; i++) {
        struct tcp_sent *sent = &rack->sent[i];
        counts_take(rack, sent);
        sent->lost = false;
        counts_give(rack, sent);
    }
}

uint32_t tcp_rack_lost_bytes(const struct tcp_rack *rack, const struct tcp_scoreboard *board)
{
    uint32_t bytes = 0, left = rack->lost_count;
    for (uint32_t i = 0; i < rack->count && left > 0; i++) {
        if (!rack->sent[i].lost) {
            continue;
        }
        left--;
        uint32_t at = begin_of(rack, i), end = rack->sent[i].end;
        while (seq_before(at, end) && seq_before(at = tcp_scoreboard_hole(board, at), end)) {
            uint32_t hole_end = tcp_scoreboard_hole_end(board, at, end);
            bytes += hole_end - at;
            at = hole_end;
        }
    }
    return bytes;
}

bool tcp_rack_first_lost(const struct tcp_rack *rack, const struct tcp_scoreboard *board,
                         struct tcp_range *range)
{
    uint32_t left = rack->lost_count;
    for (uint32_t i = 0; i < rack->count && left > 0; i++) {
        if (!rack->sent[i].lost) {
            continue;
        }
        left--;
        uint32_t end = rack->sent[i].end;
        uint32_t hole = tcp_scoreboard_hole(board, begin_of(rack, i));
        if (seq_before(hole, end)) {
            *range = (struct tcp_range){hole, tcp_scoreboard_hole_end(board, hole, end)};
            return true;
        }
    }
    return false;
}
