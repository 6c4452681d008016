#include "engine/relay/relay_domain.h"
#include "engine/relay/relay_direct.h"
#include "engine/relay/relay_literal.h"
#include <stdlib.h>

#define DOMAIN_BUCKETS 1024u
#define DOMAIN_NAME_MAX 255u

struct relay_domain {
    struct resolve_query query;
    struct resolve_options options;
    struct relay *relay;
    struct relay_domain *next; /* in its bucket */
    struct sched_delivery **waiting;
    uint32_t waiting_count, waiting_room;
    uint8_t name_size;
    uint8_t name[DOMAIN_NAME_MAX]; /* small letters */
};

struct slice relay_domain_of(const struct relay *relay, struct slice mailbox)
{
    const uint8_t *at = mailbox.size > 0 ? memrchr(mailbox.bytes, '@', mailbox.size) : NULL;
    if (at == NULL) {
        return slice_text(relay->conf->hostname);
    }
    return slice_from(mailbox, (size_t)(at - mailbox.bytes) + 1);
}

struct slice relay_domain_for(const struct relay *relay, const struct conf_route *route,
                              struct slice mailbox)
{
    return route->next_hop != NULL ? slice_text(route->next_hop) : relay_domain_of(relay, mailbox);
}

/* ---- The table ---- */

static struct relay_domain **bucket_of(const struct relay_domains *domains,
                                       const struct relay_domain *domain)
{
    uint64_t words[DOMAIN_NAME_MAX / 8 + 2] = {domain->name_size |
                                               (uint64_t)domain->options.port << 16 |
                                               (uint64_t)domain->options.family << 32};
    memcpy(&words[1], domain->name, domain->name_size);
    uint64_t hash = siphash(&domains->secret, words, 1 + (domain->name_size + 7u) / 8);
    return &domains->buckets[hash & (domains->bucket_count - 1)];
}

static bool domain_same(const struct relay_domain *a, const struct relay_domain *b)
{
    return a->name_size == b->name_size && memcmp(a->name, b->name, a->name_size) == 0 &&
           a->options.port == b->options.port && a->options.family == b->options.family &&
           a->options.host_only == b->options.host_only &&
           a->options.tls_policy == b->options.tls_policy;
}

static struct relay_domain *domain_find(struct relay_domain **bucket,
                                        const struct relay_domain *like)
{
    struct relay_domain *domain = *bucket;
    while (domain != NULL && !domain_same(domain, like)) {
        domain = domain->next;
    }
    return domain;
}

static void domain_leave(struct relay_domain *domain)
{
    struct relay_domains *domains = &domain->relay->domains;
    struct relay_domain **at = bucket_of(domains, domain);
    while (*at != domain) {
        at = &(*at)->next;
    }
    *at = domain->next;
    domains->count--;
}

static void domain_free(struct relay_domain *domain)
{
    struct relay_domains *domains = &domain->relay->domains;
    free(domain->waiting);
    if (domains->spare != NULL) {
        free(domain);
        return;
    }
    domains->spare = domain;
}

/* ---- Questions ---- */

static void domain_answered(struct resolve_query *query, struct destination *destination)
{
    struct relay_domain *domain = list_entry(query, struct relay_domain, query);
    domain_leave(domain);
    for (uint32_t i = 0; i < domain->waiting_count; i++) {
        relay_direct(domain->relay, domain->waiting[i], destination);
    }
    destination_drop(destination);
    domain_free(domain);
}

static struct relay_domain *domain_make(struct relay *relay, const struct conf_route *route,
                                        struct slice name)
{
    struct relay_domains *domains = &relay->domains;
    struct relay_domain *domain = domains->spare != NULL ? domains->spare : malloc(sizeof(*domain));
    if (domain == NULL) {
        return NULL;
    }
    domains->spare = NULL;
    domain->query = (struct resolve_query){.done = domain_answered};
    domain->options = (struct resolve_options){.family = route->family,
                                               .port = (uint16_t)route->port,
                                               .host_only = route->host_only,
                                               .tls_policy = route->tls.level != CONF_LEVEL_NONE};
    domain->relay = relay;
    domain->waiting = NULL;
    domain->waiting_count = domain->waiting_room = 0;
    domain->name_size = (uint8_t)name.size;
    for (size_t i = 0; i < name.size; i++) {
        domain->name[i] = slice_lower(name.bytes[i]);
    }
    return domain;
}

int relay_domain_ask(struct relay *relay, const struct conf_route *route, struct slice name,
                     struct destination **destination, struct relay_domain **asked)
{
    struct relay_domains *domains = &relay->domains;
    if (name.size > 0 && name.bytes[0] == '[') {
        return relay_literal(relay, route, name, destination);
    }
    if (relay->resolve == NULL) {
        return -ENOTSUP;
    }
    struct relay_domain *domain = domain_make(relay, route, slice_first(name, DOMAIN_NAME_MAX));
    if (domain == NULL) {
        return -ENOMEM;
    }
    struct relay_domain **bucket = NULL;
    if (domains->count > 0) {
        bucket = bucket_of(domains, domain);
        *asked = domain_find(bucket, domain);
        if (*asked != NULL) {
            domain_free(domain);
            return -EINPROGRESS;
        }
    }
    int status = resolve_destination(relay->resolve, slice_of(domain->name, domain->name_size),
                                     &domain->options, &domain->query, destination);
    if (status != -EINPROGRESS) {
        domain_free(domain);
        return status;
    }
    bucket = bucket != NULL ? bucket : bucket_of(domains, domain);
    domain->next = *bucket;
    *bucket = domain;
    domains->count++;
    *asked = domain;
    return status;
}

int relay_domain_wait(struct relay_domain *domain, struct sched_delivery *delivery)
{
    if (domain->waiting_count == domain->waiting_room) {
        uint32_t room = domain->waiting_room == 0 ? 4 : domain->waiting_room * 2;
        struct sched_delivery **grown =
            realloc(domain->waiting, room * sizeof(struct sched_delivery *));
        if (grown == NULL) {
            return -ENOMEM;
        }
        domain->waiting = grown;
        domain->waiting_room = room;
    }
    sched_park(delivery);
    domain->waiting[domain->waiting_count++] = delivery;
    return 0;
}

/* ---- Life ---- */

int relay_domains_open(struct relay *relay)
{
    struct relay_domains *domains = &relay->domains;
    world_random(relay->shard->world, &domains->secret, sizeof(domains->secret));
    domains->bucket_count = DOMAIN_BUCKETS;
    domains->buckets = calloc(domains->bucket_count, sizeof(struct relay_domain *));
    return domains->buckets == NULL ? -ENOMEM : 0;
}

void relay_domains_close(struct relay *relay)
{
    struct relay_domains *domains = &relay->domains;
    for (uint32_t i = 0; domains->buckets != NULL && i < domains->bucket_count; i++) {
        for (struct relay_domain *domain = domains->buckets[i], *next; domain != NULL;
             domain = next) {
            next = domain->next;
            resolve_cancel(relay->resolve, &domain->query);
            free(domain->waiting);
            free(domain);
        }
    }
    free(domains->buckets);
    free(domains->spare);
}
