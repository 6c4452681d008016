#include "engine/mailbox/maildrop.h"
#include "engine/core/check.h"
#include <stdlib.h>

/* ---- The lock ---- */

/* What we have of the mailbox does not change with it; a watch with this function is the mark of a maildrop. */
static void box_changed(struct mailstore_watch *watch)
{
    (void)watch;
}

static bool is_taken(const struct mailstore_box *box)
{
    for (const struct list_node *node = box->watches.next; node != &box->watches;
         node = node->next) {
        const struct mailstore_watch *watch = list_entry(node, struct mailstore_watch, node);
        if (watch->changed == box_changed) {
            return true;
        }
    }
    return false;
}

/* ---- What it holds ---- */

static void hexadecimal(uint32_t number, char text[8])
{
    for (int at = 7; at >= 0; at--, number >>= 4) {
        text[at] = "0123456789abcdef"[number & 15];
    }
}

static int messages_take(struct maildrop *drop)
{
    const struct mailstore_box *box = drop->box;
    uint32_t count = box->count;
    if (count == 0) {
        return 0;
    }
    drop->listed.messages = (struct pop3_message *)calloc(count, sizeof(struct pop3_message));
    drop->details = (struct maildrop_message *)calloc(count, sizeof(struct maildrop_message));
    if (drop->listed.messages == NULL || drop->details == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct maildrop_message *details = &drop->details[i];
        details->uid = box->entries[i].uid;
        hexadecimal(details->uid, details->uidl);
        hexadecimal(box->uidvalidity, details->uidl + 8);
        drop->listed.messages[i] = (struct pop3_message){
            .bytes = box->entries[i].bytes, .uidl = slice_of(details->uidl, MAILDROP_UIDL_BYTES)};
    }
    drop->listed.count = count;
    return 0;
}

static int box_take(struct maildrop *drop, enum maildrop_sharing sharing)
{
    struct mailstore_box *box = mailstore_box_find(drop->user, slice_text("INBOX"));
    if (box == NULL) {
        return 0;
    }
    if (sharing == MAILDROP_EXCLUSIVE && is_taken(box)) {
        return -EBUSY;
    }
    int status = mailstore_box_open(drop->store, box);
    if (status != 0) {
        return status;
    }
    drop->box = box;
    mailstore_watch_begin(box, &drop->watch);
    return messages_take(drop);
}

int maildrop_open(struct maildrop *drop, struct mailstore *store, struct slice user,
                  enum maildrop_sharing sharing)
{
    check(drop->store == NULL && drop->updated != NULL);
    int status = mailstore_user_open(store, user, &drop->user);
    if (status != 0) {
        return status;
    }
    drop->store = store;
    drop->watch.changed = box_changed;
    status = box_take(drop, sharing);
    if (status != 0) {
        maildrop_close(drop);
    }
    return status;
}

const struct mailstore_entry *maildrop_entry(const struct maildrop *drop, uint32_t message)
{
    check(message < drop->listed.count);
    return mailstore_entry_find(drop->box, drop->details[message].uid);
}

void maildrop_retrieved(struct maildrop *drop, uint32_t message)
{
    drop->retrieved_count += !drop->details[message].retrieved;
    drop->details[message].retrieved = true;
}

/* ---- What becomes of it ---- */

static bool is_deleted(const struct maildrop *drop, uint32_t message)
{
    return drop->listed.messages[message].deleted;
}

static bool is_to_be_seen(const struct maildrop *drop, uint32_t message)
{
    if (!drop->details[message].retrieved) {
        return false;
    }
    const struct mailstore_entry *entry = maildrop_entry(drop, message);
    return entry != NULL && (entry->flags & MAILSTORE_SEEN) == 0;
}

/* The uids of those that are so, of the heap. Neighbours make one range: what lay between them was gone before, and no
 * uid is given twice. NULL: there are none, or memory is short, which *count tells apart. */
static struct mailstore_uids *uids_gather(const struct maildrop *drop,
                                          bool (*is_so)(const struct maildrop *, uint32_t),
                                          uint32_t *count)
{
    struct mailstore_uids *uids = NULL;
    for (int pass = 0; pass < 2; pass++) {
        bool follows = false;
        *count = 0;
        for (uint32_t i = 0; i < drop->listed.count; i++) {
            bool is = is_so(drop, i);
            *count += is && !follows;
            if (is && uids != NULL) {
                struct mailstore_uids *range = &uids[*count - 1];
                range->first = follows ? range->first : drop->details[i].uid;
                range->last = drop->details[i].uid;
            }
            follows = is;
        }
        if (pass == 0 && *count > 0) {
            uids = (struct mailstore_uids *)malloc(*count * sizeof(uids[0]));
        }
    }
    return uids;
}

/* Nobody waits for it: a flag that is lost with a full disk harms nobody. */
static void seen_store(struct maildrop *drop)
{
    struct mailstore_flags seen = {
        .op = MAILSTORE_ADD, .flags = MAILSTORE_SEEN, .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_waiter untold = {0};
    if (drop->retrieved_count == 0) {
        return;
    }
    struct mailstore_uids *uids = uids_gather(drop, is_to_be_seen, &seen.uid_count);
    seen.uids = uids;
    if (uids != NULL && mailstore_flags(drop->store, drop->box, &seen, &untold) == 0) {
        mailstore_waiter_cancel(drop->store, &untold);
    }
    free(uids);
}

static void expunged(struct mailstore_waiter *waiter, int status)
{
    struct maildrop *drop = list_entry(waiter, struct maildrop, expunged);
    drop->updated(drop, status == -ENOENT ? 0 : status); /* the mailbox itself is gone */
}

int maildrop_update(struct maildrop *drop)
{
    uint32_t count;
    struct mailstore_uids *uids = uids_gather(drop, is_deleted, &count);
    if (uids == NULL) {
        return count == 0 ? 0 : -ENOMEM;
    }
    drop->expunge = (struct mailstore_expunge){.uids = uids, .uid_count = count};
    drop->expunged = (struct mailstore_waiter){.done = expunged};
    int status = mailstore_expunge(drop->store, drop->box, &drop->expunge, &drop->expunged);
    free(uids);
    return status == 0 ? -EINPROGRESS : status == -ENOENT ? 0 : status;
}

void maildrop_close(struct maildrop *drop)
{
    if (drop->store == NULL) {
        return;
    }
    if (drop->box != NULL) {
        seen_store(drop);
        mailstore_waiter_cancel(drop->store, &drop->expunged);
        mailstore_watch_end(&drop->watch);
        mailstore_box_close(drop->store, drop->box);
    }
    mailstore_user_close(drop->store, drop->user);
    free(drop->listed.messages);
    free(drop->details);
    *drop = (struct maildrop){.updated = drop->updated};
}
