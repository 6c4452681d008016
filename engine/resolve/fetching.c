#include "engine/resolve/policy_record.h"
#include "engine/resolve/resolve_private.h"

#include <stdio.h>

/* A policy on its way from the domain's web server, and the resolutions that wait for it. */
struct fetching {
    struct table_node node;
    struct list_node all;
    struct list_node refused;
    struct list_node waiting;
    struct resolve *resolve;
    struct resolve_fetch fetch;
    bool out;
    char id[DNS_MTA_STS_ID_MAX + 1];
};

static void fetching_free(struct fetching *fetching)
{
    table_remove(&fetching->resolve->fetchings, &fetching->node);
    list_remove(&fetching->all);
    list_remove(&fetching->refused);
    free(fetching);
}

static void fetching_end(struct fetching *fetching, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(&fetching->waiting)) != NULL) {
        struct resolution *resolution = list_entry(node, struct resolution, fetch);
        if (--resolution->missing == 0) {
            list_append(ready, &resolution->ready);
        }
    }
    fetching_free(fetching);
}

static void failed(struct fetching *fetching, enum destination_mta_sts_failure failure)
{
    static const char *const reasons[] = {
        [DESTINATION_MTA_STS_FETCH_ERROR] = "could not be fetched",
        [DESTINATION_MTA_STS_INVALID] = "is not valid",
        [DESTINATION_MTA_STS_WEBPKI_INVALID] = "is behind a certificate that is not valid"};
    struct resolve *resolve = fetching->resolve;
    resolve_count(&resolve->counters.mta_sts_failed, 1);
    policies_fail(&resolve->policies, fetching->fetch.domain, fetching->id, failure,
                  world_wall_s(resolve->settings.world));
    logger_line(resolve->settings.logger, LOGGER_WARNING, "resolve: %s: the MTA-STS policy %s %s",
                fetching->fetch.domain, fetching->id, reasons[failure]);
}

static void store(struct fetching *fetching, struct slice text)
{
    struct resolve *resolve = fetching->resolve;
    struct resolve_backend *backend = resolve->settings.backend;
    struct policy_record record = {.fetched_s = world_wall_s(resolve->settings.world)};
    uint8_t bytes[POLICY_RECORD_BYTES_MAX];
    if (dns_mta_sts_read_policy(text, &record.policy) < 0) {
        failed(fetching, DESTINATION_MTA_STS_INVALID);
        return;
    }
    resolve_count(&resolve->counters.mta_sts_fetched, 1);
    memcpy(record.domain, fetching->fetch.domain, sizeof(record.domain));
    memcpy(record.id, fetching->id, sizeof(record.id));
    if (policies_store(&resolve->policies, record.domain, record.id, &record.policy,
                       record.fetched_s) < 0) {
        failed(fetching, DESTINATION_MTA_STS_FETCH_ERROR);
    }
    if (backend->ops->keep != NULL) {
        backend->ops->keep(backend, slice_of(bytes, policy_record_write(&record, bytes)));
    }
}

static void fetched(struct resolve_fetch *fetch, enum resolve_fetch_status status,
                    struct slice text)
{
    struct fetching *fetching = list_entry(fetch, struct fetching, fetch);
    struct resolve *resolve = fetching->resolve;
    struct list_node ready;
    list_init(&ready);
    switch (status) {
    case RESOLVE_FETCH_OK:
        store(fetching, text);
        break;
    case RESOLVE_FETCH_FAILED:
        failed(fetching, DESTINATION_MTA_STS_FETCH_ERROR);
        break;
    case RESOLVE_FETCH_CERTIFICATE_INVALID:
        failed(fetching, DESTINATION_MTA_STS_WEBPKI_INVALID);
        break;
    }
    fetching_end(fetching, &ready);
    resolve_finish(resolve, &ready);
}

void fetching_refuse_all(struct resolve *resolve, struct list_node *ready)
{
    struct list_node *node;
    while ((node = list_pop(&resolve->refused_fetchings)) != NULL) {
        struct fetching *fetching = list_entry(node, struct fetching, refused);
        failed(fetching, DESTINATION_MTA_STS_FETCH_ERROR);
        fetching_end(fetching, ready);
    }
}

static struct fetching *fetching_new(struct resolve *resolve, const char *domain, const char *id)
{
    struct resolve_backend *backend = resolve->settings.backend;
    struct fetching *fetching =
        resolve->fetchings.count < RESOLVE_FETCHINGS_MAX ? calloc(1, sizeof(*fetching)) : NULL;
    if (fetching == NULL) {
        return NULL;
    }
    fetching->resolve = resolve;
    fetching->fetch.fetched = fetched;
    snprintf(fetching->fetch.domain, sizeof(fetching->fetch.domain), "%s", domain);
    snprintf(fetching->id, sizeof(fetching->id), "%s", id);
    list_init(&fetching->waiting);
    list_init(&fetching->refused);
    list_append(&resolve->fetching_list, &fetching->all);
    const struct table_key key = {.name = fetching->fetch.domain};
    table_add(&resolve->fetchings, &fetching->node, &key);
    fetching->out = backend->ops->fetch(backend, &fetching->fetch) == 0;
    if (!fetching->out) {
        list_append(&resolve->refused_fetchings, &fetching->refused);
        wheel_arm(resolve->settings.wheel, &resolve->refusals, 0);
    }
    return fetching;
}

void fetching_need(struct resolve *resolve, struct resolution *resolution, const char *domain,
                   const char *id)
{
    const struct table_key key = {.name = domain};
    struct table_node *node = table_find(&resolve->fetchings, &key);
    struct fetching *fetching =
        node != NULL ? list_entry(node, struct fetching, node) : fetching_new(resolve, domain, id);
    if (fetching != NULL && resolution != NULL) {
        list_append(&fetching->waiting, &resolution->fetch);
        resolution->missing++;
    }
}

void fetching_close_all(struct resolve *resolve)
{
    struct resolve_backend *backend = resolve->settings.backend;
    while (!list_empty(&resolve->fetching_list)) {
        struct fetching *fetching = list_entry(resolve->fetching_list.next, struct fetching, all);
        check(list_empty(&fetching->waiting));
        if (fetching->out) {
            backend->ops->cancel_fetch(backend, &fetching->fetch);
        }
        fetching_free(fetching);
    }
}

void resolve_remember_policy(struct resolve *resolve, const struct policy_record *record)
{
    (void)policies_store(&resolve->policies, record->domain, record->id, &record->policy,
                         record->fetched_s);
}
