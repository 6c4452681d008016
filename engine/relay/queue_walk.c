#include "engine/relay/queue_walk.h"
#include <stdlib.h>

#define IDS_FEW 64u

void queue_walks_init(struct queue_walks *walks, struct spool *spool, const struct world *world)
{
    *walks = (struct queue_walks){.spool = spool, .world = world};
    list_init(&walks->walks);
}

/* Other shards read it while we count. */
static void count(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

/* ---- Which message ---- */

static void id_take(void *owner, struct message *message)
{
    struct queue_walk *walk = owner;
    if (walk->id_count == walk->id_room) {
        uint64_t *grown = realloc(walk->ids, 2 * (size_t)walk->id_room * sizeof(*grown));
        if (grown == NULL) {
            walk->failed = true;
            return;
        }
        walk->ids = grown;
        walk->id_room *= 2;
    }
    walk->ids[walk->id_count++] = message->id;
}

/* The next few ids. Each bucket of the table that is looked into is a step. */
static unsigned ids_take(struct queue_walks *walks, struct queue_walk *walk, unsigned steps)
{
    unsigned done = 0;
    walk->id_next = walk->id_count = 0;
    while (walk->id_count == 0 && !walk->over_table && done < steps) {
        walk->cursor = spool_walk(walks->spool, walk->cursor, id_take, walk);
        walk->over_table = walk->cursor == 0;
        done++;
    }
    return done;
}

/* ---- Its recipients ---- */

static bool wants_facts(const struct queue_filter *filter)
{
    return filter->deferred || filter->site[0] != '\0' || filter->pattern != NULL;
}

/* Of recipients [from, from + count) those that are meant; how many. */
static uint32_t group_find(struct queue_walk *walk, const struct message *message, uint32_t from,
                           uint32_t size, uint32_t *indexes)
{
    const struct queue_filter *filter = walk->filter;
    struct queue_facts *facts = NULL;
    bool of_recipients = queue_filter_of_recipients(filter);
    uint32_t found = 0;
    if (wants_facts(filter)) {
        facts = calloc(size, sizeof(*facts));
        if (facts == NULL) {
            walk->failed = true;
            return 0;
        }
        walk->ops->facts(walk->owner, message, from, size, facts);
    }
    for (uint32_t i = 0; i < size; i++) {
        const struct queue_facts none = {0};
        if (message_recipient_state(message, from + i) == RECIPIENT_WAITING &&
            (!of_recipients ||
             queue_filter_recipient(filter, walk->matcher, message_forward_path(message, from + i),
                                    facts != NULL ? &facts[i] : &none))) {
            indexes[found++] = from + i;
        }
    }
    free(facts);
    return found;
}

static bool is_full(const struct queue_walk *walk)
{
    return (walk->looked_most > 0 && walk->counts.looked >= walk->looked_most) ||
           (walk->matched_most > 0 && walk->counts.matched >= walk->matched_most);
}

/* A group of the first message of ids. Returns its steps. */
static unsigned group_step(struct queue_walk *walk, struct message *message)
{
    const struct queue_filter *filter = walk->filter;
    bool by_pattern = filter->pattern != NULL;
    uint32_t most = by_pattern ? QUEUE_GROUP_PATTERN_MAX : QUEUE_GROUP_MAX;
    uint32_t indexes[QUEUE_GROUP_MAX];
    uint32_t from = walk->recipient, rest = message->recipient_count - from;
    uint32_t size = rest < most ? rest : most;
    uint32_t found = group_find(walk, message, from, size, indexes);
    walk->recipient = size == rest ? 0 : from + size;
    walk->id_next += size == rest;
    if (walk->limit > 0 && found > walk->limit - walk->counts.matched) {
        found = (uint32_t)(walk->limit - walk->counts.matched);
    }
    count(&walk->counts.matched, found);
    if (found > 0) {
        const struct queue_group group = {.message = message,
                                          .indexes = indexes,
                                          .count = found,
                                          .whole = found == message->waiting_count};
        walk->ops->act(walk->owner, &group);
    }
    return size * (by_pattern ? QUEUE_PATTERN_STEPS : 1);
}

static unsigned message_step(struct queue_walks *walks, struct queue_walk *walk)
{
    struct message *message = spool_find(walks->spool, walk->ids[walk->id_next]);
    if (message == NULL || walk->recipient >= message->recipient_count) { /* gone meanwhile */
        walk->recipient = 0;
        walk->id_next++;
        return 1;
    }
    if (walk->recipient == 0) {
        count(&walk->counts.looked, 1);
    }
    if (!queue_filter_message(walk->filter, walk->matcher, message, walks->wall_s)) {
        walk->recipient = 0;
        walk->id_next++;
        return 1;
    }
    unsigned steps = group_step(walk, message);
    if (walk->filter->pattern != NULL) {
        __atomic_store_n(&walk->counts.gave_up, queue_matcher_gave_up(walk->matcher),
                         __ATOMIC_RELAXED);
    }
    return 1 + steps;
}

/* ---- A walk ---- */

static bool is_over(struct queue_walk *walk)
{
    bool at_a_break = walk->id_next == walk->id_count && walk->recipient == 0;
    walk->ended = at_a_break && walk->over_table;
    return walk->cancelled || walk->failed || walk->ended || (at_a_break && is_full(walk)) ||
           (walk->limit > 0 && walk->counts.matched >= walk->limit);
}

static void walk_end(struct queue_walk *walk)
{
    list_remove(&walk->node);
    queue_matcher_close(walk->matcher);
    free(walk->ids);
    walk->matcher = NULL;
    walk->ids = NULL;
    walk->ops->over(walk->owner);
}

int queue_walk_start(struct queue_walks *walks, struct queue_walk *walk)
{
    const struct queue_filter *filter = walk->filter;
    walk->id_room = filter->id_count > IDS_FEW ? filter->id_count : IDS_FEW;
    walk->ids = calloc(walk->id_room, sizeof(*walk->ids));
    walk->matcher = queue_matcher_open(filter);
    if (walk->ids == NULL || walk->matcher == NULL) {
        free(walk->ids);
        queue_matcher_close(walk->matcher);
        return -ENOMEM;
    }
    if (filter->id_count > 0) {
        memcpy(walk->ids, filter->ids, filter->id_count * sizeof(*walk->ids));
        walk->id_count = filter->id_count;
        walk->over_table = true;
    }
    list_init(&walk->node);
    list_append(&walks->walks, &walk->node);
    return 0;
}

/* Until so many steps are made, or it is over and gone. */
static unsigned walk_run(struct queue_walks *walks, struct queue_walk *walk, unsigned steps,
                         uint64_t until_ns)
{
    unsigned done = 0, look = 0;
    while (!is_over(walk)) {
        if (done >= steps) {
            return done;
        }
        if (done >= look) {
            if (world_now_ns(walks->world) >= until_ns) {
                return done;
            }
            look = done + QUEUE_WALK_LOOK;
        }
        if (walk->ops->ready != NULL && !walk->ops->ready(walk->owner)) {
            return done;
        }
        done += walk->id_next < walk->id_count ? message_step(walks, walk)
                                               : ids_take(walks, walk, steps - done);
    }
    walk_end(walk);
    return done + 1;
}

/* How long this round may take. */
static uint64_t round_ns(const struct queue_walks *walks, uint64_t now_ns)
{
    uint64_t ns = (now_ns - walks->left_ns) / QUEUE_WALK_SHARE;
    return ns < QUEUE_WALK_NS_MIN   ? QUEUE_WALK_NS_MIN
           : ns > QUEUE_WALK_NS_MAX ? QUEUE_WALK_NS_MAX
                                    : ns;
}

unsigned queue_walks_round(struct queue_walks *walks)
{
    unsigned all = 0, share = 0;
    struct list_node now;
    for (struct list_node *node = walks->walks.next; node != &walks->walks; node = node->next) {
        share++;
    }
    if (share == 0) {
        return 0;
    }
    share = (QUEUE_WALK_STEPS + share - 1) / share;
    uint64_t now_ns = world_now_ns(walks->world), until_ns = now_ns + round_ns(walks, now_ns);
    walks->wall_s = world_wall_s(walks->world);
    list_init(&now);
    list_splice(&now, &walks->walks);
    for (struct list_node *node; all < QUEUE_WALK_STEPS && (node = list_pop(&now)) != NULL;) {
        struct queue_walk *walk = list_entry(node, struct queue_walk, node);
        list_append(&walks->walks, node); /* the next round begins with another */
        all += walk_run(walks, walk, share, until_ns);
    }
    list_splice(&now, &walks->walks);
    list_splice(&walks->walks, &now);
    walks->left_ns = world_now_ns(walks->world);
    return all;
}

void queue_walks_cancel(struct queue_walks *walks)
{
    for (struct list_node *node = walks->walks.next; node != &walks->walks; node = node->next) {
        list_entry(node, struct queue_walk, node)->cancelled = true;
    }
}
