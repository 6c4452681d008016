/* What the thread of a search_desk does: it has the indexes, and nobody else opens them. */
#include "engine/core/check.h"
#include "engine/core/crc32c.h"
#include "engine/mailbox/search_private.h"
#include "proto/message/header.h"
#include "proto/message/searchable.h"
#include <dirent.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <unitypes.h>
#include <unistring/version.h>

#define PATH_BYTES 4096u
#define STAMP "stamp"
#define ADDED_BYTES (4u * 1024 * 1024) /* of mapped text, in one transaction */
#define DROPPED_MANY 1000u             /* in one transaction */

/* ---- Files ---- */

static bool path_make(const struct search_thread *thread, const char *name, char path[PATH_BYTES])
{
    return (size_t)snprintf(path, PATH_BYTES, "%s/%s", thread->folder, name) < PATH_BYTES;
}

/* "0123456789abcdef", and what SQLite has beside it. 0: none of ours. */
static uint64_t user_of_file(const char *name)
{
    uint64_t user = 0;
    for (unsigned i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, name[i]);
        if (name[i] == '\0' || digit == NULL) {
            return 0;
        }
        user = user << 4 | (uint64_t)(digit - digits);
    }
    return name[16] == '\0' || name[16] == '-' ? user : 0;
}

static void index_files_remove(const struct search_thread *thread, uint64_t user)
{
    static const char *const beside[] = {"", "-journal", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        char name[32], path[PATH_BYTES];
        snprintf(name, sizeof(name), "%016llx%s", (unsigned long long)user, beside[i]);
        if (path_make(thread, name, path)) {
            unlink(path);
        }
    }
}

/* ---- The stamp ---- */

/* Ids of texts are given by the log. When it is another one, or is what it was some time ago (out of a backup), ids may
 * stand for other texts than those that an index knows. So the stamp names the log, and a change of it that is not
 * older than any text in an index: it is on the disk before they are. */
static bool stamp_is_good(struct search_thread *thread, uint64_t applied)
{
    unsigned long long log_id = 0, stamped = 0;
    char path[PATH_BYTES];
    FILE *file = path_make(thread, STAMP, path) ? fopen(path, "re") : NULL;
    if (file == NULL) {
        return false;
    }
    bool good = fscanf(file, "%16llx %16llx", &log_id, &stamped) == 2;
    fclose(file);
    thread->stamped = stamped;
    return good && log_id == thread->log_id && stamped <= applied;
}

static int stamp(struct search_thread *thread, uint64_t applied)
{
    char path[PATH_BYTES], fresh[PATH_BYTES], text[64];
    if (applied <= thread->stamped) {
        return 0;
    }
    if (!path_make(thread, STAMP, path) || !path_make(thread, STAMP ".new", fresh)) {
        return -ENAMETOOLONG;
    }
    int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    int size = snprintf(text, sizeof(text), "%016llx %016llx\n", (unsigned long long)thread->log_id,
                        (unsigned long long)applied);
    ssize_t written = write(file, text, (size_t)size);
    int status = written < 0 ? -errno : written != size ? -ENOSPC : fsync(file) < 0 ? -errno : 0;
    close(file);
    if (status == 0 && rename(fresh, path) < 0) {
        status = -errno;
    }
    thread->stamped = status == 0 ? applied : thread->stamped;
    return status;
}

static int by_id(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void ids_sort(struct search_ids *ids)
{
    size_t kept = 0;
    if (ids->count == 0) {
        return;
    }
    qsort(ids->ids, ids->count, sizeof(ids->ids[0]), by_id);
    for (size_t i = 0; i < ids->count; i++) {
        if (kept == 0 || ids->ids[kept - 1] != ids->ids[i]) {
            ids->ids[kept++] = ids->ids[i];
        }
    }
    ids->count = kept;
}

/* What the mapped text depends on besides the message. */
static uint32_t version_make(void)
{
    char text[128];
    int size = snprintf(text, sizeof(text), "%u %x %s", SEARCHABLE_VERSION, _libunistring_version,
                        gnu_get_libc_version());
    return (crc32c(0, text, (size_t)size) & 0x7fffffffu) | 1u;
}

int search_thread_open(struct search_thread *thread, const char *path, uint64_t applied,
                       struct search_ids *users)
{
    thread->folder = strdup(path);
    thread->version = version_make();
    DIR *files = thread->folder != NULL ? opendir(thread->folder) : NULL;
    if (files == NULL) {
        return thread->folder != NULL ? -errno : -ENOMEM;
    }
    bool good = stamp_is_good(thread, applied);
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        uint64_t user = user_of_file(entry->d_name);
        if (user != 0 && !good) {
            index_files_remove(thread, user);
        } else if (user != 0 && !search_ids_add(users, user)) {
            good = false; /* one that is not looked after now is no worse than before */
            break;
        }
    }
    closedir(files);
    thread->stamped = good ? thread->stamped : 0;
    ids_sort(users);
    return 0;
}

/* ---- Indexes that are open ---- */

void search_thread_close(struct search_thread *thread)
{
    for (size_t i = 0; i < SEARCH_INDEXES_OPEN; i++) {
        search_index_close(thread->open[i].index);
        thread->open[i].index = NULL;
    }
    free(thread->folder);
}

static int index_get(struct search_thread *thread, uint64_t user, struct search_index **index)
{
    size_t oldest = 0;
    for (size_t i = 0; i < SEARCH_INDEXES_OPEN; i++) {
        if (thread->open[i].index != NULL && thread->open[i].user == user) {
            thread->open[i].used = ++thread->uses;
            *index = thread->open[i].index;
            return 0;
        }
        if (thread->open[i].used < thread->open[oldest].used) {
            oldest = i;
        }
    }
    char name[32], path[PATH_BYTES];
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)user);
    search_index_close(thread->open[oldest].index);
    thread->open[oldest].index = NULL;
    thread->open[oldest].used = 0;
    int status = path_make(thread, name, path)
                     ? search_index_open(&thread->open[oldest].index, path, thread->version)
                     : -ENAMETOOLONG;
    if (status == 0) {
        thread->open[oldest].user = user;
        thread->open[oldest].used = ++thread->uses;
        *index = thread->open[oldest].index;
    }
    return status;
}

/* ---- Questions ---- */

struct taking {
    struct search_thread *thread;
    struct search_work *work;
    struct search_ids *ids;
    bool failed;
};

/* Into an answer, as far as there is memory for all of them. */
static void id_take(void *owner, uint64_t id)
{
    struct taking *taking = (struct taking *)owner;
    size_t room = taking->ids->room;
    if (taking->failed) {
        return;
    }
    taking->failed = atomic_load(&taking->thread->answer_bytes) > SEARCH_ANSWERS_BYTES_MAX ||
                     !search_ids_add(taking->ids, id);
    size_t bytes = (taking->ids->room - room) * sizeof(taking->ids->ids[0]);
    taking->work->counted += bytes;
    atomic_fetch_add(&taking->thread->answer_bytes, bytes);
}

static int question_word(struct search_thread *thread, struct search_index *index,
                         struct search_question *question, struct search_word_answer *word)
{
    struct taking taking = {thread, &question->work, &word->found, false};
    int status = word->where == 0 ? -ENOENT
                                  : search_index_find(index, slice_of(word->text, word->bytes),
                                                      word->where, id_take, &taking);
    if (status == -ENOENT) { /* too short, or not UTF-8: every text may hold it */
        return 0;
    }
    word->known = status == 0;
    return status == 0 && taking.failed ? -ENOMEM : status;
}

void search_question_run(struct search_thread *thread, struct search_work *work)
{
    struct search_question *question = (struct search_question *)work;
    struct taking taking = {thread, work, &question->indexed, false};
    struct search_index *index;
    int status = index_get(thread, question->user, &index);
    status = status == 0 ? search_index_each(index, id_take, &taking) : status;
    status = status == 0 && taking.failed ? -ENOMEM : status;
    for (uint32_t i = 0; i < question->count && status == 0 && question->indexed.count > 0; i++) {
        status = question_word(thread, index, question, &question->words[i]);
    }
    /* One that has failed may have said something that is not so before it did. */
    question->helps = status == 0 && question->indexed.count > 0;
}

/* ---- What is missing ---- */

struct comparing {
    struct search_ids *ids;
    size_t at, missing; /* missing <= at: they are moved to the front */
    uint64_t indexed;
    struct search_ids gone;
    bool failed;
};

static void id_compare(void *owner, uint64_t id)
{
    struct comparing *comparing = (struct comparing *)owner;
    struct search_ids *ids = comparing->ids;
    while (comparing->at < ids->count && ids->ids[comparing->at] < id) {
        ids->ids[comparing->missing++] = ids->ids[comparing->at++];
    }
    if (comparing->at < ids->count && ids->ids[comparing->at] == id) {
        comparing->at++;
        comparing->indexed++;
    } else {
        comparing->failed = comparing->failed || !search_ids_add(&comparing->gone, id);
    }
}

static int gone_drop(struct search_index *index, const struct search_ids *gone, bool *renewed)
{
    struct search_index_facts facts;
    int status = 0;
    for (size_t at = 0; at < gone->count && status == 0; at += DROPPED_MANY) {
        size_t some = gone->count - at < DROPPED_MANY ? gone->count - at : DROPPED_MANY;
        status = search_index_drop(index, gone->ids + at, some);
    }
    status = status == 0 ? search_index_facts(index, &facts) : status;
    *renewed = status == 0 && facts.dropped > 0 &&
               (facts.dropped > facts.texts + DROPPED_MANY || facts.texts == 0);
    return *renewed ? search_index_renew(index) : status;
}

void search_compare_run(struct search_thread *thread, struct search_work *work)
{
    struct search_compare *compare = (struct search_compare *)work;
    struct comparing comparing = {.ids = &compare->ids};
    struct search_index *index;
    bool renewed = false;
    ids_sort(&compare->ids);
    int status = index_get(thread, compare->user, &index);
    status = status == 0 ? search_index_each(index, id_compare, &comparing) : status;
    if (status == 0) {
        while (comparing.at < compare->ids.count) {
            compare->ids.ids[comparing.missing++] = compare->ids.ids[comparing.at++];
        }
        status = gone_drop(index, &comparing.gone, &renewed);
    }
    compare->ids.count = status == 0 && !renewed ? comparing.missing : 0;
    compare->indexed = comparing.indexed;
    compare->dropped = comparing.gone.count;
    compare->again = renewed || comparing.failed;
    compare->status = status;
    free(comparing.gone.ids);
}

/* ---- Texts ---- */

/* Mapped text, for search_index_add. */
struct mapping {
    struct mapped {
        uint8_t *bytes; /* owned */
        size_t size, room;
    } texts[2]; /* by enum searchable_where */
    bool cut, failed;
};

static void mapping_add(struct mapping *mapping, struct slice text, enum searchable_where where)
{
    struct mapped *mapped = &mapping->texts[where];
    size_t room = SEARCH_INDEX_TEXT_MAX - mapped->size;
    mapping->cut = mapping->cut || text.size > room;
    text = slice_first(text, room);
    if (text.size == 0) {
        return;
    }
    if (mapped->size + text.size > mapped->room) {
        size_t more = mapped->room * 2 + text.size + 4096;
        uint8_t *grown = (uint8_t *)realloc(mapped->bytes, more);
        if (grown == NULL) {
            mapping->failed = true;
            return;
        }
        mapped->bytes = grown;
        mapped->room = more;
    }
    memcpy(mapped->bytes + mapped->size, text.bytes, text.size);
    mapped->size += text.size;
}

static void mapping_text(void *owner, struct slice text, enum searchable_where where)
{
    mapping_add((struct mapping *)owner, text, where);
}

/* No word goes over it: it only makes candidates that are none. */
static void mapping_ended(void *owner, enum searchable_where where)
{
    mapping_add((struct mapping *)owner, slice_text("\n"), where);
}

static bool is_ascii(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

/* FROM, SUBJECT, HEADER and their like look in the whole value, mapped at once, which what comes in pieces need not be
 * equal to: how marks are ordered is decided within a piece. */
static void mapping_fields(struct mapping *mapping, struct slice header)
{
    struct header_field field;
    while (header_next(&header, &field)) {
        struct slice text;
        if (!searchable_field_text(field.value, &text)) {
            mapping->failed = true;
            return;
        }
        if (!is_ascii(text) || !is_ascii(field.name)) {
            size_t room = 16 * text.size + 64, size = 0;
            uint8_t *mapped = (uint8_t *)malloc(room);
            int status = mapped != NULL ? text_casemap(text, mapped, room, &size) : -ENOMEM;
            mapping->failed = mapping->failed || status == -ENOMEM;
            mapping_add(mapping, slice_of(mapped, size), SEARCHABLE_HEADER);
            mapping_ended(mapping, SEARCHABLE_HEADER);
            free(mapped);
        }
        free((void *)(uintptr_t)text.bytes);
    }
}

/* False: memory was short. */
static bool text_map(struct slice text, struct arena *arena, struct mapping *mapping)
{
    struct searchable searchable = {.text = mapping_text, .ended = mapping_ended, .owner = mapping};
    struct slice header = slice_first(text, SEARCHABLE_HEADER_BYTES_MAX);
    size_t end = searchable_header_end(header, 0);
    struct structure structure;
    uint64_t offset, wanted;
    header = end > 0 ? slice_first(header, end) : header;
    if (structure_open(&structure, arena) != 0) {
        return false;
    }
    structure_feed(&structure, text);
    struct message_part *root = structure_finish(&structure);
    mapping->cut = mapping->cut || structure.full; /* a search may have had more room for parts */
    if (searchable_open(&searchable) != 0) {
        return false;
    }
    searchable_header(&searchable, header);
    searchable_parts(&searchable, root);
    while (searchable_wants(&searchable, &offset, &wanted)) {
        check(offset + wanted <= text.size);
        searchable_give(&searchable, slice_first(slice_from(text, offset), wanted));
    }
    searchable_close(&searchable);
    mapping_fields(mapping, header);
    return !searchable.failed && !mapping->failed;
}

static void mappings_free(struct mapping *mappings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(mappings[i].texts[SEARCHABLE_HEADER].bytes);
        free(mappings[i].texts[SEARCHABLE_BODY].bytes);
    }
}

static struct slice mapped_text(const struct mapped *mapped)
{
    return slice_of(mapped->bytes, mapped->size);
}

/* Some of the batch, from `*at` on. */
static int batch_add(struct search_index *index, const struct search_batch *batch, uint32_t *at,
                     struct arena *arena)
{
    struct mapping mappings[SEARCH_BATCH_TEXTS] = {0};
    struct search_text texts[SEARCH_BATCH_TEXTS] = {0};
    uint32_t count = 0;
    size_t bytes = 0;
    bool good = true;
    for (; *at < batch->count && bytes < ADDED_BYTES && good; ++*at) {
        const struct search_raw *raw = &batch->texts[*at];
        struct mapping *mapping = &mappings[count];
        mapping->cut = raw->bytes == NULL;
        good = raw->bytes == NULL || text_map(slice_of(raw->bytes, raw->size), arena, mapping);
        arena_reset(arena);
        texts[count] =
            (struct search_text){.id = raw->id,
                                 .header = mapped_text(&mapping->texts[SEARCHABLE_HEADER]),
                                 .body = mapped_text(&mapping->texts[SEARCHABLE_BODY]),
                                 .cut = mapping->cut};
        bytes += texts[count].header.size + texts[count].body.size;
        count++;
    }
    int status = good ? search_index_add(index, texts, count) : -ENOMEM;
    mappings_free(mappings, count);
    return status;
}

void search_batch_run(struct search_thread *thread, struct search_work *work)
{
    struct search_batch *batch = (struct search_batch *)work;
    struct search_index *index;
    struct arena arena;
    uint32_t at = 0;
    arena_open(&arena, SEARCHABLE_PARTS_BYTES_MAX);
    int status = index_get(thread, batch->user, &index);
    status = status == 0 ? stamp(thread, batch->applied) : status;
    while (status == 0 && at < batch->count) {
        status = batch_add(index, batch, &at, &arena);
    }
    arena_close(&arena);
    batch->status = status;
}
