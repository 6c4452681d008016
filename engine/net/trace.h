/*
 * trace: what happened on each connection lately: always on, binary, 8 bytes a record.
 *
 * A connection takes a ring of records with its first segment and gives it back when it ends. Rings
 * are bounded: when all are taken, one that was silent for a second changes hands, and when there is
 * none the connection goes untraced for a while, counted. When a recovery ends or a connection fails
 * its ring is copied into a small archive, so that it can be asked for afterwards.
 *
 * A record: 8 bits kind, 24 bits of time since the record before (ticks of 1.024 us), 32 bits value.
 * A segment is two of them: its sequence number, then length, flags and acknowledgement. Windows,
 * states and recovery are compared when a segment leaves, and recorded where they have changed.
 * Measured with callgrind: 45 instructions for a segment received, 80 for one sent; 2.7 % of what two
 * stacks spend on a bulk transfer, 2.0 % of questions and answers of 64 bytes.
 *
 * Owned by a stack, used by its shard alone; tcp calls the functions of the first half. Whoever wants
 * to read a trace takes a copy of it (struct trace_kept), which decodes anywhere.
 */
#pragma once
#include "engine/net/slab.h"
#include "engine/net/tcp_table.h"
#include <assert.h>

#define TRACE_RECORDS 250u
#define TRACE_RINGS_MAX 1024u /* of one shard: 2 MiB at most, grown as they are wanted */
#define TRACE_KEPT_MAX 64u    /* copies of one shard, the newest */

struct stack;
struct tcp_conn;
struct tcp_departure;
struct tcp_segment;

enum trace_kind {
    TRACE_NONE,
    TRACE_GAP,      /* value: 1024 ticks each; time that the 24 bits do not hold */
    TRACE_IN,       /* value: SEG.SEQ - IRS; TRACE_MORE follows */
    TRACE_OUT,      /* value: SEG.SEQ - ISS; TRACE_MORE follows */
    TRACE_AGAIN,    /* the same, of a retransmission */
    TRACE_MORE,     /* value: SEG.ACK - the other side's first; in the time's place: 16 bits length,
                          8 bits flags */
    TRACE_CWND,     /* value: bytes */
    TRACE_SSTHRESH, /* value: bytes */
    TRACE_STATE,    /* value: enum tcp_state */
    TRACE_RECOVERY, /* value: enum tcp_recovery */
    TRACE_BACKOFF,  /* value: retransmission timeouts or probes in a row */
    TRACE_PEER_WINDOW, /* value: 0: the peer's window is closed; else open again, bytes */
    TRACE_OWN_WINDOW,  /* the same of ours */
    TRACE_DROP,        /* value: enum trace_drop */
    TRACE_RESET_OUT,   /* value: SEG.SEQ - ISS */
    TRACE_END,         /* value: positive errno; 0: orderly */
};

/* Why a segment that belongs to a connection was not taken as it is. */
enum trace_drop {
    TRACE_DROP_WINDOW,     /* outside the window */
    TRACE_DROP_PAWS,       /* RFC 7323: old, or without its timestamp */
    TRACE_DROP_ACK,        /* acknowledges what was never sent, or long ago */
    TRACE_DROP_RESET,      /* a RST whose number is not exact: RFC 5961 */
    TRACE_DROP_SYN,        /* a SYN into a connection */
    TRACE_DROP_NO_BUFFERS, /* in order, but too much is held */
    TRACE_DROP_EARLY,      /* out of order, and too much is held */
};

struct trace_record {
    uint32_t head; /* enum trace_kind, and 24 bits of time above it */
    uint32_t value;
};

struct trace_ring {
    struct tcp_conn *conn;
    uint64_t tick;             /* of the last record */
    struct trace_record *next; /* where the next goes */
    uint32_t index;            /* in the slab */
    uint32_t cwnd, ssthresh;
    uint32_t condition; /* state, recovery, backoff, windows: what was last recorded of them */
    struct trace_record records[TRACE_RECORDS];
};
static_assert(sizeof(struct trace_ring) <= 2048, "rings are counted in pages");

enum trace_reason { TRACE_RECOVERED, TRACE_FAILED, TRACE_ASKED };

/* A copy, with what it takes to read it. */
struct trace_kept {
    struct tcp_tuple tuple;
    uint32_t iss, irs;
    uint64_t at_ns; /* when it was copied, on the clock of the shard */
    enum trace_reason reason;
    int error; /* TRACE_FAILED: negative errno */
    uint64_t tick;
    uint32_t next;
    struct trace_record records[TRACE_RECORDS];
};

struct trace {
    struct slab rings;
    uint32_t hand;       /* where the next look for a silent ring begins */
    uint64_t starved_ns; /* no ring could be had: not tried again until then */
    struct trace_kept *kept;
    uint64_t kept_count;          /* ever; the newest is at (kept_count - 1) % TRACE_KEPT_MAX */
    uint32_t budget[TRACE_ASKED]; /* copies that may still be made in this second, by reason */
    uint64_t budget_ns;
};

int trace_open(struct trace *trace); /* 0 or -ENOMEM */
void trace_close(struct trace *trace);

/* ---- from tcp ---- */

void trace_segment_in(struct tcp_conn *conn, const struct tcp_segment *segment);
void trace_segment_out(struct tcp_conn *conn, const struct tcp_departure *departure);
void trace_event(struct tcp_conn *conn, enum trace_kind kind, uint32_t value);
/* The connection ends, its state being the last. The ring is given back. */
void trace_end(struct tcp_conn *conn, int error);

/* ---- reading ---- */

/* False: it has no ring. */
bool trace_copy(const struct tcp_conn *conn, struct trace_kept *copy);
/* The archive's newest first: number 0, 1...; NULL: there are no more. */
const struct trace_kept *trace_kept_at(const struct trace *trace, uint32_t number);

#define TRACE_LINE_MAX 128
/* A line of text for each event, oldest first: seconds before the copy's last record, and what it
 * was. Sequence numbers begin at 0 on both sides. */
void trace_decode(const struct trace_kept *copy, void (*line)(void *owner, const char *text),
                  void *owner);
const char *trace_reason_name(enum trace_reason reason);
