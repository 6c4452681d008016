#include "engine/resolve/resolve_private.h"

/* One question on its way to the backend and back, and who waits for it. */
struct asking {
    struct table_node node;
    struct list_node all;
    struct list_node turn;    /* in resolve->turn until the backend has it */
    struct list_node waiting; /* needs */
    struct resolve *resolve;
    struct resolve_question question;
    bool out; /* at the backend */
};

static void outstanding_set(struct resolve *resolve, uint64_t count)
{
    __atomic_store_n(&resolve->counters.outstanding, count, __ATOMIC_RELAXED);
}

static void asking_free(struct asking *asking)
{
    struct resolve *resolve = asking->resolve;
    if (asking->out) {
        outstanding_set(resolve, resolve->counters.outstanding - 1);
    }
    table_remove(&resolve->askings, &asking->node);
    list_remove(&asking->all);
    list_remove(&asking->turn);
    free(asking);
}

static void count_answer(struct resolve *resolve, const struct resolve_answer *answer)
{
    struct resolve_counters *counters = &resolve->counters;
    switch ((enum resolve_answer_status)answer->status) {
    case RESOLVE_ANSWER_RECORDS:
        resolve_count(&counters->answers, 1);
        break;
    case RESOLVE_ANSWER_NO_DATA:
    case RESOLVE_ANSWER_NO_DOMAIN:
        resolve_count(&counters->negatives, 1);
        break;
    case RESOLVE_ANSWER_FAILED:
        resolve_count(&counters->failures, 1);
        break;
    case RESOLVE_ANSWER_BOGUS:
        resolve_count(&counters->bogus, 1);
        break;
    }
}

/* Gives the answer to all who wait; those who have all they need are put on `ready`. */
static void asking_deliver(struct asking *asking, struct answer *answer, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(&asking->waiting)) != NULL) {
        struct need *need = list_entry(node, struct need, node);
        struct resolution *resolution = need->resolution;
        ref_take(&answer->ref);
        need->answer = answer;
        if (--resolution->missing == 0) {
            list_append(ready, &resolution->ready);
        }
    }
}

/* The backend gets what waits for its turn as far as there is room. */
static void take_turns(struct resolve *resolve)
{
    struct resolve_backend *backend = resolve->settings.backend;
    struct list_node *node;
    while (resolve->counters.outstanding < resolve->settings.outstanding_max &&
           (node = list_pop(&resolve->turn)) != NULL) {
        struct asking *asking = list_entry(node, struct asking, turn);
        if (backend->ops->ask(backend, &asking->question) < 0) {
            list_append(&resolve->refused, &asking->turn);
            wheel_arm(resolve->settings.wheel, &resolve->refusals, 0);
            continue;
        }
        asking->out = true;
        outstanding_set(resolve, resolve->counters.outstanding + 1);
        resolve_count(&resolve->counters.questions, 1);
    }
}

void asking_refuse_all(struct resolve *resolve, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(&resolve->refused)) != NULL) {
        struct asking *asking = list_entry(node, struct asking, turn);
        asking_deliver(asking, resolve->unavailable, ready);
        asking_free(asking);
    }
}

static void answered(struct resolve_question *question, const struct resolve_answer *from)
{
    struct asking *asking = list_entry(question, struct asking, question);
    struct resolve *resolve = asking->resolve;
    const struct table_key key = asking->node.key;
    struct list_node ready;
    list_init(&ready);
    count_answer(resolve, from);
    if (from->status == RESOLVE_ANSWER_BOGUS) {
        logger_line(resolve->settings.logger, LOGGER_WARNING,
                    "resolve: %s: DNSSEC validation failed: %s", question->name,
                    from->reason != NULL ? from->reason : "no reason given");
    }
    struct answer *answer =
        answer_new(from, &resolve->lives, world_now_ns(resolve->settings.world));
    if (answer != NULL) {
        cache_put(&resolve->cache, &key, &answer->ref, answer->bytes, answer->expires_ns);
    }
    asking_deliver(asking, answer != NULL ? answer : resolve->unavailable, &ready);
    answer_drop(answer);
    asking_free(asking);
    take_turns(resolve);
    resolve_finish(resolve, &ready);
}

static struct asking *asking_new(struct resolve *resolve, const struct table_key *key)
{
    struct asking *asking =
        resolve->askings.count < RESOLVE_ASKINGS_MAX ? calloc(1, sizeof(*asking)) : NULL;
    if (asking == NULL) {
        return NULL;
    }
    asking->resolve = resolve;
    asking->question.type = (uint16_t)key->kind;
    asking->question.answered = answered;
    memcpy(asking->question.name, key->name, strlen(key->name) + 1);
    list_init(&asking->waiting);
    list_append(&resolve->turn, &asking->turn);
    list_append(&resolve->asking_list, &asking->all);
    const struct table_key own = {.name = asking->question.name, .kind = key->kind};
    table_add(&resolve->askings, &asking->node, &own);
    return asking;
}

void asking_need(struct resolve *resolve, struct resolution *resolution, struct need *need,
                 const char *name, enum dns_type type)
{
    const struct table_key key = {.name = name, .kind = type};
    struct ref *known = cache_find(&resolve->cache, &key, world_now_ns(resolve->settings.world));
    need->resolution = resolution;
    list_init(&need->node);
    if (known != NULL) {
        need->answer = list_entry(ref_take(known), struct answer, ref);
        return;
    }
    struct table_node *node = table_find(&resolve->askings, &key);
    struct asking *asking =
        node != NULL ? list_entry(node, struct asking, node) : asking_new(resolve, &key);
    if (asking == NULL) {
        need->answer = list_entry(ref_take(&resolve->unavailable->ref), struct answer, ref);
        return;
    }
    list_append(&asking->waiting, &need->node);
    resolution->missing++;
    take_turns(resolve);
}

void need_drop(struct need *need)
{
    if (need->resolution != NULL) {
        list_remove(&need->node);
    }
    answer_drop(need->answer);
}

void asking_close_all(struct resolve *resolve)
{
    struct resolve_backend *backend = resolve->settings.backend;
    while (!list_empty(&resolve->asking_list)) {
        struct asking *asking = list_entry(resolve->asking_list.next, struct asking, all);
        check(list_empty(&asking->waiting));
        if (asking->out) {
            backend->ops->cancel(backend, &asking->question);
        }
        asking_free(asking);
    }
}
