#include "proto/smtp/client_private.h"

#include <stdio.h>

static enum smtp_client_stage stage_now(const struct smtp_client *client)
{
    switch ((enum smtp_client_state)client->state) {
    case SMTP_CLIENT_GREETING:
        return SMTP_CLIENT_AT_GREETING;
    case SMTP_CLIENT_HELLO:
        return SMTP_CLIENT_AT_HELLO;
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_SECURING:
        return SMTP_CLIENT_AT_STARTTLS;
    case SMTP_CLIENT_ENVELOPE:
        return (enum smtp_client_stage)client->next_reply.stage;
    case SMTP_CLIENT_BODY:
        return SMTP_CLIENT_AT_BODY;
    case SMTP_CLIENT_DOT:
        return SMTP_CLIENT_AT_DOT;
    case SMTP_CLIENT_RESET:
        return SMTP_CLIENT_AT_RSET;
    case SMTP_CLIENT_QUIT:
        return SMTP_CLIENT_AT_QUIT;
    case SMTP_CLIENT_IDLE:
    case SMTP_CLIENT_ENDED:
        break;
    }
    return SMTP_CLIENT_AT_IDLE;
}

static enum smtp_client_outcome outcome_of(unsigned code)
{
    return code < 400   ? SMTP_CLIENT_ACCEPTED
           : code < 500 ? SMTP_CLIENT_TEMPORARY
                        : SMTP_CLIENT_PERMANENT;
}

static struct smtp_client_result result_of_reply(const struct smtp_client *client)
{
    return (struct smtp_client_result){
        .outcome = (uint8_t)outcome_of(client->parser.code),
        .stage = (uint8_t)stage_now(client),
        .code = client->parser.code,
        .status = client->parser.status,
        .text = smtp_reply_parser_text(&client->parser),
    };
}

void smtp_client_report(struct smtp_client *client, uint32_t states,
                        const struct smtp_client_result *result)
{
    client->report.from = 0;
    client->report.to = client->message.recipient_count;
    client->report.states = states;
    client->report.result = *result;
}

static void report_one(struct smtp_client *client, uint32_t index,
                       const struct smtp_client_result *result)
{
    smtp_client_report(client, STATES_UNFINISHED, result);
    client->report.from = index;
    client->report.to = index + 1;
}

bool smtp_client_report_next(struct smtp_client *client, struct smtp_client_result *result)
{
    while (client->report.from < client->report.to) {
        uint32_t index = client->report.from++;
        struct smtp_client_recipient *recipient = &client->message.recipients[index];
        if (client->report.states & STATE_BIT(recipient->state)) {
            recipient->state = RECIPIENT_JUDGED;
            *result = client->report.result;
            result->index = index;
            return true;
        }
    }
    return false;
}

/* The connection is of no use any more: those who wait share its fate. */
static void fail(struct smtp_client *client, struct smtp_client_result cause)
{
    size_t size = cause.text.size < sizeof(client->failure_text) ? cause.text.size
                                                                 : sizeof(client->failure_text);
    memcpy(client->failure_text, cause.text.bytes, size);
    cause.text = slice_of(client->failure_text, size);
    cause.flags |= SMTP_CLIENT_CONNECTION_FAILED;
    client->failure = cause;
    client->failed = true;
    client->ending = true;
    client->output_bytes = 0;
    client->unwritten = 0;
    if (client->state == SMTP_CLIENT_ENVELOPE || client->state == SMTP_CLIENT_BODY ||
        client->state == SMTP_CLIENT_DOT) {
        smtp_client_report(client, ~STATE_BIT(RECIPIENT_JUDGED), &cause);
    }
}

void smtp_client_fail(struct smtp_client *client, struct smtp_status status, const char *text)
{
    struct smtp_client_result cause = {
        .outcome = SMTP_CLIENT_TEMPORARY,
        .stage = (uint8_t)stage_now(client),
        .status = status,
        .text = slice_text(text),
    };
    if (client->state == SMTP_CLIENT_DOT && client->dot_left && !client->empty_body) {
        cause.flags |= SMTP_CLIENT_MAY_BE_DUPLICATE;
    }
    if (client->state == SMTP_CLIENT_ENVELOPE && smtp_client_pipelined(client)) {
        cause.flags |= SMTP_CLIENT_SUSPECT_PIPELINING;
    }
    fail(client, cause);
}

static void fail_protocol(struct smtp_client *client, const char *text)
{
    smtp_client_fail(client, (struct smtp_status){4, 5, 0}, text);
}

static void fail_reply(struct smtp_client *client)
{
    fail(client, result_of_reply(client));
}

/* The server may hold half a transaction. */
static void reset_enter(struct smtp_client *client)
{
    client->state = SMTP_CLIENT_RESET;
    smtp_client_command(client, "RSET", slice_text(""), 1);
}

void smtp_client_hello(struct smtp_client *client, const char *verb)
{
    client->state = SMTP_CLIENT_HELLO;
    client->helo = verb[0] == 'H';
    client->extensions = 0;
    client->size_limit = 0;
    smtp_client_command(client, verb, client->settings->hostname, 1);
}

static void greeting_reply(struct smtp_client *client)
{
    unsigned class = client->parser.code / 100;
    if (class == 2) {
        smtp_client_hello(client, client->settings->lmtp ? "LHLO " : "EHLO ");
    } else if (class == 3) {
        fail_protocol(client, "greeting out of step");
    } else {
        fail_reply(client);
        smtp_client_command(client, "QUIT", slice_text(""), 0);
    }
}

/* The server lives, but not as we need it: no reply of its own says so. */
static void fail_insecure(struct smtp_client *client, const char *text)
{
    smtp_client_fail(client, (struct smtp_status){4, 7, 4}, text);
    smtp_client_command(client, "QUIT", slice_text(""), 0);
}

/* A second offer means nothing: TLS is there (RFC 3207 §4.2). */
static void hello_taken(struct smtp_client *client)
{
    bool wanted = client->tls != SMTP_CLIENT_TLS_NEVER && client->secrecy != SMTP_CLIENT_SECURED;
    if (wanted && (client->extensions & SMTP_EXTENSION_STARTTLS) != 0) {
        client->state = SMTP_CLIENT_STARTTLS;
        smtp_client_command(client, "STARTTLS", slice_text(""), 1);
        return;
    }
    client->secrecy = wanted ? SMTP_CLIENT_TLS_NOT_OFFERED : client->secrecy;
    if (wanted && client->tls == SMTP_CLIENT_TLS_REQUIRED) {
        fail_insecure(client, "TLS is required, but was not offered");
    } else {
        client->state = SMTP_CLIENT_IDLE;
    }
}

static void starttls_reply(struct smtp_client *client)
{
    char text[SMTP_REPLY_TEXT_MAX];
    unsigned class = client->parser.code / 100;
    struct slice said = smtp_reply_parser_text(&client->parser);
    if (class == 2) {
        client->state = SMTP_CLIENT_SECURING;
        client->secrecy = SMTP_CLIENT_TLS_STARTED;
    } else if (class == 3) {
        fail_protocol(client, "reply out of step");
    } else if (client->tls == SMTP_CLIENT_TLS_REQUIRED) {
        client->secrecy = SMTP_CLIENT_TLS_REFUSED;
        snprintf(text, sizeof(text), "TLS is required, but was refused: %u %.*s",
                 client->parser.code, (int)said.size, (const char *)said.bytes);
        fail_insecure(client, text);
    } else {
        client->secrecy = SMTP_CLIENT_TLS_REFUSED;
        client->state = SMTP_CLIENT_IDLE;
    }
}

static void hello_reply(struct smtp_client *client)
{
    unsigned class = client->parser.code / 100;
    if (class == 2) {
        hello_taken(client);
    } else if (class == 3) {
        fail_protocol(client, "reply out of step");
    } else if (class == 5 && !client->helo && !client->settings->lmtp) {
        smtp_client_hello(client, "HELO ");
    } else {
        fail_reply(client);
        smtp_client_command(client, "QUIT", slice_text(""), 0);
    }
}

/* After each reply of the envelope: is there nothing left that could lead to a body? */
static void envelope_settle(struct smtp_client *client)
{
    if (client->awaited + client->unwritten > 0) {
        return;
    }
    if (client->mail_refused) {
        client->state = SMTP_CLIENT_IDLE;
    } else if (client->next_sent.stage == SMTP_CLIENT_AT_DATA && client->taken_count == 0) {
        reset_enter(client);
    }
}

static void mail_reply(struct smtp_client *client)
{
    if (client->parser.code >= 400) {
        struct smtp_client_result result = result_of_reply(client);
        smtp_client_report(client, STATES_UNFINISHED, &result);
        client->mail_refused = true;
        client->next_reply.stage = SMTP_CLIENT_AT_RCPT; /* of whom we only count the replies */
        return;
    }
    smtp_client_position_set(client, &client->next_reply, 0);
}

static void rcpt_reply(struct smtp_client *client)
{
    uint32_t index = client->next_reply.index;
    if (client->parser.code < 300) {
        client->message.recipients[index].state = RECIPIENT_TAKEN;
        client->taken_count++;
    } else {
        struct smtp_client_result result = result_of_reply(client);
        /* RFC 5321 §4.5.3.1.10: to RCPT, 552 is how old servers say 452, too many recipients. A
         * status that says something else is believed. */
        const struct smtp_status *status = &result.status;
        bool vague = status->subject == 0 || (status->subject == 5 && status->detail == 3);
        if (result.code == 552 && vague) {
            result.outcome = SMTP_CLIENT_TEMPORARY;
        }
        report_one(client, index, &result);
    }
    smtp_client_position_set(client, &client->next_reply, index + 1);
}

static void data_reply(struct smtp_client *client)
{
    unsigned code = client->parser.code;
    if (code == 354 && client->taken_count > 0) {
        client->state = SMTP_CLIENT_BODY;
    } else if (code == 354 && client->settings->lmtp) {
        fail_protocol(client, "DATA accepted without recipients"); /* RFC 2033 §4.2: must be 503 */
    } else if (code == 354) {
        client->empty_body = true; /* RFC 2920 §3.1: the only way out is the dot */
        smtp_client_dot(client, 1);
    } else if (code < 400) {
        fail_protocol(client, "reply to DATA out of step");
    } else if (client->mail_refused) {
        client->state = SMTP_CLIENT_IDLE;
    } else {
        struct smtp_client_result result = result_of_reply(client);
        smtp_client_report(client, STATE_BIT(RECIPIENT_TAKEN), &result);
        reset_enter(client);
    }
}

static void envelope_reply(struct smtp_client *client)
{
    bool last = client->awaited + client->unwritten == 0;
    bool data_sent = client->next_sent.stage == SMTP_CLIENT_AT_DOT;
    if (client->mail_refused && last && data_sent) {
        data_reply(client);
        return;
    }
    if (client->next_reply.stage == SMTP_CLIENT_AT_DATA) {
        data_reply(client);
        return;
    }
    if (client->parser.code / 100 == 3) {
        fail_protocol(client, "reply out of step");
        return;
    }
    if (client->next_reply.stage == SMTP_CLIENT_AT_MAIL) {
        mail_reply(client);
    } else if (!client->mail_refused) {
        rcpt_reply(client);
    }
    envelope_settle(client);
}

static void dot_reply(struct smtp_client *client)
{
    struct smtp_client_result result = result_of_reply(client);
    if (client->empty_body) {
        client->state = SMTP_CLIENT_IDLE;
    } else if (client->parser.code / 100 == 3) {
        fail_protocol(client, "reply to the end of data out of step");
    } else if (!client->settings->lmtp) {
        smtp_client_report(client, STATE_BIT(RECIPIENT_TAKEN), &result);
        client->state = SMTP_CLIENT_IDLE;
    } else {
        const struct smtp_client_recipient *recipients = client->message.recipients;
        uint32_t index = client->next_reply.index;
        while (recipients[index].state != RECIPIENT_TAKEN) {
            index++;
        }
        client->next_reply.index = index + 1;
        report_one(client, index, &result);
        if (client->awaited == 0) {
            client->state = SMTP_CLIENT_IDLE;
        }
    }
}

/* Nobody asked. While a body is sent a server may lose patience, and say so. */
static void unasked_reply(struct smtp_client *client)
{
    bool in_body = client->state == SMTP_CLIENT_BODY || client->state == SMTP_CLIENT_DOT;
    if (in_body && client->parser.code >= 400) {
        client->state = SMTP_CLIENT_BODY;
        fail_reply(client);
    } else {
        fail_protocol(client, "reply to no command");
    }
}

static void reply_complete(struct smtp_client *client)
{
    if (client->parser.code == 421 && client->state != SMTP_CLIENT_QUIT) {
        fail_reply(client);
        return;
    }
    if (client->awaited == 0) {
        unasked_reply(client);
        return;
    }
    client->awaited--;
    switch ((enum smtp_client_state)client->state) {
    case SMTP_CLIENT_GREETING:
        greeting_reply(client);
        break;
    case SMTP_CLIENT_HELLO:
        hello_reply(client);
        break;
    case SMTP_CLIENT_STARTTLS:
        starttls_reply(client);
        break;
    case SMTP_CLIENT_ENVELOPE:
        envelope_reply(client);
        break;
    case SMTP_CLIENT_DOT:
        dot_reply(client);
        break;
    case SMTP_CLIENT_RESET:
        if (client->parser.code / 100 == 2) {
            client->state = SMTP_CLIENT_IDLE;
        } else {
            fail_protocol(client, "RSET refused");
        }
        break;
    case SMTP_CLIENT_QUIT:
        client->ending = true;
        break;
    case SMTP_CLIENT_SECURING:
    case SMTP_CLIENT_IDLE:
    case SMTP_CLIENT_BODY:
    case SMTP_CLIENT_ENDED:
        check(false); /* nothing is awaited in these */
    }
}

void smtp_client_receive(struct smtp_client *client, uint64_t now_ns, struct slice input,
                         size_t *used)
{
    if (client->state == SMTP_CLIENT_SECURING) {
        /* In the clear behind the 220: somebody's on the way, to be taken for what TLS brings (CVE-2021-38371). */
        *used = input.size;
        fail_protocol(client, "plaintext behind the answer to STARTTLS");
        return;
    }
    enum smtp_reply_step step = smtp_reply_parser_input(&client->parser, input, used);
    if (step == SMTP_REPLY_MALFORMED) {
        fail_protocol(client, "malformed reply");
        return;
    }
    if (step == SMTP_REPLY_MORE) {
        return;
    }
    if (client->state == SMTP_CLIENT_HELLO && client->parser.code / 100 == 2) {
        if (client->parser.line_count > 1 && !client->helo) {
            smtp_extension_read(smtp_reply_parser_line(&client->parser), &client->extensions,
                                &client->size_limit);
        }
        smtp_reply_parser_forget_text(&client->parser);
    }
    if (step == SMTP_REPLY_COMPLETE) {
        client->progress_ns = now_ns;
        reply_complete(client);
    }
}
