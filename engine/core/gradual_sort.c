#include "engine/core/gradual_sort.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUN 16u /* sorted at once, to begin with */

int gradual_sort_open(struct gradual_sort *sort, void *items, size_t count, size_t size,
                      int (*order)(const void *a, const void *b, void *owner), void *owner)
{
    check(size > 0 && size <= GRADUAL_SORT_ITEM_MAX);
    *sort = (struct gradual_sort){
        .items = (uint8_t *)items, .count = count, .size = size, .order = order, .owner = owner};
    if (count > RUN) {
        sort->room = count <= SIZE_MAX / size ? (uint8_t *)malloc(count * size) : NULL;
        return sort->room != NULL ? 0 : -ENOMEM;
    }
    return 0;
}

void gradual_sort_close(struct gradual_sort *sort)
{
    free(sort->room);
    sort->room = NULL;
}

/* A run, in place, by insertion. */
static void run_sort(struct gradual_sort *sort, size_t from, size_t count)
{
    uint8_t held[GRADUAL_SORT_ITEM_MAX], *first = sort->items + from * sort->size;
    size_t size = sort->size;
    for (size_t i = 1; i < count; i++) {
        size_t place = i;
        while (place > 0 &&
               sort->order(first + (place - 1) * size, first + i * size, sort->owner) > 0) {
            place--;
        }
        if (place < i) {
            memcpy(held, first + i * size, size);
            memmove(first + (place + 1) * size, first + place * size, (i - place) * size);
            memcpy(first + place * size, held, size);
        }
    }
}

/* Both runs of the next merge, from sort->out on; the second may be short or empty. */
static void merge_begin(struct gradual_sort *sort)
{
    size_t left = sort->count - sort->out;
    size_t first = left < sort->width ? left : sort->width;
    size_t second = left - first < sort->width ? left - first : sort->width;
    sort->left = sort->out;
    sort->left_end = sort->right = sort->left + first;
    sort->right_end = sort->right + second;
}

static void move(struct gradual_sort *sort, const uint8_t *from, size_t at, size_t count)
{
    uint8_t *to = sort->in_room ? sort->items : sort->room;
    memcpy(to + sort->out * sort->size, from + at * sort->size, count * sort->size);
    sort->out += count;
}

/* At most *steps of one side, whose other side has nothing, or nothing that comes before. */
static void side_move(struct gradual_sort *sort, const uint8_t *from, size_t *at, size_t end,
                      size_t *steps)
{
    size_t count = end - *at < *steps ? end - *at : *steps;
    move(sort, from, *at, count);
    *at += count;
    *steps -= count;
}

static void merge_some(struct gradual_sort *sort, size_t *steps)
{
    const uint8_t *from = sort->in_room ? sort->room : sort->items;
    size_t size = sort->size;
    if (sort->left < sort->left_end && sort->right < sort->right_end &&
        sort->order(from + (sort->left_end - 1) * size, from + sort->right * size, sort->owner) <=
            0) {
        side_move(sort, from, &sort->left, sort->left_end, steps); /* they lie in order */
        return;
    }
    while (*steps > 0 && sort->left < sort->left_end && sort->right < sort->right_end) {
        bool right_first =
            sort->order(from + sort->right * size, from + sort->left * size, sort->owner) < 0;
        size_t *at = right_first ? &sort->right : &sort->left;
        move(sort, from, (*at)++, 1);
        --*steps;
    }
    if (sort->left == sort->left_end) {
        side_move(sort, from, &sort->right, sort->right_end, steps);
    } else if (sort->right == sort->right_end) {
        side_move(sort, from, &sort->left, sort->left_end, steps);
    }
}

/* The runs to begin with. True: all are sorted. */
static bool runs_make(struct gradual_sort *sort, size_t *steps)
{
    while (sort->out<sort->count && * steps> 0) {
        size_t left = sort->count - sort->out, some = left < RUN ? left : RUN;
        run_sort(sort, sort->out, some);
        sort->out += some;
        *steps -= some < *steps ? some : *steps;
    }
    return sort->out == sort->count;
}

static void pass_begin(struct gradual_sort *sort)
{
    sort->out = sort->left = sort->left_end = sort->right = sort->right_end = 0;
}

bool gradual_sort_step(struct gradual_sort *sort, size_t *steps)
{
    if (sort->width == 0) {
        if (!runs_make(sort, steps)) {
            return false;
        }
        sort->width = RUN;
        pass_begin(sort);
    }
    while (sort->width<sort->count && * steps> 0) {
        if (sort->out == sort->count) {
            sort->width *= 2;
            sort->in_room = !sort->in_room;
            pass_begin(sort);
        } else if (sort->left == sort->left_end && sort->right == sort->right_end) {
            merge_begin(sort);
        } else {
            merge_some(sort, steps);
        }
    }
    if (sort->width < sort->count) {
        return false;
    }
    if (sort->in_room) { /* once more, to where they were given */
        size_t some = sort->count - sort->out;
        some = some < *steps ? some : *steps;
        memcpy(sort->items + sort->out * sort->size, sort->room + sort->out * sort->size,
               some * sort->size);
        sort->out += some;
        *steps -= some;
        return sort->out == sort->count;
    }
    return true;
}
