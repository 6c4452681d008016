#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

/* The first of those who wait for a token has an interval of the rate to take it, but at least so long: its timer may
 * be late by a tick. He may have nothing to send any more. */
#define GRACE_NS_MIN 10000000u

/* ---- Groups ---- */

int sched_group_open(struct sched *sched, const struct sched_limits *limits,
                     struct sched_group **group)
{
    struct sched_group *opened = calloc(1, sizeof(*opened));
    if (opened == NULL) {
        return -ENOMEM;
    }
    opened->sched = sched;
    sched_gate_init(&opened->gate, 0);
    list_init(&opened->connections.waiting);
    list_init(&opened->messages.waiting);
    sched_group_set(opened, limits);
    *group = opened;
    return 0;
}

void sched_group_close(struct sched_group *group)
{
    check(group->site_count == 0);
    free(group);
}

/* What was taken at another rate says nothing at this one: the bucket is full. */
static void meter_set(struct sched_meter *meter, const struct rate *rate)
{
    if (meter->rate.count != rate->count || meter->rate.period_ns != rate->period_ns) {
        meter->bucket = (struct rate_bucket){0};
    }
    meter->rate = *rate;
}

void sched_group_set(struct sched_group *group, const struct sched_limits *limits)
{
    group->gate.count_max = limits->connection_count_max;
    meter_set(&group->connections, &limits->connections);
    meter_set(&group->messages, &limits->messages);
    sched_gate_hand_out(&group->gate);
}

uint32_t sched_group_site_count(const struct sched_group *group)
{
    return group->site_count;
}

uint32_t sched_group_connection_count(const struct sched_group *group)
{
    return group->gate.used_count;
}

void sched_set_connection_count_max(struct sched *sched, uint32_t count)
{
    sched->gate.count_max = count;
    sched_gate_hand_out(&sched->gate);
}

struct sched_site *sched_look(struct sched *sched)
{
    struct list_node *node = list_pop(&sched->look);
    return node == NULL ? NULL : list_entry(node, struct sched_site, look);
}

/* ---- Rates ---- */

static bool first_or_alone(const struct sched_meter *meter, const struct list_node *node)
{
    return list_empty(&meter->waiting) || meter->waiting.next == node;
}

uint64_t sched_meter_due(const struct sched_meter *meter, const struct list_node *node,
                         uint64_t now_ns)
{
    uint64_t due_ns = rate_due(&meter->rate, &meter->bucket);
    if (first_or_alone(meter, node)) {
        return due_ns;
    }
    uint64_t grace_ns = rate_interval(&meter->rate);
    grace_ns = grace_ns > GRACE_NS_MIN ? grace_ns : GRACE_NS_MIN;
    uint64_t passed_ns = due_ns < SCHED_NEVER - grace_ns ? due_ns + grace_ns : SCHED_NEVER - 1;
    return passed_ns <= now_ns ? now_ns : passed_ns;
}

uint32_t sched_meter_ask(struct sched_meter *meter, struct list_node *node, uint64_t now_ns,
                         uint32_t most)
{
    if (meter->rate.count == 0 || most == 0) {
        return most;
    }
    if (sched_meter_due(meter, node, now_ns) > now_ns) {
        if (list_empty(node)) {
            list_append(&meter->waiting, node);
        }
        return 0;
    }
    bool others = !list_empty(&meter->waiting) &&
                  (meter->waiting.next != node || node->next != &meter->waiting);
    return rate_available(&meter->rate, &meter->bucket, now_ns, others ? 1 : most);
}

void sched_meter_take(struct sched_meter *meter, struct list_node *node, uint64_t now_ns,
                      uint32_t count)
{
    if (count > 0 && !first_or_alone(meter, node)) {
        list_pop(&meter->waiting);
    }
    list_remove(node);
    rate_take(&meter->rate, &meter->bucket, now_ns, count);
}
