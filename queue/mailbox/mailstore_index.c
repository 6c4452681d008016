#include "queue/mailbox/mailstore_index.h"
#include "engine/core/check.h"
#include "queue/mailbox/mailstore_rows.h"
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_BYTES_DEFAULT (64ull << 30)
#define GROWTH_PART                                                                                \
    64u /* of its addresses: the file may grow by so much, or twofold, while it is glanced at */
#define FREED_A_ROUND 2048u /* rows: all of them at once would take some 10 ms */

#define MAPPED_PAGES_MAX                                                                           \
    4096u /* of the file's that were read, before they are let go: they would stay, all of them */

enum index_state { INDEX_IDLE, INDEX_WRITING, INDEX_WRITTEN };

struct index {
    MDB_env *environment;
    MDB_dbi database;
    MDB_txn *reader;
    char *path;
    int lock;
    uint64_t bytes_max;
    unsigned flags;
    bool driven, failed;
    struct index *of; /* a glance: at this one's file */
    uint32_t glances;
    uint64_t glanced_bytes; /* of the file, when the last one began */
    bool cramped;
    bool full;                       /* the last write has failed for want of addresses */
    struct row_table active, frozen; /* frozen: read by the thread too, changed by nobody */
    bool has_frozen;
    struct row_table spent; /* they were written */
    int status;             /* of the last write */
    struct {                /* of the file, in memory, since they were let go */
        uintptr_t low, high, last;
        uint32_t count; /* about: of pages */
    } mapped;

    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    enum index_state state; /* by the mutex */
    bool stops, runs;
};

static int error_of(int status)
{
    if (status == 0) {
        return 0;
    }
    return status == MDB_MAP_FULL ? -ENOSPC : status > 0 ? -status : -EIO;
}

/* ── Memory ──────────────────────────────────────────────────────────────────────────────────── */

/* The mapping of the file is read-only, so this loses nothing: the kernel has the pages, and what is read again is found
 * there at some tenths of a microsecond a page. */
static void mapped_let_go(struct index *index)
{
    if (index->mapped.count > 0) {
        madvise((void *)index->mapped.low, index->mapped.high - index->mapped.low, MADV_DONTNEED);
    }
    index->mapped.low = index->mapped.high = index->mapped.last = 0;
    index->mapped.count = 0;
}

/* What was found in the file. It stays valid. */
static void mapped_count(struct index *index, const MDB_val *found)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)found->mv_data & ~(page - 1);
    uintptr_t end = ((uintptr_t)found->mv_data + found->mv_size + page - 1) & ~(page - 1);
    if (first == index->mapped.last) {
        return;
    }
    if (index->mapped.count >= MAPPED_PAGES_MAX) {
        mapped_let_go(index);
    }
    index->mapped.last = first;
    index->mapped.low =
        index->mapped.count == 0 || first < index->mapped.low ? first : index->mapped.low;
    index->mapped.high = end > index->mapped.high ? end : index->mapped.high;
    index->mapped.count += (uint32_t)((end - first) / page);
}

/* ── Writing ─────────────────────────────────────────────────────────────────────────────────── */

static int rows_write(struct index *index)
{
    MDB_txn *transaction;
    int status = mdb_txn_begin(index->environment, NULL, 0, &transaction);
    if (status != 0) {
        return error_of(status);
    }
    for (struct row *row = index->frozen.first[0]; row != NULL && status == 0; row = row->next[0]) {
        MDB_val key = {row->key_bytes, (void *)(uintptr_t)row_key(row).bytes};
        MDB_val value = {row->value_bytes, row->value};
        status = row->gone ? mdb_del(transaction, index->database, &key, NULL)
                           : mdb_put(transaction, index->database, &key, &value, 0);
        status = row->gone && status == MDB_NOTFOUND ? 0 : status;
    }
    if (status != 0) {
        mdb_txn_abort(transaction);
    } else {
        status = mdb_txn_commit(transaction);
    }
    index->full = status == MDB_MAP_FULL;
    return error_of(status);
}

static void *writer(void *owner)
{
    struct index *index = (struct index *)owner;
    pthread_mutex_lock(&index->mutex);
    while (!index->stops) {
        if (index->state != INDEX_WRITING) {
            pthread_cond_wait(&index->wake, &index->mutex);
            continue;
        }
        pthread_mutex_unlock(&index->mutex);
        int status = rows_write(index);
        pthread_mutex_lock(&index->mutex);
        index->status = status;
        index->state = INDEX_WRITTEN;
        pthread_cond_broadcast(&index->wake);
    }
    pthread_mutex_unlock(&index->mutex);
    return NULL;
}

static void write_begin(struct index *index)
{
    if (index->driven) {
        index->status = rows_write(index);
        index->state = INDEX_WRITTEN;
        return;
    }
    pthread_mutex_lock(&index->mutex);
    index->state = INDEX_WRITING;
    pthread_cond_broadcast(&index->wake);
    pthread_mutex_unlock(&index->mutex);
}

bool index_is_writing(const struct index *index)
{
    return index->has_frozen;
}

uint32_t index_waiting(const struct index *index)
{
    return index->active.count;
}

size_t index_waiting_bytes(const struct index *index)
{
    return index->active.bytes;
}

size_t index_memory_bytes(const struct index *index)
{
    return index->active.bytes + index->frozen.bytes + index->spent.bytes;
}

int index_write(struct index *index)
{
    check(!index->has_frozen);
    index->frozen = index->active;
    index->active = (struct row_table){.random = index->frozen.random};
    index->has_frozen = true;
    write_begin(index);
    return 0;
}

static int reader_renew(struct index *index)
{
    mdb_txn_reset(index->reader);
    int status = mdb_txn_renew(index->reader);
    index->failed |= status != 0;
    return error_of(status);
}

/* LMDB gives up the addresses that it has before it asks for others, and is lost when there are none: they are tried. */
static bool addresses_are_there(uint64_t bytes)
{
    void *tried = bytes <= SIZE_MAX ? mmap(NULL, bytes, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                    : MAP_FAILED;
    if (tried != MAP_FAILED) {
        munmap(tried, bytes);
    }
    return tried != MAP_FAILED;
}

/* It has failed for want of addresses, not of a file system that is full. True: there are twice as many now. */
static bool addresses_grow(struct index *index)
{
    if (!index->full || index->glances > 0 || index->bytes_max > UINT64_MAX / 2 ||
        !addresses_are_there(2 * index->bytes_max)) {
        return false;
    }
    mapped_let_go(index); /* it may lie elsewhere now */
    mdb_txn_reset(index->reader);
    index->bytes_max *= 2;
    int status = mdb_env_set_mapsize(index->environment, index->bytes_max);
    index->failed |= status != 0 || mdb_txn_renew(index->reader) != 0;
    return !index->failed;
}

static int write_end(struct index *index)
{
    index->state = INDEX_IDLE;
    index->cramped = index->status == -ENOSPC && index->glances > 0;
    if (index->status == -ENOSPC && addresses_grow(index)) {
        write_begin(index);
        return 0;
    }
    if (index->status != 0) {
        return index->status;
    }
    row_table_clear(&index->spent);
    index->spent = index->frozen;
    index->frozen = (struct row_table){.random = index->spent.random};
    index->has_frozen = false;
    int status = reader_renew(index);
    return status != 0 ? status : 1;
}

int index_round(struct index *index)
{
    row_table_shrink(&index->spent, FREED_A_ROUND);
    if (!index->has_frozen) {
        return 0;
    }
    pthread_mutex_lock(&index->mutex);
    enum index_state state = index->state;
    pthread_mutex_unlock(&index->mutex);
    switch (state) {
    case INDEX_WRITTEN:
        return write_end(index);
    case INDEX_IDLE: /* it has failed */
        write_begin(index);
        return 0;
    case INDEX_WRITING:
        break;
    }
    return 0;
}

int index_wait(struct index *index)
{
    int result;
    while ((result = index_round(index)) == 0 && index->has_frozen) {
        pthread_mutex_lock(&index->mutex);
        while (index->state == INDEX_WRITING) {
            pthread_cond_wait(&index->wake, &index->mutex);
        }
        pthread_mutex_unlock(&index->mutex);
    }
    return result;
}

/* ── Rows ────────────────────────────────────────────────────────────────────────────────────── */

int index_put(struct index *index, struct slice key, struct slice value)
{
    return row_put(&index->active, key, value, false);
}

int index_remove(struct index *index, struct slice key)
{
    return row_put(&index->active, key, slice_of(NULL, 0), true);
}

int index_get(struct index *index, struct slice key, struct slice *value)
{
    const struct row *row = row_find(&index->active, key);
    if (row == NULL && index->has_frozen) {
        row = row_find(&index->frozen, key);
    }
    if (row != NULL) {
        *value = slice_of(row->value, row->value_bytes);
        return row->gone ? -ENOENT : 0;
    }
    MDB_val wanted = {key.size, (void *)(uintptr_t)key.bytes}, found;
    int status = index->failed ? EIO : mdb_get(index->reader, index->database, &wanted, &found);
    if (status == 0) {
        mapped_count(index, &found);
        *value = slice_of(found.mv_data, found.mv_size);
        return 0;
    }
    index->failed |= status != MDB_NOTFOUND;
    return status == MDB_NOTFOUND ? -ENOENT : -EIO;
}

/* ── Walks ───────────────────────────────────────────────────────────────────────────────────── */

static bool begins_with(struct slice key, struct slice prefix)
{
    return key.size >= prefix.size && memcmp(key.bytes, prefix.bytes, prefix.size) == 0;
}

static void disk_step(struct index_walk *walk, MDB_cursor_op op, struct slice from)
{
    MDB_val key = {from.size, (void *)(uintptr_t)from.bytes}, value;
    int status =
        walk->cursor != NULL ? mdb_cursor_get((MDB_cursor *)walk->cursor, &key, &value, op) : EIO;
    walk->disk = status == 0;
    if (status == 0) {
        mapped_count(walk->index, &value);
        walk->disk_key = slice_of(key.mv_data, key.mv_size);
        walk->disk_value = slice_of(value.mv_data, value.mv_size);
        walk->disk = begins_with(walk->disk_key, walk->prefix);
    } else if (status != MDB_NOTFOUND) {
        walk->status = -EIO;
        walk->index->failed = true;
    }
}

static struct row *row_within(struct row *row, const struct index_walk *walk)
{
    return row != NULL && begins_with(row_key(row), walk->prefix) ? row : NULL;
}

/* Leaves the key where it stands, in all three. */
static void walk_pass(struct index_walk *walk, struct slice key)
{
    for (int i = 0; i < 2; i++) {
        struct row *row = (struct row *)walk->rows[i];
        if (row != NULL && slice_equal(row_key(row), key)) {
            walk->rows[i] = row_within(row->next[0], walk);
        }
    }
    if (walk->disk && slice_equal(walk->disk_key, key)) {
        disk_step(walk, MDB_NEXT, slice_of(NULL, 0));
    }
}

/* To the lowest key at or behind those where the three stand, of a row that is there. */
static bool walk_settle(struct index_walk *walk)
{
    while (walk->status == 0) {
        const struct row *best = NULL;
        for (int i = 0; i < 2; i++) { /* the newer one first */
            const struct row *row = (const struct row *)walk->rows[i];
            if (row != NULL && (best == NULL || row_key_order(row_key(row), row_key(best)) < 0)) {
                best = row;
            }
        }
        if (walk->disk && (best == NULL || row_key_order(walk->disk_key, row_key(best)) < 0)) {
            walk->key = walk->disk_key;
            walk->value = walk->disk_value;
            return true;
        }
        if (best == NULL) {
            return false;
        }
        walk->key = row_key(best);
        walk->value = slice_of(best->value, best->value_bytes);
        if (!best->gone) {
            return true;
        }
        walk_pass(walk, walk->key);
    }
    return false;
}

bool index_walk_begin(struct index *index, struct index_walk *walk, struct slice prefix,
                      struct slice from)
{
    *walk = (struct index_walk){.index = index, .prefix = prefix};
    MDB_cursor *cursor = NULL;
    if (index->failed || mdb_cursor_open(index->reader, index->database, &cursor) != 0) {
        walk->status = -EIO;
        return false;
    }
    walk->cursor = cursor;
    struct slice start = from.size > 0 ? from : prefix;
    walk->rows[0] = row_within(row_from(&index->active, start), walk);
    walk->rows[1] = index->has_frozen ? row_within(row_from(&index->frozen, start), walk) : NULL;
    disk_step(walk, start.size > 0 ? MDB_SET_RANGE : MDB_FIRST, start);
    return walk_settle(walk);
}

bool index_walk_next(struct index_walk *walk)
{
    walk_pass(walk, walk->key);
    return walk_settle(walk);
}

void index_walk_end(struct index_walk *walk)
{
    if (walk->cursor != NULL) {
        mdb_cursor_close((MDB_cursor *)walk->cursor);
        walk->cursor = NULL;
    }
}

/* ── Opening ─────────────────────────────────────────────────────────────────────────────────── */

/* A file that ends before its last page would stop the process when it is read there. */
static bool is_cut_off(struct index *index)
{
    MDB_envinfo info;
    MDB_stat statistics;
    struct stat file;
    int fd;
    return mdb_env_info(index->environment, &info) != 0 ||
           mdb_env_stat(index->environment, &statistics) != 0 ||
           mdb_env_get_fd(index->environment, &fd) != 0 || fstat(fd, &file) != 0 ||
           (uint64_t)file.st_size < (info.me_last_pgno + 1) * (uint64_t)statistics.ms_psize;
}

static int environment_open(struct index *index)
{
    MDB_txn *transaction = NULL;
    int status = mdb_env_create(&index->environment);
    if (status != 0) {
        index->environment = NULL;
        return error_of(status);
    }
    mdb_env_set_mapsize(index->environment, index->bytes_max);
    status = mdb_env_open(index->environment, index->path, index->flags, 0600);
    if (status == 0 && is_cut_off(index)) {
        status = MDB_CORRUPTED;
    }
    status = status == 0 ? mdb_txn_begin(index->environment, NULL, 0, &transaction) : status;
    status = status == 0 ? mdb_dbi_open(transaction, NULL, 0, &index->database) : status;
    if (status == 0) {
        status = mdb_txn_commit(transaction);
    } else if (transaction != NULL) {
        mdb_txn_abort(transaction);
    }
    status =
        status == 0 ? mdb_txn_begin(index->environment, NULL, MDB_RDONLY, &index->reader) : status;
    if (status != 0) {
        index->reader = NULL;
        mdb_env_close(index->environment);
        index->environment = NULL;
    }
    return status < 0 ? -EUCLEAN : error_of(status);
}

static void environment_close(struct index *index)
{
    mapped_let_go(index);
    if (index->reader != NULL) {
        mdb_txn_abort(index->reader);
        index->reader = NULL;
    }
    if (index->environment != NULL) {
        mdb_env_close(index->environment);
        index->environment = NULL;
    }
}

/* One process at a time: LMDB's own lock would let two of them in. */
static int lock_take(struct index *index)
{
    char name[4096];
    snprintf(name, sizeof(name), "%s.owner", index->path);
    index->lock = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (index->lock < 0) {
        return -errno;
    }
    return flock(index->lock, LOCK_EX | LOCK_NB) == 0 ? 0 : -EBUSY;
}

int index_open(struct index **result, const struct mailstore_settings *settings, bool *damaged)
{
    struct index *index = (struct index *)calloc(1, sizeof(*index));
    if (index == NULL) {
        return -ENOMEM;
    }
    index->lock = -1;
    index->driven = settings->driven;
    index->bytes_max =
        settings->index_bytes_max != 0 ? settings->index_bytes_max : INDEX_BYTES_DEFAULT;
    index->flags =
        MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | (settings->index_unsafe ? MDB_NOSYNC : 0u);
    index->path = strdup(settings->index_path);
    pthread_mutex_init(&index->mutex, NULL);
    pthread_cond_init(&index->wake, NULL);
    int status = index->path != NULL ? lock_take(index) : -ENOMEM;
    if (status == 0) {
        status = environment_open(index);
        *damaged = status == -EUCLEAN;
        status = *damaged ? index_renew(index) : status;
    }
    if (status == 0 && !index->driven) {
        index->runs = pthread_create(&index->thread, NULL, writer, index) == 0;
        status = index->runs ? 0 : -EAGAIN;
    }
    if (status != 0) {
        index_close(index);
        return status;
    }
    *result = index;
    return 0;
}

const char *index_path(const struct index *index)
{
    return index->path;
}

int index_renew(struct index *index)
{
    index_wait(index);
    row_table_clear(&index->active);
    row_table_clear(&index->frozen);
    row_table_clear(&index->spent);
    index->has_frozen = false;
    pthread_mutex_lock(&index->mutex); /* the writer may be looking whether there is work */
    index->state = INDEX_IDLE;
    pthread_mutex_unlock(&index->mutex);
    environment_close(index);
    index->failed = false;
    if (unlink(index->path) != 0 && errno != ENOENT) {
        return -errno;
    }
    return environment_open(index);
}

void index_close(struct index *index)
{
    check(index->glances == 0);
    if (index->runs) {
        pthread_mutex_lock(&index->mutex);
        while (index->state == INDEX_WRITING) {
            pthread_cond_wait(&index->wake, &index->mutex);
        }
        index->stops = true;
        pthread_cond_broadcast(&index->wake);
        pthread_mutex_unlock(&index->mutex);
        pthread_join(index->thread, NULL);
    }
    row_table_clear(&index->active);
    row_table_clear(&index->frozen);
    row_table_clear(&index->spent);
    environment_close(index);
    if (index->lock >= 0) {
        close(index->lock);
    }
    pthread_mutex_destroy(&index->mutex);
    pthread_cond_destroy(&index->wake);
    free(index->path);
    free(index);
}

/* ── Glances ─────────────────────────────────────────────────────────────────────────────────── */

static uint64_t file_bytes(const struct index *index)
{
    MDB_envinfo info;
    MDB_stat statistics;
    return mdb_env_info(index->environment, &info) == 0 &&
                   mdb_env_stat(index->environment, &statistics) == 0
               ? (info.me_last_pgno + 1) * (uint64_t)statistics.ms_psize
               : 0;
}

int index_glance_begin(struct index *index, struct index **result)
{
    struct index *glance = (struct index *)calloc(1, sizeof(*glance));
    if (glance == NULL) {
        return -ENOMEM;
    }
    int status = mdb_txn_begin(index->environment, NULL, MDB_RDONLY, &glance->reader);
    if (status != 0) {
        free(glance);
        return error_of(status);
    }
    glance->of = index;
    glance->database = index->database;
    glance->lock = -1;
    index->glances++;
    index->glanced_bytes = file_bytes(index);
    *result = glance;
    return 0;
}

void index_glance_end(struct index *glance)
{
    mapped_let_go(glance);
    mdb_txn_abort(glance->reader);
    glance->of->glances--;
    free(glance);
}

bool index_is_cramped(const struct index *index)
{
    if (index->cramped || index->glances == 0) {
        return index->cramped;
    }
    uint64_t least = index->bytes_max / GROWTH_PART;
    uint64_t most = index->glanced_bytes > least ? index->glanced_bytes : least;
    return file_bytes(index) > index->glanced_bytes + most;
}
