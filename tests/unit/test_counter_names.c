#include "engine/net/counter_names.h"
#include "engine/net/stack_counters.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void assert_name(const char *ours, const char *expected)
{
    char name[COUNTER_NAME_MAX];
    counter_name(ours, name);
    assert_string_equal(name, expected);
}

static void what_a_mib_has_bears_its_name(void **state)
{
    (void)state;
    assert_name("tcp_retransmitted_segments", "TcpRetransSegs");
    assert_name("ip_in_header_errors", "IpInHdrErrors");
    assert_name("tcp_timeouts", "TcpExtTCPTimeouts");
}

static void what_none_has_bears_ours(void **state)
{
    (void)state;
    assert_name("frames_in_no_buffer", "TubepostFramesInNoBuffer");
    assert_name("", "Tubepost");
}

static void no_two_counters_share_a_name(void **state)
{
    (void)state;
    static const char *const ours[] = STACK_COUNTER_NAMES;
    static char names[sizeof(ours) / sizeof(ours[0])][COUNTER_NAME_MAX];
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        counter_name(ours[i], names[i]);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(names[i], names[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_mib_has_bears_its_name),
        cmocka_unit_test(what_none_has_bears_ours),
        cmocka_unit_test(no_two_counters_share_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
