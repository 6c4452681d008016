/* A command that is one change of the store: it waits until the change is durable, then answers. */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

static void change_done(struct mailstore_waiter *waiter, int status)
{
    struct imap_change *change = list_entry(waiter, struct imap_change, waiter);
    change->done = true;
    change->status = status;
    imap_session_wake(change->session);
}

static enum imap_step change_step(struct imap_session *session, struct imap_task *task)
{
    struct imap_change *change = (struct imap_change *)task;
    return change->done ? change->told(session, change) : IMAP_STEP_WAIT;
}

static void change_end(struct imap_session *session, struct imap_task *task)
{
    struct imap_change *change = (struct imap_change *)task;
    if (!change->done) {
        mailstore_waiter_cancel(imap_session_store(session), &change->waiter);
    }
    if (change->free != NULL) {
        change->free(change);
    }
    if (change->owner != NULL) {
        mailstore_user_close(imap_session_store(session), change->owner);
    }
    free(change->uids);
}

static enum imap_step told_plainly(struct imap_session *session, struct imap_change *change)
{
    return change->status == 0 ? imap_session_ok(session)
                               : imap_session_refuse(session, change->status);
}

struct imap_change *imap_change_new(struct imap_session *session,
                                    enum imap_step (*told)(struct imap_session *,
                                                           struct imap_change *))
{
    struct imap_change *change =
        (struct imap_change *)imap_session_task(session, sizeof(*change), change_step);
    if (change != NULL) {
        change->task.end = change_end;
        change->task.is_change = true;
        change->session = session;
        change->waiter.done = change_done;
        change->told = told != NULL ? told : told_plainly;
        change->done = true; /* nothing is asked yet */
    }
    return change;
}

void imap_change_hold(struct imap_session *session, struct imap_change *change,
                      struct imap_place *place)
{
    if (place->owner != session->user) {
        change->owner = place->owner;
        place->owner = NULL;
    }
}

void imap_change_waits(struct imap_change *change, int status)
{
    change->done = status != 0;
    change->status = status;
}

void imap_change_begin(struct imap_session *session, struct imap_change *change, int status)
{
    imap_change_waits(change, status);
    imap_session_begin(session);
}
