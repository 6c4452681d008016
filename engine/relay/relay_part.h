/*
 * relay_part: some recipients of a delivery go on at another site.
 *
 * What is known of them goes with them: attempts, age, whose they are, whether they are held. They are due there.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* These recipients of the delivery are, from now on, the site's: in deliveries of as many as its route lets go together.
 * They have left, or are about to leave, the delivery that they were in. 0 or -ENOMEM: those without memory wait
 * for a restart, which is noted in the log. */
int relay_part_add(struct relay_site *site, const struct sched_delivery *from,
                   const uint32_t *indexes, uint32_t count);

/* Of a delivery that is ACTIVE, those whose place in its list is marked go there, the others come back to their own
 * site. Not all may be marked. False: memory is short, nothing was changed. */
bool relay_part_active(struct relay_site *site, struct sched_delivery *delivery, const bool *marks);
