/* near: memory for millions of small things, and links between them. */
#include "engine/core/near.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct thing {
    uint32_t number, link;
    struct near_node node;
};

static void links_lead_back_and_none_is_zero(void **state)
{
    (void)state;
    struct near_heap heap;
    assert_int_equal(near_open(&heap), 0);
    struct thing *first = near_take(&heap, sizeof(*first)), *before = first;
    *first = (struct thing){0};
    for (uint32_t i = 1; i < 100000; i++) {
        struct thing *thing = near_take(&heap, sizeof(*thing));
        *thing = (struct thing){.number = i, .link = near_link(before)};
        assert_int_not_equal(thing->link, 0);
        before = thing;
    }
    for (uint32_t i = 99999; before != NULL; i--) {
        assert_int_equal(before->number, i);
        before = near_at(&before->link, before->link);
    }
    assert_int_equal(heap.memory_bytes, 100000 * sizeof(struct thing));
    near_close(&heap);
}

static void a_list_is_a_ring_in_both_directions(void **state)
{
    (void)state;
    struct near_heap heap;
    assert_int_equal(near_open(&heap), 0);
    struct thing *head = near_take(&heap, sizeof(*head)), *things[4];
    near_list_init(&head->node);
    assert_true(near_list_empty(&head->node));
    for (uint32_t i = 0; i < 4; i++) {
        things[i] = near_take(&heap, sizeof(*things[i]));
        near_list_init(&things[i]->node);
    }
    near_list_append(&head->node, &things[1]->node);
    near_list_append(&head->node, &things[2]->node);
    near_list_append(&head->node, &things[3]->node);
    near_list_prepend(&head->node, &things[0]->node);
    near_list_remove(&things[2]->node);
    near_list_remove(&things[2]->node); /* once more is harmless */
    assert_true(near_list_empty(&things[2]->node));
    assert_ptr_equal(near_next(&head->node), &things[0]->node);
    assert_ptr_equal(near_next(&things[0]->node), &things[1]->node);
    assert_ptr_equal(near_next(&things[1]->node), &things[3]->node);
    assert_ptr_equal(near_next(&things[3]->node), &head->node);
    assert_ptr_equal(near_prev(&head->node), &things[3]->node);
    assert_ptr_equal(near_prev(&things[3]->node), &things[1]->node);
    near_close(&heap);
}

static uint32_t draw(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33) % below;
}

/* Each is filled with its own byte, so that two that lie on each other are seen. */
static void objects_of_all_sizes_come_and_go_and_keep_what_is_in_them(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct near_heap heap;
    uint64_t random = 1;
    uint8_t **objects = calloc(COUNT, sizeof(*objects));
    uint16_t *sizes = calloc(COUNT, sizeof(*sizes));
    assert_int_equal(near_open(&heap), 0);
    for (uint32_t i = 0; i < 400000; i++) {
        uint32_t at = draw(&random, COUNT);
        if (objects[at] != NULL) {
            for (uint32_t byte = 0; byte < sizes[at]; byte++) {
                assert_int_equal(objects[at][byte], (uint8_t)at);
            }
            near_give(&heap, objects[at]);
            objects[at] = NULL;
            continue;
        }
        sizes[at] = (uint16_t)(1 + draw(&random, i % 16 == 0 ? NEAR_BYTES_MAX : 200));
        objects[at] = near_take(&heap, sizes[at]);
        assert_non_null(objects[at]);
        assert_int_equal((uintptr_t)objects[at] % NEAR_GRANULE_BYTES, 0);
        assert_true(near_size(objects[at]) >= sizes[at]);
        memset(objects[at], (uint8_t)at, sizes[at]);
    }
    for (uint32_t at = 0; at < COUNT; at++) {
        near_give(&heap, objects[at]);
    }
    assert_int_equal(heap.memory_bytes, 0);
    near_close(&heap);
    free(objects);
    free(sizes);
}

static void pages_that_are_empty_serve_another_size(void **state)
{
    (void)state;
    struct near_heap heap;
    void *objects[5000];
    assert_int_equal(near_open(&heap), 0);
    uint32_t most = 0;
    for (size_t bytes = 40; bytes < 140; bytes += 8) {
        for (uint32_t i = 0; i < 5000; i++) {
            objects[i] = near_take(&heap, bytes);
        }
        most = most == 0 ? heap.page_count + 20 : most;
        for (uint32_t i = 0; i < 5000; i++) {
            near_give(&heap, objects[i]);
        }
        assert_true(heap.page_count <= most);
    }
    near_close(&heap);
}

static void a_walk_finds_each_that_stays_once_while_others_come_and_go(void **state)
{
    (void)state;
    struct near_heap heap;
    struct thing *things[3000];
    uint8_t seen[3000] = {0};
    assert_int_equal(near_open(&heap), 0);
    for (uint32_t i = 0; i < 3000; i++) {
        things[i] = near_take(&heap, sizeof(*things[i]));
        things[i]->number = i;
        assert_non_null(near_take(&heap, 48)); /* of another size */
    }
    uint64_t cursor = 0;
    uint32_t gone = 0;
    for (struct thing *thing; (thing = near_each(&heap, sizeof(*thing), &cursor)) != NULL;) {
        seen[thing->number]++;
        if (thing->number % 3 == 0) {
            near_give(&heap, thing);
            gone++;
        }
    }
    for (uint32_t i = 0; i < 3000; i++) {
        assert_int_equal(seen[i], 1);
    }
    assert_null(near_each(&heap, sizeof(struct thing), &cursor));
    cursor = 0;
    uint32_t left = 0;
    while (near_each(&heap, sizeof(struct thing), &cursor) != NULL) {
        left++;
    }
    assert_int_equal(left, 3000 - gone);
    near_close(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_lead_back_and_none_is_zero),
        cmocka_unit_test(a_list_is_a_ring_in_both_directions),
        cmocka_unit_test(objects_of_all_sizes_come_and_go_and_keep_what_is_in_them),
        cmocka_unit_test(pages_that_are_empty_serve_another_size),
        cmocka_unit_test(a_walk_finds_each_that_stays_once_while_others_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
