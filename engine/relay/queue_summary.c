#include "engine/relay/queue_summary.h"
#include <errno.h>
#include <stdlib.h>

#define PLACES_FIRST 64u
#define ROWS_FIRST 32u

int queue_summary_open(struct queue_summary *summary)
{
    *summary = (struct queue_summary){.place_count = PLACES_FIRST, .row_room = ROWS_FIRST};
    summary->places = calloc(PLACES_FIRST, sizeof(*summary->places));
    summary->rows = calloc(ROWS_FIRST, sizeof(*summary->rows));
    if (summary->places == NULL || summary->rows == NULL) {
        queue_summary_close(summary);
        return -ENOMEM;
    }
    return 0;
}

void queue_summary_close(struct queue_summary *summary)
{
    for (uint32_t i = 0; summary->rows != NULL && i < summary->row_count; i++) {
        free(summary->rows[i].name);
    }
    free(summary->rows);
    free(summary->places);
    *summary = (struct queue_summary){0};
}

/* FNV-1a. A peer that chooses names to collide makes one report slow, and no more than by
 * QUEUE_SUMMARY_NAMES_MAX steps a name. */
static uint32_t hash_of(struct slice name)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.size; i++) {
        hash = (hash ^ slice_lower(name.bytes[i])) * 16777619u;
    }
    return hash;
}

/* Where the index of this name is, or the empty place for it. */
static uint32_t *place_of(const struct queue_summary *summary, struct slice name)
{
    uint32_t mask = summary->place_count - 1;
    uint32_t at = hash_of(name) & mask;
    while (summary->places[at] != 0 &&
           !slice_equal_nocase(slice_text(summary->rows[summary->places[at] - 1].name), name)) {
        at = (at + 1) & mask;
    }
    return &summary->places[at];
}

/* Twice the places. False: memory is short. */
static bool places_grow(struct queue_summary *summary)
{
    uint32_t *before = summary->places;
    uint32_t *grown = calloc(2 * (size_t)summary->place_count, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    summary->places = grown;
    summary->place_count *= 2;
    for (uint32_t i = 0; i < summary->row_count; i++) {
        *place_of(summary, slice_text(summary->rows[i].name)) = i + 1;
    }
    free(before);
    return true;
}

static bool rows_grow(struct queue_summary *summary)
{
    struct queue_summary_row *grown =
        realloc(summary->rows, 2 * (size_t)summary->row_room * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    summary->rows = grown;
    summary->row_room *= 2;
    return true;
}

/* The row of a name; that of all others when there is no room for it. */
static struct queue_summary_row *row_of(struct queue_summary *summary, struct slice name)
{
    name = slice_first(name, QUEUE_SUMMARY_NAME_MAX);
    uint32_t *place = place_of(summary, name);
    if (*place != 0) {
        return &summary->rows[*place - 1];
    }
    if (summary->row_count == QUEUE_SUMMARY_NAMES_MAX ||
        (summary->row_count == summary->row_room && !rows_grow(summary)) ||
        (2 * summary->row_count >= summary->place_count && !places_grow(summary))) {
        return &summary->others;
    }
    char *text = malloc(name.size + 1);
    if (text == NULL) {
        return &summary->others;
    }
    if (name.size > 0) {
        memcpy(text, name.bytes, name.size);
    }
    text[name.size] = '\0';
    struct queue_summary_row *row = &summary->rows[summary->row_count++];
    *row = (struct queue_summary_row){.name = text};
    *place_of(summary, name) = summary->row_count;
    return row;
}

static unsigned age_class(uint64_t age_s)
{
    unsigned class = 0;
    for (uint64_t minutes = 5; class + 1 < QUEUE_SUMMARY_AGES && age_s >= minutes * 60;
         minutes *= 2) {
        class ++;
    }
    return class;
}

static void row_add(struct queue_summary_row *row, uint64_t age_s, uint64_t count)
{
    row->count += count;
    row->ages[age_class(age_s)] += count;
    row->oldest_s = age_s > row->oldest_s ? age_s : row->oldest_s;
}

void queue_summary_add(struct queue_summary *summary, struct slice name, uint64_t age_s,
                       uint64_t count)
{
    row_add(row_of(summary, name), age_s, count);
    row_add(&summary->total, age_s, count);
}

static void row_merge(struct queue_summary_row *into, const struct queue_summary_row *from)
{
    into->count += from->count;
    for (unsigned i = 0; i < QUEUE_SUMMARY_AGES; i++) {
        into->ages[i] += from->ages[i];
    }
    into->oldest_s = from->oldest_s > into->oldest_s ? from->oldest_s : into->oldest_s;
}

void queue_summary_merge(struct queue_summary *into, const struct queue_summary *from)
{
    for (uint32_t i = 0; i < from->row_count; i++) {
        row_merge(row_of(into, slice_text(from->rows[i].name)), &from->rows[i]);
    }
    row_merge(&into->others, &from->others);
    row_merge(&into->total, &from->total);
}

static int most_first(const void *left, const void *right)
{
    const struct queue_summary_row *a = left, *b = right;
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    return strcmp(a->name, b->name);
}

void queue_summary_sort(struct queue_summary *summary)
{
    qsort(summary->rows, summary->row_count, sizeof(*summary->rows), most_first);
}
