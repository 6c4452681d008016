/*
 * The SMTP and LMTP server machine against any bytes, cut anywhere. The first byte chooses the settings, the second how
 * the rest is cut; the same bytes are then given whole, and must lead to the same messages.
 */
#include "proto/smtp/server.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct outcome {
    uint64_t hash; /* of what was committed */
    unsigned commits;
    bool synchronization_lost; /* which depends on what has arrived with a command, so on the cut */
};

struct session {
    struct smtp_server server;
    struct outcome outcome;
    uint64_t draft_hash;
    uint8_t last[4]; /* of the draft */
    size_t draft_bytes;
    unsigned recipients;
    bool in_body;
    bool exchanging; /* has a challenge */
    unsigned answers;
    char *lent; /* room for a line of AUTH */
};

static uint64_t hash_add(uint64_t hash, struct slice piece)
{
    for (size_t i = 0; i < piece.size; i++) {
        hash = (hash ^ piece.bytes[i]) * 0x100000001b3ull;
    }
    return hash;
}

/* What is stored must not hold an end of data, nor a newline that is none. */
static void body_take(struct session *session, struct slice piece)
{
    for (size_t i = 0; i < piece.size; i++) {
        uint8_t byte = piece.bytes[i];
        memmove(session->last, session->last + 1, 3);
        session->last[3] = byte;
        session->draft_bytes++;
        check(byte != '\n' || session->last[2] == '\r');
        bool line_start = session->draft_bytes == 3 || session->last[0] == '\n';
        check(!(line_start && session->last[1] == '.' && session->last[2] == '\r' && byte == '\n'));
    }
    session->draft_hash = hash_add(session->draft_hash, piece);
}

/* Two challenges at most; who has sent an "x" is in. */
static void exchange_step(struct session *session, const struct smtp_event *event)
{
    const struct smtp_verdict in = {235, "2.7.0", slice_text("In")};
    const struct smtp_verdict out = {535, "5.7.8", slice_text("Out")};
    struct slice said = event->has_octets ? event->octets : slice_of(NULL, 0);
    bool right = said.size > 0 && memchr(said.bytes, 'x', said.size) != NULL;
    session->answers = session->exchanging ? session->answers + 1 : 0;
    session->exchanging = !right && session->answers < 2;
    if (!session->exchanging || !smtp_server_challenge(&session->server, said)) {
        session->exchanging = false;
        smtp_server_verdict(&session->server, right ? &in : &out);
    }
}

static void event_take(struct session *session, const struct smtp_event *event, uint8_t seed)
{
    const struct smtp_verdict no = {550, "5.1.1", slice_text("No")};
    bool refuse = (seed & 0x30) == 0x30;
    switch (event->kind) {
    case SMTP_EVENT_NONE:
    case SMTP_EVENT_HELO:
        return;
    case SMTP_EVENT_CONNECTED:
        smtp_server_verdict(&session->server, NULL);
        return;
    case SMTP_EVENT_SENDER:
        check(event->path.mailbox.size <= SMTP_ADDRESS_BYTES_MAX);
        session->recipients = 0;
        smtp_server_verdict(&session->server, NULL);
        return;
    case SMTP_EVENT_RECIPIENT:
        check(event->path.mailbox.size > 0);
        session->recipients += !refuse || event->path.local.size > 2;
        smtp_server_verdict(&session->server, refuse && event->path.local.size <= 2 ? &no : NULL);
        return;
    case SMTP_EVENT_BODY_BEGIN:
        check(session->recipients > 0 && !session->in_body);
        session->in_body = true;
        session->draft_hash = 14695981039346656037ull;
        session->draft_bytes = 0;
        memset(session->last, 0, sizeof(session->last));
        return;
    case SMTP_EVENT_BODY:
        check(session->in_body && event->body.size > 0);
        body_take(session, event->body);
        return;
    case SMTP_EVENT_BODY_END:
        check(session->in_body);
        session->in_body = false;
        session->outcome.commits++;
        session->outcome.hash = session->outcome.hash * 31 + session->draft_hash;
        for (unsigned i = 0; i < (session->server.settings->lmtp ? session->recipients : 1); i++) {
            smtp_server_verdict(&session->server, NULL);
        }
        return;
    case SMTP_EVENT_RESET:
        session->in_body = false;
        return;
    case SMTP_EVENT_AUTH:
    case SMTP_EVENT_AUTH_ANSWER:
        check(!session->in_body && session->exchanging == (event->kind == SMTP_EVENT_AUTH_ANSWER));
        check(event->octets.size <= SMTP_AUTH_LINE_BYTES_MAX);
        exchange_step(session, event);
        return;
    case SMTP_EVENT_AUTH_ROOM:
        free(session->lent);
        session->lent = seed & 0x10 ? NULL : malloc(SMTP_AUTH_LINE_BYTES_MAX);
        smtp_server_auth_room(&session->server, session->lent);
        return;
    case SMTP_EVENT_AUTH_END:
        session->exchanging = false;
        return;
    }
}

static bool piece_feed(struct session *session, struct slice piece, uint8_t seed)
{
    for (;;) {
        struct smtp_event event;
        size_t used = 0;
        enum smtp_want want = smtp_server_input(&session->server, 5, piece, &used, &event);
        check(used <= piece.size);
        event_take(session, &event, seed);
        piece = slice_from(piece, used);
        struct slice output = smtp_server_output(&session->server);
        check(output.size <= SMTP_SERVER_OUTPUT_BYTES);
        if (output.size >= 8 && memmem(output.bytes, output.size, "synchronization", 15) != NULL) {
            session->outcome.synchronization_lost = true;
        }
        bool stuck = used == 0 && event.kind == SMTP_EVENT_NONE;
        if (stuck || !(seed & 0x80)) { /* else replies gather as long as input is taken */
            smtp_server_sent(&session->server, output.size);
        }
        if (want == SMTP_WANT_CLOSE) {
            return false;
        }
        if (used == 0 && event.kind == SMTP_EVENT_NONE && output.size == 0) {
            check(piece.size == 0); /* it would wait for more though it has some */
            return true;
        }
    }
}

static struct outcome run(const uint8_t *bytes, size_t size, uint8_t seed, size_t cut)
{
    const struct smtp_server_settings settings = {
        .hostname = slice_text("fuzz.test"),
        .lmtp = seed & 1,
        .normalize = seed & 2,
        .pipelining = true,
        .chunking = true,
        .smtputf8 = seed & 4,
        .dsn = seed & 4,
        .message_bytes_max = seed & 8 ? 200 : 100000,
        .recipients_max = 3,
        .errors_max = 50,
        .junk_max = 20,
        .line_bytes_max = 100,
        .header_bytes_max = 400,
        .header_lines_max = 10,
        .hops_max = 3,
        .command_ns = 10,
        .data_ns = 10,
        .octet_ns = 1,
    };
    static struct session session;
    memset(&session, 0, sizeof(session));
    smtp_server_open(&session.server, &settings, 0);
    if (seed & 0x40) {
        smtp_server_take_bare_lines(&session.server);
    }
    if (!(seed & 1)) {
        smtp_server_offer_auth(&session.server, slice_text("PLAIN"),
                               seed & 8 ? SMTP_AUTH_DEMANDED : SMTP_AUTH_OFFERED);
    }
    bool open = piece_feed(&session, slice_of(NULL, 0), seed);
    for (size_t at = 0; open && at < size; at += cut) {
        size_t step = size - at < cut ? size - at : cut;
        uint8_t *copy = malloc(step);
        memcpy(copy, bytes + at, step);
        open = piece_feed(&session, slice_of(copy, step), seed);
        free(copy);
    }
    free(session.lent);
    return session.outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct outcome whole = run(bytes + 2, size - 2, bytes[0], size);
    struct outcome cut = run(bytes + 2, size - 2, bytes[0], (size_t)(bytes[1] % 17) + 1);
    if (!whole.synchronization_lost && !cut.synchronization_lost) {
        check(whole.commits == cut.commits && whole.hash == cut.hash);
    }
    return 0;
}
