/* mailbox check and rebuild, of a service of two shards. */
#include "tests/unit/control_pair.h"

static void every_shard_is_checked_or_the_users(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 0);
    message_keep(pair, 1);
    const char *heard = ask(pair, "mailbox check");
    const char *first = strstr(heard, "{\"shard\":0,\"users\":1,"),
               *second = strstr(heard, "{\"shard\":1,\"users\":1,");
    assert_non_null(first);
    assert_true(second > first);
    assert_non_null(strstr(first, "\"differences\":0,\"marked\":false"));
    heard = ask(pair, request_of("mailbox rebuild user=%s", user_on(pair, 1)));
    assert_null(strstr(heard, "{\"shard\":0,"));
    assert_non_null(strstr(heard, "{\"shard\":1,\"users\":1,"));
    expect_answer(pair, "mailbox check user=nobody", "\"code\":\"not-found\"");
    expect_answer(pair, "mailbox check user=a%2fb", "\"code\":\"bad-request\"");
}

static void a_check_says_how_far_it_is(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    say_request(pair, "mailbox check");
    for (unsigned i = 0; i < 20000 && strstr(pair->heard, "\"progress\":{\"shard\":1") == NULL;
         i++) {
        rounds(pair, 1);
    }
    assert_non_null(strstr(pair->heard, "{\"progress\":{\"shard\":1,\"step\":\"reads\","));
    assert_null(strstr(pair->heard, "\"end\""));
    pair->rigs[1]->disk_stands = false;
    expect_heard(pair, "{\"shard\":1,\"users\":1,");
}

static void a_check_ends_with_its_shard(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    say_request(pair, "mailbox check");
    rounds(pair, 20);
    control_leave(pair, 1);
    expect_heard(pair, "{\"shard\":1,\"failed\":\"the service is ending\",\"code\":\"failed\"");
    pair->rigs[1]->disk_stands = false;
}

static void a_check_that_is_away_when_the_socket_closes_comes_back_to_nobody(void **state)
{
    struct pair *pair = (struct pair *)*state;
    message_keep(pair, 1);
    pair->rigs[1]->disk_stands = true;
    say_request(pair, "mailbox check");
    rounds(pair, 20);
    control_leave(pair, 0);
    pair->rigs[1]->disk_stands = false;
    rounds(pair, 50);
    assert_true(mailbox_control_is_quiet(pair->rigs[1]->mailbox.control));
    assert_true(pair->closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_shard_is_checked_or_the_users),
        TEST(a_check_says_how_far_it_is),
        TEST(a_check_ends_with_its_shard),
        TEST(a_check_that_is_away_when_the_socket_closes_comes_back_to_nobody),
    };
    return cmocka_run_group_tests(tests, eal_start, NULL);
}
