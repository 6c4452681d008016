/* Two hosts of several shards each over real devices, DPDK's net_ring, whose other ends are joined by a
 * switch that deals frames to the queues as a card does. */
#include "engine/core/check.h"
#include "engine/net/port_dpdk.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <rte_eth_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#define SHARDS_MAX 4u
#define CALLS 16u /* of each host */
#define SAID_BYTES 20000u
#define RING_FRAMES 1024u
#define WANDERING_MAX 1024u
#define TABLE_COUNT 128u

enum hash {
    HASH_AGREES,
    HASH_LIES, /* frames come by the ring behind the one that their hash names */
};

struct shard {
    unsigned side, index;
    struct network *network;
    struct wheel *wheel;
};

struct wandering {
    struct shard *origin;
    struct rte_mbuf *frame;
};

struct host {
    struct port *port;
    struct rte_ring *arriving[SHARDS_MAX], *leaving[SHARDS_MAX];
    struct shard shards[SHARDS_MAX];
    struct wandering wandering[WANDERING_MAX];
    unsigned wandering_count, accepted_count;
    struct net_talker talkers[2 * CALLS]; /* the first half calls */
};

static struct rte_mempool *pools[2];
static struct net_world world;
static struct host hosts[2];
static unsigned shard_count;
static enum hash hash;

/* ---- what goes from shard to shard ---- */

static int hand_over(void *owner, struct rte_mbuf *frame)
{
    struct shard *shard = owner;
    struct host *host = &hosts[shard->side];
    if (host->wandering_count == WANDERING_MAX) {
        return -ENOBUFS;
    }
    host->wandering[host->wandering_count++] = (struct wandering){shard, frame};
    return 0;
}

static void wander(struct host *host)
{
    for (unsigned i = 0; i < host->wandering_count; i++) {
        const struct wandering *one = &host->wandering[i];
        bool taken = false;
        for (unsigned step = 1; step < shard_count && !taken; step++) {
            unsigned at = (one->origin->index + step) % shard_count;
            taken = stack_frame_take(host->shards[at].network, one->frame);
        }
        if (!taken) {
            stack_frame_refuse(one->origin->network, one->frame);
        }
    }
    host->wandering_count = 0;
}

static int ask_neighbour(void *owner, const struct endpoint *address)
{
    const struct shard *shard = owner;
    stack_neighbour_wanted(hosts[shard->side].shards[0].network, address);
    return 0;
}

static void share_neighbour(void *owner, const struct endpoint *address, const uint8_t mac[6])
{
    const struct shard *shard = owner;
    for (unsigned i = 0; i < shard_count; i++) {
        struct network *other = hosts[shard->side].shards[i].network;
        if (i != shard->index && other != NULL) {
            stack_neighbour_learn(other, address, mac);
        }
    }
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct shard *shard = owner;
    struct host *host = &hosts[shard->side];
    (void)listener;
    check(host->accepted_count < CALLS);
    net_talker_attach(&host->talkers[CALLS + host->accepted_count++], stream);
}

/* ---- the hosts ---- */

static struct rte_ring *ring_open(unsigned side, const char *kind, unsigned queue)
{
    char name[RTE_RING_NAMESIZE];
    (void)snprintf(name, sizeof(name), "%s-%u-%u", kind, side, queue);
    struct rte_ring *ring =
        rte_ring_create(name, RING_FRAMES, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    assert_non_null(ring);
    return ring;
}

/* net_ring has no hash to tell of: the switch's is claimed for it. */
static void claim(struct rss *rss)
{
    uint16_t table[TABLE_COUNT];
    for (unsigned i = 0; i < TABLE_COUNT; i++) {
        table[i] = (uint16_t)(i % shard_count);
    }
    assert_int_equal(rss_claim(rss, rss_key_symmetric, RSS_KEY_BYTES_MAX, table, TABLE_COUNT), 0);
}

static void open_port(unsigned side)
{
    static unsigned serial;
    char name[32], device[64];
    struct host *host = &hosts[side];
    struct rte_mempool *queue_pools[SHARDS_MAX];
    for (unsigned i = 0; i < shard_count; i++) {
        host->arriving[i] = ring_open(side, "arriving", i);
        host->leaving[i] = ring_open(side, "leaving", i);
        queue_pools[i] = pools[side];
    }
    (void)snprintf(name, sizeof(name), "host%u", serial++);
    (void)snprintf(device, sizeof(device), "net_ring_%s", name);
    assert_true(
        rte_eth_from_rings(name, host->arriving, shard_count, host->leaving, shard_count, 0) >= 0);
    const struct port_dpdk_settings settings = {
        .name = device, .queues_wanted = (uint16_t)shard_count, .pools = queue_pools};
    assert_int_equal(port_dpdk_open(&host->port, &settings), 0);
    assert_int_equal(host->port->facts.queue_count, shard_count);
    host->port->facts.mac[5] = (uint8_t)(side + 1); /* all devices of this kind have the same */
    claim(&host->port->facts.rss);
}

static void open_shard(unsigned side, unsigned index)
{
    struct host *host = &hosts[side];
    struct shard *shard = &host->shards[index];
    struct network_prefix address;
    struct listener *listener;
    *shard = (struct shard){.side = side, .index = index, .wheel = wheel_open(world.now_ns)};
    assert_int_equal(
        network_prefix_parse(&address, slice_text(side == 0 ? "10.0.0.1/24" : "10.0.0.2/24")), 0);
    const struct stack_settings settings = {
        .port = host->port,
        .queue = (uint16_t)index,
        .shard_count = (uint16_t)shard_count,
        .world = &world.world,
        .wheel = shard->wheel,
        .pool = pools[side],
        .addresses = &address,
        .address_count = 1,
        .hand_over = hand_over,
        .ask_neighbour = index > 0 ? ask_neighbour : NULL,
        .share_neighbour = share_neighbour,
        .owner = shard,
    };
    assert_int_equal(stack_open(&shard->network, &settings), 0);
    const struct listen_request request = {
        .at = net_endpoint(side == 0 ? "10.0.0.1:25" : "10.0.0.2:25"),
        .accepted = accepted,
        .owner = shard};
    assert_int_equal(shard->network->ops->listen(shard->network, &request, &listener), 0);
}

static void open_hosts(void)
{
    memset(hosts, 0, sizeof(hosts));
    net_world_open(&world, 7);
    for (unsigned side = 0; side < 2; side++) {
        open_port(side);
        for (unsigned i = 0; i < shard_count; i++) {
            open_shard(side, i);
        }
    }
}

static void ring_close(struct rte_ring *ring)
{
    void *frame;
    while (rte_ring_dequeue(ring, &frame) == 0) {
        rte_pktmbuf_free(frame);
    }
    rte_ring_free(ring);
}

static void close_hosts(void)
{
    for (unsigned side = 0; side < 2; side++) {
        struct host *host = &hosts[side];
        for (unsigned i = 0; i < shard_count; i++) {
            host->shards[i].network->ops->close(host->shards[i].network);
            wheel_close(host->shards[i].wheel);
        }
        host->port->ops->close(host->port);
        for (unsigned i = 0; i < shard_count; i++) {
            ring_close(host->arriving[i]);
            ring_close(host->leaving[i]);
        }
    }
    assert_true(rte_mempool_full(pools[0]));
    assert_true(rte_mempool_full(pools[1]));
}

/* ---- the switch ---- */

static void deal(struct host *to, struct rte_mbuf *frame)
{
    const struct rss *rss = &to->port->facts.rss;
    struct rss_tuple tuple;
    unsigned queue = 0;
    if (rss_tuple_of_frame(&tuple, rte_pktmbuf_mtod(frame, const uint8_t *), frame->data_len)) {
        frame->hash.rss = rss_hash(rss, &tuple);
        frame->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
        queue = rss_queue_of_hash(rss, frame->hash.rss);
        queue = hash == HASH_LIES ? (queue + 1) % shard_count : queue;
    }
    if (rte_ring_enqueue(to->arriving[queue], frame) != 0) {
        rte_pktmbuf_free(frame);
    }
}

/* As by DMA: a host's buffers do not go to the other. */
static void carry(unsigned from)
{
    void *frame;
    for (unsigned i = 0; i < shard_count; i++) {
        while (rte_ring_dequeue(hosts[from].leaving[i], &frame) == 0) {
            struct rte_mbuf *copy = rte_pktmbuf_copy(frame, pools[1 - from], 0, UINT32_MAX);
            rte_pktmbuf_free(frame);
            if (copy != NULL) {
                deal(&hosts[1 - from], copy);
            }
        }
    }
}

static void run(uint64_t for_ns)
{
    for (uint64_t until_ns = world.now_ns + for_ns; world.now_ns < until_ns;) {
        world.now_ns += MS_NS / 2;
        for (unsigned side = 0; side < 2; side++) {
            carry(1 - side);
            for (unsigned i = 0; i < shard_count; i++) {
                struct network *network = hosts[side].shards[i].network;
                network->ops->poll(network, world.now_ns);
                wheel_run(hosts[side].shards[i].wheel, world.now_ns);
                network->ops->flush(network, world.now_ns);
            }
            wander(&hosts[side]);
        }
    }
}

/* ---- */

static void converse(void)
{
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < 2 * CALLS; i++) {
            net_talker_open(&hosts[side].talkers[i], &world, 7, side, SAID_BYTES, SAID_BYTES);
        }
    }
    for (unsigned i = 0; i < 2 * CALLS; i++) {
        struct host *host = &hosts[i % 2];
        struct network *network = host->shards[i / 2 % shard_count].network;
        const struct connect_request request = {
            .to = net_endpoint(i % 2 == 0 ? "10.0.0.2:25" : "10.0.0.1:25")};
        struct stream *stream;
        assert_int_equal(network->ops->connect(network, &request, &stream), 0);
        net_talker_attach(&host->talkers[i / 2], stream);
        run(MS_NS);
    }
    run(10 * SECOND_NS);
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < 2 * CALLS; i++) {
            const struct net_talker *talker = &hosts[side].talkers[i];
            assert_false(talker->wrong);
            assert_int_equal(talker->error, 0);
            assert_true(net_talker_done(talker));
        }
    }
}

static void over_net_ring_every_connection_finds_its_shard(void **state)
{
    (void)state;
    for (shard_count = 1; shard_count <= SHARDS_MAX; shard_count *= 2) {
        for (hash = HASH_AGREES; hash <= HASH_LIES; hash++) {
            open_hosts();
            converse();
            for (unsigned side = 0; side < 2; side++) {
                uint64_t handed_over = 0, taken_over = 0;
                for (unsigned i = 0; i < shard_count; i++) {
                    struct network *network = hosts[side].shards[i].network;
                    const struct stack_counters *counters = stack_counters(network);
                    handed_over += counters->tcp_handed_over;
                    taken_over += counters->tcp_taken_over;
                    assert_int_equal(counters->tcp_out_resets, 0);
                    assert_true(counters->tcp_passive_opens > 0); /* all of them work */
                    assert_int_equal(stack_of(network)->rss.mode,
                                     hash == HASH_LIES && shard_count > 1 ? RSS_UNKNOWN
                                                                          : RSS_PROVEN);
                }
                assert_int_equal(handed_over > 0, hash == HASH_LIES && shard_count > 1);
                assert_int_equal(handed_over, taken_over);
            }
            close_hosts();
        }
    }
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 512};
    (void)state;
    return memory_start(&settings) < 0 || net_pools_open(pools, 8191) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pools[0]);
    memory_pool_close(pools[1]);
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_net_ring_every_connection_finds_its_shard),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
