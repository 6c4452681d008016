#include "engine/resolve/resolve_private.h"

#include "engine/resolve/domain.h"
#include <errno.h>

#define DESTINATION_KIND 0x80000000u /* set: a destination's key in the cache; not: an answer's */

/* ---- Life ---- */

static void begin_anew(struct resolve *resolve, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(&resolve->rewound)) != NULL) {
        struct resolution *resolution = list_entry(node, struct resolution, ready);
        resolution_begin(resolution);
        if (resolution->missing == 0) { /* a host, or there is no room to ask */
            list_append(ready, &resolution->ready);
        }
    }
}

static void refusals_due(struct timer *timer, uint64_t now_ns)
{
    struct resolve *resolve = list_entry(timer, struct resolve, refusals);
    struct list_node ready;
    (void)now_ns;
    list_init(&ready);
    begin_anew(resolve, &ready);
    asking_refuse_all(resolve, &ready);
    fetching_refuse_all(resolve, &ready);
    resolve_finish(resolve, &ready);
}

/* What stands in when memory or room is short cannot be made then. */
static int open_stand_ins(struct resolve *resolve)
{
    static const struct resolve_answer nothing = {.status = RESOLVE_ANSWER_FAILED};
    const struct answer_lives none = {0};
    const struct destination no_memory = {.domain = "",
                                          .status = DESTINATION_TEMPORARY,
                                          .reply_code = 451,
                                          .enhanced_class = 4,
                                          .enhanced_subject = 3,
                                          .enhanced_detail = 0,
                                          .text = "out of memory"};
    resolve->unavailable = answer_new(&nothing, &none, 0);
    resolve->no_memory = destination_new(&no_memory);
    return resolve->unavailable != NULL && resolve->no_memory != NULL ? 0 : -ENOMEM;
}

static int open_tables(struct resolve *resolve)
{
    const struct resolve_settings *settings = &resolve->settings;
    struct siphash_key secret;
    world_random(settings->world, &secret, sizeof(secret));
    int status = cache_open(&resolve->cache, &secret, settings->cache_bytes);
    if (status == 0) {
        status = table_open(&resolve->askings, &secret, RESOLVE_ASKINGS_MAX / 4);
    }
    if (status == 0) {
        status = table_open(&resolve->fetchings, &secret, RESOLVE_FETCHINGS_MAX);
    }
    if (status == 0) {
        status = table_open(&resolve->running, &secret, settings->waiting_max / 4);
    }
    if (status == 0) {
        status = policies_open(&resolve->policies, &secret, RESOLVE_POLICIES_BYTES);
    }
    return status < 0 ? status : open_stand_ins(resolve);
}

static void settings_take(struct resolve *resolve, const struct resolve_settings *settings)
{
    resolve->settings = *settings;
    resolve->lives = (struct answer_lives){.ttl_min_ns = settings->ttl_min_ns,
                                           .ttl_max_ns = settings->ttl_max_ns,
                                           .negative_ttl_max_ns = settings->negative_ttl_max_ns,
                                           .failure_ns = settings->failure_ns};
}

int resolve_open(struct resolve **opened, const struct resolve_settings *settings)
{
    struct resolve *resolve = calloc(1, sizeof(*resolve));
    if (resolve == NULL) {
        return -ENOMEM;
    }
    settings_take(resolve, settings);
    list_init(&resolve->asking_list);
    list_init(&resolve->fetching_list);
    list_init(&resolve->running_list);
    list_init(&resolve->turn);
    list_init(&resolve->refused);
    list_init(&resolve->refused_fetchings);
    list_init(&resolve->rewound);
    list_init(&resolve->cache.used);
    list_init(&resolve->policies.used);
    timer_init(&resolve->refusals, refusals_due);
    int status = open_tables(resolve);
    if (status < 0) {
        resolve_close(resolve);
        return status;
    }
    *opened = resolve;
    return 0;
}

static void forget_queries(struct resolution *resolution)
{
    struct list_node *node;
    while ((node = list_pop(&resolution->queries)) != NULL) {
        list_entry(node, struct resolve_query, node)->resolution = NULL;
    }
}

void resolve_close(struct resolve *resolve)
{
    wheel_disarm(resolve->settings.wheel, &resolve->refusals);
    while (!list_empty(&resolve->running_list)) {
        struct resolution *resolution =
            list_entry(resolve->running_list.next, struct resolution, running);
        forget_queries(resolution);
        resolution_free(resolution);
    }
    asking_close_all(resolve);
    fetching_close_all(resolve);
    cache_close(&resolve->cache);
    policies_close(&resolve->policies);
    table_close(&resolve->askings);
    table_close(&resolve->fetchings);
    table_close(&resolve->running);
    answer_drop(resolve->unavailable);
    if (resolve->no_memory != NULL) {
        destination_drop(resolve->no_memory);
    }
    free(resolve);
}

static void gauge(uint64_t *counter, uint64_t value)
{
    __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static void count_cache(struct resolve *resolve)
{
    gauge(&resolve->counters.cache_bytes, resolve->cache.bytes);
    gauge(&resolve->counters.cache_entries, resolve->cache.entries.count);
    gauge(&resolve->counters.evicted, resolve->cache.evicted);
}

void resolve_forget(struct resolve *resolve)
{
    cache_forget(&resolve->cache);
}

void resolve_reload(struct resolve *resolve, const struct resolve_settings *settings)
{
    struct list_node *all = &resolve->running_list;
    check(settings->wheel == resolve->settings.wheel);
    for (struct list_node *node = all->next; node != all; node = node->next) {
        struct resolution *resolution = list_entry(node, struct resolution, running);
        resolution_rewind(resolution);
        list_append(&resolve->rewound, &resolution->ready);
    }
    asking_close_all(resolve); /* the backend's, as it was */
    fetching_close_all(resolve);
    settings_take(resolve, settings);
    cache_resize(&resolve->cache, settings->cache_bytes);
    count_cache(resolve);
    if (!list_empty(&resolve->rewound)) {
        wheel_arm(settings->wheel, &resolve->refusals, 0);
    }
}

bool resolve_is_own(const struct resolve *resolve, const struct endpoint *endpoint)
{
    uint32_t i = 0;
    while (i < resolve->settings.own_count &&
           !endpoint_equal(&resolve->settings.own[i], endpoint)) {
        i++;
    }
    return i < resolve->settings.own_count;
}

const struct resolve_counters *resolve_counters(const struct resolve *resolve)
{
    return &resolve->counters;
}

/* ---- Queries ---- */

static uint32_t destination_kind(const struct resolve_options *options)
{
    return DESTINATION_KIND | (options->tls_policy ? 1u << 20 : 0) |
           (options->host_only ? 1u << 19 : 0) | (uint32_t)options->family << 16 | options->port;
}

static struct resolution *resolution_new(struct resolve *resolve, const struct table_key *key,
                                         const struct resolve_options *options)
{
    struct resolution *resolution = calloc(1, sizeof(*resolution));
    if (resolution == NULL) {
        return NULL;
    }
    resolution->resolve = resolve;
    resolution->options = *options;
    resolution->asked = "MX";
    memcpy(resolution->domain, key->name, strlen(key->name) + 1);
    list_init(&resolution->ready);
    list_init(&resolution->fetch);
    list_init(&resolution->queries);
    list_append(&resolve->running_list, &resolution->running);
    const struct table_key own = {.name = resolution->domain, .kind = key->kind};
    table_add(&resolve->running, &resolution->node, &own);
    return resolution;
}

static void remember(struct resolve *resolve, const struct table_key *key,
                     struct destination *destination)
{
    if (destination != resolve->no_memory) {
        cache_put(&resolve->cache, key, &destination->ref, destination->bytes,
                  destination->expires_ns);
        count_cache(resolve);
    }
}

static int resolution_join(struct resolve *resolve, const struct table_key *key,
                           const struct resolve_options *options, struct resolve_query *query,
                           struct destination **destination)
{
    struct table_node *node = table_find(&resolve->running, key);
    struct resolution *resolution = node != NULL ? list_entry(node, struct resolution, node) : NULL;
    if (resolve->counters.waiting >= resolve->settings.waiting_max) {
        resolve_count(&resolve->counters.refused, 1);
        return -ENOBUFS;
    }
    if (resolution == NULL) {
        if ((resolution = resolution_new(resolve, key, options)) == NULL) {
            return -ENOMEM;
        }
        resolution_begin(resolution);
        *destination = resolution_advance(resolution);
        if (*destination != NULL) { /* all of it was known already */
            remember(resolve, key, *destination);
            resolution_free(resolution);
            return 0;
        }
    }
    query->resolution = resolution;
    list_append(&resolution->queries, &query->node);
    gauge(&resolve->counters.waiting, resolve->counters.waiting + 1);
    return -EINPROGRESS;
}

int resolve_destination(struct resolve *resolve, struct slice domain,
                        const struct resolve_options *options, struct resolve_query *query,
                        struct destination **destination)
{
    char name[DNS_NAME_BYTES];
    struct endpoint address;
    query->resolution = NULL;
    resolve_count(&resolve->counters.queries, 1);
    enum domain_kind kind = domain_read(domain, name, &address);
    if (kind == DOMAIN_WRONG) {
        *destination = resolution_end_at_once(resolve, "", NULL);
        return 0;
    }
    const struct table_key key = {.name = name, .kind = destination_kind(options)};
    struct ref *known = cache_find(&resolve->cache, &key, world_now_ns(resolve->settings.world));
    if (known != NULL) {
        resolve_count(&resolve->counters.hits, 1);
        *destination = list_entry(ref_take(known), struct destination, ref);
        return 0;
    }
    if (kind == DOMAIN_LITERAL) {
        address.port = options->port;
        *destination = resolution_end_at_once(resolve, name, &address);
        remember(resolve, &key, *destination);
        return 0;
    }
    return resolution_join(resolve, &key, options, query, destination);
}

void resolve_cancel(struct resolve *resolve, struct resolve_query *query)
{
    if (query->resolution != NULL) {
        query->resolution = NULL;
        list_remove(&query->node);
        gauge(&resolve->counters.waiting, resolve->counters.waiting - 1);
    }
}

/* ---- Answers ---- */

static void tell_all(struct resolve *resolve, struct list_node *queries,
                     struct destination *destination)
{
    struct list_node *node;
    while ((node = list_pop(queries)) != NULL) {
        struct resolve_query *query = list_entry(node, struct resolve_query, node);
        query->resolution = NULL;
        gauge(&resolve->counters.waiting, resolve->counters.waiting - 1);
        query->done(query, destination_take(destination));
    }
}

void resolve_finish(struct resolve *resolve, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(ready)) != NULL) {
        struct resolution *resolution = list_entry(node, struct resolution, ready);
        struct destination *destination = resolution_advance(resolution);
        if (destination == NULL) {
            continue;
        }
        struct list_node queries;
        list_init(&queries);
        list_splice(&queries, &resolution->queries);
        remember(resolve, &resolution->node.key, destination);
        resolution_free(resolution);
        tell_all(resolve, &queries, destination);
        destination_drop(destination);
    }
    count_cache(resolve);
}
