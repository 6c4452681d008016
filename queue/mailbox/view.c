#include "queue/mailbox/view.h"
#include <stdlib.h>

/* ── Following the box ───────────────────────────────────────────────────────────────────────── */

static void watch_changed(struct mailstore_watch *watch)
{
    struct view *view = list_entry(watch, struct view, watch);
    if (view->changed != NULL) {
        view->changed(view);
    }
}

/* How many of the missing have a lower uid. */
static uint32_t missing_below(const struct view *view, uint32_t uid)
{
    uint32_t low = 0, high = view->missing_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->missing[middle] < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void watch_expunged(struct mailstore_watch *watch, uint32_t uid)
{
    struct view *view = list_entry(watch, struct view, watch);
    if (uid > view->uid_last || view->lost) {
        return; /* it comes and goes untold */
    }
    if (view->missing_count == view->missing_room) {
        uint32_t room = view->missing_room * 2 + 16;
        uint32_t *grown = (uint32_t *)realloc(view->missing, room * sizeof(grown[0]));
        if (grown == NULL) {
            view->lost = true;
            return;
        }
        view->missing = grown;
        view->missing_room = room;
    }
    uint32_t at = missing_below(view, uid);
    memmove(view->missing + at + 1, view->missing + at,
            (view->missing_count - at) * sizeof(view->missing[0]));
    view->missing[at] = uid;
    view->missing_count++;
}

int view_open(struct view *view, struct mailstore *store, struct mailstore_box *box)
{
    void (*changed)(struct view *) = view->changed;
    void *owner = view->owner;
    int status = mailstore_box_open(store, box);
    if (status != 0) {
        return status;
    }
    *view = (struct view){.store = store, .box = box, .changed = changed, .owner = owner};
    view->is_open = true;
    view->count = box->count;
    view->uid_last = box->uidnext - 1;
    view->modseq_told = box->modseq;
    view->keyword_told = box->keyword_count;
    view->watch.changed = watch_changed;
    view->watch.expunged = watch_expunged;
    mailstore_watch_begin(box, &view->watch);
    return 0;
}

void view_close(struct view *view)
{
    if (!view->is_open) {
        return;
    }
    view->is_open = false;
    mailstore_watch_end(&view->watch);
    mailstore_box_close(view->store, view->box);
    free(view->missing);
    view->missing = NULL;
    view->missing_count = view->missing_room = view->count = 0;
    view->box = NULL;
}

/* ── Numbers ─────────────────────────────────────────────────────────────────────────────────── */

/* Of missing one `at`. */
static uint32_t missing_number(const struct view *view, uint32_t at)
{
    return 1 + at + mailstore_entry_index(view->box, view->missing[at]);
}

uint32_t view_uid(const struct view *view, uint32_t number)
{
    if (number == 0 || number > view->count) {
        return 0;
    }
    uint32_t low = 0, high = view->missing_count;
    while (low < high) { /* how many of them have a lower number */
        uint32_t middle = low + (high - low) / 2;
        if (missing_number(view, middle) < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < view->missing_count && missing_number(view, low) == number) {
        return view->missing[low];
    }
    uint32_t index = number - 1 - low;
    return index < view->box->count ? view->box->entries[index].uid : 0;
}

uint32_t view_number_from(const struct view *view, uint32_t uid)
{
    if (uid > view->uid_last) {
        return view->count + 1;
    }
    return 1 + mailstore_entry_index(view->box, uid) + missing_below(view, uid);
}

uint32_t view_number(const struct view *view, uint32_t uid)
{
    uint32_t number = uid != 0 ? view_number_from(view, uid) : 0;
    return view_uid(view, number) == uid ? number : 0;
}

const struct mailstore_entry *view_entry(const struct view *view, uint32_t number)
{
    uint32_t uid = view_uid(view, number);
    return uid != 0 ? mailstore_entry_find(view->box, uid) : NULL;
}

/* ── Telling ─────────────────────────────────────────────────────────────────────────────────── */

bool view_is_behind(const struct view *view)
{
    const struct mailstore_box *box = view->box;
    return view->missing_count > 0 || view->lost || box->modseq != view->modseq_told ||
           box->count + view->missing_count != view->count ||
           box->keyword_count != view->keyword_told ||
           (box->state == MAILSTORE_BOX_DELETED && !view->gone_told);
}

static void expunged_tell(struct view *view, const struct view_teller *teller)
{
    while (view->missing_count > 0) {
        uint32_t uid = view->missing[view->missing_count - 1];
        uint32_t number = missing_number(view, view->missing_count - 1);
        view->missing_count--;
        view->count--;
        if (teller->expunged != NULL) {
            teller->expunged(teller->owner, number, uid);
        }
    }
    free(view->missing);
    view->missing = NULL;
    view->missing_room = 0;
}

/* Flags of what the session knew, and all of what is new to it. */
static void flags_tell(struct view *view, const struct view_teller *teller, uint32_t known_last)
{
    const struct mailstore_box *box = view->box;
    bool walks = box->modseq_flags > view->modseq_told;
    uint32_t index = walks ? 0 : mailstore_entry_index(box, known_last + 1);
    for (; index < box->count && box->entries[index].uid <= view->uid_last; index++) {
        const struct mailstore_entry *entry = &box->entries[index];
        bool is_new = entry->uid > known_last;
        if (is_new || entry->modseq > view->modseq_told) {
            uint32_t number = 1 + index + missing_below(view, entry->uid);
            teller->flags(teller->owner, number, entry, is_new);
        }
    }
}

int view_sync(struct view *view, uint32_t flags, const struct view_teller *teller)
{
    const struct mailstore_box *box = view->box;
    uint32_t known_last = view->uid_last;
    if (view->lost) {
        return -ENOMEM;
    }
    if (!view_is_behind(view)) {
        return 0;
    }
    if (flags & VIEW_MAY_EXPUNGE) {
        expunged_tell(view, teller);
    }
    if ((flags & VIEW_MAY_EXIST) && box->uidnext - 1 > view->uid_last) {
        uint32_t count = box->count + view->missing_count;
        view->uid_last = box->uidnext - 1;
        if (count != view->count && teller->exists != NULL) {
            teller->exists(teller->owner, count);
        }
        view->count = count;
    }
    if (box->keyword_count != view->keyword_told) {
        view->keyword_told = box->keyword_count;
        if (teller->keywords != NULL) {
            teller->keywords(teller->owner);
        }
    }
    if (teller->flags != NULL) {
        flags_tell(view, teller, known_last);
    }
    view->modseq_told = box->modseq;
    if (box->state == MAILSTORE_BOX_DELETED && !view->gone_told) {
        view->gone_told = true;
        if (teller->gone != NULL) {
            teller->gone(teller->owner);
        }
    }
    return 0;
}

void view_told(struct view *view, uint64_t modseq)
{
    if (modseq == view->modseq_told + 1) {
        view->modseq_told = modseq;
    }
}
