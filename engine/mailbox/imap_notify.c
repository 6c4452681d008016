/*
 * NOTIFY (RFC 5465): between its commands, too, a client is told what happens, in the selected mailbox and in others.
 *
 * A session remembers of each mailbox what its client was told last. Whatever has changed, and however often, the
 * difference is told when the client reads and no command is under way; so a slow client costs no more than that, and
 * what would be too much of it ends with NOTIFICATIONOVERFLOW.
 */
#include "engine/core/check.h"
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (64u * 1024)
#define SET_BYTES_MAX (64u * 1024)    /* of what the client asks for */
#define KNOWN_BYTES_MAX (256u * 1024) /* of what is remembered for it */
#define KNOWN_COUNT_MAX 4096u
#define MESSAGE_EVENTS                                                                             \
    (IMAP_NOTIFY_MESSAGE_NEW | IMAP_NOTIFY_MESSAGE_EXPUNGE | IMAP_NOTIFY_FLAG_CHANGE)
#define NAME_EVENTS (IMAP_NOTIFY_MAILBOX_NAME | IMAP_NOTIFY_SUBSCRIPTION_CHANGE)

/* A mailbox as it was told last, or the name of a subscription to none (id 0). */
struct known {
    uint64_t id, modseq;
    char *name; /* owned */
    uint32_t name_bytes;
    uint32_t count, uidnext;
    bool subscribed;
};

struct known_list {
    struct known *all; /* owned; by id, then by name */
    uint32_t count, room;
    size_t bytes;
    bool failed; /* memory was short, or there are too many */
};

struct imap_notify_state {
    struct imap_session *session;
    struct mailstore_watch watch; /* of the user */
    struct arena arena;
    struct imap_notify set;                   /* in the arena */
    const struct imap_notify_group *selected; /* NULL: as without NOTIFY */
    struct known_list known;
    bool changed;       /* something has, somewhere */
    uint32_t new_first; /* uids of messages whose items are to be told; 0: none */
    uint32_t new_last;
    struct imap_fetch fetch; /* of these */
    struct imap_range range;
};

/* ---- What is asked for ---- */

static bool text_list_copy(struct arena *arena, const struct imap_text_list *from,
                           struct imap_text_list *to)
{
    struct slice *items = (struct slice *)arena_take_array(arena, from->count + 1u, sizeof(*items));
    for (uint32_t i = 0; items != NULL && i < from->count; i++) {
        if (from->items[i].size > 0 && !arena_copy(arena, from->items[i], &items[i])) {
            return false;
        }
    }
    *to = (struct imap_text_list){.items = items, .count = from->count};
    return items != NULL;
}

static bool items_copy(struct arena *arena, const struct imap_notify_group *from,
                       struct imap_notify_group *to)
{
    struct imap_fetch_item *items =
        (struct imap_fetch_item *)arena_take_array(arena, from->fetch_count + 1u, sizeof(*items));
    for (uint32_t i = 0; items != NULL && i < from->fetch_count; i++) {
        const struct imap_section *section = &from->fetch[i].section;
        uint32_t *parts =
            (uint32_t *)arena_take_array(arena, section->part_count + 1u, sizeof(*parts));
        items[i] = from->fetch[i];
        items[i].peek = true; /* nobody has read them */
        if (parts == NULL || !text_list_copy(arena, &section->fields, &items[i].section.fields)) {
            return false;
        }
        if (section->part_count > 0) {
            memcpy(parts, section->parts, section->part_count * sizeof(*parts));
        }
        items[i].section.parts = parts;
    }
    to->fetch = items;
    return items != NULL;
}

static bool set_copy(struct imap_notify_state *state, const struct imap_notify *from)
{
    struct imap_notify_group *groups =
        (struct imap_notify_group *)arena_take_array(&state->arena, from->count, sizeof(*groups));
    for (uint32_t i = 0; groups != NULL && i < from->count; i++) {
        groups[i] = from->groups[i];
        if (!text_list_copy(&state->arena, &from->groups[i].mailboxes, &groups[i].mailboxes) ||
            !items_copy(&state->arena, &from->groups[i], &groups[i])) {
            return false;
        }
        if (groups[i].filter <= IMAP_NOTIFY_SELECTED_DELAYED) {
            state->selected = &groups[i];
        }
    }
    state->set = (struct imap_notify){from->status, groups, from->count};
    return groups != NULL;
}

/* RFC 5465 §5, §6. NULL: it is good. */
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
            continue;
        }
        if ((group->events & NAME_EVENTS) != 0) {
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
        if ((notify->groups[i].events & ~(uint32_t)(MESSAGE_EVENTS | NAME_EVENTS)) != 0) {
            return false;
        }
    }
    return true;
}

static bool group_names(const struct imap_notify_group *group, struct slice name)
{
    for (uint32_t i = 0; i < group->mailboxes.count; i++) {
        struct slice one = group->mailboxes.items[i];
        bool inbox = slice_equal_nocase(one, slice_text("INBOX"));
        one = inbox ? slice_text("INBOX") : one;
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

/* The events of the first group that the mailbox is in; 0: none. Delivery goes into any mailbox (subaddresses, Sieve),
 * so `inboxes` are the personal ones (RFC 5465 §6.3). */
static uint32_t events_of(const struct imap_notify_state *state, struct slice name, bool subscribed)
{
    for (uint32_t i = 0; i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        bool fits = false;
        switch (group->filter) {
        case IMAP_NOTIFY_SELECTED:
        case IMAP_NOTIFY_SELECTED_DELAYED:
            break;
        case IMAP_NOTIFY_INBOXES:
        case IMAP_NOTIFY_PERSONAL:
            fits = true;
            break;
        case IMAP_NOTIFY_SUBSCRIBED:
            fits = subscribed;
            break;
        case IMAP_NOTIFY_SUBTREE:
        case IMAP_NOTIFY_MAILBOXES:
            fits = group_names(group, name);
            break;
        }
        if (fits) {
            return group->events;
        }
    }
    return 0;
}

/* ---- What is known ---- */

static void known_free(struct known_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        free(list->all[i].name);
    }
    free(list->all);
    *list = (struct known_list){0};
}

static struct slice known_name(const struct known *known)
{
    return slice_of(known->name, known->name_bytes);
}

static struct known *known_add(struct known_list *list, uint64_t id, struct slice name)
{
    size_t bytes = sizeof(struct known) + name.size;
    if (list->count >= KNOWN_COUNT_MAX || list->bytes + bytes > KNOWN_BYTES_MAX) {
        list->failed = true;
        return NULL;
    }
    if (list->all == NULL || list->count == list->room) {
        uint32_t room = list->room * 2 + 16;
        struct known *grown = (struct known *)realloc(list->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            list->failed = true;
            return NULL;
        }
        list->all = grown;
        list->room = room;
    }
    struct known *known = &list->all[list->count];
    *known = (struct known){.id = id, .name_bytes = (uint32_t)name.size};
    known->name = (char *)malloc(name.size + 1);
    if (known->name == NULL) {
        list->failed = true;
        return NULL;
    }
    memcpy(known->name, name.bytes, name.size);
    list->count++;
    list->bytes += bytes;
    return known;
}

static int known_order(const void *left, const void *right)
{
    const struct known *a = (const struct known *)left, *b = (const struct known *)right;
    if (a->id != b->id) {
        return a->id < b->id ? -1 : 1;
    }
    uint32_t size = a->name_bytes < b->name_bytes ? a->name_bytes : b->name_bytes;
    int order = memcmp(a->name, b->name, size);
    return order != 0 ? order : (a->name_bytes > b->name_bytes) - (a->name_bytes < b->name_bytes);
}

struct subscribed_gather {
    const struct mailstore_user *user;
    struct known_list *list;
};

/* Only those without a mailbox: the others are told of with it. */
static void subscribed_gather(void *owner, struct slice name)
{
    struct subscribed_gather *gather = (struct subscribed_gather *)owner;
    struct mailstore_user *user = (struct mailstore_user *)(uintptr_t)gather->user;
    if (mailstore_box_find(user, name) == NULL) {
        struct known *known = known_add(gather->list, 0, name);
        if (known != NULL) {
            known->subscribed = true;
        }
    }
}

static void known_gather(struct mailstore_user *user, struct known_list *list)
{
    struct mailstore_box *box = NULL;
    *list = (struct known_list){0};
    while (!list->failed && (box = mailstore_box_next(user, box)) != NULL) {
        struct known *known = known_add(list, box->id, box->name);
        if (known != NULL) {
            known->modseq = box->modseq;
            known->count = box->count;
            known->uidnext = box->uidnext;
            known->subscribed = mailstore_is_subscribed(user, box->name);
        }
    }
    struct subscribed_gather gather = {user, list};
    mailstore_each_subscribed(user, subscribed_gather, &gather);
    if (list->count > 0) {
        qsort(list->all, list->count, sizeof(list->all[0]), known_order);
    }
}

/* ---- Telling of other mailboxes ---- */

struct telling {
    struct imap_notify_state *state;
    struct imap_writer writer;
};

static bool is_selected(const struct imap_notify_state *state, uint64_t id)
{
    const struct view *view = &state->session->view;
    return view->is_open && view->box->id == id;
}

static void telling_send(struct telling *telling)
{
    if (!imap_session_send(telling->state->session, &telling->writer)) {
        telling->state->session->outbox.failed = true;
    }
}

/* `old`: NULL: none. */
static void name_tell(struct telling *telling, const char *attributes, struct slice name,
                      const struct known *old)
{
    struct imap_writer *writer = &telling->writer;
    imap_write(writer, "* LIST (");
    imap_write(writer, attributes);
    imap_write(writer, ") \"/\" ");
    imap_name_write(telling->state->session, writer, name);
    if (old != NULL) {
        imap_write(writer, " (\"OLDNAME\" (");
        imap_name_write(telling->state->session, writer, known_name(old));
        imap_write(writer, "))");
    }
    imap_write(writer, "\r\n");
    telling_send(telling);
}

static void status_tell(struct telling *telling, const struct mailstore_box *box, uint32_t items)
{
    const struct imap_session *session = telling->state->session;
    if (imap_session_has(session, IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC)) {
        items |= IMAP_STATUS_HIGHESTMODSEQ;
    }
    imap_status_write(session, &telling->writer, box, items);
    telling_send(telling);
}

static void messages_tell(struct telling *telling, const struct known *old, const struct known *now,
                          uint32_t events)
{
    bool moved = old == NULL || old->count != now->count || old->uidnext != now->uidnext;
    uint32_t items = 0;
    if (moved && (events & IMAP_NOTIFY_MESSAGE_NEW) != 0) {
        items = IMAP_STATUS_MESSAGES | IMAP_STATUS_UIDNEXT | IMAP_STATUS_UIDVALIDITY |
                IMAP_STATUS_UNSEEN;
    } else if (!moved && old->modseq != now->modseq && (events & IMAP_NOTIFY_FLAG_CHANGE) != 0) {
        items = IMAP_STATUS_UIDVALIDITY | IMAP_STATUS_UNSEEN;
    }
    if (items == 0 || is_selected(telling->state, now->id)) {
        return;
    }
    /* `now` has just been gathered; by its name it is found faster than by its id. */
    const struct mailstore_box *box =
        mailstore_box_find(telling->state->session->user, known_name(now));
    if (box != NULL && box->id == now->id) {
        status_tell(telling, box, items);
    }
}

/* What has become of one; either is NULL when it was not, or is no more. */
static void one_tell(struct telling *telling, const struct known *old, const struct known *now)
{
    const struct known *some = now != NULL ? now : old;
    check(some != NULL);
    bool subscribed = (now != NULL && now->subscribed) || (old != NULL && old->subscribed);
    uint32_t events = events_of(telling->state, known_name(some), subscribed);
    bool was_box = old != NULL && old->id != 0, is_box = now != NULL && now->id != 0;
    if (was_box && is_box) {
        bool renamed = !slice_equal(known_name(old), known_name(now));
        uint32_t before = events_of(telling->state, known_name(old), old->subscribed);
        if (renamed && ((events | before) & IMAP_NOTIFY_MAILBOX_NAME) != 0) {
            name_tell(telling, "", known_name(now), old);
        }
    } else if ((events & IMAP_NOTIFY_MAILBOX_NAME) != 0 && (was_box || is_box)) {
        name_tell(telling, is_box ? "" : "\\NonExistent", known_name(some), NULL);
    }
    if (is_box) {
        messages_tell(telling, old, now, events);
    }
}

static bool name_is_subscribed(const struct known_list *list, struct slice name)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->all[i].subscribed && slice_equal(known_name(&list->all[i]), name)) {
            return true;
        }
    }
    return false;
}

/* By name, whatever has become of the mailbox. */
static void subscriptions_tell(struct telling *telling, const struct known_list *from,
                               const struct known_list *in, const char *attributes)
{
    for (uint32_t i = 0; i < from->count; i++) {
        struct slice name = known_name(&from->all[i]);
        if (from->all[i].subscribed && !name_is_subscribed(in, name) &&
            (events_of(telling->state, name, true) & IMAP_NOTIFY_SUBSCRIPTION_CHANGE) != 0) {
            name_tell(telling, attributes, name, NULL);
        }
    }
}

static uint32_t subscribed_sum(const struct known_list *list, uint64_t *sum)
{
    uint32_t count = 0;
    *sum = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->all[i].subscribed) {
            uint64_t hash = 0xcbf29ce484222325ull;
            for (uint32_t b = 0; b < list->all[i].name_bytes; b++) {
                hash = (hash ^ (uint8_t)list->all[i].name[b]) * 0x100000001b3ull;
            }
            *sum += hash;
            count++;
        }
    }
    return count;
}

static void difference_tell(struct telling *telling, const struct known_list *old,
                            const struct known_list *now)
{
    uint32_t i = 0, j = 0;
    while (i < old->count || j < now->count) {
        int order = i == old->count   ? 1
                    : j == now->count ? -1
                                      : known_order(&old->all[i], &now->all[j]);
        if (i < old->count && j < now->count && old->all[i].id != 0 &&
            old->all[i].id == now->all[j].id) {
            order = 0; /* it may have another name */
        }
        one_tell(telling, order <= 0 ? &old->all[i] : NULL, order >= 0 ? &now->all[j] : NULL);
        i += order <= 0;
        j += order >= 0;
    }
    uint64_t old_sum, now_sum;
    if (subscribed_sum(old, &old_sum) != subscribed_sum(now, &now_sum) || old_sum != now_sum) {
        subscriptions_tell(telling, now, old, "\\Subscribed");
        subscriptions_tell(telling, old, now, "");
    }
}

/* RFC 5465 §5.8: from here on it is as after NOTIFY NONE. */
static void overflow(struct imap_session *session)
{
    imap_notify_end(session);
    imap_session_write(session, "* OK [NOTIFICATIONOVERFLOW] Too many mailboxes to tell of\r\n");
}

static void others_tell(struct imap_notify_state *state)
{
    struct telling telling = {.state = state};
    struct known_list now;
    state->changed = false;
    known_gather(state->session->user, &now);
    if (now.failed) {
        known_free(&now);
        overflow(state->session);
        return;
    }
    imap_writer_open(&telling.writer, LINE_BYTES_MAX);
    telling.writer.utf8 = imap_session_utf8(state->session);
    difference_tell(&telling, &state->known, &now);
    imap_writer_close(&telling.writer);
    known_free(&state->known);
    state->known = now;
}

/* ---- Telling of the selected mailbox ---- */

bool imap_notify_wants_flags(const struct imap_session *session)
{
    const struct imap_notify_state *state = session->notify;
    return state == NULL || state->selected == NULL ||
           (state->selected->events & IMAP_NOTIFY_FLAG_CHANGE) != 0;
}

void imap_notify_new(struct imap_session *session, uint32_t uid)
{
    struct imap_notify_state *state = session->notify;
    if (state != NULL && state->selected != NULL && state->selected->fetch_count > 0) {
        state->new_first = state->new_first == 0 ? uid : state->new_first;
        state->new_last = uid;
    }
}

void imap_notify_deselected(struct imap_session *session)
{
    if (session->notify != NULL) {
        session->notify->new_first = 0;
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

void imap_notify_tell(struct imap_session *session)
{
    struct imap_notify_state *state = session->notify;
    if (state->selected != NULL && state->selected->events != 0 && session->view.is_open) {
        imap_sync(session, state->selected->filter == IMAP_NOTIFY_SELECTED);
    }
    if (state->changed) {
        others_tell(state);
    }
    state = session->notify; /* it may have been too much */
    if (state != NULL && state->new_first != 0 && session->view.is_open) {
        new_tell(state);
    }
}

/* ---- The command ---- */

static void user_changed(struct mailstore_watch *watch)
{
    struct imap_notify_state *state = list_entry(watch, struct imap_notify_state, watch);
    state->changed = true;
    imap_session_later(state->session);
}

void imap_notify_end(struct imap_session *session)
{
    struct imap_notify_state *state = session->notify;
    session->notify = NULL;
    if (state != NULL) {
        mailstore_watch_end(&state->watch);
        known_free(&state->known);
        arena_close(&state->arena);
        free(state);
    }
}

/* STATUS of what is told of from now on (RFC 5465 §3.1). */
static void all_tell(struct imap_notify_state *state)
{
    struct telling telling = {.state = state};
    imap_writer_open(&telling.writer, LINE_BYTES_MAX);
    telling.writer.utf8 = imap_session_utf8(state->session);
    for (uint32_t i = 0; i < state->known.count; i++) {
        const struct known *known = &state->known.all[i];
        if (known->id != 0) {
            messages_tell(&telling, NULL, known,
                          events_of(state, known_name(known), known->subscribed));
        }
    }
    imap_writer_close(&telling.writer);
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
    list_init(&state->watch.node);
    arena_open(&state->arena, SET_BYTES_MAX);
    if (!set_copy(state, notify)) {
        arena_close(&state->arena);
        free(state);
        return NULL;
    }
    return state;
}

void imap_notify(struct imap_session *session, const struct imap_notify *notify)
{
    const char *bad = set_is_bad(notify);
    if (!is_supported(notify)) {
        imap_session_no(session,
                        "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName "
                        "SubscriptionChange)",
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
    imap_notify_end(session);
    if (state == NULL) {
        imap_session_ok(session);
        return;
    }
    session->notify = state;
    known_gather(session->user, &state->known);
    if (state->known.failed) {
        overflow(session);
        imap_session_ok(session);
        return;
    }
    mailstore_user_watch_begin(session->user, &state->watch);
    if (notify->status) {
        all_tell(state);
    }
    imap_session_ok(session);
}
