/*
 * compression: what a session says and hears, deflated (RFC 4978, RFC 1951), between the session and its stream.
 *
 *   stream ──peek──► inflate ──► at most 4 KiB ──► session
 *   stream ◄─flush── outbox of its own ◄── deflate ◄── the session's outbox
 *
 * An IMAP session has one from COMPRESS on: imap_session.c and imap_input.c, nobody else. It does a bounded part of the
 * work in each turn, so that neither a large answer nor a few bytes that inflate to gigabytes keep the shard from others.
 *
 * MEMORY. At work: some 72 KiB to deflate, some 48 KiB to inflate, 32 KiB that the stream has not taken. When nothing
 * has come or gone for COMPRESSION_PARK_NS, compression_park gives all of it back but the last 32 KiB that the peer has
 * said, which later input may refer to; these are kept compressed.
 *
 * Time is the monotonic clock's, in nanoseconds.
 */
#pragma once
#include "engine/mailbox/outbox.h"

#define COMPRESSION_PARK_NS (10ull * 1000000000ull)

struct compression;

/* NULL: no memory. */
struct compression *compression_new(void);
/* From here on `said` is flushed by compression_flush; what is in it already is sent as it is. Once. */
void compression_begin(struct compression *compression, struct outbox *said, uint64_t now_ns);
void compression_free(struct compression *compression); /* NULL is none */

/* A turn begins. */
void compression_turn(struct compression *compression, uint64_t now_ns);
/* Its share of the turn was used up: another should follow soon. */
bool compression_is_spent(const struct compression *compression);

/* What the peer has said, inflated: empty when there is nothing now. Borrowed until it is consumed to its end. Takes from the
 * stream what it has inflated. 0; -EBADMSG: it cannot be inflated, or has an end; -ENOMEM. After these nothing more
 * comes. */
int compression_peek(struct compression *compression, struct stream *stream, struct slice *said);
void compression_consume(struct compression *compression, size_t bytes);

/* Deflates the outbox and hands over what the stream takes. 0: all of it, or the turn is spent; else as outbox_flush. */
int compression_flush(struct compression *compression, struct outbox *outbox,
                      struct stream *stream);
/* Bytes that the stream has not taken yet. */
size_t compression_unsent(const struct compression *compression);

/* When to call compression_park; 0: it is parked. */
uint64_t compression_park_due(const struct compression *compression);
/* Harmless while there is something to do: then it is due later. */
void compression_park(struct compression *compression, uint64_t now_ns);

/* What it holds of the heap. */
size_t compression_memory(const struct compression *compression);
