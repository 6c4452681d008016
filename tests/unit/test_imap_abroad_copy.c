/* imap_abroad_copy, imap_placing: COPY and MOVE from one shard to another. */
#include "engine/shard/memory.h"
#include "engine/mailbox/outgoing.h"
#define RIG_KEEP_EXPUNGED_S 3600 /* what is expunged is kept; what is moved is not */
#include "tests/unit/imap_abroad_scene.h"

/* The linker puts this in place of the heap's (Makefile). */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static int changes_left = -1; /* of a store, until one cannot be had; -1: all can */

void *__wrap_calloc(size_t count, size_t size)
{
    bool counts = size == sizeof(struct change);
    return counts && changes_left >= 0 && changes_left-- == 0 ? NULL : __real_calloc(count, size);
}

static void a_copy_to_another_shard_has_all_that_the_message_has(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    talk(rig, 1,
         "a APPEND INBOX (\\Flagged $Mine) \" 1-Feb-2003 04:05:06 +0200\" {11+}\r\nA: "
         "b\r\n\r\nx\r\n\r\n",
         "OK");
    talk(rig, 1, "b SELECT INBOX\r\n", "OK");
    talk(rig, 1, "c COPY 1:2 shared/alice/work\r\n", "OK [COPYUID ");
    expect(rig, 1, " 1:2 3:4]");
    talk(rig, 0, "d SELECT work\r\n", "OK");
    talk(rig, 0, "e FETCH 3:4 (FLAGS INTERNALDATE BODY.PEEK[])\r\n", "OK");
    expect(rig, 0, "bob's");
    expect(rig, 0, "(\\Flagged $Mine)");
    expect(rig, 0, "\" 1-Feb-2003 04:05:06 +0200\"");
    expect(rig, 0, "{11}\r\nA: b\r\n\r\nx\r\n)");
    talk(rig, 1, "f UID COPY 2,1 shared/alice/work\r\n", "OK [COPYUID ");
    expect(rig, 1, " 1:2 5:6]");
    talk(rig, 1, "g UID COPY 99 shared/alice/work\r\n", "OK Comp");
    talk(rig, 1, "h COPY 9 shared/alice/work\r\n", "BAD");
    talk(rig, 1, "i FETCH 1:2 FLAGS\r\n", "OK");
    assert_int_equal(sessions_on(0), 1); /* alice's: no agent stays */
}

static void a_copy_from_another_shard_has_it_too(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrs");
    talk(rig, 0, "a SELECT work\r\n", "OK");
    talk(rig, 0, "b STORE 2 FLAGS (\\Answered Word)\r\n", "OK");
    talk(rig, 1, "c SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "d COPY 1:* INBOX\r\n", "OK [COPYUID ");
    expect(rig, 1, " 1:2 2:3]");
    talk(rig, 1, "e COPY 1:2 none\r\n", "NO [TRYCREATE]");
    talk(rig, 1, "e NOOP\r\n", "OK");
    expect_not(rig, 1, "FETCH");
    talk(rig, 1, "f COPY 7 INBOX\r\n", "BAD");
    talk(rig, 1, "g UID COPY 7 INBOX\r\n", "OK Comp");
    talk(rig, 1, "h SELECT INBOX\r\n", "OK");
    talk(rig, 1, "i FETCH 1:* (FLAGS BODY.PEEK[])\r\n", "OK");
    expect(rig, 1, "* 3 FETCH (FLAGS (\\Answered Word) BODY[] {24}\r\nSubject: two");
    expect_not(rig, 1, "* 4 ");
}

static void nothing_is_copied_where_the_right_is_missing(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lr");
    talk(rig, 1, "a SELECT INBOX\r\n", "OK");
    talk(rig, 1, "b COPY 1 shared/alice/work\r\n", "NO [NOPERM]");
    talk(rig, 1, "c COPY 1 shared/alice/none\r\n", "NO [TRYCREATE]");
    talk(rig, 1, "d MOVE 1 shared/alice/work\r\n", "NO [NOPERM]");
    talk(rig, 1, "e SELECT shared/alice/work\r\n", "OK [READ-ONLY]");
    talk(rig, 1, "f MOVE 1 INBOX\r\n", "NO [NOPERM]");
    talk(rig, 1, "g STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 1)");
    talk(rig, 0, "h STATUS work (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 2)");
}

/* What it was fetched for has gone: the client hears nothing of it, and goes on. */
static void a_copy_whose_target_ends_is_refused_and_the_mailbox_stays_selected(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrs");
    for (unsigned rounds = 0; rounds < 30; rounds++) {
        log_in_as(rig, 2, "bob");
        talk(rig, 2, "a SELECT shared/alice/work\r\n", "OK");
        say(rig, 2, "b COPY 1:* INBOX\r\n");
        rig_rounds(rig, rounds);
        agents_abort(1); /* the target is at home */
        hear(rig, 2, "b ");
        expect_not(rig, 2, "FETCH");
        talk(rig, 2, "c NOOP\r\n", "OK");
        expect_not(rig, 2, "FETCH");
        talk(rig, 2, "d FETCH 1 (UID)\r\n", "OK");
        talk(rig, 2, "o LOGOUT\r\n", "OK");
        stream_release(rig->clients[2].stream);
        rig->clients[2].stream = NULL;
        rig_rounds(rig, 10);
    }
}

/* As a command it fits; what is made of it is longer than a client's may be. */
static void a_set_may_be_as_long_as_a_command(void **state)
{
    enum { SET = 65400 };
    struct imap_rig *rig = bob_may_all(state, "lrs");
    char *command = (char *)malloc(SET + 64);
    check(command != NULL);
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    size_t size = (size_t)sprintf(command, "b UID COPY 1");
    while (size < SET) {
        size += (size_t)sprintf(command + size, ",1");
    }
    strcpy(command + size, " INBOX\r\n");
    talk(rig, 1, command, "OK [COPYUID");
    expect(rig, 1, " 1 2]");
    talk(rig, 1, "c UID COPY 1,1,1 INBOX\r\n", "OK [COPYUID");
    talk(rig, 1, "d SELECT INBOX\r\n", "OK");
    free(command);
}

/* bob's INBOX has many, and each second one has gone: no set of them is short. */
static uint32_t many_with_gaps(struct imap_rig *rig)
{
    enum { MANY = 12000 };
    char command[64];
    uint32_t count = 1;
    talk(rig, 1, "m SELECT INBOX\r\n", "OK");
    while (count < MANY) {
        talk(rig, 1, "m COPY 1:* INBOX\r\n", "OK");
        count *= 2;
    }
    talk(rig, 1, "m STORE 1:* +FLAGS.SILENT (Half)\r\n", "OK");
    for (uint32_t step = 0; step < 2; step++) { /* sets of commands are bounded */
        uint32_t from = 1 + step * count / 2;
        char *set = (char *)malloc(count * 8);
        check(set != NULL);
        size_t size = 0;
        for (uint32_t uid = from; uid < from + count / 2; uid += 2) {
            size += (size_t)sprintf(set + size, "%s%u", size > 0 ? "," : "", uid);
        }
        size_t at = 0;
        while (at < size) {
            size_t end = at + 50000 < size ? at + 50000 : size;
            while (end < size && set[end] != ',') {
                end++;
            }
            say(rig, 1, "m UID STORE ");
            say_bytes(rig, 1, slice_of(set + at, end - at));
            say(rig, 1, " +FLAGS.SILENT (\\Deleted)\r\n");
            hear(rig, 1, "m OK");
            at = end + 1;
        }
        free(set);
    }
    talk(rig, 1, "m EXPUNGE\r\n", "OK");
    snprintf(command, sizeof(command), "(MESSAGES %u)", count / 2);
    talk(rig, 1, "m STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, command);
    return count / 2;
}

static unsigned carriages_on(unsigned shard)
{
    struct mailstore *store = imap_shards.rigs[shard]->store.store;
    struct mailstore_user *user;
    unsigned count = 0;
    check(mailstore_user_open(store, slice_text(OUTGOING_USER), &user) == 0);
    for (struct mailstore_box *box = NULL; (box = mailstore_box_next(user, box)) != NULL;) {
        count++;
    }
    mailstore_user_close(store, user);
    return count;
}

static void as_many_as_there_are_are_moved_there_and_back(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    char expected[64];
    uint32_t count = many_with_gaps(rig);
    talk(rig, 1, "a COPY 1:* shared/alice/work\r\n", "OK ");
    snprintf(expected, sizeof(expected), "(MESSAGES %u)", count + 2);
    talk(rig, 1, "b STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, expected);
    talk(rig, 1, "c MOVE 1:* shared/alice/work\r\n", "OK ");
    snprintf(expected, sizeof(expected), "* %u EXPUNGE\r\n", count);
    expect(rig, 1, expected);
    talk(rig, 1, "d STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 0)");
    talk(rig, 1, "e SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "f MOVE 1:* INBOX\r\n", "OK ");
    snprintf(expected, sizeof(expected), " 1:%u ", 2 * count + 2);
    expect(rig, 1, expected);
    snprintf(expected, sizeof(expected), "(MESSAGES %u)", 2 * count + 2);
    talk(rig, 1, "g STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, expected);
    talk(rig, 1, "h STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 0)");
    rig_rounds(rig, 20);
    assert_int_equal(carriages_on(0) + carriages_on(1), 0);
}

static uint32_t count_of(unsigned shard, const char *user, const char *name)
{
    struct mailstore *store = imap_shards.rigs[shard]->store.store;
    struct mailstore_user *opened;
    check(mailstore_user_open(store, slice_text(user), &opened) == 0);
    struct mailstore_box *box = mailstore_box_find(opened, slice_text(name));
    uint32_t count = box != NULL ? box->count : 0;
    mailstore_user_close(store, opened);
    return count;
}

static void client_goes(struct imap_rig *rig, unsigned index)
{
    stream_abort(rig->clients[index].stream);
    stream_release(rig->clients[index].stream);
    rig->clients[index].stream = NULL;
}

static void placings_end(struct imap_rig *rig)
{
    for (unsigned i = 0; i < 60 || atomic_load(&imap_shards.group.placings) > 0; i++) {
        check(i < 5000);
        rig_round(rig);
    }
}

static void rest(struct imap_rig *rig)
{
    placings_end(rig);
    assert_int_equal(carriages_on(0) + carriages_on(1), 0);
}

static void nothing_of_a_copy_is_seen_before_all_of_it_is(void **state)
{
    enum { COUNT = 512 };
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    uint32_t seen = 2;
    talk(rig, 1, "a SELECT INBOX\r\n", "OK");
    for (unsigned count = 1; count < COUNT; count *= 2) {
        talk(rig, 1, "b COPY 1:* INBOX\r\n", "OK");
    }
    say(rig, 1, "c MOVE 1:* shared/alice/work\r\n");
    for (unsigned i = 0; seen == 2; i++) {
        check(i < 20000);
        rig_round(rig);
        seen = count_of(0, "alice", "work");
        assert_true(seen == 2 || seen == COUNT + 2);
        assert_true(seen == COUNT + 2 || count_of(1, "bob", "INBOX") == COUNT);
    }
    hear(rig, 1, "c OK");
    rest(rig);
}

/* In whatever round he goes: each message is in one of the two mailboxes, and all of them in the same. */
static void a_move_goes_on_when_its_client_has_gone(void **state)
{
    enum { COUNT = 4 };
    static const char *const commands[] = {
        "s SELECT INBOX\r\nm MOVE 1:4 shared/alice/work\r\n",
        "s SELECT shared/alice/work\r\nm UID MOVE 1:* INBOX\r\n",
    };
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    unsigned there = 0, back = 0;
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b MOVE 1:* INBOX\r\n", "OK");
    append(rig, 1, "INBOX", "Subject: more\r\n\r\nbob's\r\n");
    talk(rig, 1, "c UNSELECT\r\n", "OK");
    for (unsigned rounds = 0; rounds < 120; rounds++) {
        bool at_home = count_of(1, "bob", "INBOX") == COUNT;
        log_in_as(rig, 2, "bob");
        say(rig, 2, commands[at_home ? 0 : 1]);
        rig_rounds(rig, rounds / 2);
        client_goes(rig, 2);
        rest(rig);
        uint32_t home = count_of(1, "bob", "INBOX"), away = count_of(0, "alice", "work");
        assert_int_equal(home + away, COUNT);
        assert_true(home == 0 || away == 0);
        there += at_home && home == 0;
        back += !at_home && away == 0;
    }
    assert_true(there > 0 && back > 0);
}

/* What an answer says that was moved, counted. */
static unsigned moved_count(const struct imap_rig *rig, unsigned index)
{
    const char *at = strstr(rig->clients[index].heard, "COPYUID ");
    unsigned count = 0;
    at = at != NULL ? strchr(at + 8, ' ') : NULL;
    while (at != NULL && *at != ']') { /* sources only */
        unsigned first = (unsigned)strtoul(at + 1, (char **)(uintptr_t)&at, 10), last = first;
        if (*at == ':') {
            last = (unsigned)strtoul(at + 1, (char **)(uintptr_t)&at, 10);
        }
        count += last - first + 1;
        if (*at == ' ') {
            break;
        }
    }
    return count;
}

/* Of three: one on the source's shard, two who carry it to another, and some ask for others, too. */
static void of_several_who_move_the_same_messages_one_moves_each(void **state)
{
    enum { COUNT = 6 };
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    unsigned by_alice = 0, by_both = 0;
    talk(rig, 0, "a CREATE other\r\n", "OK");
    talk(rig, 0, "a SELECT work\r\n", "OK");
    talk(rig, 0, "a STORE 1:* +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "a EXPUNGE\r\n", "OK");
    for (unsigned rounds = 0; rounds < 60; rounds++) {
        uint32_t other = count_of(0, "alice", "other"), inbox = count_of(1, "bob", "INBOX");
        for (unsigned i = 0; i < COUNT; i++) {
            append(rig, 0, "work", "Subject: wanted\r\n\r\nby all\r\n");
        }
        log_in_as(rig, 2, "bob");
        log_in_as(rig, 3, "bob");
        talk(rig, 2, "s SELECT shared/alice/work\r\n", "OK");
        talk(rig, 3, "s SELECT shared/alice/work\r\n", "OK");
        talk(rig, 0, "n NOOP\r\n", "OK");
        say(rig, 2, "m MOVE 1:4 INBOX\r\n");
        rig_rounds(rig, rounds % 7);
        say(rig, 3, "m MOVE 2:6 INBOX\r\n");
        rig_rounds(rig, rounds / 2);
        say(rig, 0, "m MOVE 3:5 other\r\n");
        hear(rig, 0, "m ");
        hear(rig, 2, "m OK");
        hear(rig, 3, "m OK");
        unsigned moved[] = {moved_count(rig, 0), moved_count(rig, 2), moved_count(rig, 3)};
        client_goes(rig, 2);
        client_goes(rig, 3);
        rest(rig);
        assert_int_equal(count_of(0, "alice", "work"), 0);
        assert_int_equal(count_of(0, "alice", "other"), other + moved[0]);
        assert_int_equal(count_of(1, "bob", "INBOX"), inbox + moved[1] + moved[2]);
        assert_int_equal(moved[0] + moved[1] + moved[2], COUNT);
        by_alice += moved[0] > 0;
        by_both += moved[1] > 0 && moved[2] > 1;
    }
    assert_true(by_alice > 0 && by_both > 0);
}

static void kept_count(void *owner, const struct mailstore_entry *entry)
{
    (void)entry;
    (*(unsigned *)owner)++;
}

static void nothing_that_was_moved_is_kept_as_if_it_had_been_expunged(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    struct mailstore *store = imap_shards.rigs[0]->store.store;
    struct mailstore_user *alice;
    unsigned kept = 0;
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b MOVE 1 INBOX\r\n", "OK");
    talk(rig, 1, "c STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    check(mailstore_user_open(store, slice_text("alice"), &alice) == 0);
    struct mailstore_box *work = mailstore_box_find(alice, slice_text("work"));
    assert_int_equal(mailstore_expunged(store, work, kept_count, &kept), 0);
    assert_int_equal(kept, 0);
    talk(rig, 1, "d EXPUNGE\r\n", "OK");
    assert_int_equal(mailstore_expunged(store, work, kept_count, &kept), 0);
    assert_int_equal(kept, 1);
    mailstore_user_close(store, alice);
}

/* Its owner ends the mailbox in whatever round: what is told to have been moved was, and nothing else. */
static void of_a_mailbox_that_goes_in_the_middle_what_was_moved_stays(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    unsigned moved = 0, all = 0;
    for (unsigned rounds = 0; rounds < 60; rounds++) {
        uint32_t before = count_of(1, "bob", "INBOX");
        talk(rig, 0, "a CREATE gone\r\n", "OK");
        talk(rig, 0, "a SETACL gone bob lrswite\r\n", "OK");
        append(rig, 0, "gone", "Subject: one\r\n\r\n1\r\n");
        append(rig, 0, "gone", "Subject: two\r\n\r\n2\r\n");
        log_in_as(rig, 2, "bob");
        talk(rig, 2, "s SELECT shared/alice/gone\r\n", "OK");
        say(rig, 2, "m UID MOVE 1:2 INBOX\r\n");
        rig_rounds(rig, rounds / 2);
        talk(rig, 0, "d DELETE gone\r\n", "OK");
        for (unsigned i = 0; i < 200; i++) {
            rig_round(rig);
        }
        unsigned told = moved_count(rig, 2);
        client_goes(rig, 2);
        rest(rig);
        assert_int_equal(count_of(1, "bob", "INBOX"), before + told);
        moved += told > 0;
        all++;
    }
    assert_true(moved > 0 && moved < all);
}

/* Whichever change cannot be had for memory, it was moved, or it was not. */
static void a_move_that_fails_leaves_the_messages_where_they_were(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    unsigned refused = 0, done = 0;
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b COPY 1:2 shared/alice/work\r\n", "OK");
    for (unsigned i = 0; i < 12; i++) {
        uint32_t before = count_of(1, "bob", "INBOX");
        append(rig, 0, "work", "Subject: next\r\n\r\n\r\n");
        talk(rig, 1, "n NOOP\r\n", "OK");
        changes_left = (int)i;
        say(rig, 1, "m MOVE * INBOX\r\n");
        hear(rig, 1, "m ");
        changes_left = -1;
        bool good = strstr(rig->clients[1].heard, "m OK") != NULL;
        placings_end(rig); /* a carriage may have to wait for the next one */
        assert_int_equal(count_of(0, "alice", "work"), good ? 4 : 5);
        assert_int_equal(count_of(1, "bob", "INBOX"), before + good);
        done += good;
        refused += !good;
        if (!good) {
            talk(rig, 1, "r MOVE * INBOX\r\n", "OK");
        }
    }
    talk(rig, 1, "d COPY 1 INBOX\r\n", "OK");
    rest(rig);
    assert_true(done > 0 && refused > 3);
}

/* The target's owner shrinks what may be in it while the messages come. */
static void what_finds_no_room_at_the_end_is_nowhere(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    unsigned refused = 0;
    talk(rig, 1, "a SELECT INBOX\r\n", "OK");
    talk(rig, 1, "b COPY 1 INBOX\r\n", "OK");
    for (unsigned rounds = 0; rounds < 30; rounds++) {
        uint32_t before = count_of(0, "alice", "work");
        say(rig, 1, "c COPY 1:2 shared/alice/work\r\n");
        rig_rounds(rig, rounds);
        rig->conf->users.quota_messages = before + 1;
        hear(rig, 1, "c ");
        bool good = strstr(rig->clients[1].heard, "c OK") != NULL;
        assert_true(good || strstr(rig->clients[1].heard, "c NO [OVERQUOTA]") != NULL);
        rig->conf->users.quota_messages = 0;
        rest(rig);
        assert_int_equal(count_of(0, "alice", "work"), before + (good ? 2 : 0));
        refused += !good;
    }
    assert_true(refused > 5 && refused < 30);
}

static void a_copy_has_all_of_them_or_none(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lri");
    struct mailstore_counters before;
    append(rig, 1, "INBOX", "Subject: more\r\n\r\nbob's\r\n");
    rig->conf->users.quota_messages = 3;
    talk(rig, 1, "a SELECT INBOX\r\n", "OK");
    before = *mailstore_counters(imap_shards.rigs[0]->store.store);
    talk(rig, 1, "b MOVE 1:2 shared/alice/work\r\n", "NO [OVERQUOTA]");
    talk(rig, 1, "c STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 2)");
    talk(rig, 0, "d STATUS work (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 2)");
    assert_int_equal(mailstore_counters(imap_shards.rigs[0]->store.store)->drafts, before.drafts);
    rig->conf->users.quota_messages = 0;
}

static void a_move_takes_away_what_was_moved_and_nothing_else(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    append(rig, 1, "INBOX", "Subject: more\r\n\r\nbob's\r\n");
    append(rig, 1, "INBOX", "Subject: third\r\n\r\nbob's\r\n");
    talk(rig, 1, "a SELECT INBOX\r\n", "OK");
    talk(rig, 1, "b STORE 3 FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 1, "c MOVE 1 shared/alice/work\r\n", "OK Comp");
    expect(rig, 1, "* OK [COPYUID ");
    expect(rig, 1, " 1 3] Moved\r\n* 1 EXPUNGE\r\n");
    expect_not(rig, 1, "* 2 EXPUNGE");
    talk(rig, 1, "d SELECT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* 3 EXISTS");
    talk(rig, 1, "e STORE 1 FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 1, "f UID MOVE 2:3 INBOX\r\n", "OK");
    expect(rig, 1, " 2:3 4:5] Moved\r\n");
    expect(rig, 1, "* 3 EXPUNGE\r\n* 2 EXPUNGE\r\n");
    expect_not(rig, 1, "* 1 EXPUNGE");
    talk(rig, 1, "g EXAMINE INBOX\r\n", "OK");
    expect(rig, 1, "* 4 EXISTS");
    talk(rig, 1, "h MOVE 1 shared/alice/work\r\n", "NO [NOPERM]");
}

/* bob has work selected, and has not been told that the first of its four messages has gone. */
static struct imap_rig *one_has_gone(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    append(rig, 0, "work", "Subject: third\r\n\r\n3\r\n");
    append(rig, 0, "work", "Subject: fourth\r\n\r\n4\r\n");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* 4 EXISTS");
    talk(rig, 0, "b SELECT work\r\n", "OK");
    talk(rig, 0, "c STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "d EXPUNGE\r\n", "OK");
    return rig;
}

static void a_move_by_numbers_means_what_the_client_sees(void **state)
{
    struct imap_rig *rig = one_has_gone(state);
    talk(rig, 1, "e MOVE 3 INBOX\r\n", "OK");
    expect(rig, 1, " 3 2] Moved\r\n");
    talk(rig, 1, "f UID FETCH 1:* (UID)\r\n", "OK");
    expect(rig, 1, "(UID 2)");
    expect(rig, 1, "(UID 4)");
    expect_not(rig, 1, "(UID 3)");
    talk(rig, 1, "g SELECT INBOX\r\n", "OK");
    talk(rig, 1, "h FETCH 2 BODY[HEADER.FIELDS (SUBJECT)]\r\n", "OK");
    expect(rig, 1, "Subject: third");
}

static void numbers_stay_what_they_are_when_mod_sequences_are_wanted(void **state)
{
    struct imap_rig *rig = one_has_gone(state);
    talk(rig, 1, "e STATUS INBOX (HIGHESTMODSEQ)\r\n", "OK");
    talk(rig, 1, "f FETCH 2 (UID)\r\n", "OK");
    expect(rig, 1, "* 2 FETCH (UID 2)");
    expect_not(rig, 1, "EXPUNGE");
    talk(rig, 1, "g NOOP\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE");
}

/* Which uids they have there is told before the answer, by his own shard or by the one that has both mailboxes. */
static void of_what_he_has_moved_there_himself_a_client_is_not_told(void **state)
{
    struct imap_rig *rig = bob_may_all(state, "lrswite");
    talk(rig, 0, "c CREATE more\r\n", "OK");
    talk(rig, 0, "r SETACL more bob lrite\r\n", "OK");
    talk(rig, 1, "n NOTIFY SET (subtree shared (MessageNew MessageExpunge))\r\n", "OK");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "m MOVE 1 shared/alice/work\r\n", "OK");
    expect(rig, 1, "] Moved\r\n");
    rig_rounds(rig, 30);
    expect_not(rig, 1, "* STATUS");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "m UID MOVE 1 shared/alice/more\r\n", "OK");
    expect(rig, 1, "] Moved\r\n");
    rig_rounds(rig, 30);
    expect_not(rig, 1, "* STATUS");
    rest(rig);
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, imap_shards_set_up, imap_shards_tear_down)
    const struct CMUnitTest tests[] = {
        SCENE(a_copy_to_another_shard_has_all_that_the_message_has),
        SCENE(a_copy_from_another_shard_has_it_too),
        SCENE(nothing_is_copied_where_the_right_is_missing),
        SCENE(a_copy_whose_target_ends_is_refused_and_the_mailbox_stays_selected),
        SCENE(a_set_may_be_as_long_as_a_command),
        SCENE(as_many_as_there_are_are_moved_there_and_back),
        SCENE(nothing_of_a_copy_is_seen_before_all_of_it_is),
        SCENE(of_what_he_has_moved_there_himself_a_client_is_not_told),
        SCENE(a_move_goes_on_when_its_client_has_gone),
        SCENE(of_several_who_move_the_same_messages_one_moves_each),
        SCENE(nothing_that_was_moved_is_kept_as_if_it_had_been_expunged),
        SCENE(of_a_mailbox_that_goes_in_the_middle_what_was_moved_stays),
        SCENE(a_move_that_fails_leaves_the_messages_where_they_were),
        SCENE(what_finds_no_room_at_the_end_is_nowhere),
        SCENE(a_copy_has_all_of_them_or_none),
        SCENE(a_move_takes_away_what_was_moved_and_nothing_else),
        SCENE(a_move_by_numbers_means_what_the_client_sees),
        SCENE(numbers_stay_what_they_are_when_mod_sequences_are_wanted),
    };
    const struct memory_settings memory = {.program = "test_imap_abroad_copy", .megabytes = 64};
    check(memory_start(&memory) == 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memory_stop();
    return failed;
}
