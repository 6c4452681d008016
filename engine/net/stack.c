#include "engine/net/icmp6.h"
#include "engine/net/stack_private.h"
#include "engine/net/vlan.h"
#include "engine/shard/memory.h"
#include <rte_eal.h>
#include <stdatomic.h>

#define CONTROL_MBUFS 2048u
#define SEGMENT_MBUFS_MIN 2048u
#define MTU_MIN 576u /* RFC 791: what every host must take */
#define ROUND_BURSTS 4u
#define WINDOW_BYTES_MAX (4u << 20)
#define WINDOW_MBUF_BYTES 1448u /* of payload that a buffer holds */

static void default_count(uint32_t *limit, uint32_t value)
{
    *limit = *limit == 0 ? value : *limit;
}

static void default_ns(uint64_t *limit, uint64_t value)
{
    *limit = *limit == 0 ? value : *limit;
}

/* Enough for 350 Mbit/s over 100 ms, and never so much that one connection holds all buffers. */
static uint32_t window_default(const struct stack_limits *limits)
{
    uint64_t quarter = (uint64_t)limits->held_mbuf_max / 4 * WINDOW_MBUF_BYTES;
    quarter = quarter > UINT16_MAX ? quarter : UINT16_MAX;
    return quarter < WINDOW_BYTES_MAX ? (uint32_t)quarter : WINDOW_BYTES_MAX;
}

/* Of what a shard may have, in equal parts where it has several stacks. */
static void limits_fill(struct stack_limits *limits, uint32_t buffers, uint32_t stacks)
{
    default_count(&limits->connection_max, 65536 / stacks);
    default_count(&limits->half_open_max, 8192 / stacks);
    default_count(&limits->time_wait_max, 65536 / stacks);
    default_count(&limits->orphan_max, 4096 / stacks);
    default_count(&limits->listener_max, 64);
    default_count(&limits->held_mbuf_max, buffers / 2);
    default_count(&limits->receive_window_bytes, window_default(limits));
    default_count(&limits->keepalive_probes, 4);
    default_ns(&limits->user_timeout_ns, 300 * SECOND_NS);
    default_ns(&limits->linger_ns, 60 * SECOND_NS);
    default_ns(&limits->fin_wait_2_ns, 60 * SECOND_NS);
    default_ns(&limits->time_wait_ns, 60 * SECOND_NS);
    default_ns(&limits->keepalive_idle_ns, 120 * SECOND_NS);
    default_ns(&limits->keepalive_interval_ns, 30 * SECOND_NS);
    limits->port_first = limits->port_first == 0 ? 32768 : limits->port_first;
    limits->port_last = limits->port_last == 0 ? 60999 : limits->port_last;
}

static int settings_fill(struct stack *stack, const struct stack_settings *settings)
{
    const struct port_facts *facts = &settings->port->facts;
    stack->port = settings->port;
    stack->exception.port = settings->exception;
    stack->queue = settings->queue;
    stack->shard_count = settings->shard_count == 0 ? 1 : settings->shard_count;
    stack->mtu = settings->mtu == 0 || settings->mtu > facts->mtu ? facts->mtu : settings->mtu;
    stack->ecn = settings->ecn;
    stack->world = settings->world;
    stack->wheel = settings->wheel;
    stack->logger = settings->logger;
    stack->pool = settings->pool;
    stack->limits = settings->limits;
    stack->hand_over = settings->hand_over;
    stack->ask_neighbour = settings->ask_neighbour;
    stack->share_neighbour = settings->share_neighbour;
    stack->owner = settings->owner;
    stack->rss = facts->rss;
    stack->vlan = settings->vlan;
    stack->skips_dad = settings->skips_dad;
    world_random(settings->world, &stack->flow_key, sizeof(stack->flow_key));
    stack->now_ns = world_now_ns(settings->world);
    stack->iova_is_address = rte_eal_iova_mode() == RTE_IOVA_VA;
    uint32_t stacks = settings->pool_share == 0 ? 1 : settings->pool_share;
    stack->buffers = settings->pool->size / stacks;
    limits_fill(&stack->limits, stack->buffers, stacks);
    if (stack->mtu < MTU_MIN || stack->vlan > VLAN_MAX ||
        stack->limits.port_first > stack->limits.port_last ||
        stack->limits.receive_window_bytes > (uint32_t)UINT16_MAX << 14) {
        return -EINVAL;
    }
    return ip_setup(stack, settings);
}

static int pools_open(struct stack *stack)
{
    static atomic_uint serial; /* mempools are named, and names are the process's */
    unsigned number = atomic_fetch_add(&serial, 1);
    char name[RTE_MEMPOOL_NAMESIZE];
    uint32_t segments = stack->buffers / 2;
    segments = segments > SEGMENT_MBUFS_MIN ? segments : SEGMENT_MBUFS_MIN;
    snprintf(name, sizeof(name), "control%u", number);
    stack->control = memory_pool_open(name, CONTROL_MBUFS, STACK_CONTROL_BYTES);
    snprintf(name, sizeof(name), "segments%u", number);
    stack->segments = memory_pool_open(name, segments, STACK_CONTROL_BYTES);
    return stack->control == NULL || stack->segments == NULL ? -ENOMEM : 0;
}

/* A port may still hold frames; then the pool stays until the EAL ends. */
static void pool_close(struct rte_mempool *pool)
{
    if (pool != NULL && rte_mempool_full(pool)) {
        memory_pool_close(pool);
    }
}

static void stack_close(struct network *network)
{
    struct stack *stack = stack_of(network);
    udp_close_all(stack);
    tcp_close_all(stack);
    trace_close(&stack->trace);
    neighbours_close(stack);
    reassembly_close(stack);
    nd_claim_close(stack);
    nd_router_close(stack);
    mld_close(stack);
    exception_close(stack);
    while (stack->leaving_count > 0) {
        rte_pktmbuf_free(stack->leaving[--stack->leaving_count]);
    }
    pool_close(stack->control);
    pool_close(stack->segments);
    free(stack);
}

static unsigned stack_poll(struct network *network, uint64_t now_ns)
{
    struct stack *stack = stack_of(network);
    unsigned work = 0;
    stack->now_ns = now_ns;
    for (unsigned i = 0; i < ROUND_BURSTS; i++) {
        unsigned got = eth_receive(stack);
        work += got;
        if (got < STACK_BURST) {
            break;
        }
    }
    work += exception_poll(stack);
    tcp_hungry_feed(stack);
    return work + tcp_deliver(stack) + udp_deliver(stack);
}

static void stack_flush(struct network *network, uint64_t now_ns)
{
    struct stack *stack = stack_of(network);
    struct list_node round, *node;
    stack->now_ns = now_ns;
    list_init(&round);
    list_splice(&round, &stack->tcp.output);
    while ((node = list_pop(&round)) != NULL) {
        tcp_output(list_entry(node, struct tcp_conn, output));
    }
    tcp_doomed_free(stack);
    eth_flush(stack);
    exception_flush(stack);
}

static int stack_arm(struct network *network)
{
    struct stack *stack = stack_of(network);
    if (!list_empty(&stack->tcp.ready) || !list_empty(&stack->udp.ready) ||
        !list_empty(&stack->tcp.output) || stack->leaving_count > 0 ||
        stack->exception.leaving_count > 0) {
        return -EAGAIN;
    }
    return stack->port->ops->arm(stack->port, stack->queue);
}

int stack_arm_exception(struct network *network)
{
    const struct stack *stack = stack_of(network);
    struct port *port = stack->exception.port;
    return port == NULL ? -EINVAL : port->ops->arm(port, stack->queue);
}

static const struct network_ops stack_ops = {.listen = tcp_listen,
                                             .unlisten = tcp_unlisten,
                                             .connect = tcp_connect,
                                             .poll = stack_poll,
                                             .flush = stack_flush,
                                             .arm = stack_arm,
                                             .close = stack_close};

int stack_open(struct network **network, const struct stack_settings *settings)
{
    struct stack *stack = calloc(1, sizeof(*stack));
    if (stack == NULL) {
        return -ENOMEM;
    }
    stack->network = (struct network){.ops = &stack_ops, .transport = "dpdk"};
    int status = settings_fill(stack, settings);
    if (status < 0) {
        free(stack);
        return status;
    }
    udp_setup(stack);
    status = tcp_setup(stack);
    status = status < 0 ? status : trace_open(&stack->trace);
    status = status < 0 ? status : pools_open(stack);
    status = status < 0 ? status : neighbours_open(stack);
    status = status < 0 ? status : reassembly_open(stack);
    if (status < 0) {
        stack_close(&stack->network);
        return status;
    }
    nd_router_open(stack);
    mld_open(stack);
    nd_claim_open(stack);
    eth_flush(stack);
    *network = &stack->network;
    return 0;
}

/* An ICMP error, which another shard has looked at before. */
static bool quote_of(const struct rte_mbuf *frame, struct tcp_quote *quote)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES);
    if (ip[0] >> 4 == 4) {
        return ip[9] == IPPROTO_ICMP && icmp_quote_read(frame, quote);
    }
    return ip[6] == IPPROTO_ICMPV6 && icmp6_quote_read(frame, quote);
}

bool stack_frame_take(struct network *network, struct rte_mbuf *frame)
{
    struct stack *stack = stack_of(network);
    struct tcp_segment segment;
    struct tcp_quote quote;
    if (udp_is_datagram(frame)) {
        return udp_input(stack, frame, false);
    }
    if (quote_of(frame, &quote)) {
        bool taken = tcp_quote_take(stack, &quote);
        rte_pktmbuf_free(taken ? frame : NULL);
        return taken;
    }
    if (!tcp_segment_read(stack, &segment, frame, ETH_BYTES) || !tcp_knows(stack, &segment)) {
        return false;
    }
    stack->counters.tcp_taken_over++;
    tcp_input(stack, &segment);
    return true;
}

void stack_frame_refuse(struct network *network, struct rte_mbuf *frame)
{
    struct stack *stack = stack_of(network);
    struct tcp_segment segment;
    struct tcp_quote quote;
    if (udp_is_datagram(frame)) { /* with a bound of its own */
        if (!exception_give(stack, frame)) {
            udp_refuse(stack, frame);
            rte_pktmbuf_free(frame);
        }
        return;
    }
    tcp_elsewhere_refused(stack);
    if (quote_of(frame, &quote)) {
        if (exception_give(stack, frame)) {
            return;
        }
        stack->counters.icmp_in_errors++;
    } else if (tcp_segment_read(stack, &segment, frame, ETH_BYTES)) {
        tcp_refuse(stack, &segment);
        frame = segment.frame;
    }
    rte_pktmbuf_free(frame);
}

void stack_neighbour_wanted(struct network *network, const struct endpoint *address)
{
    struct stack *stack = stack_of(network);
    struct ip_address ip;
    if (ip_address_of_endpoint(&ip, address)) {
        neighbour_wanted(stack, &ip);
    }
}

void stack_neighbour_learn(struct network *network, const struct endpoint *address,
                           const uint8_t mac[6])
{
    struct stack *stack = stack_of(network);
    struct ip_address ip;
    if (ip_address_of_endpoint(&ip, address)) {
        neighbour_learn(stack, &ip, mac);
    }
}

void stack_siblings_set(struct network *network, struct network *const *stacks, unsigned count)
{
    stack_of(network)->siblings = (struct siblings){.stacks = stacks, .count = count};
}

bool stack_has_address(const struct network *network, const struct endpoint *address)
{
    struct ip_address ip;
    return ip_address_of_endpoint(&ip, address) &&
           own_find(&stack_of(network)->own, &ip) != OWN_NONE;
}

int stack_route_rank(const struct network *network, const struct endpoint *to)
{
    const struct stack *stack = stack_of(network);
    struct ip_address ip;
    struct ip_way way;
    if (!ip_address_of_endpoint(&ip, to) || ip_route(stack, &ip, &way) < 0) {
        return -ENETUNREACH;
    }
    const struct route *route = routes_find(&stack->routes, &ip);
    return route->length * (ROUTE_ADVERTISED + 1) + ROUTE_ADVERTISED - route->origin;
}

const struct stack_counters *stack_counters(const struct network *network)
{
    return &stack_of(network)->counters;
}
