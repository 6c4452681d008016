/* NOTIFY (RFC 5465): each event as §5 wants it, what the client does itself, and silence where nothing is asked for. */
#include "tests/unit/imap_listen.h"
#include "tests/unit/imap_two.h"

static void without_selected_the_mailbox_stays_as_it_was(void **state)
{
    static const char *const sets[] = {"NONE", "SET (selected NONE)",
                                       "SET (mailboxes Work (MessageNew MessageExpunge))"};
    struct imap_rig *rig = two(state);
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        char command[120];
        talk(rig, 0, "s SELECT INBOX\r\n", "OK");
        snprintf(command, sizeof(command), "n NOTIFY %s\r\n", sets[i]);
        talk(rig, 0, command, "OK");
        append(rig, 1, "INBOX", LETTER);
        talk(rig, 1, "t STORE 1 +FLAGS (\\Flagged)\r\n", "OK");
        talk(rig, 1, "t STORE 1 -FLAGS (\\Flagged)\r\n", "OK");
        talk(rig, 1, "u STORE 2 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
        talk(rig, 1, "e EXPUNGE\r\n", "OK");
        talk(rig, 0, "o NOOP\r\n", "OK");
        expect_not(rig, 0, "*");
        say(rig, 0, "i IDLE\r\n");
        hear(rig, 0, "+ ");
        rig_rounds(rig, 10);
        expect_not(rig, 0, "*");
        say(rig, 0, "DONE\r\n");
        hear(rig, 0, "i OK");
    }
}

static void so_it_is_a_snapshot_that_each_notify_set_renews(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "n NOTIFY SET (selected NONE)\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "o NOOP\r\n", "OK");
    expect_not(rig, 0, "EXISTS");
    talk(rig, 0, "m NOTIFY SET (selected NONE)\r\n", "OK");
    expect(rig, 0, "* 2 EXISTS\r\n");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "p STORE 1 +FLAGS (\\Deleted)\r\n", "OK"); /* its own doing is told */
    expect(rig, 0, "* 1 FETCH (FLAGS (\\Deleted))\r\n");
    talk(rig, 0, "q EXPUNGE\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    expect_not(rig, 0, "EXISTS");
    talk(rig, 0, "r FETCH 1 UID\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 2)\r\n");
    talk(rig, 0, "u UNAUTHENTICATE\r\n", "OK"); /* as if there had been no NOTIFY */
    talk(rig, 0, "l LOGIN alice secret\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "o NOOP\r\n", "OK");
    expect(rig, 0, "* 3 EXISTS\r\n");
}

static void notify_set_tells_first_what_has_happened(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "t STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 1, "e EXPUNGE\r\n", "OK");
    talk(rig, 0, "n NOTIFY SET (mailboxes Work (MessageNew MessageExpunge))\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    expect(rig, 0, "* 1 EXISTS\r\n");
}

static void all_groups_of_a_mailbox_count(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0,
         "n NOTIFY SET (mailboxes INBOX (Messagenew messageExpunge)) (personal "
         "(SubscriptionChange))\r\n",
         "OK");
    talk(rig, 1, "a SUBSCRIBE INBOX\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX\r\n");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 ");
    append(rig, 1, "Work", LETTER);
    rig_rounds(rig, 10);
    expect_not(rig, 0, "Work");
}

static void the_first_status_has_a_modseq_where_flags_are_asked_for(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0,
         "n NOTIFY SET STATUS (mailboxes Work (MessageNew MessageExpunge FlagChange)) (mailboxes "
         "INBOX (MessageNew MessageExpunge))\r\n",
         "OK");
    expect(rig, 0, "* STATUS Work (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ");
    const char *work = strstr(rig->clients[0].heard, "* STATUS Work (");
    const char *modseq = strstr(rig->clients[0].heard, "HIGHESTMODSEQ ");
    assert_true(work != NULL && modseq > work && modseq < strchr(work, '\r'));
    assert_null(strstr(modseq + 1, "HIGHESTMODSEQ "));
}

static void parents_of_what_comes_and_goes_are_told_too(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "n NOTIFY SET (personal (MailboxName))\r\n", "OK");
    talk(rig, 1, "a CREATE Work/New\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work/New\r\n");
    hear(rig, 0, "* LIST (\\HasChildren) \"/\" Work\r\n");
    forget(rig, 0);
    talk(rig, 1, "b DELETE Work/New\r\n", "OK");
    hear(rig, 0, "* LIST (\\NonExistent \\HasNoChildren) \"/\" Work/New\r\n");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Work\r\n");
    talk(rig, 1, "c CREATE Lists/Lemonade\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Lists/Lemonade\r\n");
    hear(rig, 0, "* LIST (\\NonExistent \\HasChildren) \"/\" Lists\r\n");
    talk(rig, 1, "d CREATE Drafts (USE (\\Drafts))\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren \\Drafts) \"/\" Drafts\r\n");
}

static void what_has_been_renamed_with_its_parent_is_not_told(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 1, "a CREATE Work/Old\r\n", "OK");
    talk(rig, 1, "b CREATE Work/Old/Older\r\n", "OK");
    talk(rig, 0, "n NOTIFY SET (personal (MailboxName))\r\n", "OK");
    talk(rig, 1, "c RENAME Work Play\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasChildren) \"/\" Play (\"OLDNAME\" (Work))\r\n");
    rig_rounds(rig, 10);
    expect_not(rig, 0, "Old\r\n");
    expect_not(rig, 0, "Older");
    talk(rig, 1, "d RENAME INBOX Archive\r\n", "OK");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Archive (\"OLDNAME\" (INBOX))\r\n");
    rig_rounds(rig, 10);
    expect_not(rig, 0, "\"/\" INBOX"); /* it is there again, as ever */
}

static void entries_that_change_are_named(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "n NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))\r\n", "OK");
    talk(rig, 1, "a SETMETADATA Work (/shared/comment \"x\" /private/comment \"y\")\r\n", "OK");
    hear(rig, 0, "* METADATA Work /shared/comment /private/comment\r\n");
    talk(rig, 1, "b SETMETADATA Work (/shared/comment NIL)\r\n", "OK");
    hear(rig, 0, "* METADATA Work /shared/comment\r\n");
    talk(rig, 1, "c SETMETADATA \"\" (/private/vendor/x/y \"z\")\r\n", "OK");
    hear(rig, 0, "* METADATA \"\" /private/vendor/x/y\r\n");
    talk(rig, 1, "d SETMETADATA Work (/private/specialuse \"\\\\Junk\")\r\n", "OK");
    hear(rig, 0, "* METADATA Work /private/specialuse\r\n");
    forget(rig, 0);
    talk(rig, 1, "e SETACL Work bob lr\r\n", "OK"); /* properties that are no entries */
    rig_rounds(rig, 10);
    expect_not(rig, 0, "METADATA");
}

static void entries_are_named_to_who_asks_and_may_know_of_them(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "n NOTIFY SET (mailboxes Work (MessageNew MessageExpunge))\r\n", "OK");
    for (unsigned i = 0; i < 30; i++) {
        char command[120];
        snprintf(command, sizeof(command), "a SETMETADATA Work (/shared/x%u \"x\")\r\n", i);
        talk(rig, 1, command, "OK");
    }
    talk(rig, 0, "m NOTIFY SET (mailboxes Work (MailboxMetadataChange))\r\n", "OK");
    log_in_as(rig, 2, "bob");
    talk(rig, 1, "c SETACL Work bob lrw\r\n", "OK");
    talk(rig, 2, "d SETMETADATA shared/alice/Work (/private/comment \"mine\")\r\n", "OK");
    talk(rig, 1, "e SETMETADATA INBOX (/shared/comment \"x\")\r\n", "OK");
    rig_rounds(rig, 10);
    expect_not(rig, 0, "METADATA");
    talk(rig, 2, "f SETMETADATA shared/alice/Work (/shared/comment \"ours\")\r\n", "OK");
    hear(rig, 0, "* METADATA Work /shared/comment\r\n");
}

static void a_mailbox_that_may_not_be_read_is_told_as_such(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 1, "a SETACL Work alice -r\r\n", "OK");
    talk(rig, 0,
         "n NOTIFY SET STATUS (mailboxes (Work INBOX nowhere) (MessageNew MessageExpunge))\r\n",
         "OK");
    expect(rig, 0, "* LIST (\\NoAccess) \"/\" Work\r\n");
    expect(rig, 0, "* STATUS INBOX (");
    expect_not(rig, 0, "STATUS Work");
    expect_not(rig, 0, "nowhere");
    append(rig, 1, "Work", LETTER);
    rig_rounds(rig, 10);
    expect_not(rig, 0, "STATUS Work");
    talk(rig, 1, "b SETACL Work alice +r\r\n", "OK");
    append(rig, 1, "Work", LETTER);
    hear(rig, 0, "* STATUS Work (MESSAGES 3 ");
}

static void of_its_own_doing_a_client_is_not_told(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0,
         "n NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (personal (MessageNew "
         "MessageExpunge MailboxName SubscriptionChange))\r\n",
         "OK");
    talk(rig, 0, "a CREATE Mine/Own\r\n", "OK");
    talk(rig, 0, "b SUBSCRIBE Mine/Own\r\n", "OK");
    talk(rig, 0, "c RENAME Work Mine/Work\r\n", "OK");
    append(rig, 0, "Mine/Own", LETTER);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "d COPY 1 Mine/Own\r\n", "OK");
    talk(rig, 0, "e UNSUBSCRIBE Mine/Own\r\n", "OK");
    append(rig, 0, "INBOX", LETTER);
    rig_rounds(rig, 10);
    expect(rig, 0, "* 2 EXISTS\r\n");
    expect_not(rig, 0, "FETCH");
    expect_not(rig, 0, "* LIST");
    expect_not(rig, 0, "* STATUS");
    talk(rig, 0, "f DELETE Mine/Own\r\n", "OK");
    rig_rounds(rig, 10);
    expect_not(rig, 0, "*");
    append(rig, 1, "INBOX", LETTER); /* but of what others do */
    hear(rig, 0, "* 3 FETCH (UID 3)\r\n");
    append(rig, 1, "Mine/Work", LETTER);
    hear(rig, 0, "* STATUS Mine/Work (MESSAGES 2 ");
}

static void what_others_do_meanwhile_is_not_lost_in_it(void **state)
{
    struct imap_rig *rig = two(state);
    talk(rig, 0, "n NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))\r\n", "OK");
    say(rig, 0, "a APPEND Work {25+}\r\nSubject: x\r\n\r\n0123456789a"); /* not all of it yet */
    rig_rounds(rig, 5);
    append(rig, 1, "Work", LETTER);
    talk(rig, 1, "b CREATE Others\r\n", "OK");
    say(rig, 0, "\r\n");
    hear(rig, 0, "a OK");
    hear(rig, 0, "* STATUS Work (MESSAGES 3 ");
    hear(rig, 0, "* LIST (\\HasNoChildren) \"/\" Others\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(without_selected_the_mailbox_stays_as_it_was),
        TEST(so_it_is_a_snapshot_that_each_notify_set_renews),
        TEST(notify_set_tells_first_what_has_happened),
        TEST(all_groups_of_a_mailbox_count),
        TEST(the_first_status_has_a_modseq_where_flags_are_asked_for),
        TEST(parents_of_what_comes_and_goes_are_told_too),
        TEST(what_has_been_renamed_with_its_parent_is_not_told),
        TEST(entries_that_change_are_named),
        TEST(entries_are_named_to_who_asks_and_may_know_of_them),
        TEST(a_mailbox_that_may_not_be_read_is_told_as_such),
        TEST(of_its_own_doing_a_client_is_not_told),
        TEST(what_others_do_meanwhile_is_not_lost_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
