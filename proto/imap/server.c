#include "proto/imap/server_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

/* Above it no input is taken before output was sent. */
#define OUTPUT_BYTES_FULL 4096

void imap_server_open(struct imap_server *server, const struct imap_server_settings *settings,
                      uint64_t now_ns)
{
    check(settings->errors_max > 0 && settings->mechanisms.size <= 256 &&
          settings->mechanisms_clear.size <= 256);
    *server = (struct imap_server){
        .settings = settings,
        .state = IMAP_NOT_AUTHENTICATED,
        .phase = IMAP_PHASE_GREETING,
        .foreign = true,
        .deadline_ns = now_ns + settings->login_ns,
    };
    arena_open(&server->arena, IMAP_TREE_BYTES_BEFORE_LOGIN);
}

void imap_server_command_forget(struct imap_server *server)
{
    if (server->text != NULL) {
        explicit_bzero(server->text, server->text_room); /* it may have been a password */
        free(server->text);
    }
    server->text = NULL;
    server->text_bytes = server->text_room = server->line_from = server->append_at = 0;
    server->append = NULL;
    server->command = NULL;
    server->has_literal = server->append_open = server->idle_broken = false;
    server->append_count = 0;
    arena_close(&server->arena);
    server->arena.bytes_max = server->state == IMAP_NOT_AUTHENTICATED ? IMAP_TREE_BYTES_BEFORE_LOGIN
                                                                      : IMAP_TREE_BYTES_MAX;
}

void imap_server_close(struct imap_server *server)
{
    imap_server_command_forget(server);
    free(server->output);
    server->output = NULL;
    server->output_from = server->output_bytes = server->output_room = 0;
    server->phase = IMAP_PHASE_ENDED;
}

/* ---- Output ---- */

void imap_server_break(struct imap_server *server)
{
    server->reset_owed = server->reset_owed || server->append_open;
    server->append_open = false;
    server->state = IMAP_LOGGED_OUT;
    server->phase = IMAP_PHASE_ENDED;
}

static bool output_reserve(struct imap_server *server, size_t bytes)
{
    size_t needed = server->output_bytes + bytes;
    if (needed <= server->output_room) {
        return true;
    }
    size_t room = server->output_room == 0 ? 256 : server->output_room;
    while (room < needed) {
        room *= 2;
    }
    uint8_t *larger = realloc(server->output, room);
    if (larger == NULL) {
        imap_server_break(server);
        return false;
    }
    server->output = larger;
    server->output_room = (uint32_t)room;
    return true;
}

void imap_server_write(struct imap_server *server, struct slice bytes)
{
    if (bytes.size > 0 && output_reserve(server, bytes.size)) {
        memcpy(server->output + server->output_bytes, bytes.bytes, bytes.size);
        server->output_bytes += (uint32_t)bytes.size;
    }
}

void imap_server_write_text(struct imap_server *server, const char *text)
{
    imap_server_write(server, slice_text(text));
}

/* One line's worth of text, whatever is in it. */
static void write_printable(struct imap_server *server, struct slice text, bool code)
{
    if (!output_reserve(server, text.size)) {
        return;
    }
    bool utf8 = (server->enabled & (IMAP_ENABLED_UTF8 | IMAP_ENABLED_REV2)) != 0;
    utf8 = utf8 && imap_utf8_valid(text);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        bool printable = byte >= ' ' && byte != 0x7f && (byte < 0x80 || utf8);
        bool ends_code = code && byte == ']';
        server->output[server->output_bytes++] = printable && !ends_code ? byte : '?';
    }
}

static void write_code_and_text(struct imap_server *server, struct slice code, struct slice text)
{
    if (code.size > 0 && code.size <= IMAP_CODE_BYTES_MAX) {
        imap_server_write_text(server, "[");
        write_printable(server, code, true);
        imap_server_write_text(server, "] ");
    } else if (text.size > 0 && text.bytes[0] == '[') {
        imap_server_write_text(server, "?"); /* what looks like a code is one */
        text = slice_from(text, 1);
    }
    write_printable(server, slice_first(text, 512), false);
    imap_server_write_text(server, "\r\n");
}

static const char *const result_words[] = {
    [IMAP_OK] = " OK ",
    [IMAP_NO] = " NO ",
    [IMAP_BAD] = " BAD ",
};

void imap_server_answer(struct imap_server *server, const struct imap_answer *answer)
{
    static const char *const usual[] = {
        [IMAP_OK] = "Completed", [IMAP_NO] = "Failed", [IMAP_BAD] = "Invalid command"};
    if (server->tag_bytes > 0) {
        imap_server_write(server, slice_of(server->tag, server->tag_bytes));
    } else {
        imap_server_write_text(server, "*");
    }
    imap_server_write_text(server, result_words[answer->result]);
    write_code_and_text(server, answer->code,
                        answer->text.size > 0 ? answer->text : slice_text(usual[answer->result]));
    imap_server_command_forget(server);
    server->tag_bytes = 0;
    server->clock_due = true;
    if (server->phase != IMAP_PHASE_ENDED) {
        server->phase = IMAP_PHASE_LINE;
    }
    if (answer->result == IMAP_BAD && server->phase != IMAP_PHASE_ENDED &&
        ++server->errors >= server->settings->errors_max) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("Too many errors"));
    }
}

void imap_server_fail_now(struct imap_server *server, enum imap_result result, const char *code,
                          const char *text)
{
    const struct imap_answer answer = imap_answer_of(result, code, text);
    imap_server_answer(server, &answer);
}

struct slice imap_server_output(const struct imap_server *server)
{
    if (server->output == NULL) {
        return slice_of(NULL, 0);
    }
    return slice_of(server->output + server->output_from,
                    server->output_bytes - server->output_from);
}

void imap_server_sent(struct imap_server *server, size_t bytes)
{
    check(bytes <= server->output_bytes - server->output_from);
    server->output_from += (uint32_t)bytes;
    if (server->output_from == server->output_bytes) {
        free(server->output);
        server->output = NULL;
        server->output_from = server->output_bytes = server->output_room = 0;
    }
}

static void greet(struct imap_server *server, const char *status, bool logged_in)
{
    char capabilities[IMAP_CAPABILITY_BYTES_MAX];
    check(server->phase == IMAP_PHASE_GREETING);
    size_t size = imap_server_capabilities(server, logged_in, capabilities, sizeof(capabilities));
    imap_server_write_text(server, "* ");
    imap_server_write_text(server, status);
    imap_server_write_text(server, " [CAPABILITY ");
    imap_server_write(server, slice_of(capabilities, size));
    imap_server_write_text(server, "] ");
    write_printable(server, slice_first(server->settings->hostname, 255), false);
    imap_server_write_text(server, " Tubepost ready\r\n");
    if (server->phase != IMAP_PHASE_ENDED) {
        server->phase = IMAP_PHASE_LINE;
    }
}

void imap_server_greet(struct imap_server *server)
{
    greet(server, "OK", false);
}

void imap_server_greet_known(struct imap_server *server)
{
    server->state = IMAP_AUTHENTICATED;
    greet(server, "PREAUTH", true);
}

void imap_server_begin_known(struct imap_server *server, uint8_t enabled)
{
    check(server->phase == IMAP_PHASE_GREETING);
    server->state = IMAP_AUTHENTICATED;
    server->enabled = enabled;
    server->foreign = false;
    server->phase = IMAP_PHASE_LINE;
    server->clock_due = true;
    server->arena.bytes_max = IMAP_TREE_BYTES_MAX;
}

void imap_server_bye(struct imap_server *server, struct slice code, struct slice text)
{
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    imap_server_write_text(server, "* BYE ");
    write_code_and_text(server, code, text);
    imap_server_break(server);
    imap_server_command_forget(server);
}

/* ---- Answers of the owner ---- */

void imap_server_done(struct imap_server *server, const struct imap_answer *answer)
{
    static const struct imap_answer ok = {.result = IMAP_OK};
    if (server->phase == IMAP_PHASE_ENDED) {
        return; /* BYE was said while the command ran */
    }
    check(server->phase == IMAP_PHASE_COMMAND || server->phase == IMAP_PHASE_CHALLENGE ||
          server->phase == IMAP_PHASE_IDLE_DONE);
    answer = answer != NULL ? answer : &ok;
    if (server->idle_broken) {
        imap_server_fail_now(server, IMAP_BAD, NULL, "Expected DONE");
        return;
    }
    imap_server_settle(server, answer);
}

void imap_server_take(struct imap_server *server)
{
    check(server->phase == IMAP_PHASE_MESSAGE || server->phase == IMAP_PHASE_ENDED);
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    server->append_open = true;
    server->phase = IMAP_PHASE_APPEND;
}

static struct slice keep(struct imap_server *server, struct slice text, size_t most)
{
    struct slice copy;
    return text.size <= most && arena_copy(&server->arena, text, &copy) ? copy : slice_of(NULL, 0);
}

void imap_server_refuse(struct imap_server *server, const struct imap_answer *answer)
{
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    check(server->append != NULL);
    const struct imap_answer kept = {answer->result, keep(server, answer->code, 512),
                                     keep(server, answer->text, 512)};
    server->append_open = false;
    switch ((enum imap_server_phase)server->phase) {
    case IMAP_PHASE_MESSAGE_BYTES:
        server->failure = kept;
        imap_server_skip(server, server->literal_left);
        return;
    case IMAP_PHASE_LINE:
        server->failure = kept;
        imap_server_skip_line(server);
        return;
    case IMAP_PHASE_LITERAL: /* of a URL */
        server->failure = kept;
        imap_server_skip(server, server->literal_left);
        return;
    case IMAP_PHASE_APPEND:
    case IMAP_PHASE_MESSAGE:
        imap_server_fail(server, &kept);
        return;
    case IMAP_PHASE_SKIP_LINE:
    case IMAP_PHASE_SKIP_LITERAL:
        return; /* it has failed already */
    case IMAP_PHASE_GREETING:
    case IMAP_PHASE_COMMAND:
    case IMAP_PHASE_CHALLENGE:
    case IMAP_PHASE_RESPONSE:
    case IMAP_PHASE_IDLE:
    case IMAP_PHASE_IDLE_DONE:
    case IMAP_PHASE_SECURING:
    case IMAP_PHASE_ENDED:
        break;
    }
    check(!"a message is refused outside of APPEND");
}

/* ---- Input ---- */

static enum imap_want want_now(const struct imap_server *server)
{
    switch ((enum imap_server_phase)server->phase) {
    case IMAP_PHASE_MESSAGE:
    case IMAP_PHASE_COMMAND:
    case IMAP_PHASE_CHALLENGE:
    case IMAP_PHASE_IDLE_DONE:
        return IMAP_WANT_ANSWER;
    case IMAP_PHASE_SECURING:
        return IMAP_WANT_TLS;
    case IMAP_PHASE_ENDED:
        return server->reset_owed ? IMAP_WANT_INPUT : IMAP_WANT_CLOSE;
    case IMAP_PHASE_GREETING:
    case IMAP_PHASE_LINE:
    case IMAP_PHASE_LITERAL:
    case IMAP_PHASE_SKIP_LINE:
    case IMAP_PHASE_SKIP_LITERAL:
    case IMAP_PHASE_APPEND:
    case IMAP_PHASE_MESSAGE_BYTES:
    case IMAP_PHASE_RESPONSE:
    case IMAP_PHASE_IDLE:
        return IMAP_WANT_INPUT;
    }
    return IMAP_WANT_CLOSE;
}

static bool takes_input(const struct imap_server *server)
{
    return want_now(server) == IMAP_WANT_INPUT && server->phase != IMAP_PHASE_GREETING &&
           server->phase != IMAP_PHASE_ENDED &&
           server->output_bytes - server->output_from < OUTPUT_BYTES_FULL;
}

static bool reset_give(struct imap_server *server, struct imap_event *event)
{
    if (!server->reset_owed || event->kind != IMAP_EVENT_NONE) {
        return false;
    }
    server->reset_owed = false;
    event->kind = IMAP_EVENT_APPEND_RESET;
    return true;
}

static void clock_restart(struct imap_server *server, uint64_t now_ns)
{
    bool before = server->state == IMAP_NOT_AUTHENTICATED;
    server->clock_due = false;
    server->deadline_ns =
        now_ns + (before ? server->settings->login_ns : server->settings->idle_ns);
}

enum imap_want imap_server_input(struct imap_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct imap_event *event)
{
    *used = 0;
    *event = (struct imap_event){.kind = IMAP_EVENT_NONE};
    if (server->clock_due) {
        clock_restart(server, now_ns);
    }
    if (reset_give(server, event) || !takes_input(server)) {
        return want_now(server);
    }
    uint8_t before;
    do { /* what only changes the phase is followed by the next step: we would seem to wait */
        before = server->phase;
        if (server->phase == IMAP_PHASE_APPEND) {
            imap_server_append(server, event);
        } else if (server->phase == IMAP_PHASE_MESSAGE_BYTES) {
            *used = imap_server_append_bytes(server, input, event);
            if (*used > 0) {
                clock_restart(server,
                              now_ns); /* a large message may take its time while it comes */
            }
        } else if (input.size > 0) {
            *used = imap_server_lines(server, input, event);
        }
    } while (*used == 0 && event->kind == IMAP_EVENT_NONE && !server->reset_owed &&
             server->phase != before && takes_input(server));
    reset_give(server, event);
    return want_now(server);
}

void imap_server_secured(struct imap_server *server, uint64_t now_ns)
{
    check(server->phase == IMAP_PHASE_GREETING || server->phase == IMAP_PHASE_SECURING);
    server->secured = true;
    clock_restart(server, now_ns);
    if (server->phase == IMAP_PHASE_SECURING) {
        server->phase = IMAP_PHASE_LINE;
    }
}

/* ---- Time, and what it costs ---- */

uint64_t imap_server_deadline(const struct imap_server *server)
{
    bool waits = want_now(server) == IMAP_WANT_ANSWER;
    return waits || server->phase == IMAP_PHASE_ENDED ? IMAP_SERVER_NEVER : server->deadline_ns;
}

void imap_server_expire(struct imap_server *server)
{
    imap_server_bye(server, slice_of(NULL, 0),
                    slice_text(server->state == IMAP_NOT_AUTHENTICATED
                                   ? "Login took too long"
                                   : "Autologout, nothing came for too long"));
}

size_t imap_server_memory(const struct imap_server *server)
{
    return server->arena.bytes + server->text_room + server->output_room;
}
