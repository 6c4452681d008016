/*
 * desk_play: the examples of an RFC, played by a client of tests/unit/desk_rig.h.
 *
 * A step is a line that the client says, and what it hears then, as tests/unit/rfc_pattern.h has it.
 */
#pragma once
#include "tests/unit/desk_rig.h"
#include "tests/unit/rfc_pattern.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

struct desk_step {
    const char *says, *hears;
};

static inline void desk_play(struct pop3_client *client, const struct desk_step *steps,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char line[400];
        snprintf(line, sizeof(line), "%s\r\n", steps[i].says);
        const char *heard = talk(client, line);
        const char *wrong = rfc_missing(heard, steps[i].hears);
        wrong = wrong == NULL ? rfc_unwanted(heard, steps[i].hears) : wrong;
        if (wrong != NULL) {
            fail_msg("%s is answered with\n%s\n\"%s\" is not so", steps[i].says, heard, wrong);
        }
    }
}
#define DESK_PLAY(client, steps) desk_play(client, steps, sizeof(steps) / sizeof((steps)[0]))
