/*
 * smtp_flood: the server machine and input without end, made up piece by piece; its replies are counted, not kept.
 *
 * The owner that is played takes everything.
 */
#pragma once
#include "proto/smtp/server.h"

struct smtp_flood {
    struct smtp_server_settings settings;
    struct smtp_server server;
    unsigned codes[600];
    unsigned commits, resets;
    bool closed;
};

/* With the settings of smtp_script_settings; greeted. The caller frees it. */
struct smtp_flood *smtp_flood_open(void);
/* These feed until the session is closed. */
void smtp_flood_feed(struct smtp_flood *flood, struct slice piece);
void smtp_flood_say(struct smtp_flood *flood, const char *text);
void smtp_flood_repeat(struct smtp_flood *flood, const char *text, unsigned count);
