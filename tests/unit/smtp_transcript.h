/*
 * smtp_transcript: runs the client by transcripts, for its tests.
 *
 * A transcript holds what the server says (S:), what the owner does (>), and what must come of it: commands (C:),
 * results (R:), what the machine wants (W:). Each one runs with the server's bytes in one piece, byte by byte, and cut in
 * two at every place.
 */
#pragma once
#include "proto/smtp/client.h"

#define SECOND 1000000000ull
#define TRANSCRIPT_RECIPIENTS_MAX 200

struct transcript {
    const char *name;
    const char *lines;
    const char *reverse_path; /* NULL: sender@a.test */
    const char *recipients;   /* separated by '|'; NULL: one@b.test */
    uint64_t body_bytes;
    uint32_t flags;
    const char *envid, *orcpt; /* ORCPT and NOTIFY of every recipient */
    uint8_t ret, notify;
    enum smtp_client_tls tls;
    bool lmtp;
    bool no_pipelining;
    bool in_one_piece; /* what is proven depends on bytes that come together */
};

struct transcript_run {
    struct smtp_client client;
    struct smtp_client_settings settings;
    struct smtp_client_message message;
    struct smtp_client_recipient recipients[TRANSCRIPT_RECIPIENTS_MAX];
    uint64_t now_ns;
    char trace[16384];
    size_t trace_bytes;
    int last_want;
    bool write_blocked;
};

void transcript_open(struct transcript_run *run, const struct transcript *transcript);
/* Feeds bytes until they are used and the machine waits. */
void transcript_drive(struct transcript_run *run, struct slice input);
/* Does what stands behind '>': begin, body, quit, lost, wait, block. */
void transcript_act(struct transcript_run *run, struct slice action);
/* The lines at `line` that begin with "S:", as the server sends them; returns what follows them. */
const char *transcript_server_lines(const char *line, char *wire, size_t *bytes);
/* Plays each of them in all ways, and fails the test where the transcript is not what happens. */
void transcript_play_all(const struct transcript *transcripts, size_t count);

#define PLAY(transcripts)                                                                          \
    transcript_play_all(transcripts, sizeof(transcripts) / sizeof((transcripts)[0]))
