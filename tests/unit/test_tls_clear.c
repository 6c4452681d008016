/* Addresses whose handshakes have failed lately. */
#include "engine/relay/tls_clear.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static const struct siphash_key secret = {{1, 2}};

static struct endpoint address(unsigned number)
{
    struct endpoint made;
    char text[64];
    snprintf(text, sizeof(text), "10.%u.%u.%u:25", number >> 16 & 255, number >> 8 & 255,
             number & 255);
    assert_int_equal(endpoint_parse(&made, slice_text(text)), 0);
    return made;
}

static void an_address_is_remembered_for_a_while(void **state)
{
    (void)state;
    struct tls_clear *clear = tls_clear_open(&secret);
    struct endpoint one = address(1), other_port = one, other = address(2), local;
    other_port.port = 587;
    assert_int_equal(endpoint_parse(&local, slice_text("unix:/run/a")), 0);
    assert_false(tls_clear_has(clear, &one, 5));
    tls_clear_add(clear, &one, 5);
    tls_clear_add(clear, &local, 5);
    assert_true(tls_clear_has(clear, &one, 5));
    assert_true(tls_clear_has(clear, &local, 5));
    assert_false(tls_clear_has(clear, &other, 5));
    assert_false(tls_clear_has(clear, &other_port, 5));
    assert_true(tls_clear_has(clear, &one, 4 + TLS_CLEAR_NS));
    assert_false(tls_clear_has(clear, &one, 5 + TLS_CLEAR_NS));
    tls_clear_add(clear, &one, TLS_CLEAR_NS);
    assert_true(tls_clear_has(clear, &one, 2 * TLS_CLEAR_NS - 1));
    tls_clear_close(clear);
}

static void the_newest_are_kept_when_there_are_too_many(void **state)
{
    (void)state;
    enum { MANY = 4 * TLS_CLEAR_SETS * TLS_CLEAR_WAYS, NEWEST = TLS_CLEAR_SETS / 8 };
    struct tls_clear *clear = tls_clear_open(&secret);
    unsigned kept = 0, newest = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct endpoint one = address(i);
        tls_clear_add(clear, &one, 1 + i);
    }
    for (unsigned i = 0; i < MANY; i++) {
        struct endpoint one = address(i);
        bool has = tls_clear_has(clear, &one, MANY);
        kept += has;
        newest += has && i >= MANY - NEWEST;
    }
    assert_int_equal(kept, TLS_CLEAR_SETS * TLS_CLEAR_WAYS);
    assert_int_equal(newest, NEWEST);
    tls_clear_close(clear);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_remembered_for_a_while),
        cmocka_unit_test(the_newest_are_kept_when_there_are_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
