/* compression: IMAP sessions whose bytes are deflated both ways. */
#include "tests/unit/imap_rig.h"
#include <zlib.h>

#define PLAIN_ROOM (4u << 20)

/* A client's two streams of RFC 1951; index 0 of the rig. */
struct packer {
    struct imap_rig *rig;
    z_stream out, in;
    char *plain;
    size_t plain_bytes, taken; /* of what was heard */
};

static struct imap_session *session_of(struct imap_rig *rig)
{
    return list_entry(list_entry(rig->mailbox.sessions.next, struct session, node),
                      struct imap_session, session);
}

static void packer_begin(struct packer *packer, struct imap_rig *rig)
{
    *packer = (struct packer){.rig = rig, .plain = (char *)malloc(PLAIN_ROOM)};
    assert_non_null(packer->plain);
    assert_int_equal(deflateInit2(&packer->out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(inflateInit2(&packer->in, -15), Z_OK);
}

static void packed(struct packer *packer, void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    append(rig, 0, "INBOX", "Subject: one\r\n\r\nbody\r\n");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK [READ-WRITE]");
    talk(rig, 0, "c COMPRESS DEFLATE\r\n", "OK");
    packer_begin(packer, rig);
    packer->taken = rig->clients[0].heard_bytes;
}

static void packer_end(struct packer *packer)
{
    deflateEnd(&packer->out);
    inflateEnd(&packer->in);
    free(packer->plain);
}

/* Deflated, of the heap. */
static struct slice pack(struct packer *packer, struct slice plain, int flush)
{
    size_t room = deflateBound(&packer->out, plain.size) + 64;
    uint8_t *bytes = (uint8_t *)malloc(room);
    assert_non_null(bytes);
    packer->out.next_in = (Bytef *)(uintptr_t)plain.bytes;
    packer->out.avail_in = (uInt)plain.size;
    packer->out.next_out = bytes;
    packer->out.avail_out = (uInt)room;
    int status = deflate(&packer->out, flush);
    assert_true(status == Z_OK || status == Z_STREAM_END);
    assert_true(packer->out.avail_in == 0 && packer->out.avail_out > 0);
    return slice_of(bytes, room - packer->out.avail_out);
}

/* What was heard meanwhile. */
static void unpack(struct packer *packer)
{
    struct imap_client *client = &packer->rig->clients[0];
    packer->in.next_in = (Bytef *)client->heard + packer->taken;
    packer->in.avail_in = (uInt)(client->heard_bytes - packer->taken);
    packer->in.next_out = (Bytef *)packer->plain + packer->plain_bytes;
    packer->in.avail_out = (uInt)(PLAIN_ROOM - 1 - packer->plain_bytes);
    int status = inflate(&packer->in, Z_SYNC_FLUSH);
    assert_true(status == Z_OK || status == Z_BUF_ERROR);
    packer->taken = client->heard_bytes - packer->in.avail_in;
    packer->plain_bytes = PLAIN_ROOM - 1 - packer->in.avail_out;
    packer->plain[packer->plain_bytes] = '\0';
}

static void packed_bytes_say(struct packer *packer, struct slice bytes)
{
    unpack(packer);
    packer->plain_bytes = packer->taken = 0;
    say_bytes(packer->rig, 0, bytes);
}

static void packed_say(struct packer *packer, const char *text)
{
    struct slice bytes = pack(packer, slice_text(text), Z_SYNC_FLUSH);
    packed_bytes_say(packer, bytes);
    free((void *)(uintptr_t)bytes.bytes);
}

/* Rounds until this was heard. */
static void packed_hear(struct packer *packer, const char *text)
{
    for (unsigned round = 0; round < 20000; round++) {
        unpack(packer);
        if (strstr(packer->plain, text) != NULL) {
            return;
        }
        rig_round(packer->rig);
    }
    fail_msg("\"%s\" is not in\n%s", text, packer->plain);
}

static void packed_talk(struct packer *packer, const char *command, const char *answer)
{
    packed_say(packer, command);
    packed_hear(packer, answer);
}

static void after_the_ok_all_octets_are_deflated(void **state)
{
    struct packer packer;
    packed(&packer, state);
    expect(packer.rig, 0, "c OK ");
    packed_talk(&packer, "a FETCH 1 BODY.PEEK[]\r\n", "a OK ");
    assert_non_null(strstr(packer.plain, "BODY[] {22}\r\nSubject: one\r\n\r\nbody\r\n)\r\n"));
    assert_null(strstr(packer.rig->clients[0].heard, "Subject"));
    packed_talk(&packer, "b COMPRESS DEFLATE\r\n", "b NO [COMPRESSIONACTIVE]");
    packed_talk(&packer, "c CAPABILITY\r\n", "c OK ");
    assert_null(strstr(packer.plain, "COMPRESS"));
    packed_talk(&packer, "d NOOP\r\ne NOOP\r\nf NOOP\r\n", "f OK ");
    packed_talk(&packer, "g LOGOUT\r\n", "g OK ");
    rig_rounds(packer.rig, 10);
    assert_true(packer.rig->clients[0].closed);
    packer_end(&packer);
}

static void what_comes_with_the_command_is_inflated_already(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    struct packer packer;
    packer_begin(&packer, rig);
    static const char command[] = "c COMPRESS DEFLATE\r\n";
    uint8_t all[200];
    log_in(rig, 0);
    struct slice bytes = pack(&packer, slice_text("a NOOP\r\n"), Z_SYNC_FLUSH);
    memcpy(all, command, sizeof(command) - 1);
    memcpy(all + sizeof(command) - 1, bytes.bytes, bytes.size);
    say_bytes(rig, 0, slice_of(all, sizeof(command) - 1 + bytes.size));
    free((void *)(uintptr_t)bytes.bytes);
    hear(rig, 0, "c OK ");
    packer.taken = (size_t)(strstr(rig->clients[0].heard, "\r\n") + 2 - rig->clients[0].heard);
    packed_hear(&packer, "a OK ");
    packer_end(&packer);
}

static void bytes_come_one_by_one(void **state)
{
    struct packer packer;
    packed(&packer, state);
    struct slice bytes =
        pack(&packer, slice_text("a SEARCH {7+}\r\nSUBJECT one\r\nb NOOP\r\n"), Z_SYNC_FLUSH);
    for (size_t i = 0; i < bytes.size; i++) {
        assert_int_equal(stream_write(packer.rig->clients[0].stream, slice_of(bytes.bytes + i, 1)),
                         0);
        rig_round(packer.rig);
    }
    free((void *)(uintptr_t)bytes.bytes);
    packed_hear(&packer, "b OK ");
    packer_end(&packer);
}

static void large_messages_go_both_ways(void **state)
{
    struct packer packer;
    packed(&packer, state);
    size_t size = 1u << 20;
    char *message = (char *)malloc(size + 100);
    assert_non_null(message);
    int head = sprintf(message, "a APPEND INBOX {%zu+}\r\n", size);
    for (size_t i = 0; i < size; i++) {
        message[(size_t)head + i] = (char)('a' + mailstore_rig_below(&packer.rig->store, 26));
    }
    strcpy(message + head + size, "\r\n");
    packed_talk(&packer, message, "a OK ");
    packed_talk(&packer, "b FETCH 2 BODY.PEEK[]\r\n", "b OK ");
    const char *literal = strstr(packer.plain, "{1048576}\r\n");
    assert_non_null(literal);
    assert_memory_equal(literal + 11, message + head, size);
    free(message);
    packer_end(&packer);
}

static void idle_is_told_at_once(void **state)
{
    struct packer packer;
    packed(&packer, state);
    packed_talk(&packer, "a IDLE\r\n", "+ idling\r\n");
    log_in(packer.rig, 1);
    append(packer.rig, 1, "INBOX", "x");
    packed_hear(&packer, "* 2 EXISTS\r\n");
    packed_talk(&packer, "DONE\r\n", "a OK ");
    packer_end(&packer);
}

static void what_cannot_be_inflated_ends_the_session(void **state)
{
    struct packer packer;
    packed(&packer, state);
    packed_bytes_say(&packer, slice_text("a NOOP\r\n"));
    packed_hear(&packer, "* BYE ");
    rig_rounds(packer.rig, 10);
    assert_true(packer.rig->clients[0].closed);
    assert_true(list_empty(&packer.rig->mailbox.sessions));
    packer_end(&packer);
}

static void an_end_of_the_deflated_stream_ends_the_session(void **state)
{
    struct packer packer;
    packed(&packer, state);
    struct slice bytes = pack(&packer, slice_text("a NOOP\r\n"), Z_FINISH);
    packed_bytes_say(&packer, bytes);
    free((void *)(uintptr_t)bytes.bytes);
    packed_hear(&packer, "* BYE ");
    assert_non_null(strstr(packer.plain, "a OK "));
    packer_end(&packer);
}

/* `size` bytes of a letter behind `beginning`: a thousandth of it is sent. */
static struct slice bomb(struct packer *packer, const char *beginning, size_t size)
{
    char *plain = (char *)malloc(size);
    assert_non_null(plain);
    memset(plain, 'x', size);
    memcpy(plain, beginning, strlen(beginning));
    struct slice bytes = pack(packer, slice_of(plain, size), Z_SYNC_FLUSH);
    free(plain);
    assert_true(bytes.size < size / 500);
    return bytes;
}

static void a_bomb_meets_the_bound_of_a_line(void **state)
{
    struct packer packer;
    packed(&packer, state);
    struct slice bytes = bomb(&packer, "a SEARCH ", 64u << 20);
    const struct imap_session *session = session_of(packer.rig);
    size_t most = 0;
    packed_bytes_say(&packer, bytes);
    free((void *)(uintptr_t)bytes.bytes);
    for (unsigned i = 0; !list_empty(&packer.rig->mailbox.sessions) && i < 20000; i++) {
        size_t now =
            compression_memory(session->compression) + imap_server_memory(&session->server);
        most = now > most ? now : most;
        rig_round(packer.rig);
    }
    unpack(&packer);
    assert_non_null(strstr(packer.plain, "* BYE "));
    assert_true(most > 0 && most < 400u * 1024);
    packer_end(&packer);
}

/* In a message that is too large, and passed over: others are served between. */
static void a_bomb_in_a_message_does_not_keep_others_waiting(void **state)
{
    struct packer packer;
    packed(&packer, state);
    struct slice bytes = bomb(&packer, "a APPEND INBOX {1999999999+}\r\n", 64u << 20);
    packed_bytes_say(&packer, bytes);
    free((void *)(uintptr_t)bytes.bytes);
    connect_client(packer.rig, 1);
    talk(packer.rig, 1, "l LOGIN bob secret\r\n", "OK");
    const struct imap_session *session = session_of(packer.rig);
    for (unsigned i = 0; i < 3; i++) {
        talk(packer.rig, 1, "a NOOP\r\n", "OK");
    }
    /* Still at it, or it was done in one go. */
    assert_int_equal(session->server.phase, IMAP_PHASE_SKIP_LITERAL);
    assert_true(session->server.literal_left > 1999999999u - (64u << 20));
    packer_end(&packer);
}

static void a_client_that_does_not_read_costs_a_bound(void **state)
{
    struct packer packer;
    packed(&packer, state);
    const struct imap_session *session = session_of(packer.rig);
    size_t size = 3u << 20;
    char *message = (char *)malloc(size + 100);
    assert_non_null(message);
    int head = sprintf(message, "a APPEND INBOX {%zu+}\r\n", size);
    for (size_t i = 0; i < size; i++) {
        message[(size_t)head + i] = (char)('0' + mailstore_rig_below(&packer.rig->store, 64));
    }
    strcpy(message + head + size, "\r\n");
    packed_talk(&packer, message, "a OK ");
    packer.rig->clients[0].deaf = true;
    packed_say(&packer, "b FETCH 2 BODY.PEEK[]\r\n");
    rig_rounds(packer.rig, 200);
    assert_true(compression_memory(session->compression) < 200u * 1024);
    assert_true(session->outbox.memory_bytes < 128u * 1024);
    packer.rig->clients[0].deaf = false;
    rig_hear(packer.rig->clients[0].stream, 0, &packer.rig->clients[0]);
    packed_hear(&packer, "b OK ");
    const char *literal = strstr(packer.plain, "{3145728}\r\n");
    assert_non_null(literal);
    assert_memory_equal(literal + 11, message + head, size);
    free(message);
    packer_end(&packer);
}

static void an_idle_session_gives_its_memory_back_and_goes_on(void **state)
{
    struct packer packer;
    packed(&packer, state);
    const struct imap_session *session = session_of(packer.rig);
    char command[100], answer[20];
    for (unsigned i = 0; i < 40; i++) { /* the later ones refer to the earlier ones */
        snprintf(command, sizeof(command), "a%u FETCH 1 (UID FLAGS BODY.PEEK[HEADER])\r\n", i);
        snprintf(answer, sizeof(answer), "a%u OK ", i);
        packed_talk(&packer, command, answer);
        if (i % 4 == 0) {
            rig_rounds(packer.rig, 3);
            assert_true(compression_memory(session->compression) > 32u * 1024);
            packer.rig->store.rig.now_ns += COMPRESSION_PARK_NS;
            rig_rounds(packer.rig, 3);
            assert_true(compression_memory(session->compression) < 2048);
            assert_int_equal(compression_park_due(session->compression), 0);
        }
    }
    packer_end(&packer);
}

/* The other kinds of ends that a deflating client may make: bits are left over there, and blocks are open. */
static void an_idle_session_in_the_middle_of_a_block_goes_on(void **state)
{
    static const int flushes[] = {Z_PARTIAL_FLUSH, Z_BLOCK, Z_FULL_FLUSH, Z_SYNC_FLUSH};
    struct packer packer;
    packed(&packer, state);
    char command[40], answer[20];
    for (unsigned i = 0; i < 12; i++) {
        snprintf(command, sizeof(command), "a%u NOOP\r\n", i);
        snprintf(answer, sizeof(answer), "a%u OK ", i);
        struct slice bytes = pack(&packer, slice_text(command), flushes[i % 4]);
        packed_bytes_say(&packer, bytes);
        free((void *)(uintptr_t)bytes.bytes);
        if (flushes[i % 4] != Z_BLOCK) { /* the last bits of which come with the next */
            packed_hear(&packer, answer);
        }
        rig_rounds(packer.rig, 3);
        packer.rig->store.rig.now_ns += COMPRESSION_PARK_NS;
        rig_rounds(packer.rig, 3);
    }
    packer_end(&packer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(after_the_ok_all_octets_are_deflated),
        TEST(what_comes_with_the_command_is_inflated_already),
        TEST(bytes_come_one_by_one),
        TEST(large_messages_go_both_ways),
        TEST(idle_is_told_at_once),
        TEST(what_cannot_be_inflated_ends_the_session),
        TEST(an_end_of_the_deflated_stream_ends_the_session),
        TEST(a_bomb_meets_the_bound_of_a_line),
        TEST(a_bomb_in_a_message_does_not_keep_others_waiting),
        TEST(a_client_that_does_not_read_costs_a_bound),
        TEST(an_idle_session_gives_its_memory_back_and_goes_on),
        TEST(an_idle_session_in_the_middle_of_a_block_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
