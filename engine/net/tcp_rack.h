/*
 * tcp_rack: what was sent when, and so what of it is lost: bytes that are still not acknowledged a
 * round trip and a reordering window after they left, while others that left later have arrived.
 *
 * Records are kept for stretches of bytes that left together, in order of sequence, from snd_una on.
 * A connection has them only while something is under way. When there is no room for another, the
 * two neighbours that left closest to each other become one, with the later time: a loss in them is
 * then seen a little later. What the peer holds is the scoreboard's matter; a record tells nothing of it.
 * Pure arithmetic over sequence numbers and microseconds, which may wrap.
 * Source: RFC 8985 (RACK: §6.2, TLP: §7).
 */
#pragma once
#include "engine/net/tcp_congestion.h"
#include "engine/net/tcp_scoreboard.h"

#define TCP_SENT_MAX 120u

struct tcp_sent {
    uint32_t end; /* the stretch goes from the end of the record before */
    uint32_t sent_us;
    bool lost;          /* and not sent again yet */
    bool retransmitted; /* sent_us is that of the last time */
};

/* What a connection keeps between flights. Zero at first. */
struct tcp_rack_memory {
    uint32_t min_rtt_us;     /* 0: none known */
    uint8_t reo_wnd_mult;    /* RACK.reo_wnd_mult less 1 */
    uint8_t reo_wnd_persist; /* recoveries without D-SACK until it is 0 again */
    bool reordering_seen;
};

/* The loss that is being repaired, until it is known to have been one. */
struct tcp_undo {
    struct tcp_congestion before;
    uint32_t begin, end;    /* snd_una and snd_max when it began */
    uint32_t retransmit_ts; /* timestamp of the first retransmission */
    uint32_t retransmitted; /* bytes sent again, and not reported as duplicates */
    bool possible, has_retransmitted;
};

enum tcp_frto { /* tcp_frto.c */
                TCP_FRTO_NONE,
                TCP_FRTO_HEAD, /* the first segment has left again */
                TCP_FRTO_NEW,  /* snd_una has advanced: up to two new segments leave */
                TCP_FRTO_WAIT, /* they have left */
};

struct tcp_rack {
    uint32_t index; /* in the slab */
    uint32_t begin; /* of the first record: snd_una */
    uint32_t count;
    uint32_t lost_count;  /* records */
    uint32_t again_count; /* records that were sent again and are not lost */
    /* RFC 8985 §5.2: of the segment that was sent last of all that were delivered. */
    uint32_t xmit_us, end_seq, rtt_us;
    bool any_delivered;
    uint32_t fack;
    uint32_t dsack_round; /* snd_nxt when the last D-SACK was taken into account */
    bool in_dsack_round;
    uint8_t frto;      /* enum tcp_frto */
    uint8_t frto_new;  /* segments */
    bool lost_arrived; /* something that was called lost, and not sent again */
    struct tcp_undo undo;
    struct tcp_sent sent[TCP_SENT_MAX];
};

/* When an acknowledgement arrives. */
struct tcp_rack_now {
    uint64_t now_us;
    bool has_echo;
    uint32_t ts_offset, ts_echo; /* timestamps are milliseconds + ts_offset */
};

void tcp_rack_open(struct tcp_rack *rack, uint32_t snd_una);
/* The range leaves: what follows the last record, or part of what was sent before. again: some of it
 * was sent before, even if there is no record of that. */
void tcp_rack_sent(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                   struct tcp_range range, uint32_t now_us, bool again);
/* The peer says that it holds the range; before the scoreboard, or snd_una, learns of it. Returns the
 * shortest time that bytes took which were not known before and sent once; 0: none. */
uint32_t tcp_rack_delivered(struct tcp_rack *rack, struct tcp_rack_memory *memory,
                            const struct tcp_scoreboard *board, struct tcp_range range,
                            const struct tcp_rack_now *now);
void tcp_rack_advance(struct tcp_rack *rack, uint32_t snd_una);

void tcp_rack_duplicate_reported(struct tcp_rack *rack, struct tcp_rack_memory *memory,
                                 uint32_t snd_una, uint32_t snd_nxt);
void tcp_rack_recovery_ended(struct tcp_rack_memory *memory);
/* many_sacked: DupThresh segments are, or a recovery goes on: then no time is given, as long as the
 * path has not reordered. */
uint32_t tcp_rack_reo_wnd_us(const struct tcp_rack_memory *memory, bool many_sacked,
                             uint32_t srtt_us);
/* Marks what is lost by now; true: something has become so. *wait_us: after so long there may be
 * more; 0: not by time alone. */
bool tcp_rack_detect_loss(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                          uint32_t reo_wnd_us, uint32_t now_us, uint32_t *wait_us);
/* A timeout, §6.3: the first, and all that is overdue; all of it when everything is. */
void tcp_rack_timed_out(struct tcp_rack *rack, uint32_t reo_wnd_us, uint32_t now_us,
                        bool everything);
/* Nothing of the range has arrived, as is known otherwise: it was too large for the path. */
void tcp_rack_mark_lost(struct tcp_rack *rack, const struct tcp_scoreboard *board,
                        struct tcp_range range);
/* What was called lost is only late. */
void tcp_rack_forgive(struct tcp_rack *rack);
/* Bytes that are lost, and not sent again yet. */
uint32_t tcp_rack_lost_bytes(const struct tcp_rack *rack, const struct tcp_scoreboard *board);
/* The first stretch of them. False: there is none. */
bool tcp_rack_first_lost(const struct tcp_rack *rack, const struct tcp_scoreboard *board,
                         struct tcp_range *range);
