/*
 * mailbox imap: a session of a user's for the operator, on the shard that has the user's mail.
 *
 *   job: is there such a user? ──► home: the connection is taken over ──► imap_operate here, or a note takes its far end there
 */
#include "engine/mailbox/mailbox_control_private.h"
#include <stdlib.h>

/* A connection on its way to another shard. */
struct operated {
    struct crossing_note note; /* first */
    struct mailbox_group *group;
    struct stream *stream; /* its far end, of that shard */
    bool finished, create;
    char name[USER_NAME_BYTES];
};

static void stream_cut(struct stream *stream)
{
    stream_abort(stream);
    stream_release(stream);
}

/* The user was there a moment ago: of who is not any more the connection ends. */
static void operate(struct mailbox *mailbox, const struct operated *operated)
{
    struct imap_operator with = {
        .stream = operated->stream, .finished = operated->finished, .make_inbox = operated->create};
    if (mailbox->control == NULL ||
        mailstore_user_open(mailbox->texts, slice_text(operated->name), &with.user) < 0) {
        stream_cut(operated->stream);
        return;
    }
    imap_operate(&mailbox->control->door, &with);
}

static void operated_arrived(struct shard_message *message, struct shard *receiver)
{
    struct operated *operated = list_entry(message, struct operated, note.message);
    operate(operated->group->members[receiver->settings.index], operated);
    free(operated);
}

/* Its stream ends by itself. */
static void operated_dropped(struct shard_message *message)
{
    free(list_entry(message, struct operated, note.message));
}

/* Gives the connection to the user's shard. */
static void operated_send(struct mailbox_control *control, struct operated *operated,
                          unsigned shard)
{
    struct crossing *here = control->mailbox->crossing;
    struct stream *carrier = operated->stream;
    operated->stream = crossing_pass(here, control->passages[shard], carrier, operated->finished);
    if (operated->stream == NULL) {
        stream_cut(carrier);
        free(operated);
        return;
    }
    operated->note.message.run = operated_arrived;
    operated->note.message.dropped = operated_dropped;
    crossing_send(here, control->shards[shard], &operated->note);
}

static void user_is_there(struct mailbox_job *job)
{
    struct mailbox_control *control = job->control;
    struct operated *operated = (struct operated *)calloc(1, sizeof *operated);
    if (operated == NULL) {
        job->failed = true;
        return;
    }
    operated->stream = control_take_over(job->request, &operated->finished);
    if (operated->stream == NULL) {
        free(operated);
        return;
    }
    job->request = NULL;
    operated->group = job->group;
    operated->create = job->order.create;
    strcpy(operated->name, job->name);
    if (job->at == 0) {
        operate(control->mailbox, operated);
        free(operated);
    } else {
        operated_send(control, operated, job->at);
    }
}

static void user_look(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct mailstore_user *user;
    if (job_user(job, mailbox, &user)) {
        mailstore_user_close(mailbox->texts, user);
    }
    job_go_on(job);
}

void imap_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order)
{
    struct mailbox_job *job = job_new(control, request, order, sizeof *job);
    if (job != NULL) {
        job->there = user_look;
        job->back = user_is_there;
        job_visit(job);
    }
}
