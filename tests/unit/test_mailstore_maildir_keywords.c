/* Keywords beyond the 26 that a folder of a Maildir has letters for: the store has them, whatever they came with. */
#include "tests/unit/maildirs_rig.h"
#include <stdio.h>
#include <stdlib.h>

#define KEEP_S 1000u

/* All letters of the folder are somebody's. */
static void letters_use_up(const struct maildirs_rig *fixture, const char *folder)
{
    char text[512] = "", path[64];
    size_t used = 0;
    for (unsigned i = 0; i < 26; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%u k%u\n", i, i);
    }
    snprintf(path, sizeof path, "%sdovecot-keywords", folder);
    maildirs_put(fixture, path, text);
}

static int set_up(struct maildirs_rig *fixture)
{
    fixture->rig.settings.keep_expunged_s = KEEP_S;
    maildirs_start_again(fixture, mailstore_rig_stop);
    maildirs_folder(fixture, "");
    maildirs_folder(fixture, ".There");
    letters_use_up(fixture, "");
    letters_use_up(fixture, ".There/");
    maildirs_put(fixture, "cur/1.a.x:2,b", "M\n");
    maildirs_put(fixture, "cur/2.b.x:2,", "M\n");
    maildirs_put(fixture, "cur/3.c.x:2,", "M\n");
    maildirs_look(fixture);
    return 0;
}

static int set_up_alone(void **state)
{
    maildirs_set_up(state);
    return set_up(*state);
}

static int set_up_crowded(void **state)
{
    maildirs_set_up_crowded(state);
    return set_up(*state);
}

/* What others do there does not take it away, nor what is done with it later. */
static void assert_stays(struct maildirs_rig *fixture, const char *name, const char *expected)
{
    assert_box(fixture, name, expected);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, name, expected);
    maildirs_start_again(fixture, mailstore_rig_crash);
    maildirs_look(fixture);
    assert_box(fixture, name, expected);
}

static int append(struct maildirs_rig *fixture, const char *name, const char *const *words,
                  uint32_t count)
{
    struct mailstore_draft *draft;
    struct slice keywords[80];
    const struct slice bytes = slice_text("M\r\n");
    struct told told;
    for (uint32_t i = 0; i < count; i++) {
        keywords[i] = slice_text(words[i]);
    }
    struct mailstore_place place = {.user = slice_text("ann"),
                                    .mailbox = slice_text(name),
                                    .keywords = keywords,
                                    .keyword_count = count};
    assert_int_equal(mailstore_begin(fixture->rig.store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &bytes, 1), 0);
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    return place.status;
}

static int copy_or_move(struct maildirs_rig *fixture, bool moves, uint32_t first, uint32_t last)
{
    struct mailstore *store = fixture->rig.store;
    struct mailstore_box *inbox = maildirs_box(fixture, "INBOX");
    const struct mailstore_uids uids = {first, last};
    struct mailstore_copy copy = {.uids = &uids, .uid_count = 1, .mailbox = slice_text("There")};
    struct told told;
    assert_int_equal(mailstore_box_open(store, inbox), 0);
    assert_int_equal(
        (moves ? mailstore_move : mailstore_copy)(store, inbox, &copy, told_init(&told)), 0);
    mailstore_box_close(store, inbox);
    int status = told_wait(&fixture->rig, &told);
    free(copy.sources);
    return status;
}

static void one_that_is_stored_stays(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_flag(fixture, "INBOX", 1, MAILSTORE_SEEN, "one more");
    assert_stays(fixture, "INBOX", "1:1:k1one more 2:0: 3:0:");
    assert_true(maildirs_has(fixture, "cur/1.a.x:2,Sb"));
}

static void one_that_is_appended_stays(void **state)
{
    struct maildirs_rig *fixture = *state;
    static const char *const words[] = {"new", "k2", "other"};
    assert_int_equal(append(fixture, "INBOX", words, 3), 0);
    assert_true(maildirs_has(fixture, "cur/*:2,c"));
    assert_stays(fixture, "INBOX", "1:0:k1 2:0: 3:0: 4:0:k2newother");
}

static void those_that_are_copied_and_moved_stay_with_their_messages(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_flag(fixture, "INBOX", 1, 0, "new");
    maildirs_flag(fixture, "INBOX", 3, 0, "new");
    maildirs_flag(fixture, "INBOX", 2, 0, "other");
    maildirs_flag(fixture, "INBOX", 3, 0, "other");
    assert_int_equal(copy_or_move(fixture, false, 1, 3), 0);
    assert_box(fixture, "There", "1:0:k1new 2:0:other 3:0:newother");
    assert_int_equal(copy_or_move(fixture, true, 2, 3), 0);
    assert_stays(fixture, "There", "1:0:k1new 2:0:other 3:0:newother 4:0:other 5:0:newother");
    assert_box(fixture, "INBOX", "1:0:k1new");
}

static void one_stays_when_inbox_is_renamed(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    char word[8];
    for (unsigned i = 0; i < 27; i++) {
        snprintf(word, sizeof word, "w%u", i);
        maildirs_flag(fixture, "INBOX", 2, 0, word);
    }
    assert_int_equal(mailstore_box_rename(fixture->rig.store, maildirs_box(fixture, "INBOX"),
                                          slice_text("Old"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_stays(
        fixture, "Old",
        "1:0:k1 2:0:w0w1w2w3w4w5w6w7w8w9w10w11w12w13w14w15w16w17w18w19w20w21w22w23w24w25w26 "
        "3:0:");
}

static void one_comes_back_with_what_was_expunged(void **state)
{
    struct maildirs_rig *fixture = *state;
    const struct mailstore_uids all = {1, UINT32_MAX};
    struct mailstore_restore change = {.uids = &all, .uid_count = 1};
    struct told told;
    maildirs_flag(fixture, "INBOX", 2, 0, "new");
    maildirs_expunge(fixture, "INBOX", 2);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_int_equal(mailstore_restore(fixture->rig.store, maildirs_box(fixture, "INBOX"), &change,
                                       told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_stays(fixture, "INBOX", "1:0:k1 3:0: 4:0:new");
}

/* Then clients are told that no more can be made (PERMANENTFLAGS without \*). */
static void there_are_64_as_in_the_stores_own_mailboxes(void **state)
{
    struct maildirs_rig *fixture = *state;
    char words[80][8];
    const char *all[80];
    for (unsigned i = 0; i < 80; i++) {
        snprintf(words[i], sizeof words[i], "w%u", i);
        all[i] = words[i];
    }
    assert_int_equal(append(fixture, "There", all, 80), 0);
    struct mailstore_box *box = maildirs_box(fixture, "There");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(box->keyword_count, MAILSTORE_KEYWORDS_MAX);
    assert_int_equal(__builtin_popcountll(box->entries[0].keywords), MAILSTORE_KEYWORDS_MAX - 26);
    mailstore_box_close(fixture->rig.store, box);
}

#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, set_up_alone, maildirs_tear_down),                       \
    {                                                                                              \
#name "_with_many_users", name, set_up_crowded, maildirs_tear_down, NULL                   \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_that_is_stored_stays),
        CASE(one_that_is_appended_stays),
        CASE(those_that_are_copied_and_moved_stay_with_their_messages),
        CASE(one_stays_when_inbox_is_renamed),
        CASE(one_comes_back_with_what_was_expunged),
        CASE(there_are_64_as_in_the_stores_own_mailboxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
