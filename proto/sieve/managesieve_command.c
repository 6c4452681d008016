#include "proto/sieve/managesieve_private.h"
#include "engine/core/check.h"
#include "proto/message/utf8.h"
#include <stdio.h>

#define ARGUMENTS_MAX 2u

enum argument_kind { ARGUMENT_STRING, ARGUMENT_NUMBER };

struct argument {
    enum argument_kind kind;
    struct slice text;
    uint32_t number;
};

struct command {
    struct slice verb;
    struct argument arguments[ARGUMENTS_MAX];
    unsigned count;
};

void managesieve_line_forget(struct managesieve_server *server)
{
    server->line_bytes = 0;
    server->literal_left = server->literal_end = 0;
    server->in_quotes = server->escaped = server->overflow = false;
}

void managesieve_ask(struct managesieve_server *server, struct managesieve_event *event,
                     enum managesieve_event_kind kind)
{
    event->kind = kind;
    server->pending = (uint8_t)kind;
}

/* ---- Reading a line ---- */

/* Decimal, below 2^32, without leading zeros. */
static bool number_read(struct slice *text, uint32_t *number)
{
    uint64_t wide = 0;
    size_t count = 0;
    while (count < text->size && text->bytes[count] >= '0' && text->bytes[count] <= '9') {
        wide = wide * 10 + (uint64_t)(text->bytes[count++] - '0');
        if (wide > UINT32_MAX || (count > 1 && text->bytes[0] == '0')) {
            return false;
        }
    }
    *number = (uint32_t)wide;
    *text = slice_from(*text, count);
    return count > 0;
}

/* Decoded in place, in the line. */
static bool quoted_read(struct managesieve_server *server, struct slice *text, struct slice *string)
{
    uint8_t *place = server->line + (text->bytes - server->line) + 1;
    size_t used = 0;
    for (size_t at = 1; at < text->size; at++) {
        uint8_t byte = text->bytes[at];
        if (byte == '"') {
            *string = slice_of(place, used);
            *text = slice_from(*text, at + 1);
            return true;
        }
        if (byte == '\\') {
            if (++at == text->size || (text->bytes[at] != '"' && text->bytes[at] != '\\')) {
                return false;
            }
            byte = text->bytes[at];
        }
        if (byte == '\r' || byte == '\n' || byte == '\0') {
            return false;
        }
        place[used++] = byte;
    }
    return false;
}

/* "{5+}" CRLF and five octets. */
static bool literal_read(struct slice *text, struct slice *string)
{
    uint32_t size;
    struct slice rest = slice_from(*text, 1);
    struct slice mark = slice_text("+}\r\n");
    if (!number_read(&rest, &size) || !slice_equal(slice_first(rest, mark.size), mark)) {
        return false;
    }
    rest = slice_from(rest, mark.size);
    if (rest.size < size) {
        return false;
    }
    *string = slice_first(rest, size);
    *text = slice_from(rest, size);
    return true;
}

static bool argument_read(struct managesieve_server *server, struct slice *text,
                          struct argument *argument)
{
    *argument = (struct argument){.kind = ARGUMENT_STRING};
    if (text->size == 0) {
        return false;
    }
    switch (text->bytes[0]) {
    case '"':
        return quoted_read(server, text, &argument->text);
    case '{':
        return literal_read(text, &argument->text);
    default:
        argument->kind = ARGUMENT_NUMBER;
        return number_read(text, &argument->number);
    }
}

/* What is behind the verb. Each is text in UTF-8, but a script may be anything. */
static bool arguments_read(struct managesieve_server *server, struct slice text,
                           struct command *command)
{
    while (text.size > 0) {
        if (text.bytes[0] != ' ' || command->count == ARGUMENTS_MAX) {
            return false;
        }
        text = slice_from(text, 1);
        if (!argument_read(server, &text, &command->arguments[command->count++])) {
            return false;
        }
    }
    return true;
}

static bool command_read(struct managesieve_server *server, struct slice line,
                         struct command *command)
{
    size_t size = 0;
    while (size < line.size && line.bytes[size] > ' ' && line.bytes[size] < 0x7f &&
           line.bytes[size] != '"' && line.bytes[size] != '{') {
        size++;
    }
    *command = (struct command){.verb = slice_first(line, size)};
    return size > 0 && arguments_read(server, slice_from(line, size), command);
}

static bool is(const struct command *command, const char *verb)
{
    return slice_equal_nocase(command->verb, slice_text(verb));
}

/* ---- Scripts ---- */

static void refuse(struct managesieve_server *server, const char *code, const char *text)
{
    server->script_refused = true;
    server->refusal_code = code;
    snprintf(server->refusal_text, sizeof(server->refusal_text), "%s", text);
}

void managesieve_script_done(struct managesieve_server *server, struct managesieve_event *event)
{
    managesieve_line_forget(server);
    server->state = server->logged_in ? MANAGESIEVE_LOGGED_IN : MANAGESIEVE_CLEAR;
    if (server->script_refused) {
        managesieve_no(server, server->refusal_code, server->refusal_text);
    } else {
        managesieve_ask(server, event, MANAGESIEVE_EVENT_SCRIPT_END);
    }
}

/* PUTSCRIPT's or CHECKSCRIPT's: from now on it comes. */
static void script_expect(struct managesieve_server *server, const struct command *command,
                          uint32_t size, struct managesieve_event *event)
{
    bool check_only = is(command, "CHECKSCRIPT");
    server->script_refused = false;
    server->script_left = size;
    if (!server->logged_in) {
        refuse(server, NULL, "Authenticate first.");
    } else if (!check_only && !sieve_script_name_valid(command->arguments[0].text)) {
        refuse(server, NULL, "This is no name for a script.");
    } else if (size > server->settings->script_bytes_max) {
        refuse(server, "QUOTA/MAXSIZE", "The script is too large.");
    }
    server->state = MANAGESIEVE_SCRIPT;
    if (server->script_refused && server->script_quoted) {
        managesieve_script_done(server, event); /* nothing more has to come */
    } else if (!server->script_refused) {
        event->name = check_only ? slice_of(NULL, 0) : command->arguments[0].text;
        event->check = check_only;
        event->size = size;
        managesieve_ask(server, event, MANAGESIEVE_EVENT_SCRIPT_BEGIN);
    }
}

bool managesieve_script_begin(struct managesieve_server *server, uint32_t size,
                              struct managesieve_event *event)
{
    struct command command;
    struct slice line = slice_of(server->line, server->line_bytes);
    /* Without " {123+}". */
    const uint8_t *brace = memrchr(line.bytes, '{', line.size);
    check(brace != NULL);
    line = slice_first(line, (size_t)(brace - line.bytes));
    if (line.size == 0 || line.bytes[line.size - 1] != ' ' || server->overflow ||
        server->state == MANAGESIEVE_LOGGING_IN) {
        return false;
    }
    line.size--;
    size_t verb = 0;
    while (verb < line.size && line.bytes[verb] != ' ') {
        verb++;
    }
    command.verb = slice_first(line, verb);
    if (!is(&command, "PUTSCRIPT") && !is(&command, "CHECKSCRIPT")) {
        return false; /* decoding in place would spoil it for later */
    }
    unsigned wanted = is(&command, "PUTSCRIPT") ? 1 : 0;
    if (!command_read(server, line, &command) || command.count != wanted ||
        (wanted == 1 && command.arguments[0].kind != ARGUMENT_STRING)) {
        /* The name itself is a literal, or it is nonsense: the latter is said when the line is whole. */
        return false;
    }
    server->script_quoted = false;
    script_expect(server, &command, size, event);
    return true;
}

static void script_quoted(struct managesieve_server *server, const struct command *command,
                          struct managesieve_event *event)
{
    const struct argument *script = &command->arguments[command->count - 1];
    server->script_quoted = true;
    server->quoted = script->text;
    script_expect(server, command, (uint32_t)script->text.size, event);
}

/* ---- Logging in ---- */

static void authenticate(struct managesieve_server *server, const struct command *command,
                         struct managesieve_event *event)
{
    struct slice mechanisms =
        server->secured ? server->settings->sasl : server->settings->sasl_in_clear;
    if (server->logged_in) {
        managesieve_no(server, NULL, "You are logged in already.");
        return;
    }
    if (mechanisms.size == 0 && !server->secured) {
        managesieve_no(server, "ENCRYPT-NEEDED", "Say STARTTLS first.");
        return;
    }
    event->name = command->arguments[0].text;
    event->has_text = command->count == 2;
    event->text = event->has_text ? command->arguments[1].text : slice_of(NULL, 0);
    server->state = MANAGESIEVE_LOGGING_IN;
    managesieve_ask(server, event, MANAGESIEVE_EVENT_AUTHENTICATE);
}

/* A line that is an answer to a challenge. */
static void response(struct managesieve_server *server, struct managesieve_event *event)
{
    struct slice line = slice_of(server->line, server->line_bytes);
    struct argument argument;
    if (server->overflow || !argument_read(server, &line, &argument) || line.size > 0 ||
        argument.kind != ARGUMENT_STRING || slice_equal(argument.text, slice_text("*"))) {
        server->state = MANAGESIEVE_CLEAR;
        event->kind = MANAGESIEVE_EVENT_CANCEL;
        managesieve_no(server, NULL, "Authentication is cancelled.");
        return;
    }
    event->text = argument.text;
    event->has_text = true;
    managesieve_ask(server, event, MANAGESIEVE_EVENT_RESPONSE);
}

/* ---- Commands ---- */

static void starttls(struct managesieve_server *server)
{
    if (server->secured || server->logged_in || !server->settings->starttls) {
        managesieve_no(server, NULL, "STARTTLS is not possible now.");
        return;
    }
    managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("Begin TLS negotiation now."));
    server->state = MANAGESIEVE_SECURING;
}

static void noop(struct managesieve_server *server, const struct command *command)
{
    if (command->count == 0) {
        managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("Done"));
        return;
    }
    managesieve_put(server, slice_text("OK (TAG "));
    managesieve_put_string(server, slice_first(command->arguments[0].text, 1024));
    managesieve_put(server, slice_text(") \"Done\"\r\n"));
}

static void unauthenticate(struct managesieve_server *server, struct managesieve_event *event)
{
    server->logged_in = false;
    server->state = MANAGESIEVE_CLEAR;
    event->kind = MANAGESIEVE_EVENT_UNAUTHENTICATE;
    managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_of(NULL, 0));
}

/* Those about scripts that have names. The shape: s name, n number; what may be empty is SETACTIVE's. */
static void named(struct managesieve_server *server, const struct command *command,
                  enum managesieve_event_kind kind, struct managesieve_event *event)
{
    event->name = command->arguments[0].text;
    bool none = kind == MANAGESIEVE_EVENT_SETACTIVE && event->name.size == 0;
    if (!none && !sieve_script_name_valid(event->name)) {
        managesieve_no(server, NULL, "This is no name for a script.");
        return;
    }
    if (kind == MANAGESIEVE_EVENT_RENAMESCRIPT) {
        event->new_name = command->arguments[1].text;
        if (!sieve_script_name_valid(event->new_name)) {
            managesieve_no(server, NULL, "This is no name for a script.");
            return;
        }
    }
    if (kind == MANAGESIEVE_EVENT_HAVESPACE) {
        event->size = command->arguments[1].number;
        if (event->size > server->settings->script_bytes_max) {
            managesieve_answer(server, MANAGESIEVE_NO, "QUOTA/MAXSIZE",
                               slice_text("The script would be too large."));
            return;
        }
    }
    managesieve_ask(server, event, kind);
}

struct verb {
    const char *name, *arguments; /* s string, n number; behind '?': may be left out */
    enum managesieve_event_kind kind;
    bool logged_in; /* needs somebody to be */
};

static const struct verb verbs[] = {
    {"AUTHENTICATE", "s?s", MANAGESIEVE_EVENT_AUTHENTICATE, false},
    {"STARTTLS", "", MANAGESIEVE_EVENT_NONE, false},
    {"LOGOUT", "", MANAGESIEVE_EVENT_NONE, false},
    {"CAPABILITY", "", MANAGESIEVE_EVENT_NONE, false},
    {"NOOP", "?s", MANAGESIEVE_EVENT_NONE, false},
    {"UNAUTHENTICATE", "", MANAGESIEVE_EVENT_UNAUTHENTICATE, true},
    {"HAVESPACE", "sn", MANAGESIEVE_EVENT_HAVESPACE, true},
    {"PUTSCRIPT", "ss", MANAGESIEVE_EVENT_SCRIPT_BEGIN, true},
    {"CHECKSCRIPT", "s", MANAGESIEVE_EVENT_SCRIPT_BEGIN, true},
    {"LISTSCRIPTS", "", MANAGESIEVE_EVENT_LISTSCRIPTS, true},
    {"SETACTIVE", "s", MANAGESIEVE_EVENT_SETACTIVE, true},
    {"GETSCRIPT", "s", MANAGESIEVE_EVENT_GETSCRIPT, true},
    {"DELETESCRIPT", "s", MANAGESIEVE_EVENT_DELETESCRIPT, true},
    {"RENAMESCRIPT", "ss", MANAGESIEVE_EVENT_RENAMESCRIPT, true},
};

static bool arguments_fit(const struct command *command, const char *shape)
{
    unsigned count = 0;
    bool optional = false;
    for (; *shape != '\0'; shape++) {
        if (*shape == '?') {
            optional = true;
            continue;
        }
        if (count == command->count) {
            return optional;
        }
        bool number = command->arguments[count++].kind == ARGUMENT_NUMBER;
        if (number != (*shape == 'n')) {
            return false;
        }
    }
    return count == command->count;
}

static void own_run(struct managesieve_server *server, const struct command *command)
{
    if (is(command, "STARTTLS")) {
        starttls(server);
    } else if (is(command, "NOOP")) {
        noop(server, command);
    } else if (is(command, "LOGOUT")) {
        managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("Logout completed."));
        server->state = MANAGESIEVE_ENDED;
    } else {
        managesieve_capabilities(server);
        managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("Capability completed."));
    }
}

static void verb_run(struct managesieve_server *server, const struct verb *verb,
                     const struct command *command, struct managesieve_event *event)
{
    switch (verb->kind) {
    case MANAGESIEVE_EVENT_NONE:
        own_run(server, command);
        return;
    case MANAGESIEVE_EVENT_AUTHENTICATE:
        authenticate(server, command, event);
        return;
    case MANAGESIEVE_EVENT_UNAUTHENTICATE:
        unauthenticate(server, event);
        return;
    case MANAGESIEVE_EVENT_SCRIPT_BEGIN:
        script_quoted(server, command, event);
        return;
    case MANAGESIEVE_EVENT_LISTSCRIPTS:
        managesieve_ask(server, event, verb->kind);
        return;
    case MANAGESIEVE_EVENT_HAVESPACE:
    case MANAGESIEVE_EVENT_SETACTIVE:
    case MANAGESIEVE_EVENT_GETSCRIPT:
    case MANAGESIEVE_EVENT_DELETESCRIPT:
    case MANAGESIEVE_EVENT_RENAMESCRIPT:
        named(server, command, verb->kind, event);
        return;
    case MANAGESIEVE_EVENT_RESPONSE:
    case MANAGESIEVE_EVENT_CANCEL:
    case MANAGESIEVE_EVENT_SCRIPT:
    case MANAGESIEVE_EVENT_SCRIPT_END:
        break;
    }
    check(false);
}

void managesieve_command(struct managesieve_server *server, struct managesieve_event *event)
{
    struct command command;
    const struct verb *verb = NULL;
    if (server->state == MANAGESIEVE_LOGGING_IN) {
        response(server, event);
        return;
    }
    if (server->overflow) {
        managesieve_no(server, NULL, "The command is too long.");
        return;
    }
    bool good = command_read(server, slice_of(server->line, server->line_bytes), &command);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        verb = is(&command, verbs[i].name) ? &verbs[i] : verb;
    }
    if (verb == NULL) {
        managesieve_no(server, NULL, "This command is unknown.");
    } else if (!good || !arguments_fit(&command, verb->arguments)) {
        managesieve_no(server, NULL, "The arguments of this command are wrong.");
    } else if (verb->logged_in && !server->logged_in) {
        managesieve_no(server, NULL, "Authenticate first.");
    } else {
        verb_run(server, verb, &command, event);
    }
}
