/* Neighbor Discovery: questions and answers, duplicate addresses, listeners. */
#include "engine/net/icmp6.h"
#include "tests/unit/net_lone.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define OURS "fd00::1"
#define PEER "fd00::2"
#define LOCAL "fe80::ff:fe00:1" /* of Ethernet address 02:00:00:00:00:01 */
#define GROUP "ff02::1:ff00:1"
#define ROUTER "fe80::99"
#define AT 54u /* of an ICMPv6 message */

static struct net_lone lone;
static uint8_t frame[NET_LONE_BYTES];
static const char *const addresses[] = {OURS "/64", NULL};
static const struct stack_settings sure = {.skips_dad = true, .routers = STACK_ROUTERS_IGNORED};

static void open_sure(void)
{
    net_lone_open(&lone, addresses, &sure);
    net_lone_forget(&lone);
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    (void)session;
    (void)stream;
    (void)events;
}

static struct stream *connect_to(const char *text)
{
    const struct connect_request request = {.to = net_endpoint(text)};
    struct stream *stream;
    assert_int_equal(lone.network->ops->connect(lone.network, &request, &stream), 0);
    stream->notify = notified;
    net_lone_round(&lone);
    return stream;
}

static void end(struct stream *stream)
{
    stream_abort(stream);
    stream_release(stream);
}

static bool address_at(const uint8_t *at, const char *text)
{
    struct ip_address found = ip_address_of_ipv6(at), wanted = net_address(text);
    return ip_address_equal(&found, &wanted);
}

struct message {
    uint8_t type, code, hop_limit; /* 0: 255 */
    const char *from, *to, *target;
    uint8_t flags;
    uint8_t option; /* 0: none */
    uint8_t mac_last;
    uint8_t bad_length; /* of the option, one more than it */
    uint8_t eth_last;   /* of the sender; 0: 2 */
};

static void put(const struct message *message)
{
    uint8_t bytes[32] = {message->type, message->code, 0, 0, message->flags};
    struct ip_address target = net_address(message->target);
    memcpy(bytes + 8, target.words, 16);
    bytes[24] = message->option;
    bytes[25] = message->bad_length > 0 ? (uint8_t)(message->bad_length - 1) : 1;
    bytes[26] = 2;
    bytes[31] = message->mac_last;
    const struct net_six packet = {.from = message->from,
                                   .to = message->to,
                                   .next = IPPROTO_ICMPV6,
                                   .hop_limit = message->hop_limit == 0 ? 255 : message->hop_limit,
                                   .source_mac_last = message->eth_last,
                                   .payload = bytes,
                                   .bytes = message->option != 0 ? 32 : 24};
    net_lone_six(&lone, &packet);
}

static const struct message question = {.type = ICMP6_NEIGHBOR_SOLICITATION,
                                        .from = PEER,
                                        .to = GROUP,
                                        .target = OURS,
                                        .option = 1,
                                        .mac_last = 2};
static const struct message answer = {.type = ICMP6_NEIGHBOR_ADVERTISEMENT,
                                      .from = PEER,
                                      .to = OURS,
                                      .target = PEER,
                                      .flags = 0x60,
                                      .option = 2,
                                      .mac_last = 2};

/* ---- questions to us ---- */

static void a_question_for_us_is_answered(void **state)
{
    (void)state;
    open_sure();
    put(&question);
    assert_int_equal(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame), AT + 32);
    assert_int_equal(frame[AT + 4], 0x60); /* solicited, override, no router */
    assert_true(address_at(frame + AT + 8, OURS));
    assert_true(address_at(frame + 38, PEER));
    assert_int_equal(frame[21], 255);
    assert_int_equal(frame[AT + 24], 2);
    assert_int_equal(frame[AT + 31], 1);
    assert_int_equal(frame[5], 2);
    struct message one = question;
    one.to = OURS;
    one.option = 0; /* as a neighbour probes that knows us */
    put(&one);
    assert_true(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame) > 0);
    one = question; /* a probe of another host for its address */
    one.from = "::";
    one.option = 0;
    put(&one);
    assert_true(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame) > 0);
    assert_true(address_at(frame + 38, "ff02::1"));
    assert_int_equal(frame[AT + 4], 0x20);
    one = question;
    one.target = LOCAL;
    put(&one);
    assert_true(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame) > 0);
    one.target = "fd00::5:0:0:1"; /* in the same group, and not ours */
    put(&one);
    assert_int_equal(lone.count, 0);
    assert_int_equal(lone.stack->counters.nd_refused, 0);
    net_lone_close(&lone);
}

static void what_is_not_as_it_should_be_is_refused(void **state)
{
    (void)state;
    static const struct message wrong[] = {
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 254, PEER, GROUP, OURS, 0, 1, 2, 0,
         0}, /* beyond a router */
        {ICMP6_NEIGHBOR_SOLICITATION, 1, 0, PEER, GROUP, OURS, 0, 1, 2, 0, 0},
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, PEER, GROUP, GROUP, 0, 1, 2, 0, 0},
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, PEER, GROUP, OURS, 0, 1, 2, 1, 0}, /* no length */
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, PEER, GROUP, OURS, 0, 1, 2, 3, 0}, /* too long */
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, "::", GROUP, OURS, 0, 1, 2, 0,
         0}, /* nobody has a MAC */
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, "::", OURS, OURS, 0, 0, 0, 0, 0},
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, "2001:db8::1", GROUP, OURS, 0, 1, 2, 0, 0},
        {ICMP6_NEIGHBOR_SOLICITATION, 0, 0, PEER, GROUP, OURS, 0, 1, 2, 0,
         1}, /* our own, returned */
        {ICMP6_NEIGHBOR_ADVERTISEMENT, 0, 0, PEER, "ff02::1", PEER, 0x60, 2, 2, 0, 0},
        {ICMP6_NEIGHBOR_ADVERTISEMENT, 0, 0, PEER, OURS, "ff02::5", 0x60, 2, 2, 0, 0},
        {ICMP6_REDIRECT, 0, 0, ROUTER, OURS, PEER, 0, 2, 2, 0, 0},
    };
    open_sure();
    for (unsigned i = 0; i < RTE_DIM(wrong); i++) {
        put(&wrong[i]);
        if (lone.stack->counters.nd_refused != i + 1 || lone.count != 0) {
            fail_msg("case %u was not refused", i);
        }
    }
    uint8_t bytes[20] = {ICMP6_NEIGHBOR_SOLICITATION};
    const struct net_six cut = {.from = PEER,
                                .to = OURS,
                                .next = IPPROTO_ICMPV6,
                                .hop_limit = 255,
                                .payload = bytes,
                                .bytes = sizeof(bytes)};
    net_lone_six(&lone, &cut);
    assert_int_equal(lone.stack->counters.nd_refused, RTE_DIM(wrong) + 1);
    net_lone_close(&lone);
}

/* ---- our questions ---- */

static void the_first_packet_waits_for_the_answer_and_is_not_lost(void **state)
{
    (void)state;
    struct rte_tcp_hdr tcp;
    struct slice text;
    open_sure();
    put(&answer); /* not asked for: teaches nothing */
    struct stream *stream = connect_to("[fd00::2]:25");
    assert_int_equal(net_lone_take(&lone, frame), AT + 32);
    assert_int_equal(frame[AT], ICMP6_NEIGHBOR_SOLICITATION);
    static const uint8_t group_mac[6] = {0x33, 0x33, 0xff, 0, 0, 2};
    assert_memory_equal(frame, group_mac, 6);
    assert_true(address_at(frame + 38, "ff02::1:ff00:2"));
    assert_true(address_at(frame + 22, OURS));
    assert_int_equal(frame[AT + 24], 1);
    assert_int_equal(lone.count, 0);
    put(&answer);
    assert_true(net_lone_segment(&lone, frame, &tcp, &text));
    assert_int_equal(frame[5], 2);
    end(stream);
    net_lone_close(&lone);
}

static void who_does_not_answer_is_asked_thrice_and_cannot_be_reached(void **state)
{
    (void)state;
    open_sure();
    struct stream *stream = connect_to("[fd00::2]:25");
    unsigned count = 0;
    net_lone_wait(&lone, 3500 * MS_NS);
    while (net_lone_icmp6(&lone, ICMP6_NEIGHBOR_SOLICITATION, frame) > 0) {
        count++;
    }
    assert_int_equal(count, 3);
    assert_int_equal(lone.stack->neighbours.waiting_count, 0);
    struct ip_address peer = net_address(PEER);
    assert_true(neighbour_has_failed(lone.stack, &peer));
    end(stream);
    net_lone_close(&lone);
}

static struct neighbour *known(const char *text)
{
    struct ip_address address = net_address(text);
    return neighbour_of(lone.stack, &address);
}

static void a_neighbour_that_has_aged_is_asked_where_it_was_before_all_are(void **state)
{
    (void)state;
    open_sure();
    struct stream *stream = connect_to("[fd00::2]:25");
    put(&answer);
    net_lone_wait(&lone, 61 * SECOND_NS);
    unsigned to_one = 0, to_all = 0;
    net_lone_forget(&lone);
    for (unsigned i = 0; i < 8; i++) {
        end(stream);
        stream = connect_to("[fd00::2]:25");
        while (net_lone_icmp6(&lone, ICMP6_NEIGHBOR_SOLICITATION, frame) > 0) {
            to_one += frame[0] == 2;
            to_all += frame[0] == 0x33;
            assert_true(to_all == 0 || to_one == 3);
        }
        net_lone_wait(&lone, 1001 * MS_NS);
    }
    assert_int_equal(to_one, 3);
    assert_true(to_all >= 2);
    end(stream);
    net_lone_close(&lone);
}

static void who_asks_us_is_known_but_must_prove_itself(void **state)
{
    (void)state;
    open_sure();
    put(&question);
    net_lone_forget(&lone);
    assert_int_equal(known(PEER)->state, NEIGHBOUR_KNOWN);
    assert_true(known(PEER)->unproven);
    struct stream *stream = connect_to("[fd00::2]:25");
    assert_int_equal(net_lone_take(&lone, frame), AT + 32); /* asked where it is said to be */
    assert_int_equal(frame[AT], ICMP6_NEIGHBOR_SOLICITATION);
    assert_int_equal(frame[0], 2);
    assert_int_equal(net_lone_take(&lone, frame) > 0, 1); /* and used meanwhile */
    put(&answer);
    assert_false(known(PEER)->unproven);
    end(stream);
    net_lone_close(&lone);
}

static void an_answer_without_override_moves_nobody(void **state)
{
    (void)state;
    struct message moved = answer;
    open_sure();
    struct stream *stream = connect_to("[fd00::2]:25");
    put(&answer);
    moved.mac_last = 7;
    moved.flags = 0x40; /* solicited */
    put(&moved);
    assert_int_equal(known(PEER)->mac[5], 2);
    assert_true(known(PEER)->unproven);
    moved.flags = 0x20; /* override, and nobody asked */
    moved.to = "ff02::1";
    put(&moved);
    assert_int_equal(known(PEER)->mac[5], 7);
    assert_true(known(PEER)->unproven);
    moved.flags = 0x60;
    moved.to = OURS;
    put(&moved);
    assert_false(known(PEER)->unproven);
    end(stream);
    net_lone_close(&lone);
}

/* ---- our own addresses ---- */

static void ping(const char *to)
{
    const uint8_t message[8] = {ICMP6_ECHO_REQUEST};
    const struct net_six packet = {
        .from = PEER, .to = to, .next = IPPROTO_ICMPV6, .payload = message, .bytes = 8};
    put(&question);
    net_lone_six(&lone, &packet);
}

static bool answers_ping(void)
{
    ping(OURS);
    bool answered = net_lone_icmp6(&lone, ICMP6_ECHO_REPLY, frame) > 0;
    net_lone_forget(&lone);
    return answered;
}

static void an_address_is_used_when_nobody_has_answered_for_a_second(void **state)
{
    (void)state;
    net_lone_open(&lone, addresses, NULL);
    net_lone_wait(&lone, 1000 * MS_NS); /* at random within the first second */
    uint32_t size = net_lone_take(&lone, frame);
    assert_int_equal(size, AT + 8 + 28); /* first a listener report, from nobody yet */
    assert_true(address_at(frame + 22, "::") && address_at(frame + 38, "ff02::16"));
    assert_int_equal(frame[20], 0);
    assert_int_equal(frame[21], 1);
    assert_true(address_at(frame + AT + 8 + 12, GROUP));
    assert_int_equal(net_lone_take(&lone, frame), AT + 24); /* then the question */
    assert_int_equal(frame[AT], ICMP6_NEIGHBOR_SOLICITATION);
    assert_true(address_at(frame + 22, "::") && address_at(frame + 38, GROUP));
    assert_true(address_at(frame + AT + 8, OURS));
    assert_int_equal(lone.stack->own.tentative_count, 2);
    assert_false(answers_ping());
    net_lone_wait(&lone, 1010 * MS_NS);
    assert_int_equal(lone.stack->own.tentative_count, 0);
    assert_true(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame) > 0);
    assert_true(address_at(frame + 38, "ff02::1") && address_at(frame + AT + 8, OURS));
    assert_int_equal(frame[AT + 4], 0x20);
    assert_true(net_lone_icmp6(&lone, ICMP6_ROUTER_SOLICITATION, frame) > 0);
    assert_true(address_at(frame + 22, LOCAL) && address_at(frame + 38, "ff02::2"));
    assert_true(answers_ping());
    net_lone_close(&lone);
}

static void an_address_that_another_host_has_is_never_used(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 3; way++) {
        struct message taken = {.type = ICMP6_NEIGHBOR_ADVERTISEMENT,
                                .from = OURS,
                                .to = "ff02::1",
                                .target = OURS,
                                .flags = 0x20,
                                .option = 2,
                                .mac_last = 9,
                                .eth_last = 9};
        if (way == 1) { /* it asks the same at the same time */
            taken = (struct message){.type = ICMP6_NEIGHBOR_SOLICITATION,
                                     .from = "::",
                                     .to = GROUP,
                                     .target = OURS,
                                     .eth_last = 9};
        } else if (way == 2) { /* our own question, returned by the wire: no conflict */
            taken = (struct message){.type = ICMP6_NEIGHBOR_SOLICITATION,
                                     .from = "::",
                                     .to = GROUP,
                                     .target = OURS,
                                     .eth_last = 1};
        }
        net_lone_open(&lone, addresses, NULL);
        net_lone_wait(&lone, 1000 * MS_NS);
        put(&taken);
        net_lone_wait(&lone, 1010 * MS_NS);
        net_lone_forget(&lone);
        assert_int_equal(lone.stack->own.list[0].state, way == 2 ? OWN_PREFERRED : OWN_DUPLICATE);
        assert_int_equal(answers_ping(), way == 2);
        const struct connect_request request = {.to = net_endpoint("[fd00::2]:25"),
                                                .from = net_endpoint("[fd00::1]:0")};
        struct stream *stream;
        int status = lone.network->ops->connect(lone.network, &request, &stream);
        assert_int_equal(status, way == 2 ? 0 : -EADDRNOTAVAIL);
        if (status == 0) {
            end(stream);
        }
        if (way == 0) { /* and who has it is a host like others */
            struct message other = question;
            other.from = OURS;
            other.to = "ff02::1:ff00:1";
            other.target = LOCAL;
            other.mac_last = other.eth_last = 9;
            put(&other);
            assert_true(net_lone_icmp6(&lone, ICMP6_NEIGHBOR_ADVERTISEMENT, frame) > 0);
            assert_true(address_at(frame + 38, OURS));
            const uint8_t message[8] = {ICMP6_ECHO_REQUEST};
            const struct net_six packet = {
                .from = OURS, .to = LOCAL, .next = IPPROTO_ICMPV6, .payload = message, .bytes = 8};
            net_lone_six(&lone, &packet);
            assert_true(net_lone_icmp6(&lone, ICMP6_ECHO_REPLY, frame) > 0);
        }
        net_lone_close(&lone);
    }
}

static void a_conflict_later_is_counted_and_changes_nothing(void **state)
{
    (void)state;
    struct message other = answer;
    open_sure();
    other.from = OURS;
    other.target = OURS;
    other.to = "ff02::1";
    other.flags = 0x20;
    other.eth_last = 9;
    put(&other);
    assert_int_equal(lone.stack->counters.nd_conflicts, 1);
    assert_true(answers_ping());
    net_lone_close(&lone);
}

static void a_connection_that_is_opened_before_the_address_is_sure_goes_out_after(void **state)
{
    (void)state;
    struct rte_tcp_hdr tcp;
    struct slice text;
    net_lone_open(&lone, addresses, NULL);
    struct stream *stream = connect_to("[fd00::2]:25");
    const struct endpoint peer = net_endpoint("[fd00::2]:1");
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
    net_lone_wait(&lone, 900 * MS_NS);
    assert_false(net_lone_segment(&lone, frame, &tcp, &text));
    assert_true(lone.stack->counters.ip_out_tentative > 0);
    net_lone_wait(&lone, 1200 * MS_NS);
    stack_neighbour_learn(lone.network, &peer, mac);
    net_lone_wait(&lone, 2000 * MS_NS);
    assert_true(net_lone_segment(&lone, frame, &tcp, &text));
    assert_int_equal(tcp.tcp_flags & TCP_SYN, TCP_SYN);
    end(stream);
    net_lone_close(&lone);
}

static void hundreds_of_addresses_are_claimed_without_a_flood(void **state)
{
    (void)state;
    static struct network_prefix many[STACK_ADDRESSES_MAX];
    char text[40];
    for (unsigned i = 0; i < STACK_ADDRESSES_MAX; i++) {
        snprintf(text, sizeof(text), i % 2 == 0 ? "10.1.%u.%u/16" : "fd00::%x:%x/64", i / 250,
                 1 + i % 250);
        assert_int_equal(network_prefix_parse(&many[i], slice_text(text)), 0);
    }
    const struct stack_settings settings = {.addresses = many,
                                            .address_count = STACK_ADDRESSES_MAX};
    net_lone_open(&lone, NULL, &settings);
    unsigned most = lone.count;
    while (lone.stack->own.tentative_count > 0) {
        unsigned before = lone.count;
        net_lone_wait(&lone, 10 * MS_NS);
        most = lone.count - before > most ? lone.count - before : most;
    }
    assert_in_range(most, 1, 64);
    net_lone_wait(&lone, SECOND_NS);
    assert_int_equal(lone.stack->counters.frames_out_lost, 0);
    unsigned announced = 0, arp = 0;
    uint32_t size;
    while ((size = net_lone_take(&lone, frame)) > 0) {
        announced += frame[12] == 0x86 && frame[20] == IPPROTO_ICMPV6 &&
                     frame[AT] == ICMP6_NEIGHBOR_ADVERTISEMENT;
        arp += frame[12] == 0x08 && frame[13] == 0x06;
    }
    assert_int_equal(announced, STACK_ADDRESSES_MAX / 2 + 1);
    assert_int_equal(arp, STACK_ADDRESSES_MAX / 2);
    net_lone_close(&lone);
}

/* ---- listeners ---- */

static void a_listener_query_is_answered_within_its_time(void **state)
{
    (void)state;
    uint8_t query[28] = {ICMP6_LISTENER_QUERY, 0, 0, 0, 0x03, 0xe8}; /* 1000 ms */
    static const uint8_t alert[8] = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    struct net_six packet = {.from = ROUTER,
                             .to = "ff02::1",
                             .next = IPPROTO_HOPOPTS,
                             .protocol = IPPROTO_ICMPV6,
                             .hop_limit = 1,
                             .extensions = alert,
                             .extension_bytes = 8,
                             .payload = query,
                             .bytes = sizeof(query)};
    open_sure();
    net_lone_six(&lone, &packet);
    net_lone_six(&lone, &packet); /* one answer for both */
    net_lone_wait(&lone, 1005 * MS_NS);
    assert_true(net_lone_icmp6(&lone, ICMP6_LISTENER_REPORT, frame) > 0);
    assert_true(address_at(frame + 22, LOCAL));
    assert_int_equal(frame[AT + 8 + 8], 2); /* MODE_IS_EXCLUDE, of nobody */
    assert_true(address_at(frame + AT + 8 + 12, GROUP));
    assert_true(net_lone_icmp6(&lone, ICMP6_LISTENER_REPORT, frame) > 0); /* the link-local one */
    assert_int_equal(net_lone_icmp6(&lone, ICMP6_LISTENER_REPORT, frame), 0);
    packet.hop_limit = 64;
    net_lone_six(&lone, &packet);
    net_lone_wait(&lone, 1005 * MS_NS);
    assert_int_equal(lone.count, 0);
    net_lone_close(&lone);
}

static void a_stack_without_ipv6_says_nothing_of_it(void **state)
{
    (void)state;
    static const char *const ipv4[] = {"10.0.0.1/24", NULL};
    net_lone_open(&lone, ipv4, NULL);
    net_lone_wait(&lone, 20 * SECOND_NS);
    assert_int_equal(net_lone_take(&lone, frame), 42); /* its announcement by ARP */
    assert_int_equal(lone.count, 0);
    ping("ff02::1");
    assert_int_equal(lone.stack->counters.frames_not_ours, 2);
    net_lone_close(&lone);
}

static void senseless_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][3] = {{"ff02::1/64"},  {"::1/128"},
                                           {"::/0"},        {"127.0.0.1/8"},
                                           {"224.0.0.1/4"}, {OURS "/64", OURS "/64"}};
    for (unsigned i = 0; i < RTE_DIM(wrong); i++) {
        assert_int_equal(net_lone_try(&lone, wrong[i], NULL), -EINVAL);
    }
    struct stack_settings narrow = {.mtu = 1279};
    assert_int_equal(net_lone_try(&lone, addresses, &narrow), -EINVAL); /* RFC 8200 §5 */
    narrow.mtu = 1280;
    assert_int_equal(net_lone_try(&lone, addresses, &narrow), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_for_us_is_answered),
        cmocka_unit_test(what_is_not_as_it_should_be_is_refused),
        cmocka_unit_test(the_first_packet_waits_for_the_answer_and_is_not_lost),
        cmocka_unit_test(who_does_not_answer_is_asked_thrice_and_cannot_be_reached),
        cmocka_unit_test(a_neighbour_that_has_aged_is_asked_where_it_was_before_all_are),
        cmocka_unit_test(who_asks_us_is_known_but_must_prove_itself),
        cmocka_unit_test(an_answer_without_override_moves_nobody),
        cmocka_unit_test(an_address_is_used_when_nobody_has_answered_for_a_second),
        cmocka_unit_test(an_address_that_another_host_has_is_never_used),
        cmocka_unit_test(a_conflict_later_is_counted_and_changes_nothing),
        cmocka_unit_test(a_connection_that_is_opened_before_the_address_is_sure_goes_out_after),
        cmocka_unit_test(hundreds_of_addresses_are_claimed_without_a_flood),
        cmocka_unit_test(a_listener_query_is_answered_within_its_time),
        cmocka_unit_test(a_stack_without_ipv6_says_nothing_of_it),
        cmocka_unit_test(senseless_addresses_are_refused),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
