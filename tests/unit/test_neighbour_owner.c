/* Several shards on a port whose answers without a hash come to the first queue: one of them asks for all. */
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SHARDS 2u
#define FRAMES 64u

struct office {
    struct net_world world;
    struct port port;
    struct wheel *wheel[SHARDS];
    struct network *network[SHARDS];
    struct rte_mbuf *arriving; /* at queue 0 */
    struct rte_mbuf *left[SHARDS][FRAMES];
    unsigned left_count[SHARDS];
    unsigned asked, shared;
    int ask_status;
};

static struct rte_mempool *pool;
static struct office office;
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 9};

static uint16_t receive(struct port *port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
    (void)port;
    if (queue != 0 || office.arriving == NULL || count == 0) {
        return 0;
    }
    frames[0] = office.arriving;
    office.arriving = NULL;
    return 1;
}

static uint16_t transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                         uint16_t count)
{
    (void)port;
    for (uint16_t i = 0; i < count; i++) {
        assert_true(office.left_count[queue] < FRAMES);
        office.left[queue][office.left_count[queue]++] = frames[i];
    }
    return count;
}

static int arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static const struct port_ops ops = {.receive = receive, .transmit = transmit, .arm = arm};

static int ask(void *owner, const struct endpoint *address)
{
    (void)owner;
    office.asked++;
    if (office.ask_status == 0) {
        stack_neighbour_wanted(office.network[0], address);
    }
    return office.ask_status;
}

static void share(void *owner, const struct endpoint *address, const uint8_t mac[6])
{
    unsigned from = (unsigned)(uintptr_t)owner;
    office.shared++;
    for (unsigned i = 0; i < SHARDS; i++) {
        if (i != from && office.network[i] != NULL) {
            stack_neighbour_learn(office.network[i], address, mac);
        }
    }
}

static void left_clear(void)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        while (office.left_count[i] > 0) {
            rte_pktmbuf_free(office.left[i][--office.left_count[i]]);
        }
    }
}

static int office_open(void **state)
{
    (void)state;
    office = (struct office){
        .port = {.ops = &ops,
                 .facts = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queue_count = SHARDS}}};
    rss_init(&office.port.facts.rss, SHARDS);
    net_world_open(&office.world, 1);
    struct network_prefix address;
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.1/24")), 0);
    for (unsigned i = 0; i < SHARDS; i++) {
        office.wheel[i] = wheel_open(office.world.now_ns);
        const struct stack_settings settings = {.port = &office.port,
                                                .queue = (uint16_t)i,
                                                .shard_count = SHARDS,
                                                .world = &office.world.world,
                                                .wheel = office.wheel[i],
                                                .pool = pool,
                                                .addresses = &address,
                                                .address_count = 1,
                                                .ask_neighbour = i == 0 ? NULL : ask,
                                                .share_neighbour = share,
                                                .owner = (void *)(uintptr_t)i};
        assert_int_equal(stack_open(&office.network[i], &settings), 0);
    }
    left_clear(); /* announcements */
    return 0;
}

static int office_close(void **state)
{
    (void)state;
    left_clear();
    for (unsigned i = 0; i < SHARDS; i++) {
        office.network[i]->ops->close(office.network[i]);
        office.network[i] = NULL;
        left_clear();
        wheel_close(office.wheel[i]);
    }
    return 0;
}

static void pass(uint64_t ns)
{
    office.world.now_ns += ns;
    for (unsigned i = 0; i < SHARDS; i++) {
        office.network[i]->ops->poll(office.network[i], office.world.now_ns);
        wheel_run(office.wheel[i], office.world.now_ns);
        office.network[i]->ops->flush(office.network[i], office.world.now_ns);
    }
}

static unsigned count_of(unsigned queue, uint16_t type)
{
    unsigned count = 0;
    for (unsigned i = 0; i < office.left_count[queue]; i++) {
        count += rte_pktmbuf_mtod(office.left[queue][i], struct rte_ether_hdr *)->ether_type ==
                 htons(type);
    }
    return count;
}

static struct stream *connect_from(unsigned shard)
{
    struct stream *stream;
    struct connect_request request = {0};
    assert_int_equal(endpoint_parse(&request.to, slice_text("10.0.0.9:25")), 0);
    assert_int_equal(office.network[shard]->ops->connect(office.network[shard], &request, &stream),
                     0);
    return stream;
}

/* From 10.0.0.9, to our question. */
static void answer_arrives(void)
{
    struct rte_mbuf *frame = rte_pktmbuf_alloc(pool);
    struct rte_ether_hdr *eth = (void *)rte_pktmbuf_append(frame, 42);
    if (eth == NULL) {
        fail_msg("no room in a buffer");
        return;
    }
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(eth + 1);
    memcpy(eth->dst_addr.addr_bytes, office.port.facts.mac, 6);
    memcpy(eth->src_addr.addr_bytes, peer_mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_ARP);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons(RTE_ARP_OP_REPLY)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, peer_mac, 6);
    memcpy(arp->arp_data.arp_tha.addr_bytes, office.port.facts.mac, 6);
    arp->arp_data.arp_sip = htonl(0x0a000009);
    arp->arp_data.arp_tip = htonl(0x0a000001);
    office.arriving = frame;
}

static void another_shard_asks_through_the_owner_and_learns_its_answer(void **state)
{
    (void)state;
    struct stream *stream = connect_from(1);
    pass(1000000);
    assert_int_equal(office.asked, 1);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_ARP), 1);
    assert_int_equal(count_of(1, RTE_ETHER_TYPE_ARP), 0);
    assert_int_equal(count_of(1, RTE_ETHER_TYPE_IPV4), 0);
    answer_arrives();
    pass(1000000);
    pass(1000000);
    assert_int_equal(office.shared, 1);
    assert_int_equal(count_of(1, RTE_ETHER_TYPE_IPV4), 1);
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(office.left[1][0], struct rte_ether_hdr *);
    assert_memory_equal(eth->dst_addr.addr_bytes, peer_mac, 6);
    stream_abort(stream);
    stream_release(stream);
}

static void what_the_owner_knows_is_told_at_once(void **state)
{
    (void)state;
    struct stream *first = connect_from(0);
    pass(1000000);
    assert_int_equal(office.asked, 0);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_ARP), 1);
    answer_arrives();
    pass(1000000);
    pass(1000000);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_IPV4), 1);
    struct stream *second = connect_from(1);
    pass(1000000);
    assert_int_equal(count_of(1, RTE_ETHER_TYPE_IPV4), 1);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_ARP) + count_of(1, RTE_ETHER_TYPE_ARP), 1);
    stream_abort(first);
    stream_release(first);
    stream_abort(second);
    stream_release(second);
}

static void an_aged_neighbour_is_confirmed_through_the_owner(void **state)
{
    (void)state;
    struct stream *stream = connect_from(1);
    pass(1000000);
    answer_arrives();
    pass(1000000);
    pass(1000000);
    left_clear();
    unsigned asked = office.asked, shared = office.shared;
    pass(70 * SECOND_NS); /* the SYN is sent again, to a neighbour not heard of for a minute */
    pass(SECOND_NS);
    assert_int_equal(office.asked, asked + 1);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_ARP), 1);
    assert_true(count_of(1, RTE_ETHER_TYPE_IPV4) > 0);
    answer_arrives();
    pass(1000000);
    assert_int_equal(office.shared, shared + 1);
    stream_abort(stream);
    stream_release(stream);
}

static void a_shard_whose_question_is_not_taken_asks_by_itself(void **state)
{
    (void)state;
    office.ask_status = -ENOBUFS;
    struct stream *stream = connect_from(1);
    pass(1000000);
    assert_int_equal(office.asked, 1);
    assert_int_equal(count_of(0, RTE_ETHER_TYPE_ARP), 0);
    assert_int_equal(count_of(1, RTE_ETHER_TYPE_ARP), 1);
    stream_abort(stream);
    stream_release(stream);
}

static int set_up(void **state)
{
    const struct memory_settings memory = {.program = "test_neighbour_owner", .megabytes = 128};
    (void)state;
    if (memory_start(&memory) < 0 || memory_thread_enter() < 0) {
        return -1;
    }
    pool = memory_pool_open("office", 4096, MEMORY_MBUF_BYTES);
    return pool == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pool);
    memory_thread_leave();
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(another_shard_asks_through_the_owner_and_learns_its_answer,
                                        office_open, office_close),
        cmocka_unit_test_setup_teardown(what_the_owner_knows_is_told_at_once, office_open,
                                        office_close),
        cmocka_unit_test_setup_teardown(an_aged_neighbour_is_confirmed_through_the_owner,
                                        office_open, office_close),
        cmocka_unit_test_setup_teardown(a_shard_whose_question_is_not_taken_asks_by_itself,
                                        office_open, office_close),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
