/* What the configuration says of TLS, and what does not fit together. */
#include "engine/conf/conf.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char file_name[] = "/tmp/tubepost-conf-tls-XXXXXX";

static int load(const char *text, struct relay_conf **conf, struct conf_report *report)
{
    FILE *file = fopen(file_name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return relay_conf_load(conf, file_name, "mx.test", report);
}

#define ROUTE(more) "routes: [{match: a, to: [\"127.0.0.1:25\"], " more "}]"
#define DIGEST "00:01:02:03:04:05:06:07:08:09:0A:0b:0c:0d:0e:0f:"

static void mistakes_are_told_with_their_place(void **state)
{
    static const struct {
        const char *text, *told;
    } rows[] = {
        {ROUTE("tls: always"), "routes[0].tls: 'always' will not do, expected none, opportunistic, "
                               "required, verified or dane"},
        {ROUTE("tls: verified"),
         "routes[0].tls: of whom? expected the name of the next hop in tls_names"},
        {ROUTE("tls: dane"),
         "routes[0].tls: endpoints have no TLSA records, expected another level"},
        {ROUTE("tls: none, tls_implicit: true"),
         "routes[0].tls: against tls_implicit, expected another level"},
        {ROUTE("tls_certificate: /a.pem"),
         "routes[0].tls_certificate: alone, expected tls_key with it"},
        {ROUTE("tls_key: /a.pem"), "routes[0].tls_key: alone, expected tls_certificate with it"},
        {"tls: {client_key: /a.pem}", "tls.client_key: alone, expected client_certificate with it"},
        {"listen: [{name: a, address: [\"127.0.0.1:25\"], client_certificate: ask}]",
         "listen[0].client_certificate: without TLS nobody shows one, expected a listener with it"},
        {"relay_clients: [\"00:11\"]", "relay_clients[0]: no fingerprint, expected 32 bytes of "
                                       "SHA-256 in hexadecimal"},
        {"relay_clients: [\"" DIGEST DIGEST "\"]", "relay_clients[0]: no fingerprint"},
        {"relay_clients: [\"" DIGEST DIGEST "00\"]", "relay_clients[0]: no fingerprint"},
        {"relay_clients: [\"x" DIGEST DIGEST "\"]", "relay_clients[0]: no fingerprint"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct relay_conf *conf;
        struct conf_report report;
        assert_int_equal(load(rows[i].text, &conf, &report), -EINVAL);
        assert_int_equal(report.count, 1);
        const char *told = strstr(report.problems[0], ": ");
        if (told == NULL || strncmp(told + 2, rows[i].told, strlen(rows[i].told)) != 0) {
            print_error("row %zu: %s\n", i, report.problems[0]);
            fail();
        }
    }
}

static void routes_are_opportunistic_unless_they_say_otherwise(void **state)
{
    struct relay_conf *conf;
    struct conf_report report;
    (void)state;
    assert_int_equal(load(ROUTE("via: smtp"), &conf, &report), 0);
    assert_int_equal(conf->routes[0].tls.level, CONF_LEVEL_OPPORTUNISTIC);
    assert_false(conf->routes[0].tls.implicit);
    relay_conf_free(conf);
    assert_int_equal(load(ROUTE("tls: verified, tls_implicit: true, tls_names: [b.test, c.test], "
                                "tls_certificate: /c.pem, tls_key: /c.key"),
                          &conf, &report),
                     0);
    assert_int_equal(conf->routes[0].tls.level, CONF_LEVEL_VERIFIED);
    assert_true(conf->routes[0].tls.implicit);
    assert_int_equal(conf->routes[0].tls.names_count, 2);
    assert_string_equal(conf->routes[0].tls.names[1], "c.test");
    assert_string_equal(conf->routes[0].tls.key, "/c.key");
    relay_conf_free(conf);
}

static void fingerprints_are_of_certificates_or_keys_with_colons_or_without(void **state)
{
    static const char text[] =
        "relay_clients: [\"00:01:02:03:04:05:06:07:08:09:0A:0b:0c:0d:0e:0f:"
        "10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f\", "
        "\"ff0102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"]";
    struct relay_conf *conf;
    struct conf_report report;
    uint8_t known[CONF_FINGERPRINT_BYTES], other[CONF_FINGERPRINT_BYTES] = {1};
    (void)state;
    assert_int_equal(load(text, &conf, &report), 0);
    for (unsigned i = 0; i < sizeof(known); i++) {
        known[i] = (uint8_t)i;
    }
    assert_true(relay_conf_client_may_relay(conf, known, other));
    assert_true(relay_conf_client_may_relay(conf, other, known));
    assert_false(relay_conf_client_may_relay(conf, other, other));
    known[0] = 0xff;
    assert_true(relay_conf_client_may_relay(conf, known, other));
    known[31] ^= 1;
    assert_false(relay_conf_client_may_relay(conf, known, known));
    relay_conf_free(conf);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file_name);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_told_with_their_place),
        cmocka_unit_test(routes_are_opportunistic_unless_they_say_otherwise),
        cmocka_unit_test(fingerprints_are_of_certificates_or_keys_with_colons_or_without),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
