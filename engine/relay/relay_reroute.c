/* Queued recipients go to another next hop. */
#include "engine/relay/relay_part.h"
#include "engine/relay/relay_queue.h"
#include <stdlib.h>

static const struct conf_route *route_to(const struct relay *relay, const char *to)
{
    for (uint32_t i = 0; i < relay->conf->routes_count; i++) {
        const struct conf_route *route = &relay->conf->routes[i];
        char text[ENDPOINT_TEXT_MAX];
        if ((route->via == CONF_VIA_SMTP || route->via == CONF_VIA_LMTP) && route->to_count > 0) {
            endpoint_format(&route->to[0], text);
            if (slice_equal_nocase(slice_text(text), slice_text(to))) {
                return route;
            }
        }
    }
    return NULL;
}

bool relay_queue_knows(const struct relay *relay, const char *to)
{
    return route_to(relay, to) != NULL;
}

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

void relay_queue_reroute(struct relay *relay, const struct queue_group *group, const char *to,
                         struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    const struct conf_route *route = route_to(relay, to);
    struct relay_site *site = route != NULL ? relay_site_of_route(relay, route) : NULL;
    uint32_t *taken = calloc(2 * (size_t)message->recipient_count, sizeof(*taken));
    uint32_t done = 0;
    if (site != NULL && taken != NULL) {
        char id[MESSAGE_ID_TEXT];
        for (struct sched_delivery *delivery = message->owner, *next; delivery != NULL;
             delivery = next) {
            next = sched_next_of_message(delivery);
            done += delivery_move(delivery, group, site, taken, taken + message->recipient_count);
        }
        message_id_format(message->id, id);
        logger_line(relay->logger, LOGGER_INFO, "queue: %s: %u recipients go to %s", id, done, to);
    }
    free(taken);
    relay_queue_count(tally, done, group->count - done);
}
