#include "queue/sched/sched_private.h"

#include "queue/spool/spool.h"

#include <stdlib.h>

#define BUCKETS 4096u

/* ---- Hold and release ---- */

void sched_hold(struct message *message)
{
    for (struct sched_delivery *delivery = message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        bool waits = delivery->state == SCHED_READY || delivery->state == SCHED_LATER;
        delivery->held = true;
        if (waits) {
            sched_waiting_leave(delivery);
            sched_age_leave(delivery);
            sched_held_enter(delivery);
        }
    }
}

void sched_release(struct message *message, uint64_t now_ns)
{
    for (struct sched_delivery *delivery = message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        delivery->held = false;
        if (delivery->state != SCHED_HELD) {
            continue;
        }
        uint64_t grace_ns = sched_site_of(delivery)->settings.retry.first_ns;
        sched_waiting_leave(delivery);
        sched_age_leave(delivery);
        if (delivery->expires_ns <= now_ns) { /* Postfix too tries it once more */
            delivery->expires_ns =
                now_ns < SCHED_NEVER - 1 - grace_ns ? now_ns + grace_ns : SCHED_NEVER - 1;
        }
        sched_waiting_enter(delivery, now_ns);
        sched_site_look_at(sched_site_of(delivery));
    }
}

bool sched_held(const struct message *message)
{
    const struct sched_delivery *delivery = message->owner;
    while (delivery != NULL && !delivery->held) {
        delivery = sched_next_of_message(delivery);
    }
    return delivery != NULL;
}

/* ---- Suspensions ---- */

/* NULL: memory is short. */
static struct sched_suspension *suspension_make(uint64_t sender, uint64_t until_ns,
                                                struct slice reason)
{
    reason = slice_first(reason, SCHED_REASON_BYTES_MAX);
    struct sched_suspension *suspension = malloc(sizeof(*suspension) + reason.size);
    if (suspension != NULL) {
        suspension->next = NULL;
        suspension->sender = sender;
        suspension->until_ns = until_ns;
        suspension->reason_bytes = (uint16_t)reason.size;
        memcpy(suspension->reason, reason.bytes, reason.size);
    }
    return suspension;
}

static bool view_fill(const struct sched_suspension *suspension, uint64_t now_ns,
                      struct sched_suspension_view *view)
{
    if (suspension == NULL || suspension->until_ns <= now_ns) {
        return false;
    }
    *view = (struct sched_suspension_view){
        .sender = suspension->sender,
        .until_ns = suspension->until_ns,
        .reason = slice_of(suspension->reason, suspension->reason_bytes),
    };
    return true;
}

int sched_site_suspend(struct sched_site *site, uint64_t until_ns, struct slice reason)
{
    struct sched_suspension *suspension = suspension_make(0, until_ns, reason);
    if (suspension == NULL) {
        return -ENOMEM;
    }
    free(site->suspension);
    site->suspension = suspension;
    sched_site_look_at(site);
    return 0;
}

void sched_site_resume(struct sched_site *site)
{
    free(site->suspension);
    site->suspension = NULL;
    sched_site_look_at(site);
}

bool sched_site_suspension(const struct sched_site *site, uint64_t now_ns,
                           struct sched_suspension_view *view)
{
    return view_fill(site->suspension, now_ns, view);
}

/* ---- Senders ---- */

static struct sched_suspension **bucket_of(const struct sched *sched, uint64_t sender)
{
    uint64_t mixed = (sender ^ (sender >> 32)) * 0x9e3779b97f4a7c15ull;
    return &sched->suspensions.buckets[(mixed >> 32) % BUCKETS];
}

/* What points to that of the sender, or to where it would be. */
static struct sched_suspension **place_of(const struct sched *sched, uint64_t sender)
{
    struct sched_suspension **at = bucket_of(sched, sender);
    while (*at != NULL && (*at)->sender != sender) {
        at = &(*at)->next;
    }
    return at;
}

const struct sched_suspension *sched_suspension_of(const struct sched *sched, uint64_t sender)
{
    return sched->suspensions.count == 0 ? NULL : *place_of(sched, sender);
}

/* In all sites its queues are blocked, or no more. */
static void sender_turn(struct sched *sched, uint64_t sender)
{
    for (struct list_node *node = sched->sites.next; node != &sched->sites; node = node->next) {
        sched_ready_turn(list_entry(node, struct sched_site, node), sender);
    }
}

int sched_sender_suspend(struct sched *sched, uint64_t sender, uint64_t until_ns,
                         struct slice reason)
{
    struct sched_suspensions *all = &sched->suspensions;
    if (all->buckets == NULL) {
        all->buckets = calloc(BUCKETS, sizeof(struct sched_suspension *));
        all->due_ns = SCHED_NEVER;
    }
    struct sched_suspension *made = suspension_make(sender, until_ns, reason);
    if (all->buckets == NULL || made == NULL) {
        free(made);
        return -ENOMEM;
    }
    struct sched_suspension **at = place_of(sched, sender), *before = *at;
    if (before == NULL && all->count >= SCHED_SENDERS_SUSPENDED_MAX) {
        free(made);
        return -ENOSPC;
    }
    made->next = before != NULL ? before->next : NULL;
    *at = made;
    all->count += before == NULL;
    free(before);
    all->due_ns = until_ns < all->due_ns ? until_ns : all->due_ns;
    sender_turn(sched, sender);
    return 0;
}

void sched_sender_resume(struct sched *sched, uint64_t sender)
{
    if (sched_suspension_of(sched, sender) == NULL) {
        return;
    }
    struct sched_suspension **at = place_of(sched, sender), *ended = *at;
    *at = ended->next;
    free(ended);
    sched->suspensions.count--;
    sender_turn(sched, sender);
}

bool sched_sender_suspension(const struct sched *sched, uint64_t sender, uint64_t now_ns,
                             struct sched_suspension_view *view)
{
    return view_fill(sched_suspension_of(sched, sender), now_ns, view);
}

void sched_suspensions_look(struct sched *sched, uint64_t now_ns)
{
    struct sched_suspensions *all = &sched->suspensions;
    if (all->count == 0 || all->due_ns > now_ns) {
        return;
    }
    all->due_ns = SCHED_NEVER;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        struct sched_suspension **at = &all->buckets[i];
        while (*at != NULL) {
            struct sched_suspension *suspension = *at;
            if (suspension->until_ns <= now_ns) {
                *at = suspension->next;
                free(suspension);
                all->count--;
                continue;
            }
            all->due_ns = suspension->until_ns < all->due_ns ? suspension->until_ns : all->due_ns;
            at = &suspension->next;
        }
    }
}

void sched_suspensions_close(struct sched *sched)
{
    sched_suspensions_look(sched, SCHED_NEVER);
    free(sched->suspensions.buckets);
}

/* A position is a bucket, and so many steps into its chain. */
bool sched_suspended_sender_next(const struct sched *sched, uint64_t *position,
                                 struct sched_suspension_view *view)
{
    const struct sched_suspensions *all = &sched->suspensions;
    uint64_t index = *position >> 32;
    uint32_t steps = (uint32_t)*position;
    for (; all->buckets != NULL && index < BUCKETS; index++, steps = 0) {
        const struct sched_suspension *suspension = all->buckets[index];
        for (uint32_t i = 0; i < steps && suspension != NULL; i++) {
            suspension = suspension->next;
        }
        if (suspension != NULL) {
            *position = index << 32 | (steps + 1);
            return view_fill(suspension, 0, view);
        }
    }
    return false;
}
