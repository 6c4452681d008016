/*
 * relay_control: answers the operator's questions (engine/control) for all shards.
 *
 * Lives on shard 0. A question is sent to every shard that it concerns, each answers from its own spool and
 * scheduler, and the last answer that comes in completes the reply.
 */
#pragma once
#include "engine/control/control.h"
#include "engine/relay/operator_file.h"
#include "engine/relay/operator_orders.h"
#include "engine/relay/worker.h"

struct helpers;
struct relay_control;

struct relay_control_settings {
    struct worker **workers; /* all of the process, in the order of their shards; borrowed */
    unsigned worker_count;
    const char *hostname;    /* borrowed */
    struct network *network; /* of shard 0 */
    struct endpoint at;
    uint32_t unix_mode;
    const struct operator_orders *orders;      /* of former lives; copied */
    const struct operator_file *operator_file; /* where what is said now is kept; borrowed */
    struct helpers *helpers;                   /* who write it; borrowed */
};

/* 0 or -errno. Owned by the caller. */
int relay_control_open(struct relay_control **control,
                       const struct relay_control_settings *settings);
/* No further question is taken. NULL is fine. */
void relay_control_rest(struct relay_control *control);
/* No question is under way any more? */
bool relay_control_quiet(const struct relay_control *control);
void relay_control_close(struct relay_control *control);
