#include "engine/disk/disk_fault.h"
#include "engine/core/check.h"
#include "engine/disk/disk_tear.h"
#include <stdio.h>

#define NAME_BYTES 64

struct fault_file {
    struct fault_file *next;
    char name[NAME_BYTES];
    uint64_t bytes;
    uint8_t *now;    /* what a read sees */
    uint8_t *device; /* what survives for sure */
    uint8_t *unsure; /* a flag for each sector: `now` may survive or not */
    bool unsure_any;
    bool removed;
    int number; /* -1: not open */
};

struct fault_op {
    struct list_node node;
    enum disk_fault_kind kind;
    struct fault_file *file;
    struct disk_done *done;
    const uint8_t *from; /* write */
    uint8_t *to;         /* read */
    uint64_t offset;
    uint64_t bytes;
    uint64_t digest; /* of what is written, when it was handed over */
    bool durable;
    int error;
    char name[NAME_BYTES];
};

enum landing { LANDS_NOT, LANDS_TORN, LANDS_WHOLE }; /* of a write that nobody promises */

struct fault_trap {
    uint32_t skip, count;
    int error;
};

struct fault_refusal {
    char name[NAME_BYTES];
    uint64_t offset, bytes;
    bool opening;
};

struct disk_fault {
    struct disk disk;
    struct disk_fault_settings settings;
    uint64_t random;
    struct fault_file *files; /* newest first */
    struct fault_file **open; /* by number */
    int open_count, open_capacity;
    struct list_node ops;
    uint32_t op_count;
    bool held;
    struct fault_trap traps[DISK_FAULT_KINDS];
    struct fault_refusal refusals[DISK_FAULT_REFUSED_MAX];
    uint32_t refusal_count;
    struct disk_fault_counters counters;
};

static uint32_t fault_below(struct disk_fault *fault, uint32_t limit)
{
    return (uint32_t)((disk_tear_random(&fault->random) >> 32) % limit);
}

static struct disk_fault *fault_of(struct disk *disk)
{
    return (struct disk_fault *)(void *)disk;
}

static uint64_t digest_of(const uint8_t *bytes, uint64_t size)
{
    uint64_t digest = 14695981039346656037ull;
    for (uint64_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        digest = (digest ^ word) * 1099511628211ull;
    }
    return digest;
}

/* ── Files ───────────────────────────────────────────────────────────────────────────────────── */

static struct fault_file *file_find(const struct disk_fault *fault, const char *name)
{
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        if (!file->removed && strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static void file_free(struct fault_file *file)
{
    free(file->now);
    free(file->device);
    free(file->unsure);
    free(file);
}

static struct fault_file *file_make(struct disk_fault *fault, const char *name, uint64_t bytes)
{
    struct fault_file *file = (struct fault_file *)calloc(1, sizeof(*file));
    if (file == NULL) {
        return NULL;
    }
    file->now = (uint8_t *)calloc(1, bytes + 1);
    file->device = (uint8_t *)calloc(1, bytes + 1);
    file->unsure = (uint8_t *)calloc(1, bytes / DISK_TEAR_SECTOR_BYTES + 1);
    if (file->now == NULL || file->device == NULL || file->unsure == NULL) {
        file_free(file);
        return NULL;
    }
    snprintf(file->name, sizeof(file->name), "%s", name);
    file->bytes = bytes;
    file->number = -1;
    file->next = fault->files;
    fault->files = file;
    return file;
}

static int file_open(struct disk_fault *fault, struct fault_file *file)
{
    if (fault->open_count == fault->open_capacity) {
        int capacity = fault->open_capacity * 2 + 64;
        struct fault_file **open =
            (struct fault_file **)realloc(fault->open, (size_t)capacity * sizeof(open[0]));
        if (open == NULL) {
            return -ENOMEM;
        }
        fault->open = open;
        fault->open_capacity = capacity;
    }
    fault->open[fault->open_count] = file;
    file->number = fault->open_count;
    return fault->open_count++;
}

static uint64_t used_bytes(const struct disk_fault *fault)
{
    uint64_t used = 0;
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        used += file->removed ? 0 : file->bytes;
    }
    return used;
}

/* ── Operations ──────────────────────────────────────────────────────────────────────────────── */

static int op_error(struct disk_fault *fault, enum disk_fault_kind kind)
{
    struct fault_trap *trap = &fault->traps[kind];
    if (trap->count > 0 && trap->skip == 0) {
        trap->count--;
        return trap->error;
    }
    if (trap->count > 0) {
        trap->skip--;
    }
    return fault_below(fault, 10000) < fault->settings.error_permyriad[kind] ? -EIO : 0;
}

static bool is_refused(const struct disk_fault *fault, const struct fault_file *file,
                       uint64_t offset, uint64_t bytes)
{
    for (uint32_t i = 0; i < fault->refusal_count; i++) {
        const struct fault_refusal *refusal = &fault->refusals[i];
        if (strcmp(refusal->name, file->name) == 0 && offset < refusal->offset + refusal->bytes &&
            refusal->offset < offset + bytes) {
            return true;
        }
    }
    return false;
}

static struct fault_op *op_add(struct disk_fault *fault, enum disk_fault_kind kind,
                               struct disk_done *done)
{
    struct fault_op *op = (struct fault_op *)calloc(1, sizeof(*op));
    check(op != NULL);
    op->kind = kind;
    op->done = done;
    op->error = kind < DISK_FAULT_KINDS ? op_error(fault, kind) : 0;
    list_init(&op->node);
    list_append(&fault->ops, &op->node);
    fault->op_count++;
    return op;
}

static struct fault_file *file_by_number(struct disk_fault *fault, int number)
{
    check(number >= 0 && number < fault->open_count && fault->open[number] != NULL);
    return fault->open[number];
}

static void transfer_check(const struct fault_file *file, const void *memory, uint64_t bytes,
                           uint64_t offset)
{
    check((uintptr_t)memory % DISK_BLOCK_BYTES == 0 && bytes % DISK_BLOCK_BYTES == 0 &&
          offset % DISK_BLOCK_BYTES == 0 && bytes > 0);
    check(offset <= file->bytes && bytes <= file->bytes - offset);
}

static int fault_write(struct disk *disk, int number, const void *block, size_t bytes,
                       uint64_t offset, uint32_t flags, struct disk_done *done)
{
    struct disk_fault *fault = fault_of(disk);
    struct fault_file *file = file_by_number(fault, number);
    transfer_check(file, block, bytes, offset);
    struct fault_op *op = op_add(fault, DISK_FAULT_WRITE, done);
    op->file = file;
    op->from = (const uint8_t *)block;
    op->bytes = bytes;
    op->offset = offset;
    op->durable = (flags & DISK_DURABLE) != 0;
    op->digest = digest_of(op->from, bytes);
    fault->counters.writes++;
    fault->counters.write_bytes += bytes;
    return 0;
}

static int fault_read(struct disk *disk, int number, void *block, size_t bytes, uint64_t offset,
                      struct disk_done *done)
{
    struct disk_fault *fault = fault_of(disk);
    struct fault_file *file = file_by_number(fault, number);
    transfer_check(file, block, bytes, offset);
    struct fault_op *op = op_add(fault, DISK_FAULT_READ, done);
    op->file = file;
    op->to = (uint8_t *)block;
    op->bytes = bytes;
    op->offset = offset;
    op->error = is_refused(fault, file, offset, bytes) ? -EIO : op->error;
    fault->counters.reads++;
    fault->counters.read_bytes += bytes;
    return 0;
}

static int fault_prepare(struct disk *disk, const char *name, uint64_t bytes,
                         struct disk_done *done)
{
    struct disk_fault *fault = fault_of(disk);
    check(file_find(fault, name) == NULL && strlen(name) < NAME_BYTES);
    struct fault_op *op = op_add(fault, DISK_FAULT_PREPARE, done);
    snprintf(op->name, sizeof(op->name), "%s", name);
    op->bytes = bytes;
    fault->counters.prepares++;
    return 0;
}

static int fault_remove(struct disk *disk, const char *name, struct disk_done *done)
{
    struct disk_fault *fault = fault_of(disk);
    struct fault_op *op = op_add(fault, DISK_FAULT_REMOVE, done);
    op->file = file_find(fault, name);
    fault->counters.removes++;
    return 0;
}

static int fault_space(struct disk *disk, struct disk_space *space, struct disk_done *done)
{
    struct fault_op *op = op_add(fault_of(disk), DISK_FAULT_KINDS, done);
    op->to = (uint8_t *)space;
    return 0;
}

static void write_land(struct disk_fault *fault, const struct fault_op *op, enum landing landing)
{
    uint8_t *now = op->file->now + op->offset, *device = op->file->device + op->offset;
    uint64_t same = fault->random;
    switch (landing) {
    case LANDS_NOT:
        break;
    case LANDS_TORN:
        disk_tear(&fault->random, now, op->from, op->bytes);
        disk_tear(&same, device, op->from, op->bytes);
        break;
    case LANDS_WHOLE:
        memcpy(now, op->from, op->bytes);
        memcpy(device, op->from, op->bytes);
        break;
    }
}

static int write_run(struct disk_fault *fault, const struct fault_op *op)
{
    check(op->digest == digest_of(op->from, op->bytes)); /* written memory may not change */
    if (op->error != 0) {
        static const enum landing failed[] = {LANDS_NOT, LANDS_TORN, LANDS_WHOLE};
        write_land(fault, op, failed[fault_below(fault, 3)]);
        return op->error;
    }
    if (op->durable) {
        write_land(fault, op, LANDS_WHOLE);
        return 0;
    }
    memcpy(op->file->now + op->offset, op->from, op->bytes);
    memset(op->file->unsure + op->offset / DISK_TEAR_SECTOR_BYTES, 1,
           op->bytes / DISK_TEAR_SECTOR_BYTES);
    op->file->unsure_any = true;
    return 0;
}

static int prepare_run(struct disk_fault *fault, const struct fault_op *op)
{
    if (op->error != 0) {
        return op->error;
    }
    if (fault->settings.no_files ||
        (fault->settings.capacity_bytes != 0 &&
         used_bytes(fault) + op->bytes > fault->settings.capacity_bytes)) {
        return -ENOSPC;
    }
    struct fault_file *file = file_make(fault, op->name, op->bytes);
    return file != NULL ? file_open(fault, file) : -ENOMEM;
}

static int space_run(struct disk_fault *fault, const struct fault_op *op)
{
    uint64_t used = used_bytes(fault), capacity = fault->settings.capacity_bytes;
    *(struct disk_space *)(void *)op->to =
        (struct disk_space){.total_bytes = capacity == 0 ? UINT64_MAX : capacity,
                            .free_bytes = capacity == 0     ? UINT64_MAX
                                          : capacity > used ? capacity - used
                                                            : 0,
                            .free_files = fault->settings.no_files ? 0 : UINT64_MAX};
    return 0;
}

static int op_run(struct disk_fault *fault, const struct fault_op *op)
{
    switch (op->kind) {
    case DISK_FAULT_WRITE:
        return write_run(fault, op);
    case DISK_FAULT_READ:
        if (op->error == 0) {
            memcpy(op->to, op->file->now + op->offset, op->bytes);
        }
        return op->error;
    case DISK_FAULT_PREPARE:
        return prepare_run(fault, op);
    case DISK_FAULT_REMOVE:
        if (op->error == 0 && op->file == NULL) {
            return -ENOENT;
        }
        if (op->error == 0) {
            op->file->removed = true;
        }
        return op->error;
    case DISK_FAULT_KINDS:
        return space_run(fault, op);
    }
    return -EINVAL;
}

/* Takes each operation under way once, in an order made by chance, and reports some. */
static unsigned fault_reap(struct disk *disk)
{
    struct disk_fault *fault = fault_of(disk);
    struct list_node shuffled;
    list_init(&shuffled);
    if (fault->held) {
        return 0;
    }
    for (struct list_node *node; (node = list_pop(&fault->ops)) != NULL;) {
        if (fault_below(fault, 2) == 0) {
            list_append(&shuffled, node);
        } else {
            list_prepend(&shuffled, node);
        }
    }
    unsigned reported = 0;
    for (struct list_node *node; (node = list_pop(&shuffled)) != NULL;) {
        struct fault_op *op = list_entry(node, struct fault_op, node);
        if (fault_below(fault, 100) < fault->settings.late_percent) {
            list_append(&fault->ops, node);
            continue;
        }
        struct disk_done *done = op->done;
        int result = op_run(fault, op);
        fault->op_count--;
        free(op);
        done->run(done, result);
        reported++;
    }
    return reported;
}

/* ── At start ────────────────────────────────────────────────────────────────────────────────── */

static int fault_open(struct disk *disk, const char *name, uint64_t *bytes)
{
    struct disk_fault *fault = fault_of(disk);
    struct fault_file *file = file_find(fault, name);
    if (file == NULL) {
        return -ENOENT;
    }
    for (uint32_t i = 0; i < fault->refusal_count; i++) {
        if (fault->refusals[i].opening && strcmp(fault->refusals[i].name, name) == 0) {
            return -EIO;
        }
    }
    *bytes = file->bytes;
    memcpy(file->device, file->now, file->bytes); /* open syncs */
    memset(file->unsure, 0, file->bytes / DISK_TEAR_SECTOR_BYTES + 1);
    file->unsure_any = false;
    return file_open(fault, file);
}

static int fault_list(struct disk *disk, const char *folder, void (*visit)(void *, const char *),
                      void *owner)
{
    struct disk_fault *fault = fault_of(disk);
    bool top = strcmp(folder, ".") == 0;
    size_t length = strlen(folder);
    bool found = top;
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        const char *slash = strchr(file->name, '/');
        if (file->removed || slash == NULL) {
            continue;
        }
        size_t at = (size_t)(slash - file->name);
        if (top) {
            char name[NAME_BYTES];
            snprintf(name, sizeof(name), "%.*s", (int)at, file->name);
            visit(owner, name);
        } else if (at == length && memcmp(file->name, folder, length) == 0) {
            visit(owner, slash + 1);
            found = true;
        }
    }
    return found ? 0 : -ENOENT;
}

static void fault_forget(struct disk *disk, int number)
{
    struct disk_fault *fault = fault_of(disk);
    if (number < fault->open_count && fault->open[number] != NULL) { /* else: a crash closed it */
        fault->open[number]->number = -1;
        fault->open[number] = NULL;
    }
}

static int fault_pin(struct disk *disk, void *memory, size_t bytes)
{
    (void)disk, (void)memory, (void)bytes;
    return 0;
}

static void fault_submit(struct disk *disk)
{
    (void)disk;
}

static int fault_arm(struct disk *disk)
{
    return fault_of(disk)->op_count > 0 ? -EAGAIN : -ENOTSUP;
}

static void fault_done(struct disk *disk)
{
    (void)disk; /* the content outlives it */
}

static const struct disk_ops fault_ops = {
    .write = fault_write,
    .read = fault_read,
    .prepare = fault_prepare,
    .remove = fault_remove,
    .space = fault_space,
    .open = fault_open,
    .list = fault_list,
    .forget = fault_forget,
    .pin = fault_pin,
    .reap = fault_reap,
    .submit = fault_submit,
    .arm = fault_arm,
    .close = fault_done,
};

/* ── The test's side ─────────────────────────────────────────────────────────────────────────── */

struct disk_fault *disk_fault_open(const struct disk_fault_settings *settings)
{
    struct disk_fault *fault = (struct disk_fault *)calloc(1, sizeof(*fault));
    if (fault != NULL) {
        fault->disk.ops = &fault_ops;
        fault->disk.direct = true;
        fault->settings = *settings;
        fault->random = settings->seed * 0x9e3779b97f4a7c15ull + 0x1234567;
        fault->random |= fault->random == 0;
        list_init(&fault->ops);
    }
    return fault;
}

static void ops_drop(struct disk_fault *fault)
{
    for (struct list_node *node; (node = list_pop(&fault->ops)) != NULL;) {
        free(list_entry(node, struct fault_op, node));
    }
    fault->op_count = 0;
}

void disk_fault_close(struct disk_fault *fault)
{
    ops_drop(fault);
    while (fault->files != NULL) {
        struct fault_file *file = fault->files;
        fault->files = file->next;
        file_free(file);
    }
    free(fault->open);
    free(fault);
}

struct disk *disk_fault_disk(struct disk_fault *fault)
{
    return &fault->disk;
}

void disk_fault_set(struct disk_fault *fault, const struct disk_fault_settings *settings)
{
    fault->settings = *settings;
}

static void op_crash(struct disk_fault *fault, const struct fault_op *op)
{
    switch (op->kind) {
    case DISK_FAULT_WRITE: {
        static const enum landing cut[] = {LANDS_NOT, LANDS_WHOLE, LANDS_TORN, LANDS_TORN};
        write_land(fault, op, cut[fault_below(fault, 4)]);
        break;
    }
    case DISK_FAULT_PREPARE: {
        /* It may be there, shorter than it should be. */
        uint32_t blocks = (uint32_t)(op->bytes / DISK_BLOCK_BYTES);
        if (fault_below(fault, 2) == 0) {
            file_make(fault, op->name, (uint64_t)fault_below(fault, blocks + 1) * DISK_BLOCK_BYTES);
        }
        break;
    }
    case DISK_FAULT_REMOVE:
        if (op->file != NULL && fault_below(fault, 2) == 0) {
            op->file->removed = true;
        }
        break;
    case DISK_FAULT_READ:
    case DISK_FAULT_KINDS:
        break;
    }
}

static void file_settle(struct disk_fault *fault, struct fault_file *file)
{
    for (uint64_t i = 0; file->unsure_any && i < file->bytes / DISK_TEAR_SECTOR_BYTES; i++) {
        uint64_t at = i * DISK_TEAR_SECTOR_BYTES;
        if (file->unsure[i] && fault_below(fault, 2) == 0) {
            memcpy(file->now + at, file->device + at, DISK_TEAR_SECTOR_BYTES);
        }
        memcpy(file->device + at, file->now + at, DISK_TEAR_SECTOR_BYTES);
        file->unsure[i] = 0;
    }
    file->unsure_any = false;
    file->number = -1;
}

void disk_fault_crash(struct disk_fault *fault)
{
    for (struct list_node *node = fault->ops.next; node != &fault->ops; node = node->next) {
        op_crash(fault, list_entry(node, struct fault_op, node));
    }
    ops_drop(fault);
    fault->open_count = 0;
    fault->held = false;
    memset(fault->traps, 0, sizeof(fault->traps));
    struct fault_file **link = &fault->files;
    while (*link != NULL) {
        struct fault_file *file = *link;
        if (file->removed) {
            *link = file->next;
            file_free(file);
        } else {
            file_settle(fault, file);
            link = &file->next;
        }
    }
}

void disk_fault_fail(struct disk_fault *fault, enum disk_fault_kind kind, uint32_t skip,
                     uint32_t count, int error)
{
    fault->traps[kind] = (struct fault_trap){.skip = skip, .count = count, .error = error};
}

static struct fault_refusal *refusal_add(struct disk_fault *fault, const char *name)
{
    check(fault->refusal_count < DISK_FAULT_REFUSED_MAX);
    struct fault_refusal *refusal = &fault->refusals[fault->refusal_count++];
    *refusal = (struct fault_refusal){.opening = false};
    snprintf(refusal->name, sizeof(refusal->name), "%s", name);
    return refusal;
}

void disk_fault_refuse_reads(struct disk_fault *fault, const char *name, uint64_t offset,
                             uint64_t bytes)
{
    struct fault_refusal *refusal = refusal_add(fault, name);
    refusal->offset = offset;
    refusal->bytes = bytes;
}

void disk_fault_refuse_open(struct disk_fault *fault, const char *name)
{
    refusal_add(fault, name)->opening = true;
}

void disk_fault_mend(struct disk_fault *fault)
{
    fault->refusal_count = 0;
}

void disk_fault_hold(struct disk_fault *fault, bool held)
{
    fault->held = held;
}

uint32_t disk_fault_pending(const struct disk_fault *fault)
{
    return fault->op_count;
}

uint8_t *disk_fault_bytes(struct disk_fault *fault, const char *name, uint64_t *bytes)
{
    struct fault_file *file = file_find(fault, name);
    if (file == NULL) {
        return NULL;
    }
    *bytes = file->bytes;
    return file->now;
}

int disk_fault_put(struct disk_fault *fault, const char *name, struct slice content)
{
    struct fault_file *file = file_make(fault, name, content.size);
    if (file == NULL) {
        return -ENOMEM;
    }
    memcpy(file->now, content.bytes, content.size);
    memcpy(file->device, content.bytes, content.size);
    return 0;
}

const char *disk_fault_name(const struct disk_fault *fault, uint32_t index)
{
    uint32_t count = 0;
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        count += !file->removed;
    }
    for (struct fault_file *file = fault->files; file != NULL; file = file->next) {
        if (!file->removed && --count == index) {
            return file->name;
        }
    }
    return NULL;
}

const struct disk_fault_counters *disk_fault_counters(const struct disk_fault *fault)
{
    return &fault->counters;
}
