/*
 * relay_control_private: what the parts of relay_control share. Nobody else includes it.
 *
 * relay_control.c          asks the shards, and knows who answers what
 * relay_control_status.c   status
 * relay_control_queue.c    queue ...: list, show, and who answers the rest
 * relay_control_body.c     queue body
 * relay_control_summary.c  queue summary
 * relay_control_jobs.c     queue hold|release|flush|delete|bounce|reroute|jobs|job|cancel
 * relay_control_suspend.c  queue suspend|resume|suspensions
 * relay_control_reroute.c  what comes before the job of a queue reroute
 * relay_control_orders.c   what of it outlives the process
 * relay_control_tls.c      tls report
 * relay_control_resolve.c  resolve
 */
#pragma once
#include "engine/core/check.h"
#include "engine/relay/queue_order.h"
#include "engine/relay/queue_walk.h"
#include "engine/relay/relay.h"
#include "engine/relay/relay_capture.h"
#include "engine/relay/relay_control.h"
#include "engine/relay/relay_control_net.h"
#include "engine/relay/relay_queue.h"

struct relay_control {
    struct relay_control_settings settings;
    struct control *control;
    struct relay_capture *capture; /* under way, or NULL */
    struct list_node lookups;      /* of resolve, under way */
    uint64_t opened_ns;
    struct list_node jobs; /* oldest first; see relay_control_jobs.c */
    uint32_t job_count, job_number;
    struct operator_orders orders;  /* as the file has them */
    struct orders_writing *writing; /* on its way to the file; NULL: none */
    struct list_node changes;       /* that wait for it */
};

/* ---- To a shard and back ---- */

/* Goes to a shard, stays as long as it likes, and comes back. A relay that ends waits for it. */
struct visit {
    struct shard_message message;
    struct worker *home, *worker;
    void (*there)(struct visit *visit); /* on the shard; visit_return follows, now or later */
    void (*back)(struct visit *visit);  /* at home */
};
/* Set `there` and `back` before. */
void visit_begin(struct visit *visit, struct relay_control *control, unsigned shard);
void visit_return(struct visit *visit);
static inline struct relay *visit_relay(const struct visit *visit)
{
    return worker_relay(visit->worker);
}

/* ---- Questions of all shards ---- */

/* One shard's share of a question. Travels there and back. */
struct share {
    struct shard_message message;
    struct question *question;
    struct worker *worker;
    int status;
    json_t *answer;
};

struct question {
    struct relay_control *control;
    struct control_request *request;
    struct net_question net;
    unsigned pending;
    unsigned share_count;
    struct share shares[];
};

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

/* ---- queue ... ---- */

void queue_ask(struct relay_control *control, struct control_request *request);
/* The order is given; it comes from malloc. */
void queue_body_ask(struct relay_control *control, struct control_request *request,
                    struct queue_order *order);
void queue_summary_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order);
bool queue_job_fits(const struct relay_control *control); /* another job */
void queue_job_begin(struct relay_control *control, struct control_request *request,
                     struct queue_order *order);
void queue_reroute_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order);
void queue_suspend_ask(struct relay_control *control, struct control_request *request,
                       struct queue_order *order);
void queue_suspensions_answer(struct relay_control *control, struct control_request *request);
/* Borrows the order: jobs, job, cancel. */
void queue_jobs_answer(struct relay_control *control, struct control_request *request,
                       const struct queue_order *order);
void queue_order_give(struct queue_order *order); /* frees it */

/* ---- What outlives the process ---- */

struct orders_change {
    struct list_node node;
    /* Changes a copy. 0, or -errno: nothing is written then, and `done` hears it. */
    int (*apply)(struct orders_change *change, struct operator_orders *orders);
    /* 0: durable, to be made true on the shards. Runs once, at home. */
    void (*done)(struct orders_change *change, int status);
};
void orders_change(struct relay_control *control, struct orders_change *change);
bool orders_quiet(const struct relay_control *control);
/* The code and the words of an answer. */
const char *orders_refusal(int status, const char **text);
/* At the end: no job is under way; and they are forgotten. */
bool queue_jobs_quiet(const struct relay_control *control);
void queue_jobs_close(struct relay_control *control);
