/* imap_notify_others: NOTIFY (RFC 5465) and the mailboxes of others: what is so wherever the owner's mail lies. */
#pragma once
#include "tests/unit/imap_belief.h"
#include "tests/unit/imap_listen.h"
#include "tests/unit/imap_two.h"

#define MESSAGES "(MessageNew MessageExpunge)"

/* Bob listens, alice does things. */
static inline struct imap_rig *bob_listens(void **state, const char *rights, const char *set)
{
    struct imap_rig *rig = alice_and_bob(state);
    char command[300];
    bob_may(rig, rights);
    snprintf(command, sizeof(command), "n NOTIFY SET %s\r\n", set);
    talk(rig, 1, command, "OK");
    return rig;
}

static inline void bob_hears_nothing(struct imap_rig *rig)
{
    rig_rounds(rig, 30);
    if (rig->clients[1].heard_bytes > 0) {
        fail_msg("bob was told:\n%s", rig->clients[1].heard);
    }
}

static inline void messages_of_another_are_told_under_his_name(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr", "STATUS (mailboxes shared/alice/work (MessageNew MessageExpunge FlagChange))");
    expect(rig, 1, "* STATUS shared/alice/work (MESSAGES 2 UIDNEXT 3 UIDVALIDITY ");
    expect(rig, 1, "UNSEEN 2 HIGHESTMODSEQ ");
    expect_not(rig, 1, "INBOX");
    forget(rig, 1);
    append(rig, 0, "INBOX", LETTER);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 UIDNEXT 4 ");
    expect_not(rig, 1, "INBOX");
    talk(rig, 0, "s SELECT work\r\n", "OK");
    talk(rig, 0, "t STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    hear(rig, 1, "* STATUS shared/alice/work (UIDVALIDITY ");
    expect(rig, 1, "UNSEEN 2)");
    talk(rig, 0, "u STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "e EXPUNGE\r\n", "OK");
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 2 UIDNEXT 4 ");
}

static inline void the_inbox_of_another_has_its_name_in_any_letters(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a SETACL INBOX bob lr\r\n", "OK");
    talk(rig, 0, "b CREATE INBOX/Old\r\n", "OK");
    talk(rig, 1,
         "n NOTIFY SET (mailboxes shared/alice/inbox " MESSAGES
         ") (subtree shared/alice/Inbox/Old (MailboxName))\r\n",
         "OK");
    forget(rig, 1);
    append(rig, 0, "INBOX", LETTER);
    hear(rig, 1, "* STATUS shared/alice/INBOX (MESSAGES 1 ");
    talk(rig, 0, "c DELETE INBOX/Old\r\n", "OK");
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/INBOX/Old\r\n");
}

static inline void a_subscription_is_enough_and_can_come_later(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lr", "(subscribed (MessageNew MessageExpunge SubscriptionChange))");
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "s SUBSCRIBE shared/alice/work\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren \\Subscribed) \"/\" shared/alice/work\r\n");
    expect_not(rig, 1, "NonExistent");
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
    forget(rig, 1);
    talk(rig, 2, "t UNSUBSCRIBE shared/alice/work\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
    talk(rig, 2, "u SUBSCRIBE shared/alice/none\r\n",
         "OK"); /* what is not to be seen is not there */
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" shared/alice/none\r\n");
}

static inline void what_may_not_be_seen_is_ignored_and_what_may_not_be_read_is_said(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "l",
                    "STATUS (mailboxes (shared/alice/work shared/alice/INBOX shared/nobody/x) "
                    "(MessageNew MessageExpunge MailboxMetadataChange))");
    expect(rig, 1, "* LIST (\\NoAccess) \"/\" shared/alice/work\r\n");
    expect_not(rig, 1, "INBOX");
    expect_not(rig, 1, "STATUS");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    talk(rig, 0, "a SETMETADATA work (/shared/comment \"x\")\r\n", "OK");
    bob_hears_nothing(rig);
    bob_may(rig, "r"); /* RFC 5465 §5: both are needed */
    hear(rig, 1, "* LIST (\\NoAccess) \"/\" shared/alice/work\r\n");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
    bob_may(rig, "lr");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 4 ");
    bob_may(rig, "l");
    hear(rig, 1, "* LIST (\\NoAccess \\HasNoChildren) \"/\" shared/alice/work\r\n");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
}

static inline void what_is_told_by_name_is_what_list_shows(void **state)
{
    lists_are_believed((struct imap_rig *)*state);
}
