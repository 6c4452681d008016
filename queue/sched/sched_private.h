/*
 * sched_private: what the parts of the scheduler share: sched.c (deliveries) and site.c (sites,
 * their connections, and when to look at them again). Nobody else includes it.
 */
#pragma once
#include "engine/core/check.h"
#include "queue/sched/heap.h"
#include "queue/sched/pool.h"

struct sched {
    struct list_node sites;
    struct sched_pool pool;
    uint64_t recipient_count;
    uint64_t random; /* state of the jitter */
};

struct sched_site {
    struct sched *sched;
    void *owner;
    struct list_node node;
    struct sched_site_settings settings;

    struct list_node ready; /* due: in the order in which they became so */
    struct sched_heap later;
    struct sched_heap flushed;  /* due by the operator's word, whatever their time */
    struct list_node by_age;    /* all that have not expired, the first to expire first */
    struct list_node *age_hint; /* the last that entered it before its end; NULL: none */
    uint64_t delivery_count, ready_count, active_count, recipient_count;
    struct sched_reason *last_reason; /* for sharing */

    uint32_t connecting_count;
    uint32_t open_count;
    uint32_t
        failure_count; /* rounds of connecting that failed, since one succeeded or a suspension */
    uint32_t suspension_count; /* in a row */
    bool paused; /* suspended although connections were open: they may not take more */
    uint64_t suspended_until_ns;
    uint16_t connect_reason_bytes;
    char connect_reason[SCHED_REASON_BYTES_MAX];
};

uint32_t sched_entropy(struct sched *sched);
/* Moves deliveries that are due from the heaps to the ready queue: a bounded number a call. */
void sched_site_promote(struct sched_site *site, uint64_t now_ns);
/* Without its deliveries: those end with the pool. */
void sched_site_free(struct sched_site *site);
