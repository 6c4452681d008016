/* Clients that go at every moment, desks and helpers that have no room, and what is begun from inside of `told`. */
#include "tests/unit/login_rig.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define PASSWORD "tanstaaftanstaaf"

static struct login_rig rig;
static struct login_rig_facts secure;
static struct login_rig_session session;

static const struct login_rig_client wrong_cram = {
    .mechanism = SASL_CRAM_MD5, .user = "tim", .password = "wrong"};
static const struct login_rig_client right_scram = {
    .mechanism = SASL_SCRAM_SHA_256, .user = "tim", .password = PASSWORD};

static void open_with(const struct login_rig_settings *settings)
{
    login_rig_open(&rig, settings);
    login_rig_secure(&secure, "192.0.2.1:1000", NULL);
    login_rig_session(&session, &rig);
}

static int set_up(void **state)
{
    (void)state;
    open_with(&(struct login_rig_settings){.attempts_max = 4});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    login_rig_close(&rig);
    return 0;
}

static int begin(struct login_rig_session *of, const char *mechanism, const char *initial)
{
    const struct slice text = slice_text(initial == NULL ? "" : initial);
    return login_begin(rig.desk, &of->login, &secure.facts, slice_text(mechanism),
                       initial == NULL ? NULL : &text);
}

static int password(struct login_rig_session *of, const char *text)
{
    return login_password(rig.desk, &of->login, &secure.facts, slice_text("tim"), slice_text(text));
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

/* ---- Clients that go ---- */

/* Each brings the session to a state, in which it is not told before it goes. */
static void has_news(void)
{
    assert_int_equal(begin(&session, "PLAIN", NULL), 0);
}

static void has_a_challenge(void)
{
    assert_int_equal(begin(&session, "CRAM-MD5", NULL), 0);
    assert_true(login_rig_told(&session));
}

static void waits_for_a_helper(void)
{
    login_rig_helper_stop(&rig);
    assert_int_equal(password(&session, "wrong"), 0);
}

static void waits_for_what_is_stored(void)
{
    login_rig_helper_stop(&rig);
    assert_int_equal(begin(&session, "SCRAM-SHA-1", "n,,n=tim,r=abcdef"), 0);
}

static void has_an_answer_that_was_not_taken(void)
{
    assert_int_equal(begin(&session, "SCRAM-SHA-1", "n,,n=tim,r=abcdef"), 0);
    login_rig_helper_stop(&rig); /* it has done what it was asked before */
}

static void waits_for_its_delay(void)
{
    assert_int_equal(password(&session, "wrong"), 0);
    login_rig_helped(&rig);
}

static void has_failed_and_its_verdict_is_under_way(void)
{
    uint8_t proof[1024];
    size_t size = login_rig_proof(&session, &secure, &wrong_cram, proof);
    assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
    login_rig_helped(&rig);
}

static void has_proved_it_and_not_heard_the_last_word(void)
{
    uint8_t proof[1024];
    size_t size = login_rig_proof(&session, &secure, &right_scram, proof);
    assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
}

static void has_succeeded_and_its_verdict_is_under_way(void)
{
    has_proved_it_and_not_heard_the_last_word();
    assert_true(login_rig_told(&session));
    login_rig_helper_stop(&rig);
    assert_int_equal(login_answer(&session.login, slice_of(NULL, 0)), 0);
}

static void who_has_gone_is_never_told(void **state)
{
    static const struct {
        void (*bring)(void);
        bool stopped;
        unsigned failures; /* that count all the same */
    } rows[] = {
        {has_news, false, 0},
        {has_a_challenge, false, 0},
        {waits_for_a_helper, true, 1},
        {waits_for_what_is_stored, true, 0},
        {has_an_answer_that_was_not_taken, true, 0},
        {waits_for_its_delay, false, 1},
        {has_failed_and_its_verdict_is_under_way, false, 1},
        {has_proved_it_and_not_heard_the_last_word, false, 0},
        {has_succeeded_and_its_verdict_is_under_way, true, 0},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        login_rig_session(&session, &rig);
        rows[i].bring();
        unsigned before = session.told;
        assert_non_null(session.login.attempt);
        login_cancel(&session.login);
        assert_null(session.login.attempt);
        login_cancel(&session.login); /* once more does no harm */
        if (rows[i].stopped) {
            login_rig_helper_go_on(&rig);
        }
        login_rig_settle(&rig);
        assert_int_equal(session.told, before);
        assert_int_equal(failures_logged(), rows[i].failures);
        /* And it may try again. */
        assert_int_equal(password(&session, PASSWORD), 0);
        assert_true(login_rig_told(&session));
        assert_int_equal(session.news, LOGIN_IN);
    }
}

static void the_desk_may_close_while_a_helper_is_at_it(void **state)
{
    (void)state;
    waits_for_a_helper();
    login_cancel(&session.login);
    login_desk_close(rig.desk);
    rig.desk = NULL;
    login_rig_helper_go_on(&rig);
    login_rig_rounds(&rig, 100);
    login_rig_close(&rig);
    assert_int_equal(session.told, 0);
    open_with(&(struct login_rig_settings){0});
}

/* ---- From inside of told ---- */

static void goes(struct login_rig_session *of)
{
    login_cancel(&of->login);
}

static void answers(struct login_rig_session *of)
{
    assert_int_equal(login_answer(&of->login, slice_of("\0tim\0" PASSWORD, 5 + strlen(PASSWORD))),
                     0);
    of->then_told = of->told;
}

static void tries_again(struct login_rig_session *of)
{
    assert_int_equal(password(of, PASSWORD), 0);
    of->then_told = of->told;
}

static void a_client_may_go_or_answer_when_it_is_told_of_a_challenge(void **state)
{
    (void)state;
    session.then = goes;
    assert_int_equal(begin(&session, "PLAIN", NULL), 0);
    assert_int_equal(session.told, 0);
    assert_true(login_rig_told(&session));
    assert_null(session.login.attempt);
    session.then = answers;
    assert_int_equal(begin(&session, "PLAIN", NULL), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.then_told, session.told); /* of the answer it is told later */
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_IN);
}

static void another_attempt_may_begin_when_one_is_over_and_takes_its_place(void **state)
{
    struct login_rig_session others[3];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        login_rig_session(&others[i], &rig);
        assert_int_equal(begin(&others[i], "CRAM-MD5", NULL), 0);
    }
    session.then = tries_again;
    assert_int_equal(begin(&session, "PLAIN", "tim"), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_MALFORMED);
    assert_int_equal(session.then_told, session.told);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_IN);
    for (unsigned i = 0; i < 3; i++) {
        login_cancel(&others[i].login);
    }
}

/* ---- No room ---- */

static void more_attempts_than_the_desk_has_room_for_are_refused(void **state)
{
    struct login_rig_session others[4];
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        login_rig_session(&others[i], &rig);
        assert_int_equal(begin(&others[i], "CRAM-MD5", NULL), 0);
    }
    assert_int_equal(begin(&session, "CRAM-MD5", NULL), -ENOBUFS);
    assert_null(session.login.attempt);
    assert_int_equal(password(&session, PASSWORD), -ENOBUFS);
    assert_null(session.login.attempt);
    login_cancel(&others[2].login);
    assert_int_equal(password(&session, PASSWORD), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_IN);
    for (unsigned i = 0; i < 4; i++) {
        login_cancel(&others[i].login);
    }
}

static void while_the_helpers_have_no_room_nothing_begins_that_needs_them(void **state)
{
    (void)state;
    login_rig_helper_stop(&rig);
    login_rig_queue_fill(&rig);
    assert_int_equal(password(&session, PASSWORD), -ENOBUFS);
    assert_null(session.login.attempt);
    assert_int_equal(begin(&session, "SCRAM-SHA-1", "n,,n=tim,r=abcdef"), -ENOBUFS);
    assert_null(session.login.attempt);
    assert_int_equal(begin(&session, "SCRAM-SHA-1", NULL), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(login_answer(&session.login, slice_text("n,,n=tim,r=abcdef")), -ENOBUFS);
    assert_null(session.login.attempt);
    login_rig_helper_go_on(&rig);
    login_rig_settle(&rig);
    assert_int_equal(session.told, 1);
    assert_int_equal(password(&session, PASSWORD), 0);
    assert_true(login_rig_told(&session));
    assert_int_equal(session.news, LOGIN_IN);
}

/* A proof that is sent while the helpers have no room, and a client that does not wait for what becomes of it. */
static void a_failure_counts_also_when_the_helpers_have_no_room_for_it_yet(void **state)
{
    (void)state;
    for (unsigned goes_first = 0; goes_first < 2; goes_first++) {
        const struct login_rig_client client = {
            .mechanism = SASL_SCRAM_SHA_1, .user = "tim", .password = "wrong"};
        uint8_t proof[1024];
        size_t size = login_rig_proof(&session, &secure, &client, proof);
        unsigned before = session.told;
        login_rig_helper_stop(&rig);
        login_rig_queue_fill(&rig);
        assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
        rig.now_ns += LOGIN_RIG_SECOND_NS;
        login_rig_rounds(&rig, 10);
        if (goes_first) {
            login_cancel(&session.login);
        }
        assert_int_equal(failures_logged(), 0);
        login_rig_helper_go_on(&rig);
        login_rig_settle(&rig);
        assert_int_equal(failures_logged(), 1);
        assert_int_equal(session.told, before + !goes_first);
        assert_int_equal(session.news, goes_first ? LOGIN_CHALLENGE : LOGIN_REFUSED);
        assert_null(session.login.attempt);
    }
}

/* What became of it is noted on the shard. */
static void who_has_proved_it_comes_in_while_the_helpers_have_no_room(void **state)
{
    uint8_t proof[1024];
    (void)state;
    size_t size = login_rig_proof(&session, &secure, &right_scram, proof);
    assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
    assert_true(login_rig_told(&session));
    login_rig_helper_stop(&rig);
    login_rig_queue_fill(&rig);
    unsigned before = session.told;
    assert_int_equal(login_answer(&session.login, slice_of(NULL, 0)), 0);
    assert_int_equal(session.told, before);
    bool told = login_rig_told(&session);
    login_rig_helper_go_on(&rig);
    assert_true(told);
    assert_int_equal(session.news, LOGIN_IN);
    assert_string_equal(session.user, "tim");
}

static void the_desk_may_close_while_a_verdict_is_owed(void **state)
{
    const struct login_rig_client client = {
        .mechanism = SASL_SCRAM_SHA_1, .user = "tim", .password = "wrong"};
    uint8_t proof[1024];
    (void)state;
    size_t size = login_rig_proof(&session, &secure, &client, proof);
    unsigned before = session.told;
    login_rig_helper_stop(&rig);
    login_rig_queue_fill(&rig);
    assert_int_equal(login_answer(&session.login, slice_of(proof, size)), 0);
    login_cancel(&session.login);
    login_desk_close(rig.desk);
    rig.desk = NULL;
    login_rig_helper_go_on(&rig);
    login_rig_close(&rig);
    assert_int_equal(session.told, before);
    open_with(&(struct login_rig_settings){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(who_has_gone_is_never_told),
        TEST(the_desk_may_close_while_a_helper_is_at_it),
        TEST(a_client_may_go_or_answer_when_it_is_told_of_a_challenge),
        TEST(another_attempt_may_begin_when_one_is_over_and_takes_its_place),
        TEST(more_attempts_than_the_desk_has_room_for_are_refused),
        TEST(while_the_helpers_have_no_room_nothing_begins_that_needs_them),
        TEST(a_failure_counts_also_when_the_helpers_have_no_room_for_it_yet),
        TEST(who_has_proved_it_comes_in_while_the_helpers_have_no_room),
        TEST(the_desk_may_close_while_a_verdict_is_owed),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
