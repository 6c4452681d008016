/*
 * record: how segments look on the disk. Used by the log, its scan, and tests; nobody else.
 *
 *   segment   = header block (4 KiB), then pieces of LOG_FRAME_BYTES (the first one less the block)
 *   piece     = records, each on a multiple of 8; zeros up to a multiple of 4 KiB where a write ended
 *   record    = struct record_header, content, zeros up to a multiple of 8
 *
 * Numbers are little-endian, as every machine is that we run on.
 */
#pragma once
#include "engine/core/crc32c.h"
#include "engine/core/mutation.h"
#include "queue/log/log.h"
#include <assert.h>

#define RECORD_ALIGN 8u
#define SEGMENT_HEADER_BYTES DISK_BLOCK_BYTES
#define SEGMENT_MAGIC 0x31474f4c45425554ull /* "TUBELOG1" */
#define SEGMENT_VERSION 1u
#define SEGMENT_BYTES_MAX (256u * 1024 * 1024)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the disk format is little-endian");

struct record_header {
    uint32_t crc;    /* of the content, then of what follows here; seeded by the log's id */
    uint32_t length; /* of the content */
    uint64_t lsn;
    uint64_t tag;
    uint8_t type;
    uint8_t flags;
    uint16_t zero;
    uint32_t durable; /* when this was sealed, the segment was durable below this offset */
};
static_assert(sizeof(struct record_header) == 32, "records are read back by other versions");

struct segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t shard;
    uint64_t log_id;
    uint32_t sequence;
    uint32_t bytes;
    uint32_t head_sequence; /* the oldest in use when this was written: what is older is free */
    uint32_t crc;           /* of what is before; the block's rest is zeros */
};
static_assert(sizeof(struct segment_header) == 40, "segments are read back by other versions");

/* Content of a LOG_TYPE_VOID record, the first of its segment: nothing in [from, to) counts. */
struct record_void {
    uint64_t from, to;
};

static inline uint32_t record_seed(uint64_t log_id)
{
    return crc32c(0, &log_id, sizeof(log_id));
}

/* Bytes that a record takes. */
static inline uint32_t record_bytes(uint32_t length)
{
    return (uint32_t)(sizeof(struct record_header) + length + RECORD_ALIGN - 1) &
           ~(RECORD_ALIGN - 1);
}

static inline uint32_t record_crc(uint32_t content_crc, const struct record_header *header)
{
    return crc32c(content_crc, &header->length, sizeof(*header) - sizeof(header->crc));
}

static inline uint64_t lsn_of(uint32_t sequence, uint32_t offset)
{
    return (uint64_t)sequence << 32 | offset;
}

static inline uint32_t lsn_offset(uint64_t lsn)
{
    return (uint32_t)lsn;
}

/* Is there a valid record at `at` with this LSN? `available`: bytes from there to the end of the
 * piece. Reads nothing beyond. */
static inline bool record_is_valid(const uint8_t *at, uint32_t available, uint64_t lsn,
                                   uint32_t seed)
{
    struct record_header header;
    if (available < sizeof(header)) {
        return false;
    }
    memcpy(&header, at, sizeof(header));
    lsn = MUTATED(STALE_GENERATION) ? lsn_of(log_lsn_sequence(header.lsn), lsn_offset(lsn)) : lsn;
    if (header.lsn != lsn || header.length > available - sizeof(header)) {
        return false;
    }
    return record_crc(crc32c(seed, at + sizeof(header), header.length), &header) == header.crc ||
           MUTATED(CRC_UNCHECKED);
}

static inline uint32_t block_up(uint32_t bytes)
{
    return (bytes + DISK_BLOCK_BYTES - 1) & ~(DISK_BLOCK_BYTES - 1);
}
