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

/* Where a recipient goes on: another site, or NULL: where it is. */
struct relay_part_choice {
    struct relay_site *(*where)(void *owner, const struct message *message, uint32_t index);
    void *owner;
};
/* False: all recipients of the delivery, which is ACTIVE, stay. True: it is gone from its place; if some stay, their
 * turn comes again, for those too that go on at yet another site. */
bool relay_part_by(struct sched_delivery *delivery, const struct relay_part_choice *choice);
