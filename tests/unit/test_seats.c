/* How many sessions there are of whom, and from where. */
#include "engine/core/check.h"
#include "engine/mailbox/seats.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct endpoint from(const char *text)
{
    struct endpoint endpoint;
    check(endpoint_parse(&endpoint, slice_text(text)) == 0);
    return endpoint;
}

static int take(struct seats *seats, uint8_t protocol, const char *address, const char *user,
                uint32_t limit, struct seat **seat)
{
    struct endpoint remote = from(address != NULL ? address : "127.0.0.1:1");
    const struct seat_key key = {
        .protocol = protocol, .address = address != NULL ? &remote : NULL, .user = user};
    return seats_take(seats, &key, limit, seat);
}

static void a_limit_is_reached_and_freed_again(void **state)
{
    struct seats seats = {0};
    struct seat *one, *two, *three;
    (void)state;
    assert_int_equal(take(&seats, 2, "192.0.2.1:1", "alice", 2, &one), 0);
    assert_int_equal(take(&seats, 2, "192.0.2.1:2", "alice", 2, &two), 0);
    assert_ptr_equal(one, two);
    assert_int_equal(take(&seats, 2, "192.0.2.1:3", "alice", 2, &three), -EUSERS);
    assert_null(three);
    seats_leave(&seats, &one);
    assert_null(one);
    assert_int_equal(take(&seats, 2, "192.0.2.1:3", "alice", 2, &three), 0);
    seats_leave(&seats, &two);
    seats_leave(&seats, &three);
    seats_leave(&seats, &three);
    assert_int_equal(seats.seat_count, 0);
    seats_close(&seats);
}

static void what_differs_is_counted_apart(void **state)
{
    static const struct {
        uint8_t protocol;
        const char *address, *user;
    } rows[] = {
        {2, "192.0.2.1:1", "alice"},    {3, "192.0.2.1:1", "alice"}, {2, "192.0.2.2:1", "alice"},
        {2, "192.0.2.1:1", "bob"},      {0, NULL, "alice"},          {0, "192.0.2.1:1", NULL},
        {2, "[fd00::1]:1", "alice"},    {2, "[fd00::2]:1", "alice"}, {0, "[fd00::1]:1", NULL},
        {0, "[fd00:0:0:1::1]:1", NULL},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    struct seats seats = {.key = {{1, 2}}};
    struct seat *held[ROWS], *more;
    (void)state;
    for (unsigned i = 0; i < ROWS; i++) {
        assert_int_equal(take(&seats, rows[i].protocol, rows[i].address, rows[i].user, 1, &held[i]),
                         0);
    }
    for (unsigned i = 0; i < ROWS; i++) {
        assert_int_equal(take(&seats, rows[i].protocol, rows[i].address, rows[i].user, 1, &more),
                         -EUSERS);
    }
    /* A host of IPv6 has a whole network to itself. */
    assert_int_equal(take(&seats, 0, "[fd00::9]:1", NULL, 1, &more), -EUSERS);
    for (unsigned i = 0; i < ROWS; i++) {
        seats_leave(&seats, &held[i]);
    }
    seats_close(&seats);
}

static void a_unix_socket_is_no_address(void **state)
{
    struct seats seats = {0};
    struct seat *seat;
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(take(&seats, 2, "unix:/run/x", "alice", 1, &seat), 0);
        assert_null(seat);
    }
    seats_close(&seats);
}

static void many_of_them_are_all_found_again(void **state)
{
    enum { USERS = 5000 };
    static struct seat *held[USERS];
    struct seats seats = {.key = {{3, 4}}};
    struct seat *more;
    char user[16];
    (void)state;
    for (unsigned i = 0; i < USERS; i++) {
        snprintf(user, sizeof user, "u%u", i);
        assert_int_equal(take(&seats, 0, NULL, user, 1, &held[i]), 0);
    }
    assert_int_equal(seats.seat_count, USERS);
    for (unsigned i = 0; i < USERS; i += 2) {
        seats_leave(&seats, &held[i]);
    }
    for (unsigned i = 0; i < USERS; i++) {
        snprintf(user, sizeof user, "u%u", i);
        int status = take(&seats, 0, NULL, user, 1, &more);
        assert_int_equal(status, i % 2 == 0 ? 0 : -EUSERS);
        seats_leave(&seats, &more);
        seats_leave(&seats, &held[i]);
    }
    assert_int_equal(seats.seat_count, 0);
    seats_close(&seats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_is_reached_and_freed_again),
        cmocka_unit_test(what_differs_is_counted_apart),
        cmocka_unit_test(a_unix_socket_is_no_address),
        cmocka_unit_test(many_of_them_are_all_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
