/* imap_task: how far a command is that takes long, by the world's clock (RFC 9585). */
#include "tests/unit/imap_two.h"

/* So many messages in INBOX, which is selected; the first has uid 1. */
static struct imap_rig *filled(void **state, unsigned count)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    char *command = (char *)malloc(count * 32u + 100);
    assert_non_null(command);
    size_t size = (size_t)sprintf(command, "a APPEND INBOX");
    for (unsigned i = 0; i < count; i++) {
        size += (size_t)sprintf(command + size, " {9+}\r\nA: b\r\n\r\nx");
    }
    strcpy(command + size, "\r\n");
    talk(rig, 0, command, "OK");
    free(command);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return rig;
}

/* Rounds of the shard, each so long, until the answer comes. Returns how long that took. */
static uint64_t slow_talk(struct imap_rig *rig, const char *command, uint64_t round_ns)
{
    uint64_t began_ns = rig->store.rig.now_ns;
    char tag[32];
    assert_int_equal(sscanf(command, "%30s", tag), 1);
    strcat(tag, " OK ");
    say(rig, 0, command);
    for (unsigned i = 0; i < 1000 && strstr(rig->clients[0].heard, tag) == NULL; i++) {
        rig->store.rig.now_ns += round_ns;
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
    }
    expect(rig, 0, tag);
    return rig->store.rig.now_ns - began_ns;
}

static unsigned told(const struct imap_rig *rig)
{
    unsigned count = 0;
    const char *at = rig->clients[0].heard;
    while ((at = strstr(at, "* OK [INPROGRESS ")) != NULL) {
        count++;
        at++;
    }
    return count;
}

static void a_quick_command_is_not_told_of(void **state)
{
    struct imap_rig *rig = filled(state, 300);
    talk(rig, 0, "a SEARCH BODY x\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3 ");
    assert_int_equal(told(rig), 0);
}

static void a_long_search_is_told_of_with_what_it_has_seen(void **state)
{
    struct imap_rig *rig = filled(state, 300);
    uint64_t took_ns = slow_talk(rig, "a1 SEARCH BODY x\r\n", 700000000);
    unsigned count = told(rig);
    assert_true(count * 1000000000ull <= took_ns); /* never twice in one second */
    assert_true((count + 2) * 1400000000ull >= took_ns && count > 5);
    const char *at = rig->clients[0].heard;
    unsigned done = 0;
    while ((at = strstr(at, "[INPROGRESS ")) != NULL) {
        unsigned now, goal;
        assert_int_equal(sscanf(at, "[INPROGRESS (\"a1\" %u %u)] ", &now, &goal), 2);
        assert_int_equal(goal, 300);
        assert_true(now > done && now < goal);
        done = now;
        at++;
    }
    expect(rig, 0, "* SEARCH 1 2 3 ");
}

static void so_are_sort_and_thread(void **state)
{
    struct imap_rig *rig = filled(state, 200);
    slow_talk(rig, "b UID SORT (SUBJECT) UTF-8 ALL\r\n", 1100000000);
    assert_true(told(rig) > 2);
    slow_talk(rig, "c THREAD REFERENCES UTF-8 ALL\r\n", 1100000000);
    assert_true(told(rig) > 2);
    expect(rig, 0, "[INPROGRESS (\"c\" 128 200)] ");
}

/* Nothing is known before the disk has it; the client is told that it is not forgotten. */
static void a_copy_that_waits_for_the_disk_is_told_of(void **state)
{
    struct imap_rig *rig = filled(state, 5);
    disk_fault_hold(rig->store.rig.fault, true);
    say(rig, 0, "a COPY 1:5 INBOX\r\n");
    for (unsigned i = 0; i < 20; i++) {
        rig->store.rig.now_ns += 300000000;
        rig_round(rig);
    }
    expect(rig, 0, "* OK [INPROGRESS (\"a\" NIL NIL)] ");
    assert_in_range(told(rig), 3, 6);
    disk_fault_hold(rig->store.rig.fault, false);
    hear(rig, 0, "a OK [COPYUID ");
}

static void of_a_large_copy_it_is_told_how_many_are_there(void **state)
{
    struct imap_rig *rig = filled(state, 900);
    for (unsigned i = 0; i < 4; i++) { /* 14,400: done in four steps */
        talk(rig, 0, "b COPY 1:* INBOX\r\n", "OK");
    }
    talk(rig, 0, "c CREATE other\r\n", "OK");
    slow_talk(rig, "d MOVE 1:* other\r\n", 1100000000);
    const char *known = strstr(rig->clients[0].heard, "[INPROGRESS (\"d\" 4096 14400)] ");
    if (known == NULL) {
        known = strstr(rig->clients[0].heard, " 14400)] ");
    }
    assert_non_null(known);
    talk(rig, 0, "e STATUS other (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 14400)");
    log_in_as(rig, 1, "bob"); /* it is the same in another's mailbox */
    talk(rig, 1, "f CREATE theirs\r\n", "OK");
    talk(rig, 1, "g SETACL theirs alice lri\r\n", "OK");
    talk(rig, 0, "h SELECT other\r\n", "OK");
    slow_talk(rig, "i COPY 1:* shared/bob/theirs\r\n", 1100000000);
    expect(rig, 0, " 14400)] ");
    talk(rig, 1, "j STATUS theirs (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 14400)");
}

static void a_tag_that_would_end_the_code_is_left_out(void **state)
{
    struct imap_rig *rig = filled(state, 100);
    slow_talk(rig, "a]b SEARCH BODY x\r\n", 1100000000);
    expect(rig, 0, "* OK [INPROGRESS (NIL 64 100)] ");
    expect_not(rig, 0, "\"a]b\"");
}

static void a_client_that_does_not_read_is_not_told_without_end(void **state)
{
    struct imap_rig *rig = filled(state, 100);
    const struct imap_session *session = list_entry(
        list_entry(rig->mailbox.sessions.next, struct session, node), struct imap_session, session);
    rig->clients[0].deaf = true;
    disk_fault_hold(rig->store.rig.fault, true);
    say(rig, 0, "a COPY 1:5 INBOX\r\n");
    for (unsigned i = 0; i < 1500; i++) {
        rig->store.rig.now_ns += 1000000000;
        rig_round(rig);
    }
    assert_true(session->outbox.memory_bytes < 128u * 1024);
    disk_fault_hold(rig->store.rig.fault, false);
    rig->clients[0].deaf = false;
    rig_hear(rig->clients[0].stream, 0, &rig->clients[0]);
    hear(rig, 0, "a OK [COPYUID ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(a_quick_command_is_not_told_of),
        TEST(a_long_search_is_told_of_with_what_it_has_seen),
        TEST(so_are_sort_and_thread),
        TEST(a_copy_that_waits_for_the_disk_is_told_of),
        TEST(of_a_large_copy_it_is_told_how_many_are_there),
        TEST(a_tag_that_would_end_the_code_is_left_out),
        TEST(a_client_that_does_not_read_is_not_told_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
