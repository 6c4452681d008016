/* What stands behind the address in MAIL and RCPT: the parameters of the extensions. */
#include "proto/smtp/server_private.h"

bool smtp_parameter_next(struct slice *parameters, struct slice *keyword, struct slice *value)
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

bool smtp_number_parse(struct slice text, uint64_t *number)
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
    SEEN_ORCPT = 64,
    SEEN_AUTH = 128
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

/* RFC 4954 §5. Who submitted it is not believed, as of a client that is not trusted: the next hop is told nothing. */
static bool submitter_valid(struct slice value)
{
    uint8_t decoded[SMTP_ORCPT_BYTES_MAX];
    return value.size > 0 && value.size <= sizeof(decoded) &&
           (slice_equal(value, slice_text("<>")) || smtp_xtext_decode(value, decoded) > 0);
}

/* One parameter of MAIL. False: the reply is given. */
static bool mail_parameter(struct smtp_server *server, struct slice keyword, struct slice value,
                           unsigned *seen, struct smtp_event *event)
{
    const struct smtp_server_settings *settings = server->settings;
    struct parameter parameter = {0};
    if (slice_equal_nocase(keyword, slice_text("SIZE"))) {
        parameter.seen = SEEN_SIZE;
        parameter.good = smtp_number_parse(value, &event->size);
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
    } else if (server->auth_known && slice_equal_nocase(keyword, slice_text("AUTH"))) {
        parameter.seen = SEEN_AUTH;
        parameter.good = submitter_valid(value);
        parameter.wrong = "AUTH is <>, or a mailbox in xtext of at most 500 characters";
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

bool smtp_server_mail_parameters(struct smtp_server *server, struct slice parameters,
                                 struct smtp_event *event)
{
    struct slice keyword, value;
    unsigned seen = 0;
    event->size = 0;
    event->eight_bit = event->smtputf8 = false;
    event->ret = SMTP_RET_NONE;
    event->envid = slice_of(NULL, 0);
    while (smtp_parameter_next(&parameters, &keyword, &value)) {
        if (!mail_parameter(server, keyword, value, &seen, event)) {
            return false;
        }
    }
    return true;
}

bool smtp_server_rcpt_parameters(struct smtp_server *server, struct slice parameters,
                                 struct smtp_event *event)
{
    struct slice keyword, value;
    unsigned seen = 0;
    event->notify = 0;
    event->orcpt = slice_of(NULL, 0);
    while (smtp_parameter_next(&parameters, &keyword, &value)) {
        if (!rcpt_parameter(server, keyword, value, &seen, event)) {
            return false;
        }
    }
    return true;
}
