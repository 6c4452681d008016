#include "engine/mailbox/mailbox_group.h"
#include "engine/core/check.h"
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

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
}

void mailbox_group_close(struct mailbox_group *group)
{
    seats_close(&group->addresses);
    free(group->elsewhere);
    pthread_mutex_destroy(&group->lock);
}

void mailbox_group_place(struct mailbox_group *group, const struct conf_placing *placed,
                         uint32_t placed_count)
{
    group->placed = placed;
    group->placed_count = placed_count;
}

/* The same in every life of the store: nothing that is kept depends on a secret. */
static unsigned hashed(const struct mailbox_group *group, const char *user)
{
    static const struct siphash_key key = {{0x7475626570ull, 0x6f7374ull}};
    uint64_t words[(USER_NAME_BYTES + 7) / 8] = {0};
    size_t size = strlen(user);
    check(size < USER_NAME_BYTES);
    memcpy(words, user, size);
    return (unsigned)(siphash(&key, words, sizeof words / sizeof words[0]) % group->count);
}

/* Of a user who has no mail yet. */
static unsigned first_place(const struct mailbox_group *group, const char *user)
{
    for (uint32_t i = 0; i < group->placed_count; i++) {
        if (fnmatch(group->placed[i].users, user, 0) == 0) {
            return group->placed[i].shard;
        }
    }
    return hashed(group, user);
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

int mailbox_group_found(struct mailbox_group *group, unsigned shard, const char *user)
{
    if (strlen(user) >= USER_NAME_BYTES || first_place(group, user) == shard) {
        return 0;
    }
    pthread_mutex_lock(&group->lock);
    int status = elsewhere_add(group, shard, user);
    pthread_mutex_unlock(&group->lock);
    return status;
}

/* Of a user who was found on several shards the first one counts. */
static int by_name(const void *left, const void *right)
{
    const struct mailbox_elsewhere *a = (const struct mailbox_elsewhere *)left;
    const struct mailbox_elsewhere *b = (const struct mailbox_elsewhere *)right;
    int order = strcmp(a->user, b->user);
    return order != 0 ? order : (int)a->shard - (int)b->shard;
}

void mailbox_group_settle(struct mailbox_group *group)
{
    size_t kept = 0;
    if (group->elsewhere_count == 0) {
        return;
    }
    qsort(group->elsewhere, group->elsewhere_count, sizeof group->elsewhere[0], by_name);
    for (size_t i = 0; i < group->elsewhere_count; i++) {
        if (kept == 0 || strcmp(group->elsewhere[kept - 1].user, group->elsewhere[i].user) != 0) {
            group->elsewhere[kept++] = group->elsewhere[i];
        }
    }
    group->elsewhere_count = kept;
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
