/*
 * COPY and MOVE from a mailbox to one on another shard.
 *
 *   source: FETCH (UID FLAGS INTERNALDATE BODY.PEEK[])  ──►  target: APPEND, some at a time, into a carriage
 *   when all are there: imap_placing.c, which puts them into the mailbox at once and, of MOVE, takes them from the other
 *
 * The source is the agent that has the selected mailbox, or one on this shard; the target an agent on the shard of its owner. A
 * text goes through as it comes, so however many there are, what is in memory is a part of one, and ranges of uids.
 *
 *   INVITE ─► EXAMINE ─► FETCH ─► CARRIED ─► PLACE ─► answered
 *          └────────────┘ │ └► PROBE ┘
 *                         └► DRAIN ─► refused: what the source was asked for has still to come
 *
 * INVITE: may anything be put there? PROBE: may MOVE take anything away, and which mailbox is it? It comes behind FETCH, since it
 * lets the source tell EXPUNGE, and the numbers of the command are those from before. Until PLACE nothing has happened, and
 * whatever ends is dropped; behind it all happens, whoever goes.
 */
#include "engine/mailbox/imap_abroad_copy.h"
#include "proto/imap/response.h"
#include <stdlib.h>

/* ---- Its ends ---- */

static struct slice text_keep(struct slice text, char kept[REFUSAL_BYTES])
{
    text = slice_first(text, REFUSAL_BYTES);
    if (text.size > 0) {
        memcpy(kept, text.bytes, text.size);
    }
    return slice_of(kept, text.size);
}

/* Of what the source was asked for nothing may come to the client. */
static enum imap_step refuse(struct imap_session *session, struct carrying *carrying,
                             const struct imap_answer *answer)
{
    if (carrying->here || carrying->stage != CARRY_FETCH) {
        return imap_session_answer(session, answer);
    }
    carrying->refusal =
        (struct imap_answer){.result = answer->result,
                             .code = text_keep(answer->code, carrying->refusal_code),
                             .text = text_keep(answer->text, carrying->refusal_text)};
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

static enum imap_step source_lost(struct imap_session *session, struct carrying *carrying,
                                  const struct imap_answer *bye)
{
    return carrying->here ? unreachable(session, carrying)
                          : imap_abroad_lost(session, carrying->source, bye);
}

/* Behind what has happened in the selected mailbox, wherever that is. */
static enum imap_step answer_behind(struct imap_session *session, const struct carrying *carrying,
                                    const struct imap_answer *answer)
{
    return carrying->here ? imap_session_answer(session, answer)
                          : imap_abroad_settle(session, answer);
}

/* "COPYUID 1 2:3 4:5"; what is too long is left out, as of one shard. */
static void code_write(struct imap_writer *writer, const struct imap_placed *placed)
{
    imap_write(writer, "COPYUID ");
    imap_write_number(writer, placed->uidvalidity);
    imap_write(writer, " ");
    uids_write(writer, placed->sources, placed->source_count);
    imap_write(writer, " ");
    uids_write(writer, placed->targets, placed->target_count);
}

static void put_tell(struct imap_session *session, const struct carrying *carrying,
                     const struct imap_placed *placed)
{
    bool at_home = imap_agent_shard(carrying->target) == mailbox_index(session->session.mailbox);
    for (uint32_t i = 0; at_home && i < placed->target_count; i++) {
        imap_notify_put(session, placed->box, placed->targets[i].first, placed->targets[i].last);
    }
}

static enum imap_step placed_answer(struct imap_session *session, struct carrying *carrying,
                                    const struct imap_placed *placed)
{
    struct imap_writer code;
    struct imap_answer answer = {.result = IMAP_OK};
    if (placed->status == -ENOENT) {
        return imap_session_no(session, "TRYCREATE", "No such mailbox");
    }
    if (placed->status != 0) {
        return imap_session_refuse(session, placed->status);
    }
    imap_writer_open(&code, IMAP_CODE_BYTES_MAX);
    imap_notify_moved(session, slice_of(NULL, 0));
    if (placed->source_count > 0) {
        put_tell(session, carrying, placed);
        code_write(&code, placed);
    }
    bool told = placed->source_count > 0 && !code.failed;
    if (told && carrying->move) { /* RFC 6851 §4.3: where, before the EXPUNGEs */
        imap_session_write(session, "* OK [");
        outbox_write(&session->outbox, imap_writer_bytes(&code));
        imap_session_write(session, "] Moved\r\n");
        imap_notify_moved(session, imap_writer_bytes(&code));
    } else if (told) {
        answer.code = imap_writer_bytes(&code);
    }
    enum imap_step step = answer_behind(session, carrying, &answer);
    imap_writer_close(&code);
    return step;
}

/* ---- Into their place ---- */

/* From here on it does not need us. */
static enum imap_step place(struct imap_session *session, struct carrying *carrying)
{
    const struct mailstore_box *box = session->view.box;
    struct slice owner, mailbox;
    if (!imap_place_names(session, carrying->command->copy.mailbox, &owner, &mailbox)) {
        return imap_session_no(session, "TRYCREATE", "No such mailbox");
    }
    const struct imap_placing_order order = {
        .target = imap_agent_shard(carrying->target),
        .carriage = carrying->carriage,
        .owner = owner,
        .mailbox = mailbox,
        .move = carrying->move,
        .source = imap_agent_shard(carrying->source),
        .source_user = carrying->here ? box->user->id : carrying->source_user,
        .source_box = carrying->here ? box->id : carrying->source_box,
        .uids = carrying->uids,
        .uid_count = carrying->uid_count,
        .messages = carrying->messages,
    };
    carrying->uids = NULL;
    carrying->stage = CARRY_PLACE;
    carrying->task.is_change = true;
    carrying->placing = imap_placing_begin(session, &order);
    return carrying->placing != NULL ? IMAP_STEP_MORE : fail(session, carrying, -ENOMEM);
}

static enum imap_step place_step(struct imap_session *session, struct carrying *carrying)
{
    const struct imap_placed *placed = imap_placing_result(carrying->placing);
    return placed != NULL ? placed_answer(session, carrying, placed) : IMAP_STEP_WAIT;
}

/* ---- The target ---- */

/* The target takes something. */
static enum imap_step source_begin(struct imap_session *session, struct carrying *carrying)
{
    if (carrying->here) {
        carrying->stage = CARRY_EXAMINE;
        return carrying_say_examine(carrying) ? IMAP_STEP_MORE : fail(session, carrying, -ENOMEM);
    }
    carrying->stage = CARRY_FETCH;
    imap_agent_say(carrying->source, imap_writer_bytes(&carrying->fetch));
    return IMAP_STEP_MORE;
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
        return source_begin(session, carrying);
    }
    if (rights & IMAP_RIGHT_LOOKUP) {
        return fail(session, carrying, -EACCES);
    }
    bool missing =
        answer->result == IMAP_OK || slice_equal(answer->code, slice_text("NONEXISTENT"));
    return missing ? imap_session_no(session, "TRYCREATE", "No such mailbox")
                   : imap_session_answer(session, answer);
}

/* Of an APPEND: what it says is in the carriage, or all is over. */
static enum imap_step appended(struct imap_session *session, struct carrying *carrying,
                               struct imap_answer *answer)
{
    if (answer->result != IMAP_OK) {
        answer->result = IMAP_NO;
        return refuse(session, carrying, answer);
    }
    carrying->unanswered--;
    return carrying->stage == CARRY_CARRIED && carrying->unanswered == 0 ? place(session, carrying)
                                                                         : IMAP_STEP_MORE;
}

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
        return carrying->stage == CARRY_INVITE ? invited(session, carrying, &answer)
                                               : appended(session, carrying, &answer);
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
        carrying->at = IN_OTHER; /* a text in it may say anything */
    } else if (carried.gone) {
        carrying->at = IN_REST;
    } else {
        carrying->at = carried.bytes > 0 ? IN_TEXT : IN_REST;
        step = carrying->stage == CARRY_DRAIN             ? IMAP_STEP_MORE
               : carrying_say_message(carrying, &carried) ? IMAP_STEP_MORE
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
    if (carrying->at == IN_OTHER && !carrying->here) {
        outbox_write(&session->outbox, part);
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

/* All that is to be carried has been said to the target. */
static enum imap_step carried_all(struct imap_session *session, struct carrying *carrying)
{
    const struct imap_answer nothing = {.result = IMAP_OK};
    if (carrying->messages == 0) {
        return answer_behind(session, carrying, &nothing);
    }
    carrying->stage = CARRY_CARRIED;
    carrying_say_batch_end(carrying);
    return carrying->unanswered > 0 ? IMAP_STEP_MORE : place(session, carrying);
}

/* "TUBEPOST-SELECTED 7 9" */
static bool probed(struct carrying *carrying, struct slice code)
{
    char text[80];
    unsigned long long user, box;
    if (code.size >= sizeof(text)) {
        return false;
    }
    memcpy(text, code.bytes, code.size);
    text[code.size] = '\0';
    bool good = sscanf(text, IMAP_SELECTED_CODE " %llu %llu", &user, &box) == 2;
    carrying->source_user = good ? user : 0;
    carrying->source_box = good ? box : 0;
    return good;
}

/* There may be more than one command asks for. */
static enum imap_step fetched(struct imap_session *session, struct carrying *carrying)
{
    if (carrying->asked_at < carrying->asked_count) {
        if (!carrying_fetch_next(carrying)) {
            return fail(session, carrying, -ENOMEM);
        }
        imap_agent_say(carrying->source, imap_writer_bytes(&carrying->fetch));
        return IMAP_STEP_MORE;
    }
    if (carrying->here || !carrying->move) {
        return carried_all(session, carrying);
    }
    carrying->stage = CARRY_PROBE; /* of no message, to where there is nothing */
    imap_agent_say_text(carrying->source, "~p UID MOVE 4294967295 INBOX\r\n");
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
        return fetched(session, carrying);
    case CARRY_PROBE:
        return probed(carrying, answer->code) ? carried_all(session, carrying)
                                              : fail(session, carrying, -EIO);
    case CARRY_INVITE:
    case CARRY_DRAIN:
    case CARRY_CARRIED:
    case CARRY_PLACE:
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

/* The target first: it may have said that it takes no more. */
static enum imap_step fetch_step(struct imap_session *session, struct carrying *carrying)
{
    enum imap_step step = target_step(session, carrying);
    return step == IMAP_STEP_WAIT && !imap_agent_is_full(carrying->target)
               ? source_step(session, carrying)
               : step;
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
            step = source_step(session, carrying);
            break;
        case CARRY_FETCH:
            step = fetch_step(session, carrying);
            break;
        case CARRY_INVITE:
        case CARRY_CARRIED:
            step = target_step(session, carrying);
            break;
        case CARRY_PLACE:
            step = place_step(session, carrying);
            break;
        }
    }
    return step;
}

static void carrying_end(struct imap_session *session, struct imap_task *task)
{
    struct carrying *carrying = (struct carrying *)task;
    (void)session;
    if (carrying->placing != NULL) {
        imap_placing_leave(carrying->placing);
    }
    if (carrying->here) {
        imap_agent_end(carrying->source);
    }
    imap_agent_end(carrying->target);
    imap_writer_close(&carrying->head);
    imap_writer_close(&carrying->fetch);
    free(carrying->asked);
    free(carrying->uids);
}

/* ---- The command ---- */

/* What is selected is on another shard: it is asked there. */
static bool source_there(struct imap_session *session, struct carrying *carrying)
{
    carrying->source = session->abroad->selected;
    return carrying_fetch_set(carrying);
}

/* It is here: an agent looks at it, too. The uids are given. False: memory is short. */
static bool source_here(struct imap_session *session, struct carrying *carrying,
                        struct mailstore_uids *uids, uint32_t count)
{
    carrying->here = true;
    carrying->asked = uids;
    carrying->asked_count = count;
    carrying->source = imap_agent_new(session, mailbox_index(session->session.mailbox));
    return carrying->source != NULL && carrying_fetch_next(carrying);
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
    carriage_name_make(session->session.mailbox, carrying->carriage);
    carrying->target = imap_agent_new_carrying(session, shard, carrying->carriage);
    if (carrying->target == NULL || !carrying_say_invite(carrying)) {
        fail(session, carrying, -ENOMEM);
        return NULL;
    }
    return carrying;
}

static void carrying_begin(struct imap_session *session, struct carrying *carrying, bool good)
{
    if (good) {
        imap_session_begin(session);
    } else {
        fail(session, carrying, -ENOMEM);
    }
}

void imap_abroad_copy(struct imap_session *session, const struct imap_command *command,
                      unsigned shard)
{
    struct carrying *carrying = carrying_new(session, command, shard);
    if (carrying != NULL) {
        carrying_begin(session, carrying, source_there(session, carrying));
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
    if (carrying == NULL) {
        free(uids);
    } else {
        carrying_begin(session, carrying, source_here(session, carrying, uids, count));
    }
}
