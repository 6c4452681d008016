/*
 * report: what a run came to, gathered once and printed as a table or as one JSON object.
 */
#pragma once
#include "bench/histogram.h"
#include <stdbool.h>

struct report;

struct report *report_open(void); /* owned until report_print */
void report_text(struct report *report, const char *name, const char *text);
void report_count(struct report *report, const char *name, uint64_t count);
void report_number(struct report *report, const char *name, double number);
/* p50, p90, p99, p99.9 and max in microseconds. */
void report_latency(struct report *report, const char *name, const struct histogram *histogram);
/* To standard output; frees the report. */
void report_print(struct report *report, bool as_json);
