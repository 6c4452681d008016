/*
 * NOTIFY: commands that are answered when other shards have told what there is: NOTIFY itself, and those that change something
 * there, of which the client is not to be told.
 */
#include "engine/mailbox/imap_abroad.h"
#include "engine/mailbox/imap_notify_private.h"
#include "proto/imap/response.h"
#include <stdlib.h>

/* ---- NOTIFY: what is on other shards comes first ---- */

struct setting {
    struct imap_task task;
    struct imap_notify_state *state; /* to be; owned; NULL: NONE */
    bool is_said;                    /* to who has the selected mailbox */
};

static enum imap_step set_now(struct imap_session *session, struct setting *setting)
{
    struct imap_notify_state *state = setting->state;
    setting->state = NULL;
    notify_state_begin(session, state);
    return imap_session_ok(session);
}

/* It is a NOOP there as well. */
static enum imap_step selected_hear(struct imap_session *session, struct setting *setting)
{
    struct imap_agent *agent = session->abroad->selected;
    struct imap_answer answer;
    switch (imap_abroad_relay(session, agent, &answer)) {
    case IMAP_HEARD_ANSWER:
        return answer.result == IMAP_OK ? set_now(session, setting)
                                        : imap_session_answer(session, &answer);
    case IMAP_HEARD_BYE:
        return imap_abroad_lost(session, agent, &answer);
    case IMAP_HEARD_END:
        return imap_abroad_lost(session, agent, NULL);
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
    case IMAP_HEARD_CONTINUE:
        return IMAP_STEP_MORE;
    }
    return IMAP_STEP_BROKEN;
}

static enum imap_step setting_step(struct imap_session *session, struct imap_task *task)
{
    struct setting *setting = (struct setting *)task;
    struct imap_notify_state *state = setting->state;
    if (setting->is_said) {
        return selected_hear(session, setting);
    }
    if (state != NULL) {
        notify_abroad_hear(state);
        if (state->is_lost) { /* what was set before is still */
            return imap_session_no(session, "UNAVAILABLE", IMAP_ABROAD_UNREACHABLE);
        }
        if (!notify_abroad_is_current(state) && !state->is_too_much) {
            return IMAP_STEP_WAIT;
        }
    }
    if (!imap_abroad_is_selected(session)) {
        return set_now(session, setting);
    }
    struct slice said = state != NULL ? state->said : slice_of(NULL, 0);
    imap_agent_say_command(session->abroad->selected,
                           said.size > 0 ? said : slice_text("~n NOTIFY NONE\r\n"));
    setting->is_said = true;
    return IMAP_STEP_MORE;
}

static void setting_end(struct imap_session *session, struct imap_task *task)
{
    (void)session;
    notify_state_free(((struct setting *)task)->state);
}

bool notify_setting_begin(struct imap_session *session, struct imap_notify_state *state)
{
    if (state != NULL) {
        notify_abroad_ask(state);
    }
    if (!imap_abroad_is_selected(session) && (state == NULL || state->watchers == NULL)) {
        return false;
    }
    struct setting *setting =
        (struct setting *)imap_session_task(session, sizeof(*setting), setting_step);
    if (setting == NULL) {
        notify_state_free(state);
        return true;
    }
    setting->task.end = setting_end;
    setting->state = state;
    imap_session_begin(session);
    return true;
}

/* ---- What the client does there itself ---- */

struct waiting {
    struct imap_task task;
    struct imap_answer answer; /* as it lies in `texts` */
    struct arena texts;
};

/* The last word of it: "COPYUID 7 1:3 3:5". False: it is something else. */
static bool uids_read_last(struct slice text, struct imap_range *uids)
{
    struct slice last = text;
    for (size_t i = 0; i < text.size; i++) {
        last = text.bytes[i] == ' ' ? slice_from(text, i + 1) : last;
    }
    const uint8_t *colon =
        last.size > 0 ? (const uint8_t *)memchr(last.bytes, ':', last.size) : NULL;
    size_t first = colon != NULL ? (size_t)(colon - last.bytes) : last.size;
    return imap_nz_number_read(slice_first(last, first), &uids->first) &&
           imap_nz_number_read(colon != NULL ? slice_from(last, first + 1) : last, &uids->last);
}

/* "APPENDUID 7 3:5", "COPYUID 7 1:3 3:5" */
static bool uids_read(struct slice code, struct imap_range *uids)
{
    return (slice_equal(slice_first(code, sizeof("APPENDUID ") - 1), slice_text("APPENDUID ")) ||
            slice_equal(slice_first(code, sizeof("COPYUID ") - 1), slice_text("COPYUID "))) &&
           uids_read_last(code, uids);
}

/* As imap_notify_put, of a mailbox there: if nothing else has happened in it, nothing is told. */
static void put_there(struct imap_notify_state *state, struct slice name, struct imap_range uids)
{
    const struct notify_known *now = notify_abroad_find(state, name);
    struct notify_known *known =
        now != NULL ? notify_known_by_id(&state->known, now->shard, now->id) : NULL;
    if (known != NULL && uids.first != 0 && known->uidnext == uids.first &&
        now->uidnext == uids.last + 1 && now->count >= known->count &&
        now->count - known->count == uids.last - uids.first + 1) {
        known->count = now->count;
        known->uidnext = now->uidnext;
    }
}

/* The messages that it has put there. */
static void command_put(struct imap_notify_state *state, const struct imap_command *command,
                        struct slice code)
{
    struct imap_range uids = {0};
    if (command->kind == IMAP_MOVE) {
        put_there(state, command->copy.mailbox, state->moved);
        state->moved = (struct imap_range){0};
    } else if (command->kind == IMAP_COPY && uids_read(code, &uids)) {
        put_there(state, command->copy.mailbox, uids);
    } else if (command->kind == IMAP_APPEND && uids_read(code, &uids)) {
        put_there(state, command->appended.mailbox, uids);
    }
}

void imap_notify_moved(struct imap_session *session, struct slice code)
{
    struct imap_notify_state *state = session->notify;
    if (state != NULL && !uids_read_last(code, &state->moved)) {
        state->moved = (struct imap_range){0};
    }
}

/* What comes behind the answer of a command is told of as ever. */
static enum imap_step waiting_step(struct imap_session *session, struct imap_task *task)
{
    struct waiting *waiting = (struct waiting *)task;
    struct imap_notify_state *state = session->notify;
    notify_abroad_hear(state);
    if (!notify_abroad_is_current(state)) {
        return IMAP_STEP_WAIT;
    }
    command_put(state, session->server.command, waiting->answer.code);
    return imap_session_answer(session, &waiting->answer);
}

static void waiting_end(struct imap_session *session, struct imap_task *task)
{
    (void)session;
    arena_close(&((struct waiting *)task)->texts);
}

/* NULL: memory is short. */
static struct waiting *waiting_new(const struct imap_answer *answer)
{
    struct waiting *waiting = (struct waiting *)calloc(1, sizeof(*waiting));
    if (waiting == NULL) {
        return NULL;
    }
    waiting->task = (struct imap_task){.step = waiting_step, .end = waiting_end, .is_change = true};
    arena_open(&waiting->texts, 2 * IMAP_CODE_BYTES_MAX);
    if (!imap_abroad_keep_answer(&waiting->texts, answer, &waiting->answer)) {
        arena_close(&waiting->texts);
        free(waiting);
        return NULL;
    }
    return waiting;
}

/* Its watcher answers behind what the command has changed, and tells that before. */
static void name_await(struct imap_notify_state *state, struct slice name)
{
    int shard = notify_abroad_shard(state, name);
    struct notify_watcher *watcher = shard >= 0 ? &state->watchers[shard] : NULL;
    if (watcher != NULL && watcher->agent != NULL) {
        imap_agent_say_text(watcher->agent, "~b NOOP\r\n");
        watcher->awaited++;
    }
}

static void command_await(struct imap_notify_state *state, const struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_CREATE:
    case IMAP_DELETE:
        name_await(state, command->mailbox.name);
        return;
    case IMAP_RENAME:
        name_await(state, command->rename.from);
        return;
    case IMAP_SETACL:
    case IMAP_DELETEACL:
        name_await(state, command->acl.mailbox);
        return;
    case IMAP_APPEND:
        name_await(state, command->appended.mailbox);
        return;
    case IMAP_COPY:
    case IMAP_MOVE:
        name_await(state, command->copy.mailbox);
        return;
    default: /* SUBSCRIBE: whether somebody else is watched now */
        return;
    }
}

bool imap_notify_waits(struct imap_session *session, const struct imap_answer *answer)
{
    struct imap_notify_state *state = session->notify;
    const struct imap_command *command = session->server.command;
    bool again = session->task != NULL && session->task->step == waiting_step;
    if (again || session->session.of_service ||
        (state->watchers == NULL && command->kind != IMAP_SUBSCRIBE)) {
        return false;
    }
    switch (command->kind) {
    case IMAP_CREATE:
    case IMAP_DELETE:
    case IMAP_RENAME:
    case IMAP_SUBSCRIBE:
    case IMAP_SETACL:
    case IMAP_DELETEACL:
    case IMAP_APPEND:
    case IMAP_COPY:
    case IMAP_MOVE:
        break;
    default:
        return false;
    }
    if (state->watchers != NULL) {
        command_await(state, command);
    }
    struct waiting *waiting = !notify_abroad_is_current(state) ? waiting_new(answer) : NULL;
    if (waiting == NULL) { /* without memory it is told of its own doing, too */
        return false;
    }
    imap_task_end(session); /* what was answered lay in it */
    session->task = &waiting->task;
    session->state = IMAP_SESSION_WORKING;
    imap_session_later(session);
    return true;
}
