/*
 * key_schedule: how TLS 1.3 makes keys of secrets (RFC 8446 §7.1), for OpenSSL to use in the place of its own.
 *
 * A handshake derives some 27 keys and secrets. Each is four blocks of a hash (0.8 µs with SHA-384), of which
 * OpenSSL 3.0 makes 1.6 µs: it looks the hash and HMAC up by name, copies what it was given, makes and ends five
 * objects. That was a seventh of a resumed handshake. Here it is the hash and nothing else.
 *
 * It is a provider inside of this program, and does HKDF-Extract and HKDF-Expand-Label with SHA-256 and SHA-384; all
 * else stays OpenSSL's. Contexts (context.h) prefer it, and do without where it was not offered.
 */
#pragma once
#include <stdbool.h>

/* What contexts say of their algorithms: this provider's where it has one, else any. */
#define TLS_KEY_SCHEDULE_WISHED "?provider=tubepost"

/* For the whole process: once, before its threads. False: OpenSSL goes on with its own, as where its configuration
 * leaves the default provider out, for it is that one which this stands in for. */
bool tls_key_schedule_offer(void);
