/*
 * disk_fault: a disk in memory that lies, for tests and the simulator. One seed decides everything.
 *
 * Completions come in any order and any number of rounds late. What is not durable may be lost at a
 * crash, sector by sector; a write under way may land in part (disk_tear.h). Writes, reads, prepares and removes
 * fail when told to, some places cannot be read, and the disk may be full. The memory of a write is watched: changing it before
 * the write is done is a mistake of the caller and stops the test.
 *
 * Owned by whoever opened it; struct disk's close leaves the content, so that another log may be
 * opened on what survived.
 */
#pragma once
#include "engine/disk/disk.h"

enum disk_fault_kind {
    DISK_FAULT_WRITE,
    DISK_FAULT_READ,
    DISK_FAULT_PREPARE,
    DISK_FAULT_REMOVE,
    DISK_FAULT_KINDS
};

struct disk_fault_settings {
    uint64_t seed;
    uint64_t capacity_bytes; /* prepare answers -ENOSPC beyond; 0: no limit */
    bool no_files;           /* no file can be made: prepare answers -ENOSPC */
    uint32_t late_percent;   /* chance of an operation to wait for another reap, 0..99 */
    uint32_t error_permyriad[DISK_FAULT_KINDS]; /* chance of -EIO in 10,000, each operation */
};

struct disk_fault;

/* NULL when memory is short. */
struct disk_fault *disk_fault_open(const struct disk_fault_settings *settings);
void disk_fault_close(struct disk_fault *fault);
struct disk *disk_fault_disk(struct disk_fault *fault);
/* From now on; the seed is not taken again. */
void disk_fault_set(struct disk_fault *fault, const struct disk_fault_settings *settings);

/* Power is lost: nothing under way is reported any more, file numbers are void, and what remains
 * is what a device may hold then. */
void disk_fault_crash(struct disk_fault *fault);

/* The operation after `skip` more of its kind fails with `error` (-EIO, -ENOSPC), and `count` - 1
 * that follow. A failed write may have landed, in part or whole. */
void disk_fault_fail(struct disk_fault *fault, enum disk_fault_kind kind, uint32_t skip,
                     uint32_t count, int error);

/* Reads that touch [offset, offset + bytes) of this file fail with -EIO, by whatever number it is open, over
 * crashes too, until disk_fault_mend. Files that are not there yet may be named. */
#define DISK_FAULT_REFUSED_MAX 16u
void disk_fault_refuse_reads(struct disk_fault *fault, const char *name, uint64_t offset,
                             uint64_t bytes);
/* Nor can it be opened. */
void disk_fault_refuse_open(struct disk_fault *fault, const char *name);
/* Whatever was refused is there again, as it was. */
void disk_fault_mend(struct disk_fault *fault);

/* Holds back all completions while `held`. */
void disk_fault_hold(struct disk_fault *fault, bool held);
/* Operations that were taken and not reported yet. */
uint32_t disk_fault_pending(const struct disk_fault *fault);

/* The bytes of a file as they are, to look at or to damage. NULL: not there. */
uint8_t *disk_fault_bytes(struct disk_fault *fault, const char *name, uint64_t *bytes);
/* Makes a file with this content, durable. 0 or -ENOMEM. */
int disk_fault_put(struct disk_fault *fault, const char *name, struct slice content);
/* In order of creation: the name of file `index`, or NULL. */
const char *disk_fault_name(const struct disk_fault *fault, uint32_t index);

struct disk_fault_counters {
    uint64_t writes, write_bytes, reads, read_bytes, prepares, removes;
};
const struct disk_fault_counters *disk_fault_counters(const struct disk_fault *fault);
