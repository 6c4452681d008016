#include "engine/net/stack_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Each byte of padding would be one in every SYN; each word of four bytes must be whole. */
static void options_of_a_syn_are_padded_only_to_whole_words(void **state)
{
    static const uint32_t stamps[2] = {0x01020304, 0x05060708};
    static const struct {
        bool sack, timestamp;
        uint8_t scale;
        size_t size;
        uint8_t bytes[40];
    } cases[] = {
        {false, false, TCP_SCALE_NONE, 4, {2, 4, 5, 180}},
        {true, false, TCP_SCALE_NONE, 8, {2, 4, 5, 180, 1, 1, 4, 2}},
        {false, true, TCP_SCALE_NONE, 16, {2, 4, 5, 180, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}},
        {true, true, TCP_SCALE_NONE, 16, {2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}},
        {false, false, 7, 8, {2, 4, 5, 180, 1, 3, 3, 7}},
        {true, false, 7, 12, {2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7}},
        {true, true, 7, 20, {2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7}},
    };
    (void)state;
    for (size_t i = 0; i < RTE_DIM(cases); i++) {
        uint8_t options[40];
        size_t size = tcp_options_write_syn(options, 1460, cases[i].scale, cases[i].sack,
                                            cases[i].timestamp ? stamps : NULL);
        assert_int_equal(size, cases[i].size);
        assert_memory_equal(options, cases[i].bytes, size);
    }
}

static void what_is_written_is_read(void **state)
{
    static const uint32_t stamps[2] = {7, 9};
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        bool sack = (i & 1) != 0, timestamp = (i & 2) != 0, scaled = (i & 4) != 0;
        struct tcp_segment segment = {.flags = TCP_SYN, .window_scale = TCP_SCALE_NONE};
        uint8_t options[40];
        size_t size = tcp_options_write_syn(options, 1234, scaled ? 5 : TCP_SCALE_NONE, sack,
                                            timestamp ? stamps : NULL);
        assert_true(tcp_options_read(&segment, options, size));
        assert_int_equal(segment.mss, 1234);
        assert_int_equal(segment.sack_permitted, sack);
        assert_int_equal(segment.has_timestamp, timestamp);
        assert_int_equal(segment.ts_value, timestamp ? 7 : 0);
        assert_int_equal(segment.window_scale, scaled ? 5 : TCP_SCALE_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_a_syn_are_padded_only_to_whole_words),
        cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
