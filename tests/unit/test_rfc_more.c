/*
 * The examples of smaller RFCs: 2971 (ID), 4314 (ACL), 5464 (METADATA), 5465 (NOTIFY), 7888 (LITERAL+), 7889
 * (APPENDLIMIT), 8437 (UNAUTHENTICATE), 8438 (STATUS=SIZE), 8474 (OBJECTID), 8970 (PREVIEW), 9208 (QUOTA), 4978
 * (COMPRESS). Mail, names and numbers are ours.
 */
#include "tests/unit/rfc_play.h"

static void who_are_you(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 2971 §3.1 */
        {0, "a023 ID (\"name\" \"sodr\" \"version\" \"19.34\" \"vendor\" \"Pink Limited\")",
         "* ID (\"name\" \"%\"%)\na023 OK %"},
        {0, "a042 ID NIL", "* ID (\"name\" %)\na042 OK %"},
        {0, "a043 ID (\"name\")", "a043 BAD %"},
    };
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    RFC_PLAY(rig, steps);
}

static void literals_need_not_wait(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A001 LOGIN <+alice+> <+secret+>", "!+ %\nA001 OK %"}, /* RFC 7888 §4 */
        {0, "u UNAUTHENTICATE", "u OK %"},                         /* RFC 8437 §2 */
        {0, "s SELECT INBOX", "s BAD %"},
        {0, "A002 LOGIN <+bob+> secret", "A002 OK %"},
    };
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    RFC_PLAY(rig, steps);
}

static void rights_are_given_and_told(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 4314 §3 */
        {0, "c CREATE INBOX/Drafts", "c OK %"},
        {0, "A001 SeTacl INBOX/Drafts David lrswida", "A001 OK %"},
        {0, "A002 getacl INBOX/Drafts",
         "* ACL INBOX/Drafts david lrwstiead alice lrwstipekxacd\nA002 OK %"},
        {0, "A003 Setacl INBOX/Drafts Byron lrswikda", "A003 OK %"},
        {0, "A004 SETACL INBOX/Drafts Byron +cda", "A004 OK %"},
        {0, "A005 GETACL INBOX/Drafts", "* ACL INBOX/Drafts %byron lrwstiekxacd%\nA005 OK %"},
        {0, "A006 SETACL INBOX/Drafts Byron -wd", "A006 OK %"},
        {0, "A007 GETACL INBOX/Drafts", "* ACL INBOX/Drafts %byron lrsikxac%\nA007 OK %"},
        {0, "A035 SETACL INBOX/Drafts John lrQswicda", "A035 BAD %"},
        {0, "A036 SETACL INBOX/Drafts John lrqswicda", "A036 BAD %"},
        {0, "B000 SETACL INBOX/Drafts -byron wetd", "B000 OK %"},
        {0, "B001 getacl INBOX/Drafts", "* ACL INBOX/Drafts %-byron %\nB001 OK %"},
        {0, "B002 DeleteAcl INBOX/Drafts byron", "B002 OK %"},
        {0, "B003 GETACL INBOX/Drafts", "!* ACL % byron %\n* ACL %-byron %\nB003 OK %"},
        {0, "a001 LISTRIGHTS INBOX/Drafts smith", "* LISTRIGHTS INBOX/Drafts smith %\na001 OK %"},
        {0, "a005 listrights INBOX anyone", "* LISTRIGHTS INBOX anyone \"\" %\na005 OK %"},
        {0, "A008 MYRIGHTS INBOX", "* MYRIGHTS INBOX lrwstipekxacd\nA008 OK %"},
        {0, "A009 MYRIGHTS none", "A009 NO [NONEXISTENT] %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

/* RFC 4314 §4: flags that one has no right to are not copied. */
static void rights_say_what_is_copied(void **state)
{
    static const struct rfc_step steps[] = {
        {1, "c CREATE Target", "c OK %"},
        {1, "d SETACL Target alice lrwis", "d OK %"},
        {0, "A003 MYRIGHTS shared/bob/Target", "* MYRIGHTS shared/bob/Target lrwsi\nA003 OK %"},
        {0, "s SELECT INBOX", "s OK %"},
        {0, "t STORE 1 +FLAGS.SILENT (\\Draft \\Deleted)", "t OK %"},
        {0, "u STORE 2 +FLAGS.SILENT ($Forwarded \\Seen)", "u OK %"},
        {0, "A005 COPY 1:2 shared/bob/Target", "A005 OK [COPYUID ^ 1:2 1:2] %"},
        {0, "A142 SELECT shared/bob/Target",
         "* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Draft $Forwarded \\*)] %\n"
         "A142 OK [READ-WRITE] %"},
        {0, "A007 FETCH 1:2 (FLAGS)",
         "* 1 FETCH (FLAGS (\\Draft))\n* 2 FETCH (FLAGS (\\Seen $Forwarded))\nA007 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    connect_client(rig, 1);
    talk(rig, 1, "l LOGIN bob secret\r\n", "OK");
    RFC_PLAY(rig, steps);
}

static void entries_are_kept(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 5464 §4.2, §4.3 */
        {0, "a SETMETADATA INBOX (/private/comment <<My new comment across\ntwo lines.\n>>)",
         "a OK %"},
        {0, "b GETMETADATA \"INBOX\" /private/comment",
         "* METADATA INBOX (/private/comment {^}\nMy new comment across\ntwo lines.\n%)\nb OK %"},
        {0, "c SETMETADATA INBOX (/private/comment NIL)", "c OK %"},
        {0,
         "d SETMETADATA INBOX (/private/comment \"My new comment\" /shared/comment \"This one is "
         "for you!\")",
         "d OK %"},
        {0, "e GETMETADATA \"INBOX\" (/shared/comment /private/comment)",
         "* METADATA INBOX (/shared/comment \"This one is for you!\" /private/comment \"My new "
         "comment\")\ne OK %"},
        {0, "f GETMETADATA \"INBOX\" (MAXSIZE 14) (/shared/comment /private/comment)",
         "* METADATA INBOX (/private/comment \"My new comment\")\nf OK [METADATA LONGENTRIES 20] "
         "%"},
        {0,
         "g SETMETADATA INBOX (/private/filters/values/small \"SMALLER 5000\" "
         "/private/filters/values/boss \"FROM \\\"boss@example.com\\\"\")",
         "g OK %"},
        {0, "h GETMETADATA \"INBOX\" (DEPTH 1) (/private/filters/values)",
         "* METADATA INBOX (/private/filters/values/boss \"FROM \\\"boss@example.com\\\"\" "
         "/private/filters/values/small \"SMALLER 5000\")\nh OK %"},
        {0, "i GETMETADATA \"\" /shared/comment", "* METADATA \"\" (/shared/comment NIL)\ni OK %"},
        {0, "j SETMETADATA INBOX (/private/a*b \"x\")", "j BAD %"},
        {0, "k SETMETADATA INBOX (/private//b \"x\")", "k BAD %"},
        {0, "l GETMETADATA INBOX /private/b/", "l BAD %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void notifications_come_by_themselves(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 5465 §3.1, §5, §6 */
        {1, "c CREATE Lists/Lemonade", "c OK %"},
        {1, "c CREATE Lists/Im2000", "c OK %"},
        {1, "c CREATE misc", "c OK %"},
        {0,
         "b notify set status (selected (MessageNew (uid body.peek[header.fields (from to "
         "subject)]) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))",
         "* STATUS Lists/Lemonade (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ^%)\n"
         "* STATUS Lists/Im2000 (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ^%)\nb OK %"},
        {0, "c select inbox", "* 0 EXISTS\nc OK %"},
        {1, "d APPEND Lists/Lemonade <+Subject: x\n\nx\n+>", "d OK %"},
        {0, NULL, "* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 %)"},
        {1, "e APPEND INBOX <+Subject: Re: good morning\nFrom: alice@example.org\nTo: bob\n\nx\n+>",
         "e OK %"},
        {0, NULL,
         "* 1 EXISTS\n* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {^}\nSubject: Re: "
         "good "
         "morning\nFrom: alice@example.org\nTo: bob\n\n)"},
        {0, "d STATUS misc (UIDVALIDITY UIDNEXT MESSAGES)",
         "* STATUS misc (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ^)\nd OK %"},
        {0,
         "e notify set (selected (MessageNew (uid) MessageExpunge FlagChange)) (subtree Lists "
         "(MessageNew MessageExpunge)) (mailboxes misc (MessageNew MessageExpunge MailboxName))",
         "!* STATUS %\ne OK %"},
        {1, "f APPEND misc <+Subject: x\n\nx\n+>", "f OK %"},
        {0, NULL, "* STATUS misc (MESSAGES 1 UIDNEXT 2 %)"},
        {1, "s SELECT INBOX", "s OK %"},
        {1, "g STORE 1 +FLAGS ($Junk)", "g OK %"},
        {0, NULL, "* 1 FETCH (UID 1 FLAGS ($Junk))"},
        {1, "h STORE 1 +FLAGS.SILENT (\\Deleted)", "h OK %"},
        {1, "i EXPUNGE", "i OK %"},
        {0, NULL, "* 1 EXPUNGE"},
        {1, "j DELETE misc", "j OK %"},
        {0, NULL, "* LIST (\\NonExistent%) \"/\" misc"},
        {0,
         "a notify set (mailboxes INBOX (Messagenew messageExpunge)) (personal "
         "(SubscriptionChange))",
         "a OK %"},
        {0,
         "k notify set (selected (Messagenew (uid flags) messageExpunge)) (personal (MessageNew "
         "FlagChange MessageExpunge))",
         "k OK %"},
        {0, "l NOTIFY NONE", "l OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    log_in(rig, 1);
    RFC_PLAY(rig, steps);
}

static void sizes_are_told(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A01 STATUS INBOX (MESSAGES SIZE UIDNEXT)",
         "* STATUS INBOX (MESSAGES 1 UIDNEXT 2 SIZE 18)\nA01 OK %"}, /* RFC 8438 §4 */
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A03 FETCH 1:* (RFC822.SIZE)", "* 1 FETCH (RFC822.SIZE 18)\nA03 OK %"},
        {0, "A04 LIST \"\" % RETURN (STATUS (MESSAGES SIZE))",
         "* LIST (%) \"/\" INBOX\n* STATUS INBOX (MESSAGES 1 SIZE 18)\nA04 OK %"},
        {0, "t1 CAPABILITY", "* CAPABILITY % APPENDLIMIT=^\nt1 OK %"}, /* RFC 7889 §3, §4 */
        {0, "t2 STATUS INBOX (APPENDLIMIT)", "* STATUS INBOX (APPENDLIMIT ^)\nt2 OK %"},
        {0, "t3 LIST \"\" % RETURN (STATUS (APPENDLIMIT))",
         "* LIST (%) \"/\" INBOX\n* STATUS INBOX (APPENDLIMIT ^)\nt3 OK %"},
        {0, "a CREATE saved", "a OK %"},
        {0, "G1 GETQUOTAROOT INBOX",
         "* QUOTAROOT INBOX%\nG1 OK %"}, /* RFC 9208 §4.1.2; a quota of which nothing is said */
        {0, "t STORE 1 +FLAGS.SILENT (\\Deleted)", "t OK %"},
        {0, "S1 STATUS INBOX (MESSAGES DELETED DELETED-STORAGE)",
         "* STATUS INBOX (MESSAGES 1 DELETED 1 DELETED-STORAGE 18)\nS1 OK %"}, /* §4.1.4 */
        {0, "e EXPUNGE", "e OK %"},
        {0, "S2 STATUS INBOX (DELETED DELETED-STORAGE)",
         "* STATUS INBOX (DELETED 0 DELETED-STORAGE 0)\nS2 OK %"},
        {0, "S2 SETQUOTA \"#user/alice\" (STORAGE 510)", "S2 NO %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    append(rig, 0, "INBOX", "Subject: x\r\n\r\nab\r\n");
    RFC_PLAY(rig, steps);
}

static void mailboxes_and_messages_have_ids(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 8474 §4, §5 */
        {0, "3 create foo", "3 OK [MAILBOXID (F%)] %"},
        {0, "5 create foo", "5 NO [ALREADYEXISTS] %"},
        {0, "27 select \"foo\"", "* OK [MAILBOXID (F%)] %\n27 OK [READ-WRITE] %"},
        {0, "6 status foo (mailboxid)", "* STATUS foo (MAILBOXID (F%))\n6 OK %"},
        {0, "8 rename foo renamed", "8 OK %"},
        {0, "9 status renamed (mailboxid)", "* STATUS renamed (MAILBOXID (F%))\n9 OK %"},
        {0, "11 list \"\" \"*\" return (status (mailboxid))",
         "* LIST (%) \"/\" INBOX\n* STATUS INBOX (MAILBOXID (F%))\n* LIST (%) \"/\" renamed\n"
         "* STATUS renamed (MAILBOXID (F%))\n11 OK %"},
        {0, "21 select inbox", "21 OK %"},
        {0, "22 fetch 1:* (emailid threadid)",
         "* 1 FETCH (EMAILID (M%) THREADID (T%))\n* 2 FETCH (EMAILID (M%) THREADID (T%))\n22 OK %"},
        {0, "23 move 2 renamed", "* OK [COPYUID ^ 2 1] %\n* 2 EXPUNGE\n23 OK %"},
        {0, "24 fetch 1:* (emailid threadid)", "* 1 FETCH (EMAILID (M%) THREADID (T%))\n24 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

static void messages_are_previewed(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 8970 §3, §6 */
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A1 FETCH 1 (PREVIEW)", "* 1 FETCH (PREVIEW \"text of 1\")\nA1 OK %"},
        {0, "A2 FETCH 1 (RFC822.SIZE PREVIEW)",
         "* 1 FETCH (RFC822.SIZE ^ PREVIEW \"text of 1\")\nA2 OK %"},
        {0, "B1 FETCH 1:2 (ENVELOPE PREVIEW (LAZY))",
         "* 1 FETCH (ENVELOPE (%) PREVIEW %)\n* 2 FETCH (ENVELOPE (%) PREVIEW %)\nB1 OK %"},
        {0, "C2 SEARCH RETURN (SAVE) FROM \"FRED\"\nC3 FETCH $ (UID PREVIEW (LAZY))",
         "C2 OK %\n* 1 FETCH (UID 1 PREVIEW %)\n* 2 FETCH (UID 2 PREVIEW %)\nC3 OK %"},
        {0, "C4 UID FETCH 2 (PREVIEW)", "* 2 FETCH (UID 2 PREVIEW \"text of 2\")\nC4 OK %"},
        {0, "C5 FETCH 1 (FLAGS)", "* 1 FETCH (FLAGS ())\nC5 OK %"}, /* nobody has read it */
        {0, "c compress deflate", "c OK %"},                        /* RFC 4978 §3 */
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(who_are_you),
        TEST(literals_need_not_wait),
        TEST(rights_are_given_and_told),
        TEST(rights_say_what_is_copied),
        TEST(entries_are_kept),
        TEST(notifications_come_by_themselves),
        TEST(sizes_are_told),
        TEST(mailboxes_and_messages_have_ids),
        TEST(messages_are_previewed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
