#include "engine/relay/relay_control.h"
#include "engine/core/check.h"
#include "engine/relay/relay.h"
#include "engine/relay/relay_capture.h"
#include "engine/relay/relay_control_net.h"
#include "engine/tls/tls.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include <stdlib.h>
#include <unistd.h>

struct relay_control {
    struct relay_control_settings settings;
    struct control *control;
    struct relay_capture *capture; /* under way, or NULL */
    uint64_t opened_ns;
};

struct question;

/* One shard's share of a question. Travels there and back. */
struct share {
    struct shard_message message;
    struct question *question;
    struct worker *worker;
    int status;
    json_t *answer; /* list: an array in the order of ids; show: the message; status: the numbers */
    bool more;      /* list: there are more than `limit` */
    uint64_t count; /* flush */
};

struct question {
    struct relay_control *control;
    struct control_request *request;
    uint64_t id; /* show, delete, flush of one; list: what lies behind it */
    uint32_t limit;
    struct net_question net;
    unsigned pending;
    unsigned share_count;
    struct share shares[];
};

/* ---- On each shard ---- */

static const char *state_name(const struct recipient *recipient,
                              const struct relay_recipient_view *view)
{
    switch ((enum recipient_state)recipient->state) {
    case RECIPIENT_WAITING:
        return view->active ? "active" : "deferred";
    case RECIPIENT_DELIVERED:
        return "delivered";
    case RECIPIENT_FAILED:
        return "failed";
    }
    return "";
}

static json_t *recipient_json(struct relay *relay, const struct message *message, uint32_t index,
                              struct relay_recipient_view *view)
{
    const struct recipient *recipient = &message->recipients[index];
    *view = (struct relay_recipient_view){0};
    if (recipient->state == RECIPIENT_WAITING) {
        relay_view_recipient(relay, message, index, view);
    }
    json_t *json = json_object();
    json_object_set_new(json, "address", control_text(recipient->forward_path));
    json_object_set_new(json, "state", json_string(state_name(recipient, view)));
    if (view->reason.size > 0) {
        json_object_set_new(json, "reason", control_text(view->reason));
    }
    return json;
}

static json_t *message_json(struct relay *relay, const struct message *message)
{
    char id[MESSAGE_ID_TEXT];
    uint64_t due_s = UINT64_MAX;
    json_t *json = json_object();
    json_t *recipients = json_array();
    message_id_format(message->id, id);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        struct relay_recipient_view view;
        json_array_append_new(recipients, recipient_json(relay, message, i, &view));
        if (message->recipients[i].state == RECIPIENT_WAITING && !view.active &&
            view.next_attempt_s < due_s) {
            due_s = view.next_attempt_s;
        }
    }
    json_object_set_new(json, "id", json_string(id));
    json_object_set_new(json, "arrival",
                        json_integer((json_int_t)message->envelope.arrival_wall_s));
    json_object_set_new(json, "bytes", json_integer((json_int_t)message->body_bytes));
    json_object_set_new(json, "sender", control_text(message->envelope.reverse_path));
    json_object_set_new(json, "attempts", json_integer(message->attempts));
    json_object_set_new(json, "recipient_count", json_integer(message->recipient_count));
    json_object_set_new(json, "waiting_count", json_integer(message->waiting_count));
    if (due_s != UINT64_MAX) {
        json_object_set_new(json, "due_s", json_integer((json_int_t)due_s));
    }
    json_object_set_new(json, "recipients", recipients);
    return json;
}

/* The `limit` smallest ids behind a given one, in order. */
struct id_page {
    uint64_t after;
    uint32_t limit, count;
    bool more;
    uint64_t *ids;
};

static void page_add(void *owner, struct message *message)
{
    struct id_page *page = owner;
    if (message->id <= page->after) {
        return;
    }
    if (page->count == page->limit) {
        page->more = true;
        if (message->id > page->ids[page->count - 1]) {
            return;
        }
        page->count--;
    }
    uint32_t place = page->count;
    while (place > 0 && page->ids[place - 1] > message->id) {
        page->ids[place] = page->ids[place - 1];
        place--;
    }
    page->ids[place] = message->id;
    page->count++;
}

static void answer_list(struct share *share, struct relay *relay)
{
    struct id_page page = {.after = share->question->id, .limit = share->question->limit};
    struct spool *spool = relay_spool(relay);
    page.ids = calloc(page.limit, sizeof(*page.ids));
    share->answer = json_array();
    if (page.ids == NULL) {
        share->status = -ENOMEM;
        return;
    }
    spool_each(spool, page_add, &page);
    for (uint32_t i = 0; i < page.count; i++) {
        json_array_append_new(share->answer, message_json(relay, spool_find(spool, page.ids[i])));
    }
    share->more = page.more;
    free(page.ids);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *relay_numbers(const struct relay_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "connections_in", counters->connections_in);
    set_number(json, "connections_refused", counters->connections_refused);
    set_number(json, "connections_out", counters->connections_out);
    set_number(json, "connections_out_failed", counters->connections_out_failed);
    set_number(json, "messages_in", counters->messages_in);
    set_number(json, "recipients_in", counters->recipients_in);
    set_number(json, "bytes_in", counters->bytes_in);
    set_number(json, "refused_commands", counters->refused_commands);
    set_number(json, "refused_messages", counters->refused_messages);
    set_number(json, "deliveries", counters->deliveries);
    set_number(json, "delivered", counters->delivered);
    set_number(json, "deferred", counters->deferred);
    set_number(json, "failed", counters->failed);
    set_number(json, "bounces", counters->bounces);
    set_number(json, "double_bounces", counters->double_bounces);
    set_number(json, "bytes_out", counters->bytes_out);
    return json;
}

static json_t *log_numbers(const struct log_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "records", counters->records);
    set_number(json, "record_bytes", counters->record_bytes);
    set_number(json, "writes", counters->writes);
    set_number(json, "write_bytes", counters->write_bytes);
    set_number(json, "write_failures", counters->write_failures);
    set_number(json, "refused_full", counters->refused_full);
    set_number(json, "refused_broken", counters->refused_broken);
    set_number(json, "damaged_bytes", counters->damaged_bytes);
    return json;
}

static json_t *tls_numbers(const struct tls_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "accepted", counters->accepted);
    set_number(json, "connected", counters->connected);
    set_number(json, "resumed", counters->resumed);
    set_number(json, "failed", counters->failed);
    set_number(json, "put_off", counters->turns_put_off);
    set_number(json, "truncated", counters->truncated);
    return json;
}

static void answer_status(struct share *share, struct relay *relay)
{
    const struct relay_counters *counters = relay_counters(relay);
    const struct spool_counters *spool = spool_counters(relay_spool(relay));
    const struct log_counters *log = log_counters(worker_log(share->worker));
    const struct shard *shard = worker_shard(share->worker);
    json_t *counted = json_object();
    json_t *gauges = json_object();
    json_t *rounds = json_object();
    json_object_set_new(counted, "relay", relay_numbers(counters));
    json_object_set_new(counted, "log", log_numbers(log));
    json_object_set_new(counted, "tls", tls_numbers(worker_tls_counters(share->worker)));
    set_number(rounds, "rounds", shard->counters.rounds);
    set_number(rounds, "busy_rounds", shard->counters.busy_rounds);
    set_number(rounds, "busy_us", shard->counters.busy_ns / 1000);
    set_number(rounds, "sleeps", shard->counters.sleeps);
    set_number(rounds, "system_calls", shard->uring != NULL ? shard->uring->enter_count : 0);
    json_object_set_new(counted, "shard", rounds);
    set_number(gauges, "poll_gap_us_max", shard->counters.poll_gap_ns_max / 1000);
    set_number(gauges, "sessions_in", counters->sessions_in);
    set_number(gauges, "sessions_out", counters->sessions_out);
    set_number(gauges, "messages_queued", spool->live_messages);
    set_number(gauges, "segments_used", log->segments_used);
    set_number(gauges, "segments_spare", log->segments_spare);
    share->answer = json_object();
    json_object_set_new(share->answer, "counters", counted);
    json_object_set_new(share->answer, "gauges", gauges);
}

static void answer_flush(struct share *share, struct relay *relay)
{
    if (share->question->id != 0 && spool_find(relay_spool(relay), share->question->id) == NULL) {
        share->status = -ENOENT;
        return;
    }
    share->count = spool_counters(relay_spool(relay))->live_messages;
    relay_flush_queue(relay);
}

static void share_answer(struct share *share)
{
    struct relay *relay = worker_relay(share->worker);
    switch (share->question->request->verb) {
    case CONTROL_QUEUE_LIST:
        answer_list(share, relay);
        return;
    case CONTROL_QUEUE_SHOW: {
        const struct message *message = spool_find(relay_spool(relay), share->question->id);
        share->status = message == NULL ? -ENOENT : 0;
        share->answer = message == NULL ? NULL : message_json(relay, message);
        return;
    }
    case CONTROL_QUEUE_FLUSH:
        answer_flush(share, relay);
        return;
    case CONTROL_QUEUE_DELETE:
        share->status = relay_delete(relay, share->question->id);
        return;
    case CONTROL_STATUS:
        answer_status(share, relay);
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
    case CONTROL_NET_CAPTURE: /* answered by relay_capture */
        return;
    }
}

/* ---- Back on shard 0 ---- */

/* Merges the shards' pages, each in order, into one. */
static void finish_list(struct question *question)
{
    size_t next[CONF_SHARDS_MAX] = {0};
    const char *last = NULL;
    bool more = false;
    for (uint32_t sent = 0;; sent++) {
        struct share *first = NULL;
        const char *first_id = NULL;
        for (unsigned i = 0; i < question->share_count; i++) {
            struct share *share = &question->shares[i];
            json_t *message = json_array_get(share->answer, next[i]);
            const char *id = json_string_value(json_object_get(message, "id"));
            more = more || share->more;
            if (id != NULL && (first_id == NULL || strcmp(id, first_id) < 0)) {
                first = share;
                first_id = id;
            }
        }
        if (first == NULL) {
            break;
        }
        if (sent == question->limit) {
            more = true;
            break;
        }
        size_t place = next[first - question->shares]++;
        last = first_id;
        control_line(question->request, json_incref(json_array_get(first->answer, place)));
    }
    if (more && last != NULL) {
        control_finish_with(question->request, "next", json_string(last));
    } else {
        control_finish(question->request);
    }
}

/* What is the largest of a shard is no sum of all. */
static bool ends_in_max(const char *key)
{
    size_t length = strlen(key);
    return length > 4 && strcmp(key + length - 4, "_max") == 0;
}

static void add_numbers(json_t *into, const json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        json_t *sum = json_object_get(into, key);
        if (json_is_object(value)) {
            add_numbers(sum, value);
        } else if (ends_in_max(key)) {
            json_integer_set(sum, json_integer_value(sum) > json_integer_value(value)
                                      ? json_integer_value(sum)
                                      : json_integer_value(value));
        } else {
            json_integer_set(sum, json_integer_value(sum) + json_integer_value(value));
        }
    }
}

static void finish_status(struct question *question)
{
    json_t *sum = question->shares[0].answer;
    for (unsigned i = 1; i < question->share_count; i++) {
        add_numbers(sum, question->shares[i].answer);
    }
    const struct relay_control_settings *settings = &question->control->settings;
    const struct world *world = worker_shard(settings->workers[0])->world;
    json_object_set_new(sum, "shards", json_integer(question->share_count));
    json_object_set_new(sum, "hostname", control_text(slice_text(settings->hostname)));
    set_number(sum, "pid", (uint64_t)getpid());
    set_number(sum, "uptime_s",
               (world_now_ns(world) - question->control->opened_ns) / 1000000000ull);
    control_line(question->request, json_incref(sum));
    control_finish(question->request);
}

/* One shard has it, or none. */
static void finish_one(struct question *question)
{
    const struct share *found = NULL;
    for (unsigned i = 0; i < question->share_count; i++) {
        if (question->shares[i].status != -ENOENT) {
            found = &question->shares[i];
        }
    }
    if (found == NULL) {
        control_finish_error(question->request, "not-found",
                             "no message of this id is in the queue");
    } else if (found->status == -EBUSY) {
        control_finish_error(question->request, "busy", "the message is being delivered right now");
    } else if (found->status < 0) {
        control_finish_error(question->request, "failed", strerror(-found->status));
    } else {
        if (found->answer != NULL) {
            control_line(question->request, json_incref(found->answer));
        }
        control_finish(question->request);
    }
}

static void finish_flush(struct question *question)
{
    uint64_t count = 0;
    if (question->id != 0) {
        finish_one(question);
        return;
    }
    for (unsigned i = 0; i < question->share_count; i++) {
        count += question->shares[i].count;
    }
    control_finish_with(question->request, "count", json_integer((json_int_t)count));
}

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
            add_numbers(sum, json_object_get(question->shares[i].answer, "counters"));
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
        case CONTROL_QUEUE_LIST:
            finish_list(question);
            break;
        case CONTROL_STATUS:
            finish_status(question);
            break;
        case CONTROL_QUEUE_FLUSH:
            finish_flush(question);
            break;
        case CONTROL_QUEUE_SHOW:
        case CONTROL_QUEUE_DELETE:
            finish_one(question);
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
        case CONTROL_NET_CAPTURE:
            break;
        }
    }
    for (unsigned i = 0; i < question->share_count; i++) {
        json_decref(question->shares[i].answer);
    }
    free(question);
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
    struct slice id = request->verb == CONTROL_QUEUE_LIST ? request->cursor : request->id;
    *text = "this is not the id of a message";
    return id.size > 0 && message_id_parse(id, &question->id) < 0 ? "not-found" : NULL;
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
    struct question *question = calloc(1, sizeof(*question) + count * sizeof(struct share));
    const char *text = NULL;
    if (request->verb == CONTROL_NET_CAPTURE) {
        free(question);
        ask_capture(control, request);
        return;
    }
    if (question == NULL) {
        control_finish_error(request, "failed", "out of memory");
        return;
    }
    *question = (struct question){.control = control, .request = request, .limit = request->limit};
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
    control->opened_ns = world_now_ns(worker_shard(settings->workers[0])->world);
    const struct control_settings below = {.network = settings->network,
                                           .at = settings->at,
                                           .unix_mode = settings->unix_mode,
                                           .ask = ask,
                                           .owner = control};
    int status = control_open(&control->control, &below);
    if (status < 0) {
        free(control);
        return status;
    }
    *opened = control;
    return 0;
}

bool relay_control_quiet(const struct relay_control *control)
{
    return control_pending(control->control) == 0;
}

void relay_control_close(struct relay_control *control)
{
    control_close(control->control);
    free(control);
}
