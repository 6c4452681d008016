#include "engine/relay/bounce.h"
#include "engine/relay/relay_sites.h"
#include <stdlib.h>

#define FILING_FEW 16u /* recipients for which no memory is taken */

/* Recipients of one message that go to one site. Each leads to the next by `next`. */
struct filing_group {
    struct relay_site *site;
    uint32_t first, last, count; /* positions in `indexes` */
};

struct filing {
    const uint32_t *indexes;
    uint32_t group_count;
    struct filing_group *groups;
    uint32_t *next;
    uint32_t *members; /* the indexes of one group */
};

static struct slice domain_of(const struct relay *relay, struct slice mailbox)
{
    const uint8_t *at = mailbox.size > 0 ? memrchr(mailbox.bytes, '@', mailbox.size) : NULL;
    if (at == NULL) {
        return slice_text(relay->conf->hostname);
    }
    return slice_from(mailbox, (size_t)(at - mailbox.bytes) + 1);
}

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

/* The recipient at this position joins those who go to the same site. */
static void group_join(struct filing *filing, struct relay_site *site, uint32_t position)
{
    uint64_t serial = site->relay->filing;
    if (site->filing != serial) {
        site->filing = serial;
        site->filing_group = filing->group_count;
        filing->groups[filing->group_count++] =
            (struct filing_group){.site = site, .first = position, .last = position, .count = 1};
        return;
    }
    struct filing_group *group = &filing->groups[site->filing_group];
    filing->next[group->last] = position;
    group->last = position;
    group->count++;
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
    }
}

/* Each recipient costs the same, however many there are and wherever they go. */
static void filing_run(struct relay *relay, struct filing *filing, struct message *message,
                       uint32_t count, uint32_t attempts)
{
    relay->filing++;
    for (uint32_t i = 0; i < count; i++) {
        bool named;
        uint32_t index = filing->indexes[i];
        struct slice path = message->recipients[index].forward_path;
        const struct conf_route *route =
            relay_conf_route(relay->conf, domain_of(relay, path), &named);
        if (route == NULL) {
            unroutable(relay, message, index);
            continue;
        }
        struct relay_site *site = relay_site_of_route(relay, route);
        if (site == NULL) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "relay: out of memory; a recipient waits for a restart");
            continue;
        }
        group_join(filing, site, i);
    }
    groups_add(filing, message, attempts);
}

void relay_file(struct relay *relay, struct message *message, const uint32_t *indexes,
                uint32_t count, uint32_t attempts)
{
    struct filing_group groups_few[FILING_FEW];
    uint32_t next_few[FILING_FEW] = {0}, members_few[FILING_FEW];
    struct filing filing = {
        .indexes = indexes, .groups = groups_few, .next = next_few, .members = members_few};
    void *memory = NULL;
    if (count > FILING_FEW) {
        memory = calloc(count, sizeof(*filing.groups) + 2 * sizeof(uint32_t));
        if (memory == NULL) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "relay: out of memory; recipients wait for a restart");
            return;
        }
        filing.groups = memory;
        filing.next = (uint32_t *)(void *)(filing.groups + count);
        filing.members = filing.next + count;
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
