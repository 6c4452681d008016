#include "tests/unit/net_shards.h"
#include "engine/core/check.h"
#include "engine/net/port_deal.h"
#include "engine/shard/memory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct rte_mempool *net_shards_pools[2];
struct net_shards net_shards;
struct net_talker
    net_shards_talkers[2][2 * NET_SHARDS_TALKERS]; /* ours, the peer's; the first half we call */
static unsigned accepted_count[2];

/* ---- a port of several queues ---- */

void net_shards_put(unsigned queue, struct rte_mbuf *frame)
{
    struct net_shards_fifo *fifo = &net_shards.fifos[queue];
    check(fifo->count < NET_SHARDS_QUEUE);
    fifo->frames[(fifo->first + fifo->count++) % NET_SHARDS_QUEUE] = frame;
}

static void deal(struct rte_mbuf *frame)
{
    struct rss_tuple tuple;
    const uint8_t *bytes = rte_pktmbuf_mtod(frame, const uint8_t *);
    if (!rss_tuple_of_frame(&tuple, bytes, frame->data_len)) {
        net_shards_put(0, frame);
        return;
    }
    if (bytes[ETH_BYTES + 9] == IPPROTO_ICMP) { /* the device sees the router's address only */
        net_shards_put(net_shards.shard_count - 1, frame);
        return;
    }
    uint32_t hash = rss_hash(&net_shards.port.facts.rss, &tuple);
    uint32_t other = hash * 2654435761u >> 8;
    unsigned queue = rss_queue_of_hash(&net_shards.port.facts.rss, hash);
    frame->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
    frame->hash.rss = hash;
    switch (net_shards.hash) {
    case HASH_AGREES:
        break;
    case HASH_IS_ANOTHER:
        frame->hash.rss = other;
        queue = other % net_shards.shard_count;
        break;
    case HASH_MISDEALS:
        queue = other % net_shards.shard_count;
        break;
    case HASH_UNKNOWN:
        frame->ol_flags &= ~RTE_MBUF_F_RX_RSS_HASH;
        queue = other % net_shards.shard_count;
        break;
    }
    net_shards_put(queue, frame);
}

static uint16_t rig_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                            uint16_t count)
{
    struct port *wire = &net_shards.link.ports[0].port;
    struct rte_mbuf *arrived[32];
    struct net_shards_fifo *fifo = &net_shards.fifos[queue];
    uint16_t got;
    (void)port;
    while ((got = wire->ops->receive(wire, 0, arrived, 32)) > 0) {
        for (uint16_t i = 0; i < got; i++) {
            deal(arrived[i]);
        }
    }
    for (got = 0; got < count && fifo->count > 0; fifo->count--) {
        frames[got++] = fifo->frames[fifo->first];
        fifo->first = (fifo->first + 1) % NET_SHARDS_QUEUE;
    }
    return got;
}

static uint16_t rig_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct port *wire = &net_shards.link.ports[0].port;
    (void)port;
    (void)queue;
    return wire->ops->transmit(wire, 0, frames, count);
}

static int rig_arm(struct port *port, uint16_t queue)
{
    (void)port;
    return net_shards.fifos[queue].count > 0 ? -EAGAIN : -ENOTSUP;
}

static void rig_port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops rig_ops = {
    .receive = rig_receive, .transmit = rig_transmit, .arm = rig_arm, .close = rig_port_close};

/* ---- what goes from shard to shard ---- */

static int hand_over(void *owner, struct rte_mbuf *frame)
{
    const struct net_shard *shard = owner;
    if (net_shards.wandering_count == NET_SHARDS_WANDERING) {
        return -ENOBUFS;
    }
    net_shards.wandering[net_shards.wandering_count++] =
        (struct net_shards_wandering){shard->index, frame};
    return 0;
}

static void wander(void)
{
    for (unsigned i = 0; i < net_shards.wandering_count; i++) {
        struct net_shards_wandering *one = &net_shards.wandering[i];
        bool taken = false;
        for (unsigned step = 1; step < net_shards.shard_count && !taken; step++) {
            unsigned at = (one->origin + step) % net_shards.shard_count;
            taken = stack_frame_take(net_shards.shards[at].network, one->frame);
        }
        if (!taken) {
            stack_frame_refuse(net_shards.shards[one->origin].network, one->frame);
        }
    }
    net_shards.wandering_count = 0;
}

static int ask_neighbour(void *owner, const struct endpoint *address)
{
    (void)owner;
    stack_neighbour_wanted(net_shards.shards[0].network, address);
    return 0;
}

static void share_neighbour(void *owner, const struct endpoint *address, const uint8_t mac[6])
{
    const struct net_shard *shard = owner;
    for (unsigned i = 0; i < net_shards.shard_count; i++) {
        if (i != shard->index && net_shards.shards[i].network != NULL) {
            stack_neighbour_learn(net_shards.shards[i].network, address, mac);
        }
    }
}

/* ---- the rig ---- */

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    unsigned side = (unsigned)(uintptr_t)owner;
    (void)listener;
    /* We call with the first half, so the peer accepts those, and the other way round. */
    unsigned index = accepted_count[side]++ + (side == 0 ? NET_SHARDS_TALKERS : 0);
    check(index < 2 * NET_SHARDS_TALKERS);
    net_talker_attach(&net_shards_talkers[side][index], stream);
}

static void listen_at(struct network *network, const char *at, unsigned side)
{
    struct listen_request request = {
        .at = net_endpoint(at), .accepted = accepted, .owner = (void *)(uintptr_t)side};
    struct listener *listener;
    assert_int_equal(network->ops->listen(network, &request, &listener), 0);
}

static void open_shard(unsigned index, struct port *port)
{
    struct net_shard *shard = &net_shards.shards[index];
    struct network_prefix address;
    *shard = (struct net_shard){.rig = &net_shards, .index = index};
    shard->wheel = wheel_open(net_shards.world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.1/24")), 0);
    const struct stack_settings settings = {
        .port = port,
        .queue = (uint16_t)index,
        .shard_count = (uint16_t)net_shards.shard_count,
        .world = &net_shards.world.world,
        .wheel = shard->wheel,
        .pool = net_shards_pools[0],
        .addresses = &address,
        .address_count = 1,
        .hand_over = hand_over,
        .ask_neighbour = index > 0 ? ask_neighbour : NULL,
        .share_neighbour = share_neighbour,
        .owner = shard,
    };
    assert_int_equal(stack_open(&shard->network, &settings), 0);
    listen_at(shard->network, "10.0.0.1:25", 0);
}

static void open_peer(void)
{
    struct network_prefix address;
    net_shards.peer_wheel = wheel_open(net_shards.world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.2/24")), 0);
    const struct stack_settings settings = {.port = &net_shards.link.ports[1].port,
                                            .world = &net_shards.world.world,
                                            .wheel = net_shards.peer_wheel,
                                            .pool = net_shards_pools[1],
                                            .addresses = &address,
                                            .address_count = 1};
    assert_int_equal(stack_open(&net_shards.peer, &settings), 0);
    listen_at(net_shards.peer, "10.0.0.2:25", 1);
}

static void claim(struct rss *rss, unsigned queue_count)
{
    uint16_t table[128];
    for (unsigned i = 0; i < RTE_DIM(table); i++) {
        table[i] = (uint16_t)(i % queue_count);
    }
    rss_init(rss, (uint16_t)queue_count);
    if (queue_count > 1) {
        assert_int_equal(
            rss_claim(rss, rss_key_symmetric, RSS_KEY_BYTES_MAX, table, RTE_DIM(table)), 0);
    }
}

void net_shards_open(unsigned shard_count, enum net_shards_hash hash, bool dealt)
{
    memset(&net_shards, 0, sizeof(net_shards));
    memset(accepted_count, 0, sizeof(accepted_count));
    net_shards.hash = hash;
    net_shards.shard_count = shard_count;
    net_world_open(&net_shards.world, 5);
    net_link_open(&net_shards.link, &net_shards.world, 5, net_shards_pools[0], net_shards_pools[1]);
    net_shards.link.faults = (struct net_faults){.delay_ns = MS_NS, .lost = 20};
    net_shards.port.ops = &rig_ops;
    net_shards.port.facts = net_shards.link.ports[0].port.facts;
    net_shards.port.facts.queue_count = (uint16_t)shard_count;
    claim(&net_shards.port.facts.rss, shard_count);
    struct port *port = &net_shards.port;
    if (dealt) {
        assert_int_equal(port_deal_open(&net_shards.dealt, &net_shards.link.ports[0].port,
                                        (uint16_t)shard_count),
                         0);
        port = net_shards.dealt;
    } else if (hash == HASH_UNKNOWN) {
        net_shards.port.facts.rss.mode = RSS_UNKNOWN;
    }
    for (unsigned i = 0; i < shard_count; i++) {
        open_shard(i, port);
    }
    open_peer();
}

static void round_of(struct network *network, struct wheel *wheel)
{
    network->ops->poll(network, net_shards.world.now_ns);
    wheel_run(wheel, net_shards.world.now_ns);
    network->ops->flush(network, net_shards.world.now_ns);
}

void net_shards_run(uint64_t for_ns)
{
    for (uint64_t until_ns = net_shards.world.now_ns + for_ns;
         net_shards.world.now_ns < until_ns;) {
        net_shards.world.now_ns += 100000;
        net_link_run(&net_shards.link);
        for (unsigned i = 0; i < net_shards.shard_count; i++) {
            round_of(net_shards.shards[i].network, net_shards.shards[i].wheel);
        }
        wander();
        round_of(net_shards.peer, net_shards.peer_wheel);
    }
}

void net_shards_close(void)
{
    for (unsigned i = 0; i < net_shards.shard_count; i++) {
        net_shards.shards[i].network->ops->close(net_shards.shards[i].network);
        wheel_close(net_shards.shards[i].wheel);
    }
    net_shards.peer->ops->close(net_shards.peer);
    wheel_close(net_shards.peer_wheel);
    if (net_shards.dealt != NULL) {
        net_shards.dealt->ops->close(net_shards.dealt);
    }
    for (unsigned i = 0; i < net_shards.shard_count; i++) {
        for (; net_shards.fifos[i].count > 0; net_shards.fifos[i].count--) {
            rte_pktmbuf_free(net_shards.fifos[i].frames[net_shards.fifos[i].first]);
            net_shards.fifos[i].first = (net_shards.fifos[i].first + 1) % NET_SHARDS_QUEUE;
        }
    }
    net_link_close(&net_shards.link);
    assert_true(rte_mempool_full(net_shards_pools[0]));
    assert_true(rte_mempool_full(net_shards_pools[1]));
}

uint64_t net_shards_sum(size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < net_shards.shard_count; i++) {
        uint64_t value;
        memcpy(&value, (const uint8_t *)stack_counters(net_shards.shards[i].network) + offset,
               sizeof(value));
        sum += value;
    }
    return sum;
}

struct stream *net_shards_call(struct network *network, const char *to)
{
    struct connect_request request = {.to = net_endpoint(to)};
    struct stream *stream;
    assert_int_equal(network->ops->connect(network, &request, &stream), 0);
    return stream;
}

void net_shards_converse(void)
{
    for (unsigned i = 0; i < 2 * NET_SHARDS_TALKERS; i++) {
        net_talker_open(&net_shards_talkers[0][i], &net_shards.world, 7, 0, 50000, 50000);
        net_talker_open(&net_shards_talkers[1][i], &net_shards.world, 7, 1, 50000, 50000);
    }
    for (unsigned i = 0; i < NET_SHARDS_TALKERS; i++) {
        struct network *ours = net_shards.shards[i % net_shards.shard_count].network;
        net_talker_attach(&net_shards_talkers[0][i], net_shards_call(ours, "10.0.0.2:25"));
        net_talker_attach(&net_shards_talkers[1][NET_SHARDS_TALKERS + i],
                          net_shards_call(net_shards.peer, "10.0.0.1:25"));
        net_shards_run(MS_NS);
    }
}

void net_shards_all_said(void)
{
    for (unsigned i = 0; i < 2 * NET_SHARDS_TALKERS; i++) {
        for (unsigned side = 0; side < 2; side++) {
            assert_false(net_shards_talkers[side][i].wrong);
            assert_int_equal(net_shards_talkers[side][i].error, 0);
            assert_true(net_talker_done(&net_shards_talkers[side][i]));
        }
    }
}

int net_shards_set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 512};
    (void)state;
    return memory_start(&settings) < 0 || net_pools_open(net_shards_pools, 16383) < 0 ? -1 : 0;
}

int net_shards_tear_down(void **state)
{
    (void)state;
    memory_pool_close(net_shards_pools[0]);
    memory_pool_close(net_shards_pools[1]);
    memory_stop();
    return 0;
}
