/* pipe: what is said to its stream, what that says, and who frees it. */
#include "engine/mailbox/pipe.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define FULL 1000u

struct ends {
    struct pipe *pipe;
    uint32_t events; /* that the stream's session was told */
    unsigned heard;
};

static void ends_heard(void *owner)
{
    ((struct ends *)owner)->heard++;
}

static void ends_notified(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    ((struct ends *)session)->events |= events;
}

static unsigned released;

static void ref_released(struct ref *ref)
{
    (void)ref;
    released++;
}

/* Its stream. ref: of what will be written; may be NULL. */
static struct stream *ends_open(struct ends *ends, struct ref *ref)
{
    *ends = (struct ends){.pipe = pipe_open(FULL, ends_heard, ends)};
    assert_non_null(ends->pipe);
    ends->pipe->stream.notify = ends_notified;
    ends->pipe->stream.session = ends;
    released = 0;
    if (ref != NULL) {
        ref_init(ref, ref_released);
    }
    return &ends->pipe->stream;
}

static void what_is_said_is_read_in_order_until_it_is_full(void **state)
{
    struct ends ends;
    struct slice slice;
    char half[FULL / 2] = {0};
    (void)state;
    struct stream *stream = ends_open(&ends, NULL);
    pipe_write(ends.pipe, slice_text("one"));
    assert_int_equal(ends.events, STREAM_READABLE);
    pipe_write(ends.pipe, slice_text("two"));
    assert_int_equal(stream_peek(stream, &slice, 1), 1);
    assert_true(slice_equal(slice, slice_text("onetwo")));
    stream_consume(stream, 6);
    assert_int_equal(stream_peek(stream, &slice, 1), 0);
    pipe_write(ends.pipe, slice_of(half, sizeof half));
    assert_false(pipe_is_full(ends.pipe));
    pipe_write(ends.pipe, slice_of(half, sizeof half));
    assert_true(pipe_is_full(ends.pipe));
    assert_int_equal(ends.heard, 0);
    stream_consume(stream, FULL);
    assert_int_equal(ends.heard, 1);
    assert_false(pipe_is_full(ends.pipe));
    stream_release(stream);
    assert_true(ends.pipe->over);
    pipe_close(ends.pipe);
}

static void what_it_writes_waits_for_room_and_is_let_go_of_when_it_was_used(void **state)
{
    struct ends ends;
    struct ref ref;
    static const char large[FULL] = "large";
    (void)state;
    struct stream *stream = ends_open(&ends, &ref);
    assert_int_equal(stream_write(stream, slice_text("a ")), 0);
    assert_int_equal(ends.heard, 1);
    assert_int_equal(stream_write_ref(stream, slice_of(large, FULL), &ref), 0);
    ref_drop(&ref);
    assert_int_equal(released, 0);
    assert_int_equal(stream_write(stream, slice_text("b")), -EAGAIN);
    assert_int_equal(stream_queued(stream), FULL + 2);
    assert_true(slice_equal(pipe_first(ends.pipe), slice_text("a ")));
    pipe_used(ends.pipe, 2);
    assert_int_equal(ends.events, 0);
    assert_ptr_equal(pipe_first(ends.pipe).bytes, large);
    pipe_used(ends.pipe, FULL);
    assert_int_equal(released, 1);
    assert_int_equal(ends.events, STREAM_WRITABLE | STREAM_DRAINED);
    stream_shut(stream);
    assert_true(ends.pipe->over);
    assert_int_equal(stream_write(stream, slice_text("b")), -EPIPE);
    pipe_close(ends.pipe);
    assert_true(ends.events & STREAM_CLOSED);
    stream_release(stream);
}

static void what_waits_is_let_go_of_when_the_maker_closes_it(void **state)
{
    struct ends ends;
    struct ref ref;
    struct slice slice;
    static const char large[FULL] = "large";
    (void)state;
    struct stream *stream = ends_open(&ends, &ref);
    assert_int_equal(stream_write_ref(stream, slice_of(large, FULL), &ref), 0);
    ref_drop(&ref);
    pipe_write(ends.pipe, slice_text("unread"));
    pipe_close(ends.pipe);
    assert_int_equal(released, 1);
    assert_int_equal(ends.events, STREAM_READABLE | STREAM_CLOSED);
    assert_int_equal(stream->error, -ECONNABORTED);
    assert_int_equal(stream_peek(stream, &slice, 1), 0);
    assert_int_equal(stream_write(stream, slice_text("b")), -EPIPE);
    stream_release(stream);
}

static void release_within_notify(struct stream *stream, uint32_t events, void *session)
{
    ends_notified(stream, events, session);
    stream_release(stream);
}

/* A sanitizer says whether anything of it is left, or used again. */
static void it_may_be_released_while_it_is_closed(void **state)
{
    struct ends ends;
    (void)state;
    ends_open(&ends, NULL)->notify = release_within_notify;
    pipe_close(ends.pipe);
    assert_int_equal(ends.events, STREAM_CLOSED);
}

static void it_may_never_be_taken(void **state)
{
    struct ends ends;
    (void)state;
    ends_open(&ends, NULL)->notify = NULL;
    pipe_close(ends.pipe);
    assert_int_equal(ends.events, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_read_in_order_until_it_is_full),
        cmocka_unit_test(what_it_writes_waits_for_room_and_is_let_go_of_when_it_was_used),
        cmocka_unit_test(what_waits_is_let_go_of_when_the_maker_closes_it),
        cmocka_unit_test(it_may_be_released_while_it_is_closed),
        cmocka_unit_test(it_may_never_be_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
