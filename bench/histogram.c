#include "bench/histogram.h"
#include <string.h>

#define STEP_BITS 6u

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

/* Below HISTOGRAM_STEPS a value is its own bucket; above, the top 7 bits choose it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) {
        return (unsigned)value;
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
    return octave * HISTOGRAM_STEPS + (unsigned)(value >> octave);
}

static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned octave = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return ((step + 1) << octave) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->bucket[bucket_of(value)]++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->max = from->max > to->max ? from->max : to->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        to->bucket[i] += from->bucket[i];
    }
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.999999);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && histogram->count > 0; i++) {
        seen += histogram->bucket[i];
        if (seen >= wanted && seen > 0) {
            return bucket_top(i) < histogram->max ? bucket_top(i) : histogram->max;
        }
    }
    return histogram->max;
}
