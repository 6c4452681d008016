#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct scene {
    struct mailstore_rig rig;
    struct mailstore_user *user;
    struct mailstore_box *box;
    struct view view;
    uint32_t changes;
    char told[8192]; /* what view_sync has said */
};

static void view_changed(struct view *view)
{
    ((struct scene *)view->owner)->changes++;
}

static void deliver(struct scene *scene, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mailstore_place place = {0};
        assert_int_equal(rig_deliver(&scene->rig, "ann", "", i + 1, 100, &place), 0);
    }
}

static int scene_open(void **state)
{
    struct scene *scene = (struct scene *)calloc(1, sizeof(*scene));
    mailstore_rig_open(&scene->rig, 3);
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
    deliver(scene, 5);
    assert_int_equal(mailstore_user_open(scene->rig.store, slice_text("ann"), &scene->user), 0);
    scene->box = mailstore_box_find(scene->user, slice_text("INBOX"));
    scene->view.changed = view_changed;
    scene->view.owner = scene;
    assert_int_equal(view_open(&scene->view, scene->rig.store, scene->box), 0);
    *state = scene;
    return 0;
}

static int scene_close(void **state)
{
    struct scene *scene = (struct scene *)*state;
    view_close(&scene->view);
    mailstore_user_close(scene->rig.store, scene->user);
    mailstore_rig_close(&scene->rig);
    free(scene);
    return 0;
}

static void flag(struct scene *scene, uint32_t uid, uint8_t flags)
{
    struct told told;
    struct mailstore_uids uids = {uid, uid};
    struct mailstore_flags change = {
        .uids = &uids, .uid_count = 1, .flags = flags, .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(mailstore_flags(scene->rig.store, scene->box, &change, told_init(&told)), 0);
    assert_int_equal(told_wait(&scene->rig, &told), 0);
}

static void expunge(struct scene *scene, uint32_t first, uint32_t last)
{
    struct told told;
    struct mailstore_uids uids = {first, last};
    struct mailstore_expunge wanted = {.uids = &uids, .uid_count = 1};
    assert_int_equal(mailstore_expunge(scene->rig.store, scene->box, &wanted, told_init(&told)), 0);
    assert_int_equal(told_wait(&scene->rig, &told), 0);
}

static void say(struct scene *scene, const char *what, uint32_t a, uint32_t b)
{
    size_t size = strlen(scene->told);
    snprintf(scene->told + size, sizeof(scene->told) - size, "%s %u %u;", what, a, b);
}
static void tell_expunged(void *owner, uint32_t number, uint32_t uid)
{
    say((struct scene *)owner, "expunge", number, uid);
}
static void tell_exists(void *owner, uint32_t count)
{
    say((struct scene *)owner, "exists", count, 0);
}
static void tell_keywords(void *owner)
{
    say((struct scene *)owner, "keywords", 0, 0);
}
static void tell_flags(void *owner, uint32_t number, const struct mailstore_entry *entry,
                       bool is_new)
{
    say((struct scene *)owner, is_new ? "new" : "flags", number, (uint32_t)entry->flags);
}
static void tell_gone(void *owner)
{
    say((struct scene *)owner, "gone", 0, 0);
}

static const char *sync_view(struct scene *scene, uint32_t flags)
{
    struct view_teller teller = {.expunged = tell_expunged,
                                 .exists = tell_exists,
                                 .keywords = tell_keywords,
                                 .flags = tell_flags,
                                 .gone = tell_gone,
                                 .owner = scene};
    scene->told[0] = '\0';
    assert_int_equal(view_sync(&scene->view, flags, &teller), 0);
    return scene->told;
}
#define ALL (VIEW_MAY_EXPUNGE | VIEW_MAY_EXIST)

static void numbers_and_uids_lead_to_each_other(void **state)
{
    struct scene *scene = *state;
    assert_int_equal(view_uid(&scene->view, 1), 1);
    assert_int_equal(view_uid(&scene->view, 5), 5);
    assert_int_equal(view_uid(&scene->view, 6), 0);
    assert_int_equal(view_uid(&scene->view, 0), 0);
    assert_int_equal(view_number(&scene->view, 3), 3);
    assert_int_equal(view_number(&scene->view, 6), 0);
    assert_int_equal(view_number_from(&scene->view, 9), 6);
    assert_false(view_is_behind(&scene->view));
    assert_string_equal(sync_view(scene, ALL), "");
}

static void new_mail_has_no_number_before_it_is_told(void **state)
{
    struct scene *scene = *state;
    deliver(scene, 2);
    mailstore_rig_round(&scene->rig);
    assert_true(scene->changes > 0);
    assert_true(view_is_behind(&scene->view));
    assert_int_equal(view_uid(&scene->view, 6), 0);
    assert_int_equal(view_number(&scene->view, 6), 0);
    assert_string_equal(sync_view(scene, VIEW_MAY_EXPUNGE), "");
    assert_string_equal(sync_view(scene, ALL), "exists 7 0;new 6 0;new 7 0;");
    assert_int_equal(view_uid(&scene->view, 7), 7);
}

static void numbers_stay_while_an_expunge_may_not_be_told(void **state)
{
    struct scene *scene = *state;
    expunge(scene, 2, 2);
    expunge(scene, 4, 4);
    deliver(scene, 1);
    assert_int_equal(scene->view.count, 5);
    for (uint32_t number = 1; number <= 5; number++) {
        assert_int_equal(view_uid(&scene->view, number), number);
        assert_int_equal(view_number(&scene->view, number), number);
        assert_int_equal(view_entry(&scene->view, number) != NULL, number % 2 == 1);
    }
    assert_string_equal(sync_view(scene, VIEW_MAY_EXIST), "exists 6 0;new 6 0;");
    assert_int_equal(view_uid(&scene->view, 6), 6);
    assert_string_equal(sync_view(scene, VIEW_MAY_EXPUNGE), "expunge 4 4;expunge 2 2;");
    assert_int_equal(scene->view.count, 4);
    assert_int_equal(view_uid(&scene->view, 4), 6);
    assert_int_equal(view_number(&scene->view, 3), 2);
    assert_false(view_is_behind(&scene->view));
}

static void what_came_and_went_untold_is_never_told(void **state)
{
    struct scene *scene = *state;
    deliver(scene, 2);
    expunge(scene, 6, 6);
    assert_string_equal(sync_view(scene, ALL), "exists 6 0;new 6 0;");
    assert_int_equal(view_uid(&scene->view, 6), 7);
}

static void changed_flags_are_told_with_the_number_that_the_session_knows(void **state)
{
    struct scene *scene = *state;
    expunge(scene, 1, 2);
    flag(scene, 4, MAILSTORE_SEEN);
    assert_string_equal(sync_view(scene, 0), "flags 4 1;");
    assert_string_equal(sync_view(scene, ALL), "expunge 2 2;expunge 1 1;");
    flag(scene, 4, MAILSTORE_FLAGGED);
    assert_string_equal(sync_view(scene, ALL), "flags 2 5;");
}

static void ones_own_change_is_not_told_again(void **state)
{
    struct scene *scene = *state;
    flag(scene, 4, MAILSTORE_SEEN);
    view_told(&scene->view, scene->box->modseq);
    assert_string_equal(sync_view(scene, ALL), "");
    flag(scene, 4, MAILSTORE_FLAGGED);
    flag(scene, 5, MAILSTORE_FLAGGED);
    view_told(&scene->view, scene->box->modseq); /* there was another between */
    assert_string_equal(sync_view(scene, ALL), "flags 4 5;flags 5 4;");
}

static void the_end_of_a_mailbox_is_told(void **state)
{
    struct scene *scene = *state;
    struct told told;
    assert_int_equal(mailstore_box_delete(scene->rig.store, scene->box, told_init(&told)), 0);
    assert_int_equal(told_wait(&scene->rig, &told), 0);
    mailstore_rig_round(&scene->rig);
    assert_true(scene->changes > 0);
    assert_int_equal(view_uid(&scene->view, 3), 3);
    assert_null(view_entry(&scene->view, 3));
    assert_string_equal(sync_view(scene, ALL),
                        "expunge 5 5;expunge 4 4;expunge 3 3;expunge 2 2;expunge 1 1;gone 0 0;");
    struct mailstore_flags change = {.unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(mailstore_flags(scene->rig.store, scene->box, &change, told_init(&told)),
                     -ENOENT);
}

/* A list of uids that does what RFC 9051 says, beside a view. */
static void a_session_that_is_told_at_any_time_knows_the_same_as_the_mailbox(void **state)
{
    struct scene *scene = *state;
    uint32_t known[2000], count = 5;
    for (uint32_t i = 0; i < 5; i++) {
        known[i] = i + 1;
    }
    for (uint32_t turn = 0; turn < 1500; turn++) {
        uint32_t kind = mailstore_rig_below(&scene->rig, 10);
        uint32_t uid = 1 + mailstore_rig_below(&scene->rig, scene->box->uidnext);
        if (kind < 4) {
            deliver(scene, 1);
        } else if (kind < 6) {
            expunge(scene, uid, uid + mailstore_rig_below(&scene->rig, 3));
        } else if (kind < 7) {
            flag(scene, uid, (uint8_t)mailstore_rig_below(&scene->rig, 32));
        } else {
            const char *told = sync_view(scene, mailstore_rig_below(&scene->rig, 4));
            unsigned a, b;
            char word[16];
            int used;
            for (; sscanf(told, "%15s %u %u;%n", word, &a, &b, &used) == 3; told += used) {
                if (strcmp(word, "expunge") == 0) {
                    assert_int_equal(known[a - 1], b);
                    memmove(&known[a - 1], &known[a], (count - a) * sizeof(known[0]));
                    count--;
                } else if (strcmp(word, "exists") == 0) {
                    assert_true(a > count);
                    for (; count < a; count++) {
                        known[count] = view_uid(&scene->view, count + 1);
                    }
                }
            }
        }
        assert_int_equal(scene->view.count, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(view_uid(&scene->view, i + 1), known[i]);
            assert_int_equal(view_number(&scene->view, known[i]), i + 1);
        }
    }
    sync_view(scene, ALL);
    assert_int_equal(scene->view.count, scene->box->count);
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(numbers_and_uids_lead_to_each_other),
        SCENE(new_mail_has_no_number_before_it_is_told),
        SCENE(numbers_stay_while_an_expunge_may_not_be_told),
        SCENE(what_came_and_went_untold_is_never_told),
        SCENE(changed_flags_are_told_with_the_number_that_the_session_knows),
        SCENE(ones_own_change_is_not_told_again),
        SCENE(the_end_of_a_mailbox_is_told),
        SCENE(a_session_that_is_told_at_any_time_knows_the_same_as_the_mailbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
