/* Which shard a user's mail is on, and what all shards count together. */
#include "engine/core/check.h"
#include "engine/core/system_world.h"
#include "engine/mailbox/mailbox_group.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void group_make(struct mailbox_group *group, unsigned count)
{
    struct world world;
    system_world_fill(&world);
    mailbox_group_open(group, count, &world);
}

static void every_shard_has_its_part_and_always_the_same(void **state)
{
    struct mailbox_group group, again;
    unsigned users[4] = {0};
    (void)state;
    group_make(&group, 4);
    group_make(&again, 4);
    mailbox_group_settle(&group);
    mailbox_group_settle(&again);
    for (unsigned i = 0; i < 4000; i++) {
        char user[USER_NAME_BYTES];
        snprintf(user, sizeof user, "user%u", i);
        unsigned shard = mailbox_group_shard(&group, user);
        assert_true(shard < 4);
        assert_int_equal(shard, mailbox_group_shard(&again, user));
        users[shard]++;
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(users[i], 800, 1200);
    }
    mailbox_group_close(&group);
    mailbox_group_close(&again);
}

/* A change of this hash would hide the mail of a store that has several shards. */
static void the_hash_is_that_of_the_first_store(void **state)
{
    static const struct {
        const char *user;
        unsigned of_2, of_3;
    } known[] = {{"alice", 0, 2}, {"bob", 1, 1}, {"carol", 0, 2}, {"dave", 1, 0}};
    struct mailbox_group two, three;
    (void)state;
    group_make(&two, 2);
    group_make(&three, 3);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(mailbox_group_shard(&two, known[i].user), known[i].of_2);
        assert_int_equal(mailbox_group_shard(&three, known[i].user), known[i].of_3);
    }
    mailbox_group_close(&two);
    mailbox_group_close(&three);
}

/* Also when the store has got more shards, or a pattern. */
static void who_has_mail_stays_where_it_lies(void **state)
{
    static const struct conf_placing placed[] = {{"Sales-*", 3}};
    struct mailbox_group group;
    char user[USER_NAME_BYTES];
    (void)state;
    group_make(&group, 4);
    mailbox_group_place(&group, placed, 1);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(user, sizeof user, "user%u", i);
        assert_int_equal(mailbox_group_found(&group, i % 2, user), 0);
    }
    assert_int_equal(mailbox_group_found(&group, 1, "sales-old"), 0);
    mailbox_group_settle(&group);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(user, sizeof user, "user%u", i);
        assert_int_equal(mailbox_group_shard(&group, user), i % 2);
    }
    assert_int_equal(mailbox_group_shard(&group, "sales-old"), 1);
    assert_int_equal(mailbox_group_shard(&group, "sales-new"), 3);
    mailbox_group_close(&group);
}

static void of_two_who_have_a_user_the_first_counts(void **state)
{
    struct mailbox_group group;
    (void)state;
    group_make(&group, 8);
    unsigned home = mailbox_group_shard(&group, "alice");
    unsigned first = home == 2 ? 3 : 2, second = home == 5 ? 6 : 5;
    assert_int_equal(mailbox_group_found(&group, second, "alice"), 0);
    assert_int_equal(mailbox_group_found(&group, first, "alice"), 0);
    mailbox_group_settle(&group);
    assert_int_equal(mailbox_group_shard(&group, "alice"), first);
    mailbox_group_close(&group);
}

static void that_is_so_where_one_of_them_is_where_he_would_be_placed(void **state)
{
    (void)state;
    for (unsigned other = 0; other < 3; other++) {
        struct mailbox_group group;
        group_make(&group, 3);
        unsigned home = mailbox_group_shard(&group, "dave"), first = other < home ? other : home;
        assert_int_equal(mailbox_group_found(&group, home, "dave"), 0);
        assert_int_equal(mailbox_group_found(&group, other, "dave"), 0);
        assert_int_equal(mailbox_group_found(&group, 2, "zoe"), 0);
        mailbox_group_settle(&group);
        assert_int_equal(mailbox_group_shard(&group, "dave"), first);
        assert_int_equal(mailbox_group_shard(&group, "zoe"), 2);
        mailbox_group_close(&group);
        group_make(&group, 3); /* more shards, or other patterns, change nothing of that */
        const struct conf_placing placed[] = {{"alice", other}};
        mailbox_group_place(&group, placed, 1);
        assert_int_equal(mailbox_group_found(&group, 2, "alice"), 0);
        assert_int_equal(mailbox_group_found(&group, 1, "alice"), 0);
        mailbox_group_settle(&group);
        assert_int_equal(mailbox_group_shard(&group, "alice"), 1);
        mailbox_group_close(&group);
    }
}

static void an_address_is_counted_for_all_shards(void **state)
{
    struct mailbox_group group;
    struct endpoint address;
    struct seat *one, *two, *three;
    (void)state;
    group_make(&group, 2);
    check(endpoint_parse(&address, slice_text("192.0.2.1:7")) == 0);
    assert_int_equal(mailbox_group_seat_take(&group, &address, 2, &one), 0);
    assert_int_equal(mailbox_group_seat_take(&group, &address, 2, &two), 0);
    assert_int_equal(mailbox_group_seat_take(&group, &address, 2, &three), -EUSERS);
    mailbox_group_seat_leave(&group, &one);
    assert_int_equal(mailbox_group_seat_take(&group, &address, 2, &three), 0);
    mailbox_group_seat_leave(&group, &two);
    mailbox_group_seat_leave(&group, &three);
    mailbox_group_seat_leave(&group, &three);
    mailbox_group_close(&group);
}

#define ROOM 1000u
#define ROOM_THREADS 4u

static void *room_take(void *argument)
{
    struct mailbox_group *group = (struct mailbox_group *)argument;
    uintptr_t taken = 0;
    for (unsigned i = 0; i < ROOM; i++) {
        taken += mailbox_group_room_take(group, ROOM);
    }
    return (void *)taken;
}

/* Each of the shards could have them all. */
static void connections_of_all_shards_have_the_room_there_is_and_no_more(void **state)
{
    struct mailbox_group group;
    pthread_t threads[ROOM_THREADS];
    uintptr_t taken = 0;
    (void)state;
    group_make(&group, 2);
    for (unsigned i = 0; i < ROOM_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, room_take, &group), 0);
    }
    for (unsigned i = 0; i < ROOM_THREADS; i++) {
        void *of_one;
        assert_int_equal(pthread_join(threads[i], &of_one), 0);
        taken += (uintptr_t)of_one;
    }
    assert_int_equal(taken, ROOM);
    assert_false(mailbox_group_room_take(&group, ROOM));
    assert_true(mailbox_group_room_take(&group, UINT32_MAX)); /* the operator's */
    mailbox_group_room_leave(&group);
    mailbox_group_room_leave(&group);
    assert_true(mailbox_group_room_take(&group, ROOM));
    assert_false(mailbox_group_room_take(&group, ROOM));
    mailbox_group_close(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shard_has_its_part_and_always_the_same),
        cmocka_unit_test(the_hash_is_that_of_the_first_store),
        cmocka_unit_test(who_has_mail_stays_where_it_lies),
        cmocka_unit_test(of_two_who_have_a_user_the_first_counts),
        cmocka_unit_test(that_is_so_where_one_of_them_is_where_he_would_be_placed),
        cmocka_unit_test(an_address_is_counted_for_all_shards),
        cmocka_unit_test(connections_of_all_shards_have_the_room_there_is_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
