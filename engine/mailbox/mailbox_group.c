#include "engine/mailbox/mailbox_group.h"
#include "engine/core/check.h"
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define DOUBLES_SAID 20u /* of users on several shards */

struct mailbox_elsewhere {
    char user[USER_NAME_BYTES];
    uint8_t shard;
};

void mailbox_group_open(struct mailbox_group *group, unsigned count, const struct world *world)
{
    check(count >= 1 && count <= CONF_SHARDS_MAX);
    *group = (struct mailbox_group){.count = count};
    world_random(world, &group->addresses.key, sizeof group->addresses.key);
    world_random(world, group->ticket_secret, sizeof group->ticket_secret);
    pthread_mutex_init(&group->lock, NULL);
    list_init(&group->passing);
}

void mailbox_group_close(struct mailbox_group *group)
{
    seats_close(&group->addresses);
    free(group->elsewhere);
    free(group->at_home);
    pthread_mutex_destroy(&group->lock);
}

void mailbox_group_place(struct mailbox_group *group, const struct conf_placing *placed,
                         uint32_t placed_count)
{
    group->placed = placed;
    group->placed_count = placed_count;
}

/* The same in every life of the store: nothing that is kept depends on a secret. */
static uint64_t hash_of(const char *user)
{
    static const struct siphash_key key = {{0x7475626570ull, 0x6f7374ull}};
    uint64_t words[(USER_NAME_BYTES + 7) / 8] = {0};
    size_t size = strlen(user);
    check(size < USER_NAME_BYTES);
    memcpy(words, user, size);
    return siphash(&key, words, sizeof words / sizeof words[0]);
}

/* Of a user who has no mail yet. */
static unsigned first_place(const struct mailbox_group *group, const char *user)
{
    for (uint32_t i = 0; i < group->placed_count; i++) {
        if (fnmatch(group->placed[i].users, user, FNM_CASEFOLD) == 0) {
            return group->placed[i].shard;
        }
    }
    return (unsigned)(hash_of(user) % group->count);
}

static int elsewhere_add(struct mailbox_group *group, unsigned shard, const char *user)
{
    if (group->elsewhere_count == group->elsewhere_room) {
        size_t room = group->elsewhere_room * 2 + 16;
        struct mailbox_elsewhere *grown =
            (struct mailbox_elsewhere *)realloc(group->elsewhere, room * sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        group->elsewhere = grown;
        group->elsewhere_room = room;
    }
    struct mailbox_elsewhere *added = &group->elsewhere[group->elsewhere_count++];
    added->shard = (uint8_t)shard;
    strcpy(added->user, user);
    return 0;
}

static int at_home_add(struct mailbox_group *group, const char *user)
{
    if (group->at_home_count == group->at_home_room) {
        size_t room = group->at_home_room * 2 + 64;
        uint64_t *grown = (uint64_t *)realloc(group->at_home, room * sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        group->at_home = grown;
        group->at_home_room = room;
    }
    group->at_home[group->at_home_count++] = hash_of(user);
    return 0;
}

int mailbox_group_found(struct mailbox_group *group, unsigned shard, const char *user)
{
    if (strlen(user) >= USER_NAME_BYTES) {
        return 0;
    }
    pthread_mutex_lock(&group->lock);
    int status = first_place(group, user) == shard ? at_home_add(group, user)
                                                   : elsewhere_add(group, shard, user);
    pthread_mutex_unlock(&group->lock);
    return status;
}

static int by_name(const void *left, const void *right)
{
    const struct mailbox_elsewhere *a = (const struct mailbox_elsewhere *)left;
    const struct mailbox_elsewhere *b = (const struct mailbox_elsewhere *)right;
    int order = strcmp(a->user, b->user);
    return order != 0 ? order : (int)a->shard - (int)b->shard;
}

static int by_hash(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static bool is_at_home(const struct mailbox_group *group, const char *user)
{
    uint64_t hash = hash_of(user);
    return group->at_home_count > 0 &&
           bsearch(&hash, group->at_home, group->at_home_count, sizeof hash, by_hash) != NULL;
}

static const char *what_of(const struct mailbox_group *group)
{
    return group->of_maildirs ? "a state" : "mail";
}

static void double_say(const struct mailbox_group *group, const char *user, unsigned first,
                       unsigned other, size_t said)
{
    if (group->logger != NULL && said < DOUBLES_SAID) {
        logger_line(group->logger, LOGGER_WARNING,
                    "store: %s has %s on the shards %u and %u: only that on %u is seen", user,
                    what_of(group), first, other, first);
    }
}

/* One of each user is left. Returns how many had mail on several shards. */
static size_t elsewhere_settle(struct mailbox_group *group)
{
    size_t kept = 0, doubles = 0;
    for (size_t i = 0; i < group->elsewhere_count; i++) {
        struct mailbox_elsewhere *found = &group->elsewhere[i];
        struct mailbox_elsewhere *last = kept > 0 ? &group->elsewhere[kept - 1] : NULL;
        if (last != NULL && strcmp(last->user, found->user) == 0) {
            double_say(group, found->user, last->shard, found->shard, doubles++);
            continue;
        }
        group->elsewhere[kept] = *found;
        found = &group->elsewhere[kept++];
        unsigned home = first_place(group, found->user);
        if (is_at_home(group, found->user)) {
            unsigned other = found->shard > home ? found->shard : home;
            found->shard = (uint8_t)(found->shard < home ? found->shard : home);
            double_say(group, found->user, found->shard, other, doubles++);
        }
    }
    group->elsewhere_count = kept;
    return doubles;
}

void mailbox_group_settle(struct mailbox_group *group)
{
    if (group->elsewhere_count > 0) {
        if (group->at_home_count > 0) {
            qsort(group->at_home, group->at_home_count, sizeof group->at_home[0], by_hash);
        }
        qsort(group->elsewhere, group->elsewhere_count, sizeof group->elsewhere[0], by_name);
        size_t doubles = elsewhere_settle(group);
        if (doubles > DOUBLES_SAID && group->logger != NULL) {
            logger_line(group->logger, LOGGER_WARNING, "store: %zu more have %s on several shards",
                        doubles - DOUBLES_SAID, what_of(group));
        }
    }
    free(group->at_home);
    group->at_home = NULL;
    group->at_home_count = group->at_home_room = 0;
}

static int name_order(const void *name, const void *member)
{
    return strcmp((const char *)name, ((const struct mailbox_elsewhere *)member)->user);
}

unsigned mailbox_group_shard(const struct mailbox_group *group, const char *user)
{
    if (group->count == 1) {
        return 0;
    }
    const struct mailbox_elsewhere *found =
        group->elsewhere_count == 0
            ? NULL
            : (const struct mailbox_elsewhere *)bsearch(user, group->elsewhere,
                                                        group->elsewhere_count,
                                                        sizeof group->elsewhere[0], name_order);
    return found != NULL ? found->shard : first_place(group, user);
}

bool mailbox_group_room_take(struct mailbox_group *group, uint32_t limit)
{
    unsigned count = atomic_load_explicit(&group->sessions, memory_order_relaxed);
    do {
        if (count >= limit) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&group->sessions, &count, count + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void mailbox_group_room_leave(struct mailbox_group *group)
{
    atomic_fetch_sub_explicit(&group->sessions, 1, memory_order_relaxed);
}

int mailbox_group_seat_take(struct mailbox_group *group, const struct endpoint *address,
                            uint32_t limit, struct seat **seat)
{
    const struct seat_key key = {.address = address};
    pthread_mutex_lock(&group->lock);
    int status = seats_take(&group->addresses, &key, limit, seat);
    pthread_mutex_unlock(&group->lock);
    return status;
}

void mailbox_group_seat_leave(struct mailbox_group *group, struct seat **seat)
{
    if (*seat != NULL) {
        pthread_mutex_lock(&group->lock);
        seats_leave(&group->addresses, seat);
        pthread_mutex_unlock(&group->lock);
    }
}
