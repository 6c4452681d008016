#include "engine/relay/relay_part.h"
#include <stdlib.h>

#define MARKS_FEW 128u /* recipients for which no memory is taken */

int relay_part_add(struct relay_site *site, const struct sched_delivery *from,
                   const uint32_t *indexes, uint32_t count)
{
    struct relay *relay = site->relay;
    int64_t age_s = world_wall_s(relay->shard->world) - message_arrival_wall_s(from->message);
    uint32_t most = site->route != NULL ? site->route->recipients_per_message : 0;
    int status = 0;
    struct sched_request request = {
        .message = from->message,
        .attempts = from->attempts,
        .due_ns = relay->shard->now_ns,
        .age_ns = age_s > 0 ? (uint64_t)age_s * 1000000000ull : 0,
        .sender = from->sender,
        .priority = from->priority,
        .held = from->held,
        .delayed = from->delayed,
        .placed = true,
    };
    most = most > 0 ? most : count;
    for (uint32_t first = 0; first < count; first += most) {
        request.indexes = indexes + first;
        request.count = count - first < most ? count - first : most;
        if (sched_add(site->sched, &request, relay->shard->now_ns) < 0) {
            status = -ENOMEM;
            logger_line(relay->logger, LOGGER_ERROR,
                        "sched: out of memory; recipients wait for a restart");
        }
    }
    relay_site_touch(site);
    return status;
}

static bool part_active(struct relay_site *site, struct sched_delivery *delivery, const bool *marks)
{
    const uint32_t *indexes = sched_indexes(delivery);
    uint32_t *taken = calloc(delivery->count, sizeof(*taken));
    uint32_t *keep = calloc(delivery->count, sizeof(*keep));
    uint32_t count = 0;
    bool done = taken != NULL && keep != NULL;
    for (uint32_t i = 0; done && i < delivery->count; i++) {
        if (marks[i]) {
            taken[count++] = indexes[i];
        } else {
            keep[i - count] = indexes[i];
        }
    }
    if (done) {
        check(count > 0 && count < delivery->count);
        relay_part_add(site, delivery, taken, count);
        if (!delivery->parked) {
            sched_park(delivery); /* what it was counted against goes to others */
        }
        sched_return(delivery, keep, delivery->count - count);
        relay_site_touch(sched_site_owner(sched_site_of(delivery)));
    }
    free(taken);
    free(keep);
    return done;
}

/* Some go on at this site. */
static void some_leave(struct sched_delivery *delivery, const struct relay_part_choice *choice,
                       struct relay_site *to)
{
    bool few[MARKS_FEW], *marks = few;
    if (delivery->count > MARKS_FEW) {
        marks = malloc(delivery->count * sizeof(*marks));
    }
    for (uint32_t i = 0; marks != NULL && i < delivery->count; i++) {
        marks[i] =
            choice->where(choice->owner, delivery->message, sched_indexes(delivery)[i]) == to;
    }
    if (marks == NULL || !part_active(to, delivery, marks)) {
        relay_delivery_put_back(to->relay, delivery);
    }
    if (marks != few) {
        free(marks);
    }
}

bool relay_part_by(struct sched_delivery *delivery, const struct relay_part_choice *choice)
{
    struct relay_site *site = sched_site_owner(sched_site_of(delivery)), *first = NULL,
                      *found = NULL;
    bool alike = true;
    for (uint32_t i = 0; i < delivery->count && (alike || found == NULL); i++) {
        struct relay_site *to =
            choice->where(choice->owner, delivery->message, sched_indexes(delivery)[i]);
        to = to != site ? to : NULL;
        first = i == 0 ? to : first;
        alike = alike && to == first;
        found = found != NULL ? found : to;
    }
    if (found == NULL) {
        return false;
    }
    if (alike) {
        sched_place(delivery, found->sched);
        relay_site_touch(found);
    } else {
        some_leave(delivery, choice, found);
    }
    relay_site_touch(site); /* what it waits for has changed */
    return true;
}
