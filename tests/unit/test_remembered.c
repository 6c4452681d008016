/* remembered: things are known until their time is over, also over a crash, and there are never too many. */
#include "engine/mailbox/remembered.h"
#include "engine/core/check.h"
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct mailstore_rig rig;
static struct remembered *remembered;
static struct mailstore_user *user;

static void begin(void)
{
    check(remembered_open(&remembered, rig.store) == 0);
    check(mailstore_user_open(rig.store, slice_text("ann"), &user) == 0);
}

static void end(void)
{
    mailstore_user_close(rig.store, user);
    remembered_close(remembered);
}

static int set_up(void **state)
{
    (void)state;
    mailstore_rig_open(&rig, 7);
    check(mailstore_rig_start(&rig) == 0);
    begin();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    end();
    mailstore_rig_stop(&rig);
    mailstore_rig_close(&rig);
    return 0;
}

static struct remembered_thing thing(const char *first, const char *second)
{
    struct remembered_thing made;
    check(remembered_make(&made, REMEMBERED_DUPLICATE, slice_text(first), slice_text(second)));
    return made;
}

static void add(const char *first, const char *second, uint64_t until_s)
{
    const struct remembered_thing added = thing(first, second);
    check(remembered_add(remembered, user, &added, 0, until_s) == 0);
}

static bool has(const char *first, const char *second, uint64_t now_s)
{
    const struct remembered_thing asked = thing(first, second);
    return remembered_has(remembered, user, &asked, now_s);
}

static void a_thing_is_known_at_once_and_until_its_time(void **state)
{
    (void)state;
    assert_false(has("a", "b", 1));
    add("a", "b", 10);
    for (int durable = 0; durable < 2; durable++) {
        assert_true(has("a", "b", 9));
        assert_false(has("a", "b", 10));
        assert_false(has("ab", "", 1));
        assert_false(has("b", "a", 1));
        mailstore_rig_settle(&rig);
    }
}

static void a_thing_that_is_added_again_has_its_new_time(void **state)
{
    (void)state;
    add("a", "b", 10);
    add("a", "b", 5);
    assert_false(has("a", "b", 6));
    mailstore_rig_settle(&rig);
    assert_false(has("a", "b", 6));
    add("a", "b", 20);
    mailstore_rig_settle(&rig);
    assert_true(has("a", "b", 19));
}

static void each_user_and_kind_has_its_own(void **state)
{
    struct mailstore_user *bob;
    struct remembered_thing same = thing("a", "b");
    (void)state;
    add("a", "b", 10);
    check(mailstore_user_open(rig.store, slice_text("bob"), &bob) == 0);
    for (int durable = 0; durable < 2; durable++) {
        same.kind = REMEMBERED_DUPLICATE;
        assert_false(remembered_has(remembered, bob, &same, 1));
        same.kind = REMEMBERED_VACATION;
        assert_false(remembered_has(remembered, user, &same, 1));
        mailstore_rig_settle(&rig);
    }
    mailstore_user_close(rig.store, bob);
}

static void what_is_added_at_once_is_all_there_after_a_crash(void **state)
{
    char name[16];
    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%d", i);
        add(name, "", 10);
    }
    mailstore_rig_settle(&rig);
    end();
    mailstore_rig_crash(&rig);
    check(mailstore_rig_start(&rig) == 0);
    begin();
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_true(has(name, "", 1));
    }
}

static void count(void *owner, struct slice key, struct slice value)
{
    (void)key;
    *(size_t *)owner += value.size;
}

static void of_too_many_those_stay_that_would_be_forgotten_last(void **state)
{
    enum { THINGS = 3 * REMEMBERED_BUCKETS * REMEMBERED_OF_BUCKET };
    char name[16];
    size_t bytes = 0;
    (void)state;
    for (int i = 0; i < THINGS; i++) {
        snprintf(name, sizeof name, "%d", i);
        add(name, "", 1000 + (uint64_t)i);
        if (i % 64 == 0) {
            mailstore_rig_settle(&rig);
        }
    }
    mailstore_rig_settle(&rig);
    const struct mailstore_property all = {.key = slice_text("seen/")};
    check(mailstore_property_each(rig.store, user, &all, count, &bytes) == 0);
    assert_true(bytes <= REMEMBERED_BUCKETS * REMEMBERED_OF_BUCKET * 24u);
    int kept = 0;
    for (int i = THINGS - 1000; i < THINGS; i++) {
        snprintf(name, sizeof name, "%d", i);
        kept += has(name, "", 1);
    }
    assert_int_equal(kept, 1000);
    assert_false(has("0", "", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_thing_is_known_at_once_and_until_its_time),
        TEST(a_thing_that_is_added_again_has_its_new_time),
        TEST(each_user_and_kind_has_its_own),
        TEST(what_is_added_at_once_is_all_there_after_a_crash),
        TEST(of_too_many_those_stay_that_would_be_forgotten_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
