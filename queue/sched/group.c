#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

/* The first of those who wait for a token has an interval of the rate to take it, but at least so long: its timer may
 * be late by a tick. He may have nothing to send any more. */
#define GRACE_NS_MIN 10000000u

/* ---- Groups ---- */

void sched_group_init(struct sched_group *group, struct sched *sched)
{
    *group = (struct sched_group){.sched = sched};
    sched_gate_init(&group->gate, 0);
    list_init(&group->connections.waiting);
    list_init(&group->messages.waiting);
}

int sched_group_open(struct sched *sched, const struct sched_limits *limits,
                     struct sched_group **group)
{
    struct sched_group *opened = calloc(1, sizeof(*opened));
    if (opened == NULL) {
        return -ENOMEM;
    }
    sched_group_init(opened, sched);
    sched_group_set(opened, limits);
    *group = opened;
    return 0;
}

void sched_group_close(struct sched_group *group)
{
    check(group->site_count == 0);
    sched_lease_close(group->lease);
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
    sched_lease_slice(group->lease);
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
    sched->all.gate.count_max = count;
    sched_gate_hand_out(&sched->all.gate);
}

struct sched_group *sched_group_of_all(struct sched *sched)
{
    return &sched->all;
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

uint32_t sched_meter_available(const struct sched_meter *meter, uint64_t now_ns, uint32_t most)
{
    if (meter->rate.count > 0 && meter->lease != NULL) {
        return most < meter->lease->have ? most : meter->lease->have;
    }
    return rate_available(&meter->rate, &meter->bucket, now_ns, most);
}

/* Leased tokens come with an answer, at which who waits is looked at. */
static uint64_t meter_due(const struct sched_meter *meter)
{
    if (meter->rate.count > 0 && meter->lease != NULL) {
        return meter->lease->have > 0 ? meter->lease->granted_ns : SCHED_NEVER;
    }
    return rate_due(&meter->rate, &meter->bucket);
}

/* Somebody wants some: it has as many again as it asks for at a time, before the last is taken. */
static void meter_lack(const struct sched_meter *meter)
{
    struct sched_tokens *tokens = meter->lease;
    if (tokens != NULL && tokens->have <= tokens->slice / 2) {
        tokens->lacking = tokens->slice - tokens->have;
        sched_lease_note(tokens->group->lease);
    }
}

uint64_t sched_meter_due(const struct sched_meter *meter, const struct list_node *node,
                         uint64_t now_ns)
{
    uint64_t due_ns = meter_due(meter);
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
    meter_lack(meter);
    if (sched_meter_due(meter, node, now_ns) > now_ns) {
        if (list_empty(node)) {
            list_append(&meter->waiting, node);
        }
        return 0;
    }
    bool others = !list_empty(&meter->waiting) &&
                  (meter->waiting.next != node || node->next != &meter->waiting);
    return sched_meter_available(meter, now_ns, others ? 1 : most);
}

void sched_meter_take(struct sched_meter *meter, struct list_node *node, uint64_t now_ns,
                      uint32_t count)
{
    if (count > 0 && !first_or_alone(meter, node)) {
        struct list_node *passed = list_pop(&meter->waiting);
        if (meter->lease != NULL) {
            sched_tokens_look(meter->lease,
                              passed); /* it may want one yet, and no timer says when */
        }
    }
    list_remove(node);
    if (meter->rate.count == 0 || meter->lease == NULL) {
        rate_take(&meter->rate, &meter->bucket, now_ns, count);
    } else {
        check(count <= meter->lease->have);
        meter->lease->have -= count;
        if (!list_empty(&meter->waiting)) {
            meter_lack(meter);
        }
    }
}

void sched_meter_give(struct sched_meter *meter)
{
    if (meter->lease == NULL) {
        rate_give(&meter->rate, &meter->bucket);
    } else if (meter->rate.count > 0) {
        meter->lease->have++;
        sched_lease_note(meter->lease->group->lease);
    }
}
