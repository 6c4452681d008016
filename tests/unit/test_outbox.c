/*
 * outbox: everything comes out in order and once, whatever a stream takes at a time; a slow reader is seen; a message's
 * bytes are held until they were taken, and dropped when the session ends.
 */
#include "engine/mailbox/outbox.h"
#include "engine/core/limits.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

/* A stream that takes so much. */
static struct {
    struct stream stream;
    char taken[1 << 16];
    size_t size, room;
    unsigned refs, copies;
    int error;
} wire;

static int wire_take(struct slice bytes)
{
    if (wire.error != 0) {
        return wire.error;
    }
    if (bytes.size > wire.room) {
        return -EAGAIN;
    }
    memcpy(wire.taken + wire.size, bytes.bytes, bytes.size);
    wire.size += bytes.size;
    wire.room -= bytes.size;
    return 0;
}

static int wire_write(struct stream *stream, struct slice bytes)
{
    (void)stream;
    assert_in_range(bytes.size, 1, STREAM_WRITE_MAX);
    int status = wire_take(bytes);
    wire.copies += status == 0;
    return status;
}

static int wire_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    (void)stream;
    assert_true(owner->count > 0);
    int status = wire_take(bytes);
    wire.refs += status == 0;
    return status;
}

static const struct stream_ops wire_ops = {.write = wire_write, .write_ref = wire_write_ref};

static unsigned released;

static void memory_released(struct ref *ref)
{
    (void)ref;
    released++;
}

static int wire_open(void **state)
{
    (void)state;
    memset(&wire, 0, sizeof(wire));
    wire.stream.ops = &wire_ops;
    wire.room = sizeof(wire.taken);
    released = 0;
    return 0;
}

static char message[8192];

static void replies_and_messages_come_out_in_order(void **state)
{
    (void)state;
    struct outbox outbox;
    struct ref owner;
    ref_init(&owner, memory_released);
    memset(message, 'm', sizeof(message));
    outbox_open(&outbox, 4096);
    outbox_write(&outbox, slice_text("* 1 FETCH (BODY[] {8192}\r\n"));
    outbox_write_ref(&outbox, slice_of(message, sizeof(message)), &owner);
    ref_drop(&owner);
    outbox_write(&outbox, slice_text(")\r\n"));
    outbox_write(&outbox, slice_text("a OK\r\n"));
    assert_int_equal(released, 0);
    assert_int_equal(outbox_flush(&outbox, &wire.stream), 0);
    assert_int_equal(released, 1);
    assert_int_equal(wire.size, 26 + 8192 + 9);
    assert_memory_equal(wire.taken, "* 1 FETCH (BODY[] {8192}\r\nmmm", 29);
    assert_memory_equal(wire.taken + 26 + 8192 - 1, "m)\r\na OK\r\n", 10);
    assert_int_equal(wire.refs, 1);
    assert_int_equal(wire.copies, 2);
    assert_int_equal(outbox.bytes + outbox.memory_bytes, 0);
}

static void a_short_piece_of_a_message_is_copied_with_the_reply(void **state)
{
    (void)state;
    struct outbox outbox;
    struct ref owner;
    ref_init(&owner, memory_released);
    outbox_open(&outbox, 4096);
    outbox_write(&outbox, slice_text("{5}\r\n"));
    outbox_write_ref(&outbox, slice_text("hello"), &owner);
    assert_int_equal(owner.count, 1);
    assert_int_equal(outbox_flush(&outbox, &wire.stream), 0);
    assert_int_equal(wire.copies, 1);
    assert_int_equal(wire.refs, 0);
}

static void whatever_the_stream_takes_at_a_time_nothing_is_lost_or_sent_twice(void **state)
{
    (void)state;
    char expected[30000];
    struct outbox outbox;
    outbox_open(&outbox, 4096);
    for (size_t i = 0; i < sizeof(expected); i++) {
        expected[i] = (char)('a' + i % 23);
    }
    for (size_t at = 0, step = 1; at < sizeof(expected); at += step, step = step * 5 % 6007 + 1) {
        outbox_write(&outbox, slice_first(slice_of(expected + at, sizeof(expected) - at), step));
    }
    wire.room = 0;
    assert_int_equal(outbox_flush(&outbox, &wire.stream), -EAGAIN);
    for (int round = 0; round < 100000 && !outbox_is_empty(&outbox); round++) {
        wire.room += 301;
        int status = outbox_flush(&outbox, &wire.stream);
        assert_true(status == 0 || status == -EAGAIN);
    }
    assert_int_equal(wire.size, sizeof(expected));
    assert_memory_equal(wire.taken, expected, sizeof(expected));
}

static void it_is_full_until_half_of_it_is_gone(void **state)
{
    (void)state;
    struct outbox outbox;
    outbox_open(&outbox, 10000);
    for (int i = 0; i < 9; i++) {
        outbox_write(&outbox, slice_of(message, 1000));
        assert_false(outbox_is_full(&outbox));
    }
    outbox_write(&outbox, slice_of(message, 1000));
    assert_true(outbox_is_full(&outbox));
    wire.room = 4050;
    assert_int_equal(outbox_flush(&outbox, &wire.stream), -EAGAIN);
    assert_true(outbox.bytes > 5000);
    assert_true(outbox_is_full(&outbox));
    wire.room = 4050;
    assert_int_equal(outbox_flush(&outbox, &wire.stream), -EAGAIN);
    assert_false(outbox_is_full(&outbox));
    outbox_close(&outbox);
}

static void what_was_not_taken_is_dropped_at_the_end(void **state)
{
    (void)state;
    struct outbox outbox;
    struct ref owner;
    ref_init(&owner, memory_released);
    outbox_open(&outbox, 4096);
    outbox_write(&outbox, slice_text("reply"));
    outbox_write_ref(&outbox, slice_of(message, sizeof(message)), &owner);
    ref_drop(&owner);
    wire.error = -EPIPE;
    assert_int_equal(outbox_flush(&outbox, &wire.stream), -EPIPE);
    outbox_close(&outbox);
    assert_int_equal(released, 1);
    assert_int_equal(outbox.bytes + outbox.memory_bytes, 0);
}

static void who_writes_in_place_says_how_much_it_was(void **state)
{
    (void)state;
    struct outbox outbox;
    outbox_open(&outbox, 4096);
    for (int i = 0; i < 3; i++) {
        uint8_t *place = outbox_place(&outbox, OUTBOX_PLACE_MAX);
        assert_non_null(place);
        memcpy(place, "* OK\r\n", 6);
        outbox_wrote(&outbox, 6);
    }
    assert_int_equal(outbox_flush(&outbox, &wire.stream), 0);
    assert_int_equal(wire.size, 18);
    assert_memory_equal(wire.taken, "* OK\r\n* OK\r\n* OK\r\n", 18);
    /* A place of which nothing was used says nothing. */
    assert_non_null(outbox_place(&outbox, 10));
    assert_int_equal(outbox_flush(&outbox, &wire.stream), 0);
    assert_int_equal(outbox.memory_bytes, 0);
}

/* The test is linked so that it can make the heap short. */
void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
static bool heap_is_short;
void *__wrap_malloc(size_t bytes)
{
    return heap_is_short ? NULL : __real_malloc(bytes);
}

static void when_memory_is_short_nothing_follows_the_gap_and_the_session_is_told(void **state)
{
    (void)state;
    struct outbox outbox;
    struct ref owner;
    ref_init(&owner, memory_released);
    outbox_open(&outbox, 4096);
    outbox_write(&outbox, slice_text("before "));
    heap_is_short = true;
    outbox_write_ref(&outbox, slice_of(message, sizeof(message)), &owner);
    heap_is_short = false;
    outbox_write(&outbox, slice_text("behind"));
    assert_null(outbox_place(&outbox, 4));
    assert_int_equal(owner.count, 1);
    assert_int_equal(outbox_flush(&outbox, &wire.stream), -ENOMEM);
    assert_int_equal(wire.size, 7);
    outbox_close(&outbox);
}

static void what_waits_moves_and_is_taken_otherwise_too(void **state)
{
    (void)state;
    struct outbox outbox, other;
    struct ref owner;
    char taken[9000] = {0};
    size_t size = 0;
    ref_init(&owner, memory_released);
    outbox_open(&outbox, 4096);
    outbox_open(&other, 4096);
    outbox_write(&other, slice_text("first "));
    outbox_write(&outbox, slice_text("{8192}\r\n"));
    outbox_write_ref(&outbox, slice_of(message, sizeof(message)), &owner);
    ref_drop(&owner);
    outbox_write(&outbox, slice_text(")"));
    outbox_move(&other, &outbox);
    assert_int_equal(outbox.bytes + outbox.memory_bytes, 0);
    assert_int_equal(other.bytes, 6 + 8 + 8192 + 1);
    for (size_t step = 1; !outbox_is_empty(&other); step = step * 5 % 6007 + 1) {
        struct slice bytes = slice_first(outbox_first(&other), step);
        memcpy(taken + size, bytes.bytes, bytes.size);
        size += bytes.size;
        outbox_sent(&other, bytes.size);
    }
    assert_int_equal(size, 6 + 8 + 8192 + 1);
    assert_memory_equal(taken, "first {8192}\r\n", 14);
    assert_int_equal(taken[size - 1], ')');
    assert_int_equal(released, 1);
    assert_int_equal(other.memory_bytes, 0);
    assert_int_equal(outbox_first(&other).size, 0);
    outbox_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(replies_and_messages_come_out_in_order, wire_open),
        cmocka_unit_test_setup(a_short_piece_of_a_message_is_copied_with_the_reply, wire_open),
        cmocka_unit_test_setup(whatever_the_stream_takes_at_a_time_nothing_is_lost_or_sent_twice,
                               wire_open),
        cmocka_unit_test_setup(it_is_full_until_half_of_it_is_gone, wire_open),
        cmocka_unit_test_setup(what_was_not_taken_is_dropped_at_the_end, wire_open),
        cmocka_unit_test_setup(what_waits_moves_and_is_taken_otherwise_too, wire_open),
        cmocka_unit_test_setup(who_writes_in_place_says_how_much_it_was, wire_open),
        cmocka_unit_test_setup(when_memory_is_short_nothing_follows_the_gap_and_the_session_is_told,
                               wire_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
