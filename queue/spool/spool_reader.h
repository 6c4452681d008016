/*
 * spool_reader: one shard's folder as it lies on a disk, for tools: what waits in it, what is
 * damaged. Reads only, and blocks; no relay may work on the folder.
 *
 * What it finds is what a relay would find at its start, and besides the messages of which a part is
 * lost, which a relay would not take up. Memory is that of a relay's queue.
 */
#pragma once
#include "queue/log/log.h"
#include "queue/spool/spool.h"

struct spool_reader;

struct spool_reader_facts {
    uint64_t log_id; /* 0: there is no log in this folder */
    uint32_t segments_used, segments_spare;
    uint64_t used_bytes, live_bytes; /* of segments in use; what of them some message needs */
    uint64_t records, commits;
    uint64_t damaged_bytes; /* were durable once and do not read back as they were */
    uint64_t unread_bytes;  /* the disk refuses to read: what is in them is not counted here */
    uint64_t torn_bytes;    /* were never promised: a write that a crash cut */
    uint64_t messages, recipients_waiting;
    uint64_t broken;                /* of the messages: a part of the body is lost */
    uint64_t orphans, orphan_bytes; /* bodies that were never committed, or whose commit is lost */
};

struct spool_reader_visitor {
    /* `bytes` at `offset` of the file "SHARD/NUMBER.segment"; may be NULL. */
    void (*damaged)(void *owner, uint32_t shard, uint32_t number, uint64_t offset, uint64_t bytes);
    log_unread_told *unread; /* may be NULL */
    void *owner;
};
/* 0 or -errno; *reader is the caller's. visitor: borrowed. An error of which `unread` was told: a relay would not
 * start on this folder. */
int spool_reader_open(struct spool_reader **reader, struct disk *disk, uint32_t shard,
                      const struct spool_reader_visitor *visitor);
void spool_reader_close(struct spool_reader *reader);
const struct spool_reader_facts *spool_reader_facts(const struct spool_reader *reader);

/* In order of arrival; NULL behind the last. Valid until the reader is closed. */
const struct message *spool_reader_message(const struct spool_reader *reader, uint64_t index);
bool spool_reader_is_broken(const struct message *message);
/* The body in wire form, piece by piece; what is lost of it comes as an empty piece, and how long it
 * was. 0, or what `piece` returned, which ends it. */
int spool_reader_body(struct spool_reader *reader, const struct message *message,
                      int (*piece)(void *owner, struct slice bytes, uint64_t lost), void *owner);

/* Visits the numbers of the shards that have a folder, in order. 0 or -errno. */
int spool_reader_shards(struct disk *disk, int (*visit)(void *owner, uint32_t shard), void *owner);
