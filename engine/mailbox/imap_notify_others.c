/* NOTIFY: what is told of mailboxes other than the selected one, and of names (RFC 5465 §5). */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define LINE_BYTES_MAX (512u * 1024) /* holds all entries that may wait */

struct telling {
    struct imap_notify_state *state;
    const struct notify_known_list *old, *now; /* NULL at the beginning */
    /* Of the heap: all mailboxes, in order of their names; NULL: not looked for yet. */
    const struct notify_known **names;
    struct slice *parents; /* of the heap: of what has come to be, or gone */
    uint32_t name_count, parent_count;
    struct imap_writer writer;
};

static bool is_here(const struct imap_notify_state *state, const struct notify_known *known)
{
    return known->shard == notify_here(state);
}

static bool is_selected(const struct imap_notify_state *state, const struct notify_known *known)
{
    struct imap_session *session = state->session;
    const struct view *view = &session->view;
    return is_here(state, known) ? view->is_open && view->box->id == known->id
                                 : imap_abroad_has_selected(session, known->shard, known->id,
                                                            notify_known_name(known));
}

static void telling_open(struct telling *telling, struct imap_notify_state *state)
{
    *telling = (struct telling){.state = state};
    imap_writer_open(&telling->writer, LINE_BYTES_MAX);
    telling->writer.utf8 = imap_session_utf8(state->session);
}

static void telling_close(struct telling *telling)
{
    imap_writer_close(&telling->writer);
    free(telling->names);
    free(telling->parents);
}

static void telling_send(struct telling *telling)
{
    if (!imap_session_send(telling->state->session, &telling->writer)) {
        telling->state->session->outbox.failed = true;
    }
}

/* ---- Names ---- */

static int text_order(const void *left, const void *right)
{
    const struct slice a = *(const struct slice *)left, b = *(const struct slice *)right;
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int name_order(const void *left, const void *right)
{
    const struct slice a = notify_known_name(*(const struct notify_known *const *)left);
    const struct slice b = notify_known_name(*(const struct notify_known *const *)right);
    return text_order(&a, &b);
}

static void names_gather(struct telling *telling)
{
    uint32_t count = telling->now->count;
    telling->names = (const struct notify_known **)malloc((count + 1u) * sizeof(telling->names[0]));
    for (uint32_t i = 0; telling->names != NULL && i < count; i++) {
        if (telling->now->all[i].id != 0) {
            telling->names[telling->name_count++] = &telling->now->all[i];
        }
    }
    if (telling->names != NULL && telling->name_count > 0) {
        qsort(telling->names, telling->name_count, sizeof(telling->names[0]), name_order);
    }
}

/* The first name that is this one or behind it. */
static uint32_t name_place(struct telling *telling, struct slice wanted)
{
    if (telling->names == NULL) {
        names_gather(telling);
    }
    uint32_t low = 0, high = telling->name_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct slice name = notify_known_name(telling->names[middle]);
        if (text_order(&name, &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The mailbox of this name, as it is now. NULL: there is none that may be seen. */
static const struct notify_known *name_find(struct telling *telling, struct slice name)
{
    uint32_t place = name_place(telling, name);
    const struct notify_known *known = place < telling->name_count ? telling->names[place] : NULL;
    return known != NULL && slice_equal(notify_known_name(known), name) ? known : NULL;
}

static bool is_below(struct slice child, struct slice parent)
{
    return child.size > parent.size && child.bytes[parent.size] == IMAP_SEPARATOR &&
           slice_equal(slice_first(child, parent.size), parent);
}

/* Between a name and the first below it stand names like "work-old": '-' is smaller than the separator. */
static bool has_children(struct telling *telling, struct slice name)
{
    uint8_t first_below[IMAP_SHARED_NAME_BYTES + 1];
    check(name.size < sizeof(first_below));
    memcpy(first_below, name.bytes, name.size);
    first_below[name.size] = IMAP_SEPARATOR;
    uint32_t place = name_place(telling, slice_of(first_below, name.size + 1));
    return place < telling->name_count && is_below(notify_known_name(telling->names[place]), name);
}

static uint32_t name_events(struct telling *telling, struct slice name)
{
    const struct imap_session *session = telling->state->session;
    const struct notify_known *known = name_find(telling, name);
    bool personal = known != NULL ? known->personal : !imap_name_is_shared(session, name);
    bool subscribed = mailstore_is_subscribed(session->user, name);
    return notify_events_of(telling->state, name,
                            (personal ? NOTIFY_NAME_PERSONAL : 0u) |
                                (subscribed ? NOTIFY_NAME_SUBSCRIBED : 0u));
}

static bool may_be_read(const struct notify_known *known)
{
    return (known->rights & IMAP_RIGHT_READ) != 0;
}

/* Nothing more is told of it (§3.1, §5.9). */
static void no_access_tell(struct telling *telling, struct slice name)
{
    imap_write(&telling->writer, "* LIST (\\NoAccess) \"/\" ");
    imap_name_write(telling->state->session, &telling->writer, name);
    imap_write(&telling->writer, "\r\n");
    telling_send(telling);
}

/* As it is now. `old`: it was called so; NULL: it has this name as long as it is there, if it is not the INBOX of then,
 * which is there again. */
static void name_tell(struct telling *telling, struct slice name, const struct notify_known *old)
{
    struct imap_session *session = telling->state->session;
    struct slice old_name = old != NULL ? notify_known_name(old) : slice_of(NULL, 0);
    struct imap_writer *writer = &telling->writer;
    const struct notify_known *known = name_find(telling, name);
    const struct imap_list_name told = {
        .text = name,
        .box = known != NULL ? notify_known_box(telling->state, known) : NULL,
        .is_abroad = known != NULL && !is_here(telling->state, known),
        .subscribed = mailstore_is_subscribed(session->user, name),
        .has_children = has_children(telling, name)};
    if (old == NULL && told.box != NULL && told.box->of_inbox && known->personal &&
        notify_known_by_id(telling->old, known->shard, told.box->id) == NULL) {
        old_name = slice_text("INBOX");
    }
    imap_write(writer, "* LIST (");
    imap_write(writer, known != NULL && !may_be_read(known) ? "\\NoAccess " : "");
    imap_list_attributes_write(session, writer, &told);
    imap_write(writer, ") \"/\" ");
    imap_name_write(session, writer, name);
    if (old_name.size > 0) {
        imap_write(writer, " (\"OLDNAME\" (");
        imap_name_write(session, writer, old_name);
        imap_write(writer, "))");
    }
    imap_write(writer, "\r\n");
    telling_send(telling);
}

/* Without the last level; empty: it is one of the first. */
static struct slice parent_of(struct slice name)
{
    size_t at = name.size;
    while (at > 0 && name.bytes[at - 1] != IMAP_SEPARATOR) {
        at--;
    }
    return slice_first(name, at > 0 ? at - 1 : 0);
}

/* It, or its last level, has come to be or gone: that concerns what is above it, too (§5.4). */
static void parent_add(struct telling *telling, struct slice name)
{
    struct slice parent = parent_of(name);
    if (telling->parents == NULL) {
        telling->parents = (struct slice *)malloc((telling->old->count + telling->now->count + 1u) *
                                                  sizeof(telling->parents[0]));
    }
    if (parent.size > 0 && telling->parents != NULL) {
        telling->parents[telling->parent_count++] = parent;
    }
}

/* Each once; not those that have come to be themselves, which were told. */
static void parents_tell(struct telling *telling)
{
    if (telling->parent_count > 0) {
        qsort(telling->parents, telling->parent_count, sizeof(telling->parents[0]), text_order);
    }
    for (uint32_t i = 0; i < telling->parent_count; i++) {
        struct slice name = telling->parents[i];
        const struct notify_known *known = name_find(telling, name);
        bool twice = i > 0 && slice_equal(telling->parents[i - 1], name);
        bool is_new =
            known != NULL && notify_known_by_id(telling->old, known->shard, known->id) == NULL;
        if (!twice && !is_new && (name_events(telling, name) & IMAP_NOTIFY_MAILBOX_NAME)) {
            name_tell(telling, name, NULL);
        }
    }
}

/* Has a mailbox above it been renamed, and it has only followed? Of such nothing is told (§5.4). */
static bool has_followed(struct telling *telling, const struct notify_known *old,
                         const struct notify_known *now)
{
    struct slice from = notify_known_name(old), to = notify_known_name(now);
    for (;;) {
        struct slice from_above = parent_of(from), to_above = parent_of(to);
        if (from_above.size == 0 || to_above.size == 0 ||
            !slice_equal(slice_from(from, from_above.size), slice_from(to, to_above.size))) {
            return false;
        }
        from = from_above;
        to = to_above;
        const struct notify_known *known = name_find(telling, to);
        const struct notify_known *before =
            known != NULL ? notify_known_by_id(telling->old, known->shard, known->id) : NULL;
        if (before != NULL && slice_equal(notify_known_name(before), from)) {
            return true;
        }
    }
}

/* ---- Messages ---- */

static void status_tell(struct telling *telling, const struct notify_known *known, uint32_t items)
{
    const struct imap_session *session = telling->state->session;
    const struct mailstore_box box = {.count = known->count,
                                      .uidnext = known->uidnext,
                                      .uidvalidity = known->uidvalidity,
                                      .unseen_count = known->unseen_count,
                                      .modseq = known->modseq};
    if (imap_session_has(session, IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC)) {
        items |= IMAP_STATUS_HIGHESTMODSEQ;
    }
    imap_status_write_named(session, &telling->writer, notify_known_name(known), &box, items);
    telling_send(telling);
}

static void messages_tell(struct telling *telling, const struct notify_known *old,
                          const struct notify_known *now, uint32_t events)
{
    bool moved = old == NULL || !may_be_read(old) || old->count != now->count ||
                 old->uidnext != now->uidnext;
    uint32_t items = 0;
    if (moved && (events & IMAP_NOTIFY_MESSAGE_NEW) != 0) {
        items = IMAP_STATUS_MESSAGES | IMAP_STATUS_UIDNEXT | IMAP_STATUS_UIDVALIDITY |
                IMAP_STATUS_UNSEEN;
        /* §3.1: at the beginning whether it is enabled or not */
        bool modseq = telling->old == NULL && (events & IMAP_NOTIFY_FLAG_CHANGE) != 0;
        items |= modseq ? IMAP_STATUS_HIGHESTMODSEQ : 0u;
    } else if (!moved && old->modseq != now->modseq && (events & IMAP_NOTIFY_FLAG_CHANGE) != 0) {
        items = IMAP_STATUS_UIDVALIDITY | IMAP_STATUS_UNSEEN;
    }
    if (items != 0 && may_be_read(now) && !is_selected(telling->state, now)) {
        status_tell(telling, now, items);
    }
}

/* ---- What has changed ---- */

/* It is there before and after, and may have another name, or other rights. */
static void same_tell(struct telling *telling, const struct notify_known *old,
                      const struct notify_known *now, uint32_t events)
{
    bool renamed = !slice_equal(notify_known_name(old), notify_known_name(now));
    if (renamed &&
        ((events | notify_known_events(telling->state, old)) & IMAP_NOTIFY_MAILBOX_NAME) != 0 &&
        !has_followed(telling, old, now)) {
        name_tell(telling, notify_known_name(now), old);
    } else if (events != 0 && may_be_read(old) != may_be_read(now)) {
        name_tell(telling, notify_known_name(now), NULL);
    }
    if (old->special_use != now->special_use) {
        notify_entries_add(&telling->state->entries, now->shard, now->id,
                           slice_text(IMAP_METADATA_SPECIAL_USE));
    }
}

/* It has come to be, or gone: for who may see it as the owner's rights say (§5.4). Who has not asked for names is told that
 * the mailbox of another can be watched, or not any more (§5.9), and not why. */
static void other_tell(struct telling *telling, const struct notify_known *some, bool gone,
                       uint32_t events)
{
    struct slice name = notify_known_name(some);
    if ((events & IMAP_NOTIFY_MAILBOX_NAME) != 0 || (!some->personal && !gone && events != 0)) {
        name_tell(telling, name, NULL);
    } else if (!some->personal && events != 0 && name_find(telling, name) == NULL) {
        no_access_tell(telling, name);
    }
    parent_add(telling, name);
}

static void one_tell(void *owner, struct notify_known *old, struct notify_known *now)
{
    struct telling *telling = (struct telling *)owner;
    const struct notify_known *some = now != NULL ? now : old;
    check(some != NULL);
    bool subscribed = (now != NULL && now->subscribed) || (old != NULL && old->subscribed);
    uint32_t events = notify_events_of(telling->state, notify_known_name(some),
                                       (subscribed ? NOTIFY_NAME_SUBSCRIBED : 0u) |
                                           (some->personal ? NOTIFY_NAME_PERSONAL : 0u));
    bool was_box = old != NULL && old->id != 0, is_box = now != NULL && now->id != 0;
    if (was_box && is_box) {
        same_tell(telling, old, now, events);
    } else if (was_box || is_box) {
        other_tell(telling, some, was_box, events);
    }
    if (is_box) {
        messages_tell(telling, old, now, events);
    }
}

static bool name_is_subscribed(const struct notify_known_list *list, struct slice name)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->all[i].subscribed && slice_equal(notify_known_name(&list->all[i]), name)) {
            return true;
        }
    }
    return false;
}

/* By name, whatever has become of the mailbox. */
static void subscriptions_tell(struct telling *telling, const struct notify_known_list *from,
                               const struct notify_known_list *in)
{
    for (uint32_t i = 0; i < from->count; i++) {
        struct slice name = notify_known_name(&from->all[i]);
        if (from->all[i].subscribed && !name_is_subscribed(in, name) &&
            (notify_known_events(telling->state, &from->all[i]) &
             IMAP_NOTIFY_SUBSCRIPTION_CHANGE) != 0) {
            name_tell(telling, name, NULL);
        }
    }
}

static uint32_t subscribed_sum(const struct notify_known_list *list, uint64_t *sum)
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

static void difference_tell(struct telling *telling)
{
    uint64_t old_sum, now_sum;
    notify_known_compare(telling->old, telling->now, one_tell, telling);
    parents_tell(telling);
    if (subscribed_sum(telling->old, &old_sum) != subscribed_sum(telling->now, &now_sum) ||
        old_sum != now_sum) {
        subscriptions_tell(telling, telling->now, telling->old);
        subscriptions_tell(telling, telling->old, telling->now);
    }
    notify_entries_tell(telling->state, telling->now, &telling->writer);
}

bool notify_others_tell(struct imap_notify_state *state)
{
    struct telling telling;
    struct notify_known_list now;
    state->changed = false;
    notify_known_gather(state, &now);
    if (now.failed || state->entries.failed) {
        notify_known_free(&now);
        return false;
    }
    telling_open(&telling, state);
    telling.old = &state->known;
    telling.now = &now;
    difference_tell(&telling);
    telling_close(&telling);
    notify_known_free(&state->known);
    state->known = now;
    notify_owners_told(state);
    return true;
}

void notify_others_begin(struct imap_notify_state *state)
{
    struct telling telling;
    telling_open(&telling, state);
    for (uint32_t i = 0; i < state->known.count; i++) {
        const struct notify_known *known = &state->known.all[i];
        uint32_t events = notify_known_events(state, known);
        if (events == 0 || known->id == 0) {
            continue;
        }
        if (!may_be_read(known)) {
            no_access_tell(&telling, notify_known_name(known));
        } else if (state->set.status) {
            messages_tell(&telling, NULL, known, events);
        }
    }
    telling_close(&telling);
}
