/*
 * gate: connections that many sites share, and the queue before them; tokens of a rate, and the queue before them.
 *
 * For the scheduler alone; group.h says how it is fair.
 */
#pragma once
#include "queue/sched/group.h"

struct sched_gate {
    uint32_t count_max; /* 0: no limit */
    uint32_t used_count;
    uint32_t reserved_count; /* free, but promised to sites that have not come yet */
    uint32_t yielding_count; /* used, but being given up */
    struct list_node waiting;
    uint32_t waiting_count;
    struct list_node idle; /* sites with a connection that has nothing to do */
};

/* A site before a gate. */
struct sched_place {
    struct sched_gate *gate;  /* NULL: none */
    struct list_node waiting; /* for a slot */
    struct list_node idle;
    uint32_t reserved_count;
    uint32_t yielding_count;
    uint8_t index; /* of its site's places */
    bool turn;     /* what is reserved is so because it was the first of those who wait */
};

struct sched_meter {
    struct rate rate;
    struct rate_bucket bucket;
    struct list_node waiting;
};

struct sched_group {
    struct sched *sched;
    struct sched_gate gate;
    struct sched_meter connections, messages;
    uint32_t site_count;
};

void sched_gate_init(struct sched_gate *gate, uint32_t count_max);
/* What is free is promised to those who wait. */
void sched_gate_hand_out(struct sched_gate *gate);
/* The site with its connections comes to a gate, or leaves it. */
void sched_place_join(struct sched_site *site, struct sched_place *place, struct sched_gate *gate);
void sched_place_leave(struct sched_site *site, struct sched_place *place);

/* Of so many wanted, how many the site's gates let through now; it waits before the one that did not let all. What it
 * gets is reserved until it asks again. Nothing more is wanted: it waits no more. */
uint32_t sched_gates_pass(struct sched_site *site, uint32_t wanted);
/* A connection that was let through begins; has ended. */
void sched_gates_take(struct sched_site *site);
void sched_gates_give(struct sched_site *site);
/* Nothing stands in the way, or the site does not wait for it yet. */
bool sched_gates_open(const struct sched_site *site);
/* The number of connections with nothing to do has changed. */
void sched_gates_idle(struct sched_site *site);

/* When a site, by its node in the meter's queue, can have a token: now_ns or earlier: at once. */
uint64_t sched_meter_due(const struct sched_meter *meter, const struct list_node *node,
                         uint64_t now_ns);
/* How many of `most` it can take now, one when others wait. When there are none it waits. */
uint32_t sched_meter_ask(struct sched_meter *meter, struct list_node *node, uint64_t now_ns,
                         uint32_t most);
/* Takes some of those, and waits no more. */
void sched_meter_take(struct sched_meter *meter, struct list_node *node, uint64_t now_ns,
                      uint32_t count);
