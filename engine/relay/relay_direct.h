/*
 * relay_direct: which site a delivery goes on at, and what becomes of one that needs none.
 *
 * Deliveries of a route by MX wait in the route's lobby, a site without connections, until their domain's
 * destination is known, and after DNS had no answer until it is time to ask again. Then they go to the site of
 * that destination, where they stay as long as the domain leads there: before each attempt the destination is
 * asked for again (resolve remembers it for its TTL), and when it has changed the delivery follows.
 * Domains that do not exist, take no mail or lead back to us are reported to the sender here.
 *
 * What a route discards or refuses passes through its lobby too, and ends there.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* The lobby's turn: deliveries that are due find their way. Returns when it may be looked at again at the
 * earliest. */
uint64_t relay_lobby_run(struct relay_site *lobby);

/* The next delivery of a site that a connection can take now; NULL: none. Those that belong elsewhere by now
 * are on their way. */
struct sched_delivery *relay_site_next(struct relay_site *site);

/* May the site open connections? False while deliveries that wait for a site that nobody answers at are asked
 * where they lead by now: that comes before each round of attempts. */
bool relay_site_reviewed(struct relay_site *site);

/* The destination of an ACTIVE or parked delivery's domain is known. The destination is borrowed. */
void relay_direct(struct relay *relay, struct sched_delivery *delivery,
                  struct destination *destination);

/* These recipients of an ACTIVE delivery wait for their next attempt, the others are finished; the log says why. dsn:
 * "4.4.3". */
void relay_delivery_defer(struct relay *relay, struct sched_delivery *delivery,
                          const uint32_t *indexes, uint32_t count, const char *dsn,
                          const char *text);
