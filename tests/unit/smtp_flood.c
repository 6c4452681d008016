#include "tests/unit/smtp_flood.h"
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void flood_count(struct smtp_flood *flood)
{
    struct slice output = smtp_server_output(&flood->server);
    for (size_t at = 0; at < output.size;) {
        const uint8_t *line = output.bytes + at;
        const uint8_t *end = memchr(line, '\n', output.size - at);
        assert_non_null(end);
        if (line[3] == ' ') {
            flood->codes[(line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0']++;
        }
        at += (size_t)(end - line) + 1;
    }
    smtp_server_sent(&flood->server, output.size);
}

void smtp_flood_feed(struct smtp_flood *flood, struct slice piece)
{
    while (!flood->closed) {
        struct smtp_event event;
        size_t used = 0;
        enum smtp_want want = smtp_server_input(&flood->server, 1, piece, &used, &event);
        piece = slice_from(piece, used);
        flood->commits += event.kind == SMTP_EVENT_BODY_END;
        flood->resets += event.kind == SMTP_EVENT_RESET;
        if (want == SMTP_WANT_VERDICT || want == SMTP_WANT_COMMIT) {
            smtp_server_verdict(&flood->server, NULL);
        }
        size_t said = smtp_server_output(&flood->server).size;
        flood_count(flood);
        flood->closed = want == SMTP_WANT_CLOSE;
        if (used == 0 && event.kind == SMTP_EVENT_NONE && said == 0) {
            assert_int_equal(piece.size, 0);
            return;
        }
    }
}

void smtp_flood_say(struct smtp_flood *flood, const char *text)
{
    smtp_flood_feed(flood, slice_text(text));
}

struct smtp_flood *smtp_flood_open(void)
{
    struct smtp_flood *flood = calloc(1, sizeof(*flood));
    assert_non_null(flood);
    smtp_script_settings(&flood->settings);
    smtp_server_open(&flood->server, &flood->settings, 0);
    smtp_flood_feed(flood, slice_of(NULL, 0));
    return flood;
}

void smtp_flood_repeat(struct smtp_flood *flood, const char *text, unsigned count)
{
    for (unsigned i = 0; i < count && !flood->closed; i++) {
        smtp_flood_say(flood, text);
    }
}
