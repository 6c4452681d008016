/* A passage before a carrier that does what the test wants: holds what was written, lets go of it early, refuses it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/limits.h"
#include "engine/shard/memory.h"
#include "tests/unit/crossing_rig.h"
#include <stdlib.h>

#define PIECES_MAX 4096
#define INPUT_BYTES (2u * CROSSING_WINDOW_BYTES)

struct carrier {
    struct stream stream; /* first */
    struct {
        struct slice bytes;
        struct ref *owner; /* NULL: let go */
    } pieces[PIECES_MAX];
    unsigned piece_count, given_back; /* from the front */
    int answer;                       /* of write_ref; 0: it is taken */
    size_t queued;
    uint8_t input[INPUT_BYTES];
    size_t input_begin, input_end;
    unsigned read_starts, shuts, aborts, releases;
};

static struct carrier *of(const struct stream *stream)
{
    return (struct carrier *)(void *)(uintptr_t)stream;
}

static size_t op_peek(struct stream *stream, struct slice *slices, size_t count)
{
    struct carrier *self = of(stream);
    assert_int_equal(self->releases, 0);
    slices[0] = slice_of(self->input + self->input_begin, self->input_end - self->input_begin);
    return count > 0 && slices[0].size > 0;
}

static void op_consume(struct stream *stream, size_t bytes)
{
    of(stream)->input_begin += bytes;
    assert_true(of(stream)->input_begin <= of(stream)->input_end);
}

static int op_write(struct stream *stream, struct slice bytes)
{
    (void)stream;
    (void)bytes;
    fail(); /* a passage copies nothing */
    return -EPIPE;
}

static int op_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct carrier *self = of(stream);
    assert_int_equal(self->releases + self->shuts, 0);
    if (self->answer == 0) {
        assert_true(self->piece_count < PIECES_MAX);
        self->pieces[self->piece_count].bytes = bytes;
        self->pieces[self->piece_count++].owner = ref_take(owner);
        self->queued += bytes.size;
    }
    return self->answer;
}

static size_t op_queued(const struct stream *stream)
{
    return of(stream)->queued;
}

static void op_read_stop(struct stream *stream)
{
    (void)stream;
    fail();
}

static void op_read_start(struct stream *stream)
{
    of(stream)->read_starts++;
}

static void op_shut(struct stream *stream)
{
    of(stream)->shuts++;
}

static void op_abort(struct stream *stream)
{
    of(stream)->aborts++;
}

static void op_release(struct stream *stream)
{
    of(stream)->releases++;
    stream->notify = NULL;
}

static void op_facts(const struct stream *stream, struct stream_facts *facts)
{
    (void)stream;
    *facts = (struct stream_facts){.transport = "test"};
}

static const struct stream_ops operations = {.peek = op_peek,
                                             .consume = op_consume,
                                             .write = op_write,
                                             .write_ref = op_write_ref,
                                             .queued = op_queued,
                                             .unacknowledged = op_queued,
                                             .read_stop = op_read_stop,
                                             .read_start = op_read_start,
                                             .shut = op_shut,
                                             .abort = op_abort,
                                             .release = op_release,
                                             .facts = op_facts};

static struct carrier carrier;

static struct crossing_rig *scene(void)
{
    struct crossing_rig *rig = cross_open(2, 1000);
    carrier = (struct carrier){.stream.ops = &operations};
    rig->session = (struct crossing_end){.rig = rig, .in = 1, .out = 2};
    rig->way = crossing_to_other;
    cross_pass(rig, &carrier.stream);
    cross_run(rig);
    assert_non_null(rig->session.stream);
    assert_int_equal(carrier.read_starts, 1);
    return rig;
}

static void tell(struct crossing_rig *rig, uint32_t events)
{
    carrier.stream.notify(&carrier.stream, events, carrier.stream.session);
    cross_run(rig);
}

/* The carrier has no more use for so many pieces. */
static void give_back(struct crossing_rig *rig, unsigned count)
{
    for (; count > 0; count--) {
        struct ref *owner = carrier.pieces[carrier.given_back].owner;
        carrier.queued -= carrier.pieces[carrier.given_back].bytes.size;
        carrier.pieces[carrier.given_back++].owner = NULL;
        ref_drop(owner);
    }
    cross_run(rig);
}

/* The session's end, and everything is at home. */
static void finish(struct crossing_rig *rig)
{
    cross_release(&rig->session);
    cross_run(rig);
    assert_int_equal(carrier.releases, 1);
    give_back(rig, carrier.piece_count - carrier.given_back);
    for (unsigned i = 0; i < rig->count; i++) {
        assert_true(crossing_is_quiet(rig->crossings[i]));
    }
    assert_int_equal(rig->refs, 0);
    cross_close(rig);
}

/* ---- To be sent ---- */

static void
what_is_written_by_reference_is_not_copied_and_held_until_the_carrier_lets_go(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    static uint8_t bytes[100000];
    struct ref owner;
    ref_init(&owner, NULL);
    assert_int_equal(stream_write_ref(rig->session.stream, slice_of(bytes, sizeof(bytes)), &owner),
                     0);
    assert_int_equal(cross_write(&rig->session, 10), 0);
    assert_int_equal(stream_write_ref(rig->session.stream, slice_of(bytes, sizeof(bytes)), &owner),
                     0);
    cross_run(rig);
    assert_int_equal(carrier.piece_count, 3);
    assert_ptr_equal(carrier.pieces[0].bytes.bytes, bytes);
    assert_int_equal(carrier.pieces[0].bytes.size, sizeof(bytes));
    assert_int_equal(owner.count, 3);
    assert_int_equal(stream_queued(rig->session.stream), 200010);
    give_back(rig, 2);
    assert_int_equal(owner.count, 2);
    give_back(rig, 1);
    tell(rig, STREAM_DRAINED);
    assert_int_equal(owner.count, 1);
    assert_int_equal(stream_queued(rig->session.stream), 0);
    assert_int_equal(rig->session.events, STREAM_DRAINED);
    finish(rig);
}

static void what_a_round_writes_in_small_pieces_goes_as_one(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(cross_write(&rig->session, 40), 0);
    }
    cross_run(rig);
    assert_int_equal(carrier.piece_count, 1);
    assert_int_equal(carrier.pieces[0].bytes.size, 800);
    finish(rig);
}

static void drained_is_told_when_the_carrier_has_sent_not_when_it_has_encrypted(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    give_back(rig, 2);
    assert_int_equal(rig->session.events, 0);
    assert_int_not_equal(stream_queued(rig->session.stream), 0);
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    tell(rig, STREAM_DRAINED); /* of what came before */
    assert_int_equal(rig->session.events, 0);
    give_back(rig, 1);
    tell(rig, STREAM_DRAINED);
    assert_int_equal(rig->session.events, STREAM_DRAINED);
    assert_int_equal(stream_queued(rig->session.stream), 0);
    assert_int_equal(rig->refs, 0);
    finish(rig);
}

/* A port lets go of what it sends after the peer's acknowledgement. */
static void drained_is_told_when_the_carrier_lets_go_late(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    carrier.queued = 0;
    tell(rig, STREAM_DRAINED);
    assert_int_equal(rig->session.events, 0);
    carrier.queued = 1000;
    give_back(rig, 1);
    assert_int_equal(rig->session.events, STREAM_DRAINED);
    finish(rig);
}

static void a_carrier_that_takes_no_more_is_asked_again_when_it_is_writable(void **state)
{
    (void)state;
    static const int answers[] = {-EAGAIN, -ENOMEM};
    for (unsigned i = 0; i < 2; i++) {
        struct crossing_rig *rig = scene();
        carrier.answer = answers[i];
        assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
        assert_int_equal(cross_write(&rig->session, 2000), 0);
        stream_shut(rig->session.stream);
        cross_run(rig);
        assert_int_equal(stream_queued(rig->session.stream), 3000);
        assert_int_equal(carrier.shuts, 0);
        carrier.answer = 0;
        tell(rig, STREAM_WRITABLE);
        assert_int_equal(carrier.piece_count, 2);
        assert_int_equal(carrier.shuts, 1);
        finish(rig);
    }
}

static void a_carrier_that_refuses_without_ending_is_known_at_the_far_end(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.answer = -EPIPE;
    while (cross_write_ref(&rig->session, 30000) == 0) {
    }
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_WRITABLE);
    assert_int_equal(rig->refs, 0);
    assert_int_equal(cross_write_ref(&rig->session, 1), -EPIPE);
    assert_int_equal(cross_write(&rig->session, 1), -EPIPE);
    finish(rig);
}

static void what_the_carrier_loses_at_its_end_is_not_said_to_be_drained(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    give_back(rig, 2);
    carrier.stream.error = -ECONNRESET;
    tell(rig, STREAM_CLOSED);
    assert_int_equal(rig->session.events, STREAM_CLOSED);
    assert_int_equal(rig->session.error, -ECONNRESET);
    assert_int_equal(stream_queued(rig->session.stream), 0);
    assert_int_equal(rig->refs, 0);
    assert_int_equal(carrier.releases, 0); /* its facts are still looked at */
    finish(rig);
}

/* ---- Received ---- */

static void an_orderly_end_waits_for_bytes_that_find_no_room(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.input_end = INPUT_BYTES;
    tell(rig, STREAM_READABLE | STREAM_HALF_CLOSED | STREAM_CLOSED);
    assert_int_equal(rig->session.events, STREAM_READABLE);
    assert_in_range(carrier.input_begin, CROSSING_WINDOW_BYTES / 10 * 9, CROSSING_WINDOW_BYTES);
    size_t read = 0;
    struct slice slice;
    while (stream_peek(rig->session.stream, &slice, 1) > 0) {
        assert_false(rig->session.closed);
        read += slice.size;
        stream_consume(rig->session.stream, slice.size);
        cross_run(rig);
        if (carrier.input_begin < carrier.input_end) {
            assert_false(rig->session.finished);
        }
        if (carrier.input_begin == carrier.input_end) {
            break;
        }
    }
    assert_true(rig->session.finished && rig->session.closed);
    while (stream_peek(rig->session.stream, &slice, 1) > 0) {
        read += slice.size;
        stream_consume(rig->session.stream, slice.size);
    }
    assert_int_equal(read, INPUT_BYTES);
    finish(rig);
}

static void a_reset_is_told_although_bytes_find_no_room(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.input_end = INPUT_BYTES;
    carrier.stream.error = -ETIMEDOUT;
    tell(rig, STREAM_READABLE | STREAM_CLOSED);
    assert_int_equal(rig->session.events, STREAM_READABLE | STREAM_CLOSED);
    assert_int_equal(rig->session.error, -ETIMEDOUT);
    finish(rig);
}

static void readable_is_not_told_to_who_has_stopped(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.input_end = 10;
    stream_read_stop(rig->session.stream);
    tell(rig, STREAM_READABLE | STREAM_HALF_CLOSED);
    assert_int_equal(rig->session.events, STREAM_HALF_CLOSED);
    stream_read_start(rig->session.stream);
    stream_read_stop(rig->session.stream);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_HALF_CLOSED);
    stream_read_start(rig->session.stream);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_HALF_CLOSED | STREAM_READABLE);
    assert_int_equal(rig->session.told, 2);
    finish(rig);
}

static void what_happens_in_a_round_is_told_at_once(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    carrier.input_end = 10;
    carrier.queued = 0;
    ref_drop(carrier.pieces[0].owner);
    carrier.given_back = 1;
    tell(rig, STREAM_READABLE | STREAM_HALF_CLOSED | STREAM_DRAINED);
    assert_int_equal(rig->session.events, STREAM_READABLE | STREAM_HALF_CLOSED | STREAM_DRAINED);
    assert_int_equal(rig->session.told, 1);
    finish(rig);
}

/* ---- Ends ---- */

static void a_released_end_whose_peer_takes_nothing_is_cut(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_release(&rig->session);
    cross_wait(rig, 25000);
    assert_int_equal(carrier.aborts + carrier.releases, 0);
    carrier.input_end = 5000; /* nobody reads it, nobody waits for it */
    tell(rig, STREAM_READABLE);
    assert_int_equal(carrier.input_begin, 5000);
    carrier.answer = 0;
    tell(rig, STREAM_WRITABLE);
    assert_int_equal(carrier.releases, 1);
    assert_int_equal(carrier.aborts, 0);
    assert_int_equal(rig->refs, 2);
    assert_false(crossing_is_quiet(rig->crossings[0]) || crossing_is_quiet(rig->crossings[1]));
    give_back(rig, 2);
    assert_true(crossing_is_quiet(rig->crossings[0]) && crossing_is_quiet(rig->crossings[1]));
    cross_close(rig);

    rig = scene();
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_release(&rig->session);
    cross_wait(rig, 32000);
    assert_int_equal(carrier.aborts, 1);
    assert_int_equal(carrier.releases, 1);
    assert_int_equal(rig->refs, 0);
    assert_true(crossing_is_quiet(rig->crossings[0]) && crossing_is_quiet(rig->crossings[1]));
    cross_close(rig);
}

static void when_the_service_ends_carriers_are_released_and_far_ends_hear_it(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0); /* on its way */
    crossing_abort(rig->crossings[0]);
    crossing_abort(rig->crossings[0]);
    assert_int_equal(carrier.aborts, 1);
    assert_int_equal(carrier.releases, 1);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_CLOSED);
    assert_int_equal(rig->session.error, -ECONNABORTED);
    assert_int_equal(rig->refs, 1);
    assert_int_equal(cross_write(&rig->session, 1), -EPIPE);
    stream_shut(rig->session.stream);
    finish(rig);
}

static void a_stream_that_is_passed_while_the_service_ends_is_told_so(void **state)
{
    (void)state;
    struct crossing_rig *rig = cross_open(2, 1000);
    carrier = (struct carrier){.stream.ops = &operations};
    rig->session = (struct crossing_end){.rig = rig, .in = 1, .out = 2};
    rig->way = crossing_to_other;
    cross_pass(rig, &carrier.stream);
    crossing_abort(rig->crossings[0]);
    assert_int_equal(carrier.releases, 1);
    cross_run(rig);
    assert_int_equal(rig->session.events, STREAM_CLOSED);
    assert_int_equal(cross_write_ref(&rig->session, 1), -EPIPE);
    finish(rig);
    assert_int_equal(carrier.read_starts, 0);
}

static void when_the_service_ends_what_lingers_is_cut(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_release(&rig->session);
    cross_run(rig);
    crossing_abort(rig->crossings[0]);
    cross_run(rig);
    assert_int_equal(carrier.aborts, 1);
    assert_int_equal(carrier.releases, 1);
    assert_true(crossing_is_quiet(rig->crossings[0]) && crossing_is_quiet(rig->crossings[1]));
    cross_close(rig);
}

static void an_abort_with_a_release_right_behind_it_reaches_the_carrier(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    assert_int_equal(cross_write(&rig->session, 1000), 0);
    stream_shut(rig->session.stream);
    stream_abort(rig->session.stream);
    stream_abort(rig->session.stream);
    assert_int_equal(stream_queued(rig->session.stream), 0);
    finish(rig);
    assert_int_equal(carrier.aborts, 1);
}

static void who_closes_a_store_before_the_others_have_answered_lets_go_of_it(void **state)
{
    (void)state;
    struct crossing_rig *rig = scene();
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_run(rig);
    carrier.answer = -EAGAIN;
    assert_int_equal(cross_write_ref(&rig->session, 1000), 0);
    cross_release(&rig->session);
    cross_run(rig);
    assert_int_equal(rig->refs, 2);
    crossing_let_go(rig->crossings[1]);
    assert_int_equal(rig->refs, 0);
    give_back(rig, 1);
    cross_close(rig);
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_crossing_carrier", .megabytes = 32};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            what_is_written_by_reference_is_not_copied_and_held_until_the_carrier_lets_go),
        cmocka_unit_test(what_a_round_writes_in_small_pieces_goes_as_one),
        cmocka_unit_test(drained_is_told_when_the_carrier_has_sent_not_when_it_has_encrypted),
        cmocka_unit_test(drained_is_told_when_the_carrier_lets_go_late),
        cmocka_unit_test(a_carrier_that_takes_no_more_is_asked_again_when_it_is_writable),
        cmocka_unit_test(a_carrier_that_refuses_without_ending_is_known_at_the_far_end),
        cmocka_unit_test(what_the_carrier_loses_at_its_end_is_not_said_to_be_drained),
        cmocka_unit_test(an_orderly_end_waits_for_bytes_that_find_no_room),
        cmocka_unit_test(a_reset_is_told_although_bytes_find_no_room),
        cmocka_unit_test(readable_is_not_told_to_who_has_stopped),
        cmocka_unit_test(what_happens_in_a_round_is_told_at_once),
        cmocka_unit_test(a_released_end_whose_peer_takes_nothing_is_cut),
        cmocka_unit_test(when_the_service_ends_carriers_are_released_and_far_ends_hear_it),
        cmocka_unit_test(a_stream_that_is_passed_while_the_service_ends_is_told_so),
        cmocka_unit_test(when_the_service_ends_what_lingers_is_cut),
        cmocka_unit_test(an_abort_with_a_release_right_behind_it_reaches_the_carrier),
        cmocka_unit_test(who_closes_a_store_before_the_others_have_answered_lets_go_of_it),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
