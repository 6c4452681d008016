/*
 * RETR and TOP: a message from the store to the client, a piece at a time.
 *
 * What the client has yet to take is copied. The store's memory for texts is shared by all sessions and small: held by
 * clients that read slowly it would soon be gone, and whoever reads well would wait for them. So each piece is read
 * when there is room for it, and given back at once.
 */
#include "engine/core/check.h"
#include "engine/mailbox/pop3_private.h"
#include <stdio.h>

#define PIECE_BYTES 8192u /* made at a time before we look whether there is room for more */
#define RETRY_NS (20ull * 1000000ull)

static void fetched(struct mailstore_waiter *waiter, int status)
{
    struct mailstore_fetch *fetch = list_entry(waiter, struct mailstore_fetch, waiter);
    (void)status; /* asking again says it too */
    dialogue_run(&list_entry(fetch, struct pop3_session, fetch)->dialogue);
}

void pop3_message_end(struct pop3_session *session)
{
    struct mailstore *store = session->dialogue.session.mailbox->texts;
    session->retry_ns = WHEEL_NEVER;
    mailstore_fetch_cancel(store, &session->fetch);
    mailstore_text_close(store, &session->text);
}

static void failure_log(const struct pop3_session *session, int status)
{
    logger_line(session->dialogue.session.mailbox->shard->logger, LOGGER_ERROR,
                "store: message %u of %s cannot be read: %s",
                session->drop.details[session->message].uid, session->user, strerror(-status));
}

static void message_refuse(struct pop3_session *session, int status)
{
    pop3_message_end(session);
    session->dialogue.state = POP3_SESSION_READING;
    if (status == -ENOENT) {
        pop3_session_refuse(session, "", "Another session has removed the message");
    } else {
        failure_log(session, status);
        pop3_session_refuse(session, "SYS/TEMP", "The message cannot be read now");
    }
}

void pop3_message_begin(struct pop3_session *session, const struct pop3_event *event)
{
    const struct mailstore_entry *entry = maildrop_entry(&session->drop, event->message);
    session->message = event->message;
    session->offset = 0;
    session->whole = event->lines == POP3_ALL_LINES;
    session->text = (struct mailstore_text){0};
    session->fetch = (struct mailstore_fetch){.waiter.done = fetched};
    int status = entry == NULL ? -ENOENT
                               : mailstore_text_open(session->dialogue.session.mailbox->texts,
                                                     entry->text, &session->text);
    if (status != 0) {
        message_refuse(session, status);
        return;
    }
    session->dialogue.state = POP3_SESSION_RETRIEVING;
}

/* At the offset. 0; -EAGAIN: it waits; -EIO. */
static int message_read(struct pop3_session *session, struct slice *bytes, struct ref **owner)
{
    struct mailbox *mailbox = session->dialogue.session.mailbox;
    session->retry_ns = WHEEL_NEVER;
    int status = mailstore_read(mailbox->texts, &session->text, session->offset, bytes, owner,
                                &session->fetch);
    if (status == -EAGAIN) {
        session->retry_ns = mailbox->shard->now_ns + RETRY_NS;
    }
    return status == -EINPROGRESS ? -EAGAIN : status;
}

bool pop3_message_retrieve(struct pop3_session *session)
{
    char text[32];
    if (session->text.bytes > 0) {
        struct slice bytes;
        struct ref *owner;
        int status = message_read(session, &bytes, &owner);
        if (status == -EAGAIN) {
            return false;
        }
        if (status != 0) {
            message_refuse(session, status);
            return true;
        }
        ref_drop(owner);
    }
    int size = snprintf(text, sizeof(text), "%u octets", session->text.bytes);
    pop3_server_verdict(
        &session->server,
        &(struct pop3_verdict){.answer = POP3_OK,
                               .code = "",
                               .text = slice_of(text, session->whole ? (size_t)size : 0)});
    session->dialogue.state = POP3_SESSION_SENDING;
    return true;
}

/* Of what was read, as much as there is room for. */
static void pieces_make(struct pop3_session *session, struct slice bytes)
{
    while (bytes.size > 0 && !dialogue_is_full(&session->dialogue) &&
           !pop3_server_message_enough(&session->server)) {
        struct slice rest = slice_first(bytes, PIECE_BYTES), piece;
        size_t size = rest.size;
        while (pop3_server_piece(&session->server, &rest, &piece)) {
            outbox_write(&session->dialogue.outbox, piece);
        }
        session->offset += (uint32_t)size;
        bytes = slice_from(bytes, size);
    }
}

bool pop3_message_send(struct pop3_session *session)
{
    while (!dialogue_is_full(&session->dialogue)) {
        struct slice bytes;
        struct ref *owner;
        if (session->offset >= session->text.bytes ||
            pop3_server_message_enough(&session->server)) {
            if (session->whole) {
                maildrop_retrieved(&session->drop, session->message);
            }
            pop3_server_message_end(&session->server);
            pop3_message_end(session);
            session->dialogue.state = POP3_SESSION_READING;
            return true;
        }
        int status = message_read(session, &bytes, &owner);
        if (status == -EAGAIN) {
            return false;
        }
        if (status != 0) {
            failure_log(session, status);
            pop3_server_message_broken(&session->server);
            dialogue_closing(&session->dialogue);
            return true;
        }
        pieces_make(session, bytes);
        ref_drop(owner);
    }
    return true;
}
