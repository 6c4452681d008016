#include "engine/net/tcp_mtu.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECOND 1000000000ull
#define MINUTE (60 * SECOND)
#define HEADERS 52u /* IPv4, TCP and its timestamp */

/* ---- the search ---- */

static struct tcp_mtu_search search;

/* Probes until there is none any more, on a path that takes `path`; returns how many were lost. */
static unsigned search_through(uint16_t path, uint64_t now_ns)
{
    unsigned lost = 0;
    uint16_t size;
    while ((size = tcp_mtu_search_next(&search, now_ns)) != 0) {
        tcp_mtu_search_sent(&search, 1, size);
        assert_int_equal(tcp_mtu_search_next(&search, now_ns), 0); /* one at a time */
        if (size <= path) {
            tcp_mtu_search_arrived(&search, now_ns);
        } else {
            tcp_mtu_search_lost(&search, now_ns);
            lost++;
        }
        assert_in_range(search.low, 0, path);
        assert_in_range(lost, 0, 40);
    }
    return lost;
}

static void a_path_as_wide_as_the_link_is_never_probed(void **state)
{
    (void)state;
    tcp_mtu_search_open(&search, 1448, 1448, SECOND);
    assert_int_equal(tcp_mtu_search_next(&search, 1000 * MINUTE), 0);
}

static void any_size_is_found_within_a_few_bytes(void **state)
{
    (void)state;
    for (uint16_t path = 496; path <= 1448; path++) {
        tcp_mtu_search_open(&search, 1448, 1448, SECOND);
        tcp_mtu_search_black_hole(&search, 496, SECOND);
        search_through(path, SECOND);
        assert_in_range(path - search.low, 0, 16);
    }
}

static void what_was_an_outage_costs_one_probe(void **state)
{
    (void)state;
    tcp_mtu_search_open(&search, 1448, 1448, SECOND);
    tcp_mtu_search_black_hole(&search, 1228, SECOND);
    assert_int_equal(tcp_mtu_search_next(&search, SECOND), 1448);
    assert_int_equal(search_through(1448, SECOND), 0);
    assert_int_equal(search.low, 1448);
}

static void a_probe_that_was_lost_by_chance_is_tried_again(void **state)
{
    (void)state;
    tcp_mtu_search_open(&search, 1448, 1448, SECOND);
    tcp_mtu_search_black_hole(&search, 1228, SECOND);
    for (unsigned i = 0; i < 2; i++) {
        tcp_mtu_search_sent(&search, 1, tcp_mtu_search_next(&search, SECOND));
        tcp_mtu_search_lost(&search, SECOND);
    }
    assert_int_equal(tcp_mtu_search_next(&search, SECOND), 1448);
    tcp_mtu_search_sent(&search, 1, 1448);
    tcp_mtu_search_lost(&search, SECOND); /* the third is believed */
    assert_in_range(tcp_mtu_search_next(&search, SECOND), 1300, 1400);
}

static void a_routers_word_is_kept_for_ten_minutes(void **state)
{
    (void)state;
    tcp_mtu_search_open(&search, 1448, 1448, SECOND);
    tcp_mtu_search_told(&search, 1348, SECOND);
    assert_int_equal(search.low, 1348);
    assert_int_equal(tcp_mtu_search_next(&search, 10 * MINUTE), 0);
    assert_int_equal(tcp_mtu_search_next(&search, 10 * MINUTE + SECOND), 1448);
    search_through(1348, 10 * MINUTE + SECOND); /* it still holds */
    assert_in_range(search.low, 1333, 1348);
    search_through(1448, 21 * MINUTE);
    assert_int_equal(search.low, 1448); /* and now it does not */
}

static void the_plateaus_go_down_to_what_every_host_takes(void **state)
{
    (void)state;
    assert_int_equal(tcp_mtu_plateau(9000), 8166);
    assert_int_equal(tcp_mtu_plateau(1500), 1492);
    assert_int_equal(tcp_mtu_plateau(1492), 1280);
    assert_int_equal(tcp_mtu_plateau(576), 576);
}

static void the_cache_forgets_by_age_and_the_oldest_of_a_full_set(void **state)
{
    (void)state;
    static struct tcp_mtu_cache cache;
    for (uint32_t i = 0; i < 5; i++) {
        struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001 + i));
        tcp_mtu_cache_keep(&cache, &to, 7, (uint16_t)(1300 + i), SECOND + i);
        assert_int_equal(tcp_mtu_cache_find(&cache, &to, 7, SECOND + i), 1300 + i);
    }
    struct ip_address first = ip_address_of_ipv4(htonl(0x0a000001));
    struct ip_address second = ip_address_of_ipv4(htonl(0x0a000002));
    assert_int_equal(tcp_mtu_cache_find(&cache, &first, 7, SECOND), 0);
    assert_int_equal(tcp_mtu_cache_find(&cache, &second, 7, 10 * MINUTE + SECOND), 1301);
    assert_int_equal(tcp_mtu_cache_find(&cache, &second, 7, 10 * MINUTE + SECOND + 1), 0);
    tcp_mtu_cache_keep(&cache, &second, 7, 1200, 2 * SECOND);
    assert_int_equal(tcp_mtu_cache_find(&cache, &second, 7, 2 * SECOND), 1200);
}

/* ---- connections ---- */

static struct rte_mempool *pools[2];

struct path {
    struct net_pair pair;
    struct net_talker talkers[2];
    uint16_t mtu;    /* of a link between */
    bool tells;      /* by ICMP */
    unsigned narrow; /* frames that it did not take */
};

static struct path path;

/* RFC 792, RFC 1191: a router's word, quoting the header and 8 bytes. */
static void tell(const uint8_t *frame)
{
    uint8_t answer[ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + 8];
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(answer + ETH_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(ip + 1);
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000002));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001));
    memcpy(answer, frame + 6, 6);
    memcpy(answer + 6, frame, 6);
    memcpy(answer + 12, frame + 12, 2);
    ipv4_header_fill(ip, &from, &to, IPPROTO_ICMP, 8 + IPV4_BYTES + 8);
    *icmp = (struct rte_icmp_hdr){.icmp_type = 3, .icmp_code = 4, .icmp_seq_nb = htons(path.mtu)};
    memcpy(icmp + 1, frame + ETH_BYTES, IPV4_BYTES + 8);
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, 8 + IPV4_BYTES + 8));
    net_link_inject(&path.pair.link, 0, answer, sizeof(answer));
}

static bool narrow(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    if (side != 0 || size <= ETH_BYTES + path.mtu) {
        return true;
    }
    path.narrow++;
    if (path.tells) {
        tell(frame);
    }
    return false;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    net_talker_attach(&path.talkers[1], stream);
}

static void path_open(uint16_t mtu, bool tells)
{
    struct listener *listener;
    const struct net_pair_settings settings = {
        .seed = 3, .faults = {.delay_ns = 5000000}, .tx_segments = {true, true}};
    memset(&path, 0, sizeof(path));
    path.mtu = mtu;
    path.tells = tells;
    net_pair_open(&path.pair, &settings, pools);
    path.pair.link.ports[0].filter = narrow;
    struct network *server = path.pair.hosts[1].network;
    const struct listen_request request = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    assert_int_equal(server->ops->listen(server, &request, &listener), 0);
}

static struct tcp_conn *path_connect(uint64_t bytes)
{
    struct network *client = path.pair.hosts[0].network;
    const struct connect_request request = {.to = net_endpoint("10.0.0.2:25")};
    struct stream *stream;
    for (unsigned side = 0; side < 2; side++) {
        net_talker_open(&path.talkers[side], &path.pair.world, 5, side, side == 0 ? bytes : 0,
                        side == 0 ? 0 : bytes);
    }
    assert_int_equal(client->ops->connect(client, &request, &stream), 0);
    net_talker_attach(&path.talkers[0], stream);
    return (struct tcp_conn *)stream;
}

static bool path_run(uint64_t for_ns)
{
    uint64_t until_ns = path.pair.world.now_ns + for_ns;
    while (path.pair.world.now_ns < until_ns &&
           !(net_talker_done(&path.talkers[0]) && net_talker_done(&path.talkers[1]))) {
        net_pair_step(&path.pair, until_ns);
    }
    return net_talker_done(&path.talkers[0]) && net_talker_done(&path.talkers[1]) &&
           !path.talkers[1].wrong;
}

static const struct stack_counters *counters(void)
{
    return stack_counters(path.pair.hosts[0].network);
}

static void path_close(void)
{
    net_pair_run(&path.pair, 200 * SECOND);
    net_pair_close(&path.pair);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), 0);
}

/* Runs until a byte was acknowledged that was written after the handshake's window; the size then. */
static uint16_t size_after(struct tcp_conn *conn, uint64_t for_ns)
{
    net_pair_run(&path.pair, for_ns);
    return conn->mss;
}

static void a_routers_word_costs_neither_a_timeout_nor_the_window(void **state)
{
    (void)state;
    path_open(1400, true);
    struct tcp_conn *conn = path_connect(3000000);
    uint16_t size = size_after(conn, SECOND / 10);
    assert_int_equal(size, 1400 - HEADERS);
    assert_int_equal(conn->congestion.ssthresh, UINT32_MAX);
    assert_true(path_run(20 * SECOND));
    assert_int_equal(counters()->tcp_timeouts, 0);
    assert_int_equal(counters()->tcp_mtu_told, 1);
    assert_int_equal(counters()->tcp_mtu_probes, 0);
    path_close();
}

static void what_was_found_is_known_to_the_next_connection(void **state)
{
    (void)state;
    path_open(1400, true);
    path_connect(300000);
    assert_true(path_run(20 * SECOND));
    unsigned told = path.narrow;
    path_connect(300000);
    assert_true(path_run(20 * SECOND));
    assert_int_equal(path.narrow, told);
    net_pair_run(&path.pair, 10 * MINUTE); /* and then forgotten */
    path_connect(300000);
    assert_true(path_run(20 * SECOND));
    assert_true(path.narrow > told);
    path_close();
}

/* RFC 2923 §2.1. */
static void where_routers_are_silent_the_size_is_searched(void **state)
{
    (void)state;
    path_open(1390, false);
    struct tcp_conn *conn = path_connect(6000000);
    uint16_t size = size_after(conn, 10 * SECOND);
    assert_int_equal(counters()->tcp_mtu_black_holes, 1);
    assert_in_range(size, 1390 - HEADERS - 16, 1390 - HEADERS);
    assert_true(path_run(60 * SECOND));
    uint64_t timeouts = counters()->tcp_timeouts;
    path_connect(300000); /* remembered */
    assert_true(path_run(20 * SECOND));
    assert_int_equal(counters()->tcp_timeouts, timeouts);
    path_close();
}

static void a_path_narrower_than_any_guess_still_carries(void **state)
{
    (void)state;
    path_open(600, false);
    path_connect(100000);
    assert_true(path_run(120 * SECOND));
    assert_true(counters()->tcp_mtu_black_holes >= 2);
    path_close();
}

/* The round trip was measured when a queue was full: there is no time for five timeouts of a minute. */
static void a_narrow_path_is_found_before_the_connection_is_given_up(void **state)
{
    (void)state;
    path_open(600, false);
    struct tcp_conn *conn = path_connect(100000);
    while (conn->state == TCP_SYN_SENT) {
        net_pair_run(&path.pair, SECOND / 10000);
    }
    conn->rto_ms = 60000;
    assert_true(path_run(400 * SECOND));
    path_close();
}

static void probes_that_are_lost_do_not_slow_down(void **state)
{
    (void)state;
    path_open(1390, false);
    struct tcp_conn *conn = path_connect(8000000);
    net_pair_run(&path.pair, 10 * SECOND);
    uint64_t before = counters()->tcp_fast_retransmits;
    assert_true(counters()->tcp_mtu_probes_lost >= 3);
    assert_int_equal(conn->recovery, TCP_OPEN);
    assert_true(before <= 1);
    assert_true(path_run(60 * SECOND));
    path_close();
}

static void a_path_that_has_become_wider_is_used_after_ten_minutes(void **state)
{
    (void)state;
    path_open(1400, true);
    struct tcp_conn *conn = path_connect(200000000);
    assert_int_equal(size_after(conn, SECOND / 10), 1400 - HEADERS);
    path.mtu = 1500;
    conn->mtu.next_ns = path.pair.world.now_ns + SECOND; /* so much later */
    assert_int_equal(size_after(conn, SECOND / 2), 1400 - HEADERS);
    assert_int_equal(size_after(conn, SECOND), 1500 - HEADERS);
    assert_int_equal(counters()->tcp_mtu_probes, 1);
    stream_abort(&conn->stream);
    net_pair_run(&path.pair, SECOND);
    net_talker_go(&path.talkers[0]);
    net_talker_go(&path.talkers[1]);
    path_close();
}

/* RFC 1191 §6.3. What the first word is about is all that was sent, and the window stays: nothing
 * waits for a timeout, or for more words. */
static void all_that_was_too_large_goes_again_at_once_with_records_and_without(void **state)
{
    (void)state;
    for (unsigned records = 0; records < 2; records++) {
        path_open(1400, true);
        struct tcp_conn *conn = path_connect(14000);
        while (conn->mss != 1400 - HEADERS) {
            net_pair_step(&path.pair, UINT64_MAX);
            if (records == 0 && conn->rack != NULL) {
                tcp_rack_give(conn); /* as if all were in use */
            }
        }
        net_pair_step(&path.pair, path.pair.world.now_ns + 1000);
        assert_int_equal(conn->snd_max - conn->snd_una, 14001); /* with the FIN */
        assert_int_equal(conn->snd_nxt, conn->snd_max);
        assert_int_equal(counters()->tcp_retransmitted_segments, (14000 + 1347) / 1348);
        uint64_t began_ns = path.pair.world.now_ns;
        assert_true(path_run(SECOND));
        assert_in_range(path.pair.world.now_ns - began_ns, 0, 60000000); /* and the FINs */
        assert_int_equal(counters()->tcp_timeouts + counters()->tcp_fast_retransmits, 0);
        assert_int_equal(conn->congestion.ssthresh, UINT32_MAX);
        path_close();
    }
}

/* A router's word about a probe says nothing against the segments beside it. */
static void of_what_is_larger_than_told_only_the_probe_goes_again(void **state)
{
    (void)state;
    path_open(1400, true);
    struct tcp_conn *conn = path_connect(200000000);
    assert_int_equal(size_after(conn, SECOND / 10), 1400 - HEADERS);
    net_pair_run(&path.pair, SECOND);
    uint64_t again = counters()->tcp_retransmitted_segments;
    path.mtu = 1450;
    conn->mtu.next_ns = path.pair.world.now_ns;
    while (counters()->tcp_mtu_told < 2) {
        net_pair_step(&path.pair, UINT64_MAX);
    }
    net_pair_run(&path.pair, SECOND);
    assert_int_equal(counters()->tcp_retransmitted_segments - again, 2); /* the probe in pieces */
    assert_in_range(conn->mss, 1450 - HEADERS - 16, 1450 - HEADERS);
    assert_int_equal(counters()->tcp_timeouts, 0);
    stream_abort(&conn->stream);
    net_pair_run(&path.pair, SECOND);
    net_talker_go(&path.talkers[0]);
    net_talker_go(&path.talkers[1]);
    path_close();
}

/* Its sequence is one longer than a segment's payload. */
static void a_full_segment_with_a_fin_is_no_probe(void **state)
{
    (void)state;
    path_open(1400, true);
    path_connect(100000);
    assert_true(path_run(10 * SECOND));
    path_connect(1348);
    assert_true(path_run(10 * SECOND));
    assert_int_equal(counters()->tcp_mtu_probes, 0);
    path_close();
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
        cmocka_unit_test(a_path_as_wide_as_the_link_is_never_probed),
        cmocka_unit_test(any_size_is_found_within_a_few_bytes),
        cmocka_unit_test(what_was_an_outage_costs_one_probe),
        cmocka_unit_test(a_probe_that_was_lost_by_chance_is_tried_again),
        cmocka_unit_test(a_routers_word_is_kept_for_ten_minutes),
        cmocka_unit_test(the_plateaus_go_down_to_what_every_host_takes),
        cmocka_unit_test(the_cache_forgets_by_age_and_the_oldest_of_a_full_set),
        cmocka_unit_test(a_routers_word_costs_neither_a_timeout_nor_the_window),
        cmocka_unit_test(what_was_found_is_known_to_the_next_connection),
        cmocka_unit_test(where_routers_are_silent_the_size_is_searched),
        cmocka_unit_test(a_path_narrower_than_any_guess_still_carries),
        cmocka_unit_test(a_narrow_path_is_found_before_the_connection_is_given_up),
        cmocka_unit_test(probes_that_are_lost_do_not_slow_down),
        cmocka_unit_test(a_path_that_has_become_wider_is_used_after_ten_minutes),
        cmocka_unit_test(all_that_was_too_large_goes_again_at_once_with_records_and_without),
        cmocka_unit_test(of_what_is_larger_than_told_only_the_probe_goes_again),
        cmocka_unit_test(a_full_segment_with_a_fin_is_no_probe),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
