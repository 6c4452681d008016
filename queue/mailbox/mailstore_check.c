#include "queue/mailbox/mailstore_check.h"
#include "queue/mailbox/mailstore_private.h"
#include "queue/mailbox/mailstore_rows.h"

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

static bool is_passed_over(const struct index_walk *walk)
{
    uint8_t kind = walk->key.size > 0 ? walk->key.bytes[0] : 0;
    return kind == ROW_CACHE || kind == ROW_HEADER || kind == ROW_SEGMENTS;
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

static void walk_both(struct index *first, struct index *second,
                      void (*visit)(void *owner, const struct mailstore_difference *difference),
                      void *owner, int *status)
{
    struct index_walk one = {.index = first}, two = {.index = second};
    const struct slice none = slice_of("", 0);
    bool more_one = settle(&one, index_walk_begin(first, &one, none, none));
    bool more_two = settle(&two, index_walk_begin(second, &two, none, none));
    while (more_one || more_two) {
        int order = !more_two ? -1 : !more_one ? 1 : row_key_order(one.key, two.key);
        if (order != 0 || !slice_equal(state_of(&one), state_of(&two))) {
            const struct slice key = order <= 0 ? one.key : two.key;
            const struct mailstore_difference difference = {
                .what = what_of(key.bytes[0]),
                .key = key,
                .in_first = order <= 0,
                .in_second = order >= 0,
            };
            visit(owner, &difference);
        }
        more_one = order <= 0 ? settle(&one, index_walk_next(&one)) : more_one;
        more_two = order >= 0 ? settle(&two, index_walk_next(&two)) : more_two;
    }
    *status = one.status != 0 ? one.status : two.status;
    index_walk_end(&one);
    index_walk_end(&two);
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
    struct index *one, *two;
    int status = open_one(&one, first);
    if (status != 0) {
        return status;
    }
    status = open_one(&two, second);
    if (status == 0) {
        walk_both(one, two, visit, owner, &status);
        index_close(two);
    }
    index_close(one);
    return status;
}
