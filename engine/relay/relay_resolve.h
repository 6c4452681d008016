/*
 * relay_resolve: the DNS of the relay as its configuration wants it: the resolver of the process, and each shard's
 * resolve over it, which knows who we are.
 *
 * Ourselves are the host name and every address that a listener takes mail on; a listener on all addresses is one on
 * each address of the machine, or of the ports that we drive ourselves.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/resolve/resolve.h"
#include "engine/resolve/resolver.h"

#define RELAY_RESOLVE_OWN_MAX 1024u

struct relay_resolve {
    struct resolve *resolve; /* NULL: not open */
    struct resolve_backend *backend;
    struct endpoint *own;
    uint32_t own_count;
    char hostname[256]; /* outlives the configuration */
    const char *own_names[1];
};

/* 0 or -errno. Owned by the caller; closed after every relay_resolve. */
int relay_resolver_open(struct resolver **resolver, const struct relay_conf *conf,
                        const struct world *world, struct logger *logger);

/* What another configuration says of it; then relay_resolve_reload on every shard, then resolver_reload_end. 0 or -errno,
 * which is noted in the log: all is as before. */
int relay_resolver_reload(struct resolver *resolver, const struct relay_conf *conf,
                          const struct world *world, struct logger *logger);

/* On the shard. 0 or -errno; closed in any case. */
int relay_resolve_open(struct relay_resolve *resolve, struct resolver *resolver,
                       const struct relay_conf *conf, struct shard *shard);
/* After relay_resolver_reload. Where we listen is as it was at start. */
void relay_resolve_reload(struct relay_resolve *resolve, const struct relay_conf *conf,
                          const struct shard *shard);
void relay_resolve_close(struct relay_resolve *resolve);
