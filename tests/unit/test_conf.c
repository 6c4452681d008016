/* conf: files good and bad, what they say, and that every key is documented. */
#include "engine/conf/conf.h"
#include "engine/core/check.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND 1000000000ull

static char file_name[] = "/tmp/conf-test-XXXXXX";

static void write_file(const char *text, size_t size)
{
    FILE *file = fopen(file_name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static struct relay_conf *load_good(const char *text)
{
    struct relay_conf *conf = NULL;
    struct conf_report report;
    write_file(text, strlen(text));
    int status = relay_conf_load(&conf, file_name, "relay.test", &report);
    if (status != 0) {
        print_error("refused: %s\n%s\n", report.problems[0], text);
    }
    assert_int_equal(status, 0);
    return conf;
}

/* ---- bad files ---- */

struct bad {
    const char *text;
    const char *problems; /* without the file's name, one a line */
};

#define PORT "{name: p0, addresses: [192.0.2.1/24]}"

static const struct bad bads[] = {
    /* not YAML, or not of the shape */
    {"hostname: [", "2:1: did not find expected node content, expected YAML"},
    {"hostname: a\n\tshards: 2",
     "2:1: found a tab character that violates indentation, expected YAML"},
    {"hostname: \"a\\0b\"", "1:11: a NUL inside a text, expected YAML"},
    {"hostname: a\n---\nhostname: b", "2:1: a second document in the file, expected YAML"},
    {"hostname: &h a\nspool: {path: *h}",
     "2:15: an alias (*name), which is not supported here, expected YAML"},
    {"hello", "1:1: not what belongs here, expected a section of keys (key: value)"},
    {"- a", "1:1: not what belongs here, expected a section of keys (key: value)"},
    {"spool: 3", "1:1: spool: not what belongs here, expected a section of keys (key: value)"},
    {"\n\nspool:\n  path: [1]", "4:3: spool.path: not what belongs here, expected one value"},
    {"relay_networks: 127.0.0.0/8",
     "1:1: relay_networks: not what belongs here, expected a list ([one, two])"},
    {"relay_networks: [[127.0.0.0/8]]",
     "1:18: relay_networks[0]: not what belongs here, expected one value"},
    {"routes: {match: a}",
     "1:1: routes: not what belongs here, expected a list of entries (- key: value)"},
    {"routes:\n  - example.org",
     "2:5: routes[0]: not what belongs here, expected keys (key: value)"},
    /* keys */
    {"hostname: a\nlisten_on: 3\n",
     "2:1: listen_on: unknown key, expected one of: hostname, "
     "shards, transport, dpdk, memory, listen, spool, auth, "
     "relay_networks, relay_clients, routes, transport_maps, priorities, limits, timeouts, "
     "retry, bounce, smtp, rewrite, tls, dns, io, "
     "shutdown, control, log, idle, cpu"},
    {"dns: {servers: [\"127.0.0.1:53\", \"unix:/run/dns\"]}",
     "1:33: dns.servers[1]: a unix socket, expected ADDRESS:PORT"},
    {"bounce: {double: postmaster}",
     "1:10: bounce.double: no bounce.postmaster is named, expected one for \"postmaster\""},
    {"bounce: {double: postmaster, postmaster: root}",
     "1:30: bounce.postmaster: 'root' will not do, expected an address such as "
     "postmaster@example.org"},
    {"bounce: {postmaster: \"a..b@x.test\"}", "1:10: bounce.postmaster: 'a..b@x.test' will not do, "
                                              "expected an address such as postmaster@example.org"},
    {"dns: {ttl_min: 2h, ttl_max: 1h}",
     "1:7: dns.ttl_min: more than dns.ttl_max, expected at most as much"},
    {"spool:\n  path: /x\n  durabilty: none",
     "3:3: spool.durabilty: unknown key, expected one of: path, durability, segment_bytes, "
     "memory_bytes, max_bytes, free_min"},
    {"dpdk:\n  ports:\n    - {name: a, addresses: [1.2.3.4]}\n    - {name: b, adresses: [1.2.3.4]}",
     "4:17: dpdk.ports[1].adresses: unknown key, expected one of: name, addresses, gateway, "
     "gateway6, routes, router_advertisements, duplicate_address_detection, vlan, exception, "
     "mtu"},
    {"spool: {path: /a}\nhostname: x\nspool: {path: /b}", "3:1: spool: given twice, expected once"},
    {"routes:\n  - {via: smtp, to: [\"127.0.0.1:25\"]}",
     "2:5: routes[0].match: missing, expected a domain such as example.org, .example.org for what "
     "is below it, an address, a pattern such as /^x@/i, or \"*\""},
    {"routes:\n  - {match: a.test}", "2:5: routes[0].to: missing, expected a list"},
    {"listen:\n  - {address: [\"127.0.0.1:25\"]}",
     "2:5: listen[0].name: missing, expected a name, for the log"},
    /* values */
    {"hostname:", "1:1: hostname: empty, expected a domain name such as mx.example.org"},
    {"hostname: a b",
     "1:1: hostname: 'a b' will not do, expected a domain name such as mx.example.org"},
    {"hostname: -a.test",
     "1:1: hostname: '-a.test' will not do, expected a domain name such as mx.example.org"},
    {"hostname: \"a\\r\\nEvil: 1\"", "1:1: hostname: 'a\\x0d\\x0aEvil: 1' will not do, expected a "
                                     "domain name such as mx.example.org"},
    {"shards: 0", "1:1: shards: '0' will not do, expected a whole number, from 1 to 64"},
    {"shards: -1", "1:1: shards: '-1' will not do, expected a whole number, from 1 to 64"},
    {"shards: 99999999999999999999",
     "1:1: shards: '99999999999999999999' will not do, expected a whole number, from 1 to 64"},
    {"transport: udp", "1:1: transport: 'udp' will not do, expected kernel or dpdk"},
    {"log: {level: loud}",
     "1:7: log.level: 'loud' will not do, expected error, warning, info or debug"},
    {"limits:\n  message_bytes: 64MB", "2:3: limits.message_bytes: '64MB' will not do, expected a "
                                       "size such as 10K or 64M, from 1K to 1T"},
    {"limits: {message_bytes: 18446744073709551616}",
     "1:10: limits.message_bytes: '18446744073709551616' will not do, expected a size such as 10K "
     "or 64M, from 1K to 1T"},
    {"timeouts: {command: 5}", "1:12: timeouts.command: '5' will not do, expected a duration such "
                               "as 300ms, 10s or 5m, from 10ms to 1d"},
    {"timeouts: {command: 0}", "1:12: timeouts.command: '0' will not do, expected a duration such "
                               "as 300ms, 10s or 5m, from 10ms to 1d"},
    {"control: {unix_mode: 888}",
     "1:11: control.unix_mode: '888' will not do, expected permissions in octal, such as 660"},
    {"spool: {path: var}",
     "1:9: spool.path: 'var' will not do, expected an absolute path such as /var/spool/tubepost"},
    {"listen: [{name: a, address: [\"127.0.0.1\"]}]",
     "1:30: listen[0].address[0]: '127.0.0.1' will not do, expected ADDRESS:PORT, [IPV6]:PORT or "
     "unix:/PATH"},
    {"listen: [{name: a, address: [\"127.0.0.1:0\"]}]",
     "1:30: listen[0].address[0]: '127.0.0.1:0' will not do, expected ADDRESS:PORT, [IPV6]:PORT or "
     "unix:/PATH"},
    {"listen: [{name: a, address: []}]", "1:20: listen[0].address: 0 entries, expected 1 to 64"},
    {"relay_networks:\n  - 10.0.0.0/8\n  - 10.0.0.0/33",
     "3:5: relay_networks[1]: '10.0.0.0/33' will not do, expected a network such as 192.0.2.0/24 "
     "or 2001:db8::/32"},
    {"routes: [{match: a b, to: [\"127.0.0.1:25\"]}]",
     "1:11: routes[0].match: 'a b' will not do, expected a domain such as example.org, "
     ".example.org for what is below it, an address, a pattern such as /^x@/i, or \"*\""},
    {"routes: [{match: a@, to: [\"127.0.0.1:25\"]}]",
     "1:11: routes[0].match: 'a@' will not do, expected a domain such as example.org, "
     ".example.org for what is below it, an address, a pattern such as /^x@/i, or \"*\""},
    {"routes: [{match: /a/x, to: [\"127.0.0.1:25\"]}]",
     "1:11: routes[0].match: '/a/x' will not do, expected a domain such as example.org, "
     ".example.org for what is below it, an address, a pattern such as /^x@/i, or \"*\""},
    {"routes:\n  - match: /(a/\n    via: discard",
     "2:5: routes[0].match: no regular expression: missing closing parenthesis, after 2 "
     "characters"},
    {"routes: [{match: a, via: error, reply: \"250 2.0.0 Fine\"}]",
     "1:33: routes[0].reply: '250 2.0.0 Fine' will not do, expected a code, an enhanced code and "
     "a text, such as \"550 5.1.1 No such user\""},
    {"routes: [{match: a, via: error, reply: \"550 4.0.0 Twice\"}]",
     "1:33: routes[0].reply: '550 4.0.0 Twice' will not do, expected a code, an enhanced code and "
     "a text, such as \"550 5.1.1 No such user\""},
    {"routes: [{match: a, via: mx, message_rate: 10}]",
     "1:30: routes[0].message_rate: '10' will not do, expected a number in a time, such as 10/s, "
     "600/h or 5/10s"},
    {"routes: [{match: a, via: mx, connection_rate: 0/1s}]",
     "1:30: routes[0].connection_rate: '0/1s' will not do, expected a number in a time, such as "
     "10/s, 600/h or 5/10s"},
    {"routes: [{match: a, via: error}]",
     "1:10: routes[0].reply: missing, expected a code, an enhanced code and a text, such as "
     "\"550 5.1.1 No such user\""},
    {"routes: [{match: a, via: mx, to: [\"127.0.0.1:25\"]}]",
     "1:30: routes[0].to: not for this way, expected only with via: smtp or lmtp"},
    {"routes: [{match: a, port: 26, to: [\"127.0.0.1:25\"]}]",
     "1:21: routes[0].port: not for this way, expected only with via: mx"},
    {"routes: [{match: a, via: discard, hostname: a.test}]",
     "1:35: routes[0].hostname: not for this way, expected only with via: smtp, lmtp or mx"},
    {"routes: [{match: \"*\", via: mx, accept_from: anyone}]",
     "1:32: routes[0].accept_from: of \"*\" would relay for the whole world, expected clients"},
    {"routes: [{match: \"*\", via: mx, source: 192.0.2.1, family: ipv6}]",
     "1:32: routes[0].source: of another family than `family`, expected the same"},
    {"routes: [{via: discard}]",
     "1:10: routes[0].match: missing, expected a domain such as example.org, .example.org for what "
     "is below it, an address, a pattern such as /^x@/i, or \"*\""},
    {"routes: [{name: Smtp, via: discard}]",
     "1:11: routes[0].name: 'Smtp' will not do, expected letters, digits, '-', '_' and '.', and "
     "none of smtp, relay, lmtp, mx, error, retry, discard, inet, unix"},
    {"routes:\n  - {name: slow, via: discard}\n  - {name: b, via: discard}\n  - {name: Slow, via: "
     "mx}",
     "4:6: routes[2].name: the same as routes[0].name, expected a name of its own"},
    {"transport_maps: [\"hash:/etc/x\"]",
     "1:18: transport_maps[0]: 'hash:/etc/x' will not do, expected a map such as "
     "texthash:/etc/tubepost/virtual (also aliases, pcre, cidr, lmdb, sqlite, pgsql, ldap with a "
     "file, or inline:{a=b})"},
    {"routes:\n  - {match: bücher.test, via: discard}\n  - {match: xn--bcher-kva.test, via: "
     "discard}",
     "3:6: routes[1].match: never reached, routes[0] takes all of it; expected each once"},
    {"routes: [{match: a, to: [\"127.0.0.1:25\"], source: \"127.0.0.0/8\"}]",
     "1:43: routes[0].source: '127.0.0.0/8' will not do, expected an address such as 192.0.2.1 or "
     "2001:db8::1"},
    {"smtp: {bare_newline_networks: [10.0.0.0/33]}",
     "1:32: smtp.bare_newline_networks[0]: '10.0.0.0/33' will not do, expected a network such as "
     "192.0.2.0/24 or 2001:db8::/32"},
    {"smtp: {bare_newline: allow}",
     "1:8: smtp.bare_newline: 'allow' will not do, expected refuse or normalize"},
    /* several at once */
    {"shards: x\nlimits:\n  hops: 0\nlog: {level: }",
     "1:1: shards: 'x' will not do, expected a whole number, from 1 to 64\n"
     "3:3: limits.hops: '0' will not do, expected a whole number, from 1 to 1000\n"
     "4:7: log.level: empty, expected error, warning, info or debug"},
    /* what no single value shows */
    {"transport: dpdk\nlisten: []",
     "1:1: dpdk.ports: missing, expected at least one port where transport is dpdk"},
    {"dpdk:\n  ports:\n    - " PORT "\n    - {name: p0, addresses: [192.0.2.9/24]}",
     "4:8: dpdk.ports[1].name: the same as dpdk.ports[0].name, expected each port once"},
    {"dpdk:\n  ports:\n    - " PORT "\n    - {name: p1, addresses: [10.0.0.1/8, 192.0.2.1/30]}",
     "4:42: dpdk.ports[1].addresses[1]: the same as dpdk.ports[0].addresses[0], expected each "
     "address once"},
    {"dpdk: {ports: [{name: a, addresses: [10.0.0.1/8]}, {name: b, addresses: [10.0.0.2/8]},\n"
     " {name: c, addresses: [10.0.0.3/8]}, {name: d, addresses: [10.0.0.4/8]},\n"
     " {name: e, addresses: [10.0.0.5/8]}, {name: f, addresses: [10.0.0.6/8]},\n"
     " {name: g, addresses: [10.0.0.7/8]}, {name: h, addresses: [10.0.0.8/8]},\n"
     " {name: i, addresses: [10.0.0.9/8]}]}",
     "1:8: dpdk.ports: 9 of them, expected at most 8"},
    {"tls: {certificates: [{certificate: /a.pem}]}",
     "1:22: tls.certificates[0].key: missing, expected an absolute path such as "
     "/var/spool/tubepost"},
    {"tls: {certificates: [{certificate: a.pem, key: /a.key}], version_min: 1.1}",
     "1:23: tls.certificates[0].certificate: 'a.pem' will not do, expected an absolute path such "
     "as "
     "/var/spool/tubepost\n"
     "1:58: tls.version_min: '1.1' will not do, expected 1.2 or 1.3"},
    {"listen: [{name: a, address: [\"127.0.0.1:25\"], tls: required}]",
     "1:47: listen[0].tls: without a certificate, expected one in tls.certificates"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], gateway: 192.0.3.1}]}",
     "1:54: dpdk.ports[0].gateway: in none of the port's networks, expected a neighbour"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], gateway: 192.0.2.1}]}",
     "1:54: dpdk.ports[0].gateway: in none of the port's networks, expected a neighbour"},
    {"dpdk: {ports: [{name: p0, addresses: [\"fd00::1/64\"], gateway: \"fd00::2\"}]}",
     "1:54: dpdk.ports[0].gateway: of another family, expected an address of IPv4"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], gateway6: \"fe80::2\"}]}",
     "1:54: dpdk.ports[0].gateway6: in none of the port's networks, expected a neighbour"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24],\n"
     "routes: [{to: 198.51.100.0/24, via: 198.51.100.1}]}]}",
     "2:32: dpdk.ports[0].routes[0].via: in none of the port's networks, expected a neighbour"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24],\n"
     "routes: [{to: \"2001:db8::/32\", via: 192.0.2.2}]}]}",
     "2:32: dpdk.ports[0].routes[0].via: of another family, expected an address of IPv6"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24],\n"
     "routes: [{to: 10.0.0.0/8, via: 192.0.2.2}, {to: 10.1.0.0/8, via: 192.0.2.3}]}]}",
     "2:45: dpdk.ports[0].routes[1].to: the same as routes[0].to, expected each once"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], routes: [{to: 10.0.0.0/8}]}]}",
     "1:63: dpdk.ports[0].routes[0].via: missing, expected a value"},
    {"dpdk: {ports: [{name: p0, addresses: [\"ff02::1/64\"]}]}",
     "1:39: dpdk.ports[0].addresses[0]: no host has this address, expected one for the port"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24, 192.0.2.1/25]}]}",
     "1:53: dpdk.ports[0].addresses[1]: the same as addresses[0], expected each once"},
    {"dpdk: {ports: [{name: p0, addresses: [\"fd00::1/64\"], mtu: 1000}]}",
     "1:54: dpdk.ports[0].mtu: too little for IPv6, expected at least 1280"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], exception: ../tap}]}",
     "1:54: dpdk.ports[0].exception: '../tap' will not do, expected a name for an interface of at "
     "most "
     "15 letters and digits, such as tp0"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], vlan: 4095}]}",
     "1:54: dpdk.ports[0].vlan: '4095' will not do, expected a whole number, from 0 to 4094"},
    {"dpdk: {ecn: sometimes}",
     "1:8: dpdk.ecn: 'sometimes' will not do, expected off, accept or ask"},
    {"dpdk: {ports: [{name: p0, addresses: [192.0.2.1/24], router_advertisements: maybe}]}",
     "1:54: dpdk.ports[0].router_advertisements: 'maybe' will not do, expected auto, on or off"},
    {"transport: dpdk\ndpdk: {ports: [" PORT "]}\nlisten: [{name: a, address: [\"192.0.2.2:25\"]}]",
     "3:30: listen[0].address[0]: no port has this address, expected one of "
     "dpdk.ports[].addresses"},
    {"listen:\n  - {name: a, address: [\"127.0.0.1:25\"]}\n  - {name: a, address: "
     "[\"127.0.0.1:26\"]}",
     "3:6: listen[1].name: the same as listen[0].name, expected a name of its own"},
    {"listen:\n  - {name: a, address: [\"127.0.0.1:25\", \"[::ffff:127.0.0.1]:25\"]}",
     "2:41: listen[0].address[1]: the same as listen[0].address[0], expected each address once"},
    {"relay_networks: [\"0.0.0.0/0\"]", "1:18: relay_networks[0]: everybody, which makes an open "
                                        "relay; expected a network of your own"},
    {"hostname: a\npriorities: [{sender: \"a b\", priority: high}]\n",
     "2:15: priorities[0].sender: 'a b' will not do, expected a domain such as example.org, "
     ".example.org for what is below it, an address, a pattern such as /^x@/i, \"<>\" or \"*\""},
    {"hostname: a\npriorities:\n  - {sender: \"*\"}\n  - {sender: \"*\", priority: low}\n",
     "4:6: priorities[1].sender: never reached, priorities[0] takes all of it; expected each once"},
    {"hostname: a\npriorities:\n  - {priority: low}\n",
     "3:5: priorities[0]: of nobody, expected sender or client"},
    {"hostname: a\npriorities:\n  - {sender: b.test, client: [192.0.2.0/24]}\n",
     "3:5: priorities[0]: sender and client, expected one of them in a row"},
    {"hostname: a\npriorities:\n  - {client: [192.0.2.0/24, 192.0.2.1]}\n"
     "  - {client: [\"2001:db8::/32\",\n             192.0.2.7/24], priority: high}\n",
     "5:14: priorities[1].client[1]: the same as priorities[0].client[0], expected each network "
     "once"},
    {"listen: [{name: a, address: [\"127.0.0.1:25\"], auth: required}]",
     "1:47: listen[0].auth: nobody could log in, expected auth.backends to name users"},
    {"listen: [{name: a, address: [\"127.0.0.1:25\"], auth: offered, protocol: lmtp}]\n"
     "auth: {backends: [\"pam:x\"]}",
     "1:47: listen[0].auth: not with lmtp, expected off"},
    {"auth: {backends: [\"pam:x\"], master_separator: \"*\"}",
     "1:29: auth.master_separator: alone, expected auth.masters with it"},
    {"auth: {mechanisms: [XOAUTH2]}",
     "1:8: auth.mechanisms: nobody could judge a token, expected auth.token_keys"},
    {"auth: {token_keys: /k, token_issuer: \"https://id.test\"}",
     "1:8: auth.token_keys: for whom? expected auth.token_audiences, or auth.token_clients"},
    {"auth: {token_keys: /k, token_clients: [app]}",
     "1:8: auth.token_keys: alone, expected auth.token_issuer with it"},
    {"auth: {token_introspection: \"https://id.test/ask\", token_issuer: i}",
     "1:8: auth.token_introspection: for whom? expected auth.token_scope, auth.token_audiences or "
     "auth.token_clients"},
    {"auth: {token_keys: /k, token_issuer: i, token_clients: [app], token_user: email}",
     "1:63: auth.token_user: of which domains? expected auth.token_domains with it"},
    {"auth: {token_keys: /k, token_issuer: i, token_clients: [app], token_domains: [\"a b\"]}",
     "1:79: auth.token_domains[0]: 'a b' will not do, expected a domain name such as "
     "mx.example.org"},
    {"auth: {token_scope: \"a\\\"b\"}",
     "1:8: auth.token_scope: 'a\"b' will not do, expected the name of a scope"},
    {"listen: [{name: a, address: [\"127.0.0.1:25\"], priority: higher}]",
     "1:47: listen[0].priority: 'higher' will not do, expected low, normal, high or urgent"},
    {"routes:\n  - {match: \"*\", to: [\"127.0.0.1:25\"]}\n  - {match: \"*\", via: mx}",
     "3:6: routes[1].match: never reached, routes[0] takes all of it; expected each once"},
    {"routes:\n  - {match: a.test, to: [\"127.0.0.1:25\"]}\n  - {match: A.TEST, to: "
     "[\"127.0.0.1:25\"]}",
     "3:6: routes[1].match: never reached, routes[0] takes all of it; expected each once"},
    {"routes: [{match: a, to: [\"127.0.0.1:25\"], source: \"::1\"}]",
     "1:43: routes[0].source: of another family than to[0], expected the same"},
    {"spool: {segment_bytes: 3145729}",
     "1:9: spool.segment_bytes: not a whole number of frames, expected a multiple of 256K"},
    {"spool: {max_bytes: 64M}",
     "1:9: spool.max_bytes: too little, expected room for 5 segments of each shard"},
    {"shards: 2\nmemory: {queue_max: 1M}",
     "2:10: memory.queue_max: too little, expected 0 or at least 1M for each shard"},
    {"shards: 2\nmemory: {eal_bytes: 64M}",
     "2:10: memory.eal_bytes: too little, expected 0 or at least 272M for 2 shards"},
    {"retry: {first: 2h, limit: 1h}",
     "1:20: retry.limit: shorter than retry.first, expected at least that"},
    {"retry: {first: 1h, expire: 1m}",
     "1:20: retry.expire: shorter than retry.first, expected at least that"},
};

/* The report's lines, each without the file's name in front. */
static void join_report(const struct conf_report *report, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < report->count; i++) {
        const char *line = report->problems[i];
        size_t prefix = strlen(file_name);
        assert_memory_equal(line, file_name, prefix);
        line += prefix + 1;
        line += *line == ' '; /* "FILE: " or "FILE:LINE:COLUMN: " */
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? "\n" : "", line);
        assert_true(used < size);
    }
}

static void every_mistake_is_told_with_its_place_and_what_was_expected(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct relay_conf *conf = NULL;
        struct conf_report report;
        char problems[4096];
        write_file(bads[i].text, strlen(bads[i].text));
        int status = relay_conf_load(&conf, file_name, "relay.test", &report);
        join_report(&report, problems, sizeof problems);
        if (status != -EINVAL || conf != NULL || strcmp(problems, bads[i].problems) != 0) {
            print_error("%s\n  said:     %s\n  expected: %s\n", bads[i].text, problems,
                        bads[i].problems);
            relay_conf_free(conf);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void problems_beyond_the_report_are_counted(void **state)
{
    (void)state;
    char text[2048] = "relay_networks: [";
    for (int i = 0; i < 100; i++) {
        strcat(text, "x, ");
    }
    strcat(text, "]");
    write_file(text, strlen(text));
    struct relay_conf *conf = NULL;
    struct conf_report report;
    assert_int_equal(relay_conf_load(&conf, file_name, "relay.test", &report), -EINVAL);
    assert_int_equal(report.count, 100);
}

static void a_file_that_is_not_there_is_told(void **state)
{
    (void)state;
    struct relay_conf *conf = NULL;
    struct conf_report report;
    assert_int_equal(relay_conf_load(&conf, "/nonexistent/conf.yaml", "relay.test", &report),
                     -ENOENT);
    assert_int_equal(report.count, 1);
    assert_string_equal(report.problems[0],
                        "/nonexistent/conf.yaml: cannot be read: No such file or directory");
}

static void random_bytes_are_refused_without_harm(void **state)
{
    (void)state;
    uint32_t seed = 20240501;
    for (int round = 0; round < 500; round++) {
        char text[256];
        static const char alphabet[] = "\n\n  :-[]{},\"'*&#ab01\t|>!%@`\\\xff";
        size_t size = 0;
        for (; size < 20 + (size_t)round % 200; size++) {
            seed = seed * 1664525u + 1013904223u;
            text[size] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
        }
        write_file(text, size);
        struct relay_conf *conf = NULL;
        struct conf_report report;
        int status = relay_conf_load(&conf, file_name, "relay.test", &report);
        assert_true((status == 0) == (conf != NULL) && (status == 0) == (report.count == 0));
        relay_conf_free(conf);
    }
}

/* ---- good files ---- */

static void no_file_is_a_whole_configuration(void **state)
{
    (void)state;
    struct relay_conf *conf = NULL;
    struct conf_report report;
    assert_int_equal(relay_conf_load(&conf, NULL, "relay.test", &report), 0);
    assert_string_equal(conf->hostname, "relay.test");
    assert_int_equal(conf->shards, 1);
    assert_int_equal(conf->transport, CONF_TRANSPORT_KERNEL);
    assert_int_equal(conf->listen_count, 1);
    assert_int_equal(conf->listen[0].addresses_count, 2);
    assert_true(conf->listen[0].by_default);
    char text[ENDPOINT_TEXT_MAX];
    text[endpoint_format(&conf->listen[0].addresses[1], text)] = '\0';
    assert_string_equal(text, "[::1]:2525");
    assert_int_equal(conf->routes_count, 1);
    assert_int_equal(conf->routes[0].via, CONF_VIA_LMTP);
    assert_int_equal(conf->routes[0].to[0].family, ENDPOINT_UNIX);
    assert_true(conf->routes[0].pipelining);
    assert_int_equal(conf->relay_networks_count, 2);
    assert_int_equal(conf->limits.message_bytes, 64u << 20);
    assert_true(conf->memory.eal_bytes > conf->spool.memory_bytes);
    assert_int_equal(conf->timeouts.command, 300 * SECOND);
    assert_int_equal(conf->retry.jitter_pct, 20);
    assert_int_equal(conf->smtp.bare_newline, CONF_BARE_NEWLINE_REFUSE);
    assert_int_equal(conf->control.unix_mode, 0660);
    assert_int_equal(conf->idle.spin, 20000);
    assert_null(conf->dpdk.eal[0]);
    relay_conf_free(conf);
}

static void files_that_say_nothing_are_good(void **state)
{
    (void)state;
    static const char *const empty[] = {
        "", "\n", "# nothing\n", "---\n", "{}", "spool:\n", "spool: {}\nroutes:\nlisten:\n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        struct relay_conf *conf = load_good(empty[i]);
        assert_int_equal(conf->routes_count, 1);
        assert_int_equal(conf->listen_count, 1);
        relay_conf_free(conf);
    }
}

static void an_empty_list_means_none_not_the_default(void **state)
{
    (void)state;
    struct relay_conf *conf = load_good("routes: []\nrelay_networks: []\nlisten: []");
    assert_int_equal(conf->routes_count, 0);
    assert_int_equal(conf->relay_networks_count, 0);
    assert_int_equal(conf->listen_count, 0);
    relay_conf_free(conf);
}

static void a_bad_name_of_the_machine_is_not_used(void **state)
{
    (void)state;
    struct relay_conf *conf = NULL;
    struct conf_report report;
    assert_int_equal(relay_conf_load(&conf, NULL, "bad name", &report), 0);
    assert_string_equal(conf->hostname, "localhost");
    relay_conf_free(conf);
}

static void a_full_file_is_read_into_the_struct(void **state)
{
    (void)state;
    struct relay_conf *conf = load_good(
        "hostname: mx.example.org\n"
        "shards: 2\n"
        "transport: dpdk\n"
        "dpdk:\n"
        "  congestion: newreno\n"
        "  ecn: ask\n"
        "  eal: [\"--vdev=net_af_xdp0,iface=ve0\", \"-m\", \"64\"]\n"
        "  ports:\n"
        "    - {name: net_af_xdp0, addresses: [192.0.2.1/24, \"fd00::1/64\"], "
        "gateway: 192.0.2.254, gateway6: \"fe80::1\", mtu: 9000, vlan: 7, exception: tp0,\n"
        "       router_advertisements: on, duplicate_address_detection: off,\n"
        "       routes: [{to: \"2001:db8::/32\", via: \"fd00::9\"}]}\n"
        "listen:\n"
        "  - {name: mx, address: [\"192.0.2.1:25\", \"unix:/run/x\"], unix_mode: 0600}\n"
        "  - {name: in, address: [\"0.0.0.0:24\"], protocol: lmtp}\n"
        "spool: {path: /s, durability: none, segment_bytes: 2M, max_bytes: 32M}\n"
        "relay_networks: [10.0.0.0/8]\n"
        "routes:\n"
        "  - match: example.org\n"
        "    via: lmtp\n"
        "    to: [\"unix:/run/dovecot/lmtp\"]\n"
        "    connections: 7\n"
        "  - {match: \"*\", to: [\"192.0.2.9:25\", \"192.0.2.8:25\"], source: 192.0.2.1, "
        "pipelining: off}\n"
        "limits: {errors: 3, line_bytes: 998}\n"
        "timeouts: {data_end: 90s, idle: 300ms}\n"
        "io: {uring: off}\n");
    assert_string_equal(conf->hostname, "mx.example.org");
    assert_int_equal(conf->shards, 2);
    assert_int_equal(conf->transport, CONF_TRANSPORT_DPDK);
    assert_string_equal(conf->dpdk.eal[2], "64");
    assert_null(conf->dpdk.eal[3]);
    assert_int_equal(conf->dpdk.congestion, CONF_CONGESTION_NEWRENO);
    assert_int_equal(conf->dpdk.ecn, CONF_ECN_ASK);
    assert_int_equal(conf->dpdk.ports[0].mtu, 9000);
    assert_int_equal(conf->dpdk.ports[0].addresses[0].length, 24);
    assert_int_equal(conf->dpdk.ports[0].addresses[0].address.address[3], 1);
    assert_int_equal(conf->dpdk.ports[0].gateway.address[3], 254);
    assert_int_equal(conf->dpdk.ports[0].gateway6.address[15], 1);
    assert_int_equal(conf->dpdk.ports[0].vlan, 7);
    assert_string_equal(conf->dpdk.ports[0].exception, "tp0");
    assert_int_equal(conf->dpdk.ports[0].router_advertisements, CONF_ROUTERS_ON);
    assert_false(conf->dpdk.ports[0].duplicate_address_detection);
    assert_int_equal(conf->dpdk.ports[0].routes_count, 1);
    assert_int_equal(conf->dpdk.ports[0].routes[0].to.length, 32);
    assert_int_equal(conf->dpdk.ports[0].routes[0].via.address[15], 9);
    assert_int_equal(conf->listen_count, 2);
    assert_false(conf->listen[0].by_default);
    assert_int_equal(conf->listen[0].unix_mode, 0600);
    assert_string_equal(conf->listen[0].addresses[1].path, "/run/x");
    assert_int_equal(conf->listen[1].protocol, CONF_PROTOCOL_LMTP);
    assert_int_equal(conf->spool.durability, CONF_DURABILITY_NONE);
    assert_int_equal(conf->spool.segment_bytes, 2 << 20);
    assert_int_equal(conf->routes[0].connections, 7);
    assert_int_equal(conf->routes[1].to_count, 2);
    assert_int_equal(conf->routes[1].source.family, ENDPOINT_IPV4);
    assert_false(conf->routes[1].pipelining);
    assert_int_equal(conf->limits.line_bytes, 998);
    assert_int_equal(conf->timeouts.data_end, 90 * SECOND);
    assert_int_equal(conf->timeouts.idle, SECOND * 3 / 10);
    assert_int_equal(conf->io.uring, CONF_URING_OFF);
    relay_conf_free(conf);
}

static void ecn_is_accepted_unless_it_is_turned_off(void **state)
{
    (void)state;
    struct relay_conf *conf = load_good("dpdk: {ecn: off}");
    assert_int_equal(conf->dpdk.ecn, CONF_ECN_OFF);
    relay_conf_free(conf);
    conf = load_good("hostname: a.example");
    assert_int_equal(conf->dpdk.ecn, CONF_ECN_ACCEPT);
    relay_conf_free(conf);
}

static void only_clients_of_the_relay_networks_may_relay(void **state)
{
    (void)state;
    struct relay_conf *conf = load_good("relay_networks: [10.0.0.0/8, \"2001:db8::/32\"]");
    static const struct {
        const char *client;
        bool may;
    } cases[] = {
        {"10.1.2.3:999", true},   {"[::ffff:10.0.0.1]:999", true}, {"11.0.0.1:999", false},
        {"127.0.0.1:999", false}, {"[2001:db8::1]:999", true},     {"[2001:db9::1]:999", false},
        {"unix:/run/x", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct endpoint client;
        assert_int_equal(endpoint_parse(&client, slice_text(cases[i].client)), 0);
        assert_int_equal(relay_conf_may_relay(conf, &client), cases[i].may);
    }
    relay_conf_free(conf);
}

static void only_clients_of_listed_networks_may_end_lines_as_they_like(void **state)
{
    (void)state;
    static const struct {
        const char *client;
        bool may;
    } cases[] = {{"10.1.2.3:999", true},
                 {"[::ffff:10.0.0.1]:999", true},
                 {"127.0.0.1:999", false},
                 {"unix:/run/x", false}};
    struct relay_conf *conf = load_good("smtp: {bare_newline_networks: [10.0.0.0/8]}");
    struct relay_conf *usual = load_good("hostname: a.example");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct endpoint client;
        assert_int_equal(endpoint_parse(&client, slice_text(cases[i].client)), 0);
        assert_int_equal(relay_conf_takes_bare_lines(conf, &client), cases[i].may);
        assert_false(relay_conf_takes_bare_lines(usual, &client));
    }
    relay_conf_free(conf);
    relay_conf_free(usual);
}

/* ---- the document ---- */

struct document {
    char *text;
    unsigned missing;
};

static void look_for_key(void *owner, const char *key, const char *value)
{
    struct document *document = (struct document *)owner;
    char row[512];
    if (value != NULL) {
        snprintf(row, sizeof row, "\n| `%s` | `%s` |", key, value);
    } else {
        snprintf(row, sizeof row, "\n| `%s` |", key);
    }
    if (strstr(document->text, row) == NULL) {
        print_error("docs/configuration.md lacks a row that begins with:%s\n", row);
        document->missing++;
    }
}

static void every_key_has_a_row_with_its_default_in_the_document(void **state)
{
    (void)state;
    size_t room = 1 << 20;
    struct document document = {.text = calloc(1, room)};
    FILE *file = fopen("docs/configuration.md", "r");
    assert_non_null(file);
    assert_non_null(document.text);
    assert_true(fread(document.text, 1, room - 1, file) > 0);
    fclose(file);
    char *mailboxd = strstr(document.text, "\n## tubepost-mailboxd\n");
    assert_non_null(mailboxd);
    *mailboxd = '\0';
    relay_conf_each_key(look_for_key, &document);
    struct document rest = {.text = mailboxd + 1};
    mailboxd_conf_each_key(look_for_key, &rest);
    free(document.text);
    assert_int_equal(document.missing + rest.missing, 0);
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
        cmocka_unit_test(every_mistake_is_told_with_its_place_and_what_was_expected),
        cmocka_unit_test(problems_beyond_the_report_are_counted),
        cmocka_unit_test(a_file_that_is_not_there_is_told),
        cmocka_unit_test(random_bytes_are_refused_without_harm),
        cmocka_unit_test(no_file_is_a_whole_configuration),
        cmocka_unit_test(files_that_say_nothing_are_good),
        cmocka_unit_test(an_empty_list_means_none_not_the_default),
        cmocka_unit_test(a_bad_name_of_the_machine_is_not_used),
        cmocka_unit_test(a_full_file_is_read_into_the_struct),
        cmocka_unit_test(ecn_is_accepted_unless_it_is_turned_off),
        cmocka_unit_test(only_clients_of_the_relay_networks_may_relay),
        cmocka_unit_test(only_clients_of_listed_networks_may_end_lines_as_they_like),
        cmocka_unit_test(every_key_has_a_row_with_its_default_in_the_document),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
