/*
 * sched_private: what the parts of the scheduler share: sched.c (deliveries), site.c (sites,
 * their connections, and when to look at them again), ready.c (whose turn it is), gate.c and
 * group.c (limits that are shared), operator.c (what is held or suspended) and walk.c. Nobody else includes it.
 */
#pragma once
#include "engine/core/check.h"
#include "queue/sched/gate.h"
#include "queue/sched/heap.h"
#include "queue/sched/operator.h"
#include "queue/sched/pool.h"
#include "queue/sched/ready.h"

/* The operator's word about a sender, or a site. */
struct sched_suspension {
    struct sched_suspension *next; /* in its bucket */
    uint64_t sender;
    uint64_t until_ns;
    uint16_t reason_bytes;
    char reason[];
};

struct sched_suspensions {
    struct sched_suspension **buckets; /* NULL: there was none yet */
    uint32_t count;
    uint64_t due_ns; /* when the first ends, or earlier */
};

struct sched {
    struct list_node sites;
    struct list_node look; /* sites, for sched_look */
    struct sched_pool pool;
    struct sched_queues queues;
    struct sched_suspensions suspensions;
    struct sched_group all;        /* the limit of the whole shard; no site names it */
    struct list_node lease_speaks; /* see sched_lease */
    struct list_node lease_holds;  /* the first has had its tokens the longest */
    uint64_t recipient_count;
    uint64_t random; /* state of the jitter */
};

enum { SCHED_GATE_GROUP, SCHED_GATE_SHARD, SCHED_GATES };

struct sched_site {
    struct sched *sched;
    void *owner;
    struct list_node node;
    struct sched_site_settings settings;

    struct sched_ready ready; /* due */
    struct sched_heap later;
    struct sched_heap flushed;  /* due by the operator's word, whatever their time */
    struct near_node by_age;    /* all that have not expired, the first to expire first */
    struct near_node *age_hint; /* the last that entered it before its end; NULL: none */
    struct near_node *delay_at; /* in by_age: who comes before it was told that it is delayed */
    struct near_node held;
    struct list_node walks; /* that go through this site */
    uint64_t delivery_count, active_count, held_count, recipient_count;
    struct sched_reason *last_reason; /* for sharing */

    uint32_t connecting_count;
    uint32_t open_count;
    uint32_t failure_count; /* rounds of connecting that failed, since one succeeded or a rest */
    uint32_t rest_count;    /* in a row */
    uint32_t round_count;   /* connections of this round that failed */
    uint32_t tried_count;   /* the most of a round, since one was opened or a rest */
    uint32_t ramp_count;    /* so many connections while it comes back; 0: as many as its limit */
    bool round_failed;      /* one of those that are being opened together has failed */
    bool paused;            /* rests although connections were open: they may not take more */
    uint64_t rests_until_ns;
    struct sched_suspension *suspension; /* NULL: the operator said nothing, or it has ended */
    struct list_node look;
    struct sched_place places[SCHED_GATES];
    struct list_node connection_wait, message_wait; /* in the group's meters */
    uint32_t connection_tokens;                     /* taken, for connections to be started */
    uint16_t connect_reason_bytes;
    char connect_reason[SCHED_REASON_BYTES_MAX];
};

static_assert(offsetof(struct sched_site, by_age) % NEAR_GRANULE_BYTES == 0 &&
                  offsetof(struct sched_site, held) % NEAR_GRANULE_BYTES == 0 &&
                  offsetof(struct sched_delivery, by_age) % NEAR_GRANULE_BYTES == 0 &&
                  offsetof(struct sched_delivery, ready.node) % NEAR_GRANULE_BYTES == 0,
              "links lead to them");
static_assert(sizeof(struct sched_site) <= NEAR_BYTES_MAX, "it lies in the heap");

uint32_t sched_entropy(struct sched *sched);
/* By the operator. */
bool sched_site_suspended(const struct sched_site *site, uint64_t now_ns);
void sched_site_look_at(struct sched_site *site);
/* A node leaves one of the site's lists; the site is closed. */
void sched_walks_step(struct sched_site *site, const struct near_node *left);
void sched_walks_close(struct sched_site *site);
/* NULL: the sender is not suspended. */
const struct sched_suspension *sched_suspension_of(const struct sched *sched, uint64_t sender);
/* Forgets those that have ended. */
void sched_suspensions_look(struct sched *sched, uint64_t now_ns);
void sched_suspensions_close(struct sched *sched);
/* The delivery leaves the list `by_age` that it is in; walks go past it. */
void sched_age_leave(struct sched_delivery *delivery);
/* Out of the queue, the heap or the held ones, in which it waits. */
void sched_waiting_leave(struct sched_delivery *delivery);
/* HELD, whatever it was: it waits nowhere now, and is in no list by age. */
void sched_held_enter(struct sched_delivery *delivery);
/* READY or LATER, by its due time; in the list by age. */
void sched_waiting_enter(struct sched_delivery *delivery, uint64_t now_ns);
/* Moves deliveries that are due from the heaps to the ready queue: a bounded number a call. */
void sched_site_promote(struct sched_site *site, uint64_t now_ns);
/* It may be tried at once, whatever has failed. */
void sched_site_lift(struct sched_site *site);
/* Without its deliveries: those end with the pool. */
void sched_site_free(struct sched_site *site);
