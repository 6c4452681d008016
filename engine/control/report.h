/*
 * report: the answers of the control socket as people read them. Writes to a FILE; asks nothing.
 */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* A queue as mailq prints it: a title before the first message, a line for each message and each
 * recipient. */
struct queue_report {
    FILE *out;
    uint64_t message_count, bytes;
};

void queue_report_message(struct queue_report *report, const json_t *message);
void queue_report_end(struct queue_report *report);

/* One message with all that is known of it. */
void message_report(FILE *out, const json_t *message);

/* Two samples taken `seconds` apart; earlier NULL: no rates. */
void status_report(FILE *out, const json_t *status, const json_t *earlier, double seconds);

#define REPORT_SIZE_BYTES 16
const char *report_size(uint64_t bytes, char text[REPORT_SIZE_BYTES]); /* "512", "4.2K", "64M" */
