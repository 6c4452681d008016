/*
 * NOTIFY: what a watcher tells whose session is on another shard: each mailbox that its user may look up, as it is now,
 * and again whenever it has changed.
 *
 * It decides nothing of what the client hears: names of the user's own, subscriptions and what the client has done are known at
 * home. Beside the pipe's bounds nothing waits here but what was told last, and the entries that have changed since.
 */
#include "engine/mailbox/imap_notify_private.h"
#include <stdio.h>

struct feeding {
    struct imap_notify_state *state;
    struct imap_writer writer;
};

static void fed_write(struct feeding *feeding, struct notify_fed fed, struct slice name)
{
    fed.name_bytes = (uint32_t)name.size;
    imap_write_bytes(&feeding->writer, slice_of(&fed, sizeof(fed)));
    imap_write_bytes(&feeding->writer, name);
}

static bool is_same(const struct notify_known *old, const struct notify_known *now)
{
    return old->modseq == now->modseq && old->count == now->count && old->uidnext == now->uidnext &&
           old->uidvalidity == now->uidvalidity && old->unseen_count == now->unseen_count &&
           old->rights == now->rights &&
           slice_equal(notify_known_name(old), notify_known_name(now));
}

static void box_feed(void *owner, struct notify_known *old, struct notify_known *now)
{
    struct feeding *feeding = (struct feeding *)owner;
    if (now == NULL) {
        const struct notify_fed gone = {.kind = NOTIFY_FED_GONE, .id = old->id};
        fed_write(feeding, gone, slice_of(NULL, 0));
    } else if (old == NULL || !is_same(old, now)) {
        const struct notify_fed box = {.kind = NOTIFY_FED_BOX,
                                       .id = now->id,
                                       .modseq = now->modseq,
                                       .count = now->count,
                                       .uidnext = now->uidnext,
                                       .uidvalidity = now->uidvalidity,
                                       .unseen_count = now->unseen_count,
                                       .rights = now->rights};
        fed_write(feeding, box, notify_known_name(now));
    }
}

static void entries_feed(struct feeding *feeding, const struct notify_known_list *now)
{
    struct imap_notify_state *state = feeding->state;
    for (uint32_t i = 0; i < state->entries.count; i++) {
        const struct notify_entry *entry = &state->entries.all[i];
        const struct notify_known *known = notify_known_by_id(now, entry->shard, entry->box);
        if (known != NULL && notify_entries_wanted(state, known)) {
            const struct notify_fed fed = {.kind = NOTIFY_FED_ENTRY, .id = entry->box};
            fed_write(feeding, fed, slice_of(entry->name, entry->name_bytes));
        }
    }
    notify_entries_free(&state->entries);
}

/* "* FED {n}" and what was written. */
static void feeding_send(struct feeding *feeding)
{
    struct imap_session *session = feeding->state->session;
    size_t bytes = imap_writer_bytes(&feeding->writer).size;
    char head[48];
    if (bytes > 0) {
        snprintf(head, sizeof(head), NOTIFY_FED_BEGINS "{%zu}\r\n", bytes);
        imap_session_write(session, head);
        imap_session_send(session, &feeding->writer);
        imap_session_write(session, "\r\n");
    }
}

void notify_feed(struct imap_notify_state *state)
{
    struct feeding feeding = {.state = state};
    struct notify_known_list now;
    const struct notify_fed all = {.kind = NOTIFY_FED_ALL};
    state->changed = false;
    notify_known_gather(state, &now);
    imap_writer_open(&feeding.writer, NOTIFY_FED_BYTES_MAX);
    if (state->is_unfed) {
        fed_write(&feeding, all, slice_of(NULL, 0));
    }
    notify_known_compare(&state->known, &now, box_feed, &feeding);
    bool good = !now.failed && !state->entries.failed;
    if (good) {
        entries_feed(&feeding, &now);
    }
    good = good && !feeding.writer.failed;
    if (good) {
        feeding_send(&feeding);
    }
    imap_writer_close(&feeding.writer);
    if (!good) {
        notify_known_free(&now);
        notify_overflow(state->session);
        return;
    }
    notify_known_free(&state->known);
    state->known = now;
    state->is_unfed = false;
    notify_owners_told(state);
}
