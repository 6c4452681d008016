/*
 * lease_desk: carries what queue/sched/lease.h says between the shards: one desk a shard.
 *
 * Each group of sites whose limits hold for the whole relay has an id that is the same on all shards; it chooses the
 * shard whose desk keeps the book of it. A desk keeps its books, knows the groups of its own shard, and sends words and
 * answers by shard messages. Nothing is lost: what finds no memory or no room in a ring goes in a later round.
 */
#pragma once
#include "engine/net/siphash.h"
#include "queue/sched/group.h"

struct lease_desk;
struct shard;

/* Of limits that are the same ones on every shard. */
struct lease_id {
    uint64_t words[2];
};

struct lease_desk_settings {
    struct shard *shard;
    struct lease_desk **all; /* of every shard; filled by lease_desk_open */
    unsigned index, count;
};

/* On main's thread, before any shard runs. 0 or -ENOMEM. */
int lease_desk_open(const struct lease_desk_settings *settings);
void lease_desk_close(struct lease_desk *desk); /* after all threads have ended */

/* To make ids that nobody outside can foresee: the same for all shards. */
const struct siphash_key *lease_desk_secret(const struct lease_desk *desk);

/* From here on: on the shard's thread. The scheduler of its groups; NULL: it is closed, no group is left. */
void lease_desk_attach(struct lease_desk *desk, struct sched *sched);
/* What was told with the group that has joined under this id; NULL: none has. */
void *lease_desk_find(const struct lease_desk *desk, const struct lease_id *id);
/* A group that no site names yet. 0 or -ENOMEM. */
int lease_desk_join(struct lease_desk *desk, const struct lease_id *id, struct sched_group *group,
                    const struct sched_limits *limits, void *owner);
/* After sched_group_set. */
void lease_desk_set(struct lease_desk *desk, struct sched_group *group,
                    const struct sched_limits *limits);
/* No site names it any more. Before sched_group_close. */
void lease_desk_leave(struct lease_desk *desk, struct sched_group *group);

/* At the end of each round. */
void lease_desk_round(struct lease_desk *desk);
/* There is something yet to be sent: do not sleep. */
bool lease_desk_busy(const struct lease_desk *desk);
