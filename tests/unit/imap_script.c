#include "tests/unit/imap_script.h"
#include "tests/unit/imap_dump.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static void say(struct imap_talk *talk, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] != '\r') {
            assert_true(talk->output_bytes < sizeof(talk->output) - 1);
            talk->output[talk->output_bytes++] = (char)(text.bytes[i] == 0 ? '0' : text.bytes[i]);
        }
    }
    talk->output[talk->output_bytes] = '\0';
}

static void say_text(struct imap_talk *talk, const char *text)
{
    say(talk, slice_text(text));
}

/* The rule of server.h: after each call, before anything of our own. */
static void move(struct imap_talk *talk)
{
    struct slice output = imap_server_output(&talk->server);
    say(talk, output);
    imap_server_sent(&talk->server, output.size);
}

void imap_talk_open(struct imap_talk *talk)
{
    *talk = (struct imap_talk){
        .settings =
            {
                .hostname = slice_text("mail.test"),
                .capabilities = UINT64_MAX,
                .mechanisms = slice_text("PLAIN SCRAM-SHA-256"),
                .mechanisms_clear = slice_text("SCRAM-SHA-256"),
                .starttls = true,
                .login_in_clear = true,
                .append_bytes_max = 100,
                .errors_max = 3,
                .login_ns = 180,
                .idle_ns = 1800,
            },
    };
    imap_server_open(&talk->server, &talk->settings, 0);
    imap_server_greet(&talk->server);
    move(talk);
    talk->output_bytes = 0;
}

void imap_talk_login(struct imap_talk *talk)
{
    imap_talk_text(talk, "l LOGIN joe good\r\n");
    assert_int_equal(talk->server.state, IMAP_AUTHENTICATED);
    talk->output_bytes = 0;
}

void imap_talk_select(struct imap_talk *talk)
{
    imap_talk_login(talk);
    imap_talk_text(talk, "s SELECT x\r\n");
    assert_int_equal(talk->server.state, IMAP_SELECTED);
    talk->output_bytes = 0;
}

void imap_talk_close(struct imap_talk *talk)
{
    imap_server_close(&talk->server);
    assert_int_equal(imap_server_memory(&talk->server), 0);
}

static bool select_fails(const struct imap_command *command)
{
    return command->kind == IMAP_SELECT && slice_equal(command->select.mailbox, slice_text("none"));
}

static void command_take(struct imap_talk *talk, const struct imap_event *event)
{
    const struct imap_command *command = event->command;
    const struct imap_answer no_login = {IMAP_NO, slice_text("AUTHENTICATIONFAILED"),
                                         slice_text("No")};
    const struct imap_answer no_mailbox = {IMAP_NO, slice_text("NONEXISTENT"), slice_text("No")};
    const struct imap_answer *answer = NULL;
    char dump[2048];
    talk->may_expunge = event->may_expunge;
    talk->condstore_begins = event->condstore_begins;
    if (command->kind == IMAP_IDLE) {
        return;
    }
    imap_dump(command, dump, sizeof(dump));
    if (command->kind == IMAP_AUTHENTICATE && !event->initial_given) {
        imap_server_challenge(&talk->server, slice_text("who?"));
        return;
    }
    if (command->kind == IMAP_LOGIN && !slice_equal(command->login.password, slice_text("good"))) {
        answer = &no_login;
    } else if (command->kind == IMAP_AUTHENTICATE) {
        say_text(talk, "* (initial ");
        say(talk, event->bytes);
        say_text(talk, ")\n");
    } else if (select_fails(command)) {
        answer = &no_mailbox;
    } else if (command->kind != IMAP_NOOP && command->kind != IMAP_LOGIN) {
        say_text(talk, "* (");
        say_text(talk, dump);
        say_text(talk, ")\n");
    }
    if (command->kind == IMAP_APPEND || command->kind == IMAP_REPLACE) {
        talk->messages = 0;
    }
    imap_server_done(&talk->server, answer);
}

static void message_take(struct imap_talk *talk, const struct imap_event *event)
{
    const struct imap_answer full = {IMAP_NO, slice_text("OVERQUOTA"), slice_text("Full")};
    char dump[512];
    if (event->kind == IMAP_EVENT_MESSAGE_URL) {
        say_text(talk, "* url ");
        say(talk, event->bytes);
        say_text(talk, "\n");
        imap_server_take(&talk->server);
        return;
    }
    if (slice_equal(event->append->mailbox, slice_text("full"))) {
        imap_server_refuse(&talk->server, &full);
        talk->messages = 0;
        return;
    }
    talk->late = slice_equal(event->append->mailbox, slice_text("late"));
    imap_dump_append(event->append, dump, sizeof(dump));
    say_text(talk, "* message");
    say_text(talk, dump);
    say_text(talk, "\n");
    talk->messages++;
    imap_server_take(&talk->server);
}

static void event_take(struct imap_talk *talk, const struct imap_event *event)
{
    const struct imap_answer late = {IMAP_NO, slice_text("SERVERBUG"), slice_text("Late")};
    switch (event->kind) {
    case IMAP_EVENT_NONE:
        return;
    case IMAP_EVENT_COMMAND:
        command_take(talk, event);
        return;
    case IMAP_EVENT_RESPONSE:
        say_text(talk, "* (response ");
        say(talk, event->bytes);
        say_text(talk, ")\n");
        imap_server_done(&talk->server, NULL);
        return;
    case IMAP_EVENT_CANCELLED:
        say_text(talk, "(cancelled)\n");
        return;
    case IMAP_EVENT_IDLE_DONE:
        imap_server_done(&talk->server, NULL);
        return;
    case IMAP_EVENT_MESSAGE:
    case IMAP_EVENT_MESSAGE_URL:
        message_take(talk, event);
        return;
    case IMAP_EVENT_MESSAGE_BYTES:
        if (talk->late) {
            talk->messages = 0;
            imap_server_refuse(&talk->server, &late);
            return;
        }
        say(talk, event->bytes);
        return;
    case IMAP_EVENT_MESSAGE_END:
        say_text(talk, "|\n");
        return;
    case IMAP_EVENT_APPEND_RESET:
        assert_true(talk->messages > 0);
        talk->messages = 0;
        talk->resets++;
        return;
    }
}

static void piece_feed(struct imap_talk *talk, struct slice piece)
{
    while (!talk->closed) {
        struct imap_event event;
        size_t used;
        enum imap_want want = imap_server_input(&talk->server, talk->now_ns, piece, &used, &event);
        size_t memory = imap_server_memory(&talk->server);
        talk->peak = memory > talk->peak ? memory : talk->peak;
        size_t said = imap_server_output(&talk->server).size;
        move(talk);
        event_take(talk, &event);
        said += imap_server_output(&talk->server).size;
        move(talk);
        piece = slice_from(piece, used);
        talk->closed = want == IMAP_WANT_CLOSE;
        if (want == IMAP_WANT_TLS || (used == 0 && event.kind == IMAP_EVENT_NONE && said == 0)) {
            return;
        }
    }
}

void imap_talk_feed(struct imap_talk *talk, struct slice input, size_t cut)
{
    for (size_t at = 0; at < input.size; at += cut) {
        struct slice piece = slice_first(slice_from(input, at), cut);
        uint8_t *copy = malloc(piece.size);
        memcpy(copy, piece.bytes, piece.size);
        piece_feed(talk, slice_of(copy, piece.size));
        free(copy);
    }
    piece_feed(talk, slice_of(NULL, 0));
}

void imap_talk_text(struct imap_talk *talk, const char *input)
{
    imap_talk_feed(talk, slice_text(input), SIZE_MAX / 2);
}

void imap_talk_expect(struct imap_talk *talk, const char *what, const char *output)
{
    if (strcmp(talk->output, output) != 0) {
        fail_msg("%s\n got: %s\nwant: %s", what, talk->output, output);
    }
    talk->output_bytes = 0;
    talk->output[0] = '\0';
}

void imap_scripts_check(const struct imap_script *scripts, size_t count,
                        enum imap_script_state state)
{
    static const size_t cuts[] = {SIZE_MAX / 2, 1, 2, 3, 7};
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < sizeof(cuts) / sizeof(*cuts); c++) {
            static struct imap_talk talk;
            imap_talk_open(&talk);
            if (state == IMAP_SCRIPT_LOGGED_IN) {
                imap_talk_login(&talk);
            } else if (state == IMAP_SCRIPT_SELECTED) {
                imap_talk_select(&talk);
            }
            imap_talk_feed(&talk, slice_of(scripts[i].input, scripts[i].input_bytes), cuts[c]);
            imap_talk_expect(&talk, scripts[i].what, scripts[i].output);
            if (talk.closed != scripts[i].closed) {
                fail_msg("%s: closed %d", scripts[i].what, talk.closed);
            }
            assert_int_equal(talk.messages, 0);
            if (!talk.closed) {
                assert_int_equal(imap_server_memory(&talk.server), 0);
            }
            imap_talk_close(&talk);
        }
    }
}
