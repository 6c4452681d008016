/*
 * wire_run: plays a script against the stack on virtual time, as packetdrill does.
 *
 * Sequence numbers of a script count from each side's first SYN; numbers in a SYN are as they are.
 * Timestamps of the stack are learned from what the script says of them. One connection at a time is
 * looked at: the one that was opened last.
 */
#pragma once
#include "tests/wire/wire_packet.h"
#include "tests/wire/wire_socket.h"

#define WIRE_STAMPS_MAX 512u

enum wire_under_test { WIRE_TEST_NONE, WIRE_TEST_LISTENS, WIRE_TEST_CONNECTS, WIRE_TEST_OPEN };

struct wire_run {
    const char *name; /* of the script, for messages */
    const struct wire_script *script;
    struct wire_host host;
    struct wire_sockets sockets;
    uint64_t start_ns;
    int fds[WIRE_SOCKETS_MAX]; /* the stack's, by the script's */
    struct wire_path path;
    enum wire_under_test under_test;
    bool passive;         /* it listened: the SYN,ACK tells the stack's number */
    bool local_isn_known; /* the stack's */
    uint32_t local_isn, script_isn, remote_isn;
    struct { /* timestamps of the stack: the script's, and what it was */
        uint32_t script, live;
    } stamps[WIRE_STAMPS_MAX];
    unsigned stamp_count;
    struct wire_call pending; /* of the event below, which blocks */
    const struct wire_event *pending_event;
    int64_t pending_end_us;
    bool failed;
};

/* 0; -1: what went wrong is on stderr, with file and line. */
int wire_run_script(struct wire_run *run, const struct wire_script *script, const char *name);

/* Says it once, with the event's line; always false. */
__attribute__((format(printf, 3, 4))) bool wire_run_fail(struct wire_run *run, unsigned line,
                                                         const char *format, ...);
int64_t wire_run_now_us(const struct wire_run *run);
bool wire_run_time_right(struct wire_run *run, const struct wire_event *event, int64_t at_us,
                         int64_t from_us, int64_t until_us, const char *what);

/* wire_run_call.c */
bool wire_run_call(struct wire_run *run, const struct wire_event *event, int64_t end_us);
/* Of the call that blocks, if it has ended: was it as told? */
bool wire_run_pending_ended(struct wire_run *run);
