/*
 * report: the answers of the control socket as people read them. Writes to a FILE; asks nothing.
 */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Two samples taken `seconds` apart; earlier NULL: no rates. */
void status_report(FILE *out, const json_t *status, const json_t *earlier, double seconds);

/* In Prometheus' text format (exposition format 0.0.4): counters.log.records is PREFIX_log_records_total. */
void status_prometheus(FILE *out, const char *prefix, const json_t *status);

#define REPORT_SIZE_BYTES 16
const char *report_size(uint64_t bytes, char text[REPORT_SIZE_BYTES]); /* "512", "4.2K", "64M" */
