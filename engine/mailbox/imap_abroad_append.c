/*
 * APPEND to a mailbox that is on another shard, and REPLACE in one.
 *
 * What the machine has parsed is said to an agent again, in the same order; of a message it is waited until the agent takes it,
 * so that the client hears of a refusal before it sends anything. Parts of CATENATE follow each other unasked, and what is wrong
 * with them is told in the end; their URLs are looked at there.
 *
 * APPEND has an agent of its own, which is ended when the command is broken off. REPLACE is for who has the mailbox selected: broken
 * off behind its head, it takes the mailbox with it.
 */
#include "engine/mailbox/imap_abroad.h"
#include <stdlib.h>

#define HEAD_BYTES_MAX (128u * 1024)

void imap_abroad_append_end(struct imap_session *session)
{
    struct imap_abroad *abroad = session->abroad;
    struct imap_agent *agent = abroad != NULL ? abroad->appends : NULL;
    if (agent == NULL) {
        return;
    }
    abroad->appends = NULL;
    abroad->part_left = 0;
    if (agent != abroad->selected) {
        imap_agent_end(agent);
    } else if (!abroad->answered) {
        imap_agent_break(agent);
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

bool imap_abroad_replaces(const struct imap_session *session)
{
    return imap_abroad_appends(session) && session->abroad->appends == session->abroad->selected;
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

/* "a UID REPLACE 7 " */
static void command_write(const struct imap_session *session, struct imap_writer *writer,
                          const struct imap_append *append)
{
    imap_write_bytes(writer, slice_of(session->server.tag, session->server.tag_bytes));
    if (!append->replace) {
        imap_write(writer, " APPEND ");
        return;
    }
    imap_write(writer, append->uid ? " UID REPLACE " : " REPLACE ");
    if (append->star) {
        imap_write(writer, "*");
    } else {
        imap_write_number(writer, append->number);
    }
    imap_write(writer, " ");
}

/* False: memory is short. */
static bool head_say(struct imap_session *session, const struct imap_append *append, bool first)
{
    struct imap_agent *agent = session->abroad->appends;
    struct imap_writer writer;
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    if (first) {
        command_write(session, &writer, append);
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

static enum imap_step refused(struct imap_session *session, const struct imap_answer *answer,
                              bool answered)
{
    session->abroad->answered = answered;
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
    while (heard ==
           IMAP_HEARD_PART) { /* it tells what has happened in what is selected, or of nothing */
        heard = imap_agent_hear(session->abroad->appends, &bytes);
        if (heard == IMAP_HEARD_PART && session->abroad->appends == session->abroad->selected) {
            outbox_write(&session->outbox, bytes);
        }
    }
    if (heard == IMAP_HEARD_NOTHING) {
        return IMAP_STEP_WAIT;
    }
    if (heard == IMAP_HEARD_ANSWER) {
        const struct imap_answer answer = imap_agent_answer(bytes);
        return refused(session, &answer, true);
    }
    if (heard != IMAP_HEARD_CONTINUE) {
        return refused(session, &gone, false);
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

/* NULL: memory is short, or *why not. */
static struct imap_agent *agent_for(struct imap_session *session, const struct imap_append *append,
                                    int shard, const char **why)
{
    struct imap_abroad *abroad = imap_abroad_of(session);
    *why = NULL;
    if (abroad == NULL || !append->replace) {
        return abroad == NULL ? NULL : imap_agent_new(session, (unsigned)shard);
    }
    if (abroad->selected != NULL && imap_agent_shard(abroad->selected) == (unsigned)shard) {
        return abroad->selected;
    }
    *why = "What replaces a message belongs to the same user";
    return NULL;
}

/* The first message of the command. False: it is refused. */
static bool command_begin(struct imap_session *session, const struct imap_append *append, int shard)
{
    const char *why;
    struct imap_agent *agent = agent_for(session, append, shard, &why);
    if (agent == NULL && why != NULL) {
        const struct imap_answer answer = {IMAP_NO, slice_text("CANNOT"), slice_text(why)};
        refuse(session, &answer);
    } else if (agent == NULL) {
        refuse_status(session, -ENOMEM);
    } else {
        session->abroad->appends = agent;
        session->abroad->answered = false;
        session->abroad->copied_bytes = 0;
    }
    return agent != NULL;
}

bool imap_abroad_append(struct imap_session *session, const struct imap_append *append)
{
    int shard = imap_abroad_shard(session, append->mailbox);
    bool first = !imap_abroad_appends(session);
    if (first && shard < 0 && !(append->replace && imap_abroad_is_selected(session))) {
        return false;
    }
    if (first && !command_begin(session, append, shard)) {
        return true;
    }
    struct imap_abroad *abroad = session->abroad;
    if (!head_say(session, append, first)) {
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

void imap_abroad_append_part(struct imap_session *session, uint64_t bytes)
{
    const struct imap_append *append = session->server.append;
    struct imap_abroad *abroad = session->abroad;
    char head[48];
    snprintf(head, sizeof(head), "%sTEXT %s{%llu+}\r\n", abroad->first_part ? "" : " ",
             append->binary ? "~" : "", (unsigned long long)bytes);
    imap_agent_say_text(abroad->appends, head);
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
        imap_abroad_append_part(session, session->server.append->bytes);
        abroad->part_left = session->server.append->bytes;
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
