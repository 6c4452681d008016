#include "queue/mailbox/maildir_folder.h"
#include "engine/core/check.h"
#include "engine/core/list.h"
#include "engine/core/mutation.h"
#include "queue/mailbox/user_name.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096 /* a power of two */
#define KNOWN_MAX                                                                                  \
    65536 /* users remembered; then all are forgotten, which costs only looking again */
#define USAGE_UNKNOWN UINT64_MAX

struct folder {
    struct folder *next;      /* in the bucket */
    struct list_node touched; /* in folders.touched while open */
    char user[USER_NAME_BYTES];
    int user_fd, new_fd; /* -1 between batches */
    bool assured;        /* its folders are known to be durable */
    int status;          /* of the last sync */
    uint64_t usage;      /* bytes in new/ and cur/ */
};

struct folders {
    const struct maildir_files *files;
    int root_fd;
    bool durable;
    uint64_t quota_bytes;
    struct folder *buckets[BUCKETS];
    unsigned known_count;
    struct list_node touched;
    unsigned touched_count;
};

int folders_open(struct folders **made, const struct maildir_files *files, int root_fd,
                 bool durable, uint64_t quota_bytes)
{
    struct folders *folders = calloc(1, sizeof *folders);
    if (folders == NULL) {
        return -ENOMEM;
    }
    folders->files = files;
    folders->root_fd = root_fd;
    folders->durable = durable;
    folders->quota_bytes = quota_bytes;
    list_init(&folders->touched);
    *made = folders;
    return 0;
}

static void forget_all(struct folders *folders)
{
    check(list_empty(&folders->touched));
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (folders->buckets[i] != NULL) {
            struct folder *folder = folders->buckets[i];
            folders->buckets[i] = folder->next;
            free(folder);
        }
    }
    folders->known_count = 0;
}

void folders_close(struct folders *folders)
{
    if (folders != NULL) {
        folders_settle(folders);
        forget_all(folders);
        free(folders);
    }
}

/* ---- finding and making ---- */

static struct folder *known_folder(struct folders *folders, const char *user)
{
    uint32_t hash =
        2166136261u; /* FNV-1a; names come from our own configuration or are bounded by KNOWN_MAX */
    for (const char *p = user; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    struct folder **bucket = &folders->buckets[hash & (BUCKETS - 1)];
    for (struct folder *folder = *bucket; folder != NULL; folder = folder->next) {
        if (strcmp(folder->user, user) == 0) {
            return folder;
        }
    }
    struct folder *folder = calloc(1, sizeof *folder);
    if (folder == NULL) {
        return NULL;
    }
    strcpy(folder->user, user);
    folder->user_fd = folder->new_fd = -1;
    folder->usage = USAGE_UNKNOWN;
    list_init(&folder->touched);
    folder->next = *bucket;
    *bucket = folder;
    folders->known_count++;
    return folder;
}

/* Opens a folder, making it when `make`. */
static int open_at(const struct maildir_files *files, int at, const char *name, bool make)
{
    int fd = files->open_folder(files->self, at, name);
    if (fd == -ENOENT && make) {
        int status = files->make_folder(files->self, at, name);
        if (status < 0 && status != -EEXIST) {
            return status;
        }
        fd = files->open_folder(files->self, at, name);
    }
    return fd;
}

/* cur/ and tmp/ exist and all four names are durable: once for each user and start. */
static int assure(struct folders *folders, struct folder *folder)
{
    static const char *const others[] = {"cur", "tmp"};
    const struct maildir_files *files = folders->files;
    for (unsigned i = 0; i < 2; i++) {
        int fd = open_at(files, folder->user_fd, others[i], true);
        if (fd < 0) {
            return fd;
        }
        files->close(files->self, fd);
    }
    if (MUTATED(MAILDIR_USER_UNSYNCED)) {
        return 0;
    }
    int status = folders->durable ? files->sync(files->self, folder->user_fd) : 0;
    if (status == 0 && folders->durable) {
        status = files->sync(files->self, folders->root_fd);
    }
    folder->assured = status == 0;
    return status;
}

static void close_folder(const struct maildir_files *files, struct folder *folder)
{
    if (folder->new_fd >= 0) {
        files->close(files->self, folder->new_fd);
    }
    if (folder->user_fd >= 0) {
        files->close(files->self, folder->user_fd);
    }
    folder->user_fd = folder->new_fd = -1;
}

static int open_folder(struct folders *folders, struct folder *folder, bool make)
{
    folder->user_fd = open_at(folders->files, folders->root_fd, folder->user, make);
    if (folder->user_fd < 0) {
        return folder->user_fd;
    }
    folder->new_fd = open_at(folders->files, folder->user_fd, "new", make);
    return folder->new_fd < 0 ? folder->new_fd : 0;
}

int folders_find(struct folders *folders, const char *user, struct folder **found)
{
    if (folders->known_count >= KNOWN_MAX && list_empty(&folders->touched)) {
        forget_all(folders);
    }
    struct folder *folder = known_folder(folders, user);
    if (folder == NULL) {
        return -ENOMEM;
    }
    *found = folder;
    if (folder->new_fd >= 0) {
        return 0;
    }
    folder->status = 0;
    int status = open_folder(folders, folder, !folder->assured);
    if (status == -ENOENT && folder->assured) { /* somebody has removed it since */
        close_folder(folders->files, folder);
        folder->assured = false;
        status = open_folder(folders, folder, true);
    }
    if (status == 0 && !folder->assured) {
        status = assure(folders, folder);
    }
    if (status < 0) {
        close_folder(folders->files, folder);
        folder->assured = false;
        return status;
    }
    list_append(&folders->touched, &folder->touched);
    folders->touched_count++;
    return 0;
}

int folder_new_fd(const struct folder *folder)
{
    return folder->new_fd;
}

/* ---- quota ---- */

/* The size that a name tells, or 0 with *told false. */
static uint64_t size_in_name(const char *name, bool *told)
{
    const char *at = strstr(name, ",S=");
    char *end = NULL;
    uint64_t size = at == NULL ? 0 : strtoull(at + 3, &end, 10);
    *told = at != NULL && end != at + 3;
    return size;
}

struct usage {
    const struct maildir_files *files;
    int fd;
    uint64_t bytes;
};

static void count_file(void *owner, const char *name)
{
    struct usage *usage = (struct usage *)owner;
    bool told = false;
    uint64_t size = size_in_name(name, &told), real = 0;
    if (name[0] == '.') {
        return;
    }
    if (!told && usage->files->size(usage->files->self, usage->fd, name, &real) == 0) {
        size = real;
    }
    if (__builtin_add_overflow(usage->bytes, size, &usage->bytes)) {
        usage->bytes = UINT64_MAX - 1; /* a name that lies */
    }
}

static uint64_t count_usage(const struct maildir_files *files, const struct folder *folder)
{
    static const char *const places[] = {"new", "cur"};
    struct usage usage = {.files = files};
    for (unsigned i = 0; i < 2; i++) {
        usage.fd = open_at(files, folder->user_fd, places[i], false);
        if (usage.fd >= 0) {
            files->list(files->self, usage.fd, count_file, &usage);
            files->close(files->self, usage.fd);
        }
    }
    return usage.bytes;
}

int folder_check_quota(struct folders *folders, struct folder *folder, uint64_t bytes)
{
    if (folders->quota_bytes == 0) {
        return 0;
    }
    bool counted = folder->usage == USAGE_UNKNOWN;
    if (counted) {
        folder->usage = count_usage(folders->files, folder);
    }
    /* Others delete mail; look again before refusing. */
    if (!counted &&
        (bytes > folders->quota_bytes || folder->usage > folders->quota_bytes - bytes)) {
        folder->usage = count_usage(folders->files, folder);
    }
    return bytes > folders->quota_bytes || folder->usage > folders->quota_bytes - bytes ? -EDQUOT
                                                                                        : 0;
}

void folder_added(struct folder *folder, uint64_t bytes)
{
    if (folder->usage != USAGE_UNKNOWN) {
        folder->usage += bytes;
    }
}

/* ---- the end of a batch ---- */

unsigned folders_sync(struct folders *folders)
{
    const struct maildir_files *files = folders->files;
    if (!folders->durable || list_empty(&folders->touched) || MUTATED(MAILDIR_NAME_UNSYNCED)) {
        return 0;
    }
    bool all = files->sync_all_tells && folders->touched_count >= MAILDIR_SYNC_ALL_AT_LEAST;
    int status = all ? files->sync_all(files->self, folders->root_fd) : 0;
    for (struct list_node *node = folders->touched.next; node != &folders->touched;
         node = node->next) {
        struct folder *folder = list_entry(node, struct folder, touched);
        folder->status = all ? status : files->sync(files->self, folder->new_fd);
    }
    return all ? 1 : folders->touched_count;
}

int folder_status(const struct folder *folder)
{
    return MUTATED(MAILDIR_SYNC_BELIEVED) ? 0 : folder->status;
}

void folders_settle(struct folders *folders)
{
    for (struct list_node *node; (node = list_pop(&folders->touched)) != NULL;) {
        close_folder(folders->files, list_entry(node, struct folder, touched));
    }
    folders->touched_count = 0;
}

unsigned folders_touched(const struct folders *folders)
{
    return folders->touched_count;
}
