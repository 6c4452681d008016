/*
 * relay_maps: the maps that a configuration names, opened, and the rules of rewriting made of them. One a process.
 *
 * main opens them beside each configuration, on its own thread, since files and databases may be slow; the shards borrow
 * them as they borrow the configuration. A map that several keys name is opened once.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/relay/rewrite.h"

struct relay_maps {
    struct rewrite_rules rules;
    struct rewrite_maps
        *recipients; /* who exists, by the index in conf->routes; count 0: anybody */
    uint32_t recipients_count;
    struct rewrite_maps transports; /* that come before the routes */
    struct rewrite_maps logins;     /* whose a reverse-path is */
    struct map **all;               /* each once */
    uint32_t all_count;
    bool rewrites_recipients, rewrites_senders; /* is there anything to do? */
};

/* conf: borrowed until relay_maps_close. 0; -EINVAL and `problem`, which says which map; -ENOMEM; -errno. */
int relay_maps_open(struct relay_maps **maps, const struct relay_conf *conf,
                    char problem[MAP_PROBLEM_MAX]);
void relay_maps_close(struct relay_maps *maps); /* NULL is fine */
