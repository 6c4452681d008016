/*
 * A change on its way:
 *
 *   submitted ──room──► written ──durable──► applied, in steps ──► its waiter is told
 *       └──none yet──► queue ──┘    │           └──the store is sick──► a start will do it: nobody is told
 *                                   └──the write failed──► void on the disk too ──► nothing has happened
 *
 * The queue keeps the order in which they came, and they are applied in it: those behind a large one wait. What is too large for one record is written in parts, as there is
 * room; it counts when the last one is durable, with all before it.
 */
#include "engine/core/crc32c.h"
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define STEP_COSTS_MAX STEP_ENTRIES /* of a round; then the step that was begun is the last */

static bool uses_reserve(const struct change *change)
{
    switch ((enum change_kind)change->head.kind) {
    case CHANGE_FLAGS:
    case CHANGE_EXPUNGE:
    case CHANGE_DELETE:
    case CHANGE_PURGE:
    case CHANGE_USER_DELETE:
    case CHANGE_SNAPSHOT:
    case CHANGE_TAKE:
    case CHANGE_UNKEEP:
        return true;
    case CHANGE_DELIVER:
    case CHANGE_COPY:
    case CHANGE_CREATE:
    case CHANGE_RENAME:
    case CHANGE_SPECIAL_USE:
    case CHANGE_SUBSCRIBE:
    case CHANGE_PROPERTY:
    case CHANGE_PROPERTIES:
    case CHANGE_RESTORE:
        return false;
    }
    return false;
}

/* One of the two segments that are kept back stays for cleaning. */
static uint32_t log_flags_of(const struct change *change)
{
    struct log_space space;
    log_space(change->store->log, &space);
    bool own = change->head.kind == CHANGE_SNAPSHOT;
    bool may = space.ready_bytes > log_settings_of(change->store->log)->segment_bytes;
    return uses_reserve(change) && (own || may) ? LOG_RESERVED : 0;
}

struct change *change_new(struct mailstore *store, enum change_kind kind, void *result,
                          struct mailstore_waiter *told)
{
    struct change *change = (struct change *)calloc(1, sizeof(*change));
    if (change != NULL) {
        list_init(&change->node);
        change->store = store;
        change->head.kind = (uint8_t)kind;
        change->asked.result = result;
        change->asked.told = told;
    }
    return change;
}

void change_user(struct change *change, struct slice name)
{
    check(name.size <= MAILSTORE_USER_BYTES_MAX);
    write_u8(&change->content, (uint8_t)name.size);
    write_bytes(&change->content, name.bytes, name.size);
    change->head.users_bytes = (uint32_t)change->content.size;
}

static void change_free(struct change *change)
{
    if (change->copies) {
        change->store->copies--;
    }
    list_remove(&change->node);
    writer_free(&change->content);
    writer_free(&change->steps.gone);
    free(change->leaving);
    free(change->part_lsns);
    free(change);
}

static void change_end(struct change *change, int status)
{
    struct mailstore *store = change->store;
    struct mailstore_waiter *told = change->asked.told;
    void (*internal)(struct mailstore *, int) = change->internal;
    if (status != 0) {
        store->counters.changes_failed++;
    }
    change_free(change);
    if (internal != NULL) {
        internal(store, status);
    }
    if (told != NULL) {
        told->private = NULL;
        told->done(told, status);
    }
}

/* ── Done ────────────────────────────────────────────────────────────────────────────────────── */

/* Does an entry have the text now? */
static bool draft_lives(struct mailstore *store, const struct mailstore_draft *draft)
{
    struct text_row *row;
    return text_get(store, draft->id, &row) == 0;
}

static int change_apply(struct change *change)
{
    struct mailstore *store = change->store;
    struct change_said said = {.lsn = change->lsn,
                               .as_of = change->head.as_of,
                               .wall_s = change->head.wall_s,
                               .kind = (enum change_kind)change->head.kind,
                               .users = slice_of(change->content.bytes, change->head.users_bytes),
                               .body =
                                   slice_from(slice_of(change->content.bytes, change->content.size),
                                              change->head.users_bytes),
                               .result = change->asked.result,
                               .steps = &change->steps};
    int status = mailstore_apply(store, &said);
    store->midway = status == -EINPROGRESS;
    if (store->sick == 0 && !store->midway) {
        store->applied = change->lsn;
        store->applied_sum = change->sum;
    }
    return status;
}

static void change_over(struct change *change, int status)
{
    struct mailstore *store = change->store;
    if (change->draft != NULL) {
        draft_free(change->draft, draft_lives(store, change->draft));
    }
    if (change->copies) {
        change->copies = false;
        store->copies--;
    }
    if (store->sick == 0 && store->unused_waits) {
        int swept = texts_sweep(store);
        store->sick = swept < 0 ? swept : store->sick;
    }
    change_end(change, status);
}

/* Those that are durable, as many of their steps as a round may take. */
static void changes_apply(struct mailstore *store)
{
    while (!list_empty(&store->durable) && store->step_costs < STEP_COSTS_MAX) {
        struct change *change = list_entry(store->durable.next, struct change, node);
        change->steps.cost = 0;
        store->midway = false;
        int status = store->sick == 0 ? change_apply(change) : 0;
        store->step_costs += change->steps.cost;
        if (store->midway) {
            continue;
        }
        list_remove(&change->node);
        if (store->sick != 0) { /* it is durable, and not done: neither answer would be true */
            list_append(&store->undone, &change->node);
        } else {
            change_over(change, status);
        }
    }
}

static void change_done(struct log_waiter *waiter, int status)
{
    struct change *change = list_entry(waiter, struct change, waiter);
    struct mailstore *store = change->store;
    list_remove(&change->node);
    if (status != 0) {
        change_over(change, status);
        return;
    }
    list_append(&store->durable, &change->node);
    changes_apply(store);
}

/* ── Writing ─────────────────────────────────────────────────────────────────────────────────── */

static int record_append(struct change *change, uint8_t type, struct slice piece, uint64_t *lsn)
{
    struct mailstore *store = change->store;
    struct log_head head = {
        .type = type, .flags = (uint8_t)log_flags_of(change), .tag = change->id};
    struct slice parts[] = {slice_of(&change->head, sizeof(change->head)),
                            slice_of(change->content.bytes, change->head.users_bytes), piece};
    struct log_extent extent;
    int status = log_append(store->log, &head, parts, 3, &extent);
    if (status != 0) {
        return status;
    }
    struct segment_books *books = segment_books(store, log_lsn_sequence(extent.lsn));
    if (books != NULL) {
        books->state_bytes += extent.length + 64;
    }
    change->sum = 0;
    for (int i = 0; i < 3; i++) {
        change->sum = crc32c(change->sum, parts[i].bytes, parts[i].size);
    }
    *lsn = extent.lsn;
    return 0;
}

static int parts_append(struct change *change, size_t most)
{
    while (change->content.size - change->written > most) {
        uint64_t *grown =
            (uint64_t *)realloc(change->part_lsns, (change->part_count + 1) * sizeof(grown[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        change->part_lsns = grown;
        if (change->id == 0) {
            int status = id_make(change->store, &change->id);
            if (status != 0) {
                return status;
            }
        }
        change->head.part = change->part_count;
        int status = record_append(change, RECORD_PART,
                                   slice_of(change->content.bytes + change->written, most),
                                   &grown[change->part_count]);
        if (status != 0) {
            return status;
        }
        change->part_count++;
        change->written += most;
    }
    return 0;
}

static bool parts_are_void(const struct change *change)
{
    for (uint32_t i = 0; i < change->part_count; i++) {
        if (log_is_void(change->store->log, change->part_lsns[i])) {
            return true;
        }
    }
    return false;
}

/* What only the draft knows at the end. */
static int draft_say(struct change *change)
{
    struct mailstore_draft *draft = change->draft;
    if (draft->said) {
        return 0;
    }
    int status = draft_flush(draft, change->content.size + 4096);
    if (status != 0) {
        return status;
    }
    write_u32(&change->content, draft->extent_count);
    write_bytes(&change->content, draft->extents, draft->extent_count * sizeof(draft->extents[0]));
    draft->said = true;
    return change->content.failed ? -ENOMEM : 0;
}

static void text_done(struct log_waiter *waiter, int status)
{
    struct change *change = list_entry(waiter, struct change, waiter);
    list_remove(&change->node);
    if (status != 0) {
        change_over(change, status);
        return;
    }
    change->replaces = false;
    list_append(&change->store->queue, &change->node);
}

/* A commit without its text, which power loss may leave, is taken back by the next start; what it has replaced would
 * not come again. So the text is durable first. */
static int text_await(struct change *change)
{
    list_append(&change->store->flight, &change->node);
    change->waiter.done = text_done;
    log_when_durable(change->store->log, &change->waiter);
    return 0;
}

/* 0: it is on its way; -EAGAIN: go on later; or why it cannot be. */
static int change_write(struct change *change)
{
    struct mailstore *store = change->store;
    /* It may have to be carried one day, with a head before it. */
    size_t most = LOG_RECORD_BYTES_MAX - sizeof(struct carried_head) - sizeof(change->head) -
                  change->head.users_bytes;
    int status = store->sick;
    if (status == 0 && change->draft != NULL) {
        status = draft_say(change);
    }
    if (status != 0) {
        return status;
    }
    if (change->replaces) {
        return text_await(change);
    }
    if (change->written == 0) {
        change->written = change->head.users_bytes;
        change->head.wall_s = (uint32_t)store->wall_s;
    }
    status = parts_append(change, most);
    if (status != 0) {
        return status;
    }
    status =
        log_room(store->log, change->content.size - change->written + 512, log_flags_of(change));
    if (status != 0) {
        return status;
    }
    if (parts_are_void(change) || (change->draft != NULL && draft_is_void(change->draft))) {
        return -EIO;
    }
    change->head.part = change->part_count;
    status = record_append(
        change, RECORD_CHANGE,
        slice_of(change->content.bytes + change->written, change->content.size - change->written),
        &change->lsn);
    if (status != 0) {
        return status;
    }
    list_append(&store->flight, &change->node);
    change->waiter.done = change_done;
    log_when_durable(store->log, &change->waiter);
    return 0;
}

static void change_refuse(struct change *change)
{
    if (change->draft != NULL) {
        draft_free(change->draft, false);
    }
    change_free(change);
}

int change_submit(struct change *change)
{
    struct mailstore *store = change->store;
    int status = change->content.failed ? -ENOMEM : index_is_behind(store) ? -ENOSPC : 0;
    if (status == 0) {
        status = list_empty(&store->queue) ? change_write(change) : -EAGAIN;
    }
    if (status == -EAGAIN) {
        list_append(&store->queue, &change->node);
        status = 0;
    }
    if (status != 0) {
        change_refuse(change);
        return status;
    }
    if (change->asked.told != NULL) {
        change->asked.told->private = &change->asked;
    }
    return 0;
}

unsigned changes_round(struct mailstore *store)
{
    unsigned done = !list_empty(&store->durable);
    changes_apply(store);
    store->step_costs = 0;
    while (!list_empty(&store->queue)) {
        struct change *change = list_entry(store->queue.next, struct change, node);
        list_remove(&change->node);
        int status = change_write(change);
        if (status == -EAGAIN) {
            list_prepend(&store->queue, &change->node);
            return done;
        }
        done++;
        if (status != 0) {
            if (change->draft != NULL) {
                draft_free(change->draft, false);
            }
            change_end(change, status);
        }
    }
    return done;
}

void changes_close(struct mailstore *store)
{
    struct list_node *lists[] = {&store->queue, &store->flight, &store->durable, &store->undone};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (struct list_node *node; (node = list_pop(lists[i])) != NULL;) {
            struct change *change = list_entry(node, struct change, node);
            if (lists[i] == &store->flight) {
                list_remove(&change->waiter.node);
            }
            if (change->draft != NULL) {
                draft_free(change->draft, true);
            }
            change_free(change);
        }
    }
}

void mailstore_waiter_cancel(struct mailstore *store, struct mailstore_waiter *waiter)
{
    struct mailstore_asked *asked = (struct mailstore_asked *)waiter->private;
    (void)store;
    if (asked != NULL) {
        asked->told = NULL;
        asked->result = NULL;
        waiter->private = NULL;
    }
}

uint64_t changes_floor(const struct mailstore *store)
{
    const struct list_node *lists[] = {&store->queue, &store->flight, &store->durable};
    uint64_t floor = store->applied + 1;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (struct list_node *node = lists[i]->next; node != lists[i]; node = node->next) {
            const struct change *change = list_entry(node, struct change, node);
            if (change->part_count > 0 && change->part_lsns[0] < floor) {
                floor = change->part_lsns[0];
            }
        }
    }
    return floor;
}

/* ── Entries that are about to leave ─────────────────────────────────────────────────────────── */

static bool change_takes(const struct change *change, uint64_t box, uint32_t uid)
{
    for (uint32_t i = 0; change->box == box && i < change->leaving_count; i++) {
        if (change->leaving[i].first <= uid && uid <= change->leaving[i].last) {
            return true;
        }
    }
    return false;
}

bool changes_leave(const struct mailstore *store, uint64_t box, uint32_t uid)
{
    const struct list_node *lists[] = {&store->queue, &store->flight, &store->durable};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (struct list_node *node = lists[i]->next; node != lists[i]; node = node->next) {
            if (change_takes(list_entry(node, struct change, node), box, uid)) {
                return true;
            }
        }
    }
    return false;
}
