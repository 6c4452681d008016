/*
 * What a change does, once it is durable: from the state before it and what its record says, and from nothing else, so
 * that the log read again comes to the same. What it says of a user whose snapshot is newer is passed over.
 */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

bool said_is_known(const struct user *user, const struct change_said *said)
{
    return said->lsn <= user->base;
}

static int refused(int status)
{
    return status < 0 && status != -ENOMEM && status != -EIO ? -status : status;
}

/* ── Delivery ────────────────────────────────────────────────────────────────────────────────── */

struct delivery {
    const struct change_said *said;
    uint64_t text, thread;
    uint32_t bytes, extent_count;
    struct text_extent *extents;
    bool made;
    uint64_t missing; /* a part of the text that is not in the log; 0: none */
};
struct place_said {
    struct slice user, mailbox;
    uint32_t options, internal_s;
    int zone_min;
    uint8_t flags;
    uint64_t quota_bytes, quota_messages;
    struct reader keywords;
    uint64_t replaces; /* a mailbox; 0: none */
    uint32_t replaces_uid;
    bool keeps;
};

/* The mailbox, made if it may be. 0; > 0: there is none. */
static int target_find(struct user *user, const struct change_said *said, struct slice mailbox,
                       uint32_t options, struct box **box)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    struct slice name = name_canonical(mailbox, text), inbox = slice_text("INBOX");
    if (!name_is_good(name)) {
        return EINVAL;
    }
    *box = user_box(user, name);
    if (*box == NULL && !(options & MAILSTORE_AUTOCREATE) && !slice_equal(name, inbox)) {
        if (!(options & MAILSTORE_OR_INBOX)) {
            return ENOENT;
        }
        name = inbox;
        *box = user_box(user, name);
    }
    if (*box != NULL) {
        return 0;
    }
    int status = box_make(user, said, name, box);
    if (status == 0 && (options & MAILSTORE_SUBSCRIBE)) {
        status = user_subscribe(user, name, true);
    }
    return status;
}

static bool quota_is_over(const struct user *user, uint64_t bytes, uint64_t messages,
                          const uint64_t quota[2])
{
    const struct mailstore_totals *totals = &user->pub.totals;
    return (quota[0] != 0 && totals->bytes + bytes > quota[0]) ||
           (quota[1] != 0 && totals->messages + messages > quota[1]);
}

/* The message that goes. 0; > 0: it is gone already. */
static int replaced_find(const struct user *user, const struct place_said *place, struct box **box,
                         struct mailstore_entry *entry)
{
    *box = user_box_by_id(user, place->replaces);
    if (*box == NULL) {
        return ESTALE;
    }
    int status = box_need(*box);
    const struct mailstore_entry *found =
        status == 0 ? mailstore_entry_find(&(*box)->pub, place->replaces_uid) : NULL;
    if (found == NULL) {
        return status != 0 ? status : ESTALE;
    }
    *entry = *found;
    return 0;
}

static int replaced_remove(struct box *box, const struct change_said *said,
                           const struct place_said *place, struct mailstore_place *result)
{
    const struct mailstore_uids uid = {place->replaces_uid, place->replaces_uid};
    uint32_t at = mailstore_entry_index(&box->pub, uid.first);
    struct removal removal = {.uids = &uid,
                              .uid_count = 1,
                              .first = at,
                              .last = at + 1,
                              .keeps = place->keeps,
                              .wall_s = said->wall_s};
    int status = entries_remove(box, &removal);
    if (result != NULL) {
        result->replaces_modseq = removal.modseq;
    }
    return status;
}

static int place_fill(struct delivery *delivery, struct user *user, struct place_said *place,
                      struct mailstore_place *result)
{
    struct mailstore *store = user->store;
    const struct change_said *said = delivery->said;
    uint64_t quota[2] = {place->quota_bytes, place->quota_messages};
    struct box *box, *source = NULL;
    struct mailstore_entry replaced = {0};
    int status = place->replaces != 0 ? replaced_find(user, place, &source, &replaced) : 0;
    if (status != 0) {
        return status;
    }
    bool grows =
        delivery->bytes > replaced.bytes; /* else who is over it could not even shorten a draft */
    uint64_t bytes = grows ? delivery->bytes - replaced.bytes : 0;
    if ((source == NULL || grows) && quota_is_over(user, bytes, source == NULL, quota)) {
        store->counters.refused_quota++;
        return EDQUOT;
    }
    status = target_find(user, said, place->mailbox, place->options, &box);
    if (status != 0) {
        return status;
    }
    if (box->pub.uidnext == UINT32_MAX) {
        return EOVERFLOW;
    }
    if (!delivery->made && !store->rebuilds) {
        status = text_make(store, delivery->text, delivery->bytes, delivery->extents,
                           delivery->extent_count);
    }
    delivery->made = true;
    uint64_t keywords = keywords_read(box, &place->keywords);
    struct stored_entry stored = {
        .thread = delivery->thread,
        .entry = {.text = delivery->text,
                  .keywords = keywords,
                  .modseq = ++box->pub.modseq,
                  .flags = place->flags & MAILSTORE_FLAGS_ALL,
                  .zone_min = place->zone_min,
                  .uid = box->pub.uidnext++,
                  .bytes = delivery->bytes,
                  .internal_s = place->internal_s != 0 ? place->internal_s : said->wall_s,
                  .saved_s = said->wall_s}};
    status = status == 0 ? text_refer(store, delivery->text, delivery->bytes, 1) : status;
    status = status == 0 ? entry_add(store, box, &stored) : status;
    box_changed(box);
    if (source != NULL && status == 0) {
        status = replaced_remove(source, said, place, result);
    }
    if (delivery->missing != 0) {
        torn_add(store->torn, (struct torn_entry){.user = user->pub.id,
                                                  .box = box->pub.id,
                                                  .missing = delivery->missing,
                                                  .uid = stored.entry.uid});
    }
    if (result != NULL) {
        result->box = box->pub.id;
        result->uid = stored.entry.uid;
        result->uidvalidity = box->pub.uidvalidity;
    }
    store->counters.delivered++;
    return status;
}

static void place_read(struct reader *body, const struct change_said *said,
                       struct place_said *place)
{
    place->user = users_at(said->users, read_u16(body));
    place->options = read_u32(body);
    place->flags = read_u8(body);
    place->zone_min = (int16_t)read_u16(body);
    place->internal_s = read_u32(body);
    place->quota_bytes = read_u64(body);
    place->quota_messages = read_u64(body);
    place->mailbox = read_text(body);
    place->keywords = *body;
    for (uint32_t i = 0, count = read_u16(body); i < count && !body->bad; i++) {
        read_text(body);
    }
    place->replaces = 0;
    if (place->options & PLACE_REPLACES) {
        place->replaces = read_u64(body);
        place->replaces_uid = read_u32(body);
        place->keeps = read_u8(body);
    }
}

static int apply_deliver(struct mailstore *store, const struct change_said *said,
                         struct reader *body)
{
    struct mailstore_place *results = (struct mailstore_place *)said->result;
    struct change_said item = *said;
    struct delivery delivery = {.said = &item};
    delivery.text = read_u64(body);
    delivery.thread = read_u64(body);
    delivery.bytes = read_u32(body);
    uint32_t count = read_u32(body);
    struct place_said place;
    struct reader behind = *body;
    for (uint32_t i = 0; i < count && !behind.bad; i++) {
        place_read(&behind, said, &place);
    }
    delivery.extent_count = read_u32(&behind);
    struct slice extents =
        read_bytes(&behind, (size_t)delivery.extent_count * sizeof(delivery.extents[0]));
    delivery.extents = (struct text_extent *)malloc(extents.size + 1);
    if (delivery.extents == NULL) {
        return -ENOMEM;
    }
    memcpy(delivery.extents, extents.bytes, extents.size);
    body->bad |= behind.bad;
    if (store->torn != NULL && !body->bad) {
        delivery.missing =
            torn_missing(store, delivery.text, delivery.extents, delivery.extent_count);
    }
    int status = body->bad ? EINVAL : 0;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct user *user;
        place_read(body, said, &place);
        status = body->bad ? EINVAL : refused(user_get(store, place.user, &user));
        if (status != 0) {
            break;
        }
        struct mailstore_place *result = results != NULL ? &results[i] : NULL;
        item.item = i;
        int placed = said_is_known(user, said) ? 0 : place_fill(&delivery, user, &place, result);
        if (result != NULL) {
            result->status = -placed;
        }
        status = placed < 0 ? placed : 0;
        user_drop(user);
    }
    free(delivery.extents);
    return status;
}

/* ── Copy and move ───────────────────────────────────────────────────────────────────────────── */

struct copying {
    const struct change_said *said;
    bool moves;
    uint32_t source_user;
    uint64_t source;
    struct slice mailbox;
    uint32_t options;
    uint64_t quota[2];
    uint32_t keyword_count, count;
    struct slice keywords[MAILSTORE_KEYWORDS_MAX];
    struct slice entries;
};

static void copying_read(struct copying *copying, struct reader *body)
{
    copying->moves = read_u8(body);
    copying->source_user = read_u16(body);
    copying->source = read_u64(body);
    copying->mailbox = read_text(body);
    copying->options = read_u32(body);
    copying->quota[0] = read_u64(body);
    copying->quota[1] = read_u64(body);
    copying->keyword_count = read_u16(body);
    for (uint32_t i = 0; i < copying->keyword_count && i < MAILSTORE_KEYWORDS_MAX; i++) {
        copying->keywords[i] = read_text(body);
    }
    copying->count = read_u32(body);
    copying->entries = read_bytes(body, (size_t)copying->count * sizeof(struct stored_entry));
}

static uint64_t keywords_map(const struct copying *copying, struct box *target, uint64_t bits)
{
    uint64_t mapped = 0;
    for (uint32_t i = 0; i < copying->keyword_count && i < MAILSTORE_KEYWORDS_MAX; i++) {
        if (bits & 1ull << i) {
            int bit = box_keyword_bit(target, copying->keywords[i], true);
            mapped |= bit >= 0 ? 1ull << bit : 0;
        }
    }
    return mapped;
}

static struct stored_entry copying_at(const struct copying *copying, uint32_t index)
{
    struct stored_entry stored;
    memcpy(&stored, copying->entries.bytes + (size_t)index * sizeof(stored), sizeof(stored));
    return stored;
}

static int copies_add(struct mailstore *store, const struct copying *copying, struct box *target)
{
    struct change_steps *steps = copying->said->steps;
    uint32_t from = steps->added, left = copying->count - from;
    uint64_t modseq = ++target->pub.modseq;
    int status = 0;
    steps->added += left < STEP_ENTRIES ? left : STEP_ENTRIES;
    steps->cost += steps->added - from;
    for (uint32_t i = from; i < steps->added && status == 0; i++) {
        struct stored_entry stored = copying_at(copying, i);
        stored.entry.keywords = keywords_map(copying, target, stored.entry.keywords);
        stored.entry.modseq = modseq & ((1ull << 44) - 1);
        stored.entry.uid = target->pub.uidnext++;
        stored.entry.saved_s = copying->said->wall_s;
        status = text_refer(store, stored.entry.text, stored.entry.bytes, 1);
        status = status == 0 ? entry_add(store, target, &stored) : status;
    }
    box_changed(target);
    return status == 0 && steps->added < copying->count ? -EINPROGRESS : status;
}

static int copying_begin(struct mailstore *store, struct user *user, struct copying *copying)
{
    struct mailstore_copy *result = (struct mailstore_copy *)copying->said->result;
    uint64_t bytes = 0;
    struct box *target;
    for (uint32_t i = 0; i < copying->count; i++) {
        bytes += copying_at(copying, i).entry.bytes;
    }
    if (quota_is_over(user, bytes, copying->count, copying->quota)) {
        store->counters.refused_quota++;
        return EDQUOT;
    }
    int status = target_find(user, copying->said, copying->mailbox, copying->options, &target);
    if (status != 0) {
        return status;
    }
    if (UINT32_MAX - target->pub.uidnext < copying->count) {
        return EOVERFLOW;
    }
    if (result != NULL) {
        result->target_box = target->pub.id;
        result->target_uidvalidity = target->pub.uidvalidity;
        result->target_first = target->pub.uidnext;
        result->target_last = target->pub.uidnext + copying->count - 1;
    }
    copying->said->steps->box = target->pub.id;
    return 0;
}

static int copying_fill(struct mailstore *store, struct user *user, struct copying *copying)
{
    const struct change_steps *steps = copying->said->steps;
    int status = steps->box == 0 ? copying_begin(store, user, copying) : 0;
    return status == 0 && steps->added < copying->count
               ? copies_add(store, copying, user_box_by_id(user, steps->box))
               : status;
}

static int box_sources_remove(struct box *box, const struct copying *copying)
{
    struct change_steps *steps = copying->said->steps;
    uint32_t left = copying->count - steps->removed;
    uint32_t count = left < STEP_ENTRIES ? left : STEP_ENTRIES;
    int status = box_need_step(box, steps);
    if (status != 0) {
        return status;
    }
    struct mailstore_uids *uids = (struct mailstore_uids *)malloc((count + 1) * sizeof(uids[0]));
    if (uids == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t uid = copying_at(copying, steps->removed + i).entry.uid;
        uids[i] = (struct mailstore_uids){uid, uid};
    }
    struct removal removal = {.uids = uids, .uid_count = count, .wall_s = copying->said->wall_s};
    if (count > 0) {
        removal.first = mailstore_entry_index(&box->pub, uids[0].first);
        removal.last = mailstore_entry_index(&box->pub, uids[count - 1].last + 1);
        status = entries_remove(box, &removal);
    }
    free(uids);
    steps->removed += count;
    steps->cost += count;
    return status == 0 && steps->removed < copying->count ? -EINPROGRESS : status;
}

static int sources_remove(struct mailstore *store, const struct copying *copying)
{
    struct user *user;
    struct slice name = users_at(copying->said->users, copying->source_user);
    int status = user_get(store, name, &user);
    if (status != 0) {
        return refused(status);
    }
    struct box *box =
        said_is_known(user, copying->said) ? NULL : user_box_by_id(user, copying->source);
    status = box != NULL ? box_sources_remove(box, copying) : 0;
    user_drop(user);
    return status;
}

static int apply_copy(struct mailstore *store, const struct change_said *said, struct reader *body)
{
    struct copying *copying = (struct copying *)calloc(1, sizeof(*copying));
    struct user *user;
    if (copying == NULL) {
        return -ENOMEM;
    }
    copying->said = said;
    copying_read(copying, body);
    int status = body->bad ? EINVAL : refused(user_get(store, users_at(said->users, 0), &user));
    if (status == 0) {
        bool known = said_is_known(user, said);
        status = known ? 0 : copying_fill(store, user, copying);
        user_drop(user);
        /* Also when the target is known and the source is not. */
        if (status == 0 && copying->moves) {
            status = sources_remove(store, copying);
        }
    }
    free(copying);
    return status;
}

/* ── Users ───────────────────────────────────────────────────────────────────────────────────── */

static int apply_user_delete(struct user *user)
{
    int status = user_rows_remove(user);
    user_forget_boxes(user);
    user_changed(user);
    return status;
}

static int snapshot_row(struct mailstore *store, uint64_t user, struct slice key,
                        struct slice value)
{
    int status = index_put(store->index, key, value);
    status = status == 0 ? shared_row_put(store, key) : status;
    if (status != 0 || key.size == 0 || (key.bytes[0] != ROW_ENTRIES && key.bytes[0] != ROW_KEPT)) {
        return status;
    }
    struct stored_entry stored;
    for (size_t at = 0; at + sizeof(stored) <= value.size && status == 0; at += sizeof(stored)) {
        memcpy(&stored, value.bytes + at, sizeof(stored));
        const struct text_file file = {.user = user,
                                       .box = key_read_u64(key, key.bytes[0] == ROW_KEPT ? 9 : 1),
                                       .uid = stored.entry.uid};
        status = store_is_of_maildirs(store)
                     ? text_file_make(store, stored.entry.text, stored.entry.bytes, &file)
                     : 0;
        status = status == 0 ? text_refer(store, stored.entry.text, stored.entry.bytes, 1) : status;
    }
    return status;
}

/* While the log is read again without an index it is the user's state; else that is known, and newer. */
static int apply_snapshot(struct user *user, const struct change_said *said, struct reader *body)
{
    struct mailstore *store = user->store;
    uint64_t floor = read_u64(body);
    if (said->as_of < user->base) {
        return 0;
    }
    if (store->rebuilds) {
        int status = user_rows_remove(user);
        user_forget_boxes(user);
        if (status == 0 && user->exists) { /* it may have been made with another id */
            struct key id;
            key_begin(&id, ROW_USER);
            key_u64(&id, user->pub.id);
            status = index_remove(store->index, key_slice(&id));
        }
        uint64_t owner = 0; /* its row is before those of entries */
        while (status == 0 && body->at < body->end) {
            struct slice key = read_text(body);
            struct slice value = read_bytes(body, read_u32(body));
            owner = key.size > 0 && key.bytes[0] == ROW_USER ? key_read_u64(key, 1) : owner;
            status = body->bad ? EINVAL : snapshot_row(store, owner, key, value);
        }
        status = status == 0 ? user_reload(user) : status;
        if (status != 0) {
            return status;
        }
    }
    user->base = said->as_of;
    user->floor = floor;
    user->state_bytes = 0;
    user->snapshot_bytes = said->body.size;
    user->dirty = true;
    return 0;
}

/* ── All of them ─────────────────────────────────────────────────────────────────────────────── */

static int apply_to_box(struct user *user, const struct change_said *said, struct reader *body)
{
    struct box *box = user_box_by_id(user, read_u64(body));
    if (box == NULL) {
        return ENOENT;
    }
    switch (said->kind) {
    case CHANGE_FLAGS:
        return apply_flags(box, said, body);
    case CHANGE_EXPUNGE:
        return apply_expunge(box, said, body);
    case CHANGE_RESTORE:
        return apply_restore(box, said, body);
    case CHANGE_PURGE:
        return apply_purge(box, said, body);
    case CHANGE_UNKEEP:
        return apply_unkeep(box, said, body);
    case CHANGE_SPECIAL_USE:
        box->pub.special_use = read_u32(body);
        box_changed(box);
        user_changed(user);
        return 0;
    case CHANGE_DELIVER:
    case CHANGE_COPY:
    case CHANGE_CREATE:
    case CHANGE_DELETE:
    case CHANGE_RENAME:
    case CHANGE_SUBSCRIBE:
    case CHANGE_PROPERTY:
    case CHANGE_PROPERTIES:
    case CHANGE_USER_DELETE:
    case CHANGE_SNAPSHOT:
    case CHANGE_TAKE:
        break;
    }
    return EINVAL;
}

static int apply_to_user(struct user *user, const struct change_said *said, struct reader *body)
{
    switch (said->kind) {
    case CHANGE_CREATE:
        return apply_create(user, said, body);
    case CHANGE_DELETE:
        return apply_delete(user, said, body);
    case CHANGE_RENAME:
        return apply_rename(user, said, body);
    case CHANGE_SUBSCRIBE:
        return apply_subscribe(user, said, body);
    case CHANGE_PROPERTY:
        return apply_property(user, said, body);
    case CHANGE_PROPERTIES:
        return apply_properties(user, said, body);
    case CHANGE_USER_DELETE:
        return apply_user_delete(user);
    case CHANGE_SNAPSHOT:
        return apply_snapshot(user, said, body);
    case CHANGE_TAKE:
        return apply_take(user, said, body);
    case CHANGE_FLAGS:
    case CHANGE_EXPUNGE:
    case CHANGE_RESTORE:
    case CHANGE_PURGE:
    case CHANGE_UNKEEP:
    case CHANGE_SPECIAL_USE:
        return apply_to_box(user, said, body);
    case CHANGE_DELIVER:
    case CHANGE_COPY:
        break;
    }
    return EINVAL;
}

/* What the records of its users take, to know when a snapshot is less. */
static void state_count(struct mailstore *store, const struct change_said *said)
{
    struct reader reader = {.at = said->users.bytes, .end = said->users.bytes + said->users.size};
    while (said->kind != CHANGE_SNAPSHOT && reader.at < reader.end && !reader.bad) {
        struct user *user;
        struct slice name = read_bytes(&reader, read_u8(&reader));
        if (user_get(store, name, &user) == 0) {
            user->state_bytes += said->body.size + 64;
            snapshot_wanted(user);
            user_drop(user);
        }
    }
}

int mailstore_apply(struct mailstore *store, const struct change_said *said)
{
    struct reader body = {.at = said->body.bytes, .end = said->body.bytes + said->body.size};
    int status;
    if (store->sick != 0) {
        return store->sick;
    }
    if (said->kind == CHANGE_DELIVER) {
        status = apply_deliver(store, said, &body);
    } else if (said->kind == CHANGE_COPY) {
        status = apply_copy(store, said, &body);
    } else {
        struct user *user;
        status = refused(user_get(store, users_at(said->users, 0), &user));
        if (status == 0) {
            bool known = said->kind != CHANGE_SNAPSHOT && said_is_known(user, said);
            status = known ? 0 : apply_to_user(user, said, &body);
            user_drop(user);
        }
    }
    if (status == -EINPROGRESS) {
        return status;
    }
    state_count(store, said);
    if (status < 0) {
        store->sick = status;
    }
    store->counters.changes++;
    return status < 0 ? status : -status;
}
