/*
 * The ManageSieve server machine against any bytes, cut anywhere. The first byte chooses the settings and the answers,
 * the second how the rest is cut; the same bytes are then given whole, and must lead to the same events and replies.
 */
#include "proto/sieve/managesieve_server.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct session {
    struct managesieve_server server;
    uint64_t hash;
    uint32_t script_left;
    unsigned events;
    uint8_t seed;
};

static void hash_add(struct session *session, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        session->hash = (session->hash ^ bytes.bytes[i]) * 0x100000001b3ull;
    }
}

static void output_take(struct session *session)
{
    struct slice output = managesieve_server_output(&session->server);
    check(output.size <= MANAGESIEVE_OUTPUT_BYTES);
    hash_add(session, output);
    managesieve_server_sent(&session->server, output.size);
}

static void verdict_give(struct session *session)
{
    const struct managesieve_verdict no = {MANAGESIEVE_NO, "TRYLATER",
                                           slice_text("No,\r\nnot now.")};
    bool refuse = (session->seed >> session->events % 6 & 1) != 0;
    managesieve_server_verdict(&session->server, refuse ? &no : NULL);
}

static void script_give(struct session *session)
{
    static const uint8_t script[9000];
    size_t given = 0;
    managesieve_server_script(&session->server, sizeof(script));
    while (given < sizeof(script)) {
        given += managesieve_server_script_piece(&session->server,
                                                 slice_of(script + given, sizeof(script) - given));
        output_take(session);
    }
    managesieve_server_verdict(&session->server, NULL);
}

static void name_check(struct slice name)
{
    check(sieve_script_name_valid(name));
}

static void event_take(struct session *session, const struct managesieve_event *event)
{
    if (event->kind == MANAGESIEVE_EVENT_NONE) {
        return;
    }
    session->events++;
    if (event->kind != MANAGESIEVE_EVENT_SCRIPT) {
        hash_add(session, slice_of(&event->kind, 1));
    }
    hash_add(session, event->name);
    hash_add(session, event->text);
    switch (event->kind) {
    case MANAGESIEVE_EVENT_NONE:
    case MANAGESIEVE_EVENT_CANCEL:
    case MANAGESIEVE_EVENT_UNAUTHENTICATE:
        return;
    case MANAGESIEVE_EVENT_SCRIPT:
        check(event->text.size > 0 && event->text.size <= session->script_left);
        session->script_left -= (uint32_t)event->text.size;
        session->events--; /* how many pieces there are depends on the cut */
        return;
    case MANAGESIEVE_EVENT_SCRIPT_BEGIN:
        check(event->size <= 1000);
        session->script_left = event->size;
        if (!event->check) {
            name_check(event->name);
        }
        break;
    case MANAGESIEVE_EVENT_SCRIPT_END:
        check(session->script_left == 0);
        break;
    case MANAGESIEVE_EVENT_AUTHENTICATE:
    case MANAGESIEVE_EVENT_RESPONSE:
        if (event->text.size % 3 == 1) {
            managesieve_server_challenge(&session->server, slice_text("cj0x"));
            return;
        }
        break;
    case MANAGESIEVE_EVENT_LISTSCRIPTS:
        while (!managesieve_server_list(&session->server, slice_text("a\"b"), true)) {
            output_take(session);
        }
        break;
    case MANAGESIEVE_EVENT_GETSCRIPT:
        name_check(event->name);
        script_give(session);
        return;
    case MANAGESIEVE_EVENT_RENAMESCRIPT:
        name_check(event->new_name);
        name_check(event->name);
        break;
    case MANAGESIEVE_EVENT_HAVESPACE:
    case MANAGESIEVE_EVENT_DELETESCRIPT:
        name_check(event->name);
        break;
    case MANAGESIEVE_EVENT_SETACTIVE:
        if (event->name.size > 0) {
            name_check(event->name);
        }
        break;
    }
    verdict_give(session);
}

/* False: the session has ended, or goes on otherwise. */
static bool piece_feed(struct session *session, struct slice piece)
{
    for (;;) {
        struct managesieve_event event;
        size_t used = 0;
        enum managesieve_want want =
            managesieve_server_input(&session->server, 5, piece, &used, &event);
        check(used <= piece.size);
        event_take(session, &event);
        piece = slice_from(piece, used);
        output_take(session);
        if (want == MANAGESIEVE_WANT_CLOSE) {
            return false;
        }
        if (want == MANAGESIEVE_WANT_TLS) {
            managesieve_server_secured(&session->server, 6);
            return false;
        }
        if (used == 0 && event.kind == MANAGESIEVE_EVENT_NONE) {
            check(piece.size == 0); /* it would wait for more though it has some */
            return true;
        }
    }
}

static uint64_t run(const uint8_t *bytes, size_t size, uint8_t seed, size_t cut)
{
    const struct managesieve_settings settings = {
        .implementation = slice_text("fuzz"),
        .sieve = slice_text("fileinto"),
        .sasl = slice_text("PLAIN"),
        .sasl_in_clear = slice_text(seed & 0x80 ? "PLAIN" : ""),
        .starttls = true,
        .script_bytes_max = 1000,
        .errors_max = 50,
        .login_ns = 10,
        .idle_ns = 10,
    };
    static struct session session;
    memset(&session, 0, sizeof(session));
    session.seed = seed;
    managesieve_server_open(&session.server, &settings, (seed & 0x40) != 0, 0);
    output_take(&session);
    bool open = true;
    for (size_t at = 0; open && at < size; at += cut) {
        size_t step = size - at < cut ? size - at : cut;
        uint8_t *copy = malloc(step);
        memcpy(copy, bytes + at, step);
        open = piece_feed(&session, slice_of(copy, step));
        free(copy);
    }
    return session.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 3) {
        return 0;
    }
    uint64_t whole = run(bytes + 2, size - 2, bytes[0], size);
    check(run(bytes + 2, size - 2, bytes[0], (size_t)(bytes[1] % 17) + 1) == whole);
    return 0;
}
