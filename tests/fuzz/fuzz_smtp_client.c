/*
 * The client against any server and any owner: the input is a list of steps, each a byte and what it needs.
 *
 * Checked all along: each recipient gets exactly one result; ACCEPTED only after the final dot was written; what is
 * sent are whole lines without control characters; texts are bounded and printable; nothing loops for ever. Where TLS is
 * required there is no transaction without it, and nothing that came in the clear behind the 220 is taken.
 */
#include "proto/message/utf8.h"
#include "proto/smtp/client.h"

#include <stdlib.h>

#define RECIPIENTS 5
#define SECOND 1000000000ull

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct play {
    struct slice script;
    struct smtp_client client;
    struct smtp_client_settings settings;
    struct smtp_client_message message;
    struct smtp_client_recipient recipients[RECIPIENTS];
    bool results[RECIPIENTS];
    unsigned result_count;
    bool in_transaction;
    bool dot_written;
    bool blocked; /* the stream takes nothing */
    bool closed;
    bool securing; /* the machine waits for the handshake */
    bool secured;
    uint64_t now_ns;
};

static uint8_t script_byte(struct play *play)
{
    uint8_t byte = play->script.size > 0 ? play->script.bytes[0] : 0;
    play->script = slice_from(play->script, 1);
    return byte;
}

static void result_check(struct play *play, const struct smtp_client_result *result)
{
    check(play->in_transaction && result->index < play->message.recipient_count);
    check(!play->results[result->index]);
    check(result->outcome != SMTP_CLIENT_ACCEPTED || play->dot_written);
    check(result->code == 0 || (result->code >= 200 && result->code <= 599));
    check(result->code == 0 || result->status.class == result->code / 100);
    check(result->text.size <= SMTP_REPLY_TEXT_MAX);
    for (struct slice text = result->text; text.size > 0;) {
        size_t character = utf8_printable(text);
        check(character > 0);
        text = slice_from(text, character);
    }
    play->results[result->index] = true;
    play->result_count++;
}

static void output_take(struct play *play)
{
    for (unsigned rounds = 0; !play->blocked; rounds++) {
        struct slice output = smtp_client_output(&play->client);
        if (output.size == 0) {
            return;
        }
        check(rounds < 3 * RECIPIENTS && output.size >= 3 && output.bytes[output.size - 1] == '\n');
        for (size_t i = 0; i < output.size; i++) {
            bool line_end = output.bytes[i] == '\r' && output.bytes[i + 1] == '\n';
            i += line_end;
            check(line_end || (output.bytes[i] >= ' ' && output.bytes[i] != 0x7f));
        }
        play->dot_written |= output.size == 3 && output.bytes[0] == '.';
        smtp_client_output_sent(&play->client, play->now_ns);
    }
}

static void drive(struct play *play, struct slice input)
{
    for (unsigned rounds = 0; !play->closed; rounds++) {
        struct smtp_client_result result;
        size_t used;
        enum smtp_client_want want =
            smtp_client_input(&play->client, play->now_ns, input, &used, &result);
        check(used <= input.size && rounds <= RECIPIENTS + 1);
        input = slice_from(input, used);
        if (want == SMTP_CLIENT_WANT_RESULT) {
            result_check(play, &result);
            continue;
        }
        check(input.size == 0);
        output_take(play);
        if (want == SMTP_CLIENT_WANT_MESSAGE || want == SMTP_CLIENT_WANT_CLOSE) {
            check(!play->in_transaction || play->result_count == play->message.recipient_count);
            play->in_transaction = false;
        }
        check((want == SMTP_CLIENT_WANT_MESSAGE) == (play->client.state == SMTP_CLIENT_IDLE));
        check(want != SMTP_CLIENT_WANT_MESSAGE || play->secured ||
              play->client.tls != SMTP_CLIENT_TLS_REQUIRED);
        check(!play->securing || want == SMTP_CLIENT_WANT_TLS || want == SMTP_CLIENT_WANT_CLOSE);
        play->securing = want == SMTP_CLIENT_WANT_TLS;
        play->closed = want == SMTP_CLIENT_WANT_CLOSE;
        return;
    }
}

static void begin(struct play *play)
{
    static const char *const paths[] = {"one@b.test", "two@b.test", "j\303\266rg@b.test",
                                        "bad\r\n@b.test", "\"q q\"@b"};
    static const char *const orcpts[] = {"", "rfc822;o+2B@b.test", "utf-8;j\303\266rg@b.test",
                                         "x;a\r\nb"};
    if (!smtp_client_idle(&play->client)) {
        return;
    }
    uint8_t flags = script_byte(play);
    play->message = (struct smtp_client_message){
        .reverse_path = slice_text(flags & 4 ? "sender@a.test" : ""),
        .flags = flags & 3,
        .recipient_count = 1 + script_byte(play) % RECIPIENTS,
        .body_bytes = flags & 8 ? 100 : 100000,
        .recipients = play->recipients,
    };
    for (uint32_t i = 0; i < play->message.recipient_count; i++) {
        uint8_t byte = script_byte(play);
        play->recipients[i] =
            (struct smtp_client_recipient){.forward_path = slice_text(paths[byte % 5]),
                                           .orcpt = slice_text(orcpts[byte / 5 % 4]),
                                           .notify = byte / 16};
    }
    play->message.ret = flags >> 4 & 3;
    play->message.envid = slice_text(flags & 0x40 ? "QQ+3D1" : flags & 0x80 ? "a\r\nb" : "");
    memset(play->results, 0, sizeof(play->results));
    play->result_count = 0;
    play->in_transaction = true;
    play->dot_written = false;
    smtp_client_begin(&play->client, &play->message, play->now_ns);
    drive(play, slice_of("", 0));
}

static void serve(struct play *play, uint8_t which)
{
    static const char *const replies[] = {
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "220 b.test\r\n",
        "550 5.1.1 no\r\n",
        "450-a\r\n450 b\r\n",
        "421 4.3.2 x\r\n",
        "250-b.test\r\n250-SIZE 1000\r\n250 PIPELINING\r\n",
        "250-b.test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250-DSN\r\n250 SMTPUTF8\r\n",
        "250-b.test\r\n250-STARTTLS\r\n250 PIPELINING\r\n",
        "220 ready\r\n220 twice\r\n",
    };
    if (which < sizeof(replies) / sizeof(replies[0])) {
        drive(play, slice_text(replies[which]));
        return;
    }
    struct slice raw = slice_first(play->script, which % 64);
    play->script = slice_from(play->script, raw.size);
    drive(play, raw);
}

static void step(struct play *play)
{
    uint8_t kind = script_byte(play);
    play->now_ns += SECOND;
    switch (kind % 16) {
    case 0:
        begin(play);
        break;
    case 1:
        if (kind & 16) {
            smtp_client_left(&play->client, script_byte(play) * 300u, play->now_ns);
        } else {
            smtp_client_body_sent(&play->client, play->now_ns);
        }
        drive(play, slice_of("", 0));
        break;
    case 2:
        play->blocked = (kind & 16) != 0;
        drive(play, slice_of("", 0));
        break;
    case 3:
        if (!play->in_transaction && (kind & 16)) {
            smtp_client_quit(&play->client, play->now_ns);
            drive(play, slice_of("", 0));
        }
        break;
    case 4:
        if (kind & 32) {
            smtp_client_closed(&play->client, "lost");
            drive(play, slice_of("", 0));
        }
        break;
    case 5:
        if (kind & 32 && smtp_client_deadline(&play->client) != SMTP_CLIENT_NEVER) {
            play->now_ns = smtp_client_deadline(&play->client);
            smtp_client_expire(&play->client, play->now_ns);
            drive(play, slice_of("", 0));
            check(play->closed);
        }
        break;
    case 6:
        if (play->securing) {
            play->securing = false;
            if (kind & 16) {
                play->secured = true;
                smtp_client_secured(&play->client, play->now_ns);
            } else {
                smtp_client_tls_failed(&play->client, "no handshake");
            }
            drive(play, slice_of("", 0));
        }
        break;
    default:
        serve(play, script_byte(play));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct play *play = calloc(1, sizeof(*play));
    check(play != NULL);
    play->script = slice_of(bytes, size);
    uint8_t flags = script_byte(play);
    play->settings = (struct smtp_client_settings){
        .hostname = slice_text("relay.test"),
        .lmtp = (flags & 1) != 0,
        .pipelining = (flags & 2) != 0,
        .greeting_ns = 300 * SECOND,
        .reply_ns = 300 * SECOND,
        .data_start_ns = 120 * SECOND,
        .data_block_ns = 180 * SECOND,
        .data_end_ns = 600 * SECOND,
        .quit_ns = 5 * SECOND,
    };
    play->now_ns = SECOND;
    smtp_client_open(&play->client, &play->settings, play->now_ns);
    smtp_client_use_tls(&play->client, (enum smtp_client_tls)(flags >> 4 & 3) % 3);
    if (flags & 4) { /* straight to where it becomes interesting */
        drive(play, slice_text("220 b.test\r\n"));
        drive(play, slice_text("250-b.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n"));
    }
    while (play->script.size > 0 && !play->closed) {
        step(play);
    }
    play->blocked = false;
    smtp_client_closed(&play->client, "the end");
    drive(play, slice_of("", 0));
    check(play->closed && !play->in_transaction);
    free(play);
    return 0;
}
