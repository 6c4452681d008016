/*
 * Power is lost at any moment, with many changes on their way. What was acknowledged is there, what was expunged does not come
 * back, no uid stands for two messages, and the state is the same with the index and without it.
 */
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define SLOTS 48u
#define LETTERS_MAX 4000u
#define USERS 3u

static const char *const users[USERS] = {"ann", "bob", "cid"};

enum fate { LETTER_SENT, LETTER_THERE, LETTER_REFUSED, LETTER_EXPUNGING, LETTER_GONE };
struct letter {
    struct told told;
    struct mailstore_place place;
    struct mailstore_draft *draft;
    uint32_t bytes, sent, user;
    uint32_t replaces; /* a letter that it takes the place of, + 1; 0: none */
    bool committed;
    enum fate fate;
};
struct removal_asked {
    struct told told;
    struct mailstore_expunge expunge;
    struct mailstore_uids uids;
    uint32_t letter;
    bool used;
};
struct scene {
    struct mailstore_rig rig;
    struct letter letters[LETTERS_MAX];
    uint32_t count;
    struct removal_asked removals[SLOTS];
    uint32_t uid_highest[USERS]; /* that was told */
    uint32_t uid_before[USERS];  /* when this process began */
};

static uint32_t below(struct scene *scene, uint32_t limit)
{
    return mailstore_rig_below(&scene->rig, limit);
}

static void letter_begin(struct scene *scene)
{
    struct letter *letter = &scene->letters[scene->count];
    if (scene->count == LETTERS_MAX || mailstore_begin(scene->rig.store, &letter->draft) != 0) {
        return;
    }
    uint32_t kind = below(scene, 20);
    letter->bytes = 1 + below(scene, kind == 0 ? 400000 : kind < 4 ? 40000 : 3000);
    letter->user = below(scene, USERS);
    letter->fate = LETTER_SENT;
    scene->count++;
}

/* It may take the place of one that is there. */
static void letter_replaces(struct scene *scene, struct letter *letter)
{
    uint32_t index = below(scene, 4 * scene->count);
    if (index >= scene->count || scene->letters[index].user != letter->user ||
        scene->letters[index].fate != LETTER_THERE) {
        return;
    }
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(scene->rig.store, slice_text(users[letter->user]), &user),
                     0);
    letter->place.replaces = mailstore_box_find(user, slice_text("INBOX"));
    letter->place.replaces_uid = scene->letters[index].place.uid;
    letter->replaces = index + 1;
    scene->letters[index].fate = LETTER_EXPUNGING;
    mailstore_user_close(scene->rig.store, user);
}

static void replaced_ends(struct scene *scene, struct letter *letter)
{
    if (letter->replaces != 0) {
        scene->letters[letter->replaces - 1].fate =
            letter->fate == LETTER_THERE ? LETTER_GONE : LETTER_THERE;
        letter->replaces = 0;
    }
}

static void letter_moves(struct scene *scene, struct letter *letter, uint32_t index)
{
    static uint8_t memory[65536];
    uint32_t size = letter->bytes - letter->sent;
    if (size > 0) {
        uint32_t most = 1 + below(scene, sizeof(memory));
        size = size < most ? size : most;
        struct slice part = slice_of(memory, size);
        text_fill(index, letter->sent, memory, size);
        int status = mailstore_append(letter->draft, &part, 1);
        if (status == 0) {
            letter->sent += size;
        } else if (status != -EAGAIN) {
            mailstore_abort(letter->draft);
            letter->fate = LETTER_REFUSED;
        }
        return;
    }
    letter->place = (struct mailstore_place){.user = slice_text(users[letter->user])};
    letter->committed = true;
    letter_replaces(scene, letter);
    if (mailstore_commit(letter->draft, 0, &letter->place, 1, told_init(&letter->told)) != 0) {
        letter->fate = LETTER_REFUSED;
        replaced_ends(scene, letter);
    }
}

static void letter_ends(struct scene *scene, struct letter *letter)
{
    if (letter->told.status != 0) {
        letter->fate = LETTER_REFUSED;
        replaced_ends(scene, letter);
        return;
    }
    assert_int_equal(letter->place.status, 0);
    letter->fate = LETTER_THERE;
    assert_true(letter->place.uid > scene->uid_before[letter->user]);
    if (letter->place.uid > scene->uid_highest[letter->user]) {
        scene->uid_highest[letter->user] = letter->place.uid;
    }
    replaced_ends(scene, letter);
}

static void letter_expunge(struct scene *scene, uint32_t index)
{
    struct letter *letter = &scene->letters[index];
    uint32_t i = 0;
    while (i < SLOTS && scene->removals[i].used) {
        i++;
    }
    if (i == SLOTS) {
        return;
    }
    struct removal_asked *asked = &scene->removals[i];
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(scene->rig.store, slice_text(users[letter->user]), &user),
                     0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    assert_non_null(box);
    *asked = (struct removal_asked){.letter = index, .used = true};
    asked->uids = (struct mailstore_uids){letter->place.uid, letter->place.uid};
    asked->expunge.uids = &asked->uids;
    asked->expunge.uid_count = 1;
    letter->fate = LETTER_EXPUNGING;
    if (mailstore_expunge(scene->rig.store, box, &asked->expunge, told_init(&asked->told)) != 0) {
        asked->used = false;
        letter->fate = LETTER_THERE;
    }
    mailstore_user_close(scene->rig.store, user);
}

static void removals_end(struct scene *scene)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct removal_asked *asked = &scene->removals[i];
        if (asked->used && asked->told.done) {
            asked->used = false;
            scene->letters[asked->letter].fate =
                asked->told.status == 0 ? LETTER_GONE : LETTER_THERE;
        }
    }
}

static void scene_round(struct scene *scene)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < scene->count; i++) {
        struct letter *letter = &scene->letters[i];
        if (letter->fate == LETTER_SENT) {
            open++;
            if (letter->committed && letter->told.done) {
                letter_ends(scene, letter);
            } else if (!letter->committed && below(scene, 2) == 0) {
                letter_moves(scene, letter, i);
            }
        } else if (letter->fate == LETTER_THERE && i % 16 != 0 && below(scene, 40) == 0) {
            letter_expunge(scene, i);
        }
    }
    removals_end(scene);
    for (uint32_t i = below(scene, 4); i > 0 && open < SLOTS; i--) {
        letter_begin(scene);
    }
    mailstore_rig_round(&scene->rig);
}

/* Which letter has this uid; its text says so. */
static void entry_check(struct scene *scene, uint32_t user, const struct mailstore_entry *entry,
                        uint32_t *found)
{
    for (uint32_t i = 0; i < scene->count; i++) {
        struct letter *letter = &scene->letters[i];
        bool mine = letter->user == user && letter->bytes == entry->bytes;
        bool told = letter->fate != LETTER_SENT && letter->place.uid == entry->uid;
        if (!mine || !(told || (letter->fate == LETTER_SENT && letter->committed)) ||
            !rig_text_is(&scene->rig, entry->text, i, letter->bytes)) {
            continue;
        }
        assert_true(letter->fate == LETTER_SENT || letter->fate == LETTER_THERE ||
                    letter->fate == LETTER_EXPUNGING);
        letter->fate = LETTER_THERE; /* it was not answered, and is there */
        letter->place.uid = entry->uid;
        found[i] = 1;
        return;
    }
    assert_true(false); /* nobody's */
}

static void survivors_check(struct scene *scene)
{
    uint32_t *found = (uint32_t *)calloc(scene->count + 1, sizeof(found[0]));
    for (uint32_t u = 0; u < USERS; u++) {
        struct mailstore_user *user;
        assert_int_equal(mailstore_user_open(scene->rig.store, slice_text(users[u]), &user), 0);
        struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
        if (box != NULL) {
            assert_int_equal(mailstore_box_open(scene->rig.store, box), 0);
            for (uint32_t i = 0; i < box->count; i++) {
                entry_check(scene, u, &box->entries[i], found);
            }
            assert_true(box->uidnext > scene->uid_highest[u]);
            scene->uid_highest[u] = scene->uid_before[u] = box->uidnext - 1;
            mailstore_box_close(scene->rig.store, box);
        }
        mailstore_user_close(scene->rig.store, user);
    }
    for (uint32_t i = 0; i < scene->count; i++) {
        struct letter *letter = &scene->letters[i];
        if (letter->replaces != 0) { /* both, or neither */
            assert_int_not_equal(found[i], found[letter->replaces - 1]);
            letter->replaces = 0;
        }
        if (!found[i]) {
            assert_int_not_equal(letter->fate, LETTER_THERE);
            letter->fate = LETTER_GONE;
        }
    }
    free(found);
}

static void crashes(struct scene *scene)
{
    mailstore_rig_crash(&scene->rig);
    for (uint32_t i = 0; i < SLOTS; i++) {
        scene->removals[i].used = false;
    }
    for (uint32_t i = 0; i < scene->count; i++) {
        struct letter *letter = &scene->letters[i];
        bool told = letter->fate == LETTER_SENT && letter->committed && letter->told.done;
        if (told) {
            letter_ends(scene, letter);
        }
    }
    if (below(scene, 3) == 0) {
        mailstore_rig_forget_index(&scene->rig);
    }
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
    char *with = rig_dump(&scene->rig);
    survivors_check(scene);
    mailstore_rig_crash(&scene->rig);
    mailstore_rig_forget_index(&scene->rig);
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
    char *without = rig_dump(&scene->rig);
    assert_string_equal(with, without);
    free(with);
    free(without);
}

static uint64_t live(uint64_t seed)
{
    struct scene *scene = (struct scene *)calloc(1, sizeof(*scene));
    mailstore_rig_open(&scene->rig, seed);
    scene->rig.rig.fault_settings.late_percent = below(scene, 70);
    if (seed % 3 == 0) {
        scene->rig.rig.fault_settings.capacity_bytes =
            (8 + below(scene, 6)) * 8ull * LOG_FRAME_BYTES;
    }
    disk_fault_set(scene->rig.rig.fault, &scene->rig.rig.fault_settings);
    scene->rig.settings.clean_bytes_min = 1;
    scene->rig.settings.index_changes_max = 10 + below(scene, 300);
    scene->rig.rig.settings.write_count_max = 1 + below(scene, 6);
    assert_int_equal(mailstore_rig_start(&scene->rig), 0);
    uint64_t cleaned = 0;
    for (uint32_t lives = 0; lives < 4; lives++) {
        uint32_t rounds = 20 + below(scene, 700);
        if (below(scene, 3) == 0) {
            disk_fault_fail(scene->rig.rig.fault, DISK_FAULT_WRITE, below(scene, 40), 1, -EIO);
        }
        for (uint32_t i = 0; i < rounds; i++) {
            scene_round(scene);
        }
        cleaned += mailstore_counters(scene->rig.store)->segments_cleaned;
        crashes(scene);
    }
    mailstore_rig_close(&scene->rig);
    free(scene);
    return cleaned;
}

/* The text takes several writes, of which any may be lost while the commit is not. */
static bool one_of_two_is_there(uint64_t seed)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)calloc(1, sizeof(*rig));
    static uint8_t text[200000];
    struct slice part = slice_of(text, sizeof(text));
    struct mailstore_place place = {0};
    struct mailstore_draft *draft;
    struct told told;
    mailstore_rig_open(rig, seed);
    rig->rig.fault_settings.late_percent = 50;
    disk_fault_set(rig->rig.fault, &rig->rig.fault_settings);
    rig->rig.settings.write_count_max = 6;
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(rig_deliver(rig, "ann", "", 1, 100, &place), 0);
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(rig->store, slice_text("ann"), &user), 0);
    place = (struct mailstore_place){.user = slice_text("ann"),
                                     .replaces = mailstore_box_find(user, slice_text("INBOX")),
                                     .replaces_uid = 1};
    text_fill(2, 0, text, sizeof(text));
    assert_int_equal(mailstore_begin(rig->store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &part, 1), 0);
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    for (uint32_t rounds = mailstore_rig_below(rig, 12); rounds > 0; rounds--) {
        mailstore_rig_round(rig);
    }
    bool acknowledged = told.done && told.status == 0;
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(mailstore_user_open(rig->store, slice_text("ann"), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    assert_int_equal(mailstore_box_open(rig->store, box), 0);
    assert_int_equal(box->count, 1);
    bool replaced = box->entries[0].uid > 1;
    assert_true(replaced || !acknowledged);
    assert_true(
        rig_text_is(rig, box->entries[0].text, replaced ? 2 : 1, replaced ? sizeof(text) : 100));
    mailstore_box_close(rig->store, box);
    mailstore_user_close(rig->store, user);
    mailstore_rig_stop(rig);
    mailstore_rig_close(rig);
    free(rig);
    return replaced;
}

static void of_a_message_and_what_replaces_it_one_survives(void **state)
{
    (void)state;
    unsigned replaced = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        replaced += one_of_two_is_there(seed);
    }
    assert_true(replaced > 10 && replaced < 90); /* or too little was tried */
}

static void what_was_acknowledged_survives_and_what_was_expunged_does_not(void **state)
{
    (void)state;
    const char *text = getenv("MAILSTORE_SEEDS");
    uint64_t count = text != NULL ? (uint64_t)atoi(text) : 15, cleaned = 0;
    for (uint64_t seed = 1; seed <= count; seed++) {
        cleaned += live(seed);
    }
    assert_true(cleaned > count); /* or the hard part was not tried */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_message_and_what_replaces_it_one_survives),
        cmocka_unit_test(what_was_acknowledged_survives_and_what_was_expunged_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
