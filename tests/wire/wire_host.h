/*
 * wire_host: one stack on a port that carries IP packets, on a clock that the test moves.
 *
 * Below IP the host plays the whole network: each question for a neighbour is answered at once,
 * whoever is asked for, so that scripts see nothing of it. What the stack sends is kept, each packet
 * with the time at which it left; what it shall receive is put in as an IP packet.
 *
 * The stack is opened when its first address is known (wire_host_address); until then its settings
 * may be changed. Nothing here reads a clock: time passes in wire_host_step and wire_host_wait.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/stack_private.h"

#define WIRE_PACKET_BYTES 65536u
#define WIRE_FRAMES_MAX 4096u

struct wire_settings {
    struct stack_limits limits;
    enum stack_ecn ecn;
    uint32_t mtu;  /* of the port */
    uint64_t seed; /* of the world's random source */
};

/* The defaults: those of the stack, and an MTU of 1500. */
void wire_settings_default(struct wire_settings *settings);
/* "mtu=1400,keepalive_idle_ms=2000": names as in struct stack_limits, times in milliseconds with
 * _ms for _ns; ecn is a number of enum stack_ecn. NULL and "" change nothing. -EINVAL: *culprit is where it went wrong. */
int wire_settings_parse(struct wire_settings *settings, const char *text, const char **culprit);

struct wire_departure { /* a packet that the stack has sent */
    uint64_t sent_ns;
    uint32_t bytes;
    uint8_t *packet; /* owned by whoever takes it: free */
};

struct wire_host {
    struct wire_settings settings;
    struct world world;
    uint64_t now_ns;
    uint64_t random;
    struct port port;
    struct wheel *wheel;
    struct rte_mempool *pool, *arriving_pool;
    struct network *network; /* NULL: not open yet */
    struct stack *stack;
    struct rte_mbuf *arriving[WIRE_FRAMES_MAX];
    uint32_t arriving_count;
    struct wire_departure departures[WIRE_FRAMES_MAX];
    uint32_t departure_first, departure_count;
    /* After each round: what waited for it. True: it has done something, so there is another. */
    bool (*settled)(void *owner);
    void *owner;
};

/* The EAL and the pools. 0 or -errno. Once a process. */
int wire_host_open(struct wire_host *host, const struct wire_settings *settings);
void wire_host_close(struct wire_host *host);

/* The stack's own address: opens it, unless it is open. 0 or -errno. */
int wire_host_address(struct wire_host *host, const struct endpoint *address);
/* When no call has named one. */
int wire_host_default_address(struct wire_host *host, enum endpoint_family family);

/* An IP packet for the stack, which is told at once. */
void wire_host_send(struct wire_host *host, const void *packet, uint32_t bytes);
/* The oldest packet that has left and was not taken. False: none. */
bool wire_host_take(struct wire_host *host, struct wire_departure *departure);

/* All that can be done at this time. */
void wire_host_round(struct wire_host *host);
/* Time passes up to the next moment at which something may happen, at most to until_ns. */
void wire_host_step(struct wire_host *host, uint64_t until_ns);
void wire_host_wait(struct wire_host *host, uint64_t until_ns);
/* Nothing will happen until this time; WHEEL_NEVER: nothing at all. */
uint64_t wire_host_next_ns(const struct wire_host *host);
