#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/core/system_world.h"
#include "engine/relay/relay_resolve.h"

struct rig {
    struct world world;
    struct logger logger;
    struct shard shard;
    struct resolver *resolver;
    struct relay_conf *conf;
    struct conf_report report;
    struct relay_resolve resolve;
};

static int rig_open(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    system_world_fill(&rig->world);
    logger_open(&rig->logger, -1, LOGGER_ERROR);
    const struct shard_settings shard = {
        .count = 1, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    assert_int_equal(shard_open(&rig->shard, &shard), 0);
    *state = rig;
    return 0;
}

static int rig_close(void **state)
{
    struct rig *rig = *state;
    relay_resolve_close(&rig->resolve);
    if (rig->resolver != NULL) {
        resolver_close(rig->resolver);
    }
    shard_close(&rig->shard);
    relay_conf_free(rig->conf);
    free(rig);
    return 0;
}

static void conf_read(struct rig *rig, const char *yaml)
{
    char path[] = "/tmp/tubepost-relay-resolve-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    fputs(yaml, file);
    fclose(file);
    int status = relay_conf_load(&rig->conf, path, "us.test", &rig->report);
    remove(path);
    assert_int_equal(status, 0);
}

static void open_with(struct rig *rig, const char *yaml)
{
    conf_read(rig, yaml);
    assert_int_equal(relay_resolver_open(&rig->resolver, rig->conf, &rig->world, &rig->logger), 0);
    assert_int_equal(relay_resolve_open(&rig->resolve, rig->resolver, rig->conf, &rig->shard), 0);
}

/* As tubepostd does it. 0, or why it was refused. */
static int reload_with(struct rig *rig, const char *yaml)
{
    struct relay_conf *before = rig->conf;
    conf_read(rig, yaml);
    int status = relay_resolver_reload(rig->resolver, rig->conf, &rig->world, &rig->logger);
    if (status < 0) {
        relay_conf_free(rig->conf);
        rig->conf = before;
        return status;
    }
    relay_resolve_reload(&rig->resolve, rig->conf, &rig->shard);
    resolver_reload_end(rig->resolver);
    relay_conf_free(before);
    return 0;
}

static bool is_own(const struct rig *rig, const char *text)
{
    struct endpoint endpoint;
    assert_int_equal(endpoint_parse(&endpoint, slice_text(text)), 0);
    for (uint32_t i = 0; i < rig->resolve.own_count; i++) {
        if (endpoint_equal(&rig->resolve.own[i], &endpoint)) {
            return true;
        }
    }
    return false;
}

static void we_are_where_we_listen(void **state)
{
    struct rig *rig = *state;
    open_with(rig, "listen:\n"
                   "  - {name: mx, address: [\"192.0.2.1:25\", \"[2001:db8::1]:2525\"]}\n"
                   "  - {name: local, address: [\"unix:/run/x\"]}\n");
    assert_true(is_own(rig, "192.0.2.1:25"));
    assert_true(is_own(rig, "[2001:db8::1]:2525"));
    assert_false(is_own(rig, "192.0.2.1:26"));
    assert_false(is_own(rig, "127.0.0.1:25"));
    assert_int_equal(rig->resolve.own_count, 2);
}

static void a_listener_on_all_addresses_is_one_on_each_of_the_machine(void **state)
{
    struct rig *rig = *state;
    open_with(rig, "listen:\n  - {name: mx, address: [\"0.0.0.0:2525\"]}\n");
    assert_true(is_own(rig, "127.0.0.1:2525"));
    assert_false(is_own(rig, "127.0.0.1:25"));
    assert_false(is_own(rig, "0.0.0.0:2525"));
}

static void a_listener_on_all_addresses_is_one_on_each_of_our_ports(void **state)
{
    struct rig *rig = *state;
    open_with(rig, "transport: dpdk\n"
                   "dpdk: {ports: [{name: net_null0, addresses: [192.0.2.1/24, \"fd00::1/64\"]}]}\n"
                   "listen:\n  - {name: mx, address: [\"[::]:25\"]}\n");
    assert_true(is_own(rig, "192.0.2.1:25"));
    assert_true(is_own(rig, "[fd00::1]:25"));
    assert_true(is_own(rig, "127.0.0.1:25"));
}

static void our_own_address_leads_in_a_circle_and_our_name_is_known(void **state)
{
    struct rig *rig = *state;
    struct resolve_query query = {.done = NULL};
    struct destination *destination;
    const struct resolve_options options = {.port = 25};
    open_with(rig, "listen:\n  - {name: mx, address: [\"192.0.2.1:25\"]}\n");
    assert_string_equal(rig->resolve.own_names[0], "us.test");
    assert_int_equal(resolve_destination(rig->resolve.resolve, slice_text("[192.0.2.1]"), &options,
                                         &query, &destination),
                     0);
    assert_int_equal(destination->status, DESTINATION_LOOP);
    destination_drop(destination);
}

static void nobody_is_told(struct resolve_query *query, struct destination *destination)
{
    (void)query;
    (void)destination;
    fail();
}

/* Threads end, and what they were asked is asked of others: nothing is lost, nothing told twice, nothing leaks. */
static void a_reload_with_questions_under_way_leaves_none_behind(void **state)
{
    struct rig *rig = *state;
    static struct resolve_query queries[64]; /* until the rig is closed */
    struct destination *destination;
    const struct resolve_options options = {.port = 25, .tls_policy = true};
    open_with(rig, "dns: {servers: [\"127.0.0.1:1\"], timeout: 60s, threads: 2, dnssec: off}\n");
    for (unsigned i = 0; i < 64; i++) {
        char domain[32];
        queries[i] = (struct resolve_query){.done = nobody_is_told};
        snprintf(domain, sizeof(domain), "d%u.test", i);
        assert_int_equal(resolve_destination(rig->resolve.resolve, slice_text(domain), &options,
                                             &queries[i], &destination),
                         -EINPROGRESS);
        if (i % 16 == 7) {
            assert_int_equal(reload_with(rig, "hostname: other.test\n"
                                              "dns: {servers: [\"127.0.0.1:2\"], threads: 3, "
                                              "dnssec: off, outstanding: 10}\n"),
                             0);
        }
    }
    assert_int_equal(resolve_counters(rig->resolve.resolve)->waiting, 64);
    assert_string_equal(rig->resolve.own_names[0], "other.test");
}

static void
an_anchor_that_is_none_is_refused_and_one_that_is_missing_by_default_is_not(void **state)
{
    struct rig *rig = *state;
    char path[] = "/tmp/tubepost-anchor-XXXXXX", yaml[128];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "no key\n", 7), 7);
    close(fd);
    open_with(rig, "dns: {dnssec: off}\n");
    snprintf(yaml, sizeof(yaml), "dns: {servers: [\"127.0.0.1:1\"], trust_anchor: %s}\n", path);
    assert_int_equal(reload_with(rig, yaml), -EINVAL);
    remove(path);
    assert_int_equal(reload_with(rig, "dns: {servers: [\"127.0.0.1:1\"]}\n"), 0);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, rig_open, rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(we_are_where_we_listen),
        RIG_TEST(a_listener_on_all_addresses_is_one_on_each_of_the_machine),
        RIG_TEST(a_listener_on_all_addresses_is_one_on_each_of_our_ports),
        RIG_TEST(our_own_address_leads_in_a_circle_and_our_name_is_known),
        RIG_TEST(a_reload_with_questions_under_way_leaves_none_behind),
        RIG_TEST(an_anchor_that_is_none_is_refused_and_one_that_is_missing_by_default_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
