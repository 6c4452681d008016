/* What a command begins; those that need one answer alone are done here. */
#include "engine/mailbox/imap_session.h"

const uint64_t imap_session_capabilities =
    IMAP_CAP_LITERAL_PLUS | IMAP_CAP_IDLE | IMAP_CAP_NAMESPACE | IMAP_CAP_CHILDREN |
    IMAP_CAP_UNSELECT | IMAP_CAP_UIDPLUS | IMAP_CAP_MOVE | IMAP_CAP_LIST_EXTENDED |
    IMAP_CAP_LIST_STATUS | IMAP_CAP_SPECIAL_USE | IMAP_CAP_STATUS_SIZE | IMAP_CAP_SAVEDATE |
    IMAP_CAP_CONDSTORE | IMAP_CAP_QRESYNC | IMAP_CAP_MULTIAPPEND | IMAP_CAP_UTF8 |
    IMAP_CAP_OBJECTID | IMAP_CAP_QUOTA | IMAP_CAP_ESEARCH | IMAP_CAP_SEARCHRES | IMAP_CAP_WITHIN |
    IMAP_CAP_SORT | IMAP_CAP_SORT_DISPLAY | IMAP_CAP_THREAD | IMAP_CAP_BINARY | IMAP_CAP_PREVIEW |
    IMAP_CAP_PARTIAL | IMAP_CAP_REPLACE | IMAP_CAP_CATENATE | IMAP_CAP_COMPRESS |
    IMAP_CAP_UNAUTHENTICATE | IMAP_CAP_INPROGRESS | IMAP_CAP_REV2 | IMAP_CAP_METADATA |
    IMAP_CAP_ACL | IMAP_CAP_NOTIFY | IMAP_CAP_CONTEXT_SEARCH;

/* RFC 2971. What the client says of itself is not kept. */
static void id_say(struct imap_session *session)
{
    imap_session_write(session, "* ID (\"name\" \"Tubepost\")\r\n");
    imap_session_ok(session);
}

/* RFC 2177: the client waits already. */
static void idle_begin(struct imap_session *session)
{
    session->idling = true;
    if (session->view.is_open) {
        imap_sync(session, true);
    }
}

/* RFC 7162 §3.1.2: from here on the client counts with mod-sequences. */
static void condstore_tell(struct imap_session *session, const struct imap_command *command)
{
    bool selects = command->kind == IMAP_SELECT || command->kind == IMAP_EXAMINE;
    if (session->view.is_open && !selects) {
        struct imap_writer writer;
        imap_writer_open(&writer, 256);
        imap_write(&writer, "* OK [HIGHESTMODSEQ ");
        imap_write_number(&writer, session->view.box->modseq);
        imap_write(&writer, "] Mod-sequences are told\r\n");
        imap_session_send(session, &writer);
        imap_writer_close(&writer);
    }
}

static void run_of_mailboxes(struct imap_session *session, const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_CREATE:
        imap_create(session, &command->mailbox);
        return;
    case IMAP_DELETE:
        imap_delete(session, &command->mailbox);
        return;
    case IMAP_RENAME:
        imap_rename(session, &command->rename);
        return;
    case IMAP_SUBSCRIBE:
    case IMAP_UNSUBSCRIBE:
        imap_subscribe(session, command->mailbox.name, command->kind == IMAP_SUBSCRIBE);
        return;
    case IMAP_LIST:
    case IMAP_LSUB:
        imap_list(session, &command->list, command->kind == IMAP_LSUB);
        return;
    case IMAP_NAMESPACE:
        imap_namespace(session);
        return;
    case IMAP_STATUS:
        imap_status(session, &command->status);
        return;
    case IMAP_APPEND:
    case IMAP_REPLACE:
        imap_append_commit(session, command);
        return;
    case IMAP_NOTIFY:
        imap_notify(session, &command->notify);
        return;
    case IMAP_GETQUOTA:
        imap_quota_get(session, command->quota.root);
        return;
    case IMAP_GETQUOTAROOT:
        imap_quota_root(session, command->mailbox.name);
        return;
    case IMAP_SETQUOTA:
        imap_session_no(session, "NOPERM", "Quotas are set by the administrator");
        return;
    case IMAP_GETACL:
        imap_acl_get(session, command->mailbox.name);
        return;
    case IMAP_MYRIGHTS:
        imap_acl_mine(session, command->mailbox.name);
        return;
    case IMAP_LISTRIGHTS:
        imap_acl_list_rights(session, &command->acl);
        return;
    case IMAP_SETACL:
        imap_acl_set(session, &command->acl);
        return;
    case IMAP_DELETEACL:
        imap_acl_delete(session, &command->acl);
        return;
    case IMAP_GETMETADATA:
        imap_metadata_get(session, &command->metadata);
        return;
    case IMAP_SETMETADATA:
        imap_metadata_set(session, &command->metadata);
        return;
    default: /* of which nothing is announced */
        imap_session_bad(session, "Unknown command");
        return;
    }
}

static void run_of_selected(struct imap_session *session, const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_CLOSE:
        imap_close(session);
        return;
    case IMAP_UNSELECT:
        imap_unselect(session);
        return;
    case IMAP_EXPUNGE:
        imap_expunge(session, command);
        return;
    case IMAP_FETCH:
        imap_fetch(session, command);
        return;
    case IMAP_STORE:
        imap_store(session, command);
        return;
    case IMAP_COPY:
    case IMAP_MOVE:
        imap_copy(session, command, command->kind == IMAP_MOVE);
        return;
    case IMAP_CANCELUPDATE:
        imap_context_cancel(session, &command->tags);
        return;
    case IMAP_SEARCH:
    case IMAP_SORT:
    case IMAP_THREAD:
        imap_search(session, command);
        return;
    default:
        run_of_mailboxes(session, command);
        return;
    }
}

static void command_run(struct imap_session *session, const struct imap_event *event)
{
    const struct imap_command *command = event->command;
    session->may_expunge = event->may_expunge;
    session->expunges = command->kind == IMAP_EXPUNGE || command->kind == IMAP_MOVE ||
                        command->kind == IMAP_REPLACE;
    if (event->condstore_begins) {
        condstore_tell(session, command);
    }
    switch (command->kind) {
    case IMAP_NOOP:
    case IMAP_CHECK:
        imap_session_ok(session);
        return;
    case IMAP_ID:
        id_say(session);
        return;
    case IMAP_LOGIN:
    case IMAP_AUTHENTICATE:
        imap_login_begin(session, event);
        return;
    case IMAP_IDLE:
        idle_begin(session);
        return;
    case IMAP_COMPRESS:
        imap_compress(session);
        return;
    case IMAP_UNAUTHENTICATE: /* RFC 8437 */
        imap_deselect(session);
        imap_notify_end(session);
        session->notify_silent = false;
        mailstore_user_close(imap_session_store(session), session->user);
        session->user = NULL;
        session_exit(&session->session);
        imap_session_ok(session);
        return;
    case IMAP_SELECT:
    case IMAP_EXAMINE:
        imap_select(session, &command->select, command->kind == IMAP_EXAMINE);
        return;
    default: /* after login */
        run_of_selected(session, command);
        return;
    }
}

/* ---- What others have changed ---- */

struct looking { /* at the user's Maildir, before the command */
    struct imap_task task;
    struct imap_session *session;
    struct imap_event event; /* its command stays until it is answered */
    struct mailstore_waiter waiter;
    bool done;
};

static void looked(struct mailstore_waiter *waiter, int status)
{
    struct looking *looking = list_entry(waiter, struct looking, waiter);
    (void)status; /* what was known before is there in any case */
    looking->done = true;
    imap_session_wake(looking->session);
}

static enum imap_step looking_step(struct imap_session *session, struct imap_task *task)
{
    const struct looking *looking = (const struct looking *)task;
    if (!looking->done) {
        return IMAP_STEP_WAIT;
    }
    struct imap_event event = looking->event;
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    command_run(session, &event);
    return IMAP_STEP_ANSWERED;
}

static void looking_end(struct imap_session *session, struct imap_task *task)
{
    struct looking *looking = (struct looking *)task;
    if (!looking->done) {
        mailstore_waiter_cancel(imap_session_store(session), &looking->waiter);
    }
}

/* Would the answer be wrong that does not know it? */
static bool must_look(const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_NOOP:
    case IMAP_CHECK:
    case IMAP_SELECT:
    case IMAP_EXAMINE:
    case IMAP_STATUS:
    case IMAP_LIST:
    case IMAP_LSUB:
    case IMAP_CREATE:
    case IMAP_DELETE:
    case IMAP_RENAME:
    case IMAP_GETQUOTA:
    case IMAP_GETQUOTAROOT:
        return true;
    default:
        return false;
    }
}

/* False: there is nothing to look at. */
static bool look_begin(struct imap_session *session, const struct imap_event *event)
{
    struct mailstore *store = imap_session_store(session);
    if (session->user == NULL || session->guest || !must_look(event->command) ||
        !mailstore_has_maildirs(store)) {
        return false;
    }
    struct looking *looking =
        (struct looking *)imap_session_task(session, sizeof(*looking), looking_step);
    if (looking == NULL) {
        return true; /* NO was said */
    }
    looking->task.end = looking_end;
    looking->session = session;
    looking->event = *event;
    looking->waiter.done = looked;
    looking->done = mailstore_refresh(store, session->user, &looking->waiter) != 0;
    imap_session_begin(session);
    return true;
}

void imap_command_run(struct imap_session *session, const struct imap_event *event)
{
    if (!imap_abroad_run(session, event) && !look_begin(session, event)) {
        command_run(session, event);
    }
}
