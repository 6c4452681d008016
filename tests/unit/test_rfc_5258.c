/* The examples of LIST: RFC 5258 §5 (RFC 9051 §6.3.9.8), RFC 5819, RFC 6154 §5, RFC 8440, RFC 3348. Names are ours. */
#include "tests/unit/rfc_play.h"

static void make(struct imap_rig *rig, const char *const *names, size_t count, const char *verb)
{
    for (size_t i = 0; i < count; i++) {
        char command[80];
        snprintf(command, sizeof(command), "m %s %s\r\n", verb, names[i]);
        talk(rig, 0, command, "OK");
    }
}
#define MAKE(rig, names, verb) make(rig, names, sizeof(names) / sizeof((names)[0]), verb)

static void what_is_subscribed_and_what_is_there(void **state)
{
    static const char *const there[] = {"Fruit",     "Fruit/Apple",        "Fruit/Banana",  "Tofu",
                                        "Vegetable", "Vegetable/Broccoli", "Vegetable/Corn"};
    static const char *const subscribed[] = {"inbox", "Fruit/Banana", "Fruit/Peach", "Vegetable",
                                             "Vegetable/Broccoli"};
    static const struct rfc_step steps[] = {
        {0, "A01 LIST \"\" \"*\"",
         "* LIST (%) \"/\" INBOX\n* LIST (%) \"/\" Fruit\n* LIST (%) \"/\" Fruit/Apple\n"
         "* LIST (%) \"/\" Fruit/Banana\n* LIST (%) \"/\" Tofu\n* LIST (%) \"/\" Vegetable\n"
         "* LIST (%) \"/\" Vegetable/Broccoli\n* LIST (%) \"/\" Vegetable/Corn\n"
         "!* LIST (%) \"/\" Fruit/Peach\nA01 OK %"},
        {0, "A02 LIST (SUBSCRIBED) \"\" \"*\"",
         "* LIST (%\\Subscribed) \"/\" INBOX\n* LIST (%\\Subscribed) \"/\" Fruit/Banana\n"
         "* LIST (\\NonExistent%\\Subscribed) \"/\" Fruit/Peach\n"
         "* LIST (%\\Subscribed) \"/\" Vegetable\n* LIST (%\\Subscribed) \"/\" Vegetable/Broccoli\n"
         "!* LIST (%) \"/\" Fruit\n!* LIST (%) \"/\" Tofu\nA02 OK %"},
        {0, "A03 LIST () \"\" \"%\" RETURN (CHILDREN)",
         "* LIST (\\HasNoChildren) \"/\" INBOX\n* LIST (\\HasChildren) \"/\" Fruit\n"
         "* LIST (\\HasNoChildren) \"/\" Tofu\n* LIST (\\HasChildren) \"/\" Vegetable\nA03 OK %"},
        {0, "A04 LIST (REMOTE) \"\" \"%\" RETURN (CHILDREN)",
         "* LIST (\\HasNoChildren) \"/\" INBOX\n* LIST (\\HasChildren) \"/\" Fruit\nA04 OK %"},
        {0, "A05 LIST (REMOTE SUBSCRIBED) \"\" \"*\"",
         "* LIST (%\\Subscribed) \"/\" INBOX\n* LIST (%\\Subscribed) \"/\" Fruit/Banana\nA05 OK %"},
        {0, "A06 LIST (REMOTE) \"\" \"*\" RETURN (SUBSCRIBED)",
         "* LIST (%\\Subscribed) \"/\" INBOX\n* LIST (\\HasChildren) \"/\" Fruit\n"
         "* LIST (\\HasNoChildren) \"/\" Fruit/Apple\n* LIST (%\\Subscribed) \"/\" Fruit/Banana\n"
         "* LIST (\\HasNoChildren) \"/\" Tofu\n* LIST (%\\Subscribed) \"/\" Vegetable\nA06 OK %"},
        {0, "BBB LIST \"\" (\"INBOX\" \"Tofu\" \"Fruit/%\")",
         "* LIST (%) \"/\" INBOX\n* LIST (%) \"/\" Fruit/Apple\n* LIST (%) \"/\" Fruit/Banana\n"
         "* LIST (%) \"/\" Tofu\n!* LIST (%) \"/\" Fruit\nBBB OK %"},
        /* RFC 5258 §3.1 */
        {0, "x LIST (RECURSIVEMATCH) \"\" \"*\"", "x BAD %"},
        {0, "y LIST (RECURSIVEMATCH REMOTE) \"\" \"*\"", "y BAD %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    MAKE(rig, there, "CREATE");
    MAKE(rig, subscribed, "SUBSCRIBE");
    RFC_PLAY(rig, steps);
}

static void parents_tell_of_subscribed_children(void **state)
{
    static const char *const there[] = {"Foo", "Foo/Bar", "Foo/Baz", "Moo"};
    static const struct rfc_step steps[] = {
        {0, "s SUBSCRIBE Foo/Baz", "s OK %"},
        {0, "C02 LIST (SUBSCRIBED) \"\" \"*\"",
         "* LIST (%\\Subscribed) \"/\" Foo/Baz\n!* LIST (%) \"/\" Foo\nC02 OK %"},
        {0, "C03 LIST (SUBSCRIBED) \"\" \"%\"", "!* LIST %\nC03 OK %"},
        {0, "C04 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"",
         "* LIST (\\HasChildren) \"/\" Foo (CHILDINFO (\"SUBSCRIBED\"))\nC04 OK %"},
        {0, "s SUBSCRIBE Foo", "s OK %"},
        {0, "C05 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"",
         "* LIST (\\HasChildren \\Subscribed) \"/\" Foo (CHILDINFO (\"SUBSCRIBED\"))\nC05 OK %"},
        {0, "u UNSUBSCRIBE Foo", "u OK %"},
        {0, "d DELETE Foo", "d OK %"},
        {0, "C06 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"",
         "* LIST (\\NonExistent \\HasChildren) \"/\" Foo (CHILDINFO (\"SUBSCRIBED\"))\nC06 OK %"},
        {0, "u UNSUBSCRIBE Foo/Baz", "u OK %"},
        {0, "c CREATE Foo", "c OK %"},
        {0, "s SUBSCRIBE Foo", "s OK %"},
        {0, "s SUBSCRIBE Moo", "s OK %"},
        {0, "C07 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\" RETURN (CHILDREN)",
         "* LIST (\\HasChildren \\Subscribed) \"/\" Foo\n"
         "* LIST (\\HasNoChildren \\Subscribed) \"/\" Moo\nC07 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    MAKE(rig, there, "CREATE");
    RFC_PLAY(rig, steps);
}

static void a_pattern_need_not_reach_the_children(void **state)
{
    static const char *const there[] = {"foo2",       "foo2/bar1",  "foo2/bar2",   "baz2",
                                        "baz2/bar2",  "baz2/bar22", "baz2/bar222", "eps2",
                                        "eps2/mamba", "qux2/bar2"};
    static const char *const subscribed[] = {"foo2/bar1",   "foo2/bar2", "baz2/bar2",  "baz2/bar22",
                                             "baz2/bar222", "eps2",      "eps2/mamba", "qux2/bar2"};
    static const struct rfc_step steps[] = {
        {0, "D03 LIST (RECURSIVEMATCH SUBSCRIBED) \"\" \"*2\"",
         "* LIST (%\\Subscribed) \"/\" baz2/bar2\n* LIST (%\\Subscribed) \"/\" baz2/bar22\n"
         "* LIST (%\\Subscribed) \"/\" baz2/bar222\n"
         "* LIST (%\\Subscribed) \"/\" eps2 (CHILDINFO (\"SUBSCRIBED\"))\n"
         "* LIST (\\HasChildren) \"/\" foo2 (CHILDINFO (\"SUBSCRIBED\"))\n"
         "* LIST (%\\Subscribed) \"/\" foo2/bar2\n* LIST (%\\Subscribed) \"/\" qux2/bar2\n"
         "!* LIST (%) \"/\" foo2/bar1\n!* LIST (%) \"/\" eps2/mamba\nD03 OK %"},
        {0, "D04 LIST (RECURSIVEMATCH SUBSCRIBED) \"\" \"*\"",
         "* LIST (%) \"/\" baz2 (CHILDINFO (\"SUBSCRIBED\"))\n"
         "* LIST (%\\Subscribed) \"/\" baz2/bar2\n"
         "* LIST (%\\Subscribed) \"/\" eps2 (CHILDINFO (\"SUBSCRIBED\"))\n"
         "* LIST (%\\Subscribed) \"/\" eps2/mamba\n"
         "* LIST (%) \"/\" foo2 (CHILDINFO (\"SUBSCRIBED\"))\n"
         "* LIST (%\\Subscribed) \"/\" foo2/bar1\n* LIST (%\\Subscribed) \"/\" qux2/bar2\nD04 OK "
         "%"},
    };
    struct imap_rig *rig = rfc_alice(state);
    MAKE(rig, there, "CREATE");
    MAKE(rig, subscribed, "SUBSCRIBE");
    RFC_PLAY(rig, steps);
}

static void names_without_mailboxes(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE foo", "c OK %"},
        {0, "s SUBSCRIBE foo/bar", "s OK %"},
        {0, "a1 LIST \"\" (\"foo\" \"foo/*\")",
         "* LIST (%) \"/\" foo\n!* LIST (%) \"/\" foo/bar\na1 OK %"},
        {0, "a2 LIST (SUBSCRIBED) \"\" \"foo/*\"",
         "* LIST (\\NonExistent%\\Subscribed) \"/\" foo/bar\na2 OK %"},
        {0, "a3 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" foo RETURN (CHILDREN)",
         "* LIST (\\HasNoChildren) \"/\" foo (CHILDINFO (\"SUBSCRIBED\"))\na3 OK %"},
        {0, "c CREATE music/rock", "c OK %"},
        {0, "b2 LIST () \"\" m%", "* LIST (\\NonExistent \\HasChildren) \"/\" music\nb2 OK %"},
        {0, "b3 LIST \"\" (m% music/rock)", "* LIST (%) \"/\" music/rock\nb3 OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void reference_and_pattern(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE Mail/foo/bar", "c OK %"},
        {0, "c CREATE Mail/meetings", "c OK %"},
        {0, "A101 LIST \"\" \"\"", "* LIST (\\Noselect) \"/\" \"\"\nA101 OK %"},
        {0, "A103 LIST /usr/staff/jones \"\"", "* LIST (\\Noselect) \"/\" %\nA103 OK %"},
        {0, "A202 LIST Mail/ %",
         "* LIST (\\Noselect%) \"/\" Mail/foo\n* LIST (%) \"/\" Mail/meetings\n"
         "!* LIST (%) \"/\" Mail/foo/bar\nA202 OK %"},
        /* RFC 3501 §6.3.9 */
        {0, "l SUBSCRIBE Mail/meetings", "l OK %"},
        {0, "A003 LSUB Mail/ *", "* LSUB () \"/\" Mail/meetings\nA003 OK %"},
        {0, "A004 LSUB \"\" %", "* LSUB (\\Noselect) \"/\" Mail\nA004 OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void status_comes_with_the_names(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE foo", "c OK %"}, /* RFC 5819 §2 */
        {0, "c CREATE bar/x", "c OK %"},
        {0, "A01 LIST \"\" % RETURN (STATUS (MESSAGES UNSEEN))",
         "* LIST (%) \"/\" INBOX\n* STATUS INBOX (MESSAGES 2 UNSEEN 2)\n* LIST (%NonExistent%) "
         "\"/\" bar\n* LIST (%) \"/\" foo\n* STATUS foo (MESSAGES 0 UNSEEN 0)\n!* STATUS bar %\n"
         "A01 OK %"},
        {0, "s SUBSCRIBE INBOX", "s OK %"},
        {0, "s SUBSCRIBE foo/x", "s OK %"},
        {0, "A02 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" % RETURN (STATUS (MESSAGES))",
         "* LIST (%\\Subscribed) \"/\" INBOX\n* STATUS INBOX (MESSAGES 2)\n"
         "* LIST (%) \"/\" foo (CHILDINFO (\"SUBSCRIBED\"))\n!* STATUS foo %\nA02 OK %"},
        /* RFC 8440 §3 */
        {0, "A03 LIST \"\" % RETURN (SUBSCRIBED MYRIGHTS)",
         "* LIST (%\\Subscribed) \"/\" INBOX\n* MYRIGHTS INBOX lrwstipekxacd\n* LIST (%) \"/\" "
         "foo\n"
         "* MYRIGHTS foo %\n!* MYRIGHTS bar %\nA03 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    RFC_PLAY(rig, steps);
}

static void mailboxes_have_uses(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 6154 §5 */
        {0, "t2 CREATE MyDrafts (USE (\\Drafts))", "t2 OK %"},
        {0, "t2 CREATE SentMail (USE (\\Sent))", "t2 OK %"},
        {0, "t2 CREATE Special (USE (\\Archive \\Junk))", "t2 OK %"},
        {0, "t3 CREATE Everything (USE (\\All))", "t3 NO [USEATTR] %"},
        {0, "t4 CREATE ToDo", "t4 OK %"},
        {0, "t1 LIST \"\" \"%\"",
         "* LIST (\\HasNoChildren \\Drafts) \"/\" MyDrafts\n* LIST (%\\Sent) \"/\" SentMail\nt1 OK "
         "%"},
        {0, "t2 LIST \"\" \"%\" RETURN (SPECIAL-USE)",
         "* LIST (%) \"/\" INBOX\n* LIST (%\\Drafts) \"/\" MyDrafts\n* LIST (%\\Sent) \"/\" "
         "SentMail\n* LIST (\\HasNoChildren) \"/\" ToDo\nt2 OK %"},
        {0, "t3 LIST (SPECIAL-USE) \"\" \"*\"",
         "* LIST (%\\Drafts) \"/\" MyDrafts\n* LIST (%\\Sent) \"/\" SentMail\n"
         "* LIST (%\\Archive \\Junk) \"/\" Special\n!* LIST (%) \"/\" INBOX\n"
         "!* LIST (%) \"/\" ToDo\nt3 OK %"},
        {0, "t2 GETMETADATA \"MyDrafts\" /private/specialuse",
         "* METADATA MyDrafts (/private/specialuse \"\\\\Drafts\")\nt2 OK %"},
        {0, "t3 SETMETADATA \"ToDo\" (/private/specialuse \"\\\\Drafts\")", "t3 OK %"},
        {0, "t4 SETMETADATA \"SentMail\" (/private/specialuse NIL)", "t4 OK %"},
        {0, "t5 LIST \"\" \"%\" RETURN (SPECIAL-USE)",
         "* LIST (\\HasNoChildren) \"/\" SentMail\n* LIST (%\\Drafts) \"/\" ToDo\nt5 OK %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

static void others_mailboxes_are_in_their_namespace(void **state)
{
    static const struct rfc_step steps[] = {
        {1, "c CREATE Foo", "c OK %"}, /* RFC 2342 §5 */
        {1, "a SETACL Foo alice lr", "a OK %"},
        {0, "A001 NAMESPACE", "* NAMESPACE ((\"\" \"/\")) ((\"shared/\" \"/\")) NIL\nA001 OK %"},
        {0, "A002 LIST \"\" \"shared/%\"", "* LIST (%\\HasChildren) \"/\" shared/bob\nA002 OK %"},
        {0, "A003 LIST \"\" \"shared/bob/%\"", "* LIST (%) \"/\" shared/bob/Foo\nA003 OK %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    connect_client(rig, 1);
    talk(rig, 1, "l LOGIN bob secret\r\n", "OK");
    RFC_PLAY(rig, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(what_is_subscribed_and_what_is_there),
        TEST(parents_tell_of_subscribed_children),
        TEST(a_pattern_need_not_reach_the_children),
        TEST(names_without_mailboxes),
        TEST(reference_and_pattern),
        TEST(status_comes_with_the_names),
        TEST(mailboxes_have_uses),
        TEST(others_mailboxes_are_in_their_namespace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
