/*
 * APPEND, of several messages too (RFC 3502): each goes into a draft of the store as it comes, and all are committed
 * when the command is whole. When one of them is refused then, those that were not are taken back.
 *
 * REPLACE (RFC 8508) is the same with one message, whose commit expunges another. What an agent of a COPY appends goes into its
 * carriage (carriage.h), and from there to the mailbox that it names.
 */
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/quota.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define DRAFTS_MAX 1000u /* of one command */
#define COPIES_MAX 4u    /* of the largest message: what URLs of one command may come to */

struct draft {
    struct mailstore_draft *draft; /* NULL: committed */
    struct imap_flags flags;
    uint32_t internal_s;
    int16_t zone_min;
};

struct imap_drafts {
    struct draft *all;
    uint32_t count, room;
    uint64_t copied_bytes; /* by URLs */
    uint64_t sent_bytes;   /* of CATENATE, by a session on another shard */
    uint64_t quota_left;   /* of the target's owner, when the command began; UINT64_MAX: no limit */
    uint32_t replaces_uid; /* in the selected mailbox; 0: nothing is replaced */
    struct slice held;     /* borrowed from the stream */
    size_t held_used;
};

void imap_append_reset(struct imap_session *session)
{
    struct imap_drafts *drafts = session->drafts;
    imap_abroad_append_end(session);
    session->drafts = NULL;
    for (uint32_t i = 0; drafts != NULL && i < drafts->count; i++) {
        if (drafts->all[i].draft != NULL) {
            mailstore_abort(drafts->all[i].draft);
        }
    }
    if (drafts != NULL) {
        free(drafts->all);
        free(drafts);
    }
}

void imap_append_refuse(struct imap_session *session, const struct imap_answer *answer)
{
    imap_append_reset(session);
    imap_server_refuse(&session->server, answer);
    imap_session_output(session);
}

struct imap_answer imap_append_answer_of(int status)
{
    struct imap_answer answer = imap_session_answer_of(status);
    if (status == -ENOENT) {
        answer.code = slice_text("TRYCREATE");
    } else if (status == -ESTALE) {
        answer.code = slice_text("EXPUNGEISSUED");
        answer.text = slice_text("The message to be replaced is gone");
    }
    return answer;
}

static void refuse(struct imap_session *session, int status)
{
    const struct imap_answer answer = imap_append_answer_of(status);
    imap_append_refuse(session, &answer);
}

/* A place for one more. */
static struct draft *draft_add(struct imap_session *session)
{
    struct imap_drafts *drafts = session->drafts;
    if (drafts == NULL) {
        drafts = session->drafts = (struct imap_drafts *)calloc(1, sizeof(*drafts));
    }
    if (drafts == NULL || drafts->count == DRAFTS_MAX) {
        return NULL;
    }
    if (drafts->count == drafts->room) {
        uint32_t room = drafts->room * 2 + 1;
        struct draft *grown = (struct draft *)realloc(drafts->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            return NULL;
        }
        drafts->all = grown;
        drafts->room = room;
    }
    struct draft *draft = &drafts->all[drafts->count++];
    *draft = (struct draft){.draft = NULL};
    return draft;
}

/* 0; -ENOENT; -EACCES. To be left in any case. */
static int target_find(struct imap_session *session, struct slice name, struct imap_place *place)
{
    int status = imap_place_find(session, name, place);
    bool comes_to_be = place->owner == session->user && place->box == NULL &&
                       slice_equal_nocase(name, slice_text("INBOX"));
    return status == 0 && !comes_to_be ? imap_place_need(place, IMAP_RIGHT_INSERT) : status;
}

static uint32_t internal_of(int64_t date_s)
{
    return date_s < 1 ? 1 : date_s > UINT32_MAX ? UINT32_MAX : (uint32_t)date_s;
}

/* Of the selected mailbox: what REPLACE takes (RFC 8508 §4.1). */
static bool may_replace(const struct imap_session *session)
{
    const uint32_t rights = IMAP_RIGHT_DELETED | IMAP_RIGHT_EXPUNGE;
    return (session->rights & rights) == rights;
}

/* The uid of the message that is replaced. 0: it cannot be, and *answer says why. */
static uint32_t replaced_find(const struct imap_session *session, const struct imap_append *append,
                              struct imap_answer *answer)
{
    const struct view *view = &session->view;
    uint32_t number = append->star  ? view->count
                      : append->uid ? view_number(view, append->number)
                                    : append->number;
    if (!append->uid && (number == 0 || number > view->count)) {
        *answer =
            (struct imap_answer){IMAP_BAD, slice_of(NULL, 0), slice_text("No such message number")};
        return 0;
    }
    if (session->read_only) {
        *answer = (struct imap_answer){IMAP_NO, slice_text("NOPERM"),
                                       slice_text("The mailbox is selected read-only")};
        return 0;
    }
    if (!may_replace(session)) {
        *answer = imap_append_answer_of(-EACCES);
        return 0;
    }
    if (number == 0 || view_entry(view, number) == NULL) {
        *answer = imap_append_answer_of(-ESTALE);
        return 0;
    }
    return view_uid(view, number);
}

static uint64_t quota_left(const struct imap_session *session, const struct imap_place *place)
{
    uint64_t limit = quota_limit(session->session.mailbox->conf, place->owner, place->name).bytes;
    uint64_t used = place->owner->totals.bytes;
    return limit == 0 ? UINT64_MAX : used < limit ? limit - used : 0;
}

/* What is carried there counts when it is copied; before, so that no disk is written for nothing. */
static int carriage_may_have(const struct imap_session *session, const struct imap_place *place,
                             uint64_t bytes)
{
    if (session->carriage == NULL) {
        return 0;
    }
    const struct quota quota =
        quota_limit(session->session.mailbox->conf, place->owner, place->name);
    return carriage_promise(session->carriage, place->owner, &quota, bytes);
}

void imap_append_message(struct imap_session *session, const struct imap_append *append)
{
    uint32_t replaces_uid = 0;
    if (imap_abroad_append(session, append)) {
        return;
    }
    if (append->replace) {
        struct imap_answer answer;
        replaces_uid = replaced_find(session, append, &answer);
        if (replaces_uid == 0) {
            imap_append_refuse(session, &answer);
            return;
        }
    }
    struct imap_place place;
    int status = target_find(session, append->mailbox, &place);
    bool is_anothers = append->replace && place.owner != session->view.box->user;
    bool first = session->drafts == NULL;
    uint64_t left = status == 0 && first ? quota_left(session, &place) : 0;
    status = status == 0 ? carriage_may_have(session, &place, append->bytes) : status;
    imap_place_leave(session, &place);
    if (status == 0 && is_anothers) {
        const struct imap_answer answer = {
            IMAP_NO, slice_text("CANNOT"),
            slice_text("What replaces a message belongs to the same user")};
        imap_append_refuse(session, &answer);
        return;
    }
    if (status != 0) {
        refuse(session, status);
        return;
    }
    struct draft *draft = draft_add(session);
    status = -ENOMEM;
    if (draft != NULL) {
        status = mailstore_begin(imap_session_store(session), &draft->draft);
    }
    if (status != 0) {
        if (draft != NULL) {
            draft->draft = NULL;
        }
        refuse(session, status);
        return;
    }
    draft->flags = append->flags;
    session->drafts->replaces_uid = replaces_uid;
    session->drafts->quota_left = first ? left : session->drafts->quota_left;
    if (append->date_given) {
        draft->internal_s = internal_of(append->date_s);
        draft->zone_min = append->zone_minutes;
    }
    imap_server_take(&session->server);
}

/* An agent is sent what URLs name as parts of the client's own, which bring it here by a few words. */
static bool is_over_quota(const struct imap_session *session, size_t bytes)
{
    const struct imap_drafts *drafts = session->drafts;
    return session->session.of_service && session->server.append->catenate &&
           drafts->replaces_uid == 0 && drafts->sent_bytes + bytes > drafts->quota_left;
}

int imap_append_write(struct imap_session *session, struct slice bytes)
{
    struct mailstore_draft *draft = session->drafts->all[session->drafts->count - 1].draft;
    if (mailstore_draft_bytes(draft) + bytes.size > session->settings.append_bytes_max) {
        return -EFBIG; /* the machine knows nothing of the parts that are copied */
    }
    int status = is_over_quota(session, bytes.size) ? -EDQUOT : mailstore_append(draft, &bytes, 1);
    session->drafts->sent_bytes += status == 0 ? bytes.size : 0;
    return status;
}

/* False: not now. */
static bool bytes_take(struct imap_session *session, struct slice bytes)
{
    struct imap_drafts *drafts = session->drafts;
    while (drafts != NULL && bytes.size > 0) {
        struct slice part = slice_first(bytes, MAILSTORE_APPEND_BYTES_MAX);
        int status = imap_append_write(session, part);
        if (status == -EAGAIN) {
            drafts->held = bytes;
            return false;
        }
        if (status != 0) {
            refuse(session, status);
            return true;
        }
        bytes = slice_from(bytes, part.size);
    }
    return true;
}

bool imap_append_bytes(struct imap_session *session, struct slice bytes)
{
    return imap_abroad_appends(session) ? imap_abroad_append_bytes(session, bytes)
                                        : bytes_take(session, bytes);
}

void imap_append_held(struct imap_session *session, size_t used)
{
    if (imap_abroad_appends(session)) {
        imap_abroad_append_held(session, used);
        return;
    }
    session->drafts->held_used = used;
}

size_t imap_append_resume(struct imap_session *session)
{
    if (imap_abroad_appends(session)) {
        return imap_abroad_append_resume(session);
    }
    check(session->drafts != NULL);
    size_t used = session->drafts->held_used;
    return bytes_take(session, session->drafts->held) ? used : 0;
}

int imap_append_allows(struct imap_session *session, uint64_t bytes)
{
    struct imap_drafts *drafts = session->drafts;
    uint64_t most = session->settings.append_bytes_max;
    uint64_t size = mailstore_draft_bytes(drafts->all[drafts->count - 1].draft);
    if (bytes > most || size > most - bytes) {
        return -EFBIG;
    }
    drafts->copied_bytes += bytes;
    if (drafts->copied_bytes > COPIES_MAX * most) {
        return -EFBIG;
    }
    /* A few words of the client's would have the disk written full before the commit refuses them. */
    bool over = drafts->replaces_uid == 0 && drafts->copied_bytes > drafts->quota_left;
    return over ? -EDQUOT : 0;
}

void imap_append_end(struct imap_session *session)
{
    if (imap_abroad_appends(session)) {
        imap_abroad_append_message_end(session);
        return;
    }
    const struct imap_drafts *drafts = session->drafts;
    if (drafts != NULL && mailstore_draft_bytes(drafts->all[drafts->count - 1].draft) == 0) {
        const struct imap_answer answer = {.result = IMAP_NO,
                                           .text = slice_text("The message is empty")};
        imap_append_refuse(session, &answer);
    }
}

/* ---- The end of the command ---- */

struct committing;
struct committed {
    struct committing *of;
    struct mailstore_waiter waiter;
    struct mailstore_place place;
    bool waits;
};

struct committing {
    struct imap_task task;
    struct imap_session *session;
    struct imap_place place;
    struct quota quota;
    int status; /* the first that was not good */
    uint32_t count, waiting;
    bool uncommitted; /* its carriage has still to come to be */
    bool taking_back;
    struct mailstore_expunge expunge;
    struct mailstore_waiter expunge_waiter;
    struct mailstore_uids *back; /* owned */
    struct committed all[];
};

static void committed_done(struct mailstore_waiter *waiter, int status)
{
    struct committed *committed = list_entry(waiter, struct committed, waiter);
    struct committing *committing = committed->of;
    committed->waits = false;
    committed->place.status = status != 0 ? status : committed->place.status;
    if (committing->status == 0) {
        committing->status = committed->place.status;
    }
    if (--committing->waiting == 0) {
        imap_session_wake(committing->session);
    }
}

static void back_done(struct mailstore_waiter *waiter, int status)
{
    struct committing *committing = list_entry(waiter, struct committing, expunge_waiter);
    (void)status;
    committing->waiting = 0;
    imap_session_wake(committing->session);
}

static void appenduid_write(const struct committing *committing, struct imap_writer *writer)
{
    imap_write(writer, "APPENDUID ");
    imap_write_number(writer, committing->all[0].place.uidvalidity);
    for (uint32_t i = 0; i < committing->count;) {
        uint32_t end = i + 1;
        while (end < committing->count &&
               committing->all[end].place.uid == committing->all[end - 1].place.uid + 1) {
            end++;
        }
        imap_write(writer, i == 0 ? " " : ",");
        imap_write_number(writer, committing->all[i].place.uid);
        if (end - i > 1) {
            imap_write(writer, ":");
            imap_write_number(writer, committing->all[end - 1].place.uid);
        }
        i = end;
    }
}

/* The new one's uid comes before the old one's EXPUNGE (RFC 8508 §4.3). */
static enum imap_step replace_answer(struct imap_session *session, struct imap_writer *writer,
                                     uint64_t modseq)
{
    struct imap_answer answer = {.result = IMAP_OK};
    imap_session_write(session, "* OK [");
    outbox_write(&session->outbox, imap_writer_bytes(writer));
    imap_session_write(session, "] Replaced\r\n");
    imap_writer_reset(writer);
    if (imap_session_has(session, IMAP_ENABLED_QRESYNC)) {
        imap_write(writer, "HIGHESTMODSEQ ");
        imap_write_number(writer, modseq);
        answer.code = imap_writer_bytes(writer);
    }
    return imap_session_answer(session, &answer);
}

static enum imap_step append_answer(struct imap_session *session, struct committing *committing)
{
    const struct mailstore_place *first = &committing->all[0].place;
    struct imap_writer writer;
    for (uint32_t i = 0; i < committing->count; i++) {
        const struct mailstore_place *place = &committing->all[i].place;
        imap_notify_put(session, place->box, place->uid, place->uid);
    }
    imap_writer_open(&writer, IMAP_CODE_BYTES_MAX);
    appenduid_write(committing, &writer);
    if (first->replaces != NULL && !writer.failed) {
        enum imap_step step = replace_answer(session, &writer, first->replaces_modseq);
        imap_writer_close(&writer);
        return step;
    }
    struct imap_answer answer = {.result = IMAP_OK};
    if (!writer.failed) {
        answer.code = imap_writer_bytes(&writer);
    }
    enum imap_step step = imap_session_answer(session, &answer);
    imap_writer_close(&writer);
    return step;
}

/* Those that are in the mailbox leave it. False: there are none, or it cannot be. */
static bool take_back(struct imap_session *session, struct committing *committing)
{
    struct mailstore_box *box = NULL;
    uint32_t count = 0;
    committing->taking_back = true;
    committing->back =
        (struct mailstore_uids *)calloc(committing->count, sizeof(committing->back[0]));
    for (uint32_t i = 0; committing->back != NULL && i < committing->count; i++) {
        const struct mailstore_place *place = &committing->all[i].place;
        if (place->status == 0) { /* uids ascend, as they were committed */
            box = mailstore_box_by_id(committing->place.owner, place->box);
            committing->back[count++] = (struct mailstore_uids){place->uid, place->uid};
        }
    }
    if (box == NULL) {
        return false;
    }
    committing->expunge =
        (struct mailstore_expunge){.uids = committing->back, .uid_count = count, .at_once = true};
    committing->expunge_waiter.done = back_done;
    committing->waiting = 1;
    if (mailstore_expunge(imap_session_store(session), box, &committing->expunge,
                          &committing->expunge_waiter) != 0) {
        committing->waiting = 0;
        return false;
    }
    return true;
}

static void draft_commit(struct imap_session *session, struct committing *committing,
                         uint32_t index)
{
    uint8_t allowed = imap_flags_allowed(committing->place.rights);
    struct draft *draft = &session->drafts->all[index];
    struct committed *committed = &committing->all[index];
    struct mailstore_draft *text = draft->draft;
    committed->of = committing;
    committed->waiter.done = committed_done;
    committed->place = (struct mailstore_place){
        .user = slice_text(committing->place.owner->name),
        .mailbox = committing->place.name,
        .flags = imap_flags_of(draft->flags.system) & allowed,
        .keywords = draft->flags.keywords.items,
        .keyword_count = allowed & MAILSTORE_FLAGGED ? draft->flags.keywords.count : 0,
        .internal_s = draft->internal_s,
        .zone_min = draft->zone_min,
        .quota_bytes = committing->quota.bytes,
        .quota_messages = committing->quota.messages,
        .replaces = session->drafts->replaces_uid != 0 ? session->view.box : NULL,
        .replaces_uid = session->drafts->replaces_uid,
    };
    if (session->carriage != NULL) {
        committed->place.user = slice_text(OUTGOING_USER);
        committed->place.mailbox = slice_text(session->carriage->name);
        committed->place.quota_bytes = committed->place.quota_messages = 0;
    }
    draft->draft = NULL;
    int status = mailstore_commit(text, 0, &committed->place, 1, &committed->waiter);
    if (status == 0) {
        committed->waits = true;
        committing->waiting++;
    } else {
        committed->place.status = status;
        committing->status = committing->status != 0 ? committing->status : status;
    }
}

static void carriage_is_there(void *owner)
{
    imap_session_wake((struct imap_session *)owner);
}

/* Those of a carriage that is not there yet stay drafts, and it wakes the session. */
static void commit_all(struct imap_session *session, struct committing *committing)
{
    struct carriage *carriage = session->carriage;
    committing->uncommitted =
        carriage != NULL && carriage_await(carriage, carriage_is_there, session);
    if (committing->uncommitted) {
        return;
    }
    if (carriage != NULL && carriage->status != 0) {
        committing->status = carriage->status;
        committing->count = 0;
    }
    for (uint32_t i = 0; i < committing->count; i++) {
        draft_commit(session, committing, i);
    }
    imap_append_reset(session);
}

static enum imap_step committing_step(struct imap_session *session, struct imap_task *task)
{
    struct committing *committing = (struct committing *)task;
    if (committing->uncommitted) {
        commit_all(session, committing);
    }
    if (committing->uncommitted || committing->waiting > 0) {
        return IMAP_STEP_WAIT;
    }
    if (committing->status == 0) {
        return append_answer(session, committing);
    }
    if (!committing->taking_back && take_back(session, committing)) {
        return IMAP_STEP_WAIT;
    }
    const struct imap_answer answer = imap_append_answer_of(committing->status);
    return imap_session_answer(session, &answer);
}

static void committing_end(struct imap_session *session, struct imap_task *task)
{
    struct committing *committing = (struct committing *)task;
    struct mailstore *store = imap_session_store(session);
    for (uint32_t i = 0; i < committing->count; i++) {
        if (committing->all[i].waits) {
            mailstore_waiter_cancel(store, &committing->all[i].waiter);
        }
    }
    if (committing->taking_back && committing->waiting > 0) {
        mailstore_waiter_cancel(store, &committing->expunge_waiter);
    }
    imap_place_leave(session, &committing->place);
    free(committing->back);
}

void imap_append_commit(struct imap_session *session, const struct imap_command *command)
{
    uint32_t count = session->drafts != NULL ? session->drafts->count : 0;
    if (count == 0) {
        imap_session_bad(session, "No message");
        return;
    }
    struct committing *committing = (struct committing *)imap_session_task(
        session, sizeof(*committing) + count * sizeof(committing->all[0]), committing_step);
    if (committing == NULL) {
        imap_append_reset(session);
        return;
    }
    committing->task.end = committing_end;
    committing->task.is_change = true;
    committing->session = session;
    committing->status = target_find(session, command->appended.mailbox, &committing->place);
    if (committing->status == 0 && session->drafts->replaces_uid != 0 &&
        (imap_access_lost(session) || !may_replace(session))) {
        committing->status = -EACCES; /* taken while the message came */
    }
    committing->count = committing->status == 0 ? count : 0;
    if (committing->count > 0) {
        committing->quota = quota_limit(session->session.mailbox->conf, committing->place.owner,
                                        committing->place.name);
    }
    commit_all(session, committing);
    imap_session_begin(session);
}
