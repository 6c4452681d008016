/*
 * states: what must hold inside of a stack after every round: RFC 9293's transitions only, sequence
 * numbers that go forward, no more in flight than the congestion window allows, sums that add up,
 * tables and buffers within their bounds, and a timer for whatever waits.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct network;
struct sim_host;

struct sim_shadow; /* of a connection, after the round before */

struct sim_states {
    struct sim_shadow *shadows; /* by slab index */
    uint32_t count;
    uint32_t rounds;
    uint64_t transitions;
    uint64_t
        endings; /* the stack's count of those that a connection that has sent FIN first may have */
};

void sim_states_open(struct sim_states *states);
void sim_states_close(struct sim_states *states);
void sim_states_check(struct sim_host *host);
/* At rest: nothing is left. */
void sim_states_check_quiet(struct sim_host *host);
