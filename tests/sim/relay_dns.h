/*
 * relay_dns: the DNS as one relay sees it: where mail for some domains goes, made up from the seed.
 *
 * Answers come late and in any order, hold for seconds, and name other servers the next time; until all
 * is healed some questions have no answer. What is drawn here is drawn apart from all else of the seed.
 */
#pragma once
#include "engine/resolve/backend.h"
#include "engine/resolve/resolve.h"
#include "tests/sim/sim.h"

#define SIM_DNS_HOSTS 2u

struct sim_dns {
    struct sim *sim;
    struct resolve_backend backend;
    struct resolve *resolve; /* NULL: the relay does not run */
    struct list_node questions;
    uint64_t random;
    uint64_t due_ns; /* the first answer; UINT64_MAX: none */
    struct endpoint hosts[SIM_DNS_HOSTS];
    unsigned host_count;
    uint64_t answers;
};

void sim_dns_setup(struct sim_dns *dns, struct sim *sim, uint64_t salt);
/* A server that mail may go to. Its port is the route's. */
void sim_dns_add(struct sim_dns *dns, const struct endpoint *host);
/* The resolve of a relay that starts, and its end. 0 or -errno. */
int sim_dns_start(struct sim_dns *dns, struct shard *shard);
void sim_dns_stop(struct sim_dns *dns);
/* In a round of the host. Returns how many answers came. */
unsigned sim_dns_poll(struct sim_dns *dns, uint64_t now_ns);
bool sim_dns_chance(struct sim_dns *dns, uint32_t percent);
