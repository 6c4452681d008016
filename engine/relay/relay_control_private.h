/*
 * relay_control_private: what the parts of relay_control share. Nobody else includes it.
 *
 * relay_control.c         asks the shards, and knows who answers what
 * relay_control_queue.c   queue ...
 * relay_control_status.c  status
 * relay_control_tls.c     tls report
 * relay_control_resolve.c resolve
 */
#pragma once
#include "engine/relay/relay.h"
#include "engine/relay/relay_capture.h"
#include "engine/relay/relay_control.h"
#include "engine/relay/relay_control_net.h"

struct relay_control {
    struct relay_control_settings settings;
    struct control *control;
    struct relay_capture *capture; /* under way, or NULL */
    struct list_node lookups;      /* of resolve, under way */
    uint64_t opened_ns;
};

/* One shard's share of a question. Travels there and back. */
struct share {
    struct shard_message message;
    struct question *question;
    struct worker *worker;
    int status;
    json_t *answer; /* list: an array in the order of ids; show: the message; status: the numbers */
    bool more;      /* list: there are more than `limit` */
    uint64_t count; /* flush */
};

struct question {
    struct relay_control *control;
    struct control_request *request;
    uint64_t id; /* show, delete, flush of one; list: what lies behind it */
    uint32_t limit;
    struct net_question net;
    unsigned pending;
    unsigned share_count;
    struct share shares[];
};

/* queue ...: on each shard, then on shard 0. */
void queue_share_answer(struct share *share);
void queue_finish(struct question *question);

/* tls report, on each shard; then put together. */
void tls_share_answer(struct share *share);
void tls_finish(struct question *question);

/* resolve: on shard 0, answered later. */
void resolve_ask(struct relay_control *control, struct control_request *request);
void resolve_end_all(struct relay_control *control);

/* status, on each shard; then the sums. */
void status_share_answer(struct share *share);
void status_finish(struct question *question);
/* Adds the numbers of `from`, nested as they are; of a largest one the larger stays. */
void status_add_numbers(json_t *into, const json_t *from);
