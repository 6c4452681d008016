/* Queued recipients go to another next hop. */
#include "engine/relay/relay_private.h"
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

static void site_take(struct relay_site *site, const struct sched_request *from)
{
    struct relay *relay = site->relay;
    uint32_t most = site->route->recipients_per_message;
    most = most > 0 ? most : from->count;
    for (uint32_t first = 0; first < from->count; first += most) {
        struct sched_request request = *from;
        request.indexes = from->indexes + first;
        request.count = from->count - first < most ? from->count - first : most;
        if (sched_add(site->sched, &request, relay->shard->now_ns) < 0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "sched: out of memory; recipients wait for a restart");
        }
    }
    relay_site_touch(site);
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
    const struct world *world = site->relay->shard->world;
    struct message *message = group->message;
    uint32_t count = part(delivery, group, taken, keep);
    if (count == 0 || delivery->site == site->sched || delivery->state == SCHED_ACTIVE) {
        return delivery->state == SCHED_ACTIVE ? 0 : count;
    }
    int64_t age_s = world_wall_s(world) - message_arrival_wall_s(message);
    const struct sched_request request = {
        .message = message,
        .indexes = taken,
        .count = count,
        .attempts = delivery->attempts,
        .due_ns = site->relay->shard->now_ns,
        .age_ns = age_s > 0 ? (uint64_t)age_s * 1000000000ull : 0,
        .sender = delivery->sender,
        .priority = delivery->priority,
        .held = delivery->held,
        .delayed = delivery->delayed,
    };
    struct relay_site *before = sched_site_owner(delivery->site);
    int status = sched_withdraw(delivery, keep, delivery->count - count);
    check(status == 0);
    relay_site_touch(before);
    site_take(site, &request);
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
            next = delivery->next_of_message;
            done += delivery_move(delivery, group, site, taken, taken + message->recipient_count);
        }
        message_id_format(message->id, id);
        logger_line(relay->logger, LOGGER_INFO, "queue: %s: %u recipients go to %s", id, done, to);
    }
    free(taken);
    relay_queue_count(tally, done, group->count - done);
}
