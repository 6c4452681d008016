#include "tests/unit/net_reassembly.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct net_lone net_lone;
static const char *const addresses[] = {"10.0.0.1/24", "fd00::1/64", NULL};
struct datagram_socket *net_sockets[2];
uint8_t net_packet[NET_PACKET_MAX + 64];

static void neighbour_known(const char *text)
{
    const struct endpoint peer = net_endpoint(text);
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
    stack_neighbour_learn(net_lone.network, &peer, mac);
}

void net_reassembly_open(const struct stack_settings *settings)
{
    const struct datagram_request ours4 = {.at = net_endpoint("10.0.0.1:5353")};
    const struct datagram_request ours6 = {.at = net_endpoint("[fd00::1]:5353")};
    struct stack_settings sure = {0};
    if (settings != NULL) {
        sure = *settings;
    }
    sure.skips_dad = true;
    net_lone_open(&net_lone, addresses, &sure);
    net_lone_wait(&net_lone, 20 * SECOND_NS); /* routers are asked for, groups are joined */
    neighbour_known("10.0.0.2:1");
    neighbour_known("[fd00::2]:1");
    assert_int_equal(udp_open(net_lone.network, &ours4, &net_sockets[0]), 0);
    assert_int_equal(udp_open(net_lone.network, &ours6, &net_sockets[1]), 0);
    net_lone_forget(&net_lone);
}

void net_reassembly_close(void)
{
    datagram_close(net_sockets[0]);
    datagram_close(net_sockets[1]);
    net_lone_close(&net_lone);
}

const struct stack_counters *net_reassembly_counters(void)
{
    return stack_counters(net_lone.network);
}

uint32_t net_reassembly_mbufs(void)
{
    return net_lone.stack->reassembly.mbuf_count;
}

struct net_fragment net_between(const char *from, bool ipv6, uint32_t id)
{
    return (struct net_fragment){.from = net_address(from),
                                 .to = net_address(ipv6 ? "fd00::1" : "10.0.0.1"),
                                 .id = id,
                                 .protocol = IPPROTO_UDP,
                                 .payload = net_packet};
}

struct net_fragment net_of_peer(bool ipv6, uint32_t id)
{
    return net_between(ipv6 ? "fd00::2" : "10.0.0.2", ipv6, id);
}

void net_part(const struct net_fragment *of, uint32_t offset, uint32_t bytes, bool more)
{
    uint8_t frame[NET_FRAGMENT_FRAME_BYTES];
    struct net_fragment part = *of;
    part.offset = offset;
    part.bytes = bytes;
    part.more = more;
    net_lone_inject(&net_lone, frame, net_fragment_make(frame, &part));
}

/* Part `index` of a net_packet that is cut every `step` bytes. */
void net_step(const struct net_fragment *of, uint32_t index, uint32_t size, uint32_t step)
{
    uint32_t offset = index * step, left = size - offset;
    net_part(of, offset, left < step ? left : step, left > step);
}

void net_steps(const struct net_fragment *of, uint32_t size, uint32_t step)
{
    for (uint32_t i = 0; i * step < size; i++) {
        net_step(of, i, size, step);
    }
}

void net_expect_datagram(bool ipv6, uint32_t bytes, uint64_t seed)
{
    struct datagram datagram;
    assert_int_equal(datagram_receive(net_sockets[ipv6], &datagram), 1);
    assert_int_equal(datagram.bytes.size, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        assert_int_equal(datagram.bytes.bytes[i], net_fragment_byte(seed, i));
    }
    assert_int_equal(datagram.from.port, 9);
}

void net_expect_no_datagram(void)
{
    struct datagram datagram;
    assert_int_equal(datagram_receive(net_sockets[0], &datagram), 0);
    assert_int_equal(datagram_receive(net_sockets[1], &datagram), 0);
}
