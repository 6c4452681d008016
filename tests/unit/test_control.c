/* control: requests on a stream, answered at once or later. */
#include "engine/control/control.h"
#include "engine/control/request.h"
#include "engine/core/check.h"
#include "tests/unit/fake_network.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* The socket, an operator who collects what comes, and an answerer who keeps the requests. */
struct fixture {
    struct network *network;
    struct control *control;
    struct stream *client;
    char heard[8192];
    size_t heard_bytes;
    bool closed;
    bool deaf; /* does not read */
    struct control_request *asked[8];
    unsigned asked_count;
    bool at_once;
    bool takes_over;
    struct stream *taken;
    bool finished;
};

static void answer_status(struct control_request *request)
{
    control_line(request, json_pack("{s:i}", "connections", 3));
    control_finish(request);
}

static void ignore(struct stream *stream, uint32_t events, void *owner)
{
    (void)stream;
    (void)events;
    (void)owner;
}

static void ask(void *owner, struct control_request *request)
{
    struct fixture *fixture = (struct fixture *)owner;
    check(fixture->asked_count < 8);
    fixture->asked[fixture->asked_count++] = request;
    if (fixture->at_once) {
        answer_status(request);
    }
    if (fixture->takes_over) {
        fixture->taken = control_take_over(request, &fixture->finished);
        fixture->taken->notify = ignore;
    }
}

static void hear(struct stream *stream, uint32_t events, void *owner)
{
    struct fixture *fixture = (struct fixture *)owner;
    struct slice piece;
    while (!fixture->deaf && stream_peek(stream, &piece, 1) == 1) {
        check(fixture->heard_bytes + piece.size < sizeof fixture->heard);
        memcpy(fixture->heard + fixture->heard_bytes, piece.bytes, piece.size);
        fixture->heard_bytes += piece.size;
        fixture->heard[fixture->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
    fixture->closed = fixture->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

static struct stream *connect_operator(struct fixture *fixture)
{
    struct connect_request request = {.to = {.family = ENDPOINT_UNIX, .path = "/control"}};
    struct stream *stream = NULL;
    check(fixture->network->ops->connect(fixture->network, &request, &stream) == 0);
    stream->notify = hear;
    stream->session = fixture;
    fake_network_run(fixture->network);
    return stream;
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    fixture->network = fake_network_open(16384);
    struct control_settings settings = {
        .network = fixture->network,
        .at = {.family = ENDPOINT_UNIX, .path = "/control"},
        .ask = ask,
        .owner = fixture,
    };
    check(control_open(&fixture->control, &settings) == 0);
    fixture->client = connect_operator(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    control_close(fixture->control);
    fixture->network->ops->close(fixture->network);
    free(fixture);
    return 0;
}

static void say(struct fixture *fixture, const char *text)
{
    check(stream_write(fixture->client, slice_text(text)) == 0);
    fake_network_run(fixture->network);
}

/* ---- the grammar ---- */

static const struct {
    const char *line;
    int verb; /* -1: refused */
    unsigned word_count;
    const char *cursor;
    uint32_t limit;
} lines[] = {
    {"status", CONTROL_STATUS, 0, "", CONTROL_LIMIT_DEFAULT},
    {"tls report", CONTROL_TLS_REPORT, 0, "", CONTROL_LIMIT_DEFAULT},
    {"resolve b\303\274cher.example", CONTROL_RESOLVE, 1, "", CONTROL_LIMIT_DEFAULT},
    {"  status \r", CONTROL_STATUS, 0, "", CONTROL_LIMIT_DEFAULT},
    {"queue list", CONTROL_QUEUE_LIST, 0, "", CONTROL_LIMIT_DEFAULT},
    {"queue list page=7 cursor=0.5", CONTROL_QUEUE_LIST, 2, "", CONTROL_LIMIT_DEFAULT},
    {"queue show id=ABC", CONTROL_QUEUE_SHOW, 1, "", CONTROL_LIMIT_DEFAULT},
    {"queue body id=ABC from=7", CONTROL_QUEUE_BODY, 2, "", CONTROL_LIMIT_DEFAULT},
    {"queue flush", CONTROL_QUEUE_FLUSH, 0, "", CONTROL_LIMIT_DEFAULT},
    {"queue delete id=A,B", CONTROL_QUEUE_DELETE, 1, "", CONTROL_LIMIT_DEFAULT},
    {"queue jobs", CONTROL_QUEUE_JOBS, 0, "", CONTROL_LIMIT_DEFAULT},
    {"queue cancel job=3", CONTROL_QUEUE_CANCEL, 1, "", CONTROL_LIMIT_DEFAULT},
    {"net connections", CONTROL_NET_CONNECTIONS, 0, "", CONTROL_LIMIT_DEFAULT},
    {"net neighbors 7", CONTROL_NET_NEIGHBORS, 0, "", 7},
    {"net routes 7 0.0.0", CONTROL_NET_ROUTES, 0, "0.0.0", 7},
    {"net trace 7 1.5 live local 192.0.2.1:25", CONTROL_NET_TRACE, 3, "1.5", 7},
    /* all words that a capture knows */
    {"net capture file /f port p count 1 seconds 1 snap 64 between 192.0.2.1:1 192.0.2.2:2",
     CONTROL_NET_CAPTURE, 13, "", CONTROL_LIMIT_DEFAULT},
    {"net counters", CONTROL_NET_COUNTERS, 0, "", CONTROL_LIMIT_DEFAULT},
    {"net counters 7", -1, 0, "", 0},
    {"net", -1, 0, "", 0},
    {"net weather", -1, 0, "", 0},
    {"net connections many", -1, 0, "", 0},
    {"net trace 7 1.5 a b c d e f g h i j k l m n o p q r s t u v w x y", -1, 0, "", 0},
    {"", -1, 0, "", 0},
    {"statusx", -1, 0, "", 0},
    {"status now", -1, 0, "", 0},
    {"queue", -1, 0, "", 0},
    {"queue weather", -1, 0, "", 0},
    {"queue list 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25", -1, 0, "", 0},
    {"a b c d e f g", -1, 0, "", 0},
    {"GET / HTTP/1.1", -1, 0, "", 0},
    {"mailbox who", CONTROL_MAILBOX_WHO, 0, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox kick user=bob", CONTROL_MAILBOX_KICK, 1, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox imap user=bob", CONTROL_MAILBOX_IMAP, 1, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox quota user=bob", CONTROL_MAILBOX_QUOTA, 1, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox kept user=bob mailbox=INBOX", CONTROL_MAILBOX_KEPT, 2, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox undelete user=bob", CONTROL_MAILBOX_UNDELETE, 1, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox users user=a* cursor=ann", CONTROL_MAILBOX_USERS, 2, "", CONTROL_LIMIT_DEFAULT},
    {"mailbox", -1, 0, "", 0},
    {"mailbox weather", -1, 0, "", 0},
};

static void lines_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct control_request request = {0};
        int status = control_request_parse(&request, slice_text(lines[i].line));
        if (status != (lines[i].verb < 0 ? -EINVAL : 0)) {
            print_error("%s: %d\n", lines[i].line, status);
        }
        assert_int_equal(status, lines[i].verb < 0 ? -EINVAL : 0);
        if (status == 0) {
            assert_int_equal(request.verb, lines[i].verb);
            assert_int_equal(request.word_count, lines[i].word_count);
            assert_true(slice_equal(request.cursor, slice_text(lines[i].cursor)));
            assert_int_equal(request.limit, lines[i].limit);
        }
    }
}

static void bytes_of_peers_become_valid_text(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } texts[] = {
        {"plain", 5, "plain"},         {"j\xc3\xbcrgen", 7, "j\xc3\xbcrgen"},
        {"\xff\xc3", 2, "\\xff\\xc3"}, {"a\0b\r\n", 5, "a\\x00b\\x0d\\x0a"},
        {"\x1b[2J", 4, "\\x1b[2J"},    {"\xed\xa0\x80", 3, "\\xed\\xa0\\x80"},
        {"\\x41", 4, "\\x5cx41"},      {"", 0, ""},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *json = control_text(slice_of(texts[i].bytes, texts[i].size));
        assert_non_null(json);
        assert_string_equal(json_string_value(json), texts[i].text);
        json_decref(json);
    }
}

/* ---- sessions ---- */

static void a_request_is_answered_later(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "queue show ");
    say(fixture, "ABC\n");
    assert_int_equal(fixture->asked_count, 1);
    assert_int_equal(control_pending(fixture->control), 1);
    assert_true(slice_equal(fixture->asked[0]->words[0], slice_text("ABC")));
    assert_int_equal(control_user(fixture->asked[0]), -1);
    assert_int_equal(fixture->heard_bytes, 0);
    control_line(fixture->asked[0], json_pack("{s:s}", "id", "ABC"));
    control_finish(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_string_equal(fixture->heard, "{\"id\":\"ABC\"}\n{\"end\":\"ok\"}\n");
    assert_int_equal(control_pending(fixture->control), 0);
}

static void requests_that_come_together_are_answered_one_after_the_other(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    fixture->at_once = true;
    say(fixture, "status\nbad\nstatus\n");
    assert_int_equal(fixture->asked_count, 2);
    assert_string_equal(
        fixture->heard,
        "{\"connections\":3}\n{\"end\":\"ok\"}\n"
        "{\"end\":\"error\",\"code\":\"bad-request\",\"text\":\"expected status, queue "
        "list|show|body|summary|hold|release|flush|delete|bounce|reroute|suspend|resume|"
        "suspensions|jobs|job|cancel or net "
        "connections|neighbors|routes|trace|counters|capture\"}\n"
        "{\"connections\":3}\n{\"end\":\"ok\"}\n");
}

static void an_operator_who_goes_is_known_to_have_gone(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "net capture file /x\n");
    assert_int_equal(fixture->asked_count, 1);
    assert_int_equal(fixture->asked[0]->word_count, 2);
    assert_false(control_abandoned(fixture->asked[0]));
    stream_shut(fixture->client);
    fake_network_run(fixture->network);
    assert_true(control_abandoned(fixture->asked[0]));
    control_finish(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_string_equal(fixture->heard, "{\"end\":\"ok\"}\n");
}

static void a_second_request_waits_for_the_first_answer(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "status\nqueue flush\n");
    assert_int_equal(fixture->asked_count, 1);
    answer_status(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_int_equal(fixture->asked_count, 2);
    assert_int_equal(fixture->asked[1]->verb, CONTROL_QUEUE_FLUSH);
    control_finish_with(fixture->asked[1], "count", json_integer(5));
    fake_network_run(fixture->network);
    assert_non_null(strstr(fixture->heard, "{\"end\":\"ok\",\"count\":5}\n"));
}

static void once_it_rests_what_was_asked_is_answered_and_nothing_else_is_taken(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "status\nqueue flush\n");
    control_rest(fixture->control);
    answer_status(fixture->asked[0]);
    fake_network_run(fixture->network);
    say(fixture, "status\n");
    assert_int_equal(fixture->asked_count, 1);
    assert_int_equal(control_pending(fixture->control), 0);
    assert_non_null(strstr(fixture->heard, "\"end\":\"ok\""));
}

static void an_operator_who_goes_is_answered_to_nobody(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "status\n");
    stream_abort(fixture->client);
    stream_release(fixture->client);
    fake_network_run(fixture->network);
    assert_int_equal(fake_network_streams(fixture->network), 0);
    assert_int_equal(control_pending(fixture->control), 1);
    answer_status(fixture->asked[0]);
    assert_int_equal(control_pending(fixture->control), 0);
}

static void a_connection_that_is_taken_over_is_the_answerers_with_all_that_came(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct slice rest;
    fixture->takes_over = true;
    say(fixture, "mailbox imap user=bob\na NOOP\n");
    assert_int_equal(control_pending(fixture->control), 0);
    assert_int_equal(stream_peek(fixture->taken, &rest, 1), 1);
    assert_true(slice_equal(rest, slice_text("a NOOP\n")));
    check(stream_write(fixture->taken, slice_text("* PREAUTH\r\n")) == 0);
    fake_network_run(fixture->network);
    assert_string_equal(fixture->heard, "* PREAUTH\r\n");
    assert_false(fixture->finished);
    stream_release(fixture->taken);
}

static void an_end_that_came_with_the_request_is_told_to_who_takes_over(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    fixture->takes_over = true;
    check(stream_write(fixture->client, slice_text("mailbox imap user=bob\n")) == 0);
    stream_shut(fixture->client);
    fake_network_run(fixture->network);
    assert_true(fixture->finished);
    stream_release(fixture->taken);
}

/* As where another shard has been asked first. */
static void a_connection_is_taken_over_later_and_says_what_came_meanwhile(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct slice rest;
    bool finished;
    say(fixture, "mailbox imap user=bob\na NOOP\n");
    assert_int_equal(control_pending(fixture->control), 1);
    stream_shut(fixture->client);
    fake_network_run(fixture->network);
    struct stream *taken = control_take_over(fixture->asked[0], &finished);
    assert_non_null(taken);
    assert_true(finished);
    assert_int_equal(control_pending(fixture->control), 0);
    taken->notify = ignore;
    assert_int_equal(stream_peek(taken, &rest, 1), 1);
    assert_true(slice_equal(rest, slice_text("a NOOP\n")));
    stream_release(taken);
}

static void a_connection_that_has_gone_is_nobodys_to_take_over(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    bool finished;
    say(fixture, "mailbox imap user=bob\n");
    stream_abort(fixture->client);
    stream_release(fixture->client);
    fake_network_run(fixture->network);
    assert_null(control_take_over(fixture->asked[0], &finished));
    assert_int_equal(control_pending(fixture->control), 1);
    control_finish(fixture->asked[0]);
    assert_int_equal(control_pending(fixture->control), 0);
}

static void an_operator_who_is_done_hears_the_answer_then_the_end(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "status\n");
    stream_shut(fixture->client);
    fake_network_run(fixture->network);
    assert_false(fixture->closed);
    answer_status(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_string_equal(fixture->heard, "{\"connections\":3}\n{\"end\":\"ok\"}\n");
    assert_true(fixture->closed);
}

static void a_long_answer_waits_for_the_operator_to_read(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    fixture->deaf = true;
    say(fixture, "queue list\n");
    for (int i = 0; i < 5000; i++) {
        control_line(fixture->asked[0], json_pack("{s:i}", "number", i));
    }
    control_finish(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_int_equal(fixture->heard_bytes, 0);
    size_t heard = 0;
    char last[20000];
    struct slice piece;
    while (stream_peek(fixture->client, &piece, 1) == 1) {
        check(piece.size < sizeof last);
        memcpy(last, piece.bytes, piece.size);
        last[piece.size] = '\0';
        heard += piece.size;
        stream_consume(fixture->client, piece.size);
        fake_network_run(fixture->network);
    }
    assert_true(heard > 5000 * 12);
    assert_non_null(strstr(last, "{\"number\":4999}\n{\"end\":\"ok\"}\n"));
}

static void a_line_that_cannot_be_made_turns_the_end_into_an_error(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    say(fixture, "status\n");
    control_line(fixture->asked[0], NULL);
    control_finish(fixture->asked[0]);
    fake_network_run(fixture->network);
    assert_string_equal(fixture->heard, "{\"end\":\"error\",\"code\":\"failed\",\"text\":\"the "
                                        "answer could not be made whole\"}\n");
}

static void a_line_without_end_closes_the_connection(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char text[CONTROL_LINE_MAX + 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    say(fixture, text);
    assert_true(fixture->closed);
    assert_int_equal(fake_network_streams(fixture->network), 1);
}

static void one_connection_too_many_closes_the_one_that_is_idle_longest(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    for (int i = 1; i < CONTROL_CONNECTIONS_MAX; i++) {
        connect_operator(fixture);
    }
    assert_false(fixture->closed);
    assert_int_equal(fake_network_streams(fixture->network), 2 * CONTROL_CONNECTIONS_MAX);
    struct stream *last = connect_operator(fixture);
    assert_true(fixture->closed);
    fixture->client = last;
    fixture->at_once = true;
    say(fixture, "status\n");
    assert_string_equal(fixture->heard, "{\"connections\":3}\n{\"end\":\"ok\"}\n");
}

#define SOCKET_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_taken_apart),
        cmocka_unit_test(bytes_of_peers_become_valid_text),
        SOCKET_TEST(a_request_is_answered_later),
        SOCKET_TEST(requests_that_come_together_are_answered_one_after_the_other),
        SOCKET_TEST(an_operator_who_goes_is_known_to_have_gone),
        SOCKET_TEST(a_second_request_waits_for_the_first_answer),
        SOCKET_TEST(once_it_rests_what_was_asked_is_answered_and_nothing_else_is_taken),
        SOCKET_TEST(an_operator_who_goes_is_answered_to_nobody),
        SOCKET_TEST(a_connection_that_is_taken_over_is_the_answerers_with_all_that_came),
        SOCKET_TEST(an_end_that_came_with_the_request_is_told_to_who_takes_over),
        SOCKET_TEST(a_connection_is_taken_over_later_and_says_what_came_meanwhile),
        SOCKET_TEST(a_connection_that_has_gone_is_nobodys_to_take_over),
        SOCKET_TEST(an_operator_who_is_done_hears_the_answer_then_the_end),
        SOCKET_TEST(a_long_answer_waits_for_the_operator_to_read),
        SOCKET_TEST(a_line_that_cannot_be_made_turns_the_end_into_an_error),
        SOCKET_TEST(a_line_without_end_closes_the_connection),
        SOCKET_TEST(one_connection_too_many_closes_the_one_that_is_idle_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
