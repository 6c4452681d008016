#include "engine/relay/bounce.h"
#include "engine/relay/relay_hops.h"
#include <stdlib.h>

#define FILING_FEW 16u /* recipients for which no memory is taken */

/* Recipients of one message that go one way: to one site and, by MX, of one domain, since what the domain says
 * about TLS is its own. Each leads to the next by `next`. */
struct filing_group {
    struct relay_site *site;
    const void *way;             /* what tells the group from others; NULL: nobody joins it */
    struct destination *held;    /* the way, where it is one: it must not become another's memory */
    uint32_t first, last, count; /* positions in `indexes` */
};

struct filing {
    const uint32_t *indexes;
    uint32_t group_count;
    struct filing_group *groups;
    uint32_t *next;
    uint32_t *members;   /* the indexes of one group */
    uint32_t *places;    /* a table of groups by way, each number one more; 0: free */
    uint32_t place_mask; /* at least twice as many places as recipients */
};

static void unroutable(struct relay *relay, struct message *message, uint32_t index)
{
    struct relay_failure failure = {.index = index,
                                    .status = {5, 4, 4},
                                    .text = "No route to the recipient's domain is configured"};
    bounce_send(relay, message, &failure, 1);
}

static void group_add(struct relay_site *site, struct message *message, const uint32_t *indexes,
                      uint32_t count, uint32_t attempts)
{
    struct relay *relay = site->relay;
    uint64_t now_ns = relay->shard->now_ns;
    int64_t age_s = world_wall_s(relay->shard->world) - message->envelope.arrival_wall_s;
    uint32_t limit =
        site->route->recipients_per_message > 0 ? site->route->recipients_per_message : count;
    for (uint32_t from = 0; from < count; from += limit) {
        const struct sched_request request = {
            .message = message,
            .indexes = indexes + from,
            .count = count - from < limit ? count - from : limit,
            .attempts = attempts,
            .due_ns = now_ns,
            .age_ns = age_s > 0 ? (uint64_t)age_s * 1000000000ull : 0,
        };
        if (sched_add(site->sched, &request, now_ns) < 0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "sched: out of memory; recipients wait for a restart");
        }
    }
    relay_site_touch(site);
}

/* The place of the way's group in the table, or the free one where it would be. */
static uint32_t *place_find(const struct filing *filing, const void *way)
{
    uint64_t hash = (uint64_t)(uintptr_t)way * 0x9e3779b97f4a7c15ull;
    for (uint32_t at = (uint32_t)(hash >> 32);; at++) {
        uint32_t *place = &filing->places[at & filing->place_mask];
        if (*place == 0 || filing->groups[*place - 1].way == way) {
            return place;
        }
    }
}

/* The recipient at this position joins those who go the same way, or is the first. one: its group alone. */
static void group_join(struct filing *filing, const struct filing_group *one)
{
    uint32_t position = one->first;
    uint32_t *place = one->way != NULL ? place_find(filing, one->way) : NULL;
    if (place == NULL || *place == 0) {
        filing->groups[filing->group_count++] = *one;
        if (place != NULL) {
            *place = filing->group_count;
        }
        return;
    }
    struct filing_group *group = &filing->groups[*place - 1];
    if (one->held != NULL) {
        destination_drop(one->held);
    }
    filing->next[group->last] = position;
    group->last = position;
    group->count++;
}

/* The site where a recipient waits, and what tells those who go with it. */
static void group_by_mx(struct relay *relay, const struct conf_route *route, struct slice mailbox,
                        struct filing_group *group)
{
    struct relay_domain *domain = NULL;
    int status =
        relay_domain_ask(relay, route, relay_domain_of(relay, mailbox), &group->held, &domain);
    group->way = status == 0 ? (const void *)group->held : domain;
    if (status == 0 && group->held->status == DESTINATION_OK && relay_hop_count(group->held) > 0) {
        group->site = relay_site_of_destination(relay, route, group->held);
    }
    if (group->site == NULL) {
        group->site = relay_site_of_route(relay, route); /* its lobby */
    }
}

static void groups_add(const struct filing *filing, struct message *message, uint32_t attempts)
{
    for (uint32_t i = 0; i < filing->group_count; i++) {
        const struct filing_group *group = &filing->groups[i];
        uint32_t position = group->first;
        for (uint32_t j = 0; j < group->count; j++, position = filing->next[position]) {
            filing->members[j] = filing->indexes[position];
        }
        group_add(group->site, message, filing->members, group->count, attempts);
        if (group->held != NULL) {
            destination_drop(group->held);
        }
    }
}

/* Each recipient costs the same, however many there are and wherever they go. */
static void filing_run(struct relay *relay, struct filing *filing, struct message *message,
                       uint32_t count, uint32_t attempts)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = filing->indexes[i];
        struct slice mailbox = message->recipients[index].forward_path;
        const struct conf_route *route = relay_conf_route(relay->conf, mailbox);
        if (route == NULL) {
            unroutable(relay, message, index);
            continue;
        }
        struct filing_group group = {.first = i, .last = i, .count = 1};
        if (route->via == CONF_VIA_MX) {
            group_by_mx(relay, route, mailbox, &group);
        } else {
            group.site = relay_site_of_route(relay, route);
            group.way = group.site;
        }
        if (group.site != NULL) {
            group_join(filing, &group);
            continue;
        }
        logger_line(relay->logger, LOGGER_ERROR,
                    "relay: out of memory; a recipient waits for a restart");
        if (group.held != NULL) {
            destination_drop(group.held);
        }
    }
    groups_add(filing, message, attempts);
}

void relay_file(struct relay *relay, struct message *message, const uint32_t *indexes,
                uint32_t count, uint32_t attempts)
{
    struct filing_group groups_few[FILING_FEW];
    uint32_t next_few[FILING_FEW] = {0}, members_few[FILING_FEW], places_few[2 * FILING_FEW] = {0};
    struct filing filing = {.indexes = indexes,
                            .groups = groups_few,
                            .next = next_few,
                            .members = members_few,
                            .places = places_few,
                            .place_mask = 2 * FILING_FEW - 1};
    void *memory = NULL;
    if (count > FILING_FEW) {
        size_t places = 2 * FILING_FEW;
        while (places < 2 * (size_t)count) {
            places *= 2;
        }
        memory = calloc(1, count * (sizeof(*filing.groups) + 2 * sizeof(uint32_t)) +
                               places * sizeof(uint32_t));
        if (memory == NULL) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "relay: out of memory; recipients wait for a restart");
            return;
        }
        filing.groups = memory;
        filing.next = (uint32_t *)(void *)(filing.groups + count);
        filing.members = filing.next + count;
        filing.places = filing.members + count;
        filing.place_mask = (uint32_t)places - 1;
    }
    spool_message_hold(message);
    filing_run(relay, &filing, message, count, attempts);
    spool_message_release(relay->spool, message);
    free(memory);
}

void relay_schedule(struct relay *relay, struct message *message)
{
    uint32_t few[FILING_FEW] = {0};
    uint32_t waiting = message->waiting_count;
    uint32_t *indexes = waiting <= FILING_FEW ? few : calloc(waiting, sizeof(*indexes));
    uint32_t count = 0;
    if (indexes == NULL) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "relay: out of memory; a message waits for a restart");
        return;
    }
    for (uint32_t i = 0; i < message->recipient_count && count < waiting; i++) {
        if (message->recipients[i].state == RECIPIENT_WAITING) {
            indexes[count++] = i;
        }
    }
    relay_file(relay, message, indexes, count, message->attempts);
    if (indexes != few) {
        free(indexes);
    }
}
