#include "queue/mailbox/mailstore_audit.h"
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define PURGE_EACH_S 60u

/* ── Opening, closing ────────────────────────────────────────────────────────────────────────── */

static void settings_fill(struct mailstore_settings *settings, const struct log *log)
{
    uint64_t segment = log_settings_of(log)->segment_bytes;
    settings->index_changes_max =
        settings->index_changes_max != 0 ? settings->index_changes_max : 65536;
    settings->text_bytes_max =
        settings->text_bytes_max != 0 ? settings->text_bytes_max : 128ull << 20;
    settings->draft_count_max = settings->draft_count_max != 0 ? settings->draft_count_max : 4096;
    settings->box_idle_max = settings->box_idle_max != 0 ? settings->box_idle_max : 64;
    settings->fetch_memory_bytes =
        settings->fetch_memory_bytes != 0 ? settings->fetch_memory_bytes : 16u << 20;
    settings->clean_bytes_min =
        settings->clean_bytes_min != 0 ? settings->clean_bytes_min : 8 * segment;
}

static void lists_open(struct mailstore *store)
{
    struct list_node *lists[] = {&store->idle_users,    &store->idle_boxes,    &store->drafts,
                                 &store->queue,         &store->flight,        &store->room,
                                 &store->changed_boxes, &store->changed_users, &store->durable,
                                 &store->undone,        &store->share_watches};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
}

static void store_free(struct mailstore *store)
{
    const struct list_node *lists[] = {&store->changed_boxes, &store->changed_users};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while (!list_empty(lists[i])) {
            list_remove(lists[i]->next);
        }
    }
    files_close(store);
    changes_close(store);
    mailstore_users_close(store);
    for (uint32_t i = 0; i < HOLD_BUCKETS; i++) {
        while (store->holds[i] != NULL) {
            struct text_hold *hold = store->holds[i];
            store->holds[i] = hold->next;
            free(hold);
        }
    }
    fetch_pool_close(store);
    cleaner_close(store);
    mailstore_audit_end(store);
    if (store->index != NULL) {
        index_close(store->index);
    }
    writer_free(&store->scratch);
    free(store);
}

/* Whatever its index says. */
static int marked_recover(struct mailstore *store)
{
    store->has_kept = index_keep(&store->settings);
    int status = mailstore_recover(store, true);
    if (status != 0) {
        return status;
    }
    index_let_go(&store->settings);
    return index_unmark(&store->settings);
}

/* A log that cannot be read, or not all of it, is no reason to have no index at all: the next start has the one that was
 * marked. */
static void marked_restore(const struct mailstore_settings *settings, int status)
{
    if (index_restore(settings) && (status == -EIO || status == -EBADMSG)) {
        index_unmark(settings);
    }
}

const char *mailstore_open_trouble(int status)
{
    return status == -EBUSY ? "another process has its index"
           : status == -EBADMSG
               ? "its index was to be built anew from the log, which is damaged: the index stays "
                 "as it was, and the next start has it"
               : strerror(-status);
}

int mailstore_open(struct mailstore **result, struct log *log,
                   const struct mailstore_settings *settings)
{
    struct mailstore *store = (struct mailstore *)calloc(1, sizeof(*store));
    bool damaged = false, marked = false;
    if (store == NULL) {
        return -ENOMEM;
    }
    store->log = log;
    store->settings = *settings;
    store->wall_s = settings->wall_s;
    settings_fill(&store->settings, log);
    lists_open(store);
    log_refuse_late(log);
    int status = store->settings.text_bytes_max < UINT32_MAX ? fetch_pool_open(store) : -EINVAL;
    status = status == 0 ? cleaner_open(store) : status;
    status = status == 0 ? index_open(&store->index, &store->settings, &damaged) : status;
    if (status == 0) {
        store->settings.index_path = index_path(store->index); /* the caller's was borrowed */
        audit_forget(&store->settings);
        marked = index_is_marked(&store->settings);
        if (!marked) {
            index_let_go(&store->settings); /* the mark was taken away by somebody else */
        }
        status = marked ? marked_recover(store) : mailstore_recover(store, damaged);
    }
    status = status == 0 && settings->maildirs != NULL ? files_open(store) : status;
    if (status != 0) {
        store_free(store);
        if (marked) {
            marked_restore(settings, status);
        }
        return status;
    }
    *result = store;
    return 0;
}

int store_beside_open(struct mailstore **result, struct log *log,
                      const struct mailstore_settings *settings)
{
    struct mailstore *store = (struct mailstore *)calloc(1, sizeof(*store));
    bool damaged = false;
    if (store == NULL) {
        return -ENOMEM;
    }
    store->log = log;
    store->settings = *settings;
    lists_open(store);
    int status = index_open(&store->index, &store->settings, &damaged);
    if (status != 0) {
        store_free(store);
        return status;
    }
    *result = store;
    return 0;
}

void store_beside_close(struct mailstore *store)
{
    store_free(store);
}

void mailstore_rest(struct mailstore *store)
{
    store->rests = true;
}

int mailstore_state(const struct mailstore *store)
{
    return store->sick;
}

/* What waits until a log that is broken says what is void may wait for ever. */
bool mailstore_is_quiet(const struct mailstore *store)
{
    bool gives_up = store->rests && log_is_broken(store->log);
    return list_empty(&store->queue) && list_empty(&store->durable) &&
           (list_empty(&store->flight) || gives_up) &&
           (cleaner_is_quiet(store) || (gives_up && cleaner_waits_for_log(store))) &&
           fetch_pool_is_quiet(store) && !index_is_writing(store->index) &&
           files_are_quiet(store) && audit_is_quiet(store);
}

void mailstore_close(struct mailstore *store)
{
    bool whole = store->sick == 0 && list_empty(&store->flight) && list_empty(&store->queue) &&
                 list_empty(&store->durable);
    if (whole && index_wait(store->index) >= 0 && !index_is_writing(store->index) &&
        mailstore_checkpoint(store) == 0) {
        index_wait(store->index); /* what it does not get is replayed */
    }
    store_free(store);
}

/* ── A round ─────────────────────────────────────────────────────────────────────────────────── */

static unsigned room_tell(struct mailstore *store)
{
    struct list_node told;
    unsigned done = 0;
    if (list_empty(&store->room) || !list_empty(&store->queue) || !files_have_room(store)) {
        return 0;
    }
    list_init(&told);
    list_splice(&told, &store->room);
    while (!list_empty(&told) && log_room(store->log, 1, 0) != -EAGAIN) {
        struct mailstore_waiter *room = list_entry(list_pop(&told), struct mailstore_waiter, node);
        room->done(room, 0);
        done++;
    }
    list_splice(&told, &store->room); /* those that came meanwhile wait behind */
    list_splice(&store->room, &told);
    return done;
}

void mailstore_when_room(struct mailstore *store, struct mailstore_waiter *room)
{
    list_init(&room->node);
    list_append(&store->room, &room->node);
}

/* Where the next mailbox begins that has kept entries; *oldest: when its first was expunged. */
static bool kept_next(struct mailstore *store, struct key *from, uint64_t ids[2], uint32_t *oldest)
{
    struct key prefix;
    struct index_walk walk;
    struct stored_entry stored = {0};
    key_begin(&prefix, ROW_KEPT);
    bool is = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(from));
    if (is && walk.value.size == sizeof(stored)) {
        memcpy(&stored, walk.value.bytes, sizeof(stored));
    }
    ids[0] = is ? key_read_u64(walk.key, 1) : 0;
    ids[1] = is ? key_read_u64(walk.key, 9) : 0;
    *oldest = stored.entry.saved_s;
    index_walk_end(&walk);
    key_begin(from, ROW_KEPT);
    key_u64(from, ids[0]);
    key_u64(from, ids[1] + 1);
    return is;
}

/* What was kept long enough goes. */
static void kept_purge(struct mailstore *store)
{
    if (store->rests || store->sick != 0 || store->wall_s < store->purge_at_s) {
        return;
    }
    store->purge_at_s = store->wall_s + PURGE_EACH_S;
    uint32_t until = (uint32_t)store->wall_s - store->settings.keep_expunged_s, oldest;
    struct key from;
    uint64_t ids[2];
    key_begin(&from, ROW_KEPT);
    while (kept_next(store, &from, ids, &oldest)) {
        struct user *user;
        if (oldest > until || user_get_by_id(store, ids[0], &user) != 0) {
            continue;
        }
        struct box *box = user_box_by_id(user, ids[1]);
        if (box != NULL) {
            mailstore_purge(store, box, until); /* or another time */
        }
        user_drop(user);
    }
}

unsigned mailstore_round(struct mailstore *store, uint64_t wall_s)
{
    store->wall_s = wall_s;
    unsigned done = changes_round(store);
    mailstore_index_round(store);
    audit_round(store);
    kept_purge(store);
    done += cleaner_round(store);
    done += files_round(store);
    done += room_tell(store);
    users_tell(store);
    users_trim(store);
    return done;
}

/* ── Users and mailboxes ─────────────────────────────────────────────────────────────────────── */

uint64_t mailstore_applied(const struct mailstore *store)
{
    return store->applied;
}

int mailstore_user_open(struct mailstore *store, struct slice name, struct mailstore_user **user)
{
    struct user *found;
    int status = user_get(store, name, &found);
    if (status == 0) {
        *user = &found->pub;
    }
    return status;
}

int mailstore_user_open_by_id(struct mailstore *store, uint64_t id, struct mailstore_user **user)
{
    struct user *found;
    int status = user_get_by_id(store, id, &found);
    if (status == 0) {
        *user = &found->pub;
    }
    return status;
}

void mailstore_user_close(struct mailstore *store, struct mailstore_user *user)
{
    (void)store;
    user_drop(user_private(user));
}

bool mailstore_has_maildirs(const struct mailstore *store)
{
    return store->files != NULL;
}

int mailstore_refresh(struct mailstore *store, struct mailstore_user *user,
                      struct mailstore_waiter *waiter)
{
    return store->files == NULL ? -EALREADY
                                : files_refresh(store, user_private(user), waiter, true);
}

int mailstore_peek(struct mailstore *store, struct mailstore_user *user,
                   struct mailstore_waiter *waiter)
{
    return store->files == NULL ? -EALREADY
                                : files_refresh(store, user_private(user), waiter, false);
}

struct mailstore_box *mailstore_box_find(struct mailstore_user *user, struct slice name)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    struct box *box = user_box(user_private(user), name_canonical(name, text));
    return box != NULL ? &box->pub : NULL;
}

struct mailstore_box *mailstore_box_above(struct mailstore_user *user, struct slice name)
{
    struct mailstore_box *box = NULL;
    for (size_t at = name.size; box == NULL && at-- > 0;) {
        box = name.bytes[at] == '/' ? mailstore_box_find(user, slice_first(name, at)) : NULL;
    }
    return box;
}

struct mailstore_box *mailstore_box_by_id(struct mailstore_user *user, uint64_t id)
{
    struct box *box = user_box_by_id(user_private(user), id);
    return box != NULL ? &box->pub : NULL;
}

struct mailstore_box *mailstore_box_next(struct mailstore_user *pub,
                                         const struct mailstore_box *box)
{
    struct box *next = user_box_next(user_private(pub), box != NULL ? box_private(box) : NULL);
    return next != NULL ? &next->pub : NULL;
}

int mailstore_box_load(struct mailstore *store, struct mailstore_box *pub)
{
    (void)store;
    return pub->state == MAILSTORE_BOX_LIVE ? box_need_some(box_private(pub)) : -ENOENT;
}

int mailstore_box_open(struct mailstore *store, struct mailstore_box *pub)
{
    struct box *box = box_private(pub);
    if (pub->state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    int status = box_need(box);
    if (status != 0) {
        return status;
    }
    if (!list_empty(&box->idle)) {
        list_remove(&box->idle);
        store->idle_box_count--;
    }
    struct user *user;
    status = user_get(store, slice_text(box->user->name), &user);
    check(status == 0 && user == box->user);
    pub->open_count++;
    files_box_opened(box);
    return 0;
}

void mailstore_box_close(struct mailstore *store, struct mailstore_box *pub)
{
    struct box *box = box_private(pub);
    struct user *user = box->user;
    check(pub->open_count > 0);
    if (--pub->open_count == 0) {
        if (pub->state == MAILSTORE_BOX_DELETED) {
            box_free(box);
        } else {
            list_append(&store->idle_boxes, &box->idle);
            store->idle_box_count++;
        }
    }
    user_drop(user);
}

/* ── Watches ─────────────────────────────────────────────────────────────────────────────────── */

void mailstore_watch_begin(struct mailstore_box *box, struct mailstore_watch *watch)
{
    list_init(&watch->node);
    list_append(&box->watches, &watch->node);
}

void mailstore_user_watch_begin(struct mailstore_user *user, struct mailstore_watch *watch)
{
    list_init(&watch->node);
    list_append(&user_private(user)->watches, &watch->node);
}

void mailstore_watch_end(struct mailstore_watch *watch)
{
    list_remove(&watch->node);
}

void user_changed(struct user *user)
{
    user->dirty = true;
    if (list_empty(&user->node) && !list_empty(&user->watches)) {
        list_append(&user->store->changed_users, &user->node);
    }
}

void box_changed(struct box *box)
{
    box->dirty = true;
    user_changed(box->user);
    if (list_empty(&box->node) && !list_empty(&box->pub.watches)) {
        list_append(&box->user->store->changed_boxes, &box->node);
    }
}

void box_expunge_tell(const struct box *box, uint32_t uid)
{
    const struct list_node *watches = &box->pub.watches;
    for (struct list_node *node = watches->next; node != watches; node = node->next) {
        struct mailstore_watch *watch = list_entry(node, struct mailstore_watch, node);
        if (watch->expunged != NULL) {
            watch->expunged(watch, uid);
        }
    }
}

/* One that is told may end its watch, or another's. */
static void watches_tell(struct list_node *watches)
{
    struct list_node told;
    list_init(&told);
    list_splice(&told, watches);
    while (!list_empty(&told)) {
        struct list_node *node = list_pop(&told);
        list_append(watches, node);
        struct mailstore_watch *watch = list_entry(node, struct mailstore_watch, node);
        watch->changed(watch);
    }
}

void users_tell(struct mailstore *store)
{
    struct user *user;
    for (struct list_node *node; (node = list_pop(&store->changed_boxes)) != NULL;) {
        struct box *box = list_entry(node, struct box, node);
        bool open = box->pub.open_count > 0;
        if (!open || user_get(store, slice_text(box->user->name), &user) != 0) {
            watches_tell(&box->pub.watches);
            continue;
        }
        box->pub.open_count++; /* it stays until all are told */
        watches_tell(&box->pub.watches);
        mailstore_box_close(store, &box->pub);
    }
    for (struct list_node *node; (node = list_pop(&store->changed_users)) != NULL;) {
        watches_tell(&list_entry(node, struct user, node)->watches);
    }
}

/* ── Users ────────────────────────────────────────────────────────────────────────────────────── */

int mailstore_each_user(struct mailstore *store, void (*visit)(void *owner, struct slice name),
                        void *owner)
{
    struct key prefix;
    struct index_walk walk;
    key_begin(&prefix, ROW_USER_NAME);
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        visit(owner, slice_from(walk.key, 1));
    }
    index_walk_end(&walk);
    return walk.status;
}

int mailstore_users_after(struct mailstore *store, struct slice after, unsigned count,
                          bool (*visit)(void *owner, struct slice name), void *owner)
{
    struct key prefix, from;
    struct index_walk walk;
    unsigned visited = 0;
    key_begin(&prefix, ROW_USER_NAME);
    key_begin(&from, ROW_USER_NAME);
    key_text(&from, after);
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(&from));
    if (more && slice_equal(walk.key, key_slice(&from))) {
        more = index_walk_next(&walk);
    }
    for (; more && visited < count; more = index_walk_next(&walk)) {
        visited++;
        if (!visit(owner, slice_from(walk.key, 1))) {
            break;
        }
    }
    index_walk_end(&walk);
    return walk.status < 0 ? walk.status : (int)visited;
}

int mailstore_thread(struct mailstore *store, const struct mailstore_box *box, uint32_t uid,
                     uint64_t *thread)
{
    struct stored_entry stored;
    int status = entry_stored(store, box_private(box), uid, &stored);
    *thread = status == 0 ? stored.thread : 0;
    return status;
}

/* ── Figures ─────────────────────────────────────────────────────────────────────────────────── */

const struct mailstore_counters *mailstore_counters(const struct mailstore *store)
{
    return &store->counters;
}

void mailstore_fill(const struct mailstore *store, struct mailstore_fill *fill)
{
    struct log_space space;
    log_space(store->log, &space);
    uint64_t segment = log_settings_of(store->log)->segment_bytes;
    uint64_t all = space.used_bytes + space.ready_bytes + space.freed_bytes + space.growth_bytes;
    uint64_t reserve = (LOG_SEGMENTS_RESERVED + 1) * segment;
    all = all > reserve ? all - reserve : 0;
    *fill = (struct mailstore_fill){.live_bytes = store->counters.live_bytes,
                                    .capacity_bytes = all - all / 8,
                                    .disk_free_bytes = log_disk_free_bytes(store->log)};
}
