/* Receiving a message, and making it one. */
#include "queue/spool/spool_private.h"

#define ROOM_TO_BEGIN_BYTES (16u * 1024)
#define STAGE_EXTENTS_MAX 3u /* that the stage becomes: the end of a frame, and the next */

/* The more extents a draft has, the larger a piece must be to become one of its own; smaller ones
 * are gathered first. It keeps a body that dribbles in, a few bytes a packet between those of a
 * thousand others, from having more bookkeeping than content; short messages are copied once. */
static uint32_t crumb_bytes(const struct spool_draft *draft)
{
    if (draft->extent_count < 8) {
        return 256;
    }
    return draft->extent_count < 64 ? 1024 : DRAFT_STAGE_BYTES;
}

static uint64_t failures_of(const struct spool *spool)
{
    return log_counters(spool->log)->write_failures;
}

/* ── Beginning, ending ───────────────────────────────────────────────────────────────────────── */

/* Unique in this folder for ever: shard, a sequence that no later start uses again, and a count. */
static int id_make(struct spool *spool, uint64_t *id)
{
    uint32_t sequence = log_promised_sequence(spool->log);
    if (sequence == spool->id_sequence && spool->id_count >= 1u << 24) {
        int result = log_seal(spool->log);
        sequence = log_promised_sequence(spool->log);
        if (result != 0 || sequence == spool->id_sequence) {
            return result != 0 ? result : -EAGAIN;
        }
    }
    if (sequence == 0) {
        int result = log_room(spool->log, 0, 0);
        return result != 0 ? result : -EAGAIN;
    }
    if (sequence != spool->id_sequence) {
        spool->id_sequence = sequence;
        spool->id_count = 0;
    }
    *id = (uint64_t)spool->shard << 56 | (uint64_t)sequence << 24 | spool->id_count++;
    return 0;
}

static struct spool_draft *draft_take(struct spool *spool)
{
    struct spool_draft *draft = spool->free_drafts;
    if (draft != NULL) {
        spool->free_drafts = draft->next_free;
        return draft;
    }
    return (struct spool_draft *)near_take(&spool->store.heap, sizeof(*draft));
}

static void draft_give(struct spool_draft *draft)
{
    struct spool *spool = draft->spool;
    if (draft->extents != draft->few) {
        free(draft->extents);
    }
    draft->next_free = spool->free_drafts;
    spool->free_drafts = draft;
    spool->draft_count--;
}

int spool_begin(struct spool *spool, struct spool_draft **result)
{
    uint64_t id;
    if (spool->draft_count >= spool->settings.draft_count_max) {
        return -EAGAIN;
    }
    /* Better refused now than after its body has come. */
    int status = log_room(spool->log, ROOM_TO_BEGIN_BYTES, 0);
    if (status != 0 && status != -EAGAIN) {
        return status;
    }
    status = id_make(spool, &id);
    if (status != 0) {
        return status;
    }
    struct spool_draft *draft = draft_take(spool);
    if (draft == NULL) {
        return -EAGAIN;
    }
    spool->draft_count++;
    draft->spool = spool;
    draft->body = (struct spool_body){.is_draft = true};
    draft->extents = draft->few;
    draft->extent_count = 0;
    draft->id = id;
    near_list_init(&draft->body.member);
    draft->extent_capacity = DRAFT_EXTENTS_INLINE;
    draft->failures = failures_of(spool);
    draft->received_bytes = 0;
    draft->bytes = 0;
    draft->staged = 0;
    *result = draft;
    return 0;
}

uint64_t spool_draft_id(const struct spool_draft *draft)
{
    return draft->id;
}

static void draft_drop(struct spool_draft *draft)
{
    body_forget(draft->spool, &draft->body);
    draft->extent_count = 0;
    draft_give(draft);
}

void spool_abort(struct spool_draft *draft)
{
    draft->spool->counters.aborted++;
    draft_drop(draft);
}

/* ── Appending ───────────────────────────────────────────────────────────────────────────────── */

/* Makes sure that so many extents more can be kept. */
int draft_room(struct spool_draft *draft, uint32_t extents)
{
    uint32_t wanted = draft->extent_count + extents;
    if (wanted <= draft->extent_capacity) {
        return 0;
    }
    uint32_t capacity = wanted * 2;
    struct spool_extent *old = draft->extents == draft->few ? NULL : draft->extents;
    struct spool_extent *grown =
        (struct spool_extent *)realloc(old, capacity * sizeof(draft->few[0]));
    if (grown == NULL) {
        return -EAGAIN;
    }
    if (old == NULL) {
        memcpy(grown, draft->few, draft->extent_count * sizeof(draft->few[0]));
    }
    draft->extents = grown;
    draft->extent_capacity = capacity;
    return 0;
}

void draft_replace(struct spool_draft *draft, struct spool_extent *extents, uint32_t count,
                   uint32_t capacity)
{
    if (draft->extents != draft->few) {
        free(draft->extents);
    }
    draft->extents = extents;
    draft->extent_count = count;
    draft->extent_capacity = capacity;
}

static struct log_extent last_extent(const struct spool_draft *draft)
{
    if (draft->extent_count == 0) {
        return (struct log_extent){0};
    }
    return (struct log_extent){.lsn = draft->extents[draft->extent_count - 1].lsn,
                               .length = draft->extents[draft->extent_count - 1].length};
}

/* To the log; room was made for it, there and in the draft. */
static void body_append(struct spool_draft *draft, const struct slice *parts, size_t count,
                        size_t size)
{
    struct spool *spool = draft->spool;
    struct spool_body *body = &draft->body;
    struct log_head head = {.type = SPOOL_BODY, .flags = LOG_BODY, .tag = body_id(body)};
    for (size_t done = 0; done < size;) {
        struct log_extent last = last_extent(draft), extent;
        uint32_t added = log_append_body(spool->log, &head, parts, count, done,
                                         draft->extent_count > 0 ? &last : NULL, &extent);
        if (draft->extent_count > 0 && extent.lsn == last.lsn) {
            draft->extents[draft->extent_count - 1].length = extent.length;
            body_live_add(spool, extent.lsn, added);
        } else {
            check(draft->extent_count < draft->extent_capacity);
            draft->extents[draft->extent_count++] = (struct spool_extent){
                .lsn = extent.lsn, .length = extent.length, .offset = draft->bytes};
            body_live_add(spool, extent.lsn, added + RECORD_COST);
        }
        if (near_list_empty(&body->member)) {
            body_place(spool, body, NULL);
        }
        draft->bytes += added;
        done += added;
    }
}

static void stage_append(struct spool_draft *draft)
{
    if (draft->staged > 0) {
        struct slice staged = slice_of(draft->stage, draft->staged);
        body_append(draft, &staged, 1, staged.size);
        draft->staged = 0;
    }
}

int spool_append(struct spool_draft *draft, const struct slice *parts, size_t count)
{
    struct spool *spool = draft->spool;
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += parts[i].size;
    }
    if (size > SPOOL_APPEND_BYTES_MAX ||
        draft->received_bytes + size > spool->settings.message_bytes_max) {
        return -EFBIG;
    }
    struct log_extent last = last_extent(draft);
    bool grows = draft->extent_count > 0 && draft->staged == 0 && log_is_growing(spool->log, &last);
    if (!grows && draft->staged + size < crumb_bytes(draft)) {
        for (size_t i = 0; i < count; i++) {
            if (parts[i].size > 0) {
                memcpy(draft->stage + draft->staged, parts[i].bytes, parts[i].size);
                draft->staged += (uint32_t)parts[i].size;
            }
        }
    } else if (size > 0) {
        int status = log_room(spool->log, draft->staged + size, 0);
        if (status == 0) {
            status = draft_room(draft, 6 + 2 * (uint32_t)(size / LOG_RECORD_BYTES_MAX));
        }
        if (status != 0) {
            return status;
        }
        stage_append(draft);
        body_append(draft, parts, count, size);
    }
    draft->received_bytes += size;
    spool->counters.bytes_in += size;
    return 0;
}

/* ── Waiting for room ────────────────────────────────────────────────────────────────────────── */

static int commit_try(struct spool_message *message);

static void commits_retry(struct spool *spool)
{
    while (spool->pending_first != NULL) {
        struct spool_message *message = spool->pending_first;
        int status = commit_try(message);
        if (status == -EAGAIN) {
            return;
        }
        spool->pending_first = message_next(message);
        message->message.next = 0;
        if (status != 0) {
            struct spool_commit *commit = message_commit(message);
            struct spool_waiter *durable = commit->durable;
            draft_drop(commit->draft);
            spool_message_free(spool, message);
            durable->done(durable, status);
        }
    }
}

static void room_came(struct log_waiter *waiter, int status)
{
    struct spool *spool = list_entry(waiter, struct spool, room_waiter);
    (void)status;
    spool->room_waits = false;
    commits_retry(spool);
    struct list_node told;
    list_init(&told);
    list_splice(&told, &spool->room);
    while (!list_empty(&told) && log_room(spool->log, 1, 0) != -EAGAIN) {
        struct spool_waiter *room = list_entry(list_pop(&told), struct spool_waiter, node);
        room->done(room, 0);
    }
    list_splice(&told, &spool->room); /* those that came meanwhile wait behind */
    list_splice(&spool->room, &told);
    spool_wait_for_room(spool);
}

void spool_wait_for_room(struct spool *spool)
{
    if (!spool->room_waits && (!list_empty(&spool->room) || spool->pending_first != NULL)) {
        spool->room_waits = true;
        spool->room_waiter.done = room_came;
        log_when_room(spool->log, &spool->room_waiter);
    }
}

void spool_when_room(struct spool *spool, struct spool_waiter *room)
{
    list_init(&room->node);
    list_append(&spool->room, &room->node);
    spool_wait_for_room(spool);
}

void spool_room_cancel(struct spool *spool, struct spool_waiter *room)
{
    (void)spool;
    if (room->node.next != NULL) {
        list_remove(&room->node);
    }
}

/* ── Committing ──────────────────────────────────────────────────────────────────────────────── */

static void commit_done(struct log_waiter *waiter, int status)
{
    struct spool_commit *commit = list_entry(waiter, struct spool_commit, waiter);
    struct spool_message *message = commit->message;
    struct spool *spool = commit->spool;
    struct spool_waiter *durable = commit->durable;
    if (status == 0) {
        spool_commit_give(spool, commit);
        message->message.owner = NULL;
        message->body.state = MESSAGE_LIVE;
        message_table_add(&spool->table, message);
        spool->counters.committed++;
        spool->counters.live_messages++;
    } else {
        spool_message_free(spool, message);
    }
    durable->done(durable, status);
}

static bool draft_is_void(const struct spool_draft *draft)
{
    if (failures_of(draft->spool) == draft->failures) {
        return false;
    }
    for (uint32_t i = 0; i < draft->extent_count; i++) {
        if (log_is_void(draft->spool->log, draft->extents[i].lsn)) {
            return true;
        }
    }
    return false;
}

/* The draft's bytes become the message's. */
static void body_hand_over(struct spool_message *message, struct spool_draft *draft,
                           const struct spool_place *place, struct spool_extents *many)
{
    struct spool *spool = draft->spool;
    spool_forward_leave(spool, &draft->body);
    body_leave(&draft->body);
    message_lies_at(message, draft->extents, draft->extent_count, place, many);
    draft->extent_count = 0;
    spool->memory_bytes += message_bytes(message);
    place_live_add(spool, place);
    body_place(spool, &message->body, place);
}

/* 0: the commit is on its way; -EAGAIN: no room yet, nothing was changed; or another error. */
static int commit_try(struct spool_message *message)
{
    struct spool_commit *commit = message_commit(message);
    struct spool_draft *draft = commit->draft;
    struct spool *spool = commit->spool;
    int status = commit_room(spool, &message->message, draft->extent_count + STAGE_EXTENTS_MAX,
                             draft->staged, 0);
    if (status == 0) {
        status = draft_room(draft, STAGE_EXTENTS_MAX);
    }
    if (status != 0) {
        return status;
    }
    if (draft_is_void(draft)) {
        return -EIO;
    }
    stage_append(draft);
    struct spool_extents *many;
    struct spool_place place = {0};
    status = extents_make(&message->message, draft->extent_count, &many);
    if (status == 0) {
        status =
            commit_append(spool, &message->message, draft->extents, draft->extent_count, 0, &place);
    }
    if (status != 0) {
        free(many);
        return status;
    }
    body_hand_over(message, draft, &place, many);
    commit->draft = NULL;
    draft_give(draft);
    message->body.state = MESSAGE_COMMITTING;
    commit->waiter.done = commit_done;
    log_when_durable(spool->log, &commit->waiter);
    return 0;
}

static struct spool_commit *commit_take(struct spool *spool)
{
    struct spool_commit *commit = spool->free_commits;
    if (commit != NULL) {
        spool->free_commits = commit->next_free;
        return commit;
    }
    return (struct spool_commit *)malloc(sizeof(*commit));
}

void spool_commit_give(struct spool *spool, struct spool_commit *commit)
{
    commit->next_free = spool->free_commits;
    spool->free_commits = commit;
}

int spool_commit(struct spool_draft *draft, const struct envelope *envelope,
                 const struct envelope_recipient *recipients, size_t count, struct message **result,
                 struct spool_waiter *durable)
{
    struct spool *spool = draft->spool;
    bool fits = envelope_fits(envelope, recipients, count);
    struct spool_message *message =
        fits ? message_new(envelope, recipients, count, &spool->store) : NULL;
    struct spool_commit *commit = message != NULL ? commit_take(spool) : NULL;
    if (commit == NULL) {
        if (message != NULL) {
            message_free(message);
        }
        spool_abort(draft);
        return fits ? -ENOMEM : -EINVAL;
    }
    message->message.id = draft->id;
    message->message.body_bytes = (uint32_t)draft->received_bytes;
    message->body.state = MESSAGE_PENDING;
    message->message.owner = commit;
    *commit = (struct spool_commit){
        .spool = spool, .message = message, .durable = durable, .draft = draft};
    int status = spool->pending_first == NULL ? commit_try(message) : -EAGAIN;
    if (status == -EAGAIN) {
        if (spool->pending_first == NULL) {
            spool->pending_first = message;
        } else {
            spool->pending_last->message.next = near_link(message);
        }
        spool->pending_last = message;
        spool_wait_for_room(spool);
        status = 0;
    }
    if (status != 0) {
        spool_abort(draft);
        spool_message_free(spool, message);
        return status;
    }
    *result = &message->message;
    return 0;
}
