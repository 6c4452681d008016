/*
 * NOTIFY: whose mailboxes are watched, beside the user's own.
 *
 * Those of the users whom a group names, or a subscription, or of all who share something: as long as they do. So many
 * and no more: it ends with NOTIFICATIONOVERFLOW. Who begins to share is heard of by the store's watch; which of his
 * mailboxes are to be seen is looked for when their names or rights have changed, and not at each message.
 */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define OWNERS_MAX 256u

/* ---- Who is asked for ---- */

/* Does the line of this identifier say what the user may do? */
static bool concerns(const struct imap_session *session, struct slice identifier)
{
    bool taken = identifier.size > 0 && identifier.bytes[0] == '-';
    struct slice who = slice_from(identifier, taken);
    return slice_equal(who, slice_text(session->user->name)) ||
           slice_equal(who, slice_text(IMAP_ANYONE));
}

bool notify_wants_all(const struct imap_notify_state *state)
{
    struct slice root = imap_shared_root(state->session);
    for (uint32_t i = 0; root.size > 0 && i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        bool tree = group->filter == IMAP_NOTIFY_SUBTREE && group->events != 0;
        for (uint32_t j = 0; tree && j < group->mailboxes.count; j++) {
            struct slice name = group->mailboxes.items[j];
            bool above = root.size > name.size && root.bytes[name.size] == IMAP_SEPARATOR;
            if ((above || root.size == name.size) &&
                slice_equal(slice_first(root, name.size), name)) {
                return true;
            }
        }
    }
    return false;
}

/* All names that are asked for as such. */
static void names_each(const struct imap_notify_state *state,
                       void (*visit)(void *owner, struct slice name), void *owner)
{
    bool subscribed = false;
    for (uint32_t i = 0; i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        subscribed = subscribed || (group->filter == IMAP_NOTIFY_SUBSCRIBED && group->events != 0);
        for (uint32_t j = 0; group->events != 0 && j < group->mailboxes.count; j++) {
            visit(owner, group->mailboxes.items[j]);
        }
    }
    if (subscribed) {
        mailstore_each_subscribed(state->session->user, visit, owner);
    }
}

struct wanting {
    const struct imap_session *session;
    struct slice user;
    bool found;
};

static void wanting_visit(void *owner, struct slice name)
{
    struct wanting *wanting = (struct wanting *)owner;
    wanting->found =
        wanting->found || slice_equal(imap_shared_name_user(wanting->session, name), wanting->user);
}

static bool is_wanted(const struct imap_notify_state *state, struct slice user)
{
    struct wanting wanting = {.session = state->session, .user = user};
    names_each(state, wanting_visit, &wanting);
    return wanting.found || notify_wants_all(state);
}

struct notify_owner *notify_owner_of(const struct imap_notify_state *state, struct slice name)
{
    struct slice user = imap_shared_name_user(state->session, name);
    const struct list_node *owners = &state->owners;
    for (struct list_node *node = owners->next; user.size > 0 && node != owners;
         node = node->next) {
        struct notify_owner *owner = list_entry(node, struct notify_owner, node);
        if (slice_equal(slice_text(owner->user->name), user)) {
            return owner;
        }
    }
    return NULL;
}

/* ---- What happens with them ---- */

static void owner_changed(struct mailstore_watch *watch)
{
    notify_changed(list_entry(watch, struct notify_owner, watch)->state);
}

/* What is set on mailboxes that are not asked for, or may not be read, is not remembered: their owner could fill the list
 * with it. */
static void owner_property(struct mailstore_watch *watch, uint64_t box, struct slice key)
{
    struct notify_owner *owner = list_entry(watch, struct notify_owner, watch);
    struct slice share = slice_text(MAILSTORE_SHARE_KEY);
    const struct notify_known *known =
        box != 0 ? notify_known_by_id(&owner->state->known, notify_here(owner->state), box) : NULL;
    if (box != 0 && slice_equal(slice_first(key, share.size), share) &&
        concerns(owner->state->session, slice_from(key, share.size))) {
        owner->stale = true;
    } else if (known != NULL && notify_entries_wanted(owner->state, known)) {
        notify_property(owner->state, box, key);
    }
}

static void owner_looked(struct mailstore_waiter *waiter, int status)
{
    (void)status; /* what cannot be looked at is told as it was known */
    list_entry(waiter, struct notify_owner, look)->looks = false;
}

static void owner_free(struct notify_owner *owner)
{
    struct mailstore *store = imap_session_store(owner->state->session);
    if (owner->looks) {
        mailstore_waiter_cancel(store, &owner->look);
    }
    mailstore_watch_end(&owner->watch);
    list_remove(&owner->node);
    owner->state->owner_count--;
    mailstore_user_close(store, owner->user);
    free(owner);
}

/* Of whom others' programs change the Maildir: it is followed as long as he is open. */
static void owner_look(struct notify_owner *owner)
{
    struct mailstore *store = imap_session_store(owner->state->session);
    owner->look.done = owner_looked;
    owner->looks =
        mailstore_has_maildirs(store) && mailstore_refresh(store, owner->user, &owner->look) == 0;
}

static bool is_owner(const struct imap_notify_state *state, const struct mailstore_user *user)
{
    const struct list_node *owners = &state->owners;
    for (struct list_node *node = owners->next; node != owners; node = node->next) {
        if (list_entry(node, struct notify_owner, node)->user == user) {
            return true;
        }
    }
    return false;
}

static void any_visit(void *owner, uint64_t user, uint64_t box)
{
    (void)user, (void)box;
    *(bool *)owner = true;
}

/* user: open, and given. Nothing when he shares nothing. */
static void owner_take(struct imap_notify_state *state, struct mailstore_user *user)
{
    struct imap_session *session = state->session;
    struct mailstore *store = imap_session_store(session);
    bool shares = false, known = user == session->user || is_owner(state, user);
    const struct slice names[] = {slice_text(session->user->name), slice_text(IMAP_ANYONE)};
    for (size_t i = 0; !known && i < sizeof(names) / sizeof(names[0]); i++) {
        int status = mailstore_each_shared_by(store, user, names[i], any_visit, &shares);
        state->owners_failed = state->owners_failed || status != 0;
    }
    bool room = state->owner_count < OWNERS_MAX;
    struct notify_owner *owner =
        shares && room ? (struct notify_owner *)calloc(1, sizeof(*owner)) : NULL;
    if (owner == NULL) {
        state->owners_failed = state->owners_failed || shares;
        mailstore_user_close(store, user);
        return;
    }
    owner->state = state;
    owner->user = user;
    owner->stale = true;
    owner->watch.changed = owner_changed;
    owner->watch.property = owner_property;
    mailstore_user_watch_begin(user, &owner->watch);
    list_append(&state->owners, &owner->node);
    state->owner_count++;
    owner_look(owner);
}

/* ---- They are looked for ---- */

struct seeking {
    struct imap_notify_state *state;
    struct slice last; /* names of one user stand together, mostly */
};

static void named_visit(void *owner, struct slice name)
{
    struct seeking *seeking = (struct seeking *)owner;
    struct imap_session *session = seeking->state->session;
    struct slice user = imap_shared_name_user(session, name);
    struct mailstore_user *opened;
    if (user.size == 0 || slice_equal(user, seeking->last) ||
        notify_owner_of(seeking->state, name) != NULL) {
        return;
    }
    seeking->last = user;
    int status = imap_owner_open(session, user, &opened);
    if (status == 0) {
        owner_take(seeking->state, opened);
    } else if (status != -ENOENT) {
        seeking->state->owners_failed = true;
    }
}

struct ids {
    uint64_t users[OWNERS_MAX + 1];
    uint32_t count;
};

static void user_visit(void *owner, uint64_t user, uint64_t box)
{
    struct ids *ids = (struct ids *)owner;
    (void)box;
    for (uint32_t i = ids->count; i > 0; i--) { /* the last first: they come in order */
        if (ids->users[i - 1] == user) {
            return;
        }
    }
    if (ids->count < sizeof(ids->users) / sizeof(ids->users[0])) {
        ids->users[ids->count++] = user;
    }
}

static void id_take(struct imap_notify_state *state, uint64_t id)
{
    struct mailstore_user *user;
    int status = mailstore_user_open_by_id(imap_session_store(state->session), id, &user);
    if (status == 0) {
        owner_take(state, user);
    } else if (status != -ENOENT) {
        state->owners_failed = true;
    }
}

static void owners_seek(struct imap_notify_state *state)
{
    struct mailstore *store = imap_session_store(state->session);
    struct ids ids = {.count = 0};
    struct seeking seeking = {.state = state};
    if (!notify_wants_all(state)) {
        names_each(state, named_visit, &seeking);
        return;
    }
    int status =
        mailstore_each_shared(store, slice_text(state->session->user->name), user_visit, &ids);
    status = status == 0 ? mailstore_each_shared(store, slice_text(IMAP_ANYONE), user_visit, &ids)
                         : status;
    state->owners_failed = state->owners_failed || status != 0;
    for (uint32_t i = 0; i < ids.count; i++) {
        id_take(state, ids.users[i]);
    }
}

/* ---- What of theirs may be seen ---- */

struct boxes {
    uint64_t *ids; /* of the heap; ascend, some twice */
    uint32_t count, room;
    bool failed;
};

static void box_visit(void *owner, uint64_t user, uint64_t box)
{
    struct boxes *boxes = (struct boxes *)owner;
    (void)user;
    if (boxes->count == boxes->room) {
        uint32_t room = boxes->room * 2 + 16;
        uint64_t *grown = (uint64_t *)realloc(boxes->ids, room * sizeof(grown[0]));
        if (grown == NULL) {
            boxes->failed = true;
            return;
        }
        boxes->ids = grown;
        boxes->room = room;
    }
    boxes->ids[boxes->count++] = box;
}

static int id_order(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Looks for them, through all that he has. */
static void owner_seek(struct notify_owner *owner, struct notify_known_list *list)
{
    struct imap_session *session = owner->state->session;
    const struct slice names[] = {slice_text(session->user->name), slice_text(IMAP_ANYONE)};
    struct boxes boxes = {.ids = NULL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int status = mailstore_each_shared_by(imap_session_store(session), owner->user, names[i],
                                              box_visit, &boxes);
        boxes.failed = boxes.failed || status != 0;
    }
    owner->is_of_use = boxes.count > 0;
    list->failed = list->failed || boxes.failed;
    if (boxes.count > 0) {
        qsort(boxes.ids, boxes.count, sizeof(boxes.ids[0]), id_order);
    }
    struct mailstore_box *box = NULL;
    while (boxes.count > 0 && !list->failed &&
           (box = mailstore_box_next(owner->user, box)) != NULL) {
        if (bsearch(&box->id, boxes.ids, boxes.count, sizeof(boxes.ids[0]), id_order) != NULL) {
            notify_known_add(owner->state, list, owner, box);
        }
    }
    free(boxes.ids);
}

/* A mailbox of the user's own may be called as one of theirs was, or be so no more. */
static bool must_seek(const struct notify_owner *owner)
{
    return owner->stale || owner->names != owner->user->names ||
           owner->state->names != owner->state->session->user->names;
}

void notify_owners_gather(struct imap_notify_state *state, struct notify_known_list *list)
{
    for (uint32_t i = 0; i < state->stranger_count; i++) {
        id_take(state, state->strangers[i]);
    }
    state->stranger_count = 0;
    if (state->owners_missing || state->names != state->session->user->names) {
        state->owners_missing = false;
        owners_seek(state); /* new subscriptions may name others */
    }
    for (struct list_node *node = state->owners.next; node != &state->owners; node = node->next) {
        struct notify_owner *owner = list_entry(node, struct notify_owner, node);
        if (must_seek(owner)) {
            owner_seek(owner, list);
        }
    }
    for (uint32_t i = 0; i < state->known.count;
         i++) { /* of the others the names are as they were */
        const struct notify_known *known = &state->known.all[i];
        struct mailstore_box *box = known->owner != NULL && !must_seek(known->owner)
                                        ? notify_known_box(state, known)
                                        : NULL;
        if (box != NULL) {
            notify_known_add(state, list, known->owner, box);
        }
    }
    list->failed = list->failed || state->owners_failed;
}

void notify_owners_told(struct imap_notify_state *state)
{
    state->names = state->session->user->names;
    for (struct list_node *node = state->owners.next, *next; node != &state->owners; node = next) {
        struct notify_owner *owner = list_entry(node, struct notify_owner, node);
        next = node->next;
        owner->stale = false;
        owner->names = owner->user->names;
        if (!owner->is_of_use) { /* when he shares again, the store tells it */
            owner_free(owner);
        }
    }
}

/* ---- From the first to the last ---- */

/* Then what he does is heard of already. */
static bool is_known(const struct imap_notify_state *state, const struct mailstore_user *user)
{
    bool known = user == state->session->user || is_owner(state, user);
    for (uint32_t i = 0; !known && i < state->stranger_count; i++) {
        known = state->strangers[i] == user->id;
    }
    return known;
}

static void shared(struct mailstore_shares_watch *watch, const struct mailstore_user *user,
                   struct slice name)
{
    struct imap_notify_state *state = list_entry(watch, struct imap_notify_state, shares);
    if (!concerns(state->session, name) || is_known(state, user) ||
        !is_wanted(state, slice_text(user->name))) {
        return;
    }
    if (state->stranger_count < NOTIFY_STRANGERS_MAX) {
        state->strangers[state->stranger_count++] = user->id;
    } else {
        state->owners_missing = true;
    }
    notify_changed(state);
}

void notify_owners_begin(struct imap_notify_state *state)
{
    state->shares.shared = shared;
    state->names = state->session->user->names;
    mailstore_shares_watch_begin(imap_session_store(state->session), &state->shares);
    owners_seek(state);
}

void notify_owners_end(struct imap_notify_state *state)
{
    mailstore_shares_watch_end(&state->shares);
    while (!list_empty(&state->owners)) {
        owner_free(list_entry(state->owners.next, struct notify_owner, node));
    }
}
