#include "engine/relay/relay_suspend.h"
#include "engine/core/mutation.h"
#include "engine/relay/relay_parking.h"
#include "engine/relay/relay_queue.h"
#include "queue/sched/operator.h"
#include <stdlib.h>

#define OPERATOR_LEFT_MAX_S (10ull * 366 * 86400) /* the wall clock was set back, or wrong */

/* By a name of the operator's: the domain alone, or <>. */
static uint64_t sender_key(const struct relay *relay, const char *name)
{
    char mailbox[OPERATOR_NAME_MAX + 1] = "@";
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

/* The scheduler knows senders by their domain. */
static bool is_of_senders_domain(const struct operator_suspension *said)
{
    return said->of == OPERATOR_OF_SENDER && strchr(said->name, '@') == NULL &&
           said->name[0] != '.';
}

static int sites_begin(struct relay *relay, const struct relay_suspension *suspension)
{
    struct list_node *used = &relay->sites.used;
    int status = 0;
    for (struct list_node *node = used->next; node != used && status == 0; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (is_called(site, suspension->said.name)) {
            status = sched_site_suspend(site->sched, suspension->until_ns,
                                        slice_text(suspension->said.reason));
        }
    }
    return status;
}

static int begin(struct relay *relay, struct relay_suspension *suspension)
{
    if (suspension->said.of == OPERATOR_OF_SITE) {
        return sites_begin(relay, suspension);
    }
    if (is_of_senders_domain(&suspension->said)) {
        return sched_sender_suspend(relay->sched, sender_key(relay, suspension->said.name),
                                    suspension->until_ns, slice_text(suspension->said.reason));
    }
    return relay_parking_begin(relay, suspension);
}

static void end(struct relay *relay, const struct relay_suspension *suspension)
{
    struct list_node *used = &relay->sites.used;
    if (suspension->parking != NULL) {
        relay_parking_end(suspension->parking);
        return;
    }
    if (suspension->said.of == OPERATOR_OF_SENDER) {
        sched_sender_resume(relay->sched, sender_key(relay, suspension->said.name));
        relay_sites_touch_all(relay);
        return;
    }
    for (struct list_node *node = used->next; node != used; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (is_called(site, suspension->said.name)) {
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

/* What the scheduler has suspended it ends by itself. */
void relay_suspensions_look(struct relay *relay)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    for (uint32_t i = suspensions->count; i-- > 0;) {
        if (suspensions->all[i].until_ns <= relay->shard->now_ns) {
            if (suspensions->all[i].parking != NULL) {
                relay_parking_end(suspensions->all[i].parking);
            }
            leave(suspensions, i);
        }
    }
}

int relay_suspend(struct relay *relay, const struct operator_suspension *said, uint64_t until_ns)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    relay_suspensions_look(relay);
    if (suspensions->all == NULL) {
        suspensions->all = calloc(OPERATOR_SUSPENSIONS_MAX, sizeof(suspensions->all[0]));
        if (suspensions->all == NULL) {
            return -ENOMEM;
        }
    }
    uint32_t i = 0;
    while (i < suspensions->count && !operator_suspension_same(&suspensions->all[i].said, said)) {
        i++;
    }
    if (i == OPERATOR_SUSPENSIONS_MAX) {
        return -ENOSPC;
    }
    struct relay_suspension wanted = {.said = *said, .until_ns = until_ns};
    wanted.parking = i < suspensions->count ? suspensions->all[i].parking : NULL;
    int status = begin(relay, &wanted);
    if (status == 0) {
        suspensions->all[i] = wanted;
        suspensions->count += i == suspensions->count;
    }
    return status;
}

uint32_t relay_resume(struct relay *relay, const struct operator_suspension *like)
{
    struct relay_suspensions *suspensions = &relay->suspensions;
    uint32_t count = 0;
    relay_suspensions_look(relay);
    for (uint32_t i = suspensions->count; i-- > 0;) {
        if (like == NULL || operator_suspension_same(&suspensions->all[i].said, like)) {
            end(relay, &suspensions->all[i]);
            leave(suspensions, i);
            count++;
        }
    }
    return count;
}

const struct relay_suspension *relay_suspensions(struct relay *relay, uint32_t *count)
{
    relay_suspensions_look(relay);
    *count = relay->suspensions.count;
    return relay->suspensions.all;
}

int relay_suspensions_load(struct relay *relay, const struct operator_orders *orders)
{
    int64_t wall_s = world_wall_s(relay->shard->world);
    for (uint32_t i = 0; i < orders->suspension_count; i++) {
        const struct operator_suspension *said = &orders->suspensions[i];
        uint64_t left_s = said->until_wall_s > wall_s ? (uint64_t)(said->until_wall_s - wall_s) : 0;
        if (left_s == 0 || MUTATED(SUSPENSION_FORGOTTEN)) {
            continue;
        }
        left_s = left_s < OPERATOR_LEFT_MAX_S ? left_s : OPERATOR_LEFT_MAX_S;
        int status = relay_suspend(relay, said, relay->shard->now_ns + left_s * 1000000000ull);
        if (status < 0) {
            return status;
        }
        if (relay->shard->settings.index == 0) {
            logger_line(relay->logger, LOGGER_INFO, "queue: %s=%s is suspended for another %llu s",
                        operator_of_name(said->of), said->name, (unsigned long long)left_s);
        }
    }
    return 0;
}

void relay_suspend_site(struct relay_site *site)
{
    struct relay *relay = site->relay;
    const struct relay_suspensions *suspensions = &relay->suspensions;
    for (uint32_t i = 0; i < suspensions->count; i++) {
        const struct relay_suspension *suspension = &suspensions->all[i];
        if (suspension->said.of == OPERATOR_OF_SITE &&
            suspension->until_ns > relay->shard->now_ns && is_called(site, suspension->said.name) &&
            sched_site_suspend(site->sched, suspension->until_ns,
                               slice_text(suspension->said.reason)) < 0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "queue: out of memory; %s is not suspended here", suspension->said.name);
        }
    }
}

void relay_suspensions_close(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->suspensions.count; i++) {
        if (relay->suspensions.all[i].parking != NULL) {
            relay_parking_close(relay->suspensions.all[i].parking);
        }
    }
    free(relay->suspensions.all);
}
