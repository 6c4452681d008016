/*
 * log: an append-only sequence of fixed-size segments, one log a shard. Append, learn the LSN, be told
 * when everything up to it is durable.
 *
 * Bytes are copied once, into frames: aligned pieces of the log's memory, each of which stands for a piece
 * of a segment. The newest frames stay in memory, so that what is read soon is not fetched. Blocks are
 * written with DISK_DURABLE, several in flight; while they are, the next fills (group commit without a
 * timer). A written block is never written again: its tail is padded.
 *
 * LSN: segment sequence << 32 | offset in the segment. It grows strictly, so stale records of a recycled
 * segment are told apart. Every record carries type, length, its own LSN and a CRC32C.
 *
 * After a failed write the segment is sealed, every waiter whose bytes were in or after it is told, and
 * another segment is opened; when that fails too the log answers -EIO until log_retry succeeds.
 */
#pragma once
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include "engine/disk/disk.h"

struct log;
struct log_waiter {
    struct list_node node;
    uint64_t lsn;
    int status; /* 0, or the errno of the write that failed */
    void (*done)(struct log_waiter *waiter, int status);
};
/* The author of queue/log completes this header. */
