/*
 * What the example scripts of the Sieve RFCs do to a message: RFC 5228, 5229, 5230, 5231, 5232, 5233, 5260, 5293, 5429,
 * 6609, 7352, 3894. The scripts are written anew for what each example shows; test_sieve_run.c has the rest of it.
 */
#include "tests/unit/sieve_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define FROM_COYOTE                                                                                \
    "From: coyote@desert.example.org\nTo: roadrunner@acme.example.com\n"                           \
    "Subject: I have a present for you\n\nabout the anvil\n"
#define FROM_LIST                                                                                  \
    "Sender: owner-filters@lists.example\nList-ID: <sieve@lists.example>\nFrom: a@b.example\n"     \
    "To: me@example.com\nSubject: [acme-users] [fwd] version 1.0 is out\n\nx\n"
#define FROM_INSIDE                                                                                \
    "From: boss@example.com\nTo: me@example.com\nSubject: money\nCc: a@x.example, b@x.example, "   \
    "c@x.example\nDate: Sat, 30 Dec 2006 12:00:00 +0100\n\nx\n"

static const struct {
    const char *rfc, *message, *script, *outcome;
    const char *to;
} rows[] = {
    {"5228 §2.3", FROM_COYOTE, "if size :over 100K { /* a\n comment */ discard /* another\n */ ; }",
     "keep", NULL},
    {"5228 §2.4.2.4", FROM_COYOTE,
     "require \"encoded-character\"; if header :contains \"Subject\" \"${hex:70}resent\" { "
     "discard; }",
     "discard", NULL},
    {"5228 §2.5.1", FROM_COYOTE,
     "if anyof (not exists [\"From\", \"Date\"], header :contains \"from\" \"fool@example.com\") { "
     "discard; }",
     "discard", NULL},
    {"5228 §2.7.3", FROM_COYOTE,
     "if header :contains :comparator \"i;octet\" \"Subject\" \"A PRESENT\" { discard; }", "keep",
     NULL},
    {"5228 §3.1", FROM_COYOTE,
     "require \"fileinto\"; if header :contains \"from\" \"coyote\" { discard; } elsif header "
     ":contains [\"subject\"] [\"$$$\"] { discard; } else { fileinto \"INBOX\"; }",
     "discard", NULL},
    {"5228 §3.1", FROM_LIST,
     "if header :contains [\"From\"] [\"coyote\"] { redirect \"acm@example.com\"; } elsif header "
     ":contains \"Subject\" \"$$$\" { redirect \"post@example.com\"; } else { redirect "
     "\"field@example.com\"; }",
     "redirect field@example.com", NULL},
    {"5228 §4.1", FROM_COYOTE,
     "require \"fileinto\"; if header :contains [\"from\"] \"coyote\" { fileinto "
     "\"INBOX.harassment\"; }",
     "fileinto INBOX.harassment", NULL},
    {"5228 §4.2", FROM_COYOTE, "redirect \"bart@example.com\";", "redirect bart@example.com", NULL},
    {"5228 §4.3", FROM_COYOTE, "if size :under 1M { keep; } else { discard; }", "keep", NULL},
    {"5228 §5.1", FROM_COYOTE,
     "if address :is :all \"from\" \"coyote@desert.example.org\" { discard; }", "discard", NULL},
    {"5228 §5.4", FROM_COYOTE,
     "require \"envelope\"; if envelope :all :is \"from\" \"tim@example.com\" { discard; }", "keep",
     NULL},
    {"5228 §5.5", FROM_COYOTE, "if not exists [\"From\",\"Date\"] { discard; }", "discard", NULL},
#define EXTENDED                                                                                   \
    "require [\"fileinto\"]; if header :is \"Sender\" \"owner-filters@lists.example\" { fileinto " \
    "\"filter\"; } elsif address :DOMAIN :is [\"From\", \"To\"] \"example.com\" { keep; } elsif "  \
    "anyof (NOT address :all :contains [\"To\", \"Cc\", \"Bcc\"] \"roadrunner\", header :matches " \
    "\"subject\" [\"*make*money*fast*\", \"*university*dipl*mas*\"]) { fileinto \"spam\"; } else " \
    "{ fileinto \"personal\"; }"
    {"5228 §9", FROM_LIST, EXTENDED, "fileinto filter", NULL},
    {"5228 §9", FROM_INSIDE, EXTENDED, "keep", NULL},
    {"5228 §9", FROM_COYOTE, EXTENDED, "fileinto personal", NULL},
    {"5228 §9", "From: a@b.example\nTo: roadrunner@c.example\nSubject: Make Money FAST!\n\nx\n",
     EXTENDED, "fileinto spam", NULL},
    {"5229 §3.2", FROM_LIST,
     "require [\"fileinto\", \"variables\"]; if header :matches \"List-ID\" \"*<*@*\" { fileinto "
     "\"INBOX.lists.${2}\"; stop; }",
     "fileinto INBOX.lists.sieve", NULL},
    {"5229 §3.2", FROM_LIST,
     "require [\"fileinto\", \"variables\"]; if header :matches \"Subject\" \"[*] *\" { fileinto "
     "\"L.${1}.${2}\"; }",
     "fileinto L.acme-users.[fwd] version 1.0 is out", NULL},
    {"5229 §3.2", "To: coyote@ACME.Example.COM\n\nx\n",
     "require [\"fileinto\", \"variables\"]; if address :matches [\"To\", \"Cc\"] "
     "[\"coyote@**.com\", "
     "\"wile@**.com\"] { fileinto \"${0}|${1}|${2}\"; }",
     "fileinto coyote@ACME.Example.COM||ACME.Example", NULL},
    {"5229 §4.1", FROM_COYOTE,
     "require [\"fileinto\", \"variables\"]; set \"a\" \"juMBlEd lETteRS\"; set :length \"b\" "
     "\"${a}\"; set :lower \"c\" \"${a}\"; set :upperfirst \"d\" \"${a}\"; fileinto "
     "\"${b},${c},${d}\";",
     "fileinto 15,jumbled letters,JuMBlEd lETteRS", NULL},
    {"5230 §4.3", FROM_COYOTE,
     "require \"vacation\"; vacation :subject \"Gone fishing\" :handle \"ran-away\" \"Back in a "
     "day\";",
     "keep; no answer: recipient", NULL}, /* it was not sent to the user by name */
    {"5231 §7", FROM_INSIDE,
     "require [\"relational\", \"comparator-i;ascii-numeric\", \"fileinto\"]; if address :count "
     "\"gt\" :comparator \"i;ascii-numeric\" [\"to\", \"cc\"] [\"3\"] { fileinto \"SPAM\"; }",
     "fileinto SPAM", NULL},
    {"5231 §7", FROM_INSIDE,
     "require [\"relational\", \"fileinto\"]; if header :value \"lt\" :comparator "
     "\"i;ascii-casemap\" "
     "[\"from\"] [\"M\"] { fileinto \"From A-M\"; }",
     "fileinto From A-M", NULL},
    {"5232 §3.1", FROM_COYOTE,
     "require [\"fileinto\", \"imap4flags\", \"variables\"]; if header :contains \"from\" "
     "\"coyote\" { "
     "setflag \"flagvar\" \"\\\\Flagged\"; fileinto :flags \"${flagvar}\" \"INBOX.From Boss\"; }",
     "fileinto INBOX.From Boss [\\Flagged]", NULL},
    {"5232 §3.2", FROM_COYOTE,
     "require [\"imap4flags\"]; addflag \"\\\\Deleted\"; addflag [\"\\\\Answered\"]; removeflag "
     "\"\\\\Deleted\";",
     "keep [\\Answered]", NULL},
    {"5233 §4", FROM_COYOTE,
     "require [\"envelope\", \"subaddress\", \"fileinto\"]; if envelope :user \"to\" "
     "\"postmaster\" { "
     "fileinto \"inbox.postmaster\"; stop; } if envelope :detail \"to\" \"mta-filters\" { fileinto "
     "\"inbox.filters\"; } if envelope :detail \"to\" \"foo\" { redirect \"ken@example.net\"; }",
     "fileinto inbox.filters", "ken+mta-filters@example.com"},
    {"5233 §4", FROM_COYOTE,
     "require [\"envelope\", \"subaddress\"]; if envelope :detail \"to\" \"\" { discard; } if "
     "envelope "
     ":detail :matches \"to\" \"*\" { redirect \"ken@example.net\"; }",
     "keep", "ken@example.com"}, /* without a detail nothing fits, not even "" */
    {"5260 §4.3", FROM_INSIDE,
     "require [\"date\", \"relational\", \"fileinto\"]; if allof (header :is \"from\" "
     "\"boss@example.com\", date :value \"ge\" :originalzone \"date\" \"hour\" \"09\", date :value "
     "\"lt\" :originalzone \"date\" \"hour\" \"17\") { fileinto \"urgent\"; }",
     "fileinto urgent", NULL},
    {"5260 §4.3", FROM_INSIDE,
     "require [\"date\", \"fileinto\"]; if anyof (date :is \"date\" \"weekday\" \"0\", date :is "
     "\"date\" \"weekday\" \"6\") { fileinto \"weekend\"; }",
     "fileinto weekend", NULL},
    {"5293 §4", FROM_COYOTE,
     "require \"editheader\"; if not header :contains \"X-Sieve-Filtered\" [\"<kim@job>\", "
     "\"<kim@home>\"] { addheader \"X-Sieve-Filtered\" \"<kim@job>\"; redirect "
     "\"kim@home.example\"; }",
     "+X-Sieve-Filtered: <kim@job>; redirect kim@home.example", NULL},
    {"5293 §5", FROM_COYOTE,
     "require \"editheader\"; addheader \"X-Hello\" \"World\"; deleteheader :index 1 \"X-Hello\";",
     "+X-Hello: World; -X-Hello 0; keep", NULL},
    {"5293 §6", FROM_COYOTE,
     "require [\"editheader\", \"fileinto\"]; addheader \"X-Hello\" \"World\"; if header :contains "
     "\"X-Hello\" \"World\" { fileinto \"international\"; }",
     "+X-Hello: World; fileinto international", NULL},
    {"5293 §7", FROM_COYOTE,
     "require \"editheader\"; keep; addheader \"X-Flavor\" \"vanilla\"; keep;",
     "+X-Flavor: vanilla; keep", NULL}, /* one message */
    {"5429 §2.1", FROM_COYOTE,
     "require [\"ereject\"]; if header :contains \"from\" \"coyote@desert.example.org\" { ereject "
     "\"I am not taking mail from you\"; }",
     "ereject I am not taking mail from you", NULL},
    {"5429 §2.2", FROM_COYOTE,
     "require [\"reject\"]; if size :over 10 { reject text:\nYour message is too big.\n.\n; }",
     "reject Your message is too big.\r\n", NULL},
    {"3894 §3", FROM_COYOTE,
     "require [\"copy\", \"fileinto\"]; fileinto :copy \"incoming\"; redirect :copy "
     "\"sysadm@example.com\";",
     "fileinto incoming; redirect sysadm@example.com; keep", NULL},
    {"7352 §4", FROM_COYOTE,
     "require [\"duplicate\", \"fileinto\", \"mailbox\"]; if duplicate { fileinto :create "
     "\"Trash\"; }",
     "keep", NULL},
};

static void the_examples_do_what_is_said_of_them(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct sieve_scene scene = {
            .script = rows[i].script, .message = rows[i].message, .to = rows[i].to};
        const char *outcome = sieve_play(&scene);
        if (strcmp(outcome, rows[i].outcome) != 0) {
            print_error("RFC %s: %s\nis \"%s\"\nnot \"%s\"\n", rows[i].rfc, rows[i].script, outcome,
                        rows[i].outcome);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* RFC 6609 §3.2, §3.4: what is global is shared, and what is included may end only itself. */
static void included_scripts_share_what_is_global(void **state)
{
    (void)state;
    const struct sieve_scene scene = {
        .script =
            "require [\"include\", \"variables\", \"fileinto\", \"relational\", "
            "\"comparator-i;ascii-numeric\"]; global \"test\"; global \"test_mailbox\"; set "
            "\"test\" \"present\"; include \"subject_tests\"; set \"test\" \"money\"; include "
            "\"subject_tests\"; if string :is \"${test_mailbox}\" \"\" { discard; } else { "
            "fileinto \"${test_mailbox}\"; }",
        .message = FROM_COYOTE,
        .includes =
            {"subject_tests",
             "require [\"include\", \"variables\"]; global [\"test\", \"test_mailbox\"]; if not "
             "header :contains \"Subject\" \"${test}\" { return; } set \"test_mailbox\" "
             "\"spam-${test}\";"},
    };
    assert_string_equal(sieve_play(&scene), "fileinto spam-present");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_do_what_is_said_of_them),
        cmocka_unit_test(included_scripts_share_what_is_global),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
