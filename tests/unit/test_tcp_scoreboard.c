#include "engine/net/tcp_scoreboard.h"
#include "tests/unit/net_link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define MSS 10u

static uint32_t add(struct tcp_scoreboard *board, uint32_t begin, uint32_t end)
{
    return tcp_scoreboard_add(board, (struct tcp_range){begin, end});
}

static void ranges_that_touch_or_overlap_become_one(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    assert_int_equal(add(&board, 100, 200), 100);
    assert_int_equal(add(&board, 300, 400), 100);
    assert_int_equal(board.count, 2);
    assert_int_equal(add(&board, 150, 180), 0); /* known */
    assert_int_equal(add(&board, 200, 250), 50);
    assert_int_equal(board.count, 2);
    assert_int_equal(add(&board, 240, 310), 50);
    assert_int_equal(board.count, 1);
    assert_int_equal(board.ranges[0].begin, 100);
    assert_int_equal(board.ranges[0].end, 400);
    assert_int_equal(board.sacked_bytes, 300);
}

static void what_is_acknowledged_is_forgotten(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    add(&board, 100, 200);
    add(&board, 300, 400);
    tcp_scoreboard_advance(&board, 150);
    assert_int_equal(board.sacked_bytes, 150);
    tcp_scoreboard_advance(&board, 200);
    assert_int_equal(board.count, 1);
    tcp_scoreboard_advance(&board, 1000);
    assert_int_equal(board.count + board.sacked_bytes, 0);
}

/* RFC 6675 §4: three ranges above, or more than two full segments in them. */
static void what_counts_as_lost(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    assert_int_equal(tcp_scoreboard_lost_before(&board, 100, MSS), 100);
    add(&board, 120, 130);
    assert_int_equal(tcp_scoreboard_lost_before(&board, 100, MSS), 100);
    add(&board, 130, 140); /* two, in one range: not more than two */
    assert_int_equal(tcp_scoreboard_lost_before(&board, 100, MSS), 100);
    add(&board, 150, 151);
    assert_int_equal(tcp_scoreboard_lost_before(&board, 100, MSS), 120);
    struct tcp_scoreboard apart = {0};
    add(&apart, 110, 111);
    add(&apart, 120, 121);
    add(&apart, 130, 131);
    assert_int_equal(tcp_scoreboard_lost_before(&apart, 100, MSS), 110);
    add(&apart, 140, 141);
    assert_int_equal(tcp_scoreboard_lost_before(&apart, 100, MSS), 120);
}

static void holes_lie_between_the_ranges(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    add(&board, 120, 130);
    add(&board, 150, 160);
    assert_int_equal(tcp_scoreboard_hole(&board, 100), 100);
    assert_int_equal(tcp_scoreboard_hole(&board, 120), 130);
    assert_int_equal(tcp_scoreboard_hole(&board, 129), 130);
    assert_int_equal(tcp_scoreboard_hole(&board, 130), 130);
    assert_int_equal(tcp_scoreboard_hole(&board, 155), 160);
    assert_int_equal(tcp_scoreboard_hole_end(&board, 100, 200), 120);
    assert_int_equal(tcp_scoreboard_hole_end(&board, 130, 200), 150);
    assert_int_equal(tcp_scoreboard_hole_end(&board, 130, 140), 140);
    assert_int_equal(tcp_scoreboard_hole_end(&board, 160, 200), 200);
}

static void the_pipe_holds_what_is_neither_there_nor_lost_and_what_went_again(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    assert_int_equal(tcp_scoreboard_pipe(&board, 100, 200, 100, MSS), 100);
    add(&board, 120, 150); /* more than two segments: what lies before is lost */
    assert_int_equal(tcp_scoreboard_pipe(&board, 100, 200, 100, MSS), 50);
    assert_int_equal(tcp_scoreboard_pipe(&board, 100, 200, 110, MSS), 60);
    assert_int_equal(tcp_scoreboard_pipe(&board, 100, 200, 160, MSS), 80);
}

/* The lowest are kept: they are what is repaired first. */
static void when_there_are_too_many_ranges_the_highest_is_forgotten(void **state)
{
    (void)state;
    struct tcp_scoreboard board = {0};
    for (uint32_t i = 0; i < TCP_SACKED_MAX; i++) {
        assert_int_equal(add(&board, 1000 + 20 * i, 1010 + 20 * i), 10);
    }
    assert_int_equal(add(&board, 5000, 5010), 0);
    assert_int_equal(board.count, TCP_SACKED_MAX);
    add(&board, 500, 510);
    assert_int_equal(board.count, TCP_SACKED_MAX);
    assert_int_equal(board.ranges[0].begin, 500);
    assert_int_equal(board.ranges[TCP_SACKED_MAX - 1].begin, 1000 + 20 * (TCP_SACKED_MAX - 2));
    assert_int_equal(board.sacked_bytes, 10 * TCP_SACKED_MAX);
}

/* Against one flag for each byte, across the end of the sequence numbers. */
static void any_ranges_are_as_if_each_byte_were_marked(void **state)
{
    (void)state;
    enum { SPAN = 600 };
    uint64_t random = 6;
    for (unsigned run = 0; run < 3000; run++) {
        struct tcp_scoreboard board = {0};
        uint8_t marked[SPAN] = {0};
        uint32_t base = (uint32_t)0 - 300, una = 0;
        for (unsigned i = 0; i < 12; i++) {
            if (net_random_below(&random, 4) == 0) {
                una += net_random_below(&random, 60);
                tcp_scoreboard_advance(&board, base + una);
                memset(marked, 0, una);
            }
            uint32_t begin = una + 1 + net_random_below(&random, 400);
            uint32_t end = begin + 1 + net_random_below(&random, 60);
            if (end > SPAN) {
                continue;
            }
            uint32_t news = 0, sum = 0;
            for (uint32_t at = begin; at < end; at++) {
                news += marked[at] == 0;
                marked[at] = 1;
            }
            assert_int_equal(add(&board, base + begin, base + end), news);
            for (uint32_t at = una; at < SPAN; at++) {
                uint32_t hole = at;
                while (hole < SPAN && marked[hole] != 0) {
                    hole++;
                }
                assert_int_equal(tcp_scoreboard_hole(&board, base + at), base + hole);
                sum += marked[at];
            }
            assert_int_equal(board.sacked_bytes, sum);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_that_touch_or_overlap_become_one),
        cmocka_unit_test(what_is_acknowledged_is_forgotten),
        cmocka_unit_test(what_counts_as_lost),
        cmocka_unit_test(holes_lie_between_the_ranges),
        cmocka_unit_test(the_pipe_holds_what_is_neither_there_nor_lost_and_what_went_again),
        cmocka_unit_test(when_there_are_too_many_ranges_the_highest_is_forgotten),
        cmocka_unit_test(any_ranges_are_as_if_each_byte_were_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
