/*
 * Between: a segment in which nothing lives is freed although older ones are in use, so that mail that
 * leaves at once goes on using the same few segments while other mail waits for weeks.
 *
 * What is freed must not be missed by a start that still finds the older ones. Of all that a dead
 * segment holds only notes can be: they say that messages whose commits lie in older segments are gone,
 * or how far they are. Those that are needed are appended again, and when they are durable the segment
 * is freed. Where they would be too many it stays, and is looked at again later. The commits in it are
 * of messages that are gone; a commit that was copied from an older segment counts as a note on that
 * one, for as long as it is in use (kept_for). What a segment freed before this one held is destroyed
 * before this one is: the log sees to that.
 *
 * One segment at a time, a bounded piece of it a round:
 *
 *  LOOKS ──a dead one──► SIFTS ──some are needed──► MOVES ──► WAITS ──all is durable──► FREES
 *    ▲                     │ └──none is needed───────────────►                            │
 *    └──too many, or the log had to refuse or lost something──┴───────────────────────────┘
 */
#include "queue/spool/spool_private.h"

#define SIFTED_MAX 256u  /* notes a round */
#define MOVED_MAX 128u   /* a round */
#define MOVED_SHARE 16u  /* of a segment, at most, is written again to free it */
#define REST_SEGMENTS 8u /* until one with too many needed notes is looked at again */
#define NOTE_BYTES 48u   /* in the log */

static struct spool_notes *notes_of(const struct log_segment_live *live)
{
    return (struct spool_notes *)live->notes;
}

static void looks(struct spool *spool)
{
    struct spool_between *between = &spool->between;
    uint32_t head = log_head_sequence(spool->log);
    uint32_t current = log_current_sequence(spool->log);
    uint32_t sequence = log_segment_after(spool->log, between->sequence);
    between->sequence = sequence;
    if (sequence == 0 || sequence == head || sequence == current ||
        log_is_held(spool->log, sequence) ||
        log_segment_after(spool->log, sequence) == 0) { /* the newest stays on the disk */
        return;
    }
    const struct log_segment_live *live = log_segment_live(spool->log, sequence);
    if (live->bytes > 0 || !list_empty(&live->members) || live->kept_for >= head ||
        (live->notes != NULL && current < notes_of(live)->rest_until)) {
        return;
    }
    between->state = BETWEEN_SIFTS;
    between->at = between->kept = 0;
    between->failures = log_counters(spool->log)->write_failures;
}

/* Would a start miss it? */
static bool is_needed(const struct spool *spool, const struct spool_note *note)
{
    if (log_segment_live(spool->log, note->commit_sequence) == NULL) {
        return false;
    }
    const struct spool_message *message = message_table_find(&spool->table, note->id);
    switch ((enum spool_note_kind)note->kind) {
    case NOTE_STATUS: /* else a later note says more */
        return message == NULL
                   ? recipient_is_finished((uint8_t)note->state)
                   : message_recipient_state(&message->message, note->number) == note->state;
    case NOTE_ATTEMPT:
        return message != NULL &&
               (message->message.attempts & SPOOL_NOTE_NUMBER_MAX) == note->number;
    case NOTE_HOLD:
    case NOTE_WARNED:
        return message != NULL;
    }
    return true;
}

static void waits(struct spool *spool);

/* Keeps those that are needed, in front. */
static void sifts(struct spool *spool, struct log_segment_live *live)
{
    struct spool_between *between = &spool->between;
    struct spool_notes *notes = notes_of(live);
    uint32_t count = notes != NULL ? notes->count : 0;
    for (uint32_t i = 0; i < SIFTED_MAX && between->at < count; i++, between->at++) {
        if (is_needed(spool, &notes->notes[between->at])) {
            notes->notes[between->kept++] = notes->notes[between->at];
        }
    }
    if (between->at < count) {
        return;
    }
    if (notes != NULL) {
        notes->count = between->kept;
    }
    uint64_t most = log_settings_of(spool->log)->segment_bytes / MOVED_SHARE;
    if ((uint64_t)between->kept * NOTE_BYTES > most) {
        notes->rest_until = log_current_sequence(spool->log) + REST_SEGMENTS;
        between->state = BETWEEN_LOOKS;
        return;
    }
    between->at = 0;
    between->state = BETWEEN_MOVES;
    if (between->kept == 0) {
        waits(spool);
    }
}

static void moves(struct spool *spool, struct log_segment_live *live)
{
    struct spool_between *between = &spool->between;
    struct spool_notes *notes = notes_of(live);
    for (uint32_t i = 0; i < MOVED_MAX && between->at < notes->count; i++, between->at++) {
        const struct spool_note *note = &notes->notes[between->at];
        if (!is_needed(spool, note)) {
            continue;
        }
        const struct spool_message *message = message_table_find(&spool->table, note->id);
        int result = spool_note_move(spool, note, message);
        if (result == -EAGAIN) {
            return;
        }
        if (result != 0) { /* when there is room again */
            notes->rest_until = log_current_sequence(spool->log) + 1;
            between->state = BETWEEN_LOOKS;
            return;
        }
    }
    if (between->at == notes->count) {
        waits(spool);
    }
}

static void all_is_durable(struct log_waiter *waiter, int status)
{
    struct spool_between *between = list_entry(waiter, struct spool_between, waiter);
    between->state = status == 0 ? BETWEEN_FREES : BETWEEN_LOOKS;
}

/* For the notes that were moved, and for those that made others needless. */
static void waits(struct spool *spool)
{
    spool->between.state = BETWEEN_WAITS;
    spool->between.waiter.done = all_is_durable;
    log_when_durable(spool->log, &spool->between.waiter);
}

static void frees(struct spool *spool, struct log_segment_live *live)
{
    struct spool_between *between = &spool->between;
    if (live->notes != NULL) {
        notes_of(live)->count = 0;
    }
    between->state = BETWEEN_LOOKS;
    log_free_segment(spool->log, between->sequence); /* one that is being read goes another time */
}

unsigned spool_between_round(struct spool *spool)
{
    struct spool_between *between = &spool->between;
    if (between->state == BETWEEN_WAITS) {
        return 0;
    }
    if (between->state == BETWEEN_LOOKS) {
        looks(spool);
        return between->state != BETWEEN_LOOKS;
    }
    struct log_segment_live *live = log_segment_live(spool->log, between->sequence);
    if (live == NULL || !log_is_orderly(spool->log) ||
        between->failures != log_counters(spool->log)->write_failures) {
        between->state = BETWEEN_LOOKS;
        return 0;
    }
    switch (between->state) {
    case BETWEEN_SIFTS:
        sifts(spool, live);
        break;
    case BETWEEN_MOVES:
        moves(spool, live);
        break;
    case BETWEEN_FREES:
        frees(spool, live);
        break;
    case BETWEEN_LOOKS:
    case BETWEEN_WAITS:
        break;
    }
    return 1;
}
