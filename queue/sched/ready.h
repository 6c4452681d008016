/*
 * ready: what is due in a site: a queue for each sender of each priority, and whose turn it is.
 *
 * For the scheduler alone. A queue exists while something in it is ready; a table of the whole shard finds it. All
 * operations are O(1), but for those of a suspension, which touch what it concerns.
 */
#pragma once
#include "queue/sched/sched.h"

/* Of one sender, in one priority of one site. */
struct sched_queue {
    struct sched_queue *next; /* in its bucket */
    struct sched_site *site;
    uint64_t sender;
    struct list_node node;        /* in the round of its priority, or the site's blocked ones */
    struct sched_delivery *first; /* a ring */
    uint32_t count;
    uint8_t priority;
    bool blocked; /* its sender is suspended */
};

struct sched_round {
    struct list_node queues;
    struct sched_queue *last; /* where something was put last; NULL: it is gone */
    uint32_t passed;          /* deliveries of higher priorities since it had a turn */
};

/* The queues of a site. */
struct sched_ready {
    struct sched_round rounds[SCHED_PRIORITY_COUNT];
    struct list_node blocked;
    uint64_t blocked_due_ns; /* when the first suspension ends, or earlier */
    uint64_t count;          /* deliveries, blocked ones too */
    uint64_t blocked_count;
};

/* It grows bucket by bucket, so that no single delivery pays for all. */
struct sched_queues {
    struct sched_queue **buckets, **before; /* before: while it grows */
    size_t bucket_count, before_count, moved_count;
    size_t count;
    uint64_t secret;
    uint64_t memory_bytes; /* of the table */
};

enum sched_end { SCHED_AT_END, SCHED_AT_FRONT };

void sched_queues_close(struct sched_queues *queues);
void sched_ready_init(struct sched_ready *ready);
/* The delivery, in no list now, is READY. FRONT: the next of its sender and its priority. 0 or -ENOMEM. */
int sched_ready_enter(struct sched_delivery *delivery, enum sched_end end);
void sched_ready_leave(struct sched_delivery *delivery);
/* The next in turn, out of its queue; NULL: none that is not blocked. */
struct sched_delivery *sched_ready_take(struct sched_site *site);
/* The next in turn without taking them, `most` at most, as if no priority had been passed over. Returns how many. */
uint32_t sched_ready_turns(const struct sched_ready *ready,
                           const struct sched_delivery **deliveries, uint32_t most);
/* A suspension of a sender has begun, or ended. */
void sched_ready_turn(struct sched_site *site, uint64_t sender);
/* Looks which suspensions have ended, if it is time. */
void sched_ready_look(struct sched_site *site, uint64_t now_ns);
