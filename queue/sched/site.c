#include "engine/core/mutation.h"
#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

#define DELAYED_LOOKED_AT 64 /* in one call */

int sched_site_open(struct sched *sched, const struct sched_site_settings *settings, void *owner,
                    struct sched_site **site)
{
    struct sched_site *opened = near_take(&sched->pool.heap, sizeof(*opened));
    if (opened == NULL) {
        return -ENOMEM;
    }
    *opened = (struct sched_site){0};
    opened->sched = sched;
    opened->owner = owner;
    list_init(&opened->node);
    list_append(&sched->sites, &opened->node);
    sched_ready_init(&opened->ready);
    near_list_init(&opened->by_age);
    opened->delay_at = &opened->by_age;
    near_list_init(&opened->held);
    list_init(&opened->walks);
    list_init(&opened->look);
    list_init(&opened->connection_wait);
    list_init(&opened->message_wait);
    sched_place_join(opened, &opened->places[SCHED_GATE_GROUP], NULL);
    sched_place_join(opened, &opened->places[SCHED_GATE_SHARD], &sched->all.gate);
    sched_site_set(opened, settings);
    *site = opened;
    return 0;
}

/* The site with its connections belongs to another group from now on; NULL: to none. */
static void group_change(struct sched_site *site, struct sched_group *group)
{
    struct sched_place *place = &site->places[SCHED_GATE_GROUP];
    if (site->settings.group != NULL) {
        site->settings.group->site_count--;
    }
    list_remove(&site->connection_wait);
    list_remove(&site->message_wait);
    site->connection_tokens = 0;
    sched_place_leave(site, place);
    sched_place_join(site, place, group != NULL ? &group->gate : NULL);
    if (group != NULL) {
        check(group->sched == site->sched);
        group->site_count++;
    }
    site->settings.group = group;
}

void sched_site_set(struct sched_site *site, const struct sched_site_settings *settings)
{
    check(settings->connection_count_max >= 1 && settings->expire_ns > 0);
    if (settings->group != site->settings.group) {
        group_change(site, settings->group);
    }
    site->settings = *settings;
}

void sched_site_free(struct sched_site *site)
{
    group_change(site, NULL);
    sched_place_leave(site, &site->places[SCHED_GATE_SHARD]);
    sched_walks_close(site);
    sched_reason_drop(&site->sched->pool, site->last_reason);
    list_remove(&site->look);
    list_remove(&site->node);
    free(site->suspension);
    near_give(&site->sched->pool.heap, site);
}

void sched_site_close(struct sched_site *site)
{
    check(site->delivery_count == 0 && site->connecting_count + site->open_count == 0);
    sched_site_free(site);
}

void *sched_site_owner(const struct sched_site *site)
{
    return site->owner;
}

bool sched_site_suspended(const struct sched_site *site, uint64_t now_ns)
{
    return site->suspension != NULL && site->suspension->until_ns > now_ns &&
           !MUTATED(SUSPENSION_IGNORED);
}

/* ---- Connections ---- */

static bool rests(const struct sched_site *site, uint64_t now_ns)
{
    return site->rests_until_ns > now_ns && !MUTATED(SITE_NEVER_RESTS);
}

/* It has failed since it worked last: one connection tries for all. */
static bool on_probation(const struct sched_site *site)
{
    return site->open_count == 0 && site->failure_count + site->rest_count > 0;
}

static uint32_t connections_allowed(const struct sched_site *site, uint64_t now_ns)
{
    uint32_t most = site->settings.connection_count_max;
    /* Were more to join a round that has failed in part, it might never end, and never count. */
    if (rests(site, now_ns) || sched_site_suspended(site, now_ns) || site->round_failed) {
        return 0;
    }
    if (site->ramp_count > 0 && site->ramp_count < most) {
        most = site->ramp_count;
    }
    if (on_probation(site)) {
        most = 1;
    }
    uint32_t now = site->connecting_count + site->open_count;
    return now < most ? most - now : 0;
}

/* How many more it takes to serve so many deliveries that are due. */
static uint32_t connections_wanted(const struct sched_site *site, uint64_t due_count,
                                   uint64_t now_ns)
{
    uint32_t allowed = connections_allowed(site, now_ns);
    /* Those that are open and have nothing to do, or are being opened, take one delivery each. */
    uint64_t connections = (uint64_t)site->connecting_count + site->open_count;
    uint64_t unserved = due_count + site->active_count;
    unserved = unserved > connections ? unserved - connections : 0;
    return unserved < allowed ? (uint32_t)unserved : allowed;
}

/* When the group lets this site begin a message. */
static uint64_t message_due(const struct sched_site *site, uint64_t now_ns)
{
    const struct sched_group *group = site->settings.group;
    return group == NULL ? 0 : sched_meter_due(&group->messages, &site->message_wait, now_ns);
}

#define RATE_AHEAD_NS 1000000000ull /* about what it takes to open a connection */

/* Of so many connections wanted, how many find something to send at the rate of messages. */
static uint32_t connections_fed(const struct sched_site *site, uint64_t now_ns, uint32_t wanted)
{
    const struct sched_meter *meter = &site->settings.group->messages;
    uint64_t interval_ns = rate_interval(&meter->rate);
    uint64_t unfed = (uint64_t)site->connecting_count + site->open_count;
    unfed = unfed > site->active_count ? unfed - site->active_count : 0;
    if (interval_ns == 0) {
        return wanted;
    }
    uint64_t tokens =
        sched_meter_available(meter, now_ns, UINT32_MAX) + RATE_AHEAD_NS / interval_ns;
    tokens = tokens > unfed ? tokens - unfed : 0;
    return tokens < wanted ? (uint32_t)tokens : wanted;
}

uint32_t sched_wants_connection(struct sched_site *site, uint64_t now_ns)
{
    struct sched_group *group = site->settings.group;
    sched_site_promote(site, now_ns);
    uint32_t wanted =
        connections_wanted(site, site->ready.count - site->ready.blocked_count, now_ns);
    if (wanted > 0 && message_due(site, now_ns) > now_ns) { /* it would have nothing to do yet */
        if (site->connecting_count + site->open_count == 0) {
            sched_meter_ask(&group->messages, &site->message_wait, now_ns, 1); /* its turn comes */
        }
        wanted = 0;
    } else if (wanted > 0 && group != NULL) {
        wanted = connections_fed(site, now_ns, wanted);
    }
    uint32_t tokens = site->connection_tokens, useful = wanted;
    if (wanted == 0) {
        list_remove(&site->connection_wait);
    } else if (group != NULL && wanted > tokens) {
        wanted = tokens + sched_meter_ask(&group->connections, &site->connection_wait, now_ns,
                                          wanted - tokens);
    }
    wanted = sched_gates_pass(site, wanted);
    if (group != NULL && wanted > tokens) {
        sched_meter_take(&group->connections, &site->connection_wait, now_ns, wanted - tokens);
        site->connection_tokens = wanted;
    }
    if (group != NULL && group->lease != NULL &&
        useful > wanted) { /* no timer says when they come */
        sched_meter_ask(&group->connections, &site->connection_wait, now_ns, 1);
    }
    return wanted;
}

void sched_connection_started(struct sched_site *site)
{
    site->connecting_count++;
    site->connection_tokens -= site->connection_tokens > 0;
    sched_gates_take(site);
}

static void rest_end(struct sched_site *site)
{
    site->rests_until_ns = 0;
    site->paused = false;
    site->connect_reason_bytes = 0;
}

/* What was away for a while would be met by all connections at once, and be away again. */
static void ramp_up(struct sched_site *site)
{
    if (site->ramp_count > 0) {
        uint64_t doubled = 2 * (uint64_t)site->ramp_count;
        bool whole = doubled >= site->settings.connection_count_max;
        site->ramp_count = whole ? 0 : (uint32_t)doubled;
    }
}

void sched_connection_opened(struct sched_site *site)
{
    check(site->connecting_count > 0);
    site->connecting_count--;
    site->open_count++;
    site->round_failed = site->round_failed && site->connecting_count > 0;
    site->failure_count = 0;
    site->rest_count = 0;
    site->round_count = 0;
    site->tried_count = 0;
    ramp_up(site);
    rest_end(site);
    sched_gates_idle(site);
}

static void rest_begin(struct sched_site *site, uint64_t now_ns)
{
    site->failure_count = 0;
    site->ramp_count = 1;
    site->paused = site->open_count > 0;
    site->rest_count = site->paused ? 1 : site->rest_count + 1;
    site->rests_until_ns =
        retry_due(&site->settings.reconnect, now_ns, site->rest_count, sched_entropy(site->sched));
}

uint32_t sched_connection_failed(struct sched_site *site, uint64_t now_ns, struct slice reason)
{
    check(site->connecting_count > 0);
    site->connecting_count--;
    sched_gates_give(site);
    reason = slice_first(reason, sizeof(site->connect_reason));
    memcpy(site->connect_reason, reason.bytes, reason.size);
    site->connect_reason_bytes = (uint16_t)reason.size;
    site->round_failed = site->connecting_count > 0;
    site->round_count += !rests(site, now_ns);
    if (site->round_failed || rests(site, now_ns)) {
        return 0; /* others of its round may yet succeed */
    }
    uint32_t tried = site->round_count > site->tried_count ? site->round_count : site->tried_count;
    site->round_count = 0;
    site->tried_count = tried;
    site->failure_count++;
    uint32_t addresses = site->settings.address_count > 0 ? site->settings.address_count : 1;
    if (site->failure_count < addresses) {
        return 0;
    }
    rest_begin(site, now_ns);
    site->tried_count = 0;
    return site->paused ? 0 : tried; /* those that are open go on with all of it */
}

uint32_t sched_turns(const struct sched_site *site, const struct sched_delivery **deliveries,
                     uint32_t most)
{
    return sched_ready_turns(&site->ready, deliveries, most);
}

void sched_connection_closed(struct sched_site *site)
{
    check(site->open_count > 0);
    site->open_count--;
    sched_gates_give(site);
    sched_gates_idle(site);
    if (site->open_count == 0 && site->paused) {
        rest_end(site); /* there is room again */
    }
}

/* ---- When to look again ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the first that waits grows too old. Those that are being delivered are told when they are
 * deferred. */
static uint64_t expiry_due(const struct sched_site *site)
{
    for (const struct near_node *node = near_next(&site->by_age); node != &site->by_age;
         node = near_next(node)) {
        const struct sched_delivery *delivery = list_entry(node, struct sched_delivery, by_age);
        if (delivery->state != SCHED_ACTIVE) {
            return delivery->expires_ns;
        }
    }
    return SCHED_NEVER;
}

/* How long before it expires a delivery counts as delayed; SCHED_NEVER: none does. */
static uint64_t delay_lead(const struct sched_site *site)
{
    const struct sched_site_settings *settings = &site->settings;
    return settings->delay_ns > 0 && settings->delay_ns < settings->expire_ns
               ? settings->expire_ns - settings->delay_ns
               : SCHED_NEVER;
}

/* When the next is to be told of; at once, while there are some to be passed over. */
static uint64_t delay_due(const struct sched_site *site)
{
    uint64_t lead_ns = delay_lead(site);
    if (site->delay_at == &site->by_age || lead_ns == SCHED_NEVER) {
        return SCHED_NEVER;
    }
    const struct sched_delivery *delivery =
        list_entry(site->delay_at, struct sched_delivery, by_age);
    bool now = delivery->delayed || delivery->expires_ns < lead_ns;
    return now ? 0 : delivery->expires_ns - lead_ns;
}

struct sched_delivery *sched_delayed(struct sched_site *site, uint64_t now_ns)
{
    for (unsigned i = 0; i < DELAYED_LOOKED_AT && delay_due(site) <= now_ns; i++) {
        struct sched_delivery *delivery = list_entry(site->delay_at, struct sched_delivery, by_age);
        site->delay_at = near_next(site->delay_at);
        if (!delivery->delayed) {
            delivery->delayed = true;
            return delivery;
        }
    }
    return NULL;
}

/* When a connection can be opened for those that are due. */
static uint64_t connection_due(const struct sched_site *site, uint64_t now_ns)
{
    const struct sched_group *group = site->settings.group;
    uint64_t due_count = site->ready.count - site->ready.blocked_count;
    if (connections_wanted(site, due_count > 0 ? due_count : 1, now_ns) == 0 ||
        !sched_gates_open(site) || (group != NULL && connections_fed(site, now_ns, 1) == 0)) {
        return SCHED_NEVER; /* what is to come wakes it: a connection that opens, one that ends */
    }
    return group == NULL ? 0 : sched_meter_due(&group->connections, &site->connection_wait, now_ns);
}

/* When a delivery can be given to a connection, of those that are due now. */
static uint64_t service_due(const struct sched_site *site, uint64_t now_ns)
{
    if (sched_site_suspended(site, now_ns)) {
        return site->suspension->until_ns;
    }
    uint64_t message_ns = message_due(site, now_ns);
    if (site->open_count > site->active_count || message_ns > now_ns) {
        return message_ns;
    }
    return rests(site, now_ns) ? site->rests_until_ns : connection_due(site, now_ns);
}

/* Whether anything is due that its sender's suspension does not block. */
static bool work_due(const struct sched_site *site, uint64_t now_ns)
{
    return site->ready.count > site->ready.blocked_count || site->flushed.first != NULL ||
           (site->later.first != NULL && site->later.first->due_ns <= now_ns);
}

uint64_t sched_site_next_due(const struct sched_site *site, uint64_t now_ns)
{
    uint64_t due_ns = site->later.first != NULL ? site->later.first->due_ns : SCHED_NEVER;
    if (work_due(site, now_ns)) {
        due_ns = service_due(site, now_ns);
    }
    due_ns = least(due_ns, expiry_due(site));
    due_ns = least(due_ns, delay_due(site));
    due_ns = least(due_ns, site->ready.blocked_due_ns);
    return due_ns <= now_ns ? 0 : due_ns;
}

/* ---- The operator ---- */

void sched_site_lift(struct sched_site *site)
{
    site->failure_count = 0;
    site->rest_count = 0;
    rest_end(site);
}

void sched_site_flush(struct sched_site *site)
{
    sched_heap_merge(&site->flushed, &site->later);
    sched_site_lift(site);
}

void sched_flush(struct sched *sched)
{
    for (struct list_node *node = sched->sites.next; node != &sched->sites; node = node->next) {
        sched_site_flush(list_entry(node, struct sched_site, node));
    }
}

void sched_site_counts(const struct sched_site *site, struct sched_site_counts *counts)
{
    *counts = (struct sched_site_counts){
        .recipients = site->recipient_count,
        .deliveries = site->delivery_count,
        .ready = site->ready.count,
        .active = site->active_count,
        .held = site->held_count,
        .blocked = site->ready.blocked_count,
        .connections = site->connecting_count + site->open_count,
        .unreachable_until_ns = site->rests_until_ns,
        .reason = slice_of(site->connect_reason, site->connect_reason_bytes),
    };
    if (site->suspension != NULL) {
        counts->suspended_until_ns = site->suspension->until_ns;
        counts->suspended_reason =
            slice_of(site->suspension->reason, site->suspension->reason_bytes);
    }
}
