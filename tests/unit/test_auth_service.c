/* What a program that lets people log in keeps: the secret, and what it says when that cannot be had. */
#include "engine/auth/auth_service.h"
#include "engine/core/system_world.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64], shared[96];
static struct world world;
static struct logger logger;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/tubepost-auth-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(shared, sizeof(shared), "%s/shared", folder);
    system_world_fill(&world);
    logger_open(&logger, open("/dev/null", O_WRONLY | O_CLOEXEC), LOGGER_ERROR);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    close(logger.fd);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

/* Opens one and closes it; what it had for a secret. */
static int secret_of(const char *below, const char *file, uint8_t secret[AUTH_SECRET_BYTES])
{
    static const char *backends[] = {"static:tim:{PLAIN}x", NULL};
    const struct conf_auth conf = {
        .backends = backends, .backends_count = 1, .scheme = "CRYPT", .threads = 1, .secret = file};
    char path[96];
    snprintf(path, sizeof(path), "%s/%s", folder, below);
    const struct auth_service_settings settings = {
        .conf = &conf, .folder = path, .hostname = "h", .world = &world, .logger = &logger};
    struct auth_service service = {0};
    int status = auth_service_open(&service, &settings);
    memcpy(secret, service.secret, AUTH_SECRET_BYTES);
    auth_service_close(&service);
    return status;
}

static void the_secret_is_the_same_after_each_start_and_another_elsewhere(void **state)
{
    uint8_t first[AUTH_SECRET_BYTES], second[AUTH_SECRET_BYTES], other[AUTH_SECRET_BYTES];
    struct stat kept;
    char path[128];
    (void)state;
    assert_int_equal(secret_of("one", NULL, first), 0);
    assert_int_equal(secret_of("one", NULL, second), 0);
    assert_int_equal(secret_of("other", NULL, other), 0);
    assert_memory_equal(first, second, sizeof(first));
    assert_memory_not_equal(first, other, sizeof(first));
    snprintf(path, sizeof(path), "%s/one/secret", folder);
    assert_int_equal(stat(path, &kept), 0);
    assert_int_equal(kept.st_mode & 0777, 0600);
}

static void two_programs_have_one_secret_where_it_is_named(void **state)
{
    uint8_t one[AUTH_SECRET_BYTES], other[AUTH_SECRET_BYTES];
    char path[128];
    (void)state;
    assert_int_equal(secret_of("one", shared, one), 0);
    assert_int_equal(secret_of("other", shared, other), 0);
    assert_memory_equal(one, other, sizeof(one));
    snprintf(path, sizeof(path), "%s/one/secret", folder);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_file_that_is_no_secret_ends_the_start(void **state)
{
    uint8_t secret[AUTH_SECRET_BYTES];
    FILE *file = fopen(shared, "w");
    (void)state;
    assert_non_null(file);
    fputs("short", file);
    fclose(file);
    assert_int_equal(secret_of("one", shared, secret), -EINVAL);
    assert_int_equal(secret_of("one", "/nowhere/of/this/host/secret", secret), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            the_secret_is_the_same_after_each_start_and_another_elsewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_programs_have_one_secret_where_it_is_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_secret_ends_the_start, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
