/* The dialogues of ManageSieve: RFC 5804 §1.7, §2. Scripts and names are ours. */
#include "engine/mailbox/managesieve_session.h"
#define DESK_ROOM 65536u
#define DESK_ACCEPTED managesieve_accepted
#include "tests/unit/desk_play.h"

static void the_greeting_and_capabilities(void **state)
{
    static const struct desk_step steps[] = {
        {"CAPABILITY", "\"IMPLEMENTATION\" \"%\"\nOK%"}, /* §1.7, §2.4 */
        {"CAPABILITY", "\"SASL\" \"%PLAIN%\"\nOK%"},
        {"CAPABILITY", "\"SIEVE\" \"%fileinto%vacation%\"\nOK%"},
        {"CAPABILITY", "\"VERSION\" \"1.0\"\n!\"OWNER\" %\nOK%"},
        {"capability", "\"MAXREDIRECTS\" \"^\"\nOK%"},
        {"NOOP", "OK%"}, /* §2.13 */
        {"NOOP \"STARTTLS-SYNC-42\"", "OK (TAG \"STARTTLS-SYNC-42\")%"},
        {"Authenticate \"PLAIN\" \"AGNocmlzAHdyb25n\"", "NO%"}, /* §2.1 */
        {"Listscripts", "NO%"},
        {"Authenticate \"PLAIN\" {20+}\r\nAGNocmlzAHNlY3JldA==", "OK%"},
        {"CAPABILITY", "\"OWNER\" \"chris\"\nOK%"},
        {"UNAUTHENTICATE", "OK%"}, /* §2.14 */
        {"Listscripts", "NO%"},
        {"Logout", "OK%"}, /* §2.3 */
    };
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    assert_null(rfc_missing(talk(client, ""), "\"IMPLEMENTATION\" \"%\"\nOK%"));
    DESK_PLAY(client, steps);
    assert_true(client->closed);
}

static void starttls_says_it_again(void **state)
{
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    assert_null(rfc_missing(talk(client, ""), "\"STARTTLS\"\nOK%"));
    assert_null(rfc_missing(talk(client, "StartTls\r\n"), "OK%")); /* §2.2 */
    pop3_client_secure(&rig, client);
    const char *heard = talk(client, "");
    assert_null(rfc_missing(heard, "\"SASL\" \"%PLAIN%\"\nOK%"));
    assert_null(rfc_unwanted(heard, "!\"STARTTLS\""));
}

static void scripts_are_kept(void **state)
{
    static const struct desk_step steps[] = {
        {"AUTHENTICATE \"PLAIN\" \"AGNocmlzAHNlY3JldA==\"", "OK%"},
        {"HAVESPACE \"myscript\" 999999999", "NO (QUOTA%) %"}, /* §2.5 */
        {"HAVESPACE \"foobar\" 435", "OK%"},
        {"Putscript \"foo\" {31+}\r\n#comment\r\nInvalidSieveCommand\r\n",
         "NO \"line ^: %"}, /* §2.6 */
        {"Putscript \"sent\" \"require [\\\"fileinto\\\", \\\"envelope\\\"]; if envelope :contains "
         "\\\"to\\\" \\\"t+sent\\\" { fileinto \\\"INBOX/sent\\\"; }\"",
         "OK%"},
        {"Putscript \"forwards\" {33+}\r\nredirect \"111@example.net\";\r\n#\r\n", "OK%"},
        {"Putscript {13+}\r\nclever\"script \"keep;\"", "OK%"},
        {"Setactive \"forwards\"", "OK%"},                                           /* §2.8 */
        {"Listscripts", "\"clever\\\"script\"\n\"forwards\" ACTIVE\n\"sent\"\nOK%"}, /* §2.7 */
        {"Setactive \"baz\"", "NO (NONEXISTENT) %"},
        {"Getscript \"forwards\"", "{33}\nredirect \"111@example.net\";\n#\nOK%"}, /* §2.9 */
        {"Getscript \"baz\"", "NO (NONEXISTENT) %"},
        {"Deletescript \"sent\"", "OK%"}, /* §2.10 */
        {"Deletescript \"forwards\"", "NO (ACTIVE) %"},
        {"Deletescript \"baz\"", "NO (NONEXISTENT) %"},
        {"Putscript \"foo\" \"keep;\"", "OK%"},
        {"Renamescript \"foo\" \"bar\"", "OK%"}, /* §2.11 */
        {"Renamescript \"bar\" \"forwards\"", "NO (ALREADYEXISTS) %"},
        {"Renamescript \"forwards\" \"fore\"", "OK%"}, /* it stays the active one */
        {"Listscripts", "\"fore\" ACTIVE\nOK%"},
        {"CheckScript {31+}\r\n#comment\r\nInvalidSieveCommand\r\n", "NO \"line ^: %"}, /* §2.12 */
        {"CheckScript \"keep;\"", "OK%"},
        {"Setactive \"\"", "OK%"},
        {"Listscripts", "\"fore\"\n!\"%\" ACTIVE\nOK%"},
        {"Nonsense", "NO%"},
        {"Logout", "OK%"},
    };
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    DESK_PLAY(client, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_greeting_and_capabilities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starttls_says_it_again, set_up_tls, tear_down_tls),
        cmocka_unit_test_setup_teardown(scripts_are_kept, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
