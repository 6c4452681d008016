/* What a row of a transport map says, and which row a recipient finds. */
#include "engine/relay/transport.h"
#include "engine/relay/transport_lookup.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct relay_conf *conf;
static struct lookup *lookup;

static int set_up(void **state)
{
    static struct conf_report report;
    char name[] = "/tmp/transport-test-XXXXXX";
    int fd = mkstemp(name);
    (void)state;
    dprintf(fd, "hostname: mx.test\n"
                "routes:\n"
                "  - {match: relay.test, via: mx, port: 2525, source: 192.0.2.9}\n"
                "  - {match: box.test, via: lmtp, to: [\"unix:/run/box\"]}\n"
                "  - {name: slow, via: smtp, to: [\"192.0.2.1:25\"], connections: 1}\n"
                "  - {name: Store, match: store.test, via: lmtp, to: [\"192.0.2.2:24\"]}\n");
    close(fd);
    int status = relay_conf_load(&conf, name, "mx.test", &report);
    unlink(name);
    if (status < 0) {
        print_error("%s\n", report.problems[0]);
    }
    return status < 0 ? status : lookup_open(&lookup, &(struct lookup_settings){0});
}

static int tear_down(void **state)
{
    (void)state;
    lookup_close(lookup);
    relay_conf_free(conf);
    return 0;
}

/* The way in one text. */
static const char *way_of(const char *mailbox, const char *value)
{
    static const char *const vias[] = {"smtp", "lmtp", "mx", "discard", "error"};
    static char text[512];
    static struct transport transport;
    char to[ENDPOINT_TEXT_MAX] = "";
    const struct conf_route *by_routes = relay_conf_route(conf, slice_text(mailbox));
    int status = transport_read(&transport, conf, by_routes, slice_text(value));
    const struct conf_route *route = status == 0 ? transport_route(&transport) : NULL;
    if (route == NULL) {
        return status == 0 ? "none" : "wrong";
    }
    if (!transport.made) {
        snprintf(text, sizeof(text), "route %s%s", route->name != NULL ? route->name : "",
                 route->match);
        return text;
    }
    if (route->to_count > 0) {
        endpoint_format(&route->to[0], to);
    } else if (route->via == CONF_VIA_MX) {
        snprintf(to, sizeof(to), "%s%s:%u%s", route->host_only ? "host " : "",
                 route->next_hop != NULL ? route->next_hop : "-", route->port,
                 route->lmtp ? " lmtp" : "");
    } else if (route->via == CONF_VIA_ERROR) {
        snprintf(to, sizeof(to), "%u %s %s%s", route->reply_code, route->reply_status,
                 route->reply_text, transport.put_off ? " later" : "");
    }
    snprintf(text, sizeof(text), "%s%s%s", vias[route->via], to[0] != '\0' ? " " : "", to);
    return text;
}

static void each_row_of_transport_5_leads_where_postfix_would(void **state)
{
    static const struct {
        const char *mailbox, *value, *way, *why;
    } rows[] = {
        {"a@x.test", ":", "none", "no change, of no route"},
        {"a@relay.test", ":", "route relay.test", "no change"},
        {"a@x.test", "smtp:", "mx -:25", "the recipient's own domain"},
        {"a@relay.test", "smtp:", "mx -:2525", "at the port of its route"},
        {"a@x.test", "smtp:example.org", "mx example.org:25", "the exchangers of a domain"},
        {"a@x.test", "relay:example.org:26", "mx example.org:26", "relay is smtp; a port"},
        {"a@x.test", "smtp:[mx.example.org]", "mx host mx.example.org:25", "a host"},
        {"a@x.test", "smtp:[mx.example.org]:587", "mx host mx.example.org:587", "and its port"},
        {"a@x.test", "smtp:[192.0.2.7]:26", "smtp 192.0.2.7:26", "an address"},
        {"a@x.test", "smtp:[mx.test]:submission", "mx host mx.test:587", "as /etc/services has it"},
        {"a@x.test", "smtp:[mx.test]:SMTPS", "mx host mx.test:465", ""},
        {"a@x.test", "smtp:inet:[192.0.2.7]:smtp", "smtp 192.0.2.7:25", "as smtp(8) takes it"},
        {"a@x.test", "smtp:192.0.2.7", "smtp 192.0.2.7:25", "also without brackets"},
        {"a@x.test", "smtp:[2001:db8::1]", "smtp [2001:db8::1]:25", "of IPv6"},
        {"a@x.test", "smtp:[IPv6:2001:db8::1]:26", "smtp [2001:db8::1]:26", "as RFC 5321 has it"},
        {"a@x.test", "SMTP: [192.0.2.7]", "smtp 192.0.2.7:25", "case and a blank"},
        {"a@x.test", "smtp:bücher.example", "mx bücher.example:25", "resolve makes A-labels"},
        {"a@x.test", "lmtp:unix:/run/lmtp", "lmtp unix:/run/lmtp", "a socket"},
        {"a@x.test", "lmtp:inet:mail.test:2003", "mx host mail.test:2003 lmtp", "never its MX"},
        {"a@x.test", "lmtp:mail.test", "mx host mail.test:24 lmtp", "port 24"},
        {"a@x.test", "lmtp:[192.0.2.7]", "lmtp 192.0.2.7:24", "an address"},
        {"a@x.test", "lmtp:", "mx host -:24 lmtp", "the host of the recipient's domain"},
        {"a@x.test", "discard:", "discard", "thrown away"},
        {"a@x.test", "discard:spam trap", "discard", "what for is the operator's"},
        {"a@x.test", "error:5.1.1 No such user", "error 550 5.1.1 No such user", ""},
        {"a@x.test", "error:No such user", "error 550 5.0.0 No such user", "no status"},
        {"a@x.test", "error:", "error 550 5.0.0 Address is undeliverable", "nothing"},
        {"a@x.test", "error:4.2.1 Moving", "error 450 4.2.1 Moving", "a temporary refusal"},
        {"a@x.test", "error:5.1.1", "error 550 5.1.1 Address is undeliverable", "no text"},
        {"a@x.test", "error:5.1.10x y", "error 550 5.0.0 5.1.10x y", "no status: text"},
        {"a@x.test", "retry:", "error 450 4.0.0 Delivery is put off later", ""},
        {"a@x.test", "retry:4.3.2 At night", "error 450 4.3.2 At night later", ""},
        {"a@x.test", "slow:", "route slow", "a route by its name"},
        {"a@x.test", "store:", "route Storestore.test", "no case"},
        {"a@x.test", "slow:[192.0.2.7]", "smtp 192.0.2.7:25", "its settings, another next hop"},
        {"a@x.test", "store:mail.test:2003", "mx host mail.test:2003 lmtp", "as it speaks"},
        {"a@box.test", ":[192.0.2.7]", "lmtp 192.0.2.7:24", "as its route speaks"},
        {"a@relay.test", ":other.test", "mx other.test:2525", "another next hop"},
        {"a@x.test", "smtp", "wrong", "no colon"},
        {"a@x.test", "", "wrong", "nothing"},
        {"a@x.test", "uucp:host", "wrong", "no transport of ours"},
        {"a@x.test", "smtp:[192.0.2.7", "wrong", "an open bracket"},
        {"a@x.test", "smtp:[192.0.2.7]x", "wrong", "after the bracket"},
        {"a@x.test", "smtp:a b", "wrong", "no host"},
        {"a@x.test", "smtp:a:0", "wrong", "no port"},
        {"a@x.test", "smtp:a:pop3", "wrong", "no port"},
        {"a@x.test", "smtp:a:", "wrong", "no port"},
        {"a@x.test", "smtp:2001:db8::1", "wrong", "IPv6 needs brackets"},
        {"a@x.test", "lmtp:unix:run", "wrong", "no absolute path"},
        {"a@x.test", "error:2.1.5 Ok", "wrong", "no refusal"},
        {"a@x.test", "retry:5.1.1 Never", "wrong", "not later"},
        {"a@x.test", "error:a\nb", "wrong", "two lines would be two replies"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *way = way_of(rows[i].mailbox, rows[i].value);
        if (strcmp(way, rows[i].way) != 0) {
            fail_msg("%s %s: %s, not %s: %s", rows[i].mailbox, rows[i].value, way, rows[i].way,
                     rows[i].why);
        }
    }
}

static void the_settings_are_those_of_the_route_and_a_source_fits_the_next_hop(void **state)
{
    static struct transport made;
    const struct conf_route *base = relay_conf_route(conf, slice_text("a@relay.test"));
    (void)state;
    assert_int_equal(transport_read(&made, conf, base, slice_text("smtp:[192.0.2.7]")), 0);
    assert_int_equal(made.route.source.family, ENDPOINT_IPV4);
    assert_ptr_equal(made.route.to, &made.to);
    assert_int_equal(transport_read(&made, conf, base, slice_text("smtp:[2001:db8::1]")), 0);
    assert_int_equal(made.route.source.family, ENDPOINT_NONE);
    assert_int_equal(transport_read(&made, conf, base, slice_text("smtp:[mx.test]")), 0);
    assert_int_equal(made.route.family, CONF_FAMILY_IPV4); /* as the source */
    assert_int_equal(transport_read(&made, conf, NULL, slice_text("slow:mx.test")), 0);
    assert_int_equal(made.route.connections, 1);
    assert_int_equal(transport_read(&made, conf, NULL, slice_text("smtp:mx.test")), 0);
    assert_int_equal(made.route.connections, 20); /* the default of a route */
    assert_int_equal(made.route.recipients_per_message, 100);
    assert_int_equal(made.route.tls.level, CONF_LEVEL_OPPORTUNISTIC);
}

/* ---- Which row ---- */

static char extension = '+';

static const char *row_of(const char *address, const char *const *names)
{
    static char text[MAP_VALUE_MAX];
    char problem[MAP_PROBLEM_MAX];
    struct map *all[4];
    struct rewrite_maps maps = {.maps = all};
    const struct rewrite_rules rules = {.hostname = "mx.test", .extension = extension};
    struct transport_job job = {0};
    for (; names[maps.count] != NULL; maps.count++) {
        assert_int_equal(map_open(&all[maps.count], names[maps.count], problem), 0);
    }
    assert_int_equal(transport_lookup(&job, lookup, &maps, &rules, slice_text(address)), 0);
    snprintf(text, sizeof(text), "%s", job.answer == MAP_ABSENT ? "absent" : "failed");
    if (job.answer == MAP_FOUND) {
        snprintf(text, sizeof(text), "%.*s", (int)job.value->text.size,
                 (const char *)job.value->text.bytes);
    }
    transport_job_end(&job);
    lookup_forget(lookup);
    while (maps.count > 0) {
        map_close(all[--maps.count]);
    }
    return text;
}

static void a_recipient_is_looked_for_from_the_address_up_to_the_asterisk(void **state)
{
    static const char *const maps[] = {
        "inline:{jo+a@x.test=whole, jo@x.test=user, x.test=domain, .x.test=below, "
        ".deep.x.test=deep, bücher.test=u, xn--mnchen-3ya.test=a, .xn--bcher-kva.test=below-u, "
        "mx.test=ours, [192.0.2.1]=literal, a@[192.0.2.1]=who}",
        "inline:{*=any, jo@y.test=second}", NULL};
    static const struct {
        const char *address, *row;
    } rows[] = {
        {"jo+a@x.test", "whole"},     {"jo+b@x.test", "user"},
        {"JO@X.TEST", "user"},        {"al@x.test", "domain"},
        {"jo@a.x.test", "below"},     {"jo@a.b.x.test", "below"},
        {"jo@a.deep.x.test", "deep"}, {"jo@deep.x.test", "below"},
        {"jo@y.test", "second"},      {"al@y.test", "any"},
        {"jo@bücher.test", "u"},      {"jo@xn--bcher-kva.test", "u"},
        {"jo@münchen.test", "a"},     {"jo@a.bücher.test", "below-u"},
        {"postmaster", "ours"},       {"x@[192.0.2.1]", "literal"},
        {"a@[192.0.2.1]", "who"},     {"\"jo+a\"@x.test", "domain"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(row_of(rows[i].address, maps), rows[i].row);
    }
}

/* It had gone by the routes, whatever "*" said. */
static void the_longest_address_is_looked_for_as_any_other(void **state)
{
    static const char *const maps[] = {"inline:{*=any}", NULL};
    char address[SMTP_ADDRESS_BYTES_MAX + 1];
    (void)state;
    memset(address, 'a', SMTP_ADDRESS_BYTES_MAX);
    address[SMTP_ADDRESS_BYTES_MAX] = '\0';
    assert_string_equal(row_of(address, maps), "any"); /* of our own domain */
    address[64] = '@';
    assert_string_equal(row_of(address, maps), "any");
}

static void maps_of_patterns_see_addresses_and_maps_of_networks_see_literals(void **state)
{
    char pcre[] = "/tmp/transport-pcre-XXXXXX", cidr[] = "/tmp/transport-cidr-XXXXXX";
    int fd = mkstemp(pcre);
    dprintf(fd, "/^x\\.test$/ part\n/^jo@.*$/ whole\n");
    close(fd);
    fd = mkstemp(cidr);
    dprintf(fd, "192.0.2.0/24 inside\n2001:db8::/32 inside6\n");
    close(fd);
    char pcre_name[64], cidr_name[64];
    snprintf(pcre_name, sizeof(pcre_name), "pcre:%s", pcre);
    snprintf(cidr_name, sizeof(cidr_name), "cidr:%s", cidr);
    const char *const maps[] = {pcre_name, cidr_name, NULL};
    (void)state;
    assert_string_equal(row_of("al@x.test", maps), "absent");
    assert_string_equal(row_of("jo@x.test", maps), "whole");
    assert_string_equal(row_of("al@[192.0.2.77]", maps), "inside");
    assert_string_equal(row_of("al@[IPv6:2001:db8::7]", maps), "inside6");
    assert_string_equal(row_of("al@[198.51.100.1]", maps), "absent");
    unlink(pcre);
    unlink(cidr);
}

static void a_map_that_fails_is_no_absence_even_when_the_next_one_knows(void **state)
{
    char file[] = "/tmp/transport-sqlite-XXXXXX", name[64];
    int fd = mkstemp(file);
    dprintf(fd, "dbpath = /nonexistent/database\nquery = select 1 where '%%s' = ''\n");
    close(fd);
    snprintf(name, sizeof(name), "sqlite:%s", file);
    const char *const maps[] = {name, "inline:{*=any, x.test=smtp:}", NULL};
    (void)state;
    assert_string_equal(row_of("jo@x.test", maps), "failed");
    unlink(file);
}

static void a_dash_before_tags_parts_no_owner_and_no_request(void **state)
{
    static const char *const maps[] = {
        "inline:{owner@a.test=smtp:[one], list@a.test=smtp:[two], a.test=smtp:[three]}", NULL};
    (void)state;
    extension = '-';
    assert_string_equal(row_of("owner-list@a.test", maps), "smtp:[three]");
    assert_string_equal(row_of("list-request@a.test", maps), "smtp:[three]");
    assert_string_equal(row_of("list-tag@a.test", maps), "smtp:[two]");
    extension = '+';
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_of_transport_5_leads_where_postfix_would),
        cmocka_unit_test(the_settings_are_those_of_the_route_and_a_source_fits_the_next_hop),
        cmocka_unit_test(a_recipient_is_looked_for_from_the_address_up_to_the_asterisk),
        cmocka_unit_test(a_dash_before_tags_parts_no_owner_and_no_request),
        cmocka_unit_test(the_longest_address_is_looked_for_as_any_other),
        cmocka_unit_test(maps_of_patterns_see_addresses_and_maps_of_networks_see_literals),
        cmocka_unit_test(a_map_that_fails_is_no_absence_even_when_the_next_one_knows),
    };
    return cmocka_run_group_tests_name("transport", tests, set_up, tear_down);
}
