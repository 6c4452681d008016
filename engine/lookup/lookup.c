#include "engine/lookup/lookup.h"
#include <stdlib.h>

#define CHAINS 4096u

/* A key of a map: remembered, or being asked for. */
struct entry {
    struct entry *next; /* in its chain */
    struct list_node
        used; /* in lookup->used, the least recently used first; alone while it is asked for */
    struct map *map;
    uint64_t generation; /* of the map, when it was asked */
    uint64_t expires_ns;
    struct lookup_value *value; /* NULL: being asked for */
    struct list_node queries;
    size_t bytes;
    uint32_t hash;
    bool forgotten; /* while it was asked for: told, not kept */
    uint16_t key_bytes;
    uint8_t key[];
};

/* On its way to a helper and back; ends by itself when the lookup has gone. */
struct question {
    struct helper_job job;
    struct lookup *lookup; /* NULL: nobody wants to know any more */
    struct list_node node; /* in lookup->questions */
    struct entry *entry;
    struct map *map;
    uint64_t now_ns;
    int status;
    struct lookup_value *value;
    uint16_t key_bytes;
    uint8_t key[];
};

struct lookup {
    struct lookup_settings settings;
    struct lookup_counters counters;
    struct siphash_key secret;
    struct list_node used;
    struct list_node questions;
    struct entry *chains[CHAINS];
};

static uint64_t now_of(const struct lookup *lookup)
{
    return lookup->settings.shard == NULL ? 0 : lookup->settings.shard->now_ns;
}

int lookup_open(struct lookup **opened, const struct lookup_settings *settings)
{
    const uint64_t second_ns = 1000000000ull;
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        return -ENOMEM;
    }
    struct lookup_settings *own = &lookup->settings;
    *own = *settings;
    check(own->helpers == NULL || own->shard != NULL);
    own->found_ns = own->found_ns == 0 ? 60 * second_ns : own->found_ns;
    own->absent_ns = own->absent_ns == 0 ? 60 * second_ns : own->absent_ns;
    own->failed_ns = own->failed_ns == 0 ? 5 * second_ns : own->failed_ns;
    own->bytes_max = own->bytes_max == 0 ? 16u << 20 : own->bytes_max;
    own->asked_max = own->asked_max == 0 ? 1024 : own->asked_max;
    if (own->shard != NULL) {
        world_random(own->shard->world, &lookup->secret, sizeof(lookup->secret));
    }
    list_init(&lookup->used);
    list_init(&lookup->questions);
    *opened = lookup;
    return 0;
}

/* ---- What is remembered ---- */

static uint32_t hash_of(const struct lookup *lookup, const struct map *map, struct slice key)
{
    uint64_t words[1 + MAP_KEY_MAX / 8] = {(uint64_t)(uintptr_t)map};
    memcpy(words + 1, key.bytes, key.size);
    return (uint32_t)siphash(&lookup->secret, words, 1 + (key.size + 7) / 8);
}

static struct entry **place_of(struct lookup *lookup, const struct map *map, struct slice key,
                               uint32_t hash)
{
    struct entry **at = &lookup->chains[hash % CHAINS];
    while (*at != NULL && ((*at)->hash != hash || (*at)->map != map ||
                           !slice_equal(slice_of((*at)->key, (*at)->key_bytes), key))) {
        at = &(*at)->next;
    }
    return at;
}

static void entry_unchain(struct lookup *lookup, struct entry *entry)
{
    struct entry **at = &lookup->chains[entry->hash % CHAINS];
    while (*at != entry) {
        check(*at != NULL);
        at = &(*at)->next;
    }
    *at = entry->next;
}

static void entry_drop(struct lookup *lookup, struct entry *entry)
{
    check(list_empty(&entry->queries));
    entry_unchain(lookup, entry);
    list_remove(&entry->used);
    if (entry->value != NULL) {
        lookup->counters.bytes -= entry->bytes;
        lookup_value_drop(entry->value);
    }
    free(entry);
}

static void entry_keep(struct lookup *lookup, struct entry *entry, struct lookup_value *value)
{
    const struct lookup_settings *settings = &lookup->settings;
    uint64_t life_ns = value->answer == MAP_FAILED   ? settings->failed_ns
                       : value->answer == MAP_ABSENT ? settings->absent_ns
                                                     : settings->found_ns;
    entry->value = value;
    entry->bytes = sizeof(*entry) + entry->key_bytes + sizeof(*value) + value->text.size;
    entry->expires_ns = now_of(lookup) + life_ns;
    lookup->counters.bytes += entry->bytes;
    list_append(&lookup->used, &entry->used);
    while (lookup->counters.bytes > settings->bytes_max) {
        entry_drop(lookup, list_entry(lookup->used.next, struct entry, used));
        lookup->counters.evicted++;
    }
}

static void value_free(struct ref *ref)
{
    free(list_entry(ref, struct lookup_value, ref));
}

static struct lookup_value *value_make(const struct map_result *result)
{
    struct slice text = result->answer == MAP_FOUND    ? slice_of(result->value, result->bytes)
                        : result->answer == MAP_ABSENT ? slice_of("", 0)
                                                       : slice_text(result->problem);
    struct lookup_value *value = malloc(sizeof(*value) + text.size);
    if (value != NULL) {
        ref_init(&value->ref, value_free);
        value->answer = result->answer;
        memcpy(value + 1, text.bytes, text.size);
        value->text = slice_of(value + 1, text.size);
    }
    return value;
}

static struct lookup_value *value_take(struct lookup_value *value)
{
    ref_take(&value->ref);
    return value;
}

/* ---- Asking ---- */

static void question_work(struct helper_job *job, void *own)
{
    struct question *question = list_entry(job, struct question, job);
    struct map_result *result = own;
    map_find(question->map, slice_of(question->key, question->key_bytes), question->now_ns, result);
    question->value = value_make(result);
}

/* Everybody who waits is told; the entry is kept, or goes. */
static void entry_answer(struct lookup *lookup, struct entry *entry, struct lookup_value *value)
{
    struct list_node queries;
    list_init(&queries);
    list_splice(&queries, &entry->queries);
    lookup->counters.failures += value->answer == MAP_FAILED;
    value_take(value); /* ours, while they are told */
    if (entry->forgotten) {
        lookup_value_drop(value);
        free(entry);
    } else {
        entry_keep(lookup, entry, value);
    }
    for (struct list_node *node; (node = list_pop(&queries)) != NULL;) {
        struct lookup_query *query = list_entry(node, struct lookup_query, node);
        query->told(query, value_take(value));
    }
    lookup_value_drop(value);
}

static struct lookup_value *out_of_memory(void)
{
    static const struct map_result result = {.answer = MAP_FAILED, .problem = "out of memory"};
    struct lookup_value *value = value_make(&result);
    check(value != NULL);
    return value;
}

static void question_dropped(struct helper_job *job)
{
    struct question *question = list_entry(job, struct question, job);
    check(question->lookup == NULL);
    if (question->value != NULL) {
        lookup_value_drop(question->value);
    }
    map_close(question->map);
    free(question);
}

static void question_done(struct helper_job *job, struct shard *shard)
{
    struct question *question = list_entry(job, struct question, job);
    struct lookup *lookup = question->lookup;
    struct lookup_value *value = question->value;
    struct entry *entry = question->entry;
    (void)shard;
    list_remove(&question->node);
    map_close(question->map); /* the last who has it, when it was closed meanwhile */
    free(question);
    if (lookup == NULL) {
        if (value != NULL) {
            lookup_value_drop(value);
        }
        return;
    }
    lookup->counters.asked--;
    entry_answer(lookup, entry, value != NULL ? value : out_of_memory());
}

/* 0: it is under way. */
static int ask_helpers(struct lookup *lookup, struct entry *entry)
{
    struct question *question = malloc(sizeof(*question) + entry->key_bytes);
    if (question == NULL) {
        return -ENOMEM;
    }
    *question = (struct question){
        .job = {.work = question_work, .done = question_done, .dropped = question_dropped},
        .lookup = lookup,
        .entry = entry,
        .map = map_take(entry->map),
        .now_ns = now_of(lookup),
        .key_bytes = entry->key_bytes};
    memcpy(question->key, entry->key, entry->key_bytes);
    list_init(&question->node);
    list_append(&lookup->questions, &question->node);
    int status = helpers_give(lookup->settings.helpers, lookup->settings.shard, &question->job);
    if (status < 0) {
        list_remove(&question->node);
        map_close(question->map);
        free(question);
        return status;
    }
    lookup->counters.asked++;
    return 0;
}

static int ask_in_place(struct lookup *lookup, struct entry *entry, struct lookup_value **value)
{
    struct map_result *result = malloc(sizeof(*result));
    if (result == NULL) {
        return -ENOMEM;
    }
    map_find(entry->map, slice_of(entry->key, entry->key_bytes), now_of(lookup), result);
    struct lookup_value *made = value_make(result);
    free(result);
    if (made == NULL) {
        return -ENOMEM;
    }
    lookup->counters.failures += made->answer == MAP_FAILED;
    *value = value_take(made);
    entry_keep(lookup, entry, made);
    return 0;
}

static struct entry *entry_make(struct lookup *lookup, struct map *map, struct slice key,
                                uint32_t hash)
{
    struct entry *entry = malloc(sizeof(*entry) + key.size);
    if (entry == NULL) {
        return NULL;
    }
    *entry = (struct entry){.map = map,
                            .generation = map_generation(map),
                            .hash = hash,
                            .key_bytes = (uint16_t)key.size};
    memcpy(entry->key, key.bytes, key.size);
    list_init(&entry->used);
    list_init(&entry->queries);
    entry->next = lookup->chains[hash % CHAINS];
    lookup->chains[hash % CHAINS] = entry;
    return entry;
}

static int ask(struct lookup *lookup, struct map *map, struct slice key, uint32_t hash,
               struct lookup_query *query, struct lookup_value **value)
{
    if (lookup->counters.asked >= lookup->settings.asked_max) {
        lookup->counters.refused++;
        return -ENOBUFS;
    }
    struct entry *entry = entry_make(lookup, map, key, hash);
    if (entry == NULL) {
        return -ENOMEM;
    }
    lookup->counters.misses++;
    bool in_place = lookup->settings.helpers == NULL;
    int status = in_place ? ask_in_place(lookup, entry, value) : ask_helpers(lookup, entry);
    if (status < 0) {
        lookup->counters.refused += status == -ENOBUFS;
        entry_drop(lookup, entry);
        return status;
    }
    if (!in_place) {
        list_append(&entry->queries, &query->node);
    }
    return in_place ? 0 : -EINPROGRESS;
}

/* A file that has changed makes all that it said before a thing of the past. */
static bool entry_valid(const struct lookup *lookup, const struct entry *entry)
{
    return now_of(lookup) < entry->expires_ns && entry->generation == map_generation(entry->map);
}

int lookup_find(struct lookup *lookup, struct map *map, struct slice key,
                struct lookup_query *query, struct lookup_value **value)
{
    uint8_t folded[MAP_KEY_MAX];
    list_init(&query->node);
    key = slice_first(key, MAP_KEY_MAX + 1);
    if (key.size == 0 || key.size > MAP_KEY_MAX) {
        static const struct map_result absent = {.answer = MAP_ABSENT};
        *value = value_make(&absent);
        return *value == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; i < key.size; i++) {
        folded[i] = map_of_patterns(map) ? key.bytes[i] : slice_lower(key.bytes[i]);
    }
    key = slice_of(folded, key.size);
    uint32_t hash = hash_of(lookup, map, key);
    struct entry *entry = *place_of(lookup, map, key, hash);
    if (entry != NULL && entry->value == NULL) {
        list_append(&entry->queries, &query->node);
        return -EINPROGRESS;
    }
    if (entry != NULL && entry_valid(lookup, entry)) {
        lookup->counters.hits++;
        list_remove(&entry->used);
        list_append(&lookup->used, &entry->used);
        *value = value_take(entry->value);
        return 0;
    }
    if (entry != NULL) {
        entry_drop(lookup, entry);
    }
    return ask(lookup, map, key, hash, query, value);
}

void lookup_cancel(struct lookup_query *query)
{
    list_remove(&query->node);
}

/* ---- The end ---- */

void lookup_forget(struct lookup *lookup)
{
    while (!list_empty(&lookup->used)) {
        entry_drop(lookup, list_entry(lookup->used.next, struct entry, used));
    }
    for (struct list_node *node = lookup->questions.next; node != &lookup->questions;
         node = node->next) {
        struct question *question = list_entry(node, struct question, node);
        if (!question->entry->forgotten) {
            question->entry->forgotten = true;
            entry_unchain(lookup, question->entry);
        }
    }
}

void lookup_close(struct lookup *lookup)
{
    lookup_forget(lookup);
    for (struct list_node *node; (node = list_pop(&lookup->questions)) != NULL;) {
        struct question *question = list_entry(node, struct question, node);
        check(list_empty(&question->entry->queries));
        free(question->entry);
        question->lookup = NULL;
        list_init(&question->node);
    }
    free(lookup);
}

const struct siphash_key *lookup_secret(const struct lookup *lookup)
{
    return &lookup->secret;
}

const struct lookup_counters *lookup_counters(const struct lookup *lookup)
{
    return &lookup->counters;
}
