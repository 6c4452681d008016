/*
 * What changes the queue: jobs. Each walks over all shards; its number is answered at once, and what it has
 * done so far whenever somebody asks.
 *
 * A job is kept after its end until JOBS_MAX newer ones are there.
 */
#include "engine/relay/relay_control_private.h"
#include "queue/log/log.h"
#include <stdio.h>
#include <stdlib.h>

#define JOBS_MAX 32u    /* kept, finished ones too */
#define RUNNING_MAX 8u  /* more: busy */
#define WORDS_MAX 160u  /* of a request that are shown */
#define DURABLE_TRIES 8 /* after a failed write the notes are written again */

enum job_state { JOB_RUNNING, JOB_DONE, JOB_CANCELLED, JOB_FAILED };

struct job;

struct job_share {
    struct visit visit, cancel;
    struct job *job;
    struct queue_walk walk;
    struct relay_queue_tally tally;
    struct log_waiter durable;
    int tries;
    int status;
};

struct job {
    struct list_node node;
    struct relay_control *control;
    struct queue_order *order;
    uint32_t number;
    int64_t user;
    uint8_t state; /* enum job_state */
    bool cancelled;
    uint64_t begun_ns, ended_ns;
    char words[WORDS_MAX];
    unsigned pending; /* visits */
    unsigned share_count, begun_count;
    struct job_share shares[];
};

static const char *verb_name(enum control_verb verb)
{
    return verb == CONTROL_QUEUE_HOLD      ? "hold"
           : verb == CONTROL_QUEUE_RELEASE ? "release"
           : verb == CONTROL_QUEUE_FLUSH   ? "flush"
           : verb == CONTROL_QUEUE_DELETE  ? "delete"
           : verb == CONTROL_QUEUE_REROUTE ? "reroute"
                                           : "bounce";
}

/* ---- On each shard ---- */

static void share_facts(void *owner, const struct message *message, uint32_t from, uint32_t count,
                        struct queue_facts *facts)
{
    struct job_share *share = owner;
    relay_queue_facts(visit_relay(&share->visit), message, from, count, facts);
}

static void share_act(void *owner, const struct queue_group *group)
{
    struct job_share *share = owner;
    struct relay *relay = visit_relay(&share->visit);
    const struct queue_order *order = share->job->order;
    switch (order->verb) {
    case CONTROL_QUEUE_HOLD:
        relay_queue_hold(relay, group, &share->tally);
        return;
    case CONTROL_QUEUE_RELEASE:
        relay_queue_release(relay, group, &share->tally);
        return;
    case CONTROL_QUEUE_FLUSH:
        relay_queue_flush(relay, group, &share->tally);
        return;
    case CONTROL_QUEUE_DELETE:
        relay_queue_delete(relay, group, &share->tally);
        return;
    case CONTROL_QUEUE_REROUTE:
        relay_queue_reroute(relay, group, order->text, &share->tally);
        return;
    default:
        relay_queue_bounce(relay, group, order->text, &share->tally);
        return;
    }
}

static bool share_ready(void *owner)
{
    struct job_share *share = owner;
    return share->job->order->verb != CONTROL_QUEUE_BOUNCE ||
           relay_queue_may_bounce(visit_relay(&share->visit));
}

static void share_durable(struct log_waiter *waiter, int status)
{
    struct job_share *share = list_entry(waiter, struct job_share, durable);
    if (status < 0 && ++share->tries < DURABLE_TRIES) {
        log_when_durable(relay_log(visit_relay(&share->visit)), waiter);
        return;
    }
    share->status = status;
    visit_return(&share->visit);
}

/* What was done is promised when the notes of it are durable. */
static void share_over(void *owner)
{
    struct job_share *share = owner;
    share->durable.done = share_durable;
    log_when_durable(relay_log(visit_relay(&share->visit)), &share->durable);
}

static const struct queue_walk_ops share_ops = {
    .facts = share_facts, .act = share_act, .ready = share_ready, .over = share_over};

static void share_there(struct visit *visit)
{
    struct job_share *share = list_entry(visit, struct job_share, visit);
    struct relay *relay = visit_relay(visit);
    const struct queue_order *order = share->job->order;
    if (order->verb == CONTROL_QUEUE_FLUSH && queue_filter_is_empty(&order->filter)) {
        share->tally.done = relay_queue_flush_all(relay);
        share->walk.counts.matched = share->tally.done;
        visit_return(visit);
        return;
    }
    share->walk.filter = &order->filter;
    share->walk.ops = &share_ops;
    share->walk.owner = share;
    share->status =
        relay_is_draining(relay) ? -ESHUTDOWN : queue_walk_start(relay_walks(relay), &share->walk);
    if (share->status < 0) {
        visit_return(visit);
    }
}

static void cancel_there(struct visit *visit)
{
    list_entry(visit, struct job_share, cancel)->walk.cancelled = true;
    visit_return(visit);
}

/* ---- At home ---- */

struct job_sums {
    uint64_t looked, matched, done, busy, gave_up;
};

static uint64_t read_relaxed(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static struct job_sums sums_of(const struct job *job)
{
    struct job_sums sums = {0};
    for (unsigned i = 0; i < job->begun_count; i++) {
        const struct job_share *share = &job->shares[i];
        sums.looked += read_relaxed(&share->walk.counts.looked);
        sums.matched += read_relaxed(&share->walk.counts.matched);
        sums.gave_up += read_relaxed(&share->walk.counts.gave_up);
        sums.done += read_relaxed(&share->tally.done);
        sums.busy += read_relaxed(&share->tally.busy);
    }
    return sums;
}

static uint64_t now_ns(const struct relay_control *control)
{
    return world_now_ns(worker_shard(control->settings.workers[0])->world);
}

static void job_free(struct job *job)
{
    list_remove(&job->node);
    job->control->job_count--;
    queue_order_give(job->order);
    free(job);
}

static const char *const state_names[] = {"running", "done", "cancelled", "failed"};

static void job_end(struct job *job)
{
    bool failed = false, cancelled = job->cancelled;
    for (unsigned i = 0; i < job->begun_count; i++) {
        failed = failed || job->shares[i].status < 0 || job->shares[i].walk.failed;
        cancelled = cancelled || job->shares[i].walk.cancelled;
    }
    job->state = failed ? JOB_FAILED : cancelled ? JOB_CANCELLED : JOB_DONE;
    job->ended_ns = now_ns(job->control);
    struct job_sums sums = sums_of(job);
    logger_line(worker_shard(job->control->settings.workers[0])->logger, LOGGER_INFO,
                "queue: job %u: %s%s%s: uid=%lld, recipients=%llu, busy=%llu, messages looked "
                "at=%llu, status=%s",
                job->number, verb_name(job->order->verb), job->words[0] != '\0' ? " " : "",
                job->words, (long long)job->user, (unsigned long long)sums.done,
                (unsigned long long)sums.busy, (unsigned long long)sums.looked,
                state_names[job->state]);
}

static void share_begin(struct job *job);

static void share_back(struct visit *visit)
{
    struct job *job = list_entry(visit, struct job_share, visit)->job;
    job->pending--;
    if (job->order->filter.limit > 0 && job->begun_count < job->share_count && !job->cancelled &&
        sums_of(job).matched < job->order->filter.limit) {
        share_begin(job);
    }
    if (job->pending == 0) {
        job_end(job);
    }
}

static void cancel_back(struct visit *visit)
{
    struct job *job = list_entry(visit, struct job_share, cancel)->job;
    if (--job->pending == 0) {
        job_end(job);
    }
}

static void share_begin(struct job *job)
{
    uint64_t limit = job->order->filter.limit;
    struct job_share *share = &job->shares[job->begun_count];
    share->job = job;
    share->walk.limit = limit > 0 ? limit - sums_of(job).matched : 0;
    share->visit.there = share_there;
    share->visit.back = share_back;
    job->pending++;
    visit_begin(&share->visit, job->control, job->begun_count++);
}

/* The request's words as they came, as far as they fit; those without a value without their '='. */
static void words_keep(struct job *job, const struct control_request *request)
{
    size_t used = 0;
    for (unsigned i = 0; i < request->word_count && used < WORDS_MAX; i++) {
        struct slice word = request->words[i];
        word.size -= word.size > 0 && word.bytes[word.size - 1] == '=';
        int length = snprintf(job->words + used, WORDS_MAX - used, "%s%.*s", i > 0 ? " " : "",
                              (int)word.size, (const char *)word.bytes);
        used += (size_t)length;
    }
}

bool queue_job_fits(const struct relay_control *control)
{
    unsigned running = 0;
    for (const struct list_node *node = control->jobs.next; node != &control->jobs;
         node = node->next) {
        running += list_entry(node, struct job, node)->state == JOB_RUNNING;
    }
    return running < RUNNING_MAX;
}

/* The oldest that is over makes room. */
static void room_make(struct relay_control *control)
{
    struct list_node *node = control->jobs.next;
    while (node != &control->jobs && list_entry(node, struct job, node)->state == JOB_RUNNING) {
        node = node->next;
    }
    if (control->job_count >= JOBS_MAX && node != &control->jobs) {
        job_free(list_entry(node, struct job, node));
    }
}

void queue_job_begin(struct relay_control *control, struct control_request *request,
                     struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    struct job *job = NULL;
    if (!queue_job_fits(control)) {
        control_finish_error(request, "busy", "as many jobs as there may be are under way");
    } else {
        room_make(control);
        job = calloc(1, sizeof(*job) + count * sizeof(job->shares[0]));
        if (job == NULL) {
            control_finish_error(request, "failed", "out of memory");
        }
    }
    if (job == NULL) {
        queue_order_give(order);
        return;
    }
    if (order->verb == CONTROL_QUEUE_BOUNCE && order->text[0] == '\0') {
        snprintf(order->text, sizeof(order->text), "Returned by the operator of this mail system");
    }
    job->control = control;
    job->order = order;
    job->number = ++control->job_number;
    job->user = control_user(request);
    job->begun_ns = now_ns(control);
    job->share_count = count;
    words_keep(job, request);
    list_init(&job->node);
    list_append(&control->jobs, &job->node);
    control->job_count++;
    share_begin(job);
    while (order->filter.limit == 0 && job->begun_count < count) {
        share_begin(job);
    }
    control_finish_with(request, "job", json_integer(job->number));
}

static json_t *job_json(const struct job *job)
{
    struct job_sums sums = sums_of(job);
    uint64_t until_ns = job->state == JOB_RUNNING ? now_ns(job->control) : job->ended_ns;
    return json_pack("{s:I,s:s,s:o,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:f}", "job",
                     (json_int_t)job->number, "verb", verb_name(job->order->verb), "words",
                     control_text(slice_text(job->words)), "uid", (json_int_t)job->user, "state",
                     state_names[job->state], "looked", (json_int_t)sums.looked, "matched",
                     (json_int_t)sums.matched, "done", (json_int_t)sums.done, "busy",
                     (json_int_t)sums.busy, "gave_up", (json_int_t)sums.gave_up, "seconds",
                     (double)(until_ns - job->begun_ns) / 1e9);
}

static void job_cancel(struct job *job)
{
    if (job->state != JOB_RUNNING || job->cancelled) {
        return;
    }
    job->cancelled = true;
    for (unsigned i = 0; i < job->begun_count; i++) {
        struct job_share *share = &job->shares[i];
        share->cancel.there = cancel_there;
        share->cancel.back = cancel_back;
        job->pending++;
        visit_begin(&share->cancel, job->control, i);
    }
}

void queue_jobs_answer(struct relay_control *control, struct control_request *request,
                       const struct queue_order *order)
{
    unsigned found = 0;
    for (struct list_node *node = control->jobs.next; node != &control->jobs; node = node->next) {
        struct job *job = list_entry(node, struct job, node);
        if (order->verb == CONTROL_QUEUE_JOBS || job->number == order->job) {
            if (order->verb == CONTROL_QUEUE_CANCEL) {
                job_cancel(job);
            }
            control_line(request, job_json(job));
            found++;
        }
    }
    if (order->verb != CONTROL_QUEUE_JOBS && found == 0) {
        control_finish_error(request, "not-found", "there is no such job");
        return;
    }
    control_finish(request);
}

bool queue_jobs_quiet(const struct relay_control *control)
{
    const struct list_node *node = control->jobs.next;
    while (node != &control->jobs && list_entry(node, struct job, node)->pending == 0) {
        node = node->next;
    }
    return node == &control->jobs;
}

void queue_jobs_close(struct relay_control *control)
{
    while (!list_empty(&control->jobs)) {
        job_free(list_entry(control->jobs.next, struct job, node));
    }
}
