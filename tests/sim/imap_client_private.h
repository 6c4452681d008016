/*
 * imap_client_private: what the parts of a client share: what it asks (imap_client_ask.c), what it hears
 * (imap_client_hear.c), and its connections (imap_client.c). Nobody else includes it.
 */
#pragma once
#include "engine/stream.h"
#include "tests/sim/imap_client.h"

#define IMAP_SAYING_BYTES_MAX (BOOKS_LETTER_BYTES_MAX + 1024u)

enum { FLAG_SEEN = 1, FLAG_FLAGGED = 2, FLAG_DELETED = 4, FLAG_ANSWERED = 8, FLAG_KEYS = 8 };
extern const char *const imap_flag_names[4];

__attribute__((noreturn, format(printf, 2, 3))) void imap_client_fail(struct imap_client *client,
                                                                      const char *format, ...);
bool imap_begins(struct slice text, const char *with);

/* ---- imap_client.c ---- */

void imap_client_say(struct imap_client *client, struct slice bytes);
__attribute__((format(printf, 2, 3))) void imap_client_say_line(struct imap_client *client,
                                                                const char *format, ...);
/* In pieces of any size; a literal waits for its "+". */
void imap_client_write(struct imap_client *client);
/* A command is under way. */
void imap_client_begin(struct imap_client *client, enum imap_ask ask);
/* The connection has ended: what was asked is in doubt. */
void imap_client_over(struct imap_client *client);

/* ---- imap_client_ask.c ---- */

void imap_client_ask_next(struct imap_client *client);
void imap_client_ask_deliver(struct imap_client *client);
/* Messages have come whose uids it was not told. */
bool imap_client_has_new(const struct imap_client *client);
struct book_letter *imap_client_letter(struct imap_client *client);

/* ---- imap_client_hear.c ---- */

/* A response with its literals: its size; 0: it is not all here. */
size_t imap_client_response_size(struct slice heard);
void imap_client_hear(struct imap_client *client, struct slice line);
/* The answer to a step of LMTP: the next one. */
void imap_client_hear_delivery(struct imap_client *client, struct slice line);
