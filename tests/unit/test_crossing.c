/* Streams whose session is on another shard: what travels, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/limits.h"
#include "engine/shard/memory.h"
#include "tests/unit/crossing_rig.h"
#include <stdlib.h>

#define ROOM (256u * 1024)

static void is_quiet(struct crossing_rig *rig)
{
    cross_run(rig);
    for (unsigned i = 0; i < rig->count; i++) {
        assert_true(crossing_is_quiet(rig->crossings[i]));
    }
    assert_int_equal(rig->refs, 0);
}

/* ---- What travels ---- */

static void do_something(struct crossing_end *end, uint64_t *seed)
{
    static const size_t most[] = {1, 40, 700, 5000, STREAM_WRITE_MAX};
    size_t bytes = cross_dice(seed) % most[cross_dice(seed) % 5] + 1;
    switch (cross_dice(seed) % 6) {
    case 0:
    case 1:
        if (end->written_bytes < CROSSING_RIG_PATTERN_BYTES) {
            int status = cross_write(end, bytes);
            assert_true(status == 0 || status == -EAGAIN);
        }
        break;
    case 2:
        if (end->written_bytes < CROSSING_RIG_PATTERN_BYTES) {
            int status = cross_write_ref(end, bytes * (1 + cross_dice(seed) % 4));
            assert_true(status == 0 || status == -EAGAIN);
        }
        break;
    case 3:
        cross_read(end, bytes * (cross_dice(seed) % 8));
        break;
    case 4:
        stream_read_stop(end->stream);
        break;
    default:
        stream_read_start(end->stream);
        break;
    }
}

static void travel(const struct crossing_way *way, uint64_t seed)
{
    struct crossing_rig *rig = cross_open(3, ROOM);
    cross_connect(rig, way);
    for (unsigned i = 0; i < 3000; i++) {
        do_something(cross_dice(&seed) % 2 == 0 ? &rig->client : &rig->session, &seed);
        if (cross_dice(&seed) % 3 == 0) {
            shard_round(&rig->shards[cross_dice(&seed) % 3]);
        }
    }
    struct crossing_end *ends[] = {&rig->client, &rig->session};
    for (unsigned i = 0; i < 2; i++) {
        stream_read_start(ends[i]->stream);
        stream_shut(ends[i]->stream);
    }
    do {
        cross_run(rig);
    } while (cross_read(&rig->client, SIZE_MAX) + cross_read(&rig->session, SIZE_MAX) > 0);
    assert_int_equal(rig->client.read_bytes, rig->session.written_bytes);
    assert_int_equal(rig->session.read_bytes, rig->client.written_bytes);
    assert_true(rig->session.finished && rig->client.finished);
    assert_true(rig->session.closed && rig->session.error == 0);
    cross_release(&rig->session);
    cross_release(&rig->client);
    is_quiet(rig);
    cross_close(rig);
}

static void bytes_arrive_in_order_whoever_is_slow(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        for (uint64_t seed = 1; seed <= 25; seed++) {
            travel(&crossing_ways[way], seed * 7919 + way);
        }
    }
}

static void what_came_before_the_passing_is_read_behind_it(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    rig->keep = true;
    cross_connect(rig, crossing_to_other);
    assert_int_equal(cross_write(&rig->client, 5000), 0);
    cross_run(rig);
    stream_read_stop(rig->kept);
    assert_int_equal(cross_write(&rig->client, 5000), 0);
    rig->keep = false;
    rig->finished = true;
    cross_pass(rig, rig->kept);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_READABLE | STREAM_HALF_CLOSED);
    assert_int_equal(cross_read(&rig->session, SIZE_MAX), 10000);
    cross_release(&rig->session);
    cross_release(&rig->client);
    is_quiet(rig);
    cross_close(rig);
}

static void facts_are_the_carriers(void **state)
{
    (void)state;
    const struct endpoint remotes[] = {
        {.family = ENDPOINT_UNIX, .path = "somebody"},
        {.family = ENDPOINT_IPV4, .port = 4711, .address = {192, 0, 2, 1}},
        {.family = ENDPOINT_IPV6, .port = 1, .address = {0xfe, 0x80}, .scope = 3}};
    for (unsigned i = 0; i < 3; i++) {
        struct crossing_rig *rig = cross_open(3, ROOM);
        struct stream_facts facts;
        fake_network_set_client(rig->network, &remotes[i]);
        cross_connect(rig, &crossing_ways[2]);
        stream_facts(rig->session.stream, &facts);
        assert_memory_equal(&facts.remote, &remotes[i], sizeof(facts.remote));
        assert_int_equal(facts.local.family, ENDPOINT_NONE);
        assert_string_equal(facts.transport, "test");
        assert_null(facts.tls);
        assert_false(facts.user_known);
        cross_close(rig);
    }
}

/* ---- The window ---- */

static void a_session_that_does_not_read_stops_the_carrier(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    stream_read_stop(rig->session.stream);
    unsigned idle = 0;
    while (idle < 3) {
        idle = cross_write(&rig->client, 4096) == 0 ? 0 : idle + 1;
        cross_run(rig);
    }
    assert_int_equal(rig->session.events, 0);
    assert_in_range(rig->client.written_bytes, ROOM + CROSSING_WINDOW_BYTES / 2,
                    ROOM + CROSSING_WINDOW_BYTES);
    stream_read_start(rig->session.stream);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_READABLE);
    while (cross_read(&rig->session, 10000) > 0) {
        cross_run(rig);
    }
    assert_int_equal(rig->session.read_bytes, rig->client.written_bytes);
    cross_close(rig);
}

static void a_client_that_does_not_read_stops_the_session_until_a_quarter_is_free(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    unsigned idle = 0;
    while (idle < 3) {
        int status = cross_write(&rig->session, 4096);
        assert_true(status == 0 || status == -EAGAIN);
        idle = status == 0 ? 0 : idle + 1;
        cross_run(rig);
    }
    rig->session.events = 0;
    size_t waits = stream_queued(rig->session.stream);
    assert_in_range(waits, CROSSING_WINDOW_BYTES / 10 * 9, CROSSING_WINDOW_BYTES);
    assert_int_equal(stream_unacknowledged(rig->session.stream), waits);
    size_t most = 0;
    while ((rig->session.events & STREAM_WRITABLE) == 0) {
        most += cross_read(&rig->client, 4096);
        cross_run(rig);
    }
    assert_in_range(most, CROSSING_WINDOW_BYTES / 5, CROSSING_WINDOW_BYTES / 3);
    assert_int_equal(rig->session.events & STREAM_DRAINED, 0);
    while (cross_read(&rig->client, SIZE_MAX) > 0) {
        cross_run(rig);
    }
    assert_int_equal(rig->client.read_bytes, rig->session.written_bytes);
    assert_int_equal(stream_queued(rig->session.stream), 0);
    assert_true((rig->session.events & STREAM_DRAINED) != 0);
    cross_close(rig);
}

static void too_much_at_once_is_refused(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    assert_int_equal(cross_write(&rig->session, STREAM_WRITE_MAX + 1), -EMSGSIZE);
    assert_int_equal(cross_write(&rig->session, STREAM_WRITE_MAX), 0);
    assert_int_equal(cross_write(&rig->session, 0), 0);
    assert_int_equal(cross_write_ref(&rig->session, STREAM_WRITE_MAX + 1), 0);
    cross_run(rig);
    assert_int_equal(cross_read(&rig->client, SIZE_MAX), 2 * STREAM_WRITE_MAX + 1);
    cross_close(rig);
}

/* ---- Ends ---- */

static void a_fin_comes_behind_the_last_byte_and_so_does_the_orderly_end(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        struct crossing_rig *rig = cross_open(3, ROOM);
        cross_connect(rig, &crossing_ways[way]);
        assert_int_equal(cross_write(&rig->client, 30000), 0);
        stream_shut(rig->client.stream);
        assert_int_equal(cross_write(&rig->session, 10000), 0);
        assert_int_equal(cross_write_ref(&rig->session, 20000), 0);
        stream_shut(rig->session.stream);
        assert_int_equal(cross_write(&rig->session, 1), -EPIPE);
        assert_int_equal(cross_write_ref(&rig->session, 1), -EPIPE);
        cross_run(rig);
        assert_true(rig->session.finished && rig->session.closed && rig->session.error == 0);
        assert_int_equal(cross_read(&rig->session, SIZE_MAX), 30000);
        assert_int_equal(cross_read(&rig->client, SIZE_MAX), 30000);
        assert_true(rig->client.finished && rig->client.closed);
        cross_release(&rig->session);
        cross_release(&rig->client);
        is_quiet(rig);
        cross_close(rig);
    }
}

static void an_abort_ends_the_other_side(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        for (unsigned by_client = 0; by_client < 2; by_client++) {
            struct crossing_rig *rig = cross_open(3, ROOM);
            struct crossing_end *by = by_client ? &rig->client : &rig->session;
            struct crossing_end *of = by_client ? &rig->session : &rig->client;
            cross_connect(rig, &crossing_ways[way]);
            assert_int_equal(cross_write(by, 1000), 0);
            assert_int_equal(cross_write(of, 1000), 0);
            stream_abort(by->stream);
            cross_run(rig);
            assert_true(by->closed && of->closed);
            assert_int_equal(of->error, -ECONNRESET);
            assert_int_equal(cross_write(&rig->session, 1), -EPIPE);
            assert_int_equal(cross_write_ref(&rig->session, 1), -EPIPE);
            assert_int_equal(stream_queued(rig->session.stream), 0);
            cross_release(&rig->session);
            is_quiet(rig);
            cross_release(&rig->client);
            cross_close(rig);
        }
    }
}

static void what_was_written_before_the_release_is_sent(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        struct crossing_rig *rig = cross_open(3, ROOM);
        cross_connect(rig, &crossing_ways[way]);
        unsigned idle = 0;
        while (idle < 3) {
            int status = cross_write_ref(&rig->session, 5000);
            idle = status == 0 ? 0 : idle + 1;
            cross_run(rig);
        }
        assert_true(rig->refs > 0);
        assert_int_equal(cross_write(&rig->client, 7000), 0);
        cross_release(&rig->session);
        cross_run(rig);
        assert_int_equal(cross_write(&rig->client, 7000), 0);
        while (cross_read(&rig->client, 6000) > 0) {
            cross_run(rig);
        }
        assert_int_equal(rig->client.read_bytes, rig->session.written_bytes);
        assert_true(rig->client.finished);
        cross_release(&rig->client);
        is_quiet(rig);
        cross_close(rig);
    }
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_crossing", .megabytes = 32};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_in_order_whoever_is_slow),
        cmocka_unit_test(what_came_before_the_passing_is_read_behind_it),
        cmocka_unit_test(facts_are_the_carriers),
        cmocka_unit_test(a_session_that_does_not_read_stops_the_carrier),
        cmocka_unit_test(a_client_that_does_not_read_stops_the_session_until_a_quarter_is_free),
        cmocka_unit_test(too_much_at_once_is_refused),
        cmocka_unit_test(a_fin_comes_behind_the_last_byte_and_so_does_the_orderly_end),
        cmocka_unit_test(an_abort_ends_the_other_side),
        cmocka_unit_test(what_was_written_before_the_release_is_sent),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
