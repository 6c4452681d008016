/* Searches that are kept up (RFC 5267): what the client makes of the updates is what a search would find now. */
#include "tests/unit/imap_rig.h"

#define LETTER "Subject: news\r\n\r\nsome words\r\n"

/* Client 0 listens, client 1 does things. */
static struct imap_rig *two(void **state, unsigned letters)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    log_in(rig, 1);
    for (unsigned i = 0; i < letters; i++) {
        append(rig, 1, "INBOX", LETTER);
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    return rig;
}

static void what_comes_to_fit_and_what_does_not_any_more_is_told(void **state)
{
    struct imap_rig *rig = two(state, 3);
    talk(rig, 0, "c CAPABILITY\r\n", "OK");
    expect(rig, 0, " CONTEXT=SEARCH CONTEXT=SORT");
    talk(rig, 0, "u UID SEARCH RETURN (UPDATE COUNT) UNSEEN\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") UID COUNT 3\r\n");
    talk(rig, 1, "f STORE 2 +FLAGS (\\Seen)\r\n", "OK");
    rig_rounds(rig, 5);
    expect_not(rig, 0, "REMOVEFROM"); /* it was not told of the flag yet */
    talk(rig, 0, "n NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID REMOVEFROM (0 2)\r\n");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 1, "g STORE 2 -FLAGS (\\Seen)\r\n", "OK");
    talk(rig, 0, "o NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (0 2,4)\r\n");
    talk(rig, 1, "h STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "i EXPUNGE\r\n", "OK");
    talk(rig, 0, "p NOOP\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") UID REMOVEFROM (0 1)\r\n* 1 EXPUNGE\r\n");
}

static void in_idle_and_with_notify_it_comes_at_once(void **state)
{
    struct imap_rig *rig = two(state, 1);
    talk(rig, 0, "u SEARCH RETURN (UPDATE) BODY words\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") ALL 1\r\n");
    say(rig, 0, "i IDLE\r\n");
    hear(rig, 0, "+ ");
    append(rig, 1, "INBOX", "Subject: other\r\n\r\nnothing\r\n");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* ESEARCH (TAG \"u\") ADDTO (0 3)\r\n");
    say(rig, 0, "DONE\r\n");
    hear(rig, 0, "i OK");
    talk(rig, 0, "n NOTIFY SET (selected (MessageNew MessageExpunge))\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* ESEARCH (TAG \"u\") ADDTO (0 4)\r\n");
}

static void sorted_results_have_places(void **state)
{
    struct imap_rig *rig = two(state, 0);
    append(rig, 1, "INBOX", "Subject: m\r\n\r\nx\r\n");
    append(rig, 1, "INBOX", "Subject: c\r\n\r\nx\r\n");
    talk(rig, 0, "u UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNDELETED\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") UID\r\n"); /* it was not told of them yet */
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (1 2)\r\n");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (2 1)\r\n");
    append(rig, 1, "INBOX", "Subject: f\r\n\r\nx\r\n");
    talk(rig, 0, "o NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (2 3)\r\n");
    talk(rig, 1, "t SELECT INBOX\r\n", "OK");
    talk(rig, 1, "h STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "p NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID REMOVEFROM (3 1)\r\n");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID REMOVEFROM (1 2)\r\n");
}

static void updates_are_cancelled_by_tag(void **state)
{
    struct imap_rig *rig = two(state, 1);
    talk(rig, 0, "u SEARCH RETURN (UPDATE) ALL\r\n", "OK");
    talk(rig, 0, "v SEARCH RETURN (UPDATE CONTEXT) ALL\r\n", "OK");
    talk(rig, 0, "u SEARCH RETURN (UPDATE) ALL\r\n", "BAD");
    talk(rig, 0, "w SEARCH RETURN (CONTEXT COUNT) ALL\r\n", "OK"); /* a hint, without updates */
    talk(rig, 0, "x CANCELUPDATE \"w\"\r\n", "BAD");
    talk(rig, 0, "x CANCELUPDATE \"v\" \"nobody\"\r\n", "BAD");
    talk(rig, 0, "x CANCELUPDATE \"v\" \"v\"\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "n NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") ADDTO (0 2)\r\n");
    expect_not(rig, 0, "\"v\"");
    talk(rig, 0, "y CANCELUPDATE \"u\"\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "o NOOP\r\n", "OK");
    rig_rounds(rig, 5);
    expect_not(rig, 0, "ESEARCH");
    talk(rig, 0, "u SEARCH RETURN (UPDATE) ALL\r\n", "OK");
    talk(rig, 0, "t SELECT INBOX\r\n", "OK"); /* they end with the mailbox */
    talk(rig, 0, "x CANCELUPDATE \"u\"\r\n", "BAD");
}

static void there_are_only_so_many(void **state)
{
    struct imap_rig *rig = two(state, 1);
    for (unsigned i = 0; i < 8; i++) {
        char command[64];
        snprintf(command, sizeof(command), "u%u SEARCH RETURN (UPDATE) ALL\r\n", i);
        talk(rig, 0, command, "OK");
        expect_not(rig, 0, "NOUPDATE");
    }
    talk(rig, 0, "u8 SEARCH RETURN (UPDATE) ALL\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u8\") ALL 1\r\n");
    expect(rig, 0, "* NO [NOUPDATE \"u8\"] ");
    talk(rig, 0, "x CANCELUPDATE \"u0\"\r\n", "OK");
    talk(rig, 0, "u8 SEARCH RETURN (UPDATE) ALL\r\n", "OK");
    expect_not(rig, 0, "NOUPDATE");
}

static void numbers_stand_for_the_messages_of_then(void **state)
{
    struct imap_rig *rig = two(state, 4);
    talk(rig, 0, "u UID SEARCH RETURN (UPDATE) 2:3 UNFLAGGED\r\n", "OK");
    talk(rig, 0, "v UID SEARCH RETURN (UPDATE) 4:* UNFLAGGED\r\n", "OK");
    talk(rig, 0, "w SEARCH RETURN (SAVE) 1\r\n", "OK");
    talk(rig, 0, "x UID SEARCH RETURN (UPDATE) $ FLAGGED\r\n", "OK");
    talk(rig, 0, "w SEARCH RETURN (SAVE) 2\r\n", "OK");
    talk(rig, 1, "h STORE 1 +FLAGS.SILENT (\\Deleted \\Flagged)\r\n", "OK");
    talk(rig, 0, "n NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"x\") UID ADDTO (0 1)\r\n");
    talk(rig, 1, "i EXPUNGE\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "o NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"v\") UID ADDTO (0 5)\r\n");
    talk(rig, 1, "j STORE 1:4 +FLAGS.SILENT (\\Flagged)\r\n", "OK");
    talk(rig, 0, "p NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID REMOVEFROM (0 2:3)\r\n");
    hear(rig, 0, "* ESEARCH (TAG \"v\") UID REMOVEFROM (0 4:5)\r\n");
    expect_not(rig, 0, "\"x\"");
}

/* What a search saves itself is not what it has looked in. */
static void what_was_saved_before_is_searched_on(void **state)
{
    struct imap_rig *rig = two(state, 3);
    talk(rig, 0, "s SEARCH RETURN (SAVE) 1:2\r\n", "OK");
    talk(rig, 0, "u UID SEARCH RETURN (SAVE UPDATE COUNT) $ FLAGGED\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") UID COUNT 0\r\n");
    talk(rig, 1, "f STORE 1:3 +FLAGS.SILENT (\\Flagged)\r\n", "OK");
    talk(rig, 0, "n NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (0 1:2)\r\n");
    talk(rig, 0, "v SEARCH RETURN (COUNT) $\r\n", "OK");
    expect(rig, 0, "* ESEARCH (TAG \"v\") COUNT 0\r\n");
}

/* RFC 5465 §7; after the ESEARCH, as §5.2 has it. */
static void items_of_new_messages_come_unasked(void **state)
{
    struct imap_rig *rig = two(state, 1);
    talk(rig, 0,
         "u UID SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (SUBJECT)])) BODY words\r\n",
         "OK");
    expect(rig, 0, "* ESEARCH (TAG \"u\") UID COUNT 1\r\n");
    append(rig, 1, "INBOX", "Subject: other\r\n\r\nnothing\r\n");
    append(rig, 1, "INBOX", LETTER);
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 0, "n NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"u\") UID ADDTO (0 3:4)\r\n");
    hear(rig, 0, "* 3 FETCH (UID 3 BODY[HEADER.FIELDS (SUBJECT)] {17}\r\n");
    hear(rig, 0, "* 4 FETCH (UID 4 BODY[HEADER.FIELDS (SUBJECT)] {17}\r\n");
    expect_not(rig, 0, "* 2 FETCH");
    talk(rig, 1, "f UID FETCH 3 FLAGS\r\n", "OK"); /* nobody has read it */
    expect(rig, 1, "FLAGS ()");
    talk(rig, 0, "x CANCELUPDATE \"u\"\r\n", "OK");
    talk(rig, 0, "v SORT RETURN (UPDATE (FLAGS)) (REVERSE ARRIVAL) UTF-8 UNFLAGGED\r\n", "OK");
    talk(rig, 1, "g STORE 1 +FLAGS (\\Flagged)\r\n", "OK");
    talk(rig, 0, "o NOOP\r\n", "OK");
    hear(rig, 0, "* ESEARCH (TAG \"v\") REMOVEFROM (1 1)\r\n");
    talk(rig, 1, "h STORE 1 -FLAGS (\\Flagged)\r\n", "OK");
    talk(rig, 0, "p NOOP\r\n", "OK"); /* it is there again, and not new */
    hear(rig, 0, "* ESEARCH (TAG \"v\") ADDTO (1 1)\r\n");
    append(rig, 1, "INBOX", LETTER);
    append(rig, 1, "INBOX", LETTER);
    say(rig, 0, "i IDLE\r\n");
    hear(rig, 0, "* 6 FETCH (FLAGS ())\r\n");
    expect(rig, 0, "* 5 FETCH (FLAGS ())\r\n");
    expect_not(rig, 0, "* 1 FETCH");
    say(rig, 0, "DONE\r\n");
    hear(rig, 0, "i OK");
    talk(rig, 0, "w SEARCH RETURN (UPDATE UPDATE) ALL\r\n", "BAD");
}

static void with_notify_items_follow_the_search(void **state)
{
    struct imap_rig *rig = two(state, 1);
    talk(rig, 0, "u SEARCH RETURN (UPDATE) BODY words\r\n", "OK");
    talk(rig, 0, "n NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    hear(rig, 0, "* 2 FETCH (UID 2)\r\n");
    const char *heard = rig->clients[0].heard;
    const char *exists = strstr(heard, "* 2 EXISTS"), *added = strstr(heard, "ADDTO (0 2)");
    assert_true(exists != NULL && exists < added && added < strstr(heard, "* 2 FETCH"));
    talk(rig, 1, "f STORE 2 +FLAGS (\\Seen)\r\n", "OK");
    hear(rig, 0, "* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n");
}

/* ---- A client that keeps a result up ---- */

struct model {
    const char *tag;
    uint32_t uids[256];
    uint32_t count;
    bool sorted;
};

static int by_uid(const void *left, const void *right)
{
    return (int)*(const uint32_t *)left - (int)*(const uint32_t *)right;
}

/* place: 1 is the first; 0: anywhere. */
static void model_add(struct model *model, uint32_t place, uint32_t uid)
{
    uint32_t at = place == 0 ? model->count : place - 1;
    assert_true(at <= model->count && model->count < 256);
    memmove(&model->uids[at + 1], &model->uids[at], (model->count - at) * sizeof(uid));
    model->uids[at] = uid;
    model->count++;
}

static void model_remove(struct model *model, uint32_t place, uint32_t uid)
{
    uint32_t at = 0;
    while (at < model->count && model->uids[at] != uid) {
        at++;
    }
    assert_true(at < model->count && (place == 0 || place == at + 1));
    model->count--;
    memmove(&model->uids[at], &model->uids[at + 1], (model->count - at) * sizeof(uid));
}

static void set_apply(struct model *model, bool adds, uint32_t place, const char *set)
{
    while (*set >= '0' && *set <= '9') {
        char *end;
        uint32_t first = (uint32_t)strtoul(set, &end, 10);
        uint32_t last = *end == ':' ? (uint32_t)strtoul(end + 1, &end, 10) : first;
        for (uint32_t uid = first; uid <= last; uid++) {
            if (adds) {
                model_add(model, place, uid);
            } else {
                model_remove(model, place, uid);
            }
        }
        set = *end == ',' ? end + 1 : end;
    }
}

/* All that was heard for the model's tag. */
static void heard_apply(struct imap_rig *rig, struct model *model)
{
    char beginning[64];
    snprintf(beginning, sizeof(beginning), "* ESEARCH (TAG \"%s\") UID ", model->tag);
    for (const char *line = rig->clients[0].heard; line != NULL && *line != '\0';) {
        if (strncmp(line, beginning, strlen(beginning)) == 0) {
            const char *rest = line + strlen(beginning);
            bool adds = strncmp(rest, "ADDTO (", 7) == 0;
            if (adds || strncmp(rest, "REMOVEFROM (", 12) == 0) {
                char *set;
                uint32_t place = (uint32_t)strtoul(strchr(rest, '(') + 1, &set, 10);
                set_apply(model, adds, place, set + 1);
            } else if (strncmp(rest, "ALL ", 4) == 0) {
                set_apply(model, true, 0, rest + 4);
            }
        }
        line = strstr(line, "\r\n");
        line = line != NULL ? line + 2 : NULL;
    }
}

static void model_check(struct imap_rig *rig, struct model *model, const char *command)
{
    char text[300];
    struct model now = {.tag = "q"};
    snprintf(text, sizeof(text), "q %s", command);
    talk(rig, 0, text, "OK");
    heard_apply(rig, &now);
    if (!model->sorted) {
        qsort(model->uids, model->count, sizeof(model->uids[0]), by_uid);
    }
    assert_int_equal(model->count, now.count);
    assert_memory_equal(model->uids, now.uids, now.count * sizeof(now.uids[0]));
}

static void something_happens(struct imap_rig *rig)
{
    char text[200];
    uint32_t what = mailstore_rig_below(&rig->store, 6);
    uint32_t first = 1 + mailstore_rig_below(&rig->store, 20);
    uint32_t last = first + mailstore_rig_below(&rig->store, 4);
    switch (what) {
    case 0:
    case 1:
        snprintf(text, sizeof(text), "Subject: %c%u\r\n\r\n%s\r\n", 'a' + (int)(first % 7), last,
                 last % 2 == 0 ? "needle" : "hay");
        append(rig, 1, "INBOX", text);
        return;
    case 2:
        talk(rig, 1, "x EXPUNGE\r\n", "OK");
        return;
    default:
        snprintf(text, sizeof(text), "f UID STORE %u:%u %cFLAGS.SILENT (%s)\r\n", first, last,
                 what == 3 ? '-' : '+', what == 5 && last % 3 == 0 ? "\\Deleted" : "\\Flagged");
        talk(rig, 1, text, "OK");
    }
}

static void a_result_that_is_kept_up_is_what_a_search_finds(void **state)
{
    static const char *const searches[] = {
        "UID SEARCH RETURN (ALL) UNFLAGGED\r\n",
        "UID SEARCH RETURN (ALL) OR BODY needle FLAGGED\r\n",
        "UID SORT RETURN (ALL) (REVERSE SUBJECT) UTF-8 NOT (FLAGGED BODY hay)\r\n",
        "UID SORT RETURN (ALL) (ARRIVAL) UTF-8 UNDELETED\r\n",
    };
    struct model models[4] = {
        {.tag = "m0"}, {.tag = "m1"}, {.tag = "m2", .sorted = true}, {.tag = "m3", .sorted = true}};
    struct imap_rig *rig = two(state, 5);
    for (unsigned i = 0; i < 4; i++) {
        char command[300];
        const char *rest = strstr(searches[i], "(ALL");
        snprintf(command, sizeof(command), "m%u %.*s(UPDATE %s", i, (int)(rest - searches[i]),
                 searches[i], rest + 1);
        talk(rig, 0, command, "OK");
        heard_apply(rig, &models[i]);
    }
    for (unsigned step = 0; step < 120; step++) {
        for (uint32_t i = mailstore_rig_below(&rig->store, 4) + 1; i > 0; i--) {
            something_happens(rig);
        }
        talk(rig, 0, "n NOOP\r\n", "OK");
        rig_rounds(rig, 20);
        for (unsigned i = 0; i < 4; i++) {
            heard_apply(rig, &models[i]);
        }
        for (unsigned i = 0; i < 4; i++) {
            model_check(rig, &models[i], searches[i]);
        }
    }
}

static void a_client_that_goes_while_it_is_judged_leaves_nothing(void **state)
{
    struct imap_rig *rig = two(state, 3);
    for (unsigned rounds = 0; rounds < 4; rounds++) {
        log_in(rig, 2);
        talk(rig, 2, "s SELECT INBOX\r\n", "OK");
        talk(rig, 2, "u SEARCH RETURN (UPDATE) BODY words\r\n", "OK");
        talk(rig, 2, "v SORT RETURN (UPDATE) (SUBJECT) UTF-8 BODY words\r\n", "OK");
        append(rig, 1, "INBOX", LETTER);
        say(rig, 2, "n NOOP\r\n");
        for (unsigned round = 0; round < rounds; round++) {
            mailstore_rig_round(&rig->store);
            shard_round(&rig->shard);
        }
        stream_abort(rig->clients[2].stream);
        stream_release(rig->clients[2].stream);
        rig->clients[2].stream = NULL;
        rig_rounds(rig, 30);
        assert_int_equal(rig->mailbox.counters.sessions, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(what_comes_to_fit_and_what_does_not_any_more_is_told),
        TEST(in_idle_and_with_notify_it_comes_at_once),
        TEST(sorted_results_have_places),
        TEST(updates_are_cancelled_by_tag),
        TEST(there_are_only_so_many),
        TEST(what_was_saved_before_is_searched_on),
        TEST(numbers_stand_for_the_messages_of_then),
        TEST(items_of_new_messages_come_unasked),
        TEST(with_notify_items_follow_the_search),
        TEST(a_result_that_is_kept_up_is_what_a_search_finds),
        TEST(a_client_that_goes_while_it_is_judged_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
