/* mailstore: properties of users and mailboxes, several in one change. */
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

struct scene {
    struct mailstore_rig *rig;
    struct mailstore_user *user;
    struct mailstore_box *box; /* open */
};

static struct scene with_box(void **state)
{
    struct scene scene = {.rig = (struct mailstore_rig *)*state};
    deliver(scene.rig, "ann", 1);
    scene.user = user_of(scene.rig, "ann");
    scene.box = box_of(scene.rig, scene.user, "INBOX");
    return scene;
}

static int change(const struct scene *scene, const struct mailstore_properties *properties)
{
    struct told told;
    int status =
        mailstore_properties_set(scene->rig->store, scene->user, properties, told_init(&told));
    return status == 0 ? told_wait(scene->rig, &told) : status;
}

static int change_one(const struct scene *scene, enum mailstore_property_op op, const char *key,
                      const char *value)
{
    const struct mailstore_property_change one = {op, slice_text(key), slice_text(value)};
    const struct mailstore_properties properties = {
        .box = scene->box, .changes = &one, .change_count = 1};
    return change(scene, &properties);
}

static void expect_property(const struct scene *scene, struct mailstore_box *box, const char *key,
                            const char *value)
{
    struct mailstore_property property = {.box = box, .key = slice_text(key)};
    int status = mailstore_property_get(scene->rig->store, scene->user, &property);
    assert_int_equal(status, value != NULL ? 0 : -ENOENT);
    if (value != NULL) {
        assert_string_equal((const char *)property.value.bytes, value);
        free((void *)(uintptr_t)property.value.bytes);
    }
}

static void several_are_set_and_taken_in_one_change(void **state)
{
    struct scene scene = with_box(state);
    const struct mailstore_property_change changes[] = {
        {MAILSTORE_PROPERTY_SET, slice_text("a"), slice_text("1")},
        {MAILSTORE_PROPERTY_SET, slice_text("b"), slice_text("2")}};
    const struct mailstore_property_change others[] = {
        {MAILSTORE_PROPERTY_SET, slice_text("a"), slice_of(NULL, 0)},
        {MAILSTORE_PROPERTY_SET, slice_text("c"), slice_text("3")}};
    struct mailstore_properties properties = {
        .box = scene.box, .changes = changes, .change_count = 2};
    uint64_t before = scene.box->properties;
    assert_int_equal(change(&scene, &properties), 0);
    assert_true(scene.box->properties > before);
    properties.changes = others;
    properties.special_use_given = true;
    properties.special_use = 5;
    assert_int_equal(change(&scene, &properties), 0);
    expect_property(&scene, scene.box, "a", NULL);
    expect_property(&scene, scene.box, "b", "2");
    expect_property(&scene, scene.box, "c", "3");
    expect_property(&scene, NULL, "b", NULL);
    assert_int_equal(scene.box->special_use, 5);
    leave(scene.rig, scene.box);
}

static void a_value_that_is_a_set_gains_and_loses_bytes(void **state)
{
    struct scene scene = with_box(state);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_INCLUDE, "s", "rl"), 0);
    expect_property(&scene, scene.box, "s", "lr");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_INCLUDE, "s", "wrs"), 0);
    expect_property(&scene, scene.box, "s", "lrsw");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_EXCLUDE, "s", "rx"), 0);
    expect_property(&scene, scene.box, "s", "lsw");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_EXCLUDE, "s", "lswa"), 0);
    expect_property(&scene, scene.box, "s", NULL);
    leave(scene.rig, scene.box);
}

/* Each is decided when it happens: neither takes back what the other has done. */
static void two_changes_of_a_set_in_one_round_both_count(void **state)
{
    struct scene scene = with_box(state);
    struct told told[2];
    const struct mailstore_property_change changes[] = {
        {MAILSTORE_PROPERTY_INCLUDE, slice_text("s"), slice_text("a")},
        {MAILSTORE_PROPERTY_INCLUDE, slice_text("s"), slice_text("b")}};
    for (int i = 0; i < 2; i++) {
        const struct mailstore_properties properties = {
            .box = scene.box, .changes = &changes[i], .change_count = 1};
        assert_int_equal(mailstore_properties_set(scene.rig->store, scene.user, &properties,
                                                  told_init(&told[i])),
                         0);
    }
    assert_int_equal(told_wait(scene.rig, &told[0]), 0);
    assert_int_equal(told_wait(scene.rig, &told[1]), 0);
    expect_property(&scene, scene.box, "s", "ab");
    leave(scene.rig, scene.box);
}

static void a_family_that_would_be_too_large_changes_nothing(void **state)
{
    struct scene scene = with_box(state);
    const struct mailstore_property_family family = {slice_text("m/"), 2};
    struct mailstore_property_change changes[] = {
        {MAILSTORE_PROPERTY_SET, slice_text("m/1"), slice_text("x")},
        {MAILSTORE_PROPERTY_SET, slice_text("other"), slice_text("x")},
        {MAILSTORE_PROPERTY_SET, slice_text("m/2"), slice_text("x")}};
    struct mailstore_properties properties = {.box = scene.box,
                                              .changes = changes,
                                              .change_count = 3,
                                              .families = &family,
                                              .family_count = 1};
    assert_int_equal(change(&scene, &properties), 0);
    changes[0].value = slice_text("y"); /* there already: none more */
    assert_int_equal(change(&scene, &properties), 0);
    changes[0].key = slice_text("m/3");
    changes[2].value = slice_text("z");
    assert_int_equal(change(&scene, &properties), -EDQUOT);
    expect_property(&scene, scene.box, "m/2", "x");
    expect_property(&scene, scene.box, "m/3", NULL);
    changes[2].value = slice_of(NULL, 0); /* one comes and one goes */
    assert_int_equal(change(&scene, &properties), 0);
    expect_property(&scene, scene.box, "m/3", "y");
    leave(scene.rig, scene.box);
}

static void what_cannot_be_is_refused_at_once(void **state)
{
    struct scene scene = with_box(state);
    static struct mailstore_property_change many[MAILSTORE_PROPERTIES_MAX + 1];
    const struct mailstore_property_change twice[] = {
        {MAILSTORE_PROPERTY_SET, slice_text("a"), slice_text("1")},
        {MAILSTORE_PROPERTY_SET, slice_text("a"), slice_text("2")}};
    struct mailstore_properties properties = {
        .box = scene.box, .changes = twice, .change_count = 2};
    assert_int_equal(change(&scene, &properties), -EINVAL);
    properties = (struct mailstore_properties){.changes = many,
                                               .change_count = MAILSTORE_PROPERTIES_MAX + 1};
    assert_int_equal(change(&scene, &properties), -E2BIG);
    properties = (struct mailstore_properties){.special_use_given = true};
    assert_int_equal(change(&scene, &properties), -EINVAL);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "", "x"), -EINVAL);
    leave(scene.rig, scene.box);
}

static int rename_box(const struct scene *scene, const char *name)
{
    struct told told;
    int status =
        mailstore_box_rename(scene->rig->store, scene->box, slice_text(name), told_init(&told));
    return status == 0 ? told_wait(scene->rig, &told) : status;
}

static void properties_follow_a_rename_and_go_with_the_mailbox(void **state)
{
    struct scene scene = with_box(state);
    struct told told;
    leave(scene.rig, scene.box);
    scene.user = user_of(scene.rig, "ann");
    assert_int_equal(create(scene.rig, scene.user, "old"), 0);
    scene.box = box_of(scene.rig, scene.user, "old");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "a", "1"), 0);
    assert_int_equal(rename_box(&scene, "new"), 0);
    expect_property(&scene, scene.box, "a", "1");
    assert_int_equal(mailstore_box_delete(scene.rig->store, scene.box, told_init(&told)), 0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "a", "2"), -ENOENT);
    leave(scene.rig, scene.box);
    scene.user = user_of(scene.rig, "ann");
    assert_int_equal(create(scene.rig, scene.user, "new"), 0);
    scene.box = box_of(scene.rig, scene.user, "new");
    expect_property(&scene, scene.box, "a", NULL);
    leave(scene.rig, scene.box);
}

static void properties_are_the_same_when_the_index_is_built_again(void **state)
{
    struct scene scene = with_box(state);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "kept", "1"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "gone", "1"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "gone", ""), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_INCLUDE, "set", "ba"), 0);
    leave(scene.rig, scene.box);
    restart(scene.rig, false);
    scene.user = user_of(scene.rig, "ann");
    scene.box = box_of(scene.rig, scene.user, "INBOX");
    expect_property(&scene, scene.box, "kept", "1");
    expect_property(&scene, scene.box, "gone", NULL);
    expect_property(&scene, scene.box, "set", "ab");
    leave(scene.rig, scene.box);
}

struct seen {
    uint64_t user, boxes[8];
    uint32_t count;
};

static void seen_visit(void *owner, uint64_t user, uint64_t box)
{
    struct seen *seen = (struct seen *)owner;
    assert_true(seen->count < 8);
    seen->user = user;
    seen->boxes[seen->count++] = box;
}

static struct seen seen_by(const struct scene *scene, const char *name)
{
    struct seen seen = {0};
    assert_int_equal(mailstore_each_shared(scene->rig->store, slice_text(name), seen_visit, &seen),
                     0);
    return seen;
}

static void who_may_see_a_mailbox_finds_it_by_his_name(void **state)
{
    struct scene scene = with_box(state);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bobby", "l"), 0);
    struct seen seen = seen_by(&scene, "bob");
    assert_int_equal(seen.count, 1);
    assert_true(seen.user == scene.user->id);
    assert_true(seen.boxes[0] == scene.box->id);
    struct mailstore_user *again;
    assert_int_equal(mailstore_user_open_by_id(scene.rig->store, seen.user, &again), 0);
    assert_ptr_equal(again, scene.user);
    mailstore_user_close(scene.rig->store, again);
    leave(scene.rig, scene.box);
    restart(scene.rig, false);
    scene.user = user_of(scene.rig, "ann");
    scene.box = box_of(scene.rig, scene.user, "INBOX");
    assert_int_equal(seen_by(&scene, "bob").count, 1);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", ""), 0);
    assert_int_equal(seen_by(&scene, "bob").count, 0);
    assert_int_equal(seen_by(&scene, "bobby").count, 1);
    struct told told;
    assert_int_equal(mailstore_user_delete(scene.rig->store, scene.user, told_init(&told)), 0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_int_equal(seen_by(&scene, "bobby").count, 0);
    leave(scene.rig, scene.box);
}

static void a_mailbox_is_seen_by_who_sees_the_one_above_it(void **state)
{
    struct scene scene = with_box(state);
    struct told told;
    leave(scene.rig, scene.box);
    scene.user = user_of(scene.rig, "ann");
    assert_int_equal(create(scene.rig, scene.user, "a"), 0);
    scene.box = box_of(scene.rig, scene.user, "a");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "lr"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "comment", "not this"), 0);
    leave(scene.rig, scene.box);
    scene.user = user_of(scene.rig, "ann");
    assert_int_equal(create(scene.rig, scene.user, "a/b/c"), 0);
    assert_int_equal(create(scene.rig, scene.user, "ab"), 0);
    scene.box = box_of(scene.rig, scene.user, "a/b/c");
    expect_property(&scene, scene.box, "acl/bob", "lr");
    expect_property(&scene, scene.box, "comment", NULL);
    assert_int_equal(seen_by(&scene, "bob").count, 2);
    assert_int_equal(mailstore_box_delete(scene.rig->store, scene.box, told_init(&told)), 0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_int_equal(seen_by(&scene, "bob").count, 1);
    leave(scene.rig, scene.box);
}

struct shares_told {
    struct mailstore_shares_watch watch;
    const struct mailstore_user *user;
    char names[64];
};

static void shared(struct mailstore_shares_watch *watch, const struct mailstore_user *user,
                   struct slice name)
{
    struct shares_told *told = list_entry(watch, struct shares_told, watch);
    size_t size = strlen(told->names);
    assert_true(size + name.size + 1 < sizeof(told->names));
    memcpy(told->names + size, name.bytes, name.size);
    told->names[size + name.size] = ' ';
    told->user = user;
}

static void who_watches_what_is_shared_is_told_who_may_see_it(void **state)
{
    struct scene scene = with_box(state);
    struct shares_told told = {.watch.shared = shared};
    mailstore_shares_watch_begin(scene.rig->store, &told.watch);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "comment", "not this"), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_INCLUDE, "acl/bob", "r"), 0);
    assert_string_equal(told.names, "bob bob ");
    assert_ptr_equal(told.user, scene.user);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", ""), 0);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/carol", "l"), 0);
    assert_int_equal(create(scene.rig, scene.user, "INBOX/new"), 0); /* as the one above it */
    assert_string_equal(told.names, "bob bob carol carol ");
    mailstore_shares_watch_end(&told.watch);
    mailstore_shares_watch_end(&told.watch);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_string_equal(told.names, "bob bob carol carol ");
    leave(scene.rig, scene.box);
}

static void of_one_user_his_own_are_found(void **state)
{
    struct scene scene = with_box(state), other = {.rig = scene.rig};
    struct seen seen = {0};
    deliver(scene.rig, "zoe", 1);
    other.user = user_of(scene.rig, "zoe");
    other.box = box_of(scene.rig, other.user, "INBOX");
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_int_equal(change_one(&other, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_int_equal(change_one(&other, MAILSTORE_PROPERTY_SET, "acl/bobby", "l"), 0);
    assert_int_equal(seen_by(&scene, "bob").count, 2);
    assert_int_equal(mailstore_each_shared_by(scene.rig->store, other.user, slice_text("bob"),
                                              seen_visit, &seen),
                     0);
    assert_int_equal(seen.count, 1);
    assert_true(seen.user == other.user->id && seen.boxes[0] == other.box->id);
    leave(scene.rig, other.box);
    leave(scene.rig, scene.box);
}

static void a_user_knows_that_his_lists_of_names_are_others(void **state)
{
    struct scene scene = with_box(state);
    struct told told;
    uint64_t names = scene.user->names;
    deliver(scene.rig, "ann", 1);
    assert_int_equal(change_one(&scene, MAILSTORE_PROPERTY_SET, "acl/bob", "l"), 0);
    assert_true(scene.user->names == names);
    assert_int_equal(create(scene.rig, scene.user, "a"), 0);
    assert_true(scene.user->names > names);
    names = scene.user->names;
    assert_int_equal(mailstore_box_rename(scene.rig->store,
                                          mailstore_box_find(scene.user, slice_text("a")),
                                          slice_text("b"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_true(scene.user->names > names);
    names = scene.user->names;
    assert_int_equal(
        mailstore_subscribe(scene.rig->store, scene.user, slice_text("b"), true, told_init(&told)),
        0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_true(scene.user->names > names);
    names = scene.user->names;
    assert_int_equal(mailstore_box_delete(scene.rig->store,
                                          mailstore_box_find(scene.user, slice_text("b")),
                                          told_init(&told)),
                     0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    assert_true(scene.user->names > names);
    leave(scene.rig, scene.box);
}

static void flags_that_are_kept_are_not_replaced(void **state)
{
    struct scene scene = with_box(state);
    const struct slice words[] = {slice_text("old"), slice_text("new")};
    struct mailstore_flags change = {.op = MAILSTORE_ADD,
                                     .flags = MAILSTORE_SEEN | MAILSTORE_FLAGGED,
                                     .keywords = words,
                                     .keyword_count = 1,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(flag(scene.rig, scene.box, 1, 1, &change), 0);
    change.op = MAILSTORE_REPLACE;
    change.flags = MAILSTORE_ANSWERED | MAILSTORE_DELETED;
    change.keywords = &words[1];
    change.flags_kept = MAILSTORE_SEEN | MAILSTORE_DELETED;
    change.keywords_kept = true;
    assert_int_equal(flag(scene.rig, scene.box, 1, 1, &change), 0);
    assert_int_equal(scene.box->entries[0].flags, MAILSTORE_SEEN | MAILSTORE_ANSWERED);
    assert_true(scene.box->entries[0].keywords ==
                1ull << mailstore_keyword_bit(scene.box, words[0]));
    leave(scene.rig, scene.box);
}

static void what_a_copy_may_not_have_is_lost(void **state)
{
    struct scene scene = with_box(state);
    struct told told;
    const struct slice word = slice_text("word");
    const struct mailstore_uids one = {1, 1};
    struct mailstore_flags change = {.op = MAILSTORE_ADD,
                                     .flags = MAILSTORE_SEEN | MAILSTORE_FLAGGED,
                                     .keywords = &word,
                                     .keyword_count = 1,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(flag(scene.rig, scene.box, 1, 1, &change), 0);
    struct mailstore_copy copy = {.uids = &one,
                                  .uid_count = 1,
                                  .mailbox = slice_text("INBOX"),
                                  .flags_lost = MAILSTORE_SEEN,
                                  .keywords_lost = true};
    assert_int_equal(mailstore_copy(scene.rig->store, scene.box, &copy, told_init(&told)), 0);
    assert_int_equal(told_wait(scene.rig, &told), 0);
    free(copy.sources);
    assert_int_equal(scene.box->entries[1].flags, MAILSTORE_FLAGGED);
    assert_true(scene.box->entries[1].keywords == 0);
    assert_true(scene.box->entries[0].keywords != 0);
    leave(scene.rig, scene.box);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(several_are_set_and_taken_in_one_change),
        SCENE(a_value_that_is_a_set_gains_and_loses_bytes),
        SCENE(two_changes_of_a_set_in_one_round_both_count),
        SCENE(a_family_that_would_be_too_large_changes_nothing),
        SCENE(what_cannot_be_is_refused_at_once),
        SCENE(properties_follow_a_rename_and_go_with_the_mailbox),
        SCENE(properties_are_the_same_when_the_index_is_built_again),
        SCENE(who_may_see_a_mailbox_finds_it_by_his_name),
        SCENE(a_mailbox_is_seen_by_who_sees_the_one_above_it),
        SCENE(who_watches_what_is_shared_is_told_who_may_see_it),
        SCENE(of_one_user_his_own_are_found),
        SCENE(a_user_knows_that_his_lists_of_names_are_others),
        SCENE(flags_that_are_kept_are_not_replaced),
        SCENE(what_a_copy_may_not_have_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
