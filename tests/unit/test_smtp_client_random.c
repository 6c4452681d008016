/* The fuzz target of the client, on random plays: what it checks all along holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/fuzz/fuzz_smtp_client.c"

static uint64_t random_state = 1;

static uint8_t draw(void)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint8_t)(random_state >> 56);
}

static void every_recipient_gets_one_result_whatever_the_server_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30000; i++) {
        uint8_t script[256];
        size_t size = 1 + draw();
        for (size_t at = 0; at < size; at++) {
            /* mostly small numbers: those are the steps and replies that lead somewhere */
            script[at] = draw() % 4 == 0 ? draw() : (uint8_t)(draw() % 16);
        }
        script[0] = draw() | 4;
        assert_int_equal(LLVMFuzzerTestOneInput(script, size), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recipient_gets_one_result_whatever_the_server_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
