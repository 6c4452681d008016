/*
 * inbound: one SMTP or LMTP session with a client: a stream on one side, a spool draft on the other.
 *
 *              peek                 event: sender, recipient        verdict
 *   stream ──────────► smtp_server ─────────────────────────► here ─────────► smtp_server
 *                                   event: body   spool_append (the one copy)
 *                                   commit        spool_commit ... durable ──► 250
 *
 * Made by relay_listen's accept; ends itself. A session that loses its client while its message is being
 * committed lives on until the disk has answered, so that the message is scheduled.
 */
#pragma once
#include "engine/relay/relay_private.h"

void inbound_accepted(void *owner, struct listener *listener, struct stream *stream);
/* Ends a session that is between transactions with 421; others go on. */
void inbound_drain(struct inbound *inbound);
/* The maps of before are of no use any more: whoever waits for them comes again. */
void inbound_reload(struct inbound *inbound);
/* What it is asking of the login desk is not of interest any more: that is about to close. */
void inbound_auth_cancel(struct inbound *inbound);
/* False: it waits for the disk alone, and ends when that has answered. */
bool inbound_abort(struct inbound *inbound);
struct inbound *inbound_of_node(struct list_node *node);
