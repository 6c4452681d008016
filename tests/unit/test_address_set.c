/* Which of many addresses were seen: what it costs is counted, not timed. */
#include "engine/relay/inbound_paths.h"
#include "engine/relay/rewrite.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define MANY 20000u

static const struct siphash_key secret = {{0x0123456789abcdefull, 0xfedcba9876543210ull}};

static struct slice address(uint32_t number)
{
    static char text[64];
    int size = snprintf(text, sizeof(text), "user%u@example.test", number);
    return slice_of(text, (size_t)size);
}

static void one_that_was_seen_is_given_and_another_is_not(void **state)
{
    struct address_set set = {0};
    uint32_t number;
    (void)state;
    struct address_walk walk = address_set_find(&secret, address(1));
    assert_false(address_set_next(&set, &walk, &number)); /* nothing was seen */
    assert_int_equal(address_set_add(&set, &secret, address(1), 7), 0);
    walk = address_set_find(&secret, slice_text("USER1@Example.TEST"));
    assert_true(address_set_next(&set, &walk, &number));
    assert_int_equal(number, 7);
    assert_false(address_set_next(&set, &walk, &number));
    walk = address_set_find(&secret, address(2));
    assert_false(address_set_next(&set, &walk, &number));
    address_set_clear(&set);
    walk = address_set_find(&secret, address(1));
    assert_false(address_set_next(&set, &walk, &number));
    address_set_free(&set);
}

static void the_same_address_twice_is_given_twice(void **state)
{
    struct address_set set = {0};
    uint32_t number, sum = 0;
    (void)state;
    address_set_add(&set, &secret, address(1), 1);
    address_set_add(&set, &secret, address(1), 2);
    for (struct address_walk walk = address_set_find(&secret, address(1));
         address_set_next(&set, &walk, &number);) {
        sum += number;
    }
    assert_int_equal(sum, 3);
    address_set_free(&set);
}

/* Every recipient compared with every other would be 200 million here. */
static void many_recipients_are_each_compared_with_those_that_may_be_the_same(void **state)
{
    struct inbound_paths paths = {0};
    (void)state;
    inbound_paths_reverse(&paths, slice_text("sender@client.test"), slice_of("", 0));
    for (uint32_t i = 0; i < MANY; i++) {
        const struct envelope_recipient made = {.forward_path = address(i),
                                                .orcpt = slice_text("rfc822;x")};
        assert_int_equal(inbound_paths_hold(&paths, &secret, made.forward_path), 0);
        assert_int_equal(inbound_paths_forward(&paths, &made), 0);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(inbound_paths_hold(&paths, &secret, address(i)), 1);
    }
    assert_in_range(paths.seen.candidate_count, MANY, MANY + 100);
    inbound_paths_reset(&paths);
    assert_int_equal(inbound_paths_hold(&paths, &secret, address(1)), 0);
    inbound_paths_free(&paths);
}

static void paths_that_were_cut_off_are_not_there(void **state)
{
    struct inbound_paths paths = {0};
    struct envelope envelope = {0};
    (void)state;
    inbound_paths_reverse(&paths, slice_text("sender@client.test"), slice_text("id"));
    for (uint32_t i = 0; i < 3; i++) {
        const struct envelope_recipient made = {.forward_path = address(i)};
        inbound_paths_forward(&paths, &made);
    }
    assert_int_equal(inbound_paths_hold(&paths, &secret, address(2)), 1);
    inbound_paths_cut(&paths, 1);
    assert_int_equal(inbound_paths_hold(&paths, &secret, address(0)), 1);
    assert_int_equal(inbound_paths_hold(&paths, &secret, address(2)), 0);
    const struct envelope_recipient made = {.forward_path = address(2)};
    inbound_paths_forward(&paths, &made);
    inbound_paths_settle(&paths, &envelope);
    assert_int_equal(paths.count, 2);
    assert_true(slice_equal(paths.forward[1].forward_path, address(2)));
    inbound_paths_free(&paths);
}

static void who_is_expanded_only_is_not_delivered_to_and_may_come_again(void **state)
{
    struct inbound_paths paths = {0};
    const struct envelope_recipient list = {.forward_path = address(1),
                                            .state = RECIPIENT_TELL_EXPANDED};
    (void)state;
    inbound_paths_forward(&paths, &list);
    assert_int_equal(inbound_paths_hold(&paths, &secret, address(1)), 0);
    inbound_paths_free(&paths);
}

/* A list of as many members as one address may stand for, each named twice. */
static void an_alias_of_many_is_expanded_with_few_comparisons(void **state)
{
    static char name[64 * REWRITE_ADDRESSES_MAX];
    char problem[MAP_PROBLEM_MAX];
    const uint32_t members = REWRITE_ADDRESSES_MAX / 2;
    struct lookup *lookup;
    struct map *map;
    (void)state;
    size_t used = (size_t)snprintf(name, sizeof(name), "inline:{list@x.test=");
    for (uint32_t i = 0; i < 2 * members; i++) {
        struct slice one = address(i % members);
        used += (size_t)snprintf(name + used, sizeof(name) - used, "%s%.*s", i > 0 ? " " : "",
                                 (int)one.size, (const char *)one.bytes);
    }
    snprintf(name + used, sizeof(name) - used, "}");
    assert_int_equal(map_open(&map, name, problem), 0);
    assert_int_equal(lookup_open(&lookup, &(struct lookup_settings){0}), 0);
    const struct rewrite_rules rules = {.virtual_aliases = {.maps = &map, .count = 1},
                                        .hostname = "mx.test"};
    struct rewrite_job job = {0};
    assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text("list@x.test")), 0);
    assert_int_equal(job.status, REWRITE_OK);
    assert_int_equal(job.address_count, members);
    assert_in_range(job.seen.candidate_count, members, 2 * members);
    assert_in_range(job.results.candidate_count, 0, members);
    rewrite_job_end(&job);
    lookup_close(lookup);
    map_close(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_was_seen_is_given_and_another_is_not),
        cmocka_unit_test(the_same_address_twice_is_given_twice),
        cmocka_unit_test(many_recipients_are_each_compared_with_those_that_may_be_the_same),
        cmocka_unit_test(paths_that_were_cut_off_are_not_there),
        cmocka_unit_test(who_is_expanded_only_is_not_delivered_to_and_may_come_again),
        cmocka_unit_test(an_alias_of_many_is_expanded_with_few_comparisons),
    };
    return cmocka_run_group_tests_name("address_set", tests, NULL, NULL);
}
