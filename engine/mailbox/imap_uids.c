/* Sets of numbers and uids against what the session knows of its mailbox. */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

bool imap_messages_open(struct imap_session *session, struct imap_messages *messages,
                        const struct imap_set *set, bool by_uid)
{
    *messages = (struct imap_messages){.set = *set, .by_uid = by_uid, .left = UINT32_MAX};
    if (set->saved) { /* RFC 5182 */
        messages->set = (struct imap_set){.ranges = session->saved, .count = session->saved_count};
        messages->by_uid = true;
    } else if (!by_uid && !imap_set_is_within(set, session->view.count)) {
        imap_session_bad(session, "No such message number");
        return false;
    }
    return true;
}

/* The next range of sequence numbers. */
static bool range_next(const struct imap_session *session, struct imap_messages *messages)
{
    const struct view *view = &session->view;
    struct imap_range range;
    if (!messages->by_uid) {
        if (!imap_set_next(&messages->set, view->count, &messages->walk, &range)) {
            return false;
        }
        messages->number = range.first;
        messages->last = range.last;
        return true;
    }
    while (imap_set_next(&messages->set, view_uid(view, view->count), &messages->walk, &range)) {
        messages->number = view_number_from(view, range.first);
        messages->last = view_number_from(view, range.last);
        if (messages->last > view->count || view_uid(view, messages->last) != range.last) {
            messages->last--;
        }
        if (messages->number <= messages->last && messages->number > 0) {
            return true;
        }
    }
    return false;
}

uint32_t imap_partial_of(const struct imap_partial *partial, uint32_t count, uint32_t *first)
{
    uint32_t last = partial->last < count ? partial->last : count;
    if (partial->first > last) {
        *first = 0;
        return 0;
    }
    *first = partial->from_end ? count - last : partial->first - 1;
    return last - partial->first + 1;
}

void imap_messages_partial(const struct imap_session *session, struct imap_messages *messages,
                           const struct imap_partial *partial)
{
    struct imap_messages all = *messages;
    uint32_t count = 0;
    while (range_next(session, &all)) {
        count += all.last - all.number + 1;
    }
    messages->left = imap_partial_of(partial, count, &messages->skip);
}

uint32_t imap_messages_next(const struct imap_session *session, struct imap_messages *messages)
{
    while (messages->left > 0) {
        if ((messages->number == 0 || messages->number > messages->last) &&
            !range_next(session, messages)) {
            messages->left = 0;
            break;
        }
        if (messages->skip > 0) {
            uint32_t here = messages->last - messages->number + 1;
            uint32_t passed = messages->skip < here ? messages->skip : here;
            messages->skip -= passed;
            messages->number += passed;
            continue;
        }
        messages->left--;
        return messages->number++;
    }
    return 0;
}

int imap_messages_uids(const struct imap_session *session, struct imap_messages *messages,
                       struct mailstore_uids **uids, uint32_t *count)
{
    uint32_t room = 0;
    *uids = NULL;
    *count = 0;
    while (range_next(session, messages)) {
        if (*count == room) {
            room = room * 2 + 8;
            struct mailstore_uids *grown =
                (struct mailstore_uids *)realloc(*uids, room * sizeof(grown[0]));
            if (grown == NULL) {
                free(*uids);
                *uids = NULL;
                return -ENOMEM;
            }
            *uids = grown;
        }
        (*uids)[(*count)++] = (struct mailstore_uids){view_uid(&session->view, messages->number),
                                                      view_uid(&session->view, messages->last)};
    }
    return 0;
}
