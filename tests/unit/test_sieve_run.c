/* What scripts do: the base language and each extension, mostly the examples of their RFCs. */
#include "tests/unit/sieve_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct row {
    const char *script, *outcome;
};

static void rows_play(const struct row *rows, size_t count, const struct sieve_scene *scene)
{
    for (size_t i = 0; i < count; i++) {
        struct sieve_scene each = *scene;
        each.script = rows[i].script;
        assert_string_equal(sieve_play(&each), rows[i].outcome);
    }
}
#define PLAY(rows, ...)                                                                            \
    rows_play(rows, sizeof(rows) / sizeof(rows[0]), &(const struct sieve_scene){__VA_ARGS__})

/* RFC 5228 §5.7's message, and a few fields more. */
static const char coyote[] =
    "Return-Path: <coyote@desert.example.org>\n"
    "Received: from a by b;\n Fri, 28 Jul 2006 16:00:30 -0400 (EDT)\n"
    "Received: from c by a; Fri, 28 Jul 2006 15:59:00 -0400\n"
    "Date: Tue, 1 Apr 1997 09:06:31 -0800 (PST)\n"
    "From: \"Wile E.\" <coyote@desert.example.org>\n"
    "To: roadrunner+meep@acme.example.com, \"a, b\" <other@acme.example.com>\n"
    "Subject: I have a present for you\n"
    "Message-ID: <7@desert>\n"
    "X-Count: 7\nX-Count: 10\nX-Empty:\n"
    "\nLook, I'm sorry about the whole anvil thing.\n";

static void the_base_language(void **state)
{
    static const struct row rows[] = {
        {"", "keep"},
        {"discard;", "discard"},
        {"discard; keep;", "keep"},
        {"stop; discard;", "keep"},
        {"redirect \"bart@example.com\";", "redirect bart@example.com"},
        {"redirect \"a@b.c\"; redirect \"a@b.c\"; keep;", "redirect a@b.c; keep"},
        {"redirect \"not an address\";", "failed 1 redirect: this is no address; keep"},
        {"redirect \"a@b.c\";\nredirect \"x\";", "failed 2 redirect: this is no address; keep"},
        {"redirect \"1@a\"; redirect \"2@a\"; redirect \"3@a\"; redirect \"4@a\"; redirect "
         "\"5@a\";",
         "failed 1 redirect: more than 4 are not allowed; keep"},
        {"if true { discard; } else { keep; }", "discard"},
        {"if false { keep; } elsif true { discard; } elsif true { keep; } else { keep; }",
         "discard"},
        {"if false { keep; } elsif false { keep; } else { discard; }", "discard"},
        {"if false { discard; } elsif false { discard; }", "keep"},
        {"if true { if false { } else { discard; } } else { redirect \"a@b\"; }", "discard"},
        {"if allof (true, false) { discard; }", "keep"},
        {"if allof (true, true, not false) { discard; }", "discard"},
        {"if anyof (false, not anyof (true, false), allof (true, true)) { discard; }", "discard"},
        {"if not allof (false, true) { discard; }", "discard"},
        {"if header :is [\"Subject\"] [\"x\", \"i HAVE a present for you\"] { discard; }",
         "discard"},
        {"if header :comparator \"i;octet\" \"Subject\" \"i HAVE a present for you\" { discard; }",
         "keep"},
        {"if header :contains \"sUBJECT\" \"PRESENT\" { discard; }", "discard"},
        {"if header :contains \"X-Empty\" \"\" { discard; }", "discard"},
        {"if header :contains \"X-Absent\" \"\" { discard; }", "keep"},
        {"if header :is \"X-Empty\" \"\" { discard; }", "discard"},
        {"if header :matches \"Subject\" \"i * a ?resent*you\" { discard; }", "discard"},
        {"if exists [\"From\", \"Date\"] { discard; }", "discard"},
        {"if exists [\"From\", \"X-Absent\"] { discard; }", "keep"},
        {"if size :over 100 { discard; }", "discard"},
        {"if size :over 1K { discard; }", "keep"},
        {"if size :under 1M { discard; }", "discard"},
        {"if address :is \"from\" \"coyote@DESERT.example.org\" { discard; }", "discard"},
        {"if address :domain :is \"From\" \"desert.example.org\" { discard; }", "discard"},
        {"if address :localpart [\"Cc\",\"To\"] \"OTHER\" { discard; }", "discard"},
        {"if address :all :contains \"To\" \"a, b\" { discard; }", "keep"},
        {"KEEP; # comment\n/* another; */ DisCard;", "keep"},
        {"redirect text:\r\na@b\r\n.\r\n;", "redirect a@b"},
        {"if header :is \"subject\" \"I have a \\present for you\" { discard; }", "discard"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
}

static void fileinto_copy_reject_and_mailbox(void **state)
{
    static const struct row rows[] = {
        {"require \"fileinto\"; fileinto \"INBOX.harassment\";", "fileinto INBOX.harassment"},
        {"require \"fileinto\"; fileinto \"a\"; fileinto \"a\"; fileinto \"b\";",
         "fileinto a; fileinto b"},
        {"require \"fileinto\"; keep; fileinto \"inbox\";", "keep"},
        {"require \"fileinto\"; fileinto \"INBOX\"; keep;", "fileinto INBOX"},
        {"require \"fileinto\"; fileinto \"\";",
         "failed 1 fileinto: this is no name for a mailbox; keep"},
        {"require \"fileinto\"; fileinto \"a\x7f\";",
         "failed 1 fileinto: this is no name for a mailbox; keep"},
        {"require [\"fileinto\",\"copy\"]; fileinto :copy \"a\";", "fileinto a; keep"},
        {"require \"copy\"; redirect :copy \"a@b\";", "redirect a@b; keep"},
        {"require \"copy\"; redirect :copy \"a@b\"; discard;", "redirect a@b"},
        {"require \"reject\"; reject text:\nNo.\n..\n.\n;", "reject No.\r\n.\r\n"},
        {"require \"ereject\"; ereject \"I don't want it\";", "ereject I don't want it"},
        {"require \"ereject\"; ereject \"a\"; ereject \"b\";",
         "failed 1 the message is rejected already; keep"},
        {"require \"reject\"; reject \"a\"; keep;",
         "failed 1 the message is rejected already; keep"},
        {"require \"reject\"; keep;\nreject \"a\";",
         "failed 2 reject cannot go with other actions; keep"},
        {"require [\"reject\",\"vacation\"]; vacation \"v\";\nreject \"a\";",
         "failed 2 reject cannot go with other actions; keep"},
        {"require [\"fileinto\",\"mailbox\"]; if mailboxexists \"Partners\" { fileinto "
         "\"Partners\"; } else { fileinto :create \"P\"; }",
         "fileinto Partners"},
        {"require [\"fileinto\",\"mailbox\"]; if mailboxexists [\"Partners\",\"x\"] { fileinto "
         "\"x\"; } else { fileinto :create \"P\"; }",
         "fileinto P create"},
        {"require [\"mailbox\"]; if mailboxexists [\"Partners\",\"Two\"] { discard; }", "discard"},
        {"require [\"mailbox\"]; if not mailboxexists [\"x\"] { discard; }", "discard"},
    };
    (void)state;
    PLAY(rows, .yes = ",Partners,Two,");
}

static void envelopes_and_subaddresses(void **state)
{
    static const struct row rows[] = {
        {"require \"envelope\"; if envelope :all :is \"from\" \"tim@example.com\" { discard; }",
         "discard"},
        {"require \"envelope\"; if envelope :domain \"to\" \"EXAMPLE.com\" { discard; }",
         "discard"},
        {"require [\"envelope\",\"subaddress\"]; if envelope :detail \"to\" \"mta-filters\" { "
         "discard; }",
         "discard"},
        {"require [\"envelope\",\"subaddress\"]; if envelope :user \"to\" \"ken\" { discard; }",
         "discard"},
        {"require [\"envelope\",\"subaddress\"]; if envelope :detail :contains \"from\" \"\" { "
         "discard; }",
         "keep"},
        {"require [\"envelope\",\"subaddress\"]; if envelope :user \"from\" \"tim\" { discard; }",
         "discard"},
    };
    static const struct row null_rows[] = {
        {"require \"envelope\"; if envelope :all :is \"from\" \"\" { discard; }", "discard"},
        {"require \"envelope\"; if envelope :domain :is \"from\" \"\" { discard; }", "discard"},
    };
    static const struct row quoted_rows[] = {
        {"require \"envelope\"; if envelope :localpart :is \"from\" \"a \\\"b\" { discard; }",
         "discard"},
    };
    (void)state;
    PLAY(rows, .from = "tim@example.com", .to = "ken+mta-filters@example.com");
    PLAY(null_rows, .from = "");
    PLAY(quoted_rows, .from = "\"a \\\"b\"@example.com");
}

static void comparators_and_relations(void **state)
{
    static const struct row rows[] = {
        {"require [\"relational\",\"comparator-i;ascii-numeric\"]; if header :value \"gt\" "
         ":comparator \"i;ascii-numeric\" \"X-Count\" \"9\" { discard; }",
         "discard"},
        {"require [\"relational\",\"comparator-i;ascii-numeric\"]; if header :value \"gt\" "
         ":comparator \"i;ascii-numeric\" \"X-Count\" \"10\" { discard; }",
         "keep"},
        {"require [\"relational\"]; if header :value \"gt\" \"X-Count\" \"9\" { discard; }",
         "keep"},
        {"require [\"relational\",\"comparator-i;ascii-numeric\"]; if header :count \"eq\" "
         ":comparator \"i;ascii-numeric\" \"X-Count\" \"2\" { discard; }",
         "discard"},
        {"require [\"relational\",\"comparator-i;ascii-numeric\"]; if address :count \"ge\" "
         ":comparator \"i;ascii-numeric\" [\"to\",\"cc\"] [\"3\"] { discard; }",
         "keep"},
        {"require [\"relational\",\"comparator-i;ascii-numeric\"]; if address :count \"ge\" "
         ":comparator \"i;ascii-numeric\" [\"to\",\"from\"] [\"3\"] { discard; }",
         "discard"},
        {"require [\"comparator-i;ascii-numeric\"]; if header :is :comparator \"i;ascii-numeric\" "
         "\"X-Count\" \"007\" { discard; }",
         "discard"},
        {"require [\"comparator-i;ascii-numeric\"]; if header :is :comparator \"i;ascii-numeric\" "
         "\"Subject\" \"x\" { discard; }",
         "discard"},
        {"require [\"relational\"]; if header :value \"lt\" \"Subject\" \"j\" { discard; }",
         "discard"},
        {"require [\"relational\"]; if header :value \"ne\" \"Subject\" \"j\" { discard; }",
         "discard"},
        {"require [\"relational\"]; if header :value \"le\" \"X-Empty\" \"\" { discard; }",
         "discard"},
        {"require \"regex\"; if header :regex \"Subject\" \"^i (have|had) [a-z] present\" { "
         "discard; }",
         "discard"},
        {"require \"regex\"; if header :regex :comparator \"i;octet\" \"Subject\" \"^i have\" { "
         "discard; }",
         "keep"},
        {"require [\"regex\",\"variables\",\"fileinto\"]; if header :regex \"Subject\" \"(present) "
         "for (.*)\" { fileinto \"${2}/${1}/${0}/${3}\"; }",
         "fileinto you/present/present for you/"},
        {"require [\"regex\",\"variables\"]; set \"p\" \"(\"; if header :regex \"Subject\" "
         "\"${p}\" { discard; }",
         "failed 1 the regular expression is wrong: missing closing parenthesis; keep"},
        {"require \"index\"; if header :index 2 \"X-Count\" \"10\" { discard; }", "discard"},
        {"require \"index\"; if header :index 1 \"X-Count\" \"10\" { discard; }", "keep"},
        {"require \"index\"; if header :index 1 :last \"X-Count\" \"10\" { discard; }", "discard"},
        {"require \"index\"; if header :index 3 \"X-Count\" \"10\" { discard; }", "keep"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
}

static void variables(void **state)
{
    static const struct row rows[] = {
        {"require [\"variables\",\"fileinto\"]; set \"honorific\" \"Mr\"; set \"first_name\" "
         "\"Wile\"; fileinto \"${honorific} ${First_Name} ${nobody}.\";",
         "fileinto Mr Wile ."},
        {"require [\"variables\",\"fileinto\"]; set \"a\" \"x\"; fileinto \"${a ${a} ${} "
         "$${a}${a\";",
         "fileinto ${a x ${} $x${a"},
        {"require [\"variables\",\"fileinto\"]; if header :matches \"Subject\" \"i * a * for *\" { "
         "fileinto \"${1}/${2}/${3}/${4}\"; }",
         "fileinto have/present/you/"},
        {"require [\"variables\",\"fileinto\"]; if header :matches \"Subject\" \"*\" { fileinto "
         "\"${1}\"; }",
         "fileinto I have a present for you"},
        {"require [\"variables\",\"fileinto\"]; if header :matches \"Subject\" \"? *t* *\" { "
         "fileinto \"${1}|${2}|${3}|${4}\"; }",
         "fileinto I|have a presen||for you"},
        {"require [\"variables\",\"fileinto\"]; set :upper \"a\" \"juMBlEd lETteRS\"; fileinto "
         "\"${a}\";",
         "fileinto JUMBLED LETTERS"},
        {"require [\"variables\",\"fileinto\"]; set :upperfirst :lower \"a\" \"juMBlEd lETteRS\"; "
         "fileinto \"${a}\";",
         "fileinto Jumbled letters"},
        {"require [\"variables\",\"fileinto\"]; set :lowerfirst :upper \"a\" \"juMBlEd\"; fileinto "
         "\"${a}\";",
         "fileinto jUMBLED"},
        {"require [\"variables\",\"fileinto\"]; set :length \"a\" \"ju\xc3\xa9s\"; fileinto "
         "\"${a}\";",
         "fileinto 4"},
        {"require [\"variables\",\"fileinto\"]; set :quotewildcard \"a\" \"Rock*?\\\\\"; fileinto "
         "\"${a}\";",
         "fileinto Rock\\*\\?\\\\"},
        {"require [\"variables\",\"regex\",\"fileinto\"]; set :quoteregex \"a\" \"a.b[c]\"; "
         "fileinto \"${a}\";",
         "fileinto a\\.b\\[c\\]"},
        {"require [\"variables\"]; set \"a\" \"x\"; if string :is \"${a}\" [\"y\",\"X\"] { "
         "discard; }",
         "discard"},
        {"require [\"variables\",\"relational\",\"comparator-i;ascii-numeric\"]; if string :count "
         "\"eq\" :comparator \"i;ascii-numeric\" [\"${a}\",\"b\"] \"1\" { discard; }",
         "discard"},
        {"require [\"encoded-character\",\"variables\"]; set \"name\" \"Ethelbert\"; if string "
         "\"dear${hex:20 24 7b 4e}ame}\" \"dear Ethelbert\" { discard; }",
         "discard"},
        {"require [\"encoded-character\",\"fileinto\"]; fileinto \"${unicode:40}${hex: 40 41 "
         "}${hex:zz}${unicode: 20ac}${hex:400}${hex:40\";",
         "fileinto @@A${hex:zz}\xe2\x82\xac${hex:400}${hex:40"},
        {"require [\"variables\",\"fileinto\"]; if header :matches \"Subject\" \"* have *\" { } if "
         "header :matches \"Subject\" \"no*\" { } fileinto \"${1}\";",
         "fileinto I"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
}

static void flags(void **state)
{
    static const struct row rows[] = {
        {"require \"imap4flags\"; setflag \"\\\\Deleted\"; keep;", "keep [\\Deleted]"},
        {"require \"imap4flags\"; addflag [\"\\\\Deleted\",\"\\\\Answered\"];",
         "keep [\\Deleted \\Answered]"},
        {"require \"imap4flags\"; addflag \"a b\"; addflag \"B c\"; removeflag [\"a\",\"C\"];",
         "keep [b]"},
        {"require \"imap4flags\"; setflag \"a\"; keep :flags \"b \\\\seen\"; ", "keep [b \\seen]"},
        {"require [\"imap4flags\",\"fileinto\"]; setflag \"a\"; fileinto \"x\"; setflag \"\"; "
         "fileinto \"y\";",
         "fileinto x [a]; fileinto y"},
        {"require \"imap4flags\"; setflag [\"\\\\Recent\",\"\\\\Nope\",\"a(\",\"ok\"];",
         "keep [ok]"},
        {"require [\"imap4flags\",\"variables\"]; setflag \"f\" \"a b\"; if hasflag \"f\" \"B\" { "
         "discard; }",
         "discard"},
        {"require [\"imap4flags\",\"variables\",\"fileinto\"]; setflag \"f\" [\"a\",\"b\",\"A\"]; "
         "fileinto \"${f}\";",
         "fileinto a b"},
        {"require [\"imap4flags\"]; setflag \"a b\"; if hasflag :contains \"c\" { } else { "
         "discard; }",
         "discard"},
        {"require [\"imap4flags\",\"relational\",\"comparator-i;ascii-numeric\"]; setflag \"a b\"; "
         "if hasflag :count \"ge\" :comparator \"i;ascii-numeric\" \"2\" { discard; }",
         "discard"},
        {"require \"imap4flags\"; setflag \"f\" \"a\";",
         "error 1:31 naming a variable needs require \"variables\""},
    };
    (void)state;
    PLAY(rows, .message = NULL);
}

static void dates(void **state)
{
    static const struct row rows[] = {
        {"require [\"date\",\"relational\"]; if allof(currentdate :value \"ge\" \"date\" "
         "\"2026-06-30\", currentdate :value \"lt\" \"date\" \"2027-01-01\") { discard; }",
         "discard"},
        {"require \"date\"; if date :is \"date\" \"hour\" \"19\" { discard; }", "discard"},
        {"require \"date\"; if date :originalzone \"date\" \"hour\" \"09\" { discard; }",
         "discard"},
        {"require \"date\"; if date :zone \"+0530\" \"date\" \"time\" \"22:36:31\" { discard; }",
         "discard"},
        {"require \"date\"; if date :originalzone \"received\" \"iso8601\" "
         "\"2006-07-28T16:00:30-04:00\" { discard; }",
         "discard"},
        {"require [\"date\",\"index\"]; if date :index 1 :last :originalzone \"received\" "
         "\"minute\" \"59\" { discard; }",
         "discard"},
        {"require \"date\"; if date :originalzone \"date\" \"std11\" \"Tue, 01 Apr 1997 09:06:31 "
         "-0800\" { discard; }",
         "discard"},
        {"require \"date\"; if date :originalzone \"date\" \"zone\" \"-0800\" { discard; }",
         "discard"},
        {"require \"date\"; if date \"subject\" \"year\" \"1997\" { discard; }", "keep"},
        {"require \"date\"; if currentdate \"weekday\" \"6\" { discard; }", "discard"},
        {"require \"date\"; if currentdate :zone \"-1000\" \"std11\" \"Fri, 31 Jul 2026 23:05:00 "
         "-1000\" { discard; }",
         "discard"},
        {"require [\"date\",\"variables\"]; set \"z\" \"nowhere\"; if currentdate :zone \"${z}\" "
         "\"weekday\" \"6\" { discard; }",
         "keep"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
    const struct row julian[] = {
        {"require \"date\"; if date :zone \"+0000\" \"date\" \"julian\" \"50539\" { discard; }",
         "discard"},
        {"require \"date\"; if date \"date\" [\"julian\"] \"50539\" { discard; }",
         "error 1:32 argument 2 of date must be a string"},
    };
    PLAY(julian, .message = coyote);
}

static void bodies_and_environment(void **state)
{
    static const struct row rows[] = {
        {"require \"body\"; if body :raw :contains \"anvil\" { discard; }", "discard"},
        {"require \"body\"; if body :raw :contains \"<p>\" { discard; }", "keep"},
        {"require \"body\"; if body :content \"text\" :contains [\"x\",\"<P>web\"] { discard; }",
         "discard"},
        {"require \"body\"; if body :content \"text/html\" :contains \"anvil\" { discard; }",
         "keep"},
        {"require \"body\"; if body :content [\"application\",\"\"] :contains \"anvil\" { discard; "
         "}",
         "discard"},
        {"require \"body\"; if body :text :contains \"ANVIL\" { discard; }", "discard"},
        {"require \"body\"; if body :contains \"nothing\" { discard; }", "keep"},
        {"require \"environment\"; if environment :is \"location\" \"mda\" { discard; }",
         "discard"},
        {"require \"environment\"; if environment :contains \"remote-host\" \"\" { discard; }",
         "keep"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
}

static void headers_are_edited(void **state)
{
    static const struct row rows[] = {
        {"require \"editheader\"; addheader \"X-A\" \"one\"; addheader :last \"X-A\" \"two\";",
         "+X-A: one; +last X-A: two; keep"},
        {"require \"editheader\"; addheader \"X-A\" \"one\"; if header \"x-a\" \"one\" { discard; "
         "}",
         "+X-A: one; discard"},
        {"require [\"editheader\",\"index\"]; addheader \"X-Count\" \"1\"; addheader :last "
         "\"X-Count\" \"99\"; if allof(header :index 1 \"x-count\" \"1\", header :index 2 "
         "\"x-count\" \"7\", header :index 1 :last \"x-count\" \"99\") { discard; }",
         "+X-Count: 1; +last X-Count: 99; discard"},
        {"require \"editheader\"; deleteheader \"X-Count\"; if exists \"X-Count\" { discard; }",
         "-X-Count 1; -X-Count 0; keep"},
        {"require \"editheader\"; deleteheader :index 1 \"X-Count\"; if header \"X-Count\" \"7\" { "
         "discard; }",
         "-X-Count 0; keep"},
        {"require \"editheader\"; deleteheader :index 1 :last :contains \"X-Count\" \"1\";",
         "-X-Count 1; keep"},
        {"require \"editheader\"; deleteheader :index 1 :contains \"X-Count\" \"1\";", "keep"},
        {"require \"editheader\"; deleteheader :matches \"X-Count\" [\"1?\"];", "-X-Count 1; keep"},
        {"require \"editheader\"; deleteheader \"Received\"; deleteheader \"auto-submitted\";",
         "keep"},
        {"require [\"editheader\",\"variables\"]; set \"a\" text:\nx\nBcc: evil@example.com\n.\n; "
         "addheader \"X\" \"${a}\";",
         "+X: x  Bcc: evil@example.com; keep"},
        {"require \"editheader\"; addheader \"X-A\" \"1\"; deleteheader \"X-A\"; if not exists "
         "\"X-A\" { discard; }",
         "+X-A: 1; -X-A 0; discard"},
    };
    (void)state;
    PLAY(rows, .message = coyote);
}

static void scripts_include_others(void **state)
{
    static const struct row rows[] = {
        {"require \"include\"; include \"discards\";", "discard"},
        {"require \"include\"; include \"returns\"; discard;", "discard"},
        {"require \"include\"; include \"stops\"; discard;", "keep"},
        {"require \"include\"; include \"absent\";",
         "failed 1 include: there is no script \"absent\"; keep"},
        {"require \"include\"; include :optional \"absent\"; discard;", "discard"},
        {"require \"include\"; include :global \"discards\";",
         "failed 1 include: there is no script \"discards\"; keep"},
        {"return;", "error 1:1 return needs require \"include\""},
        {"require \"include\"; if true { return; } discard;", "keep"},
    };
    (void)state;
    PLAY(rows, .includes = {"discards", "discard;", "returns",
                            "require \"include\"; return; redirect \"a@b\";", "stops", "stop;"});
}

static void included_scripts_share_what_is_global(void **state)
{
    static const struct row rows[] = {
        {"require [\"include\",\"variables\",\"fileinto\"]; global \"a\"; set \"a\" \"1\"; set "
         "\"b\" \"2\"; include \"adds\"; fileinto \"${a}.${b}.${global.c}\";",
         "fileinto 1x.2.y"},
        {"require [\"include\",\"variables\",\"fileinto\"]; global \"a\"; include :once \"adds\"; "
         "include :once \"adds\"; fileinto \"${a}\";",
         "fileinto x"},
        {"require [\"include\",\"variables\",\"fileinto\"]; global \"a\"; include \"adds\"; "
         "include \"adds\"; fileinto \"${a}\";",
         "fileinto xx"},
        {"require \"include\"; include \"itself\";",
         "failed 1 include: the script would include itself; keep"},
        {"require \"include\"; include \"once\"; discard;", "discard"},
    };
    (void)state;
    PLAY(rows,
         .includes = {"adds",
                      "require [\"include\",\"variables\"]; global \"a\"; set \"a\" \"${a}x\"; set "
                      "\"b\" \"no\"; set \"global.c\" \"y\";",
                      "itself", "require \"include\"; include \"itself\";", "once",
                      "require \"include\"; include :once \"once\";"});
}

static void duplicates(void **state)
{
    static const struct row rows[] = {
        {"require \"duplicate\"; if duplicate { discard; }", "keep; seen <1@example.org>  604800"},
        {"require \"duplicate\"; if duplicate :uniqueid \"old\" { discard; }", "discard"},
        {"require \"duplicate\"; if duplicate :uniqueid \"old\" :last :seconds 60 { discard; }",
         "discard; seen old  60"},
        {"require \"duplicate\"; if duplicate :header \"X-Event\" { discard; }", "keep"},
        {"require \"duplicate\"; if duplicate :header \"subject\" :handle \"h\" :seconds 99999999 "
         "{ discard; }",
         "keep; seen Test message h 1000000"},
        {"require \"duplicate\"; if duplicate :header \"subject\" :uniqueid \"x\" { discard; }",
         "error 1:53 this tag contradicts one before it"},
        {"require \"duplicate\"; if duplicate { discard; }\nerror \"x\";",
         "error 2:1 error needs require \"ihave\""},
        {"require [\"duplicate\",\"ihave\"]; if duplicate { discard; }\nerror \"x\";",
         "failed 2 x; keep"},
    };
    (void)state;
    PLAY(rows, .yes = ",old,");
}

static void ihave(void **state)
{
    static const struct row rows[] = {
        {"require \"ihave\"; if ihave \"fileinto\" { fileinto \"a\"; }", "fileinto a"},
        {"require \"ihave\"; if ihave [\"fileinto\",\"nonsense\"] { nonsense :x 5; fileinto \"a\"; "
         "} else { discard; }",
         "discard"},
        {"require \"ihave\"; if not ihave \"nonsense\" { discard; stop; }\nnonsense;", "discard"},
        {"require \"ihave\"; if ihave \"vacation-seconds\" { vacation :seconds 5 \"x\"; }",
         "vacation x to=sender@example.org from= subject=Auto: Test message seconds=5; keep"},
        {"require \"ihave\"; \nnonsense;", "failed 2 nonsense: this command is unknown; keep"},
        {"require \"ihave\"; if ihave \"variables\" { discard; }", "keep"},
        {"require [\"ihave\",\"variables\"]; if ihave \"variables\" { discard; }", "discard"},
        {"require \"ihave\"; if allof (ihave \"envelope\", envelope :contains \"from\" \"sender\") "
         "{ discard; }",
         "discard"},
    };
    (void)state;
    PLAY(rows, .message = NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_base_language),
        cmocka_unit_test(fileinto_copy_reject_and_mailbox),
        cmocka_unit_test(envelopes_and_subaddresses),
        cmocka_unit_test(comparators_and_relations),
        cmocka_unit_test(variables),
        cmocka_unit_test(flags),
        cmocka_unit_test(dates),
        cmocka_unit_test(bodies_and_environment),
        cmocka_unit_test(headers_are_edited),
        cmocka_unit_test(scripts_include_others),
        cmocka_unit_test(included_scripts_share_what_is_global),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(ihave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
