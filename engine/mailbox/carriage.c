#include "engine/mailbox/carriage.h"
#include "engine/core/check.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/quota.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "carried/"

void carriage_name_make(struct mailbox *mailbox, char name[CARRIAGE_NAME_BYTES])
{
    uint64_t random; /* no later start has the same, which may find what this one has left */
    world_random(mailbox->shard->world, &random, sizeof(random));
    snprintf(name, CARRIAGE_NAME_BYTES, PREFIX "%016" PRIx64 "-%u-%u", random,
             mailbox_index(mailbox), ++mailbox->carriage_number);
}

static struct carriage *carriage_of_node(struct list_node *node)
{
    return list_entry(node, struct carriage, node);
}

static void carriage_free(struct carriage *carriage)
{
    list_remove(&carriage->node);
    mailstore_user_close(carriage->mailbox->texts, carriage->user);
    free(carriage);
}

/* Nobody has it, and it is there, or has never come to be. What is on its way to it is decided before the end of it, which
 * stands behind. Where it cannot go now it stays in the list. */
static void carriage_drop(struct carriage *carriage)
{
    struct mailbox *mailbox = carriage->mailbox;
    struct mailstore_box *box =
        carriage->status == 0 ? mailstore_box_by_id(carriage->user, carriage->create.box) : NULL;
    if (box == NULL || mailstore_box_delete(mailbox->texts, box, NULL) == 0) {
        carriage_free(carriage);
    }
}

/* What could not go then. */
static void left_drop(struct mailbox *mailbox)
{
    struct list_node *next;
    for (struct list_node *node = mailbox->carriages.next; node != &mailbox->carriages;
         node = next) {
        struct carriage *carriage = carriage_of_node(node);
        next = node->next;
        if (carriage->holds == 0 && !carriage->waits) {
            carriage_drop(carriage);
        }
    }
}

static void carriage_created(struct mailstore_waiter *waiter, int status)
{
    struct carriage *carriage = list_entry(waiter, struct carriage, created);
    carriage->waits = false;
    carriage->status = status;
    if (carriage->holds == 0) {
        carriage_drop(carriage);
    } else if (carriage->there != NULL) {
        carriage->there(carriage->owner);
    }
}

bool carriage_await(struct carriage *carriage, void (*there)(void *owner), void *owner)
{
    carriage->there = carriage->waits ? there : NULL;
    carriage->owner = owner;
    return carriage->waits;
}

struct carriage *carriage_take(struct mailbox *mailbox, const char *name)
{
    for (struct list_node *node = mailbox->carriages.next; node != &mailbox->carriages;
         node = node->next) {
        struct carriage *carriage = carriage_of_node(node);
        if (carriage->holds > 0 && strcmp(carriage->name, name) == 0) {
            carriage->holds++;
            return carriage;
        }
    }
    return NULL;
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
    carriage->holds = 1;
    list_append(&mailbox->carriages, &carriage->node);
    return carriage;
}

void carriage_end(struct carriage *carriage)
{
    check(carriage->holds > 0);
    carriage->there = NULL;
    if (--carriage->holds == 0 && !carriage->waits) {
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

/* ---- What others have left ---- */

struct carriages_sweeping {
    struct mailbox *mailbox;
    struct mailstore_user *user;
    struct mailstore_waiter looked;
};

static void sweeping_free(struct carriages_sweeping *sweeping)
{
    sweeping->mailbox->sweeping = NULL;
    mailstore_user_close(sweeping->mailbox->texts, sweeping->user);
    free(sweeping);
}

static bool is_of_now(const struct mailbox *mailbox, struct slice name)
{
    const struct list_node *node = mailbox->carriages.next;
    while (node != &mailbox->carriages &&
           !slice_equal(name, slice_text(list_entry(node, const struct carriage, node)->name))) {
        node = node->next;
    }
    return node != &mailbox->carriages;
}

static void left_behind_delete(struct mailbox *mailbox, struct mailstore_user *user)
{
    struct mailstore_box *box = NULL;
    while ((box = mailstore_box_next(user, box)) != NULL) {
        struct slice begin = slice_first(box->name, sizeof(PREFIX) - 1);
        if (slice_equal(begin, slice_text(PREFIX)) && !is_of_now(mailbox, box->name)) {
            (void)mailstore_box_delete(mailbox->texts, box, NULL);
        }
    }
}

static void sweeping_looked(struct mailstore_waiter *waiter, int status)
{
    struct carriages_sweeping *sweeping = list_entry(waiter, struct carriages_sweeping, looked);
    (void)status; /* what is known goes in any case */
    left_behind_delete(sweeping->mailbox, sweeping->user);
    sweeping_free(sweeping);
}

void carriages_sweep(struct mailbox *mailbox)
{
    struct carriages_sweeping *sweeping = (struct carriages_sweeping *)calloc(1, sizeof(*sweeping));
    if (sweeping == NULL ||
        mailstore_user_open(mailbox->texts, slice_text(OUTGOING_USER), &sweeping->user) != 0) {
        free(sweeping); /* they stay, and nobody sees them */
        return;
    }
    sweeping->mailbox = mailbox;
    sweeping->looked.done = sweeping_looked;
    mailbox->sweeping = sweeping;
    bool never = sweeping->user->id == 0; /* there has been none */
    if (never || mailstore_peek(mailbox->texts, sweeping->user, &sweeping->looked) != 0) {
        sweeping_looked(&sweeping->looked, 0);
    }
}

/* ---- The end ---- */

void carriages_close(struct mailbox *mailbox)
{
    if (mailbox->sweeping != NULL) {
        mailstore_waiter_cancel(mailbox->texts, &mailbox->sweeping->looked);
        sweeping_free(mailbox->sweeping);
    }
    while (!list_empty(&mailbox->carriages)) {
        struct carriage *carriage = carriage_of_node(mailbox->carriages.next);
        if (carriage->waits) {
            mailstore_waiter_cancel(mailbox->texts, &carriage->created);
        }
        carriage_free(carriage);
    }
}
