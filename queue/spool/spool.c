#include "engine/core/mutation.h"
#include "queue/spool/spool_private.h"
#include "queue/spool/spool_harvest.h"

/* ── What of the log is wanted ───────────────────────────────────────────────────────────────── */

static bool is_held(const struct spool *spool, uint64_t lsn)
{
    return log_is_held(spool->log, log_lsn_sequence(lsn));
}

void body_live_add(struct spool *spool, uint64_t lsn, uint32_t bytes)
{
    struct log_segment_live *live = log_segment_live(spool->log, log_lsn_sequence(lsn));
    if (live != NULL) {
        live->bytes += bytes;
        spool->live_bytes += bytes;
        spool->held_live_bytes += is_held(spool, lsn) ? bytes : 0;
    }
}

void body_live_take(struct spool *spool, uint64_t lsn, uint32_t bytes)
{
    struct log_segment_live *live = log_segment_live(spool->log, log_lsn_sequence(lsn));
    if (live != NULL) {
        check(live->bytes >= bytes && spool->live_bytes >= bytes);
        live->bytes -= bytes;
        spool->live_bytes -= bytes;
        spool->held_live_bytes -= is_held(spool, lsn) ? bytes : 0;
    }
}

/* Without memory for it what lives there is not copied forward; its segment stays until it is delivered. */
static struct segment_bodies *bodies_get(struct spool *spool, struct log_segment_live *live)
{
    struct segment_bodies *bodies = segment_bodies(live);
    if (bodies == NULL) {
        bodies = (struct segment_bodies *)near_take(&spool->store.heap, sizeof(*bodies));
        if (bodies != NULL) {
            list_init(&bodies->node);
            near_list_init(&bodies->bodies);
            list_append(&live->members, &bodies->node);
        }
    }
    return bodies;
}

void body_leave(struct spool_body *body)
{
    struct near_node *before = near_prev(&body->member);
    near_list_remove(&body->member);
    if (before != &body->member &&
        near_list_empty(before)) { /* it was the last: this is the head */
        struct segment_bodies *bodies = list_entry(before, struct segment_bodies, bodies);
        list_remove(&bodies->node);
        near_give(near_heap_of(bodies), bodies);
    }
}

/* Files it under the oldest segment that holds any of it. */
void body_place(struct spool *spool, struct spool_body *body, const struct spool_place *place)
{
    uint64_t oldest = place != NULL ? place->lsn : UINT64_MAX;
    for (uint32_t i = 0; place != NULL && i < place->part_count; i++) {
        oldest = place->parts[i].lsn < oldest ? place->parts[i].lsn : oldest;
    }
    struct extent_list extents;
    body_extents(body, &extents);
    for (uint32_t i = 0; i < extents.count; i++) {
        oldest = extents.first[i].lsn < oldest ? extents.first[i].lsn : oldest;
    }
    body_leave(body);
    if (oldest != UINT64_MAX) {
        struct log_segment_live *live = log_segment_live(spool->log, log_lsn_sequence(oldest));
        struct segment_bodies *bodies = live != NULL ? bodies_get(spool, live) : NULL;
        if (bodies != NULL) {
            near_list_append(&bodies->bodies, &body->member);
        }
    }
}

void body_forget(struct spool *spool, struct spool_body *body)
{
    struct extent_list extents;
    body_extents(body, &extents);
    for (uint32_t i = 0; i < extents.count; i++) {
        body_live_take(spool, extents.first[i].lsn, extents.first[i].length + RECORD_COST);
    }
    spool_forward_leave(spool, body);
    body_leave(body);
}

void place_live_add(struct spool *spool, const struct spool_place *place)
{
    body_live_add(spool, place->lsn, place->length + RECORD_COST);
    for (uint32_t i = 0; i < place->part_count; i++) {
        body_live_add(spool, place->parts[i].lsn, place->parts[i].length + RECORD_COST);
    }
}

void place_live_take(struct spool *spool, const struct spool_place *place)
{
    if (place->lsn != 0) {
        body_live_take(spool, place->lsn, place->length + RECORD_COST);
    }
    for (uint32_t i = 0; i < place->part_count; i++) {
        body_live_take(spool, place->parts[i].lsn, place->parts[i].length + RECORD_COST);
    }
}

/* ── A committed message ─────────────────────────────────────────────────────────────────────── */

void spool_message_count(struct spool *spool, struct spool_message *message)
{
    struct spool_place place = message_place(message);
    struct extent_list extents;
    body_extents(&message->body, &extents);
    place_live_add(spool, &place);
    for (uint32_t i = 0; i < extents.count; i++) {
        body_live_add(spool, extents.first[i].lsn, extents.first[i].length + RECORD_COST);
    }
    body_place(spool, &message->body, &place);
    spool->memory_bytes += message_bytes(message);
}

void spool_message_free(struct spool *spool, struct spool_message *message)
{
    struct spool_place place = message_place(message);
    if (message->body.state != MESSAGE_PENDING) {
        spool->memory_bytes -= message_bytes(message);
    }
    if (message->body.state < MESSAGE_LIVE) {
        spool_commit_give(spool, message_commit(message));
    }
    body_forget(spool, &message->body);
    place_live_take(spool, &place);
    message_free(message);
}

/* Frees it when it is forgotten and nobody holds it. */
void spool_message_settle(struct spool *spool, struct spool_message *message)
{
    if (message->body.state != MESSAGE_FORGOTTEN || message->body.holds > 0) {
        return;
    }
    if (message_copy(message) != NULL && !spool_forward_drop(spool, message)) {
        return; /* when its copy is durable */
    }
    spool_message_free(spool, message);
}

void spool_message_hold(struct message *message)
{
    struct spool_body *body = &message_private(message)->body;
    check(body->holds < (1u << MESSAGE_HOLDS_BITS) - 1);
    body->holds++;
}

void spool_message_release(struct spool *spool, struct message *message)
{
    struct spool_message *private = message_private(message);
    check(private->body.holds > 0);
    private->body.holds--;
    spool_message_settle(spool, private);
}

void spool_recipient_finished(struct spool *spool, struct message *message, uint32_t index,
                              enum recipient_state state)
{
    struct spool_message *private = message_private(message);
    bool reached = message_recipient_reached(message, index, state);
    check(reached);
    if (!MUTATED(STATUS_UNWRITTEN)) {
        spool_note(spool, private, NOTE_STATUS, index, (uint8_t)state);
    }
    if (message->waiting_count == 0) {
        message_table_remove(&spool->table, private);
        private->body.state = MESSAGE_FORGOTTEN;
        spool->counters.forgotten++;
        spool->counters.live_messages--;
        spool_message_settle(spool, private);
    }
}

void spool_note_attempt(struct spool *spool, struct message *message, int64_t wall_s)
{
    message_attempted(message, message->attempts + 1u, (uint32_t)wall_s);
    spool_note(spool, message_private(message), NOTE_ATTEMPT, message->attempts, 0);
}

void spool_note_warned(struct spool *spool, struct message *message, uint32_t index)
{
    message_mark_warned(message, index);
    if (!MUTATED(WARNING_UNWRITTEN)) {
        spool_note(spool, message_private(message), NOTE_WARNED, index, 0);
    }
}

void spool_note_held(struct spool *spool, struct message *message, uint32_t held)
{
    message_flags_set(message,
                      (message_flags_all(message) & ~(uint32_t)SPOOL_HELD) | (held & SPOOL_HELD));
    spool_note(spool, message_private(message), NOTE_HOLD, 0, 0);
}

int spool_read(struct spool *spool, struct message *message, uint64_t offset, struct slice *bytes,
               struct ref **owner, struct spool_fetch *fetch)
{
    struct extent_list extents;
    check(offset < message->body_bytes);
    body_extents(&message_private(message)->body, &extents);
    uint32_t low = 0, high = extents.count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (extents.first[middle].offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const struct spool_extent *from = &extents.first[low];
    struct log_extent extent = {.lsn = from->lsn, .length = from->length};
    int result = spool_read_extent(spool, &extent, bytes, owner, fetch);
    if (result == 0) {
        *bytes = slice_from(*bytes, offset - from->offset);
    }
    return result;
}

struct message *spool_find(struct spool *spool, uint64_t id)
{
    struct spool_message *message = message_table_find(&spool->table, id);
    return message != NULL ? &message->message : NULL;
}

struct visit {
    void (*visit)(void *owner, struct message *message);
    void *owner;
};

static void visit_one(void *owner, struct spool_message *message)
{
    struct visit *visit = (struct visit *)owner;
    visit->visit(visit->owner, &message->message);
}

void spool_each(struct spool *spool, void (*visit)(void *owner, struct message *message),
                void *owner)
{
    struct visit each = {.visit = visit, .owner = owner};
    message_table_each(&spool->table, visit_one, &each);
}

uint64_t spool_walk(const struct spool *spool, uint64_t cursor,
                    void (*visit)(void *owner, struct message *message), void *owner)
{
    struct visit each = {.visit = visit, .owner = owner};
    return message_table_walk(&spool->table, cursor, visit_one, &each);
}

const struct spool_counters *spool_counters(const struct spool *spool)
{
    struct spool_counters *counters = (struct spool_counters *)(uintptr_t)&spool->counters;
    counters->live_bytes = spool->live_bytes;
    counters->drafts = spool->draft_count;
    return counters;
}

unsigned spool_round(struct spool *spool)
{
    unsigned done = spool_found_round(spool) + spool_forward_round(spool);
    return spool->rests ? done : done + spool_between_round(spool);
}

void spool_rest(struct spool *spool)
{
    spool->rests = true;
}

/* ── Opening ─────────────────────────────────────────────────────────────────────────────────── */

static void message_discard(void *owner, struct spool_message *message)
{
    struct spool *spool = (struct spool *)owner;
    check(message_copy(message) == NULL || spool_forward_drop(spool, message));
    spool_message_free(spool, message);
}

static void spool_free(struct spool *spool)
{
    if (spool->table.buckets != NULL) {
        message_table_each(&spool->table, message_discard, spool);
        message_table_close(&spool->table);
    }
    while (spool->free_commits != NULL) {
        struct spool_commit *commit = spool->free_commits;
        spool->free_commits = commit->next_free;
        free(commit);
    }
    spool_found_close(spool);
    spool_fetch_close(spool);
    store_close(&spool->store);
    free(spool->scratch);
    free(spool);
}

/* Takes what recovery has found; before anything is appended. */
static void message_take(void *owner, struct spool_message *message)
{
    struct spool *spool = (struct spool *)owner;
    spool_message_count(spool, message);
    spool->counters.live_messages++;
    spool->counters.recovered++;
    spool_found_add(spool, message);
}

static int spool_recover(struct spool *spool)
{
    struct spool_harvest *harvest;
    int result = spool_harvest_open(&harvest, &spool->store);
    if (result != 0) {
        return result;
    }
    struct log_visitor visitor = {
        .record = spool_harvest_record, .damaged = spool_harvest_damaged, .owner = harvest};
    result = log_recover(spool->log, &visitor);
    if (result == 0) {
        result = spool_harvest_each(harvest, &spool->table, message_take, spool);
    }
    if (result == 0) {
        spool_harvest_notes(harvest, spool->log);
    }
    spool->counters.damaged_bytes = log_counters(spool->log)->damaged_bytes;
    spool_harvest_close(harvest);
    return result;
}

int spool_open(struct spool **result, struct log *log, const struct spool_settings *settings,
               void (*found)(void *owner, struct message *message), void *owner)
{
    if (settings->message_bytes_max >= UINT32_MAX) {
        return -EINVAL;
    }
    struct spool *spool = (struct spool *)calloc(1, sizeof(*spool));
    if (spool == NULL) {
        return -ENOMEM;
    }
    spool->log = log;
    spool->disk = log_settings_of(log)->disk;
    spool->shard = log_settings_of(log)->shard;
    spool->settings = *settings;
    spool->found = found;
    spool->found_owner = owner;
    spool->space.capacity_bytes = UINT64_MAX;
    list_init(&spool->room);
    list_init(&spool->small.idle);
    list_init(&spool->large.idle);
    spool->scratch = (uint8_t *)malloc(COMMIT_BYTES_MAX);
    int status = spool->scratch != NULL ? store_open(&spool->store) : -ENOMEM;
    if (status == 0) {
        status = message_table_open(&spool->table, &spool->store);
    }
    if (status == 0) {
        status = spool_fetch_open(spool);
    }
    if (status == 0) {
        status = spool_recover(spool);
    }
    if (status != 0) {
        spool_free(spool);
        return status;
    }
    *result = spool;
    return 0;
}

void spool_close(struct spool *spool)
{
    check(spool->draft_count == 0 && spool->pending_first == NULL);
    spool_free(spool);
}
