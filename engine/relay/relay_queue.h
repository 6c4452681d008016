/*
 * relay_queue: what an operator does to queued recipients of one shard, a group at a time.
 *
 * A recipient that is being delivered right now, or that a report to its sender is written about, is left
 * alone and counted as busy. Whatever changes the queue is noted in the log; who asked waits until that is
 * durable.
 *
 * A delivery of a held message that is under way is held if it comes back.
 */
#pragma once
#include "engine/relay/queue_walk.h"

struct relay;
struct relay_site;

/* Recipients, and what became of the wish. Read by other shards, relaxed. */
struct relay_queue_tally {
    uint64_t done;
    uint64_t busy;
};

#define RELAY_QUEUE_TEXT_MAX 200u   /* of a reason to bounce */
#define RELAY_QUEUE_BOUNCES_MAX 64u /* reports under way; more must wait */

/* Why a message's recipients wait, and when they are tried next. */
struct relay_recipient_view {
    uint64_t next_attempt_s; /* seconds from now; 0: due or under way */
    uint32_t attempts;
    bool filed; /* false: its report is being written */
    bool found; /* by a start, and is not filed yet */
    bool active, held, suspended;
    bool never; /* as long as it is held, or suspended without end */
    struct slice reason, site;
};
/* views[i]: of recipient from + i. */
void relay_queue_view(struct relay *relay, const struct message *message, uint32_t from,
                      uint32_t count, struct relay_recipient_view *views);

/* enum conf_priority_level: as the configuration says now of the sender, or else what it has come with. */
uint8_t relay_queue_priority(const struct relay *relay, const struct message *message);
/* What a message comes with, as SPOOL_MARKS: that of mail that has none is 0. */
uint32_t relay_queue_priority_marks(uint8_t priority);

/* For the walk: site, reason and state of recipients. */
void relay_queue_facts(struct relay *relay, const struct message *message, uint32_t from,
                       uint32_t count, struct queue_facts *facts);

/* Forgotten; nobody is told. */
void relay_queue_delete(struct relay *relay, const struct queue_group *group,
                        struct relay_queue_tally *tally);
/* Returned to the sender with this text. */
void relay_queue_bounce(struct relay *relay, const struct queue_group *group, const char *text,
                        struct relay_queue_tally *tally);
/* Tried now. */
void relay_queue_flush(struct relay *relay, const struct queue_group *group,
                       struct relay_queue_tally *tally);
/* All at once, in no time. Returns how many. */
uint64_t relay_queue_flush_all(struct relay *relay);
/* The whole message is not tried until it is released; this survives a restart. */
void relay_queue_hold(struct relay *relay, const struct queue_group *group,
                      struct relay_queue_tally *tally);
void relay_queue_release(struct relay *relay, const struct queue_group *group,
                         struct relay_queue_tally *tally);

/* To this next hop, tried now; "routes": where the routes lead. See relay_detour.h. */
void relay_queue_reroute(struct relay *relay, const struct queue_group *group, const char *to,
                         struct relay_queue_tally *tally);
bool queue_group_has(const struct queue_group *group, uint32_t index);
void relay_queue_count(struct relay_queue_tally *tally, uint64_t done, uint64_t busy);

/* There is room for another report to a sender? */
bool relay_queue_may_bounce(const struct relay *relay);
/* How the site is called: its next hop. As long as the site. */
struct slice relay_site_name(struct relay_site *site);
