/* queue suspend|resume|suspensions: said to every shard, which remember it each for itself. */
#include "engine/relay/relay_control_private.h"
#include "engine/relay/relay_suspend.h"
#include <stdio.h>
#include <stdlib.h>

struct suspending {
    struct relay_control *control;
    struct control_request *request;
    struct queue_order *order;
    struct relay_suspension wanted;
    bool all; /* resume: whatever is suspended */
    unsigned pending;
    uint32_t count; /* resume: most that any shard had */
    int status;
    struct suspending_share {
        struct visit visit;
        struct suspending *suspending;
        uint32_t count;
        int status;
    } shares[];
};

static void suspending_there(struct visit *visit)
{
    struct suspending_share *share = list_entry(visit, struct suspending_share, visit);
    const struct suspending *suspending = share->suspending;
    struct relay *relay = visit_relay(visit);
    if (suspending->order->verb == CONTROL_QUEUE_RESUME) {
        share->count = relay_resume(relay, suspending->all ? NULL : &suspending->wanted);
    } else {
        struct relay_suspension wanted = suspending->wanted;
        wanted.until_ns =
            worker_shard(visit->worker)->now_ns + suspending->order->for_s * 1000000000ull;
        share->status = relay_suspend(relay, &wanted);
    }
    visit_return(visit);
}

static void suspending_log(const struct suspending *suspending)
{
    const struct queue_order *order = suspending->order;
    const struct relay_suspension *wanted = &suspending->wanted;
    struct logger *logger = worker_shard(suspending->control->settings.workers[0])->logger;
    long long user = (long long)control_user(suspending->request);
    const char *of = wanted->of == RELAY_SUSPENDS_SITE ? "site" : "sender";
    if (order->verb == CONTROL_QUEUE_SUSPEND) {
        logger_line(logger, LOGGER_INFO, "queue: suspend %s=%s: uid=%lld, for=%llu s%s%s", of,
                    wanted->name, user, (unsigned long long)order->for_s,
                    order->text[0] != '\0' ? ", " : "", order->text);
    } else {
        logger_line(logger, LOGGER_INFO, "queue: resume %s%s%s: uid=%lld, suspensions=%u",
                    suspending->all ? "all" : of, suspending->all ? "" : "=",
                    suspending->all ? "" : wanted->name, user, suspending->count);
    }
}

static void suspending_end(struct suspending *suspending)
{
    struct control_request *request = suspending->request;
    suspending_log(suspending);
    if (suspending->status == -ENOSPC) {
        control_finish_error(request, "busy", "as much as may be is suspended already");
    } else if (suspending->status < 0) {
        control_finish_error(request, "failed", "out of memory on some shard");
    } else if (suspending->order->verb == CONTROL_QUEUE_RESUME && suspending->count == 0) {
        control_finish_error(request, "not-found", "nothing of this is suspended");
    } else {
        control_finish_with(request, "count",
                            json_integer(suspending->order->verb == CONTROL_QUEUE_RESUME
                                             ? (json_int_t)suspending->count
                                             : 1));
    }
    queue_order_give(suspending->order);
    free(suspending);
}

static void suspending_back(struct visit *visit)
{
    struct suspending_share *share = list_entry(visit, struct suspending_share, visit);
    struct suspending *suspending = share->suspending;
    suspending->status = share->status < 0 ? share->status : suspending->status;
    suspending->count = share->count > suspending->count ? share->count : suspending->count;
    if (--suspending->pending == 0) {
        suspending_end(suspending);
    }
}

void queue_suspend_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    const struct queue_filter *filter = &order->filter;
    const char *name = filter->site[0] != '\0' ? filter->site : filter->sender;
    struct suspending *suspending =
        calloc(1, sizeof(*suspending) + count * sizeof(suspending->shares[0]));
    if (suspending == NULL) {
        queue_order_give(order);
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    name += name[0] == '@'; /* a domain, as in a list */
    suspending->control = control;
    suspending->request = request;
    suspending->order = order;
    suspending->all = filter->all;
    suspending->wanted.of = filter->site[0] != '\0' ? RELAY_SUSPENDS_SITE : RELAY_SUSPENDS_SENDER;
    snprintf(suspending->wanted.name, sizeof(suspending->wanted.name), "%s", name);
    snprintf(suspending->wanted.reason, sizeof(suspending->wanted.reason), "%s", order->text);
    suspending->pending = count;
    for (unsigned i = 0; i < count; i++) {
        suspending->shares[i].suspending = suspending;
        suspending->shares[i].visit.there = suspending_there;
        suspending->shares[i].visit.back = suspending_back;
        visit_begin(&suspending->shares[i].visit, control, i);
    }
}

/* Every shard has the same; this one is ours. */
void queue_suspensions_answer(struct relay_control *control, struct control_request *request)
{
    struct worker *home = control->settings.workers[0];
    uint64_t now_ns = worker_shard(home)->now_ns;
    uint32_t count;
    const struct relay_suspension *all = relay_suspensions(worker_relay(home), &count);
    for (uint32_t i = 0; i < count; i++) {
        control_line(request,
                     json_pack("{s:s,s:o,s:I,s:o}", "of",
                               all[i].of == RELAY_SUSPENDS_SITE ? "site" : "sender", "name",
                               control_text(slice_text(all[i].name)), "seconds",
                               (json_int_t)((all[i].until_ns - now_ns + 999999999) / 1000000000),
                               "text", control_text(slice_text(all[i].reason))));
    }
    control_finish(request);
}
