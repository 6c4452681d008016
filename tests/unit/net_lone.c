#include "tests/unit/net_lone.h"
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ADDRESSES_MAX 1024u

static struct rte_mempool *pools[2]; /* the stack's data; what the port receives into */

int net_lone_set_up(void **state)
{
    (void)state;
    return net_memory_open(pools);
}

int net_lone_tear_down(void **state)
{
    (void)state;
    net_memory_close(pools);
    return 0;
}

struct ip_address net_address(const char *text)
{
    struct network_prefix prefix;
    struct ip_address address;
    assert_int_equal(network_prefix_parse(&prefix, slice_text(text)), 0);
    assert_true(ip_address_of_endpoint(&address, &prefix.address));
    return address;
}

static bool keep(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    struct net_lone *lone = owner;
    (void)side;
    assert_in_range(lone->count, 0, NET_LONE_FRAMES - 1);
    assert_in_range(size, 0, NET_LONE_BYTES);
    unsigned at = (lone->first + lone->count++) % NET_LONE_FRAMES;
    memcpy(lone->frames[at], frame, size);
    lone->sizes[at] = size;
    return false;
}

static int stack_make(struct net_lone *lone, const char *const *addresses,
                      const struct stack_settings *given)
{
    static struct network_prefix prefixes[ADDRESSES_MAX];
    struct stack_settings settings = {0};
    if (given != NULL) {
        settings = *given;
    }
    settings.port = &lone->link.ports[0].port;
    settings.world = &lone->world.world;
    settings.wheel = lone->wheel;
    settings.pool = pools[0];
    if (settings.address_count == 0) {
        settings.addresses = prefixes;
        for (; addresses[settings.address_count] != NULL; settings.address_count++) {
            assert_int_equal(network_prefix_parse(&prefixes[settings.address_count],
                                                  slice_text(addresses[settings.address_count])),
                             0);
        }
    }
    return stack_open(&lone->network, &settings);
}

static void wire_open(struct net_lone *lone)
{
    memset(lone, 0, sizeof(*lone));
    net_world_open(&lone->world, 1);
    net_link_open(&lone->link, &lone->world, 1, pools[1], pools[1]);
    lone->link.ports[0].filter = keep;
    lone->link.ports[0].filter_owner = lone;
    lone->in_use[0] = rte_mempool_in_use_count(pools[0]);
    lone->in_use[1] = rte_mempool_in_use_count(pools[1]);
    lone->wheel = wheel_open(lone->world.now_ns);
    lone->frames = calloc(NET_LONE_FRAMES, sizeof(lone->frames[0]));
    lone->sizes = calloc(NET_LONE_FRAMES, sizeof(lone->sizes[0]));
    assert_non_null(lone->frames);
    assert_non_null(lone->sizes);
}

static void wire_close(struct net_lone *lone)
{
    wheel_close(lone->wheel);
    net_link_close(&lone->link);
    free(lone->frames);
    free(lone->sizes);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), lone->in_use[0]);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), lone->in_use[1]);
}

int net_lone_try(struct net_lone *lone, const char *const *addresses,
                 const struct stack_settings *settings)
{
    wire_open(lone);
    int status = stack_make(lone, addresses, settings);
    if (status == 0) {
        lone->network->ops->close(lone->network);
    }
    wire_close(lone);
    return status;
}

void net_lone_open(struct net_lone *lone, const char *const *addresses,
                   const struct stack_settings *settings)
{
    wire_open(lone);
    assert_int_equal(stack_make(lone, addresses, settings), 0);
    lone->stack = stack_of(lone->network);
    net_lone_round(lone);
}

void net_lone_close(struct net_lone *lone)
{
    net_lone_wait(lone, 5 * SECOND_NS); /* what waits for a neighbour is given up */
    assert_true(rte_mempool_full(lone->stack->segments));
    assert_true(rte_mempool_full(lone->stack->control));
    lone->network->ops->close(lone->network);
    wire_close(lone);
}

void net_lone_round(struct net_lone *lone)
{
    uint64_t now_ns = lone->world.now_ns;
    do {
        lone->network->ops->poll(lone->network, now_ns);
        wheel_run(lone->wheel, now_ns);
        lone->network->ops->flush(lone->network, now_ns);
        net_link_run(&lone->link);
    } while (net_link_next_ns(&lone->link) <= now_ns ||
             lone->network->ops->arm(lone->network) == -EAGAIN);
}

void net_lone_wait(struct net_lone *lone, uint64_t ns)
{
    uint64_t until_ns = lone->world.now_ns + ns;
    while (lone->world.now_ns < until_ns) {
        uint64_t next_ns = wheel_next_ns(lone->wheel);
        next_ns = next_ns > lone->world.now_ns ? next_ns : lone->world.now_ns + 1000;
        lone->world.now_ns = next_ns < until_ns ? next_ns : until_ns;
        net_lone_round(lone);
    }
}

void net_lone_inject(struct net_lone *lone, const void *frame, uint32_t size)
{
    net_link_inject(&lone->link, 0, frame, size);
    net_lone_round(lone);
}

uint32_t net_lone_take(struct net_lone *lone, uint8_t *frame)
{
    if (lone->count == 0) {
        return 0;
    }
    uint32_t size = lone->sizes[lone->first];
    memcpy(frame, lone->frames[lone->first], size);
    lone->first = (lone->first + 1) % NET_LONE_FRAMES;
    lone->count--;
    return size;
}

void net_lone_forget(struct net_lone *lone)
{
    lone->count = 0;
}

uint32_t net_six_make(uint8_t *frame, const struct net_six *packet)
{
    struct ip_address from = net_address(packet->from), to = net_address(packet->to);
    uint8_t protocol = packet->protocol == 0 ? packet->next : packet->protocol;
    uint32_t at = ETH_BYTES + IPV6_BYTES + packet->extension_bytes;
    uint8_t *payload = frame + at;
    memset(frame, 0, at);
    frame[0] = 2;
    frame[5] = 1; /* the stack's port */
    if (ip_address_is_multicast(&to)) {
        frame[0] = frame[1] = 0x33;
        memcpy(frame + 2, &to.words[3], 4);
    }
    frame[6] = 2;
    frame[11] = packet->source_mac_last == 0 ? 2 : packet->source_mac_last;
    frame[12] = 0x86;
    frame[13] = 0xdd;
    frame[14] = 0x60;
    uint32_t bytes = packet->extension_bytes + packet->bytes;
    frame[18] = (uint8_t)(bytes >> 8);
    frame[19] = (uint8_t)bytes;
    frame[20] = packet->next;
    frame[21] = packet->hop_limit == 0 ? 64 : packet->hop_limit;
    memcpy(frame + 22, from.words, 16);
    memcpy(frame + 38, to.words, 16);
    if (packet->extension_bytes > 0) {
        memcpy(frame + 54, packet->extensions, packet->extension_bytes);
    }
    memcpy(payload, packet->payload, packet->bytes);
    unsigned place = protocol == IPPROTO_ICMPV6 ? 2 : 16;
    if ((protocol == IPPROTO_ICMPV6 || protocol == IPPROTO_TCP) && packet->bytes >= place + 2) {
        memset(payload + place, 0, 2);
        uint64_t sum = ip_pseudo_sum(&from, &to, protocol, packet->bytes);
        uint16_t checksum = checksum_finish(checksum_add(sum, payload, packet->bytes));
        memcpy(payload + place, &checksum, 2);
    }
    return at + packet->bytes;
}

void net_lone_six(struct net_lone *lone, const struct net_six *packet)
{
    uint8_t frame[NET_LONE_BYTES];
    net_lone_inject(lone, frame, net_six_make(frame, packet));
}

static void checksum_check(const uint8_t *frame, uint32_t at, uint32_t size, uint8_t protocol)
{
    struct ip_address from = ip_address_of_ipv6(frame + 22), to = ip_address_of_ipv6(frame + 38);
    uint64_t sum = ip_pseudo_sum(&from, &to, protocol, size - at);
    assert_int_equal(frame[18] << 8 | frame[19], size - 54);
    assert_int_equal(checksum_finish(checksum_add(sum, frame + at, size - at)), 0);
}

uint32_t net_lone_icmp6(struct net_lone *lone, uint8_t type, uint8_t *frame)
{
    uint32_t size;
    while ((size = net_lone_take(lone, frame)) > 0) {
        uint32_t at = frame[20] == IPPROTO_HOPOPTS ? 62 : 54;
        bool icmp6 = frame[12] == 0x86 && frame[at == 62 ? 54 : 20] == IPPROTO_ICMPV6;
        if (icmp6 && frame[at] == type) {
            checksum_check(frame, at, size, IPPROTO_ICMPV6);
            return size;
        }
    }
    return 0;
}

void net_lone_tcp(struct net_lone *lone, const struct net_six *packet,
                  const struct rte_tcp_hdr *tcp, const char *text)
{
    uint8_t bytes[NET_LONE_BYTES];
    struct rte_tcp_hdr header = *tcp;
    struct net_six whole = *packet;
    header.data_off = 5 << 4;
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), text, strlen(text));
    whole.protocol = IPPROTO_TCP;
    whole.next = packet->next == 0 && packet->extension_bytes == 0 ? IPPROTO_TCP : packet->next;
    whole.payload = bytes;
    whole.bytes = (uint32_t)(sizeof(header) + strlen(text));
    net_lone_six(lone, &whole);
}

bool net_lone_segment(struct net_lone *lone, uint8_t *frame, struct rte_tcp_hdr *tcp,
                      struct slice *text)
{
    uint32_t size;
    while ((size = net_lone_take(lone, frame)) > 0) {
        if (frame[12] == 0x86 && frame[20] == IPPROTO_TCP) {
            checksum_check(frame, 54, size, IPPROTO_TCP);
            memcpy(tcp, frame + 54, sizeof(*tcp));
            uint32_t header = tcp->data_off / 16u * 4u;
            *text = slice_of(frame + 54 + header, size - 54 - header);
            return true;
        }
    }
    return false;
}
