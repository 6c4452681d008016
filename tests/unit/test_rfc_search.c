/*
 * The examples of SEARCH, SORT and THREAD: RFC 9051 §6.4.4, RFC 4731, RFC 5182, RFC 5256, RFC 5267, RFC 9394, RFC 5032,
 * RFC 8514, RFC 5957. Mail and numbers are ours.
 */
#include "tests/unit/rfc_play.h"

/* Twelve letters; 2, 10 and 11 are flagged, 3 is from Smith and flagged. */
static struct imap_rig *twelve(void **state)
{
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 2);
    append(rig, 0, "INBOX", "From: Smith <s@x.example>\r\nSubject: boss\r\n\r\nx\r\n");
    append(
        rig, 0, "INBOX",
        "From: zoe@x.example\r\nSubject: \xd0\xbe\xd1\x82\xd0\xbf\xd1\x83\xd1\x81\xd0\xba\r\n\r\n"
        "\xd0\xbc\xd0\xb0\xd1\x82\xd1\x8c\r\n");
    rfc_letters(rig, 8);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "t STORE 2,3,10:11 +FLAGS.SILENT (\\Flagged)\r\n", "OK");
    return rig;
}

static void extended_search(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 4731 §3.1, RFC 9051 §6.4.4 */
        {0, "A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
         "* ESEARCH (TAG \"A282\") MIN 2 COUNT 3\nA282 OK %"},
        {0, "A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
         "* ESEARCH (TAG \"A283\") ALL 2,10:11\nA283 OK %"},
        {0, "A284 SEARCH RETURN (ALL) TEXT \"string not in mailbox\"",
         "* ESEARCH (TAG \"A284\")\nA284 OK %"},
        {0,
         "A285 SEARCH RETURN (ALL) CHARSET UTF-8 TEXT "
         "<<\xd0\xbe\xd1\x82\xd0\xbf\xd1\x83\xd1\x81\xd0\xba>>",
         "* ESEARCH (TAG \"A285\") ALL 4\nA285 OK %"},
        {0, "A286 SEARCH RETURN (MIN) UNSEEN", "* ESEARCH (TAG \"A286\") MIN 1\nA286 OK %"},
        {0, "A287 UID SEARCH RETURN (MIN MAX) 1:5000",
         "* ESEARCH (TAG \"A287\") UID MIN 1 MAX 12\nA287 OK %"},
        {0, "A288 SEARCH RETURN (COUNT) DELETED", "* ESEARCH (TAG \"A288\") COUNT 0\nA288 OK %"},
        {0, "A289 SEARCH RETURN (MIN MAX ALL) DELETED", "* ESEARCH (TAG \"A289\")\nA289 OK %"},
        {0, "A290 SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
         "* SEARCH 2 10 11\nA290 OK %"},
        {0, "A291 SEARCH CHARSET KOI8-R TEXT <<XXXX>>", "A291 NO [BADCHARSET (%UTF-8%)] %"},
        {0, "A292 SEARCH RETURN (BLURDYBLOOP) ALL", "A292 BAD %"},
        {0, "h search from smith", "* SEARCH 3\nh OK %"},
    };
    RFC_PLAY(twelve(state), steps);
}

static void rev2_answers_with_esearch(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "u UNSELECT", "u OK %"},
        {0, "e ENABLE IMAP4rev2", "* ENABLED IMAP4rev2\ne OK %"},
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A284 SEARCH TEXT \"string not in mailbox\"", "* ESEARCH (TAG \"A284\")\nA284 OK %"},
        {0, "A285 UID SEARCH FLAGGED", "* ESEARCH (TAG \"A285\") UID ALL 2:3,10:11\nA285 OK %"},
    };
    RFC_PLAY(twelve(state), steps);
}

static void results_are_saved(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 5182 §2.3, §2.4, RFC 9051 §6.4.4.4 */
        {0, "A281 FETCH $ UID", "!* ^ FETCH %\nA281 OK %"},
        {0, "A282 SEARCH RETURN (SAVE) FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
         "!* ESEARCH %\nA282 OK %"},
        {0, "A283 FETCH $ (UID FLAGS)",
         "* 2 FETCH (UID 2 %)\n* 10 FETCH (UID 10 %)\n* 11 FETCH (UID 11 %)\nA283 OK %"},
        {0, "A301 UID SEARCH UID $ SMALLER 4096", "* SEARCH 2 10 11\nA301 OK %"},
        {0, "A302 UID SEARCH $ SMALLER 4096", "* SEARCH 2 10 11\nA302 OK %"},
        {0, "P283 SEARCH CHARSET UTF-8 (OR $ 1,3:4) TEXT {8+}\n\xd0\xbc\xd0\xb0\xd1\x82\xd1\x8c",
         "* SEARCH 4\nP283 OK %"},
        {0, "C282 SEARCH RETURN (ALL) FROM \"Smith\"", "* ESEARCH (TAG \"C282\") ALL 3\nC282 OK %"},
        {0, "C283 SEARCH $", "* SEARCH 2 10 11\nC283 OK %"}, /* it has not changed */
        {0, "B283 SEARCH RETURN (SAVE) CHARSET KOI8-R (OR $ 1,3:4) TEXT {4+}\nXXXX",
         "B283 NO [BADCHARSET %\n"},
        {0, "E282 SEARCH RETURN (SAVE) FROM \"Eric\"\nE283 COPY $ \"Other Messages\"",
         "E282 OK %\nE283 OK %"}, /* nothing is copied, wherever to */
        {0, "c CREATE Junk", "c OK %"},
        {0,
         "F282 SEARCH RETURN (SAVE) FLAGGED\nF283 COPY $ \"Junk\"\nF284 STORE $ +FLAGS.Silent "
         "(\\Deleted)",
         "F282 OK %\nF283 OK [COPYUID ^ 2:3,10:11 1:4] %\nF284 OK %"},
        {0, "C284 SEARCH RETURN (SAVE MIN) FLAGGED", "* ESEARCH (TAG \"C284\") MIN 2\nC284 OK %"},
        {0, "C285 SEARCH $", "* SEARCH 2\nC285 OK %"},
        {0, "C286 SEARCH RETURN (MAX SAVE MIN) FLAGGED",
         "* ESEARCH (TAG \"C286\") MIN 2 MAX 11\nC286 OK %"},
        {0, "C287 SEARCH $", "* SEARCH 2 11\nC287 OK %"},
        {0, "C288 SEARCH RETURN (MAX SAVE MIN COUNT) FLAGGED",
         "* ESEARCH (TAG \"C288\") MIN 2 MAX 11 COUNT 4\nC288 OK %"},
        {0, "C289 SEARCH $", "* SEARCH 2 3 10 11\nC289 OK %"},
        {0, "e EXPUNGE", "e OK %"}, /* what is gone is in it no more: §2.1 */
        {0, "C290 SEARCH $", "* SEARCH\nC290 OK %"},
        {0, "s SELECT Junk", "s OK %"},
        {0, "C291 FETCH $ UID", "!* ^ FETCH %\nC291 OK %"},
    };
    RFC_PLAY(twelve(state), steps);
}

static void results_come_in_parts(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 9394 §3.1, §3.3; RFC 5267 §4.4 */
        {0, "A01 UID SEARCH RETURN (PARTIAL -1:-3) UNDELETED",
         "* ESEARCH (TAG \"A01\") UID PARTIAL (-1:-3 10:12)\nA01 OK %"},
        {0, "A02 UID SEARCH RETURN (PARTIAL 11:24) UNDELETED",
         "* ESEARCH (TAG \"A02\") UID PARTIAL (11:24 11:12)\nA02 OK %"},
        {0, "A03 SEARCH RETURN (COUNT PARTIAL 1:2) FLAGGED",
         "* ESEARCH (TAG \"A03\") COUNT 4 PARTIAL (1:2 2:3)\nA03 OK %"},
        {0, "A04 UID SEARCH RETURN (PARTIAL 24000:24500) UNDELETED",
         "* ESEARCH (TAG \"A04\") UID PARTIAL (24000:24500 NIL)\nA04 OK %"},
        {0, "A05 UID SEARCH RETURN (ALL PARTIAL 1:2) ALL", "A05 BAD %"},
        {0, "A06 SORT RETURN (PARTIAL 2:3) (REVERSE SUBJECT) UTF-8 SUBJECT letter",
         "* ESEARCH (TAG \"A06\") PARTIAL (2:3 ^%)\nA06 OK %"},
        {0, "10 UID FETCH 8:12 (UID FLAGS) (PARTIAL -1:-3)",
         "!* 9 FETCH %\n* 10 FETCH (UID 10 FLAGS (\\Flagged))\n* 11 FETCH %\n* 12 FETCH %\n10 OK "
         "%"},
        {0, "11 UID FETCH 8:12 (UID FLAGS) (PARTIAL 1:2)",
         "* 8 FETCH %\n* 9 FETCH %\n!* 10 FETCH %\n11 OK %"},
        {0, "101 UID FETCH 8:12 (UID FLAGS) (PARTIAL -1:-3 CHANGEDSINCE 13)",
         "* 10 FETCH (% UID 10 %)\n* 11 FETCH (% UID 11 %)\n!* 12 FETCH %\n101 OK %"},
    };
    RFC_PLAY(twelve(state), steps);
}

static void results_are_kept_up(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 5267 §3.3, §4 */
        {0, "E01 UID SORT RETURN () (REVERSE DATE) UTF-8 FLAGGED SUBJECT letter",
         "* ESEARCH (TAG \"E01\") UID ALL ^,^,2\nE01 OK %"},
        {0, "A01 SEARCH RETURN (CONTEXT COUNT) UNDELETED UNKEYWORD $Junk",
         "* ESEARCH (TAG \"A01\") COUNT 12\nA01 OK %"},
        {0, "B01 UID SEARCH RETURN (UPDATE COUNT) FLAGGED UNKEYWORD $Junk",
         "* ESEARCH (TAG \"B01\") UID COUNT 4\nB01 OK %"},
        {0, "B01 SORT RETURN (UPDATE) (DATE) UTF-8 FLAGGED", "B01 BAD %"},
        {0, "t STORE 5:6 +FLAGS (\\Flagged)",
         "* 5 FETCH (FLAGS (\\Flagged))\n* 6 FETCH (FLAGS (\\Flagged))\nt OK %\n"
         "* ESEARCH (TAG \"B01\") UID ADDTO (0 5:6)"},
        {0, "u STORE 5 +FLAGS.SILENT ($Junk)",
         "u OK %\n* ESEARCH (TAG \"B01\") UID REMOVEFROM (0 5)"},
        {0, "v STORE 6 +FLAGS.SILENT (\\Deleted)", "v OK %"},
        {0, "w EXPUNGE", "* ESEARCH (TAG \"B01\") UID REMOVEFROM (0 6)\n* 6 EXPUNGE\nw OK %"},
        {0, "B04 CANCELUPDATE \"B01\"", "B04 OK %"},
        {0, "x STORE 7 +FLAGS.SILENT (\\Flagged)", "x OK %"},
        {0, "y NOOP", "!* ESEARCH %\ny OK %"},
    };
    RFC_PLAY(twelve(state), steps);
}

static void mail_is_sorted(void **state)
{
    static const struct rfc_step steps[] = {
        /* RFC 5256 §3; RFC 5957 */
        {0,
         "a APPEND INBOX <<Date: 3 Jan 2000 00:00:00 +0000\nFrom: \"Zed\" <a@x>\nSubject: "
         "b\n\nx\n>>",
         "a OK %"},
        {0,
         "b APPEND INBOX <<Date: 2 Jan 2000 00:00:00 +0000\nFrom: \"Amy\" <z@x>\nSubject: Re: "
         "a\n\nx\n>>",
         "b OK %"},
        {0,
         "c APPEND INBOX <<Date: 1 Jan 2000 00:00:00 +0000\nFrom: b@x\nSubject: [list] "
         "Fwd: b\n\nlonger text\n>>",
         "c OK %"},
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A282 SORT (SUBJECT) UTF-8 SINCE 1-Feb-1994", "* SORT 2 1 3\nA282 OK %"},
        {0, "A283 SORT (SUBJECT REVERSE DATE) UTF-8 ALL", "* SORT 2 1 3\nA283 OK %"},
        {0, "A284 SORT (SUBJECT DATE) UTF-8 ALL", "* SORT 2 3 1\nA284 OK %"},
        {0, "A285 SORT (SUBJECT) US-ASCII TEXT \"not in mailbox\"", "* SORT\nA285 OK %"},
        {0, "A286 SORT (FROM) UTF-8 ALL", "* SORT 1 3 2\nA286 OK %"},        /* mailboxes */
        {0, "A287 SORT (DISPLAYFROM) UTF-8 ALL", "* SORT 2 3 1\nA287 OK %"}, /* names */
        {0, "A288 SORT (REVERSE SIZE) UTF-8 ALL", "* SORT ^ ^ ^\nA288 OK %"},
        {0, "A289 UID SORT (ARRIVAL) KOI8-R ALL", "A289 NO [BADCHARSET %"},
    };
    RFC_PLAY(rfc_alice(state), steps);
}

/* RFC 5256 §4: (1)(2 3 (4 5)(6 7 8))((9)(10)) */
static void mail_is_threaded(void **state)
{
    static const char *const letters[] = {
        "Message-Id: <1@x>\r\nSubject: alone\r\n\r\nx\r\n",
        "Message-Id: <2@x>\r\nSubject: plan\r\n\r\nx\r\n",
        "Message-Id: <3@x>\r\nIn-Reply-To: <2@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <4@x>\r\nReferences: <2@x> <3@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <5@x>\r\nReferences: <2@x> <3@x> <4@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <6@x>\r\nReferences: <2@x> <3@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <7@x>\r\nReferences: <3@x> <6@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <8@x>\r\nReferences: <7@x>\r\nSubject: Re: plan\r\n\r\nx\r\n",
        "Message-Id: <9@x>\r\nReferences: <lost@x>\r\nSubject: Re: gone\r\n\r\nx\r\n",
        "Message-Id: <10@x>\r\nReferences: <lost@x>\r\nSubject: Re: gone\r\n\r\nx\r\n",
    };
    static const struct rfc_step steps[] = {
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A285 THREAD REFERENCES UTF-8 ALL",
         "* THREAD (1)(2 3 (4 5)(6 7 8))((9)(10))\nA285 OK %"},
        {0, "A286 UID THREAD REFERENCES UTF-8 UID 9:10", "* THREAD ((9)(10))\nA286 OK %"},
        {0, "A283 THREAD ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000",
         "* THREAD (1)(2 (3)(4)(5)(6)(7)(8))(9 10)\nA283 OK %"},
        {0, "A284 THREAD ORDEREDSUBJECT US-ASCII TEXT \"gewp\"", "* THREAD\nA284 OK %"},
        {0, "A287 THREAD NOBODY UTF-8 ALL", "A287 BAD %"},
    };
    struct imap_rig *rig = rfc_alice(state);
    for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        append(rig, 0, "INBOX", letters[i]);
    }
    RFC_PLAY(rig, steps);
}

static void dates_and_ids_are_searched_for(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "a1 SEARCH UNSEEN YOUNGER 259200", "* SEARCH 1 2 %12\na1 OK %"}, /* RFC 5032 */
        {0, "a2 SEARCH OLDER 259200", "* SEARCH\na2 OK %"},
        {0, "A101 FETCH 9 (SAVEDATE)",
         "* 9 FETCH (SAVEDATE \"14-Nov-2023 %\")\nA101 OK %"}, /* RFC 8514 */
        {0, "A102 SEARCH SAVEDON 14-Nov-2023", "* SEARCH 1 %12\nA102 OK %"},
        {0, "A103 SEARCH SAVEDSINCE 15-Nov-2023", "* SEARCH\nA103 OK %"},
        {0, "A104 SEARCH SAVEDATESUPPORTED", "* SEARCH 1 %12\nA104 OK %"},
        {0, "27 search emailid M6d99ac3275bb4e", "* SEARCH\n27 OK %"}, /* RFC 8474 §6 */
        {0, "28 search threadid T64b478a75b7ea9", "* SEARCH\n28 OK %"},
        {0, "29 SEARCH FUZZY (SUBJECT boss)", "* SEARCH 3\n29 OK %"}, /* RFC 6203: not announced */
    };
    RFC_PLAY(twelve(state), steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(extended_search),     TEST(rev2_answers_with_esearch),
        TEST(results_are_saved),   TEST(results_come_in_parts),
        TEST(results_are_kept_up), TEST(mail_is_sorted),
        TEST(mail_is_threaded),    TEST(dates_and_ids_are_searched_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
