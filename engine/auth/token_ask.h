/*
 * token_ask: what does the issuer say of a token?
 *
 * For token.c, its only caller, on helper threads: it waits for the answer, TOKEN_ASK_S at most.
 *
 * Source: RFC 7662 §2.
 */
#pragma once
#include "engine/auth/backend.h"
#include <jansson.h>

#define TOKEN_ASK_S 10

/* url: of the endpoint; credentials: "CLIENT:SECRET" of ours, for HTTP's Basic; NULL: none. 0 and *claims, the caller's to
 * release, what the issuer has said, an object; -EIO: it cannot be asked now, `problem` says why; -ENOMEM. */
int token_ask(const char *url, const char *credentials, struct slice token, json_t **claims,
              char problem[BACKEND_PROBLEM_MAX]);
