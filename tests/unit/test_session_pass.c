/* What becomes of a session between two shards: both on this thread, clients come to shard 0. */
#include "engine/shard/memory.h"
#include "tests/unit/imap_shards.h"

static int set_up(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)calloc(1, sizeof *pair);
    check(pair != NULL);
    imap_shards_open(pair);
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    imap_shards_rounds(pair, 3);
    imap_shards_close(pair);
    free(pair);
    return 0;
}

static struct session *only_session(struct imap_shards *pair, unsigned shard)
{
    struct list_node *sessions = &pair->rigs[shard]->mailbox.sessions;
    assert_false(list_empty(sessions));
    assert_true(sessions->next->next == sessions);
    return list_entry(sessions->next, struct session, node);
}

static void nobody_is_there(struct imap_shards *pair)
{
    assert_true(pair->rigs[0]->clients[0].closed);
    assert_int_equal(atomic_load(&pair->group.sessions), 0);
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        assert_true(list_empty(&pair->rigs[i]->mailbox.sessions));
        assert_int_equal(pair->rigs[i]->mailbox.counters.sessions, 0);
        assert_true(crossing_is_quiet(pair->crossings[i]));
    }
}

static void who_logs_in_is_served_on_his_shard(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    struct imap_rig *rig = pair->rigs[0];
    connect_client(rig, 0);
    say(rig, 0, "l LOGIN bob secret\r\nn NOOP\r\n");
    imap_shards_rounds(pair, 20);
    expect(rig, 0, "l OK [CAPABILITY ");
    expect(rig, 0, "n OK");
    assert_string_equal(only_session(pair, 1)->of_user->user, "bob");
    assert_int_equal(pair->rigs[0]->mailbox.counters.sessions, 0);
    say(rig, 0, "o LOGOUT\r\n");
    imap_shards_rounds(pair, 20);
    nobody_is_there(pair);
}

static unsigned on_their_way;

static void passing_seen(struct session *session, const char *user, void *owner)
{
    const struct imap_shards *pair = (const struct imap_shards *)owner;
    assert_ptr_equal(session->mailbox, &pair->rigs[0]->mailbox);
    assert_string_equal(user, "bob");
    on_their_way++;
}

static unsigned count_on_their_way(struct imap_shards *pair)
{
    on_their_way = 0;
    session_passing_visit(&pair->group, passing_seen, pair);
    return on_their_way;
}

/* While only his first shard runs he is on neither. */
static void who_is_on_his_way_is_seen(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    struct imap_rig *rig = pair->rigs[0];
    connect_client(rig, 0);
    say(rig, 0, "l LOGIN bob secret\r\n");
    assert_int_equal(count_on_their_way(pair), 0);
    for (unsigned i = 0; i < 20; i++) {
        rig_round(rig);
    }
    assert_true(list_empty(&rig->mailbox.sessions));
    assert_true(list_empty(&pair->rigs[1]->mailbox.sessions));
    assert_int_equal(count_on_their_way(pair), 1);
    imap_shards_rounds(pair, 20);
    assert_int_equal(count_on_their_way(pair), 0);
    assert_string_equal(only_session(pair, 1)->of_user->user, "bob");
    say(rig, 0, "o LOGOUT\r\n");
    imap_shards_rounds(pair, 20);
    nobody_is_there(pair);
}

static void who_is_kicked_and_comes_late_ends_on_his_shard(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    struct imap_rig *rig = pair->rigs[0];
    connect_client(rig, 0);
    rig->desk.holds = true;
    say(rig, 0, "l LOGIN bob secret\r\n");
    imap_shards_rounds(pair, 5);
    only_session(pair, 0)->kicked = true;
    only_session(pair, 0)->kick_deadline_ns = rig->shard.now_ns; /* nobody looks for him any more */
    rig->desk.holds = false;
    imap_shards_rounds(pair, 20);
    nobody_is_there(pair);
}

/* In one block that is stored as it is. */
static void say_compressed(struct imap_rig *rig, const char *text)
{
    uint8_t block[256] = {0};
    size_t size = strlen(text);
    check(size + 5 < sizeof block);
    block[1] = (uint8_t)size;
    block[3] = (uint8_t)~size;
    block[4] = 0xff;
    memcpy(block + 5, text, size);
    say_bytes(rig, 0, slice_of(block, size + 5));
}

/* A sanitizer says whether anything of it is left. */
static void who_is_compressed_and_comes_when_the_service_has_ended_is_gone(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    struct imap_rig *rig = pair->rigs[0];
    log_in(rig, 0);
    talk(rig, 0, "c COMPRESS DEFLATE\r\n", "OK");
    say_compressed(rig, "u UNAUTHENTICATE\r\n");
    imap_shards_rounds(pair, 5);
    assert_null(only_session(pair, 0)->of_user);
    pair->rigs[1]->mailbox.left = true;
    say_compressed(rig, "l LOGIN bob secret\r\n");
    imap_shards_rounds(pair, 20);
    nobody_is_there(pair);
}

static void a_compressed_session_goes_on_compressed(void **state)
{
    struct imap_shards *pair = (struct imap_shards *)*state;
    struct imap_rig *rig = pair->rigs[0];
    log_in(rig, 0);
    talk(rig, 0, "c COMPRESS DEFLATE\r\n", "OK");
    say_compressed(rig, "u UNAUTHENTICATE\r\nl LOGIN bob secret\r\ns SELECT INBOX\r\n");
    imap_shards_rounds(pair, 30);
    const struct imap_session *session =
        list_entry(only_session(pair, 1), struct imap_session, session);
    assert_int_equal(session->server.state, IMAP_SELECTED);
    say_compressed(rig, "o LOGOUT\r\n");
    imap_shards_rounds(pair, 20);
    nobody_is_there(pair);
}

int main(void)
{
    const struct memory_settings memory = {.program = "test_session_pass", .megabytes = 64};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_logs_in_is_served_on_his_shard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_on_his_way_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_kicked_and_comes_late_ends_on_his_shard, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            who_is_compressed_and_comes_when_the_service_has_ended_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_compressed_session_goes_on_compressed, set_up, tear_down),
    };
    check(memory_start(&memory) == 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memory_stop();
    return failed;
}
