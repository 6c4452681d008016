/*
 * relay_literal: the destination of an address literal: user@[192.0.2.1], user@[IPv6:2001:db8::1].
 *
 * One host with one address, of which DNS knows nothing. Source: RFC 5321 §4.1.3.
 */
#pragma once
#include "engine/relay/relay_private.h"

/* name: with its brackets. 0 and *destination is given, with a status that is not OK where mail cannot go
 * there; or -ENOMEM. */
int relay_literal(struct relay *relay, const struct conf_route *route, struct slice name,
                  struct destination **destination);
