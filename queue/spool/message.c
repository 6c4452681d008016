/*
 * A message in memory: one piece, since there are millions; of a large one all but the struct lies apart.
 *
 *   struct spool_message │ recipients │ where the text of each begins, when there are many │ text
 *   text = reverse-path, envelope id, then for each recipient its forward-path and ORCPT
 *
 * The reverse-path has its length before it, and so has what few messages have (an envelope id, an ORCPT), with a flag
 * that says that it is there. A reverse-path that is shared is a link instead.
 */
#include "queue/spool/spool_private.h"
#include <malloc.h>

#define LENGTH_BYTES 2u /* before a text that is counted */
#define LINK_BYTES sizeof(uint32_t)
#define TEXTS_FEW 4u /* recipients whose texts are found by going past those before */

static_assert(COMMIT_BYTES_MAX / 4 < MESSAGE_RECIPIENTS_MAX, "each takes 4 bytes of a commit");

static struct spool_recipient *recipients_of(const struct spool_message *message)
{
    struct spool_recipient *apart = (struct spool_recipient *)(uintptr_t)message->recipients;
    if (message->body.is_large) {
        memcpy(&apart, message->recipients, sizeof(apart));
    }
    return apart;
}

static uint32_t *begins_of(const struct spool_message *message)
{
    return (uint32_t *)(uintptr_t)(recipients_of(message) + message->message.recipient_count);
}

static size_t begins_count(size_t recipient_count)
{
    return recipient_count > TEXTS_FEW ? recipient_count : 0;
}

static const char *text_of(const struct spool_message *message)
{
    return (const char *)(begins_of(message) + begins_count(message->message.recipient_count));
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

static size_t counted_bytes(struct slice text)
{
    return text.size > 0 ? LENGTH_BYTES + text.size : 0;
}

static struct spool_sender *sender_of(const struct spool_message *message)
{
    uint32_t link = 0;
    if (message->body.shares_sender) {
        memcpy(&link, text_of(message), sizeof(link));
    }
    return (struct spool_sender *)near_at(message, link);
}

/* ---- Flags ---- */

enum packed_flags { /* below them those of enum spool_flags that are, six bits */
                    PACKED_HELD = 1 << 6,
                    PACKED_RET_SHIFT = 7,
                    PACKED_ENVID = 1 << 9
};
#define PACKED_LOW 63u

uint32_t message_flags_all(const struct message *message)
{
    uint32_t own = message->own;
    return (own & PACKED_LOW) | ((own & PACKED_HELD) != 0 ? SPOOL_HELD : 0u) |
           (own >> PACKED_RET_SHIFT & MESSAGE_RET_MASK) << MESSAGE_RET_SHIFT |
           ((own & PACKED_ENVID) != 0 ? MESSAGE_ENVID : 0u);
}

void message_flags_set(struct message *message, uint32_t flags)
{
    uint32_t own = (flags & PACKED_LOW) | ((flags & SPOOL_HELD) != 0 ? PACKED_HELD : 0u) |
                   (flags >> MESSAGE_RET_SHIFT & MESSAGE_RET_MASK) << PACKED_RET_SHIFT |
                   ((flags & MESSAGE_ENVID) != 0 ? PACKED_ENVID : 0u);
    message->own = own & 0x3ff;
}

/* ---- Making ---- */

size_t message_sender_bytes(struct slice reverse_path, const struct spool_sender *sender,
                            struct slice envid)
{
    return (sender != NULL ? LINK_BYTES : LENGTH_BYTES + reverse_path.size) + counted_bytes(envid);
}

/* NULL: memory is short. */
static struct spool_message *message_take(struct spool_store *store, size_t tail_bytes)
{
    size_t bytes = offsetof(struct spool_message, recipients) + tail_bytes;
    void *apart = NULL;
    if (bytes > NEAR_BYTES_MAX) {
        bytes = offsetof(struct spool_message, recipients) + sizeof(apart);
        apart = malloc(tail_bytes);
        if (apart == NULL) {
            return NULL;
        }
    }
    struct spool_message *message = (struct spool_message *)near_take(
        &store->heap, bytes > sizeof(*message) ? bytes : sizeof(*message));
    if (message == NULL) {
        free(apart);
        return NULL;
    }
    *message = (struct spool_message){0};
    if (apart != NULL) {
        message->body.is_large = true;
        memcpy(message->recipients, &apart, sizeof(apart));
    }
    near_list_init(&message->body.member);
    return message;
}

struct spool_message *message_make(struct spool_store *store, size_t recipient_count,
                                   size_t text_bytes, struct spool_sender *sender)
{
    check(recipient_count <= MESSAGE_RECIPIENTS_MAX);
    struct spool_message *message =
        message_take(store, recipient_count * sizeof(struct spool_recipient) +
                                begins_count(recipient_count) * sizeof(uint32_t) + text_bytes);
    if (message == NULL) {
        sender_drop(sender);
        return NULL;
    }
    message->message.recipient_count = recipient_count & MESSAGE_RECIPIENTS_MAX;
    if (sender != NULL) {
        uint32_t link = near_link(sender);
        message->body.shares_sender = true;
        memcpy((char *)(uintptr_t)text_of(message), &link, sizeof(link));
    }
    return message;
}

static void *apart_of(const struct spool_message *message)
{
    return message->body.is_large ? recipients_of(message) : NULL;
}

void message_free(struct spool_message *message)
{
    sender_drop(sender_of(message));
    message_lies_nowhere(message);
    free(apart_of(message));
    near_give(near_heap_of(message), message);
}

size_t message_bytes(const struct spool_message *message)
{
    const struct spool_extents *many = message_many(message);
    size_t bytes = near_size(message) + malloc_usable_size(apart_of(message));
    if (many != NULL) {
        bytes += malloc_usable_size((void *)(uintptr_t)many) + malloc_usable_size(many->parts);
    }
    return bytes;
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
    struct message *message = &writer->message->message;
    if (writer->message->body.shares_sender) {
        writer->at += LINK_BYTES;
    } else {
        write_counted(writer, reverse_path);
    }
    if (envid.size > 0) {
        message_flags_set(message, message_flags_all(message) | MESSAGE_ENVID);
        write_counted(writer, envid);
    }
}

void message_write_recipient(struct message_writer *writer, struct slice forward_path,
                             struct slice orcpt, uint8_t state, uint8_t marks)
{
    struct spool_message *message = writer->message;
    uint32_t i = writer->recipients++;
    check(i < message->message.recipient_count);
    if (message->message.recipient_count > TEXTS_FEW) {
        begins_of(message)[i] = (uint32_t)(writer->at - text_of(message));
    }
    recipients_of(message)[i] = (struct spool_recipient){
        .path_bytes = (uint16_t)forward_path.size,
        .state = state,
        .marks = (uint8_t)((marks & ~RECIPIENT_ORCPT) | (orcpt.size > 0 ? RECIPIENT_ORCPT : 0u))};
    write_bytes(writer, forward_path);
    if (orcpt.size > 0) {
        write_counted(writer, orcpt);
    }
    message->message.waiting_count += !recipient_is_finished(state);
}

struct spool_message *message_new(const struct envelope *envelope,
                                  const struct envelope_recipient *recipients, size_t count,
                                  struct spool_store *store)
{
    struct spool_sender *sender = sender_share(store, envelope->reverse_path);
    size_t text_bytes = message_sender_bytes(envelope->reverse_path, sender, envelope->envid);
    for (size_t i = 0; i < count; i++) {
        text_bytes += recipients[i].forward_path.size + counted_bytes(recipients[i].orcpt);
    }
    struct spool_message *message = message_make(store, count, text_bytes, sender);
    if (message == NULL) {
        return NULL;
    }
    struct message_writer writer;
    message_write_begin(&writer, message);
    message_flags_set(&message->message, (envelope->flags & ~MESSAGE_OWN_FLAGS) |
                                             (uint32_t)envelope->ret << MESSAGE_RET_SHIFT);
    message->message.arrival_s = (uint32_t)envelope->arrival_wall_s;
    message_write_sender(&writer, envelope->reverse_path, envelope->envid);
    for (size_t i = 0; i < count; i++) {
        message_write_recipient(&writer, recipients[i].forward_path, recipients[i].orcpt,
                                recipients[i].state, recipients[i].notify & SPOOL_NOTIFY_ALL);
    }
    return message;
}

bool envelope_fits(const struct envelope *envelope, const struct envelope_recipient *recipients,
                   size_t count)
{
    bool fits = envelope->reverse_path.size <= UINT16_MAX && envelope->envid.size <= UINT16_MAX &&
                count > 0 && count <= MESSAGE_RECIPIENTS_MAX;
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
    return message_flags_all(message) & ~MESSAGE_OWN_FLAGS;
}

int64_t message_arrival_wall_s(const struct message *message)
{
    return message->arrival_s;
}

enum spool_ret message_ret(const struct message *message)
{
    return (enum spool_ret)(message_flags_all(message) >> MESSAGE_RET_SHIFT & MESSAGE_RET_MASK);
}

struct slice message_reverse_path(const struct message *message)
{
    const struct spool_sender *sender = sender_of(private_of(message));
    return sender != NULL ? slice_of(sender->text, sender->size)
                          : counted(text_of(private_of(message)));
}

static size_t reverse_path_bytes(const struct message *message)
{
    return private_of(message)->body.shares_sender
               ? LINK_BYTES
               : LENGTH_BYTES + message_reverse_path(message).size;
}

struct slice message_envid(const struct message *message)
{
    return (message->own & PACKED_ENVID) != 0
               ? counted(text_of(private_of(message)) + reverse_path_bytes(message))
               : slice_text("");
}

/* The forward-path of a recipient; ORCPT lies behind it. */
static const char *recipient_text(const struct message *message, uint32_t index)
{
    const struct spool_message *private = private_of(message);
    const char *at = text_of(private);
    if (message->recipient_count > TEXTS_FEW) {
        return at + begins_of(private)[index];
    }
    at += reverse_path_bytes(message) + counted_bytes(message_envid(message));
    const struct spool_recipient *recipients = recipients_of(private);
    for (uint32_t i = 0; i < index; i++) {
        at += recipients[i].path_bytes;
        if ((recipients[i].marks & RECIPIENT_ORCPT) != 0) {
            at += counted_bytes(counted(at));
        }
    }
    return at;
}

struct slice message_forward_path(const struct message *message, uint32_t index)
{
    uint16_t path_bytes = recipient_of(message, index)->path_bytes;
    return slice_of(recipient_text(message, index), path_bytes);
}

struct slice message_orcpt(const struct message *message, uint32_t index)
{
    const struct spool_recipient *recipient = recipient_of(message, index);
    return (recipient->marks & RECIPIENT_ORCPT) != 0
               ? counted(recipient_text(message, index) + recipient->path_bytes)
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

void message_attempted(struct message *message, uint32_t attempts, uint32_t wall_s)
{
    message->attempts = attempts < MESSAGE_ATTEMPTS_MAX ? attempts : MESSAGE_ATTEMPTS_MAX;
    message->last_attempt_wall_s = wall_s;
}
