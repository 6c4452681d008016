/* queue reroute: written down, said to every shard for mail that is filed later, then a job as any other. */
#include "engine/relay/relay_control_private.h"
#include "engine/relay/relay_detour.h"
#include <stdio.h>
#include <stdlib.h>

struct rerouting {
    struct relay_control *control;
    struct control_request *request;
    struct queue_order *order;
    struct orders_change change;
    struct operator_reroute said;
    unsigned pending;
    int status;
    struct rerouting_share {
        struct visit visit;
        struct rerouting *rerouting;
        int status;
    } shares[];
};

/* What only the moment knows: nobody can say of a message later whether it was meant. */
static bool is_of_the_moment(const struct queue_filter *filter)
{
    return filter->deferred || filter->hold != QUEUE_HOLD_ANY || filter->limit > 0;
}

/* The request's words, but for the next hop. -EMSGSIZE: they are too long. */
static int words_keep(struct operator_reroute *said, const struct control_request *request)
{
    size_t used = 0;
    for (unsigned i = 0; i < request->word_count; i++) {
        struct slice word = request->words[i];
        if (word.size >= 3 && memcmp(word.bytes, "to=", 3) == 0) {
            continue;
        }
        if (used + word.size + 2 > sizeof(said->words)) {
            return -EMSGSIZE;
        }
        if (used > 0) {
            said->words[used++] = ' ';
        }
        memcpy(said->words + used, word.bytes, word.size);
        used += word.size;
    }
    return 0;
}

static void rerouting_there(struct visit *visit)
{
    struct rerouting_share *share = list_entry(visit, struct rerouting_share, visit);
    share->status = relay_detour_remember(visit_relay(visit), &share->rerouting->said);
    visit_return(visit);
}

static void rerouting_back(struct visit *visit)
{
    struct rerouting_share *share = list_entry(visit, struct rerouting_share, visit);
    struct rerouting *rerouting = share->rerouting;
    rerouting->status = share->status < 0 ? share->status : rerouting->status;
    if (--rerouting->pending > 0) {
        return;
    }
    if (rerouting->status < 0) {
        queue_order_give(rerouting->order);
        control_finish_error(rerouting->request, "failed",
                             "out of memory on some shard: it holds after a restart");
    } else {
        queue_job_begin(rerouting->control, rerouting->request, rerouting->order);
    }
    free(rerouting);
}

static int rerouting_apply(struct orders_change *change, struct operator_orders *orders)
{
    return operator_orders_reroute(orders, &list_entry(change, struct rerouting, change)->said);
}

static void rerouting_durable(struct orders_change *change, int status)
{
    struct rerouting *rerouting = list_entry(change, struct rerouting, change);
    struct relay_control *control = rerouting->control;
    const char *text, *code = NULL;
    if (status < 0) {
        code = orders_refusal(status, &text);
    } else if (relay_is_draining(worker_relay(control->settings.workers[0]))) {
        code = "unavailable";
        text = "tubepostd is ending: it holds from the next start on";
    }
    if (code != NULL) {
        control_finish_error(rerouting->request, code, text);
        queue_order_give(rerouting->order);
        free(rerouting);
        return;
    }
    rerouting->pending = control->settings.worker_count;
    for (unsigned i = 0; i < control->settings.worker_count; i++) {
        rerouting->shares[i].rerouting = rerouting;
        rerouting->shares[i].visit.there = rerouting_there;
        rerouting->shares[i].visit.back = rerouting_back;
        visit_begin(&rerouting->shares[i].visit, control, i);
    }
}

/* NULL, or why this cannot be. */
static const char *refusal_of(const struct relay *relay, const struct queue_order *order)
{
    if (strcmp(order->text, OPERATOR_TO_ROUTES) == 0) {
        return is_of_the_moment(&order->filter)
                   ? "to=routes: not with limit, held, ready or deferred"
                   : NULL;
    }
    if (strlen(order->text) >= OPERATOR_TO_MAX || !relay_detour_is_hop(order->text)) {
        return "to: expected an address, such as 192.0.2.9:25, smtp:[192.0.2.9]:25 or "
               "lmtp:unix:/run/lmtp; or routes";
    }
    return relay_detour_is_ours(relay, order->text) ? "to: we listen there ourselves" : NULL;
}

void queue_reroute_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    const char *refusal = refusal_of(worker_relay(control->settings.workers[0]), order);
    if (refusal != NULL) {
        queue_order_give(order);
        control_finish_error(request, "bad-request", refusal);
        return;
    }
    /* Nothing is remembered of what cannot begin now. */
    if (is_of_the_moment(&order->filter) || !queue_job_fits(control)) {
        queue_job_begin(control, request, order);
        return;
    }
    struct rerouting *rerouting =
        calloc(1, sizeof(*rerouting) + count * sizeof(rerouting->shares[0]));
    if (rerouting == NULL || words_keep(&rerouting->said, request) < 0) {
        control_finish_error(request, rerouting == NULL ? "failed" : "bad-request",
                             rerouting == NULL ? "out of memory" : "too many words to remember");
        queue_order_give(order);
        free(rerouting);
        return;
    }
    rerouting->control = control;
    rerouting->request = request;
    rerouting->order = order;
    rerouting->said.since_wall_s = world_wall_s(worker_shard(control->settings.workers[0])->world);
    rerouting->said.user = control_user(request);
    snprintf(rerouting->said.to, sizeof(rerouting->said.to), "%s", order->text);
    rerouting->change = (struct orders_change){.apply = rerouting_apply, .done = rerouting_durable};
    orders_change(control, &rerouting->change);
}
