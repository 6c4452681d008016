/* What is remembered of the notes in a segment. */
#include "queue/spool/spool_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct spool_note note_of(uint32_t i)
{
    return (struct spool_note){
        .id = 1000 + i, .commit_sequence = 7, .kind = NOTE_ATTEMPT, .number = i};
}

static void a_segment_has_so_many_notes_as_the_bound_says_and_no_more(void **state)
{
    (void)state;
    void *at = NULL;
    for (uint32_t i = 0; i < SPOOL_NOTES_MAX; i++) {
        struct spool_note note = note_of(i);
        assert_int_equal(notes_add(&at, &note), 0);
    }
    for (uint32_t i = 0; i < SPOOL_NOTES_MAX; i++) {
        struct spool_note more = note_of(SPOOL_NOTES_MAX + i);
        assert_int_equal(notes_add(&at, &more), -ENOSPC);
    }
    const struct spool_notes *notes = at;
    assert_int_equal(notes->count, SPOOL_NOTES_MAX);
    assert_int_equal(notes->capacity, SPOOL_NOTES_MAX); /* nor does it take memory for more */
    for (uint32_t i = 0; i < SPOOL_NOTES_MAX; i++) {
        assert_int_equal(notes->notes[i].id, 1000 + i);
        assert_int_equal(notes->notes[i].number, i);
    }
    free(at);
}

/* Of one that was sifted the room is there again. */
static void a_segment_that_has_lost_some_has_room_for_as_many(void **state)
{
    (void)state;
    void *at = NULL;
    for (uint32_t i = 0; i < SPOOL_NOTES_MAX; i++) {
        struct spool_note note = note_of(i);
        assert_int_equal(notes_add(&at, &note), 0);
    }
    ((struct spool_notes *)at)->count = SPOOL_NOTES_MAX - 3;
    struct spool_note note = note_of(0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(notes_add(&at, &note), 0);
    }
    assert_int_equal(notes_add(&at, &note), -ENOSPC);
    free(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_has_so_many_notes_as_the_bound_says_and_no_more),
        cmocka_unit_test(a_segment_that_has_lost_some_has_room_for_as_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
