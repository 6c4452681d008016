#include "engine/mailbox/mailbox_store.h"
#include "engine/mailbox/outgoing.h"
#include "queue/log/log.h"
#include "queue/log/log_found.h"
#include "queue/mailbox/maildir_lock.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A disk that was full, or that has refused, is tried again in a round, and rounds need a reason. */
#define TICK_NS 1000000000ull
#define LOG_PATIENCE_NS 1000000000ull
#define MAILDIR_FOLDER ".staging" /* of queue/mailbox/maildir.h */
#define SUFFIX ".segment"
#define STATE_FOLDER "/.tubepost"
#define STAGING_FOLDER "tmp"
#define FILE_THREADS 4u

struct mailbox_store {
    struct shard *shard;
    /* Of Maildirs: */
    struct maildir_owner owner;
    struct mailstore_maildirs maildirs; /* its path NULL: there are none */
    atomic_bool hurries;
    char *hostname, *maildirs_path, *state_path, *staging;
    struct disk *disk;
    void *memory;
    struct log *log;
    struct log_found found;
    struct mailstore *texts;
    struct timer tick;
};

/* ---- The part of the round ---- */

static unsigned store_poll(void *self, uint64_t now_ns)
{
    struct mailbox_store *store = (struct mailbox_store *)self;
    unsigned work = store->disk->ops->reap(store->disk);
    work += log_round(store->log, now_ns);
    return work + mailstore_round(store->texts, (uint64_t)world_wall_s(store->shard->world));
}

static void store_flush(void *self, uint64_t now_ns)
{
    struct mailbox_store *store = (struct mailbox_store *)self;
    (void)now_ns;
    log_flush(store->log);
    store->disk->ops->submit(store->disk);
}

static int store_arm(void *self)
{
    struct mailbox_store *store = (struct mailbox_store *)self;
    return store->disk->ops->arm(store->disk);
}

static void store_tick(struct timer *timer, uint64_t now_ns)
{
    struct mailbox_store *store = list_entry(timer, struct mailbox_store, tick);
    wheel_arm(store->shard->wheel, timer, now_ns + TICK_NS);
}

void mailbox_store_add_part(struct mailbox_store *store)
{
    shard_add(store->shard, &(struct shard_part){.name = "store",
                                                 .self = store,
                                                 .poll = store_poll,
                                                 .flush = store_flush,
                                                 .arm = store_arm});
    wheel_arm(store->shard->wheel, &store->tick, store->shard->now_ns + TICK_NS);
}

/* ---- Opening ---- */

static bool has_log(const char *path, unsigned shard)
{
    char log[4096];
    snprintf(log, sizeof log, "%s/%u", path, shard);
    DIR *files = opendir(log);
    bool found = false;
    for (struct dirent *entry; files != NULL && !found && (entry = readdir(files)) != NULL;) {
        size_t size = strlen(entry->d_name);
        found = size > strlen(SUFFIX) && strcmp(entry->d_name + size - strlen(SUFFIX), SUFFIX) == 0;
    }
    if (files != NULL) {
        closedir(files);
    }
    return found;
}

static int folder_judge(int folder, const char *path, unsigned shards, struct logger *logger)
{
    struct stat found;
    if (fstatat(folder, MAILDIR_FOLDER, &found, AT_SYMLINK_NOFOLLOW) == 0) {
        logger_line(logger, LOGGER_ERROR,
                    "store: %s holds Maildirs, expected store.format: maildir, or another folder",
                    path);
        return -EINVAL;
    }
    for (unsigned i = CONF_SHARDS_MAX; i-- > shards;) {
        if (has_log(path, i)) {
            logger_line(logger, LOGGER_ERROR,
                        "store: %s holds the mail of %u shards, expected shards: %u or more", path,
                        i + 1, i + 1);
            return -EINVAL;
        }
    }
    return 0;
}

int mailbox_store_folder(const struct mailboxd_conf *conf, char path[MAILBOX_STORE_PATH_BYTES])
{
    const char *folder = conf->store.format == CONF_STORE_LOG ? "" : STATE_FOLDER;
    int size = snprintf(path, MAILBOX_STORE_PATH_BYTES, "%s%s", conf->store.path, folder);
    return size < (int)MAILBOX_STORE_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static int folder_make(const char *path, struct logger *logger)
{
    int status = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "store: %s cannot be made: %s", path, strerror(-status));
    }
    return status;
}

/* The folder of the Maildirs, in which the other one is. */
static int maildirs_make(const struct mailboxd_conf *conf, struct logger *logger)
{
    if (has_log(conf->store.path, 0)) {
        logger_line(logger, LOGGER_ERROR,
                    "store: %s holds a log, expected store.format: log, or another folder",
                    conf->store.path);
        return -EINVAL;
    }
    return folder_make(conf->store.path, logger);
}

/* The kernel gives the lock back however we end. */
static int folder_lock(const char *path, unsigned shards, struct logger *logger)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = folder < 0 || flock(folder, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "store: %s cannot be used: %s", path,
                    status == -EWOULDBLOCK ? "another process has it" : strerror(-status));
        status = status == -EWOULDBLOCK ? -EBUSY : status;
    } else {
        status = folder_judge(folder, path, shards, logger);
    }
    if (status < 0 && folder >= 0) {
        close(folder);
    }
    return status < 0 ? status : folder;
}

int mailbox_store_claim(const struct mailboxd_conf *conf, struct logger *logger)
{
    char path[MAILBOX_STORE_PATH_BYTES];
    int status = mailbox_store_folder(conf, path);
    if (status == 0 && conf->store.format == CONF_STORE_MAILDIR) {
        status = maildirs_make(conf, logger);
    }
    status = status == 0 ? folder_make(path, logger) : status;
    return status == 0 ? folder_lock(path, conf->shards, logger) : status;
}

static int disk_open(struct mailbox_store *store, const char *path)
{
    struct shard *shard = store->shard;
    int status = shard->uring != NULL ? disk_open_uring(&store->disk, shard->uring, path)
                                      : disk_open_thread(&store->disk, path);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "store: %s cannot be used: %s", path,
                    strerror(-status));
    } else if (!store->disk->direct) {
        logger_line(shard->logger, LOGGER_WARNING,
                    "store: the file system of %s has no O_DIRECT: writing through the page cache, "
                    "which is slower",
                    path);
    }
    return status;
}

static int log_make(struct mailbox_store *store, const struct mailboxd_conf *conf)
{
    size_t memory_bytes = conf->store.memory_bytes / LOG_FRAME_BYTES * LOG_FRAME_BYTES;
    store->memory = aligned_alloc(DISK_BLOCK_BYTES, memory_bytes);
    if (store->memory == NULL) {
        logger_line(store->shard->logger, LOGGER_ERROR,
                    "store: no memory for the log: see store.memory_bytes");
        return -ENOMEM;
    }
    store->disk->ops->pin(store->disk, store->memory, memory_bytes);
    struct log_settings settings = {
        .disk = store->disk,
        .shard = store->shard->settings.index,
        .segment_bytes = (uint32_t)conf->store.segment_bytes,
        .memory = store->memory,
        .memory_bytes = memory_bytes,
        .segment_count_max =
            (uint32_t)(conf->store.max_bytes / conf->store.segment_bytes / conf->shards),
        .disk_free_min = conf->store.free_min_bytes,
        .durability = conf->store.durability == CONF_DURABILITY_NONE ? LOG_RELAXED : LOG_DURABLE,
        .unread = log_found_unread,
        .unread_owner = &store->found,
    };
    world_random(store->shard->world, &settings.new_id, sizeof settings.new_id);
    int status = log_open(&store->log, &settings);
    if (status < 0) {
        log_found_unusable(&store->found, settings.shard, status);
    }
    return status;
}

int mailbox_store_path(const struct mailboxd_conf *conf, const struct shard *shard,
                       const char *name, char path[MAILBOX_STORE_PATH_BYTES])
{
    unsigned index = shard->settings.index;
    int status = mailbox_store_folder(conf, path);
    size_t used = status == 0 ? strlen(path) : 0;
    int size = snprintf(path + used, MAILBOX_STORE_PATH_BYTES - used, index > 0 ? "/%s.%u" : "/%s",
                        name, index);
    return status == 0 && used + (size_t)size < MAILBOX_STORE_PATH_BYTES ? 0 : -ENAMETOOLONG;
}

/* Names that begin with a dot are the service's own, as outgoing.h's. */
static void user_count(void *owner, struct slice name)
{
    *(uint64_t *)owner += name.bytes[0] != '.';
}

static int texts_open(struct mailbox_store *store, const struct mailboxd_conf *conf)
{
    struct shard *shard = store->shard;
    char index[MAILBOX_STORE_PATH_BYTES];
    if (mailbox_store_path(conf, shard, "index", index) < 0) {
        return -ENAMETOOLONG;
    }
    const struct mailstore_settings settings = {
        .maildirs = store->maildirs.path != NULL ? &store->maildirs : NULL,
        .index_path = index,
        .text_bytes_max = UINT32_MAX - 1, /* sessions keep to limits.message_bytes, as it is then */
        .draft_count_max = UINT32_MAX,    /* sessions are what is limited */
        .keep_expunged_s = (uint32_t)(conf->store.keep_expunged / 1000000000ull),
        .wall_s = (uint64_t)world_wall_s(shard->world),
    };
    uint64_t start_ns = world_now_ns(shard->world), users = 0;
    int status = mailstore_open(&store->texts, store->log, &settings);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "store: %s does not recover: %s", conf->store.path,
                    mailstore_open_trouble(status));
        log_found_recovered(&store->found, store->log);
        return status;
    }
    uint64_t took_ms = (world_now_ns(shard->world) - start_ns) / 1000000;
    status = mailstore_each_user(store->texts, user_count, &users);
    logger_line(shard->logger, LOGGER_INFO,
                "store: %llu users, %llu KiB of mail; %llu MiB read in %llu ms",
                (unsigned long long)users,
                (unsigned long long)(mailstore_counters(store->texts)->live_bytes >> 10),
                (unsigned long long)(log_counters(store->log)->scanned_bytes >> 20),
                (unsigned long long)took_ms);
    log_found_recovered(&store->found, store->log);
    return status;
}

/* What a recovery that has failed left on its way to the disk must be back before the log is closed. */
static void log_await(struct mailbox_store *store)
{
    uint64_t end_ns = world_now_ns(store->shard->world) + LOG_PATIENCE_NS;
    while (!log_is_quiet(store->log) && world_now_ns(store->shard->world) < end_ns) {
        store->disk->ops->submit(store->disk);
        if (store->disk->ops->reap(store->disk) == 0) {
            sched_yield();
        }
    }
}

/* Also of one that was opened in part. */
static void store_free(struct mailbox_store *store)
{
    if (store->texts != NULL) {
        mailstore_close(store->texts);
    } else if (store->log != NULL) {
        log_await(store);
    }
    if (store->log != NULL) {
        log_close(store->log);
    }
    if (store->disk != NULL) {
        store->disk->ops->close(store->disk);
    }
    free(store->memory);
    free(store->hostname);
    free(store->maildirs_path);
    free(store->state_path);
    free(store->staging);
    free(store);
}

static char *joined(const char *path, const char *name)
{
    size_t size = strlen(path) + strlen(name) + 1;
    char *text = malloc(size);
    if (text != NULL) {
        snprintf(text, size, "%s%s", path, name);
    }
    return text;
}

/* A helper has ended something. */
static void files_wake(void *owner)
{
    shard_wake(((struct mailbox_store *)owner)->shard);
}

static void files_trouble(void *owner, const char *user, int status)
{
    struct logger *logger = ((struct mailbox_store *)owner)->shard->logger;
    if (status == -ETIMEDOUT) {
        logger_line(logger, LOGGER_WARNING, "store: the Maildir of %s is locked by another program",
                    user);
    } else if (status != 0) {
        logger_line(logger, LOGGER_ERROR, "store: the Maildir of %s cannot be used: %s", user,
                    strerror(-status));
    } else {
        logger_line(logger, LOGGER_INFO, "store: the Maildir of %s can be used again", user);
    }
}

/* Where the Maildir of what is sent is: beside the first shard's index, and in the folder of a further one's log. */
static char *own_path(const struct mailbox_store *store, const char *path)
{
    char folder[16];
    unsigned index = store->shard->settings.index;
    snprintf(folder, sizeof folder, index > 0 ? "/%u" : "", index);
    return joined(path, folder);
}

static int maildirs_fill(struct mailbox_store *store, const struct mailboxd_conf *conf,
                         const struct mailbox_store_files *files, const char *path)
{
    char staging[MAILBOX_STORE_PATH_BYTES];
    if (mailbox_store_path(conf, store->shard, STAGING_FOLDER, staging) < 0) {
        return -ENAMETOOLONG;
    }
    /* The machine's, as Dovecot's: who finds the other's lock must know that it is of this host. */
    char host[256] = {0};
    store->hostname = joined(gethostname(host, sizeof host - 1) == 0 ? host : conf->hostname, "");
    store->maildirs_path = joined(conf->store.path, "");
    store->state_path = own_path(store, path);
    store->staging = joined(staging, "");
    store->owner = (struct maildir_owner){.files = files->files,
                                          .world = store->shard->world,
                                          .hostname = store->hostname,
                                          .process_id = files->process_id,
                                          .started_wall_s = world_wall_s(store->shard->world),
                                          .hurries = &store->hurries};
    store->maildirs = (struct mailstore_maildirs){.path = store->maildirs_path,
                                                  .staging = store->staging,
                                                  .own_user = OUTGOING_USER,
                                                  .own_path = store->state_path,
                                                  .owner = &store->owner,
                                                  .thread_count = files->driven ? 0 : FILE_THREADS,
                                                  .wake = files_wake,
                                                  .trouble = files_trouble,
                                                  .wake_owner = store};
    bool good = store->hostname != NULL && store->maildirs_path != NULL &&
                store->state_path != NULL && store->staging != NULL;
    return good ? 0 : -ENOMEM;
}

int mailbox_store_open(struct mailbox_store **made, const struct mailboxd_conf *conf,
                       struct shard *shard, const struct mailbox_store_files *files)
{
    struct mailbox_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return -ENOMEM;
    }
    store->shard = shard;
    store->found = (struct log_found){.logger = shard->logger, .store = "store"};
    timer_init(&store->tick, store_tick);
    char path[MAILBOX_STORE_PATH_BYTES];
    int status = mailbox_store_folder(conf, path);
    status = status == 0 && files != NULL ? maildirs_fill(store, conf, files, path) : status;
    status = status == 0 ? disk_open(store, path) : status;
    status = status == 0 ? log_make(store, conf) : status;
    status = status == 0 ? texts_open(store, conf) : status;
    if (status < 0) {
        store_free(store);
        return status;
    }
    *made = store;
    return 0;
}

struct mailstore *mailbox_store_texts(const struct mailbox_store *store)
{
    return store->texts;
}

const struct log_counters *mailbox_store_log_counters(const struct mailbox_store *store)
{
    return log_counters(store->log);
}

uint64_t mailbox_store_id(const struct mailbox_store *store)
{
    return log_id(store->log);
}

/* ---- Its end ---- */

bool mailbox_store_rest(struct mailbox_store *store)
{
    mailstore_rest(store->texts);
    atomic_store(&store->hurries, true); /* what is not written then, the next start writes */
    return mailstore_is_quiet(store->texts) && log_is_quiet(store->log);
}

void mailbox_store_settle(struct mailbox_store *store)
{
    while (!mailbox_store_rest(store)) {
        unsigned work = store_poll(store, world_now_ns(store->shard->world));
        store_flush(store, 0);
        if (work == 0) {
            sched_yield();
        }
    }
}

void mailbox_store_close(struct mailbox_store *store)
{
    wheel_disarm(store->shard->wheel, &store->tick);
    store_free(store);
}
