/* queue suspend|resume|suspensions: written down, then said to every shard. */
#include "engine/relay/relay_control_private.h"
#include "engine/relay/relay_suspend.h"
#include <stdio.h>
#include <stdlib.h>

struct suspending {
    struct relay_control *control;
    struct control_request *request;
    struct queue_order *order;
    struct orders_change change;
    struct operator_suspension wanted;
    bool all; /* resume: whatever is suspended */
    unsigned pending;
    uint32_t count; /* resume: so many */
    int status;
    struct suspending_share {
        struct visit visit;
        struct suspending *suspending;
        int status;
    } shares[];
};

static bool resumes(const struct suspending *suspending)
{
    return suspending->order->verb == CONTROL_QUEUE_RESUME;
}

/* ---- On each shard ---- */

static void suspending_there(struct visit *visit)
{
    struct suspending_share *share = list_entry(visit, struct suspending_share, visit);
    const struct suspending *suspending = share->suspending;
    struct relay *relay = visit_relay(visit);
    if (resumes(suspending)) {
        relay_resume(relay, suspending->all ? NULL : &suspending->wanted);
    } else {
        share->status = relay_suspend(relay, &suspending->wanted,
                                      worker_shard(visit->worker)->now_ns +
                                          suspending->order->for_s * 1000000000ull);
    }
    visit_return(visit);
}

/* ---- At home ---- */

static void suspending_log(const struct suspending *suspending)
{
    const struct queue_order *order = suspending->order;
    const struct operator_suspension *wanted = &suspending->wanted;
    struct logger *logger = worker_shard(suspending->control->settings.workers[0])->logger;
    long long user = (long long)wanted->user;
    const char *of = operator_of_name(wanted->of);
    if (!resumes(suspending)) {
        logger_line(logger, LOGGER_INFO, "queue: suspend %s=%s: uid=%lld, for=%llu s%s%s", of,
                    wanted->name, user, (unsigned long long)order->for_s,
                    order->text[0] != '\0' ? ", " : "", order->text);
    } else {
        logger_line(logger, LOGGER_INFO, "queue: resume %s%s%s: uid=%lld, suspensions=%u",
                    suspending->all ? "all" : of, suspending->all ? "" : "=",
                    suspending->all ? "" : wanted->name, user, suspending->count);
    }
}

static void suspending_free(struct suspending *suspending)
{
    queue_order_give(suspending->order);
    free(suspending);
}

static void suspending_end(struct suspending *suspending)
{
    struct control_request *request = suspending->request;
    suspending_log(suspending);
    if (suspending->status < 0) {
        control_finish_error(request, "failed",
                             "out of memory on some shard: there it holds after a restart");
    } else {
        control_finish_with(request, "count",
                            json_integer(resumes(suspending) ? (json_int_t)suspending->count : 1));
    }
    suspending_free(suspending);
}

static void suspending_back(struct visit *visit)
{
    struct suspending_share *share = list_entry(visit, struct suspending_share, visit);
    struct suspending *suspending = share->suspending;
    suspending->status = share->status < 0 ? share->status : suspending->status;
    if (--suspending->pending == 0) {
        suspending_end(suspending);
    }
}

/* How many a resume ends. What has ended already is written down for another second, since the wall clock is not
 * known better: that is not meant. */
static uint32_t in_force(const struct suspending *suspending, const struct operator_orders *orders)
{
    const struct world *world = worker_shard(suspending->control->settings.workers[0])->world;
    int64_t over_wall_s = world_wall_s(world) + 1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < orders->suspension_count; i++) {
        const struct operator_suspension *said = &orders->suspensions[i];
        bool meant = suspending->all || operator_suspension_same(said, &suspending->wanted);
        count += meant && said->until_wall_s > over_wall_s;
    }
    return count;
}

static int suspending_apply(struct orders_change *change, struct operator_orders *orders)
{
    struct suspending *suspending = list_entry(change, struct suspending, change);
    if (!resumes(suspending)) {
        return operator_orders_suspend(orders, &suspending->wanted);
    }
    suspending->count = in_force(suspending, orders);
    operator_orders_resume(orders, suspending->all ? NULL : &suspending->wanted);
    return suspending->count == 0 ? -ENOENT : 0;
}

static void suspending_durable(struct orders_change *change, int status)
{
    struct suspending *suspending = list_entry(change, struct suspending, change);
    struct relay_control *control = suspending->control;
    unsigned count = control->settings.worker_count;
    if (status < 0) {
        const char *text, *code = orders_refusal(status, &text);
        control_finish_error(suspending->request, code, text);
        suspending_free(suspending);
        return;
    }
    if (relay_is_draining(worker_relay(control->settings.workers[0]))) {
        suspending_end(suspending); /* it holds from the next start on */
        return;
    }
    suspending->pending = count;
    for (unsigned i = 0; i < count; i++) {
        suspending->shares[i].suspending = suspending;
        suspending->shares[i].visit.there = suspending_there;
        suspending->shares[i].visit.back = suspending_back;
        visit_begin(&suspending->shares[i].visit, control, i);
    }
}

static void name_take(struct operator_suspension *wanted, const struct queue_filter *filter)
{
    const char *const names[OPERATOR_OFS] = {[OPERATOR_OF_SITE] = filter->site,
                                             [OPERATOR_OF_SENDER] = filter->sender,
                                             [OPERATOR_OF_DOMAIN] = filter->domain,
                                             [OPERATOR_OF_RECIPIENT] = filter->recipient,
                                             [OPERATOR_OF_PATTERN] = filter->pattern_text};
    unsigned of = 0;
    while (of + 1 < OPERATOR_OFS && names[of][0] == '\0') {
        of++;
    }
    const char *name = names[of];
    name += of == OPERATOR_OF_SENDER && name[0] == '@'; /* a domain, as in a list */
    wanted->of = (uint8_t)of;
    snprintf(wanted->name, sizeof(wanted->name), "%s", name);
}

void queue_suspend_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    struct suspending *suspending =
        calloc(1, sizeof(*suspending) + count * sizeof(suspending->shares[0]));
    if (suspending == NULL) {
        queue_order_give(order);
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    const struct world *world = worker_shard(control->settings.workers[0])->world;
    suspending->control = control;
    suspending->request = request;
    suspending->order = order;
    suspending->all = order->filter.all;
    suspending->wanted.since_wall_s = world_wall_s(world);
    /* The wall clock is known to a second: not before what was said. */
    suspending->wanted.until_wall_s = suspending->wanted.since_wall_s + 1 + (int64_t)order->for_s;
    suspending->wanted.user = control_user(request);
    name_take(&suspending->wanted, &order->filter);
    snprintf(suspending->wanted.reason, sizeof(suspending->wanted.reason), "%s", order->text);
    suspending->change =
        (struct orders_change){.apply = suspending_apply, .done = suspending_durable};
    orders_change(control, &suspending->change);
}

static void reroute_line(struct control_request *request, const struct operator_reroute *said)
{
    control_line(request, json_pack("{s:s,s:o,s:o,s:I,s:I}", "of", "reroute", "name",
                                    control_text(slice_text(said->words)), "to",
                                    control_text(slice_text(said->to)), "since",
                                    (json_int_t)said->since_wall_s, "uid", (json_int_t)said->user));
}

/* Every shard has the same; this one is ours. */
void queue_suspensions_answer(struct relay_control *control, struct control_request *request)
{
    struct worker *home = control->settings.workers[0];
    uint64_t now_ns = worker_shard(home)->now_ns;
    uint32_t count;
    const struct relay_suspension *all = relay_suspensions(worker_relay(home), &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct operator_suspension *said = &all[i].said;
        control_line(request,
                     json_pack("{s:s,s:o,s:I,s:o,s:I,s:I,s:I}", "of", operator_of_name(said->of),
                               "name", control_text(slice_text(said->name)), "seconds",
                               (json_int_t)((all[i].until_ns - now_ns + 999999999) / 1000000000),
                               "text", control_text(slice_text(said->reason)), "since",
                               (json_int_t)said->since_wall_s, "until",
                               (json_int_t)said->until_wall_s, "uid", (json_int_t)said->user));
    }
    for (uint32_t i = 0; i < control->orders.reroute_count; i++) {
        reroute_line(request, &control->orders.reroutes[i]);
    }
    control_finish(request);
}
