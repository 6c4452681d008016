/*
 * The examples of RFC 9051 §6.4, §7 and §8, of RFC 3501 where they are others, and of what works on messages: RFC 4315,
 * RFC 6851, RFC 8508, RFC 3502, RFC 4469, RFC 3516, RFC 2180. Mail and numbers are ours.
 */
#include "tests/unit/rfc_play.h"

/* A mailbox of five letters, selected. */
static struct imap_rig *five(void **state)
{
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 5);
    talk(rig, 0, "c CREATE meeting\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return rig;
}

static void mailboxes_are_closed(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "t STORE 1 +FLAGS (\\Deleted)", "* 1 FETCH (FLAGS (\\Deleted))\nt OK %"},
        {0, "A342 UNSELECT", "!* ^ EXPUNGE\nA342 OK %"}, /* §6.4.2, RFC 3691 */
        {0, "A343 FETCH 1 UID", "A343 BAD %"},
        {0, "s SELECT INBOX", "* 5 EXISTS\ns OK %"},
        {0, "A341 CLOSE", "!* ^ EXPUNGE\nA341 OK %"}, /* §6.4.1 */
        {0, "s SELECT INBOX", "* 4 EXISTS\ns OK %"},
        {0, "e EXAMINE INBOX", "e OK [READ-ONLY] %"},
        {0, "f STORE 1 +FLAGS (\\Deleted)", "f NO %"}, /* nothing changes in a mailbox to look at */
        {0, "g EXPUNGE", "g NO %"},
        {0, "h CHECK", "h OK %"}, /* RFC 3501 §6.4.1 */
    };
    RFC_PLAY(five(state), steps);
}

static void messages_are_expunged(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "t STORE 2:3,5 +FLAGS.SILENT (\\Deleted)", "!* ^ FETCH %\nt OK %"},
        {0, "A003 UID EXPUNGE 3:4", "* 3 EXPUNGE\n!* 2 EXPUNGE\nA003 OK %"}, /* §6.4.9 */
        {0, "A202 EXPUNGE", "* 4 EXPUNGE\n* 2 EXPUNGE\nA202 OK %"},          /* §6.4.3 */
        {0, "A203 UID SEARCH ALL", "* SEARCH 1 4\nA203 OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void messages_are_fetched(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
         "* 2 FETCH (FLAGS (\\Seen) BODY[HEADER.FIELDS (DATE FROM)] {^}\nDate: "
         "%\nFrom: %\n\n%)\n"
         "* 3 FETCH (FLAGS (\\Seen) BODY[HEADER.FIELDS (DATE FROM)] {^}\n%%)\n"
         "* 4 FETCH (FLAGS (\\Seen) BODY[HEADER.FIELDS (DATE FROM)] {^}\n%%)\nA654 "
         "OK %"}, /* §6.4.5 */
        {0, "f FETCH 2 (FLAGS)", "* 2 FETCH (FLAGS (\\Seen))\nf OK %"},
        {0, "A999 UID FETCH 3:4 FLAGS",
         "* 3 FETCH (UID 3 FLAGS (\\Seen))\n* 4 FETCH (UID 4 FLAGS (\\Seen))\nA999 "
         "OK %"}, /* §6.4.9 */
        {0, "A998 UID FETCH 4827313:4828442 FLAGS", "!* ^ FETCH %\nA998 OK %"},
        {0, "A997 UID FETCH 20:* FLAGS", "* 5 FETCH (UID 5 FLAGS ())\nA997 OK %"},
        {0, "b FETCH 5 BODY[TEXT]<5.2>", "* 5 FETCH (BODY[TEXT]<5> {2}\nof%)\nb OK %"}, /* §6.4.5 */
        {0, "d FETCH 1 BODY.PEEK[]<0.10>", "* 1 FETCH (BODY[]<0> {10}\nDate: Tue,)\nd OK %"},
        {0, "g FETCH 1 (RFC822.SIZE UID)", "* 1 FETCH (RFC822.SIZE ^ UID 1)\ng OK %"}, /* §7.5.2 */
        {0, "h FETCH 1 FAST", "* 1 FETCH (FLAGS %INTERNALDATE %RFC822.SIZE ^)\nh OK %"},
        {0, "i FETCH 1 FULL",
         "* 1 FETCH (FLAGS %INTERNALDATE %RFC822.SIZE ^ ENVELOPE (% BODY (%))\ni "
         "OK %"},
        {0, "j FETCH 1 (RFC822.HEADER RFC822.TEXT RFC822)",
         "* 1 FETCH (RFC822.HEADER {^}\n%%RFC822.TEXT {^}\n%%RFC822 {^}\n%%)\nj OK "
         "%"}, /* RFC 3501 */
        {0, "k FETCH 9 UID", "k BAD %"},
    };
    RFC_PLAY(five(state), steps);
}

static void flags_are_stored(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "s STORE 2 FLAGS (\\Seen)", "* 2 FETCH (FLAGS (\\Seen))\ns OK %"},
        {0, "s STORE 4 FLAGS (\\Flagged \\Seen)", "* 4 FETCH (FLAGS (\\Seen \\Flagged))\ns OK %"},
        {0, "A003 STORE 2:4 +FLAGS (\\Deleted)",
         "* 2 FETCH (FLAGS (\\Seen \\Deleted))\n* 3 FETCH (FLAGS (\\Deleted))\n"
         "* 4 FETCH (FLAGS (\\Seen \\Flagged \\Deleted))\nA003 OK %"}, /* §6.4.6 */
        {0, "u UID STORE 2 -FLAGS (\\Seen)", "* 2 FETCH (UID 2 FLAGS (\\Deleted))\nu OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void messages_are_copied_and_moved(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A003 COPY 2:4 MEETING", "A003 NO [TRYCREATE] %"},         /* names have their case */
        {0, "A004 COPY 2:4 meeting", "A004 OK [COPYUID ^ 2:4 1:3] %"}, /* §6.4.7, RFC 4315 §3 */
        {0, "A005 UID COPY 305:310 meeting", "A005 OK %"},
        {0, "A006 UID COPY 5,1 meeting", "A006 OK [COPYUID ^ 1,5 4:5] %"},
        {0, "a UID MOVE 2:4 meeting",
         "* OK [COPYUID ^ 2:4 6:8] %\n* 4 EXPUNGE\n* 3 EXPUNGE\n* 2 EXPUNGE\na OK "
         "%"}, /* RFC 6851 §3 */
        {0, "b MOVE 1 nowhere", "b NO [TRYCREATE] %"},
        {0, "c MOVE 1:2 meeting", "* OK [COPYUID ^ 1,5 9:10] %\n* 2 EXPUNGE\n* 1 EXPUNGE\nc OK %"},
        {0, "d STATUS meeting (MESSAGES)", "* STATUS meeting (MESSAGES 10)\nd OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void a_message_is_replaced(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "c CREATE Drafts", "c OK %"}, /* RFC 8508 §3.2 */
        {0, "A003 REPLACE 4 INBOX (\\Seen \\Draft) <<Subject: new year\n\nbest fireworks\n>>",
         "* OK [APPENDUID ^ 6] %\n* 4 EXPUNGE\n* 5 EXISTS\nA003 OK %"},
        {0, "A004 UID REPLACE 6 INBOX (\\Seen \\Draft) <<Subject: new year\n\nnext year\n>>",
         "* OK [APPENDUID ^ 7] %\n* 5 EXPUNGE\n* 5 EXISTS\nA004 OK %"},
        {0, "A005 UID REPLACE 7 Drafts (\\Seen \\Draft) <+Subject: new year\n\nelsewhere\n+>",
         "* OK [APPENDUID ^ 1] %\n* 5 EXPUNGE\nA005 OK %"},
        {0, "A006 UID REPLACE 7 Drafts <+Subject: x\n\nx\n+>", "A006 NO %"}, /* it is not there */
        {0, "A007 REPLACE 1 nowhere <+Subject: x\n\nx\n+>", "A007 NO [TRYCREATE] %"},
        {0, "A008 UID SEARCH ALL", "* SEARCH 1 2 3 5\nA008 OK %"},
        {0,
         "A011 UID REPLACE 5 INBOX (\\Draft) CATENATE (TEXT <<Subject: my view\n\n>> URL "
         "\"/INBOX/;UID=5/;SECTION=TEXT\")",
         "* OK [APPENDUID ^ 8] %\n* 4 EXPUNGE\n* 4 EXISTS\nA011 OK %"},
        {0, "A012 FETCH 4 BODY.PEEK[]",
         "* 4 FETCH (BODY[] {^}\nSubject: my view\n\ntext of 5\n%)\nA012 OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void several_are_appended_at_once(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 3502 §6.3.11 */
        {0,
         "A003 APPEND meeting (\\Seen) <<Subject: one\n\n3:30?\n>> (\\Seen) \" 7-Feb-1994 22:43:04 "
         "-0800\" <<Subject: Re: one\n\nis fine\n>>",
         "A003 OK [APPENDUID ^ 1:2] %"},
        {0, "A004 APPEND bogusname (\\Flagged) {1023}", "A004 NO [TRYCREATE] %"},
        {0, "A005 APPEND meeting (\\Flagged) <<Subject: hmm\n\n>> {999999999}",
         "A005 NO [TOOBIG] %"}, /* nothing of it is kept */
        {0, "A006 STATUS meeting (MESSAGES)", "* STATUS meeting (MESSAGES 2)\nA006 OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void parts_of_messages_become_one(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 4469 §5 */
        {0,
         "a APPEND INBOX <<Subject: two parts\nMIME-Version: 1.0\nContent-Type: multipart/mixed; "
         "boundary=b\n\n--b\nContent-Type: text/plain\n\nbody\n--b\nContent-Type: "
         "application/x-z\n\nZZ\n--b--\n>>",
         "* 6 EXISTS\na OK [APPENDUID ^ 6] %"},
        {0,
         "A003 APPEND meeting (\\Seen \\Draft $MDNSent) CATENATE (URL "
         "\"/INBOX;UIDVALIDITY=1700000000/;UID=6/;section=HEADER\" TEXT <<\n--b\n>> URL "
         "\"/INBOX;UIDVALIDITY=1700000000/;UID=6/;section=1.MIME\" URL "
         "\"/INBOX;UIDVALIDITY=1700000000/;UID=6/;section=1\" TEXT <<\n--b--\n>>)",
         "A003 OK [APPENDUID ^ 1] %"},
        {0, "A004 APPEND meeting CATENATE (URL \"/INBOX;UIDVALIDITY=1/;UID=6\")",
         "A004 NO [BADURL /INBOX;UIDVALIDITY=1/;UID=6] %"},
        {0, "A005 APPEND meeting CATENATE (URL \"/INBOX/;UID=6/;section=1.5.9\" TEXT <+x+>)",
         "A005 NO [BADURL /INBOX/;UID=6/;section=1.5.9] %"},
        {0, "s SELECT meeting", "* 1 EXISTS\ns OK %"},
        {0, "f FETCH 1 (FLAGS BODY)",
         "* 1 FETCH (FLAGS (\\Seen \\Draft $MDNSent) BODY ((\"text\" \"plain\" %) \"mixed\"))\n"
         "f OK %"},
        /* RFC 3516 §4: what is encoded comes decoded */
        {0,
         "b APPEND meeting <<Subject: b\nMIME-Version: 1.0\nContent-Transfer-Encoding: "
         "base64\n\naGVsbG8=\n>>",
         "b OK %"},
        {0, "c FETCH 2 (BINARY.SIZE[1] BINARY[1])",
         "* 2 FETCH (BINARY.SIZE[1] 5 BINARY[1] ~{5}\nhello%)\nc OK %"},
        {0, "d FETCH 2 BINARY.PEEK[1]<1.3>", "* 2 FETCH (BINARY[1]<1> ~{3}\nell)\nd OK %"},
        {0, "e APPEND meeting ~{18+}\nSubject: x\n\nabcd", "e OK [APPENDUID ^ 3] %"},
        {0,
         "g APPEND meeting <<Subject: b\nMIME-Version: 1.0\nContent-Transfer-Encoding: "
         "x-nobody\n\nx\n>>",
         "g OK %"},
        {0, "h FETCH 4 BINARY[1]", "h NO [UNKNOWN-CTE] %"},
    };
    RFC_PLAY(five(state), steps);
}

static void envelope_and_structure(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 3501 §7.4.2, §8 */
        {0,
         "a APPEND INBOX <<Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\nFrom: Terry "
         "<gray@cac.example>\nSubject: minutes\nTo: imap@cac.example\ncc: m@cnri.example, "
         "John <k@inf.example>\nMessage-Id: <B27@cac.example>\nMIME-Version: 1.0\nContent-Type: "
         "TEXT/PLAIN; CHARSET=US-ASCII\n\none\ntwo\n>>",
         "a OK %"},
        {0, "a003 FETCH 6 FULL",
         "* 6 FETCH (FLAGS () INTERNALDATE \"%\" RFC822.SIZE ^ ENVELOPE (\"Wed, 17 Jul 1996 "
         "02:23:25 -0700 (PDT)\" \"minutes\" ((\"Terry\" NIL \"gray\" \"cac.example\")) "
         "((\"Terry\" NIL \"gray\" \"cac.example\")) ((\"Terry\" NIL \"gray\" \"cac.example\")) "
         "((NIL NIL \"imap\" \"cac.example\")) ((NIL NIL \"m\" \"cnri.example\")(\"John\" NIL "
         "\"k\" "
         "\"inf.example\")) NIL NIL \"<B27@cac.example>\") BODY (\"TEXT\" \"PLAIN\" (\"CHARSET\" "
         "\"US-ASCII\") NIL NIL \"7bit\" 10 2))\na003 OK %"},
        {0, "a004 FETCH 6 BODY[HEADER]", "* 6 FETCH (BODY[HEADER] {^}\n%%)\na004 OK %"},
        {0, "a005 STORE 6 +FLAGS \\Deleted", "* 6 FETCH (FLAGS (\\Seen \\Deleted))\na005 OK %"},
        {0, "a006 LOGOUT", "* BYE %\na006 OK %"},
    };
    RFC_PLAY(five(state), steps);
}

static void what_is_wrong_is_said(void **state)
{
    static const struct rfc_step steps[] = {
        /* §4.3, §7.1.3: only the command is wrong, the session goes on */
        {0, "A044 BLURDYBLOOP {102856}", "A044 BAD %"},
        {0, "", "* BAD %"},
        {0, "l create \"///////\"", "l NO %"},
        {0, "d select", "d BAD %"},
        {0, "n NOOP", "n OK %"},
        {1, "b LOGIN \"fred\" \"foo\"", "b NO [AUTHENTICATIONFAILED] %"},
        {1, "c SELECT inbox", "c BAD %"},
    };
    struct imap_rig *rig = five(state);
    connect_client(rig, 1);
    RFC_PLAY(rig, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(mailboxes_are_closed),          TEST(messages_are_expunged),
        TEST(messages_are_fetched),          TEST(flags_are_stored),
        TEST(messages_are_copied_and_moved), TEST(a_message_is_replaced),
        TEST(several_are_appended_at_once),  TEST(parts_of_messages_become_one),
        TEST(envelope_and_structure),        TEST(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
