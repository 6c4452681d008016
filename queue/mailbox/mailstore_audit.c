#include "queue/mailbox/mailstore_audit.h"
#include "queue/log/log_reading.h"
#include "queue/mailbox/mailstore_private.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define MEMORY_BYTES_DEFAULT (1ull << 30)
#define PROGRESS_BYTES (1024u * 1024)
#define PROGRESS_ITEMS 1024u
#define BUILT_END ".check"
#define MARK_END ".stale"
#define KEPT_END ".kept"
#define PATH_BYTES 4096
#define NICE 10
#define BEGIN_S 60u /* until it reads: a disk that stands for so long has other troubles */

enum audit_state { AUDIT_WAITS, AUDIT_WRITES, AUDIT_READS };

struct mailstore_audit {
    struct mailstore *store;
    struct mailstore_audit_settings settings;
    enum audit_state state;
    uint64_t begin_by_s;
    int given_up; /* why; 0: it goes on */
    struct log_reading *reading;
    struct index *glance;
    uint64_t until;        /* the change that the index's file is the state behind */
    uint64_t write_needed; /* of the index */
    struct log_waiter waiter;
    bool waits, durable; /* for, is: all that had been appended */
    pthread_t thread;
    atomic_bool ends, ended; /* it is to; it has */
    /* The thread's: */
    struct mailstore_building building;
    const struct log_visitor *visitor;
    struct log_folder_source source;
    uint32_t segment_at;
    uint64_t passed_bytes,
        told_bytes; /* of segments before that one; of the log, at the last progress */
    struct mailstore_audit_progress progress;
    struct mailstore_audit_result result;
};

/* ── Files ───────────────────────────────────────────────────────────────────────────────────── */

static int path_of(const struct mailstore_settings *settings, const char *end,
                   char path[PATH_BYTES])
{
    int size = snprintf(path, PATH_BYTES, "%s%s", settings->index_path, end);
    return size < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

void audit_forget(const struct mailstore_settings *settings)
{
    static const char *const ends[] = {BUILT_END, BUILT_END "-lock", BUILT_END ".owner"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (path_of(settings, ends[i], path) == 0) {
            unlink(path);
        }
    }
}

static int folder_sync(const char *path)
{
    char folder[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
             slash != NULL ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

static int mark(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    int status = path_of(settings, MARK_END, path);
    int fd = status == 0 ? open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
    if (status == 0 && (fd < 0 || fsync(fd) < 0)) {
        status = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return status == 0 ? folder_sync(path) : status;
}

bool index_is_marked(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    return path_of(settings, MARK_END, path) == 0 && access(path, F_OK) == 0;
}

int index_unmark(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    int status = path_of(settings, MARK_END, path);
    if (status == 0 && unlink(path) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return status == 0 ? folder_sync(path) : status;
}

/* Where there are no hard links it is lost when it is built anew. One that is there already is of a start that was cut off:
 * what has the index's name now is not whole. */
bool index_keep(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    if (path_of(settings, KEPT_END, path) != 0) {
        return false;
    }
    if (link(settings->index_path, path) == 0) {
        folder_sync(path);
        return true;
    }
    return errno == EEXIST;
}

void index_let_go(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    if (path_of(settings, KEPT_END, path) == 0) {
        unlink(path);
    }
}

bool index_restore(const struct mailstore_settings *settings)
{
    char path[PATH_BYTES];
    return path_of(settings, KEPT_END, path) == 0 && rename(path, settings->index_path) == 0 &&
           folder_sync(path) == 0;
}

/* ── The thread ──────────────────────────────────────────────────────────────────────────────── */

static int progress_tell(struct mailstore_audit *audit, enum mailstore_audit_step step,
                         uint64_t done, uint64_t all)
{
    const struct mailstore_audit_progress progress = {.step = step, .done = done, .all = all};
    if (atomic_load(&audit->ends)) {
        return -ECANCELED;
    }
    return audit->settings.progress(audit->settings.owner, &progress) == 0 ? 0 : -ECANCELED;
}

static int record_found(void *owner, const struct log_record *record)
{
    struct mailstore_audit *audit = (struct mailstore_audit *)owner;
    const struct log_reading *reading = audit->reading;
    while (reading->segments[audit->segment_at].sequence < log_lsn_sequence(record->lsn)) {
        audit->passed_bytes += reading->segments[audit->segment_at++].bytes;
    }
    uint64_t at = audit->passed_bytes + (uint32_t)record->lsn;
    int status = 0;
    if (at >= audit->told_bytes + PROGRESS_BYTES) {
        audit->told_bytes = at;
        status = progress_tell(audit, MAILSTORE_AUDIT_READS, at, reading->bytes);
    }
    return status == 0 ? audit->visitor->record(audit->visitor->owner, record) : status;
}

static void record_damaged(void *owner, uint64_t lsn, uint64_t bytes)
{
    const struct mailstore_audit *audit = (const struct mailstore_audit *)owner;
    audit->visitor->damaged(audit->visitor->owner, lsn, bytes);
}

static int log_read_all(struct mailstore_building *building, const struct log_visitor *visitor)
{
    struct mailstore_audit *audit = list_entry(building, struct mailstore_audit, building);
    const struct log_visitor own = {
        .record = record_found, .damaged = record_damaged, .owner = audit};
    struct log_reading_result result;
    audit->visitor = visitor;
    int status = log_reading_scan(audit->reading, &audit->source, &own, &result);
    audit->result.log_bytes = result.scanned_bytes;
    audit->result.damaged_bytes = result.damaged_bytes;
    audit->result.torn_bytes = result.torn_bytes;
    audit->result.unread_bytes = result.unread_bytes;
    return status == 0 && result.unread_bytes > 0 ? -EIO : status;
}

static int change_built(struct mailstore_building *building, uint64_t done, uint64_t all)
{
    struct mailstore_audit *audit = list_entry(building, struct mailstore_audit, building);
    return done % PROGRESS_ITEMS == 0 ? progress_tell(audit, MAILSTORE_AUDIT_BUILDS, done, all) : 0;
}

static int row_compared(void *owner)
{
    struct mailstore_audit *audit = (struct mailstore_audit *)owner;
    uint64_t done = ++audit->progress.done;
    return done % PROGRESS_ITEMS == 0 ? progress_tell(audit, MAILSTORE_AUDIT_COMPARES, done, 0) : 0;
}

static void difference_found(void *owner, const struct mailstore_difference *difference)
{
    struct mailstore_audit *audit = (struct mailstore_audit *)owner;
    audit->result.differences++;
    audit->settings.visit(audit->settings.owner, difference);
}

static void user_count(void *owner, struct slice name)
{
    (void)name;
    ++*(uint64_t *)owner;
}

static int built_compare(struct mailstore_audit *audit, struct mailstore *built)
{
    const struct index_comparison comparison = {
        .visit = difference_found, .row = row_compared, .owner = audit};
    int status = mailstore_each_user(built, user_count, &audit->result.users);
    return status == 0 ? indexes_compare(audit->glance, built->index, &comparison) : status;
}

static int state_build(struct mailstore_audit *audit, struct log *log,
                       const struct mailstore_settings *settings)
{
    struct mailstore *built;
    int status = store_beside_open(&built, log, settings);
    if (status != 0) {
        return status;
    }
    status = mailstore_build(built, &audit->building);
    status = status == 0 ? built_compare(audit, built) : status;
    store_beside_close(built);
    return status;
}

static int log_compare(struct mailstore_audit *audit)
{
    struct mailstore_settings settings = audit->store->settings;
    char path[PATH_BYTES];
    struct log *log;
    int status = path_of(&settings, BUILT_END, path);
    status = status == 0 ? log_in_name_open(&log, audit->reading) : status;
    if (status != 0) {
        return status;
    }
    settings.index_path = path;
    settings.driven = settings.index_unsafe =
        true; /* by this thread; it is removed whatever comes */
    status = state_build(audit, log, &settings);
    log_in_name_close(log);
    return status;
}

static int disk_read_all(struct mailstore_audit *audit, struct disk *disk)
{
    const struct mailstore_settings *settings = &audit->store->settings;
    uint8_t *memory = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, LOG_FOLDER_MEMORY_BYTES);
    if (memory == NULL) {
        return -ENOMEM;
    }
    audit->source = (struct log_folder_source){
        .disk = disk, .memory = memory, .memory_bytes = LOG_FOLDER_MEMORY_BYTES};
    audit_forget(settings);
    int status = log_compare(audit);
    audit_forget(settings);
    free(memory);
    const struct mailstore_audit_result *result = &audit->result;
    bool worse = result->damaged_bytes > 0; /* the index may know what the log has lost */
    if (status == 0 && atomic_load(&audit->ends)) {
        status = -ECANCELED; /* what was read last may have been freed before */
    }
    if (status == 0 && audit->settings.marks && result->differences > 0 && !worse) {
        status = mark(settings);
        audit->result.marked = status == 0;
    }
    return status;
}

static void *audit_run(void *self)
{
    struct mailstore_audit *audit = (struct mailstore_audit *)self;
    struct disk *disk;
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* mail comes first */
    int status = disk_open_thread(&disk, audit->settings.folder);
    if (status == 0) {
        status = disk_read_all(audit, disk);
        disk->ops->close(disk);
    }
    audit->result.status = status;
    atomic_store(&audit->ended, true);
    audit->settings.wake(audit->settings.owner);
    return NULL;
}

/* Signals are the main thread's, and the shard's core is the shard's. */
static int thread_start(struct mailstore_audit *audit)
{
    sigset_t all, before;
    cpu_set_t everywhere;
    pthread_attr_t attributes;
    memset(&everywhere, 0xff, sizeof everywhere);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof everywhere, &everywhere);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = -pthread_create(&audit->thread, &attributes, audit_run, audit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return status;
}

/* ── The store's thread ──────────────────────────────────────────────────────────────────────── */

/* What is kept for it is free at once. What the thread still reads of it is of no account. */
static void give_up(struct mailstore_audit *audit, int status)
{
    audit->given_up = audit->given_up == 0 ? status : audit->given_up;
    atomic_store(&audit->ends, true);
    if (audit->reading != NULL) {
        log_reading_end(audit->store->log);
    }
}

static void audit_end(struct mailstore_audit *audit)
{
    struct mailstore *store = audit->store;
    if (audit->state == AUDIT_READS) {
        pthread_join(audit->thread, NULL);
    }
    if (audit->waits) {
        list_remove(&audit->waiter.node);
    }
    if (audit->glance != NULL) {
        index_glance_end(audit->glance);
    }
    if (audit->reading != NULL) {
        log_reading_end(store->log);
        free(audit->reading);
    }
    store->audit = NULL;
    audit->result.status = audit->given_up != 0 ? audit->given_up : audit->result.status;
    audit->settings.done(audit->settings.owner, &audit->result);
    free(audit);
}

static void all_is_durable(struct log_waiter *waiter, int status)
{
    struct mailstore_audit *audit = list_entry(waiter, struct mailstore_audit, waiter);
    audit->waits = false;
    audit->durable = true;
    if (status != 0) {
        give_up(audit, -EAGAIN);
    }
}

/* All in one moment, between two changes. */
void audit_take(struct mailstore *store)
{
    struct mailstore_audit *audit = store->audit;
    if (audit == NULL || audit->state != AUDIT_WAITS || audit->given_up != 0 || store->midway ||
        store->sick != 0 || index_is_writing(store->index)) {
        return;
    }
    int status = log_reading_begin(store->log, &audit->reading);
    if (status != 0) {
        if (status != -EBUSY || log_is_broken(store->log)) {
            give_up(audit, status == -EBUSY ? -EAGAIN : status);
        }
        return;
    }
    status = mailstore_checkpoint(store);
    if (status != 0) {
        give_up(audit, status);
        return;
    }
    audit->until = store->applied;
    audit->write_needed = store->writes_begun;
    audit->state = AUDIT_WRITES;
    audit->waits = true;
    audit->waiter.done = all_is_durable;
    log_when_durable(store->log, &audit->waiter);
}

void audit_written(struct mailstore *store)
{
    struct mailstore_audit *audit = store->audit;
    if (audit == NULL || audit->state != AUDIT_WRITES || audit->given_up != 0 ||
        audit->glance != NULL || store->writes_done < audit->write_needed) {
        return;
    }
    check(store->safe == audit->until);
    int status = index_glance_begin(store->index, &audit->glance);
    if (status != 0) {
        give_up(audit, status);
    }
}

static bool space_is_short(const struct mailstore *store)
{
    const struct log_settings *settings = log_settings_of(store->log);
    return log_is_short(store->log) || index_is_cramped(store->index) ||
           log_disk_free_bytes(store->log) <
               settings->disk_free_min + 4ull * settings->segment_bytes;
}

bool audit_yield(struct mailstore *store)
{
    if (store->audit == NULL) {
        return false;
    }
    give_up(store->audit, -ENOSPC);
    return true;
}

static unsigned written_and_durable(struct mailstore_audit *audit)
{
    if (audit->given_up != 0) {
        audit_end(audit);
        return 1;
    }
    if (audit->glance == NULL || !audit->durable ||
        !log_reading_is_written(audit->store->log, audit->reading)) {
        return 0;
    }
    audit->building = (struct mailstore_building){.until = audit->until,
                                                  .memory_bytes = audit->settings.memory_bytes,
                                                  .read = log_read_all,
                                                  .built = change_built};
    if (audit->store->settings.driven) {
        audit->result.status = disk_read_all(audit, log_settings_of(audit->store->log)->disk);
        audit_end(audit);
        return 1;
    }
    int status = thread_start(audit);
    if (status != 0) {
        give_up(audit, status);
        return 1;
    }
    audit->state = AUDIT_READS;
    return 1;
}

unsigned audit_round(struct mailstore *store)
{
    struct mailstore_audit *audit = store->audit;
    if (audit == NULL) {
        return 0;
    }
    if (audit->given_up == 0) {
        int status = store->sick != 0        ? store->sick
                     : store->rests          ? -ECANCELED
                     : space_is_short(store) ? -ENOSPC
                     : audit->state != AUDIT_READS && store->wall_s >= audit->begin_by_s
                         ? -ETIMEDOUT
                         : 0;
        if (status != 0) {
            give_up(audit, status);
        }
    }
    switch (audit->state) {
    case AUDIT_WAITS:
        if (audit->given_up != 0) {
            audit_end(audit);
        }
        return 0;
    case AUDIT_WRITES:
        return written_and_durable(audit);
    case AUDIT_READS:
        if (atomic_load(&audit->ended)) {
            audit_end(audit);
        }
        return 0;
    }
    return 0;
}

bool audit_is_quiet(const struct mailstore *store)
{
    return store->audit == NULL;
}

int mailstore_audit_begin(struct mailstore *store, const struct mailstore_audit_settings *settings)
{
    if (store->audit != NULL || store->rests || store->sick != 0) {
        return store->sick != 0 ? store->sick : -EBUSY;
    }
    if (space_is_short(store)) {
        return -ENOSPC;
    }
    struct mailstore_audit *audit = (struct mailstore_audit *)calloc(1, sizeof(*audit));
    if (audit == NULL) {
        return -ENOMEM;
    }
    audit->store = store;
    audit->settings = *settings;
    audit->settings.memory_bytes =
        settings->memory_bytes != 0 ? settings->memory_bytes : MEMORY_BYTES_DEFAULT;
    audit->begin_by_s = store->wall_s + BEGIN_S;
    atomic_init(&audit->ends, false);
    atomic_init(&audit->ended, false);
    store->audit = audit;
    return 0;
}

void mailstore_audit_cancel(struct mailstore *store)
{
    if (store->audit != NULL) {
        give_up(store->audit, -ECANCELED);
    }
}

void mailstore_audit_end(struct mailstore *store)
{
    if (store->audit != NULL) {
        give_up(store->audit, -ECANCELED);
        audit_end(store->audit);
    }
}
