#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* A port that cuts segments itself: the same bytes on the wire, in the same segments, with less work. */

#define SECOND 1000000000ull
#define BYTES 3000000u
#define VLAN 42

static struct rte_mempool *pools[2];

struct transfer {
    struct net_pair pair;
    struct net_talker talkers[2];
    uint32_t frames, full; /* with payload; of the largest size */
    uint32_t largest;
    uint32_t pushed;       /* with PSH */
    uint32_t seen, tagged; /* frames of any kind */
};

static struct transfer transfer;

static bool watch(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    const uint8_t *type = frame + 12;
    (void)owner;
    transfer.tagged += type[0] == 0x81 && type[1] == 0 && type[3] == VLAN;
    if (type[0] == 0x81) {
        type += 4;
        size -= 4;
    }
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(type + 2);
    transfer.seen++;
    if (side != 0 || type[0] != 8 || type[1] != 0) {
        return true;
    }
    const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(ip + 1);
    uint32_t payload = size - ETH_BYTES - IPV4_BYTES - tcp->data_off / 16u * 4u;
    assert_int_equal(ntohs(ip->total_length), size - ETH_BYTES);
    transfer.frames += payload > 0;
    transfer.full += payload == 1448;
    transfer.pushed += (tcp->tcp_flags & TCP_PSH) != 0;
    transfer.largest = size > transfer.largest ? size : transfer.largest;
    return true;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    net_talker_attach(&transfer.talkers[1], stream);
}

static void transfer_run(const struct net_pair_settings *settings)
{
    struct listener *listener;
    struct stream *stream;
    memset(&transfer, 0, sizeof(transfer));
    net_pair_open(&transfer.pair, settings, pools);
    transfer.pair.link.ports[0].filter = watch;
    struct network *client = transfer.pair.hosts[0].network;
    struct network *server = transfer.pair.hosts[1].network;
    const struct listen_request listen = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    const struct connect_request connect = {.to = net_endpoint("10.0.0.2:25")};
    assert_int_equal(server->ops->listen(server, &listen, &listener), 0);
    net_talker_open(&transfer.talkers[0], &transfer.pair.world, 9, 0, BYTES, 1000);
    net_talker_open(&transfer.talkers[1], &transfer.pair.world, 9, 1, 1000, BYTES);
    assert_int_equal(client->ops->connect(client, &connect, &stream), 0);
    net_talker_attach(&transfer.talkers[0], stream);
    uint64_t until_ns = transfer.pair.world.now_ns + 300 * SECOND;
    while (transfer.pair.world.now_ns < until_ns &&
           !(net_talker_done(&transfer.talkers[0]) && net_talker_done(&transfer.talkers[1]))) {
        net_pair_step(&transfer.pair, until_ns);
    }
    assert_true(net_talker_done(&transfer.talkers[0]) && net_talker_done(&transfer.talkers[1]));
    assert_false(transfer.talkers[0].wrong || transfer.talkers[1].wrong);
}

static void transfer_close(void)
{
    net_pair_run(&transfer.pair, 200 * SECOND);
    net_pair_close(&transfer.pair);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), 0);
}

static const struct stack_counters *counters(void)
{
    return stack_counters(transfer.pair.hosts[0].network);
}

static void segments_on_the_wire_are_those_of_a_port_without_it(void **state)
{
    (void)state;
    struct net_pair_settings settings = {
        .seed = 1, .faults = {.delay_ns = 5000000}, .tx_segments = {true, true}};
    transfer_run(&settings);
    uint32_t full = transfer.full;
    assert_int_equal(counters()->tcp_out_supers, 0);
    assert_int_equal(transfer.largest, 1514);
    transfer_close();
    settings.tso[0] = true;
    transfer_run(&settings);
    assert_int_equal(transfer.largest, 1514);
    assert_true(counters()->tcp_out_supers > 0);
    assert_true(counters()->frames_out < counters()->tcp_out_segments / 2);
    assert_in_range(transfer.full, full * 9 / 10, full * 11 / 10);
    assert_true(transfer.full > transfer.frames * 9 / 10); /* hardly any that is not full */
    assert_int_equal(counters()->tcp_in_errors, 0);
    assert_int_equal(stack_counters(transfer.pair.hosts[1].network)->tcp_in_errors, 0);
    transfer_close();
}

static void segments_that_are_counted_are_those_on_the_wire(void **state)
{
    (void)state;
    const struct net_pair_settings settings = {.seed = 2,
                                               .faults = {.delay_ns = 5000000},
                                               .tx_segments = {true, true},
                                               .tso = {true, false}};
    transfer_run(&settings);
    uint64_t empty =
        counters()->tcp_out_segments - transfer.frames; /* SYN, acknowledgements, FIN */
    assert_in_range(empty, 0, 200);
    transfer_close();
}

static void bytes_are_exact_over_a_bad_wire(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        const struct net_pair_settings settings = {.seed = seed,
                                                   .faults = {.lost = 200,
                                                              .reordered = 300,
                                                              .repeated = 100,
                                                              .corrupted = 100,
                                                              .delay_ns = 2000000,
                                                              .reorder_ns = 3000000,
                                                              .dma_ns = 100000},
                                                   .tx_segments = {true, true},
                                                   .tso = {true, true},
                                                   .vlan = seed % 2 == 0 ? VLAN : 0};
        transfer_run(&settings);
        assert_true(counters()->tcp_out_supers > 0);
        transfer_close();
    }
}

/* The device must find the headers behind the tag: IEEE 802.1Q, and l2_len. */
static void behind_a_tag_the_segments_are_the_same(void **state)
{
    (void)state;
    struct net_pair_settings settings = {.seed = 1,
                                         .faults = {.delay_ns = 5000000},
                                         .tx_segments = {true, true},
                                         .tso = {true, true}};
    transfer_run(&settings);
    uint32_t full = transfer.full;
    assert_int_equal(transfer.tagged, 0);
    transfer_close();
    settings.vlan = VLAN;
    transfer_run(&settings);
    assert_int_equal(transfer.tagged, transfer.seen);
    assert_int_equal(transfer.full, full);
    assert_int_equal(transfer.largest, 1514);
    assert_true(counters()->tcp_out_supers > 0);
    for (unsigned side = 0; side < 2; side++) {
        const struct stack_counters *seen = stack_counters(transfer.pair.hosts[side].network);
        assert_int_equal(seen->tcp_in_errors + seen->ip_in_header_errors, 0);
        assert_int_equal(seen->frames_other_vlan, 0);
    }
    transfer_close();
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 256};
    (void)state;
    return memory_start(&settings) < 0 ? -1 : net_pools_open(pools, 4095);
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
        cmocka_unit_test(segments_on_the_wire_are_those_of_a_port_without_it),
        cmocka_unit_test(segments_that_are_counted_are_those_on_the_wire),
        cmocka_unit_test(bytes_are_exact_over_a_bad_wire),
        cmocka_unit_test(behind_a_tag_the_segments_are_the_same),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
