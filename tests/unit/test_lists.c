/* Mail to mailing lists: aliases with an owner. */
#include "engine/relay/inbound_private.h"
#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define HOUR (3600 * RIG_SECOND)
#define LISTS                                                                                      \
    "\n  - {match: a.test, via: mx, accept_from: anyone}\n"                                        \
    "  - {match: b.test, via: mx, accept_from: anyone}\n"                                          \
    "rewrite:\n"                                                                                   \
    "  aliases: ['inline:{{team=u@a.test, v@a.test}, owner-team=boss@b.test, "                     \
    "{others=w@a.test}, owner-others=boss@b.test, info=team, {mixed=x@a.test, team}, "             \
    "self=u@a.test, owner-self=self, one=v@a.test, two=w@a.test, owner-one=two, "                  \
    "owner-two=one}']\n"
#define HELLO "EHLO c.test\r\n"
#define TEXT "DATA\r\nSubject: hi\r\n\r\nHello.\r\n.\r\n"

static struct rig_client *say(struct relay_rig *rig, const char *commands)
{
    struct rig_client *client = rig_dial(rig, "192.0.2.77:4000");
    rig_say(client, HELLO);
    rig_codes(client);
    rig_say(client, commands);
    return client;
}

static void assert_holds(const struct rig_letter *letter, const char *text)
{
    assert_non_null(letter);
    if (strstr(letter->body, text) == NULL) {
        fail_msg("the letter does not hold\n%s\nbut is\n%s", text, letter->body);
    }
}

static void members_hear_from_the_owner_and_nothing_of_the_senders_wishes(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    rig->servers[0].offers = "DSN";
    struct rig_client *client =
        say(rig, "MAIL FROM:<s@b.test> RET=HDRS ENVID=QQ1\r\n"
                 "RCPT TO:<team@relay.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o@c.test\r\n" TEXT);
    assert_string_equal(rig_codes(client), "250 250 354 250");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    const struct rig_letter *letter = rig_letter_for(rig, "u@a.test v@a.test");
    assert_non_null(letter);
    assert_string_equal(letter->sender, "owner-team@relay.test");
    assert_string_equal(letter->mail, "MAIL FROM:<owner-team@relay.test>");
    assert_string_equal(letter->rcpt, "RCPT TO:<v@a.test> ORCPT=rfc822;v@a.test");
    assert_holds(letter, "\nSubject: hi\n\nHello.\n");
    assert_int_equal(rig_waiting(rig), 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void a_list_that_has_the_mail_is_its_delivery(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    struct rig_client *client = say(rig, "MAIL FROM:<s@b.test> ENVID=QQ1\r\n"
                                         "RCPT TO:<info@relay.test> NOTIFY=SUCCESS\r\n" TEXT);
    assert_string_equal(rig_codes(client), "250 250 354 250");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 2);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_holds(report, "\nOriginal-Envelope-Id: QQ1\n");
    assert_holds(report, "\nFinal-Recipient: rfc822; info@relay.test\nAction: delivered\n");
    assert_holds(report, "<info@relay.test>: delivered: given to the mailing list\n");
    assert_int_equal(rig_waiting(rig), 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void a_member_that_is_gone_is_the_owners_to_hear_of(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    struct rig_client *client =
        say(rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<team@relay.test>\r\n" TEXT);
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    const struct rig_letter *report = rig_letter_for(rig, "boss@b.test"); /* by his alias */
    assert_holds(report, "\nTo: <owner-team@relay.test>\n");
    assert_holds(report, "\nFinal-Recipient: rfc822; v@a.test\n");
    assert_string_equal(report->sender, "");
    assert_int_equal(rig_waiting(rig), 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void one_transaction_writes_to_lists_and_others(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    struct rig_client *client = say(
        rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<mixed@relay.test> NOTIFY=SUCCESS\r\n"
             "RCPT TO:<others@relay.test>\r\nRCPT TO:<team@relay.test>\r\n"
             "RCPT TO:<u@a.test>\r\n" TEXT "MAIL FROM:<t@b.test>\r\nRCPT TO:<y@a.test>\r\n" TEXT);
    assert_string_equal(rig_codes(client), "250 250 250 250 250 354 250 250 250 354 250");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 5);
    assert_string_equal(rig_letter_for(rig, "x@a.test u@a.test")->sender, "s@b.test");
    assert_string_equal(rig_letter_for(rig, "u@a.test v@a.test")->sender, "owner-team@relay.test");
    assert_string_equal(rig_letter_for(rig, "w@a.test")->sender, "owner-others@relay.test");
    assert_string_equal(rig_letter_for(rig, "y@a.test")->sender, "t@b.test");
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nAction: expanded\n");
    assert_int_equal(rig_waiting(rig), 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static char *large_text(size_t lines)
{
    enum { LINE = 70 };
    char *text = malloc(lines * LINE + 1);
    assert_non_null(text);
    memset(text, 'x', lines * LINE);
    for (size_t i = 0; i < lines; i++) {
        memcpy(text + i * LINE + LINE - 2, "\r\n", 2);
    }
    memcpy(text, "S: large\r\n\r\n", 12);
    text[lines * LINE] = '\0';
    return text;
}

/* The disk takes its time, so that the log's buffers run out in the middle of a piece that some have already. */
static void a_large_text_reaches_all_of_them_whole(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    char *text = large_text(60000);
    uint64_t size = strlen(text), before = rig->relay->counters.bytes_out;
    struct rig_client *client = say(rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<mixed@relay.test>\r\n"
                                         "RCPT TO:<others@relay.test>\r\nDATA\r\n");
    assert_string_equal(rig_codes(client), "250 250 250 354");
    const struct inbound *in = list_entry(rig->relay->inbounds.next, const struct inbound, node);
    unsigned waits = 0;
    for (size_t at = 0; at < size;) {
        size_t piece = size - at < 5000 ? size - at : 5000;
        disk_fault_hold(rig->log.fault, in->state != INBOUND_NO_ROOM);
        at += rig_put(client, slice_of(text + at, piece)) ? piece : 0;
        rig_settle(rig);
        waits += in->state == INBOUND_NO_ROOM && in->letters.append_at != &in->letters.own;
    }
    disk_fault_hold(rig->log.fault, false);
    rig_say(client, ".\r\n");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_string_equal(rig_codes(client), "250");
    assert_true(waits > 0);
    assert_int_equal(rig->letter_count, 3);
    assert_in_range(rig->relay->counters.bytes_out - before, 3 * size, 3 * (size + 500));
    assert_int_equal(rig_waiting(rig), 0);
    free(text);
    rig_hang_up(client);
    relay_rig_close(rig);
}

/* The linker puts it in place of the spool's (Makefile): the commit of this number fails; 0: none does. */
int __real_spool_commit(struct spool_draft *draft, const struct envelope *envelope,
                        const struct envelope_recipient *recipients, size_t count,
                        struct message **message, struct spool_waiter *durable);
int __wrap_spool_commit(struct spool_draft *draft, const struct envelope *envelope,
                        const struct envelope_recipient *recipients, size_t count,
                        struct message **message, struct spool_waiter *durable);
static unsigned fails_in;

int __wrap_spool_commit(struct spool_draft *draft, const struct envelope *envelope,
                        const struct envelope_recipient *recipients, size_t count,
                        struct message **message, struct spool_waiter *durable)
{
    if (fails_in > 0 && --fails_in == 0) {
        spool_abort(draft);
        return -ENOSPC;
    }
    return __real_spool_commit(draft, envelope, recipients, count, message, durable);
}

static void all_letters_of_a_transaction_are_kept_or_none(void **state)
{
    static const char commands[] = "MAIL FROM:<s@b.test>\r\nRCPT TO:<mixed@relay.test>\r\n"
                                   "RCPT TO:<others@relay.test>\r\n" TEXT;
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct relay_rig *rig = rig_open_two(LISTS);
        bool leaves = i >= 4; /* while they are being committed */
        unsigned letters = i % 4 == 0 ? 3 : 0;
        fails_in = i % 4;
        disk_fault_hold(rig->log.fault, leaves);
        struct rig_client *client = say(rig, commands);
        if (leaves) {
            rig_tear(client);
            disk_fault_hold(rig->log.fault, false);
            rig_settle(rig);
        } else {
            assert_string_equal(rig_codes(client),
                                letters > 0 ? "250 250 250 354 250" : "250 250 250 354 452");
            rig_hang_up(client);
        }
        assert_true(list_empty(&rig->relay->inbounds));
        rig_restart(rig);
        rig_pass(rig, 60 * RIG_SECOND);
        assert_int_equal(rig->letter_count, letters);
        assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
        rig_hang_up(say(rig, commands));
        rig_pass(rig, 60 * RIG_SECOND);
        assert_int_equal(rig->letter_count, letters + 3);
        relay_rig_close(rig);
    }
}

static void a_list_gets_what_nobody_has_sent_from_its_owner_too(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    struct rig_client *client =
        say(rig, "MAIL FROM:<>\r\nRCPT TO:<others@relay.test> NOTIFY=SUCCESS\r\n" TEXT);
    assert_string_equal(rig_codes(client), "250 250 354 250");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    assert_string_equal(rig->letters[0].sender, "owner-others@relay.test");
    assert_int_equal(rig_waiting(rig), 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

/* What fails at a member comes back to his list's owner from <>. */
static void reports_to_owners_go_round_no_circle_of_lists(void **state)
{
    static const char *const circles[][2] = {
        {"owner-self", "u@a.test"}, {"owner-one", "w@a.test"}, {"owner-two", "v@a.test"}};
    (void)state;
    for (size_t i = 0; i < sizeof(circles) / sizeof(circles[0]); i++) {
        struct relay_rig *rig = rig_open_two(LISTS);
        char commands[200];
        snprintf(commands, sizeof(commands), "MAIL FROM:<>\r\nRCPT TO:<%s@relay.test>\r\n" TEXT,
                 circles[i][0]);
        struct rig_client *client = say(rig, commands);
        rig_pass(rig, 60 * RIG_SECOND);
        assert_int_equal(rig->letter_count, 1);
        assert_string_equal(rig_letter_for(rig, circles[i][1])->sender, "");
        rig_hang_up(client);
        relay_rig_close(rig);
    }
}

static void who_writes_to_an_owner_writes_to_the_lists_behind_him(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_hang_up(say(rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<owner-self@relay.test>\r\n" TEXT));
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig->relay->counters.bounces, 1); /* to owner-self: u@a.test is gone again */
    assert_int_equal(rig->relay->counters.double_bounces, 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void what_a_list_has_is_reported_after_a_restart(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    disk_fault_hold(rig->log.fault, true);
    struct rig_client *client =
        say(rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<team@relay.test> NOTIFY=SUCCESS\r\n" TEXT);
    relay_drain(rig->relay, UINT64_MAX); /* it begins no report any more */
    disk_fault_hold(rig->log.fault, false);
    rig_settle(rig);
    assert_string_equal(rig_codes(client), "250 250 354 250");
    rig_hang_up(client);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 2);
    rig_restart(rig);
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 2);
    assert_string_equal(rig_letter_for(rig, "u@a.test v@a.test")->sender, "owner-team@relay.test");
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nAction: delivered\n");
    rig_restart(rig);
    rig_pass(rig, HOUR);
    assert_int_equal(rig->letter_count, 2);
    relay_rig_close(rig);
}

/* l0 to l64, of one member each, and `all` of them. */
static char *many_lists(void)
{
    size_t room = 16384, used;
    char *conf = malloc(room);
    assert_non_null(conf);
    used = (size_t)snprintf(conf, room,
                            "\n  - {match: a.test, via: mx, accept_from: anyone}\n"
                            "rewrite:\n  aliases: ['inline:{");
    for (unsigned i = 0; i <= INBOUND_LISTS_MAX; i++) {
        used += (size_t)snprintf(conf + used, room - used, "l%u=m%u@a.test, owner-l%u=o@a.test, ",
                                 i, i, i);
    }
    used += (size_t)snprintf(conf + used, room - used, "{all=l0");
    for (unsigned i = 1; i <= INBOUND_LISTS_MAX; i++) {
        used += (size_t)snprintf(conf + used, room - used, ", l%u", i);
    }
    used += (size_t)snprintf(conf + used, room - used, "}}']\n");
    assert_true(used < room);
    return conf;
}

static void
a_transaction_has_room_for_so_many_lists_and_one_that_is_refused_takes_none(void **state)
{
    (void)state;
    char *conf = many_lists(), command[100];
    struct relay_rig *rig = rig_open_two(conf);
    struct rig_client *client = say(rig, "MAIL FROM:<s@a.test>\r\nRCPT TO:<all@relay.test>\r\n");
    assert_string_equal(rig_codes(client), "250 550"); /* not even in a transaction of its own */
    for (unsigned i = 0; i < INBOUND_LISTS_MAX; i++) {
        snprintf(command, sizeof(command), "RCPT TO:<l%u@relay.test>\r\n", i);
        rig_say(client, command);
        assert_string_equal(rig_codes(client), "250");
        if (i < 3) {
            rig_say(client, "RCPT TO:<all@relay.test>\r\n");
            assert_string_equal(rig_codes(client), "452");
        }
    }
    snprintf(command, sizeof(command), "RCPT TO:<l%u@relay.test>\r\n", INBOUND_LISTS_MAX);
    rig_say(client, command);
    rig_say(client, "RCPT TO:<l0@relay.test>\r\n" TEXT);
    assert_string_equal(rig_codes(client), "452 250 354 250");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, INBOUND_LISTS_MAX);
    assert_string_equal(rig_letter_for(rig, "m63@a.test")->sender, "owner-l63@relay.test");
    rig_hang_up(client);
    relay_rig_close(rig);
    free(conf);
}

/* The sender's own alias includes a file that is not there yet. */
static void a_report_waits_for_the_maps_that_know_its_reader(void **state)
{
    (void)state;
    char name[] = "/tmp/test-lists-XXXXXX", conf[1000];
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    close(fd);
    unlink(name);
    snprintf(conf, sizeof(conf),
             "\n  - {match: a.test, via: mx, accept_from: anyone}\n"
             "  - {match: b.test, via: mx, accept_from: anyone}\n"
             "rewrite:\n  aliases: ['inline:{s=\":include:%s\"}']\n",
             name);
    struct relay_rig *rig = rig_open_two(conf);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_hang_up(say(rig, "MAIL FROM:<s@relay.test>\r\nRCPT TO:<u@a.test>\r\n" TEXT));
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(bounce_count(rig->relay), 1);
    assert_true(rig_log_says(rig, ": rewriting the address that hears of it: "));
    rig_reload(rig, conf);
    assert_int_equal(rig->letter_count, 0);
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs("boss@b.test\n", file);
    fclose(file);
    rig_reload(rig, conf); /* which forgets what was looked up */
    rig_pass(rig, 60 * RIG_SECOND);
    unlink(name);
    assert_int_equal(rig->letter_count, 1);
    assert_holds(rig_letter_for(rig, "boss@b.test"), "\nTo: <s@relay.test>\n");
    assert_int_equal(bounce_count(rig->relay), 0);
    relay_rig_close(rig);
}

static void who_leaves_in_the_middle_has_written_to_nobody(void **state)
{
    static const char *const torn[] = {"", "DATA\r\nhalf", "DATA\r\nhalf\r\n.", "RSET\r\n"};
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTS);
    for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
        struct rig_client *client =
            say(rig, "MAIL FROM:<s@b.test>\r\nRCPT TO:<mixed@relay.test>\r\n");
        rig_say(client, torn[i]);
        rig_tear(client);
    }
    rig_restart(rig);
    rig_pass(rig, HOUR);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_hear_from_the_owner_and_nothing_of_the_senders_wishes),
        cmocka_unit_test(a_list_that_has_the_mail_is_its_delivery),
        cmocka_unit_test(a_member_that_is_gone_is_the_owners_to_hear_of),
        cmocka_unit_test(one_transaction_writes_to_lists_and_others),
        cmocka_unit_test(a_large_text_reaches_all_of_them_whole),
        cmocka_unit_test(all_letters_of_a_transaction_are_kept_or_none),
        cmocka_unit_test(a_list_gets_what_nobody_has_sent_from_its_owner_too),
        cmocka_unit_test(reports_to_owners_go_round_no_circle_of_lists),
        cmocka_unit_test(who_writes_to_an_owner_writes_to_the_lists_behind_him),
        cmocka_unit_test(what_a_list_has_is_reported_after_a_restart),
        cmocka_unit_test(
            a_transaction_has_room_for_so_many_lists_and_one_that_is_refused_takes_none),
        cmocka_unit_test(a_report_waits_for_the_maps_that_know_its_reader),
        cmocka_unit_test(who_leaves_in_the_middle_has_written_to_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
