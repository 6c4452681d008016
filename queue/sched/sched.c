#include "queue/sched/sched_private.h"

#include "queue/spool/spool.h"

#include <stdlib.h>

struct sched *sched_open(uint64_t seed)
{
    struct sched *sched = calloc(1, sizeof(*sched));
    if (sched != NULL) {
        list_init(&sched->sites);
        sched->random = seed;
    }
    return sched;
}

void sched_close(struct sched *sched)
{
    for (struct list_node *node; (node = list_pop(&sched->sites)) != NULL;) {
        sched_site_free(list_entry(node, struct sched_site, node));
    }
    sched_pool_close(&sched->pool);
    free(sched);
}

/* SplitMix64. */
uint32_t sched_entropy(struct sched *sched)
{
    uint64_t z = sched->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (uint32_t)(z >> 32);
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a < SCHED_NEVER - 1 - b ? a + b : SCHED_NEVER - 1;
}

/* ---- Where a delivery stands ---- */

static void ready_enter(struct sched_delivery *delivery)
{
    delivery->state = SCHED_READY;
    list_append(&delivery->site->ready, &delivery->ready);
    delivery->site->ready_count++;
}

static void later_enter(struct sched_delivery *delivery, uint64_t due_ns)
{
    delivery->state = SCHED_LATER;
    delivery->due_ns = due_ns;
    sched_heap_add(&delivery->site->later, delivery);
}

/* Out of the ready queue or the heap; not when it is ACTIVE. */
static void waiting_leave(struct sched_delivery *delivery)
{
    struct sched_site *site = delivery->site;
    if (delivery->state == SCHED_READY) {
        list_remove(&delivery->ready);
        site->ready_count--;
    } else if (delivery == site->later.first) {
        sched_heap_remove_first(&site->later);
    } else if (delivery == site->flushed.first) {
        sched_heap_remove_first(&site->flushed);
    } else {
        sched_heap_remove_inner(delivery);
    }
}

/* The owner was told that it has expired, so it occupies no connection. */
static bool expired_before(const struct sched_delivery *delivery)
{
    return list_empty(&delivery->by_age);
}

/* It occupies no connection any more. */
static void connection_leave(struct sched_delivery *delivery)
{
    delivery->site->active_count -= !expired_before(delivery) && !delivery->parked;
    delivery->parked = false;
}

static void active_leave(struct sched_delivery *delivery)
{
    check(delivery->state == SCHED_ACTIVE);
    connection_leave(delivery);
}

static uint64_t age_of(const struct list_node *node)
{
    return list_entry(node, struct sched_delivery, by_age)->expires_ns;
}

/* Messages come in order of age but for those of one second, so the place is at the end or close to
 * it. Those that come from another site, in their order too, go where the last one went. */
static void age_enter(struct sched_delivery *delivery)
{
    struct sched_site *site = delivery->site;
    struct list_node *head = &site->by_age, *after = head->prev;
    if (after != head && age_of(after) > delivery->expires_ns) {
        after = site->age_hint != NULL ? site->age_hint : after;
        while (after != head && age_of(after) > delivery->expires_ns) {
            after = after->prev;
        }
        while (after->next != head && age_of(after->next) <= delivery->expires_ns) {
            after = after->next;
        }
        site->age_hint = &delivery->by_age;
    }
    list_prepend(after, &delivery->by_age);
}

static void age_leave(struct sched_delivery *delivery)
{
    if (delivery->site->age_hint == &delivery->by_age) {
        delivery->site->age_hint = NULL;
    }
    list_remove(&delivery->by_age);
}

/* One that has expired and could not be returned to the sender: it expires again soon, among the
 * first. */
static void age_enter_again(struct sched_delivery *delivery, uint64_t from_ns)
{
    delivery->expires_ns = add_saturated(from_ns, delivery->site->settings.retry.first_ns);
    struct list_node *after = delivery->site->by_age.next;
    while (after != &delivery->site->by_age &&
           list_entry(after, struct sched_delivery, by_age)->expires_ns < delivery->expires_ns) {
        after = after->next;
    }
    list_append(after, &delivery->by_age);
}

static void count_change(struct sched_delivery *delivery, uint32_t before)
{
    uint64_t gone = before - delivery->count;
    delivery->site->recipient_count -= gone;
    delivery->site->sched->recipient_count -= gone;
}

/* Keeps these recipients of an ACTIVE delivery, the others are finished. */
static void recipients_keep(struct sched_delivery *delivery, const uint32_t *indexes,
                            uint32_t count)
{
    uint32_t before = delivery->count;
    check(delivery->state == SCHED_ACTIVE && count >= 1 && count <= before);
    int status = sched_pool_set_indexes(&delivery->site->sched->pool, delivery, indexes, count);
    check(status == 0);
    count_change(delivery, before);
}

/* Takes it from its message and its site, and frees it. */
static void delivery_forget(struct sched_delivery *delivery)
{
    struct sched_site *site = delivery->site;
    struct sched_delivery *first = delivery->message->owner;
    if (first == delivery) {
        delivery->message->owner = delivery->next_of_message;
    } else {
        while (first->next_of_message != delivery) {
            first = first->next_of_message;
        }
        first->next_of_message = delivery->next_of_message;
    }
    age_leave(delivery);
    site->delivery_count--;
    site->recipient_count -= delivery->count;
    site->sched->recipient_count -= delivery->count;
    sched_pool_give(&site->sched->pool, delivery);
}

/* ---- The life of a delivery ---- */

int sched_add(struct sched_site *site, const struct sched_request *request, uint64_t now_ns)
{
    struct sched_pool *pool = &site->sched->pool;
    struct sched_delivery *delivery = sched_pool_take(pool);
    if (delivery == NULL) {
        return -ENOMEM;
    }
    list_init(&delivery->by_age);
    if (sched_pool_set_indexes(pool, delivery, request->indexes, request->count) < 0) {
        sched_pool_give(pool, delivery);
        return -ENOMEM;
    }
    delivery->message = request->message;
    delivery->next_of_message = request->message->owner;
    request->message->owner = delivery;
    delivery->site = site;
    delivery->attempts = request->attempts;
    delivery->due_ns = request->due_ns;
    uint64_t expire_ns = site->settings.expire_ns;
    if (request->age_ns < expire_ns) {
        delivery->expires_ns = add_saturated(now_ns, expire_ns - request->age_ns);
    } else {
        uint64_t first_due_ns = request->due_ns > now_ns ? request->due_ns : now_ns;
        delivery->expires_ns = add_saturated(first_due_ns, site->settings.retry.first_ns);
    }
    age_enter(delivery);
    site->delivery_count++;
    site->recipient_count += request->count;
    site->sched->recipient_count += request->count;
    if (request->due_ns <= now_ns) {
        ready_enter(delivery);
    } else {
        later_enter(delivery, request->due_ns);
    }
    return 0;
}

void sched_site_promote(struct sched_site *site, uint64_t now_ns)
{
    for (unsigned i = 0; i < 64; i++) {
        struct sched_delivery *delivery = site->flushed.first;
        if (delivery != NULL) {
            sched_heap_remove_first(&site->flushed);
        } else if (site->later.first != NULL && site->later.first->due_ns <= now_ns) {
            delivery = site->later.first;
            sched_heap_remove_first(&site->later);
        } else {
            return;
        }
        ready_enter(delivery);
    }
}

struct sched_delivery *sched_next(struct sched_site *site, uint64_t now_ns)
{
    sched_site_promote(site, now_ns);
    if (list_empty(&site->ready)) {
        return NULL;
    }
    struct sched_delivery *delivery = list_entry(site->ready.next, struct sched_delivery, ready);
    waiting_leave(delivery);
    delivery->state = SCHED_ACTIVE;
    site->active_count++;
    return delivery;
}

const uint32_t *sched_indexes(const struct sched_delivery *delivery)
{
    return delivery->count <= 2 ? delivery->indexes.few : delivery->indexes.many;
}

void sched_done(struct sched_delivery *delivery)
{
    active_leave(delivery);
    delivery_forget(delivery);
}

static void reason_set(struct sched_delivery *delivery, struct slice text)
{
    struct sched_site *site = delivery->site;
    struct sched_pool *pool = &site->sched->pool;
    bool many = site->sched->recipient_count > SCHED_REASON_MANY;
    text = slice_first(text, many ? SCHED_REASON_BYTES_FEW : SCHED_REASON_BYTES_MAX);
    struct sched_reason *reason = sched_reason_take(pool, site->last_reason, text);
    sched_reason_drop(pool, delivery->reason);
    delivery->reason = reason;
    if (reason != NULL && reason != site->last_reason) {
        sched_reason_drop(pool, site->last_reason);
        site->last_reason = reason;
        reason->count++;
    }
}

enum sched_defer sched_defer(struct sched_delivery *delivery, uint64_t now_ns,
                             const uint32_t *indexes, uint32_t count, struct slice reason)
{
    struct sched_site *site = delivery->site;
    recipients_keep(delivery, indexes, count);
    reason_set(delivery, reason);
    delivery->attempts++;
    bool again = expired_before(delivery);
    if (now_ns >= delivery->expires_ns && !again) {
        connection_leave(delivery);
        age_leave(delivery);
        return SCHED_EXPIRED;
    }
    uint64_t due_ns =
        retry_due(&site->settings.retry, now_ns, delivery->attempts, sched_entropy(site->sched));
    active_leave(delivery);
    if (again) {
        age_enter_again(delivery, now_ns);
    }
    /* The last attempt comes when its time is over. */
    bool last = due_ns > delivery->expires_ns && delivery->expires_ns > now_ns;
    later_enter(delivery, last ? delivery->expires_ns : due_ns);
    return SCHED_DEFERRED;
}

void sched_return(struct sched_delivery *delivery, const uint32_t *indexes, uint32_t count)
{
    recipients_keep(delivery, indexes, count);
    bool again = expired_before(delivery);
    active_leave(delivery);
    if (again) {
        age_enter_again(delivery, delivery->expires_ns);
    }
    delivery->state = SCHED_READY;
    list_prepend(&delivery->site->ready, &delivery->ready);
    delivery->site->ready_count++;
}

void sched_park(struct sched_delivery *delivery)
{
    check(delivery->state == SCHED_ACTIVE && !delivery->parked && !expired_before(delivery));
    delivery->site->active_count--;
    delivery->parked = true;
}

void sched_move(struct sched_delivery *delivery, struct sched_site *site)
{
    struct sched_site *before = delivery->site;
    check(site->sched == before->sched && !expired_before(delivery));
    active_leave(delivery);
    if (site != before) {
        age_leave(delivery);
        before->delivery_count--;
        before->recipient_count -= delivery->count;
        delivery->site = site;
        site->delivery_count++;
        site->recipient_count += delivery->count;
        age_enter(delivery);
    }
    ready_enter(delivery);
}

struct sched_delivery *sched_expired(struct sched_site *site, uint64_t now_ns)
{
    for (struct list_node *node = site->by_age.next; node != &site->by_age; node = node->next) {
        struct sched_delivery *delivery = list_entry(node, struct sched_delivery, by_age);
        if (delivery->expires_ns > now_ns) {
            break;
        }
        if (delivery->state != SCHED_ACTIVE) {
            waiting_leave(delivery);
            delivery->state = SCHED_ACTIVE;
            age_leave(delivery);
            return delivery;
        }
    }
    return NULL;
}

struct slice sched_reason(const struct sched_delivery *delivery)
{
    const struct sched_site *site = delivery->site;
    if (site->connect_reason_bytes > 0) { /* it cannot be reached: that is newer */
        return slice_of(site->connect_reason, site->connect_reason_bytes);
    }
    const struct sched_reason *reason = delivery->reason;
    return reason != NULL ? slice_of(reason->text, reason->size) : slice_of("", 0);
}

/* ---- The operator ---- */

int sched_delete(struct message *message)
{
    struct sched_delivery *delivery = message->owner;
    for (; delivery != NULL; delivery = delivery->next_of_message) {
        if (delivery->state == SCHED_ACTIVE) {
            return -EBUSY;
        }
    }
    while ((delivery = message->owner) != NULL) {
        waiting_leave(delivery);
        delivery_forget(delivery);
    }
    return 0;
}

static bool delivery_holds(const struct sched_delivery *delivery, uint32_t index)
{
    const uint32_t *indexes = sched_indexes(delivery);
    for (uint32_t i = 0; i < delivery->count; i++) {
        if (indexes[i] == index) {
            return true;
        }
    }
    return false;
}

bool sched_view(const struct message *message, uint32_t index, struct sched_view *view)
{
    const struct sched_delivery *delivery = message->owner;
    while (delivery != NULL && !delivery_holds(delivery, index)) {
        delivery = delivery->next_of_message;
    }
    if (delivery == NULL) {
        return false;
    }
    const struct sched_site *site = delivery->site;
    *view = (struct sched_view){
        .active = delivery->state == SCHED_ACTIVE,
        .attempts = delivery->attempts,
        .reason = sched_reason(delivery),
    };
    if (delivery->state == SCHED_LATER) {
        view->next_attempt_ns = delivery->due_ns;
    }
    if (delivery->state != SCHED_ACTIVE && site->open_count == 0 &&
        site->suspended_until_ns > view->next_attempt_ns) {
        view->next_attempt_ns = site->suspended_until_ns;
    }
    return true;
}

uint64_t sched_recipient_count(const struct sched *sched)
{
    return sched->recipient_count;
}

uint64_t sched_memory_bytes(const struct sched *sched)
{
    return sched->pool.memory_bytes;
}
