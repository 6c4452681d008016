/*
 * The POP3 server machine against any octets, cut anywhere. The first byte chooses the settings, the second how the rest
 * is cut; the same octets are then given whole, and must have the same replies.
 */
#include "proto/pop3/server.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define MESSAGES 3u
static const char *const texts[MESSAGES] = {"a: b\r\n\r\n.\r\n..\r\nc\r\n", ".\r\n.", ""};

struct session {
    struct pop3_server server;
    struct pop3_message messages[MESSAGES];
    struct pop3_maildrop maildrop;
    uint64_t hash; /* of all that was sent */
    uint8_t last[5];
    bool in_message;
    uint32_t message;
    unsigned updates;
    size_t piece_bytes;
};

static void sent(struct session *session, struct slice octets)
{
    for (size_t i = 0; i < octets.size; i++) {
        session->hash = (session->hash ^ octets.bytes[i]) * 0x100000001b3ull;
        memmove(session->last, session->last + 1, 4);
        session->last[4] = octets.bytes[i];
        /* the end of a message must not come before its end */
        check(!session->in_message || memcmp(session->last, "\r\n.\r\n", 5) != 0);
    }
}

static void message_send(struct session *session)
{
    struct slice rest = slice_text(texts[session->message]), piece;
    session->in_message = true;
    while (rest.size > 0 && !pop3_server_message_enough(&session->server)) {
        struct slice part = slice_first(rest, session->piece_bytes);
        rest = slice_from(rest, part.size);
        while (pop3_server_piece(&session->server, &part, &piece)) {
            check(piece.size > 0);
            sent(session, piece);
        }
    }
    session->in_message = false;
    pop3_server_message_end(&session->server);
}

static void answer(struct session *session, const struct pop3_event *event, uint8_t seed)
{
    const struct pop3_verdict no = {POP3_ERR, "AUTH", slice_text("No")};
    bool odd = event->octets.size & 1;
    switch (event->kind) {
    case POP3_EVENT_NONE:
    case POP3_EVENT_AUTH_CANCEL:
        return;
    case POP3_EVENT_CONNECTED:
        pop3_server_verdict(&session->server, NULL);
        return;
    case POP3_EVENT_UPDATE:
        session->updates++;
        pop3_server_verdict(&session->server, seed & 8 ? &no : NULL);
        return;
    case POP3_EVENT_LOGIN:
        check(event->user.size > 0 && event->password.size > 0);
        if (event->password.size & 1) {
            pop3_server_admit(&session->server, &session->maildrop);
        } else {
            pop3_server_verdict(&session->server, &no);
        }
        return;
    case POP3_EVENT_AUTH:
    case POP3_EVENT_AUTH_ANSWER:
        check(event->octets.size <= POP3_EXCHANGE_BYTES_MAX);
        if (event->octets.size > 3) {
            pop3_server_challenge(&session->server, event->octets);
        } else if (odd) {
            pop3_server_admit(&session->server, &session->maildrop);
        } else {
            pop3_server_verdict(&session->server, &no);
        }
        return;
    case POP3_EVENT_RETRIEVE:
        check(event->message < MESSAGES && !session->messages[event->message].deleted);
        session->message = event->message;
        pop3_server_verdict(&session->server, seed & 16 ? &no : NULL);
        return;
    }
}

static bool feed(struct session *session, struct slice input, uint8_t seed)
{
    for (;;) {
        struct pop3_event event = {0};
        size_t used = 0;
        enum pop3_want want = pop3_server_input(&session->server, 1, input, &used, &event);
        check(used <= input.size);
        input = slice_from(input, used);
        answer(session, &event, seed);
        struct slice output = pop3_server_output(&session->server);
        size_t some = seed & 4 && output.size > 700 ? 700 : output.size;
        sent(session, slice_first(output, some));
        pop3_server_sent(&session->server, some);
        if (want == POP3_WANT_MESSAGE) {
            output = pop3_server_output(&session->server);
            sent(session, output);
            pop3_server_sent(&session->server, output.size);
            message_send(session);
        } else if (want == POP3_WANT_TLS) {
            return false; /* what is thrown away depends on the cut */
        } else if (want == POP3_WANT_CLOSE && some == output.size) {
            return false;
        } else if (used == 0 && event.kind == POP3_EVENT_NONE && output.size == 0) {
            check(input.size == 0);
            return true;
        }
    }
}

static struct session *run(const uint8_t *bytes, size_t size, uint8_t seed, size_t cut)
{
    const struct pop3_server_settings settings = {
        .greeting = slice_text("fuzz"),
        .sasl_clear = slice_text(seed & 1 ? "PLAIN" : ""),
        .sasl_secure = slice_text("PLAIN LOGIN"),
        .clear_login = !(seed & 2),
        .stls = true,
        .errors_max = 20,
        .idle_ns = 10,
    };
    struct session *session = calloc(1, sizeof(*session));
    check(session != NULL);
    session->maildrop = (struct pop3_maildrop){session->messages, MESSAGES};
    session->piece_bytes = cut;
    for (unsigned i = 0; i < MESSAGES; i++) {
        session->messages[i] =
            (struct pop3_message){.bytes = strlen(texts[i]), .uidl = slice_text("uid")};
    }
    pop3_server_open(&session->server, &settings, 0);
    bool open = feed(session, slice_of(NULL, 0), seed);
    for (size_t at = 0; open && at < size; at += cut) {
        size_t step = size - at < cut ? size - at : cut;
        uint8_t *copy = malloc(step);
        check(copy != NULL);
        memcpy(copy, bytes + at, step);
        open = feed(session, slice_of(copy, step), seed);
        free(copy);
    }
    pop3_server_close(&session->server);
    return session;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct session *whole = run(bytes + 2, size - 2, bytes[0], size);
    struct session *cut = run(bytes + 2, size - 2, bytes[0], (size_t)(bytes[1] % 17) + 1);
    check(whole->hash == cut->hash && whole->updates == cut->updates);
    free(whole);
    free(cut);
    return 0;
}
