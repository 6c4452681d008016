/*
 * relay_hops: which host and address the next connection of a site goes to.
 *
 * The hosts of a route are tried in turn: a connection goes where the last one went, until that
 * fails.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* Fills *hop for one connection; relay_hop_release when it is over. */
void relay_hop_choose(struct relay_site *site, struct relay_hop *hop);
/* The connection there could not be used: the next one goes elsewhere. */
void relay_hop_failed(struct relay_site *site, const struct relay_hop *hop);
void relay_hop_release(struct relay_hop *hop);
