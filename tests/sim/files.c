#include "tests/sim/files.h"
#include "engine/core/check.h"
#include "tests/unit/net_link.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 256
#define STATES_MAX 8u /* that a name has had since its folder was synced */
#define OPEN_MAX 512u
#define SECTOR_BYTES 512u
#define FILE_BYTES 256u /* that a file or a folder takes beside its text */

/* A file or a folder. */
struct node {
    struct node *next; /* of all */
    bool folder, locked;
    struct name *names; /* of a folder */
    uint8_t *bytes;     /* of a file */
    size_t size, room;
    size_t durable_bytes; /* of them, from the front */
    bool lost;            /* a sync of it has failed: no other makes it durable */
    bool kept;            /* a folder has it; for collecting */
};

/* In a folder: what it has meant since the last sync, NULL for nothing; the last is what it means now. */
struct name {
    struct name *next;
    char text[NAME_BYTES];
    struct node *states[STATES_MAX];
    unsigned count;
};

struct sim_files {
    struct maildir_files table;
    struct sim_files_settings settings;
    uint64_t random;
    struct node *nodes, *root;
    struct node *open[OPEN_MAX];
    unsigned open_count, unremoved;
    uint64_t used_bytes;
    uint32_t changes_left; /* until it stops; UINT32_MAX: it does not */
};

static bool by_chance(struct sim_files *files, uint32_t of_10000)
{
    return net_random_below(&files->random, 10000) < of_10000;
}

/* ---- Nodes and names ---- */

static struct node *node_make(struct sim_files *files, bool folder)
{
    struct node *node = calloc(1, sizeof(*node));
    check(node != NULL);
    node->folder = folder;
    node->next = files->nodes;
    files->nodes = node;
    files->used_bytes += FILE_BYTES;
    return node;
}

static void node_free(struct sim_files *files, struct node *node)
{
    for (struct name *name; (name = node->names) != NULL;) {
        node->names = name->next;
        free(name);
    }
    files->used_bytes -= FILE_BYTES + node->size;
    free(node->bytes);
    free(node);
}

static struct node *meant(const struct name *name)
{
    return name->states[name->count - 1];
}

static struct name *name_find(const struct node *folder, const char *text)
{
    struct name *name = folder->names;
    while (name != NULL && strcmp(name->text, text) != 0) {
        name = name->next;
    }
    return name;
}

static struct node *node_find(const struct node *folder, const char *text)
{
    const struct name *name = name_find(folder, text);
    return name == NULL ? NULL : meant(name);
}

static void name_set(struct node *folder, const char *text, struct node *node)
{
    struct name *name = name_find(folder, text);
    if (name == NULL) {
        name = calloc(1, sizeof(*name));
        check(name != NULL && strlen(text) < NAME_BYTES);
        strcpy(name->text, text);
        name->count = 1; /* it means nothing */
        name->next = folder->names;
        folder->names = name;
    }
    if (name->count == STATES_MAX) { /* one of those between is forgotten */
        memmove(&name->states[1], &name->states[2], (STATES_MAX - 2) * sizeof(name->states[0]));
        name->count--;
    }
    name->states[name->count++] = node;
}

/* Each name means what its state `pick` says, and that is durable. */
static void names_settle(struct sim_files *files, struct node *folder, bool all)
{
    for (struct name **at = &folder->names; *at != NULL;) {
        struct name *name = *at;
        unsigned state = all ? name->count - 1 : net_random_below(&files->random, name->count);
        name->states[0] = name->states[state];
        name->count = 1;
        if (name->states[0] == NULL) {
            *at = name->next;
            free(name);
        } else {
            at = &name->next;
        }
    }
}

/* ---- What goes wrong ---- */

bool sim_files_stopped(const struct sim_files *files)
{
    return files->changes_left == 0;
}

static int read_error(struct sim_files *files)
{
    return sim_files_stopped(files) || by_chance(files, files->settings.errors) ? -EIO : 0;
}

/* Before each change; of `bytes` more. */
static int change_error(struct sim_files *files, uint64_t bytes)
{
    if (sim_files_stopped(files)) {
        return -EIO;
    }
    if (files->changes_left != UINT32_MAX && --files->changes_left == 0) {
        return -EIO;
    }
    if (files->settings.capacity_bytes > 0 && bytes > 0 &&
        files->used_bytes + bytes > files->settings.capacity_bytes) {
        return -ENOSPC;
    }
    return by_chance(files, files->settings.errors) ? -EIO : 0;
}

/* ---- Operations ---- */

static struct node *node_of(const struct sim_files *files, int number)
{
    check(number >= 0 && number < (int)OPEN_MAX && files->open[number] != NULL);
    return files->open[number];
}

static int node_open(struct sim_files *files, struct node *node)
{
    for (int i = 0; i < (int)OPEN_MAX; i++) {
        if (files->open[i] == NULL) {
            files->open[i] = node;
            files->open_count++;
            return i;
        }
    }
    return -EMFILE;
}

static int files_open_root(void *self, const char *path)
{
    struct sim_files *files = self;
    (void)path;
    int status = read_error(files);
    return status < 0 ? status : node_open(files, files->root);
}

static int files_open_folder(void *self, int at, const char *name)
{
    struct sim_files *files = self;
    struct node *node = node_find(node_of(files, at), name);
    int status = read_error(files);
    if (status == 0) {
        status = node == NULL ? -ENOENT : !node->folder ? -ENOTDIR : 0;
    }
    return status < 0 ? status : node_open(files, node);
}

static int node_add(struct sim_files *files, int at, const char *name, bool folder,
                    struct node **node)
{
    struct node *parent = node_of(files, at);
    int status = change_error(files, FILE_BYTES);
    if (status == 0 && node_find(parent, name) != NULL) {
        status = -EEXIST;
    }
    if (status == 0) {
        *node = node_make(files, folder);
        name_set(parent, name, *node);
    }
    return status;
}

static int files_make_folder(void *self, int at, const char *name)
{
    struct node *node;
    return node_add(self, at, name, true, &node);
}

static int files_make_file(void *self, int at, const char *name)
{
    struct node *node;
    int status = node_add(self, at, name, false, &node);
    return status < 0 ? status : node_open(self, node);
}

static int files_lock(void *self, int folder)
{
    struct node *node = node_of(self, folder);
    int status = node->locked ? -EBUSY : 0;
    node->locked = true;
    return status;
}

static int files_list(void *self, int folder, void (*visit)(void *owner, const char *name),
                      void *owner)
{
    struct sim_files *files = self;
    int status = read_error(files);
    for (struct name *name = node_of(files, folder)->names; status == 0 && name != NULL;) {
        struct name *next = name->next; /* what is removed stays, meaning nothing */
        if (meant(name) != NULL) {
            visit(owner, name->text);
        }
        name = next;
    }
    return status;
}

static ssize_t files_write(void *self, int file, const void *bytes, size_t size)
{
    struct sim_files *files = self;
    struct node *node = node_of(files, file);
    if (size > 1 && by_chance(files, files->settings.short_writes * 100)) {
        size = 1 + net_random_below(&files->random, (uint32_t)size - 1);
    }
    int status = change_error(files, size);
    if (status < 0) {
        return status;
    }
    if (node->size + size > node->room) {
        node->room = (node->size + size) * 2;
        node->bytes = realloc(node->bytes, node->room);
        check(node->bytes != NULL);
    }
    memcpy(node->bytes + node->size, bytes, size);
    node->size += size;
    files->used_bytes += size;
    return (ssize_t)size;
}

static int files_size(void *self, int at, const char *name, uint64_t *bytes)
{
    struct sim_files *files = self;
    const struct node *node = node_find(node_of(files, at), name);
    if (node == NULL || node->folder) {
        return node == NULL ? -ENOENT : -EINVAL;
    }
    *bytes = node->size;
    return read_error(files);
}

static int files_link(void *self, int from_at, const char *from, int to_at, const char *to)
{
    struct sim_files *files = self;
    struct node *node = node_find(node_of(files, from_at), from);
    struct node *folder = node_of(files, to_at);
    int status = change_error(files, 0);
    if (status == 0) {
        status = node == NULL ? -ENOENT : node_find(folder, to) != NULL ? -EEXIST : 0;
    }
    if (status == 0) {
        name_set(folder, to, node);
    }
    return status;
}

static int files_remove(void *self, int at, const char *name)
{
    struct sim_files *files = self;
    struct node *folder = node_of(files, at);
    int status = change_error(files, 0);
    if (status == 0 && node_find(folder, name) == NULL) {
        status = -ENOENT;
    }
    if (status == 0) {
        name_set(folder, name, NULL);
    }
    files->unremoved += status < 0;
    return status;
}

static int files_rename(void *self, int from_at, const char *from, int to_at, const char *to)
{
    struct sim_files *files = self;
    if (files->settings.no_rename) {
        return -EINVAL;
    }
    int status = files_link(self, from_at, from, to_at, to);
    if (status == 0) {
        name_set(node_of(files, from_at), from, NULL); /* both or none, while there is power */
    }
    return status;
}

static void node_sync(struct sim_files *files, struct node *node, int status)
{
    node->lost |= status < 0 && !node->folder;
    if (status == 0 && node->folder) {
        names_settle(files, node, true);
    } else if (!node->lost) {
        node->durable_bytes = node->size;
    }
}

static int sync_error(struct sim_files *files)
{
    int status = change_error(files, 0);
    return status == 0 && by_chance(files, files->settings.sync_errors) ? -EIO : status;
}

static int files_sync(void *self, int number)
{
    struct sim_files *files = self;
    int status = sync_error(files);
    if (!sim_files_stopped(files)) {
        node_sync(files, node_of(files, number), status);
    }
    return status;
}

/* When it fails, some of it has been done. */
static int files_sync_all(void *self, int folder)
{
    struct sim_files *files = self;
    int status = sync_error(files);
    (void)folder;
    for (struct node *node = files->nodes; node != NULL && !sim_files_stopped(files);
         node = node->next) {
        node_sync(files, node, status < 0 && by_chance(files, 5000) ? status : 0);
    }
    return status;
}

static void files_sync_begin(void *self, int file)
{
    check(!node_of(self, file)->folder); /* what it brings to the disk is chance's anyway */
}

static void files_close(void *self, int number)
{
    struct sim_files *files = self;
    node_of(files, number)->locked = false;
    files->open[number] = NULL;
    files->open_count--;
}

/* ---- Life ---- */

struct sim_files *sim_files_open(uint64_t seed)
{
    struct sim_files *files = calloc(1, sizeof(*files));
    check(files != NULL);
    files->random = seed;
    files->changes_left = UINT32_MAX;
    files->root = node_make(files, true);
    files->table = (struct maildir_files){.self = files,
                                          .open_root = files_open_root,
                                          .open_folder = files_open_folder,
                                          .make_folder = files_make_folder,
                                          .lock = files_lock,
                                          .list = files_list,
                                          .make_file = files_make_file,
                                          .write = files_write,
                                          .size = files_size,
                                          .link = files_link,
                                          .rename = files_rename,
                                          .remove = files_remove,
                                          .sync = files_sync,
                                          .sync_begin = files_sync_begin,
                                          .sync_all = files_sync_all,
                                          .sync_all_tells = true,
                                          .close = files_close};
    return files;
}

void sim_files_close(struct sim_files *files)
{
    for (struct node *node; (node = files->nodes) != NULL;) {
        files->nodes = node->next;
        node_free(files, node);
    }
    free(files);
}

const struct maildir_files *sim_files_table(struct sim_files *files)
{
    return &files->table;
}

void sim_files_set(struct sim_files *files, const struct sim_files_settings *settings)
{
    files->settings = *settings;
}

void sim_files_stop_after(struct sim_files *files, uint32_t changes)
{
    files->changes_left = changes;
}

unsigned sim_files_open_count(const struct sim_files *files)
{
    return files->open_count;
}

unsigned sim_files_unremoved(const struct sim_files *files)
{
    return files->unremoved;
}

/* ---- Crashes ---- */

static void text_settle(struct sim_files *files, struct node *node)
{
    uint32_t unsure = (uint32_t)(node->size - node->durable_bytes);
    size_t left = node->durable_bytes + net_random_below(&files->random, unsure + 1);
    files->used_bytes -= node->size - left;
    for (size_t at = node->durable_bytes; at < left; at += SECTOR_BYTES) {
        if (by_chance(files, 3000)) {
            memset(node->bytes + at, 0, left - at < SECTOR_BYTES ? left - at : SECTOR_BYTES);
        }
    }
    node->size = node->durable_bytes = left;
    node->lost = false;
}

static void keep(struct node *node)
{
    node->kept = true;
    for (struct name *name = node->names; name != NULL; name = name->next) {
        for (unsigned i = 0; i < name->count; i++) {
            if (name->states[i] != NULL && !name->states[i]->kept) {
                keep(name->states[i]);
            }
        }
    }
}

static void collect(struct sim_files *files)
{
    for (struct node *node = files->nodes; node != NULL; node = node->next) {
        node->kept = false;
    }
    keep(files->root);
    for (struct node **at = &files->nodes; *at != NULL;) {
        struct node *node = *at;
        if (node->kept) {
            at = &node->next;
        } else {
            *at = node->next;
            node_free(files, node);
        }
    }
}

void sim_files_crash(struct sim_files *files, enum sim_files_end end)
{
    memset(files->open, 0, sizeof(files->open));
    files->open_count = files->unremoved = 0;
    files->changes_left = UINT32_MAX;
    for (struct node *node = files->nodes; node != NULL; node = node->next) {
        node->locked = false;
        if (end == SIM_FILES_POWER_LOST) {
            names_settle(files, node, false);
            if (!node->folder) {
                text_settle(files, node);
            }
        }
    }
    collect(files);
}

/* ---- Looking ---- */

bool sim_files_each(struct sim_files *files, const char *folder,
                    void (*visit)(void *owner, const char *name, struct slice text), void *owner)
{
    char path[NAME_BYTES];
    const struct node *node = files->root;
    snprintf(path, sizeof(path), "%s", folder);
    for (char *rest = NULL, *part = strtok_r(path, "/", &rest); part != NULL && node != NULL;
         part = strtok_r(NULL, "/", &rest)) {
        node = node_find(node, part);
    }
    if (node == NULL || !node->folder) {
        return false;
    }
    for (const struct name *name = node->names; name != NULL; name = name->next) {
        const struct node *it = meant(name);
        if (it != NULL) {
            visit(owner, name->text, slice_of(it->bytes, it->size));
        }
    }
    return true;
}
