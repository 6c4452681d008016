/* queue list and queue show; and who answers the rest. */
#include "engine/relay/relay_control_private.h"
#include <stdio.h>
#include <stdlib.h>

#define PAGE_LOOKED_MAX 200000u /* messages, so that an answer comes in time */
#define SHOW_RECIPIENTS_MAX 1000u

/* ---- A message ---- */

static const char *state_name(const struct message *message, uint32_t index,
                              const struct relay_recipient_view *view)
{
    switch (message_recipient_state(message, index)) {
    case RECIPIENT_WAITING:
        return view->active                                  ? "active"
               : view->held                                  ? "held"
               : view->found                                 ? "waiting"
               : !view->filed                                ? "returning"
               : view->suspended                             ? "suspended"
               : view->attempts > 0 || view->reason.size > 0 ? "deferred"
                                                             : "waiting";
    case RECIPIENT_DELIVERED:
        return "delivered";
    case RECIPIENT_FAILED:
        return "failed";
    case RECIPIENT_TELL_DELIVERED:
    case RECIPIENT_TELL_RELAYED:
        return "delivered, to be reported";
    case RECIPIENT_TELL_EXPANDED:
        return "expanded, to be reported";
    case RECIPIENT_TELL_LISTED:
        return "given to a list, to be reported";
    }
    return "";
}

static json_t *recipient_json(const struct message *message, uint32_t index,
                              const struct relay_recipient_view *view)
{
    json_t *json = json_object();
    json_object_set_new(json, "address", control_text(message_forward_path(message, index)));
    json_object_set_new(json, "state", json_string(state_name(message, index, view)));
    if (view->reason.size > 0) {
        json_object_set_new(json, "reason", control_text(view->reason));
    }
    if (view->site.size > 0) {
        json_object_set_new(json, "site", control_text(view->site));
    }
    if (view->filed) {
        json_object_set_new(json, "attempts", json_integer(view->attempts));
    }
    if (view->filed && !view->active && !view->never) {
        json_object_set_new(json, "due_s", json_integer((json_int_t)view->next_attempt_s));
    }
    return json;
}

static json_t *message_json(const struct relay *relay, const struct message *message)
{
    static const char *const priorities[] = {"low", "normal", "high", "urgent"};
    char id[MESSAGE_ID_TEXT];
    json_t *json = json_object();
    message_id_format(message->id, id);
    json_object_set_new(json, "id", json_string(id));
    json_object_set_new(json, "arrival", json_integer((json_int_t)message_arrival_wall_s(message)));
    json_object_set_new(json, "bytes", json_integer((json_int_t)message->body_bytes));
    json_object_set_new(json, "sender", control_text(message_reverse_path(message)));
    json_object_set_new(json, "priority",
                        json_string(priorities[relay_queue_priority(relay, message)]));
    json_object_set_new(json, "attempts", json_integer(message->attempts));
    json_object_set_new(json, "recipient_count", json_integer(message->recipient_count));
    json_object_set_new(json, "waiting_count", json_integer(message->waiting_count));
    json_object_set_new(json, "held", json_boolean(message_flags(message) & SPOOL_HELD));
    return json;
}

/* Those of the message's recipients [from, from + count) that `indexes` names; NULL: all. */
static json_t *recipients_json(struct relay *relay, const struct message *message, uint32_t from,
                               uint32_t count, const uint32_t *indexes, uint32_t index_count)
{
    json_t *array = json_array();
    struct relay_recipient_view *views = calloc((size_t)count + 1, sizeof(*views));
    if (views == NULL) {
        json_decref(array);
        return NULL;
    }
    relay_queue_view(relay, message, from, count, views);
    for (uint32_t i = 0; i < (indexes != NULL ? index_count : count); i++) {
        uint32_t index = indexes != NULL ? indexes[i] : from + i;
        json_array_append_new(array, recipient_json(message, index, &views[index - from]));
    }
    free(views);
    return array;
}

/* ---- queue list ---- */

/* A page of it, which walks over one shard. */
struct listing {
    struct visit visit;
    struct relay_control *control;
    struct control_request *request;
    struct queue_order *order;
    struct queue_walk walk;
    json_t *lines;
};

static void listing_facts(void *owner, const struct message *message, uint32_t from, uint32_t count,
                          struct queue_facts *facts)
{
    struct listing *listing = owner;
    relay_queue_facts(visit_relay(&listing->visit), message, from, count, facts);
}

static void listing_act(void *owner, const struct queue_group *group)
{
    struct listing *listing = owner;
    uint32_t from = group->indexes[0];
    json_t *line = message_json(visit_relay(&listing->visit), group->message);
    json_object_set_new(line, "recipients",
                        recipients_json(visit_relay(&listing->visit), group->message, from,
                                        group->indexes[group->count - 1] - from + 1, group->indexes,
                                        group->count));
    json_array_append_new(listing->lines, line);
}

static void listing_over(void *owner)
{
    visit_return(&((struct listing *)owner)->visit);
}

static const struct queue_walk_ops listing_ops = {
    .facts = listing_facts, .act = listing_act, .over = listing_over};

static void listing_there(struct visit *visit)
{
    struct listing *listing = list_entry(visit, struct listing, visit);
    struct queue_walk *walk = &listing->walk;
    walk->filter = &listing->order->filter;
    walk->ops = &listing_ops;
    walk->owner = listing;
    walk->cursor = listing->order->place;
    walk->looked_most = PAGE_LOOKED_MAX;
    walk->matched_most = listing->order->page;
    if (relay_is_draining(visit_relay(visit)) ||
        queue_walk_start(relay_walks(visit_relay(visit)), walk) < 0) {
        walk->failed = true;
        visit_return(visit);
    }
}

static void listing_back(struct visit *visit)
{
    struct listing *listing = list_entry(visit, struct listing, visit);
    struct queue_order *order = listing->order;
    struct control_request *request = listing->request;
    char next[48] = "";
    size_t index;
    json_t *line;
    json_array_foreach(listing->lines, index, line)
    {
        control_line(request, json_incref(line));
    }
    if (listing->walk.failed || listing->walk.cancelled) {
        control_finish_error(request, "failed",
                             "the list ends here: out of memory, or tubepostd ends");
    } else {
        if (!listing->walk.ended) {
            snprintf(next, sizeof(next), "%u.%llu", order->shard,
                     (unsigned long long)listing->walk.cursor);
        } else if (order->shard + 1 < listing->control->settings.worker_count) {
            snprintf(next, sizeof(next), "%u.0", order->shard + 1);
        }
        control_finish_with(request, next[0] != '\0' ? "next" : NULL,
                            next[0] != '\0' ? json_string(next) : NULL);
    }
    json_decref(listing->lines);
    queue_order_give(order);
    free(listing);
}

static void list_ask(struct relay_control *control, struct control_request *request,
                     struct queue_order *order)
{
    struct listing *listing = calloc(1, sizeof(*listing));
    if (listing == NULL || order->shard >= control->settings.worker_count) {
        free(listing);
        queue_order_give(order);
        control_finish_error(request, "bad-request", "the cursor is of another tubepostd");
        return;
    }
    listing->control = control;
    listing->request = request;
    listing->order = order;
    listing->lines = json_array();
    listing->visit.there = listing_there;
    listing->visit.back = listing_back;
    visit_begin(&listing->visit, control, order->shard);
}

/* ---- queue show ---- */

/* Who has it? All are asked. */
struct showing {
    struct control_request *request;
    uint64_t id, from;
    uint32_t pending;
    struct showing_share {
        struct visit visit;
        struct showing *showing;
        json_t *message;
        uint64_t next; /* recipient; 0: that was the last */
    } shares[];
};

static void showing_there(struct visit *visit)
{
    struct showing_share *share = list_entry(visit, struct showing_share, visit);
    struct relay *relay = visit_relay(visit);
    const struct message *message = spool_find(relay_spool(relay), share->showing->id);
    if (message != NULL) {
        uint64_t from = share->showing->from;
        from = from < message->recipient_count ? from : message->recipient_count;
        uint32_t rest = message->recipient_count - (uint32_t)from;
        uint32_t count = rest < SHOW_RECIPIENTS_MAX ? rest : SHOW_RECIPIENTS_MAX;
        share->next = count < rest ? from + count : 0;
        share->message = message_json(relay, message);
        json_object_set_new(share->message, "recipients",
                            recipients_json(relay, message, (uint32_t)from, count, NULL, 0));
    }
    visit_return(visit);
}

static void showing_back(struct visit *visit)
{
    struct showing_share *share = list_entry(visit, struct showing_share, visit);
    struct showing *showing = share->showing;
    struct control_request *request = showing->request;
    if (share->message != NULL && request != NULL) {
        control_line(request, json_incref(share->message));
        if (share->next > 0) {
            control_finish_with(request, "next", json_integer((json_int_t)share->next));
        } else {
            control_finish(request);
        }
        showing->request = NULL;
    }
    json_decref(share->message);
    if (--showing->pending == 0) {
        if (showing->request != NULL) {
            control_finish_error(showing->request, "not-found",
                                 "no message of this id is in the queue");
        }
        free(showing);
    }
}

static void show_ask(struct relay_control *control, struct control_request *request,
                     struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    struct showing *showing = calloc(1, sizeof(*showing) + count * sizeof(showing->shares[0]));
    if (showing == NULL) {
        control_finish_error(request, "failed", "out of memory");
    } else {
        showing->request = request;
        showing->id = order->filter.ids[0];
        showing->from = order->from;
        showing->pending = count;
        for (unsigned i = 0; i < count; i++) {
            showing->shares[i].showing = showing;
            showing->shares[i].visit.there = showing_there;
            showing->shares[i].visit.back = showing_back;
            visit_begin(&showing->shares[i].visit, control, i);
        }
    }
    queue_order_give(order);
}

/* ---- Who answers ---- */

void queue_order_give(struct queue_order *order)
{
    queue_order_free(order);
    free(order);
}

void queue_ask(struct relay_control *control, struct control_request *request)
{
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    struct queue_order *order = malloc(sizeof(*order));
    if (relay_is_draining(worker_relay(control->settings.workers[0]))) {
        free(order); /* another shard may have ended already, and would not answer */
        control_finish_error(request, "unavailable", "tubepostd is ending");
        return;
    }
    if (order == NULL) {
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    if (queue_order_read(order, request, problem) < 0) {
        free(order);
        control_finish_error(request, "bad-request", problem);
        return;
    }
    switch (order->verb) {
    case CONTROL_QUEUE_LIST:
        list_ask(control, request, order);
        return;
    case CONTROL_QUEUE_SHOW:
        show_ask(control, request, order);
        return;
    case CONTROL_QUEUE_BODY:
        queue_body_ask(control, request, order);
        return;
    case CONTROL_QUEUE_SUMMARY:
        queue_summary_ask(control, request, order);
        return;
    case CONTROL_QUEUE_SUSPEND:
    case CONTROL_QUEUE_RESUME:
        queue_suspend_ask(control, request, order);
        return;
    case CONTROL_QUEUE_SUSPENSIONS:
        queue_suspensions_answer(control, request);
        queue_order_give(order);
        return;
    case CONTROL_QUEUE_JOBS:
    case CONTROL_QUEUE_JOB:
    case CONTROL_QUEUE_CANCEL:
        queue_jobs_answer(control, request, order);
        queue_order_give(order);
        return;
    case CONTROL_QUEUE_REROUTE:
        queue_reroute_ask(control, request, order);
        return;
    default:
        queue_job_begin(control, request, order);
        return;
    }
}
