/* Deliveries into Maildirs. */
#include "engine/mailbox/delivery_store.h"
#include <stdlib.h>

static int reserve(struct delivery_text *text, uint32_t count)
{
    struct maildir_delivery *grown = realloc(text->deliveries, count * sizeof *grown);
    if (grown == NULL) {
        return -ENOMEM;
    }
    text->deliveries = grown;
    return 0;
}

static int begin(struct delivery_text *text)
{
    int status = maildir_begin(text->mailbox->store, &text->draft);
    text->begun = status == 0;
    return status;
}

static void id(const struct delivery_text *text, char id[DELIVERY_ID_BYTES])
{
    struct slice unique = slice_first(maildir_draft_id(text->draft), DELIVERY_ID_BYTES - 1);
    memcpy(id, unique.bytes, unique.size);
    id[unique.size] = '\0';
}

static ssize_t append(struct delivery_text *text, struct slice wire)
{
    return maildir_append(text->draft, wire);
}

static void room_came(struct maildir_waiter *waiter)
{
    struct delivery_text *text = list_entry(waiter, struct delivery_text, room);
    text->room_came(text);
}

static void when_room(struct delivery_text *text)
{
    text->room.done = room_came;
    list_init(&text->room.node);
    maildir_when_room(text->mailbox->store, &text->room);
}

static void forget_room(struct delivery_text *text)
{
    if (text->room.done != NULL) {
        list_remove(&text->room.node);
    }
}

static void committed(struct maildir_waiter *waiter)
{
    struct maildir_commit *commit = list_entry(waiter, struct maildir_commit, waiter);
    struct delivery_text *text = list_entry(commit, struct delivery_text, commit);
    struct mailstore *readers = text->mailbox->texts;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        text->recipients[i].status = text->deliveries[i].status;
        if (readers != NULL && text->deliveries[i].status == 0) {
            mailstore_poke(readers, slice_text(text->recipients[i].user));
        }
    }
    text->committed(text);
}

static int commit(struct delivery_text *text)
{
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        memcpy(text->deliveries[i].user, text->recipients[i].user, USER_NAME_BYTES);
    }
    text->commit = (struct maildir_commit){.waiter = {.done = committed},
                                           .deliveries = text->deliveries,
                                           .count = text->recipient_count};
    text->begun = false;
    maildir_commit(text->draft, &text->commit);
    return 0;
}

static void abort_text(struct delivery_text *text)
{
    text->begun = false;
    maildir_abort(text->draft);
}

static void close_text(struct delivery_text *text)
{
    forget_room(text);
    free(text->deliveries);
}

const struct delivery_store delivery_maildir = {.reserve = reserve,
                                                .begin = begin,
                                                .id = id,
                                                .append = append,
                                                .when_room = when_room,
                                                .forget_room = forget_room,
                                                .commit = commit,
                                                .abort = abort_text,
                                                .close = close_text};
