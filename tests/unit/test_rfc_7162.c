/* The examples of CONDSTORE and QRESYNC (RFC 7162 §3). Numbers are ours: each change of a mailbox adds one to its modseq. */
#include "tests/unit/rfc_play.h"

/* INBOX with five letters (modseqs 2 to 6), which client 0 has selected, and client 1. */
static struct imap_rig *five(void **state, const char *enable)
{
    struct imap_rig *rig = rfc_alice(state);
    rfc_letters(rig, 5);
    if (enable != NULL) {
        talk(rig, 0, enable, "OK");
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    return rig;
}

static void select_tells_the_highest_modseq(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "A142 SELECT INBOX", "* OK [HIGHESTMODSEQ 6] %\nA142 OK [READ-WRITE] %"},
        {0, "A143 SELECT INBOX (CONDSTORE)",
         "* OK [HIGHESTMODSEQ 6] %\nA143 OK [READ-WRITE] %"}, /* §3.1.8 */
        {0, "A160 STORE 1 +FLAGS.SILENT (\\Deleted)",
         "* 1 FETCH (MODSEQ (7))\nA160 OK %"}, /* it is enabled with that */
        {0, "A042 STATUS INBOX (UIDNEXT MESSAGES HIGHESTMODSEQ)",
         "* STATUS INBOX (MESSAGES 5 UIDNEXT 6 HIGHESTMODSEQ 7)\nA042 OK %"}, /* §3.1.7 */
    };
    RFC_PLAY(five(state, NULL), steps);
}

static void a_store_is_done_where_nothing_has_changed(void **state)
{
    static const struct rfc_step steps[] = {
        /* §3.1.3: the first condition enables CONDSTORE */
        {0, "a103 UID STORE 3,2,4 (UNCHANGEDSINCE 6) +FLAGS.SILENT (\\Deleted)",
         "* OK [HIGHESTMODSEQ 6] %\n* 2 FETCH (UID 2 MODSEQ (7))\n* 3 FETCH (UID 3 MODSEQ (7))\n"
         "* 4 FETCH (UID 4 MODSEQ (7))\na103 OK %"},
        {0, "a104 STORE * (UNCHANGEDSINCE 6) +FLAGS.SILENT (\\Deleted $Processed)",
         "* 5 FETCH (MODSEQ (8))\na104 OK %"},
        {0, "c101 STORE 5 (UNCHANGEDSINCE 8) -FLAGS.SILENT (\\Deleted)",
         "* 5 FETCH (MODSEQ (9))\nc101 OK %"},
        {0, "d105 STORE 5,3,2 (UNCHANGEDSINCE 7) +FLAGS.SILENT (\\Flagged)",
         "* 2 FETCH (MODSEQ (10))\n* 3 FETCH (MODSEQ (10))\n!* 5 FETCH (MODSEQ (10)%\n"
         "d105 OK [MODIFIED 5] %"},
        {0, "d106 UID STORE 5,3 (UNCHANGEDSINCE 7) +FLAGS.SILENT (\\Flagged)",
         "d106 OK [MODIFIED 3,5] %"},
        {0, "a102 STORE 2 (UNCHANGEDSINCE 0) +FLAGS.SILENT ($MDNSent)", "a102 OK [MODIFIED 2] %"},
        {1, "n NOOP", "n OK %"},
        {1, "t STORE 4 +FLAGS.SILENT ($Processed)", "t OK %"}, /* modseq 11 */
        {0, "a106 STORE 3:5 (UNCHANGEDSINCE 10) +FLAGS.SILENT ($Seen)",
         "* 3 FETCH (MODSEQ (12))\n* 5 FETCH (MODSEQ (12))\n"
         "!* 4 FETCH %MODSEQ (12)%\na106 OK [MODIFIED 4] %"},
        {0, "a107 NOOP", "a107 OK %"},
        {0, "a108 FETCH 4 (FLAGS)", "* 4 FETCH (FLAGS (\\Deleted $Processed))\na108 OK %"},
        {0, "b108 STORE 4 (UNCHANGEDSINCE 11) +FLAGS.SILENT ($Seen)",
         "* 4 FETCH (MODSEQ (13))\nb108 OK %"},
        {0, "b109 STORE 4 (UNCHANGEDSINCE 13) -FLAGS ($Seen)",
         "* 4 FETCH (FLAGS (\\Deleted $Processed) MODSEQ (14))\nb109 OK %"},
    };
    RFC_PLAY(five(state, NULL), steps);
}

static void who_has_not_enabled_it_hears_nothing_of_modseqs(void **state)
{
    static const struct rfc_step steps[] = {
        /* Example 14: C has CONDSTORE, client 1 has not */
        {0, "A160 STORE 2 +FLAGS.SILENT (\\Deleted)", "* 2 FETCH (MODSEQ (7))\nA160 OK %"},
        {1, "C180 NOOP", "* 2 FETCH (FLAGS (\\Deleted))\nC180 OK %"},
        {1, "A240 STORE 2 +FLAGS.SILENT (\\Seen)", "!* 2 FETCH %\nA240 OK %"},
        {0, "C270 NOOP", "* 2 FETCH (FLAGS (\\Seen \\Deleted) MODSEQ (8))\nC270 OK %"},
        {0, "D300 NOOP", "!* 2 FETCH %\nD300 OK %"},
        {0, "A330 STORE 2 -FLAGS.SILENT (\\Answered \\Seen)", "* 2 FETCH (MODSEQ (9))\nA330 OK %"},
        {1, "C360 NOOP", "* 2 FETCH (FLAGS (\\Deleted))\nC360 OK %"},
    };
    RFC_PLAY(five(state, "c ENABLE CONDSTORE\r\n"), steps);
}

static void fetch_and_search_ask_for_modseqs(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "t STORE 2,4 +FLAGS.SILENT ($NoJunk)", "t OK %"}, /* modseq 7 */
        {0, "s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5)",
         "!* 1 FETCH %\n* 2 FETCH (UID 2 MODSEQ (7) FLAGS ($NoJunk))\n"
         "* 4 FETCH (UID 4 MODSEQ (7) FLAGS ($NoJunk))\n"
         "* 5 FETCH (UID 5 MODSEQ (6) FLAGS ())\ns100 OK %"}, /* §3.1.4.1 */
        {0, "a FETCH 1:3 (MODSEQ)",
         "* 1 FETCH (MODSEQ (2))\n* 2 FETCH (MODSEQ (7))\n* 3 FETCH (MODSEQ (4))\na OK %"},
        {0, "b SEARCH MODSEQ \"/flags/\\\\draft\" all 5",
         "* SEARCH 2 4 5 (MODSEQ 7)\nb OK %"}, /* §3.1.5, §3.1.6 */
        {0, "t SEARCH OR NOT MODSEQ 1 LARGER 50000", "* SEARCH\nt OK %"},
        {0, "c SEARCH RETURN (ALL) MODSEQ 5",
         "* ESEARCH (TAG \"c\") ALL 2,4:5 MODSEQ 7\nc OK %"}, /* §3.1.10 */
        {0, "d SORT RETURN (ALL) (REVERSE DATE) UTF-8 MODSEQ 5",
         "* ESEARCH (TAG \"d\") ALL 5,4,2 MODSEQ 7\nd OK %"},
        {0, "e SORT (REVERSE DATE) UTF-8 MODSEQ 6", "* SORT 5 4 2 (MODSEQ 7)\ne OK %"},
    };
    RFC_PLAY(five(state, NULL), steps);
}

static void qresync_tells_what_has_changed_since(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "b SELECT INBOX (QRESYNC (1700000000 3))", "b BAD %"}, /* not enabled: §3.2.5 */
        {0, "u UNSELECT", "u OK %"},
        {0, "c ENABLE QRESYNC", "* ENABLED %QRESYNC\nc OK %"},
        {0, "s SELECT INBOX", "s OK %"},
        {0, "A02 SELECT INBOX (QRESYNC (67890007 3 1:5))",
         "* OK [CLOSED] %\n* OK [UIDVALIDITY 1700000000] %\n!* VANISHED %\n!* % FETCH %\nA02 OK %"},
        {1, "t STORE 2,4 +FLAGS.SILENT (\\Deleted)", "t OK %"}, /* modseq 7 */
        {1, "u STORE 5 +FLAGS.SILENT (\\Seen $Forwarded)", "u OK %"},
        {1, "e EXPUNGE", "* 4 EXPUNGE\n* 2 EXPUNGE\ne OK %"},
        {0, "n NOOP", "* VANISHED 2,4\n* 3 FETCH (UID 5 FLAGS %MODSEQ (8))\nn OK %"}, /* §3.2.10 */
        {0, "A03 SELECT INBOX (QRESYNC (1700000000 6 1:5))",
         "* OK [CLOSED] %\n* 3 EXISTS\n* OK [HIGHESTMODSEQ 9] %\n* VANISHED (EARLIER) 2,4\n"
         "* 3 FETCH (UID 5 FLAGS (\\Seen $Forwarded) MODSEQ (8))\nA03 OK %"},
        {0, "A04 SELECT INBOX (QRESYNC (1700000000 6))",
         "* VANISHED (EARLIER) 2,4\n* 3 FETCH (UID 5 %\nA04 OK %"},
        {0, "B04 SELECT INBOX (QRESYNC (1700000000 6 1:5 (1,3 1,5)))",
         "* VANISHED (EARLIER) %4%\n* 3 FETCH (UID 5 %\nB04 OK %"},
        {0, "s100 UID FETCH 1:4 (FLAGS) (CHANGEDSINCE 6 VANISHED)",
         "* VANISHED (EARLIER) 2,4\n!* 3 FETCH %\ns100 OK %"}, /* §3.2.6 */
        {0, "s101 UID FETCH 3:5 (FLAGS) (CHANGEDSINCE 6)",
         "!* VANISHED %\n* 3 FETCH (UID 5 MODSEQ (8) FLAGS (\\Seen $Forwarded))\ns101 OK %"},
        {0, "s102 FETCH 1:2 (FLAGS) (CHANGEDSINCE 6 VANISHED)", "s102 BAD %"},
    };
    RFC_PLAY(five(state, NULL), steps);
}

static void expunge_tells_vanished_and_the_modseq(void **state)
{
    static const struct rfc_step steps[] = {
        {0, "t STORE 2,4:5 +FLAGS.SILENT (\\Deleted)", "* 2 FETCH (UID 2 MODSEQ (7))\nt OK %"},
        {0, ". UID EXPUNGE 4:5", "* VANISHED 4:5\n. OK [HIGHESTMODSEQ 8] %"}, /* §3.2.9 */
        {0, "B202 EXPUNGE", "* VANISHED 2\nB202 OK [HIGHESTMODSEQ 9] %"},     /* §3.2.7 */
        {1, "n NOOP", "* 5 EXPUNGE\n* 4 EXPUNGE\n* 2 EXPUNGE\n!* VANISHED %\nn OK %"},
        {0, "c CREATE away", "c OK %"},
        {0, "m UID MOVE 1 away",
         "* OK [COPYUID ^ 1 1] %\n* VANISHED 1\nm OK %"}, /* RFC 6851 §4.4 */
        {0, "A202 CLOSE", "!* VANISHED %\nA202 OK %"},    /* §3.2.8 */
    };
    RFC_PLAY(five(state, "q ENABLE QRESYNC\r\n"), steps);
}

/* Example 11: of messages that are there no more nothing is stored, and it is said. */
static void what_has_been_expunged_cannot_be_stored(void **state)
{
    static const struct rfc_step steps[] = {
        {1, "t STORE 4:5 +FLAGS.SILENT (\\Deleted)", "t OK %"},
        {1, "e EXPUNGE", "e OK %"},
        {1, "u STORE 2 +FLAGS.SILENT (\\Answered)", "u OK %"},
        {0, "B001 STORE 1:5 (UNCHANGEDSINCE 6) +FLAGS (\\Seen)",
         "* 1 FETCH (FLAGS (\\Seen) MODSEQ (10))\n* 3 FETCH (FLAGS (\\Seen) MODSEQ (10))\n"
         "!* ^ EXPUNGE\nB001 % [MODIFIED 2] %"},
        {0, "B002 NOOP", "* 5 EXPUNGE\n* 4 EXPUNGE\nB002 OK %"},
        {0, "b003 STORE 2 (UNCHANGEDSINCE 9) +FLAGS (\\Seen)",
         "* 2 FETCH (FLAGS (\\Seen \\Answered) MODSEQ (11))\nb003 OK %"},
    };
    RFC_PLAY(five(state, "c ENABLE CONDSTORE\r\n"), steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(select_tells_the_highest_modseq),
        TEST(a_store_is_done_where_nothing_has_changed),
        TEST(who_has_not_enabled_it_hears_nothing_of_modseqs),
        TEST(fetch_and_search_ask_for_modseqs),
        TEST(qresync_tells_what_has_changed_since),
        TEST(expunge_tells_vanished_and_the_modseq),
        TEST(what_has_been_expunged_cannot_be_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
