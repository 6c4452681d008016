/* Two hosts with two ports each, joined by two wires: which port carries what. */
#include "engine/net/networks.h"
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "engine/net/stack_facts.h"
#include "engine/net/stack_private.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ROUND_NS 100000u

struct host {
    struct network *network;
    struct wheel *wheel;
    struct stream *accepted, *made;
    struct listener *accepted_by;
    uint32_t events; /* of made */
};

static struct net_world world;
static struct net_link wires[2];
static struct host us, them;
static struct rte_mempool *pools[2];

static int set_up(void **state)
{
    (void)state;
    return net_memory_open(pools);
}

static int tear_down(void **state)
{
    (void)state;
    net_memory_close(pools);
    return 0;
}

struct place {
    const char *addresses[3];
    const char *gateway;  /* NULL: none */
    const char *to, *via; /* a route; NULL: none */
};

static struct network *stack_make(const struct place *place, struct host *host, unsigned side,
                                  unsigned wire)
{
    struct network_prefix addresses[3], to;
    struct stack_route route;
    struct network *stack;
    uint32_t count = 0;
    while (count < 3 && place->addresses[count] != NULL) {
        assert_int_equal(
            network_prefix_parse(&addresses[count], slice_text(place->addresses[count])), 0);
        count++;
    }
    struct stack_settings settings = {.port = &wires[wire].ports[side].port,
                                      .world = &world.world,
                                      .wheel = host->wheel,
                                      .pool = pools[side],
                                      .pool_share = 2,
                                      .addresses = addresses,
                                      .address_count = count,
                                      .skips_dad = true};
    if (place->gateway != NULL) {
        settings.gateway = net_endpoint(place->gateway);
    }
    if (place->to != NULL) {
        assert_int_equal(network_prefix_parse(&to, slice_text(place->to)), 0);
        route = (struct stack_route){to, net_endpoint(place->via)};
        settings.routes = &route;
        settings.route_count = 1;
    }
    assert_int_equal(stack_open(&stack, &settings), 0);
    return stack;
}

/* Ours: a default gateway by the first wire, one network by the second. */
static const struct place ours[2] = {
    {{"10.0.0.1/24", "fd00::1/64"}, "10.0.0.2:1", NULL, NULL},
    {{"10.1.0.1/24", "fd01::1/64"}, NULL, "198.51.100.0/24", "10.1.0.2:1"}};
static const struct place theirs[2] = {
    {{"10.0.0.2/24", "fd00::2/64", "203.0.113.1/32"}, NULL, "10.1.0.0/24", "10.0.0.1:1"},
    {{"10.1.0.2/24", "fd01::2/64", "198.51.100.1/32"}, NULL, "10.0.0.0/24", "10.1.0.1:1"}};

static void host_open(struct host *host, const struct place places[2], unsigned side)
{
    struct network *stacks[2];
    *host = (struct host){.wheel = wheel_open(world.now_ns)};
    stacks[0] = stack_make(&places[0], host, side, 0);
    stacks[1] = stack_make(&places[1], host, side, 1);
    assert_int_equal(networks_open(&host->network, stacks, 2), 0);
}

static void open_all(void)
{
    net_world_open(&world, 7);
    net_link_open(&wires[0], &world, 1, pools[0], pools[1]);
    net_link_open(&wires[1], &world, 2, pools[0], pools[1]);
    host_open(&us, ours, 0);
    host_open(&them, theirs, 1);
}

static void host_close(struct host *host)
{
    host->network->ops->close(host->network);
    wheel_close(host->wheel);
}

static void close_all(void)
{
    host_close(&us);
    host_close(&them);
    net_link_close(&wires[0]);
    net_link_close(&wires[1]);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), 0);
}

static void host_round(struct host *host)
{
    host->network->ops->poll(host->network, world.now_ns);
    wheel_run(host->wheel, world.now_ns);
    host->network->ops->flush(host->network, world.now_ns);
}

static void pass(uint64_t ns)
{
    for (uint64_t end_ns = world.now_ns + ns; world.now_ns < end_ns; world.now_ns += ROUND_NS) {
        net_link_run(&wires[0]);
        net_link_run(&wires[1]);
        host_round(&us);
        host_round(&them);
    }
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    ((struct host *)session)->events |= events;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct host *host = owner;
    host->accepted = stream;
    host->accepted_by = listener;
    stream->notify = notified;
    stream->session = host;
}

static struct listener *listen_at(struct host *host, const char *at)
{
    const struct listen_request request = {
        .at = net_endpoint(at), .accepted = accepted, .owner = host};
    struct listener *listener = NULL;
    assert_int_equal(host->network->ops->listen(host->network, &request, &listener), 0);
    return listener;
}

static int connect_to(struct host *host, const char *to, const char *from)
{
    struct connect_request request = {.to = net_endpoint(to), .timeout_ns = SECOND_NS};
    if (from != NULL) {
        request.from = net_endpoint(from);
    }
    int status = host->network->ops->connect(host->network, &request, &host->made);
    if (status == 0) {
        host->made->notify = notified;
        host->made->session = host;
        host->events = 0;
    }
    return status;
}

static struct stack *stack_at(const struct host *host, unsigned index)
{
    return stack_of(networks_stack(host->network, index));
}

/* Connects, and says from where they see us; *sent: segments by each of our ports. */
static struct endpoint seen_from(const char *to, const char *from, unsigned sent[2])
{
    struct stream_facts facts;
    uint64_t before[2];
    struct listener *listener = listen_at(&them, strchr(to, '[') ? "[::]:25" : "0.0.0.0:25");
    for (unsigned i = 0; i < 2; i++) {
        before[i] = stack_at(&us, i)->counters.tcp_out_segments;
    }
    assert_int_equal(connect_to(&us, to, from), 0);
    pass(SECOND_NS / 10);
    assert_int_equal(us.events, STREAM_CONNECTED);
    assert_non_null(them.accepted);
    assert_ptr_equal(them.accepted_by, listener);
    stream_facts(them.accepted, &facts);
    for (unsigned i = 0; i < 2; i++) {
        sent[i] = (unsigned)(stack_at(&us, i)->counters.tcp_out_segments - before[i]);
    }
    stream_abort(us.made);
    stream_release(us.made);
    pass(SECOND_NS / 10);
    stream_release(them.accepted);
    them.accepted = NULL;
    them.network->ops->unlisten(them.network, listener);
    facts.remote.port = 0;
    return facts.remote;
}

struct way {
    const char *to, *from, *seen_as;
    unsigned port;
};

static void a_connection_leaves_by_the_port_with_the_longest_prefix(void **state)
{
    static const struct way ways[] = {
        {"10.0.0.2:25", NULL, "10.0.0.1:0", 0},    {"10.1.0.2:25", NULL, "10.1.0.1:0", 1},
        {"203.0.113.1:25", NULL, "10.0.0.1:0", 0}, {"198.51.100.1:25", NULL, "10.1.0.1:0", 1},
        {"[fd00::2]:25", NULL, "[fd00::1]:0", 0},  {"[fd01::2]:25", NULL, "[fd01::1]:0", 1},
    };
    (void)state;
    open_all();
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        unsigned sent[2];
        struct endpoint seen = seen_from(ways[i].to, ways[i].from, sent);
        struct endpoint wanted = net_endpoint(ways[i].seen_as);
        assert_true(endpoint_equal(&seen, &wanted));
        assert_true(sent[ways[i].port] > 0);
        assert_int_equal(sent[1 - ways[i].port], 0);
    }
    close_all();
}

static void a_connection_from_an_address_leaves_by_the_port_that_has_it(void **state)
{
    unsigned sent[2];
    (void)state;
    open_all();
    /* Though the other port's route to it is longer: who has chosen the source has chosen the way. */
    struct endpoint seen = seen_from("198.51.100.1:25", "10.0.0.1:0", sent);
    struct endpoint wanted = net_endpoint("10.0.0.1:0");
    assert_true(endpoint_equal(&seen, &wanted));
    assert_int_equal(sent[1], 0);
    close_all();
}

static void what_cannot_be_reached_is_said_at_once(void **state)
{
    (void)state;
    open_all();
    assert_int_equal(connect_to(&us, "[2001:db8::1]:25", NULL), -ENETUNREACH);
    assert_int_equal(connect_to(&us, "203.0.113.1:25", "10.1.0.1:0"), -ENETUNREACH);
    assert_int_equal(connect_to(&us, "203.0.113.1:25", "10.9.0.1:0"), -EADDRNOTAVAIL);
    assert_int_equal(connect_to(&us, "10.1.0.1:25", NULL), -ENETUNREACH); /* ourselves */
    assert_int_equal(connect_to(&us, "10.1.0.1:25", "10.0.0.1:0"), -ENETUNREACH);
    close_all();
}

static void an_address_is_listened_at_where_it_is(void **state)
{
    const struct listen_request nowhere = {.at = net_endpoint("10.9.0.1:25")};
    struct listener *listener;
    unsigned sent[2];
    (void)state;
    open_all();
    assert_int_equal(them.network->ops->listen(them.network, &nowhere, &listener), -EADDRNOTAVAIL);
    struct listener *second = listen_at(&them, "10.1.0.2:25");
    assert_int_equal(connect_to(&us, "10.0.0.2:25", NULL), 0);
    pass(SECOND_NS / 10);
    assert_int_equal(us.events, STREAM_CLOSED);
    assert_int_equal(us.made->error, -ECONNREFUSED);
    stream_release(us.made);
    /* And again, so that the place is free. */
    them.network->ops->unlisten(them.network, second);
    seen_from("10.1.0.2:25", NULL, sent);
    assert_true(sent[1] > 0);
    close_all();
}

static void listening_anywhere_twice_is_refused_and_leaves_nothing(void **state)
{
    const struct listen_request again = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    struct listener *first, *second;
    (void)state;
    open_all();
    first = listen_at(&them, "0.0.0.0:25");
    assert_int_equal(them.network->ops->listen(them.network, &again, &second), -EADDRINUSE);
    them.network->ops->unlisten(them.network, first);
    first = listen_at(&them, "0.0.0.0:25");
    them.network->ops->unlisten(them.network, first);
    close_all();
}

/* They have a route to our first port's network by the second wire, and are bound to it there. */
static void what_arrives_by_another_port_is_answered_by_its_own(void **state)
{
    static const uint8_t text[] = "by whichever way";
    struct slice got;
    (void)state;
    open_all();
    struct listener *listener = listen_at(&us, "10.0.0.1:25");
    assert_int_equal(connect_to(&them, "10.0.0.1:25", "198.51.100.1:0"), 0);
    pass(SECOND_NS / 10);
    assert_int_equal(them.events, STREAM_CONNECTED);
    assert_non_null(us.accepted);
    assert_int_equal(stream_write(them.made, slice_of(text, sizeof(text))), 0);
    pass(SECOND_NS / 10);
    assert_int_equal(stream_peek(us.accepted, &got, 1), 1);
    assert_true(slice_equal(got, slice_of(text, sizeof(text))));
    assert_true(stack_at(&us, 1)->counters.frames_for_siblings >= 3);
    assert_int_equal(stack_at(&us, 1)->counters.tcp_in_segments, 0);
    assert_true(stack_at(&us, 0)->counters.tcp_out_segments >= 2);
    assert_true(stack_at(&them, 0)->counters.frames_for_siblings >= 2); /* the answers */
    stream_abort(them.made);
    stream_release(them.made);
    pass(SECOND_NS / 10);
    stream_release(us.accepted);
    us.network->ops->unlisten(us.network, listener);
    close_all();
}

static bool says_that_it_is_us(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct ip_address forged;
    (void)owner;
    if (side == 1 && size > ETH_BYTES + IPV4_BYTES && frame[12] == 8 && frame[13] == 0) {
        struct endpoint first = net_endpoint("10.0.0.1:0");
        ip_address_of_endpoint(&forged, &first);
        ip->src_addr = forged.words[3];
        ip->hdr_checksum = 0;
        ip->hdr_checksum = rte_ipv4_cksum(ip);
    }
    return true;
}

static void nobody_sends_from_an_address_of_another_port(void **state)
{
    (void)state;
    open_all();
    wires[1].ports[1].filter = says_that_it_is_us;
    struct listener *listener = listen_at(&us, "10.1.0.1:25");
    /* Their first port has a route of the same length; the link comes first. */
    assert_int_equal(connect_to(&them, "10.1.0.1:25", NULL), 0);
    pass(SECOND_NS / 2);
    assert_int_equal(them.events, 0);
    assert_true(stack_at(&us, 1)->counters.ip_in_address_errors > 0);
    assert_int_equal(stack_at(&us, 1)->counters.tcp_in_segments, 0);
    stream_abort(them.made);
    stream_release(them.made);
    us.network->ops->unlisten(us.network, listener);
    close_all();
}

static void each_port_says_where_its_own_addresses_are(void **state)
{
    (void)state;
    open_all();
    pass(SECOND_NS / 10);
    uint64_t before = stack_at(&us, 1)->counters.arp_out;
    struct stack *asker = stack_at(&them, 1);
    struct ip_address first;
    struct endpoint at = net_endpoint("10.0.0.1:0");
    ip_address_of_endpoint(&first, &at);
    struct rte_mbuf *frame = eth_control_frame(asker, ETH_BYTES + sizeof(struct rte_arp_hdr));
    struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, struct rte_ether_hdr *);
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(eth + 1);
    memset(eth->dst_addr.addr_bytes, 0xff, 6);
    memcpy(eth->src_addr.addr_bytes, asker->port->facts.mac, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_ARP);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons(RTE_ARP_OP_REQUEST)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, asker->port->facts.mac, 6);
    arp->arp_data.arp_sip = asker->own.list[0].address.words[3];
    arp->arp_data.arp_tip = first.words[3];
    eth_send(asker, frame);
    pass(SECOND_NS / 10);
    assert_int_equal(stack_at(&us, 1)->counters.arp_out, before);
    close_all();
}

static struct ip_address ip_of(const char *text)
{
    struct ip_address ip;
    const struct endpoint at = net_endpoint(text);
    assert_true(ip_address_of_endpoint(&ip, &at));
    return ip;
}

/* A Neighbor Solicitation that they send to an address itself, with a MAC of `last`. */
static void solicit(unsigned wire, const char *from, const char *to, uint8_t last)
{
    uint8_t frame[ETH_BYTES + IPV6_BYTES + 32] = {0};
    const uint8_t mac[6] = {2, 0, 0, 0, 0, last};
    struct ip_address source = ip_of(from), target = ip_of(to);
    const struct ip_header header = {.from = &source,
                                     .to = &target,
                                     .payload_bytes = 32,
                                     .protocol = IPPROTO_ICMPV6,
                                     .hop_limit = 255};
    uint8_t *message = ip_header_fill(stack_at(&them, wire), frame, &header);
    memcpy(frame, wires[wire].ports[0].port.facts.mac, 6);
    message[0] = ICMP6_NEIGHBOR_SOLICITATION;
    memcpy(message + 8, target.words, 16);
    message[24] = 1; /* source link-layer address */
    message[25] = 1;
    memcpy(message + 26, mac, 6);
    uint64_t sum = ip_pseudo_sum(&source, &target, IPPROTO_ICMPV6, 32);
    uint16_t checksum = checksum_finish(checksum_add(sum, message, 32));
    memcpy(message + 2, &checksum, 2);
    net_link_inject(&wires[wire], 0, frame, sizeof(frame));
    pass(SECOND_NS / 100);
}

static bool first_port_knows(const char *text)
{
    struct neighbour_facts facts[64];
    uint32_t cursor = 0;
    const struct endpoint wanted = net_endpoint(text);
    size_t count = stack_neighbour_facts(networks_stack(us.network, 0), &cursor, facts, 64);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found = found || (facts[i].has_mac && endpoint_same_address(&facts[i].address, &wanted));
    }
    return found;
}

static void nobody_on_another_link_teaches_a_port_its_neighbours(void **state)
{
    (void)state;
    open_all();
    pass(SECOND_NS / 10);
    uint64_t heard = stack_at(&us, 0)->counters.nd_in;
    solicit(1, "[fd00::66]:1", "[fd00::1]:1", 66);
    assert_int_equal(stack_at(&us, 1)->counters.frames_for_siblings, 1);
    assert_int_equal(stack_at(&us, 0)->counters.nd_in, heard);
    assert_int_equal(stack_at(&us, 0)->counters.icmp_in_errors, 1);
    assert_false(first_port_knows("[fd00::66]:0"));
    solicit(0, "[fd00::66]:1", "[fd00::1]:1", 66); /* by the link itself it is heard */
    assert_int_equal(stack_at(&us, 0)->counters.nd_in, heard + 1);
    assert_true(first_port_knows("[fd00::66]:0"));
    close_all();
}

static void what_is_link_local_is_handed_to_no_other_port(void **state)
{
    (void)state;
    open_all();
    pass(SECOND_NS / 10);
    solicit(1, "[fe80::66]:1", "[fd00::1]:1", 66);
    assert_int_equal(stack_at(&us, 1)->counters.frames_for_siblings, 0);
    close_all();
}

static unsigned handed_over;

static int count_hand_over(void *owner, struct rte_mbuf *frame)
{
    (void)owner;
    rte_pktmbuf_free(frame);
    handed_over++;
    return 0;
}

/* A segment of no connection, which the first port's hash says is ours. */
static void unknown_segment(void)
{
    uint8_t frame[ETH_BYTES + IPV4_BYTES + TCP_HEADER_BYTES] = {0};
    struct ip_address source = ip_of("198.51.100.1:1"), target = ip_of("10.0.0.1:1");
    const struct ip_header header = {
        .from = &source, .to = &target, .payload_bytes = TCP_HEADER_BYTES, .protocol = IPPROTO_TCP};
    struct rte_tcp_hdr *tcp = ip_header_fill(stack_at(&them, 1), frame, &header);
    memcpy(frame, wires[1].ports[0].port.facts.mac, 6);
    *tcp = (struct rte_tcp_hdr){.src_port = htons(4000),
                                .dst_port = htons(25),
                                .data_off = 5 << 4,
                                .tcp_flags = TCP_ACK,
                                .rx_win = htons(1000)};
    uint64_t sum = ip_pseudo_sum(&source, &target, IPPROTO_TCP, TCP_HEADER_BYTES);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, TCP_HEADER_BYTES));
    net_link_inject(&wires[1], 0, frame, sizeof(frame));
    pass(SECOND_NS / 100);
}

static void other_shards_are_asked_though_the_hash_of_the_own_port_is_proven(void **state)
{
    (void)state;
    open_all();
    struct stack *first = stack_at(&us, 0);
    rss_init(&first->rss, 1); /* everything is at home, and proven */
    first->shard_count = 2;
    first->hand_over = count_hand_over;
    handed_over = 0;
    unknown_segment();
    assert_int_equal(handed_over, 1);
    assert_int_equal(first->counters.tcp_out_resets, 0);
    close_all();
}

static void datagrams_take_the_same_ways(void **state)
{
    static const char *const peers[] = {"203.0.113.1:53", "198.51.100.1:53", "[fd01::2]:53"};
    static const char *const locals[] = {"10.0.0.1:0", "10.1.0.1:0", "[fd01::1]:0"};
    struct datagram_socket *socket;
    (void)state;
    open_all();
    for (unsigned i = 0; i < 3; i++) {
        const struct datagram_request request = {.peer = net_endpoint(peers[i])};
        struct endpoint local, wanted = net_endpoint(locals[i]);
        assert_int_equal(networks_datagram_open(us.network, &request, &socket), 0);
        datagram_local(socket, &local);
        assert_true(endpoint_same_address(&local, &wanted));
        datagram_close(socket);
    }
    const struct datagram_request bound = {.at = net_endpoint("10.1.0.1:5353")};
    assert_int_equal(networks_datagram_open(us.network, &bound, &socket), 0);
    datagram_close(socket);
    const struct datagram_request nowhere = {.peer = net_endpoint("[2001:db8::1]:53")};
    assert_int_equal(networks_datagram_open(us.network, &nowhere, &socket), -ENETUNREACH);
    close_all();
}

static void the_stacks_of_a_pool_share_it(void **state)
{
    (void)state;
    open_all();
    for (unsigned i = 0; i < 2; i++) {
        const struct stack_limits *limits = &stack_at(&us, i)->limits;
        assert_int_equal(limits->held_mbuf_max, pools[0]->size / 4);
        assert_int_equal(limits->connection_max, 32768);
        assert_int_equal(limits->half_open_max, 4096);
        assert_int_equal(limits->time_wait_max, 32768);
        assert_int_equal(limits->orphan_max, 2048);
        assert_int_equal(stack_at(&us, i)->tcp.pieces->chunk_max, pools[0]->size / 8);
    }
    close_all();
}

static void one_stack_is_its_own_network(void **state)
{
    struct network *alone, *network;
    (void)state;
    open_all();
    alone = networks_stack(us.network, 0);
    assert_int_equal(networks_open(&network, &alone, 1), 0);
    assert_ptr_equal(network, alone);
    assert_int_equal(networks_count(alone), 1);
    assert_ptr_equal(networks_stack(alone, 0), alone);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_leaves_by_the_port_with_the_longest_prefix),
        cmocka_unit_test(a_connection_from_an_address_leaves_by_the_port_that_has_it),
        cmocka_unit_test(what_cannot_be_reached_is_said_at_once),
        cmocka_unit_test(an_address_is_listened_at_where_it_is),
        cmocka_unit_test(listening_anywhere_twice_is_refused_and_leaves_nothing),
        cmocka_unit_test(what_arrives_by_another_port_is_answered_by_its_own),
        cmocka_unit_test(nobody_sends_from_an_address_of_another_port),
        cmocka_unit_test(each_port_says_where_its_own_addresses_are),
        cmocka_unit_test(nobody_on_another_link_teaches_a_port_its_neighbours),
        cmocka_unit_test(what_is_link_local_is_handed_to_no_other_port),
        cmocka_unit_test(other_shards_are_asked_though_the_hash_of_the_own_port_is_proven),
        cmocka_unit_test(datagrams_take_the_same_ways),
        cmocka_unit_test(the_stacks_of_a_pool_share_it),
        cmocka_unit_test(one_stack_is_its_own_network),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
