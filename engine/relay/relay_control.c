#include "engine/relay/relay_control_private.h"
#include "engine/core/check.h"
#include "queue/spool/spool.h"
#include <stdlib.h>

/* ---- On each shard ---- */

static void share_answer(struct share *share)
{
    switch (share->question->request->verb) {
    case CONTROL_STATUS:
        status_share_answer(share);
        return;
    case CONTROL_TLS_REPORT:
        tls_share_answer(share);
        return;
    case CONTROL_NET_CONNECTIONS:
    case CONTROL_NET_NEIGHBORS:
    case CONTROL_NET_ROUTES:
    case CONTROL_NET_TRACE:
        share->answer = net_question_answer(&share->question->net, share->worker);
        share->status = share->answer == NULL ? -ENOMEM : 0;
        return;
    case CONTROL_NET_COUNTERS:
        share->answer = net_counters_answer(share->worker);
        share->status = share->answer == NULL ? -ENOMEM : 0;
        return;
    default: /* answered by others */
        return;
    }
}

/* ---- Back on shard 0 ---- */

static void finish_net(struct question *question)
{
    const struct relay_control_settings *settings = &question->control->settings;
    size_t index;
    json_t *line;
    char next[NET_CURSOR_MAX];
    json_array_foreach(question->shares[0].answer, index, line)
    {
        control_line(question->request, json_incref(line));
    }
    if (net_question_next(&question->net, settings->worker_count,
                          worker_port_count(settings->workers[0]), next)) {
        control_finish_with(question->request, "next", json_string(next));
    } else {
        control_finish(question->request);
    }
}

/* A line for each shard, then the sums. */
static void finish_counters(struct question *question)
{
    json_t *sum = json_object_get(question->shares[0].answer, "counters");
    for (unsigned i = 0; i < question->share_count; i++) {
        json_t *shard = json_object_get(question->shares[i].answer, "shard");
        control_line(question->request, json_incref(shard));
        if (i > 0) {
            status_add_numbers(sum, json_object_get(question->shares[i].answer, "counters"));
        }
    }
    control_line(question->request, json_pack("{s:O}", "counters", sum));
    control_finish(question->request);
}

static void question_finish(struct question *question)
{
    for (unsigned i = 0; i < question->share_count; i++) {
        if (question->shares[i].status == -ENOMEM) {
            control_finish_error(question->request, "failed", "out of memory");
            question->request = NULL;
            break;
        }
    }
    if (question->request != NULL) {
        switch (question->request->verb) {
        case CONTROL_STATUS:
            status_finish(question);
            break;
        case CONTROL_TLS_REPORT:
            tls_finish(question);
            break;
        case CONTROL_NET_CONNECTIONS:
        case CONTROL_NET_NEIGHBORS:
        case CONTROL_NET_ROUTES:
        case CONTROL_NET_TRACE:
            finish_net(question);
            break;
        case CONTROL_NET_COUNTERS:
            finish_counters(question);
            break;
        default:
            break;
        }
    }
    for (unsigned i = 0; i < question->share_count; i++) {
        json_decref(question->shares[i].answer);
    }
    free(question);
}

/* ---- To a shard and back ---- */

/* The rings between shards may be full; then a slower way is taken. */
static void message_send(struct worker *from, struct worker *to, struct shard_message *message)
{
    if (shard_send(worker_shard(from), worker_shard(to), message) < 0) {
        check(shard_post(worker_shard(to), message) == 0);
    }
}

static void visit_arrived(struct shard_message *message, struct shard *receiver)
{
    struct visit *visit = list_entry(message, struct visit, message);
    (void)receiver;
    relay_visit_begin(visit_relay(visit));
    visit->there(visit);
}

static void visit_came_back(struct shard_message *message, struct shard *receiver)
{
    struct visit *visit = list_entry(message, struct visit, message);
    (void)receiver;
    visit->back(visit);
}

void visit_begin(struct visit *visit, struct relay_control *control, unsigned shard)
{
    visit->home = control->settings.workers[0];
    visit->worker = control->settings.workers[shard];
    visit->message.run = visit_arrived;
    message_send(visit->home, visit->worker, &visit->message);
}

void visit_return(struct visit *visit)
{
    relay_visit_end(visit_relay(visit));
    visit->message.run = visit_came_back;
    message_send(visit->worker, visit->home, &visit->message);
}

static void share_returned(struct shard_message *message, struct shard *receiver)
{
    struct share *share = list_entry(message, struct share, message);
    (void)receiver;
    if (--share->question->pending == 0) {
        question_finish(share->question);
    }
}

static void share_arrived(struct shard_message *message, struct shard *receiver)
{
    struct share *share = list_entry(message, struct share, message);
    struct shard *home = worker_shard(share->question->control->settings.workers[0]);
    share_answer(share);
    share->message.run = share_returned;
    if (shard_send(receiver, home, message) < 0) {
        check(shard_post(home, message) == 0);
    }
}

/* Reads what the request names. NULL, or the code and, in *text, the words of a refusal. */
static const char *question_read(struct question *question, const char **text)
{
    const struct control_request *request = question->request;
    const struct relay_control_settings *settings = &question->control->settings;
    if (request->verb >= CONTROL_NET_CONNECTIONS) {
        *text = "the relay has no stack of its own: its transport is kernel, so ask ss and nstat";
        if (worker_port_count(settings->workers[0]) == 0) {
            return "unavailable";
        }
        *text = "expected state NAME, local ADDRESS, remote ADDRESS or live";
        return net_question_read(&question->net, request, settings->worker_count,
                                 worker_port_count(settings->workers[0])) < 0
                   ? "bad-request"
                   : NULL;
    }
    return NULL;
}

/* Lists of the stack are read shard by shard; everything else is asked of all at once. */
static bool concerns_one_shard(const struct control_request *request)
{
    return request->verb >= CONTROL_NET_CONNECTIONS && request->verb != CONTROL_NET_COUNTERS;
}

static void capture_over(void *owner)
{
    struct relay_control *control = owner;
    control->capture = NULL;
}

static void ask_capture(struct relay_control *control, struct control_request *request)
{
    const struct relay_capture_settings settings = {.workers = control->settings.workers,
                                                    .worker_count = control->settings.worker_count,
                                                    .request = request,
                                                    .over = capture_over,
                                                    .owner = control};
    if (worker_port_count(control->settings.workers[0]) == 0) {
        control_finish_error(request, "unavailable",
                             "the relay has no stack of its own: its transport is kernel");
        return;
    }
    if (control->capture != NULL) {
        control_finish_error(request, "busy", "another capture is under way");
        return;
    }
    int status = relay_capture_start(&control->capture, &settings);
    if (status == -EINVAL) {
        control_finish_error(request, "bad-request",
                             "expected file PATH [port NAME] [count N] [seconds N] [snap BYTES] "
                             "[between ADDRESS:PORT ADDRESS:PORT]");
    } else if (status < 0) {
        control_finish_error(request, "failed", strerror(-status));
    }
}

static void ask(void *owner, struct control_request *request)
{
    struct relay_control *control = owner;
    unsigned count = control->settings.worker_count;
    if (request->verb < CONTROL_STATUS) {
        queue_ask(control, request);
        return;
    }
    if (request->verb >= CONTROL_MAILBOX_WHO) {
        control_finish_error(request, "bad-request",
                             "this is the relay's socket: mailboxes are tubepost-mailboxd's");
        return;
    }
    const char *text = NULL;
    if (request->verb == CONTROL_RESOLVE) {
        resolve_ask(control, request);
        return;
    }
    struct question *question = calloc(1, sizeof(*question) + count * sizeof(struct share));
    if (request->verb == CONTROL_NET_CAPTURE) {
        free(question);
        ask_capture(control, request);
        return;
    }
    if (question == NULL) {
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    *question = (struct question){.control = control, .request = request};
    const char *refusal = question_read(question, &text);
    if (refusal != NULL) {
        free(question);
        control_finish_error(request, refusal, text);
        return;
    }
    unsigned first = concerns_one_shard(request) ? question->net.shard : 0;
    count = concerns_one_shard(request) ? 1 : count;
    question->pending = question->share_count = count;
    struct shard *home = worker_shard(control->settings.workers[0]);
    for (unsigned i = 0; i < count; i++) {
        struct share *share = &question->shares[i];
        share->question = question;
        share->worker = control->settings.workers[first + i];
        share->message.run = share_arrived;
        if (shard_send(home, worker_shard(share->worker), &share->message) < 0) {
            check(shard_post(worker_shard(share->worker), &share->message) == 0);
        }
    }
}

int relay_control_open(struct relay_control **opened, const struct relay_control_settings *settings)
{
    struct relay_control *control = calloc(1, sizeof(*control));
    if (control == NULL) {
        return -ENOMEM;
    }
    control->settings = *settings;
    list_init(&control->lookups);
    list_init(&control->jobs);
    list_init(&control->changes);
    control->opened_ns = world_now_ns(worker_shard(settings->workers[0])->world);
    const struct control_settings below = {.network = settings->network,
                                           .at = settings->at,
                                           .unix_mode = settings->unix_mode,
                                           .ask = ask,
                                           .owner = control};
    int status = operator_orders_copy(&control->orders, settings->orders);
    status = status == 0 ? control_open(&control->control, &below) : status;
    if (status < 0) {
        operator_orders_free(&control->orders);
        free(control);
        return status;
    }
    *opened = control;
    return 0;
}

void relay_control_rest(struct relay_control *control)
{
    if (control != NULL) {
        control_rest(control->control);
    }
}

bool relay_control_quiet(const struct relay_control *control)
{
    return control_pending(control->control) == 0 && queue_jobs_quiet(control) &&
           orders_quiet(control);
}

void relay_control_close(struct relay_control *control)
{
    resolve_end_all(control);
    control_close(control->control);
    queue_jobs_close(control);
    operator_orders_free(&control->orders);
    free(control);
}
