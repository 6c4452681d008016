/* imap_abroad, imap_agent: what a session does with mailboxes whose owner is on another shard; see
 * test_imap_abroad_copy and test_imap_shared, too. */
#include "engine/shard/memory.h"
#include "engine/mailbox/pipe.h"
#include "tests/unit/imap_abroad_scene.h"

/* The linker puts this in place of the heap's (Makefile). */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static int made_left = -1; /* pipes and sessions until one cannot be had; -1: all can */

void *__wrap_calloc(size_t count, size_t size)
{
    bool counts = size == sizeof(struct pipe) || size == sizeof(struct imap_session);
    return counts && made_left >= 0 && made_left-- == 0 ? NULL : __real_calloc(count, size);
}

static void nothing_is_left(struct imap_rig *rig)
{
    rig_rounds(rig, 30);
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        const struct imap_rig *one = imap_shards.rigs[i];
        assert_true(list_empty(&one->mailbox.sessions));
        assert_int_equal(one->mailbox.counters.sessions, 0);
        assert_int_equal(mailstore_counters(one->store.store)->drafts, 0);
        assert_true(crossing_is_quiet(imap_shards.crossings[i]));
    }
}

/* ---- APPEND ---- */

static void several_messages_and_parts_are_appended(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswi");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1,
         "b APPEND shared/alice/work (\\Seen) {4+}\r\na: 1 (Key) \" 1-Feb-2003 04:05:06 +0200\" "
         "~{4+}\r\nb: 2 CATENATE (TEXT {3+}\r\nc:  TEXT {1+}\r\n3 URL "
         "\"/shared/alice/work/;UID=1/;SECTION=TEXT\")\r\n",
         "OK [APPENDUID ");
    expect(rig, 1, " 3:5]");
    expect(rig, 1, "* 5 EXISTS");
    talk(rig, 1, "c FETCH 3:5 (FLAGS INTERNALDATE BODY.PEEK[])\r\n", "OK");
    expect(rig, 1, "BODY[] {4}\r\na: 1)");
    expect(rig, 1, "(Key) INTERNALDATE \" 1-Feb-2003 04:05:06 +0200\" BODY[] {4}\r\nb: 2)");
    expect(rig, 1, "BODY[] {11}\r\nc: 3first\r\n)");
}

static void what_urls_name_is_copied_from_shard_to_shard(void **state)
{
    static const struct {
        const char *url, *text; /* NULL: BADURL */
    } cases[] = {
        {"/INBOX/;UID=1/;SECTION=TEXT", "bob's\r\n"},
        {"/INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=1.3", "ob'"},
        {"/INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=1", "ob's\r\n"},
        {"/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT)", "Subject: his\r\n\r\n"},
        {"/shared/alice/work;UIDVALIDITY=1700000001/;UID=2/;SECTION=TEXT", "second\r\n"},
        {"/shared/alice/work;UIDVALIDITY=7/;UID=2/;SECTION=TEXT", NULL},
        {"/shared/alice/work/;UID=99", NULL},
        {"/shared/alice/work/;UID=1/;SECTION=7", NULL},
        {"/shared/alice/none/;UID=1", NULL},
        {"/shared/nobody/none/;UID=1", NULL},
        {"/none/;UID=1", NULL},
        {"nonsense", NULL},
    };
    struct imap_rig *rig = bob_may_all(state, "lrsi");
    char command[512], expected[128];
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const char *text = cases[i / 2].text;
        const char *target = i % 2 ? "shared/alice/work" : "INBOX";
        snprintf(command, sizeof(command),
                 "a APPEND %s CATENATE (TEXT {2+}\r\n[[ URL \"%s\" TEXT {2+}\r\n]])\r\n", target,
                 cases[i / 2].url);
        talk(rig, 1, command, text != NULL ? "OK [APPENDUID" : "NO [BADURL ");
        snprintf(command, sizeof(command), "b EXAMINE %s\r\n", target);
        talk(rig, 1, command, "OK");
        talk(rig, 1, "c FETCH * BODY.PEEK[]\r\n", "OK");
        snprintf(expected, sizeof(expected), "[[%s]])\r\n", text != NULL ? text : "");
        if (text != NULL) {
            expect(rig, 1, expected);
        }
    }
    assert_int_equal(sessions_on(0), 2); /* alice's, and the agent of the selected mailbox */
    talk(rig, 1, "d SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "e APPEND INBOX CATENATE (URL \";UID=1/;SECTION=TEXT\")\r\n", "OK");
    talk(rig, 1, "f SELECT INBOX\r\n", "OK");
    talk(rig, 1, "g APPEND shared/alice/work CATENATE (URL \";UID=1/;SECTION=TEXT\")\r\n", "OK");
    talk(rig, 1, "h APPEND shared/alice/work CATENATE (URL \"none/;UID=1\" TEXT {4}\r\n",
         "NO [BADURL none/;UID=1]");
    talk(rig, 0, "i SELECT work\r\n", "OK");
    talk(rig, 0, "j FETCH * BODY.PEEK[]\r\n", "OK");
    expect(rig, 0, "BODY[] {7}\r\nbob's\r\n)");
}

/* A few words of the client's would have the disk of the other shard written full before the end of the command refuses them. */
static void what_urls_bring_to_another_shard_is_not_written_beyond_the_quota(void **state)
{
    enum { SIZE = 200000, QUOTA = 300000, URLS = 8 };
    struct imap_rig *rig = bob_may_all(state, "lrswi");
    const struct mailstore_counters *there = mailstore_counters(imap_shards.rigs[0]->store.store);
    char *text = (char *)malloc(SIZE + 1), command[2000];
    check(text != NULL);
    memset(text, 'x', SIZE);
    text[SIZE] = '\0';
    append(rig, 1, "INBOX", text);
    size_t size = (size_t)sprintf(command, "a APPEND shared/alice/work CATENATE (");
    for (unsigned i = 0; i < URLS; i++) {
        size += (size_t)sprintf(command + size, "%sURL \"/INBOX/;UID=2\"", i > 0 ? " " : "");
    }
    sprintf(command + size, ")\r\n");
    rig->conf->users.quota_bytes = QUOTA;
    uint64_t before = there->bytes_in;
    talk(rig, 1, command, "NO [OVERQUOTA]");
    assert_true(there->bytes_in - before <= QUOTA);
    assert_int_equal(there->drafts, 0);
    rig->conf->users.quota_bytes = SIZE * (URLS + 1);
    talk(rig, 1, command, "OK [APPENDUID ");
    talk(rig, 1, "b NOOP\r\n", "OK");
    rig->conf->users.quota_bytes = 0;
    free(text);
}

static void a_message_that_is_not_taken_is_not_sent(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lr");
    talk(rig, 1, "a APPEND shared/alice/work {4}\r\n", "NO [NOPERM]");
    talk(rig, 1, "b APPEND shared/alice/none {4}\r\n", "NO [TRYCREATE]");
    talk(rig, 1, "c APPEND shared/nobody/none {4}\r\n", "NO [TRYCREATE]");
    talk(rig, 1, "d APPEND shared/alice/work {4+}\r\na: b\r\n", "NO [NOPERM]");
    talk(rig, 1, "e NOOP\r\n", "OK");
}

static void an_append_that_goes_wrong_leaves_nothing(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lri");
    talk(rig, 1, "a APPEND shared/alice/work {4+}\r\na: b)\r\n", "BAD");
    talk(rig, 1, "b APPEND shared/alice/work {4+}\r\na: b {4+}\r\na: b (\r\n", "BAD");
    static const char nul[] = "c APPEND shared/alice/work {4+}\r\na\0 b\r\n";
    say_bytes(rig, 1, slice_of(nul, sizeof(nul) - 1));
    hear(rig, 1, "c BAD");
    talk(rig, 1, "d STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 2)");
    rig_rounds(rig, 10);
    assert_int_equal(mailstore_counters(imap_shards.rigs[0]->store.store)->drafts, 0);
    assert_int_equal(sessions_on(0), 1);
}

static void a_large_message_goes_there_and_comes_back(void **state)
{
    enum { LINES = 20000, LINE = 50 };
    struct imap_rig *rig = bob_may_all(state, "lrsi");
    size_t size = (size_t)LINES * LINE;
    char *text = (char *)malloc(size + 1);
    check(text != NULL);
    for (size_t i = 0; i < LINES; i++) {
        snprintf(text + i * LINE, LINE + 1, "%-48zu\r\n", i);
    }
    char command[80];
    snprintf(command, sizeof(command), "a APPEND shared/alice/work {%zu+}\r\n", size);
    say(rig, 1, command);
    say(rig, 1, text);
    say(rig, 1, "\r\n");
    hear(rig, 1, "a OK [APPENDUID ");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    rig->clients[1].deaf = true;
    say(rig, 1, "b FETCH 3 BODY.PEEK[]\r\n");
    rig_rounds(rig, 50);
    rig->clients[1].deaf = false;
    rig_hear(rig->clients[1].stream, 0, &rig->clients[1]);
    hear(rig, 1, "b OK");
    const char *begin = strstr(rig->clients[1].heard, "}\r\n");
    assert_non_null(begin);
    assert_memory_equal(begin + 3, text, size);
    talk(rig, 1, "c COPY 3 INBOX\r\n", "OK [COPYUID");
    talk(rig, 1, "d SELECT INBOX\r\n", "OK");
    talk(rig, 1, "e FETCH 2 BODY.PEEK[]\r\n", "OK");
    assert_memory_equal(strstr(rig->clients[1].heard, "}\r\n") + 3, text, size);
    free(text);
}

static void a_message_is_replaced_on_another_shard(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b UID REPLACE 1 shared/alice/work (\\Seen) {4+}\r\na: b\r\n", "OK");
    expect(rig, 1, "* OK [APPENDUID ");
    expect(rig, 1, " 3] Replaced\r\n");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
    say(rig, 1, "c REPLACE * shared/alice/work {4}\r\n");
    hear(rig, 1, "+ ");
    say(rig, 1, "c: d\r\n");
    hear(rig, 1, "c OK");
    talk(rig, 1, "d FETCH 1:* (UID BODY.PEEK[])\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (UID 2 ");
    expect(rig, 1, "* 2 FETCH (UID 4 BODY[] {4}\r\nc: d)");
    expect_not(rig, 1, "* 3 ");
    talk(rig, 1, "e REPLACE 9 shared/alice/work {4+}\r\na: b\r\n", "BAD");
    talk(rig, 1, "f UID REPLACE 9 shared/alice/work {4+}\r\na: b\r\n", "NO [EXPUNGEISSUED]");
    talk(rig, 1, "g REPLACE 1 INBOX {4+}\r\na: b\r\n", "NO [CANNOT]");
    talk(rig, 1, "h NOOP\r\n", "OK");
    talk(rig, 1, "i REPLACE 1 shared/alice/work {4+}\r\na: b)\r\n", "BAD");
    hear(rig, 1, "* BYE [UNAVAILABLE]");
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "a SELECT INBOX\r\n", "OK");
    talk(rig, 2, "b REPLACE 1 shared/alice/work {4+}\r\na: b\r\n", "NO [CANNOT]");
    talk(rig, 2, "c STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 2, "(MESSAGES 2)");
}

static void mod_sequences_are_told_once_they_are_wanted_anywhere(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrsw");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    expect_not(rig, 1, "MODSEQ");
    talk(rig, 1, "c STATUS INBOX (HIGHESTMODSEQ)\r\n", "OK");
    talk(rig, 1, "d STORE 1 +FLAGS (\\Flagged)\r\n", "OK");
    expect(rig, 1, "* OK [HIGHESTMODSEQ ");
    expect(rig, 1, "MODSEQ (");
    talk(rig, 0, "e SELECT work\r\n", "OK");
    talk(rig, 0, "f STORE 2 +FLAGS (\\Seen)\r\n", "OK");
    talk(rig, 1, "g NOOP\r\n", "OK");
    expect(rig, 1, "* 2 FETCH (");
    expect(rig, 1, "MODSEQ (");
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 2, "b FETCH 1 (MODSEQ)\r\n", "OK");
    expect(rig, 2, "* OK [HIGHESTMODSEQ ");
    talk(rig, 2, "c STORE 1 -FLAGS (\\Seen)\r\n", "OK");
    expect(rig, 2, "MODSEQ (");
}

static void what_is_enabled_is_enabled_there(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    talk(rig, 0, "a CREATE work/&AOQ-\r\n", "OK");
    talk(rig, 0, "b SETACL work/&AOQ- bob lr\r\n", "OK");
    talk(rig, 1, "c LIST \"\" shared/*\r\n", "OK");
    expect(rig, 1, "shared/alice/work/&AOQ-\r\n");
    talk(rig, 1, "d STATUS shared/alice/work/&AOQ- (MESSAGES)\r\n", "OK");
    talk(rig, 1, "e ENABLE QRESYNC UTF8=ACCEPT\r\n", "OK");
    talk(rig, 1, "f LIST \"\" shared/* RETURN (STATUS (MESSAGES))\r\n", "OK");
    expect(rig, 1, "* STATUS \"shared/alice/work/\xc3\xa4\" (MESSAGES 0)\r\n");
    talk(rig, 1, "g SELECT \"shared/alice/work/\xc3\xa4\"\r\n", "OK");
    talk(rig, 1, "h SELECT shared/alice/work (QRESYNC (1700000001 1))\r\n", "OK");
    expect(rig, 1, "MODSEQ (");
    talk(rig, 1, "i STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 1, "j EXPUNGE\r\n", "OK [HIGHESTMODSEQ ");
    expect(rig, 1, "* VANISHED 1\r\n");
}

/* ---- Ends ---- */

static void a_session_that_ends_takes_its_agents_with_it(void **state)
{
    static const char *const begun[] = {
        "s SELECT shared/alice/work\r\ni IDLE\r\n",
        "s SELECT shared/alice/work\r\n",
        "s SELECT shared/alice/work\r\nf FETCH 1:* BODY[]\r\n",
        "s APPEND shared/alice/work {100+}\r\nabc",
        "s LIST \"\" *\r\n",
        "s SELECT INBOX\r\nc MOVE 1 shared/alice/work\r\n",
        "s SELECT shared/alice/work\r\nc COPY 1:* INBOX\r\n",
        "s STATUS shared/alice/work (MESSAGES)\r\n",
        "s APPEND INBOX CATENATE (URL \"/shared/alice/work/;UID=1\")\r\n",
    };
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    for (unsigned i = 0; i < 9 * 12; i++) {
        log_in_as(rig, 2, "bob");
        say(rig, 2, begun[i % 9]);
        rig_rounds(rig, i / 9);
        stream_abort(rig->clients[2].stream);
        stream_release(rig->clients[2].stream);
        rig->clients[2].stream = NULL;
        rig_rounds(rig, 20);
        assert_int_equal(sessions_on(0), 1);
        assert_int_equal(sessions_on(1), 1);
    }
    talk(rig, 0, "o LOGOUT\r\n", "OK");
    talk(rig, 1, "o LOGOUT\r\n", "OK");
    nothing_is_left(rig);
}

static void a_user_who_logs_out_leaves_nothing(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    assert_int_equal(sessions_on(0), 2);
    assert_int_equal(rig->mailbox.counters.sessions, 1); /* an agent is nobody's session */
    talk(rig, 1, "b UNSELECT\r\n", "OK");
    rig_rounds(rig, 5);
    assert_int_equal(sessions_on(0), 1);
    talk(rig, 1, "c EXAMINE shared/alice/work\r\n", "OK");
    talk(rig, 1, "d SELECT shared/alice/work\r\n", "OK");
    const char *closed = strstr(rig->clients[1].heard, "[CLOSED]");
    assert_non_null(closed);
    assert_null(strstr(closed + 1, "[CLOSED]"));
    talk(rig, 1, "e SELECT INBOX\r\n", "OK");
    talk(rig, 1, "f SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "g UNAUTHENTICATE\r\n", "OK");
    talk(rig, 1, "h LOGOUT\r\n", "OK");
    talk(rig, 0, "o LOGOUT\r\n", "OK");
    nothing_is_left(rig);
}

static void who_loses_his_agent_is_told(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    agents_abort(0);
    hear(rig, 1, "* BYE [UNAVAILABLE]");
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "b SELECT shared/alice/work\r\n", "OK");
    say(rig, 2, "c IDLE\r\n");
    hear(rig, 2, "+ ");
    agents_abort(0);
    hear(rig, 2, "* BYE [UNAVAILABLE]");
}

static void a_message_whose_agent_ends_is_refused(void **state)
{
    enum { SIZE = 400000 };
    struct imap_rig *rig = bob_may_all(state, "lri");
    char *text = (char *)malloc(SIZE + 3);
    check(text != NULL);
    memset(text, 'x', SIZE);
    strcpy(text + SIZE, "\r\n");
    for (unsigned rounds = 0; rounds < 12; rounds++) {
        say(rig, 1, "a APPEND shared/alice/work {400000+}\r\nxxx");
        while (sessions_on(0) < 2) { /* until the agent is there */
            rig_round(rig);
        }
        rig_rounds(rig, rounds);
        agents_abort(0);
        say(rig, 1, text + 3);
        hear(rig, 1, "a NO [UNAVAILABLE]");
        talk(rig, 1, "b NOOP\r\n", "OK");
    }
    free(text);
    rig_rounds(rig, 20);
    assert_int_equal(sessions_on(0), 1);
    assert_int_equal(mailstore_counters(imap_shards.rigs[0]->store.store)->drafts, 0);
}

static void a_shard_that_has_ended_is_told_of(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    rig->mailbox.left = true;
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "NO [UNAVAILABLE]");
    talk(rig, 1, "b STATUS shared/alice/work (MESSAGES)\r\n", "NO [UNAVAILABLE]");
    talk(rig, 1, "c APPEND shared/alice/work {4}\r\n", "NO [UNAVAILABLE]");
    talk(rig, 1, "d LIST \"\" *\r\n", "OK");
    expect(rig, 1, "* NO [UNAVAILABLE]");
    expect(rig, 1, "INBOX");
    talk(rig, 1, "e SELECT INBOX\r\n", "OK");
    talk(rig, 1, "f MOVE 1 shared/alice/work\r\n", "NO [UNAVAILABLE]");
    talk(rig, 1, "g FETCH 1 FLAGS\r\n", "OK");
    rig->mailbox.left = false;
    talk(rig, 1, "h MOVE 1 shared/alice/work\r\n", "OK");
}

/* Each is answered, or ends the session, and what fails leaves nothing. */
static void whatever_memory_is_missing_the_client_is_answered(void **state)
{
    static const char *const commands[] = {
        "x SELECT shared/alice/work\r\n",
        "x STATUS shared/alice/work (MESSAGES)\r\n",
        "x LIST \"\" * RETURN (STATUS (MESSAGES) MYRIGHTS)\r\n",
        "x APPEND shared/alice/work (\\Seen Key) {4+}\r\na: b\r\n",
        "x COPY 1 shared/alice/work\r\n",
        "x MOVE 1 shared/alice/work\r\n",
    };
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    for (unsigned i = 0; i < 6 * 5; i++) {
        append(rig, 1, "INBOX", "a: b\r\n\r\nc\r\n");
        log_in_as(rig, 2, "bob");
        talk(rig, 2, "s SELECT INBOX\r\n", "OK");
        made_left = (int)i / 6;
        say(rig, 2, commands[i % 6]);
        rig_rounds(rig, 40);
        made_left = -1;
        rig_rounds(rig, 40);
        hear(rig, 2, i < 6 ? "x NO [UNAVAILABLE]" : "x ");
        talk(rig, 2, "n NOOP\r\n", "OK");
        talk(rig, 2, "o LOGOUT\r\n", "OK");
        stream_release(rig->clients[2].stream);
        rig->clients[2].stream = NULL;
        rig_rounds(rig, 20);
        assert_int_equal(sessions_on(0), 1);
        assert_int_equal(sessions_on(1), 1);
    }
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, imap_shards_set_up, imap_shards_tear_down)
    const struct CMUnitTest tests[] = {
        SCENE(several_messages_and_parts_are_appended),
        SCENE(what_urls_name_is_copied_from_shard_to_shard),
        SCENE(what_urls_bring_to_another_shard_is_not_written_beyond_the_quota),
        SCENE(a_message_that_is_not_taken_is_not_sent),
        SCENE(an_append_that_goes_wrong_leaves_nothing),
        SCENE(a_large_message_goes_there_and_comes_back),
        SCENE(a_message_is_replaced_on_another_shard),
        SCENE(mod_sequences_are_told_once_they_are_wanted_anywhere),
        SCENE(what_is_enabled_is_enabled_there),
        SCENE(a_session_that_ends_takes_its_agents_with_it),
        SCENE(a_user_who_logs_out_leaves_nothing),
        SCENE(who_loses_his_agent_is_told),
        SCENE(a_message_whose_agent_ends_is_refused),
        SCENE(a_shard_that_has_ended_is_told_of),
        SCENE(whatever_memory_is_missing_the_client_is_answered),
    };
    const struct memory_settings memory = {.program = "test_imap_abroad", .megabytes = 64};
    check(memory_start(&memory) == 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memory_stop();
    return failed;
}
