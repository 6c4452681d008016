/* SEARCH, SORT and THREAD in sessions. */
#include "tests/unit/imap_rig.h"

static const char *const letters[] = {
    /* 1 */
    "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: Fred Foobar <fred@x.example>\r\n"
    "Subject: afternoon meeting\r\nMessage-Id: <1@x>\r\n\r\nHello Joe, at half past three?\r\n",
    /* 2 */
    "Date: Tue, 8 Feb 1994 09:00:00 +0000\r\nFrom: Joe <joe@a.example>\r\n"
    "Subject: Re: afternoon meeting\r\nMessage-Id: <2@x>\r\nReferences: <1@x>\r\n\r\nYes\r\n",
    /* 3: Gruesse in base64 and UTF-8, its subject in an encoded word */
    "Date: Wed, 9 Feb 1994 09:00:00 +0000\r\nFrom: Zoe <zoe@b.example>\r\n"
    "Subject: =?iso-8859-1?Q?Gr=FC=DFe?=\r\nMessage-Id: <3@x>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    "U2Now7ZuZSBHcsO8w59lIGF1cyBNw7xuY2hlbg==\r\n",
    /* 4: a message within */
    "From: amy@c.example\r\nSubject: fwd\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
    "Subject: innermost\r\n\r\nquoted words\r\n--b\r\nContent-Type: image/png\r\n\r\nhalf past\r\n"
    "--b--\r\n",
};

static struct imap_rig *filled(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        append(rig, 0, "INBOX", letters[i]);
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return rig;
}

struct search_case {
    const char *keys, *found;
};

static void each_found(struct imap_rig *rig, const struct search_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char command[300], line[300];
        snprintf(command, sizeof(command), "q SEARCH %s\r\n", cases[i].keys);
        snprintf(line, sizeof(line), "* SEARCH%s\r\n", cases[i].found);
        talk(rig, 0, command, "OK");
        if (strstr(rig->clients[0].heard, line) == NULL) {
            fail_msg("SEARCH %s does not find%s but:\n%s", cases[i].keys, cases[i].found,
                     rig->clients[0].heard);
        }
    }
}

static void keys_find_what_they_name(void **state)
{
    static const struct search_case cases[] = {
        {"ALL", " 1 2 3 4"},
        {"2:3", " 2 3"},
        {"UID 4", " 4"},
        {"NOT 2:3", " 1 4"},
        {"OR 1 4", " 1 4"},
        {"(OR 1 2) 2", " 2"},
        {"FLAGGED", " 2"},
        {"UNFLAGGED", " 1 3 4"},
        {"KEYWORD $Work", " 2"},
        {"UNKEYWORD $Work", " 1 3 4"},
        {"KEYWORD unknown", ""},
        {"NEW", ""},
        {"OLD", " 1 2 3 4"},
        {"FROM fred", " 1"},
        {"FROM FOOBAR", " 1"},
        {"SUBJECT \"AFTERNOON meeting\"", " 1 2"},
        {"CHARSET UTF-8 SUBJECT \"gr\xc3\xbc\xc3\x9f\x65\"", " 3"},
        {"CHARSET UTF-8 BODY \"GR\xc3\x9cSSE AUS\"", " 3"},
        {"BODY \"half past\"", " 1"}, /* not the picture */
        {"BODY hello", " 1"},
        {"BODY Subject:", ""}, /* nor the fields of the message within */
        {"TEXT Subject:", " 1 2 3 4"},
        {"TEXT image/png", " 4"}, /* in a part's header */
        {"BODY image/png", ""},
        {"TEXT afternoon", " 1 2"},
        {"BODY afternoon", ""},
        {"TEXT innermost", " 4"},
        {"BODY \"quoted words\"", " 4"},
        {"HEADER References \"\"", " 2"},
        {"HEADER Message-ID 3@X", " 3"},
        {"NOT BODY hello", " 2 3 4"},
        {"OR BODY hello FROM amy", " 1 4"},
        {"SENTON 8-Feb-1994", " 2"},
        {"SENTBEFORE 8-Feb-1994", " 1"},
        {"SENTSINCE 9-Feb-1994", " 3 4"},
        {"ON 14-Nov-2023", " 1 2 3 4"},
        {"BEFORE 14-Nov-2023", ""},
        {"YOUNGER 3600", " 1 2 3 4"},
        {"OLDER 3600", ""},
        {"SMALLER 200", " 1 2"},
        {"LARGER 250", " 3"},
        {"SAVEDSINCE 1-Jan-2020", " 1 2 3 4"},
        {"EMAILID x", ""},
    };
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "f STORE 2 +FLAGS.SILENT (\\Flagged $Work)\r\n", "OK");
    each_found(rig, cases, sizeof(cases) / sizeof(cases[0]));
}

static void results_come_as_they_are_asked_for(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "a SEARCH RETURN (MIN MAX COUNT ALL) 2:4\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"a\") MIN 2 MAX 4 COUNT 3 ALL 2:4\r\n");
    talk(rig, 0, "b UID SEARCH RETURN () OR 1 3\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"b\") UID ALL 1,3\r\n");
    talk(rig, 0, "c SEARCH RETURN (SAVE) 2:3\r\n", "OK");
    expect_not(rig, 0, "ESEARCH");
    talk(rig, 0, "d FETCH $ UID\r\n", "OK");
    expect(rig, 0, "* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\n");
    talk(rig, 0, "e SEARCH RETURN (COUNT) $ 3:4\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"e\") COUNT 1\r\n");
    talk(rig, 0, "f SEARCH MODSEQ 1\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3 4 (MODSEQ ");
    talk(rig, 0, "g SEARCH CHARSET KOI8-R ALL\r\n", "NO [BADCHARSET");
    talk(rig, 0, "h SEARCH NONSENSE\r\n", "BAD");
    talk(rig, 0, "i SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3 4\r\n");
    talk(rig, 0, "j CLOSE\r\n", "OK");
    talk(rig, 0, "k ENABLE IMAP4rev2\r\n", "OK");
    talk(rig, 0, "l SELECT INBOX\r\n", "OK");
    expect(rig, 0, "* LIST () \"/\" INBOX\r\n");
    talk(rig, 0, "m SEARCH 2:3\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"m\") ALL 2:3\r\n");
}

static void sort_puts_in_order(void **state)
{
    static const struct {
        const char *program, *order;
    } cases[] = {
        {"(DATE)", " 1 2 3 4"},
        {"(REVERSE DATE)", " 4 3 2 1"},
        {"(FROM)", " 4 1 2 3"},
        {"(DISPLAYFROM)", " 4 1 2 3"},
        {"(SUBJECT REVERSE ARRIVAL)", " 1 2 4 3"},
        {"(SIZE)", " 2 1 4 3"},
        {"(REVERSE TO)", " 1 2 3 4"},
    };
    struct imap_rig *rig = filled(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[100], line[100];
        snprintf(command, sizeof(command), "q SORT %s UTF-8 ALL\r\n", cases[i].program);
        snprintf(line, sizeof(line), "* SORT%s\r\n", cases[i].order);
        talk(rig, 0, command, "OK");
        expect(rig, 0, line);
    }
    talk(rig, 0, "r SORT RETURN (ALL COUNT) (REVERSE DATE) UTF-8 2:4\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"r\") COUNT 3 ALL 4,3,2\r\n");
}

static void threads_are_told(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "a THREAD REFERENCES UTF-8 ALL\r\n", "OK");
    expect(rig, 0, "* THREAD (1 2)(3)(4)\r\n");
    talk(rig, 0, "b UID THREAD ORDEREDSUBJECT UTF-8 1:3\r\n", "OK");
    expect(rig, 0, "* THREAD (1 2)(3)\r\n");
    talk(rig, 0, "c THREAD REFERENCES UTF-8 FROM nobody\r\n", "OK");
    expect(rig, 0, "* THREAD\r\n");
}

static void a_word_is_found_wherever_the_text_was_cut(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    size_t size = 300000;
    char *message = (char *)malloc(size + 1);
    assert_non_null(message);
    log_in(rig, 0);
    for (unsigned place = 0; place < 3; place++) {
        int head = sprintf(message, "Subject: x\r\n\r\n");
        for (size_t i = (size_t)head; i < size; i++) {
            message[i] = i % 78 == 77 ? '\n' : i % 7 == 0 ? ' ' : 'a';
        }
        memcpy(message + 262140 - place, "NeedleInHay", 11); /* where a step ends */
        memcpy(message + 2055 + place, "OtherNeedle", 11);   /* where a piece is mapped */
        message[size] = '\0';
        append(rig, 0, "INBOX", message);
    }
    free(message);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "a SEARCH BODY needleinhay\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3\r\n");
    talk(rig, 0, "b SEARCH BODY otherneedle NOT BODY nosuch\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3\r\n");
}

static void binary_parts_come_decoded(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "a FETCH 3 (BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[1]<8.4>)\r\n", "OK");
    expect(rig, 0,
           "* 3 FETCH (BINARY[1] ~{28}\r\nSch\xc3\xb6ne Gr\xc3\xbc\xc3\x9f\x65 aus M\xc3\xbc"
           "nchen BINARY.SIZE[1] 28 BINARY[1]<8> ~{4}\r\nGr\xc3\xbc)\r\n");
}

static void parts_of_a_result_are_told(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "a UID SEARCH RETURN (PARTIAL 2:3) ALL\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"a\") UID PARTIAL (2:3 2:3)\r\n");
    talk(rig, 0, "b SEARCH RETURN (PARTIAL -1:-2 COUNT) NOT 3\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"b\") COUNT 3 PARTIAL (-1:-2 2,4)\r\n");
    talk(rig, 0, "c SEARCH RETURN (PARTIAL 5:9) ALL\r\n", "OK");
    expect(rig, 0, "PARTIAL (5:9 NIL)\r\n");
    talk(rig, 0, "d UID FETCH 1,3:4 FLAGS (PARTIAL 2:2)\r\n", "OK");
    expect(rig, 0, "* 3 FETCH (UID 3 FLAGS ())\r\nd OK");
    expect_not(rig, 0, "* 1 FETCH");
    talk(rig, 0, "e UID FETCH 1:* BODY[TEXT] (PARTIAL -1:-3)\r\n", "OK");
    talk(rig, 0, "f SEARCH SEEN\r\n", "OK");
    expect(rig, 0, "* SEARCH 2 3 4\r\n");
}

static void previews_are_the_first_words(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "a FETCH 1 PREVIEW (LAZY)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (PREVIEW NIL)\r\n");
    talk(rig, 0, "b FETCH 1 (PREVIEW UID)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (PREVIEW \"Hello Joe, at half past three?\" UID 1)\r\n");
    talk(rig, 0, "c FETCH 1 PREVIEW (LAZY)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (PREVIEW \"Hello Joe, at half past three?\")\r\n");
    talk(rig, 0, "d FETCH 3 PREVIEW\r\n", "OK");
    expect(rig, 0,
           "* 3 FETCH (PREVIEW {28}\r\nSch\xc3\xb6ne Gr\xc3\xbc\xc3\x9f\x65 aus M\xc3\xbcnchen)");
    append(rig, 0, "INBOX",
           "MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>Some <b>bold</b>\r\n "
           "words</p>\r\n");
    append(rig, 0, "INBOX", "Subject: x\r\n\r\n> what you\r\n> said\r\nis  right\r\n");
    talk(rig, 0, "e FETCH 5:6 PREVIEW\r\n", "OK");
    expect(rig, 0, "* 5 FETCH (PREVIEW \"Some bold words\")\r\n");
    expect(rig, 0, "* 6 FETCH (PREVIEW \"is right\")\r\n");
    talk(rig, 0, "f FETCH 1:6 FLAGS\r\n", "OK");
    expect_not(rig, 0, "Seen");
}

static void a_client_that_goes_while_it_is_searched_leaves_nothing(void **state)
{
    static const char *const ways[] = {
        "x SEARCH BODY nothing\r\n",
        "x SORT (SUBJECT) UTF-8 TEXT e\r\n",
        "x THREAD REFERENCES UTF-8 ALL\r\n",
    };
    struct imap_rig *rig = filled(state);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        for (unsigned rounds = 0; rounds < 4; rounds++) {
            log_in(rig, 1);
            talk(rig, 1, "s SELECT INBOX\r\n", "OK");
            say(rig, 1, ways[i]);
            for (unsigned round = 0; round < rounds; round++) {
                mailstore_rig_round(&rig->store);
                shard_round(&rig->shard);
            }
            stream_abort(rig->clients[1].stream);
            stream_release(rig->clients[1].stream);
            rig->clients[1].stream = NULL;
            rig_rounds(rig, 30);
            assert_int_equal(rig->mailbox.counters.sessions, 1);
        }
    }
}

/* RFC 5182 §2.4, RFC 9394 §3.2. */
static void save_keeps_what_the_answer_is_about(void **state)
{
    static const struct {
        const char *command, *saved;
    } cases[] = {
        {"SEARCH RETURN (SAVE) ALL", " 1 2 3 4"},
        {"SEARCH RETURN (SAVE ALL MIN) ALL", " 1 2 3 4"},
        {"SEARCH RETURN (SAVE MIN) 2:4", " 2"},
        {"SEARCH RETURN (MAX SAVE MIN) 2:4", " 2 4"},
        {"SEARCH RETURN (MAX SAVE MIN COUNT) 2:4", " 2 3 4"},
        {"SEARCH RETURN (SAVE PARTIAL 2:3) ALL", " 2 3"},
        {"SEARCH RETURN (SAVE PARTIAL -1:-2) ALL", " 3 4"},
        {"SEARCH RETURN (SAVE PARTIAL 2:2 MAX) ALL", " 2 4"},
        {"SEARCH RETURN (SAVE PARTIAL 3:3 MIN MAX) ALL", " 1 3 4"},
        {"SEARCH RETURN (SAVE PARTIAL 2:3 COUNT) ALL", " 1 2 3 4"},
        {"SEARCH RETURN (SAVE PARTIAL 5:9) ALL", ""},
        {"SORT RETURN (SAVE MIN) (REVERSE DATE) UTF-8 ALL", " 4"}, /* as they are sorted */
        {"UID SORT RETURN (SAVE PARTIAL 1:2) (REVERSE DATE) UTF-8 ALL", " 3 4"},
    };
    struct imap_rig *rig = filled(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[200];
        snprintf(command, sizeof(command), "s %s\r\n", cases[i].command);
        talk(rig, 0, command, "OK");
        const struct search_case saved = {"$", cases[i].saved};
        each_found(rig, &saved, 1);
    }
}

/* RFC 5182 §2.1 */
static void what_was_saved_is_nothing_after_a_search_that_failed(void **state)
{
    struct imap_rig *rig = filled(state);
    char command[2000] = "b SEARCH RETURN (SAVE) SUBJECT \"";
    memset(command + strlen(command), 'x', 1100);
    strcat(command, "\"\r\n");
    talk(rig, 0, "a SEARCH RETURN (SAVE) 2:3\r\n", "OK");
    talk(rig, 0, command, "NO [LIMIT]");
    talk(rig, 0, "c SEARCH $\r\n", "OK");
    expect(rig, 0, "* SEARCH\r\n");
    talk(rig, 0, "d SEARCH RETURN (SAVE) 2:3\r\n", "OK");
    talk(rig, 0, "e SEARCH RETURN (SAVE) NONSENSE\r\n", "BAD");
    talk(rig, 0, "f SEARCH $\r\n", "OK");
    expect(rig, 0, "* SEARCH 2 3\r\n");
}

/* RFC 4731 §3.2: of MIN and MAX alone, theirs. */
static void modseq_is_of_what_the_answer_is_about(void **state)
{
    struct imap_rig *rig = filled(state);
    uint64_t modseqs[5];
    talk(rig, 0, "a STORE 2 +FLAGS (\\Flagged)\r\n", "OK");
    talk(rig, 0, "b FETCH 1:4 (MODSEQ)\r\n", "OK");
    for (unsigned i = 1; i <= 4; i++) {
        char line[40];
        unsigned long long modseq;
        snprintf(line, sizeof(line), "* %u FETCH (MODSEQ (", i);
        const char *at = strstr(rig->clients[0].heard, line);
        assert_non_null(at);
        assert_int_equal(sscanf(at + strlen(line), "%llu", &modseq), 1);
        modseqs[i] = modseq;
    }
    const struct {
        const char *returns;
        unsigned which;
    } cases[] = {{"(MIN)", 1},         {"(MAX)", 4}, {"(MIN MAX)", 4}, {"(MIN COUNT)", 2},
                 {"(PARTIAL 1:1)", 1}, {"()", 2},    {"(ALL MIN)", 2}};
    assert_true(modseqs[1] < modseqs[4] && modseqs[4] < modseqs[2]);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[100], expected[60];
        snprintf(command, sizeof(command), "q SEARCH RETURN %s MODSEQ 1\r\n", cases[i].returns);
        snprintf(expected, sizeof(expected), " MODSEQ %llu\r\n",
                 (unsigned long long)modseqs[cases[i].which]);
        talk(rig, 0, command, "OK");
        expect(rig, 0, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(keys_find_what_they_name),
        TEST(results_come_as_they_are_asked_for),
        TEST(sort_puts_in_order),
        TEST(threads_are_told),
        TEST(a_word_is_found_wherever_the_text_was_cut),
        TEST(parts_of_a_result_are_told),
        TEST(previews_are_the_first_words),
        TEST(binary_parts_come_decoded),
        TEST(a_client_that_goes_while_it_is_searched_leaves_nothing),
        TEST(save_keeps_what_the_answer_is_about),
        TEST(what_was_saved_is_nothing_after_a_search_that_failed),
        TEST(modseq_is_of_what_the_answer_is_about),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
