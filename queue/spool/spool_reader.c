#include "queue/spool/spool_reader.h"
#include "queue/log/log_folder.h"
#include "queue/spool/spool_harvest.h"
#include "queue/spool/spool_private.h"

#define SHARDS_MAX 256u

struct spool_reader {
    struct log_folder *folder;
    struct spool_harvest *harvest;
    struct spool_store store;
    uint8_t *memory; /* LOG_FOLDER_MEMORY_BYTES */
    struct spool_message **messages;
    uint64_t capacity;
    int status;
    struct spool_reader_visitor visitor;
    struct spool_reader_facts facts;
};

static int record_seen(void *owner, const struct log_record *record)
{
    struct spool_reader *reader = (struct spool_reader *)owner;
    reader->facts.records++;
    reader->facts.commits += record->type == SPOOL_COMMIT;
    return spool_harvest_record(reader->harvest, record);
}

static void damage_seen(void *owner, uint64_t lsn, uint64_t bytes)
{
    struct spool_reader *reader = (struct spool_reader *)owner;
    const struct log_folder *folder = reader->folder;
    const struct spool_reader_visitor *visitor = &reader->visitor;
    for (uint32_t i = 0; i < folder->in_use_count && visitor->damaged != NULL; i++) {
        if (folder->segments[i].sequence == log_lsn_sequence(lsn)) {
            visitor->damaged(visitor->owner, folder->source.shard, folder->segments[i].number,
                             (uint32_t)lsn, bytes);
            return;
        }
    }
}

static uint64_t live_bytes(const struct spool_message *message)
{
    const struct spool_place place = message_place(message);
    struct extent_list extents;
    uint64_t bytes = place.length + RECORD_COST;
    for (uint32_t i = 0; i < place.part_count; i++) {
        bytes += place.parts[i].length + RECORD_COST;
    }
    body_extents(&message->body, &extents);
    for (uint32_t i = 0; i < extents.count; i++) {
        bytes += extents.first[i].length + RECORD_COST;
    }
    return bytes;
}

static void message_keep(void *owner, struct spool_message *message)
{
    struct spool_reader *reader = (struct spool_reader *)owner;
    struct spool_reader_facts *facts = &reader->facts;
    if (facts->messages == reader->capacity) {
        uint64_t capacity = reader->capacity * 2 + 1024;
        struct spool_message **messages = (struct spool_message **)realloc(
            reader->messages, capacity * sizeof(reader->messages[0]));
        if (messages == NULL) {
            reader->status = -ENOMEM;
            message_free(message);
            return;
        }
        reader->messages = messages;
        reader->capacity = capacity;
    }
    reader->messages[facts->messages++] = message;
    facts->recipients_waiting += message->message.waiting_count;
    facts->broken += message->body.is_broken;
    facts->live_bytes += live_bytes(message);
}

static void folder_count(struct spool_reader *reader)
{
    const struct log_folder *folder = reader->folder;
    struct spool_reader_facts *facts = &reader->facts;
    facts->log_id = folder->id;
    facts->segments_used = folder->in_use_count;
    facts->segments_spare = folder->count - folder->in_use_count;
    for (uint32_t i = 0; i < folder->in_use_count; i++) {
        facts->used_bytes += folder->segments[i].bytes;
    }
    facts->damaged_bytes = folder->damaged_bytes;
    facts->unread_bytes = folder->unread_bytes;
    facts->torn_bytes = folder->torn_bytes;
    spool_harvest_orphans(reader->harvest, &facts->orphans, &facts->orphan_bytes);
}

static int folder_read(struct spool_reader *reader, struct disk *disk, uint32_t shard)
{
    const struct log_visitor visitor = {
        .record = record_seen, .damaged = damage_seen, .owner = reader};
    const struct log_folder_source source = {.disk = disk,
                                             .shard = shard,
                                             .memory = reader->memory,
                                             .memory_bytes = LOG_FOLDER_MEMORY_BYTES,
                                             .unread = reader->visitor.unread,
                                             .owner = reader->visitor.owner};
    int result = log_folder_open(&reader->folder, &source);
    if (result == 0) {
        result = log_folder_scan(reader->folder, &visitor);
    }
    if (result == 0) {
        folder_count(reader);
        result = spool_harvest_each(reader->harvest, NULL, message_keep, reader);
    }
    return result == 0 ? reader->status : result;
}

int spool_reader_open(struct spool_reader **result, struct disk *disk, uint32_t shard,
                      const struct spool_reader_visitor *visitor)
{
    struct spool_reader *reader = (struct spool_reader *)calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return -ENOMEM;
    }
    reader->visitor = *visitor;
    reader->memory = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, LOG_FOLDER_MEMORY_BYTES);
    int status = reader->memory != NULL ? store_open(&reader->store) : -ENOMEM;
    if (status == 0) {
        status = spool_harvest_open(&reader->harvest, &reader->store);
    }
    if (status == 0) {
        spool_harvest_keep_broken(reader->harvest);
        status = folder_read(reader, disk, shard);
    }
    if (status != 0) {
        spool_reader_close(reader);
        return status;
    }
    *result = reader;
    return 0;
}

void spool_reader_close(struct spool_reader *reader)
{
    for (uint64_t i = 0; i < reader->facts.messages; i++) {
        message_free(reader->messages[i]);
    }
    free(reader->messages);
    if (reader->harvest != NULL) {
        spool_harvest_close(reader->harvest);
    }
    if (reader->folder != NULL) {
        log_folder_close(reader->folder);
    }
    store_close(&reader->store);
    free(reader->memory);
    free(reader);
}

const struct spool_reader_facts *spool_reader_facts(const struct spool_reader *reader)
{
    return &reader->facts;
}

const struct message *spool_reader_message(const struct spool_reader *reader, uint64_t index)
{
    return index < reader->facts.messages ? &reader->messages[index]->message : NULL;
}

bool spool_reader_is_broken(const struct message *message)
{
    return message_private((struct message *)(uintptr_t)message)->body.is_broken;
}

int spool_reader_body(struct spool_reader *reader, const struct message *message,
                      int (*piece)(void *owner, struct slice bytes, uint64_t lost), void *owner)
{
    const struct spool_body *body = &message_private((struct message *)(uintptr_t)message)->body;
    struct extent_list extents;
    int result = 0;
    body_extents(body, &extents);
    for (uint32_t i = 0; i < extents.count && result == 0; i++) {
        struct log_extent extent = {.lsn = extents.first[i].lsn, .length = extents.first[i].length};
        struct slice content;
        if (log_folder_read(reader->folder, &extent, reader->memory, &content) == 0) {
            result = piece(owner, content, 0);
        } else {
            result = piece(owner, slice_of(NULL, 0), extent.length);
        }
    }
    return result;
}

struct shard_names {
    bool found[SHARDS_MAX];
};

static void name_visit(void *owner, const char *name)
{
    struct shard_names *names = (struct shard_names *)owner;
    uint32_t number = 0;
    size_t digits = strspn(name, "0123456789");
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

int spool_reader_shards(struct disk *disk, int (*visit)(void *owner, uint32_t shard), void *owner)
{
    struct shard_names names = {0};
    int result = disk->ops->list(disk, ".", name_visit, &names);
    for (uint32_t shard = 0; shard < SHARDS_MAX && result >= 0; shard++) {
        result = names.found[shard] ? visit(owner, shard) : 0;
    }
    return result < 0 ? result : 0;
}
