/*
 * CATENATE (RFC 4469): a part of a new message that a URL names is copied from the store into the draft, as the command
 * goes on only when it is there. What is refused here is refused before the client sends what follows, if it waits.
 */
#include "engine/mailbox/imap_fetch.h"
#include "proto/imap/url.h"
#include <stdlib.h>

#define COPIED_BYTES_A_STEP (256u * 1024)
#define URL_ARENA_BYTES_MAX (256u * 1024)
#define BADURL_BYTES_MAX 500u /* of it, with the code */

struct catenating {
    struct fetch fetch; /* first: the task, and a message that is read as FETCH reads it */
    struct arena url_arena;
    struct slice text; /* of the URL, as it was sent */
    struct imap_url url;
    struct slice said; /* what is left of the fields, in fetch.writer */
    bool found;        /* fetch.range is what it names */
    bool fields;       /* of a header that is gathered first */
    bool made;         /* fetch.writer has them */
};

/* The command has failed; what it has sent unasked is passed over. */
static enum imap_step refuse(struct imap_session *session, const struct imap_answer *answer)
{
    imap_append_refuse(session, answer);
    imap_task_end(session); /* the answer may have lain in it */
    session->state = IMAP_SESSION_READING;
    return IMAP_STEP_ANSWERED;
}

enum imap_step imap_append_refuse_url(struct imap_session *session, struct slice text,
                                      const char *why)
{
    char code[BADURL_BYTES_MAX] = "BADURL ";
    text = slice_first(text, sizeof(code) - 7);
    if (text.size > 0) {
        memcpy(code + 7, text.bytes, text.size);
    }
    const struct imap_answer answer = {IMAP_NO, slice_of(code, 7 + text.size), slice_text(why)};
    return refuse(session, &answer);
}

/* Its text is open then, and stays though the message may be expunged. 0, -E2BIG: in the next round, or what the store says. */
static int message_find(struct catenating *catenating, const char **why)
{
    struct imap_session *session = catenating->fetch.session;
    struct mailstore *store = imap_session_store(session);
    const struct imap_url *url = &catenating->url;
    struct imap_place place;
    *why = "No such mailbox";
    int status = imap_place_find_with(session, url->mailbox, IMAP_RIGHT_READ, &place);
    if (status != 0) {
        return status == -EACCES ? -ENOENT : status;
    }
    if (url->uid_validity != 0 && url->uid_validity != place.box->uidvalidity) {
        *why = "The mailbox has another UIDVALIDITY";
        imap_place_leave(session, &place);
        return -ENOENT;
    }
    status = mailstore_box_load(store, place.box);
    status = status == 0 ? mailstore_box_open(store, place.box) : status;
    status = status == -EINPROGRESS ? -E2BIG : status;
    if (status == 0) {
        const struct mailstore_entry *entry = mailstore_entry_find(place.box, url->uid);
        *why = "No such message";
        status =
            entry != NULL ? imap_text_open(&catenating->fetch.text, session, entry->text) : -ENOENT;
        mailstore_box_close(store, place.box);
    }
    imap_place_leave(session, &place);
    return status;
}

/* The header is read for where it ends; for numbers of parts, all of the message. */
static uint8_t needs_of(const struct imap_section *section)
{
    return section->part_count > 0             ? FETCH_NEEDS_TEXT | FETCH_NEEDS_PARTS
           : section->text == IMAP_SECTION_ALL ? FETCH_NEEDS_TEXT
                                               : FETCH_NEEDS_TEXT | FETCH_NEEDS_HEADER;
}

static void partial_take(struct catenating *catenating, struct section_range *range)
{
    const struct imap_url *url = &catenating->url;
    if (url->partial) {
        *range = section_partial(*range, url->first, url->bytes != 0 ? url->bytes : UINT64_MAX);
    }
}

/* 0; -ENOENT: there is no such section; or as fetch_scan. */
static int range_find(struct catenating *catenating)
{
    struct fetch *fetch = &catenating->fetch;
    const struct imap_section *section = &catenating->url.section;
    int status = fetch->needs == FETCH_NEEDS_TEXT || fetch->root != NULL ? 0 : fetch_scan(fetch);
    if (status != 0) {
        return status;
    }
    if (!fetch_section_find(fetch, section, &fetch->range)) {
        return -ENOENT;
    }
    catenating->found = true;
    catenating->fields = section->text == IMAP_SECTION_HEADER_FIELDS ||
                         section->text == IMAP_SECTION_HEADER_FIELDS_NOT;
    if (!catenating->fields) {
        partial_take(catenating, &fetch->range);
    }
    return catenating->fields ? 0 : imap_append_allows(fetch->session, fetch->range.bytes);
}

/* The fields are taken from the header when it is there as a whole. */
static int fields_make(struct catenating *catenating)
{
    struct fetch *fetch = &catenating->fetch;
    const struct imap_section *section = &catenating->url.section;
    int status = fetch_load(fetch);
    if (status != 0) {
        return status;
    }
    section_fields_write(&fetch->writer, slice_of(fetch->gathered, fetch->gathered_bytes),
                         section->fields.items, section->fields.count,
                         section->text == IMAP_SECTION_HEADER_FIELDS ? SECTION_FIELDS
                                                                     : SECTION_FIELDS_NOT);
    if (fetch->writer.failed) {
        return -ENOMEM;
    }
    struct section_range range = {0, imap_writer_bytes(&fetch->writer).size};
    partial_take(catenating, &range);
    catenating->said = slice_first(
        slice_from(imap_writer_bytes(&fetch->writer), (size_t)range.offset), (size_t)range.bytes);
    catenating->made = true;
    return imap_append_allows(fetch->session, range.bytes);
}

static int fields_copy(struct catenating *catenating)
{
    int status = catenating->made ? 0 : fields_make(catenating);
    while (status == 0 && catenating->said.size > 0) {
        struct slice piece = slice_first(catenating->said, COPIED_BYTES_A_STEP);
        status = imap_append_write(catenating->fetch.session, piece);
        catenating->said = slice_from(catenating->said, status == 0 ? piece.size : 0);
    }
    return status;
}

/* -E2BIG: in the next round. */
static int range_copy(struct catenating *catenating)
{
    struct fetch *fetch = &catenating->fetch;
    size_t copied = 0;
    while (fetch->range.bytes > 0) {
        struct slice bytes;
        struct ref *owner;
        if (copied >= COPIED_BYTES_A_STEP) {
            return -E2BIG;
        }
        int status = imap_text_read(&fetch->text, (uint32_t)fetch->range.offset, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        bytes = slice_first(bytes, COPIED_BYTES_A_STEP - copied);
        bytes = slice_first(bytes, (size_t)fetch->range.bytes);
        status = imap_append_write(fetch->session, bytes);
        ref_drop(owner);
        if (status != 0) {
            return status;
        }
        fetch->range.offset += bytes.size;
        fetch->range.bytes -= bytes.size;
        copied += bytes.size;
    }
    return 0;
}

static int url_copy(struct catenating *catenating)
{
    int status = catenating->found ? 0 : range_find(catenating);
    if (status != 0) {
        return status;
    }
    return catenating->fields ? fields_copy(catenating) : range_copy(catenating);
}

static int message_enter(struct catenating *catenating, const char **why)
{
    int status = catenating->fetch.text_open ? 0 : message_find(catenating, why);
    if (status == 0) {
        catenating->fetch.text_open = true;
        catenating->fetch.needs = needs_of(&catenating->url.section);
        *why = "The message has no such part";
    }
    return status;
}

static enum imap_step catenating_step(struct imap_session *session, struct imap_task *task)
{
    struct catenating *catenating = (struct catenating *)task;
    const char *why;
    int status = message_enter(catenating, &why);
    status = status == 0 ? url_copy(catenating) : status;
    if (status == 0) {
        imap_task_end(session);
        session->state = IMAP_SESSION_READING;
        imap_server_take(&session->server);
        return IMAP_STEP_ANSWERED;
    }
    if (status == -E2BIG) {
        return IMAP_STEP_MORE;
    }
    if (imap_text_must_wait(status)) {
        return imap_text_step(status);
    }
    if (status == -ENOENT) {
        return imap_append_refuse_url(session, catenating->text, why);
    }
    const struct imap_answer answer =
        status == -EIO ? imap_session_answer_of(-EIO) : imap_append_answer_of(status);
    return refuse(session, &answer);
}

static void catenating_end(struct imap_session *session, struct imap_task *task)
{
    struct catenating *catenating = (struct catenating *)task;
    (void)session;
    fetch_message_end(&catenating->fetch);
    arena_close(&catenating->fetch.arena);
    arena_close(&catenating->url_arena);
    imap_writer_close(&catenating->fetch.writer);
}

void imap_append_url(struct imap_session *session, struct slice text)
{
    if (imap_abroad_replaces(session)) {
        imap_abroad_append_url(session, text);
        return;
    }
    if (imap_abroad_url(session, text)) {
        return;
    }
    struct catenating *catenating = (struct catenating *)calloc(1, sizeof(*catenating));
    if (catenating == NULL) {
        const struct imap_answer answer = imap_session_answer_of(-ENOMEM);
        imap_append_refuse(session, &answer);
        return;
    }
    struct fetch *fetch = &catenating->fetch;
    fetch->task = (struct imap_task){.step = catenating_step, .end = catenating_end};
    fetch->session = session;
    session->task = &fetch->task;
    arena_open(&fetch->arena, FETCH_ARENA_BYTES_MAX);
    arena_open(&catenating->url_arena, URL_ARENA_BYTES_MAX);
    imap_writer_open(&fetch->writer, FETCH_GATHERED_BYTES_MAX + 16);
    char name[IMAP_SHARED_NAME_BYTES];
    struct slice selected = slice_of(NULL, 0);
    if (session->view.is_open) {
        selected = slice_of(name, imap_box_name(session, session->view.box, name));
    }
    const char *why = "URL is too long";
    if (arena_copy(&catenating->url_arena, selected, &selected) &&
        arena_copy(&catenating->url_arena, text, &catenating->text)) {
        why = imap_url_read(&catenating->url_arena, catenating->text, selected, &catenating->url);
    }
    if (why != NULL) {
        imap_append_refuse_url(session, text, why);
        return;
    }
    session->state = IMAP_SESSION_WORKING;
    imap_session_begin(session);
}
