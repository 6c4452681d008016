/* queue_filter and queue_order: which mail the words of an operator mean. */
#include "engine/control/words.h"
#include "engine/relay/queue_order.h"
#include "queue/spool/spool_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define NOW 1000000

/* ---- Words ---- */

static void a_word_carries_any_text(void **state)
{
    (void)state;
    static const char *const texts[] = {"",         "plain", "a b",    "100%",
                                        "\xc3\xbc", "x=y",   "\t\r\n", "%20"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char line[128] = "queue", text[64];
        size_t used = strlen(line);
        struct slice key;
        assert_int_equal(
            control_word_append(line, sizeof(line), &used, "key", slice_text(texts[i])), 0);
        assert_int_equal(strlen(line), used);
        assert_null(strpbrk(line + 6, " \t\r\n"));
        assert_int_equal(control_word_read(slice_text(line + 6), &key, text, sizeof(text)), 0);
        assert_true(slice_equal(key, slice_text("key")));
        assert_string_equal(text, texts[i]);
    }
}

static void a_word_that_is_too_long_is_refused_whole(void **state)
{
    (void)state;
    char line[16] = "queue", text[4];
    size_t used = 5;
    struct slice key;
    assert_int_equal(control_word_append(line, sizeof(line), &used, "key", slice_text("12345")), 0);
    assert_int_equal(control_word_append(line, sizeof(line), &used, "k", slice_text("")),
                     -EMSGSIZE);
    assert_string_equal(line, "queue key=12345");
    assert_int_equal(control_word_read(slice_text("key=123"), &key, text, sizeof(text)), 0);
    assert_int_equal(control_word_read(slice_text("key=1234"), &key, text, sizeof(text)),
                     -EMSGSIZE);
    assert_int_equal(control_word_read(slice_text("key=%4"), &key, text, sizeof(text)), -EINVAL);
    assert_int_equal(control_word_read(slice_text("key=%zz"), &key, text, sizeof(text)), -EINVAL);
    assert_int_equal(control_word_read(slice_text("key=%00"), &key, text, sizeof(text)), -EINVAL);
}

/* ---- Filters ---- */

static const struct word {
    const char *key, *value;
    int status;
} words[] = {
    {"id", "0000000000001", 0},
    {"id", "0000000000001,02000000G0005", 0},
    {"id", "", -EINVAL},
    {"id", "12", -EINVAL},
    {"id", "0000000000001;0000000000002", -EINVAL},
    {"older", "2h", 0},
    {"older", "90", 0},
    {"younger", "3d", 0},
    {"younger", "1w", 0},
    {"older", "0", -EINVAL},
    {"older", "2x", -EINVAL},
    {"older", "2hh", -EINVAL},
    {"older", "-2h", -EINVAL},
    {"older", "99999999999999999999", -EINVAL},
    {"sender", "<>", 0},
    {"sender", "", -EINVAL},
    {"domain", "example.org", 0},
    {"limit", "5", 0},
    {"limit", "0", -EINVAL},
    {"limit", "5x", -EINVAL},
    {"held", "", 0},
    {"held", "yes", -EINVAL},
    {"deferred", "", 0},
    {"all", "", 0},
    {"pattern", "^bob@", 0},
    {"pattern", "(", -EINVAL},
    {"pattern", "a\\Cb", -EINVAL}, /* half a character */
    {"weather", "", -ENOENT},
    {"", "", -ENOENT},
};

static void conditions_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct queue_filter filter;
        char problem[QUEUE_FILTER_PROBLEM_MAX] = "";
        queue_filter_init(&filter);
        int status = queue_filter_read(&filter, slice_text(words[i].key), words[i].value, problem);
        if (status != words[i].status) {
            print_error("%s=%s: %d\n", words[i].key, words[i].value, status);
        }
        assert_int_equal(status, words[i].status);
        assert_int_equal(problem[0] != '\0', status == -EINVAL);
        queue_filter_free(&filter);
    }
}

static void held_and_ready_exclude_each_other(void **state)
{
    (void)state;
    struct queue_filter filter;
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    queue_filter_init(&filter);
    assert_int_equal(queue_filter_read(&filter, slice_text("held"), "", problem), 0);
    assert_int_equal(queue_filter_read(&filter, slice_text("ready"), "", problem), -EINVAL);
}

/* A message from alice@Example.ORG, 2 hours old, id 7, to bob@mx.example.net, deferred at site s. */
static const struct {
    const char *key, *value;
    bool fits;
} fits[] = {
    {"id", "0000000000007", true},
    {"id", "0000000000008,0000000000007", true},
    {"id", "0000000000008", false},
    {"sender", "alice@example.org", true},
    {"sender", "bob@example.org", false},
    {"sender", "example.org", true},
    {"sender", "@example.org", true},
    {"sender", ".org", true},
    {"sender", "ample.org", false},
    {"sender", "<>", false},
    {"older", "1h", true},
    {"older", "2h", false},
    {"younger", "3h", true},
    {"younger", "2h", false},
    {"held", "", false},
    {"ready", "", true},
    {"domain", "MX.example.net", true},
    {"domain", ".example.net", true},
    {"domain", "example.net", false},
    {"domain", ".mx.example.net", false},
    {"recipient", "BOB@mx.example.net", true},
    {"recipient", "bob", false},
    {"site", "192.0.2.1:25", true},
    {"site", "192.0.2.1", false},
    {"deferred", "", true},
    {"pattern", "^alice", true},
    {"pattern", "bob@.*net$", true},
    {"pattern", "REFUSED", true},
    {"pattern", "carol", false},
    {"all", "", true},
};

static struct spool_store store;

static int store_set_up(void **state)
{
    (void)state;
    return store_open(&store);
}

static int store_tear_down(void **state)
{
    (void)state;
    store_close(&store);
    return 0;
}

/* As the spool keeps it; the caller's to free. */
static struct message *message_with(const struct envelope *envelope)
{
    const struct envelope_recipient recipient = {.forward_path = slice_text("r@example.org")};
    struct spool_message *made = message_new(envelope, &recipient, 1, &store);
    assert_non_null(made);
    made->message.id = 7;
    return &made->message;
}

static bool message_fits(const struct queue_filter *filter, struct queue_matcher *matcher)
{
    const struct envelope envelope = {.reverse_path = slice_text("alice@Example.ORG"),
                                      .arrival_wall_s = NOW - 7200};
    struct message *message = message_with(&envelope);
    const struct queue_facts facts = {.site = slice_text("192.0.2.1:25"),
                                      .reason = slice_text("connection refused"),
                                      .deferred = true};
    bool fit = queue_filter_message(filter, matcher, message, NOW) &&
               queue_filter_recipient(filter, matcher, slice_text("bob@mx.example.net"), &facts);
    message_free(message_private(message));
    return fit;
}

static void a_filter_means_what_fits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++) {
        struct queue_filter filter;
        char problem[QUEUE_FILTER_PROBLEM_MAX];
        queue_filter_init(&filter);
        assert_int_equal(
            queue_filter_read(&filter, slice_text(fits[i].key), fits[i].value, problem), 0);
        struct queue_matcher *matcher = queue_matcher_open(&filter);
        assert_non_null(matcher);
        if (message_fits(&filter, matcher) != fits[i].fits) {
            print_error("%s=%s\n", fits[i].key, fits[i].value);
        }
        assert_int_equal(message_fits(&filter, matcher), fits[i].fits);
        queue_matcher_close(matcher);
        queue_filter_free(&filter);
    }
}

static void the_null_sender_is_a_sender(void **state)
{
    (void)state;
    struct queue_filter filter;
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    struct message *bounce = message_with(&(struct envelope){.flags = SPOOL_HELD});
    queue_filter_init(&filter);
    assert_int_equal(queue_filter_read(&filter, slice_text("sender"), "<>", problem), 0);
    assert_int_equal(queue_filter_read(&filter, slice_text("held"), "", problem), 0);
    struct queue_matcher *matcher = queue_matcher_open(&filter);
    assert_true(queue_filter_message(&filter, matcher, bounce, NOW));
    message_free(message_private(bounce));
    queue_matcher_close(matcher);
}

/* (a+)+$ on a row of a's takes exponential time. */
static void a_pattern_that_takes_too_long_has_not_matched_and_is_counted(void **state)
{
    (void)state;
    struct queue_filter filter;
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    queue_filter_init(&filter);
    assert_int_equal(queue_filter_read(&filter, slice_text("pattern"), "^(a+)+$", problem), 0);
    struct queue_matcher *matcher = queue_matcher_open(&filter);
    struct message *message = message_with(&(struct envelope){
        .reverse_path = slice_text("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")});
    const struct queue_facts facts = {0};
    assert_true(queue_filter_message(&filter, matcher, message, NOW));
    message_free(message_private(message));
    assert_int_equal(queue_matcher_gave_up(matcher), 1);
    assert_false(queue_filter_recipient(&filter, matcher, slice_text("b"), &facts));
    assert_int_equal(queue_matcher_gave_up(matcher), 1);
    queue_matcher_close(matcher);
    queue_filter_free(&filter);
}

/* ---- Orders ---- */

static const struct {
    enum control_verb verb;
    const char *words[3];
    bool good;
} orders[] = {
    {CONTROL_QUEUE_LIST, {NULL}, true},
    {CONTROL_QUEUE_LIST, {"page=5", "cursor=1.99", "domain=x"}, true},
    {CONTROL_QUEUE_LIST, {"page=0"}, false},
    {CONTROL_QUEUE_LIST, {"cursor=1"}, false},
    {CONTROL_QUEUE_LIST, {"cursor=256.1"}, false},
    {CONTROL_QUEUE_LIST, {"cursor=1.99999999999999999999"}, false},
    {CONTROL_QUEUE_SHOW, {"id=0000000000001", "from=1000"}, true},
    {CONTROL_QUEUE_SHOW, {NULL}, false},
    {CONTROL_QUEUE_SHOW, {"id=0000000000001,0000000000002"}, false},
    {CONTROL_QUEUE_BODY, {"id=0000000000001", "from=x"}, false},
    {CONTROL_QUEUE_SUMMARY, {"by=sender", "top=5"}, true},
    {CONTROL_QUEUE_SUMMARY, {"by=weather"}, false},
    {CONTROL_QUEUE_FLUSH, {NULL}, true},
    {CONTROL_QUEUE_RELEASE, {NULL}, true},
    {CONTROL_QUEUE_DELETE, {NULL}, false}, /* the whole queue, by mistake */
    {CONTROL_QUEUE_DELETE, {"limit=5"}, false},
    {CONTROL_QUEUE_DELETE, {"all"}, true},
    {CONTROL_QUEUE_DELETE, {"older=1h"}, true},
    {CONTROL_QUEUE_DELETE, {"page=5"}, false}, /* of another verb */
    {CONTROL_QUEUE_HOLD, {NULL}, false},
    {CONTROL_QUEUE_BOUNCE, {"all", "text=go%20away"}, true},
    {CONTROL_QUEUE_BOUNCE, {"all", "text=a%0d%0ab"}, false},
    {CONTROL_QUEUE_REROUTE, {"all", "to=192.0.2.9:25"}, true},
    {CONTROL_QUEUE_REROUTE, {"all"}, false},
    {CONTROL_QUEUE_REROUTE, {"to=192.0.2.9:25"}, false},
    {CONTROL_QUEUE_SUSPEND, {"site=x", "for=1h"}, true},
    {CONTROL_QUEUE_SUSPEND, {"sender=@x"}, true},
    {CONTROL_QUEUE_SUSPEND, {"sender=a@x"}, true},
    {CONTROL_QUEUE_SUSPEND, {"domain=.x", "for=1h"}, true},
    {CONTROL_QUEUE_SUSPEND, {"recipient=a@x"}, true},
    {CONTROL_QUEUE_SUSPEND, {"pattern=%5ea"}, true},
    {CONTROL_QUEUE_SUSPEND, {"sender=x", "site=y"}, false},
    {CONTROL_QUEUE_SUSPEND, {"domain=x", "pattern=y"}, false},
    {CONTROL_QUEUE_SUSPEND, {"domain=x", "older=1h"}, false},
    {CONTROL_QUEUE_SUSPEND, {"id=0000000000001"}, false},
    {CONTROL_QUEUE_SUSPEND, {"sender=x", "for=2000d"}, false},
    {CONTROL_QUEUE_RESUME, {"all"}, true},
    {CONTROL_QUEUE_JOB, {"job=1"}, true},
    {CONTROL_QUEUE_CANCEL, {NULL}, false},
};

static void an_order_says_enough_or_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct control_request request = {.verb = orders[i].verb};
        struct queue_order order;
        char problem[QUEUE_FILTER_PROBLEM_MAX];
        while (request.word_count < 3 && orders[i].words[request.word_count] != NULL) {
            request.words[request.word_count] = slice_text(orders[i].words[request.word_count]);
            request.word_count++;
        }
        int status = queue_order_read(&order, &request, problem);
        if ((status == 0) != orders[i].good) {
            print_error("%zu: %d %s\n", i, status, problem);
        }
        assert_int_equal(status, orders[i].good ? 0 : -EINVAL);
        assert_int_equal(problem[0] == '\0', orders[i].good);
        if (status == 0) {
            queue_order_free(&order);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_carries_any_text),
        cmocka_unit_test(a_word_that_is_too_long_is_refused_whole),
        cmocka_unit_test(conditions_are_read),
        cmocka_unit_test(held_and_ready_exclude_each_other),
        cmocka_unit_test(a_filter_means_what_fits),
        cmocka_unit_test(the_null_sender_is_a_sender),
        cmocka_unit_test(a_pattern_that_takes_too_long_has_not_matched_and_is_counted),
        cmocka_unit_test(an_order_says_enough_or_is_refused),
    };
    return cmocka_run_group_tests(tests, store_set_up, store_tear_down);
}
