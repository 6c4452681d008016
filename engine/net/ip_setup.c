/* What the settings say of addresses and routes, laid down when the stack is opened. */
#include "engine/net/ip.h"
#include "engine/net/stack_private.h"

#define LINK_LOCAL_BITS 10u /* RFC 4291 §2.5.6: the 54 bits after these are zero */

/* RFC 4291 appendix A: the port's Ethernet address, its universal bit turned over. Each shard of a
 * port comes to the same. */
static struct ip_address link_local_of(const uint8_t mac[6])
{
    const uint8_t bytes[16] = {0xfe,       0x80,   0,      0,    0,    0,      0,      0,
                               mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
    return ip_address_of_ipv6(bytes);
}

static int own_address_add(struct stack *stack, const struct ip_address *address, uint8_t length)
{
    bool sure = ip_address_is_ipv4(address) || stack->skips_dad;
    return own_add(&stack->own, address, length, sure ? OWN_PREFERRED : OWN_TENTATIVE);
}

static int connected_add(struct stack *stack, const struct ip_address *address, uint8_t length)
{
    const struct route route = {.prefix = *address,
                                .source = *address,
                                .expires_ns = UINT64_MAX,
                                .length = length,
                                .origin = ROUTE_CONNECTED};
    int status = length == 128 ? 0 : routes_add(&stack->routes, &route);
    return status == -EEXIST ? 0 : status; /* the first address of a network speaks for it */
}

/* 0, or -EINVAL. *length in 128 bits. */
static int prefix_read(const struct network_prefix *given, struct ip_address *address,
                       uint8_t *length)
{
    if (!ip_address_of_endpoint(address, &given->address)) {
        return -EINVAL;
    }
    uint32_t before = ip_address_is_ipv4(address) ? IP_ADDRESS_IPV4_BITS : 0;
    if (given->length > 128 - before) {
        return -EINVAL;
    }
    *length = (uint8_t)(given->length + before);
    return 0;
}

static int addresses_add(struct stack *stack, const struct stack_settings *settings)
{
    bool ipv6 = false, link_local = false;
    if (settings->address_count == 0 || settings->address_count > STACK_ADDRESSES_MAX) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < settings->address_count; i++) {
        struct ip_address address;
        uint8_t length;
        if (prefix_read(&settings->addresses[i], &address, &length) < 0 ||
            ip_is_martian(&address) || own_address_add(stack, &address, length) < 0) {
            return -EINVAL;
        }
        bool local = ip_address_is_link_local(&address);
        stack->link_local = local ? stack->own.count - 1 : stack->link_local;
        ipv6 |= !ip_address_is_ipv4(&address);
        link_local |= local;
        if (connected_add(stack, &address, local ? LINK_LOCAL_BITS : length) < 0) {
            return -EINVAL;
        }
    }
    stack->ipv6 = ipv6;
    if (!ipv6 || link_local) {
        return 0;
    }
    struct ip_address local = link_local_of(stack->port->facts.mac);
    stack->link_local = stack->own.count;
    int status = own_address_add(stack, &local, 64);
    return status < 0 ? status : connected_add(stack, &local, LINK_LOCAL_BITS);
}

bool ip_source_for_gateway(const struct stack *stack, const struct ip_address *via,
                           struct ip_address *source)
{
    if (!ip_is_on_link(stack, via) || own_find_claimed(&stack->own, via) != OWN_NONE) {
        return false;
    }
    *source = routes_find(&stack->routes, via)->source;
    /* Routers like to be called by a link-local address, but who lies behind them cannot answer
     * one. */
    for (uint32_t i = 0; ip_address_is_link_local(source) && i < stack->own.count; i++) {
        const struct own_address *own = &stack->own.list[i];
        if (!ip_address_is_ipv4(&own->address) && !ip_address_is_link_local(&own->address) &&
            own->state != OWN_DUPLICATE) {
            *source = own->address;
        }
    }
    return true;
}

static int static_add(struct stack *stack, const struct network_prefix *to,
                      const struct endpoint *via)
{
    struct route route = {.expires_ns = UINT64_MAX, .origin = ROUTE_STATIC};
    if (prefix_read(to, &route.prefix, &route.length) < 0 ||
        !ip_address_of_endpoint(&route.via, via) ||
        ip_address_is_ipv4(&route.via) != ip_address_is_ipv4(&route.prefix) ||
        !ip_source_for_gateway(stack, &route.via, &route.source)) {
        return -EINVAL;
    }
    return routes_add(&stack->routes, &route) < 0 ? -EINVAL : 0;
}

static int gateway_add(struct stack *stack, const struct endpoint *gateway)
{
    const struct network_prefix everything = {.address.family = gateway->family};
    return gateway->family == ENDPOINT_NONE ? 0 : static_add(stack, &everything, gateway);
}

int ip_setup(struct stack *stack, const struct stack_settings *settings)
{
    int status = addresses_add(stack, settings);
    status = status < 0 ? status : gateway_add(stack, &settings->gateway);
    status = status < 0 ? status : gateway_add(stack, &settings->gateway6);
    for (uint32_t i = 0; status == 0 && i < settings->route_count; i++) {
        status = static_add(stack, &settings->routes[i].to, &settings->routes[i].via);
    }
    if (stack->ipv6 && stack->mtu < IPV6_MTU_MIN) {
        return -EINVAL;
    }
    stack->mtu6 = stack->mtu;
    const struct route default_of_ipv6 = {.origin = ROUTE_STATIC};
    switch (settings->routers) {
    case STACK_ROUTERS_FOR_WANT:
        stack->router.listens = routes_same(&stack->routes, &default_of_ipv6) == NULL;
        break;
    case STACK_ROUTERS_HEARD:
        stack->router.listens = true;
        break;
    case STACK_ROUTERS_IGNORED:
        break;
    }
    return status;
}
