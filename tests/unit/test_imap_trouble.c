/* IMAP sessions when the disk does not give what it has, or is full, and when memory is short. */
#include "tests/unit/imap_rig.h"

#define LARGE (700u * 1024)

/* The linker puts this in place of the heap's (Makefile). */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool no_changes;

void *__wrap_calloc(size_t count, size_t size)
{
    return no_changes && count == 1 && size == sizeof(struct imap_change)
               ? NULL
               : __real_calloc(count, size);
}

/* Nine large messages: the first ones are in the log's memory no more. */
static struct imap_rig *filled(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char *message = (char *)malloc(LARGE + 1);
    assert_non_null(message);
    log_in(rig, 0);
    int head = sprintf(message, "Subject: large\r\nFrom: a@x.example\r\n\r\n");
    memset(message + head, 'x', LARGE - (size_t)head);
    message[LARGE] = '\0';
    for (unsigned i = 0; i < 9; i++) {
        append(rig, 0, "INBOX", message);
    }
    free(message);
    mailstore_rig_settle(&rig->store);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    return rig;
}

static void no_reads(struct imap_rig *rig)
{
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_READ, 0, UINT32_MAX, -EIO);
}

static void reads_again(struct imap_rig *rig)
{
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_READ, 0, 0, -EIO);
}

static void a_text_is_read_back_from_the_disk(void **state)
{
    struct imap_rig *rig = filled(state);
    uint64_t before = disk_fault_counters(rig->store.rig.fault)->reads;
    talk(rig, 0, "a FETCH 1 ENVELOPE\r\n", "OK");
    expect(rig, 0, "\"large\"");
    assert_true(disk_fault_counters(rig->store.rig.fault)->reads > before);
    talk(rig, 0, "b SEARCH SUBJECT large\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 2 3 4 5 6 7 8 9\r\n");
}

static void a_message_that_cannot_be_read_is_left_out_and_told(void **state)
{
    struct imap_rig *rig = filled(state);
    no_reads(rig);
    talk(rig, 0, "a FETCH 1:9 (UID ENVELOPE)\r\n", "NO [SERVERBUG]");
    expect_not(rig, 0, "* 1 FETCH");
    expect(rig, 0, "* 9 FETCH (UID 9 ENVELOPE (");
    talk(rig, 0, "b SEARCH SUBJECT large\r\n", "NO [SERVERBUG]");
    talk(rig, 0, "c SEARCH BODY x\r\n", "NO [SERVERBUG]");
    talk(rig, 0, "d SORT (SUBJECT) UTF-8 ALL\r\n", "NO [SERVERBUG]");
    talk(rig, 0, "e FETCH 1:9 FLAGS\r\n", "OK");
    reads_again(rig);
    talk(rig, 0, "f FETCH 1 (UID ENVELOPE)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 ENVELOPE (");
}

static void a_literal_that_cannot_be_ended_ends_the_connection(void **state)
{
    struct imap_rig *rig = filled(state);
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_READ, 1, UINT32_MAX, -EIO);
    say(rig, 0, "a FETCH 1 BODY.PEEK[]\r\n");
    for (unsigned i = 0; i < 100 && !rig->clients[0].closed; i++) {
        rig_round(rig);
    }
    assert_true(rig->clients[0].closed);
    expect(rig, 0, "* 1 FETCH (BODY[] {716800}\r\nSubject: large\r\n");
    expect_not(rig, 0, "a OK");
    assert_int_equal(rig->mailbox.counters.sessions, 0);
}

static void a_literal_that_cannot_be_begun_is_not_promised(void **state)
{
    struct imap_rig *rig = filled(state);
    no_reads(rig);
    talk(rig, 0, "a FETCH 1,9 (UID BODY.PEEK[]<0.5>)\r\n", "NO [SERVERBUG]");
    expect_not(rig, 0, "* 1 FETCH");
    expect(rig, 0, "* 9 FETCH (UID 9 BODY[]<0> {5}\r\nSubje)\r\n");
    reads_again(rig);
    talk(rig, 0, "b FETCH 1 (UID BODY.PEEK[]<0.5>)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 BODY[]<0> {5}\r\nSubje)\r\n");
}

static void a_full_disk_refuses_messages_and_lets_them_be_deleted(void **state)
{
    struct imap_rig *rig = filled(state);
    struct disk_fault_settings full = rig->store.rig.fault_settings;
    char command[64];
    full.capacity_bytes = 1;
    disk_fault_set(rig->store.rig.fault, &full);
    char *message = (char *)malloc(LARGE + 100);
    assert_non_null(message);
    bool refused = false;
    for (unsigned i = 0; i < 40 && !refused; i++) {
        int head = sprintf(message, "a APPEND INBOX {%u+}\r\n", LARGE);
        memset(message + head, 'x', LARGE);
        memcpy(message + head + LARGE, "\r\n", 3);
        say_bytes(rig, 0, slice_of(message, (size_t)head + LARGE + 2));
        const char *line = hear(rig, 0, "a ");
        refused = strncmp(line, "a NO [UNAVAILABLE] Insufficient", 31) == 0;
        assert_true(refused || strncmp(line, "a OK", 4) == 0);
    }
    free(message);
    assert_true(refused);
    snprintf(command, sizeof(command), "b STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n");
    talk(rig, 0, command, "OK");
    talk(rig, 0, "c EXPUNGE\r\n", "OK");
    talk(rig, 0, "d STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0)");
}

/* The user stayed in a session that had said NO, and the next LOGIN ended the process. */
static void who_is_refused_for_want_of_memory_may_log_in_again(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    no_changes = true;
    talk(rig, 0, "a LOGIN alice secret\r\n", "NO ");
    no_changes = false;
    talk(rig, 0, "b SELECT INBOX\r\n", "BAD ");
    talk(rig, 0, "c LOGIN alice secret\r\n", "OK [CAPABILITY ");
    talk(rig, 0, "d SELECT INBOX\r\n", "OK ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(a_text_is_read_back_from_the_disk),
        TEST(a_message_that_cannot_be_read_is_left_out_and_told),
        TEST(a_literal_that_cannot_be_begun_is_not_promised),
        TEST(a_literal_that_cannot_be_ended_ends_the_connection),
        TEST(a_full_disk_refuses_messages_and_lets_them_be_deleted),
        TEST(who_is_refused_for_want_of_memory_may_log_in_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
