/*
 * sched: which delivery is due, and how many connections its site may have. One a shard.
 *
 * A site is a set of next hops reached the same way; what limits and fails together. A delivery is
 * one message on its way to one site, with those of its recipients that wait there. The relay adds
 * deliveries, opens the connections that a site wants, takes the next delivery for each connection
 * that is free, and says what became of it.
 *
 *   sched_add ──► READY ──sched_next──► ACTIVE ──sched_done──► gone
 *                  ▲  ▲                  │   │
 *              due │  └──sched_return────┘   └─sched_defer─► LATER (a heap by due time)
 *                  └────────────────────────────────────────┘
 *   READY, LATER ──sched_hold──► HELD ──sched_release──► READY or LATER
 *
 * What is READY in a site goes by priority, and within a priority one delivery of each sender in turn, so that the
 * backlog of one delays nobody else. A lower priority gets one of every SCHED_PRIORITY_SHARE deliveries at least.
 * group.h: limits that sites share. operator.h: holding, suspending, walking.
 *
 * No I/O, no clock, no randomness but the seed. All times: nanoseconds of the shard's monotonic
 * clock. Any number of deliveries of one site costs the others nothing: every operation touches one
 * site and is O(1), or O(log n) in the heap of that site. A waiting recipient costs at most 200
 * bytes.
 *
 * struct message is the spool's; the scheduler uses its `owner` and nothing else, and never frees
 * it.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/near.h"
#include "engine/core/slice.h"
#include "queue/sched/retry.h"
#include <assert.h>

struct message;
struct sched;
struct sched_group;
struct sched_queue;
struct sched_site;
struct sched_reason;

#define SCHED_NEVER UINT64_MAX
#define SCHED_REASON_BYTES_MAX 200 /* what is kept of a reason */
#define SCHED_REASON_BYTES_FEW 56  /* and when more recipients wait than: */
#define SCHED_REASON_MANY 100000
#define SCHED_PRIORITY_BITS 2
#define SCHED_PRIORITY_COUNT (1 << SCHED_PRIORITY_BITS) /* 0 .. 3; higher first */
#define SCHED_PRIORITY_NORMAL 1
#define SCHED_PRIORITY_SHARE 16
#define SCHED_ATTEMPTS_BITS 20 /* five days, twice a second */
#define SCHED_ATTEMPTS_MAX ((1u << SCHED_ATTEMPTS_BITS) - 1)

struct sched_site_settings {
    uint32_t connection_count_max; /* >= 1 */
    uint32_t address_count;        /* so many failures in a row suspend the site; 0: as 1 */
    struct retry_policy retry;     /* of a delivery that was deferred */
    struct retry_policy reconnect; /* of a site that cannot be reached */
    uint64_t expire_ns;            /* a message that is older is given up */
    uint64_t delay_ns;         /* one that is older is told of once, by sched_delayed; 0: never */
    struct sched_group *group; /* whose limits hold too; NULL: none. See group.h */
};

enum sched_state { SCHED_READY, SCHED_LATER, SCHED_ACTIVE, SCHED_HELD };

/* Read-only outside but for `asked`, and valid from sched_add until sched_done or sched_delete. */
struct sched_delivery {
    struct message *message;
    uint64_t due_ns;
    uint64_t expires_ns;
    uint64_t sender;
    /* The scheduler's own: with sites, queues and reasons in one heap, so that links are short. */
    struct near_node by_age; /* of its site, oldest first, or HELD; out of it once it has expired */
    union {
        struct { /* READY: in the queue of its sender */
            struct near_node node;
            uint32_t queue;
        } ready;
        struct { /* LATER: in one of the site's heaps */
            uint32_t child, next, previous;
        } heap;
    };
    uint32_t site_link;    /* see sched_site_of */
    uint32_t message_link; /* see sched_next_of_message */
    uint32_t reason_link;
    uint32_t count;                          /* recipients */
    uint32_t attempts : SCHED_ATTEMPTS_BITS; /* failures so far; SCHED_ATTEMPTS_MAX: or more */
    uint32_t state : 2;                      /* enum sched_state */
    uint32_t priority : SCHED_PRIORITY_BITS;
    bool parked : 1;  /* ACTIVE without a connection: see sched_park */
    bool held : 1;    /* HELD, or will be when it comes back */
    bool delayed : 1; /* sched_delayed has told of it */
    bool placed : 1;  /* somebody has chosen its site: where its recipients lead is no question */
    bool asked : 1;   /* the caller's: that question is answered, until its next turn */
    union {
        uint32_t few[2];
        uint32_t *many; /* when count > 2 */
    } indexes;
};

static_assert(sizeof(struct sched_delivery) <= 80, "ten million of them wait");

static inline struct sched_site *sched_site_of(const struct sched_delivery *delivery)
{
    return (struct sched_site *)near_at(delivery, delivery->site_link);
}

/* The next delivery of the same message, of which message->owner is the first; NULL: no more. */
static inline struct sched_delivery *sched_next_of_message(const struct sched_delivery *delivery)
{
    return (struct sched_delivery *)near_at(delivery, delivery->message_link);
}
static_assert(sizeof(struct sched_delivery) + SCHED_REASON_BYTES_FEW + 8 <= 200,
              "a waiting recipient costs at most 200 bytes");

/* seed: makes the jitter. NULL when memory is short. Owned by the caller until sched_close. */
struct sched *sched_open(uint64_t seed);
void sched_close(struct sched *sched); /* sites and deliveries too; messages are left alone */

/* owner: the caller's, see sched_site_owner. 0 or -ENOMEM. Lives until sched_close, or
 * sched_site_close when it has no delivery and no connection. */
int sched_site_open(struct sched *sched, const struct sched_site_settings *settings, void *owner,
                    struct sched_site **site);
void sched_site_close(struct sched_site *site);
void sched_site_set(struct sched_site *site,
                    const struct sched_site_settings *settings); /* from now on */
void *sched_site_owner(const struct sched_site *site);

struct sched_request {
    struct message *message;
    const uint32_t *indexes; /* recipients of the message; copied */
    uint32_t count;          /* >= 1 */
    uint32_t attempts;       /* failures before a restart */
    uint64_t due_ns;         /* now_ns or less: at once */
    uint64_t age_ns;         /* of the message, now */
    uint64_t sender;         /* who shares his turns: a hash, of the reverse-path's domain, say */
    uint8_t priority;        /* < SCHED_PRIORITY_COUNT */
    bool held;               /* since before a restart */
    bool delayed;            /* its sender was told before a restart that it is delayed */
    bool placed;             /* see sched_delivery */
};

/* 0 or -ENOMEM. A message may have several deliveries, at one site or many. One that is too old
 * already gets an attempt all the same, since it may have waited for us. */
int sched_add(struct sched_site *site, const struct sched_request *request, uint64_t now_ns);

/* Whose turn it is of the deliveries that are due, for a connection that is free; NULL: none is due, or
 * none may begin now (suspended, or the group's rate). It is ACTIVE until one of done, defer, return. */
struct sched_delivery *sched_next(struct sched_site *site, uint64_t now_ns);

/* Recipients of a delivery. */
const uint32_t *sched_indexes(const struct sched_delivery *delivery);

/* All its recipients are finished; the delivery is gone. Call it before the spool forgets the
 * message. */
void sched_done(struct sched_delivery *delivery);

enum sched_defer { SCHED_DEFERRED, SCHED_EXPIRED };
/* These recipients (a part of its own, count >= 1) must wait; the others are finished. reason: one
 * line for the operator, a part of it is kept. SCHED_EXPIRED: too old to wait again; it stays
 * ACTIVE with these recipients: return them to the sender, then sched_done. */
enum sched_defer sched_defer(struct sched_delivery *delivery, uint64_t now_ns,
                             const uint32_t *indexes, uint32_t count, struct slice reason);
/* Due at once, before the others of its sender and priority, and no attempt counted: the connection
 * failed before the server could judge. */
void sched_return(struct sched_delivery *delivery, const uint32_t *indexes, uint32_t count);

/* An ACTIVE delivery needs an answer before it can go on (where its domain's mail goes): it occupies no
 * connection of its site meanwhile. One of done, defer, return, move follows. */
void sched_park(struct sched_delivery *delivery);
/* An ACTIVE delivery, parked or not, that has not expired goes on at this site, or another, of the
 * same scheduler: READY there, behind the others; attempts and age stay. */
void sched_move(struct sched_delivery *delivery, struct sched_site *site);
/* The same, and it is `placed` there. */
void sched_place(struct sched_delivery *delivery, struct sched_site *site);

/* A delivery that grew too old while it waited, without being tried again; ACTIVE then, as after
 * SCHED_EXPIRED. NULL: none. When its recipients cannot be returned to the sender now, put it back
 * with sched_return or sched_defer: it expires again after the first wait of the retry policy. */
struct sched_delivery *sched_expired(struct sched_site *site, uint64_t now_ns);
/* A delivery that waits, whatever for: ACTIVE then, without a connection, as after sched_park; to
 * empty a site. NULL: none. One that was HELD is so again when it comes back. */
struct sched_delivery *sched_evict(struct sched_site *site);
struct slice
sched_reason(const struct sched_delivery *delivery); /* why it was deferred last; may be empty */

/* A delivery that waits, or is under way, and is older than delay_ns now: its sender may be told. It
 * stays where it is. Each comes once. NULL: none. */
struct sched_delivery *sched_delayed(struct sched_site *site, uint64_t now_ns);

/* When a delivery that failed `waited_ns` ago, for the attempts-th time, is due: for sched_request
 * after a restart. */
uint64_t sched_due_again(struct sched_site *site, uint32_t attempts, uint64_t waited_ns,
                         uint64_t now_ns);

/* How many more connections to open now. Each is told with started, then opened or failed, and
 * closed when it was opened. One that cannot be used (refused, timed out, greeted with an error)
 * has failed. */
uint32_t sched_wants_connection(struct sched_site *site, uint64_t now_ns);
void sched_connection_started(struct sched_site *site);
void sched_connection_opened(struct sched_site *site); /* it greeted us: the site works */
/* Connections that were tried at the same time and fail count as one failure. After address_count
 * failures with none open the site rests for a while, longer each time, then is tried with one
 * connection. When that is opened two may be, then four: as many as its limit only step by step.
 * Returns how many deliveries were tried in vain: not 0 only when the site begins to rest with no connection
 * open, and then as many as connections were tried at the same time. They are the first of sched_turns; their
 * turn remains theirs, and no attempt is counted: when to try again is the site's rest. */
uint32_t sched_connection_failed(struct sched_site *site, uint64_t now_ns, struct slice reason);
/* Whose turn it is next, `most` at most; they stay READY. Returns how many. */
uint32_t sched_turns(const struct sched_site *site, const struct sched_delivery **deliveries,
                     uint32_t most);
void sched_connection_closed(struct sched_site *site);

/* When the site must be looked at again (sched_expired, sched_delayed, sched_next,
 * sched_wants_connection; in this order), if nothing else happens: 0: now; SCHED_NEVER. */
uint64_t sched_site_next_due(const struct sched_site *site, uint64_t now_ns);

/* For the operator: everything is due now, sites that could not be reached are tried. O(1) for each
 * site. */
void sched_flush(struct sched *sched);
void sched_site_flush(struct sched_site *site);
/* Takes a message out: 0; -EBUSY: it is being delivered, nothing was changed. */
int sched_delete(struct message *message);

/* Of a delivery that waits; -EBUSY: it is ACTIVE (for sched_hurry also: HELD), nothing was changed. */
/* Only these recipients (a part of its own, in its order) wait on; the others are the caller's.
 * None: the delivery is gone. */
int sched_withdraw(struct sched_delivery *delivery, const uint32_t *keep, uint32_t count);
/* Due now, and its site is tried although it has failed. */
int sched_hurry(struct sched_delivery *delivery);

struct sched_view {
    uint64_t next_attempt_ns; /* 0: due or under way; SCHED_NEVER: held, or suspended without end */
    bool active;
    bool held;
    bool suspended; /* its site or its sender, by the operator, until next_attempt_ns at least */
    uint32_t attempts;
    struct slice reason; /* borrowed until the scheduler is called again */
};
/* What is known of one recipient of a message: false when it does not wait here. */
bool sched_view(const struct message *message, uint32_t index, struct sched_view *view);

/* The same of all recipients of a delivery. */
void sched_view_delivery(const struct sched_delivery *delivery, struct sched_view *view);

struct sched_site_counts {
    uint64_t recipients; /* that wait or are being delivered */
    uint64_t deliveries, ready, active, held;
    uint64_t blocked;              /* of those that are ready: their senders are suspended */
    uint32_t connections;          /* open or being opened */
    uint64_t unreachable_until_ns; /* 0: it is not so */
    struct slice reason;           /* of the last connection that failed, while unreachable */
    uint64_t suspended_until_ns;   /* by the operator; 0: not, as far as was looked */
    struct slice suspended_reason;
};
void sched_site_counts(const struct sched_site *site, struct sched_site_counts *counts);
uint64_t sched_recipient_count(const struct sched *sched);
/* Bytes of memory held for deliveries, indexes and reasons. */
uint64_t sched_memory_bytes(const struct sched *sched);
