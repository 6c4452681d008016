/* The examples of RFC 9051 §6.1 to §6.3: any state, before login, mailboxes. Mail, names and numbers are ours. */
#include "tests/unit/rfc_play.h"

static void what_is_possible_in_any_state(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "abcd CAPABILITY", "* CAPABILITY %IMAP4rev2%\nabcd OK %"}, /* §6.1.1 */
        {0, "a002 NOOP", "a002 OK %"},                                 /* §6.1.2 */
        {0, "A023 LOGOUT", "* BYE %\nA023 OK %"},                      /* §6.1.3 */
    };
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    RFC_PLAY(rig, steps);
}

static void noop_tells_what_has_happened(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "s SELECT INBOX", "* 3 EXISTS\ns OK %"},
        {1, "s SELECT INBOX", "s OK %"},
        {1, "t STORE 1 +FLAGS.SILENT (\\Deleted)", "t OK %"},
        {1, "e EXPUNGE", "* 1 EXPUNGE\ne OK %"},
        {1, "f UID STORE 2 +FLAGS (\\Seen \\Deleted)", "f OK %"},
        {1, "g APPEND INBOX <<Subject: x\n\nx\n>>", "g OK %"},
        {0, "a047 NOOP",
         "* 1 EXPUNGE\n* 3 EXISTS\n* 1 FETCH (FLAGS (\\Seen \\Deleted))\na047 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 3);
    log_in(rig, 1);
    RFC_PLAY(rig, steps);
}

static void a_client_logs_in(void **state)
{
    static const struct rfc_step steps[] = {
        /* §6.2.3; §4.3: strings may be literals */
        {0, "a001 LOGIN alice secret", "a001 OK %"},
        {1, "A001 LOGIN <<alice>> <<secret>>", "A001 OK %"},
        {2, "A01 AUTHENTICATE PLAIN\nAGFsaWNlAHNlY3JldA==", "+ \nA01 OK %"}, /* §6.2.2 */
        {3, "a004 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==", "!+ %\na004 OK %"},
    };
    struct imap_rig *rig = (struct imap_rig *)*state;
    for (unsigned i = 0; i < 4; i++) {
        connect_client(rig, i);
    }
    RFC_PLAY(rig, steps);
}

static void enable_tells_what_it_has_enabled(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "t2 ENABLE CONDSTORE X-GOOD-IDEA", "* ENABLED CONDSTORE\nt2 OK %"}, /* §6.3.1 */
        {0, "a1 ENABLE CONDSTORE", "* ENABLED\na1 OK %"},                       /* it is already */
        {0, "t3 CAPABILITY", "* CAPABILITY %\nt3 OK %"},
        {0, "t4 ENABLE CONDSTORE QRESYNC", "* ENABLED QRESYNC\nt4 OK %"}, /* §7.2.1 */
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void select_tells_of_the_mailbox(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE Drafts", "c OK %"},
        {0, "babc ENABLE IMAP4rev2", "* ENABLED IMAP4rev2\nbabc OK %"}, /* §8 */
        {0, "A142 SELECT INBOX", "* 2 EXISTS\nA142 OK [READ-WRITE] %"}, /* §6.3.2 */
        {0, "A142 SELECT INBOX", "* OK [UIDVALIDITY ^] %\nA142 OK [READ-WRITE] %"},
        {0, "A142 SELECT INBOX", "* OK [UIDNEXT 3] %\nA142 OK [READ-WRITE] %"},
        {0, "A142 SELECT INBOX",
         "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)\n* OK [PERMANENTFLAGS "
         "(\\Seen \\Answered \\Flagged \\Deleted \\Draft \\*)] %\n!* % RECENT\n!* OK [UNSEEN %\n"
         "A142 OK [READ-WRITE] %"},
        {0, "A142 SELECT INBOX", "* LIST (%) \"/\" INBOX\nA142 OK [READ-WRITE] %"},
        {0, "A143 SELECT Drafts", "* OK [CLOSED] %\n* 0 EXISTS\nA143 OK [READ-WRITE] %"},
        {0, "A144 SELECT Drafts", "* LIST (%) \"/\" Drafts\nA144 OK %"},
        {0, "A932 EXAMINE INBOX",
         "* OK [PERMANENTFLAGS ()] %\n* 2 EXISTS\nA932 OK [READ-ONLY] %"}, /* §6.3.3 */
        {0, "A933 EXAMINE INBOX", "* LIST (%) \"/\" INBOX\nA933 OK [READ-ONLY] %"},
        {0, "x SELECT nowhere", "* OK [CLOSED] %\nx NO %"},
        {0, "y FETCH 1 UID", "y BAD %"}, /* nothing is selected any more */
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

static void mailboxes_come_and_go(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A003 CREATE owatagusiam/", "A003 OK %"}, /* §6.3.4 */
        {0, "A004 CREATE owatagusiam/blurdybloop", "A004 OK %"},
        {0, "A005 CREATE inbox", "A005 NO [ALREADYEXISTS] %"},
        {0, "c1 CREATE blurdybloop", "c1 OK %"}, /* §6.3.5 */
        {0, "c2 CREATE foo/bar", "c2 OK %"},
        {0, "A682 LIST \"\" *",
         "* LIST (%) \"/\" blurdybloop\n* LIST (\\Noselect%) \"/\" foo\n* LIST (%) \"/\" foo/bar\n"
         "A682 OK %"},
        {0, "A683 DELETE blurdybloop", "A683 OK %"},
        {0, "A684 DELETE foo", "A684 NO %"},
        {0, "A685 DELETE foo/bar", "A685 OK %"},
        {0, "A687 LIST \"\" foo", "!* LIST %\nA687 OK %"},
        {0, "c3 CREATE foo", "c3 OK %"},
        {0, "c4 CREATE foo/bar", "c4 OK %"},
        {0, "A84 DELETE foo", "A84 OK %"}, /* one with children leaves them */
        {0, "A85 LIST \"\" *", "* LIST (%) \"/\" foo/bar\nA85 OK %"},
        {0, "A86 LIST \"\" %", "* LIST (\\Noselect%) \"/\" foo\nA86 OK %"},
        {0, "A87 DELETE inbox", "A87 NO %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void mailboxes_are_renamed(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c1 CREATE blurdybloop", "c1 OK %"}, /* §6.3.6 */
        {0, "c2 CREATE foo/bar", "c2 OK %"},
        {0, "c3 CREATE INBOX/bar", "c3 OK %"},
        {0, "A683 RENAME blurdybloop sarasoop", "A683 OK %"},
        {0, "A684 RENAME foo zowie", "A684 OK %"},
        {0, "A685 LIST \"\" *",
         "* LIST (%) \"/\" sarasoop\n* LIST (\\Noselect%) \"/\" zowie\n* LIST (%) \"/\" "
         "zowie/bar\n!* LIST (%) \"/\" foo%\n!* LIST (%) \"/\" blurdybloop\nA685 OK %"},
        {0, "Z432 LIST \"\" INBOX*",
         "* LIST (%) \"/\" INBOX\n* LIST (%) \"/\" INBOX/bar\nZ432 OK %"},
        {0, "Z433 RENAME INBOX old-mail", "Z433 OK %"},
        {0, "Z434 LIST \"\" *",
         "* LIST (%) \"/\" INBOX\n* LIST (%) \"/\" INBOX/bar\n* LIST (%) \"/\" old-mail\nZ434 OK "
         "%"},
        {0, "Z435 STATUS old-mail (MESSAGES)", "* STATUS old-mail (MESSAGES 2)\nZ435 OK %"},
        {0, "Z436 STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 0)\nZ436 OK %"},
        {0, "o356 RENAME zowie/bar old-mail", "o356 NO [ALREADYEXISTS] %"}, /* §7.1 */
        {0, "p RENAME this that", "p NO [NONEXISTENT] %"},
        {0, "q RENAME old-mail inbox", "q NO [ALREADYEXISTS] %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

static void subscriptions_are_names(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A002 SUBSCRIBE #news.comp.mail.mime", "A002 OK %"}, /* §6.3.7, §6.3.8 */
        {0, "A003 LIST (SUBSCRIBED) \"\" *",
         "* LIST (%\\Subscribed%) \"/\" #news.comp.mail.mime\nA003 OK %"},
        {0, "A004 LIST (SUBSCRIBED) \"\" *",
         "* LIST (\\NonExistent%) \"/\" #news.comp.mail.mime\nA004 OK %"},
        {0, "A005 UNSUBSCRIBE #news.comp.mail.mime", "A005 OK %"},
        {0, "A006 LIST (SUBSCRIBED) \"\" *", "!* LIST %\nA006 OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void namespaces_are_told(void **state)
{
    static const struct rfc_step steps[] = {
        /* §6.3.10, RFC 2342 §5: personal, other users', shared */
        {0, "A001 NAMESPACE", "* NAMESPACE ((\"\" \"/\")) ((\"shared/\" \"/\")) NIL\nA001 OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void status_tells_of_any_mailbox(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A042 STATUS INBOX (UIDNEXT MESSAGES)",
         "* STATUS INBOX (MESSAGES 2 UIDNEXT 3)\nA042 OK %"}, /* §6.3.11 */
        {0, "A043 STATUS inbox (UNSEEN DELETED SIZE UIDVALIDITY)",
         "* STATUS INBOX (UIDVALIDITY ^ UNSEEN 2 DELETED 0 SIZE ^)\nA043 OK %"},
        {0, "A044 STATUS none (MESSAGES)", "A044 NO [NONEXISTENT] %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

static void messages_are_appended(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE saved-messages", "c OK %"}, /* §6.3.12 */
        {0, "A003 APPEND saved-messages (\\Seen) <<Subject: meeting\n\nHello Joe\n>>",
         "A003 OK [APPENDUID ^ 1] %"},
        {0, "A003 APPEND saved-messages (\\Seen) <+Subject: meeting\n\nHello Joe\n+>",
         "A003 OK [APPENDUID ^ 2] %"},
        {0, "A004 APPEND none (\\Seen) <+Subject: x\n\nx\n+>", "A004 NO [TRYCREATE] %"},
        {0,
         "A005 APPEND saved-messages (\\Seen \\Draft $MDNSent) \"17-Jul-1996 02:44:25 -0700\" "
         "<+Subject: x\n\nx\n+>",
         "A005 OK [APPENDUID ^ 3] %"},
        {0, "s EXAMINE saved-messages", "* 3 EXISTS\ns OK %"},
        {0, "f FETCH 3 (FLAGS INTERNALDATE)",
         "* 3 FETCH (FLAGS (\\Seen \\Draft $MDNSent) INTERNALDATE \"17-Jul-1996 %\")\nf OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void idle_tells_what_comes(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A001 SELECT INBOX", "* 3 EXISTS\nA001 OK %"}, /* §6.3.13, RFC 2177 §3 */
        {0, "A002 IDLE", "+ %"},
        {1, "a APPEND INBOX <<Subject: x\n\nx\n>>", "a OK %"},
        {0, NULL, "* 4 EXISTS"},
        {0, "DONE", "A002 OK %"},
        {0, "A003 FETCH 4 ALL", "* 4 FETCH (%)\nA003 OK %"},
        {1, "b SELECT INBOX", "b OK %"},
        {1, "c STORE 2 +FLAGS.SILENT (\\Deleted)", "c OK %"},
        {1, "d EXPUNGE", "d OK %"},
        {0, "A004 IDLE", "* 2 EXPUNGE"},
        {1, "e APPEND INBOX <<Subject: x\n\nx\n>>", "e OK %"},
        {0, NULL, "* 4 EXISTS"},
        {0, "DONE", "A004 OK %"},
        {0, "A005 IDLE", "+ %"},
        {0, "NOOP", "A005 BAD %"}, /* something else than DONE */
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 3);
    log_in(rig, 1);
    RFC_PLAY(rig, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(what_is_possible_in_any_state),
        TEST(noop_tells_what_has_happened),
        TEST(a_client_logs_in),
        TEST(enable_tells_what_it_has_enabled),
        TEST(select_tells_of_the_mailbox),
        TEST(mailboxes_come_and_go),
        TEST(mailboxes_are_renamed),
        TEST(subscriptions_are_names),
        TEST(namespaces_are_told),
        TEST(status_tells_of_any_mailbox),
        TEST(messages_are_appended),
        TEST(idle_tells_what_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
