#include "bench/scan.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

void scan_begin(struct scan *scan, void (*content)(void *owner, struct slice content), void *owner)
{
    *scan = (struct scan){.state = SCAN_LINE, .content = content, .owner = owner};
}

/* Where the next LF is that a dot or nothing more follows, or that no CR precedes; `size` when
 * there is none. Both neighbours are looked at in one pass: 0.1 us for 4 KiB, where a memchr a line
 * takes 0.8 us. */
static size_t find_notable_feed(const uint8_t *bytes, size_t from, size_t size)
{
    size_t at = from;
    if (at == 0 && bytes[at] != '\n') {
        at++;
    }
#ifdef __AVX2__
    const __m256i feed = _mm256_set1_epi8('\n'), dot = _mm256_set1_epi8('.'),
                  cr = _mm256_set1_epi8('\r');
    for (; at > 0 && at + 33 <= size; at += 32) {
        __m256i here = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + at));
        __m256i before = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + at - 1));
        __m256i after = _mm256_loadu_si256((const __m256i *)(const void *)(bytes + at + 1));
        __m256i odd =
            _mm256_or_si256(_mm256_cmpeq_epi8(after, dot),
                            _mm256_xor_si256(_mm256_cmpeq_epi8(before, cr), _mm256_set1_epi8(-1)));
        unsigned found =
            (unsigned)_mm256_movemask_epi8(_mm256_and_si256(_mm256_cmpeq_epi8(here, feed), odd));
        if (found != 0) {
            return at + (unsigned)__builtin_ctz(found);
        }
    }
#endif
    for (; at < size; at++) {
        if (bytes[at] == '\n' &&
            (at + 1 == size || bytes[at + 1] == '.' || at == 0 || bytes[at - 1] != '\r')) {
            return at;
        }
    }
    return size;
}

/* What a byte does to the state; the fast scan only skips bytes that lead back to SCAN_TEXT. */
static enum scan_state step(struct scan *scan, uint8_t byte)
{
    if (byte == '\n') {
        if (scan->state == SCAN_CR) {
            return SCAN_LINE;
        }
        scan->bare_lf_count++;
        return SCAN_TEXT;
    }
    return byte == '\r' ? SCAN_CR : SCAN_TEXT;
}

static void give(struct scan *scan, const uint8_t *from, const uint8_t *to)
{
    if (to > from) {
        scan->content(scan->owner, slice_of(from, (size_t)(to - from)));
    }
}

size_t scan_take(struct scan *scan, struct slice input, bool *ended)
{
    const uint8_t *bytes = input.bytes;
    size_t at = 0, given = 0; /* content before `given` has been passed on, or is no content */
    *ended = false;
    while (at < input.size) {
        switch (scan->state) {
        case SCAN_LINE:
            if (bytes[at] == '.') {
                give(scan, bytes + given, bytes + at);
                given = ++at;
                scan->state = SCAN_DOT;
            } else {
                scan->state = step(scan, bytes[at++]);
            }
            break;
        case SCAN_DOT:
            if (bytes[at] == '\r') {
                given = ++at;
                scan->state = SCAN_DOT_CR;
            } else {
                scan->state = step(scan, bytes[at++]);
            }
            break;
        case SCAN_DOT_CR:
            if (bytes[at] == '\n') {
                *ended = true;
                return at + 1;
            }
            scan->content(scan->owner, slice_of("\r", 1)); /* of the CR held back */
            scan->state = SCAN_CR;
            break;
        case SCAN_CR:
            scan->state = step(scan, bytes[at++]);
            break;
        case SCAN_TEXT: {
            size_t feed = find_notable_feed(bytes, at, input.size);
            if (feed == input.size) {
                scan->state = bytes[feed - 1] == '\r' ? SCAN_CR : SCAN_TEXT;
            } else {
                scan->state = feed > at && bytes[feed - 1] == '\r' ? SCAN_CR : SCAN_TEXT;
                scan->state = step(scan, '\n');
                feed++;
            }
            at = feed;
            break;
        }
        }
    }
    give(scan, bytes + given, bytes + at);
    return at;
}
