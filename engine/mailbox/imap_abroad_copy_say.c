#include "engine/mailbox/imap_abroad_copy.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define BATCH_MESSAGES 200u /* of one APPEND: a write of the disk */
#define BATCH_BYTES (4ull * 1024 * 1024)
#define SET_BYTES (32u * 1024) /* of one FETCH that is made here */
#define EMPTY "\r\n"           /* what is carried of a message without a byte */

/* ---- To the target ---- */

bool carrying_say_invite(struct carrying *carrying)
{
    struct imap_session *session = carrying->session;
    struct imap_writer writer;
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "~r MYRIGHTS ");
    imap_name_write(session, &writer, carrying->command->copy.mailbox);
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->target, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* ---- To the source ---- */

bool carrying_say_examine(struct carrying *carrying)
{
    struct imap_session *session = carrying->session;
    struct imap_writer writer;
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "~e EXAMINE ");
    imap_box_name_write(session, &writer, session->view.box);
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->source, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* Of "tag UID COPY 1:3 x": the set as the client has written it. */
static struct slice set_text(const struct imap_session *session, bool uid)
{
    struct slice text = slice_of(session->server.text, session->server.text_bytes);
    for (unsigned words = uid ? 3 : 2; words > 0 && text.size > 0; words--) {
        const uint8_t *blank = (const uint8_t *)memchr(text.bytes, ' ', text.size);
        text =
            blank == NULL ? slice_of(NULL, 0) : slice_from(text, (size_t)(blank - text.bytes) + 1);
    }
    const uint8_t *end = text.size > 0 ? (const uint8_t *)memchr(text.bytes, ' ', text.size) : NULL;
    return end == NULL ? slice_of(NULL, 0) : slice_first(text, (size_t)(end - text.bytes));
}

static void fetch_end(struct carrying *carrying)
{
    imap_write(&carrying->fetch, " (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n");
}

bool carrying_fetch_set(struct carrying *carrying)
{
    bool uid = carrying->command->uid;
    imap_write(&carrying->fetch, uid ? "~f UID FETCH " : "~f FETCH ");
    imap_write_bytes(&carrying->fetch, set_text(carrying->session, uid));
    fetch_end(carrying);
    return !carrying->fetch.failed;
}

void uids_write(struct imap_writer *writer, const struct mailstore_uids *uids, uint32_t count)
{
    check(uids != NULL || count == 0);
    for (uint32_t i = 0; i < count; i++) {
        imap_write(writer, i > 0 ? "," : "");
        imap_write_number(writer, uids[i].first);
        if (uids[i].last > uids[i].first) {
            imap_write(writer, ":");
            imap_write_number(writer, uids[i].last);
        }
    }
}

bool carrying_fetch_next(struct carrying *carrying)
{
    struct imap_writer *fetch = &carrying->fetch;
    uint32_t first = carrying->asked_at;
    imap_writer_reset(fetch);
    imap_write(fetch, "~f UID FETCH ");
    while (carrying->asked_at < carrying->asked_count &&
           imap_writer_bytes(fetch).size < SET_BYTES && !fetch->failed) {
        imap_write(fetch, carrying->asked_at > first ? "," : "");
        uids_write(fetch, &carrying->asked[carrying->asked_at++], 1);
    }
    fetch_end(carrying);
    return !fetch->failed;
}

/* ---- The messages ---- */

static bool uid_add(struct carrying *carrying, uint32_t uid)
{
    struct mailstore_uids *last =
        carrying->uid_count > 0 ? &carrying->uids[carrying->uid_count - 1] : NULL;
    carrying->messages++;
    if (last != NULL && last->last + 1 == uid) {
        last->last = uid;
        return true;
    }
    if (carrying->uid_count == carrying->uid_room) {
        uint32_t room = carrying->uid_room * 2 + 16;
        struct mailstore_uids *grown =
            (struct mailstore_uids *)realloc(carrying->uids, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        carrying->uids = grown;
        carrying->uid_room = room;
    }
    check(carrying->uids != NULL);
    carrying->uids[carrying->uid_count++] = (struct mailstore_uids){uid, uid};
    return true;
}

void carrying_say_batch_end(struct carrying *carrying)
{
    if (carrying->batch_messages > 0) {
        imap_agent_say_text(carrying->target, "\r\n");
        carrying->unanswered++;
        carrying->batch_messages = 0;
        carrying->batch_bytes = 0;
    }
}

bool carrying_say_message(struct carrying *carrying, const struct imap_carried *carried)
{
    struct imap_session *session = carrying->session;
    struct imap_writer writer;
    char size[48];
    imap_writer_open(&writer, HEAD_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    if (carrying->batch_messages == BATCH_MESSAGES || carrying->batch_bytes >= BATCH_BYTES) {
        carrying_say_batch_end(carrying);
    }
    if (carrying->batch_messages == 0) {
        imap_write(&writer, "~a APPEND ");
        imap_name_write(session, &writer, carrying->command->copy.mailbox);
    }
    bool empty = carried->bytes == 0; /* a file of a Maildir may be, what is appended may not */
    uint64_t bytes = empty ? sizeof(EMPTY) - 1 : carried->bytes;
    snprintf(size, sizeof(size), "\" ~{%llu+}\r\n", (unsigned long long)bytes);
    imap_write(&writer, " ");
    imap_write_bytes(&writer, carried->flags);
    imap_write(&writer, " \"");
    imap_write_bytes(&writer, carried->date);
    imap_write(&writer, size);
    imap_write(&writer, empty ? EMPTY : "");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(carrying->target, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    carrying->batch_messages++;
    carrying->batch_bytes += bytes;
    return good && uid_add(carrying, carried->uid);
}
