/* Receiving a text, as chunks in the log. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define ROOM_TO_BEGIN_BYTES (16u * 1024)

/* Unique in this store for ever: shard, a sequence that no later start uses again, and a count. */
int id_make(struct mailstore *store, uint64_t *id)
{
    uint32_t sequence = log_promised_sequence(store->log);
    if (sequence == store->id_sequence && store->id_count >= 1u << 24) {
        int status = log_seal(store->log);
        sequence = log_promised_sequence(store->log);
        if (status != 0 || sequence == store->id_sequence) {
            return status != 0 ? status : -EAGAIN;
        }
    }
    if (sequence == 0) {
        int status = log_room(store->log, 0, 0);
        return status != 0 ? status : -EAGAIN;
    }
    if (sequence != store->id_sequence) {
        store->id_sequence = sequence;
        store->id_count = 0;
    }
    uint64_t shard = log_settings_of(store->log)->shard;
    *id = shard << 56 | (uint64_t)sequence << 24 | store->id_count++;
    return 0;
}

int mailstore_begin(struct mailstore *store, struct mailstore_draft **result)
{
    if (store->sick != 0) {
        return store->sick;
    }
    if (store->draft_count >= store->settings.draft_count_max) {
        return -EAGAIN;
    }
    int status = log_room(store->log, ROOM_TO_BEGIN_BYTES, 0);
    uint64_t id;
    status = status == 0 || status == -EAGAIN ? id_make(store, &id) : status;
    if (status != 0) {
        return status;
    }
    struct mailstore_draft *draft = (struct mailstore_draft *)malloc(sizeof(*draft));
    if (draft == NULL) {
        return -ENOMEM;
    }
    memset(draft, 0, offsetof(struct mailstore_draft, stage));
    draft->store = store;
    draft->id = id;
    draft->failures = log_counters(store->log)->write_failures;
    list_append(&store->drafts, &draft->node);
    store->counters.drafts = ++store->draft_count;
    status = store->files != NULL ? staged_begin(draft) : 0;
    if (status != 0) {
        draft_free(draft, false);
        return status;
    }
    *result = draft;
    return 0;
}

uint64_t mailstore_draft_id(const struct mailstore_draft *draft)
{
    return draft->id;
}

uint64_t mailstore_draft_bytes(const struct mailstore_draft *draft)
{
    return (uint64_t)draft->bytes + draft->staged;
}

/* lives: its bytes are those of a text now. */
void draft_free(struct mailstore_draft *draft, bool lives)
{
    struct mailstore *store = draft->store;
    if (draft->file != NULL) {
        staged_abort(draft->file);
    }
    for (uint32_t i = 0; i < draft->extent_count; i++) {
        const struct text_extent *extent = &draft->extents[i];
        struct segment_books *books = segment_books(store, log_lsn_sequence(extent->lsn));
        if (books != NULL) {
            check(books->drafts > 0);
            books->drafts--;
        }
        if (!lives) {
            live_take(store, extent->lsn, extent->length + EXTENT_COST);
        }
    }
    list_remove(&draft->node);
    store->counters.drafts = --store->draft_count;
    free(draft->extents);
    free(draft);
}

void mailstore_abort(struct mailstore_draft *draft)
{
    draft_free(draft, false);
}

bool draft_is_void(const struct mailstore_draft *draft)
{
    const struct log *log = draft->store->log;
    if (log_counters(log)->write_failures == draft->failures) {
        return false;
    }
    for (uint32_t i = 0; i < draft->extent_count; i++) {
        if (log_is_void(log, draft->extents[i].lsn)) {
            return true;
        }
    }
    return false;
}

/* ── Chunks ──────────────────────────────────────────────────────────────────────────────────── */

static int extents_room(struct mailstore_draft *draft, uint32_t more)
{
    if (draft->extent_count + more <= draft->extent_room) {
        return 0;
    }
    uint32_t room = (draft->extent_count + more) * 2;
    struct text_extent *grown =
        (struct text_extent *)realloc(draft->extents, room * sizeof(grown[0]));
    if (grown == NULL) {
        return -ENOMEM;
    }
    draft->extents = grown;
    draft->extent_room = room;
    return 0;
}

static struct log_extent last_record(const struct mailstore_draft *draft)
{
    if (draft->extent_count == 0) {
        return (struct log_extent){0};
    }
    const struct text_extent *last = &draft->extents[draft->extent_count - 1];
    return (struct log_extent){.lsn = last->lsn,
                               .length = last->length + (uint32_t)sizeof(struct chunk_head)};
}

static bool grows(const struct mailstore_draft *draft)
{
    struct log_extent last = last_record(draft);
    return draft->extent_count > 0 && log_is_growing(draft->store->log, &last);
}

/* There is room for it, there and here. */
static void chunk_append(struct mailstore_draft *draft, struct slice part)
{
    struct mailstore *store = draft->store;
    struct log_head head = {.type = RECORD_CHUNK, .flags = LOG_BODY, .tag = draft->id};
    while (part.size > 0) {
        struct chunk_head begin = {.offset = draft->bytes};
        struct slice parts[] = {slice_of(&begin, sizeof(begin)), part};
        struct log_extent last = last_record(draft), extent;
        bool growing = grows(draft);
        uint32_t added = growing ? log_append_body(store->log, &head, &part, 1, 0, &last, &extent)
                                 : log_append_body(store->log, &head, parts, 2, 0, NULL, &extent);
        if (growing && extent.lsn == last.lsn) {
            draft->extents[draft->extent_count - 1].length += added;
            live_add(store, extent.lsn, added);
        } else {
            check(!growing && added > sizeof(begin));
            added -= (uint32_t)sizeof(begin);
            draft->extents[draft->extent_count++] =
                (struct text_extent){.lsn = extent.lsn, .length = added, .offset = draft->bytes};
            live_add(store, extent.lsn, added + EXTENT_COST);
            struct segment_books *books = segment_books(store, log_lsn_sequence(extent.lsn));
            if (books != NULL) {
                books->drafts++;
            }
        }
        draft->bytes += added;
        part = slice_from(part, added);
    }
}

/* Room in the log and here for so much, what is staged too. */
static int room_make(struct mailstore_draft *draft, size_t bytes)
{
    size_t all = draft->staged + bytes;
    int status = log_room(draft->store->log, all + 256, 0);
    return status == 0 ? extents_room(draft, 8 + 2 * (uint32_t)(all / LOG_RECORD_BYTES_MAX))
                       : status;
}

static void stage_append(struct mailstore_draft *draft)
{
    uint32_t staged = draft->staged;
    draft->staged = 0;
    chunk_append(draft, slice_of(draft->stage, staged));
}

int draft_flush(struct mailstore_draft *draft, size_t more)
{
    size_t most = LOG_BODY_BYTES_MAX - 2 * sizeof(draft->stage);
    int status = room_make(draft, more < most ? more : most);
    if (status == 0 && draft->staged > 0) {
        stage_append(draft);
    }
    return status;
}

int mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += parts[i].size;
    }
    if (size > MAILSTORE_APPEND_BYTES_MAX ||
        mailstore_draft_bytes(draft) + size > draft->store->settings.text_bytes_max) {
        return -EFBIG;
    }
    if (draft->file != NULL) {
        return staged_append(draft, parts, count);
    }
    bool stages =
        draft->staged + size <= sizeof(draft->stage) && (draft->staged > 0 || !grows(draft));
    if (!stages) {
        int status = room_make(draft, size);
        if (status != 0) {
            return status;
        }
        stage_append(draft);
    }
    for (size_t i = 0; i < count; i++) {
        if (!stages) {
            chunk_append(draft, parts[i]);
        } else if (parts[i].size > 0) {
            memcpy(draft->stage + draft->staged, parts[i].bytes, parts[i].size);
            draft->staged += (uint32_t)parts[i].size;
        }
    }
    draft->store->counters.bytes_in += size;
    return 0;
}

/* ── Committing ──────────────────────────────────────────────────────────────────────────────── */

static void place_say(struct change *change, const struct mailstore_place *place, uint32_t user)
{
    struct writer *writer = &change->content;
    bool replaces = place->replaces != NULL;
    write_u16(writer, (uint16_t)user);
    uint32_t said = place->options & ~(PLACE_REPLACES | MAILSTORE_NO_UID);
    write_u32(writer, said | (replaces ? PLACE_REPLACES : 0));
    write_u8(writer, place->flags);
    write_u16(writer, (uint16_t)place->zone_min);
    write_u32(writer, place->internal_s);
    write_u64(writer, place->quota_bytes);
    write_u64(writer, place->quota_messages);
    name_write(writer, place->mailbox);
    write_u16(writer, (uint16_t)place->keyword_count);
    for (uint32_t i = 0; i < place->keyword_count; i++) {
        write_text(writer, place->keywords[i]);
    }
    if (replaces) {
        write_u64(writer, place->replaces->id);
        write_u32(writer, place->replaces_uid);
        write_u8(writer, change->store->settings.keep_expunged_s > 0);
    }
}

/* Who would copy or move what it replaces must know that it leaves. Of one place: only a session replaces. */
static void leaving_say(struct change *change, const struct mailstore_place *place)
{
    if (place->replaces == NULL) {
        return;
    }
    change->replaces = true;
    change->leaving = (struct mailstore_uids *)malloc(sizeof(change->leaving[0]));
    if (change->leaving == NULL) {
        change->content.failed = true;
        return;
    }
    change->leaving[0] = (struct mailstore_uids){place->replaces_uid, place->replaces_uid};
    change->leaving_count = 1;
    change->box = place->replaces->id;
}

static bool place_is_good(const struct mailstore_place *place)
{
    bool good = place->user.size > 0 && place->user.size <= MAILSTORE_USER_BYTES_MAX &&
                memchr(place->user.bytes, 0, place->user.size) == NULL &&
                place->mailbox.size <= MAILSTORE_NAME_BYTES_MAX &&
                place->keyword_count <= UINT16_MAX && place->zone_min > -2048 &&
                place->zone_min < 2048;
    for (uint32_t i = 0; good && i < place->keyword_count; i++) {
        good = place->keywords[i].size <= UINT16_MAX;
    }
    return good;
}

/* One after the other with the same user share its name. */
static void users_say(struct change *change, const struct mailstore_place *places, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || !slice_equal(places[i].user, places[i - 1].user)) {
            change_user(change, places[i].user);
        }
    }
}

int mailstore_commit(struct mailstore_draft *draft, uint64_t thread, struct mailstore_place *places,
                     uint32_t count, struct mailstore_waiter *waiter)
{
    struct mailstore *store = draft->store;
    bool good = count > 0 && count <= MAILSTORE_PLACES_MAX;
    for (uint32_t i = 0; i < count && good; i++) {
        good = place_is_good(&places[i]) && (places[i].replaces == NULL || count == 1);
        places[i].status = -EIO;
    }
    if (good && store->files != NULL) {
        bool alone = count == 1 && (places[0].options & MAILSTORE_NO_UID) == 0;
        return alone ? files_commit(draft, places, waiter)
                     : files_deliver(draft, places, count, waiter);
    }
    struct change *change = good ? change_new(store, CHANGE_DELIVER, places, waiter) : NULL;
    if (change == NULL) {
        draft_free(draft, false);
        return good ? -ENOMEM : -EINVAL;
    }
    users_say(change, places, count);
    if (change->head.users_bytes >
        LOG_RECORD_BYTES_MAX / 2) { /* each record of it names them all */
        change->draft = draft;
        change->content.failed = true;
        change_submit(change);
        return -E2BIG;
    }
    write_u64(&change->content, draft->id);
    write_u64(&change->content, thread != 0 ? thread : draft->id);
    write_u32(&change->content, (uint32_t)mailstore_draft_bytes(draft));
    write_u32(&change->content, count);
    for (uint32_t i = 0, user = 0; i < count; i++) {
        user += i > 0 && !slice_equal(places[i].user, places[i - 1].user);
        place_say(change, &places[i], user);
    }
    leaving_say(change, &places[0]);
    change->draft = draft;
    store->counters.texts_committed++;
    return change_submit(change);
}
