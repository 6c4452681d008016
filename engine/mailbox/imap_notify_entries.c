/* NOTIFY: entries of METADATA that have changed (RFC 5465 §5.6, §5.7). */
#include "engine/mailbox/imap_notify_private.h"
#include <stdlib.h>

#define ENTRIES_MAX 1024u /* that wait until the client reads */

void notify_entries_free(struct notify_entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        free(entries->all[i].name);
    }
    free(entries->all);
    *entries = (struct notify_entries){0};
}

static struct slice entry_name(const struct notify_entry *entry)
{
    return slice_of(entry->name, entry->name_bytes);
}

static bool entries_grow(struct notify_entries *entries)
{
    uint32_t room = entries->room * 2 + 8;
    struct notify_entry *grown =
        (struct notify_entry *)realloc(entries->all, room * sizeof(grown[0]));
    if (grown != NULL) {
        entries->all = grown;
        entries->room = room;
    }
    return grown != NULL;
}

void notify_entries_add(struct notify_entries *entries, uint64_t box, struct slice name)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        if (entries->all[i].box == box && slice_equal(entry_name(&entries->all[i]), name)) {
            return;
        }
    }
    bool room =
        entries->count < ENTRIES_MAX && (entries->count < entries->room || entries_grow(entries));
    char *copy = room ? (char *)malloc(name.size + 1) : NULL;
    if (copy == NULL) {
        entries->failed = true;
        return;
    }
    memcpy(copy, name.bytes, name.size);
    entries->all[entries->count++] =
        (struct notify_entry){.box = box, .name = copy, .name_bytes = (uint32_t)name.size};
}

/* Does he want to hear of it, and may he? box: NULL: the server. */
static bool is_wanted(const struct imap_notify_state *state, struct mailstore_box *box)
{
    const struct imap_session *session = state->session;
    if (box == NULL) {
        return notify_events_of_server(state) & IMAP_NOTIFY_SERVER_METADATA_CHANGE;
    }
    bool subscribed = mailstore_is_subscribed(session->user, box->name);
    uint32_t events = notify_events_of(state, box->name, subscribed);
    return (events & IMAP_NOTIFY_MAILBOX_METADATA_CHANGE) &&
           imap_metadata_allowed(imap_rights_of(session, box));
}

void notify_entries_tell(struct imap_notify_state *state, struct imap_writer *writer)
{
    struct notify_entries *entries = &state->entries;
    for (uint32_t i = 0; i < entries->count; i++) {
        uint64_t id = entries->all[i].box;
        struct mailstore_box *box = id != 0 ? mailstore_box_by_id(state->session->user, id) : NULL;
        bool told = i > 0 && entries->all[i - 1].box == id; /* with the one before */
        if (told || (id != 0 && box == NULL) || !is_wanted(state, box)) {
            continue;
        }
        imap_write(writer, "* METADATA ");
        if (box != NULL) {
            imap_box_name_write(state->session, writer, box);
        } else {
            imap_write(writer, "\"\"");
        }
        for (uint32_t j = i; j < entries->count && entries->all[j].box == id; j++) {
            imap_write(writer, " ");
            imap_write_astring(writer, entry_name(&entries->all[j]));
        }
        imap_write(writer, "\r\n");
        if (!imap_session_send(state->session, writer)) {
            state->session->outbox.failed = true;
        }
    }
    notify_entries_free(entries);
}
