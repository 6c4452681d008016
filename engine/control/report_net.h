/*
 * report_net: what the control socket tells of the stack, as `ss -ti`, `ip neigh`, `ip route` and
 * `nstat` would print it. Writes to a FILE; asks nothing. Each takes one line of an answer.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct net_report {
    FILE *out;
    bool titled; /* the line above a list is written */
    bool zeros;  /* counters that are 0 too */
};

void net_report_connection(struct net_report *report, const json_t *line);
void net_report_neighbor(struct net_report *report, const json_t *line);
void net_report_route(struct net_report *report, const json_t *line);
void net_report_trace(struct net_report *report, const json_t *line);
/* A shard, or the counters of all. */
void net_report_counters(struct net_report *report, const json_t *line);
