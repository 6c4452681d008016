/* Users and their mailboxes in memory: loaded when they are needed, kept a while. */
#include "engine/core/crc32c.h"
#include "engine/core/mutation.h"
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>
#include <unistr.h>

#define IDLE_USERS_MAX 4096u

struct user_row { /* then the name */
    uint64_t id, base, floor, state_bytes, snapshot_bytes, bytes, messages;
    uint32_t uidvalidity_next, exists;
};
struct box_row { /* then the name and the keywords, struct writer's texts */
    uint64_t modseq, modseq_floor, bytes, deleted_bytes;
    uint32_t uidvalidity, uidnext, special_use, count, unseen_count, deleted_count;
    uint32_t vanished_count, keyword_count;
};

/* ── Names ───────────────────────────────────────────────────────────────────────────────────── */

struct slice name_canonical(struct slice name, char text[MAILSTORE_NAME_BYTES_MAX])
{
    struct slice inbox = slice_text("INBOX"), first = slice_first(name, inbox.size);
    if (name.size == 0) {
        return inbox;
    }
    bool below = name.size > inbox.size && name.bytes[inbox.size] == '/';
    if (!slice_equal_nocase(first, inbox) || slice_equal(first, inbox) ||
        (name.size > inbox.size && !below) || name.size > MAILSTORE_NAME_BYTES_MAX) {
        return name;
    }
    memcpy(text, name.bytes, name.size);
    memcpy(text, inbox.bytes, inbox.size);
    return slice_of(text, name.size);
}

void name_write(struct writer *writer, struct slice name)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    write_text(writer, name_canonical(name, text));
}

static bool text_is_good(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < 0x20 || text.bytes[i] == 0x7f) {
            return false;
        }
    }
    return u8_check(text.bytes, text.size) == NULL;
}

bool name_is_good(struct slice name)
{
    if (name.size == 0 || name.size > MAILSTORE_NAME_BYTES_MAX || !text_is_good(name) ||
        name.bytes[0] == '/' || name.bytes[name.size - 1] == '/') {
        return false;
    }
    for (size_t i = 1; i < name.size; i++) {
        if (name.bytes[i] == '/' && name.bytes[i - 1] == '/') {
            return false;
        }
    }
    return true;
}

static char *text_copy(struct slice text)
{
    char *copy = (char *)malloc(text.size + 1);
    if (copy != NULL) {
        memcpy(copy, text.bytes, text.size);
        copy[text.size] = '\0';
    }
    return copy;
}

/* INBOX is before all others. */
static int name_order(struct slice a, struct slice b)
{
    struct slice inbox = slice_text("INBOX");
    bool first = slice_equal(a, inbox), second = slice_equal(b, inbox);
    if (first || second) {
        return second - first;
    }
    size_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.bytes, b.bytes, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static uint32_t box_place(const struct user *user, struct slice name)
{
    uint32_t low = 0, high = user->box_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (name_order(user->boxes[middle]->pub.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct box *user_box(const struct user *user, struct slice name)
{
    uint32_t place = box_place(user, name);
    return place < user->box_count && slice_equal(user->boxes[place]->pub.name, name)
               ? user->boxes[place]
               : NULL;
}

struct box *user_box_next(const struct user *user, const struct box *box)
{
    uint32_t place = box != NULL ? box_place(user, box->pub.name) : 0;
    if (box != NULL && (place == user->box_count || user->boxes[place++] != box)) {
        return NULL;
    }
    return place < user->box_count ? user->boxes[place] : NULL;
}

struct box *user_box_by_id(const struct user *user, uint64_t id)
{
    for (uint32_t i = 0; i < user->box_count; i++) {
        if (user->boxes[i]->pub.id == id) {
            return user->boxes[i];
        }
    }
    return NULL;
}

static int box_list(struct box *box)
{
    struct user *user = box->user;
    if (user->box_count == user->box_room) {
        uint32_t room = user->box_room * 2 + 8;
        struct box **grown = (struct box **)realloc(user->boxes, room * sizeof(grown[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        user->boxes = grown;
        user->box_room = room;
    }
    uint32_t place = box_place(user, box->pub.name);
    memmove(&user->boxes[place + 1], &user->boxes[place],
            (user->box_count - place) * sizeof(user->boxes[0]));
    user->boxes[place] = box;
    user->box_count++;
    user->pub.names++;
    user->pub.totals.boxes = user->box_count;
    return 0;
}

void box_unlist(struct box *box)
{
    struct user *user = box->user;
    for (uint32_t i = 0; i < user->box_count; i++) {
        if (user->boxes[i] == box) {
            user->box_count--;
            user->pub.names++;
            memmove(&user->boxes[i], &user->boxes[i + 1],
                    (user->box_count - i) * sizeof(user->boxes[0]));
        }
    }
    user->pub.totals.boxes = user->box_count;
}

int box_name_set(struct box *box, struct slice name)
{
    char *copy = text_copy(name);
    if (copy == NULL) {
        return -ENOMEM;
    }
    box_unlist(box);
    free(box->name);
    box->name = copy;
    box->pub.name = slice_of(copy, name.size);
    return box_list(box);
}

struct box *box_new(struct user *user, uint64_t id, struct slice name)
{
    struct box *box = (struct box *)calloc(1, sizeof(*box));
    if (box == NULL) {
        return NULL;
    }
    box->pub.id = id;
    box->pub.user = &user->pub;
    box->user = user;
    list_init(&box->pub.watches);
    list_init(&box->idle);
    list_init(&box->node);
    box->name = text_copy(name);
    if (box->name != NULL) {
        box->pub.name = slice_of(box->name, name.size);
    }
    if (box->name == NULL || box_list(box) != 0) {
        free(box->name);
        free(box);
        return NULL;
    }
    return box;
}

void box_free(struct box *box)
{
    if (!list_empty(&box->idle)) {
        list_remove(&box->idle);
        box->user->store->idle_box_count--;
    }
    list_remove(&box->node);
    box_unload(box);
    for (uint32_t i = 0; i < box->pub.keyword_count; i++) {
        free(box->keywords[i]);
    }
    free(box->name);
    free(box);
}

/* ── Keywords ────────────────────────────────────────────────────────────────────────────────── */

struct slice mailstore_keyword(const struct mailstore_box *box, uint32_t index)
{
    return slice_text(box_private(box)->keywords[index]);
}

int box_keyword_bit(struct box *box, struct slice name, bool make)
{
    for (uint32_t i = 0; i < box->pub.keyword_count; i++) {
        if (slice_equal_nocase(slice_text(box->keywords[i]), name)) {
            return (int)i;
        }
    }
    if (!make) {
        return -ENOENT;
    }
    if (box->pub.keyword_count == MAILSTORE_KEYWORDS_MAX || name.size == 0 ||
        name.size > MAILSTORE_KEYWORD_BYTES_MAX || memchr(name.bytes, 0, name.size) != NULL) {
        return -ENOSPC;
    }
    char *copy = text_copy(name);
    if (copy == NULL) {
        return -ENOMEM;
    }
    box->keywords[box->pub.keyword_count] = copy;
    box->dirty = true;
    return (int)box->pub.keyword_count++;
}

int mailstore_keyword_bit(const struct mailstore_box *box, struct slice name)
{
    int bit = box_keyword_bit(box_private(box), name, false);
    return bit >= 0 ? bit : -1;
}

/* ── Subscriptions ───────────────────────────────────────────────────────────────────────────── */

static uint32_t subscribed_place(const struct user *user, struct slice name)
{
    uint32_t low = 0, high = user->subscribed_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (name_order(slice_text(user->subscribed[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool mailstore_is_subscribed(const struct mailstore_user *pub, struct slice name)
{
    const struct user *user = user_private(pub);
    char text[MAILSTORE_NAME_BYTES_MAX];
    name = name_canonical(name, text);
    uint32_t i = subscribed_place(user, name);
    return i < user->subscribed_count && slice_equal(slice_text(user->subscribed[i]), name);
}

void mailstore_each_subscribed(const struct mailstore_user *pub,
                               void (*visit)(void *owner, struct slice name), void *owner)
{
    const struct user *user = user_private(pub);
    for (uint32_t i = 0; i < user->subscribed_count; i++) {
        visit(owner, slice_text(user->subscribed[i]));
    }
}

int user_subscribed_set(struct user *user, struct slice name, bool on)
{
    uint32_t i = subscribed_place(user, name), count = user->subscribed_count;
    bool is = i < count && slice_equal(slice_text(user->subscribed[i]), name);
    if (is == on) {
        return 0;
    }
    user->pub.names++;
    if (is) {
        free(user->subscribed[i]);
        memmove(&user->subscribed[i], &user->subscribed[i + 1],
                (count - i - 1) * sizeof(user->subscribed[0]));
        user->subscribed_count--;
        return 0;
    }
    if (count == user->subscribed_room) {
        uint32_t room = count * 2 + 8;
        char **grown = (char **)realloc(user->subscribed, room * sizeof(grown[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        user->subscribed = grown;
        user->subscribed_room = room;
    }
    char *copy = text_copy(name);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memmove(&user->subscribed[i + 1], &user->subscribed[i],
            (count - i) * sizeof(user->subscribed[0]));
    user->subscribed[i] = copy;
    user->subscribed_count++;
    return 0;
}

/* ── Rows ────────────────────────────────────────────────────────────────────────────────────── */

int user_row_put(struct user *user)
{
    struct user_row row = {.id = user->pub.id,
                           .base = user->base,
                           .floor = user->floor,
                           .state_bytes = user->state_bytes,
                           .snapshot_bytes = user->snapshot_bytes,
                           .bytes = user->pub.totals.bytes,
                           .messages = user->pub.totals.messages,
                           .uidvalidity_next = user->uidvalidity_next,
                           .exists = user->exists};
    uint8_t bytes[sizeof(row) + MAILSTORE_USER_BYTES_MAX];
    size_t size = strlen(user->name);
    struct key key;
    memcpy(bytes, &row, sizeof(row));
    memcpy(bytes + sizeof(row), user->name, size);
    key_begin(&key, ROW_USER);
    key_u64(&key, user->pub.id);
    return index_put(user->store->index, key_slice(&key), slice_of(bytes, sizeof(row) + size));
}

static int box_row_put(struct box *box)
{
    const struct mailstore_box *pub = &box->pub;
    struct box_row row = {.modseq = pub->modseq,
                          .modseq_floor = pub->modseq_floor,
                          .bytes = pub->bytes,
                          .deleted_bytes = pub->deleted_bytes,
                          .uidvalidity = pub->uidvalidity,
                          .uidnext = pub->uidnext,
                          .special_use = pub->special_use,
                          .count = pub->count,
                          .unseen_count = pub->unseen_count,
                          .deleted_count = pub->deleted_count,
                          .vanished_count = box->vanished_count,
                          .keyword_count = pub->keyword_count};
    struct mailstore *store = box->user->store;
    struct writer *writer = &store->scratch;
    struct key key;
    writer->size = 0;
    write_bytes(writer, &row, sizeof(row));
    write_text(writer, pub->name);
    for (uint32_t i = 0; i < pub->keyword_count; i++) {
        write_text(writer, slice_text(box->keywords[i]));
    }
    if (writer->failed) {
        writer->failed = false;
        return -ENOMEM;
    }
    key_begin(&key, ROW_BOX);
    key_u64(&key, box->user->pub.id);
    key_u64(&key, pub->id);
    return index_put(store->index, key_slice(&key), slice_of(writer->bytes, writer->size));
}

static int user_flush(struct user *user)
{
    int status = 0;
    if (!user->dirty || !user->exists) {
        return 0;
    }
    for (uint32_t i = 0; i < user->box_count && status == 0; i++) {
        struct box *box = user->boxes[i];
        if (box->dirty) {
            status = box_row_put(box);
            box->dirty = status != 0;
        }
    }
    status = status == 0 ? user_row_put(user) : status;
    user->dirty = status != 0;
    return status;
}

int users_flush(struct mailstore *store)
{
    int status = 0;
    for (uint32_t i = 0; i < USER_BUCKETS && status == 0; i++) {
        for (struct user *user = store->users[i]; user != NULL && status == 0; user = user->next) {
            status = user_flush(user);
        }
    }
    return status;
}

static int box_row_read(struct user *user, struct slice key, struct slice value)
{
    struct box_row row;
    struct reader reader = {.at = value.bytes, .end = value.bytes + value.size};
    struct slice bytes = read_bytes(&reader, sizeof(row));
    struct slice name = read_text(&reader);
    if (reader.bad) {
        return -EIO;
    }
    memcpy(&row, bytes.bytes, sizeof(row));
    struct box *box = box_new(user, key_read_u64(key, 9), name);
    if (box == NULL) {
        return -ENOMEM;
    }
    box->pub.modseq = box->pub.modseq_flags = row.modseq;
    box->pub.modseq_floor = row.modseq_floor;
    box->pub.bytes = row.bytes;
    box->pub.deleted_bytes = row.deleted_bytes;
    box->pub.uidvalidity = row.uidvalidity;
    box->pub.uidnext = row.uidnext - (MUTATED(UID_AGAIN) && row.uidnext > 1);
    box->pub.special_use = row.special_use;
    box->pub.count = row.count;
    box->pub.unseen_count = row.unseen_count;
    box->pub.deleted_count = row.deleted_count;
    box->vanished_count = row.vanished_count;
    for (uint32_t i = 0; i < row.keyword_count && i < MAILSTORE_KEYWORDS_MAX; i++) {
        int bit = box_keyword_bit(box, read_text(&reader), true);
        if (bit < 0) {
            return bit == -ENOMEM ? -ENOMEM : -EIO;
        }
    }
    box->dirty = false;
    return reader.bad ? -EIO : 0;
}

static int user_rows_read(struct user *user, uint64_t id)
{
    struct mailstore *store = user->store;
    struct key key;
    struct slice value;
    struct user_row row;
    struct index_walk walk;
    key_begin(&key, ROW_USER);
    key_u64(&key, id);
    int status = index_get(store->index, key_slice(&key), &value);
    if (status != 0 || value.size < sizeof(row)) {
        return -EIO;
    }
    memcpy(&row, value.bytes, sizeof(row));
    user->pub.id = id;
    user->pub.totals.bytes = row.bytes;
    user->pub.totals.messages = row.messages;
    user->base = row.base;
    user->floor = row.floor;
    user->state_bytes = row.state_bytes;
    user->snapshot_bytes = row.snapshot_bytes;
    user->uidvalidity_next = row.uidvalidity_next;
    user->exists = row.exists;
    key.bytes[0] = ROW_BOX;
    bool more = index_walk_begin(store->index, &walk, key_slice(&key), slice_of(NULL, 0));
    for (; more && status == 0; more = index_walk_next(&walk)) {
        status = box_row_read(user, walk.key, walk.value);
    }
    index_walk_end(&walk);
    status = status == 0 ? walk.status : status;
    key.bytes[0] = ROW_SUBSCRIBED;
    more = status == 0 && index_walk_begin(store->index, &walk, key_slice(&key), slice_of(NULL, 0));
    for (; more && status == 0; more = index_walk_next(&walk)) {
        status = user_subscribed_set(user, slice_from(walk.key, 9), true);
    }
    index_walk_end(&walk);
    return status == 0 ? walk.status : status;
}

int user_reload(struct user *user)
{
    struct key key;
    struct slice value;
    key_begin(&key, ROW_USER_NAME);
    key_text(&key, slice_text(user->name));
    int status = index_get(user->store->index, key_slice(&key), &value);
    uint64_t id = status == 0 ? key_read_u64(value, 0) : 0;
    return status == 0 ? user_rows_read(user, id) : status;
}

/* ── The table ───────────────────────────────────────────────────────────────────────────────── */

static struct user **user_link(struct mailstore *store, struct slice name)
{
    struct user **link = &store->users[crc32c(0, name.bytes, name.size) % USER_BUCKETS];
    while (*link != NULL && !slice_equal(slice_text((*link)->name), name)) {
        link = &(*link)->next;
    }
    return link;
}

struct user *user_known(struct mailstore *store, struct slice name)
{
    return *user_link(store, name);
}

static void user_free(struct user *user)
{
    while (user->box_count > 0) {
        struct box *box = user->boxes[user->box_count - 1];
        box_unlist(box);
        box_free(box);
    }
    for (uint32_t i = 0; i < user->subscribed_count; i++) {
        free(user->subscribed[i]);
    }
    free(user->boxes);
    free(user->subscribed);
    free(user);
}

int user_get(struct mailstore *store, struct slice name, struct user **result)
{
    struct user **link = user_link(store, name), *user = *link;
    if (user != NULL) {
        if (user->refs++ == 0) {
            list_remove(&user->idle);
            store->idle_user_count--;
        }
        *result = user;
        return 0;
    }
    if (name.size == 0 || name.size > MAILSTORE_USER_BYTES_MAX ||
        memchr(name.bytes, 0, name.size) != NULL) {
        return -EINVAL;
    }
    user = (struct user *)calloc(1, sizeof(*user) + name.size + 1);
    if (user == NULL) {
        return -ENOMEM;
    }
    user->store = store;
    memcpy(user->name, name.bytes, name.size);
    user->pub.name = user->name;
    user->refs = 1;
    user->uidvalidity_next = 1;
    list_init(&user->idle);
    list_init(&user->watches);
    list_init(&user->node);
    int status = user_reload(user);
    status = status == -ENOENT ? 0 : status;
    if (status != 0) {
        user_free(user);
        return status;
    }
    user->next = *link;
    *link = user;
    store->user_count++;
    store->counters.users_loaded = store->user_count;
    *result = user;
    return 0;
}

int user_get_by_id(struct mailstore *store, uint64_t id, struct user **user)
{
    struct key key;
    struct slice value;
    char name[MAILSTORE_USER_BYTES_MAX];
    key_begin(&key, ROW_USER);
    key_u64(&key, id);
    int status = index_get(store->index, key_slice(&key), &value);
    if (status != 0) {
        return status;
    }
    struct slice text = slice_from(value, sizeof(struct user_row));
    if (text.size > sizeof(name)) {
        return -EIO;
    }
    memcpy(name, text.bytes, text.size);
    return user_get(store, slice_of(name, text.size), user);
}

void user_drop(struct user *user)
{
    struct mailstore *store = user->store;
    check(user->refs > 0);
    if (--user->refs == 0) {
        list_append(&store->idle_users, &user->idle);
        store->idle_user_count++;
    }
}

static void user_evict(struct mailstore *store, struct user *user)
{
    struct user **link = user_link(store, slice_text(user->name));
    check(*link == user && user->refs == 0);
    *link = user->next;
    list_remove(&user->idle);
    store->idle_user_count--;
    store->user_count--;
    store->counters.users_loaded = store->user_count;
    user_free(user);
}

/* One of which a piece was loaded since the last time stays, as many as they are: where enough others come and go in
 * a round, who waits for it would wait for ever. */
static void boxes_trim(struct mailstore *store)
{
    uint32_t count = store->idle_box_count;
    for (; count > 0 && store->idle_box_count > store->settings.box_idle_max; count--) {
        struct box *box = list_entry(list_pop(&store->idle_boxes), struct box, idle);
        if (box->loads) {
            box->loads = false;
            list_append(&store->idle_boxes, &box->idle);
        } else {
            store->idle_box_count--;
            box_unload(box);
        }
    }
}

/* Mailboxes and users that nobody has used for long. */
void users_trim(struct mailstore *store)
{
    boxes_trim(store);
    while (store->idle_user_count > IDLE_USERS_MAX) {
        struct user *user = list_entry(store->idle_users.next, struct user, idle);
        if (!list_empty(&user->node) || user_flush(user) != 0) {
            break;
        }
        user_evict(store, user);
    }
}

void mailstore_users_close(struct mailstore *store)
{
    for (uint32_t i = 0; i < USER_BUCKETS; i++) {
        while (store->users[i] != NULL) {
            struct user *user = store->users[i];
            store->users[i] = user->next;
            user_free(user);
        }
    }
    store->user_count = store->idle_user_count = 0;
    list_init(&store->idle_users);
}
