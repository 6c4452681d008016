/* SEARCH, SORT and THREAD in a mailbox of many: whole answers, and others have their turn while they are made. */
#include "tests/unit/imap_rig.h"

#define MANY 25000u
#define BATCH 1000u
#define LETTER_BYTES 100u

/* Message n: its subject is one of MANY / 5, its date goes down as n goes up; each but a hundred answers the one before. */
static size_t letter(uint32_t n, char *to)
{
    char text[LETTER_BYTES];
    uint32_t day = (MANY - n) % 28 + 1, month = (MANY - n) / 28 % 12;
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int size = snprintf(text, sizeof(text), "Date: %u %s %u 00:00:00 +0000\r\nSubject: %05u\r\n",
                        day, months[month], 1970 + (MANY - n) / 28 / 12, n * 7919 % (MANY / 5));
    size += snprintf(text + size, sizeof(text) - (size_t)size,
                     n % 250 == 0 ? "Message-ID: <%u>\r\n\r\n"
                                  : "Message-ID: <%u>\r\nReferences: <%u>\r\n\r\n",
                     n, n - 1);
    check(size < (int)sizeof(text));
    return (size_t)sprintf(to, " {%d+}\r\n%s", size, text);
}

static struct imap_rig *filled(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char *command = (char *)malloc(BATCH * (LETTER_BYTES + 20) + 100);
    log_in(rig, 0);
    log_in(rig, 1);
    for (uint32_t n = 0; n < MANY; n += BATCH) {
        size_t size = (size_t)sprintf(command, "a APPEND INBOX");
        for (uint32_t i = 0; i < BATCH; i++) {
            size += letter(n + i, command + size);
        }
        strcpy(command + size, "\r\n");
        talk(rig, 0, command, "OK");
    }
    free(command);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return rig;
}

/* Behind "* WORD": `count` numbers, each of them once. */
static uint32_t *numbers_of(struct imap_rig *rig, const char *beginning, uint32_t count)
{
    char *at = strstr(rig->clients[0].heard, beginning);
    uint32_t *numbers = (uint32_t *)calloc(count, sizeof(*numbers));
    uint8_t *seen = (uint8_t *)calloc(MANY + 1, 1);
    assert_non_null(at);
    at += strlen(beginning);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(*at, ' ');
        numbers[i] = (uint32_t)strtoul(at + 1, &at, 10);
        assert_in_range(numbers[i], 1, MANY);
        assert_false(seen[numbers[i]]);
        seen[numbers[i]] = 1;
    }
    assert_int_equal(strncmp(at, "\r\n", 2), 0);
    free(seen);
    return numbers;
}

static uint32_t subject_of(uint32_t number)
{
    return (number - 1) * 7919 % (MANY / 5);
}

static void answers_of_many_numbers_are_whole(void **state)
{
    struct imap_rig *rig = filled(state);
    char line[100];
    talk(rig, 0, "a SEARCH ALL\r\n", "OK");
    uint32_t *numbers = numbers_of(rig, "* SEARCH", MANY);
    assert_true(numbers[0] == 1 && numbers[MANY - 1] == MANY);
    free(numbers);
    talk(rig, 0, "b SORT (DATE) UTF-8 ALL\r\n", "OK");
    numbers = numbers_of(rig, "* SORT", MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(numbers[i], MANY - i);
    }
    free(numbers);
    talk(rig, 0, "c SORT (REVERSE SUBJECT) UTF-8 ALL\r\n", "OK");
    numbers = numbers_of(rig, "* SORT", MANY);
    for (uint32_t i = 1; i < MANY; i++) {
        uint32_t before = subject_of(numbers[i - 1]), now = subject_of(numbers[i]);
        assert_true(before > now || (before == now && numbers[i - 1] < numbers[i]));
    }
    free(numbers);
    talk(rig, 0, "d SEARCH RETURN (MIN MAX COUNT ALL SAVE) ALL\r\n", "OK");
    snprintf(line, sizeof(line), "* ESEARCH (TAG \"d\") MIN 1 MAX %u COUNT %u ALL 1:%u\r\n", MANY,
             MANY, MANY);
    expect(rig, 0, line);
    talk(rig, 0, "e SEARCH RETURN (COUNT) $\r\n", "OK");
    snprintf(line, sizeof(line), "* ESEARCH (TAG \"e\") COUNT %u\r\n", MANY);
    expect(rig, 0, line);
    talk(rig, 0, "f SEARCH RETURN (PARTIAL -1:-24000) ALL\r\n", "OK");
    snprintf(line, sizeof(line), "* ESEARCH (TAG \"f\") PARTIAL (-1:-24000 1001:%u)\r\n", MANY);
    expect(rig, 0, line);
}

/* No two next to each other: each is a range of its own. */
static void sets_of_many_ranges_are_whole(void **state)
{
    static const struct {
        const char *returns, *beginning, *end;
        unsigned commas;
    } cases[] = {{"COUNT ALL", " COUNT 25000 ALL ", "\r\n", MANY - 1},
                 {"PARTIAL 2:24001", " PARTIAL (2:24001 ", ")\r\n", 23999}};
    struct imap_rig *rig = filled(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[100];
        unsigned commas = 0;
        snprintf(command, sizeof(command), "s SORT RETURN (%s) (SUBJECT) UTF-8 ALL\r\n",
                 cases[i].returns);
        talk(rig, 0, command, "OK");
        const char *at = strstr(rig->clients[0].heard, cases[i].beginning);
        assert_non_null(at);
        for (at += strlen(cases[i].beginning); *at == ',' || (*at >= '0' && *at <= '9'); at++) {
            commas += *at == ',';
        }
        assert_int_equal(commas, cases[i].commas);
        assert_int_equal(strncmp(at, cases[i].end, strlen(cases[i].end)), 0);
    }
}

static void threads_of_many_are_whole(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "t THREAD REFERENCES UTF-8 ALL\r\n", "OK");
    const char *at = strstr(rig->clients[0].heard, "* THREAD (");
    uint32_t numbers = 0;
    int depth = 0;
    assert_non_null(at);
    for (at += 9; *at != '\r'; at++) {
        bool digit = *at >= '0' && *at <= '9';
        depth += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        numbers += digit && (at[1] < '0' || at[1] > '9');
        assert_true(depth >= 0);
    }
    assert_int_equal(numbers, MANY);
    assert_int_equal(depth, 0);
}

/* Rounds of the shard one by one: another session's NOOP is answered long before. */
static void others_have_their_turn_meanwhile(void **state)
{
    static const struct {
        const char *command;
        unsigned answers; /* at least: of rounds that judge some, put some in order, write some */
    } cases[] = {{"q SEARCH ALL\r\n", 7},
                 {"q SORT (REVERSE ARRIVAL) UTF-8 ALL\r\n", 25},
                 {"q SORT (SUBJECT) UTF-8 ALL\r\n", 800},
                 {"q THREAD REFERENCES UTF-8 ALL\r\n", 800}};
    struct imap_rig *rig = filled(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned answered = 0, rounds = 0;
        say(rig, 0, cases[i].command);
        say(rig, 1, "n NOOP\r\n");
        for (bool done = false; !done; rounds++) {
            const struct imap_client *client = &rig->clients[0];
            mailstore_rig_round(&rig->store);
            shard_round(&rig->shard);
            if (rig->clients[1].heard_bytes > 0) {
                answered++;
                say(rig, 1, "n NOOP\r\n");
            }
            size_t tail = client->heard_bytes < 60 ? client->heard_bytes : 60;
            done = memmem(client->heard + client->heard_bytes - tail, tail, "q OK ", 5) != NULL;
            assert_true(rounds < 20000);
        }
        assert_true(answered >= cases[i].answers);
        hear(rig, 1, "n OK");
    }
}

/* It is not loaded any more; nobody has it open. */
static void unload_named(struct imap_rig *rig, const char *name)
{
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(rig->store.store, slice_text("alice"), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text(name));
    assert_non_null(box);
    assert_int_equal(box->open_count, 0);
    box_unload(box_private(box));
    mailstore_user_close(rig->store.store, user);
}

static void unload(struct imap_rig *rig)
{
    talk(rig, 0, "u UNSELECT\r\n", "OK");
    unload_named(rig, "INBOX");
}

static void a_select_of_many_loads_them_over_rounds_and_says_the_same(void **state)
{
    struct imap_rig *rig = filled(state);
    bool done = false;
    unsigned answered = 0;
    talk(rig, 0, "u UNSELECT\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    char *before = strdup(rig->clients[0].heard);
    unload(rig);
    say(rig, 0, "s SELECT INBOX\r\n");
    say(rig, 1, "n NOOP\r\n");
    for (unsigned rounds = 0; !done; rounds++) {
        assert_true(rounds < 100);
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
        done = strstr(rig->clients[0].heard, "s OK ") != NULL;
        if (rig->clients[1].heard_bytes > 0 && !done) {
            answered++;
            say(rig, 1, "n NOOP\r\n");
        }
    }
    assert_true(answered > 0);
    assert_string_equal(rig->clients[0].heard, before);
    free(before);
    hear(rig, 1, "n OK");
    talk(rig, 0, "f FETCH 25000 (UID)\r\n", "OK");
    expect(rig, 0, "* 25000 FETCH (UID 25000)\r\n");
}

static void a_client_that_goes_while_its_mailbox_is_loaded_leaves_nothing(void **state)
{
    struct imap_rig *rig = filled(state);
    unload(rig);
    say(rig, 0, "s SELECT INBOX\r\n");
    mailstore_rig_round(&rig->store);
    shard_round(&rig->shard);
    assert_null(strstr(rig->clients[0].heard, "s OK "));
    stream_abort(rig->clients[0].stream);
    stream_release(rig->clients[0].stream);
    rig->clients[0].stream = NULL;
    rig_rounds(rig, 20);
    assert_int_equal(rig->mailbox.counters.sessions, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    expect(rig, 1, "* 25000 EXISTS\r\n");
}

/* Another session does this between the pieces of a SELECT of "big". */
static void select_meanwhile(struct imap_rig *rig, const char *select, const char *meanwhile)
{
    bool answered = false, done = false;
    unload_named(rig, "big");
    say(rig, 0, select);
    mailstore_rig_round(&rig->store);
    shard_round(&rig->shard);
    say(rig, 1, meanwhile);
    for (unsigned rounds = 0; !answered || !done; rounds++) {
        assert_true(rounds < 100);
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
        done = strstr(rig->clients[1].heard, "m OK ") != NULL;
        answered = strstr(rig->clients[0].heard, "s OK ") != NULL ||
                   strstr(rig->clients[0].heard, "s NO ") != NULL;
        assert_true(done || strstr(rig->clients[0].heard, "s OK ") == NULL);
    }
}

/* What is told is what there is when it is loaded, or that there is none. */
static void what_becomes_of_a_mailbox_while_it_is_loaded_is_told(void **state)
{
    struct imap_rig *rig = filled(state);
    talk(rig, 0, "c CREATE big\r\n", "OK");
    for (unsigned i = 0; i < 4; i++) { /* so many that a change is done before all are loaded */
        talk(rig, 0, "c COPY 1:* big\r\n", "OK");
    }
    talk(rig, 0, "c UNSELECT\r\n", "OK");
    talk(rig, 0, "c ENABLE QRESYNC\r\n", "OK");
    select_meanwhile(rig, "s SELECT big (QRESYNC (1 1))\r\n", "m APPEND big {5+}\r\nA: b\n\r\n");
    expect(rig, 0, "* 100001 EXISTS\r\n");
    expect(rig, 0, "s OK ");
    talk(rig, 0, "u UNSELECT\r\n", "OK");
    select_meanwhile(rig, "s SELECT big\r\n", "m RENAME big other\r\n");
    expect(rig, 0, "s NO ");
    talk(rig, 1, "m RENAME other big\r\n", "OK");
    select_meanwhile(rig, "s EXAMINE big\r\n", "m DELETE big\r\n");
    expect(rig, 0, "s NO ");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
}

static void catenate_from_a_mailbox_of_many_loads_it_first(void **state)
{
    struct imap_rig *rig = filled(state);
    unload(rig);
    talk(rig, 0, "c APPEND INBOX CATENATE (URL \"/INBOX/;UID=25000\")\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    expect(rig, 0, "* 25001 EXISTS\r\n");
    unload(rig);
    talk(rig, 0, "c APPEND INBOX CATENATE (URL \"/INBOX/;UID=25002\")\r\n", "NO [BADURL");
    expect(rig, 0, "No such message");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    unload(rig);
    talk(rig, 0, "c APPEND INBOX CATENATE (URL \"/INBOX/;UID=25000/;SECTION=9\")\r\n",
         "NO [BADURL");
    expect(rig, 0, "The message has no such part");
}

/* A client that does not read costs what its outbox may hold, not its answer. */
static void an_answer_that_is_not_read_is_not_made(void **state)
{
    struct imap_rig *rig = filled(state);
    size_t most = 0;
    rig->clients[0].deaf = rig->clients[1].deaf = true;
    say(rig, 0, "q SORT (REVERSE ARRIVAL) UTF-8 ALL\r\n");
    rig_rounds(rig, 200);
    for (struct list_node *node = rig->mailbox.sessions.next; node != &rig->mailbox.sessions;
         node = node->next) {
        const struct imap_session *one =
            (const struct imap_session *)list_entry(node, struct session, node);
        most = one->outbox.bytes > most ? one->outbox.bytes : most;
    }
    assert_in_range(most, 0, 128 * 1024);
    rig->clients[0].deaf = rig->clients[1].deaf = false;
    rig_hear(rig->clients[0].stream, 0, &rig->clients[0]);
    hear(rig, 0, "q OK ");
    free(numbers_of(rig, "* SORT", MANY));
}

static uint64_t fetched(const struct imap_rig *rig)
{
    return mailstore_counters(rig->store.store)->fetches;
}

/* What is in the log's memory need not be read: the first messages are not, of so many. */
static void while_a_search_waits_for_a_text_the_next_ones_are_read_too(void **state)
{
    struct imap_rig *rig = filled(state);
    uint64_t before = fetched(rig);
    disk_fault_hold(rig->store.rig.fault, true);
    say(rig, 0, "q SEARCH 1:4000 BODY nothing\r\n");
    rig_rounds(rig, 20);
    assert_in_range(fetched(rig) - before, 10, 40);
    disk_fault_hold(rig->store.rig.fault, false);
    hear(rig, 0, "q OK ");
    expect(rig, 0, "* SEARCH\r\n");
    /* Of what is not looked at nothing is read. */
    before = fetched(rig);
    disk_fault_hold(rig->store.rig.fault, true);
    say(rig, 0, "q SEARCH 3,4000 BODY nothing\r\n");
    rig_rounds(rig, 20);
    assert_in_range(fetched(rig) - before, 0, 2);
    disk_fault_hold(rig->store.rig.fault, false);
    hear(rig, 0, "q OK ");
}

static void a_client_that_goes_while_texts_are_read_ahead_leaves_nothing(void **state)
{
    struct imap_rig *rig = filled(state);
    disk_fault_hold(rig->store.rig.fault, true);
    say(rig, 0, "q SORT (SUBJECT) UTF-8 1:4000\r\n");
    rig_rounds(rig, 20);
    stream_abort(rig->clients[0].stream);
    stream_release(rig->clients[0].stream);
    rig->clients[0].stream = NULL;
    rig_rounds(rig, 20);
    assert_int_equal(rig->mailbox.counters.sessions, 1);
    disk_fault_hold(rig->store.rig.fault, false);
    rig_rounds(rig, 20);
    talk(rig, 1, "n NOOP\r\n", "OK");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, imap_rig_open, imap_rig_close)
    const struct CMUnitTest tests[] = {
        TEST(answers_of_many_numbers_are_whole),
        TEST(sets_of_many_ranges_are_whole),
        TEST(threads_of_many_are_whole),
        TEST(others_have_their_turn_meanwhile),
        TEST(a_select_of_many_loads_them_over_rounds_and_says_the_same),
        TEST(a_client_that_goes_while_its_mailbox_is_loaded_leaves_nothing),
        TEST(what_becomes_of_a_mailbox_while_it_is_loaded_is_told),
        TEST(catenate_from_a_mailbox_of_many_loads_it_first),
        TEST(an_answer_that_is_not_read_is_not_made),
        TEST(while_a_search_waits_for_a_text_the_next_ones_are_read_too),
        TEST(a_client_that_goes_while_texts_are_read_ahead_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
