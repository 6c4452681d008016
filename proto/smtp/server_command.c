/* The commands of an SMTP or LMTP session: one function each, and the table that finds them. */
#include "proto/smtp/server_private.h"
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
    char text[512];
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

/* The next "KEYWORD" or "KEYWORD=VALUE". False: none is left. */
static bool parameter_next(struct slice *parameters, struct slice *keyword, struct slice *value)
{
    while (parameters->size > 0 && parameters->bytes[0] == ' ') {
        *parameters = slice_from(*parameters, 1);
    }
    const uint8_t *blank =
        parameters->size > 0 ? memchr(parameters->bytes, ' ', parameters->size) : NULL;
    struct slice word =
        blank == NULL ? *parameters : slice_first(*parameters, (size_t)(blank - parameters->bytes));
    const uint8_t *equals = word.size > 0 ? memchr(word.bytes, '=', word.size) : NULL;
    *parameters = slice_from(*parameters, word.size);
    *keyword = equals == NULL ? word : slice_first(word, (size_t)(equals - word.bytes));
    *value = equals == NULL ? slice_of(NULL, 0) : slice_from(word, keyword->size + 1);
    return word.size > 0;
}

/* Decimal octets; SIZE_MAX-like huge ones are cut at UINT64_MAX. False: it is no number. */
static bool number_parse(struct slice text, uint64_t *number)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 20) { /* RFC 1870 §3: at most 20 digits */
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(text.bytes[i] - '0');
        value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
    }
    *number = value;
    return true;
}

enum seen {
    SEEN_SIZE = 1,
    SEEN_BODY = 2,
    SEEN_UTF8 = 4,
    SEEN_RET = 8,
    SEEN_ENVID = 16,
    SEEN_NOTIFY = 32,
    SEEN_ORCPT = 64
};

/* What is wrong with a parameter, when something is. */
struct parameter {
    unsigned seen; /* enum seen */
    bool good;
    const char *wrong;
};

/* False: the reply is given. */
static bool parameter_count(struct smtp_server *server, const struct parameter *parameter,
                            unsigned *seen)
{
    if (parameter->seen == 0) {
        smtp_server_error(server, 555, "5.5.4", "Unknown parameter");
        return false;
    }
    if (!parameter->good || (*seen & parameter->seen) != 0) {
        smtp_server_error(server, 501, "5.5.4",
                          parameter->good ? "The parameter is there twice" : parameter->wrong);
        return false;
    }
    *seen |= parameter->seen;
    return true;
}

/* One parameter of MAIL. False: the reply is given. */
static bool mail_parameter(struct smtp_server *server, struct slice keyword, struct slice value,
                           unsigned *seen, struct smtp_event *event)
{
    const struct smtp_server_settings *settings = server->settings;
    struct parameter parameter = {0};
    if (slice_equal_nocase(keyword, slice_text("SIZE"))) {
        parameter.seen = SEEN_SIZE;
        parameter.good = number_parse(value, &event->size);
        parameter.wrong = "SIZE is a number of octets";
    } else if (slice_equal_nocase(keyword, slice_text("BODY"))) {
        parameter.seen = SEEN_BODY;
        event->eight_bit = slice_equal_nocase(value, slice_text("8BITMIME"));
        parameter.good = event->eight_bit || slice_equal_nocase(value, slice_text("7BIT"));
        parameter.wrong = "BODY is 7BIT or 8BITMIME";
    } else if (settings->smtputf8 && slice_equal_nocase(keyword, slice_text("SMTPUTF8"))) {
        parameter.seen = SEEN_UTF8;
        event->smtputf8 = true;
        parameter.good = value.size == 0;
        parameter.wrong = "SMTPUTF8 has no value";
    } else if (settings->dsn && slice_equal_nocase(keyword, slice_text("RET"))) {
        parameter.seen = SEEN_RET;
        parameter.good = smtp_ret_parse(value, &event->ret);
        parameter.wrong = "RET is FULL or HDRS";
    } else if (settings->dsn && slice_equal_nocase(keyword, slice_text("ENVID"))) {
        parameter.seen = SEEN_ENVID;
        event->envid = value;
        parameter.good = smtp_envid_valid(value);
        parameter.wrong = "ENVID is xtext of at most 100 characters";
    }
    return parameter_count(server, &parameter, seen);
}

/* One parameter of RCPT. False: the reply is given. */
static bool rcpt_parameter(struct smtp_server *server, struct slice keyword, struct slice value,
                           unsigned *seen, struct smtp_event *event)
{
    struct parameter parameter = {0};
    if (server->settings->dsn && slice_equal_nocase(keyword, slice_text("NOTIFY"))) {
        parameter.seen = SEEN_NOTIFY;
        parameter.good = smtp_notify_parse(value, &event->notify);
        parameter.wrong = "NOTIFY is NEVER, or of SUCCESS, FAILURE and DELAY";
    } else if (server->settings->dsn && slice_equal_nocase(keyword, slice_text("ORCPT"))) {
        parameter.seen = SEEN_ORCPT;
        event->orcpt = value;
        parameter.good = smtp_orcpt_valid(value, server->smtputf8);
        parameter.wrong = "ORCPT is a type, a semicolon and xtext, of at most 500 characters";
    }
    return parameter_count(server, &parameter, seen);
}

static void run_mail(struct smtp_server *server, const struct command *command)
{
    const struct smtp_server_settings *settings = server->settings;
    struct slice parameters, keyword, value;
    struct smtp_event *event = command->event;
    unsigned seen = 0;
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
    event->size = 0;
    event->eight_bit = event->smtputf8 = false;
    event->ret = SMTP_RET_NONE;
    event->envid = slice_of(NULL, 0);
    while (parameter_next(&parameters, &keyword, &value)) {
        if (!mail_parameter(server, keyword, value, &seen, event)) {
            return;
        }
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
    struct slice parameters, keyword, value;
    struct smtp_event *event = command->event;
    unsigned seen = 0;
    if (server->state != SMTP_SENDER && server->state != SMTP_RECIPIENTS) {
        smtp_server_error(server, 503, "5.5.1", "MAIL comes before RCPT");
        return;
    }
    if (!path_take(server, command, "TO:", &parameters)) {
        return;
    }
    event->notify = 0;
    event->orcpt = slice_of(NULL, 0);
    while (parameter_next(&parameters, &keyword, &value)) {
        if (!rcpt_parameter(server, keyword, value, &seen, event)) {
            return;
        }
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

static void run_data(struct smtp_server *server, const struct command *command)
{
    if (!no_arguments(server, command)) {
        return;
    }
    if (server->state == SMTP_RECIPIENTS) {
        text_reply(server, 354, "", "End with <CRLF>.<CRLF>");
        smtp_server_body_open(server, false, command->event);
        return;
    }
    if (server->state == SMTP_SENDER) {
        smtp_server_error(server, 554, "5.5.1", "No valid recipients");
    } else {
        smtp_server_error(server, 503, "5.5.1", "RCPT comes before DATA");
    }
    if (command->more && server->state != SMTP_ENDED) {
        /* What follows is a body that was sent without waiting for 354; it must never be read as commands. */
        text_reply(server, 421, "4.7.0", "Protocol synchronization lost");
        smtp_server_end(server);
    }
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
    struct slice size_text, last_text, ignored;
    uint64_t bytes = 0;
    bool sized = parameter_next(&rest, &size_text, &ignored) && number_parse(size_text, &bytes);
    bool last = parameter_next(&rest, &last_text, &ignored);
    if (!sized || bytes == UINT64_MAX ||
        (last && !slice_equal_nocase(last_text, slice_text("LAST")))) {
        /* How many octets follow is unknown: nothing after this can be trusted to be a command. */
        text_reply(server, 501, "5.5.4", "Syntax: BDAT octets [LAST]");
        if (command->more || !sized) {
            server->errors++;
        }
        if (command->more) {
            text_reply(server, 421, "4.7.0", "Protocol synchronization lost");
            smtp_server_end(server);
        }
        return;
    }
    bool hello_missing = server->state == SMTP_GREETED;
    if (server->state != SMTP_RECIPIENTS && server->state != SMTP_CHUNK_NEXT) {
        bool no_recipient = server->state == SMTP_SENDER;
        smtp_server_error(server, no_recipient ? 554 : 503, "5.5.1",
                          no_recipient ? "No valid recipients" : "RCPT comes before BDAT");
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
    } else if (server->state == SMTP_GREETED) {
        smtp_server_error(server, 503, "5.5.1", "Say hello first");
    } else if (no_arguments(server, command)) {
        smtp_server_reset(server);
        text_reply(server, 220, "2.0.0", "Ready to start TLS");
        server->state = SMTP_SECURING;
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

static const struct {
    const char *verb;
    void (*run)(struct smtp_server *server, const struct command *command);
} commands[] = {
    {"MAIL", run_mail},        {"RCPT", run_rcpt},         {"DATA", run_data},
    {"BDAT", run_bdat},        {"EHLO", run_ehlo},         {"HELO", run_helo},
    {"LHLO", run_lhlo},        {"RSET", run_rset},         {"NOOP", run_noop},
    {"QUIT", run_quit},        {"VRFY", run_vrfy},         {"HELP", run_help},
    {"EXPN", run_refused},     {"ETRN", run_refused},      {"TURN", run_refused},
    {"AUTH", run_refused},     {"STARTTLS", run_starttls}, {"GET", run_stranger},
    {"POST", run_stranger},    {"PUT", run_stranger},      {"HEAD", run_stranger},
    {"CONNECT", run_stranger}, {"OPTIONS", run_stranger},  {"DELETE", run_stranger},
};

/* Before TLS where it is required: RFC 3207 §4. DATA and BDAT cannot succeed either, without MAIL, and
 * know best how to get past what follows them. */
static bool allowed_in_clear(size_t command)
{
    return commands[command].run != run_mail && commands[command].run != run_rcpt &&
           commands[command].run != run_vrfy && commands[command].run != run_help;
}

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
    if (has_control(line)) {
        smtp_server_error(server,
                          memchr(verb.bytes, 0, verb.size) == NULL && verb.size == 4 ? 501 : 500,
                          "5.5.2", "Control characters are not allowed");
        return;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (slice_equal_nocase(verb, slice_text(commands[i].verb))) {
            bool chunks = server->state == SMTP_CHUNK_NEXT;
            bool allowed = commands[i].run == run_bdat || commands[i].run == run_rset ||
                           commands[i].run == run_noop || commands[i].run == run_quit ||
                           commands[i].run == run_ehlo || commands[i].run == run_lhlo ||
                           commands[i].run == run_helo || commands[i].run == run_stranger;
            if (chunks && !allowed) {
                smtp_server_error(server, 503, "5.5.1", "BDAT LAST comes before anything else");
                return;
            }
            if (!server->settings->tls_only || server->secured || allowed_in_clear(i)) {
                commands[i].run(server, &command);
            } else if (server->settings->starttls) {
                smtp_server_error(server, 530, "5.7.0", "Must issue a STARTTLS command first");
            } else {
                tls_missed(server);
            }
            return;
        }
    }
    smtp_server_error(server, 500, "5.5.1", "Command is not known");
}
