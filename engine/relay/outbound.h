/*
 * outbound: one SMTP or LMTP session with a next hop: the scheduler's deliveries on one side, a stream on the other.
 *
 *   sched_next ──► smtp_client ──► stream      bodies go from the log's memory to the stream by reference
 *   sched_done / sched_defer / bounce_send ◄── the fate of each recipient
 *
 * Made by its site when the scheduler wants a connection; takes one delivery after the other, waits idle for a
 * while when there is none, ends itself.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* Starts a connection to the site's next address. The scheduler was not told yet. */
void outbound_open(struct relay_site *site);
/* An idle session of the site takes this delivery. */
void outbound_take(struct outbound *outbound, struct sched_delivery *delivery);
struct outbound *outbound_of_idle(struct list_node *idle);
/* Says QUIT when idle; a session with a delivery ends after it. */
void outbound_drain(struct outbound *outbound);
void outbound_abort(struct outbound *outbound);
void outbound_abort_all(struct relay *relay);
void outbound_drain_all(struct relay *relay);
