#include "engine/net/tcp_rack.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#define MS 1000u          /* in microseconds */
#define START 4294960000u /* of sequence numbers and of time: both wrap in each test */

static struct tcp_rack rack;
static struct tcp_rack_memory memory;
static struct tcp_scoreboard board;
static uint32_t snd_una;
static uint64_t now_us;

static void flight_open(void)
{
    memset(&memory, 0, sizeof(memory));
    tcp_scoreboard_clear(&board);
    snd_una = START;
    now_us = START;
    tcp_rack_open(&rack, snd_una);
}

static struct tcp_range at(uint32_t begin, uint32_t end)
{
    return (struct tcp_range){START + begin, START + end};
}

static void send(uint32_t begin, uint32_t end)
{
    tcp_rack_sent(&rack, &board, at(begin, end), (uint32_t)now_us, false);
}

static void send_again(uint32_t begin, uint32_t end)
{
    tcp_rack_sent(&rack, &board, at(begin, end), (uint32_t)now_us, true);
}

static uint32_t told(struct tcp_range range, bool has_echo, uint32_t echo_ms)
{
    const struct tcp_rack_now now = {
        .now_us = now_us, .has_echo = has_echo, .ts_offset = 77, .ts_echo = echo_ms + 77};
    return tcp_rack_delivered(&rack, &memory, &board, range, &now);
}

static uint32_t sacked(uint32_t begin, uint32_t end)
{
    uint32_t rtt_us = told(at(begin, end), false, 0);
    tcp_scoreboard_add(&board, at(begin, end));
    return rtt_us;
}

static uint32_t acked(uint32_t to)
{
    uint32_t rtt_us = told((struct tcp_range){snd_una, START + to}, false, 0);
    snd_una = START + to;
    tcp_scoreboard_advance(&board, snd_una);
    tcp_rack_advance(&rack, snd_una);
    return rtt_us;
}

static uint32_t wait_us;

static bool look(uint32_t reo_wnd_us)
{
    return tcp_rack_detect_loss(&rack, &board, reo_wnd_us, (uint32_t)now_us, &wait_us);
}

static void assert_lost(uint32_t begin, uint32_t end)
{
    struct tcp_range range;
    assert_true(tcp_rack_first_lost(&rack, &board, &range));
    assert_int_equal(range.begin - START, begin);
    assert_int_equal(range.end - START, end);
}

/* Counts that are kept must be those that are. */
static void assert_sound(void)
{
    uint32_t lost = 0, again = 0, end = rack.begin;
    for (uint32_t i = 0; i < rack.count; i++) {
        assert_true(seq_before(end, rack.sent[i].end));
        end = rack.sent[i].end;
        lost += rack.sent[i].lost;
        again += rack.sent[i].retransmitted && !rack.sent[i].lost;
    }
    assert_int_equal(rack.lost_count, lost);
    assert_int_equal(rack.again_count, again);
}

static void what_leaves_together_is_one_record(void **state)
{
    (void)state;
    flight_open();
    send(0, 1000);
    send(1000, 2000);
    assert_int_equal(rack.count, 1);
    now_us += 5;
    send(2000, 3000);
    assert_int_equal(rack.count, 2);
    acked(500);
    assert_int_equal(rack.count, 2);
    acked(2000);
    assert_int_equal(rack.count, 1);
    acked(3000);
    assert_int_equal(rack.count, 0);
    assert_sound();
}

/* RFC 8985 §3.1: the time is that of the segment that was delivered, plus the reordering window. */
static void what_left_before_a_delivered_segment_is_lost_after_the_reordering_window(void **state)
{
    (void)state;
    flight_open();
    send(0, 1000);
    now_us += 10 * MS;
    send(1000, 2000);
    now_us += 30 * MS;
    assert_int_equal(sacked(1000, 2000), 30 * MS);
    assert_int_equal(memory.min_rtt_us, 30 * MS);
    assert_false(look(15 * MS)); /* sent 40 ms ago, of 30 + 15 */
    assert_int_equal(wait_us, 5 * MS);
    now_us += 5 * MS;
    assert_true(look(15 * MS));
    assert_lost(0, 1000);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 1000);
    assert_false(look(15 * MS)); /* said once */
    assert_sound();
}

static void of_those_that_left_together_only_the_earlier_is_lost(void **state)
{
    (void)state;
    flight_open();
    send(0, 8000);
    now_us += 20 * MS;
    sacked(3000, 5000);
    assert_true(look(0));
    assert_lost(0, 3000);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 3000); /* not what lies above 5000 */
    sacked(6000, 7000);
    assert_true(look(0));
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 4000);
    assert_sound();
}

static void nothing_is_lost_by_a_usual_acknowledgement(void **state)
{
    (void)state;
    flight_open();
    send(0, 4000);
    now_us += 20 * MS;
    acked(2000);
    now_us += 500 * MS;
    assert_false(look(0));
    assert_int_equal(wait_us, 0);
}

static void a_retransmission_that_is_lost_is_seen(void **state)
{
    (void)state;
    flight_open();
    send(0, 3000);
    now_us += 20 * MS;
    sacked(1000, 3000);
    assert_true(look(0));
    send_again(0, 1000);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 0);
    now_us += MS;
    send(3000, 4000);
    now_us += 20 * MS;
    sacked(3000, 4000); /* left after the retransmission, and is here */
    assert_true(look(0));
    assert_lost(0, 1000);
    assert_sound();
}

/* §6.2 step 2: the acknowledgement may be of the first copy. */
static void a_retransmission_tells_its_time_only_when_it_must_be_its_own(void **state)
{
    (void)state;
    flight_open();
    send(0, 1000);
    now_us += 20 * MS;
    send(1000, 2000);
    now_us += 20 * MS;
    sacked(1000, 2000);
    send_again(0, 1000);
    uint32_t left_us = (uint32_t)now_us;
    now_us += MS; /* much less than the least round trip */
    assert_int_equal(told(at(0, 1000), false, 0), 0);
    assert_true(rack.xmit_us != left_us);
    now_us += 30 * MS;
    told(at(0, 1000), true, (uint32_t)(now_us / 1000) - 40); /* an echo of the first copy's */
    assert_true(rack.xmit_us != left_us);
    told(at(0, 1000), true, (uint32_t)(now_us / 1000) - 31);
    assert_int_equal(rack.xmit_us, left_us);
    assert_int_equal(rack.rtt_us, 31 * MS);
}

static void an_original_that_comes_late_is_reordering(void **state)
{
    (void)state;
    flight_open();
    send(0, 3000);
    now_us += 20 * MS;
    sacked(1000, 2000);
    assert_false(memory.reordering_seen);
    acked(1000);
    assert_true(memory.reordering_seen);
    flight_open();
    send(0, 3000);
    now_us += 20 * MS;
    sacked(1000, 2000);
    send_again(0, 1000);
    now_us += 20 * MS;
    acked(3000); /* what was sent again proves nothing */
    assert_false(memory.reordering_seen);
}

/* §6.2 step 4. */
static void the_reordering_window_follows_what_was_seen(void **state)
{
    (void)state;
    flight_open();
    memory.min_rtt_us = 40 * MS;
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, false, 60 * MS), 10 * MS);
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 0); /* as three duplicates */
    memory.reordering_seen = true;
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 10 * MS);
    tcp_rack_duplicate_reported(&rack, &memory, START, START + 5000);
    tcp_rack_duplicate_reported(&rack, &memory, START + 4000, START + 9000); /* the same round */
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 20 * MS);
    for (uint32_t i = 1; i < 10; i++) {
        tcp_rack_duplicate_reported(&rack, &memory, START + 5000 * i, START + 5000 * (i + 1));
    }
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 60 * MS); /* SRTT at most */
    for (unsigned i = 0; i < 15; i++) {
        tcp_rack_recovery_ended(&memory);
    }
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 60 * MS);
    tcp_rack_recovery_ended(&memory);
    assert_int_equal(tcp_rack_reo_wnd_us(&memory, true, 60 * MS), 10 * MS);
}

/* §6.3. */
static void a_timeout_takes_the_first_and_what_is_overdue(void **state)
{
    (void)state;
    flight_open();
    send(0, 1000);
    now_us += 20 * MS;
    acked(1000);
    send(1000, 2000);
    now_us += 200 * MS;
    send(2000, 3000);
    now_us += 5 * MS;
    tcp_rack_timed_out(&rack, 5 * MS, (uint32_t)now_us, false);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 1000);
    tcp_rack_timed_out(&rack, 5 * MS, (uint32_t)now_us, true);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 2000);
    tcp_rack_forgive(&rack);
    assert_int_equal(tcp_rack_lost_bytes(&rack, &board), 0);
    assert_sound();
}

static void records_that_are_too_many_are_merged_with_their_nearest_in_time(void **state)
{
    (void)state;
    flight_open();
    for (uint32_t i = 0; i < 10 * TCP_SENT_MAX; i++) {
        send(i * 100, i * 100 + 100);
        now_us += i % 50 == 0 ? 5 * MS : 10;
        assert_sound();
    }
    assert_int_equal(rack.count, TCP_SENT_MAX);
    for (uint32_t i = 1; i < rack.count; i++) { /* bursts are told apart still */
        assert_true(rack.sent[i].sent_us - rack.sent[i - 1].sent_us >= 10);
    }
    uint32_t spans = 0;
    for (uint32_t i = 1; i < rack.count; i++) {
        spans += rack.sent[i].sent_us - rack.sent[i - 1].sent_us >= 5 * MS;
    }
    assert_in_range(spans, 23, 24);
}

/* Whatever happens, in any order, all that is lost is among what is under way. */
static void any_sequence_of_events_leaves_sound_records(void **state)
{
    (void)state;
    uint64_t random = 12345;
    for (unsigned round = 0; round < 300; round++) {
        uint32_t next = 0;
        flight_open();
        for (unsigned step = 0; step < 400; step++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            uint32_t a = (uint32_t)(random >> 33), una = snd_una - START, span = next - una;
            now_us += a % 3 == 0 ? 0 : a % 5000;
            struct tcp_range lost;
            if (a % 7 < 3 || span == 0) {
                send(next, next + 1 + a % 3000);
                next += 1 + a % 3000;
            } else if (a % 7 == 3) {
                acked(una + a / 7 % (span + 1));
            } else if (a % 7 == 4) {
                uint32_t begin = una + 1 + a / 7 % span, end = begin + a / 77 % 4000;
                end = end < next ? end : next;
                if (begin < end) {
                    sacked(begin, end);
                }
            } else if (a % 7 == 5) {
                look(a / 7 % 3000);
            } else if (tcp_rack_first_lost(&rack, &board, &lost)) {
                send_again(lost.begin - START, lost.end - START);
            } else if (a % 11 == 0) {
                tcp_rack_timed_out(&rack, 0, (uint32_t)now_us, a % 2 == 0);
            }
            assert_sound();
            assert_true(rack.count == 0 || rack.sent[rack.count - 1].end == START + next);
            assert_true(tcp_rack_lost_bytes(&rack, &board) + board.sacked_bytes <=
                        next - (snd_una - START));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leaves_together_is_one_record),
        cmocka_unit_test(what_left_before_a_delivered_segment_is_lost_after_the_reordering_window),
        cmocka_unit_test(of_those_that_left_together_only_the_earlier_is_lost),
        cmocka_unit_test(nothing_is_lost_by_a_usual_acknowledgement),
        cmocka_unit_test(a_retransmission_that_is_lost_is_seen),
        cmocka_unit_test(a_retransmission_tells_its_time_only_when_it_must_be_its_own),
        cmocka_unit_test(an_original_that_comes_late_is_reordering),
        cmocka_unit_test(the_reordering_window_follows_what_was_seen),
        cmocka_unit_test(a_timeout_takes_the_first_and_what_is_overdue),
        cmocka_unit_test(records_that_are_too_many_are_merged_with_their_nearest_in_time),
        cmocka_unit_test(any_sequence_of_events_leaves_sound_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
