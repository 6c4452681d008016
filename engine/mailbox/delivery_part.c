/* Deliveries into the stores of several shards: the side of a shard whose users are among the recipients. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/delivery_spread.h"

static const struct delivery_store *store_of(const struct delivery_part *part)
{
    return delivery_here(part->text.mailbox);
}

static void part_send(struct delivery_part *part, struct crossing_note *note)
{
    crossing_send(part->crossing, part->spread->shard, note);
}

/* ---- The end of a part ---- */

static void first_return(struct delivery_part *part)
{
    struct delivery_passing *passing = part->first;
    part->first = passing->next;
    part->last = part->first == NULL ? &part->first : part->last;
    part->read = 0;
    passing->note.message.run = delivery_chunk_returned;
    part_send(part, &passing->note);
}

/* Gives back what it has of its shard and of the session's chunks. What is being committed is the store's. */
static void part_close(struct delivery_part *part)
{
    if (part->text.begun && part->state == DELIVERY_PART_RECEIVING) {
        store_of(part)->abort(&part->text);
    }
    store_of(part)->close(&part->text);
    list_remove(&part->node);
    while (part->first != NULL) {
        first_return(part);
    }
    part->state = DELIVERY_PART_CLOSED;
}

static void statuses_set(struct delivery_part *part, int status)
{
    for (uint32_t i = 0; i < part->text.recipient_count; i++) {
        struct delivery_recipient *recipient = &part->text.recipients[i];
        recipient->refusal = slice_of(NULL, 0);
        recipient->trouble = 0;
        recipient->status = status;
    }
}

static void part_fail(struct delivery_part *part, int status)
{
    statuses_set(part, status);
    part_close(part);
    part->failure = status;
    part_send(part, &part->has_failed);
}

static void part_refuse(struct delivery_part *part, int status)
{
    logger_line(part->text.mailbox->shard->logger, LOGGER_ERROR, "store: a message was refused: %s",
                strerror(-status));
    part_fail(part, status);
}

/* What scripts have said lies in the text's memory, which goes before the session has read it. */
static void refusals_keep(struct delivery_part *part)
{
    for (uint32_t i = 0; i < part->text.recipient_count; i++) {
        struct delivery_recipient *recipient = &part->text.recipients[i];
        if (recipient->refusal.size > 0 &&
            !arena_copy(&part->refusals, recipient->refusal, &recipient->refusal)) {
            recipient->refusal = slice_text(DELIVERY_SIEVE_REFUSAL);
        }
    }
}

static void part_answer(struct delivery_part *part)
{
    refusals_keep(part);
    part_close(part);
    part_send(part, &part->gone);
}

static void committed(struct delivery_text *text)
{
    part_answer(list_entry(text, struct delivery_part, text));
}

/* ---- Receiving ---- */

static void part_await(struct delivery_part *part)
{
    part->waits = true;
    store_of(part)->when_room(&part->text);
}

static void part_try_begin(struct delivery_part *part)
{
    int status = store_of(part)->begin(&part->text);
    if (status == -EAGAIN) {
        part_await(part);
    } else if (status != 0) {
        part_refuse(part, status);
    } else {
        part->state = DELIVERY_PART_RECEIVING;
    }
}

static void first_take(struct delivery_part *part)
{
    const struct delivery_chunk *chunk = part->first->chunk;
    struct slice rest = slice_from(slice_of(chunk->bytes, chunk->used), part->read);
    ssize_t taken = store_of(part)->append(&part->text, rest);
    if (taken < 0) {
        part_refuse(part, (int)taken);
    } else if ((size_t)taken < rest.size) {
        part->read += (size_t)taken;
        part_await(part);
    } else {
        first_return(part);
    }
}

static void part_commit(struct delivery_part *part)
{
    part->state = DELIVERY_PART_COMMITTING;
    if (store_of(part)->commit(&part->text) != 0) {
        part_answer(part);
    }
}

/* As far as it goes. */
static void part_go_on(struct delivery_part *part)
{
    if (part->state == DELIVERY_PART_BEGINNING && !part->waits) {
        part_try_begin(part);
    }
    while (part->state == DELIVERY_PART_RECEIVING && !part->waits && part->first != NULL) {
        first_take(part);
    }
    if (part->state == DELIVERY_PART_RECEIVING && !part->waits && part->ended) {
        part_commit(part);
    } else if (part->state == DELIVERY_PART_CLOSED && part->ended) {
        part_send(part, &part->gone);
    }
}

static void room_came(struct delivery_text *text)
{
    struct delivery_part *part = list_entry(text, struct delivery_part, text);
    part->waits = false;
    part_go_on(part);
}

/* ---- Notes ---- */

void delivery_part_begin(struct shard_message *message, struct shard *here)
{
    struct delivery_part *part = list_entry(message, struct delivery_part, begin.message);
    struct mailbox *mailbox = part->spread->group->members[here->settings.index];
    part->text.mailbox = mailbox;
    part->text.room_came = room_came;
    part->text.committed = committed;
    part->crossing = mailbox->crossing;
    arena_open(&part->refusals, DELIVERY_REFUSALS_BYTES_MAX);
    list_append(&mailbox->parts, &part->node);
    if (store_of(part)->reserve(&part->text, part->text.recipient_count) != 0) {
        part_refuse(part, -ENOMEM);
        return;
    }
    part_go_on(part);
}

void delivery_part_read(struct shard_message *message, struct shard *here)
{
    struct delivery_passing *passing = list_entry(message, struct delivery_passing, note.message);
    struct delivery_part *part = passing->part;
    (void)here;
    *part->last = passing;
    part->last = &passing->next;
    if (part->state == DELIVERY_PART_CLOSED) {
        first_return(part);
    } else {
        part_go_on(part);
    }
}

void delivery_part_end(struct shard_message *message, struct shard *here)
{
    struct delivery_part *part = list_entry(message, struct delivery_part, end.message);
    (void)here;
    part->ended = true;
    if (!part->commits && part->state != DELIVERY_PART_CLOSED) {
        part_close(part);
    }
    part_go_on(part);
}

static void part_end(struct delivery_part *part)
{
    if (part->ended) {
        statuses_set(part, -EIO); /* whether it is stored is not known */
        part_answer(part);
    } else {
        part_fail(part, -EIO);
    }
}

void delivery_parts_rest(struct mailbox *mailbox)
{
    struct list_node *next;
    for (struct list_node *node = mailbox->parts.next; node != &mailbox->parts; node = next) {
        struct delivery_part *part = list_entry(node, struct delivery_part, node);
        next = node->next;
        if (part->state != DELIVERY_PART_COMMITTING) {
            part_end(part);
        }
    }
}

void delivery_parts_forget(struct mailbox *mailbox)
{
    while (!list_empty(&mailbox->parts)) {
        part_end(list_entry(mailbox->parts.next, struct delivery_part, node));
    }
}
