/*
 * NOTIFY (RFC 5465): between its commands, too, a client is told what happens, in the selected mailbox and in others.
 *
 * From the first NOTIFY on it is told of the selected mailbox what it has asked for and nothing else: without SELECTED
 * the mailbox stays for it as it was, until it asks again (§5).
 */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define SET_BYTES_MAX (64u * 1024) /* of what the client asks for */

/* ---- What is asked for ---- */

/* The part of the name that is INBOX, his own or another's, in whichever letters; empty: none. */
static struct slice inbox_of(const struct imap_session *session, struct slice name)
{
    struct slice user = imap_shared_name_user(session, name);
    size_t above = user.size > 0 ? imap_shared_root(session).size + user.size + 2 : 0;
    struct slice inbox = slice_first(slice_from(name, above), sizeof("INBOX") - 1);
    size_t end = above + inbox.size;
    return slice_equal_nocase(inbox, slice_text("INBOX")) &&
                   (name.size == end || name.bytes[end] == IMAP_SEPARATOR)
               ? inbox
               : slice_of(NULL, 0);
}

/* "shared/bob/inbox/old" is "shared/bob/INBOX/old". */
static bool names_copy(struct imap_notify_state *state, const struct imap_text_list *from,
                       struct imap_text_list *to)
{
    bool good = imap_text_list_copy(&state->arena, from, to);
    for (uint32_t i = 0; good && i < to->count; i++) {
        struct slice inbox = inbox_of(state->session, to->items[i]);
        if (inbox.size > 0) { /* the copy is the arena's */
            memcpy((uint8_t *)(uintptr_t)inbox.bytes, "INBOX", inbox.size);
        }
    }
    return good;
}

/* An agent that is no watcher tells of the mailbox that it has selected: whose it is has all of the command. */
static bool is_for(const struct imap_session *session, const struct imap_notify_group *group)
{
    return !session->guest || session->watches || group->filter <= IMAP_NOTIFY_SELECTED_DELAYED;
}

/* An agent tells texts before all else: so what it tells of a new message is not what is fetched by a COPY to another shard
 * (imap_carried_read). False: they do not fit. */
static bool texts_first(struct imap_notify_state *state, struct imap_notify_group *group)
{
    struct imap_fetch_item *items = (struct imap_fetch_item *)arena_take_array(
        &state->arena, group->fetch_count + 1u, sizeof(*items));
    uint32_t count = 0;
    for (unsigned pass = 0; items != NULL && pass < 2; pass++) {
        for (uint32_t i = 0; i < group->fetch_count; i++) {
            bool is_text = group->fetch[i].kind == IMAP_FETCH_BODY_SECTION;
            if (is_text == (pass == 0)) {
                items[count++] = group->fetch[i];
            }
        }
    }
    group->fetch = items;
    return items != NULL;
}

static bool set_copy(struct imap_notify_state *state, const struct imap_notify *from)
{
    uint32_t count = 0;
    struct imap_notify_group *groups =
        (struct imap_notify_group *)arena_take_array(&state->arena, from->count, sizeof(*groups));
    for (uint32_t i = 0; groups != NULL && i < from->count; i++) {
        const struct imap_notify_group *group = &from->groups[i];
        struct imap_notify_group *copy = &groups[count];
        if (!is_for(state->session, group)) {
            continue;
        }
        *copy = *group;
        if (!names_copy(state, &group->mailboxes, &copy->mailboxes) ||
            !imap_fetch_items_copy(&state->arena, group->fetch, group->fetch_count, &copy->fetch) ||
            (state->session->guest && !texts_first(state, copy))) {
            return false;
        }
        if (copy->filter <= IMAP_NOTIFY_SELECTED_DELAYED) {
            state->selected = copy;
        }
        count++;
    }
    state->set = (struct imap_notify){from->status, groups, count};
    return groups != NULL;
}

/* RFC 5465 §5, §6, §8. NULL: it is good. */
static const char *set_is_bad(const struct imap_notify *notify)
{
    bool selected = false;
    for (uint32_t i = 0; i < notify->count; i++) {
        const struct imap_notify_group *group = &notify->groups[i];
        bool comes = (group->events & IMAP_NOTIFY_MESSAGE_NEW) != 0;
        bool goes = (group->events & IMAP_NOTIFY_MESSAGE_EXPUNGE) != 0;
        if (comes != goes) {
            return "MessageNew and MessageExpunge go together";
        }
        if ((group->events & IMAP_NOTIFY_FLAG_CHANGE) != 0 && !comes) {
            return "FlagChange needs MessageNew and MessageExpunge";
        }
        if (group->filter > IMAP_NOTIFY_SELECTED_DELAYED) {
            if (group->fetch_count > 0) {
                return "Items are fetched of the selected mailbox only";
            }
            continue;
        }
        if ((group->events & NOTIFY_OTHER_EVENTS) != 0) {
            return "Not an event of the selected mailbox";
        }
        if (selected) {
            return "The selected mailbox was named twice";
        }
        selected = true;
    }
    return NULL;
}

static bool is_supported(const struct imap_notify *notify)
{
    for (uint32_t i = 0; i < notify->count; i++) {
        if ((notify->groups[i].events & ~(uint32_t)(NOTIFY_MESSAGE_EVENTS | NOTIFY_OTHER_EVENTS)) !=
            0) {
            return false;
        }
    }
    return true;
}

static bool group_names(const struct imap_notify_group *group, struct slice name)
{
    for (uint32_t i = 0; i < group->mailboxes.count; i++) {
        struct slice one = group->mailboxes.items[i];
        if (slice_equal(one, name)) {
            return true;
        }
        if (group->filter == IMAP_NOTIFY_SUBTREE && name.size > one.size &&
            slice_equal(slice_first(name, one.size), one) &&
            (one.size == 0 || name.bytes[one.size] == IMAP_SEPARATOR)) {
            return true;
        }
    }
    return false;
}

/* Delivery goes into any mailbox (subaddresses, Sieve), so `inboxes` are the personal ones (RFC 5465 §6.3). */
uint32_t notify_events_of(const struct imap_notify_state *state, struct slice name, uint32_t what)
{
    uint32_t events = 0;
    for (uint32_t i = 0; i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        bool fits = false;
        switch (group->filter) {
        case IMAP_NOTIFY_SELECTED:
        case IMAP_NOTIFY_SELECTED_DELAYED:
            break;
        case IMAP_NOTIFY_INBOXES:
        case IMAP_NOTIFY_PERSONAL:
            fits = (what & NOTIFY_NAME_PERSONAL) != 0;
            break;
        case IMAP_NOTIFY_SUBSCRIBED:
            fits = (what & NOTIFY_NAME_SUBSCRIBED) != 0;
            break;
        case IMAP_NOTIFY_SUBTREE:
        case IMAP_NOTIFY_MAILBOXES:
            fits = group_names(group, name);
            break;
        }
        events |= fits ? group->events : 0;
    }
    return events;
}

uint32_t notify_events_of_server(const struct imap_notify_state *state)
{
    uint32_t events = 0;
    for (uint32_t i = 0; i < state->set.count; i++) {
        events |= state->set.groups[i].events;
    }
    return events;
}

/* ---- Telling of the selected mailbox ---- */

bool imap_notify_wants_flags(const struct imap_session *session)
{
    const struct imap_notify_state *state = session->notify;
    return !session->notify_silent &&
           (state == NULL || (state->selected->events & IMAP_NOTIFY_FLAG_CHANGE) != 0);
}

bool imap_notify_wants_uids(const struct imap_session *session)
{
    return session->notify != NULL && imap_notify_wants_flags(session);
}

void imap_notify_new(struct imap_session *session, uint32_t uid)
{
    struct imap_notify_state *state = session->notify;
    if (state == NULL || state->selected == NULL || state->selected->fetch_count == 0 ||
        (uid >= state->own_first && uid <= state->own_last)) {
        return;
    }
    state->new_first = state->new_first == 0 ? uid : state->new_first;
    state->new_last = uid;
}

void imap_notify_deselected(struct imap_session *session)
{
    if (session->notify != NULL) {
        session->notify->new_first = 0;
        session->notify->own_first = session->notify->own_last = 0;
    }
}

/* Items of messages that the client has just heard of. */
static void new_tell(struct imap_notify_state *state)
{
    check(state->selected != NULL);
    state->range = (struct imap_range){state->new_first, state->new_last};
    state->fetch = (struct imap_fetch){.set = {.ranges = &state->range, .count = 1},
                                       .items = state->selected->fetch,
                                       .count = state->selected->fetch_count};
    state->new_first = 0;
    imap_fetch_unasked(state->session, &state->fetch);
}

void notify_overflow(struct imap_session *session)
{
    bool lost = session->notify->is_lost;
    imap_notify_end(session);
    session->notify_silent = true;
    imap_abroad_silence(session);
    imap_session_write(session,
                       lost ? "* OK [NOTIFICATIONOVERFLOW] Another shard has ended\r\n"
                            : "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes to tell of\r\n");
}

void imap_notify_tell(struct imap_session *session)
{
    struct imap_notify_state *state = session->notify;
    if (!session->notify_silent && session->view.is_open) {
        imap_sync(session, state->selected->filter == IMAP_NOTIFY_SELECTED);
    }
    if (state->feeds) {
        if (state->changed) {
            notify_feed(state);
        }
        return;
    }
    /* What watchers are asked for just now is waited for: before, it would seem not to be there. */
    if (state->changed && notify_abroad_is_current(state) && !notify_others_tell(state)) {
        notify_overflow(session);
        return;
    }
    /* Before items of new messages, to which searches they have been added (§5.2). */
    bool asked = state->new_first != 0 && session->view.is_open;
    if (asked && !(session->contexts != NULL && imap_contexts_tell(session))) {
        new_tell(state);
    }
}

/* ---- What the client does itself: it is not told of that (§5) ---- */

void imap_notify_did(struct imap_session *session, const struct imap_command *command)
{
    struct notify_own own = {.below = command->kind == IMAP_RENAME};
    struct notify_known_list now;
    if (session->notify->feeds) { /* whoever asks for something knows then what was before */
        if (command->kind != IMAP_NOTIFY) {
            notify_feed(session->notify);
        }
        return;
    }
    switch (command->kind) {
    case IMAP_CREATE:
    case IMAP_DELETE:
    case IMAP_SUBSCRIBE:
    case IMAP_UNSUBSCRIBE:
        own.names[0] = command->mailbox.name;
        break;
    case IMAP_SETACL: /* what he gives to himself */
    case IMAP_DELETEACL:
        own.names[0] = command->acl.mailbox;
        break;
    case IMAP_RENAME:
        own.names[0] = command->rename.from;
        own.names[1] = command->rename.to;
        break;
    default:
        return;
    }
    notify_known_gather(session->notify, &now);
    notify_known_take(&session->notify->known, &now, &own);
}

void imap_notify_put(struct imap_session *session, uint64_t id, uint32_t first, uint32_t last)
{
    struct imap_notify_state *state = session->notify;
    struct notify_known *known =
        state != NULL ? notify_known_by_id(&state->known, notify_here(state), id) : NULL;
    const struct mailstore_box *box = known != NULL ? notify_known_box(state, known) : NULL;
    if (state == NULL) {
        return;
    }
    if (session->view.is_open && session->view.box->id == id) {
        bool goes_on = state->own_last != 0 && state->own_last + 1 == first;
        state->own_first = goes_on ? state->own_first : first;
        state->own_last = last;
    } else if (box != NULL && known->uidnext == first && box->uidnext == last + 1 &&
               known->count + (last - first + 1) == box->count) { /* nothing else has happened */
        known->count = box->count;
        known->uidnext = box->uidnext;
    }
}

/* ---- The command ---- */

void notify_changed(struct imap_notify_state *state)
{
    state->changed = true;
    imap_session_later(state->session);
}

static void user_changed(struct mailstore_watch *watch)
{
    notify_changed(list_entry(watch, struct imap_notify_state, watch));
}

static void property_changed(struct mailstore_watch *watch, uint64_t box, struct slice key)
{
    notify_property(list_entry(watch, struct imap_notify_state, watch), box, key);
}

void notify_property(struct imap_notify_state *state, uint64_t box, struct slice key)
{
    const uint32_t events =
        IMAP_NOTIFY_MAILBOX_METADATA_CHANGE | IMAP_NOTIFY_SERVER_METADATA_CHANGE;
    struct slice entry;
    if ((notify_events_of_server(state) & events) != 0 &&
        imap_metadata_entry(state->session, key, &entry)) {
        notify_entries_add(&state->entries, notify_here(state), box, entry);
    }
}

void notify_state_free(struct imap_notify_state *state)
{
    if (state != NULL) {
        mailstore_watch_end(&state->watch);
        notify_owners_end(state);
        notify_abroad_end(state);
        free((void *)(uintptr_t)state->said.bytes);
        notify_known_free(&state->known);
        notify_entries_free(&state->entries);
        arena_close(&state->arena);
        free(state);
    }
}

void imap_notify_end(struct imap_session *session)
{
    struct imap_notify_state *state = session->notify;
    session->notify = NULL;
    notify_state_free(state);
}

/* The whole command, for agents that will have the selected mailbox. False: memory is short. */
static bool said_keep(struct imap_notify_state *state)
{
    const struct imap_session *session = state->session;
    struct slice text = state->selected != NULL
                            ? slice_of(session->server.text, session->server.text_bytes)
                            : slice_text("~n NOTIFY SET (personal NONE)\r\n");
    if (session->session.of_service || session->session.mailbox->group->count == 1) {
        return true;
    }
    uint8_t *copy = (uint8_t *)malloc(text.size);
    if (copy != NULL) {
        memcpy(copy, text.bytes, text.size);
        state->said = slice_of(copy, text.size);
    }
    return copy != NULL;
}

static struct imap_notify_state *state_new(struct imap_session *session,
                                           const struct imap_notify *notify)
{
    struct imap_notify_state *state = (struct imap_notify_state *)calloc(1, sizeof(*state));
    if (state == NULL) {
        return NULL;
    }
    state->session = session;
    state->watch.changed = user_changed;
    state->watch.property = property_changed;
    list_init(&state->watch.node);
    list_init(&state->shares.node);
    list_init(&state->owners);
    arena_open(&state->arena, SET_BYTES_MAX);
    state->feeds = session->watches;
    state->is_unfed = true;
    if (!set_copy(state, notify) || !said_keep(state)) {
        notify_state_free(state);
        return NULL;
    }
    return state;
}

static void set_begin(struct imap_session *session, struct imap_notify_state *state)
{
    session->notify = state;
    session->notify_silent = state->selected == NULL || state->selected->events == 0;
    struct notify_known_list now;
    notify_owners_begin(state);
    if (state->feeds) {
        notify_feed(state);
        return;
    }
    notify_known_gather(state, &now);
    state->known = now;
    if (now.failed) {
        notify_overflow(session);
        return;
    }
    notify_owners_told(state);
    if (!session->guest) {
        mailstore_user_watch_begin(session->user, &state->watch);
    }
    notify_others_begin(state);
}

void notify_state_begin(struct imap_session *session, struct imap_notify_state *state)
{
    if (session->notify != NULL && session->notify->feeds) { /* what was not told yet is not lost */
        notify_feed(session->notify);
    }
    imap_notify_end(session);
    if (state != NULL) { /* §3.1: it is a NOOP, too, whatever is told later */
        session->notify_silent = false;
        imap_sync(session, true);
        set_begin(session, state);
    } else {
        session->notify_silent = true;
    }
}

void imap_notify_teach(const struct imap_session *session, struct imap_agent *agent)
{
    const struct imap_notify_state *state = session->notify;
    if (state != NULL && state->said.size > 0) {
        imap_agent_say_untold(agent, state->said);
    } else if (session->notify_silent) {
        imap_agent_say_untold(agent, slice_text("~n NOTIFY NONE\r\n"));
    }
}

void imap_notify(struct imap_session *session, const struct imap_notify *notify)
{
    const char *bad = set_is_bad(notify);
    if (!is_supported(notify)) {
        imap_session_no(session,
                        "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName "
                        "SubscriptionChange MailboxMetadataChange ServerMetadataChange)",
                        "Not an event that is told of");
        return;
    }
    if (bad != NULL) {
        imap_session_bad(session, bad);
        return;
    }
    struct imap_notify_state *state = NULL;
    if (notify->count > 0 && (state = state_new(session, notify)) == NULL) {
        imap_session_refuse(session, -E2BIG);
        return;
    }
    if (!notify_setting_begin(session, state)) {
        notify_state_begin(session, state);
        imap_session_ok(session);
    }
}
