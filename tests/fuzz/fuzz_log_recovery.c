/*
 * Recovery of a spool from a folder that holds anything.
 *
 * First byte even: the rest is the segment file as it lies. Odd: the rest is a recipe for records with
 * right LSNs and sums, so that what reads their content is reached too. Then the spool is opened on
 * it, every message is read to its end, and all recipients are finished.
 *
 * With -DFUZZ_STANDALONE it is a program that takes the inputs as files.
 */
#include "engine/disk/disk_fault.h"
#include "queue/log/record.h"
#include "queue/spool/spool_private.h"
#include <stdio.h>

#define FILE_BYTES (2u * LOG_FRAME_BYTES)
#define LOG_ID 7u
#define SEQUENCE 5u
#define BODIES_MAX 16u

struct input {
    const uint8_t *at, *end;
};

struct kitchen {
    struct input input;
    uint8_t *file;
    uint32_t offset;
    struct log_extent bodies[BODIES_MAX];
    uint32_t body_count;
};

static uint8_t byte(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static struct slice some(struct input *input, size_t wanted)
{
    size_t left = (size_t)(input->end - input->at);
    struct slice bytes = slice_of(input->at, wanted < left ? wanted : left);
    input->at += bytes.size;
    return bytes;
}

static bool fits(const struct kitchen *kitchen, size_t length)
{
    uint32_t within = kitchen->offset % LOG_FRAME_BYTES;
    return kitchen->offset < FILE_BYTES &&
           within + sizeof(struct record_header) + length + RECORD_ALIGN <= LOG_FRAME_BYTES;
}

static void put_record(struct kitchen *kitchen, uint8_t type, uint64_t tag, struct slice content)
{
    if (!fits(kitchen, content.size)) {
        return;
    }
    struct record_header header = {.length = (uint32_t)content.size,
                                   .lsn = lsn_of(SEQUENCE, kitchen->offset),
                                   .tag = tag,
                                   .type = type};
    uint32_t crc = crc32c(record_seed(LOG_ID), content.bytes, content.size);
    header.crc = record_crc(crc, &header);
    memcpy(kitchen->file + kitchen->offset, &header, sizeof(header));
    if (content.size > 0) {
        memcpy(kitchen->file + kitchen->offset + sizeof(header), content.bytes, content.size);
    }
    if (type == SPOOL_BODY || type == SPOOL_PART) {
        kitchen->bodies[kitchen->body_count++ % BODIES_MAX] =
            (struct log_extent){.lsn = header.lsn, .length = header.length};
    }
    kitchen->offset += record_bytes(header.length);
}

/* A commit that may be right: its extents are bodies that are there. */
static void put_commit(struct kitchen *kitchen)
{
    struct input *input = &kitchen->input;
    uint8_t blob[2048], content[2200];
    uint32_t size = 0;
    uint64_t bytes = 0;
    uint32_t recipients = byte(input) % 8, extents = byte(input) % 8, wrong = byte(input);
    uint64_t tag = byte(input) % 4;
    memset(blob, 0, sizeof(blob));
    size += 2; /* the null reverse-path */
    for (uint32_t i = 0; i < recipients; i++) {
        uint8_t length = byte(input) % 16;
        blob[size] = byte(input) % 4;
        blob[size + 2] = length;
        size += 4u + length;
    }
    for (uint32_t i = 0; i < extents; i++) {
        struct log_extent extent = kitchen->bodies[byte(input) % BODIES_MAX];
        memcpy(blob + size, &extent.lsn, 8);
        memcpy(blob + size + 8, &extent.length, 4);
        bytes += extent.length;
        size += 12;
    }
    uint32_t head[12] = {0};
    head[0] = (uint32_t)bytes + (wrong == 1);
    head[7] = 0;
    head[8] = recipients + (wrong == 2);
    head[9] = extents + (wrong == 3);
    head[10] = size - (wrong == 4);
    memcpy(content, head, sizeof(head));
    memcpy(content + sizeof(head), blob, size);
    put_record(kitchen, SPOOL_COMMIT, tag, slice_of(content, sizeof(head) + size));
}

static void cook(struct kitchen *kitchen)
{
    struct input *input = &kitchen->input;
    kitchen->offset = SEGMENT_HEADER_BYTES;
    while (input->at < input->end && kitchen->offset < FILE_BYTES) {
        switch (byte(input) % 8) {
        case 0: { /* anything */
            struct slice raw = some(input, byte(input));
            if (fits(kitchen, raw.size)) {
                memcpy(kitchen->file + kitchen->offset, raw.bytes, raw.size);
                kitchen->offset += (uint32_t)(raw.size + 7) & ~7u;
            }
            break;
        }
        case 1:
            put_commit(kitchen);
            break;
        case 2:
            kitchen->offset = block_up(kitchen->offset + 1);
            break;
        case 3:
            kitchen->offset = (kitchen->offset / LOG_FRAME_BYTES + 1) * LOG_FRAME_BYTES;
            break;
        default: {
            uint8_t type = byte(input) % 24;
            uint64_t tag = byte(input) % 4;
            put_record(kitchen, type, tag, some(input, byte(input)));
            break;
        }
        }
    }
}

static void put_header(uint8_t *file)
{
    struct segment_header header = {.magic = SEGMENT_MAGIC,
                                    .version = SEGMENT_VERSION,
                                    .log_id = LOG_ID,
                                    .sequence = SEQUENCE,
                                    .bytes = FILE_BYTES,
                                    .head_sequence = SEQUENCE};
    header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
    memcpy(file, &header, sizeof(header));
}

/* ── What is done with it ────────────────────────────────────────────────────────────────────── */

struct found {
    struct message *messages[64];
    uint32_t count;
};

static void message_found(void *owner, struct message *message)
{
    struct found *found = owner;
    if (found->count < 64) {
        found->messages[found->count++] = message;
    }
}

static void nothing_done(struct spool_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

static void message_use(struct spool *spool, struct disk *disk, struct message *message)
{
    struct spool_fetch fetch = {.waiter.done = nothing_done};
    uint64_t offset = 0;
    while (offset < message->body_bytes) {
        struct slice bytes;
        struct ref *owner;
        int result = spool_read(spool, message, offset, &bytes, &owner, &fetch);
        if (result == -EINPROGRESS || result == -EAGAIN) {
            disk->ops->reap(disk);
            continue;
        }
        if (result != 0) {
            break;
        }
        check(bytes.size > 0);
        offset += bytes.size;
        ref_drop(owner);
    }
    uint32_t count = message->recipient_count;
    for (uint32_t i = 0; i < count; i++) {
        bool last = message->waiting_count == 1;
        if (message_recipient_state(message, i) == RECIPIENT_WAITING) {
            spool_recipient_finished(spool, message, i, RECIPIENT_FAILED);
            if (last) {
                break;
            }
        }
    }
}

/* Kept between inputs: new pages cost more than the rest. */
static _Alignas(DISK_BLOCK_BYTES) uint8_t log_memory[LOG_MEMORY_BYTES_MIN];
static _Alignas(DISK_BLOCK_BYTES) uint8_t fetch_memory[1024 * 1024];
static uint8_t file[FILE_BYTES];

static void spool_use(struct disk_fault *fault)
{
    struct disk *disk = disk_fault_disk(fault);
    struct log_settings settings = {.disk = disk,
                                    .segment_bytes = 8 * LOG_FRAME_BYTES,
                                    .memory = log_memory,
                                    .memory_bytes = LOG_MEMORY_BYTES_MIN,
                                    .new_id = 1};
    struct spool_settings spool_settings = {.message_bytes_max = 1u << 30,
                                            .draft_count_max = 4,
                                            .fetch_memory = fetch_memory,
                                            .fetch_memory_bytes = sizeof(fetch_memory)};
    struct found found = {0};
    struct log *log;
    struct spool *spool;
    check(log_open(&log, &settings) == 0);
    if (spool_open(&spool, log, &spool_settings, message_found, &found) == 0) {
        for (uint32_t i = 0; i < found.count; i++) {
            message_use(spool, disk, found.messages[i]);
        }
        for (uint64_t round = 1; round < 100; round++) {
            disk->ops->reap(disk);
            log_round(log, round * 1000000);
            spool_round(spool);
            log_flush(log);
        }
        spool_close(spool);
    }
    if (log_is_quiet(log) || disk_fault_pending(fault) == 0) {
        log_close(log);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk_fault_settings settings = {.seed = 1, .capacity_bytes = 1};
    struct disk_fault *fault = disk_fault_open(&settings);
    check(fault != NULL);
    memset(file, 0, sizeof(file));
    if (size > 0 && data[0] % 2 == 0) {
        size_t bytes = size - 1 < FILE_BYTES ? size - 1 : FILE_BYTES;
        memcpy(file, data + 1, bytes);
    } else if (size > 0) {
        struct kitchen kitchen = {.input = {.at = data + 1, .end = data + size}, .file = file};
        put_header(file);
        cook(&kitchen);
    }
    check(disk_fault_put(fault, "0/00000001.segment", slice_of(file, FILE_BYTES)) == 0);
    spool_use(fault);
    disk_fault_close(fault);
    return 0;
}

#ifdef FUZZ_STANDALONE
int main(int count, char **names)
{
    static uint8_t data[FILE_BYTES + 1];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (file == NULL) {
            perror(names[i]);
            return 1;
        }
        size_t size = fread(data, 1, sizeof(data), file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
#endif
