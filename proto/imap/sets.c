#include "proto/imap/sets.h"
#include <stdlib.h>

size_t imap_nz_number_read(struct slice text, uint32_t *number)
{
    uint64_t value = 0;
    size_t at = 0;
    while (at < text.size && text.bytes[at] >= '0' && text.bytes[at] <= '9') {
        value = value * 10 + (uint64_t)(text.bytes[at] - '0');
        if (value == 0 || value > UINT32_MAX) {
            return 0;
        }
        at++;
    }
    *number = (uint32_t)value;
    return at;
}

/* A number or '*', which is 0 here. Returns its bytes, 0: neither. */
static size_t seq_number_read(struct slice text, uint32_t *number)
{
    if (text.size > 0 && text.bytes[0] == '*') {
        *number = 0;
        return 1;
    }
    return imap_nz_number_read(text, number);
}

static void open_add(struct imap_set *set, uint32_t from)
{
    from = from == 0 ? UINT32_MAX : from;
    if (set->open_from == 0 || from < set->open_from) {
        set->open_from = from;
    }
}

/* One number or range, which goes to *range or is an open one. Returns its bytes; 0: bad. */
static size_t element_read(struct slice text, struct imap_set *set, struct imap_range *range)
{
    uint32_t first, last;
    size_t used = seq_number_read(text, &first);
    *range = (struct imap_range){0, 0};
    if (used == 0) {
        return 0;
    }
    last = first;
    if (used < text.size && text.bytes[used] == ':') {
        size_t more = seq_number_read(slice_from(text, used + 1), &last);
        if (more == 0) {
            return 0;
        }
        used += 1 + more;
    }
    uint32_t larger = first > last ? first : last;
    set->named_max = larger > set->named_max ? larger : set->named_max;
    if (first == 0 || last == 0) {
        open_add(set, first == 0 ? last : first);
    } else {
        *range = first < last ? (struct imap_range){first, last} : (struct imap_range){last, first};
    }
    return used;
}

static int range_compare(const void *a, const void *b)
{
    const struct imap_range *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* In order, and those that overlap or touch made one. */
static uint32_t ranges_merge(struct imap_range *ranges, uint32_t count)
{
    uint32_t kept = 0;
    bool sorted = true;
    for (uint32_t i = 1; i < count && sorted; i++) {
        sorted = ranges[i - 1].first <= ranges[i].first;
    }
    if (!sorted) {
        qsort(ranges, count, sizeof(*ranges), range_compare);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && (uint64_t)ranges[i].first <= (uint64_t)ranges[kept - 1].last + 1) {
            if (ranges[i].last > ranges[kept - 1].last) {
                ranges[kept - 1].last = ranges[i].last;
            }
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    return kept;
}

/* How many elements there can be: commas and one. */
static size_t elements_count(struct slice text)
{
    size_t count = 1;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == ',') {
            count++;
        } else if (byte != ':' && byte != '*' && (byte < '0' || byte > '9')) {
            break;
        }
    }
    return count;
}

enum imap_set_result imap_set_read(struct arena *arena, struct slice text, size_t *used,
                                   struct imap_set *set)
{
    *set = (struct imap_set){0};
    *used = 0;
    if (text.size > 0 && text.bytes[0] == '$') {
        set->saved = true;
        *used = 1;
        return IMAP_SET_GOOD;
    }
    struct imap_range *ranges = arena_take_array(arena, elements_count(text), sizeof(*ranges));
    if (ranges == NULL) {
        return IMAP_SET_MEMORY;
    }
    for (;;) {
        struct imap_range range;
        size_t bytes = element_read(slice_from(text, *used), set, &range);
        if (bytes == 0) {
            return IMAP_SET_BAD;
        }
        if (range.first != 0) {
            ranges[set->count++] = range;
        }
        *used += bytes;
        if (*used >= text.size || text.bytes[*used] != ',') {
            break;
        }
        (*used)++;
    }
    set->count = ranges_merge(ranges, set->count);
    set->ranges = ranges;
    return IMAP_SET_GOOD;
}

size_t imap_partial_read(struct slice text, struct imap_partial *partial)
{
    uint32_t numbers[2];
    size_t used = 0;
    bool from_end = text.size > 0 && text.bytes[0] == '-';
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            if (used >= text.size || text.bytes[used] != ':') {
                return 0;
            }
            used++;
        }
        if (from_end) {
            if (used >= text.size || text.bytes[used] != '-') {
                return 0;
            }
            used++;
        }
        size_t bytes = imap_nz_number_read(slice_from(text, used), &numbers[i]);
        if (bytes == 0) {
            return 0;
        }
        used += bytes;
    }
    bool swapped = numbers[0] > numbers[1];
    *partial = (struct imap_partial){from_end, numbers[swapped], numbers[!swapped]};
    return used;
}

bool imap_set_next(const struct imap_set *set, uint32_t largest, struct imap_set_walk *walk,
                   struct imap_range *range)
{
    uint32_t open_first = set->open_from > largest ? largest : set->open_from;
    if (largest == 0 || walk->last >= largest) {
        return false;
    }
    if (walk->index < set->count && set->ranges[walk->index].first <= largest) {
        *range = set->ranges[walk->index++];
        if (range->last > largest) {
            range->last = largest;
        }
        /* The open one begins in this one, or touches it: it takes all that is left. */
        if (open_first != 0 && open_first <= (uint64_t)range->last + 1) {
            range->first = open_first < range->first ? open_first : range->first;
            range->last = largest;
        }
        walk->last = range->last;
        return true;
    }
    if (open_first == 0) {
        return false;
    }
    *range = (struct imap_range){open_first, largest};
    walk->last = largest;
    return true;
}

bool imap_set_is_within(const struct imap_set *set, uint32_t count)
{
    return set->named_max <= count && (set->open_from == 0 || count > 0);
}

bool imap_set_contains(const struct imap_set *set, uint32_t number, uint32_t largest)
{
    uint32_t low = 0, high = set->count;
    if (number == 0 || number > largest) {
        return false;
    }
    if (set->open_from != 0 && (number >= set->open_from || number == largest)) {
        return true;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->ranges[middle].last < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < set->count && set->ranges[low].first <= number;
}

uint64_t imap_set_numbers(const struct imap_set *set, uint32_t largest)
{
    struct imap_set_walk walk = {0, 0};
    struct imap_range range;
    uint64_t numbers = 0;
    while (imap_set_next(set, largest, &walk, &range)) {
        numbers += (uint64_t)range.last - range.first + 1;
    }
    return numbers;
}
