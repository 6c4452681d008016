#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/list.h"
#include "engine/shard/uring.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct counted {
    struct uring_op op;
    unsigned count;
    int32_t result;
    struct uring *uring;
    unsigned again; /* submissions that `done` makes itself */
};

static void counted_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct counted *counted = list_entry(op, struct counted, op);
    (void)cqe_flags;
    counted->count++;
    counted->result = result;
    if (counted->again > 0) {
        counted->again--;
        io_uring_prep_nop(uring_entry(counted->uring, op));
    }
}

static const enum uring_mode modes[] = {URING_SLEEPS, URING_POLLS};

static void with_nothing_to_do_the_kernel_is_not_entered(void **state)
{
    (void)state;
    for (unsigned m = 0; m < 2; m++) {
        struct uring uring;
        assert_int_equal(uring_open(&uring, 8, modes[m]), 0);
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(uring_submit(&uring), 0);
            assert_int_equal(uring_reap(&uring), 0);
        }
        assert_int_equal(uring.enter_count, 0);
        uring_close(&uring);
    }
}

static void many_entries_go_in_one_call(void **state)
{
    (void)state;
    for (unsigned m = 0; m < 2; m++) {
        struct uring uring;
        struct counted counted = {.op = {counted_done}};
        assert_int_equal(uring_open(&uring, 64, modes[m]), 0);
        for (unsigned i = 0; i < 64; i++) {
            io_uring_prep_nop(uring_entry(&uring, &counted.op));
        }
        assert_int_equal(uring_submit(&uring), 0);
        assert_int_equal(uring.enter_count, 1);
        assert_int_equal(uring_reap(&uring), 64);
        assert_int_equal(counted.count, 64);
        uring_close(&uring);
    }
}

static void a_full_queue_submits_by_itself_and_loses_nothing(void **state)
{
    (void)state;
    struct uring uring;
    struct counted counted = {.op = {counted_done}};
    assert_int_equal(uring_open(&uring, 4, URING_SLEEPS), 0);
    /* More than the completion queue holds too: the kernel keeps the rest. */
    for (unsigned i = 0; i < 1000; i++) {
        io_uring_prep_nop(uring_entry(&uring, &counted.op));
    }
    for (unsigned i = 0; i < 1000 && counted.count < 1000; i++) {
        uring_submit(&uring);
        uring_reap(&uring);
    }
    assert_int_equal(counted.count, 1000);
    uring_close(&uring);
}

/* What completes after the submission: a descriptor becomes readable. */
static void a_late_completion_is_seen_without_waiting(void **state)
{
    (void)state;
    for (unsigned m = 0; m < 2; m++) {
        struct uring uring;
        struct counted counted = {.op = {counted_done}};
        uint64_t one = 1;
        int fd = eventfd(0, EFD_CLOEXEC);
        assert_int_equal(uring_open(&uring, 8, modes[m]), 0);
        io_uring_prep_poll_add(uring_entry(&uring, &counted.op), fd, POLLIN);
        assert_int_equal(uring_submit(&uring), 0);
        assert_int_equal(uring_reap(&uring), 0);
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        uint64_t entered = uring.enter_count;
        uring_submit(&uring);
        assert_int_equal(uring_reap(&uring), 1);
        assert_int_equal(counted.result & POLLIN, POLLIN);
        assert_true(uring.enter_count - entered <= (modes[m] == URING_POLLS ? 0 : 1));
        uring_close(&uring);
        close(fd);
    }
}

static void what_done_submits_waits_for_the_next_reap(void **state)
{
    (void)state;
    struct uring uring;
    assert_int_equal(uring_open(&uring, 8, URING_SLEEPS), 0);
    struct counted counted = {.op = {counted_done}, .uring = &uring, .again = 3};
    io_uring_prep_nop(uring_entry(&uring, &counted.op));
    for (unsigned round = 1; round <= 4; round++) {
        uring_submit(&uring);
        assert_int_equal(uring_reap(&uring), 1);
        assert_int_equal(counted.count, round);
    }
    uring_close(&uring);
}

static void a_wait_ends_with_a_completion_or_its_time(void **state)
{
    (void)state;
    for (unsigned m = 0; m < 2; m++) {
        struct uring uring;
        struct counted counted = {.op = {counted_done}};
        int fd = eventfd(1, EFD_CLOEXEC);
        assert_int_equal(uring_open(&uring, 8, modes[m]), 0);
        assert_int_equal(uring_wait(&uring, 1000), -ETIME);
        io_uring_prep_poll_add(uring_entry(&uring, &counted.op), fd, POLLIN);
        assert_int_equal(uring_wait(&uring, 60000000000), 0); /* submits it as well */
        assert_int_equal(uring_reap(&uring), 1);
        uring_close(&uring);
        close(fd);
    }
}

static void an_entry_without_an_op_is_told_to_nobody(void **state)
{
    (void)state;
    struct uring uring;
    assert_int_equal(uring_open(&uring, 8, URING_SLEEPS), 0);
    io_uring_prep_nop(uring_entry(&uring, NULL));
    uring_submit(&uring);
    assert_int_equal(uring_reap(&uring), 1);
    uring_close(&uring);
}

int main(void)
{
    if (uring_probe() < 0) {
        printf("1..1\nok 1 - io_uring # SKIP not permitted here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_nothing_to_do_the_kernel_is_not_entered),
        cmocka_unit_test(many_entries_go_in_one_call),
        cmocka_unit_test(a_full_queue_submits_by_itself_and_loses_nothing),
        cmocka_unit_test(a_late_completion_is_seen_without_waiting),
        cmocka_unit_test(what_done_submits_waits_for_the_next_reap),
        cmocka_unit_test(a_wait_ends_with_a_completion_or_its_time),
        cmocka_unit_test(an_entry_without_an_op_is_told_to_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
