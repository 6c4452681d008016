/*
 * faults: what goes wrong in a run. Each seed draws which kinds of faults are on, and how strong each
 * is: a run with all of them at once finds other mistakes than one with two.
 */
#pragma once
#include "engine/core/wheel.h"
#include <stdbool.h>
#include <stdint.h>

struct sim;

enum sim_fault {
    SIM_FAULT_LOSS,
    SIM_FAULT_BURST,
    SIM_FAULT_REORDER,
    SIM_FAULT_REPEAT,
    SIM_FAULT_CORRUPT,
    SIM_FAULT_SLOW,   /* narrow cables with short queues */
    SIM_FAULT_DELAY,  /* long ones */
    SIM_FAULT_MTU,    /* that changes, told by ICMP or not */
    SIM_FAULT_CUT,    /* hosts that do not reach each other for a while, in one way or both */
    SIM_FAULT_DEVICE, /* a short ring, late reading, chains */
    SIM_FAULT_LIMITS, /* small tables, windows and few buffers */
    SIM_FAULT_CRASH,  /* of hosts */
    SIM_FAULT_DISK,   /* late, torn, failing, full */
    SIM_FAULT_PEER,   /* sinks and clients that misbehave */
    SIM_FAULTS
};
extern const char *const sim_fault_names[SIM_FAULTS];

struct sim_faults {
    uint32_t on;       /* 1 << enum sim_fault */
    bool harsh;        /* connections may fail by it */
    uint64_t until_ns; /* then they end, see sim_heal */
    uint64_t cut_ns;   /* how long hosts were cut off in all */
    struct timer cut, mend, mtu;
    struct sim *sim;
};

/* Draws, and sets the cables. Hosts are known, their stacks not yet opened. */
void sim_faults_open(struct sim_faults *faults, struct sim *sim);
/* These too (1 << enum sim_fault), unless they are to be left out. */
void sim_faults_on(struct sim_faults *faults, uint32_t more);
void sim_faults_close(struct sim_faults *faults);
static inline bool sim_fault_on(const struct sim_faults *faults, enum sim_fault fault)
{
    return (faults->on & 1u << fault) != 0;
}
