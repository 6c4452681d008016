/*
 * sim: a world in one process, of one seed: hosts with their stacks, a network, disks, and time that
 * stands still while they compute.
 *
 * Whatever is not decided by the scenario is drawn from the seed, so that the same seed is the same
 * run, frame by frame. What must always hold is checked all the while; the first thing that does not
 * ends the program, with the command that shows it again.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/shard/shard.h"
#include "tests/sim/faults.h"
#include "tests/sim/net.h"
#include "tests/sim/states.h"
#include "tests/sim/wire.h"
#include "tests/unit/net_pair.h"

#define SIM_US 1000ull
#define SIM_MS 1000000ull
#define SIM_S 1000000000ull

/* A mistake that is put in on purpose, to see that it is found. */
enum sim_plant {
    SIM_PLANT_NONE,
    SIM_PLANT_BYTE,   /* the network changes a byte, and makes the checksum right again */
    SIM_PLANT_TIMERS, /* the timers of a host never run */
    SIM_PLANT_LEAK,   /* a host keeps a buffer */
    SIM_PLANT_LOST,   /* a sink forgets a message that it has acknowledged */
    SIM_PLANT_TWICE,  /* a sink counts a message twice */
    SIM_PLANT_ASTRAY, /* a sink takes a message for somebody else's */
    SIM_PLANT_TORN,   /* at a crash, the disk loses a write that it said was durable */
    SIM_PLANT_EARLY,  /* the disk says that a write is durable before it is */
    SIM_PLANTS
};

struct sim_options {
    const char *scenario;
    uint64_t seed;
    uint32_t without;       /* 1 << enum sim_fault: left out, to see which of them it takes */
    uint32_t most;          /* connections, or letters of each client; 0: as many as are drawn */
    uint32_t bytes;         /* of each of them at most; 0: as many as are drawn */
    uint32_t *faults_drawn; /* NULL, or to be filled: 1 << enum sim_fault */
    enum sim_plant plant;
    bool verbose;
    const char *pcap;
};

enum sim_family { SIM_IPV4, SIM_IPV6, SIM_FAMILIES };

struct sim_relay;

/* One host: a shard, with a stack and what else the scenario puts on it. */
struct sim_host {
    struct sim *sim;
    unsigned index;
    bool up;
    struct shard shard;
    struct network *network; /* its stack */
    struct rte_mempool *pool;
    struct network_prefix prefixes[SIM_FAMILIES]; /* 10.0.0.N/24 and fd00::N/64 */
    bool skips_dad;
    struct stack_limits limits;
    struct sim_states states;
    uint64_t again_ns;     /* its last round did something, so another follows */
    uint64_t heartbeat_ns; /* between rounds though nothing happens; 0: none */
    uint64_t last_round_ns;
    /* What else is on it. May be NULL: when it wants a round; UINT64_MAX: does not care. */
    uint64_t (*next_ns)(struct sim_host *host);
    void *owner;
    struct rte_mbuf *kept; /* SIM_PLANT_LEAK */
    uint64_t rounds;
};

struct sim {
    struct sim_options options;
    struct net_world world; /* first of all that is drawn from the seed */
    struct logger logger;
    struct sim_net net;
    struct sim_wire wire;
    struct sim_faults faults;
    struct sim_host hosts[SIM_HOSTS_MAX];
    unsigned host_count;
    struct wheel *script; /* what the scenario does, and when */
    uint64_t random;      /* the scenario's */
    uint64_t started_ns;
    uint64_t steps;
    bool healed;
};

/* Once a process: the EAL and the hosts' buffers. 0 or -errno. */
int sim_start(void);

void sim_open(struct sim *sim, const struct sim_options *options, unsigned host_count);
void sim_close(struct sim *sim);
/* To the next moment at which something happens, but no further. False: nothing ever will. */
bool sim_step(struct sim *sim, uint64_t at_most_ns);
/* Steps until it holds. False: it does not within that time. */
bool sim_run_until(struct sim *sim, bool (*holds)(struct sim *sim, void *owner), void *owner,
                   uint64_t for_ns);
void sim_run(struct sim *sim, uint64_t for_ns);

uint32_t sim_below(struct sim *sim, uint32_t bound); /* 0 when bound is 0 */
bool sim_chance(struct sim *sim, uint32_t percent);
/* What was drawn, but no more than was asked for; 0: of any size. */
static inline uint64_t sim_at_most(uint64_t drawn, uint32_t most)
{
    return most > 0 && drawn > most ? most : drawn;
}
/* In [from, to]; one time in two a small one is as likely as a large one, in orders of magnitude. */
uint64_t sim_spread(struct sim *sim, uint64_t from, uint64_t to);

__attribute__((noreturn, format(printf, 2, 3))) void sim_fail(struct sim *sim, const char *format,
                                                              ...);
__attribute__((format(printf, 2, 3))) void sim_say(struct sim *sim, const char *format, ...);

/* Where a host is reached. */
struct endpoint sim_host_at(const struct sim_host *host, enum sim_family family, uint16_t port);
/* Any address of its own of that family. */
struct endpoint sim_any(enum sim_family family, uint16_t port);
/* A host whose power is switched on; `owner` may add parts to its shard afterwards. */
void sim_host_open(struct sim_host *host);
/* Orderly: everything that it has must be given back. */
void sim_host_close(struct sim_host *host);
/* The network goes: what its frames point into may go next. Then sim_host_unplug. */
void sim_host_cut(struct sim_host *host);
/* What is on its cable is lost, and all that it knew. The caller has dropped what stands on it. */
void sim_host_unplug(struct sim_host *host);
/* Something was done to it from outside: it makes a round soon. */
void sim_host_touch(struct sim_host *host);

/* Nothing is left of any connection, and every buffer is back. */
void sim_host_check_quiet(struct sim_host *host);

/* All faults end: what can be finished must be, from now on. */
void sim_heal(struct sim *sim);

extern const char *const sim_plant_names[SIM_PLANTS];

struct sim_scenario {
    const char *name;
    void (*run)(const struct sim_options *options);
};
extern const struct sim_scenario streams_scenario, mail_scenario, mailbox_scenario, secure_scenario,
    imap_scenario, week_scenario;
