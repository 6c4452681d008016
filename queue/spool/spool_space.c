/*
 * Space comes back from the oldest segment on. One in which nothing lives is freed (between others:
 * spool_between.c). What still lives in the oldest is copied to the end:
 *
 *   when less than half of the log lives: then copying never writes more than mail does;
 *   when mail will soon find no room, and an eighth of the log is dead: up to 7 bytes are copied for
 *   each byte of mail then, so it is mail's own pace that becomes slower, and nothing is refused;
 *   when notes have begun to use the reserve, and a thirty-second is dead: they must never be lost.
 *
 * Nothing is copied out of what is held (log.h): it would gain nothing.
 *
 * A segment is copied only when there is room for all that lives in it, with what cutting it anew may
 * cost; the log keeps two segments back for that.
 */
#include "queue/spool/spool_private.h"

#define TRIMS_MAX 16u   /* a round */
#define SEGMENTS_MIN 8u /* the default of forward_bytes_min */

static unsigned trim(struct spool *spool)
{
    unsigned count = 0;
    for (; count < TRIMS_MAX; count++) {
        struct log_segment_live *live = log_segment_live(spool->log, log_head_sequence(spool->log));
        if (live == NULL || live->bytes > 0 || !list_empty(&live->members) ||
            log_trim(spool->log) != 0) {
            break;
        }
    }
    return count;
}

static uint64_t less(uint64_t from, uint64_t bytes)
{
    return from > bytes ? from - bytes : 0;
}

/* ── Copying forward ─────────────────────────────────────────────────────────────────────────── */

static bool fits(const struct log_space *space, uint64_t segment, uint64_t head_bytes)
{
    uint64_t room = less(space->rest_bytes + space->ready_bytes + space->freed_bytes, segment / 8);
    return head_bytes + head_bytes / 4 + LOG_FRAME_BYTES <= room;
}

enum space_need { SPACE_ENOUGH, SPACE_LOOSE, SPACE_NOTES, SPACE_MAIL };

static enum space_need need(const struct spool *spool, const struct log_space *space,
                            uint64_t segment)
{
    uint64_t used = space->used_bytes, live = spool->live_bytes - spool->twice_bytes;
    /* A packed log is dead in part too: the ends of its first and last segment, and padding. */
    uint64_t dead = less(used, space->rest_bytes + live);
    uint64_t left = space->rest_bytes + space->ready_bytes;
    uint64_t reserve = LOG_SEGMENTS_RESERVED * segment;
    uint64_t least = spool->settings.forward_bytes_min;
    if (less(left + space->freed_bytes + space->growth_bytes, reserve) < 2 * segment + used / 16 &&
        dead >= segment + used / 8) {
        return SPACE_MAIL;
    }
    if (left < reserve && dead >= segment + used / 32) {
        return SPACE_NOTES;
    }
    if (used > (least != 0 ? least : SEGMENTS_MIN * segment) && dead > live + 4 * segment) {
        return SPACE_LOOSE;
    }
    return SPACE_ENOUGH;
}

/* Follows the passes over the log. One that found no dead bytes to gain, with no mail meanwhile, is not
 * followed by another before something has changed: what seems dead is padding. */
static bool pass_gains(struct spool *spool, const struct log_space *space, uint32_t head)
{
    struct spool_space *own = &spool->space;
    uint64_t segment = log_settings_of(spool->log)->segment_bytes;
    uint64_t bytes_in = spool->counters.bytes_in;
    if (own->packed_live != 0) {
        if (spool->live_bytes + segment > own->packed_live &&
            bytes_in < own->packed_bytes_in + segment) {
            return false;
        }
        own->packed_live = 0;
    }
    if (own->pass_end != 0 && head <= own->pass_end) {
        return true;
    }
    if (own->pass_end != 0 && space->used_bytes >= own->pass_used &&
        bytes_in < own->pass_bytes_in + segment) {
        own->packed_live = spool->live_bytes;
        own->packed_bytes_in = bytes_in;
        own->pass_end = 0;
        return false;
    }
    own->pass_end = log_current_sequence(spool->log);
    own->pass_used = space->used_bytes;
    own->pass_bytes_in = bytes_in;
    return true;
}

/* ── How full it is ──────────────────────────────────────────────────────────────────────────── */

/* The most that may live before the log is too packed for copying to gain what need() asks for. What is
 * held comes back to nobody: what lives there has its room, and no other. */
static uint64_t capacity(const struct spool *spool, const struct log_space *space, uint64_t segment)
{
    uint64_t all = space->used_bytes - space->held_bytes + space->ready_bytes + space->freed_bytes +
                   space->growth_bytes;
    uint64_t mails = less(all, LOG_SEGMENTS_RESERVED * segment);
    return less(mails - mails / 8, segment) + spool->held_live_bytes;
}

void spool_fill(const struct spool *spool, struct spool_fill *fill)
{
    *fill = (struct spool_fill){
        .live_bytes = spool->live_bytes - spool->twice_bytes,
        .capacity_bytes = spool->space.capacity_bytes,
        .memory_bytes = spool->memory_bytes + spool->store.sender_bytes +
                        (spool->table.bucket_count + spool->table.old_count) * sizeof(uint32_t) +
                        (uint64_t)spool->draft_count * sizeof(struct spool_draft),
        .disk_free_bytes = log_disk_free_bytes(spool->log),
    };
}

/* ── A round ─────────────────────────────────────────────────────────────────────────────────── */

unsigned spool_space_round(struct spool *spool)
{
    struct log *log = spool->log;
    unsigned done = trim(spool);
    uint32_t head = log_head_sequence(log);
    uint64_t segment = log_settings_of(log)->segment_bytes;
    const struct log_segment_live *live = log_segment_live(log, head);
    struct log_space space;
    log_space(log, &space);
    spool->space.capacity_bytes = capacity(spool, &space, segment);
    enum space_need wanted = SPACE_ENOUGH;
    if (live != NULL && head != log_current_sequence(log) && !log_is_held(log, head) &&
        (head == spool->space.begun || fits(&space, segment, live->bytes))) {
        wanted = need(spool, &space, segment);
    }
    if (wanted == SPACE_ENOUGH) {
        spool->space.pass_end = 0;
        spool->space.copies = false;
    } else {
        spool->space.copies = pass_gains(spool, &space, head);
    }
    if (spool->space.copies) {
        spool->space.begun = head;
    }
    log_expect_space(log, wanted == SPACE_MAIL && spool->space.copies &&
                              spool->forward.stuck_sequence != head);
    return done;
}
