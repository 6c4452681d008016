#include "engine/core/check.h"
#include "engine/mailbox/mailbox_control_private.h"
#include <stdio.h>
#include <stdlib.h>

static void job_free(struct mailbox_job *job)
{
    json_decref(job->sum);
    json_decref(job->lines);
    json_decref(job->next);
    free(job);
}

/* Main's thread: shard 0 has closed its control long since. */
static void job_dropped(struct shard_message *message)
{
    job_free(list_entry(message, struct mailbox_job, note.message));
}

struct mailbox_job *job_new(struct mailbox_control *control, struct control_request *request,
                            const struct mailbox_order *order, size_t size)
{
    struct mailbox_job *job = (struct mailbox_job *)calloc(1, size);
    if (job == NULL) {
        control_finish_error(request, "failed", "out of memory");
        return NULL;
    }
    job->note.message.dropped = job_dropped;
    job->control = control;
    job->request = request;
    job->order = *order;
    job->group = control->mailbox->group;
    memcpy(job->shards, control->shards, sizeof job->shards);
    list_init(&job->node);
    list_append(&control->jobs, &job->node);
    return job;
}

/* ---- At home ---- */

static void lines_tell(struct control_request *request, const json_t *lines)
{
    size_t index;
    json_t *line;
    json_array_foreach(lines, index, line)
    {
        control_line(request, json_incref(line));
    }
}

static void job_answer(struct mailbox_job *job)
{
    struct control_request *request = job->request;
    if (job->code == NULL && job->failed) {
        job_refuse(job, "failed", "out of memory");
    }
    if (job->code != NULL) {
        control_finish_error(request, job->code, job->text);
        return;
    }
    lines_tell(request, job->lines);
    control_finish_with(request, job->next != NULL ? "next" : NULL, json_incref(job->next));
}

static void job_home(struct mailbox_job *job)
{
    if (job->control != NULL) {
        list_remove(&job->node);
        if (job->code == NULL && job->back != NULL) {
            job->back(job);
        }
        if (job->request != NULL) {
            job_answer(job);
        }
    }
    job_free(job);
}

/* Of what is away only home's own is touched. */
void jobs_end(struct mailbox_control *control)
{
    for (struct list_node *node; (node = list_pop(&control->jobs)) != NULL;) {
        struct mailbox_job *job = list_entry(node, struct mailbox_job, node);
        struct control_request *request = job->request;
        list_init(&job->node);
        job->control = NULL;
        job->request = NULL;
        control_finish_error(request, "failed", "the service has ended");
    }
}

/* ---- On its way ---- */

/* On the shard where it is to be. Its operator's part may have closed, and the mail with it. */
static void job_there(struct mailbox_job *job)
{
    struct mailbox *mailbox = job->group->members[job->at];
    if (mailbox->control == NULL) {
        job_refuse(job, "failed", "the service is ending");
        job_go_on(job);
        return;
    }
    job->there(job, mailbox);
}

static void job_arrived(struct shard_message *message, struct shard *receiver)
{
    struct mailbox_job *job = list_entry(message, struct mailbox_job, note.message);
    check(receiver->settings.index == job->at);
    job_there(job);
}

static void job_returned(struct shard_message *message, struct shard *receiver)
{
    (void)receiver;
    job_home(list_entry(message, struct mailbox_job, note.message));
}

static void job_send(struct mailbox_job *job, unsigned from, unsigned to,
                     void (*run)(struct shard_message *message, struct shard *receiver))
{
    job->note.message.run = run;
    crossing_send(job->group->members[from]->crossing, job->shards[to], &job->note);
}

static void job_begin(struct mailbox_job *job, unsigned first, unsigned last)
{
    job->at = first;
    job->last = last;
    if (first == 0) {
        job_there(job);
    } else {
        job_send(job, 0, first, job_arrived);
    }
}

void job_tour(struct mailbox_job *job)
{
    job_begin(job, 0, job->group->count - 1);
}

void job_go_on(struct mailbox_job *job)
{
    unsigned here = job->at;
    if (here < job->last && job->code == NULL && !job->failed) {
        job->at++;
        job_send(job, here, job->at, job_arrived);
    } else if (here == 0) {
        job_home(job);
    } else {
        job_send(job, here, 0, job_returned);
    }
}

/* ---- What jobs are told ---- */

void job_refuse(struct mailbox_job *job, const char *code, const char *text)
{
    job->code = code;
    snprintf(job->text, sizeof job->text, "%s", text);
}

void job_line(struct mailbox_job *job, json_t *line)
{
    if (job->lines == NULL) {
        job->lines = json_array();
    }
    if (line == NULL || json_array_append_new(job->lines, line) < 0) {
        job->failed = true;
    }
}

/* ---- Users ---- */

static void refuse_at_home(struct mailbox_job *job, const char *code, const char *text)
{
    job_refuse(job, code, text);
    job_home(job);
}

void job_visit(struct mailbox_job *job)
{
    if (job->control->mailbox->texts == NULL) {
        refuse_at_home(job, "unavailable",
                       "the mail lies in Maildirs (store.format), which others read");
    } else if (job->order.user[0] == '\0' ||
               user_name_of_mailbox(slice_text(job->order.user), job->name) < 0) {
        refuse_at_home(job, "bad-request", "expected user=NAME");
    } else {
        unsigned shard = mailbox_group_shard(job->group, job->name);
        job_begin(job, shard, shard);
    }
}

bool job_user(struct mailbox_job *job, struct mailbox *mailbox, struct mailstore_user **user)
{
    int status = mailstore_user_open(mailbox->texts, slice_text(job->name), user);
    if (status < 0) {
        job_refuse(job, "failed", strerror(-status));
        return false;
    }
    if ((*user)->id == 0 && !(job->order.create && mailbox_knows(mailbox, job->name))) {
        mailstore_user_close(mailbox->texts, *user);
        job_refuse(job, "not-found", "no mail is kept for such a user");
        return false;
    }
    return true;
}
