/* The texts that a search will read next are fetched while it looks at others: a disk has more than one hand. */
#include "engine/mailbox/imap_search.h"
#include <stdlib.h>

#define AHEAD 16u
#define ENTRIES_A_CALL 256u /* looked at for more of them */

struct ahead_text {
    struct mailstore_text text;
    struct mailstore_fetch fetch;
    uint32_t number; /* of the message; 0: the place is free */
    bool waits;
};

struct search_ahead {
    uint32_t number; /* all up to it were looked at */
    struct ahead_text texts[AHEAD];
};

/* It stays in the store's buffers for some time, where whoever needs it finds it. Failure is for him, too. */
static void text_came(struct mailstore_waiter *waiter, int status)
{
    struct mailstore_fetch *fetch = list_entry(waiter, struct mailstore_fetch, waiter);
    (void)status;
    list_entry(fetch, struct ahead_text, fetch)->waits = false;
}

static void text_leave(struct search *search, struct ahead_text *ahead)
{
    struct mailstore *store = imap_session_store(search->session);
    if (ahead->waits) {
        mailstore_fetch_cancel(store, &ahead->fetch);
    }
    mailstore_text_close(store, &ahead->text);
    *ahead = (struct ahead_text){.number = 0};
}

/* False: not now. */
static bool text_begin(struct search *search, struct ahead_text *ahead, uint32_t number)
{
    struct mailstore *store = imap_session_store(search->session);
    const struct mailstore_entry *entry = view_entry(&search->session->view, number);
    struct slice bytes;
    struct ref *owner;
    if (entry == NULL || mailstore_text_open(store, entry->text, &ahead->text) != 0) {
        return true;
    }
    ahead->number = number;
    ahead->fetch = (struct mailstore_fetch){.waiter.done = text_came};
    int status = mailstore_read(store, &ahead->text, 0, &bytes, &owner, &ahead->fetch);
    ahead->waits = status == -EINPROGRESS;
    if (status == 0) {
        ref_drop(owner);
    }
    if (!ahead->waits) {
        text_leave(search, ahead);
    }
    return status != -EAGAIN;
}

/* The first place that is free; those of messages that were judged are. */
static struct ahead_text *place_find(struct search *search)
{
    struct search_ahead *ahead = search->ahead;
    struct ahead_text *found = NULL;
    for (unsigned i = 0; i < AHEAD; i++) {
        if (ahead->texts[i].number != 0 && ahead->texts[i].number <= search->number) {
            text_leave(search, &ahead->texts[i]);
        }
        if (found == NULL && ahead->texts[i].number == 0) {
            found = &ahead->texts[i];
        }
    }
    return found;
}

void search_ahead_run(struct search *search)
{
    const struct view *view = &search->session->view;
    if (search->ahead == NULL) {
        search->ahead = (struct search_ahead *)calloc(1, sizeof(*search->ahead));
    }
    struct search_ahead *ahead = search->ahead;
    if (ahead == NULL) {
        return; /* it is slower then */
    }
    if (ahead->number < search->number) {
        ahead->number = search->number;
    }
    struct ahead_text *place = place_find(search);
    for (unsigned i = 0; place != NULL && i < ENTRIES_A_CALL && ahead->number < view->count; i++) {
        ahead->number++;
        if (!search_needs_text(search, ahead->number)) {
            continue;
        }
        if (!text_begin(search, place, ahead->number)) {
            return;
        }
        place = place_find(search);
    }
}

void search_ahead_end(struct search *search)
{
    for (unsigned i = 0; search->ahead != NULL && i < AHEAD; i++) {
        if (search->ahead->texts[i].number != 0) {
            text_leave(search, &search->ahead->texts[i]);
        }
    }
    free(search->ahead);
    search->ahead = NULL;
}
