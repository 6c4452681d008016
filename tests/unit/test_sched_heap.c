#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/heap.h"

#define COUNT 500

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

/* Walks a heap: every one is linked both ways and is not earlier than its parent. Returns how many there are. */
static unsigned walk(const struct sched_delivery *parent)
{
    unsigned count = 1;
    const struct sched_delivery *before = parent;
    for (const struct sched_delivery *child = near_at(parent, parent->heap.child); child != NULL;
         child = near_at(child, child->heap.next)) {
        assert_int_equal(child->heap.previous, near_link(before));
        assert_true(child->due_ns >= parent->due_ns);
        count += walk(child);
        before = child;
    }
    return count;
}

/* A plain array beside it knows what the heap should hold. */
struct model {
    struct sched_delivery deliveries[COUNT];
    uint8_t where[COUNT]; /* 0: nowhere, 1: heap a, 2: heap b */
    struct sched_heap a, b;
};

static void model_check(const struct model *model)
{
    for (unsigned which = 1; which <= 2; which++) {
        const struct sched_delivery *heap = which == 1 ? model->a.first : model->b.first;
        unsigned count = 0;
        uint64_t earliest = UINT64_MAX;
        for (unsigned i = 0; i < COUNT; i++) {
            if (model->where[i] == which) {
                count++;
                earliest =
                    model->deliveries[i].due_ns < earliest ? model->deliveries[i].due_ns : earliest;
            }
        }
        assert_int_equal(heap != NULL ? walk(heap) : 0, count);
        if (heap != NULL) {
            assert_int_equal(heap->heap.next, 0);
            assert_int_equal(heap->heap.previous, 0);
            assert_int_equal(heap->due_ns, earliest);
        }
    }
}

static void model_step(struct model *model)
{
    unsigned i = draw(COUNT), kind = draw(100);
    struct sched_delivery *delivery = &model->deliveries[i];
    struct sched_heap *heap = kind % 2 == 0 ? &model->a : &model->b;
    if (kind < 2) {
        sched_heap_merge(&model->a, &model->b);
        for (unsigned j = 0; j < COUNT; j++) {
            model->where[j] = model->where[j] != 0 ? 1 : 0;
        }
        assert_null(model->b.first);
    } else if (kind < 30 && heap->first != NULL) {
        model->where[heap->first - model->deliveries] = 0;
        sched_heap_remove_first(heap);
    } else if (model->where[i] == 0) {
        delivery->due_ns = draw(kind < 60 ? 10 : 1000000); /* many equal ones too */
        sched_heap_add(heap, delivery);
        model->where[i] = kind % 2 == 0 ? 1 : 2;
    } else if (delivery != model->a.first && delivery != model->b.first) {
        sched_heap_remove_inner(delivery);
        model->where[i] = 0;
    }
}

static void heap_agrees_with_an_array_whatever_is_done(void **state)
{
    (void)state;
    static struct model model;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        random_state = seed;
        memset(&model, 0, sizeof(model));
        for (unsigned step = 0; step < 3000; step++) {
            model_step(&model);
            if (step % 7 == 0) {
                model_check(&model);
            }
        }
        model_check(&model);
    }
}

static unsigned children_of_first(const struct sched_heap *heap)
{
    unsigned count = 0;
    for (const struct sched_delivery *child = near_at(heap->first, heap->first->heap.child);
         child != NULL; child = near_at(child, child->heap.next)) {
        count++;
    }
    return count;
}

static void a_million_come_out_in_order_and_no_removal_is_long(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    struct sched_delivery *deliveries = calloc(MANY, sizeof(*deliveries));
    assert_non_null(deliveries);
    static const char *const orders[] = {"rising", "falling", "random"};
    for (unsigned order = 0; order < sizeof(orders) / sizeof(orders[0]); order++) {
        struct sched_heap heap = {0};
        random_state = 5;
        for (unsigned i = 0; i < MANY; i++) {
            deliveries[i].due_ns = order == 0 ? i : order == 1 ? MANY - i : draw(UINT32_MAX);
            sched_heap_add(&heap, &deliveries[i]);
        }
        uint64_t before = 0;
        for (unsigned i = 0; i < MANY; i++) {
            assert_true(heap.first->due_ns >= before);
            assert_true(children_of_first(&heap) < 100);
            before = heap.first->due_ns;
            sched_heap_remove_first(&heap);
        }
        assert_null(heap.first);
    }
    free(deliveries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_agrees_with_an_array_whatever_is_done),
        cmocka_unit_test(a_million_come_out_in_order_and_no_removal_is_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
