/*
 * queue_walk: walks over a shard's queue, a piece of each in every round, so that millions of queued
 * recipients hold no message up.
 *
 *   queue_walk_start ──► every round: piece, piece, ... ──► over (runs once, on the shard)
 *
 * A walk goes through all messages in no order, or through the ids of its filter. It finds the recipients
 * that wait and are meant by the filter and hands them to `act`, a group of a message at a time. Messages
 * may come and go meanwhile: what is there all the time is looked at once, anything else at most once.
 *
 * Work is counted in steps: one for each message and each recipient looked at, more where a pattern is
 * compared. A round of all walks together ends after QUEUE_WALK_STEPS, or after a share of the time that the shard has
 * had for all else since the round before: with mail to move a walk takes a tenth of the shard, without any nearly all of
 * it. It exceeds that by QUEUE_WALK_LOOK steps or one group.
 */
#pragma once
#include "engine/core/world.h"
#include "engine/relay/queue_filter.h"

#define QUEUE_WALK_STEPS 256u
#define QUEUE_WALK_SHARE 10u /* of all else */
#define QUEUE_WALK_NS_MIN 4000u
#define QUEUE_WALK_NS_MAX 200000u
#define QUEUE_WALK_LOOK 16u         /* steps between two looks at the clock */
#define QUEUE_GROUP_MAX 1000u       /* recipients looked at before `act` */
#define QUEUE_GROUP_PATTERN_MAX 32u /* the same with a pattern */
#define QUEUE_PATTERN_STEPS 8u      /* that a recipient counts then */

struct queue_walk;

/* Recipients of a message that are meant. */
struct queue_group {
    struct message *message;
    const uint32_t *indexes; /* in ascending order */
    uint32_t count;          /* >= 1 */
    bool whole;              /* these are all that wait */
};

struct queue_walk_ops {
    /* What is known of a message's recipients [from, from + count): facts[i - from] is zeroed before.
     * For filters that ask for it. */
    void (*facts)(void *owner, const struct message *message, uint32_t from, uint32_t count,
                  struct queue_facts *facts);
    /* May change the queue as it likes. */
    void (*act)(void *owner, const struct queue_group *group);
    /* False: not now; the walk stands still in this round. NULL: always. */
    bool (*ready)(void *owner);
    void (*over)(void *owner); /* the walk is gone from its list */
};

/* Read by other shards, relaxed, while it runs. */
struct queue_walk_counts {
    uint64_t looked;  /* messages */
    uint64_t matched; /* recipients */
    uint64_t gave_up; /* texts for which the pattern took too long */
};

struct queue_walk {
    /* Set before the start; the rest zero. */
    const struct queue_filter *filter; /* borrowed */
    const struct queue_walk_ops *ops;
    void *owner;
    uint64_t cursor;       /* where to begin; 0: from the start. Then where it stands */
    uint64_t looked_most;  /* messages after which it ends early; 0: at the end */
    uint64_t matched_most; /* the same of recipients */
    uint64_t limit;        /* recipients after which it ends at once; 0: none */

    struct queue_walk_counts counts;
    bool cancelled; /* set on the shard: it ends in the next round */
    bool ended;     /* it came to the end, so there is nothing behind the cursor */
    bool failed;    /* memory was short */
    /* Its own. */
    struct list_node node;
    struct queue_matcher *matcher;
    uint64_t *ids; /* taken from the table, not looked at yet */
    uint32_t id_count, id_next, id_room;
    uint32_t recipient; /* of the first of them: where to go on */
    bool over_table;    /* nothing is behind the cursor */
};

struct queue_walks {
    struct spool *spool;
    const struct world *world;
    struct list_node walks;
    uint64_t left_ns; /* when the round before was over */
    int64_t wall_s;   /* of this round */
};

void queue_walks_init(struct queue_walks *walks, struct spool *spool, const struct world *world);
/* 0 or -ENOMEM: then nothing was begun. */
int queue_walk_start(struct queue_walks *walks, struct queue_walk *walk);
/* Once a round. Returns the steps made. */
unsigned queue_walks_round(struct queue_walks *walks);
/* All of them end in the next round, wherever they are. */
void queue_walks_cancel(struct queue_walks *walks);
