/* What changes do to the list of a user's mailboxes, and to what else there is of a user. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

/* Of its place in the log, and there of the item's: each takes more than 16 bytes of the record, so no other has it. It does
 * not depend on what became of the items before, which a snapshot may stand for. */
uint64_t said_id(const struct user *user, const struct change_said *said)
{
    uint64_t shard = log_settings_of(user->store->log)->shard;
    uint64_t within = ((uint32_t)said->lsn >> 4) + said->item;
    return shard << 56 | (uint64_t)log_lsn_sequence(said->lsn) << 24 | (within & 0xffffff);
}

int user_exist(struct user *user, uint64_t id)
{
    uint8_t bytes[8];
    struct key key;
    if (user->exists) {
        return 0;
    }
    if (user->pub.id == 0) {
        user->pub.id = id;
    }
    user->exists = true;
    user->dirty = true;
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(user->pub.id >> (56 - 8 * i));
    }
    key_begin(&key, ROW_USER_NAME);
    key_text(&key, slice_text(user->name));
    int status = index_put(user->store->index, key_slice(&key), slice_of(bytes, sizeof(bytes)));
    return status == 0 ? user_row_put(user) : status; /* it is looked for by its id too */
}

int box_make(struct user *user, const struct change_said *said, struct slice name, struct box **box)
{
    uint64_t id = said_id(user, said);
    int status = user_exist(user, id);
    if (status != 0) {
        return status;
    }
    *box = box_new(user, id, name);
    if (*box == NULL) {
        return -ENOMEM;
    }
    uint32_t uidvalidity = user->uidvalidity_next;
    uidvalidity = said->wall_s > uidvalidity ? said->wall_s : uidvalidity;
    user->uidvalidity_next = uidvalidity + 1;
    (*box)->pub.uidvalidity = uidvalidity;
    (*box)->pub.uidnext = 1;
    (*box)->pub.modseq = 1;
    box_changed(*box);
    user_changed(user);
    return shares_inherit(user, *box);
}

/* ── Rows that go ────────────────────────────────────────────────────────────────────────────── */

static int texts_unrefer(struct mailstore *store, void *owner, struct slice key, struct slice value)
{
    struct stored_entry stored;
    int status = 0;
    (void)key;
    if (owner != NULL) {
        ++*(uint32_t *)owner;
    }
    for (size_t at = 0; at + sizeof(stored) <= value.size && status == 0; at += sizeof(stored)) {
        memcpy(&stored, value.bytes + at, sizeof(stored));
        status = text_refer(store, stored.entry.text, 0, -1);
    }
    return status;
}

/* Those of entries a part at a time, then the others. */
static int box_rows_step(struct user *user, uint64_t box, struct change_steps *steps)
{
    struct mailstore *store = user->store;
    struct key key, from;
    key_begin(&key, ROW_ENTRIES);
    key_u64(&key, box);
    from = key;
    key_u32(&from, steps->from);
    const struct rows_removal entries = {.prefix = &key, .visit = texts_unrefer};
    int status = rows_remove_some(store, &entries, &from);
    steps->cost += STEP_ENTRIES;
    if (status == -EINPROGRESS) {
        steps->from = key_read_u32(key_slice(&from), key.size) + 1;
        return status;
    }
    key.bytes[0] = ROW_VANISHED;
    status = status == 0 ? rows_remove(store, &key, NULL, NULL) : status;
    key_begin(&key, ROW_KEPT);
    key_u64(&key, user->pub.id);
    key_u64(&key, box);
    uint32_t kept = 0;
    status = status == 0 ? rows_remove(store, &key, texts_unrefer, &kept) : status;
    if (kept > 0) {
        files_tidy(user);
    }
    key.bytes[0] = ROW_PROPERTY;
    status = status == 0 ? rows_remove(store, &key, shared_row_remove, NULL) : status;
    key.bytes[0] = ROW_WRITE;
    status = status == 0 ? rows_remove(store, &key, NULL, NULL) : status;
    key.bytes[0] = ROW_BOX;
    return status == 0 ? index_remove(store->index, key_slice(&key)) : status;
}

int user_rows_remove(struct user *user)
{
    struct mailstore *store = user->store;
    static const enum row_kind kinds[] = {ROW_BOX, ROW_SUBSCRIBED, ROW_PROPERTY, ROW_WRITE};
    int status = 0;
    for (uint32_t i = 0; i < user->box_count && status == 0; i++) {
        struct change_steps steps = {0};
        do {
            status = box_rows_step(user, user->boxes[i]->pub.id, &steps);
        } while (status == -EINPROGRESS);
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && status == 0 && user->exists; i++) {
        struct key key;
        key_begin(&key, kinds[i]);
        key_u64(&key, user->pub.id);
        status = rows_remove(store, &key, shared_row_remove, NULL);
    }
    return status;
}

/* No longer in the list; it itself stays while somebody has it open. */
static void box_leave(struct box *box)
{
    struct mailstore_totals *totals = &box->user->pub.totals;
    totals->bytes -= box->pub.bytes;
    totals->messages -= box->pub.count;
    for (uint32_t i = 0; box->loaded && i < box->pub.count; i++) {
        box_expunge_tell(box, box->entries[i].uid);
    }
    box_unlist(box);
    box->pub.state = MAILSTORE_BOX_DELETED;
    box->pub.generation++;
    if (box->pub.open_count == 0) {
        box_free(box);
        return;
    }
    box->pub.count = box->pub.unseen_count = box->pub.deleted_count = 0;
    box->pub.bytes = box->pub.deleted_bytes = 0;
    box_changed(box);
    box->dirty = false;
}

void user_forget_boxes(struct user *user)
{
    while (user->box_count > 0) {
        box_leave(user->boxes[user->box_count - 1]);
    }
    while (user->subscribed_count > 0) {
        free(user->subscribed[--user->subscribed_count]);
    }
}

/* ── Mailboxes ───────────────────────────────────────────────────────────────────────────────── */

int user_subscribe(struct user *user, struct slice name, bool on)
{
    struct key key;
    int status = user_subscribed_set(user, name, on);
    if (status != 0) {
        return status;
    }
    key_begin(&key, ROW_SUBSCRIBED);
    key_u64(&key, user->pub.id);
    key_text(&key, name);
    user_changed(user);
    return on ? index_put(user->store->index, key_slice(&key), slice_of("", 0))
              : index_remove(user->store->index, key_slice(&key));
}

int apply_create(struct user *user, const struct change_said *said, struct reader *body)
{
    struct mailstore_create *result = (struct mailstore_create *)said->result;
    uint32_t special_use = read_u32(body);
    bool subscribe = read_u8(body);
    struct slice name = read_text(body);
    struct box *box;
    if (body->bad || !name_is_good(name)) {
        return EINVAL;
    }
    if (user_box(user, name) != NULL) {
        return EEXIST;
    }
    int status = box_make(user, said, name, &box);
    if (status == 0) {
        box->pub.special_use = special_use;
        status = subscribe ? user_subscribe(user, name, true) : 0;
    }
    if (status == 0 && result != NULL) {
        result->box = box->pub.id;
        result->uidvalidity = box->pub.uidvalidity;
    }
    return status;
}

int apply_delete(struct user *user, const struct change_said *said, struct reader *body)
{
    uint64_t id = read_u64(body);
    if (said->steps->box == 0) {
        struct box *box = user_box_by_id(user, id);
        if (box == NULL) {
            return ENOENT;
        }
        box_leave(box);
        user_changed(user);
        said->steps->box = id;
    }
    return box_rows_step(user, id, said->steps);
}

/* ── Renaming ────────────────────────────────────────────────────────────────────────────────── */

/* Is it this one, or below it? */
static bool is_within(struct slice name, struct slice parent)
{
    return name.size >= parent.size && memcmp(name.bytes, parent.bytes, parent.size) == 0 &&
           (name.size == parent.size || name.bytes[parent.size] == '/');
}

/* There may be none yet: then what is made of it is as empty as it would be. */
static int inbox_empty_into(struct user *user, const struct change_said *said, struct slice name)
{
    struct mailstore *store = user->store;
    struct box *inbox = user_box(user, slice_text("INBOX")), *target;
    int status = box_make(user, said, name, &target);
    if (status != 0 || inbox == NULL) {
        return status;
    }
    status = annotations_copy(user, inbox, target);
    status = status == 0 ? box_need(inbox) : status;
    target->pub.of_inbox = status == 0;
    for (uint32_t i = 0; i < inbox->pub.count && status == 0; i++) {
        struct stored_entry stored;
        status = entry_stored(store, inbox, inbox->entries[i].uid, &stored);
        uint64_t keywords = stored.entry.keywords;
        stored.entry.keywords = 0;
        for (uint32_t k = 0; k < inbox->pub.keyword_count && status == 0; k++) {
            if (keywords & 1ull << k) {
                int bit = box_keyword_bit(target, slice_text(inbox->keywords[k]), true);
                stored.entry.keywords |= bit >= 0 ? 1ull << bit : 0;
            }
        }
        stored.entry.uid = target->pub.uidnext++;
        stored.entry.modseq = 1;
        status = status == 0 ? text_refer(store, stored.entry.text, stored.entry.bytes, 1) : status;
        status = status == 0 ? entry_add(store, target, &stored) : status;
    }
    struct removal removal = {.last = inbox->pub.count, .wall_s = said->wall_s};
    return status == 0 ? entries_remove(inbox, &removal) : status;
}

/* Of Maildirs: its messages have been taken in there, and are expunged here behind this. */
static int inbox_left(struct user *user, const struct box *inbox, struct slice name)
{
    struct box *target = user_box(user, name);
    if (target == NULL || inbox == NULL) {
        return ENOENT;
    }
    target->pub.of_inbox = true;
    box_changed(target);
    user_changed(user);
    return annotations_copy(user, inbox, target);
}

static struct slice name_below(struct slice is, struct slice old, struct slice name, char *text)
{
    struct slice rest = slice_from(is, old.size);
    memcpy(text, name.bytes, name.size);
    memcpy(text + name.size, rest.bytes, rest.size);
    return slice_of(text, name.size + rest.size);
}

static int names_move(struct user *user, struct slice old, struct slice name)
{
    uint32_t count = 0;
    int status = 0;
    struct box **moved = (struct box **)malloc((user->box_count + 1) * sizeof(moved[0]));
    if (moved == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < user->box_count; i++) {
        if (is_within(user->boxes[i]->pub.name, old)) {
            moved[count++] = user->boxes[i];
        }
    }
    for (uint32_t i = 0; i < count && status == 0; i++) {
        char text[2 * MAILSTORE_NAME_BYTES_MAX];
        status = box_name_set(moved[i], name_below(moved[i]->pub.name, old, name, text));
        box_changed(moved[i]);
        user_changed(user);
    }
    free(moved);
    return status;
}

/* Would each of them find its new name free, and short enough? */
static int names_may_move(const struct user *user, struct slice old, struct slice name)
{
    char text[2 * MAILSTORE_NAME_BYTES_MAX];
    bool some = false;
    for (uint32_t i = 0; i < user->box_count; i++) {
        struct slice is = user->boxes[i]->pub.name;
        if (!is_within(is, old)) {
            continue;
        }
        some = true;
        struct slice moved = name_below(is, old, name, text);
        if (moved.size > MAILSTORE_NAME_BYTES_MAX) {
            return EINVAL;
        }
        if (user_box(user, moved) != NULL) {
            return EEXIST;
        }
    }
    return !some ? ENOENT : is_within(name, old) ? EINVAL : 0;
}

int apply_rename(struct user *user, const struct change_said *said, struct reader *body)
{
    uint64_t id = read_u64(body);
    struct slice name = read_text(body);
    struct box *box = id != 0 ? user_box_by_id(user, id) : NULL;
    struct slice is = id == 0 ? read_text(body) : slice_of(NULL, 0); /* a name without a mailbox */
    char old[MAILSTORE_NAME_BYTES_MAX];
    if (id != 0 && box == NULL) {
        return ENOENT;
    }
    if (body->bad || !name_is_good(name) || (id == 0 && !name_is_good(is))) {
        return EINVAL;
    }
    is = box != NULL ? box->pub.name : is;
    bool inbox = slice_equal(is, slice_text("INBOX"));
    if (inbox && store_is_of_maildirs(user->store)) {
        return inbox_left(user, box, name);
    }
    if (user_box(user, name) != NULL) {
        return EEXIST;
    }
    if (inbox) {
        return inbox_empty_into(user, said, name);
    }
    int status = names_may_move(user, is, name);
    memcpy(old, is.bytes, is.size);
    return status == 0 ? names_move(user, slice_of(old, is.size), name) : status;
}

/* ── The rest ────────────────────────────────────────────────────────────────────────────────── */

int apply_subscribe(struct user *user, const struct change_said *said, struct reader *body)
{
    bool on = read_u8(body);
    struct slice name = read_text(body);
    if (body->bad || !name_is_good(name)) {
        return EINVAL;
    }
    int status = user_exist(user, said_id(user, said));
    return status == 0 ? user_subscribe(user, name, on) : status;
}
