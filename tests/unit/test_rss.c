#include "engine/net/rss.h"
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* The verification suite that Microsoft publishes with the definition of RSS. */
static const uint8_t published_key[40] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

static struct rss_tuple tuple_of(const char *source, uint16_t source_port, const char *target,
                                 uint16_t target_port)
{
    struct rss_tuple tuple = {.source_port = source_port, .target_port = target_port};
    tuple.ipv6 = strchr(source, ':') != NULL;
    int family = tuple.ipv6 ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(family, source, tuple.source), 1);
    assert_int_equal(inet_pton(family, target, tuple.target), 1);
    return tuple;
}

static void claim_published(struct rss *rss, uint16_t queue_count)
{
    uint16_t table[128];
    for (unsigned i = 0; i < 128; i++) {
        table[i] = (uint16_t)(i % queue_count);
    }
    rss_init(rss, queue_count);
    assert_int_equal(rss_claim(rss, published_key, sizeof(published_key), table, 128), 0);
}

static void hash_agrees_with_the_published_verification_suite(void **state)
{
    (void)state;
    static const struct {
        const char *source, *target;
        uint16_t source_port, target_port;
        uint32_t by_address, by_ports;
    } rows[] = {
        {"66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178},
        {"199.92.111.2", "65.69.140.83", 14230, 4739, 0xd718262a, 0xc626b0ea},
        {"24.19.198.95", "12.22.207.184", 12898, 38024, 0xd2d0a5de, 0x5c2b394a},
        {"38.27.205.30", "209.142.163.6", 48228, 2217, 0x82989176, 0xafc7327f},
        {"153.39.163.191", "202.188.127.2", 44251, 1303, 0x5d1809c5, 0x10e828a2},
        {"3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5, 0x40207d3d},
        {"3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0x0f0c461c, 0xdde51bbf},
    };
    struct rss rss;
    claim_published(&rss, 2);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rss_tuple tuple =
            tuple_of(rows[i].source, rows[i].source_port, rows[i].target, rows[i].target_port);
        assert_int_equal(rss_hash(&rss, &tuple), rows[i].by_ports);
        tuple.source_port = tuple.target_port = 0;
        assert_int_equal(rss_hash(&rss, &tuple), rows[i].by_address);
    }
}

static void both_directions_hash_alike_with_the_symmetric_key(void **state)
{
    (void)state;
    struct rss rss;
    rss_init(&rss, 4);
    struct rss_tuple out = tuple_of("192.0.2.1", 40000, "198.51.100.7", 25);
    struct rss_tuple back = tuple_of("198.51.100.7", 25, "192.0.2.1", 40000);
    assert_int_equal(rss_hash(&rss, &out), rss_hash(&rss, &back));
    struct rss_tuple other = tuple_of("192.0.2.1", 40001, "198.51.100.7", 25);
    assert_int_not_equal(rss_hash(&rss, &out), rss_hash(&rss, &other));
}

static void every_queue_is_reached_by_some_source_port_close_by(void **state)
{
    (void)state;
    struct rss rss;
    rss_init(&rss, 8);
    for (uint16_t wanted = 0; wanted < 8; wanted++) {
        unsigned tries = 0;
        struct rss_tuple back = tuple_of("198.51.100.7", 25, "192.0.2.1", 40000);
        while (rss_queue_of(&rss, &back) != wanted) {
            back.target_port++;
            assert_true(++tries < 128);
        }
    }
}

static void one_queue_is_proven_from_the_start(void **state)
{
    (void)state;
    struct rss rss;
    rss_init(&rss, 1);
    struct rss_tuple tuple = tuple_of("192.0.2.1", 1, "192.0.2.2", 2);
    assert_int_equal(rss.mode, RSS_PROVEN);
    assert_int_equal(rss_queue_of(&rss, &tuple), 0);
    assert_int_equal(rss_observe(&rss, &tuple, 12345, 0), RSS_PROVEN);
}

static void agreeing_frames_prove_a_claim(void **state)
{
    (void)state;
    struct rss rss;
    claim_published(&rss, 4);
    for (unsigned i = 0; i < RSS_PROOF_COUNT; i++) {
        assert_int_equal(rss.mode, RSS_CLAIMED);
        struct rss_tuple tuple = tuple_of("192.0.2.1", (uint16_t)(1000 + i), "192.0.2.2", 25);
        uint32_t hash = rss_hash(&rss, &tuple);
        rss_observe(&rss, &tuple, hash, rss_queue_of_hash(&rss, hash));
    }
    assert_int_equal(rss.mode, RSS_PROVEN);
}

static void one_contradiction_makes_the_hash_unknown(void **state)
{
    (void)state;
    struct rss rss;
    struct rss_tuple tuple = tuple_of("192.0.2.1", 1000, "192.0.2.2", 25);
    claim_published(&rss, 4);
    uint32_t hash = rss_hash(&rss, &tuple);
    assert_int_equal(rss_observe(&rss, &tuple, hash ^ 1, rss_queue_of_hash(&rss, hash)),
                     RSS_UNKNOWN);
    claim_published(&rss, 4);
    uint16_t wrong = (uint16_t)((rss_queue_of_hash(&rss, hash) + 1) % 4);
    assert_int_equal(rss_observe(&rss, &tuple, hash, wrong), RSS_UNKNOWN);
}

static void claims_that_cannot_be_are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct rss rss;
    uint16_t table[128] = {0};
    rss_init(&rss, 2);
    struct rss before = rss;
    assert_int_equal(rss_claim(&rss, published_key, 39, table, 128), -EINVAL);
    assert_int_equal(rss_claim(&rss, published_key, 40, table, 0), -EINVAL);
    assert_int_equal(rss_claim(&rss, published_key, 40, table, 100), -EINVAL);
    table[77] = 2;
    assert_int_equal(rss_claim(&rss, published_key, 40, table, 128), -EINVAL);
    assert_memory_equal(&rss, &before, sizeof(rss));
}

/* Ethernet, then an IPv4 packet 10.0.0.1 > 10.0.0.2 with the given protocol; returns where its
 * payload goes. */
static uint8_t *frame_ipv4(uint8_t *frame, size_t size, uint8_t protocol)
{
    static const uint8_t header[20] = {0x45, 0, 0,  60, 0, 0, 0,  0, 64, 0,
                                       0,    0, 10, 0,  0, 1, 10, 0, 0,  2};
    memset(frame, 0, size);
    frame[12] = 0x08;
    memcpy(frame + 14, header, sizeof(header));
    frame[14 + 9] = protocol;
    return frame + 34;
}

static void tcp_frame_is_read_with_its_ports(void **state)
{
    (void)state;
    uint8_t frame[64];
    uint8_t *tcp = frame_ipv4(frame, sizeof(frame), IPPROTO_TCP);
    memcpy(tcp, "\x9c\x40\x00\x19", 4);
    struct rss_tuple tuple, expected = tuple_of("10.0.0.1", 40000, "10.0.0.2", 25);
    assert_true(rss_tuple_of_frame(&tuple, frame, sizeof(frame)));
    assert_memory_equal(&tuple, &expected, sizeof(tuple));
}

static void tagged_frame_is_read_behind_its_tag(void **state)
{
    (void)state;
    static const uint8_t vlan_5[4] = {0x81, 0x00, 0x00, 0x05};
    uint8_t frame[64], tagged[68];
    uint8_t *tcp = frame_ipv4(frame, sizeof(frame), IPPROTO_TCP);
    memcpy(tcp, "\x9c\x40\x00\x19", 4);
    memcpy(tagged, frame, 12);
    memcpy(tagged + 12, vlan_5, sizeof(vlan_5));
    memcpy(tagged + 16, frame + 12, 52);
    struct rss_tuple tuple, expected = tuple_of("10.0.0.1", 40000, "10.0.0.2", 25);
    assert_true(rss_tuple_of_frame(&tuple, tagged, sizeof(tagged)));
    assert_memory_equal(&tuple, &expected, sizeof(tuple));
}

static void fragment_is_read_by_addresses_alone(void **state)
{
    (void)state;
    uint8_t frame[64];
    uint8_t *tcp = frame_ipv4(frame, sizeof(frame), IPPROTO_TCP);
    memcpy(tcp, "\x9c\x40\x00\x19", 4);
    frame[14 + 6] = 0x20; /* more fragments */
    struct rss_tuple tuple, expected = tuple_of("10.0.0.1", 0, "10.0.0.2", 0);
    assert_true(rss_tuple_of_frame(&tuple, frame, sizeof(frame)));
    assert_memory_equal(&tuple, &expected, sizeof(tuple));
}

static void icmp_error_is_read_by_the_packet_it_quotes_turned_round(void **state)
{
    (void)state;
    static const uint8_t quoted[28] = {0x45, 0,    0,    60,   0, 0, 0,   0,  64,  6,
                                       0,    0,    192,  0,    2, 1, 198, 51, 100, 7,
                                       0x9c, 0x40, 0x00, 0x19, 0, 0, 0,   0};
    uint8_t frame[80];
    uint8_t *icmp = frame_ipv4(frame, sizeof(frame), IPPROTO_ICMP);
    icmp[0] = 3;
    memcpy(icmp + 8, quoted, sizeof(quoted));
    struct rss_tuple tuple, expected = tuple_of("198.51.100.7", 25, "192.0.2.1", 40000);
    assert_true(rss_tuple_of_frame(&tuple, frame, sizeof(frame)));
    assert_memory_equal(&tuple, &expected, sizeof(tuple));
}

static void echo_request_is_read_by_addresses(void **state)
{
    (void)state;
    uint8_t frame[80];
    uint8_t *icmp = frame_ipv4(frame, sizeof(frame), IPPROTO_ICMP);
    icmp[0] = 8;
    struct rss_tuple tuple, expected = tuple_of("10.0.0.1", 0, "10.0.0.2", 0);
    assert_true(rss_tuple_of_frame(&tuple, frame, sizeof(frame)));
    assert_memory_equal(&tuple, &expected, sizeof(tuple));
}

static void frames_cut_at_any_byte_are_never_read_beyond_it(void **state)
{
    (void)state;
    uint8_t frame[80], inner[52];
    uint8_t *icmp = frame_ipv4(frame, sizeof(frame), IPPROTO_ICMP);
    icmp[0] = 3;
    frame_ipv4(inner, sizeof(inner), IPPROTO_TCP);
    memcpy(icmp + 8, inner + 14, sizeof(inner) - 14);
    for (uint32_t bytes = 0; bytes <= sizeof(frame); bytes++) {
        uint8_t *cut = test_malloc(bytes ? bytes : 1); /* the sanitizer sees a read past the end */
        memcpy(cut, frame, bytes);
        struct rss_tuple tuple;
        assert_int_equal(rss_tuple_of_frame(&tuple, cut, bytes), bytes >= 34);
        test_free(cut);
    }
}

static void arp_has_no_tuple(void **state)
{
    (void)state;
    uint8_t frame[64] = {[12] = 0x08, [13] = 0x06};
    struct rss_tuple tuple;
    assert_false(rss_tuple_of_frame(&tuple, frame, sizeof(frame)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_agrees_with_the_published_verification_suite),
        cmocka_unit_test(both_directions_hash_alike_with_the_symmetric_key),
        cmocka_unit_test(every_queue_is_reached_by_some_source_port_close_by),
        cmocka_unit_test(one_queue_is_proven_from_the_start),
        cmocka_unit_test(agreeing_frames_prove_a_claim),
        cmocka_unit_test(one_contradiction_makes_the_hash_unknown),
        cmocka_unit_test(claims_that_cannot_be_are_refused_and_change_nothing),
        cmocka_unit_test(tcp_frame_is_read_with_its_ports),
        cmocka_unit_test(tagged_frame_is_read_behind_its_tag),
        cmocka_unit_test(fragment_is_read_by_addresses_alone),
        cmocka_unit_test(icmp_error_is_read_by_the_packet_it_quotes_turned_round),
        cmocka_unit_test(echo_request_is_read_by_addresses),
        cmocka_unit_test(frames_cut_at_any_byte_are_never_read_beyond_it),
        cmocka_unit_test(arp_has_no_tuple),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
