/*
 * relay_owed: what a start has found and cannot do yet: reports on recipients that have no route any more, and on those
 * that were served before.
 *
 * While messages are found nothing may be written to the spool. Afterwards it is done a few in each tick, so that a
 * backlog whose route was taken away does not stop everything else.
 */
#pragma once
#include "engine/relay/relay_private.h"

#define RELAY_OWED_TOLD UINT32_MAX /* in place of a recipient: those that are to be told of */

void relay_owed_init(struct relay *relay);
/* While the relay starts. When memory is short it waits for another start. */
void relay_owed_add(struct relay *relay, struct message *message, uint32_t index);
/* The start is over. */
void relay_owed_begin(struct relay *relay);
void relay_owed_close(struct relay *relay);
