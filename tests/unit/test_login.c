/* Who logs in: every mechanism with GNU SASL's client against a directory with helpers, and what it is offered. */
#include "tests/unit/login_rig.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define REMOTE "192.0.2.1:1000"
#define PASSWORD "tanstaaftanstaaf"

static struct login_rig rig;
static struct login_rig_facts secure;
static struct login_rig_session session;

static void open_with(const struct login_rig_settings *settings)
{
    login_rig_open(&rig, settings);
    login_rig_secure(&secure, REMOTE, "card@example.org");
    login_rig_session(&session, &rig);
}

static int set_up(void **state)
{
    (void)state;
    open_with(&(struct login_rig_settings){0});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    login_rig_close(&rig);
    return 0;
}

static void reopen_with(const struct login_rig_settings *settings)
{
    login_rig_close(&rig);
    open_with(settings);
}

static const enum sasl_mechanism with_password[] = {
    SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_1, SASL_DIGEST_MD5, SASL_CRAM_MD5, SASL_PLAIN, SASL_LOGIN};
#define WITH_PASSWORD (sizeof(with_password) / sizeof(with_password[0]))

static enum login_news exchange(enum sasl_mechanism mechanism, const char *user,
                                const char *password, const char *authzid)
{
    struct login_rig_client client = {
        .mechanism = mechanism, .user = user, .password = password, .authzid = authzid};
    return login_rig_exchange(&session, &secure, &client);
}

static unsigned failures_logged(void)
{
    unsigned count = 0;
    for (const char *at = login_rig_logged(&rig); (at = strstr(at, "auth: failed: ")) != NULL;
         at++) {
        count++;
    }
    return count;
}

/* ---- Who comes in ---- */

static void the_right_password_comes_in_by_every_mechanism(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * WITH_PASSWORD; i++) {
        const struct login_rig_client client = {
            .mechanism = with_password[i / 2],
            .user = "Tim",
            .password = PASSWORD,
            .initial = i % 2 == 1 && !sasl_mechanism_server_first(with_password[i / 2]) &&
                       with_password[i / 2] != SASL_LOGIN,
        };
        assert_int_equal(login_rig_exchange(&session, &secure, &client), LOGIN_IN);
        assert_string_equal(session.user, "tim");
        assert_string_equal(session.home, "/home/tim");
        assert_false(session.has_bytes);
        assert_null(session.login.attempt);
        assert_true(pthread_equal(session.thread, pthread_self()));
    }
    assert_int_equal(failures_logged(), 0);
}

static void a_name_and_a_password_come_in(void **state)
{
    (void)state;
    assert_int_equal(login_rig_password(&session, &secure, "TIM", PASSWORD), LOGIN_IN);
    assert_string_equal(session.user, "tim");
    assert_string_equal(session.home, "/home/tim");
    assert_int_equal(login_rig_password(&session, &secure, "una", "unas"), LOGIN_IN);
    assert_int_equal(login_rig_password(&session, &secure, "hal", "secret"), LOGIN_IN);
    /* RFC 4013: as PLAIN prepares it. A no-break space is a space, a soft hyphen nothing. */
    assert_int_equal(login_rig_password(&session, &secure,
                                        "a\xc2\xa0"
                                        "b",
                                        "c\xc2\xa0"
                                        "d"),
                     LOGIN_IN);
    assert_int_equal(exchange(SASL_PLAIN,
                              "a\xc2\xa0"
                              "b",
                              "c\xc2\xa0"
                              "d",
                              NULL),
                     LOGIN_IN);
    assert_string_equal(session.user, "a b");
}

/* Bytes that a stored secret does not give cannot be made of it. */
static void what_is_stored_decides_which_mechanisms_let_one_in(void **state)
{
    static const struct {
        const char *user, *password;
        uint32_t right; /* SASL_BITs */
    } rows[] = {
        {"hal", "secret", SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN)},
        {"sam", "pencil",
         SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN) | SASL_BIT(SASL_SCRAM_SHA_256)},
        {"dig", "secret", SASL_BIT(SASL_DIGEST_MD5)},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned j = 0; j < WITH_PASSWORD; j++) {
            bool right = rows[i].right & SASL_BIT(with_password[j]);
            enum login_news news = exchange(with_password[j], rows[i].user, rows[i].password, NULL);
            if (news != (right ? LOGIN_IN : LOGIN_REFUSED)) {
                fail_msg("%s by %s: %d", rows[i].user, sasl_mechanism_name(with_password[j]),
                         (int)news);
            }
        }
    }
}

static void a_master_comes_in_as_another_by_every_mechanism(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        assert_int_equal(exchange(with_password[i], "tim*root", "toor", NULL), LOGIN_IN);
        assert_string_equal(session.user, "tim");
        assert_string_equal(session.home, "/home/tim");
        assert_int_equal(exchange(with_password[i], "nobody*root", "toor", NULL), LOGIN_REFUSED);
        bool can = with_password[i] != SASL_CRAM_MD5 && with_password[i] != SASL_LOGIN;
        if (can) {
            assert_int_equal(exchange(with_password[i], "root", "toor", "Tom"), LOGIN_IN);
            assert_string_equal(session.user, "tom");
            assert_int_equal(exchange(with_password[i], "tim", PASSWORD, "tom"), LOGIN_REFUSED);
        }
    }
}

static void a_certificate_says_who_it_is(void **state)
{
    const struct slice other = slice_text("tom"), empty = slice_text("");
    (void)state;
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("external"), &empty), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_IN);
    assert_string_equal(session.user, "card@example.org");
    /* As somebody else: no master. */
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("EXTERNAL"), &other), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_REFUSED);
    login_rig_secure(&secure, REMOTE, "stranger@example.org");
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("EXTERNAL"), NULL), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_CHALLENGE);
    assert_int_equal(session.byte_count, 0);
    assert_int_equal(login_answer(&session.login, empty), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_REFUSED);
    assert_int_equal(failures_logged(), 2);
}

/* SCRAM's and DIGEST-MD5's last words are a challenge, which is answered with nothing. */
static void what_a_mechanism_says_last_comes_before_the_client_is_in(void **state)
{
    static const struct {
        enum sasl_mechanism mechanism;
        const char *last;
        unsigned challenges;
    } rows[] = {{SASL_SCRAM_SHA_256, "v=", 3},
                {SASL_SCRAM_SHA_1, "v=", 3},
                {SASL_DIGEST_MD5, "rspauth=", 2}};
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct login_rig_client client = {
            .mechanism = rows[i].mechanism, .user = "tim", .password = PASSWORD};
        uint8_t proof[1024];
        login_rig_session(&session, &rig);
        size_t size = login_rig_proof(&session, &secure, &client, proof);
        assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
        assert_true(login_rig_told(&session));
        assert_int_equal(session.news, LOGIN_CHALLENGE);
        assert_true(session.has_bytes);
        assert_memory_equal(session.bytes, rows[i].last, strlen(rows[i].last));
        assert_int_equal(session.challenges, rows[i].challenges);
        assert_int_equal(login_answer(&session.login, slice_of(NULL, 0)), 0);
        assert_true(login_rig_told(&session));
        assert_int_equal(session.news, LOGIN_IN);
    }
}

/* RFC 5802 §6, RFC 9266. */
static void a_proof_may_be_bound_to_the_connection_and_is_good_on_no_other(void **state)
{
    char text[LOGIN_MECHANISMS_BYTES_MAX];
    (void)state;
    login_rig_bind(&secure);
    login_mechanisms(rig.desk, &secure.facts, text, sizeof(text));
    assert_string_equal(text, "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 "
                              "SCRAM-SHA-1 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN");
    for (unsigned i = 0; i < 2; i++) {
        struct login_rig_client client = {.mechanism = i == 0 ? SASL_SCRAM_SHA_256_PLUS
                                                              : SASL_SCRAM_SHA_1_PLUS,
                                          .user = "tim",
                                          .password = PASSWORD};
        assert_int_equal(login_rig_exchange(&session, &secure, &client), LOGIN_IN);
        assert_string_equal(session.user, "tim");
        client.binding_of_other = true;
        assert_int_equal(login_rig_exchange(&session, &secure, &client), LOGIN_REFUSED);
        assert_int_equal(failures_logged(), 1);
    }
}

static bool exporter_fails(const struct tls_facts *facts, uint8_t exported[TLS_EXPORTER_BYTES])
{
    (void)facts;
    (void)exported;
    return false;
}

static void a_proof_that_cannot_be_bound_is_none(void **state)
{
    const struct slice first = slice_text("p=tls-exporter,,n=tim,r=abcdef");
    (void)state;
    login_rig_bind(&secure);
    secure.tls.exporter = exporter_fails;
    assert_int_equal(login_begin(rig.desk, &session.login, &secure.facts,
                                 slice_text("SCRAM-SHA-256-PLUS"), &first),
                     -ENOMEM);
    assert_null(session.login.attempt);
}

/* "y": it thinks that nothing can be bound here, as somebody between has told it. Another proof needs no exporter. */
static void who_is_kept_from_binding_himself_is_refused(void **state)
{
    static const char *const firsts[] = {"n,,n=tim,r=abcdef", "y,,n=tim,r=abcdef"};
    (void)state;
    login_rig_bind(&secure);
    secure.tls.exporter = exporter_fails;
    for (unsigned i = 0; i < 2; i++) {
        const struct slice first = slice_text(firsts[i]);
        assert_int_equal(login_begin(rig.desk, &session.login, &secure.facts,
                                     slice_text("SCRAM-SHA-256"), &first),
                         0);
        assert_true(login_rig_told(&session));
        assert_int_equal(session.news, i == 0 ? LOGIN_CHALLENGE : LOGIN_REFUSED);
        login_cancel(&session.login);
    }
}

/* ---- Who does not ---- */

static void a_wrong_password_and_an_unknown_user_are_one_answer_and_one_line_each(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        char line[128];
        unsigned told[2];
        for (unsigned j = 0; j < 2; j++) {
            const char *user = j == 0 ? "tim" : "nobody";
            login_rig_session(&session, &rig);
            assert_int_equal(exchange(with_password[i], user, "wrong", NULL), LOGIN_REFUSED);
            assert_string_equal(session.user, "");
            told[j] = session.told;
            snprintf(line, sizeof(line),
                     "auth: failed: user=<%s>, method=%s, rip=192.0.2.1, service=imap, ", user,
                     sasl_mechanism_name(with_password[i]));
            const char *logged = login_rig_logged(&rig), *at = strstr(logged, line);
            assert_non_null(at);
            assert_null(strstr(at + 1, "auth: failed"));
        }
        assert_int_equal(told[0], told[1]);
    }
    assert_int_equal(login_rig_password(&session, &secure, "tim", "wrong"), LOGIN_REFUSED);
    assert_int_equal(login_rig_password(&session, &secure, "nobody", "wrong"), LOGIN_REFUSED);
    assert_int_equal(login_rig_password(&session, &secure, "tim", ""), LOGIN_REFUSED);
    assert_int_equal(login_rig_password(&session, &secure, "", ""), LOGIN_REFUSED);
    assert_int_equal(login_rig_password(&session, &secure, "t\1m", PASSWORD), LOGIN_REFUSED);
    assert_non_null(strstr(login_rig_logged(&rig), "user=<tim>, method=PLAIN, rip=192.0.2.1"));
}

static void who_fails_is_told_when_his_time_is_over(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct login_rig_client client = {
            .mechanism = SASL_CRAM_MD5, .user = i == 0 ? "tim" : "nobody", .password = "wrong"};
        uint8_t proof[1024];
        login_rig_secure(&secure, i == 0 ? "192.0.2.1:1" : "192.0.2.2:1", NULL);
        size_t size = login_rig_proof(&session, &secure, &client, proof);
        unsigned before = session.told;
        assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
        login_rig_helped(&rig);
        assert_int_equal(session.told, before);
        rig.now_ns += 2 * LOGIN_RIG_SECOND_NS - 10 * WHEEL_TICK_NS;
        login_rig_rounds(&rig, 10);
        assert_int_equal(session.told, before);
        rig.now_ns += 20 * WHEEL_TICK_NS;
        assert_true(login_rig_told_now(&session));
        assert_int_equal(session.news, LOGIN_REFUSED);
    }
}

static void proofs_that_fail_count_as_passwords_do(void **state)
{
    (void)state;
    reopen_with(&(struct login_rig_settings){.block_after = 3});
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(exchange(SASL_SCRAM_SHA_256, "tim", "wrong", NULL), LOGIN_REFUSED);
    }
    assert_int_equal(login_rig_password(&session, &secure, "tim", PASSWORD), LOGIN_REFUSED);
    assert_int_equal(exchange(SASL_SCRAM_SHA_256, "tim", PASSWORD, NULL), LOGIN_REFUSED);
    login_rig_secure(&secure, "192.0.2.2:1", NULL);
    assert_int_equal(exchange(SASL_SCRAM_SHA_256, "tim", PASSWORD, NULL), LOGIN_IN);
    rig.now_ns += 601 * LOGIN_RIG_SECOND_NS;
    login_rig_rounds(&rig, 1);
    login_rig_secure(&secure, REMOTE, NULL);
    assert_int_equal(login_rig_password(&session, &secure, "tim", PASSWORD), LOGIN_IN);
}

/* The delay is that of the user's count: 2 s after the success, 8 s had it not been told. */
static void a_proof_that_succeeds_has_the_users_failures_forgotten(void **state)
{
    char remote[32];
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(remote, sizeof(remote), "192.0.2.%u:1", 10 + i);
        login_rig_secure(&secure, remote, NULL);
        bool right = i == 2;
        assert_int_equal(exchange(SASL_SCRAM_SHA_1, "tim", right ? PASSWORD : "wrong", NULL),
                         right ? LOGIN_IN : LOGIN_REFUSED);
    }
    login_rig_secure(&secure, "192.0.2.20:1", NULL);
    assert_int_equal(login_password(rig.desk, &session.login, &secure.facts, slice_text("tim"),
                                    slice_text("wrong")),
                     0);
    login_rig_helped(&rig);
    rig.now_ns += 4 * LOGIN_RIG_SECOND_NS + 10 * WHEEL_TICK_NS; /* the second since */
    assert_true(login_rig_told_now(&session));
}

static void a_database_out_of_reach_is_no_wrong_password(void **state)
{
    (void)state;
    reopen_with(&(struct login_rig_settings){.unreachable = true});
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        assert_int_equal(exchange(with_password[i], "nobody", "wrong", NULL), LOGIN_UNAVAILABLE);
        assert_int_equal(exchange(with_password[i], "tim", PASSWORD, NULL), LOGIN_IN);
    }
    assert_int_equal(login_rig_password(&session, &secure, "nobody", "wrong"), LOGIN_UNAVAILABLE);
    assert_int_equal(failures_logged(), 0);
}

static void who_can_have_no_mailbox_does_not_come_in(void **state)
{
    (void)state;
    assert_int_equal(login_rig_password(&session, &secure, "back\\slash", "secret"), LOGIN_REFUSED);
    assert_int_equal(exchange(SASL_PLAIN, "back\\slash", "secret", NULL), LOGIN_REFUSED);
}

static void salt_of(const char *user, enum sasl_mechanism mechanism, char salt[64])
{
    const struct login_rig_client client = {
        .mechanism = mechanism, .user = user, .password = "wrong"};
    uint8_t proof[1024];
    login_rig_proof(&session, &secure, &client, proof);
    login_cancel(&session.login);
    session.bytes[session.byte_count] = '\0';
    const char *at = strstr((const char *)session.bytes, ",s=");
    assert_non_null(at);
    snprintf(salt, 64, "%s", at);
}

/* Alike: who has a password of which the salt is derived, whose name is nobody's, and both for one who is blocked. */
static void the_salt_of_a_name_does_not_tell_whether_it_is_anybodys(void **state)
{
    static const char *const users[] = {"tim", "nobody", "tim*root", "nobody*root"};
    (void)state;
    reopen_with(&(struct login_rig_settings){.block_after = 1});
    for (unsigned i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        char first[64], again[64], sha1[64], master[64];
        login_rig_secure(&secure, REMOTE, NULL);
        salt_of(users[i], SASL_SCRAM_SHA_256, first);
        salt_of(users[i], SASL_SCRAM_SHA_1, sha1);
        salt_of("root", SASL_SCRAM_SHA_256, master);
        assert_string_not_equal(first, sha1);
        assert_string_not_equal(first, master);
        login_rig_secure(&secure, "192.0.2.66:1", NULL);
        assert_int_equal(exchange(SASL_PLAIN, "somebody", "wrong", NULL), LOGIN_REFUSED);
        salt_of(users[i], SASL_SCRAM_SHA_256, again);
        assert_string_equal(first, again);
    }
}

static void a_blocked_address_fails_once_a_try(void **state)
{
    (void)state;
    reopen_with(&(struct login_rig_settings){.block_after = 1});
    for (unsigned i = 0; i < WITH_PASSWORD; i++) {
        assert_int_equal(exchange(with_password[i], "tim", i == 0 ? "wrong" : PASSWORD, NULL),
                         LOGIN_REFUSED);
        assert_int_equal(failures_logged(), 1);
    }
}

/* ---- What is said wrongly ---- */

static void malformed_messages_are_told_as_such_and_count_as_nothing(void **state)
{
    static const struct {
        enum sasl_mechanism mechanism;
        bool later; /* after the challenge */
        const char *text;
    } rows[] = {
        {SASL_PLAIN, false, ""},
        {SASL_PLAIN, true, "tim"},
        {SASL_LOGIN, true, ""},
        {SASL_CRAM_MD5, false, "tim b913a602c7eda7a495b4e6e7334d3890"},
        {SASL_CRAM_MD5, true, "tim"},
        {SASL_DIGEST_MD5, true, "username=\"tim\",username=\"tom\""},
        {SASL_SCRAM_SHA_1, false, "n,,n=,r=abc"},
        {SASL_SCRAM_SHA_1, true, "n,,n=tim"},
        {SASL_SCRAM_SHA_256, false, "p=tls-unique,,n=tim,r=abc"},
        {SASL_EXTERNAL, false, "\xff"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct slice said = slice_text(rows[i].text);
        assert_int_equal(login_begin(rig.desk, &session.login, &secure.facts,
                                     slice_text(sasl_mechanism_name(rows[i].mechanism)),
                                     rows[i].later ? NULL : &said),
                         0);
        assert_true(login_rig_told(&session));
        if (rows[i].later) {
            assert_int_equal(session.news, LOGIN_CHALLENGE);
            assert_int_equal(login_answer(&session.login, said), 0);
            assert_true(login_rig_told(&session));
        }
        if (session.news != LOGIN_MALFORMED) {
            fail_msg("row %u: %d", i, (int)session.news);
        }
        assert_null(session.login.attempt);
    }
    assert_int_equal(failures_logged(), 0);
}

/* Or it would be a try that costs nothing. */
static void once_a_secret_has_come_into_it_a_malformed_message_is_a_failed_proof(void **state)
{
    static const enum sasl_mechanism mechanisms[] = {SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_1};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        const struct login_rig_client client = {
            .mechanism = mechanisms[i / 2], .user = i % 2 == 0 ? "tim" : "nobody", .password = "x"};
        uint8_t proof[1024];
        login_rig_proof(&session, &secure, &client, proof);
        assert_int_equal(login_answer(&session.login, slice_text("c=biws")), 0);
        assert_true(login_rig_told(&session));
        assert_int_equal(session.news, LOGIN_REFUSED);
        assert_int_equal(failures_logged(), 1);
    }
}

static void what_is_too_long_is_refused_at_once(void **state)
{
    static char text[20000];
    (void)state;
    memset(text, 'a', sizeof(text));
    const struct slice all = slice_of(text, sizeof(text));
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("PLAIN"), &all), -EINVAL);
    assert_null(session.login.attempt);
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("PLAIN"), NULL), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(login_answer(&session.login, all), -EINVAL);
    assert_null(session.login.attempt);
    assert_int_equal(login_password(rig.desk, &session.login, &secure.facts, slice_first(all, 321),
                                    slice_text("x")),
                     -EINVAL);
    assert_int_equal(login_password(rig.desk, &session.login, &secure.facts, slice_text("tim"),
                                    slice_first(all, 1025)),
                     -EINVAL);
    assert_null(session.login.attempt);
    login_rig_rounds(&rig, 10);
    assert_int_equal(session.told, 1);
}

/* ---- What is offered ---- */

static void what_a_connection_may_use_is_what_is_announced(void **state)
{
    static const char safe[] = "SCRAM-SHA-256 SCRAM-SHA-1 DIGEST-MD5 CRAM-MD5";
    static const char all[] = "SCRAM-SHA-256 SCRAM-SHA-1 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN";
    static const char card[] = "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 DIGEST-MD5 CRAM-MD5 PLAIN LOGIN";
    enum { CLEAR, SHAKING, SECURE, UNVERIFIED, CARD };
    static const struct {
        const char *remote;
        uint8_t kind;
        bool clear_on_loopback;
        const char *offered;
        bool password;
    } rows[] = {
        {"192.0.2.1:1", CLEAR, true, safe, false},  {"[2001:db8::1]:1", CLEAR, true, safe, false},
        {"127.0.0.1:1", CLEAR, false, safe, false}, {"127.0.0.1:1", CLEAR, true, all, true},
        {"[::1]:1", CLEAR, true, all, true},        {"unix:/x", CLEAR, false, safe, false},
        {"unix:/x", CLEAR, true, all, true},        {"192.0.2.1:1", SHAKING, true, safe, false},
        {"192.0.2.1:1", SECURE, false, all, true},  {"192.0.2.1:1", UNVERIFIED, false, all, true},
        {"192.0.2.1:1", CARD, false, card, true},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[LOGIN_MECHANISMS_BYTES_MAX];
        reopen_with(&(struct login_rig_settings){.clear_on_loopback = rows[i].clear_on_loopback});
        struct login_rig_facts facts;
        login_rig_secure(&facts, rows[i].remote, rows[i].kind >= UNVERIFIED ? "tim" : NULL);
        facts.tls.verified = rows[i].kind == CARD;
        facts.tls.version = rows[i].kind == SHAKING ? NULL : facts.tls.version;
        facts.stream.tls = rows[i].kind == CLEAR ? NULL : facts.stream.tls;
        size_t size = login_mechanisms(rig.desk, &facts.facts, text, sizeof(text));
        assert_string_equal(text, rows[i].offered);
        assert_int_equal(size, strlen(text));
        assert_int_equal(login_in_clear(rig.desk, &facts.facts), rows[i].password);
        int status = rows[i].password ? 0 : -EPERM;
        assert_int_equal(login_password(rig.desk, &session.login, &facts.facts, slice_text("tim"),
                                        slice_text(PASSWORD)),
                         status);
        login_cancel(&session.login);
        const struct slice plain = slice_of("\0tim\0" PASSWORD, 5 + strlen(PASSWORD));
        assert_int_equal(
            login_begin(rig.desk, &session.login, &facts.facts, slice_text("PLAIN"), &plain),
            status);
        login_cancel(&session.login);
        assert_int_equal(
            login_begin(rig.desk, &session.login, &facts.facts, slice_text("EXTERNAL"), NULL),
            rows[i].kind == CARD ? 0 : -EPERM);
        login_cancel(&session.login);
        assert_null(session.login.attempt);
    }
}

static void
what_nobody_here_can_judge_and_what_the_operator_does_not_want_is_not_offered(void **state)
{
    static const char *const names[] = {"OAUTHBEARER", "XOAUTH2",   "SCRAM-SHA-1-PLUS",
                                        "SCRAM-SHA-",  "ANONYMOUS", ""};
    char text[LOGIN_MECHANISMS_BYTES_MAX];
    (void)state;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(
            login_begin(rig.desk, &session.login, &secure.facts, slice_text(names[i]), NULL),
            -EPERM);
        assert_null(session.login.attempt);
    }
    reopen_with(&(struct login_rig_settings){.mechanisms = SASL_BIT(SASL_PLAIN) |
                                                           SASL_BIT(SASL_SCRAM_SHA_256) |
                                                           SASL_BIT(SASL_OAUTHBEARER)});
    login_mechanisms(rig.desk, &secure.facts, text, sizeof(text));
    assert_string_equal(text, "SCRAM-SHA-256 PLAIN");
    assert_int_equal(
        login_begin(rig.desk, &session.login, &secure.facts, slice_text("LOGIN"), NULL), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_right_password_comes_in_by_every_mechanism),
        TEST(a_name_and_a_password_come_in),
        TEST(what_is_stored_decides_which_mechanisms_let_one_in),
        TEST(a_master_comes_in_as_another_by_every_mechanism),
        TEST(a_certificate_says_who_it_is),
        TEST(what_a_mechanism_says_last_comes_before_the_client_is_in),
        TEST(a_proof_may_be_bound_to_the_connection_and_is_good_on_no_other),
        TEST(a_proof_that_cannot_be_bound_is_none),
        TEST(who_is_kept_from_binding_himself_is_refused),
        TEST(a_wrong_password_and_an_unknown_user_are_one_answer_and_one_line_each),
        TEST(who_fails_is_told_when_his_time_is_over),
        TEST(proofs_that_fail_count_as_passwords_do),
        TEST(a_proof_that_succeeds_has_the_users_failures_forgotten),
        TEST(a_database_out_of_reach_is_no_wrong_password),
        TEST(the_salt_of_a_name_does_not_tell_whether_it_is_anybodys),
        TEST(a_blocked_address_fails_once_a_try),
        TEST(who_can_have_no_mailbox_does_not_come_in),
        TEST(malformed_messages_are_told_as_such_and_count_as_nothing),
        TEST(once_a_secret_has_come_into_it_a_malformed_message_is_a_failed_proof),
        TEST(what_is_too_long_is_refused_at_once),
        TEST(what_a_connection_may_use_is_what_is_announced),
        TEST(what_nobody_here_can_judge_and_what_the_operator_does_not_want_is_not_offered),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
