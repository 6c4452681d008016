/* The dialogues of POP3: RFC 1939 §4 to §7 and §10, RFC 2449 §5 and §8, RFC 5034. Mail and numbers are ours. */
#include "engine/mailbox/pop3_private.h"
#define DESK_ROOM 65536u
#define DESK_ACCEPTED pop3_accepted
#include "tests/unit/desk_play.h"

static struct pop3_client *two_letters(void)
{
    pop3_rig_deliver(&rig, "mrose", slice_text("Subject: one\r\n\r\na\r\nb\r\nc\r\n"));
    pop3_rig_deliver(&rig, "mrose", slice_text("Subject: two\r\n\r\n.dot\r\n"));
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    return client;
}

static void a_session_as_it_is_shown(void **state)
{
    static const struct desk_step steps[] = {
        {"USER mrose", "+OK %"}, /* §7 */
        {"PASS secret", "+OK %"},
        {"STAT", "+OK 2 47"}, /* §5 */
        {"LIST", "+OK %\n1 25\n2 22\n."},
        {"LIST 2", "+OK 2 22"},
        {"LIST 3", "-ERR %"},
        {"RETR 1", "+OK %\nSubject: one\n\na\nb\nc\n."},
        {"RETR 2", "+OK %\nSubject: two\n\n..dot\n."},
        {"RETR 3", "-ERR %"},
        {"TOP 1 2", "+OK%\nSubject: one\n\na\nb\n!c\n."}, /* §7 */
        {"TOP 1 0", "+OK%\nSubject: one\n\n!a\n."},
        {"TOP 100 3", "-ERR %"},
        {"UIDL", "+OK%\n1 %\n2 %\n."},
        {"UIDL 2", "+OK 2 %"},
        {"UIDL 3", "-ERR %"},
        {"DELE 1", "+OK %"},
        {"DELE 1", "-ERR %"}, /* deleted already */
        {"RETR 1", "-ERR %"},
        {"LIST", "+OK %\n!1 25\n2 22\n."},
        {"STAT", "+OK 1 22"},
        {"NOOP", "+OK%"},
        {"RSET", "+OK%"},
        {"STAT", "+OK 2 47"},
        {"DELE 1", "+OK %"},
        {"DELE 2", "+OK %"},
        {"QUIT", "+OK %"},
    };
    (void)state;
    struct pop3_client *client = two_letters();
    DESK_PLAY(client, steps);
    assert_true(client->closed);
    assert_int_equal(pop3_rig_count(&rig, "mrose"), 0);
}

static void what_is_not_quitted_is_not_deleted(void **state)
{
    static const struct desk_step steps[] = {
        {"USER mrose", "+OK %"}, {"PASS secret", "+OK %"}, {"DELE 1", "+OK %"}};
    (void)state;
    struct pop3_client *client = two_letters();
    DESK_PLAY(client, steps);
    stream_abort(client->stream); /* §6: no UPDATE state */
    pop3_rig_run(&rig);
    assert_int_equal(pop3_rig_count(&rig, "mrose"), 2);
}

static void what_is_possible_is_told(void **state)
{
    static const struct desk_step steps[] = {
        {"CAPA", "+OK%\n!EXPIRE 0\n."}, /* RFC 2449 §5 */
        {"CAPA", "+OK%\nTOP\n."},
        {"CAPA", "+OK%\nUSER\n."},
        {"CAPA", "+OK%\nUIDL\n."},
        {"CAPA", "+OK%\nRESP-CODES\n."},
        {"CAPA", "+OK%\nAUTH-RESP-CODE\n."}, /* RFC 3206 */
        {"CAPA", "+OK%\nPIPELINING\n."},
        {"CAPA", "+OK%\nSASL %PLAIN%\n."},
        {"STAT", "-ERR %"}, /* not in this state */
        {"NOBODY", "-ERR %"},
        {"USER mrose", "+OK %"},
        {"PASS wrong", "-ERR [AUTH] %"},
        {"AUTH PLAIN", "+ "}, /* RFC 5034 §6 */
        {"AG1yb3NlAHNlY3JldA==", "+OK %"},
        {"QUIT", "+OK %"},
    };
    (void)state;
    DESK_PLAY(two_letters(), steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_session_as_it_is_shown),
        TEST(what_is_not_quitted_is_not_deleted),
        TEST(what_is_possible_is_told),
    };
    (void)set_up_tls;
    (void)tear_down_tls;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
