/*
 * tickets: how a server seals what a client brings back to resume its session (RFC 5077, RFC 8446 §4.6.1).
 *
 * The keys are drawn from one secret and the period that the wall clock is in, so servers that share both
 * open each other's tickets. Sealed with this period's keys; opened with the last one's too.
 *
 * Every handshake needs them, most of them twice: those of two periods are kept, and the cipher is found
 * once, as OpenSSL 3.0 takes longer to look it up by its name than to seal (with six HMACs to draw the
 * keys anew it was 10 µs of the 190 µs of processor that a resumed session took).
 *
 * One for each context; of its shard.
 */
#pragma once
#include "engine/tls/context.h"
#include <openssl/ssl.h>

struct tls_tickets;

/* 0 or -ENOMEM. settings->ticket_secret is not NULL; the clock is borrowed. */
int tls_tickets_open(struct tls_tickets **tickets, const struct tls_server_settings *settings);
void tls_tickets_close(struct tls_tickets *tickets);
/* Of a context whose app data is the struct tls_context that has the tickets. 0 or -ENOMEM. */
int tls_tickets_serve(SSL_CTX *identity);
