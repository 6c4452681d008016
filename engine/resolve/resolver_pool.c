/* The DNS threads that ask by the same settings. */
#include "engine/resolve/resolver_private.h"

#include <errno.h>
#include <unistd.h>

static int copy_text(const char **text)
{
    if (*text != NULL) {
        *text = strdup(*text);
        return *text != NULL ? 0 : -ENOMEM;
    }
    return 0;
}

static int copy_settings(struct resolver_settings *own, const struct resolver_settings *settings)
{
    *own = *settings;
    own->mta_sts_file = NULL; /* policy_file has it */
    own->servers = calloc(settings->server_count + 1, sizeof(struct endpoint));
    int status = own->servers != NULL ? 0 : -ENOMEM;
    status |=
        copy_text(&own->resolv_conf) | copy_text(&own->trust_anchor) | copy_text(&own->mta_sts_ca);
    if (status == 0 && settings->server_count > 0) {
        memcpy((struct endpoint *)(uintptr_t)own->servers, settings->servers,
               settings->server_count * sizeof(struct endpoint));
    }
    return status == 0 ? 0 : -ENOMEM;
}

static void settings_free(struct resolver_settings *own)
{
    free((void *)(uintptr_t)own->servers);
    free((void *)(uintptr_t)own->resolv_conf);
    free((void *)(uintptr_t)own->trust_anchor);
    free((void *)(uintptr_t)own->mta_sts_ca);
}

/* What libunbound or libcurl cannot read shows only when something is asked, and mail then waits: say it now. */
bool resolver_files_there(const struct resolver_settings *settings)
{
    bool there = true;
    const char *const files[] = {settings->dnssec ? settings->trust_anchor : NULL,
                                 settings->mta_sts_ca,
                                 settings->server_count == 0 ? settings->resolv_conf : NULL};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (files[i] != NULL && access(files[i], R_OK) < 0) {
            logger_line(settings->logger, LOGGER_WARNING,
                        "resolve: %s: %s: no destination can be found in the DNS", files[i],
                        strerror(errno));
            there = false;
        }
    }
    return there;
}

int resolver_pool_open(struct resolver_pool **opened, struct resolver *resolver,
                       const struct resolver_settings *settings)
{
    struct resolver_pool *pool =
        calloc(1, sizeof(*pool) + settings->threads * sizeof(pool->dns[0]));
    if (pool == NULL) {
        return -ENOMEM;
    }
    int status = copy_settings(&pool->settings, settings);
    if (status == 0) {
        (void)resolver_files_there(&pool->settings);
    }
    while (status == 0 && pool->dns_open < settings->threads) {
        status = resolver_dns_open(&pool->dns[pool->dns_open], resolver, &pool->settings);
        pool->dns_open += status == 0;
    }
    if (status < 0) {
        resolver_pool_close(pool);
        return status;
    }
    *opened = pool;
    return 0;
}

void resolver_pool_close(struct resolver_pool *pool)
{
    for (unsigned i = 0; i < pool->dns_open; i++) {
        resolver_dns_close(&pool->dns[i]);
    }
    settings_free(&pool->settings);
    free(pool);
}

struct resolver_dns *resolver_pool_dns(struct resolver_pool *pool, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV: nothing depends on its spread but the load */
    for (; *name != '\0'; name++) {
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    }
    return &pool->dns[hash % pool->settings.threads];
}
