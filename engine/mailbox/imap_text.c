#include "engine/mailbox/imap_session.h"

static void text_came(struct mailstore_waiter *waiter, int status)
{
    struct mailstore_fetch *fetch = list_entry(waiter, struct mailstore_fetch, waiter);
    struct imap_text *text = list_entry(fetch, struct imap_text, fetch);
    (void)status; /* the next call says it; the store tries again for who asks behind that */
    text->waits = false;
    imap_session_wake(text->session);
}

int imap_text_open(struct imap_text *text, struct imap_session *session, uint64_t id)
{
    *text = (struct imap_text){.session = session, .fetch.waiter.done = text_came};
    return mailstore_text_open(imap_session_store(session), id, &text->text);
}

void imap_text_close(struct imap_text *text)
{
    if (text->session == NULL) {
        return;
    }
    struct mailstore *store = imap_session_store(text->session);
    if (text->waits) {
        mailstore_fetch_cancel(store, &text->fetch);
    }
    mailstore_text_close(store, &text->text);
    *text = (struct imap_text){.session = NULL};
}

int imap_text_read(struct imap_text *text, uint32_t offset, struct slice *bytes, struct ref **owner)
{
    if (text->failed) {
        return -EIO;
    }
    if (text->waits) {
        return -EINPROGRESS;
    }
    int status = mailstore_read(imap_session_store(text->session), &text->text, offset, bytes,
                                owner, &text->fetch);
    text->waits = status == -EINPROGRESS;
    text->failed = status == -EIO;
    return status;
}
