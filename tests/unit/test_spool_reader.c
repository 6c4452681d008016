/* Reading the folder of a shard that nobody works on, whole and damaged. */
#include "queue/spool/spool_reader.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTERS 40u
#define BODY_BYTES 30000u

/* A spool of some letters, of which every fourth has left and every fifth has one recipient done; the
 * process is gone. */
static struct post *folder_make(uint64_t seed)
{
    struct post *post = post_open(seed);
    post_start(post);
    for (uint32_t i = 0; i < LETTERS; i++) {
        letter_post(post, BODY_BYTES, 2);
        post_settle(post);
    }
    for (uint32_t i = 0; i < LETTERS; i++) {
        if (i % 4 == 0) {
            letter_finish(post, &post->letters[i], 1);
        }
        if (i % 4 == 0 || i % 5 == 0) {
            letter_finish(post, &post->letters[i], 0);
        }
    }
    struct letter *open = letter_begin(post, BODY_BYTES, 1);
    letter_send(open, BODY_BYTES);
    letter_post(post, 1000, 1); /* what the open one has goes to the disk with it */
    post_settle(post);
    post_crash(post);
    return post;
}

struct told {
    uint64_t bytes;
    uint32_t count;
};

static void damage_told(void *owner, uint32_t shard, uint32_t number, uint64_t offset,
                        uint64_t bytes)
{
    struct told *told = owner;
    (void)number, (void)offset;
    assert_int_equal(shard, 0);
    told->bytes += bytes;
    told->count++;
}

struct measured {
    uint64_t bytes, lost;
};

static int piece_measure(void *owner, struct slice bytes, uint64_t lost)
{
    struct measured *measured = owner;
    measured->bytes += bytes.size;
    measured->lost += lost;
    return 0;
}

static struct measured body_measure(struct spool_reader *reader, const struct message *message)
{
    struct measured measured = {0};
    assert_int_equal(spool_reader_body(reader, message, piece_measure, &measured), 0);
    return measured;
}

static void what_a_start_would_find_is_found_and_nothing_is_changed(void **state)
{
    (void)state;
    struct post *post = folder_make(1);
    struct spool_reader *reader;
    uint64_t writes = disk_fault_counters(post->rig.fault)->writes;
    assert_int_equal(
        spool_reader_open(&reader, post->rig.disk, 0, &(struct spool_reader_visitor){0}), 0);
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    assert_int_equal(facts->messages, LETTERS - LETTERS / 4 + 1);
    assert_int_equal(facts->recipients_waiting, 2 * (LETTERS - LETTERS / 4) - 6 + 1);
    assert_int_equal(facts->damaged_bytes, 0);
    assert_int_equal(facts->broken, 0);
    assert_int_equal(facts->orphans, 1);
    assert_int_equal(facts->orphan_bytes, BODY_BYTES);
    uint64_t before = 0;
    const struct message *message;
    for (uint64_t i = 0; (message = spool_reader_message(reader, i)) != NULL; i++) {
        assert_true((uint64_t)message_arrival_wall_s(message) > before);
        before = (uint64_t)message_arrival_wall_s(message);
        struct measured measured = body_measure(reader, message);
        assert_int_equal(measured.bytes, message->body_bytes);
        assert_int_equal(measured.lost, 0);
    }
    spool_reader_close(reader);
    assert_int_equal(disk_fault_counters(post->rig.fault)->writes, writes);
    post_start(post);
    assert_int_equal(post->found_count, LETTERS - LETTERS / 4 + 1);
    post_close(post);
}

static void a_message_that_has_lost_a_part_is_given_and_says_so(void **state)
{
    (void)state;
    struct post *post = post_open(2);
    struct spool_reader *reader;
    struct told told = {0};
    const struct spool_reader_visitor visitor = {.damaged = damage_told, .owner = &told};
    uint64_t bytes;
    post_start(post);
    letter_post(post, 900000, 1);
    post_settle(post);
    letter_post(post, 1000, 1);
    post_settle(post);
    post_crash(post);
    uint8_t *file = disk_fault_bytes(post->rig.fault, disk_fault_name(post->rig.fault, 0), &bytes);
    file[LOG_FRAME_BYTES + 50000] ^= 1;
    assert_int_equal(spool_reader_open(&reader, post->rig.disk, 0, &visitor), 0);
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    assert_int_equal(facts->messages, 2);
    assert_int_equal(facts->broken, 1);
    assert_int_equal(told.bytes, facts->damaged_bytes);
    const struct message *message = spool_reader_message(reader, 0);
    assert_true(spool_reader_is_broken(message));
    struct measured measured = body_measure(reader, message);
    assert_int_equal(measured.bytes + measured.lost, 900000);
    assert_true(measured.lost > 0 && measured.lost <= LOG_FRAME_BYTES);
    assert_false(spool_reader_is_broken(spool_reader_message(reader, 1)));
    spool_reader_close(reader);
    post_start(post);
    assert_int_equal(post->found_count, 1); /* a relay delivers nothing that is not whole */
    post_close(post);
}

static void any_damage_is_survived_and_never_makes_more_than_there_was(void **state)
{
    (void)state;
    struct post *post = folder_make(3);
    for (int round = 0; round < 200; round++) {
        struct spool_reader *reader;
        for (uint32_t i = 0; i < 4; i++) {
            const char *name = disk_fault_name(post->rig.fault, i);
            uint64_t bytes = 0;
            uint8_t *file = name != NULL ? disk_fault_bytes(post->rig.fault, name, &bytes) : NULL;
            if (file != NULL && bytes > 0) {
                file[post_below(post, (uint32_t)bytes)] ^= (uint8_t)(1 + post_below(post, 255));
            }
        }
        int status =
            spool_reader_open(&reader, post->rig.disk, 0, &(struct spool_reader_visitor){0});
        if (status != 0) {
            continue;
        }
        const struct message *message;
        assert_true(spool_reader_facts(reader)->messages <= LETTERS + 1);
        for (uint64_t i = 0; (message = spool_reader_message(reader, i)) != NULL; i++) {
            struct measured measured = body_measure(reader, message);
            assert_int_equal(measured.bytes + measured.lost, message->body_bytes);
            assert_true(spool_reader_is_broken(message) || measured.lost == 0);
        }
        spool_reader_close(reader);
    }
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_start_would_find_is_found_and_nothing_is_changed),
        cmocka_unit_test(a_message_that_has_lost_a_part_is_given_and_says_so),
        cmocka_unit_test(any_damage_is_survived_and_never_makes_more_than_there_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
