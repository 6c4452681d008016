#include "engine/mailbox/carriage.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/quota.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX "carried/"

void carriage_name_make(struct mailbox *mailbox, char name[CARRIAGE_NAME_BYTES])
{
    uint64_t random; /* no later start has the same, which may find what this one has left */
    world_random(mailbox->shard->world, &random, sizeof(random));
    snprintf(name, CARRIAGE_NAME_BYTES, PREFIX "%016" PRIx64 "-%u-%u", random,
             mailbox_index(mailbox), ++mailbox->carriage_number);
}

static void carriage_free(struct carriage *carriage)
{
    mailstore_user_close(carriage->mailbox->texts, carriage->user);
    free(carriage);
}

/* It is there, or has never come to be. What is on its way to it is decided before the end of it, which stands behind in the
 * log. */
static void carriage_drop(struct carriage *carriage)
{
    struct mailbox *mailbox = carriage->mailbox;
    struct mailstore_box *box =
        carriage->status == 0 ? mailstore_box_by_id(carriage->user, carriage->create.box) : NULL;
    if (box != NULL && mailstore_box_delete(mailbox->texts, box, NULL) != 0) {
        carriage->next = mailbox->carriages_left;
        mailbox->carriages_left = carriage;
        return;
    }
    carriage_free(carriage);
}

/* What could not go then. */
static void left_drop(struct mailbox *mailbox)
{
    struct carriage *carriage = mailbox->carriages_left;
    mailbox->carriages_left = NULL;
    for (struct carriage *next; carriage != NULL; carriage = next) {
        next = carriage->next;
        carriage_drop(carriage);
    }
}

void carriages_close(struct mailbox *mailbox)
{
    for (struct carriage *carriage; (carriage = mailbox->carriages_left) != NULL;) {
        mailbox->carriages_left = carriage->next;
        carriage_free(carriage);
    }
}

static void carriage_created(struct mailstore_waiter *waiter, int status)
{
    struct carriage *carriage = list_entry(waiter, struct carriage, created);
    carriage->waits = false;
    carriage->status = status;
    if (carriage->ended) {
        carriage_drop(carriage);
    }
}

struct carriage *carriage_begin(struct mailbox *mailbox, const char *name)
{
    struct carriage *carriage = (struct carriage *)calloc(1, sizeof(*carriage));
    left_drop(mailbox);
    if (carriage == NULL) {
        return NULL;
    }
    carriage->mailbox = mailbox;
    snprintf(carriage->name, sizeof(carriage->name), "%s", name);
    carriage->create.mailbox = slice_text(carriage->name);
    carriage->created.done = carriage_created;
    int status = mailstore_user_open(mailbox->texts, slice_text(OUTGOING_USER), &carriage->user);
    if (status != 0) {
        free(carriage);
        return NULL;
    }
    status =
        mailstore_box_create(mailbox->texts, carriage->user, &carriage->create, &carriage->created);
    if (status != 0) {
        mailstore_user_close(mailbox->texts, carriage->user);
        free(carriage);
        return NULL;
    }
    carriage->waits = true;
    return carriage;
}

void carriage_end(struct carriage *carriage)
{
    carriage->ended = true;
    if (!carriage->waits) {
        carriage_drop(carriage);
    }
}

int carriage_promise(struct carriage *carriage, const struct mailstore_user *owner,
                     const struct quota *quota, uint64_t bytes)
{
    const struct mailstore_totals *totals = &owner->totals;
    carriage->bytes += bytes;
    carriage->messages++;
    bool over = (quota->bytes != 0 && totals->bytes + carriage->bytes > quota->bytes) ||
                (quota->messages != 0 && totals->messages + carriage->messages > quota->messages);
    return over ? -EDQUOT : 0;
}

void carriages_sweep(struct mailstore *store)
{
    struct mailstore_user *user;
    struct mailstore_box *box = NULL;
    if (mailstore_user_open(store, slice_text(OUTGOING_USER), &user) != 0) {
        return; /* they stay, and nobody sees them */
    }
    while ((box = mailstore_box_next(user, box)) != NULL) {
        struct slice begin = slice_first(box->name, sizeof(PREFIX) - 1);
        if (slice_equal(begin, slice_text(PREFIX))) {
            (void)mailstore_box_delete(store, box, NULL);
        }
    }
    mailstore_user_close(store, user);
}
