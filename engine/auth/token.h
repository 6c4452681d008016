/*
 * token: is this the token of somebody who was let in elsewhere? JSON Web Tokens, judged here by keys of a file, or any
 * tokens, by asking their issuer (token_ask.h).
 *
 * Called by directory.h only, on helper threads. The file is a JSON Web Key Set, or public keys in PEM one after the
 * other; it is looked at again when it has changed, and one that is gone or wrong leaves the old keys in force.
 *
 * What the issuer says is believed, and compared with what the operator says; exp need not be there.
 *
 * Otherwise a token is good when it is signed by one of the keys with RS256, ES256 or HS256, each by a key of its own kind only;
 * when its time has come (nbf) and is not over (exp, which must be there); and when issuer, audience, client and scope
 * are what the operator says. Its user is in the claim that he names, has no "+" and no quotes, which would make a part of
 * somebody's mailbox of it, and behind "@" only a domain that the operator names. Clocks may differ by TOKEN_LEEWAY_S.
 *
 * Source: RFC 7519 §4.1 and 7.2, RFC 7515 §5.2, RFC 7517, RFC 7518 §3; RFC 8725 (what breaks others: "none", keys of
 * another kind, audiences that are not looked at); RFC 9068 §4 (access tokens).
 */
#pragma once
#include "engine/auth/backend.h"
#include "engine/core/logger.h"

#define TOKEN_BYTES_MAX 9216u /* SASL_MESSAGE_BYTES_MAX: longer ones cannot be sent */
#define TOKEN_KEYS_MAX 64u
#define TOKEN_LEEWAY_S 30

struct token_settings {                            /* borrowed while it is open */
    const char *keys;                              /* file; NULL: the issuer is asked */
    const char *introspection;                     /* his URL; NULL: he is not */
    const char *credentials;                       /* file, "CLIENT:SECRET"; NULL: none */
    const char *issuer;                            /* NULL: any */
    const char *const *audiences, *const *clients; /* NULL at the end; none: any */
    const char *user_claim;                        /* "sub" */
    const char *const *domains;                    /* of users; NULL at the end; none: no domain */
    const char *scope;                             /* that it must have; NULL: any */
    struct logger *logger;
};

struct tokens;

/* 0; -EINVAL and `problem`; -ENOMEM; another errno: the file cannot be read. */
int tokens_open(struct tokens **tokens, const struct token_settings *settings,
                char problem[BACKEND_PROBLEM_MAX]);
void tokens_close(struct tokens *tokens);

enum token_answer { TOKEN_GOOD, TOKEN_BAD, TOKEN_UNKNOWN };

/* TOKEN_GOOD: `user` is whose it is; TOKEN_BAD: *reason, static text for the log; TOKEN_UNKNOWN: the issuer cannot be asked
 * now, which is logged. wall_s: seconds since 1970. Any thread. */
enum token_answer tokens_judge(struct tokens *tokens, struct slice token, int64_t wall_s,
                               char user[BACKEND_NAME_MAX + 1], const char **reason);
