/* Reports for which there is no memory: they are made later, or the next attempt says again what they would have told. */
#include "engine/relay/bounce_private.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define HOUR (3600 * RIG_SECOND)
#define BY_MX "\n  - {match: \"*\", via: mx}\n"

/* The linker puts these in place of the heap's (Makefile). */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool no_reports, no_outcomes;
static unsigned refused;

void *__wrap_calloc(size_t count, size_t size)
{
    bool is_report = count == 1 && size > sizeof(struct bounce) &&
                     (size - sizeof(struct bounce)) % sizeof(struct relay_outcome) == 0;
    if (is_report && no_reports) {
        refused++;
        return NULL;
    }
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (no_outcomes && size == 2 * sizeof(struct relay_outcome)) {
        refused++;
        return NULL;
    }
    return __real_realloc(memory, size);
}

static unsigned reports(const struct relay_rig *rig)
{
    unsigned count = 0;
    for (unsigned i = 0; i < rig->letter_count; i++) {
        count += strcmp(rig->letters[i].recipients, "s@b.test") == 0;
    }
    return count;
}

static struct relay_rig *set_up(const char *routes)
{
    no_reports = no_outcomes = false;
    refused = 0;
    return rig_open_two(routes);
}

static void success_is_told_when_there_is_memory_again(void **state)
{
    static bool *const shortages[] = {&no_reports, &no_outcomes};
    (void)state;
    for (size_t i = 0; i < sizeof(shortages) / sizeof(shortages[0]); i++) {
        struct relay_rig *rig = set_up(BY_MX);
        *shortages[i] = true;
        rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "s@b.test",
                         "u@a.test");
        rig_pass(rig, 30 * RIG_SECOND);
        assert_non_null(rig_letter_for(rig, "u@a.test"));
        assert_true(refused > 0);
        no_reports = true;
        rig_pass(rig, 300 * RIG_SECOND); /* looked for, in vain */
        assert_int_equal(reports(rig), 0);
        assert_true(rig_log_says(rig, "bounce: out of memory; a report is made later"));
        assert_int_equal(rig_waiting(rig), 0);
        no_reports = no_outcomes = false;
        rig_pass(rig, 120 * RIG_SECOND);
        assert_int_equal(reports(rig), 1);
        rig_pass(rig, HOUR);
        assert_int_equal(reports(rig), 1);
        assert_int_equal(rig->letter_count, 2);
        assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
        relay_rig_close(rig);
    }
}

static void failure_without_memory_waits_for_the_next_attempt(void **state)
{
    (void)state;
    struct relay_rig *rig = set_up(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    no_reports = true;
    rig_post(rig, "s@b.test", "u@a.test");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(refused, 1);
    assert_int_equal(rig_waiting(rig), 1);
    assert_int_equal(rig->relay->counters.failed, 0);
    no_reports = false;
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.failed, 1);
    relay_rig_close(rig);
}

static void what_has_no_server_waits_too(void **state)
{
    (void)state;
    struct relay_rig *rig =
        set_up("\n  - {match: a.test, via: error, reply: \"550 5.7.1 No\"}" BY_MX);
    no_reports = true;
    rig_post(rig, "s@b.test", "u@a.test v@a.test");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_true(refused > 0);
    assert_int_equal(rig_waiting(rig), 2);
    no_reports = false;
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void expired_mail_without_memory_expires_again(void **state)
{
    (void)state;
    struct relay_rig *rig = set_up(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 Mailbox busy");
    rig_post(rig, "s@b.test", "u@a.test");
    no_reports = true;
    rig_pass(rig, 24 * 5 * HOUR + 10 * HOUR);
    assert_true(refused > 0);
    assert_int_equal(rig_waiting(rig), 1);
    no_reports = false;
    rig_pass(rig, 10 * HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_is_told_when_there_is_memory_again),
        cmocka_unit_test(failure_without_memory_waits_for_the_next_attempt),
        cmocka_unit_test(what_has_no_server_waits_too),
        cmocka_unit_test(expired_mail_without_memory_expires_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
