/*
 * log_private: what the files of the log share. Nobody else includes it.
 *
 * log.c           open, close, recovery, counters
 * log_append.c    frames and records
 * log_write.c     blocks to the disk, the frontier, waiters
 * log_segments.c  spares, recycling, trimming
 * log_space.c     what there is of the disk
 * log_failure.c   what follows a failed write, and the stash
 * log_reading.c   for another thread to read
 */
#pragma once
#include "queue/log/log.h"
#include "queue/log/record.h"

#define LOG_WRITES_MAX 64u
#define LOG_READY_WANTED (LOG_SEGMENTS_RESERVED + 1) /* one that mail goes on in */
#define LOG_RETRY_NS 1000000000ull
#define LOG_END_UNKNOWN UINT64_MAX
#define LOG_STASH_BYTES_MAX (16u * 1024 * 1024)

struct log_frame {
    struct ref ref; /* one of it is the log's while it is `kept` */
    struct log *log;
    struct list_node node; /* idle, unsent or failed */
    struct log_segment *segment;
    uint8_t *memory;
    uint32_t piece;
    uint32_t filled, sent; /* offsets in the frame */
    uint32_t writes;       /* in flight */
    bool kept;             /* not all of it is written */
    bool closed;           /* takes no more records */
};

struct log_segment {
    struct log_segment_live live;
    struct list_node node; /* ready, freed or suspect */
    int file;
    uint32_t number; /* names the file */
    uint32_t sequence;
    uint32_t bytes;
    uint32_t piece_count, piece_next;
    uint32_t valid_end; /* offset behind which nothing counts */
    uint32_t kept;      /* frames */
    uint64_t
        freed_end; /* while it is freed: the end of what had been appended by then, which is durable
                           before it is destroyed; LOG_END_UNKNOWN: not all of that is in the log */
    uint32_t pins; /* fetches; all of them are in log->fetch_count */
    bool reserve;  /* begun while space was short */
    bool resumed;  /* an earlier process has written its first part */
    uint16_t frames[]; /* of each piece: index + 1, or 0 */
};

struct log_write {
    struct disk_done done;
    struct log *log;
    struct log_frame *frame;
    uint64_t lsn;
    uint32_t bytes;
    int result;
    bool complete;
};

/*
 *            write fails            all in flight done            a spare is ready
 *  RUNNING ─────────────► DRAINING ────────────────────► REOPENING ───────────────► RUNNING
 *                                                          │  ▲
 *                                           no spare made  ▼  │ a second later
 *                                                         BROKEN
 */
enum log_state { LOG_RUNNING, LOG_DRAINING, LOG_REOPENING, LOG_BROKEN };

/* Makes spares and destroys what is freed, one at a time and what was freed first, first. */
enum log_maker_state { MAKER_IDLE, MAKER_PREPARING, MAKER_HEADING, MAKER_REMOVING };
struct log_maker {
    struct disk_done done;
    struct log *log;
    enum log_maker_state state;
    struct log_segment *segment;
    uint8_t *header; /* one block */
    int status;      /* of the last try to make a spare */
    uint64_t retry_ns;
    uint64_t remove_retry_ns; /* a file could not be removed: until then none is destroyed */
};

struct log_watch { /* of the file system */
    struct disk_done done;
    struct log *log;
    struct disk_space space;
    uint64_t asked_ns;
    uint64_t free_bytes;   /* our share; UINT64_MAX: not known */
    uint64_t growth_bytes; /* of segments that we may still make; LOG_GROWTH_UNKNOWN */
    bool asks;
};

struct log_open_record { /* the newest record, while it may grow */
    bool is;
    uint32_t offset; /* of its header in log->frame */
    uint32_t length;
    uint32_t crc;
    struct log_head head;
};

struct log_stash { /* records that wait for a segment */
    uint8_t *bytes;
    size_t size, used, capacity; /* [used, size) waits */
};

struct log {
    struct log_settings settings;
    struct disk *disk;
    uint64_t id;
    uint32_t seed;
    uint64_t now_ns;

    enum log_state state;
    int status; /* why it is not running */
    uint64_t retry_ns;
    uint64_t void_from; /* 0: nothing is void that is not said on the disk */
    uint64_t void_mark; /* durable up to here: the void is said */
    bool refuses_late;  /* nobody is told before */
    struct log_stash stash;

    struct log_segment *current;
    struct log_frame *frame; /* of current; NULL: the next append takes one */
    struct log_open_record open;
    uint64_t end;      /* behind the newest record */
    uint64_t frontier; /* everything below is durable */
    uint64_t promised; /* what waiters are told */
    bool urgent;       /* somebody cares for what is unsent */
    bool room_due;     /* look at the room waiters */

    struct log_frame *frames;
    uint32_t frame_count, idle_count, kept_count;
    struct list_node idle;   /* least recently used first */
    struct list_node unsent; /* LSN order; the last one is log->frame */
    struct list_node failed; /* LSN order */

    struct log_write *writes; /* a ring in LSN order */
    uint32_t write_first, write_count;
    uint32_t fetch_count;

    struct log_segment **used; /* by sequence: [used_first, used_first + used_count) */
    uint32_t used_first, used_count, used_capacity;
    uint64_t used_bytes;
    uint64_t held_bytes; /* of them, up to held_to */
    uint32_t held_to;    /* the newest sequence that the start has found; 0: it could read all */
    uint32_t reading_to; /* the newest that another thread may be reading; 0: none does */
    struct list_node ready, freed, suspect;
    uint32_t ready_count, freed_count, suspect_count;
    uint32_t next_sequence, next_number;
    struct log_watch watch;
    bool space_expected;
    struct log_maker maker;

    struct list_node waiters, void_waiters, room_waiters;
    struct log_folder *folder; /* between log_open and log_recover */
    struct log_counters counters;
};

/* log_append.c */
void log_frames_open(struct log *log);
void log_frame_settle(struct log_frame *frame);
void log_record_close(struct log *log);
void log_frame_close(struct log *log);

/* log_write.c */
void log_run_waiters(struct log *log);
unsigned log_run_room(struct log *log);

/* log_segments.c */
struct log_segment *log_segment_new(uint32_t number, uint32_t bytes);
struct log_segment *log_segment_find(const struct log *log, uint32_t sequence);
int log_segment_ready(const struct log *log, uint32_t flags); /* as log_room */
void log_segment_take(struct log *log);                       /* the first ready becomes current */
void log_segment_keep(struct log_segment *segment);           /* until it is the oldest */
int log_used_append(struct log *log, struct log_segment *segment);
void log_segment_detach(struct log *log,
                        struct log_segment *segment); /* its frames stand for nothing */
void log_segment_name(const struct log *log, uint32_t number, char name[static 32]);
unsigned log_maker_step(struct log *log);
void log_freed_doubt(
    struct log *log); /* a write has failed, of what was appended before they were freed */
bool log_freed_comes(const struct log *log); /* a freed one is only waiting for writes under way */
void log_void_segments_give_up(struct log *log);

/* log_space.c */
void log_space_open(struct log *log);
void log_space_ask(struct log *log); /* now and then */
bool log_space_may_grow(const struct log *log);
void log_space_grown(struct log *log, uint64_t bytes);
bool log_space_comes(const struct log *log, uint32_t flags); /* worth waiting for */

/* log_failure.c */
void log_write_failed(struct log *log, uint64_t lsn, int result);
void log_drained(struct log *log);
unsigned log_failure_round(struct log *log);
int log_stash_put(struct log *log, const struct log_head *head, const struct slice *parts,
                  size_t count);
unsigned log_stash_append(struct log *log);
