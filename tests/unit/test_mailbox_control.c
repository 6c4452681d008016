/* What the operator asks of the mailbox service, and the limits on its sessions. */
#define RIG_KEEP_EXPUNGED_S 1000
#include "engine/mailbox/mailbox_control.h"
#include "tests/unit/imap_rig.h"
#include <jansson.h>

struct asker {
    struct imap_rig *rig;
    struct mailbox_control *control;
    struct stream *stream;
    char heard[1u << 17];
    size_t heard_bytes;
    bool closed;
};

static void asker_hear(struct stream *stream, uint32_t events, void *owner)
{
    struct asker *asker = (struct asker *)owner;
    struct slice piece;
    while (stream_peek(stream, &piece, 1) == 1) {
        check(asker->heard_bytes + piece.size < sizeof asker->heard);
        memcpy(asker->heard + asker->heard_bytes, piece.bytes, piece.size);
        asker->heard_bytes += piece.size;
        asker->heard[asker->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
    asker->closed = asker->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

static int set_up(void **state)
{
    struct imap_rig *rig;
    struct asker *asker = (struct asker *)calloc(1, sizeof *asker);
    struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    check(asker != NULL && imap_rig_open((void **)&rig) == 0);
    asker->rig = rig;
    rig->conf->control.path = "/control";
    strcpy(request.to.path, "/control");
    check(mailbox_control_open(&asker->control, &rig->mailbox) == 0);
    rig->mailbox.control = asker->control;
    check(rig->network->ops->connect(rig->network, &request, &asker->stream) == 0);
    asker->stream->notify = asker_hear;
    asker->stream->session = asker;
    rig_rounds(rig, 3);
    *state = asker;
    return 0;
}

static int tear_down(void **state)
{
    struct asker *asker = (struct asker *)*state;
    void *rig = asker->rig;
    struct list_node *sessions = &asker->rig->mailbox.sessions;
    while (!list_empty(sessions)) {
        struct session *session = list_entry(sessions->next, struct session, node);
        check(session->ops->abort(session));
    }
    if (asker->control != NULL) {
        mailbox_control_close(asker->control);
    }
    stream_release(asker->stream);
    free(asker);
    return imap_rig_close(&rig);
}

/* The answer: up to the line with "end". */
static const char *ask(struct asker *asker, const char *request)
{
    asker->heard_bytes = 0;
    asker->heard[0] = '\0';
    check(stream_write(asker->stream, slice_text(request)) == 0);
    check(stream_write(asker->stream, slice_text("\n")) == 0);
    for (unsigned i = 0; i < 20000; i++) {
        const char *end = strstr(asker->heard, "{\"end\"");
        if (end != NULL && strchr(end, '\n') != NULL) {
            break;
        }
        rig_round(asker->rig);
    }
    return asker->heard;
}

static void expect_answer(struct asker *asker, const char *request, const char *part)
{
    const char *heard = ask(asker, request);
    if (strstr(heard, part) == NULL) {
        fail_msg("%s: \"%s\" is not in\n%s", request, part, heard);
    }
}

static struct endpoint address(const char *text)
{
    struct endpoint endpoint;
    check(endpoint_parse(&endpoint, slice_text(text)) == 0);
    return endpoint;
}

static void words_that_are_none_are_refused(void **state)
{
    static const char *const requests[] = {
        "mailbox who weather=fine",
        "mailbox who network=nowhere",
        "mailbox who cursor=x",
        "mailbox who user=",
        "mailbox kick session=-1",
        "mailbox kick",
        "mailbox imap",
        "mailbox imap user=alice create=no",
        "mailbox imap user=a%2fb",
        "mailbox quota user=%00",
        "mailbox frob",
        "queue list",
        "resolve example.org",
    };
    struct asker *asker = (struct asker *)*state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        expect_answer(asker, requests[i], "\"code\":\"bad-request\"");
    }
}

static void nobody_hears(struct stream *stream, uint32_t events, void *owner)
{
    (void)stream;
    (void)events;
    (void)owner;
}

static void a_long_list_of_sessions_comes_in_pages(void **state)
{
    enum { SESSIONS = 1100 };
    struct asker *asker = (struct asker *)*state;
    struct stream **streams = (struct stream **)calloc(SESSIONS, sizeof(streams[0]));
    static const struct endpoint at = {.family = ENDPOINT_UNIX};
    const struct connect_request request = {.to = at};
    struct network *network = asker->rig->network;
    bool seen[SESSIONS + 1] = {false};
    long long cursor = 0;
    unsigned pages = 0;
    asker->rig->conf->limits.connections = SESSIONS;
    for (unsigned i = 0; i < SESSIONS; i++) {
        check(network->ops->connect(network, &request, &streams[i]) == 0);
        streams[i]->notify = nobody_hears;
        rig_round(asker->rig);
    }
    do {
        char words[64];
        snprintf(words, sizeof words, "mailbox who cursor=%lld", cursor);
        const char *line = ask(asker, words);
        cursor = 0;
        for (; *line != '\0'; line = strchr(line, '\n') + 1) {
            json_t *json = json_loadb(line, strcspn(line, "\n"), 0, NULL);
            json_t *number = json_object_get(json, "session");
            if (number != NULL) {
                assert_false(seen[json_integer_value(number)]);
                seen[json_integer_value(number)] = true;
            }
            cursor = (long long)json_integer_value(json_object_get(json, "next"));
            json_decref(json);
        }
        pages++;
    } while (cursor != 0);
    assert_int_equal(pages, 3);
    for (unsigned i = 1; i <= SESSIONS; i++) {
        assert_true(seen[i]);
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        stream_release(streams[i]);
    }
    free(streams);
}

/* After 500 of them came one that has no number, and the next page began at 0 again. */
static void a_connection_of_the_auth_socket_is_nobodys_session(void **state)
{
    enum { SESSIONS = 501 };
    struct asker *asker = (struct asker *)*state;
    struct mailbox *mailbox = &asker->rig->mailbox;
    static struct stream *streams[SESSIONS];
    static const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    struct session asks = {.mailbox = mailbox, .protocol = CONF_PROTOCOL_AUTH};
    struct network *network = asker->rig->network;
    asker->rig->conf->limits.connections = SESSIONS;
    for (unsigned i = 0; i < SESSIONS; i++) {
        check(network->ops->connect(network, &request, &streams[i]) == 0);
        streams[i]->notify = nobody_hears;
        rig_round(asker->rig);
        if (i + 1 == SESSIONS - 1) {
            list_init(&asks.node);
            list_append(&mailbox->sessions, &asks.node);
        }
    }
    expect_answer(asker, "mailbox who", "{\"end\":\"ok\",\"next\":500}");
    expect_answer(asker, "mailbox who cursor=500", "\"session\":501,");
    expect_answer(asker, "mailbox kick session=0", "\"code\":\"not-found\"");
    list_remove(&asks.node);
    for (unsigned i = 0; i < SESSIONS; i++) {
        stream_release(streams[i]);
    }
}

static void one_more_than_a_user_may_have_is_refused_and_counted(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    const struct endpoint home = address("192.0.2.1:7"), away = address("192.0.2.2:7");
    rig->conf->limits.user_address_connections = 2;
    fake_network_set_client(rig->network, &home);
    log_in(rig, 0);
    log_in(rig, 1);
    connect_client(rig, 2);
    talk(rig, 2, "l LOGIN alice secret\r\n", "NO [LIMIT] Too many sessions of this user");
    fake_network_set_client(rig->network, &away);
    log_in(rig, 3);
    talk(rig, 1, "u UNAUTHENTICATE\r\n", "OK");
    talk(rig, 2, "m LOGIN alice secret\r\n", "OK");
    expect_answer(asker, "status", "\"logins_refused\":1");
    assert_string_equal(strstr(ask(asker, "mailbox who network=192.0.2.2/32"), "{\"end\""),
                        "{\"end\":\"ok\"}\n");
    assert_non_null(strstr(asker->heard, "\"address\":\"192.0.2.2\",\"port\":7"));
    assert_null(strstr(asker->heard, "192.0.2.1"));
}

static void the_operator_has_a_session_when_all_places_are_taken(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    log_in(rig, 0);
    rig->conf->limits.connections = 1;
    rig->conf->limits.user_connections = 1;
    asker->heard_bytes = 0;
    check(stream_write(asker->stream, slice_text("mailbox imap user=alice\na SELECT INBOX\r\n")) ==
          0);
    rig_rounds(rig, 10);
    assert_int_equal(strncmp(asker->heard, "* PREAUTH [CAPABILITY ", 22), 0);
    assert_non_null(strstr(asker->heard, "a OK [READ-WRITE]"));
    assert_int_equal(rig->mailbox.counters.sessions, 2);
    assert_true(mailbox_control_is_quiet(asker->control));
}

static void a_user_without_mail_is_none_unless_he_is_to_be_made(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    rig->conf->users.any = false;
    expect_answer(asker, "mailbox imap user=bob create=yes", "\"code\":\"not-found\"");
    rig->conf->users.any = true;
    expect_answer(asker, "mailbox imap user=bob", "\"code\":\"not-found\"");
    expect_answer(asker, "mailbox quota user=bob", "\"code\":\"not-found\"");
    asker->heard_bytes = 0;
    check(stream_write(asker->stream,
                       slice_text("mailbox imap user=bob create=yes\na SELECT INBOX\r\n")) == 0);
    rig_rounds(rig, 20);
    assert_non_null(strstr(asker->heard, "a OK [READ-WRITE]"));
}

/* Its end had come with the request, and nobody told it to the session, which stayed for half an hour. */
static void an_operator_who_has_said_all_is_answered_and_gone(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    rig->conf->users.any = true;
    check(stream_write(asker->stream,
                       slice_text("mailbox imap user=bob create=yes\na SELECT INBOX\r\n")) == 0);
    stream_shut(asker->stream);
    rig_rounds(rig, 20);
    assert_non_null(strstr(asker->heard, "a OK [READ-WRITE]"));
    assert_true(asker->closed);
    assert_true(list_empty(&rig->mailbox.sessions));
}

static void a_session_in_the_middle_of_something_is_cut_in_time(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    log_in(rig, 0);
    say(rig, 0, "a APPEND INBOX {10}\r\n");
    hear(rig, 0, "+ ");
    expect_answer(asker, "mailbox kick user=al*", "{\"kicked\":1}");
    rig_rounds(rig, 100);
    assert_false(rig->clients[0].closed);
    expect_answer(asker, "mailbox kick user=alice", "\"code\":\"not-found\""); /* under way */
    rig_rounds(rig, 2100);
    assert_true(rig->clients[0].closed);
    assert_true(list_empty(&rig->mailbox.sessions));
}

/* alice's INBOX has had two messages, and the first is kept. */
static void message_keep(struct imap_rig *rig)
{
    log_in(rig, 0);
    append(rig, 0, "INBOX", "Subject: one\r\n\r\n");
    append(rig, 0, "INBOX", "Subject: two\r\n\r\n");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "d STORE 1 +FLAGS (\\Deleted \\Flagged)\r\n", "OK");
    talk(rig, 0, "x EXPUNGE\r\n", "OK");
}

static void what_was_expunged_is_told_and_comes_back(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    message_keep(rig);
    expect_answer(asker, "mailbox kept user=alice",
                  "{\"uid\":1,\"bytes\":16,\"flags\":[\"\\\\Flagged\",\"\\\\Deleted\"]");
    expect_answer(asker, "mailbox undelete user=alice mailbox=INBOX uids=2:9",
                  "\"code\":\"not-found\"");
    expect_answer(asker, "mailbox undelete user=alice mailbox=INBOX uids=2,x",
                  "\"code\":\"bad-request\"");
    expect_answer(asker, "mailbox undelete user=alice mailbox=Nope", "\"code\":\"not-found\"");
    expect_answer(asker, "mailbox undelete user=alice mailbox=INBOX uids=1 since=1000",
                  "{\"restored\":1,\"first\":3,\"last\":3}");
    talk(rig, 0, "n NOOP\r\n", "OK");
    talk(rig, 0, "f UID FETCH 1:* FLAGS\r\n", "OK");
    expect(rig, 0, "FETCH (UID 3 FLAGS (\\Flagged");
}

static void what_is_asked_when_the_service_ends_has_failed(void **state)
{
    struct asker *asker = (struct asker *)*state;
    struct imap_rig *rig = asker->rig;
    message_keep(rig);
    rig->disk_stands = true;
    asker->heard_bytes = 0;
    check(stream_write(asker->stream, slice_text("mailbox undelete user=alice\n")) == 0);
    rig_rounds(rig, 20);
    assert_false(mailbox_control_is_quiet(asker->control));
    mailbox_control_close(asker->control);
    asker->rig->mailbox.control = asker->control = NULL;
    rig->disk_stands = false;
    rig_rounds(rig, 20);
    assert_true(asker->closed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(words_that_are_none_are_refused),
        TEST(a_long_list_of_sessions_comes_in_pages),
        TEST(a_connection_of_the_auth_socket_is_nobodys_session),
        TEST(one_more_than_a_user_may_have_is_refused_and_counted),
        TEST(the_operator_has_a_session_when_all_places_are_taken),
        TEST(a_user_without_mail_is_none_unless_he_is_to_be_made),
        TEST(an_operator_who_has_said_all_is_answered_and_gone),
        TEST(a_session_in_the_middle_of_something_is_cut_in_time),
        TEST(what_was_expunged_is_told_and_comes_back),
        TEST(what_is_asked_when_the_service_ends_has_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
