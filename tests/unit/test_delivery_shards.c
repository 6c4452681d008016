/* delivery_shards: messages to users of several shards, whose stores now and then have no room, or refuse. */
#include "tests/unit/shards_rig.h"
#include "engine/core/check.h"
#include "engine/mailbox/delivery_store.h"
#include "engine/mailbox/sieve_scripts.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- Stores that say no, and memory that is short ---- */

static uint32_t put_off_percent; /* of begins and appends */
static int begin_errors[SHARDS_RIG_MAX], append_errors[SHARDS_RIG_MAX];
static uint32_t append_error_percent = 100;
static bool armed; /* allocations count: */
static long until_failure = -1;

int __real_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
int __real_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
int __wrap_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static unsigned shard_of(const struct mailstore *store)
{
    unsigned index = 0;
    while (shards_rig.shards[index].store.store != store) {
        index++;
    }
    return index;
}

int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft)
{
    int error = begin_errors[shard_of(store)];
    if (error != 0 || shards_rig_below(100) < put_off_percent) {
        return error != 0 ? error : -EAGAIN;
    }
    return __real_mailstore_begin(store, draft);
}

int __wrap_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count)
{
    int error = append_errors[shard_of(draft->store)];
    if (error != 0 && shards_rig_below(100) < append_error_percent) {
        return error;
    }
    if (shards_rig_below(100) < put_off_percent) {
        return -EAGAIN;
    }
    return __real_mailstore_append(draft, parts, count);
}

static bool is_short(void)
{
    return armed && until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_short() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_short() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_short() ? NULL : __real_realloc(memory, size);
}

/* ---- Messages, and what becomes of them ---- */

#define LETTERS_MAX 64u
#define SENDERS_MAX 4u
#define TARGETS_MAX 9u

enum fate { UNDER_WAY, ANSWERED, REFUSED, ABORTED, LEFT }; /* LEFT: while it was being committed */

struct target {
    unsigned shard, user, detail; /* of the shard's users; detail: "user+b1"; 0: none */
    int status;
};

struct letter {
    enum fate fate;
    char *plain, *wire; /* owned */
    size_t plain_bytes, wire_bytes;
    struct target targets[TARGETS_MAX];
    uint32_t target_count;
};

struct sender {
    struct delivery_text text;
    struct letter *letter; /* NULL: he has none */
    size_t given;
    bool waits, committing;
};

static struct letter letters[LETTERS_MAX];
static uint32_t letter_count;
static uint32_t waits_seen, refusals_seen; /* that the tests are of something */
static struct sender senders[SENDERS_MAX];

static void line_add(struct letter *letter, const char *line, size_t size)
{
    if (line[0] == '.') {
        letter->wire[letter->wire_bytes++] = '.';
    }
    memcpy(letter->wire + letter->wire_bytes, line, size);
    memcpy(letter->plain + letter->plain_bytes, line, size);
    letter->wire_bytes += size;
    letter->plain_bytes += size;
}

static void letter_write(struct letter *letter, uint32_t bytes)
{
    char line[128] = "";
    letter->plain = (char *)__real_malloc(bytes + 256);
    letter->wire = (char *)__real_malloc(2 * (bytes + 256));
    check(letter->plain != NULL && letter->wire != NULL);
    line_add(letter, line,
             (size_t)snprintf(line, sizeof line, "Number: %u\r\n", (unsigned)(letter - letters)));
    line_add(letter, "\r\n", 2);
    while (letter->plain_bytes < bytes) {
        size_t size = shards_rig_below(100);
        for (size_t i = 0; i < size; i++) {
            line[i] = shards_rig_below(10) == 0 ? '.' : (char)(' ' + shards_rig_below(90));
        }
        memcpy(line + size, "\r\n", 2);
        line_add(letter, line, size + 2);
    }
}

static struct letter *letter_new(uint32_t bytes)
{
    struct letter *letter = &letters[letter_count++];
    check(letter_count <= LETTERS_MAX);
    *letter = (struct letter){.fate = UNDER_WAY};
    letter_write(letter, bytes);
    return letter;
}

static void target_add(struct letter *letter, unsigned shard, unsigned user, unsigned detail)
{
    letter->targets[letter->target_count++] =
        (struct target){.shard = shard, .user = user, .detail = detail};
}

static const char *target_user(const struct target *target)
{
    return shards_rig.shards[target->shard].users[target->user];
}

static void sender_close(struct sender *sender, enum fate fate)
{
    if (fate != ANSWERED) {
        sender->letter->fate = fate;
    }
    if (sender->text.begun) {
        delivery_shards.abort(&sender->text);
    }
    delivery_shards.forget_room(&sender->text);
    delivery_shards.close(&sender->text);
    free(sender->text.recipients);
    *sender = (struct sender){0};
}

static void committed(struct delivery_text *text)
{
    struct sender *sender = list_entry(text, struct sender, text);
    check(sender->committing && text->recipient_count == sender->letter->target_count);
    sender->letter->fate = ANSWERED;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        check(text->recipients[i].refusal.size == 0 && text->recipients[i].trouble == 0);
        sender->letter->targets[i].status = text->recipients[i].status;
        refusals_seen += text->recipients[i].status != 0;
    }
}

static void room_came(struct delivery_text *text)
{
    struct sender *sender = list_entry(text, struct sender, text);
    check(sender->waits);
    sender->waits = false;
    waits_seen++;
}

static void sender_open(struct sender *sender, unsigned shard, struct letter *letter)
{
    static uint8_t path[] = "a@x";
    *sender = (struct sender){.letter = letter};
    sender->text = (struct delivery_text){.mailbox = &shards_rig.shards[shard].mailbox,
                                          .room_came = room_came,
                                          .committed = committed,
                                          .reverse_path = slice_of(path, 3),
                                          .recipient_count = letter->target_count};
    sender->text.recipients = (struct delivery_recipient *)__real_calloc(
        letter->target_count, sizeof sender->text.recipients[0]);
    check(sender->text.recipients != NULL);
    for (uint32_t i = 0; i < letter->target_count; i++) {
        struct delivery_recipient *recipient = &sender->text.recipients[i];
        const struct target *target = &letter->targets[i];
        strcpy(recipient->user, target_user(target));
        if (target->detail > 0) {
            snprintf(recipient->detail, sizeof recipient->detail, "b%u", target->detail);
        }
        recipient->address_bytes = (size_t)snprintf(
            (char *)recipient->address, sizeof recipient->address, "%s@y", recipient->user);
    }
    armed = true;
    int status = delivery_shards.reserve(&sender->text, letter->target_count);
    armed = false;
    if (status != 0) {
        sender_close(sender, REFUSED);
    }
}

static void sender_begin(struct sender *sender)
{
    armed = true;
    int status = delivery_shards.begin(&sender->text);
    armed = false;
    if (status == -EAGAIN) {
        sender->waits = true;
        delivery_shards.when_room(&sender->text);
    } else if (status != 0) {
        sender_close(sender, REFUSED);
    }
}

static void sender_give(struct sender *sender)
{
    const struct letter *letter = sender->letter;
    struct slice rest = slice_of(letter->wire + sender->given, letter->wire_bytes - sender->given);
    struct slice piece = slice_first(rest, 1 + shards_rig_below(100000));
    armed = true;
    ssize_t taken = delivery_shards.append(&sender->text, piece);
    armed = false;
    if (taken < 0) {
        sender_close(sender, REFUSED);
        return;
    }
    sender->given += (size_t)taken;
    if ((size_t)taken < piece.size) {
        sender->waits = true;
        delivery_shards.when_room(&sender->text);
    }
}

static void sender_commit(struct sender *sender)
{
    sender->committing = true;
    armed = true;
    int status = delivery_shards.commit(&sender->text);
    armed = false;
    if (status != 0) {
        committed(&sender->text);
    }
}

/* impatient: goes away now and then. */
static void sender_step(struct sender *sender, bool impatient)
{
    if (sender->letter == NULL) {
        return;
    }
    if (sender->letter->fate == ANSWERED) {
        sender_close(sender, ANSWERED);
    } else if (impatient && shards_rig_below(100) < 2) {
        sender_close(sender, sender->committing ? LEFT : ABORTED);
    } else if (sender->waits || sender->committing) {
        return;
    } else if (!sender->text.begun) {
        sender_begin(sender);
    } else if (sender->given < sender->letter->wire_bytes) {
        sender_give(sender);
    } else {
        sender_commit(sender);
    }
}

/* ---- What the stores must hold ---- */

struct looking {
    unsigned shard, user;
    uint32_t found[LETTERS_MAX];
};

static void text_look(void *owner, struct slice mailbox, struct slice text)
{
    struct looking *looking = (struct looking *)owner;
    unsigned number = LETTERS_MAX;
    assert_true(slice_equal(mailbox, slice_text("INBOX")));
    assert_int_equal(sscanf((const char *)text.bytes, "Number: %u\r\n", &number), 1);
    assert_true(number < letter_count);
    assert_int_equal(text.size, letters[number].plain_bytes);
    assert_memory_equal(text.bytes, letters[number].plain, text.size);
    looking->found[number]++;
}

static void nobodys(void *owner, struct slice mailbox, struct slice text)
{
    (void)owner, (void)mailbox, (void)text;
    fail_msg("a message is on a shard that its user is not of");
}

/* Whoever is named twice has it once, in each mailbox that was said. */
static bool is_named_before(const struct letter *letter, uint32_t index)
{
    const struct target *target = &letter->targets[index];
    bool named = false;
    for (uint32_t i = 0; i < index; i++) {
        const struct target *other = &letter->targets[i];
        named = named || (other->shard == target->shard && other->user == target->user &&
                          other->detail == target->detail);
    }
    return named;
}

static void letter_assert(const struct letter *letter, const struct looking *looking)
{
    uint32_t found = looking->found[letter - letters], stored = 0, most = 0;
    for (uint32_t i = 0; i < letter->target_count; i++) {
        const struct target *target = &letter->targets[i];
        if (target->shard == looking->shard && target->user == looking->user &&
            !is_named_before(letter, i)) {
            most++;
            stored += letter->fate == ANSWERED && target->status == 0;
        }
    }
    assert_in_range(found, stored, letter->fate == LEFT ? most : stored);
}

static void user_assert(unsigned shard, unsigned user)
{
    struct looking looking = {.shard = shard, .user = user};
    const char *name = shards_rig.shards[shard].users[user];
    for (unsigned i = 0; i < shards_rig.count; i++) {
        shards_rig_each(i, name, i == shard ? text_look : nobodys, &looking);
    }
    for (uint32_t i = 0; i < letter_count; i++) {
        letter_assert(&letters[i], &looking);
    }
}

static void all_assert(void)
{
    for (unsigned shard = 0; shard < shards_rig.count; shard++) {
        for (unsigned user = 0; user < SHARDS_RIG_USERS; user++) {
            user_assert(shard, user);
        }
    }
}

/* Nobody is told no but those of this shard. */
static void others_assert_stored(unsigned but)
{
    for (uint32_t i = 0; i < letter_count; i++) {
        for (uint32_t t = 0; letters[i].fate == ANSWERED && t < letters[i].target_count; t++) {
            const struct target *target = &letters[i].targets[t];
            assert_true(target->status == 0 || target->shard == but);
        }
    }
}

/* ---- Runs ---- */

static void begin_run(unsigned count, uint64_t seed,
                      void (*change)(unsigned shard, struct mailstore_rig *store))
{
    shards_rig_open(count, seed, change);
    letter_count = 0;
    put_off_percent = 0;
    memset(begin_errors, 0, sizeof begin_errors);
    memset(append_errors, 0, sizeof append_errors);
    append_error_percent = 100;
    until_failure = -1;
}

static void end_run(void)
{
    shards_rig_close();
    for (uint32_t i = 0; i < letter_count; i++) {
        free(letters[i].plain);
        free(letters[i].wire);
    }
}

static struct letter *letter_random(void)
{
    uint32_t kind = shards_rig_below(10);
    struct letter *letter = letter_new(kind < 5   ? shards_rig_below(4000)
                                       : kind < 9 ? shards_rig_below(100000)
                                                  : shards_rig_below(1500000));
    for (uint32_t left = 1 + shards_rig_below(TARGETS_MAX); left > 0; left--) {
        target_add(letter, shards_rig_below(shards_rig.count), shards_rig_below(SHARDS_RIG_USERS),
                   shards_rig_below(3));
    }
    return letter;
}

static void senders_run(uint32_t wanted, bool impatient)
{
    bool busy = true;
    for (uint32_t rounds = 0; busy; rounds++) {
        check(rounds < 200000);
        busy = letter_count < wanted;
        for (struct sender *sender = senders; sender < senders + SENDERS_MAX; sender++) {
            if (sender->letter == NULL && letter_count < wanted) {
                sender_open(sender, shards_rig_below(shards_rig.count), letter_random());
            }
            sender_step(sender, impatient);
            busy = busy || sender->letter != NULL;
        }
        shards_rig_round();
    }
    shards_rig_run();
}

static void each_has_what_he_was_told_on_his_shard_once_and_whole(void **state)
{
    (void)state;
    waits_seen = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        begin_run(2 + seed % 2, seed, NULL);
        shards_rig.late_percent = 40;
        put_off_percent = seed % 3 == 0 ? 0 : 30;
        senders_run(20, seed % 4 == 0);
        others_assert_stored(SHARDS_RIG_MAX);
        all_assert();
        end_run();
    }
    assert_true(waits_seen > 50);
}

static void a_store_that_fails_fails_its_own_recipients_only(void **state)
{
    static const int errors[] = {-ENOSPC, -ENOMEM, -EIO};
    (void)state;
    refusals_seen = 0;
    for (uint64_t seed = 1; seed <= 9; seed++) {
        begin_run(2 + seed % 2, seed, NULL);
        shards_rig.late_percent = 40;
        put_off_percent = 20;
        int *at = seed % 2 == 0 ? begin_errors : append_errors;
        at[1] = errors[seed % 3];
        append_error_percent = seed % 4 == 1 ? 100 : 40;
        senders_run(16, seed % 4 == 0);
        others_assert_stored(1);
        all_assert();
        end_run();
    }
    assert_true(refusals_seen > 100);
}

static void each_is_told_what_is_so_of_himself(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        begin_run(3, seed, NULL);
        shards_rig.late_percent = 40;
        shards_rig.conf->users.quota_messages = 3;
        refusals_seen = 0;
        senders_run(20, false);
        all_assert();
        assert_in_range(refusals_seen, 10, 80);
        end_run();
    }
}

static void a_disk_that_fails_writes_takes_only_what_it_says_it_has(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        begin_run(3, seed, NULL);
        struct log_rig *rig = &shards_rig.shards[1].store.rig;
        struct disk_fault_settings settings = rig->fault_settings;
        rig->fault_settings.error_permyriad[DISK_FAULT_WRITE] = 2000;
        disk_fault_set(rig->fault, &rig->fault_settings);
        senders_run(16, false);
        disk_fault_set(rig->fault, &settings);
        shards_rig_run();
        others_assert_stored(1);
        all_assert();
        end_run();
    }
}

static void one_is_small(unsigned shard, struct mailstore_rig *store)
{
    if (shard == 1) {
        store->rig.fault_settings.capacity_bytes = 6ull << 20;
    }
}

/* The lines of the log that say so, since it was opened. */
static unsigned lines_of_refusals(const int log[2])
{
    static const char line[] = "store: a message was refused";
    static char text[1u << 16];
    unsigned count = 0;
    ssize_t size = read(log[0], text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    for (const char *at = text; (at = strstr(at, line)) != NULL; at++) {
        count++;
    }
    return count;
}

static void log_begin(int log[2])
{
    check(pipe2(log, O_NONBLOCK | O_CLOEXEC) == 0);
    shards_rig.logger.fd = log[1];
}

static void log_end(const int log[2])
{
    shards_rig.logger.fd = -1;
    close(log[0]);
    close(log[1]);
}

static void what_a_shard_refuses_is_said_to_the_log_once(void **state)
{
    int log[2];
    (void)state;
    begin_run(2, 3, NULL);
    log_begin(log);
    for (uint32_t i = 0; i < 4; i++) {
        struct letter *letter = letter_new(1000);
        target_add(letter, 0, i, 0);
        target_add(letter, 1, i, 0);
        begin_errors[1] = i % 2 == 0 ? -EIO : 0;
        append_errors[1] = i % 2 == 0 ? 0 : -EIO;
        sender_open(&senders[0], 0, letter);
        senders_run(i + 1, false);
    }
    all_assert();
    assert_int_equal(lines_of_refusals(log), 4);
    log_end(log);
    end_run();
}

static void a_full_disk_is_told_to_its_own_recipients(void **state)
{
    (void)state;
    begin_run(2, 3, one_is_small);
    refusals_seen = 0;
    for (uint32_t i = 0; i < 16; i++) {
        struct letter *letter = letter_new(500000);
        target_add(letter, 0, i % SHARDS_RIG_USERS, 0);
        target_add(letter, 1, i % SHARDS_RIG_USERS, 0);
        sender_open(&senders[0], i % 2, letter);
        senders_run(i + 1, false);
    }
    others_assert_stored(1);
    all_assert();
    assert_true(refusals_seen > 0);
    end_run();
}

/* Of everything that a message takes memory for, one thing after the other; what it is refused with is not said. */
static void a_message_that_memory_is_short_for_harms_nobody(void **state)
{
    bool failed = true;
    (void)state;
    for (long allocation = 0; failed; allocation++) {
        begin_run(3, 5, NULL);
        shards_rig.part_begins = &armed;
        struct letter *letter = letter_new(100000);
        for (unsigned i = 0; i < 6; i++) {
            target_add(letter, i % 3, i, i % 2);
        }
        until_failure = allocation;
        sender_open(&senders[0], 0, letter);
        senders_run(1, false);
        failed = until_failure < 0;
        until_failure = -1;
        shards_rig.part_begins = NULL;
        senders_run(2, false); /* the next one has what it needs */
        assert_int_equal(letters[1].fate, ANSWERED);
        assert_true(failed || letter->fate == ANSWERED);
        all_assert();
        end_run();
    }
}

static void a_shard_that_ends_in_the_middle_leaves_nothing_behind(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 90; round++) {
        int log[2];
        begin_run(3, 100 + round, NULL);
        log_begin(log);
        shards_rig.late_percent = 60;
        struct letter *letter = letter_new(300000);
        for (unsigned i = 0; i < 6; i++) {
            target_add(letter, i % 3, i, 0);
        }
        sender_open(&senders[0], 0, letter);
        for (unsigned i = 0; i < round / 3; i++) {
            sender_step(&senders[0], false);
            shards_rig_round();
        }
        if (round % 3 > 0) {
            shards_rig_end(round % 3);
            for (unsigned i = 0; i < 50; i++) {
                sender_step(&senders[0], false);
                shards_rig_round();
            }
        }
        if (senders[0].letter != NULL) {
            sender_close(&senders[0], senders[0].committing ? LEFT : ABORTED);
        }
        assert_int_equal(lines_of_refusals(log), 0); /* its store has refused nothing */
        log_end(log);
        end_run();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_what_he_was_told_on_his_shard_once_and_whole),
        cmocka_unit_test(a_store_that_fails_fails_its_own_recipients_only),
        cmocka_unit_test(each_is_told_what_is_so_of_himself),
        cmocka_unit_test(a_disk_that_fails_writes_takes_only_what_it_says_it_has),
        cmocka_unit_test(what_a_shard_refuses_is_said_to_the_log_once),
        cmocka_unit_test(a_full_disk_is_told_to_its_own_recipients),
        cmocka_unit_test(a_message_that_memory_is_short_for_harms_nobody),
        cmocka_unit_test(a_shard_that_ends_in_the_middle_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
