/* Deliveries into the stores of several shards: the session's side. A message to the session's own shard alone goes straight
 * to delivery_here. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/delivery_spread.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES_FIRST (8u * 1024) /* most messages are in it whole */
#define CHUNK_BYTES (32u * 1024)
#define WINDOW_BYTES (256u * 1024)        /* of a message, under way */
#define WINDOWS_BYTES (64u * 1024 * 1024) /* of all messages of a shard, but for a chunk of each */

static bool all_are_here(const struct delivery_text *text)
{
    unsigned here = mailbox_index(text->mailbox);
    bool all = true;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        struct delivery_recipient *recipient = &text->recipients[i];
        recipient->shard = (uint8_t)mailbox_group_shard(text->mailbox->group, recipient->user);
        all = all && recipient->shard == here;
    }
    return all;
}

/* ---- Memory ---- */

static void spread_release(struct delivery_spread *spread)
{
    check(spread->holds > 0);
    if (--spread->holds > 0) {
        return;
    }
    for (uint32_t i = 0; i < spread->part_count; i++) {
        free(spread->parts[i].text.recipients);
        arena_close(&spread->parts[i].refusals);
    }
    free(spread);
}

static void chunk_free(struct delivery_chunk *chunk)
{
    struct delivery_spread *spread = chunk->spread;
    spread->under_way -= chunk->room;
    free(chunk);
    spread_release(spread);
}

/* The text has what it wanted, or wants it no more. */
static void spread_leave(struct delivery_spread *spread)
{
    struct delivery_text *text = spread->text;
    text->mailbox->spread_count--;
    text->spread = NULL;
    spread->text = NULL;
    if (spread->open != NULL) {
        chunk_free(spread->open);
        spread->open = NULL;
    }
    spread_release(spread);
}

static bool part_add(struct delivery_spread *spread, unsigned shard, uint32_t recipients)
{
    struct delivery_part *part = &spread->parts[spread->part_count];
    part->text.recipients =
        (struct delivery_recipient *)calloc(recipients, sizeof part->text.recipients[0]);
    if (part->text.recipients == NULL) {
        return false;
    }
    part->spread = spread;
    part->shard = spread->group->members[shard]->shard;
    part->last = &part->first;
    list_init(&part->node);
    part->text.partial = recipients < spread->text->recipient_count;
    spread->part_of[shard] = (uint8_t)spread->part_count++;
    return true;
}

static void recipients_give(struct delivery_spread *spread)
{
    const struct delivery_text *text = spread->text;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        const struct delivery_recipient *recipient = &text->recipients[i];
        struct delivery_text *to = &spread->parts[spread->part_of[recipient->shard]].text;
        to->recipients[to->recipient_count++] = *recipient;
    }
}

static bool parts_make(struct delivery_spread *spread)
{
    const struct delivery_text *text = spread->text;
    uint32_t counts[CONF_SHARDS_MAX] = {0};
    bool good = true;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        counts[text->recipients[i].shard]++;
    }
    for (unsigned shard = 0; good && shard < spread->group->count; shard++) {
        good = counts[shard] == 0 || part_add(spread, shard, counts[shard]);
    }
    if (good) {
        recipients_give(spread);
    }
    return good;
}

/* No two of a store have the same, and none has that of a text: the first bit is set. */
static uint64_t id_make(struct mailbox *mailbox)
{
    uint64_t second = (uint64_t)world_wall_s(mailbox->shard->world) & UINT32_MAX;
    uint64_t number = mailbox->spread_number++ & 0xffffff;
    return 1ull << 63 | (uint64_t)mailbox_index(mailbox) << 56 | second << 24 | number;
}

static struct delivery_spread *spread_new(struct delivery_text *text)
{
    struct mailbox *mailbox = text->mailbox;
    struct delivery_spread *spread = (struct delivery_spread *)calloc(
        1, sizeof *spread + mailbox->group->count * sizeof spread->parts[0]);
    if (spread == NULL) {
        return NULL;
    }
    spread->text = text;
    spread->group = mailbox->group;
    spread->crossing = mailbox->crossing;
    spread->shard = mailbox->shard;
    spread->holds = 1;
    if (!parts_make(spread)) {
        spread_release(spread);
        return NULL;
    }
    if (text->reverse_path.size > 0) {
        memcpy(spread->reverse_path, text->reverse_path.bytes, text->reverse_path.size);
    }
    spread->serving = spread->part_count;
    spread->id = id_make(mailbox);
    return spread;
}

/* ---- Beginning ---- */

static int reserve(struct delivery_text *text, uint32_t count)
{
    return delivery_here(text->mailbox)->reserve(text, count);
}

static void part_start(struct delivery_spread *spread, struct delivery_part *part)
{
    spread->holds++;
    spread->unanswered++;
    part->text.reverse_path = slice_of(spread->reverse_path, spread->text->reverse_path.size);
    part->begin.message.run = delivery_part_begin;
    part->end.message = (struct shard_message){delivery_part_end, delivery_part_end_dropped};
    part->has_failed.message.run = delivery_part_failed;
    part->gone.message = (struct shard_message){delivery_part_gone, delivery_part_gone_dropped};
    crossing_send(spread->crossing, part->shard, &part->begin);
}

/* With the first bytes, so that a shard is woken once for most messages. */
static void parts_start(struct delivery_spread *spread)
{
    for (uint32_t i = 0; !spread->started && i < spread->part_count; i++) {
        part_start(spread, &spread->parts[i]);
    }
    spread->started = true;
}

static int begin(struct delivery_text *text)
{
    if (all_are_here(text)) {
        return delivery_here(text->mailbox)->begin(text);
    }
    struct delivery_spread *spread = spread_new(text);
    if (spread == NULL) {
        return -ENOMEM;
    }
    delivery_sieve_end(text); /* of the message before */
    arena_open(&text->sieve_memory, DELIVERY_REFUSALS_BYTES_MAX);
    text->spread = spread;
    text->begun = true;
    text->mailbox->spread_count++;
    return 0;
}

static void id(const struct delivery_text *text, char id[DELIVERY_ID_BYTES])
{
    if (text->spread == NULL) {
        delivery_here(text->mailbox)->id(text, id);
    } else {
        snprintf(id, DELIVERY_ID_BYTES, "%016" PRIx64, text->spread->id);
    }
}

/* ---- The body ---- */

static bool has_room(const struct delivery_spread *spread)
{
    size_t share = WINDOWS_BYTES / spread->text->mailbox->spread_count;
    size_t window = share < WINDOW_BYTES ? share : WINDOW_BYTES;
    return spread->under_way == 0 || spread->under_way + CHUNK_BYTES <= window;
}

/* 0; -EAGAIN: too much is under way; -ENOMEM. */
static int chunk_new(struct delivery_spread *spread)
{
    uint32_t room = spread->has_begun ? CHUNK_BYTES : CHUNK_BYTES_FIRST;
    if (!has_room(spread)) {
        return -EAGAIN;
    }
    struct delivery_chunk *chunk = (struct delivery_chunk *)malloc(
        sizeof *chunk + spread->part_count * sizeof chunk->passing[0] + room);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    *chunk = (struct delivery_chunk){.spread = spread, .room = room};
    chunk->bytes = (uint8_t *)&chunk->passing[spread->part_count];
    spread->holds++;
    spread->under_way += room;
    spread->has_begun = true;
    spread->open = chunk;
    return 0;
}

static void chunk_send(struct delivery_spread *spread)
{
    struct delivery_chunk *chunk = spread->open;
    spread->open = NULL;
    parts_start(spread);
    chunk->holds = spread->serving;
    if (chunk->holds == 0) {
        chunk_free(chunk);
        return;
    }
    for (uint32_t i = 0; i < spread->part_count; i++) {
        struct delivery_part *part = &spread->parts[i];
        struct delivery_passing *passing = &chunk->passing[i];
        if (!part->failed) {
            *passing = (struct delivery_passing){
                .note.message = {delivery_part_read, delivery_chunk_dropped},
                .chunk = chunk,
                .part = part};
            crossing_send(spread->crossing, part->shard, &passing->note);
        }
    }
}

static size_t chunk_fill(struct delivery_spread *spread, struct slice bytes)
{
    struct delivery_chunk *chunk = spread->open;
    struct slice piece = slice_first(bytes, chunk->room - chunk->used);
    memcpy(chunk->bytes + chunk->used, piece.bytes, piece.size);
    chunk->used += (uint32_t)piece.size;
    if (chunk->used == chunk->room) {
        chunk_send(spread);
    }
    return piece.size;
}

static ssize_t append(struct delivery_text *text, struct slice wire)
{
    struct delivery_spread *spread = text->spread;
    struct slice rest = wire;
    if (spread == NULL) {
        return delivery_here(text->mailbox)->append(text, wire);
    }
    if (spread->serving == 0) {
        return spread->failure;
    }
    while (rest.size > 0) {
        int status = spread->open == NULL ? chunk_new(spread) : 0;
        if (status == -EAGAIN) {
            break;
        }
        if (status != 0) {
            return status;
        }
        rest = slice_from(rest, chunk_fill(spread, rest));
    }
    return (ssize_t)(wire.size - rest.size);
}

static void when_room(struct delivery_text *text)
{
    if (text->spread == NULL) {
        delivery_here(text->mailbox)->when_room(text);
    } else {
        text->spread->wants_room = true;
    }
}

static void forget_room(struct delivery_text *text)
{
    delivery_here(text->mailbox)->forget_room(text);
    if (text->spread != NULL) {
        text->spread->wants_room = false;
    }
}

/* The last that is done with the spread: it may be gone afterwards. */
static void room_tell(struct delivery_spread *spread)
{
    if (spread->text != NULL && spread->wants_room && has_room(spread)) {
        spread->wants_room = false;
        spread->text->room_came(spread->text);
    }
}

static struct delivery_passing *passing_of(struct shard_message *message)
{
    return list_entry(message, struct delivery_passing, note.message);
}

void delivery_chunk_returned(struct shard_message *message, struct shard *here)
{
    struct delivery_chunk *chunk = passing_of(message)->chunk;
    struct delivery_spread *spread = chunk->spread;
    (void)here;
    if (--chunk->holds == 0) { /* `gone` has not come from the part yet */
        chunk_free(chunk);
        room_tell(spread);
    }
}

void delivery_chunk_dropped(struct shard_message *message)
{
    struct delivery_chunk *chunk = passing_of(message)->chunk;
    if (--chunk->holds == 0) {
        chunk_free(chunk);
    }
}

/* Chunks that it has not read have come back before, so that nobody waits for it. */
void delivery_part_failed(struct shard_message *message, struct shard *here)
{
    struct delivery_part *part = list_entry(message, struct delivery_part, has_failed.message);
    struct delivery_spread *spread = part->spread;
    (void)here;
    part->failed = true;
    spread->serving--;
    spread->failure = spread->failure == 0 ? part->failure : spread->failure;
}

/* ---- The end ---- */

static void parts_end(struct delivery_spread *spread, bool commits)
{
    for (uint32_t i = 0; i < spread->part_count; i++) {
        spread->parts[i].commits = commits;
        crossing_send(spread->crossing, spread->parts[i].shard, &spread->parts[i].end);
    }
}

static int commit(struct delivery_text *text)
{
    struct delivery_spread *spread = text->spread;
    if (spread == NULL) {
        return delivery_here(text->mailbox)->commit(text);
    }
    text->begun = false;
    if (spread->open != NULL) {
        chunk_send(spread);
    }
    parts_start(spread);
    parts_end(spread, true);
    return 0;
}

/* The words of the part's memory are copied, since that goes now. */
static void answer_take(struct delivery_text *text, struct delivery_recipient *recipient,
                        const struct delivery_recipient *answer)
{
    recipient->status = answer->status;
    recipient->trouble = answer->trouble;
    if (answer->refusal.size > 0 &&
        !arena_copy(&text->sieve_memory, answer->refusal, &recipient->refusal)) {
        recipient->refusal = slice_text(DELIVERY_SIEVE_REFUSAL);
    }
}

static void answers_take(struct delivery_spread *spread)
{
    struct delivery_text *text = spread->text;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        struct delivery_recipient *recipient = &text->recipients[i];
        struct delivery_part *part = &spread->parts[spread->part_of[recipient->shard]];
        answer_take(text, recipient, &part->text.recipients[part->told++]);
    }
}

void delivery_part_gone(struct shard_message *message, struct shard *here)
{
    struct delivery_spread *spread =
        list_entry(message, struct delivery_part, gone.message)->spread;
    struct delivery_text *text = spread->text;
    (void)here;
    bool all = --spread->unanswered == 0;
    if (all && text != NULL) {
        answers_take(spread);
        spread_leave(spread);
    }
    spread_release(spread);
    if (all && text != NULL) {
        text->committed(text);
    }
}

void delivery_part_gone_dropped(struct shard_message *message)
{
    spread_release(list_entry(message, struct delivery_part, gone.message)->spread);
}

/* Then there is no `gone`. */
void delivery_part_end_dropped(struct shard_message *message)
{
    spread_release(list_entry(message, struct delivery_part, end.message)->spread);
}

static void abort_text(struct delivery_text *text)
{
    struct delivery_spread *spread = text->spread;
    if (spread == NULL) {
        delivery_here(text->mailbox)->abort(text);
        return;
    }
    text->begun = false;
    if (spread->started) {
        parts_end(spread, false);
    }
    spread_leave(spread);
}

static void close_text(struct delivery_text *text)
{
    if (text->spread != NULL) {
        check(!text->begun);
        spread_leave(text->spread); /* what is committed is committed all the same */
    }
    delivery_here(text->mailbox)->close(text);
}

const struct delivery_store delivery_shards = {.reserve = reserve,
                                               .begin = begin,
                                               .id = id,
                                               .append = append,
                                               .when_room = when_room,
                                               .forget_room = forget_room,
                                               .commit = commit,
                                               .abort = abort_text,
                                               .close = close_text};
