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

void notify_entries_add(struct notify_entries *entries, unsigned shard, uint64_t box,
                        struct slice name)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct notify_entry *entry = &entries->all[i];
        if (entry->box == box && entry->shard == shard && slice_equal(entry_name(entry), name)) {
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
        (struct notify_entry){box, copy, (uint32_t)name.size, (uint8_t)shard};
}

bool notify_entries_wanted(const struct imap_notify_state *state, const struct notify_known *known)
{
    return (notify_known_events(state, known) & IMAP_NOTIFY_MAILBOX_METADATA_CHANGE) &&
           (known->rights & IMAP_RIGHT_READ); /* §5; whoever has it may have entries, too */
}

/* known: NULL: the server. */
static bool is_wanted(const struct imap_notify_state *state, const struct notify_known *known)
{
    return known == NULL ? notify_events_of_server(state) & IMAP_NOTIFY_SERVER_METADATA_CHANGE
                         : notify_entries_wanted(state, known);
}

static bool is_of(const struct notify_entry *entry, const struct notify_entry *other)
{
    return entry->box == other->box && entry->shard == other->shard;
}

void notify_entries_tell(struct imap_notify_state *state, const struct notify_known_list *now,
                         struct imap_writer *writer)
{
    struct notify_entries *entries = &state->entries;
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct notify_entry *entry = &entries->all[i];
        const struct notify_known *known =
            entry->box != 0 ? notify_known_by_id(now, entry->shard, entry->box) : NULL;
        bool told = i > 0 && is_of(entry, entry - 1); /* with the one before */
        if (told || (entry->box != 0 && known == NULL) || !is_wanted(state, known)) {
            continue;
        }
        imap_write(writer, "* METADATA ");
        if (known != NULL) {
            imap_name_write(state->session, writer, notify_known_name(known));
        } else {
            imap_write(writer, "\"\"");
        }
        for (uint32_t j = i; j < entries->count && is_of(&entries->all[j], entry); j++) {
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
