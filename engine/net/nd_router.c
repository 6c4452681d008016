#include "engine/net/nd.h"
#include "engine/net/icmp6.h"
#include "engine/net/stack_private.h"

#define SOLICIT_EVERY_NS (4 * SECOND_NS) /* RFC 4861 §10 */
#define SOLICITATIONS 3u
#define ADVERTISED_MAX 16u /* routes that we take from routers */
#define OPTION_SOURCE_MAC 1
#define OPTION_PREFIX 3
#define PREFIX_OPTION_BYTES 32u
#define PREFIX_ON_LINK 0x80
#define FOREVER UINT32_MAX

static const struct ip_address all_routers = {{RTE_BE32(0xff020000), 0, 0, RTE_BE32(2)}};

static void solicitation_send(struct stack *stack)
{
    const struct ip_address *own = nd_link_local(stack);
    struct ip_header header = {
        .from = own, .to = &all_routers, .hop_limit = 255, .payload_bytes = 16};
    struct rte_mbuf *frame =
        own == NULL ? NULL : icmp6_message(stack, &header, ICMP6_ROUTER_SOLICITATION);
    if (frame != NULL) {
        uint8_t *option = icmp6_body(frame) + 8;
        option[0] = OPTION_SOURCE_MAC;
        option[1] = 1;
        memcpy(option + 2, stack->port->facts.mac, 6);
        icmp6_send_on_link(stack, frame, NULL);
    }
}

static void solicit(struct stack *stack)
{
    struct nd_router *router = &stack->router;
    if (router->heard || router->solicitations == SOLICITATIONS) {
        return;
    }
    router->solicitations++;
    solicitation_send(stack);
    wheel_arm(stack->wheel, &router->solicit_timer, stack->now_ns + SOLICIT_EVERY_NS);
}

static void solicit_fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, router.solicit_timer);
    stack->now_ns = now_ns;
    solicit(stack);
}

static void expiry_arm(struct stack *stack)
{
    uint64_t soonest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < stack->routes.count; i++) {
        uint64_t expires_ns = stack->routes.list[i].expires_ns;
        soonest_ns = expires_ns < soonest_ns ? expires_ns : soonest_ns;
    }
    wheel_arm(stack->wheel, &stack->router.expiry_timer,
              soonest_ns == UINT64_MAX ? WHEEL_NEVER : soonest_ns);
}

static void expiry_fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, router.expiry_timer);
    stack->now_ns = now_ns;
    for (uint32_t i = stack->routes.count; i > 0; i--) {
        if (stack->routes.list[i - 1].expires_ns <= now_ns) {
            routes_remove(&stack->routes, &stack->routes.list[i - 1]);
        }
    }
    expiry_arm(stack);
}

void nd_router_open(struct stack *stack)
{
    timer_init(&stack->router.solicit_timer, solicit_fire);
    timer_init(&stack->router.expiry_timer, expiry_fire);
}

void nd_router_close(struct stack *stack)
{
    wheel_disarm(stack->wheel, &stack->router.solicit_timer);
    wheel_disarm(stack->wheel, &stack->router.expiry_timer);
}

void nd_router_begin(struct stack *stack)
{
    if (stack->ipv6 && stack->router.listens && stack->queue == 0) {
        solicit(stack);
    }
}

static uint64_t expiry_of(const struct stack *stack, uint32_t lifetime_s)
{
    return lifetime_s == FOREVER ? UINT64_MAX : stack->now_ns + lifetime_s * SECOND_NS;
}

/* A route of a router, for as long as it says; 0: no longer. */
static void route_told(struct stack *stack, const struct route *told, uint32_t lifetime_s)
{
    struct route *known = routes_same(&stack->routes, told);
    if (lifetime_s == 0) {
        if (known != NULL && ip_address_equal(&known->via, &told->via)) {
            routes_remove(&stack->routes, known);
        }
        return;
    }
    /* Another default router comes to its turn when the first is gone, or does not answer. */
    if (known != NULL && !ip_address_equal(&known->via, &told->via)) {
        if (!neighbour_has_failed(stack, &known->via)) {
            return;
        }
        routes_remove(&stack->routes, known);
        known = NULL;
    }
    if (known != NULL) {
        known->expires_ns = expiry_of(stack, lifetime_s);
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < stack->routes.count; i++) {
        count += stack->routes.list[i].origin == ROUTE_ADVERTISED;
    }
    struct route made = *told;
    made.expires_ns = expiry_of(stack, lifetime_s);
    if (count < ADVERTISED_MAX) {
        routes_add(&stack->routes, &made);
    }
}

static void default_told(struct stack *stack, const struct nd_advertisement *told)
{
    struct route route = {.via = told->from, .origin = ROUTE_ADVERTISED};
    if (ip_source_for_gateway(stack, &told->from, &route.source)) {
        route_told(stack, &route, told->lifetime_s);
    }
}

static uint32_t word_at(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof(word));
    return ntohl(word);
}

/* RFC 4861 §6.3.4: which prefixes are on the link. Addresses are the operator's to give. */
static void prefix_told(struct stack *stack, const uint8_t *option)
{
    struct route route = {
        .prefix = ip_address_of_ipv6(option + 16), .length = option[2], .origin = ROUTE_ADVERTISED};
    if ((option[3] & PREFIX_ON_LINK) == 0 || route.length > 128 || route.length < 8 ||
        ip_address_is_link_local(&route.prefix) || ip_is_martian(&route.prefix) ||
        ip_address_is_ipv4(&route.prefix)) {
        return;
    }
    for (uint32_t i = 0; i < stack->own.count; i++) {
        const struct own_address *own = &stack->own.list[i];
        bool global = !ip_address_is_ipv4(&own->address) && own->state != OWN_DUPLICATE &&
                      !ip_address_is_link_local(&own->address);
        bool inside = global && ip_address_in(&own->address, &route.prefix, route.length);
        if (inside || (global && ip_address_is_any(&route.source))) {
            route.source = own->address;
        }
        if (inside) {
            break;
        }
    }
    route_told(stack, &route, word_at(option + 4));
}

void nd_router_advertised(struct stack *stack, const struct nd_advertisement *told)
{
    if (!stack->router.listens) {
        return;
    }
    stack->router.heard = true;
    stack->counters.nd_router_advertisements++;
    if (told->mac != NULL) {
        neighbour_solicited(stack, &told->from, told->mac);
    }
    default_told(stack, told);
    if (told->mtu >= IPV6_MTU_MIN && told->mtu <= stack->mtu) {
        stack->mtu6 = (uint16_t)told->mtu;
    }
    for (uint32_t at = 0; at < told->options_bytes; at += told->options[at + 1] * 8u) {
        if (told->options[at] == OPTION_PREFIX &&
            told->options[at + 1] * 8u == PREFIX_OPTION_BYTES) {
            prefix_told(stack, told->options + at);
        }
    }
    expiry_arm(stack);
}
