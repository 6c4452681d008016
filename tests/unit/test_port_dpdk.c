/* Real ethdevs that need no hardware: net_ring sends to itself, net_null pretends to hash. */
#include "engine/net/port_dpdk.h"
#include "engine/shard/memory.h"
#include <errno.h>
#include <rte_ethdev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct rte_mempool *pools[PORT_DPDK_QUEUES_MAX];

static struct port *port_of(const char *name, uint16_t queues)
{
    struct port_dpdk_settings settings = {
        .name = name, .queues_wanted = queues, .descriptors = 32, .pools = pools};
    struct port *port = NULL;
    assert_int_equal(port_dpdk_open(&port, &settings), 0);
    return port;
}

static void unknown_name_is_no_port(void **state)
{
    (void)state;
    struct port_dpdk_settings settings = {
        .name = "net_nobody7", .queues_wanted = 1, .pools = pools};
    struct port *port = NULL;
    assert_int_equal(port_dpdk_open(&port, &settings), -ENODEV);
    assert_null(port);
}

static void frames_go_out_and_come_in_unchanged(void **state)
{
    (void)state;
    struct port *port = port_of("net_ring0", 1);
    struct port_dpdk_counters counters;
    struct rte_mbuf *frames[8], *got[16];
    for (unsigned i = 0; i < 8; i++) {
        frames[i] = rte_pktmbuf_alloc(pools[0]);
        assert_non_null(frames[i]);
        memset(rte_pktmbuf_append(frames[i], 60), (int)i, 60);
    }
    assert_int_equal(port->ops->transmit(port, 0, frames, 8), 8);
    assert_int_equal(port->ops->receive(port, 0, got, 16), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(got[i]->pkt_len, 60);
        assert_int_equal(*rte_pktmbuf_mtod(got[i], uint8_t *), i);
        rte_pktmbuf_free(got[i]);
    }
    assert_int_equal(port->ops->receive(port, 0, got, 16), 0);
    port_dpdk_counters(port, &counters);
    assert_int_equal(counters.rx_frames, 8);
    assert_int_equal(counters.tx_frames, 8);
    port->ops->close(port);
}

static void fewer_queues_than_wanted_are_reported(void **state)
{
    (void)state;
    struct port *port = port_of("net_ring1", PORT_DPDK_QUEUES_MAX);
    assert_true(port->facts.queue_count < PORT_DPDK_QUEUES_MAX);
    assert_int_equal(port->facts.rss.queue_count, port->facts.queue_count);
    assert_int_equal(port->facts.rss.mode, RSS_UNKNOWN); /* it has no hash */
    port->ops->close(port);
}

static void device_without_receive_interrupts_must_be_polled(void **state)
{
    (void)state;
    struct port *port = port_of("net_ring2", 1);
    assert_int_equal(port->ops->arm(port, 0), -ENOTSUP);
    port->ops->close(port);
}

static void key_and_table_of_a_hashing_device_are_claimed_and_yet_unproven(void **state)
{
    (void)state;
    struct port *port = port_of("net_null0", 4);
    assert_int_equal(port->facts.queue_count, 4);
    assert_int_equal(port->facts.rss.mode, RSS_CLAIMED);
    assert_int_equal(port->facts.rss.queue_count, 4);
    port->ops->close(port);
}

static void datagrams_and_fragments_are_hashed_too_where_the_device_can(void **state)
{
    (void)state;
    const uint64_t ports = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP |
                           RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
    const uint64_t fragments = RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_FRAG_IPV6;
    const uint64_t others = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6;
    const struct {
        uint64_t offered, asked;
    } cases[] = {
        {ports | fragments | RTE_ETH_RSS_L2_PAYLOAD, ports | fragments},
        {ports | fragments | others, ports | fragments},
        {ports | others, ports | others}, /* it has them with the rest of IP */
        {ports, ports},
        {RTE_ETH_RSS_NONFRAG_IPV4_TCP, RTE_ETH_RSS_NONFRAG_IPV4_TCP},
        {others | fragments, others | fragments},
        {RTE_ETH_RSS_NONFRAG_IPV4_UDP | others, others}, /* all alike, by addresses */
        {RTE_ETH_RSS_L2_PAYLOAD, 0},
        {0, 0},
    };
    for (unsigned i = 0; i < RTE_DIM(cases); i++) {
        assert_int_equal(port_dpdk_rss_types(cases[i].offered), cases[i].asked);
    }
}

static void facts_are_those_of_the_device(void **state)
{
    (void)state;
    struct port *port = port_of("net_ring3", 1);
    assert_true(port->facts.mtu >= 1500);
    assert_int_equal(port->facts.rss.mode,
                     RSS_PROVEN); /* with one queue there is nothing to hash */
    assert_true(port->facts.tx_segments);
    assert_false(port->facts.tso);
    assert_false(port->facts.rx_checksum_tcp);
    assert_string_equal(port_dpdk_driver(port), "net_ring");
    port->ops->close(port);
}

static int set_up(void **state)
{
    static const char *const eal[] = {
        "--no-huge",        "--no-pci",         "--vdev=net_ring0",         "--vdev=net_ring1",
        "--vdev=net_ring2", "--vdev=net_ring3", "--vdev=net_null0,no-rx=1", NULL};
    struct memory_settings settings = {.program = "test_port_dpdk", .megabytes = 64, .eal = eal};
    (void)state;
    if (memory_start(&settings) < 0) {
        return -1;
    }
    pools[0] = memory_pool_open("port", 4095, MEMORY_MBUF_BYTES);
    for (unsigned i = 1; i < PORT_DPDK_QUEUES_MAX; i++) {
        pools[i] = pools[0];
    }
    return pools[0] == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pools[0]);
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_name_is_no_port),
        cmocka_unit_test(frames_go_out_and_come_in_unchanged),
        cmocka_unit_test(fewer_queues_than_wanted_are_reported),
        cmocka_unit_test(device_without_receive_interrupts_must_be_polled),
        cmocka_unit_test(key_and_table_of_a_hashing_device_are_claimed_and_yet_unproven),
        cmocka_unit_test(datagrams_and_fragments_are_hashed_too_where_the_device_can),
        cmocka_unit_test(facts_are_those_of_the_device),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
