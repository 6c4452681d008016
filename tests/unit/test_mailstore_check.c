/* An index against the one that was built again from the log. */
#include "queue/mailbox/mailstore_check.h"
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

struct told_rows {
    char text[1024];
};

static void row_told(void *owner, const struct mailstore_difference *difference)
{
    struct told_rows *rows = (struct told_rows *)owner;
    size_t used = strlen(rows->text);
    snprintf(rows->text + used, sizeof rows->text - used, "%s%s %c%c", used > 0 ? ", " : "",
             difference->what, difference->in_first ? '1' : '-', difference->in_second ? '2' : '-');
}

/* A store with mail for two, some of it expunged, closed in order; its index under another name. */
static void store_keep(struct mailstore_rig *rig, char other[128])
{
    struct mailstore_place place = {0};
    struct mailstore_user *user;
    struct told told;
    const struct mailstore_uids first = {1, 1};
    mailstore_rig_open(rig, 11);
    rig->settings.keep_expunged_s = 1000;
    assert_int_equal(mailstore_rig_start(rig), 0);
    for (uint32_t i = 1; i <= 40; i++) {
        assert_int_equal(rig_deliver(rig, i % 2 == 0 ? "alice" : "bob", "", i, 500, &place), 0);
    }
    assert_int_equal(mailstore_user_open(rig->store, slice_text("alice"), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    struct mailstore_expunge expunge = {.uids = &first, .uid_count = 1};
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    mailstore_user_close(rig->store, user);
    mailstore_rig_stop(rig);
    snprintf(other, 128, "%s.other", rig->index);
    assert_int_equal(rename(rig->index, other), 0);
}

static void store_forget(struct mailstore_rig *rig, const char *other)
{
    char name[160];
    unlink(other);
    snprintf(name, sizeof name, "%s-lock", other);
    unlink(name);
    snprintf(name, sizeof name, "%s.owner", other);
    unlink(name);
    mailstore_rig_close(rig);
}

static void an_index_that_is_built_again_is_the_same(void **state)
{
    struct mailstore_rig rig;
    struct told_rows rows = {""};
    char kept[128];
    (void)state;
    store_keep(&rig, kept);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    assert_int_equal(mailstore_counters(rig.store)->rebuilds, 1);
    mailstore_rig_stop(&rig);
    assert_int_equal(mailstore_compare(kept, rig.index, row_told, &rows), 0);
    assert_string_equal(rows.text, "");
    store_forget(&rig, kept);
}

/* Puts a row into a closed index, or takes it away (value: NULL). */
static void row_change(const char *path, const struct key *key, const char *value)
{
    const struct mailstore_settings settings = {.index_path = path, .driven = true};
    struct index *index;
    bool damaged = false;
    assert_int_equal(index_open(&index, &settings, &damaged), 0);
    assert_int_equal(value != NULL ? index_put(index, key_slice(key), slice_text(value))
                                   : index_remove(index, key_slice(key)),
                     0);
    assert_int_equal(index_write(index), 0);
    assert_true(index_wait(index) >= 0);
    index_close(index);
}

static void what_differs_is_told_by_what_it_is(void **state)
{
    struct mailstore_rig rig;
    struct told_rows rows = {""};
    struct key key;
    char kept[128];
    (void)state;
    store_keep(&rig, kept);
    assert_int_equal(mailstore_rig_start(&rig), 0);
    mailstore_rig_stop(&rig);
    key_begin(&key, ROW_USER_NAME);
    key_text(&key, slice_text("bob"));
    row_change(kept, &key, NULL);
    key_begin(&key, ROW_SUBSCRIBED);
    key_u64(&key, 1);
    key_text(&key, slice_text("x"));
    row_change(kept, &key, "");
    key_begin(&key, ROW_VANISHED);
    key_u64(&key, 1);
    row_change(kept, &key, "one");
    row_change(rig.index, &key, "other");
    key_begin(&key, ROW_CACHE); /* only computed: nobody cares */
    key_u64(&key, 7);
    row_change(kept, &key, "x");
    assert_int_equal(mailstore_compare(kept, rig.index, row_told, &rows), 0);
    assert_string_equal(rows.text, "user -2, subscription 1-, what was expunged 12");
    store_forget(&rig, kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_that_is_built_again_is_the_same),
        cmocka_unit_test(what_differs_is_told_by_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
