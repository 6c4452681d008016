/*
 * report_queue: the answers about the queue as people read them: lists as mailq prints them, tables as qshape
 * does; and as programs that know `postqueue -j` do. Writes to a FILE; asks nothing.
 */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* A title before the first message, then each message and its recipients; those that wait for the same
 * reason stand together below it. */
struct queue_report {
    FILE *out;
    uint64_t message_count, bytes;
    char last_id[16];
};

void queue_report_message(struct queue_report *report, const json_t *message);
void queue_report_end(struct queue_report *report);
/* One line of JSON with the keys of postqueue(1) -j. */
void queue_report_json(FILE *out, const json_t *message);

/* One message with all that is known of it; `more`: further recipients of the same one. */
void message_report(FILE *out, const json_t *message);
void message_report_more(FILE *out, const json_t *message);

/* A line of a summary; the title comes with the first. */
struct summary_report {
    FILE *out;
    const char *by; /* "domain" */
    unsigned line_count;
};
void summary_report_line(struct summary_report *report, const json_t *row);

/* A job as a line of a table. */
struct jobs_report {
    FILE *out;
    unsigned line_count;
};
void jobs_report_line(struct jobs_report *report, const json_t *job);

#define REPORT_SPAN_BYTES 24
/* "45s", "12m", "3h05m", "4d02h" */
const char *report_span(uint64_t seconds, char text[REPORT_SPAN_BYTES]);
