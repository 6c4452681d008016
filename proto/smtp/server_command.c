/* The commands of an SMTP or LMTP session: one function each, and the table that finds them. */
#include "proto/smtp/server_private.h"
#include "engine/core/check.h"
#include <stdio.h>

struct command {
    struct slice arguments; /* behind the verb and its blank */
    bool more;              /* input follows the line already */
    struct smtp_event *event;
};

static void text_reply(struct smtp_server *server, unsigned code, const char *status,
                       const char *text)
{
    smtp_server_reply(server, code, status, slice_text(text));
}

static bool no_arguments(struct smtp_server *server, const struct command *command)
{
    if (command->arguments.size > 0) {
        smtp_server_error(server, 501, "5.5.4", "No arguments are allowed here");
        return false;
    }
    return true;
}

/* Commands that carry no mail forward are free only so many times. */
static bool junk_count(struct smtp_server *server)
{
    const struct smtp_server_settings *settings = server->settings;
    server->junk++;
    if (settings->junk_max > 0 && server->junk > settings->junk_max) {
        smtp_server_error(server, 421, "4.7.0", "Too many commands without mail");
        smtp_server_end(server);
        return false;
    }
    return true;
}

/* ---- HELO, EHLO, LHLO ---- */

static bool name_take(struct smtp_server *server, const struct command *command)
{
    struct slice name = command->arguments;
    while (name.size > 0 && name.bytes[name.size - 1] == ' ') {
        name.size--;
    }
    if (!smtp_helo_valid(name)) {
        smtp_server_error(server, 501, "5.5.4", "A name is needed");
        return false;
    }
    if (!junk_count(server)) {
        return false;
    }
    smtp_server_reset(server);
    memcpy(server->helo, name.bytes, name.size);
    server->helo_bytes = (uint8_t)name.size;
    server->state = SMTP_READY;
    command->event->kind = SMTP_EVENT_HELO;
    command->event->text = smtp_server_helo(server);
    return true;
}

static size_t line_add(char *text, size_t used, size_t room, bool last, const char *line)
{
    int size = snprintf(text + used, room - used, "250%c%s\r\n", last ? ' ' : '-', line);
    return used + (size_t)size;
}

static void extensions_reply(struct smtp_server *server)
{
    const struct smtp_server_settings *settings = server->settings;
    char text[640];
    char line[280];
    size_t used = 0;
    snprintf(line, sizeof(line), "%.*s",
             (int)(settings->hostname.size < 255 ? settings->hostname.size : 255),
             (const char *)settings->hostname.bytes);
    used = line_add(text, used, sizeof(text), false, line);
    if (settings->pipelining) {
        used = line_add(text, used, sizeof(text), false, "PIPELINING");
    }
    snprintf(line, sizeof(line), "SIZE %llu", (unsigned long long)settings->message_bytes_max);
    used =
        line_add(text, used, sizeof(text), false, settings->message_bytes_max > 0 ? line : "SIZE");
    used = line_add(text, used, sizeof(text), false, "ENHANCEDSTATUSCODES");
    if (settings->chunking) {
        used = line_add(text, used, sizeof(text), false, "CHUNKING");
    }
    if (settings->smtputf8) {
        used = line_add(text, used, sizeof(text), false, "SMTPUTF8");
    }
    if (settings->dsn) {
        used = line_add(text, used, sizeof(text), false, "DSN");
    }
    if (server->mechanisms.size > 0) {
        snprintf(line, sizeof(line), "AUTH %.*s", (int)server->mechanisms.size,
                 (const char *)server->mechanisms.bytes);
        used = line_add(text, used, sizeof(text), false, line);
    }
    if (settings->starttls && !server->secured) {
        used = line_add(text, used, sizeof(text), false, "STARTTLS");
    }
    used = line_add(text, used, sizeof(text), true, "8BITMIME");
    smtp_server_lines(server, slice_of(text, used));
}

static void run_ehlo(struct smtp_server *server, const struct command *command)
{
    if (server->settings->lmtp) {
        smtp_server_error(server, 500, "5.5.1", "This is LMTP: say LHLO");
    } else if (name_take(server, command)) {
        server->extended = true;
        extensions_reply(server);
    }
}

static void run_lhlo(struct smtp_server *server, const struct command *command)
{
    if (!server->settings->lmtp) {
        smtp_server_error(server, 500, "5.5.1", "This is SMTP: say EHLO");
    } else if (name_take(server, command)) {
        server->extended = true;
        extensions_reply(server);
    }
}

static void run_helo(struct smtp_server *server, const struct command *command)
{
    if (server->settings->lmtp) {
        smtp_server_error(server, 500, "5.5.1", "This is LMTP: say LHLO");
    } else if (name_take(server, command)) {
        server->extended = false;
        smtp_server_reply(server, 250, "", server->settings->hostname);
    }
}

/* ---- MAIL and RCPT ---- */

/* The path behind "FROM:" or "TO:", and the parameters behind it. False: the reply is given. */
static bool path_take(struct smtp_server *server, const struct command *command,
                      const char *keyword, struct slice *parameters)
{
    struct slice rest = command->arguments;
    size_t size = strlen(keyword);
    size_t used = 0;
    if (rest.size < size || !slice_equal_nocase(slice_first(rest, size), slice_text(keyword))) {
        smtp_server_error(server, 501, "5.5.4",
                          keyword[0] == 'F' ? "Syntax: MAIL FROM:<address>"
                                            : "Syntax: RCPT TO:<address>");
        return false;
    }
    rest = slice_from(rest, size);
    while (rest.size > 0 && rest.bytes[0] == ' ') { /* not in the RFC, but said by many */
        rest = slice_from(rest, 1);
    }
    switch (smtp_path_parse(&command->event->path, rest, &used)) {
    case SMTP_PATH_GOOD:
        break;
    case SMTP_PATH_SYNTAX:
        smtp_server_error(server, 501, keyword[0] == 'F' ? "5.1.7" : "5.1.3", "Bad address syntax");
        return false;
    case SMTP_PATH_TOO_LONG:
        smtp_server_error(server, 501, keyword[0] == 'F' ? "5.1.7" : "5.1.3",
                          "Address is too long");
        return false;
    case SMTP_PATH_NOT_UTF8:
        smtp_server_error(server, 501, "5.6.7", "The address is neither ASCII nor UTF-8");
        return false;
    }
    *parameters = slice_from(rest, used);
    if (parameters->size > 0 && parameters->bytes[0] != ' ') {
        smtp_server_error(server, 501, "5.5.4", "Junk behind the address");
        return false;
    }
    return true;
}

static void run_mail(struct smtp_server *server, const struct command *command)
{
    const struct smtp_server_settings *settings = server->settings;
    struct slice parameters;
    struct smtp_event *event = command->event;
    if (server->state != SMTP_READY) {
        smtp_server_error(server, 503, "5.5.1",
                          server->state == SMTP_GREETED
                              ? "Say hello first"
                              : "A transaction is under way: RSET ends it");
        return;
    }
    if (settings->messages_max > 0 && server->messages >= settings->messages_max) {
        text_reply(server, 421, "4.7.0", "Enough messages on this connection");
        smtp_server_end(server);
        return;
    }
    if (!path_take(server, command, "FROM:", &parameters)) {
        return;
    }
    if (!smtp_server_mail_parameters(server, parameters, event)) {
        return;
    }
    if (settings->message_bytes_max > 0 && event->size > settings->message_bytes_max) {
        smtp_server_error(server, 552, "5.3.4", "Message is too large");
        return;
    }
    if (!event->path.ascii && !event->smtputf8) {
        smtp_server_error(server, 553, "5.6.7", "An address that is not ASCII needs SMTPUTF8");
        return;
    }
    if (event->path.mailbox.size > 0 && event->path.domain.size == 0 &&
        !slice_equal_nocase(event->path.local, slice_text("postmaster"))) {
        smtp_server_error(server, 501, "5.1.7", "The address has no domain");
        return;
    }
    server->smtputf8 = event->smtputf8;
    server->pending = SMTP_EVENT_SENDER;
    event->kind = SMTP_EVENT_SENDER;
}

static void run_rcpt(struct smtp_server *server, const struct command *command)
{
    const struct smtp_server_settings *settings = server->settings;
    struct slice parameters;
    struct smtp_event *event = command->event;
    if (server->state != SMTP_SENDER && server->state != SMTP_RECIPIENTS) {
        smtp_server_error(server, 503, "5.5.1", "MAIL comes before RCPT");
        return;
    }
    if (!path_take(server, command, "TO:", &parameters)) {
        return;
    }
    if (!smtp_server_rcpt_parameters(server, parameters, event)) {
        return;
    }
    if (event->path.mailbox.size == 0) {
        smtp_server_error(server, 501, "5.1.3", "A recipient is needed");
    } else if (event->path.domain.size == 0 &&
               !slice_equal_nocase(event->path.local, slice_text("postmaster"))) {
        smtp_server_error(server, 501, "5.1.3", "The address has no domain");
    } else if (!event->path.ascii && !server->smtputf8) {
        smtp_server_error(server, 553, "5.6.7", "An address that is not ASCII needs SMTPUTF8");
    } else if (settings->recipients_max > 0 &&
               server->recipient_count >= settings->recipients_max) {
        /* Not an error of the client: it sends the rest in another transaction (RFC 5321 §4.5.3.1.10). */
        text_reply(server, 452, "4.5.3", "Too many recipients");
    } else {
        server->pending = SMTP_EVENT_RECIPIENT;
        event->kind = SMTP_EVENT_RECIPIENT;
    }
}

/* ---- DATA and BDAT ---- */

void smtp_server_synchronization_lost(struct smtp_server *server)
{
    if (server->state != SMTP_ENDED) {
        text_reply(server, 421, "4.7.0", "Protocol synchronization lost");
        smtp_server_end(server);
    }
}

bool smtp_server_data_refused(const struct smtp_server *server)
{
    return server->text_may_follow && server->state != SMTP_ENDED;
}

void smtp_server_text_came(struct smtp_server *server)
{
    check(smtp_server_data_refused(server));
    server->errors++;
    smtp_server_synchronization_lost(server);
}

void smtp_server_text_expect(struct smtp_server *server, bool more)
{
    server->text_may_follow = true;
    if (more) {
        smtp_server_synchronization_lost(server);
    }
}

/* DATA or BDAT where none can be. LMTP wants 503 for both reasons (RFC 2033 §4.2). */
static void nobody_to_send_to(struct smtp_server *server, const char *text)
{
    if (server->state == SMTP_SENDER) {
        smtp_server_error(server, server->settings->lmtp ? 503 : 554, "5.5.1",
                          "No valid recipients");
    } else {
        smtp_server_error(server, 503, "5.5.1", text);
    }
}

static void run_data(struct smtp_server *server, const struct command *command)
{
    if (!no_arguments(server, command)) {
        /* refused */
    } else if (server->state == SMTP_RECIPIENTS) {
        text_reply(server, 354, "", "End with <CRLF>.<CRLF>");
        smtp_server_body_open(server, false, command->event);
        return;
    } else {
        nobody_to_send_to(server, "RCPT comes before DATA");
    }
    smtp_server_text_expect(server, command->more);
}

/* The octets of a chunk are read in any case, so that they are never taken for commands. */
static void chunk_skip(struct smtp_server *server, uint64_t bytes)
{
    smtp_server_reset(server);
    if (server->state != SMTP_ENDED && bytes > 0) {
        server->chunk_left = bytes;
        server->state = SMTP_CHUNK_SKIP;
    }
}

static void run_bdat(struct smtp_server *server, const struct command *command)
{
    struct slice rest = command->arguments;
    struct slice size_text, last_text, ignored, value;
    uint64_t bytes = 0;
    bool sized = smtp_parameter_next(&rest, &size_text, &value) && value.bytes == NULL &&
                 smtp_number_parse(size_text, &bytes) && bytes < UINT64_MAX;
    bool last = smtp_parameter_next(&rest, &last_text, &value);
    bool last_good =
        !last || (value.bytes == NULL && slice_equal_nocase(last_text, slice_text("LAST")));
    bool more = smtp_parameter_next(&rest, &ignored, &value);
    if (!sized || !last_good || more) {
        /* How many octets follow is unknown: nothing after this can be trusted to be a command. */
        smtp_server_error(server, 501, "5.5.4", "Syntax: BDAT octets [LAST]");
        smtp_server_synchronization_lost(server);
        return;
    }
    bool hello_missing = server->state == SMTP_GREETED;
    if (server->state != SMTP_RECIPIENTS && server->state != SMTP_CHUNK_NEXT) {
        nobody_to_send_to(server, "RCPT comes before BDAT");
        if (server->state != SMTP_ENDED) {
            chunk_skip(server, bytes);
            server->after_skip = hello_missing ? SMTP_GREETED : SMTP_READY;
            if (server->state != SMTP_CHUNK_SKIP) {
                server->state = server->after_skip;
            }
        }
        return;
    }
    bool first = server->state == SMTP_RECIPIENTS;
    server->chunk_left = bytes;
    server->chunk_last = last;
    if (first) {
        smtp_server_body_open(server, true, command->event);
    }
    server->state = SMTP_CHUNK;
}

/* ---- The others ---- */

static void run_rset(struct smtp_server *server, const struct command *command)
{
    if (no_arguments(server, command) && junk_count(server)) {
        smtp_server_reset(server);
        text_reply(server, 250, "2.0.0", "Ok");
    }
}

static void run_noop(struct smtp_server *server, const struct command *command)
{
    (void)command;
    if (junk_count(server)) {
        text_reply(server, 250, "2.0.0", "Ok");
    }
}

static void run_vrfy(struct smtp_server *server, const struct command *command)
{
    if (command->arguments.size == 0) {
        smtp_server_error(server, 501, "5.5.4", "Syntax: VRFY address");
    } else if (junk_count(server)) {
        text_reply(server, 252, "2.1.5", "Send some mail, it will be tried");
    }
}

static void run_help(struct smtp_server *server, const struct command *command)
{
    (void)command;
    if (junk_count(server)) {
        text_reply(server, 214, "2.0.0",
                   "EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT: RFC 5321");
    }
}

static void run_refused(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_error(server, 502, "5.5.1", "Command is not implemented");
}

/* What a proxy says of the client that it speaks for: nobody is believed. */
static void run_unauthorized(struct smtp_server *server, const struct command *command)
{
    (void)command;
    smtp_server_error(server, 550, "5.7.0", "Insufficient authorization");
}

/* RFC 3207 §4: a temporary refusal, so the client keeps the mail and comes again. */
static void tls_missed(struct smtp_server *server)
{
    smtp_server_error(server, 454, "4.7.0", "TLS is required, but not available");
}

/* RFC 3207 §4. Whatever follows in the clear is never looked at: see SMTP_WANT_TLS. */
static void run_starttls(struct smtp_server *server, const struct command *command)
{
    const struct smtp_server_settings *settings = server->settings;
    if (!settings->starttls && settings->tls_only && !server->secured) {
        tls_missed(server);
    } else if (!settings->starttls) {
        run_refused(server, command);
    } else if (server->secured) {
        smtp_server_error(server, 503, "5.5.1", "TLS is active already");
    } else if (server->authenticated) {
        smtp_server_error(server, 503, "5.5.1", "You have logged in already");
    } else if (server->state == SMTP_GREETED) {
        smtp_server_error(server, 503, "5.5.1", "Say hello first");
    } else if (no_arguments(server, command)) {
        smtp_server_reset(server);
        text_reply(server, 220, "2.0.0", "Ready to start TLS");
        server->state = SMTP_SECURING;
    }
}

static void run_auth(struct smtp_server *server, const struct command *command)
{
    if (server->auth_known) {
        smtp_server_auth_begin(server, command->arguments, command->event);
    } else {
        run_refused(server, command);
    }
}

static void run_quit(struct smtp_server *server, const struct command *command)
{
    if (no_arguments(server, command)) {
        text_reply(server, 221, "2.0.0", "Bye");
        smtp_server_end(server);
    }
}

/* The first line of another protocol: its further lines must not be tried as commands. */
static void run_stranger(struct smtp_server *server, const struct command *command)
{
    (void)command;
    text_reply(server, 554, "5.5.1", "This is a mail server");
    smtp_server_end(server);
}

/* When a command may come, but for what its own function says. */
enum allowed {
    ALLOWED = 0,
    /* Before TLS where it is required: RFC 3207 §4. DATA and BDAT cannot succeed there either, without MAIL, and know
     * best how to get past what follows them. */
    IN_CLEAR = 1,
    IN_CHUNKS = 2, /* between the chunks of a message */
    /* Before AUTH where that is demanded (RFC 4954 §6), besides those IN_CLEAR. */
    NAMELESS = 4,
};

static const struct {
    const char *verb;
    void (*run)(struct smtp_server *server, const struct command *command);
    unsigned allowed; /* enum allowed */
} commands[] = {
    {"MAIL", run_mail, ALLOWED},
    {"RCPT", run_rcpt, ALLOWED},
    {"DATA", run_data, IN_CLEAR},
    {"BDAT", run_bdat, IN_CLEAR | IN_CHUNKS},
    {"EHLO", run_ehlo, IN_CLEAR | IN_CHUNKS},
    {"HELO", run_helo, IN_CLEAR | IN_CHUNKS},
    {"LHLO", run_lhlo, IN_CLEAR | IN_CHUNKS},
    {"RSET", run_rset, IN_CLEAR | IN_CHUNKS},
    {"NOOP", run_noop, IN_CLEAR | IN_CHUNKS},
    {"QUIT", run_quit, IN_CLEAR | IN_CHUNKS},
    {"VRFY", run_vrfy, ALLOWED},
    {"HELP", run_help, ALLOWED},
    {"EXPN", run_refused, ALLOWED},
    {"ETRN", run_refused, ALLOWED},
    {"TURN", run_refused, ALLOWED},
    {"AUTH", run_auth, NAMELESS},
    {"STARTTLS", run_starttls, IN_CLEAR},
    {"XCLIENT", run_unauthorized, IN_CLEAR},
    {"XFORWARD", run_unauthorized, IN_CLEAR},
    {"PROXY", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"GET", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"POST", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"PUT", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"HEAD", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"CONNECT", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"OPTIONS", run_stranger, IN_CLEAR | IN_CHUNKS},
    {"DELETE", run_stranger, IN_CLEAR | IN_CHUNKS},
};

/* Control octets anywhere in a command are a mistake or an attack. */
static bool has_control(struct slice line)
{
    for (size_t i = 0; i < line.size; i++) {
        if (line.bytes[i] < ' ' || line.bytes[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

/* Encrypted, where it must be. */
static bool can_begin(const struct smtp_server *server)
{
    return server->secured || !server->settings->tls_only;
}

void smtp_server_command(struct smtp_server *server, struct slice line, bool more,
                         struct smtp_event *event)
{
    const uint8_t *blank = line.size > 0 ? memchr(line.bytes, ' ', line.size) : NULL;
    struct slice verb = blank == NULL ? line : slice_first(line, (size_t)(blank - line.bytes));
    struct command command = {
        .arguments = slice_from(line, verb.size + 1), .more = more, .event = event};
    if (blank == NULL) {
        command.arguments = slice_of(line.bytes, 0);
    }
    if (verb.size > 0 && verb.bytes[0] < ' ' && server->state == SMTP_GREETED) {
        run_stranger(server, &command); /* binary, as the PROXY protocol's version 2 */
        return;
    }
    if (has_control(line)) {
        smtp_server_no_command(
            server, memchr(verb.bytes, 0, verb.size) == NULL && verb.size == 4 ? 501 : 500, "5.5.2",
            "Control characters are not allowed");
        return;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (slice_equal_nocase(verb, slice_text(commands[i].verb))) {
            server->text_may_follow = false;
            if (server->state == SMTP_CHUNK_NEXT && (commands[i].allowed & IN_CHUNKS) == 0) {
                smtp_server_error(server, 503, "5.5.1", "BDAT LAST comes before anything else");
                if (commands[i].run == run_data) {
                    smtp_server_text_expect(server, more);
                }
            } else if (server->auth_demanded && !server->authenticated && can_begin(server) &&
                       (commands[i].allowed & (IN_CLEAR | NAMELESS)) == 0) {
                smtp_server_error(server, 530, "5.7.0", "Authentication required");
            } else if (can_begin(server) || (commands[i].allowed & IN_CLEAR) != 0) {
                commands[i].run(server, &command);
            } else if (server->settings->starttls) {
                smtp_server_error(server, 530, "5.7.0", "Must issue a STARTTLS command first");
            } else {
                tls_missed(server);
            }
            return;
        }
    }
    smtp_server_no_command(server, 500, "5.5.1", "Command is not known");
}
