#include "proto/smtp/client_private.h"
#include "proto/smtp/path.h"

#include <stdio.h>

static void output_put(struct smtp_client *client, struct slice bytes)
{
    check(client->output_bytes + bytes.size <= SMTP_CLIENT_OUTPUT_BYTES);
    memcpy(client->output + client->output_bytes, bytes.bytes, bytes.size);
    client->output_bytes = (uint16_t)(client->output_bytes + bytes.size);
}

static void output_text(struct smtp_client *client, const char *text)
{
    output_put(client, slice_text(text));
}

void smtp_client_command(struct smtp_client *client, const char *verb, struct slice argument,
                         uint32_t replies)
{
    output_text(client, verb);
    output_put(client, argument);
    output_text(client, "\r\n");
    client->unwritten += replies;
}

static void output_mail(struct smtp_client *client)
{
    const struct smtp_client_message *message = &client->message;
    output_text(client, "MAIL FROM:<");
    output_put(client, message->reverse_path);
    output_text(client, ">");
    if (client->extensions & SMTP_EXTENSION_SIZE) {
        char size[32];
        snprintf(size, sizeof(size), " SIZE=%llu", (unsigned long long)message->body_bytes);
        output_text(client, size);
    }
    if ((message->flags & SMTP_CLIENT_8BITMIME) && (client->extensions & SMTP_EXTENSION_8BITMIME)) {
        output_text(client, " BODY=8BITMIME");
    }
    if (message->flags & SMTP_CLIENT_SMTPUTF8) {
        output_text(client, " SMTPUTF8");
    }
    if (smtp_client_passes_dsn(client) && message->ret != SMTP_RET_NONE) {
        output_text(client, message->ret == SMTP_RET_FULL ? " RET=FULL" : " RET=HDRS");
    }
    if (smtp_client_passes_dsn(client) && smtp_envid_valid(message->envid)) {
        output_text(client, " ENVID=");
        output_put(client, message->envid);
    }
    smtp_client_command(client, "", slice_text(""), 1);
}

#define RCPT_PARAMETERS_BYTES_MAX                                                                  \
    (sizeof(" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=") + SMTP_ORCPT_BYTES_MAX)

static void output_orcpt(struct smtp_client *client, struct slice orcpt)
{
    output_text(client, " ORCPT=");
    output_put(client, orcpt);
}

/* What was never valid is not sent: it could be a command of its own. */
static void output_rcpt(struct smtp_client *client, const struct smtp_client_recipient *recipient)
{
    bool passes = smtp_client_passes_dsn(client);
    bool utf8 = (client->message.flags & SMTP_CLIENT_SMTPUTF8) != 0;
    output_text(client, "RCPT TO:<");
    output_put(client, recipient->forward_path);
    output_text(client, ">");
    if (passes && recipient->notify != 0) {
        output_text(client, " NOTIFY=");
        output_text(client, smtp_notify_text(recipient->notify));
    }
    if (passes && smtp_orcpt_valid(recipient->orcpt, utf8)) {
        output_orcpt(client, recipient->orcpt);
    } else if (passes && recipient->orcpt.size == 0 &&
               (client->message.flags & SMTP_CLIENT_NAMES_ORIGINAL) != 0) {
        char orcpt[SMTP_ORCPT_BYTES_MAX];
        size_t size = smtp_orcpt_make(recipient->forward_path, orcpt);
        if (size > 0) {
            output_orcpt(client, slice_of(orcpt, size));
        }
    }
    smtp_client_command(client, "", slice_text(""), 1);
}

uint32_t smtp_client_unasked(const struct smtp_client *client, uint32_t index)
{
    const struct smtp_client_message *message = &client->message;
    while (index < message->recipient_count &&
           message->recipients[index].state != RECIPIENT_UNASKED) {
        index++;
    }
    return index;
}

void smtp_client_position_set(const struct smtp_client *client,
                              struct smtp_client_position *position, uint32_t from)
{
    position->index = smtp_client_unasked(client, from);
    bool more = position->index < client->message.recipient_count;
    position->stage = more ? SMTP_CLIENT_AT_RCPT : SMTP_CLIENT_AT_DATA;
}

/* Writes the next command of the envelope if it may go now; false: not now. */
static bool envelope_send_next(struct smtp_client *client)
{
    struct smtp_client_position *next = &client->next_sent;
    bool waiting = client->awaited + client->unwritten > 0;
    if (client->judging || client->mail_refused || next->stage == SMTP_CLIENT_AT_DOT ||
        (waiting && !smtp_client_pipelined(client))) {
        return false;
    }
    if (next->stage == SMTP_CLIENT_AT_MAIL) {
        output_mail(client);
        smtp_client_position_set(client, next, 0);
        return true;
    }
    if (next->stage == SMTP_CLIENT_AT_RCPT) {
        const struct smtp_client_recipient *recipient = &client->message.recipients[next->index];
        size_t bytes = recipient->forward_path.size + sizeof("RCPT TO:<>\r\n") +
                       (smtp_client_passes_dsn(client) ? RCPT_PARAMETERS_BYTES_MAX : 0);
        if (client->output_bytes + bytes > SMTP_CLIENT_OUTPUT_BYTES) {
            return false;
        }
        output_rcpt(client, recipient);
        smtp_client_position_set(client, next, next->index + 1);
        return true;
    }
    if (client->output_bytes + sizeof("DATA\r\n") > SMTP_CLIENT_OUTPUT_BYTES) {
        return false;
    }
    smtp_client_command(client, "DATA", slice_text(""), 1);
    next->stage = SMTP_CLIENT_AT_DOT;
    return true;
}

void smtp_client_dot(struct smtp_client *client, uint32_t replies)
{
    client->state = SMTP_CLIENT_DOT;
    client->dot_left = false;
    client->next_reply.index = 0;
    smtp_client_command(client, ".", slice_text(""), replies);
}

struct slice smtp_client_output(struct smtp_client *client)
{
    if (client->output_bytes == 0 && client->state == SMTP_CLIENT_ENVELOPE && !client->broken) {
        while (envelope_send_next(client)) {
        }
    }
    return slice_of(client->output, client->output_bytes);
}

/* The connection must not be used any more; smtp_client_input tells the results. text: static. */
static void break_off(struct smtp_client *client, struct smtp_status status, const char *text)
{
    client->broken = true;
    client->broken_status = status;
    client->broken_text = text;
}

void smtp_client_output_sent(struct smtp_client *client, uint64_t now_ns)
{
    if (client->awaited == 0 && client->unwritten > 0 &&
        smtp_reply_parser_inside(&client->parser)) {
        break_off(client, (struct smtp_status){4, 5, 0}, "reply begun before its command");
    }
    client->output_bytes = 0;
    client->awaited += client->unwritten;
    client->unwritten = 0;
    client->dot_left = client->state == SMTP_CLIENT_DOT;
    client->progress_ns = now_ns;
    client->block_bytes = 0;
}

/* Recipients that this server cannot be asked for. */
static void judge_here(struct smtp_client *client)
{
    static const struct {
        uint8_t state;
        struct smtp_status status;
        const char *text;
    } judgements[] = {
        {RECIPIENT_BAD_ADDRESS, {5, 1, 3}, "the address cannot be written in SMTP"},
        {RECIPIENT_NEEDS_UTF8,
         {5, 6, 7},
         "the address needs SMTPUTF8, which the server does not offer"},
    };
    for (size_t i = 0; i < sizeof(judgements) / sizeof(judgements[0]); i++) {
        for (uint32_t index = 0; index < client->message.recipient_count; index++) {
            if (client->message.recipients[index].state == judgements[i].state) {
                smtp_client_report(client, STATE_BIT(judgements[i].state),
                                   &(struct smtp_client_result){
                                       .outcome = SMTP_CLIENT_PERMANENT,
                                       .stage = SMTP_CLIENT_AT_RCPT,
                                       .flags = SMTP_CLIENT_DECIDED_HERE,
                                       .status = judgements[i].status,
                                       .text = slice_text(judgements[i].text),
                                   });
                return;
            }
        }
    }
    client->judging = false;
    if (smtp_client_unasked(client, 0) == client->message.recipient_count) {
        client->state = SMTP_CLIENT_IDLE;
    }
}

enum smtp_client_want smtp_client_input(struct smtp_client *client, uint64_t now_ns,
                                        struct slice input, size_t *used,
                                        struct smtp_client_result *result)
{
    *used = 0;
    while (!smtp_client_report_next(client, result)) {
        if (client->ending || client->state == SMTP_CLIENT_ENDED) {
            client->state = SMTP_CLIENT_ENDED;
            *used = input.size;
            return SMTP_CLIENT_WANT_CLOSE;
        }
        if (client->broken) {
            client->broken = false;
            if (client->state == SMTP_CLIENT_QUIT) {
                client->ending = true;
            } else {
                smtp_client_fail(client, client->broken_status, client->broken_text);
            }
        } else if (client->judging) {
            judge_here(client);
        } else if (*used < input.size) {
            size_t taken;
            smtp_client_receive(client, now_ns, slice_from(input, *used), &taken);
            *used += taken;
        } else if (client->state == SMTP_CLIENT_IDLE) {
            return SMTP_CLIENT_WANT_MESSAGE;
        } else if (client->state == SMTP_CLIENT_SECURING) {
            return SMTP_CLIENT_WANT_TLS;
        } else {
            return client->state == SMTP_CLIENT_BODY ? SMTP_CLIENT_WANT_BODY
                                                     : SMTP_CLIENT_WANT_INPUT;
        }
    }
    return SMTP_CLIENT_WANT_RESULT;
}

void smtp_client_open(struct smtp_client *client, const struct smtp_client_settings *settings,
                      uint64_t now_ns)
{
    size_t before_buffers = offsetof(struct smtp_client, failure_text);
    memset(client, 0, before_buffers);
    smtp_reply_parser_init(&client->parser);
    client->settings = settings;
    client->state = SMTP_CLIENT_GREETING;
    client->awaited = 1;
    client->progress_ns = now_ns;
}

void smtp_client_use_tls(struct smtp_client *client, enum smtp_client_tls tls)
{
    check(client->state == SMTP_CLIENT_GREETING);
    client->tls = (uint8_t)tls;
}

void smtp_client_secured(struct smtp_client *client, uint64_t now_ns)
{
    check(client->state == SMTP_CLIENT_SECURING);
    client->secrecy = SMTP_CLIENT_SECURED;
    client->progress_ns = now_ns;
    smtp_client_hello(client, client->settings->lmtp ? "LHLO " : "EHLO ");
}

void smtp_client_tls_failed(struct smtp_client *client, const char *text)
{
    break_off(client, (struct smtp_status){4, 7, 5}, text);
}

/* Why this server cannot take the message at all; NULL: it can be asked. */
static const char *message_refuse_here(const struct smtp_client *client, struct smtp_status *status)
{
    const struct smtp_client_message *message = &client->message;
    bool ascii;
    if (!smtp_path_writable(message->reverse_path, &ascii)) {
        *status = (struct smtp_status){5, 1, 7};
        return "the sender's address cannot be written in SMTP";
    }
    if ((message->flags & SMTP_CLIENT_SMTPUTF8) &&
        !(client->extensions & SMTP_EXTENSION_SMTPUTF8)) {
        *status = (struct smtp_status){5, 6, 7};
        return "the message needs SMTPUTF8, which the server does not offer";
    }
    if ((message->flags & SMTP_CLIENT_8BITMIME) &&
        !(client->extensions & SMTP_EXTENSION_8BITMIME)) {
        *status = (struct smtp_status){5, 6, 3};
        return "the message needs 8BITMIME, which the server does not offer";
    }
    if (client->size_limit > 0 && message->body_bytes > client->size_limit) {
        *status = (struct smtp_status){5, 3, 4};
        return "the message is larger than the server takes";
    }
    return NULL;
}

static void recipient_begin(struct smtp_client *client, struct smtp_client_recipient *recipient)
{
    bool ascii, empty = recipient->forward_path.size == 0;
    recipient->state = RECIPIENT_UNASKED;
    if (empty || !smtp_path_writable(recipient->forward_path, &ascii)) {
        recipient->state = RECIPIENT_BAD_ADDRESS;
        client->judging = true;
    } else if (!ascii && !(client->extensions & SMTP_EXTENSION_SMTPUTF8)) {
        recipient->state = RECIPIENT_NEEDS_UTF8;
        client->judging = true;
    } else if (!ascii) {
        client->message.flags |= SMTP_CLIENT_SMTPUTF8;
    }
}

void smtp_client_begin(struct smtp_client *client, const struct smtp_client_message *message,
                       uint64_t now_ns)
{
    check(client->state == SMTP_CLIENT_IDLE && message->recipient_count > 0);
    client->message = *message;
    client->state = SMTP_CLIENT_ENVELOPE;
    client->mail_refused = false;
    client->empty_body = false;
    client->judging = false;
    client->taken_count = 0;
    client->progress_ns = now_ns;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        recipient_begin(client, &client->message.recipients[i]);
    }
    client->next_sent = (struct smtp_client_position){.stage = SMTP_CLIENT_AT_MAIL};
    client->next_reply = client->next_sent;
    bool ascii;
    if (smtp_path_writable(message->reverse_path, &ascii) && !ascii) {
        client->message.flags |= SMTP_CLIENT_SMTPUTF8;
    }
    struct smtp_client_result refusal = {
        .outcome = SMTP_CLIENT_PERMANENT,
        .stage = SMTP_CLIENT_AT_MAIL,
        .flags = SMTP_CLIENT_DECIDED_HERE,
    };
    const char *why = message_refuse_here(client, &refusal.status);
    if (why != NULL) {
        refusal.text = slice_text(why);
        smtp_client_report(client, ~STATE_BIT(RECIPIENT_JUDGED), &refusal);
        client->judging = true; /* finds nobody left to ask, and is idle */
    }
}

void smtp_client_body_sent(struct smtp_client *client, uint64_t now_ns)
{
    if (client->state != SMTP_CLIENT_BODY || client->ending) {
        return; /* the server has given up meanwhile */
    }
    client->progress_ns = now_ns;
    smtp_client_dot(client, client->settings->lmtp ? client->taken_count : 1);
}

void smtp_client_left(struct smtp_client *client, uint64_t bytes, uint64_t now_ns)
{
    bool sending = client->state == SMTP_CLIENT_BODY || client->state == SMTP_CLIENT_DOT;
    if (sending && bytes < client->left_bytes) {
        uint64_t gone = client->block_bytes + (client->left_bytes - bytes);
        bool block = bytes == 0 || gone >= SMTP_CLIENT_BLOCK_BYTES;
        client->progress_ns = block ? now_ns : client->progress_ns;
        client->block_bytes = block ? 0 : (uint32_t)gone;
    }
    client->left_bytes = bytes;
}

void smtp_client_quit(struct smtp_client *client, uint64_t now_ns)
{
    check(client->state != SMTP_CLIENT_ENVELOPE && client->state != SMTP_CLIENT_BODY &&
          client->state != SMTP_CLIENT_DOT);
    client->progress_ns = now_ns;
    if (client->state == SMTP_CLIENT_IDLE && !client->broken) {
        client->state = SMTP_CLIENT_QUIT;
        smtp_client_command(client, "QUIT", slice_text(""), 1);
    } else if (client->state != SMTP_CLIENT_QUIT) {
        client->ending = true;
    }
}

void smtp_client_closed(struct smtp_client *client, const char *text)
{
    break_off(client, (struct smtp_status){4, 4, 2}, text);
}

uint64_t smtp_client_deadline(const struct smtp_client *client)
{
    const struct smtp_client_settings *settings = client->settings;
    uint64_t wait = 0;
    switch ((enum smtp_client_state)client->state) {
    case SMTP_CLIENT_GREETING:
        wait = settings->greeting_ns;
        break;
    case SMTP_CLIENT_ENVELOPE:
        wait = client->next_reply.stage == SMTP_CLIENT_AT_DATA ? settings->data_start_ns
                                                               : settings->reply_ns;
        break;
    case SMTP_CLIENT_SECURING:
        wait = settings->handshake_ns > 0 ? settings->handshake_ns : settings->reply_ns;
        break;
    case SMTP_CLIENT_HELLO:
    case SMTP_CLIENT_STARTTLS:
    case SMTP_CLIENT_RESET:
        wait = settings->reply_ns;
        break;
    case SMTP_CLIENT_BODY:
        wait = settings->data_block_ns;
        break;
    case SMTP_CLIENT_DOT:
        wait = client->left_bytes > 0 ? settings->data_block_ns : settings->data_end_ns;
        break;
    case SMTP_CLIENT_QUIT:
        wait = settings->quit_ns;
        break;
    case SMTP_CLIENT_IDLE:
    case SMTP_CLIENT_ENDED:
        return SMTP_CLIENT_NEVER;
    }
    uint64_t latest = SMTP_CLIENT_NEVER - client->progress_ns;
    return wait < latest ? client->progress_ns + wait : SMTP_CLIENT_NEVER;
}

void smtp_client_expire(struct smtp_client *client, uint64_t now_ns)
{
    if (now_ns >= smtp_client_deadline(client)) {
        smtp_client_closed(client, "timed out");
    }
}

const struct smtp_client_result *smtp_client_failure(const struct smtp_client *client)
{
    return client->failed ? &client->failure : NULL;
}
