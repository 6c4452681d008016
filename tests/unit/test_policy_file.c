#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/resolve/policy_file.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW 1800000000

struct rig {
    char folder[64], path[128];
    struct logger logger;
    struct policy_file file;
    unsigned count;
    struct policy_record last;
};

static int rig_open(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    strcpy(rig->folder, "/tmp/tubepost-policies-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->path, sizeof(rig->path), "%s/mta-sts.cache", rig->folder);
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    assert_int_equal(policy_file_open(&rig->file, rig->path, NOW, &rig->logger), 0);
    *state = rig;
    return 0;
}

static int rig_close(void **state)
{
    struct rig *rig = *state;
    char beside[160];
    policy_file_close(&rig->file);
    snprintf(beside, sizeof(beside), "%s.new", rig->path);
    unlink(rig->path);
    rmdir(beside);
    rmdir(rig->folder);
    free(rig);
    return 0;
}

static void reopen(struct rig *rig, int64_t wall_s)
{
    policy_file_close(&rig->file);
    assert_int_equal(policy_file_open(&rig->file, rig->path, wall_s, &rig->logger), 0);
}

static struct policy_record record_of(const char *domain, const char *id)
{
    struct policy_record record = {
        .fetched_s = NOW,
        .policy = {.mode = DNS_MTA_STS_ENFORCE, .max_age_s = 86400, .pattern_count = 2}};
    snprintf(record.domain, sizeof(record.domain), "%s", domain);
    snprintf(record.id, sizeof(record.id), "%s", id);
    strcpy(record.policy.patterns[0], "mx.a.test");
    strcpy(record.policy.patterns[1], "*.host.test");
    return record;
}

static void put(struct rig *rig, const char *domain, const char *id)
{
    uint8_t bytes[POLICY_RECORD_BYTES_MAX];
    struct policy_record record = record_of(domain, id);
    policy_file_put(&rig->file, slice_of(bytes, policy_record_write(&record, bytes)));
}

static void seen(void *owner, const struct policy_record *record)
{
    struct rig *rig = owner;
    rig->count++;
    rig->last = *record;
}

static unsigned count_all(struct rig *rig)
{
    rig->count = 0;
    policy_file_each(&rig->file, seen, rig);
    return rig->count;
}

/* ---- Records ---- */

static void a_record_is_read_as_it_was_written(void **state)
{
    struct policy_record record = record_of("a.test", "20261126"), read;
    uint8_t bytes[POLICY_RECORD_BYTES_MAX];
    (void)state;
    size_t size = policy_record_write(&record, bytes);
    struct slice rest = slice_of(bytes, size);
    assert_int_equal(policy_record_read(&rest, &read), 0);
    assert_int_equal(rest.size, 0);
    assert_string_equal(read.domain, "a.test");
    assert_string_equal(read.id, "20261126");
    assert_int_equal(read.fetched_s, NOW);
    assert_int_equal(read.policy.mode, DNS_MTA_STS_ENFORCE);
    assert_int_equal(read.policy.max_age_s, 86400);
    assert_int_equal(read.policy.pattern_count, 2);
    assert_string_equal(read.policy.patterns[1], "*.host.test");
}

static void the_largest_record_fits(void **state)
{
    struct policy_record record = record_of("", ""), read;
    uint8_t bytes[POLICY_RECORD_BYTES_MAX];
    (void)state;
    memset(record.domain, 'd', DNS_NAME_MAX);
    memset(record.id, 'i', DNS_MTA_STS_ID_MAX);
    record.policy.pattern_count = DNS_MTA_STS_PATTERNS_MAX;
    for (unsigned i = 0; i < DNS_MTA_STS_PATTERNS_MAX; i++) {
        memset(record.policy.patterns[i], 'p', DNS_NAME_MAX);
    }
    size_t size = policy_record_write(&record, bytes);
    assert_true(size <= sizeof(bytes));
    struct slice rest = slice_of(bytes, size);
    assert_int_equal(policy_record_read(&rest, &read), 0);
}

static void a_record_with_any_byte_changed_or_missing_is_damaged(void **state)
{
    struct policy_record record = record_of("a.test", "1"), read;
    uint8_t bytes[POLICY_RECORD_BYTES_MAX];
    (void)state;
    size_t size = policy_record_write(&record, bytes);
    for (size_t i = 0; i < size; i++) {
        struct slice rest = slice_of(bytes, size);
        bytes[i] ^= 0x20;
        assert_int_equal(policy_record_read(&rest, &read), -EINVAL);
        bytes[i] ^= 0x20;
        rest = slice_of(bytes, i);
        assert_int_equal(policy_record_read(&rest, &read), -EINVAL);
    }
}

/* ---- The file ---- */

static void what_was_written_is_there_after_a_restart(void **state)
{
    struct rig *rig = *state;
    put(rig, "a.test", "1");
    put(rig, "b.test", "2");
    put(rig, "a.test", "3");
    assert_int_equal(policy_file_write(&rig->file), 0);
    reopen(rig, NOW + 100);
    assert_int_equal(count_all(rig), 2);
    assert_string_equal(rig->last.domain, "a.test"); /* the newest is the last */
    assert_string_equal(rig->last.id, "3");
}

static void what_was_not_written_is_not(void **state)
{
    struct rig *rig = *state;
    put(rig, "a.test", "1");
    reopen(rig, NOW);
    assert_int_equal(count_all(rig), 0);
}

static void a_policy_that_has_expired_is_left_out(void **state)
{
    struct rig *rig = *state;
    put(rig, "a.test", "1");
    assert_int_equal(policy_file_write(&rig->file), 0);
    reopen(rig, NOW + 86399);
    assert_int_equal(count_all(rig), 1);
    reopen(rig, NOW + 86400);
    assert_int_equal(count_all(rig), 0);
}

static void what_stands_before_the_damage_is_kept(void **state)
{
    struct rig *rig = *state;
    struct stat facts;
    put(rig, "a.test", "1");
    put(rig, "b.test", "2");
    assert_int_equal(policy_file_write(&rig->file), 0);
    assert_int_equal(stat(rig->path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(truncate(rig->path, facts.st_size - 1), 0);
    reopen(rig, NOW);
    assert_int_equal(count_all(rig), 1);
    assert_string_equal(rig->last.domain, "a.test");
    assert_int_equal(truncate(rig->path, 5), 0);
    reopen(rig, NOW);
    assert_int_equal(count_all(rig), 0);
}

static void a_write_that_fails_leaves_the_old_file(void **state)
{
    struct rig *rig = *state;
    char beside[160];
    put(rig, "a.test", "1");
    assert_int_equal(policy_file_write(&rig->file), 0);
    snprintf(beside, sizeof(beside), "%s.new", rig->path);
    assert_int_equal(mkdir(beside, 0700), 0); /* in the way */
    put(rig, "b.test", "2");
    assert_int_equal(policy_file_write(&rig->file), -EISDIR);
    reopen(rig, NOW);
    assert_int_equal(count_all(rig), 1);
    assert_string_equal(rig->last.domain, "a.test");
}

static void without_a_path_nothing_is_written(void **state)
{
    struct rig *rig = *state;
    policy_file_close(&rig->file);
    assert_int_equal(policy_file_open(&rig->file, NULL, NOW, &rig->logger), 0);
    put(rig, "a.test", "1");
    assert_int_equal(policy_file_write(&rig->file), 0);
    assert_int_equal(access(rig->path, F_OK), -1);
    assert_int_equal(count_all(rig), 1);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_open, rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_read_as_it_was_written),
        cmocka_unit_test(the_largest_record_fits),
        cmocka_unit_test(a_record_with_any_byte_changed_or_missing_is_damaged),
        RIG_TEST(what_was_written_is_there_after_a_restart),
        RIG_TEST(what_was_not_written_is_not),
        RIG_TEST(a_policy_that_has_expired_is_left_out),
        RIG_TEST(what_stands_before_the_damage_is_kept),
        RIG_TEST(a_write_that_fails_leaves_the_old_file),
        RIG_TEST(without_a_path_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
