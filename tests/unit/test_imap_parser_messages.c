/* The grammar of IMAP's commands about messages, metadata and notifications. */
#include "engine/core/limits.h"
#include "tests/unit/imap_grammar.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

static void fetch(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a FETCH 1 FLAGS", "a 1:1 0"},
        {"a FETCH 2:4 ALL", "a 2:4 0 2 13 7"},
        {"a FETCH 2:4 fast", "a 2:4 0 2 13"},
        {"a FETCH $ FULL", "a $ 0 2 13 7 8"},
        {"a UID FETCH 4:* (UID FLAGS)", "a uid 4:* 1 0"},
        {"a FETCH * (INTERNALDATE SAVEDATE EMAILID THREADID ENVELOPE BODY BODYSTRUCTURE)",
         "a 4294967295:* 2 3 5 6 7 8 9"},
        {"a FETCH 1 (RFC822 RFC822.HEADER RFC822.SIZE RFC822.TEXT)", "a 1:1 11 12 13 14"},
        {"a FETCH 1 (PREVIEW PREVIEW (LAZY))", "a 1:1 10 10z"},
        {"a FETCH 1 (MODSEQ)", "a +condstore 1:1 4"},
        {"a FETCH 1 BODY[]", "a 1:1 15"},
        {"a FETCH 1 body.peek[]<0.2048>", "a 1:1 15p <0.2048>"},
        {"a FETCH 1 BODY[1.2.HEADER]", "a 1:1 15[1.2/1"},
        {"a FETCH 1 BODY[3]", "a 1:1 15[3"},
        {"a FETCH 1 BODY[1.MIME]", "a 1:1 15[1/5"},
        {"a FETCH 1 BODY[TEXT]", "a 1:1 15/4"},
        {"a FETCH 1 BODY[HEADER.FIELDS (Date \"From\")]", "a 1:1 15/2 f=<Date> f=<From>"},
        {"a FETCH 1 BODY[4.2.HEADER.FIELDS.NOT (X)]<4294967295.1>",
         "a 1:1 15[4.2/3 f=<X> <4294967295.1>"},
        {"a FETCH 1 (BINARY[1.2] BINARY.PEEK[] BINARY.SIZE[1] BINARY[2]<1.2>)",
         "a 1:1 16[1.2 16p 17p[1 16[2 <1.2>"},
        {"a UID FETCH 1 FLAGS (CHANGEDSINCE 12345 VANISHED)",
         "a uid +condstore 1:1 0 since=12345 vanished"},
        {"a FETCH 1:* ALL (CHANGEDSINCE 0)", "a +condstore 1:* 0 2 13 7 since=0"},
        {"a UID FETCH 1:* FLAGS (PARTIAL -1:-30)", "a uid 1:* 0 partial=-1:30"},
    };
    static const char *const bad[] = {
        "a FETCH",
        "a FETCH 1",
        "a FETCH 1 ",
        "a FETCH 0 FLAGS",
        "a FETCH 1 FOO",
        "a FETCH 1 ()",
        "a FETCH 1 (FLAGS",
        "a FETCH 1 (ALL)",
        "a FETCH 1 ALL FLAGS",
        "a FETCH 1 FLAGS UID",
        "a FETCH 1 FLAGSX",
        "a FETCH 1 BODY[",
        "a FETCH 1 BODY[FOO]",
        "a FETCH 1 BODY[0]",
        "a FETCH 1 BODY[1.]",
        "a FETCH 1 BODY[.1]",
        "a FETCH 1 BODY[MIME]",
        "a FETCH 1 BODY[1.0]",
        "a FETCH 1 BODY[HEADER.FIELDS]",
        "a FETCH 1 BODY[HEADER.FIELDS ()]",
        "a FETCH 1 BODY[HEADER.FIELDS x]",
        "a FETCH 1 BODY[4294967296]",
        "a FETCH 1 BODY[]<0>",
        "a FETCH 1 BODY[]<0.0>",
        "a FETCH 1 BODY[]<1.2",
        "a FETCH 1 BODY[]<4294967296.1>",
        "a FETCH 1 BODY.PEEK",
        "a FETCH 1 BINARY[TEXT]",
        "a FETCH 1 BINARY[1.TEXT]",
        "a FETCH 1 BINARY.SIZE[1]<0.1>",
        "a FETCH 1 BODY[HEADERS]",
        "a FETCH 1 FLAGS ()",
        "a FETCH 1 FLAGS (FOO)",
        "a FETCH 1 FLAGS (VANISHED)",
        "a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
        "a UID FETCH 1 FLAGS (VANISHED)",
        "a FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775808)",
        "a FETCH 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)",
        "a FETCH 1 FLAGS (PARTIAL 1:2)",
        "a UID FETCH 1 FLAGS (PARTIAL 1)",
        "a FETCH 4294967296:* FLAGS",
        "a FETCH 1,, FLAGS",
    };
    GOOD(good);
    BAD(bad);
}

static void store_and_copy(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a STORE 2:4 +FLAGS (\\Deleted)", "a 2:4 mode=1 flags=4"},
        {"a STORE 1 FLAGS ()", "a 1:1 mode=0 flags=0"},
        {"a STORE 1 -flags.silent \\seen $Junk", "a 1:1 mode=2 silent flags=8 k=<$Junk>"},
        {"a UID STORE $ FLAGS (\\Answered \\Flagged \\Draft x)", "a uid $ mode=0 flags=13 k=<x>"},
        {"a STORE 1 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\\Deleted)",
         "a +condstore 1:1 mode=1 silent since=320162338 flags=4"},
        {"a COPY 2:4 MEETING", "a 2:4 mailbox=<MEETING>"},
        {"a UID COPY 2 inbox", "a uid 2:2 mailbox=<INBOX>"},
        {"a MOVE 1:* x", "a 1:* mailbox=<x>"},
        {"a UID MOVE 1 x", "a uid 1:1 mailbox=<x>"},
    };
    static const char *const bad[] = {
        "a STORE",
        "a STORE 1",
        "a STORE 1 FLAGS",
        "a STORE 1 FLAGS ",
        "a STORE 1 FOO (x)",
        "a STORE 1 FLAGS (\\Recent)",
        "a STORE 1 FLAGS (\\Foo)",
        "a STORE 1 FLAGS (\\*)",
        "a STORE 1 FLAGS (x",
        "a STORE 1 FLAGS (x  y)",
        "a STORE 1 FLAGS (\"x\")",
        "a STORE 1 =FLAGS (x)",
        "a STORE 1 (FOO 1) FLAGS (x)",
        "a STORE 1 (UNCHANGEDSINCE) FLAGS (x)",
        "a STORE 1 (UNCHANGEDSINCE -1) FLAGS (x)",
        "a STORE x FLAGS (y)",
        "a COPY 1",
        "a COPY x y",
        "a COPY 1 a b",
        "a MOVE 1 ",
    };
    GOOD(good);
    BAD(bad);
}

static void search(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a SEARCH ALL", "a 1( 0 )"},
        {"a SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
         "a 1( 6 2 23 day=8797 3( 13 text=<Smith> ) )"},
        {"a SEARCH OR SEEN (DRAFT UNDELETED)", "a 1( 2( 6 8 1( 6 10 7 4 ) ) )"},
        {"a UID SEARCH 1:5,* UID $", "a uid 1( 4 1:5,4294967295:* 5 $ )"},
        {"a SEARCH CHARSET UTF-8 TEXT {6}\r\n\xd0\xb0\xd0\xb1\xd0\xb2",
         "a charset=<UTF-8> 1( 19 text=<\xd0\xb0\xd0\xb1\xd0\xb2> )"},
        {"a SEARCH RETURN () NEW", "a return=4 1( 10 )"},
        {"a SEARCH RETURN (MIN MAX COUNT SAVE) OLD", "a return=1b 1( 11 )"},
        {"a SEARCH RETURN (PARTIAL 23500:24000 UPDATE CONTEXT) RECENT",
         "a return=e0 partial=23500:24000 1( 12 )"},
        {"a SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO)]) CONTEXT) RECENT",
         "a return=c8 1 15/2 f=<TO> 1( 12 )"},
        {"a SEARCH HEADER \"X-Y\" \"\" BCC a CC b TO c SUBJECT d BODY e",
         "a 1( 20 name=<X-Y> text=<> 16 text=<a> 15 text=<b> 14 text=<c> 17 text=<d> 18 text=<e> "
         ")"},
        {"a SEARCH BEFORE \"29-feb-2000\" ON 01-Jan-1970 SENTBEFORE 2-Jan-1970 SENTON 3-Jan-1970 "
         "SENTSINCE 4-Jan-1970",
         "a 1( 21 day=11016 22 day=0 24 day=1 25 day=2 26 day=3 )"},
        {"a SEARCH SAVEDBEFORE 1-Jan-1969 SAVEDON 1-Jan-0000 SAVEDSINCE 31-Dec-9999 "
         "SAVEDATESUPPORTED",
         "a 1( 27 day=-365 28 day=-719528 29 day=2932896 30 )"},
        {"a SEARCH LARGER 0 SMALLER 9223372036854775807 OLDER 1 YOUNGER 4294967295",
         "a 1( 31 0 32 9223372036854775807 33 1 34 4294967295 )"},
        {"a SEARCH KEYWORD $x UNKEYWORD y UNSEEN UNANSWERED UNFLAGGED UNDRAFT ANSWERED DELETED",
         "a 1( 8 text=<$x> 9 text=<y> 7 8 7 1 7 2 7 10 6 1 6 4 )"},
        {"a SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338",
         "a +condstore 1( 35 620162338 entry=</flags/\\draft> )"},
        {"a SEARCH NOT MODSEQ 0", "a +condstore 1( 3( 35 0 entry=<> ) )"},
        {"a SEARCH FUZZY (SUBJECT x) EMAILID M6d99-_ THREADID T1",
         "a 1( ~1( 17 text=<x> ) 36 text=<M6d99-_> 37 text=<T1> )"},
        {"a SORT (SUBJECT REVERSE DATE) UTF-8 ALL", "a charset=<UTF-8> +5 -2 1( 0 )"},
        {"a UID SORT RETURN (COUNT) (ARRIVAL CC FROM SIZE TO DISPLAYFROM DISPLAYTO) US-ASCII "
         "UNSEEN",
         "a uid return=8 charset=<US-ASCII> +0 +1 +3 +4 +6 +7 +8 1( 7 8 )"},
        {"a THREAD REFERENCES UTF-8 ALL", "a by=1 charset=<UTF-8> 1( 0 )"},
        {"a UID THREAD orderedsubject us-ascii TEXT x",
         "a uid by=0 charset=<us-ascii> 1( 19 text=<x> )"},
    };
    static const char *const bad[] = {
        "a SEARCH",
        "a SEARCH ",
        "a SEARCH FOO",
        "a SEARCH RETURN (UPDATE ()) ALL",
        "a SEARCH RETURN (UPDATE (UID) UPDATE) ALL",
        "a SEARCH RETURN (COUNT (UID)) ALL",
        "a SEARCH ()",
        "a SEARCH (ALL",
        "a SEARCH ALL)",
        "a SEARCH NOT",
        "a SEARCH OR ALL",
        "a SEARCH OR ALL ",
        "a SEARCH FROM",
        "a SEARCH HEADER x",
        "a SEARCH BEFORE 30-Feb-1994",
        "a SEARCH BEFORE 29-Feb-1900",
        "a SEARCH BEFORE 1-Foo-1994",
        "a SEARCH BEFORE 1-Feb-94",
        "a SEARCH BEFORE 0-Feb-1994",
        "a SEARCH BEFORE \"1-Feb-1994",
        "a SEARCH BEFORE 1-Feb-1994\"",
        "a SEARCH LARGER -1",
        "a SEARCH LARGER 9223372036854775808",
        "a SEARCH OLDER 0",
        "a SEARCH YOUNGER 4294967296",
        "a SEARCH KEYWORD \"x\"",
        "a SEARCH MODSEQ",
        "a SEARCH MODSEQ \"x\" foo 1",
        "a SEARCH MODSEQ 9223372036854775808",
        "a SEARCH EMAILID a.b",
        "a SEARCH 1:0",
        "a SEARCH UID x",
        "a SEARCH RETURN ALL",
        "a SEARCH RETURN (FOO) ALL",
        "a SEARCH RETURN (PARTIAL) ALL",
        "a SEARCH RETURN (ALL PARTIAL 1:2) ALL",
        "a SEARCH RETURN (PARTIAL 1:2 PARTIAL 1:2) ALL",
        "a SEARCH RETURN (MIN)",
        "a SEARCH CHARSET UTF-8",
        "a SEARCH ALL  SEEN",
        "a SEARCH TEXT \"\xff\"",
        "a SEARCH ALLSEEN",
        "a SORT () UTF-8 ALL",
        "a SORT (FOO) UTF-8 ALL",
        "a SORT (REVERSE) UTF-8 ALL",
        "a SORT (DATE UTF-8 ALL",
        "a SORT DATE UTF-8 ALL",
        "a THREAD FOO UTF-8 ALL",
        "a THREAD REFERENCES UTF-8",
        "a SEARCH FUZZY",
    };
    static const char *const charsets[] = {"a SEARCH CHARSET KOI8-R TEXT x",
                                           "a SORT (DATE) UTF-7 ALL"};
    /* "ALL" and the like are then what the charset is read from */
    static const char *const charset_missing[] = {"a SORT (DATE) ALL", "a THREAD REFERENCES ALL",
                                                  "a SORT (DATE) ALL SEEN",
                                                  "a THREAD REFERENCES ALL SEEN"};
    GOOD(good);
    BAD(bad);
    imap_grammar_bad(charsets, ROWS(charsets), IMAP_PARSE_CHARSET);
    imap_grammar_bad(charset_missing, ROWS(charset_missing), IMAP_PARSE_CHARSET);
}

static void nested(char *text, size_t room, const char *open, unsigned depth, const char *rest)
{
    size_t size = (size_t)snprintf(text, room, "a SEARCH ");
    for (unsigned i = 0; i < depth; i++) {
        size += (size_t)snprintf(text + size, room - size, "%s", open);
    }
    size += (size_t)snprintf(text + size, room - size, "ALL");
    for (unsigned i = 0; i < depth && rest[0] != '\0'; i++) {
        size += (size_t)snprintf(text + size, room - size, "%s", rest);
    }
}

static void searches_nest_so_deep_and_no_deeper(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {
        {"(", ")"}, {"NOT ", ""}, {"OR SEEN ", ""}, {"FUZZY ", ""}, {"OR ", " ALL"}};
    static char text[400000];
    char dump[4096];
    for (size_t i = 0; i < ROWS(kinds); i++) {
        nested(text, sizeof(text), kinds[i][0], IMAP_SEARCH_DEPTH_MAX - 1, kinds[i][1]);
        assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                         IMAP_PARSE_GOOD);
        nested(text, sizeof(text), kinds[i][0], IMAP_SEARCH_DEPTH_MAX, kinds[i][1]);
        assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                         IMAP_PARSE_BAD);
        nested(text, sizeof(text), kinds[i][0], 30000, kinds[i][1]);
        assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                         IMAP_PARSE_BAD);
    }
}

static void what_is_too_much_is_told_from_what_is_wrong(void **state)
{
    (void)state;
    static char text[200000];
    char dump[8192];
    size_t size = (size_t)sprintf(text, "a FETCH 1 (UID");
    for (int i = 1; i < IMAP_FETCH_ITEMS_MAX; i++) {
        size += (size_t)sprintf(text + size, " UID");
    }
    strcpy(text + size, ")");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_GOOD);
    strcpy(text + size, " UID)");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_LIMIT);
    size = (size_t)sprintf(text, "a FETCH 1 BODY[1");
    for (int i = 1; i < IMAP_SECTION_PARTS_MAX; i++) {
        size += (size_t)sprintf(text + size, ".1");
    }
    strcpy(text + size, "]");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_GOOD);
    strcpy(text + size, ".1]");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_LIMIT);
    size = (size_t)sprintf(
        text, "a SEARCH ALL"); /* its tree is more than the arena of parse() may hold */
    while (size + 8 < sizeof(text)) {
        size += (size_t)sprintf(text + size, " ALL");
    }
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_LIMIT);
    size = (size_t)sprintf(text, "a COPY 1");
    while (size + 8 < sizeof(text)) {
        size += (size_t)sprintf(text + size, ",1");
    }
    strcpy(text + size, " x");
    assert_int_equal(imap_grammar_parse(slice_text(text), false, dump, sizeof(dump)),
                     IMAP_PARSE_GOOD);
    assert_string_equal(dump, "a 1:1 mailbox=<x>");
}

static void metadata_and_notify(void **state)
{
    (void)state;
    static const struct imap_good good[] = {
        {"a GETMETADATA \"\" /shared/comment", "a server depth=0 entry=</shared/comment>"},
        {"a GETMETADATA INBOX (/shared/comment /private/comment)",
         "a mailbox=<INBOX> depth=0 entry=</shared/comment> entry=</private/comment>"},
        {"a GETMETADATA (MAXSIZE 1024 DEPTH infinity) x /a/b",
         "a mailbox=<x> maxsize=1024 depth=2 entry=</a/b>"},
        {"a GETMETADATA x (DEPTH 1) (\"/a/b\")", "a mailbox=<x> depth=1 entry=</a/b>"},
        {"a SETMETADATA INBOX (/private/comment {3}\r\na\r\n)",
         "a mailbox=<INBOX> depth=0 name=</private/comment> value=<a\r\n>"},
        {"a SETMETADATA \"\" (/a NIL /b \"\" /c ~{1}\r\nx)",
         "a server depth=0 name=</a> nil name=</b> value=<> name=</c> value=<x>"},
        {"a NOTIFY NONE", "a"},
        {"a NOTIFY SET (selected (MessageNew (UID BODY.PEEK[TEXT]<0.1>) MessageExpunge))",
         "a (0 events=3 1 15p/4 <0.1>)"},
        {"a NOTIFY SET STATUS (selected-delayed (FlagChange)) (subtree (a b) (MailboxName)) "
         "(mailboxes x NONE) (inboxes (Foo))",
         "a status (1 events=4) (5 m=<a> m=<b> events=10) (6 m=<x> events=0) (2 events=100)"},
        {"a NOTIFY SET (personal (SubscriptionChange MailboxMetadataChange ServerMetadataChange "
         "AnnotationChange)) (subscribed (MessageNew))",
         "a (3 events=e8) (4 events=1)"},
    };
    static const char *const bad[] = {
        "a GETMETADATA",
        "a GETMETADATA x",
        "a GETMETADATA x ()",
        "a GETMETADATA x a",
        "a GETMETADATA x /a/",
        "a GETMETADATA x /a//b",
        "a GETMETADATA x \"/a*\"",
        "a GETMETADATA x /",
        "a GETMETADATA (DEPTH 2) x /a",
        "a GETMETADATA (FOO 2) x /a",
        "a GETMETADATA (MAXSIZE x) x /a",
        "a GETMETADATA x (/a",
        "a SETMETADATA x",
        "a SETMETADATA x ()",
        "a SETMETADATA x (/a)",
        "a SETMETADATA x (/a b)",
        "a SETMETADATA x (a \"b\")",
        "a SETMETADATA x (/a \"b\"",
        "a NOTIFY",
        "a NOTIFY FOO",
        "a NOTIFY SET",
        "a NOTIFY SET ()",
        "a NOTIFY SET (foo (MessageNew))",
        "a NOTIFY SET (selected)",
        "a NOTIFY SET (selected ())",
        "a NOTIFY SET (selected (MessageNew)",
        "a NOTIFY SET (subtree (MessageNew))",
        "a NOTIFY SET (selected (MessageNew (FOO)))",
        "a NOTIFY NONE x",
        "a NOTIFY SET STATUS",
    };
    GOOD(good);
    BAD(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search),
        cmocka_unit_test(searches_nest_so_deep_and_no_deeper),
        cmocka_unit_test(what_is_too_much_is_told_from_what_is_wrong),
        cmocka_unit_test(metadata_and_notify),
        cmocka_unit_test(fetch),
        cmocka_unit_test(store_and_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
