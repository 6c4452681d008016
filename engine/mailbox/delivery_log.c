/* Deliveries into the service's own store, or Maildirs by way of the store on them: where the recipient's Sieve script says (delivery_sieve.h), else into his mailbox
 * of that name ("user+name"), or his INBOX. */
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/quota.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTS 64u
#define PIECE_BYTES (256u * 1024) /* of wire form, for one mailstore_append */
static_assert(PIECE_BYTES <= MAILSTORE_APPEND_BYTES_MAX, "a piece is given in one call");

static int reserve(struct delivery_text *text, uint32_t count)
{
    uint32_t room = count > text->place_room ? count : text->place_room;
    struct mailstore_place *places = realloc(text->places, room * sizeof *places);
    if (places == NULL) {
        return -ENOMEM;
    }
    text->places = places;
    text->place_room = room;
    struct delivery_range *ranges = realloc(text->ranges, count * sizeof *ranges);
    if (ranges == NULL) {
        return -ENOMEM;
    }
    text->ranges = ranges;
    return 0;
}

static int begin(struct delivery_text *text)
{
    int status = mailstore_begin(text->mailbox->texts, &text->message);
    text->begun = status == 0;
    text->unstuff = (struct unstuff){0};
    if (text->begun) {
        delivery_sieve_begin(text);
    }
    return status;
}

static void id(const struct delivery_text *text, char id[DELIVERY_ID_BYTES])
{
    snprintf(id, DELIVERY_ID_BYTES, "%016" PRIx64, mailstore_draft_id(text->message));
}

static ssize_t append(struct delivery_text *text, struct slice wire)
{
    struct slice rest = wire;
    while (rest.size > 0) {
        struct slice parts[PARTS];
        struct slice piece = slice_first(rest, PIECE_BYTES);
        size_t piece_bytes = piece.size;
        struct unstuff unstuff = text->unstuff;
        size_t count = unstuff_take(&unstuff, &piece, parts, PARTS);
        int status = count > 0 ? mailstore_append(text->message, parts, count) : 0;
        if (status == -EAGAIN) {
            break;
        }
        if (status < 0) {
            return status;
        }
        delivery_sieve_take(text, parts, count);
        text->unstuff = unstuff;
        rest = slice_from(rest, piece_bytes - piece.size);
    }
    return (ssize_t)(wire.size - rest.size);
}

static void room_came(struct mailstore_waiter *waiter, int status)
{
    struct delivery_text *text = list_entry(waiter, struct delivery_text, log_room);
    (void)status; /* the next append says it too */
    text->waits_room = false;
    text->room_came(text);
}

static void when_room(struct delivery_text *text)
{
    text->log_room = (struct mailstore_waiter){.done = room_came};
    text->waits_room = true;
    mailstore_when_room(text->mailbox->texts, &text->log_room);
}

static void forget_room(struct delivery_text *text)
{
    if (text->waits_room) {
        list_remove(&text->log_room.node);
        text->waits_room = false;
    }
}

/* A recipient who was named twice has the message once, as in Maildirs. */
static bool is_named_again(struct delivery_text *text, uint32_t index)
{
    struct delivery_recipient *recipient = &text->recipients[index];
    for (uint32_t i = 0; i < index; i++) {
        const struct delivery_recipient *other = &text->recipients[i];
        if (strcmp(other->user, recipient->user) == 0 &&
            strcmp(other->detail, recipient->detail) == 0) {
            text->ranges[index] = text->ranges[i];
            recipient->refusal = other->refusal;
            recipient->trouble = other->trouble;
            return true;
        }
    }
    return false;
}

/* Where there are no rules, without a look at the user. */
static struct quota quota_of(struct delivery_text *text, const struct delivery_recipient *recipient)
{
    const struct mailboxd_conf *conf = text->mailbox->conf;
    struct quota quota = {conf->users.quota_bytes, conf->users.quota_messages};
    struct mailstore_user *user;
    if (conf->users.quota_rules_count > 0 &&
        mailstore_user_open(text->mailbox->texts, slice_text(recipient->user), &user) == 0) {
        struct slice name = slice_text(recipient->detail);
        quota = quota_limit(conf, user, name.size > 0 ? name : slice_text("INBOX"));
        mailstore_user_close(text->mailbox->texts, user);
    }
    return quota;
}

static void places_make(struct delivery_text *text)
{
    text->place_count = 0;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        const struct delivery_recipient *recipient = &text->recipients[i];
        if (is_named_again(text, i)) {
            continue;
        }
        const struct quota quota = quota_of(text, recipient);
        const struct mailstore_place usual = {.user = slice_text(recipient->user),
                                              .mailbox = slice_text(recipient->detail),
                                              .options = MAILSTORE_OR_INBOX | MAILSTORE_NO_UID,
                                              .quota_bytes = quota.bytes,
                                              .quota_messages = quota.messages};
        uint32_t first = text->place_count;
        if (!delivery_sieve_judge(text, i, &usual)) {
            text->places[text->place_count++] = usual;
        }
        text->ranges[i] = (struct delivery_range){first, text->place_count - first, i};
    }
}

/* ---- Committing ---- */

/* What lies where outgoing.h has its texts is in none of his mailboxes. */
static bool is_his(const struct mailstore_place *place)
{
    return !slice_equal(place->user, slice_text(OUTGOING_USER));
}

/* Of places that hold a text whose commit has this status. */
static void note(int committed, const struct mailstore_place *place, bool *stored, int *worst)
{
    int status = committed != 0 ? committed : place->status;
    *stored = *stored || (status == 0 && is_his(place));
    *worst = *worst == 0 ? status : *worst;
}

/* Once it is in one of his mailboxes he has it: who is told to send it again would make it come twice. */
static int status_of(const struct delivery_text *text, struct delivery_range range)
{
    bool stored = false;
    int worst = 0;
    for (uint32_t i = 0; i < range.count; i++) {
        note(text->status, &text->places[range.first + i], &stored, &worst);
    }
    for (const struct delivery_variant *variant = text->variants; variant != NULL;
         variant = variant->next) {
        for (uint32_t i = 0; variant->recipient == range.recipient && i < variant->place_count;
             i++) {
            note(variant->status, &variant->places[i], &stored, &worst);
        }
    }
    return stored ? 0 : worst;
}

static void recipients_tell(struct delivery_text *text)
{
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        struct delivery_recipient *recipient = &text->recipients[i];
        recipient->status =
            recipient->trouble != 0 ? recipient->trouble : status_of(text, text->ranges[i]);
    }
    delivery_sieve_settle(text);
}

static bool waits(const struct delivery_text *text)
{
    bool any = text->waits_durable;
    for (const struct delivery_variant *variant = text->variants; variant != NULL;
         variant = variant->next) {
        any = any || variant->waits_durable;
    }
    return any;
}

static void one_is_durable(struct delivery_text *text)
{
    if (!waits(text)) {
        recipients_tell(text);
        text->committed(text);
    }
}

static void durable(struct mailstore_waiter *waiter, int status)
{
    struct delivery_text *text = list_entry(waiter, struct delivery_text, durable);
    text->waits_durable = false;
    text->status = status;
    one_is_durable(text);
}

static void variant_durable(struct mailstore_waiter *waiter, int status)
{
    struct delivery_variant *variant = list_entry(waiter, struct delivery_variant, durable);
    variant->waits_durable = false;
    variant->status = status;
    one_is_durable(variant->text);
}

static void texts_commit(struct delivery_text *text)
{
    text->durable = (struct mailstore_waiter){.done = durable};
    text->status = 0;
    if (text->place_count == 0) {
        mailstore_abort(text->message);
    } else {
        text->status =
            mailstore_commit(text->message, 0, text->places, text->place_count, &text->durable);
        text->waits_durable = text->status == 0;
    }
    for (struct delivery_variant *variant = text->variants; variant != NULL;
         variant = variant->next) {
        if (variant->draft != NULL) {
            variant->durable = (struct mailstore_waiter){.done = variant_durable};
            variant->status = mailstore_commit(variant->draft, 0, variant->places,
                                               variant->place_count, &variant->durable);
            variant->waits_durable = variant->status == 0;
            variant->draft = NULL;
        }
    }
}

static void variants_room(struct mailstore_waiter *waiter, int status);

/* As far as there is room. 0: somebody will be told; 1: the recipients have their statuses. */
static int commit_go_on(struct delivery_text *text)
{
    if (delivery_edit_write(text) == -EAGAIN) {
        text->log_room = (struct mailstore_waiter){.done = variants_room};
        text->waits_room = true;
        mailstore_when_room(text->mailbox->texts, &text->log_room);
        return 0;
    }
    texts_commit(text);
    if (waits(text)) {
        return 0;
    }
    recipients_tell(text);
    return 1;
}

static void variants_room(struct mailstore_waiter *waiter, int status)
{
    struct delivery_text *text = list_entry(waiter, struct delivery_text, log_room);
    (void)status; /* the next append says it too */
    text->waits_room = false;
    if (commit_go_on(text) != 0) {
        text->committed(text);
    }
}

static int commit(struct delivery_text *text)
{
    places_make(text);
    text->begun = false;
    return commit_go_on(text);
}

static void abort_text(struct delivery_text *text)
{
    text->begun = false;
    mailstore_abort(text->message);
    delivery_sieve_end(text);
}

static void close_text(struct delivery_text *text)
{
    forget_room(text);
    if (text->waits_durable) {
        mailstore_waiter_cancel(text->mailbox->texts, &text->durable);
    }
    for (struct delivery_variant *variant = text->variants; variant != NULL;
         variant = variant->next) {
        if (variant->waits_durable) {
            mailstore_waiter_cancel(text->mailbox->texts, &variant->durable);
        }
    }
    free(text->places);
    free(text->ranges);
    delivery_sieve_end(text);
}

const struct delivery_store delivery_log = {.reserve = reserve,
                                            .begin = begin,
                                            .id = id,
                                            .append = append,
                                            .when_room = when_room,
                                            .forget_room = forget_room,
                                            .commit = commit,
                                            .abort = abort_text,
                                            .close = close_text};
