/* The grammar of IMAP's commands about sessions and mailboxes: what is taken and what it means, and what is not. */
#include "engine/core/limits.h"
#include "tests/unit/imap_grammar.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

static void small_commands(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a CAPABILITY", "a"},
        {"A142 noop", "A142"},
        {"a.1]x LOGOUT", "a.1]x"},
        {"a STARTTLS", "a"},
        {"a IDLE", "a"},
        {"a CHECK", "a"},
        {"a CLOSE", "a"},
        {"a UNSELECT", "a"},
        {"a EXPUNGE", "a"},
        {"a NAMESPACE", "a"},
        {"a UNAUTHENTICATE", "a"},
        {"a COMPRESS DEFLATE", "a"},
        {"a UID EXPUNGE 3:5,7", "a uid 3:5,7:7"},
        {"a LOGIN joe pass]", "a user=<joe> password=<pass]>"},
        {"a LOGIN \"j\\\"o\\\\e\" \"\"", "a user=<j\"o\\e> password=<>"},
        {"a LOGIN {3}\r\njoe {4+}\r\n a{b", "a user=<joe> password=< a{b>"},
        {"a LOGIN {0}\r\n ~x", "a user=<> password=<~x>"},
        {"a AUTHENTICATE PLAIN", "a mechanism=<PLAIN>"},
        {"a AUTHENTICATE SCRAM-SHA-256 =", "a mechanism=<SCRAM-SHA-256> initial=<=>"},
        {"a AUTHENTICATE PLAIN AGEAYg==", "a mechanism=<PLAIN> initial=<AGEAYg==>"},
        {"a ENABLE CONDSTORE X-FOO", "a 1"},
        {"a ENABLE qresync utf8=accept imap4rev2", "a f"},
        {"a ID NIL", "a"},
        {"a ID ()", "a"},
        {"a ID (\"name\" \"x\" \"os\" NIL)", "a name=<name> value=<x> name=<os> nil"},
        {"a CANCELUPDATE \"b\" \"c\"", "a tag=<b> tag=<c>"},
    };
    static const char *const bad[] = {
        "",
        " ",
        "a",
        "a ",
        " NOOP",
        "a+ NOOP",
        "+ NOOP",
        "* NOOP",
        "a  NOOP",
        "a NOOP ",
        "a NOOP x",
        "a(b NOOP",
        "\"a\" NOOP",
        "a FOO",
        "a UID",
        "a UID NOOP",
        "a UIDNOOP",
        "a UID LOGIN a b",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa NOOP",
        "a COMPRESS",
        "a COMPRESS GZIP",
        "a LOGIN",
        "a LOGIN a",
        "a LOGIN a  b",
        "a LOGIN a b c",
        "a LOGIN \"a b",
        "a LOGIN \"a\\x\" b",
        "a LOGIN \"a\rb\" c",
        "a LOGIN {5}\r\njoe b",
        "a LOGIN {3}joe b",
        "a LOGIN ~{3}\r\njoe b",
        "a LOGIN {3\r\njoe b",
        "a LOGIN {}\r\n b",
        "a LOGIN {-1}\r\n b",
        "a LOGIN {99999999999999999999}\r\n b",
        "a LOGIN (a) b",
        "a LOGIN {a{3}\r\njoe b",
        "a LOGIN a* b",
        "a AUTHENTICATE",
        "a AUTHENTICATE ",
        "a AUTHENTICATE PLAIN ",
        "a AUTHENTICATE PLAIN a b",
        "a ENABLE",
        "a ENABLE ",
        "a ENABLE a ",
        "a ID",
        "a ID x",
        "a ID (\"a\")",
        "a ID (\"a\" \"b\"",
        "a ID (a b)",
        "a UID EXPUNGE",
        "a UID EXPUNGE x",
        "a EXPUNGE 1",
        "a CANCELUPDATE",
        "a CANCELUPDATE b",
        "a APPEND x",
    };
    GOOD(good);
    BAD(bad);
}

static void more_pairs_of_id_than_its_rfc_allows_are_bad(void **state)
{
    (void)state;
    char text[1024] = "a ID (";
    for (int i = 0; i < IMAP_ID_PAIRS_MAX; i++) {
        strcat(text, i > 0 ? " \"a\" NIL" : "\"a\" NIL");
    }
    char dump[2048];
    size_t size = strlen(text);
    strcat(text, ")");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_GOOD);
    strcpy(text + size, " \"a\" NIL)");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_BAD);
}

static void commands_about_mailboxes(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a SELECT inbox", "a mailbox=<INBOX>"},
        {"a EXAMINE \"Sent Items\"", "a mailbox=<Sent Items>"},
        {"a SELECT {5}\r\na b c", "a mailbox=<a b c>"},
        {"a SELECT x (CONDSTORE)", "a +condstore mailbox=<x> condstore"},
        {"a SELECT x (QRESYNC (67890007 90060115194045000 41:211,214:541))",
         "a +condstore mailbox=<x> qresync 67890007 90060115194045000 41:211,214:541"},
        {"a SELECT x (QRESYNC (1 2 (1,3 5:6)) CONDSTORE)",
         "a +condstore mailbox=<x> condstore qresync 1 2 1:1,3:3 5:6"},
        {"a SELECT x (QRESYNC (1 2 1:9 (1 5)))",
         "a +condstore mailbox=<x> qresync 1 2 1:9 1:1 5:5"},
        {"a CREATE a/b/", "a mailbox=<a/b>"},
        {"a CREATE x (USE (\\Drafts \\sent))", "a mailbox=<x> use=24"},
        {"a CREATE x (USE (\\Foo))", "a mailbox=<x> use=100"},
        {"a CREATE x (USE ())", "a mailbox=<x>"},
        {"a DELETE \"a*b\"", "a mailbox=<a*b>"},
        {"a DELETE x", "a mailbox=<x>"},
        {"a RENAME a \"b\"", "a from=<a> to=<b>"},
        {"a SUBSCRIBE &U,BTFw-", "a mailbox=<\xe5\x8f\xb0\xe5\x8c\x97>"},
        {"a UNSUBSCRIBE x", "a mailbox=<x>"},
        {"a STATUS x (MESSAGES)", "a mailbox=<x> 1"},
        {"a STATUS x (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE APPENDLIMIT "
         "MAILBOXID DELETED-STORAGE)",
         "a mailbox=<x> 77f"},
        {"a STATUS x (highestmodseq)", "a +condstore mailbox=<x> 80"},
        {"a GETQUOTAROOT INBOX", "a mailbox=<INBOX>"},
        {"a GETQUOTA \"\"", "a root=<>"},
        {"a SETQUOTA \"\" (STORAGE 512 MESSAGE 9)", "a root=<> r=<STORAGE> 512 r=<MESSAGE> 9"},
        {"a SETQUOTA x ()", "a root=<x>"},
        {"a GETACL x", "a mailbox=<x>"},
        {"a MYRIGHTS x", "a mailbox=<x>"},
        {"a SETACL x joe lrs", "a mailbox=<x> who=<joe> mode=0 rights=<lrs>"},
        {"a SETACL x -joe +te", "a mailbox=<x> who=<-joe> mode=1 rights=<te>"},
        {"a SETACL x joe \"-0\"", "a mailbox=<x> who=<joe> mode=2 rights=<0>"},
        {"a SETACL x joe \"\"", "a mailbox=<x> who=<joe> mode=0 rights=<>"},
        {"a DELETEACL x joe", "a mailbox=<x> who=<joe> mode=0 rights=<>"},
        {"a LISTRIGHTS x joe", "a mailbox=<x> who=<joe> mode=0 rights=<>"},
    };
    static const char *const bad[] = {
        "a SELECT",
        "a SELECT ",
        "a SELECT x y",
        "a SELECT x ()",
        "a SELECT x (FOO)",
        "a SELECT x (CONDSTORE",
        "a SELECT x (QRESYNC)",
        "a SELECT x (QRESYNC (0 1))",
        "a SELECT x (QRESYNC (1 0))",
        "a SELECT x (QRESYNC (1 9223372036854775808))",
        "a SELECT x (QRESYNC (1 2 1:*))",
        "a SELECT x (QRESYNC (1 2 $))",
        "a SELECT x (QRESYNC (1 2 (1 5:6)))",
        "a SELECT x (QRESYNC (1 2) QRESYNC (1 2))",
        "a SELECT x (QRESYNC (4294967296 2))",
        "a CREATE",
        "a CREATE x (USE",
        "a CREATE x (USE (Sent))",
        "a CREATE x (FOO (\\Sent))",
        "a CREATE x (USE (\\Sent)",
        "a DELETE",
        "a RENAME a",
        "a RENAME a b c",
        "a STATUS x",
        "a STATUS x ()",
        "a STATUS x MESSAGES",
        "a STATUS x (FOO)",
        "a STATUS x (MESSAGES",
        "a STATUS x (MESSAGES  RECENT)",
        "a SELECT a*b",
        "a SELECT %",
        "a GETQUOTA",
        "a SETQUOTA x",
        "a SETQUOTA x (STORAGE)",
        "a SETQUOTA x (STORAGE -1)",
        "a SETQUOTA x (STORAGE 9223372036854775808)",
        "a SETACL x joe",
        "a SETACL x joe LRS",
        "a SETACL x joe l+",
        "a LISTRIGHTS x",
        "a DELETEACL x joe y",
    };
    static const char *const names[] = {
        "a SELECT \"../../x\"",
        "a CREATE \"a*b\"",
        "a RENAME x \"%\"",
        "a SELECT INBOX/../other",
        "a CREATE a//b",
        "a DELETE \"\"",
        "a SELECT ..",
        "a SELECT &AGE-",
        "a SELECT /",
        "a RENAME x .",
        "a SELECT \"\xc3\xbc\"",
        "a STATUS &&& (MESSAGES)",
    };
    GOOD(good);
    BAD(bad);
    imap_grammar_bad(names, ROWS(names), IMAP_PARSE_NAME);
}

static void with_utf8_names_are_that_and_must_be_it(void **state)
{
    (void)state;
    char dump[256];
    assert_int_equal(
        imap_grammar_parse(slice_text("a SELECT \"\xc3\xbc\""), true, dump, sizeof(dump)),
        IMAP_PARSE_GOOD);
    assert_string_equal(dump, "a mailbox=<\xc3\xbc>");
    assert_int_equal(imap_grammar_parse(slice_text("a SELECT &APw-"), true, dump, sizeof(dump)),
                     IMAP_PARSE_GOOD);
    assert_string_equal(dump, "a mailbox=<&APw->");
    assert_int_equal(imap_grammar_parse(slice_text("a SELECT \"\xc3\""), true, dump, sizeof(dump)),
                     IMAP_PARSE_BAD);
    assert_int_equal(
        imap_grammar_parse(slice_text("a LOGIN {1}\r\n\xff b"), true, dump, sizeof(dump)),
        IMAP_PARSE_BAD);
    assert_int_equal(
        imap_grammar_parse(slice_of("a LOGIN {1}\r\n\0 b", 15), false, dump, sizeof(dump)),
        IMAP_PARSE_BAD);
}

static void lists_of_mailboxes(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a LIST \"\" *", "a reference=<> pattern=<*> select=0 return=0 status=0"},
        {"a LIST \"\" \"\"", "a reference=<> pattern=<> select=0 return=0 status=0"},
        {"a LIST x/ %]", "a reference=<x/> pattern=<x/%]> select=0 return=0 status=0"},
        {"a LIST \"\" {3}\r\na b", "a reference=<> pattern=<a b> select=0 return=0 status=0"},
        {"a LSUB \"#x\" *%*", "a reference=<#x> pattern=<#x*> select=0 return=0 status=0"},
        {"a LIST () \"\" a", "a extended reference=<> pattern=<a> select=0 return=0 status=0"},
        {"a LIST \"\" (a \"b c\" &APw-*)", "a extended reference=<> pattern=<a> pattern=<b c> "
                                           "pattern=<\xc3\xbc*> select=0 return=0 status=0"},
        {"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" *",
         "a extended reference=<> pattern=<*> select=5 return=0 status=0"},
        {"a LIST (SPECIAL-USE REMOTE) \"\" *",
         "a extended reference=<> pattern=<*> select=a return=0 status=0"},
        {"a LIST \"\" % RETURN ()",
         "a extended reference=<> pattern=<%> select=0 return=0 status=0"},
        {"a LIST \"\" % RETURN (SUBSCRIBED CHILDREN SPECIAL-USE MYRIGHTS STATUS (MESSAGES UNSEEN))",
         "a extended reference=<> pattern=<%> select=0 return=1f status=11"},
        {"a LIST \"\" % RETURN (STATUS (HIGHESTMODSEQ))",
         "a +condstore extended reference=<> pattern=<%> select=0 return=8 status=80"},
        {"a LIST \"\" % RETURN (METADATA (\"/shared/vendor/x\" /private/y))",
         "a extended reference=<> pattern=<%> select=0 return=20 status=0 "
         "metadata=</shared/vendor/x> metadata=</private/y>"},
    };
    static const char *const bad[] = {
        "a LIST",
        "a LIST \"\"",
        "a LIST \"\" ",
        "a LIST \"\" * x",
        "a LIST * *",
        "a LIST (RECURSIVEMATCH) \"\" *",
        "a LIST (RECURSIVEMATCH REMOTE) \"\" *",
        "a LIST (FOO) \"\" *",
        "a LIST (SUBSCRIBED \"\" *",
        "a LIST \"\" ()",
        "a LIST \"\" (a",
        "a LIST \"\" * RETURN",
        "a LIST \"\" * RETURN (FOO)",
        "a LIST \"\" * RETURN (STATUS)",
        "a LIST \"\" * RETURN (CHILDREN",
        "a LIST \"\" * FOO ()",
        "a LSUB \"\" (a b)",
        "a LSUB \"\"",
    };
    static const char *const names[] = {"a LIST \"\" &&*", "a LIST &A- b", "a LSUB \"\" \"\xff\""};
    GOOD(good);
    BAD(bad);
    imap_grammar_bad(names, ROWS(names), IMAP_PARSE_NAME);
}

static void heads_of_literals_are_found_at_the_end(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool found;
        struct imap_literal_head head;
    } rows[] = {
        {"a {5}", true, {5, false, false}},
        {"{5+}", true, {5, true, false}},
        {"a ~{5}", true, {5, false, true}},
        {"~{0+}", true, {0, true, true}},
        {"{9223372036854775807}", true, {INT64_MAX, false, false}},
        {"{9223372036854775808}", true, {UINT64_MAX, false, false}},
        {"{99999999999999999999999999+}", true, {UINT64_MAX, true, false}},
        {"{5} ", false, {0}},
        {"{}", false, {0}},
        {"{+}", false, {0}},
        {"5}", false, {0}},
        {"}", false, {0}},
        {"", false, {0}},
        {"{-5}", false, {0}},
        {"{5++}", false, {0}},
        {"{5-}", false, {0}},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct imap_literal_head head;
        bool found = imap_literal_head_find(slice_text(rows[i].line), &head);
        if (found != rows[i].found ||
            (found && (head.bytes != rows[i].head.bytes || head.no_wait != rows[i].head.no_wait ||
                       head.binary != rows[i].head.binary))) {
            fail_msg("%s", rows[i].line);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_commands),
        cmocka_unit_test(more_pairs_of_id_than_its_rfc_allows_are_bad),
        cmocka_unit_test(commands_about_mailboxes),
        cmocka_unit_test(with_utf8_names_are_that_and_must_be_it),
        cmocka_unit_test(lists_of_mailboxes),
        cmocka_unit_test(heads_of_literals_are_found_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
