#include "engine/core/endpoint.h"
#include "engine/core/check.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* ::ffff:a.b.c.d becomes a.b.c.d. Returns whether it was one. */
static bool unmap(struct endpoint *endpoint)
{
    if (endpoint->family != ENDPOINT_IPV6 ||
        memcmp(endpoint->address, mapped_prefix, sizeof(mapped_prefix)) != 0) {
        return false;
    }
    endpoint->family = ENDPOINT_IPV4;
    endpoint->scope = 0;
    memmove(endpoint->address, endpoint->address + 12, 4);
    memset(endpoint->address + 4, 0, 12);
    return true;
}

/* Decimal, digits only, no sign, no blank. */
static int parse_number(struct slice text, uint32_t most, uint32_t *number)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 10) {
        return -EINVAL;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return -EINVAL;
        }
        value = value * 10 + (text.bytes[i] - '0');
    }
    if (value > most) {
        return -EINVAL;
    }
    *number = (uint32_t)value;
    return 0;
}

/* Copies a slice without NUL into a NUL-terminated array. */
static int copy_text(char *to, size_t to_bytes, struct slice from)
{
    if (from.size == 0 || from.size >= to_bytes || memchr(from.bytes, 0, from.size) != NULL) {
        return -EINVAL;
    }
    memcpy(to, from.bytes, from.size);
    to[from.size] = 0;
    return 0;
}

static int parse_zone(struct slice text, uint32_t *scope)
{
    char name[IF_NAMESIZE];
    if (parse_number(text, UINT32_MAX, scope) == 0) {
        return *scope != 0 ? 0 : -EINVAL;
    }
    if (copy_text(name, sizeof(name), text) < 0) {
        return -EINVAL;
    }
    *scope = if_nametoindex(name);
    return *scope != 0 ? 0 : -EINVAL;
}

/* An address of either family, with an optional %zone. Does not unmap. */
static int parse_address(struct endpoint *endpoint, struct slice text)
{
    char copy[INET6_ADDRSTRLEN];
    const uint8_t *percent = text.size > 0 ? memchr(text.bytes, '%', text.size) : NULL;
    if (percent != NULL) {
        size_t before = (size_t)(percent - text.bytes);
        if (parse_zone(slice_from(text, before + 1), &endpoint->scope) < 0) {
            return -EINVAL;
        }
        text = slice_first(text, before);
    }
    if (copy_text(copy, sizeof(copy), text) < 0) {
        return -EINVAL;
    }
    if (percent == NULL && inet_pton(AF_INET, copy, endpoint->address) == 1) {
        endpoint->family = ENDPOINT_IPV4;
        return 0;
    }
    if (inet_pton(AF_INET6, copy, endpoint->address) == 1) {
        endpoint->family = ENDPOINT_IPV6;
        return 0;
    }
    return -EINVAL;
}

static int parse_with_port(struct endpoint *endpoint, struct slice text)
{
    struct slice address, port;
    bool bracketed = text.size > 0 && text.bytes[0] == '[';
    const uint8_t *end = memrchr(text.bytes, ':', text.size);
    uint32_t number;
    if (end == NULL) {
        return -EINVAL;
    }
    address = slice_first(text, (size_t)(end - text.bytes));
    port = slice_from(text, address.size + 1);
    if (bracketed) {
        if (address.size < 2 || address.bytes[address.size - 1] != ']') {
            return -EINVAL;
        }
        address = slice_of(address.bytes + 1, address.size - 2);
    }
    if (port.size > 5 || parse_number(port, UINT16_MAX, &number) < 0 ||
        parse_address(endpoint, address) < 0) {
        return -EINVAL;
    }
    /* 2001:db8::1:25 says nothing certain about its port. */
    if ((endpoint->family == ENDPOINT_IPV6) != bracketed) {
        return -EINVAL;
    }
    endpoint->port = (uint16_t)number;
    unmap(endpoint);
    return 0;
}

int endpoint_parse(struct endpoint *endpoint, struct slice text)
{
    static const char unix_prefix[] = "unix:";
    size_t prefix_bytes = sizeof(unix_prefix) - 1;
    struct endpoint parsed = {0};
    int error;
    if (text.size == 0) {
        return -EINVAL;
    }
    if (slice_equal(slice_first(text, prefix_bytes), slice_text(unix_prefix))) {
        parsed.family = ENDPOINT_UNIX;
        error = copy_text(parsed.path, sizeof(parsed.path), slice_from(text, prefix_bytes));
    } else {
        error = parse_with_port(&parsed, text);
    }
    if (error == 0) {
        *endpoint = parsed;
    }
    return error;
}

int network_prefix_parse(struct network_prefix *prefix, struct slice text)
{
    struct network_prefix parsed = {0};
    const uint8_t *slash = text.size > 0 ? memchr(text.bytes, '/', text.size) : NULL;
    size_t address_bytes = slash != NULL ? (size_t)(slash - text.bytes) : text.size;
    if (parse_address(&parsed.address, slice_first(text, address_bytes)) < 0) {
        return -EINVAL;
    }
    uint32_t bits = parsed.address.family == ENDPOINT_IPV4 ? 32 : 128;
    if (slash != NULL) {
        struct slice length = slice_from(text, address_bytes + 1);
        if (length.size > 3 || parse_number(length, bits, &bits) < 0) {
            return -EINVAL;
        }
    }
    if (bits >= 96 && unmap(&parsed.address)) {
        bits -= 96;
    }
    parsed.length = (uint8_t)bits;
    *prefix = parsed;
    return 0;
}

bool network_prefix_holds(const struct network_prefix *prefix, const struct endpoint *address)
{
    if (address->family != prefix->address.family ||
        (address->family != ENDPOINT_IPV4 && address->family != ENDPOINT_IPV6)) {
        return false;
    }
    if (prefix->address.scope != 0 && prefix->address.scope != address->scope) {
        return false;
    }
    size_t whole = prefix->length / 8;
    unsigned rest = prefix->length % 8;
    if (memcmp(prefix->address.address, address->address, whole) != 0) {
        return false;
    }
    return rest == 0 ||
           ((prefix->address.address[whole] ^ address->address[whole]) >> (8 - rest)) == 0;
}

size_t endpoint_format_address(const struct endpoint *endpoint, char *text)
{
    text[0] = 0;
    switch ((enum endpoint_family)endpoint->family) {
    case ENDPOINT_NONE:
        break;
    case ENDPOINT_IPV4:
        inet_ntop(AF_INET, endpoint->address, text, ENDPOINT_TEXT_MAX);
        break;
    case ENDPOINT_IPV6:
        inet_ntop(AF_INET6, endpoint->address, text, ENDPOINT_TEXT_MAX);
        if (endpoint->scope != 0) {
            size_t size = strlen(text);
            snprintf(text + size, ENDPOINT_TEXT_MAX - size, "%%%u", endpoint->scope);
        }
        break;
    case ENDPOINT_UNIX:
        snprintf(text, ENDPOINT_TEXT_MAX, "%s", endpoint->path);
        break;
    }
    return strlen(text);
}

size_t endpoint_format(const struct endpoint *endpoint, char *text)
{
    char address[ENDPOINT_TEXT_MAX];
    endpoint_format_address(endpoint, address);
    int size = 0;
    text[0] = 0;
    switch ((enum endpoint_family)endpoint->family) {
    case ENDPOINT_NONE:
        break;
    case ENDPOINT_IPV4:
        size = snprintf(text, ENDPOINT_TEXT_MAX, "%.64s:%u", address, endpoint->port);
        break;
    case ENDPOINT_IPV6:
        size = snprintf(text, ENDPOINT_TEXT_MAX, "[%.64s]:%u", address, endpoint->port);
        break;
    case ENDPOINT_UNIX:
        size = snprintf(text, ENDPOINT_TEXT_MAX, "unix:%.107s", address);
        break;
    }
    return (size_t)size;
}

bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b)
{
    if (a->family != b->family) {
        return false;
    }
    switch ((enum endpoint_family)a->family) {
    case ENDPOINT_NONE:
        return true;
    case ENDPOINT_IPV4:
        return memcmp(a->address, b->address, 4) == 0;
    case ENDPOINT_IPV6:
        return a->scope == b->scope && memcmp(a->address, b->address, 16) == 0;
    case ENDPOINT_UNIX:
        return strcmp(a->path, b->path) == 0;
    }
    return false;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    bool ported = a->family == ENDPOINT_IPV4 || a->family == ENDPOINT_IPV6;
    return endpoint_same_address(a, b) && (!ported || a->port == b->port);
}

bool endpoint_is_loopback(const struct endpoint *endpoint)
{
    switch ((enum endpoint_family)endpoint->family) {
    case ENDPOINT_NONE:
        return false;
    case ENDPOINT_IPV4:
        return endpoint->address[0] == 127;
    case ENDPOINT_IPV6:
        return memcmp(endpoint->address, &in6addr_loopback, sizeof(in6addr_loopback)) == 0;
    case ENDPOINT_UNIX:
        return true;
    }
    return false;
}

static int from_unix(struct endpoint *endpoint, const struct sockaddr_un *address, socklen_t length)
{
    size_t path_bytes = length - offsetof(struct sockaddr_un, sun_path);
    endpoint->family = ENDPOINT_UNIX;
    /* A client that did not bind has no path, and the kernel need not end a full one with NUL. */
    path_bytes = path_bytes > ENDPOINT_PATH_MAX ? ENDPOINT_PATH_MAX : path_bytes;
    memcpy(endpoint->path, address->sun_path, path_bytes);
    return 0;
}

int endpoint_from_sockaddr(struct endpoint *endpoint, const struct sockaddr *address,
                           socklen_t length)
{
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
    memset(endpoint, 0, sizeof(*endpoint));
    if (length < sizeof(address->sa_family)) {
        return -EINVAL;
    }
    switch (address->sa_family) {
    case AF_INET:
        if (length < sizeof(ipv4)) {
            return -EINVAL;
        }
        memcpy(&ipv4, address, sizeof(ipv4));
        endpoint->family = ENDPOINT_IPV4;
        endpoint->port = ntohs(ipv4.sin_port);
        memcpy(endpoint->address, &ipv4.sin_addr, 4);
        return 0;
    case AF_INET6:
        if (length < sizeof(ipv6)) {
            return -EINVAL;
        }
        memcpy(&ipv6, address, sizeof(ipv6));
        endpoint->family = ENDPOINT_IPV6;
        endpoint->port = ntohs(ipv6.sin6_port);
        endpoint->scope = ipv6.sin6_scope_id;
        memcpy(endpoint->address, &ipv6.sin6_addr, 16);
        unmap(endpoint);
        return 0;
    case AF_UNIX:
        if (length < offsetof(struct sockaddr_un, sun_path)) {
            return -EINVAL;
        }
        return from_unix(endpoint, (const struct sockaddr_un *)(const void *)address, length);
    default:
        return -EAFNOSUPPORT;
    }
}

socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *address)
{
    memset(address, 0, sizeof(*address));
    switch ((enum endpoint_family)endpoint->family) {
    case ENDPOINT_NONE:
        return 0;
    case ENDPOINT_IPV4: {
        struct sockaddr_in *ipv4 = (struct sockaddr_in *)address;
        ipv4->sin_family = AF_INET;
        ipv4->sin_port = htons(endpoint->port);
        memcpy(&ipv4->sin_addr, endpoint->address, 4);
        return sizeof(*ipv4);
    }
    case ENDPOINT_IPV6: {
        struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)address;
        ipv6->sin6_family = AF_INET6;
        ipv6->sin6_port = htons(endpoint->port);
        ipv6->sin6_scope_id = endpoint->scope;
        memcpy(&ipv6->sin6_addr, endpoint->address, 16);
        return sizeof(*ipv6);
    }
    case ENDPOINT_UNIX: {
        struct sockaddr_un *local = (struct sockaddr_un *)address;
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, endpoint->path, ENDPOINT_PATH_MAX);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(endpoint->path) + 1);
    }
    }
    return 0;
}
