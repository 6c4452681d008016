/* What the index keeps of headers changes no answer of SEARCH, SORT and THREAD: there, not there, or lost in part. */
#include "engine/mailbox/imap_cache.h"
#include "tests/unit/imap_rig.h"
#include "tests/unit/search_mail.h"

/* ---- What is kept, as the test wants it ---- */

enum keeping {
    KEEPS_NOTHING, /* nothing is found and nothing is put */
    KEEPS,
    KEEPS_SOME, /* every third is lost */
};

static enum keeping keeping;
static unsigned text_opens, puts_done, gets_done;
static uint64_t lost_up_to; /* of these texts nothing is kept */

int __real_mailstore_cache_get(struct mailstore *store, uint64_t text, uint8_t kind,
                               struct slice *value);
int __wrap_mailstore_cache_get(struct mailstore *store, uint64_t text, uint8_t kind,
                               struct slice *value);
void __real_mailstore_cache_put(struct mailstore *store, uint64_t text, uint8_t kind,
                                struct slice value);
void __wrap_mailstore_cache_put(struct mailstore *store, uint64_t text, uint8_t kind,
                                struct slice value);
int __real_mailstore_text_open(struct mailstore *store, uint64_t id, struct mailstore_text *text);
int __wrap_mailstore_text_open(struct mailstore *store, uint64_t id, struct mailstore_text *text);

int __wrap_mailstore_cache_get(struct mailstore *store, uint64_t text, uint8_t kind,
                               struct slice *value)
{
    gets_done += kind == IMAP_CACHE_FIELDS;
    if (kind == IMAP_CACHE_FIELDS && (keeping == KEEPS_NOTHING || text <= lost_up_to ||
                                      (keeping == KEEPS_SOME && text % 3 == 0))) {
        return -ENOENT;
    }
    return __real_mailstore_cache_get(store, text, kind, value);
}

void __wrap_mailstore_cache_put(struct mailstore *store, uint64_t text, uint8_t kind,
                                struct slice value)
{
    if (kind != IMAP_CACHE_FIELDS || keeping != KEEPS_NOTHING) {
        puts_done += kind == IMAP_CACHE_FIELDS;
        __real_mailstore_cache_put(store, text, kind, value);
    }
}

int __wrap_mailstore_text_open(struct mailstore *store, uint64_t id, struct mailstore_text *text)
{
    text_opens++;
    return __real_mailstore_text_open(store, id, text);
}

/* ---- Mail ---- */

static const char *const letters[] = {
    "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: Fred Foobar <fred@x.example>\r\n"
    "To: Joe <joe@a.example>, amy@c.example\r\nSubject: afternoon meeting\r\n"
    "Message-Id: <1@x>\r\nX-Mailer: pigeon\r\n\r\nFrom: nobody\r\nHello\r\n",
    /* twice the same field: SORT takes the first, SEARCH both */
    "Subject: Re: afternoon meeting\r\nFrom: first@one.example\r\nFrom: second@two.example\r\n"
    "Subject: something else\r\nDate: nonsense\r\nDate: Tue, 8 Feb 1994 09:00:00 +0000\r\n"
    "Message-ID: <2@x>\r\nMessage-ID: <2b@x>\r\nReferences: <1@x>\r\nReferences: "
    "<9@x>\r\n\r\nYes\r\n",
    /* folded, by a tab, by blanks, with a line of blanks within */
    "Subject: one\r\n\ttwo\r\n   three\r\n \r\n four\r\nX-Subject: five\r\n six\r\n"
    "From:\r\n Zoe\r\n <zoe@b.example>\r\nReferences:\r\n <1@x>\r\n\t<2@x>\r\nIn-Reply-To: <4\r\n "
    "@x>\r\n\r\nx\r\n",
    /* no Date, no From; encoded words; a group */
    "Subject: =?iso-8859-1?Q?Gr=FC=DFe?= =?utf-8?B?w7xiZXI=?= x\r\n"
    "To: friends: a@a.example, b@b.example;\r\nCc: nobody:;\r\n\r\nbody\r\n",
    /* 8 bit that is no UTF-8, and some that is */
    "Subject: Gr\xfc\xdf"
    "e\r\nFrom: J\xc3\xb6rg <joerg@b.example>\r\nDate: 9 Feb 94 10:00 EST\r\nBcc: "
    "secret@x.example\r\n\r\n\xff\r\n",
    /* ends of lines without CR, a blank in front of the colon, names in any case */
    "SUBJECT : fwd: [x] Afternoon  Meeting (fwd)\nfrom : amy@c.example\ndATE: Wed, 9 Feb 1994 "
    "09:00:00 +0000\n"
    "REFERENCES: <2@x> <1@x>\nMESSAGE-ID:<3@x>\n\nbody\n",
    /* a first line that goes on from nowhere, a line without a colon, an empty name, empty fields */
    " Subject: begins with a blank\r\nno colon here\r\n: no name\r\nFrom:\r\nSubject:\r\nTo: "
    "\r\nDate:\r\n"
    "Message-ID:\r\nReferences:\r\n\r\nbody\r\n",
    /* the header is all there is, and its last line does not end */
    "X-One: 1\r\nSubject: unended\r\nIn-Reply-To: your message of Monday <1@x>\r\nFrom: \"Q, "
    "Uoted\" <q@x.example>",
    "\r\nSubject: in the body\r\n",
    "Subject: a\rb\r\nFrom: <>\r\nTo: undisclosed-recipients:;\r\nDate: Thu, 10 Feb 1994 09:00:00 "
    "+0000 (later)\r\n\r\n",
    "Subject: last\r\nList-Id: <list.example>\r\nSender: s@x.example\r\nReply-To: r@x.example\r\n"
    "In-Reply-To: <3@x>\r\nMessage-ID: <1@x>\r\n\r\nthe id of another\r\n",
};
#define LETTERS (sizeof(letters) / sizeof(letters[0]))
#define KEPT_BYTES_MAX 4000u /* imap_search_fields.c */
#define TOO_LONG 2u          /* of those that are filled up */

/* Fields that are kept of exactly so many bytes. */
static void append_long(struct imap_rig *rig, size_t kept_bytes)
{
    char *letter = (char *)malloc(kept_bytes + 200);
    assert_non_null(letter);
    size_t at = (size_t)sprintf(letter, "Subject: long %zu\r\nReferences:", kept_bytes);
    for (unsigned i = 0; at + 20 < kept_bytes; i++) {
        at += (size_t)sprintf(letter + at, "\r\n <%u@x>", i);
    }
    while (at < kept_bytes - 2) {
        letter[at++] = ' ';
    }
    sprintf(letter + at, "\r\nX-Other: not kept\r\n\r\nbody\r\n");
    append(rig, 0, "INBOX", letter);
    free(letter);
}

static unsigned fill(struct imap_rig *rig)
{
    log_in(rig, 0);
    for (size_t i = 0; i < LETTERS; i++) {
        append(rig, 0, "INBOX", letters[i]);
    }
    append_long(rig, KEPT_BYTES_MAX);
    append_long(rig, KEPT_BYTES_MAX + 1);
    append_long(rig, 20000);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return LETTERS + 3;
}

/* ---- Questions ---- */

static const struct {
    const char *command;
    bool by_fields; /* nothing else of the texts is looked at */
} questions[] = {
    {"SEARCH FROM fred", true},
    {"SEARCH FROM second", true},
    {"SEARCH FROM \"\"", true},
    {"SEARCH FROM nobody", true},
    {"SEARCH CHARSET UTF-8 FROM \"J\xc3\x96RG\"", true},
    {"SEARCH SUBJECT meeting", true},
    {"SEARCH SUBJECT \"one two\"", true},
    {"SEARCH SUBJECT five", true},
    {"SEARCH SUBJECT \"in the body\"", true},
    {"SEARCH SUBJECT \"begins with\"", true},
    {"SEARCH NOT SUBJECT \"\"", true},
    {"SEARCH CHARSET UTF-8 SUBJECT \"gr\xc3\xbc\xc3\x9f\x65\"", true},
    {"SEARCH TO b.example", true},
    {"SEARCH TO friends", true},
    {"SEARCH CC \"\"", true},
    {"SEARCH BCC secret", true},
    {"SEARCH HEADER Message-Id 2b@", true},
    {"SEARCH HEADER References <100@x>", true},
    {"SEARCH HEADER In-Reply-To monday", true},
    {"SEARCH HEADER DATE \"\"", true},
    {"SEARCH HEADER Subject \"\" NOT HEADER References \"\"", true},
    {"SEARCH SENTBEFORE 9-Feb-1994", true},
    {"SEARCH SENTON 9-Feb-1994", true},
    {"SEARCH SENTSINCE 9-Feb-1994", true},
    {"SEARCH OR FROM fred (SUBJECT re SENTSINCE 1-Jan-1990)", true},
    {"UID SEARCH RETURN (MIN MAX COUNT ALL) NOT FROM example", true},
    {"SEARCH HEADER X-Mailer pigeon", false},
    {"SEARCH HEADER List-Id \"\"", false},
    {"SEARCH HEADER \"\" \"\"", false},
    {"SEARCH HEADER X-Subject six FROM zoe", false},
    {"SEARCH OR HEADER Sender s@ FROM fred", false},
    {"SEARCH FROM fred BODY hello", false},
    {"SEARCH OR BODY hello SUBJECT meeting", false},
    {"SEARCH NOT (FROM fred TEXT pigeon)", false},
    {"SEARCH TEXT subject", false},
    {"SEARCH BODY body", false},
    {"SORT (DATE) UTF-8 ALL", true},
    {"SORT (REVERSE DATE) UTF-8 ALL", true},
    {"SORT (SUBJECT) UTF-8 ALL", true},
    {"SORT (REVERSE SUBJECT DATE) UTF-8 ALL", true},
    {"SORT (FROM) UTF-8 ALL", true},
    {"SORT (TO REVERSE CC) UTF-8 ALL", true},
    {"SORT (DISPLAYFROM) UTF-8 ALL", true},
    {"SORT (DISPLAYTO) UTF-8 ALL", true},
    {"SORT (SIZE SUBJECT) UTF-8 FROM example", true},
    {"UID SORT (SUBJECT) UTF-8 NOT SUBJECT meeting", true},
    {"SORT (SUBJECT) UTF-8 BODY body", false},
    {"SORT (DATE) UTF-8 HEADER X-Other \"\"", false},
    {"THREAD REFERENCES UTF-8 ALL", true},
    {"THREAD ORDEREDSUBJECT UTF-8 ALL", true},
    {"UID THREAD REFERENCES UTF-8 SENTSINCE 1-Jan-1990", true},
    {"THREAD REFERENCES UTF-8 TEXT e", false},
};
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

/* Of the heap. */
static char *answer(struct imap_rig *rig, const char *question)
{
    char command[300];
    snprintf(command, sizeof(command), "q %s\r\n", question);
    talk(rig, 0, command, "OK");
    char *heard = strdup(rig->clients[0].heard);
    assert_non_null(heard);
    return heard;
}

static void answers_learn(struct imap_rig *rig, char *answers[QUESTIONS])
{
    keeping = KEEPS_NOTHING;
    for (size_t i = 0; i < QUESTIONS; i++) {
        free(answers[i]);
        answers[i] = answer(rig, questions[i].command);
    }
}

static void answers_free(char *answers[QUESTIONS])
{
    for (size_t i = 0; i < QUESTIONS; i++) {
        free(answers[i]);
        answers[i] = NULL;
    }
}

static void answer_is(struct imap_rig *rig, size_t question, const char *expected, const char *when)
{
    char *heard = answer(rig, questions[question].command);
    if (strcmp(heard, expected) != 0) {
        fail_msg("%s, %s is answered with\n%snot\n%s", when, questions[question].command, heard,
                 expected);
    }
    free(heard);
}

static void answers_are(struct imap_rig *rig, char *answers[QUESTIONS], enum keeping how,
                        const char *when)
{
    keeping = how;
    for (size_t i = 0; i < QUESTIONS; i++) {
        answer_is(rig, i, answers[i], when);
    }
}

/* Only those are read of which nothing is kept. */
static void answers_are_kept(struct imap_rig *rig, char *answers[QUESTIONS], unsigned read_most,
                             const char *when)
{
    keeping = KEEPS;
    for (size_t i = 0; i < QUESTIONS; i++) {
        text_opens = 0;
        answer_is(rig, i, answers[i], when);
        if (questions[i].by_fields && text_opens > read_most) {
            fail_msg("%s, %s opens %u texts", when, questions[i].command, text_opens);
        }
    }
}

/* The client goes, and the store is opened again. */
static void reopen(struct imap_rig *rig)
{
    talk(rig, 0, "o LOGOUT\r\n", "OK");
    rig_rounds(rig, 5);
    stream_release(rig->clients[0].stream);
    rig->clients[0].stream = NULL;
    rig_rounds(rig, 5);
    assert_true(list_empty(&rig->mailbox.sessions));
    mailstore_rig_stop(&rig->store);
    assert_int_equal(mailstore_rig_start(&rig->store), 0);
    rig->mailbox.texts = rig->store.store;
    log_in(rig, 0);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
}

/* ---- Tests ---- */

static void answers_are_the_same_with_and_without_what_is_kept(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char *answers[QUESTIONS] = {0};
    unsigned count = fill(rig);
    answers_learn(rig, answers);
    assert_true(strstr(answers[5], "* SEARCH 1 2 6\r\n") != NULL); /* they find what they should */
    puts_done = 0;
    answers_are(rig, answers, KEEPS, "while it is gathered");
    assert_true(puts_done >= count - TOO_LONG);
    puts_done = 0;
    answers_are_kept(rig, answers, TOO_LONG, "when it is there");
    assert_int_equal(puts_done, 0);
    answers_are(rig, answers, KEEPS_SOME, "when some of it is lost");
    reopen(rig);
    answers_are_kept(rig, answers, TOO_LONG, "when the store is opened again");
    answers_free(answers);
}

/* Each question as the first one, so that it is what gathers. */
static void whatever_is_asked_first_keeps_the_same(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    fill(rig);
    for (size_t first = 0; first < QUESTIONS; first += 5) {
        talk(rig, 0, "c CREATE Again\r\n", "OK");
        talk(rig, 0, "d SELECT Again\r\n", "OK");
        for (size_t i = 0; i < LETTERS; i++) {
            append(rig, 0, "Again", letters[i]);
        }
        talk(rig, 0, "n NOOP\r\n", "OK");
        char *fresh[QUESTIONS] = {0};
        keeping = KEEPS;
        char *gathers = answer(rig, questions[first].command);
        answers_learn(rig, fresh);
        assert_string_equal(gathers, fresh[first]);
        answers_are(rig, fresh, KEEPS, "behind that");
        answers_free(fresh);
        free(gathers);
        talk(rig, 0, "e SELECT INBOX\r\n", "OK");
        talk(rig, 0, "f DELETE Again\r\n", "OK");
    }
}

static uint64_t text_of(struct imap_rig *rig, const char *mailbox, uint32_t uid)
{
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(rig->store.store, slice_text("alice"), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text(mailbox));
    assert_int_equal(mailstore_box_open(rig->store.store, box), 0);
    const struct mailstore_entry *entry = mailstore_entry_find(box, uid);
    uint64_t text = entry != NULL ? entry->text : 0;
    mailstore_box_close(rig->store.store, box);
    mailstore_user_close(rig->store.store, user);
    return text;
}

static bool is_kept(struct imap_rig *rig, uint64_t text)
{
    struct slice value;
    return __real_mailstore_cache_get(rig->store.store, text, IMAP_CACHE_FIELDS, &value) == 0;
}

static void it_goes_with_the_last_entry_of_the_text(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char *answers[QUESTIONS] = {0};
    fill(rig);
    answers_learn(rig, answers);
    answers_are(rig, answers, KEEPS, "in the source");
    uint64_t copied = text_of(rig, "INBOX", 2), alone = text_of(rig, "INBOX", 3);
    assert_true(is_kept(rig, copied) && is_kept(rig, alone));
    talk(rig, 0, "c CREATE Copies\r\n", "OK");
    talk(rig, 0, "d COPY 1:2 Copies\r\n", "OK");
    talk(rig, 0, "e STORE 2:3 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "f EXPUNGE\r\n", "OK");
    assert_true(is_kept(rig, copied));
    assert_false(is_kept(rig, alone));
    answers_learn(rig, answers);
    answers_are_kept(rig, answers, TOO_LONG, "behind EXPUNGE");
    talk(rig, 0, "g SELECT Copies\r\n", "OK");
    answers_learn(rig, answers);
    answers_are_kept(rig, answers, 0, "in the target");
    talk(rig, 0, "h STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "i EXPUNGE\r\n", "OK");
    assert_false(is_kept(rig, copied));
    assert_true(is_kept(rig, text_of(rig, "INBOX", 1)));
    append(rig, 0, "Copies", letters[2]);
    append(rig, 0, "Copies", letters[5]);
    talk(rig, 0, "n NOOP\r\n", "OK");
    answers_learn(rig, answers);
    answers_are(rig, answers, KEEPS, "of what came behind it");
    answers_are_kept(rig, answers, 0, "and again");
    reopen(rig);
    answers_learn(rig, answers);
    answers_are_kept(rig, answers, TOO_LONG, "when the store is opened again");
    answers_free(answers);
}

static char *query_answer(struct imap_rig *rig, struct slice command, enum keeping how)
{
    keeping = how;
    say_bytes(rig, 0, command);
    hear(rig, 0, "q ");
    char *heard = strdup(rig->clients[0].heard);
    assert_non_null(heard);
    return heard;
}

static void mail_from_a_seed_is_found_the_same(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    struct search_mail *mail = search_mail_open(20261);
    log_in(rig, 0);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 25; i++) {
            append(rig, 0, "INBOX", search_mail_next(mail));
        }
        for (unsigned i = 0; i < 60; i++) {
            struct slice command = search_mail_query(mail);
            char *expected = query_answer(rig, command, KEEPS_NOTHING);
            for (unsigned again = 0; again < 2; again++) {
                char *heard = query_answer(rig, command, again == 0 ? KEEPS : KEEPS_SOME);
                if (strcmp(heard, expected) != 0) {
                    fail_msg("%.*sis answered with\n%snot\n%s", (int)command.size,
                             (const char *)command.bytes, heard, expected);
                }
                free(heard);
            }
            free(expected);
        }
        reopen(rig);
    }
    search_mail_close(mail);
}

#define READ_FIRST 40u /* more than a step reads */
#define DOUBLINGS 11u  /* of what is kept behind them */
#define LOOKS_A_ROUND 300u

/* Behind some that must be read lie many that need not be: to find that out, too, takes its time. */
static void what_is_looked_for_ahead_has_a_bound_in_each_step(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char copy[64], command[64] = "q SEARCH FROM nobody\r\n";
    unsigned most = 0, all = 0;
    keeping = KEEPS;
    log_in(rig, 0);
    for (unsigned i = 0; i <= READ_FIRST; i++) {
        append(rig, 0, "INBOX", "From: f@x.example\r\n\r\nbody\r\n");
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    snprintf(copy, sizeof(copy), "c COPY %u:* INBOX\r\n", READ_FIRST + 1);
    for (unsigned i = 0; i < DOUBLINGS; i++) {
        talk(rig, 0, copy, "OK");
    }
    lost_up_to = text_of(rig, "INBOX", READ_FIRST);
    assert_true(text_of(rig, "INBOX", READ_FIRST + 1) > lost_up_to);
    talk(rig, 0, command, "OK");
    rig->clients[0].heard_bytes = 0;
    rig->clients[0].heard[0] = '\0';
    say_bytes(rig, 0, slice_text(command));
    while (strstr(rig->clients[0].heard, "q OK") == NULL) {
        gets_done = 0;
        if (shard_round(&rig->shard) == 0) {
            mailstore_rig_round(&rig->store);
        }
        all += gets_done;
        most = gets_done > most ? gets_done : most;
    }
    lost_up_to = 0;
    assert_in_range(all, 1u << DOUBLINGS, 3u << DOUBLINGS);
    assert_in_range(most, 32, LOOKS_A_ROUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(answers_are_the_same_with_and_without_what_is_kept),
        TEST(whatever_is_asked_first_keeps_the_same),
        TEST(it_goes_with_the_last_entry_of_the_text),
        TEST(mail_from_a_seed_is_found_the_same),
        TEST(what_is_looked_for_ahead_has_a_bound_in_each_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
