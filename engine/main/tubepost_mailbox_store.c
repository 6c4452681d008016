/*
 * tubepost mailbox check, rebuild: the store of a mailbox service that does not run. (One that runs is asked.)
 *
 * check opens it as a start of the service does, builds a second index from the log beside it, and compares the two.
 * rebuild puts one that was built from the log in the place of the index. Of Maildirs that is their state, PATH/.tubepost;
 * they themselves are not looked at. Either has the folder locked meanwhile, and goes
 * over all shards that have a log in it (engine/mailbox/mailbox_store.h), whatever the configuration says of shards.
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
#define INDEX_NAME_BYTES 32
#define DIFFERENCES_SHOWN 100
#define BUILT_FOR_CHECK ".check"
#define BUILT_ANEW ".rebuild"
#define MARKED ".stale"

struct offline {
    const struct tool *tool;
    const char *user;           /* whose differences; NULL: everybody's */
    struct mailboxd_conf *conf; /* owned */
    const char *folder;
    char own_folder[PATH_BYTES]; /* of the configuration */
    bool of_maildirs;            /* it holds their state, and no messages */
    struct world world;
    int lock; /* -1 */
    unsigned shard, shard_count;
    struct disk *disk;
    void *memory;
    struct log *log;
    struct mailstore *texts;
    /* Of the shard: */
    uint64_t unread_bytes, unread_files;
    /* what the last one that was open had. */
    uint64_t users, log_bytes, damaged_bytes, torn_bytes, rebuilds, replayed;
    uint64_t differences;
};

/* ---- The folder ---- */

static bool has_log(const struct offline *offline, unsigned shard)
{
    char name[16];
    struct stat found;
    snprintf(name, sizeof name, "%u", shard);
    return fstatat(offline->lock, name, &found, 0) == 0 && S_ISDIR(found.st_mode);
}

/* As many as there are logs. One that is missing among them has been lost. */
static int shards_find(struct offline *offline)
{
    for (unsigned shard = 0; shard < CONF_SHARDS_MAX; shard++) {
        if (has_log(offline, shard)) {
            offline->shard_count = shard + 1;
        }
    }
    if (offline->shard_count == 0) {
        return tool_fail(EX_NOINPUT, "%s: no mailbox store is in this folder", offline->folder);
    }
    for (unsigned shard = 0; shard < offline->shard_count; shard++) {
        if (!has_log(offline, shard)) {
            return tool_fail(EX_NOINPUT, "%s/%u: the log of this shard is missing", offline->folder,
                             shard);
        }
    }
    return EX_OK;
}

static int folder_claim(struct offline *offline)
{
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
    /* Where messages for Maildirs are staged (engine/mailbox/mailbox_store.h). */
    struct stat found;
    offline->of_maildirs = fstatat(offline->lock, "tmp", &found, AT_SYMLINK_NOFOLLOW) == 0;
    return shards_find(offline);
}

/* "index", and of other shards than 0 "index.N": behind it an ending of ours. */
static const char *index_name(const struct offline *offline, const char *end,
                              char name[INDEX_NAME_BYTES])
{
    int size = snprintf(name, INDEX_NAME_BYTES, "index");
    if (offline->shard > 0) {
        size += snprintf(name + size, INDEX_NAME_BYTES - (size_t)size, ".%u", offline->shard);
    }
    snprintf(name + size, INDEX_NAME_BYTES - (size_t)size, "%s", end);
    return name;
}

static void index_remove_files(const struct offline *offline, const char *end)
{
    static const char *const ends[] = {"", "-lock", ".owner"};
    char name[INDEX_NAME_BYTES], path[PATH_BYTES];
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(path, sizeof path, "%s%s", index_name(offline, end, name), ends[i]);
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
        .shard = offline->shard,
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

/* Opens it by the index of this ending and closes it again: the index is then as the log says, or as it was. */
static int store_visit(struct offline *offline, const char *end)
{
    char path[PATH_BYTES], name[INDEX_NAME_BYTES];
    snprintf(path, sizeof path, "%s/%s", offline->folder, index_name(offline, end, name));
    const struct mailstore_settings settings = {
        .of_maildirs = offline->of_maildirs,
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
                       : tool_fail(EX_DATAERR, "%s/%u does not recover: %s", offline->folder,
                                   offline->shard, mailstore_open_trouble(status));
}

/* ---- What is told ---- */

static void json_print(json_t *json)
{
    tool_print_json(json);
    json_decref(json);
}

/* In front of a line about a shard, where there are several. */
static void shard_print(const struct offline *offline)
{
    if (offline->shard_count > 1) {
        printf("%s/%u: ", offline->folder, offline->shard);
    }
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
    bool meant = offline->user == NULL || slice_equal(difference->user, slice_text(offline->user));
    if (!meant || offline->differences++ >= DIFFERENCES_SHOWN) {
        return;
    }
    key_text(difference->key, key);
    json_t *line = json_pack("{s:i,s:s,s:s,s:s}", "shard", (int)offline->shard, "what",
                             difference->what, "key", key, "where", where);
    if (difference->user.size > 0) {
        json_object_set_new(line, "user", mailbox_json(difference->user));
    }
    if (offline->tool->as_json) {
        tool_print_json(line);
    } else {
        shard_print(offline);
        check_difference_print(line);
    }
    json_decref(line);
}

static void check_print(const struct offline *offline, bool was_built)
{
    uint64_t hidden =
        offline->differences > DIFFERENCES_SHOWN ? offline->differences - DIFFERENCES_SHOWN : 0;
    if (hidden > 0) {
        shard_print(offline);
        printf("and %llu more\n", (unsigned long long)hidden);
    }
    shard_print(offline);
    if (offline->differences > 0) {
        printf("%llu rows of the index are not as the log says\n",
               (unsigned long long)offline->differences);
    } else {
        printf(was_built ? "the index was missing or of no use: it has been built from the log\n"
                         : "the index is as the log says\n");
    }
}

static int check_tell(const struct offline *offline, bool was_built)
{
    bool bad = offline->differences > 0 || offline->damaged_bytes > 0 || offline->unread_files > 0;
    if (offline->tool->as_json) {
        json_print(json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:b}", "shard", (int)offline->shard, "users",
                             (json_int_t)offline->users, "log_bytes",
                             (json_int_t)offline->log_bytes, "damaged_bytes",
                             (json_int_t)offline->damaged_bytes, "torn_bytes",
                             (json_int_t)offline->torn_bytes, "differences",
                             (json_int_t)offline->differences, "index_was_built", was_built));
    } else {
        if (offline->shard_count > 1) {
            shard_print(offline);
        } else {
            printf("%s: ", offline->folder);
        }
        printf("%llu users, %llu bytes of log; %llu bytes damaged, %llu bytes were cut by a "
               "crash\n",
               (unsigned long long)offline->users, (unsigned long long)offline->log_bytes,
               (unsigned long long)offline->damaged_bytes, (unsigned long long)offline->torn_bytes);
        check_print(offline, was_built);
    }
    return bad ? EX_DATAERR : EX_OK;
}

static int check_run(struct offline *offline)
{
    char index[PATH_BYTES], built[PATH_BYTES], name[INDEX_NAME_BYTES];
    int code = store_visit(offline, "");
    bool was_built = offline->rebuilds > 0;
    if (code == EX_OK) {
        index_remove_files(offline, BUILT_FOR_CHECK);
        code = store_visit(offline, BUILT_FOR_CHECK);
    }
    if (code == EX_OK) {
        snprintf(index, sizeof index, "%s/%s", offline->folder, index_name(offline, "", name));
        snprintf(built, sizeof built, "%s/%s", offline->folder,
                 index_name(offline, BUILT_FOR_CHECK, name));
        int status = mailstore_compare(index, built, difference_tell, offline);
        code = status < 0 ? tool_fail(EX_IOERR, "%s: %s", index, strerror(-status))
                          : check_tell(offline, was_built);
    }
    index_remove_files(offline, BUILT_FOR_CHECK);
    return code;
}

/* ---- rebuild ---- */

static int rebuild_run(struct offline *offline)
{
    char index[INDEX_NAME_BYTES], built[INDEX_NAME_BYTES];
    index_name(offline, "", index);
    index_name(offline, BUILT_ANEW, built);
    index_remove_files(offline, BUILT_ANEW);
    int code = store_visit(offline, BUILT_ANEW);
    if (code == EX_OK &&
        (renameat(offline->lock, built, offline->lock, index) < 0 || fsync(offline->lock) < 0)) {
        code = tool_fail(EX_IOERR, "%s/%s: %s", offline->folder, index, strerror(errno));
    }
    index_remove_files(offline, BUILT_ANEW);
    if (code == EX_OK) { /* it was asked for while the service ran */
        unlinkat(offline->lock, index_name(offline, MARKED, built), 0);
    }
    if (code == EX_OK && offline->tool->as_json) {
        json_print(json_pack("{s:i,s:I,s:I}", "shard", (int)offline->shard, "replayed_records",
                             (json_int_t)offline->replayed, "users", (json_int_t)offline->users));
    } else if (code == EX_OK) {
        shard_print(offline);
        printf("the index was built from %llu records, of %llu users\n",
               (unsigned long long)offline->replayed, (unsigned long long)offline->users);
    }
    return code;
}

/* ---- The commands ---- */

/* Every one of them, also where one is damaged. The first problem is what is ended with. */
static int shards_run(struct offline *offline, int (*run)(struct offline *offline))
{
    int code = EX_OK;
    for (unsigned shard = 0; shard < offline->shard_count; shard++) {
        offline->shard = shard;
        offline->unread_bytes = offline->unread_files = offline->differences = 0;
        int ended = run(offline);
        code = code == EX_OK ? ended : code;
    }
    return code;
}

static int offline_run(struct tool *tool, const struct mailbox_options *options,
                       int (*run)(struct offline *offline))
{
    static struct offline offline;
    offline = (struct offline){.tool = tool, .user = options->user, .lock = -1};
    system_world_fill(&offline.world);
    int code = tool_load_mailboxd_conf(tool->conf_path, &offline.conf);
    if (code != EX_OK) {
        return code;
    }
    snprintf(offline.own_folder, sizeof offline.own_folder, "%s%s", offline.conf->store.path,
             offline.conf->store.format == CONF_STORE_MAILDIR ? "/.tubepost" : "");
    offline.folder = options->count > 0 ? options->words[0] : offline.own_folder;
    code = strlen(offline.folder) > PATH_BYTES - 64
               ? tool_fail(EX_USAGE, "the folder's name is too long")
               : folder_claim(&offline);
    code = code == EX_OK ? shards_run(&offline, run) : code;
    if (offline.lock >= 0) {
        close(offline.lock);
    }
    mailboxd_conf_free(offline.conf);
    return code;
}

/* Of a service that runs its own store is asked of it; of a folder that is named it is not known whose it is. */
static int store_run(struct tool *tool, const struct mailbox_options *options,
                     int (*run)(struct offline *offline))
{
    bool runs = false;
    if (options->user != NULL && users_are_masked(options->user)) {
        return tool_fail(EX_USAGE, "expected the name of one user");
    }
    int code = options->count == 0 ? tool_finds_service(tool, &runs) : EX_OK;
    if (code != EX_OK) {
        return code;
    }
    return runs ? check_ask(tool, options, run == rebuild_run) : offline_run(tool, options, run);
}

int mailbox_check(struct tool *tool, const struct mailbox_options *options)
{
    return store_run(tool, options, check_run);
}

int mailbox_rebuild(struct tool *tool, const struct mailbox_options *options)
{
    return store_run(tool, options, rebuild_run);
}
