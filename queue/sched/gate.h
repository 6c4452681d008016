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
    struct list_node idle;     /* sites with a connection that has nothing to do */
    struct sched_slots *lease; /* NULL: count_max is all its own. See group_lease.c */
};

/* What a gate has of a limit that other shards have a part in. */
struct sched_slots {
    uint32_t have;       /* used, promised or free */
    uint32_t hard, soft; /* it may keep; see lease.h */
    bool prompt;
    uint32_t lacking;     /* what its sites wanted and did not get; some of it may be free by now */
    uint32_t fresh;       /* granted, and not used for a connection yet */
    uint32_t wished;      /* would be good to have, if nobody has them; for the next word */
    uint32_t given, seen; /* for the next word */
    uint32_t told;        /* of what is lacking, less what came since */
};

/* A site before a gate. */
struct sched_place {
    struct sched_gate *gate;  /* NULL: none */
    struct list_node waiting; /* for a slot */
    struct list_node idle;
    uint32_t reserved_count;
    uint32_t yielding_count;
    uint32_t lacking_count; /* of a leased gate: it wanted so many more */
    uint8_t index;          /* of its site's places */
    bool keeps;             /* what is reserved is so while it waits for one of the shard's */
    bool turn;              /* what is reserved is so because it was the first of those who wait */
};

struct sched_meter {
    struct rate rate;
    struct rate_bucket bucket;
    struct list_node waiting;
    struct sched_tokens *lease; /* NULL: the bucket counts */
};

/* What a meter has of a rate that other shards have a part in. */
struct sched_tokens {
    struct sched_group *group;
    uint32_t have;
    uint32_t slice;             /* it asks for so many */
    uint32_t lacking;           /* to that, when somebody wants some */
    uint64_t granted_ns;        /* the last of them */
    uint32_t given, seen, told; /* as with slots */
};

struct sched_group {
    struct sched *sched;
    struct sched_gate gate;
    struct sched_meter connections, messages;
    uint32_t site_count;
    struct sched_lease *lease; /* NULL: it is all its own */
};

/* The part of a group in limits that another shard owns. */
struct sched_lease {
    struct sched_group *group;
    void *owner; /* the caller's */
    unsigned shard_count;
    struct list_node speaks; /* in the scheduler's list of those who have a word to say */
    struct list_node holds;  /* in that of those who have tokens */
    uint64_t granted_ns;     /* the last token */
    struct sched_slots slots;
    struct sched_tokens tokens[2]; /* by enum lease_rate */
};

void sched_gate_init(struct sched_gate *gate, uint32_t count_max);
void sched_group_init(struct sched_group *group, struct sched *sched); /* without limits */
/* Neither used nor promised. */
uint32_t sched_gate_free_count(const struct sched_gate *gate);
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
/* One that was taken was not used. */
void sched_meter_give(struct sched_meter *meter);
/* How many are there now, at most `most`. */
uint32_t sched_meter_available(const struct sched_meter *meter, uint64_t now_ns, uint32_t most);

/* group_lease.c. What a gate or a meter lacks, or gives back, has changed: its group may have a word to say. */
void sched_lease_note(struct sched_lease *lease);
void sched_slots_use(struct sched_gate *gate); /* a connection begins */
/* What a leased gate has free and must not keep goes back: before those who wait here, and after them. */
void sched_slots_give_hard(struct sched_gate *gate);
void sched_slots_give_soft(struct sched_gate *gate);
/* Must a connection of a leased gate be given up for another shard? */
bool sched_slots_surplus(const struct sched_gate *gate, uint32_t message_count);
/* The site that waits for tokens by this node is looked at. */
void sched_tokens_look(const struct sched_tokens *tokens, struct list_node *node);
/* How many tokens it asks for at a time, at the group's rates. NULL: nothing. */
void sched_lease_slice(struct sched_lease *lease);
void sched_lease_close(struct sched_lease *lease);
