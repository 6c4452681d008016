/*
 * histogram: how often each value was seen, log-linear: 64 steps an octave, so at most 1.6 % off.
 *
 * Recording is a few instructions and never allocates; 20 KiB each. Any 64-bit value is taken.
 */
#pragma once
#include <stdint.h>

#define HISTOGRAM_STEPS 64u
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 60u)

struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_add(struct histogram *to, const struct histogram *from);
/* The value that `share` (0..1) of all do not exceed, rounded up within a step; 0 when there are
 * none. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
