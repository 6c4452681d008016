/*
 * Random operations on a store and on a model of it that is too simple to be wrong, with failed writes, restarts, crashes and
 * lost indexes between. One seed decides everything.
 */
#include "queue/mailbox/mailstore_audit.h"
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define BOXES 4u /* INBOX, a, a/b, c of one user */
#define MAILS_MAX 400u
#define SMALL_MAX 20000u
#define PROPERTIES 4u /* of each mailbox: who may see it, 0..3 */

struct mail {
    uint32_t uid, flags, bytes;
    uint64_t seed;
    uint64_t keywords; /* of k0..k7 */
};
struct model_box {
    bool is;
    uint32_t uidvalidity, uidnext;
    uint64_t modseq;
    struct mail mails[MAILS_MAX];
    uint32_t count;
    uint32_t properties[PROPERTIES]; /* a set of letters: bit 0 is 'a' */
};
struct model {
    struct mailstore_rig rig;
    struct model_box boxes[2][BOXES];
    uint32_t uidvalidity_highest[2];
    uint64_t next_seed;
    uint64_t failed, audited;
};
static const char *const users[2] = {"ann", "bob@example.org"};
static const char *const names[BOXES] = {"INBOX", "a", "a/b", "c"};
static const char *const keywords[8] = {"k0", "$k1", "k2", "k3", "k4", "k5", "k6", "k7"};

static uint32_t below(struct model *model, uint32_t limit)
{
    return mailstore_rig_below(&model->rig, limit);
}

static struct mailstore_user *user_open(struct model *model, uint32_t user)
{
    struct mailstore_user *opened;
    assert_int_equal(mailstore_user_open(model->rig.store, slice_text(users[user]), &opened), 0);
    return opened;
}

static uint32_t property_letters(struct model *model, struct mailstore_box *box, uint32_t index)
{
    char key[16];
    snprintf(key, sizeof(key), MAILSTORE_SHARE_KEY "%u", index);
    uint32_t letters = 0;
    struct mailstore_property property = {.box = box, .key = slice_text(key)};
    int status = mailstore_property_get(model->rig.store, box->user, &property);
    assert_true(status == 0 || status == -ENOENT);
    for (size_t i = 0; status == 0 && i < property.value.size; i++) {
        letters |= 1u << (property.value.bytes[i] - 'a');
    }
    free(status == 0 ? (void *)(uintptr_t)property.value.bytes : NULL);
    return letters;
}

/* ── Is it the same? ─────────────────────────────────────────────────────────────────────────── */

static uint64_t bits_of(const struct mailstore_box *box, const struct mailstore_entry *entry)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < 8; i++) {
        int bit = mailstore_keyword_bit(box, slice_text(keywords[i]));
        bits |= bit >= 0 && (entry->keywords >> bit & 1) ? 1ull << i : 0;
    }
    return bits;
}

static void box_check(struct model *model, struct mailstore_box *box, struct model_box *expected,
                      bool reads)
{
    uint32_t unseen = 0, deleted = 0;
    uint64_t bytes = 0, deleted_bytes = 0;
    assert_int_equal(mailstore_box_open(model->rig.store, box), 0);
    assert_int_equal(box->count, expected->count);
    assert_int_equal(box->uidvalidity, expected->uidvalidity);
    assert_int_equal(box->uidnext, expected->uidnext);
    for (uint32_t i = 0; i < box->count; i++) {
        const struct mail *mail = &expected->mails[i];
        assert_int_equal(box->entries[i].uid, mail->uid);
        assert_int_equal(box->entries[i].flags, mail->flags);
        assert_int_equal(box->entries[i].bytes, mail->bytes);
        assert_true(bits_of(box, &box->entries[i]) == mail->keywords);
        unseen += !(mail->flags & MAILSTORE_SEEN);
        deleted += !!(mail->flags & MAILSTORE_DELETED);
        deleted_bytes += mail->flags & MAILSTORE_DELETED ? mail->bytes : 0;
        bytes += mail->bytes;
        if (reads) {
            assert_true(rig_text_is(&model->rig, box->entries[i].text, mail->seed, mail->bytes));
        }
    }
    assert_int_equal(box->unseen_count, unseen);
    assert_int_equal(box->deleted_count, deleted);
    assert_true(box->bytes == bytes && box->deleted_bytes == deleted_bytes);
    assert_true(box->modseq >= expected->modseq);
    expected->modseq = box->modseq;
    for (uint32_t i = 0; i < PROPERTIES; i++) {
        assert_int_equal(property_letters(model, box, i), expected->properties[i]);
    }
    mailstore_box_close(model->rig.store, box);
}

struct shared {
    uint64_t boxes[2 * BOXES];
    uint32_t count;
};

static void shared_visit(void *owner, uint64_t user, uint64_t box)
{
    struct shared *shared = (struct shared *)owner;
    (void)user;
    assert_true(shared->count < 2 * BOXES);
    shared->boxes[shared->count++] = box;
}

/* Each mailbox that says who may see it is found by that name, and no other. */
static void shared_check(struct model *model)
{
    for (uint32_t i = 0; i < PROPERTIES; i++) {
        char name[2] = {(char)('0' + i), '\0'};
        struct shared shared = {0};
        uint32_t count = 0;
        assert_int_equal(
            mailstore_each_shared(model->rig.store, slice_text(name), shared_visit, &shared), 0);
        for (uint32_t u = 0; u < 2; u++) {
            struct mailstore_user *user = user_open(model, u);
            for (uint32_t b = 0; b < BOXES; b++) {
                const struct model_box *expected = &model->boxes[u][b];
                if (!expected->is || expected->properties[i] == 0) {
                    continue;
                }
                uint64_t id = mailstore_box_find(user, slice_text(names[b]))->id;
                bool found = false;
                for (uint32_t k = 0; k < shared.count; k++) {
                    found = found || shared.boxes[k] == id;
                }
                assert_true(found);
                count++;
            }
            mailstore_user_close(model->rig.store, user);
        }
        assert_int_equal(shared.count, count);
    }
}

static void all_check(struct model *model, bool reads)
{
    shared_check(model);
    for (uint32_t u = 0; u < 2; u++) {
        struct mailstore_user *user = user_open(model, u);
        uint64_t bytes = 0, messages = 0;
        for (uint32_t b = 0; b < BOXES; b++) {
            struct model_box *expected = &model->boxes[u][b];
            struct mailstore_box *box = mailstore_box_find(user, slice_text(names[b]));
            assert_int_equal(box != NULL, expected->is);
            if (box != NULL) {
                box_check(model, box, expected, reads);
                bytes += box->bytes;
                messages += box->count;
            }
        }
        assert_true(user->totals.bytes == bytes);
        assert_true(user->totals.messages == messages);
        mailstore_user_close(model->rig.store, user);
    }
}

/* ── Operations ──────────────────────────────────────────────────────────────────────────────── */

/* Who may see "a" may see "a/b" from its beginning. */
static void box_made(struct model *model, uint32_t u, struct model_box *box, uint32_t uidvalidity)
{
    const struct model_box *above = &model->boxes[u][1];
    assert_true(uidvalidity > model->uidvalidity_highest[u]);
    model->uidvalidity_highest[u] = uidvalidity;
    *box = (struct model_box){.is = true, .uidvalidity = uidvalidity, .uidnext = 1, .modseq = 1};
    if (box == &model->boxes[u][2] && above->is) {
        memcpy(box->properties, above->properties, sizeof(box->properties));
    }
}

static void mail_add(struct model_box *box, struct mail mail)
{
    assert_true(box->count < MAILS_MAX);
    mail.uid = box->uidnext++;
    box->mails[box->count++] = mail;
}

static void delivers(struct model *model)
{
    uint32_t u = below(model, 2), b = below(model, BOXES);
    struct model_box *box = &model->boxes[u][b];
    struct slice keyword = slice_text(keywords[below(model, 8)]);
    struct mail mail = {.seed = model->next_seed++,
                        .flags = below(model, 32),
                        .bytes = 1 + below(model, below(model, 10) == 0 ? 300000 : SMALL_MAX)};
    struct mailstore_place place = {.flags = (uint8_t)mail.flags,
                                    .options = MAILSTORE_AUTOCREATE,
                                    .keywords = &keyword,
                                    .keyword_count = 1};
    for (uint32_t i = 0; i < 8; i++) {
        mail.keywords |= slice_equal(keyword, slice_text(keywords[i])) ? 1ull << i : 0;
    }
    if (box->count >= MAILS_MAX / 2) {
        return;
    }
    int status = rig_deliver(&model->rig, users[u], names[b], mail.seed, mail.bytes, &place);
    if (status != 0) {
        model->failed++;
        return;
    }
    if (!box->is) {
        box_made(model, u, box, place.uidvalidity);
    }
    assert_int_equal(place.uid, box->uidnext);
    mail_add(box, mail);
}

/* One that is there. */
static struct mailstore_box *box_choose(struct model *model, struct model_box **expected)
{
    uint32_t u = below(model, 2), b = below(model, BOXES);
    *expected = &model->boxes[u][b];
    if (!(*expected)->is) {
        return NULL;
    }
    struct mailstore_user *user = user_open(model, u);
    struct mailstore_box *box = mailstore_box_find(user, slice_text(names[b]));
    assert_non_null(box);
    assert_int_equal(mailstore_box_open(model->rig.store, box), 0);
    return box;
}

static void box_leave(struct model *model, struct mailstore_box *box)
{
    struct mailstore_user *user = box->user;
    mailstore_box_close(model->rig.store, box);
    mailstore_user_close(model->rig.store, user);
}

static struct mailstore_uids some(struct model *model, const struct model_box *box)
{
    uint32_t first = 1 + below(model, box->uidnext + 2);
    uint32_t most = below(model, 6) == 0 ? 200 : 4;
    return (struct mailstore_uids){first, first + below(model, most)};
}

static bool is_among(struct mailstore_uids uids, uint32_t uid)
{
    return uids.first <= uid && uid <= uids.last;
}

static void flags(struct model *model)
{
    struct model_box *expected;
    struct mailstore_box *box = box_choose(model, &expected);
    if (box == NULL) {
        return;
    }
    struct told told;
    uint32_t k = below(model, 8);
    struct slice keyword = slice_text(keywords[k]);
    struct mailstore_uids uids = some(model, expected);
    struct mailstore_flags change = {.uids = &uids,
                                     .uid_count = 1,
                                     .op = (enum mailstore_flags_op)below(model, 3),
                                     .flags = (uint8_t)below(model, 32),
                                     .keywords = &keyword,
                                     .keyword_count = below(model, 2),
                                     .unchanged_since = MAILSTORE_ALWAYS};
    int status = mailstore_flags(model->rig.store, box, &change, told_init(&told));
    status = status == 0 ? told_wait(&model->rig, &told) : status;
    uint64_t bit = change.keyword_count > 0 ? 1ull << k : 0;
    model->failed += status != 0;
    for (uint32_t i = 0; i < expected->count && status == 0; i++) {
        struct mail *mail = &expected->mails[i];
        if (!is_among(uids, mail->uid)) {
            continue;
        }
        switch (change.op) {
        case MAILSTORE_ADD:
            mail->flags |= change.flags;
            mail->keywords |= bit;
            break;
        case MAILSTORE_REMOVE:
            mail->flags &= ~(uint32_t)change.flags;
            mail->keywords &= ~bit;
            break;
        case MAILSTORE_REPLACE:
            mail->flags = change.flags;
            mail->keywords = bit;
            break;
        }
    }
    box_leave(model, box);
}

static void mails_remove(struct model_box *box, struct mailstore_uids uids, bool deleted_only)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < box->count; i++) {
        bool goes = is_among(uids, box->mails[i].uid) &&
                    (!deleted_only || (box->mails[i].flags & MAILSTORE_DELETED));
        if (!goes) {
            box->mails[kept++] = box->mails[i];
        }
    }
    box->count = kept;
}

static void expunges(struct model *model)
{
    struct model_box *expected;
    struct mailstore_box *box = box_choose(model, &expected);
    if (box == NULL) {
        return;
    }
    struct told told;
    struct mailstore_uids uids = some(model, expected);
    struct mailstore_expunge expunge = {
        .uids = &uids, .uid_count = 1, .deleted_only = below(model, 2) == 0};
    int status = mailstore_expunge(model->rig.store, box, &expunge, told_init(&told));
    status = status == 0 ? told_wait(&model->rig, &told) : status;
    if (status == 0) {
        mails_remove(expected, uids, expunge.deleted_only);
    }
    model->failed += status != 0;
    box_leave(model, box);
}

static void copies(struct model *model)
{
    struct model_box *source;
    struct mailstore_box *box = box_choose(model, &source);
    if (box == NULL) {
        return;
    }
    struct told told;
    uint32_t u = below(model, 2), b = below(model, BOXES);
    struct model_box *target = &model->boxes[u][b];
    bool moves = below(model, 2) == 0;
    struct mailstore_uids uids = some(model, source);
    struct mailstore_copy copy = {.uids = &uids,
                                  .uid_count = 1,
                                  .user = slice_text(users[u]),
                                  .mailbox = slice_text(names[b])};
    if (target->count > MAILS_MAX / 2 || (!target->is && b == 0)) {
        box_leave(model, box);
        return;
    }
    int status =
        (moves ? mailstore_move : mailstore_copy)(model->rig.store, box, &copy, told_init(&told));
    status = status == 0 ? told_wait(&model->rig, &told) : status;
    if (!target->is) {
        assert_int_not_equal(status, 0);
    } else if (status == 0) {
        uint32_t count = source->count, last = source->uidnext - 1;
        for (uint32_t i = 0; i < count; i++) {
            if (is_among(uids, source->mails[i].uid)) {
                mail_add(target, source->mails[i]);
            }
        }
        if (moves) { /* not those that have just come, where it is the same mailbox */
            uids.last = uids.last < last ? uids.last : last;
            mails_remove(source, uids, false);
        }
    }
    model->failed += status != 0;
    free(copy.sources);
    box_leave(model, box);
}

/* One goes and one comes, in whatever mailbox of the user's; or nothing happens. */
static void replaces(struct model *model)
{
    struct model_box *source;
    struct mailstore_box *box = box_choose(model, &source);
    if (box == NULL) {
        return;
    }
    uint32_t u = slice_equal(slice_text(box->user->name), slice_text(users[1]));
    uint32_t b = below(model, BOXES), at = below(model, source->count + 1);
    struct model_box *target = &model->boxes[u][b];
    bool is_there = at < source->count;
    uint32_t uid = is_there ? source->mails[at].uid : source->uidnext;
    struct mail mail = {.seed = model->next_seed++, .bytes = 1 + below(model, SMALL_MAX)};
    struct mailstore_place place = {.replaces = box, .replaces_uid = uid};
    if (target->count > MAILS_MAX / 2 || (!target->is && b == 0)) {
        box_leave(model, box);
        return;
    }
    int status = rig_deliver(&model->rig, users[u], names[b], mail.seed, mail.bytes, &place);
    if (!is_there || !target->is) {
        assert_int_not_equal(status, 0);
    } else if (status == 0) {
        mails_remove(source, (struct mailstore_uids){uid, uid}, false);
        mail_add(target, mail);
    }
    model->failed += status != 0;
    box_leave(model, box);
}

/* Two of them in one change; as many as three may be there. */
static void properties_change(struct model *model)
{
    struct model_box *expected;
    struct mailstore_box *box = box_choose(model, &expected);
    if (box == NULL) {
        return;
    }
    struct told told;
    static const char letters[] = "abcdefgh";
    const struct mailstore_property_family family = {slice_text(MAILSTORE_SHARE_KEY), 3};
    struct mailstore_property_change changes[2];
    char keys[2][16];
    uint32_t after[PROPERTIES], before_count = 0, count = 0, first = below(model, PROPERTIES);
    memcpy(after, expected->properties, sizeof(after));
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t index = (first + i) % PROPERTIES, letter = below(model, 5);
        uint32_t size = below(model, 4), bits = ((1u << size) - 1) << letter;
        snprintf(keys[i], sizeof(keys[i]), MAILSTORE_SHARE_KEY "%u", index);
        changes[i] = (struct mailstore_property_change){(enum mailstore_property_op)below(model, 3),
                                                        slice_text(keys[i]),
                                                        slice_of(letters + letter, size)};
        after[index] = changes[i].op == MAILSTORE_PROPERTY_SET       ? bits
                       : changes[i].op == MAILSTORE_PROPERTY_INCLUDE ? after[index] | bits
                                                                     : after[index] & ~bits;
    }
    for (uint32_t i = 0; i < PROPERTIES; i++) {
        before_count += expected->properties[i] != 0;
        count += after[i] != 0;
    }
    const struct mailstore_properties properties = {
        .box = box, .changes = changes, .change_count = 2, .families = &family, .family_count = 1};
    int status =
        mailstore_properties_set(model->rig.store, box->user, &properties, told_init(&told));
    status = status == 0 ? told_wait(&model->rig, &told) : status;
    if (status == 0) {
        assert_true(count <= 3 || count <= before_count);
        memcpy(expected->properties, after, sizeof(after));
    }
    if (count > 3 && count > before_count) {
        assert_int_not_equal(status, 0);
    } else {
        model->failed += status != 0;
    }
    box_leave(model, box);
}

static void names_change(struct model *model)
{
    uint32_t u = below(model, 2), b = 1 + below(model, BOXES - 1);
    struct model_box *expected = &model->boxes[u][b];
    struct mailstore_user *user = user_open(model, u);
    struct told told;
    int status;
    if (expected->is && below(model, 4) == 0) {
        struct mailstore_box *box = mailstore_box_find(user, slice_text(names[b]));
        status = mailstore_box_delete(model->rig.store, box, told_init(&told));
        status = status == 0 ? told_wait(&model->rig, &told) : status;
        expected->is = status != 0;
        expected->count = expected->is ? expected->count : 0;
        model->failed += status != 0;
    } else {
        struct mailstore_create create = {.mailbox = slice_text(names[b])};
        status = mailstore_box_create(model->rig.store, user, &create, told_init(&told));
        status = status == 0 ? told_wait(&model->rig, &told) : status;
        if (expected->is) {
            assert_int_equal(status, -EEXIST);
        } else if (status == 0) {
            box_made(model, u, expected, create.uidvalidity);
        }
    }
    mailstore_user_close(model->rig.store, user);
}

/* ── The index against the log, while changes go on ──────────────────────────────────────────── */

static int audit_progress(void *owner, const struct mailstore_audit_progress *progress)
{
    (void)owner, (void)progress;
    return 0;
}

static void audit_row(void *owner, const struct mailstore_difference *difference)
{
    (void)owner;
    fail_msg("a row of %.*s differs: %s", (int)difference->user.size, difference->user.bytes,
             difference->what);
}

static void audit_wake(void *owner)
{
    (void)owner;
}

static void audit_done(void *owner, const struct mailstore_audit_result *result)
{
    struct model *model = (struct model *)owner;
    int status = result->status; /* trouble is none of the index */
    assert_true(status == 0 || status == -EIO || status == -ENOSPC || status == -EAGAIN ||
                status == -ECANCELED);
    model->audited += status == 0;
}

static void audit(struct model *model)
{
    const struct mailstore_audit_settings settings = {.progress = audit_progress,
                                                      .visit = audit_row,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = model};
    int status = mailstore_audit_begin(model->rig.store, &settings);
    assert_true(status == 0 || status == -EBUSY || status == -ENOSPC);
}

/* ── The end of a process ────────────────────────────────────────────────────────────────────── */

static void restarts(struct model *model)
{
    struct mailstore_rig *rig = &model->rig;
    bool crashes = below(model, 2) == 0, forgets = below(model, 3) == 0;
    char *before = rig_dump(rig);
    if (crashes) {
        mailstore_rig_crash(rig);
    } else {
        mailstore_rig_stop(rig);
    }
    if (forgets) {
        mailstore_rig_forget_index(rig);
    }
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_true(forgets || mailstore_counters(rig->store)->rebuilds == 0);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
    all_check(model, forgets || below(model, 4) == 0);
}

static void trouble(struct model *model)
{
    switch (below(model, 3)) {
    case 0:
        disk_fault_fail(model->rig.rig.fault, DISK_FAULT_WRITE, below(model, 4), 1, -EIO);
        break;
    case 1:
        disk_fault_fail(model->rig.rig.fault, DISK_FAULT_PREPARE, 0, 1, -ENOSPC);
        break;
    default:
        disk_fault_fail(model->rig.rig.fault, DISK_FAULT_READ, below(model, 4), 1, -EIO);
        break;
    }
}

static void live(uint64_t seed, uint32_t operations, bool troubles)
{
    struct model *model = (struct model *)calloc(1, sizeof(*model));
    mailstore_rig_open(&model->rig, seed);
    model->rig.settings.clean_bytes_min = 1;
    model->rig.settings.index_changes_max = 20 + below(model, 400);
    model->rig.rig.settings.write_count_max = 1 + below(model, 6);
    assert_int_equal(mailstore_rig_start(&model->rig), 0);
    for (uint32_t i = 0; i < operations; i++) {
        uint32_t kind = below(model, 100);
        if (kind < 45) {
            delivers(model);
        } else if (kind < 60) {
            flags(model);
        } else if (kind < 80) {
            expunges(model);
        } else if (kind < 88) {
            copies(model);
        } else if (kind < 91) {
            replaces(model);
        } else if (kind < 95) {
            properties_change(model);
        } else if (kind < 97) {
            names_change(model);
        } else if (kind == 97 && troubles) {
            trouble(model);
        } else if (kind == 98) {
            audit(model);
            all_check(model, false);
        } else if (below(model, 3) == 0) {
            restarts(model);
        }
        model->rig.wall_s += below(model, 3);
    }
    restarts(model);
    all_check(model, true);
    assert_true(troubles || model->failed < operations / 4);
    assert_true(troubles || model->audited > 5);
    mailstore_rig_close(&model->rig);
    free(model);
}

static uint32_t seeds_count(uint32_t usual)
{
    const char *text = getenv("MAILSTORE_SEEDS");
    return text != NULL ? (uint32_t)atoi(text) : usual;
}

static void a_store_is_what_its_model_is_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= seeds_count(8); seed++) {
        live(seed, 1500, true);
    }
}

static void no_change_is_refused_without_trouble(void **state)
{
    (void)state;
    live(1001, 2500, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_is_what_its_model_is_whatever_happens),
        cmocka_unit_test(no_change_is_refused_without_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
