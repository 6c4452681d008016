#include "engine/relay/relay_resolve.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>

struct file_name {
    char text[4096];
};

/* file: where the name of the policies' file is kept meanwhile. */
static struct resolver_settings resolver_settings_of(const struct relay_conf *conf,
                                                     const struct world *world,
                                                     struct logger *logger, struct file_name *file)
{
    snprintf(file->text, sizeof(file->text), "%s/mta-sts.cache", conf->spool.path);
    return (struct resolver_settings){
        .servers = conf->dns.servers,
        .server_count = conf->dns.servers_count,
        .resolv_conf = conf->dns.resolv_conf,
        .trust_anchor = conf->dns.trust_anchor,
        .dnssec = conf->dns.dnssec,
        .timeout_ns = conf->dns.timeout,
        .attempts = conf->dns.attempts,
        .threads = conf->dns.threads,
        .mta_sts_port = (uint16_t)conf->dns.mta_sts_port,
        .mta_sts_ca = conf->dns.mta_sts_authorities,
        .mta_sts_timeout_ns = conf->dns.mta_sts_timeout,
        .mta_sts_file = file->text, /* also without dns.mta_sts: a reload may turn it on */
        .world = world,
        .logger = logger,
    };
}

int relay_resolver_open(struct resolver **resolver, const struct relay_conf *conf,
                        const struct world *world, struct logger *logger)
{
    struct file_name file;
    const struct resolver_settings settings = resolver_settings_of(conf, world, logger, &file);
    return resolver_open(resolver, &settings);
}

int relay_resolver_reload(struct resolver *resolver, const struct relay_conf *conf,
                          const struct world *world, struct logger *logger)
{
    struct file_name file;
    const struct resolver_settings settings = resolver_settings_of(conf, world, logger, &file);
    return resolver_reload(resolver, &settings);
}

/* ---- Who we are ---- */

static bool is_any(const struct endpoint *endpoint)
{
    static const uint8_t any[16];
    return memcmp(endpoint->address, any, endpoint->family == ENDPOINT_IPV4 ? 4 : 16) == 0;
}

static void own_add(struct relay_resolve *resolve, const struct endpoint *address, uint16_t port)
{
    if (resolve->own_count < RELAY_RESOLVE_OWN_MAX) {
        struct endpoint *own = &resolve->own[resolve->own_count++];
        *own = *address;
        own->port = port;
    }
}

/* A listener on all IPv6 addresses takes IPv4 too on some systems; to count an address too many as ours does no harm:
 * nobody else can listen on this machine's addresses. */
static void own_add_machine(struct relay_resolve *resolve, uint16_t port)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0) {
        return;
    }
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        struct endpoint address;
        bool ipv4 = one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET;
        bool ipv6 = one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET6;
        socklen_t size = ipv4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if ((ipv4 || ipv6) && endpoint_from_sockaddr(&address, one->ifa_addr, size) == 0) {
            address.scope = 0;
            own_add(resolve, &address, port);
        }
    }
    freeifaddrs(all);
}

static void own_add_ports(struct relay_resolve *resolve, const struct relay_conf *conf,
                          uint16_t port)
{
    for (uint32_t i = 0; i < conf->dpdk.ports_count; i++) {
        for (uint32_t j = 0; j < conf->dpdk.ports[i].addresses_count; j++) {
            own_add(resolve, &conf->dpdk.ports[i].addresses[j].address, port);
        }
    }
}

static void own_add_listener(struct relay_resolve *resolve, const struct relay_conf *conf,
                             const struct conf_listener *listener)
{
    for (uint32_t i = 0; i < listener->addresses_count; i++) {
        const struct endpoint *address = &listener->addresses[i];
        if (address->family == ENDPOINT_UNIX) {
            continue;
        }
        if (!is_any(address)) {
            own_add(resolve, address, address->port);
            continue;
        }
        own_add_machine(resolve, address->port);
        if (conf->transport == CONF_TRANSPORT_DPDK) {
            own_add_ports(resolve, conf, address->port);
        }
    }
}

/* ---- Life ---- */

static void recalled(void *owner, const struct policy_record *record)
{
    struct relay_resolve *resolve = owner;
    resolve_remember_policy(resolve->resolve, record);
}

static struct resolve_settings settings_of(const struct relay_resolve *resolve,
                                           const struct relay_conf *conf, const struct shard *shard)
{
    return (struct resolve_settings){
        .backend = resolve->backend,
        .world = shard->world,
        .wheel = shard->wheel,
        .logger = shard->logger,
        .own_names = resolve->own_names,
        .own_name_count = 1,
        .own = resolve->own,
        .own_count = resolve->own_count,
        .cache_bytes = conf->dns.cache_bytes,
        .ttl_min_ns = conf->dns.ttl_min,
        .ttl_max_ns = conf->dns.ttl_max,
        .negative_ttl_max_ns = conf->dns.negative_ttl_max,
        .failure_ns = conf->dns.failure_ttl,
        .outstanding_max = conf->dns.outstanding,
        .waiting_max = conf->dns.waiting,
        .mta_sts = conf->dns.mta_sts,
    };
}

int relay_resolve_open(struct relay_resolve *resolve, struct resolver *resolver,
                       const struct relay_conf *conf, struct shard *shard)
{
    *resolve = (struct relay_resolve){.own_names = {resolve->hostname}};
    snprintf(resolve->hostname, sizeof(resolve->hostname), "%s", conf->hostname);
    resolve->own = calloc(RELAY_RESOLVE_OWN_MAX, sizeof(*resolve->own));
    resolve->backend = resolver_backend_open(resolver, shard);
    if (resolve->own == NULL || resolve->backend == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        own_add_listener(resolve, conf, &conf->listen[i]);
    }
    const struct resolve_settings settings = settings_of(resolve, conf, shard);
    int status = resolve_open(&resolve->resolve, &settings);
    if (status == 0) {
        resolver_recall(resolver, recalled, resolve);
    }
    return status;
}

void relay_resolve_reload(struct relay_resolve *resolve, const struct relay_conf *conf,
                          const struct shard *shard)
{
    if (resolve->resolve == NULL) {
        return;
    }
    snprintf(resolve->hostname, sizeof(resolve->hostname), "%s", conf->hostname);
    const struct resolve_settings settings = settings_of(resolve, conf, shard);
    resolve_reload(resolve->resolve, &settings);
    resolver_backend_renew(resolve->backend);
}

void relay_resolve_close(struct relay_resolve *resolve)
{
    if (resolve->resolve != NULL) {
        resolve_close(resolve->resolve);
    }
    if (resolve->backend != NULL) {
        resolver_backend_close(resolve->backend);
    }
    free(resolve->own);
    *resolve = (struct relay_resolve){.resolve = NULL};
}
