/* CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE, and the quota that is one for all of a user's mailboxes. */
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/quota.h"

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

/* 0; -EEXIST, if that may be known; -EACCES. */
static int place_may_be_made(struct imap_session *session, const struct imap_place *place)
{
    bool known = place->owner == session->user || (place->rights & IMAP_RIGHT_LOOKUP);
    if (place->owner != NULL && known && (place->box != NULL || is_inbox(place->name))) {
        return -EEXIST;
    }
    return imap_place_may_create(session, place);
}

void imap_create(struct imap_session *session, const struct imap_mailbox *mailbox)
{
    if (mailbox->special_use & (IMAP_USE_UNKNOWN | IMAP_USE_ALL | IMAP_USE_FLAGGED)) {
        imap_session_no(session, "USEATTR", "No mailbox can be used so");
        return;
    }
    if (imap_name_has_wildcard(mailbox->name)) {
        imap_session_no(session, "CANNOT", "Wildcards cannot be in a name");
        return;
    }
    struct imap_place place;
    int status = imap_place_find(session, mailbox->name, &place);
    status = status == 0 ? place_may_be_made(session, &place) : status;
    if (status == 0 && mailbox->special_use != 0 && place.owner != session->user) {
        imap_place_leave(session, &place);
        imap_session_no(session, "USEATTR", "The owner alone says what it is for");
        return;
    }
    struct imap_change *change = status == 0 ? imap_change_new(session, created) : NULL;
    if (change != NULL) {
        change->create =
            (struct mailstore_create){.mailbox = place.name, .special_use = mailbox->special_use};
        status = mailstore_box_create(imap_session_store(session), place.owner, &change->create,
                                      &change->waiter);
        imap_change_hold(session, change, &place);
        imap_change_begin(session, change, status);
    } else if (status != 0) {
        imap_session_refuse(session, status);
    }
    imap_place_leave(session, &place);
}

void imap_delete(struct imap_session *session, const struct imap_mailbox *mailbox)
{
    struct imap_place place;
    if (is_inbox(mailbox->name)) {
        imap_session_no(session, "CANNOT", "INBOX stays");
        return;
    }
    int status = imap_place_find_with(session, mailbox->name, IMAP_RIGHT_DELETE, &place);
    if (status != 0) {
        imap_session_refuse(session, status);
        return;
    }
    if (is_inbox(place.name)) {
        imap_place_leave(session, &place);
        imap_session_no(session, "CANNOT", "INBOX stays");
        return;
    }
    struct imap_change *change = imap_change_new(session, NULL);
    if (change != NULL) {
        status = mailstore_box_delete(imap_session_store(session), place.box, &change->waiter);
        imap_change_hold(session, change, &place);
        imap_change_begin(session, change, status);
    }
    imap_place_leave(session, &place);
}

/* A name of his own that only has mailboxes below it, which LIST shows as \Noselect. */
static bool is_parent(const struct imap_session *session, const struct imap_place *place)
{
    struct slice name = place->name;
    if (place->owner != session->user || place->box != NULL || is_inbox(name)) {
        return false;
    }
    for (struct mailstore_box *box = mailstore_box_next(session->user, NULL); box != NULL;
         box = mailstore_box_next(session->user, box)) {
        if (box->name.size > name.size && box->name.bytes[name.size] == IMAP_SEPARATOR &&
            slice_equal(slice_first(box->name, name.size), name)) {
            return true;
        }
    }
    return false;
}

/* Both are found. -EXDEV: the new name is another user's. */
static int rename_check(struct imap_session *session, const struct imap_place *from,
                        const struct imap_place *to)
{
    bool no_mail = from->owner == session->user && from->box == NULL && is_inbox(from->name);
    if (no_mail) { /* INBOX is always there */
        return to->owner != session->user ? -EXDEV : place_may_be_made(session, to);
    }
    if (is_parent(session, from)) {
        bool taken = to->box != NULL || is_inbox(to->name);
        return to->owner != session->user ? -EXDEV : taken ? -EEXIST : 0;
    }
    int status = imap_place_need(from, 0);
    if (status == 0 && from->owner == session->user && to->owner == session->user &&
        (to->box != NULL || is_inbox(to->name))) {
        return -EEXIST;
    }
    status = status == 0 ? imap_place_need(from, IMAP_RIGHT_DELETE) : status;
    if (status == 0 && from->owner != to->owner) {
        return -EXDEV;
    }
    return status == 0 ? place_may_be_made(session, to) : status;
}

void imap_rename(struct imap_session *session, const struct imap_rename *rename)
{
    struct imap_place from, to = {.box = NULL};
    if (imap_name_has_wildcard(rename->to)) {
        imap_session_no(session, "CANNOT", "Wildcards cannot be in a name");
        return;
    }
    int status = imap_place_find(session, rename->from, &from);
    status = status == 0 ? imap_place_find(session, rename->to, &to) : status;
    status = status == 0 ? rename_check(session, &from, &to) : status;
    struct imap_change *change = status == 0 ? imap_change_new(session, NULL) : NULL;
    if (change != NULL) {
        struct mailstore *store = imap_session_store(session);
        status = from.box != NULL ? mailstore_box_rename(store, from.box, to.name, &change->waiter)
                                  : mailstore_names_rename(store, from.owner, from.name, to.name,
                                                           &change->waiter);
        imap_change_hold(session, change, &from);
        imap_change_begin(session, change, status);
    } else if (status == -EXDEV) {
        imap_session_no(session, "CANNOT", "A mailbox stays with its owner");
    } else if (status != 0) {
        imap_session_refuse(session, status);
    }
    imap_place_leave(session, &from);
    imap_place_leave(session, &to);
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

const char *imap_status_word(uint32_t item)
{
    static const struct {
        uint32_t item;
        const char *word;
    } words[] = {
        {IMAP_STATUS_MESSAGES, "MESSAGES"},
        {IMAP_STATUS_RECENT, "RECENT"},
        {IMAP_STATUS_UIDNEXT, "UIDNEXT"},
        {IMAP_STATUS_UIDVALIDITY, "UIDVALIDITY"},
        {IMAP_STATUS_UNSEEN, "UNSEEN"},
        {IMAP_STATUS_DELETED, "DELETED"},
        {IMAP_STATUS_DELETED_STORAGE, "DELETED-STORAGE"},
        {IMAP_STATUS_SIZE, "SIZE"},
        {IMAP_STATUS_HIGHESTMODSEQ, "HIGHESTMODSEQ"},
        {IMAP_STATUS_APPENDLIMIT, "APPENDLIMIT"},
        {IMAP_STATUS_MAILBOXID, "MAILBOXID"},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i].item == item) {
            return words[i].word;
        }
    }
    return NULL;
}

void imap_status_write(const struct imap_session *session, struct imap_writer *writer,
                       const struct mailstore_box *box, uint32_t items)
{
    char text[IMAP_SHARED_NAME_BYTES];
    struct slice name = slice_of(text, imap_box_name(session, box, text));
    imap_status_write_named(session, writer, name, box, items);
}

void imap_status_write_named(const struct imap_session *session, struct imap_writer *writer,
                             struct slice name, const struct mailstore_box *box, uint32_t items)
{
    const struct {
        uint32_t item;
        uint64_t number;
    } numbers[] = {
        {IMAP_STATUS_MESSAGES, box->count},
        {IMAP_STATUS_RECENT, 0},
        {IMAP_STATUS_UIDNEXT, box->uidnext},
        {IMAP_STATUS_UIDVALIDITY, box->uidvalidity},
        {IMAP_STATUS_UNSEEN, box->unseen_count},
        {IMAP_STATUS_DELETED, box->deleted_count},
        {IMAP_STATUS_DELETED_STORAGE, box->deleted_bytes},
        {IMAP_STATUS_SIZE, box->bytes},
        {IMAP_STATUS_HIGHESTMODSEQ, box->modseq},
        {IMAP_STATUS_APPENDLIMIT, session->settings.append_bytes_max},
    };
    const char *blank = "";
    imap_write(writer, "* STATUS ");
    imap_name_write(session, writer, name);
    imap_write(writer, " (");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (items & numbers[i].item) {
            imap_write(writer, blank);
            imap_write(writer, imap_status_word(numbers[i].item));
            imap_write(writer, " ");
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
    struct imap_place place;
    struct imap_writer writer;
    int found = imap_place_find_with(session, status->mailbox, IMAP_RIGHT_READ, &place);
    if (found != 0) {
        imap_session_refuse(session, found);
        return;
    }
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_status_write(session, &writer, place.box, status->items);
    imap_place_leave(session, &place);
    imap_session_ok_with(session, &writer);
}

void imap_namespace(struct imap_session *session)
{
    struct slice root = imap_shared_root(session);
    struct imap_writer writer;
    if (root.size == 0) {
        imap_session_write(session, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
        imap_session_ok(session);
        return;
    }
    imap_writer_open(&writer, LINE_BYTES_MAX);
    imap_write(&writer, "* NAMESPACE ((\"\" \"/\")) ((\"");
    imap_write_bytes(&writer, root);
    imap_write(&writer, "/\" \"/\")) NIL\r\n");
    imap_session_ok_with(session, &writer);
}

/* ---- QUOTA, RFC 9208: one root, "" ---- */

static void quota_write(struct imap_session *session, struct imap_writer *writer)
{
    const struct mailboxd_conf *conf = session->session.mailbox->conf;
    struct quota used = quota_used(conf, session->user);
    imap_write(writer, "* QUOTA \"\" (");
    if (conf->users.quota_bytes != 0) {
        imap_write(writer, "STORAGE ");
        imap_write_number(writer, (used.bytes + 1023) / 1024);
        imap_write(writer, " ");
        imap_write_number(writer, conf->users.quota_bytes / 1024);
    }
    if (conf->users.quota_messages != 0) {
        imap_write(writer, conf->users.quota_bytes != 0 ? " MESSAGE " : "MESSAGE ");
        imap_write_number(writer, used.messages);
        imap_write(writer, " ");
        imap_write_number(writer, conf->users.quota_messages);
    }
    imap_write(writer, ")\r\n");
}

void imap_quota_get(struct imap_session *session, struct slice root)
{
    struct imap_writer writer;
    if (root.size > 0) {
        imap_session_no(session, "NONEXISTENT", "No such quota root");
        return;
    }
    imap_writer_open(&writer, LINE_BYTES_MAX);
    quota_write(session, &writer);
    imap_session_ok_with(session, &writer);
}

/* What another user has, and may have, is his own affair: his mailboxes have no root that could be asked for. */
void imap_quota_root(struct imap_session *session, struct slice mailbox)
{
    struct imap_place place;
    struct imap_writer writer;
    int status = imap_place_find(session, mailbox, &place);
    bool own = place.owner == session->user;
    status = status == 0 && !own ? imap_place_need(&place, IMAP_RIGHT_READ) : status;
    imap_place_leave(session, &place);
    if (status != 0) {
        imap_session_refuse(session, status);
        return;
    }
    imap_writer_open(&writer, LINE_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "* QUOTAROOT ");
    imap_name_write(session, &writer, mailbox);
    imap_write(&writer, own ? " \"\"\r\n" : "\r\n");
    if (own) {
        quota_write(session, &writer);
    }
    imap_session_ok_with(session, &writer);
}
