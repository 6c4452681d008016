/*
 * imap_script: dialogues with the IMAP server machine, as text: what the client sends, what it must read.
 *
 * The owner here is simple: it says OK to everything, writes "* (what it was asked)" before, knows the password "good",
 * cannot select "none", and refuses messages for "full" at once, for "late" after their first bytes.
 */
#pragma once
#include "proto/imap/server.h"

struct imap_script {
    const char *what;
    const char *input;
    size_t input_bytes;
    const char *output; /* all of it, CRLF as \n, NUL as 0, the greeting not */
    bool closed;        /* the machine wants to close at the end */
};
#define IMAP_SCRIPT(what, input, output, closed)                                                   \
    {                                                                                              \
        what, input, sizeof(input) - 1, output, closed                                             \
    }

struct imap_talk {
    struct imap_server server;
    struct imap_server_settings settings;
    uint64_t now_ns;
    char output[16384];
    size_t output_bytes;
    bool closed;
    bool gather; /* messages are written as they come, all bytes of a literal in one line */
    bool late;   /* refuse at the first bytes */
    size_t peak; /* of the machine's memory */
    unsigned resets;
    unsigned messages;                  /* that are held */
    bool may_expunge, condstore_begins; /* of the last command */
};

/* Everything is announced; LOGIN is allowed in the clear; messages have up to 100 bytes; 3 errors end it. */
void imap_talk_open(struct imap_talk *talk);
/* Logged in ("l"), and a mailbox is selected ("s") too; what was said is dropped. */
void imap_talk_login(struct imap_talk *talk);
void imap_talk_select(struct imap_talk *talk);
/* Feeds it in pieces of so many bytes. */
void imap_talk_feed(struct imap_talk *talk, struct slice input, size_t cut);
void imap_talk_text(struct imap_talk *talk, const char *input);
/* Compares what was said since the last time, CR left out; fails the test otherwise. */
void imap_talk_expect(struct imap_talk *talk, const char *what, const char *output);
void imap_talk_close(struct imap_talk *talk);

enum imap_script_state { IMAP_SCRIPT_CONNECTED, IMAP_SCRIPT_LOGGED_IN, IMAP_SCRIPT_SELECTED };
/* Each whole, byte by byte and in pieces of 2, 3 and 7. */
void imap_scripts_check(const struct imap_script *scripts, size_t count,
                        enum imap_script_state state);
