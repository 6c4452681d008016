/*
 * bounce: tells the sender of a message that recipients have failed for good, then finishes them.
 *
 * The failed recipients stay in the spool until the report is durable, so that a crash in between repeats
 * the report and never forgets it. A message with the null reverse-path is never reported on to its sender
 * (RFC 5321 §6.1): its failures are logged as a double bounce and finished. Where the configuration wants it, the
 * postmaster gets a report on one that this relay made; on its failure, and on null reverse-paths of others, nobody
 * does: two relays whose postmasters are beyond each other would write to each other for ever.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* failures: copied. The recipients must be out of the scheduler. */
void bounce_send(struct relay *relay, struct message *message, const struct relay_failure *failures,
                 uint32_t count);
/* What is told of a recipient whose time is over. reason: why it waited at last; empty when nobody has said. */
void bounce_expired(struct relay_failure *failure, uint32_t index, struct slice reason);
/* At the end of the relay: lets go of reports that are not durable yet; they are made again after a start. */
void bounce_abandon_all(struct relay *relay);

/* How many reports are being written. */
uint32_t bounce_count(const struct relay *relay);
