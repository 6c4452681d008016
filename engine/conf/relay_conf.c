#include "engine/conf/auth_conf.h"
#include "engine/conf/bounce_conf.h"
#include "engine/conf/priority_conf.h"
#include "engine/conf/conf.h"
#include "engine/conf/dns_conf.h"
#include "engine/conf/names.h"
#include "engine/conf/reader.h"
#include "engine/conf/rewrite_conf.h"
#include "engine/conf/route_conf.h"
#include "engine/conf/match_index.h"
#include "engine/conf/tls_conf.h"
#include "engine/conf/value.h"
#include "engine/conf/words.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define DAY (86400 * SECOND)
#define KB 1024ull
#define MB (1024 * KB)
#define GB (1024 * MB)
#define TB (1024 * GB)
#define EAL_BYTES (32 * MB)   /* rings, pools' tables, and what fragmentation costs */
#define FETCH_BYTES (16 * MB) /* of a shard: bodies that are read back */
#define MBUF_BYTES 2560       /* one with its header, and its place in a ring */
#define ROUTES_MAX 128        /* of one port */
#define IPV6_MTU_MIN 1280     /* RFC 8200 §5 */
#define SEGMENTS_MIN 5 /* LOG_SEGMENTS_MIN: two are kept back, to copy forward and for notes */
#define FRAME_BYTES (256 * KB) /* LOG_FRAME_BYTES */

typedef struct relay_conf R; /* in the tables only */

static const struct reader_word transports[] = {
    {"kernel", CONF_TRANSPORT_KERNEL}, {"dpdk", CONF_TRANSPORT_DPDK}, {NULL, 0}};
static const struct reader_word congestions[] = {
    {"cubic", CONF_CONGESTION_CUBIC}, {"newreno", CONF_CONGESTION_NEWRENO}, {NULL, 0}};
static const struct reader_word ecns[] = {
    {"off", CONF_ECN_OFF}, {"accept", CONF_ECN_ACCEPT}, {"ask", CONF_ECN_ASK}, {NULL, 0}};
static const struct reader_word newlines[] = {
    {"refuse", CONF_BARE_NEWLINE_REFUSE}, {"normalize", CONF_BARE_NEWLINE_NORMALIZE}, {NULL, 0}};

static const struct reader_word routers[] = {
    {"auto", CONF_ROUTERS_AUTO}, {"on", CONF_ROUTERS_ON}, {"off", CONF_ROUTERS_OFF}, {NULL, 0}};
static const struct reader_key gateway_keys[] = {
    {.name = "to", .kind = READER_NETWORK, READER_AT(struct conf_gateway, to), .required = true},
    {.name = "via", .kind = READER_ADDRESS, READER_AT(struct conf_gateway, via), .required = true},
    KEY_END,
};
static const struct reader_key port_keys[] = {
    KEY_TEXT("name", struct conf_port, name, name_is_printable,
             "the name that the EAL gives the port, such as net_af_xdp0", .required = true),
    KEY_LIST("addresses", struct conf_port, addresses, READER_NETWORK, .required = true, .min = 1,
             .max = 1024),
    KEY_ADDRESS("gateway", struct conf_port, gateway),
    KEY_ADDRESS("gateway6", struct conf_port, gateway6),
    KEY_ROWS("routes", struct conf_port, routes, gateway_keys, NULL),
    KEY_WORD("router_advertisements", struct conf_port, router_advertisements, "auto", routers),
    KEY_WORD("duplicate_address_detection", struct conf_port, duplicate_address_detection, "on",
             word_switches),
    KEY_NUMBER("vlan", struct conf_port, vlan, "0", 0, 4094),
    KEY_TEXT("exception", struct conf_port, exception, name_is_interface, NAME_INTERFACE_EXPECTED),
    KEY_NUMBER("mtu", struct conf_port, mtu, "1500", 576, 9216),
    KEY_END,
};
static const struct reader_key dpdk_keys[] = {
    KEY_LIST("eal", R, dpdk.eal, READER_TEXT, .max = 64, .expected = "an argument of the EAL"),
    KEY_ROWS("ports", R, dpdk.ports, port_keys, NULL),
    KEY_WORD("congestion", R, dpdk.congestion, "cubic", congestions),
    KEY_WORD("ecn", R, dpdk.ecn, "accept", ecns),
    KEY_END,
};
static const struct reader_key memory_keys[] = {
    KEY_SIZE("eal_bytes", R, memory.eal_bytes, "0", 0, 256 * GB),
    KEY_NUMBER("mbuf_count", R, memory.mbuf_count, "16384", 1024, 16777216),
    KEY_SIZE("queue_max", R, memory.queue_max_bytes, "4G", 0, 16 * TB),
    KEY_END,
};
static const struct reader_word greet_actions[] = {{"ignore", CONF_GREET_IGNORE},
                                                   {"enforce", CONF_GREET_ENFORCE},
                                                   {"drop", CONF_GREET_DROP},
                                                   {NULL, 0}};
static const struct reader_word logins[] = {{"off", CONF_LOGIN_OFF},
                                            {"offered", CONF_LOGIN_OFFERED},
                                            {"required", CONF_LOGIN_REQUIRED},
                                            {NULL, 0}};
static const struct reader_key listener_keys[] = {
    KEY_TEXT("name", struct conf_listener, name, name_is_printable, "a name, for the log",
             .required = true),
    KEY_LIST("address", struct conf_listener, addresses, READER_ENDPOINT, .required = true,
             .min = 1, .max = 64),
    KEY_WORD("protocol", struct conf_listener, protocol, "smtp", word_protocols),
    KEY_WORD("tls", struct conf_listener, tls, "auto", tls_conf_listeners),
    KEY_WORD("client_certificate", struct conf_listener, client_certificate, "no",
             tls_conf_clients),
    KEY_DURATION("greet_wait", struct conf_listener, greet_wait, "0", 0, 120 * SECOND),
    KEY_WORD("greet_action", struct conf_listener, greet_action, "ignore", greet_actions),
    KEY_WORD("auth", struct conf_listener, login, "off", logins),
    KEY_WORD("priority", struct conf_listener, priority, "normal", priority_conf_levels),
    KEY_PERMISSIONS("unix_mode", struct conf_listener, unix_mode, "660"),
    KEY_END,
};
static const struct reader_key spool_keys[] = {
    KEY_TEXT("path", R, spool.path, name_is_absolute_path, NAME_PATH_EXPECTED,
             .standard = "/var/spool/tubepost"),
    KEY_WORD("durability", R, spool.durability, "commit", word_durabilities),
    KEY_SIZE("segment_bytes", R, spool.segment_bytes, "64M", 8 * FRAME_BYTES, 256 * MB),
    KEY_SIZE("memory_bytes", R, spool.memory_bytes, "64M", 8 * MB, 256 * GB),
    KEY_SIZE("max_bytes", R, spool.max_bytes, "16G", 10 * MB, 1024 * TB),
    KEY_SIZE("free_min", R, spool.free_min_bytes, "256M", 0, 1024 * TB),
    KEY_END,
};
static const struct reader_key auth_keys[] = {
    AUTH_CONF_KEYS(R),
    KEY_LIST("sender_logins", R, sender_logins, READER_TEXT, .max = 32, .good = map_name_is_good,
             .expected = MAP_NAME_EXPECTED),
    KEY_END,
};
static const struct reader_key limits_keys[] = {
    KEY_SIZE("message_bytes", R, limits.message_bytes, "64M", KB, TB),
    KEY_NUMBER("recipients", R, limits.recipients, "1000", 1, 100000),
    KEY_NUMBER("commands", R, limits.commands, "200", 10, UINT32_MAX),
    KEY_NUMBER("errors", R, limits.errors, "20", 1, UINT32_MAX),
    KEY_NUMBER("messages", R, limits.messages, "0", 0, UINT32_MAX),
    KEY_NUMBER("connections", R, limits.connections, "10000", 1, 10000000),
    KEY_NUMBER("connections_out", R, limits.connections_out, "10000", 1, 10000000),
    KEY_NUMBER("connections_per_client", R, limits.connections_per_client, "50", 1, 10000000),
    KEY_SIZE("line_bytes", R, limits.line_bytes, "64K", 998, GB),
    KEY_SIZE("header_bytes", R, limits.header_bytes, "256K", KB, GB),
    KEY_NUMBER("header_lines", R, limits.header_lines, "5000", 10, UINT32_MAX),
    KEY_NUMBER("hops", R, limits.hops, "50", 1, 1000),
    KEY_SIZE("data_rate_min", R, limits.data_rate_min, "500", 0, GB),
    KEY_END,
};
#define TIMEOUT(field, text) KEY_DURATION(#field, R, timeouts.field, text, 10 * MS, DAY)
static const struct reader_key timeouts_keys[] = {
    TIMEOUT(command, "5m"),
    TIMEOUT(data, "5m"),
    TIMEOUT(commit, "10m"),
    TIMEOUT(connect, "30s"),
    TIMEOUT(greeting, "5m"),
    TIMEOUT(reply, "5m"),
    TIMEOUT(handshake, "1m"),
    TIMEOUT(data_start, "2m"),
    TIMEOUT(data_block, "3m"),
    TIMEOUT(data_end, "10m"),
    TIMEOUT(quit, "5s"),
    TIMEOUT(idle, "10s"),
    KEY_END,
};
static const struct reader_key retry_keys[] = {
    KEY_DURATION("first", R, retry.first, "5m", MS, DAY),
    KEY_DURATION("limit", R, retry.limit, "1h", MS, 30 * DAY),
    KEY_DURATION("expire", R, retry.expire, "5d", MS, 365 * DAY),
    KEY_NUMBER("jitter_pct", R, retry.jitter_pct, "20", 0, 50),
    KEY_END,
};
static const struct reader_key smtp_keys[] = {
    KEY_WORD("bare_newline", R, smtp.bare_newline, "refuse", newlines),
    KEY_LIST("bare_newline_networks", R, smtp.bare_newline_networks, READER_NETWORK, .max = 10000),
    KEY_WORD("pipelining", R, smtp.pipelining, "true", word_switches),
    KEY_WORD("chunking", R, smtp.chunking, "true", word_switches),
    KEY_WORD("smtputf8", R, smtp.smtputf8, "true", word_switches),
    KEY_WORD("dsn", R, smtp.dsn, "true", word_switches),
    KEY_END,
};
static const struct reader_key io_keys[] = {
    KEY_WORD("uring", R, io.uring, "auto", word_urings),
    KEY_END,
};
static const struct reader_key shutdown_keys[] = {
    KEY_DURATION("grace", R, shutdown.grace, "10s", 0, DAY),
    KEY_END,
};
static const struct reader_key control_keys[] = {
    KEY_TEXT("path", R, control.path, name_is_absolute_path,
             "an absolute path such as /run/tubepost/control", .standard = "/run/tubepost/control"),
    KEY_PERMISSIONS("unix_mode", R, control.unix_mode, "660"),
    KEY_END,
};
static const struct reader_key log_keys[] = {
    KEY_WORD("level", R, log.level, "info", word_levels),
    KEY_END,
};
static const struct reader_key idle_keys[] = {
    KEY_DURATION("spin", R, idle.spin, "20us", 0, SECOND),
    KEY_DURATION("spin_polled", R, idle.spin_polled, "10ms", 0, SECOND),
    KEY_DURATION("poll", R, idle.poll, "1ms", 1000, SECOND),
    KEY_END,
};
static const struct reader_key cpu_keys[] = {
    KEY_WORD("pin", R, cpu.pin, "true", word_switches),
    KEY_NUMBER("first_cpu", R, cpu.first_cpu, "0", 0, 1023),
    KEY_END,
};
static const struct reader_key relay_keys[] = {
    KEY_TEXT("hostname", R, hostname, name_is_domain, NAME_DOMAIN_EXPECTED),
    KEY_NUMBER("shards", R, shards, "1", 1, CONF_SHARDS_MAX),
    KEY_WORD("transport", R, transport, "kernel", transports),
    KEY_SECTION("dpdk", dpdk_keys),
    KEY_SECTION("memory", memory_keys),
    KEY_ROWS("listen", R, listen, listener_keys,
             "[{name: local, address: [\"127.0.0.1:2525\", \"[::1]:2525\"]}]"),
    KEY_SECTION("spool", spool_keys),
    KEY_SECTION("auth", auth_keys),
    KEY_LIST("relay_networks", R, relay_networks, READER_NETWORK, .standard = "127.0.0.0/8 ::1/128",
             .max = 10000),
    KEY_LIST("relay_clients", R, relay_clients, READER_TEXT, .max = 10000,
             .expected = "a fingerprint, SHA-256 in hexadecimal"),
    KEY_ROWS("routes", R, routes, route_keys,
             "[{match: \"*\", via: lmtp, to: [\"unix:/run/tubepost/lmtp\"]}]"),
    KEY_LIST("transport_maps", R, transport_maps, READER_TEXT, .max = 32, .good = map_name_is_good,
             .expected = MAP_NAME_EXPECTED),
    KEY_ROWS("priorities", R, priorities, priority_conf_keys, NULL),
    KEY_SECTION("limits", limits_keys),
    KEY_SECTION("timeouts", timeouts_keys),
    KEY_SECTION("retry", retry_keys),
    KEY_SECTION("bounce", bounce_conf_keys),
    KEY_SECTION("smtp", smtp_keys),
    KEY_SECTION("rewrite", rewrite_conf_keys),
    KEY_SECTION("tls", tls_conf_keys),
    KEY_SECTION("dns", dns_conf_keys),
    KEY_SECTION("io", io_keys),
    KEY_SECTION("shutdown", shutdown_keys),
    KEY_SECTION("control", control_keys),
    KEY_SECTION("log", log_keys),
    KEY_SECTION("idle", idle_keys),
    KEY_SECTION("cpu", cpu_keys),
    KEY_END,
};

/* What callers see, and the memory behind it. */
struct owned_conf {
    struct relay_conf conf; /* first: the pointer that callers hold */
    struct reader_memory memory;
};

/* ---- what no single value shows ---- */

static void check_listeners(struct reader *reader, const struct relay_conf *conf)
{
    char key[64];
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listener *one = &conf->listen[i];
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(one->name, conf->listen[j].name) == 0) {
                snprintf(key, sizeof key, "listen[%u].name", i);
                reader_problem(reader, key,
                               "the same as listen[%u].name, expected a name of its own", j);
            }
        }
        for (uint32_t a = 0; a < one->addresses_count; a++) {
            for (uint32_t j = 0; j <= i; j++) {
                uint32_t count = j == i ? a : conf->listen[j].addresses_count;
                for (uint32_t b = 0; b < count; b++) {
                    if (endpoint_equal(&one->addresses[a], &conf->listen[j].addresses[b])) {
                        snprintf(key, sizeof key, "listen[%u].address[%u]", i, a);
                        reader_problem(
                            reader, key,
                            "the same as listen[%u].address[%u], expected each address once", j, b);
                    }
                }
            }
        }
    }
}

static void check_logins(struct reader *reader, const struct relay_conf *conf)
{
    char key[64];
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        snprintf(key, sizeof key, "listen[%u].auth", i);
        if (conf->listen[i].login == CONF_LOGIN_OFF) {
            continue;
        }
        if (conf->listen[i].protocol != CONF_PROTOCOL_SMTP) {
            reader_problem(reader, key, "not with lmtp, expected off");
        } else if (!auth_conf_has_users(&conf->auth)) {
            reader_problem(reader, key,
                           "nobody could log in, expected auth.backends to name users");
        }
    }
    auth_conf_check(reader, &conf->auth);
}

static bool is_multicast(const struct endpoint *address)
{
    return address->family == ENDPOINT_IPV4 ? address->address[0] >= 224
                                            : address->address[0] == 0xff;
}

static bool is_link_local(const struct endpoint *address)
{
    return address->family == ENDPOINT_IPV6 && address->address[0] == 0xfe &&
           (address->address[1] & 0xc0) == 0x80;
}

/* A port with an address of IPv6 has a link-local one besides. */
static bool is_neighbour(const struct conf_port *port, const struct endpoint *address)
{
    for (uint32_t a = 0; a < port->addresses_count; a++) {
        const struct network_prefix *own = &port->addresses[a];
        if (endpoint_same_address(&own->address, address)) {
            return false;
        }
        if (network_prefix_holds(own, address) ||
            (own->address.family == ENDPOINT_IPV6 && is_link_local(address))) {
            return true;
        }
    }
    return false;
}

static void check_gateway(struct reader *reader, const struct conf_port *port, const char *key,
                          const struct endpoint *gateway, uint8_t family)
{
    if (gateway->family != ENDPOINT_NONE && gateway->family != family) {
        reader_problem(reader, key, "of another family, expected an address of %s",
                       family == ENDPOINT_IPV4 ? "IPv4" : "IPv6");
    } else if (gateway->family != ENDPOINT_NONE && !is_neighbour(port, gateway)) {
        reader_problem(reader, key, "in none of the port's networks, expected a neighbour");
    }
}

static bool same_network(const struct network_prefix *a, const struct network_prefix *b)
{
    return a->length == b->length && a->address.family == b->address.family &&
           network_prefix_holds(a, &b->address);
}

static void check_port_addresses(struct reader *reader, const struct conf_port *port,
                                 uint32_t index)
{
    static const uint8_t any[16] = {0};
    char key[64];
    bool ipv6 = false;
    for (uint32_t a = 0; a < port->addresses_count; a++) {
        const struct endpoint *address = &port->addresses[a].address;
        snprintf(key, sizeof key, "dpdk.ports[%u].addresses[%u]", index, a);
        ipv6 = ipv6 || address->family == ENDPOINT_IPV6;
        if (is_multicast(address) || endpoint_is_loopback(address) ||
            memcmp(address->address, any, sizeof any) == 0) {
            reader_problem(reader, key, "no host has this address, expected one for the port");
        }
        for (uint32_t b = 0; b < a; b++) {
            if (endpoint_same_address(address, &port->addresses[b].address)) {
                reader_problem(reader, key, "the same as addresses[%u], expected each once", b);
                break;
            }
        }
    }
    if (ipv6 && port->mtu < IPV6_MTU_MIN) {
        snprintf(key, sizeof key, "dpdk.ports[%u].mtu", index);
        reader_problem(reader, key, "too little for IPv6, expected at least %u", IPV6_MTU_MIN);
    }
}

static void check_port(struct reader *reader, const struct conf_port *port, uint32_t index)
{
    char key[64];
    check_port_addresses(reader, port, index);
    snprintf(key, sizeof key, "dpdk.ports[%u].gateway", index);
    check_gateway(reader, port, key, &port->gateway, ENDPOINT_IPV4);
    snprintf(key, sizeof key, "dpdk.ports[%u].gateway6", index);
    check_gateway(reader, port, key, &port->gateway6, ENDPOINT_IPV6);
    if (port->routes_count > ROUTES_MAX) {
        snprintf(key, sizeof key, "dpdk.ports[%u].routes", index);
        reader_problem(reader, key, "%u routes, expected at most %u", port->routes_count,
                       ROUTES_MAX);
    }
    for (uint32_t r = 0; r < port->routes_count; r++) {
        const struct conf_gateway *route = &port->routes[r];
        snprintf(key, sizeof key, "dpdk.ports[%u].routes[%u].via", index, r);
        check_gateway(reader, port, key, &route->via, route->to.address.family);
        for (uint32_t other = 0; other < r; other++) {
            if (same_network(&route->to, &port->routes[other].to)) {
                snprintf(key, sizeof key, "dpdk.ports[%u].routes[%u].to", index, r);
                reader_problem(reader, key, "the same as routes[%u].to, expected each once", other);
                break;
            }
        }
    }
}

/* An address is reached by the port that has it, so two ports cannot. */
static void check_addresses_differ(struct reader *reader, const struct relay_conf *conf,
                                   uint32_t index, uint32_t other)
{
    const struct conf_port *ports = conf->dpdk.ports;
    char key[64];
    for (uint32_t a = 0; a < ports[index].addresses_count; a++) {
        for (uint32_t b = 0; b < ports[other].addresses_count; b++) {
            if (endpoint_same_address(&ports[index].addresses[a].address,
                                      &ports[other].addresses[b].address)) {
                snprintf(key, sizeof key, "dpdk.ports[%u].addresses[%u]", index, a);
                reader_problem(
                    reader, key,
                    "the same as dpdk.ports[%u].addresses[%u], expected each address once", other,
                    b);
            }
        }
    }
}

static void check_ports(struct reader *reader, const struct relay_conf *conf)
{
    char key[64];
    if (conf->transport == CONF_TRANSPORT_DPDK && conf->dpdk.ports_count == 0) {
        reader_problem(reader, "dpdk.ports",
                       "missing, expected at least one port where transport is dpdk");
    }
    if (conf->dpdk.ports_count > CONF_PORTS_MAX) {
        reader_problem(reader, "dpdk.ports", "%u of them, expected at most %u",
                       conf->dpdk.ports_count, CONF_PORTS_MAX);
    }
    for (uint32_t i = 0; i < conf->dpdk.ports_count; i++) {
        const struct conf_port *port = &conf->dpdk.ports[i];
        for (uint32_t j = 0; j < i; j++) {
            check_addresses_differ(reader, conf, i, j);
            if (strcmp(port->name, conf->dpdk.ports[j].name) == 0) {
                snprintf(key, sizeof key, "dpdk.ports[%u].name", i);
                reader_problem(reader, key,
                               "the same as dpdk.ports[%u].name, expected each port once", j);
            }
        }
        check_port(reader, port, i);
    }
}

/* Loopback and unix addresses stay with the kernel; all others must be a port's. */
static void check_listeners_have_port(struct reader *reader, const struct relay_conf *conf)
{
    static const uint8_t any[16] = {0};
    char key[64];
    if (conf->transport != CONF_TRANSPORT_DPDK) {
        return;
    }
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        for (uint32_t a = 0; a < conf->listen[i].addresses_count; a++) {
            const struct endpoint *at = &conf->listen[i].addresses[a];
            bool found = endpoint_is_loopback(at) || memcmp(at->address, any, sizeof any) == 0;
            for (uint32_t p = 0; p < conf->dpdk.ports_count; p++) {
                for (uint32_t n = 0; n < conf->dpdk.ports[p].addresses_count; n++) {
                    found = found ||
                            endpoint_same_address(at, &conf->dpdk.ports[p].addresses[n].address);
                }
            }
            if (!found) {
                snprintf(key, sizeof key, "listen[%u].address[%u]", i, a);
                reader_problem(reader, key,
                               "no port has this address, expected one of dpdk.ports[].addresses");
            }
        }
    }
}

static void check_numbers(struct reader *reader, const struct relay_conf *conf)
{
    if (conf->spool.segment_bytes % FRAME_BYTES != 0) {
        reader_problem(reader, "spool.segment_bytes",
                       "not a whole number of frames, expected a multiple of 256K");
    }
    if (conf->spool.max_bytes < SEGMENTS_MIN * conf->spool.segment_bytes * conf->shards) {
        reader_problem(reader, "spool.max_bytes",
                       "too little, expected room for %d segments of each shard", SEGMENTS_MIN);
    }
    if (conf->memory.queue_max_bytes != 0 && conf->memory.queue_max_bytes < conf->shards * MB) {
        reader_problem(reader, "memory.queue_max",
                       "too little, expected 0 or at least 1M for each shard");
    }
    if (conf->retry.limit < conf->retry.first) {
        reader_problem(reader, "retry.limit", "shorter than retry.first, expected at least that");
    }
    if (conf->retry.expire < conf->retry.first) {
        reader_problem(reader, "retry.expire", "shorter than retry.first, expected at least that");
    }
    for (uint32_t i = 0; i < conf->relay_networks_count; i++) {
        if (conf->relay_networks[i].length == 0) {
            char key[64];
            snprintf(key, sizeof key, "relay_networks[%u]", i);
            reader_problem(reader, key,
                           "everybody, which makes an open relay; expected a network of your own");
        }
    }
}

/* What the EAL must hold for all shards: logs, bodies that are read back, mbufs, and the rest. */
static void settle_memory(struct reader *reader, struct relay_conf *conf)
{
    uint64_t shard =
        conf->spool.memory_bytes + FETCH_BYTES + (uint64_t)conf->memory.mbuf_count * MBUF_BYTES;
    uint64_t least = EAL_BYTES + conf->shards * shard;
    if (conf->memory.eal_bytes == 0) {
        conf->memory.eal_bytes = least;
    } else if (conf->memory.eal_bytes < least) {
        char text[VALUE_TEXT_MAX];
        reader_problem(reader, "memory.eal_bytes",
                       "too little, expected 0 or at least %s for %u shards",
                       value_format_size((least + MB - 1) / MB * MB, text), conf->shards);
    }
}

int relay_conf_load(struct relay_conf **conf, const char *path, const char *hostname,
                    struct conf_report *report)
{
    struct owned_conf *owned = calloc(1, sizeof *owned);
    memset(report, 0, sizeof *report);
    if (owned == NULL) {
        return -ENOMEM;
    }
    struct reader reader = {.file = path, .memory = &owned->memory, .report = report};
    int status = reader_load(&reader, relay_keys, path, &owned->conf);
    if (status == 0) {
        struct relay_conf *made = &owned->conf;
        if (made->hostname == NULL) {
            const char *own = hostname != NULL && name_is_domain(hostname) ? hostname : "localhost";
            made->hostname = reader_copy(&owned->memory, own);
        }
        for (uint32_t i = 0; i < made->listen_count; i++) {
            made->listen[i].by_default = !reader_given(&reader, "listen");
        }
        check_listeners(&reader, made);
        check_logins(&reader, made);
        status = tls_conf_settle(&reader, made);
        if (status == 0) {
            status = route_conf_settle(&reader, made);
        }
        if (status == 0) {
            status = priority_conf_settle(&reader, made);
        }
        dns_conf_check(&reader, made);
        check_ports(&reader, made);
        check_listeners_have_port(&reader, made);
        check_numbers(&reader, made);
        bounce_conf_check(&reader, made);
        settle_memory(&reader, made);
        if (made->hostname == NULL || reader.out_of_memory) {
            status = -ENOMEM;
        } else if (status == 0 && report->count > 0) {
            status = -EINVAL;
        }
    }
    reader_close(&reader);
    if (status < 0) {
        relay_conf_free(&owned->conf);
        return status;
    }
    *conf = &owned->conf;
    return 0;
}

void relay_conf_free(struct relay_conf *conf)
{
    if (conf != NULL) {
        struct owned_conf *owned = (struct owned_conf *)(void *)conf;
        match_index_close(conf->route_index);
        match_index_close(conf->priority_index);
        reader_memory_free(&owned->memory);
        free(owned);
    }
}

bool relay_conf_has_logins(const struct relay_conf *conf)
{
    bool any = false;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        any = any || conf->listen[i].login != CONF_LOGIN_OFF;
    }
    return any;
}

static bool networks_hold(const struct network_prefix *networks, uint32_t count,
                          const struct endpoint *client)
{
    for (uint32_t i = 0; i < count; i++) {
        if (network_prefix_holds(&networks[i], client)) {
            return true;
        }
    }
    return false;
}

bool relay_conf_may_relay(const struct relay_conf *conf, const struct endpoint *client)
{
    return client->family == ENDPOINT_UNIX ||
           networks_hold(conf->relay_networks, conf->relay_networks_count, client);
}

bool relay_conf_takes_bare_lines(const struct relay_conf *conf, const struct endpoint *client)
{
    return networks_hold(conf->smtp.bare_newline_networks, conf->smtp.bare_newline_networks_count,
                         client);
}

bool relay_conf_client_may_relay(const struct relay_conf *conf,
                                 const uint8_t certificate[CONF_FINGERPRINT_BYTES],
                                 const uint8_t key[CONF_FINGERPRINT_BYTES])
{
    for (uint32_t i = 0; i < conf->relay_clients_count; i++) {
        const uint8_t *known = conf->relay_client_digests[i];
        if (memcmp(known, certificate, CONF_FINGERPRINT_BYTES) == 0 ||
            memcmp(known, key, CONF_FINGERPRINT_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

void relay_conf_each_key(void (*visit)(void *owner, const char *key, const char *value),
                         void *owner)
{
    reader_each_key(relay_keys, visit, owner);
}
