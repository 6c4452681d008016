/*
 * tubepost_queue: what the files of `tubepost queue` share: the options, jobs, and suspensions.
 */
#pragma once
#include "engine/main/tubepost.h"

#define QUEUE_IDS_AT_ONCE 32 /* as engine/relay/queue_filter.h has it */

struct queue_options {
    char words[REQUEST_MAX]; /* of the filter and the order, each with a blank before it */
    size_t used;
    unsigned long limit;
    bool headers, body, background, filtered, list;
    const char *by;
};

/* Sends an order that is a job, and stays until it is over unless told otherwise. */
int queue_job(struct tool *tool, const char *verb, const struct queue_options *options);
/* suspend, resume, suspensions. */
int queue_suspend(struct tool *tool, const char *verb, const struct queue_options *options);
int queue_jobs(struct tool *tool);
int queue_cancel(struct tool *tool, const char *number);
