#include "engine/net/port_deal.h"
#include "engine/shard/memory.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <string.h>
#include <cmocka.h>

#define SHARDS 4
#define FRAMES 64
#define BURST_FRAMES 32

/* A device in memory with some queues. */
struct device {
    struct port port;
    struct rte_mbuf *arriving[SHARDS][FRAMES];
    struct rte_mbuf *left[SHARDS][FRAMES];
    unsigned arriving_count[SHARDS], left_count[SHARDS];
    bool pollable, full;
    int fd;
    bool closed;
};

static struct rte_mempool *pool;

static uint16_t device_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                               uint16_t count)
{
    struct device *device = (struct device *)port;
    uint16_t got = 0;
    while (got < count && got < device->arriving_count[queue]) {
        frames[got] = device->arriving[queue][got];
        got++;
    }
    for (unsigned i = got; i < device->arriving_count[queue]; i++) {
        device->arriving[queue][i - got] = device->arriving[queue][i];
    }
    device->arriving_count[queue] -= got;
    return got;
}

static uint16_t device_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                                uint16_t count)
{
    struct device *device = (struct device *)port;
    for (uint16_t i = 0; i < count && !device->full; i++) {
        device->left[queue][device->left_count[queue]++] = frames[i];
    }
    return device->full ? 0 : count;
}

static int device_arm(struct port *port, uint16_t queue)
{
    (void)queue;
    return ((struct device *)port)->pollable ? ((struct device *)port)->fd : -ENOTSUP;
}

static void device_close(struct port *port)
{
    ((struct device *)port)->closed = true;
}

static const struct port_ops device_ops = {.receive = device_receive,
                                           .transmit = device_transmit,
                                           .arm = device_arm,
                                           .close = device_close};

static struct port *deal_over(struct device *device, uint16_t queue_count)
{
    struct port *port;
    memset(device, 0, sizeof(*device));
    device->port.ops = &device_ops;
    device->port.facts.queue_count = queue_count;
    assert_int_equal(port_deal_open(&port, &device->port, SHARDS), 0);
    return port;
}

static void deal_end(struct port *port, struct device *device)
{
    for (unsigned queue = 0; queue < SHARDS; queue++) {
        for (unsigned i = 0; i < device->left_count[queue]; i++) {
            rte_pktmbuf_free(device->left[queue][i]);
        }
    }
    port->ops->close(port);
    assert_true(device->closed);
    assert_int_equal(rte_mempool_in_use_count(pool), 0); /* nothing leaks, whatever the test did */
}

static struct rte_mbuf *frame_tcp(uint16_t source_port)
{
    static const uint8_t begin[34] = {
        [12] = 0x08, [14] = 0x45, [17] = 60,  [22] = 64, [23] = 6, [26] = 192,
        [28] = 2,    [29] = 2,    [30] = 192, [32] = 2,  [33] = 1};
    struct rte_mbuf *frame = rte_pktmbuf_alloc(pool);
    assert_non_null(frame);
    uint8_t *bytes = (uint8_t *)rte_pktmbuf_append(frame, 64);
    if (bytes == NULL) {
        abort();
    }
    memset(bytes, 0, 64);
    memcpy(bytes, begin, sizeof(begin));
    bytes[34] = (uint8_t)(source_port >> 8);
    bytes[35] = (uint8_t)source_port;
    bytes[37] = 25;
    return frame;
}

static uint16_t owner_of(const struct port *port, const struct rte_mbuf *frame)
{
    struct rss_tuple tuple;
    assert_true(
        rss_tuple_of_frame(&tuple, rte_pktmbuf_mtod(frame, const uint8_t *), frame->data_len));
    return rss_queue_of(&port->facts.rss, &tuple);
}

static void arrive(struct device *device, uint16_t queue, struct rte_mbuf *frame)
{
    device->arriving[queue][device->arriving_count[queue]++] = frame;
}

static void every_frame_reaches_the_shard_its_hash_names_once(void **state)
{
    (void)state;
    for (uint16_t queues = 1; queues <= SHARDS; queues++) {
        struct device device;
        struct port *port = deal_over(&device, queues);
        struct rte_mbuf *got[FRAMES];
        unsigned seen[SHARDS] = {0};
        for (uint16_t i = 0; i < FRAMES; i++) {
            arrive(&device, i % queues, frame_tcp((uint16_t)(40000 + i)));
        }
        for (unsigned round = 0; round < 8; round++) {
            for (uint16_t shard = 0; shard < SHARDS; shard++) {
                uint16_t count = port->ops->receive(port, shard, got, FRAMES);
                for (uint16_t i = 0; i < count; i++) {
                    assert_int_equal(owner_of(port, got[i]), shard);
                    rte_pktmbuf_free(got[i]);
                }
                seen[shard] += count;
            }
        }
        assert_int_equal(seen[0] + seen[1] + seen[2] + seen[3], FRAMES);
        for (unsigned shard = 0; shard < SHARDS; shard++) {
            assert_true(seen[shard] > FRAMES / SHARDS / 4); /* spread, if not evenly */
        }
        deal_end(port, &device);
    }
}

static void all_fragments_of_a_datagram_reach_one_shard(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 2);
    struct rte_mbuf *got[FRAMES];
    unsigned shards_used = 0;
    for (uint16_t host = 0; host < 8; host++) {
        unsigned meeting = 0;
        for (uint16_t i = 0; i < 4; i++) { /* what stands where the ports would be differs */
            struct rte_mbuf *frame = frame_tcp((uint16_t)(40000 + 977 * i));
            uint8_t *ip = rte_pktmbuf_mtod_offset(frame, uint8_t *, 14);
            ip[6] = i < 3 ? 0x20 : 0; /* more fragments */
            ip[7] = (uint8_t)(i * 4);
            ip[15] = (uint8_t)(10 + host);
            arrive(&device, i % 2, frame);
        }
        for (uint16_t round = 0; round < 2 * SHARDS; round++) {
            uint16_t count = port->ops->receive(port, round % SHARDS, got, FRAMES);
            for (uint16_t i = 0; i < count; i++) {
                meeting |= 1u << round % SHARDS;
                rte_pktmbuf_free(got[i]);
            }
        }
        assert_true(meeting != 0 && (meeting & (meeting - 1)) == 0);
        shards_used |= meeting;
    }
    assert_true((shards_used & (shards_used - 1)) != 0); /* not all on the same */
    deal_end(port, &device);
}

static void frames_of_one_connection_stay_in_order(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    struct rte_mbuf *got[FRAMES], *sent[40];
    uint16_t port_number = 40000, total = 0;
    struct rte_mbuf *probe = frame_tcp(port_number);
    while (owner_of(port, probe) != 2) {
        rte_pktmbuf_free(probe);
        probe = frame_tcp(++port_number);
    }
    rte_pktmbuf_free(probe);
    for (unsigned i = 0; i < 40; i++) {
        sent[i] = frame_tcp(port_number);
        arrive(&device, 0, sent[i]);
    }
    for (unsigned round = 0; round < 4; round++) {
        assert_int_equal(port->ops->receive(port, 0, got, 32), 0);
        uint16_t count = port->ops->receive(port, 2, got, 7 + 3 * round);
        for (uint16_t i = 0; i < count; i++) {
            assert_ptr_equal(got[i], sent[total++]);
            rte_pktmbuf_free(got[i]);
        }
    }
    uint16_t rest = port->ops->receive(port, 2, got, FRAMES);
    rte_pktmbuf_free_bulk(got, rest);
    assert_int_equal(total + rest, 40);
    deal_end(port, &device);
}

static void arp_answers_reach_every_shard_and_requests_the_first(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    struct rte_mbuf *got[FRAMES];
    for (uint8_t operation = 1; operation <= 2; operation++) {
        struct rte_mbuf *frame = frame_tcp(1);
        uint8_t *bytes = rte_pktmbuf_mtod(frame, uint8_t *);
        bytes[13] = 0x06;
        bytes[20] = 0;
        bytes[21] = operation;
        arrive(&device, 0, frame);
        for (uint16_t shard = 0; shard < SHARDS; shard++) {
            uint16_t count = port->ops->receive(port, shard, got, FRAMES);
            assert_int_equal(count, operation == 2 || shard == 0);
            rte_pktmbuf_free_bulk(got, count);
        }
    }
    deal_end(port, &device);
}

static void shards_without_a_queue_send_through_one_that_has(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 2);
    struct rte_mbuf *frames[SHARDS], *got[FRAMES];
    for (uint16_t shard = 0; shard < SHARDS; shard++) {
        frames[shard] = frame_tcp(shard);
        assert_int_equal(port->ops->transmit(port, shard, &frames[shard], 1), 1);
    }
    port->ops->receive(port, 0, got, FRAMES);
    port->ops->receive(port, 1, got, FRAMES);
    assert_int_equal(device.left_count[0], 2);
    assert_ptr_equal(device.left[0][0], frames[0]);
    assert_ptr_equal(device.left[0][1], frames[2]);
    assert_int_equal(device.left_count[1], 2);
    assert_ptr_equal(device.left[1][1], frames[3]);
    deal_end(port, &device);
}

static unsigned released_count;

static void memory_released(void *bytes, void *owner)
{
    (void)bytes;
    (void)owner;
    released_count++;
}

static void frames_that_refer_to_shard_memory_are_copied_and_released_at_home(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    static uint8_t memory[256];
    static struct rte_mbuf_ext_shared_info shared;
    struct rte_mbuf *frame = frame_tcp(7), *body = rte_pktmbuf_alloc(pool), *got[FRAMES];
    memset(memory, 0xab, sizeof(memory));
    shared.free_cb = memory_released;
    rte_mbuf_ext_refcnt_set(&shared, 1);
    rte_pktmbuf_attach_extbuf(body, memory, RTE_BAD_IOVA, sizeof(memory), &shared);
    body->data_len = 200;
    body->pkt_len = 200;
    assert_int_equal(rte_pktmbuf_chain(frame, body), 0);
    released_count = 0;
    assert_int_equal(port->ops->transmit(port, 3, &frame, 1), 1);
    assert_int_equal(released_count, 1); /* before the other shard has even looked */
    port->ops->receive(port, 0, got, FRAMES);
    assert_int_equal(device.left_count[0], 1);
    struct rte_mbuf *left = device.left[0][0];
    uint8_t copy[264];
    assert_int_equal(left->pkt_len, 264);
    assert_memory_equal((const uint8_t *)rte_pktmbuf_read(left, 0, 264, copy) + 64, memory, 200);
    deal_end(port, &device);
}

static void full_rings_and_devices_drop_and_count(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    struct port_deal_counters counters;
    struct rte_mbuf *got[FRAMES], *frame = frame_tcp(1);
    device.full = true;
    assert_int_equal(port->ops->transmit(port, 1, &frame, 1), 1);
    port->ops->receive(port, 0, got, FRAMES);
    port_deal_counters(port, 0, &counters);
    assert_int_equal(counters.sent_lost, 1);
    uint64_t sent = 0;
    for (unsigned i = 0; i < 1100; i++) { /* nobody reads: the ring of 1,024 less one fills */
        frame = frame_tcp(40001);
        if (owner_of(port, frame) == 0) {
            rte_pktmbuf_free(frame);
            frame = frame_tcp(40002);
        }
        arrive(&device, 0, frame);
        uint16_t kept = port->ops->receive(port, 0, got, FRAMES);
        rte_pktmbuf_free_bulk(got, kept);
        sent++;
    }
    port_deal_counters(port, 0, &counters);
    assert_int_equal(counters.dealt, 1023);
    assert_int_equal(counters.dealt + counters.dealt_lost, sent);
    deal_end(port, &device);
}

static bool readable(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return poll(&wanted, 1, 0) == 1;
}

static void sleeping_shard_is_woken_by_what_is_dealt_to_it(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    struct rte_mbuf *got[FRAMES], *frame;
    uint16_t source_port = 1;
    for (frame = frame_tcp(source_port); owner_of(port, frame) != 3;
         frame = frame_tcp(++source_port)) {
        rte_pktmbuf_free(frame);
    }
    int fd = port->ops->arm(port, 3);
    assert_true(fd >= 0);
    assert_false(readable(fd));
    arrive(&device, 0, frame);
    assert_int_equal(port->ops->receive(port, 0, got, FRAMES), 0);
    assert_true(readable(fd));
    assert_int_equal(port->ops->receive(port, 3, got, FRAMES), 1);
    rte_pktmbuf_free(got[0]);
    assert_false(readable(fd));
    deal_end(port, &device);
}

static void shard_with_something_in_its_rings_does_not_go_to_sleep(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    struct rte_mbuf *frame = frame_tcp(9), *got[FRAMES];
    device.pollable = true;
    device.fd = eventfd(0, 0);
    assert_int_equal(port->ops->transmit(port, 2, &frame, 1), 1);
    assert_int_equal(port->ops->arm(port, 0), -EAGAIN);
    port->ops->receive(port, 0, got, FRAMES);
    int fd = port->ops->arm(port, 0);
    assert_true(fd >= 0);
    frame = frame_tcp(10);
    assert_int_equal(port->ops->transmit(port, 2, &frame, 1), 1);
    assert_true(readable(fd));
    close(device.fd);
    deal_end(port, &device);
}

static void door_of_a_device_that_must_be_polled_says_so(void **state)
{
    (void)state;
    struct device device;
    struct port *port = deal_over(&device, 1);
    assert_int_equal(port->ops->arm(port, 0), -ENOTSUP);
    assert_true(port->ops->arm(port, 1) >= 0);
    deal_end(port, &device);
}

#define MANY 20000u

/* Makes frames as they are asked for and takes them back; used by shard 0's thread alone. */
struct source_device {
    struct port port;
    uint32_t made, returned;
};

static uint16_t source_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                               uint16_t count)
{
    struct source_device *device = (struct source_device *)port;
    uint16_t got = 0;
    (void)queue;
    while (got < count && device->made < MANY && device->made - device->returned < 512) {
        frames[got++] = frame_tcp((uint16_t)(device->made++ % 1000));
    }
    return got;
}

static uint16_t source_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                                uint16_t count)
{
    (void)queue;
    ((struct source_device *)port)->returned += count;
    rte_pktmbuf_free_bulk(frames, count);
    return count;
}

static void source_close(struct port *port)
{
    (void)port;
}

struct echo {
    struct port *port;
    struct source_device *device;
    uint16_t shard;
    atomic_bool *over;
};

/* Sends back whatever comes, until the first shard has everything back. */
static void *echo_run(void *owner)
{
    struct echo *echo = owner;
    struct rte_mbuf *frames[BURST_FRAMES];
    while (!atomic_load(echo->over)) {
        uint16_t got = echo->port->ops->receive(echo->port, echo->shard, frames, BURST_FRAMES);
        for (uint16_t sent = 0; sent < got;) {
            sent += echo->port->ops->transmit(echo->port, echo->shard, frames + sent,
                                              (uint16_t)(got - sent));
        }
        if (echo->shard == 0 && echo->device->returned == MANY) {
            atomic_store(echo->over, true);
        }
        if (got == 0) {
            sched_yield();
        }
    }
    return NULL;
}

static void threads_pass_frames_both_ways_and_lose_none(void **state)
{
    (void)state;
    static const struct port_ops ops = {
        .receive = source_receive, .transmit = source_transmit, .close = source_close};
    struct source_device device = {.port = {.ops = &ops, .facts.queue_count = 1}};
    struct port_deal_counters counters;
    struct echo echoes[SHARDS];
    pthread_t threads[SHARDS];
    atomic_bool over = false;
    struct port *port;
    assert_int_equal(port_deal_open(&port, &device.port, SHARDS), 0);
    for (uint16_t shard = 0; shard < SHARDS; shard++) {
        echoes[shard] = (struct echo){port, &device, shard, &over};
        assert_int_equal(pthread_create(&threads[shard], NULL, echo_run, &echoes[shard]), 0);
    }
    for (uint16_t shard = 0; shard < SHARDS; shard++) {
        pthread_join(threads[shard], NULL);
    }
    port_deal_counters(port, 0, &counters);
    assert_int_equal(device.returned, MANY);
    assert_int_equal(counters.kept + counters.dealt, MANY);
    assert_int_equal(counters.dealt_lost, 0);
    port->ops->close(port);
    assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void too_few_queues_or_an_unknown_hash_want_dealing(void **state)
{
    (void)state;
    struct port port = {.facts = {.queue_count = 2, .rss = {.mode = RSS_CLAIMED}}};
    assert_true(port_deal_wanted(&port, 3));
    assert_false(port_deal_wanted(&port, 2));
    port.facts.rss.mode = RSS_UNKNOWN;
    assert_true(port_deal_wanted(&port, 2));
    assert_false(port_deal_wanted(&port, 1));
}

static int set_up(void **state)
{
    (void)state;
    struct memory_settings settings = {.program = "test_port_deal", .megabytes = 64};
    if (memory_start(&settings) < 0) {
        return -1;
    }
    pool = memory_pool_open("deal", 2047, MEMORY_MBUF_BYTES);
    return pool == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pool);
    memory_stop();
    return 0;
}

static void a_port_that_cannot_be_dealt_out_is_closed(void **state)
{
    struct device device = {.port.ops = &device_ops, .port.facts.queue_count = 1};
    struct port *port = &device.port;
    (void)state;
    assert_int_equal(port_deal_among(&port, PORT_DEAL_SHARDS_MAX + 1), -EINVAL);
    assert_true(device.closed);
    assert_null(port);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_few_queues_or_an_unknown_hash_want_dealing),
        cmocka_unit_test(every_frame_reaches_the_shard_its_hash_names_once),
        cmocka_unit_test(all_fragments_of_a_datagram_reach_one_shard),
        cmocka_unit_test(frames_of_one_connection_stay_in_order),
        cmocka_unit_test(arp_answers_reach_every_shard_and_requests_the_first),
        cmocka_unit_test(shards_without_a_queue_send_through_one_that_has),
        cmocka_unit_test(frames_that_refer_to_shard_memory_are_copied_and_released_at_home),
        cmocka_unit_test(full_rings_and_devices_drop_and_count),
        cmocka_unit_test(sleeping_shard_is_woken_by_what_is_dealt_to_it),
        cmocka_unit_test(shard_with_something_in_its_rings_does_not_go_to_sleep),
        cmocka_unit_test(threads_pass_frames_both_ways_and_lose_none),
        cmocka_unit_test(door_of_a_device_that_must_be_polled_says_so),
        cmocka_unit_test(a_port_that_cannot_be_dealt_out_is_closed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
