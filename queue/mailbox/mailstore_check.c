#include "queue/mailbox/mailstore_check.h"
#include "queue/mailbox/mailstore_private.h"
#include "queue/mailbox/mailstore_rows.h"
#include <stdlib.h>

/* ── Whose a row is ──────────────────────────────────────────────────────────────────────────── */

struct owner_name { /* of a user, by id */
    uint64_t id;
    char *name; /* of the heap */
};
struct owner_box {
    uint64_t id, user;
};
/* Of both indexes; gathered when there is a difference. */
struct owners {
    struct owner_name *names;
    struct owner_box *boxes;
    size_t name_count, name_room, box_count, box_room;
    bool gathered, failed;
};

static void *grown(void *list, size_t count, size_t *room, size_t each)
{
    if (count < *room) {
        return list;
    }
    void *larger = realloc(list, (*room * 2 + 64) * each);
    *room = larger != NULL ? *room * 2 + 64 : *room;
    return larger;
}

static void name_add(struct owners *owners, uint64_t id, struct slice name)
{
    struct owner_name *names = (struct owner_name *)grown(owners->names, owners->name_count,
                                                          &owners->name_room, sizeof names[0]);
    char *text = strndup((const char *)name.bytes, name.size);
    owners->names = names != NULL ? names : owners->names;
    if (names == NULL || text == NULL) {
        owners->failed = true;
        free(text);
        return;
    }
    names[owners->name_count++] = (struct owner_name){.id = id, .name = text};
}

static void box_add(struct owners *owners, uint64_t id, uint64_t user)
{
    struct owner_box *boxes = (struct owner_box *)grown(owners->boxes, owners->box_count,
                                                        &owners->box_room, sizeof boxes[0]);
    if (boxes == NULL) {
        owners->failed = true;
        return;
    }
    owners->boxes = boxes;
    boxes[owners->box_count++] = (struct owner_box){.id = id, .user = user};
}

static void index_gather(struct owners *owners, struct index *index)
{
    struct index_walk walk;
    struct key prefix;
    key_begin(&prefix, ROW_USER_NAME);
    bool more = index_walk_begin(index, &walk, key_slice(&prefix), slice_of("", 0));
    for (; more && !owners->failed; more = index_walk_next(&walk)) {
        if (walk.value.size >= sizeof(uint64_t)) {
            name_add(owners, key_read_u64(walk.value, 0), slice_from(walk.key, 1));
        }
    }
    index_walk_end(&walk);
    key_begin(&prefix, ROW_BOX);
    more = index_walk_begin(index, &walk, key_slice(&prefix), slice_of("", 0));
    for (; more && !owners->failed; more = index_walk_next(&walk)) {
        if (walk.key.size >= 1 + 2 * sizeof(uint64_t)) {
            box_add(owners, key_read_u64(walk.key, 9), key_read_u64(walk.key, 1));
        }
    }
    index_walk_end(&walk);
}

/* The id is the first in both structures. */
static int by_id(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void owners_gather(struct owners *owners, struct index *first, struct index *second)
{
    if (owners->gathered) {
        return;
    }
    owners->gathered = true;
    index_gather(owners, first);
    index_gather(owners, second);
    if (owners->name_count > 1) {
        qsort(owners->names, owners->name_count, sizeof owners->names[0], by_id);
    }
    if (owners->box_count > 1) {
        qsort(owners->boxes, owners->box_count, sizeof owners->boxes[0], by_id);
    }
}

static void owners_free(struct owners *owners)
{
    for (size_t i = 0; i < owners->name_count; i++) {
        free(owners->names[i].name);
    }
    free(owners->names);
    free(owners->boxes);
}

static uint64_t id_at(struct slice key, size_t at)
{
    return key.size >= at + sizeof(uint64_t) ? key_read_u64(key, at) : 0;
}

static uint64_t box_owner(const struct owners *owners, uint64_t box)
{
    const struct owner_box *found =
        owners->box_count == 0
            ? NULL
            : (const struct owner_box *)bsearch(&box, owners->boxes, owners->box_count,
                                                sizeof owners->boxes[0], by_id);
    return found != NULL ? found->user : 0;
}

/* 0: nobody's. */
static uint64_t user_of(const struct owners *owners, struct slice key)
{
    const size_t both = 2 * sizeof(uint64_t);
    switch ((enum row_kind)key.bytes[0]) {
    case ROW_USER:
    case ROW_BOX:
    case ROW_SUBSCRIBED:
    case ROW_PROPERTY:
    case ROW_KEPT:
    case ROW_WRITE:
        return id_at(key, 1);
    case ROW_ENTRIES:
    case ROW_VANISHED:
        return box_owner(owners, id_at(key, 1));
    case ROW_SHARED:
        return key.size > both ? id_at(key, key.size - both) : 0;
    case ROW_USER_NAME:
    case ROW_TEXT:
    case ROW_UNUSED:
    case ROW_HEADER:
    case ROW_SEGMENTS:
    case ROW_CACHE:
        break;
    }
    return 0;
}

static struct slice owner_of(const struct owners *owners, struct slice key)
{
    if (key.bytes[0] == ROW_USER_NAME) {
        return slice_from(key, 1);
    }
    uint64_t id = user_of(owners, key);
    const struct owner_name *found =
        owners->name_count == 0
            ? NULL
            : (const struct owner_name *)bsearch(&id, owners->names, owners->name_count,
                                                 sizeof owners->names[0], by_id);
    return found != NULL ? slice_text(found->name) : slice_of("", 0);
}

/* ── Rows ────────────────────────────────────────────────────────────────────────────────────── */

static const char *what_of(uint8_t kind)
{
    switch ((enum row_kind)kind) {
    case ROW_USER_NAME:
    case ROW_USER:
        return "user";
    case ROW_BOX:
        return "mailbox";
    case ROW_SUBSCRIBED:
        return "subscription";
    case ROW_PROPERTY:
        return "property";
    case ROW_SHARED:
        return "right";
    case ROW_ENTRIES:
        return "messages";
    case ROW_VANISHED:
        return "what was expunged";
    case ROW_KEPT:
        return "what is kept of it";
    case ROW_WRITE:
        return "change for the Maildir";
    case ROW_TEXT:
    case ROW_UNUSED:
        return "text";
    case ROW_HEADER:
    case ROW_SEGMENTS:
    case ROW_CACHE:
        break;
    }
    return "row";
}

/* A text that no entry has stays as long as somebody reads it. */
static bool is_passed_over(const struct index_walk *walk)
{
    uint8_t kind = walk->key.size > 0 ? walk->key.bytes[0] : 0;
    uint32_t refs = 1;
    if (kind == ROW_TEXT && walk->value.size >= sizeof(refs)) {
        memcpy(&refs, walk->value.bytes, sizeof(refs));
    }
    return kind == ROW_CACHE || kind == ROW_HEADER || kind == ROW_SEGMENTS || kind == ROW_UNUSED ||
           refs == 0;
}

/* What of a row's value must be the same. */
static struct slice state_of(const struct index_walk *walk)
{
    struct slice value = walk->value;
    if (walk->key.bytes[0] == ROW_TEXT) {
        return slice_first(value, 2 * sizeof(uint32_t)); /* refs, bytes */
    }
    if (walk->key.bytes[0] == ROW_USER) { /* in front: id, and what is known by snapshots */
        return slice_from(value,
                          value.size < 5 * sizeof(uint64_t) ? value.size : 5 * sizeof(uint64_t));
    }
    return value;
}

/* On to the next row that counts. False: there is none. */
static bool settle(struct index_walk *walk, bool more)
{
    while (more && is_passed_over(walk)) {
        more = index_walk_next(walk);
    }
    return more;
}

int indexes_compare(struct index *first, struct index *second,
                    const struct index_comparison *comparison)
{
    struct index_walk one = {.index = first}, two = {.index = second};
    struct owners owners = {0};
    const struct slice none = slice_of("", 0);
    bool more_one = settle(&one, index_walk_begin(first, &one, none, none));
    bool more_two = settle(&two, index_walk_begin(second, &two, none, none));
    int status = 0;
    while ((more_one || more_two) && status == 0) {
        int order = !more_two ? -1 : !more_one ? 1 : row_key_order(one.key, two.key);
        if (order != 0 || !slice_equal(state_of(&one), state_of(&two))) {
            const struct slice key = order <= 0 ? one.key : two.key;
            owners_gather(&owners, first, second);
            const struct mailstore_difference difference = {
                .what = what_of(key.bytes[0]),
                .key = key,
                .user = owner_of(&owners, key),
                .in_first = order <= 0,
                .in_second = order >= 0,
            };
            comparison->visit(comparison->owner, &difference);
        }
        more_one = order <= 0 ? settle(&one, index_walk_next(&one)) : more_one;
        more_two = order >= 0 ? settle(&two, index_walk_next(&two)) : more_two;
        status = comparison->row != NULL ? comparison->row(comparison->owner) : 0;
    }
    status = owners.failed ? -ENOMEM : status;
    status = one.status != 0 ? one.status : two.status != 0 ? two.status : status;
    index_walk_end(&one);
    index_walk_end(&two);
    owners_free(&owners);
    return status;
}

/* One that is damaged would be made anew: so it must be told before. */
static int open_one(struct index **index, const char *path)
{
    const struct mailstore_settings settings = {.index_path = path, .driven = true};
    bool damaged = false;
    int status = index_open(index, &settings, &damaged);
    if (status == 0 && damaged) {
        index_close(*index);
        status = -EINVAL;
    }
    return status;
}

int mailstore_compare(const char *first, const char *second,
                      void (*visit)(void *owner, const struct mailstore_difference *difference),
                      void *owner)
{
    const struct index_comparison comparison = {.visit = visit, .owner = owner};
    struct index *one, *two;
    int status = open_one(&one, first);
    if (status != 0) {
        return status;
    }
    status = open_one(&two, second);
    if (status == 0) {
        status = indexes_compare(one, two, &comparison);
        index_close(two);
    }
    index_close(one);
    return status;
}
