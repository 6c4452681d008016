/* imap_append: REPLACE. */
#include "tests/unit/imap_rig.h"

static const char old_draft[] = "Subject: old\r\n\r\nfirst words\r\n";

/* `count` drafts in INBOX, which is selected; and a mailbox Sent. */
static struct imap_rig *drafted(void **state, unsigned count)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "c CREATE Sent\r\n", "OK");
    for (unsigned i = 0; i < count; i++) {
        append(rig, 0, "INBOX", old_draft);
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK [READ-WRITE]");
    return rig;
}

/* Is `first` heard before `second`? */
static void expect_order(struct imap_rig *rig, unsigned index, const char *first,
                         const char *second)
{
    const char *at = strstr(rig->clients[index].heard, first);
    if (at == NULL || strstr(at, second) == NULL) {
        fail_msg("\"%s\" does not come before \"%s\" in\n%s", first, second,
                 rig->clients[index].heard);
    }
}

/* ---- REPLACE ---- */

static void a_message_takes_the_place_of_another(void **state)
{
    struct imap_rig *rig = drafted(state, 3);
    talk(rig, 0, "a REPLACE 2 INBOX (\\Draft) \" 1-Jan-2020 10:00:00 +0100\" {3+}\r\nnew\r\n",
         "OK");
    expect_order(rig, 0, "* OK [APPENDUID ", "* 2 EXPUNGE\r\n");
    expect(rig, 0, " 4] Replaced\r\n");
    expect(rig, 0, "* 3 EXISTS\r\n");
    talk(rig, 0, "b FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 ");
    expect(rig, 0, "* 2 FETCH (UID 3 ");
    expect(rig, 0,
           "* 3 FETCH (UID 4 FLAGS (\\Draft) INTERNALDATE \" 1-Jan-2020 10:00:00 +0100\" "
           "BODY[] {3}\r\nnew)\r\n");
}

static void uid_replace_names_the_message_by_its_uid(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    talk(rig, 0, "a UID REPLACE 2 INBOX {3+}\r\nnew\r\n", "OK");
    expect(rig, 0, "* 2 EXPUNGE\r\n");
    talk(rig, 0, "b UID REPLACE * INBOX {3+}\r\nend\r\n", "OK");
    expect(rig, 0, " 4] Replaced\r\n");
    talk(rig, 0, "c REPLACE * INBOX {3+}\r\nend\r\n", "OK");
    talk(rig, 0, "d UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 5\r\n");
}

static void a_draft_is_replaced_by_what_was_sent(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    talk(rig, 0, "a REPLACE 1 Sent (\\Seen) {4+}\r\nsent\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    expect_not(rig, 0, " EXISTS\r\n");
    talk(rig, 0, "b STATUS Sent (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1)");
    talk(rig, 0, "c STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0)");
}

static void binary_and_utf8_messages_replace_too(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    say_bytes(rig, 0, slice_of("a REPLACE 1 INBOX ~{3+}\r\n\0\1\2\r\n", 30));
    hear(rig, 0, "a OK ");
    talk(rig, 0, "b UNSELECT\r\n", "OK");
    talk(rig, 0, "b ENABLE UTF8=ACCEPT\r\n", "OK");
    talk(rig, 0, "b SELECT INBOX\r\n", "OK");
    talk(rig, 0, "c REPLACE 1 INBOX UTF8 (~{7+}\r\nB: \xc3\xa9\r\n)\r\n", "OK");
    talk(rig, 0, "d UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 3 4\r\n");
}

/* Before the client sends the message, where it waits to be asked. */
static void a_replace_that_cannot_be_changes_nothing(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    talk(rig, 0, "a REPLACE 3 INBOX {3}\r\n", "BAD No such message number");
    talk(rig, 0, "b UID REPLACE 9 INBOX {3}\r\n", "NO [EXPUNGEISSUED]");
    talk(rig, 0, "c REPLACE 1 none {3}\r\n", "NO [TRYCREATE]");
    talk(rig, 0, "d REPLACE 1 INBOX {3+}\r\nabc {3+}\r\nabc\r\n", "BAD");
    talk(rig, 0, "e REPLACE 1 INBOX {0+}\r\n\r\n", "NO");
    talk(rig, 0, "f REPLACE 1:2 INBOX {3+}\r\nabc\r\n", "BAD");
    talk(rig, 0, "g EXAMINE INBOX\r\n", "OK");
    expect(rig, 0, "* 2 EXISTS\r\n");
    talk(rig, 0, "h REPLACE 1 INBOX {3}\r\n", "NO [NOPERM]");
    talk(rig, 0, "i SELECT Sent\r\n", "OK");
    talk(rig, 0, "j REPLACE * INBOX {3}\r\n", "BAD");
    talk(rig, 0, "k UID REPLACE * INBOX {3}\r\n", "NO");
    talk(rig, 0, "l UNSELECT\r\n", "OK");
    talk(rig, 0, "m REPLACE 1 INBOX {3}\r\n", "BAD Select a mailbox first");
}

static void what_is_replaced_does_not_count_against_the_quota(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    char command[128];
    int size = (int)sizeof(old_draft) - 1;
    rig->conf->users.quota_bytes = sizeof(old_draft) - 1;
    talk(rig, 0, "a APPEND INBOX {3+}\r\nabc\r\n", "NO [OVERQUOTA]");
    snprintf(command, sizeof(command), "b REPLACE 1 INBOX {%d+}\r\n%s!\r\n", size + 1, old_draft);
    talk(rig, 0, command, "NO [OVERQUOTA]");
    snprintf(command, sizeof(command), "c REPLACE 1 INBOX {%d+}\r\n%s\r\n", size, old_draft);
    talk(rig, 0, command, "OK");
    rig->conf->users.quota_bytes = 5; /* it was made smaller meanwhile */
    talk(rig, 0, "d REPLACE 1 INBOX {9+}\r\n123456789\r\n", "OK");
    talk(rig, 0, "e UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 3\r\n");
}

static void of_two_that_replace_one_message_one_does(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    say(rig, 0, "a UID REPLACE 1 INBOX {1}\r\n");
    hear(rig, 0, "+ ");
    talk(rig, 1, "b UID REPLACE 1 INBOX {3+}\r\nwon\r\n", "OK");
    say(rig, 0, "a\r\n");
    hear(rig, 0, "a NO [EXPUNGEISSUED]");
    say(rig, 0, "c UID REPLACE 2 INBOX {1+}\r\na\r\n");
    say(rig, 1, "c UID REPLACE 2 INBOX {1+}\r\nb\r\n");
    bool first = strncmp(hear(rig, 0, "c "), "c OK", 4) == 0;
    bool second = strncmp(hear(rig, 1, "c "), "c OK", 4) == 0;
    assert_true(first != second);
    talk(rig, 0, "d STATUS INBOX (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1 UIDNEXT 4)");
}

static void others_and_qresync_clients_are_told_of_both_halves(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    log_in(rig, 1);
    talk(rig, 1, "e ENABLE QRESYNC\r\n", "OK");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "a REPLACE 1 INBOX {3+}\r\nnew\r\n", "OK");
    talk(rig, 1, "b NOOP\r\n", "OK");
    expect(rig, 1, "* VANISHED 1\r\n* 1 EXISTS\r\n");
    talk(rig, 1, "c UID REPLACE 2 INBOX {3+}\r\nnew\r\n", "OK [HIGHESTMODSEQ ");
    expect_order(rig, 1, "* OK [APPENDUID ", "* VANISHED 2\r\n");
}

static void a_replace_whose_write_fails_has_not_happened(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    talk(rig, 0, "a REPLACE 1 INBOX {3+}\r\nnew\r\n", "NO");
    talk(rig, 0, "b UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 1\r\n");
    talk(rig, 0, "c REPLACE 1 INBOX {3+}\r\nnew\r\n", "OK");
}

static void a_client_that_goes_during_replace_leaves_nothing(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    say(rig, 0, "a REPLACE 1 INBOX {300}\r\n");
    hear(rig, 0, "+ ");
    say(rig, 0, "half of it");
    rig_rounds(rig, 3);
    stream_abort(rig->clients[0].stream);
    rig_rounds(rig, 10);
    assert_true(list_empty(&rig->mailbox.sessions));
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
    stream_release(rig->clients[0].stream);
    log_in(rig, 0);
    talk(rig, 0, "b STATUS INBOX (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1 UIDNEXT 2)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(a_message_takes_the_place_of_another),
        TEST(uid_replace_names_the_message_by_its_uid),
        TEST(a_draft_is_replaced_by_what_was_sent),
        TEST(binary_and_utf8_messages_replace_too),
        TEST(a_replace_that_cannot_be_changes_nothing),
        TEST(what_is_replaced_does_not_count_against_the_quota),
        TEST(of_two_that_replace_one_message_one_does),
        TEST(others_and_qresync_clients_are_told_of_both_halves),
        TEST(a_replace_whose_write_fails_has_not_happened),
        TEST(a_client_that_goes_during_replace_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
