/*
 * relay_control_net: what a shard's own stack answers to `net ...` on the control socket.
 *
 * Lists are asked for page by page, each of one port's stack on one shard: the cursor
 * "SHARD.PORT.POSITION" goes through the ports of the shards in turn. A page is small, so that a shard is not kept from its traffic.
 */
#pragma once
#include "engine/control/control.h"
#include "engine/net/stack_facts.h"
#include "engine/relay/worker.h"

#define NET_PAGE_MAX 32u /* connections; a trace is a page of its own */
#define NET_CURSOR_MAX 32u

struct net_question {
    enum control_verb verb;
    unsigned shard; /* that is asked */
    unsigned port;  /* of its stacks */
    uint32_t position;
    uint32_t limit;
    struct tcp_facts_filter filter;
    bool live; /* traces of connections that are there, not of the archive */
};

/* 0 or -EINVAL: the cursor or a word makes no sense. */
int net_question_read(struct net_question *question, const struct control_request *request,
                      unsigned shard_count, unsigned port_count);
/* On the shard that is asked: an array of lines, the caller's; the position moves. NULL: no memory. */
json_t *net_question_answer(struct net_question *question, struct worker *worker);
/* The cursor of the next page. False: that was all. */
bool net_question_next(const struct net_question *question, unsigned shard_count,
                       unsigned port_count, char cursor[NET_CURSOR_MAX]);

/* {"shard":{...},"counters":{...}} of one shard, counters by their MIB names, of all ports together. */
json_t *net_counters_answer(struct worker *worker);
