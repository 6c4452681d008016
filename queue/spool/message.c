/*
 * A message in memory: one piece, since there are millions.
 *
 *   struct spool_message │ recipients │ text │ (to a multiple of 8) extents, as many as it had when it was made
 *   text = reverse-path, envelope id, then for each recipient its forward-path and ORCPT
 *
 * The reverse-path has its length before it, and so has what few messages have (an envelope id, an ORCPT), with a flag
 * that says that it is there.
 */
#include "queue/spool/spool_private.h"

#define LENGTH_BYTES 2u /* before a text that is counted */

static struct spool_recipient *recipients_of(const struct spool_message *message)
{
    return (struct spool_recipient *)(uintptr_t)(message + 1);
}

static const char *text_of(const struct spool_message *message)
{
    return (const char *)(recipients_of(message) + message->message.recipient_count);
}

static const struct spool_message *private_of(const struct message *message)
{
    return (const struct spool_message *)(const void *)message;
}

/* One that has its length before it. */
static struct slice counted(const char *at)
{
    uint16_t size;
    memcpy(&size, at, LENGTH_BYTES);
    return slice_of(at + LENGTH_BYTES, size);
}

/* ---- Making ---- */

struct spool_message *message_make(size_t recipient_count, size_t text_bytes, size_t extent_count)
{
    size_t recipient_bytes = recipient_count * sizeof(struct spool_recipient);
    size_t text_room = (text_bytes + 7) & ~(size_t)7;
    struct spool_message *message =
        (struct spool_message *)malloc(sizeof(*message) + recipient_bytes + text_room +
                                       extent_count * sizeof(struct spool_extent));
    if (message == NULL) {
        return NULL;
    }
    *message = (struct spool_message){0};
    list_init(&message->body.member);
    message->message.recipient_count = (uint32_t)recipient_count;
    message->body.extents =
        (struct spool_extent *)((char *)(message + 1) + recipient_bytes + text_room);
    return message;
}

void message_write_begin(struct message_writer *writer, struct spool_message *message)
{
    *writer =
        (struct message_writer){.message = message, .at = (char *)(uintptr_t)text_of(message)};
}

static void write_bytes(struct message_writer *writer, struct slice bytes)
{
    if (bytes.size > 0) {
        memcpy(writer->at, bytes.bytes, bytes.size);
    }
    writer->at += bytes.size;
}

static void write_counted(struct message_writer *writer, struct slice bytes)
{
    uint16_t size = (uint16_t)bytes.size;
    write_bytes(writer, slice_of(&size, LENGTH_BYTES));
    write_bytes(writer, bytes);
}

void message_write_sender(struct message_writer *writer, struct slice reverse_path,
                          struct slice envid)
{
    write_counted(writer, reverse_path);
    if (envid.size > 0) {
        writer->message->flags |= MESSAGE_ENVID;
        write_counted(writer, envid);
    }
}

void message_write_recipient(struct message_writer *writer, struct slice forward_path,
                             struct slice orcpt, uint8_t state, uint8_t marks)
{
    struct spool_message *message = writer->message;
    check(writer->recipients < message->message.recipient_count);
    recipients_of(message)[writer->recipients++] = (struct spool_recipient){
        .text = (uint32_t)(writer->at - text_of(message)),
        .path_bytes = (uint16_t)forward_path.size,
        .state = state,
        .marks = (uint8_t)((marks & ~RECIPIENT_ORCPT) | (orcpt.size > 0 ? RECIPIENT_ORCPT : 0u))};
    write_bytes(writer, forward_path);
    if (orcpt.size > 0) {
        write_counted(writer, orcpt);
    }
    message->message.waiting_count += !recipient_is_finished(state);
}

static size_t counted_bytes(struct slice text)
{
    return text.size > 0 ? LENGTH_BYTES + text.size : 0;
}

struct spool_message *message_new(const struct envelope *envelope,
                                  const struct envelope_recipient *recipients, size_t count,
                                  size_t extent_count)
{
    size_t text_bytes = LENGTH_BYTES + envelope->reverse_path.size + counted_bytes(envelope->envid);
    for (size_t i = 0; i < count; i++) {
        text_bytes += recipients[i].forward_path.size + counted_bytes(recipients[i].orcpt);
    }
    struct spool_message *message = message_make(count, text_bytes, extent_count);
    if (message == NULL) {
        return NULL;
    }
    struct message_writer writer;
    message_write_begin(&writer, message);
    message->flags = (envelope->flags & ~MESSAGE_OWN_FLAGS) | (uint32_t)envelope->ret
                                                                  << MESSAGE_RET_SHIFT;
    message->message.arrival_s = (uint32_t)envelope->arrival_wall_s;
    message_write_sender(&writer, envelope->reverse_path, envelope->envid);
    for (size_t i = 0; i < count; i++) {
        message_write_recipient(&writer, recipients[i].forward_path, recipients[i].orcpt,
                                recipients[i].expanded ? RECIPIENT_TELL_EXPANDED
                                                       : RECIPIENT_WAITING,
                                recipients[i].notify & SPOOL_NOTIFY_ALL);
    }
    return message;
}

bool envelope_fits(const struct envelope *envelope, const struct envelope_recipient *recipients,
                   size_t count)
{
    bool fits = envelope->reverse_path.size <= UINT16_MAX && envelope->envid.size <= UINT16_MAX &&
                count > 0 && count <= UINT32_MAX;
    for (size_t i = 0; fits && i < count; i++) {
        fits =
            recipients[i].forward_path.size <= UINT16_MAX && recipients[i].orcpt.size <= UINT16_MAX;
    }
    return fits;
}

/* ---- Reading ---- */

static const struct spool_recipient *recipient_of(const struct message *message, uint32_t index)
{
    check(index < message->recipient_count);
    return &recipients_of(private_of(message))[index];
}

uint32_t message_flags(const struct message *message)
{
    return private_of(message)->flags & ~MESSAGE_OWN_FLAGS;
}

int64_t message_arrival_wall_s(const struct message *message)
{
    return message->arrival_s;
}

enum spool_ret message_ret(const struct message *message)
{
    return (enum spool_ret)(private_of(message)->flags >> MESSAGE_RET_SHIFT & MESSAGE_RET_MASK);
}

struct slice message_reverse_path(const struct message *message)
{
    return counted(text_of(private_of(message)));
}

struct slice message_envid(const struct message *message)
{
    const struct spool_message *private = private_of(message);
    return (private->flags & MESSAGE_ENVID) != 0
               ? counted(text_of(private) + LENGTH_BYTES + message_reverse_path(message).size)
               : slice_text("");
}

struct slice message_forward_path(const struct message *message, uint32_t index)
{
    const struct spool_recipient *recipient = recipient_of(message, index);
    return slice_of(text_of(private_of(message)) + recipient->text, recipient->path_bytes);
}

struct slice message_orcpt(const struct message *message, uint32_t index)
{
    const struct spool_recipient *recipient = recipient_of(message, index);
    return (recipient->marks & RECIPIENT_ORCPT) != 0
               ? counted(text_of(private_of(message)) + recipient->text + recipient->path_bytes)
               : slice_text("");
}

uint8_t message_notify(const struct message *message, uint32_t index)
{
    return recipient_of(message, index)->marks & SPOOL_NOTIFY_ALL;
}

bool message_warned(const struct message *message, uint32_t index)
{
    return (recipient_of(message, index)->marks & RECIPIENT_WARNED) != 0;
}

enum recipient_state message_recipient_state(const struct message *message, uint32_t index)
{
    return (enum recipient_state)recipient_of(message, index)->state;
}

uint8_t message_marks(const struct message *message, uint32_t index)
{
    return recipient_of(message, index)->marks;
}

/* ---- What becomes of a recipient ---- */

bool message_recipient_reached(struct message *message, uint32_t index, enum recipient_state state)
{
    struct spool_recipient *recipient = (struct spool_recipient *)recipient_of(message, index);
    bool finished = recipient_is_finished((uint8_t)state);
    if (state == RECIPIENT_WAITING || recipient_is_finished(recipient->state) ||
        (recipient->state != RECIPIENT_WAITING && !finished)) {
        return false;
    }
    recipient->state = (uint8_t)state;
    message->waiting_count -= finished;
    return true;
}

void message_mark_warned(struct message *message, uint32_t index)
{
    ((struct spool_recipient *)recipient_of(message, index))->marks |= RECIPIENT_WARNED;
}
