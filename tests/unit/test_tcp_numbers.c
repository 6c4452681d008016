#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

/* What must not be guessed: initial sequence numbers (RFC 6528) and source ports (RFC 6056). */

#define PORTS_FIRST 40000u

static struct net_peer peer;

/* ---- initial sequence numbers ---- */

static struct tcp_tuple tuple_of(uint32_t remote, uint16_t local_port, uint16_t remote_port)
{
    return (struct tcp_tuple){.local = ip_address_of_ipv4(htonl(0x0a000001)),
                              .remote = ip_address_of_ipv4(htonl(remote)),
                              .local_port = local_port,
                              .remote_port = remote_port};
}

static uint32_t number_of(const struct tcp_tuple *tuple)
{
    return tcp_initial_sequence(peer.stack, tuple);
}

static void the_number_of_a_tuple_grows_by_one_in_four_microseconds(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    const struct tcp_tuple tuple = tuple_of(0x0a000002, 50000, 25);
    uint32_t first = number_of(&tuple);
    assert_int_equal(number_of(&tuple), first); /* nothing but time moves it */
    peer.stack->now_ns += 4000;
    assert_int_equal(number_of(&tuple) - first, 1);
    peer.stack->now_ns += 60 * SECOND_NS;
    assert_int_equal(number_of(&tuple) - first, 1 + 60 * 250000);
    net_peer_close(&peer);
}

/* The difference between two tuples must not be that of two others, nor be small. */
static void the_number_of_one_tuple_tells_nothing_of_anothers(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    const struct tcp_tuple tuples[] = {
        tuple_of(0x0a000002, 50000, 25), tuple_of(0x0a000002, 50001, 25),
        tuple_of(0x0a000002, 50000, 26), tuple_of(0x0a000003, 50000, 25),
        tuple_of(0x0a000002, 25, 50000), tuple_of(0x0b000002, 50000, 25)};
    for (size_t i = 0; i < RTE_DIM(tuples); i++) {
        for (size_t j = 0; j < i; j++) {
            int32_t apart = (int32_t)(number_of(&tuples[i]) - number_of(&tuples[j]));
            assert_true(abs(apart) > 1 << 16);
        }
    }
    uint32_t ports = number_of(&tuples[1]) - number_of(&tuples[0]);
    const struct tcp_tuple other[] = {tuple_of(0x0a000003, 50000, 25),
                                      tuple_of(0x0a000003, 50001, 25)};
    assert_int_not_equal(number_of(&other[1]) - number_of(&other[0]), ports);
    net_peer_close(&peer);
}

/* Of 4096 tuples that differ in the port alone each bit is set about as often as not. */
static void numbers_of_neighbouring_ports_look_random(void **state)
{
    (void)state;
    unsigned ones[32] = {0};
    net_peer_open(&peer, NULL);
    for (uint32_t i = 0; i < 4096; i++) {
        const struct tcp_tuple tuple = tuple_of(0x0a000002, (uint16_t)(40000 + i), 25);
        for (unsigned bit = 0; bit < 32; bit++) {
            ones[bit] += number_of(&tuple) >> bit & 1;
        }
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        assert_in_range(ones[bit], 2048 - 200, 2048 + 200); /* six deviations */
    }
    net_peer_close(&peer);
}

static void with_another_secret_the_number_is_another(void **state)
{
    (void)state;
    const struct tcp_tuple tuple = tuple_of(0x0a000002, 50000, 25);
    uint32_t numbers[4];
    net_peer_open(&peer, NULL);
    for (size_t i = 0; i < RTE_DIM(numbers); i++) {
        world_random(&peer.world.world, &peer.stack->tcp.isn_key, sizeof(struct siphash_key));
        numbers[i] = number_of(&tuple);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(numbers[i], numbers[j]);
        }
    }
    net_peer_close(&peer);
}

static void the_next_connection_of_a_tuple_begins_higher_in_both_directions(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    uint32_t last = 0;
    for (unsigned i = 0; i < 5; i++) { /* passive, from the same port each time */
        struct net_segment syn = {.seq = 1000 + i * 100000};
        uint32_t iss = net_peer_shake_hands(&peer, &syn).seq;
        assert_true(i == 0 || seq_before(last, iss));
        last = iss;
        stream_abort(net_peer_last(&peer)->stream);
        net_peer_wait(&peer, 100000);
        net_peer_forget(&peer);
    }
    for (unsigned i = 0; i < 5; i++) { /* and active */
        struct connect_request request = {0};
        struct stream *stream;
        assert_int_equal(endpoint_parse(&request.to, slice_text("10.0.0.2:25")), 0);
        assert_int_equal(endpoint_parse(&request.from, slice_text("10.0.0.1:50000")), 0);
        assert_int_equal(peer.network->ops->connect(peer.network, &request, &stream), 0);
        net_peer_round(&peer);
        uint32_t iss = net_peer_expect(&peer, TCP_SYN).seq;
        assert_true(i == 0 || seq_before(last, iss));
        last = iss;
        stream_release(stream);
        net_peer_wait(&peer, 100000);
    }
    net_peer_close(&peer);
}

/* ---- ports ---- */

static void open_ports(uint32_t count)
{
    const struct stack_limits limits = {.port_first = PORTS_FIRST,
                                        .port_last = (uint16_t)(PORTS_FIRST + count - 1)};
    net_peer_open(&peer, &limits);
}

/* The source port of a connection to a host of this network; 0: none was left. */
static uint16_t port_to(const char *to, struct stream **stream)
{
    struct connect_request request = {0};
    assert_int_equal(endpoint_parse(&request.to, slice_text(to)), 0);
    int status = peer.network->ops->connect(peer.network, &request, stream);
    assert_true(status == 0 || status == -EADDRNOTAVAIL);
    return status < 0 ? 0 : ((struct tcp_conn *)*stream)->tuple.local_port;
}

static void every_port_of_the_range_is_found_when_it_is_needed(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static struct stream *streams[COUNT];
    bool taken[COUNT] = {false};
    open_ports(COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        uint16_t port = port_to("10.0.0.2:25", &streams[i]);
        assert_in_range(port, PORTS_FIRST, PORTS_FIRST + COUNT - 1);
        assert_false(taken[port - PORTS_FIRST]);
        taken[port - PORTS_FIRST] = true;
    }
    struct stream *stream;
    assert_int_equal(port_to("10.0.0.2:25", &stream), 0);
    assert_true(port_to("10.0.0.2:26", &stream) != 0); /* to others they are free */
    stream_release(stream);
    stream_release(streams[77]); /* a SYN without data leaves nothing behind */
    net_peer_round(&peer);
    assert_true(port_to("10.0.0.2:25", &stream) != 0);
    stream_release(stream);
    for (unsigned i = 0; i < COUNT; i++) {
        if (i != 77) {
            stream_release(streams[i]);
        }
    }
    net_peer_close(&peer);
}

/* The counters of RFC 6056 §3.3.4 have 16 bits, which no range divides. */
static void one_free_port_is_found_wherever_the_counter_stands(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct stream *streams[COUNT];
    open_ports(COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(port_to("10.0.0.2:25", &streams[i]) != 0);
    }
    for (uint32_t step = 65536 - 2 * COUNT; step < 65536 + COUNT; step += 7) {
        for (unsigned i = 0; i < RTE_DIM(peer.stack->tcp.port_steps); i++) {
            peer.stack->tcp.port_steps[i] = (uint16_t)step;
        }
        unsigned which = step * 37 % COUNT;
        stream_release(streams[which]);
        net_peer_round(&peer);
        assert_true(port_to("10.0.0.2:25", &streams[which]) != 0);
        net_peer_forget(&peer);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        stream_release(streams[i]);
    }
    net_peer_close(&peer);
}

/* Ports to one destination say nothing of those to another, nor of the next start's. */
static void where_ports_begin_is_a_secret_of_each_destination(void **state)
{
    (void)state;
    enum { HOSTS = 200, SIXTEENTHS = 16 };
    unsigned hits[SIXTEENTHS] = {0}, following = 0;
    uint16_t last = 0;
    open_ports(16000);
    for (unsigned host = 2; host < 2 + HOSTS; host++) {
        struct stream *stream;
        char to[32];
        snprintf(to, sizeof(to), "10.0.0.%u:25", host);
        uint16_t port = port_to(to, &stream);
        following += port == last + 1;
        hits[(port - PORTS_FIRST) / 1000]++;
        last = port;
        stream_release(stream);
        net_peer_round(&peer);
        net_peer_forget(&peer);
    }
    for (unsigned i = 0; i < SIXTEENTHS; i++) {
        assert_in_range(hits[i], 1, 40); /* 12.5 in the mean */
    }
    assert_in_range(following, 0, 2);
    net_peer_wait(&peer, 10 * SECOND_NS);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_of_a_tuple_grows_by_one_in_four_microseconds),
        cmocka_unit_test(the_number_of_one_tuple_tells_nothing_of_anothers),
        cmocka_unit_test(numbers_of_neighbouring_ports_look_random),
        cmocka_unit_test(with_another_secret_the_number_is_another),
        cmocka_unit_test(the_next_connection_of_a_tuple_begins_higher_in_both_directions),
        cmocka_unit_test(every_port_of_the_range_is_found_when_it_is_needed),
        cmocka_unit_test(one_free_port_is_found_wherever_the_counter_stands),
        cmocka_unit_test(where_ports_begin_is_a_secret_of_each_destination),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
