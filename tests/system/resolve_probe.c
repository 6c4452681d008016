/*
 * resolve_probe: the resolver alone, as a program: where does mail for these domains go?
 *
 * usage: resolve_probe [server=ADDRESS:PORT] [anchor=FILE] [timeout=MS] [family=N] [port=N] [sts_port=N] [sts_ca=FILE]
 *                      [sts_file=FILE] [own=ADDRESS:PORT] [dnssec=0] [twice=1] DOMAIN...
 *                      [abandon=1]
 * One JSON object a line, in the order of the domains. All are asked at once; twice: then once more, from the cache;
 * abandon: ends while they are being asked.
 */
#include "engine/core/check.h"
#include "engine/core/system_world.h"
#include "engine/relay/destination_json.h"
#include "engine/resolve/resolve.h"
#include "engine/resolve/resolver.h"
#include <errno.h>
#include <unistd.h>

#define SECOND 1000000000ull

struct probe {
    struct world world;
    struct logger logger;
    struct shard shard;
    struct resolver_settings settings;
    struct resolve_options options;
    struct endpoint server, own;
    bool has_own, twice, abandon;
    struct resolve *resolve;
    unsigned waiting;
};

struct probe_query {
    struct resolve_query query;
    struct probe *probe;
    struct destination *destination;
};

static void done(struct resolve_query *query, struct destination *destination)
{
    struct probe_query *mine = (struct probe_query *)(void *)query;
    mine->destination = destination;
    mine->probe->waiting--;
}

static bool take_option(struct probe *probe, const char *argument)
{
    const char *value = strchr(argument, '=');
    if (value == NULL) {
        return false;
    }
    struct slice name = slice_of(argument, (size_t)(value++ - argument));
    unsigned long number = strtoul(value, NULL, 10);
    if (slice_equal(name, slice_text("server"))) {
        check(endpoint_parse(&probe->server, slice_text(value)) == 0);
        probe->settings.servers = &probe->server;
        probe->settings.server_count = 1;
    } else if (slice_equal(name, slice_text("anchor"))) {
        probe->settings.trust_anchor = value;
    } else if (slice_equal(name, slice_text("timeout"))) {
        probe->settings.timeout_ns = number * 1000000;
    } else if (slice_equal(name, slice_text("family"))) {
        probe->options.family = (uint8_t)number;
    } else if (slice_equal(name, slice_text("port"))) {
        probe->options.port = (uint16_t)number;
    } else if (slice_equal(name, slice_text("sts_port"))) {
        probe->settings.mta_sts_port = (uint16_t)number;
    } else if (slice_equal(name, slice_text("sts_ca"))) {
        probe->settings.mta_sts_ca = value;
    } else if (slice_equal(name, slice_text("sts_file"))) {
        probe->settings.mta_sts_file = value;
    } else if (slice_equal(name, slice_text("own"))) {
        check(endpoint_parse(&probe->own, slice_text(value)) == 0);
        probe->has_own = true;
    } else if (slice_equal(name, slice_text("dnssec"))) {
        probe->settings.dnssec = number != 0;
    } else if (slice_equal(name, slice_text("twice"))) {
        probe->twice = number != 0;
    } else if (slice_equal(name, slice_text("abandon"))) {
        probe->abandon = number != 0;
    }
    return true;
}

static void recalled(void *owner, const struct policy_record *record)
{
    resolve_remember_policy(((struct probe *)owner)->resolve, record);
}

static void ask_all(struct probe *probe, char **domains, struct probe_query *queries, int count)
{
    for (int i = 0; i < count; i++) {
        queries[i] = (struct probe_query){.query = {.done = done}, .probe = probe};
        int status = resolve_destination(probe->resolve, slice_text(domains[i]), &probe->options,
                                         &queries[i].query, &queries[i].destination);
        check(status == 0 || status == -EINPROGRESS);
        probe->waiting += status == -EINPROGRESS;
    }
    if (probe->abandon) {
        usleep(50000); /* some are at the servers, some are not, some have been answered */
        return;
    }
    while (probe->waiting > 0) {
        if (shard_round(&probe->shard) == 0) {
            usleep(1000);
        }
    }
    for (int i = 0; i < count; i++) {
        json_t *object = destination_json(queries[i].destination, world_now_ns(&probe->world));
        json_dumpf(object, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(object);
        destination_drop(queries[i].destination);
    }
}

int main(int argc, char **argv)
{
    struct probe probe = {.options = {.port = 25, .tls_policy = true},
                          .settings = {.dnssec = true,
                                       .timeout_ns = 20 * SECOND,
                                       .attempts = 5,
                                       .threads = 2,
                                       .mta_sts_port = 443,
                                       .mta_sts_timeout_ns = 10 * SECOND}};
    struct resolver *resolver;
    int first = 1;
    while (first < argc && take_option(&probe, argv[first])) {
        first++;
    }
    int count = argc - first;
    system_world_fill(&probe.world);
    logger_open(&probe.logger, STDERR_FILENO, LOGGER_DEBUG);
    probe.settings.logger = &probe.logger;
    probe.settings.world = &probe.world;
    const struct shard_settings shard = {
        .count = 1, .cpu = -1, .world = &probe.world, .logger = &probe.logger};
    check(shard_open(&probe.shard, &shard) == 0);
    check(resolver_open(&resolver, &probe.settings) == 0);
    struct resolve_backend *backend = resolver_backend_open(resolver, &probe.shard);
    check(backend != NULL);
    const struct resolve_settings settings = {.backend = backend,
                                              .world = &probe.world,
                                              .wheel = probe.shard.wheel,
                                              .logger = &probe.logger,
                                              .own = &probe.own,
                                              .own_count = probe.has_own,
                                              .cache_bytes = 4 << 20,
                                              .ttl_max_ns = 86400 * SECOND,
                                              .negative_ttl_max_ns = 3600 * SECOND,
                                              .failure_ns = 30 * SECOND,
                                              .outstanding_max = 100,
                                              .waiting_max = 1000,
                                              .mta_sts = true};
    check(resolve_open(&probe.resolve, &settings) == 0);
    resolver_recall(resolver, recalled, &probe);
    struct probe_query *queries = calloc((size_t)count + 1, sizeof(*queries));
    check(queries != NULL);
    ask_all(&probe, argv + first, queries, count);
    if (probe.twice) {
        ask_all(&probe, argv + first, queries, count);
    }
    resolve_close(probe.resolve);
    free(queries); /* after: those that were abandoned lie in it */
    resolver_backend_close(backend);
    resolver_close(resolver);
    shard_close(&probe.shard);
    return 0;
}
