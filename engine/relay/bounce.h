/*
 * bounce: tells the sender of a message what became of its recipients (RFC 3461 §6): that they have failed for good,
 * that they must wait, or, where he has asked for it, that they are served.
 *
 * Failed recipients stay in the spool until the report is durable, so that a crash in between repeats the report and
 * never forgets it; those that are served are RECIPIENT_TELL_*, so that it repeats the report and not the mail. What
 * the sender does not want to hear (NOTIFY) is finished without a word. When memory is short a failure is left to the
 * next attempt, and success is told later (relay_owed.h).
 *
 * Reports go through the operator's maps, as other mail for the address does: whoever has sent the message may be an
 * alias of ours.
 *
 * A report of ours with all of an original that holds 8-bit text needs 8BITMIME. Where a server on its way does not take
 * that, it goes again with the header alone.
 *
 * A message with the null reverse-path is never reported on to its sender (RFC 5321 §6.1): its failures are logged as a
 * double bounce and finished. Where the configuration wants it, the postmaster gets a report on one that this relay
 * made; on its failure, and on null reverse-paths of others, nobody does: two relays whose postmasters are beyond each
 * other would write to each other for ever.
 */
#pragma once
#include "engine/relay/relay_private.h"
#include "proto/dsn/dsn.h"

/* One report tells of so many recipients; of more there are several. */
#define BOUNCE_RECIPIENTS_MAX 500u
/* So large may one be, besides the message that comes back whole: what is said of a recipient takes less than 6 KiB,
 * and a header section in quoted-printable less than 200. */
#define BOUNCE_BYTES_MAX (4u * 1024 * 1024)

/* failures: copied; action DSN_FAILED. Whoever calls takes the recipients out of the scheduler, and holds the message
 * meanwhile. 0; -ENOMEM: nothing has changed. */
int bounce_send(struct relay *relay, struct message *message, const struct relay_outcome *failures,
                uint32_t count);
/* What is told of a recipient whose time is over. reason: why it waited at last; empty when nobody has said. */
void bounce_expired(struct relay_outcome *failure, uint32_t index, struct slice reason);

/* Does the sender want to hear that this recipient is served? */
bool bounce_success_wanted(const struct message *message, uint32_t index);
/* The recipients are finished, or told of and then finished: action DSN_DELIVERED, DSN_RELAYED. They must be out of the
 * scheduler. outcomes: copied. */
void bounce_served(struct relay *relay, struct message *message,
                   const struct relay_outcome *outcomes, uint32_t count);
/* The recipient is served, and there is no memory to say more of it now: its sender is told later. */
void bounce_owe(struct relay *relay, struct message *message, uint32_t index,
                enum dsn_action action);
/* Those that a start has found in RECIPIENT_TELL_*, or a new message brings (expanded). */
void bounce_resume(struct relay *relay, struct message *message);
/* Are there any, and nobody is at it? */
bool bounce_is_owed(const struct relay *relay, const struct message *message);

/* The delivery has waited for long; those of its senders that want to know are told, once. until_ns: it is tried. */
void bounce_delayed(struct relay *relay, struct message *message, const uint32_t *indexes,
                    uint32_t count, struct slice reason, uint64_t until_ns);

/* The maps are others from now on. */
void bounce_reload(struct relay *relay);
/* At the end of the relay: lets go of reports that are not durable yet; they are made again after a start. */
void bounce_abandon_all(struct relay *relay);
/* How many reports are being written. */
uint32_t bounce_count(const struct relay *relay);
