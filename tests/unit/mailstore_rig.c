#include "tests/unit/mailstore_rig.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void mailstore_rig_open(struct mailstore_rig *rig, uint64_t seed)
{
    *rig = (struct mailstore_rig){.random = seed * 2 + 1, .wall_s = 1700000000};
    log_rig_open(&rig->rig, seed);
    snprintf(rig->folder, sizeof(rig->folder), "/tmp/tubepost-mailstore-XXXXXX");
    check(mkdtemp(rig->folder) != NULL);
    snprintf(rig->index, sizeof(rig->index), "%s/index", rig->folder);
    rig->settings = (struct mailstore_settings){.index_path = rig->index,
                                                .driven = true,
                                                .index_unsafe = true,
                                                .index_bytes_max = 64u << 20,
                                                .index_changes_max = 200,
                                                .fetch_memory_bytes = 1u << 20,
                                                .box_idle_max = 4};
}

void mailstore_rig_forget_index(struct mailstore_rig *rig)
{
    unlink(rig->index);
}

void mailstore_rig_remove(const struct mailstore_rig *rig)
{
    char name[128];
    static const char *const ends[] = {"", "-lock", ".owner"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", rig->index, ends[i]);
        unlink(name);
    }
    rmdir(rig->folder);
}

void mailstore_rig_close(struct mailstore_rig *rig)
{
    if (rig->store != NULL) {
        mailstore_rig_crash(rig);
    }
    log_rig_close(&rig->rig);
    mailstore_rig_remove(rig);
}

int mailstore_rig_start(struct mailstore_rig *rig)
{
    int status = log_open(&rig->rig.log, &rig->rig.settings);
    if (status != 0) {
        rig->rig.log = NULL;
        return status;
    }
    rig->settings.wall_s = rig->wall_s;
    /* What is borrowed for the call is something else behind it. */
    struct mailstore_settings settings = rig->settings;
    char path[sizeof(rig->index)];
    settings.index_path = strcpy(path, rig->index);
    status = mailstore_open(&rig->store, rig->rig.log, &settings);
    memset(path, 'x', sizeof(path) - 1);
    return status;
}

void mailstore_rig_round(struct mailstore_rig *rig)
{
    rig->rig.now_ns += 1000000;
    rig->rig.disk->ops->reap(rig->rig.disk);
    log_round(rig->rig.log, rig->rig.now_ns);
    mailstore_round(rig->store, rig->wall_s);
    log_flush(rig->rig.log);
    rig->rig.disk->ops->submit(rig->rig.disk);
    if (rig->real != NULL) {
        usleep(200);
    }
}

void mailstore_rig_settle(struct mailstore_rig *rig)
{
    for (int round = 0; round < 20000; round++) {
        mailstore_rig_round(rig);
        if (mailstore_is_quiet(rig->store) && log_is_quiet(rig->rig.log) &&
            disk_fault_pending(rig->rig.fault) == 0) {
            return;
        }
    }
    check(!"the store never came to rest");
}

void mailstore_rig_stop(struct mailstore_rig *rig)
{
    mailstore_rest(rig->store);
    mailstore_rig_settle(rig);
    mailstore_close(rig->store);
    rig->store = NULL;
    log_close(rig->rig.log);
    rig->rig.log = NULL;
}

/* What is on its way dies with the process: nobody is told. */
static void changes_die(struct mailstore *store)
{
    changes_close(store);
    for (struct list_node *node; (node = list_pop(&store->drafts)) != NULL;) {
        struct mailstore_draft *draft = list_entry(node, struct mailstore_draft, node);
        free(draft->extents);
        free(draft);
    }
}

void mailstore_rig_crash(struct mailstore_rig *rig)
{
    struct mailstore *store = rig->store;
    changes_die(store);
    store->sick = -EIO; /* so that the index is left as it is */
    mailstore_close(store);
    rig->store = NULL;
    log_rig_crash(&rig->rig);
}

uint32_t mailstore_rig_below(struct mailstore_rig *rig, uint32_t limit)
{
    rig->random ^= rig->random << 13;
    rig->random ^= rig->random >> 7;
    rig->random ^= rig->random << 17;
    return (uint32_t)((rig->random >> 11) % limit);
}

static void told_done(struct mailstore_waiter *waiter, int status)
{
    struct told *told = list_entry(waiter, struct told, waiter);
    check(!told->done);
    told->done = true;
    told->status = status;
}

struct mailstore_waiter *told_init(struct told *told)
{
    *told = (struct told){.waiter.done = told_done};
    return &told->waiter;
}

int told_wait(struct mailstore_rig *rig, struct told *told)
{
    for (int round = 0; round < 20000 && !told->done; round++) {
        mailstore_rig_round(rig);
    }
    check(told->done);
    return told->status;
}

void text_fill(uint64_t seed, uint32_t offset, uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        uint64_t at = (seed + 1) * 0x9e3779b97f4a7c15ull + (offset + i) * 0x2545f4914f6cdd1dull;
        to[i] = (uint8_t)(at >> 33);
    }
}

static int draft_fill(struct mailstore_rig *rig, struct mailstore_draft *draft, uint64_t seed,
                      uint32_t bytes)
{
    static uint8_t memory[65536];
    for (uint32_t at = 0; at < bytes;) {
        uint32_t size = bytes - at < sizeof(memory) ? bytes - at : sizeof(memory);
        struct slice part = slice_of(memory, size);
        text_fill(seed, at, memory, size);
        int status = mailstore_append(draft, &part, 1);
        if (status == -EAGAIN) {
            mailstore_rig_round(rig);
            continue;
        }
        if (status != 0) {
            return status;
        }
        at += size;
    }
    return 0;
}

int rig_deliver(struct mailstore_rig *rig, const char *user, const char *mailbox, uint64_t seed,
                uint32_t bytes, struct mailstore_place *place)
{
    struct mailstore_draft *draft;
    struct told told;
    int status = -EAGAIN;
    for (int round = 0; round < 20000 && status == -EAGAIN; round++) {
        status = mailstore_begin(rig->store, &draft);
        if (status == -EAGAIN) {
            mailstore_rig_round(rig);
        }
    }
    if (status != 0) {
        return status;
    }
    status = draft_fill(rig, draft, seed, bytes);
    if (status != 0) {
        mailstore_abort(draft);
        return status;
    }
    place->user = slice_text(user);
    place->mailbox = slice_text(mailbox);
    status = mailstore_commit(draft, 0, place, 1, told_init(&told));
    status = status == 0 ? told_wait(rig, &told) : status;
    return status == 0 ? place->status : status;
}

static void fetched(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

bool rig_text_is(struct mailstore_rig *rig, uint64_t id, uint64_t seed, uint32_t bytes)
{
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = fetched};
    if (mailstore_text_open(rig->store, id, &text) != 0 || text.bytes != bytes) {
        return false;
    }
    uint8_t *expected = (uint8_t *)malloc(bytes + 1);
    bool same = true;
    text_fill(seed, 0, expected, bytes);
    for (uint32_t at = 0; at < bytes && same;) {
        struct slice part;
        struct ref *owner;
        int status = mailstore_read(rig->store, &text, at, &part, &owner, &fetch);
        if (status == -EINPROGRESS || status == -EAGAIN) {
            mailstore_rig_round(rig);
            continue;
        }
        same = status == 0 && part.size > 0 && part.size <= bytes - at &&
               memcmp(part.bytes, expected + at, part.size) == 0;
        if (status == 0) {
            at += (uint32_t)part.size;
            ref_drop(owner);
        }
    }
    free(expected);
    mailstore_text_close(rig->store, &text);
    return same;
}

/* What differs between a state and the same one that was built again: where texts lie, and books of records. */
static void row_dump(FILE *to, struct slice key, struct slice value)
{
    size_t from = 0, until = value.size;
    if (key.bytes[0] == ROW_CACHE || key.bytes[0] == ROW_HEADER || key.bytes[0] == ROW_SEGMENTS) {
        return;
    }
    if (key.bytes[0] == ROW_TEXT) {
        until = 2 * sizeof(uint32_t); /* refs, bytes */
    }
    if (key.bytes[0] == ROW_USER) {
        from = 5 * sizeof(uint64_t); /* id, and what is known by snapshots */
    }
    fprintf(to, "%c", key.bytes[0]);
    for (size_t i = 1; i < key.size; i++) {
        fprintf(to, "%02x", key.bytes[i]);
    }
    fprintf(to, "=");
    for (size_t i = from; i < until; i++) {
        fprintf(to, "%02x", value.bytes[i]);
    }
    fprintf(to, "\n");
}

char *rig_dump(struct mailstore_rig *rig)
{
    struct index_walk walk;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    check(users_flush(rig->store) == 0);
    bool more = index_walk_begin(rig->store->index, &walk, slice_of("", 0), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        row_dump(to, walk.key, walk.value);
    }
    index_walk_end(&walk);
    fclose(to);
    return text;
}
