/* delivery_sieve: where mail goes by way of the recipients' scripts. */
#include "tests/unit/delivery_rig.h"
#include "engine/core/check.h"
#include "engine/mailbox/sieve_message.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void without_a_script_mail_goes_into_the_inbox(void **state)
{
    (void)state;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void a_script_that_is_not_active_does_not_run(void **state)
{
    (void)state;
    lmtp_property_set("ann", SIEVE_SCRIPT_KEY "main", "discard;");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

struct scene {
    const char *script, *message, *answer, *held, *logged;
};

#define BODY(test) "require \"body\"; if body " test " { discard; }"
#define ENCODED "MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nYm9keQ==\r\n"
#define PARTS                                                                                      \
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"                       \
    "before\r\n--b\r\n"                                                                            \
    "Content-Type: text/plain; charset=iso-8859-1\r\n"                                             \
    "Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9\r\n--b\r\n"                         \
    "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nc2VjcmV0\r\n--b\r\n"  \
    "Content-Type: message/rfc822\r\n\r\nSubject: within\r\n\r\ninner\r\n--b--\r\nbehind\r\n"

static const struct scene scenes[] = {
    {"keep;", MESSAGE, STORED, "INBOX ()", ""},
    {"discard;", MESSAGE, STORED, "", ""},
    {"require \"fileinto\"; fileinto \"There\";", MESSAGE, STORED, "There ()", ""},
    {"require [\"fileinto\",\"copy\"]; fileinto :copy \"There\";", MESSAGE, STORED,
     "INBOX () There ()", ""},
    {"require \"fileinto\"; fileinto \"Nowhere\";", MESSAGE, STORED, "INBOX ()", ""},
    {"require [\"fileinto\",\"mailbox\"]; fileinto :create \"New/below\";", MESSAGE, STORED,
     "New/below ()", ""},
    {"require [\"fileinto\",\"mailbox\"]; fileinto :create \"New//below\";", MESSAGE, STORED,
     "INBOX ()", "name"},
    {"require [\"fileinto\",\"mailbox\"]; if mailboxexists \"There\" { fileinto \"There\"; }",
     MESSAGE, STORED, "There ()", ""},
    {"require [\"fileinto\",\"mailbox\"]; if not mailboxexists \"Nowhere\" { fileinto \"There\"; }",
     MESSAGE, STORED, "There ()", ""},
    {"require [\"fileinto\",\"imap4flags\"]; fileinto :flags "
     "[\"\\\\Seen\",\"$Label\",\"\\\\flagged\"] "
     "\"There\";",
     MESSAGE, STORED, "There (SF $Label)", ""},
    {"require \"imap4flags\"; addflag \"\\\\Seen\";", MESSAGE, STORED, "INBOX (S)", ""},
    {"if header :contains \"subject\" \"caf\xc3\xa9\" { discard; }", MESSAGE, STORED, "", ""},
    {"if header :is \"x-list\" \"c\" { discard; }", MESSAGE, STORED, "", ""},
    {"if header :is \"x-list\" \"d\" { discard; }", MESSAGE, STORED, "INBOX ()", ""},
    {"if header :is \"x\" \"two\" { discard; }", "X: one\r\nX: two\r\n\r\nX: three\r\n", STORED, "",
     ""},
    {"if header :is \"x\" \"three\" { discard; }", "X: one\r\nX: two\r\n\r\nX: three\r\n", STORED,
     "INBOX ()", ""},
    {"if size :over 1K { discard; }", MESSAGE, STORED, "INBOX ()", ""},
    {"if size :under 1K { discard; }", MESSAGE, STORED, "", ""},
    {"require \"envelope\"; if envelope :is \"from\" \"boss@x.test\" { discard; }", MESSAGE, STORED,
     "", ""},
    {"require \"envelope\"; if envelope :is \"to\" \"ann@y\" { discard; }", MESSAGE, STORED, "",
     ""},
    {"require \"environment\"; if environment :is \"location\" \"MDA\" { discard; }", MESSAGE,
     STORED, "", ""},
    {"require \"reject\"; reject \"Not\r\n  for me.\r\n\";", MESSAGE, "550 5.7.1 Not for me.\r\n",
     "", ""},
    {"require \"ereject\"; ereject \"No\";", MESSAGE, "550 5.7.1 No\r\n", "", ""},
    {"require \"ereject\"; ereject \"n\xc3\xa9\";", MESSAGE,
     "550 5.7.1 The recipient does not want this message\r\n", "", ""},
    {"redirect \"a@z\";", MESSAGE, STORED, "", ""},
    {"require \"copy\"; redirect :copy \"a@z\";", MESSAGE, STORED, "INBOX ()", ""},
    {"redirect \"a@z\";", "X-Sieve-Redirected-From: bob@y\r\n\r\n", STORED, "", ""},
    {"redirect \"a@z\";", "X-Sieve-Redirected-From: Ann@y\r\n\r\n", STORED, "INBOX ()",
     "redirected from here before"},
    {"redirect \"a@z\";", "Delivered-To: ann@y\r\n\r\n", STORED, "INBOX ()",
     "redirected from here before"},
    {"redirect \"a@z\"; redirect \"b@z\"; redirect \"c@z\"; redirect \"d@z\"; redirect \"e@z\";",
     MESSAGE, STORED, "INBOX ()", "more than 4"},
    {"discard", MESSAGE, STORED, "INBOX ()", "the script is wrong: line 1"},
    {BODY(":contains \"body\""), MESSAGE, STORED, "", ""},
    {BODY(":contains \"x\""), MESSAGE, STORED, "INBOX ()", ""},
    {BODY(":contains \"X-List\""), MESSAGE, STORED, "INBOX ()", ""},
    {BODY(":raw :is \"body\r\n\""), MESSAGE, STORED, "", ""},
    {BODY(":raw :contains \"Ym9keQ\""), ENCODED, STORED, "", ""},
    {BODY(":text :contains \"body\""), ENCODED, STORED, "", ""},
    {BODY(":text :contains \"Ym9keQ\""), ENCODED, STORED, "INBOX ()", ""},
    {BODY(":text :contains \"caf\xc3\xa9\""), PARTS, STORED, "", ""},
    {BODY(":text :contains \"secret\""), PARTS, STORED, "INBOX ()", ""},
    {BODY(":content \"application/x\" :contains \"secret\""), PARTS, STORED, "", ""},
    {BODY(":content \"application\" :contains \"secret\""), PARTS, STORED, "", ""},
    {BODY(":content \"text/html\" :contains \"secret\""), PARTS, STORED, "INBOX ()", ""},
    {BODY(":content \"multipart\" :contains \"before\""), PARTS, STORED, "", ""},
    {BODY(":content \"multipart\" :contains \"behind\""), PARTS, STORED, "", ""},
    {BODY(":content \"multipart\" :contains \"--b\""), PARTS, STORED, "INBOX ()", ""},
    {BODY(":content \"message/rfc822\" :contains \"Subject: within\""), PARTS, STORED, "", ""},
    {BODY(":content \"message/rfc822\" :contains \"inner\""), PARTS, STORED, "INBOX ()", ""},
    {BODY(":content \"text\" :contains \"inner\""), PARTS, STORED, "", ""},
    {BODY(":contains \"\""), "Subject: without a body\r\n", STORED, "INBOX ()", ""},
    {"require \"editheader\"; addheader \"a\" \"b\"; discard;", MESSAGE, STORED, "", ""},
    {"require [\"editheader\",\"imap4flags\"]; addheader \"X-A\" \"b\";"
     "if header :is \"x-a\" \"b\" { addflag \"\\\\Seen\"; }",
     MESSAGE, STORED, "INBOX (S)", ""},
    {"require \"enotify\"; discard;", MESSAGE, STORED, "INBOX ()", "the script is wrong: line 1"},
    {"require [\"include\"]; include \"other\";", MESSAGE, STORED, "Other ()", ""},
};

static void scripts_decide_where_mail_goes(void **state)
{
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        const struct scene *scene = &scenes[i];
        if (i > 0) {
            delivery_set_up(state);
        }
        lmtp_mailbox_make("ann", "There");
        lmtp_property_set("ann", SIEVE_SCRIPT_KEY "other",
                          "require [\"fileinto\",\"mailbox\"]; fileinto :create \"Other\";");
        lmtp_script_set("ann", scene->script);
        print_message("%s\n", scene->script);
        assert_string_equal(lmtp_deliver(scene->message), scene->answer);
        assert_string_equal(lmtp_held("ann"), scene->held);
        const char *lines = lmtp_logged();
        assert_true(scene->logged[0] == '\0' ? lines[0] == '\0'
                                             : strstr(lines, scene->logged) != NULL);
        if (i + 1 < sizeof scenes / sizeof scenes[0]) {
            delivery_tear_down(state);
        }
    }
}

static void each_recipient_has_his_own_script_and_answer(void **state)
{
    (void)state;
    lmtp_script_set("ann", "discard;");
    lmtp_script_set("bob", "require \"reject\"; reject \"No\";");
    lmtp_script_set("cid", "require [\"fileinto\",\"mailbox\"]; fileinto :create \"A\"; "
                           "fileinto :create \"B\"; keep;");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<cid@y>\r\n"
                                        "RCPT TO:<dan@y>\r\nRCPT TO:<bob@z>\r\nRCPT TO:<cid@z>\r\n",
                                        MESSAGE),
                        STORED "550 5.7.1 No\r\n" STORED STORED "550 5.7.1 No\r\n" STORED);
    assert_string_equal(lmtp_held("ann"), "");
    assert_string_equal(lmtp_held("bob"), "");
    assert_string_equal(lmtp_held("cid"), "INBOX () A () B ()");
    assert_string_equal(lmtp_held("dan"), "INBOX ()");
    assert_int_equal(lmtp_rig.mailbox.counters.delivered, 4);
    assert_int_equal(lmtp_rig.mailbox.counters.refused, 2);
}

static void after_a_refusal_the_next_message_of_the_session_is_its_own(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"reject\"; if header :is \"a\" \"b\" { reject \"No\"; }");
    assert_string_equal(lmtp_deliver("A: b\r\n\r\n"), "550 5.7.1 No\r\n");
    pop3_client_talk(&lmtp_rig, lmtp_client, "MAIL FROM:<>\r\nRCPT TO:<ann@y>\r\nDATA\r\n");
    assert_string_equal(pop3_client_talk(&lmtp_rig, lmtp_client, "A: c\r\n\r\n.\r\n"), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void a_subaddress_is_kept_in_its_mailbox_and_seen_by_the_script(void **state)
{
    (void)state;
    lmtp_mailbox_make("ann", "lists");
    lmtp_script_set("ann", "require [\"envelope\",\"subaddress\",\"imap4flags\"];"
                           "if envelope :detail \"to\" \"lists\" { addflag \"\\\\Seen\"; }");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+lists@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "lists (S)");
}

static void a_script_that_fails_when_it_runs_keeps_the_message(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"ihave\"; error \"broken\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "sieve: ann: line 1: "));
}

static void a_field_behind_the_bound_is_not_seen_and_one_before_it_is(void **state)
{
    (void)state;
    static char message[DELIVERY_SIEVE_HEADER_BYTES_MAX + 4096];
    char *at = message + sprintf(message, "X-First: 1\r\n");
    while (at < message + DELIVERY_SIEVE_HEADER_BYTES_MAX) {
        at += sprintf(at, "X-Fill: %0900d\r\n", 0);
    }
    strcpy(at, "X-Last: 1\r\n\r\n");
    lmtp_script_set("ann", "require \"imap4flags\"; if exists \"x-first\" { addflag \"\\\\Seen\"; }"
                           "if exists \"x-last\" { addflag \"\\\\Flagged\"; }");
    assert_string_equal(lmtp_deliver(message), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX (S)");
}

static void a_program_is_compiled_once_and_again_when_the_text_changes(void **state)
{
    (void)state;
    const struct sieve_scripts_counters *counters =
        sieve_scripts_counters(lmtp_rig.mailbox.scripts);
    lmtp_script_set("ann", "discard;");
    lmtp_deliver(MESSAGE);
    lmtp_deliver(MESSAGE);
    assert_int_equal(counters->compiled, 1);
    assert_int_equal(counters->found, 1);
    lmtp_script_set("ann", "keep;");
    lmtp_deliver(MESSAGE);
    assert_int_equal(counters->compiled, 2);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void of_more_programs_than_are_kept_the_one_unused_longest_goes(void **state)
{
    (void)state;
    const struct sieve_scripts_counters *counters =
        sieve_scripts_counters(lmtp_rig.mailbox.scripts);
    lmtp_script_set("ann", "discard;");
    lmtp_script_set("bob", "discard;");
    lmtp_script_set("cid", "discard;");
    lmtp_deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    lmtp_deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE);
    lmtp_deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    lmtp_deliver_to("RCPT TO:<cid@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 3);
    lmtp_deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 3);
    lmtp_deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 4);
}

static void what_a_script_includes_may_change_without_it(void **state)
{
    (void)state;
    lmtp_property_set("ann", SIEVE_SCRIPT_KEY "other", "keep;");
    lmtp_script_set("ann", "require \"include\"; include \"other\";");
    lmtp_deliver(MESSAGE);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    lmtp_property_set("ann", SIEVE_SCRIPT_KEY "other", "discard;");
    lmtp_deliver(MESSAGE);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void
scripts_that_want_more_places_than_a_commit_has_leave_the_rest_where_it_was(void **state)
{
    (void)state;
    enum { USERS = 40, BOXES = 30 };
    char script[4096], recipients[2048], name[16];
    char *at = script + sprintf(script, "require [\"fileinto\",\"mailbox\"];");
    for (int i = 0; i < BOXES; i++) {
        at += sprintf(at, "fileinto :create \"b%02d\";", i);
    }
    at = recipients;
    for (int i = 0; i < USERS; i++) {
        snprintf(name, sizeof name, "u%02d", i);
        lmtp_script_set(name, script);
        at += sprintf(at, "RCPT TO:<%s@y>\r\n", name);
    }
    const char *answers = lmtp_deliver_to(recipients, MESSAGE);
    for (int i = 0; i < USERS; i++) {
        assert_memory_equal(answers + (size_t)i * strlen(STORED), STORED, strlen(STORED));
    }
    assert_memory_equal(lmtp_held("u00"), "b00 () b01 ()", 13);
    assert_string_equal(lmtp_held("u39"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "sieve: u39: too many places"));
}

static void of_a_large_body_only_the_first_megabyte_is_looked_at(void **state)
{
    (void)state;
    enum { BYTES = SIEVE_MAIL_BODY_BYTES_MAX };
    static char message[BYTES + 8192];
    char *at = message + sprintf(message, "Subject: s\r\n\r\nfirst\r\n");
    while (at < message + BYTES) {
        at += sprintf(at, "%0900d\r\n", 0);
    }
    sprintf(at, "%0900d\r\n%0900d\r\nlast\r\n", 0, 0);
    lmtp_script_set("ann", "require [\"body\",\"imap4flags\"];"
                           "if body :contains \"first\" { addflag \"\\\\Seen\"; }"
                           "if body :raw :contains \"last\" { addflag \"\\\\Flagged\"; }");
    assert_string_equal(lmtp_deliver(message), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX (S)");
    lmtp_script_set("ann", "keep;");
    lmtp_deliver(MESSAGE);
    assert_int_equal(lmtp_rig.mailbox.kept_bytes, 0);
}

/* ---- Quota rules ---- */

static void the_quota_rule_of_a_mailbox_lets_more_in_or_leaves_it_out(void **state)
{
    (void)state;
    struct conf_quota_rule rules[] = {
        {.mailbox = "Tra*", .more_messages = 1, .counted = true},
        {.mailbox = "Spam", .counted = false},
    };
    lmtp_rig.conf->users.quota_messages = 2;
    lmtp_rig.conf->users.quota_rules = rules;
    lmtp_rig.conf->users.quota_rules_count = 2;
    lmtp_mailbox_make("ann", "Trash");
    lmtp_mailbox_make("ann", "Spam");
    lmtp_script_set("ann", "require \"fileinto\"; if exists \"x-t\" { fileinto \"Trash\"; }"
                           "if exists \"x-s\" { fileinto \"Spam\"; }");
    const char *full = "452 4.2.2 Mailbox is full\r\n";
    for (int i = 0; i < 3; i++) {
        assert_string_equal(lmtp_deliver("X-S: 1\r\n\r\n"), STORED);
    }
    assert_string_equal(lmtp_deliver("\r\n"), STORED);
    assert_string_equal(lmtp_deliver("\r\n"), STORED);
    assert_string_equal(lmtp_deliver("\r\n"), full);
    assert_string_equal(lmtp_deliver("X-T: 1\r\n\r\n"), STORED);
    assert_string_equal(lmtp_deliver("X-T: 1\r\n\r\n"), full);
    assert_string_equal(lmtp_deliver("X-S: 1\r\n\r\n"), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Spam@y>\r\n", "\r\n"), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Nowhere@y>\r\n", "\r\n"), full);
    lmtp_rig.conf->users.quota_rules_count = 0;
    lmtp_rig.conf->users.quota_rules = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DELIVERY_TEST(without_a_script_mail_goes_into_the_inbox),
        DELIVERY_TEST(a_script_that_is_not_active_does_not_run),
        DELIVERY_TEST(scripts_decide_where_mail_goes),
        DELIVERY_TEST(each_recipient_has_his_own_script_and_answer),
        DELIVERY_TEST(after_a_refusal_the_next_message_of_the_session_is_its_own),
        DELIVERY_TEST(a_subaddress_is_kept_in_its_mailbox_and_seen_by_the_script),
        DELIVERY_TEST(a_script_that_fails_when_it_runs_keeps_the_message),
        DELIVERY_TEST(a_field_behind_the_bound_is_not_seen_and_one_before_it_is),
        DELIVERY_TEST(a_program_is_compiled_once_and_again_when_the_text_changes),
        DELIVERY_TEST(of_more_programs_than_are_kept_the_one_unused_longest_goes),
        DELIVERY_TEST(what_a_script_includes_may_change_without_it),
        DELIVERY_TEST(scripts_that_want_more_places_than_a_commit_has_leave_the_rest_where_it_was),
        DELIVERY_TEST(of_a_large_body_only_the_first_megabyte_is_looked_at),
        DELIVERY_TEST(the_quota_rule_of_a_mailbox_lets_more_in_or_leaves_it_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
