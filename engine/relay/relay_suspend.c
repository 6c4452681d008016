#include "engine/relay/relay_suspend.h"
#include "engine/relay/relay_private.h"
#include "engine/relay/relay_queue.h"
#include "queue/sched/operator.h"
#include <stdlib.h>

static bool same(const struct relay_suspension *a, const struct relay_suspension *b)
{
    return a->of == b->of && slice_equal_nocase(slice_text(a->name), slice_text(b->name));
}

/* By a name of the operator's: the domain alone, or <>. */
static uint64_t sender_key(const struct relay *relay, const char *name)
{
    char mailbox[RELAY_SUSPENSION_NAME_MAX + 1] = "@";
    if (strcmp(name, "<>") == 0) {
        return relay_sender_key(relay, slice_of("", 0));
    }
    strncpy(mailbox + 1, name, sizeof(mailbox) - 2);
    return relay_sender_key(relay, slice_text(mailbox));
}

static bool is_called(struct relay_site *site, const char *name)
{
    return slice_equal_nocase(relay_site_name(site), slice_text(name));
}

static int begin(struct relay *relay, const struct relay_suspension *suspension)
{
    struct slice reason = slice_text(suspension->reason);
    struct list_node *used = &relay->sites.used;
    int status = 0;
    if (suspension->of == RELAY_SUSPENDS_SENDER) {
        return sched_sender_suspend(relay->sched, sender_key(relay, suspension->name),
                                    suspension->until_ns, reason);
    }
    for (struct list_node *node = used->next; node != used && status == 0; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (is_called(site, suspension->name)) {
            status = sched_site_suspend(site->sched, suspension->until_ns, reason);
        }
    }
    return status;
}

static void end(struct relay *relay, const struct relay_suspension *suspension)
{
    struct list_node *used = &relay->sites.used;
    if (suspension->of == RELAY_SUSPENDS_SENDER) {
        sched_sender_resume(relay->sched, sender_key(relay, suspension->name));
        relay_sites_touch_all(relay);
        return;
    }
    for (struct list_node *node = used->next; node != used; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (is_called(site, suspension->name)) {
            sched_site_resume(site->sched);
            relay_site_touch(site);
        }
    }
}

static void leave(struct relay_suspensions *suspensions, uint32_t index)
{
    suspensions->count--;
    memmove(&suspensions->all[index], &suspensions->all[index + 1],
            (suspensions->count - index) * sizeof(suspensions->all[0]));
}

/* The scheduler has ended those whose time is over. */
static void forget_ended(struct relay *relay)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    for (uint32_t i = suspensions->count; i-- > 0;) {
        if (suspensions->all[i].until_ns <= relay->shard->now_ns) {
            leave(suspensions, i);
        }
    }
}

int relay_suspend(struct relay *relay, const struct relay_suspension *wanted)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    forget_ended(relay);
    if (suspensions->all == NULL) {
        suspensions->all = calloc(RELAY_SUSPENSIONS_MAX, sizeof(suspensions->all[0]));
        if (suspensions->all == NULL) {
            return -ENOMEM;
        }
    }
    uint32_t i = 0;
    while (i < suspensions->count && !same(&suspensions->all[i], wanted)) {
        i++;
    }
    if (i == RELAY_SUSPENSIONS_MAX) {
        return -ENOSPC;
    }
    int status = begin(relay, wanted);
    if (status == 0) {
        suspensions->all[i] = *wanted;
        suspensions->count += i == suspensions->count;
    }
    return status;
}

uint32_t relay_resume(struct relay *relay, const struct relay_suspension *wanted)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    uint32_t count = 0;
    forget_ended(relay);
    for (uint32_t i = suspensions->count; i-- > 0;) {
        if (wanted == NULL || same(&suspensions->all[i], wanted)) {
            end(relay, &suspensions->all[i]);
            leave(suspensions, i);
            count++;
        }
    }
    return count;
}

const struct relay_suspension *relay_suspensions(struct relay *relay, uint32_t *count)
{
    forget_ended(relay);
    *count = relay->suspensions.count;
    return relay->suspensions.all;
}

void relay_suspend_site(struct relay_site *site)
{
    struct relay *relay = site->relay;
    const struct relay_suspensions *suspensions = &relay->suspensions;
    for (uint32_t i = 0; i < suspensions->count; i++) {
        const struct relay_suspension *suspension = &suspensions->all[i];
        if (suspension->of == RELAY_SUSPENDS_SITE && suspension->until_ns > relay->shard->now_ns &&
            is_called(site, suspension->name) &&
            sched_site_suspend(site->sched, suspension->until_ns, slice_text(suspension->reason)) <
                0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "queue: out of memory; %s is not suspended here", suspension->name);
        }
    }
}

void relay_suspensions_close(struct relay *relay)
{
    free(relay->suspensions.all);
}
