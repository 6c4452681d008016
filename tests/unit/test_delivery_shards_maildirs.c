/* delivery_shards: messages into the Maildirs of users of several shards; whose writer is busy, and which shard ends. */
#include "engine/core/check.h"
#include "tests/unit/shards_rig.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define STORED "250 2.0.0 Ok: stored\r\n"
#define BROKEN "451 4.3.0 The message could not be stored, try again later\r\n"
#define BUSY "452 4.3.2 Too many messages at once, try again later\r\n"
#define CHUNK_BYTES 32768u       /* of the writer's memory */
#define LARGE_BYTES (60u * 1024) /* what a stream takes at once */

static int set_up(void **state)
{
    (void)state;
    shards_rig_open(3, 11, NULL);
    shards_rig_maildirs((size_t)1 << 20);
    shards_rig.late_percent = 40;
    return 0;
}

/* Each writer has room for one chunk. */
static int set_up_small(void **state)
{
    (void)state;
    shards_rig_open(3, 11, NULL);
    shards_rig_maildirs(CHUNK_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shards_rig_close();
    return 0;
}

static const char *user(unsigned shard)
{
    return shards_rig.shards[shard].users[0];
}

static void envelope_say(void)
{
    char text[512];
    snprintf(text, sizeof text,
             "LHLO client.test\r\nMAIL FROM:<boss@x.test>\r\nRCPT TO:<%s@y>\r\n"
             "RCPT TO:<%s@y>\r\nRCPT TO:<%s@y>\r\nDATA\r\n",
             user(1), user(0), user(2));
    shards_rig_connect();
    shards_rig_talk("");
    assert_non_null(strstr(shards_rig_talk(text), "354 "));
}

/* How many messages he has, and the text of the last one. */
static unsigned held(const char *name, char *text, size_t room)
{
    char path[512];
    unsigned count = 0;
    snprintf(path, sizeof path, "%s/%s/new", shards_rig.maildirs, name);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        count++;
        int file = openat(dirfd(folder), entry->d_name, O_RDONLY);
        ssize_t size = read(file, text, room - 1);
        assert_true(file >= 0 && size >= 0);
        text[size] = '\0';
        close(file);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

static void assert_held(unsigned shard, const char *end)
{
    static char text[LARGE_BYTES * 2];
    assert_int_equal(held(user(shard), text, sizeof text), 1);
    assert_true(strlen(text) > strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0);
}

static void all_have_it_in_their_maildirs(void **state)
{
    (void)state;
    envelope_say();
    shards_rig_say("Subject: s\r\n\r\n..dot\r\nbody\r\n");
    assert_string_equal(shards_rig_talk(".\r\n"), STORED STORED STORED);
    for (unsigned shard = 0; shard < 3; shard++) {
        assert_held(shard, "Subject: s\n\n.dot\nbody\n");
    }
}

static void who_has_no_memory_for_one_more_refuses_his_own(void **state)
{
    (void)state;
    struct maildir_draft *draft;
    assert_int_equal(maildir_begin(shards_rig.shards[1].mailbox.store, &draft), 0);
    envelope_say();
    shards_rig_say("Subject: s\r\n\r\n");
    assert_string_equal(shards_rig_talk(".\r\n"), BUSY STORED STORED);
    maildir_abort(draft);
}

static char *large(void)
{
    char *text = malloc(LARGE_BYTES + 64);
    size_t used = (size_t)sprintf(text, "Subject: large\r\n\r\n");
    while (used < LARGE_BYTES) {
        used += (size_t)sprintf(text + used, "%060zu\r\n", used);
    }
    return text;
}

/* The same as it lies there. */
static char *plain(const char *text)
{
    char *made = malloc(strlen(text) + 1), *to = made;
    for (; *text != '\0'; text++) {
        if (*text != '\r') {
            *to++ = *text;
        }
    }
    *to = '\0';
    return made;
}

static void what_waits_for_a_writer_is_whole(void **state)
{
    (void)state;
    char *text = large(), *file = plain(text);
    envelope_say();
    shards_rig.writers_stand = true;
    assert_string_equal(shards_rig_talk(text), "");
    for (unsigned shard = 0; shard < 3; shard++) {
        assert_true(maildir_has_work(shards_rig.shards[shard].mailbox.store));
    }
    shards_rig.writers_stand = false;
    shards_rig_run();
    assert_string_equal(shards_rig_talk(".\r\n"), STORED STORED STORED);
    for (unsigned shard = 0; shard < 3; shard++) {
        assert_held(shard, file);
    }
    free(text);
    free(file);
}

/* Of the session, or of a recipient: mailbox_close, in whatever order, while a writer is wanted, works, or has no room. */
static void shards_that_end_while_a_message_is_under_way_leave_nothing_behind(void **state)
{
    (void)state;
    char *text = large();
    for (unsigned rounds = 0; rounds < 48; rounds++) {
        if (rounds > 0) {
            shards_rig_close();
            set_up_small(NULL);
        }
        envelope_say();
        shards_rig.writers_stand = rounds % 3 == 0;
        shards_rig_say(rounds % 2 == 0 ? text : "Subject: small\r\n\r\n");
        shards_rig_say(rounds % 4 == 3 ? "" : ".\r\n");
        for (unsigned i = 0; i < rounds / 3; i++) {
            shards_rig_round();
        }
        shards_rig_end(rounds % 3);
        for (unsigned i = 0; i < rounds / 2; i++) {
            shards_rig_round();
        }
        shards_rig_end((rounds + 1) % 3);
    }
    free(text);
}

static void what_was_given_to_a_writer_is_stored_when_its_shard_ends(void **state)
{
    (void)state;
    envelope_say();
    shards_rig.writers_stand = true;
    assert_string_equal(shards_rig_talk("Subject: s\r\n\r\nlast\r\n.\r\n"), "");
    shards_rig_end(1);
    shards_rig.writers_stand = false;
    assert_string_equal(shards_rig_talk(""), BROKEN STORED STORED);
    for (unsigned shard = 0; shard < 3; shard++) {
        assert_held(shard, "last\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define SMALL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_small, tear_down)
        TEST(all_have_it_in_their_maildirs),
        TEST(what_was_given_to_a_writer_is_stored_when_its_shard_ends),
        SMALL_TEST(who_has_no_memory_for_one_more_refuses_his_own),
        SMALL_TEST(what_waits_for_a_writer_is_whole),
        SMALL_TEST(shards_that_end_while_a_message_is_under_way_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
