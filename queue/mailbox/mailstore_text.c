/* Where texts lie in the log, how many entries have them, and who else needs them. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

/* ── The books of segments ───────────────────────────────────────────────────────────────────── */

struct segment_books *segment_books(struct mailstore *store, uint32_t sequence)
{
    struct log_segment_live *live = log_segment_live(store->log, sequence);
    if (live == NULL) {
        return NULL;
    }
    if (live->notes == NULL) {
        live->notes = calloc(1, sizeof(struct segment_books));
    }
    return (struct segment_books *)live->notes;
}

int segments_put(struct mailstore *store)
{
    struct writer *writer = &store->scratch;
    struct key key;
    writer->size = 0;
    for (uint32_t sequence = log_head_sequence(store->log); sequence != 0;
         sequence = log_segment_after(store->log, sequence)) {
        const struct log_segment_live *live = log_segment_live(store->log, sequence);
        const struct segment_books *books = (const struct segment_books *)live->notes;
        if (books != NULL && books->state_bytes > 0) {
            struct segment_row row = {.sequence = sequence, .state_bytes = books->state_bytes};
            write_bytes(writer, &row, sizeof(row));
        }
    }
    if (writer->failed) {
        writer->failed = false;
        return -ENOMEM;
    }
    key_begin(&key, ROW_SEGMENTS);
    return index_put(store->index, key_slice(&key), slice_of(writer->bytes, writer->size));
}

void segments_take(struct mailstore *store, struct slice rows, uint32_t before)
{
    struct segment_row row;
    for (size_t at = 0; at + sizeof(row) <= rows.size; at += sizeof(row)) {
        memcpy(&row, rows.bytes + at, sizeof(row));
        struct segment_books *books =
            row.sequence < before ? segment_books(store, row.sequence) : NULL;
        if (books != NULL) {
            books->state_bytes = row.state_bytes;
        }
    }
}

void live_add(struct mailstore *store, uint64_t lsn, uint64_t bytes)
{
    struct log_segment_live *live = log_segment_live(store->log, log_lsn_sequence(lsn));
    if (live != NULL) {
        live->bytes += bytes;
        store->counters.live_bytes += bytes;
    }
}

void live_take(struct mailstore *store, uint64_t lsn, uint64_t bytes)
{
    struct log_segment_live *live = log_segment_live(store->log, log_lsn_sequence(lsn));
    if (live != NULL) {
        check(live->bytes >= bytes);
        live->bytes -= bytes;
        store->counters.live_bytes -= bytes;
    }
}

/* ── Rows ────────────────────────────────────────────────────────────────────────────────────── */

static void text_key(struct key *key, enum row_kind kind, uint64_t text)
{
    key_begin(key, kind);
    key_u64(key, text);
}

static size_t extents_bytes(uint32_t extent_count)
{
    return sizeof(struct text_row) + extent_count * sizeof(struct text_extent);
}

static size_t row_bytes(const struct text_row *row)
{
    return extents_bytes(row->extent_count) +
           (row->kind == TEXT_FILE ? sizeof(struct text_file) : 0);
}

int text_get(struct mailstore *store, uint64_t text, struct text_row **row)
{
    struct key key;
    struct slice value;
    text_key(&key, ROW_TEXT, text);
    int status = index_get(store->index, key_slice(&key), &value);
    if (status != 0) {
        return status;
    }
    store->scratch.size = 0;
    write_bytes(&store->scratch, value.bytes, value.size);
    if (store->scratch.failed) {
        store->scratch.failed = false;
        return -ENOMEM;
    }
    *row = (struct text_row *)(void *)store->scratch.bytes;
    bool whole = value.size >= sizeof(**row) && value.size == row_bytes(*row);
    return whole ? 0 : -EIO;
}

int text_put(struct mailstore *store, uint64_t text, const struct text_row *row)
{
    struct key key;
    text_key(&key, ROW_TEXT, text);
    return index_put(store->index, key_slice(&key), slice_of(row, row_bytes(row)));
}

int text_make(struct mailstore *store, uint64_t text, uint32_t bytes,
              const struct text_extent *extents, uint32_t count)
{
    struct text_row *row = (struct text_row *)malloc(extents_bytes(count));
    if (row == NULL) {
        return -ENOMEM;
    }
    *row = (struct text_row){.bytes = bytes, .extent_count = count};
    if (count > 0) {
        memcpy(row->extents, extents, count * sizeof(extents[0]));
    }
    int status = text_put(store, text, row);
    free(row);
    return status;
}

struct text_file text_file_of(const struct text_row *row)
{
    struct text_file file;
    check(row->kind == TEXT_FILE && row->extent_count == 0);
    memcpy(&file, row->extents, sizeof(file));
    return file;
}

int text_file_make(struct mailstore *store, uint64_t text, uint32_t bytes,
                   const struct text_file *file)
{
    uint8_t memory[sizeof(struct text_row) + sizeof(*file)] __attribute__((aligned(8))) = {0};
    struct text_row *row = (struct text_row *)(void *)memory;
    row->bytes = bytes;
    row->kind = TEXT_FILE;
    memcpy(row->extents, file, sizeof(*file));
    return text_put(store, text, row);
}

/* ── Being needed ────────────────────────────────────────────────────────────────────────────── */

static struct text_hold **hold_link(struct mailstore *store, uint64_t text)
{
    struct text_hold **link = &store->holds[(text * 0x9e3779b97f4a7c15ull >> 40) % HOLD_BUCKETS];
    while (*link != NULL && (*link)->text != text) {
        link = &(*link)->next;
    }
    return link;
}

bool text_is_held(struct mailstore *store, uint64_t text)
{
    return *hold_link(store, text) != NULL;
}

bool text_hold_take(struct mailstore *store, uint64_t text)
{
    struct text_hold **link = hold_link(store, text);
    if (*link == NULL) {
        *link = (struct text_hold *)calloc(1, sizeof(**link));
        if (*link == NULL) {
            return false;
        }
        (*link)->text = text;
    }
    (*link)->count++;
    return true;
}

static int cache_remove(struct mailstore *store, uint64_t text)
{
    struct key key, found;
    struct index_walk walk;
    text_key(&key, ROW_CACHE, text);
    int status = 0;
    while (status == 0 &&
           index_walk_begin(store->index, &walk, key_slice(&key), slice_of(NULL, 0))) {
        found.size = 0;
        key_text(&found, walk.key);
        index_walk_end(&walk);
        status = index_remove(store->index, key_slice(&found));
    }
    index_walk_end(&walk);
    return status != 0 ? status : walk.status;
}

/* Nobody needs it any more. */
static int text_forget(struct mailstore *store, uint64_t text)
{
    struct text_row *row;
    struct key key;
    int status = text_get(store, text, &row);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    for (uint32_t i = 0; i < row->extent_count; i++) {
        live_take(store, row->extents[i].lsn, row->extents[i].length + EXTENT_COST);
    }
    store->counters.texts_dropped++;
    text_key(&key, ROW_TEXT, text);
    status = index_remove(store->index, key_slice(&key));
    text_key(&key, ROW_UNUSED, text);
    status = status == 0 ? index_remove(store->index, key_slice(&key)) : status;
    return status == 0 ? cache_remove(store, text) : status;
}

void text_hold_drop(struct mailstore *store, uint64_t text)
{
    struct text_hold **link = hold_link(store, text);
    struct text_hold *hold = *link;
    check(hold != NULL && hold->count > 0);
    if (--hold->count > 0) {
        return;
    }
    *link = hold->next;
    free(hold);
    struct text_row *row;
    if (store->copies > 0) {
        store->unused_waits = true;
    } else if (store->sick == 0 && text_get(store, text, &row) == 0 && row->refs == 0) {
        int status = text_forget(store, text);
        store->sick = status != 0 ? status : store->sick;
    }
}

int text_refer(struct mailstore *store, uint64_t text, uint32_t bytes, int change)
{
    struct text_row *row, fresh = {.bytes = bytes};
    struct key key;
    int status = text_get(store, text, &row);
    if (status == -ENOENT && change > 0) { /* its bytes are lost, or were not found yet */
        row = &fresh;
        status = 0;
    }
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    check(change > 0 || row->refs >= (uint32_t)-change);
    uint32_t before = row->refs;
    row->bytes = bytes != 0 ? bytes : row->bytes;
    row->refs = (uint32_t)((int64_t)row->refs + change);
    uint32_t refs = row->refs;
    status = text_put(store, text, row);
    text_key(&key, ROW_UNUSED, text);
    if (status == 0 && before == 0 && refs > 0) {
        struct slice value;
        status = index_get(store->index, key_slice(&key), &value);
        return status == 0 ? index_remove(store->index, key_slice(&key))
                           : (status == -ENOENT ? 0 : status);
    }
    if (status != 0 || refs > 0) {
        return status;
    }
    if (!store->replays && store->copies == 0 && *hold_link(store, text) == NULL) {
        return text_forget(store, text);
    }
    store->unused_waits = true;
    return index_put(store->index, key_slice(&key), slice_of("", 0));
}

/* ── Where they lie ──────────────────────────────────────────────────────────────────────────── */

int text_chunk(struct mailstore *store, uint64_t text, const struct text_extent *extent, bool make)
{
    struct text_row *row;
    struct key key;
    int status = text_get(store, text, &row);
    if (status == -ENOENT && make) {
        text_key(&key, ROW_UNUSED, text);
        status = index_put(store->index, key_slice(&key), slice_of("", 0));
        return status == 0 ? text_make(store, text, 0, extent, 1) : status;
    }
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    row->extent_count++;
    write_bytes(&store->scratch, extent, sizeof(*extent));
    if (store->scratch.failed) {
        store->scratch.failed = false;
        return -ENOMEM;
    }
    return text_put(store, text, (struct text_row *)(void *)store->scratch.bytes);
}

static int by_offset(const void *left, const void *right)
{
    const struct text_extent *a = (const struct text_extent *)left;
    const struct text_extent *b = (const struct text_extent *)right;
    if (a->offset != b->offset) {
        return a->offset < b->offset ? -1 : 1;
    }
    return a->lsn > b->lsn ? -1 : a->lsn < b->lsn;
}

/* Of several that hold the same bytes the one that reaches farthest, then the newest; returns whether any was left off. */
static bool extents_cover(struct text_row *row)
{
    struct text_extent *extents = row->extents;
    uint32_t count = row->extent_count, kept = 0, i = 0;
    uint64_t at = 0;
    if (count > 1) {
        qsort(extents, count, sizeof(extents[0]), by_offset);
    }
    while (i < count) {
        int64_t best = -1;
        uint64_t reach = at;
        uint32_t next = i;
        for (; next < count && extents[next].offset <= at; next++) {
            uint64_t end = (uint64_t)extents[next].offset + extents[next].length;
            if (end > reach ||
                (end == reach && best >= 0 && extents[next].lsn > extents[best].lsn)) {
                reach = end;
                best = next;
            }
        }
        if (best < 0) {
            if (next >= count) {
                break;
            }
            at = extents[next].offset; /* bytes are lost before it */
            i = next;
            continue;
        }
        struct text_extent taken = extents[best];
        extents[kept++] = taken;
        at = reach;
        i = next;
    }
    row->extent_count = kept;
    return kept != count;
}

/* One row; the walk over them has ended when it is changed. */
static int text_settle(struct mailstore *store, uint64_t text)
{
    struct text_row *row;
    int status = text_get(store, text, &row);
    if (status != 0) {
        return status;
    }
    if (row->extent_count > 1 && extents_cover(row)) {
        status = text_put(store, text, row);
    }
    for (uint32_t i = 0; i < row->extent_count; i++) {
        live_add(store, row->extents[i].lsn, row->extents[i].length + EXTENT_COST);
    }
    return status;
}

static int unused_end(struct mailstore *store, void *owner, struct slice key, struct slice value)
{
    uint64_t text = key_read_u64(key, 1);
    (void)owner;
    return *hold_link(store, text) != NULL ? index_put(store->index, key, value)
                                           : text_forget(store, text);
}

int texts_sweep(struct mailstore *store)
{
    struct key prefix;
    if (!store->unused_waits || store->copies > 0) {
        return 0;
    }
    store->unused_waits = false;
    key_begin(&prefix, ROW_UNUSED);
    return rows_remove(store, &prefix, unused_end, NULL);
}

#define SETTLED_EACH 4096u

int texts_settle(struct mailstore *store)
{
    uint64_t *texts = (uint64_t *)malloc(SETTLED_EACH * sizeof(texts[0]));
    struct key from, prefix;
    struct index_walk walk;
    uint32_t count = SETTLED_EACH;
    int status = texts != NULL ? 0 : -ENOMEM;
    key_begin(&prefix, ROW_TEXT);
    from = prefix;
    while (status == 0 && count == SETTLED_EACH) {
        count = 0;
        bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(&from));
        for (; more && count < SETTLED_EACH; more = index_walk_next(&walk)) {
            texts[count++] = key_read_u64(walk.key, 1);
        }
        status = walk.status;
        index_walk_end(&walk);
        for (uint32_t i = 0; i < count && status == 0; i++) {
            status = text_settle(store, texts[i]);
        }
        if (count > 0) {
            text_key(&from, ROW_TEXT, texts[count - 1] + 1);
        }
    }
    free(texts);
    store->unused_waits = true;
    return status == 0 ? texts_sweep(store) : status;
}
