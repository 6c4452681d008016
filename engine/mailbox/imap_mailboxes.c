/* CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE, and the quota that is one for all of a user's mailboxes. */
#include "engine/mailbox/imap_session.h"

#define LINE_BYTES_MAX (64u * 1024)

void imap_name_write(const struct imap_session *session, struct imap_writer *writer,
                     struct slice name)
{
    struct arena arena;
    struct slice utf7;
    if (imap_session_utf8(session)) {
        imap_write_astring(writer, name);
        return;
    }
    arena_open(&arena, 16u * 1024);
    if (imap_utf7_encode(&arena, name, &utf7)) {
        imap_write_astring(writer, utf7);
    } else {
        writer->failed = true;
    }
    arena_close(&arena);
}

/* ---- Changes ---- */

static bool is_inbox(struct slice name)
{
    return slice_equal_nocase(name, slice_text("INBOX"));
}

static enum imap_step created(struct imap_session *session, struct imap_change *change)
{
    char code[48];
    if (change->status != 0) {
        return imap_session_refuse(session, change->status);
    }
    snprintf(code, sizeof(code), "MAILBOXID (F%016llx)", (unsigned long long)change->create.box);
    const struct imap_answer answer = {.result = IMAP_OK, .code = slice_text(code)};
    return imap_session_answer(session, &answer);
}

void imap_create(struct imap_session *session, const struct imap_mailbox *mailbox)
{
    if (mailbox->special_use & (IMAP_USE_UNKNOWN | IMAP_USE_ALL | IMAP_USE_FLAGGED)) {
        imap_session_no(session, "USEATTR", "No mailbox can be used so");
        return;
    }
    if (is_inbox(mailbox->name) || mailstore_box_find(session->user, mailbox->name) != NULL) {
        imap_session_refuse(session, -EEXIST);
        return;
    }
    if (imap_name_has_wildcard(mailbox->name)) {
        imap_session_no(session, "CANNOT", "Wildcards cannot be in a name");
        return;
    }
    struct imap_change *change = imap_change_new(session, created);
    if (change != NULL) {
        change->create = (struct mailstore_create){.mailbox = mailbox->name,
                                                   .special_use = mailbox->special_use};
        int status = mailstore_box_create(imap_session_store(session), session->user,
                                          &change->create, &change->waiter);
        imap_change_begin(session, change, status);
    }
}

void imap_delete(struct imap_session *session, const struct imap_mailbox *mailbox)
{
    struct mailstore_box *box = mailstore_box_find(session->user, mailbox->name);
    if (is_inbox(mailbox->name)) {
        imap_session_no(session, "CANNOT", "INBOX stays");
        return;
    }
    if (box == NULL) {
        imap_session_refuse(session, -ENOENT);
        return;
    }
    struct imap_change *change = imap_change_new(session, NULL);
    if (change != NULL) {
        int status = mailstore_box_delete(imap_session_store(session), box, &change->waiter);
        imap_change_begin(session, change, status);
    }
}

/* A name that only has mailboxes below it, which LIST shows as \Noselect. */
static bool is_parent(const struct imap_session *session, struct slice name)
{
    struct mailstore_box *box = NULL;
    while ((box = mailstore_box_next(session->user, box)) != NULL) {
        if (box->name.size > name.size && box->name.bytes[name.size] == IMAP_SEPARATOR &&
            slice_equal(slice_first(box->name, name.size), name)) {
            return true;
        }
    }
    return false;
}

void imap_rename(struct imap_session *session, const struct imap_rename *rename)
{
    struct mailstore_box *box = mailstore_box_find(session->user, rename->from);
    bool is_there = box != NULL || (!is_inbox(rename->from) && is_parent(session, rename->from));
    if (!is_there || is_inbox(rename->to) ||
        mailstore_box_find(session->user, rename->to) != NULL) {
        imap_session_refuse(session, !is_there ? -ENOENT : -EEXIST);
        return;
    }
    if (imap_name_has_wildcard(rename->to)) {
        imap_session_no(session, "CANNOT", "Wildcards cannot be in a name");
        return;
    }
    struct imap_change *change = imap_change_new(session, NULL);
    if (change != NULL) {
        struct mailstore *store = imap_session_store(session);
        int status = box != NULL ? mailstore_box_rename(store, box, rename->to, &change->waiter)
                                 : mailstore_names_rename(store, session->user, rename->from,
                                                          rename->to, &change->waiter);
        imap_change_begin(session, change, status);
    }
}

void imap_subscribe(struct imap_session *session, struct slice name, bool subscribed)
{
    struct imap_change *change = imap_change_new(session, NULL);
    if (change != NULL) {
        int status = mailstore_subscribe(imap_session_store(session), session->user, name,
                                         subscribed, &change->waiter);
        imap_change_begin(session, change, status);
    }
}

/* ---- STATUS ---- */

void imap_status_write(const struct imap_session *session, struct imap_writer *writer,
                       const struct mailstore_box *box, uint32_t items)
{
    const struct {
        uint32_t item;
        const char *word;
        uint64_t number;
    } numbers[] = {
        {IMAP_STATUS_MESSAGES, "MESSAGES ", box->count},
        {IMAP_STATUS_RECENT, "RECENT ", 0},
        {IMAP_STATUS_UIDNEXT, "UIDNEXT ", box->uidnext},
        {IMAP_STATUS_UIDVALIDITY, "UIDVALIDITY ", box->uidvalidity},
        {IMAP_STATUS_UNSEEN, "UNSEEN ", box->unseen_count},
        {IMAP_STATUS_DELETED, "DELETED ", box->deleted_count},
        {IMAP_STATUS_SIZE, "SIZE ", box->bytes},
        {IMAP_STATUS_HIGHESTMODSEQ, "HIGHESTMODSEQ ", box->modseq},
        {IMAP_STATUS_APPENDLIMIT, "APPENDLIMIT ", session->settings.append_bytes_max},
    };
    const char *blank = "";
    imap_write(writer, "* STATUS ");
    imap_name_write(session, writer, box->name);
    imap_write(writer, " (");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (items & numbers[i].item) {
            imap_write(writer, blank);
            imap_write(writer, numbers[i].word);
            imap_write_number(writer, numbers[i].number);
            blank = " ";
        }
    }
    if (items & IMAP_STATUS_MAILBOXID) {
        char id[48];
        snprintf(id, sizeof(id), "%sMAILBOXID (F%016llx)", blank, (unsigned long long)box->id);
        imap_write(writer, id);
    }
    imap_write(writer, ")\r\n");
}

void imap_status(struct imap_session *session, const struct imap_status *status)
{
    const struct mailstore_box *box = mailstore_box_find(session->user, status->mailbox);
    if (box == NULL) {
        imap_session_refuse(session, -ENOENT);
        return;
    }
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_status_write(session, &writer, box, status->items);
    bool good = imap_session_send(session, &writer);
    imap_writer_close(&writer);
    if (good) {
        imap_session_ok(session);
    } else {
        imap_session_refuse(session, -ENOMEM);
    }
}

void imap_namespace(struct imap_session *session)
{
    imap_session_write(session, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    imap_session_ok(session);
}

/* ---- QUOTA, RFC 9208: one root, "" ---- */

static void quota_write(struct imap_session *session, struct imap_writer *writer)
{
    uint64_t limit = session->session.mailbox->conf->users.quota_bytes;
    imap_write(writer, "* QUOTA \"\" (");
    if (limit != 0) {
        imap_write(writer, "STORAGE ");
        imap_write_number(writer, (session->user->totals.bytes + 1023) / 1024);
        imap_write(writer, " ");
        imap_write_number(writer, limit / 1024);
    }
    imap_write(writer, ")\r\n");
}

static void quota_answer(struct imap_session *session, struct imap_writer *writer)
{
    quota_write(session, writer);
    bool good = imap_session_send(session, writer);
    imap_writer_close(writer);
    if (good) {
        imap_session_ok(session);
    } else {
        imap_session_refuse(session, -ENOMEM);
    }
}

void imap_quota_get(struct imap_session *session, struct slice root)
{
    struct imap_writer writer;
    if (root.size > 0) {
        imap_session_no(session, "NONEXISTENT", "No such quota root");
        return;
    }
    imap_writer_open(&writer, LINE_BYTES_MAX);
    quota_answer(session, &writer);
}

void imap_quota_root(struct imap_session *session, struct slice mailbox)
{
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "* QUOTAROOT ");
    imap_name_write(session, &writer, mailbox);
    imap_write(&writer, " \"\"\r\n");
    quota_answer(session, &writer);
}
