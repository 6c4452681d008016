/*
 * relay_way: which way recipients go where transport maps have a say.
 *
 * Who files a recipient asks for his way. What is remembered of the maps is known at once; what is not is waited for in
 * a lobby, a site of the configuration's standard route, which has no connections. A map that does not answer, and a row
 * that says nothing we know, put the recipient off: he is never returned for it, and never takes another way.
 *
 * Mail that waits follows the maps: before each further attempt it is asked for again, before the first one when it has
 * waited for that, and so is, once a while, what waits for a site that nobody answers at. What the operator has rerouted
 * stays where he wants it.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* So long an answer of the maps holds for mail that waits; so often, at most, what waits for a site that cannot be reached
 * is asked for: before it is tried again. */
#define RELAY_WAYS_FRESH_NS (5ull * 1000000000ull)

/* Do maps have a say at all? */
bool relay_ways_used(const struct relay *relay);
/* When a site that was asked for now is asked for again: UINT64_MAX where maps have none. */
uint64_t relay_ways_fresh_until(const struct relay *relay);

/* The way of a recipient that is filed: by the maps where they have a say and are known, else to their lobby. The
 * caller's, for relay_way_drop; route NULL: there is none. */
void relay_way_now(struct relay *relay, struct slice mailbox, struct relay_way *way);
/* That lobby, for who is not due yet. */
void relay_way_later(struct relay *relay, struct relay_way *way);

/* Now that its turn has come: must it be asked for again? What was filed just now goes the way that the maps named. */
bool relay_way_due(const struct relay *relay, struct sched_delivery *delivery);

enum relay_way_answer {
    RELAY_WAY_STAYS,  /* the delivery is right where it is, and ACTIVE as before */
    RELAY_WAY_GONE,   /* on its way elsewhere, put off, or waiting for an answer */
    RELAY_WAY_NOT_NOW /* there is no room to ask; ACTIVE as before */
};
/* Where does an ACTIVE delivery go by now? */
enum relay_way_answer relay_way_ask(struct relay_site *site, struct sched_delivery *delivery);

/* The maps are about to go: whoever waits for an answer asks again. */
void relay_ways_reload(struct relay *relay);
/* Nobody is told any more; the deliveries stay where they are. */
void relay_ways_close(struct relay *relay);
