#include "engine/net/mld.h"
#include "engine/net/nd.h"
#include "engine/net/stack_private.h"
#include <stdio.h>

#define BATCH 16u /* addresses at once, so that hundreds do not flood the link */
#define BATCH_NS (10 * MS_NS)
#define BEGIN_NS_MAX SECOND_NS /* RFC 4862 §5.4.2 */
#define ANSWER_NS SECOND_NS    /* RetransTimer, and one probe: §5.1 */

/* Addresses that are known to be ours alone: told to everybody. */
static void announce(struct stack *stack, const struct own_address *own)
{
    if (stack->queue != 0 || own->state != OWN_PREFERRED) {
        return;
    }
    if (ip_address_is_ipv4(&own->address)) {
        neighbour_announce(stack, &own->address);
    } else {
        mld_report(stack, &own->address);
        nd_announce(stack, &own->address);
    }
}

static void announce_batch(struct stack *stack)
{
    struct nd_claim *claim = &stack->claim;
    for (unsigned i = 0; i < BATCH && claim->announced < stack->own.count; i++) {
        announce(stack, &stack->own.list[claim->announced++]);
    }
}

/* The listener report comes first, so that switches let the answers through (RFC 4862 §5.4.2). */
static void ask_batch(struct stack *stack)
{
    struct nd_claim *claim = &stack->claim;
    for (unsigned i = 0; i < BATCH && claim->asked < stack->own.count; i++) {
        struct own_address *own = &stack->own.list[claim->asked++];
        own->asked_ns = stack->now_ns;
        if (own->state == OWN_TENTATIVE && stack->queue == 0) {
            mld_report(stack, &own->address);
            nd_probe(stack, &own->address);
        }
    }
}

static void settle(struct stack *stack)
{
    struct nd_claim *claim = &stack->claim;
    while (claim->settled < claim->asked) {
        struct own_address *own = &stack->own.list[claim->settled];
        if (own->state == OWN_TENTATIVE) {
            if (stack->now_ns - own->asked_ns < ANSWER_NS) {
                return;
            }
            own_set_state(&stack->own, claim->settled, OWN_PREFERRED);
            announce(stack, own);
        }
        claim->settled++;
    }
}

static uint64_t next_ns(const struct stack *stack)
{
    const struct nd_claim *claim = &stack->claim;
    uint64_t soon_ns = stack->now_ns + BATCH_NS;
    if (claim->announced < stack->own.count) {
        return soon_ns;
    }
    if (claim->asked < stack->own.count) {
        return claim->begin_ns > soon_ns ? claim->begin_ns : soon_ns;
    }
    return stack->own.list[claim->settled].asked_ns + ANSWER_NS;
}

static void advance(struct stack *stack)
{
    struct nd_claim *claim = &stack->claim;
    announce_batch(stack);
    if (stack->now_ns >= claim->begin_ns) {
        ask_batch(stack);
        settle(stack);
    }
    if (claim->announced < stack->own.count || claim->settled < stack->own.count) {
        wheel_arm(stack->wheel, &claim->timer, next_ns(stack));
    } else {
        nd_router_begin(stack);
    }
}

static void fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, claim.timer);
    stack->now_ns = now_ns;
    advance(stack);
}

void nd_claim_open(struct stack *stack)
{
    struct nd_claim *claim = &stack->claim;
    uint32_t random;
    timer_init(&claim->timer, fire);
    claim->begin_ns = stack->now_ns;
    if (stack->own.tentative_count > 0) {
        /* Shards that do not ask themselves hear the answers of those who are asked as late as can
         * be. */
        world_random(stack->world, &random, sizeof(random));
        claim->begin_ns += stack->queue == 0 ? random % BEGIN_NS_MAX : BEGIN_NS_MAX;
    }
    advance(stack);
}

void nd_claim_close(struct stack *stack)
{
    wheel_disarm(stack->wheel, &stack->claim.timer);
}

/* What came from the lost address by default comes from another one of ours. */
static void sources_replace(struct stack *stack, const struct ip_address *lost)
{
    for (uint32_t r = 0; r < stack->routes.count; r++) {
        struct route *route = &stack->routes.list[r];
        if (!ip_address_equal(&route->source, lost)) {
            continue;
        }
        bool local = ip_address_is_link_local(lost);
        for (uint32_t i = 0; i < stack->own.count; i++) {
            const struct own_address *own = &stack->own.list[i];
            if (own->state != OWN_DUPLICATE && !ip_address_is_ipv4(&own->address) &&
                ip_address_is_link_local(&own->address) == local) {
                route->source = own->address;
                break;
            }
        }
    }
}

void nd_claim_contested(struct stack *stack, uint32_t own_index, const uint8_t mac[6])
{
    struct own_address *own = &stack->own.list[own_index];
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint endpoint;
    stack->counters.nd_conflicts++;
    if (own->state != OWN_TENTATIVE) {
        return;
    }
    own_set_state(&stack->own, own_index, OWN_DUPLICATE);
    sources_replace(stack, &own->address);
    endpoint_of_ip_address(&endpoint, &own->address, 0);
    endpoint_format_address(&endpoint, text);
    if (stack->logger != NULL) {
        logger_line(stack->logger, LOGGER_ERROR,
                    "%s is not used: %02x:%02x:%02x:%02x:%02x:%02x has it already", text, mac[0],
                    mac[1], mac[2], mac[3], mac[4], mac[5]);
    }
}
