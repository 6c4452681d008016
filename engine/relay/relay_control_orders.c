/*
 * What the operator says that outlives the process: written before it holds.
 *
 * Shard 0 has all of it. A change is made in a copy, a helper writes that to the file, and when it is durable the copy
 * is what holds, and whoever asked goes on. One at a time, in the order in which they came.
 */
#include "engine/relay/relay_control_private.h"
#include "engine/shard/helpers.h"
#include <stdlib.h>

/* On its way to the file. */
struct orders_writing {
    struct helper_job job;
    struct relay_control *control;
    const struct operator_file *file;
    struct operator_orders orders;
    char *text;
    int status;
    struct orders_change *change;
};

static void writing_free(struct orders_writing *writing)
{
    operator_orders_free(&writing->orders);
    free(writing->text);
    free(writing);
}

static void writing_work(struct helper_job *job, void *own)
{
    struct orders_writing *writing = list_entry(job, struct orders_writing, job);
    (void)own;
    writing->status =
        writing->file->replace(writing->file->self, writing->text, strlen(writing->text));
}

static void writing_dropped(struct helper_job *job)
{
    writing_free(list_entry(job, struct orders_writing, job));
}

static void next_begin(struct relay_control *control);

static void writing_done(struct helper_job *job, struct shard *shard)
{
    struct orders_writing *writing = list_entry(job, struct orders_writing, job);
    struct relay_control *control = writing->control;
    int status = writing->status;
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "queue: %s cannot be written: %s",
                    OPERATOR_FILE_NAME, strerror(-status));
    } else {
        struct operator_orders before = control->orders;
        control->orders = writing->orders;
        writing->orders = before;
    }
    control->writing = NULL;
    writing->change->done(writing->change, status);
    writing_free(writing);
    next_begin(control);
}

/* 0: on its way. */
static int writing_begin(struct relay_control *control, struct orders_change *change)
{
    struct shard *home = worker_shard(control->settings.workers[0]);
    struct orders_writing *writing = calloc(1, sizeof(*writing));
    if (writing == NULL) {
        return -ENOMEM;
    }
    writing->job =
        (struct helper_job){.work = writing_work, .done = writing_done, .dropped = writing_dropped};
    writing->control = control;
    writing->file = control->settings.operator_file;
    writing->change = change;
    int status = operator_orders_copy(&writing->orders, &control->orders);
    if (status == 0) {
        operator_orders_tidy(&writing->orders, world_wall_s(home->world),
                             relay_mail_age_max_s(worker_relay(control->settings.workers[0])) +
                                 OPERATOR_MAIL_AGE_SLACK_S);
        status = change->apply(change, &writing->orders);
    }
    if (status == 0) {
        writing->text = operator_orders_write(&writing->orders);
        status = writing->text == NULL ? -ENOMEM : 0;
    }
    status = status == 0 ? helpers_give(control->settings.helpers, home, &writing->job) : status;
    if (status < 0) {
        writing_free(writing);
    } else {
        control->writing = writing;
    }
    return status;
}

static void next_begin(struct relay_control *control)
{
    while (control->writing == NULL && !list_empty(&control->changes)) {
        struct orders_change *change =
            list_entry(list_pop(&control->changes), struct orders_change, node);
        int status = writing_begin(control, change);
        if (status < 0) {
            change->done(change, status);
        }
    }
}

void orders_change(struct relay_control *control, struct orders_change *change)
{
    list_init(&change->node);
    list_append(&control->changes, &change->node);
    next_begin(control);
}

bool orders_quiet(const struct relay_control *control)
{
    return control->writing == NULL && list_empty(&control->changes);
}

const char *orders_refusal(int status, const char **text)
{
    switch (-status) {
    case ENOSPC:
        *text = "as much as may be of this is remembered already";
        return "busy";
    case EILSEQ:
        *text = "what is not UTF-8 cannot be written down";
        return "bad-request";
    case ENOENT:
        *text = "nothing of this is suspended";
        return "not-found";
    case EAGAIN:
    case ENOBUFS:
        *text = "too much is asked at once: try again";
        return "busy";
    case ENOMEM:
        *text = "out of memory";
        return "failed";
    default:
        *text = "it cannot be written to the spool's folder, see the log: nothing was changed";
        return "failed";
    }
}
