/*
 * relay_parking: where mail waits that the operator has suspended by what it is, not by its next hop.
 *
 * Domains share sites. So what is suspended of one leaves its site when its turn comes, once, and waits aside in a
 * site of the suspension's own, which has no next hop: there it costs the others nothing and nobody looks at it again.
 * It counts no attempt, and expires as ever. When the suspension ends it is filed again, a part in each round.
 * What waits for its next attempt is left in its site until that is due: a suspension neither shortens a backoff
 * nor lengthens it.
 *
 * While nothing is suspended so, all of this costs a comparison.
 */
#pragma once
#include "engine/relay/relay_private.h"

struct relay_parking;

/* suspension->parking NULL: it is made; else it goes on with this time and reason. 0, -ENOMEM, or -EINVAL: the
 * pattern is none. */
int relay_parking_begin(struct relay *relay, struct relay_suspension *suspension);
/* What waits in it is filed again. Given. */
void relay_parking_end(struct relay_parking *parking);
/* When the relay is closed, after its sites. Given. */
void relay_parking_close(struct relay_parking *parking);
/* relay->conf is another one now. */
void relay_parkings_reload(struct relay *relay);

/* A delivery whose turn it is, ACTIVE, or some of its recipients, are suspended: they wait aside now, and the rest is
 * at its site again. False: it may be begun. */
bool relay_parking_takes(struct relay_site *site, struct sched_delivery *delivery);
/* Before a connection is opened: what stands first and is suspended leaves. False: nothing that may be begun was found
 * yet. */
bool relay_parking_sift(struct relay_site *site);
/* Until when this recipient is suspended; 0: it is not. */
uint64_t relay_parking_until(const struct relay *relay, const struct message *message,
                             uint32_t index);

/* The site's turn, if it is a parking's. */
void relay_parking_run(struct relay_site *site);
