#include "queue/log/log_scan.h"
#include "engine/core/mutation.h"

static bool all_zero(const uint8_t *at, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

/* A valid record lies at `offset`; what was missed before it is judged by what it knows. */
static void hole_ends(struct log_scan *scan, uint32_t offset, uint32_t durable)
{
    bool unread = scan->hole_unread;
    scan->in_hole = scan->hole_unread = false;
    if (unread) {
        return;
    }
    uint32_t damaged_end = durable < offset ? durable : offset;
    if (damaged_end > scan->hole) {
        uint32_t bytes = damaged_end - scan->hole;
        scan->damaged_bytes += bytes;
        if (scan->visitor->damaged != NULL) {
            scan->visitor->damaged(scan->visitor->owner, lsn_of(scan->sequence, scan->hole), bytes);
        }
        scan->hole = damaged_end;
    }
    scan->torn_bytes += offset - scan->hole;
}

static int record_found(struct log_scan *scan, const uint8_t *at,
                        const struct record_header *header)
{
    if (scan->in_hole) {
        hole_ends(scan, lsn_offset(header->lsn), header->durable);
    }
    scan->records++;
    scan->end = lsn_offset(header->lsn) + record_bytes(header->length);
    if (header->type < LOG_TYPE_OWNER_MIN) {
        return 0;
    }
    struct log_record record = {.lsn = header->lsn,
                                .tag = header->tag,
                                .type = header->type,
                                .content = slice_of(at + sizeof(*header), header->length)};
    return scan->visitor->record(scan->visitor->owner, &record);
}

/* The first valid record behind `at` that begins below `end`, the block's; else `end`. What looks
 * like one in a damaged body is none: it would have to know its place and the log's id. */
static uint32_t search_block(const struct log_scan *scan, const uint8_t *piece, uint32_t offset,
                             uint32_t at, uint32_t end, uint32_t bytes)
{
    for (at += RECORD_ALIGN; at < end; at += RECORD_ALIGN) {
        uint64_t lsn = lsn_of(scan->sequence, offset + at);
        if (record_is_valid(piece + at, bytes - at, lsn, scan->seed)) {
            return at;
        }
    }
    return end;
}

int log_scan_piece(struct log_scan *scan, const uint8_t *piece, uint32_t offset, uint32_t bytes)
{
    static_assert(LOG_FRAME_BYTES / DISK_BLOCK_BYTES == 64, "log_scan.unread has a bit for each");
    check(bytes <= LOG_FRAME_BYTES && offset % LOG_FRAME_BYTES == 0);
    uint32_t at = offset == 0 ? SEGMENT_HEADER_BYTES : 0;
    if (offset >= scan->valid_end) {
        return 0;
    }
    if (bytes > scan->valid_end - offset) {
        bytes = scan->valid_end - offset;
    }
    while (at + sizeof(struct record_header) <= bytes) {
        uint64_t lsn = lsn_of(scan->sequence, offset + at);
        if (record_is_valid(piece + at, bytes - at, lsn, scan->seed)) {
            struct record_header header;
            memcpy(&header, piece + at, sizeof(header));
            uint32_t behind = at + record_bytes(header.length);
            if (MUTATED(LAST_RECORD_LOST) &&
                all_zero(piece + behind, behind < bytes ? RECORD_ALIGN : 0)) {
                at = behind;
                continue;
            }
            int result = record_found(scan, piece + at, &header);
            if (result != 0) {
                return result;
            }
            if (header.type == LOG_TYPE_SKIP) {
                break;
            }
            at = behind;
            continue;
        }
        uint32_t next = (at / DISK_BLOCK_BYTES + 1) * DISK_BLOCK_BYTES;
        next = next < bytes ? next : bytes;
        bool zero = all_zero(piece + at, next - at);
        bool padding = at % DISK_BLOCK_BYTES != 0 && zero;
        if (!padding && !scan->in_hole) {
            scan->in_hole = true;
            scan->hole = offset + at;
        }
        scan->hole_unread = scan->hole_unread || (scan->unread >> at / DISK_BLOCK_BYTES & 1) != 0;
        at = zero ? next : search_block(scan, piece, offset, at, next, bytes);
    }
    return 0;
}

uint32_t log_scan_probe(const uint8_t *piece, uint32_t offset, uint32_t bytes, uint32_t seed)
{
    uint32_t highest = 0;
    for (uint32_t at = 0; at + sizeof(struct record_header) <= bytes; at += DISK_BLOCK_BYTES) {
        struct record_header header;
        memcpy(&header, piece + at, sizeof(header));
        if (lsn_offset(header.lsn) == offset + at && log_lsn_sequence(header.lsn) > highest &&
            record_is_valid(piece + at, bytes - at, header.lsn, seed)) {
            highest = log_lsn_sequence(header.lsn);
        }
    }
    return highest;
}
