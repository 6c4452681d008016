#include "tests/unit/resolve_rig.h"

#include "engine/core/check.h"
#include <errno.h>
#include <stdio.h>

const struct resolve_options rig_plain = {.family = RESOLVE_ANY, .port = 25};
const struct resolve_options rig_tls = {.family = RESOLVE_ANY, .port = 25, .tls_policy = true};

static uint64_t now_ns(void *self)
{
    return ((struct resolve_rig *)self)->now_ns;
}

static int64_t wall_s(void *self)
{
    return ((struct resolve_rig *)self)->wall_s;
}

static void random_bytes(void *self, void *bytes, size_t count)
{
    struct resolve_rig *rig = self;
    for (size_t i = 0; i < count; i++) {
        rig->random = rig->random * 6364136223846793005ull + 1442695040888963407ull;
        ((uint8_t *)bytes)[i] = (uint8_t)(rig->random >> 56);
    }
}

int resolve_rig_open(void **state)
{
    static const char *const own_names[] = {"Us.test"};
    struct resolve_rig *rig = calloc(1, sizeof(*rig));
    check(rig != NULL);
    fake_dns_open(&rig->dns);
    rig->world =
        (struct world){.now_ns = now_ns, .wall_s = wall_s, .random = random_bytes, .self = rig};
    rig->now_ns = RIG_SECOND;
    rig->wall_s = 1800000000;
    rig->wheel = wheel_open(rig->now_ns);
    check(rig->wheel != NULL);
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    rig->settings = (struct resolve_settings){.backend = &rig->dns.backend,
                                              .world = &rig->world,
                                              .wheel = rig->wheel,
                                              .logger = &rig->logger,
                                              .own_names = own_names,
                                              .own_name_count = 1,
                                              .cache_bytes = 4 << 20,
                                              .ttl_min_ns = 10 * RIG_SECOND,
                                              .ttl_max_ns = 86400 * RIG_SECOND,
                                              .negative_ttl_max_ns = 600 * RIG_SECOND,
                                              .failure_ns = 30 * RIG_SECOND,
                                              .outstanding_max = 512,
                                              .waiting_max = 1000,
                                              .mta_sts = true};
    check(resolve_open(&rig->resolve, &rig->settings) == 0);
    *state = rig;
    return 0;
}

int resolve_rig_close(void **state)
{
    struct resolve_rig *rig = *state;
    resolve_close(rig->resolve);
    wheel_close(rig->wheel);
    free(rig);
    return 0;
}

void resolve_rig_reopen(struct resolve_rig *rig)
{
    resolve_close(rig->resolve);
    check(resolve_open(&rig->resolve, &rig->settings) == 0);
}

void resolve_rig_pass(struct resolve_rig *rig, uint64_t seconds)
{
    rig->now_ns += seconds * RIG_SECOND;
    rig->wall_s += (int64_t)seconds;
    wheel_run(rig->wheel, rig->now_ns);
}

static void query_done(struct resolve_query *query, struct destination *destination)
{
    struct rig_query *mine = (struct rig_query *)(void *)query;
    mine->destination = destination;
    mine->done_count++;
}

int rig_ask(struct resolve_rig *rig, const char *domain, const struct resolve_options *options,
            struct rig_query *query)
{
    *query = (struct rig_query){.query = {.done = query_done}};
    return resolve_destination(rig->resolve, slice_text(domain), options, &query->query,
                               &query->destination);
}

struct destination *rig_resolve(struct resolve_rig *rig, const char *domain,
                                const struct resolve_options *options)
{
    struct rig_query query;
    int status = rig_ask(rig, domain, options, &query);
    if (status == -EINPROGRESS) {
        fake_dns_answer_all(&rig->dns);
        check(query.done_count == 1);
    } else {
        check(status == 0 && query.done_count == 0);
    }
    check(query.destination != NULL);
    return query.destination;
}

const char *rig_hosts(const struct destination *destination)
{
    static char text[8192];
    size_t size = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < destination->host_count; i++) {
        const struct destination_host *host = &destination->hosts[i];
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%u %s%s", i > 0 ? "; " : "",
                                 host->preference, host->name, host->lookup_failed ? " !" : "");
        for (unsigned j = 0; j < host->address_count; j++) {
            char address[ENDPOINT_TEXT_MAX];
            endpoint_format_address(&host->addresses[j], address);
            size += (size_t)snprintf(text + size, sizeof(text) - size, " %s", address);
        }
    }
    return text;
}
