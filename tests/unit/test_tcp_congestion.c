#include "engine/net/tcp_congestion.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct tcp_congestion open_with(uint32_t mss)
{
    struct tcp_congestion congestion;
    tcp_congestion_open(&congestion, &tcp_congestion_newreno, mss);
    return congestion;
}

static void acked(struct tcp_congestion *congestion, uint32_t bytes)
{
    const struct tcp_congestion_ack ack = {.bytes = bytes};
    congestion->ops->acked(congestion, &ack);
}

static void the_first_window_is_that_of_rfc_6928(void **state)
{
    (void)state;
    static const struct {
        uint32_t mss, window;
    } cases[] = {{536, 5360}, {1000, 10000}, {1460, 14600}, {4000, 14600}, {8960, 17920}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(open_with(cases[i].mss).cwnd, cases[i].window);
    }
}

static void slow_start_doubles_the_window_in_a_round_trip(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    for (uint32_t window = 10000; window < 1000000; window *= 2) {
        assert_int_equal(congestion.cwnd, window);
        for (uint32_t bytes = 0; bytes < window; bytes += 2000) {
            acked(&congestion, 2000);
        }
    }
}

static void avoidance_adds_a_segment_in_a_round_trip(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    congestion.ssthresh = 10000;
    for (uint32_t window = 10000; window < 50000; window += 1000) {
        assert_int_equal(congestion.cwnd, window);
        for (uint32_t bytes = 0; bytes < window; bytes += 1000) {
            acked(&congestion, 1000);
        }
    }
    assert_int_equal(congestion.cwnd, 50000);
}

static void a_loss_halves_what_was_under_way_not_the_window(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    congestion.cwnd = 80000;
    congestion.ops->lost(&congestion, 30000, 0);
    assert_int_equal(congestion.ssthresh, 15000);
    assert_int_equal(congestion.cwnd, 80000); /* TCP's, during recovery */
    congestion.ops->lost(&congestion, 1000, 0);
    assert_int_equal(congestion.ssthresh, 2000); /* RFC 5681 (4): two segments at least */
}

static void a_timeout_begins_again_with_one_segment(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    congestion.cwnd = 40000;
    congestion.ops->timed_out(&congestion, 40000, 0);
    assert_int_equal(congestion.cwnd, 1000);
    assert_int_equal(congestion.ssthresh, 20000);
    for (unsigned i = 0; i < 19; i++) {
        acked(&congestion, 1000);
    }
    assert_int_equal(congestion.cwnd, 20000); /* slow start as far as the threshold */
    acked(&congestion, 1000);
    assert_int_equal(congestion.cwnd, 20000);
}

static void after_idling_the_window_is_no_larger_than_at_first(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    congestion.cwnd = 90000;
    congestion.ssthresh = 60000;
    tcp_congestion_restart(&congestion);
    assert_int_equal(congestion.cwnd, 10000);
    assert_int_equal(congestion.ssthresh, 60000);
    congestion.cwnd = 3000;
    tcp_congestion_restart(&congestion);
    assert_int_equal(congestion.cwnd, 3000); /* and no larger than it was */
}

static void the_window_has_an_end(void **state)
{
    (void)state;
    struct tcp_congestion congestion = open_with(1000);
    for (unsigned i = 0; i < 100; i++) {
        acked(&congestion, 1u << 30);
        assert_in_range(congestion.cwnd, 10000, 64u << 20);
    }
    congestion.ssthresh = 1000;
    for (unsigned i = 0; i < 100; i++) {
        acked(&congestion, 1u << 30);
        assert_in_range(congestion.cwnd, 10000, 64u << 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_window_is_that_of_rfc_6928),
        cmocka_unit_test(slow_start_doubles_the_window_in_a_round_trip),
        cmocka_unit_test(avoidance_adds_a_segment_in_a_round_trip),
        cmocka_unit_test(a_loss_halves_what_was_under_way_not_the_window),
        cmocka_unit_test(a_timeout_begins_again_with_one_segment),
        cmocka_unit_test(after_idling_the_window_is_no_larger_than_at_first),
        cmocka_unit_test(the_window_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
