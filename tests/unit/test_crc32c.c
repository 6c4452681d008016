#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/crc32c.h"
#include <stdlib.h>
#include <string.h>

typedef uint32_t sum_function(uint32_t crc, const void *bytes, size_t count);
static sum_function *const functions[] = {crc32c, crc32c_by_table};

static void known_sums_come_out(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof(ones));
    for (unsigned i = 0; i < sizeof(up); i++) {
        up[i] = (uint8_t)i;
    }
    for (unsigned f = 0; f < 2; f++) {
        sum_function *sum = functions[f];
        assert_int_equal(sum(0, "", 0), 0);
        assert_int_equal(sum(0, "123456789", 9), 0xe3069283);
        /* RFC 3720 B.4 */
        assert_int_equal(sum(0, zeros, 32), 0x8a9136aa);
        assert_int_equal(sum(0, ones, 32), 0x62a8ab43);
        assert_int_equal(sum(0, up, 32), 0x46dd794e);
    }
}

static void instruction_and_table_agree_at_every_length_and_alignment(void **state)
{
    (void)state;
    enum { SIZE = 8192 };
    static uint8_t bytes[SIZE];
    uint32_t seed = 1;
    for (unsigned i = 0; i < SIZE; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(seed >> 24);
    }
    for (size_t size = 0; size <= SIZE - 8; size += size < 900 ? 1 : 61) {
        size_t offset = size % 8;
        assert_int_equal(crc32c(7, bytes + offset, size), crc32c_by_table(7, bytes + offset, size));
    }
}

static void a_sum_chains_over_parts(void **state)
{
    (void)state;
    static uint8_t bytes[5000];
    memset(bytes, 0xa5, sizeof(bytes));
    bytes[4999] = 1;
    uint32_t whole = crc32c(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut += 37) {
        uint32_t first = crc32c(0, bytes, cut);
        assert_int_equal(crc32c(first, bytes + cut, sizeof(bytes) - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums_come_out),
        cmocka_unit_test(instruction_and_table_agree_at_every_length_and_alignment),
        cmocka_unit_test(a_sum_chains_over_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
