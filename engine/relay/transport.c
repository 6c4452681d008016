#include "engine/relay/transport.h"
#include "engine/conf/names.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define SMTP_PORT 25u
#define LMTP_PORT 24u

/* ---- Next hops ---- */

/* By number, or by the names that /etc/services has for mail. */
static int port_read(const char *text, uint32_t *port)
{
    static const struct {
        const char *name;
        uint32_t port;
    } services[] = {{"smtp", 25},         {"mail", 25},   {"submission", 587},
                    {"submissions", 465}, {"smtps", 465}, {"lmtp", 24}};
    char *end;
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        if (strcasecmp(services[i].name, text) == 0) {
            *port = services[i].port;
            return 0;
        }
    }
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < 1 || number > 65535) {
        return -EINVAL;
    }
    *port = (uint32_t)number;
    return 0;
}

/* An address without a port, also as "IPv6:2001:db8::1". */
static bool is_address(const char *host, uint32_t port, struct endpoint *to)
{
    struct network_prefix prefix;
    host += strncasecmp(host, "IPv6:", 5) == 0 ? 5 : 0;
    if (strchr(host, '/') != NULL || network_prefix_parse(&prefix, slice_text(host)) < 0) {
        return false;
    }
    *to = prefix.address;
    to->port = (uint16_t)port;
    return true;
}

static void go_to_endpoint(struct transport *transport, bool lmtp)
{
    struct conf_route *route = &transport->route;
    route->via = lmtp ? CONF_VIA_LMTP : CONF_VIA_SMTP;
    route->to = &transport->to;
    route->to_count = 1;
    if (route->source.family != transport->to.family) {
        route->source = (struct endpoint){.family = ENDPOINT_NONE};
    }
}

/* name NULL: the recipient's domain. */
static void go_by_dns(struct transport *transport, const char *name, uint32_t port, bool lmtp)
{
    struct conf_route *route = &transport->route;
    route->via = CONF_VIA_MX;
    route->next_hop = name;
    route->port = port;
    route->lmtp = lmtp;
    if (route->source.family != ENDPOINT_NONE) { /* as route_conf has it */
        route->family = route->source.family == ENDPOINT_IPV4 ? CONF_FAMILY_IPV4 : CONF_FAMILY_IPV6;
    }
}

/* "[HOST]", "[HOST]:PORT", "NAME", "NAME:PORT", "unix:/PATH", "". text: taken apart in place. */
static int next_hop_read(struct transport *transport, char *text, bool lmtp)
{
    uint32_t port = lmtp                                  ? LMTP_PORT
                    : transport->base->via == CONF_VIA_MX ? transport->base->port
                                                          : SMTP_PORT;
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/' || endpoint_parse(&transport->to, slice_text(text)) < 0) {
            return -EINVAL;
        }
        go_to_endpoint(transport, lmtp);
        return 0;
    }
    text += strncmp(text, "inet:", 5) == 0 ? 5 : 0;
    if (text[0] == '\0') {
        go_by_dns(transport, NULL, port, lmtp);
        transport->route.host_only = lmtp; /* who speaks LMTP is nobody's mail exchanger */
        return 0;
    }
    bool bracketed = text[0] == '[';
    char *end = bracketed ? strchr(text, ']') : strrchr(text, ':');
    char *colon = bracketed && end != NULL ? end + 1 : end;
    if (bracketed && (end == NULL || (*colon != ':' && *colon != '\0'))) {
        return -EINVAL;
    }
    if (colon != NULL && *colon == ':' && port_read(colon + 1, &port) < 0) {
        return -EINVAL;
    }
    if (end != NULL) {
        *end = '\0';
    }
    text += bracketed;
    if (is_address(text, port, &transport->to)) {
        go_to_endpoint(transport, lmtp);
        return 0;
    }
    go_by_dns(transport, text, port, lmtp);
    transport->route.host_only = bracketed || lmtp;
    return name_is_domain(text) ? 0 : -EINVAL;
}

/* ---- What goes nowhere ---- */

/* "5.1.1 Text", or the text alone: RFC 3463 §2. */
static int refusal_read(struct transport *transport, char *text, const char *standard,
                        const char *nothing)
{
    struct conf_route *route = &transport->route;
    unsigned class, subject, detail;
    int end = 0;
    route->via = CONF_VIA_ERROR;
    route->reply_status = standard;
    route->reply_text = text;
    if (sscanf(text, "%1u.%3u.%3u%n", &class, &subject, &detail, &end) == 3 &&
        (text[end] == '\0' || text[end] == ' ')) {
        if (class != 4 && class != 5) {
            return -EINVAL;
        }
        route->reply_status = text;
        route->reply_text = text + end + (text[end] == ' ');
        text[end] = '\0';
    }
    route->reply_text = route->reply_text[0] != '\0' ? route->reply_text : nothing;
    route->reply = route->reply_text; /* that there is one */
    route->reply_code = route->reply_status[0] == '5' ? 550 : 450;
    return transport->put_off && route->reply_code != 450 ? -EINVAL : 0;
}

/* ---- All of it ---- */

static void make_of(struct transport *transport, const struct conf_route *base)
{
    transport->base = base;
    transport->made = true;
    transport->route = *base;
    transport->route.by_map = true;
    transport->route.to = NULL;
    transport->route.to_count = 0;
    transport->route.reply = NULL;
}

static int named_read(struct transport *transport, const struct conf_route *named, char *next_hop)
{
    if (next_hop[0] == '\0') {
        transport->base = named;
        return 0;
    }
    make_of(transport, named);
    return next_hop_read(transport, next_hop, named->via == CONF_VIA_LMTP);
}

int transport_read(struct transport *transport, const struct relay_conf *conf,
                   const struct conf_route *by_routes, struct slice value)
{
    *transport = (struct transport){.base = by_routes};
    char *text = transport->text, *colon;
    if (value.size > TRANSPORT_VALUE_MAX || memchr(value.bytes, '\0', value.size) != NULL) {
        return -EINVAL;
    }
    memcpy(text, value.bytes, value.size);
    colon = strchr(text, ':');
    if (colon == NULL || !name_is_printable(text)) {
        return -EINVAL;
    }
    *colon = '\0';
    char *next_hop = colon + 1 + strspn(colon + 1, " ");
    if (text[0] == '\0' && next_hop[0] == '\0') {
        return 0;
    }
    const struct conf_route *named = relay_conf_route_named(conf, slice_text(text));
    if (named != NULL) {
        return named_read(transport, named, next_hop);
    }
    make_of(transport, by_routes != NULL ? by_routes : &conf->route_standard);
    if (text[0] == '\0') {
        return next_hop_read(transport, next_hop, transport->base->via == CONF_VIA_LMTP);
    }
    if (strcasecmp(text, "smtp") == 0 || strcasecmp(text, "relay") == 0) {
        return next_hop_read(transport, next_hop, false);
    }
    if (strcasecmp(text, "lmtp") == 0) {
        return next_hop_read(transport, next_hop, true);
    }
    if (strcasecmp(text, "discard") == 0) {
        transport->route.via = CONF_VIA_DISCARD;
        return 0;
    }
    transport->put_off = strcasecmp(text, "retry") == 0;
    if (transport->put_off) {
        return refusal_read(transport, next_hop, "4.0.0", "Delivery is put off");
    }
    return strcasecmp(text, "error") == 0
               ? refusal_read(transport, next_hop, "5.0.0", "Address is undeliverable")
               : -EINVAL;
}
