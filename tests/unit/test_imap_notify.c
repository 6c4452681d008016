/* NOTIFY (RFC 5465) in sessions: who hears of what, and when. */
#include "tests/unit/imap_listen.h"

static struct imap_rig *two_with_more(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 1, "d CREATE Work/Old\r\n", "OK");
    talk(rig, 1, "e CREATE Other\r\n", "OK");
    return rig;
}

static void what_is_wrong_is_refused(void **state)
{
    static const struct {
        const char *set, *answer;
    } cases[] = {
        {"(personal (MessageNew))", "BAD"},
        {"(personal (MessageExpunge))", "BAD"},
        {"(personal (FlagChange))", "BAD"},
        {"(selected (MessageNew MessageExpunge MailboxName))", "BAD"},
        {"(selected (MessageNew MessageExpunge)) (selected-delayed (MessageNew MessageExpunge))",
         "BAD"},
        {"(personal (Nonsense))",
         "NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange "
         "MailboxMetadataChange ServerMetadataChange)]"},
        {"(personal (AnnotationChange))", "NO [BADEVENT ("},
        {"(personal (MessageNew (UID) MessageExpunge))", "BAD"}, /* of the selected one only */
        {"(selected (MessageNew MessageExpunge ServerMetadataChange))", "BAD"},
        {"(subtree Lists MessageNew)",
         "BAD"}, /* so in an example of §3.1, but not in the grammar */
        {"(nobody (MessageNew MessageExpunge))", "BAD"},
        {"(personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))", "OK"},
        {"(selected NONE)", "OK"},
    };
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "c CAPABILITY\r\n", "OK");
    expect(rig, 0, " NOTIFY");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[300];
        snprintf(command, sizeof(command), "n NOTIFY SET %s\r\n", cases[i].set);
        talk(rig, 0, command, cases[i].answer);
    }
    talk(rig, 0, "o NOTIFY NONE\r\n", "OK");
}

static void status_tells_all_at_once_and_then_what_changes(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0, "n NOTIFY SET STATUS (subtree Work (MessageNew MessageExpunge))\r\n", "OK");
    expect(rig, 0, "* STATUS Work (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ");
    expect(rig, 0, "* STATUS Work/Old (MESSAGES 0 ");
    expect_not(rig, 0, "Other");
    expect_not(rig, 0, "INBOX");
    append(rig, 1, "Other", LETTER);
    append(rig, 1, "Work/Old", LETTER);
    hear(rig, 0, "* STATUS Work/Old (MESSAGES 1 UIDNEXT 2 ");
    expect_not(rig, 0, "Other");
    forget(rig, 0);
    talk(rig, 1, "s SELECT Work/Old\r\n", "OK");
    talk(rig, 1, "t STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    forget(rig, 0);
    talk(rig, 1, "e EXPUNGE\r\n", "OK");
    hear(rig, 0, "* STATUS Work/Old (MESSAGES 0 UIDNEXT 2 ");
    talk(rig, 0, "o NOTIFY NONE\r\n", "OK");
    append(rig, 1, "Work", LETTER);
    rig_rounds(rig, 10);
    expect_not(rig, 0, "STATUS");
}

static void flags_are_told_to_who_asks_for_them(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0,
         "n NOTIFY SET (mailboxes (Other Work) (MessageNew MessageExpunge FlagChange)) (personal "
         "NONE)\r\n",
         "OK");
    talk(rig, 1, "s SELECT Work\r\n", "OK");
    talk(rig, 1, "t STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    hear(rig, 0, "* STATUS Work (UIDVALIDITY ");
    expect(rig, 0, "UNSEEN 0)");
    talk(rig, 0, "c ENABLE CONDSTORE\r\n", "OK");
    talk(rig, 1, "u STORE 1 -FLAGS (\\Seen)\r\n", "OK");
    hear(rig, 0, "* STATUS Work (UIDVALIDITY ");
    expect(rig, 0, "HIGHESTMODSEQ ");
}

static void mailboxes_and_subscriptions_are_told_by_name(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0, "n NOTIFY SET (subtree Work (MailboxName SubscriptionChange))\r\n", "OK");
    talk(rig, 1, "a CREATE Work/New\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work/New\r\n");
    talk(rig, 1, "b CREATE Elsewhere\r\n", "OK");
    talk(rig, 1, "c RENAME Work/New Work/Newer\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work/Newer (\"OLDNAME\" (Work/New))\r\n");
    talk(rig, 1, "d SUBSCRIBE Work/Newer\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren \\Subscribed) \"/\" Work/Newer\r\n");
    forget(rig, 0);
    talk(rig, 1, "e UNSUBSCRIBE Work/Newer\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work/Newer\r\n");
    talk(rig, 1, "f DELETE Work/Newer\r\n", "OK");
    hear(rig, 0, "* LIST (\\NonExistent \\HasNoChildren) \"/\" Work/Newer\r\n");
    talk(rig, 1, "g RENAME Elsewhere Work/Here\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work/Here (\"OLDNAME\" (Elsewhere))\r\n");
    expect_not(rig, 0, "STATUS");
}

static void only_what_is_subscribed(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 1, "s SUBSCRIBE Work\r\n", "OK");
    talk(rig, 0, "n NOTIFY SET (subscribed (MessageNew MessageExpunge))\r\n", "OK");
    append(rig, 1, "Other", LETTER);
    append(rig, 1, "Work", LETTER);
    hear(rig, 0, "* STATUS Work (MESSAGES 2 ");
    expect_not(rig, 0, "Other");
}

static void the_selected_mailbox_is_told_between_commands(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (UID BODY[HEADER.FIELDS (Subject)]) "
         "MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge))\r\n",
         "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* 2 EXISTS\r\n");
    hear(rig, 0, "* 2 FETCH (UID 2 BODY[HEADER.FIELDS (Subject)] {17}\r\n");
    expect_not(rig, 0, "STATUS INBOX");
    talk(rig, 1, "t SELECT INBOX\r\n", "OK");
    talk(rig, 1, "f FETCH 2 FLAGS\r\n", "OK");
    expect(rig, 1, "* 2 FETCH (FLAGS ())");
    talk(rig, 1, "u STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    hear(rig, 0, "* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\n");
    talk(rig, 1, "v EXPUNGE\r\n", "OK");
    hear(rig, 0, "* 1 EXPUNGE\r\n");
    append(rig, 1, "Other", LETTER);
    hear(rig, 0, "* STATUS Other (MESSAGES 1 ");
    talk(rig, 0, "m FETCH 1 UID\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 2)\r\n");
    say(rig, 0, "x NOOP"); /* a command has begun: numbers stay until it is over */
    append(rig, 1, "INBOX", LETTER);
    rig_rounds(rig, 20);
    expect_not(rig, 0, "EXISTS");
    say(rig, 0, "\r\n");
    hear(rig, 0, "x OK");
    expect(rig, 0, "* 2 EXISTS\r\n");
}

static void nothing_is_told_between_a_message_and_the_end_of_its_command(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (personal (MessageNew "
         "MessageExpunge))\r\n",
         "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    say(rig, 0, "a REPLACE 2 INBOX {4}\r\n");
    hear(rig, 0, "+ ");
    say(rig, 0, "a: b");
    rig_rounds(rig, 20);
    talk(rig, 1, "t SELECT INBOX\r\n", "OK");
    talk(rig, 1, "u STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "v EXPUNGE\r\n", "OK");
    append(rig, 1, "Other", LETTER);
    rig_rounds(rig, 20);
    assert_int_equal(rig->clients[0].heard_bytes, 0);
    for (struct list_node *node = rig->mailbox.sessions.next, *next; node != &rig->mailbox.sessions;
         node = next) {
        struct session *session = list_entry(node, struct session, node);
        next = node->next;
        session->ops->drain(session); /* the command is not torn off */
    }
    say(rig, 0, "\r\n");
    hear(rig, 0, "a OK");
    hear(rig, 0, "* STATUS Other (MESSAGES 1 ");
}

static void delayed_are_expunges_only(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0, "n NOTIFY SET (selected-delayed (MessageNew MessageExpunge))\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* 2 EXISTS\r\n");
    talk(rig, 1, "t SELECT INBOX\r\n", "OK");
    talk(rig, 1, "u STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "v EXPUNGE\r\n", "OK");
    rig_rounds(rig, 20);
    expect_not(rig, 0, "EXPUNGE");
    expect_not(rig, 0, "FETCH"); /* nor flags, which were not asked for */
    talk(rig, 0, "o NOOP\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
}

static void in_idle_all_is_told_as_ever(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (inboxes (MessageNew "
         "MessageExpunge))\r\n",
         "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    say(rig, 0, "i IDLE\r\n");
    hear(rig, 0, "+ ");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* 2 EXISTS\r\n");
    hear(rig, 0, "* 2 FETCH (UID 2)\r\n");
    append(rig, 1, "Work", LETTER);
    hear(rig, 0, "* STATUS Work (MESSAGES 2 ");
    say(rig, 0, "DONE\r\n");
    hear(rig, 0, "i OK");
}

static void too_many_mailboxes_end_it(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char command[480];
    log_in(rig, 0);
    log_in(rig, 1);
    talk(rig, 0, "n NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))\r\n", "OK");
    for (unsigned i = 0; i < 1000; i++) { /* of names that fill what is remembered */
        snprintf(command, sizeof(command), "c CREATE %0240u\r\n", i);
        talk(rig, 1, command, "OK");
        rig->clients[0].heard_bytes =
            strstr(rig->clients[0].heard, "OVERFLOW") != NULL ? rig->clients[0].heard_bytes : 0;
    }
    hear(rig, 0, "* OK [NOTIFICATIONOVERFLOW] ");
    forget(rig, 0);
    append(rig, 1, "INBOX", LETTER);
    rig_rounds(rig, 10);
    expect_not(rig, 0, "STATUS");
    talk(rig, 0, "m NOTIFY SET (personal (MessageNew MessageExpunge))\r\n", "OK");
    expect(rig, 0, "* OK [NOTIFICATIONOVERFLOW] ");
}

static void who_does_not_read_is_told_the_difference_once(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0, "n NOTIFY SET (mailboxes Work (MessageNew MessageExpunge))\r\n", "OK");
    rig->clients[0].deaf = true;
    for (unsigned i = 0; i < 200; i++) {
        append(rig, 1, "Work", LETTER);
    }
    struct imap_session *session = list_entry(
        list_entry(rig->mailbox.sessions.next, struct session, node), struct imap_session, session);
    assert_true(session->outbox.bytes < 256u * 1024);
    rig->clients[0].deaf = false;
    rig_hear(rig->clients[0].stream, 0, &rig->clients[0]);
    hear(rig, 0, "* STATUS Work (MESSAGES 201 ");
}

static void it_ends_with_the_login_and_the_session(void **state)
{
    struct imap_rig *rig = two_with_more(state);
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge)) (personal (MessageNew "
         "MessageExpunge))\r\n",
         "OK");
    talk(rig, 0, "u UNAUTHENTICATE\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    rig_rounds(rig, 10);
    expect_not(rig, 0, "STATUS");
    talk(rig, 0, "l LOGIN alice secret\r\n", "OK");
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (BODY.PEEK[]) MessageExpunge)) (personal (MessageNew "
         "MessageExpunge))\r\n",
         "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    say(rig, 1, "ap APPEND INBOX {22+}\r\nSubject: x\r\n\r\ntext one\r\n");
    for (unsigned i = 0; i < 3; i++) {
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
    }
    stream_abort(rig->clients[0].stream);
    stream_release(rig->clients[0].stream);
    rig->clients[0].stream = NULL;
    rig_rounds(rig, 20);
    assert_int_equal(rig->mailbox.counters.sessions, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(what_is_wrong_is_refused),
        TEST(status_tells_all_at_once_and_then_what_changes),
        TEST(flags_are_told_to_who_asks_for_them),
        TEST(mailboxes_and_subscriptions_are_told_by_name),
        TEST(only_what_is_subscribed),
        TEST(the_selected_mailbox_is_told_between_commands),
        TEST(nothing_is_told_between_a_message_and_the_end_of_its_command),
        TEST(delayed_are_expunges_only),
        TEST(in_idle_all_is_told_as_ever),
        TEST(too_many_mailboxes_end_it),
        TEST(who_does_not_read_is_told_the_difference_once),
        TEST(it_ends_with_the_login_and_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
