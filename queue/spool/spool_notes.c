/*
 * Notes: what the log says of a message after its commit: a recipient is finished, a delivery was tried.
 *
 * A note in another segment than the commit is remembered with that segment, because it must not go
 * before the commit does. So many are remembered that moving them is cheaper than leaving the segment
 * where it is; of one with more nothing is, and it stays until it is the oldest.
 */
#include "queue/spool/spool_private.h"

int notes_add(void **at, const struct spool_note *note)
{
    struct spool_notes *notes = (struct spool_notes *)*at;
    if (notes == NULL || notes->count == notes->capacity) {
        uint32_t count = notes != NULL ? notes->count : 0;
        uint32_t capacity = count + count / 2 + 64;
        capacity = capacity < SPOOL_NOTES_MAX ? capacity : SPOOL_NOTES_MAX;
        if (count == capacity) {
            return -ENOSPC;
        }
        struct spool_notes *grown = (struct spool_notes *)realloc(
            notes, sizeof(*grown) + capacity * sizeof(grown->notes[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        if (notes == NULL) {
            *grown = (struct spool_notes){0};
        }
        grown->capacity = capacity;
        *at = notes = grown;
    }
    notes->notes[notes->count++] = *note;
    return 0;
}

/* What it says of others is not known, or too much. */
static void segment_keep(struct log_segment_live *live, uint32_t sequence)
{
    live->kept_for = sequence - 1;
    free(live->notes);
    live->notes = NULL;
}

static void note_remember(struct spool *spool, uint32_t sequence, const struct spool_note *note)
{
    struct log_segment_live *live = log_segment_live(spool->log, sequence);
    if (note->commit_sequence == sequence || live->kept_for == sequence - 1) {
        return;
    }
    if (notes_add(&live->notes, note) != 0) {
        segment_keep(live, sequence);
    }
}

union note_content {
    struct spool_status status;
    struct spool_attempt attempt;
    struct spool_hold hold;
    struct spool_warned warned;
};

static struct slice note_content(const struct spool_note *note, const struct spool_message *message,
                                 union note_content *content, uint8_t *type)
{
    switch ((enum spool_note_kind)note->kind) {
    case NOTE_STATUS:
        *type = SPOOL_STATUS;
        content->status =
            (struct spool_status){.index = note->number, .state = (uint8_t)note->state};
        return slice_of(&content->status, sizeof(content->status));
    case NOTE_ATTEMPT:
        *type = SPOOL_ATTEMPT;
        content->attempt = (struct spool_attempt){.wall_s = message->message.last_attempt_wall_s,
                                                  .attempts = message->message.attempts};
        return slice_of(&content->attempt, sizeof(content->attempt));
    case NOTE_HOLD:
        *type = SPOOL_HOLD;
        content->hold = (struct spool_hold){.held = message_flags(&message->message) & SPOOL_HELD};
        return slice_of(&content->hold, sizeof(content->hold));
    case NOTE_WARNED:
        *type = SPOOL_WARNED;
        content->warned = (struct spool_warned){.index = note->number};
        return slice_of(&content->warned, sizeof(content->warned));
    }
    check(note->kind <= NOTE_WARNED);
    return slice_of(NULL, 0);
}

static int note_append(struct spool *spool, const struct spool_note *note,
                       const struct spool_message *message, uint8_t flags, uint32_t *sequence)
{
    union note_content content;
    struct log_head head = {.flags = flags, .tag = note->id};
    struct slice bytes = note_content(note, message, &content, &head.type);
    struct log_extent extent = {0};
    int result = log_append(spool->log, &head, &bytes, 1, &extent);
    *sequence = log_lsn_sequence(extent.lsn);
    return result;
}

void spool_note(struct spool *spool, const struct spool_message *message, enum spool_note_kind kind,
                uint32_t number, uint8_t state)
{
    struct spool_note note = {.id = message->message.id,
                              .commit_sequence = log_lsn_sequence(message->commit_lsn),
                              .kind = kind,
                              .state = state,
                              .number = number};
    uint32_t sequence;
    /* When even the stash is full it is lost to a crash, which repeats a delivery. */
    if (note_append(spool, &note, message, LOG_RESERVED | LOG_KEPT, &sequence) != 0) {
        spool->counters.lost_notes++;
        return;
    }
    if (sequence == 0 || message->commit_lsn == 0) {
        return; /* it waits: the log keeps the segment where it goes */
    }
    note_remember(spool, sequence, &note);
    if (message->body.kind == BODY_COPIED && message->body.at.copy->in_flight) {
        note.commit_sequence = log_lsn_sequence(message->body.at.copy->place.lsn);
        note_remember(spool, sequence, &note);
    }
}

int spool_note_move(struct spool *spool, const struct spool_note *note,
                    const struct spool_message *message)
{
    uint32_t sequence;
    int result = log_room(spool->log, sizeof(union note_content), 0);
    if (result == 0) {
        result = note_append(spool, note, message, 0, &sequence);
    }
    if (result == 0) {
        note_remember(spool, sequence, note);
        spool->counters.moved_notes++;
    }
    return result;
}
