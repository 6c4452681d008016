#include "engine/conf/conf.h"
#include "engine/conf/names.h"
#include "engine/conf/reader.h"
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
#define SEGMENTS_MIN 4 /* a shard needs one to write, one ready, and room to copy forward */

typedef struct relay_conf R; /* in the tables only */

static const struct reader_word transports[] = {
    {"kernel", CONF_TRANSPORT_KERNEL}, {"dpdk", CONF_TRANSPORT_DPDK}, {NULL, 0}};
static const struct reader_word newlines[] = {
    {"refuse", CONF_BARE_NEWLINE_REFUSE}, {"normalize", CONF_BARE_NEWLINE_NORMALIZE}, {NULL, 0}};

static bool is_route_match(const char *text)
{
    size_t length = strlen(text);
    if (text[0] == '[') {
        return length > 2 && text[length - 1] == ']' && name_is_printable(text);
    }
    return strcmp(text, "*") == 0 || name_is_domain(text[0] == '.' ? text + 1 : text);
}

/* clang-format off: the tables read better wide. */
static const struct reader_key port_keys[] = {
    {.name = "name",
     .kind = READER_TEXT,
     READER_AT(struct conf_port, name),
     .required = true,
     .good = name_is_printable,
     .expected = "the name that the EAL gives the port, such as net_af_xdp0"},
    {.name = "addresses",
     .kind = READER_LIST,
     .item_kind = READER_NETWORK,
     READER_MANY(struct conf_port, addresses),
     .required = true,
     .min = 1,
     .max = 64},
    {.name = "gateway", .kind = READER_ADDRESS, READER_AT(struct conf_port, gateway)},
    {.name = "mtu",
     .kind = READER_NUMBER,
     READER_AT(struct conf_port, mtu),
     .standard = "1500",
     .min = 576,
     .max = 9216},
    {.name = NULL}};
static const struct reader_key dpdk_keys[] = {
    {.name = "eal",
     .kind = READER_LIST,
     .item_kind = READER_TEXT,
     .offset = offsetof(R, dpdk.eal),
     .count_offset = offsetof(R, dpdk.eal_count),
     .item_bytes = sizeof(char *),
     .max = 64,
     .expected = "an argument of the EAL"},
    {.name = "ports", .kind = READER_ROWS, READER_MANY(R, dpdk.ports), .keys = port_keys},
    {.name = NULL}};
static const struct reader_key memory_keys[] = {{.name = "eal_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(R, memory.eal_bytes),
                                                 .standard = "128M",
                                                 .min = 16 * MB,
                                                 .max = 256 * GB},
                                                {.name = "mbuf_count",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, memory.mbuf_count),
                                                 .standard = "16384",
                                                 .min = 1024,
                                                 .max = 16777216},
                                                {.name = NULL}};
static const struct reader_key listener_keys[] = {{.name = "name",
                                                   .kind = READER_TEXT,
                                                   READER_AT(struct conf_listener, name),
                                                   .required = true,
                                                   .good = name_is_printable,
                                                   .expected = "a name, for the log"},
                                                  {.name = "address",
                                                   .kind = READER_LIST,
                                                   .item_kind = READER_ENDPOINT,
                                                   READER_MANY(struct conf_listener, addresses),
                                                   .required = true,
                                                   .min = 1,
                                                   .max = 64},
                                                  {.name = "protocol",
                                                   .kind = READER_WORD,
                                                   READER_AT(struct conf_listener, protocol),
                                                   .standard = "smtp",
                                                   .words = word_protocols},
                                                  {.name = "unix_mode",
                                                   .kind = READER_PERMISSIONS,
                                                   READER_AT(struct conf_listener, unix_mode),
                                                   .standard = "660"},
                                                  {.name = NULL}};
static const struct reader_key spool_keys[] = {{.name = "path",
                                                .kind = READER_TEXT,
                                                READER_AT(R, spool.path),
                                                .standard = "/var/spool/tubepost",
                                                .good = name_is_absolute_path,
                                                .expected = NAME_PATH_EXPECTED},
                                               {.name = "durability",
                                                .kind = READER_WORD,
                                                READER_AT(R, spool.durability),
                                                .standard = "commit",
                                                .words = word_durabilities},
                                               {.name = "segment_bytes",
                                                .kind = READER_SIZE,
                                                READER_AT(R, spool.segment_bytes),
                                                .standard = "64M",
                                                .min = MB,
                                                .max = 2 * GB},
                                               {.name = "memory_bytes",
                                                .kind = READER_SIZE,
                                                READER_AT(R, spool.memory_bytes),
                                                .standard = "64M",
                                                .min = 8 * MB,
                                                .max = 256 * GB},
                                               {.name = "max_bytes",
                                                .kind = READER_SIZE,
                                                READER_AT(R, spool.max_bytes),
                                                .standard = "16G",
                                                .min = 4 * MB,
                                                .max = 1024 * TB},
                                               {.name = NULL}};
static const struct reader_key route_keys[] = {
    {.name = "match",
     .kind = READER_TEXT,
     READER_AT(struct conf_route, match),
     .required = true,
     .good = is_route_match,
     .expected = "a domain such as example.org, .example.org for what is below it, or \"*\""},
    {.name = "via",
     .kind = READER_WORD,
     READER_AT(struct conf_route, via),
     .standard = "smtp",
     .words = word_protocols},
    {.name = "to",
     .kind = READER_LIST,
     .item_kind = READER_ENDPOINT,
     READER_MANY(struct conf_route, to),
     .required = true,
     .min = 1,
     .max = 64},
    {.name = "source", .kind = READER_ADDRESS, READER_AT(struct conf_route, source)},
    {.name = "connections",
     .kind = READER_NUMBER,
     READER_AT(struct conf_route, connections),
     .standard = "20",
     .min = 1,
     .max = 10000},
    {.name = "messages_per_connection",
     .kind = READER_NUMBER,
     READER_AT(struct conf_route, messages_per_connection),
     .standard = "1000",
     .max = UINT32_MAX},
    {.name = "recipients_per_message",
     .kind = READER_NUMBER,
     READER_AT(struct conf_route, recipients_per_message),
     .standard = "100",
     .min = 1,
     .max = 100000},
    {.name = "pipelining",
     .kind = READER_WORD,
     READER_AT(struct conf_route, pipelining),
     .standard = "true",
     .words = word_switches},
    {.name = NULL}};
static const struct reader_key limits_keys[] = {{.name = "message_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(R, limits.message_bytes),
                                                 .standard = "64M",
                                                 .min = KB,
                                                 .max = TB},
                                                {.name = "recipients",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.recipients),
                                                 .standard = "1000",
                                                 .min = 1,
                                                 .max = 100000},
                                                {.name = "commands",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.commands),
                                                 .standard = "200",
                                                 .min = 10,
                                                 .max = UINT32_MAX},
                                                {.name = "errors",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.errors),
                                                 .standard = "20",
                                                 .min = 1,
                                                 .max = UINT32_MAX},
                                                {.name = "messages",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.messages),
                                                 .standard = "0",
                                                 .max = UINT32_MAX},
                                                {.name = "connections",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.connections),
                                                 .standard = "10000",
                                                 .min = 1,
                                                 .max = 10000000},
                                                {.name = "connections_per_client",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.connections_per_client),
                                                 .standard = "50",
                                                 .min = 1,
                                                 .max = 10000000},
                                                {.name = "line_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(R, limits.line_bytes),
                                                 .standard = "64K",
                                                 .min = 998,
                                                 .max = GB},
                                                {.name = "header_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(R, limits.header_bytes),
                                                 .standard = "256K",
                                                 .min = KB,
                                                 .max = GB},
                                                {.name = "header_lines",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.header_lines),
                                                 .standard = "5000",
                                                 .min = 10,
                                                 .max = UINT32_MAX},
                                                {.name = "hops",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(R, limits.hops),
                                                 .standard = "50",
                                                 .min = 1,
                                                 .max = 1000},
                                                {.name = NULL}};
#define TIMEOUT(field, text)                                                                       \
    {                                                                                              \
        .name = #field, .kind = READER_DURATION, READER_AT(R, timeouts.field), .standard = text,   \
        .min = 10 * MS, .max = DAY                                                                 \
    }
static const struct reader_key timeouts_keys[] = {
    TIMEOUT(command, "5m"),    TIMEOUT(data, "5m"),       TIMEOUT(commit, "10m"),
    TIMEOUT(connect, "30s"),   TIMEOUT(greeting, "5m"),   TIMEOUT(reply, "5m"),
    TIMEOUT(data_start, "2m"), TIMEOUT(data_block, "3m"), TIMEOUT(data_end, "10m"),
    TIMEOUT(quit, "5s"),       TIMEOUT(idle, "10s"),      {.name = NULL}};
static const struct reader_key retry_keys[] = {{.name = "first",
                                                .kind = READER_DURATION,
                                                READER_AT(R, retry.first),
                                                .standard = "5m",
                                                .min = MS,
                                                .max = DAY},
                                               {.name = "limit",
                                                .kind = READER_DURATION,
                                                READER_AT(R, retry.limit),
                                                .standard = "1h",
                                                .min = MS,
                                                .max = 30 * DAY},
                                               {.name = "expire",
                                                .kind = READER_DURATION,
                                                READER_AT(R, retry.expire),
                                                .standard = "5d",
                                                .min = MS,
                                                .max = 365 * DAY},
                                               {.name = "jitter_pct",
                                                .kind = READER_NUMBER,
                                                READER_AT(R, retry.jitter_pct),
                                                .standard = "20",
                                                .max = 50},
                                               {.name = NULL}};
static const struct reader_key smtp_keys[] = {{.name = "bare_newline",
                                               .kind = READER_WORD,
                                               READER_AT(R, smtp.bare_newline),
                                               .standard = "refuse",
                                               .words = newlines},
                                              {.name = "pipelining",
                                               .kind = READER_WORD,
                                               READER_AT(R, smtp.pipelining),
                                               .standard = "true",
                                               .words = word_switches},
                                              {.name = "chunking",
                                               .kind = READER_WORD,
                                               READER_AT(R, smtp.chunking),
                                               .standard = "true",
                                               .words = word_switches},
                                              {.name = "smtputf8",
                                               .kind = READER_WORD,
                                               READER_AT(R, smtp.smtputf8),
                                               .standard = "true",
                                               .words = word_switches},
                                              {.name = NULL}};
static const struct reader_key io_keys[] = {{.name = "uring",
                                             .kind = READER_WORD,
                                             READER_AT(R, io.uring),
                                             .standard = "auto",
                                             .words = word_urings},
                                            {.name = NULL}};
static const struct reader_key shutdown_keys[] = {{.name = "grace",
                                                   .kind = READER_DURATION,
                                                   READER_AT(R, shutdown.grace),
                                                   .standard = "10s",
                                                   .max = DAY},
                                                  {.name = NULL}};
static const struct reader_key control_keys[] = {
    {.name = "path",
     .kind = READER_TEXT,
     READER_AT(R, control.path),
     .standard = "/run/tubepost/control",
     .good = name_is_absolute_path,
     .expected = "an absolute path such as /run/tubepost/control"},
    {.name = "unix_mode",
     .kind = READER_PERMISSIONS,
     READER_AT(R, control.unix_mode),
     .standard = "660"},
    {.name = NULL}};
static const struct reader_key log_keys[] = {{.name = "level",
                                              .kind = READER_WORD,
                                              READER_AT(R, log.level),
                                              .standard = "info",
                                              .words = word_levels},
                                             {.name = NULL}};
static const struct reader_key idle_keys[] = {{.name = "spin",
                                               .kind = READER_DURATION,
                                               READER_AT(R, idle.spin),
                                               .standard = "20us",
                                               .max = SECOND},
                                              {.name = "poll",
                                               .kind = READER_DURATION,
                                               READER_AT(R, idle.poll),
                                               .standard = "1ms",
                                               .min = 1000,
                                               .max = SECOND},
                                              {.name = NULL}};
static const struct reader_key cpu_keys[] = {{.name = "pin",
                                              .kind = READER_WORD,
                                              READER_AT(R, cpu.pin),
                                              .standard = "true",
                                              .words = word_switches},
                                             {.name = "first_cpu",
                                              .kind = READER_NUMBER,
                                              READER_AT(R, cpu.first_cpu),
                                              .standard = "0",
                                              .max = 1023},
                                             {.name = NULL}};
static const struct reader_key relay_keys[] = {
    {.name = "hostname",
     .kind = READER_TEXT,
     READER_AT(R, hostname),
     .good = name_is_domain,
     .expected = NAME_DOMAIN_EXPECTED},
    {.name = "shards",
     .kind = READER_NUMBER,
     READER_AT(R, shards),
     .standard = "1",
     .min = 1,
     .max = CONF_SHARDS_MAX},
    {.name = "transport",
     .kind = READER_WORD,
     READER_AT(R, transport),
     .standard = "kernel",
     .words = transports},
    {.name = "dpdk", .kind = READER_SECTION, .keys = dpdk_keys},
    {.name = "memory", .kind = READER_SECTION, .keys = memory_keys},
    {.name = "listen",
     .kind = READER_ROWS,
     READER_MANY(R, listen),
     .keys = listener_keys,
     .standard = "[{name: local, address: [\"127.0.0.1:2525\", \"[::1]:2525\"]}]"},
    {.name = "spool", .kind = READER_SECTION, .keys = spool_keys},
    {.name = "relay_networks",
     .kind = READER_LIST,
     .item_kind = READER_NETWORK,
     READER_MANY(R, relay_networks),
     .standard = "127.0.0.0/8 ::1/128",
     .max = 10000},
    {.name = "routes",
     .kind = READER_ROWS,
     READER_MANY(R, routes),
     .keys = route_keys,
     .standard = "[{match: \"*\", via: lmtp, to: [\"unix:/run/tubepost/lmtp\"]}]"},
    {.name = "limits", .kind = READER_SECTION, .keys = limits_keys},
    {.name = "timeouts", .kind = READER_SECTION, .keys = timeouts_keys},
    {.name = "retry", .kind = READER_SECTION, .keys = retry_keys},
    {.name = "smtp", .kind = READER_SECTION, .keys = smtp_keys},
    {.name = "io", .kind = READER_SECTION, .keys = io_keys},
    {.name = "shutdown", .kind = READER_SECTION, .keys = shutdown_keys},
    {.name = "control", .kind = READER_SECTION, .keys = control_keys},
    {.name = "log", .kind = READER_SECTION, .keys = log_keys},
    {.name = "idle", .kind = READER_SECTION, .keys = idle_keys},
    {.name = "cpu", .kind = READER_SECTION, .keys = cpu_keys},
    {.name = NULL}};
/* clang-format on */

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

static void check_routes(struct reader *reader, const struct relay_conf *conf)
{
    char key[64];
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(conf->routes[j].match, "*") == 0 ||
                slice_equal_nocase(slice_text(conf->routes[j].match), slice_text(route->match))) {
                snprintf(key, sizeof key, "routes[%u].match", i);
                reader_problem(reader, key,
                               "never reached, routes[%u] takes all of it; expected before it", j);
                break;
            }
        }
        for (uint32_t t = 0; route->source.family != ENDPOINT_NONE && t < route->to_count; t++) {
            if (route->to[t].family != route->source.family) {
                snprintf(key, sizeof key, "routes[%u].source", i);
                reader_problem(reader, key, "of another family than to[%u], expected the same", t);
                break;
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
    for (uint32_t i = 0; i < conf->dpdk.ports_count; i++) {
        const struct conf_port *port = &conf->dpdk.ports[i];
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(port->name, conf->dpdk.ports[j].name) == 0) {
                snprintf(key, sizeof key, "dpdk.ports[%u].name", i);
                reader_problem(reader, key,
                               "the same as dpdk.ports[%u].name, expected each port once", j);
            }
        }
        bool reached = port->gateway.family == ENDPOINT_NONE;
        for (uint32_t a = 0; a < port->addresses_count; a++) {
            reached = reached || network_prefix_holds(&port->addresses[a], &port->gateway);
        }
        if (!reached) {
            snprintf(key, sizeof key, "dpdk.ports[%u].gateway", i);
            reader_problem(reader, key, "in none of the port's networks, expected a neighbour");
        }
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
    if (conf->spool.segment_bytes % 4096 != 0) {
        reader_problem(reader, "spool.segment_bytes",
                       "not a whole number of blocks, expected a multiple of 4K");
    }
    if (conf->spool.max_bytes < SEGMENTS_MIN * conf->spool.segment_bytes * conf->shards) {
        reader_problem(reader, "spool.max_bytes",
                       "too little, expected room for %d segments of each shard", SEGMENTS_MIN);
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
        check_routes(&reader, made);
        check_ports(&reader, made);
        check_listeners_have_port(&reader, made);
        check_numbers(&reader, made);
        status = made->hostname == NULL ? -ENOMEM : report->count > 0 ? -EINVAL : 0;
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
        reader_memory_free(&owned->memory);
        free(owned);
    }
}

static bool route_matches(const struct conf_route *route, struct slice domain)
{
    struct slice match = slice_text(route->match);
    if (match.bytes[0] == '*') {
        return true;
    }
    if (match.bytes[0] == '.') {
        return domain.size > match.size &&
               slice_equal_nocase(slice_from(domain, domain.size - match.size), match);
    }
    return slice_equal_nocase(domain, match);
}

const struct conf_route *relay_conf_route(const struct relay_conf *conf, struct slice domain,
                                          bool *named)
{
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        if (route_matches(&conf->routes[i], domain)) {
            *named = conf->routes[i].match[0] != '*';
            return &conf->routes[i];
        }
    }
    return NULL;
}

bool relay_conf_may_relay(const struct relay_conf *conf, const struct endpoint *client)
{
    if (client->family == ENDPOINT_UNIX) {
        return true;
    }
    for (uint32_t i = 0; i < conf->relay_networks_count; i++) {
        if (network_prefix_holds(&conf->relay_networks[i], client)) {
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
