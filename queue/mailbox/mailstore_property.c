/* Properties of users and of mailboxes: how they are asked for, what a change of them does, how they are read. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define PROPERTY_KEY_BEGIN (1 + 8 + 8) /* of the row's key; then the property's */

static void property_key(struct key *key, uint64_t user, uint64_t box, struct slice name)
{
    key_begin(key, ROW_PROPERTY);
    key_u64(key, user);
    key_u64(key, box);
    key_text(key, name);
}

/* ── What is asked for ───────────────────────────────────────────────────────────────────────── */

int mailstore_property_set(struct mailstore *store, struct mailstore_user *user,
                           const struct mailstore_property *property,
                           struct mailstore_waiter *waiter)
{
    if (property->key.size == 0 || property->key.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX ||
        property->value.size > MAILSTORE_PROPERTY_BYTES_MAX) {
        return -EINVAL;
    }
    if (property->box != NULL && property->box->state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    struct change *change = user_change(store, user, CHANGE_PROPERTY, NULL, waiter);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u64(&change->content, property->box != NULL ? property->box->id : 0);
    write_text(&change->content, property->key);
    write_u32(&change->content, (uint32_t)property->value.size);
    write_bytes(&change->content, property->value.bytes, property->value.size);
    return change_submit(change);
}

static int properties_check(const struct mailstore_properties *properties)
{
    if (properties->change_count > MAILSTORE_PROPERTIES_MAX ||
        properties->family_count > UINT8_MAX) {
        return -E2BIG;
    }
    for (uint32_t i = 0; i < properties->change_count; i++) {
        const struct mailstore_property_change *change = &properties->changes[i];
        if (change->key.size == 0 || change->key.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX ||
            change->value.size > MAILSTORE_PROPERTY_BYTES_MAX) {
            return -EINVAL;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (slice_equal(properties->changes[k].key, change->key)) {
                return -EINVAL;
            }
        }
    }
    for (uint32_t i = 0; i < properties->family_count; i++) {
        if (properties->families[i].prefix.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX) {
            return -EINVAL;
        }
    }
    return properties->special_use_given && properties->box == NULL ? -EINVAL : 0;
}

static void properties_say(const struct mailstore_properties *properties, struct writer *writer)
{
    write_u64(writer, properties->box != NULL ? properties->box->id : 0);
    write_u8(writer, properties->special_use_given);
    write_u32(writer, properties->special_use);
    write_u8(writer, (uint8_t)properties->family_count);
    for (uint32_t i = 0; i < properties->family_count; i++) {
        write_text(writer, properties->families[i].prefix);
        write_u32(writer, properties->families[i].count_max);
    }
    write_u16(writer, (uint16_t)properties->change_count);
    for (uint32_t i = 0; i < properties->change_count; i++) {
        const struct mailstore_property_change *change = &properties->changes[i];
        write_u8(writer, (uint8_t)change->op);
        write_text(writer, change->key);
        write_u32(writer, (uint32_t)change->value.size);
        write_bytes(writer, change->value.bytes, change->value.size);
    }
}

int mailstore_properties_set(struct mailstore *store, struct mailstore_user *user,
                             const struct mailstore_properties *properties,
                             struct mailstore_waiter *waiter)
{
    int status = properties_check(properties);
    if (status != 0) {
        return status;
    }
    if (properties->box != NULL && properties->box->state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    struct change *change = user_change(store, user, CHANGE_PROPERTIES, NULL, waiter);
    if (change == NULL) {
        return -ENOMEM;
    }
    properties_say(properties, &change->content);
    return change_submit(change);
}

/* ── Who may see a mailbox ───────────────────────────────────────────────────────────────────── */

static bool begins(struct slice text, struct slice prefix)
{
    return text.size >= prefix.size && memcmp(text.bytes, prefix.bytes, prefix.size) == 0;
}

/* False: the row of the property says nothing of who may see a mailbox. */
static bool shared_key(struct key *key, struct slice property)
{
    struct slice name = slice_from(property, PROPERTY_KEY_BEGIN),
                 share = slice_text(MAILSTORE_SHARE_KEY);
    if (property.size == 0 || property.bytes[0] != ROW_PROPERTY ||
        key_read_u64(property, 1 + 8) == 0 || !begins(name, share)) {
        return false;
    }
    key_begin(key, ROW_SHARED);
    key_text(key, slice_from(name, share.size));
    key_text(key, slice_of("", 1));
    key_u64(key, key_read_u64(property, 1));
    key_u64(key, key_read_u64(property, 1 + 8));
    return true;
}

int shared_row_put(struct mailstore *store, struct slice property)
{
    struct key key;
    return shared_key(&key, property) ? index_put(store->index, key_slice(&key), slice_of("", 0))
                                      : 0;
}

int shared_row_remove(struct mailstore *store, void *owner, struct slice property,
                      struct slice value)
{
    struct key key;
    (void)owner, (void)value;
    return shared_key(&key, property) ? index_remove(store->index, key_slice(&key)) : 0;
}

/* user: NULL: of all. */
static int shared_walk(struct mailstore *store, const struct mailstore_user *user,
                       struct slice name, void (*visit)(void *owner, uint64_t user, uint64_t box),
                       void *owner)
{
    struct key prefix;
    struct index_walk walk;
    if (name.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX) {
        return 0;
    }
    key_begin(&prefix, ROW_SHARED);
    key_text(&prefix, name);
    key_text(&prefix, slice_of("", 1));
    size_t ids = prefix.size;
    if (user != NULL) {
        key_u64(&prefix, user->id);
    }
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        visit(owner, key_read_u64(walk.key, ids), key_read_u64(walk.key, ids + 8));
    }
    index_walk_end(&walk);
    return walk.status;
}

int mailstore_each_shared(struct mailstore *store, struct slice name,
                          void (*visit)(void *owner, uint64_t user, uint64_t box), void *owner)
{
    return shared_walk(store, NULL, name, visit, owner);
}

int mailstore_each_shared_by(struct mailstore *store, const struct mailstore_user *user,
                             struct slice name,
                             void (*visit)(void *owner, uint64_t user, uint64_t box), void *owner)
{
    return shared_walk(store, user, name, visit, owner);
}

void mailstore_shares_watch_begin(struct mailstore *store, struct mailstore_shares_watch *watch)
{
    list_init(&watch->node);
    list_append(&store->share_watches, &watch->node);
}

void mailstore_shares_watch_end(struct mailstore_shares_watch *watch)
{
    list_remove(&watch->node);
}

static void share_tell(const struct user *user, struct slice property)
{
    struct slice share = slice_text(MAILSTORE_SHARE_KEY);
    const struct list_node *watches = &user->store->share_watches;
    for (struct list_node *node = watches->next; node != watches && begins(property, share);
         node = node->next) {
        struct mailstore_shares_watch *watch =
            list_entry(node, struct mailstore_shares_watch, node);
        watch->shared(watch, &user->pub, slice_from(property, share.size));
    }
}

int mailstore_has_shared(struct mailstore *store)
{
    struct key prefix;
    struct index_walk walk;
    key_begin(&prefix, ROW_SHARED);
    bool some = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    index_walk_end(&walk);
    return walk.status != 0 ? walk.status : some;
}

static int property_put(struct user *user, uint64_t box, struct slice name, struct slice value)
{
    struct mailstore *store = user->store;
    struct key key;
    property_key(&key, user->pub.id, box, name);
    int status = value.size > 0 ? index_put(store->index, key_slice(&key), value)
                                : index_remove(store->index, key_slice(&key));
    if (status != 0) {
        return status;
    }
    if (value.size == 0) {
        return shared_row_remove(store, NULL, key_slice(&key), value);
    }
    if (box != 0) {
        share_tell(user, name);
    }
    return shared_row_put(store, key_slice(&key));
}

/* Those whose key begins so, or does not. */
static int properties_copy(struct user *user, const struct box *from, const struct box *to,
                           struct slice beginning, bool begin_so)
{
    struct writer copied = {0};
    struct key prefix;
    struct index_walk walk;
    property_key(&prefix, user->pub.id, from->pub.id, begin_so ? beginning : slice_of(NULL, 0));
    bool more = index_walk_begin(user->store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        struct slice name = slice_from(walk.key, PROPERTY_KEY_BEGIN);
        if (begins(name, beginning) == begin_so) {
            write_text(&copied, name);
            write_u32(&copied, (uint32_t)walk.value.size);
            write_bytes(&copied, walk.value.bytes, walk.value.size);
        }
    }
    index_walk_end(&walk);
    int status = copied.failed ? -ENOMEM : walk.status;
    struct reader reader = {.at = copied.bytes, .end = copied.bytes + copied.size};
    while (status == 0 && reader.at < reader.end) {
        struct slice name = read_text(&reader);
        status = property_put(user, to->pub.id, name, read_bytes(&reader, read_u32(&reader)));
    }
    writer_free(&copied);
    return status;
}

int shares_inherit(struct user *user, struct box *box)
{
    struct mailstore_box *above = mailstore_box_above(&user->pub, box->pub.name);
    struct slice shares = slice_text(MAILSTORE_SHARE_KEY);
    return above != NULL ? properties_copy(user, box_private(above), box, shares, true) : 0;
}

int annotations_copy(struct user *user, const struct box *from, const struct box *to)
{
    return properties_copy(user, from, to, slice_text(MAILSTORE_SHARE_KEY), false);
}

/* ── What becomes of it ──────────────────────────────────────────────────────────────────────── */

/* Who watches the mailbox may be one who is no longer allowed to. */
static void property_changed(struct user *user, uint64_t id)
{
    struct box *box = id != 0 ? user_box_by_id(user, id) : NULL;
    user_changed(user);
    if (box != NULL) {
        box->pub.properties++;
        box_changed(box);
    }
}

static void property_tell(const struct user *user, uint64_t box, struct slice key)
{
    const struct list_node *watches = &user->watches;
    for (struct list_node *node = watches->next; node != watches; node = node->next) {
        struct mailstore_watch *watch = list_entry(node, struct mailstore_watch, node);
        if (watch->property != NULL) {
            watch->property(watch, box, key);
        }
    }
}

int apply_property(struct user *user, const struct change_said *said, struct reader *body)
{
    uint64_t box = read_u64(body);
    struct slice name = read_text(body);
    struct slice value = read_bytes(body, read_u32(body));
    if (body->bad || name.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX) {
        return EINVAL;
    }
    if (box != 0 && user_box_by_id(user, box) == NULL) {
        return ENOENT;
    }
    int status = user_exist(user, said_id(user, said));
    if (status != 0) {
        return status;
    }
    property_changed(user, box);
    property_tell(user, box, name);
    return property_put(user, box, name, value);
}

struct properties_said {
    struct user *user;
    uint64_t box;
    uint32_t change_count;
    struct reader changes;
};

struct property_said {
    enum mailstore_property_op op;
    struct slice key, value;
};

static void property_read(struct reader *body, struct property_said *property)
{
    property->op = (enum mailstore_property_op)read_u8(body);
    property->key = read_text(body);
    property->value = read_bytes(body, read_u32(body));
}

/* A set of bytes, as it is after the change. */
static struct slice set_change(const struct property_said *property, struct slice is,
                               uint8_t bytes[256])
{
    bool has[256] = {false};
    uint32_t count = 0;
    for (size_t i = 0; i < is.size; i++) {
        has[is.bytes[i]] = true;
    }
    for (size_t i = 0; i < property->value.size; i++) {
        has[property->value.bytes[i]] = property->op == MAILSTORE_PROPERTY_INCLUDE;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        if (has[byte]) {
            bytes[count++] = (uint8_t)byte;
        }
    }
    return slice_of(bytes, count);
}

/* What the value will be, and whether there is one now. */
static int property_become(const struct properties_said *said, const struct property_said *property,
                           uint8_t bytes[256], struct slice *becomes, bool *is)
{
    struct key key;
    struct slice value = slice_of(NULL, 0);
    property_key(&key, said->user->pub.id, said->box, property->key);
    int status = index_get(said->user->store->index, key_slice(&key), &value);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    *is = status == 0;
    *becomes = property->op == MAILSTORE_PROPERTY_SET ? property->value
                                                      : set_change(property, value, bytes);
    return 0;
}

/* 0; EDQUOT; < 0. */
static int family_check(const struct properties_said *said, struct slice prefix, uint32_t count_max)
{
    struct key key;
    struct index_walk walk;
    uint32_t before = 0, gone = 0, come = 0;
    property_key(&key, said->user->pub.id, said->box, prefix);
    bool more =
        index_walk_begin(said->user->store->index, &walk, key_slice(&key), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        before++;
    }
    index_walk_end(&walk);
    int status = walk.status;
    struct reader changes = said->changes;
    for (uint32_t i = 0; i < said->change_count && status == 0; i++) {
        struct property_said property;
        struct slice becomes;
        uint8_t bytes[256];
        bool is;
        property_read(&changes, &property);
        if (begins(property.key, prefix)) {
            status = property_become(said, &property, bytes, &becomes, &is);
            come += status == 0 && !is && becomes.size > 0;
            gone += status == 0 && is && becomes.size == 0;
        }
    }
    return status == 0 && come > gone && before + come - gone > count_max ? EDQUOT : status;
}

static int properties_read(struct reader *body, struct properties_said *said)
{
    said->change_count = read_u16(body);
    said->changes = *body;
    for (uint32_t i = 0; i < said->change_count && !body->bad; i++) {
        struct property_said property;
        property_read(body, &property);
        body->bad |= property.key.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX;
    }
    return body->bad ? EINVAL : 0;
}

static int families_check(struct reader families, uint32_t count,
                          const struct properties_said *said)
{
    int status = 0;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct slice prefix = read_text(&families);
        status = family_check(said, prefix, read_u32(&families));
    }
    return status;
}

int apply_properties(struct user *user, const struct change_said *said, struct reader *body)
{
    struct properties_said properties = {.user = user, .box = read_u64(body)};
    bool special_use_given = read_u8(body);
    uint32_t special_use = read_u32(body), family_count = read_u8(body);
    struct reader families = *body;
    for (uint32_t i = 0; i < family_count; i++) {
        struct slice prefix = read_text(body);
        body->bad |= prefix.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX;
        read_u32(body);
    }
    int status = properties_read(body, &properties);
    struct box *box = properties.box != 0 ? user_box_by_id(user, properties.box) : NULL;
    if (status == 0 && properties.box != 0 && box == NULL) {
        return ENOENT;
    }
    status = status == 0 ? user_exist(user, said_id(user, said)) : status;
    status = status == 0 ? families_check(families, family_count, &properties) : status;
    for (uint32_t i = 0; i < properties.change_count && status == 0; i++) {
        struct property_said property;
        struct slice becomes;
        uint8_t bytes[256];
        bool is;
        property_read(&properties.changes, &property);
        status = property_become(&properties, &property, bytes, &becomes, &is);
        status = status == 0 ? property_put(user, properties.box, property.key, becomes) : status;
        if (status == 0) {
            property_tell(user, properties.box, property.key);
        }
    }
    if (status != 0) {
        return status;
    }
    if (box != NULL && special_use_given) {
        box->pub.special_use = special_use;
    }
    property_changed(user, properties.box);
    return 0;
}

/* ── What there is ───────────────────────────────────────────────────────────────────────────── */

int mailstore_property_get(struct mailstore *store, const struct mailstore_user *user,
                           struct mailstore_property *property)
{
    struct key key;
    struct slice value;
    if (user->id == 0 || property->key.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX) {
        return -ENOENT;
    }
    property_key(&key, user->id, property->box != NULL ? property->box->id : 0, property->key);
    int status = index_get(store->index, key_slice(&key), &value);
    if (status != 0) {
        return status;
    }
    uint8_t *copy = (uint8_t *)malloc(value.size + 1);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, value.bytes, value.size);
    copy[value.size] = 0;
    property->value = slice_of(copy, value.size);
    return 0;
}

int mailstore_property_each(struct mailstore *store, const struct mailstore_user *user,
                            const struct mailstore_property *property,
                            void (*visit)(void *owner, struct slice key, struct slice value),
                            void *owner)
{
    struct key prefix;
    struct index_walk walk;
    if (user->id == 0 || property->key.size > MAILSTORE_PROPERTY_KEY_BYTES_MAX) {
        return 0;
    }
    property_key(&prefix, user->id, property->box != NULL ? property->box->id : 0, property->key);
    uint32_t own = prefix.size - (uint32_t)property->key.size;
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        visit(owner, slice_from(walk.key, own), walk.value);
    }
    index_walk_end(&walk);
    return walk.status;
}
