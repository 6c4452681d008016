/*
 * queue_summary: how much waits for whom, and since when: counts by name, with ages, as qshape has them.
 *
 * Filled on each shard by a walk, then merged. Bounded: of QUEUE_SUMMARY_NAMES_MAX names at most; what comes
 * for others then is counted as a whole. A walk meets messages in no order, so names with many come early and
 * are not among those.
 */
#pragma once
#include "engine/core/slice.h"

#define QUEUE_SUMMARY_NAMES_MAX 16384u
#define QUEUE_SUMMARY_NAME_MAX 320u
#define QUEUE_SUMMARY_AGES 10u /* below 5, 10, 20, ... 1280 minutes, and above */

struct queue_summary_row {
    char *name;
    uint64_t count; /* recipients */
    uint64_t ages[QUEUE_SUMMARY_AGES];
    uint64_t oldest_s;
};

struct queue_summary {
    struct queue_summary_row *rows; /* in the order in which they came */
    uint32_t row_count, row_room;
    uint32_t *places;                       /* a hash table of indexes + 1 */
    uint32_t place_count;                   /* a power of two */
    struct queue_summary_row total, others; /* without a name */
};

/* 0 or -ENOMEM. */
int queue_summary_open(struct queue_summary *summary);
void queue_summary_close(struct queue_summary *summary);

void queue_summary_add(struct queue_summary *summary, struct slice name, uint64_t age_s,
                       uint64_t count);
void queue_summary_merge(struct queue_summary *into, const struct queue_summary *from);
/* The rows with most come first; equal ones by name. Nothing may be added afterwards. */
void queue_summary_sort(struct queue_summary *summary);
