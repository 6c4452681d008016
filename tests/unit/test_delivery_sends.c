/* delivery_sieve and outgoing: what scripts send reaches the relay once, or comes back, also over a crash. */
#include "tests/unit/delivery_rig.h"
#include "engine/core/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* ---- What fails ---- */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
int __real_mailstore_box_open(struct mailstore *store, struct mailstore_box *box);
int __wrap_mailstore_box_open(struct mailstore *store, struct mailstore_box *box);

static long until_failure = -1; /* allocations that still succeed; negative: all do */
static int box_open_status;     /* 0: as it is */

void *__wrap_calloc(size_t count, size_t size)
{
    bool fails = until_failure >= 0 && until_failure-- == 0;
    return fails ? NULL : __real_calloc(count, size);
}

int __wrap_mailstore_box_open(struct mailstore *store, struct mailstore_box *box)
{
    return box_open_status != 0 ? box_open_status : __real_mailstore_box_open(store, box);
}

/* ---- What is redirected ---- */

#define TO_RELAY "FROM <boss@x.test> TO <a@z>\n"

static void a_redirected_message_reaches_the_relay_with_its_envelope_and_text(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    assert_string_equal(lmtp_deliver("Subject: s\r\n\r\n..dot\r\nbody\r\n"), STORED);
    const char *end = "Subject: s\r\n\r\n..dot\r\nbody\r\n";
    const char *begin =
        TO_RELAY "X-Sieve-Redirected-From: ann@y\r\nDelivered-To: ann@y\r\nReceived: ";
    assert_int_equal(lmtp_relay.messages, 1);
    assert_memory_equal(lmtp_relay.taken, begin, strlen(begin));
    assert_string_equal(lmtp_relay.taken + lmtp_relay.taken_bytes - strlen(end), end);
    assert_string_equal(lmtp_held("ann"), "");
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void a_message_longer_than_a_buffer_is_redirected_whole(void **state)
{
    (void)state;
    static char message[60000];
    char *at = message + sprintf(message, "Subject: s\r\n\r\n");
    for (int i = 0; i < 700; i++) {
        at += sprintf(at, "..%060d\r\n", i);
    }
    lmtp_script_set("ann", "redirect \"a@z\";");
    assert_string_equal(lmtp_deliver(message), STORED);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_string_equal(lmtp_relay.taken + lmtp_relay.taken_bytes - strlen(message), message);
}

static void each_address_and_recipient_has_a_letter_of_his_own(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\"; redirect \"b@z\"; keep;");
    lmtp_script_set("bob", "redirect \"a@z\";");
    assert_string_equal(
        lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<ann@w>\r\n", MESSAGE),
        STORED STORED STORED);
    assert_int_equal(lmtp_relay.messages, 3);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void what_he_could_not_keep_is_not_sent_on_until_it_comes_again(void **state)
{
    (void)state;
    lmtp_rig.conf->users.quota_bytes = 10;
    lmtp_script_set("ann", "require \"copy\"; redirect :copy \"a@z\"; redirect :copy \"b@z\";");
    assert_string_equal(lmtp_deliver(MESSAGE), "452 4.2.2 Mailbox is full\r\n");
    assert_int_equal(lmtp_relay.messages, 0);
    assert_int_equal(lmtp_outgoing_left(), 0);
    lmtp_rig.conf->users.quota_bytes = 0;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_int_equal(lmtp_relay.messages, 2);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void where_no_relay_is_set_the_message_is_kept(void **state)
{
    (void)state;
    outgoing_reload(lmtp_rig.mailbox.outgoing,
                    &(struct outgoing_conf){.hostname = slice_text("m")});
    lmtp_script_set("ann", "redirect \"a@z\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "redirect needs sieve.relay"));
    assert_int_equal(lmtp_relay.connections, 0);
}

static void while_the_relay_does_not_answer_the_letter_waits_and_goes_later(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_int_equal(lmtp_outgoing_left(), 2);
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_outgoing_left(), 2);
    assert_true(lmtp_relay.connections >= 2);
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_int_equal(lmtp_outgoing_left(), 0);
    assert_string_equal(lmtp_held("ann"), "");
}

static void a_letter_that_the_relay_defers_goes_later_and_others_before_it(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_script_set("bob", "redirect \"b@z\";");
    lmtp_relay.verb = "RCPT TO:<a";
    lmtp_relay.answer = "450 4.2.0 Later\r\n";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE), STORED);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_int_equal(lmtp_outgoing_left(), 2);
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 2);
    assert_int_equal(lmtp_outgoing_left(), 0);
}

/* Each at its turn: one that the relay chokes on does not stand before the others. */
static void a_letter_that_ends_the_session_waits_and_others_go_before_it(void **state)
{
    static const char *const chokes[] = {"", "421 4.3.0 Closing\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof chokes / sizeof chokes[0]; i++) {
        lmtp_relay.verb = "RCPT TO:<a";
        lmtp_relay.answer = chokes[i];
        lmtp_relay.connections = lmtp_relay.messages = 0;
        lmtp_script_set("ann", "redirect \"a@z\";");
        lmtp_script_set("bob", "redirect \"b@z\";");
        assert_string_equal(lmtp_deliver(MESSAGE), STORED);
        assert_string_equal(lmtp_deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE), STORED);
        pop3_rig_pass(&lmtp_rig, 10);
        assert_int_equal(lmtp_relay.messages, 1);
        assert_int_equal(lmtp_outgoing_left(), 2);
        pop3_rig_pass(&lmtp_rig, 3600);
        assert_in_range(lmtp_relay.connections, 5, 40);
        lmtp_relay.verb = NULL;
        pop3_rig_pass(&lmtp_rig, 600);
        assert_int_equal(lmtp_relay.messages, 2);
        assert_int_equal(lmtp_outgoing_left(), 0);
    }
}

static void what_the_relay_refuses_goes_back_into_the_inbox(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_relay.verb = "RCPT";
    lmtp_relay.answer = "550 5.1.1 Nobody\r\n";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_int_equal(lmtp_outgoing_left(), 0);
    assert_non_null(strstr(lmtp_logged(), "550 5.1.1 Nobody"));
}

static void what_could_not_be_sent_for_too_long_goes_back_into_the_inbox(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_relay.verb = ".";
    lmtp_relay.answer = "451 4.3.0 Later\r\n";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_int_equal(lmtp_outgoing_left(), 2);
    lmtp_rig.store.wall_s += 86400 + 3600;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void who_cannot_see_all_letters_at_the_start_drops_none(void **state)
{
    int status = -ENOMEM;
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\"; redirect \"b@z\";");
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    lmtp_outgoing_close();
    box_open_status = -EIO;
    assert_int_equal(lmtp_outgoing_open(), -EIO);
    box_open_status = 0;
    for (long i = 0; status != 0; i++) {
        until_failure = i;
        status = lmtp_outgoing_open();
        assert_true(status == 0 ? until_failure >= 0 : status == -ENOMEM);
    }
    until_failure = -1;
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 2);
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void what_cannot_be_given_back_now_is_given_back_later(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_relay.verb = "RCPT";
    lmtp_relay.answer = "550 5.1.1 Nobody\r\n";
    box_open_status = -EIO;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    pop3_rig_pass(&lmtp_rig, 10);
    box_open_status = 0;
    assert_int_equal(lmtp_outgoing_left(), 2);
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void a_crash_before_the_relay_has_it_loses_no_redirect(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\"; redirect \"b@z\";");
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    lmtp_service_crashes();
    assert_int_equal(lmtp_outgoing_left(), 3);
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 2);
    assert_int_equal(lmtp_outgoing_left(), 0);
    lmtp_service_crashes();
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 2);
}

static void a_crash_within_the_dialogue_sends_it_again(void **state)
{
    (void)state;
    lmtp_script_set("ann", "redirect \"a@z\";");
    lmtp_relay.verb = ".";
    lmtp_relay.answer = "";
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    lmtp_service_crashes();
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void a_record_without_its_text_and_a_text_without_a_record_are_dropped(void **state)
{
    (void)state;
    struct outgoing_item *item;
    const struct outgoing_letter letter = {
        .text = 12345, .born_s = lmtp_rig.store.wall_s, .forward_path = slice_text("a@z")};
    check(outgoing_put(lmtp_rig.mailbox.outgoing, &letter, &item) == 0);
    pop3_rig_run(&lmtp_rig);
    pop3_rig_deliver(&lmtp_rig, OUTGOING_USER, slice_text("A: b\r\n\r\n"));
    lmtp_service_crashes();
    pop3_rig_run(&lmtp_rig);
    assert_int_equal(lmtp_outgoing_left(), 0);
    assert_int_equal(lmtp_relay.messages, 0);
}

/* ---- Answers ---- */

#define PERSONAL                                                                                   \
    "From: boss@x.test\r\nTo: ann@y\r\nSubject: S\r\nMessage-ID: <m@x>\r\n\r\nhello\r\n"

static void who_is_away_says_so_to_the_sender(void **state)
{
    (void)state;
    lmtp_script_set("ann",
                    "require \"vacation\"; vacation \"Je suis en cong\xc3\xa9\r\n.\r\nAnn\";");
    assert_string_equal(lmtp_deliver(PERSONAL), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_string_equal(lmtp_taken(),
                        "FROM <> TO <boss@x.test>\n"
                        "Message-ID: <0707070707070707.0707070707070707@mail.test>\r\n"
                        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
                        "From: ann@y\r\n"
                        "To: boss@x.test\r\n"
                        "Subject: Auto: S\r\n"
                        "In-Reply-To: <m@x>\r\n"
                        "References: <m@x>\r\n"
                        "Auto-Submitted: auto-replied (vacation)\r\n"
                        "Precedence: bulk\r\n"
                        "X-Auto-Response-Suppress: All\r\n"
                        "MIME-Version: 1.0\r\n"
                        "Content-Type: text/plain; charset=utf-8\r\n"
                        "Content-Transfer-Encoding: quoted-printable\r\n"
                        "\r\n"
                        "Je suis en cong=C3=A9\r\n"
                        "..\r\n"
                        "Ann\r\n");
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void an_answer_has_the_subject_the_sender_and_the_body_that_the_script_says(void **state)
{
    (void)state;
    lmtp_script_set(
        "ann",
        "require \"vacation\"; vacation :from \"\xc3\x89va <eva@y>\" :subject \"caf\xc3\xa9\" "
        ":mime \"Content-Type: text/html\r\n\r\n<b>away</b>\r\n\";");
    lmtp_deliver(PERSONAL);
    assert_non_null(strstr(lmtp_taken(), "\r\nFrom: =?utf-8?q?=C3=89va?= <eva@y>\r\n"));
    assert_non_null(strstr(lmtp_taken(), "\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"));
    assert_non_null(strstr(
        lmtp_taken(), "\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<b>away</b>\r\n"));
}

static void a_sender_is_answered_once_in_the_days_that_are_said_also_over_a_crash(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"vacation\"; vacation :days 3 \"away\";");
    lmtp_deliver(PERSONAL);
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 1);
    pop3_rig_run(&lmtp_rig);
    lmtp_service_crashes();
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 1);
    lmtp_rig.store.wall_s += 3 * 86400;
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 2);
    lmtp_script_set("ann", "require \"vacation\"; vacation :days 3 \"still away\";");
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 3);
}

static void seconds_are_kept_within_what_is_configured(void **state)
{
    (void)state;
    lmtp_rig.conf->sieve.vacation_min = 0;
    lmtp_script_set("ann", "require \"vacation-seconds\"; vacation :seconds 10 \"away\";");
    lmtp_deliver(PERSONAL);
    lmtp_rig.store.wall_s += 9;
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 1);
    lmtp_rig.store.wall_s += 2;
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 2);
    lmtp_rig.conf->sieve.vacation_min = 60ull * 1000000000ull;
    lmtp_rig.store.wall_s += 11;
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 3);
    lmtp_rig.store.wall_s += 11;
    lmtp_deliver(PERSONAL);
    assert_int_equal(lmtp_relay.messages, 3);
}

static void lists_programs_and_what_goes_round_are_not_answered(void **state)
{
    static const char *const messages[] = {
        "To: ann@y\r\nList-Id: <l.x>\r\n\r\n",
        "To: ann@y\r\nAuto-Submitted: auto-generated\r\n\r\n",
        "To: ann@y\r\nPrecedence: bulk\r\n\r\n",
        "To: bob@y\r\n\r\n",
        "To: ann@y\r\nX-Sieve-Redirected-From: ann@y\r\n\r\n",
    };
    (void)state;
    lmtp_script_set("ann", "require \"vacation\"; vacation \"away\";");
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        lmtp_deliver(messages[i]);
    }
    lmtp_greet();
    pop3_client_talk(&lmtp_rig, lmtp_client, "MAIL FROM:<>\r\nRCPT TO:<ann@y>\r\nDATA\r\n");
    assert_string_equal(pop3_client_talk(&lmtp_rig, lmtp_client, PERSONAL ".\r\n"), STORED);
    assert_int_equal(lmtp_relay.messages, 0);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 6);
}

static void without_a_relay_nobody_is_answered_and_the_message_is_kept(void **state)
{
    (void)state;
    outgoing_reload(lmtp_rig.mailbox.outgoing,
                    &(struct outgoing_conf){.hostname = slice_text("m")});
    lmtp_script_set("ann", "require \"vacation\"; vacation \"away\";");
    assert_string_equal(lmtp_deliver(PERSONAL), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "no answer of vacation: it needs sieve.relay"));
}

static void an_answer_that_the_relay_refuses_is_dropped(void **state)
{
    (void)state;
    lmtp_relay.verb = "RCPT";
    lmtp_relay.answer = "550 5.1.1 Nobody\r\n";
    lmtp_script_set("ann", "require \"vacation\"; vacation \"away\";");
    assert_string_equal(lmtp_deliver(PERSONAL), STORED);
    assert_int_equal(lmtp_outgoing_left(), 0);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
}

static void a_reason_that_the_reply_cannot_carry_goes_in_a_report(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"reject\"; reject \"Pas ici, d\xc3\xa9sol\xc3\xa9\";");
    assert_string_equal(lmtp_deliver(PERSONAL), STORED);
    assert_string_equal(lmtp_held("ann"), "");
    const char *begin = "FROM <> TO <boss@x.test>\nMessage-ID: ";
    assert_memory_equal(lmtp_taken(), begin, strlen(begin));
    assert_non_null(strstr(lmtp_taken(), "\r\nPas ici, d=C3=A9sol=C3=A9\r\n"));
    assert_non_null(strstr(lmtp_taken(),
                           "\r\nContent-Type: message/disposition-notification\r\n\r\n"
                           "Reporting-UA: mail.test; Tubepost\r\n"
                           "Final-Recipient: rfc822; ann@y\r\n"
                           "Original-Message-ID: <m@x>\r\n"
                           "Disposition: automatic-action/MDN-sent-automatically; deleted\r\n"));
    assert_non_null(strstr(lmtp_taken(), "\r\nSubject: S\r\n"));
    assert_null(strstr(lmtp_taken(), "hello"));
    assert_int_equal(lmtp_outgoing_left(), 0);
    lmtp_greet();
    pop3_client_talk(&lmtp_rig, lmtp_client, "MAIL FROM:<>\r\nRCPT TO:<ann@y>\r\nDATA\r\n");
    assert_string_equal(pop3_client_talk(&lmtp_rig, lmtp_client, PERSONAL ".\r\n"),
                        "550 5.7.1 The recipient does not want this message\r\n");
    assert_int_equal(lmtp_relay.messages, 1);
}

static void a_report_of_rejection_outlives_a_crash(void **state)
{
    (void)state;
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    lmtp_script_set("ann", "require \"reject\"; reject \"d\xc3\xa9sol\xc3\xa9\";");
    assert_string_equal(lmtp_deliver(PERSONAL), STORED);
    lmtp_service_crashes();
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_int_equal(lmtp_outgoing_left(), 0);
}

/* The relay refuses just that, to show that it was said. */
static void a_report_with_eight_bit_text_says_so_to_the_relay(void **state)
{
    (void)state;
    lmtp_relay.verb = "MAIL FROM:<> BODY=8BITMIME SMTPUTF8";
    lmtp_relay.answer = "550 5.6.7 Not here\r\n";
    lmtp_script_set("ren\xc3\xa9", "require \"reject\"; reject \"d\xc3\xa9sol\xc3\xa9\";");
    lmtp_greet();
    assert_non_null(strstr(
        pop3_client_talk(&lmtp_rig, lmtp_client,
                         "MAIL FROM:<boss@x.test> SMTPUTF8\r\nRCPT TO:<ren\xc3\xa9@y>\r\nDATA\r\n"),
        "354 "));
    assert_string_equal(pop3_client_talk(&lmtp_rig, lmtp_client, PERSONAL ".\r\n"), STORED);
    assert_int_equal(outgoing_counters(lmtp_rig.mailbox.outgoing)->dropped, 1);
}

#define ALL 100

/* Each answer takes what it is long of the message's memory. */
static void a_hundred_recipients_who_are_away_say_so_each(void **state)
{
    char recipients[ALL * 20], *at = recipients, name[8];
    (void)state;
    for (int i = 0; i < ALL; i++) {
        snprintf(name, sizeof name, "u%02d", i);
        at += sprintf(at, "RCPT TO:<%s@y>\r\n", name);
        lmtp_script_set(name, "require \"vacation\"; vacation :addresses \"all@y\" \"away\";");
    }
    lmtp_deliver_to(recipients, "From: boss@x.test\r\nTo: all@y\r\n\r\n");
    assert_int_equal(pop3_rig_count(&lmtp_rig, name), 1);
    assert_int_equal(lmtp_relay.messages, ALL);
    assert_string_equal(lmtp_logged(), "");
}

static void when_too_many_letters_wait_the_recipient_is_to_be_sent_it_again(void **state)
{
    (void)state;
    const struct outgoing_letter letter = {.born_s = lmtp_rig.store.wall_s,
                                           .forward_path = slice_text("a@z")};
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    for (uint32_t i = 0; i < OUTGOING_LETTERS_MAX; i++) {
        check(outgoing_put(lmtp_rig.mailbox.outgoing, &letter, NULL) == 0);
        if (i % 100 == 0) {
            pop3_rig_run(&lmtp_rig);
        }
    }
    pop3_rig_run(&lmtp_rig);
    lmtp_logged();
    lmtp_script_set("ann", "redirect \"a@z\"; keep;");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", MESSAGE),
                        "451 4.3.0 The message could not be stored, try again later\r\n" STORED);
    assert_string_equal(lmtp_held("ann"), "");
    assert_string_equal(lmtp_held("bob"), "INBOX ()");
}

/* ---- Duplicates ---- */

#define WITH_ID(id) "Message-ID: <" id "@x>\r\n\r\n"

static void a_script_knows_what_it_has_seen_also_over_a_crash(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"duplicate\"; if duplicate { discard; }");
    lmtp_deliver(WITH_ID("a"));
    lmtp_deliver(WITH_ID("a"));
    lmtp_deliver(WITH_ID("b"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 2);
    lmtp_service_crashes();
    lmtp_deliver(WITH_ID("b"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 2);
    lmtp_rig.store.wall_s += 12 * 3600;
    lmtp_deliver(WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 3);
}

static void each_handle_and_user_sees_for_itself(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require [\"duplicate\",\"variables\"];"
                           "if header :matches \"x\" \"*\" { set \"h\" \"${1}\"; }"
                           "if string \"${h}\" \"1\" { if duplicate :handle \"one\" { discard; } }"
                           "else { if duplicate :handle \"two\" { discard; } }");
    lmtp_script_set("bob", "require \"duplicate\"; if duplicate { discard; }");
    lmtp_deliver("X: 1\r\n" WITH_ID("a"));
    lmtp_deliver("X: 2\r\n" WITH_ID("a"));
    lmtp_deliver("X: 2\r\n" WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 2);
    lmtp_deliver_to("RCPT TO:<bob@y>\r\n", WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "bob"), 1);
}

static void what_was_not_stored_was_not_seen(void **state)
{
    (void)state;
    lmtp_rig.conf->users.quota_bytes = 10;
    lmtp_script_set("ann", "require \"duplicate\"; if duplicate { discard; }");
    assert_string_equal(lmtp_deliver(WITH_ID("a")), "452 4.2.2 Mailbox is full\r\n");
    lmtp_rig.conf->users.quota_bytes = 0;
    assert_string_equal(lmtp_deliver(WITH_ID("a")), STORED);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 1);
}

static void what_comes_twice_is_dropped_where_that_is_configured(void **state)
{
    (void)state;
    lmtp_deliver(WITH_ID("a"));
    lmtp_deliver(WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 2);
    lmtp_rig.conf->lmtp.drop_duplicates = 3600ull * 1000000000ull;
    lmtp_deliver(WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 3);
    assert_string_equal(lmtp_deliver(WITH_ID("a")), STORED);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 3);
    lmtp_deliver("Subject: without an id\r\n\r\n");
    lmtp_deliver("Subject: without an id\r\n\r\n");
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 5);
    assert_string_equal(
        lmtp_deliver_to("RCPT TO:<bob@y>\r\nRCPT TO:<ann@y>\r\nRCPT TO:<ann+x@y>\r\n",
                        WITH_ID("a")),
        STORED STORED STORED);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 6);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "bob"), 1);
    lmtp_service_crashes();
    lmtp_deliver(WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 6);
    lmtp_rig.store.wall_s += 3600;
    lmtp_deliver(WITH_ID("a"));
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 7);
}

static void what_was_refused_is_no_duplicate_when_it_comes_again(void **state)
{
    (void)state;
    lmtp_rig.conf->lmtp.drop_duplicates = 3600ull * 1000000000ull;
    lmtp_rig.conf->users.quota_bytes = 10;
    assert_string_equal(lmtp_deliver(WITH_ID("a")), "452 4.2.2 Mailbox is full\r\n");
    lmtp_rig.conf->users.quota_bytes = 0;
    assert_string_equal(lmtp_deliver(WITH_ID("a")), STORED);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 1);
}

static void what_a_script_has_rejected_is_no_duplicate_when_it_comes_again(void **state)
{
    static const char *const scripts[] = {"require \"reject\"; reject \"no\";",
                                          "require \"ereject\"; ereject \"no\";"};
    (void)state;
    lmtp_rig.conf->lmtp.drop_duplicates = 3600ull * 1000000000ull;
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        lmtp_script_set("ann", scripts[i]);
        assert_string_equal(lmtp_deliver(WITH_ID("a")), "550 5.7.1 no\r\n");
        assert_string_equal(lmtp_deliver(WITH_ID("a")), "550 5.7.1 no\r\n");
    }
    lmtp_script_set("ann", "keep;");
    assert_string_equal(lmtp_deliver(WITH_ID("a")), STORED);
    assert_string_equal(lmtp_deliver(WITH_ID("a")), STORED);
    assert_int_equal(pop3_rig_count(&lmtp_rig, "ann"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DELIVERY_TEST(a_redirected_message_reaches_the_relay_with_its_envelope_and_text),
        DELIVERY_TEST(a_message_longer_than_a_buffer_is_redirected_whole),
        DELIVERY_TEST(each_address_and_recipient_has_a_letter_of_his_own),
        DELIVERY_TEST(what_he_could_not_keep_is_not_sent_on_until_it_comes_again),
        DELIVERY_TEST(where_no_relay_is_set_the_message_is_kept),
        DELIVERY_TEST(while_the_relay_does_not_answer_the_letter_waits_and_goes_later),
        DELIVERY_TEST(a_letter_that_the_relay_defers_goes_later_and_others_before_it),
        DELIVERY_TEST(a_letter_that_ends_the_session_waits_and_others_go_before_it),
        DELIVERY_TEST(what_the_relay_refuses_goes_back_into_the_inbox),
        DELIVERY_TEST(what_could_not_be_sent_for_too_long_goes_back_into_the_inbox),
        DELIVERY_TEST(who_cannot_see_all_letters_at_the_start_drops_none),
        DELIVERY_TEST(what_cannot_be_given_back_now_is_given_back_later),
        DELIVERY_TEST(a_crash_before_the_relay_has_it_loses_no_redirect),
        DELIVERY_TEST(a_crash_within_the_dialogue_sends_it_again),
        DELIVERY_TEST(a_record_without_its_text_and_a_text_without_a_record_are_dropped),
        DELIVERY_TEST(who_is_away_says_so_to_the_sender),
        DELIVERY_TEST(an_answer_has_the_subject_the_sender_and_the_body_that_the_script_says),
        DELIVERY_TEST(a_sender_is_answered_once_in_the_days_that_are_said_also_over_a_crash),
        DELIVERY_TEST(seconds_are_kept_within_what_is_configured),
        DELIVERY_TEST(lists_programs_and_what_goes_round_are_not_answered),
        DELIVERY_TEST(without_a_relay_nobody_is_answered_and_the_message_is_kept),
        DELIVERY_TEST(an_answer_that_the_relay_refuses_is_dropped),
        DELIVERY_TEST(a_reason_that_the_reply_cannot_carry_goes_in_a_report),
        DELIVERY_TEST(a_report_of_rejection_outlives_a_crash),
        DELIVERY_TEST(a_report_with_eight_bit_text_says_so_to_the_relay),
        DELIVERY_TEST(a_hundred_recipients_who_are_away_say_so_each),
        DELIVERY_TEST(when_too_many_letters_wait_the_recipient_is_to_be_sent_it_again),
        DELIVERY_TEST(a_script_knows_what_it_has_seen_also_over_a_crash),
        DELIVERY_TEST(each_handle_and_user_sees_for_itself),
        DELIVERY_TEST(what_was_not_stored_was_not_seen),
        DELIVERY_TEST(what_comes_twice_is_dropped_where_that_is_configured),
        DELIVERY_TEST(what_was_refused_is_no_duplicate_when_it_comes_again),
        DELIVERY_TEST(what_a_script_has_rejected_is_no_duplicate_when_it_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
