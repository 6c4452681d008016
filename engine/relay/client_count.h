/*
 * client_count: how many connections each client has open on this shard.
 *
 * relay/inbound asks at each accept. A client is an IPv4 address or an IPv6 /64, since a host there
 * has the whole prefix to itself. The table grows with the clients that are connected now, and is
 * keyed with a secret, so that addresses cannot be chosen to collide.
 */
#pragma once
#include "engine/core/endpoint.h"

struct client_count;

/* NULL when memory is short. seed: unpredictable. Owned by the caller until client_count_close. */
struct client_count *client_count_open(uint64_t seed);
void client_count_close(struct client_count *clients);

/* One connection more: 0; -EUSERS when the client has `limit` already; -ENOMEM. Unix sockets are
 * not counted. */
int client_count_enter(struct client_count *clients, const struct endpoint *client, uint32_t limit);
/* After a client_count_enter that returned 0. */
void client_count_leave(struct client_count *clients, const struct endpoint *client);
