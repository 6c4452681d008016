/* UDP sockets of two stacks that talk over a wire. */
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct rte_mempool *pools[2];
static struct net_pair pair;

struct talker {
    struct datagram_socket *socket;
    unsigned notified;
};

static void notified(struct datagram_socket *socket, void *session)
{
    struct talker *talker = session;
    assert_ptr_equal(socket, talker->socket);
    talker->notified++;
}

static int open_at(struct talker *talker, unsigned side, const char *at, const char *peer)
{
    struct datagram_request request = {.notify = notified, .session = talker};
    if (at != NULL) {
        request.at = net_endpoint(at);
    }
    if (peer != NULL) {
        request.peer = net_endpoint(peer);
    }
    *talker = (struct talker){0};
    return udp_open(pair.hosts[side].network, &request, &talker->socket);
}

static uint16_t port_of(const struct talker *talker)
{
    struct endpoint local;
    datagram_local(talker->socket, &local);
    return local.port;
}

static void begin(void)
{
    const struct net_pair_settings settings = {
        .seed = 5, .tx_segments = {true, true}, .ipv6 = true};
    net_pair_open(&pair, &settings, pools);
    net_pair_run(&pair, 3 * SECOND_NS); /* duplicate address detection */
}

static void end(void)
{
    net_pair_close(&pair);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), 0);
}

static void run(void)
{
    net_pair_run(&pair, 50 * MS_NS);
}

static struct stack_counters *counters_of(unsigned side)
{
    return &stack_of(pair.hosts[side].network)->counters;
}

static void assert_next(struct talker *talker, const char *text, struct endpoint *from)
{
    struct datagram datagram;
    assert_int_equal(datagram_receive(talker->socket, &datagram), 1);
    assert_true(slice_equal(datagram.bytes, slice_text(text)));
    *from = datagram.from;
}

static void assert_none(struct talker *talker)
{
    struct datagram datagram;
    assert_int_equal(datagram_receive(talker->socket, &datagram), 0);
}

static void a_question_and_its_answer_arrive(void **state)
{
    (void)state;
    struct talker client, server;
    struct endpoint from;
    begin();
    assert_int_equal(open_at(&server, 1, "0.0.0.0:53", NULL), 0);
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("who?")), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("")), 0);
    run();
    assert_int_equal(server.notified, 1);
    assert_next(&server, "who?", &from);
    assert_int_equal(from.port, port_of(&client));
    assert_int_equal(datagram_send(server.socket, &from, slice_text("me")), 0);
    assert_next(&server, "", &from);
    assert_none(&server);
    run();
    assert_next(&client, "me", &from);
    assert_int_equal(from.port, 53);
    assert_int_equal(counters_of(0)->udp_out_datagrams, 2);
    assert_int_equal(counters_of(1)->udp_in_datagrams, 2);
    datagram_close(client.socket);
    datagram_close(server.socket);
    end();
}

static void nobody_there_is_told_to_the_socket(void **state)
{
    (void)state;
    struct talker client;
    struct datagram datagram;
    begin();
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("who?")), 0);
    run();
    assert_int_equal(client.notified, 1);
    assert_int_equal(datagram_receive(client.socket, &datagram), -ECONNREFUSED);
    assert_int_equal(datagram.from.port, 53);
    assert_none(&client);
    assert_int_equal(counters_of(1)->udp_no_ports, 1);
    datagram_close(client.socket);
    end();
}

static void only_the_peer_is_heard(void **state)
{
    (void)state;
    struct talker client, other;
    struct endpoint to = net_endpoint("10.0.0.1:1");
    struct endpoint from;
    begin();
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    to.port = port_of(&client);
    assert_int_equal(open_at(&other, 1, "10.0.0.2:5353", NULL), 0);
    assert_int_equal(datagram_send(other.socket, &to, slice_text("forged")), 0);
    run();
    assert_none(&client);
    datagram_close(other.socket);
    assert_int_equal(open_at(&other, 1, "10.0.0.2:53", NULL), 0);
    assert_int_equal(datagram_send(other.socket, &to, slice_text("true")), 0);
    run();
    assert_next(&client, "true", &from);
    datagram_close(client.socket);
    datagram_close(other.socket);
    end();
}

static bool flip_last(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    if (side == 0 && frame[12] == 8 && frame[13] == 0 && frame[23] == IPPROTO_UDP) {
        frame[size - 1] ^= 1;
    }
    return true;
}

static bool clear_checksum(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    (void)size;
    if (side == 0 && frame[12] == 8 && frame[13] == 0 && frame[23] == IPPROTO_UDP) {
        frame[40] = frame[41] = 0;
    }
    return true;
}

static void a_wrong_checksum_is_refused_and_none_is_taken_in_ipv4(void **state)
{
    (void)state;
    struct talker client, server;
    struct endpoint from;
    begin();
    assert_int_equal(open_at(&server, 1, "10.0.0.2:53", NULL), 0);
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    pair.link.ports[0].filter = flip_last;
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("damaged")), 0);
    run();
    assert_none(&server);
    assert_int_equal(counters_of(1)->udp_in_checksum_errors, 1);
    assert_int_equal(counters_of(1)->udp_in_errors, 1);
    assert_int_equal(counters_of(1)->udp_no_ports, 0);
    pair.link.ports[0].filter = clear_checksum;
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("without")), 0);
    run();
    assert_next(&server, "without", &from);
    datagram_close(client.socket);
    datagram_close(server.socket);
    end();
}

static bool clear_checksum_of_ipv6(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    (void)size;
    if (side == 0 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == IPPROTO_UDP) {
        frame[60] = frame[61] = 0;
    }
    return true;
}

static void over_ipv6_it_is_the_same_but_for_a_missing_checksum(void **state)
{
    (void)state;
    struct talker client, server;
    struct endpoint from;
    struct datagram datagram;
    begin();
    assert_int_equal(open_at(&client, 0, NULL, "[fd00::2]:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("early")), 0);
    run();
    assert_int_equal(datagram_receive(client.socket, &datagram), -ECONNREFUSED);
    assert_int_equal(open_at(&server, 1, "[fd00::2]:53", NULL), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("who?")), 0);
    run();
    assert_next(&server, "who?", &from);
    assert_int_equal(from.family, ENDPOINT_IPV6);
    assert_int_equal(datagram_send(server.socket, &from, slice_text("me")), 0);
    run();
    assert_next(&client, "me", &from);
    pair.link.ports[0].filter = clear_checksum_of_ipv6;
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("without")), 0);
    run();
    assert_none(&server);
    assert_int_equal(counters_of(1)->udp_in_checksum_errors, 1);
    datagram_close(client.socket);
    datagram_close(server.socket);
    end();
}

static void sockets_that_are_left_end_with_the_stack(void **state)
{
    (void)state;
    struct talker client, server;
    begin();
    assert_int_equal(open_at(&server, 1, "10.0.0.2:53", NULL), 0);
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("waits")), 0);
    run();
    end();
}

static void what_nobody_takes_is_bounded(void **state)
{
    (void)state;
    struct talker client, server;
    begin();
    assert_int_equal(open_at(&server, 1, "10.0.0.2:53", NULL), 0);
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    for (unsigned i = 0; i < UDP_WAITING_MAX + 10; i++) {
        assert_int_equal(datagram_send(client.socket, NULL, slice_text("flood")), 0);
        run();
    }
    assert_int_equal(counters_of(1)->udp_in_datagrams, UDP_WAITING_MAX);
    assert_int_equal(counters_of(1)->udp_receive_buffer_errors, 10);
    struct datagram datagram;
    unsigned count = 0;
    while (datagram_receive(server.socket, &datagram) == 1) {
        count++;
    }
    assert_int_equal(count, UDP_WAITING_MAX);
    assert_int_equal(stack_of(pair.hosts[1].network)->udp.waiting_count, 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("again")), 0);
    run();
    datagram_close(server.socket); /* with one that waits */
    datagram_close(client.socket);
    end();
}

static void ports_are_drawn_at_random_and_never_twice(void **state)
{
    (void)state;
    static struct talker clients[200];
    unsigned in_a_row = 0;
    begin();
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(open_at(&clients[i], 0, NULL, "10.0.0.2:53"), 0);
        assert_in_range(port_of(&clients[i]), 32768, 60999);
        for (unsigned j = 0; j < i; j++) {
            assert_int_not_equal(port_of(&clients[i]), port_of(&clients[j]));
        }
        in_a_row += i > 0 && port_of(&clients[i]) == port_of(&clients[i - 1]) + 1;
    }
    assert_true(in_a_row < 3);
    struct talker same;
    struct endpoint first;
    char text[ENDPOINT_TEXT_MAX];
    datagram_local(clients[0].socket, &first);
    endpoint_format(&first, text);
    assert_int_equal(open_at(&same, 0, text, "10.0.0.2:53"), -EADDRINUSE);
    assert_int_equal(open_at(&same, 0, text, "10.0.0.2:54"), 0); /* another conversation */
    datagram_close(same.socket);
    for (unsigned i = 0; i < 200; i++) {
        datagram_close(clients[i].socket);
    }
    end();
}

static void when_all_ports_are_taken_there_is_none(void **state)
{
    (void)state;
    struct talker clients[3];
    begin();
    stack_of(pair.hosts[0].network)->limits.port_first = 40000;
    stack_of(pair.hosts[0].network)->limits.port_last = 40001;
    assert_int_equal(open_at(&clients[0], 0, NULL, NULL), 0);
    assert_int_equal(open_at(&clients[1], 0, NULL, NULL), 0);
    assert_int_equal(open_at(&clients[2], 0, NULL, NULL), -EADDRNOTAVAIL);
    datagram_close(clients[0].socket);
    assert_int_equal(open_at(&clients[2], 0, NULL, NULL), 0);
    datagram_close(clients[1].socket);
    datagram_close(clients[2].socket);
    end();
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct talker client;
    static const uint8_t large[1473];
    const struct endpoint far = net_endpoint("192.0.2.1:53"), near = net_endpoint("10.0.0.2:53");
    begin();
    assert_int_equal(open_at(&client, 0, "10.0.0.9:53", NULL), -EADDRNOTAVAIL);
    assert_int_equal(open_at(&client, 0, NULL, "192.0.2.1:53"), -ENETUNREACH);
    assert_int_equal(open_at(&client, 0, "10.0.0.1:53", NULL), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("x")), -EDESTADDRREQ);
    assert_int_equal(datagram_send(client.socket, &far, slice_text("x")), -ENETUNREACH);
    assert_int_equal(datagram_send(client.socket, &near, slice_of(large, 1473)), -EMSGSIZE);
    assert_int_equal(datagram_send(client.socket, &near, slice_of(large, 1472)), 0);
    datagram_close(client.socket);
    end();
}

static struct rte_mbuf *handed;

static int take_over(void *owner, struct rte_mbuf *frame)
{
    (void)owner;
    assert_null(handed);
    handed = frame;
    return 0;
}

static void what_comes_to_the_wrong_shard_finds_its_socket_or_is_refused(void **state)
{
    (void)state;
    struct talker client, server;
    struct endpoint from;
    struct datagram datagram;
    begin();
    struct network *network = pair.hosts[1].network;
    stack_of(network)->shard_count = 2;
    stack_of(network)->hand_over = take_over;
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("lost")), 0);
    run();
    assert_non_null(handed);
    assert_int_equal(counters_of(1)->udp_handed_over, 1);
    assert_false(stack_frame_take(network, handed)); /* this shard has none either */
    stack_frame_refuse(network, handed);
    handed = NULL;
    run();
    assert_int_equal(datagram_receive(client.socket, &datagram), -ECONNREFUSED);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("found")), 0);
    run();
    assert_int_equal(open_at(&server, 1, "10.0.0.2:53", NULL), 0);
    assert_true(stack_frame_take(network, handed));
    assert_next(&server, "found", &from);
    handed = NULL;
    datagram_close(server.socket);
    datagram_close(client.socket);
    end();
}

static void beyond_the_bound_what_another_shard_may_want_is_dropped_and_not_refused(void **state)
{
    (void)state;
    struct talker client;
    begin();
    struct stack *stack = stack_of(pair.hosts[1].network);
    stack->shard_count = 2;
    stack->hand_over = take_over;
    stack->udp.handed_over_ns = pair.world.now_ns;
    stack->udp.handed_over = UDP_HANDED_OVER_MAX;
    assert_int_equal(open_at(&client, 0, NULL, "10.0.0.2:53"), 0);
    assert_int_equal(datagram_send(client.socket, NULL, slice_text("too many")), 0);
    run();
    assert_null(handed);
    assert_none(&client); /* not told that the port is closed */
    assert_int_equal(stack->counters.udp_hand_overs_lost, 1);
    assert_int_equal(stack->counters.udp_no_ports, 0);
    datagram_close(client.socket);
    end();
}

/* The shard that an error comes to has no socket of its; the one opened then stands for another shard's. */
static void error_comes(struct talker *client, bool ipv6)
{
    const char *at = ipv6 ? "[fd00::1]:4000" : "10.0.0.1:4000";
    const char *peer = ipv6 ? "[fd00::2]:53" : "10.0.0.2:53";
    assert_int_equal(open_at(client, 0, at, peer), 0);
    assert_int_equal(datagram_send(client->socket, NULL, slice_text("who?")), 0);
    datagram_close(client->socket);
    run();
    assert_non_null(handed);
    assert_int_equal(open_at(client, 0, at, peer), 0);
}

static void an_error_at_the_wrong_shard_finds_the_socket_that_it_quotes(void **state)
{
    (void)state;
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        struct talker client;
        struct datagram datagram;
        begin();
        struct network *network = pair.hosts[0].network;
        stack_of(network)->shard_count = 2;
        stack_of(network)->hand_over = take_over;
        error_comes(&client, ipv6 != 0);
        assert_int_equal(counters_of(0)->udp_handed_over, 1);
        assert_int_equal(counters_of(0)->tcp_handed_over, 0);
        assert_true(stack_frame_take(network, handed));
        handed = NULL;
        assert_int_equal(datagram_receive(client.socket, &datagram), -ECONNREFUSED);
        assert_int_equal(datagram.from.port, 53);
        assert_int_equal(counters_of(0)->udp_taken_over, 1);
        assert_int_equal(counters_of(0)->icmp_in_errors, 0);
        datagram_close(client.socket);
        /* And one of nobody's is counted where it came in. */
        error_comes(&client, ipv6 != 0);
        datagram_close(client.socket);
        assert_false(stack_frame_take(network, handed));
        stack_frame_refuse(network, handed);
        handed = NULL;
        assert_int_equal(counters_of(0)->icmp_in_errors, 1);
        end();
    }
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 256};
    (void)state;
    return memory_start(&settings) < 0 ? -1 : net_pools_open(pools, 2047);
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
        cmocka_unit_test(a_question_and_its_answer_arrive),
        cmocka_unit_test(nobody_there_is_told_to_the_socket),
        cmocka_unit_test(only_the_peer_is_heard),
        cmocka_unit_test(a_wrong_checksum_is_refused_and_none_is_taken_in_ipv4),
        cmocka_unit_test(over_ipv6_it_is_the_same_but_for_a_missing_checksum),
        cmocka_unit_test(sockets_that_are_left_end_with_the_stack),
        cmocka_unit_test(what_nobody_takes_is_bounded),
        cmocka_unit_test(ports_are_drawn_at_random_and_never_twice),
        cmocka_unit_test(when_all_ports_are_taken_there_is_none),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(what_comes_to_the_wrong_shard_finds_its_socket_or_is_refused),
        cmocka_unit_test(beyond_the_bound_what_another_shard_may_want_is_dropped_and_not_refused),
        cmocka_unit_test(an_error_at_the_wrong_shard_finds_the_socket_that_it_quotes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
