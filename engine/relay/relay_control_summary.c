/* queue summary: each shard counts, then the counts are added. */
#include "engine/relay/queue_summary.h"
#include "engine/relay/relay_control_private.h"
#include <stdlib.h>

struct summing {
    struct control_request *request;
    struct queue_order *order;
    uint32_t pending, failed;
    struct queue_summary sum;
    struct summing_share {
        struct visit visit;
        struct summing *summing;
        struct queue_walk walk;
        struct queue_summary summary;
        struct queue_facts facts[QUEUE_GROUP_MAX]; /* by site */
    } shares[];
};

static void summing_facts(void *owner, const struct message *message, uint32_t from, uint32_t count,
                          struct queue_facts *facts)
{
    struct summing_share *share = owner;
    relay_queue_facts(visit_relay(&share->visit), message, from, count, facts);
}

static struct slice domain_of(struct slice mailbox)
{
    const uint8_t *at = mailbox.size > 0 ? memrchr(mailbox.bytes, '@', mailbox.size) : NULL;
    return slice_from(mailbox, at == NULL ? mailbox.size : (size_t)(at - mailbox.bytes) + 1);
}

static void group_count_sites(struct summing_share *share, const struct queue_group *group,
                              uint64_t age_s)
{
    uint32_t from = group->indexes[0];
    uint32_t count = group->indexes[group->count - 1] - from + 1;
    memset(share->facts, 0, count * sizeof(share->facts[0]));
    relay_queue_facts(visit_relay(&share->visit), group->message, from, count, share->facts);
    for (uint32_t i = 0; i < group->count; i++) {
        queue_summary_add(&share->summary, share->facts[group->indexes[i] - from].site, age_s, 1);
    }
}

static void summing_act(void *owner, const struct queue_group *group)
{
    struct summing_share *share = owner;
    const struct message *message = group->message;
    int64_t now_s = relay_walks(visit_relay(&share->visit))->wall_s;
    int64_t passed_s = now_s - message_arrival_wall_s(message);
    uint64_t age_s = passed_s > 0 ? (uint64_t)passed_s : 0;
    switch ((enum queue_by)share->summing->order->by) {
    case QUEUE_BY_DOMAIN:
        for (uint32_t i = 0; i < group->count; i++) {
            queue_summary_add(&share->summary,
                              domain_of(message_forward_path(message, group->indexes[i])), age_s,
                              1);
        }
        return;
    case QUEUE_BY_SITE:
        group_count_sites(share, group, age_s);
        return;
    case QUEUE_BY_SENDER:
        queue_summary_add(&share->summary, message_reverse_path(message), age_s, group->count);
        return;
    }
}

static void summing_over(void *owner)
{
    visit_return(&((struct summing_share *)owner)->visit);
}

static const struct queue_walk_ops summing_ops = {
    .facts = summing_facts, .act = summing_act, .over = summing_over};

static void summing_there(struct visit *visit)
{
    struct summing_share *share = list_entry(visit, struct summing_share, visit);
    struct relay *relay = visit_relay(visit);
    struct queue_walk *walk = &share->walk;
    walk->filter = &share->summing->order->filter;
    walk->ops = &summing_ops;
    walk->owner = share;
    if (relay_is_draining(relay) || queue_summary_open(&share->summary) < 0 ||
        queue_walk_start(relay_walks(relay), walk) < 0) {
        walk->failed = true;
        visit_return(visit);
    }
}

static json_t *row_json(const char *name, const struct queue_summary_row *row)
{
    json_t *ages = json_array();
    for (unsigned i = 0; i < QUEUE_SUMMARY_AGES; i++) {
        json_array_append_new(ages, json_integer((json_int_t)row->ages[i]));
    }
    json_t *json = json_object();
    json_object_set_new(json, "name", control_text(slice_text(name)));
    json_object_set_new(json, "count", json_integer((json_int_t)row->count));
    json_object_set_new(json, "oldest_s", json_integer((json_int_t)row->oldest_s));
    json_object_set_new(json, "ages", ages);
    return json;
}

/* All together first, then those with most, then what is left. */
static void summing_answer(struct summing *summing)
{
    struct control_request *request = summing->request;
    struct queue_summary *sum = &summing->sum;
    queue_summary_sort(sum);
    control_line(request, row_json("TOTAL", &sum->total));
    uint32_t most = summing->order->top < sum->row_count ? summing->order->top : sum->row_count;
    for (uint32_t i = 0; i < most; i++) {
        control_line(request, row_json(sum->rows[i].name, &sum->rows[i]));
    }
    struct queue_summary_row rest = sum->others;
    for (uint32_t i = most; i < sum->row_count; i++) {
        rest.count += sum->rows[i].count;
        rest.oldest_s =
            sum->rows[i].oldest_s > rest.oldest_s ? sum->rows[i].oldest_s : rest.oldest_s;
        for (unsigned j = 0; j < QUEUE_SUMMARY_AGES; j++) {
            rest.ages[j] += sum->rows[i].ages[j];
        }
    }
    if (rest.count > 0) {
        control_line(request, row_json("OTHERS", &rest));
    }
    control_finish(request);
}

static void summing_back(struct visit *visit)
{
    struct summing_share *share = list_entry(visit, struct summing_share, visit);
    struct summing *summing = share->summing;
    if (share->walk.failed || share->walk.cancelled) {
        summing->failed++;
    } else {
        queue_summary_merge(&summing->sum, &share->summary);
    }
    queue_summary_close(&share->summary);
    if (--summing->pending > 0) {
        return;
    }
    if (summing->failed > 0) {
        control_finish_error(summing->request, "failed",
                             "not all was counted: out of memory, or tubepostd ends");
    } else {
        summing_answer(summing);
    }
    queue_summary_close(&summing->sum);
    queue_order_give(summing->order);
    free(summing);
}

void queue_summary_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    struct summing *summing = calloc(1, sizeof(*summing) + count * sizeof(summing->shares[0]));
    if (summing == NULL || queue_summary_open(&summing->sum) < 0) {
        free(summing);
        queue_order_give(order);
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    summing->request = request;
    summing->order = order;
    summing->pending = count;
    for (unsigned i = 0; i < count; i++) {
        summing->shares[i].summing = summing;
        summing->shares[i].visit.there = summing_there;
        summing->shares[i].visit.back = summing_back;
        visit_begin(&summing->shares[i].visit, control, i);
    }
}
