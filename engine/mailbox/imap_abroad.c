/*
 * Commands that are done on another shard, where the mailbox is that they name, or that is selected.
 *
 * The client speaks with his session alone. It hands such a command to an agent (imap_agent.c) as it came, with its tag, hands the
 * responses on, and gives the answer as its own. An agent that has selected a mailbox stays as long as it is selected, and is
 * the session's view of it; any other is there for one command.
 */
#include "engine/mailbox/imap_abroad.h"
#include <stdlib.h>

bool imap_abroad_is_selected(const struct imap_session *session)
{
    return session->abroad != NULL && session->abroad->selected != NULL;
}

bool imap_abroad_has_selected(struct imap_session *session, unsigned shard, uint64_t box,
                              struct slice name)
{
    struct imap_abroad *abroad = session->abroad;
    if (!imap_abroad_is_selected(session) || imap_agent_shard(abroad->selected) != shard) {
        return false;
    }
    if (abroad->selected_box == 0 && slice_equal(abroad->selected_name, name)) {
        abroad->selected_box = box; /* it may be renamed, and stays selected */
    }
    return abroad->selected_box == box;
}

/* In IDLE nothing can be said to it. */
static void silence_if_due(struct imap_session *session)
{
    struct imap_abroad *abroad = session->abroad;
    if (abroad->must_silence && !session->idling) {
        abroad->must_silence = false;
        imap_notify_teach(session, abroad->selected);
    }
}

void imap_abroad_silence(struct imap_session *session)
{
    if (imap_abroad_is_selected(session)) {
        session->abroad->must_silence = true;
        silence_if_due(session);
    }
}

bool imap_abroad_is_midway(const struct imap_session *session)
{
    return imap_abroad_is_selected(session) && !imap_agent_is_between(session->abroad->selected);
}

void imap_abroad_deselect(struct imap_session *session)
{
    if (session->abroad != NULL) {
        imap_agent_end(session->abroad->selected);
        session->abroad->selected = NULL;
        free((void *)(uintptr_t)session->abroad->selected_name.bytes);
        session->abroad->selected_name = slice_of(NULL, 0);
        session->abroad->selected_box = 0;
        session->abroad->must_silence = false;
    }
}

void imap_abroad_end(struct imap_session *session)
{
    if (session->abroad != NULL) {
        imap_abroad_append_end(session);
        imap_abroad_deselect(session);
        free(session->abroad);
        session->abroad = NULL;
    }
}

struct imap_abroad *imap_abroad_of(struct imap_session *session)
{
    if (session->abroad == NULL) {
        session->abroad = (struct imap_abroad *)calloc(1, sizeof(*session->abroad));
    }
    return session->abroad;
}

/* ---- Responses ---- */

/* The agent of the selected mailbox has gone. In the middle of a response there are no words for it. */
static void selected_lost(struct imap_session *session, struct imap_agent *agent,
                          const struct imap_answer *bye)
{
    if (!imap_agent_is_between(agent)) {
        session->outbox.failed = true;
        return;
    }
    imap_append_reset(session);
    imap_server_bye(&session->server, bye != NULL ? bye->code : slice_text("UNAVAILABLE"),
                    bye != NULL ? bye->text : slice_text(IMAP_ABROAD_UNREACHABLE));
    imap_session_output(session);
    imap_deselect(session);
    session->idling = false;
    session->state = IMAP_SESSION_CLOSING;
}

/* Of "* OK [COPYUID 7 1:3 3:5] Moved", which comes in parts: its end, when that is there. */
static void moved_note(struct imap_session *session, const struct imap_agent *agent)
{
    static const char end[] = "] Moved\r\n";
    struct slice tail = imap_agent_line_tail(agent);
    size_t size = sizeof(end) - 1;
    if (session->server.kind == IMAP_MOVE && tail.size > size &&
        slice_equal(slice_from(tail, tail.size - size), slice_text(end))) {
        imap_notify_moved(session, slice_first(tail, tail.size - size));
    }
}

enum imap_heard imap_abroad_relay(struct imap_session *session, struct imap_agent *agent,
                                  struct imap_answer *answer)
{
    enum imap_heard heard = IMAP_HEARD_CONTINUE;
    struct slice bytes;
    while ((heard == IMAP_HEARD_PART || heard == IMAP_HEARD_CONTINUE) &&
           !outbox_is_full(&session->outbox)) {
        heard = imap_agent_hear(agent, &bytes);
        if (heard == IMAP_HEARD_PART) {
            moved_note(session, agent);
            outbox_write(&session->outbox, bytes);
        } else if (heard == IMAP_HEARD_ANSWER || heard == IMAP_HEARD_BYE) {
            *answer = imap_agent_answer(bytes);
        }
    }
    return heard;
}

enum imap_step imap_abroad_lost(struct imap_session *session, struct imap_agent *agent,
                                const struct imap_answer *bye)
{
    if (session->abroad != NULL && agent == session->abroad->selected) {
        imap_task_end(session);
        selected_lost(session, agent, bye);
        return IMAP_STEP_ANSWERED;
    }
    if (!imap_agent_is_between(agent)) {
        return IMAP_STEP_BROKEN;
    }
    return imap_session_no(session, "UNAVAILABLE", IMAP_ABROAD_UNREACHABLE);
}

void imap_abroad_tell(struct imap_session *session)
{
    struct imap_agent *agent = session->abroad->selected;
    struct imap_answer bye;
    if (agent == NULL || outbox_is_full(&session->outbox)) {
        return;
    }
    switch (imap_abroad_relay(session, agent, &bye)) {
    case IMAP_HEARD_BYE:
        selected_lost(session, agent, &bye);
        return;
    case IMAP_HEARD_END:
        selected_lost(session, agent, NULL);
        return;
    case IMAP_HEARD_ANSWER: /* nothing was asked */
    case IMAP_HEARD_NOTHING:
    case IMAP_HEARD_PART:
    case IMAP_HEARD_CONTINUE:
        return;
    }
}

/* ---- A command ---- */

struct relaying {
    struct imap_task task;
    struct imap_agent *agent;
    uint8_t kind; /* enum imap_command_kind */
    bool owned;   /* it is there for this command */
};

/* For URLs that are relative to it. Without memory there is nothing they are relative to. */
static void selected_name_keep(struct imap_session *session)
{
    struct slice name = session->server.command->select.mailbox;
    uint8_t *copy = (uint8_t *)malloc(name.size);
    if (copy != NULL) {
        memcpy(copy, name.bytes, name.size);
        session->abroad->selected_name = slice_of(copy, name.size);
    }
}

/* What the answer means for what is selected. */
static enum imap_step answered(struct imap_session *session, struct relaying *relaying,
                               const struct imap_answer *answer)
{
    struct imap_agent *agent = relaying->agent;
    uint8_t kind = relaying->kind;
    bool selects = (kind == IMAP_SELECT || kind == IMAP_EXAMINE) && answer->result == IMAP_OK;
    bool deselects = (kind == IMAP_CLOSE || kind == IMAP_UNSELECT) && answer->result == IMAP_OK;
    if (relaying->owned && !selects && imap_abroad_is_selected(session)) {
        return imap_abroad_settle(session, answer);
    }
    if (selects) {
        relaying->owned = false;
        session->abroad->selected = agent;
        selected_name_keep(session);
    }
    enum imap_step step = imap_session_answer(session, answer);
    if (deselects) {
        imap_deselect(session);
    }
    return step;
}

static enum imap_step relaying_step(struct imap_session *session, struct imap_task *task)
{
    struct relaying *relaying = (struct relaying *)task;
    struct imap_answer answer;
    switch (imap_abroad_relay(session, relaying->agent, &answer)) {
    case IMAP_HEARD_ANSWER:
        return answered(session, relaying, &answer);
    case IMAP_HEARD_BYE:
        return imap_abroad_lost(session, relaying->agent, &answer);
    case IMAP_HEARD_END:
        return imap_abroad_lost(session, relaying->agent, NULL);
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
    case IMAP_HEARD_CONTINUE: /* the output is full */
        return IMAP_STEP_MORE;
    }
    return IMAP_STEP_BROKEN;
}

static void relaying_end(struct imap_session *session, struct imap_task *task)
{
    struct relaying *relaying = (struct relaying *)task;
    (void)session;
    if (relaying->owned) {
        imap_agent_end(relaying->agent);
    }
}

/* Nothing is said yet. NULL: answered. The agent is given where it is owned. */
static struct relaying *relaying_new(struct imap_session *session, struct imap_agent *agent,
                                     uint8_t kind, bool owned)
{
    struct relaying *relaying =
        (struct relaying *)imap_session_task(session, sizeof(*relaying), relaying_step);
    if (relaying == NULL) {
        if (owned) {
            imap_agent_end(agent);
        }
        return NULL;
    }
    relaying->task.end = relaying_end;
    relaying->agent = agent;
    relaying->kind = kind;
    relaying->owned = owned;
    return relaying;
}

void imap_abroad_finish(struct imap_session *session, struct imap_agent *agent)
{
    if (relaying_new(session, agent, IMAP_APPEND, agent != session->abroad->selected) != NULL) {
        imap_session_begin(session);
    }
}

static void hand_over(struct imap_session *session, struct imap_agent *agent, bool owned)
{
    const struct imap_server *server = &session->server;
    if (relaying_new(session, agent, server->kind, owned) != NULL) {
        imap_agent_say_command(agent, slice_of(server->text, server->text_bytes));
        imap_session_begin(session);
    }
}

/* To who has selected a mailbox there, so that he tells what it does to it; else to one for this command. */
static void send_there(struct imap_session *session, int shard)
{
    struct imap_agent *selected = session->abroad != NULL ? session->abroad->selected : NULL;
    if (selected != NULL && imap_agent_shard(selected) == (unsigned)shard) {
        hand_over(session, selected, false);
        return;
    }
    struct imap_agent *agent = imap_agent_new(session, (unsigned)shard);
    if (agent == NULL) {
        imap_session_refuse(session, -ENOMEM);
        return;
    }
    if (session->server.kind == IMAP_SELECT || session->server.kind == IMAP_EXAMINE) {
        imap_notify_teach(session, agent);
    }
    hand_over(session, agent, true);
}

static void select_there(struct imap_session *session, int shard)
{
    imap_deselect(session);
    if (imap_abroad_of(session) == NULL) {
        imap_session_refuse(session, -ENOMEM);
        return;
    }
    send_there(session, shard);
}

/* ---- What has happened meanwhile in the mailbox that is selected ---- */

struct settling {
    struct imap_task task;
    struct imap_agent *agent;
    struct imap_answer answer; /* as it lies in `texts` */
    struct arena texts;
};

static enum imap_step settling_step(struct imap_session *session, struct imap_task *task)
{
    struct settling *settling = (struct settling *)task;
    struct imap_agent *agent = settling->agent;
    struct imap_answer answer;
    switch (imap_abroad_relay(session, agent, &answer)) {
    case IMAP_HEARD_ANSWER:
        return imap_session_answer(session, &settling->answer);
    case IMAP_HEARD_BYE: /* behind the answer: the command is done */
        imap_session_answer(session, &settling->answer);
        selected_lost(session, agent, &answer);
        return IMAP_STEP_ANSWERED;
    case IMAP_HEARD_END:
        if (!imap_agent_is_between(agent)) {
            return IMAP_STEP_BROKEN;
        }
        imap_session_answer(session, &settling->answer);
        selected_lost(session, agent, NULL);
        return IMAP_STEP_ANSWERED;
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
    case IMAP_HEARD_CONTINUE:
        return IMAP_STEP_MORE;
    }
    return IMAP_STEP_BROKEN;
}

static void settling_end(struct imap_session *session, struct imap_task *task)
{
    (void)session;
    arena_close(&((struct settling *)task)->texts);
}

bool imap_abroad_keep_answer(struct arena *texts, const struct imap_answer *answer,
                             struct imap_answer *kept)
{
    *kept = (struct imap_answer){.result = answer->result};
    return (answer->code.size == 0 || arena_copy(texts, answer->code, &kept->code)) &&
           (answer->text.size == 0 || arena_copy(texts, answer->text, &kept->text));
}

enum imap_step imap_abroad_settle(struct imap_session *session, const struct imap_answer *answer)
{
    struct settling *settling =
        imap_abroad_is_selected(session) ? (struct settling *)calloc(1, sizeof(*settling)) : NULL;
    if (settling == NULL) {
        return imap_session_answer(session, answer);
    }
    settling->task = (struct imap_task){.step = settling_step, .end = settling_end};
    settling->agent = session->abroad->selected;
    arena_open(&settling->texts, 2 * IMAP_CODE_BYTES_MAX);
    if (!imap_abroad_keep_answer(&settling->texts, answer, &settling->answer)) {
        arena_close(&settling->texts);
        free(settling);
        return imap_session_answer(session, answer);
    }
    imap_task_end(session); /* what was answered lay in it */
    session->task = &settling->task;
    session->state = IMAP_SESSION_WORKING;
    /* Of a mailbox that is to stay as it was (NOTIFY) what the command itself has taken away is told. */
    imap_agent_say_text(settling->agent, session->notify_silent && session->server.kind == IMAP_MOVE
                                             ? "~n UID EXPUNGE 4294967295\r\n"
                                             : "~n NOOP\r\n");
    imap_session_later(session);
    return IMAP_STEP_ANSWERED;
}

/* ---- Where a command is done ---- */

/* Of those that name one mailbox; -1: here. */
static int named_shard(const struct imap_session *session, const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_SELECT:
    case IMAP_EXAMINE:
        return imap_abroad_shard(session, command->select.mailbox);
    case IMAP_CREATE:
    case IMAP_DELETE:
    case IMAP_GETQUOTAROOT:
    case IMAP_GETACL:
    case IMAP_MYRIGHTS:
        return imap_abroad_shard(session, command->mailbox.name);
    case IMAP_STATUS:
        return imap_abroad_shard(session, command->status.mailbox);
    case IMAP_LISTRIGHTS:
    case IMAP_SETACL:
    case IMAP_DELETEACL:
        return imap_abroad_shard(session, command->acl.mailbox);
    case IMAP_GETMETADATA:
    case IMAP_SETMETADATA:
        return command->metadata.of_server ? -1
                                           : imap_abroad_shard(session, command->metadata.mailbox);
    default:
        return -1;
    }
}

/* Of those of the selected mailbox, which is there. */
static bool is_of_selected(enum imap_command_kind kind)
{
    switch (kind) {
    case IMAP_NOOP:
    case IMAP_CHECK:
    case IMAP_CLOSE:
    case IMAP_UNSELECT:
    case IMAP_EXPUNGE:
    case IMAP_SEARCH:
    case IMAP_SORT:
    case IMAP_THREAD:
    case IMAP_FETCH:
    case IMAP_STORE:
    case IMAP_CANCELUPDATE:
        return true;
    default:
        return false;
    }
}

/* False: both names are of here. */
static bool rename_run(struct imap_session *session, const struct imap_rename *rename)
{
    int from = imap_abroad_shard(session, rename->from);
    int to = imap_abroad_shard(session, rename->to);
    if (from < 0 && to < 0) {
        return false;
    }
    if (from == to) {
        send_there(session, from);
    } else {
        imap_session_no(session, "CANNOT", "A mailbox stays with its owner");
    }
    return true;
}

/* False: what is selected is here. */
static bool copy_run(struct imap_session *session, const struct imap_command *command)
{
    if (!imap_abroad_is_selected(session)) {
        return false;
    }
    int to = imap_abroad_shard(session, command->copy.mailbox);
    unsigned shard = to >= 0 ? (unsigned)to : mailbox_index(session->session.mailbox);
    if (imap_agent_shard(session->abroad->selected) == shard) {
        hand_over(session, session->abroad->selected, false);
    } else {
        imap_abroad_copy(session, command, shard);
    }
    return true;
}

static void idle_run(struct imap_session *session)
{
    session->idling = true;
    imap_agent_say_text(session->abroad->selected, "~i IDLE\r\n");
}

bool imap_abroad_run(struct imap_session *session, const struct imap_event *event)
{
    const struct imap_command *command = event->command;
    if (session->user == NULL || session->session.of_service ||
        session->session.mailbox->group->count == 1) {
        return false;
    }
    bool selected = imap_abroad_is_selected(session);
    if (selected) {
        silence_if_due(session);
        bool goes_there = is_of_selected(command->kind);
        imap_agent_catch_up(session->abroad->selected, event->condstore_begins && goes_there);
    }
    if (selected && is_of_selected(command->kind)) {
        hand_over(session, session->abroad->selected, false);
        return true;
    }
    int shard = named_shard(session, command);
    if (shard >= 0 && (command->kind == IMAP_SELECT || command->kind == IMAP_EXAMINE)) {
        select_there(session, shard);
        return true;
    }
    if (shard >= 0) {
        send_there(session, shard);
        return true;
    }
    switch (command->kind) {
    case IMAP_IDLE:
        if (selected) {
            idle_run(session);
        }
        return selected;
    case IMAP_RENAME:
        return rename_run(session, &command->rename);
    case IMAP_COPY:
    case IMAP_MOVE:
        return copy_run(session, command);
    case IMAP_APPEND:
    case IMAP_REPLACE:
        return imap_abroad_append_commit(session);
    default:
        return false;
    }
}

bool imap_abroad_idle_done(struct imap_session *session)
{
    if (!imap_abroad_is_selected(session)) {
        return false;
    }
    imap_agent_say_text(session->abroad->selected, "DONE\r\n");
    if (relaying_new(session, session->abroad->selected, IMAP_IDLE, false) != NULL) {
        imap_session_begin(session);
    }
    return true;
}
