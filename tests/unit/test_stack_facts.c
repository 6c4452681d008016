/* What a stack tells of its connections, neighbours and routes. */
#include "engine/net/stack_facts.h"
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define FACTS_MAX 64u

static struct net_peer peer;
static struct tcp_facts facts[FACTS_MAX];
static const struct tcp_facts_filter everything;

/* All pages, `page` at a time. */
static size_t list(const struct tcp_facts_filter *filter, size_t page)
{
    uint32_t cursor = 0;
    size_t count = 0;
    for (unsigned i = 0; cursor != STACK_FACTS_END; i++) {
        assert_true(i < 1000 && count + page <= FACTS_MAX);
        size_t got = stack_tcp_facts(peer.network, filter, &cursor, facts + count, page);
        assert_true(got <= page);
        count += got;
    }
    return count;
}

static void assert_endpoint(const struct endpoint *at, const char *text)
{
    char actual[ENDPOINT_TEXT_MAX];
    endpoint_format(at, actual);
    assert_string_equal(actual, text);
}

static void a_connection_shows_what_its_segments_made_of_it(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    net_peer_write(&peer, "hello");
    net_peer_wait(&peer, 10 * MS_NS);
    const struct tcp_facts_filter established = {.states = 1u << TCP_FACTS_ESTABLISHED};
    assert_int_equal(list(&established, 4), 1);
    assert_endpoint(&facts[0].local, "10.0.0.1:25");
    assert_endpoint(&facts[0].remote, "10.0.0.2:4000");
    assert_true(facts[0].whole && facts[0].timestamps && facts[0].sack);
    assert_int_equal(facts[0].unacked_bytes, 5);
    assert_int_equal(facts[0].send_queue_bytes, 5);
    assert_int_equal(facts[0].bytes_acked, 0);
    assert_int_equal(facts[0].path_mtu, facts[0].mss + 20u + 20u + 12u);
    assert_string_equal(facts[0].congestion, net_peer_conn(&peer)->congestion.ops->name);
    assert_string_equal(facts[0].recovery, "open");
    assert_non_null(facts[0].timer);
    assert_true(facts[0].timer_ms <= facts[0].rto_ms);
    net_peer_send_next(&peer, TCP_ACK);
    struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    data.size = 7;
    net_peer_send(&peer, &data);
    assert_int_equal(list(&established, 4), 1);
    assert_int_equal(facts[0].unacked_bytes, 0);
    assert_int_equal(facts[0].bytes_acked, 5);
    assert_int_equal(facts[0].bytes_received, 7);
    assert_int_equal(facts[0].receive_queue_bytes, 7);
    net_peer_close(&peer);
}

static void listeners_half_open_and_time_wait_are_listed_too(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    stream_shut(net_peer_last(&peer)->stream);
    net_peer_round(&peer);
    net_peer_send_next(&peer, TCP_ACK | TCP_FIN);
    const struct net_segment syn = {.port = 5000, .seq = 1, .flags = TCP_SYN, .window = 1000};
    net_peer_send(&peer, &syn);
    net_peer_let_go(&peer);
    net_peer_round(&peer);
    assert_int_equal(list(&everything, 1), 3);
    assert_int_equal(facts[0].state, TCP_FACTS_LISTEN);
    assert_endpoint(&facts[0].local, "10.0.0.1:25");
    assert_int_equal(facts[1].state, TCP_FACTS_SYN_RECEIVED);
    assert_endpoint(&facts[1].remote, "10.0.0.2:5000");
    assert_int_equal(facts[2].state, TCP_FACTS_TIME_WAIT);
    assert_endpoint(&facts[2].remote, "10.0.0.2:4000");
    assert_string_equal(facts[2].timer, "timewait");
    assert_in_range(facts[2].timer_ms, 59000, 60000);
    net_peer_close(&peer);
}

static void filters_and_pages_pick_what_is_asked_for(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    for (uint16_t i = 0; i < 10; i++) {
        struct net_segment syn = {.port = (uint16_t)(5000 + i)};
        net_peer_shake_hands(&peer, &syn);
    }
    assert_int_equal(list(&everything, 3), 11);
    struct tcp_facts_filter filter = {.remote_port = 5007};
    assert_int_equal(list(&filter, 3), 1);
    filter = (struct tcp_facts_filter){.states = 1u << TCP_FACTS_CLOSE_WAIT};
    assert_int_equal(list(&filter, 3), 0);
    filter = (struct tcp_facts_filter){.local_port = 25, .states = 1u << TCP_FACTS_ESTABLISHED};
    assert_int_equal(list(&filter, 3), 10);
    filter = (struct tcp_facts_filter){0};
    assert_int_equal(network_prefix_parse(&filter.remote, slice_text("10.0.0.2")), 0);
    assert_int_equal(list(&filter, 3), 10);
    assert_int_equal(network_prefix_parse(&filter.remote, slice_text("10.0.1.0/24")), 0);
    assert_int_equal(list(&filter, 3), 0);
    net_peer_close(&peer);
}

static void a_call_looks_at_a_bounded_number_of_places(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    const struct tcp_facts_filter none = {.remote_port = 1};
    uint32_t cursor = 0, calls = 0;
    struct slab *conns = &peer.stack->tcp.conns;
    for (unsigned i = 0; i < 10000; i++) { /* places that were used once */
        assert_int_equal(slab_take(conns), i);
    }
    for (unsigned i = 10000; i > 0; i--) {
        slab_give(conns, i - 1);
    }
    while (cursor != STACK_FACTS_END) {
        assert_int_equal(stack_tcp_facts(peer.network, &none, &cursor, facts, 1), 0);
        calls++;
    }
    assert_in_range(calls, 3, 4);
    net_peer_close(&peer);
}

static void neighbours_show_their_state(void **state)
{
    (void)state;
    struct neighbour_facts neighbours[4];
    uint32_t cursor = 0;
    net_peer_open_plain(&peer);
    assert_int_equal(stack_neighbour_facts(peer.network, &cursor, neighbours, 4), 1);
    assert_int_equal(cursor, STACK_FACTS_END);
    assert_endpoint(&neighbours[0].address, "10.0.0.2:0");
    assert_string_equal(neighbours[0].state, "REACHABLE");
    assert_true(neighbours[0].has_mac);
    assert_int_equal(neighbours[0].mac[5], 2);
    net_peer_wait(&peer, 3600 * SECOND_NS);
    cursor = 0;
    stack_neighbour_facts(peer.network, &cursor, neighbours, 4);
    assert_string_not_equal(neighbours[0].state, "REACHABLE");
    net_peer_close(&peer);
}

static void routes_show_the_networks_of_our_addresses(void **state)
{
    (void)state;
    struct route_facts routes[4];
    uint32_t cursor = 0;
    char to[ENDPOINT_TEXT_MAX];
    net_peer_open(&peer, NULL);
    assert_int_equal(stack_route_facts(peer.network, &cursor, routes, 4), 1);
    assert_int_equal(cursor, STACK_FACTS_END);
    endpoint_format_address(&routes[0].to.address, to);
    assert_string_equal(to, "10.0.0.0");
    assert_int_equal(routes[0].to.length, 24);
    assert_int_equal(routes[0].via.family, ENDPOINT_NONE);
    assert_endpoint(&routes[0].source, "10.0.0.1:0");
    net_peer_close(&peer);
}

static void traces_are_found_by_address(void **state)
{
    (void)state;
    static struct trace_kept copy;
    uint32_t cursor = 0;
    struct tcp_facts_filter filter = {.remote_port = 5001};
    net_peer_open(&peer, NULL);
    for (uint16_t i = 0; i < 3; i++) {
        struct net_segment syn = {.port = (uint16_t)(5000 + i)};
        net_peer_shake_hands(&peer, &syn);
    }
    assert_true(stack_trace_live(peer.network, &filter, &cursor, &copy));
    assert_int_equal(copy.tuple.remote_port, 5001);
    assert_false(stack_trace_live(peer.network, &filter, &cursor, &copy));
    assert_int_equal(cursor, STACK_FACTS_END);
    cursor = 0;
    assert_false(stack_trace_kept(peer.network, &filter, &cursor, &copy));
    net_peer_send_next(&peer, TCP_RST); /* the last: 5002 */
    cursor = 0;
    assert_false(stack_trace_kept(peer.network, &filter, &cursor, &copy));
    filter.remote_port = 5002;
    cursor = 0;
    assert_true(stack_trace_kept(peer.network, &filter, &cursor, &copy));
    assert_int_equal(copy.reason, TRACE_FAILED);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_shows_what_its_segments_made_of_it),
        cmocka_unit_test(listeners_half_open_and_time_wait_are_listed_too),
        cmocka_unit_test(filters_and_pages_pick_what_is_asked_for),
        cmocka_unit_test(a_call_looks_at_a_bounded_number_of_places),
        cmocka_unit_test(neighbours_show_their_state),
        cmocka_unit_test(routes_show_the_networks_of_our_addresses),
        cmocka_unit_test(traces_are_found_by_address),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
