#include "engine/net/tcp_cubic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

#define MSS 1000u
#define MS 1000000ull
#define SECOND (1000 * MS)

static struct tcp_congestion congestion;
static uint64_t now_ns;
static uint32_t snd_una;

static double cube(double x)
{
    return x * x * x;
}

static double cube_root(double x) /* Newton's way */
{
    double root = 1;
    for (unsigned i = 0; i < 60; i++) {
        root -= (cube(root) - x) / (3 * root * root);
    }
    return root;
}

static void open_in_avoidance(uint32_t cwnd)
{
    tcp_congestion_open(&congestion, &tcp_congestion_cubic, MSS);
    congestion.cwnd = cwnd;
    congestion.ssthresh = cwnd;
    now_ns = SECOND;
    snd_una = 1;
}

/* A window's worth of acknowledgements of a segment each, evenly over the round trip. */
static void round_trip(uint32_t rtt_ms)
{
    uint32_t window = congestion.cwnd;
    for (uint32_t bytes = 0; bytes + MSS <= window; bytes += MSS) {
        now_ns += rtt_ms * MS * MSS / window;
        snd_una += MSS;
        const struct tcp_congestion_ack ack = {.bytes = MSS,
                                               .now_ns = now_ns,
                                               .srtt_us = rtt_ms * 1000,
                                               .rtt_us = rtt_ms * 1000,
                                               .snd_una = snd_una,
                                               .snd_nxt = snd_una + window};
        congestion.ops->acked(&congestion, &ack);
    }
}

static void lose(void)
{
    congestion.ops->lost(&congestion, congestion.cwnd, now_ns);
    congestion.cwnd = congestion.ssthresh; /* what recovery ends with */
}

static void k_is_the_cube_root_of_what_was_lost_over_c(void **state)
{
    (void)state;
    for (uint32_t w_max = 2; w_max < 40000; w_max = w_max * 3 / 2) {
        uint32_t cwnd = w_max * 7 / 10;
        double k_ms = 1000 * cube_root((w_max - cwnd) / 0.4);
        assert_in_range(tcp_cubic_k_ms(w_max * MSS, cwnd * MSS, MSS), (uint32_t)k_ms - 1,
                        (uint32_t)k_ms + 1);
    }
}

static void growth_is_the_cube_of_time_times_c(void **state)
{
    (void)state;
    static const struct {
        int64_t t_ms, bytes;
    } cases[] = {{0, 0},
                 {1000, 400},
                 {-1000, -400},
                 {10000, 400000},
                 {-5000, -50000},
                 {60000, 86400000},
                 {-60000, -86400000},
                 {61000, 86400000},
                 {-90000, -86400000}}; /* bounded, not overflowing */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(tcp_cubic_growth(cases[i].t_ms, 1000), cases[i].bytes);
    }
}

static void a_loss_leaves_seven_tenths(void **state)
{
    (void)state;
    open_in_avoidance(100 * MSS);
    congestion.ops->lost(&congestion, 100 * MSS, now_ns);
    assert_int_equal(congestion.ssthresh, 70 * MSS);
    assert_int_equal(congestion.cwnd, 100 * MSS); /* TCP's, during recovery */
    congestion.ops->lost(&congestion, MSS, now_ns);
    assert_int_equal(congestion.ssthresh, 2 * MSS);
}

/* RFC 9438 §4.4 and §4.5: concave to W_max at K, then convex. Round trips of 200 ms, so that Reno is
 * slower. */
static void the_window_follows_the_cubic_function(void **state)
{
    (void)state;
    open_in_avoidance(1000 * MSS);
    lose();
    double start_s = (double)now_ns / 1e9, k_s = cube_root(300 / 0.4);
    bool plateau = false;
    uint64_t before = congestion.cwnd;
    for (unsigned i = 0; i < 80; i++) {
        round_trip(200);
        double t_s = (double)now_ns / 1e9 - start_s;
        double window = (0.4 * cube(t_s - k_s) + 1000) * MSS;
        assert_true(congestion.cwnd > 0.97 * window && congestion.cwnd < 1.03 * window);
        plateau |= congestion.cwnd - before < MSS;
        before = congestion.cwnd;
    }
    assert_true(plateau); /* about W_max it hardly grows */
    assert_true(congestion.cwnd > 1100 * MSS);
}

/* §4.3: on short paths it grows as Reno with its alpha. 10 ms: in a second 100 round trips of 9/17
 * segments; the cubic function would give 0.4. */
static void on_a_short_path_it_is_no_slower_than_reno(void **state)
{
    (void)state;
    open_in_avoidance(100 * MSS);
    lose();
    for (unsigned i = 0; i < 34; i++) {
        round_trip(10);
    }
    assert_in_range(congestion.cwnd, 86 * MSS, 90 * MSS); /* 70 + 34 * 9/17 = 88 */
    for (unsigned i = 0; i < 30; i++) {
        round_trip(10);
    }
    uint32_t at_prior = congestion.cwnd;
    assert_in_range(at_prior, 99 * MSS, 108 * MSS);
    for (unsigned i = 0; i < 30; i++) { /* W_est has reached cwnd_prior: a segment each time */
        round_trip(10);
    }
    assert_in_range(congestion.cwnd - at_prior, 27 * MSS, 31 * MSS);
}

static void who_loses_early_gives_room_to_others(void **state)
{
    (void)state;
    open_in_avoidance(1000 * MSS);
    lose();
    lose(); /* at 700, before it was back at 1000: W_max is 700 * 0.85 */
    assert_int_equal(congestion.cwnd, 490 * MSS);
    double k_s = cube_root((595 - 490) / 0.4);
    uint64_t start_ns = now_ns;
    while (now_ns - start_ns < (uint64_t)(k_s * 1e9)) {
        round_trip(200);
    }
    assert_in_range(congestion.cwnd, 590 * MSS, 600 * MSS);
}

static void after_a_timeout_growth_begins_where_slow_start_ends(void **state)
{
    (void)state;
    open_in_avoidance(100 * MSS);
    congestion.ops->timed_out(&congestion, 100 * MSS, now_ns);
    assert_int_equal(congestion.cwnd, MSS);
    assert_int_equal(congestion.ssthresh, 70 * MSS);
    for (unsigned i = 0; i < 6; i++) {
        round_trip(200);
    }
    assert_in_range(congestion.cwnd, 64 * MSS, 70 * MSS);
    for (unsigned i = 0; i < 10; i++) { /* §4.8: K = 0, W_max = cwnd: 0.4 * 2^3 at most, or Reno */
        round_trip(200);
    }
    assert_in_range(congestion.cwnd, 71 * MSS, 80 * MSS);
}

/* §5.8: else the window would jump after an idle hour. */
static void time_without_need_of_the_window_does_not_count(void **state)
{
    (void)state;
    open_in_avoidance(1000 * MSS);
    lose();
    for (unsigned i = 0; i < 10; i++) {
        round_trip(200);
    }
    uint32_t before = congestion.cwnd;
    now_ns += 3600 * SECOND;
    round_trip(200);
    assert_in_range(congestion.cwnd, before, before + before / 20);
}

static void undo_puts_all_back(void **state)
{
    (void)state;
    open_in_avoidance(1000 * MSS);
    lose();
    round_trip(200);
    struct tcp_congestion before = congestion;
    congestion.ops->timed_out(&congestion, congestion.cwnd, now_ns);
    round_trip(200);
    tcp_congestion_undo(&congestion, &before);
    assert_memory_equal(&congestion, &before, sizeof(before));
}

/* RFC 9406: the round trip gets longer by an eighth: slow start ends after five slower rounds, with
 * no loss. */
static void a_growing_round_trip_ends_slow_start_before_a_loss(void **state)
{
    (void)state;
    tcp_congestion_open(&congestion, &tcp_congestion_cubic, MSS);
    now_ns = SECOND;
    snd_una = 1;
    for (unsigned i = 0; i < 4; i++) {
        round_trip(40);
    }
    uint32_t before = congestion.cwnd;
    assert_true(before >= 150 * MSS);
    for (unsigned i = 0; i < 8 && congestion.ssthresh == UINT32_MAX; i++) {
        round_trip(46);
    }
    assert_int_equal(congestion.ssthresh, congestion.cwnd);
    assert_in_range(congestion.cwnd, before * 2, before * 5); /* not 2^6 */
}

static void a_round_trip_that_grew_by_chance_does_not_end_it(void **state)
{
    (void)state;
    tcp_congestion_open(&congestion, &tcp_congestion_cubic, MSS);
    now_ns = SECOND;
    snd_una = 1;
    round_trip(40);
    round_trip(40);
    round_trip(46);
    for (unsigned i = 0; i < 8; i++) {
        round_trip(41);
    }
    assert_int_equal(congestion.ssthresh, UINT32_MAX);
    assert_true(congestion.cwnd > 2000 * MSS);
}

static void the_window_has_an_end(void **state)
{
    (void)state;
    open_in_avoidance(1000 * MSS);
    for (unsigned i = 0; i < 2000; i++) {
        now_ns += SECOND;
        const struct tcp_congestion_ack ack = {
            .bytes = 1u << 30, .now_ns = now_ns, .srtt_us = 1000000};
        congestion.ops->acked(&congestion, &ack);
        assert_in_range(congestion.cwnd, 1000 * MSS, 64u << 20);
    }
    congestion.ssthresh = UINT32_MAX;
    for (unsigned i = 0; i < 20; i++) {
        const struct tcp_congestion_ack ack = {.bytes = 1u << 30, .now_ns = now_ns};
        congestion.ops->acked(&congestion, &ack);
        assert_in_range(congestion.cwnd, 1000 * MSS, 64u << 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(k_is_the_cube_root_of_what_was_lost_over_c),
        cmocka_unit_test(growth_is_the_cube_of_time_times_c),
        cmocka_unit_test(a_loss_leaves_seven_tenths),
        cmocka_unit_test(the_window_follows_the_cubic_function),
        cmocka_unit_test(on_a_short_path_it_is_no_slower_than_reno),
        cmocka_unit_test(who_loses_early_gives_room_to_others),
        cmocka_unit_test(after_a_timeout_growth_begins_where_slow_start_ends),
        cmocka_unit_test(time_without_need_of_the_window_does_not_count),
        cmocka_unit_test(undo_puts_all_back),
        cmocka_unit_test(a_growing_round_trip_ends_slow_start_before_a_loss),
        cmocka_unit_test(a_round_trip_that_grew_by_chance_does_not_end_it),
        cmocka_unit_test(the_window_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
