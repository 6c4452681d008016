/* What a port says of the checksum of TCP and UDP, and what the stack does with it. */
#include "tests/unit/net_beside.h"
#include <rte_udp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define PORT 5353

static const struct { /* of a packet whose checksum is wrong */
    uint64_t flags;
    bool taken;
} cases[] = {
    {RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN, false},
    {RTE_MBUF_F_RX_L4_CKSUM_BAD, false},
    {RTE_MBUF_F_RX_L4_CKSUM_GOOD, true},
    {RTE_MBUF_F_RX_L4_CKSUM_NONE, true}, /* it never left the host: only the sum was not finished */
};
static struct beside beside;
static uint8_t frame[BESIDE_BYTES];

static void begin(void)
{
    beside_open(&beside, &(const struct beside_settings){.alone = true});
    beside_forget(&beside);
}

/* The checksum's last bit is wrong; it lies `place` bytes behind the IP header. */
static void arrive_wrong(unsigned family, uint32_t size, uint32_t place, uint64_t flags)
{
    frame[ETH_BYTES + (family == 0 ? IPV4_BYTES : IPV6_BYTES) + place + 1] ^= 1;
    beside_put(&beside, &beside.wire, 0, frame, size)->ol_flags |= flags;
    beside_round(&beside);
}

static void a_segment_is_taken_when_the_port_vouches_for_its_data(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * RTE_DIM(cases); i++) {
        unsigned family = i % 2;
        begin();
        uint32_t size = beside_segment(frame, family, 4000, 25, TCP_SYN);
        arrive_wrong(family, size, offsetof(struct rte_tcp_hdr, cksum), cases[i / 2].flags);
        assert_int_equal(beside.wire.out_count, cases[i / 2].taken); /* SYN, ACK */
        assert_int_equal(BESIDE_SUM(&beside, tcp_in_errors), !cases[i / 2].taken);
        beside_close(&beside);
    }
}

static void a_datagram_is_taken_when_the_port_vouches_for_its_data(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * RTE_DIM(cases); i++) {
        const struct datagram_request request = {.at = {.family = ENDPOINT_NONE, .port = PORT}};
        struct datagram_socket *socket;
        struct datagram datagram;
        unsigned family = i % 2;
        begin();
        assert_int_equal(udp_open(beside.networks[0], &request, &socket), 0);
        uint32_t size = beside_datagram(frame, family, PORT, "who?");
        arrive_wrong(family, size, offsetof(struct rte_udp_hdr, dgram_cksum), cases[i / 2].flags);
        assert_int_equal(datagram_receive(socket, &datagram), cases[i / 2].taken);
        assert_int_equal(BESIDE_SUM(&beside, udp_in_checksum_errors), !cases[i / 2].taken);
        datagram_close(socket);
        beside_close(&beside);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_is_taken_when_the_port_vouches_for_its_data),
        cmocka_unit_test(a_datagram_is_taken_when_the_port_vouches_for_its_data),
    };
    return cmocka_run_group_tests(tests, beside_set_up, beside_tear_down);
}
