#include "engine/conf/route_conf.h"
#include "engine/conf/match_rows.h"
#include "engine/conf/names.h"
#include "engine/conf/rewrite_conf.h"
#include "engine/conf/tls_conf.h"
#include "engine/conf/value.h"
#include "engine/conf/words.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define REPLY_EXPECTED "a code, an enhanced code and a text, such as \"550 5.1.1 No such user\""

static const struct reader_word route_vias[] = {
    {"smtp", CONF_VIA_SMTP},       {"lmtp", CONF_VIA_LMTP},   {"mx", CONF_VIA_MX},
    {"discard", CONF_VIA_DISCARD}, {"error", CONF_VIA_ERROR}, {NULL, 0}};
static const struct reader_word accepts[] = {{"auto", CONF_ACCEPT_AUTO},
                                             {"anyone", CONF_ACCEPT_ANYONE},
                                             {"clients", CONF_ACCEPT_CLIENTS},
                                             {NULL, 0}};
static const struct reader_word families[] = {{"any", CONF_FAMILY_ANY},
                                              {"ipv4_first", CONF_FAMILY_IPV4_FIRST},
                                              {"ipv6_first", CONF_FAMILY_IPV6_FIRST},
                                              {"ipv4", CONF_FAMILY_IPV4},
                                              {"ipv6", CONF_FAMILY_IPV6},
                                              {NULL, 0}};

#define RATE_EXPECTED "a number in a time, such as 10/s, 600/h or 5/10s"
#define RATE_COUNT_MAX 1000000u

static bool rate_parse(const char *text, uint32_t *count, uint64_t *period_ns)
{
    const char *slash = strchr(text, '/');
    char number[16], period[16];
    uint64_t value;
    if (slash == NULL || strlen(slash) >= sizeof period ||
        (size_t)(slash - text) >= sizeof number) {
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)(slash - text), text);
    bool bare = slash[1] < '0' || slash[1] > '9'; /* "10/s" is 10 in one second */
    snprintf(period, sizeof period, "%s%.14s", bare ? "1" : "", slash + 1);
    if (value_parse_number(number, &value) < 0 || value < 1 || value > RATE_COUNT_MAX ||
        value_parse_duration(period, period_ns) < 0) {
        return false;
    }
    *count = (uint32_t)value;
    return *period_ns > 0;
}

static bool rate_is_good(const char *text)
{
    uint32_t count;
    uint64_t period_ns;
    return rate_parse(text, &count, &period_ns);
}

/* Without a word about it, a burst is what comes in a tenth of a second: a rate of thousands must not depend on how
 * exactly we wake up. */
static void settle_rate(struct conf_rate *rate)
{
    if (rate->text == NULL || !rate_parse(rate->text, &rate->count, &rate->period_ns)) {
        rate->count = 0; /* there is none, or it was said what is wrong */
        return;
    }
    if (rate->burst == 0) {
        rate->burst = (uint32_t)(rate->count * (uint64_t)100000000 / rate->period_ns);
    }
    rate->burst = rate->burst > 0 ? rate->burst : 1;
}

/* "550 5.1.1 No such user": a reply that refuses, RFC 5321 §4.2 and RFC 3463 §2. */
static bool reply_is_good(const char *text)
{
    unsigned code, class, subject, detail;
    int code_end = 0, end = 0;
    if (!name_is_printable(text) || sscanf(text, "%3u%n %1u.%3u.%3u %n", &code, &code_end, &class,
                                           &subject, &detail, &end) != 4) {
        return false;
    }
    return code_end == 3 && end > 0 && text[end] != '\0' && strlen(text) < 400 &&
           (code / 100 == 4 || code / 100 == 5) && class == code / 100;
}

#define MATCH_EXPECTED                                                                             \
    "a domain such as example.org, .example.org for what is below it, an address, "                \
    "a pattern such as /^x@/i, or \"*\""

/* What a transport map says before the colon and means by itself (engine/relay/transport.h). */
static const char *const transports[] = {"smtp",  "relay",   "lmtp", "mx",  "error",
                                         "retry", "discard", "inet", "unix"};

static bool is_route_name(const char *text)
{
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        if (strcasecmp(transports[i], text) == 0) {
            return false;
        }
    }
    size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return size > 0 && size < 64 && text[size] == '\0';
}

const struct reader_key route_keys[] = {
    KEY_TEXT("name", struct conf_route, name, is_route_name,
             "letters, digits, '-', '_' and '.', and none of smtp, relay, lmtp, mx, error, retry, "
             "discard, inet, unix"),
    KEY_TEXT("match", struct conf_route, match, match_is_good, MATCH_EXPECTED),
    KEY_WORD("via", struct conf_route, via, "smtp", route_vias),
    KEY_LIST("to", struct conf_route, to, READER_ENDPOINT, .max = 64),
    KEY_NUMBER("port", struct conf_route, port, "25", 1, 65535),
    KEY_WORD("family", struct conf_route, family, "any", families),
    KEY_WORD("address_literals", struct conf_route, address_literals, "true", word_switches),
    KEY_TEXT("reply", struct conf_route, reply, reply_is_good, REPLY_EXPECTED),
    KEY_WORD("accept_from", struct conf_route, accept_from, "auto", accepts),
    KEY_ADDRESS("source", struct conf_route, source),
    KEY_TEXT("hostname", struct conf_route, hostname, name_is_domain, NAME_DOMAIN_EXPECTED),
    KEY_NUMBER("connections", struct conf_route, connections, "20", 1, 10000),
    KEY_TEXT("connection_rate", struct conf_route, connection_rate.text, rate_is_good,
             RATE_EXPECTED),
    KEY_NUMBER("connection_burst", struct conf_route, connection_rate.burst, "0", 0,
               RATE_COUNT_MAX),
    KEY_TEXT("message_rate", struct conf_route, message_rate.text, rate_is_good, RATE_EXPECTED),
    KEY_NUMBER("message_burst", struct conf_route, message_rate.burst, "0", 0, RATE_COUNT_MAX),
    KEY_NUMBER("messages_per_connection", struct conf_route, messages_per_connection, "1000", 0,
               UINT32_MAX),
    KEY_NUMBER("recipients_per_message", struct conf_route, recipients_per_message, "100", 1,
               100000),
    KEY_LIST("recipients", struct conf_route, recipients, READER_TEXT, .max = 32,
             .good = map_name_is_good, .expected = MAP_NAME_EXPECTED),
    KEY_WORD("pipelining", struct conf_route, pipelining, "true", word_switches),
    KEY_WORD("tls", struct conf_route, tls.level, "opportunistic", tls_conf_levels),
    KEY_WORD("tls_implicit", struct conf_route, tls.implicit, "false", word_switches),
    KEY_LIST("tls_names", struct conf_route, tls.names, READER_TEXT, .max = 100,
             .expected = "a host's name"),
    KEY_TEXT("tls_certificate", struct conf_route, tls.certificate, name_is_absolute_path,
             NAME_PATH_EXPECTED),
    KEY_TEXT("tls_key", struct conf_route, tls.key, name_is_absolute_path, NAME_PATH_EXPECTED),
    KEY_END,
};

#define VIA(name) (1u << CONF_VIA_##name)

/* A key that means something with some ways only: does the route have it? Its default does not count. */
static void check_key(struct reader *reader, const struct conf_route *route, uint32_t index,
                      const char *name, unsigned vias)
{
    char key[64];
    if ((vias & 1u << route->via) == 0) {
        snprintf(key, sizeof key, "routes[%u].%s", index, name);
        reader_problem(reader, key, "not for this way, expected only with via: %s",
                       vias == VIA(MX)      ? "mx"
                       : vias == VIA(ERROR) ? "error"
                       : (vias & VIA(MX))   ? "smtp, lmtp or mx"
                                            : "smtp or lmtp");
    }
}

static void check_way(struct reader *reader, const struct conf_route *route, uint32_t index)
{
    const unsigned hops = VIA(SMTP) | VIA(LMTP), sessions = hops | VIA(MX);
    char key[64];
    if (route->to_count > 0) {
        check_key(reader, route, index, "to", hops);
    } else if ((hops & 1u << route->via) != 0) {
        snprintf(key, sizeof key, "routes[%u].to", index);
        reader_problem(reader, key, "missing, expected a list");
    }
    if (route->reply != NULL) {
        check_key(reader, route, index, "reply", VIA(ERROR));
    } else if (route->via == CONF_VIA_ERROR) {
        snprintf(key, sizeof key, "routes[%u].reply", index);
        reader_problem(reader, key, "missing, expected %s", REPLY_EXPECTED);
    }
    if (route->port != 25) {
        check_key(reader, route, index, "port", VIA(MX));
    }
    if (route->family != CONF_FAMILY_ANY) {
        check_key(reader, route, index, "family", VIA(MX));
    }
    if (!route->address_literals) {
        check_key(reader, route, index, "address_literals", VIA(MX));
    }
    if (route->source.family != ENDPOINT_NONE) {
        check_key(reader, route, index, "source", sessions);
    }
    if (route->hostname != NULL) {
        check_key(reader, route, index, "hostname", sessions);
    }
}

/* The source decides the family: an address of one cannot reach the other. */
static void settle_source(struct reader *reader, struct conf_route *route, uint32_t index)
{
    char key[64];
    snprintf(key, sizeof key, "routes[%u].source", index);
    for (uint32_t t = 0; route->source.family != ENDPOINT_NONE && t < route->to_count; t++) {
        if (route->to[t].family != route->source.family) {
            reader_problem(reader, key, "of another family than to[%u], expected the same", t);
            return;
        }
    }
    if (route->source.family == ENDPOINT_NONE || route->via != CONF_VIA_MX) {
        return;
    }
    bool ipv4 = route->source.family == ENDPOINT_IPV4;
    if (route->family == (ipv4 ? CONF_FAMILY_IPV6 : CONF_FAMILY_IPV4)) {
        reader_problem(reader, key, "of another family than `family`, expected the same");
    }
    route->family = ipv4 ? CONF_FAMILY_IPV4 : CONF_FAMILY_IPV6;
}

/* Mail for the Internet is for clients only, also where a route names a domain only to set its limits. */
static void settle_accept(struct reader *reader, struct conf_route *route, uint32_t index)
{
    char key[64];
    bool named = route->match[0] != '*' && route->match[0] != '/' && route->match[0] != '\0';
    if (route->accept_from == CONF_ACCEPT_AUTO) {
        route->accept_from =
            named && route->via != CONF_VIA_MX ? CONF_ACCEPT_ANYONE : CONF_ACCEPT_CLIENTS;
    } else if (route->accept_from == CONF_ACCEPT_ANYONE && route->match[0] == '*') {
        snprintf(key, sizeof key, "routes[%u].accept_from", index);
        reader_problem(reader, key, "of \"*\" would relay for the whole world, expected clients");
    }
}

static void settle_reply(struct reader *reader, struct conf_route *route)
{
    unsigned code = 0;
    int status = 0, text = 0;
    if (route->reply == NULL || !reply_is_good(route->reply)) {
        return; /* missing, which was said */
    }
    sscanf(route->reply, "%3u %n%*u.%*u.%*u %n", &code, &status, &text);
    char *words = reader_copy(reader->memory, route->reply + status);
    if (words == NULL) {
        reader->out_of_memory = true;
        return;
    }
    *strchr(words, ' ') = '\0';
    route->reply_code = (uint16_t)code;
    route->reply_status = words;
    route->reply_text = route->reply + text;
}

static int index_make(struct relay_conf *conf, struct reader *reader)
{
    const struct match_rows rows = {.rows = "routes",
                                    .member = "match",
                                    .first = conf->routes,
                                    .row_bytes = sizeof *conf->routes,
                                    .match_offset = offsetof(struct conf_route, match),
                                    .count = conf->routes_count};
    return match_rows_index(&conf->route_index, &rows, reader);
}

static int name_order(const void *first, const void *second)
{
    const struct conf_route *a = *(const struct conf_route *const *)first;
    const struct conf_route *b = *(const struct conf_route *const *)second;
    int order = slice_order_nocase(slice_text(a->name), slice_text(b->name));
    return order != 0 ? order : a < b ? -1 : a > b;
}

static int settle_names(struct reader *reader, struct relay_conf *conf)
{
    const struct conf_route **named =
        reader_take(reader->memory, ((size_t)conf->routes_count + 1) * sizeof(*named));
    uint32_t count = 0;
    if (named == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        if (conf->routes[i].name != NULL) {
            named[count++] = &conf->routes[i];
        }
    }
    qsort(named, count, sizeof(*named), name_order);
    for (uint32_t i = 1; i < count; i++) {
        if (strcasecmp(named[i - 1]->name, named[i]->name) == 0) {
            char key[64];
            snprintf(key, sizeof key, "routes[%zd].name", named[i] - conf->routes);
            reader_problem(reader, key, "the same as routes[%zd].name, expected a name of its own",
                           named[i - 1] - conf->routes);
        }
    }
    conf->routes_named = named;
    conf->routes_named_count = count;
    return 0;
}

static void settle_match(struct reader *reader, struct conf_route *route, uint32_t index)
{
    char key[64];
    if (route->match == NULL && route->name == NULL) {
        snprintf(key, sizeof key, "routes[%u].match", index);
        reader_problem(reader, key, "missing, expected " MATCH_EXPECTED);
    }
    route->match = route->match == NULL ? "" : route->match;
}

static int settle_standard(struct reader *reader, struct relay_conf *conf)
{
    struct conf_route *standard = &conf->route_standard;
    int status = reader_fill_standard(reader, route_keys, standard);
    standard->match = "";
    standard->via = CONF_VIA_MX;
    standard->accept_from = CONF_ACCEPT_CLIENTS;
    return status;
}

int route_conf_settle(struct reader *reader, struct relay_conf *conf)
{
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        settle_match(reader, &conf->routes[i], i);
        check_way(reader, &conf->routes[i], i);
        settle_source(reader, &conf->routes[i], i);
        settle_accept(reader, &conf->routes[i], i);
        settle_reply(reader, &conf->routes[i]);
        settle_rate(&conf->routes[i].connection_rate);
        settle_rate(&conf->routes[i].message_rate);
    }
    int status = settle_names(reader, conf);
    status = status == 0 ? settle_standard(reader, conf) : status;
    return status == 0 ? index_make(conf, reader) : status;
}

int relay_conf_index(struct relay_conf *conf)
{
    match_index_close(conf->route_index);
    conf->route_index = NULL;
    return index_make(conf, NULL);
}

const struct conf_route *relay_conf_route(const struct relay_conf *conf, struct slice mailbox)
{
    char whole[512];
    if (mailbox.size == 0 || memrchr(mailbox.bytes, '@', mailbox.size) == NULL) {
        int size = snprintf(whole, sizeof whole, "%.*s@%s", (int)slice_first(mailbox, 255).size,
                            (const char *)mailbox.bytes, conf->hostname);
        mailbox = slice_of(whole, (size_t)size < sizeof whole ? (size_t)size : sizeof whole - 1);
    }
    uint32_t row = match_index_find(conf->route_index, mailbox);
    return row != MATCH_NONE ? &conf->routes[row] : NULL;
}

const struct conf_route *relay_conf_route_named(const struct relay_conf *conf, struct slice name)
{
    uint32_t from = 0, to = conf->routes_named_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        const struct conf_route *route = conf->routes_named[middle];
        int order = slice_order_nocase(name, slice_text(route->name));
        if (order == 0) {
            return route;
        }
        if (order < 0) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    return NULL;
}
