#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/smtp_transcript.h"

static void trace(struct transcript_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void trace(struct transcript_run *run, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof(run->trace) - run->trace_bytes;
    int written = vsnprintf(run->trace + run->trace_bytes, room, format, arguments);
    va_end(arguments);
    assert_true(written >= 0 && (size_t)written < room);
    run->trace_bytes += (size_t)written;
}

static void trace_result(struct transcript_run *run, const struct smtp_client_result *result)
{
    static const char *const outcomes[] = {"accepted", "temporary", "permanent"};
    static const char *const stages[] = {"greeting", "hello", "starttls", "mail", "rcpt", "data",
                                         "body",     "dot",   "rset",     "quit", "idle"};
    char status[SMTP_STATUS_TEXT_MAX];
    smtp_status_format(&result->status, status);
    trace(run, "R: %u %s %u %s at %s%s%s%s%s: %.*s\n", result->index, outcomes[result->outcome],
          result->code, status, stages[result->stage],
          result->flags & SMTP_CLIENT_MAY_BE_DUPLICATE ? " maybe-duplicate" : "",
          result->flags & SMTP_CLIENT_SUSPECT_PIPELINING ? " suspect-pipelining" : "",
          result->flags & SMTP_CLIENT_DECIDED_HERE ? " here" : "",
          result->flags & SMTP_CLIENT_CONNECTION_FAILED ? " connection" : "",
          (int)result->text.size, (const char *)result->text.bytes);
}

static void trace_output(struct transcript_run *run)
{
    struct slice out;
    while (!run->write_blocked && (out = smtp_client_output(&run->client)).size > 0) {
        const uint8_t *line = out.bytes, *end = out.bytes + out.size;
        assert_true(out.size >= 2 && memcmp(end - 2, "\r\n", 2) == 0);
        while (line < end) {
            const uint8_t *next = memchr(line, '\n', (size_t)(end - line));
            trace(run, "C: %.*s\n", (int)(next - line - 1), (const char *)line);
            line = next + 1;
        }
        smtp_client_output_sent(&run->client, run->now_ns);
    }
}

void transcript_drive(struct transcript_run *run, struct slice input)
{
    static const char *const wants[] = {"input", "message", "body", "result", "tls", "close"};
    for (;;) {
        struct smtp_client_result result;
        size_t used;
        int want = (int)smtp_client_input(&run->client, run->now_ns, input, &used, &result);
        assert_true(used <= input.size);
        input = slice_from(input, used);
        if (want == SMTP_CLIENT_WANT_RESULT) {
            trace_result(run, &result);
            continue;
        }
        trace_output(run);
        if (want != run->last_want && want != SMTP_CLIENT_WANT_INPUT) {
            trace(run, "W: %s\n", wants[want]);
            const struct smtp_client_result *failure = smtp_client_failure(&run->client);
            if (want == SMTP_CLIENT_WANT_CLOSE && failure != NULL) {
                trace_result(run, failure);
            }
        }
        run->last_want = want;
        if (input.size == 0) {
            return;
        }
    }
}

void transcript_act(struct transcript_run *run, struct slice action)
{
    if (slice_equal(action, slice_text("begin"))) {
        smtp_client_begin(&run->client, &run->message, run->now_ns);
    } else if (slice_equal(action, slice_text("body"))) {
        smtp_client_body_sent(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("quit"))) {
        smtp_client_quit(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("lost"))) {
        smtp_client_closed(&run->client, "connection lost");
    } else if (slice_equal(action, slice_text("secured"))) {
        smtp_client_secured(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("no handshake"))) {
        smtp_client_tls_failed(&run->client, "no handshake");
    } else if (slice_equal(action, slice_text("wait"))) {
        run->now_ns = smtp_client_deadline(&run->client);
        smtp_client_expire(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("block"))) {
        run->write_blocked = true;
    } else if (!slice_equal(action, slice_text("junk"))) {
        fail_msg("no such action: %.*s", (int)action.size, (const char *)action.bytes);
    }
    transcript_drive(run, slice_text(slice_equal(action, slice_text("junk")) ? "2" : ""));
}

enum cut { CUT_NOWHERE, CUT_EVERYWHERE, CUT_ONCE };

static void serve(struct transcript_run *run, struct slice bytes, enum cut cut, size_t at)
{
    if (cut == CUT_EVERYWHERE) {
        for (size_t i = 0; i < bytes.size; i++) {
            transcript_drive(run, slice_of(bytes.bytes + i, 1));
        }
    } else if (cut == CUT_ONCE && at < bytes.size) {
        transcript_drive(run, slice_first(bytes, at));
        transcript_drive(run, slice_from(bytes, at));
    } else {
        transcript_drive(run, bytes);
    }
}

void transcript_open(struct transcript_run *run, const struct transcript *transcript)
{
    memset(run, 0, sizeof(*run));
    memset(&run->client, 0xa5, sizeof(run->client));
    run->now_ns = 1000 * SECOND;
    run->settings = (struct smtp_client_settings){
        .hostname = slice_text("relay.test"),
        .lmtp = transcript->lmtp,
        .pipelining = !transcript->no_pipelining,
        .greeting_ns = 300 * SECOND,
        .reply_ns = 301 * SECOND,
        .data_start_ns = 120 * SECOND,
        .data_block_ns = 180 * SECOND,
        .data_end_ns = 600 * SECOND,
        .quit_ns = 10 * SECOND,
    };
    run->message = (struct smtp_client_message){
        .reverse_path = slice_text(transcript->reverse_path != NULL ? transcript->reverse_path
                                                                    : "sender@a.test"),
        .flags = transcript->flags,
        .body_bytes = transcript->body_bytes != 0 ? transcript->body_bytes : 1234,
        .recipients = run->recipients,
        .envid = slice_text(transcript->envid != NULL ? transcript->envid : ""),
        .ret = transcript->ret,
    };
    const char *list = transcript->recipients != NULL ? transcript->recipients : "one@b.test";
    for (;;) {
        size_t size = strcspn(list, "|");
        assert_true(run->message.recipient_count < TRANSCRIPT_RECIPIENTS_MAX);
        run->recipients[run->message.recipient_count++] = (struct smtp_client_recipient){
            .forward_path = slice_of(list, size),
            .orcpt = slice_text(transcript->orcpt != NULL ? transcript->orcpt : ""),
            .notify = transcript->notify};
        if (list[size] == '\0') {
            break;
        }
        list += size + 1;
    }
    run->last_want = -1;
    smtp_client_open(&run->client, &run->settings, run->now_ns);
    smtp_client_use_tls(&run->client, transcript->tls);
}

const char *transcript_server_lines(const char *line, char *wire, size_t *bytes)
{
    *bytes = 0;
    while (strncmp(line, "S:", 2) == 0) {
        const char *end = strchr(line, '\n');
        size_t skip = line[2] == ' ' ? 3 : 2, size = (size_t)(end - line) - skip;
        memcpy(wire + *bytes, line + skip, size);
        wire[*bytes + size] = '\r';
        wire[*bytes + size + 1] = '\n';
        *bytes += size + 2;
        line = end + 1;
    }
    return line;
}

static void play(const struct transcript *transcript, enum cut cut, size_t at)
{
    static struct transcript_run run;
    transcript_open(&run, transcript);
    transcript_drive(&run, slice_of("", 0));
    const char *line = transcript->lines;
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        if (strncmp(line, "S:", 2) == 0) {
            char wire[8192];
            size_t bytes;
            const char *after = transcript_server_lines(line, wire, &bytes);
            trace(&run, "%.*s", (int)(after - line), line);
            serve(&run, slice_of(wire, bytes), cut, at);
            line = after;
            continue;
        }
        if (*line == '>') {
            trace(&run, "%.*s\n", (int)(end - line), line);
            run.last_want = -1;
            transcript_act(&run, slice_of(line + 2, (size_t)(end - line) - 2));
        }
        line = end + 1;
    }
    if (strcmp(run.trace, transcript->lines) != 0) {
        print_error("%s, cut %d at %zu\n--- expected\n%s--- got\n%s", transcript->name, (int)cut,
                    at, transcript->lines, run.trace);
        fail();
    }
}

void transcript_play_all(const struct transcript *transcripts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        play(&transcripts[i], CUT_NOWHERE, 0);
        if (transcripts[i].in_one_piece) {
            continue;
        }
        play(&transcripts[i], CUT_EVERYWHERE, 0);
        for (size_t at = 1; at < 120; at++) {
            play(&transcripts[i], CUT_ONCE, at);
        }
    }
}
