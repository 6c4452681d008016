/*
 * networks: the stacks of several ports as one network of their shard.
 *
 * Each port has a stack of its own, with its addresses, routes and neighbours; here is decided whose a
 * connection is:
 *
 *   listening   at an address: the stack that has it; at any: all of them
 *   connecting  from an address: the stack that has it. Otherwise the one whose route to the target has
 *               the longest prefix, so that another port's default gateway is the last choice; among
 *               equal ones that whose link it is, then the first port. Nobody connects to an address of our own
 *   arriving    what comes in by one port for an address of another reaches that one's stack (the weak
 *               model of RFC 1122 §3.3.4.2), and is answered by its own port: whoever announces an
 *               address by two uplinks hears it by both, and its packets leave by the routes of the port
 *               that it belongs to, as Linux does it with one rule and table for each source
 *
 * ARP and Neighbor Discovery answer for a port's own addresses alone.
 *
 * The stacks may be polled, flushed and armed by themselves or by this network, but by one of both: a
 * shard that makes each of them a part of its own can sleep on all their descriptors.
 */
#pragma once
#include "engine/datagram.h"
#include "engine/stream.h"

/* Of 1 and more stacks, in the order of the ports; given, and closed with it: by -ENOMEM they stay
 * the caller's. One stack alone is its own network, and returned as it is. */
int networks_open(struct network **network, struct network *const *stacks, unsigned count);

unsigned networks_count(const struct network *network);
struct network *networks_stack(const struct network *network, unsigned index);

/* udp_open on the stack that a connection from request->at to request->peer would be made on. Without
 * either it is the first port's: one that asks several servers opens a socket for each. */
int networks_datagram_open(struct network *network, const struct datagram_request *request,
                           struct datagram_socket **socket);
