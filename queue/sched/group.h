/*
 * group: limits that several sites share, and the limit of the whole shard.
 *
 * All sites that lead to the same hosts from the same source (one for each TLS policy, say) form a group: the hosts
 * count our connections and messages without asking why they come. A site names its group in its settings.
 *
 * Who wants what is short stands in a queue. Connections: a slot that becomes free goes to the first of it, which goes
 * to the end of it when it wants more; and while somebody waits, sites that have more than he are told to give one up
 * between two messages (sched_connection_surplus). Tokens of a rate: the first of the queue has one interval to take
 * its token before another may. So a site with a backlog takes all while nobody else wants it, and its share otherwise.
 *
 * No timers: sched_site_next_due says when a token comes; a site that gets a slot because another gave it up comes out
 * of sched_look.
 */
#pragma once
#include "queue/sched/rate.h"
#include "queue/sched/sched.h"

struct lease_answer;
struct lease_word;
struct sched_group;

struct sched_limits {
    uint32_t connection_count_max; /* at once; 0: no limit but the sites' own */
    struct rate connections;       /* that are opened */
    struct rate messages;          /* transactions that are begun, one for each delivery */
};

/* 0 or -ENOMEM. Lives until sched_group_close, when no site names it any more; sched_close does not free it. */
int sched_group_open(struct sched *sched, const struct sched_limits *limits,
                     struct sched_group **group);
void sched_group_close(struct sched_group *group);
void sched_group_set(struct sched_group *group,
                     const struct sched_limits *limits); /* from now on */
uint32_t sched_group_site_count(const struct sched_group *group);
uint32_t sched_group_connection_count(const struct sched_group *group);

/* ---- Limits that sites of other shards have a part in: see lease.h ---- */

/* From now on the group has only what it is granted: at first nothing. While no site names it. 0 or -ENOMEM. */
int sched_group_lease(struct sched_group *group, unsigned shard_count, void *owner);
void *sched_group_lease_owner(const struct sched_group *group);
/* A group that has a word to say; NULL: none. It stays the first until it is taken. */
struct sched_group *sched_lease_speaker(struct sched *sched);
void sched_group_word(struct sched_group *group,
                      struct lease_word *word); /* is taken: to be sent */
void sched_group_answer(struct sched_group *group, const struct lease_answer *answer,
                        uint64_t now_ns);
/* Tokens that nobody has used for SCHED_LEASE_UNUSED_NS go back. Returns when to call again; SCHED_NEVER. */
uint64_t sched_leases_tidy(struct sched *sched, uint64_t now_ns);
#define SCHED_LEASE_UNUSED_NS 5000000000ull

/* It would be good to have so many slots in all, before somebody wants them: they are granted if no shard has them. */
void sched_group_wish(struct sched_group *group, uint32_t count);

/* Connections at once of all sites together; 0: no limit. */
void sched_set_connection_count_max(struct sched *sched, uint32_t count);
/* What that limit is of: a group that no site names, and that ends with the scheduler. To be leased. */
struct sched_group *sched_group_of_all(struct sched *sched);

/* A site that must be looked at now because of what others did or the operator said; NULL: none more. To be asked in
 * each round. */
struct sched_site *sched_look(struct sched *sched);

#define SCHED_CONNECTION_IDLE UINT32_MAX
#define SCHED_SLICE_MESSAGES 50 /* a connection may send before one waits who has none at all */
/* Between two messages, or while it has nothing to do: must this connection be given up for another site? It must then
 * be closed. message_count: sent on it so far; SCHED_CONNECTION_IDLE: sched_next had nothing for it. */
bool sched_connection_surplus(struct sched_site *site, uint32_t message_count);
