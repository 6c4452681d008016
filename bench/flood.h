/*
 * flood: segments of TCP that no stack sends, at a steady rate, beside honest connections on the same port.
 *
 * For proving that a server under attack serves on. Sources are random addresses of 198.18.0.0/15 (RFC 2544: for
 * benchmarks) and random ports, so answers go to the target's gateway, which should be the asker's own address.
 * IPv4 only. Frames go straight to the port, past the asker's stack.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/core/world.h"
#include "engine/net/port.h"

enum flood_kind { FLOOD_NONE, FLOOD_SYN, FLOOD_ACK, FLOOD_RST, FLOOD_FIN };

struct flood_settings {
    enum flood_kind kind;
    uint32_t per_s;
    uint8_t mac[6]; /* of the target */
    struct endpoint to;
    struct port *port;        /* borrowed */
    struct rte_mempool *pool; /* borrowed */
    const struct world *world;
};

struct flood {
    struct flood_settings settings;
    uint64_t begun_ns, sent, lost; /* lost: the port's ring was full */
    uint64_t random;
};

void flood_open(struct flood *flood, const struct flood_settings *settings);
/* Sends what is due by now; a bounded piece of it. */
void flood_round(struct flood *flood, uint64_t now_ns);
