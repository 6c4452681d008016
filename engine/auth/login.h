/*
 * login: how sessions of IMAP, POP3, ManageSieve and SMTP, and auth_socket.c for other programs, find out who their
 * client is: a SASL exchange or a plain name and password (proto/sasl), judged off the shard (auth.h).
 *
 * One desk a shard. A session keeps a struct login, begins at most one attempt at a time, and waits in a state of its own
 * for `told`. What an attempt needs of the heap is there while it lasts. What was secret is wiped.
 *
 * A wrong password, an unknown user and a failed proof are one answer, LOGIN_REFUSED, and take the same time
 * (directory.h); who keeps failing is told later and later. Once a stored secret has come into an exchange, whatever the
 * client does wrong is a failed proof: nothing tells one from the other.
 *
 * Clients of all of them take what a mechanism says last (SCRAM, DIGEST-MD5) as a challenge that they answer with
 * nothing (RFC 3501 §6.2.2, RFC 5034 §4, RFC 4954 §4): so it is told, as LOGIN_CHALLENGE, then LOGIN_IN without bytes.
 *
 * EXTERNAL is offered to a client whose certificate was verified, by its common name; -PLUS where the connection is one of
 * tls-exporter (RFC 9266); what carries a token (OAUTHBEARER, XOAUTH2) where the directory judges them.
 */
#pragma once
#include "engine/auth/auth.h"
#include "engine/stream.h"

struct login_desk;

struct login_desk_settings {
    struct shard *shard;
    struct helpers *helpers;     /* as of auth_settings */
    struct directory *directory; /* borrowed until login_desk_close */
    const char *realm;           /* of DIGEST-MD5: the hostname; borrowed until login_desk_close */
    uint8_t secret[32];          /* as sasl_settings, and the same as the directory's */
    bool clear_on_loopback;      /* passwords may travel in the clear there */
    /* SASL_BITs that the operator wants; 0: all. Where passwords are stored as hashes, only PLAIN, LOGIN and the SCRAM
     * of that hash can succeed, and clients take the strongest that is announced: say those only. */
    uint32_t mechanisms;
    /* May there be a user of this name, which the directory knows? NULL: any. */
    bool (*is_user)(const char *user);
    bool tokens;                                   /* the directory judges them */
    const char *token_scope, *token_configuration; /* as sasl_settings; borrowed */
    uint32_t scram_iterations;                     /* as directory_settings; 0: 4096 */
    uint32_t
        attempts_max; /* under way at once, some 16 KiB each, and failures that wait; 0: 4096 */
};

enum login_news {
    LOGIN_CHALLENGE,   /* `bytes` to the client; then login_answer or login_cancel */
    LOGIN_IN,          /* `user` is who it is; no bytes (see above) */
    LOGIN_REFUSED,     /* IMAP: [AUTHENTICATIONFAILED]; POP3: [AUTH] */
    LOGIN_MALFORMED,   /* the client broke the mechanism's rules, before any secret was looked up */
    LOGIN_UNAVAILABLE, /* cannot be known now: [UNAVAILABLE]; [SYS/TEMP] */
};

struct login_told { /* all borrowed until `told` returns */
    enum login_news news;
    bool has_bytes;
    struct slice bytes;
    const char *user;               /* small letters */
    const struct auth_user *fields; /* his, of LOGIN_IN */
};

struct login_attempt;
struct login {
    /* Once after each login_begin, login_answer and login_password that gave 0, from the shard's round: never from inside
     * of them, and never after login_cancel. Another attempt may begin from inside of it, unless it was a challenge. */
    void (*told)(struct login *login, const struct login_told *told);
    struct login_attempt *attempt; /* the desk's; NULL: none is under way */
};

/* What is known of the connection; borrowed for the call. */
struct login_facts {
    const struct stream_facts
        *stream; /* of the stream as it is now: with tls, once it is encrypted */
    const char
        *service; /* "imap", "pop3", "sieve", "smtp", "auth": static text, for log and realm */
};

/* 0, -ENOMEM, -ENOSYS (as sasl_library_open). */
int login_desk_open(struct login_desk **desk, const struct login_desk_settings *settings);
void login_desk_close(struct login_desk *desk); /* after every attempt has been told or cancelled */

/* May a password be sent on this connection as it is: encrypted, or on loopback and allowed there. */
bool login_in_clear(const struct login_desk *desk, const struct login_facts *facts);
/* Is the mechanism offered here to those who encrypt, and only to them? */
bool login_needs_tls(const struct login_desk *desk, struct slice mechanism);
/* "SCRAM-SHA-256 PLAIN ...", those that this connection may use, as they are announced. Returns its size, < room. */
size_t login_mechanisms(const struct login_desk *desk, const struct login_facts *facts, char *out,
                        size_t room);
#define LOGIN_MECHANISMS_BYTES_MAX 256u
/* The same as SASL_BITs. */
uint32_t login_mechanism_bits(const struct login_desk *desk, const struct login_facts *facts);

/* All three: 0; -EPERM: not offered here; -EINVAL: too long; -ENOBUFS, -ENOMEM: try again later. After an error there is
 * no attempt any more. Slices are borrowed for the call; those of login_begin and login_answer are octets, already out
 * of base64. */
/* initial: NULL: none came with the command, which is not the same as an empty one. */
int login_begin(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                struct slice mechanism, const struct slice *initial);
int login_answer(struct login *login, struct slice message);
int login_password(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                   struct slice user, struct slice password);
/* The client has gone or said "*". Harmless at any time, also from inside of `told`. What it did counts all the same. */
void login_cancel(struct login *login);
