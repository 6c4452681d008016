/* The server's side of IMAP: states, literals, answers, limits; each dialogue whole and in pieces. */
#include "tests/unit/imap_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define S IMAP_SCRIPT
#define CHECK(scripts, state) imap_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), state)
#define BEFORE "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE STARTTLS AUTH=SCRAM-SHA-256"
#define AFTER                                                                                      \
    "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS "     \
    "MOVE "                                                                                        \
    "ESEARCH SEARCHRES WITHIN LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE "           \
    "STATUS=SIZE SAVEDATE CONDSTORE QRESYNC MULTIAPPEND CATENATE URL-PARTIAL BINARY SORT ESORT "   \
    "SORT=DISPLAY "                                                                                \
    "THREAD=ORDEREDSUBJECT THREAD=REFERENCES CONTEXT=SEARCH CONTEXT=SORT PARTIAL SEARCH=FUZZY "    \
    "PREVIEW REPLACE "                                                                             \
    "UTF8=ACCEPT OBJECTID QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTASET ACL RIGHTS=texk "     \
    "LIST-MYRIGHTS METADATA LIST-METADATA NOTIFY UNAUTHENTICATE INPROGRESS COMPRESS=DEFLATE "      \
    "APPENDLIMIT=100"

static void the_way_in(void **state)
{
    (void)state;
    static const struct imap_script scripts[] = {
        S("capability", "a CAPABILITY\r\n", "* CAPABILITY " BEFORE "\na OK Completed\n", false),
        S("login", "a LOGIN joe good\r\nb NOOP\r\n",
          "a OK [CAPABILITY " AFTER "] Logged in\nb OK Completed\n", false),
        S("a wrong password", "a LOGIN joe bad\r\n", "a NO [AUTHENTICATIONFAILED] No\n", false),
        S("three wrong passwords", "a LOGIN a b\r\na LOGIN a b\r\na LOGIN a b\r\na NOOP\r\n",
          "a NO [AUTHENTICATIONFAILED] No\na NO [AUTHENTICATIONFAILED] No\n"
          "a NO [AUTHENTICATIONFAILED] No\n* BYE Too many failures\n",
          true),
        S("literals that wait and literals that do not", "a LOGIN {3}\r\njoe {4+}\r\ngood\r\n",
          "+ OK\na OK [CAPABILITY " AFTER "] Logged in\n", false),
        S("before login", "a SELECT x\r\nb FETCH 1 UID\r\n",
          "a BAD Log in first\nb BAD Log in first\n", false),
        S("a literal is not asked for in vain", "a SELECT {5}\r\nb NOOP\r\n",
          "a BAD Log in first\nb OK Completed\n", false),
        S("nor run when it comes unasked", "a SELECT {8+}\r\nc NOOP\r\n {3+}\r\nabc\r\nb NOOP\r\n",
          "a BAD Log in first\nb OK Completed\n", false),
        S("SASL", "a AUTHENTICATE SCRAM-SHA-256\r\naGVsbG8=\r\n",
          "+ d2hvPw==\n* (response hello)\na OK [CAPABILITY " AFTER "] Logged in\n", false),
        S("SASL with an initial response", "a AUTHENTICATE SCRAM-SHA-256 aGVsbG8=\r\n",
          "* (initial hello)\na OK [CAPABILITY " AFTER "] Logged in\n", false),
        S("an empty one", "a AUTHENTICATE SCRAM-SHA-256 =\r\n",
          "* (initial )\na OK [CAPABILITY " AFTER "] Logged in\n", false),
        S("an empty response", "a AUTHENTICATE SCRAM-SHA-256\r\n\r\n",
          "+ d2hvPw==\n* (response )\na OK [CAPABILITY " AFTER "] Logged in\n", false),
        S("SASL cancelled", "a AUTHENTICATE SCRAM-SHA-256\r\n*\r\nb NOOP\r\n",
          "+ d2hvPw==\na BAD Authentication is cancelled\n(cancelled)\nb OK Completed\n", false),
        S("bad base64", "a AUTHENTICATE SCRAM-SHA-256\r\na\r\nb NOOP\r\n",
          "+ d2hvPw==\na BAD Invalid base64\n(cancelled)\nb OK Completed\n", false),
        S("base64 with bits too many", "a AUTHENTICATE SCRAM-SHA-256 aGVsbG9=\r\n",
          "a BAD Invalid base64\n", false),
        S("a mechanism for later, and none", "a AUTHENTICATE PLAIN\r\nb AUTHENTICATE FOO\r\n",
          "a NO [PRIVACYREQUIRED] Only when encrypted\nb NO [CANNOT] Unknown mechanism\n", false),
        S("logout", "a LOGOUT\r\nb NOOP\r\n", "* BYE Logging out\na OK Completed\n", true),
        S("HTTP", "GET / HTTP/1.1\r\nHost: x\r\na LOGIN joe good\r\n", "* BYE This is IMAP\n",
          true),
        S("HTTP with a form", "POST / HTTP/1.1\r\na LOGIN joe good\r\n", "* BYE This is IMAP\n",
          true),
        S("SMTP", "EHLO x\r\na LOGIN joe good\r\n", "* BYE This is IMAP\n", true),
        S("TLS", "\x16\x03\x01\r\n", "* BYE This is IMAP\n", true),
        S("a tag may be GET", "GET NOOP\r\n", "GET OK Completed\n", false),
        S("three errors", "a FOO\r\n\r\n* b\r\nc NOOP\r\n",
          "a BAD Unknown command\n* BAD Invalid tag\n* BAD Invalid tag\n* BYE Too many errors\n",
          true),
        S("bare LF", "a NOOP\nb NOOP\r\n", "a BAD Lines end with CRLF\nb OK Completed\n", false),
        S("a literal behind a bare LF", "a LOGIN {7+}\nb NOOP\r\n", "* BYE Lines end with CRLF\n",
          true),
        S("enable before login", "a ENABLE CONDSTORE\r\n", "a BAD Log in first\n", false),
    };
    CHECK(scripts, IMAP_SCRIPT_CONNECTED);
}

static void states_after_login(void **state)
{
    (void)state;
    static const struct imap_script scripts[] = {
        S("login again", "a LOGIN joe good\r\nb STARTTLS\r\n",
          "a BAD Not valid in this state\nb BAD Not valid in this state\n", false),
        S("no mailbox", "a FETCH 1 UID\r\nb CLOSE\r\n",
          "a BAD Select a mailbox first\nb BAD Select a mailbox first\n", false),
        S("select, close", "a SELECT x\r\nb CHECK\r\nc CLOSE\r\nd CHECK\r\n",
          "* (a mailbox=<x>)\na OK Completed\n* (b)\nb OK Completed\n* (c)\nc OK Completed\n"
          "d BAD Select a mailbox first\n",
          false),
        S("select another", "a SELECT x\r\nb SELECT y\r\nc SELECT none\r\nd CHECK\r\n",
          "* (a mailbox=<x>)\na OK Completed\n* OK [CLOSED] Previous mailbox is closed\n"
          "* (b mailbox=<y>)\nb OK Completed\n* OK [CLOSED] Previous mailbox is closed\n"
          "c NO [NONEXISTENT] No\nd BAD Select a mailbox first\n",
          false),
        S("a bad select closes nothing", "a SELECT x\r\nb SELECT\r\nc CHECK\r\n",
          "* (a mailbox=<x>)\na OK Completed\nb BAD Missing argument\n* (c)\nc OK Completed\n",
          false),
        S("a name that cannot be", "a SELECT ../x\r\n",
          "a NO [CANNOT] Mailbox name has an empty level, or one that is a dot or two\n", false),
        S("enable", "a ENABLE QRESYNC FOO\r\nb ENABLE CONDSTORE IMAP4rev2\r\nc ENABLE X\r\n",
          "* ENABLED CONDSTORE QRESYNC\na OK Completed\n* ENABLED IMAP4rev2\nb OK Completed\n"
          "* ENABLED\nc OK Completed\n",
          false),
        S("enable when selected", "a SELECT x\r\nb ENABLE CONDSTORE\r\n",
          "* (a mailbox=<x>)\na OK Completed\nb BAD Not valid in this state\n", false),
        S("QRESYNC must be enabled", "a SELECT x (QRESYNC (1 2))\r\n",
          "a BAD QRESYNC is not enabled\n", false),
        S("and then is known",
          "a ENABLE QRESYNC\r\nb SELECT x (QRESYNC (1 2))\r\nc UID FETCH 1 UID (CHANGEDSINCE 1 "
          "VANISHED)\r\n",
          "* ENABLED CONDSTORE QRESYNC\na OK Completed\n* (b +condstore mailbox=<x> qresync 1 2)\n"
          "b OK Completed\n* (c uid +condstore 1:1 1 since=1 vanished)\nc OK Completed\n",
          false),
        S("UTF-8 names",
          "a SUBSCRIBE \"\xc3\xbc\"\r\nb ENABLE UTF8=ACCEPT\r\nc SUBSCRIBE \"\xc3\xbc\"\r\n",
          "a NO [CANNOT] Mailbox name is not valid modified UTF-7\n* ENABLED UTF8=ACCEPT\n"
          "b OK Completed\n* (c mailbox=<\xc3\xbc>)\nc OK Completed\n",
          false),
        S("idle", "a IDLE\r\nDONE\r\nb IDLE\r\ndone\r\nc NOOP\r\n",
          "+ idling\na OK Completed\n+ idling\nb OK Completed\nc OK Completed\n", false),
        S("idle and something else", "a IDLE\r\nb NOOP\r\nc NOOP\r\n",
          "+ idling\na BAD Expected DONE\nc OK Completed\n", false),
        S("idle and too much of it",
          "a IDLE\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
          "+ idling\n* BYE Expected DONE\n", true),
        S("compress", "a COMPRESS DEFLATE\r\nb COMPRESS DEFLATE\r\n",
          "* (a)\na OK Completed\nb NO [COMPRESSIONACTIVE] It is compressed already\n", false),
        S("compress is itself when it is compressed", "a COMPRESS DEFLATE\r\nb COMPRESS\r\n",
          "* (a)\na OK Completed\nb BAD Missing argument\n", false),
        S("encryption comes before compression",
          "a COMPRESS DEFLATE\r\nb UNAUTHENTICATE\r\nc STARTTLS\r\nd CAPABILITY\r\n",
          "* (a)\na OK Completed\n* (b)\nb OK Completed\n"
          "c BAD Encryption comes before compression\n* CAPABILITY "
          "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE AUTH=SCRAM-SHA-256\nd OK Completed\n",
          false),
        S("unauthenticate", "a UNAUTHENTICATE\r\nb SELECT x\r\nc CAPABILITY\r\n",
          "* (a)\na OK Completed\nb BAD Log in first\n* CAPABILITY " BEFORE "\nc OK Completed\n",
          false),
        S("charset", "a SELECT x\r\nb SEARCH CHARSET KOI8-R ALL\r\n",
          "* (a mailbox=<x>)\na OK Completed\n"
          "b NO [BADCHARSET (US-ASCII UTF-8)] Unknown character set\n",
          false),
        S("errors count only in a row",
          "a F\r\nb F\r\nc NOOP\r\nd F\r\ne F\r\nf NOOP\r\ng F\r\nh F\r\ni F\r\n",
          "a BAD Unknown command\nb BAD Unknown command\nc OK Completed\nd BAD Unknown command\n"
          "e BAD Unknown command\nf OK Completed\ng BAD Unknown command\nh BAD Unknown command\n"
          "i BAD Unknown command\n* BYE Too many errors\n",
          true),
    };
    CHECK(scripts, IMAP_SCRIPT_LOGGED_IN);
}

#define M(mailbox, rest) "* message mailbox=<" mailbox "> flags=" rest "\n"

static void messages_are_appended(void **state)
{
    (void)state;
    static const struct imap_script scripts[] = {
        S("one that waits", "a APPEND x {5}\r\nhello\r\nb NOOP\r\n",
          M("x", "0 5") "+ OK\nhello|\n* (a mailbox=<x> 1)\na OK Completed\nb OK Completed\n",
          false),
        S("one that does not", "a APPEND x {5+}\r\nhello\r\n",
          M("x", "0 5") "hello|\n* (a mailbox=<x> 1)\na OK Completed\n", false),
        S("flags and date",
          "a APPEND \"x\" (\\Seen k) \" 7-Feb-1994 21:52:25 -0800\" {5+}\r\nhel\r\n\r\n",
          M("x",
            "8 k=<k> date=760686745 zone=-480 5") "hel\n|\n* (a mailbox=<x> 1)\na OK Completed\n",
          false),
        S("the mailbox a literal", "a APPEND {1}\r\nx {5+}\r\nhello\r\n",
          "+ OK\n" M("x", "0 5") "hello|\n* (a mailbox=<x> 1)\na OK Completed\n", false),
        S("many", "a APPEND x {1+}\r\na (\\Seen) {2}\r\nbc {1+}\r\nd\r\n",
          M("x", "0 1") "a|\n" M("x", "8 2") "+ OK\nbc|\n" M(
              "x", "0 1") "d|\n* (a mailbox=<x> 3)\na OK Completed\n",
          false),
        S("binary, with NUL", "a APPEND x ~{3+}\r\na\0b\r\n",
          M("x", "0 binary 3") "a0b|\n* (a mailbox=<x> 1)\na OK Completed\n", false),
        S("UTF-8", "a APPEND x UTF8 (~{2+}\r\nab)\r\n",
          M("x", "0 binary utf8 2") "ab|\n* (a mailbox=<x> 1)\na OK Completed\n", false),
        S("catenate",
          "a APPEND x CATENATE (URL \"/u;1\" TEXT {2+}\r\nab URL {2+}\r\nuv TEXT {0+}\r\n)\r\n",
          M("x", "0 catenate 0") "* url /u;1\nab* url uv\n|\n* (a mailbox=<x> 1)\na OK Completed\n",
          false),
        S("catenate and another", "a APPEND x CATENATE (TEXT {1}\r\nb) {1+}\r\nc\r\n",
          M("x", "0 catenate 0") "+ OK\nb|\n" M("x",
                                                "0 1") "c|\n* (a mailbox=<x> 2)\na OK Completed\n",
          false),
        S("refused, and it waits", "a APPEND full {5}\r\nb NOOP\r\n",
          "a NO [OVERQUOTA] Full\nb OK Completed\n", false),
        S("refused, and it does not",
          "a APPEND full {8+}\r\nc NOOP\r\n {3+}\r\nabc (\\Seen) {1}\r\nb NOOP\r\n",
          "a NO [OVERQUOTA] Full\nb OK Completed\n", false),
        S("refused later", "a APPEND late {5+}\r\nhello {8+}\r\nc NOOP\r\n\r\nb NOOP\r\n",
          M("late", "0 5") "a NO [SERVERBUG] Late\nb OK Completed\n", false),
        S("too large",
          "a APPEND x {101}\r\nb APPEND x {100}\r\n"
          "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
          "890123456789\r\n",
          "a NO [TOOBIG] Message is too large\n" M(
              "x", "0 100") "+ OK\n"
                            "0123456789012345678901234567890123456789012345678901234567890123456789"
                            "012345678901234567890123456789"
                            "|\n* (b mailbox=<x> 1)\nb OK Completed\n",
          false),
        S("parts that are together too large",
          "a APPEND x CATENATE (TEXT {1+}\r\na TEXT {100}\r\nb NOOP\r\n",
          M("x", "0 catenate 0") "aa NO [TOOBIG] Message is too large\nb OK Completed\n", false),
        S("nothing at all", "a APPEND x {1+}\r\na {0}\r\nb NOOP\r\n",
          M("x", "0 1") "a|\na NO APPEND is aborted by an empty message\nb OK Completed\n", false),
        S("more than can be counted", "a APPEND x {99999999999999999999+}\r\n",
          "* BYE [TOOBIG] Literal is too large\n", true),
        S("the same, but it waits", "a APPEND x {99999999999999999999}\r\nb NOOP\r\n",
          "a NO [TOOBIG] Message is too large\nb OK Completed\n", false),
        S("a third that is bad",
          "a APPEND x {1+}\r\na {1+}\r\nb (\\Foo) {8+}\r\nc NOOP\r\n\r\nb NOOP\r\n",
          M("x", "0 1") "a|\n" M(
              "x", "0 1") "b|\na BAD There is no such system flag to be set\nb OK Completed\n",
          false),
        S("junk behind it", "a APPEND x {1+}\r\nab\r\n",
          M("x", "0 1") "a|\na BAD Unexpected text behind the message\n", false),
        S("no literal", "a APPEND x\r\nb APPEND x hello\r\n",
          "a BAD Missing argument\nb BAD Expected a literal\n", false),
        S("UTF8 without its parenthesis", "a APPEND x UTF8 (~{1+}\r\na\r\n",
          M("x", "0 binary utf8 1") "aa BAD Expected ) behind the message\n", false),
        S("a NUL", "a APPEND x {5+}\r\nab\0de\r\nb NOOP\r\n",
          M("x", "0 5") "aba BAD NUL in a message needs a binary literal\nb OK Completed\n", false),
        S("a name that cannot be", "a APPEND .. {5+}\r\nhello\r\nb NOOP\r\n",
          "a NO [CANNOT] Mailbox name has an empty level, or one that is a dot or two\nb OK "
          "Completed\n",
          false),
        S("replace needs a mailbox", "a REPLACE 1 x {1}\r\nb NOOP\r\n",
          "a BAD Select a mailbox first\nb OK Completed\n", false),
    };
    static const struct imap_script selected[] = {
        S("replace", "a REPLACE 4 x {1+}\r\na\r\nb UID REPLACE * y (\\Draft) {1+}\r\nb\r\n",
          "* message mailbox=<x> 4 flags=0 1\na|\n* (a mailbox=<x> 1)\na OK Completed\n"
          "* message mailbox=<y> uid *4294967295 flags=10 1\nb|\n* (b uid mailbox=<y> 1)\nb OK "
          "Completed\n",
          false),
        S("with one message only", "a REPLACE 4 x {1+}\r\na {1+}\r\nb\r\n",
          "* message mailbox=<x> 4 flags=0 1\na|\na BAD Unexpected text behind the message\n",
          false),
        S("of a number", "a REPLACE 0 x {1+}\r\na\r\n", "a BAD Number must not be 0\n", false),
    };
    CHECK(scripts, IMAP_SCRIPT_LOGGED_IN);
    CHECK(selected, IMAP_SCRIPT_SELECTED);
}

static void the_sample_connection_of_rfc_3501(void **state)
{
    (void)state;
    static const struct imap_script scripts[] = {
        S("§8",
          "a002 select inbox\r\na003 fetch 12 full\r\na004 fetch 12 body[header]\r\n"
          "a005 store 12 +flags \\deleted\r\na006 logout\r\n",
          "* (a002 mailbox=<INBOX>)\na002 OK Completed\n* (a003 12:12 0 2 13 7 8)\na003 OK "
          "Completed\n"
          "* (a004 12:12 15/1)\na004 OK Completed\n* (a005 12:12 mode=1 flags=4)\na005 OK "
          "Completed\n"
          "* BYE Logging out\na006 OK Completed\n",
          true),
        S("examples of RFC 9051",
          "A01 LIST (SUBSCRIBED) \"\" \"*\" RETURN (STATUS (MESSAGES))\r\n"
          "A02 CREATE owatagusiam/\r\nA03 RENAME blurdybloop sarasoop\r\n"
          "A04 STATUS blurdybloop (UIDNEXT MESSAGES)\r\n"
          "A05 APPEND saved-messages (\\Seen) {6}\r\nDate: \r\n"
          "A06 SELECT INBOX\r\nA07 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "
          "\"Smith\"\r\n"
          "A08 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])\r\nA09 UID FETCH 4827313:4828442 "
          "FLAGS\r\n"
          "A10 MOVE 42:69 foo\r\nA11 UID EXPUNGE 3000:3002\r\n",
          "* (A01 extended reference=<> pattern=<*> select=1 return=8 status=1)\nA01 OK Completed\n"
          "* (A02 mailbox=<owatagusiam>)\nA02 OK Completed\n* (A03 from=<blurdybloop> "
          "to=<sarasoop>)\n"
          "A03 OK Completed\n* (A04 mailbox=<blurdybloop> 5)\nA04 OK Completed\n" M(
              "saved-messages",
              "8 6") "+ OK\nDate: |\n* (A05 mailbox=<saved-messages> 1)\nA05 OK Completed\n"
                     "* (A06 mailbox=<INBOX>)\nA06 OK Completed\n* (A07 return=9 1( 6 2 23 "
                     "day=8797 3( 13 text=<Smith> ) ))\n"
                     "A07 OK Completed\n* (A08 2:4 0 15/2 f=<DATE> f=<FROM>)\nA08 OK Completed\n"
                     "* (A09 uid 4827313:4828442 0)\nA09 OK Completed\n* (A10 42:69 "
                     "mailbox=<foo>)\nA10 OK Completed\n"
                     "* (A11 uid 3000:3002)\nA11 OK Completed\n",
          false),
    };
    CHECK(scripts, IMAP_SCRIPT_LOGGED_IN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_way_in),
        cmocka_unit_test(states_after_login),
        cmocka_unit_test(messages_are_appended),
        cmocka_unit_test(the_sample_connection_of_rfc_3501),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
