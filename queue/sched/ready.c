#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS_FIRST 64
#define BUCKETS_MOVED 2 /* for each queue that is made, while the table grows */

static_assert(sizeof(struct sched_queue) <= 64,
              "one ready delivery of each sender must fit beside it");

/* ---- The table ---- */

static uint64_t hash(const struct sched_queues *queues, const struct sched_site *site,
                     uint64_t sender, unsigned priority)
{
    uint64_t z = (sender ^ queues->secret) + ((uintptr_t)site << 2) + priority;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static bool same(const struct sched_queue *queue, const struct sched_site *site, uint64_t sender,
                 unsigned priority)
{
    return queue->sender == sender && queue->site == site && queue->priority == priority;
}

/* The bucket in which a queue with this hash lies. */
static struct sched_queue **bucket_of(const struct sched_queues *queues, uint64_t hashed)
{
    if (queues->before != NULL) {
        size_t index = hashed & (queues->before_count - 1);
        if (index >= queues->moved_count) {
            return &queues->before[index];
        }
    }
    return &queues->buckets[hashed & (queues->bucket_count - 1)];
}

static struct sched_queue *find(const struct sched_queues *queues, const struct sched_site *site,
                                uint64_t sender, unsigned priority)
{
    if (queues->buckets == NULL) {
        return NULL;
    }
    struct sched_queue *queue = *bucket_of(queues, hash(queues, site, sender, priority));
    while (queue != NULL && !same(queue, site, sender, priority)) {
        queue = queue->next;
    }
    return queue;
}

static void bucket_move(struct sched_queues *queues)
{
    struct sched_queue *queue = queues->before[queues->moved_count++];
    while (queue != NULL) {
        struct sched_queue *next = queue->next;
        uint64_t hashed = hash(queues, queue->site, queue->sender, queue->priority);
        struct sched_queue **bucket = &queues->buckets[hashed & (queues->bucket_count - 1)];
        queue->next = *bucket;
        *bucket = queue;
        queue = next;
    }
}

/* Without memory the chains grow longer, that is all; but for the first buckets. 0 or -ENOMEM. */
static int table_grow(struct sched_queues *queues)
{
    for (unsigned i = 0; i < BUCKETS_MOVED && queues->before != NULL; i++) {
        bucket_move(queues);
        if (queues->moved_count == queues->before_count) {
            queues->memory_bytes -= queues->before_count * sizeof(*queues->before);
            free(queues->before);
            queues->before = NULL;
        }
    }
    if (queues->count < queues->bucket_count || queues->before != NULL) {
        return 0;
    }
    size_t count = queues->bucket_count > 0 ? 2 * queues->bucket_count : BUCKETS_FIRST;
    struct sched_queue **buckets = calloc(count, sizeof(struct sched_queue *));
    if (buckets == NULL) {
        return queues->buckets != NULL ? 0 : -ENOMEM;
    }
    queues->memory_bytes += count * sizeof(*buckets);
    queues->before = queues->buckets;
    queues->before_count = queues->bucket_count;
    queues->moved_count = 0;
    queues->buckets = buckets;
    queues->bucket_count = count;
    return 0;
}

void sched_queues_close(struct sched_queues *queues)
{
    free(queues->buckets);
    free(queues->before);
}

/* ---- A queue ---- */

/* Where it belongs: among the blocked, or at the end of its round. */
static void queue_place(struct sched_queue *queue)
{
    struct sched_ready *ready = &queue->site->ready;
    const struct sched_suspension *suspension =
        sched_suspension_of(queue->site->sched, queue->sender);
    queue->blocked = suspension != NULL;
    if (suspension == NULL) {
        list_append(&ready->rounds[queue->priority].queues, &queue->node);
        return;
    }
    list_append(&ready->blocked, &queue->node);
    ready->blocked_count += queue->count;
    if (suspension->until_ns < ready->blocked_due_ns) {
        ready->blocked_due_ns = suspension->until_ns;
    }
}

static struct sched_queue *queue_make(struct sched_delivery *delivery)
{
    struct sched_site *site = sched_site_of(delivery);
    struct sched_queues *queues = &site->sched->queues;
    struct sched_queue *queue =
        table_grow(queues) < 0 ? NULL : near_take(&site->sched->pool.heap, sizeof(*queue));
    if (queue == NULL) {
        return NULL;
    }
    struct sched_queue **bucket =
        bucket_of(queues, hash(queues, site, delivery->sender, delivery->priority));
    *queue = (struct sched_queue){
        .next = *bucket, .site = site, .sender = delivery->sender, .priority = delivery->priority};
    *bucket = queue;
    queues->count++;
    queue_place(queue);
    return queue;
}

static void queue_drop(struct sched_queue *queue)
{
    struct sched_site *site = queue->site;
    struct sched_queues *queues = &site->sched->queues;
    struct sched_round *round = &site->ready.rounds[queue->priority];
    struct sched_queue **at = bucket_of(queues, hash(queues, site, queue->sender, queue->priority));
    while (*at != queue) {
        at = &(*at)->next;
    }
    *at = queue->next;
    round->last = round->last == queue ? NULL : round->last;
    list_remove(&queue->node);
    near_give(&site->sched->pool.heap, queue);
    queues->count--;
}

void sched_ready_init(struct sched_ready *ready)
{
    for (unsigned i = 0; i < SCHED_PRIORITY_COUNT; i++) {
        list_init(&ready->rounds[i].queues);
    }
    list_init(&ready->blocked);
    ready->blocked_due_ns = SCHED_NEVER;
}

int sched_ready_enter(struct sched_delivery *delivery, enum sched_end end)
{
    struct sched_site *site = sched_site_of(delivery);
    struct sched_round *round = &site->ready.rounds[delivery->priority];
    struct sched_queue *queue = round->last;
    if (queue == NULL || queue->sender != delivery->sender) {
        queue = find(&site->sched->queues, site, delivery->sender, delivery->priority);
        queue = queue != NULL ? queue : queue_make(delivery);
        if (queue == NULL) {
            return -ENOMEM;
        }
        round->last = queue;
    }
    delivery->state = SCHED_READY;
    delivery->ready.queue = near_link(queue);
    near_list_init(&delivery->ready.node);
    if (queue->first != NULL) { /* before the first is the end of a ring */
        near_list_append(&queue->first->ready.node, &delivery->ready.node);
    }
    if (queue->first == NULL || end == SCHED_AT_FRONT) {
        queue->first = delivery;
    }
    if (end == SCHED_AT_FRONT && !queue->blocked) {
        list_remove(&queue->node);
        list_prepend(&round->queues, &queue->node);
    }
    queue->count++;
    site->ready.count++;
    site->ready.blocked_count += queue->blocked;
    return 0;
}

static struct sched_delivery *next_in_queue(const struct sched_delivery *delivery)
{
    return list_entry(near_next(&delivery->ready.node), struct sched_delivery, ready.node);
}

void sched_ready_leave(struct sched_delivery *delivery)
{
    struct sched_queue *queue = near_at(delivery, delivery->ready.queue);
    struct sched_ready *ready = &queue->site->ready;
    if (queue->first == delivery) {
        queue->first = next_in_queue(delivery);
    }
    near_list_remove(&delivery->ready.node);
    ready->count--;
    ready->blocked_count -= queue->blocked;
    if (--queue->count == 0) {
        queue_drop(queue);
    }
}

/* ---- Whose turn it is ---- */

/* The highest that has something, but for a lower one that was passed over too often. */
static struct sched_round *round_choose(struct sched_ready *ready)
{
    struct sched_round *chosen = NULL;
    for (unsigned i = 0; i < SCHED_PRIORITY_COUNT; i++) {
        struct sched_round *round = &ready->rounds[i];
        if (list_empty(&round->queues)) {
            continue;
        }
        chosen = round;
        if (round->passed >= SCHED_PRIORITY_SHARE - 1) {
            break;
        }
    }
    for (struct sched_round *round = ready->rounds; chosen != NULL && round < chosen; round++) {
        round->passed += !list_empty(&round->queues);
    }
    if (chosen != NULL) {
        chosen->passed = 0;
    }
    return chosen;
}

struct sched_delivery *sched_ready_take(struct sched_site *site)
{
    struct sched_round *round = round_choose(&site->ready);
    if (round == NULL) {
        return NULL;
    }
    struct sched_queue *queue = list_entry(round->queues.next, struct sched_queue, node);
    struct sched_delivery *delivery = queue->first;
    list_remove(&queue->node);
    list_append(&round->queues, &queue->node);
    sched_ready_leave(delivery);
    return delivery;
}

/* Of each queue of the round its delivery number `turn`, where it has so many. Returns the new count. */
static uint32_t round_turn(const struct sched_round *round, uint32_t turn,
                           const struct sched_delivery **deliveries, uint32_t count, uint32_t most)
{
    const struct list_node *node = round->queues.next;
    for (; node != &round->queues && count < most; node = node->next) {
        const struct sched_queue *queue = list_entry(node, struct sched_queue, node);
        const struct sched_delivery *delivery = queue->first;
        for (uint32_t i = 0; i < turn && turn < queue->count; i++) {
            delivery = next_in_queue(delivery);
        }
        if (turn < queue->count) {
            deliveries[count++] = delivery;
        }
    }
    return count;
}

uint32_t sched_ready_turns(const struct sched_ready *ready,
                           const struct sched_delivery **deliveries, uint32_t most)
{
    uint32_t count = 0;
    for (unsigned i = SCHED_PRIORITY_COUNT; i-- > 0;) {
        uint32_t turn = 0, before;
        do {
            before = count;
            count = round_turn(&ready->rounds[i], turn++, deliveries, count, most);
        } while (count > before && count < most);
    }
    return count;
}

/* ---- Senders that are suspended ---- */

static void queue_place_again(struct sched_queue *queue)
{
    list_remove(&queue->node);
    if (queue->blocked) {
        queue->site->ready.blocked_count -= queue->count;
    }
    queue_place(queue);
}

void sched_ready_turn(struct sched_site *site, uint64_t sender)
{
    for (unsigned i = 0; i < SCHED_PRIORITY_COUNT; i++) {
        struct sched_queue *queue = find(&site->sched->queues, site, sender, i);
        if (queue != NULL) {
            queue_place_again(queue);
            sched_site_look_at(site);
        }
    }
}

void sched_ready_look(struct sched_site *site, uint64_t now_ns)
{
    struct sched_ready *ready = &site->ready;
    if (ready->blocked_due_ns > now_ns) {
        return;
    }
    struct list_node blocked;
    list_init(&blocked);
    list_splice(&blocked, &ready->blocked);
    ready->blocked_due_ns = SCHED_NEVER;
    for (struct list_node *node; (node = list_pop(&blocked)) != NULL;) {
        queue_place_again(list_entry(node, struct sched_queue, node));
    }
}
