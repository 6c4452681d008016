#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define CONNECTIONS_MAX 40
#define SECOND 1000000000ull

static struct rte_mempool *pools[2];

struct conversation {
    struct net_pair pair;
    struct net_talker talkers[2][CONNECTIONS_MAX];
    unsigned count, accepted;
};

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct conversation *conversation = owner;
    struct stream_facts facts;
    (void)listener;
    stream_facts(stream, &facts);
    /* Which connection it is, is told by its source port. */
    for (unsigned i = 0; i < conversation->count; i++) {
        struct net_talker *client = &conversation->talkers[0][i];
        struct stream_facts of_client;
        if (client->stream == NULL) {
            continue;
        }
        stream_facts(client->stream, &of_client);
        if (of_client.local.port == facts.remote.port) {
            conversation->accepted++;
            net_talker_attach(&conversation->talkers[1][i], stream);
            return;
        }
    }
    stream_abort(stream);
    stream_release(stream);
}

static void conversation_open(struct conversation *conversation,
                              const struct net_pair_settings *settings, unsigned count)
{
    struct listener *listener;
    memset(conversation, 0, sizeof(*conversation));
    conversation->count = count;
    net_pair_open(&conversation->pair, settings, pools);
    struct network *server = conversation->pair.hosts[1].network;
    const struct listen_request request = {
        .at = net_endpoint("0.0.0.0:25"), .accepted = accepted, .owner = conversation};
    assert_int_equal(server->ops->listen(server, &request, &listener), 0);
}

static void talker_connect(struct conversation *conversation, unsigned i)
{
    struct network *client = conversation->pair.hosts[0].network;
    const struct connect_request request = {.to = net_endpoint("10.0.0.2:25"),
                                            .timeout_ns = 120 * SECOND};
    struct stream *stream;
    assert_int_equal(client->ops->connect(client, &request, &stream), 0);
    net_talker_attach(&conversation->talkers[0][i], stream);
}

static bool all_done(struct conversation *conversation)
{
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < conversation->count; i++) {
            if (!net_talker_done(&conversation->talkers[side][i])) {
                return false;
            }
        }
    }
    return true;
}

static void conversation_close(struct conversation *conversation)
{
    struct net_pair *pair = &conversation->pair;
    net_pair_run(pair, 200 * SECOND); /* TIME-WAIT and what lingers */
    net_pair_close(pair);
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < conversation->count; i++) {
            assert_int_equal(conversation->talkers[side][i].references, 0);
        }
        assert_int_equal(rte_mempool_in_use_count(pools[side]), 0);
    }
}

static void dump_counters(const struct stack_counters *counters)
{
    static const char *const names[] = STACK_COUNTER_NAMES;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (stack_counter_at(counters, i) != 0) {
            printf("    %s %lu\n", names[i], (unsigned long)stack_counter_at(counters, i));
        }
    }
}

static void dump(struct conversation *conversation, uint64_t seed)
{
    printf("seed %lu, %.3f s, accepted %u\n", (unsigned long)seed,
           (double)conversation->pair.world.now_ns / 1e9, conversation->accepted);
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < conversation->count; i++) {
            const struct net_talker *t = &conversation->talkers[side][i];
            printf("  %u/%u: sent %lu/%lu received %lu/%lu error %d%s%s%s%s%s\n", side, i,
                   (unsigned long)t->sent, (unsigned long)t->to_send, (unsigned long)t->received,
                   (unsigned long)t->to_receive, t->error, t->wrong ? " WRONG" : "",
                   t->closed ? " closed" : "", t->half_closed ? " half" : "",
                   t->stream == NULL ? " released" : "", t->holds_back ? " slow" : "");
        }
        dump_counters(stack_counters(conversation->pair.hosts[side].network));
    }
}

static bool converse(struct conversation *conversation, uint64_t limit_ns)
{
    struct net_pair *pair = &conversation->pair;
    uint64_t until_ns = pair->world.now_ns + limit_ns, go_ns = 0;
    while (!all_done(conversation) && pair->world.now_ns < until_ns) {
        net_pair_step(pair, pair->world.now_ns + 50000000ull);
        if (pair->world.now_ns > go_ns) { /* those who hold back */
            go_ns = pair->world.now_ns + 20000000ull;
            for (unsigned i = 0; i < 2 * conversation->count; i++) {
                struct net_talker *talker = &conversation->talkers[i % 2][i / 2];
                if (talker->stream != NULL && talker->events != 0 && talker->holds_back) {
                    net_talker_go(talker);
                }
            }
        }
    }
    return all_done(conversation);
}

static void bytes_arrive_exactly_over_a_good_link(void **state)
{
    (void)state;
    static struct conversation conversation;
    const struct net_pair_settings settings = {
        .seed = 1, .faults = {.delay_ns = 50000}, .tx_segments = {true, false}};
    conversation_open(&conversation, &settings, 2);
    for (unsigned i = 0; i < 2; i++) {
        net_talker_open(&conversation.talkers[0][i], &conversation.pair.world, i, 0, 300000,
                        200000);
        net_talker_open(&conversation.talkers[1][i], &conversation.pair.world, i, 1, 200000,
                        300000);
        talker_connect(&conversation, i);
    }
    bool done = converse(&conversation, 20 * SECOND);
    if (!done) {
        dump(&conversation, 1);
    }
    assert_true(done);
    const struct stack_counters *counters = stack_counters(conversation.pair.hosts[0].network);
    assert_int_equal(counters->tcp_retransmitted_segments, 0);
    conversation_close(&conversation);
}

static void a_burst_of_connections_waits_for_the_neighbour_unharmed(void **state)
{
    (void)state;
    static struct conversation conversation;
    const struct net_pair_settings settings = {.seed = 1, .faults = {.delay_ns = 50000}};
    conversation_open(&conversation, &settings, CONNECTIONS_MAX);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        for (unsigned side = 0; side < 2; side++) {
            net_talker_open(&conversation.talkers[side][i], &conversation.pair.world, i, side, 10,
                            10);
        }
        talker_connect(&conversation, i);
    }
    assert_true(converse(&conversation, SECOND / 10));
    const struct stack_counters *counters = stack_counters(conversation.pair.hosts[0].network);
    assert_int_equal(counters->arp_unresolved_lost, 0);
    assert_int_equal(counters->tcp_retransmitted_segments, 0);
    conversation_close(&conversation);
}

static void run_seed(uint64_t seed)
{
    static struct conversation conversation;
    uint64_t random = seed * 1234567;
    struct net_pair_settings settings = {.seed = seed};
    struct net_faults *faults = &settings.faults;
    faults->lost = net_random_below(&random, 2) == 0 ? 0 : net_random_below(&random, 1500);
    faults->repeated = net_random_below(&random, 2) == 0 ? 0 : net_random_below(&random, 1000);
    faults->reordered = net_random_below(&random, 2) == 0 ? 0 : net_random_below(&random, 3000);
    faults->corrupted = net_random_below(&random, 2) == 0 ? 0 : net_random_below(&random, 1000);
    faults->delay_ns = net_random_below(&random, 20000000);
    faults->reorder_ns = net_random_below(&random, 30000000);
    faults->dma_ns = net_random_below(&random, 2) == 0 ? 0 : net_random_below(&random, 500000);
    faults->ring_frames = net_random_below(&random, 3) == 0 ? 4 + net_random_below(&random, 64) : 0;
    for (unsigned side = 0; side < 2; side++) {
        settings.tx_segments[side] = net_random_below(&random, 2) == 0;
        settings.tso[side] = settings.tx_segments[side] && seed % 2 == 0;
        settings.limits[side].receive_window_bytes =
            net_random_below(&random, 2) == 0 ? 1000 + net_random_below(&random, 300000) : 0;
    }
    unsigned count = 1 + net_random_below(&random, 8);
    conversation_open(&conversation, &settings, count);
    for (unsigned i = 0; i < count; i++) {
        uint64_t up = net_random_below(&random, 4) == 0 ? net_random_below(&random, 10)
                                                        : net_random_below(&random, 60000);
        uint64_t down = net_random_below(&random, 4) == 0 ? net_random_below(&random, 10)
                                                          : net_random_below(&random, 60000);
        net_talker_open(&conversation.talkers[0][i], &conversation.pair.world, seed + i, 0, up,
                        down);
        net_talker_open(&conversation.talkers[1][i], &conversation.pair.world, seed + i, 1, down,
                        up);
        for (unsigned side = 0; side < 2; side++) {
            conversation.talkers[side][i].holds_back = net_random_below(&random, 3) == 0;
        }
        talker_connect(&conversation, i);
    }
    bool done = converse(&conversation, 1200 * SECOND), right = true;
    for (unsigned i = 0; i < 2 * count; i++) {
        const struct net_talker *talker = &conversation.talkers[i % 2][i / 2];
        /* A reset is right only when TIME-WAIT ended before the last acknowledgement got through:
         * then all bytes have arrived, which `done` says. */
        right &= !talker->wrong && (talker->error == 0 || talker->error == -ECONNRESET);
    }
    if (!done || !right) {
        dump(&conversation, seed);
    }
    assert_true(done);
    assert_true(right);
    conversation_close(&conversation);
}

static void bytes_arrive_exactly_whatever_the_link_does(void **state)
{
    (void)state;
    const char *one = getenv("TUBEPOST_SEED"), *many = getenv("TUBEPOST_SEEDS");
    if (one != NULL) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 0; seed < (many == NULL ? 200 : strtoull(many, NULL, 10)); seed++) {
        run_seed(seed);
    }
}

static int set_up(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_tcp_pair", .megabytes = 256};
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
        cmocka_unit_test(bytes_arrive_exactly_over_a_good_link),
        cmocka_unit_test(a_burst_of_connections_waits_for_the_neighbour_unharmed),
        cmocka_unit_test(bytes_arrive_exactly_whatever_the_link_does),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
