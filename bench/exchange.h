/*
 * exchange: the plainest work for a transport, without any mail: who asks and who answers.
 *
 *   chat   each connection sends a request and waits for the reply, again and again
 *   brief  connect, one request, one reply, close: the answerer closes first, as a mail server does after QUIT
 *   bulk   each connection sends as fast as the transport takes it; the answerer only reads
 *
 * Both ends know the sizes from their settings; contents are not looked at (the transfer tests do that).
 * An asker ends by itself when its time is over.
 */
#pragma once
#include "bench/histogram.h"
#include "bench/letter.h"
#include "engine/core/world.h"
#include "engine/stream.h"

#define EXCHANGE_BYTES_MAX 16384u /* of a request or a reply: goes out in one write */

enum exchange_kind { EXCHANGE_CHAT, EXCHANGE_BRIEF, EXCHANGE_BULK };

struct exchange_settings {
    enum exchange_kind kind;
    struct endpoint at; /* to connect to, or to listen at */
    uint32_t request_bytes, reply_bytes;
    uint32_t connections; /* of an asker */
    double seconds, warmup_s;
    struct letter_memory memory; /* where bulk bytes are to lie */
};

struct exchange_counters {
    uint64_t exchanges; /* replies that were read whole, or were sent */
    uint64_t bytes;     /* bulk: taken by the transport, or read */
    uint64_t connections, failed;
    uint64_t measured, measured_bytes; /* after the warm-up */
};

struct asker;
/* 0 or -ENOMEM. Connections begin with the first round. Owned until asker_close; the rest outlives it. */
int asker_open(struct asker **asker, struct network *network, const struct world *world,
               const struct exchange_settings *settings);
/* Once a round, after poll. False: its time is over. */
bool asker_round(struct asker *asker, uint64_t now_ns);
void asker_close(struct asker *asker);
const struct exchange_counters *asker_counters(const struct asker *asker);
const struct histogram *asker_latency(const struct asker *asker); /* of an exchange, in ns */
double asker_measured_s(const struct asker *asker);

struct answerer;
/* 0, -ENOMEM, or why it cannot listen. */
int answerer_open(struct answerer **answerer, struct network *network,
                  const struct exchange_settings *settings);
void answerer_close(struct answerer *answerer);
const struct exchange_counters *answerer_counters(const struct answerer *answerer);
