/* Queued recipients go to another next hop. */
#include "engine/relay/relay_part.h"
#include "engine/relay/relay_queue.h"
#include <stdlib.h>

/* Parts the recipients of a delivery: `taken` are of the group. Returns how many those are. */
static uint32_t part(const struct sched_delivery *delivery, const struct queue_group *group,
                     uint32_t *taken, uint32_t *keep)
{
    const uint32_t *indexes = sched_indexes(delivery);
    uint32_t count = 0;
    for (uint32_t i = 0; i < delivery->count; i++) {
        if (queue_group_has(group, indexes[i])) {
            taken[count++] = indexes[i];
        } else {
            keep[i - count] = indexes[i];
        }
    }
    return count;
}

/* Returns how many have gone, or were there already. */
static uint32_t delivery_move(struct sched_delivery *delivery, const struct queue_group *group,
                              struct relay_site *site, uint32_t *taken, uint32_t *keep)
{
    uint32_t count = part(delivery, group, taken, keep);
    if (count == 0 || sched_site_of(delivery) == site->sched || delivery->state == SCHED_ACTIVE) {
        return delivery->state == SCHED_ACTIVE ? 0 : count;
    }
    struct relay_site *before = sched_site_owner(sched_site_of(delivery));
    relay_part_add(site, delivery, taken, count);
    int status = sched_withdraw(delivery, keep, delivery->count - count);
    check(status == 0);
    relay_site_touch(before);
    return count;
}

/* Where the routes lead: filed anew. Returns how many are. */
static uint32_t delivery_file(struct relay *relay, struct sched_delivery *delivery,
                              const struct queue_group *group, uint32_t *taken, uint32_t *keep)
{
    uint32_t count = part(delivery, group, taken, keep), attempts = delivery->attempts;
    if (count == 0 || delivery->state == SCHED_ACTIVE) {
        return 0;
    }
    relay_site_touch(sched_site_owner(sched_site_of(delivery)));
    int status = sched_withdraw(delivery, keep, delivery->count - count);
    check(status == 0);
    relay_file(relay, group->message, taken, count, attempts);
    return count;
}

void relay_queue_reroute(struct relay *relay, const struct queue_group *group, const char *to,
                         struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    bool goes_back = strcmp(to, OPERATOR_TO_ROUTES) == 0;
    struct relay_site *site = goes_back ? NULL : relay_detour_site(relay, to);
    uint32_t *taken = calloc(2 * (size_t)message->recipient_count, sizeof(*taken));
    uint32_t done = 0;
    if ((site != NULL || goes_back) && taken != NULL) {
        uint32_t *keep = taken + message->recipient_count;
        char id[MESSAGE_ID_TEXT];
        spool_message_hold(message); /* filed anew it may go back to its sender, and be gone */
        for (struct sched_delivery *delivery = message->owner, *next; delivery != NULL;
             delivery = next) { /* what is filed meanwhile comes before the first */
            next = sched_next_of_message(delivery);
            done += goes_back ? delivery_file(relay, delivery, group, taken, keep)
                              : delivery_move(delivery, group, site, taken, keep);
        }
        if (done > 0) {
            message_id_format(message->id, id);
            logger_line(relay->logger, LOGGER_INFO, "queue: %s: %u recipients go %s%s", id, done,
                        goes_back ? "where the routes lead" : "to ", goes_back ? "" : to);
        }
        spool_message_release(relay->spool, message);
    }
    free(taken);
    relay_queue_count(tally, done, group->count - done);
}
