/*
 * fake_network: streams between two ends in one process, for tests of sessions. Byte queues, no
 * sockets, no time.
 *
 * network->ops->connect finds a listener by its endpoint; fake_network_run polls until nothing
 * happens any more.
 */
#pragma once
#include "engine/stream.h"

/* Each direction of a connection holds at most `room` bytes; then write answers -EAGAIN until the
 * peer consumes. */
struct network *fake_network_open(size_t room);
void fake_network_run(struct network *network);
/* Whom listeners see as the other end of connections from here on; at first somebody on a unix socket. */
void fake_network_set_client(struct network *network, const struct endpoint *client);
/* Streams that are not released yet, both ends counted. */
unsigned fake_network_streams(const struct network *network);
