/*
 * token_key: keys that tokens are signed by, read from a file, and whether a signature is one's.
 *
 * For token.c, its only caller. Immutable once read; any thread.
 */
#pragma once
#include "engine/auth/backend.h"

enum token_algorithm { TOKEN_RS256, TOKEN_ES256, TOKEN_HS256, TOKEN_ALGORITHMS };

struct token_keys;

/* "RS256"; TOKEN_ALGORITHMS: none that we take. */
enum token_algorithm token_algorithm_find(const char *name);
/* text: the file's, borrowed. 0; -EINVAL and `problem`: nothing in it is a key, or one is too short; -ENOMEM. */
int token_keys_read(struct token_keys **keys, struct slice text, char problem[BACKEND_PROBLEM_MAX]);
void token_keys_free(struct token_keys *keys); /* NULL is fine */
/* By any key of the algorithm's kind and, where both have one, of this name. kid: NULL: the token names none. */
bool token_keys_verify(const struct token_keys *keys, enum token_algorithm algorithm,
                       const char *kid, struct slice text, struct slice signature);

/* Base64 with the alphabet of URLs, without padding (RFC 7515 §2). to: room for 3/4 of the text. -1: it is none. */
long token_base64_decode(struct slice text, uint8_t *to);
