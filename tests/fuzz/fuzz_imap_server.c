/*
 * The IMAP server machine against any bytes, cut anywhere. The first byte chooses the settings and what the owner
 * answers, the second how the rest is cut; the same bytes are then given whole, and must lead to the same output and
 * the same messages. What it says must be lines, what it holds bounded.
 *
 * with: tests/unit/imap_dump.c
 */
#include "proto/imap/server.h"
#include "engine/core/check.h"
#include "tests/unit/imap_dump.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The text may be held while it is moved to twice the room; the tree; a line of output. */
#define MEMORY_MAX (2 * IMAP_COMMAND_BYTES_MAX + IMAP_TREE_BYTES_MAX + 64 * 1024)

struct outcome {
    uint64_t output, events; /* hashes */
};

struct session {
    struct imap_server server;
    struct outcome outcome;
    uint8_t last[2]; /* of the output */
    uint8_t seed;
    unsigned count; /* of events that were answered */
    bool message;   /* one is open */
    bool taken;     /* the owner holds some */
};

static uint64_t hash_add(uint64_t hash, struct slice piece)
{
    for (size_t i = 0; i < piece.size; i++) {
        hash = (hash ^ piece.bytes[i]) * 0x100000001b3ull;
    }
    return hash;
}

static void output_take(struct session *session)
{
    struct slice output = imap_server_output(&session->server);
    for (size_t i = 0; i < output.size; i++) {
        uint8_t byte = output.bytes[i];
        check(byte != '\n' || session->last[1] == '\r');
        check(session->last[1] != '\r' || byte == '\n');
        check(byte >= ' ' || byte == '\r' || byte == '\n');
        session->last[0] = session->last[1];
        session->last[1] = byte;
    }
    check(output.size == 0 || session->last[1] == '\n');
    session->outcome.output = hash_add(session->outcome.output, output);
    imap_server_sent(&session->server, output.size);
}

static void command_take(struct session *session, const struct imap_event *event)
{
    const struct imap_answer no = {IMAP_NO, slice_text("CANNOT"), slice_text("No\r\n* OK")};
    char text[4096];
    imap_dump(event->command, text, sizeof(text));
    session->outcome.events = hash_add(session->outcome.events, slice_text(text));
    if (event->command->kind == IMAP_APPEND || event->command->kind == IMAP_REPLACE) {
        check(!session->message && session->taken);
        session->taken = false;
    }
    if (event->command->kind == IMAP_IDLE) {
        return;
    }
    if (event->command->kind == IMAP_AUTHENTICATE && (session->seed & 4)) {
        imap_server_challenge(&session->server, slice_text("who?"));
        return;
    }
    bool login = event->command->kind == IMAP_LOGIN || event->command->kind == IMAP_SELECT;
    bool refuse = !login && (session->seed & 8) && session->count % 3 == 0;
    imap_server_done(&session->server, refuse ? &no : NULL);
}

static void event_take(struct session *session, const struct imap_event *event)
{
    const struct imap_answer no = {IMAP_NO, slice_text("OVERQUOTA"), slice_text("No")};
    const uint8_t kind = (uint8_t)event->kind;
    if (event->kind == IMAP_EVENT_NONE) {
        return;
    }
    bool bytes = event->kind == IMAP_EVENT_MESSAGE_BYTES;
    session->count += !bytes; /* these depend on the cut */
    session->outcome.events =
        hash_add(session->outcome.events, bytes ? event->bytes : slice_of(&kind, 1));
    switch (event->kind) {
    case IMAP_EVENT_NONE:
    case IMAP_EVENT_CANCELLED:
        return;
    case IMAP_EVENT_COMMAND:
        command_take(session, event);
        return;
    case IMAP_EVENT_RESPONSE:
        imap_server_done(&session->server, session->seed & 8 ? &no : NULL);
        return;
    case IMAP_EVENT_IDLE_DONE:
        imap_server_done(&session->server, NULL);
        return;
    case IMAP_EVENT_MESSAGE:
    case IMAP_EVENT_MESSAGE_URL:
        check(session->message == (event->kind == IMAP_EVENT_MESSAGE_URL));
        if ((session->seed & 0x10) && session->count % 4 == 0) {
            session->message = session->taken = false;
            imap_server_refuse(&session->server, &no);
            return;
        }
        session->message = session->taken = true;
        imap_server_take(&session->server);
        return;
    case IMAP_EVENT_MESSAGE_BYTES:
        check(session->message && event->bytes.size > 0);
        return;
    case IMAP_EVENT_MESSAGE_END:
        check(session->message);
        session->message = false;
        return;
    case IMAP_EVENT_APPEND_RESET:
        check(session->taken);
        session->message = session->taken = false;
        return;
    }
}

static bool piece_feed(struct session *session, struct slice piece)
{
    for (;;) {
        struct imap_event event;
        size_t used = 0;
        enum imap_want want = imap_server_input(&session->server, 5, piece, &used, &event);
        check(used <= piece.size);
        check(imap_server_memory(&session->server) <= MEMORY_MAX);
        size_t said = imap_server_output(&session->server).size;
        output_take(session);
        event_take(session, &event);
        said += imap_server_output(&session->server).size;
        output_take(session);
        piece = slice_from(piece, used);
        if (want == IMAP_WANT_CLOSE) {
            return false;
        }
        if (session->server.phase == IMAP_PHASE_SECURING) {
            imap_server_secured(&session->server, 5);
            continue;
        }
        if (used == 0 && event.kind == IMAP_EVENT_NONE && said == 0) {
            check(piece.size == 0 || session->server.phase == IMAP_PHASE_ENDED);
            return true;
        }
    }
}

static struct outcome run(const uint8_t *bytes, size_t size, uint8_t seed, size_t cut)
{
    static const char login[] = "l LOGIN a b\r\nl SELECT c\r\nl ENABLE QRESYNC UTF8=ACCEPT\r\n";
    static struct session session;
    const struct imap_server_settings settings = {
        .hostname = slice_text("fuzz.test"),
        .capabilities = seed & 1 ? UINT64_MAX : UINT64_MAX & ~(uint64_t)IMAP_CAP_LITERAL_PLUS,
        .mechanisms = slice_text("PLAIN LOGIN"),
        .mechanisms_clear = slice_text("PLAIN"),
        .starttls = true,
        .login_in_clear = true,
        .append_bytes_max = 300,
        .errors_max = 20,
        .login_ns = 10,
        .idle_ns = 10,
    };
    memset(&session, 0, sizeof(session));
    session.seed = seed;
    imap_server_open(&session.server, &settings, 0);
    imap_server_greet(&session.server);
    bool open = true;
    if (seed & 2) {
        open = piece_feed(&session, slice_of(login, sizeof(login) - 1));
    }
    for (size_t at = 0; open && at < size; at += cut) {
        size_t step = size - at < cut ? size - at : cut;
        uint8_t *copy = malloc(step);
        memcpy(copy, bytes + at, step);
        open = piece_feed(&session, slice_of(copy, step));
        free(copy);
    }
    if (open && session.server.phase == IMAP_PHASE_IDLE && session.server.text_bytes == 0) {
        check(imap_server_memory(&session.server) == 0);
    }
    imap_server_close(&session.server);
    check(imap_server_memory(&session.server) == 0);
    return session.outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct outcome whole = run(bytes + 2, size - 2, bytes[0], size);
    struct outcome cut = run(bytes + 2, size - 2, bytes[0], (size_t)(bytes[1] % 17) + 1);
    check(whole.output == cut.output && whole.events == cut.events);
    return 0;
}
