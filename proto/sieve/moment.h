/*
 * moment: dates as header fields have them, and their parts as the date tests want them.
 *
 * Source: RFC 5322 §3.3, §4.3; RFC 5260 §4.2.
 */
#pragma once
#include "engine/core/slice.h"

struct sieve_moment {
    int64_t utc_s;        /* since 1970 */
    int32_t zone_minutes; /* east of UTC */
};

/* A date-time of RFC 5322, also with obsolete zones and years. False: it is none. */
bool sieve_moment_read(struct slice text, struct sieve_moment *moment);
/* "+0130". */
bool sieve_zone_read(struct slice text, int32_t *minutes);

#define SIEVE_MOMENT_PART_BYTES 64
/* "year", "iso8601" and so on, whatever their case; the length. 0: there is no such part. */
size_t sieve_moment_part(const struct sieve_moment *moment, struct slice part,
                         char room[SIEVE_MOMENT_PART_BYTES]);
