#include "engine/net/tcp_prr.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#define MSS 1000u

/* A flight of 20 segments, as in the figures of RFC 6937 §4. A letter for each acknowledgement of the
 * recovery: how many segments it lets go, '.' none. */
static struct tcp_prr prr;
static uint32_t flight; /* segments */

static char acked(uint32_t ssthresh, uint32_t delivered, bool safe)
{
    const struct tcp_prr_ack ack = {.delivered = delivered * MSS,
                                    .flight = flight * MSS,
                                    .ssthresh = ssthresh * MSS,
                                    .mss = MSS,
                                    .safe = safe};
    uint32_t cwnd = tcp_prr_acked(&prr, &ack);
    char sent = '.';
    while ((flight + 1) * MSS <= cwnd) {
        flight++;
        tcp_prr_sent(&prr, MSS);
        sent = sent == '.' ? '1' : (char)(sent + 1);
    }
    return sent;
}

/* Figure 1, one loss, Reno: three are sacked, one is lost, two were sent beyond the window; each
 * second acknowledgement lets one go, until what is under way is where ssthresh is; then each does. */
static void one_loss_takes_the_window_down_evenly(void **state)
{
    (void)state;
    char sent[20] = {0};
    tcp_prr_begin(&prr, 20 * MSS); /* 22 less two that were sacked before this acknowledgement */
    flight = 18;
    for (unsigned i = 0; i < 19; i++) {
        sent[i] = acked(10, 1, false);
        flight--; /* the next acknowledgement */
    }
    assert_string_equal(sent, "1..1.1.1.1.1.1..111");
    assert_int_equal(flight, 9);
}

/* Figure 2: of 20 the first 16 are lost, and only four duplicates come: below ssthresh as many are
 * sent as arrive (conservative), or one more when it goes well (slow start). */
static void after_a_great_loss_as_many_leave_as_arrive(void **state)
{
    (void)state;
    tcp_prr_begin(&prr, 20 * MSS);
    flight = 3;
    assert_int_equal(acked(10, 1, false), '1');
    flight = 3;
    assert_int_equal(acked(10, 1, false), '1');
    flight = 2;
    assert_int_equal(acked(10, 1, true),
                     '2'); /* snd_una has advanced: slow start back to ssthresh */
    flight = 3;
    assert_int_equal(acked(10, 1, true), '2');
}

static void what_is_under_way_never_exceeds_the_target_below_it(void **state)
{
    (void)state;
    tcp_prr_begin(&prr, 20 * MSS);
    flight = 9;
    assert_int_equal(acked(10, 5, true), '1');
    assert_int_equal(flight, 10);
    flight = 10;
    assert_int_equal(acked(10, 3, true), '.');
}

static void the_first_retransmission_leaves_at_once(void **state)
{
    (void)state;
    tcp_prr_begin(&prr, 100 * MSS);
    flight = 98;
    assert_int_equal(acked(10, 1, false), '1'); /* a tenth of a segment is due */
    flight = 97;
    assert_int_equal(acked(10, 1, false), '.');
}

/* RFC 9937 §5: an acknowledgement lost on the way is made good by the next. */
static void acknowledgements_that_are_merged_let_go_as_much(void **state)
{
    (void)state;
    uint32_t one_by_one = 0, merged = 0;
    tcp_prr_begin(&prr, 40 * MSS);
    flight = 39;
    for (unsigned i = 0; i < 16; i++) {
        char sent = acked(20, 1, false);
        one_by_one += (uint32_t)(sent == '.' ? 0 : sent - '0');
        flight--;
    }
    tcp_prr_begin(&prr, 40 * MSS);
    flight = 36;
    for (unsigned i = 0; i < 4; i++) {
        char sent = acked(20, 4, false);
        merged += (uint32_t)(sent == '.' ? 0 : sent - '0');
        flight -= 4;
    }
    assert_int_equal(one_by_one, 8);
    assert_int_equal(merged, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_loss_takes_the_window_down_evenly),
        cmocka_unit_test(after_a_great_loss_as_many_leave_as_arrive),
        cmocka_unit_test(what_is_under_way_never_exceeds_the_target_below_it),
        cmocka_unit_test(the_first_retransmission_leaves_at_once),
        cmocka_unit_test(acknowledgements_that_are_merged_let_go_as_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
