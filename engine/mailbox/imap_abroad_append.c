/*
 * APPEND to a mailbox that is on another shard.
 *
 * What the machine has parsed is said to an agent again, in the same order; of a message it is waited until the agent takes it,
 * so that the client hears of a refusal before it sends anything. Parts of CATENATE follow each other unasked, and what is wrong
 * with them is told in the end; their URLs are looked at there.
 */
#include "engine/mailbox/imap_abroad.h"
#include <stdlib.h>

#define HEAD_BYTES_MAX (128u * 1024)

void imap_abroad_append_end(struct imap_session *session)
{
    struct imap_abroad *abroad = session->abroad;
    if (abroad != NULL && abroad->appends != NULL) {
        imap_agent_end(abroad->appends);
        abroad->appends = NULL;
        abroad->part_left = 0;
    }
}

bool imap_abroad_appends(const struct imap_session *session)
{
    return session->abroad != NULL && session->abroad->appends != NULL;
}

/* The answer may lie with the agent. */
static void refuse(struct imap_session *session, const struct imap_answer *answer)
{
    imap_server_refuse(&session->server, answer);
    imap_session_output(session);
    imap_abroad_append_end(session);
}

static void refuse_status(struct imap_session *session, int status)
{
    const struct imap_answer answer = imap_append_answer_of(status);
    refuse(session, &answer);
}

static void refuse_lost(struct imap_session *session)
{
    const struct imap_answer answer = {IMAP_NO, slice_text("UNAVAILABLE"),
                                       slice_text(IMAP_ABROAD_UNREACHABLE)};
    refuse(session, &answer);
}

/* ---- The head of a message ---- */

static void flags_write(struct imap_writer *writer, const struct imap_flags *flags)
{
    static const struct {
        uint32_t flag;
        const char *word;
    } words[] = {{IMAP_FLAG_ANSWERED, "\\Answered"},
                 {IMAP_FLAG_FLAGGED, "\\Flagged"},
                 {IMAP_FLAG_DELETED, "\\Deleted"},
                 {IMAP_FLAG_SEEN, "\\Seen"},
                 {IMAP_FLAG_DRAFT, "\\Draft"}};
    const char *blank = "";
    imap_write(writer, " (");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (flags->system & words[i].flag) {
            imap_write(writer, blank);
            imap_write(writer, words[i].word);
            blank = " ";
        }
    }
    for (uint32_t i = 0; i < flags->keywords.count; i++) {
        imap_write(writer, blank);
        imap_write_bytes(writer, flags->keywords.items[i]);
        blank = " ";
    }
    imap_write(writer, ")");
}

static void message_write(struct imap_writer *writer, const struct imap_append *append)
{
    flags_write(writer, &append->flags);
    if (append->date_given) { /* what the store cannot keep it makes of it itself */
        int64_t date_s = append->date_s < 1 ? 1 : append->date_s;
        imap_write(writer, " ");
        imap_write_internal_date(writer, date_s < UINT32_MAX ? date_s : UINT32_MAX,
                                 append->zone_minutes);
    }
    if (append->catenate) {
        imap_write(writer, " CATENATE (");
        return;
    }
    imap_write(writer, append->utf8 ? " UTF8 (" : " ");
    if (append->binary || append->utf8) {
        imap_write_literal8_head(writer, append->bytes);
    } else {
        imap_write_literal_head(writer, append->bytes);
    }
}

/* False: memory is short. */
static bool head_say(struct imap_session *session, const struct imap_append *append, bool first)
{
    struct imap_agent *agent = session->abroad->appends;
    struct imap_writer writer;
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    if (first) {
        imap_write_bytes(&writer, slice_of(session->server.tag, session->server.tag_bytes));
        imap_write(&writer, " APPEND ");
        imap_name_write(session, &writer, append->mailbox);
        if (!writer.failed) { /* it may be a literal; that of the message is to be asked for */
            imap_agent_say_command(agent, imap_writer_bytes(&writer));
        }
    }
    bool good = !writer.failed;
    imap_writer_reset(&writer);
    message_write(&writer, append);
    good = good && !writer.failed;
    if (good) {
        imap_agent_say(agent, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* ---- Is it taken? ---- */

static enum imap_step refused(struct imap_session *session, const struct imap_answer *answer)
{
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    refuse(session, answer);
    return IMAP_STEP_ANSWERED;
}

static enum imap_step offering_step(struct imap_session *session, struct imap_task *task)
{
    const struct imap_answer gone = {IMAP_NO, slice_text("UNAVAILABLE"),
                                     slice_text(IMAP_ABROAD_UNREACHABLE)};
    enum imap_heard heard = IMAP_HEARD_PART;
    struct slice bytes = slice_of(NULL, 0);
    (void)task;
    while (heard == IMAP_HEARD_PART) { /* nothing of it is for the client */
        heard = imap_agent_hear(session->abroad->appends, &bytes);
    }
    if (heard == IMAP_HEARD_NOTHING) {
        return IMAP_STEP_WAIT;
    }
    if (heard == IMAP_HEARD_ANSWER) {
        const struct imap_answer answer = imap_agent_answer(bytes);
        return refused(session, &answer);
    }
    if (heard != IMAP_HEARD_CONTINUE) {
        return refused(session, &gone);
    }
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    imap_server_take(&session->server);
    imap_session_output(session);
    return IMAP_STEP_ANSWERED;
}

static void offer(struct imap_session *session)
{
    struct imap_task *task = (struct imap_task *)calloc(1, sizeof(*task));
    if (task == NULL) {
        refuse_status(session, -ENOMEM);
        return;
    }
    task->step = offering_step;
    session->task = task;
    session->state = IMAP_SESSION_WORKING;
    imap_session_begin(session);
}

bool imap_abroad_append(struct imap_session *session, const struct imap_append *append)
{
    int shard = imap_abroad_shard(session, append->mailbox);
    if (append->replace && (shard >= 0 || imap_abroad_is_selected(session))) {
        const struct imap_answer answer = {
            IMAP_NO, slice_text("CANNOT"),
            slice_text("Nothing can be replaced in a mailbox of another shard")};
        refuse(session, &answer);
        return true;
    }
    bool first = !imap_abroad_appends(session);
    if (first && shard < 0) {
        return false;
    }
    struct imap_abroad *abroad = imap_abroad_of(session);
    if (first && abroad != NULL) {
        abroad->appends = imap_agent_new(session, (unsigned)shard);
    }
    if (abroad == NULL || abroad->appends == NULL || !head_say(session, append, first)) {
        refuse_status(session, -ENOMEM);
        return true;
    }
    abroad->first_part = true;
    if (append->catenate) {
        imap_server_take(&session->server);
        imap_session_output(session);
    } else {
        abroad->part_left = append->bytes;
        offer(session);
    }
    return true;
}

/* ---- Its bytes ---- */

static void part_begin(struct imap_session *session)
{
    const struct imap_append *append = session->server.append;
    struct imap_abroad *abroad = session->abroad;
    char head[48];
    snprintf(head, sizeof(head), "%sTEXT %s{%llu+}\r\n", abroad->first_part ? "" : " ",
             append->binary ? "~" : "", (unsigned long long)append->bytes);
    imap_agent_say_text(abroad->appends, head);
    abroad->part_left = append->bytes;
    abroad->first_part = false;
}

bool imap_abroad_append_bytes(struct imap_session *session, struct slice bytes)
{
    struct imap_abroad *abroad = session->abroad;
    if (imap_agent_is_over(abroad->appends)) {
        refuse_lost(session);
        return true;
    }
    if (imap_agent_is_full(abroad->appends)) {
        abroad->held = bytes;
        return false;
    }
    if (abroad->part_left == 0) { /* of CATENATE: each is told when it comes */
        part_begin(session);
    }
    abroad->part_left -= bytes.size < abroad->part_left ? bytes.size : abroad->part_left;
    imap_agent_say(abroad->appends, bytes);
    return true;
}

void imap_abroad_append_held(struct imap_session *session, size_t used)
{
    session->abroad->held_used = used;
}

size_t imap_abroad_append_resume(struct imap_session *session)
{
    size_t used = session->abroad->held_used;
    return imap_abroad_append_bytes(session, session->abroad->held) ? used : 0;
}

void imap_abroad_append_url(struct imap_session *session, struct slice url)
{
    struct imap_abroad *abroad = session->abroad;
    struct imap_writer writer;
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, abroad->first_part ? "URL " : " URL ");
    imap_write_string(&writer, url);
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(abroad->appends, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    abroad->first_part = false;
    if (!good) {
        refuse_status(session, -ENOMEM);
        return;
    }
    imap_server_take(&session->server);
    imap_session_output(session);
}

void imap_abroad_append_message_end(struct imap_session *session)
{
    const struct imap_append *append = session->server.append;
    if (append->catenate || append->utf8) {
        imap_agent_say_text(session->abroad->appends, ")");
    }
}

bool imap_abroad_append_commit(struct imap_session *session)
{
    if (!imap_abroad_appends(session)) {
        return false;
    }
    struct imap_agent *agent = session->abroad->appends;
    session->abroad->appends = NULL;
    imap_agent_say_text(agent, "\r\n");
    imap_abroad_finish(session, agent);
    return true;
}
