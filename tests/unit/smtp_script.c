#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

void smtp_script_settings(struct smtp_server_settings *settings)
{
    *settings = (struct smtp_server_settings){
        .hostname = slice_text("mx.test"),
        .pipelining = true,
        .chunking = true,
        .smtputf8 = true,
        .message_bytes_max = 4096,
        .recipients_max = 3,
        .errors_max = 20,
        .junk_max = 100,
        .line_bytes_max = 1000,
        .header_bytes_max = 2000,
        .header_lines_max = 50,
        .hops_max = 5,
        .command_ns = 300,
        .data_ns = 180,
    };
}

void smtp_script_output(struct smtp_script_run *run, struct smtp_server *server)
{
    struct slice output = smtp_server_output(server);
    assert_true(run->replies_size + output.size < SMTP_SCRIPT_TEXT_BYTES);
    memcpy(run->replies + run->replies_size, output.bytes, output.size);
    run->replies_size += output.size;
    smtp_server_sent(server, output.size);
}

static void login_answer(struct smtp_server *server, bool right)
{
    const struct smtp_verdict in = {235, "2.7.0", slice_text("You are in")};
    const struct smtp_verdict out = {535, "5.7.8", slice_text("Wrong")};
    smtp_server_verdict(server, right ? &in : &out);
}

/* Of any exchange: `step` counts the client's answers. */
static void exchange_step(struct smtp_script_run *run, struct smtp_server *server,
                          const char *mechanism, const struct smtp_event *event)
{
    static const uint8_t plain[] = "\0tim\0secret";
    const struct smtp_verdict unknown = {504, "5.5.4", slice_text("No such mechanism")};
    static uint8_t much[SMTP_SERVER_OUTPUT_BYTES];
    if (strcmp(mechanism, "PLAIN") == 0) {
        if (!event->has_octets) {
            assert_true(smtp_server_challenge(server, slice_of(NULL, 0)));
        } else {
            login_answer(server, slice_equal(event->octets, slice_of(plain, sizeof(plain) - 1)));
        }
    } else if (strcmp(mechanism, "LOGIN") == 0) {
        if (!event->has_octets || run->answers == 1) {
            assert_true(smtp_server_challenge(
                server, slice_text(event->has_octets ? "Password" : "User Name")));
        } else {
            login_answer(server, slice_equal(event->octets, slice_text("secret")));
        }
    } else if (strcmp(mechanism, "LONG") == 0) {
        bool whole = event->octets.size % 6 == 0;
        for (size_t i = 0; i < event->octets.size && whole; i++) {
            whole = event->octets.bytes[i] == (uint8_t) "octets"[i % 6];
        }
        login_answer(server, whole && event->octets.size > 0);
    } else if (strcmp(mechanism, "LOUD") == 0) {
        assert_false(smtp_server_challenge(server, slice_of(much, sizeof(much))));
        login_answer(server, false);
    } else {
        smtp_server_verdict(server, &unknown);
    }
}

static void auth_take(struct smtp_script_run *run, struct smtp_server *server,
                      const struct smtp_event *event)
{
    static char mechanism[32];
    if (event->kind == SMTP_EVENT_AUTH) {
        run->answers = event->has_octets;
        assert_true(event->text.size > 0);
        snprintf(mechanism, sizeof(mechanism), "%.*s", (int)event->text.size,
                 (const char *)event->text.bytes);
    } else {
        run->answers++;
    }
    exchange_step(run, server, mechanism, event);
}

static void event_take(struct smtp_script_run *run, struct smtp_server *server,
                       const struct smtp_event *event)
{
    switch (event->kind) {
    case SMTP_EVENT_NONE:
    case SMTP_EVENT_HELO:
        break;
    case SMTP_EVENT_CONNECTED:
    case SMTP_EVENT_SENDER:
        smtp_server_verdict(server, NULL);
        run->recipients = 0;
        break;
    case SMTP_EVENT_RECIPIENT:
        if (slice_equal(event->path.local, slice_text("unknown"))) {
            smtp_server_verdict(server,
                                &(struct smtp_verdict){550, "5.1.1", slice_text("No such user")});
        } else {
            run->recipients++;
            smtp_server_verdict(server, NULL);
        }
        break;
    case SMTP_EVENT_BODY_BEGIN:
        run->draft_size = 0;
        break;
    case SMTP_EVENT_BODY:
        assert_true(event->body.size > 0);
        assert_true(run->draft_size + event->body.size < SMTP_SCRIPT_TEXT_BYTES);
        memcpy(run->draft + run->draft_size, event->body.bytes, event->body.size);
        run->draft_size += event->body.size;
        break;
    case SMTP_EVENT_BODY_END:
        run->commits++;
        memcpy(run->body + run->body_size, run->draft, run->draft_size);
        run->body_size += run->draft_size;
        run->body[run->body_size++] = '|';
        for (unsigned i = 0; i < (run->settings.lmtp ? run->recipients : 1); i++) {
            smtp_server_verdict(server, NULL);
        }
        break;
    case SMTP_EVENT_RESET:
        run->resets++;
        break;
    case SMTP_EVENT_AUTH:
    case SMTP_EVENT_AUTH_ANSWER:
        auth_take(run, server, event);
        break;
    case SMTP_EVENT_AUTH_ROOM:
        free(run->lent);
        run->lent = malloc(SMTP_AUTH_LINE_BYTES_MAX); /* so that a write beyond it is seen */
        smtp_server_auth_room(server, run->lent);
        break;
    case SMTP_EVENT_AUTH_END:
        run->auth_ends++;
        break;
    }
}

void smtp_script_feed(struct smtp_script_run *run, struct smtp_server *server, struct slice piece)
{
    for (;;) {
        struct smtp_event event;
        size_t used = 0;
        enum smtp_want want = smtp_server_input(server, 1, piece, &used, &event);
        event_take(run, server, &event);
        piece = slice_from(piece, used);
        bool answered = smtp_server_output(server).size > 0;
        if (!run->unsent) {
            smtp_script_output(run, server);
        }
        if (want == SMTP_WANT_CLOSE) {
            run->closed = true;
            return;
        }
        if (want == SMTP_WANT_TLS) {
            run->secured++;
            smtp_server_secured(server, 1);
            return; /* what else is in the piece came in the clear */
        }
        if (used == 0 && event.kind == SMTP_EVENT_NONE) {
            /* Who feeds it would wait for more now: only for room, or at the end. */
            assert_true(piece.size == 0 || answered);
            if (piece.size == 0) {
                return;
            }
        }
    }
}

void smtp_script_play(struct smtp_script_run *run, const char *input, size_t size, size_t cut)
{
    struct smtp_server *server = malloc(sizeof(*server));
    struct smtp_server_settings settings = run->settings;
    bool bare_lines = run->bare_lines, unsent = run->unsent, auth = run->auth;
    enum smtp_auth demand = run->demand;
    memset(run, 0, sizeof(*run));
    run->settings = settings;
    run->bare_lines = bare_lines;
    run->unsent = unsent;
    run->auth = auth;
    run->demand = demand;
    smtp_server_open(server, &run->settings, 0);
    if (bare_lines) {
        smtp_server_take_bare_lines(server);
    }
    if (auth) {
        smtp_server_offer_auth(server, slice_text("PLAIN LOGIN"), demand);
    }
    smtp_script_feed(run, server, slice_of(NULL, 0));
    for (size_t at = 0; at < size && !run->closed;) {
        size_t step = cut == SMTP_SCRIPT_WHOLE || size - at < cut ? size - at : cut;
        char *copy = malloc(step); /* so that a read beyond it is seen */
        memcpy(copy, input + at, step);
        smtp_script_feed(run, server, slice_of(copy, step));
        free(copy);
        at += step;
    }
    smtp_script_feed(run, server, slice_of(NULL, 0));
    smtp_script_output(run, server);
    free(run->lent);
    free(server);
}

void smtp_script_codes(const struct smtp_script_run *run, char *codes)
{
    const char *line = run->replies;
    codes[0] = '\0';
    while (line < run->replies + run->replies_size) {
        const char *end = strstr(line, "\r\n");
        assert_non_null(end);
        if (line[3] == ' ') {
            sprintf(codes + strlen(codes), "%s%.3s", codes[0] == '\0' ? "" : " ", line);
        }
        line = end + 2;
    }
}

void smtp_scripts_check(const struct smtp_script *scripts, size_t count,
                        const struct smtp_server_settings *settings)
{
    static struct smtp_script_run run;
    for (size_t i = 0; i < count; i++) {
        for (size_t cut = 0; cut <= scripts[i].size && cut < 40; cut++) {
            char codes[4096];
            run.settings = *settings;
            smtp_script_play(&run, scripts[i].input, scripts[i].size, cut);
            smtp_script_codes(&run, codes);
            run.body[run.body_size] = '\0';
            if (strcmp(codes, scripts[i].codes) != 0 || strcmp(run.body, scripts[i].body) != 0) {
                print_error("%s (cut %zu)\nreplies:\n%s\nbody: %s\n", scripts[i].why, cut,
                            run.replies, run.body);
            }
            assert_string_equal(codes, scripts[i].codes);
            assert_string_equal(run.body, scripts[i].body);
        }
    }
}
