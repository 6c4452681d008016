/* Names of mailboxes and users, subscriptions, properties. */
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Mailboxes ───────────────────────────────────────────────────────────────────────────────── */

static int rename_to(struct mailstore_rig *rig, struct mailstore_user *user, const char *old,
                     const char *name)
{
    struct told told;
    struct mailstore_box *box = mailstore_box_find(user, slice_text(old));
    assert_non_null(box);
    int status = mailstore_box_rename(rig->store, box, slice_text(name), told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}

static int delete_box(struct mailstore_rig *rig, struct mailstore_user *user, const char *name)
{
    struct told told;
    struct mailstore_box *box = mailstore_box_find(user, slice_text(name));
    assert_non_null(box);
    int status = mailstore_box_delete(rig->store, box, told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}

static void a_mailbox_made_again_has_a_higher_uidvalidity(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_user *user = user_of(rig, "ann");
    uint32_t last = 0;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(create(rig, user, "A"), 0);
        uint32_t now = mailstore_box_find(user, slice_text("A"))->uidvalidity;
        assert_true(now > last);
        last = now;
        assert_int_equal(delete_box(rig, user, "A"), 0);
        mailstore_user_close(rig->store, user);
        restart(rig, i % 2 == 0);
        user = user_of(rig, "ann");
    }
    mailstore_user_close(rig->store, user);
}

static void renaming_takes_children_along_and_empties_inbox(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 3);
    struct mailstore_user *user = user_of(rig, "ann");
    assert_int_equal(create(rig, user, "A"), 0);
    assert_int_equal(create(rig, user, "A/x"), 0);
    assert_int_equal(create(rig, user, "Ab"), 0);
    assert_int_equal(create(rig, user, "A"), -EEXIST);
    assert_int_equal(create(rig, user, "/A"), -EINVAL);
    uint64_t id = mailstore_box_find(user, slice_text("A/x"))->id;
    assert_int_equal(rename_to(rig, user, "A", "B"), 0);
    assert_true(mailstore_box_find(user, slice_text("B/x"))->id == id);
    assert_non_null(mailstore_box_find(user, slice_text("Ab")));
    assert_null(mailstore_box_find(user, slice_text("A")));
    assert_int_equal(rename_to(rig, user, "B", "B/c"), -EINVAL);
    assert_int_equal(rename_to(rig, user, "INBOX", "Old"), 0);
    assert_int_equal(mailstore_box_find(user, slice_text("INBOX"))->count, 0);
    struct mailstore_box *old = box_of(rig, user, "Old");
    assert_int_equal(old->count, 3);
    assert_true(rig_text_is(rig, old->entries[2].text, 3, 102));
    assert_int_equal(user->totals.messages, 3);
    leave(rig, old);
}

/* As IMAP reads names: who files into "inbox/x" must find it there. */
static void inbox_is_one_in_any_letters_also_above_others(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_user *user = user_of(rig, "ann");
    assert_int_equal(create(rig, user, "inbox/lists"), 0);
    assert_int_equal(create(rig, user, "INBOX/Lists"), 0);
    assert_int_equal(create(rig, user, "InBox/lists"), -EEXIST);
    assert_int_equal(create(rig, user, "inboxes/x"), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("Inbox/lists"));
    assert_non_null(box);
    assert_true(slice_equal(box->name, slice_text("INBOX/lists")));
    assert_int_equal(rename_to(rig, user, "Inbox/lists", "iNBOX/other"), 0);
    assert_true(slice_equal(box->name, slice_text("INBOX/other")));
    assert_ptr_equal(mailstore_box_above(user, slice_text("inbox/other/none/x")), box);
    assert_null(mailstore_box_above(user, slice_text("inboxes/none")));
    assert_null(mailstore_box_above(user, slice_text("inbox")));
}

static int names_to(struct mailstore_rig *rig, struct mailstore_user *user, const char *from,
                    const char *name)
{
    struct told told;
    int status = mailstore_names_rename(rig->store, user, slice_text(from), slice_text(name),
                                        told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}

static void what_is_below_a_name_without_a_mailbox_is_renamed(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_user *user = user_of(rig, "ann");
    assert_int_equal(create(rig, user, "A/x"), 0);
    assert_int_equal(create(rig, user, "A/y/z"), 0);
    assert_int_equal(create(rig, user, "Ab/x"), 0);
    assert_int_equal(create(rig, user, "C/x"), 0);
    uint64_t id = mailstore_box_find(user, slice_text("A/y/z"))->id;
    assert_int_equal(names_to(rig, user, "none", "B"), -ENOENT);
    assert_int_equal(names_to(rig, user, "A", "A/b"), -EINVAL);
    assert_int_equal(names_to(rig, user, "A", "C"), -EEXIST); /* C/x is there */
    assert_int_equal(names_to(rig, user, "A", "C/x"), -EEXIST);
    assert_int_equal(names_to(rig, user, "A", "B/c"), 0);
    assert_true(mailstore_box_find(user, slice_text("B/c/y/z"))->id == id);
    assert_non_null(mailstore_box_find(user, slice_text("B/c/x")));
    assert_non_null(mailstore_box_find(user, slice_text("Ab/x")));
    assert_null(mailstore_box_find(user, slice_text("A/x")));
    assert_int_equal(names_to(rig, user, "A", "D"), -ENOENT);
    mailstore_user_close(rig->store, user);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void subscribed_visit(void *owner, struct slice name)
{
    char *list = (char *)owner;
    snprintf(list + strlen(list), 200 - strlen(list), "%.*s ", (int)name.size,
             (const char *)name.bytes);
}

static void mailboxes_and_subscriptions_come_in_order_however_they_came_to_be(void **state)
{
    static const char *const names[] = {"b", "INBOX", "a/b", "Z", "a", "ab", "a b", "c"};
    static const char *const order[] = {"INBOX", "Z", "a", "a b", "a/b", "ab", "b", "c"};
    struct mailstore_rig *rig = *state;
    struct mailstore_user *user = user_of(rig, "ann");
    struct mailstore_box *box = NULL;
    char list[200] = "";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct told told;
        assert_int_equal(create(rig, user, names[i]), 0);
        assert_int_equal(
            mailstore_subscribe(rig->store, user, slice_text(names[i]), true, told_init(&told)), 0);
        assert_int_equal(told_wait(rig, &told), 0);
    }
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        box = mailstore_box_next(user, box);
        assert_non_null(box);
        assert_true(slice_equal(box->name, slice_text(order[i])));
        assert_true(mailstore_is_subscribed(user, slice_text(order[i])));
    }
    assert_null(mailstore_box_next(user, box));
    mailstore_each_subscribed(user, subscribed_visit, list);
    assert_string_equal(list, "INBOX Z a a b a/b ab b c ");
    assert_false(mailstore_is_subscribed(user, slice_text("aa")));
    assert_false(mailstore_is_subscribed(user, slice_text("d")));
    mailstore_user_close(rig->store, user);
}

/* Who goes through them is at the end then, whether another has its name or not. */
static void behind_a_deleted_mailbox_there_is_none(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_user *user = user_of(rig, "ann");
    assert_int_equal(create(rig, user, "a"), 0);
    assert_int_equal(create(rig, user, "b"), 0);
    assert_int_equal(create(rig, user, "c"), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("b"));
    assert_int_equal(mailstore_box_open(rig->store, box), 0);
    assert_int_equal(delete_box(rig, user, "b"), 0);
    assert_null(mailstore_box_next(user, box));
    assert_int_equal(create(rig, user, "b"), 0);
    assert_null(mailstore_box_next(user, box));
    mailstore_box_close(rig->store, box);
    mailstore_user_close(rig->store, user);
}

static void subscriptions_and_properties_are_kept(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    struct mailstore_user *user = user_of(rig, "ann");
    assert_int_equal(
        mailstore_subscribe(rig->store, user, slice_text("not/there"), true, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    struct mailstore_property property = {.key = slice_text("acl/bob"), .value = slice_text("lrs")};
    assert_int_equal(mailstore_property_set(rig->store, user, &property, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    mailstore_user_close(rig->store, user);
    restart(rig, false);
    user = user_of(rig, "ann");
    assert_true(mailstore_is_subscribed(user, slice_text("not/there")));
    property.value = slice_of(NULL, 0);
    assert_int_equal(mailstore_property_get(rig->store, user, &property), 0);
    assert_true(slice_equal(property.value, slice_text("lrs")));
    free((void *)(uintptr_t)property.value.bytes);
    property.value = slice_of(NULL, 0);
    assert_int_equal(mailstore_property_set(rig->store, user, &property, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(mailstore_property_get(rig->store, user, &property), -ENOENT);
    mailstore_user_close(rig->store, user);
}

static void a_deleted_user_leaves_nothing_but_what_must_not_come_again(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    deliver(rig, "ann", 5);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    uint32_t uidvalidity = box->uidvalidity;
    assert_int_equal(mailstore_user_delete(rig->store, box->user, told_init(&told)), 0);
    assert_int_equal(told_wait(rig, &told), 0);
    assert_int_equal(box->state, MAILSTORE_BOX_DELETED);
    assert_int_equal(box->user->totals.messages, 0);
    leave(rig, box);
    assert_int_equal(mailstore_counters(rig->store)->live_bytes, 0);
    restart(rig, false);
    deliver(rig, "ann", 1);
    box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_true(box->uidvalidity > uidvalidity);
    assert_int_equal(box->count, 1);
    leave(rig, box);
}

struct names {
    char text[64];
    unsigned most; /* then it has enough */
};

static bool name_note(void *owner, struct slice name)
{
    struct names *names = (struct names *)owner;
    size_t used = strlen(names->text);
    snprintf(names->text + used, sizeof names->text - used, "%.*s ", (int)name.size,
             (const char *)name.bytes);
    return --names->most > 0;
}

/* Also where some are in the index and others are not there yet. */
static void users_are_told_in_order_from_any_name_on(void **state)
{
    static const struct {
        const char *after;
        unsigned count, most;
        const char *expected;
    } rows[] = {
        {"", 9, 9, "amy ann annabel bob "}, {"", 2, 9, "amy ann "}, {"", 9, 3, "amy ann annabel "},
        {"ann", 9, 9, "annabel bob "}, /* but himself */
        {"anna", 9, 9, "annabel bob "},     {"bob", 9, 9, ""},      {"zoe", 9, 9, ""},
    };
    struct mailstore_rig *rig = *state;
    deliver(rig, "bob", 1);
    deliver(rig, "ann", 1);
    restart(rig, true);
    deliver(rig, "annabel", 1);
    deliver(rig, "amy", 1);
    deliver(rig, "ann", 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct names names = {.most = rows[i].most};
        int count = mailstore_users_after(rig->store, slice_text(rows[i].after), rows[i].count,
                                          name_note, &names);
        assert_string_equal(names.text, rows[i].expected);
        unsigned told = 0;
        for (const char *at = names.text; *at != '\0'; at++) {
            told += *at == ' ';
        }
        assert_int_equal(count, told);
    }
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(a_mailbox_made_again_has_a_higher_uidvalidity),
        SCENE(renaming_takes_children_along_and_empties_inbox),
        SCENE(inbox_is_one_in_any_letters_also_above_others),
        SCENE(what_is_below_a_name_without_a_mailbox_is_renamed),
        SCENE(mailboxes_and_subscriptions_come_in_order_however_they_came_to_be),
        SCENE(behind_a_deleted_mailbox_there_is_none),
        SCENE(subscriptions_and_properties_are_kept),
        SCENE(a_deleted_user_leaves_nothing_but_what_must_not_come_again),
        SCENE(users_are_told_in_order_from_any_name_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
