/* 802.1Q tags: what may enter, and what leaves. */
#include "engine/net/icmp6.h"
#include "engine/net/vlan.h"
#include "tests/unit/net_lone.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_lone lone;
static uint8_t frame[NET_LONE_BYTES];
static const char *const addresses[] = {"10.0.0.1/24", "fd00::1/64", NULL};

static void open_stack(uint16_t vlan)
{
    const struct stack_settings settings = {
        .skips_dad = true, .routers = STACK_ROUTERS_IGNORED, .vlan = vlan};
    const struct endpoint peer = net_endpoint("[fd00::2]:1");
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
    net_lone_open(&lone, addresses, &settings);
    stack_neighbour_learn(lone.network, &peer, mac);
    net_lone_forget(&lone);
}

/* A ping; tag -1: none, else what stands in the tag. Is it answered? */
static bool answers(int tag)
{
    uint8_t bytes[NET_LONE_BYTES];
    const uint8_t message[100] = {ICMP6_ECHO_REQUEST};
    const struct net_six packet = {.from = "fd00::2",
                                   .to = "fd00::1",
                                   .next = IPPROTO_ICMPV6,
                                   .payload = message,
                                   .bytes = sizeof(message)};
    uint32_t size = net_six_make(bytes + 4, &packet);
    if (tag >= 0) {
        memmove(bytes, bytes + 4, 12);
        bytes[12] = 0x81;
        bytes[13] = 0;
        bytes[14] = (uint8_t)(tag >> 8);
        bytes[15] = (uint8_t)tag;
    }
    net_lone_forget(&lone);
    net_lone_inject(&lone, tag >= 0 ? bytes : bytes + 4, tag >= 0 ? size + 4 : size);
    return lone.count > 0;
}

static void only_our_tag_enters_and_all_that_leaves_has_it(void **state)
{
    (void)state;
    open_stack(0x123);
    assert_false(answers(-1));
    assert_false(answers(0));
    assert_false(answers(0x122));
    assert_int_equal(lone.stack->counters.frames_other_vlan, 3);
    assert_true(answers(0x123));
    assert_true(answers(0xe123)); /* whatever its priority */
    assert_int_equal(net_lone_take(&lone, frame), 14 + 4 + 40 + 100);
    static const uint8_t tag[6] = {0x81, 0, 0x01, 0x23, 0x86, 0xdd};
    assert_memory_equal(frame + 12, tag, sizeof(tag));
    assert_int_equal(frame[5], 2);
    assert_int_equal(frame[11], 1);
    assert_int_equal(frame[18 + 40], ICMP6_ECHO_REPLY);
    net_lone_close(&lone);
}

static void what_waits_for_a_neighbour_leaves_with_one_tag(void **state)
{
    (void)state;
    uint8_t arp[46] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x81, 0, 0x01, 0x23, 8, 6,
                       0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0,    9, 10,   0,    0, 9};
    const struct connect_request request = {.to = net_endpoint("10.0.0.9:25")};
    struct stream *stream;
    open_stack(0x123);
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), 0);
    net_lone_round(&lone);
    assert_int_equal(net_lone_take(&lone, frame), 46); /* the question, tagged */
    assert_int_equal(frame[12] << 8 | frame[13], 0x8100);
    net_lone_inject(&lone, arp, sizeof(arp));
    assert_true(net_lone_take(&lone, frame) > 18 + 40);
    assert_int_equal(frame[12] << 8 | frame[13], 0x8100);
    assert_int_equal(frame[16] << 8 | frame[17], 0x0800);
    assert_int_equal(frame[18], 0x45);
    stream_abort(stream);
    stream_release(stream);
    net_lone_close(&lone);
}

static void without_a_network_of_our_own_tags_are_refused_but_for_priorities(void **state)
{
    (void)state;
    open_stack(0);
    assert_true(answers(-1));
    assert_true(answers(0xa000));
    assert_int_equal(net_lone_take(&lone, frame), 14 + 40 + 100);
    assert_false(answers(5));
    const uint8_t cut[15] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0};
    net_lone_inject(&lone, cut, sizeof(cut));
    assert_int_equal(lone.stack->counters.frames_other_vlan, 2);
    net_lone_close(&lone);
    struct stack_settings settings = {.vlan = VLAN_MAX + 1};
    assert_int_equal(net_lone_try(&lone, addresses, &settings), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_our_tag_enters_and_all_that_leaves_has_it),
        cmocka_unit_test(what_waits_for_a_neighbour_leaves_with_one_tag),
        cmocka_unit_test(without_a_network_of_our_own_tags_are_refused_but_for_priorities),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
