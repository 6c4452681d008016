#include "queue/sched/sched_private.h"

#include "queue/spool/spool.h"

#include <stdlib.h>

struct sched *sched_open(uint64_t seed)
{
    struct sched *sched = calloc(1, sizeof(*sched));
    if (sched != NULL && near_open(&sched->pool.heap) < 0) {
        free(sched);
        sched = NULL;
    }
    if (sched != NULL) {
        list_init(&sched->sites);
        list_init(&sched->look);
        list_init(&sched->lease_speaks);
        list_init(&sched->lease_holds);
        sched_group_init(&sched->all, sched);
        sched->random = seed;
        sched->queues.secret = (uint64_t)sched_entropy(sched) << 32 | sched_entropy(sched);
    }
    return sched;
}

void sched_close(struct sched *sched)
{
    for (struct list_node *node; (node = list_pop(&sched->sites)) != NULL;) {
        sched_site_free(list_entry(node, struct sched_site, node));
    }
    while (list_pop(&sched->lease_speaks) != NULL || list_pop(&sched->lease_holds) != NULL) {
    } /* groups are closed later */
    sched_lease_close(sched->all.lease);
    sched_suspensions_close(sched);
    sched_queues_close(&sched->queues);
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

static void later_enter(struct sched_delivery *delivery, uint64_t due_ns)
{
    delivery->state = SCHED_LATER;
    delivery->due_ns = due_ns;
    sched_heap_add(&sched_site_of(delivery)->later, delivery);
}

/* Without memory for its queue it is LATER, and due: it is tried again when something is. */
static void ready_enter(struct sched_delivery *delivery, enum sched_end end, uint64_t due_ns)
{
    if (sched_ready_enter(delivery, end) < 0) {
        later_enter(delivery, due_ns);
    }
}

void sched_held_enter(struct sched_delivery *delivery)
{
    delivery->state = SCHED_HELD;
    near_list_append(&sched_site_of(delivery)->held, &delivery->by_age);
    sched_site_of(delivery)->held_count++;
}

void sched_waiting_leave(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    if (delivery->state == SCHED_READY) {
        sched_ready_leave(delivery);
    } else if (delivery->state == SCHED_HELD) {
        site->held_count--;
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
    return near_list_empty(&delivery->by_age);
}

/* It occupies no connection any more. */
static void connection_leave(struct sched_delivery *delivery)
{
    sched_site_of(delivery)->active_count -= !expired_before(delivery) && !delivery->parked;
    delivery->parked = false;
    sched_gates_idle(sched_site_of(delivery));
}

static void active_leave(struct sched_delivery *delivery)
{
    check(delivery->state == SCHED_ACTIVE);
    connection_leave(delivery);
}

static uint64_t age_of(const struct near_node *node)
{
    return list_entry(node, struct sched_delivery, by_age)->expires_ns;
}

/* It has come into the list by age: it may be the first of which must be told. */
static void delay_note(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    if (!delivery->delayed &&
        (site->delay_at == &site->by_age || age_of(site->delay_at) > delivery->expires_ns)) {
        site->delay_at = &delivery->by_age;
    }
}

/* Messages come in order of age but for those of one second, so the place is at the end or close to
 * it. Those that come from another site, in their order too, go where the last one went. */
static void age_enter(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    struct near_node *head = &site->by_age, *after = near_prev(head);
    if (after != head && age_of(after) > delivery->expires_ns) {
        after = site->age_hint != NULL ? site->age_hint : after;
        while (after != head && age_of(after) > delivery->expires_ns) {
            after = near_prev(after);
        }
        while (near_next(after) != head && age_of(near_next(after)) <= delivery->expires_ns) {
            after = near_next(after);
        }
        site->age_hint = &delivery->by_age;
    }
    near_list_prepend(after, &delivery->by_age);
    delay_note(delivery);
}

void sched_age_leave(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    if (site->age_hint == &delivery->by_age) {
        site->age_hint = NULL;
    }
    if (site->delay_at == &delivery->by_age) {
        site->delay_at = near_next(&delivery->by_age);
    }
    sched_walks_step(site, &delivery->by_age);
    near_list_remove(&delivery->by_age);
}

/* One that has expired and could not be returned to the sender: it expires again soon, among the
 * first. */
static void age_enter_again(struct sched_delivery *delivery, uint64_t from_ns)
{
    delivery->expires_ns = add_saturated(from_ns, sched_site_of(delivery)->settings.retry.first_ns);
    struct near_node *after = near_next(&sched_site_of(delivery)->by_age);
    while (after != &sched_site_of(delivery)->by_age &&
           list_entry(after, struct sched_delivery, by_age)->expires_ns < delivery->expires_ns) {
        after = near_next(after);
    }
    near_list_append(after, &delivery->by_age);
    delay_note(delivery);
}

void sched_waiting_enter(struct sched_delivery *delivery, uint64_t now_ns)
{
    age_enter(delivery);
    if (delivery->due_ns <= now_ns) {
        ready_enter(delivery, SCHED_AT_END, delivery->due_ns);
    } else {
        later_enter(delivery, delivery->due_ns);
    }
}

static void count_change(struct sched_delivery *delivery, uint32_t before)
{
    uint64_t gone = before - delivery->count;
    sched_site_of(delivery)->recipient_count -= gone;
    sched_site_of(delivery)->sched->recipient_count -= gone;
}

/* Keeps these recipients of an ACTIVE delivery, the others are finished. */
static void recipients_keep(struct sched_delivery *delivery, const uint32_t *indexes,
                            uint32_t count)
{
    uint32_t before = delivery->count;
    check(delivery->state == SCHED_ACTIVE && count >= 1 && count <= before);
    int status =
        sched_pool_set_indexes(&sched_site_of(delivery)->sched->pool, delivery, indexes, count);
    check(status == 0);
    count_change(delivery, before);
}

/* Takes it from its message and its site, and frees it. */
static void delivery_forget(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    struct sched_delivery *first = delivery->message->owner;
    if (first == delivery) {
        delivery->message->owner = sched_next_of_message(delivery);
    } else {
        while (first->message_link != near_link(delivery)) {
            first = sched_next_of_message(first);
        }
        first->message_link = delivery->message_link;
    }
    sched_age_leave(delivery);
    site->delivery_count--;
    site->recipient_count -= delivery->count;
    site->sched->recipient_count -= delivery->count;
    sched_pool_give(&site->sched->pool, delivery);
}

/* ---- The life of a delivery ---- */

int sched_add(struct sched_site *site, const struct sched_request *request, uint64_t now_ns)
{
    struct sched_pool *pool = &site->sched->pool;
    check(request->priority < SCHED_PRIORITY_COUNT);
    struct sched_delivery *delivery = sched_pool_take(pool);
    if (delivery == NULL) {
        return -ENOMEM;
    }
    near_list_init(&delivery->by_age);
    if (sched_pool_set_indexes(pool, delivery, request->indexes, request->count) < 0) {
        sched_pool_give(pool, delivery);
        return -ENOMEM;
    }
    delivery->message = request->message;
    delivery->message_link = near_link(request->message->owner);
    request->message->owner = delivery;
    delivery->site_link = near_link(site);
    delivery->attempts =
        request->attempts < SCHED_ATTEMPTS_MAX ? request->attempts : SCHED_ATTEMPTS_MAX;
    delivery->due_ns = request->due_ns;
    delivery->sender = request->sender;
    delivery->priority = request->priority;
    delivery->held = request->held;
    delivery->delayed = request->delayed;
    delivery->placed = request->placed;
    uint64_t expire_ns = site->settings.expire_ns;
    if (request->age_ns < expire_ns) {
        delivery->expires_ns = add_saturated(now_ns, expire_ns - request->age_ns);
    } else {
        uint64_t first_due_ns = request->due_ns > now_ns ? request->due_ns : now_ns;
        delivery->expires_ns = add_saturated(first_due_ns, site->settings.retry.first_ns);
    }
    site->delivery_count++;
    site->recipient_count += request->count;
    site->sched->recipient_count += request->count;
    if (delivery->held) {
        sched_held_enter(delivery);
    } else {
        sched_waiting_enter(delivery, now_ns);
    }
    return 0;
}

uint64_t sched_due_again(struct sched_site *site, uint32_t attempts, uint64_t waited_ns,
                         uint64_t now_ns)
{
    if (attempts == 0) {
        return now_ns;
    }
    uint64_t wait_ns = retry_due(&site->settings.retry, 0, attempts, sched_entropy(site->sched));
    return wait_ns > waited_ns ? add_saturated(now_ns, wait_ns - waited_ns) : now_ns;
}

void sched_site_promote(struct sched_site *site, uint64_t now_ns)
{
    sched_suspensions_look(site->sched, now_ns);
    sched_ready_look(site, now_ns);
    if (site->suspension != NULL && !sched_site_suspended(site, now_ns)) {
        free(site->suspension);
        site->suspension = NULL;
    }
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
        ready_enter(delivery, SCHED_AT_END, delivery->due_ns < now_ns ? delivery->due_ns : now_ns);
        if (delivery->state == SCHED_LATER) {
            return; /* memory is short */
        }
    }
}

struct sched_delivery *sched_next(struct sched_site *site, uint64_t now_ns)
{
    struct sched_group *group = site->settings.group;
    sched_site_promote(site, now_ns);
    if (sched_site_suspended(site, now_ns)) {
        return NULL;
    }
    if (site->ready.count == site->ready.blocked_count) {
        list_remove(&site->message_wait);
        return NULL;
    }
    if (group != NULL) {
        if (sched_meter_ask(&group->messages, &site->message_wait, now_ns, 1) == 0) {
            return NULL;
        }
        sched_meter_take(&group->messages, &site->message_wait, now_ns, 1);
    }
    struct sched_delivery *delivery = sched_ready_take(site);
    delivery->state = SCHED_ACTIVE;
    site->active_count++;
    sched_gates_idle(site);
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
    struct sched_site *site = sched_site_of(delivery);
    struct sched_pool *pool = &site->sched->pool;
    bool many = site->sched->recipient_count > SCHED_REASON_MANY;
    text = slice_first(text, many ? SCHED_REASON_BYTES_FEW : SCHED_REASON_BYTES_MAX);
    struct sched_reason *reason = sched_reason_take(pool, site->last_reason, text);
    sched_reason_drop(pool, sched_reason_of(delivery));
    delivery->reason_link = near_link(reason);
    if (reason != NULL && reason != site->last_reason) {
        sched_reason_drop(pool, site->last_reason);
        site->last_reason = reason;
        reason->count++;
    }
}

/* The operator's word came while it was under way. */
static void active_hold(struct sched_delivery *delivery)
{
    active_leave(delivery);
    sched_age_leave(delivery);
    sched_held_enter(delivery);
}

enum sched_defer sched_defer(struct sched_delivery *delivery, uint64_t now_ns,
                             const uint32_t *indexes, uint32_t count, struct slice reason)
{
    struct sched_site *site = sched_site_of(delivery);
    recipients_keep(delivery, indexes, count);
    reason_set(delivery, reason);
    if (delivery->attempts < SCHED_ATTEMPTS_MAX) {
        delivery->attempts++;
    }
    bool again = expired_before(delivery);
    if (delivery->held) {
        delivery->due_ns = retry_due(&site->settings.retry, now_ns, delivery->attempts,
                                     sched_entropy(site->sched));
        active_hold(delivery);
        return SCHED_DEFERRED;
    }
    if (now_ns >= delivery->expires_ns && !again) {
        connection_leave(delivery);
        sched_age_leave(delivery);
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
    if (delivery->held) {
        active_hold(delivery);
        return;
    }
    active_leave(delivery);
    if (again) {
        age_enter_again(delivery, delivery->expires_ns);
    }
    ready_enter(delivery, SCHED_AT_FRONT, 0);
}

/* sched_next has taken it for a message that is not begun now. */
static void token_give(const struct sched_site *site)
{
    struct sched_group *group = site->settings.group;
    if (group != NULL) {
        sched_meter_give(&group->messages);
    }
}

void sched_park(struct sched_delivery *delivery)
{
    check(delivery->state == SCHED_ACTIVE && !delivery->parked && !expired_before(delivery));
    token_give(sched_site_of(delivery));
    sched_site_of(delivery)->active_count--;
    delivery->parked = true;
    sched_gates_idle(sched_site_of(delivery));
}

void sched_move(struct sched_delivery *delivery, struct sched_site *site)
{
    struct sched_site *before = sched_site_of(delivery);
    check(site->sched == before->sched && !expired_before(delivery));
    if (!delivery->parked) {
        token_give(before);
    }
    active_leave(delivery);
    if (site != before) {
        sched_age_leave(delivery);
        before->delivery_count--;
        before->recipient_count -= delivery->count;
        delivery->site_link = near_link(site);
        site->delivery_count++;
        site->recipient_count += delivery->count;
        if (!delivery->held) {
            age_enter(delivery);
        }
    } else if (delivery->held) {
        sched_age_leave(delivery);
    }
    if (delivery->held) {
        sched_held_enter(delivery);
    } else {
        ready_enter(delivery, SCHED_AT_END, 0);
    }
}

void sched_place(struct sched_delivery *delivery, struct sched_site *site)
{
    delivery->placed = true;
    sched_move(delivery, site);
}

struct sched_delivery *sched_expired(struct sched_site *site, uint64_t now_ns)
{
    for (struct near_node *node = near_next(&site->by_age); node != &site->by_age;
         node = near_next(node)) {
        struct sched_delivery *delivery = list_entry(node, struct sched_delivery, by_age);
        if (delivery->expires_ns > now_ns) {
            break;
        }
        if (delivery->state != SCHED_ACTIVE) {
            sched_waiting_leave(delivery);
            delivery->state = SCHED_ACTIVE;
            sched_age_leave(delivery);
            return delivery;
        }
    }
    return NULL;
}

/* Held ones, then the oldest. */
static struct sched_delivery *first_waiting(const struct sched_site *site)
{
    const struct near_node *node = near_next(&site->held);
    if (node == &site->held) {
        node = near_next(&site->by_age);
    }
    for (; node != &site->by_age && node != &site->held; node = near_next(node)) {
        struct sched_delivery *delivery = list_entry(node, struct sched_delivery, by_age);
        if (delivery->state != SCHED_ACTIVE) {
            return delivery;
        }
    }
    return NULL;
}

struct sched_delivery *sched_evict(struct sched_site *site)
{
    struct sched_delivery *delivery = first_waiting(site);
    if (delivery != NULL) {
        sched_waiting_leave(delivery);
        if (delivery->held) {
            sched_age_leave(delivery);
            age_enter(delivery);
        }
        delivery->state = SCHED_ACTIVE;
        delivery->parked = true;
    }
    return delivery;
}

struct slice sched_reason(const struct sched_delivery *delivery)
{
    const struct sched_site *site = sched_site_of(delivery);
    if (site->connect_reason_bytes > 0) { /* it cannot be reached: that is newer */
        return slice_of(site->connect_reason, site->connect_reason_bytes);
    }
    const struct sched_reason *reason = sched_reason_of(delivery);
    return reason != NULL ? slice_of(reason->text, reason->size) : slice_of("", 0);
}

/* ---- The operator ---- */

int sched_delete(struct message *message)
{
    struct sched_delivery *delivery = message->owner;
    for (; delivery != NULL; delivery = sched_next_of_message(delivery)) {
        if (delivery->state == SCHED_ACTIVE) {
            return -EBUSY;
        }
    }
    while ((delivery = message->owner) != NULL) {
        sched_waiting_leave(delivery);
        delivery_forget(delivery);
    }
    return 0;
}

int sched_withdraw(struct sched_delivery *delivery, const uint32_t *keep, uint32_t count)
{
    uint32_t before = delivery->count;
    if (delivery->state == SCHED_ACTIVE) {
        return -EBUSY;
    }
    check(count <= before);
    if (count == 0) {
        sched_waiting_leave(delivery);
        delivery_forget(delivery);
    } else if (count < before) {
        int status =
            sched_pool_set_indexes(&sched_site_of(delivery)->sched->pool, delivery, keep, count);
        check(status == 0);
        count_change(delivery, before);
    }
    return 0;
}

int sched_hurry(struct sched_delivery *delivery)
{
    if (delivery->state == SCHED_ACTIVE || delivery->state == SCHED_HELD) {
        return -EBUSY;
    }
    if (delivery->state == SCHED_LATER) {
        sched_waiting_leave(delivery);
        ready_enter(delivery, SCHED_AT_FRONT, 0);
    }
    sched_site_lift(sched_site_of(delivery));
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

static uint64_t later_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What it waits for besides its own time. */
static void view_wait(const struct sched_delivery *delivery, struct sched_view *view)
{
    const struct sched_site *site = sched_site_of(delivery);
    const struct sched_suspension *words[] = {site->suspension,
                                              sched_suspension_of(site->sched, delivery->sender)};
    if (site->open_count == 0) {
        view->next_attempt_ns = later_of(view->next_attempt_ns, site->rests_until_ns);
    }
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i] != NULL) {
            view->suspended = true;
            view->next_attempt_ns = later_of(view->next_attempt_ns, words[i]->until_ns);
        }
    }
    if (delivery->state == SCHED_HELD) {
        view->held = true;
        view->next_attempt_ns = SCHED_NEVER;
    }
}

void sched_view_delivery(const struct sched_delivery *delivery, struct sched_view *view)
{
    *view = (struct sched_view){
        .active = delivery->state == SCHED_ACTIVE,
        .attempts = delivery->attempts,
        .reason = sched_reason(delivery),
    };
    if (delivery->state == SCHED_LATER) {
        view->next_attempt_ns = delivery->due_ns;
    }
    if (delivery->state != SCHED_ACTIVE) {
        view_wait(delivery, view);
    }
}

bool sched_view(const struct message *message, uint32_t index, struct sched_view *view)
{
    const struct sched_delivery *delivery = message->owner;
    while (delivery != NULL && !delivery_holds(delivery, index)) {
        delivery = sched_next_of_message(delivery);
    }
    if (delivery == NULL) {
        return false;
    }
    sched_view_delivery(delivery, view);
    return true;
}

uint64_t sched_recipient_count(const struct sched *sched)
{
    return sched->recipient_count;
}

uint64_t sched_memory_bytes(const struct sched *sched)
{
    return sched->pool.memory_bytes + sched->pool.heap.memory_bytes + sched->queues.memory_bytes;
}
