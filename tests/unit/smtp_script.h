/*
 * smtp_script: the server machine against scripts. Each is run with its input cut in every way that matters, and must
 * give the same replies, the same body and the same envelope whatever the cut.
 *
 * The owner that is played takes all but the recipient "unknown". Where AUTH is known, the password is "secret", by PLAIN
 * and by LOGIN, and "octets" by LONG which is all that is sent; LOUD has a challenge that is longer than any reply.
 */
#pragma once
#include "proto/smtp/server.h"

#define SMTP_SCRIPT_TEXT_BYTES (64 * 1024)

struct smtp_script_run {
    struct smtp_server_settings settings;
    bool bare_lines; /* smtp_server_take_bare_lines */
    bool auth;       /* smtp_server_offer_auth, with `demand` */
    enum smtp_auth demand;
    bool unsent; /* replies wait in the machine until all has been said */
    char replies[SMTP_SCRIPT_TEXT_BYTES];
    size_t replies_size;
    /* Of every message that was committed, each followed by "|". */
    char body[SMTP_SCRIPT_TEXT_BYTES];
    size_t body_size;
    char draft[SMTP_SCRIPT_TEXT_BYTES];
    size_t draft_size;
    unsigned commits, resets, recipients, secured;
    unsigned answers, auth_ends;
    char *lent; /* room for a line of AUTH */
    bool closed;
};

struct smtp_script {
    const char *why, *input;
    size_t size;
    const char *codes, *body;
};
#define SCRIPT(why, input, codes, body)                                                            \
    {                                                                                              \
        why, input, sizeof(input) - 1, codes, body                                                 \
    }
#define ENVELOPE "EHLO c\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@x.test>\r\n"

void smtp_script_settings(struct smtp_server_settings *settings); /* the usual ones */
/* Feeds one piece as far as the machine takes it. */
void smtp_script_feed(struct smtp_script_run *run, struct smtp_server *server, struct slice piece);
/* What has gathered is sent. */
void smtp_script_output(struct smtp_script_run *run, struct smtp_server *server);
enum { SMTP_SCRIPT_WHOLE = 0 };
/* With run->settings, run->bare_lines and run->unsent. cut SMTP_SCRIPT_WHOLE: in one piece; n: pieces of n bytes. */
void smtp_script_play(struct smtp_script_run *run, const char *input, size_t size, size_t cut);
/* The codes of the replies' last lines, "220 250 354". */
void smtp_script_codes(const struct smtp_script_run *run, char *codes);
void smtp_scripts_check(const struct smtp_script *scripts, size_t count,
                        const struct smtp_server_settings *settings);
#define CHECK(scripts, settings)                                                                   \
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*(scripts)), settings)
