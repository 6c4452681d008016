/* SELECT, EXAMINE, CLOSE, UNSELECT (RFC 9051 §6.3.2, §6.4.1), and SELECT ... (QRESYNC ...) of RFC 7162 §3.2.5. */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (64u * 1024)
#define ENTRIES_A_STEP 5000u

static void view_changed(struct view *view)
{
    struct imap_session *session = list_entry(view, struct imap_session, view);
    if (session->idling || session->notify != NULL || imap_access_is_stale(session)) {
        imap_session_later(session);
    }
}

void imap_deselect(struct imap_session *session)
{
    view_close(&session->view);
    imap_abroad_deselect(session);
    imap_notify_deselected(session);
    imap_contexts_end(session);
    free(session->saved);
    session->saved = NULL;
    session->saved_count = 0;
}

/* The first message without \Seen; 0: none. */
static uint32_t first_unseen(const struct mailstore_box *box)
{
    for (uint32_t i = 0; box->unseen_count > 0 && i < box->count; i++) {
        if ((box->entries[i].flags & MAILSTORE_SEEN) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static void code_write(struct imap_writer *writer, const char *code, uint64_t number,
                       const char *text)
{
    imap_write(writer, "* OK [");
    imap_write(writer, code);
    imap_write_number(writer, number);
    imap_write(writer, "] ");
    imap_write(writer, text);
    imap_write(writer, "\r\n");
}

static bool box_tell(struct imap_session *session)
{
    const struct mailstore_box *box = session->view.box;
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_flags_of_box(session, &writer, !session->read_only);
    if (session->read_only) {
        imap_write(&writer, "* OK [PERMANENTFLAGS ()] Nothing can be stored\r\n");
    }
    imap_write(&writer, "* ");
    imap_write_number(&writer, session->view.count);
    imap_write(&writer, " EXISTS\r\n");
    if (imap_session_has(session, IMAP_ENABLED_REV2)) { /* RFC 9051 §6.3.2 */
        imap_write(&writer, "* LIST () \"/\" ");
        imap_box_name_write(session, &writer, box);
        imap_write(&writer, "\r\n");
    } else {
        uint32_t unseen = first_unseen(box);
        imap_write(&writer, "* 0 RECENT\r\n");
        if (unseen > 0) {
            code_write(&writer, "UNSEEN ", unseen, "First unseen");
        }
    }
    code_write(&writer, "UIDVALIDITY ", box->uidvalidity, "UIDs valid");
    code_write(&writer, "UIDNEXT ", box->uidnext, "Predicted next UID");
    code_write(&writer, "HIGHESTMODSEQ ", box->modseq, "Highest");
    char id[80];
    snprintf(id, sizeof(id), "* OK [MAILBOXID (F%016llx)] Ok\r\n", (unsigned long long)box->id);
    imap_write(&writer, id);
    bool good = imap_session_send(session, &writer);
    imap_writer_close(&writer);
    return good;
}

static enum imap_step selected(struct imap_session *session)
{
    bool read_only = session->read_only || (session->rights & IMAP_RIGHTS_CHANGE) == 0;
    const struct imap_answer answer = {
        .result = IMAP_OK,
        .code = slice_text(read_only ? "READ-ONLY" : "READ-WRITE"),
    };
    return imap_session_answer(session, &answer);
}

/* ---- QRESYNC ---- */

struct resync {
    struct imap_task task;
    const struct imap_select *select;
    uint32_t index; /* of entries */
};

static enum imap_step resync_step(struct imap_session *session, struct imap_task *task)
{
    struct resync *resync = (struct resync *)task;
    const struct imap_select *select = resync->select;
    const struct mailstore_box *box = session->view.box;
    struct imap_writer writer;
    uint32_t end = view_uid(&session->view, session->view.count);
    uint32_t start = resync->index;
    bool over = true;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    /* What changes meanwhile is told by view_sync besides. */
    for (uint32_t i = start; i < box->count && box->entries[i].uid <= end; i++) {
        const struct mailstore_entry *entry = &box->entries[i];
        if (i - start == ENTRIES_A_STEP) {
            over = false;
            break;
        }
        resync->index = i + 1;
        if (entry->modseq > select->mod_sequence &&
            (!select->known_uids_given ||
             imap_set_contains(&select->known_uids, entry->uid, end))) {
            imap_sync_flags(session, &writer, view_number(&session->view, entry->uid), entry, true,
                            true);
            if (!imap_session_send(session, &writer)) {
                session->outbox.failed = true;
            }
        }
    }
    imap_writer_close(&writer);
    return over ? selected(session) : IMAP_STEP_MORE;
}

static void resync_begin(struct imap_session *session, const struct imap_select *select)
{
    struct resync *resync =
        (struct resync *)imap_session_task(session, sizeof(*resync), resync_step);
    if (resync != NULL) {
        resync->select = select;
        /* Its numbers, from which less could be told, need not be looked at (RFC 7162 §3.2.5.2). */
        imap_vanished_write(session, select->mod_sequence,
                            select->known_uids_given ? &select->known_uids : NULL);
        imap_session_begin(session);
    }
}

/* ---- SELECT ---- */

struct selecting {
    struct imap_task task;
    const struct imap_select *select;
    bool read_only;
};

/* -EINPROGRESS: it is being loaded, and asked for again by its name: it may be another one then, or none. */
static int box_enter(struct imap_session *session, const struct imap_select *select)
{
    struct imap_place place;
    struct mailstore *store = imap_session_store(session);
    int status = imap_place_find_with(session, select->mailbox, IMAP_RIGHT_READ, &place);
    if (status != 0) {
        return status;
    }
    uint32_t rights = place.rights;
    status = mailstore_box_load(store, place.box);
    if (status == 0) {
        session->view.changed = view_changed;
        status = view_open(&session->view, store, place.box);
    }
    imap_place_leave(session, &place); /* an open mailbox keeps its user */
    if (status == 0) {
        imap_access_begin(session, rights);
    }
    return status;
}

static void entered(struct imap_session *session, const struct imap_select *select, bool read_only)
{
    const struct mailstore_box *box = session->view.box;
    session->read_only = read_only;
    if (!box_tell(session)) {
        imap_deselect(session);
        imap_session_refuse(session, -ENOMEM);
    } else if (select->qresync && select->uid_validity == box->uidvalidity &&
               select->mod_sequence < box->modseq) {
        resync_begin(session, select);
    } else {
        selected(session);
    }
}

static enum imap_step selecting_step(struct imap_session *session, struct imap_task *task)
{
    const struct selecting selecting = *(struct selecting *)task;
    int status = box_enter(session, selecting.select);
    if (status == -EINPROGRESS) {
        return IMAP_STEP_MORE;
    }
    if (status != 0) {
        return imap_session_refuse(session, status);
    }
    imap_task_end(session); /* another one may follow */
    entered(session, selecting.select, selecting.read_only);
    return IMAP_STEP_ANSWERED;
}

void imap_select(struct imap_session *session, const struct imap_select *select, bool read_only)
{
    imap_deselect(session);
    int status = box_enter(session, select);
    if (status == -EINPROGRESS) {
        struct selecting *selecting =
            (struct selecting *)imap_session_task(session, sizeof(*selecting), selecting_step);
        if (selecting != NULL) {
            selecting->select = select;
            selecting->read_only = read_only;
            imap_session_later(session);
        }
    } else if (status != 0) {
        imap_session_refuse(session, status);
    } else {
        entered(session, select, read_only);
    }
}

/* ---- CLOSE, UNSELECT ---- */

static enum imap_step closed(struct imap_session *session, struct imap_change *change)
{
    char code[40];
    imap_deselect(session);
    if (!imap_session_has(session, IMAP_ENABLED_QRESYNC) || change->status != 0 ||
        change->expunge.modseq == 0) {
        return imap_session_ok(session); /* it is closed, whatever became of what was deleted */
    }
    snprintf(code, sizeof(code), "HIGHESTMODSEQ %llu", (unsigned long long)change->expunge.modseq);
    const struct imap_answer answer = {.result = IMAP_OK, .code = slice_text(code)};
    return imap_session_answer(session, &answer);
}

void imap_close(struct imap_session *session)
{
    if (session->read_only || (session->rights & IMAP_RIGHT_EXPUNGE) == 0 ||
        session->view.box->deleted_count == 0) {
        imap_unselect(session);
        return;
    }
    struct imap_change *change = imap_change_new(session, closed);
    if (change == NULL) {
        return;
    }
    struct imap_messages messages = {
        .set = {.ranges = &(struct imap_range){1, UINT32_MAX}, .count = 1}, .by_uid = true};
    int status = imap_messages_uids(session, &messages, &change->uids, &change->uid_count);
    if (status == 0 && change->uid_count > 0) {
        change->expunge = (struct mailstore_expunge){
            .uids = change->uids, .uid_count = change->uid_count, .deleted_only = true};
        status = mailstore_expunge(imap_session_store(session), session->view.box, &change->expunge,
                                   &change->waiter);
        imap_change_begin(session, change, status);
        return;
    }
    imap_change_begin(session, change, -ENOMEM);
}

void imap_unselect(struct imap_session *session)
{
    imap_deselect(session);
    imap_session_ok(session);
}
