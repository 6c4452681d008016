/*
 * endpoint: where a connection comes from or goes to: IPv4 or IPv6 with a port, or a unix socket.
 *
 * IPv4-mapped IPv6 addresses (::ffff:a.b.c.d) are turned into IPv4 by every function that makes
 * an endpoint, so that they compare as what they are.
 */
#pragma once
#include "engine/core/slice.h"
#include <sys/socket.h>

enum endpoint_family { ENDPOINT_NONE, ENDPOINT_IPV4, ENDPOINT_IPV6, ENDPOINT_UNIX };

#define ENDPOINT_PATH_MAX 107 /* sockaddr_un.sun_path less its NUL */
#define ENDPOINT_TEXT_MAX 128 /* enough for endpoint_format, with NUL */

struct endpoint {
    uint8_t family;                   /* enum endpoint_family */
    uint16_t port;                    /* host order; 0 for unix */
    uint8_t address[16];              /* network order; the first 4 for IPv4 */
    uint32_t scope;                   /* IPv6 link-local zone, or 0 */
    char path[ENDPOINT_PATH_MAX + 1]; /* unix only, NUL-terminated */
};

/* A network: address/prefix-length. */
struct network_prefix {
    struct endpoint address; /* port unused */
    uint8_t length;          /* bits */
};

/* "192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/x". Returns 0 or -EINVAL. */
int endpoint_parse(struct endpoint *endpoint, struct slice text);

/* "192.0.2.0/24", "2001:db8::/32", or a lone address. Host bits may be set. Returns 0 or -EINVAL. */
int network_prefix_parse(struct network_prefix *prefix, struct slice text);
bool network_prefix_holds(const struct network_prefix *prefix, const struct endpoint *address);

/* Writes the form that endpoint_parse reads; returns the length. `text` holds ENDPOINT_TEXT_MAX. */
size_t endpoint_format(const struct endpoint *endpoint, char *text);
/* The address alone, without port and brackets: "192.0.2.1", "2001:db8::1", or the unix path. */
size_t endpoint_format_address(const struct endpoint *endpoint, char *text);

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b);
bool endpoint_is_loopback(const struct endpoint *endpoint); /* 127.0.0.0/8, ::1, unix */

int endpoint_from_sockaddr(struct endpoint *endpoint, const struct sockaddr *address,
                           socklen_t length);
socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *address);
