/* What the operator asks of a mailbox service of two shards. */
#include "tests/unit/control_pair.h"

static long long number_in(const char *heard, const char *group, const char *key)
{
    json_t *json = json_loadb(heard, strcspn(heard, "\n"), 0, NULL);
    const json_t *numbers = json_object_get(json, "counters");
    numbers = strcmp(group, "gauges") == 0 ? json_object_get(json, group)
                                           : json_object_get(numbers, group);
    long long number = json_is_integer(json_object_get(numbers, key))
                           ? (long long)json_integer_value(json_object_get(numbers, key))
                           : -1;
    json_decref(json);
    return number;
}

static void status_is_the_sum_of_all_shards(void **state)
{
    struct pair *pair = (struct pair *)*state;
    for (unsigned i = 0; i < SHARDS; i++) {
        log_in_as(pair->rigs[i], 0, user_on(pair, i));
        append(pair->rigs[i], 0, "INBOX", "Subject: one\r\n\r\n");
    }
    pair->rigs[0]->shard.counters.poll_gap_ns_max = 70000000;
    pair->rigs[1]->shard.counters.poll_gap_ns_max = 90000000;
    const char *heard = ask(pair, "status");
    assert_non_null(strstr(heard, "\"shards\":2,"));
    assert_int_equal(number_in(heard, "imap", "logins"), 2);
    assert_int_equal(number_in(heard, "imap", "commands"), 4);
    assert_int_equal(number_in(heard, "store", "texts_committed"), 2);
    assert_int_equal(number_in(heard, "gauges", "sessions_imap"), 2);
    assert_int_equal(number_in(heard, "gauges", "poll_gap_us_max"), 90000);
}

/* ---- who, kick ---- */

static void nobody_hears(struct stream *stream, uint32_t events, void *owner)
{
    (void)stream;
    (void)events;
    (void)owner;
}

static void sessions_are_told_in_order_of_their_numbers_and_once(void **state)
{
    enum { EACH = 550 };
    struct pair *pair = (struct pair *)*state;
    static const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    static struct stream *streams[SHARDS][EACH];
    long long cursor = 0, last = 0;
    unsigned pages = 0, told = 0;
    for (unsigned s = 0; s < SHARDS; s++) {
        struct network *network = pair->rigs[s]->network;
        pair->rigs[s]->conf->limits.connections = SHARDS * EACH;
        for (unsigned i = 0; i < EACH; i++) {
            check(network->ops->connect(network, &request, &streams[s][i]) == 0);
            streams[s][i]->notify = nobody_hears;
            rig_round(pair->rigs[s]);
        }
        /* As if it had come from another shard: it stands behind younger ones. */
        struct list_node *sessions = &pair->rigs[s]->mailbox.sessions, *oldest = sessions->next;
        list_remove(oldest);
        list_append(sessions, oldest);
    }
    do {
        char words[64];
        snprintf(words, sizeof words, "mailbox who cursor=%lld", cursor);
        const char *line = ask(pair, words);
        cursor = 0;
        for (; *line != '\0'; line = strchr(line, '\n') + 1) {
            json_t *json = json_loadb(line, strcspn(line, "\n"), 0, NULL);
            json_t *number = json_object_get(json, "session");
            if (number != NULL) {
                assert_true(json_integer_value(number) > last);
                last = (long long)json_integer_value(number);
                told++;
            }
            cursor = (long long)json_integer_value(json_object_get(json, "next"));
            json_decref(json);
        }
        pages++;
    } while (cursor != 0);
    assert_int_equal(told, SHARDS * EACH);
    assert_int_equal(pages, 3);
    for (unsigned s = 0; s < SHARDS; s++) {
        for (unsigned i = 0; i < EACH; i++) {
            stream_release(streams[s][i]);
        }
    }
}

static void sessions_of_all_shards_are_kicked_each_in_its_time(void **state)
{
    struct pair *pair = (struct pair *)*state;
    for (unsigned i = 0; i < SHARDS; i++) {
        log_in_as(pair->rigs[i], 0, user_on(pair, i));
        log_in_as(pair->rigs[i], 1, user_on(pair, i));
        say(pair->rigs[i], 1, "a APPEND INBOX {10}\r\n");
        hear(pair->rigs[i], 1, "+ ");
    }
    expect_answer(pair, "mailbox kick user=nobody", "\"code\":\"not-found\"");
    expect_answer(pair, "mailbox kick user=u*", "{\"kicked\":4}");
    rounds(pair, 100);
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_true(pair->rigs[i]->clients[0].closed);
        assert_false(pair->rigs[i]->clients[1].closed);
    }
    rounds(pair, 2100);
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_true(list_empty(&pair->rigs[i]->mailbox.sessions));
    }
    assert_int_equal(number_in(ask(pair, "status"), "mailbox", "kicked"), 4);
}

/* The directory takes its time, and he is kicked while it does: then his session goes to his shard. */
static void who_is_kicked_while_he_logs_in_is_so_on_whichever_shard(void **state)
{
    struct pair *pair = (struct pair *)*state;
    struct imap_rig *here = pair->rigs[0];
    char text[64];
    pair->rigs[1]->mailbox.doors = &pair->rigs[1]->door;
    connect_client(here, 2);
    here->desk.holds = true;
    snprintf(text, sizeof text, "l LOGIN %s secret\r\n", user_on(pair, 1));
    say(here, 2, text);
    rounds(pair, 5);
    const struct session *session = list_entry(here->mailbox.sessions.next, struct session, node);
    snprintf(text, sizeof text, "mailbox kick session=%llu", (unsigned long long)session->number);
    expect_answer(pair, text, "{\"kicked\":1}");
    rounds(pair, 100);
    assert_false(here->clients[2].closed);
    here->desk.holds = false;
    rounds(pair, 1000);
    assert_true(here->clients[2].closed);
    assert_non_null(
        strstr(here->clients[2].heard, "* BYE [UNAVAILABLE] Disconnected by the operator\r\n"));
    assert_true(list_empty(&pair->rigs[1]->mailbox.sessions));
}

static void one_session_of_another_shard_is_kicked_by_its_number(void **state)
{
    struct pair *pair = (struct pair *)*state;
    char request[64];
    log_in_as(pair->rigs[1], 0, user_on(pair, 1));
    const struct session *session =
        list_entry(pair->rigs[1]->mailbox.sessions.next, struct session, node);
    snprintf(request, sizeof request, "mailbox kick session=%llu",
             (unsigned long long)session->number);
    expect_answer(pair, request, "{\"kicked\":1}");
}

/* Their names are in small letters, however they were given. */
static void users_of_sessions_are_meant_in_any_letters(void **state)
{
    struct pair *pair = (struct pair *)*state;
    log_in_as(pair->rigs[0], 0, user_on(pair, 0));
    log_in_as(pair->rigs[1], 0, user_on(pair, 1));
    expect_answer(pair, "mailbox who user=U*", user_on(pair, 1));
    expect_answer(pair, "mailbox kick user=U*", "{\"kicked\":2}");
}

/* ---- A user's shard ---- */

static void what_a_user_has_is_told_by_his_shard(void **state)
{
    struct pair *pair = (struct pair *)*state;
    for (unsigned i = 0; i < SHARDS; i++) {
        const char *user = user_on(pair, i);
        expect_answer(pair, request_of("mailbox quota user=%s", user), "\"code\":\"not-found\"");
        message_keep(pair, i);
        expect_answer(pair, request_of("mailbox quota user=%s", user), "\"messages\":1,");
        expect_answer(pair, request_of("mailbox kept user=%s", user), "{\"uid\":1,\"bytes\":16,");
        expect_answer(pair, request_of("mailbox kept user=%s mailbox=Nope", user),
                      "\"code\":\"not-found\"");
        expect_answer(pair, request_of("mailbox undelete user=%s uids=2,x", user),
                      "\"code\":\"bad-request\"");
        expect_answer(pair, request_of("mailbox undelete user=%s", user),
                      "{\"restored\":1,\"first\":3,\"last\":3}");
        expect_answer(pair, request_of("mailbox undelete user=%s", user), "\"code\":\"not-found\"");
    }
}

static void the_operator_has_a_session_on_the_users_shard(void **state)
{
    struct pair *pair = (struct pair *)*state;
    struct mailbox *mailbox = &pair->rigs[1]->mailbox;
    const char *user = user_on(pair, 1);
    message_keep(pair, 1);
    talk(pair->rigs[1], 0, "o LOGOUT\r\n", "OK");
    rounds(pair, 5);
    assert_true(list_empty(&mailbox->sessions));
    expect_answer(pair, "mailbox imap user=nobody", "\"code\":\"not-found\"");
    say_request(pair, request_of("mailbox imap user=%s\na SELECT INBOX\r", user));
    expect_heard(pair, "a OK [READ-WRITE]");
    assert_int_equal(strncmp(pair->heard, "* PREAUTH [CAPABILITY ", 22), 0);
    assert_true(mailbox_control_is_quiet(pair->rigs[0]->mailbox.control));
    const struct session *session = list_entry(mailbox->sessions.next, struct session, node);
    assert_true(session->operators);
    say_request(pair, "f FETCH 1 (BODY.PEEK[])\r");
    expect_heard(pair, "Subject: two\r\n\r\n");
    say_request(pair, "n CREATE Other\r");
    expect_heard(pair, "n OK");
    operator_goes(pair);
    rounds(pair, 20);
    assert_true(list_empty(&mailbox->sessions));
    assert_int_equal(fake_network_streams(pair->rigs[0]->network), 0);
    operator_comes(pair);
    expect_answer(pair, "status", "{\"end\":\"ok\"}");
}

static void an_operator_who_has_said_all_is_answered_and_gone(void **state)
{
    struct pair *pair = (struct pair *)*state;
    for (unsigned i = 0; i < SHARDS; i++) {
        pair->rigs[i]->conf->users.any = true;
    }
    say_request(pair,
                request_of("mailbox imap user=%s create=yes\na SELECT INBOX\r", user_on(pair, 1)));
    stream_shut(pair->operator);
    expect_heard(pair, "a OK [READ-WRITE]");
    rounds(pair, 20);
    assert_true(pair->closed);
    assert_true(list_empty(&pair->rigs[1]->mailbox.sessions));
}

/* ---- users ---- */

/* One message for all of "NAME0" to "NAMEcount-1" of this shard, and how many they are. */
static unsigned deliver_to_many(struct pair *pair, const char *name, unsigned from, unsigned count,
                                unsigned shard)
{
    static struct mailstore_place places[256];
    static char names[256][16];
    struct mailstore_rig *rig = &pair->rigs[shard]->store;
    struct mailstore_draft *draft;
    struct told told;
    struct slice text = slice_text("x");
    unsigned found = 0;
    check(count <= 256);
    for (unsigned i = 0; i < count; i++) {
        snprintf(names[found], sizeof names[0], "%s%05u", name, from + i);
        if (mailbox_group_shard(&pair->shards.group, names[found]) == shard) {
            places[found] = (struct mailstore_place){.user = slice_text(names[found])};
            found++;
        }
    }
    check(mailstore_begin(rig->store, &draft) == 0 && mailstore_append(draft, &text, 1) == 0);
    check(mailstore_commit(draft, 0, places, found, told_init(&told)) == 0);
    check(told_wait(rig, &told) == 0);
    return found;
}

/* "a" with numbers up to this. */
static unsigned users_make(struct pair *pair, const char *name, unsigned count)
{
    unsigned made = 0;
    for (unsigned shard = 0; shard < SHARDS; shard++) {
        for (unsigned from = 0; from < count; from += 200) {
            made +=
                deliver_to_many(pair, name, from, count - from < 200 ? count - from : 200, shard);
        }
    }
    return made;
}

/* All pages; how many of them were asked for. */
static unsigned users_told(struct pair *pair, const char *mask, unsigned *told)
{
    char cursor[USER_NAME_BYTES] = "", last[USER_NAME_BYTES] = "";
    unsigned pages = 0;
    *told = 0;
    do {
        char words[256];
        snprintf(words, sizeof words, "mailbox users%s%s%s%s", mask[0] != '\0' ? " user=" : "",
                 mask, cursor[0] != '\0' ? " cursor=" : "", cursor);
        const char *line = ask(pair, words);
        cursor[0] = '\0';
        for (; *line != '\0'; line = strchr(line, '\n') + 1) {
            json_t *json = json_loadb(line, strcspn(line, "\n"), 0, NULL);
            const char *user = json_string_value(json_object_get(json, "user"));
            const char *next = json_string_value(json_object_get(json, "next"));
            if (user != NULL) {
                assert_true(strcmp(user, last) > 0);
                snprintf(last, sizeof last, "%s", user);
                ++*told;
            }
            snprintf(cursor, sizeof cursor, "%s", next != NULL ? next : "");
            json_decref(json);
        }
        pages++;
    } while (cursor[0] != '\0' && pages < 100);
    return pages;
}

static void users_of_all_shards_are_told_in_order_and_pages(void **state)
{
    struct pair *pair = (struct pair *)*state;
    unsigned told;
    assert_int_equal(users_told(pair, "", &told), 1);
    assert_int_equal(told, 0);
    assert_int_equal(users_make(pair, "ann", 700), 700);
    assert_int_equal(users_make(pair, "bob", 3), 3);
    assert_int_equal(users_told(pair, "", &told), 2);
    assert_int_equal(told, 703);
    assert_int_equal(users_told(pair, "B?b*", &told), 1);
    assert_int_equal(told, 3);
}

/* A page with all that was looked at would keep a shard from its mail. */
static void a_mask_that_few_match_is_looked_for_in_turns(void **state)
{
    struct pair *pair = (struct pair *)*state;
    unsigned told;
    users_make(pair, "ann", 5000);
    users_make(pair, "bob", 3);
    assert_int_equal(users_told(pair, "bob*", &told), 2);
    assert_int_equal(told, 3);
}

static void what_the_service_keeps_for_itself_is_no_user(void **state)
{
    struct pair *pair = (struct pair *)*state;
    struct mailstore_place place = {.flags = 0};
    check(rig_deliver(&pair->rigs[0]->store, ".outgoing", "INBOX", 1, 10, &place) == 0);
    check(rig_deliver(&pair->rigs[0]->store, "zoe", "INBOX", 1, 10, &place) == 0);
    check(rig_deliver(&pair->rigs[1]->store, "zoe", "INBOX", 1, 10, &place) == 0);
    assert_string_equal(ask(pair, "mailbox users"), "{\"user\":\"zoe\"}\n{\"end\":\"ok\"}\n");
    assert_non_null(strstr(ask(pair, "mailbox users cursor="), "\"code\":\"bad-request\""));
}

/* ---- The end ---- */

static void an_operator_who_has_gone_is_answered_to_nobody(void **state)
{
    static const char *const requests[] = {"mailbox who",
                                           "mailbox users",
                                           "status",
                                           "mailbox quota user=%s",
                                           "mailbox imap user=%s",
                                           "mailbox undelete user=%s",
                                           "mailbox kept user=%s",
                                           "mailbox kick user=nobody",
                                           "mailbox check",
                                           "mailbox check user=%s",
                                           "mailbox rebuild"};
    struct pair *pair = (struct pair *)*state;
    const char *user = user_on(pair, 1);
    message_keep(pair, 1);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        say_request(pair, strstr(requests[i], "%s") != NULL ? request_of(requests[i], user)
                                                            : requests[i]);
        rig_round(pair->rigs[0]); /* it is on its way */
        operator_goes(pair);
        rig_round(pair->rigs[0]);
        rounds(pair, 50);
        assert_true(mailbox_control_is_quiet(pair->rigs[0]->mailbox.control));
        assert_true(mailbox_control_is_quiet(pair->rigs[1]->mailbox.control));
        assert_int_equal(fake_network_streams(pair->rigs[0]->network), 0);
        operator_comes(pair);
    }
}

static void what_another_shard_works_on_has_failed_when_that_ends(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    say_request(pair, request_of("mailbox undelete user=%s", user_on(pair, 1)));
    rounds(pair, 20);
    assert_false(mailbox_control_is_quiet(pair->rigs[0]->mailbox.control));
    assert_false(mailbox_control_is_quiet(pair->rigs[1]->mailbox.control));
    control_leave(pair, 1);
    expect_heard(pair, "\"text\":\"the service has ended\"");
    expect_answer(pair, "mailbox who", "\"text\":\"the service is ending\"");
    expect_answer(pair, request_of("mailbox imap user=%s", user_on(pair, 1)),
                  "\"text\":\"the service is ending\"");
    pair->rigs[1]->disk_stands = false;
}

static void what_is_away_when_the_socket_closes_has_failed_and_comes_back_to_nobody(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    say_request(pair, request_of("mailbox undelete user=%s", user_on(pair, 1)));
    rounds(pair, 20);
    control_leave(pair, 0);
    pair->rigs[1]->disk_stands = false;
    rounds(pair, 50);
    assert_true(mailbox_control_is_quiet(pair->rigs[1]->mailbox.control));
    assert_true(pair->closed);
}

/* The next line of the same operator is read when the one before it is answered, which the end does, too. */
static void what_is_asked_behind_it_is_not_begun_any_more(void **state)
{
    struct pair *pair = (struct pair *)*state;
    char first[128];
    message_keep(pair, 0);
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    strcpy(first, request_of("mailbox undelete user=%s", user_on(pair, 1)));
    say_request(pair, first);
    check(stream_write(pair->operator, slice_text(
                           request_of("mailbox undelete user=%s\n", user_on(pair, 0)))) == 0);
    rounds(pair, 20);
    control_leave(pair, 0);
    pair->rigs[1]->disk_stands = false;
    rounds(pair, 50);
    talk(pair->rigs[0], 0, "n NOOP\r\n", "OK");
    expect_not(pair->rigs[0], 0, "EXISTS");
    assert_true(pair->closed);
}

/* Nothing leaks, wherever it is. */
static void what_is_on_its_way_when_the_shards_close_is_freed(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    say_request(pair, "mailbox who");
    rig_round(pair->rigs[0]);
    operator_goes(pair);
    operator_comes(pair);
    say_request(pair, request_of("mailbox imap user=%s", user_on(pair, 1)));
    rig_round(pair->rigs[0]);
    rig_round(pair->rigs[1]);
    rig_round(pair->rigs[0]); /* the connection is */
    assert_true(mailbox_control_is_quiet(pair->rigs[0]->mailbox.control));
    assert_int_equal(pair->rigs[1]->mailbox.counters.sessions, 1); /* the user's own */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(status_is_the_sum_of_all_shards),
        TEST(sessions_are_told_in_order_of_their_numbers_and_once),
        TEST(sessions_of_all_shards_are_kicked_each_in_its_time),
        TEST(who_is_kicked_while_he_logs_in_is_so_on_whichever_shard),
        TEST(users_of_sessions_are_meant_in_any_letters),
        TEST(one_session_of_another_shard_is_kicked_by_its_number),
        TEST(what_a_user_has_is_told_by_his_shard),
        TEST(the_operator_has_a_session_on_the_users_shard),
        TEST(an_operator_who_has_said_all_is_answered_and_gone),
        TEST(users_of_all_shards_are_told_in_order_and_pages),
        TEST(a_mask_that_few_match_is_looked_for_in_turns),
        TEST(what_the_service_keeps_for_itself_is_no_user),
        TEST(an_operator_who_has_gone_is_answered_to_nobody),
        TEST(what_another_shard_works_on_has_failed_when_that_ends),
        TEST(what_is_away_when_the_socket_closes_has_failed_and_comes_back_to_nobody),
        TEST(what_is_asked_behind_it_is_not_begun_any_more),
        TEST(what_is_on_its_way_when_the_shards_close_is_freed),
    };
    return cmocka_run_group_tests(tests, eal_start, NULL);
}
