/* log_rig: a log on a disk that lies, run round by round, for the tests of the log and the spool. */
#pragma once
#include "engine/disk/disk_fault.h"
#include "queue/log/log.h"

struct log_rig {
    struct disk_fault *fault;
    struct disk *disk;
    struct log *log;
    void *memory;
    size_t memory_bytes;
    uint64_t now_ns;
    struct log_settings settings;
    struct disk_fault_settings fault_settings;
};

/* settings may be changed between open and log_rig_start. */
void log_rig_open(struct log_rig *rig, uint64_t seed);
void log_rig_close(struct log_rig *rig);
/* Opens the log and recovers; `visitor` may be NULL. */
int log_rig_start(struct log_rig *rig, const struct log_visitor *visitor);
/* One round, as a shard runs it; a millisecond passes. */
void log_rig_round(struct log_rig *rig);
/* Rounds until nothing is under way. */
void log_rig_settle(struct log_rig *rig);
/* Settles, then closes the log; the disk stays. */
void log_rig_stop(struct log_rig *rig);
/* Power is lost: the log is gone, as is what was only in memory. */
void log_rig_crash(struct log_rig *rig);
