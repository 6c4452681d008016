/* Folders of shards that are no more: their messages move to our log, with the ids they have. */
#include "queue/log/log_folder.h"
#include "queue/spool/spool_harvest.h"
#include "queue/spool/spool_private.h"
#include <sched.h>

#define SHARDS_MAX 256u /* as many as an id can name */

struct adoption {
    struct spool *spool;
    struct log_folder *folder;
    uint8_t *memory; /* LOG_FOLDER_MEMORY_BYTES */
    struct spool_message *first, *last;
    uint64_t failures; /* of the log when it began: after another, what was appended may be void */
    int status;
};

static void run_disk(struct spool *spool)
{
    log_flush(spool->log);
    spool->disk->ops->submit(spool->disk);
    if (spool->disk->ops->reap(spool->disk) == 0) {
        sched_yield();
    }
}

static int room_wait(struct spool *spool, size_t bytes)
{
    int result = log_room(spool->log, bytes, 0);
    while (result == -EAGAIN) {
        run_disk(spool);
        result = log_room(spool->log, bytes, 0);
    }
    return result;
}

static int commit_room_wait(struct spool *spool, const struct spool_message *message,
                            uint32_t extent_count)
{
    int result = commit_room(spool, &message->message, extent_count, 0, 0);
    while (result == -EAGAIN) {
        run_disk(spool);
        result = commit_room(spool, &message->message, extent_count, 0, 0);
    }
    return result;
}

/* Copies the body to our log; its extents become those there. */
static int body_adopt(struct adoption *adoption, uint64_t id, struct spool_extent *extents,
                      uint32_t count)
{
    struct spool *spool = adoption->spool;
    struct log_head head = {.type = SPOOL_BODY, .flags = LOG_BODY, .tag = id};
    for (uint32_t i = 0; i < count; i++) {
        struct log_extent from = {.lsn = extents[i].lsn, .length = extents[i].length}, to;
        struct slice content;
        int result = log_folder_read(adoption->folder, &from, adoption->memory, &content);
        if (result == 0) {
            result = room_wait(spool, content.size);
        }
        if (result == 0) {
            result = log_append(spool->log, &head, &content, 1, &to);
        }
        if (result != 0) {
            return result;
        }
        extents[i].lsn = to.lsn;
    }
    return 0;
}

/* The message moves to our log. */
static int message_move(struct adoption *adoption, struct spool_message *message)
{
    struct spool *spool = adoption->spool;
    struct spool_extents *many = NULL;
    struct spool_place place = {0};
    struct extent_list found;
    body_extents(&message->body, &found);
    uint32_t count = found.count;
    struct spool_extent *extents =
        (struct spool_extent *)malloc((count + 1) * sizeof(found.first[0]));
    if (extents == NULL) {
        return -ENOMEM;
    }
    memcpy(extents, found.first, count * sizeof(extents[0]));
    int status = body_adopt(adoption, message->message.id, extents, count);
    status = status == 0 ? commit_room_wait(spool, message, count) : status;
    status = status == 0 ? extents_make(&message->message, count, &many) : status;
    if (status == 0) {
        status = commit_append(spool, &message->message, extents, count, 0, &place);
    }
    if (status == 0) {
        message_lies_nowhere(message);
        message_lies_at(message, extents, count, &place, many);
    } else {
        free(many);
    }
    free(extents);
    return status;
}

static void message_adopt(void *owner, struct spool_message *message)
{
    struct adoption *adoption = (struct adoption *)owner;
    struct spool *spool = adoption->spool;
    if (adoption->status != 0 || message_table_find(&spool->table, message->message.id) != NULL) {
        message_free(message); /* a crash came between: ours is durable */
        return;
    }
    adoption->status = message_move(adoption, message);
    if (adoption->status != 0) {
        message_free(message);
        return;
    }
    if (adoption->first == NULL) {
        adoption->first = message;
    } else {
        adoption->last->message.next = near_link(message);
    }
    adoption->last = message;
}

struct durable_wait {
    struct log_waiter waiter;
    int status;
    bool done;
};

static void durable_done(struct log_waiter *waiter, int status)
{
    struct durable_wait *wait = list_entry(waiter, struct durable_wait, waiter);
    wait->status = status;
    wait->done = true;
}

static int durable_wait(struct spool *spool)
{
    struct durable_wait wait = {.waiter.done = durable_done};
    log_when_durable(spool->log, &wait.waiter);
    while (!wait.done) {
        run_disk(spool);
    }
    return wait.status;
}

/* They are ours from now on. */
static void messages_take(struct adoption *adoption)
{
    struct spool *spool = adoption->spool;
    while (adoption->first != NULL) {
        struct spool_message *message = adoption->first;
        adoption->first = message_next(message);
        message->message.next = 0;
        message_table_add(&spool->table, message);
        spool_message_count(spool, message);
        spool->counters.live_messages++;
        spool->counters.adopted++;
        spool->found(spool->found_owner, &message->message);
    }
}

/* A folder of which not all could be read moves as a whole, another time: of a part that came now nobody
 * would know, when the rest comes, what of it had been delivered meanwhile. And while not all of our own
 * log could be read, a copy that a start has made before a crash may lie there. */
static bool is_readable(const struct adoption *adoption)
{
    return adoption->folder->unread_bytes == 0 &&
           log_counters(adoption->spool->log)->segments_held == 0;
}

static int harvest_adopt(struct adoption *adoption, struct spool_harvest *harvest)
{
    struct log_visitor visitor = {
        .record = spool_harvest_record, .damaged = spool_harvest_damaged, .owner = harvest};
    int result = log_folder_scan(adoption->folder, &visitor);
    if (result == 0 && adoption->folder->scanned_bytes > 0 && !is_readable(adoption)) {
        result = -EIO;
    }
    if (result == 0) {
        result = spool_harvest_each(harvest, NULL, message_adopt, adoption);
    }
    result = result == 0 ? adoption->status : result;
    if (result == 0 && adoption->first != NULL) {
        result = durable_wait(adoption->spool);
    }
    if (result == 0 && log_counters(adoption->spool->log)->write_failures != adoption->failures) {
        result = -EIO;
    }
    return result;
}

static int folder_adopt(struct spool *spool, uint32_t shard, uint8_t *memory)
{
    struct adoption adoption = {
        .spool = spool, .memory = memory, .failures = log_counters(spool->log)->write_failures};
    struct spool_harvest *harvest;
    int result = spool_harvest_open(&harvest, &spool->store);
    if (result != 0) {
        return result;
    }
    const struct log_settings *log = log_settings_of(spool->log);
    const struct log_folder_source source = {.disk = spool->disk,
                                             .shard = shard,
                                             .memory = memory,
                                             .memory_bytes = LOG_FOLDER_MEMORY_BYTES,
                                             .unread = log->unread,
                                             .owner = log->unread_owner};
    result = log_folder_open(&adoption.folder, &source);
    if (result == 0) {
        result = harvest_adopt(&adoption, harvest);
        spool->counters.damaged_bytes += adoption.folder->damaged_bytes;
        if (result == 0) {
            messages_take(&adoption);
            result = log_folder_retire(adoption.folder, memory);
        }
        log_folder_close(adoption.folder);
    }
    while (adoption.first != NULL) {
        struct spool_message *message = adoption.first;
        adoption.first = message_next(message);
        message_free(message);
    }
    spool_harvest_close(harvest);
    return result;
}

struct folder_names {
    bool found[SHARDS_MAX];
};

static void name_visit(void *owner, const char *name)
{
    struct folder_names *names = (struct folder_names *)owner;
    size_t digits = strspn(name, "0123456789");
    uint32_t number = 0;
    if (digits == 0 || digits > 3 || name[digits] != '\0') {
        return;
    }
    for (size_t i = 0; i < digits; i++) {
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    if (number < SHARDS_MAX) {
        names->found[number] = true;
    }
}

int spool_adopt(struct spool *spool, uint32_t shard_count)
{
    struct folder_names names = {0};
    int result = spool->disk->ops->list(spool->disk, ".", name_visit, &names);
    uint8_t *memory = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, LOG_FOLDER_MEMORY_BYTES);
    if (memory == NULL) {
        return -ENOMEM;
    }
    for (uint32_t shard = shard_count; shard < SHARDS_MAX && result >= 0; shard++) {
        if (names.found[shard] && shard % shard_count == spool->shard) {
            result = folder_adopt(spool, shard, memory);
        }
    }
    free(memory);
    return result < 0 ? result : 0;
}
