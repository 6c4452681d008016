/*
 * delivery_sieve: what a recipient's Sieve script does with a message that comes in, as places in the store.
 *
 * Called by delivery_log.c: begin, take for each piece of plain text, judge for each recipient before the commit,
 * end. The script sees the header, or its first DELIVERY_SIEVE_HEADER_BYTES_MAX bytes, the size and the envelope. Nothing is
 * collected when nobody has a script.
 *
 * Whatever goes wrong (the script cannot be read or compiled, or fails while it runs; a mailbox cannot have such a name)
 * leaves the message where it goes without a script, with a line in the log. What is redirected is a letter in
 * outgoing.h before the commit; where there is no relay, or the message has come this way before, it is kept.
 *
 * Source: RFC 5228 §2.10.6 (errors), RFC 5429 §2.1 (ereject in LMTP), RFC 5490 §3.2 (:create).
 */
#pragma once
#include "engine/mailbox/delivery_store.h"
#include "engine/mailbox/sieve_scripts.h"

#define DELIVERY_SIEVE_HEADER_BYTES_MAX (256u * 1024)
/* Where the words of a script that refuses a message cannot be said. */
#define DELIVERY_SIEVE_REFUSAL "The recipient does not want this message"

/* Does anybody have a script, and what do they look at? enum sieve_scripts_want. The recipients are known. */
uint32_t delivery_sieve_wants(struct delivery_text *text);
/* The recipients are known. Forgets what the last message has left. */
void delivery_sieve_begin(struct delivery_text *text);
void delivery_sieve_take(struct delivery_text *text, const struct slice *parts, size_t count);
/* Appends to text->places what the recipient's script wants, or sets his refusal. False: he has none, or it could not be
 * done: `usual` it is. There is room for one place of each recipient who comes behind him, still. */
bool delivery_sieve_judge(struct delivery_text *text, uint32_t recipient,
                          const struct mailstore_place *usual);
/* Behind the last recipient: writes text->variants as far as there is room. 0; -EAGAIN: again when there is. One whose
 * draft is gone then has a status that says why. */
int delivery_edit_write(struct delivery_text *text);
/* All texts are committed, or are not, and each recipient has his status: what scripts send goes, or is forgotten. Whose
 * letter was lost after all has a status that says so. */
void delivery_sieve_settle(struct delivery_text *text);
/* Frees all. Harmless when nothing has begun. */
void delivery_sieve_end(struct delivery_text *text);
