/* SASL: what is offered, exchanges with GNU SASL's own client, and what must not come in. */
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include "proto/sasl/made_up.h"
#include "proto/sasl/server.h"
#include <gsasl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#define ITERATIONS 4096u

static struct sasl_settings settings = {
    .offer = {.mechanisms = SASL_BIT(SASL_MECHANISMS) - 1},
    .secret = "0123456789abcdef0123456789abcde",
    .iterations = ITERATIONS,
    .realm = "example.org",
    .oauth_openid_configuration = "https://example.org/.well-known/openid-configuration",
    .oauth_scope = "mail",
};
static struct sasl_facts secure;

/* The linker puts this in place of what makes up (Makefile). */
void __real_sasl_make_up(EVP_MAC_CTX *hash, const char *purpose, size_t key_bytes,
                         struct slice name, uint8_t made[SASL_MADE_UP_BYTES]);
void __wrap_sasl_make_up(EVP_MAC_CTX *hash, const char *purpose, size_t key_bytes,
                         struct slice name, uint8_t made[SASL_MADE_UP_BYTES]);

static unsigned made_up;

void __wrap_sasl_make_up(EVP_MAC_CTX *hash, const char *purpose, size_t key_bytes,
                         struct slice name, uint8_t made[SASL_MADE_UP_BYTES])
{
    made_up++;
    __real_sasl_make_up(hash, purpose, key_bytes, name, made);
}

static struct sasl_library *library;

static int set_up(void **state)
{
    (void)state;
    secure = (struct sasl_facts){
        .encrypted = true,
        .tls_unique = slice_text("unique-12345"),
        .tls_exporter = slice_text("exporter-octets-0123456789abcdef"),
        .certificate_name = slice_text("card@example.org"),
    };
    return sasl_library_open(&library, &settings);
}

static int tear_down(void **state)
{
    (void)state;
    sasl_library_close(library);
    return 0;
}

/* ---- The owner: one user, tim, with the password tanstaaftanstaaf ---- */

#define USER "tim"
#define PASSWORD "tanstaaftanstaaf"

struct keys {
    uint8_t salt[16], stored[32], server[32];
    struct sasl_secret secret;
};

static void keys_make(struct keys *keys, const char *password, bool sha1)
{
    const EVP_MD *hash = sha1 ? EVP_sha1() : EVP_sha256();
    int size = sha1 ? 20 : 32;
    uint8_t salted[32], client[32];
    unsigned made = 32;
    memset(keys->salt, 0x5a, sizeof(keys->salt));
    PKCS5_PBKDF2_HMAC(password, -1, keys->salt, 16, ITERATIONS, hash, size, salted);
    HMAC(hash, salted, size, (const uint8_t *)"Client Key", 10, client, &made);
    EVP_Digest(client, (size_t)size, keys->stored, &made, hash, NULL);
    HMAC(hash, salted, size, (const uint8_t *)"Server Key", 10, keys->server, &made);
    keys->secret = (struct sasl_secret){
        .password = slice_text(password),
        .iterations = ITERATIONS,
        .salt = slice_of(keys->salt, 16),
        .stored_key = slice_of(keys->stored, (size_t)size),
        .server_key = slice_of(keys->server, (size_t)size),
    };
}

static enum sasl_want owner_answers(struct sasl_server *server, enum sasl_want want)
{
    const struct sasl_question *question = sasl_server_question(server);
    struct keys keys;
    if (want == SASL_WANT_SECRET) {
        bool sha1 =
            question->mechanism == SASL_SCRAM_SHA_1 || question->mechanism == SASL_SCRAM_SHA_1_PLUS;
        keys_make(&keys, PASSWORD, sha1);
        bool known = slice_equal(question->authid, slice_text(USER));
        return sasl_server_secret(server, known ? &keys.secret : NULL);
    }
    if (want == SASL_WANT_VERIFY && question->mechanism == SASL_EXTERNAL) {
        bool known = slice_equal(question->authid, slice_text("card@example.org"));
        return sasl_server_verdict(server, known ? SASL_RIGHT : SASL_NOT_RIGHT);
    }
    if (want == SASL_WANT_VERIFY) {
        bool right = slice_equal(question->authid, slice_text(USER)) &&
                     slice_equal(question->password, slice_text(PASSWORD));
        return sasl_server_verdict(server, right ? SASL_RIGHT : SASL_NOT_RIGHT);
    }
    if (want == SASL_WANT_TOKEN) {
        bool right = slice_equal(question->token, slice_text("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGE="));
        return sasl_server_verdict(server, right ? SASL_RIGHT : SASL_NOT_RIGHT);
    }
    return want;
}

/* ---- GNU SASL's client ---- */

struct login {
    enum sasl_mechanism mechanism;
    const char *user, *password, *authzid, *binding; /* binding: "tls-unique", "tls-exporter" */
    bool wrong_binding;
};

static int no_answer(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    (void)gsasl;
    (void)session;
    (void)property;
    return GSASL_NO_CALLBACK;
}

static void client_properties(Gsasl_session *client, const struct login *login)
{
    char text[100];
    gsasl_property_set(client, GSASL_AUTHID, login->user);
    gsasl_property_set(client, GSASL_PASSWORD, login->password);
    if (login->authzid != NULL) {
        gsasl_property_set(client, GSASL_AUTHZID, login->authzid);
    }
    gsasl_property_set(client, GSASL_SERVICE, "imap");
    gsasl_property_set(client, GSASL_HOSTNAME, "mail.example.org");
    if (login->binding != NULL) {
        bool unique = strcmp(login->binding, "tls-unique") == 0;
        struct slice octets = unique ? secure.tls_unique : secure.tls_exporter;
        octets = login->wrong_binding ? slice_text("another connection") : octets;
        text[base64_encode(octets, text)] = '\0';
        gsasl_property_set(client, unique ? GSASL_CB_TLS_UNIQUE : GSASL_CB_TLS_EXPORTER, text);
    }
}

struct end {
    enum sasl_want want;
    enum sasl_failure failure;
    char user[64], authzid[64];
    bool
        client_content; /* the server has proved that it knows the user, where the mechanism does so */
};

/* Octets of exactly the size that is said, so that reading behind them is found. */
static enum sasl_want feed(struct sasl_server *server, struct slice message)
{
    uint8_t *copy = malloc(message.size + (message.size == 0));
    check(copy != NULL);
    if (message.size > 0) {
        memcpy(copy, message.bytes, message.size);
    }
    const struct slice moved = slice_of(copy, message.size);
    enum sasl_want want = sasl_server_step(server, &moved);
    free(copy);
    return want;
}

static struct end end_of(struct sasl_server *server, enum sasl_want want)
{
    struct end end = {.want = want};
    if (want == SASL_FAILED) {
        end.failure = sasl_server_failure(server);
    } else {
        const struct sasl_question *question = sasl_server_question(server);
        snprintf(end.user, sizeof(end.user), "%.*s", (int)question->authid.size,
                 (const char *)question->authid.bytes);
        snprintf(end.authzid, sizeof(end.authzid), "%.*s", (int)question->authzid.size,
                 (const char *)question->authzid.bytes);
    }
    return end;
}

static struct end log_in(const struct login *login)
{
    Gsasl *gsasl;
    Gsasl_session *client;
    struct sasl_server *server;
    assert_int_equal(gsasl_init(&gsasl), GSASL_OK);
    gsasl_callback_set(gsasl, no_answer);
    assert_int_equal(gsasl_client_start(gsasl, sasl_mechanism_name(login->mechanism), &client), 0);
    client_properties(client, login);
    assert_int_equal(sasl_server_open(&server, library, login->mechanism, &secure), 0);
    enum sasl_want want = sasl_server_step(server, NULL);
    int status = GSASL_NEEDS_MORE;
    while (want == SASL_WANT_INPUT) {
        char *said = NULL;
        size_t bytes = 0;
        struct slice challenge = sasl_server_challenge(server);
        if (status == GSASL_NEEDS_MORE) {
            status =
                gsasl_step(client, (const char *)challenge.bytes, challenge.size, &said, &bytes);
        }
        if (status != GSASL_OK && status != GSASL_NEEDS_MORE) {
            break;
        }
        want = feed(server, slice_of(said, bytes));
        gsasl_free(said);
        while (want == SASL_WANT_SECRET || want == SASL_WANT_VERIFY || want == SASL_WANT_TOKEN) {
            want = owner_answers(server, want);
        }
    }
    struct end end = {.want = want};
    if (want != SASL_WANT_INPUT) {
        end = end_of(server, want);
    }
    end.client_content = status == GSASL_OK;
    sasl_server_close(server);
    gsasl_finish(client);
    gsasl_done(gsasl);
    return end;
}

static const enum sasl_mechanism with_password[] = {
    SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_1_PLUS, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_1,
    SASL_DIGEST_MD5,         SASL_CRAM_MD5,         SASL_PLAIN,         SASL_LOGIN};
#define WITH_PASSWORD (sizeof(with_password) / sizeof(with_password[0]))

static const char *binding_of(enum sasl_mechanism mechanism)
{
    return mechanism <= SASL_SCRAM_SHA_1_PLUS ? "tls-exporter" : NULL;
}

static void the_right_password_comes_in_by_every_mechanism(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        struct login login = {.mechanism = with_password[i],
                              .user = USER,
                              .password = PASSWORD,
                              .binding = binding_of(with_password[i])};
        struct end end = log_in(&login);
        assert_int_equal(end.want, SASL_DONE);
        assert_string_equal(end.user, USER);
        assert_string_equal(end.authzid, "");
        assert_true(end.client_content);
    }
}

static void a_wrong_password_and_an_unknown_user_fail_alike_by_every_mechanism(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        struct login login = {.mechanism = with_password[i],
                              .user = USER,
                              .password = "tanstaaftanstaaF",
                              .binding = binding_of(with_password[i])};
        made_up = 0;
        struct end wrong = log_in(&login);
        unsigned for_tim = made_up;
        login.user = "tom";
        struct end unknown = log_in(&login);
        assert_int_equal(made_up, 2 * for_tim); /* it takes as long */
        assert_int_equal(wrong.want, SASL_FAILED);
        assert_int_equal(wrong.failure, SASL_WRONG);
        assert_int_equal(unknown.want, SASL_FAILED);
        assert_int_equal(unknown.failure, SASL_WRONG);
    }
}

static void whom_to_act_as_is_told_by_every_mechanism_that_can_say_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        struct login login = {.mechanism = with_password[i],
                              .user = USER,
                              .password = PASSWORD,
                              .authzid = "a,b=c",
                              .binding = binding_of(with_password[i])};
        bool can = login.mechanism != SASL_CRAM_MD5 && login.mechanism != SASL_LOGIN;
        struct end end = log_in(&login);
        assert_int_equal(end.want, SASL_DONE);
        assert_string_equal(end.authzid, can ? "a,b=c" : "");
    }
}

static void a_binding_to_another_connection_does_not_come_in(void **state)
{
    static const char *const names[] = {"tls-unique", "tls-exporter"};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct login login = {.mechanism = i < 2 ? SASL_SCRAM_SHA_1_PLUS : SASL_SCRAM_SHA_256_PLUS,
                              .user = USER,
                              .password = PASSWORD,
                              .binding = names[i % 2]};
        assert_int_equal(log_in(&login).want, SASL_DONE);
        login.wrong_binding = true;
        struct end end = log_in(&login);
        assert_int_equal(end.want, SASL_FAILED);
        assert_int_equal(end.failure, SASL_WRONG);
    }
}

/* ---- Single messages ---- */

static struct sasl_server *open_one(enum sasl_mechanism mechanism)
{
    struct sasl_server *server;
    assert_int_equal(sasl_server_open(&server, library, mechanism, &secure), 0);
    return server;
}

/* The same octets, up to the nonce that differs each time. */
static void scram_first(const char *user, enum sasl_mechanism mechanism, char text[200])
{
    char message[100];
    struct sasl_server *server = open_one(mechanism);
    snprintf(message, sizeof(message), "n,,n=%s,r=fyko", user);
    enum sasl_want want = feed(server, slice_text(message));
    assert_int_equal(want, SASL_WANT_SECRET);
    assert_int_equal(owner_answers(server, want), SASL_WANT_INPUT);
    struct slice challenge = sasl_server_challenge(server);
    const char *salt = memmem(challenge.bytes, challenge.size, ",s=", 3);
    assert_non_null(salt);
    snprintf(text, 200, "%.*s", (int)((const char *)challenge.bytes + challenge.size - salt), salt);
    sasl_server_close(server);
}

static void an_unknown_user_has_a_salt_that_stays_and_looks_like_others(void **state)
{
    char known[200], first[200], second[200], capital[200], other[200], sha1[200];
    (void)state;
    scram_first(USER, SASL_SCRAM_SHA_256, known);
    scram_first("nobody", SASL_SCRAM_SHA_256, first);
    scram_first("nobody", SASL_SCRAM_SHA_256, second);
    scram_first("NoBody", SASL_SCRAM_SHA_256, capital);
    scram_first("somebody", SASL_SCRAM_SHA_256, other);
    scram_first("nobody", SASL_SCRAM_SHA_1, sha1);
    assert_string_equal(first, second);
    assert_string_equal(first, capital); /* as of those who exist, whose names are folded */
    assert_string_not_equal(first, other);
    assert_string_not_equal(first, sha1);
    assert_int_equal(strlen(first), strlen(known));
    assert_string_equal(strstr(first, ",i="), strstr(known, ",i="));
}

static void malformed_messages_fail_and_are_asked_of_nobody(void **state)
{
    static const struct {
        enum sasl_mechanism mechanism;
        struct slice message;
    } rows[] = {
#define ROW(mechanism, text)                                                                       \
    {                                                                                              \
        mechanism,                                                                                 \
        {                                                                                          \
            (const uint8_t *)(text), sizeof(text) - 1                                              \
        }                                                                                          \
    }
        ROW(SASL_PLAIN, ""),                  /* nothing */
        ROW(SASL_PLAIN, "tim"),               /* no NUL */
        ROW(SASL_PLAIN, "\0tim"),             /* one */
        ROW(SASL_PLAIN, "\0tim\0"),           /* no password */
        ROW(SASL_PLAIN, "\0\0secret"),        /* no user */
        ROW(SASL_PLAIN, "\0tim\0pass\0word"), /* three */
        ROW(SASL_PLAIN, "\0t\xff\0secret"),   /* no UTF-8 */
        ROW(SASL_PLAIN, "\0t\1m\0secret"),    /* RFC 4013 §2.3 prohibits control characters */
        ROW(SASL_SCRAM_SHA_1, ""),
        ROW(SASL_SCRAM_SHA_1, "n,,n=,r=abc"),
        ROW(SASL_SCRAM_SHA_1, "n,,n=tim"),
        ROW(SASL_SCRAM_SHA_1, "n,tom,n=tim,r=abc"),         /* no "a=" */
        ROW(SASL_SCRAM_SHA_1, "n,,n=t=im,r=abc"),           /* "=" is =3D */
        ROW(SASL_SCRAM_SHA_1, "n,,n=t\0m,r=abc"),           /* NUL */
        ROW(SASL_SCRAM_SHA_1, "p=tls-unique,,n=tim,r=abc"), /* needs -PLUS */
        ROW(SASL_SCRAM_SHA_1_PLUS, "n,,n=tim,r=abc"),       /* -PLUS needs it */
        ROW(SASL_SCRAM_SHA_1_PLUS, "p=tls-other,,n=tim,r=abc"),
        ROW(SASL_OAUTHBEARER, ""),
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Bearer \1\1"),     /* no token */
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Bearer abc\1"),    /* not ended */
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Bearer abc\1\1x"), /* something behind the end */
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Basic abc\1\1"),   /* another scheme */
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Bearer a\"c\1\1"), /* no token's octet */
        ROW(SASL_OAUTHBEARER, "n,a=tim,\1auth=Bearer a\1auth=Bearer b\1\1"),
        ROW(SASL_OAUTHBEARER, "n,a=tim,auth=Bearer abc\1\1"),
        ROW(SASL_OAUTHBEARER, "p=tls-unique,a=tim,\1auth=Bearer abc\1\1"),
        ROW(SASL_XOAUTH2, "user=\1auth=Bearer abc\1\1"),
        ROW(SASL_XOAUTH2, "auth=Bearer abc\1user=tim\1\1"),
        ROW(SASL_CRAM_MD5, "tim b913a602c7eda7a495b4e6e7334d3890"), /* before the challenge */
        ROW(SASL_DIGEST_MD5, "username=\"tim\""),                   /* the same */
#undef ROW
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sasl_server *server = open_one(rows[i].mechanism);
        enum sasl_want want = feed(server, rows[i].message);
        if (want != SASL_FAILED) {
            fail_msg("row %u was taken: %d", i, (int)want);
        }
        assert_int_equal(sasl_server_failure(server), SASL_MALFORMED);
        sasl_server_close(server);
    }
}

static void names_are_read_as_the_library_reads_them(void **state)
{
    static const struct {
        enum sasl_mechanism mechanism;
        const char *message, *authid, *authzid, *realm;
    } rows[] = {
        {SASL_SCRAM_SHA_1, "n,,n=user,r=fyko+d2l", "user", "", ""},
        {SASL_SCRAM_SHA_1, "y,a=b=2Cc,n=x=3Dy,r=f", "x=y", "b,c", ""},
        {SASL_CRAM_MD5, "tim b913a602c7eda7a495b4e6e7334d3890", "tim", "", ""},
        {SASL_CRAM_MD5, "t i m b913a602c7eda7a495b4e6e7334d3890", "t i m", "", ""},
        {SASL_DIGEST_MD5,
         "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\"",
         "chris", "", "elwood.innosoft.com"},
        {SASL_DIGEST_MD5, " username = \"c\\\"h,r\" , authzid=\"x\"", "c\"h,r", "x", ""},
        {SASL_DIGEST_MD5, "nonce=\"username=\\\"eve\\\"\",USERNAME=tim", "tim", "", ""},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sasl_names names;
        assert_true(
            sasl_client_message_read(rows[i].mechanism, slice_text(rows[i].message), &names));
        assert_true(slice_equal(names.authid, slice_text(rows[i].authid)));
        assert_true(slice_equal(names.authzid, slice_text(rows[i].authzid)));
        assert_true(slice_equal(names.realm, slice_text(rows[i].realm)));
    }
}

static void a_user_named_twice_in_digest_md5_is_nobody(void **state)
{
    struct sasl_names names;
    (void)state;
    assert_false(sasl_client_message_read(SASL_DIGEST_MD5,
                                          slice_text("username=\"tim\",username=\"tom\""), &names));
    assert_false(sasl_client_message_read(SASL_DIGEST_MD5, slice_text("realm=\"x\""), &names));
    assert_false(sasl_client_message_read(SASL_DIGEST_MD5, slice_text("username=\"tim"), &names));
}

static void a_message_or_a_name_that_is_too_long_fails(void **state)
{
    static char text[SASL_MESSAGE_BYTES_MAX + 1];
    (void)state;
    memset(text, 'a', sizeof(text));
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        struct sasl_server *server = open_one(with_password[i]);
        assert_int_equal(feed(server, slice_of(text, sizeof(text))), SASL_FAILED);
        sasl_server_close(server);
    }
    text[0] = text[SASL_NAME_BYTES_MAX + 2] = '\0';
    struct sasl_server *server = open_one(SASL_PLAIN);
    assert_int_equal(feed(server, slice_of(text, SASL_NAME_BYTES_MAX + 10)), SASL_FAILED);
    sasl_server_close(server);
    text[SASL_NAME_BYTES_MAX + 2] = 'a';
    text[5] = '\0';
    server = open_one(SASL_PLAIN);
    assert_int_equal(feed(server, slice_of(text, SASL_PASSWORD_BYTES_MAX + 10)), SASL_FAILED);
    sasl_server_close(server);
}

/* RFC 5802 §6: "y" says that we did not offer -PLUS, but we did. Somebody in between has taken it out. */
static void who_was_kept_from_seeing_plus_does_not_come_in(void **state)
{
    (void)state;
    struct sasl_server *server = open_one(SASL_SCRAM_SHA_256);
    assert_int_equal(feed(server, slice_text("y,,n=tim,r=abcdef")), SASL_WANT_SECRET);
    assert_int_equal(owner_answers(server, SASL_WANT_SECRET), SASL_FAILED);
    assert_int_equal(sasl_server_failure(server), SASL_WRONG);
    sasl_server_close(server);
    secure.tls_unique = secure.tls_exporter = slice_of(NULL, 0);
    server = open_one(SASL_SCRAM_SHA_256);
    assert_int_equal(feed(server, slice_text("y,,n=tim,r=abcdef")), SASL_WANT_SECRET);
    assert_int_equal(owner_answers(server, SASL_WANT_SECRET), SASL_WANT_INPUT);
    sasl_server_close(server);
}

/* RFC 4013 §2.1, 2.2: a no-break space is a space, a soft hyphen nothing. */
static void names_and_passwords_are_prepared(void **state)
{
    (void)state;
    struct sasl_server *server = open_one(SASL_PLAIN);
    assert_int_equal(feed(server, slice_of("\0t\xc2\xadim\0a\xc2\xa0"
                                           "b",
                                           11)),
                     SASL_WANT_VERIFY);
    assert_true(slice_equal(sasl_server_question(server)->authid, slice_text("tim")));
    assert_true(slice_equal(sasl_server_question(server)->password, slice_text("a b")));
    sasl_server_close(server);
}

static void login_takes_the_name_with_the_command_or_after_it(void **state)
{
    (void)state;
    for (unsigned early = 0; early < 2; early++) {
        struct sasl_server *server = open_one(SASL_LOGIN);
        enum sasl_want want =
            early ? feed(server, slice_text(USER)) : sasl_server_step(server, NULL);
        assert_int_equal(want, SASL_WANT_INPUT);
        if (!early) {
            assert_int_equal(feed(server, slice_text(USER)), SASL_WANT_INPUT);
        }
        assert_true(slice_equal(sasl_server_challenge(server), slice_text("Password")));
        assert_int_equal(feed(server, slice_text(PASSWORD)), SASL_WANT_VERIFY);
        assert_int_equal(owner_answers(server, SASL_WANT_VERIFY), SASL_DONE);
        sasl_server_close(server);
    }
}

static void a_certificate_says_who_it_is_and_an_empty_response_is_whole(void **state)
{
    (void)state;
    struct sasl_server *server = open_one(SASL_EXTERNAL);
    assert_int_equal(feed(server, slice_text("")), SASL_WANT_VERIFY);
    assert_int_equal(sasl_server_question(server)->password.size, 0);
    assert_int_equal(owner_answers(server, SASL_WANT_VERIFY), SASL_DONE);
    assert_string_equal(end_of(server, SASL_DONE).user, "card@example.org");
    sasl_server_close(server);
    server = open_one(SASL_EXTERNAL);
    assert_int_equal(sasl_server_step(server, NULL), SASL_WANT_INPUT);
    assert_int_equal(feed(server, slice_text("tom@example.org")), SASL_WANT_VERIFY);
    assert_string_equal(end_of(server, SASL_DONE).authzid, "tom@example.org");
    sasl_server_close(server);
}

/* RFC 7628 §4.1, 4.3. */
static void a_good_token_comes_in_and_a_bad_one_is_told_why_first(void **state)
{
    static const char good[] = "n,a=user@example.com,\1host=server.example.com\1port=143\1"
                               "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGE=\1\1";
    (void)state;
    struct sasl_server *server = open_one(SASL_OAUTHBEARER);
    assert_int_equal(feed(server, slice_text(good)), SASL_WANT_TOKEN);
    assert_string_equal(end_of(server, SASL_DONE).user, "user@example.com");
    assert_int_equal(owner_answers(server, SASL_WANT_TOKEN), SASL_DONE);
    sasl_server_close(server);
    server = open_one(SASL_OAUTHBEARER);
    assert_int_equal(feed(server, slice_text("n,,\1auth=bearer nope\1\1")), SASL_WANT_TOKEN);
    assert_int_equal(owner_answers(server, SASL_WANT_TOKEN), SASL_WANT_INPUT);
    assert_true(slice_equal(
        sasl_server_challenge(server),
        slice_text("{\"status\":\"invalid_token\",\"scope\":\"mail\",\"openid-configuration\":"
                   "\"https://example.org/.well-known/openid-configuration\"}")));
    assert_int_equal(feed(server, slice_text("\1")), SASL_FAILED);
    assert_int_equal(sasl_server_failure(server), SASL_WRONG);
    sasl_server_close(server);
    server = open_one(SASL_XOAUTH2);
    assert_int_equal(feed(server, slice_text("user=tim\1auth=Bearer nope\1\1")), SASL_WANT_TOKEN);
    assert_int_equal(owner_answers(server, SASL_WANT_TOKEN), SASL_WANT_INPUT);
    assert_true(
        slice_equal(sasl_server_challenge(server),
                    slice_text("{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"mail\"}")));
    assert_int_equal(feed(server, slice_text("")), SASL_FAILED);
    sasl_server_close(server);
}

static void a_backend_out_of_reach_is_no_wrong_password(void **state)
{
    (void)state;
    struct sasl_server *server = open_one(SASL_SCRAM_SHA_1);
    assert_int_equal(feed(server, slice_text("n,,n=tim,r=abcdef")), SASL_WANT_SECRET);
    assert_int_equal(sasl_server_verdict(server, SASL_UNKNOWN_NOW), SASL_FAILED);
    assert_int_equal(sasl_server_failure(server), SASL_UNAVAILABLE);
    sasl_server_close(server);
}

static void what_is_secret_is_not_offered_in_the_clear(void **state)
{
    struct sasl_offer offer = {.mechanisms = SASL_BIT(SASL_MECHANISMS) - 1};
    struct sasl_facts clear = {.loopback = true};
    uint32_t safe = SASL_BIT(SASL_SCRAM_SHA_256) | SASL_BIT(SASL_SCRAM_SHA_1) |
                    SASL_BIT(SASL_DIGEST_MD5) | SASL_BIT(SASL_CRAM_MD5);
    uint32_t secret = SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN) | SASL_BIT(SASL_OAUTHBEARER) |
                      SASL_BIT(SASL_XOAUTH2);
    struct sasl_server *server;
    (void)state;
    assert_int_equal(sasl_mechanisms_offered(&offer, &clear), safe);
    offer.clear_on_loopback = true;
    assert_int_equal(sasl_mechanisms_offered(&offer, &clear), safe | secret);
    clear.loopback = false;
    assert_int_equal(sasl_mechanisms_offered(&offer, &clear), safe);
    clear.encrypted = true;
    assert_int_equal(sasl_mechanisms_offered(&offer, &clear), safe | secret);
    assert_int_equal(sasl_mechanisms_offered(&offer, &secure), SASL_BIT(SASL_MECHANISMS) - 1);
    offer.mechanisms = SASL_BIT(SASL_PLAIN);
    assert_int_equal(sasl_mechanisms_offered(&offer, &secure), SASL_BIT(SASL_PLAIN));
    clear.encrypted = false;
    assert_int_equal(sasl_server_open(&server, library, SASL_PLAIN, &clear), -EPERM);
    assert_int_equal(sasl_mechanism_find(slice_text("scram-sha-1-plus")), SASL_SCRAM_SHA_1_PLUS);
    assert_int_equal(sasl_mechanism_find(slice_text("SCRAM-SHA-1-")), SASL_MECHANISMS);
}

static void base64_is_taken_strictly(void **state)
{
    static const struct {
        const char *text, *octets;
    } rows[] = {{"", ""},
                {"Zg==", "f"},
                {"Zm8=", "fo"},
                {"Zm9v", "foo"},
                {"+/+/", "\xfb\xff\xbf"},
                {"Zg=", NULL},
                {"Zg", NULL},
                {"Z", NULL},
                {"Zh==", NULL},
                {"Zm9=", NULL},
                {"Zg==Zg==", NULL},
                {"Z===", NULL},
                {"====", NULL},
                {"Zm9v\n", NULL},
                {"Zm9-", NULL},
                {"Zm 9", NULL}};
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t octets[16];
        char text[16];
        long size = base64_decode(slice_text(rows[i].text), octets);
        assert_int_equal(size, rows[i].octets == NULL ? -1 : (long)strlen(rows[i].octets));
        if (size >= 0) {
            assert_memory_equal(octets, rows[i].octets, size);
            size_t written = base64_encode(slice_of(octets, (size_t)size), text);
            assert_true(slice_equal(slice_of(text, written), slice_text(rows[i].text)));
        }
    }
    uint8_t octets[16];
    assert_int_equal(base64_decode_bare(slice_text("Zm8"), octets), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_right_password_comes_in_by_every_mechanism),
        TEST(a_wrong_password_and_an_unknown_user_fail_alike_by_every_mechanism),
        TEST(whom_to_act_as_is_told_by_every_mechanism_that_can_say_it),
        TEST(a_binding_to_another_connection_does_not_come_in),
        TEST(an_unknown_user_has_a_salt_that_stays_and_looks_like_others),
        TEST(malformed_messages_fail_and_are_asked_of_nobody),
        TEST(names_are_read_as_the_library_reads_them),
        TEST(a_user_named_twice_in_digest_md5_is_nobody),
        TEST(a_message_or_a_name_that_is_too_long_fails),
        TEST(who_was_kept_from_seeing_plus_does_not_come_in),
        TEST(names_and_passwords_are_prepared),
        TEST(login_takes_the_name_with_the_command_or_after_it),
        TEST(a_certificate_says_who_it_is_and_an_empty_response_is_whole),
        TEST(a_good_token_comes_in_and_a_bad_one_is_told_why_first),
        TEST(a_backend_out_of_reach_is_no_wrong_password),
        TEST(what_is_secret_is_not_offered_in_the_clear),
        TEST(base64_is_taken_strictly),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
