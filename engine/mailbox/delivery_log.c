/* Deliveries into the service's own store: into the recipient's mailbox of that name ("user+name"), or his INBOX. */
#include "engine/mailbox/delivery_store.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTS 64u
#define PIECE_BYTES (256u * 1024) /* of wire form, for one mailstore_append */
static_assert(PIECE_BYTES <= MAILSTORE_APPEND_BYTES_MAX, "a piece is given in one call");

static int reserve(struct delivery_text *text, uint32_t count)
{
    struct mailstore_place *places = realloc(text->places, count * sizeof *places);
    if (places == NULL) {
        return -ENOMEM;
    }
    text->places = places;
    uint32_t *place_of = realloc(text->place_of, count * sizeof *place_of);
    if (place_of == NULL) {
        return -ENOMEM;
    }
    text->place_of = place_of;
    return 0;
}

static int begin(struct delivery_text *text)
{
    int status = mailstore_begin(text->mailbox->texts, &text->message);
    text->begun = status == 0;
    text->unstuff = (struct unstuff){0};
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
static void places_make(struct delivery_text *text)
{
    const struct mailboxd_conf *conf = text->mailbox->conf;
    text->place_count = 0;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        const struct delivery_recipient *recipient = &text->recipients[i];
        struct slice user = slice_text(recipient->user), detail = slice_text(recipient->detail);
        uint32_t place = 0;
        while (place < text->place_count && !(slice_equal(text->places[place].user, user) &&
                                              slice_equal(text->places[place].mailbox, detail))) {
            place++;
        }
        text->place_of[i] = place;
        if (place == text->place_count) {
            text->places[text->place_count++] =
                (struct mailstore_place){.user = user,
                                         .mailbox = detail,
                                         .options = MAILSTORE_OR_INBOX,
                                         .quota_bytes = conf->users.quota_bytes};
        }
    }
}

static void recipients_tell(struct delivery_text *text, int status)
{
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        text->recipients[i].status = status != 0 ? status : text->places[text->place_of[i]].status;
    }
}

static void durable(struct mailstore_waiter *waiter, int status)
{
    struct delivery_text *text = list_entry(waiter, struct delivery_text, durable);
    text->waits_durable = false;
    recipients_tell(text, status);
    text->committed(text);
}

static int commit(struct delivery_text *text)
{
    places_make(text);
    text->durable = (struct mailstore_waiter){.done = durable};
    text->begun = false;
    int status =
        mailstore_commit(text->message, 0, text->places, text->place_count, &text->durable);
    text->waits_durable = status == 0;
    if (status != 0) {
        recipients_tell(text, status);
    }
    return status;
}

static void abort_text(struct delivery_text *text)
{
    text->begun = false;
    mailstore_abort(text->message);
}

static void close_text(struct delivery_text *text)
{
    forget_room(text);
    if (text->waits_durable) {
        mailstore_waiter_cancel(text->mailbox->texts, &text->durable);
    }
    free(text->places);
    free(text->place_of);
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
