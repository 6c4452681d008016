/*
 * What a start has found, given to the owner a part in each round, in order of arrival: putting millions in order takes
 * seconds, and the first need not wait for the last. They count, in the log's books too, before the first is given.
 */
#include "queue/spool/spool_private.h"

#define FOUND_ROOM_MIN 1024u

static void give(struct spool *spool, struct spool_message *message)
{
    spool->found(spool->found_owner, &message->message);
}

/* Room for one more. */
static bool has_room(struct spool_found *found)
{
    if (found->count == found->room) {
        size_t room = found->room * 2 + FOUND_ROOM_MIN;
        uint32_t *grown = (uint32_t *)realloc(found->links, room * sizeof(found->links[0]));
        if (grown == NULL) {
            return false;
        }
        found->links = grown;
        found->room = room;
    }
    return true;
}

void spool_found_add(struct spool *spool, struct spool_message *message)
{
    struct spool_found *found = &spool->to_give;
    if (spool->settings.found_each_round == 0 || !has_room(found)) {
        give(spool, message);
        return;
    }
    found->links[found->count++] = near_link(message);
    spool_message_hold(&message->message);
}

unsigned spool_found_round(struct spool *spool)
{
    struct spool_found *found = &spool->to_give;
    unsigned given = 0;
    while (given < spool->settings.found_each_round && found->given < found->count) {
        struct spool_message *message =
            (struct spool_message *)near_at(spool->store.heap.base, found->links[found->given++]);
        given += message->message.recipient_count;
        if (message->body.state == MESSAGE_LIVE) {
            give(spool, message);
        }
        spool_message_release(spool, &message->message);
    }
    if (found->given == found->count) {
        spool_found_close(spool);
    }
    return given;
}

bool spool_is_finding(const struct spool *spool)
{
    return spool->to_give.given < spool->to_give.count;
}

void spool_found_close(struct spool *spool)
{
    free(spool->to_give.links);
    spool->to_give = (struct spool_found){0};
}
