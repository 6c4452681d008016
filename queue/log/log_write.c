/* Blocks to the disk, the frontier behind which all is durable, and who waits for it. */
#include "engine/core/mutation.h"
#include "queue/log/log_private.h"

/* With few bytes gathered, this many writes may be in flight; more would only split what could go
 * together. */
#define WRITES_SMALL_MAX 1u

static struct log_write *write_at(struct log *log, uint32_t i)
{
    return &log->writes[(log->write_first + i) % log->settings.write_count_max];
}

void log_run_waiters(struct log *log)
{
    while (!list_empty(&log->waiters)) {
        struct log_waiter *waiter = list_entry(log->waiters.next, struct log_waiter, node);
        if (waiter->lsn > log->promised) {
            break;
        }
        list_remove(&waiter->node);
        waiter->done(waiter, 0);
    }
}

/* The void is said on the disk: whoever waited for a part of it may know. */
static void void_said(struct log *log)
{
    struct list_node told;
    list_init(&told);
    list_splice(&told, &log->void_waiters);
    log->void_from = 0;
    log->void_mark = 0;
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct log_waiter *waiter = list_entry(node, struct log_waiter, node);
        waiter->done(waiter, log->status);
    }
}

static void frontier_moves(struct log *log, uint64_t lsn)
{
    log->frontier = lsn;
    if (log->promised < lsn) {
        log->promised = lsn;
    }
    if (log->void_mark != 0 && log->frontier >= log->void_mark) {
        void_said(log);
    }
    log_run_waiters(log);
}

static void write_retired(struct log *log, const struct log_write *write)
{
    struct log_frame *frame = write->frame;
    bool is_void =
        (log->state == LOG_DRAINING || write->result < 0) && !MUTATED(FAILED_WRITE_BELIEVED);
    frame->writes--;
    if (is_void) {
        log_write_failed(log, write->lsn, write->result);
        if (frame->closed && frame->sent >= frame->filled && list_empty(&frame->node)) {
            list_append(&log->failed, &frame->node);
        }
        return;
    }
    log_frame_settle(frame);
    frontier_moves(log, write->lsn + write->bytes);
}

static void write_done(struct disk_done *done, int result)
{
    struct log_write *write = (struct log_write *)(void *)done;
    struct log *log = write->log;
    write->result = result;
    write->complete = true;
    while (log->write_count > 0 && write_at(log, 0)->complete) {
        struct log_write retired = *write_at(log, 0);
        log->write_first = (log->write_first + 1) % log->settings.write_count_max;
        log->write_count--;
        write_retired(log, &retired);
    }
    if (log->state == LOG_DRAINING && log->write_count == 0) {
        log_drained(log);
    }
    log_run_room(log);
}

static void frame_sent(struct log *log, struct log_frame *frame, uint32_t end)
{
    frame->sent = end;
    if (end == LOG_FRAME_BYTES && frame == log->frame) {
        frame->closed = true;
        log->frame = NULL;
    }
    if (frame->closed) {
        list_remove(&frame->node);
    }
}

/* Hands over what is unsent of a frame. 0; -EAGAIN: later; or -errno, handled as a failed write. */
static int frame_send(struct log *log, struct log_frame *frame)
{
    if (frame == log->frame) {
        log_record_close(log);
    }
    uint32_t end = block_up(frame->filled);
    memset(frame->memory + frame->filled, 0, end - frame->filled);
    frame->filled = end;
    if (!frame->closed) {
        log->end = lsn_of(frame->segment->sequence, frame->piece * LOG_FRAME_BYTES + end);
    }

    struct log_write *write = write_at(log, log->write_count);
    uint32_t offset = frame->piece * LOG_FRAME_BYTES + frame->sent;
    *write = (struct log_write){.done.run = write_done,
                                .log = log,
                                .frame = frame,
                                .lsn = lsn_of(frame->segment->sequence, offset),
                                .bytes = end - frame->sent};
    list_init(&write->done.node);
    uint32_t flags = log->settings.durability == LOG_DURABLE ? DISK_DURABLE : 0;
    int result = log->disk->ops->write(log->disk, frame->segment->file, frame->memory + frame->sent,
                                       write->bytes, offset, flags, &write->done);
    if (result == -EAGAIN) {
        return result;
    }
    frame_sent(log, frame, end);
    frame->writes++;
    log->write_count++;
    log->counters.writes++;
    log->counters.write_bytes += write->bytes;
    if (result < 0) {
        write_done(&write->done, result);
    } else if (log->settings.durability == LOG_RELAXED || MUTATED(PROMISED_WHEN_SENT)) {
        log->promised = write->lsn + write->bytes;
    }
    return result < 0 ? result : 0;
}

/* Is what is unsent of this frame worth a write now? */
static bool frame_is_due(const struct log *log, const struct log_frame *frame)
{
    uint32_t bytes = frame->filled - frame->sent;
    if (bytes == 0 || log->write_count >= log->settings.write_count_max) {
        return false;
    }
    if (frame->closed) {
        return true;
    }
    return log->urgent &&
           (log->write_count < WRITES_SMALL_MAX || bytes >= log->settings.gather_bytes);
}

unsigned log_flush(struct log *log)
{
    unsigned done = log_stash_append(log);
    while (log->state == LOG_RUNNING && !list_empty(&log->unsent)) {
        struct log_frame *frame = list_entry(log->unsent.next, struct log_frame, node);
        if (!frame_is_due(log, frame)) {
            break;
        }
        bool newest = frame == log->frame;
        if (frame_send(log, frame) < 0) {
            break;
        }
        if (newest) {
            log->urgent = false;
        }
        done++;
    }
    if (list_empty(&log->unsent)) {
        log->urgent = false;
    }
    log_run_waiters(log);
    return done + log_run_room(log);
}

void log_when_durable(struct log *log, struct log_waiter *waiter)
{
    list_init(&waiter->node);
    waiter->lsn = log->end;
    log->counters.waits++;
    if (log->frame != NULL && log->frame->filled > log->frame->sent) {
        log->urgent = true;
    }
    list_append(&log->waiters, &waiter->node);
}

void log_refuse_late(struct log *log)
{
    log->refuses_late = true;
}

void log_when_room(struct log *log, struct log_waiter *waiter)
{
    list_init(&waiter->node);
    list_append(&log->room_waiters, &waiter->node);
}

void log_room_cancel(struct log_waiter *waiter)
{
    list_remove(&waiter->node);
}

/* Tells them one by one for as long as there may be room for the next. */
unsigned log_run_room(struct log *log)
{
    if (!log->room_due) {
        return 0;
    }
    log->room_due = false;
    struct list_node told;
    unsigned count = 0;
    list_init(&told);
    list_splice(&told, &log->room_waiters);
    while (!list_empty(&told) && (log->idle_count > 0 || log->state == LOG_BROKEN)) {
        struct log_waiter *waiter = list_entry(list_pop(&told), struct log_waiter, node);
        waiter->done(waiter, 0);
        count++;
    }
    list_splice(&told, &log->room_waiters); /* those that came meanwhile wait behind */
    list_splice(&log->room_waiters, &told);
    return count;
}
