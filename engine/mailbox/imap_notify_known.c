/* NOTIFY: the mailboxes and subscriptions that a client was told of last. */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define KNOWN_BYTES_MAX (256u * 1024)
#define KNOWN_COUNT_MAX 4096u

void notify_known_free(struct notify_known_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        free(list->all[i].name);
    }
    free(list->all);
    *list = (struct notify_known_list){0};
}

static struct notify_known *known_new(struct notify_known_list *list, unsigned shard, uint64_t id,
                                      struct slice name)
{
    size_t bytes = sizeof(struct notify_known) + name.size;
    if (list->count >= KNOWN_COUNT_MAX || list->bytes + bytes > KNOWN_BYTES_MAX) {
        list->failed = true;
        return NULL;
    }
    if (list->all == NULL || list->count == list->room) {
        uint32_t room = list->room * 2 + 16;
        struct notify_known *grown =
            (struct notify_known *)realloc(list->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            list->failed = true;
            return NULL;
        }
        list->all = grown;
        list->room = room;
    }
    struct notify_known *known = &list->all[list->count];
    *known =
        (struct notify_known){.id = id, .name_bytes = (uint32_t)name.size, .shard = (uint8_t)shard};
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
    const struct notify_known *a = (const struct notify_known *)left;
    const struct notify_known *b = (const struct notify_known *)right;
    if (a->shard != b->shard) {
        return a->shard < b->shard ? -1 : 1;
    }
    if (a->id != b->id) {
        return a->id < b->id ? -1 : 1;
    }
    uint32_t size = a->name_bytes < b->name_bytes ? a->name_bytes : b->name_bytes;
    int order = memcmp(a->name, b->name, size);
    return order != 0 ? order : (a->name_bytes > b->name_bytes) - (a->name_bytes < b->name_bytes);
}

/* Rights are asked for anew when a property of the mailbox has changed. */
static uint32_t rights_now(const struct imap_notify_state *state, struct mailstore_box *box)
{
    const struct notify_known *old = notify_known_by_id(&state->known, notify_here(state), box->id);
    bool same = old != NULL && old->properties == (uint32_t)box->properties;
    return same ? old->rights : imap_rights_of(state->session, box);
}

void notify_known_add(struct imap_notify_state *state, struct notify_known_list *list,
                      struct notify_owner *owner, struct mailstore_box *box)
{
    struct mailstore_user *user = state->session->user;
    char text[IMAP_SHARED_NAME_BYTES];
    struct slice name = slice_of(text, imap_box_name(state->session, box, text));
    uint32_t rights = rights_now(state, box);
    bool hidden = owner != NULL && !state->session->guest &&
                  mailstore_box_find(user, name) != NULL; /* by one of his own */
    if (hidden || (rights & IMAP_RIGHT_LOOKUP) == 0) {
        return;
    }
    struct notify_known *known = known_new(list, notify_here(state), box->id, name);
    if (known != NULL) {
        known->owner = owner;
        known->modseq = box->modseq;
        known->count = box->count;
        known->uidnext = box->uidnext;
        known->uidvalidity = box->uidvalidity;
        known->unseen_count = box->unseen_count;
        known->special_use = owner == NULL ? (uint16_t)box->special_use : 0;
        known->properties = (uint32_t)box->properties;
        known->rights = (uint16_t)rights;
        known->subscribed = mailstore_is_subscribed(user, name);
        known->personal = owner == NULL;
    }
}

struct mailstore_box *notify_known_box(const struct imap_notify_state *state,
                                       const struct notify_known *known)
{
    struct mailstore_user *user = state->session->user;
    struct slice name = notify_known_name(known);
    if (known->owner != NULL) {
        size_t above = imap_shared_root(state->session).size + 1;
        user = known->owner->user;
        name = slice_from(name, above + strlen(user->name) + 1);
    }
    bool here = known->id != 0 && known->shard == notify_here(state);
    struct mailstore_box *box = here ? mailstore_box_find(user, name) : NULL;
    return box != NULL && box->id == known->id ? box : NULL;
}

struct subscribed_gather {
    const struct imap_notify_state *state;
    struct notify_known_list *list;
    uint32_t box_count;   /* so many are in order of their ids */
    struct slice *abroad; /* of the heap: the names of those of other shards, in order */
    uint32_t abroad_count;
};

static int text_order(const void *left, const void *right)
{
    const struct slice a = *(const struct slice *)left, b = *(const struct slice *)right;
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static void abroad_gather(struct subscribed_gather *gather)
{
    struct notify_known_list *list = gather->list;
    uint32_t count = 0;
    for (uint32_t i = 0; i < gather->box_count; i++) {
        count += list->all[i].shard != notify_here(gather->state);
    }
    gather->abroad = count > 0 ? (struct slice *)calloc(count, sizeof(gather->abroad[0])) : NULL;
    list->failed = list->failed || (count > 0 && gather->abroad == NULL);
    for (uint32_t i = 0; gather->abroad != NULL && i < gather->box_count; i++) {
        if (list->all[i].shard != notify_here(gather->state)) {
            gather->abroad[gather->abroad_count++] = notify_known_name(&list->all[i]);
        }
    }
    if (gather->abroad != NULL) {
        qsort(gather->abroad, count, sizeof(gather->abroad[0]), text_order);
    }
}

static bool is_abroad(const struct subscribed_gather *gather, struct slice name)
{
    return gather->abroad != NULL && bsearch(&name, gather->abroad, gather->abroad_count,
                                             sizeof(gather->abroad[0]), text_order) != NULL;
}

/* Only those without a mailbox: the others are told of with it. */
static void subscribed_gather(void *owner, struct slice name)
{
    struct subscribed_gather *gather = (struct subscribed_gather *)owner;
    const struct imap_notify_state *state = gather->state;
    const struct notify_known_list boxes = {.all = gather->list->all, .count = gather->box_count};
    struct mailstore_box *box = mailstore_box_find(state->session->user, name);
    const struct notify_owner *other = box == NULL ? notify_owner_of(state, name) : NULL;
    if (other != NULL) {
        size_t above = imap_shared_root(state->session).size + 1;
        box = mailstore_box_find(other->user,
                                 slice_from(name, above + strlen(other->user->name) + 1));
        bool seen = box != NULL && notify_known_by_id(&boxes, notify_here(state), box->id) != NULL;
        box = seen ? box : NULL;
    }
    bool told = box != NULL || is_abroad(gather, name);
    struct notify_known *known =
        !told ? known_new(gather->list, notify_here(state), 0, name) : NULL;
    if (known != NULL) {
        known->subscribed = true;
        known->personal = !imap_name_is_shared(state->session, name);
    }
}

static void known_sort(struct notify_known_list *list)
{
    if (list->count > 0) {
        qsort(list->all, list->count, sizeof(list->all[0]), known_order);
    }
}

void notify_known_gather(struct imap_notify_state *state, struct notify_known_list *list)
{
    struct mailstore_user *user = state->session->user;
    struct mailstore_box *box = NULL;
    *list = (struct notify_known_list){0};
    while (!state->session->guest && !list->failed &&
           (box = mailstore_box_next(user, box)) != NULL) {
        notify_known_add(state, list, NULL, box);
    }
    notify_owners_gather(state, list);
    notify_abroad_gather(state, list);
    known_sort(list);
    struct subscribed_gather gather = {.state = state, .list = list, .box_count = list->count};
    if (!state->session->guest) {
        abroad_gather(&gather);
        mailstore_each_subscribed(user, subscribed_gather, &gather);
        free(gather.abroad);
    }
    if (list->count > gather.box_count) {
        known_sort(list);
    }
}

void notify_known_compare(const struct notify_known_list *old, const struct notify_known_list *now,
                          void (*visit)(void *owner, struct notify_known *old,
                                        struct notify_known *now),
                          void *owner)
{
    uint32_t i = 0, j = 0;
    while (i < old->count || j < now->count) {
        int order = i == old->count   ? 1
                    : j == now->count ? -1
                                      : known_order(&old->all[i], &now->all[j]);
        if (i < old->count && j < now->count && old->all[i].id != 0 &&
            old->all[i].id == now->all[j].id && old->all[i].shard == now->all[j].shard) {
            order = 0; /* it may have another name */
        }
        visit(owner, order <= 0 ? &old->all[i] : NULL, order >= 0 ? &now->all[j] : NULL);
        i += order <= 0;
        j += order >= 0;
    }
}

/* The first that is this one or behind it. */
static uint32_t known_place(const struct notify_known_list *list, unsigned shard, uint64_t id)
{
    uint32_t low = 0, high = list->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct notify_known *known = &list->all[middle];
        if (known->shard < shard || (known->shard == shard && known->id < id)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct notify_known *notify_known_by_id(const struct notify_known_list *list, unsigned shard,
                                        uint64_t id)
{
    uint32_t place = known_place(list, shard, id);
    struct notify_known *known = place < list->count ? &list->all[place] : NULL;
    return known != NULL && known->shard == shard && known->id == id ? known : NULL;
}

void notify_known_drop(struct notify_known_list *list, unsigned shard, uint64_t id)
{
    struct notify_known *known = notify_known_by_id(list, shard, id);
    if (known != NULL) {
        size_t behind = (size_t)(list->all + list->count - known) - 1;
        list->bytes -= sizeof(*known) + known->name_bytes;
        list->count--;
        free(known->name);
        memmove(known, known + 1, behind * sizeof(*known));
    }
}

void notify_known_append(struct notify_known_list *list, const struct notify_known *with,
                         struct slice name)
{
    struct notify_known *last = known_new(list, with->shard, with->id, name);
    if (last != NULL) {
        char *copy = last->name;
        *last = *with;
        last->name = copy;
        last->name_bytes = (uint32_t)name.size;
    }
}

void notify_known_put(struct notify_known_list *list, const struct notify_known *with,
                      struct slice name)
{
    notify_known_drop(list, with->shard, with->id);
    uint32_t count = list->count, place = known_place(list, with->shard, with->id);
    notify_known_append(list, with, name);
    if (list->count > count) {
        struct notify_known known = list->all[count];
        memmove(list->all + place + 1, list->all + place, (count - place) * sizeof(known));
        list->all[place] = known;
    }
}

/* ---- What the client has done itself ---- */

struct taking {
    const struct notify_own *own;
    struct notify_known_list *list; /* has room for all */
};

static bool is_own(const struct notify_own *own, const struct notify_known *known)
{
    for (size_t i = 0; known != NULL && i < sizeof(own->names) / sizeof(own->names[0]); i++) {
        struct slice own_name = own->names[i], name = notify_known_name(known);
        bool below =
            own->below && name.size > own_name.size && name.bytes[own_name.size] == IMAP_SEPARATOR;
        if (own_name.size > 0 && (name.size == own_name.size || below) &&
            slice_equal(slice_first(name, own_name.size), own_name)) {
            return true;
        }
    }
    return false;
}

/* Of what was there and is, the messages are not its doing. */
static void take_visit(void *owner, struct notify_known *old, struct notify_known *now)
{
    struct taking *taking = (struct taking *)owner;
    bool own = is_own(taking->own, old) || is_own(taking->own, now);
    struct notify_known *taken = own ? now : old;
    if (own && old != NULL && now != NULL) {
        now->modseq = old->modseq;
        now->count = old->count;
        now->uidnext = old->uidnext;
    }
    if (taken != NULL) {
        taking->list->all[taking->list->count++] = *taken;
        taking->list->bytes += sizeof(*taken) + taken->name_bytes;
        taken->name = NULL; /* has moved */
    }
}

void notify_known_take(struct notify_known_list *list, struct notify_known_list *now,
                       const struct notify_own *own)
{
    struct notify_known_list taken = {.room = list->count + now->count + 1};
    struct taking taking = {own, &taken};
    taken.all = (struct notify_known *)malloc(taken.room * sizeof(taken.all[0]));
    if (taken.all == NULL || now->failed) { /* then it is told of its own doing, too */
        free(taken.all);
        notify_known_free(now);
        return;
    }
    notify_known_compare(list, now, take_visit, &taking);
    notify_known_free(list);
    notify_known_free(now);
    *list = taken;
}
