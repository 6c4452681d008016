/*
 * relay_hops: which host and address the next connection of a site goes to.
 *
 * The hosts of a route are tried in turn: a connection goes where the last one went, until that fails.
 *
 * Of the hosts that DNS names, the best by preference that is not known to be bad, equals in turn, and of its
 * addresses the first that is not (RFC 5321 §5.1). One that could not be used is bad for a while, longer each
 * time, until a connection to it works; then the best is the best again. When all are bad, the one that has
 * been so longest is tried.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* Fills *hop for one connection; relay_hop_release when it is over. 0; -EHOSTUNREACH: what is known by now leaves
 * no address. */
int relay_hop_choose(struct relay_site *site, struct relay_hop *hop);
/* The connection there could not be used: the next one goes elsewhere. */
void relay_hop_failed(struct relay_site *site, const struct relay_hop *hop);
/* It greeted us. */
void relay_hop_worked(struct relay_site *site, const struct relay_hop *hop);
void relay_hop_release(struct relay_hop *hop);

/* May mail go there at all, by what is known of it now? *why, where the host's or the domain's policy on
 * TLS forbids it; NULL: it has no address now. */
bool relay_host_usable(const struct conf_route *route, const struct destination *destination,
                       uint32_t index, const char **why);
/* Addresses that can be tried, before the site is left alone for a while. */
uint32_t relay_hop_count(const struct conf_route *route, const struct destination *destination);
