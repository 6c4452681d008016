/*
 * log_folder: what one shard's folder of segments holds: which are in use, in which order, and their
 * records. Reads only, and blocks; used at start, by the log for its own folder and by the spool for
 * the folders of shards that are no more.
 *
 * A segment whose header is lost is placed by the records in it. A segment that another log has
 * written (its id differs from that of most) is left alone.
 *
 * What the disk refuses to give is not lost: it may be there another time. A file that cannot be opened,
 * or of which what places it cannot be read (its header; the block behind that, which may say what is
 * void; all of it, when the header is lost), makes log_folder_open fail: it may be the newest, or say
 * which others count. Of records that cannot be read `unread` of the source is told, and who scans goes
 * on without them; what may be freed then is in log.h.
 */
#pragma once
#include "queue/log/log.h"

#define LOG_FOLDER_MEMORY_BYTES (4u * 1024 * 1024) /* for log_folder_scan; more is used too */

#define LOG_FOLDER_BEGINS_BYTES 48u /* a record that says what is void */

struct log_folder_source {
    struct disk *disk; /* borrowed, as long as the folder */
    uint32_t shard;
    uint8_t
        *memory; /* LOG_FOLDER_MEMORY_BYTES or more, aligned to DISK_BLOCK_BYTES; borrowed, used by
                        log_folder_open and log_folder_scan until they return */
    size_t memory_bytes;
    log_unread_told *unread; /* may be NULL */
    void *owner;
};

struct log_folder_segment {
    uint64_t log_id;
    uint32_t number; /* names the file */
    uint32_t sequence;
    uint32_t bytes;     /* whole pieces only */
    uint32_t valid_end; /* a later segment has said that nothing counts from here */
    uint32_t end;       /* after the scan: behind its last valid record */
    int file;
    uint32_t head_sequence; /* as its header says */
    uint32_t unread_bytes;  /* after the scan: that may hold records, and could not be read */
    uint8_t begins[LOG_FOLDER_BEGINS_BYTES]; /* behind the header */
    bool in_use;                             /* else: free to be written or removed */
    bool empty;                              /* after the scan: no record in it */
    bool lost;                               /* of its own: what it holds cannot be told */
    bool says_void; /* its first record says that the end of earlier ones is void */
};

struct log_folder {
    struct log_folder_source source;
    uint64_t id;                         /* 0: there is no log here */
    struct log_folder_segment *segments; /* those in use first, by sequence */
    uint32_t count, in_use_count;
    uint32_t sequence_max, number_max;
    uint64_t scanned_bytes, damaged_bytes, torn_bytes;
    uint64_t unread_bytes; /* another start may find more */
};

/* 0 or -errno; the caller owns *folder. A folder that is not there is empty. */
int log_folder_open(struct log_folder **folder, const struct log_folder_source *source);
/* Closes the files of those segments whose `file` is still >= 0. */
void log_folder_close(struct log_folder *folder);

/* 0, or what the visitor returned. Of a segment that is not read (visitor->from) `end` is its end. */
int log_folder_scan(struct log_folder *folder, const struct log_visitor *visitor);

/* One record's content, into memory of LOG_FRAME_BYTES. 0 or -EIO. */
int log_folder_read(struct log_folder *folder, const struct log_extent *extent, void *memory,
                    struct slice *content);

/* For a folder that has no log any more: leaves one block that remembers the highest sequence, and
 * removes the rest, so that no id is ever made twice. 0 or -errno. */
int log_folder_retire(struct log_folder *folder, void *memory);

/* Runs the disk until `done` has been called. */
struct log_blocking {
    struct disk_done done;
    int result;
    bool complete;
};
void log_blocking_init(struct log_blocking *blocking);
int log_blocking_wait(struct disk *disk, struct log_blocking *blocking, int started);
