/* queue_walk and spool_walk: over the whole queue, a piece a round, while it changes; holds in the spool. */
#include "engine/relay/queue_walk.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static uint64_t clock_ns, clock_step_ns;

static uint64_t now_ns(void *self)
{
    (void)self;
    return clock_ns += clock_step_ns;
}

static int64_t wall_s(void *self)
{
    (void)self;
    return 1000000;
}

static const struct world world = {.now_ns = now_ns, .wall_s = wall_s};

struct walker {
    struct post *post;
    struct queue_walk walk;
    uint32_t seen[LETTERS_MAX]; /* by the order of posting: recipients */
    uint32_t group_count, over_count;
    bool deletes, stands;
};

static struct letter *letter_of(struct post *post, uint64_t id)
{
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].id == id && post->letters[i].fate == LETTER_ACCEPTED) {
            return &post->letters[i];
        }
    }
    fail_msg("a message that nobody knows");
    return NULL;
}

static void walker_act(void *owner, const struct queue_group *group)
{
    struct walker *walker = owner;
    struct letter *letter = letter_of(walker->post, group->message->id);
    walker->seen[letter - walker->post->letters] += group->count;
    walker->group_count++;
    if (walker->deletes) {
        struct message *message = group->message;
        spool_message_hold(message);
        for (uint32_t i = 0; i < group->count; i++) {
            letter_finish(walker->post, letter, group->indexes[i]);
        }
        spool_message_release(walker->post->spool, message);
    }
}

static void walker_facts(void *owner, const struct message *message, uint32_t from, uint32_t count,
                         struct queue_facts *facts)
{
    (void)owner;
    (void)message;
    for (uint32_t i = 0; i < count; i++) {
        facts[i].deferred = (from + i) % 2 == 1;
    }
}

static bool walker_ready(void *owner)
{
    return !((struct walker *)owner)->stands;
}

static void walker_over(void *owner)
{
    ((struct walker *)owner)->over_count++;
}

static const struct queue_walk_ops ops = {
    .facts = walker_facts, .act = walker_act, .ready = walker_ready, .over = walker_over};

static struct walker *walker_start(struct post *post, struct queue_walks *walks,
                                   const struct queue_filter *filter)
{
    struct walker *walker = calloc(1, sizeof(*walker));
    assert_non_null(walker);
    walker->post = post;
    walker->walk.filter = filter;
    walker->walk.ops = &ops;
    walker->walk.owner = walker;
    assert_int_equal(queue_walk_start(walks, &walker->walk), 0);
    return walker;
}

static struct post *post_with(uint32_t count, uint32_t recipients)
{
    struct post *post = post_open(1);
    post_start(post);
    for (uint32_t i = 0; i < count; i++) {
        letter_post(post, 10, recipients);
    }
    post_settle(post);
    clock_step_ns = 0;
    return post;
}

static void everything_is_seen_once_in_pieces_that_are_small(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(5000, 2);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    unsigned rounds = 0;
    while (walker->over_count == 0) {
        unsigned steps = queue_walks_round(&walks);
        assert_true(steps > 0 && steps <= QUEUE_WALK_STEPS + 3);
        rounds++;
    }
    /* a step for each bucket, message and recipient */
    assert_true(rounds >= (5000 + 2 * 5000) / (QUEUE_WALK_STEPS + 3));
    assert_int_equal(queue_walks_round(&walks), 0);
    assert_int_equal(walker->over_count, 1);
    assert_true(walker->walk.ended);
    assert_int_equal(walker->walk.counts.looked, 5000);
    assert_int_equal(walker->walk.counts.matched, 10000);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(walker->seen[i], 2);
    }
    free(walker);
    post_close(post);
}

/* The table grows from 1024 buckets to 8192 under the walk, and half of the old messages go. */
static void what_comes_and_goes_meanwhile_is_seen_once_at_most(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(900, 1);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    bool gone[LETTERS_MAX] = {false};
    uint32_t last = 0;
    while (walker->over_count == 0) {
        queue_walks_round(&walks);
        for (int i = 0; i < 700 && post->count < 5000; i++) {
            letter_post(post, 10, 1);
        }
        post_settle(post);
        for (int i = 0; i < 90 && last < 900; i++, last += 2) {
            if (walker->seen[last] == 0) {
                gone[last] = true;
                letter_finish(post, &post->letters[last], 0);
            }
        }
        post_settle(post);
    }
    assert_true(post->count > 3000);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_true(walker->seen[i] <= 1);
        if (i < 900 && !gone[i]) {
            assert_int_equal(walker->seen[i], 1);
        }
    }
    free(walker);
    post_close(post);
}

static void what_is_seen_may_be_deleted(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(1500, 3);
    queue_filter_init(&filter);
    filter.deferred = true; /* every second recipient */
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    walker->deletes = true;
    while (walker->over_count == 0) {
        queue_walks_round(&walks);
        post_round(post);
    }
    assert_int_equal(walker->walk.counts.matched, 1500);
    free(walker);
    filter.deferred = false;
    walker = walker_start(post, &walks, &filter);
    walker->deletes = true;
    while (walker->over_count == 0) {
        queue_walks_round(&walks);
        post_round(post);
    }
    assert_int_equal(walker->walk.counts.matched, 3000);
    post_settle(post);
    assert_int_equal(spool_counters(post->spool)->live_messages, 0);
    free(walker);
    post_close(post);
}

static void walks_share_a_round_and_its_end_is_said_by_the_clock_too(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(2000, 1);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *one = walker_start(post, &walks, &filter);
    struct walker *two = walker_start(post, &walks, &filter);
    assert_true(queue_walks_round(&walks) <= QUEUE_WALK_STEPS + 4);
    assert_true(one->walk.counts.looked > 20 && two->walk.counts.looked > 20);
    clock_step_ns = QUEUE_WALK_NS_MAX / 2; /* each look at the clock */
    uint64_t before = one->walk.counts.looked + two->walk.counts.looked;
    queue_walks_round(&walks);
    assert_true(one->walk.counts.looked + two->walk.counts.looked <= before + QUEUE_WALK_LOOK);
    clock_step_ns = 0;
    queue_walks_cancel(&walks);
    queue_walks_round(&walks);
    assert_int_equal(one->over_count + two->over_count, 2);
    assert_false(one->walk.ended);
    free(one);
    free(two);
    post_close(post);
}

static void beside_other_work_a_walk_takes_a_tenth_of_the_time(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(2000, 1);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    clock_step_ns = 1000; /* each look at the clock */
    queue_walks_round(&walks);
    for (unsigned i = 0; i < 10; i++) {
        clock_ns += 50000; /* all else */
        uint64_t begun_ns = clock_ns;
        unsigned steps = queue_walks_round(&walks);
        assert_in_range(steps, QUEUE_WALK_LOOK, 6 * QUEUE_WALK_LOOK);
        assert_in_range(clock_ns - begun_ns, 5000, 8000);
    }
    clock_ns += 1000 * QUEUE_WALK_NS_MAX; /* the shard slept */
    assert_true(queue_walks_round(&walks) >= QUEUE_WALK_STEPS);
    clock_step_ns = 0;
    queue_walks_cancel(&walks);
    queue_walks_round(&walks);
    free(walker);
    post_close(post);
}

static void a_walk_that_is_not_ready_makes_no_steps(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(10, 1);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    walker->stands = true;
    assert_int_equal(queue_walks_round(&walks), 0); /* so the shard may sleep */
    walker->stands = false;
    while (walker->over_count == 0) {
        assert_true(queue_walks_round(&walks) > 0);
    }
    free(walker);
    post_close(post);
}

static void a_limit_ends_the_walk_within_a_message(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(20, 3);
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    walker->walk.limit = 7;
    while (walker->over_count == 0) {
        queue_walks_round(&walks);
    }
    assert_int_equal(walker->walk.counts.matched, 7);
    free(walker);
    post_close(post);
}

/* Pages: each goes on where the former ended. */
static void pages_are_the_whole_once(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(3000, 1);
    uint64_t cursor = 0;
    uint32_t seen = 0, pages = 0;
    queue_filter_init(&filter);
    queue_walks_init(&walks, post->spool, &world);
    for (bool more = true; more;) {
        struct walker *walker = walker_start(post, &walks, &filter);
        walker->walk.cursor = cursor;
        walker->walk.matched_most = 100;
        while (walker->over_count == 0) {
            queue_walks_round(&walks);
        }
        cursor = walker->walk.cursor;
        more = !walker->walk.ended;
        seen += walker->group_count;
        pages++;
        free(walker);
    }
    assert_int_equal(seen, 3000);
    assert_true(pages >= 25 && pages <= 31);
    post_close(post);
}

static void ids_are_found_without_a_walk(void **state)
{
    (void)state;
    struct queue_walks walks;
    struct queue_filter filter;
    struct post *post = post_with(5000, 1);
    queue_filter_init(&filter);
    filter.ids[0] = post->letters[4000].id;
    filter.ids[1] = 1; /* nobody's */
    filter.ids[2] = post->letters[17].id;
    filter.id_count = 3;
    queue_walks_init(&walks, post->spool, &world);
    struct walker *walker = walker_start(post, &walks, &filter);
    queue_walks_round(&walks);
    assert_int_equal(walker->over_count, 1);
    assert_int_equal(walker->walk.counts.looked, 2);
    assert_int_equal(walker->seen[4000] + walker->seen[17], 2);
    free(walker);
    post_close(post);
}

/* ---- Holds ---- */

static bool is_held(struct post *post, uint32_t letter)
{
    return (message_flags(spool_find(post->spool, post->letters[letter].id)) & SPOOL_HELD) != 0;
}

static void a_hold_and_a_release_survive_a_crash(void **state)
{
    (void)state;
    struct post *post = post_with(3, 2);
    spool_note_held(post->spool, post->letters[0].message, SPOOL_HELD);
    spool_note_held(post->spool, post->letters[1].message, SPOOL_HELD);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 3);
    assert_true(is_held(post, 0) && is_held(post, 1) && !is_held(post, 2));
    spool_note_held(post->spool, spool_find(post->spool, post->letters[0].id), 0);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_true(!is_held(post, 0) && is_held(post, 1) && !is_held(post, 2));
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_seen_once_in_pieces_that_are_small),
        cmocka_unit_test(what_comes_and_goes_meanwhile_is_seen_once_at_most),
        cmocka_unit_test(what_is_seen_may_be_deleted),
        cmocka_unit_test(walks_share_a_round_and_its_end_is_said_by_the_clock_too),
        cmocka_unit_test(beside_other_work_a_walk_takes_a_tenth_of_the_time),
        cmocka_unit_test(a_walk_that_is_not_ready_makes_no_steps),
        cmocka_unit_test(a_limit_ends_the_walk_within_a_message),
        cmocka_unit_test(pages_are_the_whole_once),
        cmocka_unit_test(ids_are_found_without_a_walk),
        cmocka_unit_test(a_hold_and_a_release_survive_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
