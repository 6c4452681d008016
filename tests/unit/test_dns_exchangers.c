#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/dns/exchangers.h"

/* One MX record of a host in one or more labels. */
static void add(struct dns_exchangers *exchangers, uint16_t preference, const char *host)
{
    uint8_t rdata[300] = {(uint8_t)(preference >> 8), (uint8_t)preference};
    size_t size = 2;
    while (*host != '\0') {
        size_t label = strcspn(host, ".");
        rdata[size++] = (uint8_t)label;
        memcpy(rdata + size, host, label);
        size += label;
        host += label + (host[label] == '.');
    }
    rdata[size++] = 0;
    dns_exchangers_add(exchangers, slice_of(rdata, size));
}

static void expect(const struct dns_exchangers *exchangers, uint32_t index, uint16_t preference,
                   const char *host)
{
    assert_true(index < exchangers->count);
    assert_int_equal(exchangers->mx[index].preference, preference);
    assert_string_equal(exchangers->mx[index].exchange, host);
}

static void hosts_are_sorted_by_preference_then_name(void **state)
{
    struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    add(&exchangers, 20, "c.test");
    add(&exchangers, 10, "B.test");
    add(&exchangers, 20, "a.test");
    add(&exchangers, 0, "z.test");
    dns_exchangers_sort(&exchangers);
    assert_int_equal(exchangers.count, 4);
    expect(&exchangers, 0, 0, "z.test");
    expect(&exchangers, 1, 10, "b.test");
    expect(&exchangers, 2, 20, "a.test");
    expect(&exchangers, 3, 20, "c.test");
}

static void a_host_named_twice_keeps_its_better_preference(void **state)
{
    struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    add(&exchangers, 20, "a.test");
    add(&exchangers, 10, "A.test");
    add(&exchangers, 30, "a.test");
    assert_int_equal(exchangers.count, 1);
    expect(&exchangers, 0, 10, "a.test");
}

static void a_null_mx_counts_when_it_is_alone(void **state)
{
    struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    assert_false(dns_exchangers_null(&exchangers));
    add(&exchangers, 0, "");
    assert_true(dns_exchangers_null(&exchangers));
    add(&exchangers, 10, "a.test");
    assert_false(dns_exchangers_null(&exchangers));
    assert_int_equal(exchangers.count, 1);
}

static void malformed_records_are_counted_and_left_out(void **state)
{
    struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    dns_exchangers_add(&exchangers, slice_of("\0", 1));
    dns_exchangers_add(&exchangers, slice_of("\0\12\300\14", 4));
    add(&exchangers, 10, "a.test");
    assert_int_equal(exchangers.refused_count, 2);
    assert_int_equal(exchangers.count, 1);
}

static void of_ten_thousand_records_the_hundred_best_are_kept(void **state)
{
    static struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    for (unsigned i = 0; i < 10000; i++) {
        char host[32];
        uint16_t preference = (uint16_t)(9999 - (i * 7) % 10000); /* each once, in disorder */
        snprintf(host, sizeof(host), "h%u.test", preference);
        add(&exchangers, preference, host);
    }
    dns_exchangers_sort(&exchangers);
    assert_int_equal(exchangers.count, DNS_EXCHANGERS_MAX);
    assert_int_equal(exchangers.refused_count, 10000 - DNS_EXCHANGERS_MAX);
    for (uint32_t i = 0; i < DNS_EXCHANGERS_MAX; i++) {
        assert_int_equal(exchangers.mx[i].preference, i);
    }
}

static void ourselves_and_all_that_is_equal_or_worse_is_cut_off(void **state)
{
    struct dns_exchangers exchangers;
    (void)state;
    dns_exchangers_open(&exchangers);
    add(&exchangers, 10, "a.test");
    add(&exchangers, 20, "b.test");
    add(&exchangers, 20, "us.test");
    add(&exchangers, 30, "c.test");
    dns_exchangers_sort(&exchangers);
    assert_int_equal(dns_exchangers_cut(&exchangers, 20), 1);
    expect(&exchangers, 0, 10, "a.test");
    assert_int_equal(dns_exchangers_cut(&exchangers, 10), 0);
}

static void the_shuffle_moves_equals_only_and_gives_each_its_turn(void **state)
{
    static const uint16_t preferences[] = {5, 10, 10, 10, 20, 20};
    unsigned first[6] = {0}, last[6] = {0};
    (void)state;
    for (uint64_t random = 0; random < 3000; random++) {
        uint8_t order[6];
        unsigned seen = 0;
        dns_exchangers_shuffle(preferences, 6, random, order);
        for (unsigned i = 0; i < 6; i++) {
            seen |= 1u << order[i];
            assert_int_equal(preferences[order[i]], preferences[i]);
        }
        assert_int_equal(seen, 0x3f);
        first[order[1]]++;
        last[order[5]]++;
    }
    for (unsigned i = 1; i <= 3; i++) {
        assert_in_range(first[i], 900, 1100);
    }
    assert_in_range(last[4], 1400, 1600);
    assert_in_range(last[5], 1400, 1600);
}

static void the_same_random_bits_give_the_same_order(void **state)
{
    static const uint16_t preferences[100];
    uint8_t one[100], two[100];
    (void)state;
    dns_exchangers_shuffle(preferences, 100, 42, one);
    dns_exchangers_shuffle(preferences, 100, 42, two);
    assert_memory_equal(one, two, sizeof(one));
    dns_exchangers_shuffle(preferences, 100, 43, two);
    assert_memory_not_equal(one, two, sizeof(one));
    dns_exchangers_shuffle(preferences, 0, 42, one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_sorted_by_preference_then_name),
        cmocka_unit_test(a_host_named_twice_keeps_its_better_preference),
        cmocka_unit_test(a_null_mx_counts_when_it_is_alone),
        cmocka_unit_test(malformed_records_are_counted_and_left_out),
        cmocka_unit_test(of_ten_thousand_records_the_hundred_best_are_kept),
        cmocka_unit_test(ourselves_and_all_that_is_equal_or_worse_is_cut_off),
        cmocka_unit_test(the_shuffle_moves_equals_only_and_gives_each_its_turn),
        cmocka_unit_test(the_same_random_bits_give_the_same_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
