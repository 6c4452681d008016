/*
 * relay_owed: reports that cannot be made yet.
 *
 * What a start has found: recipients that have no route any more, and those that were served before. They wait until all
 * that it has found is filed (`starting`), a part in each round. Afterwards it is done a few in each tick, so that a backlog whose route was
 * taken away does not stop everything else.
 *
 * And reports of success for which there was no memory: the recipients say in the spool that their sender is still to
 * be told (RECIPIENT_TELL_*), so that remembering it takes no memory. After a minute all messages are looked at, a few
 * in each tick.
 */
#pragma once
#include "engine/relay/relay_private.h"

#define RELAY_OWED_TOLD UINT32_MAX /* in place of a recipient: those that are to be told of */

void relay_owed_init(struct relay *relay);
/* While it starts. When memory is short it waits for another start. */
void relay_owed_add(struct relay *relay, struct message *message, uint32_t index);
/* All that the start has found is filed. */
void relay_owed_begin(struct relay *relay);
/* There was no memory for a report on recipients in RECIPIENT_TELL_*. */
void relay_owed_later(struct relay *relay);
void relay_owed_close(struct relay *relay);
