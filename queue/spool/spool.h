/*
 * spool: messages on the log, one spool a shard.
 *
 * A message is received between spool_begin and spool_commit; aborting at any moment leaves nothing
 * behind. After commit it lives until every recipient is finished (delivered, or failed and bounced);
 * then it is forgotten, on disk too. What is kept per message outside the log's memory is the
 * struct message below; bodies are read through spool_read.
 *
 * Bodies are in wire form: CRLF lines, dot-stuffed, ending with CRLF, without the final ".CRLF".
 * The spool does not look at them.
 *
 * The three answers of a crash: a message whose commit was reported durable must exist afterwards; one
 * whose commit was not may exist, whole; any other must not.
 */
#pragma once
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include "engine/core/list.h"
#include <errno.h>

struct log;
struct spool;
struct spool_draft; /* a message being received */

enum spool_flags {
    SPOOL_8BITMIME = 1,
    SPOOL_SMTPUTF8 = 2,
    SPOOL_BOUNCE = 4,        /* a report of ours */
    SPOOL_DOUBLE_BOUNCE = 8, /* a report on such a report: nobody hears of its failure */
    SPOOL_MARKS = 3 << 4,    /* two bits that say nothing to the spool */
    SPOOL_HELD = 1 << 16
};

enum recipient_state {
    RECIPIENT_WAITING,   /* not delivered yet */
    RECIPIENT_DELIVERED, /* a server has taken it */
    RECIPIENT_FAILED,    /* refused or expired; a bounce was committed, or none is owed */
    /* Served, and its sender still has to be told; then DELIVERED. */
    RECIPIENT_TELL_DELIVERED,
    RECIPIENT_TELL_RELAYED,  /* to a server that does not tell it */
    RECIPIENT_TELL_EXPANDED, /* it stands for others of this message */
    RECIPIENT_TELL_LISTED,   /* a mailing list has it */
};

/* What a report on the message is to hold: RET (RFC 3461 §4.3). */
enum spool_ret { SPOOL_RET_NONE, SPOOL_RET_FULL, SPOOL_RET_HDRS };

/* When its sender wants to hear of a recipient: NOTIFY (§4.1). 0: it did not say. */
enum spool_notify {
    SPOOL_NOTIFY_NEVER = 1,
    SPOOL_NOTIFY_SUCCESS = 2,
    SPOOL_NOTIFY_FAILURE = 4,
    SPOOL_NOTIFY_DELAY = 8,
    SPOOL_NOTIFY_ALL = 15
};

/* What spool_commit is given, borrowed for the call. No text may have more than 65,535 bytes. */
struct envelope {
    struct slice reverse_path; /* without <>; empty: the null reverse-path */
    uint32_t flags;            /* enum spool_flags */
    int64_t arrival_wall_s;    /* until 2106 */
    uint8_t ret;               /* enum spool_ret */
    struct slice envid;        /* ENVID (§4.4) in xtext, as it came; empty: none */
};
struct envelope_recipient {
    struct slice forward_path; /* mailbox, without <> */
    struct slice orcpt;        /* ORCPT (§4.2), "type;xtext", as it came; empty: none */
    uint8_t notify;            /* enum spool_notify */
    uint8_t
        state; /* enum recipient_state; one that nobody delivers to is RECIPIENT_TELL_* from the beginning */
};

#define MESSAGE_RECIPIENTS_BITS 18
#define MESSAGE_RECIPIENTS_MAX ((1u << MESSAGE_RECIPIENTS_BITS) - 1)
#define SPOOL_MARKS_SHIFT 4
#define MESSAGE_ATTEMPTS_BITS 18 /* a quarter of a million, and then no more are counted */
#define MESSAGE_ATTEMPTS_MAX ((1u << MESSAGE_ATTEMPTS_BITS) - 1)

/* A committed message. Read-only outside the spool, except `owner`. Packed: there are millions. */
struct message {
    uint64_t id; /* never used twice by any spool of this folder */
    void *owner; /* the scheduler's, once it is durable */
    uint64_t recipient_count : MESSAGE_RECIPIENTS_BITS;
    uint64_t waiting_count : MESSAGE_RECIPIENTS_BITS; /* neither DELIVERED nor FAILED */
    uint64_t attempts : MESSAGE_ATTEMPTS_BITS;        /* noted with spool_note_attempt; or more */
    uint64_t own : 10;                                /* the spool's */
    uint32_t body_bytes;
    uint32_t last_attempt_wall_s;
    uint32_t arrival_s; /* see message_arrival_wall_s */
    uint32_t next;      /* the spool's */
};

/* Its envelope. Slices are borrowed as long as the message lives; index: below recipient_count. */
struct slice message_reverse_path(const struct message *message);
struct slice message_envid(const struct message *message);
enum spool_ret message_ret(const struct message *message);
uint32_t message_flags(const struct message *message); /* enum spool_flags */
int64_t message_arrival_wall_s(const struct message *message);
struct slice message_forward_path(const struct message *message, uint32_t index);
struct slice message_orcpt(const struct message *message, uint32_t index);
uint8_t message_notify(const struct message *message, uint32_t index); /* enum spool_notify */
enum recipient_state message_recipient_state(const struct message *message, uint32_t index);
bool message_warned(const struct message *message, uint32_t index); /* see spool_note_warned */

struct spool_waiter {
    void (*done)(struct spool_waiter *waiter,
                 int status); /* 0: durable; -errno: nothing was kept */
    struct list_node node;    /* the spool's while it waits; needs no initialising */
};

struct spool_settings {
    uint64_t message_bytes_max; /* of a body; below 4 GiB */
    uint32_t draft_count_max;
    void *
        fetch_memory; /* for bodies that are read back; borrowed, aligned to DISK_BLOCK_BYTES, may be read by
                                   a port; NULL: taken from the heap */
    size_t fetch_memory_bytes; /* at least 1 MiB; 0: 16 MiB */
    uint64_t
        forward_bytes_min; /* while the log is smaller nothing is copied forward; 0: 8 segments */
    uint32_t found_each_round; /* recipients, or one message; 0: all before spool_open returns */
};

/* Recovers first: `found` runs for every message that still waits, in order of arrival; before spool_open
 * returns, or a part in each spool_round. Until then a message has no owner, and nobody may finish its recipients.
 * The log is borrowed. */
int spool_open(struct spool **spool, struct log *log, const struct spool_settings *settings,
               void (*found)(void *owner, struct message *message), void *owner);
bool spool_is_finding(const struct spool *spool); /* some were not given to `found` yet */
void spool_close(struct spool *spool);            /* after everything in flight has been reported */

/* A changed number of shards: takes over what the folders of shards that are no more (index >= shard_count, and index %
 * shard_count is ours) hold, then removes it. After spool_open, before anything else; blocks. `found` of spool_open runs
 * for every message. 0 or -errno: then those folders are left for another start. -EIO also: not all of them, or of
 * our own log, could be read. */
int spool_adopt(struct spool *spool, uint32_t shard_count);

/* 0; -EAGAIN: too many drafts; -ENOSPC: the disk or the spool is full; -EIO: the disk refuses. */
int spool_begin(struct spool *spool, struct spool_draft **draft);
/* The one copy (but for crumbs of a few bytes that arrive alone). At most SPOOL_APPEND_BYTES_MAX in a call. All or nothing: 0; -EAGAIN: log buffers are all under way, ask spool_when_room;
 * -ENOSPC, -EIO; -EFBIG above message_bytes_max. After an error other than -EAGAIN: abort. */
#define SPOOL_APPEND_BYTES_MAX (1024u * 1024 - 8192)
int spool_append(struct spool_draft *draft, const struct slice *parts, size_t count);
/* `room` runs once, from the disk's completions, when spool_append may succeed again. */
void spool_when_room(struct spool *spool, struct spool_waiter *room);
void spool_room_cancel(struct spool *spool, struct spool_waiter *room); /* it waits no more */
/* The id that the message will have, for its Received: field. */
uint64_t spool_draft_id(const struct spool_draft *draft);
/* The draft is given: it becomes *message, which the caller may use when `durable` has run with 0.
 * 0 and the waiter runs later, or an error at once, after which the draft is gone. */
int spool_commit(struct spool_draft *draft, const struct envelope *envelope,
                 const struct envelope_recipient *recipients, size_t count,
                 struct message **message, struct spool_waiter *durable);
void spool_abort(struct spool_draft *draft);

/* These ride on the next block; a crash before that repeats a delivery, never loses one.
 * When the last recipient is finished (DELIVERED, FAILED) the message is forgotten: do not touch it afterwards. */
void spool_recipient_finished(struct spool *spool, struct message *message, uint32_t index,
                              enum recipient_state state);
void spool_note_attempt(struct spool *spool, struct message *message, int64_t wall_s);
/* Its sender has been told that this recipient must wait. */
void spool_note_warned(struct spool *spool, struct message *message, uint32_t index);
/* SPOOL_HELD of the envelope is this from now on, 0 or SPOOL_HELD. */
void spool_note_held(struct spool *spool, struct message *message, uint32_t held);

/* Reading: bytes of the body from `offset`, as many as lie together, held by *owner (taken for the caller: ref_drop
 * it). 0; -EINPROGRESS: being fetched, fetch->done runs, then ask again; -EAGAIN: fetch memory is out, try later; -EIO. */
struct spool_fetch { /* zeroed before its first use; `done` is the caller's */
    struct spool_waiter waiter;
    void *private;
};
int spool_read(struct spool *spool, struct message *message, uint64_t offset, struct slice *bytes,
               struct ref **owner, struct spool_fetch *fetch);
/* The caller of spool_read goes away before `done` ran. */
void spool_fetch_cancel(struct spool *spool, struct spool_fetch *fetch);
/* Holds a message while it is read by somebody, so that forgetting it waits. */
void spool_message_hold(struct message *message);
void spool_message_release(struct spool *spool, struct message *message);

/* Housekeeping (copying forward, freeing): a bounded piece. Call it once a round, after log_round. Returns how much was done. */
unsigned spool_round(struct spool *spool);
/* Before the end: moves nothing more, so that what is in flight comes to an end. */
void spool_rest(struct spool *spool);

/* How full it is. Looked up, not computed. */
struct spool_fill {
    uint64_t live_bytes;      /* of messages and drafts, as they lie in the log */
    uint64_t capacity_bytes;  /* so many may live before the log refuses mail */
    uint64_t memory_bytes;    /* of messages and drafts */
    uint64_t disk_free_bytes; /* of the file system, our share; UINT64_MAX: not known */
};
void spool_fill(const struct spool *spool, struct spool_fill *fill);

struct message *spool_find(struct spool *spool, uint64_t id);
void spool_each(struct spool *spool, void (*visit)(void *owner, struct message *message),
                void *owner);

/* A part of a walk over all messages in no order, at a cursor that is 0 at first: the few that lie
 * together there. `visit` may not commit or forget any. Returns the next cursor; 0: the walk is over. Between
 * the parts messages may come and go: one that is there all the time is visited once, others at most once. */
uint64_t spool_walk(const struct spool *spool, uint64_t cursor,
                    void (*visit)(void *owner, struct message *message), void *owner);

#define MESSAGE_ID_TEXT 14 /* 13 characters of base 32 and NUL */
void message_id_format(uint64_t id, char text[MESSAGE_ID_TEXT]);
int message_id_parse(struct slice text, uint64_t *id);

struct spool_counters {
    uint64_t committed, forgotten, aborted, bytes_in, live_messages, copied_forward_bytes,
        recovered, damaged_bytes;
    uint64_t adopted;        /* from folders of shards that are no more */
    uint64_t moved_notes;    /* appended again, to free the segment that they were in */
    uint64_t live_bytes;     /* of the log that some message or draft still needs */
    uint64_t drafts;         /* being received */
    uint64_t fetches;        /* bodies read back from the disk */
    uint64_t fetch_failures; /* of them: unreadable or damaged */
    uint64_t
        lost_notes; /* a recipient was finished, but no record of it could be kept: delivered twice after a crash */
};
const struct spool_counters *spool_counters(const struct spool *spool);
