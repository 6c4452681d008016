/* carriage: what is on its way into a mailbox of this shard is seen by nobody, and goes whatever happens. */
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/quota.h"
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define NAME "carried/1"

static struct mailbox mailbox;

static struct carriage *carriage_of(struct mailstore_rig *rig)
{
    mailbox.texts = rig->store;
    list_init(&mailbox.carriages);
    struct carriage *carriage = carriage_begin(&mailbox, NAME);
    assert_non_null(carriage);
    return carriage;
}

/* What is left of it: mailboxes, and messages in them. */
static unsigned left(struct mailstore_rig *rig, uint64_t *messages)
{
    struct mailstore_user *user = user_of(rig, OUTGOING_USER);
    unsigned count = 0;
    for (struct mailstore_box *box = NULL; (box = mailstore_box_next(user, box)) != NULL;) {
        count++;
    }
    *messages = user->totals.messages;
    mailstore_user_close(rig->store, user);
    return count;
}

static void nothing_is_left(struct mailstore_rig *rig)
{
    uint64_t messages;
    mailstore_rig_settle(rig);
    assert_int_equal(left(rig, &messages), 0);
    assert_int_equal(messages, 0);
}

static void it_takes_mail_at_once_and_goes_with_it(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0};
    uint64_t messages;
    struct carriage *carriage = carriage_of(rig);
    assert_int_equal(rig_deliver(rig, OUTGOING_USER, NAME, 5, 900, &place), 0);
    assert_int_equal(place.status, 0);
    assert_int_equal(place.uid, 1);
    assert_int_equal(left(rig, &messages), 1);
    assert_int_equal(messages, 1);
    carriage_end(carriage);
    nothing_is_left(rig);
}

/* Whoever has it ends in any round, with mail on its way. */
static void what_is_on_its_way_goes_too(void **state)
{
    struct mailstore_rig *rig = *state;
    for (unsigned rounds = 0; rounds < 12; rounds++) {
        struct mailstore_draft *draft;
        struct slice text = slice_text("A: b\r\n\r\nc\r\n");
        struct mailstore_place place = {.user = slice_text(OUTGOING_USER),
                                        .mailbox = slice_text(NAME)};
        struct told told;
        struct carriage *carriage = carriage_of(rig);
        assert_int_equal(mailstore_begin(rig->store, &draft), 0);
        assert_int_equal(mailstore_append(draft, &text, 1), 0);
        assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
        for (unsigned i = 0; i < rounds; i++) {
            mailstore_rig_round(rig);
        }
        carriage_end(carriage);
        assert_int_equal(told_wait(rig, &told), 0);
        nothing_is_left(rig);
    }
}

static void what_power_loss_leaves_goes_at_the_next_start(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0}, mail = {0};
    for (unsigned rounds = 0; rounds < 8; rounds++) {
        assert_int_equal(rig_deliver(rig, "ann", "INBOX", rounds, 300, &mail), 0);
        struct carriage *carriage = carriage_of(rig);
        assert_int_equal(rig_deliver(rig, OUTGOING_USER, NAME, 5, 900, &place), 0);
        carriage_end(carriage);
        for (unsigned i = 0; i < rounds; i++) {
            mailstore_rig_round(rig);
        }
        mailstore_rig_crash(rig);
        assert_int_equal(mailstore_rig_start(rig), 0);
        mailbox.texts = rig->store;
        carriages_sweep(&mailbox);
        nothing_is_left(rig);
        struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
        assert_int_equal(box->count, rounds + 1);
        leave(rig, box);
    }
}

static void what_would_be_too_much_is_known_before_it_is_written(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0};
    assert_int_equal(rig_deliver(rig, "ann", "INBOX", 5, 900, &place), 0);
    struct carriage *carriage = carriage_of(rig);
    struct mailstore_user *ann = user_of(rig, "ann");
    const struct quota none = {0}, bytes = {.bytes = 1000}, messages = {.messages = 3};
    assert_int_equal(carriage_promise(carriage, ann, &none, 1ull << 40), 0);
    carriage->bytes = carriage->messages = 0;
    assert_int_equal(carriage_promise(carriage, ann, &bytes, 60), 0);
    assert_int_equal(carriage_promise(carriage, ann, &bytes, 40), 0);
    assert_int_equal(carriage_promise(carriage, ann, &bytes, 1), -EDQUOT);
    carriage->bytes = carriage->messages = 0;
    assert_int_equal(carriage_promise(carriage, ann, &messages, 1), 0);
    assert_int_equal(carriage_promise(carriage, ann, &messages, 1), 0);
    assert_int_equal(carriage_promise(carriage, ann, &messages, 1), -EDQUOT);
    mailstore_user_close(rig->store, ann);
    carriage_end(carriage);
    nothing_is_left(rig);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(it_takes_mail_at_once_and_goes_with_it),
        SCENE(what_is_on_its_way_goes_too),
        SCENE(what_power_loss_leaves_goes_at_the_next_start),
        SCENE(what_would_be_too_much_is_known_before_it_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
