/* What a session is told of its mailbox: EXPUNGE or VANISHED, EXISTS, FLAGS, FETCH (RFC 9051 §7.3-§7.5, RFC 7162). */
#include "engine/core/mutation.h"
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (64u * 1024)

static const char *const system_words[] = {"\\Seen", "\\Answered", "\\Flagged", "\\Deleted",
                                           "\\Draft"};
#define SYSTEM_WORDS (sizeof(system_words) / sizeof(system_words[0]))

struct teller {
    struct imap_session *session;
    struct imap_writer writer;
    uint32_t *vanished; /* descending uids; of the heap */
    uint32_t vanished_count, vanished_room;
};

static void teller_send(struct teller *teller)
{
    if (!imap_session_send(teller->session, &teller->writer)) {
        teller->session->outbox.failed = true;
    }
}

static void tell_vanished(struct teller *teller, uint32_t uid)
{
    if (teller->vanished_count == teller->vanished_room) {
        uint32_t room = teller->vanished_room * 2 + 64;
        uint32_t *grown = (uint32_t *)realloc(teller->vanished, room * sizeof(grown[0]));
        if (grown == NULL) {
            teller->session->outbox.failed = true; /* its numbers would be wrong */
            return;
        }
        teller->vanished = grown;
        teller->vanished_room = room;
    }
    teller->vanished[teller->vanished_count++] = uid;
}

static void tell_expunged(void *owner, uint32_t number, uint32_t uid)
{
    struct teller *teller = (struct teller *)owner;
    if (imap_session_has(teller->session, IMAP_ENABLED_QRESYNC)) {
        tell_vanished(teller, uid);
        return;
    }
    imap_write(&teller->writer, "* ");
    imap_write_number(&teller->writer, number - (MUTATED(EXPUNGE_NUMBER_OFF) && number > 1));
    imap_write(&teller->writer, " EXPUNGE\r\n");
    teller_send(teller);
}

/* What has vanished so far, before anything else is told. */
static void vanished_flush(struct teller *teller)
{
    uint32_t count = teller->vanished_count;
    for (uint32_t i = 0; i < count / 2; i++) {
        uint32_t uid = teller->vanished[i];
        teller->vanished[i] = teller->vanished[count - 1 - i];
        teller->vanished[count - 1 - i] = uid;
    }
    for (uint32_t at = 0; at < count; at += 4096) { /* a line has an end */
        uint32_t some = count - at < 4096 ? count - at : 4096;
        imap_write(&teller->writer, "* VANISHED ");
        imap_write_sequence_set(&teller->writer, teller->vanished + at, some);
        imap_write(&teller->writer, "\r\n");
        teller_send(teller);
    }
    teller->vanished_count = 0;
}

static void tell_exists(void *owner, uint32_t count)
{
    struct teller *teller = (struct teller *)owner;
    vanished_flush(teller);
    if (MUTATED(EXISTS_UNTOLD)) {
        return;
    }
    imap_write(&teller->writer, "* ");
    imap_write_number(&teller->writer, count);
    imap_write(&teller->writer, " EXISTS\r\n");
    if (!imap_session_has(teller->session, IMAP_ENABLED_REV2)) {
        imap_write(&teller->writer, "* 0 RECENT\r\n");
    }
    teller_send(teller);
}

static void tell_keywords(void *owner)
{
    struct teller *teller = (struct teller *)owner;
    vanished_flush(teller);
    imap_flags_of_box(teller->session, &teller->writer, !teller->session->read_only);
    teller_send(teller);
}

static void tell_flags(void *owner, uint32_t number, const struct mailstore_entry *entry,
                       bool is_new)
{
    struct teller *teller = (struct teller *)owner;
    if (is_new) { /* the client asks for what it wants to know, or has asked for it by NOTIFY */
        imap_notify_new(teller->session, entry->uid);
        return;
    }
    if (!imap_notify_wants_flags(teller->session) || MUTATED(FLAGS_UNTOLD)) {
        return;
    }
    vanished_flush(teller);
    imap_sync_flags(teller->session, &teller->writer, number, entry,
                    imap_session_has(teller->session, IMAP_ENABLED_QRESYNC) ||
                        imap_notify_wants_uids(teller->session),
                    true);
    teller_send(teller);
}

static void tell_gone(void *owner)
{
    struct teller *teller = (struct teller *)owner;
    vanished_flush(teller);
    imap_write(&teller->writer, "* NO [NONEXISTENT] The mailbox has been deleted\r\n");
    teller_send(teller);
}

/* 0: nothing is to be told. Numbers that the client's own command has moved always are. */
static uint32_t sync_flags(const struct imap_session *session, bool may_expunge)
{
    uint32_t expunge = may_expunge ? VIEW_MAY_EXPUNGE : 0u;
    if (session->notify_silent) {
        return session->expunges ? expunge : 0u;
    }
    return VIEW_MAY_EXIST | expunge;
}

void imap_sync(struct imap_session *session, bool may_expunge)
{
    struct teller teller = {.session = session};
    if (session->view.is_open && session->rights_untold) { /* RFC 4314 §5.1.1 */
        imap_writer_open(&teller.writer, LINE_BYTES_MAX);
        imap_flags_of_box(session, &teller.writer, !session->read_only);
        teller_send(&teller);
        imap_writer_close(&teller.writer);
        session->rights_untold = false;
    }
    if (!session->view.is_open || !view_is_behind(&session->view)) {
        return;
    }
    uint32_t flags = sync_flags(session, may_expunge);
    if (flags == 0) {
        return;
    }
    if ((flags & VIEW_MAY_EXPUNGE) != 0) {
        imap_contexts_expunge(session);
    }
    imap_writer_open(&teller.writer, LINE_BYTES_MAX);
    const struct view_teller tells = {
        .expunged = tell_expunged,
        .exists = tell_exists,
        .keywords = tell_keywords,
        .flags = tell_flags,
        .gone = tell_gone,
        .owner = &teller,
    };
    if (view_sync(&session->view, flags, &tells) != 0) {
        session->outbox.failed = true; /* what the client believes cannot be made right again */
    }
    vanished_flush(&teller);
    free(teller.vanished);
    imap_writer_close(&teller.writer);
}

/* ---- Flags ---- */

void imap_flags_write(struct imap_writer *writer, const struct mailstore_box *box,
                      const struct mailstore_entry *entry)
{
    struct slice words[SYSTEM_WORDS + MAILSTORE_KEYWORDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < SYSTEM_WORDS; i++) {
        if (entry->flags & 1u << i) {
            words[count++] = slice_text(system_words[i]);
        }
    }
    for (uint32_t i = 0; i < box->keyword_count && entry->keywords >> i != 0; i++) {
        if (entry->keywords >> i & 1) {
            words[count++] = mailstore_keyword(box, i);
        }
    }
    imap_write_flags(writer, words, count);
}

void imap_flags_of_box(struct imap_session *session, struct imap_writer *writer, bool permanent)
{
    const struct mailstore_box *box = session->view.box;
    const struct mailstore_entry all = {.flags = MAILSTORE_FLAGS_ALL, .keywords = UINT64_MAX};
    imap_write(writer, "* FLAGS ");
    imap_flags_write(writer, box, &all);
    imap_write(writer, "\r\n");
    if (!permanent) {
        return;
    }
    uint8_t allowed = imap_flags_allowed(session->rights);
    bool keywords = allowed & MAILSTORE_FLAGGED;
    const struct mailstore_entry stored = {.flags = allowed, .keywords = keywords ? UINT64_MAX : 0};
    imap_write(writer, "* OK [PERMANENTFLAGS ");
    imap_flags_write(writer, box, &stored);
    if (keywords && box->keyword_count < MAILSTORE_KEYWORDS_MAX && !writer->failed) {
        writer->size--; /* the parenthesis */
        imap_write(writer, " \\*)");
    }
    imap_write(writer, "] Flags can be stored\r\n");
}

void imap_sync_flags(struct imap_session *session, struct imap_writer *writer, uint32_t number,
                     const struct mailstore_entry *entry, bool uid, bool flags)
{
    const char *blank = "";
    imap_write(writer, "* ");
    imap_write_number(writer, number);
    imap_write(writer, " FETCH (");
    if (uid) {
        imap_write(writer, "UID ");
        imap_write_number(writer, entry->uid);
        blank = " ";
    }
    if (flags) {
        imap_write(writer, blank);
        imap_write(writer, "FLAGS ");
        imap_flags_write(writer, session->view.box, entry);
        blank = " ";
    }
    if (imap_session_has(session, IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC)) {
        imap_write(writer, blank);
        imap_write(writer, "MODSEQ (");
        imap_write_number(writer, entry->modseq);
        imap_write(writer, ")");
    }
    imap_write(writer, ")\r\n");
}

/* ---- QRESYNC: what is gone since ---- */

struct vanishing {
    struct imap_session *session;
    struct imap_writer writer;
    const struct imap_set *known;
    struct imap_set_walk walk; /* through known, as visits ascend */
    struct imap_range at;      /* of known; last 0: there is none any more */
    struct imap_range held;    /* not written yet; last 0: none */
    uint32_t ranges;           /* in this line */
};

static void vanishing_line_end(struct vanishing *vanishing)
{
    if (vanishing->ranges > 0) {
        imap_write(&vanishing->writer, "\r\n");
        vanishing->ranges = 0;
        if (!imap_session_send(vanishing->session, &vanishing->writer)) {
            vanishing->session->outbox.failed = true;
        }
    }
}

static void vanishing_put(struct vanishing *vanishing)
{
    struct imap_writer *writer = &vanishing->writer;
    if (vanishing->held.last == 0) {
        return;
    }
    imap_write(writer, vanishing->ranges++ == 0 ? "* VANISHED (EARLIER) " : ",");
    imap_write_number(writer, vanishing->held.first);
    if (vanishing->held.last > vanishing->held.first) {
        imap_write(writer, ":");
        imap_write_number(writer, vanishing->held.last);
    }
    vanishing->held = (struct imap_range){0, 0};
    if (vanishing->ranges == 1000) {
        vanishing_line_end(vanishing);
    }
}

static void vanishing_add(struct vanishing *vanishing, uint32_t first, uint32_t last)
{
    if (vanishing->held.last != 0 && first <= vanishing->held.last + 1) {
        vanishing->held.last = last > vanishing->held.last ? last : vanishing->held.last;
        return;
    }
    vanishing_put(vanishing);
    vanishing->held = (struct imap_range){first, last};
}

static void known_next(struct vanishing *vanishing)
{
    uint32_t largest = vanishing->session->view.box->uidnext - 1;
    if (!imap_set_next(vanishing->known, largest, &vanishing->walk, &vanishing->at)) {
        vanishing->at.last = 0;
    }
}

/* Of [first, last] what the client says it knows. */
static void vanished_visit(void *owner, uint32_t first, uint32_t last)
{
    struct vanishing *vanishing = (struct vanishing *)owner;
    if (vanishing->known == NULL) {
        vanishing_add(vanishing, first, last);
        return;
    }
    while (vanishing->at.last != 0 && vanishing->at.first <= last) {
        uint32_t from = vanishing->at.first > first ? vanishing->at.first : first;
        uint32_t to = vanishing->at.last < last ? vanishing->at.last : last;
        if (from <= to) {
            vanishing_add(vanishing, from, to);
        }
        if (vanishing->at.last > last) {
            return;
        }
        known_next(vanishing);
    }
}

/* All uids that are not there (RFC 7162 §3.2.5.2: more than necessary may be told). */
static void gaps_visit(struct vanishing *vanishing)
{
    const struct mailstore_box *box = vanishing->session->view.box;
    uint32_t next = 1;
    for (uint32_t i = 0; i < box->count; i++) {
        if (box->entries[i].uid > next) {
            vanished_visit(vanishing, next, box->entries[i].uid - 1);
        }
        next = box->entries[i].uid + 1;
    }
    if (next < box->uidnext) {
        vanished_visit(vanishing, next, box->uidnext - 1);
    }
}

void imap_vanished_write(struct imap_session *session, uint64_t since, const struct imap_set *known)
{
    struct vanishing vanishing = {.session = session, .known = known};
    imap_writer_open(&vanishing.writer, LINE_BYTES_MAX);
    if (known != NULL) {
        known_next(&vanishing);
    }
    int status = mailstore_vanished(session->view.box, since, vanished_visit, &vanishing);
    if (status == -ESTALE) {
        gaps_visit(&vanishing);
    } else if (status != 0) {
        session->outbox.failed = true;
    }
    vanishing_put(&vanishing);
    vanishing_line_end(&vanishing);
    imap_writer_close(&vanishing.writer);
}
