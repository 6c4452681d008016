/* Space: the log under flows that never end, with mail that never leaves, and on a full disk. */
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define PARCELS_MAX 65536u
#define SEGMENT ((uint64_t)8 * LOG_FRAME_BYTES)

/* A message of which only the fate matters. */
struct parcel {
    struct spool_waiter durable;
    struct message *message;
    bool accepted, refused;
};

struct flow {
    struct post *post;
    struct parcel *parcels; /* those on their way and those that stay, in order of arrival */
    uint32_t first, count;  /* a ring of PARCELS_MAX */
    uint64_t live_bytes_max;
    uint64_t accepted, refused, waits;
    uint64_t used_bytes_max;
};

static void flow_open(struct flow *flow, uint64_t seed, uint32_t segment_count_max)
{
    *flow = (struct flow){.post = post_open(seed)};
    flow->post->rig.settings.segment_count_max = segment_count_max;
    flow->post->settings.forward_bytes_min = 0;
    flow->parcels = calloc(PARCELS_MAX, sizeof(flow->parcels[0]));
    assert_non_null(flow->parcels);
    post_start(flow->post);
}

static void flow_close(struct flow *flow)
{
    post_close(flow->post);
    free(flow->parcels);
}

static struct parcel *flow_at(struct flow *flow, uint32_t i)
{
    return &flow->parcels[(flow->first + i) % PARCELS_MAX];
}

static void parcel_durable(struct spool_waiter *waiter, int status)
{
    struct parcel *parcel = list_entry(waiter, struct parcel, durable);
    parcel->accepted = status == 0;
    parcel->refused = status != 0;
}

static void flow_round(struct flow *flow)
{
    post_round(flow->post);
    uint64_t used = log_used_bytes(flow->post->rig.log);
    flow->used_bytes_max = used > flow->used_bytes_max ? used : flow->used_bytes_max;
}

/* From the first byte to the commit. 0, or why it is refused; waits as long as it is told to. */
static int flow_post(struct flow *flow, uint32_t bytes)
{
    static uint8_t body[256 * 1024];
    struct spool *spool = flow->post->spool;
    struct spool_draft *draft;
    struct envelope envelope = {.reverse_path = slice_text("sender@example.net")};
    const struct envelope_recipient recipient = {.forward_path =
                                                     slice_text("recipient@example.org")};
    struct slice content = slice_of(body, bytes);
    int status = spool_begin(spool, &draft);
    for (int i = 0; status == -EAGAIN && i < 20000; i++) {
        flow->waits++;
        flow_round(flow);
        status = spool_begin(spool, &draft);
    }
    if (status != 0) {
        return status;
    }
    status = spool_append(draft, &content, 1);
    for (int i = 0; status == -EAGAIN && i < 20000; i++) {
        flow->waits++;
        flow_round(flow);
        status = spool_append(draft, &content, 1);
    }
    if (status != 0) {
        spool_abort(draft);
        return status;
    }
    assert_true(flow->count < PARCELS_MAX);
    struct parcel *parcel = flow_at(flow, flow->count);
    *parcel = (struct parcel){.durable.done = parcel_durable};
    status = spool_commit(draft, &envelope, &recipient, 1, &parcel->message, &parcel->durable);
    flow->count += status == 0;
    return status;
}

static void flow_settle(struct flow *flow)
{
    assert_true(post_rests(flow->post, 50000));
}

static void parcel_leave(struct flow *flow, struct parcel *parcel)
{
    assert_true(parcel->accepted);
    spool_recipient_finished(flow->post->spool, parcel->message, 0, RECIPIENT_DELIVERED);
    parcel->message = NULL;
}

/* Mail comes `burst` at a time, a round each; of a hundred one stays, the others leave at once. */
static void flow_run(struct flow *flow, uint32_t bursts, uint32_t burst, uint32_t bytes)
{
    for (uint32_t i = 0; i < bursts; i++) {
        uint32_t before = flow->count;
        for (uint32_t k = 0; k < burst; k++) {
            int status = flow_post(flow, bytes / 2 + post_below(flow->post, bytes));
            assert_int_equal(status, 0);
        }
        for (int round = 0; round < 1000 && !flow_at(flow, flow->count - 1)->accepted; round++) {
            flow_round(flow);
        }
        uint32_t kept = before;
        for (uint32_t k = before; k < flow->count; k++) {
            struct parcel *parcel = flow_at(flow, k);
            assert_true(parcel->accepted);
            if (post_below(flow->post, 100) == 0) {
                *flow_at(flow, kept++) = *parcel;
            } else {
                parcel_leave(flow, parcel);
            }
            flow->accepted++;
        }
        flow->count = kept;
    }
}

static double amplification(const struct flow *flow)
{
    const struct spool_counters *counters = spool_counters(flow->post->spool);
    return (double)counters->copied_forward_bytes / (double)counters->bytes_in;
}

/* ── Steady flow ─────────────────────────────────────────────────────────────────────────────── */

static void a_minority_that_never_leaves_keeps_the_log_within_twice_what_lives(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 1, 0);
    flow_run(&flow, 3000, 60, 5000);
    const struct spool_counters *counters = spool_counters(flow.post->spool);
    print_message("%llu messages, %llu MiB; %llu KiB live, at most %llu KiB used; "
                  "copied %.3f bytes for each that came\n",
                  (unsigned long long)flow.accepted, (unsigned long long)counters->bytes_in >> 20,
                  (unsigned long long)counters->live_bytes >> 10,
                  (unsigned long long)flow.used_bytes_max >> 10, amplification(&flow));
    assert_true(flow.used_bytes_max <= 2 * counters->live_bytes + 8 * SEGMENT);
    assert_true(amplification(&flow) < 1.0);
    assert_true(counters->copied_forward_bytes > 0);
    flow_close(&flow);
}

static void a_small_log_that_is_three_quarters_alive_takes_mail_for_ever(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 2, 24); /* of which mail has 22 */
    while (spool_counters(flow.post->spool)->live_bytes < 22 * SEGMENT * 3 / 4) {
        for (int i = 0; i < 20; i++) {
            assert_int_equal(flow_post(&flow, 4000), 0);
        }
        flow_round(&flow);
    }
    flow_settle(&flow);
    uint64_t bytes_in = spool_counters(flow.post->spool)->bytes_in;
    uint32_t stuck = flow.count;
    for (int i = 0; i < 600; i++) {
        flow_run(&flow, 1, 40, 5000);
        while (flow.count > stuck) { /* what stayed replaces the oldest, as expiry would */
            parcel_leave(&flow, flow_at(&flow, 0));
            flow.first++;
            flow.count--;
        }
    }
    const struct spool_counters *counters = spool_counters(flow.post->spool);
    double copied =
        (double)counters->copied_forward_bytes / (double)(counters->bytes_in - bytes_in);
    print_message(
        "%llu MiB through a log of 44 MiB; %llu KiB live; copied %.2f bytes for each that "
        "came; %llu waits\n",
        (unsigned long long)(counters->bytes_in - bytes_in) >> 20,
        (unsigned long long)counters->live_bytes >> 10, copied, (unsigned long long)flow.waits);
    assert_true(copied < 8.0);
    flow_close(&flow);
}

static void an_oldest_segment_full_of_living_mail_does_not_keep_the_dead_behind_it(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 3, 8);
    while (log_current_sequence(flow.post->rig.log) <= 1) {
        assert_int_equal(flow_post(&flow, 150000), 0); /* two would not lie in a frame uncut */
        flow_round(&flow);
    }
    flow_settle(&flow);
    for (int i = 0; i < 4000; i++) {
        int status = flow_post(&flow, 20000);
        assert_int_equal(status, 0);
        struct parcel *parcel = flow_at(&flow, flow.count - 1);
        while (!parcel->accepted) {
            flow_round(&flow);
        }
        parcel_leave(&flow, parcel);
        flow.count--;
    }
    assert_int_equal(spool_counters(flow.post->spool)->copied_forward_bytes, 0);
    flow_close(&flow);
}

/* ── A full disk ─────────────────────────────────────────────────────────────────────────────── */

static void flow_fill(struct flow *flow, uint32_t bytes)
{
    int status;
    while ((status = flow_post(flow, bytes)) == 0) {
        if (flow->count % 16 == 0) {
            flow_round(flow);
        }
    }
    assert_int_equal(status, -ENOSPC);
    flow_settle(flow);
}

/* Every message leaves, each note in a block of its own, in an order that empties no segment early. */
static void flow_drain(struct flow *flow)
{
    for (uint32_t step = 7; step > 0; step--) {
        for (uint32_t i = step - 1; i < flow->count; i += 7) {
            if (flow_at(flow, i)->accepted) {
                parcel_leave(flow, flow_at(flow, i));
                flow_round(flow);
                flow_round(flow);
            }
        }
    }
    flow->count = 0;
    flow_settle(flow);
}

static void nothing_is_left(struct flow *flow)
{
    assert_int_equal(spool_counters(flow->post->spool)->lost_notes, 0);
    assert_int_equal(spool_counters(flow->post->spool)->live_messages, 0);
    post_crash(flow->post);
    post_start(flow->post);
    assert_int_equal(flow->post->found_count, 0);
    flow_settle(flow); /* what is dead is freed */
    assert_int_equal(flow_post(flow, 5000), 0);
    flow_settle(flow);
    assert_true(flow_at(flow, 0)->accepted);
}

static void a_log_that_is_full_to_the_brim_drains_to_empty(void **state)
{
    (void)state;
    uint32_t sizes[] = {900, 6000, 150000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct flow flow;
        flow_open(&flow, 4 + i, 20);
        flow_fill(&flow, sizes[i]);
        print_message("%u messages of %u bytes fill it\n", flow.count, sizes[i]);
        flow_drain(&flow);
        nothing_is_left(&flow);
        flow_close(&flow);
    }
}

static void a_disk_that_is_full_to_the_brim_drains_to_empty(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 9, 0);
    flow.post->rig.fault_settings.capacity_bytes = 14 * SEGMENT + 12345;
    disk_fault_set(flow.post->rig.fault, &flow.post->rig.fault_settings);
    flow_fill(&flow, 3000);
    flow_drain(&flow);
    nothing_is_left(&flow);
    flow_close(&flow);
}

/* ── A disk that is slow, or fails ───────────────────────────────────────────────────────────── */

static void a_disk_that_answers_nothing_for_ten_seconds_costs_time_and_no_mail(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 13, 0);
    flow_settle(&flow);
    disk_fault_hold(flow.post->rig.fault, true);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(flow_post(&flow, 20000), 0);
    }
    for (int i = 0; i < 10000; i++) { /* of a millisecond */
        flow_round(&flow);
    }
    for (uint32_t i = 0; i < flow.count; i++) {
        assert_false(flow_at(&flow, i)->accepted || flow_at(&flow, i)->refused);
    }
    disk_fault_hold(flow.post->rig.fault, false);
    flow_settle(&flow);
    for (uint32_t i = 0; i < flow.count; i++) {
        assert_true(flow_at(&flow, i)->accepted);
    }
    flow_close(&flow);
}

/* A durable write that fails is a flush that fails: the device has not said that it has the bytes. */
static void
writes_that_fail_while_a_full_log_is_copied_lose_nothing_and_service_returns(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 14, 24);
    while (spool_counters(flow.post->spool)->live_bytes < 14 * SEGMENT) {
        assert_int_equal(flow_post(&flow, 4000), 0);
        flow_round(&flow);
    }
    flow_settle(&flow);
    uint32_t stuck = flow.count, refused = 0;
    for (int i = 0; i < 2000; i++) {
        if (i % 100 == 0) {
            disk_fault_fail(flow.post->rig.fault, DISK_FAULT_WRITE, post_below(flow.post, 30), 1,
                            -EIO);
        }
        int status = flow_post(&flow, 20000);
        flow_settle(&flow);
        struct parcel *parcel = flow_at(&flow, flow.count - 1);
        if (status == 0 && parcel->accepted) {
            parcel_leave(&flow, parcel);
        }
        refused += status != 0 || parcel->refused;
        flow.count -= status == 0;
    }
    assert_true(refused > 0 && refused <= 20);
    assert_true(spool_counters(flow.post->spool)->copied_forward_bytes > 0);
    assert_int_equal(flow.count, stuck);
    assert_int_equal(spool_counters(flow.post->spool)->live_messages, stuck);
    assert_int_equal(spool_counters(flow.post->spool)->lost_notes, 0);
    flow_drain(&flow);
    nothing_is_left(&flow);
    flow_close(&flow);
}

/* ── Marks ───────────────────────────────────────────────────────────────────────────────────── */

/* With the margin that the relay leaves. */
static bool flow_is_full(const struct flow *flow)
{
    struct spool_fill fill;
    spool_fill(flow->post->spool, &fill);
    return fill.live_bytes + fill.capacity_bytes / 32 >= fill.capacity_bytes;
}

/* Mail of all sizes comes, a third of it leaves again, in any order. */
static void flow_mix(struct flow *flow)
{
    assert_int_equal(flow_post(flow, 500 + post_below(flow->post, 60000)), 0);
    flow_round(flow);
    uint32_t i = post_below(flow->post, flow->count);
    if (post_below(flow->post, 3) == 0 && flow_at(flow, i)->accepted) {
        parcel_leave(flow, flow_at(flow, i));
        *flow_at(flow, i) = *flow_at(flow, 0);
        flow->first++;
        flow->count--;
    }
}

static void the_log_refuses_nothing_before_its_capacity_is_reached(void **state)
{
    (void)state;
    for (uint32_t segments = LOG_SEGMENTS_MIN; segments < 40; segments += 7) {
        struct flow flow;
        flow_open(&flow, 20 + segments, segments);
        while (!flow_is_full(&flow)) {
            flow_mix(&flow);
        }
        flow_settle(&flow);
        for (int i = 0; i < 3000; i++) {
            while (flow_is_full(&flow)) {
                parcel_leave(&flow, flow_at(&flow, 0));
                flow.first++;
                flow.count--;
            }
            flow_mix(&flow);
            flow_settle(&flow);
        }
        flow_close(&flow);
    }
}

static void the_file_system_keeps_what_it_must_and_mail_goes_on_in_the_files_there_are(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 10, 0);
    post_crash(flow.post);
    flow.post->rig.settings.disk_free_min = 6 * SEGMENT;
    flow.post->rig.fault_settings.capacity_bytes = 20 * SEGMENT;
    disk_fault_set(flow.post->rig.fault, &flow.post->rig.fault_settings);
    post_start(flow.post);
    while (!flow_is_full(&flow)) {
        flow_mix(&flow);
    }
    struct log_space space;
    log_space(flow.post->rig.log, &space);
    assert_true(space.used_bytes + space.ready_bytes + space.freed_bytes <= 14 * SEGMENT);
    assert_true(space.used_bytes > 9 * SEGMENT);
    flow_settle(&flow);
    flow_drain(&flow);
    for (int i = 0; i < 2000; i++) {
        flow_round(&flow);
    }
    assert_int_equal(flow_post(&flow, 5000), 0);
    flow_settle(&flow);
    flow_close(&flow);
}

static void without_room_for_files_nothing_is_made_and_notes_are_kept(void **state)
{
    (void)state;
    struct flow flow;
    flow_open(&flow, 11, 0);
    flow.post->rig.fault_settings.no_files = true;
    disk_fault_set(flow.post->rig.fault, &flow.post->rig.fault_settings);
    for (int i = 0; i < 2000; i++) {
        flow_round(&flow); /* it is seen within a second */
    }
    flow_fill(&flow, 20000);
    flow_drain(&flow);
    nothing_is_left(&flow);
    flow_close(&flow);
}

static void the_memory_of_mail_is_counted_and_given_back(void **state)
{
    (void)state;
    struct flow flow;
    struct spool_fill before, full, after;
    flow_open(&flow, 12, 0);
    spool_fill(flow.post->spool, &before);
    for (int i = 0; i < 900; i++) {
        assert_int_equal(flow_post(&flow, 1000), 0);
    }
    flow_settle(&flow);
    spool_fill(flow.post->spool, &full);
    assert_true(full.memory_bytes > before.memory_bytes + 900 * 100);
    flow_drain(&flow);
    spool_fill(flow.post->spool, &after);
    assert_int_equal(after.memory_bytes, before.memory_bytes);
    flow_close(&flow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minority_that_never_leaves_keeps_the_log_within_twice_what_lives),
        cmocka_unit_test(a_small_log_that_is_three_quarters_alive_takes_mail_for_ever),
        cmocka_unit_test(an_oldest_segment_full_of_living_mail_does_not_keep_the_dead_behind_it),
        cmocka_unit_test(a_log_that_is_full_to_the_brim_drains_to_empty),
        cmocka_unit_test(a_disk_that_is_full_to_the_brim_drains_to_empty),
        cmocka_unit_test(a_disk_that_answers_nothing_for_ten_seconds_costs_time_and_no_mail),
        cmocka_unit_test(
            writes_that_fail_while_a_full_log_is_copied_lose_nothing_and_service_returns),
        cmocka_unit_test(the_log_refuses_nothing_before_its_capacity_is_reached),
        cmocka_unit_test(
            the_file_system_keeps_what_it_must_and_mail_goes_on_in_the_files_there_are),
        cmocka_unit_test(without_room_for_files_nothing_is_made_and_notes_are_kept),
        cmocka_unit_test(the_memory_of_mail_is_counted_and_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
