#include "tests/unit/log_rig.h"
#include "engine/core/check.h"
#include "queue/log/log_private.h"
#include <stdlib.h>

void log_rig_open(struct log_rig *rig, uint64_t seed)
{
    *rig = (struct log_rig){.fault_settings = {.seed = seed, .late_percent = 30}};
    rig->fault = disk_fault_open(&rig->fault_settings);
    check(rig->fault != NULL);
    rig->disk = disk_fault_disk(rig->fault);
    rig->memory_bytes = LOG_MEMORY_BYTES_MIN;
    rig->memory = aligned_alloc(DISK_BLOCK_BYTES, rig->memory_bytes);
    check(rig->memory != NULL);
    rig->settings = (struct log_settings){.disk = rig->disk,
                                          .shard = 3,
                                          .segment_bytes = 8 * LOG_FRAME_BYTES,
                                          .memory = rig->memory,
                                          .memory_bytes = rig->memory_bytes,
                                          .new_id = seed * 77 + 1};
}

void log_rig_close(struct log_rig *rig)
{
    if (rig->log != NULL) {
        log_rig_crash(rig);
    }
    disk_fault_close(rig->fault);
    free(rig->memory);
}

static int ignore_record(void *owner, const struct log_record *record)
{
    (void)owner, (void)record;
    return 0;
}

int log_rig_start(struct log_rig *rig, const struct log_visitor *visitor)
{
    struct log_visitor nobody = {.record = ignore_record};
    int result = log_open(&rig->log, &rig->settings);
    if (result != 0) {
        rig->log = NULL;
        return result;
    }
    return log_recover(rig->log, visitor != NULL ? visitor : &nobody);
}

void log_rig_round(struct log_rig *rig)
{
    rig->now_ns += 1000000;
    rig->disk->ops->reap(rig->disk);
    log_round(rig->log, rig->now_ns);
    log_flush(rig->log);
    rig->disk->ops->submit(rig->disk);
}

void log_rig_settle(struct log_rig *rig)
{
    for (int round = 0; round < 10000; round++) {
        log_rig_round(rig);
        if (log_is_quiet(rig->log) && disk_fault_pending(rig->fault) == 0) {
            return;
        }
    }
    check(!"the log never came to rest");
}

void log_rig_stop(struct log_rig *rig)
{
    log_rig_settle(rig);
    log_close(rig->log);
    rig->log = NULL;
}

void log_rig_crash(struct log_rig *rig)
{
    /* The process is gone: what log_close demands cannot be waited for. */
    struct log *log = rig->log;
    disk_fault_crash(rig->fault);
    log->write_count = 0;
    log->watch.asks = false;
    if (log->maker.state != MAKER_IDLE) {
        free(log->maker.segment);
        log->maker.state = MAKER_IDLE;
    }
    log_close(log);
    rig->log = NULL;
}
