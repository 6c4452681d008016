/* How a command is answered, and how one goes on that cannot be at once. */
#include "engine/mailbox/imap_session.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

#define TELL_NS (1ull * 1000000000ull) /* a command that takes longer is told of, so often */

/* ---- Answers ---- */

void imap_task_end(struct imap_session *session)
{
    struct imap_task *task = session->task;
    session->task = NULL;
    if (task != NULL) {
        if (task->end != NULL) {
            task->end(session, task);
        }
        free(task);
    }
}

enum imap_step imap_session_answer(struct imap_session *session, const struct imap_answer *answer)
{
    if (session->notify != NULL && answer->result == IMAP_OK && session->server.command != NULL) {
        if (imap_notify_waits(session, answer)) {
            return IMAP_STEP_ANSWERED;
        }
        imap_notify_did(session, session->server.command);
    }
    if (session->view.is_open && !imap_access_lost(session)) {
        imap_sync(session, session->may_expunge);
    }
    imap_server_done(&session->server, answer);
    imap_session_output(session);
    imap_task_end(session); /* the answer may have lain in it */
    if (session->state == IMAP_SESSION_WORKING || session->state == IMAP_SESSION_LOGGING_IN) {
        session->state = IMAP_SESSION_READING;
    }
    return IMAP_STEP_ANSWERED;
}

static enum imap_step answer_text(struct imap_session *session, enum imap_result result,
                                  const char *code, const char *text)
{
    const struct imap_answer answer = {result, code == NULL ? slice_of(NULL, 0) : slice_text(code),
                                       text == NULL ? slice_of(NULL, 0) : slice_text(text)};
    return imap_session_answer(session, &answer);
}

enum imap_step imap_session_ok(struct imap_session *session)
{
    return answer_text(session, IMAP_OK, NULL, NULL);
}

enum imap_step imap_session_ok_with(struct imap_session *session, struct imap_writer *writer)
{
    bool good = imap_session_send(session, writer);
    imap_writer_close(writer);
    return good ? imap_session_ok(session) : imap_session_refuse(session, -ENOMEM);
}

enum imap_step imap_session_no(struct imap_session *session, const char *code, const char *text)
{
    return answer_text(session, IMAP_NO, code, text);
}

enum imap_step imap_session_bad(struct imap_session *session, const char *text)
{
    return answer_text(session, IMAP_BAD, NULL, text);
}

struct imap_answer imap_session_answer_of(int status)
{
    static const struct {
        int status;
        const char *code, *text;
    } known[] = {
        {-ENOENT, "NONEXISTENT", "No such mailbox"},
        {-EEXIST, "ALREADYEXISTS", "There is such a mailbox already"},
        {-EINVAL, "CANNOT", "Not a name that a mailbox can have"},
        {-EACCES, "NOPERM", "You have no right to do that"},
        {-EDQUOT, "OVERQUOTA", "Mailbox is full"},
        {-EFBIG, "TOOBIG", "Message is too large"},
        {-EOPNOTSUPP, "CANNOT", "Not of a mailbox that lies in a Maildir"},
        {-ETIMEDOUT, "INUSE", "The mailbox is locked by another program, try again later"},
        {-EOVERFLOW, "LIMIT", "The mailbox has used up its uids"},
        {-E2BIG, "LIMIT", "Too much at once"},
        {-ENOMEM, "UNAVAILABLE", "Out of memory, try again later"},
        {-EAGAIN, "UNAVAILABLE", "Too much at once, try again later"},
        {-ENOSPC, "UNAVAILABLE", "Insufficient system storage"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].status == status) {
            return (struct imap_answer){IMAP_NO, slice_text(known[i].code),
                                        slice_text(known[i].text)};
        }
    }
    return (struct imap_answer){IMAP_NO, slice_text("SERVERBUG"),
                                slice_text("The store has failed, try again later")};
}

enum imap_step imap_session_refuse(struct imap_session *session, int status)
{
    const struct imap_answer answer = imap_session_answer_of(status);
    return imap_session_answer(session, &answer);
}

/* ---- Tasks ---- */

void *imap_session_task(struct imap_session *session, size_t bytes,
                        enum imap_step (*step)(struct imap_session *, struct imap_task *))
{
    struct imap_task *task = (struct imap_task *)calloc(1, bytes);
    if (task == NULL) {
        imap_session_refuse(session, -ENOMEM);
        return NULL;
    }
    check(session->task == NULL);
    task->step = step;
    session->task = task;
    session->state = IMAP_SESSION_WORKING;
    return task;
}

/* "* OK [INPROGRESS ("a1" 454 1000)]", once in a while. The quotes cannot hold what ends the code. */
static void progress_tell(struct imap_session *session)
{
    struct imap_task *task = session->task;
    uint64_t now_ns = imap_session_now_ns(session);
    if (task->progress == NULL || task->tell_ns > now_ns) {
        return;
    }
    const struct imap_progress progress = task->progress(session, task);
    const struct imap_server *server = &session->server;
    bool nil = memchr(server->tag, ']', server->tag_bytes) != NULL;
    char line[IMAP_TAG_BYTES_MAX + 100];
    task->tell_ns = now_ns + TELL_NS;
    int size = snprintf(line, sizeof(line), "* OK [INPROGRESS (%s%.*s%s ", nil ? "NIL" : "\"",
                        nil ? 0 : (int)server->tag_bytes, server->tag, nil ? "" : "\"");
    if (progress.known) {
        size += snprintf(line + size, sizeof(line) - (size_t)size, "%u %u", progress.done,
                         progress.goal);
    } else {
        size += snprintf(line + size, sizeof(line) - (size_t)size, "NIL NIL");
    }
    snprintf(line + size, sizeof(line) - (size_t)size, ")] Still at it\r\n");
    imap_session_write(session, line);
}

void imap_session_begin(struct imap_session *session)
{
    if (session->task == NULL || outbox_is_full(&session->outbox)) {
        return; /* STREAM_WRITABLE goes on */
    }
    if (session->task->tell_ns == 0) {
        session->task->tell_ns = imap_session_now_ns(session) + TELL_NS;
    }
    switch (session->task->step(session, session->task)) {
    case IMAP_STEP_ANSWERED:
        return;
    case IMAP_STEP_WAIT:
        progress_tell(session);
        return;
    case IMAP_STEP_MORE:
        progress_tell(session);
        imap_session_later(session);
        return;
    case IMAP_STEP_RETRY:
        progress_tell(session);
        imap_session_retry(session);
        return;
    case IMAP_STEP_BROKEN:
        session->outbox.failed = true; /* nothing more is said */
        return;
    }
}
