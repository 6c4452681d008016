#include "engine/relay/client_count.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct endpoint client(uint32_t number)
{
    struct endpoint endpoint = {.family = ENDPOINT_IPV4};
    memcpy(endpoint.address, &number, 4);
    return endpoint;
}

static void a_client_enters_up_to_its_limit(void **state)
{
    (void)state;
    struct client_count *clients = client_count_open(1);
    struct endpoint one = client(1);
    struct endpoint two = client(2);
    assert_int_equal(client_count_enter(clients, &one, 2), 0);
    assert_int_equal(client_count_enter(clients, &one, 2), 0);
    assert_int_equal(client_count_enter(clients, &one, 2), -EUSERS);
    assert_int_equal(client_count_enter(clients, &two, 2), 0);
    client_count_leave(clients, &one);
    assert_int_equal(client_count_enter(clients, &one, 2), 0);
    client_count_close(clients);
}

static void addresses_of_one_ipv6_prefix_are_one_client(void **state)
{
    (void)state;
    struct client_count *clients = client_count_open(1);
    struct endpoint one = {.family = ENDPOINT_IPV6, .address = {0x20, 1, [15] = 1}};
    struct endpoint neighbour = {.family = ENDPOINT_IPV6, .address = {0x20, 1, [15] = 2}};
    assert_int_equal(client_count_enter(clients, &one, 1), 0);
    assert_int_equal(client_count_enter(clients, &neighbour, 1), -EUSERS);
    client_count_close(clients);
}

static void counts_stay_exact_over_many_comings_and_goings(void **state)
{
    (void)state;
    enum { CLIENTS = 3000, STEPS = 200000 };
    static uint8_t open[CLIENTS];
    struct client_count *clients = client_count_open(42);
    uint32_t random = 12345;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        uint32_t number = (random >> 8) % CLIENTS;
        struct endpoint endpoint = client(number);
        if (random >> 31) {
            int wanted = open[number] < 3 ? 0 : -EUSERS;
            assert_int_equal(client_count_enter(clients, &endpoint, 3), wanted);
            open[number] = (uint8_t)(open[number] + (wanted == 0));
        } else if (open[number] > 0) {
            client_count_leave(clients, &endpoint);
            open[number]--;
        }
    }
    client_count_close(clients);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_enters_up_to_its_limit),
        cmocka_unit_test(addresses_of_one_ipv6_prefix_are_one_client),
        cmocka_unit_test(counts_stay_exact_over_many_comings_and_goings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
