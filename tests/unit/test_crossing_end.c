/* Notes and passages when rings are full, memory is short, and shards end before the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/limits.h"
#include "engine/mailbox/crossing_private.h"
#include "engine/shard/memory.h"
#include "engine/shard/shard_private.h"
#include "tests/unit/crossing_rig.h"
#include <stdlib.h>

#define ROOM (256u * 1024)
#define NOTES (3u * SHARD_RING_SIZE)

/* ---- Memory that is short: the test is linked so ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
static uint32_t malloc_fails_percent;
static bool calloc_fails;
static uint64_t malloc_seed = 1;
static size_t calloc_bytes_max; /* of one */

void *__wrap_malloc(size_t bytes)
{
    bool fails = malloc_fails_percent > 0 && cross_dice(&malloc_seed) % 100 < malloc_fails_percent;
    return fails ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    calloc_bytes_max = count * bytes > calloc_bytes_max ? count * bytes : calloc_bytes_max;
    return calloc_fails ? NULL : __real_calloc(count, bytes);
}

/* ---- Notes ---- */

struct numbered {
    struct crossing_note note;
    unsigned number;
};
static unsigned notes_run, notes_dropped;

static void numbered_run(struct shard_message *message, struct shard *receiver)
{
    (void)receiver;
    assert_int_equal(((struct numbered *)(void *)message)->number, notes_run);
    notes_run++;
    free(message);
}

static void numbered_dropped(struct shard_message *message)
{
    notes_dropped++;
    free(message);
}

static void send_notes(struct crossing_rig *rig, unsigned to)
{
    notes_run = notes_dropped = 0;
    for (unsigned i = 0; i < NOTES; i++) {
        struct numbered *numbered = calloc(1, sizeof(*numbered));
        assert_non_null(numbered);
        *numbered = (struct numbered){
            .note.message = {.run = numbered_run, .dropped = numbered_dropped}, .number = i};
        crossing_send(rig->crossings[0], &rig->shards[to], &numbered->note);
    }
}

static int arm_answer(const struct crossing_rig *rig)
{
    const struct shard_private *private = rig->shards[0].private;
    const struct shard_part *part = &private->parts[private->part_count - 1];
    assert_string_equal(part->name, "crossing");
    return part->arm(part->self);
}

static void notes_beyond_the_ring_wait_in_order_and_keep_the_shard_awake(void **state)
{
    (void)state;
    for (unsigned to = 0; to < 2; to++) {
        struct crossing_rig *rig = cross_open(2, ROOM);
        assert_int_equal(arm_answer(rig), SHARD_ARM_URING);
        send_notes(rig, to);
        assert_false(crossing_is_quiet(rig->crossings[0]));
        assert_int_equal(arm_answer(rig), -EAGAIN);
        cross_run(rig);
        assert_int_equal(notes_run, NOTES);
        assert_true(crossing_is_quiet(rig->crossings[0]));
        assert_int_equal(arm_answer(rig), SHARD_ARM_URING);
        cross_close(rig);
    }
}

static void notes_of_a_shard_that_ends_are_dropped_once(void **state)
{
    (void)state;
    for (unsigned to = 0; to < 2; to++) {
        for (unsigned first = 0; first < 2; first++) {
            struct crossing_rig *rig = cross_open(2, ROOM);
            send_notes(rig, to);
            cross_round(rig);
            unsigned run = notes_run;
            assert_in_range(run, 1, NOTES - 1);
            cross_close_shard(rig, first);
            cross_close(rig);
            assert_int_equal(notes_run, run);
            assert_int_equal(notes_dropped, NOTES - run);
        }
    }
}

static void a_note_to_a_shard_that_has_ended_is_dropped(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_close_shard(rig, 1);
    send_notes(rig, 1);
    assert_int_equal(notes_dropped, NOTES);
    assert_true(crossing_is_quiet(rig->crossings[0]));
    cross_close(rig);
}

static void a_passage_works_while_the_ring_is_full(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    send_notes(rig, 1);
    assert_int_equal(cross_write(&rig->client, 1000), 0);
    stream_shut(rig->client.stream);
    cross_run(rig);
    assert_int_equal(notes_run, NOTES);
    assert_true(rig->session.finished);
    assert_int_equal(cross_read(&rig->session, SIZE_MAX), 1000);
    cross_close(rig);
}

/* ---- Memory ---- */

static void without_memory_the_carrier_stays_the_callers(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    rig->keep = true;
    cross_connect(rig, crossing_to_other);
    calloc_fails = true;
    struct stream *far = crossing_pass(rig->crossings[0], rig->crossings[1], rig->kept, false);
    calloc_fails = false;
    assert_null(far);
    assert_true(crossing_is_quiet(rig->crossings[0]));
    cross_pass(rig, rig->kept);
    assert_int_equal(cross_write(&rig->client, 100), 0);
    cross_run(rig);
    assert_int_equal(cross_read(&rig->session, SIZE_MAX), 100);
    cross_close(rig);
}

static void what_is_received_without_memory_stays_in_the_carrier_until_there_is_some(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    malloc_fails_percent = 100;
    assert_int_equal(cross_write(&rig->client, 10000), 0);
    stream_shut(rig->client.stream);
    cross_wait(rig, 500);
    assert_int_equal(rig->session.events, 0);
    malloc_fails_percent = 0;
    cross_wait(rig, 200);
    assert_int_equal(rig->session.events, STREAM_READABLE | STREAM_HALF_CLOSED);
    assert_int_equal(cross_read(&rig->session, SIZE_MAX), 10000);
    cross_close(rig);
}

static void a_write_without_memory_says_so_and_when_to_try_again(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, ROOM);
    cross_connect(rig, crossing_to_other);
    malloc_fails_percent = 100;
    assert_int_equal(cross_write(&rig->session, 10), -ENOMEM);
    assert_int_equal(cross_write_ref(&rig->session, 10), -ENOMEM);
    malloc_fails_percent = 0;
    cross_run(rig);
    assert_int_equal(rig->session.events, 0);
    cross_wait(rig, 200);
    assert_int_equal(rig->session.events, STREAM_WRITABLE);
    assert_int_equal(cross_write(&rig->session, 10), 0);
    cross_run(rig);
    assert_int_equal(cross_read(&rig->client, SIZE_MAX), 10);
    cross_close(rig);
}

static void nothing_is_lost_while_memory_comes_and_goes(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        uint64_t seed = way;
        struct crossing_rig *rig = cross_open(3, ROOM);
        cross_connect(rig, &crossing_ways[way]);
        malloc_fails_percent = 40;
        for (unsigned i = 0; i < 2000; i++) {
            size_t bytes = cross_dice(&seed) % 9000 + 1;
            struct crossing_end *end = cross_dice(&seed) % 2 == 0 ? &rig->client : &rig->session;
            if (cross_dice(&seed) % 2 == 0) {
                int status = cross_dice(&seed) % 2 == 0 ? cross_write(end, bytes)
                                                        : cross_write_ref(end, bytes);
                assert_true(status == 0 || status == -EAGAIN || status == -ENOMEM);
            } else {
                cross_read(end, bytes * 4);
            }
            rig->now_ns += 5 * CROSSING_RIG_MS;
            cross_round(rig);
        }
        malloc_fails_percent = 0;
        do {
            cross_wait(rig, 300);
        } while (cross_read(&rig->client, SIZE_MAX) + cross_read(&rig->session, SIZE_MAX) > 0);
        assert_int_equal(rig->client.read_bytes, rig->session.written_bytes);
        assert_int_equal(rig->session.read_bytes, rig->client.written_bytes);
        cross_close(rig);
    }
}

static void an_idle_passage_is_small_and_holds_nothing_else(void **state)
{
    (void)state;
    const struct endpoint remote = {.family = ENDPOINT_IPV6, .address = {0x20, 1}, .port = 1};
    struct crossing_rig *rig = cross_open(2, ROOM);
    fake_network_set_client(rig->network, &remote);
    rig->keep = true;
    cross_connect(rig, crossing_to_other);
    calloc_bytes_max = 0;
    cross_pass(rig, rig->kept);
    assert_in_range(calloc_bytes_max, sizeof(struct passage), 400);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(cross_write(&rig->client, 5000), 0);
        cross_run(rig);
        assert_int_equal(cross_write(&rig->session, 5000), 0);
        assert_int_equal(cross_write_ref(&rig->session, 5000), 0);
        cross_run(rig);
        cross_read(&rig->session, SIZE_MAX);
        cross_read(&rig->client, SIZE_MAX);
        cross_run(rig);
    }
    const struct passage *passage = (const void *)rig->session.stream;
    assert_null(passage->near.last);
    assert_null(passage->far.chunk);
    assert_int_equal(passage->near.held, 0);
    assert_int_equal(passage->near.window_used, 0);
    assert_int_equal(passage->far.window_used, 0);
    assert_false(passage->near.word.away || passage->far.word.away);
    cross_close(rig);
}

/* ---- Shards that end ---- */

static void do_something(struct crossing_end *end, uint64_t *seed)
{
    size_t bytes = cross_dice(seed) % 12000 + 1;
    if (end->stream == NULL) {
        return;
    }
    switch (cross_dice(seed) % 40) {
    case 0:
        stream_shut(end->stream);
        break;
    case 1:
        stream_abort(end->stream);
        break;
    case 2:
        cross_release(end);
        break;
    default:
        switch (cross_dice(seed) % 3) {
        case 0:
            cross_write(end, bytes);
            break;
        case 1:
            cross_write_ref(end, bytes);
            break;
        default:
            cross_read(end, bytes);
        }
    }
}

/* The session's shard may be the first, with the far end released or not. */
static void end_somewhere(const struct crossing_way *way, uint64_t seed)
{
    struct crossing_rig *rig = cross_open(3, ROOM);
    cross_connect(rig, way);
    for (unsigned i = cross_dice(&seed) % 60; i > 0; i--) {
        do_something(cross_dice(&seed) % 3 == 0 ? &rig->client : &rig->session, &seed);
        if (cross_dice(&seed) % 2 == 0) {
            shard_round(&rig->shards[cross_dice(&seed) % 3]);
        }
    }
    if (cross_dice(&seed) % 4 == 0) {
        crossing_abort(rig->crossings[cross_dice(&seed) % 3]);
    }
    cross_close_network(rig);
    unsigned first = cross_dice(&seed) % 3;
    for (unsigned i = 0; i < 3; i++) {
        cross_close_shard(rig, (first + i) % 3);
        unsigned next = (first + i + 1) % 3;
        if (i < 2 && cross_dice(&seed) % 2 == 0) {
            crossing_let_go(rig->crossings[next]);
        } else if (i < 2 && next > 0 && cross_dice(&seed) % 2 == 0) {
            shard_round(&rig->shards[next]);
        }
    }
    cross_close(rig);
}

static void shards_may_end_in_any_order_at_any_time(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        for (uint64_t seed = 1; seed <= 300; seed++) {
            end_somewhere(&crossing_ways[way], seed * 104729 + way);
        }
    }
}

static void a_passage_comes_to_its_end_however_it_is_left(void **state)
{
    (void)state;
    for (unsigned way = 0; way < CROSSING_WAYS; way++) {
        for (uint64_t number = 1; number <= 300; number++) {
            uint64_t seed = number * 15485863 + way;
            struct crossing_rig *rig = cross_open(3, ROOM);
            cross_connect(rig, &crossing_ways[way]);
            for (unsigned i = cross_dice(&seed) % 80; i > 0; i--) {
                do_something(cross_dice(&seed) % 3 == 0 ? &rig->client : &rig->session, &seed);
                if (cross_dice(&seed) % 2 == 0) {
                    shard_round(&rig->shards[cross_dice(&seed) % 3]);
                }
            }
            struct crossing_end *ends[] = {&rig->client, &rig->session};
            for (unsigned i = 0; i < 2; i++) {
                if (ends[i]->stream != NULL) {
                    cross_release(ends[i]);
                }
            }
            cross_run(rig);
            for (unsigned i = 0; i < 3; i++) {
                assert_true(crossing_is_quiet(rig->crossings[i]));
            }
            assert_int_equal(rig->refs, 0);
            assert_int_equal(fake_network_streams(rig->network), 0);
            cross_close(rig);
        }
    }
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_crossing_end", .megabytes = 32};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_beyond_the_ring_wait_in_order_and_keep_the_shard_awake),
        cmocka_unit_test(notes_of_a_shard_that_ends_are_dropped_once),
        cmocka_unit_test(a_note_to_a_shard_that_has_ended_is_dropped),
        cmocka_unit_test(a_passage_works_while_the_ring_is_full),
        cmocka_unit_test(without_memory_the_carrier_stays_the_callers),
        cmocka_unit_test(what_is_received_without_memory_stays_in_the_carrier_until_there_is_some),
        cmocka_unit_test(a_write_without_memory_says_so_and_when_to_try_again),
        cmocka_unit_test(nothing_is_lost_while_memory_comes_and_goes),
        cmocka_unit_test(an_idle_passage_is_small_and_holds_nothing_else),
        cmocka_unit_test(shards_may_end_in_any_order_at_any_time),
        cmocka_unit_test(a_passage_comes_to_its_end_however_it_is_left),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
