/* FETCH (RFC 9051 §6.4.5, §7.5.2): messages one after the other, a few in each round, as fast as the client reads. */
#include "engine/mailbox/imap_fetch.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define MESSAGES_A_STEP 256u
#define TEXTS_A_STEP 16u
#define RESPONSE_BYTES_MAX                                                                         \
    (64u * 1024 * 1024) /* of what is not a literal of the text: ENVELOPE, BODYSTRUCTURE */

/* ---- \Seen ---- */

static bool sets_seen(const struct imap_fetch *command)
{
    for (uint32_t i = 0; i < command->count; i++) {
        switch ((enum imap_fetch_kind)command->items[i].kind) {
        case IMAP_FETCH_RFC822:
        case IMAP_FETCH_RFC822_TEXT:
            return true;
        case IMAP_FETCH_BODY_SECTION:
        case IMAP_FETCH_BINARY:
            if (!command->items[i].peek) {
                return true;
            }
            break;
        case IMAP_FETCH_FLAGS:
        case IMAP_FETCH_UID:
        case IMAP_FETCH_INTERNALDATE:
        case IMAP_FETCH_SAVEDATE:
        case IMAP_FETCH_MODSEQ:
        case IMAP_FETCH_EMAILID:
        case IMAP_FETCH_THREADID:
        case IMAP_FETCH_ENVELOPE:
        case IMAP_FETCH_BODY:
        case IMAP_FETCH_BODYSTRUCTURE:
        case IMAP_FETCH_PREVIEW:
        case IMAP_FETCH_RFC822_HEADER:
        case IMAP_FETCH_RFC822_SIZE:
        case IMAP_FETCH_BINARY_SIZE:
            break;
        }
    }
    return false;
}

static void seen_done(struct mailstore_waiter *waiter, int status)
{
    struct fetch *fetch = list_entry(waiter, struct fetch, waiter);
    fetch->flags_wait = false;
    if (status != 0) {
        fetch->flags.modseq = 0; /* they are read all the same */
    }
    imap_session_wake(fetch->session);
}

/* May there be one without \Seen among them? Of many it is not worth the time to look. */
static bool any_unseen(const struct imap_session *session, struct imap_messages messages)
{
    const struct mailstore_box *box = session->view.box;
    uint32_t number = UINT32_MAX;
    if (box->unseen_count == 0) {
        return false;
    }
    for (unsigned i = 0; number != 0 && i < MESSAGES_A_STEP; i++) {
        number = imap_messages_next(session, &messages);
        const struct mailstore_entry *entry =
            number != 0 ? view_entry(&session->view, number) : NULL;
        if (entry != NULL && (entry->flags & MAILSTORE_SEEN) == 0) {
            return true;
        }
    }
    return number != 0;
}

/* Of a part of the set: each by itself. */
static int seen_uids(struct fetch *fetch, uint32_t *count)
{
    struct imap_messages messages = fetch->messages;
    if (!fetch->command->partial_given) {
        return imap_messages_uids(fetch->session, &messages, &fetch->uids, count);
    }
    *count = 0;
    fetch->uids =
        (struct mailstore_uids *)calloc((size_t)messages.left + 1, sizeof(fetch->uids[0]));
    if (fetch->uids == NULL) {
        return -ENOMEM;
    }
    for (uint32_t number; (number = imap_messages_next(fetch->session, &messages)) != 0;) {
        uint32_t uid = view_uid(&fetch->session->view, number);
        fetch->uids[(*count)++] = (struct mailstore_uids){uid, uid};
    }
    return *count > 0 ? 0 : -ENOENT;
}

/* All at once, before the texts go out: the flags in the answer are then the ones that are stored. */
static void seen_begin(struct fetch *fetch)
{
    struct imap_session *session = fetch->session;
    struct imap_messages messages = fetch->messages;
    uint32_t count;
    fetch->phase = FETCH_NEXT;
    if (session->read_only || (session->rights & IMAP_RIGHT_SEEN) == 0 ||
        !sets_seen(fetch->command) || !any_unseen(session, messages) ||
        seen_uids(fetch, &count) != 0) {
        return;
    }
    fetch->flags = (struct mailstore_flags){.uids = fetch->uids,
                                            .uid_count = count,
                                            .op = MAILSTORE_ADD,
                                            .flags = MAILSTORE_SEEN,
                                            .unchanged_since = MAILSTORE_ALWAYS};
    fetch->waiter.done = seen_done;
    if (mailstore_flags(imap_session_store(session), session->view.box, &fetch->flags,
                        &fetch->waiter) == 0) {
        fetch->phase = FETCH_SEEN;
        fetch->flags_wait = true;
    }
}

/* ---- A message ---- */

static bool says(const struct imap_fetch *command, enum imap_fetch_kind kind)
{
    for (uint32_t i = 0; i < command->count; i++) {
        if (command->items[i].kind == kind) {
            return true;
        }
    }
    return false;
}

static void message_begin(struct fetch *fetch)
{
    struct imap_writer *writer = &fetch->writer;
    imap_write(writer, "* ");
    imap_write_number(writer, fetch->number);
    imap_write(writer, " FETCH (");
    fetch->said_any = false;
    if (fetch->uid && !says(fetch->command, IMAP_FETCH_UID)) {
        imap_write(writer, "UID ");
        imap_write_number(writer, fetch->entry.uid);
        fetch->said_any = true;
    }
    if (fetch->command->changed_since_given && !says(fetch->command, IMAP_FETCH_MODSEQ)) {
        imap_write(writer, fetch->said_any ? " MODSEQ (" : "MODSEQ (");
        imap_write_number(writer, fetch->entry.modseq);
        imap_write(writer, ")");
        fetch->said_any = true;
    }
    fetch->item = 0;
    fetch->phase = FETCH_ITEMS;
}

/* The text is open, or is not needed. False: the message cannot be shown. */
static bool text_begin(struct fetch *fetch)
{
    fetch->needs = 0;
    for (uint32_t i = 0; i < fetch->command->count; i++) {
        fetch->needs |= fetch_needs(fetch, &fetch->command->items[i]);
    }
    if (fetch->needs == 0) {
        return true;
    }
    int status = imap_text_open(&fetch->text, fetch->session, fetch->entry.text);
    fetch->text_open = status == 0;
    fetch->some_gone = fetch->some_gone || status == -ENOENT;
    fetch->some_broken = fetch->some_broken || (status != 0 && status != -ENOENT);
    return fetch->text_open;
}

/* The next message that is there. False: there are no more. */
static bool message_next(struct fetch *fetch)
{
    const struct mailstore_entry *entry = NULL;
    fetch->number = imap_messages_next(fetch->session, &fetch->messages);
    if (fetch->number == 0) {
        return false;
    }
    entry = view_entry(&fetch->session->view, fetch->number);
    if (entry == NULL) {
        fetch->some_gone = true;
        return true;
    }
    if (fetch->command->changed_since_given && entry->modseq <= fetch->command->changed_since) {
        return true;
    }
    fetch->entry = *entry;
    if (!text_begin(fetch)) {
        return true;
    }
    if (fetch->needs != 0) {
        fetch->phase = FETCH_SCAN;
    } else {
        message_begin(fetch);
    }
    return true;
}

static void message_over(struct fetch *fetch)
{
    /* \Seen was set by this command: that is told with it (RFC 9051 §6.4.5). */
    if (fetch->flags.modseq != 0 && fetch->entry.modseq == fetch->flags.modseq &&
        !says(fetch->command, IMAP_FETCH_FLAGS)) {
        imap_write(&fetch->writer, fetch->said_any ? " " : "");
        fetch_flags_write(fetch, !fetch->command->changed_since_given &&
                                     !says(fetch->command, IMAP_FETCH_MODSEQ));
    }
    imap_write(&fetch->writer, ")\r\n");
    fetch_message_end(fetch);
    fetch->phase = FETCH_NEXT;
}

/* ---- The round ---- */

static enum imap_step fetched(struct fetch *fetch)
{
    struct imap_session *session = fetch->session;
    if (fetch->unasked) {
        imap_task_end(session);
        session->state = IMAP_SESSION_READING;
        imap_session_later(session);
        return IMAP_STEP_ANSWERED;
    }
    if (fetch->flags.modseq != 0) {
        view_told(&session->view, fetch->flags.modseq);
    }
    if (fetch->some_broken) {
        return imap_session_no(session, "SERVERBUG", "Some messages could not be read");
    }
    if (fetch->binary_refused) {
        return imap_session_no(session, "UNKNOWN-CTE", "Some parts could not be decoded");
    }
    if (fetch->some_gone) {
        const struct imap_answer answer = {.result = IMAP_OK,
                                           .code = slice_text("EXPUNGEISSUED"),
                                           .text = slice_text("Some messages are expunged")};
        return imap_session_answer(session, &answer);
    }
    return imap_session_ok(session);
}

/* The scan has failed: the message is left out. */
static void scan_failed(struct fetch *fetch)
{
    fetch->some_broken = true;
    fetch_message_end(fetch);
    fetch->phase = FETCH_NEXT;
}

/* Of a phase that reads; 0: over, or its status. */
static int text_phase(struct fetch *fetch)
{
    const struct imap_fetch_item *item = &fetch->command->items[fetch->item];
    int status = 0;
    switch ((enum fetch_phase)fetch->phase) {
    case FETCH_SCAN:
        status = fetch_scan(fetch);
        if (status == 0) {
            message_begin(fetch);
        }
        return status;
    case FETCH_LOAD:
        status = fetch_load(fetch);
        if (status == 0) {
            fetch->phase = (uint8_t)fetch_item_loaded(fetch, item);
            fetch->item++;
        }
        return status;
    case FETCH_COUNT:
        status = fetch_count(fetch);
        if (status == 0) {
            fetch->phase = (uint8_t)fetch_item_counted(fetch, item);
            fetch->item += fetch->phase == FETCH_ITEMS;
        }
        return status;
    case FETCH_LITERAL:
    case FETCH_DECODED:
        status = fetch->phase == FETCH_LITERAL ? fetch_literal(fetch) : fetch_decoded(fetch);
        if (status == 0) {
            fetch->phase = FETCH_ITEMS;
            fetch->item++;
        }
        return status;
    case FETCH_SEEN:
    case FETCH_NEXT:
    case FETCH_ITEMS:
        break;
    }
    return 0;
}

static void item_next(struct fetch *fetch)
{
    if (fetch->item == fetch->command->count) {
        message_over(fetch);
        return;
    }
    const struct imap_fetch_item *item = &fetch->command->items[fetch->item];
    imap_write(&fetch->writer, fetch->said_any ? " " : "");
    fetch->said_any = true;
    fetch->phase = (uint8_t)fetch_item_begin(fetch, item);
    fetch->item += fetch->phase == FETCH_ITEMS;
}

/* In which phases has the client not been promised bytes that cannot come? */
static bool is_promised(const struct fetch *fetch)
{
    return fetch->phase != FETCH_SCAN;
}

static enum imap_step text_step(struct fetch *fetch, int status)
{
    if (imap_text_must_wait(status)) {
        return imap_text_step(status);
    }
    if (status == -E2BIG) {
        return IMAP_STEP_MORE;
    }
    if (is_promised(fetch)) {
        return IMAP_STEP_BROKEN;
    }
    scan_failed(fetch);
    return IMAP_STEP_MORE;
}

static enum imap_step fetch_step(struct imap_session *session, struct imap_task *task)
{
    struct fetch *fetch = (struct fetch *)task;
    unsigned messages = 0, texts = 0;
    if (fetch->flags_wait) {
        return IMAP_STEP_WAIT;
    }
    while (messages < MESSAGES_A_STEP && texts < TEXTS_A_STEP &&
           !outbox_is_full(&session->outbox)) {
        int status = 0;
        switch ((enum fetch_phase)fetch->phase) {
        case FETCH_SEEN:
            fetch->phase = FETCH_NEXT;
            break;
        case FETCH_NEXT:
            messages++;
            if (!message_next(fetch)) {
                return fetched(fetch);
            }
            texts += fetch->text_open;
            break;
        case FETCH_ITEMS:
            item_next(fetch);
            break;
        case FETCH_SCAN:
        case FETCH_LOAD:
        case FETCH_COUNT:
        case FETCH_LITERAL:
        case FETCH_DECODED:
            status = text_phase(fetch);
            break;
        }
        if (fetch->writer.size > 0 && !imap_session_send(session, &fetch->writer)) {
            return IMAP_STEP_BROKEN;
        }
        if (fetch->writer.failed) {
            return IMAP_STEP_BROKEN;
        }
        if (status != 0) {
            return text_step(fetch, status);
        }
    }
    return IMAP_STEP_MORE;
}

static void fetch_end(struct imap_session *session, struct imap_task *task)
{
    struct fetch *fetch = (struct fetch *)task;
    if (fetch->flags_wait) {
        mailstore_waiter_cancel(imap_session_store(session), &fetch->waiter);
    }
    fetch_message_end(fetch);
    arena_close(&fetch->arena);
    imap_writer_close(&fetch->writer);
    free(fetch->flags.failed);
    free(fetch->uids);
}

static void fetch_open(struct fetch *fetch, struct imap_session *session,
                       const struct imap_fetch *command)
{
    fetch->task.end = fetch_end;
    fetch->session = session;
    fetch->command = command;
    arena_open(&fetch->arena, FETCH_ARENA_BYTES_MAX);
    imap_writer_open(&fetch->writer, RESPONSE_BYTES_MAX);
    fetch->writer.utf8 = imap_session_utf8(session);
}

bool imap_text_list_copy(struct arena *arena, const struct imap_text_list *from,
                         struct imap_text_list *to)
{
    struct slice *items = (struct slice *)arena_take_array(arena, from->count + 1u, sizeof(*items));
    for (uint32_t i = 0; items != NULL && i < from->count; i++) {
        if (from->items[i].size > 0 && !arena_copy(arena, from->items[i], &items[i])) {
            return false;
        }
    }
    *to = (struct imap_text_list){.items = items, .count = from->count};
    return items != NULL;
}

bool imap_fetch_items_copy(struct arena *arena, const struct imap_fetch_item *from, uint32_t count,
                           const struct imap_fetch_item **to)
{
    struct imap_fetch_item *items =
        (struct imap_fetch_item *)arena_take_array(arena, count + 1u, sizeof(*items));
    for (uint32_t i = 0; items != NULL && i < count; i++) {
        const struct imap_section *section = &from[i].section;
        uint32_t *parts =
            (uint32_t *)arena_take_array(arena, section->part_count + 1u, sizeof(*parts));
        items[i] = from[i];
        items[i].peek = true; /* nobody has read them */
        if (parts == NULL ||
            !imap_text_list_copy(arena, &section->fields, &items[i].section.fields)) {
            return false;
        }
        if (section->part_count > 0) {
            memcpy(parts, section->parts, section->part_count * sizeof(*parts));
        }
        items[i].section.parts = parts;
    }
    *to = items;
    return items != NULL;
}

void imap_fetch_unasked(struct imap_session *session, const struct imap_fetch *command)
{
    struct fetch *fetch = (struct fetch *)calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        return; /* the client knows that there is something, and may ask */
    }
    fetch_open(fetch, session, command);
    fetch->task.step = fetch_step;
    fetch->uid = imap_session_has(session, IMAP_ENABLED_QRESYNC);
    fetch->unasked = true;
    fetch->phase = FETCH_NEXT;
    imap_messages_open(session, &fetch->messages, &command->set, true);
    session->task = &fetch->task;
    session->state = IMAP_SESSION_WORKING;
    imap_session_later(session);
}

void imap_fetch(struct imap_session *session, const struct imap_command *command)
{
    struct imap_messages messages;
    if (!imap_messages_open(session, &messages, &command->fetch.set, command->uid)) {
        return;
    }
    struct fetch *fetch = (struct fetch *)imap_session_task(session, sizeof(*fetch), fetch_step);
    if (fetch == NULL) {
        return;
    }
    fetch_open(fetch, session, &command->fetch);
    fetch->uid = command->uid;
    fetch->messages = messages;
    if (command->fetch.vanished) { /* RFC 7162 §3.2.6 */
        imap_vanished_write(session, command->fetch.changed_since, &fetch->messages.set);
    }
    if (command->fetch.partial_given) {
        imap_messages_partial(session, &fetch->messages, &command->fetch.partial);
    }
    seen_begin(fetch);
    imap_session_begin(session);
}
