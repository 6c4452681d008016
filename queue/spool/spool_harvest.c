#include "queue/spool/spool_harvest.h"
#include "engine/core/mutation.h"
#include "queue/spool/spool_private.h"

#define ENTRY_BUCKETS_MIN 4096u

struct harvest_part {
    struct harvest_part *next;
    struct log_extent extent;
    uint8_t bytes[];
};

/* Body records of an id that no valid commit has claimed yet. */
struct harvest_entry {
    struct harvest_entry *next;
    uint64_t id;
    struct log_extent *bodies; /* by LSN */
    uint32_t count, capacity;
    struct harvest_part *parts;
};

/* What the records of a segment say of messages whose commits lie in others. */
struct harvest_segment {
    void *notes; /* struct spool_notes */
    uint32_t sequence;
    uint32_t kept_for; /* as log_segment_live.kept_for */
};

struct spool_harvest {
    struct message_table messages;
    struct harvest_segment *segments; /* by sequence */
    uint32_t segment_count, segment_capacity;
    struct near_node *order; /* of their commits in the log; through body.member */
    /* Those that cannot be given, in the same way: what is noted of them counts for those who read on. */
    struct near_node *broken;
    struct harvest_entry **buckets;
    uint64_t bucket_count, entry_count;
    uint64_t damaged_bytes;
    bool keeps_broken;
    struct spool_store *store;
};

/* ── Entries ─────────────────────────────────────────────────────────────────────────────────── */

static struct harvest_entry **entry_link(struct spool_harvest *harvest, uint64_t id)
{
    uint64_t bucket = (id * 0x9e3779b97f4a7c15ull >> 20) & (harvest->bucket_count - 1);
    struct harvest_entry **link = &harvest->buckets[bucket];
    while (*link != NULL && (*link)->id != id) {
        link = &(*link)->next;
    }
    return link;
}

static void entries_grow(struct spool_harvest *harvest)
{
    uint64_t old_count = harvest->bucket_count;
    struct harvest_entry **old = harvest->buckets;
    struct harvest_entry **grown = (struct harvest_entry **)calloc(old_count * 4, sizeof(grown[0]));
    if (grown == NULL) {
        return; /* the chains become longer */
    }
    harvest->buckets = grown;
    harvest->bucket_count = old_count * 4;
    for (uint64_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct harvest_entry *entry = old[i];
            old[i] = entry->next;
            entry->next = NULL;
            *entry_link(harvest, entry->id) = entry;
        }
    }
    free(old);
}

static struct harvest_entry *entry_get(struct spool_harvest *harvest, uint64_t id)
{
    struct harvest_entry **link = entry_link(harvest, id);
    if (*link != NULL) {
        return *link;
    }
    if (harvest->entry_count >= harvest->bucket_count) {
        entries_grow(harvest);
        link = entry_link(harvest, id);
    }
    struct harvest_entry *entry = (struct harvest_entry *)calloc(1, sizeof(*entry));
    if (entry != NULL) {
        entry->id = id;
        *link = entry;
        harvest->entry_count++;
    }
    return entry;
}

static void entry_drop(struct spool_harvest *harvest, uint64_t id)
{
    struct harvest_entry **link = entry_link(harvest, id);
    struct harvest_entry *entry = *link;
    if (entry == NULL) {
        return;
    }
    *link = entry->next;
    harvest->entry_count--;
    while (entry->parts != NULL) {
        struct harvest_part *part = entry->parts;
        entry->parts = part->next;
        free(part);
    }
    free(entry->bodies);
    free(entry);
}

static int entry_add(struct harvest_entry *entry, const struct log_extent *extent)
{
    if (entry->count == entry->capacity) {
        uint32_t capacity = entry->capacity * 2 + 2;
        struct log_extent *bodies =
            (struct log_extent *)realloc(entry->bodies, capacity * sizeof(bodies[0]));
        if (bodies == NULL) {
            return -ENOMEM;
        }
        entry->bodies = bodies;
        entry->capacity = capacity;
    }
    entry->bodies[entry->count++] = *extent;
    return 0;
}

static int by_lsn(const void *left, const void *right)
{
    const struct log_extent *a = (const struct log_extent *)left;
    const struct log_extent *b = (const struct log_extent *)right;
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

/* ── Notes ───────────────────────────────────────────────────────────────────────────────────── */

/* Of the record's segment. NULL: no memory. */
static struct harvest_segment *segment_get(struct spool_harvest *harvest,
                                           const struct log_record *record)
{
    uint32_t count = harvest->segment_count, sequence = log_lsn_sequence(record->lsn);
    if (count > 0 && harvest->segments[count - 1].sequence == sequence) {
        return &harvest->segments[count - 1];
    }
    if (count == harvest->segment_capacity) {
        uint32_t capacity = count * 2 + 64;
        struct harvest_segment *segments =
            (struct harvest_segment *)realloc(harvest->segments, capacity * sizeof(segments[0]));
        if (segments == NULL) {
            return NULL;
        }
        harvest->segments = segments;
        harvest->segment_capacity = capacity;
    }
    harvest->segments[count] = (struct harvest_segment){.sequence = sequence};
    harvest->segment_count++;
    return &harvest->segments[count];
}

/* The segment says something of all segments up to this one. */
static int segment_keep(struct spool_harvest *harvest, const struct log_record *record,
                        uint32_t kept_for)
{
    struct harvest_segment *segment = segment_get(harvest, record);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->kept_for = segment->kept_for > kept_for ? segment->kept_for : kept_for;
    return 0;
}

/* A record after the commit of a message. */
static int note_found(struct spool_harvest *harvest, const struct log_record *record,
                      const struct spool_message *message, struct spool_note note)
{
    uint32_t sequence = log_lsn_sequence(record->lsn);
    note.id = record->tag;
    note.commit_sequence = log_lsn_sequence(message->commit_lsn);
    if (note.commit_sequence == sequence) {
        return 0;
    }
    struct harvest_segment *segment = segment_get(harvest, record);
    if (segment == NULL) {
        return -ENOMEM;
    }
    if (segment->kept_for != sequence - 1 && notes_add(&segment->notes, &note) != 0) {
        segment->kept_for = sequence - 1;
        free(segment->notes);
        segment->notes = NULL;
    }
    return 0;
}

void spool_harvest_notes(struct spool_harvest *harvest, struct log *log)
{
    for (uint32_t i = 0; i < harvest->segment_count; i++) {
        struct harvest_segment *segment = &harvest->segments[i];
        struct log_segment_live *live = log_segment_live(log, segment->sequence);
        if (live == NULL) {
            continue;
        }
        live->kept_for = live->kept_for > segment->kept_for ? live->kept_for : segment->kept_for;
        live->notes = segment->notes;
        segment->notes = NULL;
    }
}

/* ── Records ─────────────────────────────────────────────────────────────────────────────────── */

static int body_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct log_extent extent = {.lsn = record->lsn, .length = (uint32_t)record->content.size};
    struct harvest_entry *entry = entry_get(harvest, record->tag);
    return entry != NULL ? entry_add(entry, &extent) : -ENOMEM;
}

static int part_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct harvest_entry *entry = entry_get(harvest, record->tag);
    struct harvest_part *part =
        entry != NULL ? (struct harvest_part *)malloc(sizeof(*part) + record->content.size) : NULL;
    if (part == NULL) {
        return -ENOMEM;
    }
    part->extent =
        (struct log_extent){.lsn = record->lsn, .length = (uint32_t)record->content.size};
    memcpy(part->bytes, record->content.bytes, record->content.size);
    part->next = entry->parts;
    entry->parts = part;
    return 0;
}

static int part_look_up(void *owner, const struct log_extent *extent, struct slice *content)
{
    struct harvest_entry *entry = (struct harvest_entry *)owner;
    for (struct harvest_part *part = entry != NULL ? entry->parts : NULL; part != NULL;
         part = part->next) {
        if (part->extent.lsn == extent->lsn && part->extent.length == extent->length) {
            *content = slice_of(part->bytes, extent->length);
            return 0;
        }
    }
    return -EINVAL;
}

/* Are all the bytes there that this commit claims? Those of an earlier commit of the same id are. */
static int message_is_whole(struct spool_harvest *harvest, const struct spool_message *message,
                            const struct spool_message *earlier, bool *whole)
{
    struct extent_list extents, before = {0};
    body_extents(&message->body, &extents);
    if (earlier != NULL) {
        body_extents(&earlier->body, &before);
    }
    struct harvest_entry **link = entry_link(harvest, message->message.id);
    *whole = extents.count == 0;
    if (*whole || (*link == NULL && earlier == NULL)) {
        return 0;
    }
    struct harvest_entry *entry = entry_get(harvest, message->message.id);
    if (entry == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < before.count; i++) {
        struct log_extent extent = {.lsn = before.first[i].lsn, .length = before.first[i].length};
        if (entry_add(entry, &extent) != 0) {
            return -ENOMEM;
        }
    }
    if (earlier != NULL && entry->count > 1) {
        qsort(entry->bodies, entry->count, sizeof(entry->bodies[0]), by_lsn);
    }
    *whole = true;
    for (uint32_t i = 0; i < extents.count && *whole; i++) {
        struct log_extent wanted = {.lsn = extents.first[i].lsn};
        const struct log_extent *found =
            entry->count == 0 ? NULL
                              : (const struct log_extent *)bsearch(
                                    &wanted, entry->bodies, entry->count, sizeof(wanted), by_lsn);
        *whole = found != NULL && found->length == extents.first[i].length;
        *whole |= MUTATED(BODY_INCOMPLETE);
    }
    return 0;
}

static void message_discard(struct spool_message *message)
{
    near_list_remove(&message->body.member);
    message_free(message);
}

/* What the earlier commit of the same id and the records after it have said goes on to count. */
static void message_inherit(struct message *message, const struct message *earlier)
{
    for (uint32_t i = 0; i < message->recipient_count && i < earlier->recipient_count; i++) {
        message_recipient_reached(message, i, message_recipient_state(earlier, i));
        if (message_warned(earlier, i)) {
            message_mark_warned(message, i);
        }
    }
    if (earlier->attempts > message->attempts) {
        message_attempted(message, earlier->attempts, earlier->last_attempt_wall_s);
    }
}

static int commit_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct spool_message *message;
    struct commit_source source = {
        .id = record->tag,
        .record = {.lsn = record->lsn, .length = (uint32_t)record->content.size},
        .content = record->content,
        .part = part_look_up,
        .owner = *entry_link(harvest, record->tag),
        .store = harvest->store};
    int result = commit_read(&source, &message);
    if (result != 0) {
        return result == -ENOMEM ? result : 0;
    }
    struct spool_message *earlier = message_table_find(&harvest->messages, record->tag);
    bool whole;
    bool earlier_is_broken = earlier != NULL && earlier->body.is_broken;
    result = message_is_whole(harvest, message, earlier_is_broken ? NULL : earlier, &whole);
    if (result != 0 || (!whole && earlier != NULL)) {
        message_discard(message);
        return result;
    }
    message->body.is_broken = !whole;
    if (whole || harvest->keeps_broken) {
        entry_drop(harvest, record->tag);
    }
    if (earlier != NULL) {
        result = segment_keep(harvest, record, log_lsn_sequence(earlier->commit_lsn));
        message_inherit(&message->message, &earlier->message);
        message_table_remove(&harvest->messages, earlier);
        message_discard(earlier);
    }
    if (message->message.waiting_count > 0) {
        message_table_add(&harvest->messages, message);
        near_list_append(whole || harvest->keeps_broken ? harvest->order : harvest->broken,
                         &message->body.member);
    } else {
        message_discard(message);
    }
    return result;
}

static int status_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct spool_message *message = message_table_find(&harvest->messages, record->tag);
    struct spool_status status;
    if (message == NULL || record->content.size != sizeof(status)) {
        return 0;
    }
    memcpy(&status, record->content.bytes, sizeof(status));
    if (status.index >= message->message.recipient_count || status.state > RECIPIENT_STATE_LAST) {
        return 0;
    }
    int result = note_found(
        harvest, record, message,
        (struct spool_note){.kind = NOTE_STATUS, .state = status.state, .number = status.index});
    message_recipient_reached(&message->message, status.index, (enum recipient_state)status.state);
    if (message->message.waiting_count == 0) {
        message_table_remove(&harvest->messages, message);
        message_discard(message);
    }
    return result;
}

static int attempt_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct spool_message *message = message_table_find(&harvest->messages, record->tag);
    struct spool_attempt attempt;
    if (message == NULL || record->content.size != sizeof(attempt)) {
        return 0;
    }
    memcpy(&attempt, record->content.bytes, sizeof(attempt));
    if (attempt.attempts > message->message.attempts) {
        message_attempted(&message->message, attempt.attempts, (uint32_t)attempt.wall_s);
    }
    return note_found(harvest, record, message,
                      (struct spool_note){.kind = NOTE_ATTEMPT,
                                          .number = attempt.attempts < MESSAGE_ATTEMPTS_MAX
                                                        ? attempt.attempts
                                                        : MESSAGE_ATTEMPTS_MAX});
}

static int hold_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct spool_message *message = message_table_find(&harvest->messages, record->tag);
    struct spool_hold hold;
    if (message == NULL || record->content.size != sizeof(hold)) {
        return 0;
    }
    memcpy(&hold, record->content.bytes, sizeof(hold));
    uint32_t flags = message_flags_all(&message->message) & ~(uint32_t)SPOOL_HELD;
    message_flags_set(&message->message, flags | (hold.held & SPOOL_HELD));
    return note_found(harvest, record, message, (struct spool_note){.kind = NOTE_HOLD});
}

static int warned_found(struct spool_harvest *harvest, const struct log_record *record)
{
    struct spool_message *message = message_table_find(&harvest->messages, record->tag);
    struct spool_warned warned;
    if (message == NULL || record->content.size != sizeof(warned)) {
        return 0;
    }
    memcpy(&warned, record->content.bytes, sizeof(warned));
    if (warned.index >= message->message.recipient_count) {
        return 0;
    }
    message_mark_warned(&message->message, warned.index);
    return note_found(harvest, record, message,
                      (struct spool_note){.kind = NOTE_WARNED, .number = warned.index});
}

int spool_harvest_record(void *owner, const struct log_record *record)
{
    struct spool_harvest *harvest = (struct spool_harvest *)owner;
    switch (record->type) {
    case SPOOL_BODY:
        return body_found(harvest, record);
    case SPOOL_PART:
        return part_found(harvest, record);
    case SPOOL_COMMIT:
        return commit_found(harvest, record);
    case SPOOL_STATUS:
        return status_found(harvest, record);
    case SPOOL_ATTEMPT:
        return attempt_found(harvest, record);
    case SPOOL_HOLD:
        return hold_found(harvest, record);
    case SPOOL_WARNED:
        return warned_found(harvest, record);
    default: /* of a later version: nothing that makes a message, but it may say something of one */
        return segment_keep(harvest, record, log_lsn_sequence(record->lsn) - 1);
    }
}

void spool_harvest_keep_broken(struct spool_harvest *harvest)
{
    harvest->keeps_broken = true;
}

void spool_harvest_orphans(const struct spool_harvest *harvest, uint64_t *count, uint64_t *bytes)
{
    *count = *bytes = 0;
    for (uint64_t i = 0; i < harvest->bucket_count; i++) {
        for (const struct harvest_entry *entry = harvest->buckets[i]; entry != NULL;
             entry = entry->next) {
            ++*count;
            for (uint32_t body = 0; body < entry->count; body++) {
                *bytes += entry->bodies[body].length;
            }
        }
    }
}

void spool_harvest_damaged(void *owner, uint64_t lsn, uint64_t bytes)
{
    (void)lsn;
    ((struct spool_harvest *)owner)->damaged_bytes += bytes;
}

/* ── Open, give, close ───────────────────────────────────────────────────────────────────────── */

int spool_harvest_open(struct spool_harvest **result, struct spool_store *store)
{
    struct spool_harvest *harvest = (struct spool_harvest *)calloc(1, sizeof(*harvest));
    if (harvest == NULL) {
        return -ENOMEM;
    }
    harvest->store = store;
    harvest->bucket_count = ENTRY_BUCKETS_MIN;
    harvest->buckets =
        (struct harvest_entry **)calloc(ENTRY_BUCKETS_MIN, sizeof(harvest->buckets[0]));
    harvest->order = (struct near_node *)near_take(&store->heap, sizeof(*harvest->order));
    harvest->broken = (struct near_node *)near_take(&store->heap, sizeof(*harvest->broken));
    if (harvest->buckets == NULL || harvest->order == NULL || harvest->broken == NULL ||
        message_table_open(&harvest->messages, store) != 0) {
        near_give(&store->heap, harvest->order);
        near_give(&store->heap, harvest->broken);
        free(harvest->buckets);
        free(harvest);
        return -ENOMEM;
    }
    near_list_init(harvest->order);
    near_list_init(harvest->broken);
    *result = harvest;
    return 0;
}

/* What decides lies in the list that is sorted, since a look at each of millions of messages costs. */
struct arrival {
    uint64_t id;
    uint32_t wall_s;
    uint32_t message; /* a link */
};

static int by_arrival(const void *left, const void *right)
{
    const struct arrival *a = (const struct arrival *)left;
    const struct arrival *b = (const struct arrival *)right;
    if (a->wall_s != b->wall_s) {
        return a->wall_s < b->wall_s ? -1 : 1;
    }
    return a->id < b->id ? -1 : a->id > b->id;
}

/* The log has nearly this order: what was copied forward is out of it. */
static struct arrival *arrivals_sort(struct spool_harvest *harvest)
{
    uint64_t count = 0;
    bool sorted = true;
    struct arrival *arrivals =
        (struct arrival *)malloc((harvest->messages.count + 1) * sizeof(arrivals[0]));
    for (; arrivals != NULL && !near_list_empty(harvest->order); count++) {
        struct near_node *node = near_next(harvest->order);
        near_list_remove(node);
        struct spool_body *body = list_entry(node, struct spool_body, member);
        struct spool_message *message = list_entry(body, struct spool_message, body);
        arrivals[count] = (struct arrival){.id = message->message.id,
                                           .wall_s = message->message.arrival_s,
                                           .message = near_link(message)};
        sorted = sorted && (count == 0 || by_arrival(&arrivals[count - 1], &arrivals[count]) < 0);
    }
    check(arrivals == NULL || count == harvest->messages.count);
    if (arrivals != NULL && !sorted) {
        qsort(arrivals, count, sizeof(arrivals[0]), by_arrival);
    }
    return arrivals;
}

int spool_harvest_each(struct spool_harvest *harvest, struct message_table *table,
                       void (*take)(void *owner, struct spool_message *message), void *owner)
{
    while (!near_list_empty(harvest->broken)) {
        struct spool_body *body = list_entry(near_next(harvest->broken), struct spool_body, member);
        struct spool_message *message = list_entry(body, struct spool_message, body);
        message_table_remove(&harvest->messages, message);
        message_discard(message);
    }
    uint64_t count = harvest->messages.count;
    struct arrival *arrivals = arrivals_sort(harvest);
    if (arrivals == NULL) {
        return -ENOMEM;
    }
    if (table != NULL) {
        struct message_table empty = *table;
        *table = harvest->messages;
        harvest->messages = empty;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct spool_message *message =
            (struct spool_message *)near_at(harvest->store->heap.base, arrivals[i].message);
        if (table == NULL) {
            message_table_remove(&harvest->messages, message);
        }
        take(owner, message);
    }
    free(arrivals);
    return 0;
}

static void discard_one(void *owner, struct spool_message *message)
{
    (void)owner;
    message_discard(message);
}

void spool_harvest_close(struct spool_harvest *harvest)
{
    for (uint64_t i = 0; i < harvest->bucket_count; i++) {
        while (harvest->buckets[i] != NULL) {
            entry_drop(harvest, harvest->buckets[i]->id);
        }
    }
    for (uint32_t i = 0; i < harvest->segment_count; i++) {
        free(harvest->segments[i].notes);
    }
    free(harvest->segments);
    free(harvest->buckets);
    message_table_each(&harvest->messages, discard_one, NULL);
    message_table_close(&harvest->messages);
    near_give(&harvest->store->heap, harvest->order);
    near_give(&harvest->store->heap, harvest->broken);
    free(harvest);
}
