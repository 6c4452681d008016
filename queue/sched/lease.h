/*
 * lease: how a limit holds for all shards together: the book of its owner, and the words that go to it and fro.
 *
 * One shard owns the limits of a group (group.h); every shard with sites of that group tells it what it lacks and gives
 * back what it is asked for. A connection slot is leased until it is given back. Tokens of a rate are leased in slices
 * of a tenth of a second's, and come back when they are not used.
 *
 *   shard                                owner
 *   sched_group_word ──── word ────────► lease_book_told
 *   sched_group_answer ◄── answer ────── lease_book_answer
 *
 * A limit of all sites of the relay is leased in the same way, by the group that no site names.
 *
 * Slots are shared evenly among those who want them. While somebody lacks what others have too much of, these are told
 * how many they may keep: `hard`, down to which connections are given up between two messages, and `soft`, down to
 * which those that have nothing to do are. With fewer slots than shards that want one they go round: after
 * SCHED_SLICE_MESSAGES.
 *
 * Words may cross: what is granted and given is a difference, what is lacking and may be kept is a state, and a word says
 * how much of what was granted its sender had seen. Each way keeps its order and loses nothing.
 *
 * Pure: no clock, no I/O, no message. engine/relay/lease_desk carries it.
 */
#pragma once
#include "queue/sched/group.h"

enum lease_rate { LEASE_CONNECTIONS, LEASE_MESSAGES, LEASE_RATES };

#define LEASE_KEEP_ALL UINT32_MAX

/* What a shard says. */
struct lease_word {
    uint32_t slots_given;   /* back, since the last word */
    uint32_t slots_lacking; /* to what it has, now */
    uint32_t slots_wished;  /* besides, if they are free; it is not asked for them again */
    uint32_t slots_seen;    /* of those granted to it so far; modulo 2^32 */
    struct {
        uint32_t given, lacking, seen;
    } tokens[LEASE_RATES];
    bool
        leaves; /* it has no site of the group any more: all is given back, also what is under way */
};

/* What the owner says. */
struct lease_answer {
    uint32_t slots_granted;          /* since the last answer */
    uint32_t slots_hard, slots_soft; /* it may keep so many; LEASE_KEEP_ALL */
    bool
        prompt; /* down to slots_hard after the message that is being sent, not after a slice of them */
    uint32_t tokens_granted[LEASE_RATES];
};

struct lease_book;

/* NULL: memory is short. */
struct lease_book *lease_book_open(unsigned shard_count, const struct sched_limits *limits);
void lease_book_close(struct lease_book *book);
/* Other limits from now on. Of a rate: the bucket is full. */
void lease_book_set(struct lease_book *book, const struct sched_limits *limits, uint64_t now_ns);
void lease_book_told(struct lease_book *book, unsigned shard, const struct lease_word *word,
                     uint64_t now_ns);
/* Tokens have come: to be called when due. */
void lease_book_round(struct lease_book *book, uint64_t now_ns);
/* When tokens come for somebody who lacks them; SCHED_NEVER. */
uint64_t lease_book_due(const struct lease_book *book);
/* Is there something to tell this shard? It then counts as told. */
bool lease_book_answer(struct lease_book *book, unsigned shard, struct lease_answer *answer);
/* Does no shard have a part in it? */
bool lease_book_unused(const struct lease_book *book);
