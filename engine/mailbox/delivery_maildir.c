/* Deliveries into Maildirs. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_quota.h"
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

/* Is it delivered to this recipient? Not to whom there is no room for it, nor a second time. */
static bool is_delivered(const struct delivery_text *text, uint32_t index)
{
    return text->claims == NULL || text->claims->each[index].status == 0;
}

/* Recipients who were not delivered to have the status of their claims. */
static void claims_settle(struct delivery_text *text)
{
    struct quota_claims *claims = text->claims;
    for (uint32_t i = 0; i < claims->count; i++) {
        struct quota_claim *claim = &claims->each[i];
        if (claim->status == 0) {
            quota_claim_settle(claim, text->recipients[i].status == 0);
        } else {
            text->recipients[i].status =
                claim->status == -ECANCELED ? text->recipients[claim->twin].status : claim->status;
        }
    }
    quota_claims_free(claims);
    text->claims = NULL;
}

static void committed(struct maildir_waiter *waiter)
{
    struct maildir_commit *commit = list_entry(waiter, struct maildir_commit, waiter);
    struct delivery_text *text = list_entry(commit, struct delivery_text, commit);
    struct mailstore *readers = text->mailbox->texts;
    for (uint32_t i = 0, next = 0; i < text->recipient_count; i++) {
        if (!is_delivered(text, i)) {
            continue;
        }
        text->recipients[i].status = text->deliveries[next++].status;
        if (readers != NULL && text->recipients[i].status == 0) {
            mailstore_poke(readers, slice_text(text->recipients[i].user));
        }
    }
    if (text->claims != NULL) {
        claims_settle(text);
    }
    text->committed(text);
}

/* 0: `committed` will run. */
static int hand_over(struct delivery_text *text)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        if (is_delivered(text, i)) {
            memcpy(text->deliveries[count++].user, text->recipients[i].user, USER_NAME_BYTES);
        }
    }
    if (count == 0) {
        maildir_abort(text->draft);
        claims_settle(text);
        return -EDQUOT;
    }
    text->commit = (struct maildir_commit){
        .waiter = {.done = committed}, .deliveries = text->deliveries, .count = count};
    maildir_commit(text->draft, &text->commit);
    return 0;
}

static void claims_known(struct quota_claims *claims)
{
    struct delivery_text *text = (struct delivery_text *)claims->owner;
    if (hand_over(text) != 0) {
        text->committed(text);
    }
}

static void claims_end(struct quota_claims *claims)
{
    struct delivery_text *text = (struct delivery_text *)claims->owner;
    maildir_abort(text->draft);
    text->claims = NULL;
    quota_claims_free(claims);
}

static const char *claims_user(const struct quota_claims *claims, uint32_t index)
{
    return ((const struct delivery_text *)claims->owner)->recipients[index].user;
}

static int refuse_all(struct delivery_text *text, int status)
{
    maildir_abort(text->draft);
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        text->recipients[i].status = status;
    }
    return status;
}

static int commit(struct delivery_text *text)
{
    struct mailbox *mailbox = text->mailbox;
    check(text->claims == NULL);
    text->begun = false;
    if (mailbox->quotas == NULL || !quota_is_limited(mailbox)) {
        return hand_over(text);
    }
    text->claims =
        quota_claims_new(mailbox->quotas, maildir_draft_bytes(text->draft), text->recipient_count);
    if (text->claims == NULL) {
        return refuse_all(text, -ENOMEM);
    }
    text->claims->known = claims_known;
    text->claims->end = claims_end;
    text->claims->owner = text;
    return quota_claims_ask(text->claims, claims_user) == 0 ? hand_over(text) : 0;
}

static void abort_text(struct delivery_text *text)
{
    text->begun = false;
    maildir_abort(text->draft);
}

static void close_text(struct delivery_text *text)
{
    forget_room(text);
    quota_claims_free(text->claims);
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
