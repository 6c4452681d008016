/*
 * relay_fake: a relay on the tests' network, for who sends mail: takes each message, or answers as it is told.
 *
 * Commands come in lines, whole or pipelined; the text of a message is kept as it came over the wire.
 */
#pragma once
#include "engine/stream.h"

#define RELAY_FAKE_BYTES 65536u

struct relay_fake {
    struct network *network;
    struct listener *listener;
    struct list_node sessions;
    /* The answer to what begins so; NULL: as usual. "." is the end of a message. "": none, the connection is cut. */
    const char *verb, *answer;
    unsigned connections, messages;
    /* Of each message taken: "FROM <a> TO <b>\n" and its text. */
    char taken[RELAY_FAKE_BYTES];
    size_t taken_bytes;
};

extern const struct endpoint relay_fake_address;

void relay_fake_open(struct relay_fake *relay, struct network *network);
void relay_fake_close(struct relay_fake *relay);
