/*
 * Which route takes an address, of any bytes, and where an address literal leads. The index must find what the rules
 * say when each route is looked at; a literal never leads back to this host.
 */
#include "engine/conf/match_index.h"
#include "engine/core/check.h"
#include "engine/relay/relay_literal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct conf_route routes[] = {
    {.match = "*"},        {.match = "/^sp+am/"},    {.match = "/x[.]test$/i"},
    {.match = "a.test"},   {.match = ".a.test"},     {.match = ".b.a.test"},
    {.match = "u@a.test"}, {.match = "[192.0.2.1]"}, {.match = "A"},
};
#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

static struct slice domain_of(struct slice address)
{
    const uint8_t *at = address.size > 0 ? memrchr(address.bytes, '@', address.size) : NULL;
    return at == NULL ? address : slice_from(address, (size_t)(at - address.bytes) + 1);
}

/* How well a route fits by its name; 0: not at all. Patterns are left out. */
static size_t fit(const struct conf_route *route, struct slice address, struct slice domain)
{
    struct slice match = slice_text(route->match);
    if (match.bytes[0] == '*' || match.bytes[0] == '/') {
        return 0;
    }
    if (match.bytes[0] == '.') {
        bool below = domain.size > match.size &&
                     slice_equal_nocase(slice_from(domain, domain.size - match.size), match);
        return below ? match.size : 0;
    }
    if (memchr(match.bytes, '@', match.size) != NULL) {
        return slice_equal_nocase(address, match) ? 2000 : 0;
    }
    return slice_equal_nocase(domain, match) ? 1000 : 0;
}

static void route_check(const struct match_index *index, struct slice address)
{
    uint32_t row = match_index_find(index, address);
    const struct conf_route *found = row != MATCH_NONE ? &routes[row] : NULL, *best = NULL;
    struct slice domain = domain_of(address);
    size_t best_fit = 0;
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        size_t one = fit(&routes[i], address, domain);
        best = one > best_fit ? &routes[i] : best;
        best_fit = one > best_fit ? one : best_fit;
    }
    check(found != NULL);
    if (best != NULL) {
        check(found == best);
    } else {
        check(found->match[0] == '*' || found->match[0] == '/');
    }
}

static void literal_check(struct slice name, uint8_t family)
{
    struct relay_conf conf = {0};
    struct shard shard = {.now_ns = 1};
    struct relay relay = {.conf = &conf, .shard = &shard};
    const struct conf_route route = {
        .via = CONF_VIA_MX, .port = 25, .family = family % 5, .address_literals = true};
    struct destination *destination = NULL;
    check(relay_literal(&relay, &route, name, &destination) == 0);
    if (destination->status == DESTINATION_OK) {
        check(destination->host_count == 1 && destination->hosts[0].address_count == 1);
        const struct endpoint *address = &destination->hosts[0].addresses[0];
        check(address->port == 25 && !endpoint_is_loopback(address));
        check(address->family == ENDPOINT_IPV4 || address->family == ENDPOINT_IPV6);
        check(destination->site_key != 0);
    } else {
        check(destination->text != NULL && destination->enhanced_class == 5);
    }
    destination_drop(destination);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct match_index *index;
    struct match_problem problem = {.rows = "routes"};
    if (index == NULL) {
        const char *matches[ROUTE_COUNT];
        for (size_t i = 0; i < ROUTE_COUNT; i++) {
            matches[i] = routes[i].match;
        }
        check(match_index_open(&index, matches, ROUTE_COUNT, &problem) == 0);
    }
    if (size > 0 && size < 400) {
        struct slice address = slice_of(bytes + 1, size - 1);
        route_check(index, address);
        literal_check(domain_of(address), bytes[0]);
    }
    return 0;
}
