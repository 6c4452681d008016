/* One port, several shards: each connection finds its shard, whatever the port's hash is like. */
#include "engine/net/checksum.h"
#include "engine/net/port_deal.h"
#include "tests/unit/net_shards.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void every_connection_finds_its_shard_whatever_the_hash(void **state)
{
    (void)state;
    for (unsigned shard_count = 1; shard_count <= NET_SHARDS_MAX; shard_count *= 2) {
        for (enum net_shards_hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
            net_shards_open(shard_count, hash, false);
            net_shards_converse();
            net_shards_run(10 * SECOND_NS);
            net_shards_all_said();
            bool home = shard_count == 1 || hash == HASH_AGREES;
            assert_int_equal(NET_SHARDS_SUM(tcp_handed_over) > 0, !home);
            assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), NET_SHARDS_SUM(tcp_taken_over));
            assert_int_equal(NET_SHARDS_SUM(tcp_out_resets), 0);
            for (unsigned i = 0; i < shard_count; i++) { /* and all of them work */
                assert_true(stack_counters(net_shards.shards[i].network)->tcp_passive_opens > 0);
            }
            net_shards_close();
        }
    }
}

static void a_hash_that_lies_is_found_out_by_those_who_see_it(void **state)
{
    (void)state;
    net_shards_open(4, HASH_IS_ANOTHER, false);
    net_shards_converse();
    net_shards_run(SECOND_NS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(stack_of(net_shards.shards[i].network)->rss.mode, RSS_UNKNOWN);
    }
    net_shards_close();
}

static void a_hash_that_agrees_is_proven_to_all(void **state)
{
    (void)state;
    net_shards_open(4, HASH_AGREES, false);
    net_shards_converse();
    net_shards_run(SECOND_NS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(stack_of(net_shards.shards[i].network)->rss.mode, RSS_PROVEN);
    }
    net_shards_run(10 * SECOND_NS);
    net_shards_all_said();
    assert_int_equal(NET_SHARDS_SUM(tcp_hand_overs_lost), 0);
    net_shards_close();
}

static void through_one_queue_frames_are_dealt_to_their_shards(void **state)
{
    (void)state;
    for (unsigned shard_count = 2; shard_count <= NET_SHARDS_MAX; shard_count *= 2) {
        struct port_deal_counters counters;
        uint64_t dealt = 0;
        net_shards_open(shard_count, HASH_AGREES, true);
        net_shards_converse();
        net_shards_run(10 * SECOND_NS);
        net_shards_all_said();
        assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), 0);
        for (unsigned i = 0; i < shard_count; i++) {
            port_deal_counters(net_shards.dealt, (uint16_t)i, &counters);
            dealt += counters.dealt;
            assert_int_equal(counters.dealt_lost, 0);
            assert_true(stack_counters(net_shards.shards[i].network)->tcp_passive_opens > 0);
        }
        assert_true(dealt > 1000);
        net_shards_close();
    }
}

/* ---- ICMP errors ---- */

static void inject_unreachable(const struct tcp_conn *conn)
{
    uint8_t frame[ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + TCP_HEADER_BYTES] = {
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(ip + 1);
    struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(icmp + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
    struct ip_address router = ip_address_of_ipv4(htonl(0x0a000009));
    uint16_t bytes = (uint16_t)(sizeof(frame) - ETH_BYTES - IPV4_BYTES);
    ipv4_header_fill(ip, &router, &conn->tuple.local, IPPROTO_ICMP, bytes);
    ipv4_header_fill(quoted, &conn->tuple.local, &conn->tuple.remote, IPPROTO_TCP,
                     TCP_HEADER_BYTES);
    tcp->src_port = htons(conn->tuple.local_port);
    tcp->dst_port = htons(conn->tuple.remote_port);
    tcp->sent_seq = htonl(conn->iss);
    icmp->icmp_type = 3;
    icmp->icmp_code = 3;
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, bytes));
    net_link_inject(&net_shards.link, 0, frame, sizeof(frame));
}

static bool drop_all(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    (void)side;
    (void)size;
    return frame[12] == 8 && frame[13] == 6; /* but ARP */
}

static void an_icmp_error_finds_the_connection_that_it_quotes(void **state)
{
    (void)state;
    for (enum net_shards_hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
        net_shards_open(4, hash, false);
        net_shards.link.ports[1].filter = drop_all;
        for (unsigned i = 0; i < 4; i++) {
            net_talker_open(&net_shards_talkers[0][i], &net_shards.world, 7, 0, 100, 100);
            struct stream *stream = net_shards_call(net_shards.shards[i].network, "10.0.0.2:26");
            net_talker_attach(&net_shards_talkers[0][i], stream);
            net_shards_run(10 * MS_NS);
            inject_unreachable((struct tcp_conn *)stream);
            net_shards_run(10 * MS_NS);
            assert_true(net_shards_talkers[0][i].closed);
            assert_int_equal(net_shards_talkers[0][i].error, -ECONNREFUSED);
        }
        assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), 3); /* one lived where they arrive */
        assert_int_equal(NET_SHARDS_SUM(tcp_taken_over), 3);
        /* One of nobody's is looked at by all, and that is all. */
        struct tcp_conn nobody = {.tuple = {.local = ip_address_of_ipv4(htonl(0x0a000001)),
                                            .remote = ip_address_of_ipv4(htonl(0x0a000002)),
                                            .local_port = 7,
                                            .remote_port = 8}};
        inject_unreachable(&nobody);
        net_shards_run(10 * MS_NS);
        assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), 4);
        assert_int_equal(NET_SHARDS_SUM(tcp_taken_over), 3);
        assert_int_equal(NET_SHARDS_SUM(icmp_in_errors), 1);
        net_shards_close();
    }
}

/* ---- a flood on one shard ---- */

#define STRAY_BYTES (ETH_BYTES + IPV4_BYTES + TCP_HEADER_BYTES)

/* An acknowledgement of no connection, from anybody. */
static void stray_make(uint8_t *frame, uint16_t port, uint64_t *dice)
{
    static const uint8_t ethernet[ETH_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000003 + net_random_below(dice, 200)));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001));
    memset(frame, 0, STRAY_BYTES);
    memcpy(frame, ethernet, ETH_BYTES);
    ipv4_header_fill(ip, &from, &to, IPPROTO_TCP, TCP_HEADER_BYTES);
    tcp->src_port = htons((uint16_t)(1024 + net_random_below(dice, 60000)));
    tcp->dst_port = htons(port);
    tcp->data_off = 5 << 4;
    tcp->tcp_flags = TCP_ACK;
    tcp->sent_seq = (uint32_t)net_random(dice);
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(TCP_HEADER_BYTES);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, TCP_HEADER_BYTES));
}

static void stray_to(unsigned queue, uint64_t *dice)
{
    uint8_t frame[STRAY_BYTES];
    stray_make(frame, (uint16_t)(32768 + net_random_below(dice, 28000)), dice);
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(net_shards_pools[0]);
    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, sizeof(frame)), frame, sizeof(frame));
    net_shards_put(queue, mbuf);
}

static void where_the_hash_is_proven_strays_are_reset_at_home(void **state)
{
    (void)state;
    uint8_t frame[STRAY_BYTES];
    uint64_t dice = 3;
    net_shards_open(4, HASH_AGREES, false);
    net_shards_converse();
    net_shards_run(20 * SECOND_NS);
    net_shards_all_said();
    for (unsigned i = 0; i < 100; i++) {
        stray_make(frame, 26, &dice);
        net_link_inject(&net_shards.link, 0, frame, sizeof(frame));
    }
    net_shards_run(10 * MS_NS);
    assert_int_equal(NET_SHARDS_SUM(tcp_out_resets), 100);
    assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), 0);
    /* What could be of an outgoing connection is asked for nevertheless. */
    stray_make(frame, 40000, &dice);
    net_link_inject(&net_shards.link, 0, frame, sizeof(frame));
    net_shards_run(10 * MS_NS);
    assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), 1);
    assert_int_equal(NET_SHARDS_SUM(tcp_out_resets), 101);
    net_shards_close();
}

static void a_flood_on_one_shard_leaves_the_others_alone(void **state)
{
    (void)state;
    for (enum net_shards_hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
        uint64_t dice = 1;
        net_shards_open(4, hash, false);
        net_shards_converse();
        uint64_t start_ns = net_shards.world.now_ns;
        for (unsigned i = 0; i < 2000; i++) {
            for (unsigned j = 0; j < 100; j++) { /* a million in a second */
                stray_to(1, &dice);
            }
            net_shards_run(100000);
        }
        uint64_t passed_ms = (net_shards.world.now_ns - start_ns) / MS_NS;
        const struct stack_counters *flooded = stack_counters(net_shards.shards[1].network);
        assert_true(flooded->tcp_hand_overs_lost > 100000);
        /* Each of the others has looked at no more than this. */
        assert_in_range(flooded->tcp_handed_over, 1, passed_ms * 200 + 2000);
        net_shards_run(100 * SECOND_NS);
        net_shards_all_said();
        net_shards_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_connection_finds_its_shard_whatever_the_hash),
        cmocka_unit_test(a_hash_that_lies_is_found_out_by_those_who_see_it),
        cmocka_unit_test(a_hash_that_agrees_is_proven_to_all),
        cmocka_unit_test(where_the_hash_is_proven_strays_are_reset_at_home),
        cmocka_unit_test(through_one_queue_frames_are_dealt_to_their_shards),
        cmocka_unit_test(an_icmp_error_finds_the_connection_that_it_quotes),
        cmocka_unit_test(a_flood_on_one_shard_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, net_shards_set_up, net_shards_tear_down);
}
