/*
 * operator: the operator's words to the scheduler: hold, release, suspend, resume; and walking through what waits.
 *
 * Held: a message is not delivered, and does not expire, until it is released, as in Postfix. Released: it is due when
 * it was, and gets an attempt however old it is meanwhile. A hold is not remembered across a restart here: the spool
 * says so in sched_request.
 *
 * Suspended: nothing of a site, or nothing of a sender in any site, is begun until the time that was said, to the
 * nanosecond. What arrives meanwhile waits as READY, counts no attempt and does not back off. It expires as ever.
 * Deliveries and connections under way go on. A flush does not end what the operator suspended. None of it survives a
 * restart here: whoever has it written down says it again.
 */
#pragma once
#include "queue/sched/sched.h"

struct sched_pool;

#define SCHED_SENDERS_SUSPENDED_MAX 65536

/* Deliveries that are under way become HELD if they come back. */
void sched_hold(struct message *message);
void sched_release(struct message *message, uint64_t now_ns);
bool sched_held(const struct message *message); /* some delivery of it is, or will be */

/* until_ns: SCHED_NEVER: until resumed. reason: a part is kept. Once more: replaces. 0 or -ENOMEM. */
int sched_site_suspend(struct sched_site *site, uint64_t until_ns, struct slice reason);
void sched_site_resume(struct sched_site *site); /* also when it is not suspended */

/* 0, -ENOMEM, or -ENOSPC: too many are. */
int sched_sender_suspend(struct sched *sched, uint64_t sender, uint64_t until_ns,
                         struct slice reason);
void sched_sender_resume(struct sched *sched, uint64_t sender);

struct sched_suspension_view {
    uint64_t sender;
    uint64_t until_ns;
    struct slice reason; /* borrowed until the scheduler is called again */
};
/* False: not suspended (any more). */
bool sched_site_suspension(const struct sched_site *site, uint64_t now_ns,
                           struct sched_suspension_view *view);
bool sched_sender_suspension(const struct sched *sched, uint64_t sender, uint64_t now_ns,
                             struct sched_suspension_view *view);
/* The suspended senders, by a position that starts as 0; false: no more. Those that change meanwhile may be missed or
 * come twice. */
bool sched_suspended_sender_next(const struct sched *sched, uint64_t *position,
                                 struct sched_suspension_view *view);

/*
 * Walks through deliveries, those of one site or all, in any state. Everything may change between two calls, also by
 * the one who walks: what is there from the beginning to the end comes once; what comes or moves meanwhile may be
 * missed, or come twice. O(1) a step. Start with sched_walk_begin, end with sched_walk_end.
 */
struct sched_walk {
    struct list_node node;   /* of the walks through this site */
    struct sched_site *site; /* NULL: through all */
    struct near_node *at;    /* where it stands, in a site */
    const struct sched_pool *pool;
    uint64_t cursor; /* and in all */
};
void sched_walk_begin(struct sched_walk *walk, struct sched *sched);
void sched_walk_begin_site(struct sched_walk *walk, struct sched_site *site);
/* NULL: that was all. */
struct sched_delivery *sched_walk_next(struct sched_walk *walk);
void sched_walk_end(struct sched_walk *walk);
/* The sites, NULL before the first and after the last; valid until one is closed. */
struct sched_site *sched_site_next(const struct sched *sched, const struct sched_site *after);
