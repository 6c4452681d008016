/*
 * network_epoll: kernel sockets as streams, as lean as the load generator needs them.
 *
 * One thread, level-triggered epoll, one receive and one send a connection a round; received bytes
 * are read where recv put them and only what a session leaves is kept. It differs from
 * engine/stream.h in two points that the bench does not need: STREAM_DRAINED is never said, and
 * events are delivered while poll goes through the descriptors.
 */
#pragma once
#include "engine/stream.h"

/* 0 or -errno. Owned by the caller until network->ops->close. */
int network_epoll_open(struct network **network);
/* How long poll may wait for something to happen. 0: not at all. */
void network_epoll_patience(struct network *network, int milliseconds);
