#include "engine/core/limits.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

/* What one connection gets through a path that loses and reorders at random, on virtual time, against
 * the window that theory gives: Mathis et al., sqrt(3/2 / p) segments a round trip, for Reno, and so
 * the least for CUBIC (RFC 9438 §4.3); RFC 9438 §5.1, figure 5 where CUBIC is faster. */

#define MS 1000000ull
#define SECOND (1000 * MS)
#define RTT_NS (20 * MS)
#define MSS 1448u

static struct rte_mempool *pools[2];

struct path {
    struct net_pair pair;
    struct stream *sender, *receiver;
    uint64_t received;
    bool writable;
};

static struct path path;
static uint8_t block[STREAM_WRITE_MAX];

static void sender_notified(struct stream *stream, uint32_t events, void *session)
{
    (void)session;
    if ((events & (STREAM_CONNECTED | STREAM_WRITABLE)) != 0) {
        while (stream_write(stream, slice_of(block, sizeof(block))) == 0) {
        }
    }
    assert_false((events & STREAM_CLOSED) != 0);
}

static void receiver_notified(struct stream *stream, uint32_t events, void *session)
{
    struct slice slices[16];
    size_t count;
    (void)session;
    (void)events;
    while ((count = stream_peek(stream, slices, 16)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += slices[i].size;
        }
        stream_consume(stream, bytes);
        path.received += bytes;
    }
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    stream->notify = receiver_notified;
    path.receiver = stream;
}

static void path_open(const struct net_pair_settings *settings)
{
    struct listener *listener;
    memset(&path, 0, sizeof(path));
    net_pair_open(&path.pair, settings, pools);
    struct network *client = path.pair.hosts[0].network, *server = path.pair.hosts[1].network;
    const struct listen_request listen = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    const struct connect_request connect = {.to = net_endpoint("10.0.0.2:25")};
    assert_int_equal(server->ops->listen(server, &listen, &listener), 0);
    assert_int_equal(client->ops->connect(client, &connect, &path.sender), 0);
    path.sender->notify = sender_notified;
}

static void path_close(void)
{
    stream_abort(path.sender);
    stream_release(path.sender);
    if (path.receiver != NULL) {
        stream_abort(path.receiver);
        stream_release(path.receiver);
    }
    net_pair_run(&path.pair, 10 * SECOND);
    net_pair_close(&path.pair);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), 0);
}

/* Segments in a round trip, over several seeds. */
static double window_achieved(const struct net_faults *faults, uint8_t congestion, uint64_t for_ns)
{
    uint64_t bytes = 0, timeouts = 0, recoveries = 0, again = 0, undos = 0, probes = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct net_pair_settings settings = {
            .seed = seed, .faults = *faults, .tx_segments = {true, true}};
        settings.limits[0].congestion = congestion;
        settings.limits[1].receive_window_bytes = 4u << 20;
        settings.faults.delay_ns = RTT_NS / 2;
        path_open(&settings);
        net_pair_run(&path.pair, 2 * SECOND); /* slow start is not what is measured */
        uint64_t before = path.received;
        net_pair_run(&path.pair, for_ns);
        bytes += path.received - before;
        const struct stack_counters *counters = stack_counters(path.pair.hosts[0].network);
        timeouts += counters->tcp_timeouts;
        recoveries += counters->tcp_recoveries;
        again += counters->tcp_retransmitted_segments;
        undos += counters->tcp_undos;
        probes += counters->tcp_loss_probes;
        path_close();
    }
    double window = (double)bytes / 4 / MSS / ((double)for_ns / RTT_NS);
    printf("    %s, lost %.1f %%, reordered %.1f %%: %.1f segments a round trip, %.3f MB/s; %lu "
           "timeouts, %lu recoveries, %lu sent again, %lu undone, %lu probes\n",
           congestion == STACK_NEWRENO ? "newreno" : "cubic", faults->lost / 100.0,
           faults->reordered / 100.0, window, window * MSS / RTT_NS * 1e3, (unsigned long)timeouts,
           (unsigned long)recoveries, (unsigned long)again, (unsigned long)undos,
           (unsigned long)probes);
    return window;
}

static double square_root(double x)
{
    double root = 1;
    for (unsigned i = 0; i < 60; i++) {
        root = (root + x / root) / 2;
    }
    return root;
}

static double reno_window(double loss)
{
    return square_root(1.5 / loss);
}

static const struct net_faults losses[] = {{.lost = 10}, {.lost = 100}, {.lost = 500}};

static void newreno_gets_what_theory_gives(void **state)
{
    (void)state;
    static const double least[] = {0.75, 0.75,
                                   0.5}; /* of 5 % many are lost twice, or in the tail */
    for (size_t i = 0; i < RTE_DIM(losses); i++) {
        double theory = reno_window(losses[i].lost / 1e4);
        assert_true(window_achieved(&losses[i], STACK_NEWRENO, 20 * SECOND) > least[i] * theory);
    }
}

static void cubic_gets_no_less_than_reno(void **state)
{
    (void)state;
    static const double least[] = {0.9, 0.8, 0.55};
    for (size_t i = 0; i < RTE_DIM(losses); i++) {
        double theory = reno_window(losses[i].lost / 1e4);
        assert_true(window_achieved(&losses[i], STACK_CUBIC, 20 * SECOND) > least[i] * theory);
    }
}

static void reordering_costs_little(void **state)
{
    (void)state;
    const struct net_faults mixed = {.reordered = 200, .reorder_ns = 4 * MS};
    assert_true(window_achieved(&mixed, STACK_CUBIC, 10 * SECOND) > 50);
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 256};
    (void)state;
    return memory_start(&settings) < 0 ? -1 : net_pools_open(pools, 8191);
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
        cmocka_unit_test(newreno_gets_what_theory_gives),
        cmocka_unit_test(cubic_gets_no_less_than_reno),
        cmocka_unit_test(reordering_costs_little),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
