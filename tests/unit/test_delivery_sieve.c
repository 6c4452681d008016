/* delivery_sieve: LMTP into the store by way of the recipients' scripts. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/sieve_scripts.h"
#include "tests/unit/pop3_rig.h"
#include "tests/unit/relay_fake.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define ROOM 1048576u
#define STORED "250 2.0.0 Ok: stored\r\n"

static struct pop3_rig rig;
static struct relay_fake relay;
static int log_pipe[2];

static void outgoing_begin(void)
{
    const struct outgoing_settings settings = {
        .shard = &rig.shard, .network = rig.network, .store = rig.store.store};
    const struct outgoing_conf conf = {.hostname = slice_text("mail.test"),
                                       .relay = relay_fake_address,
                                       .keep_trying_ns = 86400ull * 1000000000ull};
    check(outgoing_open(&rig.mailbox.outgoing, &settings, &conf) == 0);
}

static void outgoing_end(void)
{
    outgoing_abort(rig.mailbox.outgoing);
    outgoing_close(rig.mailbox.outgoing);
    rig.mailbox.outgoing = NULL;
}

static int set_up(void **state)
{
    (void)state;
    pop3_rig_open(&rig, ROOM, NULL);
    check(pipe2(log_pipe, O_NONBLOCK) == 0);
    logger_open(&rig.logger, log_pipe[1], LOGGER_WARNING);
    rig.mailbox.lmtp_settings = (struct smtp_server_settings){.hostname = slice_text("mail.test"),
                                                              .lmtp = true,
                                                              .recipients_max = 1000,
                                                              .command_ns = 3600000000000ull,
                                                              .data_ns = 3600000000000ull,
                                                              .pipelining = true,
                                                              .smtputf8 = true};
    check(sieve_scripts_open(&rig.mailbox.scripts, rig.store.store, 2) == 0);
    relay_fake_open(&relay, rig.network);
    outgoing_begin();
    pop3_rig_listen(&rig, delivery_accepted);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sieve_scripts_close(rig.mailbox.scripts);
    if (rig.mailbox.outgoing != NULL) {
        outgoing_end();
    }
    relay_fake_close(&relay);
    pop3_rig_close(&rig);
    close(log_pipe[0]);
    close(log_pipe[1]);
    return 0;
}

static const char *logged(void)
{
    static char text[65536];
    ssize_t size = read(log_pipe[0], text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

/* ---- The store's side ---- */

static void property_set(const char *name, const char *key, const char *value)
{
    struct mailstore_user *user;
    struct told told;
    const struct mailstore_property property = {.key = slice_text(key), .value = slice_text(value)};
    check(mailstore_user_open(rig.store.store, slice_text(name), &user) == 0);
    check(mailstore_property_set(rig.store.store, user, &property, told_init(&told)) == 0);
    check(told_wait(&rig.store, &told) == 0);
    mailstore_user_close(rig.store.store, user);
}

static void script_set(const char *user, const char *text)
{
    property_set(user, SIEVE_SCRIPT_KEY "main", text);
    property_set(user, SIEVE_ACTIVE_KEY, "main");
}

static void mailbox_make(const char *name, const char *mailbox)
{
    struct mailstore_user *user;
    struct told told;
    struct mailstore_create create = {.mailbox = slice_text(mailbox)};
    check(mailstore_user_open(rig.store.store, slice_text(name), &user) == 0);
    check(mailstore_box_create(rig.store.store, user, &create, told_init(&told)) == 0);
    check(told_wait(&rig.store, &told) == 0);
    mailstore_user_close(rig.store.store, user);
}

static void entry_say(char **at, const struct mailstore_box *box,
                      const struct mailstore_entry *entry)
{
    *at += sprintf(*at, "(%s%s", (entry->flags & MAILSTORE_SEEN) != 0 ? "S" : "",
                   (entry->flags & MAILSTORE_FLAGGED) != 0 ? "F" : "");
    for (uint32_t i = 0; i < box->keyword_count; i++) {
        if ((entry->keywords & (1ull << i)) != 0) {
            struct slice name = mailstore_keyword(box, i);
            *at += sprintf(*at, " %.*s", (int)name.size, (const char *)name.bytes);
        }
    }
    *at += sprintf(*at, ")");
}

/* "INBOX () (S) Lists/c (F label)": the mailboxes that hold something, and each message's flags. */
static const char *held(const char *name)
{
    static char text[65536];
    char *at = text;
    struct mailstore_user *user;
    *at = '\0';
    check(mailstore_user_open(rig.store.store, slice_text(name), &user) == 0);
    struct mailstore_box *box = mailstore_box_next(user, NULL);
    for (; box != NULL; box = mailstore_box_next(user, box)) {
        check(mailstore_box_open(rig.store.store, box) == 0);
        if (box->count > 0) {
            at += sprintf(at, "%s%.*s", at > text ? " " : "", (int)box->name.size,
                          (const char *)box->name.bytes);
        }
        for (uint32_t i = 0; i < box->count; i++) {
            *at++ = ' ';
            entry_say(&at, box, &box->entries[i]);
        }
        mailstore_box_close(rig.store.store, box);
    }
    mailstore_user_close(rig.store.store, user);
    return text;
}

/* ---- The client's side ---- */

static struct pop3_client *client;

static void greet(void)
{
    client = pop3_client_connect(&rig);
    pop3_client_talk(&rig, client, "");
    pop3_client_talk(&rig, client, "LHLO client.test\r\n");
}

/* recipients: "RCPT TO:<a@y>\r\n" and so on. What the end of DATA is answered. */
static const char *deliver_to(const char *recipients, const char *message)
{
    char text[4096];
    greet();
    snprintf(text, sizeof text, "MAIL FROM:<boss@x.test>\r\n%sDATA\r\n", recipients);
    const char *heard = pop3_client_talk(&rig, client, text);
    assert_non_null(strstr(heard, "354 "));
    pop3_client_say(client, message);
    return pop3_client_talk(&rig, client, ".\r\n");
}

#define MESSAGE "Subject: =?utf-8?q?caf=C3=A9?=\r\nX-List: c\r\n\r\nbody\r\n"

static const char *deliver(const char *message)
{
    return deliver_to("RCPT TO:<ann@y>\r\n", message);
}

/* ---- Tests ---- */

static void without_a_script_mail_goes_into_the_inbox(void **state)
{
    (void)state;
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
}

static void a_script_that_is_not_active_does_not_run(void **state)
{
    (void)state;
    property_set("ann", SIEVE_SCRIPT_KEY "main", "discard;");
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
}

struct scene {
    const char *script, *message, *answer, *held, *logged;
};

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
    {"require \"body\"; if body :contains \"x\" { discard; }", MESSAGE, STORED, "INBOX ()",
     "the script is wrong: line 1"},
    {"require \"editheader\"; addheader \"a\" \"b\"; discard;", MESSAGE, STORED, "INBOX ()",
     "the script is wrong: line 1"},
    {"require [\"include\"]; include \"other\";", MESSAGE, STORED, "Other ()", ""},
};

static void scripts_decide_where_mail_goes(void **state)
{
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        const struct scene *scene = &scenes[i];
        if (i > 0) {
            set_up(state);
        }
        mailbox_make("ann", "There");
        property_set("ann", SIEVE_SCRIPT_KEY "other",
                     "require [\"fileinto\",\"mailbox\"]; fileinto :create \"Other\";");
        script_set("ann", scene->script);
        print_message("%s\n", scene->script);
        assert_string_equal(deliver(scene->message), scene->answer);
        assert_string_equal(held("ann"), scene->held);
        const char *lines = logged();
        assert_true(scene->logged[0] == '\0' ? lines[0] == '\0'
                                             : strstr(lines, scene->logged) != NULL);
        if (i + 1 < sizeof scenes / sizeof scenes[0]) {
            tear_down(state);
        }
    }
}

static void each_recipient_has_his_own_script_and_answer(void **state)
{
    (void)state;
    script_set("ann", "discard;");
    script_set("bob", "require \"reject\"; reject \"No\";");
    script_set("cid", "require [\"fileinto\",\"mailbox\"]; fileinto :create \"A\"; "
                      "fileinto :create \"B\"; keep;");
    assert_string_equal(deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<cid@y>\r\n"
                                   "RCPT TO:<dan@y>\r\nRCPT TO:<bob@z>\r\nRCPT TO:<cid@z>\r\n",
                                   MESSAGE),
                        STORED "550 5.7.1 No\r\n" STORED STORED "550 5.7.1 No\r\n" STORED);
    assert_string_equal(held("ann"), "");
    assert_string_equal(held("bob"), "");
    assert_string_equal(held("cid"), "INBOX () A () B ()");
    assert_string_equal(held("dan"), "INBOX ()");
    assert_int_equal(rig.mailbox.counters.delivered, 4);
    assert_int_equal(rig.mailbox.counters.refused, 2);
}

static void after_a_refusal_the_next_message_of_the_session_is_its_own(void **state)
{
    (void)state;
    script_set("ann", "require \"reject\"; if header :is \"a\" \"b\" { reject \"No\"; }");
    assert_string_equal(deliver("A: b\r\n\r\n"), "550 5.7.1 No\r\n");
    pop3_client_talk(&rig, client, "MAIL FROM:<>\r\nRCPT TO:<ann@y>\r\nDATA\r\n");
    assert_string_equal(pop3_client_talk(&rig, client, "A: c\r\n\r\n.\r\n"), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
}

static void a_subaddress_is_kept_in_its_mailbox_and_seen_by_the_script(void **state)
{
    (void)state;
    mailbox_make("ann", "lists");
    script_set("ann", "require [\"envelope\",\"subaddress\",\"imap4flags\"];"
                      "if envelope :detail \"to\" \"lists\" { addflag \"\\\\Seen\"; }");
    assert_string_equal(deliver_to("RCPT TO:<ann+lists@y>\r\n", MESSAGE), STORED);
    assert_string_equal(held("ann"), "lists (S)");
}

static void a_script_that_fails_when_it_runs_keeps_the_message(void **state)
{
    (void)state;
    script_set("ann", "require \"ihave\"; error \"broken\";");
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_non_null(strstr(logged(), "sieve: ann: line 1: "));
}

static void vacation_is_logged_and_keeps_the_message(void **state)
{
    (void)state;
    script_set("ann", "require \"vacation\"; vacation \"away\";");
    assert_string_equal(deliver("From: boss@x.test\r\nTo: ann@y\r\n\r\n"), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_non_null(strstr(logged(), "vacation is not done"));
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
    script_set("ann", "require \"imap4flags\"; if exists \"x-first\" { addflag \"\\\\Seen\"; }"
                      "if exists \"x-last\" { addflag \"\\\\Flagged\"; }");
    assert_string_equal(deliver(message), STORED);
    assert_string_equal(held("ann"), "INBOX (S)");
}

static void a_program_is_compiled_once_and_again_when_the_text_changes(void **state)
{
    (void)state;
    const struct sieve_scripts_counters *counters = sieve_scripts_counters(rig.mailbox.scripts);
    script_set("ann", "discard;");
    deliver(MESSAGE);
    deliver(MESSAGE);
    assert_int_equal(counters->compiled, 1);
    assert_int_equal(counters->found, 1);
    script_set("ann", "keep;");
    deliver(MESSAGE);
    assert_int_equal(counters->compiled, 2);
    assert_string_equal(held("ann"), "INBOX ()");
}

static void of_more_programs_than_are_kept_the_one_unused_longest_goes(void **state)
{
    (void)state;
    const struct sieve_scripts_counters *counters = sieve_scripts_counters(rig.mailbox.scripts);
    script_set("ann", "discard;");
    script_set("bob", "discard;");
    script_set("cid", "discard;");
    deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE);
    deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    deliver_to("RCPT TO:<cid@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 3);
    deliver_to("RCPT TO:<ann@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 3);
    deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE);
    assert_int_equal(counters->compiled, 4);
}

static void what_a_script_includes_may_change_without_it(void **state)
{
    (void)state;
    property_set("ann", SIEVE_SCRIPT_KEY "other", "keep;");
    script_set("ann", "require \"include\"; include \"other\";");
    deliver(MESSAGE);
    assert_string_equal(held("ann"), "INBOX ()");
    property_set("ann", SIEVE_SCRIPT_KEY "other", "discard;");
    deliver(MESSAGE);
    assert_string_equal(held("ann"), "INBOX ()");
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
        script_set(name, script);
        at += sprintf(at, "RCPT TO:<%s@y>\r\n", name);
    }
    const char *answers = deliver_to(recipients, MESSAGE);
    for (int i = 0; i < USERS; i++) {
        assert_memory_equal(answers + (size_t)i * strlen(STORED), STORED, strlen(STORED));
    }
    assert_memory_equal(held("u00"), "b00 () b01 ()", 13);
    assert_string_equal(held("u39"), "INBOX ()");
    assert_non_null(strstr(logged(), "sieve: u39: too many places"));
}

/* ---- What is redirected ---- */

#define TO_RELAY "FROM <boss@x.test> TO <a@z>\n"

/* How many letters and texts the store still has of it. */
static uint32_t outgoing_left(void)
{
    return outgoing_counters(rig.mailbox.outgoing)->waiting + pop3_rig_count(&rig, OUTGOING_USER);
}

static void a_redirected_message_reaches_the_relay_with_its_envelope_and_text(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    assert_string_equal(deliver("Subject: s\r\n\r\n..dot\r\nbody\r\n"), STORED);
    const char *end = "Subject: s\r\n\r\n..dot\r\nbody\r\n";
    const char *begin =
        TO_RELAY "X-Sieve-Redirected-From: ann@y\r\nDelivered-To: ann@y\r\nReceived: ";
    assert_int_equal(relay.messages, 1);
    assert_memory_equal(relay.taken, begin, strlen(begin));
    assert_string_equal(relay.taken + relay.taken_bytes - strlen(end), end);
    assert_string_equal(held("ann"), "");
    assert_int_equal(outgoing_left(), 0);
}

static void a_message_longer_than_a_buffer_is_redirected_whole(void **state)
{
    (void)state;
    static char message[60000];
    char *at = message + sprintf(message, "Subject: s\r\n\r\n");
    for (int i = 0; i < 700; i++) {
        at += sprintf(at, "..%060d\r\n", i);
    }
    script_set("ann", "redirect \"a@z\";");
    assert_string_equal(deliver(message), STORED);
    assert_int_equal(relay.messages, 1);
    assert_string_equal(relay.taken + relay.taken_bytes - strlen(message), message);
}

static void each_address_and_recipient_has_a_letter_of_his_own(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\"; redirect \"b@z\"; keep;");
    script_set("bob", "redirect \"a@z\";");
    assert_string_equal(
        deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<ann@w>\r\n", MESSAGE),
        STORED STORED STORED);
    assert_int_equal(relay.messages, 3);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_int_equal(outgoing_left(), 0);
}

static void where_no_relay_is_set_the_message_is_kept(void **state)
{
    (void)state;
    outgoing_reload(rig.mailbox.outgoing, &(struct outgoing_conf){.hostname = slice_text("m")});
    script_set("ann", "redirect \"a@z\";");
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_non_null(strstr(logged(), "redirect needs sieve.relay"));
    assert_int_equal(relay.connections, 0);
}

static void while_the_relay_does_not_answer_the_letter_waits_and_goes_later(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    relay.verb = "greeting";
    relay.answer = "";
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_int_equal(outgoing_left(), 2);
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(outgoing_left(), 2);
    assert_true(relay.connections >= 2);
    relay.verb = NULL;
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(outgoing_left(), 0);
    assert_string_equal(held("ann"), "");
}

static void a_letter_that_the_relay_defers_goes_later_and_others_before_it(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    script_set("bob", "redirect \"b@z\";");
    relay.verb = "RCPT TO:<a";
    relay.answer = "450 4.2.0 Later\r\n";
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE), STORED);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(outgoing_left(), 2);
    relay.verb = NULL;
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(relay.messages, 2);
    assert_int_equal(outgoing_left(), 0);
}

static void what_the_relay_refuses_goes_back_into_the_inbox(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    relay.verb = "RCPT";
    relay.answer = "550 5.1.1 Nobody\r\n";
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_int_equal(outgoing_left(), 0);
    assert_non_null(strstr(logged(), "550 5.1.1 Nobody"));
}

static void what_could_not_be_sent_for_too_long_goes_back_into_the_inbox(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    relay.verb = ".";
    relay.answer = "451 4.3.0 Later\r\n";
    assert_string_equal(deliver(MESSAGE), STORED);
    assert_int_equal(outgoing_left(), 2);
    rig.store.wall_s += 86400 + 3600;
    pop3_rig_pass(&rig, 3600);
    assert_string_equal(held("ann"), "INBOX ()");
    assert_int_equal(outgoing_left(), 0);
}

static void service_crashes(void)
{
    outgoing_end();
    sieve_scripts_close(rig.mailbox.scripts);
    pop3_rig_crash(&rig);
    check(sieve_scripts_open(&rig.mailbox.scripts, rig.store.store, 2) == 0);
    outgoing_begin();
}

static void a_crash_before_the_relay_has_it_loses_no_redirect(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\"; redirect \"b@z\";");
    relay.verb = "greeting";
    relay.answer = "";
    assert_string_equal(deliver(MESSAGE), STORED);
    service_crashes();
    assert_int_equal(outgoing_left(), 3);
    relay.verb = NULL;
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(relay.messages, 2);
    assert_int_equal(outgoing_left(), 0);
    service_crashes();
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(relay.messages, 2);
}

static void a_crash_within_the_dialogue_sends_it_again(void **state)
{
    (void)state;
    script_set("ann", "redirect \"a@z\";");
    relay.verb = ".";
    relay.answer = "";
    assert_string_equal(deliver(MESSAGE), STORED);
    service_crashes();
    relay.verb = NULL;
    pop3_rig_pass(&rig, 3600);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(outgoing_left(), 0);
}

static void a_record_without_its_text_and_a_text_without_a_record_are_dropped(void **state)
{
    (void)state;
    struct outgoing_item *item;
    const struct outgoing_letter letter = {
        .text = 12345, .born_s = rig.store.wall_s, .forward_path = slice_text("a@z")};
    check(outgoing_put(rig.mailbox.outgoing, &letter, &item) == 0);
    pop3_rig_run(&rig);
    pop3_rig_deliver(&rig, OUTGOING_USER, slice_text("A: b\r\n\r\n"));
    service_crashes();
    pop3_rig_run(&rig);
    assert_int_equal(outgoing_left(), 0);
    assert_int_equal(relay.messages, 0);
}

static void when_too_many_letters_wait_the_recipient_is_to_be_sent_it_again(void **state)
{
    (void)state;
    const struct outgoing_letter letter = {.born_s = rig.store.wall_s,
                                           .forward_path = slice_text("a@z")};
    relay.verb = "greeting";
    relay.answer = "";
    for (uint32_t i = 0; i < OUTGOING_LETTERS_MAX; i++) {
        check(outgoing_put(rig.mailbox.outgoing, &letter, NULL) == 0);
        if (i % 100 == 0) {
            pop3_rig_run(&rig);
        }
    }
    pop3_rig_run(&rig);
    logged();
    script_set("ann", "redirect \"a@z\"; keep;");
    assert_string_equal(deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", MESSAGE),
                        "451 4.3.0 The message could not be stored, try again later\r\n" STORED);
    assert_string_equal(held("ann"), "");
    assert_string_equal(held("bob"), "INBOX ()");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(without_a_script_mail_goes_into_the_inbox),
        TEST(a_script_that_is_not_active_does_not_run),
        TEST(scripts_decide_where_mail_goes),
        TEST(each_recipient_has_his_own_script_and_answer),
        TEST(after_a_refusal_the_next_message_of_the_session_is_its_own),
        TEST(a_subaddress_is_kept_in_its_mailbox_and_seen_by_the_script),
        TEST(a_script_that_fails_when_it_runs_keeps_the_message),
        TEST(vacation_is_logged_and_keeps_the_message),
        TEST(a_field_behind_the_bound_is_not_seen_and_one_before_it_is),
        TEST(a_program_is_compiled_once_and_again_when_the_text_changes),
        TEST(of_more_programs_than_are_kept_the_one_unused_longest_goes),
        TEST(what_a_script_includes_may_change_without_it),
        TEST(scripts_that_want_more_places_than_a_commit_has_leave_the_rest_where_it_was),
        TEST(a_redirected_message_reaches_the_relay_with_its_envelope_and_text),
        TEST(a_message_longer_than_a_buffer_is_redirected_whole),
        TEST(each_address_and_recipient_has_a_letter_of_his_own),
        TEST(where_no_relay_is_set_the_message_is_kept),
        TEST(while_the_relay_does_not_answer_the_letter_waits_and_goes_later),
        TEST(a_letter_that_the_relay_defers_goes_later_and_others_before_it),
        TEST(what_the_relay_refuses_goes_back_into_the_inbox),
        TEST(what_could_not_be_sent_for_too_long_goes_back_into_the_inbox),
        TEST(a_crash_before_the_relay_has_it_loses_no_redirect),
        TEST(a_crash_within_the_dialogue_sends_it_again),
        TEST(a_record_without_its_text_and_a_text_without_a_record_are_dropped),
        TEST(when_too_many_letters_wait_the_recipient_is_to_be_sent_it_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
