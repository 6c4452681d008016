/* STORE, COPY, MOVE, EXPUNGE (RFC 9051 §6.4, RFC 4315, RFC 6851, RFC 7162 §3.1.3). */
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/quota.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (4u * 1024 * 1024)
#define MESSAGES_A_STEP 2000u

uint8_t imap_flags_of(uint32_t system)
{
    static const struct {
        uint32_t of;
        uint8_t is;
    } bits[] = {{IMAP_FLAG_SEEN, MAILSTORE_SEEN},
                {IMAP_FLAG_ANSWERED, MAILSTORE_ANSWERED},
                {IMAP_FLAG_FLAGGED, MAILSTORE_FLAGGED},
                {IMAP_FLAG_DELETED, MAILSTORE_DELETED},
                {IMAP_FLAG_DRAFT, MAILSTORE_DRAFT}};
    uint8_t flags = 0;
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        if (system & bits[i].of) {
            flags |= bits[i].is;
        }
    }
    return flags;
}

static bool refuses_changes(struct imap_session *session, uint32_t rights)
{
    if (session->read_only) {
        imap_session_no(session, "NOPERM", "The mailbox is selected read-only");
        return true;
    }
    if ((session->rights & rights) != rights) {
        imap_session_refuse(session, -EACCES);
        return true;
    }
    return false;
}

/* The messages of a set, as a change takes them. NULL: answered. */
static struct imap_change *
change_of(struct imap_session *session, const struct imap_set *set, bool by_uid,
          enum imap_step (*told)(struct imap_session *, struct imap_change *))
{
    struct imap_messages messages;
    if (!imap_messages_open(session, &messages, set, by_uid)) {
        return NULL;
    }
    struct imap_change *change = imap_change_new(session, told);
    if (change == NULL) {
        return NULL;
    }
    int status = imap_messages_uids(session, &messages, &change->uids, &change->uid_count);
    if (status != 0) {
        imap_session_refuse(session, status);
        return NULL;
    }
    if (change->uid_count == 0) { /* of uids that are not there: nothing is to be done */
        imap_session_ok(session);
        return NULL;
    }
    return change;
}

/* ---- STORE ---- */

struct storing {
    struct imap_change change; /* first */
    const struct imap_command *command;
    struct imap_messages messages;
    bool telling;
};

static void flags_free(struct imap_change *change)
{
    free(change->flags.failed);
}

/* The messages that were not changed, as the client names them. */
static void modified_write(const struct imap_session *session, const struct imap_change *change,
                           bool by_uid, struct imap_writer *writer)
{
    const char *comma = "";
    imap_write(writer, "MODIFIED ");
    for (uint32_t i = 0; i < change->flags.failed_count; i++) {
        struct mailstore_uids range = change->flags.failed[i];
        if (!by_uid) {
            range.first = view_number_from(&session->view, range.first);
            range.last = view_number_from(&session->view, range.last);
        }
        imap_write(writer, comma);
        imap_write_number(writer, range.first);
        if (range.last > range.first) {
            imap_write(writer, ":");
            imap_write_number(writer, range.last);
        }
        comma = ",";
    }
}

static enum imap_step stored(struct imap_session *session, struct storing *storing)
{
    struct imap_writer writer;
    struct imap_answer answer = {.result = IMAP_OK};
    imap_writer_open(&writer, IMAP_CODE_BYTES_MAX);
    if (storing->change.flags.failed_count > 0) {
        modified_write(session, &storing->change, storing->command->uid, &writer);
        answer.code = imap_writer_bytes(&writer);
        answer.text = slice_text("Some were changed by others");
    }
    enum imap_step step = imap_session_answer(session, &answer);
    imap_writer_close(&writer);
    return step;
}

/* The flags as they are now, of all that were named: a client may count on the answer (RFC 9051 §6.4.6). */
static enum imap_step flags_tell(struct imap_session *session, struct storing *storing)
{
    const struct imap_store *store = &storing->command->store;
    bool condstore = imap_session_has(session, IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC);
    bool uid = storing->command->uid || imap_session_has(session, IMAP_ENABLED_QRESYNC);
    uint32_t number = store->silent && !condstore ? 0 : UINT32_MAX;
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    for (unsigned i = 0; number != 0 && i < MESSAGES_A_STEP; i++) {
        number = imap_messages_next(session, &storing->messages);
        const struct mailstore_entry *entry =
            number != 0 ? view_entry(&session->view, number) : NULL;
        if (entry != NULL && (!store->silent || entry->modseq == storing->change.flags.modseq)) {
            imap_sync_flags(session, &writer, number, entry, uid, !store->silent);
        }
    }
    if (!imap_session_send(session, &writer)) {
        session->outbox.failed = true;
    }
    imap_writer_close(&writer);
    return number != 0 ? IMAP_STEP_MORE : stored(session, storing);
}

static enum imap_step store_told(struct imap_session *session, struct imap_change *change)
{
    struct storing *storing = (struct storing *)change;
    if (change->status != 0) {
        return imap_session_refuse(session, change->status);
    }
    if (!storing->telling && imap_access_lost(session)) {
        return stored(session, storing); /* it was done, but the flags are not for him to see */
    }
    if (!storing->telling) {
        storing->telling = true;
        storing->change.task.is_change = false; /* from here on it tells what is in the mailbox */
        if (change->flags.modseq != 0) {
            view_told(&session->view, change->flags.modseq);
        }
    }
    return flags_tell(session, storing);
}

static enum imap_step storing_step(struct imap_session *session, struct imap_task *task)
{
    struct imap_change *change = (struct imap_change *)task;
    return change->done ? store_told(session, change) : IMAP_STEP_WAIT;
}

/* Only what the user has the right to (RFC 4314 §4). False: that is nothing of it. */
static bool flags_allow(const struct imap_session *session, struct mailstore_flags *flags)
{
    uint8_t allowed = imap_flags_allowed(session->rights);
    bool keywords = allowed & MAILSTORE_FLAGGED;
    bool asks = flags->flags != 0 || flags->keyword_count > 0;
    flags->flags &= allowed;
    flags->keyword_count = keywords ? flags->keyword_count : 0;
    if (flags->op == MAILSTORE_REPLACE) {
        flags->flags_kept = MAILSTORE_FLAGS_ALL & ~allowed;
        flags->keywords_kept = !keywords;
        return allowed != 0;
    }
    return !asks || flags->flags != 0 || flags->keyword_count > 0;
}

void imap_store(struct imap_session *session, const struct imap_command *command)
{
    static const enum mailstore_flags_op ops[] = {[IMAP_STORE_SET] = MAILSTORE_REPLACE,
                                                  [IMAP_STORE_ADD] = MAILSTORE_ADD,
                                                  [IMAP_STORE_REMOVE] = MAILSTORE_REMOVE};
    const struct imap_store *store = &command->store;
    if (refuses_changes(session, 0)) {
        return;
    }
    struct imap_change *made = change_of(session, &store->set, command->uid, store_told);
    if (made == NULL) {
        return;
    }
    struct storing *storing = (struct storing *)realloc(made, sizeof(*storing));
    if (storing == NULL) {
        imap_session_refuse(session, -ENOMEM);
        return;
    }
    session->task = &storing->change.task;
    storing->change.task.step = storing_step;
    storing->change.free = flags_free;
    storing->command = command;
    storing->telling = false;
    imap_messages_open(session, &storing->messages, &store->set, command->uid);
    storing->change.flags = (struct mailstore_flags){
        .uids = storing->change.uids,
        .uid_count = storing->change.uid_count,
        .op = ops[store->mode],
        .flags = imap_flags_of(store->flags.system),
        .keywords = store->flags.keywords.items,
        .keyword_count = store->flags.keywords.count,
        .unchanged_since = store->unchanged_since_given ? store->unchanged_since : MAILSTORE_ALWAYS,
    };
    int status = -EACCES;
    if (flags_allow(session, &storing->change.flags)) {
        status = mailstore_flags(imap_session_store(session), session->view.box,
                                 &storing->change.flags, &storing->change.waiter);
    }
    imap_change_begin(session, &storing->change, status);
}

/* ---- COPY, MOVE ---- */

static void copy_free(struct imap_change *change)
{
    free(change->copy.sources);
}

/* "COPYUID 1 3:5 7:9" */
static void copyuid_write(const struct mailstore_copy *copy, struct imap_writer *writer)
{
    imap_write(writer, "COPYUID ");
    imap_write_number(writer, copy->target_uidvalidity);
    for (uint32_t i = 0; i < copy->source_count; i++) {
        imap_write(writer, i == 0 ? " " : ",");
        imap_write_number(writer, copy->sources[i].first);
        if (copy->sources[i].last > copy->sources[i].first) {
            imap_write(writer, ":");
            imap_write_number(writer, copy->sources[i].last);
        }
    }
    imap_write(writer, " ");
    imap_write_number(writer, copy->target_first);
    if (copy->target_last > copy->target_first) {
        imap_write(writer, ":");
        imap_write_number(writer, copy->target_last);
    }
}

static enum imap_step copied(struct imap_session *session, struct imap_change *change)
{
    struct imap_writer writer;
    struct imap_answer answer = {.result = IMAP_OK};
    if (change->status == -ENOENT) {
        return imap_session_no(session, "TRYCREATE", "No such mailbox");
    }
    if (change->status != 0) {
        return imap_session_refuse(session, change->status);
    }
    imap_writer_open(&writer, IMAP_CODE_BYTES_MAX);
    if (change->copy.source_count > 0) {
        imap_notify_put(session, change->copy.target_box, change->copy.target_first,
                        change->copy.target_last);
        copyuid_write(&change->copy, &writer);
        if (!writer.failed) {
            answer.code = imap_writer_bytes(&writer);
        }
    }
    if (change->move && answer.code.size > 0) { /* RFC 6851 §4.3: before the EXPUNGEs */
        imap_session_write(session, "* OK [");
        outbox_write(&session->outbox, answer.code);
        imap_session_write(session, "] Moved\r\n");
        answer.code = slice_of(NULL, 0);
    }
    enum imap_step step = imap_session_answer(session, &answer);
    imap_writer_close(&writer);
    return step;
}

/* Copies come to be with uids in a row. Nothing is known before the change is durable. */
static struct imap_progress copy_progress(const struct imap_session *session,
                                          const struct imap_task *task)
{
    const struct imap_change *change = (const struct imap_change *)task;
    const struct mailstore_copy *copy = &change->copy;
    struct mailstore_user *owner = change->owner != NULL ? change->owner : session->user;
    const struct mailstore_box *target = mailstore_box_by_id(owner, copy->target_box);
    if (copy->target_first == 0 || target == NULL) {
        return (struct imap_progress){.known = false};
    }
    uint32_t goal = copy->target_last - copy->target_first + 1;
    uint32_t done = target->uidnext - copy->target_first;
    return (struct imap_progress){
        .known = true, .done = done < goal ? done : goal - 1, .goal = goal};
}

/* Whether there is a mailbox of one's own is decided when it happens. 0; -ENOENT; -EACCES; not 0: it is left. */
static int target_find(struct imap_session *session, struct slice name, struct imap_place *place)
{
    int status = imap_place_find(session, name, place);
    if (status == 0 && (place->box != NULL || place->owner != session->user)) {
        status = imap_place_need(place, IMAP_RIGHT_INSERT);
    }
    if (status != 0) {
        imap_place_leave(session, place);
    }
    return status;
}

/* Which mailbox is selected, to the session whose agent this is: see imap_abroad_copy.c. */
static void selected_answer(struct imap_session *session)
{
    char code[64];
    const struct mailstore_box *box = session->view.box;
    int size = snprintf(code, sizeof(code), IMAP_SELECTED_CODE " %llu %llu",
                        (unsigned long long)box->user->id, (unsigned long long)box->id);
    const struct imap_answer answer = {.result = IMAP_OK, .code = slice_of(code, (size_t)size)};
    imap_session_answer(session, &answer);
}

void imap_copy(struct imap_session *session, const struct imap_command *command, bool move)
{
    const struct mailbox *mailbox = session->session.mailbox;
    struct mailstore *store = imap_session_store(session);
    /* RFC 6851 §4.3: as COPY, STORE and EXPUNGE */
    if (move && refuses_changes(session, IMAP_RIGHT_DELETED | IMAP_RIGHT_EXPUNGE)) {
        return;
    }
    if (move && session->guest && slice_equal(command->copy.mailbox, slice_text("INBOX"))) {
        selected_answer(session); /* there is none: so asks who is about to take something away */
        return;
    }
    int shard = imap_abroad_shard(session, command->copy.mailbox);
    if (shard >= 0) {
        imap_abroad_copy_from_here(session, command, (unsigned)shard);
        return;
    }
    struct imap_change *change = change_of(session, &command->copy.set, command->uid, copied);
    if (change == NULL) {
        return;
    }
    change->free = copy_free;
    change->move = move;
    change->task.progress = copy_progress;
    struct imap_place place;
    int status = target_find(session, command->copy.mailbox, &place);
    if (status == 0) {
        uint8_t allowed = imap_flags_allowed(place.rights);
        struct quota quota = quota_limit(mailbox->conf, place.owner, place.name);
        change->copy = (struct mailstore_copy){.uids = change->uids,
                                               .uid_count = change->uid_count,
                                               .user = slice_text(place.owner->name),
                                               .mailbox = place.name,
                                               .flags_lost = MAILSTORE_FLAGS_ALL & ~allowed,
                                               .keywords_lost = !(allowed & MAILSTORE_FLAGGED),
                                               .quota_bytes = quota.bytes,
                                               .quota_messages = quota.messages};
        struct mailstore_box *box = session->view.box;
        status = move ? mailstore_move(store, box, &change->copy, &change->waiter)
                      : mailstore_copy(store, box, &change->copy, &change->waiter);
        imap_change_hold(session, change, &place);
        imap_place_leave(session, &place);
    }
    imap_change_begin(session, change, status);
}

/* ---- EXPUNGE ---- */

static enum imap_step expunged(struct imap_session *session, struct imap_change *change)
{
    char code[40];
    struct imap_answer answer = {.result = IMAP_OK};
    if (change->status != 0) {
        return imap_session_refuse(session, change->status);
    }
    if (imap_session_has(session, IMAP_ENABLED_QRESYNC) && change->expunge.modseq != 0) {
        snprintf(code, sizeof(code), "HIGHESTMODSEQ %llu",
                 (unsigned long long)change->expunge.modseq);
        answer.code = slice_text(code);
    }
    return imap_session_answer(session, &answer);
}

void imap_expunge(struct imap_session *session, const struct imap_command *command)
{
    /* Without uids: all that the session knows. */
    const struct imap_range known = {1, UINT32_MAX};
    const struct imap_set all = {.ranges = &known, .count = 1};
    if (refuses_changes(session, IMAP_RIGHT_EXPUNGE)) {
        return;
    }
    struct imap_change *change =
        change_of(session, command->uid ? &command->expunge : &all, true, expunged);
    if (change == NULL) {
        return;
    }
    change->expunge = (struct mailstore_expunge){
        .uids = change->uids, .uid_count = change->uid_count, .deleted_only = true};
    int status = mailstore_expunge(imap_session_store(session), session->view.box, &change->expunge,
                                   &change->waiter);
    imap_change_begin(session, change, status);
}
