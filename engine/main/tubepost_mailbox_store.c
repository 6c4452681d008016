/*
 * tubepost mailbox check, rebuild: the store of a mailbox service that does not run.
 *
 * check opens it as a start of the service does, builds a second index from the log beside it, and compares the two.
 * rebuild puts one that was built from the log in the place of the index. Either has the folder locked meanwhile.
 */
#include "engine/core/system_world.h"
#include "engine/main/tubepost_mailbox.h"
#include "queue/log/log.h"
#include "queue/mailbox/mailstore.h"
#include "queue/mailbox/mailstore_check.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define DIFFERENCES_SHOWN 100

struct offline {
    const struct tool *tool;
    struct mailboxd_conf *conf; /* owned */
    const char *folder;
    struct world world;
    int lock; /* -1 */
    struct disk *disk;
    void *memory;
    struct log *log;
    struct mailstore *texts;
    uint64_t unread_bytes, unread_files;
    /* What the last one that was open had. */
    uint64_t users, log_bytes, damaged_bytes, torn_bytes, rebuilds, replayed;
    uint64_t differences;
};

/* ---- The folder ---- */

static int folder_claim(struct offline *offline)
{
    char log[PATH_BYTES];
    struct stat found;
    snprintf(log, sizeof log, "%s/0", offline->folder);
    offline->lock = open(offline->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (offline->lock < 0) {
        return tool_fail(EX_NOINPUT, "%s: %s", offline->folder, strerror(errno));
    }
    if (flock(offline->lock, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK
                   ? tool_fail(EX_TEMPFAIL, "%s: tubepost-mailboxd works on this store; stop it",
                               offline->folder)
                   : tool_fail(EX_IOERR, "%s: %s", offline->folder, strerror(errno));
    }
    return stat(log, &found) == 0
               ? EX_OK
               : tool_fail(EX_NOINPUT, "%s: no mailbox store is in this folder", offline->folder);
}

static void index_remove_files(const struct offline *offline, const char *name)
{
    static const char *const ends[] = {"", "-lock", ".owner"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(path, sizeof path, "%s%s", name, ends[i]);
        unlinkat(offline->lock, path, 0);
    }
}

/* ---- The store ---- */

static void unread_tell(void *owner, const struct log_unread *what)
{
    struct offline *offline = (struct offline *)owner;
    offline->unread_files++;
    offline->unread_bytes += what->bytes;
    fprintf(stderr, "%u/%08u.segment: offset %llu: unreadable: %s\n", what->shard, what->number,
            (unsigned long long)what->offset, strerror(-what->error));
}

static int log_make(struct offline *offline)
{
    const struct mailboxd_conf *conf = offline->conf;
    size_t memory_bytes = conf->store.memory_bytes / LOG_FRAME_BYTES * LOG_FRAME_BYTES;
    struct log_settings settings = {
        .disk = offline->disk,
        .segment_bytes = (uint32_t)conf->store.segment_bytes,
        .memory_bytes = memory_bytes,
        .segment_count_max = (uint32_t)(conf->store.max_bytes / conf->store.segment_bytes),
        .disk_free_min = conf->store.free_min_bytes,
        .unread = unread_tell,
        .unread_owner = offline,
    };
    offline->memory = aligned_alloc(DISK_BLOCK_BYTES, memory_bytes);
    if (offline->memory == NULL) {
        return -ENOMEM;
    }
    settings.memory = offline->memory;
    offline->disk->ops->pin(offline->disk, offline->memory, memory_bytes);
    world_random(&offline->world, &settings.new_id, sizeof settings.new_id);
    return log_open(&offline->log, &settings);
}

static void user_count(void *owner, struct slice name)
{
    (void)name;
    ++*(uint64_t *)owner;
}

static void figures_keep(struct offline *offline)
{
    const struct mailstore_counters *counters = mailstore_counters(offline->texts);
    const struct log_counters *log = log_counters(offline->log);
    offline->users = 0;
    mailstore_each_user(offline->texts, user_count, &offline->users);
    offline->log_bytes = log->scanned_bytes;
    offline->damaged_bytes = counters->damaged_bytes;
    offline->torn_bytes = log->torn_bytes;
    offline->rebuilds = counters->rebuilds;
    offline->replayed = counters->replayed_records;
}

/* What a start has begun to write comes to rest. */
static void settle(struct offline *offline)
{
    bool quiet = false;
    while (!quiet) {
        uint64_t now_ns = world_now_ns(&offline->world);
        mailstore_rest(offline->texts);
        unsigned work = offline->disk->ops->reap(offline->disk);
        work += log_round(offline->log, now_ns);
        work += mailstore_round(offline->texts, (uint64_t)world_wall_s(&offline->world));
        log_flush(offline->log);
        offline->disk->ops->submit(offline->disk);
        quiet = mailstore_is_quiet(offline->texts) && log_is_quiet(offline->log);
        if (work == 0 && !quiet) {
            sched_yield();
        }
    }
}

static void store_close(struct offline *offline)
{
    if (offline->texts != NULL) {
        settle(offline);
        mailstore_close(offline->texts);
    }
    if (offline->log != NULL) {
        log_close(offline->log);
    }
    if (offline->disk != NULL) {
        offline->disk->ops->close(offline->disk);
    }
    free(offline->memory);
    offline->texts = NULL;
    offline->log = NULL;
    offline->disk = NULL;
    offline->memory = NULL;
}

/* Opens it by this index and closes it again: the index is then as the log says, or as it was. */
static int store_visit(struct offline *offline, const char *index)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", offline->folder, index);
    const struct mailstore_settings settings = {
        .index_path = path,
        .keep_expunged_s = (uint32_t)(offline->conf->store.keep_expunged / 1000000000ull),
        .text_bytes_max = UINT32_MAX - 1,
        .wall_s = (uint64_t)world_wall_s(&offline->world),
    };
    int status = disk_open_thread(&offline->disk, offline->folder);
    status = status == 0 ? log_make(offline) : status;
    status = status == 0 ? mailstore_open(&offline->texts, offline->log, &settings) : status;
    if (status == 0) {
        figures_keep(offline);
    }
    store_close(offline);
    return status == 0 ? EX_OK
                       : tool_fail(EX_DATAERR, "%s does not recover: %s", offline->folder,
                                   strerror(-status));
}

/* ---- check ---- */

static void key_text(struct slice key, char text[96])
{
    size_t used = 0;
    for (size_t i = 1; i < key.size && used + 4 < 96; i++) {
        used += (size_t)snprintf(text + used, 96 - used, "%02x", key.bytes[i]);
    }
    text[used] = '\0';
}

static void difference_tell(void *owner, const struct mailstore_difference *difference)
{
    struct offline *offline = (struct offline *)owner;
    const char *where = !difference->in_second  ? "only in the index"
                        : !difference->in_first ? "missing in the index"
                                                : "something else in the index";
    char key[96];
    if (offline->differences++ >= DIFFERENCES_SHOWN) {
        return;
    }
    key_text(difference->key, key);
    if (offline->tool->as_json) {
        json_t *json =
            json_pack("{s:s,s:s,s:s}", "what", difference->what, "key", key, "where", where);
        tool_print_json(json);
        json_decref(json);
    } else {
        printf("%s %s: %s\n", difference->what, key, where);
    }
}

static int check_tell(const struct offline *offline, bool was_built)
{
    bool bad = offline->differences > 0 || offline->damaged_bytes > 0 || offline->unread_files > 0;
    if (offline->tool->as_json) {
        json_t *json = json_pack("{s:I,s:I,s:I,s:I,s:I,s:b}", "users", (json_int_t)offline->users,
                                 "log_bytes", (json_int_t)offline->log_bytes, "damaged_bytes",
                                 (json_int_t)offline->damaged_bytes, "torn_bytes",
                                 (json_int_t)offline->torn_bytes, "differences",
                                 (json_int_t)offline->differences, "index_was_built", was_built);
        tool_print_json(json);
        json_decref(json);
        return bad ? EX_DATAERR : EX_OK;
    }
    printf(
        "%s: %llu users, %llu bytes of log; %llu bytes damaged, %llu bytes were cut by a crash\n",
        offline->folder, (unsigned long long)offline->users, (unsigned long long)offline->log_bytes,
        (unsigned long long)offline->damaged_bytes, (unsigned long long)offline->torn_bytes);
    if (offline->differences > DIFFERENCES_SHOWN) {
        printf("and %llu more\n", (unsigned long long)(offline->differences - DIFFERENCES_SHOWN));
    }
    if (offline->differences > 0) {
        printf("%llu rows of the index are not as the log says\n",
               (unsigned long long)offline->differences);
    } else {
        printf(was_built ? "the index was missing or of no use: it has been built from the log\n"
                         : "the index is as the log says\n");
    }
    return bad ? EX_DATAERR : EX_OK;
}

static int check_run(struct offline *offline)
{
    char index[PATH_BYTES], built[PATH_BYTES];
    int code = store_visit(offline, "index");
    bool was_built = offline->rebuilds > 0;
    if (code == EX_OK) {
        index_remove_files(offline, "index.check");
        code = store_visit(offline, "index.check");
    }
    if (code == EX_OK) {
        snprintf(index, sizeof index, "%s/index", offline->folder);
        snprintf(built, sizeof built, "%s/index.check", offline->folder);
        int status = mailstore_compare(index, built, difference_tell, offline);
        code = status < 0 ? tool_fail(EX_IOERR, "the index: %s", strerror(-status))
                          : check_tell(offline, was_built);
    }
    index_remove_files(offline, "index.check");
    return code;
}

/* ---- rebuild ---- */

static int rebuild_run(struct offline *offline)
{
    index_remove_files(offline, "index.rebuild");
    int code = store_visit(offline, "index.rebuild");
    if (code == EX_OK && (renameat(offline->lock, "index.rebuild", offline->lock, "index") < 0 ||
                          fsync(offline->lock) < 0)) {
        code = tool_fail(EX_IOERR, "%s/index: %s", offline->folder, strerror(errno));
    }
    index_remove_files(offline, "index.rebuild");
    if (code == EX_OK) {
        printf(offline->tool->as_json ? "{\"replayed_records\":%llu,\"users\":%llu}\n"
                                      : "the index was built from %llu records, of %llu users\n",
               (unsigned long long)offline->replayed, (unsigned long long)offline->users);
    }
    return code;
}

/* ---- The commands ---- */

static int offline_run(struct tool *tool, const struct mailbox_options *options,
                       int (*run)(struct offline *offline))
{
    static struct offline offline;
    offline = (struct offline){.tool = tool, .lock = -1};
    system_world_fill(&offline.world);
    int code = tool_load_mailboxd_conf(tool->conf_path, &offline.conf);
    if (code != EX_OK) {
        return code;
    }
    offline.folder = options->count > 0 ? options->words[0] : offline.conf->store.path;
    code = strlen(offline.folder) > PATH_BYTES - 64
               ? tool_fail(EX_USAGE, "the folder's name is too long")
               : folder_claim(&offline);
    code = code == EX_OK ? run(&offline) : code;
    if (offline.lock >= 0) {
        close(offline.lock);
    }
    mailboxd_conf_free(offline.conf);
    return code;
}

int mailbox_check(struct tool *tool, const struct mailbox_options *options)
{
    return offline_run(tool, options, check_run);
}

int mailbox_rebuild(struct tool *tool, const struct mailbox_options *options)
{
    return offline_run(tool, options, rebuild_run);
}
