/*
 * The record that makes a message.
 *
 *   struct commit_head, then the rest of the record: the blob itself, or where its parts are.
 *   blob = reverse-path, envelope id, recipients, extents; each length before its bytes.
 *   A recipient is its state, its marks, the forward-path and ORCPT.
 *
 * The envelope id and ORCPT are there where a flag or mark says so; marks were zero before there were any.
 */
#include "queue/spool/spool_private.h"

#define INLINE_BYTES_MAX (64u * 1024)
#define PART_BYTES (120u * 1024) /* two of them in a frame */
#define EXTENT_BYTES 12u
#define RECIPIENT_BYTES 4u /* besides its forward-path */
#define TEXT_BYTES(text) (sizeof(uint16_t) + (text).size)
#define COMMIT_OVERHEAD_BYTES 128u /* two headers, and their padding */

struct commit_head {
    uint64_t body_bytes;
    int64_t arrival_wall_s;
    int64_t last_attempt_wall_s;
    uint32_t attempts;
    uint32_t envelope_flags;
    uint32_t recipient_count;
    uint32_t extent_count;
    uint32_t blob_bytes;
    uint32_t part_count; /* 0: the blob follows here */
};
static_assert(sizeof(struct commit_head) == 48, "commits are read back by other versions");

struct commit_part {
    uint64_t lsn;
    uint32_t length;
    uint32_t zero;
};

/* What its head and its blob take, or a little more. */
static size_t commit_size(const struct message *message, size_t extent_count)
{
    size_t bytes = sizeof(struct commit_head) + 4 + message_reverse_path(message).size +
                   message_envid(message).size + extent_count * EXTENT_BYTES;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        bytes += RECIPIENT_BYTES + 2 + message_forward_path(message, i).size +
                 message_orcpt(message, i).size;
    }
    return bytes;
}

bool commit_is_large(const struct message *message, size_t extent_count)
{
    return commit_size(message, extent_count) > INLINE_BYTES_MAX;
}

int commit_room(const struct spool *spool, const struct message *message, size_t extent_count,
                size_t more, uint32_t flags)
{
    size_t bytes = commit_size(message, extent_count);
    if (bytes > COMMIT_BYTES_MAX) {
        return -EFBIG;
    }
    bytes += more + (bytes > INLINE_BYTES_MAX ? PART_BYTES : COMMIT_OVERHEAD_BYTES);
    return log_room(spool->log, bytes, flags);
}

/* ── Writing ─────────────────────────────────────────────────────────────────────────────────── */

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
    if (size > 0) {
        memcpy(at, bytes, size);
    }
    return at + size;
}

static uint8_t *put_text(uint8_t *at, struct slice text)
{
    uint16_t size = (uint16_t)text.size;
    return put(put(at, &size, sizeof(size)), text.bytes, text.size);
}

static uint32_t blob_write(uint8_t *blob, const struct message *message,
                           const struct spool_extent *extents, uint32_t extent_count)
{
    uint8_t *at = put_text(blob, message_reverse_path(message));
    struct slice envid = message_envid(message);
    at = envid.size > 0 ? put_text(at, envid) : at;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        struct slice orcpt = message_orcpt(message, i);
        uint8_t state[2] = {(uint8_t)message_recipient_state(message, i),
                            message_marks(message, i)};
        at = put_text(put(at, state, sizeof(state)), message_forward_path(message, i));
        at = orcpt.size > 0 ? put_text(at, orcpt) : at;
    }
    for (uint32_t i = 0; i < extent_count; i++) {
        at = put(at, &extents[i].lsn, sizeof(extents[i].lsn));
        at = put(at, &extents[i].length, sizeof(extents[i].length));
    }
    return (uint32_t)(at - blob);
}

static int parts_append(struct spool *spool, uint64_t id, uint32_t bytes, uint8_t flags,
                        struct spool_place *place, struct commit_part *parts)
{
    struct log_head head = {.type = SPOOL_PART, .flags = flags, .tag = id};
    uint32_t count = (bytes + PART_BYTES - 1) / PART_BYTES;
    place->parts = (struct log_extent *)calloc(count, sizeof(place->parts[0]));
    if (place->parts == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rest = bytes - i * PART_BYTES;
        struct slice content =
            slice_of(spool->scratch + i * PART_BYTES, rest < PART_BYTES ? rest : PART_BYTES);
        int result = log_append(spool->log, &head, &content, 1, &place->parts[i]);
        if (result != 0) {
            free(place->parts);
            *place = (struct spool_place){0};
            return result;
        }
        parts[i] =
            (struct commit_part){.lsn = place->parts[i].lsn, .length = place->parts[i].length};
    }
    place->part_count = count;
    return 0;
}

int commit_append(struct spool *spool, const struct message *message,
                  const struct spool_extent *extents, uint32_t extent_count, uint8_t flags,
                  struct spool_place *place)
{
    struct commit_part part_list[COMMIT_BYTES_MAX / PART_BYTES + 1];
    struct commit_head head = {
        .body_bytes = message->body_bytes,
        .arrival_wall_s = message_arrival_wall_s(message),
        .last_attempt_wall_s = message->last_attempt_wall_s,
        .attempts = message->attempts,
        .envelope_flags = message_flags_all(message),
        .recipient_count = message->recipient_count,
        .extent_count = extent_count,
        .blob_bytes = blob_write(spool->scratch, message, extents, extent_count),
    };
    struct slice record[2] = {slice_of(&head, sizeof(head)),
                              slice_of(spool->scratch, head.blob_bytes)};
    *place = (struct spool_place){0};
    if (head.blob_bytes > INLINE_BYTES_MAX) {
        int result = parts_append(spool, message->id, head.blob_bytes, flags, place, part_list);
        if (result != 0) {
            return result;
        }
        head.part_count = place->part_count;
        record[1] = slice_of(part_list, place->part_count * sizeof(part_list[0]));
    }
    struct log_head log_head = {.type = SPOOL_COMMIT, .flags = flags, .tag = message->id};
    struct log_extent commit;
    int result = log_append(spool->log, &log_head, record, 2, &commit);
    place->lsn = commit.lsn;
    place->length = commit.length;
    if (result != 0) {
        free(place->parts);
        *place = (struct spool_place){0};
    }
    return result;
}

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────── */

static bool take(struct slice *from, void *bytes, size_t size)
{
    if (from->size < size) {
        return false;
    }
    memcpy(bytes, from->bytes, size);
    *from = slice_from(*from, size);
    return true;
}

static bool take_text(struct slice *from, struct slice *text)
{
    uint16_t size;
    if (!take(from, &size, sizeof(size)) || from->size < size) {
        return false;
    }
    *text = slice_first(*from, size);
    *from = slice_from(*from, size);
    return true;
}

/* Where nothing follows, nothing was kept: it takes no room then. */
static bool take_optional(struct slice *from, bool is_there, struct slice *text)
{
    *text = slice_text("");
    return !is_there || (take_text(from, text) && text->size > 0);
}

/* path: as a message keeps it, so many bytes. */
static bool text_fits(size_t *room, size_t path_bytes, struct slice more)
{
    size_t size = path_bytes + (more.size > 0 ? TEXT_BYTES(more) : 0);
    if (size > *room) {
        return false;
    }
    *room -= size;
    return true;
}

/* room: for its text. A whole blob has as much of it; one that is cut short, or counts wrongly, may have more. */
static bool recipients_take(struct slice *blob, struct message_writer *writer, size_t room)
{
    for (uint32_t i = 0; i < writer->message->message.recipient_count; i++) {
        uint8_t state[2];
        struct slice path, more;
        if (!take(blob, state, sizeof(state)) || state[0] > RECIPIENT_STATE_LAST ||
            !take_text(blob, &path) ||
            !take_optional(blob, (state[1] & RECIPIENT_ORCPT) != 0, &more) ||
            !text_fits(&room, path.size, more)) {
            return false;
        }
        message_write_recipient(writer, path, more, state[0], state[1]);
    }
    return true;
}

static bool extents_take(struct slice *blob, uint64_t body_bytes, struct spool_extent *extents,
                         uint32_t count)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct spool_extent *extent = &extents[i];
        if (!take(blob, &extent->lsn, sizeof(extent->lsn)) ||
            !take(blob, &extent->length, sizeof(extent->length)) ||
            extent->length > LOG_RECORD_BYTES_MAX || offset + extent->length > UINT32_MAX) {
            return false;
        }
        extent->offset = (uint32_t)offset;
        offset += extent->length;
    }
    return blob->size == 0 && offset == body_bytes;
}

/* Its extents, which end the blob, and its place. places: of its parts, given when it succeeds. */
static int place_read(const struct commit_source *source, const struct commit_head *head,
                      struct slice blob, struct log_extent *places, struct spool_message *message)
{
    struct spool_extent one;
    struct spool_extents *many = NULL;
    if (head->extent_count > 1 || places != NULL) {
        many = (struct spool_extents *)calloc(1, sizeof(*many) +
                                                     head->extent_count * sizeof(many->list[0]));
        if (many == NULL) {
            return -ENOMEM;
        }
    }
    struct spool_extent *extents = many != NULL ? many->list : &one;
    if (!extents_take(&blob, head->body_bytes, extents, head->extent_count)) {
        free(many);
        return -EINVAL;
    }
    const struct spool_place place = {.lsn = source->record.lsn,
                                      .length = source->record.length,
                                      .part_count = places != NULL ? head->part_count : 0,
                                      .parts = places};
    message_lies_at(message, extents, head->extent_count, &place, many);
    return 0;
}

static int blob_read(const struct commit_source *source, const struct commit_head *head,
                     struct slice blob, struct log_extent *places, struct spool_message **result)
{
    struct slice path, envid;
    /* Every recipient and extent takes some of the blob, so hostile counts end here. */
    uint64_t others = (uint64_t)head->recipient_count * RECIPIENT_BYTES +
                      (uint64_t)head->extent_count * EXTENT_BYTES;
    if (others > blob.size || head->body_bytes > UINT32_MAX) {
        return -EINVAL;
    }
    size_t room = blob.size - others; /* those that a message keeps as its text */
    if (!take_text(&blob, &path) ||
        !take_optional(&blob, (head->envelope_flags & MESSAGE_ENVID) != 0, &envid) ||
        !text_fits(&room, TEXT_BYTES(path), envid)) {
        return -EINVAL;
    }
    struct spool_sender *sender = sender_share(source->store, path);
    struct spool_message *message =
        message_make(source->store, head->recipient_count,
                     room + message_sender_bytes(path, sender, envid), sender);
    if (message == NULL) {
        return -ENOMEM;
    }
    message->message.id = source->id;
    message->message.body_bytes = (uint32_t)head->body_bytes;
    message->message.arrival_s = (uint32_t)head->arrival_wall_s;
    message_attempted(&message->message, head->attempts, (uint32_t)head->last_attempt_wall_s);
    message_flags_set(&message->message, head->envelope_flags);
    message->body.state = MESSAGE_LIVE;
    struct message_writer writer;
    message_write_begin(&writer, message);
    message_write_sender(&writer, path, envid);
    int status = recipients_take(&blob, &writer, room)
                     ? place_read(source, head, blob, places, message)
                     : -EINVAL;
    if (status != 0) {
        message_free(message);
        return status;
    }
    *result = message;
    return 0;
}

/* Puts the parts of a large blob together. */
static int parts_read(const struct commit_source *source, const struct commit_head *head,
                      struct slice list, uint8_t *blob, struct log_extent *places)
{
    uint32_t filled = 0;
    for (uint32_t i = 0; i < head->part_count; i++) {
        struct commit_part part;
        struct slice content;
        if (!take(&list, &part, sizeof(part))) {
            return -EINVAL;
        }
        places[i] = (struct log_extent){.lsn = part.lsn, .length = part.length};
        int result = source->part(source->owner, &places[i], &content);
        if (result != 0) {
            return result;
        }
        if (content.size > head->blob_bytes - filled) {
            return -EINVAL;
        }
        memcpy(blob + filled, content.bytes, content.size);
        filled += (uint32_t)content.size;
    }
    return filled == head->blob_bytes && list.size == 0 ? 0 : -EINVAL;
}

static int large_read(const struct commit_source *source, const struct commit_head *head,
                      struct slice list, struct spool_message **message)
{
    uint8_t *blob = (uint8_t *)malloc(head->blob_bytes);
    struct log_extent *places = (struct log_extent *)calloc(head->part_count, sizeof(places[0]));
    int result = -ENOMEM;
    if (blob != NULL && places != NULL) {
        result = parts_read(source, head, list, blob, places);
    }
    if (result == 0) {
        result = blob_read(source, head, slice_of(blob, head->blob_bytes), places, message);
    }
    if (result != 0) {
        free(places);
    }
    free(blob);
    return result;
}

int commit_read(const struct commit_source *source, struct spool_message **message)
{
    struct slice rest = source->content;
    struct commit_head head;
    if (!take(&rest, &head, sizeof(head)) || head.blob_bytes > COMMIT_BYTES_MAX ||
        head.blob_bytes == 0) {
        return -EINVAL;
    }
    if (head.part_count == 0) {
        return head.blob_bytes == rest.size ? blob_read(source, &head, rest, NULL, message)
                                            : -EINVAL;
    }
    if (rest.size != (uint64_t)head.part_count * sizeof(struct commit_part)) {
        return -EINVAL;
    }
    return large_read(source, &head, rest, message);
}
