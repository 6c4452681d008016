#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

int sched_site_open(struct sched *sched, const struct sched_site_settings *settings, void *owner,
                    struct sched_site **site)
{
    struct sched_site *opened = calloc(1, sizeof(*opened));
    if (opened == NULL) {
        return -ENOMEM;
    }
    opened->sched = sched;
    opened->owner = owner;
    list_init(&opened->node);
    list_append(&sched->sites, &opened->node);
    list_init(&opened->ready);
    list_init(&opened->by_age);
    sched_site_set(opened, settings);
    *site = opened;
    return 0;
}

void sched_site_set(struct sched_site *site, const struct sched_site_settings *settings)
{
    check(settings->connection_count_max >= 1 && settings->expire_ns > 0);
    site->settings = *settings;
}

void sched_site_free(struct sched_site *site)
{
    sched_reason_drop(&site->sched->pool, site->last_reason);
    list_remove(&site->node);
    free(site);
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

/* ---- Connections ---- */

static bool suspended(const struct sched_site *site, uint64_t now_ns)
{
    return site->suspended_until_ns > now_ns;
}

/* It has failed since it worked last: one connection tries for all. */
static bool on_probation(const struct sched_site *site)
{
    return site->open_count == 0 && site->failure_count + site->suspension_count > 0;
}

static uint32_t connections_allowed(const struct sched_site *site, uint64_t now_ns)
{
    if (suspended(site, now_ns)) {
        return 0;
    }
    uint32_t most = on_probation(site) ? 1 : site->settings.connection_count_max;
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

uint32_t sched_wants_connection(struct sched_site *site, uint64_t now_ns)
{
    sched_site_promote(site, now_ns);
    return connections_wanted(site, site->ready_count, now_ns);
}

void sched_connection_started(struct sched_site *site)
{
    site->connecting_count++;
}

static void suspension_lift(struct sched_site *site)
{
    site->suspended_until_ns = 0;
    site->paused = false;
    site->connect_reason_bytes = 0;
}

void sched_connection_opened(struct sched_site *site)
{
    check(site->connecting_count > 0);
    site->connecting_count--;
    site->open_count++;
    site->failure_count = 0;
    site->suspension_count = 0;
    suspension_lift(site);
}

static void suspend(struct sched_site *site, uint64_t now_ns)
{
    site->failure_count = 0;
    site->paused = site->open_count > 0;
    site->suspension_count = site->paused ? 1 : site->suspension_count + 1;
    site->suspended_until_ns = retry_due(&site->settings.reconnect, now_ns, site->suspension_count,
                                         sched_entropy(site->sched));
}

void sched_connection_failed(struct sched_site *site, uint64_t now_ns, struct slice reason)
{
    check(site->connecting_count > 0);
    site->connecting_count--;
    reason = slice_first(reason, sizeof(site->connect_reason));
    memcpy(site->connect_reason, reason.bytes, reason.size);
    site->connect_reason_bytes = (uint16_t)reason.size;
    if (site->connecting_count > 0 || suspended(site, now_ns)) {
        return; /* others of its round may yet succeed */
    }
    site->failure_count++;
    uint32_t addresses = site->settings.address_count > 0 ? site->settings.address_count : 1;
    if (site->failure_count >= addresses) {
        suspend(site, now_ns);
    }
}

void sched_connection_closed(struct sched_site *site)
{
    check(site->open_count > 0);
    site->open_count--;
    if (site->open_count == 0 && site->paused) {
        suspension_lift(site); /* there is room again */
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
    for (const struct list_node *node = site->by_age.next; node != &site->by_age;
         node = node->next) {
        const struct sched_delivery *delivery = list_entry(node, struct sched_delivery, by_age);
        if (delivery->state != SCHED_ACTIVE) {
            return delivery->expires_ns;
        }
    }
    return SCHED_NEVER;
}

/* When a delivery can be given to a connection, of those that are due now. */
static uint64_t service_due(const struct sched_site *site, uint64_t now_ns)
{
    if (site->open_count > site->active_count) {
        return 0;
    }
    if (suspended(site, now_ns)) {
        return site->suspended_until_ns;
    }
    uint64_t due_count = site->ready_count > 0 ? site->ready_count : 1;
    return connections_wanted(site, due_count, now_ns) > 0 ? 0 : SCHED_NEVER;
}

uint64_t sched_site_next_due(const struct sched_site *site, uint64_t now_ns)
{
    uint64_t due_ns = site->later.first != NULL ? site->later.first->due_ns : SCHED_NEVER;
    if (site->ready_count > 0 || site->flushed.first != NULL || due_ns <= now_ns) {
        due_ns = service_due(site, now_ns);
    }
    due_ns = least(due_ns, expiry_due(site));
    return due_ns <= now_ns ? 0 : due_ns;
}

/* ---- The operator ---- */

void sched_site_flush(struct sched_site *site)
{
    sched_heap_merge(&site->flushed, &site->later);
    site->failure_count = 0;
    site->suspension_count = 0;
    suspension_lift(site);
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
        .ready = site->ready_count,
        .active = site->active_count,
        .connections = site->connecting_count + site->open_count,
        .suspended_until_ns = site->suspended_until_ns,
        .reason = slice_of(site->connect_reason, site->connect_reason_bytes),
    };
}
