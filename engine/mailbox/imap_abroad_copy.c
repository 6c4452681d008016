/*
 * COPY and MOVE from a mailbox to one on another shard.
 *
 *   source: FETCH (UID FLAGS INTERNALDATE BODY.PEEK[])  ──►  target: APPEND of all of them, as one command
 *
 * The source is the agent that has the selected mailbox, or one on this shard; the target an agent on the shard of its owner. A
 * text goes through as it comes. The target has all of them or none; what MOVE takes away are those that are durable there.
 *
 *   INVITE ─► EXAMINE ─► FETCH ─► COMMIT ─► (TAKE here) or (MARK ─► TAKE there) ─► answered
 *          └────────────┘ │ └► PROBE ┘
 *                         └► DRAIN ─► refused: what the source was asked for has still to come
 *
 * INVITE: may anything be put there? PROBE: may MOVE take anything away? It comes behind FETCH, since it lets the source tell
 * EXPUNGE, and the numbers of the command are those from before.
 */
#include "engine/mailbox/imap_abroad.h"
#include "proto/imap/response.h"
#include <stdlib.h>

#define MESSAGES_MAX IMAP_AGENT_DRAFTS_MAX
#define HEAD_BYTES_MAX (256u * 1024)
#define COMMAND_BYTES_MAX (IMAP_COMMAND_BYTES_MAX - 256u)

enum carry_stage {
    CARRY_INVITE,
    CARRY_EXAMINE, /* the source selects what is selected here */
    CARRY_FETCH,
    CARRY_DRAIN,
    CARRY_PROBE,
    CARRY_COMMIT,
    CARRY_TAKE_HERE,
    CARRY_MARK,
    CARRY_TAKE_THERE,
};

struct carrying {
    struct imap_task task;
    struct imap_session *session;
    const struct imap_command *command;
    struct imap_agent *source, *target;
    enum carry_stage stage;
    bool here; /* what is selected is of this shard, and the source owned */
    bool move;
    enum { IN_HEAD, IN_TEXT, IN_REST } at; /* of a response of the source */
    struct imap_writer head;               /* its first line */
    struct imap_writer fetch;              /* the command that is next, for the source */
    struct mailstore_uids *uids;           /* those that are carried; of the heap */
    uint32_t uid_count, uid_room, messages;
    struct imap_answer refusal; /* in DRAIN; static text */
    struct imap_writer code;    /* "COPYUID 1 2:3 4:5" */
    struct mailstore_expunge expunge;
    struct mailstore_waiter waiter;
    bool waits;
    int status;
};

static enum imap_step source_begin(struct carrying *carrying);

/* ---- What is carried ---- */

static bool uid_add(struct carrying *carrying, uint32_t uid)
{
    struct mailstore_uids *last =
        carrying->uid_count > 0 ? &carrying->uids[carrying->uid_count - 1] : NULL;
    carrying->messages++;
    if (last != NULL && last->last + 1 == uid) {
        last->last = uid;
        return true;
    }
    if (carrying->uid_count == carrying->uid_room) {
        uint32_t room = carrying->uid_room * 2 + 16;
        struct mailstore_uids *grown =
            (struct mailstore_uids *)realloc(carrying->uids, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        carrying->uids = grown;
        carrying->uid_room = room;
    }
    carrying->uids[carrying->uid_count++] = (struct mailstore_uids){uid, uid};
    return true;
}

static void uids_write(struct imap_writer *writer, const struct mailstore_uids *uids,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        imap_write(writer, i > 0 ? "," : "");
        imap_write_number(writer, uids[i].first);
        if (uids[i].last > uids[i].first) {
            imap_write(writer, ":");
            imap_write_number(writer, uids[i].last);
        }
    }
}

/* ---- Its ends ---- */

/* With static text. Of what the source was asked for nothing may come to the client. */
static enum imap_step refuse(struct imap_session *session, struct carrying *carrying,
                             const struct imap_answer *answer)
{
    if (carrying->here || carrying->stage != CARRY_FETCH) {
        return imap_session_answer(session, answer);
    }
    carrying->refusal = *answer;
    carrying->stage = CARRY_DRAIN;
    imap_agent_end(carrying->target);
    carrying->target = NULL;
    return IMAP_STEP_MORE;
}

static enum imap_step fail(struct imap_session *session, struct carrying *carrying, int status)
{
    const struct imap_answer answer = imap_session_answer_of(status);
    return refuse(session, carrying, &answer);
}

static enum imap_step unreachable(struct imap_session *session, struct carrying *carrying)
{
    const struct imap_answer answer = {IMAP_NO, slice_text("UNAVAILABLE"),
                                       slice_text(IMAP_ABROAD_UNREACHABLE)};
    return refuse(session, carrying, &answer);
}

static enum imap_step limit(struct imap_session *session, struct carrying *carrying)
{
    const struct imap_answer answer = {IMAP_NO, slice_text("LIMIT"),
                                       slice_text("Too many at once for another shard")};
    return refuse(session, carrying, &answer);
}

static enum imap_step source_lost(struct imap_session *session, struct carrying *carrying,
                                  const struct imap_answer *bye)
{
    return carrying->here ? unreachable(session, carrying)
                          : imap_abroad_lost(session, carrying->source, bye);
}

static enum imap_step copied(struct imap_session *session, struct carrying *carrying)
{
    struct imap_answer answer = {.result = IMAP_OK};
    if (!carrying->move) {
        answer.code = imap_writer_bytes(&carrying->code);
    }
    return carrying->here || carrying->stage == CARRY_TAKE_THERE
               ? imap_session_answer(session, &answer)
               : imap_abroad_settle(session, &answer);
}

/* ---- MOVE takes them away ---- */

static void taken_here(struct mailstore_waiter *waiter, int status)
{
    struct carrying *carrying = list_entry(waiter, struct carrying, waiter);
    carrying->waits = false;
    carrying->status = status;
    imap_session_wake(carrying->session);
}

static enum imap_step take_here(struct imap_session *session, struct carrying *carrying)
{
    if (carrying->stage != CARRY_TAKE_HERE) {
        carrying->stage = CARRY_TAKE_HERE;
        carrying->expunge =
            (struct mailstore_expunge){.uids = carrying->uids, .uid_count = carrying->uid_count};
        carrying->waiter.done = taken_here;
        carrying->status = mailstore_expunge(imap_session_store(session), session->view.box,
                                             &carrying->expunge, &carrying->waiter);
        carrying->waits = carrying->status == 0;
    }
    if (carrying->waits) {
        return IMAP_STEP_WAIT;
    }
    return carrying->status == 0 ? copied(session, carrying)
                                 : fail(session, carrying, carrying->status);
}

static enum imap_step source_say(struct imap_session *session, struct carrying *carrying,
                                 const char *before, const char *behind)
{
    struct imap_writer writer;
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    imap_write(&writer, before);
    uids_write(&writer, carrying->uids, carrying->uid_count);
    imap_write(&writer, behind);
    bool good = !writer.failed;
    if (good) {
        imap_agent_say(carrying->source, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good ? IMAP_STEP_MORE : fail(session, carrying, -ENOMEM);
}

/* The target has them, durably. RFC 6851 §4.3: where, before the EXPUNGEs. */
static enum imap_step take(struct imap_session *session, struct carrying *carrying)
{
    if (!carrying->move) {
        return copied(session, carrying);
    }
    if (imap_writer_bytes(&carrying->code).size > 0) {
        imap_session_write(session, "* OK [");
        outbox_write(&session->outbox, imap_writer_bytes(&carrying->code));
        imap_session_write(session, "] Moved\r\n");
    }
    if (carrying->here) {
        return take_here(session, carrying);
    }
    carrying->stage = CARRY_MARK;
    return source_say(session, carrying, "~s UID STORE ", " +FLAGS.SILENT (\\Deleted)\r\n");
}

/* ---- The target ---- */

/* "APPENDUID 7 3:5" of as many as were carried. */
static void code_write(struct carrying *carrying, struct slice code)
{
    struct slice word = slice_text("APPENDUID ");
    const uint8_t *blank;
    if (!slice_equal(slice_first(code, word.size), word)) {
        return;
    }
    code = slice_from(code, word.size);
    blank = code.size > 0 ? (const uint8_t *)memchr(code.bytes, ' ', code.size) : NULL;
    if (blank == NULL) {
        return;
    }
    size_t validity = (size_t)(blank - code.bytes);
    imap_write(&carrying->code, "COPYUID ");
    imap_write_bytes(&carrying->code, slice_first(code, validity));
    imap_write(&carrying->code, " ");
    uids_write(&carrying->code, carrying->uids, carrying->uid_count);
    imap_write_bytes(&carrying->code, slice_from(code, validity));
    if (carrying->code.failed) {
        imap_writer_reset(&carrying->code);
    }
}

/* What goes before a text. False: memory is short. */
static bool message_say(struct carrying *carrying, const struct imap_carried *carried)
{
    struct imap_session *session = carrying->session;
    struct imap_writer writer;
    char size[48];
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    if (carrying->messages == 0) {
        imap_write(&writer, "~a APPEND ");
        imap_name_write(session, &writer, carrying->command->copy.mailbox);
    }
    snprintf(size, sizeof(size), "\" ~{%llu+}\r\n", (unsigned long long)carried->bytes);
    imap_write(&writer, " ");
    imap_write_bytes(&writer, carried->flags);
    imap_write(&writer, " \"");
    imap_write_bytes(&writer, carried->date);
    imap_write(&writer, size);
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->target, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good && uid_add(carrying, carried->uid);
}

/* False: memory is short. */
static bool invite_say(struct imap_session *session, struct carrying *carrying)
{
    struct imap_writer writer;
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "~r MYRIGHTS ");
    imap_name_write(session, &writer, carrying->command->copy.mailbox);
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->target, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* Of "* MYRIGHTS name letters": as imap_place_need has it. */
static enum imap_step invited(struct imap_session *session, struct carrying *carrying,
                              const struct imap_answer *answer)
{
    struct slice rest = imap_writer_bytes(&carrying->head), letters = slice_of(NULL, 0);
    for (struct imap_token token = imap_response_next(&rest);
         token.kind == IMAP_TOKEN_ATOM || token.kind == IMAP_TOKEN_TEXT;
         token = imap_response_next(&rest)) {
        letters = token.bytes; /* those that are last */
    }
    uint32_t rights = answer->result == IMAP_OK ? imap_rights_read(letters) : 0;
    imap_writer_reset(&carrying->head);
    if (rights & IMAP_RIGHT_INSERT) {
        return source_begin(carrying);
    }
    if (rights & IMAP_RIGHT_LOOKUP) {
        return fail(session, carrying, -EACCES);
    }
    bool missing =
        answer->result == IMAP_OK || slice_equal(answer->code, slice_text("NONEXISTENT"));
    return missing ? imap_session_no(session, "TRYCREATE", "No such mailbox")
                   : imap_session_answer(session, answer);
}

/* In FETCH it says nothing, unless it has ended. */
static enum imap_step target_step(struct imap_session *session, struct carrying *carrying)
{
    struct slice bytes;
    struct imap_answer answer;
    switch (imap_agent_hear(carrying->target, &bytes)) {
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
        if (carrying->stage == CARRY_INVITE) {
            imap_write_bytes(&carrying->head, bytes);
        }
        return IMAP_STEP_MORE;
    case IMAP_HEARD_CONTINUE:
        return IMAP_STEP_MORE;
    case IMAP_HEARD_ANSWER:
        answer = imap_agent_answer(bytes);
        if (carrying->stage == CARRY_INVITE) {
            return invited(session, carrying, &answer);
        }
        if (carrying->stage != CARRY_COMMIT) {
            return unreachable(session, carrying);
        }
        if (answer.result != IMAP_OK) {
            answer.result = IMAP_NO;
            return imap_session_answer(session, &answer);
        }
        code_write(carrying, answer.code);
        return take(session, carrying);
    case IMAP_HEARD_BYE:
    case IMAP_HEARD_END:
        break;
    }
    return unreachable(session, carrying);
}

/* ---- The source ---- */

/* The first line of a response, or its end, is there. */
static enum imap_step head_take(struct imap_session *session, struct carrying *carrying)
{
    struct slice head = imap_writer_bytes(&carrying->head);
    struct imap_carried carried;
    enum imap_step step = IMAP_STEP_MORE;
    if (carrying->head.failed) {
        imap_writer_reset(&carrying->head);
        carrying->at = IN_REST;
        return fail(session, carrying, -ENOMEM);
    }
    if (!imap_carried_read(head, &carried)) {
        if (!carrying->here) { /* it is what has happened in the mailbox */
            outbox_write(&session->outbox, head);
        }
        carrying->at = IN_HEAD;
    } else if (carried.gone) {
        carrying->at = IN_REST;
    } else {
        carrying->at = carried.bytes > 0 ? IN_TEXT : IN_REST;
        step = carrying->stage == CARRY_DRAIN       ? IMAP_STEP_MORE
               : carrying->messages == MESSAGES_MAX ? limit(session, carrying)
               : message_say(carrying, &carried)    ? IMAP_STEP_MORE
                                                    : fail(session, carrying, -ENOMEM);
    }
    if (step == IMAP_STEP_MORE) { /* else it has gone with the task */
        imap_writer_reset(&carrying->head);
    }
    return step;
}

static enum imap_step part_take(struct imap_session *session, struct carrying *carrying,
                                struct slice part)
{
    bool whole = imap_agent_is_between(carrying->source);
    enum imap_step step = IMAP_STEP_MORE;
    if (carrying->at == IN_TEXT && imap_agent_told_literal(carrying->source)) {
        if (carrying->stage == CARRY_FETCH) {
            imap_agent_say(carrying->target, part);
        }
        return step;
    }
    if (carrying->at == IN_HEAD) {
        imap_write_bytes(&carrying->head, part);
        if (part.size > 0 && part.bytes[part.size - 1] == '\n') {
            step = head_take(session, carrying);
        }
    }
    if (step == IMAP_STEP_MORE && whole) {
        carrying->at = IN_HEAD;
    }
    return step;
}

/* All that is to be carried is with the target. */
static enum imap_step commit(struct imap_session *session, struct carrying *carrying)
{
    if (carrying->messages == 0) {
        return copied(session, carrying);
    }
    carrying->stage = CARRY_COMMIT;
    imap_agent_say_text(carrying->target, "\r\n");
    return IMAP_STEP_MORE;
}

/* What it was asked has been answered. */
static enum imap_step source_answered(struct imap_session *session, struct carrying *carrying,
                                      const struct imap_answer *answer)
{
    if (carrying->stage == CARRY_DRAIN) {
        return imap_session_answer(session, &carrying->refusal);
    }
    if (answer->result != IMAP_OK) {
        return imap_session_answer(session, answer);
    }
    switch (carrying->stage) {
    case CARRY_EXAMINE:
        carrying->stage = CARRY_FETCH;
        imap_agent_say(carrying->source, imap_writer_bytes(&carrying->fetch));
        return IMAP_STEP_MORE;
    case CARRY_FETCH:
        if (carrying->here || !carrying->move) {
            return commit(session, carrying);
        }
        carrying->stage = CARRY_PROBE; /* of no message: only whether it would be allowed */
        imap_agent_say_text(carrying->source, "~p UID MOVE 4294967295 INBOX\r\n");
        return IMAP_STEP_MORE;
    case CARRY_PROBE:
        return commit(session, carrying);
    case CARRY_MARK:
        carrying->stage = CARRY_TAKE_THERE;
        return source_say(session, carrying, "~x UID EXPUNGE ", "\r\n");
    case CARRY_TAKE_THERE:
        return copied(session, carrying);
    case CARRY_INVITE:
    case CARRY_DRAIN:
    case CARRY_COMMIT:
    case CARRY_TAKE_HERE:
        break;
    }
    return IMAP_STEP_BROKEN;
}

static enum imap_step source_step(struct imap_session *session, struct carrying *carrying)
{
    struct slice bytes;
    struct imap_answer answer;
    switch (imap_agent_hear(carrying->source, &bytes)) {
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
        if (carrying->stage == CARRY_FETCH || carrying->stage == CARRY_DRAIN) {
            return part_take(session, carrying, bytes);
        }
        if (!carrying->here) {
            outbox_write(&session->outbox, bytes);
        }
        return IMAP_STEP_MORE;
    case IMAP_HEARD_CONTINUE:
        return IMAP_STEP_MORE;
    case IMAP_HEARD_ANSWER:
        answer = imap_agent_answer(bytes);
        return source_answered(session, carrying, &answer);
    case IMAP_HEARD_BYE:
        answer = imap_agent_answer(bytes);
        return source_lost(session, carrying, &answer);
    case IMAP_HEARD_END:
        return source_lost(session, carrying, NULL);
    }
    return IMAP_STEP_BROKEN;
}

static enum imap_step carrying_step(struct imap_session *session, struct imap_task *task)
{
    struct carrying *carrying = (struct carrying *)task;
    enum imap_step step = IMAP_STEP_MORE;
    while (step == IMAP_STEP_MORE && !outbox_is_full(&session->outbox)) {
        switch (carrying->stage) {
        case CARRY_EXAMINE:
        case CARRY_DRAIN:
        case CARRY_PROBE:
        case CARRY_MARK:
        case CARRY_TAKE_THERE:
            step = source_step(session, carrying);
            break;
        case CARRY_FETCH:
            step = imap_agent_is_full(carrying->target) ? target_step(session, carrying)
                                                        : source_step(session, carrying);
            break;
        case CARRY_INVITE:
        case CARRY_COMMIT:
            step = target_step(session, carrying);
            break;
        case CARRY_TAKE_HERE:
            step = take_here(session, carrying);
            break;
        }
    }
    return step;
}

static void carrying_end(struct imap_session *session, struct imap_task *task)
{
    struct carrying *carrying = (struct carrying *)task;
    if (carrying->waits) {
        mailstore_waiter_cancel(imap_session_store(session), &carrying->waiter);
    }
    if (carrying->here) {
        imap_agent_end(carrying->source);
    }
    imap_agent_end(carrying->target);
    imap_writer_close(&carrying->head);
    imap_writer_close(&carrying->fetch);
    imap_writer_close(&carrying->code);
    free(carrying->uids);
}

/* ---- The command ---- */

/* Of "tag UID COPY 1:3 x": the set as the client has written it. */
static struct slice set_text(const struct imap_session *session, bool uid)
{
    struct slice text = slice_of(session->server.text, session->server.text_bytes);
    for (unsigned words = uid ? 3 : 2; words > 0 && text.size > 0; words--) {
        const uint8_t *blank = (const uint8_t *)memchr(text.bytes, ' ', text.size);
        text =
            blank == NULL ? slice_of(NULL, 0) : slice_from(text, (size_t)(blank - text.bytes) + 1);
    }
    const uint8_t *end = text.size > 0 ? (const uint8_t *)memchr(text.bytes, ' ', text.size) : NULL;
    return end == NULL ? slice_of(NULL, 0) : slice_first(text, (size_t)(end - text.bytes));
}

static void fetch_end(struct carrying *carrying)
{
    imap_write(&carrying->fetch, " (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n");
}

/* The target takes something. */
static enum imap_step source_begin(struct carrying *carrying)
{
    if (carrying->here) { /* it was asked for with the invitation */
        carrying->stage = CARRY_EXAMINE;
    } else {
        carrying->stage = CARRY_FETCH;
        imap_agent_say(carrying->source, imap_writer_bytes(&carrying->fetch));
    }
    return IMAP_STEP_MORE;
}

/* What is selected is on another shard: it is asked there. */
static void source_there(struct imap_session *session, struct carrying *carrying)
{
    bool uid = carrying->command->uid;
    carrying->source = session->abroad->selected;
    imap_write(&carrying->fetch, uid ? "~f UID FETCH " : "~f FETCH ");
    imap_write_bytes(&carrying->fetch, set_text(session, uid));
    fetch_end(carrying);
}

/* It is here: an agent looks at it, too. False: memory is short. */
static bool source_here(struct imap_session *session, struct carrying *carrying,
                        const struct mailstore_uids *uids, uint32_t count)
{
    struct imap_writer writer;
    carrying->here = true;
    carrying->source = imap_agent_new(session, mailbox_index(session->session.mailbox));
    if (carrying->source == NULL) {
        return false;
    }
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "~e EXAMINE ");
    imap_box_name_write(session, &writer, session->view.box);
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->source, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    imap_write(&carrying->fetch, "~f UID FETCH ");
    uids_write(&carrying->fetch, uids, count);
    fetch_end(carrying);
    return good;
}

/* How many there are is not known before all have come. */
static struct imap_progress carrying_progress(const struct imap_session *session,
                                              const struct imap_task *task)
{
    (void)session;
    (void)task;
    return (struct imap_progress){.known = false};
}

/* NULL: answered. */
static struct carrying *carrying_new(struct imap_session *session,
                                     const struct imap_command *command, unsigned shard)
{
    struct carrying *carrying =
        (struct carrying *)imap_session_task(session, sizeof(*carrying), carrying_step);
    if (carrying == NULL) {
        return NULL;
    }
    carrying->task.end = carrying_end;
    carrying->task.progress = carrying_progress;
    carrying->session = session;
    carrying->command = command;
    carrying->move = command->kind == IMAP_MOVE;
    imap_writer_open(&carrying->head, HEAD_BYTES_MAX);
    imap_writer_open(&carrying->fetch, COMMAND_BYTES_MAX);
    imap_writer_open(&carrying->code, IMAP_CODE_BYTES_MAX);
    carrying->target = imap_agent_new(session, shard);
    if (carrying->target == NULL || !invite_say(session, carrying)) {
        fail(session, carrying, -ENOMEM);
        return NULL;
    }
    return carrying;
}

void imap_abroad_copy(struct imap_session *session, const struct imap_command *command,
                      unsigned shard)
{
    struct carrying *carrying = carrying_new(session, command, shard);
    if (carrying != NULL) {
        source_there(session, carrying);
        if (carrying->fetch.failed) {
            limit(session, carrying);
        } else {
            imap_session_begin(session);
        }
    }
}

void imap_abroad_copy_from_here(struct imap_session *session, const struct imap_command *command,
                                unsigned shard)
{
    struct imap_messages messages;
    struct mailstore_uids *uids;
    uint32_t count;
    if (!imap_messages_open(session, &messages, &command->copy.set, command->uid)) {
        return;
    }
    int status = imap_messages_uids(session, &messages, &uids, &count);
    if (status != 0 || uids == NULL) {
        if (status == 0) {
            imap_session_ok(session);
        } else {
            imap_session_refuse(session, status);
        }
        return;
    }
    struct carrying *carrying = carrying_new(session, command, shard);
    bool good = carrying == NULL || source_here(session, carrying, uids, count);
    free(uids);
    if (carrying == NULL) {
        return;
    }
    if (carrying->fetch.failed) {
        limit(session, carrying);
    } else if (!good) {
        fail(session, carrying, -ENOMEM);
    } else {
        imap_session_begin(session);
    }
}
