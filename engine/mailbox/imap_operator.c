/* IMAP sessions of a user's for the operator, who has come by the control socket: nobody logs in, no limit holds them. */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

struct operating { /* the INBOX is made */
    struct imap_task task;
    struct imap_session *session;
    struct mailstore_create create;
    struct mailstore_waiter waiter;
    bool done;
};

static void inbox_made(struct mailstore_waiter *waiter, int status)
{
    struct operating *operating = list_entry(waiter, struct operating, waiter);
    (void)status; /* without one there is still the rest */
    operating->done = true;
    imap_session_wake(operating->session);
}

static void greet(struct imap_session *session)
{
    imap_server_greet_known(&session->server);
    imap_session_output(session);
    session->state = IMAP_SESSION_READING;
}

static enum imap_step operating_step(struct imap_session *session, struct imap_task *task)
{
    if (!((struct operating *)task)->done) {
        return IMAP_STEP_WAIT;
    }
    imap_task_end(session);
    greet(session);
    imap_session_later(session);
    return IMAP_STEP_ANSWERED;
}

static void operating_end(struct imap_session *session, struct imap_task *task)
{
    struct operating *operating = (struct operating *)task;
    if (!operating->done) {
        mailstore_waiter_cancel(imap_session_store(session), &operating->waiter);
    }
}

/* False: it cannot be. */
static bool inbox_make(struct imap_session *session)
{
    struct operating *operating = (struct operating *)calloc(1, sizeof(*operating));
    if (operating == NULL) {
        return false;
    }
    operating->task = (struct imap_task){.step = operating_step, .end = operating_end};
    operating->session = session;
    operating->waiter.done = inbox_made;
    operating->create = (struct mailstore_create){.mailbox = slice_text("INBOX")};
    if (mailstore_box_create(imap_session_store(session), session->user, &operating->create,
                             &operating->waiter) < 0) {
        free(operating);
        return false;
    }
    session->task = &operating->task;
    session->state = IMAP_SESSION_WORKING;
    return true;
}

void imap_operator_begin(struct imap_session *session, bool make_inbox)
{
    bool has_inbox = mailstore_box_find(session->user, slice_text("INBOX")) != NULL;
    if (has_inbox || !make_inbox || !inbox_make(session)) {
        greet(session);
    }
}
