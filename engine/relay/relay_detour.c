#include "engine/relay/relay_detour.h"
#include "engine/control/words.h"
#include "engine/relay/relay_private.h"
#include "engine/relay/relay_queue.h"
#include "engine/resolve/resolve.h"
#include <stdio.h>
#include <stdlib.h>

#define HOPS_MAX 64u
#define PORT_SMTP 25u
#define PORT_LMTP 24u
#define VALUE_MAX (QUEUE_FILTER_IDS_MAX * MESSAGE_ID_TEXT + 1)

/* ---- Next hops ---- */

struct hop {
    bool has_protocol; /* it was said */
    uint8_t via;       /* enum conf_via */
    struct endpoint at;
};

struct made_hop {
    struct list_node node;
    struct conf_route route;
    struct endpoint to;
};

struct relay_detour {
    struct operator_reroute said;
    struct queue_filter filter;
    struct queue_matcher *matcher;
    bool goes_back; /* where the routes lead */
    struct hop hop;
    const struct conf_route *route; /* of the hop, as it was found last; NULL: to be looked for */
};

/* Behind the protocol. As a route has it, or with brackets round an address, or without a port. */
static int endpoint_read(struct endpoint *at, const char *text, unsigned port)
{
    char plain[OPERATOR_TO_MAX + 16];
    const char *close = strrchr(text, ']');
    const char *behind = close != NULL ? close + 1 : "";
    if (strlen(text) >= OPERATOR_TO_MAX) {
        return -EINVAL;
    }
    if (endpoint_parse(at, slice_text(text)) == 0) {
        return 0;
    }
    if (text[0] == '[' && close != NULL && (behind[0] == ':' || behind[0] == '\0')) {
        int size = (int)(close - text) - 1;
        bool is_ipv6 = memchr(text, ':', (size_t)(close - text)) != NULL;
        snprintf(plain, sizeof(plain), is_ipv6 ? "[%.*s]" : "%.*s", size, text + 1);
    } else {
        snprintf(plain, sizeof(plain), strchr(text, ':') != NULL ? "[%s]" : "%s", text);
        behind = "";
    }
    size_t used = strlen(plain);
    if (behind[0] == ':') {
        snprintf(plain + used, sizeof(plain) - used, "%s", behind);
    } else {
        snprintf(plain + used, sizeof(plain) - used, ":%u", port);
    }
    return endpoint_parse(at, slice_text(plain));
}

static int hop_read(struct hop *hop, const char *to)
{
    bool is_lmtp = strncmp(to, "lmtp:", 5) == 0;
    *hop = (struct hop){.has_protocol = is_lmtp || strncmp(to, "smtp:", 5) == 0,
                        .via = is_lmtp ? CONF_VIA_LMTP : CONF_VIA_SMTP};
    int status =
        endpoint_read(&hop->at, hop->has_protocol ? to + 5 : to, is_lmtp ? PORT_LMTP : PORT_SMTP);
    return status == 0 && hop->at.family != ENDPOINT_UNIX && hop->at.port == 0 ? -EINVAL : status;
}

bool relay_detour_is_hop(const char *to)
{
    struct hop hop;
    return hop_read(&hop, to) == 0;
}

static const struct conf_route *route_of_conf(const struct relay *relay, const struct hop *hop)
{
    for (uint32_t i = 0; i < relay->conf->routes_count; i++) {
        const struct conf_route *route = &relay->conf->routes[i];
        bool has_hops = route->via == CONF_VIA_SMTP || route->via == CONF_VIA_LMTP;
        if (has_hops && route->to_count > 0 && endpoint_equal(&route->to[0], &hop->at) &&
            (!hop->has_protocol || route->via == hop->via)) {
            return route;
        }
    }
    return NULL;
}

static bool is_used(const struct relay *relay, const struct conf_route *route)
{
    const struct list_node *used = &relay->sites.used;
    const struct list_node *node = used->next;
    while (node != used && list_entry(node, struct relay_site, node)->route != route) {
        node = node->next;
    }
    return node != used;
}

static void hop_drop(struct relay *relay, struct made_hop *hop)
{
    for (uint32_t i = 0; i < relay->detours.count; i++) {
        struct relay_detour *detour = relay->detours.all[i];
        detour->route = detour->route != &hop->route ? detour->route : NULL;
    }
    list_remove(&hop->node);
    free(hop);
    relay->detours.hop_count--;
}

/* Those for which nothing waits any more, and which no connection remembers. */
static void hops_tidy(struct relay *relay)
{
    struct list_node *all = &relay->detours.hops;
    for (struct list_node *node = all->next, *next; node != all; node = next) {
        struct made_hop *hop = list_entry(node, struct made_hop, node);
        next = node->next;
        if (!is_used(relay, &hop->route)) {
            hop_drop(relay, hop);
        }
    }
}

static const struct conf_route *route_made(struct relay *relay, const struct hop *wanted)
{
    struct list_node *all = &relay->detours.hops;
    for (struct list_node *node = all->next; node != all; node = node->next) {
        struct made_hop *hop = list_entry(node, struct made_hop, node);
        if (hop->route.via == wanted->via && endpoint_equal(&hop->to, &wanted->at)) {
            return &hop->route;
        }
    }
    hops_tidy(relay);
    struct made_hop *hop = relay->detours.hop_count < HOPS_MAX ? calloc(1, sizeof(*hop)) : NULL;
    if (hop == NULL) {
        return NULL;
    }
    hop->to = wanted->at;
    hop->route = relay->conf->route_standard; /* which has no text of the configuration */
    hop->route.match = "(rerouted)";
    hop->route.via = wanted->via;
    hop->route.to = &hop->to;
    hop->route.to_count = 1;
    list_init(&hop->node);
    list_append(all, &hop->node);
    relay->detours.hop_count++;
    return &hop->route;
}

/* NULL: memory is short, or there are as many as there may be. */
static const struct conf_route *route_of_hop(struct relay *relay, const struct hop *hop)
{
    const struct conf_route *route = route_of_conf(relay, hop);
    return route != NULL ? route : route_made(relay, hop);
}

struct relay_site *relay_detour_site(struct relay *relay, const char *to)
{
    struct hop hop;
    const struct conf_route *route = hop_read(&hop, to) == 0 ? route_of_hop(relay, &hop) : NULL;
    return route != NULL ? relay_site_of_route(relay, route) : NULL;
}

static bool is_any(const struct endpoint *address)
{
    static const uint8_t any[sizeof(address->address)];
    return address->family != ENDPOINT_UNIX && memcmp(address->address, any, sizeof(any)) == 0;
}

/* A listener on all addresses is one on each of them, and resolve knows those of the machine. */
bool relay_detour_is_ours(const struct relay *relay, const char *to)
{
    struct hop hop;
    if (hop_read(&hop, to) < 0) {
        return false;
    }
    for (uint32_t i = 0; i < relay->conf->listen_count; i++) {
        const struct conf_listener *listener = &relay->conf->listen[i];
        for (uint32_t j = 0; j < listener->addresses_count; j++) {
            const struct endpoint *at = &listener->addresses[j];
            bool loops = is_any(at) && at->port == hop.at.port && endpoint_is_loopback(&hop.at);
            if (loops || endpoint_equal(at, &hop.at)) {
                return true;
            }
        }
    }
    return relay->resolve != NULL && resolve_is_own(relay->resolve, &hop.at);
}

bool relay_detour_is_made(const struct relay *relay, const struct conf_route *route)
{
    const struct list_node *all = &relay->detours.hops;
    const struct list_node *node = all->next;
    while (node != all && &list_entry(node, struct made_hop, node)->route != route) {
        node = node->next;
    }
    return node != all;
}

/* ---- What is remembered ---- */

static void detour_free(struct relay_detour *detour)
{
    queue_matcher_close(detour->matcher);
    queue_filter_free(&detour->filter);
    free(detour);
}

static int filter_read(struct queue_filter *filter, const char *words)
{
    char problem[QUEUE_FILTER_PROBLEM_MAX], value[VALUE_MAX];
    struct slice rest = slice_text(words);
    int status = 0;
    queue_filter_init(filter);
    while (status == 0 && rest.size > 0) {
        struct slice key;
        const uint8_t *blank = memchr(rest.bytes, ' ', rest.size);
        size_t size = blank != NULL ? (size_t)(blank - rest.bytes) : rest.size;
        status = control_word_read(slice_first(rest, size), &key, value, sizeof(value));
        status = status == 0 ? queue_filter_read(filter, key, value, problem) : status;
        rest = slice_from(rest, blank != NULL ? size + 1 : size);
    }
    if (status < 0) {
        queue_filter_free(filter);
        return -EINVAL;
    }
    return 0;
}

static struct relay_detour *detour_make(const struct operator_reroute *said, int *status)
{
    struct relay_detour *detour = calloc(1, sizeof(*detour));
    *status = detour == NULL ? -ENOMEM : filter_read(&detour->filter, said->words);
    if (*status < 0) {
        free(detour);
        return NULL;
    }
    detour->said = *said;
    detour->goes_back = strcmp(said->to, OPERATOR_TO_ROUTES) == 0;
    if (!detour->goes_back && hop_read(&detour->hop, said->to) < 0) {
        *status = -EINVAL;
        detour_free(detour);
        return NULL;
    }
    detour->matcher = queue_matcher_open(&detour->filter);
    if (detour->matcher == NULL) {
        *status = -ENOMEM;
        detour_free(detour);
        return NULL;
    }
    return detour;
}

/* Without those that the new one leaves nothing to, and those that are older than any mail may be. */
static void detours_tidy(struct relay *relay, const struct operator_reroute *said)
{
    struct relay_detours *detours = &relay->detours;
    int64_t oldest_wall_s =
        world_wall_s(relay->shard->world) - relay_mail_age_max_s(relay) - OPERATOR_MAIL_AGE_SLACK_S;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < detours->count; i++) {
        if (operator_reroute_replaces(said, &detours->all[i]->said) ||
            detours->all[i]->said.since_wall_s < oldest_wall_s) {
            detour_free(detours->all[i]);
        } else {
            detours->all[kept++] = detours->all[i];
        }
    }
    detours->count = kept;
}

int relay_detour_remember(struct relay *relay, const struct operator_reroute *said)
{
    struct relay_detours *detours = &relay->detours;
    int status;
    struct relay_detour *detour = detour_make(said, &status);
    if (detour == NULL) {
        return status;
    }
    detours_tidy(relay, said);
    if (detour->goes_back && detours->count == 0) { /* what goes where it goes anyway */
        detour_free(detour);
        return 0;
    }
    struct relay_detour **all =
        detours->count < OPERATOR_REROUTES_MAX
            ? realloc(detours->all, (detours->count + 1) * sizeof(struct relay_detour *))
            : NULL;
    if (all == NULL) {
        detour_free(detour);
        return detours->count < OPERATOR_REROUTES_MAX ? -ENOMEM : -ENOSPC;
    }
    detours->all = all;
    all[detours->count++] = detour;
    detours->since_wall_s = detours->count == 1 || said->since_wall_s > detours->since_wall_s
                                ? said->since_wall_s
                                : detours->since_wall_s;
    return 0;
}

int relay_detours_load(struct relay *relay, const struct operator_orders *orders)
{
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < orders->reroute_count; i++) {
        const struct operator_reroute *said = &orders->reroutes[i];
        status = relay_detour_remember(relay, said);
        if (status == -EINVAL) {
            logger_line(
                relay->logger, LOGGER_ERROR,
                "queue: a reroute of '%s' to '%s' is passed over: it says nothing that can be done",
                said->words, said->to);
            status = 0;
        }
    }
    return status;
}

bool relay_detour_may_be(const struct relay *relay, const struct message *message)
{
    return relay->detours.count > 0 &&
           message_arrival_wall_s(message) <= relay->detours.since_wall_s;
}

static bool is_meant(const struct relay_detour *detour, const struct message *message,
                     uint32_t index, struct relay_site *site)
{
    const struct queue_facts facts = {.site =
                                          site != NULL ? relay_site_name(site) : slice_of("", 0)};
    /* By its age then, not now. */
    return message_arrival_wall_s(message) <= detour->said.since_wall_s &&
           queue_filter_message(&detour->filter, detour->matcher, message,
                                detour->said.since_wall_s) &&
           queue_filter_recipient(&detour->filter, detour->matcher,
                                  message_forward_path(message, index), &facts);
}

/* NULL: there is none now. */
static struct relay_site *detour_site(struct relay *relay, struct relay_detour *detour)
{
    detour->route = detour->route != NULL ? detour->route : route_of_hop(relay, &detour->hop);
    struct relay_site *site =
        detour->route != NULL ? relay_site_of_route(relay, detour->route) : NULL;
    if (site == NULL) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "queue: out of memory, or of next hops (%u); mail that was rerouted to %s goes "
                    "its old way",
                    HOPS_MAX, detour->said.to);
    }
    return site;
}

struct relay_site *relay_detour_of(struct relay *relay, const struct message *message,
                                   uint32_t index, struct relay_site *natural)
{
    struct relay_site *moved = NULL;
    for (uint32_t i = 0; i < relay->detours.count; i++) {
        struct relay_detour *detour = relay->detours.all[i];
        if (is_meant(detour, message, index, moved != NULL ? moved : natural)) {
            moved = detour->goes_back ? NULL : detour_site(relay, detour);
        }
    }
    return moved;
}

/* ---- Life ---- */

void relay_detours_init(struct relay *relay)
{
    list_init(&relay->detours.hops);
}

void relay_detours_reload(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->detours.count; i++) {
        relay->detours.all[i]->route = NULL;
    }
}

void relay_detours_close(struct relay *relay)
{
    struct relay_detours *detours = &relay->detours;
    for (uint32_t i = 0; i < detours->count; i++) {
        detour_free(detours->all[i]);
    }
    free(detours->all);
    detours->count = 0;
    while (!list_empty(&detours->hops)) {
        hop_drop(relay, list_entry(detours->hops.next, struct made_hop, node));
    }
}
