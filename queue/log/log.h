/*
 * log: an append-only sequence of fixed-size segments, one log a shard. Append, learn the LSN, be
 * told when everything up to it is durable.
 *
 * Bytes are copied once, into frames: aligned pieces of the memory that the caller hands in, each
 * of which stands for a piece of a segment. The newest frames stay readable, so that what is read
 * soon is not fetched. Blocks are written with DISK_DURABLE, several in flight; while they are, the
 * next fills (group commit without a timer). A written block is never written again: its tail is
 * padded, and the next record starts behind.
 *
 * LSN: segment sequence << 32 | offset in the segment, of a record's header. Sequences grow by one
 * for each segment taken into use and are never used again, so stale records of a recycled segment
 * are told by their LSN. Every record carries type, length, its LSN, its owner's tag and a CRC32C.
 *
 * Who calls what, once a round of the shard:
 *   disk reap   ──► completions: the frontier moves, waiters run, room returns
 *   log_round   ──► spares are prepared, refusals are retried
 *   ... appends ...
 *   log_flush   ──► what must be durable is written
 *   disk submit
 *
 * After a failed write the segment is sealed, what lies in or after the failed write is void, and
 * another segment is opened, whose first record says what is void. Waiters of the void are told
 * then, so that no crash revives what was refused; when no segment can be opened they are told at
 * once and appends answer -EIO or -ENOSPC, until a retry (once a second) succeeds. A crash before that
 * may revive what was refused: an owner to whom a late answer is better asks for it (log_refuse_late).
 *
 * Space: a spare segment is ready before the current one is full. When no more can be made, mail may
 * fill the current segment only; the last two spares are for records marked LOG_RESERVED, of the last
 * one the end for those that are LOG_KEPT too. Two, so that a segment full of living messages can
 * always be copied before it is freed. Segments are freed from the oldest on (log_trim), or from
 * between others (log_free_segment) when their owner knows that nothing in them is needed to judge
 * what is older. They are recycled in the order in which they were freed: one that a crash brings
 * back finds every record that says that its messages are gone. And none is destroyed, nor called free by
 * the header of another, before all is durable that had been appended when it was freed; after a failed
 * write, before what must not be lost of that is durable elsewhere. Only when there is no spare, and none
 * can be made, those go at once: what waits could not be written otherwise.
 *
 * What a start cannot read, because the disk refuses it, may be read by the next one, and may be mail. It
 * may also be a commit whose body lies in older segments, and what it is about may be said in newer ones.
 * So when any of the log could not be read all segments that the start has found are held: they stay as
 * they are until another start, whatever becomes of the mail in them (log_is_held). Those that come
 * later come and go as ever: what they say of mail in segments that are in use is kept, and of mail that
 * could not be read they say nothing. That mail was delivered may have been said where it could not be
 * read; then it is delivered again. Bytes that are read and are not what was written are damage: they
 * hold nothing.
 *
 * One thread. Nothing here reads a clock; log_open, log_recover and log_scan block, nothing else.
 */
#pragma once
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include "engine/disk/disk.h"

#define LOG_FRAME_BYTES (256u * 1024) /* no record crosses a frame */
#define LOG_RECORD_BYTES_MAX                                                                       \
    (LOG_FRAME_BYTES - 8192)              /* of one record's content: fits every frame */
#define LOG_BODY_BYTES_MAX (1024u * 1024) /* one log_room, one spool_append */
#define LOG_MEMORY_BYTES_MIN (16 * LOG_FRAME_BYTES)
#define LOG_SEGMENT_BYTES_MIN (8 * LOG_FRAME_BYTES)
#define LOG_SEGMENT_BYTES_DEFAULT (64u * 1024 * 1024)
#define LOG_SEGMENTS_RESERVED 2u /* spares that mail does not get */
#define LOG_SEGMENTS_MIN (LOG_SEGMENTS_RESERVED + 3)

struct log;

/* What the disk refused to give of the file "SHARD/NUMBER.segment" at a start. */
struct log_unread {
    uint32_t shard, number;
    uint64_t offset, bytes; /* bytes 0: it cannot be opened */
    int error;              /* -errno */
};
typedef void log_unread_told(void *owner, const struct log_unread *what);

enum log_durability {
    LOG_DURABLE, /* a waiter runs when the device has the bytes */
    LOG_RELAXED, /* a waiter runs when the bytes are under way; for benchmarks */
};

struct log_settings {
    struct disk *disk;          /* borrowed, as long as the log; nobody else writes in our folder */
    uint32_t shard;             /* the folder's name, in decimal; at most 255 */
    uint32_t segment_bytes;     /* multiple of LOG_FRAME_BYTES, LOG_SEGMENT_BYTES_MIN to 256 MiB;
                                 0: the default */
    void *memory;               /* borrowed; aligned to DISK_BLOCK_BYTES, pinned by the caller */
    size_t memory_bytes;        /* multiple of LOG_FRAME_BYTES, at least LOG_MEMORY_BYTES_MIN */
    uint64_t new_id;            /* random: names a log that is made now */
    uint32_t write_count_max;   /* in flight; 0: 4 */
    uint32_t gather_bytes;      /* with a write in flight wait for so much; 0: 64 KiB */
    uint32_t segment_count_max; /* on the disk, spares too; 0: what the disk has; else at least
                                   LOG_SEGMENTS_MIN */
    uint32_t recycled_count_max; /* freed ones that are kept; 0: 4 */
    uint64_t disk_free_min;      /* bytes of the file system that are left to others, and to notes
                                    that have filled the reserve */
    uint32_t share_count;        /* logs on this file system; 0: 1 */
    enum log_durability durability;
    log_unread_told *unread; /* by log_open and log_recover, for each; may be NULL */
    void *unread_owner;
};

/* 0 or -errno: the folder's segments are known, nothing was read of them. Follow with log_recover. A
 * file that cannot be opened or placed is an error, of which `unread` was told: nothing is freed. */
int log_open(struct log **log, const struct log_settings *settings);
const struct log_settings *log_settings_of(const struct log *log); /* defaults filled in */
uint64_t log_id(const struct log *log); /* random, of its making; after log_recover */
/* Everything in flight must have been reported: see log_is_quiet. */
void log_close(struct log *log);
/* No write, fetch, prepare or remove is under way and nothing waits to be written. */
bool log_is_quiet(const struct log *log);

/* ── Records ─────────────────────────────────────────────────────────────────────────────────── */

/* Below 16 the log's own; the others belong to who appends. */
enum { LOG_TYPE_SKIP = 1, LOG_TYPE_VOID = 2, LOG_TYPE_OWNER_MIN = 16 };

enum log_flags {
    LOG_RESERVED = 1, /* may use the space that is kept back when the disk is full */
    LOG_KEPT = 2,     /* after a failed write appended again, by the log */
    LOG_BODY = 4,     /* nobody waits for it by itself: need not be written at once */
};

struct log_head {
    uint8_t type;
    uint8_t flags; /* enum log_flags */
    uint64_t tag;  /* the owner's: which message */
};

/* A record in the log: where it begins, and the length of its content. */
struct log_extent {
    uint64_t lsn;
    uint32_t length;
};

/* May records with `bytes` of content in all (at most LOG_BODY_BYTES_MAX) be appended now?
 * 0; -EAGAIN: memory is all under way or a segment is being made ready, see log_when_room;
 * -ENOSPC; -EIO. After 0, appends of so much do not fail. */
int log_room(const struct log *log, size_t bytes, uint32_t flags);

/* Appends one record of at most LOG_RECORD_BYTES_MAX. All or nothing; answers as log_room. */
int log_append(struct log *log, const struct log_head *head, const struct slice *parts,
               size_t count, struct log_extent *extent);

/* Body bytes: appends as many of the parts from byte `skip` on as lie together, and returns how
 * many. When the record at last->lsn (same tag) is the newest and not yet on its way it grows,
 * extent->lsn == last->lsn then; else a record is begun. `last` may be NULL. Ask log_room first. */
uint32_t log_append_body(struct log *log, const struct log_head *head, const struct slice *parts,
                         size_t count, size_t skip, const struct log_extent *last,
                         struct log_extent *extent);

/* May log_append_body still grow the record at this place? */
bool log_is_growing(const struct log *log, const struct log_extent *extent);

struct log_waiter {
    struct list_node node;
    uint64_t lsn; /* the log's */
    void (*done)(struct log_waiter *waiter,
                 int status); /* 0, or the errno of the write that failed */
};

/* `done` runs once, from a completion, log_flush or log_round, when everything appended so far is
 * durable or void. In order. */
void log_when_durable(struct log *log, struct log_waiter *waiter);
/* From now on nobody is told of a failed write before it is void on the disk too, however long no segment can be
 * opened: what is told to have failed is never found by a later start. */
void log_refuse_late(struct log *log);
/* No segment can be opened after a failed write; it is tried again. */
bool log_is_broken(const struct log *log);
/* `done` runs once, from a completion, log_flush or log_round, when log_room may answer otherwise.
 */
void log_when_room(struct log *log, struct log_waiter *waiter);
void log_room_cancel(struct log_waiter *waiter); /* of log_when_room; harmless when it ran */

/* Returns how much was done. */
unsigned log_round(struct log *log, uint64_t now_ns);
unsigned log_flush(struct log *log);

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────── */

/* The content of a durable record, if it lies in memory: held by *owner, taken for the caller.
 * 0; -ENOENT: on disk only; -EIO: void. */
int log_read(struct log *log, const struct log_extent *extent, struct slice *content,
             struct ref **owner);

/* Where it lies on disk: read `bytes` at `offset` of `file`, then log_fetched finds and verifies
 * it. 0 or -EIO. The segment is held until log_fetched or log_fetch_end. */
struct log_fetch {
    struct log_extent extent;
    int file;
    uint64_t offset;
    uint32_t bytes; /* at most LOG_FRAME_BYTES */
};
int log_fetch_begin(struct log *log, const struct log_extent *extent, struct log_fetch *fetch);
/* Takes all of the log's piece that lies behind the record too. False: nothing does, or not all of it is
 * on the disk yet. What log_fetch_has says is there is verified one by one, as the fetch's `extent`. */
bool log_fetch_widen(const struct log *log, struct log_fetch *fetch);
bool log_fetch_has(const struct log_fetch *fetch, const struct log_extent *extent);
void log_fetch_end(struct log *log, const struct log_fetch *fetch);
/* 0, with the content as a part of `memory`, or -EIO. */
int log_fetch_verify(const struct log *log, const struct log_fetch *fetch, const void *memory,
                     struct slice *content);

/* Lies in a part of a segment that a failed write has made void. */
bool log_is_void(const struct log *log, uint64_t lsn);

/* ── Segments ────────────────────────────────────────────────────────────────────────────────── */

struct log_segment_live { /* the owner's books of one segment; zeroed, list initialised */
    uint64_t bytes;
    struct list_node members;
    void *notes; /* of the heap; the log frees it with the segment */
    /* It says something of segments up to this one: while any of them is in use this is too. The log
     * writes it too, and never lowers it. */
    uint32_t kept_for;
};
/* NULL: freed, or never there. */
struct log_segment_live *log_segment_live(struct log *log, uint32_t sequence);
uint32_t log_segment_after(const struct log *log, uint32_t sequence); /* in use; 0: none */
uint32_t log_head_sequence(const struct log *log);                    /* oldest in use */
uint32_t log_current_sequence(const struct log *log); /* appended to; 0 while there is none */
uint64_t log_used_bytes(const struct log *log);       /* of segments in use */
bool log_is_short(const struct log *log);             /* of disk space: no spare could be made */
struct log_space {
    uint64_t used_bytes;   /* of segments in use */
    uint64_t rest_bytes;   /* of them, not written yet: the end of the current one */
    uint64_t ready_bytes;  /* of spares */
    uint64_t freed_bytes;  /* of segments that will be spares */
    uint64_t held_bytes;   /* of those in use, what will not come back */
    uint64_t growth_bytes; /* of segments that may still be made; LOG_GROWTH_UNKNOWN: as many as the
                              disk has */
};
#define LOG_GROWTH_UNKNOWN (UINT64_MAX / 4)
void log_space(const struct log *log, struct log_space *space);
uint64_t log_disk_free_bytes(const struct log *log); /* our share; UINT64_MAX: not known */
/* Its owner is about to free a segment: mail that finds no room waits (-EAGAIN), not -ENOSPC. */
void log_expect_space(struct log *log, bool expected);
/* That of the segment appended to, or of the one that will be next; 0: none is ready. Its header is
 * durable: no later start of this log will use it again. */
uint32_t log_promised_sequence(const struct log *log);
/* It stays until another start, since this one could not read all of what it has found. */
bool log_is_held(const struct log *log, uint32_t sequence);
/* Frees the oldest. Its owner's books must be empty and it must not be the current one. 0; -EBUSY:
 * it is the current one, held, or being read. */
int log_trim(struct log *log);
/* The same for one that others are older than. The owner has seen to it that no record in it is needed
 * for older ones, and what it appended for that is durable. -EBUSY also: its `kept_for` is in use; it
 * is the newest; the log does not run, or records wait for it to run. */
int log_free_segment(struct log *log, uint32_t sequence);
/* It runs, and no record waits for a place. */
bool log_is_orderly(const struct log *log);
/* Goes on in another segment. 0, or as log_room. */
int log_seal(struct log *log);

static inline uint32_t log_lsn_sequence(uint64_t lsn)
{
    return (uint32_t)(lsn >> 32);
}

/* ── Recovery ────────────────────────────────────────────────────────────────────────────────── */

struct log_record {
    uint64_t lsn;
    uint64_t tag;
    uint8_t type;
    struct slice content; /* borrowed */
};
struct log_visitor {
    /* Segments that lie wholly before this LSN are not read, except the newest: of them the headers say enough. Records
     * before it in the segment where it lies are visited. 0: all are read. */
    uint64_t from;
    /* Every valid record that is not void, in LSN order. 0, or -errno which ends the scan. */
    int (*record)(void *owner, const struct log_record *record);
    /* Bytes that were durable once and do not read back as they were. May be NULL. */
    void (*damaged)(void *owner, uint64_t lsn, uint64_t bytes);
    void *owner;
};
/* Once, before anything is appended. 0 or -errno (-ENOMEM, or the visitor's). A disk that is full
 * or refuses is no error here: appends answer it. */
int log_recover(struct log *log, const struct log_visitor *visitor);

struct log_counters {
    uint64_t records, record_bytes; /* appended, headers and padding left out */
    uint64_t writes, write_bytes;   /* handed to the disk */
    uint64_t waits;                 /* log_when_durable */
    uint64_t refused_again, refused_full, refused_broken; /* log_room's answers */
    uint64_t write_failures, segments_sealed_early;
    uint64_t segments_prepared, segments_recycled, segments_freed;
    uint64_t segments_freed_between;                   /* of them: by log_free_segment */
    uint64_t scanned_bytes, damaged_bytes, torn_bytes; /* of log_recover, in what it has read */
    uint64_t unread_bytes;                             /* of log_recover: refused by the disk */
    uint32_t segments_used, segments_spare, segments_held, frames_dirty, frames_held;
};
const struct log_counters *log_counters(const struct log *log);
