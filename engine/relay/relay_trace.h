/*
 * relay_trace: the Received field of a message that a session takes, from what is known of its client.
 */
#pragma once
#include "engine/stream.h"
#include "proto/smtp/received.h"
#include "proto/smtp/server.h"

/* known: its hostname, id, forward-path and time; the rest is filled in. Returns the length. */
size_t relay_trace_format(const struct smtp_server *server, const struct stream_facts *client,
                          const struct smtp_received *known, char line[SMTP_RECEIVED_MAX]);
