#include "engine/relay/bounce.h"
#include "engine/relay/relay_hops.h"
#include "engine/relay/relay_owed.h"
#include "engine/relay/relay_queue.h"
#include "engine/relay/relay_way.h"
#include <stdlib.h>

#define FILING_FEW 16u /* recipients for which no memory is taken */

/* Recipients of one message that go one way: to one site and, by MX, of one domain, since what the domain says
 * about TLS is its own. Each leads to the next by `next`. */
struct filing_group {
    struct relay_site *site;     /* NULL: memory is short */
    uint64_t way;                /* what tells the group from others */
    bool placed;                 /* by the operator */
    uint32_t first, last, count; /* positions in `indexes` */
};

struct filing {
    struct message *message;
    uint32_t attempts;
    bool again; /* a restart has found it: what was tried before waits for its time */
    const uint32_t *indexes;
    const struct relay_way *ways; /* of each of them; NULL: to be looked for */
    uint32_t group_count;
    struct filing_group *groups;
    uint32_t *next;
    uint32_t *members;   /* the indexes of one group */
    uint32_t *places;    /* a table of groups by way, each number one more; 0: free */
    uint32_t place_mask; /* at least twice as many places as recipients */
};

static void unroutable(struct relay *relay, struct message *message, uint32_t index)
{
    if (relay->owed.starting) {
        relay_owed_add(relay, message, index);
        return;
    }
    struct relay_outcome failure = {.index = index,
                                    .status = {5, 4, 4},
                                    .text = "No route to the recipient's domain is configured"};
    if (bounce_send(relay, message, &failure, 1) < 0) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "bounce: out of memory; a report waits for a restart");
    }
}

/* Of the domain, no case. */
static uint64_t domain_hash(const struct relay *relay, struct slice domain, uint64_t salt)
{
    uint64_t words[33] = {salt};
    uint8_t *bytes = (uint8_t *)&words[1];
    domain = slice_first(domain, sizeof(words) - sizeof(words[0]));
    for (size_t i = 0; i < domain.size; i++) {
        bytes[i] = slice_lower(domain.bytes[i]);
    }
    return siphash(&relay->sites.secret, words, 1 + (domain.size + 7) / 8);
}

/* Who shares his turns at a site: all senders of a domain. Reports of ours share theirs. */
uint64_t relay_sender_key(const struct relay *relay, struct slice reverse_path)
{
    return reverse_path.size == 0 ? 0 : domain_hash(relay, relay_domain_of(relay, reverse_path), 0);
}

static uint64_t wall_passed_ns(const struct relay *relay, int64_t since_s)
{
    int64_t passed_s = world_wall_s(relay->shard->world) - since_s;
    return passed_s > 0 ? (uint64_t)passed_s * 1000000000ull : 0;
}

static_assert((int)CONF_PRIORITY_NORMAL == SCHED_PRIORITY_NORMAL &&
                  (int)CONF_PRIORITY_URGENT == SCHED_PRIORITY_COUNT - 1,
              "the scheduler counts as the configuration names");

static bool all_warned(const struct message *message, const uint32_t *indexes, uint32_t count)
{
    uint32_t i = 0;
    while (i < count && message_warned(message, indexes[i])) {
        i++;
    }
    return i == count;
}

static void group_add(const struct filing *filing, const struct filing_group *group)
{
    struct relay_site *site = group->site;
    struct relay *relay = site->relay;
    uint32_t count = group->count;
    struct message *message = filing->message;
    uint64_t now_ns = relay->shard->now_ns;
    uint64_t waited_ns = wall_passed_ns(relay, message->last_attempt_wall_s);
    uint32_t limit =
        site->route->recipients_per_message > 0 ? site->route->recipients_per_message : count;
    for (uint32_t from = 0; from < count; from += limit) {
        const struct sched_request request = {
            .message = message,
            .indexes = filing->members + from,
            .count = count - from < limit ? count - from : limit,
            .attempts = filing->attempts,
            .due_ns = filing->again
                          ? sched_due_again(site->sched, filing->attempts, waited_ns, now_ns)
                          : now_ns,
            .sender = relay_sender_key(relay, message_reverse_path(message)),
            .priority = relay_queue_priority(relay, message),
            .age_ns = wall_passed_ns(relay, message_arrival_wall_s(message)),
            .held = (message_flags(message) & SPOOL_HELD) != 0,
            .delayed = all_warned(message, filing->members + from,
                                  count - from < limit ? count - from : limit),
            .placed = group->placed,
        };
        if (sched_add(site->sched, &request, now_ns) < 0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "sched: out of memory; recipients wait for a restart");
        }
    }
    relay_site_touch(site);
}

/* The place of the way's group in the table, or the free one where it would be. */
static uint32_t *place_find(const struct filing *filing, uint64_t way)
{
    for (uint32_t at = (uint32_t)way;; at++) {
        uint32_t *place = &filing->places[at & filing->place_mask];
        if (*place == 0 || filing->groups[*place - 1].way == way) {
            return place;
        }
    }
}

/* By MX: the site of the domain where it is known, and the mail is due; else the lobby. That too where a reroute may
 * name the site: the lobby asks. */
static struct relay_site *site_by_mx(const struct filing *filing, struct relay *relay,
                                     const struct conf_route *route, struct slice domain)
{
    struct destination *destination = NULL;
    struct relay_domain *asked = NULL;
    struct relay_site *site = NULL;
    if (!filing->again && !relay_detour_may_be(relay, filing->message) &&
        relay_domain_ask(relay, route, domain, &destination, &asked) == 0) {
        if (destination->status == DESTINATION_OK && relay_hop_count(route, destination) > 0) {
            site = relay_site_of_destination(relay, route, destination);
        }
        destination_drop(destination);
    }
    return site != NULL ? site : relay_site_of_route(relay, route);
}

/* Where it was rerouted to; NULL: it was not. Where a route by MX leads is asked later: see relay_direct. */
static struct relay_site *detour_of(const struct filing *filing, struct relay *relay,
                                    const struct conf_route *route, uint32_t index)
{
    if (!relay_detour_may_be(relay, filing->message)) {
        return NULL;
    }
    struct relay_site *natural =
        route->via != CONF_VIA_MX ? relay_site_of_route(relay, route) : NULL;
    return relay_detour_of(relay, filing->message, index, natural);
}

static bool is_by_mx(const struct relay *relay, const struct conf_route *route)
{
    return route->via == CONF_VIA_MX && route != &relay->conf->route_standard; /* a lobby */
}

static struct relay_site *site_of_way(const struct filing *filing, struct relay *relay,
                                      const struct conf_route *route, struct slice domain)
{
    struct relay_site *site = is_by_mx(relay, route) ? site_by_mx(filing, relay, route, domain)
                                                     : relay_site_of_route(relay, route);
    if (site == NULL && route->by_map) {
        /* There are too many: in the maps' lobby it is put off. */
        site = relay_site_of_route(relay, &relay->conf->route_standard);
    }
    return site;
}

/* The recipient at this position joins those who go the same way, or is the first. */
static void group_join(struct filing *filing, struct relay *relay, const struct conf_route *route,
                       uint32_t position)
{
    uint32_t index = filing->indexes[position];
    struct slice domain =
        relay_domain_for(relay, route, message_forward_path(filing->message, index));
    struct relay_site *moved = detour_of(filing, relay, route, index);
    uint64_t way = moved != NULL ? (uint64_t)(uintptr_t)moved : relay_route_key(relay, route);
    way = moved == NULL && is_by_mx(relay, route) ? domain_hash(relay, domain, way)
                                                  : siphash(&relay->sites.secret, &way, 1);
    uint32_t *place = place_find(filing, way);
    if (*place == 0) {
        filing->groups[filing->group_count++] = (struct filing_group){
            .site = moved != NULL ? moved : site_of_way(filing, relay, route, domain),
            .way = way,
            .placed = moved != NULL,
            .first = position,
            .last = position,
            .count = 1};
        *place = filing->group_count;
        return;
    }
    struct filing_group *group = &filing->groups[*place - 1];
    filing->next[group->last] = position;
    group->last = position;
    group->count++;
}

static void groups_add(const struct filing *filing, struct relay *relay)
{
    for (uint32_t i = 0; i < filing->group_count; i++) {
        const struct filing_group *group = &filing->groups[i];
        uint32_t position = group->first;
        for (uint32_t j = 0; j < group->count; j++, position = filing->next[position]) {
            filing->members[j] = filing->indexes[position];
        }
        if (group->site != NULL) {
            group_add(filing, group);
        } else {
            logger_line(relay->logger, LOGGER_ERROR,
                        "relay: out of memory; recipients wait for a restart");
        }
    }
}

/* The caller's, for relay_way_drop. */
static void way_of(const struct filing *filing, struct relay *relay, uint32_t position,
                   struct relay_way *way)
{
    struct slice mailbox = message_forward_path(filing->message, filing->indexes[position]);
    if (filing->ways != NULL) {
        *way = filing->ways[position];
        if (way->made != NULL) {
            relay_transport_hold(way->made);
        }
    } else if (filing->again && relay_ways_used(relay)) {
        relay_way_later(relay, way); /* the maps may say something else by then */
    } else {
        relay_way_now(relay, mailbox, way);
    }
}

/* Each recipient costs the same, however many there are and wherever they go. */
static void filing_run(struct relay *relay, struct filing *filing, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = filing->indexes[i];
        struct relay_way way;
        way_of(filing, relay, i, &way);
        if (way.route != NULL) {
            group_join(filing, relay, way.route, i);
        } else {
            unroutable(relay, filing->message, index);
        }
        relay_way_drop(relay, &way);
    }
    groups_add(filing, relay);
}

/* like: what the filing is about. */
static void recipients_file(struct relay *relay, const struct filing *like, uint32_t count)
{
    struct filing_group groups_few[FILING_FEW];
    uint32_t next_few[FILING_FEW] = {0}, members_few[FILING_FEW], places_few[2 * FILING_FEW] = {0};
    struct filing filing = *like;
    filing.groups = groups_few;
    filing.next = next_few;
    filing.members = members_few;
    filing.places = places_few;
    filing.place_mask = 2 * FILING_FEW - 1;
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
    spool_message_hold(filing.message);
    filing_run(relay, &filing, count);
    spool_message_release(relay->spool, filing.message);
    free(memory);
}

void relay_file(struct relay *relay, struct message *message, const uint32_t *indexes,
                uint32_t count, uint32_t attempts)
{
    const struct filing like = {.message = message, .attempts = attempts, .indexes = indexes};
    recipients_file(relay, &like, count);
}

void relay_file_by(struct relay *relay, struct message *message, const uint32_t *indexes,
                   const struct relay_way *ways, uint32_t count, uint32_t attempts)
{
    const struct filing like = {
        .message = message, .attempts = attempts, .indexes = indexes, .ways = ways};
    recipients_file(relay, &like, count);
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
        if (message_recipient_state(message, i) == RECIPIENT_WAITING) {
            indexes[count++] = i;
        }
    }
    if (count < waiting) { /* some are served, and their sender is to be told */
        if (relay->owed.starting) {
            relay_owed_add(relay, message, RELAY_OWED_TOLD);
        } else {
            spool_message_hold(message);
            bounce_resume(relay, message);
            spool_message_release(relay->spool, message);
        }
    }
    const struct filing like = {.message = message,
                                .attempts = message->attempts,
                                .again = message->attempts > 0,
                                .indexes = indexes};
    recipients_file(relay, &like, count);
    if (indexes != few) {
        free(indexes);
    }
}
